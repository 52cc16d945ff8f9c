#include "algorithms/offline_trainer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <chrono>

#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libpolicy/text/chat_template.h"

// One step:
//
//   Sampler ---- rows of the global batch ---> this rank's rows ---> encode ---> EncodedRow
//   weight() --- summed over rows and ranks ---> StepTotals
//   micro-batches of at most max_tokens_per_micro_batch ---> loss() ---> Learner::accumulate
//   Learner::update: reduce over ranks, clip, AdamW ---> metrics, evaluation, checkpoint

namespace meed {

int64_t EncodedRow::num_tokens() const {
  int64_t total = static_cast<int64_t>(prompt_ids.size());
  for (const auto& ids : completion_ids) total += static_cast<int64_t>(ids.size());
  return total;
}

EncodedRow encode_preference(const Tokenizer& tokenizer, const Example& example,
                             const std::string& algorithm) {
  const auto where = "row " + std::to_string(example.row + 1) + ": ";
  if (example.chosen.empty() || example.rejected.empty())
    throw DataError(where + algorithm +
                    " needs \"chosen\" and \"rejected\", neither of them empty");
  auto chosen = encode_pair(tokenizer, example.prompt, example.chosen);
  auto rejected = encode_pair(tokenizer, example.prompt, example.rejected);
  if (chosen.completion_ids == rejected.completion_ids)
    throw DataError(where + "\"chosen\" and \"rejected\" are the same");
  return {.prompt_ids = std::move(chosen.prompt_ids),
          .completion_ids = {std::move(chosen.completion_ids), std::move(rejected.completion_ids)},
          .margin = example.margin};
}

namespace {

/// Consecutive runs of rows that hold at most `max_tokens` tokens each (a longer row stands alone).
std::vector<std::span<const EncodedRow>> micro_batches(std::span<const EncodedRow> rows,
                                                       int64_t max_tokens) {
  std::vector<std::span<const EncodedRow>> batches;
  size_t first = 0;
  int64_t tokens = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i > first && tokens + rows[i].num_tokens() > max_tokens) {
      batches.push_back(rows.subspan(first, i - first));
      first = i;
      tokens = 0;
    }
    tokens += rows[i].num_tokens();
  }
  if (first < rows.size()) batches.push_back(rows.subspan(first));
  return batches;
}

/// One process's part of the loop.
class OfflineTrainer {
 public:
  OfflineTrainer(TrainingRun& run, OfflineAlgorithm& algorithm)
      : run_(run),
        algorithm_(algorithm),
        optim_(run.recipe().optim),
        rows_per_step_(optim_.per_device_train_batch_size * optim_.gradient_accumulation_steps *
                       run.comm().size()),
        total_steps_(run.total_steps(rows_per_step_)),
        sampler_(run.data().size(), run.seed()),
        learner_(algorithm.prepare(run), optim_, run.recipe().run.on_nan, total_steps_, run.comm(),
                 run.recorder()) {}

  void train() {
    run_.recorder().set_total_steps(total_steps_);
    if (const auto state = run_.restore(learner_))
      sampler_.seek(state->integers.at("sampler.position"));
    if (learner_.step() == 0 && run_.recipe().run.eval_on_start) evaluate();
    while (learner_.step() < total_steps_ && !run_.stop_requested()) {
      step();
      const int64_t done = learner_.step();
      const auto& config = run_.recipe().run;
      if (run_.is_due(config.eval_steps, done - 1, done, total_steps_) || done >= total_steps_)
        evaluate();
      if (run_.is_due(config.save_steps, done - 1, done, total_steps_)) save();
    }
    if (run_.stopped() && learner_.step() < total_steps_) {
      save();
      return;
    }
    run_.finish(learner_);
  }

