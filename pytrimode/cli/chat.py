"""`pytrimode chat`: a conversation on a terminal, through a pipe, or scripted with -p."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext

import click

from pytrimode.chat_session import ChatSession
from pytrimode.cli.chat_commands import ChatCommands, LeaveChat
from pytrimode.cli.interrupt import Interrupt
from pytrimode.cli.load import load
from pytrimode.cli.options import (
    Decoding,
    Loading,
    chat_sampling_options,
    decoding_options,
    loading_options,
    max_tokens_option,
    model_argument,
    system_option,
    thinking_option,
)
from pytrimode.cli.reply import Reply, show_reply, writer_for
from pytrimode.cli.stats_line import Totals, stats_line
from pytrimode.modes import check_mode
from pytrimode.sampling import Sampling
from pytrimode.trimode import TriMode


class Chat:
    """One run of the command."""

    def __init__(self, session: ChatSession, *, interactive: bool) -> None:
        self._session = session
        self._interactive = interactive
        self._totals = Totals()
        self.commands = ChatCommands(session, self._totals)

    def turn(self, text: str) -> bool:
        """Handle one line of the user: a command or a turn; False when the user leaves."""
        try:
            if text.startswith("/"):
                self._note(self.commands.run(text))
            elif text.strip():
                with Interrupt() if self._interactive else nullcontext() as stop:
                    self._answer(text, stop)
        except LeaveChat:
            return False
        except ValueError as error:
            if not self._interactive:
                raise
            self._note(f"error: {self._advice(error)}")
        return True

    def _answer(self, text: str, stop: Interrupt | None) -> None:
        session = self._session
        run = session.send(text)
        if session.dropped_turns:
            self._note(_dropped_note(session.dropped_turns))
        writer = writer_for(sys.stdout, session.model, session.options.mode)
        reply = show_reply(run, writer, stop)
        if not reply.text.endswith("\n"):
            print(flush=True)
        if reply.timings:
            self._totals.add(reply.timings)
            self._note(stats_line(reply.timings, self._why_ended(reply)))
        else:
            self._note("[stopped]")

    def _why_ended(self, reply: Reply) -> str:
        if reply.finish and reply.finish["type"] == "loop":
            return f"[a loop of {reply.finish['period']} tokens: --no-loop-detection lets it go on]"
        if not reply.finish or reply.finish["type"] != "length":
            return ""
        wanted = self._session.options.max_tokens
        full = wanted in (None, -1) or (reply.timings is not None and reply.timings["predicted_n"] < (wanted or 0))
        return "[cut off: the context is full, -c enlarges it]" if full else "[cut off at -n]"

    def _advice(self, error: ValueError) -> str:
        if "exceed context window" in str(error):
            return f"{error}, even without the turns before: -c enlarges it"
        return str(error)

    def _note(self, text: str) -> None:
        """What is not the model's: dim on a terminal, and on stderr, so that a pipe gets replies only."""
        click.secho(text, dim=True, err=True)


def _dropped_note(n: int) -> str:
    return f"[context full: {f'the {n} oldest turns were' if n > 1 else 'the oldest turn was'} dropped]"


def _typed_turns(chat: Chat) -> Iterator[str]:
    from pytrimode.cli.prompt import LineEditor

    editor = LineEditor(chat.commands.names)
    while True:
        try:
            yield editor.read()
        except (EOFError, KeyboardInterrupt):
            return


def _given_turns(lines: Iterator[str]) -> Iterator[str]:
    """Turns that were not typed: shown, so that the output reads as a conversation."""
    for line in lines:
        turn = line.rstrip("\r\n")
        if turn.strip():
            print(f"> {turn}", flush=True)
        yield turn


def _banner(model: TriMode, mode: str) -> str:
    drafter = f", drafter LoRA of rank {model.lora_rank}" if model.has_lora else ""
    name = model.metadata.get("general.name", model.model_path)
    return f"{name}: mode {mode}, context {model.n_ctx}{drafter}. /help lists the commands."


@click.command(name="chat")
@model_argument
@decoding_options
@chat_sampling_options
@max_tokens_option
@system_option
@thinking_option
@click.option("-p", "--prompt", "prompts", multiple=True, metavar="TEXT", help="A turn; repeatable. Then exits.")
@loading_options
def command(
    model: str | None,
    decoding: Decoding,
    sampling: Sampling,
    max_tokens: int,
    system: str | None,
    enable_thinking: bool,
    prompts: tuple[str, ...],
    loading: Loading,
) -> None:
    """Chat with MODEL, a GGUF file (default: the checkpoint that comes with pytrimode).

    On a terminal: line editing, history, /help for the commands. Otherwise each line of the input is a turn.
    Replies go to stdout, figures to stderr.
    """
    options = decoding.options(max_tokens=max_tokens, sampling=sampling)
    with load(model, loading) as loaded:
        mode = check_mode(decoding.mode, has_mask=loaded.mask_token_id >= 0)
        session = ChatSession(loaded, system=system, options=options, enable_thinking=enable_thinking)
        session.check()
        interactive = not prompts and sys.stdin.isatty() and sys.stdout.isatty()
        chat = Chat(session, interactive=interactive)
        if interactive:
            click.secho(_banner(loaded, mode), dim=True, err=True)
            turns = _typed_turns(chat)
        else:
            turns = _given_turns(iter(prompts) if prompts else iter(sys.stdin))
        for turn in turns:
            if not chat.turn(turn):
                return
