#!/usr/bin/env python3
"""Greedy completions and their log-probabilities by transformers 5.23, for tests/libpolicy/generation.

usage: make_generation_golden.py MODEL > tests/golden/generation_smollm2.json
MODEL: SmolLM2-135M-Instruct as a .gguf file or the folder that transformers wrote from it; float32.
"""
import json
import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n",
    "Once upon a time, in a village by the sea,",
    [{"role": "user", "content": "What is 7 plus 5?"}],
    [{"role": "user", "content": "Name three colours of the rainbow."}],
    "1, 2, 3, 4,",
]
NEW_TOKENS = 40

path = pathlib.Path(sys.argv[1])
where = (path.parent, {"gguf_file": path.name}) if path.suffix == ".gguf" else (path, {})
tokenizer = AutoTokenizer.from_pretrained(where[0], **where[1])
model = AutoModelForCausalLM.from_pretrained(where[0], dtype=torch.float32, **where[1]).eval()
cases = []
for prompt in PROMPTS:
    if isinstance(prompt, str):
        ids = tokenizer(prompt)["input_ids"]
    else:
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    with torch.inference_mode():
        out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False,
                             max_new_tokens=NEW_TOKENS, pad_token_id=0)[0].tolist()
        logprobs = model(torch.tensor([out])).logits[0].log_softmax(-1)
    completion = out[len(ids):]
    values = [round(logprobs[len(ids) - 1 + i, t].item(), 6) for i, t in enumerate(completion)]
    cases.append({"prompt": prompt, "ids": ids, "completion": completion, "logprobs": values})
print(json.dumps({"new_tokens": NEW_TOKENS, "cases": cases}, indent=None))
