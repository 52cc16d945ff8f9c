#include "libpolicy/models/token_logprobs.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "libpolicy/core/error.h"
#include "libpolicy/models/device_ops.h"
#include "libpolicy/models/fused_linear.h"
#include "libpolicy/models/kernels.h"
#include "libpolicy/models/products.h"
#include "libpolicy/models/row_ops.h"

namespace meed {
namespace {

using kernels::Bf16;

// Logits of one chunk: 256 x 49,152 are 50 MB in float32; fewer rows make the product less
// efficient.
constexpr int64_t kChunkElements = int64_t{1} << 24;
constexpr int64_t kMinChunkRows = 64, kMaxChunkRows = 1024;

// A GPU wants larger products: 0.5 GB of logits in float32.
constexpr int64_t kDeviceChunkElements = int64_t{1} << 27, kMaxDeviceChunkRows = 8192;

int64_t chunk_rows(int64_t vocabulary, at::Device device) {
  if (!device.is_cpu())
    return std::clamp(kDeviceChunkElements / vocabulary / 16 * 16, kMinChunkRows,
                      kMaxDeviceChunkRows);
  return std::clamp(kChunkElements / vocabulary / 16 * 16, kMinChunkRows, kMaxChunkRows);
}

/// Calls body(T*) with the chunk's data as float or Bf16.
template <typename Body>
void with_data(const at::Tensor& logits, const Body& body) {
  if (logits.scalar_type() == at::kFloat)
    body(logits.data_ptr<float>());
  else
    body(static_cast<Bf16*>(logits.data_ptr()));
}

float value_of(float x) { return x; }
float value_of(Bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
void add_to(float& x, float y) { x += y; }
void add_to(Bf16& x, float y) { x = c10::BFloat16(value_of(x) + y).x; }

/// The memory that every chunk's logits take in turn.
at::Tensor logit_buffer(const at::Tensor& hidden_MD, int64_t vocabulary) {
  const int64_t rows = std::min(chunk_rows(vocabulary, hidden_MD.device()), hidden_MD.size(0));
  return at::empty({rows, vocabulary}, hidden_MD.options().dtype(product_dtype(hidden_MD)));
}

struct Statistics {
  at::Tensor logprobs, lse, entropy,
      correct;  // [M]; correct: 1 where the target has the largest logit
};

Statistics forward_chunks(const at::Tensor& hidden_MD, const at::Tensor& weight_VD,
                          const at::Tensor& targets_M, float scale, bool with_entropy) {
  const int64_t M = hidden_MD.size(0), V = weight_VD.size(0);
  const auto options = hidden_MD.options().dtype(at::kFloat);
  Statistics out{at::empty({M}, options), at::empty({M}, options),
                 with_entropy ? at::empty({M}, options) : at::Tensor(), at::empty({M}, options)};
  const auto* targets = targets_M.const_data_ptr<int64_t>();
  auto* logprobs = out.logprobs.data_ptr<float>();
  auto* lse = out.lse.data_ptr<float>();
  auto* correct = out.correct.data_ptr<float>();
  auto* entropy = with_entropy ? out.entropy.data_ptr<float>() : nullptr;
  const auto buffer = logit_buffer(hidden_MD, V);
  for (int64_t first = 0; first < M; first += buffer.size(0)) {
    const int64_t rows = std::min(buffer.size(0), M - first);
    auto logits = buffer.narrow(0, 0, rows);
    product_out(logits, hidden_MD.narrow(0, first, rows), weight_VD.t());
    if (!logits.is_cpu()) {
      const auto part =
          device::logit_statistics(logits, targets_M.narrow(0, first, rows), scale, with_entropy);
      out.logprobs.narrow(0, first, rows).copy_(part.logprobs);
      out.lse.narrow(0, first, rows).copy_(part.lse);
      out.correct.narrow(0, first, rows).copy_(part.correct);
      if (with_entropy) out.entropy.narrow(0, first, rows).copy_(part.entropy);
      continue;
    }
    with_data(logits, [&](auto* data) {
      at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const auto row = kernels::row_statistics(data + r * V, V, scale, with_entropy);
          const float target = value_of(data[r * V + targets[first + r]]);
          logprobs[first + r] = target * scale - row.lse;
          lse[first + r] = row.lse;
          correct[first + r] = target == row.max ? 1.0f : 0.0f;
          if (entropy) entropy[first + r] = row.entropy;
        }
      });
    });
  }
  return out;
}

