#include <ATen/Parallel.h>
#include <c10/util/StringUtil.h>
#include <dlfcn.h>
#include <sys/statvfs.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "algorithms/cli/command.h"
#include "algorithms/report/environment.h"
#include "libpolicy/core/cuda_library.h"
#include "libpolicy/core/error.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/models/products.h"

namespace meed::cli {
namespace {

/// One line of the findings. What is missing comes with the command that mends it.
struct Finding {
  std::string name, value, mend;
  bool good = true;
};

std::string instruction_sets() {
  const auto found = c10::Join(" ", cpu_features());
  return found.empty() ? "none of avx2, avx512, amx: float32 and bfloat16 will be slow" : found;
}

std::string gibibytes(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", bytes / (1 << 30));
  return text;
}

Finding memory() {
  const double total = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                       static_cast<double>(::sysconf(_SC_PAGE_SIZE));
  constexpr double kWanted = 6.0 * (1 << 30);
  return {"memory", gibibytes(total),
          "the quickstart needs about 4 GiB; use a smaller optim.max_tokens_per_micro_batch",
          total >= kWanted};
}

Finding disk() {
  struct statvfs status {};
  ::statvfs(".", &status);
  const double free = static_cast<double>(status.f_bavail) * static_cast<double>(status.f_frsize);
  constexpr double kWanted = 3.0 * (1 << 30);
  return {"free disk", gibibytes(free),
          "checkpoints of the quickstart take 3 GiB; free some space or set run.save_steps: 0",
          free >= kWanted};
}

Finding gpu() {
  if (::dlopen("libcuda.so.1", RTLD_LAZY) == nullptr)
    return {"gpu", "no GPU driver; runs use the CPU and Gloo", ""};
  try {
    return {"gpu", std::to_string(num_gpus("model.device: cuda")) + ", libmeed_cuda.so loads", ""};
  } catch (const ConfigError& e) {
    return {"gpu", "a driver is there, libmeed_cuda.so is not; runs use the CPU", e.what(), false};
  }
}

Finding model(const std::string& name, const std::string& path) {
  const bool there = std::filesystem::exists(path);
  return {name, there ? path : "missing", "scripts/setup.sh", there};
}

std::vector<Finding> examine() {
  std::vector<Finding> findings = {
      {"meed", MEED_VERSION, ""},
      {"libtorch", TORCH_VERSION, ""},
      {"processor", cpu_model(), ""},
      {"features", instruction_sets(), ""},
      {"bfloat16",
       has_bfloat16_products() ? "products by oneDNN"
                               : "products in float32 (no avx512_bf16): training is no faster for it",
       ""},
      {"threads",
       std::to_string(at::get_num_threads()) + " of " +
           std::to_string(::sysconf(_SC_NPROCESSORS_ONLN)),
       ""},
      memory(),
      disk(),
      {"gloo", "built in", ""},
      gpu()};
  try {
    const auto env = LaunchEnv::from_environment();
    findings.push_back(
        {"launcher", env.launcher + ", " + std::to_string(env.world_size) + " process(es)", ""});
  } catch (const std::exception& e) {
    findings.push_back({"launcher", e.what(),
                        "unset these variables, or start by torchrun --no-python --nproc-per-node "
                        "N meed train ...",
                        false});
  }
  findings.push_back(model("model of the quickstart", ".deps/models/smollm2-135m-instruct.gguf"));
  findings.push_back(model("encoder", ".deps/models/all-minilm-l6-v2"));
  return findings;
}

void setup(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  app.add_flag("--json", *json, "One JSON array");
  app.callback([json] {
    const auto findings = examine();
    bool good = true;
    auto array = nlohmann::ordered_json::array();
    for (const auto& each : findings) {
      good = good && each.good;
      array.push_back({{"name", each.name},
                       {"value", each.value},
                       {"ok", each.good},
                       {"mend", each.good ? "" : each.mend}});
      if (!*json)
        std::printf("%-4s %-24s %s%s%s\n", each.good ? "ok" : "!!", each.name.c_str(),
                    each.value.c_str(),
                    each.good ? "" : "\n       to mend it: ", each.good ? "" : each.mend.c_str());
    }
    if (*json) std::printf("%s\n", array.dump(2).c_str());
    if (!good) throw CLI::RuntimeError(1);
  });
}

const bool registered = add_command(
    {"doctor", "Versions, processor, backends; what is missing and how to mend it", setup});

}  // namespace
}  // namespace meed::cli
