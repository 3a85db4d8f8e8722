"""A picture of the speeds. Needs matplotlib (the extra [chart])."""

from __future__ import annotations

from pathlib import Path

from pytrimode.bench.report import Report
from pytrimode.bench.summary import lines


def check_matplotlib() -> None:
    """Before anything is measured. Raises RuntimeError that says what to install."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise RuntimeError('a chart needs matplotlib: pip install "pytrimode[chart]"') from error


def write_chart(report: Report, path: Path) -> None:
    """Bars of tokens/s with their spread, by workload and setting, as PNG."""
    from matplotlib.figure import Figure

    found = lines(report.results)
    workloads = list(dict.fromkeys(line.workload for line in found))
    settings = list(dict.fromkeys(line.setting for line in found))
    figure = Figure(figsize=(max(6.0, 0.35 * len(found) + 2), 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(settings)
    for i, setting in enumerate(settings):
        mine = [line for line in found if line.setting == setting]
        at = [workloads.index(line.workload) + (i + 0.5) * width - 0.4 for line in mine]
        speeds = [line.tokens_per_second for line in mine]
        low = [s.median - s.lowest for s in speeds]
        high = [s.highest - s.median for s in speeds]
        axes.bar(at, [s.median for s in speeds], width, yerr=[low, high], label=setting.name, capsize=2)
    axes.set_xticks(range(len(workloads)), [_label(w.category, w.parallel) for w in workloads])
    axes.set_ylabel("tokens/s")
    axes.set_title(str(report.about.get("model", "")))
    figure.legend(loc="outside right upper")
    figure.savefig(path, format="png", dpi=120)


def _label(category: str, parallel: int) -> str:
    return category if parallel == 1 else f"{category}\n{parallel} at a time"
