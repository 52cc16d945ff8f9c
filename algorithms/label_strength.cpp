#include "algorithms/label_strength.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "libpolicy/core/error.h"
#include "libreward/losses/bradley_terry.h"
#include "libreward/models/feature_heads.h"

namespace meed {
namespace {

constexpr int64_t kRowsAtATime = 4096;

/// chosen less rejected by each member, [M, N].
at::Tensor differences(const FeatureHeads& heads, const Dataset& data) {
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < data.size(); first += kRowsAtATime) {
    std::vector<std::shared_ptr<const VectorExample>> rows;
    for (int64_t i = first; i < std::min(data.size(), first + kRowsAtATime); ++i)
      rows.push_back(read_vectors(data.get(i)));
    parts.push_back(heads.member_rewards(head_input(rows, "chosen_features")) -
                    heads.member_rewards(head_input(rows, "rejected_features")));
  }
  return at::cat(parts, /*dim=*/1);
}

}  // namespace

void LabelStrength::Config::fields(FieldVisitor& v) {
  v.field("ensemble", ensemble,
          "Folder of an ensemble that was trained on the same data; none if empty.");
  v.field(
      "use", use,
      "flip: swap the pairs of lowest strength; drop: leave them out; soft: labels sigmoid of the "
      "strength; margin: the strength as margin.");
  v.field("share", share,
          "flip, drop: share of the pairs, at most those whose strength is below 0.");
  v.require(share >= 0 && share <= 1, "share", "must be in [0, 1]");
  for (const auto& name : use)
    v.require(name == "flip" || name == "drop" || name == "soft" || name == "margin", "use",
              "must be of flip, drop, soft, margin, not \"" + name + "\"");
  const auto has = [&](const char* name) {
    return std::find(use.begin(), use.end(), name) != use.end();
  };
  v.require(!(has("flip") && has("drop")) && !(has("soft") && has("margin")), "use",
            "takes one of flip and drop, and one of soft and margin");
}

LabelStrength::LabelStrength(const Config& config, const Dataset& data) {
  const at::NoGradGuard no_grad;
  const auto has = [&](const char* name) {
    return std::find(config.use.begin(), config.use.end(), name) != config.use.end();
  };
  flip_ = has("flip");
  soft_ = has("soft");
  margin_ = has("margin");
  const auto heads = FeatureHeads::load(config.ensemble);
  const auto mean_N = preference_strength(differences(*heads, data)).mean_B;
  flipped_N_ = suspect_labels(mean_N, config.share);
  mean_N_ = mean_N.to(at::kFloat);
  num_suspects_ = flipped_N_.sum().item<int64_t>();
  drop_.assign(static_cast<size_t>(data.size()), false);
  if (has("drop"))
    for (size_t i = 0; i < drop_.size(); ++i) drop_[i] = flipped_N_.const_data_ptr<bool>()[i];
}

void LabelStrength::apply(HeadBatch& batch) const {
  const auto rows = at::tensor(batch.rows, at::kLong);
  auto mean_B = mean_N_.index_select(0, rows);
  if (flip_) {
    const auto flip_B = flipped_N_.index_select(0, rows);
    const auto flip_B1 = flip_B.unsqueeze(1);
    const auto chosen_BD = batch.first.features_BD;
    batch.first.features_BD = at::where(flip_B1, batch.second.features_BD, chosen_BD);
    batch.second.features_BD = at::where(flip_B1, chosen_BD, batch.second.features_BD);
    mean_B = at::where(flip_B, -mean_B, mean_B);
  }
  if (soft_) batch.probabilities_B = mean_B.sigmoid();
  if (margin_) batch.margins_B = mean_B;
}

}  // namespace meed
