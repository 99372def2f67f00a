"""Where the words of texts are, by the definitions of words.py: what `segment.py` counts, as spans.

A run of non-blank characters that holds a script without spaces is cut by `split_scripts` (an ideograph is a word), any other by
`split_spacy` (punctuation is words of its own), so that a text in two languages needs no language tag. A run of more than CHUNK characters
is cut there, as in `segment.py`. Linear; 16 bytes of memory for each byte of text while it runs.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import ALNUM, CLUSTER, DATA, OFFSETS, SINGLE, SPACE, TABLE, properties
from codedev.kernels.segment import decoded
from codedev.kernels.words import CHUNK, split_scripts, split_spacy

LETTERS = 1  # a flag of a word: it holds a letter, a digit or another number


def word_spans(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(int32[words, 2]: first byte of each word in `data` and the one after it; uint8[words]: its flags; int64[documents]: words of each;
    uint8[bytes]: 1 where an ideograph or kana is) of Arrow text buffers, at most 2 GiB of them."""
    if offsets[-1] >= 1 << 31:
        raise ValueError("at most 2 GiB of text at a time")
    size = int(offsets[-1])
    spans, flags = np.empty((size, 2), np.int32), np.empty(size, np.uint8)
    counts, single = np.zeros(len(offsets) - 1, np.int64), np.zeros(size, np.uint8)
    words = _word_spans(data, offsets, properties(), spans, flags, counts, single)
    return spans[:words].copy(), flags[:words].copy(), counts, single


@numba.njit(
    numba.int64(
        DATA,
        OFFSETS,
        TABLE,
        numba.types.Array(numba.int32, 2, "C"),
        numba.types.Array(numba.uint8, 1, "C"),
        numba.types.Array(numba.int64, 1, "C"),
        numba.types.Array(numba.uint8, 1, "C"),
    ),
    nogil=True,
    cache=True,
)
def _word_spans(data: Any, offsets: Any, table: Any, spans: Any, flags: Any, counts: Any, single: Any) -> Any:
    chunk, ends, places = np.empty(CHUNK, np.int32), np.empty(CHUNK + 1, np.int32), np.empty(CHUNK + 1, np.int64)
    words = np.int64(0)
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        before = words
        length = 0
        scripts: Any = False
        while True:
            start = at
            code: Any
            if at == end:
                code, bits = np.int64(-1), np.uint32(SPACE)  # closes the last word
            else:
                if data[at] < 0x80:
                    code = np.int64(data[at])
                    at += 1
                else:
                    code, at = decoded(data, at, end)
                bits = table[code]
            if length and (bits & SPACE or length == CHUNK):
                places[length] = start
                count = split_scripts(chunk, length, table, ends) if scripts else split_spacy(chunk, length, table, ends)
                first = 0
                for word in range(count):
                    spans[words, 0], spans[words, 1] = places[first], places[ends[word]]
                    seen = np.uint32(0)
                    for place in range(first, ends[word]):
                        seen |= table[chunk[place]]
                    flags[words] = LETTERS if seen & ALNUM else 0
                    first = ends[word]
                    words += 1
                length, scripts = 0, False
            if bits & SPACE:
                if code < 0:
                    break
                continue
            if bits & SINGLE:
                single[start:at] = 1
            scripts |= (bits & (SINGLE | CLUSTER)) != 0
            chunk[length], places[length] = code, start
            length += 1
        counts[row] = words - before
    return words
