"""Reading pictures: what is taken, and what is refused before and while it is decoded."""

from __future__ import annotations

import base64
import io
import resource
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.vlm import picture

from pytrimode.vision.picture import ImageError, Limits, Picture, from_data_uri, from_image_url, open_picture

RED = Image.new("RGB", (40, 30), (255, 0, 0))


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def uri(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


PNG = file_of(RED, "PNG")
FRAMES = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]


@pytest.mark.parametrize(
    ("data", "shape", "first"),
    [
        (PNG, (30, 40, 3), (255, 0, 0)),
        (file_of(RED, "JPEG"), (30, 40, 3), (254, 0, 0)),
        (file_of(RED, "WEBP", lossless=True), (30, 40, 3), (255, 0, 0)),
        (file_of(RED, "WEBP"), (30, 40, 3), (254, 0, 0)),
        (file_of(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), (8, 8, 3), (255, 0, 0)),
        (file_of(Image.new("RGBA", (8, 8), (1, 2, 3, 0)), "PNG"), (8, 8, 3), (255, 255, 255)),
        (file_of(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "PNG"), (8, 8, 3), (127, 127, 127)),
        (file_of(Image.new("L", (8, 8), 7), "PNG"), (8, 8, 3), (7, 7, 7)),
        (file_of(Image.new("1", (8, 8), 1), "PNG"), (8, 8, 3), (255, 255, 255)),
        (file_of(Image.new("P", (8, 8), 0), "PNG", transparency=0), (8, 8, 3), (255, 255, 255)),
        (file_of(Image.fromarray(np.full((8, 8), 0x4080, np.uint16)), "PNG"), (8, 8, 3), (0x40, 0x40, 0x40)),
        (file_of(RED.convert("CMYK"), "JPEG"), (30, 40, 3), (254, 0, 0)),
    ],
)
def test_what_is_taken(data: bytes, shape: tuple[int, ...], first: tuple[int, ...]) -> None:
    """The first frame, transparency over white."""
    pixels = from_data_uri(uri(data)).pixels()
    assert pixels.shape == shape
    assert np.abs(pixels[0, 0].astype(int) - first).max() <= 2


