"""fastText model files (.bin, .ftz) as arrays that kernels/fasttext.py scores with.

The layout is that of fastText 0.2 and later, version 12 (and 11, which lacks quantised supervised subwords): arguments, dictionary with its
pruned n-gram index, input matrix and output matrix, each dense float32 or product-quantised, the norms quantised apart or not. Files come
from strangers: every count is held against the bytes that are left before anything is allocated, look-up tables are refused where their
keys were chosen to collide, nothing is unpickled or executed, and a damaged file ends in a ModelError that names the place. lid.176.ftz
takes 0.1 s.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

MAGIC, VERSIONS = 793712314, (11, 12)
LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
SUPERVISED = 3
EOS = b"</s>"
LANES = 16  # the kernel adds floats in blocks of this many; rows are padded with zeros
MAX_DIM, MAX_LABELS, MAX_PRUNED = 1 << 14, 1 << 20, 1 << 24
MAX_WORDS = 30_000_000  # fastText's own bound
MAX_FLOATS = 1 << 31  # of a matrix, 8 GB: rows are padded to LANES
FREE_BYTES, MOST_TIMES = 1 << 30, 64  # of a dequantised matrix: so much, or so many times the file. A few codes could ask for any amount
MAX_PROBES = 1024  # of a table that is a third full: 50 are met by chance in 10^9 keys
LARGEST_WEIGHT = 1e9  # beyond it sums of float32 overflow
_CENTROIDS = 256
_BLOCK = 1 << 22  # numbers of a matrix that are copied and looked at together


class ModelError(ValueError):
    """A file that is no fastText model, or a damaged one; the message says where."""


class Vocabulary(NamedTuple):
    """The words of a model, then its labels, as open-addressing table: `slots` holds word numbers, -1 where empty, from FNV-1a 64 of the
    word's bytes."""

    blob: np.ndarray  # uint8: all words, one after the other
    starts: np.ndarray  # int64[words + 1]
    slots: np.ndarray  # int32[power of two]


class NGrams(NamedTuple):
    """Which hashed n-grams have a row. Without pruning every bucket has one and `places` is empty."""

    bucket: int
    pruned: bool
    bits: np.ndarray  # uint64: may the bucket (modulo the number of bits) have a row? Answers most lookups from the second-level cache
    places: np.ndarray  # int64[power of two] open addressing: the bucket << 32 | its row in the input matrix, -1 where empty


class FastText(NamedTuple):
    """A supervised fastText model, read."""

    labels: tuple[str, ...]  # without "__label__", in the file's order
    loss: str  # hs, ns, softmax or ova
    dim: int
    min_n: int
    max_n: int
    word_ngrams: int
    vocabulary: Vocabulary
    words: int  # entries of the vocabulary that are words; the others are labels
    ngrams: NGrams
    eos: int  # the row of the word "</s>", which every line ends with; -1 when the model has none
    inputs: np.ndarray  # float32[rows, dim padded to LANES]
    outputs: np.ndarray  # float32[labels, dim padded]: of the inner nodes for hs
    left: np.ndarray  # int32[2 * labels - 1]: Huffman tree, children of inner nodes; empty unless hs
    right: np.ndarray


class _Reader:
    """Bytes taken from the front, never past the end."""

    def __init__(self, data: bytes, name: str) -> None:
        self.bytes, self.data, self.name, self.at = data, memoryview(data), name, 0

    def error(self, what: str) -> ModelError:
        return ModelError(f"{self.name}: {what} (at byte {self.at}); not a fastText model, or damaged: get it again")

    def take(self, size: int, what: str) -> memoryview:
        if size < 0 or size > len(self.data) - self.at:
            raise self.error(f"{what} needs {size} bytes and {len(self.data) - self.at} are left")
        part = self.data[self.at : self.at + size]
        self.at += size
        return part

    def numbers(self, layout: str, what: str) -> tuple[int, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}"), what))

    def array(self, dtype: type, count: int, what: str) -> np.ndarray:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize if count >= 0 else -1, what), dtype)


