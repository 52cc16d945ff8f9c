#include "libpolicy/text/post_processor.h"

#include "libpolicy/text/json_reader.h"

namespace meed {
namespace {

constexpr int kMaxDepth = 16;

PostProcessor from_template(const JsonReader& json) {
  PostProcessor result;
  bool seen_text = false;
  for (const auto& piece : json.at("single").items()) {
    if (const auto sequence = piece.find("Sequence")) {
      if (seen_text) piece.fail("a template with the text twice is not supported");
      seen_text = true;
      continue;
    }
    const std::string name = piece.at("SpecialToken").at("id").string();
    auto& side = seen_text ? result.after : result.before;
    for (const auto& id : json.at("special_tokens").at(name).at("ids").items())
      side.push_back(id.integer());
  }
  if (!seen_text) json.at("single").fail("the template does not hold the text");
  return result;
}

/// {"cls": ["[CLS]", 101], "sep": ["[SEP]", 102]}
PostProcessor from_pair(const JsonReader& json) {
  const auto id = [&](const char* key) {
    const auto pair = json.at(key).items();
    if (pair.size() != 2) json.at(key).fail("expected [token, id]");
    return pair[1].integer();
  };
  return {{id("cls")}, {id("sep")}};
}

}  // namespace

PostProcessor make_post_processor(const JsonReader& json, int depth) {
  if (depth > kMaxDepth) json.fail("nested too deeply");
  const std::string type = json.at("type").string();
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return from_template(json);
  if (type == "RobertaProcessing" || type == "BertProcessing") return from_pair(json);
  if (type == "Sequence") {
    PostProcessor result;
    for (const auto& step : json.at("processors").items()) {
      const PostProcessor outer = make_post_processor(step, depth + 1);
      result.before.insert(result.before.begin(), outer.before.begin(), outer.before.end());
      result.after.insert(result.after.end(), outer.after.begin(), outer.after.end());
    }
    return result;
  }
  json.at("type").fail("post-processor \"" + type + "\" is not supported");
}

}  // namespace meed
