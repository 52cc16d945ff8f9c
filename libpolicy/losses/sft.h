#pragma once

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// -sum(logprobs_M) / num_tokens, the mean negative log-likelihood where `num_tokens` counts the
/// target tokens of the whole step.
LossOutput sft_loss(const at::Tensor& logprobs_M, double num_tokens);

}  // namespace meed
