#!/usr/bin/env bash
# Runs the SmolLM2 recipes of GRPO, PPO, DPO, Cooper and hybrid rewards whole, on generated arithmetic and on GSM8K, measures the policies on
# held-out problems, and writes docs/results/smollm2-policies.md. What is finished is not run again. The GSM8K recipes of a seed share
# their SFT: the first one trains it. Needs ../shared/data/gsm8k. One and a half to three hours a seed on 2 CPU cores.
#   scripts/results_smollm2.sh [seed ...]
# ONLY="ppo/arithmetic dpo/gsm8k": these recipes alone; ONLY=none: the page from what is there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
take_seeds "$@"
cd "$root"
base=.deps/models/smollm2-135m-instruct.gguf
out=out/smollm2
mkdir -p "$out"

# train RECIPE NAME [settings]: into $out/NAME
train() {
  local recipe=$1 folder=$out/$2
  shift 2
  [ -f "$folder/report.html" ] && [ -d "$folder/final" ] && return
  say "$folder"
  "$meed" train "configs/$recipe.yaml" --resume run.output_dir="$folder" "$@" >> "$folder.log" 2>&1 || die "$recipe failed; its output is in $folder.log"
}

# evaluate RECIPE NAME START [settings]: the policy $out/NAME beside the model that it started from
evaluate() {
  local recipe=$1 name=$2 start=$3 folder=$out/eval-$2
  shift 3
  [ -f "$folder/results.json" ] && return
  say "$folder"
  "$meed" eval "configs/eval/$recipe.yaml" output_dir="$folder" models="[$start, $out/$name/final]" "$@" > "$folder.log" 2>&1 || die "eval/$recipe failed; its output is in $folder.log"
}

for seed in "${seeds[@]}"; do
  for recipe in dpo/arithmetic ppo/arithmetic grpo/hybrid_arithmetic cooper/arithmetic grpo/gsm8k ppo/gsm8k grpo/hybrid_gsm8k cooper/gsm8k dpo/gsm8k; do
    [ -z "${ONLY:-}" ] || [[ " $ONLY " == *" $recipe "* ]] || continue
    name=${recipe/\//-}-seed-$seed
    start=$base settings=(run.seed="$seed") eval_settings=()
    case $recipe in
      cooper/arithmetic)
        train reward_modelling/arithmetic_verifier verifier-arithmetic
        settings+=("rewards[0].path=$out/verifier-arithmetic/final") eval_settings=('data.system_prompt=You are a calculator.') ;;
      grpo/hybrid_gsm8k | cooper/gsm8k)
        train cooper/gsm8k_verifier verifier-gsm8k
        judged=$out/verifier-gsm8k.json
        [ -s "$judged" ] || python3 scripts/verifier_probabilities.py "$out/verifier-gsm8k/final" --meed "$meed" > "$judged"
        [ $recipe = cooper/gsm8k ] && key=path || key=model.path
        settings+=("rewards[0].$key=$out/verifier-gsm8k/final") ;;
      ppo/arithmetic | grpo/hybrid_arithmetic) eval_settings=('data.kinds=[addition]' 'data.system_prompt=You are a calculator.') ;;
    esac
    if grep -q '^warm_start:' "configs/$recipe.yaml"; then
      start=$out/$name/warm_start/final
      if [[ $recipe == *gsm8k && ! -d $start ]]; then
        shared=$(find "$out" -path "*gsm8k-seed-$seed/warm_start/final" -print -quit)
        mkdir -p "$out/$name"
        [ -z "$shared" ] || cp -r "$(dirname "$shared")" "$out/$name/"
      fi
    fi
    train $recipe "$name" "${settings[@]}"
    [[ $recipe == *gsm8k ]] && problems=gsm8k || problems=arithmetic
    evaluate $problems "$name" "$start" "${eval_settings[@]}"
  done
done

python3 - "$out" > docs/results/smollm2-policies.md.tmp <<'PY'
import functools, json, pathlib, re, statistics, sys
out, page, notes = pathlib.Path(sys.argv[1]), pathlib.Path("docs/results/smollm2-policies.md"), pathlib.Path("docs/results/smollm2-policies.notes.md")
SECTIONS = {
    "Generated arithmetic": ["dpo/arithmetic", "ppo/arithmetic", "cooper/arithmetic", "grpo/hybrid_arithmetic"],
    "GSM8K": ["grpo/gsm8k", "ppo/gsm8k", "grpo/hybrid_gsm8k", "cooper/gsm8k", "dpo/gsm8k"],
}
COLUMNS = ["recipe", "seed", "steps", "training", "accuracy before", "after", "difference", "KL", "seconds a step", "minutes", "peak memory, MB"]

@functools.cache
def lines_of(folder):
    return [json.loads(line) for line in open(folder / "metrics.jsonl")]

def metrics(folder, key):
    return [line[key] for line in lines_of(folder) if line.get(key) is not None]

def ends(folder, key):
    values = metrics(folder, key)
    return f"{statistics.mean(values[:10]):.3f} to {statistics.mean(values[-10:]):.3f}"

