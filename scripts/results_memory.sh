#!/usr/bin/env bash
# Memory and losses of SmolLM2-135M over 200 steps of reward modelling, DPO and GRPO on real data: docs/results/memory.md.
# Needs ../shared/data (gsm8k, hh-rlhf). Batches are small, so that it takes minutes: one pair, or 8 completions of 64 tokens.
#   scripts/results_memory.sh [recipe settings for all three]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
steps=(run.max_steps=200 run.save_steps=0 optim.lr_scheduler_type=constant)
train() {
  local name=$1 recipe=$2
  shift 2
  [ -f "out/memory/$name/report.html" ] && return
  say "$name"
  "$meed" train "$recipe" "run.output_dir=out/memory/$name" "${steps[@]}" "$@" > "out/memory/$name.log" 2>&1
}
mkdir -p out/memory
train reward_modelling configs/reward_modelling/gsm8k_solutions.yaml run.eval_steps=null eval_data=null optim.per_device_train_batch_size=1 "$@"
train grpo configs/grpo/gsm8k.yaml warm_start.run.max_steps=20 optim.per_device_train_batch_size=8 rollout.max_completion_length=64 "$@"
train dpo configs/dpo/hh_rlhf.yaml optim.per_device_train_batch_size=1 "$@"
python3 - > docs/results/memory.md <<'PY'
import json, statistics
print("# Memory and losses over 200 steps\n")
print("Made by `scripts/results_memory.sh`: SmolLM2-135M-Instruct in bfloat16, float32 masters, batches of other lengths at every step. Memory is the process's resident memory, MiB.\n")
print("| algorithm | data | step 20 | 50 | 100 | 150 | last | highest | first 40 steps | last 40 steps |\n|---|---|---|---|---|---|---|---|---|---|")
for name, data, key in (("reward_modelling", "right and wrong solutions of GSM8K", "loss"), ("dpo", "HH-RLHF, harmless", "loss"), ("grpo", "GSM8K", "reward")):
    try:
        rows = [json.loads(line) for line in open(f"out/memory/{name}/metrics.jsonl")]
    except FileNotFoundError:
        continue
    rows = {row["step"]: row for row in rows if "memory/rss_mb" in row}
    last = max(rows)
    memory = [f"{rows[step]['memory/rss_mb']:.0f}" if step <= last else "" for step in (20, 50, 100, 150)]
    memory.append(f"{last}: {rows[last]['memory/rss_mb']:.0f}")
    values = [rows[step][key] for step in sorted(rows) if step > 0]
    print(f"| {name} | {data} | {' | '.join(memory)} | {rows[last]['memory/peak_rss_mb']:.0f} | {key} {statistics.mean(values[:40]):.4f} | {statistics.mean(values[-40:]):.4f} |")
print("\nA row whose last step is below 200 was cut there; what has no row was not run. GRPO follows 20 supervised steps and a generation is 8 completions of one question, so its reward says nothing about learning.")
PY
say "written: docs/results/memory.md"
