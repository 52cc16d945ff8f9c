#!/usr/bin/env python3
"""Writes assistant_mask_golden.json: which tokens of a conversation transformers says the assistant wrote.

usage: HF_HUB_OFFLINE=1 python tests/golden/make_assistant_mask_golden.py   (transformers 5.24, tokenizers 0.23)

The tokenizer is text_golden.json's "qwen2". tests/libpolicy/text/assistant_mask_test.cpp reads both files.
"""
import json, pathlib
import transformers as T
from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).parent
CONVERSATIONS = [
    [{"role": "user", "content": "The cat"}, {"role": "assistant", "content": "and the dog"}],
    [{"role": "system", "content": "hello"}, {"role": "user", "content": "10 or 100?"}, {"role": "assistant", "content": " 100 "},
     {"role": "user", "content": "they'll"}, {"role": "assistant", "content": "go\n there"}],
    [{"role": "assistant", "content": "😀 привет"}, {"role": "user", "content": "end"}],
    [{"role": "user", "content": "no answer"}],
]
TEMPLATES = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}"
              "{% endgeneration %}{{ '\n' }}{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}",
    "trimmed": "{%- for m in messages %}\n    {%- if m.role == 'assistant' %}\n        {{- '<|im_start|>assistant' }}\n        {%- generation %}\n"
               "        {{- '\n' + m.content }}\n        {{- '<|im_end|>\n' }}\n        {%- endgeneration %}\n    {%- else %}\n"
               "        {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}\n    {%- endif %}\n{%- endfor %}\n",
    "within words": "{% for m in messages %}{% if m.role == 'assistant' %}[th{% generation %}e{{ m.content }}t{% endgeneration %}he]{% else %}{{ m.content }} {% endif %}{% endfor %}",
    "kept spaces": "{% for m in messages %}\n  {% if m.role == 'assistant' %}\n  {% generation %}\n  {{ m.content }}\n  {% endgeneration %}\n  {% else %}\n{{ m.content }}\n{% endif %}\n{% endfor %}",
}


def main():
    text = json.loads((HERE / "text_golden.json").read_text())
    entry = next(e for e in text["tokenizers"] if e["name"] == "qwen2")
    pipeline = {**entry["pipeline"], "model": {**text["models"][entry["model"]], **entry["changes"]}}
    tokenizer = T.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(pipeline)))
    rows = []
    for name, source in TEMPLATES.items():
        for index, conversation in enumerate(CONVERSATIONS):
            out = tokenizer.apply_chat_template(conversation, chat_template=source, return_dict=True, return_assistant_tokens_mask=True)
            rows.append({"name": name, "source": source, "conversation": index, "ids": out["input_ids"], "mask": out["assistant_masks"]})
    path = HERE / "assistant_mask_golden.json"
    path.write_text(json.dumps({"conversations": CONVERSATIONS, "rows": rows}, ensure_ascii=False, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
