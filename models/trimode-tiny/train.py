#!/usr/bin/env python3
"""Train trimode-tiny from nothing: data and tokenizer, AR, joint AR + block diffusion, settling, drafter.

python train.py                        # everything, seeded, about two hours on two cores
python train.py --resume               # continue from the last state in --work
python train.py --start DIR --out OUT  # only the last two stages, from the weights of a checkpoint
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from checkpoint import MAX_POSITION, export_lora, export_model, load_model, model_config, round_bf16
from data import Batch, ChatStream, Masking, conversation, heldout_prompts, make_batch, render
from lora import attach, draft_loss
from model import TriMode
from optim import Optimizers
from parallel import mean_gradients, rank, run, world
from quick import quick_check
from tokenizer import save_tokenizer, train_tokenizer
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
# Label smoothing on masked rows only: revealing at confidence 0.9 then asks for 0.9 / (1 - 0.05) of a calibrated row.
BLOCK_SMOOTHING = 0.05
LORA_LR = 1.5e-3
PREPARED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "heldout.json")


@dataclass(frozen=True)
class Stage:
    """What differs between the stages of training.

    Attributes:
        masking: how blocks are masked.
        far: masks behind the last known token from which on a masked row is to be unsure.
        rate: factor on the learning rates.
    """

    masking: Masking
    far: float = np.inf
    rate: float = 1.0


AR, JOINT, SETTLE, LORA = NAMES = ("ar", "joint", "settle", "lora")
STAGES = {
    AR: Stage(Masking()),
    JOINT: Stage(Masking()),
    SETTLE: Stage(Masking(all_masked=0.1, by_share=True), far=12, rate=0.7),
    LORA: Stage(Masking(sizes=(16, 16, 32), all_masked=1.0)),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=HERE, help="folder for the checkpoint (default: this script's)")
    p.add_argument("--work", type=Path, default=Path("trimode-tiny-run"), help="folder for training states and the log")
    p.add_argument("--start", type=Path, metavar="DIR", help="settle the weights of this checkpoint: no AR and joint")
    p.add_argument("--resume", action="store_true", help="continue from the newest state in --work")
    p.add_argument(
        "--steps",
        type=int,
        nargs=4,
        default=(2200, 2600, 600, 2000),
        metavar=tuple(stage.upper() for stage in NAMES),
        help="steps of the four stages (default: %(default)s)",
    )
    p.add_argument("--rows", type=int, default=12, help="packed rows per batch (default: %(default)s)")
    p.add_argument("--length", type=int, default=192, help="tokens per packed row (default: %(default)s)")
    p.add_argument(
        "--noisy", type=int, default=128, help="rows of block passes behind each packed row (default: %(default)s)"
    )
    p.add_argument(
        "--drill-steps", type=int, default=200, help="first steps with copying drills (default: %(default)s)"
    )
    p.add_argument("--muon-lr", type=float, default=0.02, help="learning rate of Muon (default: %(default)s)")
    p.add_argument("--adam-lr", type=float, default=0.003, help="learning rate of AdamW (default: %(default)s)")
    p.add_argument(
        "--diffusion-weight", type=float, default=1.0, help="weight of the block loss (default: %(default)s)"
    )
    p.add_argument("--vocab", type=int, default=2048, help="largest vocabulary (default: %(default)s)")
    p.add_argument("--seed", type=int, default=1, help="seed of data, weights and order (default: %(default)s)")
    p.add_argument("--float32", action="store_true", help="no bfloat16 products (CPUs without avx512_bf16)")
    p.add_argument("--processes", type=int, default=2, help="processes of one thread each (default: %(default)s)")
    p.add_argument(
        "--check-every", type=int, default=200, help="steps between checks and saved states (default: %(default)s)"
    )
    return p.parse_args()


def say(work: Path, text: str) -> None:
    """Print and log a line (first process only)."""
    if rank():
        return
    print(text, flush=True)
    with (work / "train.log").open("a") as f:
        f.write(text + "\n")


def stream_seed(args: argparse.Namespace, extra: int) -> int:
    """Seed of this process's data."""
    return args.seed * 1000 + extra + 1_000_000 * rank()


def prepare(args: argparse.Namespace) -> None:
    """Stage 1: train the tokenizer on 20,000 generated conversations and write it with the held-out prompts.

    With --start both are those of that checkpoint.
    """
    path = args.out / "tokenizer.json"
    if args.start:
        for name in PREPARED:
            if not (args.out / name).exists():
                shutil.copy(args.start / name, args.out)
        return
    if args.resume and path.exists():
        return
    rng = random.Random(args.seed)
    texts = []
    for _ in range(20000):
        messages, turns = conversation(rng, rng.choice((1, 1, 2)))
        texts.append(render(messages, turns[-1], rng.random() < 0.1).replace("<s>", ""))
    tokenizer = train_tokenizer(texts, args.vocab)
    save_tokenizer(tokenizer, HERE / "chat_template.jinja", args.out, MAX_POSITION)
    (args.out / "heldout.json").write_text(json.dumps(heldout_prompts(), indent=1) + "\n")