/// d_logprobs and d_entropy (may be undefined): [M] float32. weight_grad: float32 [V, D] that takes
/// the head's gradient, or undefined.
at::Tensor backward_chunks(const at::Tensor& hidden_MD, const at::Tensor& weight_VD,
                           const at::Tensor& targets_M, const at::Tensor& lse_M,
                           const at::Tensor& entropy_M, float scale, const at::Tensor& d_logprobs_M,
                           const at::Tensor& d_entropy_M, bool with_hidden,
                           at::Tensor weight_grad) {
  const int64_t M = hidden_MD.size(0), V = weight_VD.size(0);
  const auto d_hidden = with_hidden ? at::empty_like(hidden_MD) : at::Tensor();
  const auto* targets = targets_M.const_data_ptr<int64_t>();
  const auto* lse = lse_M.const_data_ptr<float>();
  const auto* d_logprobs = d_logprobs_M.defined() ? d_logprobs_M.const_data_ptr<float>() : nullptr;
  const auto* d_entropy = d_entropy_M.defined() ? d_entropy_M.const_data_ptr<float>() : nullptr;
  const auto* entropy = d_entropy ? entropy_M.const_data_ptr<float>() : nullptr;
  const auto buffer = logit_buffer(hidden_MD, V);
  at::Tensor scratch;  // for one chunk's product, bfloat16
  for (int64_t first = 0; first < M; first += buffer.size(0)) {
    const int64_t rows = std::min(buffer.size(0), M - first);
    const auto hidden = hidden_MD.narrow(0, first, rows);
    const auto chunk = [&](const at::Tensor& tensor_M) {
      return tensor_M.defined() ? tensor_M.narrow(0, first, rows) : tensor_M;
    };
    auto logits = buffer.narrow(0, 0, rows);
    product_out(logits, hidden, weight_VD.t());
    if (logits.is_cpu())
      with_data(logits, [&](auto* data) {
        at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const int64_t i = first + r;
            const float d = d_logprobs ? d_logprobs[i] : 0.0f;
            kernels::logit_gradient(data + r * V, V, scale, lse[i], entropy ? entropy[i] : 0.0f, d,
                                    d_entropy ? d_entropy[i] : 0.0f);
            add_to(data[r * V + targets[i]], d * scale);
          }
        });
      });
    else
      device::logit_gradient(logits, chunk(targets_M), scale, chunk(lse_M), chunk(entropy_M),
                             chunk(d_logprobs_M), chunk(d_entropy_M));
    if (with_hidden) product_out(d_hidden.narrow(0, first, rows), logits, weight_VD);
    if (weight_grad.defined())
      add_product(weight_grad, /*fresh=*/false, logits.t(), hidden, &scratch);
  }
  return d_hidden;
}

struct Head {
  at::Tensor compute_VD;
  at::Tensor master_VD;  // the leaf whose .grad takes the gradient, or undefined
};

struct LogprobFunction : public torch::autograd::Function<LogprobFunction> {
  // graph_head_VD stands for the head in the graph: the master, or the compute weight itself.
  static torch::autograd::tensor_list forward(torch::autograd::AutogradContext* context,
                                              const at::Tensor& hidden_MD,
                                              const at::Tensor& graph_head_VD, const Head& head,
                                              const at::Tensor& targets_M, double temperature,
                                              bool with_entropy) {
    const auto scale = static_cast<float>(1.0 / temperature);
    (void)graph_head_VD;
    auto stats = forward_chunks(hidden_MD, head.compute_VD, targets_M, scale, with_entropy);
    context->save_for_backward({hidden_MD, head.compute_VD, targets_M, stats.lse});
    // Detached: an output that its own node holds is a cycle, and would never be freed.
    context->saved_data["entropy"] = with_entropy ? stats.entropy.detach() : at::Tensor();
    context->saved_data["scale"] = static_cast<double>(scale);
    context->saved_data["master"] = head.master_VD;
    context->mark_non_differentiable({stats.correct});
    context->set_materialize_grads(false);
    if (with_entropy) return {stats.logprobs, stats.correct, stats.entropy};
    return {stats.logprobs, stats.correct};
  }
  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               torch::autograd::tensor_list gradients) {
    at::NoGradGuard no_grad;
    const auto saved = context->get_saved_variables();
    const auto& head_VD = saved[1];
    const auto entropy = context->saved_data["entropy"].toTensor();
    const auto master = context->saved_data["master"].toTensor();
    const auto contiguous = [](const at::Tensor& g) {
      return g.defined() ? g.to(at::kFloat).contiguous() : g;
    };
    const auto d_logprobs = contiguous(gradients[0]);
    const auto d_entropy = gradients.size() > 2 ? contiguous(gradients[2]) : at::Tensor();
    if (!d_logprobs.defined() && !d_entropy.defined()) return torch::autograd::tensor_list(6);
    at::Tensor weight_grad, returned;
    if (master.defined()) {
      auto& grad = master.mutable_grad();
      if (!grad.defined()) grad = at::zeros(master.sizes(), master.options());
      MEED_CHECK(grad.is_contiguous(), "the head's gradient is contiguous");
      weight_grad = grad;
    } else if (context->needs_input_grad(1)) {
      weight_grad = at::zeros(head_VD.sizes(), head_VD.options().dtype(at::kFloat));
      returned = weight_grad;
    }
    const auto d_hidden =
        backward_chunks(saved[0], head_VD, saved[2], saved[3], entropy,
                        static_cast<float>(context->saved_data["scale"].toDouble()), d_logprobs,
                        d_entropy, context->needs_input_grad(0), weight_grad);
    return {d_hidden, returned.defined() ? returned.to(head_VD.scalar_type()) : returned,
            {},       {},
            {},       {}};
  }
};

