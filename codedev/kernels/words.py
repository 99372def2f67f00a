"""Where a run of non-blank characters is cut into words: spaCy's English rules in brief, and rules for scripts that write no spaces.

Both take a chunk: the code points between two spaces, at most CHUNK of them, so that work is linear in the text whatever a chunk holds.
They write where each word of it ends, and return how many there are. All is inlined in `segment.py`: a call that takes arrays counts
references, at 20 ns for each array.

    spacy    prefixes and suffixes (quotes, brackets, punctuation, 's, n't, full stops after a lower-case letter) are words of their own;
             infixes (hyphens, colons, slashes and commas between letters, full stops between sentences, ellipses) part a word.
             Abbreviations that spaCy lists one by one stay whole where the rules leave them whole ("e.g.", "U.K.").
    scripts  an ideograph is a word, so is a run of hiragana, a run of katakana, a cluster (a letter with its marks) of Thai, Lao, Khmer,
             Myanmar and Tibetan, and a wide punctuation mark; the rest is as it stands. No dictionary: a Chinese word is one to two
             ideographs, a Thai one several clusters, and thresholds for these languages have to know it.

The `@njit` functions here are compiled into those of `segment.py`: numba does not see that they changed, clear its cache then.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import (
    ALPHA,
    CLUSTER,
    DIGIT,
    INFIX,
    LOWER,
    MARK,
    PREFIX,
    PUNCTUATION,
    QUOTE,
    SINGLE,
    SPACY_ALPHA,
    SUFFIX,
    TABLE,
    UPPER,
)

CHUNK = 4096  # code points
DEFINITIONS = ("whitespace", "spacy-like", "scripts")

SEED = np.uint64(0)
# A word's hash is a polynomial in its characters, so that words put together have a hash that theirs give (repetition.py).
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio

_CHUNK = numba.types.Array(numba.int32, 1, "C")
_SPLIT = numba.int64(_CHUNK, numba.int64, TABLE, _CHUNK)


def word_hash(word: str) -> int:
    """What the kernels make of a word; in Python's integers."""
    value = int(SEED)
    for character in word:
        value = (value * int(FACTOR) + ord(character) + 1) % (1 << 64)
    return value


@numba.njit(_SPLIT, nogil=True, cache=True, inline="always")
def split_scripts(chunk: Any, length: Any, table: Any, ends: Any) -> Any:
    words = 0
    start, before = 0, 0  # of the word; the class of its characters
    for at in range(length):
        code = chunk[at]
        bits = table[code]
        if bits & MARK:
            continue  # with what it marks
        if bits & CLUSTER:
            kind, alone = 4, True
        elif bits & SINGLE:
            kana = 2 if 0x3041 <= code <= 0x309F else 3 if 0x30A0 <= code <= 0x30FF or 0xFF66 <= code <= 0xFF9F else 0
            kind, alone = (kana, False) if kana else (1, True)
        elif bits & PUNCTUATION and code >= 0x3000:
            kind, alone = 5, True
        else:
            kind, alone = 6, False
        if at > start and (alone or kind != before):
            ends[words] = at
            words += 1
            start = at
        before = kind
    ends[words] = length
    return words + 1


@numba.njit(_SPLIT, nogil=True, cache=True, inline="always")
def split_spacy(chunk: Any, length: Any, table: Any, ends: Any) -> Any:
    words = 0
    first, last = 0, length
    address = False  # an address has no infixes
    for at in range(length - 2):
        if chunk[at] == 58 and chunk[at + 1] == 47 and chunk[at + 2] == 47:
            address = True
            break
    # Prefixes
    while last - first > 1:
        code = chunk[first]
        if code == 46:
            end = first
            while end < last and chunk[end] == 46:
                end += 1
            if end - first < 2:
                break
            ends[words] = end
            words += 1
            first = end
            continue
        if not table[code] & PREFIX or (code == 43 and table[chunk[first + 1]] & DIGIT):
            break
        ends[words] = first + 1
        words += 1
        first += 1
    # Suffixes: found from the end, emitted after what stands before them
    middle = last
    while middle - first > 1:
        code, previous = chunk[middle - 1], chunk[middle - 2]
        bits = table[previous]
        if code == 46:
            start = middle
            while start > first and chunk[start - 1] == 46:
                start -= 1
            if middle - start >= 2:
                middle = start
            elif (
                bits & (LOWER | DIGIT | SUFFIX)
                or previous == 37
                or previous == 45
                or previous == 43
                or (bits & UPPER and middle - first > 2 and table[chunk[middle - 3]] & UPPER)
            ):
                middle -= 1
            else:
                break
        elif (code == 115 or code == 83) and (previous == 39 or previous == 0x2019):
            middle -= 2
        elif code == 116 and (previous == 39 or previous == 0x2019) and middle - first > 3 and chunk[middle - 3] == 110:
            middle -= 3
            break
        elif table[code] & SUFFIX or (code == 43 and bits & DIGIT):
            middle -= 1
        else:
            break
    # What is left, cut at infixes
    start = first
    if not address:
        at = first + 1
        while at < middle - 1:
            code = chunk[at]
            here, left, right = table[code], table[chunk[at - 1]], table[chunk[at + 1]]
            if here & ALPHA or here & DIGIT:
                at += 1
                continue
            cut, width = False, 1
            if code == 46 and chunk[at + 1] == 46:
                end = at
                while end < middle and chunk[end] == 46:
                    end += 1
                width = end - at
                cut = True
            elif here & INFIX or (
                (code == 43 or code == 45 or code == 42 or code == 94) and left & DIGIT and (right & DIGIT or chunk[at + 1] == 45)
            ):
                cut = True
            elif code == 46:
                cut = (left & (LOWER | QUOTE)) != 0 and (right & (UPPER | QUOTE)) != 0
            elif code == 44:
                cut = (left & SPACY_ALPHA) != 0 and (right & SPACY_ALPHA) != 0
            elif (code == 45 or code == 126 or code == 0x2013 or code == 0x2014) and left & (SPACY_ALPHA | DIGIT):
                end = at + 1
                if code == 45:
                    while end < middle and chunk[end] == 45 and end - at < 3:
                        end += 1
                if end < middle and table[chunk[end]] & SPACY_ALPHA:
                    cut, width = True, end - at
            elif code == 58 or code == 60 or code == 62 or code == 61 or code == 47:
                cut = (left & (SPACY_ALPHA | DIGIT)) != 0 and (right & SPACY_ALPHA) != 0
            if cut and at > start:
                ends[words] = at
                words += 1
                ends[words] = at + width
                words += 1
                start = at + width
                at = start
            else:
                at += width
    if middle > start:
        ends[words] = middle
        words += 1
    # The suffixes, in the order of the text
    at = middle
    while at < last:
        code, end = chunk[at], at + 1
        if code == 46:
            while end < last and chunk[end] == 46:
                end += 1
        elif (code == 39 or code == 0x2019) and end < last and (chunk[end] == 115 or chunk[end] == 83):
            end += 1
        elif code == 110 and at + 2 < last and (chunk[at + 1] == 39 or chunk[at + 1] == 0x2019):
            end += 2
        ends[words] = end
        words += 1
        at = end
    return words
