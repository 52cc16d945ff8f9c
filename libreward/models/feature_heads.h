#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "libpolicy/core/config.h"
#include "libreward/models/reward_head.h"

namespace meed {

/// Where feature vectors come from; what a head needs to know to be served on texts.
struct FeatureSource {
  std::string model;  ///< backbone: a decoder's folder or GGUF file, or a BERT encoder's folder;
                      ///< "": unknown
  std::string pooling = "last";  ///< "last", "mean", "prompt_end"
  int64_t max_length = 1024;     ///< tokens; longer texts lose their prompt's start
  bool operator==(const FeatureSource&) const = default;
};

/// How several members become one reward (see aggregate_members).
struct Aggregate {
  std::string how = "mean";  ///< "mean", "median", "min", "mean_minus_std"
  double std_coef = 0.5;
};

/// One reward head on feature vectors, or an ensemble of them: what the algorithm reward_head
/// trains. Its folder holds head.safetensors and meed.json; an ensemble's meed.json names its
/// members' folders. Not thread-safe.
class FeatureHeads {
 public:
  struct Fresh {
    ConfigNode head;
    int64_t num_members = 1;
    /// "finetune", "init": members differ in their first weights; "pretrain": in the frozen map of
    /// a random_features head too (Helping or herding); "order": in nothing, all start alike.
    std::string vary = "finetune";
    int64_t features = 0, context = 0;  ///< numbers in a vector
    uint64_t seed = 0;
  };
  static std::unique_ptr<FeatureHeads> create(const Fresh& fresh);
  /// Throws DataError that names the file and what is wrong.
  static std::unique_ptr<FeatureHeads> load(const std::filesystem::path& folder);
  /// Whether `path` is such a folder.
  static bool is_folder(const std::filesystem::path& path);
  void save(const std::filesystem::path& folder) const;

  int64_t size() const { return static_cast<int64_t>(members_.size()); }
  RewardHead& member(int64_t m) const { return *members_.at(static_cast<size_t>(m)).head; }
  /// Type of the heads: "linear", "mixture", ...
  std::string type() const;
  /// All members' parameters; a single head's by its own names, an ensemble's after "member-M.".
  ParameterStore& parameters() { return parameters_; }
  int64_t num_features() const { return features_; }
  int64_t num_context() const { return context_; }
  FeatureSource source;
  Aggregate aggregate;

  /// Rewards of each member, [M, B]. Throws DataError where a vector has another size.
  at::Tensor member_rewards(const HeadInput& input) const;
  /// The members' rewards as one, [M, B] -> [B]; float64 where there are several.
  at::Tensor aggregated(const at::Tensor& rewards_MB) const;
  at::Tensor rewards(const HeadInput& input) const { return aggregated(member_rewards(input)); }
  /// log-odds that the first of two is better, [B]: the head's own, or the difference of an
  /// ensemble's rewards.
  at::Tensor preference(const HeadInput& first, const HeadInput& second) const;

 private:
  struct Member {
    ConfigNode config;
    std::unique_ptr<RewardHead> head;
  };
  void add_member(const ConfigNode& config, uint64_t seed);
  void add_saved(const std::filesystem::path& folder);
  void collect_parameters();

  std::vector<Member> members_;
  ParameterStore parameters_;
  int64_t features_ = 0, context_ = 0;
};

/// Copies the weights of `from` into `heads` where they have the same head and sizes: a stage that
/// goes on from an earlier run. Throws DataError naming the first parameter that does not fit.
void copy_weights(const FeatureHeads& from, FeatureHeads& heads, const std::string& where);

}  // namespace meed
