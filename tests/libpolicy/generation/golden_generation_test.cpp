// Against tests/golden/generation_smollm2.json, made by make_generation_golden.py with
// transformers.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "libpolicy/generation/rollout_engine.h"
#include "libpolicy/models/causal_lm.h"

namespace meed {
namespace {

TEST(GenerationGolden, GreedyEqualsTransformersOnSmolLm2) {
  const std::filesystem::path root = MEED_SOURCE_DIR;
  const auto model_path = root / ".deps/models/smollm2-135m-instruct.gguf";
  if (!std::filesystem::exists(model_path))
    GTEST_SKIP() << model_path << " is not there; scripts/setup.sh fetches it";
  std::ifstream file(root / "tests/golden/generation_smollm2.json");
  ASSERT_TRUE(file);
  const auto golden = nlohmann::json::parse(file);
  const auto model = CausalLm::load(model_path);
  std::vector<GenerationRequest> requests;
  for (const auto& item : golden["cases"]) {
    GenerationRequest request;
    request.prompt_ids = item["ids"].get<std::vector<int64_t>>();
    request.sampling.temperature = 0.0;
    request.sampling.max_new_tokens = golden["new_tokens"];
    requests.push_back(std::move(request));
  }
  const auto results =
      RolloutEngine::create(*model, nullptr, {.max_batch_size = 4})->generate(std::move(requests));
  for (size_t i = 0; i < results.size(); ++i) {
    const auto& item = golden["cases"][i];
    const auto& completion = results[i].completions[0];
    EXPECT_EQ(completion.token_ids, item["completion"].get<std::vector<int64_t>>())
        << item["prompt"];
    const auto logprobs = item["logprobs"].get<std::vector<float>>();
    for (size_t t = 0; t < std::min(logprobs.size(), completion.logprobs.size()); ++t)
      EXPECT_NEAR(completion.logprobs[t], logprobs[t], 1e-4) << item["prompt"] << " token " << t;
  }
}

}  // namespace
}  // namespace meed
