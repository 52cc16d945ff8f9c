#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace meed {

/// A JSONL file that grows by whole lines: each is handed to the system in one write, so that a
/// killed run leaves at most a damaged last line.
class JsonlLog {
 public:
  /// Starts an empty file, or with `resume_step` keeps the lines of steps up to it (replacing the
  /// file atomically) and goes on after them. `on_kept` sees each kept line. Throws DataError.
  JsonlLog(std::filesystem::path path, std::optional<int64_t> resume_step,
           const std::function<void(const std::string& line)>& on_kept = {});
  ~JsonlLog();
  JsonlLog(const JsonlLog&) = delete;
  JsonlLog& operator=(const JsonlLog&) = delete;

  void append(const std::string& object);
  /// Overwrites the line that was appended (or kept) last.
  void replace_last(const std::string& object);

 private:
  void write_at(int64_t offset, const std::string& object);
  std::filesystem::path path_;
  int fd_ = -1;
  int64_t last_offset_ = 0;  ///< where the last line begins
  int64_t end_ = 0;
};

/// Calls `visit(line, step)` for each whole line that is a JSON object with an integer "step";
/// returns how many other lines there are (damaged, or without a step). A file that is absent has
/// no lines. Throws DataError if it cannot be read.
int64_t for_each_step_line(const std::filesystem::path& path,
                           const std::function<void(const std::string& line, int64_t step)>& visit);

}  // namespace meed
