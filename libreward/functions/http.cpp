#include <cpp-httplib/httplib.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

using Json = nlohmann::json;

/// Scores of a remote service. One request a group:
///   POST url  {"prompt": text or messages, "completions": [texts], "columns": {name: text}}
///   answer    {"rewards": [a number or null for each completion]}
/// A request that fails (no connection, a timeout, status 429 or 5xx) is made again with growing
/// pauses; when all are used up, or the answer makes no sense, the run stops: what a service did
/// not say is never scored as 0.
class HttpReward final : public RewardFunction {
 public:
  struct Config {
    std::string url;
    double timeout = 60.0;
    int64_t max_retries = 5;
    double backoff = 1.0;
    std::map<std::string, std::string> headers;
    void fields(FieldVisitor& v) {
      v.field("url", url, "http://host:port/path of the service.");
      v.required("url");
      v.field("timeout", timeout, "Seconds to wait for an answer.");
      v.field("max_retries", max_retries, "Further attempts after one that failed.");
      v.field("backoff", backoff, "Seconds before the second attempt; each pause doubles.");
      v.field("headers", headers, "Further headers, such as Authorization.");
      v.require(url.starts_with("http://") && url.size() > 7, "url",
                "must be http://host:port/path");
      v.require(timeout > 0, "timeout", "must be positive");
      v.require(max_retries >= 0, "max_retries", "must not be negative");
      v.require(backoff >= 0, "backoff", "must not be negative");
    }
  };
  explicit HttpReward(const Config& config) : config_(config) {
    const auto slash = config.url.find('/', 7);
    client_ = std::make_unique<httplib::Client>(config.url.substr(0, slash));
    path_ = slash == std::string::npos ? "/" : config.url.substr(slash);
    const auto seconds = static_cast<time_t>(config.timeout);
    const auto rest = static_cast<time_t>((config.timeout - static_cast<double>(seconds)) * 1e6);
    client_->set_connection_timeout(seconds, rest);
    client_->set_read_timeout(seconds, rest);
    client_->set_write_timeout(seconds, rest);
    client_->set_keep_alive(true);
    for (const auto& [name, value] : config.headers) headers_.emplace(name, value);
  }

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    std::vector<std::vector<Score>> scores;
    for (const auto& group : groups) scores.push_back(read(ask(request_of(group)), group));
    return scores;
  }

 private:
  static std::string request_of(const RolloutGroup& group) {
    Json json;
    const auto& prompt = group.example.prompt;
    if (prompt.conversational) {
      json["prompt"] = Json::array();
      for (const auto& message : prompt.messages)
        json["prompt"].push_back({{"role", message.role}, {"content", message.content}});
    } else {
      json["prompt"] = prompt.text;
    }
    json["completions"] = Json::array();
    for (const auto& completion : group.completions)
      json["completions"].push_back(completion.text);
    json["columns"] = group.example.extra;
    // Bytes that are no UTF-8 become U+FFFD: model output is not to stop a run.
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  std::string ask(const std::string& body) {
    std::string problem;
    double pause = config_.backoff;
    for (int64_t attempt = 0; attempt <= config_.max_retries; ++attempt) {
      if (attempt > 0) {
        log_warn("reward service " + config_.url + ": " + problem + "; again in " +
                    std::to_string(pause) + " s");
        std::this_thread::sleep_for(std::chrono::duration<double>(pause));
        pause *= 2.0;
      }
      const auto answer = client_->Post(path_, headers_, body, "application/json");
      if (!answer) {
        problem = "no answer (" + httplib::to_string(answer.error()) + ")";
        continue;
      }
      if (answer->status == 200) return answer->body;
      problem = "status " + std::to_string(answer->status);
      if (answer->status != 429 && answer->status < 500) break;  // asking again will not help
    }
    throw DataError("reward service " + config_.url + ": " + problem + " after " +
                    std::to_string(config_.max_retries + 1) +
                    " attempts; is it running? Resume the run when it is");
  }

  std::vector<Score> read(const std::string& body, const RolloutGroup& group) const {
    const auto json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
    const auto fail = [&](const std::string& problem) {
      throw DataError("reward service " + config_.url + ": " + problem + ": " + body.substr(0, 200));
    };
    if (!json.is_object() || !json.contains("rewards") || !json["rewards"].is_array())
      fail("expected {\"rewards\": [...]}");
    const auto& rewards = json["rewards"];
    if (rewards.size() != group.completions.size())
      fail("expected " + std::to_string(group.completions.size()) + " rewards, got " +
           std::to_string(rewards.size()));
    std::vector<Score> scores;
    for (const auto& reward : rewards) {
      if (!reward.is_number() && !reward.is_null()) fail("a reward is a number or null");
      scores.push_back({.value = reward.is_null() ? std::nan("") : reward.get<double>()});
    }
    return scores;
  }

  Config config_;
  std::string path_;
  httplib::Headers headers_;
  std::unique_ptr<httplib::Client> client_;
};

MEED_REGISTER(reward_functions, "http", HttpReward, "Scores of a remote service.");

}  // namespace
}  // namespace meed
