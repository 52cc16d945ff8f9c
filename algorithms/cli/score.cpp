#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <memory>

#include "algorithms/cli/command.h"
#include "algorithms/cli/content.h"
#include "algorithms/policy.h"
#include "libpolicy/core/error.h"
#include "libpolicy/text/chat_template.h"
#include "libreward/data/vector_example.h"
#include "libreward/models/feature_backbone.h"
#include "libreward/models/feature_heads.h"
#include "libreward/models/reward_model.h"

namespace meed::cli {
namespace {

struct Options {
  RowOptions rows;
  std::string model, dtype = "float32";
  int64_t max_length = 0;
};

/// Rewards of prompts with what follows them.
class TextScorer {
 public:
  virtual ~TextScorer() = default;
  virtual nlohmann::ordered_json score(const Row& row) = 0;
};

/// Heads of the algorithm reward_head: rows of vectors as they are, texts through the backbone.
class HeadScorer final : public TextScorer {
 public:
  explicit HeadScorer(const Options& options) : heads_(FeatureHeads::load(options.model)) {
    if (options.max_length > 0) heads_->source.max_length = options.max_length;
  }

  nlohmann::ordered_json score(const Row& row) override {
    const at::NoGradGuard no_grad;
    auto result = row.json;
    const bool pair = row.json.contains("chosen") || row.json.contains("chosen_features");
    for (const std::string side :
         pair ? std::vector<std::string>{"chosen_", "rejected_"} : std::vector<std::string>{""}) {
      const auto vectors = side + "features";
      result[side + "reward"] =
          row.json.contains(vectors)
              ? of_vectors(row, vectors)
              : of_text(row, pair ? side.substr(0, side.size() - 1) : std::string("completion"));
    }
    return result;
  }

 private:
  double of_vectors(const Row& row, const std::string& column) {
    Example example;
    for (const auto& name : {column, std::string("context_features")})
      if (row.json.contains(name)) example.extra[name] = row.json[name].dump();
    const auto vectors = read_vectors(std::move(example))->vectors;
    HeadInput input{.features_BD = at::tensor(vectors.at(column)).unsqueeze(0)};
    const auto context = vectors.find("context_features");
    input.context_BD =
        context == vectors.end() ? input.features_BD : at::tensor(context->second).unsqueeze(0);
    return checked(row, input);
  }

  double of_text(const Row& row, const std::string& column) {
    const auto completion = content_of(row, column);
    if (completion.empty()) throw DataError(row.where + ": \"" + column + "\" is missing or empty");
    if (!backbone_) {
      if (heads_->source.model.empty())
        throw DataError(row.where +
                        ": the heads were trained on vectors of no known backbone; give \"" +
                        (column == "completion" ? "" : column + "_") + "features\"");
      backbone_ = std::make_unique<FeatureBackbone>(heads_->source);
    }
    const auto text = backbone_->encode(content_of(row, "prompt"), completion);
    return checked(row, backbone_->embed({&text, 1}));
  }

  double checked(const Row& row, const HeadInput& input) const {
    if (!input.features_BD.isfinite().all().item<bool>())
      throw DataError(row.where + ": the features hold a number that is not finite");
    try {
      return heads_->rewards(input).item<double>();
    } catch (const DataError& e) {
      throw DataError(row.where + ": " + e.what());
    }
  }

  std::unique_ptr<FeatureHeads> heads_;
  std::unique_ptr<FeatureBackbone> backbone_;
};

class Scorer final : public TextScorer {
 public:
  explicit Scorer(const Options& options)
      : tokenizer_(Tokenizer::load(options.model)),
        model_(RewardModel::load(options.model, {.dtype = parse_dtype(options.dtype)})),
        max_length_(options.max_length) {}

  nlohmann::ordered_json score(const Row& row) override {
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
      result["reward"] = reward({{},
                                 encode_messages(*tokenizer_, messages.messages,
                                                 /*add_generation_prompt=*/false, messages.tools)});
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
      return {{},
              encode_messages(*tokenizer_, completion.messages,
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
    std::unique_ptr<TextScorer> scorer;
    if (FeatureHeads::is_folder(options->model))
      scorer = std::make_unique<HeadScorer>(*options);
    else
      scorer = std::make_unique<Scorer>(*options);
    for_each_rows(options->rows, 1, [&](std::vector<Row>& rows) {
      return std::vector<nlohmann::ordered_json>{scorer->score(rows[0])};
    });
  });
}

const bool registered = add_command({"score", "Rewards of texts by a reward model", setup});

}  // namespace
}  // namespace meed::cli
