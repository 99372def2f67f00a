"""Web pages with what people say is their content: readers of the public gold sets, one form for all, and folds that part no site.

A set is a folder below `.data/web` as it was published. What a page has of gold differs: the whole text (`text`, or `html_gold` where it is
HTML), segments that must and must not come out, elements (code, formulas, tables), title and date. `group` names the page's site: folds
are made of whole groups, so that a model is never scored on a site that it has learnt from. All six sets, 697 pages, 103 MB: 0.4 s.
What it does not do: mend gold that is wrong. Gold of fewer than 100 characters beside a real page is taken for a failure of the tool that
made it, and is None.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
import xxhash
from lxml import html as lxml_html


class Element(NamedTuple):
    """A part of the gold whose exact text counts."""

    kind: str  # code, inline_code, formula, inline_formula, table (as HTML), title
    text: str
    detail: str | None = None  # of code its language, of a title its level
    source: str | None = None  # what it is in the page, in the set's words: tag_pre, tag_code, mathjax


class GoldPage(NamedTuple):
    set: str
    id: str  # unique within the set
    url: str  # empty where the set does not tell
    html: bytes  # what extractors get
    text: str | None = None  # the gold as plain text or Markdown
    html_gold: str | None = None  # the gold as HTML
    must: tuple[str, ...] = ()  # segments of the main content
    must_not: tuple[str, ...] = ()  # segments of the rest
    meta: Mapping[str, Any] = {}  # title, byline, date, language, site: what the set gives
    kind: str | None = None  # article, code, math, table, …
    elements: tuple[Element, ...] = ()
    group: str = ""  # the site, or what comes nearest


# --- sets


def read_article_benchmark(folder: Path) -> Iterator[GoldPage]:
    """scrapinghub's article-extraction-benchmark, public half: the whole text of 88 news articles and posts."""
    for name, page in sorted(orjson.loads((folder / "ground-truth.json").read_bytes()).items()):
        html = gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes())
        yield _page("article_benchmark", name, page["url"], html, text=page["articleBody"], kind="article")


def read_trafilatura(folder: Path) -> Iterator[GoldPage]:
    """trafilatura's evaluation: about three segments that must come out and three that must not, of 506 pages in several languages."""
    tests = folder / "tests"
    for url, page in orjson.loads((tests / "evaldata.json").read_bytes()).items():
        path = next((found for place in ("cache", "eval") if (found := tests / place / page["file"]).is_file()), None)
        if path is None:
            continue
        meta = _told(title=page.get("title"), byline=page.get("author"), date=page.get("date"), site=page.get("sitename"))
        segments = {"must": tuple(page["with"]), "must_not": tuple(page["without"])}
        html, site = path.read_bytes(), page["file"].partition(".")[0]
        url = url if url.startswith("http") else _own_address(html)  # some are given the name of their file
        yield _page("trafilatura", page["file"].removesuffix(".html"), url, html, meta=meta, site=site, **segments)


def read_readability(folder: Path) -> Iterator[GoldPage]:
    """Mozilla's readability: 64 pages beside the HTML that the reader view is to show. Some are made for one trait; addresses are few."""
    for page in sorted((folder / "test" / "test-pages").iterdir()):
        html = (page / "source.html").read_bytes()
        said = orjson.loads((page / "expected-metadata.json").read_bytes())
        told = {"title": "title", "byline": "byline", "date": "publishedTime", "language": "lang", "site": "siteName"}
        gold = (page / "expected.html").read_text(encoding="utf-8")
        site = _NUMBER.sub("", page.name)
        meta = _told(**{ours: said.get(theirs) for ours, theirs in told.items()})
        formulas = tuple(_formula(latex, "annotation") for latex in _ANNOTATIONS.findall(html.decode()))  # its own gold has lost them
        yield _page("readability", page.name, _own_address(html), html, html_gold=gold, meta=meta, elements=formulas, site=site)


def read_llm_webkit(folder: Path) -> Iterator[GoldPage]:
    """llm-web-kit's bench: Markdown and typed elements of 18 pages of code, mathematics and tables.

    The gold is a tool's output that people looked at; three pages have none, and inline code of some has become blocks."""
    data = folder / "bench" / "data"
    for path in sorted((data / "groundtruth").glob("*.jsonl")):
        page = orjson.loads(path.read_bytes().partition(b"\n")[0])
        html = (data / "origin" / f"{path.stem}.html").read_bytes()
        kind = {"artical": "article", "img": "article"}.get(word := path.stem.partition("_")[0], word)
        elements = tuple(_elements(page["content_list"]))
        yield _page("llm_webkit", path.stem, page["url"], html, text=_real(page["content"]), kind=kind, elements=elements)


