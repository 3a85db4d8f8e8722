"""An evaluation as text: lines about it and one Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytrimode.bench.report import markdown_table
from pytrimode.gguf.sizes import size_text
from pytrimode.options import modes
from pytrimode.quantize.evaluation.answers import AnswerFigures
from pytrimode.quantize.evaluation.results import EvaluatedAdapter, EvaluatedFile, Evaluation
from pytrimode.quantize.evaluation.rows import CAUSAL, DRAFT, DRAFT_LORA, block_kind
from pytrimode.quantize.evaluation.scores import RowFigures

LEGEND = (
    "Rows: KL divergence from the base, mean (99 %), and how often the likeliest token is the same. PPL: perplexity of "
    "causal rows. tokens/cycle, tokens/forward: self-spec, without / with the LoRA. Answers: share that equals, token "
    "by token, those of the base in the same mode, and in diffusion those of the same file in ar. Speed: tokens/s in "
    "ar against the base, median (lowest to highest)."
)


@dataclass(frozen=True)
class Line:
    """A line of the table: a file with its own drafter LoRA, or a further LoRA of a file."""

    file: EvaluatedFile | None
    adapter: EvaluatedAdapter | None

    @property
    def name(self) -> str:
        """The file's, or the LoRA's."""
        found = self.file or self.adapter
        return found["file"].replace("|", "\\|") if found else ""

    @property
    def size(self) -> str:
        """Of the file, or of the LoRA."""
        found = self.file or self.adapter
        return size_text(found["bytes"]) if found else ""

    @property
    def bits(self) -> str:
        """Per weight."""
        found = self.file or self.adapter
        return f"{found['bits_per_weight']:.2f}" if found else ""

    def rows(self, kind: str) -> RowFigures | None:
        """Of a kind, None without."""
        for part in (self.file, self.adapter):
            if part and kind in part["rows"]:
                return part["rows"][kind]
        return None

    def answers(self, setting: str) -> AnswerFigures | None:
        """Without LoRA."""
        return self.file["answers"].get(setting) if self.file else None

    def drafted(self) -> tuple[AnswerFigures | None, AnswerFigures | None]:
        """Self-spec without and with the LoRA."""
        return self.answers(modes.SELF_SPEC), self.adapter["answers"].get(modes.SELF_SPEC) if self.adapter else None


Column = tuple[str, Callable[[Line], str]]


def markdown(evaluation: Evaluation) -> str:
    """Return what was measured, and the table."""
    return f"{about_lines(evaluation)}\n\n{table(evaluation)}\n\n{LEGEND}"


def about_lines(evaluation: Evaluation) -> str:
    """Return what makes it comparable, as a list."""
    about = evaluation["about"]
    lines = {
        "base": about["base"],
        "text": f"{about['text']}: {about['chunks']} chunks of {about['n_ctx']} tokens, their second halves",
        "blocks": f"{about['block_length']} tokens",
        "answers": f"{about['prompts']} prompts, greedy, at most {about['max_tokens']} tokens",
        "versions": about["versions"],
    }
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def table(evaluation: Evaluation, columns: Sequence[Column] | None = None) -> str:
    """Return a line for each file and each further LoRA; columns that nothing stands in are left out."""
    found = lines(evaluation)
    chosen = columns or columns_of(evaluation)
    used = [column for column in chosen if any(column[1](line) for line in found)]
    return markdown_table([title for title, _ in used], ([text(line) for _, text in used] for line in found))


def lines(evaluation: Evaluation) -> list[Line]:
    """In order."""
    found = []
    for file in evaluation["files"]:
        own = file["adapters"][0] if file["adapters"] else None
        found += [Line(file, own), *(Line(None, adapter) for adapter in file["adapters"][1:])]
    return found


def columns_of(evaluation: Evaluation) -> list[Column]:
    """All of them."""
    blocks = [block_kind(ratio).name for ratio in evaluation["about"]["mask_ratios"]]
    diffusion = [name for name in evaluation["files"][0]["answers"] if name.startswith(modes.DIFFUSION)]
    return [
        ("file", lambda line: line.name),
        ("size", lambda line: line.size),
        ("bits", lambda line: line.bits),
        ("PPL", perplexity),
        *(rows_column(kind) for kind in (CAUSAL.name, *blocks, DRAFT.name, DRAFT_LORA.name)),
        ("tokens/cycle", tokens_per_cycle),
        ("tokens/forward", tokens_per_forward),
        ("ar: as base", lambda line: _percent((line.answers(modes.AR) or {}).get("as_base"))),
        *(diffusion_column(name) for name in diffusion),
        ("speed", speed),
    ]


def perplexity(line: Line) -> str:
    """With its error."""
    found = line.rows(CAUSAL.name)
    if not found:
        return ""
    error = found["perplexity_error"]
    return f"{found['perplexity']:.4f}" + ("" if error is None else f" ± {error:.4f}")


def rows_column(kind: str) -> Column:
    """Divergences of a kind of rows."""

    def text(line: Line) -> str:
        found = line.rows(kind)
        if not found or found["kld"] is None or found["kld_99"] is None:
            return ""
        return f"{kld_text(found['kld'])} ({kld_text(found['kld_99'])}), {_percent(found['same_top'])}"

    return kind, text


def kld_text(value: float) -> str:
    """Three digits that count; what is below 16-bit rounding is 0."""
    if abs(value) < 5e-7:
        return "0"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.6f}"


def tokens_per_cycle(line: Line) -> str:
    """Without and with the LoRA."""
    return _pair(*(found["acceptance_length"] if found else None for found in line.drafted()))


def tokens_per_forward(line: Line) -> str:
    """Without and with the LoRA."""
    return _pair(*(found["tokens_per_forward"] if found else None for found in line.drafted()))


def diffusion_column(setting: str) -> Column:
    """Answers of diffusion at a threshold."""

    def text(line: Line) -> str:
        found = line.answers(setting)
        if not found:
            return ""
        as_ar = f"{_percent(found['as_ar'])} as ar"
        return as_ar if found["as_base"] is None else f"{as_ar}, {_percent(found['as_base'])} as base"

    return setting, text


def speed(line: Line) -> str:
    """Against the base."""
    found = line.file["speed"] if line.file else None
    return f"{found['median']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f})" if found else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _pair(without: float | None, with_lora: float | None) -> str:
    if with_lora is None:
        return "" if without is None else f"{without:.2f}"
    return f"{'' if without is None else f'{without:.2f}'} / {with_lora:.2f}".strip()
