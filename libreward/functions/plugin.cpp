#include "libreward/plugin.h"

#include <dlfcn.h>

#include <filesystem>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// A reward function from a shared object (see libreward/plugin.h). The object stays loaded.
class PluginReward final : public RewardFunction {
 public:
  struct Config {
    std::string path;
    void fields(FieldVisitor& v) {
      v.field("path", path, "Shared object that ends with MEED_REWARD_PLUGIN(...).");
      v.required("path");
    }
  };
  explicit PluginReward(const Config& config) {
    // A name without a folder would be looked up in the system's libraries.
    const auto path = std::filesystem::absolute(config.path);
    void* object = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (object == nullptr) throw ConfigError("plugin: cannot load " + std::string(::dlerror()));
    const auto abi = reinterpret_cast<int (*)()>(::dlsym(object, "meed_reward_plugin_abi"));
    const auto make = reinterpret_cast<RewardFunction* (*)()>(::dlsym(object, "meed_make_reward"));
    if (abi == nullptr || make == nullptr)
      throw ConfigError("plugin: " + path.string() +
                        " is no reward; end its source with MEED_REWARD_PLUGIN(Type)");
    if (abi() != kRewardPluginAbi)
      throw ConfigError("plugin: " + path.string() + " was built for another version of meed (" +
                        std::to_string(abi()) + ", this is " + std::to_string(kRewardPluginAbi) +
                        "); build it anew");
    function_.reset(make());
  }
  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    return function_->score(groups);
  }
  void save(StateDict& state) const override { function_->save(state); }
  void load(const StateDict& state) override { function_->load(state); }

 private:
  std::unique_ptr<RewardFunction> function_;
};

MEED_REGISTER(reward_functions, "plugin", PluginReward, "A reward from a shared object.");

}  // namespace
}  // namespace meed
