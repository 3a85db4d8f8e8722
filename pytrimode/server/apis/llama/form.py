"""How completions of `/completion` and `/infill` are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytrimode.answers.results import Measured
from pytrimode.server.apis.llama.answer import as_probabilities
from pytrimode.server.errors import ApiError
from pytrimode.server.form import Form, event
from pytrimode.server.options import in_json
from pytrimode.server.prompts import Object, Prepared
from pytrimode.trimode import TriMode


class NativeForm(Form):
    """llama-server's objects: the last of a stream, and each of a whole, has the settings and the prompt too."""

    def __init__(
        self,
        name: str,
        model: TriMode,
        prepared: Prepared,
        *,
        return_tokens: bool = False,
        response_fields: Sequence[str] = (),
    ) -> None:
        """`response_fields`: paths of those that are wanted; none: all."""
        self._name = name
        self._model = model
        self._prepared = prepared
        self._return_tokens = return_tokens
        self._fields = response_fields
        self._has_new_line = set[int]()

    def whole(self, results: Sequence[Object], measured: Measured) -> Any:
        """Return the completion, of several a list."""
        written = [self._written(result) for result in results]
        if not self._return_tokens:
            for result in written:
                result["tokens"] = []
        chosen = [self._chosen(result) for result in written]
        return chosen[0] if len(chosen) == 1 else chosen

    def chunk(self, chunk: Object) -> bytes:
        """Return the chunk."""
        written = self._written(chunk)
        return event(self._chosen(written) if chunk["stop"] else written)

    def closing(self, measured: Measured) -> bytes:
        """Return nothing: the last chunk has all."""
        return b""

    def failed(self, error: ApiError) -> bytes:
        """Return the error."""
        return event(error.body)

    def _written(self, chunk: Object) -> Object:
        index = chunk["index"]
        asked = self._prepared.asked[index]
        if asked.options.post_sampling_probs and "completion_probabilities" in chunk:
            chunk["completion_probabilities"] = as_probabilities(chunk["completion_probabilities"])
        if "\n" in chunk["content"]:
            self._has_new_line.add(index)
        tokens = asked.job.tokens
        if not chunk["stop"]:
            return {**chunk, "tokens_evaluated": len(tokens)}
        n_ctx = self._model.n_ctx
        full = chunk["tokens_evaluated"] + chunk["tokens_predicted"] >= n_ctx
        return {
            **chunk,
            "model": self._name,
            "generation_settings": {"n_ctx": n_ctx, "model": self._name, **in_json(asked.options)},
            "prompt": self._model.detokenize(tokens, special=True).decode("utf-8", "replace"),
            "has_new_line": index in self._has_new_line,
            "truncated": chunk["stop_type"] == "limit" and full,
        }

    def _chosen(self, result: Object) -> Object:
        """Return the fields that are wanted, those within others by their paths."""
        if not self._fields:
            return result
        chosen = {}
        for path in self._fields:
            found: Any = result
            for name in path.split("/"):
                found = found.get(name) if isinstance(found, dict) else None
            if found is not None:
                chosen[path] = found
        return chosen
