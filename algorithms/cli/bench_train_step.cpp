#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <chrono>

#include "algorithms/cli/bench.h"
#include "libpolicy/core/cuda_library.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/optim/adamw.h"

namespace meed::cli {
namespace {

/// Random rows as the peer's script draws them: ids in [100, V - 100).
PackedBatch random_batch(const BenchOptions& options, int64_t vocab_size) {
  auto generator = at::detail::createCPUGenerator(/*seed=*/0);
  PackedBatchBuilder builder;
  for (int64_t row = 0; row < options.batch; ++row) {
    const auto ids = at::randint(100, vocab_size - 100, {options.tokens}, generator, at::kLong);
    builder.add({ids.const_data_ptr<int64_t>(), static_cast<size_t>(options.tokens)});
  }
  return builder.build();
}

/// Forward, backward and AdamW of the mean next-token loss on batch x tokens random ids.
BenchResult run(const BenchOptions& options) {
  const auto model = CausalLm::load(
      options.model,
      {.dtype = options.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat,
       .trainable = true,
       .device = parse_device(options.device, LaunchEnv::from_environment().local_rank)});
  const auto& any_parameter = model->parameters().items().front().second;
  AdamW optimizer(model->parameters().trainable(), {.weight_decay = 0.01});
  const auto batch = random_batch(options, model->config().vocab_size);
  const auto selected_M = at::nonzero(batch.predecessors_N.ge(0)).flatten();
  BenchResult result;
  double loss_value = 0;
  for (int64_t step = 0; step <= options.steps; ++step) {
    const auto start = std::chrono::steady_clock::now();
    auto loss = -token_logprobs(*model, batch, selected_M).logprobs_M.mean();
    loss_value = loss.item<double>();
    loss.backward();
    loss = at::Tensor();
    optimizer.step(/*learning_rate=*/1e-6);
    optimizer.zero_grad();
    model->sync_compute_weights();
    if (!any_parameter.is_cpu()) (void)any_parameter.detach().view(-1)[0].item<float>();  // waits
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (step == 0)
      result.start_to_first_step_s = seconds_since_start();
    else
      result.all_s.push_back(elapsed.count());
  }
  result.tokens = static_cast<double>(options.batch * options.tokens);
  result.extra = {{"batch", static_cast<double>(options.batch)},
                  {"tokens", static_cast<double>(options.tokens)},
                  {"loss", loss_value}};
  if (!any_parameter.is_cpu())
    result.extra.emplace_back(
        "peak_gpu_mb", static_cast<double>(gpu_peak_bytes(any_parameter.device())) / (1 << 20));
  return result;
}

const bool registered =
    add_bench({"train-step", "Forward, backward and AdamW of a language model", run});

}  // namespace
}  // namespace meed::cli
