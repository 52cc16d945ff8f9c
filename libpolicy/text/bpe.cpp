#include <algorithm>
#include <array>
#include <mutex>
#include <queue>

#include "libpolicy/text/byte_level.h"
#include "libpolicy/text/json_reader.h"
#include "libpolicy/text/token_model.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;

/// (left id, right id) -> rank and merged id, in one flat open-addressing table.
class MergeTable {
 public:
  struct Merge {
    uint64_t pair = kFree;
    uint32_t rank = kNoRank;
    int32_t id = -1;
  };

  void reserve(size_t count) {
    size_t size = 16;
    while (size < count * 2) size *= 2;
    slots_.assign(size, {});
  }
  void insert(int64_t left, int64_t right, uint32_t rank, int64_t id) {
    Merge& slot = slots_[find_slot(key(left, right))];
    slot = {key(left, right), rank, static_cast<int32_t>(id)};
  }
  const Merge& find(int64_t left, int64_t right) const { return slots_[find_slot(key(left, right))]; }

 private:
  static constexpr uint64_t kFree = UINT64_MAX;
  static uint64_t key(int64_t left, int64_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
  }
  size_t find_slot(uint64_t pair) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = (pair * 0x9E3779B97F4A7C15ULL >> 32) & mask;
    while (slots_[slot].pair != pair && slots_[slot].pair != kFree) slot = (slot + 1) & mask;
    return slot;
  }
  std::vector<Merge> slots_;
};

/// Words met before and their tokens. Cleared when full.
class WordCache {
 public:
  static constexpr size_t kMaxWord = 128;
  const std::vector<int32_t>* find(std::string_view word) const {
    const auto found = words_.find(word);
    return found == words_.end() ? nullptr : &found->second;
  }
  void insert(std::string_view word, const std::vector<int64_t>& ids, size_t from) {
    if (word.size() > kMaxWord) return;
    if (words_.size() >= kMaxEntries) words_.clear();
    words_.emplace(word, std::vector<int32_t>(ids.begin() + static_cast<ptrdiff_t>(from), ids.end()));
  }

 private:
  static constexpr size_t kMaxEntries = 1 << 16;
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> words_;
};

class Bpe final : public TokenModel {
 public:
  Bpe(const JsonReader& json, const std::unordered_set<std::string>& special_tokens)
      : prefix_(json.string("continuing_subword_prefix", "")),
        suffix_(json.string("end_of_word_suffix", "")),
        fuse_unknown_(json.boolean("fuse_unk", false)),
        byte_fallback_(json.boolean("byte_fallback", false)),
        ignore_merges_(json.boolean("ignore_merges", false)) {
    vocabulary_ = Vocabulary(json.at("vocab"));
    for (const auto& token : special_tokens) special_.insert(vocabulary_.id(token));
    if (const auto unknown = json.find("unk_token")) {
      unknown_ = vocabulary_.id(unknown->string());
      if (unknown_ < 0) unknown->fail("\"" + unknown->string() + "\" is not in the vocabulary");
    }
    read_merges(json.at("merges"));
    for (int byte = 0; byte < 256; ++byte) {
      byte_ids_[static_cast<size_t>(byte)] = vocabulary_.id(byte_level::character(static_cast<uint8_t>(byte)));
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
      fallback_ids_[static_cast<size_t>(byte)] = vocabulary_.id(name);
    }
    all_bytes_ = prefix_.empty() && suffix_.empty() &&
                 std::all_of(byte_ids_.begin(), byte_ids_.end(), [](int64_t id) { return id >= 0; });
  }

  bool is_bpe() const override { return true; }

  std::unique_ptr<Session> session() const override {
    auto call = std::make_unique<Call>(*this);
    const std::lock_guard lock(mutex_);
    if (idle_caches_.empty()) {
      call->cache = std::make_unique<WordCache>();
    } else {
      call->cache = std::move(idle_caches_.back());
      idle_caches_.pop_back();
    }
    return call;
  }

