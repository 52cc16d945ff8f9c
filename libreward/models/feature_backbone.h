#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/encoder_lm.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/tokenizer.h"
#include "libreward/models/feature_heads.h"

namespace meed {

/// A frozen backbone that turns texts into the vectors that heads stand on: a decoder of libpolicy,
/// or a BERT encoder such as MiniLM. Not thread-safe.
class FeatureBackbone {
 public:
  /// Throws DataError if the model or its tokenizer cannot be read, ConfigError for a pooling that
  /// the model does not have.
  explicit FeatureBackbone(const FeatureSource& source, int64_t max_tokens_per_batch = 4096);

  int64_t size() const { return size_; }  ///< numbers in a vector
  /// Token ids of a prompt (may be empty) and what follows; long ones lose their prompt's start.
  EncodedPair encode(const Content& prompt, const Content& completion) const;
  /// Features of each text, pooled as the source says, and its context: the hidden state at the
  /// prompt's end (an encoder's mean over the prompt). float32 [B, size] each. Throws DataError for
  /// a text without tokens, naming its place in `texts`.
  HeadInput embed(std::span<const EncodedPair> texts);
  const Tokenizer& tokenizer() const { return *tokenizer_; }

 private:
  HeadInput embed_decoder(std::span<const EncodedPair> texts);
  HeadInput embed_encoder(std::span<const EncodedPair> texts);
  FeatureSource source_;
  int64_t max_tokens_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<CausalLm> decoder_;
  std::unique_ptr<EncoderLm> encoder_;
  int64_t size_ = 0;
};

}  // namespace meed
