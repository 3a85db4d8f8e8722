"""TextStream for any text, any stop strings, and any way of cutting the bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytrimode.formats.text_stream import TextStream

# Few different characters, of one to four bytes: texts hold their stop strings often, whole and in part.
letters = st.sampled_from("aabß你🙂")
texts = st.text(letters, max_size=30)
stops = st.lists(st.text(letters, min_size=1, max_size=5), max_size=3)
cuts = st.lists(st.integers(0, 120), max_size=40).map(sorted)


def pieces(data: bytes, at: list[int]) -> list[bytes]:
    """The bytes cut at these places; empty pieces among them."""
    return [data[begin:end] for begin, end in itertools.pairwise([0, *(min(i, len(data)) for i in at), len(data)])]


def streamed(stream: TextStream, parts: list[bytes]) -> list[str]:
    return [*(stream.feed(part) for part in parts), stream.finish()]


def before_first_stop(text: str, stop: list[str]) -> str:
    """By trying every end: the first beginning of the text that ends in a stop string, without the longest such one."""
    for end in range(len(text) + 1):
        found = [s for s in stop if text[:end].endswith(s)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@given(texts, stops, cuts)
def test_the_text_is_what_stands_before_the_first_stop_string(text: str, stop: list[str], at: list[int]) -> None:
    stream = TextStream(stop)
    assert "".join(streamed(stream, pieces(text.encode(), at))) == before_first_stop(text, stop)
    assert stream.stopped == any(s in text for s in stop)


@pytest.mark.slow
@given(st.binary(max_size=30), st.lists(st.text(min_size=1, max_size=2), max_size=3), cuts)
def test_any_bytes_give_the_same_text_however_they_are_cut(data: bytes, stop: list[str], at: list[int]) -> None:
    expected = before_first_stop(data.decode("utf-8", "replace"), stop)
    assert "".join(streamed(TextStream(stop), pieces(data, at))) == expected


@given(texts, stops, cuts)
def test_text_given_out_stays_and_waits_only_for_a_possible_stop_string(
    text: str, stop: list[str], at: list[int]
) -> None:
    """What was given out is never taken back, and only what may still become a stop string is held."""
    stream, given_out, data = TextStream(stop), "", b""
    expected = before_first_stop(text, stop)
    for part in pieces(text.encode(), at):
        given_out += stream.feed(part)
        data += part
        assert expected.startswith(given_out)
        held = data.decode("utf-8", "ignore")[len(given_out) :]
        assert stream.stopped or held == "" or any(s.startswith(held) and s != held for s in stop)


@given(texts, stops, cuts, st.binary(max_size=8))
def test_nothing_follows_a_stop_string(text: str, stop: list[str], at: list[int], more: bytes) -> None:
    stream = TextStream(stop)
    for part in pieces(text.encode(), at):
        stream.feed(part)
    if stream.stopped:
        assert (stream.feed(more), stream.finish()) == ("", "")
