#!/usr/bin/env python3
"""Writes gguf_golden.json: token ids by SentencePiece, dequantised blocks by the gguf package.

usage: python tests/golden/make_gguf_golden.py   (sentencepiece 0.2.3, gguf 0.19.0)

A small BPE model is trained by SentencePiece; its pieces, scores and types are what llama.cpp's converter
would put into a GGUF. tests/libpolicy/text/gguf_tokenizer_test.cpp writes that GGUF and reads it. Every
block type gets one row of random bytes (a seed whose values are finite) and its values by gguf.quants,
which is numpy and shares no code with ggml. tests/libpolicy/checkpoint/gguf_test.cpp reads them.
"""
import io, json, pathlib
import gguf, numpy as np, sentencepiece as spm
from make_text_golden import LINES, TEXTS

TYPES = ["BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "TQ1_0", "TQ2_0",
         "MXFP4", "NVFP4", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "IQ4_NL", "IQ4_XS"]


def block(name):
    kind = gguf.GGMLQuantizationType[name]
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = max(1, 64 // per_block)
    for seed in range(1000):
        data = np.random.default_rng(seed).integers(0, 256, (1, blocks * size), dtype=np.uint8)
        with np.errstate(all="ignore"):
            values = gguf.quants.dequantize(data, kind).astype(np.float32)[0]
        if np.isfinite(values).all():
            return {"type": int(kind), "bytes": data.tobytes().hex(), "values": [float(f"{v:.8g}") for v in values]}
    raise SystemExit(f"{name}: no finite block")


def blocks():
    found = {}
    for name in TYPES:
        if name in gguf.GGMLQuantizationType.__members__ and gguf.GGMLQuantizationType[name] in gguf.quants._type_traits:
            found[name] = block(name)
        else:
            print("not in this gguf package:", name)
    return found


def sentence_piece(prefix):
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(line.rstrip("\n") for line in LINES), model_writer=model, model_type="bpe", vocab_size=480,
        byte_fallback=True, split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=0.98, allow_whitespace_only_pieces=True, add_dummy_prefix=prefix,
        user_defined_symbols=["<tool>"], minloglevel=2)
    pieces = spm.SentencePieceProcessor(model_proto=model.getvalue())
    count = pieces.vocab_size()
    kinds = []
    for i in range(count):
        kinds.append(2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else
                     5 if pieces.is_unused(i) else 4 if pieces.id_to_piece(i) == "<tool>" else 1)
    rows = []
    for text in TEXTS:
        if "<tool>" in text or "\0" in text or "\u2581" in text:  # SentencePiece parses the first, stops at the second, loses the third
            continue
        ids = pieces.encode(text)
        rows.append({"text": text, "ids": ids, "decoded": pieces.decode(ids)})
    return {"add_space_prefix": prefix, "tokens": [pieces.id_to_piece(i) for i in range(count)],
            "scores": [pieces.get_score(i) for i in range(count)], "types": kinds,
            "bos": pieces.bos_id(), "eos": pieces.eos_id(), "unknown": pieces.unk_id(), "rows": rows}


if __name__ == "__main__":
    golden = {"sentence_piece": [sentence_piece(True), sentence_piece(False)], "blocks": blocks()}
    path = pathlib.Path(__file__).with_name("gguf_golden.json")
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text.replace('{"text"', '\n{"text"').replace('{"type"', '\n{"type"') + "\n")
    print(path, path.stat().st_size, "bytes")
