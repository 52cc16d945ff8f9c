#include "libpolicy/checkpoint/state_dict.h"

#include <ATen/ATen.h>

namespace meed {
namespace {

template <typename Map>
void add_to(Map& into, const std::string& prefix, const Map& from) {
  for (const auto& [name, value] : from) into[prefix + "." + name] = value;
}

template <typename Map>
Map taken_from(const Map& from, const std::string& prefix) {
  const std::string start = prefix + ".";
  Map taken;
  for (auto each = from.lower_bound(start); each != from.end() && each->first.starts_with(start);
       ++each)
    taken[each->first.substr(start.size())] = each->second;
  return taken;
}

}  // namespace

void StateDict::add(const std::string& prefix, const StateDict& inner) {
  add_to(tensors, prefix, inner.tensors);
  add_to(integers, prefix, inner.integers);
  add_to(numbers, prefix, inner.numbers);
  add_to(strings, prefix, inner.strings);
}

StateDict StateDict::under(const std::string& prefix) const {
  return {taken_from(tensors, prefix), taken_from(integers, prefix), taken_from(numbers, prefix),
          taken_from(strings, prefix)};
}

}  // namespace meed
