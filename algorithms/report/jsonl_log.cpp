#include "algorithms/report/jsonl_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/log.h"

namespace meed {
namespace {

std::optional<int64_t> step_of(const std::string& line) {
  const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return std::nullopt;
  const auto step = object.find("step");
  if (step == object.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<int64_t>();
}

}  // namespace

int64_t for_each_step_line(
    const std::filesystem::path& path,
    const std::function<void(const std::string& line, int64_t step)>& visit) {
  if (!std::filesystem::exists(path)) return 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError(path.string() + ": cannot open for reading");
  int64_t num_damaged = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) continue;
    if (const auto step = step_of(line))  // half an object never parses
      visit(line, *step);
    else
      ++num_damaged;
  }
  if (in.bad()) throw DataError(path.string() + ": cannot read");
  return num_damaged;
}

JsonlLog::JsonlLog(std::filesystem::path path, std::optional<int64_t> resume_step,
                   const std::function<void(const std::string& line)>& on_kept)
    : path_(std::move(path)) {
  std::string kept;
  if (resume_step) {
    const int64_t num_damaged =
        for_each_step_line(path_, [&](const std::string& line, int64_t step) {
          if (step > *resume_step) return;
          last_offset_ = static_cast<int64_t>(kept.size());
          kept += line + "\n";
          if (on_kept) on_kept(line);
        });
    if (num_damaged > 0)
      log_warn(path_.string() + ": dropped " + std::to_string(num_damaged) +
               " damaged line(s) of the run before");
  }
  write_file_atomic(path_, kept);
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd_ < 0) throw DataError(path_.string() + ": cannot open: " + std::strerror(errno));
  end_ = static_cast<int64_t>(kept.size());
}

JsonlLog::~JsonlLog() {
  if (fd_ >= 0) ::close(fd_);
}

void JsonlLog::append(const std::string& object) { write_at(end_, object); }

void JsonlLog::replace_last(const std::string& object) {
  write_at(last_offset_, object);
  if (::ftruncate(fd_, end_) != 0)
    throw DataError(path_.string() + ": cannot truncate: " + std::strerror(errno));
}

void JsonlLog::write_at(int64_t offset, const std::string& object) {
  const std::string line = object + "\n";
  size_t done = 0;
  while (done < line.size()) {
    const ssize_t written = ::pwrite(fd_, line.data() + done, line.size() - done,
                                     static_cast<off_t>(offset + static_cast<int64_t>(done)));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw DataError(path_.string() + ": cannot write: " + std::strerror(errno));
    done += static_cast<size_t>(written);
  }
  last_offset_ = offset;
  end_ = offset + static_cast<int64_t>(line.size());
}

}  // namespace meed
