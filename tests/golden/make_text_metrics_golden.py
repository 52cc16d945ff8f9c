"""Reference values of BLEU and chrF by sacreBLEU: python make_text_metrics_golden.py > text_metrics.json"""
import json

import sacrebleu
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

PAIRS = [
    ("the cat sat on the mat", ["the cat is on the mat"]),
    ("the cat", ["the cat is on the mat today"]),
    ("a b c d e f", ["a b c d e f"]),
    ("It's $5.00 (ok), e.g. x,y at 3.5 m.", ["It's $5 (okay), for example x,y at 3.5 m."]),
    ("no match at all", ["etwas ganz anderes hier"]),
    ("the quick brown fox jumps", ["a quick brown dog jumps over", "the fast brown fox leaps", "quick"]),
    ("Ünïcode wörds – 10,000 & more", ["Ünïcode words — 10,000 &amp; more"]),
    ("日本語の文章です。", ["日本語の文です。"]),
    ("Привет, мир! Как дела?", ["Привет мир. Как твои дела?"]),
    ("a-b 1-2 well-\nknown", ["a-b 1-2 wellknown"]),
    ("x", ["x"]),
    ("..., ,,, 1.,2", ["... 1.,2"]),
    ("tab\tand\u00a0space\u3000end", ["tab and space end"]),
]
tokenize = Tokenizer13a()
rows = []
for text, references in PAIRS:
    rows.append({
        "text": text,
        "references": references,
        "tokens": tokenize(text).split(),
        "bleu": BLEU(effective_order=False).sentence_score(text, references).score / 100,
        "bleu_effective": BLEU(effective_order=True).sentence_score(text, references).score / 100,
        "chrf": CHRF().sentence_score(text, references).score / 100,
    })
print(json.dumps({"sacrebleu": sacrebleu.__version__, "rows": rows}, ensure_ascii=True, indent=1))
