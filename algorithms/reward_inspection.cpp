#include "algorithms/reward_inspection.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "algorithms/report/jsonl_log.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/ranking.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kHistogramBins = 24;

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

Json to_json(const InspectedPair& pair) {
  return Json::array({pair.logit, pair.chosen, pair.rejected, pair.chosen_tokens,
                      pair.rejected_tokens, pair.disagreement, pair.gates, pair.group});
}

/// The pairs of all ranks, by rank.
std::vector<InspectedPair> gathered(Communicator& comm, const std::vector<InspectedPair>& pairs) {
  auto own = Json::array();
  for (const auto& pair : pairs) own.push_back(to_json(pair));
  std::vector<InspectedPair> all;
  const auto parts = comm.all_gather(own.dump(-1, ' ', false, Json::error_handler_t::replace));
  for (const auto& part : parts)
    for (const auto& row : Json::parse(part))
      // A value that is not finite stands as null.
      if (row[0].is_number() && row[1].is_number() && row[2].is_number() && row[5].is_number())
        all.push_back({row[0].get<double>(), row[1].get<double>(), row[2].get<double>(),
                       row[3].get<int64_t>(), row[4].get<int64_t>(), row[5].get<double>(),
                       row[6].get<std::vector<double>>(), row[7].get<std::string>()});
  return all;
}

std::vector<double> values(std::span<const InspectedPair> pairs, double InspectedPair::*member) {
  std::vector<double> result;
  for (const auto& pair : pairs) result.push_back(pair.*member);
  return result;
}

/// Mean reward of completions of up to 4, 8, 16, ... tokens.
Json by_length(std::span<const InspectedPair> pairs) {
  std::map<int64_t, std::pair<double, int64_t>> buckets;
  const auto add = [&](int64_t tokens, double reward) {
    const auto limit = std::max<int64_t>(
        4,
        static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(1, tokens)))));
    auto& [sum, count] = buckets[limit];
    sum += reward;
    ++count;
  };
  for (const auto& pair : pairs) {
    add(pair.chosen_tokens, pair.chosen);
    add(pair.rejected_tokens, pair.rejected);
  }
  auto json = Json::array();
  for (const auto& [limit, bucket] : buckets)
    json.push_back({{"up_to", limit},
                    {"mean", bucket.first / static_cast<double>(bucket.second)},
                    {"count", bucket.second}});
  return json;
}

/// Counts of both sides over the same bins from the least to the largest reward.
void add_histograms(std::span<const InspectedPair> pairs, Json& line) {
  auto chosen = values(pairs, &InspectedPair::chosen);
  auto rejected = values(pairs, &InspectedPair::rejected);
  const double low = std::min(*std::min_element(chosen.begin(), chosen.end()),
                              *std::min_element(rejected.begin(), rejected.end()));
  const double high = std::max(*std::max_element(chosen.begin(), chosen.end()),
                               *std::max_element(rejected.begin(), rejected.end()));
  const double width = high > low ? (high - low) / kHistogramBins : 1.0;
  const auto counts = [&](const std::vector<double>& side) {
    std::vector<int64_t> bins(kHistogramBins, 0);
    for (const double value : side)
      ++bins[static_cast<size_t>(
          std::clamp<int>(static_cast<int>((value - low) / width), 0, kHistogramBins - 1))];
    return bins;
  };
  line["low"] = low;
  line["width"] = width;
  line["chosen"] = counts(chosen);
  line["rejected"] = counts(rejected);
}

/// Accuracy of the thirds of the pairs that an ensemble's members agree on most to least.
Json by_disagreement(std::span<const InspectedPair> pairs) {
  std::vector<const InspectedPair*> order;
  for (const auto& pair : pairs) order.push_back(&pair);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return a->disagreement < b->disagreement; });
  auto json = Json::array();
  constexpr size_t kParts = 3;
  for (size_t part = 0; part < kParts; ++part) {
    const size_t first = order.size() * part / kParts, end = order.size() * (part + 1) / kParts;
    if (first == end) continue;
    double right = 0.0, spread = 0.0;
    for (size_t i = first; i < end; ++i) {
      right += order[i]->logit > 0;
      spread += order[i]->disagreement;
    }
    const auto count = static_cast<double>(end - first);
    json.push_back(
        {{"disagreement", spread / count}, {"accuracy", right / count}, {"count", end - first}});
  }
  return json;
}

}  // namespace

