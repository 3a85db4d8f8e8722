"""`pytrimode generate`: one prompt, one completion."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from pytrimode.answers.results import ChatCompletion, Completion, ResultWriter
from pytrimode.cli.command import Command
from pytrimode.cli.conversation import parts_of
from pytrimode.cli.interrupt import Interrupt
from pytrimode.cli.load import load
from pytrimode.cli.options import (
    loading_options,
    model_argument,
    request_options,
    system_option,
    thinking_option,
)
from pytrimode.cli.prompt_cache import PromptCache
from pytrimode.cli.reply import show_reply, writer_for
from pytrimode.cli.stats_line import stats_line
from pytrimode.conversation.chat_session import with_images
from pytrimode.formats.chat_template import Message
from pytrimode.jobs import Wanted
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.load_options import LoadOptions
from pytrimode.options.modes import DIFFUSION, resolve_mode
from pytrimode.trimode import TriMode
from pytrimode.vision.prompt import Prompt


def _read_prompt(prompt: str | None, file: str | None) -> str:
    if prompt is not None and file is not None:
        raise click.UsageError("give -p or -f, not both")
    if prompt is not None:
        return prompt
    try:
        if file is not None and file != "-":
            return Path(file).read_text(encoding="utf-8")
        if sys.stdin is None:
            raise click.UsageError("there is no stdin: give the prompt with -p or -f")
        if file is None and sys.stdin.isatty():
            raise click.UsageError("give a prompt: -p TEXT, -f FILE, or through a pipe")
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file or 'stdin'}: the prompt is not UTF-8: {error.reason} at byte {error.start}") from error


def _prompt(
    model: TriMode, text: str, images: tuple[str, ...], chat: bool, system: str | None, enable_thinking: bool
) -> Prompt:
    if not chat:
        return model.image_prompt(text, images)
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    user = {"role": "user", "content": with_images(text, images)}
    return model.chat_prompt([*messages, user], enable_thinking=enable_thinking)


def _given(option: str) -> bool:
    return click.get_current_context().get_parameter_source(option) is not ParameterSource.DEFAULT


def _result(
    model: TriMode, prompt: Prompt, options: GenerationOptions, chat: bool, cached: PromptCache
) -> Completion | ChatCompletion:
    """Return the dictionary that the API returns."""
    wanted = Wanted(ResultWriter(model.model_path))
    run = cached.watch(model.steps(prompt.tokens, options, pictures=prompt.pictures))
    if chat:
        return model.jobs.chat(prompt, options, wanted).finish(run)
    return model.jobs.completion(prompt, options, wanted).finish(run)


@click.command(name="generate", cls=Command)
@model_argument
@click.option("-p", "--prompt", metavar="TEXT", help="The prompt.")
@click.option("-f", "--file", type=click.Path(), metavar="FILE", help="Read the prompt from a file; -: stdin.")
@click.option(
    "--image", "images", multiple=True, type=click.Path(), metavar="FILE", help="An image before the text; repeatable."
)
@click.option("--chat", is_flag=True, help="Answer the prompt as a chat turn, through the file's chat template.")
@system_option
@thinking_option
@request_options("generate")
@click.option("--suffix", metavar="TEXT", help="Write the middle between the prompt and this text; needs -n.")
@click.option(
    "--logprobs", type=click.IntRange(min=0), metavar="N", help="With --json: the N likeliest tokens at each position."
)
@click.option(
    "--prompt-cache",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep what the cache holds of the prompt in a file; a prompt that begins alike starts from there.",
)
@click.option("--prompt-cache-all", is_flag=True, help="With --prompt-cache: keep the completion too.")
@click.option("--prompt-cache-ro", is_flag=True, help="With --prompt-cache: read the file, and leave it as it is.")
@click.option("--json", "as_json", is_flag=True, help="Print the result dictionary instead of the text.")
@loading_options
def command(
    model: str | None,
    prompt: str | None,
    file: str | None,
    images: tuple[str, ...],
    chat: bool,
    system: str | None,
    enable_thinking: bool,
    options: GenerationOptions,
    suffix: str | None,
    logprobs: int | None,
    prompt_cache: Path | None,
    prompt_cache_all: bool,
    prompt_cache_ro: bool,
    as_json: bool,
    loading: LoadOptions,
) -> None:
    """Complete a prompt with MODEL, a GGUF file (default: the checkpoint that comes with pytrimode).

    The completion goes to stdout as it comes, figures to stderr. Without -p and -f the prompt is read from stdin.
    """
    if (system or enable_thinking) and not chat:
        raise click.UsageError("--system and --enable-thinking need --chat")
    text = _read_prompt(prompt, file)
    if logprobs is not None and not as_json:
        raise click.UsageError("--logprobs needs --json")
    if (prompt_cache_all or prompt_cache_ro) and prompt_cache is None:
        raise click.UsageError("--prompt-cache-all and --prompt-cache-ro need --prompt-cache FILE")
    if prompt_cache_all and prompt_cache_ro:
        raise click.UsageError("--prompt-cache-all writes the file, --prompt-cache-ro does not: give one of them")
    options = replace(options, logprobs=logprobs)
    with load(model, loading) as loaded:
        if suffix is not None:
            mode = options.mode if _given("mode") else DIFFUSION
            options = replace(options, mode=mode, suffix=loaded.tokenize(suffix, add_bos=False, special=True))
        asked = _prompt(loaded, text, images, chat, system, enable_thinking)
        cached = PromptCache(prompt_cache, loaded, asked, whole=prompt_cache_all, keep=not prompt_cache_ro)
        if as_json:
            result = _result(loaded, asked, options, chat, cached)
            cached.write()
            print(json.dumps(result, ensure_ascii=False, indent=2))
            return
        run = cached.watch(loaded.steps(asked.tokens, options, pictures=asked.pictures))
        with Interrupt() as interrupt:
            mode = resolve_mode(options.mode, has_mask=loaded.mask_token_id >= 0)
            reply = show_reply(parts_of(run, loaded), writer_for(sys.stdout, mode), interrupt)
        cached.write()
        if sys.stdout.isatty() and not reply.text.endswith("\n"):
            print(flush=True)
        if reply.timings:
            click.secho(
                stats_line(reply.timings, f"[{reply.finish['type']}]" if reply.finish else ""), dim=True, err=True
            )
        elif interrupt:
            raise KeyboardInterrupt
