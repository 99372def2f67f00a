"""Training of a fastText model on bags of words: one thread, one seed, the same bits every time.

What a language has of openly licensed text is often one document. A classifier trained on its sentences learns the document's subject; one
trained on bags of a few of its words, drawn anew at every step, learns how the language spells. Features are character n-grams alone
(no words), hashed as fastText hashes them; the model is the mean of their rows and a softmax, and gradients are those of fastText's
supervised mode (Joulin et al. 2016, arXiv 1607.01759) with a linearly falling rate.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.fasttext import _extended


def ngrams_of(blob: np.ndarray, starts: np.ndarray, min_n: int, max_n: int, bucket: int) -> tuple[np.ndarray, np.ndarray]:
    """(buckets int32, starts int64[words + 1]) of the character n-grams of each word between "<" and ">"."""
    counts = np.zeros(len(starts), np.int64)
    none = np.empty(0, np.int32)
    _ngrams(blob, starts, min_n, max_n, bucket, counts, none)
    bounds = np.cumsum(counts)
    buckets = np.empty(bounds[-1], np.int32)
    _ngrams(blob, starts, min_n, max_n, bucket, counts, buckets)
    return buckets, bounds


@numba.njit(
    numba.void(numba.uint8[::1], numba.int64[::1], numba.int64, numba.int64, numba.int64, numba.int64[::1], numba.int32[::1]),
    nogil=True,
    cache=True,
)
def _ngrams(blob: Any, starts: Any, min_n: Any, max_n: Any, bucket: Any, counts: Any, buckets: Any) -> None:
    """counts[word + 1] = n-grams of the word; with room in `buckets`, the n-grams themselves."""
    filled = 0
    longest = 0
    for number in range(len(starts) - 1):
        longest = max(longest, starts[number + 1] - starts[number])
    word = np.empty(longest + 2, np.uint8)
    word[0] = 60
    for number in range(len(starts) - 1):
        size = starts[number + 1] - starts[number]
        for z in range(size):
            word[z + 1] = blob[starts[number] + z]
        word[size + 1] = 62
        whole = size + 2
        found = 0
        for i in range(whole):
            if (word[i] & 0xC0) == 0x80:
                continue
            gram = np.uint32(2166136261)
            j, n = i, 1
            while j < whole and n <= max_n:
                gram = np.uint32((gram ^ _extended(word[j])) * np.uint32(16777619))
                j += 1
                while j < whole and (word[j] & 0xC0) == 0x80:
                    gram = np.uint32((gram ^ _extended(word[j])) * np.uint32(16777619))
                    j += 1
                if n >= min_n and not (n == 1 and (i == 0 or j == whole)):
                    if len(buckets):
                        buckets[filled] = gram % np.uint32(bucket)
                        filled += 1
                    found += 1
                n += 1
        counts[number + 1] = found


def train(
    grams: np.ndarray, gram_starts: np.ndarray, words: np.ndarray, word_starts: np.ndarray, rows: int, dim: int, steps: int,
    bag: tuple[int, int] = (3, 12), rate: float = 0.5, seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(inputs float32[rows, dim], outputs float32[labels, dim]).

    `grams` int32 are the rows of each word's n-grams (-1 = none), those of word w at gram_starts[w]:gram_starts[w + 1]; `words` int32 the
    words of each label's text, those of label l at word_starts[l]:word_starts[l + 1]. A step draws a label, all alike, and between bag[0]
    and bag[1] words of it. 370 labels, dim 32: 30 µs a step."""
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-1 / dim, 1 / dim, (rows, dim)).astype(np.float32)
    outputs = np.zeros((len(word_starts) - 1, dim), np.float32)
    _train(grams, gram_starts, words, word_starts, inputs, outputs, steps, bag[0], bag[1], rate, np.uint64(seed * 2 + 1))
    return inputs, outputs


@numba.njit("UniTuple(uint64, 2)(uint64)", nogil=True, cache=True)
def _random(state: Any) -> Any:
    """(next state, random number) of splitmix64."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    value = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, value ^ (value >> np.uint64(31))


@numba.njit(
    numba.void(
        numba.int32[::1], numba.int64[::1], numba.int32[::1], numba.int64[::1], numba.float32[:, ::1], numba.float32[:, ::1],
        numba.int64, numba.int64, numba.int64, numba.float64, numba.uint64,
    ),
    nogil=True,
    cache=True,
    error_model="numpy",
)  # fmt: skip
def _train(
    grams: Any, gram_starts: Any, words: Any, word_starts: Any, inputs: Any, outputs: Any,
    steps: Any, low: Any, high: Any, rate: Any, state: Any,
) -> None:  # fmt: skip
    dim, labels = inputs.shape[1], outputs.shape[0]
    hidden, gradient = np.empty(dim, np.float32), np.empty(dim, np.float32)
    scores = np.empty(labels, np.float32)
    rows = np.empty(1 << 14, np.int32)
    for step in range(steps):
        lr = np.float32(rate * (1.0 - step / steps))
        state, value = _random(state)
        label = np.int64(value % np.uint64(labels))
        first, size = word_starts[label], word_starts[label + 1] - word_starts[label]
        state, value = _random(state)
        drawn = low + np.int64(value % np.uint64(high - low + 1))
        count = 0
        for _ in range(drawn):
            state, value = _random(state)
            word = words[first + np.int64(value % np.uint64(size))]
            for z in range(gram_starts[word], gram_starts[word + 1]):
                if grams[z] >= 0 and count < len(rows):
                    rows[count] = grams[z]
                    count += 1
        if count == 0:
            continue
        for z in range(dim):
            hidden[z] = 0
            gradient[z] = 0
        for n in range(count):
            for z in range(dim):
                hidden[z] += inputs[rows[n], z]
        share = np.float32(1.0 / count)
        for z in range(dim):
            hidden[z] *= share
        most = np.float32(-np.inf)
        for other in range(labels):
            total = np.float32(0)
            for z in range(dim):
                total += outputs[other, z] * hidden[z]
            scores[other] = total
            most = max(most, total)
        whole = np.float32(0)
        for other in range(labels):
            scores[other] = np.exp(scores[other] - most)
            whole += scores[other]
        for other in range(labels):
            alpha = lr * (np.float32(1.0 if other == label else 0.0) - scores[other] / whole)
            for z in range(dim):
                gradient[z] += alpha * outputs[other, z]
                outputs[other, z] += alpha * hidden[z]
        # As fastText has it for labels: every row gets the mean's gradient.
        for z in range(dim):
            gradient[z] *= share
        for n in range(count):
            for z in range(dim):
                inputs[rows[n], z] += gradient[z]
