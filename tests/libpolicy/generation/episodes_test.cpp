#include "libpolicy/generation/episodes.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "libpolicy/core/error.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/text/tokenizer.h"
#include "tests/libpolicy/models/tiny_models.h"

namespace meed {
namespace {

/// Token i is the letter 'a' + i % 26; 90 and above are special.
class LetterTokenizer final : public Tokenizer {
 public:
  using Tokenizer::encode;
  std::vector<int64_t> encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<int64_t> ids;
    for (const char c : text) ids.push_back(c - 'a');
    return ids;
  }
  std::vector<int64_t> encode(std::span<const Piece>, bool) const override { return {}; }
  std::string decode(std::span<const int64_t> ids, bool) const override {
    std::string text;
    for (const int64_t id : ids)
      if (!is_special(id)) text += token_bytes(id);
    return text;
  }
  std::string token_bytes(int64_t id) const override {
    return std::string(1, static_cast<char>('a' + id % 26));
  }
  int64_t vocab_size() const override { return 97; }
  std::optional<int64_t> token_to_id(std::string_view) const override { return std::nullopt; }
  std::string id_to_token(int64_t) const override { return ""; }
  bool is_special(int64_t id) const override { return id >= 90; }
  std::optional<int64_t> bos_id() const override { return std::nullopt; }
  std::optional<int64_t> eos_id() const override { return 96; }
  std::optional<int64_t> pad_id() const override { return std::nullopt; }
  const ChatTemplate* chat_template() const override { return nullptr; }
  void save(const std::filesystem::path&) const override {}
};

/// Every c or d closes a call; the answer to the k-th is k times "xyz", and a d has failed.
class Echo final : public Environment {
 public:
  std::vector<std::string> stop_strings() const override { return {"c", "d"}; }
  std::optional<EnvironmentReply> reply(const Example&,
                                        std::span<const Completion::Turn> turns) override {
    EXPECT_TRUE(turns.back().text.ends_with('c') || turns.back().text.ends_with('d'));
    std::string text;
    for (size_t k = 0; k <= turns.size(); k += 2) text += "xyz";
    return EnvironmentReply{.text = text, .failed = turns.back().text.ends_with('d')};
  }
};

class Episodes : public ::testing::Test {
 protected:
  Episodes() : model_(CausalLm::create(testing::tiny_config("llama"), 1)) {
    testing::randomise(*model_, 0.25, 3);
  }
  std::vector<FinishedRequest> run(int64_t max_batch_size, const EpisodeOptions& options = {},
                                   int64_t max_new_tokens = 40, double top_p = 1.0) {
    const auto engine =
        RolloutEngine::create(*model_, &tokenizer_, {.max_batch_size = max_batch_size});
    std::vector<GenerationRequest> requests;
    const Example example;
    std::vector<const Example*> examples;
    for (int64_t i = 0; i < 4; ++i) {
      auto& request = requests.emplace_back();
      request.id = 7 + i;
      request.prompt_ids = testing::some_ids(3 + i, i + 1);
      request.sampling.max_new_tokens = max_new_tokens;
      request.sampling.ignore_eos = true;
      request.sampling.top_p = top_p;
      request.seeds = {10, static_cast<uint64_t>(20 + i), 30};
      examples.push_back(&example);
    }
    prompts_.clear();
    for (const auto& request : requests) prompts_.push_back(request.prompt_ids);
    return generate_episodes(*engine, tokenizer_, environment_, examples, std::move(requests),
                             options);
  }

