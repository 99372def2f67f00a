"""Training of a fastText classifier of whole documents: words and runs of words, softmax, one thread, one seed, the same bits every time.

Gradients, rate and hashing are those of `fasttext supervised` (Joulin et al. 2016, arXiv 1607.01759): a document is the mean of the rows of
its words, of its line's end and of its hashed runs of words, all rows get the mean's gradient, and the rate falls linearly with the words
read. Documents come in a new order in each pass. A text is one line, as kernels/fasttext.py reads it: words are cut at ASCII blanks and
NUL, those that begin with "__label__" are left out, "</s>" ends the text. `binary` writes the file that fastText and codedev read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

from codedev.kernels.characters import DATA, OFFSETS
from codedev.kernels.fasttext import _blank, _extended
from codedev.kernels.fasttext_file import EOS, MAGIC, SUPERVISED

_SOFTMAX, _VERSION = 3, 12


class Documents(NamedTuple):
    """Documents as numbers of words."""

    tokens: np.ndarray  # int32: the word of each token, the text's end among them
    starts: np.ndarray  # int64[documents + 1]
    hashes: np.ndarray  # int64[words]: as fastText hashes words for runs, a signed 32-bit number
    counts: np.ndarray  # int64[words]
    spelt: list[bytes]  # the words


def read(data: np.ndarray, offsets: np.ndarray) -> Documents:
    """The words of the texts, numbered as they come. 4 bytes a token and 60 a word; 25 MB/s."""
    texts = len(offsets) - 1
    sizes = np.zeros(texts + 1, np.int64)
    total = _count(data, offsets, sizes)
    tokens = np.empty(total, np.int32)
    # Words as places in `data`; the table doubles as it fills.
    slots, firsts, lengths = np.full(1 << 12, -1, np.int32), np.empty(1 << 11, np.int64), np.empty(1 << 11, np.int32)
    text, words = 0, 0
    starts = np.cumsum(sizes)
    while True:
        text, words = _number(data, offsets, starts, slots, firsts, lengths, tokens, text, words)
        if text == texts:
            break
        firsts, lengths = np.resize(firsts, 2 * len(firsts)), np.resize(lengths, 2 * len(lengths))
        slots = np.full(2 * len(slots), -1, np.int32)
        _refill(data, firsts, lengths, words, slots)
    view = data.tobytes()
    spelt = [EOS if size == 0 else view[at : at + size] for at, size in zip(firsts[:words].tolist(), lengths[:words].tolist(), strict=True)]
    blob, bounds = np.frombuffer(b"".join(spelt) or b"\0", np.uint8), np.zeros(words + 1, np.int64)
    np.cumsum([len(word) for word in spelt], out=bounds[1:])
    hashes = np.empty(words, np.int64)
    _hash(blob, _readonly(bounds), hashes)
    return Documents(tokens, starts, hashes, np.bincount(tokens, minlength=words), spelt)


def _readonly(values: np.ndarray) -> np.ndarray:
    values.flags.writeable = False
    return values


@numba.njit("UniTuple(int64, 2)(Array(uint8, 1, 'C', readonly=True), int64, int64)", nogil=True, cache=True, inline="always")
def _next(data: Any, at: Any, end: Any) -> Any:
    """(first byte, byte after) of the next word; (end, end) where there is none or the text says that it ends."""
    while True:
        while at < end and _blank(data[at]):
            at += 1
        first = at
        while at < end and not _blank(data[at]):
            at += 1
        size = at - first
        if size == 4 and data[first] == 60 and data[first + 1] == 47 and data[first + 2] == 115 and data[first + 3] == 62:
            return end, end
        label = size >= 9
        for z, byte in enumerate((95, 95, 108, 97, 98, 101, 108, 95, 95)):
            if label and data[first + z] != byte:
                label = False
        if not label:
            return (first, at) if size else (end, end)


@numba.njit(numba.int64(DATA, OFFSETS, numba.int64[::1]), nogil=True, cache=True)
def _count(data: Any, offsets: Any, sizes: Any) -> Any:
    """sizes[text + 1] = its words and one for its end."""
    total = 0
    for text in range(len(offsets) - 1):
        at, end, words = offsets[text], offsets[text + 1], 1
        while True:
            first, at = _next(data, at, end)
            if first == end:
                break
            words += 1
        sizes[text + 1] = words
        total += words
    return total


@numba.njit(numba.uint64(DATA, numba.int64, numba.int64), nogil=True, cache=True, inline="always")
def _fnv(data: Any, first: Any, size: Any) -> Any:
    value = np.uint64(0xCBF29CE484222325)
    for z in range(size):
        value = (value ^ np.uint64(data[first + z])) * np.uint64(0x100000001B3)
    return value ^ (value >> np.uint64(29))


@numba.njit(
    "UniTuple(int64, 2)(Array(uint8, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64[::1], int32[::1], int64[::1], "
    "int32[::1], int32[::1], int64, int64)",
    nogil=True,
    cache=True,
)
def _number(data: Any, offsets: Any, starts: Any, slots: Any, firsts: Any, lengths: Any, tokens: Any, text: Any, words: Any) -> Any:
    """(text to go on with, words known): stops where the table is half full. The text's end is the word of no bytes."""
    mask = np.uint64(len(slots) - 1)
    while text < len(offsets) - 1:
        at, end, filled = offsets[text], offsets[text + 1], starts[text]
        while True:
            first, at = _next(data, at, end)
            size = at - first
            probe = _fnv(data, first, size) & mask
            while slots[probe] >= 0:
                word = slots[probe]
                if lengths[word] == size:
                    same = True
                    for z in range(size):
                        if data[firsts[word] + z] != data[first + z]:
                            same = False
                            break
                    if same:
                        break
                probe = (probe + np.uint64(1)) & mask
            if slots[probe] < 0:
                if words == len(firsts):
                    return text, words  # the text is read again with more room
                slots[probe], firsts[words], lengths[words] = words, first, size
                words += 1
            tokens[filled] = slots[probe]
            filled += 1
            if size == 0:
                break
        text += 1
    return text, words


