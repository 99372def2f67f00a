"""One pass over a text into words and lines, and what quality filters count of them.

Input is the pair of buffers of an Arrow large_string array: `data` uint8[bytes] and `offsets` int64[documents + 1], and a word definition
for each document (words.py). Bytes that are no UTF-8 count as U+FFFD; nothing is read outside a document. Output is
int64[documents, len(COLUMNS)]. Words and lines beyond the first LIMIT of a document are counted, but not searched for repetition: scratch
memory is at most 250 MB whatever a document holds.

Lines are what `str.splitlines` makes for the first group of COLUMNS (Gopher, C4), parted by "\\n" alone for the others.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import ALNUM, ALPHA, BREAK, DATA, DIGIT, OFFSETS, SPACE, SYMBOL, TABLE, TERMINAL, properties
from codedev.kernels.repetition import LINE_COLUMNS, NGRAM_COLUMNS, POWERS, joined_repeats, line_repeats, ngram_repeats
from codedev.kernels.words import CHUNK, FACTOR, SEED, split_scripts, split_spacy, word_hash

LIMIT = 1 << 21
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Rae et al. 2021, A.1.1
SHORT_LINE = 30  # characters: FineWeb (arXiv 2406.17557, §3.6)
SKIP = -1  # as a document's word definition: leave its row zero

_COUNTED = (
    "chars",
    "words",
    "real_words",  # with a character that is no punctuation
    "real_word_chars",
    "alpha_words",  # with a letter
    "stop_words",  # distinct ones of STOP_WORDS, as they are written
    "hashes",  # "#"
    "ellipses",  # "..." or "…"
    "split_lines",
    "bullet_lines",  # that start with "•" or "-"
    "ellipsis_lines",  # that end with an ellipsis
    "newlines",
    "full_lines",  # with a visible character; so are the next two
    "terminal_lines",  # whose last character ends a sentence
    "short_lines",  # of at most SHORT_LINE characters
)
COLUMNS = (*_COUNTED, *LINE_COLUMNS, *NGRAM_COLUMNS)
_PAIR: Any = numba.types.UniTuple(numba.int64, 2)  # type: ignore[no-untyped-call]
_LINES_AT, _NGRAMS_AT = len(_COUNTED), len(_COUNTED) + len(LINE_COLUMNS)


@functools.lru_cache(4096)
def _stop_hashes(stop_words: tuple[str, ...]) -> np.ndarray:
    """uint64[words + 1]: their hashes, and bits of which the first six bits of these are the places. At most 63 words."""
    hashes = [word_hash(word) for word in stop_words]
    return np.array([*hashes, functools.reduce(int.__or__, (1 << (value >> 58) for value in hashes))], np.uint64)


def segment_stats(
    data: np.ndarray,
    offsets: np.ndarray,
    definitions: np.ndarray,
    *,
    ngrams: bool,
    stop_words: Sequence[tuple[str, ...]] = (STOP_WORDS,),
    stop_list: np.ndarray | None = None,
) -> np.ndarray:
    """int64[documents, len(COLUMNS)]. `definitions` int8[documents]: an index of words.DEFINITIONS, or SKIP. Without `ngrams`, the columns
    of NGRAM_COLUMNS are zeros, at twice the speed. `stop_words`: lists of at most 63; `stop_list` int[documents]: each
    document's, the first by default. A list costs a call, 0.1 ms."""
    out = np.zeros((len(offsets) - 1, len(COLUMNS)), np.int64)
    definitions = np.ascontiguousarray(definitions, np.int8)
    for number, words in enumerate(stop_words):
        of_list = definitions if stop_list is None else np.where(stop_list == number, definitions, np.int8(SKIP))
        _segment(data, offsets, of_list, properties(), _stop_hashes(words), ngrams, LIMIT, out)
    return out


@numba.njit(_PAIR(DATA, numba.int64, numba.int64), nogil=True, cache=True, inline="always")  # type: ignore[untyped-decorator]
def decoded(data: Any, at: Any, end: Any) -> Any:
    """(code point, where the next one starts) of the byte at `at`, which is no ASCII; U+FFFD for what is no UTF-8."""
    byte = np.int64(data[at])
    size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
    if byte < 0xC0 or at + size > end:
        return np.int64(0xFFFD), at + 1
    code = byte & (0xFF >> (size + 1))
    for step in range(1, size):
        code = (code << 6) | np.int64(data[at + step] & 0x3F)
    return (code if code < 0x110000 else np.int64(0xFFFD)), at + size


