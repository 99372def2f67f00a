"""fastText's prediction over Arrow text buffers: the labels and probabilities of its C++ library at several times its speed.

`predict` reads `data` uint8[bytes] and `offsets` int64[texts + 1] (valid UTF-8) and returns the k most probable labels of each text;
`probabilities` returns all of them. A text is one line: a newline in it separates words, as a blank does. What fastText does is done in its
order of events: words are cut at ASCII blanks and NUL, a word that begins with "__label__" or ends the line ("</s>") is treated as it
treats it, character n-grams over "<word>" are hashed by FNV-1a 32 with signed bytes, and 1e-5 is added within logarithms.
Two things make the speed: most n-grams of a pruned model have no row, which one bit tells, and the rows of a word are remembered for the
next time it comes (compared byte by byte, so that nothing depends on what came before). Rows are added one by one in fastText's order, in
float32 as there: long texts differ in the sixth decimal otherwise. What is left, 2e-7, is the order within a scalar product.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.fasttext_file import LANES, FastText

CACHE, SUMS = 1 << 13, 1 << 15  # remembered words, at most; where their sums are kept
POOL = 1 << 18  # rows of all of them
CACHED_WORD = 64  # bytes: longer words seldom come twice
_LOSS = {"hs": 0, "softmax": 1, "ns": 2, "ova": 2}
# The table that fastText reads the logistic function from, for losses that score each label on its own.
_SIGMOID = (1 / (1 + np.exp(-((np.arange(513) * 16 / 512 - 8).astype(np.float32))))).astype(np.float32)

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_FLOATS = numba.float32[:, ::1]


def predict(model: FastText, data: np.ndarray, offsets: np.ndarray, k: int = 1, prefix: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(label numbers int32[texts, k], probabilities float32[texts, k]) of the first `prefix` bytes of each text (0 = all), best first.

    A label is -1 and its probability 0 where a text has no word, or the model fewer labels."""
    labels, scores, _ = _run(model, data, offsets, max(k, 1), prefix, full=False, summed=False)
    return labels, scores


def probabilities(model: FastText, data: np.ndarray, offsets: np.ndarray, prefix: int = 0, *, exact: bool = True) -> np.ndarray:
    """float32[texts, labels]; a row of zeros where a text has no word. Unless `exact`, the rows of a word are added up before they are
    added to the text's: within 1e-5 of fastText, and a word that comes again costs one addition, not one for each of its n-grams."""
    return _run(model, data, offsets, 1, prefix, full=True, summed=not exact)[2]


