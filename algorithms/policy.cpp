#include "algorithms/policy.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "algorithms/offline_trainer.h"
#include "algorithms/training_run.h"
#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/core/cuda_library.h"
#include "libpolicy/core/error.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/models/lora.h"
#include "libpolicy/models/save_model.h"

namespace meed {

at::ScalarType parse_dtype(const std::string& name) {
  if (name == "bfloat16") return at::kBFloat16;
  return name == "float16" ? at::kHalf : at::kFloat;
}

LoadOptions load_options(const ModelSection& section, bool trainable) {
  return {.dtype = parse_dtype(section.dtype),
          .trainable = trainable,
          .activation_checkpointing = section.gradient_checkpointing,
          .device = parse_device(section.device, LaunchEnv::from_environment().local_rank)};
}

Policy::Policy(const Recipe& recipe, uint64_t seed) : config_(recipe.model), lora_(recipe.lora) {
  const bool adapter = lora_.r > 0;
  model_ = CausalLm::load(config_.path, load_options(config_, /*trainable=*/!adapter));
  if (adapter) {
    add_lora(*model_, {.rank = lora_.r,
                       .alpha = lora_.lora_alpha,
                       .use_rslora = lora_.use_rslora,
                       .target_modules = lora_.target_modules,
                       .seed = seed});
    adapter_ = {.r = lora_.r,
                .lora_alpha = lora_.lora_alpha,
                .use_rslora = lora_.use_rslora,
                .target_modules = lora_.target_modules,
                .base_model = config_.path};
  }
}

namespace {

/// The same with the reference's weights beside the policy's in checkpoints.
TrainableModel with_reference_in_checkpoints(TrainableModel model,
                                             const std::function<CausalLm&()>& reference) {
  static constexpr const char* kFolder = "reference";
  model.save_exact = [save = model.save_exact, reference](const std::filesystem::path& folder) {
    save(folder);
    std::filesystem::create_directory(folder / kFolder);
    save_model(folder / kFolder, reference(), /*tokenizer=*/nullptr, at::kFloat);
  };
  model.load = [load = model.load, reference](const std::filesystem::path& folder) {
    load(folder);
    load_parameters(folder / kFolder, reference().parameters());
    reference().sync_compute_weights();
  };
  return model;
}

}  // namespace

TrainableModel Policy::trainable(const TrainingRun& run, bool moving_reference) {
  moving_reference_ = moving_reference;
  if (moving_reference && adapter_.r > 0)
    throw ConfigError(
        "lora.r: sync_ref_model needs a reference with weights of its own; leave the lora section "
        "out");
  const auto sync = [this] { model_->sync_compute_weights(); };
  const auto save = [this, &run](const std::filesystem::path& folder, at::ScalarType dtype) {
    save_model(folder, *model_, &run.tokenizer(), dtype, adapter_.r > 0 ? &adapter_ : nullptr);
  };
  if (adapter_.r == 0) {
    TrainableModel model{
        .parameters = model_->parameters().trainable(),
        .sync = sync,
        .save =
            [=, this](const std::filesystem::path& folder) {
              save(folder, parse_dtype(config_.export_dtype));
            },
        .save_exact = [=](const std::filesystem::path& folder) { save(folder, at::kFloat); },
        .load =
            [this](const std::filesystem::path& folder) {
              load_parameters(folder, model_->parameters());
            }};
    if (!moving_reference) return model;
    return with_reference_in_checkpoints(std::move(model),
                                         [this]() -> CausalLm& { return reference(); });
  }
  // final/ holds the merged model, and the adapter alone beside it.
  return {
      .parameters = lora_parameters(*model_),
      .sync = sync,
      .save =
          [=, this](const std::filesystem::path& folder) {
            save(folder, parse_dtype(config_.export_dtype));
            std::filesystem::create_directory(folder / "adapter");
            save_adapter(folder / "adapter", *model_, adapter_);
          },
      .save_exact =
          [this](const std::filesystem::path& folder) { save_adapter(folder, *model_, adapter_); },
      .load = [this](const std::filesystem::path& folder) { load_adapter(folder, *model_); }};
}

at::Tensor Policy::with_reference(const std::function<at::Tensor(CausalLm&)>& work) {
  at::NoGradGuard no_grad;
  if (lora_.r > 0) {
    const AdaptersDisabled disabled(*model_);
    return work(*model_);
  }
  return work(reference());
}

CausalLm& Policy::reference() {
  // One that moves has float32 masters, so that small shares of the policy are not rounded away.
  if (!reference_)
    reference_ = CausalLm::load(config_.path, load_options(config_, moving_reference_));
  return *reference_;
}

void Policy::sync_reference(double alpha) {
  MEED_CHECK(moving_reference_, "the reference does not move");
  at::NoGradGuard no_grad;
  const auto& source = model_->parameters().items();
  const auto& target = reference().parameters().items();
  MEED_CHECK(source.size() == target.size(), "policy and reference differ");
  for (size_t i = 0; i < source.size(); ++i)
    target[i].second.detach().lerp_(source[i].second.detach(), alpha);
  reference().sync_compute_weights();
}

void Policy::release_reference() { reference_.reset(); }

void load_parameters(const std::filesystem::path& folder, ParameterStore& parameters) {
  at::NoGradGuard no_grad;
  const auto files = ModelFiles::open(folder);
  for (const auto& [name, tensor] : parameters.items()) {
    const auto value = files->load(name, at::kFloat);
    if (value.sizes() != tensor.sizes())
      throw DataError(folder.string() + ": " + name +
                      " has another shape; the checkpoint belongs to another model");
    tensor.detach().copy_(value);
  }
}

bool truncate(EncodedRow& row, int64_t max_length, bool keep_start) {
  bool cut = false;
  const auto limit = static_cast<size_t>(max_length);
  for (auto& completion : row.completion_ids) {
    const size_t total = row.prompt_ids.size() + completion.size();
    if (total <= limit) continue;
    cut = true;
    if (keep_start) {
      completion.resize(row.prompt_ids.size() < limit ? limit - row.prompt_ids.size() : 0);
    } else if (completion.size() > limit) {
      completion.erase(completion.begin(), completion.end() - max_length);
    }
  }
  size_t longest = 0;
  for (const auto& completion : row.completion_ids) longest = std::max(longest, completion.size());
  if (row.prompt_ids.size() + longest > limit) {
    // keep_start: the prompt alone is too long. keep_end: it gives way to the longest completion.
    const auto excess = static_cast<int64_t>(row.prompt_ids.size() + longest - limit);
    if (keep_start)
      row.prompt_ids.resize(row.prompt_ids.size() - static_cast<size_t>(excess));
    else
      row.prompt_ids.erase(row.prompt_ids.begin(), row.prompt_ids.begin() + excess);
  }
  return cut;
}

}  // namespace meed
