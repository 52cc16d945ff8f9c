#!/usr/bin/env python3
"""Folders that meed writes, read back by transformers and PEFT.

usage: python tests/peers/read_back.py --program build/release/bin/meed [--tokenizer FOLDER_OR_GGUF]

Tiny models of random weights of every family go through `meed import`, `meed train` (sft with LoRA, reward_modelling)
and `meed logprobs`; what comes out must give the same numbers in transformers. Exit code 77: a package is missing.
"""
import argparse, json, os, pathlib, subprocess, sys, tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
try:
    import torch, transformers as T
    from peft import PeftModel
except ImportError as problem:
    print(f"skipped: {problem}; pip install torch transformers peft", file=sys.stderr)
    sys.exit(77)

COMMON = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=64)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
FAMILIES = {
    "llama": lambda V: T.LlamaConfig(vocab_size=V, **COMMON),
    "llama3": lambda V: T.LlamaConfig(vocab_size=V, **COMMON, tie_word_embeddings=True, rope_parameters=LLAMA3),
    "llama_yarn": lambda V: T.LlamaConfig(vocab_size=V, **COMMON, rope_parameters=YARN),
    "llama_biases": lambda V: T.LlamaConfig(vocab_size=V, **COMMON, attention_bias=True, mlp_bias=True),
    "mistral": lambda V: T.MistralConfig(vocab_size=V, **COMMON, sliding_window=7),
    "qwen2": lambda V: T.Qwen2Config(vocab_size=V, **COMMON, tie_word_embeddings=True),
    "qwen2_windows": lambda V: T.Qwen2Config(vocab_size=V, **COMMON, use_sliding_window=True, sliding_window=7, max_window_layers=1),
    "qwen3": lambda V: T.Qwen3Config(vocab_size=V, **COMMON, head_dim=16),
    "gpt2": lambda V: T.GPT2Config(vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2, pad_token_id=0),
}
failures = []


def check(name, value, limit):
    print(f"{'ok  ' if value <= limit else 'FAIL'} {name}: {value:.2e} (at most {limit:.0e})", flush=True)
    if not value <= limit:
        failures.append(name)


def meed(*arguments, stdin=None):
    done = subprocess.run([PROGRAM, *map(str, arguments)], input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"meed {' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def ids_of(seed, count, vocabulary):
    return [3 + (seed * 7919 + 104729 * (i + 1) * (i + 3)) % (vocabulary - 3) for i in range(count)]


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float()


def difference(a, b):
    return float((a - b).abs().max())


def language_model(name, config, folder):
    """transformers writes, meed reads and writes, transformers reads."""
    model = T.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() > 1 or key.endswith("bias"):
                parameter.normal_(0, 0.15)
    model.save_pretrained(folder / "theirs")
    rows = [ids_of(1, 40, config.vocab_size), ids_of(2, 5, config.vocab_size)]
    out = meed("logprobs", "--model", folder / "theirs", stdin="".join(json.dumps({"ids": row}) + "\n" for row in rows))
    for row, line in zip(rows, out.splitlines()):
        ours = torch.tensor(json.loads(line)["logprobs"][1:])
        theirs = torch.log_softmax(logits(model, row)[:-1], -1).gather(1, torch.tensor(row[1:])[:, None])[:, 0]
        check(f"{name}: log-probabilities of {len(row)} tokens", difference(ours, theirs), 1e-4)
    meed("import", folder / "theirs", folder / "ours")
    again = T.AutoModelForCausalLM.from_pretrained(folder / "ours", dtype=torch.float32).eval()
    if type(again) is not type(model):
        failures.append(f"{name}: read back as {type(again).__name__}")
    check(f"{name}: imported folder", max(difference(logits(model, row), logits(again, row)) for row in rows), 0.0)
    meed("import", folder / "theirs", folder / "ours16", "--dtype", "bfloat16")
    half = T.AutoModelForCausalLM.from_pretrained(folder / "ours16", dtype=torch.float32).eval()
    rounded = max(difference(p.bfloat16().float(), q) for p, q in zip(model.parameters(), half.parameters()))
    check(f"{name}: imported as bfloat16", rounded, 0.0)


def write_recipe(folder, name, model, algorithm, data, more=""):
    path = folder / f"{name}.yaml"
    path.write_text(f"run: {{output_dir: {folder / name}, max_steps: 2, save_steps: 2}}\nmodel: {{path: {model}}}\n"
                    f"algorithm: {{{algorithm}}}\ndata: {data}\noptim: {{learning_rate: 1.0e-2, per_device_train_batch_size: 4}}\n{more}")
    return path


def adapter(name, folder, rows_file):
    """An adapter of PEFT, read by PEFT on the base; and the merged model beside it."""
    recipe = write_recipe(folder, "lora", folder / "trainable", "type: sft", f"{{type: jsonl, path: {rows_file}}}",
                          "lora: {r: 4, lora_alpha: 8}\n")
    meed("train", recipe)
    final = folder / "lora" / "final"
    base = T.AutoModelForCausalLM.from_pretrained(folder / "trainable", dtype=torch.float32)
    ids = ids_of(3, 30, base.config.vocab_size)
    before = logits(base.eval(), ids)
    with_adapter = PeftModel.from_pretrained(base, final / "adapter").eval()
    merged = T.AutoModelForCausalLM.from_pretrained(final, dtype=torch.float32).eval()
    check(f"{name}: adapter against merged model", difference(logits(with_adapter, ids), logits(merged, ids)), 1e-4)
    if difference(before, logits(merged, ids)) < 1e-3:
        failures.append(f"{name}: the adapter changes nothing")
    meed("import", folder / "trainable", folder / "merged", "--merge-adapter", final / "adapter")
    imported = T.AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32).eval()
    check(f"{name}: meed import --merge-adapter", difference(logits(imported, ids), logits(merged, ids)), 1e-5)
    with_adapter.save_pretrained(folder / "peft")
    meed("import", folder / "trainable", folder / "merged2", "--merge-adapter", folder / "peft")
    imported = T.AutoModelForCausalLM.from_pretrained(folder / "merged2", dtype=torch.float32).eval()
    check(f"{name}: an adapter that PEFT wrote", difference(logits(imported, ids), logits(merged, ids)), 1e-5)


