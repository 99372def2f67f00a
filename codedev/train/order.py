"""The order of rows: epoch after epoch, each a fresh keyed permutation, computed and never stored.

Which rows a step trains on is a pure function of (seed, step), so that the whole state of the data is one integer, whatever the
number of processes. The permutation is a Feistel network over the next power of four, walked until it falls inside [0, n)
(at most four walks a row on average): about 1 µs a row, no memory. It is no cryptography, and no substitute for shuffling documents
before they are packed: it orders rows.
"""

from __future__ import annotations

import hashlib

import numpy as np

ROUNDS = 6


def shuffled(positions: np.ndarray, rows: int, seed: int) -> np.ndarray:
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