 private:
  struct Symbol {
    int64_t id;
    int previous, next;  ///< -1: none
  };

  struct Call final : Session {
    explicit Call(const Bpe& model) : model_(model) {}
    ~Call() override {
      const std::lock_guard lock(model_.mutex_);
      model_.idle_caches_.push_back(std::move(cache));
    }
    void encode(std::string_view word, bool bytes, std::vector<int64_t>& ids) override {
      if (const auto* known = cache->find(word)) {
        ids.insert(ids.end(), known->begin(), known->end());
        return;
      }
      const size_t before = ids.size();
      model_.encode_word(word, bytes, ids);
      cache->insert(word, ids, before);
    }
    const Bpe& model_;
    std::unique_ptr<WordCache> cache;
  };

  void read_merges(const JsonReader& json) {
    const auto pairs = json.string_pairs();
    merges_.reserve(pairs.size());
    for (size_t rank = 0; rank < pairs.size(); ++rank) {
      const auto& [left, right] = pairs[rank];
      const auto known = [&](const std::string& token) {
        const int64_t id = vocabulary_.id(token);
        if (id < 0)
          json.fail("[" + std::to_string(rank) + "]: the token \"" + token + "\" is not in the vocabulary");
        return id;
      };
      const bool has_prefix = !prefix_.empty() && right.starts_with(prefix_);
      const int64_t left_id = known(left), right_id = known(right);
      const int64_t id = known(left + (has_prefix ? right.substr(prefix_.size()) : right));
      // Text must not grow into a special token; only the added tokens' own rules make one.
      if (!special_.contains(id)) merges_.insert(left_id, right_id, static_cast<uint32_t>(rank), id);
    }
  }

  void encode_word(std::string_view word, bool bytes, std::vector<int64_t>& ids) const {
    if (bytes && !ignore_merges_ && all_bytes_) {
      std::vector<Symbol> symbols;
      symbols.reserve(word.size());
      for (const char c : word) push(symbols, byte_ids_[static_cast<uint8_t>(c)]);
      return merge(symbols, ids);
    }
    const std::string text = bytes ? byte_level::from_bytes(word) : std::string(word);
    if (ignore_merges_) {
      const int64_t id = vocabulary_.id(text);
      if (id >= 0 && !special_.contains(id)) {
        ids.push_back(id);
        return;
      }
    }
    std::vector<Symbol> symbols = characters(text);
    merge(symbols, ids);
  }

  static void push(std::vector<Symbol>& symbols, int64_t id) {
    const int index = static_cast<int>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({id, index - 1, -1});
  }

  /// One symbol a character, unknown ones by bytes or as the unknown token, in the order that
  /// tokenizers has (an unknown run is written when the next known character comes).
  std::vector<Symbol> characters(const std::string& text) const {
    std::vector<Symbol> symbols;
    bool unknown_waits = false;
    for (size_t at = 0; at < text.size();) {
      const size_t length = std::min(unicode::character_length(text[at]), text.size() - at);
      std::string piece = text.substr(at, length);
      if (at > 0 && !prefix_.empty()) piece = prefix_ + piece;
      at += length;
      if (at == text.size() && !suffix_.empty()) piece += suffix_;
      if (const int64_t id = vocabulary_.id(piece); id >= 0) {
        if (unknown_waits) push(symbols, unknown_);
        unknown_waits = false;
        push(symbols, id);
      } else if (byte_fallback_ && falls_back(piece)) {
        for (const char c : piece) push(symbols, fallback_ids_[static_cast<uint8_t>(c)]);
      } else if (unknown_ >= 0) {
        if (unknown_waits && !fuse_unknown_) push(symbols, unknown_);
        unknown_waits = true;
      }
    }
    if (unknown_waits) push(symbols, unknown_);
    return symbols;
  }

  bool falls_back(const std::string& piece) const {
    return std::all_of(piece.begin(), piece.end(),
                       [&](char c) { return fallback_ids_[static_cast<uint8_t>(c)] >= 0; });
  }

