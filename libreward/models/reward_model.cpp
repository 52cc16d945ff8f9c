#include "libreward/models/reward_model.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <nlohmann/json.hpp>

#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/checkpoint/safetensors.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/core/random.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/models/encoder_lm.h"
#include "libpolicy/models/lora.h"
#include "libpolicy/text/tokenizer.h"
#include "libreward/models/sequence_classifier.h"

namespace meed {
namespace {

constexpr const char* kPoolerWeight = "bert.pooler.dense.weight";
constexpr const char* kPoolerBias = "bert.pooler.dense.bias";
constexpr const char* kClassifierBias = "classifier.bias";
constexpr const char* kPeftPrefix = "base_model.model.";

struct Description {
  ConfigNode head = ConfigNode::parse_string("{type: linear}", "head");
  RewardFormat format;
};

/// meed.json of a folder; the plain classifier where there is none.
Description read_description(const std::filesystem::path& path) {
  Description description;
  const auto file = path / "meed.json";
  if (!std::filesystem::is_directory(path) || !std::filesystem::exists(file)) return description;
  const auto text = read_file(file);
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("head") || !json["head"].is_string())
    throw DataError(file.string() + ": expected an object with \"head\" and \"pooling\"");
  description.head = ConfigNode::parse_string(json["head"].get<std::string>(), file.string());
  description.format = RewardFormat::from_json(text, file.string());
  return description;
}

bool is_encoder(const ModelFiles& files) {
  const auto json = nlohmann::json::parse(files.config_json(), nullptr, /*allow_exceptions=*/false);
  return json.is_object() && json.value("model_type", "") == "bert";
}

std::unique_ptr<RewardHead> make_head(const ConfigNode& node) {
  const auto comm = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics;
  RunContext context{.comm = *comm, .metrics = metrics};
  return reward_heads().create(node, context);
}

/// BertForSequenceClassification calls a linear head otherwise.
std::string stored_name(const std::string& name, bool encoder, bool plain) {
  return encoder && plain && name == "score.weight" ? "classifier.weight" : name;
}

}  // namespace

/// Rows as one batch, and where in it each text's tokens stand.
struct RewardModel::Packed {
  struct Text {
    int64_t prompt_first, prompt_end, first, end;
    std::vector<int64_t> steps;
  };
  PackedBatch batch;
  at::Tensor types_N;  ///< encoders: 1 on completions
  std::vector<Text> texts;
};

RewardModel::RewardModel() = default;
RewardModel::~RewardModel() = default;

std::unique_ptr<RewardModel> RewardModel::load(const std::filesystem::path& path,
                                               const LoadOptions& options, const Fresh* fresh) {
  const auto files = ModelFiles::open(path);
  auto description = read_description(path);
  if (fresh != nullptr) {
    if (fresh->head) description.head = *fresh->head;
    description.format = fresh->format;
  }
  auto model = std::make_unique<RewardModel>();
  model->format_ = description.format;
  model->head_yaml_ = description.head.to_yaml();
  model->plain_ = reward_heads().name_of(description.head) == "linear" &&
                  model->format_.pooling == "last" && model->format_.reference_column.empty() &&
                  !model->format_.probability;
  const bool encoder = is_encoder(*files);
  int64_t hidden_size = 0;
  if (encoder) {
    model->encoder_ = EncoderLm::load(path, options.trainable);
    model->encoder_json_ = files->config_json();
    hidden_size = model->encoder_->config().hidden_size;
    const auto cls = Tokenizer::load(path)->token_to_id("[CLS]");
    if (!cls) throw DataError(path.string() + ": the encoder's tokenizer has no [CLS]");
    model->cls_id_ = *cls;
    const auto part = [&](const std::string& name, at::IntArrayRef shape) {
      const auto bare = name.substr(std::string("bert.").size());
      auto value = files->has(name)   ? files->load(name, at::kFloat)
                   : files->has(bare) ? files->load(bare, at::kFloat)
                                      : random_weights(shape, shape.size() > 1 ? kHeadStd : 0.0, 0);
      model->encoder_->parameters().add(bare, value.set_requires_grad(options.trainable));
    };
    part(kPoolerWeight, {hidden_size, hidden_size});
    part(kPoolerBias, {hidden_size});
    model->score_bias_ = files->has(kClassifierBias) && model->plain_
                             ? files->load(kClassifierBias, at::kFloat)
                             : at::zeros({1});
  } else {
    auto backbone_options = options;
    backbone_options.lm_head = false;
    model->backbone_ = CausalLm::load(*files, backbone_options);
    hidden_size = model->backbone_->config().hidden_size;
  }
  model->head_ = make_head(description.head);
  model->head_->init(hidden_size, fresh != nullptr ? fresh->seed : 0);
  const auto& head = model->head_->parameters();
  bool whole = true;
  for (const auto& [name, tensor] : head.items())
    whole = whole && files->has(stored_name(name, encoder, model->plain_));
  if (!whole && fresh == nullptr)
    throw DataError(files->where() + "has no " + head.items().front().first +
                    ": not a reward model; train one with algorithm.type: reward_modelling");
  for (const auto& [name, tensor] : head.items()) {
    if (whole) {
      const auto value = files->load(stored_name(name, encoder, model->plain_), at::kFloat);
      if (value.sizes() == tensor.sizes())
        tensor.copy_(value);
      else if (fresh == nullptr || name == "score.weight")
        throw DataError(files->where() + name + ": expected " + c10::str(tensor.sizes()) +
                        ", the file has " + c10::str(value.sizes()));
    }
    tensor.set_requires_grad(options.trainable);
  }
  model->collect_parameters();
  return model;
}