@numba.njit(numba.void(DATA, numba.int64[::1], numba.int32[::1], numba.int64, numba.int32[::1]), nogil=True, cache=True)
def _refill(data: Any, firsts: Any, lengths: Any, words: Any, slots: Any) -> None:
    mask = np.uint64(len(slots) - 1)
    for word in range(words):
        probe = _fnv(data, firsts[word], np.int64(lengths[word])) & mask
        while slots[probe] >= 0:
            probe = (probe + np.uint64(1)) & mask
        slots[probe] = word


@numba.njit(numba.void(DATA, OFFSETS, numba.int64[::1]), nogil=True, cache=True)
def _hash(blob: Any, bounds: Any, hashes: Any) -> None:
    for word in range(len(bounds) - 1):
        gram = np.uint32(2166136261)
        for z in range(bounds[word], bounds[word + 1]):
            gram = np.uint32((gram ^ _extended(blob[z])) * np.uint32(16777619))
        hashes[word] = np.int64(np.int32(gram))


class Classifier(NamedTuple):
    words: list[bytes]  # by falling count
    counts: np.ndarray  # int64[words]
    inputs: np.ndarray  # float32[words + bucket, dim]
    outputs: np.ndarray  # float32[labels, dim]


def train(
    documents: Documents, labels: np.ndarray, n_labels: int, dim: int = 16, epochs: int = 5, rate: float = 0.1, word_ngrams: int = 2,
    bucket: int = 1 << 20, min_count: int = 1, seed: int = 0,
) -> Classifier:  # fmt: skip
    """`labels` int32[documents]. 40 ns a token and pass for dim 16 and runs of two words."""
    order = sorted(range(len(documents.spelt)), key=lambda word: (-int(documents.counts[word]), documents.spelt[word]))
    order = [word for word in order if documents.counts[word] >= min_count or documents.spelt[word] == EOS]
    rows = np.full(len(documents.spelt), -1, np.int32)
    rows[order] = np.arange(len(order), dtype=np.int32)
    bucket = bucket if word_ngrams > 1 else 0
    rng = np.random.default_rng(seed)
    inputs = rng.random((len(order) + bucket, dim), np.float32)
    inputs -= np.float32(0.5)
    inputs *= np.float32(2 / dim)
    outputs = np.zeros((n_labels, dim), np.float32)
    sizes = np.diff(documents.starts)
    whole, done = int(sizes.sum()) * epochs, 0
    for _ in range(epochs):
        turn = rng.permutation(len(labels))
        _pass(
            documents.tokens, documents.starts, labels.astype(np.int32), turn, rows, documents.hashes, inputs, outputs,
            len(order), bucket, word_ngrams, rate, done, whole,
        )  # fmt: skip
        done += int(sizes.sum())
    return Classifier([documents.spelt[word] for word in order], documents.counts[order], inputs, outputs)


