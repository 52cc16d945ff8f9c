#include "libpolicy/text/regex.h"

#include <array>
#include <bitset>

#include "libpolicy/core/error.h"
#include "libpolicy/text/regex_program.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

using regex::CharSet;
using regex::Kind;
using regex::kNone;
using regex::Node;

constexpr size_t kFail = std::string_view::npos;
/// Steps that one search may take; real patterns need a few per character.
constexpr int64_t kMaxSteps = 20'000'000;
constexpr int kMaxRecursion = 20'000;

/// What to do when a sequence of nodes has ended.
struct Continuation {
  const Node* repeat;  ///< a repeat to go round again; nullptr: go on with `next`
  int next;
  int count;           ///< rounds of `repeat` done so far
  size_t begin;        ///< where this round of `repeat` began
  const Continuation* outer;
};

class Matcher {
 public:
  Matcher(const regex::Compiled& program, std::string_view text, int64_t& steps)
      : program_(program), text_(text), steps_(steps) {}

  /// End of the match of a chain of nodes from `position`, or kFail.
  size_t run(int index, size_t position, const Continuation* then) {
    if (++depth_ > kMaxRecursion) give_up();
    const size_t end = run_chain(index, position, then);
    --depth_;
    return end;
  }

 private:
  [[noreturn]] void give_up() const {
    throw DataError("regular expression backtracks without end on this text");
  }

  size_t run_chain(int index, size_t position, const Continuation* then) {
    for (;;) {
      if (--steps_ < 0) give_up();
      if (index == kNone) {
        if (then == nullptr) return position;
        if (then->repeat != nullptr) return next_round(*then, position);
        index = then->next;
        then = then->outer;
        continue;
      }
      const Node& node = program_.nodes[static_cast<size_t>(index)];
      switch (node.kind) {
        case Kind::kSet: {
          const bool last = node.next == kNone && then == nullptr;
          if (node.min == node.max || node.possessive || (last && !node.lazy)) {
            position = take(node, position, node.max);
            if (position == kFail) return kFail;
            index = node.next;
            continue;
          }
          return node.lazy ? run_lazy(node, position, then) : run_greedy(node, position, then);
        }
        case Kind::kAlternatives: {
          const Continuation after{nullptr, node.next, 0, 0, then};
          const bool plain = node.next == kNone;
          for (const int branch : node.branches) {
            const size_t end = run(branch, position, plain ? then : &after);
            if (end != kFail) return end;
          }
          return kFail;
        }
        case Kind::kRepeat: {
          if (node.possessive) {
            position = possessive(node, position);
            if (position == kFail) return kFail;
            index = node.next;
            continue;
          }
          return round(node, 0, position, then);
        }
        default:
          if (!holds(node, position)) return kFail;
          index = node.next;
      }
    }
  }

  /// Takes as many characters of the set as there are, up to `max`; kFail below the minimum.
  size_t take(const Node& node, size_t position, int max) {
    const CharSet& set = program_.sets[static_cast<size_t>(node.set)];
    int count = 0;
    while (count < max && position < text_.size()) {
      size_t after = position;
      if (!set.contains(unicode::next(text_, after))) break;
      position = after;
      ++count;
    }
    steps_ -= count;
    return count < node.min ? kFail : position;
  }

  size_t run_greedy(const Node& node, size_t position, const Continuation* then) {
    const CharSet& set = program_.sets[static_cast<size_t>(node.set)];
    const size_t begin = position;
    int count = 0;
    while (count < node.max && position < text_.size()) {
      size_t after = position;
      if (!set.contains(unicode::next(text_, after))) break;
      position = after;
      ++count;
    }
    steps_ -= count;
    for (; count >= node.min; --count) {
      const size_t end = run(node.next, position, then);
      if (end != kFail) return end;
      if (position == begin) break;
      do --position;
      while ((static_cast<unsigned char>(text_[position]) & 0xC0) == 0x80);
    }
    return kFail;
  }

  size_t run_lazy(const Node& node, size_t position, const Continuation* then) {
    const CharSet& set = program_.sets[static_cast<size_t>(node.set)];
    for (int count = 0;; ++count) {
      if (count >= node.min) {
        const size_t end = run(node.next, position, then);
        if (end != kFail) return end;
      }
      if (count == node.max || position >= text_.size()) return kFail;
      if (!set.contains(unicode::next(text_, position))) return kFail;
    }
  }

  size_t round(const Node& node, int count, size_t position, const Continuation* then) {
    const auto again = [&]() -> size_t {
      if (count >= node.max) return kFail;
      const Continuation after{&node, kNone, count + 1, position, then};
      return run(node.branches[0], position, &after);
    };
    if (count < node.min) return again();
    if (node.lazy) {
      const size_t end = run(node.next, position, then);
      return end != kFail ? end : again();
    }
    const size_t end = again();
    return end != kFail ? end : run(node.next, position, then);
  }

  size_t next_round(const Continuation& done, size_t position) {
    if (position == done.begin && done.count > done.repeat->min)  // an empty round: stop here
      return run(done.repeat->next, position, done.outer);
    return round(*done.repeat, done.count, position, done.outer);
  }

