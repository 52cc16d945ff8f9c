#include "libpolicy/text/pre_tokenizer.h"

#include <functional>

#include "libpolicy/text/byte_level.h"
#include "libpolicy/text/json_reader.h"
#include "libpolicy/text/text_pattern.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

using Segment = PreTokenizer::Segment;
using Match = Regex::Match;

constexpr int kMaxDepth = 16;
constexpr const char* kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior parse_behavior(const JsonReader& json) {
  const std::string name = json.string();
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  json.fail("unknown behavior \"" + name + "\"");
}

/// Matches and what lies between them, in order.
struct Span {
  size_t begin, end;
  bool match;
};

std::vector<Span> cover(size_t size, const std::vector<Match>& matches, bool invert) {
  std::vector<Span> spans;
  spans.reserve(matches.size() * 2 + 1);
  size_t end = 0;
  for (const Match& match : matches) {
    if (match.begin > end) spans.push_back({end, match.begin, invert});
    spans.push_back({match.begin, match.end, !invert});
    end = match.end;
  }
  if (end < size) spans.push_back({end, size, invert});
  return spans;
}

/// Joins spans as the behavior says; what remains with `match` set under kRemoved is dropped.
std::vector<Span> join(const std::vector<Span>& spans, Behavior behavior) {
  std::vector<Span> joined;
  bool previous = false;  // of the span before
  switch (behavior) {
    case Behavior::kRemoved:
      for (const Span& span : spans)
        if (!span.match) joined.push_back(span);
      return joined;
    case Behavior::kIsolated: return spans;
    case Behavior::kContiguous:
      for (const Span& span : spans) {
        if (!joined.empty() && span.match == previous)
          joined.back().end = span.end;
        else
          joined.push_back(span);
        previous = span.match;
      }
      return joined;
    case Behavior::kMergedWithPrevious:
      for (const Span& span : spans) {
        if (span.match && !previous && !joined.empty())
          joined.back().end = span.end;
        else
          joined.push_back(span);
        previous = span.match;
      }
      return joined;
    case Behavior::kMergedWithNext:
      for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
        if (span->match && !previous && !joined.empty())
          joined.back().begin = span->begin;
        else
          joined.push_back(*span);
        previous = span->match;
      }
      return {joined.rbegin(), joined.rend()};
  }
  return joined;
}

void split_segment(const Segment& segment, const std::vector<Match>& matches, bool invert,
                   Behavior behavior, std::vector<Segment>& out) {
  for (const Span& span : join(cover(segment.text.size(), matches, invert), behavior))
    if (span.end > span.begin)
      out.push_back({segment.text.substr(span.begin, span.end - span.begin),
                     segment.at_start && span.begin == 0});
}

class Split final : public PreTokenizer {
 public:
  Split(TextPattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void apply(Work& work) const override {
    std::vector<Segment> out;
    for (const auto& segment : work.segments)
      split_segment(segment, pattern_.find_all(segment.text), invert_, behavior_, out);
    work.segments = std::move(out);
  }

 private:
  TextPattern pattern_;
  Behavior behavior_;
  bool invert_;
};

/// Splits at single characters for which `test` holds.
class SplitCharacters final : public PreTokenizer {
 public:
  using Test = std::function<bool(char32_t)>;
  SplitCharacters(Test test, Behavior behavior) : test_(std::move(test)), behavior_(behavior) {}
  void apply(Work& work) const override {
    std::vector<Segment> out;
    std::vector<Match> matches;
    for (const auto& segment : work.segments) {
      matches.clear();
      for (size_t at = 0; at < segment.text.size();) {
        const size_t begin = at;
        if (test_(unicode::next(segment.text, at))) matches.push_back({begin, at});
      }
      if (matches.empty())
        out.push_back(segment);
      else
        split_segment(segment, matches, /*invert=*/false, behavior_, out);
    }
    work.segments = std::move(out);
  }

 private:
  Test test_;
  Behavior behavior_;
};

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(const JsonReader& json, bool last)
      : add_prefix_space_(json.boolean("add_prefix_space", true)),
        use_regex_(json.boolean("use_regex", true)),
        last_(last),
        words_(kGpt2Words) {}

  bool leaves_bytes() const override { return last_; }

  void apply(Work& work) const override {
    std::vector<Segment> out;
    for (auto segment : work.segments) {
      if (add_prefix_space_ && !segment.text.starts_with(' '))
        segment.text = work.rewritten.emplace_back(" " + std::string(segment.text));
      if (use_regex_)
        split_segment(segment, words_.find_all(segment.text), false, Behavior::kIsolated, out);
      else
        out.push_back(segment);
    }
    if (!last_)
      for (auto& segment : out)
        segment.text = work.rewritten.emplace_back(byte_level::from_bytes(segment.text));
    work.segments = std::move(out);
  }

