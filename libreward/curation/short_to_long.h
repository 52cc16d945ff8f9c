#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace meed {

class RandomStream;

/// A context of critical chunks among others.
struct PaddedContext {
  std::string text;
  std::vector<int64_t> places;  ///< of each critical chunk, in chunks from the start
  int64_t num_sentences = 0;
};

/// The critical chunks in their order at random places among `discarded` ones, which are taken in
/// order until the whole has `num_words` words (or there are no more); one space between chunks.
PaddedContext pad_context(std::span<const std::string> critical,
                          std::span<const std::string> discarded, int64_t num_words,
                          RandomStream& random);

}  // namespace meed
