"""fastText's prediction for two labels without character n-grams, one number a row: what DCLM's classifier and ours are.

The softmax of two labels depends on the difference of their scores alone, which is the mean over a text's rows of one number each: the
row's product with the difference of the two output vectors. The table of these numbers is dim times smaller than the model (2 million rows
of 100: 8 MB in place of 800) and stays in the cache. Words are read as kernels/fasttext.py reads them; sums are in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from codedev.kernels.characters import DATA, OFFSETS
from codedev.kernels.fasttext import _blank, _extended
from codedev.kernels.fasttext_file import FastText, Vocabulary

_BLOCK = 1 << 16  # rows projected at a time
_SMOOTH = 1e-5  # fastText adds it within the logarithm of a probability
_MAX_RUN = 8  # words

_FLOATS = numba.types.Array(numba.float32, 1, "C", readonly=True)
_NUMBERS = numba.types.Array(numba.int32, 1, "C", readonly=True)


class Binary(NamedTuple):
    vocabulary: Vocabulary
    words: int
    bucket: int
    word_ngrams: int
    eos: int
    weights: np.ndarray  # float32[rows]: label 0 against label 1


def projected(model: FastText) -> Binary | None:
    """The model in one number a row, or None where it is of another kind."""
    plain = model.loss == "softmax" and len(model.labels) == 2 and model.max_n == 0 and not model.ngrams.pruned
    if not plain or model.word_ngrams > _MAX_RUN:
        return None
    direction = model.outputs[0].astype(np.float64) - model.outputs[1]
    weights = np.empty(len(model.inputs), np.float32)
    for at in range(0, len(weights), _BLOCK):
        sums = np.zeros(len(weights[at : at + _BLOCK]))
        for number in np.flatnonzero(direction):  # column by column: a matrix product rounds as the machine likes
            sums += model.inputs[at : at + _BLOCK, number] * direction[number]
        weights[at : at + _BLOCK] = sums
    return Binary(model.vocabulary, model.words, model.ngrams.bucket, model.word_ngrams, model.eos, weights)


def probabilities(model: Binary, data: np.ndarray, offsets: np.ndarray, prefix: int = 0) -> np.ndarray:
    """float32[texts, 2], as `fasttext.probabilities` gives them to 1e-6; a row of zeros where a text has no word."""
    texts = len(offsets) - 1
    means = np.full(texts, np.nan)
    if texts:
        longest = int(np.diff(offsets).max())
        shape = np.array([min(prefix or longest, longest), model.word_ngrams, model.bucket, model.eos, model.words], np.int64)
        words = model.vocabulary
        blob, starts, slots, weights = (_readonly(array) for array in (words.blob, words.starts, words.slots, model.weights))
        _means(_readonly(data), _readonly(offsets), shape, blob, starts, slots, weights, means)
    with np.errstate(over="ignore"):
        first = 1 / (1 + np.exp(-means))
    out = np.column_stack([first + _SMOOTH, 1 - first + _SMOOTH]).astype(np.float32)
    out[np.isnan(means)] = 0
    return out


def _readonly(values: np.ndarray) -> np.ndarray:
    view = values.view()
    view.flags.writeable = False
    return view


@numba.njit(
    numba.void(DATA, OFFSETS, numba.int64[::1], DATA, OFFSETS, _NUMBERS, _FLOATS, numba.float64[::1]),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def _means(data: Any, offsets: Any, shape: Any, blob: Any, starts: Any, slots: Any, weights: Any, means: Any) -> None:
    prefix, word_ngrams, bucket, eos, words = shape[0], shape[1], shape[2], shape[3], shape[4]
    modulus = np.uint64(max(bucket, 1))
    mask = modulus - np.uint64(1) if modulus & (modulus - np.uint64(1)) == 0 else np.uint64(0)
    runs = np.empty(_MAX_RUN, np.uint64)  # that go on: the one that began last first
    slot_mask = np.uint64(len(slots) - 1)
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        if end - at > prefix:
            end = at + prefix
            while end > at and (data[end] & 0xC0) == 0x80:
                end -= 1
        total, count, tokens, open_runs = 0.0, 0, 0, 0
        while True:
            while at < end and _blank(data[at]):
                at += 1
            first = at
            value = np.uint64(0xCBF29CE484222325)
            gram = np.uint32(2166136261)
            while at < end:
                byte = data[at]
                if _blank(byte):
                    break
                value = (value ^ np.uint64(byte)) * np.uint64(0x100000001B3)
                gram = np.uint32((gram ^ _extended(byte)) * np.uint32(16777619))
                at += 1
            size = at - first
            closing = size == 0
            if size == 4 and data[first] == 60 and data[first + 1] == 47 and data[first + 2] == 115 and data[first + 3] == 62:
                closing = True
                tokens += 1
            if closing:
                if tokens == 0:
                    break
                gram = np.uint32(2166136261)
                for letter in (60, 47, 115, 62):
                    gram = np.uint32((gram ^ np.uint32(letter)) * np.uint32(16777619))
                if eos >= 0:
                    total += weights[eos]
                    count += 1
            else:
                tokens += 1
                value ^= value >> np.uint64(29)
                probe = value & slot_mask
                number = np.int64(-1)
                while slots[probe] >= 0:
                    candidate = np.int64(slots[probe])
                    begin = starts[candidate]
                    if starts[candidate + 1] - begin == size:
                        same = True
                        for z in range(size):
                            if blob[begin + z] != data[first + z]:
                                same = False
                                break
                        if same:
                            number = candidate
                            break
                    probe = (probe + np.uint64(1)) & slot_mask
                if number >= words:
                    continue  # a label in the text is no word of it
                if number >= 0:
                    total += weights[number]
                    count += 1
                elif size >= 9:
                    label = True
                    for z, letter in enumerate((95, 95, 108, 97, 98, 101, 108, 95, 95)):
                        if data[first + z] != letter:
                            label = False
                    if label:
                        continue
            if word_ngrams > 1:
                hashed = np.uint64(np.int64(np.int32(gram)))
                for n in range(open_runs):
                    run = runs[n] * np.uint64(116049371) + hashed
                    runs[n] = run
                    total += weights[words + np.int64(run & mask if mask else run % modulus)]
                count += open_runs
                open_runs = min(open_runs + 1, word_ngrams - 1)
                for n in range(open_runs - 1, 0, -1):
                    runs[n] = runs[n - 1]
                runs[0] = hashed
            if closing:
                break
        if tokens and count:
            means[text] = total / count
