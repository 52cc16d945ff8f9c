#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/text/answer.h"
#include "libreward/reward_transform.h"

namespace meed {
namespace {

/// log sigmoid(z) without overflow.
double log_sigmoid(double z) { return std::min(z, 0.0) - std::log1p(std::exp(-std::abs(z))); }

/// u = log sigmoid(r - r_ref): the log-probability that a completion beats the reference (Wang et
/// al. 2024, Transforming and combining rewards). The sum over several rewards so transformed is a
/// logical AND of "good in property i". r_ref is the row's own (a quantile over the base policy's
/// samples, as the paper has it), a constant, or a quantile over each group's samples, or over the
/// whole batch of all ranks.
class LogSigmoid final : public RewardTransform {
 public:
  struct Config {
    static constexpr const char* kShapes = "outcome";
    std::string reference = "group";
    double quantile = 0.5;
    double value = 0.0;
    std::string column = "reference_reward";
    void fields(FieldVisitor& v) {
      v.choice("reference", reference, {"group", "batch", "value", "column"},
               "Where r_ref comes from: a quantile of the group's or the batch's rewards, or "
               "`value`, "
               "or the number in the row's `column`.");
      v.field("quantile", quantile, "Quantile of rewards that is the reference; 0.5: the median.");
      v.field("value", value, "The reference itself, with reference: value.");
      v.field("column", column,
              "Column of the dataset with the reference, with reference: column.");
      v.require(quantile >= 0 && quantile <= 1, "quantile", "must be in [0, 1]");
    }
  };
  LogSigmoid(const Config& config, RunContext& context) : config_(config), comm_(context.comm) {}

  void apply(RewardBatch& rewards) override {
    auto values = rewards.outcome_PG.to(at::kDouble).contiguous().clone();
    auto* data = values.data_ptr<double>();
    const int64_t P = values.size(0), G = values.size(1);
    const double batch = config_.reference == "batch" ? batch_quantile(values) : config_.value;
    for (int64_t p = 0; p < P; ++p) {
      const double reference =
          config_.reference == "group"    ? quantile({data + p * G, data + (p + 1) * G})
          : config_.reference == "column" ? of_row(rewards, static_cast<size_t>(p))
                                          : batch;
      for (int64_t g = 0; g < G; ++g)
        if (double& r = data[p * G + g]; std::isfinite(r)) r = log_sigmoid(r - reference);
    }
    rewards.outcome_PG = values;
  }

 private:
  double of_row(const RewardBatch& rewards, size_t p) const {
    MEED_CHECK(p < rewards.examples_P.size(), "a reference by row needs the rows");
    const auto& example = *rewards.examples_P[p];
    const auto found = example.extra.find(config_.column);
    const auto number = found == example.extra.end() ? std::nullopt : parse_number(found->second);
    if (!number)
      throw DataError("row " + std::to_string(example.row + 1) + ": log_sigmoid: the column \"" +
                      config_.column + "\" is missing or holds no number");
    return *number;
  }

  /// Linear interpolation between order statistics, as numpy's default.
  double quantile(std::vector<double> values) const {
    std::erase_if(values, [](double v) { return !std::isfinite(v); });
    if (values.empty()) return 0.0;
    std::sort(values.begin(), values.end());
    const double place = config_.quantile * static_cast<double>(values.size() - 1);
    const auto low = static_cast<size_t>(place);
    const auto high = std::min(low + 1, values.size() - 1);
    return values[low] + (place - static_cast<double>(low)) * (values[high] - values[low]);
  }

  double batch_quantile(const at::Tensor& values) const {
    const std::string bytes(static_cast<const char*>(values.data_ptr()), values.nbytes());
    std::vector<double> all;
    for (const auto& part : comm_.all_gather(bytes)) {
      const auto first = all.size();
      all.resize(first + part.size() / sizeof(double));
      std::copy(part.begin(), part.end(), reinterpret_cast<char*>(all.data() + first));
    }
    return quantile(std::move(all));
  }

  Config config_;
  Communicator& comm_;
};

MEED_REGISTER(reward_transforms, "log_sigmoid", LogSigmoid,
              "Log-probability of beating a reference; summed, a logical AND of rewards.");

}  // namespace
}  // namespace meed
