"""Tables of what was measured: Markdown, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pytrimode.bench.llama_bench import PromptSpeed, Subject, table
from pytrimode.bench.plan import STOCK
from pytrimode.bench.runner import Results
from pytrimode.bench.samples import total
from pytrimode.bench.summary import AutoLine, Line, Spread, auto_lines, lines
from pytrimode.options.modes import AR, AUTO

POSITIONS = (1, 2, 3, 4, 5, 6, 7, 11, 15, 23, 31)
"""Draft positions in the table of acceptance."""


@dataclass(frozen=True)
class Report:
    """A run of the benchmark; complete or, after an interruption, what there is."""

    about: dict[str, Any]
    """The model and how it was run: what makes a measurement comparable."""
    results: Results
    pass_seconds: Sequence[tuple[float, float]]
    """Rows of a pass and seconds, as mode auto has measured them."""
    subject: Subject | None = None
    prompt: PromptSpeed | None = None
    """With `subject` for the table of llama-bench."""
    simulated: bool = False
    """Drafts were accepted by lot: speeds are those of a model that drafts so well, texts mean nothing."""


def markdown(report: Report) -> str:
    """Tables, one after the other."""
    found = lines(report.results)
    if not found:
        return "nothing was measured"
    parts = [_about(report), _table(_columns(found), found)]
    rest = (_auto(report), _acceptance(report), _passes(report), _llama_bench(report, found), _answer(report, found))
    parts += [text for text in rest if text]
    return "\n\n".join(parts)


def _about(report: Report) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in report.about.items())


Column = tuple[str, Callable[[Line], str]]


def _columns(found: Sequence[Line]) -> list[Column]:
    """Return what differs between the lines, then the figures."""
    columns: list[Column] = []
    for title, field in (("prompts", "category"), ("prompt tokens", "prompt_length"), ("max tokens", "max_tokens"),
                         ("parallel", "parallel")):  # fmt: skip
        if len({getattr(line.workload, field) for line in found}) > 1:
            columns.append((title, lambda line, field=field: str(getattr(line.workload, field))))  # type: ignore[misc]
    columns += [("mode", lambda line: line.setting.name), ("tokens/s", lambda line: _spread(line.tokens_per_second, 1))]
    for name in (AR, STOCK):
        if any(name in line.against for line in found):
            columns.append((f"x {name}", lambda line, name=name: _ratio(line.against.get(name))))  # type: ignore[misc]
    return [
        *columns,
        ("tokens/forward", lambda line: f"{line.sum.tokens_per_forward:.2f}"),
        ("tokens/cycle", lambda line: f"{line.sum.acceptance_length:.2f}" if line.sum.drafted else ""),
        ("ms/pass", lambda line: _milliseconds(line)),
        ("overhead", lambda line: "" if line.setting.mode == STOCK else f"{100 * line.sum.overhead:.1f} %"),
    ]


def _milliseconds(line: Line) -> str:
    return f"{1e3 * line.sum.pass_seconds / line.sum.passes:.2f}" if line.sum.passes else ""


def _spread(value: Spread, digits: int) -> str:
    return f"{value.median:.{digits}f} ({value.lowest:.{digits}f} to {value.highest:.{digits}f})"


def _ratio(value: Spread | None) -> str:
    return "" if value is None else _spread(value, 2)


def _table(columns: Sequence[Column], found: Sequence[Line]) -> str:
    return markdown_table([title for title, _ in columns], ([text(line) for _, text in columns] for line in found))


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, not padded."""
    head = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return "\n".join(head + ["| " + " | ".join(row) + " |" for row in rows])


def _auto(report: Report) -> str:
    found = auto_lines(report.results)

    def row(line: AutoLine) -> list[str]:
        w = line.workload
        return [w.category, str(w.prompt_length), str(w.max_tokens), str(w.parallel), line.best.name,
                _ratio(line.against_best), _ratio(line.against_ar)]  # fmt: skip

    titles = ["prompts", "prompt tokens", "max tokens", "parallel", "best fixed", "auto x best", "auto x ar"]
    return "Mode auto:\n\n" + markdown_table(titles, (row(line) for line in found)) if found else ""


