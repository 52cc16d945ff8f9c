#include "algorithms/cli/content.h"

#include "libpolicy/core/error.h"

namespace meed::cli {

Content content_of(const Row& row, const std::string& key) {
  if (!row.json.contains(key) || row.json[key].is_null()) return {};
  return content_of(row.json[key], row, key);
}

Content content_of(const nlohmann::ordered_json& value, const Row& row, const std::string& key) {
  Content content;
  if (value.is_string()) {
    content.text = value.get<std::string>();
    return content;
  }
  if (!value.is_array())
    throw DataError(row.where + ": \"" + key + "\": expected a string or a list of messages");
  content.conversational = true;
  if (row.json.contains("tools") && !row.json["tools"].is_null())
    content.tools = row.json["tools"].dump();
  for (const auto& each : value) {
    if (!each.is_object() || !each.contains("role") || !each["role"].is_string())
      throw DataError(row.where + ": \"" + key +
                      "\": a message needs a \"role\" and a \"content\"");
    Message message{each["role"].get<std::string>(), "", ""};
    if (each.contains("content") && each["content"].is_string())
      message.content = each["content"].get<std::string>();
    const bool text_only = each.contains("content") && each["content"].is_string();
    if (each.size() > 2 || !text_only) message.json = each.dump();
    content.messages.push_back(std::move(message));
  }
  return content;
}

}  // namespace meed::cli
