"""Texts that strangers may send: each a function from a size in bytes to UTF-8, or to bytes that are none (RAW)."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import numpy as np

Text = Callable[[int], bytes]


def repeated(piece: str | bytes) -> Text:
    raw = piece if isinstance(piece, bytes) else piece.encode()
    return lambda size: raw * (size // len(raw))


def _planes(size: int) -> bytes:
    """Characters of every plane, in order, as many as fit; all assigned ones and all others within 4.4 MB."""
    step = max(1, 4_400_000 // max(size, 1))
    return "".join(chr(code) for code in range(0, 0x110000, step) if not 0xD800 <= code < 0xE000).encode()


def _numbered(before: str, after: str) -> Text:
    """Nothing stands there twice."""
    return lambda size: "".join(f"{before}{number:x}{after}" for number in range(size // (len(before) + len(after) + 4))).encode()


@functools.cache
def _random(alphabet: str, size: int) -> bytes:
    return "".join(random.Random(size).choices(alphabet, k=size // len(alphabet[-1].encode()))).encode()


def drawn(alphabet: str) -> Text:
    return lambda size: _random(alphabet, size)


_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PIECES = {
    "nuls": "\0",
    "spaces": " ",
    "tabs": "\t",
    "line ends": "\n",
    "one letter": "a",
    "capitals": "A",
    "ideographs": "漢",
    "kana": "カ",
    "thai": "กา",
    "right to left": "א",
    "overrides": "\u202e",
    "marks": "\u0301",
    "marked": "e\u0301",
    "joined": "👩\u200d🦰\u200d",
    "last character": "\U0010ffff",
    "wide spaces": "\u3000",
    "line separators": "\u2028",
    "kelvins": "\u212a",
    "words": "a ",
    "long words": "x" * 5000 + " ",
    "lines": "a\n",
    "blank lines": "\n \n",
    "paragraphs": "a\n\n",
    "windows lines": "a\r\n",
    "figures": "9",
    "figures apart": "9 ",
    "pairs of figures": "99 ",
    "dashed figures": "9-",
    "dates": "12-34-5678\n",
    "dots and figures": "1.",
    "numbers in brackets": "(1) ",
    "plus": "+1",
    "tel": "tel 99 99-9",
    "cards": "4111 1111 1111 111",
    "ibans": "GB82 WEST ",
    "hex": "0x1f,",
    "at": "@",
    "addresses cut": "a@",
    "domains cut": "a@b.c.",
    "addresses": "ann@home.org ",
    "dotted names": "a.b-",
    "urls cut": "://",
    "passwords cut": "://a:",
    "passwords": "://a:b@",
    "slashes": "//",
    "dots": ".",
    "ellipses": "... ",
    "keys begin": "-----BEGIN ",
    "keys": "-----BEGIN PRIVATE KEY-----",
    "keys with names": "-----BEGIN A PRIVATE KEY-----\n",
    "dashes": "-",
    "tokens": "eyJ-",
    "tokens cut": "eyJa.",
    "token heads": "eyJ" + "a" * 10 + ".",
    "prefixes": "sk-",
    "capital prefixes": "AKIA-",
    "long prefixes": "ya29.",
    "assignments": "key='a1",
    "names of secrets": "_password_",
    "headers": "From: a",
    "lines of headers": '\nFrom: "a',
    "header blanks": "\nto:" + " " * 300,
    "users": "u/",
    "brackets": "[",
    "citations cut": "[1",
    "parentheses": "(",
    "braces": "{",
    "nested": "[{(<",
    "quotes": "'",
    "double quotes": '"',
    "backslashes": "\\",
    "dollars": "$",
    "double dollars": "$$",
    "formulas cut": "$a ",
    "display cut": "\\(",
    "lines of display": "\n$$",
    "environments": "\\begin{a}",
    "lines of environments": "\n\\begin{a}",
    "commands": "\\frac",
    "fences": "```\n",
    "ticks": "`",
    "odd ticks": "`a``b",
    "tables": "|",
    "lines of tables": "|\na\n",
    "indented": "    a\n",
    "bullets": "• ",
    "hashes": "#",
    "sentences": "A. ",
    "ends": "。",
    "policies": "use ",
    "lorem": "lorem ipsum ",
    "counters": "9K likes\n",
    "calls": "sign in\n",
    "comments": "/*",
    "doc comments": '"""',
    "dash comments": "--[[",
    "line stops": "</s>",
    "labels": "__label__",
    "label words": "__label__a ",
    "rows": "<row a='",
    "rows of entities": "<row a='&",
    "whole rows": "<row a='1'/>",
    "entities": "&amp;",
    "records": ">a\n",
    "uniprot": ">sp|P12345|A_B c OS=d OX=1 ",
    "commas": ",",
    "values": '"a",',
    "sessions": ";jsessionid=",
    "parameters": "?a&b=&",
    "utm": "&utm_a=1",
    "encoded": "%41",
    "percents": "%",
    "ports": "a:99",
    "schemes": "A://",
    "base64": _BASE64,
    "hexadecimals": "deadbeef01234567",
    "periods of three": "abc",
    "periods of a line": "the quick brown fox jumps over the lazy dog\n",
    "capital and small": "aB",
    "hyphens": "a-b",
    "contractions": "n't",
}
TEXTS: dict[str, Text] = {
    **{name: repeated(piece) for name, piece in _PIECES.items()},
    "nothing": lambda size: b"",
    "all planes": _planes,
    "distinct words": _numbered("", " "),
    "distinct lines": _numbered("line number ", " of many lines, each of which is long enough\n"),
    "distinct addresses": _numbered("a", "@home.org "),
    "distinct parameters": lambda size: b"http://a.b/?" + _numbered("p", "&")(size),
    "random base64": drawn(_BASE64),
    "two letters": drawn("ab"),
    "random words": drawn("etaoin shrdlu"),
    "random marks": drawn("@.:/-_=+'\"<>[](){}$\\`|~ \n01a"),
    "random figures": drawn("0123456789 -.()"),
    "random scripts": drawn(" aé\u0301אกカ漢。\U0001f600"),
    "long then blank": lambda size: b"a" * (size // 2) + b" " * (size // 2),
    "blank then long": lambda size: b"\n" * (size // 2) + b"a" * (size // 2),
    "opened once": lambda size: b"(\"'[<{`$|" + b"a" * size,
    "one quote at each end": lambda size: b"'" + b"\\" * size + b"'",
}
# No UTF-8: surrogates one by one, bytes that begin or end nothing, overlong forms, beyond the last plane, characters cut off.
RAW: dict[str, Text] = {
    "high surrogates": repeated(b"\xed\xa0\x80"),
    "low surrogates": repeated(b"\xed\xbf\xbf"),
    "surrogate pairs": repeated(b"\xed\xa0\xbd\xed\xb8\x80"),
    "no bytes of utf-8": repeated(b"\xff"),
    "continuations": repeated(b"\x80"),
    "leads of two": repeated(b"\xc3"),
    "leads of three": repeated(b"\xe4"),
    "leads of four": repeated(b"\xf0"),
    "overlong": repeated(b"\xc0\x80"),
    "beyond the planes": repeated(b"\xf7\xbf\xbf\xbf"),
    "cut at the end": lambda size: b"a" * size + b"\xf0\x9f\x98",
    "random bytes": lambda size: np.random.default_rng(size).bytes(size),
}


def buffers(texts: list[bytes], before: bytes = b"", after: bytes = b"") -> tuple[np.ndarray, np.ndarray]:
    """(data, offsets) of the texts as kernels take them, read-only; `before` and `after` are other rows' bytes in the same buffer."""
    data = np.frombuffer(before + b"".join(texts) + after, np.uint8)
    offsets = np.cumsum([len(before), *map(len, texts)]).astype(np.int64)
    data.flags.writeable = offsets.flags.writeable = False
    return data, offsets
