#include "libpolicy/generation/rollout_engine.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "libpolicy/core/error.h"
#include "libpolicy/generation/stop_strings.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/lora.h"
#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/text/tokenizer.h"
#include "tests/libpolicy/models/tiny_models.h"

namespace meed {
namespace {

using testing::some_ids;
using testing::tiny_config;

const std::vector<std::string> kFamilies{"llama", "mistral", "qwen2", "qwen3", "gpt2"};

std::unique_ptr<CausalLm> tiny_model(const std::string& family, at::ScalarType dtype = at::kFloat) {
  auto model = CausalLm::create(tiny_config(family), 1, {.dtype = dtype});
  testing::randomise(*model, 0.25, 3);
  return model;
}

GenerationRequest request(int64_t id, int64_t prompt_length, int64_t new_tokens,
                          std::vector<uint64_t> seeds) {
  GenerationRequest made;
  made.id = id;
  made.prompt_ids = some_ids(prompt_length, id + 1);
  made.sampling.max_new_tokens = new_tokens;
  made.sampling.ignore_eos = true;
  made.seeds = std::move(seeds);
  return made;
}

/// Prompts of several lengths, over a page's border too, with 1 to 5 samples of several lengths.
std::vector<GenerationRequest> mixed_requests() {
  std::vector<GenerationRequest> requests;
  for (int64_t i = 0; i < 7; ++i) {
    std::vector<uint64_t> seeds;
    for (int64_t g = 0; g <= i % 5; ++g) seeds.push_back(100 * i + g);
    requests.push_back(request(i, 1 + 6 * i, 2 + 5 * (i % 4), seeds));
  }
  return requests;
}

void expect_same(const Completion& a, const Completion& b) {
  EXPECT_EQ(a.token_ids, b.token_ids);
  EXPECT_EQ(a.logprobs, b.logprobs);  // bit for bit
  EXPECT_EQ(a.sampling_logprobs, b.sampling_logprobs);
  EXPECT_EQ(a.finish_reason, b.finish_reason);
}

std::vector<Completion> completions(RolloutEngine& engine,
                                    std::vector<GenerationRequest> requests) {
  std::vector<Completion> all;
  for (auto& done : engine.generate(std::move(requests)))
    for (auto& completion : done.completions) all.push_back(std::move(completion));
  return all;
}

/// Each seed of each request as a request of its own, run alone.
std::vector<Completion> one_by_one(RolloutEngine& engine,
                                   const std::vector<GenerationRequest>& requests) {
  std::vector<Completion> all;
  for (const auto& whole : requests)
    for (const uint64_t seed : whole.seeds) {
      auto single = whole;
      single.seeds = {seed};
      all.push_back(engine.generate({single})[0].completions[0]);
    }
  return all;
}

/// Log-probabilities of a completion by the training forward.
at::Tensor training_logprobs(CausalLm& model, const std::vector<int64_t>& prompt,
                             const Completion& completion, double temperature) {
  at::NoGradGuard no_grad;
  PackedBatchBuilder builder;
  builder.add(completion.token_ids, builder.add(prompt));
  const auto first = static_cast<int64_t>(prompt.size()),
             count = static_cast<int64_t>(completion.token_ids.size());
  return token_logprobs(model, builder.build(), at::arange(first, first + count), temperature)
      .logprobs_M;
}

double largest_gap(CausalLm& model, const std::vector<GenerationRequest>& requests) {
  const auto engine = RolloutEngine::create(model, nullptr);
  double gap = 0;
  for (auto& done : engine->generate(requests))
    for (const auto& completion : done.completions) {
      const auto& whole = requests[done.id];
      const auto expected =
          training_logprobs(model, whole.prompt_ids, completion, whole.sampling.temperature);
      gap = std::max(gap, (at::tensor(completion.logprobs) - expected).abs().max().item<double>());
    }
  return gap;
}

class EveryFamily : public ::testing::TestWithParam<std::tuple<std::string, at::ScalarType>> {};

TEST_P(EveryFamily, ContinuousBatchingEqualsOneByOne) {
  const auto [family, dtype] = GetParam();
  const auto model = tiny_model(family, dtype);
  const auto engine = RolloutEngine::create(*model, nullptr);
  const auto expected = one_by_one(*engine, mixed_requests());
  for (const int64_t slots : {1, 3, 64}) {
    const auto batched = RolloutEngine::create(*model, nullptr, {.max_batch_size = slots});
    const auto got = completions(*batched, mixed_requests());
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) expect_same(got[i], expected[i]);
  }
}

TEST_P(EveryFamily, LogprobsAgreeWithTheTrainingForward) {
  const auto [family, dtype] = GetParam();
  const auto model = tiny_model(family, dtype);
  auto requests = mixed_requests();
  for (auto& r : requests) r.sampling.temperature = 0.8;
  // bfloat16: logits of size 4 are rounded to 1/64, and different sums may round differently.
  EXPECT_LT(largest_gap(*model, requests), dtype == at::kFloat ? 1e-4 : 0.15);
}

INSTANTIATE_TEST_SUITE_P(Families, EveryFamily,
                         ::testing::Combine(::testing::ValuesIn(kFamilies),
                                            ::testing::Values(at::kFloat, at::kBFloat16)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + (std::get<1>(info.param) == at::kFloat
                                                                 ? "_float32"
                                                                 : "_bfloat16");
                         });

TEST(RolloutEngine, AdaptersTakePart) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto model = tiny_model("llama", dtype);
    const auto base = completions(*RolloutEngine::create(*model, nullptr), mixed_requests());
    add_lora(*model, {.rank = 3, .alpha = 6.0});
    for (const auto& [name, factor] : lora_parameters(*model)) {
      at::NoGradGuard no_grad;
      factor.detach().normal_(0.0, 0.3, at::detail::createCPUGenerator(factor.numel()));
    }
    model->sync_compute_weights();
    EXPECT_LT(largest_gap(*model, mixed_requests()), dtype == at::kFloat ? 1e-4 : 0.3);
    const auto adapted = completions(*RolloutEngine::create(*model, nullptr), mixed_requests());
    EXPECT_NE(adapted.back().logprobs, base.back().logprobs);
    AdaptersDisabled disabled(*model);
    const auto again = completions(*RolloutEngine::create(*model, nullptr), mixed_requests());
    for (size_t i = 0; i < base.size(); ++i) expect_same(again[i], base[i]);
  }
}