std::vector<ReliabilityBin> reliability(std::span<const InspectedPair> pairs, int num_bins) {
  std::vector<ReliabilityBin> bins(static_cast<size_t>(num_bins));
  for (const auto& pair : pairs) {
    const double p = sigmoid(pair.logit), confidence = std::max(p, 1.0 - p);
    const auto place =
        std::clamp<int>(static_cast<int>((confidence - 0.5) * 2.0 * num_bins), 0, num_bins - 1);
    auto& bin = bins[static_cast<size_t>(place)];
    bin.confidence += confidence;
    // A tie is right half of the time.
    bin.accuracy += pair.logit > 0 ? 1.0 : pair.logit == 0 ? 0.5 : 0.0;
    ++bin.count;
  }
  for (auto& bin : bins) {
    if (bin.count == 0) continue;
    bin.confidence /= static_cast<double>(bin.count);
    bin.accuracy /= static_cast<double>(bin.count);
  }
  return bins;
}

double expected_calibration_error(std::span<const ReliabilityBin> bins) {
  double sum = 0.0, count = 0.0;
  for (const auto& bin : bins) {
    sum += std::abs(bin.confidence - bin.accuracy) * static_cast<double>(bin.count);
    count += static_cast<double>(bin.count);
  }
  return count > 0 ? sum / count : 0.0;
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double place = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<size_t>(place);
  const auto high = std::min(low + 1, values.size() - 1);
  return values[low] + (place - static_cast<double>(low)) * (values[high] - values[low]);
}

void record_inspection(TrainingRun& run, int64_t step, const std::vector<InspectedPair>& own,
                       const std::vector<std::string>& gate_names) {
  const auto pairs = gathered(run.comm(), own);
  if (pairs.empty()) return;
  auto& recorder = run.recorder();
  const auto count = static_cast<double>(pairs.size());
  const auto bins = reliability(pairs);
  recorder.record("eval_calibration/ece", expected_calibration_error(bins));
  std::vector<double> rewards, lengths;
  std::map<std::string, std::pair<double, double>> groups;
  double disagreement = 0.0;
  for (const auto& pair : pairs) {
    rewards.insert(rewards.end(), {pair.chosen, pair.rejected});
    lengths.insert(lengths.end(), {static_cast<double>(pair.chosen_tokens),
                                   static_cast<double>(pair.rejected_tokens)});
    disagreement += pair.disagreement;
    if (pair.group.empty()) continue;
    auto& [right, total] = groups[pair.group];
    right += pair.logit > 0 ? 1.0 : 0.0;
    total += 1.0;
  }
  recorder.record("eval_length_spearman", rank_correlation(rewards, lengths));
  for (const auto& [name, side] :
       {std::pair{"chosen", &InspectedPair::chosen}, {"rejected", &InspectedPair::rejected}})
    for (const int percent : {10, 50, 90})
      recorder.record("eval_" + std::string(name) + "_reward/p" + std::to_string(percent),
                      quantile(values(pairs, side), percent / 100.0));
  for (const auto& [group, sums] : groups)
    recorder.record("eval_accuracy/" + group, sums.first / sums.second);
  auto gates = Json::object();
  for (size_t k = 0; k < gate_names.size(); ++k) {
    double sum = 0.0;
    for (const auto& pair : pairs) sum += k < pair.gates.size() ? pair.gates[k] : 0.0;
    gates[gate_names[k]] = sum / count;
    recorder.record("eval_gate_use/" + gate_names[k], sum / count);
  }
  const bool ensemble = pairs.front().disagreement >= 0;
  if (ensemble) recorder.record("eval_disagreement", disagreement / count);
  if (!run.comm().is_main()) return;
  Json line = {{"step", step}, {"pairs", pairs.size()}, {"reliability", Json::array()}};
  for (const auto& bin : bins)
    if (bin.count > 0)
      line["reliability"].push_back(
          {{"confidence", bin.confidence}, {"accuracy", bin.accuracy}, {"count", bin.count}});
  add_histograms(pairs, line);
  line["length"] = by_length(pairs);
  if (!gate_names.empty()) line["gates"] = gates;
  if (ensemble) line["disagreement"] = by_disagreement(pairs);
  JsonlLog(run.output_dir() / "inspection.jsonl", step - 1).append(line.dump());
}

}  // namespace meed