def test_the_mime_type_decides_nothing() -> None:
    assert from_data_uri(uri(PNG, "gif")).pixels().shape == (30, 40, 3)


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_picture(file_of(RED, "JPEG", exif=exif)).pixels().shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://169.254.169.254/latest/meta-data", "nothing is fetched"),
        ("https://example.org/a.png", "nothing is fetched"),
        ("ftp://example.org/a.png", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("/etc/passwd", "nothing is fetched"),
        ("blob:https://example.org/1", "nothing is fetched"),
        (uri(PNG).partition(",")[2], "nothing is fetched"),
        ("data:image/svg+xml;base64,PHN2Zy8+", "nothing is fetched"),
        ("data:image/tiff;base64,AAAA", "nothing is fetched"),
        ("data:text/html;base64,AAAA", "nothing is fetched"),
        ("data:image/png,rawbytes", "nothing is fetched"),
        ("DATA:IMAGE/PNG;BASE64,AAAA", "nothing is fetched"),
        ("", "nothing is fetched"),
        (5, "expected a string"),
        (None, "expected a string"),
        (uri(PNG)[:60] + "!" + uri(PNG)[60:], "not valid base64"),
        (uri(PNG)[:60] + "\u00e9" + uri(PNG)[60:], "not valid base64"),
        (uri(b"hello"), "cannot be decoded"),
        (uri(b""), "cannot be decoded"),
        (uri(file_of(RED, "TIFF")), "cannot be decoded"),
        (uri(file_of(RED, "BMP")), "cannot be decoded"),
        (uri(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "cannot be decoded"),
        (uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "cannot be decoded"),
    ],
)
def test_what_is_refused(url: object, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        from_data_uri(url)


def test_a_refusal_says_nothing_of_the_decoder() -> None:
    with pytest.raises(ImageError) as caught:
        open_picture(PNG[:60]).pixels()
    assert str(caught.value) == "the image cannot be decoded: a whole PNG, JPEG, WebP or GIF file is needed"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_damaged_files(kind: str) -> None:
    """Cut anywhere and with bytes changed: an ImageError or pixels of the size that the header says, nothing else."""
    data = file_of(Image.fromarray(picture(64, 48)), kind)
    rng = np.random.default_rng(0)
    for i in range(200):
        bad = bytearray(data)
        if i % 2:
            bad = bad[: rng.integers(1, len(bad))]
        else:
            for place in rng.integers(0, len(bad), 3):
                bad[place] ^= int(rng.integers(1, 256))
        try:
            found = open_picture(bytes(bad))
            assert found.pixels().shape == (found.height, found.width, 3)
        except ImageError:
            pass


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with data for a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def webp_of_size(width: int, height: int) -> bytes:
    body = (
        struct.pack("<4xBBBB", 0, 0, 0, 0)[4:] + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    chunks = b"VP8X" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


BOMBS = {
    "png, real": file_of(Image.new("1", (12000, 12000)), "PNG"),
    "png, claimed": png_of_size(2**31 - 1, 2**31 - 1),
    "webp, claimed": webp_of_size(16383, 16383),
    "gif": file_of(Image.new("P", (9000, 9000)), "GIF"),
    "long": png_of_size(40_000_000, 1),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_dies_at_its_header(bomb: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"may have at most 40000000 pixels|cannot be decoded"):
        from_data_uri(uri(BOMBS[bomb]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB


def test_limits() -> None:
    few = Limits(max_bytes=100, max_pixels=1000)
    with pytest.raises(ImageError, match="at most 100 bytes"):
        open_picture(b"x" * 101, few)
    with pytest.raises(ImageError, match="at most 100 bytes"):
        from_data_uri(uri(b"x" * 200), few)
    with pytest.raises(ImageError, match="at most 1000 pixels and must have one: this one is 40 x 30"):
        open_picture(PNG, Limits(max_pixels=1000))
    with pytest.raises(ImageError, match="is 0 x 5"):
        open_picture(np.zeros((5, 0, 3), np.uint8))


def test_detail() -> None:
    sides = {d: from_image_url({"url": uri(PNG), "detail": d}).max_side for d in ("low", "high", "auto")}
    assert sides == {"low": 448, "high": 1400, "auto": None}
    assert from_image_url({"url": uri(PNG)}).max_side is None
    with pytest.raises(ImageError, match=r"image_url\.detail: expected one of low, high, auto"):
        from_image_url({"url": uri(PNG), "detail": "best"})
    for value in ({"url": {}}, {}, [], 5):
        with pytest.raises(ImageError, match="expected a string"):
            from_image_url(value)


def test_sources_of_this_process(tmp_path: Path) -> None:
    """A path, bytes, a Pillow image and arrays give the same pixels."""
    pixels = picture(31, 17)
    image = Image.fromarray(pixels)
    path = tmp_path / "a.png"
    image.save(path)
    for source in (
        path,
        str(path),
        path.read_bytes(),
        image,
        pixels,
        np.dstack([pixels, np.full((17, 31), 255, np.uint8)]),
    ):
        found = open_picture(source)
        assert (found.width, found.height) == (31, 17)
        assert np.array_equal(found.pixels(), pixels)
    assert np.array_equal(open_picture(pixels[:, :, 0]).pixels()[:, :, 2], pixels[:, :, 0])
    clear = np.dstack([pixels, np.zeros((17, 31), np.uint8)])
    assert (open_picture(clear).pixels() == 255).all()
    assert np.array_equal(from_data_uri(open_picture(pixels).data_uri()).pixels(), pixels)
    with pytest.raises(OSError, match="missing"):
        open_picture(tmp_path / "missing.png")
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ImageError, match=r"b\.png: the image cannot be decoded"):
        open_picture(tmp_path / "b.png")
    with pytest.raises(ImageError, match="an array must be uint8"):
        open_picture(pixels.astype(np.float32))
    with pytest.raises(TypeError, match="not int"):
        open_picture(5)


def test_no_more_than_the_model_was_loaded_with() -> None:
    assert Picture(3000, 2000, max_side=1400).grid(784) == (28, 19)
    assert Picture(3000, 2000, max_side=448).grid(784) == (16, 11)


def test_a_picture_that_claims_many_pixels_writes_nothing_to_stderr() -> None:
    png = bytearray(PNG)
    png[16:24] = struct.pack(">II", 10_000, 10_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    with (
        warnings.catch_warnings(record=True) as told,
        pytest.raises(ImageError, match="at most 40000000 pixels"),
    ):
        from_data_uri(uri(bytes(png)))
    assert not told