def read_webmainbench(folder: Path) -> Iterator[GoldPage]:
    """WebMainBench's public sample: Markdown and elements of four pages of four kinds.

    Annotators clicked the content, and their tool left marks in the HTML; extractors get it without. `meta["annotated"]` has it with them:
    what was clicked has the attribute `cc-select`."""
    with (folder / "data" / "sample_dataset.jsonl").open("rb") as lines:
        for page in map(orjson.loads, lines):
            elements = tuple(_elements(page["groundtruth_content_list"]))
            html = without_annotations(page["html"]).encode()
            kind = page.get("layout_type") or _WEBMAINBENCH_KINDS.get(page["track_id"][:8])
            meta = {"annotated": page["html"]}
            text = _real(page["groundtruth_content"])
            yield _page("webmainbench", page["track_id"], page["url"], html, text=text, meta=meta, kind=kind, elements=elements)


def read_engrafo(folder: Path) -> Iterator[GoldPage]:
    """Papers that LaTeXML and MathJax 2 rendered: each formula as hundreds of spans, its LaTeX in the label of the outermost one."""
    for path in sorted((folder / "tests" / "integration-output").rglob("index.html")):
        html = path.read_bytes()
        found = _LABELS.findall(html.decode())
        formulas = tuple(
            Element("formula" if display else "inline_formula", unescape(label), None, "aria-label") for display, label in found
        )
        if formulas:
            name = str(path.parent.relative_to(folder / "tests" / "integration-output"))
            yield _page("engrafo", name, "", html, kind="math", elements=formulas, site="engrafo")


SETS: dict[str, Callable[[Path], Iterator[GoldPage]]] = {
    "article_benchmark": read_article_benchmark,
    "trafilatura": read_trafilatura,
    "readability": read_readability,
    "llm_webkit": read_llm_webkit,
    "webmainbench": read_webmainbench,
    "engrafo": read_engrafo,
}
FOLDERS = {
    "article_benchmark": "scrapinghub__article-extraction-benchmark",
    "trafilatura": "adbar__trafilatura",
    "readability": "mozilla__readability",
    "llm_webkit": "ccprocessor__llm-webkit-mirror",
    "webmainbench": "opendatalab__WebMainBench",
    "engrafo": "../science/arxiv-vanity__engrafo",
}


def read(web: Path, sets: Iterable[str] = tuple(SETS)) -> Iterator[GoldPage]:
    """The pages of `sets` below the folder `web`; a set that is not there gives none."""
    for name in sets:
        if (web / FOLDERS[name]).is_dir():
            yield from SETS[name](web / FOLDERS[name])


# The sample says the kind of one page of four; these are ours, by looking at them.
_WEBMAINBENCH_KINDS = {"3026972b": "documentation", "ee0a113d": "product", "33e291cd": "product"}
_LABELS = re.compile(r'<span class="mjx-chtml( MJXc-display)?"[^<>]*>\s*<span class="mjx-math"[^<>]*?\baria-label="([^"]*)"')
_ANNOTATIONS = re.compile(r'<annotation encoding="application/x-tex">([^<]*)</annotation>')
_NUMBER = re.compile(r"-\d+$")
_LEAST_GOLD = 100  # characters


def _page(name: str, identity: str, url: str, html: bytes, site: str = "", **gold: Any) -> GoldPage:
    return GoldPage(name, identity, url, html, **gold, group=site_of(url) or site or f"{name}/{identity}")


def _told(**fields: str | list[str] | None) -> dict[str, str]:
    return {name: ", ".join(value) if isinstance(value, list) else value for name, value in fields.items() if value}


def _real(text: str) -> str | None:
    return text if len(text.strip()) >= _LEAST_GOLD else None


def _formula(escaped: str, source: str, *, display: bool = False) -> Element:
    return Element("formula" if display else "inline_formula", unescape(escaped), None, source)


def _elements(content: Any) -> Iterator[Element]:
    """In the order of the page. Without recursion: lists of lists nest as deep as the page."""
    waiting = [content]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(reversed(node))
        elif isinstance(node, dict):
            if found := _element(node):
                yield found
            else:
                waiting.extend(reversed(list(node.values())))


