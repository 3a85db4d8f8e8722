"""What fits into a device's memory, what to choose, and how fast to expect it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pytrimode.gguf.sizes import parse_size
from pytrimode.options.gpu_layers import DEFAULT_MARGIN
from pytrimode.plan.cards import CARDS, Card
from pytrimode.plan.measure import measure
from pytrimode.plan.model_shape import BUILT_IN, ModelShape, model_shape
from pytrimode.plan.planned_tower import planned_tower_bytes
from pytrimode.plan.speed import Load, Speeds, speeds
from pytrimode.plan.weights import AS_STORED, QUANTIZATIONS, WeightBytes, lora_bytes, weight_bytes
from pytrimode.vision.memory import tower_bytes

GIB = 1 << 30
CACHE_TYPES = ("f16", "q8_0", "q4_0")
LEAST_MEMORY = 1 << 20
"""Less is a mistake, such as a number of GB without the unit."""
ESTIMATE_CONTEXT = 2048
"""Cached tokens that a pass of the speed estimates reads."""
PREFERRED_CACHES = (("f16", "q8_0"), ("q4_0",))
"""Before the cache goes to 4 bits, the weights become smaller, and the context shorter where nobody asked for one."""
DEFAULT_CONTEXT, LEAST_CONTEXT = 32768, 4096
"""Tokens that are planned for, and how few they may become."""
LEAST_BITS = 4.0
"""Of weights: before they have fewer, the context becomes shorter."""
NO_BETTER = ("f32", "f16", "bf16")
"""Types that are not recommended: they double the memory of q8_0, and halve the speed, for next to nothing."""


@dataclass(frozen=True)
class Option:
    """One quantization with one type of cache.

    Attributes:
        quantization: of the weights.
        cache_type: of keys and values.
        weights: bytes of all weights.
        bits_per_weight: on average.
        on_device: bytes on the device when everything is offloaded: weights but the embedding, LoRA, cache, compute.
        fits: whether that and the margin fit; None without a size to fit into.
        gpu_layers: what `-ngl` can be: layers, and one more for the head; -1 for all.
    """

    quantization: str
    cache_type: str
    weights: int
    bits_per_weight: float
    on_device: int
    fits: bool | None
    gpu_layers: int | None


@dataclass(frozen=True)
class CardSpeed:
    """Estimated speed on a card; `fits` is None where its memory is not known."""

    card: Card
    fits: bool | None
    speeds: Speeds


@dataclass(frozen=True)
class Plan:
    """What `plan` found. Sizes in bytes.

    Attributes:
        model: its name.
        params: number of weights.
        n_ctx: tokens, shared by all slots.
        shortened: whether they are fewer than DEFAULT_CONTEXT, so that cache or weights need no fewer bits.
        n_parallel: slots.
        vram: memory to fit into, None for none given.
        margin: of it left free.
        embedding: of the token embedding, which stays in main memory, by quantization.
        lora: of the drafter LoRA.
        vision: of the vision tower and of its compute buffer for the largest image; 0 without.
        kv_cache: by type, for all slots.
        kv_per_token: by type.
        compute: of the compute buffers.
        measured_on: the device that was asked for `compute`.
        options: every quantization with every type of cache.
        choice: the best that fits, None if nothing does or there is no `vram`.
        cards: estimates for `choice`, or for the first option without one.
    """

    model: str
    params: int
    n_ctx: int
    shortened: bool
    n_parallel: int
    vram: int | None
    margin: int
    embedding: dict[str, int]
    lora: int
    vision: int
    kv_cache: dict[str, int]
    kv_per_token: dict[str, int]
    compute: int
    measured_on: str
    options: list[Option]
    choice: Option | None
    cards: list[CardSpeed]


def plan(
    model: str | Path,
    *,
    vram: int | str | None = None,
    n_ctx: int | None = None,
    n_parallel: int = 1,
    n_batch: int = 512,
    flash_attn: bool = True,
    margin: int | str = DEFAULT_MARGIN,
) -> Plan:
    """Plan the memory of a model on one device, and estimate its speed on known cards.

    Compute buffers are asked from the backend, for the engine's own graph at the real shapes; nothing is loaded.

    Args:
        model: "3B", "8B", "14B", a GGUF file or a checkpoint directory.
        vram: bytes to fit into, or text such as "24GiB" (2^30 bytes each; GB are 10^9).
        n_ctx: tokens, shared by all slots. None: DEFAULT_CONTEXT; halved, down to LEAST_CONTEXT, where else only a
            cache of 4 bits or weights of less would fit, or none.
        n_parallel: slots.
        n_batch: most rows in one pass.
        flash_attn: False: attention by products, which allows no quantized cache.
        margin: what is left free of `vram`.

    Raises FileNotFoundError, ValueError for what is no model or impossible options.
    """
    shape = model_shape(model)
    vram = _memory(vram) if isinstance(vram, str) else vram
    margin = parse_size(margin) if isinstance(margin, str) else margin

    def planned(n_tokens: int) -> Plan:
        return _plan(shape, n_tokens, vram, margin, n_parallel, n_batch, flash_attn)

    if n_ctx is not None:
        return planned(n_ctx)
    found = [planned(DEFAULT_CONTEXT)]
    while vram is not None and _rank(found[-1].choice) > 0 and found[-1].n_ctx > LEAST_CONTEXT:
        found.append(replace(planned(found[-1].n_ctx // 2), shortened=True))
    return min(found, key=lambda each: _rank(each.choice))  # the longest of equals


def _rank(choice: Option | None) -> int:
    """0 where a shorter context would bring nothing; then weights of few bits, a cache of 4, and nothing that fits."""
    if choice is None:
        return 3
    if choice.cache_type not in PREFERRED_CACHES[0]:
        return 2
    # A file as it is has the bits that it has.
    return int(choice.quantization != AS_STORED and choice.bits_per_weight < LEAST_BITS)


def _plan(
    shape: ModelShape, n_ctx: int, vram: int | None, margin: int, n_parallel: int, n_batch: int, flash_attn: bool
) -> Plan:
    cache_types = CACHE_TYPES if flash_attn else CACHE_TYPES[:1]
    kv_cache, compute, measured_on = _measured(shape, cache_types, n_ctx, n_parallel, n_batch, flash_attn)
    lora = lora_bytes(shape)
    vision = planned_tower_bytes(shape.vision) if shape.vision else tower_bytes(shape.mmproj_gguf)
    names = [AS_STORED] if shape.gguf else []
    weights = {name: weight_bytes(shape, name) for name in [*names, *QUANTIZATIONS]}
    options = [
        _option(name, found, kind, kv_cache[kind], lora, compute + vision, vram, margin)
        for name, found in sorted(weights.items(), key=lambda item: (item[0] != AS_STORED, -item[1].total))
        for kind in cache_types
    ]
    choice = _choose(options)
    kv_per_token = {kind: n_bytes // _padded(n_ctx) for kind, n_bytes in kv_cache.items()}
    shown = choice or options[0]
    return Plan(
        model=shape.name,
        params=next(iter(weights.values())).params,
        n_ctx=n_ctx,
        shortened=False,
        n_parallel=n_parallel,
        vram=vram,
        margin=margin,
        embedding={name: found.embedding for name, found in weights.items()},
        lora=lora,
        vision=vision,
        kv_cache=kv_cache,
        kv_per_token=kv_per_token,
        compute=compute,
        measured_on=measured_on,
        options=options,
        choice=choice,
        cards=_cards(shape, shown, weights[shown.quantization], kv_per_token[shown.cache_type], n_ctx, margin),
    )


def _memory(text: str) -> int:
    n_bytes = parse_size(text)
    if n_bytes < LEAST_MEMORY:
        raise ValueError(f"vram {text!r}: no device has so little memory: write it as 24GiB or 24GB")
    return n_bytes


def _measured(
    shape: ModelShape, cache_types: tuple[str, ...], n_ctx: int, n_parallel: int, n_batch: int, flash_attn: bool
) -> tuple[dict[str, int], int, str]:
    """Bytes of the cache by type, of the compute buffers, and the device that said so: the first of several."""
    kv_cache: dict[str, int] = {}
    compute, device = 0, ""
    for kind in cache_types:
        found = measure(
            shape, n_ctx=n_ctx, n_parallel=n_parallel, n_batch=n_batch, type_k=kind, type_v=kind, flash_attn=flash_attn
        )
        kv_cache[kind] = sum(entry["kv_cache"] for entry in found)
        if found[0]["compute"] > compute:
            compute, device = found[0]["compute"], found[0]["device"]
    return kv_cache, compute, device


def _padded(n_tokens: int) -> int:
    """Cells of the cache: ggml's attention takes a multiple of 256."""
    return -(-n_tokens // 256) * 256


def _option(
    name: str, weights: WeightBytes, cache_type: str, kv_cache: int, lora: int, compute: int, vram: int | None,
    margin: int,
) -> Option:  # fmt: skip
    on_device = weights.read_per_pass + lora + kv_cache + compute
    fits = None if vram is None else on_device + margin <= vram
    gpu_layers = None
    if vram is not None:
        per_layer = [n_bytes + (kv_cache + lora) // len(weights.layers) for n_bytes in weights.layers]
        gpu_layers = -1 if fits else layers_that_fit(per_layer, weights.head, vram - margin - compute)
    return Option(
        quantization=name,
        cache_type=cache_type,
        weights=weights.total,
        bits_per_weight=weights.bits_per_weight,
        on_device=on_device,
        fits=fits,
        gpu_layers=gpu_layers,
    )


def layers_that_fit(layers: list[int], head: int, room: int) -> int:
    """Return the largest `-ngl` for `room` bytes: libllama offloads the head first, then layers from the last down."""
    offloaded = 0
    for n_bytes in [head, *reversed(layers)]:
        room -= n_bytes
        if room < 0:
            break
        offloaded += 1
    return offloaded


def _choose(options: list[Option]) -> Option | None:
    """Choose a file as it is; else the most bits up to q8_0, and the better cache."""
    stored = [option for option in options if option.quantization == AS_STORED]
    candidates = stored or [option for option in options if option.quantization not in NO_BETTER]
    for caches in PREFERRED_CACHES:
        for option in candidates:
            if option.fits and option.cache_type in caches:
                return option
    return None


def size_of(shape: ModelShape) -> str | None:
    """Return the name of a shape among those of the family; None for others."""
    return next((name for name, known in BUILT_IN.items() if known.hparams.hidden == shape.hparams.hidden), None)


def _cards(
    shape: ModelShape, option: Option, weights: WeightBytes, kv_per_token: int, n_ctx: int, margin: int
) -> list[CardSpeed]:
    embedding_params = shape.hparams.vocab_size * shape.hparams.hidden
    read = weights.read_per_pass + kv_per_token * min(n_ctx, ESTIMATE_CONTEXT)
    load = Load(shape.hparams.n_layers, weights.params - embedding_params, read)
    size = size_of(shape)

    def fits(card: Card) -> bool | None:
        return None if card.memory_gib is None else option.on_device + margin <= card.memory_gib * GIB

    return [
        CardSpeed(card, fits(card), speeds(card, load, size=size, lora=shape.lora_rank > 0)) for card in CARDS.values()
    ]
