#!/usr/bin/env bash
# From a fresh clone to reinforcement learning: sets up, builds the program, trains SmolLM2-135M-Instruct on arithmetic by GRPO, and
# says where the report lies.
#   scripts/quickstart.sh [--seed N] [key=value ...]      for example --seed 1, or run.max_steps=20
# The run goes to out/quickstart, or to out/quickstart-seed-N; one that was interrupted goes on where it stood.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
output=out/quickstart
settings=()
while [ $# -gt 0 ]; do
  case $1 in
    --seed) [[ ${2:-} =~ ^[0-9]+$ ]] || die "--seed needs a number"
            output=out/quickstart-seed-$2; settings+=("run.seed=$2"); shift 2 ;;
    --help|-h) sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    run.output_dir=*) output=${1#*=}; shift ;;
    *=*) settings+=("$1"); shift ;;
    *) die "do not know \"$1\"; expected --seed N or key=value" ;;
  esac
done
"$root/scripts/setup.sh"
build meed
cd "$root"
if [ -f "$output/report.html" ] && [ -d "$output/final" ]; then
  say "already done; remove $output to run it again"
else
  resume=()
  [ -f "$output/config.yaml" ] && resume=(--resume)
  say "training: configs/quickstart.yaml"
  build/release/bin/meed train configs/quickstart.yaml run.output_dir="$output" "${settings[@]}" "${resume[@]}"
fi
say "the report: $(realpath "$output/report.html")"
