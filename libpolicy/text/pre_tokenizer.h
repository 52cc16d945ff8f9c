#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace meed {

class JsonReader;

/// Splits text into the words that the model encodes one by one: the "pre_tokenizer" of a
/// tokenizer.json. Thread-safe.
class PreTokenizer {
 public:
  struct Segment {
    std::string_view text;
    bool at_start = false;  ///< begins where the whole input begins
  };
  /// The segments in work, and texts that a step has rewritten (segments point into them).
  struct Work {
    std::vector<Segment> segments;
    std::deque<std::string> rewritten;
  };
  virtual ~PreTokenizer() = default;
  virtual void apply(Work& work) const = 0;

  /// Whether the words that come out are still raw bytes which the model has to see as GPT-2's
  /// byte characters: the last ByteLevel step leaves that to the model, which has a cache.
  virtual bool leaves_bytes() const { return false; }
};

/// Throws DataError for a type that is not supported. `last`: nothing runs after it.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonReader& json, bool last = true, int depth = 0);

}  // namespace meed
