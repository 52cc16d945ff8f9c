#!/usr/bin/env python3
"""Writes text_golden.json: token ids and decoded texts by tokenizers, rendered chats by transformers.

usage: HF_HUB_OFFLINE=1 python tests/golden/make_text_golden.py   (tokenizers 0.23, transformers 5.23)

Three tiny models are trained on the lines below; every pipeline is combined with one of them, so that the
file stays small. tests/libpolicy/text/golden_tokenizer_test.cpp and golden_template_test.cpp read it.
"""
import json, pathlib
import transformers as T
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers as P, processors, trainers

CORPUS = """The cat and the dog aren't in the house; they'll go there in 2024, we've said it's 10 or 100.
def main(values):\n    return sum(values) / len(values)  # the mean\n\tif (a != b) { print("hello"); }
Der Bär läuft über die Straße, la fenêtre est fermée, el niño está aquí, привет мир, καλημέρα κόσμε.
你好世界。 日本語です。 한국어 안녕. مرحبا بالعالم नमस्ते दुनिया 😀 👍🏽"""
LINES = [line + "\n" for line in CORPUS.split("\n")] * 3

TEXTS = [
    "", " ", "  ", "\n", "a", "The cat", " the  dog   and", "they'll GO, WE'VE it's don't DON'T I'm you're he'd 's",
    "10 100 1234567 3.14 x2 1st 20%", "  2 spaces\t\ttabs \r\n\r\n lines \n\n\n end  ", "    return sum(values)\n\t\tx += 1;\n",
    "a_b-c.d/e\\f{g}[h](i)<j>|k", "http://example.org/?q=1&r=%20#top", "läuft über Straße", "la\u0308uft u\u0308ber n\u0303 \u1e69\u0307",
    "ÄÖÜ ÉÈ ÇĞİ ßẞ ŒÆ", "привет МИР ещё й", "καλημέρα ΚΌΣΜΕ ς", "你好，世界！abc中文123", "日本語のテキスト カタカナ ｶﾅ", "한국어 안녕 하세요",
    "مرحبا بالعالم ١٢٣", "नमस्ते दुनिया १२", "ภาษาไทย", "😀👍🏽👩‍👩‍👧‍👦🇩🇪🏳️‍🌈", "ﬁne ① ½ Ⅷ ㎏ ﷺ", "a\u00a0b\u2003c\u200bd\u3000e\u00adf\ufeffg\u2028h",
    "\u0000\u0001\u007f\u0085\ufffd", "▁the▁cat Ġ Ċ <0x41>", "[CLS] ##ing [MASK]", "<|im_start|>user\nhi<|im_end|>\n", "<s>the</s> <s> cat",
    "x<|im_end|>y <|im_end|>  z", "<tool> the<tool>cat <tool>  ", "end <pad>  <pad> end", "word words sword word", "CAFÉ café cafe\u0301 Café",
    "𝟙𝟚 𠀀 𝒳", "............ ======== --------", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
]

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
          r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")


def train(model, trainer, pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(LINES, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if "merges" in model:
        model["merges"] = [" ".join(pair) for pair in model["merges"]]
    return model


def trained_models():
    byte_names = [f"<0x{i:02X}>" for i in range(256)]
    return {
        "bytes": train(models.BPE(), trainers.BpeTrainer(
            vocab_size=420, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], show_progress=False,
            initial_alphabet=P.ByteLevel.alphabet()), P.ByteLevel(add_prefix_space=False)),
        "pieces": train(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True), trainers.BpeTrainer(
            vocab_size=520, special_tokens=["<unk>", "<s>", "</s>"] + byte_names, limit_alphabet=80, show_progress=False),
            P.Metaspace()),
        "words": train(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40), trainers.WordPieceTrainer(
            vocab_size=260, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False),
            P.BertPreTokenizer(), normalizers.BertNormalizer()),
    }


def around(before="", after="", ids=None):
    single = " ".join(part for part in (before, "$A", after) if part)
    return processors.TemplateProcessing(single=single, pair=single + " $B", special_tokens=list(ids.items()))


