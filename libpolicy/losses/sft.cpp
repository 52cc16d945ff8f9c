#include "libpolicy/losses/sft.h"

#include <ATen/ATen.h>

namespace meed {

LossOutput sft_loss(const at::Tensor& logprobs_M, double num_tokens) {
  return {.loss = -logprobs_M.sum() / num_tokens, .metrics = {}};
}

}  // namespace meed