TEST(RolloutEngine, ScaledRotationsAgreeWithTheTrainingForward) {
  auto config = tiny_config("llama");
  for (const char* type : {"linear", "llama3", "dynamic", "yarn", "longrope"}) {
    config.rope_scaling.type = type;
    config.rope_scaling.attention_factor = 1.2;
    config.rope_scaling.short_factor = config.rope_scaling.long_factor = {1.0, 1.5, 3.0};
    config.rope_scaling.factor = 4.0;
    config.rope_scaling.original_max_positions = 16;
    const auto model = CausalLm::create(config, 1);
    testing::randomise(*model, 0.25, 3);
    EXPECT_LT(largest_gap(*model, mixed_requests()), 1e-4) << type;
  }
}

TEST(RolloutEngine, WindowsOfSomeLayersAgreeWithTheTrainingForward) {
  for (const auto& windows : {std::vector<bool>{true, false}, {false, true}}) {
    auto config = tiny_config("qwen3");
    config.sliding_window = 5;
    config.window_layers = windows;
    const auto model = CausalLm::create(config, 1);
    testing::randomise(*model, 0.25, 3);
    EXPECT_LT(largest_gap(*model, mixed_requests()), 1e-4);
    // The window is there: without it other log-probabilities come.
    const auto with = completions(*RolloutEngine::create(*model, nullptr), mixed_requests());
    config.sliding_window = 0;
    const auto full = CausalLm::create(config, 1);
    testing::randomise(*full, 0.25, 3);
    const auto without = completions(*RolloutEngine::create(*full, nullptr), mixed_requests());
    EXPECT_NE(with.back().logprobs, without.back().logprobs);
  }
}

TEST(RolloutEngine, RotationsThatDependOnTheLengthEndWhereTheyDo) {
  auto config = tiny_config("llama");
  config.rope_scaling.type = "dynamic";
  config.max_positions = 8;
  const auto model = CausalLm::create(config, 1);
  PackedBatchBuilder builder;
  builder.add(testing::some_ids(9, 1));
  try {
    model->hidden_states(builder.build());
    ADD_FAILURE() << "a sequence beyond the positions was taken";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()).find("a sequence of 9 tokens exceeds the model's 8 positions"),
              0u)
        << e.what();
  }
}

