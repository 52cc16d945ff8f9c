#include "libreward/judges/pairwise_judge.h"

#include <cmath>

namespace meed {

Registry<PairwiseJudge>& pairwise_judges() {
  static Registry<PairwiseJudge> registry("pairwise judge");
  return registry;
}

std::vector<double> judge_both_orders(PairwiseJudge& judge, std::span<const JudgeQuery> queries,
                                      std::vector<double>* position_bias) {
  std::vector<JudgeQuery> both(queries.begin(), queries.end());
  for (const auto& query : queries) both.push_back({query.example, query.second, query.first});
  const auto verdicts = judge.judge(both);
  std::vector<double> result(queries.size());
  if (position_bias != nullptr) position_bias->assign(queries.size(), 0.0);
  for (size_t i = 0; i < queries.size(); ++i) {
    const double forth = verdicts[i], back = 1.0 - verdicts[queries.size() + i];
    result[i] = std::isnan(forth)  ? back
                : std::isnan(back) ? forth
                                   : 0.5 * (forth + back);
    if (position_bias != nullptr) (*position_bias)[i] = std::abs(forth - back);
  }
  return result;
}

}  // namespace meed
