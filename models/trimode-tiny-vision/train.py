#!/usr/bin/env python3
"""Train trimode-tiny-vision: the tower on labels of what it sees, then tower, projector and text model on questions.

python train.py            # all stages, seeded
python train.py --resume   # continue from the last state in --work
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _text_model import HERE, TEXT_MODEL
from assemble import CHANGES
from checkpoint import load_model
from data import Batch, Chat, ChatStream, Masking, answer_mask, make_batch
from draw import COLOURS, KINDS, LABELS, N_CLASSES, SHAPES, SHORT_WORDS, everything_said, hard_questions, scene
from network import BREAK, END, START, VISION, Eyes, Seeing, image_ids
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

BLOCK_SMOOTHING = 0.05
"""Label smoothing on masked rows, as in training the text model."""
MASKING = Masking(sizes=(8, 16, 16, 32))
SHARES = (0.7, 0.12, 0.18)
"""Of shapes, digits and words in the later stages: shapes are what takes longest to learn."""
ROW_NORM = 10.0
"""Rows of pictures with a larger norm cost. Those of text have 8.5; in longer ones the part in the direction of a token
is too small for the text model to find."""
TOLD_WEIGHT = 3.0
"""Of the tokens of answers that say what is seen; the others are the same in all answers."""


@dataclass(frozen=True)
class Stage:
    """How the second and the third stage train.

    Attributes:
        hard: ask `hard_questions`.
        rate: factor of the learning rates.
        text_every: one batch of so many is text alone: the changed model is held to what the text model says.
        causal_share: of the steps; they have causal rows alone, which are cheaper. Block rows come behind that.
        seed: of the data, added to that of the run.
    """

    name: str
    hard: bool
    rate: float
    text_every: int
    causal_share: float
    seed: int


ANSWERS = Stage("answers", hard=False, rate=1.0, text_every=8, causal_share=0.7, seed=0)
PRACTICE = Stage("practice", hard=True, rate=0.6, text_every=5, causal_share=0.85, seed=50)


def arguments() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=HERE, help="folder for the weights (default: this script's)")
    p.add_argument("--work", type=Path, default=Path("trimode-tiny-vision-run"), help="folder for states and the log")
    p.add_argument("--resume", action="store_true", help="continue from the newest state in --work")
    p.add_argument(
        "--steps", type=int, nargs=3, default=(3500, 5000, 1100), help="of the stages (default: %(default)s)"
    )
    p.add_argument("--pictures", type=int, default=64, help="in a batch of the first stage (default: %(default)s)")
    p.add_argument("--more", type=int, default=8, help="labelled ones more in later stages (default: %(default)s)")
    p.add_argument("--length", type=int, default=384, help="tokens in a batch of theirs (default: %(default)s)")
    p.add_argument("--noisy", type=int, default=192, help="rows of block passes behind them (default: %(default)s)")
    p.add_argument("--seed", type=int, default=1, help="of data and weights (default: %(default)s)")
    p.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    p.add_argument("--save-every", type=int, default=100, help="steps between saved states (default: %(default)s)")
    return p.parse_args()


def say(args: argparse.Namespace, text: str) -> None:
    """Print and log a line."""
    print(text, flush=True)
    with (args.work / "train.log").open("a") as f:
        f.write(text + "\n")


def learning_rate(step: int, total: int, warmup: int = 30, decay_from: float = 0.5) -> float:
    """Warm-up, constant, then linear decay."""
    if step < warmup:
        return (step + 1) / warmup
    start = total * decay_from
    return 1.0 if step < start else max(0.02, (total - step) / (total - start))


class Heads(nn.Module):
    """Say what is in a cell and a picture, from the cell's row: what the first stage trains, and then forgotten.

    Colours, shapes, digits and words are read off in the direction of their (first) token's embedding: so a row of a
    picture looks to the text model like the tokens that describe it.
    """

    def __init__(self, embeddings: Tensor, tokenizer: Tokenizer):
        super().__init__()
        self.heads = nn.ModuleDict(
            {name: nn.Linear(embeddings.shape[1], n) for name, n in zip(LABELS, N_CLASSES, strict=True)}
        )
        texts = {
            "colour": [None, *(f" {c}" for c in COLOURS)],
            "shape": [None, *(f" {s}" for s in SHAPES)],
            "digit": [str(n) for n in range(10)],
            "word": [f" {w}" for w in SHORT_WORDS],
        }
        with torch.no_grad():
            for name, values in texts.items():
                head = self.heads[name].requires_grad_(False)
                head.bias.zero_()
                for i, text in enumerate(values):
                    if text is None:
                        head.weight[i] = 0
                    else:
                        token = embeddings[tokenizer.encode(text, add_special_tokens=False).ids[0]]
                        head.weight[i] = 2 * token / token.norm()

    def forward(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Sum of the mean cross-entropies and of what long rows cost, and the share of right labels by name."""
        norms = rows.norm(dim=-1)
        total, right = 0.02 * F.relu(norms - ROW_NORM).square().mean(), {"norm": norms.mean().item()}
        for i, name in enumerate(LABELS):
            known = labels[:, i] >= 0
            if known.any():
                logits, target = self.heads[name](rows[known]), labels[known, i]
                total = total + F.cross_entropy(logits, target)
                right[name] = float((logits.argmax(-1) == target).float().mean())
        return total, right


