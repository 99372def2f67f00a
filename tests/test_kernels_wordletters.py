"""Letters in words against the same rule written with regular expressions, one text at a time."""

from __future__ import annotations

import random
import re
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev.corpus.buffers import text_buffers
from codedev.kernels.wordletters import LONGEST, word_letters

_WHOLE = re.compile(r"[^A-Za-z0-9_]*[A-Za-z]+(?:[',-]+[A-Za-z]+)*[^A-Za-z0-9_]*", re.ASCII)
ALL = 1 << 40


def counted(texts: list[str], enough: int = ALL) -> list[int]:
    return word_letters(*text_buffers(pa.array(texts, pa.large_string())), enough).tolist()


def expected(text: str) -> int:
    total = 0
    for word in re.split(r"[\x00-\x20]+", text):
        ascii_letters = sum(char.isascii() and char.isalpha() for char in word)
        foreign = sum(len(char.encode()) for char in word if not char.isascii() and char.isalpha())
        plain = "".join(char for char in word if char.isascii())
        whole = not ascii_letters or _WHOLE.fullmatch(plain)
        no_digit = not re.search(r"[0-9_]", plain)
        if foreign or (whole and no_digit and len(word.encode()) <= LONGEST):
            total += ascii_letters + foreign
    return total


def test_what_is_a_word_and_what_is_not() -> None:
    words = {"ferry": 5, "don't": 4, "sea-side,": 7, "(calm).": 4, "“hello”": 5, "Fähre": 6, "海は2024年": 9, "l’été": 6, "a": 1}
    others = [
        "https://a.example/b",
        "x.co",
        "a1b2",
        "kf_nodes",
        "b->name",
        "foo(bar)",
        "12",
        "...",
        "😀👍🏽❤️",
        "x" * 41,
        "a@b",
        "and/or",
        "",
    ]
    assert counted(list(words)) == list(words.values())
    assert counted(others) == [0] * len(others)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=5))
def test_any_text(texts: list[str]) -> None:
    assert counted(texts) == [expected(text) for text in texts]


def test_random_texts() -> None:
    rng = random.Random(2)
    texts = ["".join(rng.choices("abZ'-,.(:_1 \n\té海😀\u0301", k=rng.randint(0, 60))) for _ in range(5000)]
    assert counted(texts) == [expected(text) for text in texts]


@pytest.mark.parametrize("text", ["x" * 4_000_000, "\n" * 4_000_000, "é" * 2_000_000, "a " * 2_000_000, "\0" * 1_000_000], ids=len)
def test_hostile_texts(text: str) -> None:
    start = time.thread_time()
    found = counted([text])[0]
    assert time.thread_time() - start < 2
    assert found == (0 if text[0] in "x\n\0" else len(text.encode()) // (2 if text[0] == "a" else 1))
    assert counted([text], 40)[0] <= 42
