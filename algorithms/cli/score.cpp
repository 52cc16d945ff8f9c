#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <memory>

#include "algorithms/cli/command.h"
#include "algorithms/cli/content.h"
#include "algorithms/policy.h"
#include "libpolicy/core/error.h"
#include "libreward/data/vector_example.h"
#include "libreward/models/feature_backbone.h"
#include "libreward/models/feature_heads.h"
#include "libreward/models/text_scorer.h"

namespace meed::cli {
namespace {

struct Options {
  RowOptions rows;
  std::string model, dtype = "float32", aggregate;
  int64_t max_length = 0;
};

/// Rewards of prompts with what follows them.
class RowScorer {
 public:
  virtual ~RowScorer() = default;
  virtual nlohmann::ordered_json score(const Row& row, int64_t index) = 0;
};

/// Heads of the algorithm reward_head: rows of vectors as they are, texts through the backbone.
class HeadScorer final : public RowScorer {
 public:
  explicit HeadScorer(const Options& options) : heads_(FeatureHeads::load(options.model)) {
    if (options.max_length > 0) heads_->source.max_length = options.max_length;
  }

  nlohmann::ordered_json score(const Row& row, int64_t /*index*/) override {
    const at::NoGradGuard no_grad;
    auto result = row.json;
    const bool pair = row.json.contains("chosen") || row.json.contains("chosen_features");
    for (const auto& side :
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

/// Whatever TextScorer serves.
class ModelRowScorer final : public RowScorer {
 public:
  explicit ModelRowScorer(const Options& options)
      : scorer_(TextScorer::load(options.model, {.dtype = parse_dtype(options.dtype),
                                                 .max_length = options.max_length,
                                                 .aggregate = options.aggregate})) {}

  nlohmann::ordered_json score(const Row& row, int64_t index) override {
    auto result = row.json;
    Example example;
    example.row = index;
    example.prompt = content_of(row, "prompt");
    for (const auto& [key, value] : row.json.items())
      example.extra[key] = value.is_string() ? value.get<std::string>() : value.dump();
    if (row.json.contains("chosen") || row.json.contains("rejected")) {
      for (const char* side : {"chosen", "rejected"}) {
        const auto content = content_of(row, side);
        if (content.empty()) throw DataError(row.where + ": \"" + side + "\" is missing or empty");
        add(result, side, example, content);
      }
      return result;
    }
    Content content = content_of(row, row.json.contains("messages") ? "messages" : "completion");
    if (row.json.contains("messages") && content.messages.empty())
      throw DataError(row.where + ": \"messages\" is empty");
    if (row.json.contains("completions")) example.completions = steps_of(row);
    if (content.empty() && example.prompt.empty() && example.completions.empty())
      throw DataError(row.where +
                      ": expected prompt and completion, messages, or chosen and rejected");
    add(result, "", example, content);
    return result;
  }

 private:
  /// `side`_reward, and what the model gives beside it.
  void add(nlohmann::ordered_json& result, const std::string& side, const Example& example,
           const Content& content) {
    const TextScorer::Text text{&example, content};
    const auto score = scorer_->score({&text, 1})[0];
    const auto prefix = side.empty() ? side : side + "_";
    result[prefix + "reward"] = score.value;
    if (!score.step_values.empty()) result[prefix + "step_rewards"] = score.step_values;
    for (const auto& [name, value] : score.parts) result[prefix + "parts"][name] = value;
  }

  static std::vector<std::string> steps_of(const Row& row) {
    std::vector<std::string> steps;
    const auto& list = row.json["completions"];
    if (!list.is_array())
      throw DataError(row.where + ": \"completions\": expected a list of steps");
    for (const auto& step : list) {
      if (!step.is_string()) throw DataError(row.where + ": \"completions\": a step is no string");
      steps.push_back(step.get<std::string>());
    }
    return steps;
  }

  std::unique_ptr<TextScorer> scorer_;
};

void setup(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--model", options->model, "Folder of a reward model")->required();
  app.add_option("--dtype", options->dtype, "What it computes in")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--max-length", options->max_length, "Longer texts lose their start; 0: never")
      ->capture_default_str();
  app.add_option("--aggregate", options->aggregate,
                 "Of an ensemble: in place of what its folder says")
      ->check(CLI::IsMember({"mean", "median", "min", "mean_minus_std", "weighted"}));
  options->rows.add_to(app);
  app.callback([options] {
    std::unique_ptr<RowScorer> scorer;
    if (FeatureHeads::is_folder(options->model))
      scorer = std::make_unique<HeadScorer>(*options);
    else
      scorer = std::make_unique<ModelRowScorer>(*options);
    int64_t index = 0;
    for_each_rows(options->rows, 1, [&](std::vector<Row>& rows) {
      return std::vector<nlohmann::ordered_json>{scorer->score(rows[0], index++)};
    });
  });
}

const bool registered = add_command({"score", "Rewards of texts by a reward model", setup});

}  // namespace
}  // namespace meed::cli
