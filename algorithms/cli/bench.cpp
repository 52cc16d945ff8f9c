#include "algorithms/cli/bench.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "algorithms/cli/command.h"
#include "libpolicy/core/error.h"

namespace meed::cli {
namespace {

std::vector<Bench>& benches() {
  static std::vector<Bench> registered;
  return registered;
}

double boot_clock_s() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Field 22 of /proc/self/stat: ticks from boot to the start of this process.
double process_start_s() {
  std::ifstream file("/proc/self/stat");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 2)));
  std::string field;
  for (int i = 3; i <= 22 && fields >> field; ++i) {
  }
  return field.empty() ? boot_clock_s()
                       : std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

void print_result(const Bench& bench, const BenchOptions& options, const BenchResult& result) {
  auto sorted = result.all_s;
  std::sort(sorted.begin(), sorted.end());
  const double median = sorted.empty() ? 0.0 : sorted[sorted.size() / 2];
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  nlohmann::ordered_json json{{"bench", bench.name},
                              {"dtype", options.dtype},
                              {"device", options.device},
                              {"seconds_per_step", median},
                              {"tokens_per_s", median > 0 ? result.tokens / median : 0.0},
                              {"all", result.all_s},
                              {"peak_rss_mb", static_cast<double>(usage.ru_maxrss) / 1024.0},
                              {"start_to_first_step_s", result.start_to_first_step_s}};
  for (const auto& [name, value] : result.extra) json[name] = value;
  std::cout << json.dump() << std::endl;
}

void setup(CLI::App& app) {
  app.require_subcommand(1);
  std::sort(benches().begin(), benches().end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  for (const auto& bench : benches()) {
    auto* sub = app.add_subcommand(bench.name, bench.help);
    auto options = std::make_shared<BenchOptions>();
    sub->add_option("--model", options->model, "Hugging Face folder or .gguf file")->required();
    sub->add_option("--dtype", options->dtype, "what to compute in")
        ->check(CLI::IsMember({"float32", "bfloat16"}))
        ->capture_default_str();
    sub->add_option("--device", options->device, "where to train (generation is the CPU's)")
        ->check(CLI::IsMember({"cpu", "cuda"}))
        ->capture_default_str();
    const auto count = [&](const char* flag, int64_t& value, const char* help) {
      sub->add_option(flag, value, help)->check(CLI::PositiveNumber)->capture_default_str();
    };
    count("--batch", options->batch, "sequences, or pairs, at a time");
    count("--tokens", options->tokens, "tokens of a training sequence");
    count("--prompt-tokens", options->prompt_tokens, "tokens of a prompt");
    count("--new-tokens", options->new_tokens, "tokens to generate");
    count("--generations", options->generations, "completions of a prompt");
    count("--turns", options->turns, "turns of each sequence, --new-tokens each (generate)");
    count("--reply-tokens", options->reply_tokens, "tokens that stand between two turns");
    sub->add_flag(
        "--recompute-turns", options->recompute_turns,
        "compute the whole conversation anew at each turn, without the cache of the last");
    count("--steps", options->steps, "repeats to measure");
    sub->callback([options, bench] { print_result(bench, *options, bench.run(*options)); });
  }
}

const bool registered =
    add_command({"bench", "Speed and memory of one kind of work; the last line is JSON", setup});

}  // namespace

bool add_bench(Bench bench) {
  benches().push_back(std::move(bench));
  return true;
}

double seconds_since_start() {
  static const double start = process_start_s();
  return boot_clock_s() - start;
}

}  // namespace meed::cli
