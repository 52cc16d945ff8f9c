#include "algorithms/report/report_data.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "algorithms/report/jsonl_log.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct Curve {
  std::vector<double> steps, values;
};

/// What is read of metrics.jsonl.
struct Metrics {
  std::map<std::string, Curve> curves;
  std::map<std::string, int64_t> num_null;  ///< values that were not finite, by key
  int64_t num_steps = 0, last_step = 0, num_damaged = 0;
};

Metrics read_metrics(const fs::path& file) {
  Metrics metrics;
  metrics.num_damaged = for_each_step_line(file, [&](const std::string& line, int64_t step) {
    ++metrics.num_steps;
    metrics.last_step = std::max(metrics.last_step, step);
    const auto object = nlohmann::json::parse(line);
    for (const auto& [key, value] : object.items()) {
      if (key == "step") continue;
      if (value.is_null()) ++metrics.num_null[key];
      if (!value.is_number()) continue;
      metrics.curves[key].steps.push_back(static_cast<double>(step));
      metrics.curves[key].values.push_back(value.get<double>());
    }
  });
  return metrics;
}

Json curve_as_json(const Curve& curve, size_t max_points) {
  Json x = Json::array(), y = Json::array();
  for (const size_t i : downsample(curve.steps, curve.values, max_points)) {
    x.push_back(static_cast<int64_t>(curve.steps[i]));
    y.push_back(static_cast<float>(curve.values[i]));  // six digits are enough to draw
  }
  const auto [least, most] = std::minmax_element(curve.values.begin(), curve.values.end());
  return Json{{"x", std::move(x)},
              {"y", std::move(y)},
              {"min", *least},
              {"max", *most},
              {"first", curve.values.front()},
              {"last", curve.values.back()},
              {"count", curve.values.size()}};
}

/// At most `max_bytes`, cut between characters, with a note of what was left out.
std::string shortened(const std::string& text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  size_t end = max_bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "\n[... " + std::to_string(text.size() - end) + " more bytes]";
}

/// Which steps of the training phase are shown, if not all fit.
class CompletionChoice {
 public:
  CompletionChoice(const fs::path& file, size_t max_completions);
  bool takes(const std::string& phase, int64_t step);
  int64_t num_total() const { return num_total_; }
  int64_t num_damaged() const { return num_damaged_; }

 private:
  size_t room_, room_for_evaluation_;
  std::set<int64_t> train_steps_;
  int64_t num_total_ = 0, num_damaged_ = 0;
};

std::string phase_of(const nlohmann::json& row) {
  const auto phase = row.find("phase");
  return phase != row.end() && phase->is_string() ? phase->get<std::string>() : "train";
}

CompletionChoice::CompletionChoice(const fs::path& file, size_t max_completions)
    : room_(max_completions), room_for_evaluation_(max_completions / 2) {
  std::map<int64_t, size_t> train;
  size_t num_evaluation = 0;
  num_damaged_ = for_each_step_line(file, [&](const std::string& line, int64_t step) {
    ++num_total_;
    if (phase_of(nlohmann::json::parse(line)) == "train")
      ++train[step];
    else
      ++num_evaluation;
  });
  const size_t room = max_completions - std::min(num_evaluation, room_for_evaluation_);
  for (size_t stride = 1;; ++stride) {
    size_t index = 0, sum = 0;
    train_steps_.clear();
    for (const auto& [step, count] : train)
      if (index++ % stride == 0 || index == train.size()) {
        sum += count;
        train_steps_.insert(step);
      }
    if (sum <= room || stride >= train.size()) return;
  }
}

bool CompletionChoice::takes(const std::string& phase, int64_t step) {
  if (phase == "train" ? train_steps_.count(step) == 0 : room_for_evaluation_ == 0) return false;
  if (room_ == 0) return false;
  --room_;
  if (phase != "train") --room_for_evaluation_;
  return true;
}