def _run(
    model: FastText, data: Any, offsets: Any, k: int, prefix: int, *, full: bool, summed: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    texts = len(offsets) - 1
    labels, scores = np.full((texts, k), -1, np.int32), np.zeros((texts, k), np.float32)
    every = np.zeros((texts if full else 0, len(model.labels)), np.float32)
    if not texts:
        return labels, scores, every
    data, offsets, longest = _readonly(data), _readonly(offsets), int(np.diff(offsets).max())
    prefix = min(prefix or longest, longest)
    shape = np.array(
        [
            prefix,
            model.min_n,
            model.max_n,
            model.word_ngrams,
            model.ngrams.bucket,
            model.ngrams.pruned,
            model.eos,
            _LOSS[model.loss],
            model.words,
        ],
        np.int64,
    )
    words = model.vocabulary
    _predict(
        data, offsets, shape, _readonly(words.blob), _readonly(words.starts), words.slots,
        model.ngrams.bits, model.ngrams.places,
        model.inputs, np.ascontiguousarray(model.outputs.T), model.left, model.right, _SIGMOID,
        np.empty(prefix + 2, np.uint8), np.empty((SUMS if summed else 0, model.inputs.shape[1]), np.float32), labels, scores, every,
    )  # fmt: skip
    return labels, scores, every


def _readonly(values: np.ndarray) -> np.ndarray:
    view = values.view()
    view.flags.writeable = False
    return view


@numba.njit(numba.boolean(numba.uint8), nogil=True, cache=True, inline="always")
def _blank(byte: Any) -> Any:
    return byte <= 32 and (byte == 32 or byte == 0 or 9 <= byte <= 13)


@numba.njit(numba.uint32(numba.uint8), nogil=True, cache=True, inline="always")
def _extended(byte: Any) -> Any:
    """A byte as fastText hashes it: a signed one, whose upper bits are those of its sign."""
    return np.uint32(byte) | np.uint32(0xFFFFFF00) if byte >= 128 else np.uint32(byte)


@numba.njit(
    numba.int64(numba.int64, numba.int64[::1], numba.uint64[::1], numba.int64[::1], numba.int64),
    nogil=True,
    cache=True,
    inline="always",
)
def _row_of(bucket: Any, shape: Any, bits: Any, places: Any, words: Any) -> Any:
    """The input row of a hashed n-gram, or -1."""
    if shape[5] == 0:
        return words + bucket
    bit = bucket & ((len(bits) << 6) - 1)
    if (bits[bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1) == 0:
        return -1
    mask = len(places) - 1
    at = ((bucket * 0x9E3779B1) & 0xFFFFFFFF) & mask
    while places[at] >= 0:
        if places[at] >> 32 == bucket:
            return places[at] & 0xFFFFFFFF
        at = (at + 1) & mask
    return -1


@numba.njit(numba.void(numba.float32[::1], numba.int64), nogil=True, cache=True, error_model="numpy")
def _exponentials(values: Any, count: Any) -> None:
    """e to the power of each number, to two units of the last place, eight at a time: e^x = 2^k e^r with |r| < 0.35 and a polynomial for
    e^r (Cephes, expf). Beyond +-87 the result is that of 87."""
    bits, powers = values.view(np.int32), np.empty(count, np.int32)
    for n in range(count):
        x = min(max(values[n], np.float32(-87)), np.float32(87))
        k = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
        x = (x - k * np.float32(0.693359375)) + k * np.float32(2.12194440e-4)
        y = np.float32(1.9875691500e-4)
        y = y * x + np.float32(1.3981999507e-3)
        y = y * x + np.float32(8.3334519073e-3)
        y = y * x + np.float32(4.1665795894e-2)
        y = y * x + np.float32(1.6666665459e-1)
        y = y * x + np.float32(5.0000001201e-1)
        values[n] = (y * x * x + x) + np.float32(1)
        powers[n] = np.int32(k)
    for n in range(count):
        bits[n] += powers[n] << np.int32(23)


@numba.njit(
    numba.void(
        numba.float32[::1], _FLOATS, numba.int32[::1], numba.int32[::1], numba.float32[::1], numba.int64,
        numba.float32[::1], numba.float64[::1],
    ),
    nogil=True,
    cache=True,
    error_model="numpy",
    fastmath={"reassoc", "contract"},
)  # fmt: skip
def _scores(hidden: Any, outputs: Any, left: Any, right: Any, sigmoid: Any, loss: Any, values: Any, nodes: Any) -> None:
    """The probability of every label, in nodes[:labels]. fastText adds 1e-5 within each logarithm of a probability."""
    smooth, n_labels = 1e-5, len(values)
    for label in range(n_labels):
        values[label] = 0
    for z in range(len(hidden)):  # all labels at once: a product for each of them would cost a sum across lanes
        weight = hidden[z]
        for label in range(n_labels):
            values[label] += weight * outputs[z, label]
    if loss == 0:
        for node in range(n_labels - 1):
            values[node] = -values[node]
        _exponentials(values, n_labels - 1)
        root = len(left) - 1
        nodes[root] = 1.0
        for node in range(root, n_labels - 1, -1):
            sure = np.float64(np.float32(1.0) / (np.float32(1.0) + values[node - n_labels]))
            nodes[left[node]] = nodes[node] * (1.0 - sure + smooth)
            nodes[right[node]] = nodes[node] * (sure + smooth)
    elif loss == 1:
        most = np.float32(-np.inf)
        for label in range(n_labels):
            most = max(most, values[label])
        for label in range(n_labels):
            values[label] -= most
        _exponentials(values, n_labels)
        total = 0.0
        for label in range(n_labels):
            total += values[label]
        for label in range(n_labels):
            nodes[label] = values[label] / total + smooth
    else:
        for label in range(n_labels):
            value = values[label]
            if value < -8:
                nodes[label] = smooth
            elif value > 8:
                nodes[label] = 1 + smooth
            else:
                nodes[label] = sigmoid[np.int64((value + np.float32(8)) * np.float32(512) / np.float32(8) / np.float32(2))] + smooth


@numba.njit(numba.void(numba.float64[::1], numba.int64, numba.int32[::1], numba.float32[::1]), nogil=True, cache=True)
def _best(nodes: Any, n_labels: Any, labels: Any, scores: Any) -> None:
    """The most probable labels, best first; of two alike the later one, as fastText's heap leaves it."""
    k = len(labels)
    filled = 0
    for label in range(n_labels):
        value = np.float32(nodes[label])
        if filled == k and value < scores[k - 1]:
            continue
        place = min(filled, k - 1)
        filled = min(filled + 1, k)
        while place > 0 and scores[place - 1] <= value:
            scores[place], labels[place] = scores[place - 1], labels[place - 1]
            place -= 1
        scores[place], labels[place] = value, label


@numba.njit(numba.void(numba.float32[::1], _FLOATS, numba.int64, numba.int64), nogil=True, cache=True, inline="always")
def _add(hidden: Any, inputs: Any, row: Any, lanes: Any) -> None:
    for block in range(lanes):
        for z in range(LANES):
            hidden[block * LANES + z] += inputs[row, block * LANES + z]


@numba.njit(numba.boolean(numba.uint8[::1], numba.int64), nogil=True, cache=True)
def _is_label(word: Any, size: Any) -> Any:
    """Whether the word that begins at word[1] begins with "__label__"."""
    if size < 9 or word[3] != 108 or word[4] != 97 or word[5] != 98 or word[6] != 101 or word[7] != 108:
        return False
    return word[1] == 95 and word[2] == 95 and word[8] == 95 and word[9] == 95


@numba.njit(
    numba.void(
        _BYTES, _OFFSETS, numba.int64[::1], _BYTES, _OFFSETS, numba.int32[::1],
        numba.uint64[::1], numba.int64[::1],
        _FLOATS, _FLOATS, numba.int32[::1], numba.int32[::1], numba.float32[::1],
        numba.uint8[::1], _FLOATS, numba.int32[:, ::1], _FLOATS, _FLOATS,
    ),
    nogil=True,
    cache=True,
    error_model="numpy",
)  # fmt: skip
def _predict(
    data: Any, offsets: Any, shape: Any, blob: Any, starts: Any, slots: Any,
    bits: Any, places: Any,
    inputs: Any, outputs: Any, left: Any, right: Any, sigmoid: Any,
    word: Any, sums: Any, labels: Any, scores: Any, every: Any,
) -> None:  # fmt: skip
    prefix, min_n, max_n, word_ngrams, bucket_count, eos, loss = shape[0], shape[1], shape[2], shape[3], shape[4], shape[6], shape[7]
    buckets = np.uint32(bucket_count)
    words = shape[8]
    dim, n_labels = inputs.shape[1], outputs.shape[1]
    lanes = dim // LANES
    summed = len(sums) > 0
    hidden = np.empty(dim, np.float32)
    values, nodes = np.empty(n_labels, np.float32), np.empty(max(len(left), n_labels), np.float64)
    # A remembered word: where its bytes lie in `data`, how many they are, where its rows lie in `pool`, how many they are; with
    # `sums`, their sum.
    cache = len(sums) if summed else CACHE
    seen_at, seen_size = np.empty(cache, np.int64), np.zeros(cache, np.int64)
    seen_rows, seen_count = np.empty(cache, np.int64), np.empty(cache, np.int64)
    room = 2 + (CACHED_WORD + 2) * (max_n + 1)  # rows of a word, at most
    pool, pool_end = np.empty(max(POOL, room), np.int32), 0
    hashes = np.empty(prefix // 2 + 2 if word_ngrams > 1 else 0, np.int64)  # of a text's words, as fastText's int32
    slot_mask, cache_mask = np.uint64(len(slots) - 1), np.uint64(cache - 1)
    word[0] = 60  # "<"
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        if end - at > prefix:
            end = at + prefix
            while end > at and (data[end] & 0xC0) == 0x80:
                end -= 1
        for z in range(dim):
            hidden[z] = 0
        count = 0
        tokens = 0  # words of any kind: a text without one has no language
        held = 0  # words in `hashes`
        while at <= end:
            while at < end and _blank(data[at]):
                at += 1
            closing = at >= end  # the end of the line is the word "</s>"
            size = 0
            value = np.uint64(0xCBF29CE484222325)
            high = np.uint8(0)
            first = at
            if closing:
                if tokens == 0:
                    break
            else:
                while at < end:
                    byte = data[at]
                    if _blank(byte):
                        break
                    value = (value ^ np.uint64(byte)) * np.uint64(0x100000001B3)
                    size += 1
                    word[size] = byte
                    high |= byte
                    at += 1
                tokens += 1
                # "</s>" within a text ends it: fastText reads no further
                if size == 4 and word[1] == 60 and word[2] == 47 and word[3] == 115 and word[4] == 62:
                    closing = True
            if closing:
                if eos >= 0:
                    _add(hidden, inputs, np.int64(eos), lanes)
                    count += 1
            else:
                value ^= value >> np.uint64(29)
                slot = np.int64((value >> np.uint64(32)) & cache_mask)
                known = seen_size[slot] == size
                if known:
                    other = seen_at[slot]
                    for z in range(size):
                        if data[other + z] != word[z + 1]:
                            known = False
                            break
                if known:
                    begin_rows, found = seen_rows[slot], seen_count[slot]
                else:
                    if pool_end + room > len(pool):
                        pool_end = 0
                        for z in range(cache):
                            seen_size[z] = 0
                    begin_rows = pool_end
                    number = np.int64(-1)
                    probe = value & slot_mask
                    while slots[probe] >= 0:
                        candidate = np.int64(slots[probe])
                        begin = starts[candidate]
                        if starts[candidate + 1] - begin == size:
                            same = True
                            for z in range(size):
                                if blob[begin + z] != word[z + 1]:
                                    same = False
                                    break
                            if same:
                                number = candidate
                                break
                        probe = (probe + np.uint64(1)) & slot_mask
                    if number >= words or (number < 0 and _is_label(word, size)):
                        continue  # a label in the text is no word of it
                    if number >= 0:
                        pool[pool_end] = number
                        pool_end += 1
                    word[size + 1] = 62  # ">"
                    whole = size + 2
                    for i in range(whole if max_n > 0 else 0):
                        if (word[i] & 0xC0) == 0x80:
                            continue
                        gram = np.uint32(2166136261)
                        j = i
                        n = 1
                        while j < whole and n <= max_n:
                            gram = np.uint32((gram ^ _extended(word[j])) * np.uint32(16777619))
                            j += 1
                            if high >= 128:
                                while j < whole and (word[j] & 0xC0) == 0x80:
                                    gram = np.uint32((gram ^ _extended(word[j])) * np.uint32(16777619))
                                    j += 1
                            if n >= min_n and not (n == 1 and (i == 0 or j == whole)):
                                row = _row_of(np.int64(gram % buckets), shape, bits, places, words)
                                if row >= 0:
                                    pool[pool_end] = row
                                    pool_end += 1
                            n += 1
                        if size > CACHED_WORD:  # a long word is added as it goes
                            for z in range(begin_rows, pool_end):
                                _add(hidden, inputs, np.int64(pool[z]), lanes)
                            count += pool_end - begin_rows
                            pool_end = begin_rows
                    found = pool_end - begin_rows
                    if size <= CACHED_WORD:
                        seen_at[slot], seen_size[slot], seen_rows[slot], seen_count[slot] = first, size, begin_rows, found
                        if summed:
                            for z in range(dim):
                                sums[slot, z] = 0
                            for z in range(begin_rows, pool_end):
                                _add(sums[slot], inputs, np.int64(pool[z]), lanes)
                            pool_end = begin_rows
                if summed and size <= CACHED_WORD:
                    _add(hidden, sums, slot, lanes)
                else:
                    for z in range(begin_rows, begin_rows + found):
                        _add(hidden, inputs, np.int64(pool[z]), lanes)
                count += found
            if word_ngrams > 1:
                gram = np.uint32(2166136261)
                if closing:
                    for byte in (60, 47, 115, 62):
                        gram = np.uint32((gram ^ np.uint32(byte)) * np.uint32(16777619))
                else:
                    for z in range(size):
                        gram = np.uint32((gram ^ _extended(word[z + 1])) * np.uint32(16777619))
                hashes[held] = np.int64(np.int32(gram))
                held += 1
            if closing:
                break
        for begin in range(held):
            mixed = np.uint64(hashes[begin])
            for z in range(begin + 1, min(held, begin + word_ngrams)):
                mixed = mixed * np.uint64(116049371) + np.uint64(hashes[z])
                row = _row_of(np.int64(mixed % np.uint64(bucket_count)), shape, bits, places, words)
                if row >= 0:
                    count += 1
                    _add(hidden, inputs, row, lanes)
        if count == 0 or tokens == 0:
            continue
        share = np.float32(1.0 / count)
        for z in range(dim):
            hidden[z] *= share
        _scores(hidden, outputs, left, right, sigmoid, loss, values, nodes)
        _best(nodes, n_labels, labels[text], scores[text])
        if len(every):
            for label in range(n_labels):
                every[text, label] = nodes[label]


def warm() -> None:
    """Compiles nothing that the signatures have not compiled at import; here for the common list of kernels."""
