"""A cheap check while training: teacher-forced exact answers, and self-spec walks over the right answers.

If every causal argmax along the right answer is right, greedy AR writes that answer; so one forward pass is enough. The
walk counts tokens per forward of greedy self-spec from the drafts at each position it would reach.
"""

from __future__ import annotations

import torch
from data import heldout_prompts, render
from model import TriMode
from tokenizer import EOS, MASK
from tokenizers import Tokenizer

CHECK_SEED = 1007  # the prompts of heldout.json are for evaluate.py alone


def causal(n: int) -> torch.Tensor:
    """[1, n, n] bool."""
    return torch.tril(torch.ones(1, n, n, dtype=torch.bool))


@torch.no_grad()
def walk(model: TriMode, ids: torch.Tensor, start: int, size: int) -> int:
    """Passes of greedy self-spec over ids [n], whose answer starts at `start`; the prefill gives its first token."""
    n, passes, s = len(ids), 0, start
    while s < n - 1:
        draft = torch.full((size,), MASK)
        draft[0] = ids[s]
        rows = torch.cat((ids[:s], draft))[None]
        visible = causal(s + size)
        visible[:, s:, s:] = True
        hidden, _ = model.hidden(rows, torch.arange(s + size)[None], visible)
        logits = model.diffusion_head(hidden[0, s:])
        logits[:, MASK] = -torch.inf
        guess, right = logits.argmax(-1)[1:], ids[s + 1 : s + size]
        hits = int((guess[: len(right)] == right).long().cumprod(0).sum())
        passes, s = passes + 2, s + min(hits + 1, size)
    return passes


@torch.no_grad()
def quick_check(model: TriMode, tokenizer: Tokenizer, drafts: bool, every: int = 2, size: int = 16) -> str:
    """Exact share per task on held-out prompts that are not those of heldout.json.

    With `drafts` also tokens per forward on those.
    """
    tally: dict[str, list[int]] = {}
    tokens = passes = 0
    for prompt in heldout_prompts(CHECK_SEED)[::every]:
        messages = [*prompt["messages"], {"role": "assistant", "content": prompt["answer"]}]
        ids = torch.tensor(tokenizer.encode(render(messages).rstrip("\n"), add_special_tokens=False).ids)
        start = len(
            tokenizer.encode(
                render(prompt["messages"]) + "<|im_start|>assistant\n<think></think>", add_special_tokens=False
            ).ids
        )
        hidden, _ = model.hidden(ids[None], torch.arange(len(ids))[None], causal(len(ids)))
        logits = model.diffusion_head(hidden[0, start - 1 : -1])
        logits[:, MASK] = -torch.inf
        exact = bool((logits.argmax(-1) == ids[start:]).all())
        assert ids[-1] == EOS
        tally.setdefault(prompt["task"], []).append(exact)
        if drafts and exact:
            passes += walk(model, ids, start, size)
            tokens += len(ids) - start
    total = [x for v in tally.values() for x in v]
    text = f"exact {sum(total) / len(total):.1%} " + " ".join(f"{t} {sum(v)}/{len(v)}" for t, v in tally.items())
    return text + (f" | self-spec B{size} {tokens / passes:.2f} tokens per forward" if passes else "")
