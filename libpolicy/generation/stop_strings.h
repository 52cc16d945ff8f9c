#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace meed {

/// Where the first occurrence of any of `stops` begins at or after `from`; npos if none.
size_t find_stop_string(std::string_view text, std::span<const std::string> stops, size_t from = 0);

/// Watches a growing text for stop strings, also across the pieces it comes in.
class StopStringWatch {
 public:
  explicit StopStringWatch(std::span<const std::string> stops);
  /// Appends; true once a stop string stands in the text.
  bool push(std::string_view piece);

 private:
  std::span<const std::string> stops_;
  size_t longest_ = 0;
  std::string text_;
};

}  // namespace meed
