"""What each code point is, for the kernels that read text: one table of bits over all planes, made once a process.

Letters, spaces, digits, case and categories come from the running Python's `unicodedata`. Four classes are lists of their own:

    TERMINAL   ends a sentence: Unicode's property Sentence_Terminal, as FineWeb's quality filter uses it (arXiv 2406.17557)
    SYMBOL     counts as no word when it stands alone: the punctuation and controls of CCNet (arXiv 1911.00359) and all of TERMINAL
    PREFIX, SUFFIX, INFIX, QUOTE   where spaCy's English rules cut a word (spacy.io/usage/linguistic-features#tokenization)
    SINGLE, CLUSTER   written without spaces: an ideograph or kana, a letter of Thai, Lao, Khmer, Myanmar or Tibetan
"""

from __future__ import annotations

import functools
import unicodedata

import numba
import numpy as np

SPACE, ALPHA, DIGIT, DECIMAL, UPPER, LOWER, BREAK, SYMBOL, TERMINAL, PUNCTUATION = (1 << bit for bit in range(10))
PREFIX, SUFFIX, INFIX, QUOTE, SINGLE, CLUSTER, MARK, SPACY_ALPHA = (1 << bit for bit in range(10, 18))
MATHS = 1 << 18  # a mathematical operator or letter beyond ASCII
ALNUM = 1 << 19  # a letter, a digit or another number

DATA = numba.types.Array(numba.uint8, 1, "C", readonly=True)
OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)
TABLE = numba.types.Array(numba.uint32, 1, "C", readonly=True)

_TERMINALS = (
    "21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D6 17D9-17DA 1803 1809 "
    "1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C 2E53-2E54 3002 A4FF A60E-A60F "
    "A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 "
    "10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 "
    "115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 "
    "16B37-16B38 16B44 16E98 1BC9F 1DA88"
)
_SYMBOLS = (
    "0-8 B-1F 21-2F 3A-40 5B-60 7B-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001 3008-300D 3010-3011 FF05 FF08-FF09 FF0C "
    "FF11 FF1A-FF1B FF5E"
)
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧"
_CUTS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"  # at both ends of a word
_BEFORE = "§%=—–+$£€¥฿﷼₽₴₠₡₢₣₤₥₦₧₨₩₪₫€₭₮₯₰₱₲₳₴₵₸₹₺₻₼₾₿"  # before a word alone
_AFTER = "—–"
_SINGLES = (
    "2E80-2FDF 3005-3007 3021-3029 3038-303B 3041-3096 309D-309F 30A1-30FA 30FC-30FF 3105-312F 31A0-31FF 3400-4DBF 4E00-9FFF F900-FAFF "
)
_SINGLES += "FF66-FFDC 1AFF0-1B16F 20000-3FFFF"
_CLUSTERS = "E01-EFF F40-FBC 1000-109D 1780-17D3 17D7 17DC-17DD A9E0-A9FE AA60-AA7F"
# Scripts that spaCy's rules know as letters; those without case count as lower and as upper ones.
_UNCASED = (
    "1200-137F 980-9FF 591-5F4 FB1D-FB4F 620-64A 66E-6D5 6E5-6E6 6EE-6EF 6FA-6FC 750-77F 8A0-8B4 FB50-FBB1 FB D3-FD3D FDF2-FDF4 FE70-FEFC "
    "D80-DFF 900-97F C80-CFF B80-BFF C00-C7F AC00-D7AF 1100-11FF 3040-30FF 4E00-9FFF 3400-4DBF 20000-2EBEF F900-FAFF"
).replace("FB D3", "FBD3")
_CASED = "41-5A 61-7A FF21-FF3A FF41-FF5A C0-D6 D8-F6 F8-17F 180-24F 2C60-2C7F A722-A787 A78B-A7BF 250-2AF 1D00-1D7F 1E00-1EFF "
_CASED += "370-3FF 1F00-1FFF 400-481 48A-52F"


def ranges(text: str) -> list[tuple[int, int]]:
    """[(first, last)] of "21 2E-2F": hexadecimal code points and ranges."""
    parts = (part.partition("-") for part in text.split())
    return [(int(first, 16), int(last or first, 16)) for first, _, last in parts]


@functools.cache
def properties() -> np.ndarray:
    """uint32[0x110000], read-only: the bits of each code point. 0.5 s once a process."""
    table = np.zeros(0x110000, np.uint32)
    for code in range(0x30000):  # beyond lie ideographs alone, and nothing
        character = chr(code)
        if character.isalpha():
            table[code] = ALPHA | ALNUM | (UPPER if character.isupper() else LOWER if character.islower() else 0)
        elif character.isspace():
            table[code] = SPACE
        elif character.isdigit():
            table[code] = DIGIT | ALNUM | (DECIMAL if character.isdecimal() else 0)
        else:
            category = unicodedata.category(character)
            number = ALNUM if category[0] == "N" else 0
            if category[0] == "P":
                table[code] = PUNCTUATION
            elif category == "So":
                table[code] = 0 if character == "°" else PREFIX | SUFFIX | INFIX
            elif category[0] == "M":
                table[code] = MARK
            elif category == "Sm" and code > 127:
                table[code] = MATHS
            if character.isupper() or character.islower():  # circled letters
                table[code] |= UPPER if character.isupper() else LOWER
            table[code] |= np.uint32(number)
    table[0x30000:] = [ALPHA | ALNUM if chr(code).isalpha() else 0 for code in range(0x30000, 0x110000)]
    for text, bit in (
        (_TERMINALS, TERMINAL | SYMBOL),
        (_SYMBOLS, SYMBOL),
        (_SINGLES, SINGLE),
        (_CLUSTERS, CLUSTER),
        ("1D400-1D7FF", MATHS),
    ):
        for first, last in ranges(text):
            table[first : last + 1] |= np.uint32(bit)
    for first, last in ranges("A-D 1C-1E 85 2028-2029"):  # str.splitlines
        table[first : last + 1] |= np.uint32(BREAK)
    for characters, bit in (
        (_QUOTES, QUOTE | PREFIX | SUFFIX),
        (_CUTS, PREFIX | SUFFIX),
        (_BEFORE, PREFIX),
        (_AFTER, SUFFIX),
        ("…", INFIX),
    ):
        for character in characters:
            table[ord(character)] |= np.uint32(bit)
    for text, uncased in ((_CASED, False), (_UNCASED, True)):
        for first, last in ranges(text):
            part = table[first : last + 1]
            part |= np.uint32(SPACY_ALPHA | UPPER | LOWER) if uncased else np.where(part & ALPHA, np.uint32(SPACY_ALPHA), np.uint32(0))
    table.flags.writeable = False
    return table
