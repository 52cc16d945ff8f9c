#!/usr/bin/env python3
"""A Bradley-Terry reward model by meed and by TRL's RewardTrainer: the same model, rows, steps, batch and rate, accuracy on rows held out by question.

    benchmarks/reward_modelling.py {hh,gsm8k} MODEL_FOLDER --data FILE [--seeds 0 1] [--steps 40] [--batch 8] [--python VENV/bin/python]

hh: HH-RLHF's .jsonl.gz; gsm8k: example_model_solutions.jsonl (every right solution of a question beside a wrong one). Rows longer than
--max-length tokens are left out on both sides. Prints a Markdown row per seed and program: held-out accuracy with its standard error, seconds per
training step (median), peak memory. MEED names the program; --python one with torch, transformers, datasets and trl. Both run with as many threads
as the machine has cores, in turn.
"""
import argparse, gzip, json, os, pathlib, random, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def hh_rows(path):
    for line in gzip.open(path, "rt", encoding="utf-8"):
        row = json.loads(line)
        sides = []
        for side in ("chosen", "rejected"):
            turns = row[side].strip().split("\n\n")
            messages = []
            for turn in turns:
                role, found, text = turn.partition(": ")
                if found and role in ("Human", "Assistant"):
                    messages.append({"role": "user" if role == "Human" else "assistant", "content": text})
                elif messages:
                    messages[-1]["content"] += "\n\n" + turn
            sides.append(messages)
        if all(len(side) >= 2 and side[-1]["role"] == "assistant" for side in sides) and sides[0][:-1] == sides[1][:-1] and sides[0] != sides[1]:
            yield sides[0][0]["content"], sides[0][:-1], sides[0][-1:], sides[1][-1:]


def gsm8k_rows(path):
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        solutions = [value for value in row.values() if isinstance(value, dict) and "solution" in value]
        right = [s["solution"] for s in solutions if s["is_correct"]]
        wrong = [s["solution"] for s in solutions if not s["is_correct"]]
        for chosen, rejected in zip(right, wrong):
            message = lambda text: [{"role": "assistant", "content": text}]
            yield row["question"], [{"role": "user", "content": row["question"]}], message(chosen), message(rejected)


def write_rows(arguments, folder):
    """train.jsonl and eval.jsonl; questions of one never stand in the other."""
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    groups = {}
    for question, prompt, chosen, rejected in {"hh": hh_rows, "gsm8k": gsm8k_rows}[arguments.kind](arguments.data):
        lengths = [len(tokenizer.apply_chat_template(prompt + side, return_dict=True)["input_ids"]) for side in (chosen, rejected)]
        if max(lengths) <= arguments.max_length:
            groups.setdefault(question, []).append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    questions = sorted(groups)
    random.Random(0).shuffle(questions)
    cut = int(len(questions) * arguments.eval_fraction)
    for name, part in (("eval", questions[:cut]), ("train", questions[cut:])):
        rows = [row for question in part for row in groups[question]]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"{name}: {len(rows)} pairs of {len(part)} questions", file=sys.stderr)


def train_trl(arguments, folder):
    import resource, statistics, time
    import torch, trl
    from datasets import load_dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

    class Clock(TrainerCallback):
        times = []
        def on_step_begin(self, *_, **__): self.start = time.perf_counter()
        def on_step_end(self, *_, **__): Clock.times.append(time.perf_counter() - self.start)

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    torch.manual_seed(arguments.seeds[0])
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id
    data = load_dataset("json", data_files={name: str(folder / f"{name}.jsonl") for name in ("train", "eval")})
    trainer = trl.RewardTrainer(model, processing_class=tokenizer, callbacks=[Clock()], train_dataset=data["train"], eval_dataset=data["eval"], args=trl.RewardConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=arguments.batch, per_device_eval_batch_size=arguments.batch, max_steps=arguments.steps, learning_rate=arguments.learning_rate,
        warmup_steps=arguments.warmup_steps, lr_scheduler_type="linear", weight_decay=0.0, max_length=arguments.max_length, bf16=True, use_cpu=True, gradient_checkpointing=False, save_strategy="no",
        report_to=[], seed=arguments.seeds[0], disable_tqdm=True, logging_steps=10))
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    scores = trainer.evaluate()
    return {"accuracy": scores["eval_accuracy"], "seconds_per_step": statistics.median(Clock.times), "training_s": sum(Clock.times), "peak_rss_mb": peak}


def train_meed(arguments, folder, seed):
    import statistics
    run = folder / f"meed-{seed}"
    rows = lambda name: {"type": "jsonl", "path": str(folder / f"{name}.jsonl")}
    recipe = {
        "run": {"output_dir": str(run), "seed": seed, "max_steps": arguments.steps, "save_steps": 0},
        "model": {"path": str(pathlib.Path(arguments.model).resolve()), "dtype": "bfloat16"},
        "algorithm": {"type": "reward_modelling", "max_length": arguments.max_length},
        "data": rows("train"), "eval_data": rows("eval"),
        "optim": {"learning_rate": arguments.learning_rate, "per_device_train_batch_size": arguments.batch, "warmup_steps": arguments.warmup_steps, "lr_scheduler_type": "linear"}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    program = os.environ.get("MEED", str(ROOT / "build/release/bin/meed"))
    subprocess.run([program, "train", str(folder / "recipe.yaml")], check=True, stdout=sys.stderr)
    metrics = [json.loads(line) for line in open(run / "metrics.jsonl")]
    times = [row["step_time"] for row in metrics if row.get("step_time")]
    return {"accuracy": [row["eval_accuracy"] for row in metrics if "eval_accuracy" in row][-1], "seconds_per_step": statistics.median(times),
            "training_s": sum(times), "peak_rss_mb": metrics[-1]["memory/peak_rss_mb"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["hh", "gsm8k"])
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--eval-fraction", type=float, default=0.15)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--warmup-steps", type=int, default=4)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--stage", choices=["rows", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    folder = pathlib.Path(arguments.folder or tempfile.mkdtemp())
    if arguments.stage == "rows":
        return write_rows(arguments, folder)
    if arguments.stage == "trl":
        return print(json.dumps(train_trl(arguments, folder)))

    def stage(name, seed):
        options = [word for key in ("data", "steps", "batch", "max_length", "eval_fraction", "learning_rate", "warmup_steps")
                   for word in ("--" + key.replace("_", "-"), str(getattr(arguments, key)))]
        command = [arguments.python, __file__, arguments.kind, arguments.model, *options, "--seeds", str(seed), "--stage", name, "--folder", str(folder)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    stage("rows", arguments.seeds[0])
    held_out = sum(1 for _ in open(folder / "eval.jsonl"))
    print("| rows | seed | program | held-out accuracy | s a step | training, s | peak MB |\n|---|---|---|---|---|---|---|")
    for seed in arguments.seeds:
        for program in ("meed", "TRL"):
            result = train_meed(arguments, folder, seed) if program == "meed" else json.loads(stage("trl", seed).splitlines()[-1])
            error = (result["accuracy"] * (1 - result["accuracy"]) / held_out) ** 0.5
            print(f"| {arguments.kind} | {seed} | {program} | {result['accuracy']:.3f} ({error:.3f}) | {result['seconds_per_step']:.2f} | "
                  f"{result['training_s']:.0f} | {result['peak_rss_mb']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
