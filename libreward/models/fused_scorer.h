#pragma once

#include <memory>
#include <string>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/core/run_context.h"
#include "libreward/models/text_scorer.h"

namespace meed {

/// `fusion:` RewardFusion (Trickle-down): a text's reward becomes the mean of its own and those of
/// the most similar texts of `data`, weighted by cosine similarity. Off while data is not given.
struct FusionSection {
  std::optional<ConfigNode> data;
  std::string encoder = "hashed_ngrams";
  int64_t max_neighbours = 5;
  double least_similarity = 0.9;
  void fields(FieldVisitor& v);
};

/// Serves `inner` with its rewards fused over the sides and completions of fusion.data, whose
/// rewards and embeddings are computed here, once; `inner` itself where fusion is off. Throws
/// DataError if the data has no such text, or the encoder cannot be read.
std::unique_ptr<TextScorer> with_fusion(std::unique_ptr<TextScorer> inner,
                                        const FusionSection& fusion, RunContext& context);

}  // namespace meed
