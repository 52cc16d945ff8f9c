#include "libpolicy/models/lora.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/strings.h"
#include "libpolicy/models/decoder.h"

namespace meed {
namespace {

Decoder& decoder_of(CausalLm& model) {
  auto* decoder = dynamic_cast<Decoder*>(&model);
  MEED_CHECK(decoder != nullptr, "adapters need a Decoder");
  return *decoder;
}

struct Module {
  std::string name;
  FusedLinear* linear;
  int64_t first, rows;
};

std::vector<Module> modules_of(Decoder& decoder) {
  std::vector<Module> modules;
  for (auto* linear : decoder.linears()) {
    const auto& spec = linear->spec();
    if (spec.transposed) {
      modules.push_back({spec.stored_module, linear, 0, linear->compute_weight().size(0)});
      continue;
    }
    int64_t first = 0;
    for (const auto& part : spec.parts) {
      modules.push_back({part.module, linear, first, part.rows});
      first += part.rows;
    }
  }
  return modules;
}

bool matches(const std::string& module, const std::string& target) {
  return target == "all-linear" || module == target || module.ends_with("." + target);
}

// Every target must match something; what exists is named by the last component.
void check_targets(const std::vector<Module>& modules, const LoraOptions& options) {
  if (options.rank < 1)
    throw ConfigError("lora: rank must be at least 1, got " + std::to_string(options.rank));
  if (options.target_modules.empty()) throw ConfigError("lora: target_modules is empty");
  for (const auto& target : options.target_modules) {
    std::set<std::string> known;
    bool found = false;
    for (const auto& module : modules) {
      found |= matches(module.name, target);
      known.insert(module.name.substr(module.name.rfind('.') + 1));
    }
    if (found) continue;
    std::string names;
    for (const auto& name : known) names += (names.empty() ? "" : ", ") + name;
    throw ConfigError("lora: target_modules: \"" + target +
                      "\" matches no linear map of the model (there are: " + names +
                      ", or all-linear)");
  }
}

}  // namespace

void add_lora(CausalLm& model, const LoraOptions& options) {
  auto& decoder = decoder_of(model);
  MEED_CHECK(!has_lora(model), "the model has adapters already");
  const auto modules = modules_of(decoder);
  check_targets(modules, options);
  decoder.parameters().set_requires_grad(false);
  auto generator = at::detail::createCPUGenerator(options.seed);
  const auto rank = static_cast<double>(options.rank);
  at::NoGradGuard no_grad;
  for (const auto& module : modules) {
    bool wanted = false;
    for (const auto& target : options.target_modules) wanted |= matches(module.name, target);
    if (!wanted) continue;
    const double bound = 1.0 / std::sqrt(static_cast<double>(module.linear->spec().in));
    LoraSlot slot;
    slot.module = module.name;
    slot.first = module.first;
    slot.rows = module.rows;
    slot.scale = options.alpha / (options.use_rslora ? std::sqrt(rank) : rank);
    slot.a = at::empty({options.rank, module.linear->spec().in}, at::kFloat)
                 .uniform_(-bound, bound, generator)
                 .to(decoder.device());
    slot.b = at::zeros({module.rows, options.rank}, slot.a.options());
    for (auto* leaf : {&slot.a, &slot.b}) leaf->set_requires_grad(true);
    const bool separate = decoder.dtype() != at::kFloat;
    slot.a_compute = separate ? slot.a.detach().to(decoder.dtype()) : slot.a.detach();
    slot.b_compute = separate ? slot.b.detach().to(decoder.dtype()) : slot.b.detach();
    decoder.parameters().add(module.name + ".lora_A.weight", slot.a);
    decoder.parameters().add(module.name + ".lora_B.weight", slot.b);
    module.linear->lora().push_back(std::move(slot));
  }
  decoder.rebuild_weights_view();
}

bool has_lora(CausalLm& model) {
  for (const auto* linear : decoder_of(model).linears())
    if (!linear->lora().empty()) return true;
  return false;
}

std::vector<std::pair<std::string, at::Tensor>> lora_parameters(CausalLm& model) {
  std::vector<std::pair<std::string, at::Tensor>> found;
  for (const auto& item : model.parameters().items())
    if (item.first.ends_with(".lora_A.weight") || item.first.ends_with(".lora_B.weight"))
      found.push_back(item);
  return found;
}

void merge_lora(CausalLm& model) {
  auto& decoder = decoder_of(model);
  std::set<std::string> factors;
  for (const auto& [name, leaf] : lora_parameters(model)) factors.insert(name);
  for (auto* linear : decoder.linears()) linear->merge_adapters();
  ParameterStore base;
  for (const auto& [name, leaf] : decoder.parameters().items())
    if (factors.count(name) == 0) base.add(name, leaf);
  decoder.parameters() = base;
  decoder.rebuild_weights_view();
}

}  // namespace meed
