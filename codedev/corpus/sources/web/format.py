"""What a file of the web source is, told by its content: a web archive and how it is stored, an HTML page, or something else."""

from __future__ import annotations

import re
from typing import BinaryIO, Literal, NamedTuple

from resiliparse.parse.encoding import detect_mime

from codedev import _files
from codedev.corpus.extract import html
from codedev.corpus.sources.web import arc, warc, warc_stream

ARCHIVES: tuple[Literal["warc", "arc"], ...] = ("warc", "arc")
GRAMMARS = {"warc": warc.WARC, "arc": arc.ARC}


class Format(NamedTuple):
    kind: Literal["warc", "arc", "html", "other", "empty"]
    framing: Literal["plain", "members", "stream", ""] = ""
    codec: str | None = None
    evidence: str = ""  # what was seen instead

    @property
    def grammar(self) -> warc.Grammar:
        return GRAMMARS[self.kind]


def identify(file: BinaryIO, limit: int, max_ratio: int) -> Format:
    """What the file's content is. Reads its head, and up to 8 MiB when that does not tell."""
    stored = warc_stream.Window(warc_stream.Stored(file))
    codec = _files.compression(stored.get(0, 8))
    window = content(file, codec, max_ratio)
    start = warc_stream.skip(window, 0, b"\r\n")
    head = window.get(start, 1 << 14)
    framing: Literal["plain", "stream"] = "stream" if codec else "plain"
    if not head and not window.stream.error:
        return Format("empty", codec=codec)
    for kind in ARCHIVES:
        if GRAMMARS[kind].begins(head) or (kind == "arc" and head.startswith(b"filedesc:")):
            return Format(kind, warc.gzip_framing(stored, limit, GRAMMARS[kind]) if codec == "gzip" else framing, codec)
    if html.looks_like_html(head[:4096]):
        return Format("html", codec=codec)
    # An archive whose head is damaged still has records farther on.
    for kind in ARCHIVES:
        if warc.find_record(content(file, codec, max_ratio), 0, warc.SCAN, GRAMMARS[kind]) >= 0:
            return Format(kind, framing, codec)
        if codec in (None, "gzip") and warc.find_member(stored, 0, warc.SCAN, GRAMMARS[kind]) >= 0:
            return Format(kind, "members", "gzip")
    return Format("other", codec=codec, evidence=mime(head[:4096]))


def content(file: BinaryIO, codec: str | None, max_ratio: int) -> warc_stream.Window:
    """The decompressed content of the file."""
    stored = warc_stream.Window(warc_stream.Stored(file))
    if codec is None:
        return stored
    if codec == "gzip":
        return warc_stream.Window(warc_stream.Inflate(stored, 0, whole=True, max_ratio=max_ratio))
    return warc_stream.Window(warc_stream.Decoded(file, codec, max_ratio))


def mime(head: bytes) -> str:
    """What else the content is: a type known by its first bytes, text/plain, or application/octet-stream."""
    known = detect_mime(head)
    if known not in ("text/plain", "application/octet-stream"):
        return known
    controls = len(head) - len(head.translate(None, delete=_CONTROLS))
    return "application/octet-stream" if controls * 100 > len(head) else "text/plain"


_CONTROLS = bytes([*range(9), *range(14, 27), *range(28, 32), 127])  # without white space and escape


# A piece of a page, without what a whole one starts with: told from plain text by its name and its tags together.
_PAGE_NAMES = (".html", ".htm", ".xhtml", ".shtml")
_MARKUP = re.compile(
    rb"<(?:/?(?:p|div|span|b|i|em|strong|a|h[1-6]|ul|ol|li|table|section|article|figure|blockquote)\b|br ?/?>|img )", re.IGNORECASE
)


def is_fragment(file: BinaryIO, name: str, form: Format, max_ratio: int) -> bool:
    if form.evidence not in ("text/plain", "text/xml", "application/xml") or not name.lower().endswith(_PAGE_NAMES):
        return False
    return _MARKUP.search(content(file, form.codec, max_ratio).get(0, 4096)) is not None
