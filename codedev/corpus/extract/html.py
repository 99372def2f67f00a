"""HTML to text: the page's main content, and what the page says of itself.

Resiliparse parses and extracts, at about 40 MB of HTML a second and core. The charset comes from the byte order mark, then from
the bytes where they are UTF-8, then from the caller (the HTTP header), the page's meta tag, and a guess from the bytes.
What it says of its licence and of robots is read in `page_rights.py`. Does not run scripts, and does not keep formulas, tables or links.
"""

from __future__ import annotations

import codecs
import re
from typing import Literal, NamedTuple

import numpy as np
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLParserException, HTMLTree

from codedev.corpus.extract import html_head, page_rights
from codedev.corpus.extract.page_rights import licence_of_url as licence_of_url
from codedev.kernels import htmltags


class Page(NamedTuple):
    text: str
    licence: str | None  # SPDX
    meta: dict[str, object]  # title, html_lang, canonical, charset, replaced, licence_links, robots; None where the page says nothing


class PageError(ValueError):
    """A page that cannot be parsed, or that would cost the parser quadratic time."""


# Extraction costs the square of the nesting depth: 0.05 s at 2,000, 1.3 s at 10,000, minutes at 100,000. Real pages stay under 300.
_MAX_DEPTH = 2_000
_TOO_DEEP = " > ".join(["*"] * _MAX_DEPTH)
# So does parsing, of the attributes of one tag: 0.6 s for 20,000. Pages under _SMALL bytes cannot hold enough to matter.
_MAX_ATTRIBUTES, _SMALL = 20_000, 256 << 10
_TAG = re.compile(r"""<[A-Za-z](?:[^"'>]++|"[^"]*+"|'[^']*+')*+""")
_QUOTED = re.compile(r""""[^"]*+"|'[^']*+'""")

# XML may close these at once; to an HTML parser they then swallow the rest of the page.
_XHTML = "http://www.w3.org/1999/xhtml"
_SELF_CLOSED = re.compile(r"<(title|script|style|textarea|iframe|noscript)\b([^<>]*)/>", re.IGNORECASE)

# The first element of a document, after its prologue. Not p, div, h1: Markdown starts with those too.
# Possessive, so that a head full of comments costs linear time.
_HTML = re.compile(
    rb"\s*(?:(?><\?[^>]*>|<!--.*?-->|<!doctype\s(?!\s*html\b)[^>]*>)\s*)*+"
    rb"<(?:!doctype\s+html|html|head|body|title|meta|base|link|script|style|frameset|center)\b",
    re.IGNORECASE | re.DOTALL,
)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def html_to_text(html: bytes, charset_hint: str | None = None, extract: Literal["main", "all"] = "main") -> Page:
    """The page's text and what it says of itself. Raises PageError."""
    source, charset, replaced = decode(html, charset_hint, markup=True)
    plain = html if charset.startswith(_SUPERSETS) else None
    tree = _parse(source, plain)
    text = extract_plain_text(
        tree,
        preserve_formatting=True,
        main_content=extract == "main",
        list_bullets=True,
        alt_texts=False,
        links=False,
        form_fields=False,
        noscript=False,
        comments=False,  # readers' comments: 3 points less of what people marked as noise, at the same recall
    )
    licence, told = _facts(tree, page_rights.may_mark(source, words=_words(plain)))
    return Page(text, licence, told | {"charset": charset, "replaced": replaced or None})


def html_as_it_is(html: bytes, charset_hint: str | None = None) -> Page:
    """The decoded HTML itself, and what it says of itself. A page that cannot be parsed says nothing, and `unparsed` why.

    A tree is built of the body only where it may hold a licence, and of the head only where `html_head.py` cannot read it."""
    source, charset, replaced = decode(html, charset_hint, markup=True)
    facts: dict[str, object] = {"charset": charset, "replaced": replaced or None}
    head = _HEAD_END.search(source)
    cut = head.start() if head else len(source)
    plain = html if charset.startswith(_SUPERSETS) else None
    words = _words(plain)
    in_body = page_rights.may_mark(source, cut, words)
    part = source if in_body else source[:cut]
    marks = in_body or page_rights.may_mark(part, words=words)
    try:
        licence, told = (None if marks else _facts_of_head(part)) or _facts(_parse(part, plain if in_body else None), marks)
    except PageError as error:
        return Page(source, None, facts | {"unparsed": str(error)})
    return Page(source, licence, told | facts)


_HEAD_END = re.compile(r"</head\s*>|<body[\s>]|</HEAD>|<BODY")


# Charsets in which every ASCII character is its own byte: tags and words that the text holds, the bytes hold.
_SUPERSETS = ("utf-8", "cp125", "iso8859", "gb", "euc", "koi8")


def _words(plain: bytes | None) -> int:
    return page_rights.ALL_WORDS if plain is None else page_rights.words_in(plain)


def _parse(source: str, plain: bytes | None = None) -> HTMLTree:
    """`plain`: bytes of the source in one of `_SUPERSETS`, if there are."""
    _check_attributes(source)
    counts = htmltags.counts(np.frombuffer(source.encode("utf-8", "replace") if plain is None else plain, np.uint8))
    _check_open_elements(counts)
    try:
        tree = HTMLTree.parse(_closed(source))
    except HTMLParserException as error:
        raise PageError(f"cannot be parsed as HTML: {error}") from None
    document = tree.document
    assert document is not None  # a parsed tree has one
    # 0.3 ms a page; a page cannot be deep without as many tags.
    if counts[htmltags.TAGS] > _MAX_DEPTH and document.query_selector(_TOO_DEEP) is not None:
        raise PageError(f"elements are nested more than {_MAX_DEPTH} deep")
    return tree


