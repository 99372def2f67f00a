"""How much of a text is words at all: what identifies its language, and what does not (addresses, numbers, emoji, code, hashes).

A word is what stands between blanks. One of ASCII alone counts when it holds letters, apostrophes, hyphens and commas, at either end
any punctuation, and is no longer than LONGEST; in any other word every letter counts, since scripts without spaces join numbers and
signs to it. Counting ends at `enough`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from codedev.kernels.characters import ALPHA, DATA, OFFSETS, TABLE, properties
from codedev.kernels.segment import decoded

LONGEST = 40  # bytes


def word_letters(data: np.ndarray, offsets: np.ndarray, enough: int) -> np.ndarray:
    """int64[texts]: UTF-8 bytes of the letters in words, at most about `enough`."""
    out = np.zeros(len(offsets) - 1, np.int64)
    data, offsets = data.view(), offsets.view()
    data.flags.writeable = offsets.flags.writeable = False
    _count(data, offsets, properties(), enough, out)
    return out


@numba.njit(numba.void(DATA, OFFSETS, TABLE, numba.int64, numba.int64[::1]), nogil=True, cache=True)
def _count(data: Any, offsets: Any, table: Any, enough: Any, out: Any) -> None:
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        found = 0
        while at < end and found < enough:
            while at < end and data[at] <= 32:
                at += 1
            first, letters, foreign, broken = at, 0, 0, False
            gap, plain = False, True  # a sign since the last letter; no sign but ' - , since then
            while at < end and data[at] > 32 and found + foreign < enough:
                byte = data[at]
                if byte >= 0x80:
                    code, after = decoded(data, at, end)
                    if table[code] & np.uint32(ALPHA):
                        foreign += after - at
                    at = after
                    continue
                if 65 <= (byte & 0xDF) <= 90:
                    broken |= gap and letters > 0 and not plain
                    letters += 1
                    gap, plain = False, True
                else:
                    broken |= 48 <= byte <= 57 or byte == 95
                    gap = True
                    plain &= byte == 39 or byte == 44 or byte == 45
                at += 1
            if foreign > 0 or not (broken or at - first > LONGEST):
                found += letters + foreign
        out[text] = found
