"""A picture that was not decoded yet: its size is known from its header, its pixels come when they are needed.

What clients send is opened with Pillow (the extra `[vision]`), by formats on a list, after a look at its size. Nothing
is fetched; paths are opened for callers in this process only (`open_picture`), never for what a request says.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytrimode._native import vision_grid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIB = 1 << 20
FORMATS = {"png": "PNG", "jpeg": "JPEG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF"}
"""MIME subtypes, and Pillow's readers of them: no other parser sees the bytes."""
DETAIL_SIDES = {"low": 448, "high": 1400, "auto": None}
"""OpenAI's `detail` as the longest side in pixels; None: the model's own."""
_DATA_URI = re.compile(r"data:image/([a-z0-9.+-]{1,20});base64,", re.ASCII)
_HEAD_CHARS = 64
_LONGEST_SIDE = 1 << 20


class ImageError(ValueError):
    """What is wrong with a picture. Says nothing of what a decoder or the system said."""


@dataclass(frozen=True)
class Limits:
    """What a picture may be before it is decoded.

    Attributes:
        max_bytes: of an encoded picture.
        max_pixels: width times height.
        max_images: in one request.
    """

    max_bytes: int = 20 * MIB
    max_pixels: int = 40_000_000
    max_images: int = 8


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Picture:
    """A picture with the size that its header says.

    Attributes:
        width: in pixels.
        height: in pixels.
        data: the encoded file; None where `array` has the pixels.
        array: uint8 [height, width, 3]; None where `data` has the file.
        max_side: pixels of the longest side that are kept; None: what the model was loaded with.
    """

    width: int
    height: int
    data: bytes | None = None
    array: NDArray[np.uint8] | None = None
    max_side: int | None = None

    def grid(self, default_side: int) -> tuple[int, int]:
        """Columns and rows of its cells."""
        return vision_grid(self.width, self.height, self.side(default_side))

    def side(self, default_side: int) -> int:
        """Pixels of the longest side that are kept: never more than the model was loaded with."""
        return min(self.max_side or default_side, default_side)

    def pixels(self) -> NDArray[np.uint8]:
        """uint8 RGB [height, width, 3], transparency over white, of the first frame. Raises ImageError."""
        import numpy as np

        if self.array is not None:
            return self.array
        assert self.data is not None
        image = _open(self.data)
        try:
            found = _rgb(image)
        except Exception:  # whatever a damaged file makes a decoder raise
            raise _undecodable() from None
        if found.shape != (self.height, self.width, 3):
            raise _undecodable()
        return np.ascontiguousarray(found)

    def data_uri(self) -> str:
        """Return the file as a `data:` URI, of an array a PNG."""
        data = self.data if self.data is not None else _as_png(self.pixels())
        kind = _open(data).format.lower()
        return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def from_bytes(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Return a PNG, JPEG, WebP or GIF file. Raises ImageError; only its header is read."""
    if len(data) > limits.max_bytes:
        raise ImageError(f"an image may have at most {limits.max_bytes} bytes")
    if webp := _webp_size(data):  # its reader makes room for all pixels when it opens a file
        _check_size(*webp, limits)
    width, height = _open(data).size
    _check_size(width, height, limits)
    return Picture(width, height, data=data)


def from_data_uri(url: object, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Return a picture in a `data:` URI, which is all that a request may name. Raises ImageError for anything else."""
    if not isinstance(url, str):
        raise ImageError("image_url.url: expected a string")
    head = _DATA_URI.match(url[:_HEAD_CHARS])
    if not head or head[1] not in FORMATS:
        raise ImageError(
            "image_url.url: only data:image/png, jpeg, webp and gif URIs in base64 are accepted: nothing is fetched"
        )
    if (len(url) - head.end()) // 4 * 3 > limits.max_bytes + 3:
        raise ImageError(f"an image may have at most {limits.max_bytes} bytes")
    try:
        data = base64.b64decode(url[head.end() :].encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("image_url.url: not valid base64") from None
    return from_bytes(data, limits)


def from_image_url(value: object, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """OpenAI's `image_url`: {"url": "data:...", "detail": "low" | "high" | "auto"}, or the URI alone."""
    if not isinstance(value, Mapping):
        return from_data_uri(value, limits)
    detail = value.get("detail") or "auto"
    if not isinstance(detail, str) or detail not in DETAIL_SIDES:
        raise ImageError(f"image_url.detail: expected one of {', '.join(DETAIL_SIDES)}")
    return replace(from_data_uri(value.get("url"), limits), max_side=DETAIL_SIDES[detail])


def open_picture(source: Any, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Return a picture of a caller in this process: a path, a file's bytes, a Pillow image, or an array.

    Arrays are uint8 [height, width], [height, width, 3] or [height, width, 4] (with transparency). Raises ImageError,
    OSError for a file that cannot be read, TypeError for anything else.
    """
    import numpy as np

    if isinstance(source, Picture):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return from_bytes(bytes(source), limits)
    if isinstance(source, (str, Path)):
        return _from_file(Path(source).expanduser(), limits)
    if isinstance(source, np.ndarray):
        return _from_array(source, limits)
    if hasattr(source, "convert") and hasattr(source, "size"):
        width, height = source.size
        _check_size(width, height, limits)
        return _from_array(_rgb(source), limits)
    raise TypeError(f"an image must be a path, bytes, a Pillow image or a uint8 array, not {type(source).__name__}")


def _from_file(path: Path, limits: Limits) -> Picture:
    with path.open("rb") as file:
        data = file.read(limits.max_bytes + 1)
    try:
        return from_bytes(data, limits)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def _from_array(array: NDArray[Any], limits: Limits) -> Picture:
    import numpy as np

    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"an array must be uint8 [height, width], or with 1, 3 or 4 channels, not {array.dtype} {list(array.shape)}"
        )
    _check_size(array.shape[1], array.shape[0], limits)
    channels = array[:, :, None] if array.ndim == 2 else array
    if channels.shape[2] == 4:
        channels = _rgb(_pillow().fromarray(np.ascontiguousarray(channels), "RGBA"))
    rgb = np.ascontiguousarray(np.broadcast_to(channels, (*array.shape[:2], 3)))
    return Picture(array.shape[1], array.shape[0], array=rgb)


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1 or max(width, height) > _LONGEST_SIDE or width * height > limits.max_pixels:
        raise ImageError(
            f"an image may have at most {limits.max_pixels} pixels and must have one: this one is {width} x {height}"
        )


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP file, None of any other. Source: RFC 9649, sections 2.6 and 2.7, 3.4."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImageError('images need Pillow: pip install "pytrimode[vision]"') from None
    # `Limits.max_pixels` is below its limit, and a line on stderr is not for whoever sends a picture to write.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image


def _open(data: bytes) -> Any:
    """Read the header. The list of formats, not the MIME type, decides which parsers can run at all."""
    pillow = _pillow()
    try:
        return pillow.open(io.BytesIO(data), formats=sorted(set(FORMATS.values())))
    except Exception:  # whatever a damaged file makes a parser raise
        raise _undecodable() from None


def _undecodable() -> ImageError:
    return ImageError("the image cannot be decoded: a whole PNG, JPEG, WebP or GIF file is needed")


def _rgb(image: Any) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]; transparency over white, as the model's own preprocessing has it."""
    import numpy as np

    if image.mode.startswith("I"):  # 16 bits of grey
        image = _pillow().fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    image = image.convert("RGBA")
    white = _pillow().new("RGBA", image.size, "WHITE")
    white.paste(image, (0, 0), image)
    return np.asarray(white.convert("RGB"))


def _as_png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    _pillow().fromarray(pixels).save(file, "PNG")
    return file.getvalue()
