"""Strings that know which of their characters the chat template wrote.

A special token counts only where the template itself wrote every character of it. So every string constant of a template is a `Told`, a
str that carries the ranges of such characters; what comes from a conversation is an ordinary str. Joining, slicing, stripping, replacing
and splitting carry the ranges along. Anything else that is done to a `Told` gives an ordinary str: what is not known to be the template's
is taken for a stranger's, and no operation makes a stranger's character the template's.

Beside them a `Told` carries the ranges of what `{% generation %}` encloses, so that this may stand in macros and set blocks too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex

from markupsafe import Markup

Ranges = tuple[tuple[int, int], ...]  # [begin, end) in characters, rising


class Told(str):
    __slots__ = ("_learned", "_trusted")  # underscored: the sandbox keeps templates from them
    _trusted: Ranges
    _learned: Ranges

    def __new__(cls, text: object = "", trusted: Ranges = (), learned: Ranges = ()) -> Told:
        made = super().__new__(cls, text)
        made._trusted, made._learned = trusted, learned
        return made

    def __str__(self) -> str:
        return self

    def __add__(self, other: Any) -> Any:
        return joined((self, other)) if isinstance(other, str) and not isinstance(other, Markup) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return joined((other, self)) if isinstance(other, str) else NotImplemented

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        if isinstance(key, slice):
            begin, end, step = key.indices(len(self))
            if step == 1:
                return cut(self, begin, max(begin, end))
        return str.__getitem__(self, key)

    def strip(self, chars: str | None = None, /) -> str:
        begin = len(self) - len(str.lstrip(self, chars))
        return cut(self, begin, max(begin, len(str.rstrip(self, chars))))

    def lstrip(self, chars: str | None = None, /) -> str:
        return cut(self, len(self) - len(str.lstrip(self, chars)), len(self))

    def rstrip(self, chars: str | None = None, /) -> str:
        return cut(self, 0, len(str.rstrip(self, chars)))

    def join(self, parts: Iterable[str], /) -> str:
        return interleaved(self, parts)

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:  # type: ignore[override]
        return interleaved(new, _pieces(self, old, count)) if old and isinstance(new, str) else str.replace(self, old, new, count)

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return _pieces(self, sep, maxsplit) if sep else str.split(self, sep, maxsplit)


def told(text: str, trusted: Ranges, learned: Ranges = ()) -> str:
    return Told(text, trusted, learned) if trusted or learned else text


def literal(text: str) -> str:
    """A text that the template wrote."""
    return told(text, ((0, len(text)),) if text else ())


def generated(text: str) -> str:
    """The text as what the model is to say."""
    return told(text, trusted(text), ((0, len(text)),)) if text else text


def trusted(text: str) -> Ranges:
    """The ranges that the template wrote; no two of them touch."""
    return text._trusted if type(text) is Told else ()


def learned(text: str) -> Ranges:
    return text._learned if type(text) is Told else ()


def joined(parts: Iterable[Any]) -> str:
    """The parts one after another, as "".join does it."""
    parts = list(parts)
    text = "".join(parts)
    written: list[tuple[int, int]] = []
    said: list[tuple[int, int]] = []
    at = 0
    for part in parts:
        if type(part) is Told:
            for begin, end in part._trusted:
                if written and written[-1][1] == begin + at:
                    written[-1] = (written[-1][0], end + at)
                else:
                    written.append((begin + at, end + at))
            if part._learned:
                said += [(begin + at, end + at) for begin, end in part._learned]
        at += len(part)
    return told(text, tuple(written), tuple(said))


def interleaved(sep: str, parts: Iterable[Any]) -> str:
    """sep.join(parts)"""
    between: list[Any] = []
    for part in parts:
        between += (sep, part) if between else (part,)
    return joined(between)


def cut(text: str, begin: int, end: int) -> str:
    """text[begin:end]."""
    if type(text) is not Told:
        return text[begin:end]
    return told(str.__getitem__(text, slice(begin, end)), _clipped(text._trusted, begin, end), _clipped(text._learned, begin, end))


def _clipped(ranges: Ranges, begin: int, end: int) -> Ranges:
    return tuple((max(a, begin) - begin, min(b, end) - begin) for a, b in ranges if max(a, begin) < min(b, end))


def _pieces(text: str, sep: str, limit: SupportsIndex) -> list[str]:
    """What stands between the separators, at most `limit` of them where it is not negative."""
    lengths = [len(piece) for piece in str.split(text, sep, limit)]
    found, at = [], 0
    for length in lengths:
        found.append(cut(text, at, at + length))
        at += length + len(sep)
    return found
