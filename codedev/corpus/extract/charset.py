"""Bytes of a web page -> text: from marks, from UTF-8's own structure, from the HTTP header, the meta tag, and a guess by the bytes.

In this order:

1. A byte order mark (the standard has it above the header too); UTF-16 and UTF-32 without one, told by their NULs.
2. Bytes that are valid UTF-8, whatever is declared: no text of another charset passes by chance, and servers that say Latin-1 are many.
3. The header, then the page's meta tag or XML declaration (before a header that says Latin-1, which is what servers say of any file),
   where at most a few bytes are none in it. A charset of one byte holds any
   bytes: where its text is no text (letters of two scripts in a word, more accents than letters), it was a default, and counts for nothing.
4. A guess by uchardet, with the charsets that the web does not use read as those that it does.

Labels are those of the WHATWG encoding standard, each read as the widest charset that browsers and pages take it for: Latin-1 is
windows-1252, Shift_JIS has Windows' characters, gb2312 and gbk are gb18030. UTF-7 is never decoded: to a browser it is ASCII, and tags
hidden in it stay text. `x-user-defined` and unknown labels say nothing. A declaration counts anywhere in the first 64 KiB (the standard
has 1,024 bytes; heads are longer), outside comments and scripts.

Cost for 100 kB: 10 µs of English in UTF-8; 1 to 3 ms where another charset is declared, most of it to see whether the text is one;
2 to 6 ms where it must be guessed, 40 ms of Cyrillic.
What it does not do: tell charsets apart that differ in signs alone, or by the language of the words.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode(data: bytes, hint: str | None = None, *, markup: bool = False) -> tuple[str, str, int]:
    """(text, charset, characters replaced by U+FFFD). `hint` is what the transport said; `markup` looks for a declaration in it too."""
    for mark, name in BOMS:
        if data.startswith(mark):
            return _replacing(data[len(mark) :], name)
    wide = _without_mark(data[:4096])
    if wide:
        return _replacing(data, wide)
    seven_bit = b"\x1b" in data or _holds_hz(data)
    if not seven_bit:
        try:
            return data.decode("utf-8"), "utf-8", 0
        except UnicodeDecodeError:
            pass
    # A seven-bit charset is told by its escapes, which in another charset are control codes.
    escapes = _by_escapes(data) if seven_bit else None
    if escapes and not (escaped := _replacing(data, escapes))[2]:
        return escaped
    foreign = len(data.translate(None, delete=_ASCII))
    found: list[tuple[str, str, int]] = []
    for name in _candidates(data, hint, markup):
        if all(name != tried for _, tried, _ in found):
            found.append(_replacing(data, name))
            # A few broken bytes do not make a charset wrong, a page full of them does.
            if found[-1][2] * 20 <= foreign and not _is_odd(*found[-1][:2]):
                return found[-1]
    found.reverse()  # of those that fit as well the guess, not what was odd
    return min(found, key=lambda one: one[2])


def _candidates(data: bytes, hint: str | None, markup: bool) -> Iterator[str]:
    header, page = known(hint), declared(data) if markup else None
    # Latin-1 in a header is what servers say of any file; the page's own word says more.
    order = (page, header) if header == "cp1252" else (header, page)
    yield from (name for name in order if name)
    yield _guessed(data)


_ASCII = bytes(range(128))


def _replacing(data: bytes, charset: str) -> tuple[str, str, int]:
    text = data.decode(charset, "replace")
    return text, codecs.lookup(charset).name, text.count("\ufffd") if "\ufffd" in text else 0  # looking is faster than counting


def _without_mark(head: bytes) -> str | None:
    """UTF-16 or UTF-32, in which markup leaves zeros in one place of two, and in two of four. Zeros strewn over bytes are none of it."""
    nuls = head.count(b"\0")
    if nuls * 20 <= len(head):
        return None
    zeros = [head[n::4].count(b"\0") * 4 // max(1, len(head[n::4])) for n in range(4)]  # 3 and 4: three quarters and more
    for wide, half in (("utf-32-le", zeros[2:]), ("utf-32-be", zeros[:2])):
        if min(half) >= 3 and "\ufffd" not in head.decode(wide, "replace")[:-1]:
            return wide
    for wide, place in (("utf-16-le", 0), ("utf-16-be", 1)):  # a tag, of two bytes a character
        if head[place : place + 1] == b"<" and head[1 - place : 4 : 2] == b"\0\0":
            return wide
    odd = head[1::2].count(b"\0")
    if min(odd, nuls - odd) * 4 > nuls:  # an ideographic space has its zero in the other place
        return None
    wide = "utf-16-le" if odd * 2 > nuls else "utf-16-be"
    even = head[: len(head) & ~1]
    # Beside a zero stands a character of ASCII or Latin-1; other pairs are letters, not two characters of ASCII each.
    highs, lows = (even[1::2], even[::2]) if wide == "utf-16-le" else (even[::2], even[1::2])
    pairs = [(high, low) for high, low in zip(highs, lows, strict=True) if high]
    plain = sum(0x20 <= high < 0x7F and 0x20 <= low < 0x7F for high, low in pairs)
    if nuls < _FEWEST or plain * 10 > len(pairs) * 9 or "\0" in even.decode(wide, "replace").rstrip("\0"):
        return None
    return wide


_FEWEST = 3  # zeros


# --- charsets that write in seven bits


def _by_escapes(data: bytes) -> str | None:
    # Two-byte sets are announced by ESC $ ( ... or, as pages of Japan have it, ESC $ B and ESC $ @.
    for mark, name in _ESCAPES:
        if mark in data:
            return name
    return "hz" if _HZ.search(data) and not data.translate(None, delete=_ASCII) else None


_ESCAPES = ((b"\x1b$B", "iso2022_jp_ext"), (b"\x1b$@", "iso2022_jp_ext"), (b"\x1b$(D", "iso2022_jp_ext"), (b"\x1b$)C", "iso2022_kr"))
_HZ = re.compile(rb"~\{(?:[\x21-\x7d][\x21-\x7e]){2,}+~\}")


def _holds_hz(data: bytes) -> bool:
    """Whether `~{` is in it. Looking for one byte is ten times as fast as for two."""
    at = -1
    for _ in range(_TILDES):
        at = data.find(b"~", at + 1)
        if at < 0 or data[at + 1 : at + 2] == b"{":
            return at >= 0
    return data.find(b"~{", at) >= 0


_TILDES = 50


# --- what is declared

_READ_AS = {
    "ascii": "cp1252",
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "shift_jis": "cp932",
    "tis-620": "cp874",
}
# Labels of the standard that Resiliparse does not know, and those of Vietnam's pages.
_LABELS = {"x-mac-cyrillic": "mac-cyrillic", "x-mac-ukrainian": "mac-cyrillic", "utf-32": "utf-32-le", "windows-874": "cp874"}


def known(label: str | None) -> str | None:
    """Python's name of the charset that a label stands for on the web, None for one that stands for none."""
    if not label:
        return None
    label = label.strip("\t\n\f\r \"'").lower()
    name = _LABELS.get(label) or map_encoding_to_html5(label, fallback_utf8=False)
    return _READ_AS.get(name, name) if name else None


