#include "libpolicy/generation/rollout_store.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

namespace fs = std::filesystem;

StoredRollouts some_rollouts(int64_t step) {
  StoredRollouts rollouts{.step = step};
  for (int64_t p = 0; p < 2; ++p) {
    auto& group = rollouts.groups.emplace_back();
    group.example.prompt.text = "What is " + std::to_string(p) + "?\n";
    group.example.extra["answer"] = std::to_string(p);
    group.example.row = 10 + p;
    group.prompt_ids = {1, 2, 3 + p};
    for (int64_t g = 0; g < 3; ++g) {
      Completion completion;
      for (int64_t t = 0; t <= g; ++t) {
        completion.token_ids.push_back(100 + t);
        completion.logprobs.push_back(-0.25f * static_cast<float>(t + 1));
        completion.loss_mask.push_back(t != 1);
      }
      completion.step_ends = {g};
      completion.text = "answer " + std::to_string(g);
      completion.finish_reason = g == 2 ? FinishReason::kLength : FinishReason::kStop;
      completion.policy_version = step;
      group.completions.push_back(completion);
    }
  }
  rollouts.rewards_PG = at::arange(6, at::kDouble).view({2, 3});
  rollouts.rewards_PG[1][2] = std::nan("");
  if (step > 4) rollouts.terminal_PG = rollouts.rewards_PG - 1.0;
  rollouts.advantages_PG = at::arange(6, at::kFloat).view({2, 3}) - 2.0;
  rollouts.components["math"] = rollouts.rewards_PG * 2;
  rollouts.transformed["math"] = rollouts.rewards_PG * 3;
  rollouts.weights["math"] = 0.5;
  for (int64_t p = 0; p < 2; ++p) {
    rollouts.tokens_PGT.emplace_back();
    for (int64_t g = 0; g < 3; ++g)
      rollouts.tokens_PGT.back().emplace_back(static_cast<size_t>(g + 1), 0.125);
  }
  return rollouts;
}

void expect_same(const StoredRollouts& a, const StoredRollouts& b) {
  EXPECT_EQ(a.step, b.step);
  ASSERT_EQ(a.groups.size(), b.groups.size());
  for (size_t p = 0; p < a.groups.size(); ++p) {
    EXPECT_EQ(a.groups[p].prompt_ids, b.groups[p].prompt_ids);
    EXPECT_EQ(a.groups[p].example.prompt.text, b.groups[p].example.prompt.text);
    EXPECT_EQ(a.groups[p].example.extra, b.groups[p].example.extra);
    EXPECT_EQ(a.groups[p].example.row, b.groups[p].example.row);
    ASSERT_EQ(a.groups[p].completions.size(), b.groups[p].completions.size());
    for (size_t g = 0; g < a.groups[p].completions.size(); ++g) {
      const auto &x = a.groups[p].completions[g], &y = b.groups[p].completions[g];
      EXPECT_EQ(x.token_ids, y.token_ids);
      EXPECT_EQ(x.logprobs, y.logprobs);
      EXPECT_EQ(x.loss_mask, y.loss_mask);
      EXPECT_EQ(x.step_ends, y.step_ends);
      EXPECT_EQ(x.text, y.text);
      EXPECT_EQ(x.finish_reason, y.finish_reason);
      EXPECT_EQ(x.policy_version, y.policy_version);
    }
  }
  const auto same = [](const at::Tensor& x, const at::Tensor& y) {
    return at::allclose(x, y, 0, 0, /*equal_nan=*/true);
  };
  EXPECT_TRUE(same(a.rewards_PG, b.rewards_PG));
  ASSERT_EQ(a.terminal_PG.defined(), b.terminal_PG.defined());
  if (a.terminal_PG.defined()) {
    EXPECT_TRUE(same(a.terminal_PG, b.terminal_PG));
  }
  EXPECT_TRUE(same(a.advantages_PG, b.advantages_PG));
  EXPECT_TRUE(same(a.components.at("math"), b.components.at("math")));
  EXPECT_TRUE(same(a.transformed.at("math"), b.transformed.at("math")));
  EXPECT_EQ(a.weights, b.weights);
  EXPECT_EQ(a.tokens_PGT, b.tokens_PGT);
}

class RolloutStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("meed-store-" + std::to_string(::getpid()));
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  static std::string failure(const fs::path& file) {
    try {
      RolloutStore::read(file);
    } catch (const DataError& e) {
      return e.what();
    }
    return "";
  }
  fs::path folder_;
};

TEST_F(RolloutStoreTest, GivesBackWhatWasWritten) {
  const RolloutStore store(folder_);
  store.write(some_rollouts(12));
  store.write(some_rollouts(4));
  store.write(some_rollouts(12));  // again, as after a resume
  const auto files = store.files();
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].filename(), "step-00000004.h5");
  expect_same(RolloutStore::read(files[1]), some_rollouts(12));
}

TEST_F(RolloutStoreTest, BytesGiveTheSame) {
  expect_same(from_bytes(to_bytes(some_rollouts(3))), some_rollouts(3));
}

TEST_F(RolloutStoreTest, SaysWhatIsWrongWithAFile) {
  const RolloutStore store(folder_);
  EXPECT_THROW(store.files(), DataError);
  store.write(some_rollouts(0));
  const auto good = store.files()[0];
  const auto cut = folder_ / "step-00000009.h5";
  fs::copy_file(good, cut);
  fs::resize_file(cut, fs::file_size(cut) / 2);
  EXPECT_NE(failure(cut).find("step-00000009.h5"), std::string::npos);
  std::ofstream(folder_ / "step-00000010.h5") << "not HDF5";
  EXPECT_NE(failure(folder_ / "step-00000010.h5").find("step-00000010.h5"), std::string::npos);
}

}  // namespace
}  // namespace meed
