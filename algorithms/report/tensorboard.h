#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace meed {

/// CRC-32C (Castagnoli) as TFRecord stores it: rotated and offset.
uint32_t masked_crc32c(std::string_view bytes);

/// A TensorBoard event file of scalars. The few fields of Event and Summary are encoded here by
/// hand: five fields do not pay for generated protobuf code and its run-time library.
class TensorBoardWriter {
 public:
  /// Opens `folder`/events.out.tfevents.TIME.HOST.PID. Events of steps from `first_step` on that an
  /// earlier run left are dropped by TensorBoard. Throws DataError.
  TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step);
  /// Numbers that are not finite are kept: TensorBoard marks them.
  void write_scalars(int64_t step, double wall_time_s, const std::map<std::string, double>& values);
  const std::filesystem::path& path() const { return path_; }

 private:
  void write_record(std::string_view event);
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace meed