 private:
  bool add_prefix_space_, use_regex_, last_;
  Regex words_;
};

class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(const JsonReader& json)
      : replacement_(json.string("replacement", "\u2581")), split_(json.boolean("split", true)) {
    // Older files say add_prefix_space instead of prepend_scheme.
    const bool prefix = json.boolean("add_prefix_space", true);
    const std::string scheme = json.string("prepend_scheme", prefix ? "always" : "never");
    if (scheme != "always" && scheme != "first" && scheme != "never")
      json.at("prepend_scheme").fail("expected \"always\", \"first\" or \"never\"");
    always_ = scheme == "always";
    first_ = scheme == "first";
  }

  void apply(Work& work) const override {
    const TextPattern space(" "), mark(replacement_);
    std::vector<Segment> out;
    for (auto segment : work.segments) {
      std::string text(segment.text);
      space.replace_all(text, replacement_);
      if ((always_ || (first_ && segment.at_start)) && !text.starts_with(replacement_))
        text.insert(0, replacement_);
      segment.text = work.rewritten.emplace_back(std::move(text));
      if (split_)
        split_segment(segment, mark.find_all(segment.text), false, Behavior::kMergedWithNext, out);
      else
        out.push_back(segment);
    }
    work.segments = std::move(out);
  }

 private:
  std::string replacement_;
  bool split_, always_, first_;
};

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> steps) : steps_(std::move(steps)) {}
  bool leaves_bytes() const override { return !steps_.empty() && steps_.back()->leaves_bytes(); }
  void apply(Work& work) const override {
    for (const auto& step : steps_) step->apply(work);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

bool is_punctuation(char32_t c) { return unicode::contains(unicode::Set::kBertPunctuation, c); }

class BertWords final : public PreTokenizer {
 public:
  void apply(Work& work) const override {
    spaces_.apply(work);
    punctuation_.apply(work);
  }

 private:
  SplitCharacters spaces_{unicode::is_space, Behavior::kRemoved};
  SplitCharacters punctuation_{is_punctuation, Behavior::kIsolated};
};

std::unique_ptr<PreTokenizer> make_sequence(const JsonReader& json, bool last, int depth) {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  const auto items = json.at("pretokenizers").items();
  for (size_t i = 0; i < items.size(); ++i)
    steps.push_back(make_pre_tokenizer(items[i], last && i + 1 == items.size(), depth + 1));
  return std::make_unique<Sequence>(std::move(steps));
}

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonReader& json, bool last, int depth) {
  if (depth > kMaxDepth) json.fail("nested too deeply");
  const std::string type = json.at("type").string();
  if (type == "ByteLevel") return std::make_unique<ByteLevel>(json, last);
  if (type == "Split")
    return std::make_unique<Split>(TextPattern(json.at("pattern")), parse_behavior(json.at("behavior")),
                                   json.boolean("invert", false));
  if (type == "Sequence") return make_sequence(json, last, depth);
  if (type == "Metaspace") return std::make_unique<Metaspace>(json);
  if (type == "BertPreTokenizer") return std::make_unique<BertWords>();
  if (type == "Digits") {
    const auto numeric = [](char32_t c) { return unicode::contains(unicode::Set::kNumeric, c); };
    return std::make_unique<SplitCharacters>(numeric, json.boolean("individual_digits", false)
                                                          ? Behavior::kIsolated
                                                          : Behavior::kContiguous);
  }
  if (type == "Punctuation") {
    const auto behavior = json.find("behavior");
    return std::make_unique<SplitCharacters>(
        is_punctuation, behavior ? parse_behavior(*behavior) : Behavior::kIsolated);
  }
  if (type == "WhitespaceSplit")
    return std::make_unique<SplitCharacters>(unicode::is_space, Behavior::kRemoved);
  if (type == "CharDelimiterSplit") {
    const std::u32string delimiter = unicode::decode(json.at("delimiter").string());
    return std::make_unique<SplitCharacters>(
        [delimiter](char32_t c) { return delimiter.size() == 1 && c == delimiter[0]; },
        Behavior::kRemoved);
  }
  if (type == "Whitespace") {
    // \w+|[^\w\s]+ with Rust's \w (unicode::is_word).
    static const JsonReader words = JsonReader::parse(
        R"({"Regex": "[[\\w&&[^\\p{No}]]\u200C\u200D]+|[^[\\w&&[^\\p{No}]]\u200C\u200D\\s]+"})", "Whitespace");
    return std::make_unique<Split>(TextPattern(words), Behavior::kRemoved, /*invert=*/true);
  }
  json.at("type").fail("pre-tokenizer \"" + type + "\" is not supported");
}

}  // namespace meed