 private:
  std::vector<EncodedRow> encode_rows(const Dataset& data, std::span<const int64_t> rows,
                                      StepTotals& totals) {
    std::vector<EncodedRow> encoded;
    int64_t truncated = 0;
    // Row i of the global batch belongs to rank i mod size: the batch is the same whatever the
    // number of ranks.
    for (size_t i = static_cast<size_t>(run_.comm().rank()); i < rows.size();
         i += static_cast<size_t>(run_.comm().size())) {
      encoded.push_back(algorithm_.encode(data.get(rows[i])));
      truncated += encoded.back().truncated;
      totals.weight += algorithm_.weight(encoded.back());
      const auto& completions = encoded.back().completion_ids;
      if (!completions.empty()) totals.first_tokens += static_cast<double>(completions[0].size());
    }
    at::Tensor sums = at::tensor({totals.weight, totals.first_tokens}, at::kDouble);
    run_.comm().all_reduce(sums, ReduceOp::kSum);
    totals = {.weight = sums[0].item<double>(),
              .first_tokens = sums[1].item<double>(),
              .step = learner_.step()};
    if (truncated > 0)
      run_.recorder().record("num_truncated", static_cast<double>(truncated), Reduce::kSum);
    return encoded;
  }

  double global_sum(double value) {
    at::Tensor sum = at::full({1}, value, at::kDouble);
    run_.comm().all_reduce(sum, ReduceOp::kSum);
    return sum.item<double>();
  }

  void step() {
    const auto started = std::chrono::steady_clock::now();
    const auto rows = sampler_.next(rows_per_step_);
    StepTotals totals;
    const auto encoded = encode_rows(run_.data(), rows, totals);
    if (totals.weight <= 0.0)
      throw DataError("step " + std::to_string(learner_.step() + 1) +
                      ": no row of the batch has anything to learn from (a token, or a label)");
    algorithm_.begin_step(encoded);
    int64_t tokens = 0;
    for (const auto& batch : micro_batches(encoded, optim_.max_tokens_per_micro_batch)) {
      learner_.accumulate(algorithm_.loss(batch, totals));
      for (const auto& row : batch) tokens += row.num_tokens();
    }
    algorithm_.before_update();
    learner_.update();
    algorithm_.after_update(learner_.step());
    auto& recorder = run_.recorder();
    run_.record_tokens(tokens);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - started;
    recorder.record("step_time", taken.count(), Reduce::kMax);
    recorder.record("epoch", sampler_.epoch(), Reduce::kMax);
    recorder.flush(learner_.step());
  }

  /// Loss and metrics over all of eval_data, as eval_*.
  void evaluate() {
    const auto* data = run_.eval_data();
    if (data == nullptr) return;
    at::NoGradGuard no_grad;
    std::vector<int64_t> rows(static_cast<size_t>(data->size()));
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i);
    StepTotals totals;
    const auto encoded = encode_rows(*data, rows, totals);
    algorithm_.begin_evaluation();
    algorithm_.begin_step(encoded);
    double loss = 0.0;
    MetricSums sums;
    for (const auto& batch : micro_batches(encoded, optim_.max_tokens_per_micro_batch)) {
      const auto output = algorithm_.loss(batch, totals);
      loss += output.loss.item<double>();
      merge(sums, output.metrics);
    }
    auto& recorder = run_.recorder();
    recorder.record("eval_loss", global_sum(loss));
    record_metrics(recorder, sums, "eval_");
    algorithm_.evaluate(*data, recorder);
    algorithm_.end_evaluation(run_, learner_.step());
    run_.flush_evaluation(learner_.step());
  }

  void save() {
    StateDict state;
    state.integers["sampler.position"] = sampler_.position();
    run_.save_checkpoint(learner_, std::move(state));
  }

  TrainingRun& run_;
  OfflineAlgorithm& algorithm_;
  const OptimSection& optim_;
  int64_t rows_per_step_;
  int64_t total_steps_;
  Sampler sampler_;
  Learner learner_;
};

}  // namespace

void OfflineAlgorithm::train(TrainingRun& run) { OfflineTrainer(run, *this).train(); }

}  // namespace meed
