"""The ARC format, which web archives used before WARC: its grammar, for the framing in `warc.py`.

A record is one line, Archive-length bytes and a line end. Version 1 of the line is `URL IP date type length`, version 2
`URL IP date type status checksum location offset filename length`; either may hold blanks in its URL or its type. The first record of a
file has a `filedesc:` URL and describes it. Fields get the names that WARC gives them, so that a page crawled into either format becomes
the same document but for its id, which ARC has none of.

Cost: a third of WARC's header. What follows damage is looked for at http and https URLs alone: a `dns:` record before the first of them
counts as a part of the damage.
"""

from __future__ import annotations

import re

from codedev.corpus.sources.web.warc import Grammar

_LONGEST = 1 << 14  # bytes of a line; browsers give up at 2,000, crawlers at some thousand more
_SCHEME = re.compile(rb"(?:https?|ftp|dns|whois|filedesc|gopher|mailto|rtsp|mms|screenshot|warcinfo):", re.IGNORECASE)
_DATE = re.compile(rb"\d{8,18}")
_IP = re.compile(rb"(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|-|unknown|0")


def fields(head: bytes) -> tuple[dict[str, str], int]:
    newline = head.find(b"\n", 0, _LONGEST)
    if newline < 0:
        return ({"warc-type": ""}, -1) if _SCHEME.match(head) and len(head) < _LONGEST else ({}, -1)
    if not _SCHEME.match(head):
        return {}, -1
    words = head[:newline].rstrip(b"\r").split(b" ")
    date = _date_at(words)
    if date < 0 or not (words[-1].isdigit() and len(words[-1]) <= 18):
        return {}, -1
    url = b" ".join(words[: date - 1]).decode("utf-8", "replace")
    described = url.lower().startswith("filedesc:")
    # Version 2 has five words between the type and the length.
    kind = words[date + 1 : -6] if len(words) - date >= 8 else words[date + 1 : -1]
    content_type = b" ".join(kind).decode("latin-1")
    return {
        "warc-type": "warcinfo" if described else "response",
        "warc-target-uri": url,
        "warc-date": _iso(words[date].decode()),
        "content-type": content_type,
        "warc-identified-payload-type": content_type,  # should the response have no Content-Type of its own
        "content-length": words[-1].decode(),
    }, newline + 1


def _date_at(words: list[bytes]) -> int:
    """Which word is the date: one behind an IP address, counted from the right, where version 1 and 2 have it or close by."""
    for index in range(len(words) - 3, max(1, len(words) - 20), -1):
        if _DATE.fullmatch(words[index]) and _IP.fullmatch(words[index - 1]):
            return index
    return -1


def _iso(date: str) -> str:
    """YYYYMMDDhhmmss, clipped or with fractions, as WARC-Date has it."""
    full = date[:14].ljust(14, "0")
    return f"{full[:4]}-{full[4:6]}-{full[6:8]}T{full[8:10]}:{full[10:12]}:{full[12:14]}Z"


def _begins(head: bytes) -> bool:
    return fields(head)[1] >= 0


ARC = Grammar(b"\nhttp", _begins, 4096, re.compile(rb"\n"), fields)
