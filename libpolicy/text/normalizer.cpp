#include "libpolicy/text/normalizer.h"

#include <vector>

#include "libpolicy/text/byte_level.h"
#include "libpolicy/text/json_reader.h"
#include "libpolicy/text/text_pattern.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

constexpr int kMaxDepth = 16;

bool is_ascii(std::string_view text) {
  for (const char c : text)
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  return true;
}

class UnicodeForm final : public Normalizer {
 public:
  explicit UnicodeForm(unicode::Form form) : form_(form) {}
  void apply(std::string& text) const override {
    if (unicode::surely_normal(text, form_)) return;
    text = unicode::encode(unicode::normalize(unicode::decode(text), form_));
  }

 private:
  unicode::Form form_;
};

class Lowercase final : public Normalizer {
 public:
  void apply(std::string& text) const override {
    std::u32string out;
    for (const char32_t c : unicode::decode(text)) unicode::append_lower(out, c);
    text = unicode::encode(out);
  }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(std::string& text) const override {
    const std::u32string all = unicode::decode(text);
    size_t begin = 0, end = all.size();
    while (left_ && begin < end && unicode::is_space(all[begin])) ++begin;
    while (right_ && end > begin && unicode::is_space(all[end - 1])) --end;
    text = unicode::encode(std::u32string_view(all).substr(begin, end - begin));
  }

 private:
  bool left_, right_;
};

/// Removes the characters of a set.
class Remove final : public Normalizer {
 public:
  explicit Remove(unicode::Set set) : set_(set) {}
  void apply(std::string& text) const override {
    if (is_ascii(text)) return;
    std::string out;
    for (const char32_t c : unicode::decode(text))
      if (!unicode::contains(set_, c)) unicode::append(out, c);
    text = std::move(out);
  }

 private:
  unicode::Set set_;
};

class Replace final : public Normalizer {
 public:
  explicit Replace(const JsonReader& json)
      : pattern_(json.at("pattern")), content_(json.at("content").string()) {}
  void apply(std::string& text) const override { pattern_.replace_all(text, content_); }

 private:
  TextPattern pattern_;
  std::string content_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(std::string& text) const override {
    if (!text.empty()) text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class BytesToCharacters final : public Normalizer {
 public:
  void apply(std::string& text) const override { text = byte_level::from_bytes(text); }
};

class Bert final : public Normalizer {
 public:
  explicit Bert(const JsonReader& json)
      : clean_text_(json.boolean("clean_text", true)),
        chinese_(json.boolean("handle_chinese_chars", true)),
        lowercase_(json.boolean("lowercase", true)),
        strip_accents_(json.boolean("strip_accents", lowercase_)) {}

  void apply(std::string& text) const override {
    std::u32string out;
    for (const char32_t c : unicode::decode(text)) {
      if (clean_text_ && unicode::contains(unicode::Set::kBertRemoved, c)) continue;
      if (clean_text_ && unicode::is_space(c)) {
        out += U' ';
      } else if (chinese_ && unicode::is_chinese(c)) {
        out += {U' ', c, U' '};
      } else {
        out += c;
      }
    }
    if (strip_accents_) {
      std::u32string kept;
      for (const char32_t c : unicode::normalize(out, unicode::Form::kNfd))
        if (!unicode::contains(unicode::Set::kBertAccent, c)) kept += c;
      out = std::move(kept);
    }
    if (lowercase_) {
      std::u32string lower;
      for (const char32_t c : out) unicode::append_lower(lower, c);
      out = std::move(lower);
    }
    text = unicode::encode(out);
  }

 private:
  bool clean_text_, chinese_, lowercase_, strip_accents_;
};

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> steps) : steps_(std::move(steps)) {}
  void apply(std::string& text) const override {
    for (const auto& step : steps_) step->apply(text);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const JsonReader& json, int depth) {
  if (depth > kMaxDepth) json.fail("nested too deeply");
  const std::string type = json.at("type").string();
  if (type == "NFC") return std::make_unique<UnicodeForm>(unicode::Form::kNfc);
  if (type == "NFD") return std::make_unique<UnicodeForm>(unicode::Form::kNfd);
  if (type == "NFKC") return std::make_unique<UnicodeForm>(unicode::Form::kNfkc);
  if (type == "NFKD") return std::make_unique<UnicodeForm>(unicode::Form::kNfkd);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "Strip")
    return std::make_unique<Strip>(json.boolean("strip_left", true), json.boolean("strip_right", true));
  if (type == "StripAccents") return std::make_unique<Remove>(unicode::Set::kAccent);
  if (type == "Replace") return std::make_unique<Replace>(json);
  if (type == "Prepend") return std::make_unique<Prepend>(json.at("prepend").string());
  if (type == "ByteLevel") return std::make_unique<BytesToCharacters>();
  if (type == "BertNormalizer") return std::make_unique<Bert>(json);
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> steps;
    for (const auto& step : json.at("normalizers").items())
      steps.push_back(make_normalizer(step, depth + 1));
    return std::make_unique<Sequence>(std::move(steps));
  }
  json.at("type").fail("normalizer \"" + type + "\" is not supported");
}

}  // namespace meed
