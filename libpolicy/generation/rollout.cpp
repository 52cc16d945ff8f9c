#include "libpolicy/generation/rollout.h"

namespace meed {

const char* to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAborted:
      break;
  }
  return "aborted";
}

}  // namespace meed