std::string text_of(const nlohmann::json& row, const char* key, size_t max_bytes) {
  const auto value = row.find(key);
  if (value == row.end() || value->is_null()) return "";
  return shortened(value->is_string() ? value->get<std::string>() : value->dump(), max_bytes);
}

nlohmann::json number_of(const nlohmann::json& row, const char* key) {
  const auto value = row.find(key);
  return value != row.end() && value->is_number() ? *value : nlohmann::json(nullptr);
}

/// Prompts stand once: a group shares its prompt.
Json completions_as_json(const fs::path& file, const ReportLimits& limits,
                         std::vector<std::string>& problems) {
  CompletionChoice choice(file, limits.max_completions);
  Json prompts = Json::array(), rows = Json::array();
  std::unordered_map<std::string, size_t> index_of;
  for_each_step_line(file, [&](const std::string& line, int64_t step) {
    const auto row = nlohmann::json::parse(line);
    const std::string phase = phase_of(row);
    if (!choice.takes(phase, step)) return;
    const std::string prompt = text_of(row, "prompt", limits.max_text_bytes);
    const auto [entry, is_new] = index_of.emplace(prompt, prompts.size());
    if (is_new) prompts.push_back(prompt);
    Json shown{{"step", step}, {"phase", phase}, {"prompt", entry->second}};
    shown["completion"] = text_of(row, "completion", limits.max_text_bytes);
    for (const char* key : {"reward", "advantage", "num_tokens"}) shown[key] = number_of(row, key);
    shown["rewards"] = Json::object();
    if (const auto rewards = row.find("rewards"); rewards != row.end() && rewards->is_object())
      for (const auto& [name, value] : rewards->items())
        shown["rewards"][name] = value.is_number() ? value : nlohmann::json(nullptr);
    shown["finish_reason"] = text_of(row, "finish_reason", 100);
    shown["answer"] = text_of(row, "answer", 1000);
    rows.push_back(std::move(shown));
  });
  if (choice.num_damaged() > 0)
    problems.push_back("completions.jsonl: " + std::to_string(choice.num_damaged()) +
                       " damaged line(s) left out");
  return Json{
      {"total", choice.num_total()}, {"prompts", std::move(prompts)}, {"rows", std::move(rows)}};
}

/// Lines of inspection.jsonl: what evaluations of a reward model saw. First and last, and what fits
/// evenly in between.
Json inspection_as_json(const fs::path& file, std::vector<std::string>& problems) {
  constexpr size_t kMaxLines = 50;
  std::vector<Json> lines;
  const auto num_damaged = for_each_step_line(
      file, [&](const std::string& line, int64_t) { lines.push_back(Json::parse(line)); });
  if (num_damaged > 0)
    problems.push_back("inspection.jsonl: " + std::to_string(num_damaged) +
                       " damaged line(s) left out");
  Json shown = Json::array();
  const size_t count = std::min(kMaxLines, lines.size());
  for (size_t i = 0; i < count; ++i)
    shown.push_back(std::move(lines[count > 1 ? i * (lines.size() - 1) / (count - 1) : 0]));
  return shown;
}

Json read_environment(const fs::path& file, std::vector<std::string>& problems) {
  if (!fs::exists(file)) {
    problems.push_back(
        "environment.json is missing: machine, command line and number of steps are not known");
    return Json::object();
  }
  auto json = Json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (json.is_object()) return json;
  problems.push_back("environment.json is damaged: not a JSON object");
  return Json::object();
}

void note_metric_problems(const Metrics& metrics, bool exists, std::vector<std::string>& problems) {
  if (!exists)
    problems.push_back("metrics.jsonl is missing: there are no curves");
  else if (metrics.num_steps == 0)
    problems.push_back("metrics.jsonl has no step yet");
  if (metrics.num_damaged > 0)
    problems.push_back("metrics.jsonl: " + std::to_string(metrics.num_damaged) +
                       " damaged line(s) left out");
  for (const auto& [key, count] : metrics.num_null)
    problems.push_back(key + " was not a finite number at " + std::to_string(count) + " step(s)");
}

