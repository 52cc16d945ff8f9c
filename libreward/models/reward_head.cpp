#include "libreward/models/reward_head.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "libpolicy/core/random.h"
#include "libreward/losses/preference_embedding.h"
#include "libreward/losses/regression.h"

namespace meed {

Registry<RewardHead>& reward_heads() {
  static Registry<RewardHead> registry("reward head");
  return registry;
}

at::Tensor random_weights(at::IntArrayRef shape, double std, uint64_t seed) {
  auto weights = at::empty(shape, at::kFloat);
  RandomStream random(mix_seed({seed, 0x73636f7265}));
  auto* data = weights.mutable_data_ptr<float>();
  for (int64_t i = 0; i < weights.numel(); ++i) {  // Box and Muller
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random.next()));
    data[i] = static_cast<float>(std * radius * std::cos(2.0 * std::numbers::pi * random.next()));
  }
  return weights;
}

HeadOutput every(const HeadOutput& outputs, int64_t first, int64_t step) {
  const auto part = [&](const at::Tensor& values) {
    return values.defined() ? values.slice(0, first, std::nullopt, step) : values;
  };
  return {part(outputs.rewards_B), part(outputs.outputs_BK), part(outputs.log_gates_BK),
          part(outputs.blocks_Bk), part(outputs.hidden_BH),  part(outputs.aspects_BJ)};
}

at::Tensor linear_map(const at::Tensor& x, const ParameterStore& parameters,
                      const std::string& name) {
  const auto as_input = [&](const at::Tensor& weight) { return weight.to(x.scalar_type()); };
  const auto y = at::matmul(x, as_input(parameters.at(name + ".weight")).t());
  return parameters.has(name + ".bias") ? y + as_input(parameters.at(name + ".bias")) : y;
}

at::Tensor RewardHead::preference(const HeadOutput& first, const HeadOutput& second) const {
  return first.rewards_B - second.rewards_B;
}

namespace {

at::Tensor activated(const at::Tensor& x, const std::string& kind) {
  if (kind == "tanh") return x.tanh();
  if (kind == "relu") return at::relu(x);
  if (kind == "silu") return at::silu(x);
  return x;
}

/// transformers' scalar classifier: one linear layer without a bias.
class LinearHead final : public RewardHead {
 public:
  struct Config {
    void fields(FieldVisitor&) {}
  };
  explicit LinearHead(const Config&) {}
  void init(int64_t D, uint64_t seed) override {
    parameters_.add("score.weight", random_weights({1, D}, kHeadStd, seed));
  }
  HeadOutput forward(const HeadInput& input) const override {
    const auto outputs_BK = linear_map(input.features_BD, parameters_, "score");
    return {.rewards_B = outputs_BK.squeeze(-1), .outputs_BK = outputs_BK};
  }
};

/// BaseReward: an MLP of 1 to 5 layers, hidden layers as wide as the features unless told.
class MlpHead final : public RewardHead {
 public:
  struct Config {
    int64_t layers = 2;
    std::string activation = "silu";
    int64_t hidden_size = 0;
    void fields(FieldVisitor& v) {
      v.field("layers", layers, "Linear layers, 1 to 5.");
      v.choice("activation", activation, {"none", "tanh", "relu", "silu"}, "Between two layers.");
      v.field("hidden_size", hidden_size, "Width of the hidden layers; 0: that of the features.");
      v.require(hidden_size >= 0, "hidden_size", "must not be negative");
      v.require(layers >= 1 && layers <= 5, "layers", "must be 1 to 5");
    }
  };
  explicit MlpHead(const Config& config) : config_(config) {}
  void init(int64_t D, uint64_t seed) override {
    const int64_t width = config_.hidden_size > 0 ? config_.hidden_size : D;
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      const bool last = layer + 1 == config_.layers;
      const auto name = "head." + std::to_string(layer);
      const int64_t in = layer == 0 ? D : width, out = last ? 1 : width;
      parameters_.add(
          name + ".weight",
          random_weights({out, in}, last ? kHeadStd : 1.0 / std::sqrt(static_cast<double>(in)),
                         mix_seed({seed, static_cast<uint64_t>(layer)})));
      parameters_.add(name + ".bias", at::zeros({out}));
    }
  }
  HeadOutput forward(const HeadInput& input) const override {
    auto x = input.features_BD, hidden = x;
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      hidden = x;
      x = linear_map(x, parameters_, "head." + std::to_string(layer));
      if (layer + 1 < config_.layers) x = activated(x, config_.activation);
    }
    return {.rewards_B = x.squeeze(-1), .outputs_BK = x, .hidden_BH = hidden};
  }

 private:
  Config config_;
};

