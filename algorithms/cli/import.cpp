#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <filesystem>
#include <memory>

#include "algorithms/cli/command.h"
#include "algorithms/policy.h"
#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libpolicy/models/save_model.h"
#include "libpolicy/text/tokenizer.h"
#include "libreward/models/reward_model.h"
#include "libreward/models/sequence_classifier.h"

namespace meed::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string source, target, dtype = "float32", adapter, extrapolate_from;
  double extrapolation = 0.3;
  bool force = false;
};

/// ExPO (Zheng et al. 2024, https://arxiv.org/abs/2404.16792): a model further along the way that
/// its training took, init + (1 + extrapolation) (tuned - init). What the first model does not
/// have, such as a reward head, stays as it is.
void extrapolate(ParameterStore& tuned, const Options& options) {
  if (options.extrapolate_from.empty()) return;
  at::NoGradGuard no_grad;
  const auto init = ModelFiles::open(options.extrapolate_from);
  int64_t moved = 0;
  for (const auto& [name, tensor] : tuned.items()) {
    const auto stored = init->stored_name(name);
    if (!init->has(stored)) continue;
    const auto before = init->load(stored, at::kFloat);
    if (before.sizes() != tensor.sizes())
      throw DataError(init->where() + stored + ": " + c10::str(before.sizes()) +
                      ", the tuned model has " + c10::str(tensor.sizes()) +
                      "; is it the model that training began with?");
    tensor.detach().copy_(before + (tensor - before) * (1.0 + options.extrapolation));
    ++moved;
  }
  if (moved == 0)
    throw DataError(init->where() + "has none of the parameters of " + options.source);
  log_info("extrapolated " + std::to_string(moved) + " of " + std::to_string(tuned.items().size()) +
           " parameters");
}

/// Reads and writes the model into a folder of its own, renamed when it is whole.
void import_model(const Options& options) {
  const fs::path target = options.target;
  if (fs::exists(target) && !(fs::is_directory(target) && fs::is_empty(target)) && !options.force)
    throw ConfigError(options.target + ": exists and is not empty; give --force to replace it");
  const auto files = ModelFiles::open(options.source);
  const auto temporary = fs::path(target.string() + ".tmp");
  fs::remove_all(temporary);
  fs::create_directories(temporary);
  try {
    std::unique_ptr<Tokenizer> tokenizer;
    try {
      tokenizer = Tokenizer::load(options.source);
    } catch (const DataError& e) {
      log_warn(std::string("no tokenizer is written: ") + e.what());
    }
    const auto dtype = parse_dtype(options.dtype);
    // A reward model whose head transformers does not have; see RewardModel.
    const bool has_own_head = fs::exists(fs::path(options.source) / "meed.json");
    if ((has_own_head || files->has("score.weight")) && !options.adapter.empty())
      throw ConfigError(
          "--merge-adapter: the model is a classifier; only language models take an adapter");
    if (has_own_head) {
      const auto model = RewardModel::load(options.source, {});
      extrapolate(model->parameters(), options);
      model->save(temporary, tokenizer.get(), dtype);
    } else if (files->has("score.weight")) {
      const auto labels = files->load("score.weight", at::kFloat).size(0);
      const auto model = SequenceClassifier::load(options.source, {}, labels, /*seed=*/0);
      extrapolate(model->parameters(), options);
      model->save(temporary, tokenizer.get(), dtype);
    } else {
      const auto model = CausalLm::load(*files);
      if (!options.adapter.empty()) merge_adapter(options.adapter, *model);
      extrapolate(model->parameters(), options);
      save_model(temporary, *model, tokenizer.get(), dtype);
    }
    if (fs::exists(target)) fs::remove_all(target);
    if (target.has_parent_path()) fs::create_directories(target.parent_path());
    fs::rename(temporary, target);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  log_info("written: " + options.target);
}

void setup(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("SRC", options->source, "Hugging Face folder or .gguf file")->required();
  app.add_option("DST", options->target, "Folder to write")->required();
  app.add_option("--dtype", options->dtype, "Dtype of the weights written")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}))
      ->capture_default_str();
  app.add_option("--merge-adapter", options->adapter,
                 "PEFT folder whose LoRA adapter is merged in");
  app.add_option("--extrapolate-from", options->extrapolate_from,
                 "The model that SRC was trained from: writes a model further along (ExPO)");
  app.add_option("--extrapolation", options->extrapolation,
                 "How much further, as a share of the way from it to SRC")
      ->capture_default_str();
  app.add_flag("--force", options->force, "Replace DST if it exists");
  app.callback([options] { import_model(*options); });
}

const bool registered =
    add_command({"import", "Any readable model to a Hugging Face folder", setup});

}  // namespace
}  // namespace meed::cli
