#include "libreward/models/critique_model.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/core/random.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/generation/rollout_engine.h"
#include "libpolicy/models/save_model.h"
#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/text/chat_template.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

Json read_description(const std::filesystem::path& path) {
  const auto file = path / "meed.json";
  auto json = Json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("critique") || !json["critique"].is_object() ||
      !json.contains("head") || !json["head"].is_string())
    throw DataError(file.string() + ": expected an object with \"head\" and \"critique\"");
  return json;
}

CritiqueFormat read_format(const std::filesystem::path& path) {
  const auto json = read_description(path);
  const CritiqueFormat fallback;
  try {
    const auto& critique = json["critique"];
    return {
        .marker = critique.value("marker", fallback.marker),
        .num_critiques = critique.value("num_critiques", fallback.num_critiques),
        .max_critique_length = critique.value("max_critique_length", fallback.max_critique_length),
        .temperature = critique.value("temperature", fallback.temperature)};
  } catch (const Json::exception& e) {
    throw DataError((path / "meed.json").string() + ": " + e.what());
  }
}

/// Serves a CritiqueModel. A text's critiques depend on the seed, its row and its place in it.
class CritiqueScorer final : public TextScorer {
 public:
  CritiqueScorer(const std::filesystem::path& path, const Options& options)
      : options_(options),
        format_(read_format(path)),
        tokenizer_(Tokenizer::load(path)),
        model_(CritiqueModel::load(path, {.dtype = options.dtype})),
        engine_(RolloutEngine::create(model_->backbone(), tokenizer_.get())) {}

  std::vector<Score> score(std::span<const Text> texts) override {
    at::NoGradGuard no_grad;
    const auto limit = options_.max_length > 0 ? options_.max_length : INT64_MAX;
    std::vector<GenerationRequest> requests;
    for (size_t i = 0; i < texts.size(); ++i) {
      GenerationRequest request{.id = static_cast<int64_t>(i)};
      request.prompt_ids = critique_context(*tokenizer_, format_.marker, texts[i].example->prompt,
                                            texts[i].completion, limit);
      request.sampling = {.temperature = format_.temperature,
                          .max_new_tokens = format_.max_critique_length};
      const int64_t count = format_.temperature > 0 ? format_.num_critiques : 1;
      for (int64_t k = 0; k < count; ++k)
        request.seeds.push_back(
            mix_seed({options_.seed, static_cast<uint64_t>(texts[i].example->row),
                      static_cast<uint64_t>(k)}));
      requests.push_back(std::move(request));
    }
    const auto contexts = requests;
    const auto finished = engine_->generate(std::move(requests));
    std::vector<Score> scores;
    for (size_t i = 0; i < texts.size(); ++i) scores.push_back(read(contexts[i], finished[i]));
    return scores;
  }

 private:
  Score read(const GenerationRequest& request, const FinishedRequest& finished) {
    std::vector<CritiqueModel::Row> rows;
    double unfinished = 0.0, tokens = 0.0;
    for (const auto& critique : finished.completions) {
      rows.push_back({request.prompt_ids, critique.token_ids});
      unfinished += critique.finish_reason != FinishReason::kStop;
      tokens += static_cast<double>(critique.token_ids.size());
    }
    const auto rewards_B = model_->forward(rows).rewards_B.to(at::kDouble);
    Score score{.value = rewards_B.mean().item<double>()};
    const auto count = static_cast<double>(rows.size());
    score.parts["critique_length"] = tokens / count;
    score.parts["critique_unfinished"] = unfinished / count;
    if (rows.size() > 1)
      score.parts["disagreement"] = rewards_B.std(/*unbiased=*/false).item<double>();
    return score;
  }

  Options options_;
  CritiqueFormat format_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<CritiqueModel> model_;
  std::unique_ptr<RolloutEngine> engine_;
};

}  // namespace

