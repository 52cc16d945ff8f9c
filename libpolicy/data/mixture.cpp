#include <numeric>

#include "libpolicy/core/error.h"
#include "libpolicy/data/hands_rows_on.h"

namespace meed {
namespace {

/// Several datasets as one. Row i comes from the source that is furthest behind its share, so every
/// stretch of the mixture has the shares asked for; a source that is used up starts again.
class Mixture final : public Dataset, public HandsRowsOn {
 public:
  struct Config {
    std::vector<ConfigNode> sources;
    std::vector<double> weights;
    std::optional<int64_t> num_rows;
    void fields(FieldVisitor& v) {
      v.components("datasets", sources, datasets(), "The datasets to mix.");
      v.required("datasets");
      v.field("weights", weights,
              "Share of each dataset, in any unit; empty: by their numbers of rows.");
      v.field("num_rows", num_rows,
              "Rows of the mixture; null: as many as all datasets have together.");
      v.require(!sources.empty(), "datasets", "must name at least one");
      v.require(weights.empty() || weights.size() == sources.size(), "weights",
                "must be one number for each dataset");
      for (const double weight : weights) v.require(weight > 0, "weights", "must be positive");
      v.require(!num_rows || *num_rows > 0, "num_rows", "must be positive, or null");
    }
  };

  Mixture(const Config& config, RunContext& context) {
    int64_t total = 0;
    std::vector<double> shares = config.weights;
    for (const auto& node : config.sources) {
      sources_.push_back(datasets().create(node, context));
      total += sources_.back()->size();
      if (config.weights.empty()) shares.push_back(static_cast<double>(sources_.back()->size()));
    }
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    const int64_t count = config.num_rows.value_or(total);
    std::vector<int64_t> taken(sources_.size(), 0);
    places_.reserve(static_cast<size_t>(count));
    for (int64_t row = 0; row < count; ++row) {
      size_t chosen = 0;
      double furthest = -1e300;
      for (size_t s = 0; s < sources_.size(); ++s) {
        const double behind =
            shares[s] / sum * static_cast<double>(row + 1) - static_cast<double>(taken[s]);
        if (behind > furthest + 1e-9) {
          furthest = behind;
          chosen = s;
        }
      }
      places_.push_back({chosen, taken[chosen]++ % sources_[chosen]->size()});
    }
  }

  int64_t size() const override { return static_cast<int64_t>(places_.size()); }
  Example get(int64_t index) const override {
    const auto& place = places_.at(static_cast<size_t>(index));
    auto example = sources_[place.source]->get(place.row);
    example.row = index;
    return example;
  }
  int64_t num_skipped() const override {
    int64_t skipped = 0;
    for (const auto& source : sources_) skipped += source->num_skipped();
    return skipped;
  }
  std::vector<const Dataset*> sources() const override {
    std::vector<const Dataset*> all;
    for (const auto& source : sources_) all.push_back(source.get());
    return all;
  }

 private:
  struct Place {
    size_t source;
    int64_t row;
  };
  std::vector<std::unique_ptr<Dataset>> sources_;
  std::vector<Place> places_;
};

MEED_REGISTER(datasets, "mixture", Mixture, "Several datasets in given shares.");

}  // namespace
}  // namespace meed
