#include "algorithms/study.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/log.h"
#include "libpolicy/core/strings.h"
#include "libpolicy/text/text_pattern.h"

namespace meed {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kTakes = {"last", "first", "max", "min", "mean"};

/// What a StudyCheck's figure names.
struct Figure {
  std::optional<double> number;
  std::string arm, metric, take = "last";
  int64_t up_to_step = std::numeric_limits<int64_t>::max();
};

/// nullopt if the text is neither a number nor "arm/metric".
std::optional<Figure> parse_figure(const std::string& text) {
  Figure figure;
  double number = 0.0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && stop == text.data() + text.size()) {
    figure.number = number;
    return figure;
  }
  const auto slash = text.find('/');
  const auto at = text.rfind('@');
  if (slash == 0 || slash == std::string::npos || slash + 1 == text.size()) return std::nullopt;
  figure.arm = text.substr(0, slash);
  figure.metric = text.substr(slash + 1, at == std::string::npos ? at : at - slash - 1);
  if (at != std::string::npos) {
    const auto colon = text.find(':', at);
    figure.take = text.substr(at + 1, colon == std::string::npos ? colon : colon - at - 1);
    if (colon != std::string::npos) {
      const auto* last = text.data() + text.size();
      const auto end = std::from_chars(text.data() + colon + 1, last, figure.up_to_step);
      if (end.ec != std::errc() || end.ptr != last || figure.up_to_step < 0) return std::nullopt;
    }
  }
  if (std::find(kTakes.begin(), kTakes.end(), figure.take) == kTakes.end()) return std::nullopt;
  return figure;
}

fs::path folder_of(const std::string& output_dir, const std::string& arm, int64_t seed) {
  return fs::path(output_dir) / arm / ("seed-" + std::to_string(seed));
}

bool is_name(const std::string& text) {
  return !text.empty() && text.find_first_not_of(
                              "abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == std::string::npos;
}

/// The steps and values of each metric of a run, in order.
struct Series {
  std::vector<int64_t> steps;
  std::vector<double> values;
};
std::map<std::string, Series> read_metrics(const fs::path& folder) {
  std::map<std::string, Series> metrics;
  std::ifstream file(folder / "metrics.jsonl");
  if (!file) throw DataError((folder / "metrics.jsonl").string() + ": cannot be read");
  for (std::string line; std::getline(file, line);) {
    const auto row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object()) continue;
    for (const auto& [key, value] : row.items()) {
      if (!value.is_number()) continue;
      metrics[key].steps.push_back(row.value("step", int64_t{0}));
      metrics[key].values.push_back(value.get<double>());
    }
  }
  return metrics;
}

double take(const std::vector<double>& values, const std::string& how) {
  if (values.empty()) return std::nan("");
  if (how == "first") return values.front();
  if (how == "max") return *std::max_element(values.begin(), values.end());
  if (how == "min") return *std::min_element(values.begin(), values.end());
  if (how == "mean")
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  return values.back();
}

struct Spread {
  double mean = 0.0, deviation = 0.0;  ///< sample deviation, 0 for one value
};

Spread spread_of(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  Spread spread{.mean = std::accumulate(values.begin(), values.end(), 0.0) / n};
  for (const double value : values)
    spread.deviation += (value - spread.mean) * (value - spread.mean);
  spread.deviation = values.size() > 1 ? std::sqrt(spread.deviation / (n - 1)) : 0.0;
  return spread;
}

/// Metrics of every run, read when a figure first asks for them.
class Figures {
 public:
  explicit Figures(std::string output_dir) : output_dir_(std::move(output_dir)) {}

  /// NaN, with a warning, where the run has no such metric.
  double of(const std::string& text, int64_t seed) {
    const auto figure = *parse_figure(text);
    if (figure.number) return *figure.number;
    const auto folder = folder_of(output_dir_, figure.arm, seed);
    if (!runs_.contains(folder.string())) runs_[folder.string()] = read_metrics(folder);
    const auto& metrics = runs_[folder.string()];
    const auto found = metrics.find(figure.metric);
    if (found != metrics.end()) {
      const auto& [steps, values] = found->second;
      const auto end = std::upper_bound(steps.begin(), steps.end(), figure.up_to_step);
      return take({values.begin(), values.begin() + (end - steps.begin())}, figure.take);
    }
    std::vector<std::string> known;
    for (const auto& [name, values] : metrics) known.push_back(name);
    const auto nearest = nearest_name(figure.metric, known);
    log_warn("study: " + folder.string() + " has no metric \"" + figure.metric + "\"" +
             (nearest.empty() ? "" : "; did you mean \"" + nearest + "\"?"));
    return std::nan("");
  }

 private:
  std::string output_dir_;
  std::map<std::string, std::map<std::string, Series>> runs_;
};

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string required_text(const StudyCheck& check) {
  std::string text;
  if (check.at_least) text = ">= " + number_text(*check.at_least);
  if (check.at_most) text += (text.empty() ? "<= " : " and <= ") + number_text(*check.at_most);
  return text;
}