void check_inputs(const at::Tensor& hidden_MD, const at::Tensor& lm_head_VD,
                  const at::Tensor& targets_M, double temperature) {
  MEED_CHECK(lm_head_VD.defined(), "the model has no language-model head");
  MEED_CHECK(hidden_MD.dim() == 2 && hidden_MD.size(1) == lm_head_VD.size(1),
             "hidden_MD and lm_head_VD disagree");
  MEED_CHECK(targets_M.dim() == 1 && targets_M.size(0) == hidden_MD.size(0),
             "one target for each position");
  MEED_CHECK(temperature > 0, "temperature must be positive");
  if (targets_M.numel() == 0) return;
  MEED_CHECK(
      targets_M.min().item<int64_t>() >= 0 && targets_M.max().item<int64_t>() < lm_head_VD.size(0),
      "a target is outside the vocabulary");
}

}  // namespace

TokenLogprobs chunked_logprobs(const at::Tensor& hidden_MD, const at::Tensor& lm_head_VD,
                               const at::Tensor& targets_M, double temperature, bool with_entropy,
                               const at::Tensor& lm_head_master) {
  check_inputs(hidden_MD, lm_head_VD, targets_M, temperature);
  // A leaf takes its gradient in place; anything else gets it through the graph.
  at::Tensor master = lm_head_master;
  if (!master.defined() && lm_head_VD.requires_grad() && lm_head_VD.is_leaf() &&
      lm_head_VD.scalar_type() == at::kFloat)
    master = lm_head_VD;
  if (master.defined() && !(master.requires_grad() && at::GradMode::is_enabled()))
    master = at::Tensor();
  const auto outputs = LogprobFunction::apply(
      hidden_MD.contiguous(), master.defined() ? master : lm_head_VD,
      Head{lm_head_VD.detach(), master}, targets_M.to(hidden_MD.device()).contiguous(), temperature,
      with_entropy);
  return {.logprobs_M = outputs[0],
          .entropy_M = with_entropy ? outputs[2] : at::Tensor(),
          .correct_M = outputs[1]};
}

TokenLogprobs token_logprobs(CausalLm& model, const PackedBatch& batch,
                             const at::Tensor& selected_M, double temperature, bool with_entropy) {
  const auto sources_M = batch.predecessors_N.index_select(0, selected_M);
  MEED_CHECK(selected_M.numel() == 0 || sources_M.min().item<int64_t>() >= 0,
             "the first token of a sequence has no log-probability");
  const auto hidden_ND = model.hidden_states(batch);
  const auto head = model.lm_head();
  auto tokens = chunked_logprobs(hidden_ND.index_select(0, sources_M.to(hidden_ND.device())),
                                 head.weight, batch.ids_N.index_select(0, selected_M), temperature,
                                 with_entropy, head.master);
  for (auto* tensor_M : {&tokens.logprobs_M, &tokens.entropy_M, &tokens.correct_M})
    if (tensor_M->defined()) *tensor_M = tensor_M->to(at::kCPU);
  return tokens;
}

}  // namespace meed