def accuracies(name):
    """Accuracy before and after and their difference, as the evaluation writes them."""
    path = out / f"eval-{name}" / "results.json"
    if not path.exists():
        return ["", "", ""]
    return [f"{x['value']:.3f} ({x['low']:.3f} to {x['high']:.3f})"
            for metric in ("rewards/math_answer", "rewards/math_answer less")
            for x in json.loads(path.read_text()) if x["metric"].partition(" that of")[0] == metric]

# Rows of runs that are not on this machine stay as the page has them.
rows, verifiers = {}, {}
for line in page.read_text().splitlines() if page.exists() else []:
    if match := re.match(r"\| \[(\S+)\]\(\S+\) \| (\d+) \|", line):
        rows[match[1], int(match[2])] = line
    elif match := re.match(r"- verifier of (\S+, seed \d+|\S+):", line):
        verifiers[match[1]] = line

for recipe in sum(SECTIONS.values(), []):
    for folder in out.glob(f"{recipe.replace('/', '-')}-seed-*"):
        if not (folder / "report.html").exists() or not (folder / "final").exists():
            continue
        seed = int(folder.name.rpartition("-")[2])
        key = next(key for key in ("rewards/rule/mean", "rewards/math_answer/mean", "reward", "rewards/accuracies") if metrics(folder, key))
        kl = metrics(folder, "objective/kl") or metrics(folder, "kl")
        cells = [f"[{recipe}](../../configs/{recipe}.yaml)", seed, len(metrics(folder, "step_time")), f"`{key}` {ends(folder, key)}", *accuracies(folder.name),
                 f"{statistics.mean(kl[-10:]):.3f}" if kl else "", f"{statistics.median(metrics(folder, 'step_time')):.1f}",
                 f"{sum(max(metrics(x, 'elapsed_s')) for x in (folder, folder / 'warm_start') if x.exists()) / 60:.0f}", f"{max(metrics(folder, 'memory/peak_rss_mb')):.0f}"]
        rows[recipe, seed] = "| " + " | ".join(map(str, cells)) + " |"
        if recipe.startswith("cooper"):
            held = metrics(folder, "verifier/heldout_accuracy")
            verifiers[f"{recipe}, seed {seed}"] = (f"- verifier of {recipe}, seed {seed}: {sum(metrics(folder, 'verifier/pairs')):.0f} pairs learnt from; share of held-out texts on "
                                                   f"their side of 1/2: {', '.join(f'{value:.3f}' for value in held)}")
for name in ("reward_modelling/arithmetic_verifier", "cooper/gsm8k_verifier"):
    folder = out / ("verifier-arithmetic" if "arithmetic" in name else "verifier-gsm8k")
    if (folder / "report.html").exists():
        verifiers[name] = f"- verifier of {name}: pairs with the right answer above the wrong one {ends(folder, 'accuracy')}"
        if (judged := folder.with_suffix(".json")).exists():
            says = json.loads(judged.read_text())
            kinds = ", ".join(f"{says[kind]:.3f} of {kind} ones" for kind in ("right", "wrong", "cut short"))
            verifiers[name] += f"; mean probability of other models' solutions of {says['problems']} problems: {kinds}; right above wrong {says['right above wrong']:.3f}"

print("# SmolLM2-135M-Instruct, trained whole by the recipes\n")
print("""Made by `scripts/results_smollm2.sh`: the recipes as they stand in `configs/`, in bfloat16 on 2 CPU cores. Training: means over the first and the last ten steps. Accuracy: greedy
answers to the held-out problems of `configs/eval/arithmetic.yaml` and `configs/eval/gsm8k.yaml`, with intervals at 95 %; the difference is paired, over the same problems. On arithmetic
PPO and GRPO learn and answer additions, DPO and Cooper subtractions too. DPO starts from the published model, the others from the recipe's own short SFT, which the GSM8K recipes share. KL: mean over the last ten steps,
nats a completion (ppo) or a token (cooper); seconds a step: median; minutes: with the SFT.""")
for title, recipes in SECTIONS.items():
    print(f"\n## {title}\n\n| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for recipe in recipes:
        mine = [row for key, row in sorted(rows.items()) if key[0] == recipe]
        print("\n".join(mine) if mine else f"| [{recipe}](../../configs/{recipe}.yaml) | not run |" + " |" * (len(COLUMNS) - 2))
    for recipe in recipes:
        rises = [float(cell[0]) for key, row in rows.items() if key[0] == recipe and (cell := row.split(" | ")[6].split())]
        if len(rises) > 1:
            print(f"\n{recipe}: mean difference {statistics.mean(rises):+.3f}, standard deviation over {len(rises)} seeds {statistics.stdev(rises):.3f}.")
print("\n## Verifiers\n")
print("\n".join(line for _, line in sorted(verifiers.items())))
if notes.exists():
    print("\n" + notes.read_text().strip())
PY
mv docs/results/smollm2-policies.md.tmp docs/results/smollm2-policies.md
say "written: docs/results/smollm2-policies.md"
