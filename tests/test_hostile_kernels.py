"""Every kernel that reads text, on the texts of hostile_support.py: no row sees its neighbours, spans lie inside, time is linear.

`make bounds` runs this file, and those of the kernels, with every index checked (NUMBA_BOUNDSCHECK=1, a cache of its own: numba's index of
compiled functions does not know of the checks). What is compiled for speed alone reads and writes anywhere without a word.
"""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hostile_support import RAW, TEXTS, buffers

from codedev.corpus.language.models import load
from codedev.corpus.sources.protein.source import _table
from codedev.kernels import (
    fasta,
    fasttext,
    fasttext_binary,
    fasttext_documents,
    fasttext_file,
    json_array,
    linehash,
    lines,
    marks,
    ngram,
    passages,
    repeats,
    segment,
    shingles,
    sketch,
    snap,
    spans,
    squeeze,
    textstats,
    tokens,
    urls,
    wholes,
    wordlist,
    xmlrows,
)
from codedev.kernels.overlap import shingle_sets
from codedev.kernels.personal.find import TYPES, find
from codedev.kernels.words import DEFINITIONS

CHECKED = os.environ.get("NUMBA_BOUNDSCHECK") == "1"
ALL = TEXTS | RAW
Kernel = Callable[[np.ndarray, np.ndarray], list[Any]]


def rows_of(values: np.ndarray) -> list[Any]:
    return [value.tolist() for value in values]


def parts(data: np.ndarray, bounds: np.ndarray) -> list[Any]:
    return [data[low:high].tobytes() for low, high in itertools.pairwise(bounds.tolist())]


def _by_row(rows: np.ndarray, values: np.ndarray, count: int) -> list[Any]:
    """`values` row by row; `rows` is sorted."""
    at = np.searchsorted(rows, np.arange(count + 1))
    return [values[low:high].tolist() for low, high in itertools.pairwise(at.tolist())]


