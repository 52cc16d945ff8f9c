#include <algorithm>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/data/tasks/graph.h"
#include "libreward/functions/columns.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// Principle process reward of knowledge_graph by rules (PPR): each search is judged by three
/// principles, a point each: it asks about somebody that the question or an earlier result names;
/// it is no repetition; its result is used later, in a query or the answer. Step value: points / 3,
/// 0 where the query cannot be read. The last step is the answer, and the outcome 1 where it is
/// right.
class SearchPrinciples final : public PointwiseReward {
 public:
  struct Config {
    static constexpr const char* kShapes = "outcome step";
    void fields(FieldVisitor&) {}
  };
  explicit SearchPrinciples(const Config&) {}

 private:
  struct Search {
    std::pair<std::string, std::string> query;
    std::string result;
    bool readable = false;
  };

  Score score_one(const Example& example, const Completion& completion) override {
    const auto& answer = column(example, "answer", "search_principles");
    const auto& edges = column(example, "graph", "search_principles");
    const auto searches = read(completion.text, edges);
    const auto block = only_block(completion.text, "answer");
    const auto said = block ? words_of(*block) : std::vector<std::string>{};
    Score score{.value = said.size() == 1 && said[0] == answer ? 1.0 : 0.0};
    if (!block) score.unreadable = "no_answer";

    std::set<std::string> known;
    for (auto& word : words_of(as_text(example.prompt, " "))) known.insert(std::move(word));
    std::set<std::pair<std::string, std::string>> asked;
    double sum = 0.0;
    for (size_t k = 0; k < searches.size(); ++k) {
      const auto& search = searches[k];
      double points = 0.0;
      if (search.readable) {
        points += known.count(search.query.first) > 0;
        points += asked.insert(search.query).second;
        points += used_later(search.result, searches, k, said);
        known.insert(search.result);
      }
      score.step_values.push_back(points / 3.0);
      sum += score.step_values.back();
    }
    score.parts["num_searches"] = static_cast<double>(searches.size());
    if (!searches.empty()) score.parts["principles"] = sum / static_cast<double>(searches.size());
    score.step_values.push_back(score.value);
    score.value_in_steps = true;
    return score;
  }

  static bool used_later(const std::string& result, const std::vector<Search>& searches, size_t k,
                         const std::vector<std::string>& said) {
    if (result.empty()) return false;
    if (std::find(said.begin(), said.end(), result) != said.end()) return true;
    return std::any_of(searches.begin() + static_cast<int64_t>(k) + 1, searches.end(),
                       [&](const Search& later) { return later.query.first == result; });
  }

  static std::vector<Search> read(std::string_view text, const std::string& edges) {
    std::vector<Search> searches;
    for (size_t at = 0; (at = text.find("</search>", at)) != std::string_view::npos;) {
      const size_t end = at + 9;
      auto& search = searches.emplace_back();
      if (const auto query = last_query(text.substr(0, end))) {
        const auto result = look_up(edges, *query);
        search = {*query, result.value_or(""), result.has_value()};
      }
      at = end;
    }
    return searches;
  }
};

MEED_REGISTER(reward_functions, "search_principles", SearchPrinciples,
              "Process reward of knowledge_graph by three principles (PPR).");

}  // namespace
}  // namespace meed
