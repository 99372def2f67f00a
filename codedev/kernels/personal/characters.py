"""Small tests on bytes that the finders of personal data share. `low` and `high` bound the document: nothing is read outside.

Every function is compiled into its caller; none allocates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numba
import numpy as np


@numba.njit()
def is_digit(byte: Any) -> Any:
    return bool(48 <= byte <= 57)


@numba.njit()
def is_letter(byte: Any) -> Any:
    """Of ASCII."""
    return bool(65 <= (byte & 0xDF) <= 90)


@numba.njit()
def is_word(byte: Any) -> Any:
    """ASCII letter, digit or underscore. Bytes of other scripts are none: Chinese stands beside a number without a blank."""
    return bool(48 <= byte <= 57 or 65 <= (byte & 0xDF) <= 90 or byte == 95)


@numba.njit()
def begins(data: Any, low: int, at: int) -> Any:
    """Whether a word or number can begin here: nothing of a word before, no decimal point, no dash of a longer token."""
    if at == low:
        return True
    before = data[at - 1]
    if is_word(before):
        return False
    if before in (45, 46, 44) and at - 1 > low:  # - . ,
        return not is_word(data[at - 2]) and not (before == 46 and is_digit(data[at]) and data[at - 2] != 46)  # -.002.046, a drawing's
    return True


@numba.njit()
def ends(data: Any, high: int, end: int) -> Any:
    """Whether a word or number can end here: no more of a word, and no decimals."""
    if end >= high:
        return True
    after = data[end]
    if is_word(after):
        return False
    if after in (45, 46, 44) and end + 1 < high:
        return not is_digit(data[end + 1])
    return True


@numba.njit()
def lower(byte: Any) -> int:
    """ASCII letters in lower case, all else as it is."""
    return int(byte) + 32 if 65 <= byte <= 90 else int(byte)


@numba.njit()
def told_before(data: Any, low: int, at: int, reach: int, words: Any, bounds: Any) -> Any:
    """Whether one of `words` (lower case, see `table`) stands within `reach` bytes before `at`. A word in Latin letters begins as one."""
    some = np.uint64(0)  # the last six bits of the words' first bytes
    for word in range(len(bounds) - 1):
        some |= np.uint64(1) << np.uint64(words[bounds[word]] & 63)
    for start in range(max(low, at - reach), at):
        byte = lower(data[start])
        if not (some >> np.uint64(byte & 63)) & np.uint64(1) or (start > low and is_letter(byte) and is_letter(data[start - 1])):
            continue
        for word in range(len(bounds) - 1):
            begin, size = bounds[word], bounds[word + 1] - bounds[word]
            if byte != words[begin] or start + size > at:
                continue
            i = 1
            while i < size and lower(data[start + i]) == words[begin + i]:
                i += 1
            if i == size and (start + size >= at or not is_letter(words[begin]) or not is_letter(data[start + size])):
                if data[start] <= 90 and start > low and data[start - 1] == 60 and start + size < at and data[start + size] == 62:
                    continue  # <PHONE>, a mask
                for i in range(start + size, at - 1):
                    if data[i] == 44 and (data[i - 1] == 34 or data[i + 1] == 34):  # another field: "office","id":"14030671"
                        return False
                return True
    return False


def table(words: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 bytes, int64 bounds) of the words, for `told_before` and the like."""
    encoded = [word.encode() for word in words]
    bounds = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(word) for word in encoded], out=bounds[1:])
    return np.frombuffer(b"".join(encoded) or b"\0", np.uint8).copy(), bounds
