#include "libpolicy/core/config.h"

#include <gtest/gtest.h>

#include "libpolicy/core/error.h"
#include "libpolicy/core/registry.h"

namespace meed {
namespace {

struct Inner {
  int64_t steps = 3;
  void fields(FieldVisitor& v) { v.field("steps", steps, "Steps."); }
};

struct Outer {
  std::string path;
  double rate = 0.5;
  std::optional<int64_t> limit = 2;
  std::string kind = "linear";
  std::vector<std::string> names;
  Inner inner;
  void fields(FieldVisitor& v) {
    v.field("path", path, "A path.");
    v.required("path");
    v.field("rate", rate, "A rate.");
    v.field("limit", limit, "A limit.");
    v.choice("kind", kind, {"linear", "cosine"}, "A kind.");
    v.field("names", names, "Names.");
    v.section("inner", inner, "Inner.");
    v.require(rate > 0, "rate", "must be positive");
  }
};

Outer read(const std::string& yaml) {
  return read_config<Outer>(ConfigNode::parse_string(yaml, "r.yaml"), /*has_type=*/false);
}

std::string problem_of(const std::string& yaml) {
  try {
    read(yaml);
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "";
}

TEST(Config, ReadsEveryKindOfField) {
  const auto outer =
      read("path: a\nrate: 1e-5\nlimit: null\nkind: cosine\nnames: [x, y]\ninner: {steps: 7}\n");
  EXPECT_EQ(outer.path, "a");
  EXPECT_DOUBLE_EQ(outer.rate, 1e-5);
  EXPECT_FALSE(outer.limit.has_value());
  EXPECT_EQ(outer.kind, "cosine");
  EXPECT_EQ(outer.names.size(), 2u);
  EXPECT_EQ(outer.inner.steps, 7);
}

TEST(Config, ReportsEveryMistakeAtOnceWithItsPlace) {
  EXPECT_EQ(
      problem_of("rate: -2\nkind: lineer\ninner:\n  step: 4\n  steps: many\nlimt: 3\n"),
      "r.yaml:1:1: <recipe>: missing key \"path\"\n"
      "r.yaml:2:7: kind: expected one of linear, cosine; got \"lineer\"; did you mean \"linear\"?\n"
      "r.yaml:5:10: inner.steps: expected an integer, got \"many\"\n"
      "r.yaml:4:9: inner.step: unknown key; did you mean \"steps\"?\n"
      "r.yaml:1:7: rate: must be positive, got -2\n"
      "r.yaml:6:7: limt: unknown key; did you mean \"limit\"?");
}

TEST(Config, OverridesWinAndSayWhereTheyCameFrom) {
  const auto node = ConfigNode::parse_string("path: a\ninner: {steps: 1}\n", "r.yaml");
  const auto changed = node.with_overrides({"inner.steps=9", "rate=2", "names=[p, q]"});
  const auto outer = read_config<Outer>(changed, /*has_type=*/false);
  EXPECT_EQ(outer.inner.steps, 9);
  EXPECT_EQ(outer.names.at(1), "q");
  try {
    read_config<Outer>(node.with_overrides({"inner.steps=x"}), /*has_type=*/false);
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_STREQ(e.what(), "command line: inner.steps: expected an integer, got \"x\"");
  }
  EXPECT_THROW(node.with_overrides({"no_value"}), ConfigError);
  EXPECT_THROW(node.with_overrides({"path.deeper=1"}), ConfigError);
  EXPECT_THROW(node.with_overrides({"names[3]=1"}), ConfigError);
}

TEST(Config, RefusesBrokenYaml) {
  EXPECT_THROW(ConfigNode::parse_string("a: [1, 2", "r.yaml"), ConfigError);
  EXPECT_THROW(ConfigNode::parse_string("a: 1\na: 2\n", "r.yaml"), ConfigError);
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    const auto before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) bomb += (j ? ", " : "") + before;
    bomb += "]\n";
  }
  EXPECT_THROW(ConfigNode::parse_string(bomb, "r.yaml"), ConfigError);
  EXPECT_THROW(ConfigNode::parse_file("/nonexistent/r.yaml"), ConfigError);
}

TEST(Config, ResolvedYamlReadsBackTheSame) {
  const auto outer = read("path: \"5\"\nnames: [\"a b\", \"c: d\"]\nrate: 3\n");
  const auto again = read(fields_to_yaml(describe_config(outer)));
  EXPECT_EQ(again.path, "5");
  EXPECT_EQ(again.names, outer.names);
  EXPECT_EQ(again.limit, outer.limit);
  EXPECT_DOUBLE_EQ(again.rate, 3.0);
}

class Thing {
 public:
  virtual ~Thing() = default;
};
struct Weighted {
  double weight = 1.0;
  void fields(FieldVisitor& v) { v.field("weight", weight, "Weight."); }
};
Registry<Thing>& things() {
  static auto& registry = *[] {
    auto* created = new Registry<Thing>("thing");
    created->set_common<Weighted>();
    return created;
  }();
  return registry;
}
class Small : public Thing {
 public:
  using Config = Inner;
  explicit Small(const Config&) {}
};
MEED_REGISTER(things, "small", Small, "A small thing.");

TEST(Registry, ChecksOwnAndCommonKeys) {
  const auto good = ConfigNode::parse_string("{type: small, steps: 2, weight: 0.5}", "r.yaml");
  EXPECT_TRUE(things().check(good).empty());
  EXPECT_DOUBLE_EQ(things().read_common<Weighted>(good).weight, 0.5);
  const auto bad =
      things().check(ConfigNode::parse_string("{type: small, stps: 2, weight: x}", "r.yaml"));
  ASSERT_EQ(bad.size(), 2u);
  EXPECT_EQ(bad[0], "r.yaml:1:21: stps: unknown key; did you mean \"steps\"?");
  const auto common = things().check(ConfigNode::parse_string("{type: small, wieght: 2}", "r.yaml"));
  ASSERT_EQ(common.size(), 1u);
  EXPECT_EQ(common[0], "r.yaml:1:23: wieght: unknown key; did you mean \"weight\"?");
  const auto unknown = things().check(ConfigNode::parse_string("{type: smal}", "r.yaml"));
  ASSERT_EQ(unknown.size(), 1u);
  EXPECT_EQ(unknown[0],
            "r.yaml:1:8: type: unknown thing \"smal\"; did you mean \"small\"? (known: small)");
}

}  // namespace
}  // namespace meed
