"""`pytrimode chat`: a conversation on a terminal, through a pipe, or scripted with -p."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import click
from click.core import ParameterSource

from pytrimode.cli.chat_commands import ChatCommands, LeaveChat
from pytrimode.cli.command import Command
from pytrimode.cli.conversation import Conversation, LocalConversation
from pytrimode.cli.interrupt import Interrupt
from pytrimode.cli.load import load
from pytrimode.cli.options import (
    API_KEY_VARIABLE,
    loading_options,
    model_argument,
    request_fields,
    request_options,
    system_option,
    thinking_option,
)
from pytrimode.cli.reply import Reply, show_reply, writer_for
from pytrimode.cli.stats_line import Totals, stats_line
from pytrimode.conversation.chat_session import ChatSession
from pytrimode.options.defaults import DEFAULT_CHAT_TEMPERATURE
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.load_options import LoadOptions


class Chat:
    """One run of the command."""

    def __init__(self, conversation: Conversation, *, interactive: bool) -> None:
        self._conversation = conversation
        self._interactive = interactive
        self._totals = Totals()
        self.commands = ChatCommands(conversation, self._totals)

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
        conversation = self._conversation
        run = conversation.send(text)
        if conversation.dropped_turns:
            self._note(_dropped_note(conversation.dropped_turns))
        reply = show_reply(run, writer_for(sys.stdout, conversation.mode), stop)
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
        wanted = self._conversation.max_tokens
        full = wanted in (None, -1) or (reply.timings is not None and reply.timings["predicted_n"] < (wanted or 0))
        return "[cut off: the context is full, -c enlarges it]" if full else "[cut off at -n]"

    def _advice(self, error: ValueError) -> str:
        if "exceed context window" in str(error):
            return f"{error}, even without the turns before: -c enlarges it"
        return str(error)

    def _note(self, text: str) -> None:
        """Print what is not the model's: dim on a terminal, and on stderr, so that a pipe gets replies only."""
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
    """Yield turns that were not typed, and show them, so that the output reads as a conversation."""
    for line in lines:
        turn = line.rstrip("\r\n")
        if turn.strip():
            print(f"> {turn}", flush=True)
        yield turn


@click.command(name="chat", cls=Command)
@model_argument
@request_options("chat", temperature=DEFAULT_CHAT_TEMPERATURE)
@system_option
@thinking_option
@click.option("-p", "--prompt", "prompts", multiple=True, metavar="TEXT", help="A turn; repeatable. Then exits.")
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="An image with the first turn; repeatable.",
)
@click.option("--url", metavar="URL", help="Talk to a running server (pytrimode serve) instead of loading a model.")
@click.option(
    "--api-key", envvar=API_KEY_VARIABLE, metavar="KEY", help=f"The server's key; better in {API_KEY_VARIABLE}."
)
@loading_options
def command(
    model: str | None,
    options: GenerationOptions,
    system: str | None,
    enable_thinking: bool,
    prompts: tuple[str, ...],
    images: tuple[str, ...],
    url: str | None,
    api_key: str | None,
    loading: LoadOptions,
) -> None:
    """Chat with MODEL, a GGUF file (default: the checkpoint that comes with pytrimode), or with a server.

    On a terminal: line editing, history, /help for the commands. Otherwise each line of the input is a turn.
    Replies go to stdout, figures to stderr.
    """
    if url:
        from pytrimode.cli.remote import RemoteConversation  # its HTTP client takes a while to import

        return _talk(RemoteConversation(url, _given_fields(), system=system, api_key=api_key), prompts, images)
    with load(model, loading) as loaded:
        session = ChatSession(loaded, system=system, options=options, enable_thinking=enable_thinking)
        session.check()
        conversation = LocalConversation(session)
        conversation.set_mode(options.mode)
        return _talk(conversation, prompts, images)


def _talk(conversation: Conversation, prompts: tuple[str, ...], images: tuple[str, ...]) -> None:
    for path in images:
        click.secho(conversation.add_image(path), dim=True, err=True)
    if not prompts and sys.stdin is None:
        raise click.ClickException("there is no stdin: give prompts with -p")
    interactive = not prompts and sys.stdin.isatty() and sys.stdout.isatty()
    chat = Chat(conversation, interactive=interactive)
    if interactive:
        click.secho(f"{conversation.about}. /help lists the commands.", dim=True, err=True)
        turns = _typed_turns(chat)
    else:
        turns = _given_turns(iter(prompts) if prompts else iter(sys.stdin))
    for turn in turns:
        if not chat.turn(turn):
            return


def _given_fields() -> dict[str, Any]:
    """Return the fields of a request for the options that were given; the server has defaults of its own for the
    others.

    Raises UsageError for an option that only loading a model can use.
    """
    context = click.get_current_context()
    given = {n: v for n, v in context.params.items() if context.get_parameter_source(n) is ParameterSource.COMMANDLINE}
    for name in ("prompts", "images", "url", "api_key", "system"):
        given.pop(name, None)
    fields = request_fields(given)
    if given.pop("enable_thinking", False):
        fields["chat_template_kwargs"] = {"enable_thinking": True}
    for name in given:
        option = next(p for p in context.command.params if p.name == name)
        raise click.UsageError(f"{option.opts[0]} is for a model in this process: it does not go with --url")
    return fields
