#!/usr/bin/env python3
"""Writes models_golden.json: log-probabilities, gradients and embeddings by transformers.

usage: HF_HUB_OFFLINE=1 python tests/golden/make_models_golden.py   (torch 2.15, transformers 5.24, gguf 0.19)

The tiny models' weights follow a formula that tests/libpolicy/models/golden_test.cpp repeats, so
none are stored. SmolLM2 (GGUF) and MiniLM are read from .deps/models.
"""
import json, math, pathlib
import torch, transformers as T

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / ".deps" / "models"


def fnv1a(name):
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value


def formula(name, shape):
    """Uniform-looking in (-0.25, 0.25); norm weights around 1."""
    count = math.prod(shape)
    bits = [(fnv1a(name) + 2654435761 * (j + 1)) % 2**32 for j in range(count)]
    values = torch.tensor([b / 2**32 - 0.5 for b in bits], dtype=torch.float64) * 0.5
    if len(shape) == 1 and name.endswith("weight"):
        values += 1.0
    return values.float().reshape(shape)


COMMON = dict(vocab_size=120, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=128)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)
FAMILIES = {
    "llama": T.LlamaConfig(**COMMON),
    "llama3 scaling": T.LlamaConfig(**COMMON, tie_word_embeddings=True, rope_parameters=LLAMA3),
    "linear scaling, biases": T.LlamaConfig(**COMMON, attention_bias=True, mlp_bias=True,
                                            rope_parameters=dict(rope_type="linear", rope_theta=5000.0, factor=2.0)),
    "mistral, sliding window": T.MistralConfig(**COMMON, sliding_window=7, head_dim=16),
    "qwen2": T.Qwen2Config(**COMMON, tie_word_embeddings=True),
    "qwen3": T.Qwen3Config(**COMMON, head_dim=16),
    "yarn": T.LlamaConfig(**COMMON, rope_parameters=dict(YARN)),
    "yarn, its own scale, beta and ramp": T.Qwen2Config(**COMMON, rope_parameters=dict(
        **YARN, attention_factor=1.25, beta_fast=8.0, beta_slow=0.5, truncate=False)),
    "yarn, mscale": T.LlamaConfig(**COMMON, rope_parameters=dict(**YARN, mscale=1.0, mscale_all_dim=0.7)),
    "dynamic": T.LlamaConfig(**COMMON, rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0)),
    "longrope": T.LlamaConfig(**COMMON, rope_parameters=dict(
        rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=64, short_factor=[1.0, 1.1, 1.5, 2.0], long_factor=[2.0, 3.0, 4.0, 8.0])),
    "qwen2, window from a layer on": T.Qwen2Config(**COMMON, use_sliding_window=True, sliding_window=7, max_window_layers=1),
    "qwen3, window by layer types": T.Qwen3Config(**COMMON, head_dim=16, use_sliding_window=True, sliding_window=6,
                                                  layer_types=["sliding_attention", "full_attention"]),
    "gpt2": T.GPT2Config(vocab_size=120, n_embd=32, n_layer=2, n_head=4, n_positions=128),
}


def ids_of(seed, count, vocabulary):
    return [(seed * 7919 + 104729 * (i + 1) * (i + 3)) % vocabulary for i in range(count)]


def token_logprobs(model, ids):
    ids = torch.tensor([ids])
    logits = model(ids).logits[0, :-1].float()
    return torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0]


def rounded(values):
    return [round(float(v), 6) for v in values]


def family(name, config):
    model = T.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(formula(key, parameter.shape))
    rows = [ids_of(seed, count, 120) for seed, count in ((1, 40), (2, 5), (3, 17))]
    logprobs = [token_logprobs(model, row) for row in rows]
    (-torch.cat(logprobs).mean()).backward()
    gradients = {key: [float(p.grad.norm()), float((p.grad * formula(key + "?", p.shape)).sum())]
                 for key, p in model.named_parameters()}
    return {"name": name, "config": json.loads(config.to_json_string(use_diff=False)),
            "rows": [{"ids": row, "logprobs": rounded(lp)} for row, lp in zip(rows, logprobs)],
            "gradients": {key: [float(f"{x:.7g}") for x in pair] for key, pair in gradients.items()}}


def keep_needed(config):
    """What the reader looks at, so that the file stays small."""
    drop = ("id2label", "label2id", "task_specific_params", "transformers_version", "problem_type")
    if not config.get("use_sliding_window"):
        drop += ("layer_types",)
    return {k: v for k, v in config.items() if v is not None and k not in drop and not k.startswith(("summary", "output_"))}


def smollm2():
    model = T.AutoModelForCausalLM.from_pretrained(str(MODELS), gguf_file="smollm2-135m-instruct.gguf", dtype=torch.float32).eval()
    rows = [[1, 4093, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2, 198],
            ids_of(5, 60, 49152)]
    with torch.no_grad():
        return [{"ids": row, "logprobs": rounded(token_logprobs(model, row))} for row in rows]


def minilm():
    model = T.AutoModel.from_pretrained(str(MODELS / "all-minilm-l6-v2"), dtype=torch.float32).eval()
    rows = [[101, 2023, 2003, 2019, 2742, 6251, 102], [101, 7592, 102], [101] + ids_of(7, 30, 30522) + [102]]
    out = []
    with torch.no_grad():
        for row in rows:
            hidden = model(torch.tensor([row])).last_hidden_state[0]
            out.append({"ids": row, "embedding": rounded(torch.nn.functional.normalize(hidden.mean(0), dim=0)[:48])})
    return out


if __name__ == "__main__":
    golden = {"families": [family(name, config) for name, config in FAMILIES.items()]}
    for entry in golden["families"]:
        entry["config"] = keep_needed(entry["config"])
    golden["smollm2"], golden["minilm"] = smollm2(), minilm()
    path = pathlib.Path(__file__).with_name("models_golden.json")
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
    print(path, path.stat().st_size, "bytes")