def _inside(places: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The row of each (start, end), after a look that none leaves it and none overlaps the one before."""
    row = np.searchsorted(offsets, places[:, 0], side="right") - 1
    assert (places[:, 0] >= offsets[0]).all()
    assert (places[:, 0] < places[:, 1]).all()
    assert (places[:, 1] <= offsets[row + 1]).all()
    assert (places[1:, 0] >= places[:-1, 1]).all()
    return row


# -- the kernels, each to a list of what it says of each row ---------------------------------------------------------------------------


def _text_stats(style: str) -> Kernel:
    def run(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
        rows = len(offsets) - 1
        styles = np.full(rows, list(textstats.STYLES).index(style), np.uint8)
        found = textstats.text_stats(data, offsets, code=np.ones(rows, bool), styles=styles)
        assert (found >= 0).all()
        assert (found <= np.diff(offsets)[:, None]).all()
        return rows_of(found)

    return run


def _segment(definition: int) -> Kernel:
    def run(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
        found = segment.segment_stats(data, offsets, np.full(len(offsets) - 1, definition, np.int8), ngrams=True)
        assert (found >= 0).all()
        top = [segment.COLUMNS.index(name) for name in ("top_2", "top_3", "top_4")]  # with blanks of their own: they may overlap
        assert (np.delete(found, top, axis=1) <= np.diff(offsets)[:, None] + 1).all()
        return rows_of(found)

    return run


def _line_stats(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    text, bounds, found = lines.kept_lines(data, offsets, terminal=False, min_words=1)
    strict = lines.line_stats(data, offsets)
    assert (found >= 0).all()
    assert (strict[:, 1] <= found[:, 1]).all()
    assert (np.diff(bounds) <= np.diff(offsets)).all()
    return list(zip(parts(text, bounds), rows_of(found), rows_of(strict), strict=True))


def _compressed(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    found = marks.compressed_sizes(data, offsets)
    assert (found[:, 0] <= marks.HEAD).all()
    assert (found[:, 1] <= found[:, 0] + found[:, 0] // 255 + 16).all()  # LZ4's own bound
    return rows_of(found)


def _maths(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    found = marks.maths_stats(data, offsets)
    assert (found >= 0).all()
    assert (found <= np.diff(offsets)[:, None]).all()
    return rows_of(found)


def _passages(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    found = passages.passages(data, offsets)
    rows = len(offsets) - 1
    assert (np.bincount(found.row, found.weight, rows) == np.diff(offsets)).all()
    told = list(zip(found.start.tolist(), found.weight.tolist(), parts(found.data, found.offsets), strict=True))
    at = np.searchsorted(found.row, np.arange(rows + 1))
    return [told[low:high] for low, high in itertools.pairwise(at.tolist())]


def _windows(prefix: int, count: int, size: int) -> Kernel:
    def run(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
        text, bounds = passages.windows(data, offsets, prefix, count, size)
        assert (np.diff(bounds) <= np.minimum(np.minimum(np.diff(offsets), prefix) + count, count * (size + 1))).all()
        return parts(text, bounds)

    return run


def _personal(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    found = find(data, offsets)
    assert (_inside(found[:, 1:3] + offsets[found[:, 0]][:, None], offsets) == found[:, 0]).all()
    bounds = np.array([(0, 3), (-1, -1)] * (len(TYPES) // 2), np.int64)
    text, new, places = spans.replace(data, offsets, found, np.frombuffer(b"<X>", np.uint8).copy(), bounds)
    assert (places.sum(axis=1) <= np.diff(new)[found[:, 0]]).all()
    return list(zip(_by_row(found[:, 0], found[:, 1:], len(offsets) - 1), parts(text, new), strict=True))


def _shingles(unit: str, ngram: int) -> Kernel:
    def run(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
        hashes, bounds = shingles.shingle_hashes(data, offsets, ngram=ngram, unit=unit)
        sets, sizes = shingle_sets(hashes, bounds)
        assert (np.diff(sizes) <= np.diff(bounds)).all()
        assert (np.diff(bounds) <= np.diff(offsets)).all()
        return list(zip(parts(hashes, bounds), parts(sets, sizes), strict=True))

    return run


def _sketch(method: str, unit: str = "words") -> Kernel:
    return lambda data, offsets: rows_of(sketch.sketches(data, offsets, method=method, unit=unit, num_hashes=64))


def _tokens(piece: int) -> Kernel:
    def run(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
        hashes, kinds = tokens.tokens(data, offsets, piece)
        assert len(hashes) <= np.diff(offsets).sum() + len(offsets) - 1
        return [hashes.tolist(), kinds.tolist()]

    return run


@functools.cache
def _models() -> tuple[ngram.NGramModel, ngram.NGramModel, wordlist.WordList]:
    text = ["the sea is calm\nthe ferry leaves the harbour\n漢 字 9 @ . ( a a a a"]
    data, offsets = buffers([text[0].encode()])
    whole, cut = (ngram.fit(*tokens.tokens(data, offsets, piece), 5, 1, piece=piece) for piece in (0, 3))
    return whole, cut, wordlist.listed(["a", "a a", "漢", "9 9", "the sea", "( ) (", "x", " ".join("a" * 16)])


def _perplexity(which: int) -> Kernel:
    def run(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
        model = _models()[which]
        assert isinstance(model, ngram.NGramModel)
        sums, counts = ngram.log_likelihood(model, data, offsets)
        heads = ngram.perplexity(model, data, offsets, 100)
        assert np.isfinite(sums).all()
        assert (sums <= 0).all()
        assert (counts <= np.diff(offsets) + 1).all()
        assert (np.isnan(heads) | (heads >= 1)).all()
        return list(zip(sums.tolist(), counts.tolist(), np.nan_to_num(heads).tolist(), strict=True))

    return run


def _words_listed(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    hits, totals = wordlist.count(_models()[2], data, offsets)
    assert (hits <= np.diff(offsets)).all()
    assert (totals <= np.diff(offsets)).all()
    return list(zip(hits.tolist(), totals.tolist(), strict=True))


@functools.cache
def _classifier() -> tuple[fasttext_file.FastText, fasttext_binary.Binary]:
    data, offsets = buffers([b"the sea is calm a a a", b"buy now 9 9 9"] * 4)
    documents = fasttext_documents.read(data, offsets)
    model = fasttext_documents.train(documents, np.array([0, 1] * 4), 2, dim=4, bucket=512)
    parsed = fasttext_file.parse(fasttext_documents.binary(model, ["sea", "shop"], [4, 4], 2))
    projected = fasttext_binary.projected(parsed)
    assert projected is not None
    return parsed, projected


def _language(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    labels, scores = fasttext.predict(load(), data, offsets, 2, 4096)
    every = fasttext.probabilities(load(), data, offsets, 100)
    assert np.isfinite(every).all()
    assert ((scores >= 0) & (scores <= 1.001)).all()
    return list(zip(labels.tolist(), scores.tolist(), parts(every.ravel(), np.arange(len(every) + 1) * every.shape[1]), strict=True))


def _classified(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    model, projected = _classifier()
    long, short = fasttext.probabilities(model, data, offsets), fasttext_binary.probabilities(projected, data, offsets)
    assert np.isfinite(long).all()
    np.testing.assert_allclose(long, short, atol=1e-5)
    return list(zip(rows_of(long), rows_of(short), strict=True))


def _documents(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    found = fasttext_documents.read(data, offsets)
    return [[found.spelt[token] for token in found.tokens[low:high]] for low, high in itertools.pairwise(found.starts.tolist())]


def _wholes(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    found = wholes.wholes(data, offsets, np.ones(len(offsets) - 1, bool))
    row = _inside(found, offsets)
    return _by_row(row, found - offsets[row][:, None], len(offsets) - 1)


def _line_hashes(paragraphs: bool, digits: bool) -> Kernel:
    def run(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
        wanted = np.ones(len(offsets) - 1, bool)
        found = linehash.lines(
            data, offsets, wholes.wholes(data, offsets, wanted), wanted, min_chars=1, digits=digits, paragraphs=paragraphs
        )
        places = np.stack([found.start, found.end], axis=1)
        assert (_inside(places + offsets[found.text][:, None], offsets) == found.text).all()
        table = linehash.count(linehash.counted(16), found.high, found.low, found.text)
        linehash.second_turn(table)
        linehash.surplus(table, found.high, found.low, found.text, within=True, more_than=1, keep=1)
        return _by_row(found.text, np.column_stack([found.high, found.low, places.astype(np.uint64)]), len(offsets) - 1)

    return run


def _anchors(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    found = repeats.anchors(data, offsets, 50)
    row = np.searchsorted(offsets, found["at"], side="right") - 1
    repeats.repeated(data, offsets, found, 50)
    columns = np.column_stack([found["hash"], (found["at"] - offsets[row]).astype(np.uint64), found["near"], found["far"]])
    return _by_row(row, columns, len(offsets) - 1)


def _repeated(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    """Each text twice: all windows of the second one are the first's."""
    texts = [data[low:high].tobytes() for low, high in itertools.pairwise(offsets.tolist())]
    out = []
    for text in texts:
        twice, bounds = buffers([text, text])
        found, _ = repeats.repeated(twice, bounds, repeats.anchors(twice, bounds, 50), 50)
        told = sorted(found.tolist())
        at = len(text)
        for start, end, copy in told:
            assert start <= at
            assert twice[start:end].tobytes() == twice[copy : copy + end - start].tobytes()
            assert copy < len(text)
            at = max(at, end)
        assert at == (2 * len(text) if len(text) >= 50 else len(text))
        out.append(len(told))
    return out


def _snapped(mode: str) -> Kernel:
    def run(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
        rows = np.flatnonzero(np.diff(offsets) > 6)
        asked = np.column_stack([offsets[rows] + 3, offsets[rows + 1] - 3])
        found, of = snap.snapped(data, offsets, asked, wholes.wholes(data, offsets, np.ones(len(offsets) - 1, bool)), mode, 1)
        row = _inside(found, offsets)
        assert (row == rows[of]).all()
        assert (found[:, 0] >= asked[of, 0]).all()
        assert (found[:, 1] <= asked[of, 1]).all()
        return _by_row(row, found - offsets[row][:, None], len(offsets) - 1)

    return run


def _urls(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    text, bounds = urls.canonical(data, offsets)
    again, bounds_again = urls.canonical(*buffers(parts(text, bounds)))
    assert (np.diff(bounds) <= 3 * np.diff(offsets)).all()
    assert len(again) <= len(text) or (np.diff(bounds_again) <= 3 * np.diff(bounds)).all()
    return parts(text, bounds)


def _json(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    out = []
    for low, high in itertools.pairwise(offsets.tolist()):
        state, found, at = json_array.new_state(True), np.empty((7, 2), np.int64), 0
        told: list[Any] = []
        while True:
            at, why, count = json_array.scan(data[low:high], at, state, found)
            told += found[:count].tolist()
            if why != json_array.FULL:
                break
        assert all(0 <= start <= end <= high - low for start, end in told)
        out.append((at, why, told))
    return out


_NAMES, _NAME_ENDS = np.frombuffer(b"abId", np.uint8), np.array([0, 1, 2, 4])


def _rows(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    out = []
    for low, high in itertools.pairwise(offsets.tolist()):
        text = data[low:high]
        at, told = xmlrows.find_row(text, 0, len(text)), []
        if at >= 0:
            for final in (False, True):
                count = text.tobytes().count(b"<row") + 1
                places, states, numbers = np.empty((3, count), np.int64), np.empty(count, np.int8), np.empty((count, 3), np.int64)
                rows, done = xmlrows.scan(text[at:], len(text) - at, final, _NAMES, _NAME_ENDS, *places, states, numbers)
                assert 0 <= done <= len(text) - at
                for start, end, state in zip(*places[:2, :rows].tolist(), states[:rows].tolist(), strict=True):
                    assert 0 <= start < end <= len(text) - at
                    if state in (xmlrows.OK, xmlrows.TAIL):
                        row = text[at + start : at + end]
                        room = np.empty(3 * len(row), np.uint8)
                        told.append(room[: xmlrows.unfold(row, room)].tobytes())
                told.append((rows, done))
        out.append((at, told))
    return out


def _fasta(data: np.ndarray, offsets: np.ndarray) -> list[Any]:
    out = []
    for low, high in itertools.pairwise(offsets.tolist()):
        raw = b">" + data[low:high].tobytes()
        text, most = np.frombuffer(raw, np.uint8), raw.count(b">")
        found, residues = np.empty((most, 6), np.int64), np.empty(len(raw), np.uint8)
        count = fasta.scan(text, _table("auto"), residues, found)
        found = found[:count]
        headers = int((found[:, fasta.HEADER_END] - found[:, fasta.START]).sum())
        ids, metas = np.empty(headers + 16 * count, np.uint8), np.empty(headers + fasta.ROOM * count, np.uint8)
        id_ends, meta_ends, kinds = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64), np.zeros(count, np.uint8)
        fasta.describe(text, found, count, np.frombuffer(b"protein", np.uint8), 9, ids, id_ends, metas, meta_ends, kinds)
        out.append((found.tolist(), ids[: id_ends[-1]].tobytes(), metas[: meta_ends[-1]].tobytes(), kinds.tolist()))
    return out


KERNELS: dict[str, Kernel] = {
    "squeeze": lambda data, offsets: parts(*squeeze.squeeze(data, offsets)),
    **{f"textstats {style}": _text_stats(style) for style in ("c", "python", "lua", "html")},
    **{f"segment {name}": _segment(number) for number, name in enumerate(DEFINITIONS)},
    "lines": _line_stats,
    "maths": _maths,
    "compressed": _compressed,
    "passages": _passages,
    "windows of the ensemble": _windows(4096, 4, 512),
    "small windows": _windows(100, 3, 7),
    "personal": _personal,
    **{f"shingles {unit} {n}": _shingles(unit, n) for unit, n in (("words", 5), ("chars", 1), ("code", 30), ("figures", 1))},
    **{f"sketch {method}": _sketch(method) for method in sketch.METHODS},
    "sketch of code": _sketch("fss", "code"),
    "tokens": _tokens(0),
    "tokens in pieces": _tokens(4),
    "perplexity": _perplexity(0),
    "perplexity of pieces": _perplexity(1),
    "word list": _words_listed,
    "language": _language,
    "classifier": _classified,
    "documents": _documents,
    "wholes": _wholes,
    "line hashes": _line_hashes(False, True),
    "paragraph hashes": _line_hashes(True, False),
    "anchors": _anchors,
    "repeated": _repeated,
    **{f"snapped to {mode}": _snapped(mode) for mode in snap.MODES},
    "urls": _urls,
    "json": _json,
    "xml rows": _rows,
    "fasta": _fasta,
}
JOINED = {"tokens", "tokens in pieces"}  # say nothing row by row
_AROUND = b"9@a.b ", b".org://\x80\xbf\"'"  # of other documents: bytes that would finish what a text begins or ends


@pytest.mark.parametrize("name", KERNELS)
def test_a_text_alone_among_others_and_in_a_slice_says_the_same(name: str) -> None:
    kernel = KERNELS[name]
    texts = [make(size) for make in ALL.values() for size in (1, 17, 900)] + [b"", b"\0", b"a", b"\n", b"\xff", b"\xf0"]
    together = kernel(*buffers(texts, *_AROUND))
    if name in JOINED:
        alone = [kernel(*buffers([text])) for text in texts]
        assert together == [list(itertools.chain(*(one[part] for one in alone))) for part in range(len(together))]
        return
    assert len(together) == len(texts)
    for text, among in zip(texts, together, strict=True):
        assert kernel(*buffers([text])) == [among], text[:80]


@pytest.mark.parametrize("name", KERNELS)
def test_no_rows_and_empty_rows(name: str) -> None:
    kernel = KERNELS[name]
    kernel(*buffers([]))
    kernel(*buffers([], b"abc"))
    kernel(*buffers([b""] * 3, b"abc", b"def"))


# -- time ------------------------------------------------------------------------------------------------------------------------------


def _both(data: np.ndarray, offsets: np.ndarray, paragraphs: bool) -> None:
    wanted = np.ones(len(offsets) - 1, bool)
    linehash.lines(data, offsets, wholes.wholes(data, offsets, wanted), wanted, min_chars=1, digits=True, paragraphs=paragraphs)


def _cut_short(data: np.ndarray, offsets: np.ndarray, mode: str) -> None:
    found = wholes.wholes(data, offsets, np.ones(len(offsets) - 1, bool))
    starts = np.arange(offsets[0], offsets[-1] - 600, 600)
    snap.snapped(data, offsets, np.column_stack([starts, starts + 590]), found, mode, 1)


def _found_twice(data: np.ndarray, offsets: np.ndarray) -> None:
    twice = np.concatenate([data, data])
    bounds = np.concatenate([offsets, offsets[1:] + offsets[-1]])
    twice.flags.writeable = bounds.flags.writeable = False
    repeats.repeated(twice, bounds, repeats.anchors(twice, bounds, 500), 500)


def _scanned(data: np.ndarray, offsets: np.ndarray) -> None:
    json_array.scan(data, 0, json_array.new_state(True), np.empty((len(data) + 1, 2), np.int64))


def _segmented(data: np.ndarray, offsets: np.ndarray, name: str) -> None:
    segment.segment_stats(data, offsets, np.full(1, DEFINITIONS.index(name), np.int8), ngrams=True)


# The kernels alone, without what the functions above look at.
TIMED: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "squeeze": squeeze.squeeze,
    "textstats": lambda data, offsets: textstats.text_stats(data, offsets, code=np.ones(1, bool), styles=np.full(1, 3, np.uint8)),
    **{f"segment {name}": functools.partial(_segmented, name=name) for name in DEFINITIONS},
    "lines": lines.kept_lines,
    "maths": marks.maths_stats,
    "compressed": marks.compressed_sizes,
    "passages": passages.passages,
    "windows": lambda data, offsets: passages.windows(data, offsets, 1 << 40, 4, 512),
    "personal": find,
    **{f"shingles {unit}": functools.partial(shingles.shingle_hashes, unit=unit) for unit in ("words", "chars", "code")},
    **{f"sketch {method}": functools.partial(sketch.sketches, method=method) for method in ("fss", "kperm")},
    "tokens": tokens.tokens,
    "tokens in pieces": lambda data, offsets: tokens.tokens(data, offsets, 4),
    "perplexity": lambda data, offsets: ngram.log_likelihood(_models()[0], data, offsets),
    "word list": lambda data, offsets: wordlist.count(_models()[2], data, offsets),
    "language": lambda data, offsets: fasttext.predict(load(), data, offsets),
    "classifier": lambda data, offsets: fasttext.probabilities(_classifier()[0], data, offsets),
    "classifier of two": lambda data, offsets: fasttext_binary.probabilities(_classifier()[1], data, offsets),
    "documents": fasttext_documents.read,
    "wholes": lambda data, offsets: wholes.wholes(data, offsets, np.ones(1, bool)),
    "line hashes": functools.partial(_both, paragraphs=False),
    "paragraph hashes": functools.partial(_both, paragraphs=True),
    "anchors": lambda data, offsets: repeats.anchors(data, offsets, 500),
    "repeated": _found_twice,
    **{f"snapped {mode}": functools.partial(_cut_short, mode=mode) for mode in snap.MODES},
    "urls": urls.canonical,
    "json": _scanned,
}  # fmt: skip


def seconds(name: str, text: bytes, tries: int = 3) -> float:
    """CPU time of one text, the least of some tries."""
    data, offsets = buffers([text])
    least = float("inf")
    for _ in range(tries):
        began = time.thread_time()
        TIMED[name](data, offsets)
        least = min(least, time.thread_time() - began)
    return least


@pytest.mark.skipif(CHECKED, reason="checks take time")
@pytest.mark.parametrize("name", TIMED)
def test_time_is_linear_on_every_text(name: str) -> None:
    """64 KB in less time than any quadratic search needs, or else four times the text in at most six times the time."""
    TIMED[name](*buffers([b"abc"]))
    size = 1 << 14 if name == "repeated" else 1 << 16
    for kind, make in ALL.items():
        once = seconds(name, make(size), 2)
        assert once < 1, kind  # the slowest: 0.03 s
        if once > 0.02:
            assert any(seconds(name, make(4 * size), 1) < 6 * seconds(name, make(size), 1) for _ in range(4)), kind


_LARGE = ("one letter", "nuls", "spaces", "ideographs", "figures", "at", "no bytes of utf-8")


@pytest.mark.skipif(not os.environ.get("CODEDEV_HUGE"), reason="twelve minutes: CODEDEV_HUGE=1, or `make huge`")
@pytest.mark.parametrize("name", TIMED)
def test_a_hundred_megabytes_of_one_character(name: str) -> None:
    """An anchor a byte takes 32 bytes, a token of one character 9: less is enough to see those grow."""
    size = {"repeated": 4 << 20, "anchors": 16 << 20, "json": 16 << 20}.get(name, 100 << 20)
    for kind in _LARGE:
        assert seconds(name, ALL[kind](size), 1) < 60, kind  # the slowest: segment, 7 s


@pytest.mark.slow
@pytest.mark.skipif(CHECKED, reason="checks take time")
@pytest.mark.parametrize("name", TIMED)
def test_ten_megabytes_of_one_character(name: str) -> None:
    for kind in ("one letter", "ideographs", "no bytes of utf-8"):
        assert seconds(name, ALL[kind](1 << 20 if name == "repeated" else 10 << 20), 1) < 10, kind  # the slowest: segment, 0.7 s


@pytest.mark.slow
@pytest.mark.skipif(CHECKED, reason="checks take time")
@pytest.mark.parametrize("name", TIMED)
def test_a_million_blank_lines_and_a_million_lines(name: str) -> None:
    for text in (b"\n" * 1_000_000, b" \t\n" * 1_000_000, b"a\n" * 1_000_000, ALL["distinct lines"](10_000_000)):
        assert seconds(name, text, 1) < 30, text[:3]


@pytest.mark.parametrize("name", [name for name in KERNELS if name not in ("fasta", "json", "xml rows", "repeated")])
def test_very_many_tiny_documents(name: str) -> None:
    texts = [make(3) for make in ALL.values()] * 300
    once = KERNELS[name](*buffers(texts))
    if name not in JOINED:
        assert once[: len(ALL)] * 300 == once


# -- bugs that were ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(2044, 2056))
def test_windows_of_a_text_little_longer_than_they_are(size: int) -> None:
    """Blanks between windows made these longer than the text: three bytes were written behind the array."""
    data, offsets = buffers([bytes(range(97, 122)) * 100 for _ in range(3)])
    offsets = np.arange(4) * size
    offsets.flags.writeable = False
    text, bounds = passages.windows(data[: 3 * size], offsets, 4096, 4, 512)
    assert bounds[-1] == len(text)
    for low, high, row in zip(bounds[:-1], bounds[1:], range(3), strict=True):
        whole = data[row * size : row * size + size].tobytes()
        begins = [part * (size - 512) // 3 for part in range(4)]
        expected = whole if size <= 2048 else b" ".join(whole[at : at + 512] for at in begins)
        assert text[low:high].tobytes() == expected


@pytest.mark.parametrize("before", range(1018, 1026))
def test_finds_that_fill_the_table_and_a_header_behind_them(before: int) -> None:
    """The kernel stops when its table of 1,024 finds is full and goes on in another call. A header's name was not counted, so that finds
    were written behind the table; and what lay before the stop was forgotten, so that two finds could overlap."""
    rows = [b"a@home.org " * before, b"From: Bob <x@home.org>, a@home.org, b@home.org, c@home.org, d@home.org", b"x@home.org"]
    found = find(*buffers(rows))
    alone = [find(*buffers([row]))[:, 1:].tolist() for row in rows]
    assert [len(told) for told in alone] == [before, 6, 1]
    assert _by_row(found[:, 0], found[:, 1:], 3) == alone
    rows = [b"a@home.org " * before + b"9.9.9.9@home.org " * 8]  # an IP address, and no mail address around it
    data, offsets = buffers(rows)
    found = find(data, offsets)
    assert len(found) == before + 8
    _inside(found[:, 1:3], offsets)


def plain_token(text: bytes, at: int) -> int:
    """Where the JSON Web Token that begins at `at` ends; `at` where none does. The finder as it was before it remembered anything."""
    end, dots, since = at, 0, at
    while end < len(text) and end - at < 8192:
        if text[end] == 46:
            if dots == 2 or end - since < 10:
                break
            dots += 1
            since = end + 1
            if dots == 1 and text[since : since + 3] != b"eyJ":
                return at
        elif not (chr(text[end]).isalnum() or text[end] in b"_-"):
            break
        end += 1
    return end if dots == 2 and end - since >= 16 else at


def plain_tokens(text: bytes) -> list[tuple[int, int]]:
    out, at = [], 0
    while at < len(text):
        inner = at > 0 and (chr(text[at - 1]).isalnum() or text[at - 1] == 95)
        end = plain_token(text, at) if text[at : at + 3] == b"eyJ" and not inner else at
        if end > at:
            out.append((at, end))
        at = max(end, at + 1)
    return out


def test_tokens_are_those_of_a_search_that_remembers_nothing() -> None:
    rng = np.random.default_rng(3)
    pieces = [b"eyJ", b"-", b".", b".eyJ", b"abc", b"0123456789abcdef", b" ", b"_", b"-eyJ", b"eyJ0000000.eyJ000000000.0123456789abcdef"]
    texts = [b"".join(pieces[i] for i in rng.integers(0, len(pieces), rng.integers(1, 30))) for _ in range(2000)]
    head = b"eyJ-" + b"x" * 60  # of these, 128 are as long as a token may be
    tail = b"." + b"b" * 30 + b" "
    texts += [
        head * heads + b".eyJ" + (b"-" + head) * bodies + tail for heads in (1, 60, 126, 127, 128, 200) for bodies in (1, 64, 127, 128)
    ]
    texts += [head * 150 + b"eyJ00000.eyJ0000000000" + tail, head * 100 + b"eyJ00.eyJ0000000000" + tail, head * 10 + b".abc" + tail]
    found = find(*buffers(texts), types=("secret",))
    expected = [(row, start, end) for row, text in enumerate(texts) for start, end in plain_tokens(text)]
    assert [tuple(span) for span in found[:, :3].tolist()] == expected
    assert len(expected) > 100


def test_an_empty_span_behind_the_last_text_is_no_span() -> None:
    """It was looked for in a text that is not there."""
    data, offsets = buffers([b"ab", b"c"])
    none = np.empty((0, 2), np.int64)
    out, of = snap.snapped(data, offsets, np.array([[0, 2], [3, 3]]), none, "character", 1)
    assert (out.tolist(), of.tolist()) == ([[0, 2]], [0])


# -- the checks themselves ---------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not CHECKED, reason="NUMBA_BOUNDSCHECK is not set: see `make bounds`")
@pytest.mark.parametrize("name", [name for name in TIMED if name != "json"])  # reads to the array's end
def test_checked_kernels_are_checked(name: str) -> None:
    """A kernel that is told of more bytes than there are says so: had it come unchecked from a cache, it would read on."""
    data, offsets = buffers([b"ann@home.org, and more of it\n" * 20])
    TIMED[name](data, offsets)
    with pytest.raises((IndexError, ValueError)):
        TIMED[name](data[:300], offsets)


_BEYOND = """
import numpy as np
from codedev.kernels.squeeze import squeeze
data, offsets = np.frombuffer(b"a" * 100, np.uint8)[:50], np.array([0, 100])
offsets.flags.writeable = False
try:
    squeeze(data, offsets)
    print("read on")
except IndexError:
    print("checked")
"""


@pytest.mark.slow
def test_a_cache_of_unchecked_kernels_stays_unchecked(tmp_path: Path) -> None:
    """Why `make bounds` has a cache of its own: numba does not compile anew what it finds, whatever NUMBA_BOUNDSCHECK says."""
    said = []
    for checks, folder in (("0", "fast"), ("1", "fast"), ("1", "checked"), ("0", "checked")):
        environment = {**os.environ, "NUMBA_BOUNDSCHECK": checks, "NUMBA_CACHE_DIR": str(tmp_path / folder)}
        done = subprocess.run([sys.executable, "-c", _BEYOND], env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        said.append(done.stdout.strip())
    assert said == ["read on", "read on", "checked", "checked"]