def _acceptance(report: Report) -> str:
    by_setting = {
        setting: total(s for (_, other), rounds in report.results.items() if other == setting for s in rounds)
        for _, setting in report.results
    }
    drafting = {setting: sample for setting, sample in by_setting.items() if sample.tried_at}
    if not drafting:
        return ""
    longest = max(len(sample.tried_at) for sample in drafting.values())
    positions = [p for p in POSITIONS if p <= longest]

    def at(rates: Sequence[float], tried: Sequence[int], position: int) -> str:
        return f"{100 * rates[position - 1]:.0f}" if position <= len(tried) and tried[position - 1] else ""

    rows = (
        [s.name, *(at(sample.acceptance_by_position, sample.tried_at, p) for p in positions)]
        for s, sample in drafting.items()
    )
    title = "Drafts accepted, in %, by position, of those whose predecessors were accepted:"
    return f"{title}\n\n" + markdown_table(["mode", *(str(p) for p in positions)], rows)


def _passes(report: Report) -> str:
    if not report.pass_seconds:
        return ""
    first = report.pass_seconds[0][1]
    rows = ([f"{n:.0f}", f"{1e3 * s:.2f}", f"{s / first:.2f}"] for n, s in report.pass_seconds)
    return "Time of a pass by its rows, other programs' share taken out:\n\n" + markdown_table(
        ["rows", "ms", "x first"], rows
    )


def _llama_bench(report: Report, found: Sequence[Line]) -> str:
    if report.subject is None or report.prompt is None:
        return ""
    return "As llama-bench writes it:\n\n" + markdown_table(*table(report.subject, report.prompt, found))


def _answer(report: Report, found: Sequence[Line]) -> str:
    """Return the last words: what mode auto comes to, or else the fastest mode, for each workload of all prompts."""
    answers = []
    for w in dict.fromkeys(line.workload for line in found if line.workload.category == found[-1].workload.category):
        own = [line for line in found if line.workload == w and line.setting.mode != STOCK]
        if not own:
            continue
        best = max(own, key=lambda line: (line.setting.mode == AUTO, line.tokens_per_second.median))
        against = [f"{_ratio(value)} of {name}" for name, value in best.against.items()]
        where = f"{w.category}, {w.parallel} at a time, prompts of {w.prompt_length}, {w.max_tokens} tokens: "
        answers.append(
            (where if len({line.workload for line in found}) > 1 else "")
            + ", ".join([f"{best.setting.name} {_spread(best.tokens_per_second, 1)} tokens/s", *against])
            + (", with SIMULATED acceptance" if report.simulated and best.sum.drafted else "")
        )
    return "\n".join(answers)


def _figures(report: Report, line: Line) -> dict[str, Any]:
    s = line.sum
    return {
        **asdict(line.workload),
        "mode": line.setting.mode,
        "block_length": line.setting.block_length,
        "fused": line.setting.fused,
        "use_lora": line.setting.use_lora,
        "tokens_per_second": line.tokens_per_second.median,
        "tokens_per_second_lowest": line.tokens_per_second.lowest,
        "tokens_per_second_highest": line.tokens_per_second.highest,
        "x_ar": line.against[AR].median if AR in line.against else None,
        "x_llama_cpp_python": line.against[STOCK].median if STOCK in line.against else None,
        "tokens": s.tokens,
        "forward_passes": s.passes,
        "tokens_per_forward": s.tokens_per_forward,
        "acceptance_length": s.acceptance_length,
        "simulated_acceptance": report.simulated and s.drafted > 0,
        "ms_per_pass": 1e3 * s.pass_seconds / s.passes if s.passes else None,
        "overhead": s.overhead,
        "prompt_tokens": s.prompt_tokens,
        "prompt_tokens_per_second": s.prompt_tokens / s.prompt_seconds if s.prompt_seconds else None,
    }


def as_json(report: Report) -> str:
    """Everything, acceptance by position included."""
    found = lines(report.results)
    return json.dumps(
        {
            "about": report.about,
            "results": [
                _figures(report, line) | {"acceptance_by_position": line.sum.acceptance_by_position} for line in found
            ],
            "auto": [
                {
                    **asdict(line.workload),
                    "best": line.best.name,
                    "x_best": asdict(line.against_best),
                    "x_ar": asdict(line.against_ar) if line.against_ar else None,
                }
                for line in auto_lines(report.results)
            ],
            "prompt": asdict(report.prompt) if report.prompt else None,
            "pass_seconds": [{"rows": rows, "seconds": seconds} for rows, seconds in report.pass_seconds],
        },
        indent=2,
        ensure_ascii=False,
    )


def as_csv(report: Report) -> str:
    """Return a line for each workload and setting."""
    rows = [_figures(report, line) for line in lines(report.results)]
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Report], str]] = {"markdown": markdown, "json": as_json, "csv": as_csv}