def declared(data: bytes) -> str | None:
    """The charset that a page's meta tag or XML declaration names."""
    head = _UNSEEN.sub(b"", data[:_HEAD])
    for match in _DECLARED.finditer(head):
        if name := known(match[match.lastindex or 0].decode("ascii", "replace")):
            # What can be read as ASCII is no UTF-16: the standard says UTF-8.
            return "utf-8" if name.startswith(("utf-16", "utf-32")) else name
    return None


_HEAD = 64 << 10
_UNSEEN = re.compile(rb"<!--(?:[^-]++|-(?!->))*+(?:-->|\Z)|<(script|style)\b(?:[^<]++|<(?!/\1\b))*+(?:</\1\b|\Z)", re.IGNORECASE)
_DECLARED = re.compile(
    rb"\A\s*+<\?xml\s[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([-\w.:]{1,40})"
    rb"|<meta\b(?=[^>]{0,400}?http-equiv\s{0,9}=\s{0,9}[\"']?content-type|\s{1,9}charset)[^>]{0,400}?\bcharset\s{0,9}=\s{0,9}[\"']?\s{0,9}([-\w.:]{1,40})",
    re.IGNORECASE,
)


# --- a guess

# Charsets that no pages are in, or fewer than are taken for them -> those that pages are in.
_GUESSED_AS = _READ_AS | {
    "cp852": "cp1252",
    "cp855": "cp1251",
    "cp862": "cp1255",
    "cp865": "cp1252",
    "cp866": "cp866",
    "iso8859-3": "cp1252",
    "iso8859-4": "cp1257",
    "iso8859-10": "cp1252",
    "iso8859-13": "cp1257",
    "iso8859-16": "cp1250",
    "koi8-r": "koi8-u",  # the same in all letters of Russian
    "mac-centraleurope": "cp1250",
    "viscii": "cp1258",
}
# Windows' neighbours, where there are bytes that in the ISO charset are control codes.
_WITH_C1 = {
    "iso8859-2": "cp1250",
    "iso8859-5": "cp1251",
    "iso8859-6": "cp1256",
    "iso8859-7": "cp1253",
    "iso8859-8": "cp1255",
    "iso8859-15": "cp1252",
}
_C1 = bytes(range(0x80, 0xA0))
_SAMPLE = 128 << 10


