#include "libpolicy/generation/stop_strings.h"

#include <algorithm>

namespace meed {

size_t find_stop_string(std::string_view text, std::span<const std::string> stops, size_t from) {
  size_t first = std::string_view::npos;
  for (const auto& stop : stops) first = std::min(first, text.find(stop, from));
  return first;
}

StopStringWatch::StopStringWatch(std::span<const std::string> stops) : stops_(stops) {
  for (const auto& stop : stops) longest_ = std::max(longest_, stop.size());
}

bool StopStringWatch::push(std::string_view piece) {
  if (longest_ == 0) return false;
  // Only an occurrence that ends in the piece is new.
  const size_t from = text_.size() >= longest_ ? text_.size() - (longest_ - 1) : 0;
  text_ += piece;
  return find_stop_string(text_, stops_, from) != std::string_view::npos;
}

}  // namespace meed