  LetterTokenizer tokenizer_;
  Echo environment_;
  std::unique_ptr<CausalLm> model_;
  std::vector<std::vector<int64_t>> prompts_;
};

TEST_F(Episodes, RepliesAreMaskedAndTurnsSpellTheCompletion) {
  int64_t num_calls = 0;
  for (const auto& request : run(64))
    for (const auto& completion : request.completions) {
      const auto T = completion.token_ids.size();
      ASSERT_EQ(completion.logprobs.size(), T);
      ASSERT_EQ(completion.loss_mask.size(), T);
      EXPECT_LE(T, 40u);
      std::string text;
      std::vector<int64_t> ends;
      size_t at = 0;
      for (size_t k = 0; k < completion.turns.size(); ++k) {
        const auto& turn = completion.turns[k];
        EXPECT_EQ(turn.sampled, k % 2 == 0);
        if (!turn.sampled) {
          ++num_calls;
          EXPECT_EQ(turn.text,
                    std::string("xyzxyzxyzxyzxyzxyzxyzxyz").substr(0, 3 * ((k + 1) / 2)));
          EXPECT_EQ(turn.failed, text.ends_with('d'));
        }
        for (int64_t i = 0; i < turn.num_tokens; ++i, ++at) {
          EXPECT_EQ(completion.loss_mask[at], turn.sampled);
          EXPECT_EQ(completion.logprobs[at] == 0.0F, !turn.sampled);
        }
        text += turn.text;
        if (turn.sampled) ends.push_back(static_cast<int64_t>(at) - 1);
      }
      EXPECT_EQ(at, T);
      EXPECT_EQ(completion.step_ends, ends);
      EXPECT_EQ(text, completion.text);
      EXPECT_EQ(text, tokenizer_.decode(completion.token_ids, true));
      EXPECT_EQ(completion.finish_reason, FinishReason::kLength);
    }
  EXPECT_GT(num_calls, 12);
}

TEST_F(Episodes, LogprobsAreThoseOfTheWholeConversation) {
  const auto results = run(64);
  for (size_t p = 0; p < results.size(); ++p) {
    const auto& completion = results[p].completions[1];
    auto ids = prompts_[p];
    const auto first = static_cast<int64_t>(ids.size());
    ids.insert(ids.end(), completion.token_ids.begin(), completion.token_ids.end());
    PackedBatchBuilder builder;
    builder.add(ids);
    const auto logprobs_M =
        token_logprobs(*model_, builder.build(),
                       at::arange(first, static_cast<int64_t>(ids.size()), at::kLong))
            .logprobs_M;
    for (size_t t = 0; t < completion.logprobs.size(); ++t)
      if (completion.loss_mask[t]) {
        EXPECT_NEAR(completion.logprobs[t], logprobs_M[static_cast<int64_t>(t)].item<float>(),
                    1e-4);
      }
  }
}

TEST_F(Episodes, DoNotDependOnTheBatch) {
  const auto all = run(64, {}, 40, 0.9), alone = run(1, {}, 40, 0.9);
  for (size_t p = 0; p < all.size(); ++p) {
    EXPECT_EQ(all[p].id, static_cast<int64_t>(7 + p));
    for (size_t g = 0; g < 3; ++g) {
      EXPECT_EQ(all[p].completions[g].token_ids, alone[p].completions[g].token_ids);
      EXPECT_EQ(all[p].completions[g].sampling_logprobs.size(),
                all[p].completions[g].token_ids.size());
    }
  }
}

TEST_F(Episodes, TurnsAndTheirLengthAreLimited) {
  for (const auto& request : run(64, {.max_turns = 1}))
    for (const auto& completion : request.completions) {
      EXPECT_LE(completion.turns.size(), 3u);
      if (completion.turns.size() == 3 && completion.token_ids.size() < 40) {
        EXPECT_EQ(completion.finish_reason, FinishReason::kStop);
      }
    }
  for (const auto& request : run(64, {.max_turn_length = 5}))
    for (const auto& completion : request.completions)
      for (const auto& turn : completion.turns)
        if (turn.sampled) {
          EXPECT_LE(turn.num_tokens, 5);
        }
  // No room for the first reply: the completion ends where the call does.
  for (const auto& request : run(64, {}, 3))
    for (const auto& completion : request.completions) EXPECT_EQ(completion.turns.size(), 1u);
}

}  // namespace
}  // namespace meed
