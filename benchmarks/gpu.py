#!/usr/bin/env python3
"""Training on a GPU: meed beside transformers on models of random weights, the same shapes and token ids, in one run.

    MEED=build/cuda/bin/meed benchmarks/gpu.py [--shapes smollm2-135m 1.5b] [--steps 10]

Needs the preset `cuda` and a Python with torch (CUDA) and transformers. First the log-probabilities of both on the same rows, then
forward, backward and AdamW of the next-token loss: bfloat16 products and float32 weights (transformers under autocast, fused
AdamW, scaled_dot_product_attention), and float32. Prints Markdown tables; the last line of a measurement is the median of its steps.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers

SHAPES = {
    "smollm2-135m": dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                         num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, rope_theta=100000.0),
    "1.5b": dict(vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
                 num_key_value_heads=2, max_position_embeddings=8192, tie_word_embeddings=True, rope_theta=1000000.0),
}
MEED = os.environ.get("MEED", str(pathlib.Path(__file__).resolve().parent.parent / "build/cuda/bin/meed"))


def make_model(name, folder):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SHAPES[name], bos_token_id=1, eos_token_id=2)
    model = transformers.LlamaForCausalLM(config).float()
    model.save_pretrained(folder)
    return model


def run_meed(arguments, stdin=None):
    finished = subprocess.run([MEED, *arguments], input=stdin, text=True, capture_output=True)
    if finished.returncode != 0:
        sys.exit(f"meed {' '.join(arguments)}: status {finished.returncode}\n{finished.stderr[-3000:]}")
    return [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("{")]


def compare_logprobs(model, folder, vocab_size):
    """Largest and mean absolute difference of log-probabilities over rows of several lengths."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(100, vocab_size, (length,), generator=generator) for length in (700, 33, 256, 250, 4, 512)]
    text = "".join(json.dumps({"ids": row.tolist()}) + "\n" for row in rows)
    print("| meed | against transformers | largest difference | mean |\n|---|---|---|---|")
    for device, dtype in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16")):
        found = run_meed(["logprobs", "--model", str(folder), "--device", device, "--dtype", dtype], text)
        there = model.to("cuda", dtype=getattr(torch, dtype))
        differences = []
        for row, result in zip(rows, found):
            with torch.no_grad():
                logits = there(row[None].cuda()).logits[0].float()
            expected = logits[:-1].log_softmax(-1).gather(1, row[1:, None].cuda())[:, 0].cpu()
            differences.append((torch.tensor(result["logprobs"][1:]) - expected).abs())
        all_of_them = torch.cat(differences)
        print(f"| {device} {dtype} | cuda {dtype} | {all_of_them.max():.2g} | {all_of_them.mean():.2g} |", flush=True)
    model.float()


def time_transformers(model, dtype, batch, tokens, steps):
    model = model.cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.01, fused=True)
    ids = torch.randint(100, model.config.vocab_size - 100, (batch, tokens), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    times = []
    try:
        for _ in range(steps + 2):
            start = time.perf_counter()
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times[2:]), torch.cuda.max_memory_allocated() / 2**20
    except torch.OutOfMemoryError:
        return None
    finally:
        model.zero_grad(set_to_none=True)
        model.cpu()
        loss = optimizer = None
        torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cases", nargs="+", default=["bfloat16:8x512", "bfloat16:32x1024", "float32:8x512"],
                        help="dtype:rows x tokens of a row")
    chosen = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, transformers {transformers.__version__}\n")
    for name in chosen.shapes:
        with tempfile.TemporaryDirectory() as folder:
            model = make_model(name, folder)
            print(f"## {name}\n")
            compare_logprobs(model, folder, SHAPES[name]["vocab_size"])
            print("\n| dtype | rows x tokens | meed, tokens/s | transformers, tokens/s | ratio | meed, GPU MB | transformers, GPU MB |\n|---|---|---|---|---|---|---|")
            for case in chosen.cases:
                dtype, size = case.split(":")
                batch, tokens = (int(part) for part in size.split("x"))
                result = run_meed(["bench", "train-step", "--model", folder, "--device", "cuda", "--dtype", dtype, "--batch", str(batch),
                                   "--tokens", str(tokens), "--steps", str(chosen.steps + 1)])[-1]
                ours = statistics.median(result["all"][1:])
                peer = time_transformers(model, dtype, batch, tokens, chosen.steps)
                theirs = "out of memory | | " if peer is None else f"{batch * tokens / peer[0]:,.0f} | {peer[0] / ours:.2f}x | "
                memory = "" if peer is None else f"{peer[1]:,.0f}"
                print(f"| {dtype} | {batch} x {tokens} | {batch * tokens / ours:,.0f} | {theirs}{result['peak_gpu_mb']:,.0f} | {memory} |", flush=True)
            print()


main()
