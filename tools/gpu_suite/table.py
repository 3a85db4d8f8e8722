"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gpu_suite.record import Values

Results = dict[str, list[Values]]


def table(results: Results) -> str:
    """All tables, in the order of the parts."""
    parts = [_facts(results["facts"]), _checks(results["rows"]), _exactness(results["rows"]), _passes(results["rows"])]
    parts += [_plain(results["rows"], what, title) for what, title in PLAIN.items()]
    parts.append(_jobs(results["jobs"]))
    return "\n\n".join(part for part in parts if part) + "\n"


PLAIN = {
    "row steps": "Numbers of rows worth padding to",
    "operations": "Operations of a pass",
    "mode": "Tokens per second of one request",
    "llama ar": "llama-cpp-python, one token after the other",
    "prefill": "Prefill",
    "llama prefill": "Prefill, llama-cpp-python",
    "crowd": "Several requests",
    "memory": "Memory",
    "offload": "Partial offload",
    "host profile, us a pass": "Where a pass's microseconds go",
    "model file": "Model files",
}
"""Results that are shown as they are, by what they are."""


def _markdown(title: str, head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    rows = [f"| {' | '.join(map(_text, line))} |" for line in lines]
    if not rows:
        return ""
    return "\n".join([f"## {title}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows])


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    return str(value).replace("|", "\\|").replace("\n", "<br>")


def _facts(facts: list[Values]) -> str:
    lines = [(k, v) for k, v in (facts[0] if facts else {}).items() if k not in ("job", "what") and v]
    return _markdown("Where", ("", ""), lines)


def _checks(rows: list[Values]) -> str:
    lines = [(r["what"], r["found"], {True: "ok", False: "FAILED", None: ""}[r["ok"]]) for r in rows if "found" in r]
    return _markdown("Checks", ("what", "found", ""), lines)


def _exactness(rows: list[Values]) -> str:
    prices = {(r["shape"], r["type"], r["exact_rows"]): r["ms_per_pass"] for r in rows if r["what"] == "ar"}
    lines = []
    for r in (r for r in rows if r["what"] == "self-spec = ar"):
        names = (r["shape"], r["type"], r["exact_rows"])
        plain = prices.get((*names[:2], 0))
        price = prices[names] / plain if plain and names in prices else None
        equal = f"{r['equal']} of {r['n']} ({r['equal'] / max(r['n'], 1):.0%})"
        lines.append(
            (*names[:2], names[2] or "no", r["block"], equal, r["part_at"], r["gap_median"], r["gap_largest"], price)
        )
    head = (
        "shape",
        "type",
        "exact rows",
        "B",
        "equal texts",
        "part at",
        "gap there",
        "largest",
        "ar pass against plain",
    )
    return _markdown("Greedy self-spec = greedy ar on the device", head, lines)


def _passes(rows: list[Values]) -> str:
    """One line for each series: t(1), its share of the bandwidth, and t(rows) / t(1)."""
    bandwidth = next((r["gb_per_second"] for r in rows if r["what"] == "memory bandwidth"), None)
    series: dict[tuple[Any, ...], dict[int, float]] = {}
    weights: dict[tuple[Any, ...], int] = {}
    for r in (r for r in rows if r["what"] in ("pass", "llama_decode")):
        variant = (
            "llama_decode"
            if r["what"] == "llama_decode"
            else ", ".join(filter(None, (r["variant"], "LoRA" * r["lora"])))
        )
        key = (r["shape"], r["type"], r["cells"], variant)
        series.setdefault(key, {})[r["rows"]] = r["ms"]
        weights[key[:2]] = r.get("weights") or weights.get(key[:2], 0)
    all_rows = sorted({n for times in series.values() for n in times})
    lines = []
    for key, times in series.items():
        one = times.get(1)
        share = weights[key[:2]] / 1e6 / one / bandwidth if one and bandwidth and weights[key[:2]] else None
        ratios = [times[n] / one if one and n in times else None for n in all_rows[1:]]
        lines.append((*key, one, share, *ratios))
    head = ("shape", "type", "cells", "variant", "t(1) ms", "of bandwidth", *(f"t({n})/t(1)" for n in all_rows[1:]))
    told = f"Memory bandwidth, by a copy in this run: {bandwidth:.0f} GB/s.\n\n" if bandwidth else ""
    return told + _markdown("Passes", head, lines)


def _plain(rows: list[Values], what: str, title: str) -> str:
    chosen = [r for r in rows if r["what"] == what]
    head = list(dict.fromkeys(k for r in chosen for k in r if k not in ("job", "what")))
    return _markdown(title, head, ([r.get(k) for k in head] for r in chosen))


def _jobs(jobs: list[Values]) -> str:
    lines = [(j["part"], j["job"], j["status"], j["seconds"]) for j in jobs]
    return _markdown("Jobs", ("part", "job", "", "s"), lines)
