"""Pictures among the tokens of a prompt.

A picture of w x h cells is `<|image_start|>`, then for each row w times `<|image_pad|>` and `<|image_break|>`, the last
of which is `<|image_end|>`: 1 + h (w + 1) tokens. Chat templates write the first of them for each picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pytrimode.formats.image_part import IMAGE_PART, IMAGE_START
from pytrimode.vision.picture import DEFAULT_LIMITS, ImageError, Limits, Picture, from_image_url, open_picture

if TYPE_CHECKING:
    from pytrimode.formats.chat_template import Message

NO_VISION = "{} was loaded without a vision tower, so only text is possible: image and image_url need the mmproj file"
LOCAL = "image"
"""Type of the part whose `image` is a path, bytes, a Pillow image or an array: for callers in this process."""


class ImageTokens(NamedTuple):
    """Ids of the tokens around and within a picture."""

    start: int
    pad: int
    row_break: int
    end: int


@dataclass
class Pictures:
    """The pictures of one prompt, in order.

    Attributes:
        pictures: not encoded yet.
        tokens: how many tokens each takes.
        seconds: what encoding them took; those that were encoded before take none.
    """

    pictures: Sequence[Picture]
    tokens: Sequence[int]
    seconds: float = field(default=0.0, compare=False)


class Prompt(NamedTuple):
    """Tokens with a pad for each cell of a picture, and the pictures."""

    tokens: list[int]
    pictures: Pictures | None


def expand(tokens: Sequence[int], pictures: Sequence[Picture], ids: ImageTokens, max_side: int) -> Prompt:
    """Return the prompt with each start token followed by the rest of its picture.

    Raises ImageError where the text has such tokens itself: as many starts as pictures, and none of the others.
    """
    if tokens.count(ids.start) != len(pictures) or any(token in ids[1:] for token in tokens):
        raise ImageError(
            f"the prompt has {tokens.count(ids.start)} places for images and there are {len(pictures)} images: "
            f"{IMAGE_START} and its like must not stand in a text"
        )
    if not pictures:
        return Prompt(list(tokens), None)
    blocks = [_block(*picture.grid(max_side), ids) for picture in pictures]
    rest, expanded = iter(blocks), []
    for token in tokens:
        expanded += next(rest) if token == ids.start else [token]
    return Prompt(expanded, Pictures(pictures, [len(block) for block in blocks]))


def _block(columns: int, rows: int, ids: ImageTokens) -> list[int]:
    row = [*[ids.pad] * columns, ids.row_break]
    return [ids.start, *(row * rows)[:-1], ids.end]


def too_long(n_prompt: int, n_ctx: int, pictures: Pictures) -> str:
    """Why a prompt with pictures does not fit, and what would."""
    largest = max(pictures.tokens)
    text = n_prompt - sum(pictures.tokens)
    room = (n_ctx - 1 - text) // len(pictures.tokens)
    # A square picture of side s takes 1 + (s / 28) (s / 28 + 1) tokens; others of that side take no more.
    cells = next((c for c in range(55, 0, -1) if 1 + c * (c + 1) <= room), 0)
    advice = f"--image-max-side {28 * cells} makes them fit" if cells else "leave some out"
    return (
        f"Requested tokens ({n_prompt}) exceed context window of {n_ctx}: the images take {sum(pictures.tokens)}, the "
        f"largest {largest}; {advice}, or a larger context (-c)"
    )


def count_images(messages: Sequence[Message]) -> int:
    """Parts of messages that are images."""
    contents = [message.get("content") for message in messages]
    parts = [part for content in contents if isinstance(content, (list, tuple)) for part in content]
    return sum(isinstance(part, Mapping) and part.get("type") in ("image_url", LOCAL) for part in parts)


def take_pictures(
    messages: Sequence[Message], *, local: bool, limits: Limits = DEFAULT_LIMITS
) -> tuple[list[Message], list[Picture]]:
    """Messages with a bare part of type `image` for each picture, as templates take it, and the pictures in order.

    local: parts of the type `image` name paths and objects of this process; a request's must not. Raises ImageError for
    a picture that is none, in a message that is not the user's, or one too many.
    """
    pictures: list[Picture] = []

    def part(given: Any, role: object) -> Any:
        read = _reader(given, local=local)
        if read is None:
            return given
        if role != "user":
            raise ImageError(f"images may stand in messages of the user only, not of {role!r}")
        if len(pictures) == limits.max_images:
            raise ImageError(f"at most {limits.max_images} images may stand in one conversation")
        pictures.append(read(limits))
        return IMAGE_PART

    taken: list[Message] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, Sequence) and not isinstance(content, str):
            taken.append({**message, "content": [part(given, message.get("role")) for given in content]})
        else:
            taken.append(message)
    return taken, pictures


def _reader(part: Any, *, local: bool) -> Callable[[Limits], Picture] | None:
    """Return what reads the picture of a part; None for a part that is something else."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "image_url":
        return lambda limits: from_image_url(part.get("image_url"), limits)
    if kind == LOCAL and local:
        return lambda limits: open_picture(part.get(LOCAL), limits)
    return None
