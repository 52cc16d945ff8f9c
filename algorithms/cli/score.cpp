#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <memory>

#include "algorithms/cli/command.h"
#include "algorithms/cli/content.h"
#include "algorithms/policy.h"
#include "libpolicy/core/error.h"
#include "libpolicy/text/chat_template.h"
#include "libreward/models/reward_model.h"

namespace meed::cli {
namespace {

struct Options {
  RowOptions rows;
  std::string model, dtype = "float32";
  int64_t max_length = 0;
};

class Scorer {
 public:
  explicit Scorer(const Options& options)
      : tokenizer_(Tokenizer::load(options.model)),
        model_(RewardModel::load(options.model, {.dtype = parse_dtype(options.dtype)})),
        max_length_(options.max_length) {}

  nlohmann::ordered_json score(const Row& row) {
    at::NoGradGuard no_grad;
    auto result = row.json;
    auto prompt = content_of(row, "prompt");
    if (row.json.contains("chosen") || row.json.contains("rejected")) {
      for (const char* side : {"chosen", "rejected"}) {
        const auto content = content_of(row, side);
        if (content.empty()) throw DataError(row.where + ": \"" + side + "\" is missing or empty");
        result[std::string(side) + "_reward"] = reward(pair_ids(prompt, content));
      }
    } else if (row.json.contains("messages")) {
      const auto messages = content_of(row, "messages");
      if (messages.messages.empty()) throw DataError(row.where + ": \"messages\" is empty");
      result["reward"] = reward({{}, encode_messages(*tokenizer_, messages.messages,
                                                     /*add_generation_prompt=*/false,
                                                     messages.tools)});
    } else {
      const auto completion = content_of(row, "completion");
      if (completion.empty() && prompt.empty())
        throw DataError(row.where +
                        ": expected prompt and completion, messages, or chosen and rejected");
      result["reward"] = reward(pair_ids(prompt, completion));
    }
    return result;
  }

 private:
  EncodedPair pair_ids(const Content& prompt, const Content& completion) const {
    if (prompt.empty() && completion.conversational)
      return {{}, encode_messages(*tokenizer_, completion.messages,
                                  /*add_generation_prompt=*/false)};
    return encode_pair(*tokenizer_, prompt, completion);
  }

  double reward(EncodedPair pair) {
    if (pair.prompt_ids.empty() && pair.completion_ids.empty())
      throw DataError("a text to score has no tokens");
    if (max_length_ > 0) truncate_start(pair, max_length_);
    const RewardModel::Row row{pair.prompt_ids, {pair.completion_ids}};
    return model_->forward({&row, 1}).rewards_B.item<double>();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<RewardModel> model_;
  int64_t max_length_;
};

void setup(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--model", options->model, "Folder of a reward model")->required();
  app.add_option("--dtype", options->dtype, "What it computes in")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--max-length", options->max_length, "Longer texts lose their start; 0: never")
      ->capture_default_str();
  options->rows.add_to(app);
  app.callback([options] {
    Scorer scorer(*options);
    for_each_rows(options->rows, 1, [&](std::vector<Row>& rows) {
      return std::vector<nlohmann::ordered_json>{scorer.score(rows[0])};
    });
  });
}

const bool registered = add_command({"score", "Rewards of texts by a reward model", setup});

}  // namespace
}  // namespace meed::cli
