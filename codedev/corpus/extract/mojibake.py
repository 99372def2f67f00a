"""Mojibake: UTF-8 that was read as a charset of one byte, back to what it was, only where it is provable.

A run of characters that are the bytes of UTF-8 in windows-1252 (with Latin-1 in its holes), 1250, 1251, 1253, 1254, 1257 or Mac Roman is
a candidate. It is proved by what no text has: control codes of Latin-1, small letters before capitals, signs such as ¤ ¼ ƒ € directly
after letters, or a length that no text reaches by chance. What proves nothing by itself (`Ã»` may end a word in capitals before a closing
quote) is repaired where most runs of the text are proved. Double and triple mojibake takes as many passes; a single character in quotes
is spoken of and stays. Control codes that are left (U+0080 to U+009F) become the characters that windows-1252 has there.

Nothing else is changed: no code, no quotes, no widths, no lost bytes made up. Cost for 100 kB: 1 µs of ASCII, 0.1 to 0.3 ms of other
clean text, 1.3 ms of Greek; 0.1 s where every word must be repaired, twice that beside code. Linear in the text.
What it does not do: one charset of one byte read as another, UTF-8 read as a charset of several bytes (GBK, Shift_JIS), sequences that
have lost a byte.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np

_LONGEST = 4_000_000  # characters; mojibake all through costs 0.5 s for a million, and no page that anyone wrote is longer
_PASSES = 6  # each undoes the reading that explains most


def repair(text: str) -> tuple[str, int]:
    """(text, sequences repaired). A sequence is one character of the repaired text, counted at each level of mojibake.

    Markdown's code, in fences or between single backticks, stays as it is: there mojibake is what is shown, as in tests of charsets."""
    if text.isascii() or len(text) > _LONGEST:
        return text, 0
    result = _repaired(text)
    if not result[1] or "`" not in text:
        return result
    pieces = _around_code(text)
    if len(pieces) == 1:
        return result
    prose = pieces[::2]
    whole, count = _repaired(_CUT.join(prose))  # all at once: what one part proves counts for the others
    mended = whole.split(_CUT)
    if len(mended) != len(prose):  # the text itself holds such characters
        parts = list(map(_repaired, prose))
        mended, count = [part for part, _ in parts], sum(number for _, number in parts)
    pieces[::2] = mended
    return "".join(pieces), count


_CUT = "\x1c\x1f\x1c"  # parts of no charset's mojibake


def _around_code(text: str) -> list[str]:
    """The text cut into what is no code, and code, in turns. A fence ends with a line of as many backticks, or with the text."""
    pieces = [""]
    fence = ""
    for line in _LINE.findall(text):
        inside = bool(fence)
        if inside:
            if line.lstrip(" >").rstrip() == fence:
                fence = ""
        elif opened := _FENCE.match(line):
            fence, inside = opened[1], True
        parts = ["", line] if inside else _INLINE.split(line)
        if inside and len(pieces) % 2 == 0:
            parts = [line]
        if not inside and len(pieces) % 2 == 0:
            pieces.append("")
        pieces[-1] += parts[0]
        pieces += parts[1:]
    return pieces if len(pieces) % 2 else [*pieces, ""]


_LINE = re.compile(r"[^\n]*+\n|[^\n]++")
_FENCE = re.compile(r"(?:[ >]|- |: |\d{1,9}\. )*+(`{3,})[^`]*$")
_INLINE = re.compile(r"((?<!`)`[^`\n]++`(?!`))")


def _repaired(text: str) -> tuple[str, int]:
    repaired = 0
    for _ in range(_PASSES):
        found = [(_survey(text, reading), reading) for reading in _READINGS if reading.may_hold(text)]
        survey, reading = max(found, key=lambda one: one[0].covered, default=(_NOTHING, _READINGS[0]))
        if not survey.proved:
            break
        text, count = _undone(text, reading, survey)
        repaired += count
    text, count = _without_controls(text)
    return text, repaired + count


# --- readings


class _Reading(NamedTuple):
    """One charset that UTF-8 is read as."""

    bytes_of: dict[int, int]  # character -> byte
    runs: re.Pattern[str]  # characters that may be whole sequences of UTF-8
    may_hold: Callable[[str], bool]  # a quick look, true for all texts with mojibake of this kind
    proofs: int  # places that no text has, before a run counts as proved


