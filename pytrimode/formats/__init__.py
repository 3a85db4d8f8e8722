"""Texts that models and clients exchange: chat templates, reasoning, tool calls, grammars. Imports no other room."""