def _facts_of_head(part: str) -> tuple[None, dict[str, object]] | None:
    """The same as `_facts` of a page that marks no licence; None where that takes a parser."""
    found = html_head.facts(_closed(part))
    if found is None:
        return None
    return None, {
        "title": _short(found.title),
        "html_lang": _short(found.lang),
        "canonical": _short(found.canonical),
        "licence_links": None,
        "robots": found.robots or None,
    }


def _facts(tree: HTMLTree, marks: bool) -> tuple[str | None, dict[str, object]]:
    """(licence, what the page says of itself). `marks`: whether it may mark a licence."""
    document = tree.document
    assert document is not None  # a parsed tree has one
    rights = page_rights.of_page(document, marks=marks)
    root = document.query_selector("html")
    canonical = document.query_selector('link[rel~="canonical" i]')
    return rights.licence, {
        "title": _short(tree.title),
        "html_lang": _short(root.getattr("lang")) if root else None,
        "canonical": _short(canonical.getattr("href")) if canonical else None,
        "licence_links": rights.links or None,
        "robots": rights.robots or None,
    }


def _closed(source: str) -> str:
    return _SELF_CLOSED.sub(r"<\1\2></\1>", source) if _XHTML in source[:2000] else source


# HTML's rules reopen formatting elements in every paragraph, look through all options of a select, and move the attributes of every further
# body to the first: each is quadratic in the number of such tags, and far above what real pages hold.
_MAX_UNCLOSED, _MAX_OPTIONS, _MAX_ROOTS, _MAX_STRAY_ENDS = 1_000, 10_000, 100, 5_000


def _check_open_elements(counts: tuple[int, ...]) -> None:
    if counts[htmltags.UNCLOSED] > _MAX_UNCLOSED:
        raise PageError(f"more than {_MAX_UNCLOSED} formatting elements are left open")
    if counts[htmltags.OPTIONS] > _MAX_OPTIONS or counts[htmltags.ROOTS] > _MAX_ROOTS:
        raise PageError(f"more than {_MAX_OPTIONS} options, or {_MAX_ROOTS} html and body tags")
    if counts[htmltags.STRAY_ENDS] > _MAX_STRAY_ENDS:
        raise PageError(f"more than {_MAX_STRAY_ENDS} paragraphs end that never began")


def _check_attributes(source: str) -> None:
    if len(source) < _SMALL:
        return
    # 0.5 ms for 100 kB; only large pages come here.
    for tag in _TAG.finditer(source):
        if tag.end() - tag.start() > 2 * _MAX_ATTRIBUTES and len(_QUOTED.sub(" ", tag[0]).split()) > _MAX_ATTRIBUTES:
            raise PageError(f"a tag has more than {_MAX_ATTRIBUTES} attributes")


def _short(value: str | None) -> str | None:
    """White space collapsed, at most 1,000 characters, None when empty."""
    return (" ".join(value.split())[:1000] or None) if value else None


def looks_like_html(head: bytes) -> bool:
    """Whether a document that starts with `head`, some thousand bytes, is HTML or XHTML."""
    if head[:64].count(b"\0") * 5 > len(head[:64]):
        head = head.replace(b"\0", b"")  # UTF-16
    for mark, _ in _BOMS:
        head = head.removeprefix(mark)
    return _HTML.match(head) is not None


# --- charset


def decode(data: bytes, hint: str | None = None, *, markup: bool = False) -> tuple[str, str, int]:
    """(text, charset, characters replaced by U+FFFD). `hint` is what the transport said; `markup` looks for a meta tag too."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return _replacing(data[len(mark) :], name)
    nuls = data[:4096].count(b"\0")
    if nuls * 5 > len(data[:4096]):  # UTF-16 without a mark: in markup every second byte is zero
        return _replacing(data, "utf-16-le" if data[1:4096:2].count(b"\0") * 2 > nuls else "utf-16-be")
    declared = map_encoding_to_html5(hint, fallback_utf8=False) if hint else None
    if b"\x1b" not in data and not _holds_hz(data):  # the marks of the seven-bit charsets
        # Bytes that are valid UTF-8 are UTF-8, whatever is declared: text of another charset does not pass by chance.
        try:
            return data.decode("utf-8"), "utf-8", 0
        except UnicodeDecodeError:
            pass
    best: tuple[str, str, int] | None = None
    foreign = -1
    for attempt in range(3):
        charset = declared if attempt == 0 else detect_encoding(data, from_html_meta=markup and attempt == 1)
        if not charset:
            continue
        decoded = _replacing(data, charset)
        if best is None or decoded[2] < best[2]:
            best = decoded
        if not best[2]:
            break
        if foreign < 0:
            foreign = len(data.translate(None, delete=_ASCII))
        if best[2] * 20 <= foreign:  # a few broken bytes do not make a charset wrong, a page full of them does
            break
    return best or _replacing(data, "utf-8")


_ASCII = bytes(range(128))


def _replacing(data: bytes, charset: str) -> tuple[str, str, int]:
    text = data.decode(charset, "replace")
    return text, codecs.lookup(charset).name, text.count("\ufffd") if "\ufffd" in text else 0  # looking is faster than counting


def _holds_hz(data: bytes) -> bool:
    """Whether `~{` is in it. Looking for one byte is ten times as fast as for two."""
    at = -1
    for _ in range(_TILDES):
        at = data.find(b"~", at + 1)
        if at < 0 or data[at + 1 : at + 2] == b"{":
            return at >= 0
    return data.find(b"~{", at) >= 0


_TILDES = 50
