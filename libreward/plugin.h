#pragma once

#include "libreward/reward_function.h"

namespace meed {

/// Changes whenever RewardFunction, Score or RolloutGroup do; a plug-in of another number is refused.
constexpr int kRewardPluginAbi = 1;

}  // namespace meed

/// Makes `Type`, a reward function with a default constructor, a plug-in: write it once, at the end
/// of a source file that is built as a shared object against meed::reward. A recipe names it by
/// `{type: plugin, path: ./libmine.so}`.
#define MEED_REWARD_PLUGIN(Type)                                            \
  extern "C" int meed_reward_plugin_abi() { return ::meed::kRewardPluginAbi; } \
  extern "C" ::meed::RewardFunction* meed_make_reward() { return new Type(); }