std::string folder_name(const fs::path& folder) {
  const fs::path normal = fs::absolute(folder).lexically_normal();
  return normal.has_filename() ? normal.filename().string()
                               : normal.parent_path().filename().string();
}

}  // namespace

std::vector<size_t> downsample(std::span<const double> x, std::span<const double> y,
                               size_t max_points) {
  const size_t n = x.size();
  std::vector<size_t> kept;
  if (n <= max_points || max_points < 3) {
    for (size_t i = 0; i < n; ++i) kept.push_back(i);
    return kept;
  }
  kept.push_back(0);
  const double width = static_cast<double>(n - 2) / static_cast<double>(max_points - 2);
  const auto bucket_start = [&](size_t bucket) {
    return 1 + static_cast<size_t>(static_cast<double>(bucket) * width);
  };
  for (size_t bucket = 0; bucket + 2 < max_points; ++bucket) {
    const size_t begin = bucket_start(bucket), end = std::min(bucket_start(bucket + 1), n - 1);
    const size_t next_end = std::min(bucket_start(bucket + 2), n);
    double next_x = 0, next_y = 0;
    for (size_t i = end; i < next_end; ++i) next_x += x[i], next_y += y[i];
    next_x /= static_cast<double>(next_end - end);
    next_y /= static_cast<double>(next_end - end);
    const double last_x = x[kept.back()], last_y = y[kept.back()];
    size_t best = begin;
    double best_area = -1;
    for (size_t i = begin; i < end; ++i) {
      const double area =
          std::fabs((last_x - next_x) * (y[i] - last_y) - (last_x - x[i]) * (next_y - last_y));
      if (area > best_area) best_area = area, best = i;
    }
    kept.push_back(best);
  }
  kept.push_back(n - 1);
  return kept;
}

std::string run_as_json(const fs::path& folder, const ReportLimits& limits) {
  if (!fs::is_directory(folder))
    throw DataError(folder.string() + ": not a folder; meed report takes the output_dir of a run");
  const auto has = [&](const char* name) { return fs::exists(folder / name); };
  if (!has("metrics.jsonl") && !has("completions.jsonl") && !has("environment.json") &&
      !has("config.yaml"))
    throw DataError(folder.string() +
                    ": not a run: it holds neither metrics.jsonl, completions.jsonl, "
                    "environment.json nor config.yaml");
  std::vector<std::string> problems;
  const Metrics metrics = read_metrics(folder / "metrics.jsonl");
  note_metric_problems(metrics, has("metrics.jsonl"), problems);
  const Json environment = read_environment(folder / "environment.json", problems);
  if (!has("config.yaml")) problems.push_back("config.yaml is missing: the recipe is not known");
  const auto text = [&](const char* key) {
    return environment.contains(key) && environment[key].is_string()
               ? environment[key].get<std::string>()
               : std::string();
  };
  int64_t total_steps = 0;
  if (environment.contains("total_steps") && environment["total_steps"].is_number_integer())
    total_steps = environment["total_steps"].get<int64_t>();
  if (total_steps > 0 && metrics.last_step < total_steps)
    problems.push_back("unfinished: step " + std::to_string(metrics.last_step) + " of " +
                       std::to_string(total_steps));

  Json run;
  run["name"] = text("run_name").empty() ? folder_name(folder) : text("run_name");
  run["folder"] = folder_name(folder);
  run["algorithm"] = text("algorithm");
  run["total_steps"] = total_steps;
  run["last_step"] = metrics.last_step;
  run["curves"] = Json::object();
  for (const auto& [key, curve] : metrics.curves)
    run["curves"][key] = curve_as_json(curve, limits.max_points);
  run["completions"] = completions_as_json(folder / "completions.jsonl", limits, problems);
  run["inspection"] = inspection_as_json(folder / "inspection.jsonl", problems);
  run["config"] = has("config.yaml") ? read_file(folder / "config.yaml") : "";
  run["environment"] = environment;
  run["problems"] = problems;
  return run.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace meed
