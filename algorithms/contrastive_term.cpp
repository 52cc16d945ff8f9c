#include "algorithms/contrastive_term.h"

#include <ATen/ATen.h>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libreward/losses/contrastive.h"

namespace meed {

void ContrastiveTerm::Config::fields(FieldVisitor& v) {
  v.field("coef", coef, "Weight of the term; 0: none. Needs a head with a hidden layer.");
  v.choice("kind", kind, {"info_nce", "swav"}, "SimCSE's loss, or SwAV's over prototypes.");
  v.choice("features", features, {"difference", "responses"},
           "Contrast h(chosen) - h(rejected) of the pairs, or h of each response.");
  v.field("temperature", temperature, "Of the similarities.");
  v.field("dropout", dropout, "Share of the features that each pass leaves out.");
  v.field("num_prototypes", num_prototypes, "swav: prototypes.");
  v.require(coef >= 0, "coef", "must not be negative");
  v.require(temperature > 0, "temperature", "must be positive");
  v.require(dropout >= 0 && dropout < 1, "dropout", "must be in [0, 1)");
  v.require(num_prototypes > 0, "num_prototypes", "must be positive");
}

void ContrastiveTerm::init(int64_t num_members, int64_t width, ParameterStore& parameters) {
  if (!on() || config_.kind != "swav") return;
  for (int64_t m = 0; m < num_members; ++m) {
    const auto place = static_cast<uint64_t>(m);
    prototypes_KH_.push_back(parameters.add(
        "prototypes." + std::to_string(m),
        random_weights({config_.num_prototypes, width}, 1.0, mix_seed({seed_, place, 0x50}))));
  }
}

at::Tensor ContrastiveTerm::hidden(const RewardHead& head, const HeadInput& input,
                                   const HeadBatch& batch, uint64_t side, uint64_t pass,
                                   int64_t step) const {
  const auto& x = input.features_BD;
  const auto mask_BD = at::empty({x.size(0), x.size(1)}, at::kFloat);
  auto* mask = mask_BD.mutable_data_ptr<float>();
  const auto kept = static_cast<float>(1.0 / (1.0 - config_.dropout));
  for (int64_t b = 0; b < x.size(0); ++b) {
    const auto row = static_cast<uint64_t>(batch.rows[static_cast<size_t>(b)]);
    const auto seed = mix_seed({seed_, static_cast<uint64_t>(step), row, side, pass});
    for (int64_t d = 0; d < x.size(1); ++d)
      *mask++ = uniform(seed, static_cast<uint64_t>(d)) < config_.dropout ? 0.0f : kept;
  }
  const auto hidden_BH = head.forward({x * mask_BD, input.context_BD}).hidden_BH;
  if (!hidden_BH.defined())
    throw ConfigError("algorithm.contrastive: needs a head with a hidden layer, such as mlp");
  return hidden_BH;
}

LossOutput ContrastiveTerm::loss(const RewardHead& head, int64_t m, const HeadBatch& batch,
                                 int64_t step, double total, Communicator& comm) const {
  std::vector<at::Tensor> views;
  for (const uint64_t pass : {0, 1}) {
    const auto chosen = hidden(head, batch.first, batch, 0, pass, step);
    const auto rejected = hidden(head, batch.second, batch, 1, pass, step);
    views.push_back(config_.features == "difference" ? chosen - rejected
                                                     : at::cat({chosen, rejected}));
  }
  const double rows = config_.features == "difference" ? total : 2.0 * total;
  auto output =
      config_.kind == "info_nce"
          ? info_nce_loss(views[0], views[1], config_.temperature, rows, &comm)
          : swav_loss(views[0], views[1], prototypes_KH_[static_cast<size_t>(m)],
                      config_.temperature, rows, /*iterations=*/3, /*epsilon=*/0.05, &comm);
  output.metrics["contrastive_loss"] = {output.loss.item<double>(), 1.0, Reduce::kSum};
  output.loss = config_.coef * output.loss;
  return output;
}

}  // namespace meed
