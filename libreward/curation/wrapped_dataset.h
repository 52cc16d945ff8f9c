#pragma once

#include <string>
#include <vector>

#include "libpolicy/data/dataset.h"

namespace meed {

/// A dataset whose rows are made in its constructor: what a wrapper of another dataset, or a
/// generator, derives from.
class ListDataset : public Dataset {
 public:
  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  Example get(int64_t index) const override {
    Example example = rows_.at(static_cast<size_t>(index));
    example.row = index;
    return example;
  }

 protected:
  std::vector<Example> rows_;
};

/// Throws DataError naming the row and the dataset if the row is no preference pair, or has hidden
/// states of the texts that the dataset is about to change.
void require_pair(const Example& example, const std::string& dataset);

/// A completion's text as the prompt's kind of content.
Content side_of(const Content& prompt, const std::string& text);

}  // namespace meed
