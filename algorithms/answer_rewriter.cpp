#include "algorithms/answer_rewriter.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libpolicy/generation/rollout_engine.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/placeholders.h"
#include "libpolicy/text/tokenizer.h"
#include "libreward/models/language_scorer.h"

namespace meed {

void AnswerRewriter::Config::fields(FieldVisitor& v) {
  v.field("path", path, "Folder or GGUF file of the language model that rewrites.");
  v.choice("dtype", dtype, {"float32", "bfloat16"}, "What it computes in.");
  v.field("template", pattern,
          "What it reads; {prompt} and {completion}, the right one, are filled in.");
  v.field("chat", chat, "Through the model's chat template, as a user's message.");
  v.field("stop", stop, "Strings that end what it writes.");
  v.field(
      "num_samples", num_samples,
      "Rewritten solutions of a right one, of which the first that the rule marks wrong is taken.");
  v.field("max_completion_length", max_completion_length,
          "Tokens that it writes at most; what is cut is left out.");
  v.field("temperature", temperature, "Its sampling temperature.");
  v.require(pattern.find("{completion}") != std::string::npos, "template",
            "must hold {completion}");
  v.require(num_samples > 0, "num_samples", "must be positive");
  v.require(max_completion_length > 0, "max_completion_length", "must be positive");
  v.require(temperature > 0, "temperature", "must be positive");
}

AnswerRewriter::AnswerRewriter(const Config& config)
    : config_(config),
      tokenizer_(Tokenizer::load(config.path)),
      model_(CausalLm::load(config.path,
                            {.dtype = config.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat})),
      engine_(RolloutEngine::create(*model_, tokenizer_.get())) {}

AnswerRewriter::~AnswerRewriter() = default;

std::vector<std::vector<std::string>> AnswerRewriter::rewrite(std::span<const Query> queries) {
  at::NoGradGuard no_grad;
  const int64_t positions = model_->config().max_positions;
  const int64_t room = positions > 0 ? positions - config_.max_completion_length : INT64_MAX;
  if (room <= 0)
    throw ConfigError(
        "algorithm.assistant.max_completion_length: leaves no room for a prompt in the model's " +
        std::to_string(positions) + " positions");
  std::vector<GenerationRequest> requests;
  for (size_t i = 0; i < queries.size(); ++i) {
    GenerationRequest request{.id = static_cast<int64_t>(i)};
    const auto text = fill_placeholders(
        config_.pattern,
        {{"prompt", as_text(queries[i].example->prompt, "\n")}, {"completion", queries[i].right}});
    request.prompt_ids = encode_prompt(*tokenizer_, spoken(config_.chat, "user", text));
    if (const auto length = static_cast<int64_t>(request.prompt_ids.size()); length > room)
      request.prompt_ids.erase(request.prompt_ids.begin(),
                               request.prompt_ids.begin() + (length - room));
    request.sampling = {.temperature = config_.temperature,
                        .max_new_tokens = config_.max_completion_length,
                        .stop_strings = config_.stop};
    for (int64_t k = 0; k < config_.num_samples; ++k)
      request.seeds.push_back(mix_seed({queries[i].seed, static_cast<uint64_t>(k)}));
    requests.push_back(std::move(request));
  }
  const auto finished = engine_->generate(std::move(requests));
  engine_->release_memory();
  std::vector<std::vector<std::string>> rewritten;
  for (const auto& request : finished) {
    auto& texts = rewritten.emplace_back();
    for (const auto& completion : request.completions)
      texts.push_back(completion.finish_reason == FinishReason::kLength ? "" : completion.text);
  }
  return rewritten;
}

}  // namespace meed
