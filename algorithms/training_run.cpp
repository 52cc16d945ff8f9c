#include "algorithms/training_run.h"

#include <ATen/ATen.h>
#include <malloc.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>

#include "algorithms/algorithm.h"
#include "algorithms/learner.h"
#include "libpolicy/checkpoint/checkpoint.h"
#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/core/cuda_library.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/log.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/save_model.h"

namespace meed {
namespace {

namespace fs = std::filesystem;

volatile std::sig_atomic_t g_signals = 0;

void on_signal(int signal) {
  g_signals = g_signals + 1;
  // A second Ctrl-C does not wait for the step to end.
  if (g_signals > 1) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

void catch_signals() {
  g_signals = 0;
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

/// How long a run that was stopped or killed may take to leave its folder to the next.
constexpr std::chrono::seconds kPatience(10);

constexpr int kStoppedBySignal = 130;  // as a shell reports SIGINT

/// What stands in a folder once a run wrote there.
bool holds_a_run(const fs::path& folder) {
  return fs::exists(folder / "metrics.jsonl") || fs::exists(folder / "checkpoints");
}

/// The checkpoint to go on from; rank 0 looks and tells the others.
std::optional<fs::path> find_checkpoint(const Recipe& recipe, Communicator& comm, bool resume) {
  const fs::path folder = recipe.run.output_dir;
  std::string found;
  if (comm.is_main()) {
    if (!resume && holds_a_run(folder))
      found = "!" + folder.string() +
              ": holds a run already; go on with it by --resume, or choose another run.output_dir";
    else if (resume)
      if (const auto newest = newest_checkpoint(folder / "checkpoints")) found = newest->string();
  }
  found = comm.all_gather(found)[0];
  if (found.starts_with("!")) throw ConfigError("run.output_dir: " + found.substr(1));
  if (found.empty()) return std::nullopt;
  return found;
}

RunRecorder::Options recorder_options(const Recipe& recipe,
                                      const std::optional<fs::path>& checkpoint) {
  RunRecorder::Options options;
  options.output_dir = recipe.run.output_dir;
  options.run_name = recipe.run.run_name;
  options.algorithm = algorithms().name_of(*recipe.algorithm);
  options.max_completions_per_step = std::max<int64_t>(recipe.run.num_completions_to_log, 1);
  options.max_eval_completions = std::max<int64_t>(recipe.run.num_eval_completions_to_log, 1);
  if (checkpoint) options.resume_step = checkpoint_step(*checkpoint);
  return options;
}

}  // namespace

TrainingRun::TrainingRun(const Recipe& recipe, Communicator& comm, const TrainOptions& options)
    : recipe_(recipe),
      comm_(comm),
      checkpoint_(find_checkpoint(recipe, comm, options.resume)),
      tokenizer_(recipe.model.path.empty() ? nullptr : Tokenizer::load(recipe.model.path)),
      recorder_(std::make_unique<RunRecorder>(recorder_options(recipe, checkpoint_), comm)),
      context_{.comm = comm,
               .metrics = *recorder_,
               .device = at::kCPU,
               .seed = seed(),
               .output_dir = output_dir(),
               .tokenizer = tokenizer_.get()},
      data_(datasets().create(*recipe.data, context_)),
      eval_data_(recipe.eval_data ? datasets().create(*recipe.eval_data, context_) : nullptr) {
  if (data_->size() == 0) throw DataError("data: the dataset has no rows");
  if (data_->num_skipped() > 0)
    log_warn("data: " + std::to_string(data_->num_skipped()) + " malformed rows were left out");
  recorder_->write_config(recipe.to_yaml());
  recorder_->write_environment(options.command_line);
}

TrainingRun::~TrainingRun() = default;

int64_t TrainingRun::total_steps(int64_t rows_per_step, int64_t updates_per_batch) const {
  if (recipe_.run.max_steps > 0) return recipe_.run.max_steps;
  const double batches =
      std::ceil(recipe_.run.num_train_epochs * static_cast<double>(data_->size()) /
                static_cast<double>(rows_per_step));
  return std::max<int64_t>(1, static_cast<int64_t>(batches)) * updates_per_batch;
}

std::optional<StateDict> TrainingRun::restore(Learner& learner) {
  if (!checkpoint_) return std::nullopt;
  auto state = load_checkpoint(*checkpoint_);
  learner.load(*checkpoint_, state.optimizer);
  num_tokens_ = state.loop.integers.at("run.num_tokens");
  log_info("resuming from " + checkpoint_->string());
  return std::move(state.loop);
}

void TrainingRun::save_checkpoint(Learner& learner, StateDict state) {
  if (comm_.is_main()) {
    state.integers["run.num_tokens"] = num_tokens_;
    CheckpointOptions options{.save_total_limit = recipe_.run.save_total_limit,
                              .metric = current_metric_,
                              .greater_is_better = recipe_.run.greater_is_better};
    meed::save_checkpoint(output_dir() / "checkpoints", learner.step(), learner.model().save_exact,
                          {.optimizer = learner.optimizer_state(), .loop = std::move(state)},
                          options);
  }
  comm_.barrier();
}

bool TrainingRun::is_due(std::optional<int64_t> every, int64_t before, int64_t after,
                         int64_t total) const {
  if (!every || *every <= 0) return false;
  return before / *every != after / *every || after >= total;
}

void TrainingRun::record_tokens(int64_t tokens) {
  // Batches differ in size from step to step; what the allocator keeps between them would grow
  // without end.
  ::malloc_trim(0);
  at::Tensor sum = at::full({1}, tokens, at::kLong);
  comm_.all_reduce(sum, ReduceOp::kSum);
  num_tokens_ += sum.item<int64_t>();
  recorder_->record("num_tokens", static_cast<double>(num_tokens_), Reduce::kMax);
}

void TrainingRun::flush_evaluation(int64_t step) {
  recorder_->flush(step);
  const auto& wanted = recipe_.run.metric_for_best_model;
  if (!wanted) return;
  const auto found = recorder_->last().find(*wanted);
  if (found == recorder_->last().end())
    throw ConfigError("run.metric_for_best_model: the evaluation has no metric \"" + *wanted +
                      "\"");
  current_metric_ = found->second;
}

bool TrainingRun::stop_requested() {
  at::Tensor asked = at::full({1}, g_signals > 0 || asked_to_stop_ ? 1 : 0, at::kInt);
  comm_.all_reduce(asked, ReduceOp::kMax);
  stopped_ = asked.item<int>() != 0;
  return stopped_;
}

void TrainingRun::finish(Learner& learner) {
  if (comm_.is_main()) {
    const auto temporary = output_dir() / ".tmp-final";
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    fs::create_directories(temporary);
    learner.model().save(temporary);
    fs::remove_all(output_dir() / "final", ignored);
    fs::rename(temporary, output_dir() / "final");
  }
  const auto report = recorder_->write_report();
  log_info("model: " + (output_dir() / "final").string());
  if (comm_.is_main()) log_info("report: " + report.string());
  comm_.barrier();
}

namespace {

/// One recipe, without its warm start.
int run_one(const Recipe& recipe, Communicator& comm, const TrainOptions& options) {
  TrainingRun run(recipe, comm, options);
  const auto algorithm = algorithms().create(*recipe.algorithm, run.context());
  algorithm->train(run);
  if (!run.stopped()) return 0;
  run.recorder().write_report();
  log_info("stopped; go on with: meed train ... --resume");
  return kStoppedBySignal;
}

/// The configuration of a model, or of a folder that holds a tokenizer and config.json alone.
ModelConfig config_at(const fs::path& path) {
  if (fs::is_regular_file(path / "config.json"))
    return ModelConfig::from_json(read_file(path / "config.json"), (path / "config.json").string());
  const auto files = ModelFiles::open(path);
  return ModelConfig::from_json(files->config_json(), files->where());
}

/// Writes the small model that a recipe asks for, once, and names it in place of model.path.
void provide_from_scratch(Recipe& recipe, const fs::path& folder, Communicator& comm) {
  const auto& wanted = recipe.model.from_scratch;
  if (wanted.hidden_size == 0) return;
  if (comm.is_main() && !fs::exists(folder)) {
    const auto tokenizer = Tokenizer::load(recipe.model.path);
    const auto source = config_at(recipe.model.path);
    const auto config = ModelConfig::from_json(
        nlohmann::json{{"model_type", "llama"},
                       {"vocab_size", source.vocab_size},
                       {"eos_token_id", source.eos_token_ids},
                       {"hidden_size", wanted.hidden_size},
                       {"intermediate_size", 4 * wanted.hidden_size},
                       {"num_hidden_layers", wanted.num_hidden_layers},
                       {"num_attention_heads", wanted.num_attention_heads},
                       {"max_position_embeddings", wanted.max_position_embeddings},
                       {"rms_norm_eps", 1e-5},
                       {"tie_word_embeddings", true}}
            .dump(),
        "model.from_scratch");
    const auto model = CausalLm::create(config, static_cast<uint64_t>(recipe.run.seed),
                                        /*options=*/{}, wanted.initializer_range);
    const auto temporary = fs::path(folder.string() + ".tmp");
    fs::remove_all(temporary);
    fs::create_directories(temporary);
    save_model(temporary, *model, tokenizer.get(), at::kFloat);
    fs::rename(temporary, folder);
  }
  comm.barrier();
  recipe.model.path = folder.string();
}

}  // namespace

int run_recipe(const Recipe& asked, Communicator& comm, const TrainOptions& options) {
  Recipe recipe = asked;
  std::optional<FolderLock> lock;
  if (comm.is_main() && !lock.emplace(recipe.run.output_dir, kPatience).held())
    throw ConfigError("run.output_dir: " + recipe.run.output_dir +
                      ": another run writes there; wait for its end, or choose another folder");
  const fs::path scratch = fs::path(recipe.run.output_dir) / "from_scratch";
  if (recipe.warm_start) {
    Recipe warm = *recipe.warm_start;
    const fs::path final_model = fs::path(warm.run.output_dir) / "final";
    if (!options.resume && comm.is_main() && holds_a_run(recipe.run.output_dir))
      throw ConfigError("run.output_dir: " + recipe.run.output_dir +
                        ": holds a run already; go on with it by --resume, or choose another");
    comm.barrier();
    if (!options.resume || !fs::exists(final_model)) {
      log_info("warm start: " + warm.run.output_dir);
      provide_from_scratch(warm, scratch, comm);
      const int code = run_one(warm, comm, options);
      if (code != 0) return code;
    }
    recipe.model.path = final_model.string();
  } else {
    provide_from_scratch(recipe, scratch, comm);
  }
  return run_one(recipe, comm, options);
}

int run_recipe(const Recipe& recipe, const TrainOptions& options) {
  return with_processes(recipe.run, recipe.model.device,
                        [&](Communicator& comm) { return run_recipe(recipe, comm, options); });
}

int with_processes(const RunSection& section, const std::string& device,
                   const std::function<int(Communicator&)>& work) {
  const auto env = LaunchEnv::from_environment();
  set_log_rank(env.rank, env.world_size);
  catch_signals();
  const auto comm = Communicator::create(env, parse_device(device, env.local_rank), section.backend,
                                         section.ddp_timeout);
  try {
    return work(*comm);
  } catch (const std::exception& e) {
    comm->abort(e.what());
    throw;
  }
}

}  // namespace meed