class Run:
    """A stage's step count, optimizer and states on disk."""

    def __init__(self, args: argparse.Namespace, name: str, total: int, modules: dict, groups: list[dict]):
        self.args, self.name, self.total, self.modules, self.step = args, name, total, modules, 0
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.path = args.work / f"state-{name}.pt"
        self.mean: dict[str, float] = {}
        if args.resume and self.path.exists():
            state = torch.load(self.path)
            for key, module in modules.items():
                module.load_state_dict(state[key])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
        self.began, self.first = time.time(), self.step

    def advance(self, values: dict[str, float]) -> None:
        """Take the step whose gradients are there; log and save now and then."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * learning_rate(self.step, self.total)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        for key, value in values.items():
            self.mean[key] = 0.95 * self.mean.get(key, value) + 0.05 * value
        if self.step % 20 == 0:
            pace = (time.time() - self.began) / (self.step - self.first)
            means = " ".join(f"{key} {value:.3f}" for key, value in self.mean.items())
            left = (self.total - self.step) * pace / 60
            say(self.args, f"{self.name} {self.step}/{self.total} {means} {pace:.2f} s/step {left:.0f} min left")
        if self.step % self.args.save_every == 0 or self.step == self.total:
            state = {key: module.state_dict() for key, module in self.modules.items()}
            torch.save({"step": self.step, "optimizer": self.optimizer.state_dict(), **state}, self.path)


def train_eyes(args: argparse.Namespace, eyes: Eyes, heads: Heads) -> None:
    """The first stage: labels of cells and pictures, without the text model."""
    trained = [p for p in heads.parameters() if p.requires_grad]
    run = Run(args, "eyes", args.steps[0], {"eyes": eyes, "heads": heads},
              [{"params": [*eyes.parameters(), *trained], "lr": 2e-3}])  # fmt: skip
    rng = random.Random(args.seed * 1000 + run.step)
    while run.step < run.total:
        scenes = [scene(rng) for _ in range(args.pictures)]
        labels = torch.from_numpy(np.concatenate([s.labels for s in scenes]))
        loss, right = heads(eyes([s.pixels for s in scenes]), labels)
        loss.backward()
        run.advance({"loss": loss.item(), **right})


class PictureStream:
    """An endless seeded stream of tokenized conversations about pictures; `hard`: with the questions of practice."""

    def __init__(self, tokenizer: Tokenizer, seed: int, *, hard: bool = False):
        self.tokenizer, self.rng, self.hard = tokenizer, random.Random(seed), hard
        self.special = {t: tokenizer.token_to_id(t) for t in ("<think>", "</think>")}
        self.waiting: list[tuple[Chat, object]] = []
        self.scenes: list = []

    def chat(self) -> tuple[Chat, object]:
        """A picture and one to four questions about it."""
        made = scene(self.rng, self.rng.choices(KINDS, SHARES)[0])
        hard = self.hard and made.things
        ids = self.ids(made.pixels, hard_questions(self.rng, made.things) if hard else made.questions)
        return Chat(np.array(ids), answer_mask(ids, self.special)), made

    def ids(self, pixels: np.ndarray, asked: list[tuple[str, str, str]]) -> list[int]:
        """The tokens of a conversation as the chat template writes it, a pad for each cell."""
        text = "<s>"
        for i, (_, question, answer) in enumerate(asked):
            text += f"<|im_start|>user\n{'<SPECIAL_18>' if i == 0 else ''}{question}<|im_end|>\n"
            text += f"<|im_start|>assistant\n<think></think>{answer}<|im_end|>\n"
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        at = ids.index(18)
        return ids[:at] + image_ids(pixels) + ids[at + 1 :]

    def row(self, length: int) -> list[Chat]:
        """Conversations that fill a packed row (best fit); their pictures are appended to `scenes`, in order."""
        room, chosen = length, []
        while True:
            while len(self.waiting) < 24:
                self.waiting.append(self.chat())
            fits = [i for i, (chat, _) in enumerate(self.waiting) if len(chat.ids) <= room]
            if not fits:
                return chosen
            best = max(fits, key=lambda i: len(self.waiting[i][0].ids)) if room < 150 else fits[0]
            chat, made = self.waiting.pop(best)
            chosen.append(chat)
            self.scenes.append(made)
            room -= len(chat.ids)


def passes(model: Seeing, batch: Batch) -> list[tuple[Tensor, slice, Tensor]]:
    """Logits of the rows that count: causal rows, then block rows; with the part and the choice of rows."""
    ids, position, visible, weight = (
        torch.from_numpy(x) for x in (batch.ids, batch.position, batch.visible, batch.weight)
    )
    made, past, n = [], None, batch.n_clean
    for span in (slice(0, n), slice(n, ids.shape[1])):
        if span.start == span.stop:
            continue
        seen = visible[:, span, :n] if past is None else visible[:, span]
        hidden, past = model.text.hidden(ids[:, span], position[:, span], seen, past)
        chosen = weight[:, span] > 0
        made.append((model.text.diffusion_head(hidden[chosen]).float(), span, chosen))
    return made


def weigh(batch: Batch, told: np.ndarray) -> None:
    """Weigh answers alone, and more what they tell: `told` [vocabulary] bool."""
    clean = batch.weight[:, : batch.n_clean]
    clean[clean < 1] = 0
    batch.weight[told[batch.target]] *= TOLD_WEIGHT


def telling(tokenizer: Tokenizer) -> np.ndarray:
    """[vocabulary] bool: the first tokens of colours, shapes, words and numbers."""
    told = np.zeros(tokenizer.get_vocab_size(), bool)
    for text in (*COLOURS, *SHAPES, *SHORT_WORDS):
        told[tokenizer.encode(f" {text}", add_special_tokens=False).ids[0]] = True
    for digit in range(10):
        told[tokenizer.encode(str(digit), add_special_tokens=False).ids[0]] = True
    return told


def question_losses(model: Seeing, batch: Batch) -> tuple[Tensor, float]:
    """Weighted mean cross-entropy of causal rows, and of masked rows where there are any; share right of what is told.

    The share is that of causal rows: of the tokens that weigh TOLD_WEIGHT.
    """
    target, weight = torch.from_numpy(batch.target), torch.from_numpy(batch.weight)
    parts, told = [], 0.0
    for logits, span, chosen in passes(model, batch):
        smoothing = BLOCK_SMOOTHING if span.start else 0.0
        ce = F.cross_entropy(logits, target[:, span][chosen], label_smoothing=smoothing, reduction="none")
        w = weight[:, span][chosen]
        parts.append((ce * w).sum() / w.sum())
        if not span.start:
            right = logits.argmax(-1) == target[:, span][chosen]
            told = float(right[w == TOLD_WEIGHT].float().mean())
    return torch.stack(parts), told


def text_loss(model: Seeing, batch: Batch) -> Tensor:
    """KL from the text model to the changed one, on causal and masked rows."""
    model.switch(False)
    with torch.no_grad():
        before = [logits.log_softmax(-1) for logits, _, _ in passes(model, batch)]
    model.switch(True)
    after = [logits.log_softmax(-1) for logits, _, _ in passes(model, batch)]
    pairs = zip(after, before, strict=True)
    return sum((F.kl_div(a, b, log_target=True, reduction="batchmean") for a, b in pairs), torch.zeros(()))


def train_answers(
    args: argparse.Namespace, stage: Stage, steps: int, model: Seeing, heads: Heads, tokenizer: Tokenizer
) -> None:
    """The second or the third stage: questions about pictures in causal and block rows, and text now and then."""
    changes = [p for change in model.changes.values() for p in change.parameters() if p.requires_grad]
    groups = [
        {"params": changes, "lr": 2e-3 * stage.rate},
        {"params": list(model.eyes.multi_modal_projector.parameters()), "lr": 5e-4 * stage.rate},
        {"params": list(model.eyes.vision_tower.parameters()), "lr": 2e-4 * stage.rate},
    ]
    run = Run(args, stage.name, steps, {"model": model, "heads": heads}, groups)
    seed = args.seed * 1000 + stage.seed + run.step
    pictures = PictureStream(tokenizer, seed + 500, hard=stage.hard)
    texts = ChatStream(tokenizer, seed + 700)
    rng = np.random.default_rng(seed)
    told = telling(tokenizer)
    while run.step < run.total:
        if run.step % stage.text_every == stage.text_every - 1:
            loss = text_loss(model, make_batch(texts, rng, 1, args.length, args.noisy, MASKING))
            loss.backward()
            run.advance({"text": loss.item()})
            continue
        pictures.scenes = []
        noisy = args.noisy if run.step >= stage.causal_share * run.total else 0
        batch = make_batch(pictures, rng, 1, args.length, noisy, MASKING)
        weigh(batch, told)
        n_asked = sum(len(s.labels) for s in pictures.scenes)
        scenes = [*pictures.scenes, *(scene(pictures.rng, "shapes") for _ in range(args.more))]
        rows = model.eyes([s.pixels for s in scenes])
        model.seen = rows[:n_asked]
        answered, share = question_losses(model, batch)
        seen, right = heads(rows, torch.from_numpy(np.concatenate([s.labels for s in scenes])))
        (answered.sum() + 0.3 * seen).backward()
        names = zip(("ar", "block"), answered.tolist(), strict=False)
        run.advance({**dict(names), "told": share, "seen": seen.item(), "same": right["same"], "norm": right["norm"]})


def export(model: Seeing, path: Path) -> None:
    """Write tower, projector, low-rank changes and rows as bfloat16: what assemble.py takes."""
    tensors = {f"encoder.{name}": weight for name, weight in model.eyes.state_dict().items()}
    for name, change in model.changes.items():
        tensors |= {f"{name}.{part}": p for part, p in change.named_parameters() if p.requires_grad}
    metadata = {"format": "pt", "rows": " ".join(map(str, model.ids))}
    save_file({name: t.detach().bfloat16().contiguous() for name, t in tensors.items()}, path, metadata)
    path.chmod(0o644)


def main() -> None:
    """All stages, then write the weights."""
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer.from_file(str(TEXT_MODEL / "tokenizer.json"))
    text = load_model(TEXT_MODEL).train()
    eyes = Eyes(VISION, text.config["hidden_size"])
    say(args, f"{sum(p.numel() for p in eyes.parameters()) / 1e6:.3f} M parameters in tower and projector")
    heads = Heads(text.encoder.embed_tokens.weight.data, tokenizer)
    if not (args.resume and (args.work / "state-answers.pt").exists()):
        train_eyes(args, eyes, heads)
    ids = {START, BREAK, END}
    for said in everything_said():
        ids.update(tokenizer.encode(said, add_special_tokens=False).ids)
    model = Seeing(text, eyes, ids)
    changes = [p for change in model.changes.values() for p in change.parameters() if p.requires_grad]
    say(args, f"{sum(p.numel() for p in changes) / 1e6:.3f} M in changes of the text model, {len(ids)} tokens of it")
    for stage, steps in zip((ANSWERS, PRACTICE), args.steps[1:], strict=True):
        train_answers(args, stage, steps, model, heads, tokenizer)
    export(model, args.out / CHANGES)


if __name__ == "__main__":
    main()
