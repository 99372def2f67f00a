"""Pretokenization against the regex engine of `tokenizers`: the same pieces to the byte on anything, in linear time, inside the buffer."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pretoken_support import REGEX_OF, boundaries, buffers, expected_pieces, fuzz
from tokenizers import Regex, pre_tokenizers

from codedev.kernels import pretoken_masks
from codedev.kernels.pretoken_masks import masked
from codedev.kernels.pretokens import SHAPES, piece_ends
from codedev.kernels.unicode_classes import CATEGORIES, CODE_POINTS, categories

HERE = Path(__file__).parent


def of_category(name: str, characters: str) -> np.ndarray:
    """Which of the characters the regex engine finds in the category."""
    found = np.zeros(len(characters), np.bool_)
    split = pre_tokenizers.Split(Regex(r"\s+" if name == "Z" else rf"\p{{{name}}}+"), "removed", invert=True)
    for _, (begin, end) in split.pre_tokenize_str(characters):
        found[begin:end] = True
    return found


def check_categories(code_points: np.ndarray) -> None:
    code_points = code_points[(code_points < 0xD800) | (code_points > 0xDFFF)]
    characters = "".join(map(chr, code_points))
    codes = categories()[0][code_points]
    for code, name in enumerate(CATEGORIES[1:], 1):
        assert np.array_equal(of_category(name, characters), codes == code), name


def test_categories_where_they_change() -> None:
    codes, version = categories()
    assert len(codes) == CODE_POINTS
    assert version == "16.0"
    assert codes[0x10D40] == CATEGORIES.index("N")  # Garay digits came with Unicode 16
    edges = np.flatnonzero(np.diff(codes))
    check_categories(np.unique(np.concatenate([edges, edges + 1])))


@pytest.mark.slow
def test_all_categories() -> None:
    check_categories(np.arange(CODE_POINTS))


@pytest.mark.parametrize("name", SHAPES)
def test_same_pieces_as_the_regex(name: str) -> None:
    texts = [*fuzz(700, seed=11), *boundaries(), "", "\ud7ff", "\n", " "]
    expected = expected_pieces(texts, REGEX_OF[name])
    data, offsets = buffers(texts)
    ends, firsts = piece_ends(data, offsets, SHAPES[name])
    assert np.array_equal(np.diff(firsts), [len(pieces) for pieces in expected])
    assert np.array_equal(ends, np.cumsum([len(piece) for pieces in expected for piece in pieces]))


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if masked(shape)])
def test_masks_find_the_same_pieces(name: str) -> None:
    texts = [*fuzz(6000, seed=12), *boundaries(), "", "a" * 64, "x\n" * 500]
    texts += ["".join(parts) for parts in itertools.product(["", "a" * 59], *[["a", " ", "\n", "'", "\\", "1", "\t"]] * 4, ["", "b" * 64])]
    data, offsets = buffers(texts)
    ends, firsts = pretoken_masks.piece_ends(data, offsets, SHAPES[name])
    expected, places = piece_ends(data, offsets, SHAPES[name])
    assert np.array_equal(ends, expected)
    assert np.array_equal(firsts, places)


@pytest.mark.realdata
@pytest.mark.parametrize("name", SHAPES)
def test_same_pieces_on_real_text(name: str, data_dir: Path) -> None:
    texts = real_texts(data_dir, 3, 20_000)
    assert len(texts) > 20
    expected = expected_pieces(texts, REGEX_OF[name])
    data, offsets = buffers(texts)
    ends, _ = piece_ends(data, offsets, SHAPES[name])
    assert np.array_equal(ends, np.cumsum([len(piece) for pieces in expected for piece in pieces]))


def real_texts(data_dir: Path, each: int, size: int) -> list[str]:
    """The beginnings of a few text files of every kind of data."""
    texts = []
    for folder in sorted(path for path in data_dir.iterdir() if path.is_dir() and path.name != "tokenizers"):
        found = 0
        for file in sorted(folder.rglob("*"), key=lambda path: path.stem[::-1]):
            if found == each:
                break
            if not file.is_file() or file.stat().st_size < 200:
                continue
            with file.open("rb") as stream:
                text = stream.read(size).decode("utf-8", "ignore")
            if "\0" not in text and len(text) > 0.3 * min(size, file.stat().st_size):
                texts.append(text)
                found += 1
    return texts


@pytest.mark.parametrize("name", SHAPES)
def test_any_bytes_are_cut_without_a_gap(name: str) -> None:
    random = np.random.default_rng(3)
    pool = np.frombuffer(bytes(range(256)) + "a'é中😀\n\t\\9".encode() * 20, np.uint8)
    data = random.choice(pool, 60_000)
    offsets = np.sort(random.integers(0, len(data), 500)).astype(np.int64)
    ends, firsts = piece_ends(data, offsets, SHAPES[name])
    for text in range(len(offsets) - 1):
        own = ends[firsts[text] : firsts[text + 1]]
        begins = np.concatenate([offsets[text : text + 1], own])
        assert (np.diff(begins) > 0).all()
        assert begins[-1] == offsets[text + 1]


@pytest.mark.parametrize("name", ["u7", "u7-aligned", "gpt2", "cl100k", "qwen3.5", "o200k"])
@pytest.mark.parametrize("run", ["1", "a", "A", " ", "\n", "\n ", "'", "'s", "\\", "-\n", "-\n ", "中A", "́", "!́", "é", "_", "\xff"])
def test_time_is_linear(name: str, run: str) -> None:
    part = run.encode("latin-1" if run == "\xff" else "utf-8")
    seconds = []
    data = np.frombuffer(part * (300_000 // len(part)), np.uint8)
    for _ in range(3):
        begin = time.process_time()
        ends, _ = piece_ends(data, np.array([0, len(data)]), SHAPES[name])
        seconds.append(time.process_time() - begin)
    assert ends[-1] == len(data)
    assert min(seconds) < 0.5  # measured: 0.002; a quadratic one takes minutes


GUARD = """
import ctypes, mmap, numpy as np, sys
from pretoken_support import boundaries, buffers, fuzz
from codedev.kernels import pretoken_masks
from codedev.kernels.pretoken_masks import masked
from codedev.kernels.pretokens import SHAPES, piece_ends

libc = ctypes.CDLL(None, use_errno=True)
pages = mmap.mmap(-1, 40 * mmap.PAGESIZE)
whole = np.frombuffer(pages, np.uint8)
size = 39 * mmap.PAGESIZE
assert libc.mprotect(ctypes.c_void_p(whole.ctypes.data + size), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
for number, text in enumerate([*boundaries()[::9], *fuzz(60, 5), "ab" * 300, "中" * 700]):
    for cut in (0, 1 + number % 3):
        data, _ = buffers([text])
        data = data[: max(1, len(data) - cut)][-size:]  # also in the middle of a character
        own = whole[size - len(data) : size]
        own[:] = data
        offsets = np.array([0, len(own)])
        for shape in SHAPES.values():
            ends, _ = piece_ends(own, offsets, shape)
            assert ends[-1] == len(own)
            RUN
print("inside")
"""


def run_guarded(extra: str, environment: dict[str, str] | None = None) -> str:
    """Run GUARD in a process of its own: what reads past the buffer dies there."""
    script = GUARD.replace("RUN", extra)
    search = os.pathsep.join([str(HERE), str(HERE.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search, **(environment or {})},
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


def test_nothing_is_read_past_the_buffer() -> None:
    assert run_guarded("pass") == "inside\n"