/// HelpSteer2 / SteerLM 2.0: K named attributes; the reward is their weighted sum.
class AttributesHead final : public RewardHead {
 public:
  struct Config {
    std::vector<std::string> attributes = {"helpfulness", "correctness", "coherence", "complexity",
                                           "verbosity"};
    std::vector<double> weights = {0.65, 0.8, 0.45, 0.55, -0.4};
    void fields(FieldVisitor& v) {
      v.field("attributes", attributes, "Names of the outputs, and columns of their labels.");
      v.field("weights", weights, "Weight of each in the reward.");
      v.require(!attributes.empty() && weights.size() == attributes.size(), "weights",
                "must be as many as attributes, at least one");
    }
  };
  std::vector<std::string> output_names() const override { return config_.attributes; }
  explicit AttributesHead(const Config& config)
      : config_(config), weights_K_(at::tensor(config.weights, at::kDouble)) {}
  void init(int64_t D, uint64_t seed) override {
    parameters_.add(
        "score.weight",
        random_weights({static_cast<int64_t>(config_.attributes.size()), D}, kHeadStd, seed));
  }
  HeadOutput forward(const HeadInput& input) const override {
    const auto outputs_BK = linear_map(input.features_BD, parameters_, "score");
    return {.rewards_B = weighted_attributes(outputs_BK, weights_K_), .outputs_BK = outputs_BK};
  }

 private:
  Config config_;
  at::Tensor weights_K_;
};

/// MiCRo: K linear rewards and a router on the prompt, one hidden layer and softmax. The reward is
/// their mean by the router's weights.
class MixtureHead final : public RewardHead {
 public:
  struct Config {
    int64_t heads = 3, router_hidden = 128;
    void fields(FieldVisitor& v) {
      v.field("heads", heads, "Linear rewards.");
      v.field("router_hidden", router_hidden, "Width of the router's hidden layer.");
      v.require(heads > 0, "heads", "must be positive");
      v.require(router_hidden > 0, "router_hidden", "must be positive");
    }
  };
  explicit MixtureHead(const Config& config) : config_(config) {}
  std::vector<std::string> output_names() const override { return gate_names(); }
  std::vector<std::string> gate_names() const override {
    std::vector<std::string> names;
    for (int64_t k = 0; k < config_.heads; ++k) names.push_back("head_" + std::to_string(k));
    return names;
  }
  void init(int64_t D, uint64_t seed) override {
    const int64_t C = context_size(D);
    const double fan_in = 1.0 / std::sqrt(static_cast<double>(C));
    parameters_.add("heads.weight",
                    random_weights({config_.heads, D}, kHeadStd, mix_seed({seed, 1})));
    parameters_.add("router.0.weight",
                    random_weights({config_.router_hidden, C}, fan_in, mix_seed({seed, 2})));
    parameters_.add("router.0.bias", at::zeros({config_.router_hidden}));
    parameters_.add("router.1.weight",
                    random_weights({config_.heads, config_.router_hidden},
                                   1.0 / std::sqrt(static_cast<double>(config_.router_hidden)),
                                   mix_seed({seed, 3})));
    parameters_.add("router.1.bias", at::zeros({config_.heads}));
  }
  HeadOutput forward(const HeadInput& input) const override {
    HeadOutput output{.outputs_BK = linear_map(input.features_BD, parameters_, "heads")};
    const auto hidden = at::relu(linear_map(input.context_BD, parameters_, "router.0"));
    output.log_gates_BK = linear_map(hidden, parameters_, "router.1").log_softmax(/*dim=*/1);
    output.rewards_B = (output.log_gates_BK.exp() * output.outputs_BK).sum(/*dim=*/1);
    return output;
  }
  /// Of P = sum_k f_k sigmoid(D_k).
  at::Tensor preference(const HeadOutput& first, const HeadOutput& second) const override {
    const auto p_B = (first.log_gates_BK.exp() * (first.outputs_BK - second.outputs_BK).sigmoid())
                         .sum(/*dim=*/1)
                         .clamp(1e-9, 1.0 - 1e-9);
    return p_B.log() - (-p_B).log1p();
  }

