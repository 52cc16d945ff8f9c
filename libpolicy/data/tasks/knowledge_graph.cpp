#include <array>
#include <map>

#include "libpolicy/core/error.h"
#include "libpolicy/data/generated_task.h"
#include "libpolicy/data/tasks/graph.h"
#include "libpolicy/generation/environment.h"

namespace meed {
namespace {

constexpr std::array kEntities = {"anna", "ben",  "carla", "david", "emma", "felix", "grace",
                                  "hugo", "ines", "jonas", "karin", "leo",  "mara",  "nils",
                                  "olga", "paul", "rosa",  "simon", "tina", "viktor"};
constexpr std::array kRelations = {"boss", "friend", "neighbour", "teacher"};

/// Two-hop questions on a graph of 20 people that only a search can tell (the toy of PPR): "anna
/// boss friend ?" asks for the friend of anna's boss. Each row has a graph of its own in the column
/// `graph`, as "anna boss ben;...". Completions search hop by hop; with `detour_rate` they also
/// look up what nobody asked, with `guess_rate` they answer without the second search, with
/// `error_rate` they name somebody or a relation at random and go on from what they found.
class KnowledgeGraph final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    double detour_rate = 0.0, guess_rate = 0.0, error_rate = 0.0;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      v.field("detour_rate", detour_rate,
              "Chance of a needless search before each needed one in the completion.");
      v.field("guess_rate", guess_rate,
              "Chance that the completion guesses after its first search.");
      v.field("error_rate", error_rate,
              "Chance of a name at random in place of each that the completion says.");
      v.require(detour_rate >= 0 && detour_rate < 1, "detour_rate", "must be in [0, 1)");
      v.require(guess_rate >= 0 && guess_rate <= 1, "guess_rate", "must be in [0, 1]");
      v.require(error_rate >= 0 && error_rate < 1, "error_rate", "must be in [0, 1)");
    }
  };
  explicit KnowledgeGraph(const Config& config) {
    generate(config.rows, "knowledge_graph",
             [&](RandomStream& random) { return row(config, random); });
  }

 private:
  static Example row(const Config& config, RandomStream& random) {
    Graph graph;
    std::string edges;
    for (const std::string entity : kEntities)
      for (const std::string relation : kRelations) {
        std::string other = entity;
        while (other == entity) other = pick(kEntities, random);
        edges += entity + " " + relation + " " + other + ";";
        graph[{entity, relation}] = other;
      }
    const std::string start = pick(kEntities, random), first = pick(kRelations, random),
                      second = pick(kRelations, random);
    const auto& answer = graph.at({graph.at({start, first}), second});
    const auto said = [&](const std::string& right, const auto& names) -> std::string {
      return random.next() < config.error_rate ? pick(names, random) : right;
    };
    std::string completion, found = start;
    const auto search = [&](const std::string& entity, const std::string& relation) {
      const auto& result = graph.at({entity, relation});
      completion +=
          "<search> " + entity + " " + relation + " </search><result> " + result + " </result>";
      return result;
    };
    const auto hop = [&](const std::string& relation) {
      const auto entity = said(found, kEntities);
      found = search(entity, said(relation, kRelations));
    };
    const auto detour = [&] {
      if (random.next() < config.detour_rate) search(found, pick(kRelations, random));
    };
    detour();
    hop(first);
    detour();
    const bool guesses = random.next() < config.guess_rate;
    if (!guesses) hop(second);
    completion +=
        "<answer> " + (guesses ? pick(kEntities, random) : said(found, kEntities)) + " </answer>";
    auto example = plain_row(start + " " + first + " " + second + " ?", completion);
    example.extra["answer"] = answer;
    example.extra["graph"] = edges;
    return example;
  }
};

/// The search engine of knowledge_graph: "<search> anna boss </search>" is answered by
/// "<result> ben </result>".
class GraphSearch final : public Environment {
 public:
  struct Config {
    std::string graph_column = "graph";
    void fields(FieldVisitor& v) {
      v.field("graph_column", graph_column, "Column with edges: \"anna boss ben;...\".");
    }
  };
  explicit GraphSearch(const Config& config) : config_(config) {}
  std::vector<std::string> stop_strings() const override { return {"</search>"}; }
  std::optional<EnvironmentReply> reply(const Example& example,
                                        std::span<const Completion::Turn> turns) override {
    const auto found = example.extra.find(config_.graph_column);
    if (found == example.extra.end())
      throw DataError("row " + std::to_string(example.row + 1) +
                      ": graph_search needs the column \"" + config_.graph_column + "\"");
    const auto query = last_query(turns.back().text);
    const auto result = query ? look_up(found->second, *query) : std::nullopt;
    if (!result) return EnvironmentReply{.text = "<result> nothing </result>", .failed = true};
    return EnvironmentReply{.text = "<result> " + *result + " </result>"};
  }

 private:
  Config config_;
};

MEED_REGISTER(datasets, "knowledge_graph", KnowledgeGraph,
              "Two-hop questions on a small graph that has to be searched.");
MEED_REGISTER(environments, "graph_search", GraphSearch, "The search engine of knowledge_graph.");

}  // namespace

std::optional<std::pair<std::string, std::string>> last_query(std::string_view turn) {
  const size_t close = turn.rfind("</search>");
  if (close == std::string_view::npos) return std::nullopt;
  const size_t open = turn.rfind("<search>", close);
  if (open == std::string_view::npos) return std::nullopt;
  const auto words = words_of(turn.substr(open + 8, close - open - 8));
  if (words.size() != 2) return std::nullopt;
  return std::pair(words[0], words[1]);
}

std::optional<std::string> look_up(std::string_view edges,
                                   const std::pair<std::string, std::string>& query) {
  const std::string start = query.first + " " + query.second + " ";
  for (size_t at = 0; at < edges.size();) {
    const size_t end = std::min(edges.find(';', at), edges.size());
    if (edges.substr(at, end - at).starts_with(start))
      return std::string(edges.substr(at + start.size(), end - at - start.size()));
    at = end + 1;
  }
  return std::nullopt;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = 0; (at = text.find_first_not_of(" \t\r\n", at)) != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(" \t\r\n", at), text.size());
    words.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

}  // namespace meed
