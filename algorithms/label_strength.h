#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "algorithms/head_objective.h"
#include "libpolicy/data/dataset.h"

namespace meed {

/// Secrets of RLHF II, section 2: an ensemble says how strong each preference of the training data
/// is (mean over its members of chosen less rejected), and labels are mended by it.
class LabelStrength {
 public:
  struct Config {
    std::string ensemble;
    std::vector<std::string> use = {"flip", "margin"};
    double share = 0.1;
    void fields(FieldVisitor& v);
  };
  /// Scores all of `data`. Throws ConfigError, DataError.
  LabelStrength(const Config& config, const Dataset& data);

  bool dropped(int64_t row) const { return drop_[static_cast<size_t>(row)]; }
  int64_t num_suspects() const { return num_suspects_; }
  /// Swaps sides, and sets margins or soft labels.
  void apply(HeadBatch& batch) const;

 private:
  bool flip_ = false, soft_ = false, margin_ = false;
  std::vector<bool> drop_;
  int64_t num_suspects_ = 0;
  at::Tensor mean_N_, flipped_N_;  ///< float32, bool
};

}  // namespace meed
