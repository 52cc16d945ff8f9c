#include "libpolicy/text/token_model.h"

#include "libpolicy/text/byte_level.h"
#include "libpolicy/text/json_reader.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

/// Ids may leave holes, but not so many that a table by id becomes absurd.
constexpr int64_t kMaxHoles = 1 << 20;

/// BERT's greedy longest match.
class WordPiece final : public TokenModel {
 public:
  WordPiece(const JsonReader& json, const std::unordered_set<std::string>& special_tokens)
      : prefix_(json.string("continuing_subword_prefix", "##")) {
    vocabulary_ = Vocabulary(json.at("vocab"));
    if (const auto limit = json.find("max_input_chars_per_word")) max_characters_ = limit->integer();
    const std::string unknown = json.string("unk_token", "[UNK]");
    unknown_ = vocabulary_.id(unknown);
    if (unknown_ < 0) json.fail("unk_token \"" + unknown + "\" is not in the vocabulary");
    for (const auto& token : special_tokens) special_.insert(vocabulary_.id(token));
  }

  std::unique_ptr<Session> session() const override { return std::make_unique<Call>(*this); }

 private:
  struct Call final : Session {
    explicit Call(const WordPiece& model) : model_(model) {}
    void encode(std::string_view word, bool bytes, std::vector<int64_t>& ids) override {
      model_.encode(bytes ? byte_level::from_bytes(word) : std::string(word), ids);
    }
    const WordPiece& model_;
  };

  void encode(const std::string& word, std::vector<int64_t>& ids) const {
    int64_t characters = 0;
    for (const char c : word) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    const size_t before = ids.size();
    bool known = characters <= max_characters_;
    for (size_t begin = 0; known && begin < word.size();) {
      size_t end = word.size();
      int64_t id = -1;
      for (; end > begin; end = shorter(word, end)) {
        id = lookup(word.substr(begin, end - begin), begin > 0);
        if (id >= 0) break;
      }
      known = id >= 0;
      if (known) ids.push_back(id);
      begin = end;
    }
    if (known) return;
    ids.resize(before);
    ids.push_back(unknown_);
  }

  static size_t shorter(const std::string& word, size_t end) {
    do --end;
    while (end > 0 && (static_cast<unsigned char>(word[end]) & 0xC0) == 0x80);
    return end;
  }

  int64_t lookup(const std::string& piece, bool continues) const {
    const int64_t id = vocabulary_.id(continues ? prefix_ + piece : piece);
    return special_.contains(id) ? -1 : id;
  }

  std::string prefix_;
  int64_t unknown_ = -1, max_characters_ = 100;
  std::unordered_set<int64_t> special_;
};

class WordLevel final : public TokenModel {
 public:
  WordLevel(const JsonReader& json, const std::unordered_set<std::string>& special_tokens) {
    vocabulary_ = Vocabulary(json.at("vocab"));
    unknown_ = vocabulary_.id(json.string("unk_token", "<unk>"));
    for (const auto& token : special_tokens) special_.insert(vocabulary_.id(token));
  }

  std::unique_ptr<Session> session() const override { return std::make_unique<Call>(*this); }

 private:
  struct Call final : Session {
    explicit Call(const WordLevel& model) : model_(model) {}
    void encode(std::string_view word, bool bytes, std::vector<int64_t>& ids) override {
      int64_t id = model_.vocabulary_.id(bytes ? byte_level::from_bytes(word) : std::string(word));
      if (id < 0 || model_.special_.contains(id)) id = model_.unknown_;
      if (id >= 0) ids.push_back(id);
    }
    const WordLevel& model_;
  };

  int64_t unknown_ = -1;
  std::unordered_set<int64_t> special_;
};

}  // namespace

Vocabulary::Vocabulary(const JsonReader& json) {
  const auto members = json.integer_members();
  const auto count = static_cast<int64_t>(members.size());
  ids_.reserve(members.size());
  for (const auto& [token, id] : members) {
    if (id < 0 || id > 2 * count + kMaxHoles)
      json.fail("token \"" + token + "\" has the id " + std::to_string(id) + ", which cannot be: " +
                std::to_string(count) + " tokens");
    add(token, id);
  }
}

void Vocabulary::add(const std::string& token, int64_t id) {
  ids_[token] = id;
  if (id >= size()) {
    tokens_.resize(static_cast<size_t>(id) + 1);
    present_.resize(static_cast<size_t>(id) + 1);
  }
  tokens_[static_cast<size_t>(id)] = token;
  present_[static_cast<size_t>(id)] = true;
}

const std::string& Vocabulary::token(int64_t id) const {
  static const std::string none;
  return id >= 0 && id < size() ? tokens_[static_cast<size_t>(id)] : none;
}

std::unique_ptr<TokenModel> make_token_model(const JsonReader& json,
                                             const std::unordered_set<std::string>& special_tokens) {
  // Files of old versions have no type: only BPE has merges.
  const auto named = json.find("type");
  const std::string type = named ? named->string() : json.find("merges") ? "BPE" : "WordPiece";
  if (type == "BPE") return make_bpe(json, special_tokens);
  if (type == "WordPiece") return std::make_unique<WordPiece>(json, special_tokens);
  if (type == "WordLevel") return std::make_unique<WordLevel>(json, special_tokens);
  if (type == "Unigram") return make_unigram(json, special_tokens);
  json.at("type").fail("model \"" + type + "\" is not supported");
}

}  // namespace meed
