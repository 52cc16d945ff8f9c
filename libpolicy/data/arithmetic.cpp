#include <algorithm>
#include <array>
#include <unordered_set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libpolicy/data/dataset.h"

namespace meed {
namespace {

/// A problem with its worked solution.
struct Problem {
  std::string question, solution;
  int64_t answer = 0;
};

const std::array kNames = {"Anna", "Ben",   "Carla", "David", "Emma", "Felix", "Grace", "Hugo",
                           "Ines", "Jonas", "Karin", "Leo",   "Mara", "Nils",  "Olga",  "Paul"};
const std::array kThings = {"apples", "books",   "coins", "cards",   "pens",  "stamps",
                            "shells", "marbles", "eggs",  "tickets", "cakes", "stones"};

template <size_t N>
const char* pick(const std::array<const char*, N>& words, RandomStream& random) {
  return words[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(N) - 1))];
}

std::string text(int64_t value) { return std::to_string(value); }

/// Largest operand by grade: 1 one digit, 2 up to 20, 3 two digits, 4 three digits.
int64_t largest(int64_t difficulty) {
  return std::array<int64_t, 4>{9, 20, 99, 999}[static_cast<size_t>(difficulty - 1)];
}

Problem addition(RandomStream& random, int64_t difficulty) {
  const int64_t a = random.next_int(2, largest(difficulty)),
                b = random.next_int(2, largest(difficulty));
  const std::string name = pick(kNames, random), things = pick(kThings, random);
  const std::array<std::string, 3> questions = {
      name + " has " + text(a) + " " + things + " and gets " + text(b) + " more. How many " +
          things + " does " + name + " have?",
      "A box holds " + text(a) + " " + things + ", another holds " + text(b) + ". How many " +
          things + " are there in all?",
      "What is " + text(a) + " + " + text(b) + "?"};
  return {questions[static_cast<size_t>(random.next_int(0, 2))],
          text(a) + " + " + text(b) + " = " + text(a + b), a + b};
}

Problem subtraction(RandomStream& random, int64_t difficulty) {
  const int64_t a = random.next_int(3, largest(difficulty)), b = random.next_int(1, a - 1);
  const std::string name = pick(kNames, random), things = pick(kThings, random);
  const std::array<std::string, 3> questions = {
      name + " has " + text(a) + " " + things + " and gives away " + text(b) + ". How many " +
          things + " are left?",
      "There are " + text(a) + " " + things + " on a table. " + name + " takes " + text(b) +
          " of them. How many remain?",
      "What is " + text(a) + " - " + text(b) + "?"};
  return {questions[static_cast<size_t>(random.next_int(0, 2))],
          text(a) + " - " + text(b) + " = " + text(a - b), a - b};
}

Problem multiplication(RandomStream& random, int64_t difficulty) {
  const int64_t a = random.next_int(2, 9),
                b = random.next_int(
                    2, std::array<int64_t, 4>{9, 12, 20, 99}[static_cast<size_t>(difficulty - 1)]);
  const std::string things = pick(kThings, random);
  const std::array<std::string, 2> questions = {
      text(a) + " bags hold " + text(b) + " " + things + " each. How many " + things + " is that?",
      "What is " + text(a) + " * " + text(b) + "?"};
  return {questions[static_cast<size_t>(random.next_int(0, 1))],
          text(a) + " * " + text(b) + " = " + text(a * b), a * b};
}

Problem comparison(RandomStream& random, int64_t difficulty) {
  const int64_t top = largest(difficulty);
  int64_t a = random.next_int(1, top), b = random.next_int(1, top), c = random.next_int(1, top);
  const bool most = random.next() < 0.5;
  const int64_t answer = most ? std::max({a, b, c}) : std::min({a, b, c});
  return {std::string("Which of the numbers ") + text(a) + ", " + text(b) + " and " + text(c) +
              " is the " + (most ? "largest" : "smallest") + "?",
          std::string("The ") + (most ? "largest" : "smallest") + " is " + text(answer), answer};
}

Problem two_steps(RandomStream& random, int64_t difficulty) {
  const int64_t a = random.next_int(2, largest(difficulty)),
                b = random.next_int(2, largest(difficulty)), c = random.next_int(1, a + b - 1);
  const std::string name = pick(kNames, random), things = pick(kThings, random);
  return {name + " has " + text(a) + " " + things + ", buys " + text(b) + " more and then loses " +
              text(c) + ". How many " + things + " are left?",
          text(a) + " + " + text(b) + " = " + text(a + b) + ", " + text(a + b) + " - " + text(c) +
              " = " + text(a + b - c),
          a + b - c};
}

Problem sequence(RandomStream& random, int64_t difficulty) {
  const int64_t step = random.next_int(1, std::min<int64_t>(largest(difficulty), 12)),
                first = random.next_int(1, largest(difficulty));
  std::string shown;
  for (int64_t i = 0; i < 4; ++i) shown += text(first + i * step) + ", ";
  return {"Which number comes next: " + shown + "...?",
          text(first + 3 * step) + " + " + text(step) + " = " + text(first + 4 * step),
          first + 4 * step};
}

Problem digit_sum(RandomStream& random, int64_t difficulty) {
  const int64_t value = random.next_int(10, std::max<int64_t>(largest(difficulty), 99));
  int64_t sum = 0;
  std::string worked;
  for (const char c : text(value)) {
    sum += c - '0';
    worked += (worked.empty() ? "" : " + ") + std::string(1, c);
  }
  return {"What is the sum of the digits of " + text(value) + "?", worked + " = " + text(sum), sum};
}

