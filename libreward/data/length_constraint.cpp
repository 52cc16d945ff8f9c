#include "libreward/data/length_constraint.h"

#include <charconv>

#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libpolicy/data/hands_rows_on.h"

namespace meed {

bool keeps_length(double chosen, double rejected, double max_ratio) {
  return chosen <= max_ratio * rejected;
}

namespace {

/// The pairs of another dataset whose chosen side is not much longer than the rejected one: a
/// reward model cannot learn from them that longer is better (InternLM-XComposer2.5-Reward).
class LengthConstraint final : public Dataset, public HandsRowsOn {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    double max_ratio = 1.5;
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(), "The preferences to filter.");
      v.required("data");
      v.field("max_ratio", max_ratio,
              "Largest length of chosen by that of rejected: by the columns chosen_length and "
              "rejected_length where they are there, else in bytes of text.");
      v.require(max_ratio > 0, "max_ratio", "must be positive");
    }
  };
  LengthConstraint(const Config& config, RunContext& context)
      : data_(datasets().create(*config.data, context)) {
    for (int64_t i = 0; i < data_->size(); ++i) {
      const auto example = data_->get(i);
      if (keeps_length(length(example, "chosen_length", example.chosen),
                       length(example, "rejected_length", example.rejected), config.max_ratio))
        places_.push_back(i);
    }
    if (places_.empty()) throw DataError("length_constraint: no pair is left; raise max_ratio");
    log_info("length_constraint: " + std::to_string(data_->size() - size()) + " of " +
             std::to_string(data_->size()) + " pairs left out");
  }
  int64_t size() const override { return static_cast<int64_t>(places_.size()); }
  Example get(int64_t index) const override {
    auto example = data_->get(places_.at(static_cast<size_t>(index)));
    example.row = index;
    return example;
  }
  int64_t num_skipped() const override { return data_->num_skipped(); }
  std::vector<const Dataset*> sources() const override { return {data_.get()}; }

 private:
  static double length(const Example& example, const std::string& column, const Content& content) {
    const auto where = "length_constraint: row " + std::to_string(example.row + 1) + ": ";
    if (const auto found = example.extra.find(column); found != example.extra.end()) {
      double value = 0.0;
      const auto& text = found->second;
      const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
      if (read.ec != std::errc() || read.ptr != text.data() + text.size() || value < 0)
        throw DataError(where + "\"" + column + "\" holds \"" + text + "\", not a length");
      return value;
    }
    if (content.empty()) throw DataError(where + "neither a text nor \"" + column + "\"");
    double bytes = static_cast<double>(content.text.size());
    for (const auto& message : content.messages)
      bytes += static_cast<double>(message.content.size());
    return bytes;
  }
  std::unique_ptr<Dataset> data_;
  std::vector<int64_t> places_;
};

MEED_REGISTER(datasets, "length_constraint", LengthConstraint,
              "Another dataset's pairs, without those whose chosen side is much longer.");

}  // namespace
}  // namespace meed
