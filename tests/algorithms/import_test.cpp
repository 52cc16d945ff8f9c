#include <ATen/ATen.h>

#include "libpolicy/checkpoint/model_files.h"
#include "tests/algorithms/program.h"

namespace meed {
namespace {

using ImportCommand = ProgramTest;

std::string path(const fs::path& folder) { return folder.string(); }

TEST_F(ImportCommand, ExtrapolatesTheWayThatTrainingTook) {
  ASSERT_EQ(run("train " + recipe("sft")), 0) << errors();
  const auto init = folder_ / "tiny", tuned = folder_ / "sft/final", further = folder_ / "further";
  ASSERT_EQ(run("import " + path(tuned) + " " + path(further) + " --extrapolate-from " +
                path(init) + " --extrapolation 0.5"),
            0)
      << errors();
  const auto before = ModelFiles::open(init), after = ModelFiles::open(tuned),
             found = ModelFiles::open(further);
  double moved = 0;
  for (const std::string name : {"model.layers.0.self_attn.q_proj.weight", "model.norm.weight"}) {
    const auto a = before->load(name, at::kFloat), b = after->load(name, at::kFloat);
    const auto expected = a + 1.5 * (b - a);
    EXPECT_LE((found->load(name, at::kFloat) - expected).abs().max().item<double>(), 1e-6);
    moved += (b - a).abs().max().item<double>();
  }
  EXPECT_GT(moved, 1e-5);
}

TEST_F(ImportCommand, KeepsTheHeadOfARewardModelAndRefusesAnotherModel) {
  const auto rows = folder_ / "pairs.jsonl";
  {
    std::ofstream file(rows);
    for (int i = 0; i < 16; ++i)
      file << R"({"prompt": "2+2=", "chosen": "4", "rejected": "5"})"
           << "\n";
  }
  ASSERT_EQ(run("train " + recipe("reward_modelling") +
                " \"data={type: jsonl, path: " + path(rows) + "}\""),
            0)
      << errors();
  const auto tuned = folder_ / "reward_modelling/final", further = folder_ / "further-reward";
  ASSERT_EQ(run("import " + path(tuned) + " " + path(further) + " --extrapolate-from " +
                path(folder_ / "tiny")),
            0)
      << errors();
  EXPECT_TRUE(ModelFiles::open(further)
                  ->load("score.weight", at::kFloat)
                  .equal(ModelFiles::open(tuned)->load("score.weight", at::kFloat)));
  EXPECT_NE(run("import " + path(tuned) + " " + path(folder_ / "other") + " --extrapolate-from " +
                path(kTokenizer)),
            0);
  EXPECT_NE(errors().find("is it the model that training began with?"), std::string::npos)
      << errors();
  EXPECT_FALSE(fs::exists(folder_ / "other"));
}

}  // namespace
}  // namespace meed
