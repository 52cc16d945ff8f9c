#include "algorithms/recipe.h"

#include <algorithm>

#include "algorithms/algorithm.h"
#include "libpolicy/core/error.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/generation/environment.h"
#include "libreward/reward_function.h"
#include "libreward/reward_pipeline.h"
#include "libreward/reward_transform.h"

namespace meed {

void RunSection::fields(FieldVisitor& v) {
  v.field("output_dir", output_dir, "Folder of the run; made if absent.");
  v.required("output_dir");
  v.field("run_name", run_name, "Name in the report; the folder's name if empty.");
  v.field("seed", seed, "Seed of everything random in the run.");
  v.field("max_steps", max_steps, "Optimiser steps; -1: num_train_epochs decides.");
  v.field("num_train_epochs", num_train_epochs, "Passes over the data where max_steps is -1.");
  v.field("save_steps", save_steps,
          "Write a checkpoint every so many steps; 0: only at the end or on Ctrl-C.");
  v.field("save_total_limit", save_total_limit,
          "Checkpoints to keep, the best one apart; null keeps all.");
  v.field("eval_steps", eval_steps,
          "Evaluate on eval_data every so many steps; null: only at the end.");
  v.field("eval_on_start", eval_on_start, "Evaluate before the first step too.");
  v.field("metric_for_best_model", metric_for_best_model,
          "Keep the checkpoint that is best by this metric, such as eval_loss.");
  v.field("greater_is_better", greater_is_better,
          "Whether a larger metric_for_best_model is better.");
  v.field("ddp_timeout", ddp_timeout, "Seconds that a collective waits for the other processes.");
  v.choice("backend", backend, {"auto", "single", "gloo", "nccl"}, "How processes talk.");
  v.choice("on_nan", on_nan, {"stop", "skip"},
           "On a loss or gradient that is not finite: stop, or leave the update out and count it.");
  v.field("num_completions_to_log", num_completions_to_log,
          "Completions written to completions.jsonl a step.");
  v.field("num_eval_completions_to_log", num_eval_completions_to_log,
          "The same of an evaluation, the first of each prompt.");
  v.require(max_steps == -1 || max_steps > 0, "max_steps", "must be positive, or -1");
  v.require(num_train_epochs > 0, "num_train_epochs", "must be positive");
  v.require(save_steps >= 0, "save_steps", "must not be negative");
  v.require(!save_total_limit || *save_total_limit > 0, "save_total_limit",
            "must be positive, or null");
  v.require(!eval_steps || *eval_steps > 0, "eval_steps", "must be positive, or null");
  v.require(ddp_timeout > 0, "ddp_timeout", "must be positive");
  v.require(seed >= 0, "seed", "must not be negative");
  v.require(num_completions_to_log >= 0, "num_completions_to_log", "must not be negative");
  v.require(num_eval_completions_to_log >= 0, "num_eval_completions_to_log",
            "must not be negative");
}

void ModelSection::FromScratch::fields(FieldVisitor& v) {
  v.field("hidden_size", hidden_size, "Width; 0: train the model at path itself.");
  v.field("num_hidden_layers", num_hidden_layers, "Layers.");
  v.field("num_attention_heads", num_attention_heads, "Attention heads.");
  v.field("max_position_embeddings", max_position_embeddings, "Longest sequence.");
  v.field("initializer_range", initializer_range,
          "Deviation of the random weights. Narrow models learn sooner with more, about "
          "1 / sqrt(hidden_size).");
  v.require(hidden_size >= 0 && num_hidden_layers > 0 && num_attention_heads > 0 &&
                max_position_embeddings > 0,
            "hidden_size", "must not be negative, and the other sizes must be positive");
  v.require(num_attention_heads > 0 && hidden_size % (2 * num_attention_heads) == 0,
            "num_attention_heads", "must divide hidden_size into even parts");
  v.require(initializer_range > 0, "initializer_range", "must be positive");
}

void ModelSection::fields(FieldVisitor& v) {
  v.field("path", path, "Hugging Face folder or .gguf file; only algorithms on vectors need none.");
  v.section("from_scratch", from_scratch,
            "A Llama of random weights with the tokenizer of path, for experiments of many steps.");
  v.choice("device", device, {"cpu", "cuda"},
           "Where it computes; cuda: the GPU of this process. Completions are sampled on the CPU.");
  v.choice("dtype", dtype, {"float32", "bfloat16"},
           "What the model computes in; trained weights are float32 either way.");
  v.choice("export_dtype", export_dtype, {"float32", "bfloat16", "float16"},
           "What final/ is written in.");
  v.field("gradient_checkpointing", gradient_checkpointing,
          "Recompute activations in the backward pass: less memory, more time.");
  v.field("chat_template_path", chat_template_path,
          "A Jinja file to use instead of the model's chat template.");
}

void LoraSection::fields(FieldVisitor& v) {
  v.field("r", r, "Rank of the adapter; 0 trains all weights.");
  v.field("lora_alpha", lora_alpha, "The adapter's product is scaled by lora_alpha / r.");
  v.field("target_modules", target_modules,
          "Linear layers that get an adapter: q_proj, k_proj, ... or all-linear.");
  v.field("use_rslora", use_rslora, "Scale by lora_alpha / sqrt(r).");
  v.require(r >= 0, "r", "must not be negative");
  v.require(lora_alpha > 0, "lora_alpha", "must be positive");
  v.require(!target_modules.empty(), "target_modules", "must name a layer");
}

void OptimSection::fields(FieldVisitor& v) {
  v.field("learning_rate", learning_rate, "Peak learning rate of AdamW.");
  v.field("weight_decay", weight_decay, "Decoupled weight decay; norms and biases have none.");
  v.field("adam_beta1", adam_beta1, "Decay of the first moment.");
  v.field("adam_beta2", adam_beta2, "Decay of the second moment.");
  v.field("adam_epsilon", adam_epsilon, "Added to the root of the second moment.");
  v.field("max_grad_norm", max_grad_norm, "Clip the global norm of the gradient; 0: never.");
  v.choice("lr_scheduler_type", lr_scheduler_type,
           {"linear", "cosine", "constant", "constant_with_warmup"},
           "Shape of the schedule after the warm-up.");
  v.field("warmup_steps", warmup_steps, "Steps of linear warm-up.");
  v.field("per_device_train_batch_size", per_device_train_batch_size,
          "Rows (GRPO: completions) a process and accumulation step.");
  v.field("per_device_eval_batch_size", per_device_eval_batch_size,
          "Rows a process at a time in evaluation.");
  v.field("gradient_accumulation_steps", gradient_accumulation_steps,
          "Batches summed into one update.");
  v.field("max_tokens_per_micro_batch", max_tokens_per_micro_batch,
          "Tokens of one forward and backward pass; bounds memory, never changes the result.");
  v.require(learning_rate >= 0, "learning_rate", "must not be negative");
  v.require(weight_decay >= 0, "weight_decay", "must not be negative");
  v.require(adam_beta1 >= 0 && adam_beta1 < 1, "adam_beta1", "must be in [0, 1)");
  v.require(adam_beta2 >= 0 && adam_beta2 < 1, "adam_beta2", "must be in [0, 1)");
  v.require(adam_epsilon > 0, "adam_epsilon", "must be positive");
  v.require(max_grad_norm >= 0, "max_grad_norm", "must not be negative");
  v.require(warmup_steps >= 0, "warmup_steps", "must not be negative");
  v.require(per_device_train_batch_size > 0, "per_device_train_batch_size", "must be positive");
  v.require(per_device_eval_batch_size > 0, "per_device_eval_batch_size", "must be positive");
  v.require(gradient_accumulation_steps > 0, "gradient_accumulation_steps", "must be positive");
  v.require(max_tokens_per_micro_batch > 0, "max_tokens_per_micro_batch", "must be positive");
}

void RolloutSection::fields(FieldVisitor& v) {
  v.field("num_generations", num_generations, "Completions of each prompt (the group).");
  v.field("max_completion_length", max_completion_length, "Tokens of a completion at most.");
  v.field("min_completion_length", min_completion_length, "A completion does not end before.");
  v.field("max_prompt_length", max_prompt_length,
          "Longer prompts lose their start; null: as long as the model takes.");
  v.field("temperature", temperature, "Sampling temperature; the loss uses it too.");
  v.field("top_p", top_p, "Nucleus sampling.");
  v.field("top_k", top_k, "Sample from the k likeliest tokens; 0: all.");
  v.field("min_p", min_p, "Leave out tokens less likely than min_p times the likeliest.");
  v.field("repetition_penalty", repetition_penalty,
          "Divides the score of tokens that stand already.");
  v.field("stop", stop, "Strings that end a completion.");
  v.field("steps_per_generation", steps_per_generation,
          "Batches made from one generation; null: gradient_accumulation_steps.");
  v.field("max_batch_size", max_batch_size, "Sequences decoded at the same time.");
  v.field("num_generations_eval", num_generations_eval,
          "Completions of each prompt in evaluation.");
  v.field("temperature_eval", temperature_eval, "Temperature in evaluation; 0 is greedy.");
  v.field("dynamic_sampling", dynamic_sampling,
          "Draw further prompts in place of groups whose rewards are all equal (DAPO).");
  v.field("max_num_gen_batches", max_num_gen_batches,
          "dynamic_sampling: batches of prompts drawn at most for one generation; what is missing "
          "then is filled up with groups of equal rewards.");
  v.field(
      "step_separator", step_separator,
      "Ends a reasoning step, where a completion does not say its steps itself: rewards of steps "
      "count on the last token of each. Empty: on the completion's last token.");
  v.field(
      "store", store,
      "Write every generation to rollouts/ in the run's folder, as HDF5: for replay, or for the "
      "dataset `rollouts`.");
  v.field("replay", replay,
          "Folder of such rollouts to update from in place of sampling; empty: sample.");
  v.require(replay.empty() || (!store && !dynamic_sampling), "replay",
            "cannot go with store or dynamic_sampling: nothing is sampled");
  v.require(max_num_gen_batches > 0, "max_num_gen_batches", "must be positive");
  v.component(
      "environment", environment, environments(),
      "Tools or a world that answers the policy's calls; its words are masked from the loss.");
  v.field("max_tool_calling_iterations", max_tool_calling_iterations,
          "Calls of a completion that are answered; null: as many as fit.");
  v.field("max_turn_length", max_turn_length,
          "Tokens that the policy writes before a turn is cut; null: max_completion_length.");
  v.require(num_generations > 0, "num_generations", "must be positive");
  v.require(max_completion_length > 0, "max_completion_length", "must be positive");
  v.require(min_completion_length >= 0 && min_completion_length <= max_completion_length,
            "min_completion_length", "must be 0 to max_completion_length");
  v.require(!max_prompt_length || *max_prompt_length > 0, "max_prompt_length",
            "must be positive, or null");
  v.require(temperature > 0, "temperature", "must be positive");
  v.require(top_p > 0 && top_p <= 1, "top_p", "must be in (0, 1]");
  v.require(top_k >= 0, "top_k", "must not be negative");
  v.require(min_p >= 0 && min_p <= 1, "min_p", "must be in [0, 1]");
  v.require(repetition_penalty > 0, "repetition_penalty", "must be positive");
  v.require(!steps_per_generation || *steps_per_generation > 0, "steps_per_generation",
            "must be positive, or null");
  v.require(max_batch_size > 0, "max_batch_size", "must be positive");
  v.require(num_generations_eval > 0, "num_generations_eval", "must be positive");
  v.require(temperature_eval >= 0, "temperature_eval", "must not be negative");
  v.require(!max_tool_calling_iterations || *max_tool_calling_iterations >= 0,
            "max_tool_calling_iterations", "must not be negative, or null");
  v.require(!max_turn_length || *max_turn_length > 0, "max_turn_length",
            "must be positive, or null");
}

namespace {

constexpr const char* kSupervision = "process_supervision";

/// Whether the algorithm reads step rewards because its recipe says so.
bool supervises_steps(const std::optional<ConfigNode>& algorithm) {
  if (!algorithm || !algorithm->is_map() || !algorithm->has(kSupervision)) return false;
  const auto value = algorithm->at(kSupervision);
  return !value.is_map() && !value.is_list() && !value.is_null() && value.as_string() != "none";
}

/// What an algorithm does not read of the rewards, or misses in them: an algorithm says what it
/// reads by Config::kShapes ("outcome" is the default) or its key `process_supervision`.
std::vector<std::string> shape_problems(const std::optional<ConfigNode>& algorithm,
                                        const std::vector<ConfigNode>& rewards) {
  std::vector<std::string> problems;
  if (!algorithm || !algorithm->is_map() || !algorithm->has("type")) return problems;
  if (algorithm->at("type").is_map() || algorithm->at("type").is_list()) return problems;
  const auto type = algorithm->at("type").as_string();
  if (!algorithms().has(type)) return problems;
  const std::string key = kSupervision;
  const auto has = [](const std::string& shapes, const char* shape) {
    return shapes.find(shape) != std::string::npos;
  };
  const bool supervised = supervises_steps(algorithm);
  bool steps = false;
  for (const auto& reward : rewards) {
    const auto shapes = shapes_of(reward);
    steps = steps || has(shapes.left, "step");
    if (!supervised && !has(algorithms().info(type).shapes, "step") && !shapes.shaper.empty()) {
      const auto fields = algorithms().info(type).fields();
      const bool could = std::any_of(fields.begin(), fields.end(),
                                     [&](const FieldInfo& field) { return field.name == key; });
      problems.push_back(reward.where() + ": " + shapes.shaper + " changes step rewards, which " +
                         type + " does not read" + (could ? " without process_supervision" : "") +
                         "; put {type: sum_steps} behind it to make them the outcome" +
                         (could ? ", or set process_supervision" : ""));
    }
    if (supervised && has(shapes.left, "token"))
      problems.push_back(reward.where() + ": gives token rewards, but " + key +
                         " reads those of steps");
  }
  if (supervised && !steps)
    problems.push_back(algorithm->where() + ": " + key +
                       " needs a reward of steps, and no reward of this recipe gives any "
                       "(chain_steps, search_principles and a reward_model of steps do; sum_steps "
                       "takes them away)");
  return problems;
}

}  // namespace

void Recipe::fields(FieldVisitor& v) {
  v.component("algorithm", algorithm, algorithms(), "What is optimised.");
  v.required("algorithm");
  v.section("run", run, "Where the run writes, how long it is.");
  v.section("model", model, "The model that is trained.");
  v.require(!model.path.empty() || !needs_model(algorithm), "model.path", "is required");
  v.section("lora", lora, "Low-rank adapter.");
  v.component("data", data, datasets(), "What it trains on.");
  v.required("data");
  v.component("eval_data", eval_data, datasets(), "What it is evaluated on.");
  v.components("rewards", rewards, reward_functions(),
               "Reward functions of an online algorithm, summed by weight.");
  for (const auto& problem : pipeline_problems(rewards))
    v.require(false, "rewards", "do not fit together: " + problem);
  for (const auto& problem : shape_problems(algorithm, rewards))
    v.require(false, "rewards", "do not fit the algorithm: " + problem);
  v.section("monitors", monitors, "What is watched for signs that the policy games its reward.");
  if (!monitors.gold.empty()) {
    const bool known = std::any_of(rewards.begin(), rewards.end(), [&](const ConfigNode& reward) {
      return reward_name(reward) == monitors.gold;
    });
    v.require(known, "monitors.gold", "names no reward of this recipe");
  }
  v.section("rollout", rollout, "How an online algorithm samples.");
  v.require(!rollout.dynamic_sampling || !supervises_steps(algorithm), "rollout.dynamic_sampling",
            "cannot go with process_supervision: it keeps groups whose outcomes differ, whatever "
            "their steps");
  v.section("optim", optim, "Optimiser, schedule and batch.");
}

Recipe Recipe::from_node(const ConfigNode& node) {
  std::vector<std::string> problems;
  const bool warm = node.has("warm_start") && !node.at("warm_start").is_null();
  Recipe recipe = read_config<Recipe>(node.with_keys({"warm_start"}, /*keep=*/false), problems,
                                      /*has_type=*/false);
  if (warm) {
    // The warm start shares the model, the seed and the dtype unless it says otherwise.
    const auto inner =
        node.at("warm_start")
            .with_default("model", node.has("model") ? node.at("model") : ConfigNode())
            .with_default("run.output_dir", recipe.run.output_dir + "/warm_start")
            .with_default("run.seed", std::to_string(recipe.run.seed));
    recipe.warm_start =
        std::make_shared<Recipe>(read_config<Recipe>(inner, problems, /*has_type=*/false));
  }
  throw_problems(problems);
  return recipe;
}

Recipe Recipe::load(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  return from_node(ConfigNode::parse_file(path).with_overrides(overrides));
}

std::string Recipe::to_yaml() const {
  std::string yaml = fields_to_yaml(describe_config(*this));
  if (warm_start)
    yaml += "warm_start:\n" + fields_to_yaml(describe_config(*warm_start), /*indent=*/2);
  return yaml;
}

}  // namespace meed