using Maker = Problem (*)(RandomStream&, int64_t);
const std::vector<std::pair<std::string, Maker>>& makers() {
  static const std::vector<std::pair<std::string, Maker>> all = {
      {"addition", addition},     {"subtraction", subtraction}, {"multiplication", multiplication},
      {"comparison", comparison}, {"two_steps", two_steps},     {"sequence", sequence},
      {"digit_sum", digit_sum}};
  return all;
}

/// Arithmetic problems in words, made from a seed. A problem belongs to the train or the eval split
/// by a hash of its question, so the two never share one.
class Arithmetic final : public Dataset {
 public:
  struct Config {
    int64_t num_rows = 1000;
    int64_t seed = 0;
    std::vector<std::string> kinds{"addition", "subtraction"};
    int64_t min_difficulty = 1, max_difficulty = 2;
    std::string split = "train";
    double eval_fraction = 0.2;
    std::string system_prompt;
    std::string instruction = "Answer with the number after ####.";
    bool worked_solution = false;
    std::string answer_prefix = "#### ";
    bool conversational = true;
    void fields(FieldVisitor& v) {
      v.field("num_rows", num_rows, "How many problems.");
      v.field("seed", seed, "Decides the problems.");
      v.field("kinds", kinds,
              "addition, subtraction, multiplication, comparison, two_steps, sequence, digit_sum.");
      v.field("min_difficulty", min_difficulty,
              "1: one digit, 2: up to 20, 3: two digits, 4: three digits.");
      v.field("max_difficulty", max_difficulty, "The hardest grade.");
      v.choice("split", split, {"train", "eval"},
               "Problems of one split never stand in the other, whatever the seeds.");
      v.field("eval_fraction", eval_fraction,
              "Share of all problems that belongs to the eval split.");
      v.field("system_prompt", system_prompt, "System message; none if empty.");
      v.field("instruction", instruction, "Follows the question in the prompt.");
      v.field("worked_solution", worked_solution,
              "The completion shows the calculation before the answer.");
      v.field("answer_prefix", answer_prefix, "Stands before the answer in the completion.");
      v.field("conversational", conversational, "Prompt and completion are chat messages.");
      v.require(num_rows > 0, "num_rows", "must be positive");
      v.require(seed >= 0, "seed", "must not be negative");
      v.require(min_difficulty >= 1 && min_difficulty <= 4, "min_difficulty", "must be 1 to 4");
      v.require(max_difficulty >= min_difficulty && max_difficulty <= 4, "max_difficulty",
                "must be min_difficulty to 4");
      v.require(eval_fraction > 0 && eval_fraction < 1, "eval_fraction", "must be in (0, 1)");
      v.require(!kinds.empty(), "kinds", "must name a kind");
      for (const auto& kind : kinds)
        v.require(std::any_of(makers().begin(), makers().end(),
                              [&](const auto& maker) { return maker.first == kind; }),
                  "kinds", "has no kind \"" + kind + "\"");
    }
  };

  explicit Arithmetic(const Config& config) : config_(config) {
    std::vector<Maker> chosen;
    for (const auto& kind : config_.kinds)
      for (const auto& [name, maker] : makers())
        if (name == kind) chosen.push_back(maker);
    RandomStream random(
        mix_seed({static_cast<uint64_t>(config_.seed), config_.split == "train" ? 0u : 1u}));
    std::unordered_set<std::string> seen;
    // Small kinds run out of new problems; then old ones are allowed again.
    for (int64_t misses = 0; static_cast<int64_t>(problems_.size()) < config_.num_rows;) {
      const auto maker =
          chosen[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(chosen.size()) - 1))];
      auto problem = maker(random, random.next_int(config_.min_difficulty, config_.max_difficulty));
      constexpr int64_t kMaxMisses = 100'000;
      if (belongs_to_eval(problem.question) != (config_.split == "eval")) {
        if (++misses > 10 * kMaxMisses + 100 * config_.num_rows)
          throw DataError("arithmetic: these kinds have no problem in the " + config_.split +
                          " split; raise max_difficulty");
        continue;
      }
      if (!seen.insert(problem.question).second && ++misses < kMaxMisses) continue;
      problems_.push_back(std::move(problem));
    }
  }

  int64_t size() const override { return static_cast<int64_t>(problems_.size()); }

  Example get(int64_t index) const override {
    const auto& problem = problems_.at(static_cast<size_t>(index));
    Example example;
    example.row = index;
    const std::string prompt =
        problem.question + (config_.instruction.empty() ? "" : " " + config_.instruction);
    const std::string answer = config_.answer_prefix + text(problem.answer);
    const std::string completion =
        config_.worked_solution ? problem.solution + "\n" + answer : answer;
    if (config_.conversational) {
      example.prompt.conversational = example.completion.conversational = true;
      if (!config_.system_prompt.empty())
        example.prompt.messages.push_back({"system", config_.system_prompt, ""});
      example.prompt.messages.push_back({"user", prompt, ""});
      example.completion.messages.push_back({"assistant", completion, ""});
    } else {
      example.prompt.text = prompt + "\n";
      example.completion.text = completion;
    }
    example.extra["answer"] = text(problem.answer);
    example.extra["question"] = problem.question;
    return example;
  }

 private:
  bool belongs_to_eval(const std::string& question) const {
    uint64_t hash = 0;
    for (const char c : question)
      hash = mix_seed({hash, static_cast<uint64_t>(static_cast<unsigned char>(c))});
    return uniform(hash, 0) < config_.eval_fraction;
  }

  Config config_;
  std::vector<Problem> problems_;
};

MEED_REGISTER(datasets, "arithmetic", Arithmetic,
              "Generated arithmetic word problems with their answers.");

}  // namespace
}  // namespace meed
