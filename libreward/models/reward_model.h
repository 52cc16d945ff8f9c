#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/save_model.h"
#include "libreward/models/reward_head.h"
#include "libreward/models/reward_text.h"

namespace meed {

class EncoderLm;
class Tokenizer;

/// A backbone with a reward head: what reward_modelling trains, `meed score` and the reward
/// function `reward_model` serve. The backbone is a decoder or a BERT encoder, whose features are
/// its pooler's output (pooling "last") or the mean of its tokens. With the head "linear" and
/// pooling "last" the folder is transformers' ...ForSequenceClassification; any other has a
/// meed.json that says what stands on the backbone.
class RewardModel {
 public:
  /// A prompt and texts that follow it, as token ids; the prompt may be empty. An encoder's row
  /// holds no [CLS]: the model puts it in front.
  struct Row {
    std::span<const int64_t> prompt;
    std::vector<std::span<const int64_t>> completions;
    std::vector<std::vector<int64_t>> step_ends = {};  ///< pooling "steps": of each completion
  };
  struct Fresh {
    std::optional<ConfigNode> head;  ///< none: linear
    RewardFormat format;
    uint64_t seed = 0;
  };
  RewardModel();
  ~RewardModel();
  /// Reads a reward model's folder, or, with `fresh`, gives a language model a new head (a folder
  /// whose head fits keeps it). Throws DataError.
  static std::unique_ptr<RewardModel> load(const std::filesystem::path& path,
                                           const LoadOptions& options,
                                           const Fresh* fresh = nullptr);

  /// One output for each completion, rows in order, a row's completions in order; with pooling
  /// "steps" one for each step. A completion without tokens is read at its prompt's end; throws
  /// InternalError where both are empty.
  HeadOutput forward(std::span<const Row> rows);
  /// The same of texts, one by one; those that follow one another with one prompt share it.
  HeadOutput forward(std::span<const RewardText> texts);
  const RewardHead& head() const { return *head_; }
  const RewardFormat& format() const { return format_; }
  RewardReader reader() const { return encoder_ ? RewardReader::kEncoder : RewardReader::kDecoder; }
  /// Longest text, in tokens of a Row; nullopt: no limit of the model's own.
  std::optional<int64_t> max_length() const;
  /// Throws InternalError for an encoder.
  CausalLm& backbone();
  /// The backbone's and the head's.
  ParameterStore& parameters() { return parameters_; }
  /// Those of the backbone alone.
  ParameterStore& backbone_parameters();
  void sync_compute_weights();
  /// Puts LoRA on a decoder whose weights then stay; the head is trained whole, as PEFT's
  /// modules_to_save. Throws ConfigError for an encoder.
  void add_adapter(const AdapterConfig& adapter, uint64_t seed);

  /// Throws DataError. A model with an adapter is written merged.
  void save(const std::filesystem::path& folder, const Tokenizer* tokenizer,
            at::ScalarType dtype) const;
  /// The adapter and the head as PEFT writes them for a classifier. Throws DataError.
  void save_adapter_and_head(const std::filesystem::path& folder) const;
  void load_adapter_and_head(const std::filesystem::path& folder);

 private:
  struct Packed;
  Packed pack_for_decoder(std::span<const Row> rows) const;
  Packed pack_for_encoder(std::span<const Row> rows) const;
  at::Tensor hidden_states(const Packed& packed);
  HeadInput pooled(const Packed& packed, const at::Tensor& hidden_ND);
  void collect_parameters();
  void save_encoder(const std::filesystem::path& folder, const Tokenizer* tokenizer,
                    at::ScalarType dtype) const;

  std::unique_ptr<CausalLm> backbone_;
  std::unique_ptr<EncoderLm> encoder_;
  at::Tensor score_bias_;  ///< of an encoder's classifier, [1]
  int64_t cls_id_ = 0;
  std::string encoder_json_;  ///< config.json as read
  std::unique_ptr<RewardHead> head_;
  ParameterStore parameters_;
  RewardFormat format_;
  std::optional<AdapterConfig> adapter_;
  std::string head_yaml_;
  bool plain_ = true;  ///< transformers reads the folder as it is
};

}  // namespace meed