void RewardModel::collect_parameters() {
  parameters_ = {};
  const std::string prefix = encoder_ ? "bert." : "";
  for (const auto& [name, tensor] : backbone_parameters().items())
    if (name != "lm_head.weight") parameters_.add(prefix + name, tensor);
  for (const auto& [name, tensor] : head_->parameters().items())
    parameters_.add(stored_name(name, encoder_ != nullptr, plain_), tensor);
}

std::optional<int64_t> RewardModel::max_length() const {
  if (encoder_) return encoder_->config().max_positions - 1;  // [CLS] takes one
  if (backbone_->config().learned_positions) return backbone_->config().max_positions;
  return std::nullopt;
}

CausalLm& RewardModel::backbone() {
  MEED_CHECK(backbone_ != nullptr, "an encoder is no language model");
  return *backbone_;
}

ParameterStore& RewardModel::backbone_parameters() {
  return encoder_ ? encoder_->parameters() : backbone_->parameters();
}

void RewardModel::sync_compute_weights() {
  if (backbone_) backbone_->sync_compute_weights();
}

void RewardModel::add_adapter(const AdapterConfig& adapter, uint64_t seed) {
  if (encoder_)
    throw ConfigError(
        "lora.r: adapters are for decoders; leave the lora section out with an encoder");
  add_lora(*backbone_, {.rank = adapter.r,
                        .alpha = adapter.lora_alpha,
                        .use_rslora = adapter.use_rslora,
                        .target_modules = adapter.target_modules,
                        .seed = seed});
  adapter_ = adapter;
  for (const auto& [name, tensor] : head_->parameters().items()) tensor.set_requires_grad(true);
  collect_parameters();
}

RewardModel::Packed RewardModel::pack_for_decoder(std::span<const Row> rows) const {
  Packed packed;
  PackedBatchBuilder builder;
  for (const auto& row : rows) {
    const int64_t prompt_first = builder.num_tokens();
    const int64_t prefix = row.prompt.empty() ? -1 : builder.add(row.prompt);
    const int64_t prompt_end = builder.num_tokens();
    for (size_t c = 0; c < row.completions.size(); ++c) {
      const int64_t first = builder.num_tokens();
      if (!row.completions[c].empty()) builder.add(row.completions[c], prefix);
      MEED_CHECK(prompt_end > prompt_first || builder.num_tokens() > first,
                 "a text to score has no tokens");
      packed.texts.push_back({prompt_first, prompt_end, first, builder.num_tokens(),
                              row.step_ends.empty() ? std::vector<int64_t>{} : row.step_ends[c]});
    }
  }
  packed.batch = builder.build();
  return packed;
}

RewardModel::Packed RewardModel::pack_for_encoder(std::span<const Row> rows) const {
  Packed packed;
  PackedBatchBuilder builder;
  std::vector<int64_t> types;
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.completions.size(); ++c) {
      std::vector<int64_t> ids = {cls_id_};
      ids.insert(ids.end(), row.prompt.begin(), row.prompt.end());
      const auto middle = static_cast<int64_t>(ids.size());
      ids.insert(ids.end(), row.completions[c].begin(), row.completions[c].end());
      MEED_CHECK(ids.size() > 1, "a text to score has no tokens");
      const int64_t first = builder.num_tokens();
      builder.add(ids);
      const int64_t end = builder.num_tokens();
      for (int64_t n = first; n < end; ++n) types.push_back(n - first >= middle);
      packed.texts.push_back({first, first + middle, first + middle, end,
                              row.step_ends.empty() ? std::vector<int64_t>{} : row.step_ends[c]});
    }
  }
  packed.batch = builder.build();
  packed.types_N = at::tensor(types, at::kLong);
  return packed;
}

