#!/usr/bin/env bash
# Runs the acceptance checks of published systems (configs/paper) and writes their figures beside the required ones to
# docs/results/PAGE.md. A study that has its results.json already is not run again.
#   scripts/results_papers.sh reward-models|policy-optimisation [study settings, for example run.seed=100 study.num_seeds=3]
# ONLY="09 32": these systems alone. Rows of studies without results on this machine stay as the page has them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
page=${1:-}
case $page in
  reward-models) title="Reward models"; pattern='^(09|13|21|22-mm-rlhf|23|24|30|31|32|41-steerlm2|46|51|52-gpm|54|55)' ;;
  policy-optimisation) title="Policy optimisation and its rewards"; pattern='^(03|04|10|22-mm-dpo|25|27|29|34|36|37|38|40|41-steerlm-alignment|45|47|52-gpo|53)' ;;
  *) die "expected reward-models or policy-optimisation, got \"$page\"" ;;
esac
shift
cd "$root"
mkdir -p out/results
recipes=()
for recipe in configs/paper/*.yaml; do
  name=$(basename "$recipe" .yaml)
  [[ $name =~ $pattern ]] || continue
  recipes+=("$recipe")
  [ -z "${ONLY:-}" ] || [[ " $ONLY " == *" ${name%%-*} "* ]] || continue
  out=out/results/$name
  [ -f "$out/results.json" ] && continue
  say "$name"
  begun=$SECONDS
  if "$meed" train "$recipe" --resume "run.output_dir=$out" "$@" >"$out.log" 2>&1; then
    echo $((SECONDS - begun)) > "$out/seconds"
  else
    say "$name failed; its output is in $out.log"
  fi
done
python3 - "$title" "$page" "$*" "${recipes[@]}" > "docs/results/$page.md.tmp" <<'PY'
import json, os, sys
title, page, settings, *recipes = sys.argv[1:]
command = f"scripts/results_papers.sh {page} {settings}".strip()
print(f"# {title}: acceptance checks of published systems\n")
print(f"Made by `{command}` from the recipes in `configs/paper`; each claim is about the mean over the seeds, the sample deviation stands in")
print("brackets. What a check asks for is this project's own acceptance check of the mechanism at a small scale, no published result.\n")
page_path = f"docs/results/{page}.md"
before, name = {}, None  # rows that the page has, by study
for line in open(page_path) if os.path.exists(page_path) else []:
    if not line.startswith("| ") or line.startswith("| recipe"):
        continue
    if line.startswith("| ["):
        name = line[3:line.index("]")]
    before.setdefault(name, []).append(line.rstrip("\n"))
rows, reached, total = [], 0, 0
for recipe in recipes:
    name = os.path.basename(recipe)[:-5]
    path = f"out/results/{name}/results.json"
    if not os.path.exists(path):
        known = before.get(name, [f"| [{name}](../../{recipe}) | not run | | | |"])
        rows += known
        reached += sum(row.endswith("| yes |") for row in known)
        total += sum(row.endswith(("| yes |", "| **no** |")) for row in known)
        continue
    results = json.load(open(path))
    seconds = open(f"out/results/{name}/seconds").read().strip() if os.path.exists(f"out/results/{name}/seconds") else ""
    seeds = ", ".join(map(str, results["seeds"]))
    for i, check in enumerate(results["checks"]):
        total += 1
        claim = check["claim"].replace("|", "\\|")
        reached += check["reached"]
        figure = "no value" if check["mean"] is None else f"{check['mean']:.4g} ({check['deviation']:.2g})"
        first = f"[{name}](../../{recipe})<br>seeds {seeds}; {seconds} s" if i == 0 else ""
        rows.append(f"| {first} | {claim} | {figure} | {check['required']} | {'yes' if check['reached'] else '**no**'} |")
print(f"{reached} of {total} checks are reached.\n")
print("| recipe | claim | figure | required | reached |\n|---|---|---|---|---|")
print("\n".join(rows))
notes = f"docs/results/{page}.notes.md"
if os.path.exists(notes):
    print("\n" + open(notes).read().strip())
PY
mv "docs/results/$page.md.tmp" "docs/results/$page.md"
say "written: docs/results/$page.md"
