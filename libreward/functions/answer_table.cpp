#include <cmath>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libreward/functions/columns.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// What the row's table says of the answer: a column with a JSON object from answers to numbers.
/// For tasks that plant their rewards.
class AnswerTable final : public PointwiseReward {
 public:
  struct Config {
    std::string table_column = "table";
    std::string answer_tag;
    double missing = 0.0;
    void fields(FieldVisitor& v) {
      v.field("table_column", table_column, "Column with the table.");
      v.field("answer_tag", answer_tag,
              "The answer is the inside of this tag; empty: all the text.");
      v.field("missing", missing, "Score of an answer that the table does not have.");
    }
  };
  explicit AnswerTable(const Config& config) : config_(config) {}

 private:
  Score score_one(const Example& example, const Completion& completion) override {
    const auto table = nlohmann::json::parse(column(example, config_.table_column, "answer_table"),
                                             nullptr, /*allow_exceptions=*/false);
    if (!table.is_object())
      throw DataError("row " + std::to_string(example.row + 1) + ": column \"" +
                      config_.table_column + "\": expected a JSON object from answers to numbers");
    std::optional<std::string_view> text = completion.text;
    if (!config_.answer_tag.empty()) text = only_block(completion.text, config_.answer_tag);
    if (!text) return {.value = config_.missing, .unreadable = "no_" + config_.answer_tag};
    const auto first = text->find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return {.value = config_.missing, .unreadable = "empty"};
    const std::string answer(text->substr(first, text->find_last_not_of(" \t\r\n") - first + 1));
    const auto found = table.find(answer);
    if (found == table.end() || !found->is_number())
      return {.value = config_.missing, .unreadable = "not_in_table"};
    return {.value = found->get<double>()};
  }
  Config config_;
};

MEED_REGISTER(reward_functions, "answer_table", AnswerTable,
              "What the row's table says of the answer.");

}  // namespace
}  // namespace meed
