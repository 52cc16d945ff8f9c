#pragma once

#include <vector>

#include "libpolicy/data/dataset.h"

namespace meed {

/// A dataset that hands rows of others on as they are: some of them, in another order, mixed. What
/// is known of those rows holds for its own.
class HandsRowsOn {
 public:
  virtual ~HandsRowsOn() = default;
  /// The datasets that its rows come from.
  virtual std::vector<const Dataset*> sources() const = 0;
};

}  // namespace meed
