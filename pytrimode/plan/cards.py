"""Devices by what decides their speed: memory, memory bandwidth, arithmetic rate.

Sources: the vendors' data sheets and whitepapers (NVIDIA Ampere GA102, Ada, RTX Blackwell, A100, H100, L4, DGX Spark,
GB200; Apple's announcements). Rates are FP16 products with FP32 sums, dense, on tensor cores where there are any; for
GeForce and DGX Spark that is twice the FP32 rate. Those of Apple's M3 and M4 follow from cores and clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A device.

    Attributes:
        name: as people say it.
        memory_gib: what a model can use of it, None where a machine is sold with several sizes (Apple).
        bandwidth: of its memory, GB/s.
        rate: 10^12 operations per second.
    """

    name: str
    memory_gib: float | None
    bandwidth: float
    rate: float


CARDS = {
    card.name: card
    for card in (
        Card("RTX 3060 12GB", 12, 360, 25.5),
        Card("RTX 3080 10GB", 10, 760, 59.5),
        Card("RTX 3090", 24, 936, 71),
        Card("RTX 4060 8GB", 8, 272, 30.2),
        Card("RTX 4060 Ti 16GB", 16, 288, 44.1),
        Card("RTX 4070", 12, 504, 58.3),
        Card("RTX 4070 Ti SUPER", 16, 672, 88.2),
        Card("RTX 4080", 16, 717, 97.5),
        Card("RTX 4090", 24, 1008, 165.2),
        Card("RTX 5060 Ti 16GB", 16, 448, 47.4),
        Card("RTX 5070", 12, 672, 61.7),
        Card("RTX 5070 Ti", 16, 896, 87.9),
        Card("RTX 5080", 16, 960, 112.6),
        Card("RTX 5090", 32, 1792, 209.5),
        Card("RTX PRO 6000", 96, 1792, 503.8),
        Card("L4", 24, 300, 121),
        Card("A100 40GB", 40, 1555, 312),
        Card("A100 80GB", 80, 2039, 312),
        Card("H100 80GB", 80, 3350, 989),
        Card("GB200 (one GPU)", 186, 8000, 2500),
        Card("DGX Spark", 128, 273, 62),
        Card("Apple M1 Max", None, 400, 10.4),
        Card("Apple M2 Ultra", None, 800, 27.2),
        Card("Apple M4", None, 120, 4.6),
        Card("Apple M4 Pro", None, 273, 9.2),
        Card("Apple M4 Max", None, 546, 18.4),
    )
}


def find_card(name: str) -> Card:
    """Return the card of a name or part of it, case and spaces aside. Raises ValueError where none or several match."""

    def plain(text: str) -> str:
        return "".join(text.lower().split())

    exact = [card for card in CARDS.values() if plain(card.name) == plain(name)]
    found = exact or [card for card in CARDS.values() if plain(name) in plain(card.name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(card.name for card in found or CARDS.values())
    raise ValueError(f"card {name!r}: {'several match' if found else 'not known'}; cards: {names}")
