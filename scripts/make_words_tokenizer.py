"""Writes configs/paper/words, a small word-level tokenizer for the generated tasks, and configs/paper/facts, one for facts in
filler (dataset `needle`, where a fact such as tower=blue is a token); no models.

    python3 scripts/make_words_tokenizer.py

Every word of the tasks is one token, with and without a space before it, digits are tokens of their own, and bytes stand for
everything else. Recipes with `model.from_scratch` make a model for it.
"""

import json
import pathlib

CONSONANTS = ["bdgkp", "lmnrw", "stvzf", "cjhqx"]
WORDS = """
anna ben carla david emma felix grace hugo ines jonas karin leo mara nils olga paul rosa simon tina viktor boss friend neighbour
teacher nothing name parameters weather city day flight from to seats hotel nights train call person message about meeting order item
count pay amount lamp colour level timer minutes recipe people rome paris oslo berlin madrid vienna monday tuesday friday sunday bread
milk apples coffee red blue green white please i need now can you done not a unknown tool parameter missing wrong too long is better
circle square star cross describe and cpp systems python scripting sql databases linux unix docker containers cloud aws testing quality
design drawing sales selling writing editing german deutsch french francais teaching training finance accounting law legal support
helpdesk research science driving transport cooking kitchen planning organising job resume SELECTED REJECTED thanks great that right no
group write plain place free there nobody cat dog bird horse child farmer doctor robot king queen sailor park house river garden school
market forest walk walks strolls sing sings hums read reads studies sleep sleeps rests work works labours play plays frolics happy glad
sad gloomy calm quiet busy active the in today feels through near as ever like b c d e c1 c2 c3
""".split()
FACT_WORDS = """
the is what colour of question answer right yes no so
day was long and people came from far away while rain fell over hills with wind some walked home others stayed near fire
""".split()
THINGS = "river tower garden bridge market castle forest harbor temple school museum station".split()
COLOURS = "red blue green white black yellow brown orange purple silver golden pink".split()
TAGS = "think answer search result tool_call tool_response decision score reasons".split()
MARKS = ["+", "=", ";", "#", "?", ".", ",", ", ", "-", "{\"", "\":\"", "\",\"", "\":{\"", "\"}}", "{}}", "\"}", "\":"]


def byte_characters():
    """GPT-2's printable stand-ins of the 256 bytes."""
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {}, 0
    for byte in range(256):
        if byte in printable:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


WORD_PATTERN = r"</?[a-z_]+>| ?c[123]| ?[A-Za-z]+| ?[0-9]| ?[^A-Za-z0-9<\s]+|\s+|<"
FACT_PATTERN = r" ?[A-Za-z]+(?:=[A-Za-z]+)?| ?[0-9]| ?[^A-Za-z0-9\s]+|\s+"


def write_tokenizer(folder, pieces, pattern, max_positions):
    """pieces: the texts that are one token each, beside the end token and the bytes; pattern: where texts may be cut."""
    table = byte_characters()
    tokens = ["<eos>"] + list(table.values())
    seen = set(tokens)
    for piece in pieces:
        token = "".join(table[byte] for byte in piece.encode())
        if token not in seen:
            seen.add(token)
            tokens.append(token)
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 0, "content": "<eos>", "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": vocab, "merges": []}}
    folder = pathlib.Path(__file__).parent.parent / "configs/paper" / folder
    folder.mkdir(parents=True, exist_ok=True)
    write = lambda name, value: (folder / name).write_text(json.dumps(value, ensure_ascii=False) + "\n")
    write("tokenizer.json", tokenizer)
    write("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>",
                                    "clean_up_tokenization_spaces": False})
    write("config.json", {"model_type": "llama", "vocab_size": len(tokens), "eos_token_id": 0, "hidden_size": 64,
                          "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
                          "max_position_embeddings": max_positions, "rms_norm_eps": 1e-5, "tie_word_embeddings": True})
    print(len(tokens), "tokens in", folder)


def main():
    ciphers = []
    for letters in CONSONANTS:
        syllables = [letters[s // 5] + "aeiou"[s % 5] for s in range(25)]
        ciphers += [syllables[i // 25] + syllables[i % 25] for i in range(200)]
    pieces = [" " + str(digit) for digit in range(10)] + MARKS + [" " + mark for mark in MARKS]
    pieces += [f"{slash}{tag}>" for tag in TAGS for slash in ("<", "</")]
    pieces += [space + word for word in WORDS for space in ("", " ")] + [" " + word for word in ciphers]
    write_tokenizer("words", pieces, WORD_PATTERN, max_positions=1024)
    facts = FACT_WORDS + THINGS + COLOURS + ["The", "Question", "Answer", "Is"] + [f"{thing}={colour}" for thing in THINGS for colour in COLOURS]
    write_tokenizer("facts", [space + fact for fact in facts for space in ("", " ")], FACT_PATTERN, max_positions=4096)


main()
