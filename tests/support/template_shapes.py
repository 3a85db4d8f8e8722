"""Chat templates of the shapes that models have."""
# ruff: noqa: E501 - they are easier to read in one line

from __future__ import annotations

TURNS = "{% for m in messages %}"
END = "{% endfor %}"
START = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SHAPES = {
    "ChatML": TURNS + "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}" + END + START,
    "subscripts": TURNS + "{{ m['role'] }}: {{ m['content'] | trim }}\n" + END + "assistant:",
    "Llama 2": "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set messages = messages[1:] %}"
    "{% endif %}" + TURNS + "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + (s if loop.first and s is defined else '') "
    "+ m.content.strip() + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + eos_token }}{% endif %}"
    + END,
    "Llama 3": TURNS + "{% set c = '<|start|>' + m['role'] + '<|end|>\\n\\n' + m['content'] | trim %}"
    "{% if loop.index0 == 0 %}{% set c = bos_token + c %}{% endif %}{{ c }}" + END,
    "namespace": "{% set ns = namespace(system='', n=0) %}" + TURNS + "{% if m.role == 'system' %}{% set ns.system = m.content %}"
    "{% else %}{% set ns.n = ns.n + 1 %}{% endif %}" + END + "{{ ns.system }}|{{ ns.n }}",
    "alternation": TURNS + "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}"
    "{{ m.content }}" + END,
    "dates": "{% if not date is defined %}{% set date = strftime_now('%d %b %Y') %}{% endif %}{{ date }}",
    "tools are none": "{% if tools is not none %}{{ tools | tojson }}{% else %}none{% endif %}",
    "documents": "{% if documents %}{% for d in documents %}{{ d.title }}{% endfor %}{% else %}no documents{% endif %}",
    "tools": "{% if tools %}{% for t in tools %}{{ t | tojson(indent=4) }}\n{% endfor %}{% endif %}" + TURNS + "{{ m.content }}" + END,
    "tools by items": "{% for t in tools or [] %}{% for k, v in t.function.items() %}{{ k }}={{ v | string }};{% endfor %}{% endfor %}",
    "calls": TURNS + "{% if m.tool_calls is defined and m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.name }}"
    "{{ c.function.arguments | tojson }}{% endfor %}{% else %}{{ m.content }}{% endif %}" + END,
    "tojson options": "{{ messages | tojson(ensure_ascii=True, separators=(',', ':'), sort_keys=True) }}",
    "tojson of text": TURNS + "{{ m.content | tojson }}" + END,
    "generation": TURNS + "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}" + END,
    "set in generation": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "break": TURNS + "{% if loop.index > 2 %}{% break %}{% endif %}{{ loop.index }}{{ m.role }}" + END,
    "continue": TURNS + "{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.role }}" + END,
    "macro": "{% macro turn(m, last=false) %}<{{ m.role }}{{ '!' if last }}>{{ m.content }}{% endmacro %}"
    + TURNS + "{{ turn(m, loop.last) }}" + END,
    "reasoning cut off": TURNS + "{% if m.role == 'assistant' and '</think>' in m.content %}"
    "{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% else %}{{ m.content }}{% endif %}" + END,
    "thinking switch": START + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}",
    "white space": "\n  {%- for m in messages %}\n    {{- m.role }}\n  {%- endfor %}\n  end\n",
    "blocks on lines": "{% for m in messages %}\n    {% if true %}\n{{ m.role }}\n    {% endif %}\n{% endfor %}\n",
    "last user": "{% set ns = namespace(i=-1) %}" + TURNS + "{% if m.role == 'user' %}{% set ns.i = loop.index0 %}{% endif %}"
    + END + "{{ messages[ns.i].content }}",
    "reverse": "{% for m in messages[::-1] %}{{ m.role }}{{ loop.revindex }}" + END,
    "selectattr": "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('|') }}",
    "string tests": TURNS + "{% if m.content is string %}{{ m.content | length }}{% elif m.content is iterable %}parts{% endif %}" + END,
    "mapping": TURNS + "{% if m is mapping %}{{ m | items | list | length }}{% endif %}{{ m.get('name', 'nobody') }}" + END,
    "keys in order": TURNS + "{{ m | tojson }}\n" + END,
    "undefined": "{{ nowhere }}{{ messages[0].nowhere }}{% if nowhere is defined %}!{% endif %}",
    "comment": "{# a comment #}{{ bos_token }}{#- another -#}   {{ eos_token }}",
    "filters": "{{ messages[0].content | upper | replace('B', 'x') | indent(2) | title }}",
    "slices": TURNS + "{{ m.content[:3] }}{{ m.content[-2:] }}{{ m.content.startswith('Be') }}" + END,
    "arithmetic": "{{ (messages | length) // 2 }} {{ 7 % 3 }} {{ 2 ** 5 }} {{ 1.5 + 1 }} {{ true }} {{ none }} {{ [1, 'a'] }}",
}  # fmt: skip
ONLY_PARTS = TURNS + "{% for p in m.content %}<{{ p.text }}>{% endfor %}" + END
BOTH = (
    TURNS
    + "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endif %}"
    + END
)
