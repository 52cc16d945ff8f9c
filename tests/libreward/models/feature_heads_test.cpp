#include "libreward/models/feature_heads.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

namespace fs = std::filesystem;

class FeatureHeadsTest : public ::testing::Test {
 protected:
  FeatureHeadsTest()
      : folder_(fs::temp_directory_path() / ("meed-heads-" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~FeatureHeadsTest() override { fs::remove_all(folder_); }

  static std::unique_ptr<FeatureHeads> make(const std::string& head, int64_t members = 1,
                                            const std::string& vary = "finetune",
                                            int64_t context = 0) {
    return FeatureHeads::create({.head = ConfigNode::parse_string(head),
                                 .num_members = members,
                                 .vary = vary,
                                 .features = 4,
                                 .context = context,
                                 .seed = 7});
  }
  std::string problem(const fs::path& folder) {
    try {
      FeatureHeads::load(folder);
    } catch (const Error& e) {
      return std::string(e.what()).substr(folder_.string().size() + 1);
    }
    return "";
  }
  fs::path folder_;
  const at::Tensor features_ = at::arange(12, at::kFloat).view({3, 4}) * 0.1;
};

TEST_F(FeatureHeadsTest, ComeBackFromTheirFolder) {
  const auto context = at::arange(9, at::kFloat).view({3, 3}) * 0.2;
  const std::vector<std::unique_ptr<FeatureHeads>> all = [] {
    std::vector<std::unique_ptr<FeatureHeads>> heads;
    heads.push_back(make("{type: mlp, hidden_size: 5}"));
    heads.push_back(make("{type: mixture, heads: 2}", 1, "finetune", 3));
    heads.push_back(make("{type: random_features, width: 6, feature_share: 0.5}", 3, "pretrain"));
    return heads;
  }();
  for (size_t i = 0; i < all.size(); ++i) {
    const auto place = folder_ / std::to_string(i);
    all[i]->source = {.model = "backbone", .pooling = "mean", .max_length = 99};
    all[i]->aggregate = {.how = "min"};
    all[i]->save(place);
    EXPECT_TRUE(FeatureHeads::is_folder(place));
    const auto back = FeatureHeads::load(place);
    const HeadInput input{features_, i == 1 ? context : features_};
    EXPECT_TRUE(at::equal(back->member_rewards(input), all[i]->member_rewards(input))) << i;
    EXPECT_TRUE(at::equal(back->rewards(input), all[i]->rewards(input))) << i;
    EXPECT_EQ(back->source.model, "backbone");
    EXPECT_EQ(back->source.pooling, "mean");
    EXPECT_EQ(back->source.max_length, 99);
  }
  EXPECT_FALSE(FeatureHeads::is_folder(folder_));
}

TEST_F(FeatureHeadsTest, MembersDifferAsTheyShould) {
  const HeadInput input{features_, features_};
  const auto finetune = make("{type: random_features}", 2),
             pretrain = make("{type: random_features}", 2, "pretrain");
  const auto hidden = [&](const FeatureHeads& heads, int64_t m) {
    return heads.member(m).forward(input).hidden_BH;
  };
  EXPECT_TRUE(at::equal(hidden(*finetune, 0), hidden(*finetune, 1)));
  EXPECT_FALSE(at::equal(hidden(*pretrain, 0), hidden(*pretrain, 1)));
  const auto rewards = finetune->member_rewards(input);
  EXPECT_FALSE(at::equal(rewards[0], rewards[1]));
}

TEST_F(FeatureHeadsTest, AMapReadsItsShareOfTheFeaturesAndTheSharedOnes) {
  const auto heads = make("{type: random_features, feature_share: 0.01, num_shared: 1}");
  auto moved = features_.clone();
  moved.slice(1, 1).add_(5.0);
  EXPECT_TRUE(at::equal(heads->rewards({features_, features_}), heads->rewards({moved, moved})));
  moved.select(1, 0).add_(5.0);
  EXPECT_FALSE(at::equal(heads->rewards({features_, features_}), heads->rewards({moved, moved})));
}

TEST_F(FeatureHeadsTest, PretrainVariationNeedsAMap) {
  EXPECT_THROW(make("{type: linear}", 2, "pretrain"), ConfigError);
}

TEST_F(FeatureHeadsTest, SayWhatIsWrongWithAFolder) {
  EXPECT_NE(problem(folder_ / "none").find("has no meed.json"), std::string::npos);
  make("{type: linear}", 2)->save(folder_ / "pair");
  fs::remove(folder_ / "pair/member-1/head.safetensors");
  EXPECT_NE(problem(folder_ / "pair").find("member-1/head.safetensors"), std::string::npos);
  fs::remove_all(folder_ / "pair/member-1");
  EXPECT_NE(problem(folder_ / "pair").find("member-1: has no meed.json"), std::string::npos);
  make("{type: linear}")->save(folder_ / "one");
  const auto wrong = [&](const std::string& head) {
    std::ofstream(folder_ / "one/meed.json")
        << R"({"head": ")" << head
        << R"(", "num_features": 4, "num_context": 0, "model": "", "pooling": "last", "max_length": 9})";
    return problem(folder_ / "one");
  };
  EXPECT_NE(wrong("{type: linaer}").find("linear"), std::string::npos);
  EXPECT_NE(wrong("{type: attributes}").find("score.weight: expected [5, 4], the file has [1, 4]"),
            std::string::npos);
  std::ofstream(folder_ / "one/meed.json") << "{}";
  EXPECT_NE(problem(folder_ / "one").find("\"num_features\" is missing or of the wrong type"),
            std::string::npos);
  const auto heads = make("{type: linear}");
  EXPECT_THROW(heads->rewards({at::zeros({1, 5}), at::zeros({1, 5})}), DataError);
}

TEST_F(FeatureHeadsTest, WeightsOfAnEarlierStageAreTakenUpOrRefused) {
  const auto from = make("{type: linear}");
  from->parameters().at("score.weight").fill_(2.0);
  const auto heads = make("{type: linear}");
  copy_weights(*from, *heads, "earlier");
  EXPECT_EQ(heads->parameters().at("score.weight").mean().item<double>(), 2.0);
  const auto other = make("{type: mlp}");
  EXPECT_THROW(copy_weights(*from, *other, "earlier"), DataError);
  const auto two = make("{type: linear}", 2);
  EXPECT_THROW(copy_weights(*from, *two, "earlier"), DataError);
}

}  // namespace
}  // namespace meed
