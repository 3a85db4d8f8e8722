"""Beginnings of chat templates, by the form of the tool calls that they ask for."""

TEMPLATES = {
    "tags": "{{ tools }} <tool_call>\n<function=example>",
    "json": "{{ tools }} <tool_call>{...}</tool_call>",
    "list": "{{ tools }} <TOOLCALL>[...]</TOOLCALL>",
    "args": "{{ tools }} [TOOL_CALLS]name[ARGS]{...}",
    "mistral": "{{ tools }} [TOOL_CALLS][...]",
}