 private:
  Config config_;
};

/// GPM: an embedding in k blocks of two; the served number is the score over (0, 1) in each block,
/// which is the reward where the model is a Bradley-Terry one.
class PreferenceEmbeddingHead final : public RewardHead {
 public:
  struct Config {
    int64_t size = 4;
    bool prompt_scaled = false, normalize = false;
    double tau = 0.1;
    void fields(FieldVisitor& v) {
      v.field("size", size, "Numbers in an embedding; even.");
      v.field("prompt_scaled", prompt_scaled, "Weigh the blocks by the prompt.");
      v.field("normalize", normalize, "Scale embeddings to length 1.");
      v.field("tau", tau, "Temperature of preferences.");
      v.require(size > 0 && size % 2 == 0, "size", "must be even and positive");
      v.require(tau > 0, "tau", "must be positive");
    }
  };
  explicit PreferenceEmbeddingHead(const Config& config) : config_(config) {}
  void init(int64_t D, uint64_t seed) override {
    parameters_.add("embedding.weight",
                    random_weights({config_.size, D}, 1.0 / std::sqrt(static_cast<double>(D + 1)),
                                   mix_seed({seed, 1})));
    if (config_.prompt_scaled)
      parameters_.add("blocks.weight", random_weights({config_.size / 2, context_size(D)}, kHeadStd,
                                                      mix_seed({seed, 2})));
  }
  HeadOutput forward(const HeadInput& input) const override {
    HeadOutput output{.outputs_BK = linear_map(input.features_BD, parameters_, "embedding")};
    if (config_.normalize)
      output.outputs_BK =
          output.outputs_BK / output.outputs_BK.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
    if (config_.prompt_scaled) {
      const double root = std::sqrt(static_cast<double>(input.context_BD.size(1)));
      output.blocks_Bk = static_cast<double>(config_.size / 2) *
                         (linear_map(input.context_BD, parameters_, "blocks") / root).softmax(1);
    }
    auto reference = at::zeros_like(output.outputs_BK.detach());
    reference.slice(1, 1, config_.size, 2).fill_(1.0);
    output.rewards_B = preference_score(output.outputs_BK, reference, output.blocks_Bk);
    return output;
  }
  at::Tensor preference(const HeadOutput& first, const HeadOutput& second) const override {
    return preference_score(first.outputs_BK, second.outputs_BK, first.blocks_Bk) / config_.tau;
  }

 private:
  Config config_;
};

MEED_REGISTER(reward_heads, "linear", LinearHead, "One linear layer: a scalar reward.");
MEED_REGISTER(reward_heads, "mlp", MlpHead, "An MLP (BaseReward).");
MEED_REGISTER(reward_heads, "attributes", AttributesHead,
              "Named attributes and their weighted sum (SteerLM 2.0).");
MEED_REGISTER(reward_heads, "mixture", MixtureHead,
              "Several rewards, mixed by a router on the prompt (MiCRo).");
MEED_REGISTER(reward_heads, "preference_embedding", PreferenceEmbeddingHead,
              "An embedding that can tell cyclic preferences (GPM).");

}  // namespace
}  // namespace meed
