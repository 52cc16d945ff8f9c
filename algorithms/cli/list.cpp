#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "algorithms/algorithm.h"
#include "algorithms/cli/command.h"
#include "algorithms/cli/registries.h"
#include "algorithms/evaluation.h"
#include "algorithms/recipe.h"
#include "algorithms/study.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/strings.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/generation/environment.h"
#include "libreward/judges/pairwise_judge.h"
#include "libreward/models/reward_head.h"
#include "libreward/reward_function.h"
#include "libreward/reward_transform.h"

namespace meed::cli {

std::vector<NamedRegistry> registries() {
  return {{"algorithms", &algorithms()},
          {"rewards", &reward_functions()},
          {"transforms", &reward_transforms()},
          {"environments", &environments()},
          {"evaluations", &evaluations()},
          {"tasks", &datasets()},
          {"heads", &reward_heads()},
          {"judges", &pairwise_judges()}};
}

std::vector<FieldInfo> study_fields() {
  auto fields = describe_config<StudySection>();
  fields.push_back(
      {"arms", "map from names to settings", "required",
       "Runs to compare: each is the recipe with these settings, dotted keys as on the "
       "command line. {seed} and {arm:NAME} in any value stand for the seed and the run "
       "folder of an earlier arm."});
  fields.push_back(
      {"checks", "list of maps", "[]", "Claims about the arms' metrics: study.checks."});
  return fields;
}

std::vector<std::pair<std::string, std::vector<FieldInfo>>> recipe_sections() {
  return {{"run", describe_config<RunSection>()},
          {"model", describe_config<ModelSection>()},
          {"lora", describe_config<LoraSection>()},
          {"monitors", describe_config<MonitorSection>()},
          {"rollout", describe_config<RolloutSection>()},
          {"optim", describe_config<OptimSection>()},
          {"study", study_fields()},
          {"study.checks", describe_config<StudyCheck>()}};
}

namespace {

struct Entry {
  std::string kind, name, help;
};

/// Things that a recipe names by a value rather than by a `type`.
std::vector<Entry> fixed_entries() {
  return {
      {"losses", "sigmoid", "dpo: -log sigmoid of beta times the difference of log-ratios"},
      {"losses", "hinge", "dpo: SLiC's hinge on the difference of log-ratios"},
      {"losses", "ipo", "dpo: squared distance of the mean log-ratio difference to 1 / (2 beta)"},
      {"losses", "exo_pair", "dpo: KL of the pair's probabilities from the smoothed label"},
      {"losses", "nca_pair", "dpo: noise-contrastive, chosen up and both kept"},
      {"losses", "robust", "dpo: unbiased under a share label_smoothing of wrong labels"},
      {"losses", "bco_pair", "dpo: chosen and rejected classified apart"},
      {"losses", "sppo_hard", "dpo: log-ratios to +1/(2 beta) and -1/(2 beta)"},
      {"losses", "aot", "dpo: sigmoid of differences sorted apart in policy and reference"},
      {"losses", "aot_unpaired", "dpo: sigmoid of log-ratios of chosen and rejected sorted apart"},
      {"losses", "apo_zero", "dpo: chosen up, rejected down, anchored"},
      {"losses", "apo_down", "dpo: both down, rejected further"},
      {"losses", "discopop", "dpo: mixture of logistic and exponential"},
      {"losses", "sft", "dpo: negative log-likelihood of the chosen"},
      {"losses", "sigmoid_norm", "dpo: sigmoid of log-ratios by token"},
      {"losses", "kto", "kto: desirable and undesirable against a KL baseline"},
      {"losses", "apo_zero_unpaired", "kto: the same without the baseline"},
      {"losses", "simpo", "cpo: by token, with a target margin, no reference"},
      {"losses", "grpo", "grpo: mean over completions of their token means"},
      {"losses", "bnpo", "grpo: mean over the tokens of the batch"},
      {"losses", "dr_grpo", "grpo: sum over tokens by completions times max_completion_length"},
      {"losses", "dapo", "grpo: mean over the tokens of the whole update"},
      {"losses", "luspo", "grpo: mean over completions of their token sums"},
      {"losses", "cispo", "grpo: log-probability weighted by the capped ratio"},
      {"losses", "sapo", "grpo: a soft gate on the ratio instead of clipping"},
      {"losses", "vespo", "grpo: log-probability weighted by a gamma of the sequence's ratio"},
      {"losses", "gmpo", "grpo: geometric mean of the clipped ratios"},
      {"losses", "clip_cov", "grpo: no gradient for some tokens of large covariance"},
      {"losses", "kl_cov", "grpo: a penalty on the tokens of largest covariance"},
      {"losses", "margin", "reward_modelling: less the preference's strength"},
      {"losses", "scaled", "reward_modelling: times the preference's strength"},
      {"losses", "mixture", "reward_modelling: log of the mixture's probability (MiCRo)"},
      {"losses", "preference_embedding", "reward_modelling: antisymmetric score (GPM)"},
      {"losses", "regression", "reward_modelling: squared error of labelled attributes"},
      {"losses", "bradley_terry",
       "reward_modelling: -log sigmoid of the reward difference less the margin"},
      {"advantages", "group", "Reward less the group's mean, by the group's standard deviation"},
      {"advantages", "batch", "Reward less the group's mean, by the batch's standard deviation"},
      {"advantages", "none", "Reward less the group's mean"},
      {"advantages", "rloo", "Reward less the mean of the group's others"},
      {"advantages", "remax", "Reward less that of a greedy completion"},
      {"advantages", "reinforce_plus_plus_baseline",
       "Reward less the group's mean, standardised over all completions"},
      {"advantages", "opo", "Reward less the group's mean by length"},
      {"advantages", "gpg", "Reward less the group's mean, by the share of groups that differ"},
      {"advantages", "pass_at_k", "Best less second best for the best, 0 for the others"},
      {"models", "llama", "Llama 2 and 3, SmolLM2"},
      {"models", "mistral", "Mistral, with sliding-window attention"},
      {"models", "qwen2", "Qwen2 and Qwen2.5"},
      {"models", "qwen3", "Qwen3, with q/k norms"},
      {"models", "gpt2", "GPT-2"},
      {"models", "bert", "BERT encoders such as MiniLM"}};
}

std::vector<Entry> entries(const std::string& kind) {
  std::vector<Entry> found;
  for (const auto& [name, registry] : registries())
    for (const auto& each : registry->names())
      found.push_back({name, each, registry->info(each).help});
  for (auto& each : fixed_entries()) found.push_back(std::move(each));
  if (!kind.empty()) std::erase_if(found, [&](const Entry& each) { return each.kind != kind; });
  return found;
}

void setup_list(CLI::App& app) {
  auto kind = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  app.add_option("KIND", *kind, "What to list; all if absent")
      ->check(CLI::IsMember({"algorithms", "rewards", "transforms", "losses", "advantages",
                             "evaluations", "models", "tasks", "heads", "judges"}));
  app.add_flag("--json", *json, "One JSON array");
  app.callback([kind, json] {
    auto array = nlohmann::ordered_json::array();
    std::string last;
    for (const auto& each : entries(*kind)) {
      if (*json) {
        array.push_back({{"kind", each.kind}, {"name", each.name}, {"help", each.help}});
        continue;
      }
      if (kind->empty() && each.kind != last)
        std::printf("%s%s:\n", last.empty() ? "" : "\n", each.kind.c_str());
      last = each.kind;
      std::printf("%s%-20s %s\n", kind->empty() ? "  " : "", each.name.c_str(), each.help.c_str());
    }
    if (*json) std::printf("%s\n", array.dump(2).c_str());
  });
}

nlohmann::ordered_json to_json(const std::vector<FieldInfo>& fields) {
  auto array = nlohmann::ordered_json::array();
  for (const auto& field : fields)
    array.push_back({{"key", field.name},
                     {"type", field.type},
                     {"default", field.default_value},
                     {"help", field.help}});
  return array;
}

void print_fields(const std::vector<FieldInfo>& fields) {
  for (const auto& field : fields)
    std::printf("  %-30s %s, default %s\n      %s\n", field.name.c_str(), field.type.c_str(),
                field.default_value.c_str(), field.help.c_str());
}

void print_markdown(const std::string& title, const std::string& help,
                    const std::vector<FieldInfo>& fields) {
  const auto cell = [](std::string text) {
    for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
      text.insert(at, "\\");
    return text;
  };
  std::printf("### `%s`\n\n", title.c_str());
  if (!help.empty()) std::printf("%s\n\n", help.c_str());
  if (fields.empty()) return;
  std::printf("| key | type | default | meaning |\n|---|---|---|---|\n");
  for (const auto& field : fields)
    std::printf("| `%s` | %s | `%s` | %s |\n", field.name.c_str(), cell(field.type).c_str(),
                cell(field.default_value).c_str(), cell(field.help).c_str());
  std::printf("\n");
}

void describe_all() {
  std::printf("# Recipe keys\n\nMade by `meed describe --all`; do not edit.\n\n## Sections\n\n");
  for (const auto& [name, fields] : recipe_sections()) print_markdown(name, "", fields);
  for (const auto& [kind, registry] : registries()) {
    std::printf("## %s\n\n", kind.c_str());
    if (const auto common = registry->common_fields(); !common.empty())
      print_markdown("every one of " + kind, "", common);
    for (const auto& name : registry->names())
      print_markdown(name, registry->info(name).help, registry->info(name).fields());
  }
}

void describe(const std::string& name, bool json) {
  std::vector<std::string> known;
  for (const auto& [section, fields] : recipe_sections()) {
    known.push_back(section);
    if (section != name) continue;
    if (json) return static_cast<void>(std::printf("%s\n", to_json(fields).dump(2).c_str()));
    std::printf("%s: a section of every recipe\n", section.c_str());
    return print_fields(fields);
  }
  auto found = nlohmann::ordered_json::array();
  for (const auto& [kind, registry] : registries()) {
    for (const auto& each : registry->names()) known.push_back(each);
    if (!registry->has(name)) continue;
    auto fields = registry->info(name).fields();
    for (auto& field : registry->common_fields()) fields.push_back(std::move(field));
    found.push_back({{"name", name},
                     {"kind", kind},
                     {"help", registry->info(name).help},
                     {"keys", to_json(fields)}});
    if (json) continue;
    std::printf("%s (%s): %s\n", name.c_str(), kind.c_str(), registry->info(name).help.c_str());
    print_fields(fields);
  }
  for (const auto& each : fixed_entries()) {
    known.push_back(each.name);
    if (each.name != name) continue;
    found.push_back({{"name", name},
                     {"kind", each.kind},
                     {"help", each.help},
                     {"keys", nlohmann::ordered_json::array()}});
    if (!json) std::printf("%s (%s): %s\n", name.c_str(), each.kind.c_str(), each.help.c_str());
  }
  if (found.empty()) {
    const auto nearest = nearest_name(name, known);
    throw ConfigError(
        "describe: nothing is named \"" + name + "\"" +
        (nearest.empty() ? "; see meed list" : "; did you mean \"" + nearest + "\"?"));
  }
  if (json)
    std::printf("%s\n", found.size() == 1 ? found[0].dump(2).c_str() : found.dump(2).c_str());
}

void setup_describe(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  auto all = std::make_shared<bool>(false);
  auto* option = app.add_option("NAME", *name, "A registered name, or a section of a recipe");
  app.add_flag("--json", *json, "One JSON object");
  app.add_flag("--all", *all, "Everything, as Markdown: docs/config_reference.md");
  app.callback([=] {
    if (*all) return describe_all();
    if (option->count() == 0) throw ConfigError("describe: expected a NAME; see meed list");
    describe(*name, *json);
  });
}

const bool list_registered = add_command({"list", "What is registered", setup_list});
const bool describe_registered = add_command(
    {"describe", "Keys, types, defaults and help of a registered name", setup_describe});

}  // namespace
}  // namespace meed::cli
