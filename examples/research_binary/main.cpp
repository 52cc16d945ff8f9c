// A research binary: a reward of its own beside meed's, losses on plain tensors, and meed's
// training loop.
//
//   research_binary                                   scores two completions, prints losses
//   research_binary RECIPE.yaml [key=value ...]       trains; the recipe may name `acrostic` among
//   its rewards

#include <ATen/ATen.h>

#include <cctype>
#include <cstdio>
#include <exception>
#include <sstream>

#include "algorithms/recipe.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/losses/dpo.h"
#include "libreward/losses/bradley_terry.h"
#include "libreward/reward_pipeline.h"

namespace {

/// Share of the word's letters that the completion's lines begin with, in order.
class Acrostic final : public meed::PointwiseReward {
 public:
  struct Config {
    std::string word;
    void fields(meed::FieldVisitor& v) {
      v.field("word", word, "What the first letters of the lines should spell.");
      v.required("word");
    }
  };
  explicit Acrostic(const Config& config) : word_(config.word) {}

 private:
  meed::Score score_one(const meed::Example&, const meed::Completion& completion) override {
    std::istringstream lines(completion.text);
    size_t found = 0;
    for (std::string line; found < word_.size() && std::getline(lines, line); ++found)
      if (line.empty() || std::tolower(static_cast<unsigned char>(line[0])) != word_[found]) break;
    return {.value = word_.empty()
                         ? 1.0
                         : static_cast<double>(found) / static_cast<double>(word_.size())};
  }
  std::string word_;
};

MEED_REGISTER(meed::reward_functions, "acrostic", Acrostic,
              "Lines whose first letters spell a word.");

void score_completions() {
  const auto comm = meed::Communicator::create({}, at::kCPU, "single");
  meed::NullMetrics metrics;
  meed::RunContext context{.comm = *comm, .metrics = metrics};
  const auto recipe = meed::ConfigNode::parse_string(
      "[{type: acrostic, word: meed, weight: 2.0}, {type: format, pattern: '\\n', match: search}]",
      "example");
  meed::RewardPipeline pipeline(recipe.items(), context);
  meed::RolloutGroup group;
  for (const auto* text : {"Many\nears\nend\ndreaming", "Many words"}) {
    meed::Completion completion;
    completion.text = text;
    group.completions.push_back(std::move(completion));
  }
  const auto scores = pipeline.score({&group, 1});
  for (int64_t g = 0; g < 2; ++g)
    std::printf("completion %ld: reward %.2f, acrostic %.2f\n", static_cast<long>(g),
                scores.rewards_PG[0][g].item<double>(),
                scores.components.at("acrostic")[0][g].item<double>());
}

void losses_on_tensors() {
  const auto chosen_B = at::tensor({2.0F, 1.0F}).requires_grad_(),
             rejected_B = at::tensor({1.0F, 1.5F});
  const auto ranking =
      meed::bradley_terry_loss(chosen_B, rejected_B, /*margins_B=*/{},
                               /*center_rewards_coefficient=*/0.0, /*num_pairs=*/2.0);
  std::printf("Bradley-Terry loss %.6f\n", ranking.loss.item<double>());
  const auto zero_B = at::zeros({2}), length_B = at::full({2}, 10.0F);
  const auto preference = meed::dpo_loss({.policy_chosen_B = chosen_B,
                                          .policy_rejected_B = rejected_B,
                                          .ref_chosen_B = zero_B,
                                          .ref_rejected_B = zero_B,
                                          .chosen_lengths_B = length_B,
                                          .rejected_lengths_B = length_B},
                                         {.beta = 0.5}, {.num_pairs = 2.0});
  std::printf("DPO loss %.6f\n", preference.loss.item<double>());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc > 1) return meed::run_recipe(meed::Recipe::load(argv[1], {argv + 2, argv + argc}), {});
    score_completions();
    losses_on_tensors();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
