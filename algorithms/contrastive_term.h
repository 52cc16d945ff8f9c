#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "algorithms/head_objective.h"
#include "libpolicy/core/parameters.h"

namespace meed {

/// The contrastive term of Secrets of RLHF II: a head's last hidden layer tells a row's second
/// dropout pass from those of the step's other rows, on all ranks.
class ContrastiveTerm {
 public:
  struct Config {
    double coef = 0.0;
    std::string kind = "info_nce";
    std::string features = "difference";
    double temperature = 0.05, dropout = 0.1;
    int64_t num_prototypes = 16;
    void fields(FieldVisitor& v);
  };
  ContrastiveTerm(const Config& config, uint64_t seed) : config_(config), seed_(seed) {}

  bool on() const { return config_.coef > 0.0; }
  /// Makes SwAV's prototypes for a hidden layer of `width`; they are trained with the head.
  void init(int64_t num_members, int64_t width, ParameterStore& parameters);
  /// The term for member m, `coef` included, divided by `total` pairs of the step. A collective.
  LossOutput loss(const RewardHead& head, int64_t m, const HeadBatch& batch, int64_t step,
                  double total, Communicator& comm) const;

 private:
  at::Tensor hidden(const RewardHead& head, const HeadInput& input, const HeadBatch& batch,
                    uint64_t side, uint64_t pass, int64_t step) const;
  Config config_;
  uint64_t seed_;
  std::vector<at::Tensor> prototypes_KH_;
};

}  // namespace meed