def parse(data: bytes, name: str = "model") -> FastText:
    """The model in `data`. Raises ModelError, naming `name`, when it is none, damaged, or not a supervised one."""
    reader = _Reader(data, name)
    magic, version = reader.numbers("ii", "the head")
    if magic != MAGIC:
        raise reader.error("it does not begin as a fastText model does")
    if version not in VERSIONS:
        raise reader.error(f"version {version} of the format is unknown")
    dim, _, _, _, _, word_ngrams, loss, kind, bucket, min_n, max_n, _ = reader.numbers("12i", "the arguments")
    reader.numbers("d", "the arguments")
    if kind != SUPERVISED or loss not in LOSSES:
        raise ModelError(f"{name}: a fastText model of words, not of labels: train one with `fasttext supervised`")
    if version == 11:
        max_n = 0  # as fastText does: old supervised models have no subwords
    if not (0 < dim <= MAX_DIM and bucket >= 0 and 0 <= max_n <= 64 and min_n >= 0 and 0 < word_ngrams <= 64):
        raise reader.error(f"impossible arguments: dim {dim}, bucket {bucket}, n-grams {min_n} to {max_n}, of words {word_ngrams}")
    words, entries, counts, ngrams, size = _dictionary(reader, bucket, uses_ngrams=max_n > 0 or word_ngrams > 1)
    quantised = reader.numbers("?", "the matrix")[0]
    inputs = _matrix(reader, bool(quantised), dim, size, "the input matrix")
    labels = tuple(entry.decode("utf-8", "replace").removeprefix("__label__") for entry in entries)
    output_quantised = reader.numbers("?", "the output matrix")[0]
    outputs = _matrix(reader, bool(output_quantised), dim, len(entries), "the output matrix")
    if len(reader.data) != reader.at:
        raise reader.error(f"{len(reader.data) - reader.at} bytes too many")
    if counts.min() < 0 or sum(counts.tolist()) >= 10**15:
        raise reader.error("impossible counts of labels")
    left, right = _huffman(counts) if LOSSES[loss] == "hs" else (np.empty(0, np.int32), np.empty(0, np.int32))
    eos = words.index(EOS) if EOS in words else -1
    return FastText(
        labels,
        LOSSES[loss],
        dim,
        min_n,
        max_n,
        word_ngrams,
        _vocabulary(reader, words + entries),
        len(words),
        ngrams,
        eos,
        inputs,
        outputs,
        left,
        right,
    )


def _dictionary(reader: _Reader, bucket: int, *, uses_ngrams: bool) -> tuple[list[bytes], list[bytes], np.ndarray, NGrams, int]:
    """(words, labels, counts of the labels, n-grams, rows of the input matrix)."""
    size, n_words, n_labels, _, n_pruned = reader.numbers("3i2q", "the dictionary")
    least = 10  # bytes of an entry: an end of string, a count and a type
    if size < 0 or n_words < 0 or n_labels <= 0 or n_words + n_labels != size or size * least > len(reader.data) - reader.at:
        raise reader.error(f"a dictionary of {n_words} words and {n_labels} labels in {size} entries")
    if n_labels > MAX_LABELS or n_words > MAX_WORDS or n_pruned > MAX_PRUNED:
        raise reader.error(
            f"{n_words} words, {n_labels} labels and {n_pruned} n-grams; at most {MAX_WORDS}, {MAX_LABELS} and {MAX_PRUNED} are read"
        )
    raw, at, entries, counts = reader.bytes, reader.at, [], []
    for number in range(size):
        end = raw.find(b"\0", at)
        if end < 0 or end + 10 > len(raw):
            raise reader.error(f"entry {number} of the dictionary has no end")
        count, kind = struct.unpack_from("<qb", raw, end + 1)
        if kind != (number >= n_words):  # fastText sorts words before labels
            raise reader.error(f"entry {number} of the dictionary is of type {kind}")
        entries.append(raw[at:end])
        counts.append(count)
        at = end + 10
    reader.at = at
    if len(set(entries)) < size:
        raise reader.error("a word or label stands twice in the dictionary")
    if n_pruned < 0:
        rows = n_words + (bucket if uses_ngrams else 0)
        if uses_ngrams and bucket == 0:
            raise reader.error("n-grams without buckets")
        ngrams = _ngram_table(reader, bucket, False, np.empty((0, 2), np.int32), n_words)
    else:
        pairs = reader.array(np.int32, 2 * n_pruned, "the pruned index").reshape(-1, 2)
        if len(pairs) and (pairs.min() < 0 or int(pairs[:, 0].max()) >= bucket or int(pairs[:, 1].max()) >= n_pruned):
            raise reader.error("the pruned index points outside the matrix")
        rows = n_words + n_pruned
        ngrams = _ngram_table(reader, bucket, True, pairs, n_words)
    return entries[:n_words], entries[n_words:], np.array(counts[n_words:], np.int64), ngrams, rows


def _ngram_table(reader: _Reader, bucket: int, pruned: bool, pairs: np.ndarray, n_words: int) -> NGrams:
    size = 1 << max(4, (3 * len(pairs)).bit_length())
    places = np.full(size, -1, np.int64)
    bits = np.zeros(1 << (min(max(bucket, 64), 1 << 24) - 1).bit_length() - 6, np.uint64)
    number_of_bits = 64 * len(bits)
    for key, row in (pair for start in range(0, len(pairs), _BLOCK) for pair in pairs[start : start + _BLOCK].tolist()):
        at = first = key * 0x9E3779B1 % (1 << 32) & size - 1
        while places[at] >= 0 and places[at] >> 32 != key:
            at = at + 1 & size - 1
            if at - first & size - 1 > MAX_PROBES:
                raise reader.error("too many keys of the pruned index collide")
        places[at] = key << 32 | row + n_words
        bit = key % number_of_bits
        bits[bit >> 6] |= np.uint64(1 << (bit & 63))
    return NGrams(bucket, pruned, bits, places)


