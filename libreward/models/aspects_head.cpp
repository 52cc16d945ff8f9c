#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "libpolicy/core/random.h"
#include "libreward/losses/mixture.h"
#include "libreward/models/reward_head.h"

namespace meed {
namespace {

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  for (size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find(',', at), text.size());
    auto name = text.substr(at, end - at);
    const auto first = name.find_first_not_of(' ');
    if (first == std::string::npos)
      name.clear();
    else
      name = name.substr(first, name.find_last_not_of(' ') - first + 1);
    if (!name.empty()) names.push_back(std::move(name));
    at = end + 1;
  }
  return names;
}

/// MJ-VIDEO's two gates: criteria scores from the text, one gate over the criteria of each aspect
/// and one over the aspects, both from the prompt; the reward is the gated sum of gated sums.
class AspectsHead final : public RewardHead {
 public:
  struct Config {
    std::map<std::string, std::string> aspects;
    int64_t gate_hidden = 1024, gate_layers = 3;
    double temperature = 10.0, scale = 1.0;
    void fields(FieldVisitor& v) {
      v.field(
          "aspects", aspects,
          "Criteria of each aspect, names separated by commas: {safety: \"harmless, honest\"}.");
      v.required("aspects");
      v.field("gate_hidden", gate_hidden, "Width of the gates' hidden layers.");
      v.field("gate_layers", gate_layers, "Hidden layers of the gates.");
      v.field("temperature", temperature, "What the gates' logits are divided by.");
      v.field("scale", scale, "What the weights of a gate add up to.");
      v.require(gate_hidden > 0 && gate_layers >= 0, "gate_hidden",
                "must be positive, and gate_layers must not be negative");
      v.require(temperature > 0 && scale > 0, "temperature", "and scale must be positive");
      v.require(!aspects.empty(), "aspects", "must name at least one aspect");
      for (const auto& [aspect, criteria] : aspects)
        v.require(!split_names(criteria).empty(), "aspects",
                  "has no criterion in \"" + aspect + "\"");
    }
  };
  explicit AspectsHead(const Config& config) : config_(config) {
    std::vector<int64_t> aspect_of;
    for (const auto& [aspect, criteria] : config.aspects) {
      for (const auto& name : split_names(criteria)) {
        criteria_.push_back(aspect + "/" + name);
        aspect_of.push_back(static_cast<int64_t>(aspects_.size()));
      }
      aspects_.push_back(aspect);
    }
    aspect_of_C_ = at::tensor(aspect_of, at::kLong);
  }
  std::vector<std::string> output_names() const override { return criteria_; }
  std::vector<std::string> gate_names() const override { return aspects_; }

  void init(int64_t D, uint64_t seed) override {
    const auto C = static_cast<int64_t>(criteria_.size()),
               J = static_cast<int64_t>(aspects_.size());
    parameters_.add("criteria.weight", random_weights({C, D}, kHeadStd, mix_seed({seed, 1})));
    init_gate("criteria_gate", context_size(D), C, mix_seed({seed, 2}));
    init_gate("aspect_gate", context_size(D), J, mix_seed({seed, 3}));
  }
  HeadOutput forward(const HeadInput& input) const override {
    const auto criteria_BC = linear_map(input.features_BD, parameters_, "criteria");
    const auto scores = gated_aspects(criteria_BC, gate("criteria_gate", input.context_BD),
                                      gate("aspect_gate", input.context_BD), aspect_of_C_,
                                      config_.temperature, config_.scale);
    return {.rewards_B = scores.overall_B,
            .outputs_BK = criteria_BC,
            .log_gates_BK = (scores.aspect_gates_BJ / config_.scale).clamp_min(1e-30).log(),
            .aspects_BJ = scores.aspects_BJ};
  }

 private:
  void init_gate(const std::string& name, int64_t inputs, int64_t outputs, uint64_t seed) {
    int64_t width = inputs;
    for (int64_t layer = 0; layer <= config_.gate_layers; ++layer) {
      const int64_t next = layer == config_.gate_layers ? outputs : config_.gate_hidden;
      const auto prefix = name + "." + std::to_string(layer);
      // He's initialisation keeps the size of what ReLU passes on.
      parameters_.add(prefix + ".weight",
                      random_weights({next, width}, std::sqrt(2.0 / static_cast<double>(width)),
                                     mix_seed({seed, static_cast<uint64_t>(layer)})));
      parameters_.add(prefix + ".bias", at::zeros({next}));
      width = next;
    }
  }
  at::Tensor gate(const std::string& name, at::Tensor x) const {
    for (int64_t layer = 0; layer <= config_.gate_layers; ++layer) {
      x = linear_map(x, parameters_, name + "." + std::to_string(layer));
      if (layer < config_.gate_layers) x = at::relu(x);
    }
    return x;
  }

  Config config_;
  std::vector<std::string> criteria_, aspects_;
  at::Tensor aspect_of_C_;
};

MEED_REGISTER(reward_heads, "aspects", AspectsHead,
              "Criteria gated into aspects, aspects gated into a reward (MJ-VIDEO).");

}  // namespace
}  // namespace meed
