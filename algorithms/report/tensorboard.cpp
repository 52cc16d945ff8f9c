#include "algorithms/report/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

constexpr std::array<uint32_t, 256> crc32c_table() {
  constexpr uint32_t kReversedPolynomial = 0x82f63b78u;
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? kReversedPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}

// Protobuf's wire format: a key is (field << 3 | kind).
constexpr uint64_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

template <typename Word>
void put_little_endian(std::string& out, Word word) {
  for (size_t byte = 0; byte < sizeof word; ++byte) out += static_cast<char>(word >> (8 * byte));
}

void put_int(std::string& out, uint64_t field, int64_t value) {
  put_varint(out, field << 3 | kVarint);
  put_varint(out, static_cast<uint64_t>(value));
}

void put_double(std::string& out, uint64_t field, double value) {
  put_varint(out, field << 3 | kFixed64);
  put_little_endian(out, std::bit_cast<uint64_t>(value));
}

void put_float(std::string& out, uint64_t field, float value) {
  put_varint(out, field << 3 | kFixed32);
  put_little_endian(out, std::bit_cast<uint32_t>(value));
}

void put_bytes(std::string& out, uint64_t field, std::string_view bytes) {
  put_varint(out, field << 3 | kBytes);
  put_varint(out, bytes.size());
  out += bytes;
}

double now_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Event {1: wall_time, 2: step}
std::string event_head(double wall_time_s, int64_t step) {
  std::string event;
  put_double(event, 1, wall_time_s);
  put_int(event, 2, step);
  return event;
}

}  // namespace

uint32_t masked_crc32c(std::string_view bytes) {
  static constexpr auto table = crc32c_table();
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = table[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ (crc >> 8);
  crc = ~crc;
  constexpr uint32_t kMaskDelta = 0xa282ead8u;
  return std::rotr(crc, 15) + kMaskDelta;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  char host[128] = "localhost";
  ::gethostname(host, sizeof host - 1);
  const double start = now_s();
  const std::string name = "events.out.tfevents." + std::to_string(static_cast<int64_t>(start)) +
                           "." + host + "." + std::to_string(::getpid());
  path_ = folder / name;
  for (int again = 1; std::filesystem::exists(path_, error); ++again)
    path_ = folder / (name + "." + std::to_string(again));
  file_.reset(std::fopen(path_.c_str(), "wb"));
  if (!file_) throw DataError(path_.string() + ": cannot create: " + std::strerror(errno));
  std::string version = event_head(start, 0);
  put_bytes(version, 3, "brain.Event:2");  // Event.file_version
  write_record(version);
  std::string session;
  put_int(session, 1, /*START=*/1);  // SessionLog.status
  std::string restart = event_head(start, first_step);
  put_bytes(restart, 7, session);  // Event.session_log
  write_record(restart);
}

void TensorBoardWriter::write_scalars(int64_t step, double wall_time_s,
                                      const std::map<std::string, double>& values) {
  std::string summary;
  for (const auto& [key, number] : values) {
    std::string value;
    put_bytes(value, 1, key);                         // Value.tag
    put_float(value, 2, static_cast<float>(number));  // Value.simple_value
    put_bytes(summary, 1, value);                     // Summary.value
  }
  std::string event = event_head(wall_time_s, step);
  put_bytes(event, 5, summary);  // Event.summary
  write_record(event);
}

/// TFRecord: length, its checksum, the bytes, their checksum.
void TensorBoardWriter::write_record(std::string_view event) {
  std::string length;
  put_little_endian(length, static_cast<uint64_t>(event.size()));
  std::string record = length;
  put_little_endian(record, masked_crc32c(length));
  record += event;
  put_little_endian(record, masked_crc32c(event));
  if (std::fwrite(record.data(), 1, record.size(), file_.get()) != record.size() ||
      std::fflush(file_.get()) != 0)
    throw DataError(path_.string() + ": cannot write: " + std::strerror(errno));
}

}  // namespace meed
