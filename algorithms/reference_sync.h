#pragma once

#include <cstdint>

#include "libpolicy/core/config.h"

namespace meed {

/// TRL's keys for a reference that follows the policy: after every ref_model_sync_steps updates
/// reference = alpha policy + (1 - alpha) reference (TR-DPO, Gorbatovski et al. 2024).
struct ReferenceSync {
  bool sync_ref_model = false;
  double ref_model_mixup_alpha = 0.6;
  int64_t ref_model_sync_steps = 512;

  void fields(FieldVisitor& v) {
    v.field("sync_ref_model", sync_ref_model, "Let the reference follow the policy.");
    v.field("ref_model_mixup_alpha", ref_model_mixup_alpha,
            "Share of the policy in the reference at each synchronisation.");
    v.field("ref_model_sync_steps", ref_model_sync_steps,
            "Synchronise after every so many updates.");
    v.require(ref_model_mixup_alpha > 0 && ref_model_mixup_alpha <= 1, "ref_model_mixup_alpha",
              "must be in (0, 1]");
    v.require(ref_model_sync_steps > 0, "ref_model_sync_steps", "must be positive");
  }
  /// A synchronisation is due after update number `step`.
  bool is_due(int64_t step) const { return sync_ref_model && step % ref_model_sync_steps == 0; }
};

}  // namespace meed
