#!/usr/bin/env python3
"""Writes chat_templates_golden.json: chat templates with the constructs that published ones use, and what transformers renders.

usage: HF_HUB_OFFLINE=1 python tests/golden/make_chat_templates_golden.py   (transformers 5.23)
"""
import json
import pathlib

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " What is 1 + 1? \n"}, {"role": "assistant", "content": "2"},
     {"role": "user", "content": "And \"this\" <b>&amp;</b> 'that' ünïcode 😀?"}],
]
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds <two> numbers.", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": ["number", "null"]}}, "required": ["a"]}}}]
TEMPLATES = {
    "chatml": "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nHelp.<|im_end|>\n{% endif %}"
              "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "trim and bos": "{{- bos_token }}\n{%- for m in messages %}\n    {{- '[' ~ m['role'] ~ ']' ~ m['content'] | trim ~ eos_token }}\n{%- endfor %}\n"
                    "{%- if add_generation_prompt %}\n    {{- '[assistant]' }}\n{%- endif %}\n",
    "system apart": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] %}"
                    "{% else %}{% set loop_messages = messages %}{% set system = false %}{% endif %}"
                    "{% for m in loop_messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
                    "{% if loop.index0 == 0 and system %}{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m['content'] %}{% else %}"
                    "{% set content = m['content'] %}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
                    "{% elif m['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "tools": "{%- if tools %}{{- '# Tools\n' }}{%- for tool in tools %}{{- tool | tojson }}{{- '\n' }}{%- endfor %}{%- endif %}"
             "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
             "{%- for m in messages %}{{- m.role | upper }}{{- ': ' + m.content }}{%- if loop.index0 == ns.last %}{{- ' (last)' }}{%- endif %}{{- '\n' }}{%- endfor %}",
    "macros and filters": "{%- macro turn(role, text) -%}<{{ role }}>{{ text | replace('\n', ' ') | trim }}</{{ role }}>{%- endmacro -%}"
                          "{%- for m in messages -%}{{ turn(m.role, m.content) }}{%- if not loop.last %}{{ ', ' }}{% endif -%}{%- endfor -%}"
                          "{{ messages | length }} {{ messages | map(attribute='role') | join('/') }}{% if 'user' in (messages | map(attribute='role') | list) %} ok{% endif %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}{% endgeneration %}{% else %}{{ m.content }}\n{% endif %}{% endfor %}",
}


def main():
    golden = {"conversations": CONVERSATIONS, "tools": TOOLS, "templates": []}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<|im_start|>", eos_token="<|im_end|>")
    for name, source in TEMPLATES.items():
        tokenizer.chat_template = source
        for index, conversation in enumerate(CONVERSATIONS):
            for generation_prompt in (False, True):
                for tools in (None, TOOLS):
                    text = tokenizer.apply_chat_template(conversation, tools=tools, add_generation_prompt=generation_prompt, tokenize=False)
                    golden["templates"].append({"name": name, "source": source, "conversation": index, "add_generation_prompt": generation_prompt,
                                                "tools": tools is not None, "rendered": text})
    pathlib.Path(__file__).with_name("chat_templates_golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
