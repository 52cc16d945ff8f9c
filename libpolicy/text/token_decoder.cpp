#include "libpolicy/text/token_decoder.h"

#include <optional>

#include "libpolicy/text/byte_level.h"
#include "libpolicy/text/json_reader.h"
#include "libpolicy/text/text_pattern.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

constexpr int kMaxDepth = 16;

std::string join(const std::vector<std::string>& tokens) {
  std::string text;
  for (const auto& token : tokens) text += token;
  return text;
}

class ByteLevel final : public TokenDecoder {
 public:
  void decode(std::vector<std::string>& tokens) const override {
    std::string bytes;
    for (const auto& token : tokens) bytes += token_bytes(token, false);
    tokens = {unicode::replace_invalid(bytes)};
  }
  std::string token_bytes(const std::string& token, bool) const override {
    return byte_level::to_bytes(token).value_or(token);
  }
};

class WordPiece final : public TokenDecoder {
 public:
  explicit WordPiece(const JsonReader& json)
      : prefix_(json.string("prefix", "##")), cleanup_(json.boolean("cleanup", true)) {}
  void decode(std::vector<std::string>& tokens) const override {
    bool first = true;
    for (auto& token : tokens) {
      token = token_bytes(token, first);
      first = false;
    }
  }
  std::string token_bytes(const std::string& token, bool first) const override {
    std::string text = token;
    if (!first) text = token.starts_with(prefix_) ? token.substr(prefix_.size()) : " " + token;
    if (cleanup_) clean_up(text);
    return text;
  }

 private:
  static void clean_up(std::string& text) {
    if (text.find(' ') == std::string::npos) return;
    constexpr std::pair<const char*, const char*> kRules[] = {
        {" .", "."},     {" ?", "?"},     {" !", "!"},           {" ,", ","},
        {" ' ", "'"},    {" n't", "n't"}, {" 'm", "'m"},         {" do not", " don't"},
        {" 's", "'s"},   {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : kRules) TextPattern(std::string(from)).replace_all(text, to);
  }
  std::string prefix_;
  bool cleanup_;
};

class Metaspace final : public TokenDecoder {
 public:
  explicit Metaspace(const JsonReader& json) : replacement_(json.string("replacement", "\u2581")) {
    const bool prefix = json.boolean("add_prefix_space", true);
    drops_first_ = json.string("prepend_scheme", prefix ? "always" : "never") != "never";
  }
  void decode(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = token_bytes(tokens[i], i == 0);
  }
  std::string token_bytes(const std::string& token, bool first) const override {
    std::string text = token;
    TextPattern(replacement_).replace_all(text, first && drops_first_ ? "" : " ");
    return text;
  }

 private:
  std::string replacement_;
  bool drops_first_;
};

class Replace final : public TokenDecoder {
 public:
  explicit Replace(const JsonReader& json)
      : pattern_(json.at("pattern")), content_(json.at("content").string()) {}
  void decode(std::vector<std::string>& tokens) const override {
    for (auto& token : tokens) pattern_.replace_all(token, content_);
  }
  std::string token_bytes(const std::string& token, bool) const override {
    std::string text = token;
    pattern_.replace_all(text, content_);
    return text;
  }

 private:
  TextPattern pattern_;
  std::string content_;
};

/// The byte of "<0x0A>"-like tokens.
std::optional<char> fallback_byte(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  if (!std::isxdigit(static_cast<unsigned char>(token[3])) ||
      !std::isxdigit(static_cast<unsigned char>(token[4])))
    return std::nullopt;
  return static_cast<char>(std::stoi(token.substr(3, 2), nullptr, 16));
}

class ByteFallback final : public TokenDecoder {
 public:
  void decode(std::vector<std::string>& tokens) const override {
    std::vector<std::string> out;
    std::string bytes;
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (unicode::valid_prefix(bytes) == bytes.size()) {
        out.push_back(bytes);
      } else {  // a run with any wrong byte is lost as a whole, as in tokenizers
        for (size_t i = 0; i < bytes.size(); ++i) out.emplace_back("\uFFFD");
      }
      bytes.clear();
    };
    for (auto& token : tokens) {
      if (const auto byte = fallback_byte(token)) {
        bytes += *byte;
        continue;
      }
      flush();
      out.push_back(std::move(token));
    }
    flush();
    tokens = std::move(out);
  }
  std::string token_bytes(const std::string& token, bool) const override {
    const auto byte = fallback_byte(token);
    return byte ? std::string(1, *byte) : token;
  }
};

