#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "algorithms/monitors/hacking_monitor.h"
#include "libpolicy/core/config.h"

namespace meed {

/// `run:` where a run writes, how long it is, when it saves and evaluates.
struct RunSection {
  std::string output_dir;
  std::string run_name;
  int64_t seed = 42;
  int64_t max_steps = -1;
  double num_train_epochs = 3.0;
  int64_t save_steps = 500;
  std::optional<int64_t> save_total_limit = 2;
  std::optional<int64_t> eval_steps;
  bool eval_on_start = false;
  std::optional<std::string> metric_for_best_model;
  bool greater_is_better = true;
  double ddp_timeout = 1800.0;
  std::string backend = "auto";
  std::string on_nan = "stop";
  int64_t num_completions_to_log = 16, num_eval_completions_to_log = 200;
  void fields(FieldVisitor& v);
};

/// `model:` the policy (or the backbone of the reward model).
struct ModelSection {
  /// A small model of random weights in place of the one at `path`, whose tokenizer it reads.
  struct FromScratch {
    int64_t hidden_size = 0;  ///< 0: off
    int64_t num_hidden_layers = 2, num_attention_heads = 4, max_position_embeddings = 1024;
    double initializer_range = 0.02;
    void fields(FieldVisitor& v);
  };
  std::string path;
  FromScratch from_scratch;
  std::string device = "cpu";
  std::string dtype = "float32";
  std::string export_dtype = "float32";
  bool gradient_checkpointing = false;
  std::optional<std::string> chat_template_path;
  void fields(FieldVisitor& v);
};

/// `lora:` an adapter in PEFT's terms; off while r is 0.
struct LoraSection {
  int64_t r = 0;
  double lora_alpha = 8.0;
  std::vector<std::string> target_modules{"all-linear"};
  bool use_rslora = false;
  void fields(FieldVisitor& v);
};

/// `optim:` AdamW, its schedule, and the size of the global batch.
struct OptimSection {
  double learning_rate = 2e-5;
  double weight_decay = 0.0;
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  std::string lr_scheduler_type = "linear";
  int64_t warmup_steps = 0;
  int64_t per_device_train_batch_size = 8;
  int64_t per_device_eval_batch_size = 8;
  int64_t gradient_accumulation_steps = 1;
  int64_t max_tokens_per_micro_batch = 4096;
  void fields(FieldVisitor& v);
};

/// `rollout:` how an online algorithm samples from its policy.
struct RolloutSection {
  int64_t num_generations = 8;
  int64_t max_completion_length = 256;
  int64_t min_completion_length = 0;
  std::optional<int64_t> max_prompt_length;
  double temperature = 1.0, top_p = 1.0, min_p = 0.0, repetition_penalty = 1.0;
  int64_t top_k = 0;
  std::vector<std::string> stop;
  std::optional<int64_t> steps_per_generation;
  int64_t max_batch_size = 64;
  int64_t num_generations_eval = 1;
  double temperature_eval = 0.0;
  bool dynamic_sampling = false;
  int64_t max_num_gen_batches = 10;
  std::string step_separator = "\n\n";
  bool store = false;
  std::string replay;
  std::optional<ConfigNode> environment;
  std::optional<int64_t> max_tool_calling_iterations, max_turn_length;
  void fields(FieldVisitor& v);
};

/// A run as its YAML file describes it. Defaults live here and in the components, nowhere else.
struct Recipe {
  RunSection run;
  ModelSection model;
  LoraSection lora;
  OptimSection optim;
  RolloutSection rollout;
  std::optional<ConfigNode> data, eval_data, algorithm;
  std::vector<ConfigNode> rewards;
  MonitorSection monitors;
  /// A recipe of its own that runs first, in output_dir/warm_start; its final model is what this
  /// one starts from.
  std::shared_ptr<Recipe> warm_start;
  void fields(FieldVisitor& v);

  /// Throws one ConfigError that lists everything that is wrong with file, line and column.
  static Recipe load(const std::filesystem::path& path, const std::vector<std::string>& overrides);
  static Recipe from_node(const ConfigNode& node);
  /// Every key with its value.
  std::string to_yaml() const;
};

}  // namespace meed
