#!/usr/bin/env python3
"""What a draft that knows its neighbour would bring: its candidates scored again, given the token before each.

python -m benchmarks.draft_markov                          # some minutes of CPU; needs torch
python -m benchmarks.draft_markov --cache passes.pickle    # again: less

The rows of a block predict their tokens independently. Here the candidates of each row get a bias that depends on the
token chosen before them, rank R: bias(c | b) = left[b] . right[c], added to their log-probabilities. It is trained on
the model's own drafts of its own greedy answers, to pieces of the documents in docs/ and to three fifths of the
held-out prompts (cross-entropy of the token that `ar` has there, behind the token that stands before it), with early
stopping on other answers, and compared by replaying cycles of greedy self-spec: tokens a cycle with the best token of
each row, and with the best one after the bias. Texts that are compared are not trained on; of the open prompts of
`pytrimode bench` none is.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import common
from benchmarks.recorded_passes import RecordedPasses, Rows
from pytrimode.bench.prompts import PROMPTS
from tests.support.decoding import chat_prompts

DOCUMENTS = Path(__file__).parents[1] / "docs"
PIECE = 24
"""Tokens of a document that a text answers."""
LENGTH = 16
STRIDE = 5
"""Tokens between drafts that are trained on."""
PATIENCE = 4
"""Rounds without a better loss on the texts for stopping, until training ends."""

Choose = Callable[[int, Rows], list[int]]
"""(seed, rows) -> the draft."""


@dataclass
class Examples:
    """Rows whose right token is among their candidates.

    Attributes:
        before: [n], the token before each.
        tokens: [n, RANKS], candidates.
        logprobs: [n, RANKS].
        right: [n], which candidate is right.
    """

    before: Tensor
    tokens: Tensor
    logprobs: Tensor
    right: Tensor


class Bias(nn.Module):
    """Low-rank scores of a token behind another one."""

    def __init__(self, n_vocab: int, rank: int) -> None:
        super().__init__()
        self.left = nn.Embedding(n_vocab, rank)
        self.right = nn.Embedding(n_vocab, rank)
        nn.init.normal_(self.left.weight, std=rank**-0.5)
        nn.init.zeros_(self.right.weight)

    def forward(self, before: Tensor, tokens: Tensor) -> Tensor:
        """Biases [n, k] of tokens [n, k] behind tokens [n]."""
        return (self.left(before)[:, None] * self.right(tokens)).sum(-1)


def pieces(passes: RecordedPasses, n: int) -> list[list[int]]:
    """Return conversations that begin with pieces of the documents, drawn with a seed."""
    text = "\n".join(path.read_text() for path in sorted(DOCUMENTS.glob("*.md")))
    tokens = passes.model.tokenize(text, add_bos=False)
    starts = random.Random(1).sample(range(0, len(tokens) - PIECE, PIECE), n)
    texts = [passes.model.detokenize(tokens[start : start + PIECE]).decode("utf-8", "replace") for start in starts]
    return [passes.model.chat_tokens([{"role": "user", "content": text}]) for text in texts]


def examples(passes: RecordedPasses, prompts: Sequence[Sequence[int]], max_tokens: int) -> Examples:
    """Return what drafts along the greedy texts behind the prompts teach."""
    before, tokens, chances, right = [], [], [], []
    for prompt in prompts:
        text = passes.text(prompt, max_tokens)
        for at in range(1, len(text) - 1, STRIDE):
            rows = passes.draft([*prompt, *text[:at]], LENGTH)
            for depth, token in enumerate(text[at : at + len(rows.tokens)]):
                if token in rows.tokens[depth]:
                    before.append(text[at + depth - 1])
                    tokens.append(rows.tokens[depth])
                    chances.append(rows.chances[depth])
                    right.append(int(np.flatnonzero(rows.tokens[depth] == token)[0]))
    logprobs = torch.from_numpy(np.array(chances)).clamp_min(1e-9).log()
    return Examples(torch.tensor(before), torch.from_numpy(np.array(tokens)).long(), logprobs, torch.tensor(right))


def train(bias: Bias, taught: Examples, held: Examples, *, rate: float, decay: float) -> list[float]:
    """Train with early stopping; return the losses on `held`: before, and the best one."""
    optimizer = torch.optim.AdamW(bias.parameters(), lr=rate, weight_decay=decay)

    def loss(of: Examples, chosen: Tensor | slice = slice(None)) -> Tensor:
        logits = of.logprobs[chosen] + bias(of.before[chosen], of.tokens[chosen])
        return nn.functional.cross_entropy(logits, of.right[chosen])

    with torch.no_grad():
        first = best = loss(held).item()
    kept, waited = {k: v.clone() for k, v in bias.state_dict().items()}, 0
    while waited < PATIENCE:
        for chosen in torch.randperm(len(taught.right)).split(256):
            optimizer.zero_grad()
            loss(taught, chosen).backward()
            optimizer.step()
        with torch.no_grad():
            now = loss(held).item()
        waited += 1
        if now < best:
            best, waited = now, 0
            kept = {k: v.clone() for k, v in bias.state_dict().items()}
    bias.load_state_dict(kept)
    return [first, best]


def cycles(passes: RecordedPasses, prompts: Sequence[Sequence[int]], max_tokens: int, choose: Choose) -> float:
    """Return tokens a cycle of greedy self-spec with these drafts."""
    n_cycles = n_tokens = 0
    for prompt in prompts:
        text, at = passes.text(prompt, max_tokens), 1
        while at < len(text):
            rest = text[at:]
            draft = choose(text[at - 1], passes.draft([*prompt, *text[:at]], LENGTH))
            right = 0
            while right < min(len(draft), len(rest)) and draft[right] == rest[right]:
                right += 1
            emitted = min(right + 1, len(rest))
            at, n_cycles, n_tokens = at + emitted, n_cycles + 1, n_tokens + emitted
    return n_tokens / n_cycles


def with_bias(bias: Bias) -> Choose:
    """Return drafts of the best tokens after the bias, one behind the other."""

    @torch.no_grad()
    def choose(seed: int, rows: Rows) -> list[int]:
        draft, before = [], seed
        for tokens, chances in zip(rows.tokens, rows.chances, strict=True):
            scores = torch.from_numpy(chances).clamp_min(1e-9).log()
            scores = scores + bias(torch.tensor([before]), torch.from_numpy(tokens).long()[None])[0]
            before = int(tokens[int(scores.argmax())])
            draft.append(before)
        return draft

    return choose


def main() -> None:
    """Train for some settings and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=600, help="of documents, to train on (default: %(default)s)")
    parser.add_argument("-n", "--max-tokens", type=int, default=64, help="of a text (default: %(default)s)")
    parser.add_argument("--rank", type=int, default=64, help="of the bias (default: %(default)s)")
    parser.add_argument("--cache", type=Path, help="file of passes that were computed before")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model, checkpoint = common.tiny_model()
    with model:
        passes = RecordedPasses(model, args.cache)
        found = pieces(passes, args.texts + 160)
        open_prompts = [
            model.chat_tokens([{"role": "user", "content": text}]) for texts in PROMPTS.values() for text in texts
        ]
        known = chat_prompts(model, checkpoint, 200)
        compared = {
            "pieces of documents": found[:80],
            "open prompts": open_prompts,
            "held-out prompts": known[::5],
        }
        held = examples(passes, [*found[80:160], *known[1::5]], args.max_tokens)
        taught = examples(passes, [*found[160:], *known[2::5], *known[3::5], *known[4::5]], args.max_tokens)
        passes.save()
        print(f"{len(taught.right)} rows to train on, {len(held.right)} to stop by; rank {args.rank}, B {LENGTH}\n")
        plain = {
            name: cycles(passes, prompts, args.max_tokens, lambda _, rows: rows.tokens[:, 0].tolist())
            for name, prompts in compared.items()
        }
        passes.save()
        print("| rate, decay | loss before, after | " + " | ".join(compared) + " |\n|---|---|" + "---|" * len(compared))
        print("| no bias | | " + " | ".join(f"{tokens:.2f} tokens a cycle" for tokens in plain.values()) + " |")
        for rate, decay in ((1e-2, 0.01), (3e-3, 0.01), (3e-3, 1.0), (1e-3, 1.0)):
            bias = Bias(model.n_vocab, args.rank)
            before, after = train(bias, taught, held, rate=rate, decay=decay)
            cells = []
            for name, prompts in compared.items():
                tokens = cycles(passes, prompts, args.max_tokens, with_bias(bias))
                cells.append(f"{tokens:.2f}, {100 * (tokens / plain[name] - 1):+.1f} %")
            print(f"| {rate:g}, {decay:g} | {before:.3f}, {after:.3f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
