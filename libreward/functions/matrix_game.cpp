#include <ATen/ATen.h>

#include <algorithm>

#include "libpolicy/core/run_context.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// A symmetric game of one move, such as rock, paper, scissors: the completion is the move, the
/// reward its mean payoff (1 if it beats, -1 if it is beaten, else 0) against the group's moves,
/// itself included. Parts: share of each move in the batch, largest_share, and the exploitability
/// (what the best answer wins) of the batch's mixture and of the average mixture of all batches.
/// Over all ranks. A text that is no move loses against every move.
class MatrixGame final : public RewardFunction {
 public:
  struct Config {
    std::map<std::string, std::string> beats;
    void fields(FieldVisitor& v) {
      v.field("beats", beats, "What each move beats: several moves apart by commas, or nothing.");
      v.require(!beats.empty(), "beats", "must name a move");
      for (const auto& [move, beaten] : beats)
        for (const auto& other : split(beaten))
          v.require(beats.count(other) > 0 && other != move, "beats",
                    "says that " + move + " beats \"" + other + "\", which is not another move");
    }
  };
  MatrixGame(const Config& config, RunContext& context) : comm_(context.comm) {
    for (const auto& [move, beaten] : config.beats) moves_.push_back(move);
    payoff_.assign(moves_.size(), std::vector<double>(moves_.size(), 0.0));
    for (size_t i = 0; i < moves_.size(); ++i)
      for (const auto& other : split(config.beats.at(moves_[i]))) {
        payoff_[i][index_of(other)] = 1.0;
        payoff_[index_of(other)][i] = -1.0;
      }
    sums_ = at::zeros({static_cast<int64_t>(moves_.size())}, at::kDouble);
  }

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    at::Tensor counts = at::zeros_like(sums_);
    std::vector<std::vector<Score>> scores;
    for (const auto& group : groups) {
      std::vector<size_t> played;
      for (const auto& completion : group.completions)
        played.push_back(index_of(trimmed(completion.text)));
      auto& row = scores.emplace_back(played.size());
      for (size_t i = 0; i < played.size(); ++i) {
        for (const size_t other : played)
          row[i].value += payoff(played[i], other) / static_cast<double>(played.size());
        if (played[i] == moves_.size())
          row[i].unreadable = "no_move";
        else
          counts[static_cast<int64_t>(played[i])] += 1.0;
      }
    }
    comm_.all_reduce(counts, ReduceOp::kSum);
    const auto shares = counts / counts.sum().clamp_min(1.0);
    sums_ += shares;
    const auto average = sums_ / sums_.sum().clamp_min(1e-12);
    std::map<std::string, double> parts{{"exploitability", exploitability(average)},
                                        {"exploitability_of_batch", exploitability(shares)},
                                        {"largest_share", shares.max().item<double>()}};
    for (size_t m = 0; m < moves_.size(); ++m)
      parts["share_" + moves_[m]] = shares[static_cast<int64_t>(m)].item<double>();
    for (auto& row : scores)
      for (auto& each : row) each.parts = parts;
    return scores;
  }
  void save(StateDict& state) const override { state.tensors["sums"] = sums_.clone(); }
  void load(const StateDict& state) override { sums_.copy_(state.tensors.at("sums")); }

 private:
  static std::string trimmed(const std::string& text) {
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return "";
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
  }
  static std::vector<std::string> split(const std::string& list) {
    std::vector<std::string> parts;
    for (size_t begin = 0; begin <= list.size();) {
      const size_t end = std::min(list.find(',', begin), list.size());
      if (auto part = trimmed(list.substr(begin, end - begin)); !part.empty())
        parts.push_back(std::move(part));
      begin = end + 1;
    }
    return parts;
  }
  /// moves_.size() for a text that is no move.
  size_t index_of(const std::string& move) const {
    return static_cast<size_t>(std::find(moves_.begin(), moves_.end(), move) - moves_.begin());
  }
  double payoff(size_t move, size_t other) const {
    if (move == moves_.size()) return other == moves_.size() ? 0.0 : -1.0;
    return other == moves_.size() ? 1.0 : payoff_[move][other];
  }
  double exploitability(const at::Tensor& shares) const {
    double best = 0.0;
    for (const auto& row : payoff_) {
      double value = 0.0;
      for (size_t m = 0; m < row.size(); ++m)
        value += row[m] * shares[static_cast<int64_t>(m)].item<double>();
      best = std::max(best, value);
    }
    return best;
  }

  Communicator& comm_;
  std::vector<std::string> moves_;
  std::vector<std::vector<double>> payoff_;
  at::Tensor sums_;  ///< of the shares of all batches
};

MEED_REGISTER(reward_functions, "matrix_game", MatrixGame,
              "Payoff of a move in a symmetric game against the group's moves.");

}  // namespace
}  // namespace meed