nlohmann::ordered_json number_json(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

/// Seeds, the figures named by the checks, and the checks themselves.
nlohmann::ordered_json results_of(const StudySection& study, const std::string& output_dir,
                                  const std::vector<int64_t>& seeds) {
  Figures figures(output_dir);
  nlohmann::ordered_json json{{"seeds", seeds},
                              {"figures", nlohmann::ordered_json::object()},
                              {"checks", nlohmann::ordered_json::array()}};
  const auto over_seeds = [&](const std::string& text) {
    std::vector<double> values;
    for (const int64_t seed : seeds) values.push_back(figures.of(text, seed));
    return values;
  };
  const auto summary = [](const std::vector<double>& values) {
    const auto spread = spread_of(values);
    auto each = nlohmann::ordered_json::array();
    for (const double value : values) each.push_back(number_json(value));
    return nlohmann::ordered_json{{"values", each},
                                  {"mean", number_json(spread.mean)},
                                  {"deviation", number_json(spread.deviation)}};
  };
  for (const auto& check : study.checks) {
    auto values = over_seeds(check.value);
    for (const auto* text : {&check.value, &check.minus, &check.over, &check.over_minus})
      if (!text->empty() && !parse_figure(*text)->number && !json["figures"].contains(*text))
        json["figures"][*text] = summary(over_seeds(*text));
    if (!check.minus.empty())
      for (size_t i = 0; i < seeds.size(); ++i) values[i] -= figures.of(check.minus, seeds[i]);
    if (!check.over.empty())
      for (size_t i = 0; i < seeds.size(); ++i)
        values[i] /= figures.of(check.over, seeds[i]) -
                     (check.over_minus.empty() ? 0.0 : figures.of(check.over_minus, seeds[i]));
    auto row = summary(values);
    const double mean = spread_of(values).mean;
    row["claim"] = check.claim;
    row["required"] = required_text(check);
    row["reached"] = std::isfinite(mean) && (!check.at_least || mean >= *check.at_least) &&
                     (!check.at_most || mean <= *check.at_most);
    json["checks"].push_back(std::move(row));
  }
  return json;
}

std::string cell(const nlohmann::ordered_json& row) {
  if (row["mean"].is_null()) return "no value";
  return number_text(row["mean"].get<double>()) + " (" +
         number_text(row["deviation"].get<double>()) + ")";
}

void print_table(const nlohmann::ordered_json& results) {
  size_t width = 6;
  for (const auto& [name, row] : results["figures"].items()) width = std::max(width, name.size());
  for (const auto& row : results["checks"])
    width = std::max(width, row["claim"].get_ref<const std::string&>().size());
  const auto n = static_cast<int>(width);
  std::printf("%-*s  mean (deviation over %zu seeds)\n", n, "figure", results["seeds"].size());
  for (const auto& [name, row] : results["figures"].items())
    std::printf("%-*s  %s\n", n, name.c_str(), cell(row).c_str());
  std::printf("\n%-*s  %-20s  %-20s  reached\n", n, "claim", "figure", "required");
  for (const auto& row : results["checks"])
    std::printf("%-*s  %-20s  %-20s  %s\n", n, row["claim"].get_ref<const std::string&>().c_str(),
                cell(row).c_str(), row["required"].get_ref<const std::string&>().c_str(),
                row["reached"].get<bool>() ? "yes" : "NO");
  std::fflush(stdout);
}

}  // namespace

void StudyCheck::fields(FieldVisitor& v) {
  v.field("claim", claim, "What is claimed, in words.");
  v.field("value", value,
          "The figure: arm/metric is the metric's last value in that arm's run; arm/metric@first, "
          "@max, @min, @mean of all its values, @mean:50 of those up to step 50; or a number.");
  v.required("value");
  v.field("minus", minus, "A figure to subtract.");
  v.field("over", over, "A figure to divide by, after the subtraction.");
  v.field("over_minus", over_minus, "A figure to subtract from the divisor.");
  v.field("at_least", at_least, "Least mean over the seeds; null: none.");
  v.field("at_most", at_most, "Largest mean over the seeds; null: none.");
  v.require(at_least || at_most, "at_least", "or at_most must be given");
  v.require(over_minus.empty() || !over.empty(), "over_minus", "needs over");
  for (const auto& [name, text] : {std::pair{"value", &value},
                                   {"minus", &minus},
                                   {"over", &over},
                                   {"over_minus", &over_minus}})
    v.require(text->empty() || parse_figure(*text), name,
              "must be a number or arm/metric, perhaps with @first, @max, @min or @mean, and "
              ":STEP; got \"" +
                  *text + "\"");
}

void StudySection::fields(FieldVisitor& v) {
  v.field("num_seeds", num_seeds, "Runs of each arm, with run.seed, run.seed + 1, ...");
  v.require(num_seeds > 0, "num_seeds", "must be positive");
}

bool Study::is_study(const ConfigNode& recipe) {
  return recipe.has("study") && !recipe.at("study").is_null();
}

