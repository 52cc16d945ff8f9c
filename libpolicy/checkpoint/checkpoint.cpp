#include "libpolicy/checkpoint/checkpoint.h"

#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "libpolicy/checkpoint/safetensors.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/log.h"

namespace meed {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kTemporaryPrefix = ".tmp-";
constexpr const char* kManifest = "manifest.json";

std::string checksum(const fs::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  uLong crc = ::crc32_z(0, nullptr, 0);
  crc = ::crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  char text[16];
  std::snprintf(text, sizeof text, "%08lx", static_cast<unsigned long>(crc));
  return text;
}

/// Doubles as hexadecimal text: JSON's decimal would do, but this is exact by construction, NaN and
/// infinity included.
std::string exact(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%a", value);
  return text;
}

Json to_json(const StateDict& state) {
  Json json = {
      {"integers", state.integers}, {"numbers", Json::object()}, {"strings", state.strings}};
  for (const auto& [name, value] : state.numbers) json["numbers"][name] = exact(value);
  return json;
}

void read_json(const Json& json, StateDict& state) {
  for (const auto& [name, value] : json.at("integers").items())
    state.integers[name] = value.get<int64_t>();
  for (const auto& [name, value] : json.at("numbers").items())
    state.numbers[name] = std::strtod(value.get<std::string>().c_str(), nullptr);
  for (const auto& [name, value] : json.at("strings").items())
    state.strings[name] = value.get<std::string>();
}

Json read_json_file(const fs::path& path) {
  auto json = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    throw DataError(path.string() + ": not a JSON object; the checkpoint is damaged");
  return json;
}

void write_manifest(const fs::path& folder, const CheckpointOptions& options) {
  Json files = Json::object();
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    files[fs::relative(entry.path(), folder).string()] = {{"size", entry.file_size()},
                                                          {"crc32", checksum(entry.path())}};
    sync_path(entry.path());
  }
  Json manifest = {{"files", files}};
  if (options.metric) manifest["metric"] = *options.metric;
  write_file_atomic(folder / kManifest, manifest.dump(2) + "\n");
}

std::vector<fs::path> checkpoints(const fs::path& root) {
  std::vector<fs::path> found;
  if (!fs::is_directory(root)) return found;
  for (const auto& entry : fs::directory_iterator(root))
    if (entry.is_directory() && checkpoint_step(entry.path())) found.push_back(entry.path());
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return *checkpoint_step(a) < *checkpoint_step(b); });
  return found;
}

std::optional<double> metric_of(const fs::path& folder) {
  const auto json = Json::parse(read_file(folder / kManifest), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("metric") || !json["metric"].is_number())
    return std::nullopt;
  return json["metric"].get<double>();
}

/// Removes all but the newest ones and the best.
void prune(const fs::path& root, const CheckpointOptions& options) {
  for (const auto& entry : fs::directory_iterator(root))
    if (entry.path().filename().string().starts_with(kTemporaryPrefix))
      fs::remove_all(entry.path());
  if (!options.save_total_limit) return;
  const auto all = checkpoints(root);
  fs::path best;
  std::optional<double> best_metric;
  for (const auto& folder : all) {
    const auto metric = fs::exists(folder / kManifest) ? metric_of(folder) : std::nullopt;
    if (!metric) continue;
    if (best_metric &&
        (options.greater_is_better ? *metric <= *best_metric : *metric >= *best_metric))
      continue;
    best = folder;
    best_metric = metric;
  }
  const auto keep = static_cast<size_t>(*options.save_total_limit);
  for (size_t i = 0; i + keep < all.size(); ++i)
    if (all[i] != best) fs::remove_all(all[i]);
}

}  // namespace

std::optional<int64_t> checkpoint_step(const fs::path& folder) {
  const std::string name = folder.filename().string();
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int64_t step = 0;
  const auto [stop, error] =
      std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), step);
  if (error != std::errc() || stop != name.data() + name.size()) return std::nullopt;
  return step;
}

void save_checkpoint(const fs::path& root, int64_t step,
                     const std::function<void(const fs::path&)>& save_model,
                     const CheckpointState& state, const CheckpointOptions& options) {
  const auto name = "step-" + std::to_string(step);
  const auto temporary = root / (kTemporaryPrefix + name);
  try {
    fs::create_directories(root);
    fs::remove_all(temporary);
    fs::create_directory(temporary);
    save_model(temporary);
    NamedTensors tensors(state.optimizer.tensors.begin(), state.optimizer.tensors.end());
    for (const auto& [key, tensor] : state.loop.tensors)
      tensors.emplace_back("loop/" + key, tensor);
    write_safetensors(temporary / "optimizer.safetensors", tensors);
    const Json json = {{"optimizer", to_json(state.optimizer)}, {"loop", to_json(state.loop)}};
    write_file_atomic(temporary / "state.json", json.dump(2) + "\n");
    write_manifest(temporary, options);
    sync_path(temporary);
    fs::remove_all(root / name);
    fs::rename(temporary, root / name);
    sync_path(root);
    prune(root, options);
  } catch (const fs::filesystem_error& e) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw DataError(root.string() + ": cannot write checkpoint " + name + ": " +
                    e.code().message() + "; the older ones are as they were");
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
}

std::optional<std::string> find_damage(const fs::path& folder) {
  try {
    if (!fs::exists(folder / kManifest)) return (folder / kManifest).string() + ": missing";
    const auto manifest = read_json_file(folder / kManifest);
    if (!manifest.contains("files") || !manifest["files"].is_object())
      return (folder / kManifest).string() + ": has no list of files";
    for (const auto& [name, entry] : manifest["files"].items()) {
      const auto path = folder / name;
      if (!fs::exists(path)) return path.string() + ": missing";
      if (!entry.is_object() || !entry.contains("size") || !entry["size"].is_number_unsigned() ||
          !entry.contains("crc32") || !entry["crc32"].is_string())
        return (folder / kManifest).string() + ": damaged";
      const auto size = fs::file_size(path);
      if (size != entry["size"].get<uint64_t>())
        return path.string() + ": has " + std::to_string(size) + " bytes, was written with " +
               std::to_string(entry["size"].get<uint64_t>());
      if (checksum(path) != entry["crc32"].get<std::string>())
        return path.string() + ": its bytes have changed since it was written";
    }
    return std::nullopt;
  } catch (const std::exception& e) {
    return std::string(e.what());
  }
}

std::optional<fs::path> newest_checkpoint(const fs::path& root) {
  auto all = checkpoints(root);
  for (auto folder = all.rbegin(); folder != all.rend(); ++folder) {
    const auto damage = find_damage(*folder);
    if (!damage) return *folder;
    log_warn("passing over a damaged checkpoint: " + *damage);
  }
  return std::nullopt;
}

CheckpointState load_checkpoint(const fs::path& folder) {
  if (const auto damage = find_damage(folder)) throw DataError("damaged checkpoint: " + *damage);
  CheckpointState state;
  try {
    const auto json = read_json_file(folder / "state.json");
    read_json(json.at("optimizer"), state.optimizer);
    read_json(json.at("loop"), state.loop);
  } catch (const nlohmann::json::exception& e) {
    throw DataError((folder / "state.json").string() + ": " + e.what());
  }
  const SafetensorsFile tensors(folder / "optimizer.safetensors");
  constexpr std::string_view kLoop = "loop/";
  for (const auto& name : tensors.names()) {
    if (name.starts_with(kLoop))
      state.loop.tensors[name.substr(kLoop.size())] = tensors.load(name);
    else
      state.optimizer.tensors[name] = tensors.load(name);
  }
  return state;
}

}  // namespace meed
