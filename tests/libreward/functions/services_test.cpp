#include <ATen/ATen.h>
#include <cpp-httplib/httplib.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/reward_pipeline.h"

// Rewards that live outside the program: a service and a shared object.

namespace meed {
namespace {

using Json = nlohmann::json;

class Services : public ::testing::Test {
 protected:
  at::Tensor score(const std::string& yaml) {
    RolloutGroup group;
    group.example.prompt.text = "say it";
    for (const std::string text : {"aeb", "xyz\xff"}) group.completions.emplace_back().text = text;
    RewardPipeline pipeline(ConfigNode::parse_string(yaml).items(), context_);
    return pipeline.score(std::vector<RolloutGroup>{group}).rewards_PG;
  }
  std::unique_ptr<Communicator> comm_ = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics_;
  RunContext context_{.comm = *comm_, .metrics = metrics_};
};

TEST_F(Services, ARemoteRewardIsAskedAgainUntilItAnswers) {
  httplib::Server server;
  std::atomic<int> asked = 0;
  server.Post("/score", [&](const httplib::Request& request, httplib::Response& response) {
    if (++asked == 1) {
      response.status = 503;
      return;
    }
    Json rewards = Json::array();
    const auto json = Json::parse(request.body);
    for (const auto& text : json["completions"]) rewards.push_back(text.get<std::string>().size());
    response.set_content(Json{{"rewards", rewards}}.dump(), "application/json");
  });
  server.Post("/short", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("{\"rewards\": [1]}", "application/json");
  });
  const int port = server.bind_to_any_port("127.0.0.1");
  std::thread serving([&] { server.listen_after_bind(); });
  server.wait_until_ready();
  const auto url = "http://127.0.0.1:" + std::to_string(port);
  const auto rewards = score("[{type: http, url: \"" + url + "/score\", backoff: 0.01}]");
  EXPECT_EQ(rewards[0][0].item<double>(), 3.0);
  EXPECT_EQ(rewards[0][1].item<double>(), 6.0);  // U+FFFD in place of the broken byte
  EXPECT_EQ(asked, 2);
  EXPECT_THROW(score("[{type: http, url: \"" + url + "/short\"}]"), DataError);
  server.stop();
  serving.join();
  try {
    score("[{type: http, url: \"" + url + "/score\", backoff: 0.01, max_retries: 1}]");
    FAIL() << "the service is gone";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("2 attempts"), std::string::npos) << error.what();
  }
}

TEST_F(Services, APluginIsLoadedFromItsSharedObject) {
  const auto rewards = score(std::string("[{type: plugin, path: \"") + MEED_EXAMPLE_PLUGIN + "\"}]");
  EXPECT_NEAR(rewards[0][0].item<double>(), 2.0 / 3.0, 1e-12);
  EXPECT_EQ(rewards[0][1].item<double>(), 0.0);
  EXPECT_THROW(score("[{type: plugin, path: nowhere.so}]"), ConfigError);
}

}  // namespace
}  // namespace meed
