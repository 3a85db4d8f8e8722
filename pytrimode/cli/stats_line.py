"""Writes one line about the speed of a reply, and sums over a chat."""

from __future__ import annotations

from dataclasses import dataclass

from pytrimode.answers.results import Timings


def stats_line(timings: Timings, finish_note: str = "") -> str:
    """`41.2 tokens/s, 4.71 tokens/forward, 6.10 tokens/cycle, 71 % of drafts accepted (64 tokens in 14 passes)`."""
    parts = [f"{timings['predicted_per_second']:.1f} tokens/s", f"{timings['tokens_per_forward']:.2f} tokens/forward"]
    if timings["draft_n"]:
        parts.append(f"{timings['acceptance_length']:.2f} tokens/cycle")
        parts.append(f"{100 * timings['draft_n_accepted'] / timings['draft_n']:.0f} % of drafts accepted")
    elif timings["acceptance_length"]:
        parts.append(f"{timings['acceptance_length']:.2f} tokens/block")
    line = ", ".join(parts) + f" ({timings['predicted_n']} tokens in {timings['forward_passes']} passes)"
    return f"{line} {finish_note}".rstrip()


def short_line(timings: Timings, finish_note: str = "") -> str:
    """`64 tokens, 41.2 tokens/s, 4.7 a pass, 71 % of drafts accepted`."""
    parts = [
        f"{timings['predicted_n']} tokens",
        f"{timings['predicted_per_second']:.1f} tokens/s",
        f"{timings['tokens_per_forward']:.1f} a pass",
    ]
    if timings["draft_n"]:
        parts.append(f"{100 * timings['draft_n_accepted'] / timings['draft_n']:.0f} % of drafts accepted")
    return f"{', '.join(parts)} {finish_note}".rstrip()


@dataclass
class Totals:
    """Sums over the replies of a chat."""

    replies: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0
    forward_passes: int = 0
    draft_n: int = 0
    draft_n_accepted: int = 0

    def add(self, timings: Timings) -> None:
        """Count one reply."""
        self.replies += 1
        self.prompt_n += timings["prompt_n"]
        self.prompt_ms += timings["prompt_ms"]
        self.predicted_n += timings["predicted_n"]
        self.predicted_ms += timings["predicted_ms"]
        self.forward_passes += timings["forward_passes"]
        self.draft_n += timings["draft_n"]
        self.draft_n_accepted += timings["draft_n_accepted"]

    def lines(self) -> list[str]:
        """For `/stats`."""
        if not self.replies:
            return ["no replies yet"]
        lines = [
            f"replies            {self.replies}",
            f"prompt             {self.prompt_n} tokens, {_rate(self.prompt_n, self.prompt_ms):.1f} tokens/s",
            f"generation         {self.predicted_n} tokens, {_rate(self.predicted_n, self.predicted_ms):.1f} tokens/s",
            f"forward passes     {self.forward_passes}",
            f"tokens per forward {self.predicted_n / max(1, self.forward_passes):.2f}",
        ]
        if self.draft_n:
            share = 100 * self.draft_n_accepted / self.draft_n
            lines.append(f"drafts accepted    {self.draft_n_accepted} of {self.draft_n} ({share:.0f} %)")
        return lines


def _rate(n: int, ms: float) -> float:
    return 1e3 * n / ms if ms else 0.0
