"""`pytrimode generate`: one prompt, one completion."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pytrimode import completion
from pytrimode.cli.interrupt import Interrupt
from pytrimode.cli.load import load
from pytrimode.cli.options import (
    Decoding,
    Loading,
    decoding_options,
    loading_options,
    max_tokens_option,
    model_argument,
    sampling_options,
    system_option,
    thinking_option,
)
from pytrimode.cli.reply import show_reply, writer_for
from pytrimode.cli.stats_line import stats_line
from pytrimode.generation_options import GenerationOptions
from pytrimode.results import ResultWriter
from pytrimode.sampling import Sampling
from pytrimode.trimode import TriMode


def _read_prompt(prompt: str | None, file: str | None) -> str:
    if prompt is not None and file is not None:
        raise click.UsageError("give -p or -f, not both")
    if prompt is not None:
        return prompt
    try:
        if file is not None and file != "-":
            return Path(file).read_text(encoding="utf-8")
        if file is None and sys.stdin.isatty():
            raise click.UsageError("give a prompt: -p TEXT, -f FILE, or through a pipe")
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file or 'stdin'}: the prompt is not UTF-8: {error.reason} at byte {error.start}") from error


def _prompt_tokens(model: TriMode, text: str, chat: bool, system: str | None, enable_thinking: bool) -> list[int]:
    if not chat:
        return model.prompt_tokens(text)
    messages = [{"role": "system", "content": system}] if system else []
    return model.chat_tokens([*messages, {"role": "user", "content": text}], enable_thinking=enable_thinking)


@click.command(name="generate")
@model_argument
@click.option("-p", "--prompt", metavar="TEXT", help="The prompt.")
@click.option("-f", "--file", type=click.Path(), metavar="FILE", help="Read the prompt from a file; -: stdin.")
@click.option("--chat", is_flag=True, help="Answer the prompt as a chat turn, through the file's chat template.")
@system_option
@thinking_option
@decoding_options
@sampling_options
@max_tokens_option
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable.")
@click.option("--ignore-eos", is_flag=True, help="Go on after an end-of-generation token.")
@click.option("--json", "as_json", is_flag=True, help="Print the result dictionary instead of the text.")
@loading_options
def command(
    model: str | None,
    prompt: str | None,
    file: str | None,
    chat: bool,
    system: str | None,
    enable_thinking: bool,
    decoding: Decoding,
    sampling: Sampling,
    max_tokens: int,
    stop: tuple[str, ...],
    ignore_eos: bool,
    as_json: bool,
    loading: Loading,
) -> None:
    """Complete a prompt with MODEL, a GGUF file (default: the checkpoint that comes with pytrimode).

    The completion goes to stdout as it comes, figures to stderr. Without -p and -f the prompt is read from stdin.
    """
    if (system or enable_thinking) and not chat:
        raise click.UsageError("--system and --enable-thinking need --chat")
    text = _read_prompt(prompt, file)
    options = GenerationOptions(
        max_tokens=max_tokens,
        mode=decoding.mode,
        block_length=decoding.block_length,
        threshold=decoding.threshold,
        steps=decoding.steps,
        reveal=decoding.reveal,
        stop=stop,
        ignore_eos=ignore_eos,
        sampling=sampling,
    )
    with load(model, loading) as loaded:
        run = loaded.steps(_prompt_tokens(loaded, text, chat, system, enable_thinking), options)
        if as_json:
            writer = ResultWriter(loaded.model_path)
            result = (writer.chat if chat else writer.completion)(*completion.join(run))
            print(json.dumps(result, ensure_ascii=False, indent=2))
            return
        with Interrupt() as interrupt:
            reply = show_reply(run, writer_for(sys.stdout, loaded, decoding.mode), interrupt)
        if sys.stdout.isatty() and not reply.text.endswith("\n"):
            print(flush=True)
        if reply.timings:
            click.secho(stats_line(reply.timings, f"[{reply.finish_reason}]"), dim=True, err=True)
        elif interrupt:
            raise KeyboardInterrupt
