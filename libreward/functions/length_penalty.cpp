#include <algorithm>

#include "libreward/functions/unknown_length.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// -max(0, length - free_tokens) / scale_tokens: no cost up to `free_tokens`, then linear.
class LengthPenalty final : public PointwiseReward {
 public:
  struct Config {
    int64_t free_tokens = 256;
    int64_t scale_tokens = 256;
    void fields(FieldVisitor& v) {
      v.field("free_tokens", free_tokens, "Tokens that cost nothing.");
      v.field("scale_tokens", scale_tokens, "Tokens above that for a penalty of 1.");
      v.require(free_tokens >= 0, "free_tokens", "must not be negative");
      v.require(scale_tokens > 0, "scale_tokens", "must be positive");
    }
  };
  explicit LengthPenalty(const Config& config) : config_(config) {}

 private:
  Score score_one(const Example&, const Completion& completion) override {
    const auto excess = std::max<int64_t>(
        0, static_cast<int64_t>(completion.token_ids.size()) - config_.free_tokens);
    return {.value = -static_cast<double>(excess) / static_cast<double>(config_.scale_tokens),
            .unreadable = unknown_length(completion)};
  }
  Config config_;
};

MEED_REGISTER(reward_functions, "length_penalty", LengthPenalty,
              "Linear cost of long completions.");

/// 1 at `target_tokens`, falling linearly to 0 at a distance of `width_tokens`.
class Length final : public PointwiseReward {
 public:
  struct Config {
    int64_t target_tokens = 64;
    int64_t width_tokens = 64;
    void fields(FieldVisitor& v) {
      v.field("target_tokens", target_tokens, "Length that scores 1.");
      v.field("width_tokens", width_tokens, "Distance from it that scores 0.");
      v.require(target_tokens >= 0, "target_tokens", "must not be negative");
      v.require(width_tokens > 0, "width_tokens", "must be positive");
    }
  };
  explicit Length(const Config& config) : config_(config) {}

 private:
  Score score_one(const Example&, const Completion& completion) override {
    const auto distance =
        std::abs(static_cast<int64_t>(completion.token_ids.size()) - config_.target_tokens);
    return {.value = std::max(0.0, 1.0 - static_cast<double>(distance) /
                                             static_cast<double>(config_.width_tokens)),
            .unreadable = unknown_length(completion)};
  }
  Config config_;
};

MEED_REGISTER(reward_functions, "length", Length, "Highest at a target length.");

}  // namespace
}  // namespace meed
