#!/usr/bin/env python3
"""Writes libpolicy/text/unicode_tables.inc: the Unicode data that Hugging Face's tokenizers 0.23 uses.

    pip install tokenizers==0.23.3
    python scripts/make_unicode_tables.py > libpolicy/text/unicode_tables.inc

Every table is asked from the library itself, code point by code point: its regular expressions, normal
forms and BERT rules each carry another version of Unicode. Only what it cannot be asked (canonical
combining classes and which pairs compose) comes from Python's unicodedata.
"""
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
TEXT = "".join(map(chr, CODE_POINTS))
CATEGORIES = "Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()


def matching(regex):
    """The code points that a one-character regular expression matches."""
    pieces = pre_tokenizers.Split(Regex(regex), "removed").pre_tokenize_str(TEXT)
    kept = bytearray(b"\1") * len(TEXT)
    for _, (begin, end) in pieces:
        kept[begin:end] = bytes(end - begin)
    return {CODE_POINTS[i] for i, k in enumerate(kept) if k}


def runs(values):
    """[(first, length, value)] of the equal non-zero runs of a {code point: value}."""
    result = []
    for c in sorted(values):
        if result and result[-1][0] + result[-1][1] == c and result[-1][2] == values[c]:
            result[-1][1] += 1
        else:
            result.append([c, 1, values[c]])
    return result


def emit(name, comment, words):
    print(f"// {comment}\nconstexpr const char* {name} =")
    line = ""
    for word in words:
        if len(line) + len(word) > 92:
            print(f'    "{line}"')
            line = ""
        line += word + " "
    print(f'    "{line}";\n')


def emit_set(name, comment, members):
    words, end = [], 0
    for first, length, _ in runs({c: 1 for c in members}):
        words.append(f"{first - end:x} {length:x}")
        end = first + length
    emit(name, comment + " Gap from the last run's end, length.", words)


def emit_map(name, comment, mapping):
    words, last = [], 0
    for c in sorted(mapping):
        words.append(f"{c - last:x} {len(mapping[c]):x} " + " ".join(f"{ord(d):x}" for d in mapping[c]))
        last = c
    emit(name, comment + " Gap from the last key, length, code points.", words)


def mapped(normalizer):
    return {c: n for c in CODE_POINTS if (n := normalizer.normalize_str(chr(c))) != chr(c)}


def hangul(c):
    return 0xAC00 <= c <= 0xD7A3


def main():
    print("// Written by scripts/make_unicode_tables.py; hexadecimal numbers, separated by spaces.\n")
    category = {}
    for index, name in enumerate(CATEGORIES):
        if index:
            category.update({c: index for c in matching(rf"\p{{{name}}}")})
    words, end = [], 0
    for first, length, value in runs(category):
        words.append(f"{first - end:x} {length:x} {value:x}")
        end = first + length
    emit("kCategoryRuns", "General categories (" + " ".join(CATEGORIES) + "): gap, length, index.", words)
    emit_set("kWordRuns", "What \\w matches.", matching(r"\w"))
    emit_set("kHanRuns", "What \\p{Han} matches.", matching(r"\p{Han}"))

    plain = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    emit_set("kBertRemovedRuns", "Removed by BERT's clean_text.", [c for c in CODE_POINTS if plain.normalize_str(chr(c)) == ""])
    accents = normalizers.StripAccents()
    emit_set("kAccentRuns", "Removed by StripAccents.", [c for c in CODE_POINTS if accents.normalize_str(chr(c)) == ""])
    bert = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    emit_set("kBertAccentRuns", "Removed by BERT's strip_accents.", [c for c in CODE_POINTS if bert.normalize_str(chr(c)) == ""])
    punctuation = pre_tokenizers.BertPreTokenizer()
    emit_set("kBertPunctuationRuns", "Split off by BertPreTokenizer.",
             [c for c in CODE_POINTS if len(punctuation.pre_tokenize_str("a" + chr(c) + "a")) == 3])
    digits = pre_tokenizers.Digits(individual_digits=True)
    emit_set("kNumericRuns", "Split off by Digits.",
             [c for c in CODE_POINTS if len(digits.pre_tokenize_str("a" + chr(c) + "a")) == 3])

    nfd = mapped(normalizers.NFD())
    emit_map("kCanonical", "Canonical decompositions, whole, without Hangul.", {c: n for c, n in nfd.items() if not hangul(c)})
    emit_map("kCompatible", "Compatible decompositions where they differ.",
             {c: n for c, n in mapped(normalizers.NFKD()).items() if n != nfd.get(c)})
    emit_map("kLower", "Lower case.", mapped(normalizers.Lowercase()))
    nfc, words, last = normalizers.NFC(), [], 0
    for c in CODE_POINTS:
        parts = unicodedata.decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<") and nfc.normalize_str(nfd.get(c, "")) == chr(c):
            words.append(f"{c - last:x} {parts[0].lower().lstrip('0')} {parts[1].lower().lstrip('0')}")
            last = c
    emit("kCompositions", "Primary composites: gap from the last, first part, second part.", words)
    classes, end, words = {c: k for c in CODE_POINTS if (k := unicodedata.combining(chr(c)))}, 0, []
    for first, length, value in runs(classes):
        words.append(f"{first - end:x} {length:x} {value:x}")
        end = first + length
    emit("kCombiningRuns", "Canonical combining classes: gap, length, class.", words)


main()
