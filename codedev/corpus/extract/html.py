"""A page to text: its main content as Markdown with its formulas, what it says of itself, and what kind of page it is.

bytes -> characters (`charset.py`) -> tree (Resiliparse) -> formulas as LaTeX (`maths/`) -> the tree serialised and read as a tape
(`kernels/htmltape.py`) -> blocks and what can be counted of them -> the blocks that are content (`content.py`) -> Markdown
(`kernels/htmlrender.py`). Cost: 1.5 ms for a page of 180 kB, half of it the parser's. Does not run scripts, follow links or read pictures.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import numpy as np
from resiliparse.parse.html import HTMLParserException, HTMLTree

from codedev.corpus.extract import charset, content, html_head, mojibake, page_about, page_kind, page_metas, page_rights
from codedev.corpus.extract.maths import page as maths
from codedev.corpus.extract.page_rights import licence_of_url as licence_of_url
from codedev.kernels import htmlblocks, htmldepth, htmlrender, htmltags, htmltape
from codedev.kernels.htmlblocks import Blocks
from codedev.kernels.htmltags import Words
from codedev.kernels.htmltape import Tape

Extract = Literal["main", "all"]


class Page(NamedTuple):
    text: str
    licence: str | None  # SPDX
    meta: dict[str, object]  # what the page says of itself and what was done to it; None where there is nothing to say
    kind: str | None = None  # article, blog, forum, documentation, listing, product, other


class PageError(ValueError):
    """A page that cannot be parsed, or that would cost the parser quadratic time."""


# Some of what is counted of a block costs a step for each element around it. Real pages stay under 300.
_MAX_DEPTH = 2_000
_TOO_DEEP = " > ".join(["*"] * _MAX_DEPTH)
# Parsing costs the square of the attributes of one tag: 0.6 s for 20,000, or for 100 tags of 2,000.
_MAX_ATTRIBUTES = 20_000

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


class Prepared(NamedTuple):
    """A page parsed and cut into blocks, its formulas in LaTeX."""

    source: str
    charset: str
    replaced: int  # characters that its charset does not know
    plain: bytes | None  # its bytes, where their ASCII is that of the source
    title: str
    formulas: int
    tape: Tape
    blocks: Blocks
    words: int  # of `page_rights.WORDS` that are in its bytes, as bits


# One search for the words of formulas, of which any one counts, and for those of licences, each of which has its bit.
_FORMULA = page_rights.ALL_WORDS + 1
_SEARCH = Words(
    *(word.encode() for word in (*page_rights.WORDS, *maths._WORDS)),
    bits=[*range(len(page_rights.WORDS)), *[len(page_rights.WORDS)] * len(maths._WORDS)],
)


def prepare(html: bytes, charset_hint: str | None = None) -> Prepared:
    """Raises PageError."""
    source, encoding, replaced = charset.decode(html, charset_hint, markup=True)
    plain = html if encoding.startswith(_SUPERSETS) else None
    data = source.encode("utf-8", "replace") if plain is None else plain
    tree = _parse(source, data)
    document = tree.document
    assert document is not None  # a parsed tree has one
    formulas, words = 0, _SEARCH.found(data)
    if words & _FORMULA:
        if document.query_selector(_TOO_DEEP) is not None:  # 0.3 ms; writing into a deep tree costs its depth
            raise PageError(f"elements are nested more than {_MAX_DEPTH} deep")
        formulas = maths.rewrite(tree, data)
    tape = htmltape.tape(np.frombuffer(document.html.encode("utf-8", "replace"), np.uint8))
    if tape.depth.max() > _MAX_DEPTH:
        raise PageError(f"elements are nested more than {_MAX_DEPTH} deep")
    return Prepared(
        source, encoding, replaced, plain, tree.title or "", formulas, tape, htmlblocks.blocks(tape), words & page_rights.ALL_WORDS
    )


def html_to_text(
    html: bytes, charset_hint: str | None = None, extract: Extract = "main", url: str | None = None, model: content.Model | None = None
) -> Page:
    """The page's text and what it says of itself. `url`: where it was found. Raises PageError."""
    page = prepare(html, charset_hint)
    return written(page, chosen(page, extract, model), url)


def chosen(page: Prepared, extract: Extract, model: content.Model | None = None) -> np.ndarray:
    """bool[blocks]: which ones are to be written."""
    if extract == "all":
        return np.ones(len(page.blocks.first), np.bool_)
    return content.choose(page.tape, page.blocks, page.title, model).keep


def text_of(page: Prepared, keep: np.ndarray) -> tuple[str, int]:
    """(Markdown of the blocks that `keep` names, sequences of mojibake that were repaired)."""
    return mojibake.repair(htmlrender.render(page.tape, page.blocks.of_node, keep).decode("utf-8", "replace"))


def written(page: Prepared, keep: np.ndarray, url: str | None = None) -> Page:
    """The page with the blocks that `keep` names, and what it says of itself: a quarter of the whole cost."""
    text, repaired = text_of(page, keep)
    nodes = page_metas.nodes(page.tape)
    about = page_about.about(nodes, url)
    rights = page_rights.of_page(nodes, marks=page_rights.may_mark(page.source, words=page.words))
    verdict = page_kind.kind(nodes, url, about, content.stats(page.tape, page.blocks, keep))
    return Page(text, rights.licence, _meta(page, about, rights, verdict.kind, repaired), verdict.kind)