@numba.njit(
    numba.void(
        DATA,
        numba.int64,
        numba.int64,
        TABLE,
        numba.types.Array(numba.uint64, 1, "C"),
        numba.types.Array(numba.int64, 1, "C"),
    ),
    nogil=True,
    cache=True,
)
def _outer_lines(data: Any, start: Any, end: Any, table: Any, outer: Any, trimmed: Any) -> None:
    """Hashes of the first and the last line of the stripped text, to `outer`; the characters stripped at the end, to `trimmed[0]`."""
    first = at = start
    while at < end:
        first = at
        if data[at] < 0x80:
            code, at = np.int64(data[at]), at + 1
        else:
            code, at = decoded(data, at, end)
        if not table[code] & SPACE:
            break
    last, count = end, 0
    while last > first:
        at = last - 1
        while at > first and data[at] & 0xC0 == 0x80 and last - at < 4:
            at -= 1
        code = np.int64(data[at]) if data[at] < 0x80 else decoded(data, at, last)[0]
        if not table[code] & SPACE:
            break
        last = at
        count += code != 10
        if code == 10:
            count = 0
    trimmed[0] = count
    for which in range(2):
        at = first
        if which == 1:
            at = last
            while at > first and data[at - 1] != 10:
                at -= 1
        value = SEED
        while at < last and data[at] != 10:
            if data[at] < 0x80:
                code, at = np.int64(data[at]), at + 1
            else:
                code, at = decoded(data, at, end)
            value = value * FACTOR + np.uint64(code + 1)
        outer[which] = value


