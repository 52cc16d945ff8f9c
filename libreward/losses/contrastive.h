#pragma once

#include "libpolicy/losses/loss_output.h"

namespace meed {

class Communicator;

/// InfoNCE of Secrets of RLHF II (SimCSE): f_i and f'_i, two passes of one row, are positives, all
/// other rows' f' negatives: -log(exp(cos(f_i, f'_i) / t) / sum_j exp(cos(f_i, f'_j) / t)), summed
/// over this rank's rows and divided by `num_rows` of the whole step. With `comm` the negatives are
/// those of all ranks, and losses and gradients add up over ranks to those of one process. A
/// collective then. [B, D] float32 or float64; zero rows count as cosine 0.
LossOutput info_nce_loss(const at::Tensor& features_BD, const at::Tensor& positives_BD,
                         double temperature, double num_rows, Communicator* comm = nullptr);

/// SwAV variant (Caron et al. 2020): codes q of each view over K prototypes by `iterations` of
/// Sinkhorn-Knopp (no gradient) are predicted from the other view,
/// -(q' . log softmax(f C / t) + q . log softmax(f' C / t)) / 2. prototypes_KD are normalised here.
/// With `comm` the codes are those of all ranks' rows; a collective then.
LossOutput swav_loss(const at::Tensor& features_BD, const at::Tensor& positives_BD,
                     const at::Tensor& prototypes_KD, double temperature, double num_rows,
                     int iterations = 3, double epsilon = 0.05, Communicator* comm = nullptr);
/// The codes: [B, K] rows that sum to 1, columns in equal shares.
at::Tensor sinkhorn_codes(const at::Tensor& scores_BK, int iterations, double epsilon);

/// MetaRM's difference objective J = 2 / k^2 sum_{i<j} sigmoid(|r_i - r_j|) over the k responses of
/// each prompt, mean over prompts; to be climbed. rewards_PK: [P, k]; in [(k-1)/(2k), (k-1)/k).
at::Tensor meta_difference(const at::Tensor& rewards_PK);

}  // namespace meed
