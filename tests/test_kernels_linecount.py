"""FineWeb's counts by the quick kernel against those of the pass over words and lines."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codedev.corpus.buffers import text_buffers
from codedev.kernels import segment
from codedev.kernels.linecount import COLUMNS, line_counts

_pieces = st.sampled_from(
    [
        *("\n \t\x0b\x1c\u2028\x85\xa0\u3000é😀\0\x7f"),
        *("\n\n", "\r\n", "word", "two words.", "Ende!", "句子。", "x" * 70, "a line of text that is longer than thirty characters, it is"),
    ]
)


def _expected(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    stats = segment.segment_stats(data, offsets, np.zeros(len(offsets) - 1, np.int8), ngrams=False)
    return stats[:, [segment.COLUMNS.index(name) for name in COLUMNS]]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(_pieces | st.characters(exclude_categories=["Cs"]), max_size=60).map("".join), min_size=1, max_size=5))
@example(["", "\n", "\n\n\n", "a", "a\n", "\na", " a \n a \n a", "a\na\r\na\x0ba"])
def test_the_same_numbers_as_segment(texts: list[str]) -> None:
    buffers = text_buffers(pa.array(texts, pa.large_string()))
    assert np.array_equal(line_counts(*buffers, np.ones(len(texts), bool)), _expected(*buffers))


def test_documents_of_many_sizes_one_after_another() -> None:
    rng = np.random.default_rng(3)
    lines = [f"line {number} of some that repeat now and then." for number in range(400)]
    texts = ["\n".join(rng.choice(lines, size)) for size in (3, 900, 1, 40_000, 0, 64, 65, 5)]
    buffers = text_buffers(pa.array(texts, pa.large_string()))
    counted = line_counts(*buffers, np.ones(len(texts), bool))
    assert np.array_equal(counted, _expected(*buffers))
    assert counted[3, COLUMNS.index("dup_full_line_chars")] > 1_000_000


def test_rows_that_are_not_wanted_are_zeros_and_nothing_is_read_outside() -> None:
    data = np.frombuffer("cut é off\nend.".encode(), np.uint8)
    offsets = np.array([0, 5, 5, 9, len(data)], np.int64)  # the first document ends inside a character
    counted = line_counts(data, offsets, np.array([True, True, False, True]))
    assert counted[0, COLUMNS.index("chars")] == 5
    assert not counted[1:3].any()
    assert counted[3].tolist() == _expected(data, offsets)[3].tolist()


def test_lines_beyond_the_limit_are_counted_but_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    import codedev.kernels.linecount as module

    monkeypatch.setattr(module, "LIMIT", 9)
    data, offsets = text_buffers(pa.array(["same line\n" * 30], pa.large_string()))
    counted = dict(zip(COLUMNS, line_counts(data, offsets, np.ones(1, bool))[0].tolist(), strict=True))
    assert (counted["full_lines"], counted["dup_full_line_chars"]) == (30, 9 * 9)
