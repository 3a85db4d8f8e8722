#!/usr/bin/env python3
"""What drafts that are read off the text bring where an answer repeats the prompt, and elsewhere.

    python -m benchmarks.copying MODEL.gguf [--prompts 40] [--rounds 5]

Copied: held-out questions of trimode-tiny, each in a conversation that has asked it before, with the model's answer.
Fresh: the questions alone. Settings take turns prompt by prompt, greedily; ratios to mode ar of the same round.

A second table has cycles whose draft was read off the text, those of them that were accepted as a whole, and those
behind which a pass drafted: what masks behind such a draft, in its own pass, could have saved.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from pytrimode import TriMode
from pytrimode.bench.plan import Setting, Workload
from pytrimode.bench.prompts import PROMPTS
from pytrimode.bench.runner import Results, Runner, collect, turns
from pytrimode.bench.samples import total
from pytrimode.bench.summary import Spread
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.modes import AR, AUTO, SELF_SPEC
from pytrimode.options.sampling import Sampling

HELDOUT = Path(__file__).resolve().parents[1] / "models/trimode-tiny/heldout.json"
MAX_TOKENS = 64
SETTINGS = (
    Setting(AR),
    Setting(AUTO, ngram=0),
    Setting(AUTO),
    Setting(SELF_SPEC, 8),
    Setting(SELF_SPEC, 8, ngram=16),
    Setting(SELF_SPEC, 1, ngram=16),
)


def prompts_of(model: TriMode, n: int) -> dict[tuple[str, int], list[list[int]]]:
    """Both kinds of prompts as tokens."""
    questions = [item["messages"] for item in json.loads(HELDOUT.read_text(encoding="utf-8"))[:n]]
    copied = []
    for question in questions:
        answer = model.create_chat_completion(question, mode=AR, temperature=0.0, max_tokens=MAX_TOKENS)
        said = {"role": "assistant", "content": answer["choices"][0]["message"]["content"] or ""}
        copied.append(model.chat_tokens([*question, said, *question]))
    return {("copied", 0): copied, ("fresh", 0): [model.chat_tokens(question) for question in questions]}


def line(results: Results, workload: Workload, setting: Setting) -> str:
    """Return a row of the table."""
    samples, ar = results[workload, setting], results[workload, Setting(AR)]
    whole = total(samples)
    speeds = Spread.of([s.tokens_per_second / a.tokens_per_second for s, a in zip(samples, ar, strict=True)])
    accepted = f"{100 * whole.accepted / whole.drafted:.0f} %" if whole.drafted else ""
    name = f"{setting.name}, n-grams" if setting.ngram else setting.name
    return (
        f"| {workload.category} | {name} | {whole.tokens_per_forward:.2f} "
        f"| {speeds.median:.2f} ({speeds.lowest:.2f} to {speeds.highest:.2f}) | {accepted} |"
    )


def prefixes(model: TriMode, prompts: list[list[int]], length: int, ngram: int) -> tuple[int, int, int, int]:
    """Return passes, cycles with a draft read off the text, those accepted as a whole, and then a pass that drafts."""
    options = GenerationOptions(mode=SELF_SPEC, block_length=length, ngram=ngram, max_tokens=MAX_TOKENS)
    n_passes = cycles = wholes = drafting = 0
    for prompt in prompts:
        drafted, whole = list[int](), False  # the draft at hand; whether the last cycle was such a one, wholly right
        by_pass = False
        for step in model.steps(prompt, options):
            n_passes += 1
            if not step.tokens and not step.ending:
                drafting += whole
                whole, by_pass = False, True
            else:
                looked_up = bool(drafted) and not by_pass
                whole = looked_up and len(step.tokens) > len(drafted)
                cycles, wholes = cycles + looked_up, wholes + whole
                by_pass = False
            drafted = step.draft
    return n_passes, cycles, wholes, drafting


@click.command(help=__doc__)
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--prompts", "n_prompts", default=40, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("-t", "--threads", default=1, show_default=True)
def main(model: str, n_prompts: int, rounds: int, threads: int) -> None:
    """Print the table."""
    with TriMode(model, n_ctx=2048, n_threads=threads) as loaded:
        prompts = prompts_of(loaded, n_prompts)
        workloads = [Workload(category, length, MAX_TOKENS, 1) for category, length in prompts]
        runner = Runner(loaded, None, lambda seed: Sampling(0.0, seed=seed), ignore_eos=False)
        results: Results = {}
        for _ in collect(runner, turns(prompts, workloads, SETTINGS, rounds + 1), results, warm_up=1):
            pass
    click.echo("| prompts | setting | tokens/forward | speed against ar | drafts accepted |\n|---|---|---|---|---|")
    for workload in workloads:
        for setting in SETTINGS:
            click.echo(line(results, workload, setting))
    click.echo("\n| prompts | setting | passes | read off | as a whole | then drafted |\n|---|---|---|---|---|---|")
    with TriMode(model, n_ctx=2048, n_threads=threads) as loaded:
        edits = [loaded.chat_tokens([{"role": "user", "content": text}]) for text in PROMPTS["copy-edit"]]
        for category, some in ({name: found for (name, _), found in prompts.items()} | {"copy-edit": edits}).items():
            for length, ngram in ((8, 4), (8, 16), (16, 64)):
                found = " | ".join(map(str, prefixes(loaded, some, length, ngram)))
                click.echo(f"| {category} | B {length}, n-grams of up to {ngram} | {found} |")


if __name__ == "__main__":
    main()
