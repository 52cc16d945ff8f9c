#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/core/random.h"
#include "libpolicy/data/dataset.h"

namespace meed {

/// Keys of every generated task.
struct GeneratedRows {
  int64_t num_rows = 1000;
  int64_t seed = 0;
  std::string split = "train";
  double eval_fraction = 0.2;
  void fields(FieldVisitor& v);
};

/// Rows of a task that is made up from a seed. A row belongs to the train or the eval split by a
/// hash of its prompt, so that the two never share one, whatever the seeds.
class GeneratedTask : public Dataset {
 public:
  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  Example get(int64_t index) const override;

 protected:
  /// Row i from its own stream of numbers. Throws DataError if the split stays empty.
  void generate(const GeneratedRows& config, const std::string& task,
                const std::function<Example(RandomStream&)>& make);

 private:
  std::vector<Example> rows_;
};

/// A row of plain text; the prompt ends where the completion begins.
Example plain_row(std::string prompt, std::string completion);

/// One of several, each as likely.
template <typename List>
const auto& pick(const List& list, RandomStream& random) {
  return list[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(std::size(list)) - 1))];
}

/// The first `count` of a list after a shuffle.
template <typename T>
std::vector<T> sample_of(std::vector<T> list, size_t count, RandomStream& random) {
  for (size_t i = 0; i < count && i + 1 < list.size(); ++i)
    std::swap(list[i], list[static_cast<size_t>(random.next_int(
                           static_cast<int64_t>(i), static_cast<int64_t>(list.size()) - 1))]);
  list.resize(std::min(count, list.size()));
  return list;
}

/// Items with `between` in between.
std::string joined(const std::vector<std::string>& items, std::string_view between);

/// A JSON list of texts, as reward functions read columns of several texts.
std::string json_list(const std::vector<std::string>& items);

}  // namespace meed
