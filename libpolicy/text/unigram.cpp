#include <algorithm>
#include <cmath>
#include <limits>

#include "libpolicy/text/byte_level.h"
#include "libpolicy/text/json_reader.h"
#include "libpolicy/text/token_model.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

/// What an unknown character costs below the worst token, as in SentencePiece.
constexpr double kUnknownPenalty = 10.0;

/// SentencePiece's unigram model: the segmentation of highest total score (Viterbi).
class Unigram final : public TokenModel {
 public:
  Unigram(const JsonReader& json, const std::unordered_set<std::string>& special_tokens)
      : byte_fallback_(json.boolean("byte_fallback", false)) {
    if (const auto unknown = json.find("unk_id")) unknown_ = unknown->integer();
    for (const auto& item : json.at("vocab").items()) {
      const auto pair = item.items();
      if (pair.size() != 2) item.fail("expected [token, score]");
      const std::string token = pair[0].string();
      vocabulary_.add(token, static_cast<int64_t>(scores_.size()));
      scores_.push_back(pair[1].number());
      longest_ = std::max(longest_, token.size());
      lowest_ = std::min(lowest_, scores_.back());
    }
    if (unknown_ >= vocabulary_.size()) json.fail("unk_id is not in the vocabulary");
    for (const auto& token : special_tokens) special_.insert(vocabulary_.id(token));
  }

  std::unique_ptr<Session> session() const override { return std::make_unique<Call>(*this); }

 private:
  struct Call final : Session {
    explicit Call(const Unigram& model) : model_(model) {}
    void encode(std::string_view word, bool bytes, std::vector<int64_t>& ids) override {
      model_.encode(bytes ? byte_level::from_bytes(word) : std::string(word), ids);
    }
    const Unigram& model_;
  };

  struct Best {
    double score = -std::numeric_limits<double>::infinity();
    size_t begin = 0;
    int64_t id = -1;
  };

  void encode(const std::string& word, std::vector<int64_t>& ids) const {
    std::vector<Best> best(word.size() + 1);
    best[0].score = 0;
    for (size_t begin = 0; begin < word.size();) {
      const size_t character = std::min(unicode::character_length(word[begin]), word.size() - begin);
      bool single = false;
      for (size_t end = begin + character; end <= std::min(word.size(), begin + longest_);) {
        const int64_t id = vocabulary_.id(std::string_view(word).substr(begin, end - begin));
        if (id >= 0 && !special_.contains(id)) {
          improve(best[end], best[begin].score + scores_[static_cast<size_t>(id)], begin, id);
          single = single || end == begin + character;
        }
        if (end == word.size()) break;
        end += std::min(unicode::character_length(word[end]), word.size() - end);
      }
      if (!single)
        improve(best[begin + character], best[begin].score + lowest_ - kUnknownPenalty, begin, unknown_);
      begin += character;
    }
    write(word, best, ids);
  }

  static void improve(Best& best, double score, size_t begin, int64_t id) {
    if (best.score == -std::numeric_limits<double>::infinity() || score > best.score)
      best = {score, begin, id};
  }

  /// Neighbouring unknown characters are one unknown token.
  void write(const std::string& word, const std::vector<Best>& best, std::vector<int64_t>& ids) const {
    struct Piece {
      size_t begin, end;
      int64_t id;
    };
    std::vector<Piece> pieces;
    for (size_t end = word.size(); end > 0; end = best[end].begin) {
      const Piece piece{best[end].begin, end, best[end].id};
      if (piece.id == unknown_ && !pieces.empty() && pieces.back().id == unknown_)
        pieces.back().begin = piece.begin;
      else
        pieces.push_back(piece);
    }
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
      if (piece->id == unknown_ && byte_fallback_ && write_bytes(word.substr(piece->begin, piece->end - piece->begin), ids))
        continue;
      if (piece->id >= 0) ids.push_back(piece->id);
    }
  }

  bool write_bytes(const std::string& text, std::vector<int64_t>& ids) const {
    std::vector<int64_t> bytes;
    for (const char c : text) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(static_cast<uint8_t>(c)));
      bytes.push_back(vocabulary_.id(name));
      if (bytes.back() < 0) return false;
    }
    ids.insert(ids.end(), bytes.begin(), bytes.end());
    return true;
  }

  bool byte_fallback_;
  int64_t unknown_ = -1;
  std::vector<double> scores_;
  double lowest_ = 0;
  size_t longest_ = 1;
  std::unordered_set<int64_t> special_;
};

}  // namespace

std::unique_ptr<TokenModel> make_unigram(const JsonReader& json,
                                         const std::unordered_set<std::string>& special_tokens) {
  return std::make_unique<Unigram>(json, special_tokens);
}

}  // namespace meed
