"""Conversations, held-out prompts, and packing of token rows for training."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from code_tasks import function, python_class
from qa_tasks import question_answer, small_talk
from tasks import Turn, arithmetic, count_words, follow_up, is_heldout, reverse, sort_numbers, sort_words, spell
from tokenizer import EOS, MASK, N_SPECIAL
from tokenizers import Tokenizer

# generator, share of the training turns, number of held-out prompts
TASKS = [
    (arithmetic, 0.18, 30), (sort_numbers, 0.15, 20), (sort_words, 0.15, 20), (reverse, 0.10, 20), (spell, 0.08, 20),
    (count_words, 0.09, 20), (function, 0.09, 20), (python_class, 0.07, 16), (question_answer, 0.12, 24),
    (small_talk, 0.02, 0),
]  # fmt: skip
N_FOLLOW_UP = 10
SYSTEM_PROMPTS = [
    "You are a helpful assistant.", "You are Trimode Tiny, a small assistant.", "Answer briefly and correctly.",
    "You are a friendly assistant that comes with pytrimode.", "You help with numbers, words and Python.",
    "Be precise.", "You are a careful assistant. Think before you answer.",
]  # fmt: skip


def train_turn(rng: random.Random) -> Turn:
    """A turn whose arguments are not held out."""
    generator = rng.choices([t[0] for t in TASKS], [t[1] for t in TASKS])[0]
    while True:
        turn = generator(rng)
        if not is_heldout(turn.key):
            return turn


def conversation(rng: random.Random, n_turns: int) -> tuple[list[dict], list[Turn]]:
    """Messages of a training conversation; about half of the later turns refer to the list answered before."""
    messages = []
    if rng.random() < 0.2:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    turns: list[Turn] = []
    for _ in range(n_turns):
        turn = follow_up(rng, turns[-1]) if turns and rng.random() < 0.8 else None
        if turn is None or is_heldout(turn.key):
            turn = train_turn(rng)
        turns.append(turn)
        messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
    return messages, turns


def render(messages: list[dict], turn: Turn | None = None, thinking: bool = False) -> str:
    """The text of a whole conversation as chat_template.jinja writes it; the last answer with its thinking if asked."""
    text = "<s>"
    for message in messages:
        opening = "<think></think>" if message["role"] == "assistant" else ""
        text += f"<|im_start|>{message['role']}\n{opening}{message['content']}<|im_end|>\n"
    if thinking and turn is not None and turn.think:
        head, _, _ = text.rpartition("<think></think>")
        text = f"{head}<think>\n{turn.think}\n</think>\n\n{turn.short or turn.answer}<|im_end|>\n"
    return text


def heldout_prompts(seed: int = 7) -> list[dict]:
    """The 200 held-out prompts: {task, messages, answer}, stratified by task, with arguments never trained on."""
    rng = random.Random(seed)
    prompts = []
    for generator, _, n in TASKS:
        while n:
            turn = generator(rng)
            if is_heldout(turn.key):
                prompts.append(heldout_entry(rng, [turn]))
                n -= 1
    n = N_FOLLOW_UP
    while n:
        first = rng.choice((sort_numbers, sort_words, reverse))(rng)
        second = follow_up(rng, first)
        if second is not None and is_heldout(second.key):
            prompts.append(heldout_entry(rng, [first, second]))
            n -= 1
    return prompts


def heldout_entry(rng: random.Random, turns: list[Turn]) -> dict:
    """One entry: the messages up to the last question, and the answer to it."""
    messages = []
    if rng.random() < 0.15:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    for turn in turns[:-1]:
        messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
    messages.append({"role": "user", "content": turns[-1].question})
    return {"task": turns[-1].task, "messages": messages, "answer": turns[-1].answer}


def answer_mask(ids: list[int], special: dict[str, int]) -> np.ndarray:
    """True where a token was written by the assistant (thinking, answer and end of turn), [n] bool."""
    mask = np.zeros(len(ids), bool)
    inside = opening = False
    for i, token in enumerate(ids):
        if inside:
            mask[i] = True
            inside = token != EOS
        elif opening:  # the prompt ends after <think></think>, or after <think> and a newline
            inside, opening = True, False
        elif token == special["<think>"]:
            opening = True
    return mask


@dataclass
class Chat:
    """A tokenized conversation: ids [n] int64, answer [n] bool (tokens that the assistant wrote)."""

    ids: np.ndarray
    answer: np.ndarray


class ChatStream:
    """An endless seeded stream of tokenized training conversations no longer than a row."""

    def __init__(self, tokenizer: Tokenizer, seed: int):
        self.tokenizer, self.rng = tokenizer, random.Random(seed)
        self.special = {t: tokenizer.token_to_id(t) for t in ("<think>", "</think>")}
        self.buffer: dict[int, list[Chat]] = {}
        self.drills = 0.0  # share of rows that are copying drills

    def draw(self, max_length: int, n: int = 256) -> list[Chat]:
        """About n conversations of at most `max_length` tokens; long rows get conversations of many turns."""
        texts = []
        for _ in range(n):
            turns = self.rng.choices((1, 2, 3), (0.68, 0.26, 0.06))[0] if max_length < 400 else self.rng.randint(4, 8)
            messages, made = conversation(self.rng, turns)
            texts.append(render(messages, made[-1], self.rng.random() < 0.08))
        chats = []
        for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False):
            if len(encoding.ids) <= max_length:
                chats.append(Chat(np.array(encoding.ids), answer_mask(encoding.ids, self.special)))
        return chats

    def drill(self, length: int) -> Chat:
        """Random tokens repeated over and over: the quickest way to learn to look up what followed a token before."""
        vocabulary = range(N_SPECIAL, self.tokenizer.get_vocab_size())
        part = self.rng.choices(vocabulary, k=self.rng.randint(4, length // 2))
        ids = (part * length)[:length]
        return Chat(np.array(ids), np.arange(length) >= len(part))

    def row(self, length: int) -> list[Chat]:
        """Conversations that together fill a row of `length` tokens as well as a small buffer allows (best fit)."""
        if self.rng.random() < self.drills:
            return [self.drill(n) for n in [length // 4] * 4]
        buffer = self.buffer.setdefault(length, [])
        if len(buffer) < 64:
            buffer += self.draw(length)
        room, chosen = length, [buffer.pop(0)]
        room -= len(chosen[0].ids)
        while True:
            fits = [i for i, c in enumerate(buffer[:64]) if len(c.ids) <= room]
            if not fits:
                return chosen
            best = max(fits, key=lambda i: len(buffer[i].ids)) if room < length // 2 else fits[0]
            chosen.append(buffer.pop(best))
            room -= len(chosen[-1].ids)


@dataclass
class Batch:
    """A packed batch of R rows: `clean` tokens first, then `noisy` rows of block passes (none in AR training).

    ids, target, position: [R, n] int64; weight: [R, n] float32 loss weights (0: none);
    visible: [R, n, n] bool, True where the row (dim 1) sees the key (dim 2). Targets are the next token on clean
    rows and the token itself on noisy rows.
    """

    ids: np.ndarray
    target: np.ndarray
    position: np.ndarray
    weight: np.ndarray
    visible: np.ndarray
    n_clean: int
    block: np.ndarray  # [R, n] int64: number of the row's block in its packed row, 0 on clean rows and padding
    source: np.ndarray  # [R, n] int64: for noisy rows the clean row whose causal logits predict the same position
    gap: np.ndarray  # [R, n] int64: for masked rows the distance to the last known token before them, at least 1


# Answers have weight 1, prompts 0.1 on average (they only teach the language): a random fifth, the others cost no head.
PROMPT_SHARE, PROMPT_WEIGHT = 0.2, 0.5
PAD_WEIGHT = 0.1  # masked positions after the end of an answer, whose target is the end token again


@dataclass(frozen=True)
class Masking:
    """How blocks of answers are masked: their sizes, and which tokens behind the first."""

    sizes: tuple[int, ...] = (8, 16, 32)
    all_masked: float = 0.15  # share of the blocks that is masked throughout, as drafts are
    by_share: bool = False  # of the others, masked with p ~ U(0.05, 1), each row counts 1 / max(p, 0.1) and not 1


def make_batch(
    stream: ChatStream, rng: np.random.Generator, rows: int, length: int, n_noisy: int, masking: Masking
) -> Batch:
    """Pack conversations into rows; with n_noisy > 0 add blocks of masked answers behind each row."""
    n = length + n_noisy
    shape = (rows, n)
    batch = Batch(
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.float32),
        np.zeros((rows, n, n), bool),
        length,
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
    )
    causal = np.tril(np.ones((length, length), bool))
    for r in range(rows):
        starts, at = [], 0
        chats = stream.row(length)
        for chat in chats:
            k = len(chat.ids)
            offset = 0 if rng.random() < 0.7 else int(rng.integers(0, 1500))
            span = slice(at, at + k)
            batch.ids[r, span] = chat.ids
            batch.position[r, span] = offset + np.arange(k)
            batch.target[r, at : at + k - 1] = chat.ids[1:]
            batch.weight[r, at : at + k - 1] = np.where(
                chat.answer[1:], 1.0, np.where(rng.random(k - 1) < PROMPT_SHARE, PROMPT_WEIGHT, 0.0)
            )
            batch.visible[r, span, span] = causal[:k, :k]
            starts.append((at, offset))
            at += k
        if n_noisy:
            add_blocks(batch, r, chats, starts, rng, masking)
    everyone = np.arange(n)
    batch.visible[:, everyone, everyone] = True  # padding sees itself, so that no row is empty
    return batch


def answer_blocks(chat: Chat, rng: np.random.Generator, sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(start, size, end of the answer) of blocks that tile each answer, from its first token or a random one."""
    blocks = []
    edges = np.flatnonzero(np.diff(np.concatenate(([0], chat.answer.astype(np.int8), [0]))))
    for a, e in zip(edges[::2], edges[1::2], strict=True):
        size = int(rng.choice(sizes))
        first = a if rng.random() < 0.5 else a + int(rng.integers(0, min(size, e - a)))
        blocks += [(int(s), size, int(e)) for s in range(first, e - 1, size)]
    return blocks


