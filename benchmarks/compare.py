#!/usr/bin/env python3
"""`meed bench` beside another program that does the same work, in turn in one run, so that both meet the same machine.

    benchmarks/compare.py TASK MODEL_FOLDER PEER_COMMAND [--rounds 3] [--dtype bfloat16] [--batch 4 ...] [-- OPTIONS]

TASK: a subcommand of `meed bench` (generate, train-step, sft, reward, dpo, grpo). PEER_COMMAND: one string, split as a shell
splits words; {model} in it becomes MODEL_FOLDER. Both are given --dtype, --batch, OPTIONS and the number of repeats. Each must
end its output with one line of JSON with tokens_per_s (more is better) or seconds_per_step (less is better), and peak_rss_mb.

Prints a Markdown table: per batch size the medians over all rounds, how many times faster meed is, the share of the peer's
memory that it takes, and the same for the time from start to the first step where both report it.
MEED names the program (default build/release/bin/meed).
"""
import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys


def measure(command: list[str]) -> dict:
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [line for line in finished.stdout.splitlines() if line.startswith("{")]
    if finished.returncode != 0 or not lines:
        sys.exit(f"{shlex.join(command)} failed with status {finished.returncode}:\n{finished.stderr[-2000:]}")
    return json.loads(lines[-1])


def main() -> None:
    arguments, options = sys.argv[1:], []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, options = arguments[:cut], arguments[cut + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("model")
    parser.add_argument("peer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, nargs="+", default=[4])
    parser.add_argument("--steps", type=int, default=3, help="repeats within a round")
    parser.add_argument("--peer-steps", default="steps", help="what the peer calls --steps")
    chosen = parser.parse_args(arguments)

    root = pathlib.Path(__file__).resolve().parent.parent
    meed = os.environ.get("MEED", str(root / "build/release/bin/meed"))
    peer = [word.replace("{model}", chosen.model) for word in shlex.split(chosen.peer)]
    print("| task | batch | meed | peer | faster | meed MB | peer MB | memory | start to first step, s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for batch in chosen.batch:
        common = ["--dtype", chosen.dtype, "--batch", str(batch), *options]
        sides: dict[str, list[dict]] = {"meed": [], "peer": []}
        for _ in range(chosen.rounds):
            steps = str(chosen.steps)
            sides["meed"].append(measure([meed, "bench", chosen.task, "--model", chosen.model, *common, "--steps", steps]))
            sides["peer"].append(measure([*peer, *common, "--" + chosen.peer_steps, steps]))
        key = "tokens_per_s" if chosen.task == "generate" else "seconds_per_step"
        median = {
            side: {name: statistics.median(row[name] for row in rows) for name in (key, "peak_rss_mb")}
            for side, rows in sides.items()
        }
        ratio = median["meed"][key] / median["peer"][key]
        faster = ratio if key == "tokens_per_s" else 1 / ratio
        unit = "tokens/s" if key == "tokens_per_s" else "s a step"
        starts = [
            statistics.median(row["start_to_first_step_s"] for row in rows)
            for rows in sides.values()
            if all(row.get("start_to_first_step_s") for row in rows)
        ]
        start = f"{starts[0]:.2f} / {starts[1]:.2f}" if len(starts) == 2 else ""
        memory = {side: row["peak_rss_mb"] for side, row in median.items()}
        print(
            f"| {chosen.task} {chosen.dtype} {' '.join(options)} | {batch} | {median['meed'][key]:.4g} {unit} | "
            f"{median['peer'][key]:.4g} {unit} | {faster:.2f}x | {memory['meed']:.0f} | {memory['peer']:.0f} | "
            f"{memory['meed'] / memory['peer']:.2f} | {start} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