def _vocabulary(reader: _Reader, words: list[bytes]) -> Vocabulary:
    size = 1 << max(4, (3 * len(words)).bit_length())
    blob = np.frombuffer(b"".join(words) or b"\0", np.uint8)
    starts = np.zeros(len(words) + 1, np.int64)
    np.cumsum([len(word) for word in words], out=starts[1:])
    slots = np.full(size, -1, np.int32)
    hashes = word_hashes(blob, starts) if words else np.empty(0, np.uint64)
    for number, value in enumerate(hashes.tolist()):
        at = first = value & size - 1
        while slots[at] >= 0:
            at = at + 1 & size - 1
            if at - first & size - 1 > MAX_PROBES:
                raise reader.error("too many words of the dictionary collide")
        slots[at] = number
    return Vocabulary(blob, starts, slots)


def word_hashes(blob: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """uint64[words]: FNV-1a 64, folded, of each word: all words a byte at a time."""
    values = np.full(len(starts) - 1, 0xCBF29CE484222325, np.uint64)
    lengths = np.diff(starts)
    order = np.argsort(-lengths, kind="stable")
    left = np.count_nonzero(lengths > 0)
    step = 0
    while left:
        rows = order[:left]
        values[rows] = (values[rows] ^ blob[starts[rows] + step]) * np.uint64(0x100000001B3)
        step += 1
        left = np.count_nonzero(lengths[rows] > step)
    return values ^ (values >> np.uint64(29))


def _matrix(reader: _Reader, quantised: bool, dim: int, rows: int, what: str) -> np.ndarray:
    """float32[rows, dim padded to LANES]."""
    with_norms = bool(reader.numbers("?", what)[0]) if quantised else False
    height, width = reader.numbers("qq", what)
    if height != rows or width != dim:
        raise reader.error(f"{what} is {height} by {width} and should be {rows} by {dim}")
    padded = -(-dim // LANES) * LANES
    most = max(FREE_BYTES, MOST_TIMES * len(reader.data)) if quantised else 4 * MAX_FLOATS
    if 4 * height * padded > min(most, 4 * MAX_FLOATS):
        raise reader.error(f"{what} would take {4 * height * padded} bytes")
    step = max(_BLOCK // padded, 1)
    blocks = [slice(at, at + step) for at in range(0, height, step)]
    if not quantised:
        dense = reader.array(np.float32, height * width, what).reshape(height, width)
        out = np.zeros((height, padded), np.float32)
        for rows_of in blocks:
            out[rows_of, :dim] = dense[rows_of]
    else:
        n_codes = reader.numbers("i", what)[0]
        codes = reader.array(np.uint8, n_codes, what)
        out = np.zeros((height, padded), np.float32)
        _dequantise(reader, codes, out[:, :dim], what)
        if with_norms:
            norms, lengths = reader.array(np.uint8, height, what), np.empty((height, 1), np.float32)
            _dequantise(reader, norms, lengths, what)
            with np.errstate(all="ignore"):
                for rows_of in blocks:
                    out[rows_of] *= lengths[rows_of]
    if not all(np.abs(out[rows_of]).max(initial=0) < LARGEST_WEIGHT for rows_of in blocks):  # NaN is not less either
        raise reader.error(f"{what} holds numbers that are none")
    return out


def _dequantise(reader: _Reader, codes: np.ndarray, out: np.ndarray, what: str) -> None:
    """Fills float32[rows, dim]. Product quantisation (Jégou et al. 2011): each part of a row is one of 256 centroids."""
    height, dim = out.shape
    width, parts, part, last = reader.numbers("4i", what)
    if width != dim or parts <= 0 or part <= 0 or not 0 < last <= part or (parts - 1) * part + last != dim or len(codes) != height * parts:
        raise reader.error(f"{what} is quantised in {parts} parts of {part}, the last of {last}, with {len(codes)} codes for {height} rows")
    centroids = reader.array(np.float32, dim * _CENTROIDS, what)
    codes = codes.reshape(height, parts)
    step = max(_BLOCK // part, 1)
    for number in range(parts):
        first, size = number * part, last if number == parts - 1 else part
        table = centroids[first * _CENTROIDS : first * _CENTROIDS + size * _CENTROIDS].reshape(_CENTROIDS, size)
        for at in range(0, height, step):
            out[at : at + step, first : first + size] = table[codes[at : at + step, number]]


def _huffman(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Children of each inner node of the tree that fastText builds from the labels' counts, -1 at leaves; int32[2 * labels - 1] each."""
    leaves = len(counts)
    left, right = np.full(2 * leaves - 1, -1, np.int32), np.full(2 * leaves - 1, -1, np.int32)
    weight = counts.tolist() + [10**15] * (leaves - 1)  # the library's idea of infinity: a count above it would break its tree
    leaf, inner = leaves - 1, leaves  # labels come sorted by falling count
    for node in range(leaves, 2 * leaves - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and (inner >= node or weight[leaf] < weight[inner]):
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(inner)
                inner += 1
        left[node], right[node] = pair
        weight[node] = weight[pair[0]] + weight[pair[1]]
    return left, right
