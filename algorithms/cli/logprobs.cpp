#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "algorithms/cli/command.h"
#include "algorithms/cli/content.h"
#include "algorithms/cli/rows.h"
#include "libpolicy/core/cuda_library.h"
#include "libpolicy/core/error.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/tokenizer.h"

namespace meed::cli {
namespace {

struct Options {
  RowOptions rows;
  std::string model, dtype = "float32", device = "cpu";
  double temperature = 1.0;
  int64_t tokens_per_batch = 4096;
};

// Rows read ahead: enough to fill a forward pass with short rows.
constexpr size_t kRowsAhead = 256;

std::vector<int64_t> given_ids(const Row& row, int64_t vocab_size) {
  const auto& json = row.json["ids"];
  if (!json.is_array())
    throw DataError(row.where + ": ids: expected a list of token ids, got " + json.type_name());
  std::vector<int64_t> ids;
  for (const auto& id : json) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= vocab_size)
      throw DataError(row.where + ": ids: expected integers in [0, " + std::to_string(vocab_size) +
                      "), got " + id.dump());
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

/// Turns rows into ids; the tokenizer is read when a row first needs it.
class Encoder {
 public:
  explicit Encoder(std::string model) : model_(std::move(model)) {}

  std::vector<int64_t> operator()(const Row& row, int64_t vocab_size) {
    if (row.json.contains("ids")) return given_ids(row, vocab_size);
    if (!tokenizer_) tokenizer_ = Tokenizer::load(model_);
    if (row.json.contains("messages")) {
      const auto content = content_of(row, "messages");
      return encode_messages(*tokenizer_, content.messages, /*add_generation_prompt=*/false,
                             content.tools);
    }
    if (row.json.contains("text")) return tokenizer_->encode(content_of(row, "text").text);
    if (!row.json.contains("prompt") || !row.json.contains("completion"))
      throw DataError(
          row.where +
          ": expected \"ids\", \"text\", \"messages\", or \"prompt\" and \"completion\"");
    const auto pair = encode_pair(*tokenizer_, content_of(row, "prompt"),
                                  content_of(row, "completion"), /*add_eos=*/false);
    auto ids = pair.prompt_ids;
    ids.insert(ids.end(), pair.completion_ids.begin(), pair.completion_ids.end());
    return ids;
  }

 private:
  std::string model_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

nlohmann::ordered_json result_of(const std::vector<int64_t>& ids, const float* logprobs) {
  nlohmann::ordered_json values = nlohmann::ordered_json::array();
  for (size_t i = 0; i < ids.size(); ++i)
    values.push_back(i == 0 ? nlohmann::ordered_json(nullptr)
                            : nlohmann::ordered_json(logprobs[i - 1]));
  return {{"ids", ids}, {"logprobs", std::move(values)}};
}

/// One forward pass for the rows [first, last).
void score(CausalLm& model, const std::vector<std::vector<int64_t>>& rows, size_t first,
           size_t last, double temperature, std::vector<nlohmann::ordered_json>& results) {
  PackedBatchBuilder builder;
  std::vector<int64_t> selected;
  for (size_t i = first; i < last; ++i) {
    const int64_t start = builder.num_tokens();
    if (rows[i].empty()) continue;
    builder.add(rows[i]);
    for (int64_t t = 1; t < static_cast<int64_t>(rows[i].size()); ++t)
      selected.push_back(start + t);
  }
  at::Tensor logprobs = at::empty({0}, at::kFloat);
  if (!selected.empty())
    logprobs = token_logprobs(model, builder.build(), at::tensor(selected, at::kLong), temperature)
                   .logprobs_M.contiguous();
  const float* next = logprobs.const_data_ptr<float>();
  for (size_t i = first; i < last; ++i) {
    results.push_back(result_of(rows[i], next));
    if (!rows[i].empty()) next += rows[i].size() - 1;
  }
}

void run(const Options& options) {
  const auto model = CausalLm::load(
      options.model, {.dtype = options.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat,
                      .device = parse_device(options.device, /*local_rank=*/0)});
  Encoder encode(options.model);
  at::NoGradGuard no_grad;
  for_each_rows(options.rows, kRowsAhead, [&](std::vector<Row>& rows) {
    std::vector<std::vector<int64_t>> ids;
    for (const auto& row : rows) ids.push_back(encode(row, model->config().vocab_size));
    std::vector<nlohmann::ordered_json> results;
    size_t first = 0;
    int64_t tokens = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto length = static_cast<int64_t>(ids[i].size());
      if (i > first && tokens + length > options.tokens_per_batch) {
        score(*model, ids, first, i, options.temperature, results);
        first = i;
        tokens = 0;
      }
      tokens += length;
    }
    score(*model, ids, first, ids.size(), options.temperature, results);
    return results;
  });
}

void setup(CLI::App& app) {
  auto options = std::make_shared<Options>();
  options->rows.add_to(app);
  app.add_option("--model", options->model, "Hugging Face folder or .gguf file")->required();
  app.add_option("--dtype", options->dtype, "what to compute in")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--device", options->device, "where to compute")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--temperature", options->temperature, "logits are divided by it")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--tokens-per-batch", options->tokens_per_batch,
                 "rows are packed into forward passes of so many tokens")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.callback([options] { run(*options); });
}

const bool registered =
    add_command({"logprobs", "Log-probability of each token of a text or of token ids", setup});

}  // namespace
}  // namespace meed::cli