def classifier(name, folder, pairs_file):
    meed("train", write_recipe(folder, "reward", folder / "trainable", "type: reward_modelling", f"{{type: jsonl, path: {pairs_file}}}"))
    final = folder / "reward" / "final"
    model = T.AutoModelForSequenceClassification.from_pretrained(final, dtype=torch.float32).eval()
    tokenizer = T.AutoTokenizer.from_pretrained(final)
    texts = [("the cat", " sat"), ("one two three", " four five")]
    out = meed("score", "--model", final, stdin="".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in texts))
    rewards = []
    for line in out.splitlines():
        rewards.append(json.loads(line)["reward"])
    worst = 0.0
    for (prompt, completion), reward in zip(texts, rewards):
        ids = tokenizer(prompt + completion)["input_ids"]
        # As TRL's reward trainer: a text that does not end with EOS gets one.
        ids = ids if ids[-1] == tokenizer.eos_token_id else ids + [tokenizer.eos_token_id]
        with torch.no_grad():
            worst = max(worst, abs(float(model(torch.tensor([ids])).logits[0, 0]) - reward))
    check(f"{name}: ...ForSequenceClassification", worst, 1e-4)
    meed("import", final, folder / "reward_import")
    again = T.AutoModelForSequenceClassification.from_pretrained(folder / "reward_import", dtype=torch.float32).eval()
    check(f"{name}: imported classifier", difference(logits(model, ids), logits(again, ids)), 0.0)


def main():
    global PROGRAM
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--tokenizer", default=str(pathlib.Path(__file__).resolve().parents[2] / ".deps/models/smollm2-135m-instruct.gguf"))
    options = parser.parse_args()
    PROGRAM = options.program
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if not pathlib.Path(options.tokenizer).exists():
        print(f"skipped: {options.tokenizer} is not there; run scripts/setup.sh", file=sys.stderr)
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="meed-read-back-") as temporary:
        root = pathlib.Path(temporary)
        rows, pairs = root / "rows.jsonl", root / "pairs.jsonl"
        rows.write_text("".join(json.dumps({"text": f"the number {i} comes before {i + 1}"}) + "\n" for i in range(16)))
        pairs.write_text("".join(json.dumps({"prompt": f"{i} + 1 =", "chosen": f" {i + 1}", "rejected": f" {i}"}) + "\n" for i in range(16)))
        meed("import", options.tokenizer, root / "with_tokenizer", "--dtype", "bfloat16")
        tokenizer = T.AutoTokenizer.from_pretrained(root / "with_tokenizer")
        for text in ("Hello, wörld 123!", "<|im_start|>user\nhi<|im_end|>"):
            ours = json.loads(meed("tokenize", "--model", options.tokenizer, stdin=json.dumps({"messages": [{"role": "user", "content": "a 12"}]}) + "\n"))
            theirs = tokenizer.apply_chat_template([{"role": "user", "content": "a 12"}], add_generation_prompt=False)
            theirs = theirs if isinstance(theirs, list) else theirs["input_ids"]
            if list(ours["ids"])[:len(theirs)] != list(theirs):
                failures.append("chat template of the written tokenizer")
            plain = json.loads(meed("tokenize", "--model", root / "with_tokenizer", stdin=json.dumps({"text": text}) + "\n"))["ids"]
            if "<|" not in text and plain != tokenizer(text, add_special_tokens=False)["input_ids"]:
                failures.append(f"written tokenizer: {text}")
        for name, make in FAMILIES.items():
            folder = root / name
            folder.mkdir()
            language_model(name, make(120), folder)
            if name in ("llama", "mistral", "qwen2", "qwen3", "gpt2"):
                config = make(len(tokenizer))
                T.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder / "trainable")
                tokenizer.save_pretrained(folder / "trainable")
                adapter(name, folder, rows)
                classifier(name, folder, pairs)
    if failures:
        raise SystemExit("failed: " + "; ".join(failures))


if __name__ == "__main__":
    main()
