#pragma once

#include <string>

namespace meed {

/// Lines on standard error with time and level. Rank 0 speaks unless `any_rank`.
void log_info(const std::string& message, bool any_rank = false);
void log_warn(const std::string& message, bool any_rank = false);
void log_error(const std::string& message);  ///< Any rank.

/// Called once after launch: which rank this process is.
void set_log_rank(int rank, int world_size);

}  // namespace meed
