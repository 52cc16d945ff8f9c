#include "libpolicy/text/placeholders.h"

#include <gtest/gtest.h>

namespace meed {
namespace {

TEST(Placeholders, FillsKnownNamesOnce) {
  EXPECT_EQ(fill_placeholders("{a} and {b}, {c} {", {{"a", "{b}"}, {"b", "2"}}),
            "{b} and 2, {c} {");
  EXPECT_EQ(fill_placeholders("", {{"a", "1"}}), "");
}

}  // namespace
}  // namespace meed
