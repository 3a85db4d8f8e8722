#!/usr/bin/env python3
"""Decode the 200 held-out prompts greedily in the three modes and print accuracy and tokens per forward.

    python evaluate.py                         # the checkpoint beside this script
    python evaluate.py --write-heldout FILE    # only write the prompts: a list of {task, messages, answer}

Float32 arithmetic on the bfloat16 weights. Tokens per forward = emitted tokens (end token included) / forward passes;
the prefill, which gives the first token, is not counted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from checkpoint import load_model
from data import heldout_prompts
from jinja2 import Environment
from lora import load_lora
from model import TriMode
from tokenizer import EOS, MASK
from tokenizers import Tokenizer
from torch import Tensor

HERE = Path(__file__).resolve().parent


class Session:
    """One sequence: the network, its cache of causal keys and values, and a count of forward passes."""

    def __init__(self, model: TriMode):
        self.model, self.past, self.n, self.passes = model, None, 0, 0

    def forward(self, tokens: list[int], block: bool = False, lora: bool = False, keep: int = 0) -> Tensor:
        """Logits [k, vocab] of k new rows; the first `keep` of them stay in the cache (block rows never do).

        block: rows see each other in both directions, else causally. The mask token is excluded from every result.
        """
        k = len(tokens)
        visible = torch.ones(1, k, self.n + k, dtype=torch.bool)
        if not block:
            visible[0, :, self.n :] = torch.tril(visible[0, :, self.n :])
        position = torch.arange(self.n, self.n + k)[None]
        logits, kept = self.model(torch.tensor([tokens]), position, visible, self.past, 0 if lora else None)
        self.passes += 1
        self.crop(kept, self.n + keep)
        logits[..., MASK] = -torch.inf
        return logits[0]

    def crop(self, kept: list, n: int) -> None:
        """Keep the first n cells of `kept` as the cache."""
        self.past, self.n = [(k[:, :, :n], v[:, :, :n]) for k, v in kept], n

    def prefill(self, prompt: list[int]) -> int:
        """Fill the cache with the prompt; returns the first token of the answer. Not counted as a pass."""
        first = int(self.forward(prompt, keep=len(prompt))[-1].argmax())
        self.passes = 0
        return first


def decode_ar(session: Session, prompt: list[int], limit: int) -> list[int]:
    """Greedy causal decoding."""
    out = [session.prefill(prompt)]
    while out[-1] != EOS and len(out) < limit:
        out.append(int(session.forward(out[-1:], keep=1)[-1].argmax()))
    return out


def decode_diffusion(session: Session, prompt: list[int], limit: int, size: int, threshold: float) -> list[int]:
    """Block diffusion: unmask the most confident position and all above the threshold; commit the block causally."""
    out: list[int] = []
    seed = session.prefill(prompt)
    while len(out) < limit:
        block = [seed] + [MASK] * (size - 1)
        while MASK in block and not finished(block):
            confidence, candidate = session.forward(block, block=True).softmax(-1).max(-1)
            masked = torch.tensor([t == MASK for t in block])
            confidence[~masked] = -1
            chosen = masked & (confidence >= threshold)
            chosen[confidence.argmax()] = True
            for i in chosen.nonzero()[:, 0].tolist():
                block[i] = int(candidate[i])
        if finished(block):
            return (out + block[: block.index(EOS) + 1])[:limit]
        out += block
        seed = int(session.forward(block, keep=size)[-1].argmax())
    return out[:limit]


def finished(block: list[int]) -> bool:
    """True once an end token is revealed with everything before it revealed."""
    return EOS in block and MASK not in block[: block.index(EOS)]


def decode_self_spec(session: Session, prompt: list[int], limit: int, size: int, lora: bool) -> list[int]:
    """Linear self-speculation: draft `[s, masks]` in a block pass, verify causally, keep the agreeing prefix."""
    out = [session.prefill(prompt)]
    while out[-1] != EOS and len(out) < limit:
        draft = session.forward([out[-1]] + [MASK] * (size - 1), block=True, lora=lora).argmax(-1)[1:].tolist()
        rows = [out[-1], *draft]
        start = session.n
        verified = session.forward(rows, keep=size).argmax(-1).tolist()
        hits = 0
        while hits < size - 1 and draft[hits] == verified[hits]:
            hits += 1
        new = verified[: hits + 1]
        if EOS in new:
            new = new[: new.index(EOS) + 1]
        session.crop(session.past, start + len(new))
        out += new
    return out[:limit]


@dataclass
class Score:
    """Counts of one decoding configuration over prompts."""

    prompts: int = 0
    exact: int = 0
    tokens: int = 0
    passes: int = 0
    same_as_ar: int = 0

    def add(self, exact: bool, tokens: int, passes: int, same: bool) -> None:
        """Count one prompt."""
        self.prompts, self.exact = self.prompts + 1, self.exact + exact
        self.tokens, self.passes, self.same_as_ar = self.tokens + tokens, self.passes + passes, self.same_as_ar + same

    def row(self) -> str:
        """Accuracy, tokens per forward and agreement with AR as cells of a table."""
        tpf = self.tokens / max(self.passes, 1)
        return f"{self.exact}/{self.prompts} | {self.exact / self.prompts:.1%} | {tpf:.2f} | {self.same_as_ar}"


def configurations(sizes: list[int], thresholds: list[float], lora: bool) -> dict[str, Callable]:
    """Name and decoder of every configuration."""
    runs: dict[str, Callable] = {"ar": decode_ar}
    for size in sizes:
        for t in thresholds:
            runs[f"diffusion B{size} {t}"] = lambda s, p, n, size=size, t=t: decode_diffusion(s, p, n, size, t)
        runs[f"self-spec B{size}"] = lambda s, p, n, size=size: decode_self_spec(s, p, n, size, False)
        if lora:
            runs[f"self-spec B{size} LoRA"] = lambda s, p, n, size=size: decode_self_spec(s, p, n, size, True)
    return runs


@torch.no_grad()
def evaluate(
    folder: Path, runs: dict[str, Callable], lora: bool, every: int, limit: int
) -> dict[str, dict[str, Score]]:
    """Scores by configuration and task ('all' is the sum); prints wrong AR answers."""
    model, tokenizer = load_model(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    if lora:
        load_lora(model, folder)
    template = Environment().from_string((folder / "chat_template.jinja").read_text())
    scores: dict[str, dict[str, Score]] = {name: {"all": Score()} for name in runs}
    for prompt in heldout_prompts()[::every]:
        text = template.render(messages=prompt["messages"], add_generation_prompt=True, bos_token="<s>")
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        right = [*tokenizer.encode(prompt["answer"], add_special_tokens=False).ids, EOS]
        ar: list[int] = []
        for name, decode in runs.items():
            session = Session(model)
            out = decode(session, ids, limit)
            ar = ar or out
            for key in ("all", prompt["task"]):
                scores[name].setdefault(key, Score()).add(out == right, len(out), session.passes, out == ar)
            if name == "ar" and out != right:
                print(f"- {prompt['messages'][-1]['content']!r}\n  {tokenizer.decode(out)!r}\n  {prompt['answer']!r}")
    return scores


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=Path, default=HERE, help="checkpoint folder (default: this script's)")
    p.add_argument("--blocks", type=int, nargs="+", default=[8, 16, 32], help="block lengths (default: %(default)s)")
    p.add_argument("--thresholds", type=float, nargs="+", default=[0.9], help="of diffusion (default: %(default)s)")
    p.add_argument("--every", type=int, default=1, help="take every n-th prompt only (default: %(default)s)")
    p.add_argument("--limit", type=int, default=160, help="most tokens per answer (default: %(default)s)")
    p.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    p.add_argument("--write-heldout", type=Path, metavar="FILE", help="write the held-out prompts as JSON and stop")
    args = p.parse_args()
    if args.write_heldout:
        args.write_heldout.write_text(json.dumps(heldout_prompts(), indent=1) + "\n")
        return
    torch.set_num_threads(args.threads)
    lora = (args.model / "linear_spec_lora" / "adapter_model.safetensors").exists()
    began = time.time()
    scores = evaluate(args.model, configurations(args.blocks, args.thresholds, lora), lora, args.every, args.limit)
    print("\n| configuration | exact | accuracy | tokens per forward | same as AR |\n|---|---|---|---|---|")
    for name, by_task in scores.items():
        print(f"| {name} | {by_task['all'].row()} |")
    for name, by_task in scores.items():
        print(f"\n{name}\n\n| task | exact | accuracy | tokens per forward | same as AR |\n|---|---|---|---|---|")
        for task, score in by_task.items():
            print(f"| {task} | {score.row()} |")
    print(f"\n{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
