"""The text kernels against plain Python: one pass over code points, and the split-and-join that `squeeze` stands for."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codedev.corpus.buffers import text_buffers
from codedev.kernels.segment import STOP_WORDS
from codedev.kernels.squeeze import squeeze
from codedev.kernels.textstats import COLUMNS, text_stats

SPACES = "".join(chr(code) for code in range(0x110000) if chr(code).isspace())
PIECES = [
    *STOP_WORDS,
    "The",
    "BE,",
    "(to",
    "of.",
    "don't",
    "...",
    "....",
    "......",
    "…",
    "#",
    "##",
    "\n",
    "\r\n",
    "\n\n",
    "•",
    "- ",
    "* x",
    "é",
    "e\u0301",
    "𝒳",
    "😀",
    "٣",
    "²",
    "a-b",
    "\0",
]
text_of_all_kinds = st.lists(
    st.sampled_from(PIECES) | st.sampled_from(SPACES) | st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n."), max_size=40
).map("".join)


def plain(text: str) -> dict[str, int]:
    """What the columns mean, said in the plainest Python."""
    lines = text.split("\n")
    return {
        "chars": len(text),
        "words": len(text.split()),
        "lines": sum(1 for line in lines if line.strip()),
        "max_line": max(map(len, lines)),
        "alnum": sum(c.isalnum() for c in text),
        "alpha": sum(c.isalpha() for c in text),
        "comment_chars": 0,
        "encoded_chars": 0,
        "max_encoded": 0,
    }


def stats(texts: list[str | None]) -> list[dict[str, int]]:
    array = pa.array(texts, pa.large_string())
    return [dict(zip(COLUMNS, row.tolist(), strict=True)) for row in text_stats(*text_buffers(array))]


@settings(max_examples=400, deadline=None)
@given(st.lists(text_of_all_kinds, min_size=1, max_size=4))
@example(["", "\n", "\n\n\n", " ", "a", "a\n", "\na", "...", "... ", ". ..", "…\u2029", "• ", " •x", "#...#"])
def test_statistics_against_plain_python(texts: list[str]) -> None:
    assert stats(list(texts)) == [plain(text) for text in texts]


def test_every_unicode_space_parts_words() -> None:
    for space in SPACES:
        assert stats([f"a{space}b"])[0] == plain(f"a{space}b")
        assert stats([f"a{space}b"])[0]["words"] == 2
    assert stats(["a\u200bb"])[0]["words"] == 1  # a zero-width space is none


def test_every_character_is_what_python_says() -> None:
    texts = ["".join(chr(c) for c in range(start, start + 4096) if not 0xD800 <= c < 0xE000) for start in range(0, 0x110000, 4096)]
    assert stats(list(texts)) == [plain(text) for text in texts]


def test_slices_and_nulls() -> None:
    array = pa.array(["skip", "one two", None, "", "the end..."], pa.large_string()).slice(1)
    assert [dict(zip(COLUMNS, row.tolist(), strict=True)) for row in text_stats(*text_buffers(array))] == [
        plain(text or "") for text in array.to_pylist()
    ]
    assert text_stats(*text_buffers(pa.array([], pa.large_string()))).shape == (0, len(COLUMNS))
    assert text_stats(*text_buffers(pa.nulls(3, pa.large_string()))).tolist() == [[0] * len(COLUMNS)] * 3


def test_a_long_document() -> None:
    text = "the word... # of\u3000𝒳\n" * 50_000
    assert stats([text]) == [plain(text)]


def squeezed(array: pa.Array) -> list[bytes]:
    data, offsets = squeeze(*text_buffers(array))
    return [bytes(data[start:end]) for start, end in itertools.pairwise(offsets.tolist())]


@settings(max_examples=400, deadline=None)
@given(st.lists(text_of_all_kinds, min_size=1, max_size=5), st.integers(0, 4))
def test_squeeze_against_split_and_join(texts: list[str], start: int) -> None:
    array = pa.array(texts, pa.large_string()).slice(start)
    assert squeezed(array) == [" ".join(re.split(r"[ \t\n\x0b\x0c\r]+", text)).strip(" ").encode() for text in texts[start:]]
    assert squeezed(array) == [b" ".join(text.encode().split()) for text in texts[start:]]


def test_squeeze_touches_no_other_space() -> None:
    for space in SPACES:
        [got] = squeezed(pa.array([f" a{space * 2}b "], pa.large_string()))
        assert got.decode() == ("a b" if space in " \t\n\v\f\r" else f"a{space * 2}b")


def test_squeeze_of_nothing() -> None:
    assert squeezed(pa.array(["", " ", "\n\t"], pa.large_string())) == [b"", b"", b""]
    data, offsets = squeeze(*text_buffers(pa.array([], pa.large_string())))
    assert (len(data), offsets.tolist()) == (0, [0])


@pytest.mark.parametrize("kernel", [text_stats, squeeze])
def test_kernels_take_read_only_buffers(kernel: object) -> None:
    data, offsets = text_buffers(pa.array(["a b"], pa.large_string()))
    assert not data.flags.writeable
    assert not offsets.flags.writeable
    kernel(np.asarray(data), np.asarray(offsets))  # type: ignore[operator]
