#include "algorithms/rollout_sampler.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libpolicy/core/random.h"
#include "libpolicy/distributed/moments.h"
#include "libpolicy/generation/episodes.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/text/chat_template.h"

namespace meed {
namespace {

/// Streams of random numbers that must not meet.
constexpr uint64_t kTrainStream = 1;
constexpr uint64_t kEvalStream = 2;

double mean_of(const std::vector<double>& values) {
  return values.empty() ? 0.0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

/// Mean, least and largest of values that may be missing on a rank.
void record_spread(RunRecorder& recorder, const std::string& prefix,
                   const std::vector<double>& values, const std::string& suffix) {
  if (values.empty()) return;
  const auto count = static_cast<double>(values.size());
  recorder.record(prefix + "mean_" + suffix, mean_of(values), Reduce::kMean, count);
  recorder.record(prefix + "min_" + suffix, *std::min_element(values.begin(), values.end()),
                  Reduce::kMin);
  recorder.record(prefix + "max_" + suffix, *std::max_element(values.begin(), values.end()),
                  Reduce::kMax);
}

/// Mean of the finite values as a weighted record: ranks with more of them count more.
void record_mean(RunRecorder& recorder, const std::string& key, const at::Tensor& values) {
  const auto finite = values.masked_select(values.isfinite());
  if (finite.numel() > 0)
    recorder.record(key, finite.mean().item<double>(), Reduce::kMean,
                    static_cast<double>(finite.numel()));
}

CompletionRecord make_record(const ScoredRollouts& scored, size_t p, size_t g, int64_t step,
                             const std::string& phase) {
  const auto& group = scored.groups[p];
  const auto& completion = group.completions[g];
  const auto at_pg = [&](const at::Tensor& values) {
    return values[static_cast<int64_t>(p)][static_cast<int64_t>(g)].item<double>();
  };
  CompletionRecord record{.step = step,
                          .phase = phase,
                          .prompt = as_text(group.example.prompt, "\n\n"),
                          .completion = completion.text,
                          .reward = at_pg(scored.rewards_PG),
                          .finish_reason = to_string(completion.finish_reason),
                          .num_tokens = static_cast<int64_t>(completion.token_ids.size())};
  for (const auto& [name, values] : scored.components) record.rewards[name] = at_pg(values);
  if (const auto answer = group.example.extra.find("answer"); answer != group.example.extra.end())
    record.answer = answer->second;
  return record;
}

}  // namespace

RolloutSampler::RolloutSampler(TrainingRun& run, CausalLm& model)
    : run_(run),
      engine_(RolloutEngine::create(model, &run.tokenizer(),
                                    {.max_batch_size = run.recipe().rollout.max_batch_size})),
      environment_(run.recipe().rollout.environment
                       ? environments().create(*run.recipe().rollout.environment, run.context())
                       : nullptr),
      rewards_(run.recipe().rewards, run.context()),
      monitor_(run.recipe().monitors),
      max_positions_(model.config().max_positions) {
  if (run.recipe().rewards.empty())
    throw ConfigError("rewards: an online algorithm needs at least one reward function");
}

std::vector<RolloutGroup> generate_groups(RolloutEngine& engine, const Tokenizer& tokenizer,
                                          const Dataset& data, const std::vector<int64_t>& rows,
                                          const GroupOptions& options, int64_t* num_cut) {
  const auto& config = options.rollout;
  std::vector<RolloutGroup> groups;
  std::vector<GenerationRequest> requests;
  for (size_t i = static_cast<size_t>(options.rank); i < rows.size();
       i += static_cast<size_t>(options.world_size)) {
    RolloutGroup group;
    group.example = data.get(rows[i]);
    group.prompt_ids = encode_prompt(tokenizer, group.example.prompt);
    if (group.prompt_ids.empty())
      throw DataError("row " + std::to_string(rows[i] + 1) + ": \"prompt\" is missing or empty");
    const int64_t room = options.max_positions > 0
                             ? options.max_positions - config.max_completion_length
                             : INT64_MAX;
    const int64_t limit = std::min(config.max_prompt_length.value_or(INT64_MAX), room);
    if (limit <= 0)
      throw ConfigError(
          "rollout.max_completion_length: leaves no room for a prompt in the model's " +
          std::to_string(options.max_positions) + " positions");
    if (const auto length = static_cast<int64_t>(group.prompt_ids.size()); length > limit) {
      group.prompt_ids.erase(group.prompt_ids.begin(), group.prompt_ids.begin() + (length - limit));
      if (num_cut != nullptr) ++*num_cut;
    }
    GenerationRequest request{.id = static_cast<int64_t>(groups.size()),
                              .prompt_ids = group.prompt_ids,
                              .sampling = {},
                              .seeds = {}};
    request.sampling.temperature = options.temperature;
    request.sampling.top_p = config.top_p;
    request.sampling.min_p = config.min_p;
    request.sampling.top_k = config.top_k;
    request.sampling.repetition_penalty = config.repetition_penalty;
    request.sampling.max_new_tokens = config.max_completion_length;
    request.sampling.min_new_tokens = config.min_completion_length;
    request.sampling.stop_strings = config.stop;
    for (int64_t g = 0; g < options.num_generations; ++g)
      request.seeds.push_back(mix_seed(
          {options.seed, static_cast<uint64_t>(options.first) + i, static_cast<uint64_t>(g)}));
    requests.push_back(std::move(request));
    groups.push_back(std::move(group));
  }
  std::vector<FinishedRequest> finished;
  if (options.environment == nullptr) {
    finished = engine.generate(std::move(requests));
  } else {
    std::vector<const Example*> examples;
    for (const auto& group : groups) examples.push_back(&group.example);
    finished =
        generate_episodes(engine, tokenizer, *options.environment, examples, std::move(requests),
                          {.max_turns = config.max_tool_calling_iterations,
                           .max_turn_length = config.max_turn_length});
  }
  for (size_t p = 0; p < groups.size(); ++p)
    groups[p].completions = std::move(finished[p].completions);
  return groups;
}

std::vector<RolloutGroup> RolloutSampler::generate(const Dataset& data,
                                                   const std::vector<int64_t>& rows,
                                                   uint64_t stream, int64_t first,
                                                   int64_t num_generations, double temperature) {
  int64_t cut = 0;
  auto groups = generate_groups(*engine_, run_.tokenizer(), data, rows,
                                {.rollout = run_.recipe().rollout,
                                 .num_generations = num_generations,
                                 .temperature = temperature,
                                 .seed = mix_seed({run_.seed(), stream}),
                                 .first = first,
                                 .max_positions = max_positions_,
                                 .rank = run_.comm().rank(),
                                 .world_size = run_.comm().size(),
                                 .environment = environment_.get()},
                                &cut);
  if (cut > 0)
    run_.recorder().record("num_truncated_prompts", static_cast<double>(cut), Reduce::kSum);
  engine_->release_memory();
  return groups;
}

ScoredRollouts RolloutSampler::score(std::vector<RolloutGroup> groups, int64_t num_groups,
                                     const ScoreOptions& options) {
  auto scores = rewards_.score(groups, options);
  int64_t mismatches = 0;
  auto scored = make_scored(std::move(groups), std::move(scores), run_.tokenizer(),
                            run_.recipe().rollout.step_separator, run_.comm().rank(),
                            run_.comm().size(), num_groups, &mismatches);
  if (mismatches > 0)
    run_.recorder().record("rewards/num_step_mismatches", static_cast<double>(mismatches),
                           Reduce::kSum);
  return scored;
}

ScoredRollouts RolloutSampler::sample(const std::vector<int64_t>& rows, int64_t position,
                                      int64_t policy_version, bool greedy) {
  at::NoGradGuard no_grad;
  const auto started = std::chrono::steady_clock::now();
  const auto& config = run_.recipe().rollout;
  const auto num_groups = static_cast<int64_t>(rows.size());
  auto groups = generate(run_.data(), rows, kTrainStream, position, config.num_generations,
                         config.temperature);
  for (auto& group : groups)
    for (auto& completion : group.completions) completion.policy_version = policy_version;
  const auto generated = std::chrono::steady_clock::now();
  auto scored = score(std::move(groups), num_groups, {.step = policy_version, .training = true});
  const auto seconds = [](auto from, auto to) {
    return std::chrono::duration<double>(to - from).count();
  };
  run_.recorder().record("time/rollout_s", seconds(started, generated), Reduce::kMax);
  run_.recorder().record("time/reward_s", seconds(generated, std::chrono::steady_clock::now()),
                         Reduce::kMax);
  if (greedy) {
    const auto best = score(generate(run_.data(), rows, kTrainStream, position,
                                     /*num_generations=*/1, /*temperature=*/0.0),
                            num_groups, {.step = policy_version, .training = false});
    scored.greedy_P = best.rewards_PG.flatten();
    record_mean(run_.recorder(), "reward_greedy", scored.greedy_P);
  }
  return scored;
}

void RolloutSampler::record(const ScoredRollouts& scored, const at::Tensor& advantages_PG,
                            int64_t step) {
  auto& recorder = run_.recorder();
  std::vector<double> lengths, terminated;
  for (const auto& group : scored.groups) {
    for (const auto& completion : group.completions) {
      lengths.push_back(static_cast<double>(completion.token_ids.size()));
      if (completion.finish_reason != FinishReason::kLength) terminated.push_back(lengths.back());
    }
  }
  record_spread(recorder, "completions/", lengths, "length");
  record_spread(recorder, "completions/", terminated, "terminated_length");
  if (!lengths.empty()) {
    const auto count = static_cast<double>(lengths.size());
    recorder.record("completions/clipped_ratio",
                    1.0 - static_cast<double>(terminated.size()) / count, Reduce::kMean, count);
  }
  record_calls(scored);
  const auto groups = static_cast<double>(scored.groups.size());
  if (groups > 0 && scored.rewards_PG.size(1) > 1) {
    const auto std_P = scored.rewards_PG.std(/*dim=*/1, /*unbiased=*/true);
    recorder.record("frac_reward_zero_std",
                    (std_P.abs() < 1e-12).to(at::kDouble).mean().item<double>(), Reduce::kMean,
                    groups);
  }
  record_mean(recorder, "reward", scored.rewards_PG);
  // As TRL: over all completions of all ranks, not by group.
  const auto reward = global_moments(scored.rewards_PG, run_.comm());
  recorder.record("reward_std", reward.std, Reduce::kMax);
  std::optional<double> gold;
  for (const auto& [name, values] : scored.components) {
    record_mean(recorder, "rewards/" + name + "/mean", values);
    const auto moments = global_moments(values, run_.comm());
    recorder.record("rewards/" + name + "/std", moments.std, Reduce::kMax);
    if (name == run_.recipe().monitors.gold) gold = moments.mean;
  }
  for (const auto& [name, values] : scored.parts) record_mean(recorder, "rewards/" + name, values);
  for (const auto& [name, count] : scored.unreadable)
    recorder.record("rewards/" + name.substr(0, name.find('/')) + "/unreadable/" +
                        name.substr(name.find('/') + 1),
                    static_cast<double>(count), Reduce::kSum);
  watch(scored, reward.mean, gold);
  int64_t left = run_.recipe().run.num_completions_to_log;
  for (size_t p = 0; p < scored.groups.size(); ++p) {
    for (size_t g = 0; g < scored.groups[p].completions.size() && left > 0; ++g, --left) {
      auto entry = make_record(scored, p, g, step, "train");
      entry.advantage =
          advantages_PG[static_cast<int64_t>(p)][static_cast<int64_t>(g)].item<double>();
      recorder.record_completion(std::move(entry));
    }
  }
}

/// As TRL: calls a completion, and the share of them that failed.
void RolloutSampler::record_calls(const ScoredRollouts& scored) {
  if (!environment_) return;
  double completions = 0.0, calls = 0.0, failures = 0.0;
  for (const auto& group : scored.groups)
    for (const auto& completion : group.completions) {
      completions += 1.0;
      for (const auto& turn : completion.turns) {
        calls += turn.sampled ? 0.0 : 1.0;
        failures += turn.failed ? 1.0 : 0.0;
      }
    }
  auto& recorder = run_.recorder();
  if (completions > 0)
    recorder.record("tools/call_frequency", calls / completions, Reduce::kMean, completions);
  if (calls > 0) recorder.record("tools/failure_frequency", failures / calls, Reduce::kMean, calls);
}

StateDict RolloutSampler::state_dict() const {
  StateDict state;
  state.add("pipeline", rewards_.state_dict());
  save_under(state, "monitor", monitor_);
  return state;
}

void RolloutSampler::load_state_dict(const StateDict& state) {
  rewards_.load_state_dict(state.under("pipeline"));
  load_under(state, "monitor", monitor_);
}

/// Feeds the monitor with means over all ranks; all ranks call it.
void RolloutSampler::watch(const ScoredRollouts& scored, double proxy, std::optional<double> gold) {
  double tokens = 0.0, refusals = 0.0, count = 0.0;
  for (const auto& group : scored.groups)
    for (const auto& completion : group.completions) {
      tokens += static_cast<double>(completion.token_ids.size());
      refusals += monitor_.is_refusal(completion.text);
      count += 1.0;
    }
  at::Tensor sums = at::tensor({tokens, refusals, count}, at::kDouble);
  run_.comm().all_reduce(sums, ReduceOp::kSum);
  const double all = std::max(1.0, sums[2].item<double>());
  MonitorPoint point{.proxy = proxy,
                     .gold = gold,
                     .length = sums[0].item<double>() / all,
                     .refusals = sums[1].item<double>() / all};
  auto& recorder = run_.recorder();
  const auto& last = recorder.last();
  for (const char* key : {"objective/kl", "kl"})
    if (const auto found = last.find(key); found != last.end()) point.kl = found->second;
  const auto report = monitor_.add(point);
  if (report.spearman) recorder.record("monitor/spearman", *report.spearman, Reduce::kMax);
  if (report.peak_gold) recorder.record("monitor/kl_at_peak", report.kl_at_peak, Reduce::kMax);
  recorder.record("monitor/length_drift", report.length_drift, Reduce::kMax);
  recorder.record("monitor/refusals", point.refusals, Reduce::kMax);
  recorder.record("monitor/alarms", static_cast<double>(report.alarms.size()), Reduce::kMax);
  for (const auto& alarm : report.alarms) log_warn("monitor: " + alarm);
  if (run_.recipe().monitors.stop && !report.alarms.empty()) run_.request_stop();
}

void RolloutSampler::evaluate(const std::string& phase, int64_t step) {
  const auto* data = run_.eval_data();
  if (data == nullptr) return;
  at::NoGradGuard no_grad;
  const auto& config = run_.recipe().rollout;
  std::vector<int64_t> rows(static_cast<size_t>(data->size()));
  std::iota(rows.begin(), rows.end(), 0);
  const auto scored = score(
      generate(*data, rows, kEvalStream, 0, config.num_generations_eval, config.temperature_eval),
      data->size(), {.step = step, .training = false});
  auto& recorder = run_.recorder();
  record_mean(recorder, "eval_reward", scored.rewards_PG);
  for (const auto& [name, values] : scored.components)
    record_mean(recorder, "eval_rewards/" + name + "/mean", values);
  std::vector<double> lengths;
  for (const auto& group : scored.groups)
    for (const auto& completion : group.completions)
      lengths.push_back(static_cast<double>(completion.token_ids.size()));
  record_spread(recorder, "eval_completions/", lengths, "length");
  for (const auto& [name, values] : scored.parts)
    record_mean(recorder, "eval_rewards/" + name, values);
  const auto max_logged = static_cast<size_t>(run_.recipe().run.num_eval_completions_to_log);
  for (size_t p = 0; p < std::min(max_logged, scored.groups.size()); ++p)
    recorder.record_completion(make_record(scored, p, 0, step, phase));
  run_.flush_evaluation(step);
}

}  // namespace meed
