"""The general category of every code point, as far as pretokenization patterns ask for it, in the Unicode version of `tokenizers`.

Which version a tokenizer's regex engine knows decides its pieces: Python 3.11 (Unicode 14) calls 9,000 code points no letters that
Unicode 16 does. `unicode_classes.npz` therefore holds what Oniguruma inside `tokenizers` itself answers (test_kernels_pretokens.py asks it
again): uint32 `starts` and uint8 `codes` of the runs of equal code points, and `version`. `\\s` there is the property White_Space: U+0085
is one, U+001C to U+001F are not. A tokenizer's patterns group the categories; `classes` makes the table of one grouping.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from pathlib import Path
from typing import Any

import numba
import numpy as np

# The codes of the file.
CATEGORIES = ("", "Lu", "Lt", "Lm", "Lo", "Ll", "M", "N", "Z")  # Z: White_Space

# The classes that machines read.
OTHER, LETTER, DIGIT, BLANK, NEWLINE, UPPER, LOWER, MARK = range(8)
CODE_POINTS = 0x110000

CLASSES: Any = numba.types.Array(numba.uint8, 1, "C", readonly=True)


@functools.cache
def categories() -> tuple[np.ndarray, str]:
    """(uint8[CODE_POINTS] of indices into CATEGORIES, the Unicode version). Surrogates are nothing."""
    with np.load(Path(str(files("codedev.kernels") / "unicode_classes.npz")), allow_pickle=False) as file:
        starts, codes, version = file["starts"], file["codes"], str(file["version"])
    return np.repeat(codes, np.diff(starts, append=CODE_POINTS)), version


@functools.cache
def classes(marks: bool, cased: bool) -> np.ndarray:
    """uint8[CODE_POINTS], read-only: OTHER, LETTER, DIGIT, BLANK or NEWLINE (\\r and \\n). With `marks` a mark is a LETTER. With `cased`
    capitals and title case are UPPER, small letters LOWER, marks MARK, and the letters without case LETTER."""
    letter = {"Lu": UPPER, "Lt": UPPER, "Ll": LOWER} if cased else {}
    meaning = {"": OTHER, "M": MARK if cased else LETTER if marks else OTHER, "N": DIGIT, "Z": BLANK} | letter
    table: np.ndarray = np.array([meaning.get(name, LETTER) for name in CATEGORIES], np.uint8)[categories()[0]]
    table[[0x0A, 0x0D]] = NEWLINE
    table.flags.writeable = False
    return table
