"""Best-fit packing against a scalar twin, brute force, and what any packing must satisfy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev.kernels.packing import best_fit, copy_segments


def twin(lengths: list[int], capacity: int) -> tuple[list[int], int]:
    """Best-fit decreasing as one would write it down: look at every row."""
    free: list[int] = []
    touched: list[int] = []  # when the row was last touched
    rows = [-1] * len(lengths)
    for clock, segment in enumerate(sorted(range(len(lengths)), key=lambda i: -lengths[i])):
        fitting = [row for row in range(len(free)) if free[row] >= lengths[segment]]
        if fitting:
            row = min(fitting, key=lambda row: (free[row], -touched[row]))
        else:
            row = len(free)
            free.append(capacity)
            touched.append(0)
        free[row] -= lengths[segment]
        touched[row] = clock
        rows[segment] = row
    return rows, len(free)


def fewest_rows(lengths: list[int], capacity: int) -> int:
    """The optimum, by trying every assignment."""
    for count in range(1, len(lengths) + 1):
        for assignment in itertools.product(range(count), repeat=len(lengths)):
            if (np.bincount(assignment, lengths, count) <= capacity).all():
                return count
    return 0


@given(st.integers(1, 70).flatmap(lambda capacity: st.tuples(st.just(capacity), st.lists(st.integers(1, capacity), max_size=60))))
@settings(max_examples=300, deadline=None)
def test_equals_the_twin(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    rows, count = best_fit(np.array(lengths, np.int64), capacity)
    assert (rows.tolist(), count) == twin(lengths, capacity)


@pytest.mark.parametrize("capacity", [63, 64, 65, 2047, 2048, 4096])
def test_equals_the_twin_on_documents(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    lengths = np.minimum(rng.lognormal(5, 1.5, 800).astype(np.int64) + 1, capacity)
    rows, count = best_fit(lengths, capacity)
    assert (rows.tolist(), count) == twin(lengths.tolist(), capacity)


@given(st.lists(st.integers(1, 10), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_near_the_optimum(lengths: list[int]) -> None:
    _, count = best_fit(np.array(lengths, np.int64), 10)
    assert count <= 11 / 9 * fewest_rows(lengths, 10) + 6 / 9  # the proven bound of best-fit decreasing


def test_large_pool() -> None:
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(5.5, 1.4, 1_000_000).astype(np.int64) + 1, 2048)
    rows, count = best_fit(lengths, 2048)
    fill = np.bincount(rows, lengths, count)
    assert fill.max() <= 2048
    assert fill.min() > 0
    assert 1 - lengths.sum() / (count * 2048) < 0.001  # padding
    again, _ = best_fit(lengths, 2048)
    assert np.array_equal(rows, again)


def test_extremes() -> None:
    assert best_fit(np.empty(0, np.int64), 8)[1] == 0
    assert best_fit(np.full(5, 8), 8)[0].tolist() == [0, 1, 2, 3, 4]
    assert best_fit(np.full(16, 1), 8)[1] == 2
    assert best_fit(np.array([1 << 20, 1]), 1 << 20)[0].tolist() == [0, 1]
    for bad in ([0], [9], [-1]):
        with pytest.raises(ValueError, match=r"1\.\.8"):
            best_fit(np.array(bad), 8)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_copy_segments(dtype: type) -> None:
    tokens = np.arange(100, dtype=dtype)
    tokens.flags.writeable = False  # as a memory map is
    out = np.zeros(10, dtype)
    copy_segments(tokens, np.array([90, 5]), np.array([3, 4]), np.array([0, 6]), out)
    assert out.tolist() == [90, 91, 92, 0, 0, 0, 5, 6, 7, 8]
    for begins, targets in (([98], [0]), ([0], [8]), ([-1], [0]), ([0], [-1])):
        with pytest.raises(IndexError):
            copy_segments(tokens, np.array(begins), np.array([3]), np.array(targets), out)
