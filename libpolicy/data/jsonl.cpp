#include <glob.h>
#include <zlib.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/log.h"
#include "libpolicy/core/random.h"
#include "libpolicy/data/dataset.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

/// A row's text and where it stands: "train.jsonl:812".
struct Source {
  std::string text;
  std::string where;
};

std::string inflate_file(const std::string& path) {
  gzFile file = ::gzopen(path.c_str(), "rb");
  if (file == nullptr) throw DataError(path + ": cannot open");
  std::string text;
  std::vector<char> buffer(1 << 20);
  int count = 0;
  while ((count = ::gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0)
    text.append(buffer.data(), static_cast<size_t>(count));
  int code = Z_OK;
  const std::string message = ::gzerror(file, &code);
  const bool whole = count == 0 && ::gzclose(file) == Z_OK;
  if (!whole)
    throw DataError(path + ": damaged gzip file (" + (message.empty() ? "cut short" : message) +
                    "); fetch it again");
  return text;
}

/// gzip is known by its first bytes, whatever the name.
std::string read_text(const std::string& path) {
  std::string text = read_file(path);
  if (text.size() > 2 && static_cast<unsigned char>(text[0]) == 0x1f &&
      static_cast<unsigned char>(text[1]) == 0x8b)
    text = inflate_file(path);
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  return text;
}

std::vector<std::string> expand(const std::string& pattern) {
  if (std::filesystem::exists(pattern)) return {pattern};
  glob_t found{};
  std::vector<std::string> paths;
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0)
    for (size_t i = 0; i < found.gl_pathc; ++i) paths.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
  if (paths.empty()) throw DataError(pattern + ": no such file");
  return paths;
}

/// Rows of a JSON array, or the lines of a JSONL file.
std::vector<Source> split_rows(const std::string& path) {
  const std::string text = read_text(path);
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) throw DataError(path + ": the file is empty");
  std::vector<Source> rows;
  if (text[first] == '[') {
    const auto array = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!array.is_array())
      throw DataError(path + ": not a valid JSON array; the file is damaged or cut short");
    for (size_t i = 0; i < array.size(); ++i)
      rows.push_back({array[i].dump(-1, ' ', false, Json::error_handler_t::replace),
                      path + "[" + std::to_string(i) + "]"});
    return rows;
  }
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    ++line;
    std::string row = text.substr(begin, end - begin);
    begin = end + 1;
    if (row.find_first_not_of(" \t\r") != std::string::npos)
      rows.push_back({std::move(row), path + ":" + std::to_string(line)});
  }
  return rows;
}

[[noreturn]] void bad(const std::string& where, const std::string& what) {
  throw DataError(where + ": " + what);
}