def _characters(charset: str) -> list[str]:
    """What the bytes from 0x80 stand for; control codes where the charset has holes, as browsers read them."""
    return [bytes([byte]).decode(charset, "ignore") or chr(byte) for byte in range(0x80, 0x100)]


def _reading(charset: str, may_hold: Callable[[str], bool], proofs: int = 1) -> _Reading:
    table = _characters(charset)
    bytes_of = {ord(character): byte for byte, character in enumerate(table, 0x80)}
    if charset == "cp1252":  # Latin-1 is the same but for its control codes
        bytes_of |= {code: code for code in range(0x80, 0xA0)}

    def some(first: int, last: int) -> str:
        return "[" + "".join(re.escape(chr(code)) for code, byte in bytes_of.items() if first <= byte <= last) + "]"

    two, three, four, follow = some(0xC2, 0xDF), some(0xE0, 0xEF), some(0xF0, 0xF4), some(0x80, 0xBF)
    sequence = f"{two}{follow}|{three}{follow}{{2}}|{four}{follow}{{3}}"
    # A pattern that begins with a class is searched for three times as fast as one that begins with alternatives.
    first = f"{some(0xC2, 0xF4)}{follow}(?:(?<={two}.)|(?<={three}.){follow}|(?<={four}.){follow}{{2}})"
    return _Reading(bytes_of, re.compile(f"{first}(?:{sequence})*+", re.DOTALL), may_hold, proofs)


def _in_pieces(text: str) -> Iterator[_Codes]:
    """The text's code units, where some are in U+0080 to U+00F4; each piece with the first of the next.

    In pieces, because large temporary arrays cost page faults."""
    try:
        codes: _Codes = np.frombuffer(text.encode("latin-1"), np.uint8)
    except UnicodeEncodeError:
        codes = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), np.uint16)
    for start in range(0, len(codes), _PIECE):
        piece = codes[start : start + _PIECE + 1]
        if (piece - codes.dtype.type(0x80) <= 0xF4 - 0x80).any():  # unsigned: what is less wraps round
            yield piece


_Codes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint8 | np.uint16]]"
_PIECE = 1 << 15


def _holds_pairs(text: str) -> bool:
    """Whether a character from U+00C2 to U+00F4 has one after it that may follow it in mojibake."""
    for codes in _in_pieces(text):
        leads = codes[:-1] - codes.dtype.type(0xC2) <= 0xF4 - 0xC2
        after = codes[1:]
        if (leads & ((after - codes.dtype.type(0x80) < 0x40) | (after > 0x151))).any():
            return True
    return False


def _holds_controls(text: str) -> bool:
    return any((codes - codes.dtype.type(0x80) < 0x20).any() for codes in _in_pieces(text))


def _holds(*marks: str) -> Callable[[str], bool]:
    """Whether a text holds all the characters of one of the marks: 1.5 µs a character for 100 kB."""
    return lambda text: any(all(character in text for character in mark) for mark in marks)


_READINGS = (
    _reading("cp1252", _holds_pairs),
    _reading("cp1250", _holds("Ă", "Ĺ", "Đ", "Ń", "Ř", "Ů", "â€")),
    _reading("cp1251", _holds("µ", "°", "Ђ", "Ѓ", "ѓ"), 2),
    _reading("cp1253", _holds("Ξ", "β€"), 2),
    _reading("cp1254", _holds("ğŸ", "Ğ")),
    _reading("cp1257", _holds("ā€", "Ć")),
    _reading("mac_roman", _holds("√", "‚Ä")),
)


# --- what is proved


class _Survey(NamedTuple):
    proved: int  # runs
    doubtful: int
    covered: int  # characters of the proved ones


_NOTHING = _Survey(0, 0, 0)


def _survey(text: str, reading: _Reading) -> _Survey:
    proved = doubtful = covered = 0
    for match in reading.runs.finditer(text):
        found = _decoded(match, reading)
        if found is not None:
            if _is_proved(match, found, reading.proofs):
                proved += 1
                covered += len(match[0])
            else:
                doubtful += 1
    return _Survey(proved, doubtful, covered)


