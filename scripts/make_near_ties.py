"""Writes configs/paper/data/22-pairs.jsonl and 22-answers.jsonl for configs/paper/22-mm-dpo.yaml.

    python3 scripts/make_near_ties.py

Eight prompts have ten answers each, answer k better than answer k - 1. All 45 pairs of a prompt stand in the data with the reward
model's gap as `margin`: the true one, 1 to 9, for seven pairs in ten. The others are near ties, drawn among pairs at most three
answers apart: the reward model sees a gap below one half, and the label is the wrong way round. `gold` of an answer is how often it
wins against an answer drawn at random (a tie counts half).
"""
import json
import pathlib
import random

NUM_PROMPTS, NUM_ANSWERS, NOISY_SHARE, CLOSE = 8, 10, 0.3, 3


def write(path, rows):
    with open(path, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def main():
    stream = random.Random(22)
    pairs, answers = [], []
    gold = json.dumps({str(k): (k + 0.5) / NUM_ANSWERS for k in range(NUM_ANSWERS)})
    for group in range(NUM_PROMPTS):
        prompt = f"group {group} ?"
        order = [(better, worse) for better in range(NUM_ANSWERS) for worse in range(better)]
        close = [pair for pair in order if pair[0] - pair[1] <= CLOSE]
        noisy = set(stream.sample(close, round(NOISY_SHARE * len(order))))
        for better, worse in order:
            chosen, rejected, margin = better, worse, float(better - worse)
            if (better, worse) in noisy:
                chosen, rejected, margin = worse, better, round(stream.uniform(0.0, 0.5), 2)
            pairs.append({"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected}", "margin": margin})
        answers += [{"prompt": prompt, "completion": f" {k}", "gold": gold} for k in range(NUM_ANSWERS)]
    folder = pathlib.Path(__file__).resolve().parent.parent / "configs/paper/data"
    write(folder / "22-pairs.jsonl", pairs)
    write(folder / "22-answers.jsonl", answers)


if __name__ == "__main__":
    main()
