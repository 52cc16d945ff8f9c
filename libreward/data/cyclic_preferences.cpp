#include <numbers>

#include "libreward/data/generated_rows.h"

namespace meed {
namespace {

/// Preferences without a best response (general preference model): the responses of a prompt lie on
/// a circle in a hidden plane, each beats those less than half a turn behind it. With cycle_length
/// 0 the preferences are transitive: a linear utility decides.
class CyclicPreferences final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    int64_t cycle_length = 3, num_features = 8;
    double noise = 0.2;
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.field("cycle_length", cycle_length,
              "Responses that beat each other in turn; 0: transitive.");
      v.field("num_features", num_features, "Numbers of a response; the first is 1.");
      v.field("noise", noise, "Deviation of the features that say nothing.");
      v.require(cycle_length == 0 || cycle_length >= 3, "cycle_length", "must be 0, or at least 3");
      v.require(num_features >= 4, "num_features", "must be at least 4");
      v.require(noise >= 0, "noise", "must not be negative");
    }
  };
  explicit CyclicPreferences(const Config& config) : config_(config) {
    auto hidden = world(config.keys, kTag);
    const int64_t D = config.num_features - 1;
    u_ = hidden.direction(D, 1.0);
    v_ = hidden.vector(D);
    const double along = dot(u_, v_);
    for (size_t d = 0; d < v_.size(); ++d) v_[d] -= along * u_[d];
    const double norm = std::sqrt(dot(v_, v_));
    for (auto& value : v_) value /= norm;
    for (int64_t prompt = 0; size() < config.keys.num_rows; ++prompt)
      config.cycle_length == 0 ? add_transitive(prompt) : add_cycle(prompt);
  }

 private:
  static constexpr uint64_t kTag = 0xc1c1e;

  std::vector<double> response(NormalStream& random, double along_u, double along_v) const {
    std::vector<double> x{1.0};
    const auto noise = random.vector(static_cast<int64_t>(u_.size()), config_.noise);
    // Noise only outside of the plane, so that a cycle is a cycle.
    const double nu = dot(noise, u_), nv = dot(noise, v_);
    for (size_t d = 0; d < u_.size(); ++d)
      x.push_back(noise[d] + (along_u - nu) * u_[d] + (along_v - nv) * v_[d]);
    return x;
  }

  void add(const std::vector<double>& chosen, const std::vector<double>& rejected, double gold) {
    if (size() < config_.keys.num_rows) rows_.push_back(pair(chosen, rejected, gold, 0.0));
  }

  void add_cycle(int64_t prompt) {
    auto random = row_stream(config_.keys, kTag, prompt);
    const double offset = 2.0 * std::numbers::pi * random.uniform();
    const int64_t n = config_.cycle_length;
    std::vector<std::vector<double>> responses;
    for (int64_t i = 0; i < n; ++i) {
      const double angle =
          offset + 2.0 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(n);
      responses.push_back(response(random, std::cos(angle), std::sin(angle)));
    }
    for (int64_t i = 0; i < n; ++i)
      for (int64_t ahead = 1; 2 * ahead < n; ++ahead) {
        const auto j = static_cast<size_t>((i + ahead) % n);
        add(responses[static_cast<size_t>(i)], responses[j],
            std::sin(2.0 * std::numbers::pi * static_cast<double>(ahead) / static_cast<double>(n)));
      }
  }

  void add_transitive(int64_t prompt) {
    auto random = row_stream(config_.keys, kTag, prompt);
    const double a = random.next(), b = random.next();
    const auto x = response(random, a, random.next()), y = response(random, b, random.next());
    add(a > b ? x : y, a > b ? y : x, std::abs(a - b));
  }

  Config config_;
  std::vector<double> u_, v_;  ///< the hidden plane; a transitive utility is along u
};

MEED_REGISTER(datasets, "cyclic_preferences", CyclicPreferences,
              "Generated preferences that go in a circle, as vectors.");

}  // namespace
}  // namespace meed