TEST(RolloutEngine, RefreshedWeightsAreUsed) {
  const auto model = tiny_model("llama");
  const auto engine = RolloutEngine::create(*model, nullptr);
  const auto before = completions(*engine, mixed_requests());
  testing::randomise(*model, 0.25, 4);
  engine->refresh_weights(7);
  const auto after = completions(*engine, mixed_requests());
  EXPECT_NE(after.back().logprobs, before.back().logprobs);
  EXPECT_EQ(after.back().policy_version, 7);
  EXPECT_LT(largest_gap(*model, mixed_requests()), 1e-4);
}

TEST(RolloutEngine, ReleasedMemoryIsMadeAgain) {
  const auto model = tiny_model("llama");
  const auto engine = RolloutEngine::create(*model, nullptr);
  const auto before = completions(*engine, mixed_requests());
  engine->release_memory();
  const auto after = completions(*engine, mixed_requests());
  for (size_t i = 0; i < before.size(); ++i) expect_same(before[i], after[i]);
}

TEST(RolloutEngine, ACacheLimitDelaysButDoesNotChange) {
  const auto model = tiny_model("llama");
  const auto free = completions(*RolloutEngine::create(*model, nullptr), mixed_requests());
  const auto limited =
      completions(*RolloutEngine::create(*model, nullptr, {.max_kv_tokens = 96}), mixed_requests());
  for (size_t i = 0; i < free.size(); ++i) expect_same(free[i], limited[i]);
  const auto engine = RolloutEngine::create(*model, nullptr, {.max_kv_tokens = 64});
  EXPECT_THROW(engine->submit(request(1, 40, 20, {1})), ConfigError);
}

/// A first turn of three samples, then for each one its tokens, three more and a second turn, whose
/// completions are given back.
std::vector<Completion> two_turns(
    RolloutEngine& engine, bool reuse, const std::function<void()>& between = [] {}) {
  std::vector<GenerationRequest> next;
  for (int64_t i = 0; i < 3; ++i) {
    auto first = request(i, 5 + 9 * i, 6 + 7 * i, {1, 2, 3});
    first.keep_context = reuse;
    auto done = engine.generate({first})[0];
    EXPECT_EQ(done.contexts.size(), reuse ? 3u : 0u);
    for (size_t g = 0; g < 3; ++g) {
      auto& made = next.emplace_back(request(10 * i, 1, 9, {40 + g}));
      made.prompt_ids = first.prompt_ids;
      const auto add = [&](const std::vector<int64_t>& ids) {
        made.prompt_ids.insert(made.prompt_ids.end(), ids.begin(), ids.end());
      };
      add(done.completions[g].token_ids);
      add({3, 1, 4});
      if (reuse) made.context = done.contexts[g];
    }
  }
  between();
  return completions(engine, std::move(next));
}

TEST(RolloutEngine, GoesOnFromAContext) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto model = tiny_model("llama", dtype);
    const auto engine = RolloutEngine::create(*model, nullptr);
    const auto anew = two_turns(*engine, false), reused = two_turns(*engine, true);
    ASSERT_EQ(anew.size(), reused.size());
    if (dtype == at::kFloat)
      for (size_t i = 0; i < anew.size(); ++i) {
        EXPECT_EQ(anew[i].token_ids, reused[i].token_ids);
        for (size_t t = 0; t < anew[i].logprobs.size(); ++t)
          EXPECT_NEAR(anew[i].logprobs[t], reused[i].logprobs[t], 1e-4);
      }
    // Where contexts have to be dropped for want of room, or are of other weights, the same comes
    // out to the last bit.
    const auto limited = RolloutEngine::create(*model, nullptr, {.max_kv_tokens = 192});
    const auto dropped = two_turns(*limited, true);
    const auto stale = two_turns(*engine, true, [&] { engine->refresh_weights(1); });
    for (size_t i = 0; i < reused.size(); ++i) {
      expect_same(reused[i], dropped[i]);
      expect_same(reused[i], stale[i]);
    }
    engine->release_memory();  // nothing holds a page any more
  }
}

TEST(RolloutEngine, BadContextsAreNamed) {
  const auto model = tiny_model("llama");
  const auto engine = RolloutEngine::create(*model, nullptr);
  auto first = request(1, 5, 4, {1});
  first.keep_context = true;
  const auto done = engine->generate({first})[0];
  auto next = request(2, 1, 4, {1});
  next.prompt_ids = first.prompt_ids;
  next.context = done.contexts[0];
  const auto refused = [&](const std::string& why, RolloutEngine& by) {
    try {
      by.submit(next);
      ADD_FAILURE() << "not refused: " << why;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(why), std::string::npos) << error.what();
    }
  };
  refused("does not go on", *engine);  // ends before the context does
  next.prompt_ids.insert(next.prompt_ids.end(), done.completions[0].token_ids.begin(),
                         done.completions[0].token_ids.end());
  refused("another engine", *RolloutEngine::create(*model, nullptr));
  next.seeds = {1, 2};
  refused("one seed", *engine);
  next.seeds = {1};
  EXPECT_EQ(engine->generate({next})[0].completions[0].token_ids.size(), 4u);
  refused("serves one request", *engine);  // used up
}

