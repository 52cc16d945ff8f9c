#pragma once

#include <cstdint>

#include "libpolicy/core/config.h"

namespace meed {

/// How long the sums of chain_sums and chain_solutions are, and of what.
struct ChainSize {
  int64_t min_terms, max_terms, max_term = 9;
  void fields(FieldVisitor& v) {
    v.field("min_terms", min_terms, "Fewest numbers of a sum.");
    v.field("max_terms", max_terms, "Most.");
    v.field("max_term", max_term, "Largest of these numbers.");
    v.require(min_terms >= 2 && max_terms >= min_terms && max_terms <= 20, "max_terms",
              "must be min_terms to 20, and min_terms at least 2");
    v.require(max_term >= 1 && max_term <= 999, "max_term", "must be 1 to 999");
  }
};

}  // namespace meed
