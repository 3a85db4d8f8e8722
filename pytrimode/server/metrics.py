"""`GET /metrics`: llama-server's names where they mean the same, `pytrimode:` for the rest."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pytrimode.answers.results import Measured

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SUMMED: tuple[Literal["prompt_n", "prompt_ms", "predicted_n", "predicted_ms", "forward_passes", "draft_n",
                       "draft_n_accepted"], ...] = (
    "prompt_n", "prompt_ms", "predicted_n", "predicted_ms", "forward_passes", "draft_n", "draft_n_accepted",
)  # fmt: skip
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics(Collector):
    """Sums over finished answers. Any thread may call the methods."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._outcomes: Counter[str] = Counter()
        self._max_tokens = 0
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._first_token = Histogram(
            "pytrimode:time_to_first_token_seconds",
            "From the request to its first token, the wait for a slot included.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._token = Histogram(
            "pytrimode:inter_token_latency_seconds",
            "Of each token after a pass: the time since the answer's tokens before it, shared by those of the pass.",
            buckets=_TOKEN_SECONDS,
            registry=self._registry,
        )
        self._whole = Histogram(
            "pytrimode:e2e_request_latency_seconds",
            "From the request to the end of an answer that was finished, the wait for a slot included.",
            buckets=_SECONDS,
            registry=self._registry,
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is asked for its value."""
        self._gauges[name] = (text, value)

    def first_token(self, seconds: float) -> None:
        """Count an answer that has begun."""
        self._first_token.observe(seconds)

    def tokens(self, n: int, seconds: float) -> None:
        """Count `n` tokens that came together, `seconds` after those before them."""
        for _ in range(n):
            self._token.observe(seconds / n)

    def answered(self, measured: Measured, seconds: float) -> None:
        """Count a finished answer, `seconds` after its request."""
        self._whole.observe(seconds)
        timings, usage = measured["timings"], measured["usage"]
        with self._lock:
            for name in _SUMMED:
                self._sums[name] += timings[name]
            self._sums["cache_n"] += usage["prompt_tokens_details"]["cached_tokens"]
            self._max_tokens = max(self._max_tokens, usage["total_tokens"])

    def ended(self, outcome: str) -> None:
        """Count an answer: "finished", "cancelled" or "failed"."""
        with self._lock:
            self._outcomes[outcome] += 1

    def refused(self) -> None:
        """Count a request that found the queue full."""
        self.ended("refused")

    def text(self) -> bytes:
        """Return the page, of type CONTENT_TYPE."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, for the registry."""
        with self._lock:
            s, outcomes, max_tokens = self._sums.copy(), dict(self._outcomes), self._max_tokens

        for name, text, value in (
            ("llamacpp:prompt_tokens", "Number of prompt tokens processed.", s["prompt_n"]),
            ("llamacpp:prompt_seconds", "Prompt process time in seconds.", s["prompt_ms"] / 1e3),
            ("llamacpp:tokens_predicted", "Number of generation tokens processed.", s["predicted_n"]),
            ("llamacpp:tokens_predicted_seconds", "Predict process time in seconds.", s["predicted_ms"] / 1e3),
            ("llamacpp:spec_decode_num_draft_tokens", "Total draft tokens generated.", s["draft_n"]),
            ("llamacpp:spec_decode_num_accepted_tokens", "Total draft tokens accepted.", s["draft_n_accepted"]),
            ("pytrimode:prompt_tokens_cached", "Number of prompt tokens found in the cache.", s["cache_n"]),
            ("pytrimode:forward_passes", "Forward passes after the prefill.", s["forward_passes"]),
        ):
            yield CounterMetricFamily(name, text, value)
        averages = (
            ("llamacpp:prompt_tokens_seconds", "Average prompt throughput in tokens/s.", 1e3, "prompt_n", "prompt_ms"),
            ("llamacpp:predicted_tokens_seconds", "Average generation throughput in tokens/s.", 1e3, "predicted_n",
             "predicted_ms"),
            ("pytrimode:tokens_per_forward", "Average tokens per forward pass.", 1, "predicted_n", "forward_passes"),
            ("pytrimode:draft_acceptance", "Accepted draft tokens / draft tokens.", 1, "draft_n_accepted", "draft_n"),
        )  # fmt: skip
        for name, text, scale, part, whole in averages:
            yield GaugeMetricFamily(name, text, scale * s[part] / s[whole] if s[whole] else 0.0)
        yield GaugeMetricFamily("llamacpp:n_tokens_max", "Largest number of tokens in a context so far.", max_tokens)
        for name, (text, ask) in self._gauges.items():
            yield GaugeMetricFamily(name, text, ask())
        answers = CounterMetricFamily("pytrimode:answers", "Answers by how they ended.", labels=["outcome"])
        for outcome in ("finished", "cancelled", "failed", "refused"):
            answers.add_metric([outcome], outcomes.get(outcome, 0))
        yield answers