def _element(node: dict[str, Any]) -> Element | None:
    match node.get("type") or node.get("t"), node.get("content"):
        case "code", dict(content):
            kind = "inline_code" if node.get("inline") else "code"
            return Element(kind, content["code_content"], content.get("language"), content.get("by"))
        case "code-inline", _:
            return Element("inline_code", node["c"])
        case "equation-interline", dict(content):
            return Element("formula", content["math_content"], None, content.get("by"))
        case "equation-inline", _:
            return Element("inline_formula", node["c"])
        case "table" | "simple_table" | "complex_table", dict(content):
            return Element("table", content["html"] or "")
        case "title", dict(content):
            return Element("title", content["title_content"], str(content["level"]))
    return None


# --- annotations


_TOOL_STYLE = re.compile(r'<style[^<>]*\bid="cc-[^<>]*>[^<]*</style>\s*')
_TAG = re.compile(r"""<[A-Za-z](?:[^"'<>]++|"[^"]*+"|'[^']*+')*+>""")
_TOOL_ATTRIBUTE = re.compile(r'\s(?:cc-select|data-anno-uid)="[^"]*+"')
_TOOL_CLASS = re.compile(r'(?<=[\s"])mark-selected\s?(?=[^"<>]*")')
_LEFT_EMPTY = re.compile(r'\s(?:class|style)="\s*+"')


def without_annotations(html: str) -> str:
    """The page without what WebMainBench's tool put into it; attributes left empty go too, as they tell where a pointer was."""
    return _TAG.sub(lambda tag: _cleaned(tag[0]), _TOOL_STYLE.sub("", html))


def _cleaned(tag: str) -> str:
    if "data-anno-uid" not in tag and "cc-select" not in tag:
        return tag
    return _LEFT_EMPTY.sub("", _TOOL_CLASS.sub("", _TOOL_ATTRIBUTE.sub("", tag)))


# --- sites and folds

# Below these second labels of a country's domain anyone may register: the name stands before them.
_SECOND = frozenset({"ac", "co", "com", "edu", "go", "gob", "gov", "govt", "gouv", "info", "ne", "net", "nom", "or", "org"})
_ARCHIVE = re.compile(r"https?://web\.archive\.org/web/[^/]+/(?:https?://)?")
_ADDRESS = re.compile(
    rb'<(?:link|meta)\b[^<>]{0,300}?(?:rel\s*=\s*["\']?canonical|property\s*=\s*["\']og:url)[^<>]{0,1000}>', re.IGNORECASE
)
_HTTP = re.compile(rb'(?:href|content)\s*=\s*["\']?((?:https?:)?//[^\s"\'<>]+)', re.IGNORECASE)
_HEAD = 1 << 20  # bytes in which a page says its own address


def site_of(url: str) -> str:
    """The name that a site goes by: `liberation` for next.liberation.fr, `bbc` for bbc.co.uk. Countries' editions of one site (amazon.de,
    amazon.com) share their templates, and so their name here; all blogs of one host do. Empty where there is no host."""
    try:
        host = (urlsplit(_ARCHIVE.sub("http://", url, count=1)).hostname or "").rstrip(".")
    except ValueError:
        return ""
    labels = host.split(".")
    if len(labels) < 2 or labels[-1].isdigit():
        return host
    behind = 2 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND else 1
    return labels[-behind - 1]


def _own_address(html: bytes) -> str:
    """What the page says its address is; empty where it says nothing."""
    found = (_HTTP.search(tag[0]) for tag in _ADDRESS.finditer(html, 0, _HEAD))
    address = next((address[1].decode("utf-8", "replace") for address in found if address), "")
    return f"https:{address}" if address.startswith("//") else address


def fold(page: GoldPage, folds: int = 10) -> int:
    """The fold that a page is tested in: by its group alone, the same for ever."""
    return xxhash.xxh3_64_intdigest(page.group.encode()) % folds


def duplicates(pages: Iterable[GoldPage]) -> list[tuple[GoldPage, GoldPage]]:
    """(first, later) of pages with one address, or with the same HTML but for white space."""
    first: dict[object, GoldPage] = {}
    found = []
    for page in pages:
        keys: list[object] = [xxhash.xxh3_128_digest(b"".join(page.html.split()))]
        if page.url:
            keys.append(_ARCHIVE.sub("http://", page.url, count=1).partition("://")[2].partition("#")[0].removeprefix("www.").rstrip("/"))
        if earlier := next((first[key] for key in keys if key in first), None):
            found.append((earlier, page))
        for key in keys:
            first.setdefault(key, page)
    return found


def text_of_html(html: str) -> str:
    """The text of gold HTML: a line for each piece of text, so that no words are joined. For scores of words, not for reading."""
    tree = lxml_html.document_fromstring(html) if html.strip() else None
    return "" if tree is None else "\n".join(piece.strip() for piece in tree.itertext() if piece.strip())
