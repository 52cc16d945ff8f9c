#include "algorithms/algorithm.h"

namespace meed {

Registry<Algorithm>& algorithms() {
  static Registry<Algorithm> registry("algorithm");
  return registry;
}

}  // namespace meed