TEST(RolloutEngine, LongPromptsArePrefilledInPieces) {
  auto config = tiny_config("llama");
  config.max_positions = 4096;
  const auto model = CausalLm::create(config, 1);
  std::vector<GenerationRequest> requests;
  for (int64_t i = 0; i < 3; ++i) requests.push_back(request(i, 300 + 350 * i, 3, {1, 2}));
  const auto engine = RolloutEngine::create(*model, nullptr);
  const auto expected = one_by_one(*engine, requests);
  const auto got = completions(*engine, requests);
  for (size_t i = 0; i < got.size(); ++i) expect_same(got[i], expected[i]);
  EXPECT_LT(largest_gap(*model, requests), 1e-4);
}

TEST(RolloutEngine, GreedyFollowsTheTrainingForward) {
  for (const auto& family : kFamilies) {
    const auto model = tiny_model(family);
    auto greedy = request(1, 9, 20, {});
    greedy.sampling.temperature = 0.0;
    const auto got = RolloutEngine::create(*model, nullptr)->generate({greedy})[0].completions[0];
    auto ids = greedy.prompt_ids;
    at::NoGradGuard no_grad;
    for (const int64_t id : got.token_ids) {
      PackedBatchBuilder builder;
      builder.add(ids);
      const auto hidden = model->hidden_states(builder.build());
      const auto logits =
          at::linear(hidden.narrow(0, hidden.size(0) - 1, 1), model->weights().lm_head);
      ASSERT_EQ(id, logits.argmax().item<int64_t>()) << family;
      ids.push_back(id);
    }
  }
}

TEST(RolloutEngine, StopTokensStopAndMinimumHoldsThemBack) {
  const auto model = tiny_model("llama");
  const auto engine = RolloutEngine::create(*model, nullptr);
  auto free = request(1, 5, 30, {4});
  const auto all = engine->generate({free})[0].completions[0];
  const int64_t stop = all.token_ids[10];
  const auto at =
      std::find(all.token_ids.begin(), all.token_ids.end(), stop) - all.token_ids.begin();

  auto stopping = free;
  stopping.sampling.ignore_eos = false;
  stopping.sampling.stop_token_ids = {stop};
  const auto stopped = engine->generate({stopping})[0].completions[0];
  EXPECT_EQ(stopped.finish_reason, FinishReason::kStop);
  EXPECT_EQ(stopped.token_ids,
            std::vector<int64_t>(all.token_ids.begin(), all.token_ids.begin() + at + 1));
  EXPECT_TRUE(stopped.sampling_logprobs.empty());

  stopping.sampling.min_new_tokens = 20;
  const auto held = engine->generate({stopping})[0].completions[0];
  ASSERT_GE(held.token_ids.size(), 20u);
  for (size_t i = 0; i < 20; ++i) EXPECT_NE(held.token_ids[i], stop);
  EXPECT_EQ(held.sampling_logprobs.size(), held.token_ids.size());
}

TEST(RolloutEngine, TruncatedSamplingReturnsBothLogprobs) {
  const auto model = tiny_model("llama");
  auto truncated = request(1, 5, 25, {4});
  truncated.sampling.top_k = 3;
  const auto got = RolloutEngine::create(*model, nullptr)->generate({truncated})[0].completions[0];
  const auto expected = training_logprobs(*model, truncated.prompt_ids, got, 1.0);
  ASSERT_EQ(got.sampling_logprobs.size(), 25u);
  for (size_t i = 0; i < 25; ++i) {
    EXPECT_NEAR(got.logprobs[i], expected[i].item<float>(), 1e-4);
    EXPECT_GE(got.sampling_logprobs[i], got.logprobs[i]);
  }
}

TEST(RolloutEngine, SequencesEndWhereThePositionsDo) {
  const auto model = tiny_model("gpt2");
  const auto done =
      RolloutEngine::create(*model, nullptr)->generate({request(1, 60, 50, {1})})[0].completions[0];
  EXPECT_EQ(done.token_ids.size(), 5u);  // positions 60..63 are fed, the last token is not
  EXPECT_EQ(done.finish_reason, FinishReason::kLength);
}

