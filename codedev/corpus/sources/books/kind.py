"""What a file of a library is, told by its content: a book in one of the formats that are read, a book in another, or no book at all.

Beside books lie licences, listings, metadata, style sheets and the LaTeX of the same books: what they are is said, so that they can be
counted. The rules look at the whole of a small text and at the beginning of a large one; a name decides only where the text agrees with it.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from resiliparse.parse.encoding import detect_mime

from codedev import _archive
from codedev.corpus import licence
from codedev.corpus.extract import html, markup
from codedev.corpus.extract.book import tei

HEAD = 8192  # bytes that tell one form from another

Form = Literal["empty", "archive", "jsonl", "array", "values", "markup", "text", "binary"]

_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,1000}\[\s{0,1000}(?:\{\s{0,1000}[\"}]|\]\s*\Z)")
_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,1000}\{\s{0,1000}\"")
_OBJECT_ALONE = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,1000}\{[ \t\r]{0,100}\n")
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,1000}<(?:\?xml|!--|!DOCTYPE|[A-Za-z])", re.IGNORECASE)
_CONTROLS = bytes([*range(1, 9), *range(14, 27), *range(28, 32), 127])  # without white space, escape and NUL, which UTF-16 has


_TEXT_TYPES = ("text/plain", "text/html", "text/xml", "application/xml", "application/xhtml+xml", "application/octet-stream")


def form_of(head: bytes) -> Form:
    """How the (decompressed) content that begins with `head` is to be taken apart."""
    if not head.strip(b"\xef\xbb\xbf \t\r\n\f"):
        return "empty"
    if _archive.form(head[: _archive.BLOCK]):
        return "archive"
    if _ARRAY.match(head):
        return "array"
    if _OBJECT_ALONE.match(head):
        return "values"
    if _OBJECT.match(head):
        return "jsonl"
    if b"\0" in head and detect_mime(head) not in _TEXT_TYPES:
        return "binary"
    if head[:4096].count(b"\0") * 5 > len(head[:4096]) and head[:4096].count(b"\0") * 5 < len(head[:4096]) * 4:
        plain = head.replace(b"\0", b"").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
        return "markup" if _MARKUP.match(plain) else "text"  # UTF-16
    if (
        head.startswith((b"%PDF", b"{\\rtf", b"AT&TFORM"))
        or head[60:68] in (b"BOOKMOBI", b"TEXtREAd")
        or len(head) - len(head.translate(None, _CONTROLS)) > len(head) // 50
    ):
        return "binary"
    return "markup" if _MARKUP.match(head) or html.looks_like_html(head) else "text"


def media_type(head: bytes) -> str:
    """What binary content is, by its first bytes."""
    if head[60:68] in (b"BOOKMOBI", b"TEXtREAd"):
        return "application/x-mobipocket-ebook"
    if head.startswith(b"ITOLITLS"):
        return "application/x-ms-reader"
    if head.startswith(b"{\\rtf"):
        return "application/rtf"
    if head.startswith(b"AT&TFORM"):
        return "image/vnd.djvu"
    return detect_mime(head)


# Formats of books that are not read.
OTHER_FORMATS = frozenset(
    {"application/pdf", "application/x-mobipocket-ebook", "application/x-ms-reader", "application/rtf", "image/vnd.djvu"}
)
_OTHER_ROOTS = frozenset({"FictionBook", "dtbook", "book", "article", "osis", "zefania"})


class Markup(NamedTuple):
    kind: Literal["tei", "html", "other_format", "not_a_book"]
    root: str


def markup_kind(text: str) -> Markup:
    root = markup.root_name(text)
    if root in tei.ROOTS:
        return Markup("tei", root)
    if root.lower() in ("html", "body", "head", "p", "div", "h1", "h2", "center", "pre", "title", "meta") or html.looks_like_html(
        text[:4096].encode("utf-8", "replace")
    ):
        return Markup("html", root)
    return Markup("other_format" if root in _OTHER_ROOTS else "not_a_book", root)


# --- texts that are none

_LATEX = re.compile(
    r"^[ \t]*\\(?:documentclass|documentstyle|begin\{document\}|input (?:ams|la)?tex|magnification\b|usepackage)", re.MULTILINE
)
_PAIR = re.compile(r"\s*(?:- )?['\"]?[\w.@ -]{1,40}['\"]?:(?:\s|$)|\s*- \S")
_LISTING = re.compile(r"(?:[-dl][rwxsStT-]{9}\s|\S+\s+\d+\s+\d{1,2}-\w{3}-\d{2,4}\s|\d{2,4}[-/]\d{2}[-/]\d{2,4}\s+\d{2}:\d{2}\s)")
_CODE_END = (";", "{", "}", "};", "*/", "-->")
_SMALL = 64 << 10
_SAYS_RIGHTS = re.compile(
    r"creativecommons\.org/|public domain|copyright|licen[sc]ed? under|\brights\b|permission is hereby", re.IGNORECASE
)
_LICENCE_HEAD = re.compile(r"\s*[#*=]*\s*(?:the full project gutenberg|start: full) licen[sc]e", re.IGNORECASE)


def not_a_book(text: str, name: str) -> str | None:
    """What a text is that is no book: latex, licence, listing, metadata, code, readme; None where it may be one."""
    head = text[: 8 * _SMALL]
    if _LATEX.search(head, 0, 20_000):
        return "latex"
    lines = [line for line in head.split("\n")[:2000] if line.strip()]
    count = max(1, len(lines))
    if sum(_LISTING.match(line) is not None for line in lines) * 2 > count:
        return "listing"
    if (
        len(text) <= _SMALL
        and count > 2
        and _PAIR.match(lines[0])
        and sum(_PAIR.match(line) is not None for line in lines) * 10 >= count * 7
    ):
        return "metadata"
    if len(text) <= _SMALL and _is_licence(text):
        return "licence"
    if count > 5 and sum(line.rstrip().endswith(_CODE_END) for line in lines) * 10 > count * 4:
        return "code"
    base = name.rpartition("/")[2].lower()
    if base.startswith(("readme", "contributing", "changelog")) and len(text) <= _SMALL:
        return "readme"
    return None


def _is_licence(text: str) -> bool:
    if _LICENCE_HEAD.match(text):
        return True
    if licence.of_text(text) and "project gutenberg" not in text[:2000].lower():
        return True
    words = len(text.split())
    return words < 300 and len(_SAYS_RIGHTS.findall(text)) * 60 > words