def _guessed(data: bytes) -> str:
    """What uchardet takes the bytes for; of that and the West's charset the one that gives text."""
    sample = data[:_SAMPLE]
    try:
        raw = codecs.lookup(detect_encoding(sample, html5_compatible=False) or "cp1252").name
    except LookupError:
        raw = "cp1252"
    if raw in ("utf-8", "ascii") or raw.startswith(("utf-16", "utf-32", "utf-7")):
        raw = "utf-8" if _mostly_utf8(sample) else "cp1252"
    if raw in _WITH_C1 and len(sample.translate(None, delete=_C1)) < len(sample):
        raw = _WITH_C1[raw]
    name = _GUESSED_AS.get(raw, raw)
    if name in _MANY_BYTES:
        return name
    rivals = ["cp1251", name] if name == "mac-cyrillic" else [raw, name, "cp1252"] if raw == "iso8859-13" else [name]
    odd, best = min((_oddness(sample.decode(rival, "replace"), rival), at) for at, rival in enumerate(rivals))
    if odd <= _ODD / 2:
        return rivals[best]
    others = ("cp1251", "koi8-u", "mac-roman")
    other, at = min((_oddness(sample.decode(rival, "replace"), rival), at) for at, rival in enumerate(others))
    return others[at] if other * 4 < odd else rivals[best]


def _mostly_utf8(sample: bytes) -> bool:
    text = sample.decode("utf-8", "replace")
    return len(text.encode("ascii", "ignore")) + 3 * text.count("\ufffd") < len(text)


_MANY_BYTES = frozenset({"cp932", "euc_jp", "gb18030", "big5hkscs", "cp949", "iso2022_jp", "iso2022_kr", "hz", "utf-8"})
_WESTERN = frozenset(
    {"cp1250", "cp1252", "cp1254", "cp1257", "cp1258", "mac-roman", *(f"iso8859-{n}" for n in (2, 3, 4, 10, 13, 14, 15, 16))}
)
_ODD = 0.5


def _is_odd(text: str, charset: str) -> bool:
    """Whether a text that any bytes would have made is none. 1 to 2 ms, of pages in a charset of one byte alone."""
    return charset not in _MANY_BYTES and _oddness(text, charset) > _ODD


def _oddness(text: str, charset: str) -> float:
    """Share of the characters beyond ASCII that stand where in a text none stand: signs inside words, small letters before capitals,
    scripts mixed in a word, words of the West with fewer plain letters than accented ones."""
    first = _BEYOND.search(text)
    if not first:
        return 0.0
    start = max(0, first.start() - 40)  # with the beginning of its word
    text = text[start : start + _JUDGED]
    western = charset in _WESTERN
    beyond = len(_BEYOND.findall(text))
    odd = len("".join(_SIGNS.findall(text)))
    plain = accented = 0
    for word in _RUN.findall(text):
        if len(word) == 1 or word.isascii():  # à, é, и are words
            continue
        count = len(_BEYOND.findall(word))
        mixed = not western and count < len(word)
        if mixed or not (word.islower() or word.isupper() or word[1:].islower() or word[1:] == word[1:].swapcase()):
            odd += count
        else:
            accented += count
            plain += len(word) - count
    if western and accented > plain:
        odd += accented
    return odd / (beyond + 3)  # a stray letter or two show nothing


_JUDGED = 16 << 10
_BEYOND = re.compile(r"[^\x00-\x7f]")
_RUN = re.compile(r"[^\W\d_]+")
# Signs that pages hold rarely, each with the letter after it: not quotes, dashes, spaces, bullets, currency, degrees.
_SIGNS = re.compile(r"[\x80-\x9f¤¦¨¬¯±²³µ¶¸¹¼¾ƒˆ˜†‡‰\ufffd\u2500-\u259f][^\x00-\x7f\W\d_]?|‚[^\x00-\x7f]")