def learning_rate(step: int, total: int, warmup: int, decay_from: float, last: float = 0.02) -> float:
    """Warm-up, constant, then linear decay to `last` in the final part (WSD)."""
    if step < warmup:
        return (step + 1) / warmup
    start = total * decay_from
    return 1.0 if step < start else last + (1 - last) * (total - step) / (total - start)


def tensors(batch: Batch) -> tuple[torch.Tensor, ...]:
    """ids, position, visible, target, weight of a batch as tensors."""
    return tuple(torch.from_numpy(x) for x in (batch.ids, batch.position, batch.visible, batch.target, batch.weight))


def smoothing_of(batch: Batch, far: float) -> torch.Tensor:
    """Label smoothing [R, n] by distance: 0 on clean rows, from BLOCK_SMOOTHING (near) to 1 (`far` masks away)."""
    gap = torch.from_numpy(batch.gap)
    return torch.where(gap > 0, BLOCK_SMOOTHING + (1 - BLOCK_SMOOTHING) * (gap / far).clamp(max=1.0) ** 3, 0.0)


def precision(args: argparse.Namespace) -> torch.autocast:
    """Products in bfloat16, weights and optimizer in float32, unless --float32: 1.6 times as fast with avx512_bf16."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=not args.float32)


def losses(model: TriMode, batch: Batch, far: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted mean cross-entropy of the causal rows and of the masked rows (0 if there are none).

    reference objective: 0.3 * CE / p on masked rows. Settling weighs them so, the joint stage counts each the same.
    Rows after the end of an answer count a tenth.
    """
    ids, position, visible, target, weight = tensors(batch)
    parts, past, n = [], None, batch.n_clean
    smoothing = smoothing_of(batch, far)
    for span in (slice(0, n), slice(n, None)):
        w, seen = weight[:, span], visible[:, span, :n] if past is None else visible[:, span]
        chosen = w > 0
        if not chosen.any():
            parts.append(torch.zeros(()))
            continue
        hidden, past = model.hidden(ids[:, span], position[:, span], seen, past)
        logp = model.diffusion_head(hidden[chosen]).float().log_softmax(-1)
        right, eps = logp.gather(-1, target[:, span][chosen][:, None])[:, 0], smoothing[:, span][chosen]
        ce = -(1 - eps) * right - eps * logp.mean(-1)
        parts.append((ce * w[chosen]).sum() / w.sum())
    return parts[0], parts[1]


