"""The order of rows: epoch after epoch, each a fresh keyed permutation, computed and never stored.

Which rows a step trains on is a pure function of (seed, step), so that the whole state of the data is one integer, whatever the
number of processes. The permutation is a Feistel network over the next power of four, walked until it falls inside [0, n)
(at most four walks a row on average): about 1 µs a row, no memory. It is no cryptography, and no substitute for shuffling documents
before they are packed: it orders rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

ROUNDS = 6
BLOCK = 4096  # positions in which every set has its share, and so the unit that shares are rounded to


def mixed(positions: np.ndarray, sizes: Sequence[int], weights: Sequence[float], seed: int) -> np.ndarray:
    """Row numbers at `positions` (int64) of a stream over several sets of `sizes` rows, numbered one set after another: of every BLOCK
    positions as many are of a set as its weight says, and each set is gone through as `shuffled` does. Pure in (positions, seed), too."""
    counts = shares(weights)
    ends, first = np.cumsum(counts), np.cumsum([0, *sizes])
    blocks, places = positions // BLOCK, np.empty_like(positions)
    for block in np.unique(blocks):
        inside = blocks == block
        places[inside] = permuted(positions[inside] % BLOCK, BLOCK, f"{seed}/block/{block}".encode())
    of = np.searchsorted(ends, places, "right")
    ranks = blocks * counts[of] + places - (ends - counts)[of]
    numbers = np.empty_like(positions)
    for number in np.unique(of):
        inside = of == number
        numbers[inside] = first[number] + shuffled(ranks[inside], sizes[number], f"{seed}/set/{number}")
    return numbers


def shares(weights: Sequence[float]) -> np.ndarray:
    """int64: how many of BLOCK positions each weight gets, at least one; the largest remainders are rounded up."""
    exact: np.ndarray = np.asarray(weights, np.float64) / np.sum(weights) * BLOCK
    counts: np.ndarray = np.maximum(exact.astype(np.int64), 1)
    while counts.sum() != BLOCK:
        short = counts.sum() < BLOCK
        at = int(np.argmax(np.where(short | (counts > 1), (exact - counts) if short else (counts - exact), -np.inf)))
        counts[at] += 1 if short else -1
    return counts


def shuffled(positions: np.ndarray, rows: int, seed: int | str) -> np.ndarray:
    """Row numbers in [0, rows) at `positions` (int64) of the endless shuffled stream; positions [k*rows, (k+1)*rows) are epoch k."""
    epochs = positions // rows
    numbers = np.empty_like(positions)
    for epoch in np.unique(epochs):
        inside = epochs == epoch
        numbers[inside] = permuted(positions[inside] % rows, rows, f"{seed}/{epoch}".encode())
    return numbers


def permuted(positions: np.ndarray, n: int, key: bytes) -> np.ndarray:
    """A bijection of [0, n), chosen by `key`, applied to `positions` (int64)."""
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    digest = hashlib.blake2b(key, digest_size=8 * ROUNDS).digest()
    keys = np.frombuffer(digest, "<u8")
    numbers = positions.astype(np.uint64)
    outside = np.arange(len(numbers))
    while len(outside):
        numbers[outside] = _feistel(numbers[outside], keys, half)
        outside = outside[numbers[outside] >= n]
    return numbers.astype(np.int64)


def _feistel(x: np.ndarray, keys: np.ndarray, half: int) -> np.ndarray:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = x >> shift, x & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left << shift) | right


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x
