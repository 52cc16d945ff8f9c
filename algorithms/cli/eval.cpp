#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "algorithms/cli/command.h"
#include "algorithms/evaluation.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/log.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/distributed/communicator.h"

namespace meed::cli {
namespace {

void print_table(const std::vector<EvaluationResult>& results) {
  size_t model_width = 5, metric_width = 6;
  for (const auto& each : results) {
    model_width = std::max(model_width, each.model.size());
    metric_width = std::max(metric_width, each.metric.size());
  }
  std::printf("%-*s  %-*s  %10s  %23s  %7s\n", static_cast<int>(model_width), "model",
              static_cast<int>(metric_width), "metric", "value", "95 % interval", "count");
  for (const auto& each : results) {
    char interval[64] = "";
    if (!std::isnan(each.low))
      std::snprintf(interval, sizeof interval, "[%10.4f, %9.4f]", each.low, each.high);
    std::printf("%-*s  %-*s  %10.4f  %23s  %7lld\n", static_cast<int>(model_width),
                each.model.c_str(), static_cast<int>(metric_width), each.metric.c_str(), each.value,
                interval, static_cast<long long>(each.count));
  }
}

void evaluate(const std::string& config, const std::vector<std::string>& overrides) {
  const auto recipe = EvaluationRecipe::load(config, overrides);
  if (recipe.models.empty()) throw ConfigError(config + ": models: name at least one model");
  const auto comm = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics;
  RunContext context{.comm = *comm,
                     .metrics = metrics,
                     .device = at::kCPU,
                     .seed = static_cast<uint64_t>(recipe.seed),
                     .output_dir = recipe.output_dir};
  const auto evaluation = evaluations().create(*recipe.evaluation, context);
  const auto results = evaluation->run(recipe, context);
  print_table(results);
  auto json = nlohmann::ordered_json::array();
  for (const auto& each : results)
    json.push_back({{"model", each.model},
                    {"metric", each.metric},
                    {"value", each.value},
                    {"low", each.low},
                    {"high", each.high},
                    {"count", each.count}});
  std::filesystem::create_directories(recipe.output_dir);
  const auto path = std::filesystem::path(recipe.output_dir) / "results.json";
  write_file_atomic(path, json.dump(2) + "\n");
  log_info("results: " + path.string());
}

void setup(CLI::App& app) {
  auto config = std::make_shared<std::string>();
  auto overrides = std::make_shared<std::vector<std::string>>();
  app.add_option("CONFIG", *config, "Recipe of an evaluation (YAML)")->required();
  app.add_option("overrides", *overrides, "Settings key=value");
  app.callback([=] { evaluate(*config, *overrides); });
}

const bool registered =
    add_command({"eval", "Run an evaluation; prints a table and writes results.json", setup});

}  // namespace
}  // namespace meed::cli
