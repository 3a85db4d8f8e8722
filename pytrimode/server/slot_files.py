"""What the cache holds of a slot's last prompt and answer, in files: `--slot-save-path`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytrimode.files.conversation_file import SavedConversation, read_conversation, write_conversation
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.server.errors import ApiError
from pytrimode.trimode import TriMode

if TYPE_CHECKING:
    from pytrimode.vision.prompt import Pictures

_NAME = re.compile(r"\w[\w. -]{0,126}", re.ASCII)


@dataclass
class Held:
    """The tokens of a slot's last request, and the pictures in its prompt."""

    tokens: list[int] = field(default_factory=list)
    pictures: Pictures | None = None


class SlotFiles:
    """Files of one folder. Each is that of a conversation without turns: complete or not there, and checked when it is
    read."""

    def __init__(self, folder: Path, model: TriMode) -> None:
        self._folder = folder
        self._model = model

    def save(self, name: str, held: Held) -> tuple[int, int]:
        """Write what the cache has of a slot; returns how many tokens and bytes that is. Raises ApiError."""
        with self._told(name) as path:
            cache = self._model.save_state(held.tokens, pictures=held.pictures)
            write_conversation(path, SavedConversation(None, [], False, GenerationOptions(), cache))
            return len(cache.tokens), path.stat().st_size

    def restore(self, name: str) -> tuple[list[int], int]:
        """Put a file into the cache; returns its tokens and how many bytes it has. Raises ApiError."""
        with self._told(name) as path:
            saved = read_conversation(path, origin=self._model.origin, n_ctx=self._model.n_ctx)
            if saved.unread:
                raise ValueError(f"{name}: {saved.unread}")
            self._model.load_state(saved.cache)
            return saved.cache.tokens.tolist(), path.stat().st_size

    @contextmanager
    def _told(self, name: str) -> Iterator[Path]:
        """Give the path of a name, which must be nothing but one; errors tell no folder."""
        if not _NAME.fullmatch(name) or name.endswith((".", " ")):
            raise ApiError(
                400, "filename must be letters, digits, dots, spaces and dashes, at most 127", param="filename"
            )
        path = self._folder / name
        try:
            yield path
        except FileNotFoundError:
            raise ApiError(400, f"there is no file {name}", param="filename") from None
        except (FileExistsError, ValueError) as error:
            raise ApiError(400, str(error).replace(str(path), name), param="filename") from None
        except RuntimeError as error:
            raise ApiError(503, str(error), headers={"Retry-After": "1"}) from None
        except OSError as error:
            raise ApiError(500, f"{name}: {error.strerror or str(error).replace(str(path), name)}") from None
