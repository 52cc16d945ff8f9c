#include "libreward/curation/wrapped_dataset.h"

#include "libpolicy/core/error.h"

namespace meed {

void require_pair(const Example& example, const std::string& dataset) {
  if (example.chosen.empty() || example.rejected.empty())
    throw DataError("row " + std::to_string(example.row + 1) + ": " + dataset +
                    " needs \"chosen\" and \"rejected\", neither of them empty");
  if (example.extra.contains("chosen_features"))
    throw DataError("row " + std::to_string(example.row + 1) + ": " + dataset +
                    " changes texts whose features are known already; put \"features\" around " +
                    dataset + ", not inside it");
}

Content side_of(const Content& prompt, const std::string& text) {
  Content content;
  content.conversational = prompt.conversational;
  if (prompt.conversational)
    content.messages = {{"assistant", text, ""}};
  else
    content.text = text;
  return content;
}

}  // namespace meed
