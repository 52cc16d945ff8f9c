#pragma once

#include <functional>
#include <string>

namespace meed {

/// Lines on standard error with time and level. Rank 0 speaks unless `any_rank`.
void log_info(const std::string& message, bool any_rank = false);
void log_warn(const std::string& message, bool any_rank = false);
void log_error(const std::string& message);  ///< Any rank.

/// Called once after launch: which rank this process is.
void set_log_rank(int rank, int world_size);

/// Called before each line is written; a progress line that is rewritten in place clears itself
/// here. Empty: none.
void set_log_hook(std::function<void()> hook);

}  // namespace meed
