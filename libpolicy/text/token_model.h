#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace meed {

class JsonReader;

/// Token ids by text, both ways.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// Throws DataError when ids are negative, doubled or far beyond the number of tokens.
  explicit Vocabulary(const JsonReader& json);
  /// -1 if unknown.
  int64_t id(std::string_view token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? -1 : found->second;
  }
  /// "" outside; a hole is "" too.
  const std::string& token(int64_t id) const;
  bool has(int64_t id) const { return id >= 0 && id < size() && present_[static_cast<size_t>(id)]; }
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }  ///< largest id + 1
  int64_t count() const { return static_cast<int64_t>(ids_.size()); }
  void add(const std::string& token, int64_t id);

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  std::unordered_map<std::string, int64_t, Hash, std::equal_to<>> ids_;
  std::vector<std::string> tokens_;
  std::vector<bool> present_;
};

/// Turns one word into tokens: the "model" of a tokenizer.json. Thread-safe.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// One call's working memory; a model's cache lives in it.
  class Session {
   public:
    virtual ~Session() = default;
    /// Appends the ids of `word`; `bytes`: the word is raw bytes of a byte-level vocabulary.
    virtual void encode(std::string_view word, bool bytes, std::vector<int64_t>& ids) = 0;
  };
  virtual std::unique_ptr<Session> session() const = 0;
  const Vocabulary& vocabulary() const { return vocabulary_; }
  virtual bool is_bpe() const { return false; }

 protected:
  Vocabulary vocabulary_;
};

/// `special_tokens` are never produced from text by merging or lookup of whole words.
std::unique_ptr<TokenModel> make_token_model(const JsonReader& json,
                                             const std::unordered_set<std::string>& special_tokens);
std::unique_ptr<TokenModel> make_bpe(const JsonReader& json,
                                     const std::unordered_set<std::string>& special_tokens);
std::unique_ptr<TokenModel> make_unigram(const JsonReader& json,
                                         const std::unordered_set<std::string>& special_tokens);

}  // namespace meed
