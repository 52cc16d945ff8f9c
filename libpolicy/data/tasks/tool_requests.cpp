#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/data/generated_task.h"
#include "libpolicy/generation/environment.h"
#include "libpolicy/text/tool_calls.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

/// A function of the set: its parameters in order, each with the values that it takes.
struct Tool {
  const char* name;
  std::vector<std::pair<const char*, const std::vector<std::string>*>> parameters;
};

const std::vector<std::string> kCities = {"rome", "paris", "oslo", "berlin", "madrid", "vienna"};
const std::vector<std::string> kDays = {"monday", "tuesday", "friday", "sunday"};
const std::vector<std::string> kPeople = {"anna", "ben", "carla", "david"};
const std::vector<std::string> kThings = {"bread", "milk", "apples", "coffee"};
const std::vector<std::string> kSmall = {"1", "2", "3", "4", "5"};
const std::vector<std::string> kColours = {"red", "blue", "green"};

const std::vector<Tool>& tools() {
  static const std::vector<Tool> all = {
      {"weather", {{"city", &kCities}, {"day", &kDays}}},
      {"flight", {{"from", &kCities}, {"to", &kCities}, {"day", &kDays}, {"seats", &kSmall}}},
      {"hotel", {{"city", &kCities}, {"day", &kDays}, {"nights", &kSmall}}},
      {"train", {{"from", &kCities}, {"to", &kCities}, {"day", &kDays}}},
      {"call", {{"person", &kPeople}, {"day", &kDays}}},
      {"message", {{"person", &kPeople}, {"about", &kThings}}},
      {"meeting", {{"person", &kPeople}, {"city", &kCities}, {"day", &kDays}}},
      {"order", {{"item", &kThings}, {"count", &kSmall}}},
      {"pay", {{"person", &kPeople}, {"amount", &kSmall}}},
      {"lamp", {{"colour", &kColours}, {"level", &kSmall}}},
      {"timer", {{"minutes", &kSmall}, {"colour", &kColours}}},
      {"recipe", {{"item", &kThings}, {"people", &kSmall}, {"day", &kDays}}}};
  return all;
}

const Tool* find_tool(const std::string& name) {
  for (const auto& tool : tools())
    if (name == tool.name) return &tool;
  return nullptr;
}

/// Requests that a call of one of 12 tools with two to four parameters answers (the toy of ToolRL):
/// "weather city rome day monday" in an order and with words of its own; with `num_calls` calls of
/// several tools, "lamp level 2 colour red and pay person ben amount 3". The column `tool_calls`
/// holds the right calls; with `error_rate` a parameter of the completion's calls is wrong or
/// missing.
class ToolRequests final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    int64_t num_calls = 1;
    double error_rate = 0.0;
    bool think = true;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      v.field("num_calls", num_calls, "Different tools that a request asks for, 1 to 12.");
      v.field("error_rate", error_rate, "Chance of a mistake in each parameter of the completion.");
      v.field("think", think, "The completion names the tools in a <think> block first.");
      v.require(num_calls >= 1 && num_calls <= static_cast<int64_t>(tools().size()), "num_calls",
                "must be 1 to 12");
      v.require(error_rate >= 0 && error_rate < 1, "error_rate", "must be in [0, 1)");
    }
  };
  explicit ToolRequests(const Config& config) {
    generate(config.rows, "tool_requests",
             [&](RandomStream& random) { return row(config, random); });
  }

 private:
  static Example row(const Config& config, RandomStream& random) {
    Json wanted = Json::array();
    std::vector<std::string> names, wishes, said;
    for (const auto& tool : sample_of(tools(), static_cast<size_t>(config.num_calls), random)) {
      auto [right, given] = parameters(tool, config.error_rate, random);
      std::vector<std::string> values;
      for (const auto& [name, value] : right.items())
        values.push_back(name + " " + value.get<std::string>());
      names.push_back(tool.name);
      wishes.push_back(names.back() + " " + joined(sample_of(values, values.size(), random), " "));
      wanted.push_back({{"name", tool.name}, {"parameters", right}});
      said.push_back(Json{{"name", tool.name}, {"parameters", given}}.dump());
    }
    static constexpr std::array kOpenings = {"please", "i need", "now", "can you"};
    const std::string prompt =
        std::string(pick(kOpenings, random)) + " " + joined(wishes, " and ") + " ?";
    const std::string think = config.think ? "<think> " + joined(names, " ") + " </think>" : "";
    auto example = plain_row(prompt, think + "<tool_call>" + joined(said, "\n") + "</tool_call>");
    example.extra["tool_calls"] = wanted.dump();
    return example;
  }

  /// What the request says, and what the completion makes of it.
  static std::pair<Json, Json> parameters(const Tool& tool, double error_rate,
                                          RandomStream& random) {
    Json right = Json::object(), given = Json::object();
    for (const auto& [name, values] : tool.parameters) {
      right[name] = pick(*values, random);
      if (random.next() >= error_rate)
        given[name] = right[name];
      else if (random.next() < 0.5)
        given[name] = pick(*values, random);
    }
    return {right, given};
  }
};

/// Carries out the calls of tool_requests: "<tool_call>{...}</tool_call>" is answered by
/// "<tool_response> done </tool_response>", or by what is wrong with a call; several calls are a
/// JSON list or stand on lines of their own.
class Tools final : public Environment {
 public:
  struct Config {
    void fields(FieldVisitor&) {}
  };
  explicit Tools(const Config&) {}
  std::vector<std::string> stop_strings() const override { return {"</tool_call>"}; }
  std::optional<EnvironmentReply> reply(const Example&,
                                        std::span<const Completion::Turn> turns) override {
    const auto problem = problem_of(turns.back().text);
    return EnvironmentReply{
        .text = "<tool_response> " + (problem.empty() ? "done" : problem) + " </tool_response>",
        .failed = !problem.empty()};
  }

 private:
  static std::string problem_of(const std::string& turn) {
    const size_t close = turn.rfind("</tool_call>"), open = turn.rfind("<tool_call>", close);
    if (open == std::string::npos) return "no call";
    const auto calls =
        parse_tool_calls(std::string_view(turn).substr(open + 11, close - open - 11));
    if (!calls || calls->empty()) return "not a call";
    for (const auto& call : *calls)
      if (auto problem = problem_of_call(call); !problem.empty()) return problem;
    return "";
  }

  static std::string problem_of_call(const ToolCall& call) {
    const auto* tool = find_tool(call.name);
    if (tool == nullptr) return "unknown tool";
    for (const auto& [name, values] : tool->parameters) {
      const auto given = call.parameters.find(name);
      if (given == call.parameters.end()) return std::string("missing ") + name;
      const auto is_given = [&](const std::string& value) {
        return given->second == Json(value).dump();
      };
      if (std::none_of(values->begin(), values->end(), is_given))
        return std::string("wrong ") + name;
    }
    return call.parameters.size() > tool->parameters.size() ? "unknown parameter" : "";
  }
};

MEED_REGISTER(datasets, "tool_requests", ToolRequests, "Requests for calls of 12 tools.");
MEED_REGISTER(environments, "tools", Tools, "Carries out the calls of tool_requests.");

}  // namespace
}  // namespace meed
