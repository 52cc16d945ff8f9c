#!/usr/bin/env bash
# Sets up, builds everything and runs every test; the last lines are ctest's summary.
#   scripts/test.sh [ctest options, for example -R text or -LE slow]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
"$root/scripts/setup.sh"
build
say "testing"
cd "$root/build/release" && ctest --output-on-failure --no-tests=error --parallel "$(nproc)" "$@"
