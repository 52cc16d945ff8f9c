#include "libreward/reward_transform.h"

namespace meed {

Registry<RewardTransform>& reward_transforms() {
  static Registry<RewardTransform> registry("reward transform");
  return registry;
}

}  // namespace meed