def next_batch(args: argparse.Namespace, stage: str, step: int, stream: ChatStream, rng: np.random.Generator) -> Batch:
    """The batch of a step. Every 12th is made of long rows with conversations of many turns."""
    rows, length, noisy = args.rows, args.length, {AR: 0, LORA: 2 * args.noisy}.get(stage, args.noisy)
    stream.drills = 0.1 if stage == AR and step < args.drill_steps else 0.0
    if step % 12 == 11 and stage != AR:
        rows, length, noisy = max(args.rows // 3, 1), args.length * 5 // 2, noisy * 2
    return make_batch(stream, rng, max(rows // world(), 1), length, noisy, STAGES[stage].masking)


def save(args: argparse.Namespace, stage: str, step: int, model: TriMode, optimizers) -> None:
    """Save the training state of a stage (first process only)."""
    if rank():
        return
    state = {"stage": stage, "step": step, "model": model.state_dict(), "optimizers": optimizers.state_dict()}
    torch.save(state, args.work / "state.tmp")
    (args.work / "state.tmp").replace(args.work / f"state-{stage}.pt")


def load(args: argparse.Namespace, stage: str, model: TriMode, optimizers) -> int:
    """Restore the state of a stage if --resume and there is one; returns the step to start from."""
    path = args.work / f"state-{stage}.pt"
    if not args.resume or not path.exists():
        return 0
    state = torch.load(path)
    model.load_state_dict(state["model"])
    optimizers.load_state_dict(state["optimizers"])
    return state["step"]


def train_stage(args: argparse.Namespace, stage: str, total: int, model: TriMode, tokenizer: Tokenizer) -> None:
    """Stages 2 to 4: AR alone, AR and block diffusion together, then the same with distant masked rows unsure."""
    optimizers = Optimizers(model, args.muon_lr, args.adam_lr)
    step = load(args, stage, model, optimizers)
    stream = ChatStream(tokenizer, stream_seed(args, 100 * NAMES.index(stage) + step))
    rng = np.random.default_rng(stream_seed(args, step))
    warmup, decay_from = (40, 1.0) if stage == AR else (20, 0.45)
    began, ar_mean, block_mean = time.time(), 0.0, 0.0
    first = step
    while step < total:
        with precision(args):
            ar, block = losses(model, next_batch(args, stage, step, stream, rng), STAGES[stage].far)
        (ar + args.diffusion_weight * block).backward()
        mean_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step(STAGES[stage].rate * learning_rate(step, total, warmup, decay_from))
        step += 1
        mix = 0.95 if step - first > 20 else 0.5
        ar_mean, block_mean = mix * ar_mean + (1 - mix) * ar.item(), mix * block_mean + (1 - mix) * block.item()
        if step % 20 == 0:
            pace = (time.time() - began) / (step - first)
            say(
                args.work,
                f"{stage} {step}/{total} ar {ar_mean:.3f} block {block_mean:.3f} {pace:.2f} s/step "
                f"{(total - step) * pace / 60:.0f} min left",
            )
        if step % args.check_every == 0 or step == total:
            save(args, stage, step, model, optimizers)
            if rank() == 0:
                say(args.work, f"{stage} {step}: {quick_check(model, tokenizer, drafts=stage != AR)}")


def draft_step(model: TriMode, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and mean accepted drafts of a batch: causal rows without, draft rows with the LoRA."""
    ids, position, visible, _, weight = tensors(batch)
    n = batch.n_clean
    with torch.no_grad():
        clean, past = model.hidden(ids[:, :n], position[:, :n], visible[:, :n, :n])
    noisy, _ = model.hidden(ids[:, n:], position[:, n:], visible[:, n:], past, lora_from=0)
    block, source = torch.from_numpy(batch.block)[:, n:], torch.from_numpy(batch.source)[:, n:]
    rows = (block > 0) & (weight[:, n:] == 1.0)  # masked positions within an answer
    r = rows.nonzero()[:, 0]
    causal = model.diffusion_head(clean[r, source[rows]])  # the clean rows that predict the same positions
    return draft_loss(model.diffusion_head(noisy[rows]).float(), causal.float(), block[rows] + 1000 * r)


def train_lora(args: argparse.Namespace, total: int, model: TriMode, tokenizer: Tokenizer) -> None:
    """Stage 5: the drafter, on all-masked blocks of training answers, base frozen."""
    model.requires_grad_(False)
    torch.manual_seed(args.seed)
    loras = attach(model)
    parameters = [p for lora in loras for p in lora.parameters()]
    optimizer = torch.optim.AdamW(parameters, LORA_LR, betas=(0.9, 0.99), weight_decay=0.0)
    stream, rng = ChatStream(tokenizer, stream_seed(args, 777)), np.random.default_rng(stream_seed(args, 777))
    began, mean, accepted_mean = time.time(), 0.0, 0.0
    for step in range(total):
        with precision(args):
            loss, accepted = draft_step(model, next_batch(args, LORA, step, stream, rng))
        loss.backward()
        mean_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = LORA_LR * learning_rate(step, total, 20, 0.3)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mean, accepted_mean = 0.95 * mean + 0.05 * loss.item(), 0.95 * accepted_mean + 0.05 * accepted.item()
        if (step + 1) % 20 == 0:
            say(
                args.work,
                f"lora {step + 1}/{total} kl {mean:.3f} accepted {accepted_mean:.2f} "
                f"{(time.time() - began) / (step + 1):.2f} s/step",
            )
    if rank() == 0:
        export_lora([(lora.a, lora.b) for lora in loras], args.out)


def main() -> None:
    """Prepare, then train in processes."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    prepare(args)
    run(train, args.processes, args)


def train(args: argparse.Namespace) -> None:
    """All stages, in each process."""
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    model = TriMode(model_config(tokenizer.get_vocab_size()))
    say(
        args.work,
        f"vocabulary {tokenizer.get_vocab_size()}, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters",
    )
    if args.start:
        model.load_state_dict(load_model(args.start).state_dict())
    first = SETTLE if args.start else AR
    if args.resume:  # what came before the newest state is in it
        first = next((s for s in (SETTLE, JOINT) if (args.work / f"state-{s}.pt").exists()), first)
    for stage in NAMES[NAMES.index(first) : -1]:
        train_stage(args, stage, args.steps[NAMES.index(stage)], model, tokenizer)
    round_bf16(model)
    if rank() == 0:
        export_model(model, args.out)
    train_lora(args, args.steps[-1], model, tokenizer)
    say(args.work, f"checkpoint in {args.out}; now run evaluate.py")


if __name__ == "__main__":
    main()
