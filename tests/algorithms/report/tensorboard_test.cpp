#include "algorithms/report/tensorboard.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <fstream>

#include "libpolicy/core/files.h"
#include "tests/algorithms/report/report_test_util.h"

namespace meed {
namespace {

uint64_t little_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

/// The records of a TFRecord file, with both checksums verified.
std::vector<std::string> read_records(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  std::vector<std::string> records;
  for (size_t at = 0; at < bytes.size();) {
    const std::string_view view(bytes);
    const uint64_t length = little_endian(view.substr(at, 8));
    EXPECT_EQ(little_endian(view.substr(at + 8, 4)), masked_crc32c(view.substr(at, 8)));
    records.emplace_back(view.substr(at + 12, length));
    EXPECT_EQ(little_endian(view.substr(at + 12 + length, 4)), masked_crc32c(records.back()));
    at += 16 + length;
  }
  return records;
}

TEST(TensorBoard, ChecksumIsCastagnolis) {
  // RFC 3720: crc32c("123456789") = e3069283; TFRecord's mask on top of it.
  const uint32_t crc = 0xe3069283u;
  EXPECT_EQ(masked_crc32c("123456789"), std::rotr(crc, 15) + 0xa282ead8u);
}

TEST(TensorBoard, RecordsAreFramedAndHoldTheScalars) {
  const TemporaryFolder folder;
  TensorBoardWriter writer(folder.path() / "tensorboard", 4);
  writer.write_scalars(300, 1.5, {{"loss", 0.5}, {"rewards/x/mean", -2}});
  const auto records = read_records(writer.path());
  ASSERT_EQ(records.size(), 3u);
  EXPECT_NE(records[0].find("brain.Event:2"), std::string::npos);
  // Event.wall_time 1.5, step 300; Summary with two Values of tag and float.
  const std::string expected(
      "\x09\x00\x00\x00\x00\x00\x00\xf8\x3f"
      "\x10\xac\x02"
      "\x2a\x24"
      "\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f"
      "\x0a\x15\x0a\x0erewards/x/mean\x15\x00\x00\x00\xc0",
      14 + 13 + 23);
  EXPECT_EQ(records[2], expected);
}

TEST(TensorBoard, TheirReaderReadsIt) {
  const char* python = std::getenv("MEED_PEER_PYTHON");
  const std::string program = python != nullptr ? python : "python3";
  if (std::system((program + " -c 'import tensorboard' >/dev/null 2>&1").c_str()) != 0)
    GTEST_SKIP()
        << "the tensorboard package is not installed (MEED_PEER_PYTHON names a Python that has it)";
  const TemporaryFolder folder;
  const auto events = folder.path() / "tensorboard";
  {
    TensorBoardWriter writer(events, 0);
    for (int64_t step = 1; step <= 5; ++step)
      writer.write_scalars(step, 1e9 + static_cast<double>(step),
                           {{"loss", static_cast<double>(step)}});
  }
  TensorBoardWriter resumed(events, 4);  // steps 4 and 5 above are dropped by the reader
  resumed.write_scalars(4, 1e9 + 10, {{"loss", 40}});
  const std::string command =
      program + " " + MEED_SOURCE_DIR "/tests/algorithms/report/read_events.py " + events.string() +
      " loss > " + (folder.path() / "out").string() + " 2>" + (folder.path() / "err").string();
  ASSERT_EQ(std::system(command.c_str()), 0) << read_file(folder.path() / "err");
  EXPECT_EQ(read_file(folder.path() / "out"), "1:1.0 2:2.0 3:3.0 4:40.0\n");
}

}  // namespace
}  // namespace meed