@numba.njit(
    numba.void(
        numba.int32[::1], numba.int64[::1], numba.int32[::1], numba.int64[::1], numba.int32[::1], numba.int64[::1],
        numba.float32[:, ::1], numba.float32[:, ::1],
        numba.int64, numba.int64, numba.int64, numba.float64, numba.int64, numba.int64,
    ),
    nogil=True,
    cache=True,
    error_model="numpy",
)  # fmt: skip
def _pass(
    tokens: Any, starts: Any, labels: Any, turn: Any, rows: Any, hashes: Any, inputs: Any, outputs: Any,
    words: Any, bucket: Any, word_ngrams: Any, rate: Any, done: Any, whole: Any,
) -> None:  # fmt: skip
    dim, n_labels = inputs.shape[1], outputs.shape[0]
    hidden, gradient = np.empty(dim, np.float32), np.empty(dim, np.float32)
    scores = np.empty(n_labels, np.float64)
    most = 0
    for text in range(len(starts) - 1):
        most = max(most, starts[text + 1] - starts[text])
    features = np.empty(most * word_ngrams + 1, np.int64)
    for text in turn:
        first, last = starts[text], starts[text + 1]
        if last - first < 2:  # no word
            continue
        lr = np.float32(rate * (1.0 - done / whole))
        done += last - first
        count = 0
        for at in range(first, last):
            if rows[tokens[at]] >= 0:
                features[count] = rows[tokens[at]]
                count += 1
        if bucket > 0:
            for at in range(first, last):
                run = np.uint64(hashes[tokens[at]])
                for other in range(at + 1, min(last, at + word_ngrams)):
                    run = run * np.uint64(116049371) + np.uint64(hashes[tokens[other]])
                    features[count] = words + np.int64(run % np.uint64(bucket))
                    count += 1
        for z in range(dim):
            hidden[z] = 0
            gradient[z] = 0
        for n in range(count):
            for z in range(dim):
                hidden[z] += inputs[features[n], z]
        share = np.float32(1.0 / count)
        for z in range(dim):
            hidden[z] *= share
        highest = -np.inf
        for label in range(n_labels):
            total = np.float32(0)
            for z in range(dim):
                total += outputs[label, z] * hidden[z]
            scores[label] = total
            highest = max(highest, scores[label])
        total_score = 0.0
        for label in range(n_labels):
            scores[label] = np.exp(scores[label] - highest)
            total_score += scores[label]
        for label in range(n_labels):
            truth = 1.0 if label == labels[text] else 0.0
            alpha = np.float32(lr * (truth - scores[label] / total_score))
            for z in range(dim):
                gradient[z] += alpha * outputs[label, z]
                outputs[label, z] += alpha * hidden[z]
        for z in range(dim):
            gradient[z] *= share
        for n in range(count):
            for z in range(dim):
                inputs[features[n], z] += gradient[z]


def binary(model: Classifier, labels: Sequence[str], label_counts: Sequence[int], word_ngrams: int) -> bytes:
    """The bytes of a fastText .bin file. fastText wants labels by falling count; they are written as they are given."""
    dim, bucket = model.inputs.shape[1], len(model.inputs) - len(model.words)
    arguments = struct.pack("<ii12id", MAGIC, _VERSION, dim, 5, 1, 1, 5, word_ngrams, _SOFTMAX, SUPERVISED, bucket, 0, 0, 100, 1e-4)
    tokens = int(model.counts.sum()) + sum(label_counts)
    head = struct.pack("<3i2q", len(model.words) + len(labels), len(model.words), len(labels), tokens, -1)
    words = [word + struct.pack("<xqb", count, 0) for word, count in zip(model.words, model.counts.tolist(), strict=True)]
    names = [f"__label__{label}".encode() + struct.pack("<xqb", count, 1) for label, count in zip(labels, label_counts, strict=True)]
    matrices = [struct.pack("<?qq", False, *matrix.shape) + matrix.astype("<f4").tobytes() for matrix in (model.inputs, model.outputs)]
    return b"".join([arguments, head, *words, *names, *matrices])
