#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "libpolicy/checkpoint/state_dict.h"

namespace meed {

/// What a run needs to go on, beside the model's own folder.
struct CheckpointState {
  StateDict optimizer;
  StateDict loop;  ///< step, position in the data, metric, what the algorithm keeps
};

struct CheckpointOptions {
  std::optional<int64_t>
      save_total_limit;          ///< keep so many of the newest; the best one stays besides
  std::optional<double> metric;  ///< of this checkpoint
  bool greater_is_better = true;
};

/// Writes root/step-N: `save_model` fills the folder with the model, then come
/// optimizer.safetensors, state.json and manifest.json (size and CRC-32 of every file). The folder
/// is written under another name, synced and renamed when it is whole, so a kill at any moment
/// leaves the older ones as they were. Afterwards old ones are removed. Throws DataError (a full
/// disk) and leaves nothing half.
void save_checkpoint(const std::filesystem::path& root, int64_t step,
                     const std::function<void(const std::filesystem::path&)>& save_model,
                     const CheckpointState& state, const CheckpointOptions& options);

/// Why a checkpoint cannot be used, naming the file: missing, cut short, changed. nullopt if it is
/// whole.
std::optional<std::string> find_damage(const std::filesystem::path& folder);

/// The newest whole checkpoint under `root`; damaged ones are passed over with a warning that names
/// the file. Leftovers of writes that were killed are not looked at (and removed by the next save).
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& root);

/// Throws DataError naming what is wrong.
CheckpointState load_checkpoint(const std::filesystem::path& folder);

/// "step-120" -> 120.
std::optional<int64_t> checkpoint_step(const std::filesystem::path& folder);

}  // namespace meed
