"""What shingles make of each code point: whether it is part of a word, a token of its own, or nothing, and the symbol it is folded to.

Tables over all planes from the running Python's `unicodedata`; another version of it may know more characters.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np

UNITS = {"words": 0, "chars": 1, "code": 2, "figures": 0}  # unit -> the kernel that reads it

# What a code point is: part of a word, a digit (and part of a word), nothing at all, a token of its own, or (0) a separator.
WORD, DIGIT, DROPPED, SINGLE = 1, 2, 4, 8
FLAG_SHIFT = 24  # a table's entry is flags << 24 | the code point it is folded to

MULTIPLIER = 0x9E3779B97F4A7C15  # M: 2^64 / golden ratio
_MASK = (1 << 64) - 1


def mixed(value: int) -> int:
    """murmur3's 64-bit finaliser (`_mix`) in Python's integers."""
    value &= _MASK
    value = ((value ^ value >> 33) * 0xFF51AFD7ED558CCD) & _MASK
    value = ((value ^ value >> 33) * 0xC4CEB9FE1A85EC53) & _MASK
    return value ^ value >> 33


@functools.cache
def tables(unit: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(table uint32[0x110000], symbols uint64[0x10000], steps uint64[2048]) of a unit, 5 MB made once a process in 0.3 s.

    table    flags << 24 | folded code point
    symbols  g of what the code points of the first plane are folded to, 0 for separators and what is dropped
    steps    what an ASCII byte does to the hash h of the word before it: at = byte | 128 after a digit | 256 inside a word;
             h = h * steps[512 + at] + steps[at], steps[1024 + at] words end, and steps[1536 + byte] is the state after it
    """
    table = _code_table() if unit == "code" else _word_table()
    if unit == "figures":
        table = _with_digits(table)
    first = table[:0x10000]
    flags, folded = first >> np.uint32(FLAG_SHIFT), first & np.uint32(0xFFFFFF)
    symbols = np.fromiter((mixed((code + 1) * MULTIPLIER) for code in folded.tolist()), np.uint64, 0x10000)
    symbols[flags & (WORD | SINGLE) == 0] = 0
    steps = np.zeros((4, 512), np.uint64)
    word, digit = flags[:128] & WORD != 0, flags[:128] & DIGIT != 0
    steps[0] = np.tile(symbols[:128], 4)
    steps[1] = np.tile(word, 4) * np.uint64(MULTIPLIER)
    for begin in (128, 384):  # a digit after a digit changes nothing
        steps[0, begin : begin + 128][digit] = 0
        steps[1, begin : begin + 128][digit] = 1
    steps[2, 256:] = np.tile(~word, 2)
    steps[3, :128] = digit * 128 + word * 256
    table.flags.writeable = symbols.flags.writeable = steps.flags.writeable = False
    return table, symbols, steps.ravel()


@functools.cache
def _categories() -> list[str]:
    return list(map(unicodedata.category, map(chr, range(0x110000))))


@functools.cache
def _word_table() -> np.ndarray:
    table = np.zeros(0x110000, np.uint32)
    for code, category in enumerate(_categories()):
        if category[0] not in "LMN":
            continue
        if category == "Mn":
            table[code] = DROPPED << FLAG_SHIFT
        elif category == "Nd":
            table[code] = (WORD | DIGIT) << FLAG_SHIFT | ord("0")
        elif _is_single(code, category):
            table[code] = SINGLE << FLAG_SHIFT | _folded(code)
        elif 0xAC00 <= code < 0xD7A4:  # a Hangul syllable's decomposition is its first letter, not its base
            table[code] = WORD << FLAG_SHIFT | code
        else:
            table[code] = WORD << FLAG_SHIFT | _folded(code)
    return table


def _with_digits(words: np.ndarray) -> np.ndarray:
    """Digits of any script are their value, and no run of them is one symbol."""
    table = words.copy()
    for code in np.flatnonzero(words >> np.uint32(FLAG_SHIFT) & DIGIT):
        table[code] = WORD << FLAG_SHIFT | (ord("0") + unicodedata.digit(chr(code)))
    return table


_SINGLES = (
    (0x2E80, 0x3130), (0x31A0, 0xA000), (0xF900, 0xFB00), (0xFF66, 0xFFA0), (0x1AFF0, 0x1B170), (0x20000, 0x40000),
)  # fmt: skip


def _is_single(code: int, category: str) -> bool:
    """Written without spaces and worth a word each: ideographs of all planes, their radicals and marks (々), bopomofo, kana."""
    if category[0] != "L" and not (category == "Nl" and 0x3000 <= code < 0x3040):  # 〇 and the Hangzhou numerals
        return False
    return any(first <= code < last for first, last in _SINGLES)


def _folded(code: int) -> int:
    """The base character of the lower-case letter. One for one: "ß" stays, "İ" is "i"."""
    return ord(unicodedata.normalize("NFD", chr(code).lower()[0])[0])


@functools.cache
def _code_table() -> np.ndarray:
    table = np.arange(0x110000, dtype=np.uint32)
    kinds = {"L": WORD, "M": WORD, "N": WORD, "P": SINGLE, "S": SINGLE, "Z": 0, "C": 0}
    table |= np.fromiter((kinds[category[0]] for category in _categories()), np.uint32, 0x110000) << np.uint32(FLAG_SHIFT)
    for character in "_$":
        table[ord(character)] = WORD << FLAG_SHIFT | ord(character)
    return table
