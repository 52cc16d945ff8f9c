#!/usr/bin/env bash
# Runs configs/quickstart.yaml on three seeds and writes docs/results/quickstart.md from their metrics.
#   scripts/results_quickstart.sh [seed ...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
take_seeds "$@"
cd "$root"
for seed in "${seeds[@]}"; do
  out=out/quickstart-seed-$seed
  [ -f "$out/report.html" ] && continue
  rm -rf "$out"
  "$meed" train configs/quickstart.yaml run.seed="$seed" run.output_dir="$out"
done
python3 - "${seeds[@]}" > docs/results/quickstart.md <<'PY'
import json, statistics, sys
rows = []
for seed in sys.argv[1:]:
    folder = f"out/quickstart-seed-{seed}"
    lines = [json.loads(line) for line in open(f"{folder}/metrics.jsonl")]
    evaluations = [(x["step"], x["eval_reward"]) for x in lines if "eval_reward" in x]
    peak = max(x["memory/peak_rss_mb"] for x in lines if "memory/peak_rss_mb" in x)
    step = statistics.median(x["step_time"] for x in lines if "step_time" in x)
    rows.append((seed, evaluations, peak, step))
print("# The quickstart's main job\n")
print("Made by `scripts/results_quickstart.sh` from runs of `configs/quickstart.yaml` on 2 CPU cores.\n")
print("Accuracy: greedy answers to 200 held-out problems that training never sees; right means the right number in the form `#### N`.\n")
print("| seed | " + " | ".join(f"step {step}" for step, _ in rows[0][1]) + " | rise | seconds a step (median) | peak memory, MB |")
print("|---" * (len(rows[0][1]) + 4) + "|")
for seed, evaluations, peak, step_time in rows:
    print(f"| {seed} | " + " | ".join(f"{value:.3f}" for _, value in evaluations) + f" | {evaluations[-1][1] - evaluations[0][1]:+.3f} | {step_time:.1f} | {peak:.0f} |")
rises = [evaluations[-1][1] - evaluations[0][1] for _, evaluations, _, _ in rows]
spread = statistics.stdev(rises) if len(rises) > 1 else 0.0
print(f"\nRise over the model that GRPO starts from (step 0, after the SFT warm start): mean {statistics.mean(rises):+.3f}, standard deviation {spread:.3f}.")
PY
say "written: docs/results/quickstart.md"
