#!/usr/bin/env bash
# Generation beside transformers' generate, alternately in one run, so that both meet the same machine.
#
#   benchmarks/generate.sh MODEL_FOLDER PEER_SCRIPT [DTYPE] [ROUNDS] [BATCHES...]
#
# MODEL_FOLDER: Hugging Face folder of the model. PEER_SCRIPT: a program that takes the model and --dtype, --batch,
# --prompt-tokens, --new-tokens, --repeats and prints a JSON line with tokens_per_s and all. PYTHON: the interpreter
# that runs it (default python3). MEED: the program (default build/release/bin/meed).
# Prints, per batch size, the median tokens/s of both over all rounds, and their ratio.
set -euo pipefail
model=$1 peer=$2 dtype=${3:-bfloat16} rounds=${4:-3}
shift $(($# < 4 ? $# : 4))
batches=(${@:-1 16 64})
root=$(cd "$(dirname "$0")/.." && pwd)
meed=${MEED:-$root/build/release/bin/meed}
python=${PYTHON:-python3}
prompt_tokens=${PROMPT_TOKENS:-64} new_tokens=${NEW_TOKENS:-128} steps=${STEPS:-1}

for batch in "${batches[@]}"; do
  results=$(mktemp)
  for ((round = 0; round < rounds; ++round)); do
    "$meed" bench generate --model "$model" --dtype "$dtype" --batch "$batch" --prompt-tokens "$prompt_tokens" \
      --new-tokens "$new_tokens" --steps "$steps" | tail -n 1 | sed 's/^/meed /' >>"$results"
    "$python" "$peer" "$model" --dtype "$dtype" --batch "$batch" --prompt-tokens "$prompt_tokens" \
      --new-tokens "$new_tokens" --repeats "$steps" | tail -n 1 | sed 's/^/peer /' >>"$results"
  done
  "$python" - "$results" "$dtype" "$batch" <<'PY'
import json, statistics, sys
path, dtype, batch = sys.argv[1:]
rates, memory = {"meed": [], "peer": []}, {"meed": [], "peer": []}
for line in open(path):
    side, text = line.split(" ", 1)
    row = json.loads(text)
    rates[side].append(row["tokens_per_s"])
    memory[side].append(row["peak_rss_mb"])
m, p = (statistics.median(rates[s]) for s in ("meed", "peer"))
print(f"{dtype} batch {batch}: meed {m:.0f} tokens/s ({statistics.median(memory['meed']):.0f} MB), "
      f"peer {p:.0f} tokens/s ({statistics.median(memory['peer']):.0f} MB), ratio {m / p:.2f}; "
      f"meed {[round(r) for r in rates['meed']]} peer {[round(r) for r in rates['peer']]}")
PY
  rm -f "$results"
done