def _undone(text: str, reading: _Reading, survey: _Survey) -> tuple[str, int]:
    all_of_them = survey.proved >= _SURE and survey.proved > survey.doubtful
    repaired = 0

    def to_what_it_was(match: re.Match[str]) -> str:
        nonlocal repaired
        found = _decoded(match, reading)
        if found is None or not (all_of_them or _is_proved(match, found, reading.proofs)):
            return match[0]
        repaired += len(found)
        return found.replace("\ufeff", "")  # a mark of byte order, which is no text

    return reading.runs.sub(to_what_it_was, text), repaired


_SURE = 3
_TWO = 0xC2, 0xDF  # bytes that begin a sequence of two
_QUOTES = "\"'`“”‘’«»‹›„"


def _decoded(match: re.Match[str], reading: _Reading) -> str | None:
    """What the run was, None where that is no text, where half a sequence is left over, or where one character stands in quotes."""
    text, (start, end) = match.string, match.span()
    before, after = text[start - 1] if start else " ", text[end] if end < len(text) else " "
    # Half a sequence is left over: as in the vocabularies of tokenizers.
    if _TWO[0] <= reading.bytes_of.get(ord(after), 0) <= _TWO[1] and not text[end + 1 : end + 2].isalpha():
        return None
    try:
        found = bytes([reading.bytes_of[ord(character)] for character in match[0]]).decode()
    except UnicodeDecodeError:
        return None
    if len(found) == 1 and before in _QUOTES and after in _QUOTES and not _C1.search(match[0]):
        return None
    return found if _UNSEEN.sub("", found).isprintable() else None


# Characters that are no private or unassigned ones although they do not print; control codes are mojibake of a further level.
_UNSEEN = re.compile("[\x80-\xa0\xad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u2066-\u2069\u3000\ufeff]+")
_LONG = 6
_C1 = re.compile("[\x80-\x9f]")
# Signs that no text has directly after a letter. Not those that end quotes, sentences, names and measures there, nor footnotes.
_SIGN = "¢£¤¥¦¨¬¯±µ¶¸¼½¾ƒ€‚„ˆ‰˜"
_SIGNS = frozenset(_SIGN)


def _is_proved(match: re.Match[str], found: str, needed: int) -> bool:
    run, text, (start, end) = match[0], match.string, match.span()
    if found[0] in "\ufeff\ufffd" or _C1.search(run):
        return True
    if len(run) == 2 and found > "\u02ff" and (found.isalpha() or unicodedata.combining(found)):
        return False  # a letter of another script alone
    if run[0] in "√¬‚":  # Mac Roman: signs of mathematics, but not between the letters of a word
        return run.startswith("‚Ä") or (start > 0 and text[start - 1].islower() and text[end : end + 1].islower() and run[1] not in "π∞±")
    if needed == 1 and len(run) >= _LONG:
        return True
    before, after = text[start - 1 : start], text[end : end + 1]
    # Â and Ã begin a word only before letters.
    if run[0] in "ÂÃ" and not before.isalpha() and after.isalpha() and after.islower() and not run[1].isalpha() and run[1] not in _QUOTES:
        return True
    if needed == 2 and run[:2] in ("вЂ", "β€") and len(found) == 1:
        return True
    if run[:2] in ("á»", "áº") and (run[2] in _SIGNS or run[2] == "‹"):  # Vietnamese, and Africa's letters with dots below
        return needed == 1
    places = 0
    around = before + run[:_LOOKED_AT]
    for one, next_one in pairwise(around):
        places += one.isalpha() and (next_one in _SIGNS or (one.islower() and next_one.isupper()))
    return places >= needed


_LOOKED_AT = 100


# --- control codes


_WINDOWS = {chr(byte): bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0)}
# Not the ends of ranges, nor what stands beside other control codes, which are the bytes of something else: punctuation alone may.
_BESIDE = r"[-\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x90\x98-\x9f\u200b\ufeff]"
_C1_WINDOWS = re.compile(rf"(?<!{_BESIDE})[{''.join(code for code, character in _WINDOWS.items() if character)}](?!{_BESIDE})")


def _without_controls(text: str) -> tuple[str, int]:
    if text.isascii() or not _holds_controls(text):
        return text, 0
    return _C1_WINDOWS.subn(lambda match: _WINDOWS[match[0]], text)