HeadInput RewardModel::pooled(const Packed& packed, const at::Tensor& hidden_ND) {
  std::vector<int64_t> last, context, token, owner;
  std::vector<float> weights;
  for (size_t t = 0; t < packed.texts.size(); ++t) {
    const auto& text = packed.texts[t];
    const bool has_prompt = text.prompt_end > text.prompt_first;
    const int64_t prompt_end = has_prompt ? text.prompt_end - 1 : text.first;
    for (const int64_t step : text.steps) {
      last.push_back(text.first + step);
      context.push_back(prompt_end);
    }
    if (format_.pooling == "steps") continue;
    // An encoder's summary is its first token's, [CLS].
    last.push_back(encoder_                ? text.prompt_first
                   : text.end > text.first ? text.end - 1
                                           : text.prompt_end - 1);
    context.push_back(prompt_end);
    if (format_.pooling != "mean") continue;
    const auto count =
        static_cast<float>(text.prompt_end - text.prompt_first + text.end - text.first);
    for (const auto& [from, to] :
         {std::pair{text.prompt_first, text.prompt_end}, {text.first, text.end}})
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
  if (format_.pooling == "mean")
    input.features_BD = at::zeros({static_cast<int64_t>(packed.texts.size()), hidden_ND.size(1)})
                            .index_add(0, at::tensor(owner, at::kLong),
                                       rows_at(token) * at::tensor(weights).unsqueeze(1));
  else
    input.features_BD = format_.pooling == "prompt_end" ? input.context_BD : rows_at(last);
  if (encoder_ && format_.pooling == "last") {
    const auto& pooler = encoder_->parameters();
    input.features_BD = at::linear(input.features_BD, pooler.at("pooler.dense.weight"),
                                   pooler.at("pooler.dense.bias"))
                            .tanh();
  }
  return input;
}

HeadOutput RewardModel::forward(std::span<const Row> rows) {
  const auto packed = encoder_ ? pack_for_encoder(rows) : pack_for_decoder(rows);
  const auto hidden_ND = encoder_ ? encoder_->hidden_states(packed.batch, packed.types_N)
                                  : head_input(backbone_->hidden_states(packed.batch));
  auto output = head_->forward(pooled(packed, hidden_ND));
  if (encoder_ && plain_) output.rewards_B = output.rewards_B + score_bias_;
  return output;
}

HeadOutput RewardModel::forward(std::span<const RewardText> texts) {
  std::vector<Row> rows;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i == 0 || texts[i].prompt_ids != texts[i - 1].prompt_ids)
      rows.push_back({texts[i].prompt_ids, {}});
    rows.back().completions.emplace_back(texts[i].completion_ids);
    rows.back().step_ends.push_back(texts[i].step_ends);
  }
  return forward(rows);
}

void RewardModel::save(const std::filesystem::path& folder, const Tokenizer* tokenizer,
                       at::ScalarType dtype) const {
  if (encoder_) {
    save_encoder(folder, tokenizer, dtype);
  } else {
    auto config = backbone_->config();
    config.num_labels =
        parameters_.has("score.weight") ? parameters_.at("score.weight").size(0) : 1;
    if (!config.pad_token_id && !config.eos_token_ids.empty())
      config.pad_token_id = config.eos_token_ids[0];  // as save_classifier
    save_parameters(folder, config, parameters_, tokenizer, dtype, adapter_ ? &*adapter_ : nullptr);
  }
  if (plain_) return;
  write_file_atomic(folder / "meed.json", format_.to_json(head_yaml_));
}

void RewardModel::save_encoder(const std::filesystem::path& folder, const Tokenizer* tokenizer,
                               at::ScalarType dtype) const {
  at::NoGradGuard no_grad;
  auto json = nlohmann::ordered_json::parse(encoder_json_);
  json["architectures"] = {"BertForSequenceClassification"};
  json["num_labels"] = 1;
  json["problem_type"] = "regression";
  json["id2label"] = {{"0", "LABEL_0"}};
  json["label2id"] = {{"LABEL_0", 0}};
  write_file_atomic(folder / "config.json", json.dump(2) + "\n");
  NamedTensors tensors;
  for (const auto& [name, tensor] : parameters_.items())
    tensors.emplace_back(name, tensor.detach().to(dtype));
  if (plain_) tensors.emplace_back(kClassifierBias, score_bias_.to(dtype));
  write_safetensors(folder / "model.safetensors", tensors);
  if (tokenizer != nullptr) tokenizer->save(folder);
}

void RewardModel::save_adapter_and_head(const std::filesystem::path& folder) const {
  MEED_CHECK(adapter_.has_value(), "the model has no adapter");
  save_adapter(folder, *backbone_, *adapter_, &head_->parameters());
  write_file_atomic(folder / "meed.json", format_.to_json(head_yaml_));
}

void RewardModel::load_adapter_and_head(const std::filesystem::path& folder) {
  at::NoGradGuard no_grad;
  load_adapter(folder, *backbone_);
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  for (const auto& [name, tensor] : head_->parameters().items()) {
    const auto value = file.load(kPeftPrefix + name);
    if (value.sizes() != tensor.sizes())
      throw DataError((folder / "adapter_model.safetensors").string() + ": " + name +
                      " has another shape; the adapter belongs to another model");
    tensor.detach().copy_(value);
  }
}

}  // namespace meed