@numba.njit(
    numba.void(
        DATA,
        OFFSETS,
        numba.types.Array(numba.int8, 1, "C"),
        TABLE,
        numba.types.Array(numba.uint64, 1, "C"),
        numba.boolean,
        numba.int64,
        numba.types.Array(numba.int64, 2, "C"),
    ),
    nogil=True,
    cache=True,
)
def _segment(data: Any, offsets: Any, definitions: Any, table: Any, stops: Any, ngrams: Any, limit: Any, out: Any) -> None:
    longest = np.int64(0)
    for row in range(len(offsets) - 1):
        if definitions[row] >= 0:
            longest = max(longest, offsets[row + 1] - offsets[row])
    # Pages of scratch that no document reaches are never touched, so the operating system never provides them.
    room = min(longest, limit) + 1
    hashes, lengths = np.empty(room, np.uint64), np.empty(room, np.int32)
    line_hashes, line_lengths, full = np.empty(room, np.uint64), np.empty(room, np.int32), np.empty(room, np.int8)
    sums, chars_before = np.empty(room + 1, np.uint64), np.empty(room + 1, np.int64)
    places, slots, level = np.empty(room, np.int32), np.empty(room, np.int32), np.zeros(room + 1, np.int8)
    size: Any = 64
    while size < 2 * room:
        size *= 2
    keys, stamps, counts, firsts = np.empty(size, np.uint64), np.zeros(size, np.int32), np.empty(size, np.int32), np.empty(size, np.int32)
    chunk, ends = np.empty(CHUNK, np.int32), np.empty(CHUNK + 1, np.int32)
    outer, trimmed = np.zeros(2, np.uint64), np.zeros(1, np.int64)
    powers = np.empty(POWERS, np.uint64)
    powers[0] = np.uint64(1)
    for power in range(1, POWERS):
        powers[power] = powers[power - 1] * FACTOR
    stamp = np.int32(0)
    for row in range(len(offsets) - 1):
        definition = definitions[row]
        if definition < 0:
            continue
        at, end = offsets[row], offsets[row + 1]
        words = alpha_words = real_words = real_chars = stop_bits = 0
        chars = marks = ellipses = dots = 0
        length = 0
        odd: Any = False  # of the word; whether it may have to be cut
        value, seen = SEED, np.uint32(0)
        code: Any  # a code point, in numba's integers
        lines = fulls = terminals = shorts = line_chars = 0  # parted by "\n"
        line_value, blank, last = SEED, True, np.uint32(0)
        split_lines = bullets = trailing = 0
        opening: Any
        tail: Any
        opening, tail = np.int64(0), np.int64(0)  # of the line: its first visible character; full stops at its end, 3 for "…"
        open_line = after_return = False
        while True:
            if at == end:
                code, bits = np.int64(-1), np.uint32(SPACE)  # closes the last word
            else:
                if data[at] < 0x80:
                    code = np.int64(data[at])
                    at += 1
                else:
                    code, at = decoded(data, at, end)
                chars += 1
                bits = table[code]
            if length and (bits & SPACE or (length == CHUNK and definition != 0)):
                count, first = 1, 0
                if odd and definition == 1:
                    count = split_spacy(chunk, length, table, ends)
                elif odd:
                    count = split_scripts(chunk, length, table, ends)
                for word in range(count):
                    if odd:
                        length = ends[word] - first
                        value, seen = SEED, np.uint32(0)
                        for place in range(first, ends[word]):
                            value = value * FACTOR + np.uint64(chunk[place] + 1)
                            seen |= table[chunk[place]] ^ np.uint32(SYMBOL)
                        first = ends[word]
                    if words < room:
                        hashes[words], lengths[words] = value, length
                    words += 1
                    alpha_words += (seen & ALPHA) != 0
                    if seen & SYMBOL:
                        real_words += 1
                        real_chars += length
                    # Seven in eight words are told from stop words by six bits of their hash: the last entry marks those of stop words.
                    if (stops[len(stops) - 1] >> (value >> np.uint64(58))) & np.uint64(1):
                        for stop in range(len(stops) - 1):
                            if stops[stop] == value:
                                stop_bits |= 1 << stop
                length, odd, value, seen = 0, False, SEED, np.uint32(0)
            if bits & SPACE:
                dots = 0
                if code < 0:
                    break
            else:
                if definition != 0:
                    chunk[length] = code
                    odd |= not bits & (ALPHA | DIGIT) if definition == 1 else code >= 0xE01
                length += 1
                value = value * FACTOR + np.uint64(code + 1)
                seen |= bits ^ np.uint32(SYMBOL)
                if code == 46:
                    dots += 1
                    ellipses += dots % 3 == 0
                    tail = dots
                else:
                    dots = 0
                    tail = 0
                    marks += code == 35
                    if code == 0x2026:
                        ellipses += 1
                        tail = 3
                if opening == 0:
                    opening = code
                blank = False
            if bits & BREAK:
                if code != 10 or not after_return:
                    split_lines += 1
                    bullets += opening == 45 or opening == 0x2022
                    trailing += tail >= 3
                after_return = code == 13
                opening, tail = np.int64(0), np.int64(0)
                open_line = False
                if code == 10:
                    if lines < room:
                        line_hashes[lines], line_lengths[lines], full[lines] = line_value, line_chars, not blank
                    lines += 1
                    if not blank:
                        fulls += 1
                        terminals += (last & TERMINAL) != 0
                        shorts += line_chars <= SHORT_LINE
                    line_value, line_chars, blank, last = SEED, 0, True, np.uint32(0)
                    continue
            else:
                after_return = False
                open_line = True
            line_value = line_value * FACTOR + np.uint64(code + 1)
            line_chars += 1
            last = bits
            if bits & ALNUM:
                # The rest of a run of ASCII letters and digits, of which four in five characters are, needs less.
                stop = min(end, at + CHUNK - length) if definition != 0 else end
                start = at
                while at < stop and data[at] < 0x80:
                    bits = table[data[at]]
                    if not bits & ALNUM:
                        break
                    letter = np.uint64(data[at]) + np.uint64(1)
                    value = value * FACTOR + letter
                    line_value = line_value * FACTOR + letter
                    seen |= bits
                    last = bits
                    if definition != 0:
                        chunk[length + at - start] = data[at]
                    at += 1
                if at > start:
                    seen |= np.uint32(SYMBOL)  # none of them is one
                    length += at - start
                    line_chars += at - start
                    chars += at - start
        if open_line:
            split_lines += 1
            bullets += opening == 45 or opening == 0x2022
            trailing += tail >= 3
        if lines < room:
            line_hashes[lines], line_lengths[lines], full[lines] = line_value, line_chars, not blank
        if not blank:
            fulls += 1
            terminals += (last & TERMINAL) != 0
            shorts += line_chars <= SHORT_LINE
        distinct = 0
        for stop in range(len(stops) - 1):
            distinct += (stop_bits >> stop) & 1
        counted = (
            chars, words, real_words, real_chars, alpha_words, distinct, marks, ellipses,
            split_lines, bullets, trailing, lines, fulls, terminals, shorts,
        )  # fmt: skip
        for column in range(_LINES_AT):
            out[row, column] = counted[column]
        if stamp > 2_000_000_000:
            stamps[:] = 0
            stamp = np.int32(0)
        size = 64
        stored = min(lines + 1, room)
        while size < 2 * stored:
            size *= 2
        if end > offsets[row] and 32 < data[offsets[row]] < 0x80 and 32 < data[end - 1] < 0x80:
            outer[0], outer[1], trimmed[0] = line_hashes[0], line_hashes[stored - 1], 0  # nothing to strip
        else:
            _outer_lines(data, offsets[row], end, table, outer, trimmed)
        stamp = line_repeats(
            line_hashes,
            line_lengths,
            full,
            stored,
            keys,
            stamps,
            size,
            stamp,
            outer[0],
            outer[1],
            trimmed[0],
            out[row, _LINES_AT:_NGRAMS_AT],
        )
        if ngrams:
            stored = min(words, room)
            while size < 2 * stored:
                size *= 2
            grams = out[row, _NGRAMS_AT:]
            stamp = ngram_repeats(
                hashes, lengths, stored, keys, stamps, counts, firsts, size, stamp, sums, chars_before, places, slots, level, grams
            )
            stamp = joined_repeats(hashes, lengths, stored, keys, stamps, size, stamp, sums, chars_before, powers, chars, grams)


def warm() -> None:
    segment_stats(np.frombuffer(b"a", np.uint8), np.array([0, 1]), np.zeros(1, np.int8), ngrams=True)
