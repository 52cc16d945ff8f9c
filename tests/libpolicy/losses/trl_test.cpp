#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "libpolicy/losses/dpo.h"
#include "libpolicy/losses/policy_gradient.h"

// Losses, gradients and metrics of TRL 1.16 on the same tensors (tests/golden/make_trl_golden.py).

namespace meed {
namespace {

using Json = nlohmann::json;

const Json& golden(const char* part) {
  static const Json json =
      Json::parse(std::ifstream(MEED_SOURCE_DIR "/tests/golden/trl_losses.json"));
  return json[part];
}

at::Tensor floats(const Json& json) { return at::tensor(json.get<std::vector<float>>()); }

void expect_close(const at::Tensor& a, const at::Tensor& b, const std::string& what) {
  ASSERT_EQ(a.numel(), b.numel()) << what;
  EXPECT_LE((a.flatten() - b.flatten()).abs().max().item<double>(), 2e-6) << what;
}

std::optional<double> optional(const Json& json) {
  return json.is_null() ? std::nullopt : std::optional<double>(json.get<double>());
}

void expect_metrics(const MetricSums& metrics, const Json& wanted, const std::string& what) {
  for (const auto& [key, value] : wanted.items()) {
    ASSERT_TRUE(metrics.count(key)) << key << " of " << what;
    const auto& got = metrics.at(key);
    const double mean = got.reduce == Reduce::kMean ? got.sum / got.weight : got.sum;
    EXPECT_NEAR(mean, value.get<double>(), 2e-6) << key << " of " << what;
  }
}

TEST(Trl, PolicyGradientLossesAreEqual) {
  const auto& json = golden("grpo");
  std::vector<int64_t> completion;
  const auto lengths = json["lengths"].get<std::vector<int64_t>>();
  for (size_t c = 0; c < lengths.size(); ++c)
    completion.insert(completion.end(), static_cast<size_t>(lengths[c]), static_cast<int64_t>(c));
  const auto count = static_cast<int64_t>(lengths.size());
  const auto tokens = static_cast<int64_t>(completion.size());
  for (const auto& each : json["cases"]) {
    PolicyGradientInputs in;
    in.logprobs_M = floats(json["new"]).requires_grad_();
    in.old_logprobs_M = floats(json["old"]);
    in.ref_logprobs_M = floats(json["ref"]);
    in.entropy_M = floats(json["entropy"]).requires_grad_();
    in.completion_M = at::tensor(completion, at::kLong);
    in.mask_M = at::ones({tokens});
    in.advantages_C = floats(json["advantages"]);
    PolicyGradientOptions options{.loss_type = each["loss_type"],
                                  .beta = each["beta"],
                                  .epsilon = each["epsilon"],
                                  .epsilon_high = each["epsilon_high"],
                                  .delta = optional(each["delta"]),
                                  .importance_sampling_level = each["level"],
                                  .use_bias_correction_kl = each["bias_correction"],
                                  .entropy_coef = each["entropy_coef"],
                                  .off_policy_mask_threshold = optional(each["threshold"])};
    if (!each["entropy_mask"].is_null()) in.entropy_mask_M = floats(each["entropy_mask"]);
    if (!each["mode"].is_null()) {
      in.sampling_logprobs_M = floats(json["sampling"]);
      const std::string mode = each["mode"];
      in.importance_ratio_M =
          importance_sampling_correction(in.old_logprobs_M, in.sampling_logprobs_M, in.mask_M,
                                         in.completion_M, count, mode, 1.3, 0.7);
      options.importance_ratio_by_sequence = mode.starts_with("sequence");
    }
    const auto output = policy_gradient_loss(
        in, options,
        {.num_tokens = static_cast<double>(tokens),
         .num_completions = static_cast<double>(count),
         .max_completion_length = 16,
         .num_entropy_tokens =
             in.entropy_mask_M.defined() ? in.entropy_mask_M.sum().item<double>() : 0.0});
    auto what = each;
    what.erase("gradient");
    EXPECT_NEAR(output.loss.item<double>(), each["loss"].get<double>(), 2e-6) << what.dump();
    output.loss.backward();
    expect_close(in.logprobs_M.grad(), floats(each["gradient"]), what.dump());
    if (options.entropy_coef != 0.0)
      expect_close(in.entropy_M.grad(), floats(each["entropy_gradient"]), what.dump());
    expect_metrics(output.metrics, each["metrics"], what.dump());
  }
}

TEST(Trl, PreferenceLossesAreEqual) {
  const auto& json = golden("dpo");
  const auto lengths = json["lengths"].get<std::vector<int64_t>>();
  const auto pairs = static_cast<int64_t>(lengths.size() / 2);
  const auto flat = [](const Json& rows) {
    std::vector<float> values;
    for (const auto& row : rows)
      for (const auto& value : row) values.push_back(value.get<float>());
    return at::tensor(values);
  };
  std::vector<int64_t> sequence;
  for (size_t s = 0; s < lengths.size(); ++s)
    sequence.insert(sequence.end(), static_cast<size_t>(lengths[s]), static_cast<int64_t>(s));
  const auto sequence_M = at::tensor(sequence, at::kLong);
  const auto lengths_2B = at::tensor(lengths, at::kLong).to(at::kFloat);
  for (const auto& each : json["cases"]) {
    const auto policy_M = flat(json["policy"]).requires_grad_();
    const auto ld_alpha = optional(each["ld_alpha"]);
    const auto policy_2B = pair_logprob_sums(policy_M, sequence_M, pairs, ld_alpha);
    const auto ref_2B = pair_logprob_sums(flat(json["reference"]), sequence_M, pairs, ld_alpha);
    const auto plain_2B = pair_logprob_sums(policy_M, sequence_M, pairs, std::nullopt);
    const auto chosen = [&](const at::Tensor& values) { return values.narrow(0, 0, pairs); };
    const auto rejected = [&](const at::Tensor& values) { return values.narrow(0, pairs, pairs); };
    DpoInputs in{.policy_chosen_B = chosen(policy_2B),
                 .policy_rejected_B = rejected(policy_2B),
                 .ref_chosen_B = chosen(ref_2B),
                 .ref_rejected_B = rejected(ref_2B),
                 .chosen_lengths_B = chosen(lengths_2B),
                 .rejected_lengths_B = rejected(lengths_2B),
                 .chosen_logprobs_B = chosen(plain_2B)};
    if (each["use_weighting"].get<bool>()) {
      const auto aligned_2B = pair_logprob_sums(policy_M.detach() - flat(json["log_sum_sq"]),
                                                sequence_M, pairs, std::nullopt) /
                              lengths_2B;
      in.weights_B = chosen(aligned_2B).exp() * rejected(aligned_2B).exp();
    }
    const auto output = dpo_loss(in,
                                 {.loss_type = each["loss_type"],
                                  .loss_weights = each["loss_weights"],
                                  .beta = each["beta"],
                                  .label_smoothing = each["label_smoothing"],
                                  .f_divergence_type = each["f_divergence_type"],
                                  .f_alpha_divergence_coef = each["f_alpha_divergence_coef"],
                                  .discopop_tau = each["discopop_tau"]},
                                 {.num_pairs = static_cast<double>(pairs),
                                  .num_chosen_tokens = chosen(lengths_2B).sum().item<double>()});
    auto what = each;
    what.erase("gradient");
    EXPECT_NEAR(output.loss.item<double>(), each["loss"].get<double>(), 1e-5) << what.dump();
    output.loss.backward();
    expect_close(policy_M.grad(), flat(each["gradient"]), what.dump());
    expect_metrics(output.metrics, each["metrics"], what.dump());
  }
}

TEST(Dpo, DynamicBetaHasTheWorkedValues) {
  const auto beta = dynamic_beta(at::tensor({0.0f, 1.0f, 2.0f, 5.0f, 1e6f}), 0.1, 0.5, 0.5);
  const double wanted[] = {0.1, 0.119673, 0.131606, 0.145896, 0.15};
  for (int64_t i = 0; i < 5; ++i) EXPECT_NEAR(beta[i].item<double>(), wanted[i], 1e-6);
}

// Numerical derivatives in float32 are coarse; the losses that TRL does not have are checked by
// what they must be at special points.
TEST(PolicyGradient, GeometricMeanEqualsItsFormula) {
  PolicyGradientInputs in;
  in.logprobs_M = at::tensor({-1.0f, -0.5f, -2.0f}).requires_grad_();
  in.old_logprobs_M = at::tensor({-1.1f, -1.5f, -1.9f});
  in.mask_M = at::ones({3});
  in.completion_M = at::tensor({0, 0, 1}, at::kLong);
  in.advantages_C = at::tensor({1.0f, -2.0f});
  const auto output =
      policy_gradient_loss(in, {.loss_type = "gmpo", .epsilon = 0.4, .epsilon_high = 0.4},
                           {.num_tokens = 3, .num_completions = 2, .max_completion_length = 4});
  // log-ratios 0.1, 1.0 (cut to 0.4) and -0.1.
  const double wanted = (-std::exp((0.1 + 0.4) / 2) + 2.0 * std::exp(-0.1)) / 2;
  EXPECT_NEAR(output.loss.item<double>(), wanted, 1e-6);
  output.loss.backward();
  EXPECT_EQ(in.logprobs_M.grad()[1].item<float>(), 0.0f);
}

TEST(PolicyGradient, CovarianceLossesTouchTheirTokensOnly) {
  PolicyGradientInputs in;
  in.old_logprobs_M = at::tensor({-1.0f, -1.0f, -4.0f, -0.1f});
  in.logprobs_M = at::tensor({-0.9f, -1.0f, -4.0f, -0.1f}).requires_grad_();
  in.mask_M = at::ones({4});
  in.completion_M = at::tensor({0, 0, 1, 1}, at::kLong);
  in.advantages_C = at::tensor({1.0f, -1.0f});
  const PolicyGradientTotals totals{4, 2, 4};
  PolicyGradientOptions options{.loss_type = "kl_cov", .kl_cov_ratio = 0.25, .kl_cov_coef = 0.5};
  const double with = policy_gradient_loss(in, options, totals).loss.item<double>();
  options.kl_cov_coef = 0.0;
  const double without = policy_gradient_loss(in, options, totals).loss.item<double>();
  // The largest covariance is the third token's, whose ratio is 1: it costs nothing.
  EXPECT_NEAR(with, without, 1e-7);
  options = {.loss_type = "clip_cov", .clip_cov_ratio = 0.25, .clip_cov_low = 2.0};
  const auto clipped = policy_gradient_loss(in, options, totals);
  clipped.loss.backward();
  EXPECT_EQ(in.logprobs_M.grad()[2].item<float>(), 0.0f);
  EXPECT_NE(in.logprobs_M.grad()[0].item<float>(), 0.0f);
  EXPECT_EQ(clipped.metrics.at("clip_cov/clipped").sum, 1.0);
}

/// TRL bounds no log-ratio outside VESPO; where float32 would overflow the loss stays finite.
TEST(PolicyGradient, LargeLogRatiosAreNotCutBelowOverflow) {
  PolicyGradientInputs in;
  in.logprobs_M = at::tensor({-0.5f, -1.0f, -2.0f}).requires_grad_();
  in.old_logprobs_M = at::tensor({-25.5f, -3.0f, -1.0f});
  in.mask_M = at::ones({3});
  in.completion_M = at::tensor({0, 0, 1}, at::kLong);
  in.advantages_C = at::tensor({-1.0f, -1.0f});
  const PolicyGradientTotals totals{3, 2, 4};
  const auto token = policy_gradient_loss(in, {.loss_type = "dapo"}, totals);
  const double e25 = std::exp(25.0);
  EXPECT_NEAR(token.loss.item<double>() / e25, (e25 + std::exp(2.0) + 0.8) / 3 / e25, 1e-6);
  token.loss.backward();
  EXPECT_NEAR(in.logprobs_M.grad()[0].item<double>() / e25, 1.0 / 3, 1e-6);
  // The mean of 25 and 2.
  const auto sequence = policy_gradient_loss(
      in, {.loss_type = "grpo", .importance_sampling_level = "sequence"}, totals);
  EXPECT_NEAR(sequence.loss.item<double>(), (std::exp(13.5) + 0.8) / 2, 0.1);
  in.old_logprobs_M = at::tensor({-200.5f, -3.0f, 300.0f});
  in.logprobs_M.mutable_grad().reset();
  const auto far = policy_gradient_loss(in, {.loss_type = "dapo"}, totals);
  far.loss.backward();
  EXPECT_TRUE(std::isfinite(far.loss.item<double>()));
  EXPECT_TRUE(in.logprobs_M.grad().isfinite().all().item<bool>());
}

TEST(PolicyGradient, PreClipBoundsTheRatioAndItsGradient) {
  PolicyGradientInputs in;
  in.logprobs_M = at::tensor({19.0f, -30.0f}).requires_grad_();
  in.old_logprobs_M = at::tensor({-1.0f, -1.0f});
  in.mask_M = at::ones({2});
  in.completion_M = at::tensor({0, 1}, at::kLong);
  in.advantages_C = at::tensor({-1.0f, 1.0f});
  const auto output = policy_gradient_loss(in, {.loss_type = "dapo", .pre_clip = std::log(1e3)},
                                           {.num_tokens = 1, .num_completions = 2});
  EXPECT_NEAR(output.loss.item<double>(), 1000.0 - 1e-3, 1e-3);
  output.loss.backward();
  EXPECT_EQ(in.logprobs_M.grad().abs().max().item<float>(), 0.0f);
}

}  // namespace
}  // namespace meed
