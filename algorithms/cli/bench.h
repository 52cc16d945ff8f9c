#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace meed::cli {

/// Flags of `meed bench KIND`: those of the peers' scripts. Each kind reads what it needs.
struct BenchOptions {
  std::string model, dtype = "float32", device = "cpu";
  int64_t batch = 4, tokens = 512, prompt_tokens = 64, new_tokens = 128, generations = 8, steps = 5;
  int64_t turns = 1, reply_tokens = 32;
  bool recompute_turns = false;
};

/// What a kind measured; the program prints it as one JSON object, the last line of its output.
struct BenchResult {
  std::vector<double> all_s;         ///< seconds of every repeat, without the warm-up
  double tokens = 0;                 ///< tokens of one repeat
  double start_to_first_step_s = 0;  ///< from the start of the process to the end of its first step
  std::vector<std::pair<std::string, double>> extra;  ///< further numbers
};

/// `meed bench NAME`: its .cpp file adds itself, as commands do:
///   const bool registered = add_bench({"train-step", "...", run});
struct Bench {
  std::string name, help;
  std::function<BenchResult(const BenchOptions&)> run;
};
bool add_bench(Bench bench);

/// Seconds since the process began.
double seconds_since_start();

}  // namespace meed::cli