class Fuse final : public TokenDecoder {
 public:
  void decode(std::vector<std::string>& tokens) const override { tokens = {join(tokens)}; }
  std::string token_bytes(const std::string& token, bool) const override { return token; }
};

class Strip final : public TokenDecoder {
 public:
  explicit Strip(const JsonReader& json)
      : content_(json.at("content").string()),
        start_(json.at("start").integer()),
        stop_(json.at("stop").integer()) {
    if (content_.empty()) json.at("content").fail("must not be empty");
  }
  void decode(std::vector<std::string>& tokens) const override {
    for (auto& token : tokens) {
      token = strip_start(token);
      for (int64_t i = 0; i < stop_ && token.ends_with(content_); ++i)
        token.resize(token.size() - content_.size());
    }
  }
  std::string token_bytes(const std::string& token, bool first) const override {
    return first ? strip_start(token) : token;
  }

 private:
  std::string strip_start(std::string token) const {
    for (int64_t i = 0; i < start_ && token.starts_with(content_); ++i) token.erase(0, content_.size());
    return token;
  }
  std::string content_;
  int64_t start_, stop_;
};

/// The old "BPEDecoder": a suffix marks the end of a word.
class WordSuffix final : public TokenDecoder {
 public:
  explicit WordSuffix(const JsonReader& json) : suffix_(json.string("suffix", "</w>")) {}
  void decode(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i)
      TextPattern(suffix_).replace_all(tokens[i], i + 1 == tokens.size() ? "" : " ");
  }
  std::string token_bytes(const std::string& token, bool) const override {
    std::string text = token;
    TextPattern(suffix_).replace_all(text, " ");
    return text;
  }

 private:
  std::string suffix_;
};

class Sequence final : public TokenDecoder {
 public:
  explicit Sequence(std::vector<std::unique_ptr<TokenDecoder>> steps) : steps_(std::move(steps)) {}
  void decode(std::vector<std::string>& tokens) const override {
    for (const auto& step : steps_) step->decode(tokens);
  }
  std::string token_bytes(const std::string& token, bool first) const override {
    std::string bytes = token;
    for (const auto& step : steps_) bytes = step->token_bytes(bytes, first);
    return bytes;
  }

 private:
  std::vector<std::unique_ptr<TokenDecoder>> steps_;
};

}  // namespace

std::unique_ptr<TokenDecoder> make_token_decoder(const JsonReader& json, int depth) {
  if (depth > kMaxDepth) json.fail("nested too deeply");
  const std::string type = json.at("type").string();
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "WordPiece") return std::make_unique<WordPiece>(json);
  if (type == "Metaspace") return std::make_unique<Metaspace>(json);
  if (type == "Replace") return std::make_unique<Replace>(json);
  if (type == "ByteFallback") return std::make_unique<ByteFallback>();
  if (type == "Fuse") return std::make_unique<Fuse>();
  if (type == "Strip") return std::make_unique<Strip>(json);
  if (type == "BPEDecoder") return std::make_unique<WordSuffix>(json);
  if (type == "Sequence") {
    std::vector<std::unique_ptr<TokenDecoder>> steps;
    for (const auto& step : json.at("decoders").items())
      steps.push_back(make_token_decoder(step, depth + 1));
    return std::make_unique<Sequence>(std::move(steps));
  }
  json.at("type").fail("decoder \"" + type + "\" is not supported");
}

}  // namespace meed
