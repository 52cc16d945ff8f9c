#pragma once

#include <ATen/core/Tensor.h>

#include "libpolicy/models/causal_lm.h"

namespace meed {

struct TokenLogprobs {
  at::Tensor logprobs_M;  ///< float32 [M], differentiable w.r.t. hidden and lm_head
  at::Tensor entropy_M;   ///< float32 [M] in nats; undefined unless asked for; differentiable like
                          ///< logprobs_M
  at::Tensor correct_M;   ///< float32 [M], 1 where the target has the largest logit; its mean is
                          ///< mean_token_accuracy
};

/// log softmax(hidden W^T / temperature)[target] for M positions, in chunks of positions: logits
/// are never held for more than one chunk, forward or backward (the backward recomputes them).
/// hidden_MD: compute dtype; lm_head_VD: as in LmHead, on the same device; targets_M: int64.
/// lm_head_master: the float32 leaf whose .grad takes the head's gradient (LmHead::master); without
/// it the gradient goes to lm_head_VD if that requires one. Results are on that device. Throws
/// InternalError on shapes that disagree.
TokenLogprobs chunked_logprobs(const at::Tensor& hidden_MD, const at::Tensor& lm_head_VD,
                               const at::Tensor& targets_M, double temperature = 1.0,
                               bool with_entropy = false, const at::Tensor& lm_head_master = {});

/// For the tokens `selected_M` (indices into [0, N), each with a predecessor) of a batch: forward,
/// then chunked_logprobs. Results are on the CPU, whatever device the model is on.
TokenLogprobs token_logprobs(CausalLm& model, const PackedBatch& batch,
                             const at::Tensor& selected_M, double temperature = 1.0,
                             bool with_entropy = false);

}  // namespace meed