def add_blocks(
    batch: Batch,
    r: int,
    chats: list[Chat],
    starts: list[tuple[int, int]],
    rng: np.random.Generator,
    masking: Masking,
) -> None:
    """Fill the noisy part of row r with blocks `[seed, masks...]` as the decoders see them.

    A block sees the clean tokens of its conversation before its start, and itself in both directions. Its first token
    is clean; of the rest all are masked (drafts) or each with a probability p (diffusion steps).
    """
    blocks = [(c, b) for c in range(len(chats)) for b in answer_blocks(chats[c], rng, masking.sizes)]
    rng.shuffle(blocks)
    at = batch.n_clean
    for number, (c, (start, size, end)) in enumerate(blocks, 1):
        if at + size > batch.ids.shape[1]:
            continue
        span, (origin, offset) = slice(at, at + size), starts[c]
        real = min(size, end - start)
        tokens = np.full(size, EOS)
        tokens[:real] = chats[c].ids[start : start + real]
        p = 1.0 if rng.random() < masking.all_masked else rng.uniform(0.05, 1.0)
        masked = rng.random(size) < p
        masked[0] = False
        of_answer = np.where(np.arange(size) < real, 1.0, PAD_WEIGHT)
        batch.ids[r, span] = np.where(masked, MASK, tokens)
        batch.target[r, span] = tokens
        batch.position[r, span] = offset + start + np.arange(size)
        batch.weight[r, span] = np.where(masked, of_answer / (max(p, 0.1) if masking.by_share else 1.0), 0.0)
        batch.gap[r, span] = np.arange(size) - np.maximum.accumulate(np.where(masked, 0, np.arange(size)))
        batch.visible[r, span, span] = True
        batch.visible[r, span, origin : origin + start] = True
        batch.block[r, span] = number
        batch.source[r, span] = np.minimum(origin + start + np.arange(size) - 1, batch.n_clean - 1)
        at += size
