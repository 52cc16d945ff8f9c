#pragma once

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// The general preference model (Zhang et al. 2024): embeddings v in R^2k, s(i over j) =
/// sum_b l_b (v_i[2b] v_j[2b+1] - v_i[2b+1] v_j[2b]); antisymmetric, so cycles can be told. With
/// k = 1 and v = (r, 1) it is r_i - r_j. The sign is that of the authors' code. [B, 2k] each;
/// block_weights_Bk (or [k], or undefined: 1) scale the blocks by prompt. Returns [B].
at::Tensor preference_score(const at::Tensor& first_BE, const at::Tensor& second_BE,
                            const at::Tensor& block_weights = {});

/// All scores of n responses, s_ij = s(i over j) [n, n], from n embeddings [n, 2k].
at::Tensor preference_scores(const at::Tensor& embeddings_nE, const at::Tensor& block_weights = {});

/// -log sigmoid(s(chosen over rejected) / tau), summed and divided by `num_pairs`; the paper's tau
/// is 0.1. Metrics: accuracy, margin.
LossOutput preference_embedding_loss(const at::Tensor& chosen_BE, const at::Tensor& rejected_BE,
                                     double tau, double num_pairs,
                                     const at::Tensor& block_weights = {});

}  // namespace meed