  size_t possessive(const Node& node, size_t position) {
    for (int count = 0; count < node.max; ++count) {
      const size_t end = run(node.branches[0], position, nullptr);
      if (end == kFail) return count < node.min ? kFail : position;
      if (end == position) break;
      position = end;
    }
    return position;
  }

  bool word_at(size_t position) const {
    if (position >= text_.size()) return false;
    return unicode::contains(unicode::Set::kWord, unicode::next(text_, position));
  }

  size_t before(size_t position) const {
    do --position;
    while (position > 0 && (static_cast<unsigned char>(text_[position]) & 0xC0) == 0x80);
    return position;
  }

  bool holds(const Node& node, size_t position) {
    switch (node.kind) {
      case Kind::kLook: {
        if (!node.behind)
          return (run(node.branches[0], position, nullptr) != kFail) != node.negated;
        bool found = false;
        if (position > 0) {
          size_t previous = before(position);
          const Node& one = program_.nodes[static_cast<size_t>(node.branches[0])];
          found = program_.sets[static_cast<size_t>(one.set)].contains(
              unicode::next(text_, previous));
        }
        return found != node.negated;
      }
      case Kind::kLineStart: return position == 0 || text_[position - 1] == '\n';
      case Kind::kLineEnd: return position == text_.size() || text_[position] == '\n';
      case Kind::kTextStart: return position == 0;
      case Kind::kTextEnd: return position == text_.size();
      case Kind::kTextEndOrNewline:
        return position == text_.size() ||
               (position + 1 == text_.size() && text_[position] == '\n');
      case Kind::kWordBoundary: {
        const bool left = position > 0 && word_at(before(position));
        return (left != word_at(position)) != node.negated;
      }
      default: return false;
    }
  }

  const regex::Compiled& program_;
  std::string_view text_;
  int64_t& steps_;
  int depth_ = 0;
};

/// Which ASCII bytes a match can start with; a branch that can be empty allows all.
struct FirstBytes {
  std::bitset<129> bytes;  ///< [128]: anything above ASCII
  bool can_be_empty = false;
};

FirstBytes first_bytes(const regex::Compiled& program, int index) {
  FirstBytes result;
  for (; index != kNone; index = program.nodes[static_cast<size_t>(index)].next) {
    const Node& node = program.nodes[static_cast<size_t>(index)];
    bool may_skip = false;
    if (node.kind == Kind::kSet) {
      const CharSet& set = program.sets[static_cast<size_t>(node.set)];
      for (char32_t c = 0; c < 128; ++c)
        if (set.contains(c)) result.bytes.set(c);
      result.bytes.set(128);
      may_skip = node.min == 0;
    } else if (node.kind == Kind::kAlternatives || node.kind == Kind::kRepeat) {
      for (const int branch : node.branches) {
        const FirstBytes inner = first_bytes(program, branch);
        result.bytes |= inner.bytes;
        may_skip = may_skip || inner.can_be_empty;
      }
      may_skip = may_skip || (node.kind == Kind::kRepeat && node.min == 0);
    } else {
      may_skip = true;  // an assertion takes no character
    }
    if (!may_skip) return result;
  }
  result.can_be_empty = true;
  return result;
}

}  // namespace

struct Regex::Program {
  regex::Compiled compiled;
  /// The top-level alternatives that can start with a byte, in order; [128]: any byte above ASCII.
  std::array<std::vector<int>, 129> starts;
};

Regex::Regex(const std::string& pattern) : pattern_(pattern) {
  auto program = std::make_unique<Program>();
  program->compiled = regex::compile(pattern);
  const auto& nodes = program->compiled.nodes;
  const int start = program->compiled.start;
  std::vector<int> branches = {start};
  if (start != kNone && nodes[static_cast<size_t>(start)].kind == Kind::kAlternatives &&
      nodes[static_cast<size_t>(start)].next == kNone)
    branches = nodes[static_cast<size_t>(start)].branches;
  for (const int branch : branches) {
    const FirstBytes first = first_bytes(program->compiled, branch);
    for (size_t byte = 0; byte < program->starts.size(); ++byte)
      if (first.can_be_empty || first.bytes.test(byte)) program->starts[byte].push_back(branch);
  }
  program_ = std::move(program);
}

Regex::~Regex() = default;

std::vector<Regex::Match> Regex::find_all(std::string_view text) const {
  std::vector<Match> matches;
  size_t position = 0;
  while (position <= text.size()) {
    int64_t steps = kMaxSteps;
    Matcher matcher(program_->compiled, text, steps);
    size_t end = kFail;
    if (position == text.size()) {
      if (!matches.empty() && matches.back().end == position) break;
      end = matcher.run(program_->compiled.start, position, nullptr);
    } else {
      const auto byte = static_cast<unsigned char>(text[position]);
      for (const int branch : program_->starts[byte < 128 ? byte : 128]) {
        end = matcher.run(branch, position, nullptr);
        if (end != kFail) break;
      }
    }
    const bool empty = end == position;
    if (end != kFail && !(empty && !matches.empty() && matches.back().end == position))
      matches.push_back({position, end});
    if (end == kFail || empty) {
      if (position == text.size()) break;
      position += unicode::character_length(text[position]);
    } else {
      position = end;
    }
  }
  return matches;
}

}  // namespace meed