template <typename Body>
std::string error_of(const Body& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(RolloutEngine, BadRequestsAreNamed) {
  const auto model = tiny_model("llama");
  const auto engine = RolloutEngine::create(*model, nullptr);
  const auto expect = [&](const GenerationRequest& r, const std::string& message) {
    const auto got = error_of([&] { engine->submit(r); });
    EXPECT_NE(got.find(message), std::string::npos) << got;
  };
  expect(request(7, 0, 5, {1}), "request 7: the prompt is empty");
  expect(request(8, 65, 5, {1}), "request 8: the prompt has 65 tokens, the model at most 64");
  auto bad = request(9, 3, 5, {1});
  bad.prompt_ids[1] = 97;
  expect(bad, "request 9: token id 97");
  bad.prompt_ids[1] = -1;
  expect(bad, "request 9: token id -1");
  bad = request(9, 3, 5, {1});
  bad.sampling.stop_strings = {"x"};
  expect(bad, "request 9: stop strings need a tokenizer");
  bad.sampling.temperature = -2;
  expect(bad, "request 9: temperature");
  EXPECT_TRUE(engine->idle());
}

TEST(RolloutEngine, NotFiniteLogitsNameTheRequest) {
  const auto model = tiny_model("llama");
  model->weights().final_norm.weight.fill_(std::numeric_limits<float>::quiet_NaN());
  const auto engine = RolloutEngine::create(*model, nullptr);
  const auto message = error_of([&] {
    engine->submit(request(42, 3, 5, {1}));
    engine->step();
  });
  EXPECT_NE(message.find("request 42, completion 0, token 0: the model's logits are not finite"),
            std::string::npos)
      << message;
  EXPECT_TRUE(engine->idle());
}

/// Token i is the letter 'a' + i % 26, but 90 and above are special, and 89 is two letters.
class LetterTokenizer final : public Tokenizer {
 public:
  using Tokenizer::encode;
  std::vector<int64_t> encode(std::string_view, const EncodeOptions&) const override { return {}; }
  std::vector<int64_t> encode(std::span<const Piece>, bool) const override { return {}; }
  std::string decode(std::span<const int64_t> ids, bool) const override {
    std::string text;
    for (const int64_t id : ids)
      if (!is_special(id)) text += token_bytes(id);
    return text;
  }
  std::string token_bytes(int64_t id) const override {
    return id == 89 ? "ab" : std::string(1, static_cast<char>('a' + id % 26));
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

TEST(RolloutEngine, StopStringsAcrossTokensAreCutFromTheTextOnly) {
  const auto model = tiny_model("llama");
  const LetterTokenizer tokenizer;
  const auto engine = RolloutEngine::create(*model, &tokenizer);
  const auto free = request(1, 5, 30, {4});
  const auto all = engine->generate({free})[0].completions[0];
  const std::string stop = all.text.substr(8, 3);
  const size_t at = all.text.find(stop);
  auto stopping = free;
  stopping.sampling.stop_strings = {"#never#", stop};
  const auto stopped = engine->generate({stopping})[0].completions[0];
  EXPECT_EQ(stopped.finish_reason, FinishReason::kStop);
  EXPECT_EQ(stopped.text, all.text.substr(0, at));
  ASSERT_LT(stopped.token_ids.size(), all.token_ids.size());
  EXPECT_TRUE(
      std::equal(stopped.token_ids.begin(), stopped.token_ids.end(), all.token_ids.begin()));
  EXPECT_GE(tokenizer.decode(stopped.token_ids, true).size(), at + stop.size());
}

TEST(StopStringWatch, FindsStopsAcrossPieces) {
  const std::vector<std::string> stops{"\n\nQ:", "</s>"};
  StopStringWatch watch(stops);
  EXPECT_FALSE(watch.push("a \n"));
  EXPECT_FALSE(watch.push("\n"));
  EXPECT_FALSE(watch.push("Q"));
  EXPECT_TRUE(watch.push(": next"));
  StopStringWatch other(stops);
  EXPECT_FALSE(other.push("<"));
  EXPECT_FALSE(other.push("/"));
  EXPECT_FALSE(other.push("S"));
  EXPECT_FALSE(other.push("/s"));
  EXPECT_TRUE(other.push("x</s>y"));
  EXPECT_EQ(find_stop_string("ab</s>\n\nQ:", stops), 2u);
}

}  // namespace
}  // namespace meed