namespace {

StudySection read_section(const ConfigNode& node, std::vector<std::string>& problems) {
  auto section =
      read_config<StudySection>(node.with_keys({"arms", "checks"}, /*keep=*/false), problems,
                                /*has_type=*/false);
  const auto arms = node.has("arms") ? node.at("arms") : node.absent("arms");
  if (!arms.is_map() || arms.keys().empty())
    problems.push_back(arms.where() + ": expected a map from names to settings");
  for (const auto& name : arms.keys()) {
    const auto settings = arms.at(name);
    if (!is_name(name))
      problems.push_back(settings.where() + ": a name has letters, digits, - and _ only");
    if (!settings.is_map() && !settings.is_null())
      problems.push_back(settings.where() + ": expected a map from keys to values, or {}");
    section.arms.push_back({name, settings});
  }
  const auto checks = node.has("checks") ? node.at("checks") : node.absent("checks");
  for (const auto& item : checks.items()) {
    section.checks.push_back(read_config<StudyCheck>(item, problems, /*has_type=*/false));
    const auto& check = section.checks.back();
    for (const auto* text : {&check.value, &check.minus, &check.over, &check.over_minus})
      if (const auto figure = parse_figure(*text);
          figure && !figure->number && !arms.has(figure->arm)) {
        const auto nearest = nearest_name(figure->arm, arms.keys());
        problems.push_back(item.where() + ": there is no arm \"" + figure->arm + "\"" +
                           (nearest.empty() ? "" : "; did you mean \"" + nearest + "\"?"));
      }
  }
  return section;
}

/// The recipe of one arm and seed; "{seed}" and "{arm:NAME}" of earlier arms are filled in.
ConfigNode arm_node(const ConfigNode& recipe, const StudySection& study, size_t index,
                    const std::string& output_dir, int64_t seed) {
  const auto& arm = study.arms[index];
  const auto base =
      recipe.with_keys({"study"}, /*keep=*/false)
          .with_overrides({"run.seed=" + std::to_string(seed)})
          .with_settings(arm.settings)
          .with_default("run.run_name", arm.name + ", seed " + std::to_string(seed))
          .with_overrides({"run.output_dir=" + folder_of(output_dir, arm.name, seed).string()});
  return base.with_scalars([&](const std::string& text) {
    auto filled = text;
    TextPattern("{seed}").replace_all(filled, std::to_string(seed));
    for (size_t i = 0; i < index; ++i)
      TextPattern("{arm:" + study.arms[i].name + "}")
          .replace_all(filled, folder_of(output_dir, study.arms[i].name, seed).string());
    if (filled.find("{arm:") != std::string::npos)
      arm.settings.fail("\"" + text + "\" names no arm that stands before " + arm.name);
    return filled;
  });
}

/// The lines of `text` that `problems` does not hold yet.
void add_lines(const std::string& text, std::vector<std::string>& problems) {
  size_t at = 0;
  while (at <= text.size()) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = text.substr(at, end - at);
    if (std::find(problems.begin(), problems.end(), line) == problems.end())
      problems.push_back(line);
    at = end + 1;
  }
}

}  // namespace

Study Study::from_node(const ConfigNode& recipe) {
  Study study;
  std::vector<std::string> problems;
  study.study_ = read_section(recipe.at("study"), problems);
  study.section_ = read_config<RunSection>(
      recipe.has("run") ? recipe.at("run") : recipe.absent("run"), problems, /*has_type=*/false);
  const auto& section = study.section_;
  for (int64_t i = 0; i < study.study_.num_seeds; ++i) {
    for (size_t arm = 0; arm < study.study_.arms.size(); ++arm) {
      try {
        const auto node = arm_node(recipe, study.study_, arm, section.output_dir, section.seed + i);
        study.runs_.push_back({.arm = study.study_.arms[arm].name,
                               .seed = section.seed + i,
                               .recipe = Recipe::from_node(node)});
      } catch (const ConfigError& e) {
        add_lines(e.what(), problems);
      }
    }
  }
  throw_problems(problems);
  return study;
}

std::string Study::to_yaml() const {
  std::string yaml;
  for (const auto& run : runs_)
    if (run.seed == first_seed()) yaml += "--- # arm " + run.arm + "\n" + run.recipe.to_yaml();
  return yaml;
}

int Study::run(const TrainOptions& options) const {
  return with_processes(section_, runs_.front().recipe.model.device, [&](Communicator& comm) {
    for (const auto& each : runs_) {
      const bool done =
          options.resume && fs::exists(fs::path(each.recipe.run.output_dir) / "final");
      if (done) continue;
      log_info("study: arm " + each.arm + ", seed " + std::to_string(each.seed));
      if (const int code = run_recipe(each.recipe, comm, options); code != 0) return code;
    }
    if (!comm.is_main()) return 0;
    std::vector<int64_t> seeds(static_cast<size_t>(study_.num_seeds));
    std::iota(seeds.begin(), seeds.end(), first_seed());
    const auto results = results_of(study_, section_.output_dir, seeds);
    const auto path = fs::path(section_.output_dir) / "results.json";
    write_file_atomic(path, results.dump(2) + "\n");
    print_table(results);
    log_info("results: " + path.string());
    return 0;
  });
}

}  // namespace meed