  /// Applies the merge of lowest rank, leftmost first, until none is left.
  void merge(std::vector<Symbol>& symbols, std::vector<int64_t>& ids) const {
    constexpr size_t kShort = 24;
    if (symbols.size() <= kShort)
      merge_short(symbols);
    else
      merge_long(symbols);
    for (int at = symbols.empty() ? -1 : 0; at >= 0; at = symbols[static_cast<size_t>(at)].next)
      ids.push_back(symbols[static_cast<size_t>(at)].id);
  }

  /// By looking at all pairs each time; closes the gaps, so links are rebuilt at the end.
  void merge_short(std::vector<Symbol>& symbols) const {
    std::array<uint32_t, 32> ranks;
    std::array<int32_t, 32> merged;
    size_t count = symbols.size();
    const auto look = [&](size_t i) {
      const auto& found = merges_.find(symbols[i].id, symbols[i + 1].id);
      ranks[i] = found.rank;
      merged[i] = found.id;
    };
    for (size_t i = 0; i + 1 < count; ++i) look(i);
    while (count > 1) {
      const auto best = std::min_element(ranks.begin(), ranks.begin() + static_cast<ptrdiff_t>(count - 1));
      if (*best == kNoRank) break;
      const auto i = static_cast<size_t>(best - ranks.begin());
      symbols[i].id = merged[i];
      for (size_t j = i + 1; j + 1 < count; ++j) symbols[j].id = symbols[j + 1].id;
      for (size_t j = i + 1; j + 2 < count; ++j) {
        ranks[j] = ranks[j + 1];
        merged[j] = merged[j + 1];
      }
      --count;
      if (i > 0) look(i - 1);
      if (i + 1 < count) look(i);
    }
    symbols.resize(count);
    if (count > 0) symbols.back().next = -1;
  }

  void merge_long(std::vector<Symbol>& symbols) const {
    struct Candidate {
      uint32_t rank;
      int left;
      int64_t left_id, right_id;
      int32_t id;
      bool operator>(const Candidate& other) const {
        return rank != other.rank ? rank > other.rank : left > other.left;
      }
    };
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto offer = [&](int left) {
      if (left < 0 || symbols[static_cast<size_t>(left)].next < 0) return;
      const Symbol& a = symbols[static_cast<size_t>(left)];
      const Symbol& b = symbols[static_cast<size_t>(a.next)];
      const auto& found = merges_.find(a.id, b.id);
      if (found.rank != kNoRank) queue.push({found.rank, left, a.id, b.id, found.id});
    };
    for (int i = 0; i + 1 < static_cast<int>(symbols.size()); ++i) offer(i);
    while (!queue.empty()) {
      const Candidate best = queue.top();
      queue.pop();
      Symbol& a = symbols[static_cast<size_t>(best.left)];
      if (a.id != best.left_id || a.next < 0) continue;  // merged away since
      Symbol& b = symbols[static_cast<size_t>(a.next)];
      if (b.id != best.right_id) continue;
      a.id = best.id;
      a.next = b.next;
      if (b.next >= 0) symbols[static_cast<size_t>(b.next)].previous = best.left;
      b.id = -1;
      b.next = -1;
      offer(a.previous);
      offer(best.left);
    }
  }

  std::string prefix_, suffix_;
  bool fuse_unknown_, byte_fallback_, ignore_merges_, all_bytes_ = false;
  int64_t unknown_ = -1;
  std::unordered_set<int64_t> special_;
  std::array<int64_t, 256> byte_ids_{}, fallback_ids_{};
  MergeTable merges_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<WordCache>> idle_caches_;
};

}  // namespace

std::unique_ptr<TokenModel> make_bpe(const JsonReader& json,
                                     const std::unordered_set<std::string>& special_tokens) {
  return std::make_unique<Bpe>(json, special_tokens);
}

}  // namespace meed