def pipelines():
    """name -> (model, changes of the model, set-up of the rest)"""
    def byte_level(split=None, prefix=False, normalizer=None, first=None, post=None, added=()):
        steps = [first] if first else []
        if split:
            steps.append(P.Split(Regex(split), behavior="isolated"))
        steps.append(P.ByteLevel(add_prefix_space=prefix, use_regex=split is None))

        def set_up(t):
            t.pre_tokenizer = steps[0] if len(steps) == 1 else P.Sequence(steps)
            t.decoder = decoders.ByteLevel()
            if normalizer:
                t.normalizer = normalizer
            t.post_processor = post or processors.ByteLevel(trim_offsets=False)
            t.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
            t.add_tokens(list(added))
        return set_up

    def pieces(normalizer=None, pre=None, added=()):
        def set_up(t):
            if normalizer:
                t.normalizer = normalizer
            if pre:
                t.pre_tokenizer = pre
            t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
            t.add_special_tokens(["<unk>", "<s>", "</s>"])
            t.add_tokens(list(added))
            t.post_processor = around("<s>", ids={"<s>": 1})
        return set_up

    def words(**options):
        def set_up(t):
            t.normalizer = normalizers.BertNormalizer(**options)
            t.pre_tokenizer = P.BertPreTokenizer()
            t.decoder = decoders.WordPiece()
            t.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
            t.post_processor = around("[CLS]", "[SEP]", {"[CLS]": 2, "[SEP]": 3})
        return set_up

    llama3_post = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                       around("<|endoftext|>", ids={"<|endoftext|>": 0})])
    many_added = [AddedToken("<tool>", lstrip=True, normalized=False), AddedToken("<pad>", rstrip=True, normalized=False),
                  AddedToken("word", single_word=True), AddedToken("café", normalized=True), AddedToken("  ", normalized=False)]
    legacy = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return {
        "gpt2": ("bytes", {}, byte_level()),
        "gpt2 with a space in front": ("bytes", {}, byte_level(prefix=True)),
        "llama3": ("bytes", {"ignore_merges": True}, byte_level(LLAMA3, post=llama3_post)),
        "qwen2": ("bytes", {}, byte_level(QWEN2, normalizer=normalizers.NFC())),
        "tekken": ("bytes", {"ignore_merges": True}, byte_level(TEKKEN)),
        "smollm": ("bytes", {}, byte_level(first=P.Digits(individual_digits=True))),
        "falcon": ("bytes", {}, byte_level(first=P.Punctuation(behavior="contiguous"))),
        "added tokens": ("bytes", {}, byte_level(QWEN2, normalizer=normalizers.NFC(), added=many_added)),
        "lower case, added tokens": ("bytes", {}, byte_level(normalizer=normalizers.Lowercase(),
                                                             added=[AddedToken("CAFÉ"), AddedToken("WORD", normalized=False)])),
        "nfkc": ("bytes", {}, byte_level(normalizer=normalizers.NFKC())),
        "nfd, no accents": ("bytes", {}, byte_level(normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]))),
        "llama2": ("pieces", {}, pieces(legacy)),
        "mistral": ("pieces", {}, pieces(pre=P.Metaspace(prepend_scheme="first", split=False))),
        "metaspace, split": ("pieces", {}, pieces(pre=P.Metaspace(prepend_scheme="always", split=True))),
        "pieces, added tokens": ("pieces", {}, pieces(legacy, added=[AddedToken("<tool>"), AddedToken("cat", normalized=False)])),
        "bert uncased": ("words", {}, words()),
        "bert cased": ("words", {}, words(lowercase=False, strip_accents=False, handle_chinese_chars=False)),
    }


def tokenizer_cases(trained):
    cases = []
    for name, (model, changes, set_up) in pipelines().items():
        scratch = Tokenizer(models.BPE())
        json_text = json.loads(scratch.to_str())
        json_text["model"] = {**trained[model], **changes}
        tokenizer = Tokenizer.from_str(json.dumps(json_text))
        set_up(tokenizer)
        pipeline = json.loads(tokenizer.to_str())
        del pipeline["model"]
        rows = []
        for text in TEXTS:
            ids = tokenizer.encode(text).ids
            tokenizer.encode_special_tokens = True
            plain = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = False
            row = {"ids": ids}
            if plain != tokenizer.encode(text, add_special_tokens=False).ids:
                row["plain"] = plain
            decoded = tokenizer.decode(ids, skip_special_tokens=False)
            row["decoded"] = decoded
            if (skipped := tokenizer.decode(ids)) != decoded:
                row["skipped"] = skipped
            rows.append(row)
        cases.append({"name": name, "model": model, "changes": changes, "pipeline": pipeline, "rows": rows})
    return cases


if __name__ == "__main__":
    trained = trained_models()
    golden = {"texts": TEXTS, "models": trained, "tokenizers": tokenizer_cases(trained)}
    path = pathlib.Path(__file__).with_name("text_golden.json")
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text.replace('{"name"', '\n{"name"').replace('{"ids"', '\n{"ids"') + "\n")
    print(path, path.stat().st_size, "bytes")
