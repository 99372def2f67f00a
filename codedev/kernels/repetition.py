"""How much of a text repeats: lines, paragraphs and n-grams of words, from their hashes (Rae et al. 2021, arXiv 2112.11446, table A1).

A repeated (n+1)-gram starts with a repeated n-gram and ends with one, so level 2 alone touches every word and each further level only what
the last one left. Equal means equal in 64 bits of hash.

datatrove and others compare runs of five words and more by their characters alone: "[], []" is "[] ,[]". That knows no such short cut, and
matters where much repeats: it is done for texts that come near to any published bound.

The table of hashes is probed in place: a function that takes arrays counts references, at 20 ns a call.

The `@njit` functions here are compiled into those of `segment.py`: numba does not see that they changed, clear its cache then.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.words import FACTOR

LINE_COLUMNS = ("lines", "dup_lines", "dup_line_chars", "paragraphs", "dup_paragraphs", "dup_paragraph_chars", "dup_full_line_chars")
NGRAM_COLUMNS = ("top_2", "top_3", "top_4", "dup_5", "dup_6", "dup_7", "dup_8", "dup_9", "dup_10")  # characters
_BASE = np.uint64(0xD1342543DE82EF95)  # of the polynomials: Steele and Vigna 2021, table 6
NEAR = 12  # a text comes near when 1 / NEAR of its characters repeat; the least bound of Rae et al. is 1 / 10
POWERS = 1024  # of FACTOR that are kept
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)  # murmur3's 64-bit finaliser

HASHES = numba.types.Array(numba.uint64, 1, "C")
LENGTHS = numba.types.Array(numba.int32, 1, "C")
MARKS = numba.types.Array(numba.int8, 1, "C")
ROW = numba.types.Array(numba.int64, 1, "C")


@numba.njit(numba.uint64(numba.uint64), nogil=True, cache=True, inline="always")
def _mixed(value: Any) -> Any:
    value = (value ^ (value >> np.uint64(33))) * _MIX_1
    value = (value ^ (value >> np.uint64(33))) * _MIX_2
    return value ^ (value >> np.uint64(33))


@numba.njit(numba.uint64(numba.uint64), nogil=True, cache=True, inline="always")
def _spread(value: Any) -> Any:
    value = value * _MIX_1
    return value ^ (value >> np.uint64(32))


@numba.njit(
    numba.int32(
        HASHES, LENGTHS, MARKS, numba.int64, HASHES, LENGTHS, numba.int64, numba.int32, numba.uint64, numba.uint64, numba.int64, ROW
    ),
    nogil=True,
    cache=True,
)
def line_repeats(
    hashes: Any,
    lengths: Any,
    full: Any,
    lines: Any,
    keys: Any,
    stamps: Any,
    size: Any,
    stamp: Any,
    head: Any,
    tail: Any,
    trimmed: Any,
    row: Any,
) -> Any:
    """LINE_COLUMNS of lines parted by "\\n", to `row`; returns the last stamp used. `full` marks lines with a visible character; `head` and
    `tail` are the hashes of the first and the last of those without the text's outer white space, of which `trimmed` characters lie behind
    the last one. `size`, a power of two greater than `lines`, is how much of the table is used.

    lines are what "\\n+" parts: empty ones count at the text's ends alone; paragraphs are what "\\n\\n+" parts in the stripped text.
    """
    mask = np.uint64(size - 1)
    stamp += 1
    count = repeats = chars = full_chars = 0
    for line in range(lines):
        if lengths[line] == 0 and line != 0 and line != lines - 1:
            continue
        count += 1
        key = _mixed(hashes[line])
        place = np.int64(key & mask)
        while stamps[place] == stamp and keys[place] != key:
            place = np.int64(np.uint64(place + 1) & mask)
        if stamps[place] == stamp:
            repeats += 1
            chars += lengths[line]
            if full[line]:
                full_chars += lengths[line]
        else:
            stamps[place] = stamp
            keys[place] = key
    row[0], row[1], row[2], row[6] = count, repeats, chars, full_chars
    first, last = 0, lines - 1
    while first < lines and not full[first]:
        first += 1
    while last >= 0 and not full[last]:
        last -= 1
    stamp += 1
    count = repeats = chars = 0
    line = first
    while line <= last:
        value, length, start = np.uint64(0), 0, line
        while line <= last and lengths[line] > 0:
            own = head if line == first else tail if line == last else hashes[line]
            value = value * _BASE + own
            length += lengths[line] + 1
            line += 1
        if line > start:
            count += 1
            key = _mixed(value)
            place = np.int64(key & mask)
            while stamps[place] == stamp and keys[place] != key:
                place = np.int64(np.uint64(place + 1) & mask)
            if stamps[place] == stamp:
                repeats += 1
                chars += length - 1 - (trimmed if line > last else 0)
            else:
                stamps[place] = stamp
                keys[place] = key
        while line <= last and lengths[line] == 0:
            line += 1
    row[3], row[4], row[5] = max(count, 1), repeats, chars
    return stamp


@numba.njit(
    numba.int32(
        HASHES, LENGTHS, numba.int64, HASHES, LENGTHS, LENGTHS, LENGTHS, numba.int64, numba.int32, HASHES, ROW, LENGTHS, LENGTHS, MARKS, ROW
    ),
    nogil=True,
    cache=True,
)
def ngram_repeats(
    hashes: Any,
    lengths: Any,
    words: Any,
    keys: Any,
    stamps: Any,
    counts: Any,
    firsts: Any,
    size: Any,
    stamp: Any,
    sums: Any,
    chars: Any,
    places: Any,
    slots: Any,
    level: Any,
    row: Any,
) -> Any:
    """NGRAM_COLUMNS, to `row`; returns the last stamp used. top_n: characters of the most frequent n-gram (the first of several), with one
    space between two words, times how often it occurs; dup_n: characters of words in n-grams that occurred before, read from left to right
    without overlap. The arrays after `words` are scratch: a table of `size`, a power of two greater than `words`; sums uint64[words + 1],
    chars int64[words + 1], places and slots int32[words], level int8[words + 1], zeros before and after."""
    for column in range(9):
        row[column] = 0
    if words < 2:
        return stamp
    mask = np.uint64(size - 1)
    sums[0] = np.uint64(0)
    chars[0] = 0
    for word in range(words):
        sums[word + 1] = sums[word] * _BASE + hashes[word]
        chars[word + 1] = chars[word] + lengths[word]
    power = _BASE
    # Most pairs occur once. A filter of 16 bits a word, free of branches, leaves few of them for the table: in `counts` are its bits seen
    # once, in `firsts` those seen twice.
    bits = size // 4
    for entry in range(bits):
        counts[entry] = firsts[entry] = 0
    places_mask = np.uint64(8 * size - 1)
    for at in range(words - 1):
        place = np.int64(_spread(sums[at + 2] - sums[at] * (_BASE * _BASE)) & places_mask)
        bit = np.int32(1) << np.int32(place & 31)
        firsts[place >> 5] |= counts[place >> 5] & bit
        counts[place >> 5] |= bit
    left = 0  # n-grams that may repeat
    for at in range(words - 1):
        place = np.int64(_spread(sums[at + 2] - sums[at] * (_BASE * _BASE)) & places_mask)
        places[left] = at
        left += (firsts[place >> 5] >> np.int32(place & 31)) & 1
    for n in range(2, 11):
        if words < n:
            break
        power = power * _BASE
        if n > 2:
            kept = 0
            for index in range(left):
                at = places[index]
                if at + n <= words and level[at] == n - 1 and level[at + 1] == n - 1:
                    places[kept] = at
                    kept += 1
            left = kept
        best, best_at = 1, 0
        if left > 0:
            stamp += 1
            for index in range(left):
                at = places[index]
                key = _mixed(sums[at + n] - sums[at] * power)
                place = np.int64(key & mask)
                while stamps[place] == stamp and keys[place] != key:
                    place = np.int64(np.uint64(place + 1) & mask)
                if stamps[place] != stamp:
                    stamps[place] = stamp
                    keys[place] = key
                    counts[place] = 1
                    firsts[place] = at
                else:
                    counts[place] += 1
                slots[at] = place
            kept = 0
            for index in range(left):
                at = places[index]
                count = counts[slots[at]]
                if count >= 2:
                    level[at] = n
                    places[kept] = at
                    kept += 1
                    first = firsts[slots[at]]
                    if count > best or (count == best and first < best_at):
                        best, best_at = count, first
            left = kept
        if n <= 4:
            row[n - 2] = (chars[best_at + n] - chars[best_at] + n - 1) * best
        else:
            repeated = free = 0
            for index in range(left):
                at = places[index]
                if at < free:
                    continue
                if firsts[slots[at]] < 0:
                    repeated += chars[at + n] - chars[at]
                    free = at + n
                else:
                    firsts[slots[at]] = -1  # seen
            row[n - 2] = repeated
    for at in range(words):
        level[at] = 0
    return stamp


@numba.njit(numba.uint64(HASHES, numba.int64), nogil=True, cache=True)
def _power(powers: Any, exponent: Any) -> Any:
    """FACTOR to the power."""
    if exponent < len(powers):
        return powers[exponent]
    value, base = np.uint64(1), FACTOR
    while exponent:
        if exponent & 1:
            value = value * base
        base = base * base
        exponent >>= 1
    return value


@numba.njit(
    numba.int32(HASHES, LENGTHS, numba.int64, HASHES, LENGTHS, numba.int64, numba.int32, HASHES, ROW, HASHES, numba.int64, ROW),
    nogil=True,
    cache=True,
)
def joined_repeats(
    hashes: Any,
    lengths: Any,
    words: Any,
    keys: Any,
    stamps: Any,
    size: Any,
    stamp: Any,
    sums: Any,
    chars: Any,
    powers: Any,
    text: Any,
    row: Any,
) -> Any:
    """dup_5 to dup_10 of NGRAM_COLUMNS once more, of texts that come near: n-grams are equal when their characters are, wherever they are
    parted. `text` is the characters of the text; `chars` int64[words + 1] as `ngram_repeats` left them; `sums` scratch, `powers`
    uint64[POWERS] those of FACTOR. Returns the last stamp used."""
    near = False
    for column in range(3, 9):
        near |= row[column] * NEAR >= text
    if not near or words < 5:
        return stamp
    sums[0] = np.uint64(0)
    for word in range(words):
        sums[word + 1] = sums[word] * _power(powers, np.int64(lengths[word])) + hashes[word]
    mask = np.uint64(size - 1)
    for n in range(5, 11):
        stamp += 1
        at = repeated = 0
        while at + n <= words:
            length = chars[at + n] - chars[at]
            key = _mixed(sums[at + n] - sums[at] * _power(powers, length))
            place = np.int64(key & mask)
            while stamps[place] == stamp and keys[place] != key:
                place = np.int64(np.uint64(place + 1) & mask)
            if stamps[place] == stamp:
                repeated += length
                at += n
            else:
                stamps[place] = stamp
                keys[place] = key
                at += 1
        row[n - 2] = repeated
    return stamp
