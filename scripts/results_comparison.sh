#!/usr/bin/env bash
# Six kinds of reward model on real pairs, side by side on rows held out by question: docs/results/comparison.md.
# Needs ../shared/data (gsm8k, hh-rlhf). Each recipe trains nine models: an hour to an hour and a half a data set on one core; finished ones are kept.
#   scripts/results_comparison.sh [recipe settings for both]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
for data in hh_rlhf gsm8k; do
  folder=out/compare-${data%_rlhf}
  say "$data"
  [ -f "$folder/results.json" ] || "$meed" train "configs/reward_modelling/compare_$data.yaml" --resume "$@" > "$folder.log" 2>&1
  [ -f "out/eval-compare-${data%_rlhf}/results.json" ] || "$meed" eval "configs/eval/reward_models_$data.yaml"
done
python3 - > docs/results/comparison.md <<'PY'
import json, pathlib, re
NAMES = {"bt_linear": "Bradley-Terry, linear head", "bt_mlp": "Bradley-Terry, 2-layer SiLU head", "bt_from_regression": "Bradley-Terry from a regression on the same rows",
         "micro": "MiCRo, 3 heads", "gpm": "GPM, embedding of 4", "ensemble": "ensemble of three seeds"}
def title_of(name):
    key, _, how = name.partition(" ")
    return f"{NAMES.get(key, key)} {how}".strip()
DATA = {"hh": "HH-RLHF, harmless: dialogues", "gsm8k": "GSM8K: right and wrong solutions"}
print("# Reward models of six kinds on real pairs\n")
print("""Made by `scripts/results_comparison.sh`: SmolLM2-135M-Instruct in bfloat16, trained by `configs/reward_modelling/compare_hh_rlhf.yaml` and `compare_gsm8k.yaml`, pairs of 8
a step, seed 0; `meed eval` on rows whose question stands in no training row. Intervals are at 95 %, over clusters of one question; the third column is the paired difference
from the first model, on the same rows.
The ensemble's rewards are the mean of its members', the least, or the mean less half a deviation.
""")
for data, title in DATA.items():
    path = pathlib.Path(f"out/eval-compare-{data}/results.json")
    if not path.exists():
        continue
    rows = {}
    for row in json.loads(path.read_text()):
        rows.setdefault(row["model"].split("/")[2] + row["model"].partition("/final")[2], {})[row["metric"]] = row
    recipe = (pathlib.Path(f"out/compare-{data}") / "bt_linear/seed-0/config.yaml").read_text()
    steps = re.search(r"max_steps: (\d+)", recipe)[1]
    print(f"## {title}\n")
    print(f"{steps} steps; {next(iter(rows.values()))['accuracy']['count']} pairs held out.\n")
    print("| model | accuracy (95 %) | difference from the first (95 %) | calibration error | rank correlation of reward and length |\n|---|---|---|---|---|")
    def cell(row, interval=True):
        if row is None or row["value"] is None:
            return ""
        return f"{row['value']:.3f}" + (f" ({row['low']:.3f} to {row['high']:.3f})" if interval and row["low"] is not None else "")
    for name, values in rows.items():
        difference = next((row for metric, row in values.items() if metric.startswith("accuracy less")), None)
        print(f"| {title_of(name)} | {cell(values.get('accuracy'))} | {cell(difference)} | {cell(values.get('calibration error'), False)} | {cell(values.get('reward-length rank correlation'), False)} |")
    print()
PY
say "written: docs/results/comparison.md"
