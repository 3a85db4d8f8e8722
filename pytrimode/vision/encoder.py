"""From pictures to rows of the text model: encodes each once, and keeps the latest by content."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytrimode import _native
from pytrimode.vision.picture import Picture
from pytrimode.vision.prompt import ImageTokens, Pictures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytrimode._native import Engine, Image

Attach = Callable[[Callable[[], None]], None]
"""Takes what ends an encoding, for another thread to call: `Cancellation.attach`."""
PREPROCESSING = 1
"""Of the pixels; a part of the name of a content, as the tower is."""
DEFAULT_CACHE_BYTES = 256 << 20
"""Of encoded pictures: six of the largest ones of an 8B."""
CELL = _native.VISION_CELL_PIXELS


def check_side(side: int, largest: int) -> int:
    """Return the longest side that pictures keep. Raises ValueError for one that is no whole number of cells, or too
    large.
    """
    if side < CELL or side > largest or side % CELL:
        nearest = min(max(round(side / CELL) * CELL, CELL), largest)
        raise ValueError(
            f"image_max_side {side}: must be a multiple of {CELL} from {CELL} to {largest}; the nearest is {nearest}"
        )
    return side


class Vision:
    """The vision tower of a model, with an engine that takes its rows. Any thread may encode.

    Attributes:
        ids: of the tokens around and within a picture.
        max_side: pixels of the longest side that are kept.
        path: of the mmproj file.
    """

    def __init__(
        self, tower: _native.Tower, path: Path, digest: str, ids: ImageTokens, max_side: int, cache_bytes: int
    ) -> None:
        self.tower = tower
        self.path = path
        self.ids = ids
        self.max_side = max_side
        self._digest = digest
        self.max_cached_bytes = cache_bytes
        self._held: OrderedDict[str, Image] = OrderedDict()
        self._encoding = threading.Lock()  # one picture at a time: each takes all threads, and the pixels their memory
        self._lock = threading.Lock()

    @property
    def cached_bytes(self) -> int:
        """Of encoded pictures that are held."""
        with self._lock:
            return sum(image.n_bytes for image in self._held.values())

    def clear(self) -> None:
        """Let go of all encoded pictures."""
        with self._lock:
            self._held.clear()

    def arguments(self, engine: Engine, pictures: Pictures, attach: Attach | None = None) -> dict[str, Any]:
        """Return what `Engine.submit` needs to put the pictures into a prompt; encodes those that are not held.

        Raises ImageError for a file that cannot be decoded, VisionCancelledError when what `attach` is given is called.
        """
        images = []
        for picture in pictures.pictures:
            started = time.monotonic()
            images.append(self._encode(engine, picture, attach))
            pictures.seconds += time.monotonic() - started
        return {"images": images, "image_pad": self.ids.pad}

    def _encode(self, engine: Engine, picture: Picture, attach: Attach | None) -> Image:
        abort = _native.VisionAbort()
        if attach:
            attach(abort.set)
        with self._encoding:
            pixels = picture.pixels()
            side = picture.side(self.max_side)
            key = self._key(pixels, side)
            with self._lock:
                if key in self._held:
                    self._held.move_to_end(key)
                    return self._held[key]
            image = engine.add_image(key, self.tower.encode(pixels, side, abort))
        self._hold(key, image)
        return image

    def _key(self, pixels: NDArray[np.uint8], side: int) -> str:
        """Names the content of the rows: pixels, what is made of them, and the tower."""
        digest = hashlib.sha256(repr((PREPROCESSING, self._digest, side, pixels.shape)).encode())
        digest.update(pixels.data)
        return digest.hexdigest()

    def _hold(self, key: str, image: Image) -> None:
        with self._lock:
            self._held[key] = image
            total = sum(held.n_bytes for held in self._held.values())
            while total > self.max_cached_bytes and self._held:
                _, dropped = self._held.popitem(last=False)
                total -= dropped.n_bytes