std::string as_text(const Json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Message read_message(const Json& value, const std::string& where, const std::string& key) {
  if (!value.is_object() || !value.contains("role") || !value["role"].is_string())
    bad(where, "\"" + key + "\": a message needs a \"role\" and a \"content\"");
  Message message{value["role"].get<std::string>(), "", ""};
  if (value.contains("content") && !value["content"].is_null()) {
    if (!value["content"].is_string())
      bad(where, "\"" + key + "\": \"content\" of a message must be a string");
    message.content = value["content"].get<std::string>();
  }
  if (value.size() > 2) message.json = value.dump();
  return message;
}

Content read_content(const Json& value, const std::string& where, const std::string& key) {
  Content content;
  if (value.is_string()) {
    content.text = value.get<std::string>();
  } else if (value.is_array()) {
    content.conversational = true;
    for (const auto& each : value) content.messages.push_back(read_message(each, where, key));
  } else {
    bad(where,
        "\"" + key + "\": expected a string or a list of messages, got " + value.type_name());
  }
  return content;
}

/// TRL's extract_prompt: what chosen and rejected share at their start becomes the prompt.
void split_implicit_prompt(Example& example) {
  auto &chosen = example.chosen, &rejected = example.rejected;
  if (chosen.conversational != rejected.conversational) return;
  if (chosen.conversational) {
    size_t shared = 0;
    const size_t limit = std::min(chosen.messages.size(), rejected.messages.size());
    while (shared < limit && chosen.messages[shared].role == rejected.messages[shared].role &&
           chosen.messages[shared].content == rejected.messages[shared].content)
      ++shared;
    // Equal dialogues keep their last message as the completion.
    if (shared == limit && shared > 0) --shared;
    const auto count = static_cast<std::ptrdiff_t>(shared);
    example.prompt.conversational = true;
    example.prompt.messages.assign(chosen.messages.begin(), chosen.messages.begin() + count);
    chosen.messages.erase(chosen.messages.begin(), chosen.messages.begin() + count);
    rejected.messages.erase(rejected.messages.begin(), rejected.messages.begin() + count);
    return;
  }
  size_t shared = 0;
  while (shared < chosen.text.size() && shared < rejected.text.size() &&
         chosen.text[shared] == rejected.text[shared])
    ++shared;
  if (shared > 0 && shared < chosen.text.size() && chosen.text[shared - 1] == ' ') --shared;
  while (shared > 0 && shared < chosen.text.size() &&
         (static_cast<unsigned char>(chosen.text[shared]) & 0xC0) == 0x80)
    --shared;  // not inside a character
  example.prompt.text = chosen.text.substr(0, shared);
  chosen.text.erase(0, shared);
  rejected.text.erase(0, shared);
}

/// HH-RLHF: "\n\nHuman: ...\n\nAssistant: ..." as messages.
Content parse_dialogue(const std::string& text, const std::string& where) {
  static constexpr std::pair<std::string_view, const char*> kTurns[] = {
      {"\n\nHuman:", "user"}, {"\n\nAssistant:", "assistant"}};
  Content content;
  content.conversational = true;
  size_t at = 0;
  while (at < text.size()) {
    const char* role = nullptr;
    size_t begin = at;
    for (const auto& [marker, name] : kTurns) {
      if (text.compare(at, marker.size(), marker) != 0) continue;
      role = name;
      begin = at + marker.size();
    }
    if (role == nullptr)
      bad(where, "expected \"\\n\\nHuman:\" or \"\\n\\nAssistant:\" at byte " + std::to_string(at) +
                     " of the dialogue");
    size_t end = text.size();
    for (const auto& [marker, name] : kTurns) end = std::min(end, text.find(marker, begin));
    if (begin < end && text[begin] == ' ') ++begin;
    content.messages.push_back({role, text.substr(begin, end - begin), ""});
    at = end;
  }
  if (content.messages.empty()) bad(where, "the dialogue is empty");
  return content;
}

const std::set<std::string>& known_columns() {
  static const std::set<std::string> columns = {"text",        "messages", "prompt", "completion",
                                                "chosen",      "rejected", "margin", "label",
                                                "completions", "labels"};
  return columns;
}

/// Rows of JSONL, JSONL.gz and JSON-array files in TRL's dataset formats.
class Jsonl final : public Dataset {
 public:
  struct Config {
    std::vector<std::string> path;
    std::map<std::string, std::string> columns;
    std::string prompt_template;
    std::string system_prompt;
    bool conversational = false;
    std::string dialogue = "none";
    std::string pairs = "none";
    std::string on_bad_row = "stop";
    std::string split = "all";
    double eval_fraction = 0.1;
    std::string group_column;
    std::optional<int64_t> limit;
    void fields(FieldVisitor& v) {
      v.field("path", path,
              "Files (JSONL, JSONL.gz or a JSON array), or patterns such as data/*.jsonl.");
      v.required("path");
      v.field("columns", columns,
              "Our column: theirs, for example {prompt: question, answer: answer}.");
      v.field("prompt_template", prompt_template, "The prompt, with {column} for a column's text.");
      v.field("system_prompt", system_prompt,
              "System message put before conversational prompts that have none.");
      v.field("conversational", conversational,
              "Make chat messages of plain prompts and completions.");
      v.choice("dialogue", dialogue, {"none", "hh"},
               "hh: texts are dialogues of \"\\n\\nHuman:\" and \"\\n\\nAssistant:\" turns.");
      v.choice("pairs", pairs, {"none", "right_wrong"},
               "right_wrong: rows hold several solutions ({\"solution\", \"is_correct\"}) of one "
               "question; each right one is paired with each wrong one.");
      v.choice("on_bad_row", on_bad_row, {"stop", "skip"},
               "A malformed row stops the run, or is counted, reported and left out.");
      v.choice("split", split, {"all", "train", "eval"},
               "Take all rows, or one of two disjoint parts.");
      v.field("eval_fraction", eval_fraction, "Share of the rows (or groups) in the eval split.");
      v.field("group_column", group_column,
              "Rows with the same text here fall into the same split; of a dialogue (dialogue: hh) "
              "its first turn counts.");
      v.field("limit", limit, "Use so many rows at most.");
      v.require(eval_fraction > 0 && eval_fraction < 1, "eval_fraction", "must be in (0, 1)");
      v.require(!limit || *limit > 0, "limit", "must be positive, or null");
    }
  };

  explicit Jsonl(const Config& config) : config_(config) {
    std::vector<std::string> reported;
    for (const auto& pattern : config_.path) {
      for (const auto& path : expand(pattern)) {
        for (auto& row : split_rows(path)) {
          if (config_.limit && static_cast<int64_t>(examples_.size()) >= *config_.limit) return;
          try {
            add_row(row);
          } catch (const DataError& e) {
            if (config_.on_bad_row == "stop") throw;
            constexpr int64_t kMaxReported = 5;
            if (num_skipped_++ < kMaxReported) log_warn(std::string("row left out: ") + e.what());
          }
        }
      }
    }
    if (examples_.empty()) throw DataError(config_.path[0] + ": no usable row");
  }

  int64_t size() const override { return static_cast<int64_t>(examples_.size()); }
  Example get(int64_t index) const override {
    Example example = examples_.at(static_cast<size_t>(index));
    example.row = index;
    return example;
  }
  int64_t num_skipped() const override { return num_skipped_; }

 private:
  bool in_split(const std::string& key) const {
    if (config_.split == "all") return true;
    uint64_t hash = 0;
    for (const char c : key)
      hash = mix_seed({hash, static_cast<uint64_t>(static_cast<unsigned char>(c))});
    return (uniform(hash, 0) < config_.eval_fraction) == (config_.split == "eval");
  }

  void add_row(const Source& source) {
    const auto json = Json::parse(source.text, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) bad(source.where, "not valid JSON (or not valid UTF-8)");
    if (!json.is_object())
      bad(source.where, std::string("expected a JSON object, got ") + json.type_name());
    std::string key = source.text;
    if (!config_.group_column.empty()) {
      if (!json.contains(config_.group_column))
        bad(source.where, "\"" + config_.group_column + "\" (group_column) is missing");
      key = as_text(json[config_.group_column]);
      if (config_.dialogue == "hh") key = key.substr(0, key.find("\n\nAssistant:"));
    }
    if (!in_split(key)) return;
    if (config_.pairs == "right_wrong") return add_pairs(json, source.where);
    auto example = read_example(json, source.where);
    finish(example, source.where);
    examples_.push_back(std::move(example));
  }

  Example read_example(const Json& json, const std::string& where) const {
    Example example;
    std::map<std::string, const Json*> values;
    for (const auto& [name, value] : json.items()) values[name] = &value;
    for (const auto& [ours, theirs] : config_.columns) {
      if (!json.contains(theirs))
        bad(where, "\"" + theirs + "\" is missing (columns: " + ours + ")");
      values[ours] = &json[theirs];
    }
    for (const auto& [name, value] : values) {
      if (value->is_null()) continue;
      if (known_columns().count(name) > 0)
        read_column(example, name, *value, where);
      else
        example.extra[name] = as_text(*value);
    }
    if (!config_.prompt_template.empty()) {
      example.prompt = Content{};
      example.prompt.text = fill_template(json, where);
    }
    if (const auto tools = example.extra.find("tools"); tools != example.extra.end())
      for (Content* content : {&example.text, &example.prompt, &example.completion, &example.chosen,
                               &example.rejected})
        content->tools = tools->second;
    return example;
  }

  void read_column(Example& example, const std::string& name, const Json& value,
                   const std::string& where) const {
    if (name == "margin") {
      if (!value.is_number()) bad(where, "\"margin\": expected a number");
      example.margin = value.get<double>();
    } else if (name == "label") {
      if (value.is_boolean())
        example.label = value.get<bool>();
      else
        example.extra[name] = as_text(value);
    } else if (name == "completions" || name == "labels") {
      read_steps(example, name, value, where);
    } else {
      auto content = read_content(value, where, name);
      if (config_.dialogue == "hh" && !content.conversational)
        content = parse_dialogue(content.text, where + ": \"" + name + "\"");
      if (name == "text" || name == "messages") example.text = std::move(content);
      if (name == "prompt") example.prompt = std::move(content);
      if (name == "completion") example.completion = std::move(content);
      if (name == "chosen") example.chosen = std::move(content);
      if (name == "rejected") example.rejected = std::move(content);
    }
  }

  static void read_steps(Example& example, const std::string& name, const Json& value,
                         const std::string& where) {
    if (!value.is_array()) bad(where, "\"" + name + "\": expected a list");
    for (const auto& each : value) {
      if (name == "completions") {
        if (!each.is_string())
          bad(where, "\"completions\": expected a list of strings (the steps)");
        example.completions.push_back(each.get<std::string>());
      } else {
        if (!each.is_boolean() && !each.is_number())
          bad(where, "\"labels\": expected a list of booleans or numbers");
        example.labels.push_back(each.is_boolean() ? (each.get<bool>() ? 1.0 : 0.0)
                                                   : each.get<double>());
      }
    }
  }

  std::string fill_template(const Json& json, const std::string& where) const {
    std::string text;
    const auto& pattern = config_.prompt_template;
    for (size_t at = 0; at < pattern.size();) {
      const auto open = pattern.find('{', at);
      const auto close = open == std::string::npos ? open : pattern.find('}', open);
      if (close == std::string::npos) return text + pattern.substr(at);
      const auto column = pattern.substr(open + 1, close - open - 1);
      if (!json.contains(column)) bad(where, "\"" + column + "\" (prompt_template) is missing");
      text += pattern.substr(at, open - at) + as_text(json[column]);
      at = close + 1;
    }
    return text;
  }

  void finish(Example& example, const std::string& where) const {
    const bool preference = !example.chosen.empty() || !example.rejected.empty();
    if (preference && example.chosen.empty()) bad(where, "\"chosen\" is missing or empty");
    if (preference && example.rejected.empty()) bad(where, "\"rejected\" is missing or empty");
    if (preference && example.prompt.empty()) split_implicit_prompt(example);
    if (!example.labels.empty() && example.labels.size() != example.completions.size())
      bad(where, "\"labels\" has " + std::to_string(example.labels.size()) +
                     " entries, \"completions\" " + std::to_string(example.completions.size()));
    // Rows of vectors (vector_example.h) need no text.
    const bool vectors =
        example.extra.count("features") > 0 || example.extra.count("chosen_features") > 0;
    if (example.text.empty() && example.prompt.empty() && !preference && !vectors)
      bad(where,
          "none of the columns text, messages, prompt, chosen and rejected is there; map them by "
          "`columns`");
    if (config_.conversational) {
      wrap(example.prompt, "user");
      wrap(example.completion, "assistant");
      wrap(example.chosen, "assistant");
      wrap(example.rejected, "assistant");
    }
    auto& messages = example.prompt.messages;
    if (!config_.system_prompt.empty() && example.prompt.conversational &&
        (messages.empty() || messages[0].role != "system"))
      messages.insert(messages.begin(), {"system", config_.system_prompt, ""});
  }

  static void wrap(Content& content, const char* role) {
    if (content.conversational || content.text.empty()) return;
    content.messages = {{role, std::move(content.text), ""}};
    content.text.clear();
    content.conversational = true;
  }

  void add_pairs(const Json& json, const std::string& where) {
    std::vector<std::string> right, wrong;
    for (const auto& [name, value] : json.items()) {
      if (!value.is_object() || !value.contains("is_correct") || !value.contains("solution"))
        continue;
      if (!value["is_correct"].is_boolean() || !value["solution"].is_string())
        bad(where, "\"" + name + "\": \"solution\" must be a string, \"is_correct\" a boolean");
      (value["is_correct"].get<bool>() ? right : wrong)
          .push_back(value["solution"].get<std::string>());
    }
    if (right.empty() && wrong.empty())
      bad(where, "no column holds a {\"solution\", \"is_correct\"}");
    Json rest = Json::object();
    for (const auto& [name, value] : json.items())
      if (!value.is_object()) rest[name] = value;
    auto base = read_example(rest, where);
    if (base.prompt.empty()) bad(where, "\"prompt\" is missing; map the question by `columns`");
    for (const auto& good : right) {
      for (const auto& poor : wrong) {
        if (good == poor) continue;
        Example example = base;
        example.chosen.text = good;
        example.rejected.text = poor;
        finish(example, where);
        examples_.push_back(std::move(example));
      }
    }
  }

  Config config_;
  std::vector<Example> examples_;
  int64_t num_skipped_ = 0;
};

MEED_REGISTER(datasets, "jsonl", Jsonl,
              "JSONL, JSONL.gz and JSON-array files in TRL's dataset formats.");

}  // namespace
}  // namespace meed
