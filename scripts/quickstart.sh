#!/usr/bin/env bash
# From a fresh clone to reinforcement learning: sets up, builds the program, trains SmolLM2-135M-Instruct on arithmetic by GRPO, and
# says where the report lies.
#   scripts/quickstart.sh [key=value ...]      for example run.seed=1 run.output_dir=out/second
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
"$root/scripts/setup.sh"
build meed
cd "$root"
say "training: configs/quickstart.yaml"
"$root/build/release/bin/meed" train configs/quickstart.yaml "$@"
say "done"
