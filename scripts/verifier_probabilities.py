#!/usr/bin/env python3
"""What a verifier of GSM8K says of solutions that other models wrote: its mean probability of right ones, wrong ones, and right ones cut short before their answer.

  scripts/verifier_probabilities.py MODEL [--problems 60] [--meed build/release/bin/meed]

The solutions are those of ../shared/data/gsm8k/example_model_solutions.jsonl, one of each kind a problem. Prints one line of JSON.
"""
import argparse, json, math, pathlib, random, statistics, subprocess

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="folder of a reward model")
parser.add_argument("--problems", type=int, default=60)
parser.add_argument("--meed", default="build/release/bin/meed")
parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data/gsm8k/example_model_solutions.jsonl"))
parser.add_argument("--template", default="{prompt}Reference answer: {reference}\n", help="what the verifier learnt from")
arguments = parser.parse_args()

draw = random.Random(0)
written = lambda text: text.replace("\nA: ", "\n#### ")  # as the rows that the verifier learnt from
rows, kinds = [], []
for line in arguments.data.read_text().splitlines():
    problem = json.loads(line)
    solutions = [value for value in problem.values() if isinstance(value, dict)]
    right = [written(each["solution"]) for each in solutions if each["is_correct"]]
    wrong = [written(each["solution"]) for each in solutions if not each["is_correct"]]
    words = right[0].split("####")[0].split(" ") if right else []
    if not right or not wrong or len(words) < 2:
        continue
    reference = written(problem["ground_truth"])
    prompt = arguments.template.format(prompt=problem["question"], reference=reference, final_answer=reference.rpartition("#### ")[2])
    for kind, text in (("right", right[0]), ("wrong", draw.choice(wrong)), ("cut short", " ".join(words[:draw.randint(1, len(words) - 1)]))):
        kinds.append(kind)
        rows.append({"prompt": [{"role": "user", "content": prompt}], "completion": [{"role": "assistant", "content": text}]})
    if len(rows) == 3 * arguments.problems:
        break
scored = subprocess.run([arguments.meed, "score", "--model", arguments.model, "--dtype", "bfloat16"], input="".join(json.dumps(row) + "\n" for row in rows),
                        stdout=subprocess.PIPE, text=True, check=True)
probabilities = {kind: [] for kind in kinds}
for kind, line in zip(kinds, scored.stdout.splitlines(), strict=True):
    probabilities[kind].append(1 / (1 + math.exp(-json.loads(line)["reward"])))
print(json.dumps({kind: round(statistics.mean(values), 3) for kind, values in probabilities.items()} | {
    "problems": len(rows) // 3,
    "right above wrong": round(statistics.mean(a > b for a, b in zip(probabilities["right"], probabilities["wrong"])), 3)}))
