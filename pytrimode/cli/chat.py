"""`pytrimode chat`: a conversation on a terminal, through a pipe, or scripted with -p."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from pytrimode.cli.stats_line import Totals, short_line, stats_line
from pytrimode.cli.turns import check_stdin, given_turns, last_chat_file, new_chat_file
from pytrimode.conversation.chat_session import ChatSession
from pytrimode.options.defaults import DEFAULT_CHAT_TEMPERATURE
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.load_options import LoadOptions

if TYPE_CHECKING:
    from pytrimode.cli.prompt import TypedTurns

_OF_THE_TALK = (
    "prompts", "images", "single_turn", "rendered", "autosave", "resumed", "url", "api_key", "system",
)  # fmt: skip
"""Parameters that are neither of a request nor of loading a model."""


class Chat:
    """One run of the command."""

    def __init__(self, conversation: Conversation, *, interactive: bool, rendered: bool, file: Path | None) -> None:
        """Begin. `rendered`: Markdown on a terminal. `file`: where the conversation is kept after each answer."""
        self._conversation = conversation
        self._interactive = interactive
        self._rendered = rendered
        self._file = file
        self._totals = Totals()
        self._attached = ""
        self.draft = ""
        """What the user's next line begins with."""
        self.commands = ChatCommands(conversation, self._totals)

    def turn(self, text: str) -> bool:
        """Handle one line of the user: a command or a turn; False when the user leaves."""
        self.draft = ""
        try:
            if text.startswith("/"):
                done = self.commands.run(text)
                self._attached += done.attach
                self.draft = done.draft or ""
                if done.note:
                    self._note(done.note)
                text = done.send or ""
            if text.strip():
                attached, self._attached = self._attached, ""
                with Interrupt() if self._interactive else nullcontext() as stop:
                    self._answer(attached + text, stop)
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
        reply = show_reply(run, writer_for(sys.stdout, conversation.mode, rendered=self._rendered), stop)
        if not reply.text.endswith("\n"):
            print(flush=True)
        if reply.timings:
            self._totals.add(reply.timings)
            line = short_line if self._interactive else stats_line
            self._note(line(reply.timings, self._why_ended(reply)))
        else:
            self._note("[stopped]")
        self._keep()

    def _keep(self) -> None:
        """Write the conversation, so that a terminal that is closed takes nothing with it."""
        if self._file is None:
            return
        try:
            self._conversation.keep(str(self._file))
        except OSError as error:
            self._note(f"[this chat is not kept: {error}]")
            self._file = None

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
@click.option("-st", "--single-turn", is_flag=True, help="Leave after the first answer.")
@click.option(
    "--markdown/--no-markdown",
    "rendered",
    default=True,
    help="On a terminal show answers as Markdown, in colour and wrapped at words, with a line about drafts; or plain.",
)
@click.option(
    "--autosave/--no-autosave",
    default=True,
    help="Keep what is typed on a terminal, and the answers, in a file of the last 20 chats.",
)
@click.option("--continue", "resumed", is_flag=True, help="Go on with the last chat that was kept.")
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
    single_turn: bool,
    rendered: bool,
    autosave: bool,
    resumed: bool,
    url: str | None,
    api_key: str | None,
    loading: LoadOptions,
) -> None:
    """Chat with MODEL, a GGUF file (default: the checkpoint that comes with pytrimode), or with a server.

    On a terminal: line editing, history, /help for the commands. Otherwise each line of the input is a turn, or all
    between two lines of \"\"\". Answers go to stdout, and nothing else: turns and figures go to stderr.
    """
    how = _How(prompts, images, single_turn, rendered, autosave, resumed)
    if url:
        from pytrimode.cli.remote import RemoteConversation  # its HTTP client takes a while to import

        return _talk(RemoteConversation(url, _given_fields(), system=system, api_key=api_key), how)
    with load(model, loading) as loaded:
        session = ChatSession(loaded, system=system, options=options, enable_thinking=enable_thinking)
        session.check()
        conversation = LocalConversation(session)
        conversation.set_mode(options.mode)
        return _talk(conversation, how)


def _typed(commands: list[str]) -> TypedTurns:
    from pytrimode.cli.prompt import TypedTurns  # its editor takes a while to import

    return TypedTurns(commands)


@dataclass(frozen=True)
class _How:
    """What the command line says of the talk."""

    prompts: tuple[str, ...]
    images: tuple[str, ...]
    single_turn: bool
    rendered: bool
    autosave: bool
    resumed: bool


def _talk(conversation: Conversation, how: _How) -> None:
    check_stdin(how.prompts)
    interactive = not how.prompts and sys.stdin.isatty() and sys.stdout.isatty()
    file = last_chat_file() if how.resumed else new_chat_file() if interactive and how.autosave else None
    if how.resumed:
        loaded = conversation.load(str(file))
        click.secho(f"{file}: {conversation.n_turns} turns, {loaded}", dim=True, err=True)
    for path in how.images:
        click.secho(conversation.add_image(path), dim=True, err=True)
    kept = file if interactive and how.autosave else None
    chat = Chat(conversation, interactive=interactive, rendered=how.rendered, file=kept)
    if interactive:
        click.secho(f"{conversation.about}. /help lists the commands.", dim=True, err=True)
    typed = _typed(chat.commands.names) if interactive else None
    for turn in typed or given_turns(how.prompts or sys.stdin):
        if not chat.turn(turn) or (how.single_turn and conversation.n_turns):
            return
        if typed:
            typed.draft = chat.draft


def _given_fields() -> dict[str, Any]:
    """Return the fields of a request for the options that were given; the server has defaults of its own for the
    others.

    Raises UsageError for an option that only loading a model can use.
    """
    context = click.get_current_context()
    source = context.get_parameter_source
    given = {name: value for name, value in context.params.items() if source(name) is not ParameterSource.DEFAULT}
    for name in _OF_THE_TALK:
        given.pop(name, None)
    fields = request_fields(given)
    if given.pop("enable_thinking", False):
        fields["chat_template_kwargs"] = {"enable_thinking": True}
    for name in (name for name in given if source(name) is ParameterSource.COMMANDLINE):
        option = next(p for p in context.command.params if p.name == name)
        raise click.UsageError(f"{option.opts[0]} is for a model in this process: it does not go with --url")
    return fields
