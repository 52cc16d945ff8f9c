#pragma once

#include "algorithms/head_objective.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/data/dataset.h"
#include "libreward/models/feature_heads.h"

namespace meed {

/// What heads do on all rows of `data`, recorded as eval_*: which figures depends on what the rows
/// hold (docs/metrics.md). Pairs: accuracy, calibration, members and gates; by the column
/// `cluster`; against the column `flipped`; rank correlation with lengths. Labelled rows: R^2 by
/// attribute, accuracy against `gold`. Candidates with `candidate_gold`: best of N. Every rank
/// computes all of it.
void evaluate_heads(const FeatureHeads& heads, const Dataset& data, const HeadObjective& objective,
                    MetricsWriter& writer);

}  // namespace meed