def _meta(page: Prepared, about: page_about.About, rights: page_rights.Rights, kind: str, repaired: int) -> dict[str, object]:
    return {
        "title": about.title,
        "authors": about.authors or None,
        "published": about.published,
        "modified": about.modified,
        "site": about.site,
        "html_lang": about.language,
        "canonical": about.canonical,
        "tags": about.tags or None,
        "page_kind": kind,
        "formulas": page.formulas or None,
        "charset": page.charset,
        "replaced": page.replaced or None,
        "repaired": repaired or None,
        "licence_links": rights.links or None,
        "robots": rights.robots or None,
    }


def html_as_it_is(html: bytes, charset_hint: str | None = None) -> Page:
    """The decoded HTML itself, and what it says of itself. A page that cannot be parsed says nothing, and `unparsed` why.

    A tree is built of the body only where it may hold a licence, and of the head only where `html_head.py` cannot read it."""
    source, encoding, replaced = charset.decode(html, charset_hint, markup=True)
    facts: dict[str, object] = {"charset": encoding, "replaced": replaced or None}
    head = _HEAD_END.search(source)
    cut = head.start() if head else len(source)
    plain = html if encoding.startswith(_SUPERSETS) else None
    words = _words(plain)
    in_body = page_rights.may_mark(source, cut, words)
    part = source if in_body else source[:cut]
    marks = in_body or page_rights.may_mark(part, words=words)
    try:
        licence, told = (None if marks else _facts_of_head(part)) or _facts(
            _parse(part, html if plain and in_body else part.encode("utf-8", "replace")), marks
        )
    except PageError as error:
        return Page(source, None, facts | {"unparsed": str(error)})
    return Page(source, licence, told | facts)


_HEAD_END = re.compile(r"</head\s*>|<body[\s>]|</HEAD>|<BODY")


# Charsets in which every ASCII character is its own byte: tags and words that the text holds, the bytes hold.
_SUPERSETS = ("utf-8", "cp125", "iso8859", "gb", "euc", "koi8")


def _words(plain: bytes | None) -> int:
    return page_rights.ALL_WORDS if plain is None else page_rights.words_in(plain)


def _parse(source: str, data: bytes) -> HTMLTree:
    """`data`: the source in UTF-8 or one of `_SUPERSETS`."""
    raw = np.frombuffer(data, np.uint8)
    counts = htmltags.counts(raw)
    if counts[htmltags.SQUARES] > _MAX_ATTRIBUTES**2:
        raise PageError(f"a tag has more than {_MAX_ATTRIBUTES:,} attributes, or many tags have thousands")
    _check_open_elements(counts)
    if counts[htmltags.TAGS] > _FEW_TAGS:
        steps, names = htmldepth.costs(raw, counts[htmltags.TAGS], _MAX_DEPTH, _MAX_STEPS, _MAX_NAMES)
        if steps > _MAX_STEPS:
            raise PageError(f"elements are nested more than {_MAX_DEPTH} deep")
        if names > _MAX_NAMES:
            raise PageError(f"more than {_MAX_NAMES:,} names of elements and attributes")
    try:
        return HTMLTree.parse(_closed(source) if counts[htmltags.SELF_CLOSED] else source)
    except HTMLParserException as error:
        raise PageError(f"cannot be parsed as HTML: {error}") from None


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
    tape = htmltape.tape(np.frombuffer(document.html.encode("utf-8", "replace"), np.uint8))
    rights = page_rights.of_page(page_metas.nodes(tape), marks=marks)
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


# Each costs up to 4 µs and 1.2 kB, as an element and as a block. Real pages of many megabytes stay under 200,000.
_MAX_TAGS = 1_000_000


# Below this depth costs little: half as many closing tags, each looking through as many open elements, take the parser 0.05 s. Above, a
# step through the open elements takes it 2 to 5 ns. The parser takes 5 s for 100,000 different names, real pages have some hundred.
_FEW_TAGS, _MAX_STEPS, _MAX_NAMES = 10_000, 100_000_000, 20_000


def _check_open_elements(counts: tuple[int, ...]) -> None:
    if counts[htmltags.TAGS] > _MAX_TAGS:
        raise PageError(f"more than {_MAX_TAGS:,} tags")
    if counts[htmltags.UNCLOSED] > _MAX_UNCLOSED:
        raise PageError(f"more than {_MAX_UNCLOSED} formatting elements are left open")
    if counts[htmltags.OPTIONS] > _MAX_OPTIONS or counts[htmltags.ROOTS] > _MAX_ROOTS:
        raise PageError(f"more than {_MAX_OPTIONS} options, or {_MAX_ROOTS} html and body tags")
    if counts[htmltags.STRAY_ENDS] > _MAX_STRAY_ENDS:
        raise PageError(f"more than {_MAX_STRAY_ENDS} paragraphs end that never began")


def _short(value: str | None) -> str | None:
    """White space collapsed, at most 1,000 characters, None when empty."""
    return (" ".join(value.split())[:1000] or None) if value else None


def looks_like_html(head: bytes) -> bool:
    """Whether a document that starts with `head`, some thousand bytes, is HTML or XHTML."""
    if head[:64].count(b"\0") * 5 > len(head[:64]):
        head = head.replace(b"\0", b"")  # UTF-16
    for mark, _ in charset.BOMS:
        head = head.removeprefix(mark)
    return _HTML.match(head) is not None
