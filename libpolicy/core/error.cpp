#include "libpolicy/core/error.h"

namespace meed {

void fail_check(const char* file, int line, const char* condition, const std::string& what) {
  std::string name = file;
  if (const auto at = name.find("lib"); at != std::string::npos)
    name = name.substr(name.rfind('/') + 1);
  throw InternalError(name + ":" + std::to_string(line) + ": " + what + " (" + condition + ")");
}

}  // namespace meed
