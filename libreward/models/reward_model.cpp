#include "libreward/models/reward_model.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/models/sequence_classifier.h"

namespace meed {
namespace {

struct Description {
  ConfigNode head = ConfigNode::parse_string("{type: linear}", "head");
  std::string pooling = "last";
};

/// meed.json of a folder; the plain classifier where there is none.
Description read_description(const std::filesystem::path& path) {
  Description description;
  const auto file = path / "meed.json";
  if (!std::filesystem::is_directory(path) || !std::filesystem::exists(file)) return description;
  const auto json = nlohmann::json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  const auto is_text = [&](const char* key) { return json.contains(key) && json[key].is_string(); };
  if (!json.is_object() || !is_text("head") || !is_text("pooling"))
    throw DataError(file.string() + ": expected an object with \"head\" and \"pooling\"");
  description.head = ConfigNode::parse_string(json["head"].get<std::string>(), file.string());
  description.pooling = json["pooling"].get<std::string>();
  return description;
}

}  // namespace

std::unique_ptr<RewardModel> RewardModel::load(const std::filesystem::path& path,
                                               const LoadOptions& options, const Fresh* fresh) {
  const auto files = ModelFiles::open(path);
  auto description = read_description(path);
  if (fresh != nullptr) {
    if (fresh->head) description.head = *fresh->head;
    description.pooling = fresh->pooling;
  }
  if (description.pooling != "last" && description.pooling != "mean" &&
      description.pooling != "prompt_end")
    throw DataError(path.string() + ": unknown pooling \"" + description.pooling + "\"");
  auto model = std::make_unique<RewardModel>();
  auto backbone_options = options;
  backbone_options.lm_head = false;
  model->backbone_ = CausalLm::load(*files, backbone_options);
  const auto comm = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics;
  RunContext context{.comm = *comm, .metrics = metrics};
  model->head_ = reward_heads().create(description.head, context);
  model->head_->init(model->backbone_->config().hidden_size, fresh != nullptr ? fresh->seed : 0);
  const auto& head = model->head_->parameters();
  bool whole = true;
  for (const auto& [name, tensor] : head.items()) whole = whole && files->has(name);
  if (!whole && fresh == nullptr)
    throw DataError(files->where() + "has no " + head.items().front().first +
                    ": not a reward model; train one with algorithm.type: reward_modelling");
  for (const auto& [name, tensor] : head.items()) {
    if (whole) {
      const auto value = files->load(name, at::kFloat);
      if (value.sizes() == tensor.sizes())
        tensor.copy_(value);
      else if (fresh == nullptr || name == "score.weight")
        throw DataError(files->where() + name + ": expected " + c10::str(tensor.sizes()) +
                        ", the file has " + c10::str(value.sizes()));
    }
    tensor.set_requires_grad(options.trainable);
  }
  for (const auto& [name, tensor] : model->backbone_->parameters().items())
    if (name != "lm_head.weight") model->parameters_.add(name, tensor);
  for (const auto& [name, tensor] : head.items()) model->parameters_.add(name, tensor);
  model->head_yaml_ = description.head.to_yaml();
  model->pooling_ = description.pooling;
  model->plain_ = reward_heads().name_of(description.head) == "linear" && model->pooling_ == "last";
  return model;
}

HeadOutput RewardModel::forward(std::span<const Row> rows) {
  PackedBatchBuilder builder;
  struct Text {
    int64_t prompt_first, prompt_end, first, end;
  };
  std::vector<Text> texts;
  for (const auto& row : rows) {
    const int64_t prompt_first = builder.num_tokens();
    const int64_t prefix = row.prompt.empty() ? -1 : builder.add(row.prompt);
    const int64_t prompt_end = builder.num_tokens();
    for (const auto& completion : row.completions) {
      const int64_t first = builder.num_tokens();
      if (!completion.empty()) builder.add(completion, prefix);
      MEED_CHECK(prompt_end > prompt_first || builder.num_tokens() > first,
                 "a text to score has no tokens");
      texts.push_back({prompt_first, prompt_end, first, builder.num_tokens()});
    }
  }
  const auto hidden_ND = backbone_->hidden_states(builder.build()).to(at::kFloat);
  std::vector<int64_t> last, context, token, owner;
  std::vector<float> weights;
  for (size_t t = 0; t < texts.size(); ++t) {
    const auto& text = texts[t];
    const bool has_prompt = text.prompt_end > text.prompt_first;
    last.push_back(text.end > text.first ? text.end - 1 : text.prompt_end - 1);
    context.push_back(has_prompt ? text.prompt_end - 1 : text.first);
    if (pooling_ != "mean") continue;
    const auto count = static_cast<float>(text.prompt_end - text.prompt_first + text.end - text.first);
    for (const auto& [from, to] : {std::pair{text.prompt_first, text.prompt_end}, {text.first, text.end}})
      for (int64_t n = from; n < to; ++n) {
        token.push_back(n);
        owner.push_back(static_cast<int64_t>(t));
        weights.push_back(1.0f / count);
      }
  }
  const auto rows_at = [&](const std::vector<int64_t>& places) {
    return hidden_ND.index_select(0, at::tensor(places, at::kLong));
  };
  HeadInput input{.context_BD = rows_at(context)};
  if (pooling_ == "mean")
    input.features_BD =
        at::zeros({static_cast<int64_t>(texts.size()), hidden_ND.size(1)})
            .index_add(0, at::tensor(owner, at::kLong),
                       rows_at(token) * at::tensor(weights).unsqueeze(1));
  else
    input.features_BD = pooling_ == "last" ? rows_at(last) : input.context_BD;
  return head_->forward(input);
}

void RewardModel::save(const std::filesystem::path& folder, const Tokenizer* tokenizer,
                       at::ScalarType dtype) const {
  const int64_t num_labels =
      parameters_.has("score.weight") ? parameters_.at("score.weight").size(0) : 1;
  save_classifier(folder, backbone_->config(), num_labels, parameters_, tokenizer, dtype);
  if (plain_) return;
  const nlohmann::ordered_json json = {{"head", head_yaml_}, {"pooling", pooling_}};
  write_file_atomic(folder / "meed.json", json.dump(2) + "\n");
}

}  // namespace meed