std::unique_ptr<CritiqueModel> CritiqueModel::load(const std::filesystem::path& path,
                                                   const LoadOptions& options,
                                                   const ConfigNode* head, uint64_t seed) {
  const auto files = ModelFiles::open(path);
  auto model = std::make_unique<CritiqueModel>();
  model->backbone_ = CausalLm::load(*files, options);
  const auto node =
      head != nullptr ? *head
                      : ConfigNode::parse_string(read_description(path)["head"].get<std::string>(),
                                                 (path / "meed.json").string());
  const auto comm = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics;
  RunContext context{.comm = *comm, .metrics = metrics};
  model->head_ = reward_heads().create(node, context);
  model->head_->init(model->backbone_->config().hidden_size, seed);
  model->head_yaml_ = node.to_yaml();
  const auto& own = model->head_->parameters();
  for (const auto& [name, tensor] : own.items()) {
    if (files->has(name)) {
      const auto value = files->load(name, at::kFloat);
      if (value.sizes() != tensor.sizes())
        throw DataError(files->where() + name + ": expected " + c10::str(tensor.sizes()) +
                        ", the file has " + c10::str(value.sizes()));
      tensor.copy_(value);
    } else if (head == nullptr) {
      throw DataError(files->where() + "has no " + name + ": not a critique model");
    }
    tensor.set_requires_grad(options.trainable);
  }
  for (const auto& [name, tensor] : model->backbone_->parameters().items())
    model->parameters_.add(name, tensor);
  for (const auto& [name, tensor] : own.items()) model->parameters_.add(name, tensor);
  return model;
}

CritiqueModel::Output CritiqueModel::forward(std::span<const Row> rows) {
  PackedBatchBuilder builder;
  std::vector<int64_t> last, context, selected, targets;
  for (const auto& row : rows) {
    MEED_CHECK(!row.context.empty(), "a critique has a context");
    const int64_t first = builder.num_tokens();
    const auto middle = first + static_cast<int64_t>(row.context.size());
    std::vector<int64_t> ids(row.context.begin(), row.context.end());
    ids.insert(ids.end(), row.critique.begin(), row.critique.end());
    builder.add(ids);
    last.push_back(builder.num_tokens() - 1);
    context.push_back(middle - 1);
    for (int64_t n = middle; n < builder.num_tokens(); ++n) {
      selected.push_back(n - 1);
      targets.push_back(row.critique[static_cast<size_t>(n - middle)]);
    }
  }
  const auto hidden_ND = backbone_->hidden_states(builder.build());
  const auto at_places = [&](const std::vector<int64_t>& places) {
    return hidden_ND.index_select(0, at::tensor(places, at::kLong).to(hidden_ND.device()));
  };
  const auto output = head_->forward(
      {.features_BD = head_input(at_places(last)), .context_BD = head_input(at_places(context))});
  const auto lm_head = backbone_->lm_head();
  const auto logprobs =
      selected.empty()
          ? at::zeros({0})
          : chunked_logprobs(at_places(selected), lm_head.weight, at::tensor(targets, at::kLong),
                             /*temperature=*/1.0, /*with_entropy=*/false, lm_head.master)
                .logprobs_M.to(at::kCPU);
  return {output.rewards_B, logprobs};
}

void CritiqueModel::save(const std::filesystem::path& folder, const Tokenizer* tokenizer,
                         at::ScalarType dtype, const CritiqueFormat& format) const {
  save_parameters(folder, backbone_->config(), parameters_, tokenizer, dtype);
  const Json json = {{"head", head_yaml_},
                     {"critique",
                      {{"marker", format.marker},
                       {"num_critiques", format.num_critiques},
                       {"max_critique_length", format.max_critique_length},
                       {"temperature", format.temperature}}}};
  write_file_atomic(folder / "meed.json", json.dump(2) + "\n");
}

std::vector<int64_t> critique_context(const Tokenizer& tokenizer, const std::string& marker,
                                      const Content& prompt, const Content& completion,
                                      int64_t max_length) {
  auto pair = encode_pair(tokenizer, prompt, completion, /*add_eos=*/false);
  truncate_start(pair, max_length);
  auto ids = std::move(pair.prompt_ids);
  ids.insert(ids.end(), pair.completion_ids.begin(), pair.completion_ids.end());
  const auto behind = tokenizer.encode(marker);
  ids.insert(ids.end(), behind.begin(), behind.end());
  return ids;
}

std::vector<int64_t> critique_ids(const Tokenizer& tokenizer, const std::string& critique) {
  auto ids = tokenizer.encode(critique);
  if (const auto eos = tokenizer.eos_id()) ids.push_back(*eos);
  return ids;
}

bool is_critique_model(const std::filesystem::path& path) {
  const auto file = path / "meed.json";
  if (!std::filesystem::is_directory(path) || !std::filesystem::exists(file)) return false;
  const auto json = Json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  return json.is_object() && json.contains("critique");
}

std::unique_ptr<TextScorer> load_critique_scorer(const std::filesystem::path& path,
                                                 const TextScorer::Options& options) {
  return std::make_unique<CritiqueScorer>(path, options);
}

}  // namespace meed
