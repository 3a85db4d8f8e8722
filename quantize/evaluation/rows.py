"""Which rows of a text an evaluation looks at: causal ones as llama-perplexity takes them, and blocks with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytrimode.gguf.errors import ConversionError
from pytrimode.trimode import TriMode

ROWS_PER_PASS = 64
"""Rows whose logits are in memory at a time: 32 MiB with a vocabulary of 131,072."""


@dataclass(frozen=True)
class RowKind:
    """Rows of one kind of pass.

    Attributes:
        name: for tables and files.
        mask_ratio: share of a block's tokens behind the first that are masked; None for causal rows.
        lora: the drafter LoRA is on.
    """

    name: str
    mask_ratio: float | None = None
    lora: bool = False


CAUSAL = RowKind("causal")
DRAFT = RowKind("draft", 1.0)
DRAFT_LORA = RowKind("draft, LoRA", 1.0, lora=True)


def block_kind(mask_ratio: float) -> RowKind:
    """Rows of blocks as diffusion denoises them."""
    return RowKind(f"block {mask_ratio:g}", mask_ratio)


@dataclass(frozen=True)
class Piece:
    """Rows that one pass computes.

    Attributes:
        tokens: of the chunk up to them, and their own, with masks.
        block_start: where the block begins, None for causal rows.
        first: the first row whose logits are wanted.
        rows: those that count, from `first` on.
        targets: the token that the text has where each of these predicts one.
    """

    tokens: list[int]
    block_start: int | None
    first: int
    rows: list[int]
    targets: list[int]


@dataclass(frozen=True)
class TextPlan:
    """A text in chunks, and the blocks in it.

    Attributes:
        chunks: token ids, `n_ctx` in each.
        n_ctx: tokens per chunk.
        block_length: tokens of a block, its first, clean one included.
        mask_token: -1 for a model that has none.
        seed: of the random masks.
    """

    chunks: list[list[int]]
    n_ctx: int
    block_length: int
    mask_token: int
    seed: int = 0

    def pieces(self, kind: RowKind, number: int) -> list[Piece]:
        """Return the passes over a chunk for a kind of rows.

        Those of the second half count, so that each has half a chunk before it, as in llama-perplexity. Blocks come
        last to first: a block takes over the cells of the tokens before it, and leaves those behind it to nobody.
        """
        if kind.mask_ratio is None:
            return self._causal(self.chunks[number])
        starts = range(self.n_ctx - self.block_length, self.n_ctx // 2 - 1, -self.block_length)
        rng = np.random.default_rng([self.seed, number, round(1000 * kind.mask_ratio)])
        pieces = [self._block(self.chunks[number], start, kind.mask_ratio, rng) for start in starts]
        return [piece for piece in pieces if piece.rows]

    def _causal(self, chunk: list[int]) -> list[Piece]:
        found = []
        for begin in range(self.n_ctx // 2, self.n_ctx - 1, ROWS_PER_PASS):
            end = min(begin + ROWS_PER_PASS, self.n_ctx - 1)
            found.append(Piece(chunk[:end], None, begin, list(range(end - begin)), chunk[begin + 1 : end + 1]))
        return found

    def _block(self, chunk: list[int], start: int, ratio: float, rng: np.random.Generator) -> Piece:
        """Return a block: the first token is clean, as in decoding; of the others some are masked at random."""
        block = chunk[start : start + self.block_length]
        n_masked = max(1, round(ratio * (len(block) - 1)))
        masked = sorted(int(i) + 1 for i in rng.permutation(len(block) - 1)[:n_masked])
        tokens = [self.mask_token if i in set(masked) else token for i, token in enumerate(block)]
        rows = [i for i in masked if block[i] != self.mask_token]
        return Piece(chunk[:start] + tokens, start, start, rows, [block[i] for i in rows])

    def n_rows(self, kind: RowKind) -> int:
        """Rows that count in a chunk, at most."""
        return sum(len(piece.rows) for piece in self.pieces(kind, 0))


def plan_text(
    model: TriMode, tokens: Sequence[int], *, n_ctx: int, max_chunks: int | None, block_length: int, seed: int
) -> TextPlan:
    """Whole chunks of a text, each with the bos token in the place of its first token, as llama-perplexity has them.

    Raises ConversionError for a text of less than one chunk, and chunks too short for a block.
    """
    if model.mask_token_id >= 0 and block_length > n_ctx - n_ctx // 2:
        raise ConversionError(
            f"blocks of {block_length} tokens do not fit into the second half of {n_ctx}: give a larger context"
        )
    n = len(tokens) // n_ctx
    if n == 0:
        raise ConversionError(
            f"the text has {len(tokens)} tokens, one chunk needs {n_ctx}: give a longer text or a smaller context"
        )
    chunks = [list(tokens[i * n_ctx : (i + 1) * n_ctx]) for i in range(n)][:max_chunks]
    if adds_bos(model):
        for chunk in chunks:
            chunk[0] = model.bos_token_id
    return TextPlan(chunks, n_ctx, block_length, model.mask_token_id, seed)


def adds_bos(model: TriMode) -> bool:
    """Whether the tokenizer puts a bos token before a text."""
    return model.tokenize("", add_bos=True) == [model.bos_token_id]
