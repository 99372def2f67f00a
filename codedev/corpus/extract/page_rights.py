"""What a page says may be done with it: its licence, and what it asks of robots and of text and data mining.

A licence is taken only where the page marks it as its own: `rel=license` in HTML or in a Link header, `dc.rights` and `dcterms.license`,
RDFa and microdata that speak of the page or an article, JSON-LD of such a type. A Creative Commons link alone may speak of one picture, so
it goes to `links`; so do two marks that disagree. Licences are told by their URLs, as SPDX identifiers; a Creative Commons port without
an identifier of its own (by-nc/2.5/br) is named by its version. Directives are kept as they are said (`noai`, `gptbot:noindex`,
`tdm-reservation:1`); `reserved` names the one that keeps a page out of a corpus. Cost: 5 µs a page, 20 where it may mark a licence.
Does not read robots.txt or the policies that pages refer to, and a page's word is not checked. Not legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from codedev.corpus.extract.page_nodes import Nodes
from codedev.kernels import htmlfind
from codedev.kernels.htmltags import Words
from codedev.kernels.htmltape import TAG


class Rights(NamedTuple):
    licence: str | None  # SPDX
    links: list[str]  # to licences that the page does not mark as its own, or to several that it does
    robots: list[str]  # directives, sorted


def of_page(nodes: Nodes, *, marks: bool) -> Rights:
    """`marks`: what `may_mark` says of the source that the page was made of."""
    robots = sorted(set(_directives(nodes)))[:_MOST]
    if not marks:
        return Rights(None, [], robots)
    marked: dict[str, str] = {}
    for value in _marks(nodes):
        if spdx := licence_of(value):
            marked.setdefault(spdx, value[:1000])
    if len(marked) == 1:
        return Rights(next(iter(marked)), [], robots)
    links = {nodes.attributes(node).get("href", "").strip()[:1000] for bits, node in nodes.marked if bits & htmlfind.CREATIVE_COMMONS}
    return Rights(None, sorted({url for url in links if licence_of_url(url)} | set(marked.values()))[:10], robots)


_HINT = re.compile(r"""(?:rel|property|itemprop|name)\s*=\s*["']?[^<>"']*$|["']$""", re.IGNORECASE)
_WORDS = ("icense", "ICENSE")
_SURE = ("reativecommons.org/", ".rights", ".RIGHTS")


_MANY = 10_000  # places that are looked at; beyond, the elements are


def words_in(data: bytes) -> int:
    """Which of the words that `may_mark` looks for are in a page: bits of `ALL_WORDS`. 20 µs of 35 kB; one by one they take 60."""
    return _SEARCH.found(data)


WORDS = (*_SURE, *_WORDS)
_SEARCH = Words(*(word.encode() for word in WORDS))
ALL_WORDS = (1 << len(WORDS)) - 1


def may_mark(source: str, start: int = 0, words: int = ALL_WORDS) -> bool:
    """Whether a page, in which no other than these `words` are, may say from `start` on what its licence is. It spares most pages a look
    at their elements; the word alone is in every second page, which says it of its scripts."""
    if any(words >> bit & 1 and source.find(word, start) >= 0 for bit, word in enumerate(_SURE)):
        return True
    for bit, word in enumerate(_WORDS, len(_SURE)):
        if not words >> bit & 1:
            continue
        at = start
        for _ in range(_MANY):
            at = source.find(word, at + 1)
            if at < 0:
                break
            if _HINT.search(source[max(0, at - 60) : at - 1]):
                return True
        else:
            return True
    return False


# --- licences

_CC = re.compile(
    r"(?:(?:https?:)?//)?(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/([a-z][a-z-]*)(?:/(\d\.\d))?(?:/([a-z]{2,3})(?=[/?#\s]|$))?",
    re.IGNORECASE,
)
_OTHERS = {
    "apache.org/licenses/license-2.0": "Apache-2.0",
    "opensource.org/licenses/mit": "MIT",
    "opensource.org/license/mit": "MIT",
    "gnu.org/licenses/fdl-1.3": "GFDL-1.3-only",
    "gnu.org/licenses/old-licenses/fdl-1.2": "GFDL-1.2-only",
}
# The ports to one jurisdiction that have an SPDX identifier of their own; other ports are named by their version.
_PORTS = {
    "BY": ("2.5-AU", "3.0-AT", "3.0-AU", "3.0-DE", "3.0-IGO", "3.0-NL", "3.0-US"),
    "BY-NC": ("3.0-DE",),
    "BY-NC-ND": ("3.0-DE", "3.0-IGO"),
    "BY-NC-SA": ("2.0-DE", "2.0-FR", "2.0-UK", "3.0-DE", "3.0-IGO"),
    "BY-ND": ("3.0-DE",),
    "BY-SA": ("2.0-UK", "2.1-JP", "3.0-AT", "3.0-DE", "3.0-IGO"),
}
_CC_VERSIONS = frozenset({"1.0", "2.0", "2.5", "3.0", "4.0"})
_CC_NAME = re.compile(r"CC[ -]?(0|BY(?:[ -]NC)?(?:[ -](?:SA|ND))?)[ -]?(\d\.\d)?", re.IGNORECASE)


def licence_of_url(url: str) -> str | None:
    """The SPDX identifier of the licence that lives at `url`; None when it is none that is known."""
    url = url.strip()
    found = _CC.match(url)
    if found:
        return _creative_commons(found[1], found[2], found[3])
    bare = re.sub(r"^(?:https?:)?//(?:www\.)?", "", url.lower()).removesuffix("/").removesuffix(".html").removesuffix(".txt")
    return _OTHERS.get(bare)


def licence_of(value: str) -> str | None:
    """The same of what metadata say: a URL, words with a Creative Commons URL in them, or a short name (CC BY-SA 4.0)."""
    value = value.strip()[:2000]
    if name := _CC_NAME.fullmatch(value):
        return _creative_commons("zero" if name[1] == "0" else name[1].replace(" ", "-"), name[2], None)
    found = _CC.search(value)
    return licence_of_url(value[found.start() :] if found else value)


def _creative_commons(name: str, version: str | None, port: str | None) -> str | None:
    name, port = name.upper(), (port or "").upper()
    match name:
        case "ZERO":
            return "CC0-1.0"
        case "MARK":
            return "CC-PDM-1.0"
        case "PUBLICDOMAIN":
            return "CC-PDDC"
        case "BY-ND-NC":
            name = "BY-NC-ND"
    if f"{version}-{port}" in _PORTS.get(name, ()):
        return f"CC-{name}-{version}-{port}"
    return f"CC-{name}-{version}" if name in _PORTS and version in _CC_VERSIONS else None


META_NAMES = frozenset({"dcterms.license", "dcterms.rights", "dc.rights", "dc.rights.license", "dc.license"})
_PROPERTIES = frozenset({"license", "cc:license", "dct:license", "dcterms:license", "dc:license", "schema:license", "xhv:license"})
# What a page or its text is called; pictures, films, code and data have licences of their own.
_TEXTS = frozenset(
    {"webpage", "aboutpage", "collectionpage", "itempage", "faqpage", "qapage", "medicalwebpage", "profilepage", "website", "article"}
    | {"newsarticle", "analysisnewsarticle", "opinionnewsarticle", "reportagenewsarticle", "scholarlyarticle", "techarticle", "report"}
    | {"medicalscholarlyarticle", "satiricalarticle", "blog", "blogposting", "liveblogposting", "socialmediaposting", "creativework"}
    | {"discussionforumposting", "book", "chapter", "learningresource", "course", "howto", "recipe", "question", "answer", "review"}
)


def _marks(nodes: Nodes) -> Iterator[str]:
    marked = [node for bits, node in nodes.marked if bits & htmlfind.LICENCE]
    named = [node for number, node, _ in nodes.named() if METAS[number] in META_NAMES]
    for node in sorted({*marked, *named}):
        told = nodes.attributes(node)
        if not (told.get("itemprop") or told.get("property")):
            value = told.get("href") or told.get("content") or told.get("resource")
        elif _speaks_of_text(nodes, node):
            value = told.get("resource") or told.get("href") or told.get("content")
        else:
            continue
        if value:
            yield value
    scripts = [node for bits, node in nodes.marked if bits & htmlfind.SCRIPT]
    for text in map(nodes.script, scripts[:_MOST]):
        if "icense" in text and len(text) < _LARGEST_JSON:
            yield from _of_json_ld(text)


_MOST = 50  # elements of a kind that anything is read from
_LARGEST_JSON = 1 << 20
_HTML = TAG["html"]


def _speaks_of_text(nodes: Nodes, element: int) -> bool:
    """Whether an RDFa property or microdata item speaks of the page or its text, not of a picture in it."""
    told = nodes.attributes(element)
    if (named := told.get("property")) and named.lower() not in _PROPERTIES and not told.get("itemprop"):
        return False
    at = element
    for _ in range(_MOST):
        told = nodes.attributes(at)
        about, kind = told.get("about"), told.get("itemtype") or told.get("typeof")
        if about and about != "#" and not kind:
            return False
        if kind:
            return any(re.split(r"[/#:]", word)[-1].lower() in _TEXTS for word in kind.split())
        if "itemscope" in told:
            return False
        at = nodes.parent[at]
        if at <= 0 or nodes.tag[at] == _HTML:
            return True
    return False


def _of_json_ld(text: str) -> Iterator[str]:
    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    for thing in told if isinstance(told, list) else [told]:
        graph = thing.get("@graph") if isinstance(thing, dict) else None
        for one in [thing, *(graph if isinstance(graph, list) else [])][: 10 * _MOST]:
            kinds = one.get("@type") if isinstance(one, dict) else None
            names = kinds if isinstance(kinds, list) else [kinds]
            if any(isinstance(name, str) and re.split(r"[/#:]", name)[-1].lower() in _TEXTS for name in names):
                yield from _strings(one.get("license"))


def _strings(value: Any) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            one = one.get("@id") or one.get("url")
        if isinstance(one, str):
            yield one


# --- robots

_KNOWN = frozenset(
    {"noindex", "nofollow", "none", "noarchive", "nocache", "nosnippet", "noimageindex", "notranslate", "noai", "noimageai", "noml"}
)
_RESERVING = frozenset({"noindex", "none", "noai", "noml"})
_TDM = "tdm-reservation:1"
_SEARCH_AGENTS = frozenset({"googlebot", "googlebot-news", "bingbot", "slurp", "yandex", "baiduspider", "applebot", "duckduckbot"})
_CORPUS_AGENTS = frozenset(
    {"ccbot", "gptbot", "google-extended", "claudebot", "anthropic-ai", "applebot-extended", "bytespider", "cohere-ai"}
    | {"meta-externalagent", "perplexitybot", "diffbot", "amazonbot", "omgilibot", "ai2bot", "pangubot"}
)
_AGENTS = _SEARCH_AGENTS | _CORPUS_AGENTS


_DIRECTING = _AGENTS | {"robots", "tdm-reservation"}
METAS = (*sorted(_DIRECTING), *sorted(META_NAMES))  # names of meta tags that are read here


def _directives(nodes: Nodes) -> Iterator[str]:
    for number, _, content in nodes.named():
        yield from of_meta(METAS[number], content)


def is_directing(name: str) -> bool:
    """Whether a meta tag of this name, in lower case, may hold directives."""
    return name in _DIRECTING


def of_meta(name: str, content: str) -> list[str]:
    """The directives of a meta tag, by its name in lower case."""
    if name == "robots" or name in _AGENTS:
        return list(_known(content[:10_000].split(","), "" if name == "robots" else f"{name}:"))
    return [_TDM] if name == "tdm-reservation" and content.strip() == "1" else []


def _known(words: Iterable[str], agent: str) -> Iterator[str]:
    for word in words:
        if (word := word.strip().lower()) in _KNOWN:
            yield agent + word


_SAYING = frozenset({"x-robots-tag", "tdm-reservation", "link"})


def of_headers(headers: Mapping[str, str]) -> Rights:
    """What the HTTP headers say: X-Robots-Tag and Link, repeated ones as lines of one value, and TDM-Reservation."""
    if _SAYING.isdisjoint(headers):
        return Rights(None, [], [])
    robots: set[str] = set()
    for line in headers.get("x-robots-tag", "").split("\n")[:_MOST]:
        agent = ""
        for part in line.split(",")[:_MOST]:
            name, colon, rest = part.partition(":")
            if colon and name.strip().lower() not in ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"):
                agent, part = f"{name.strip().lower()}:", rest  # holds for the parts behind it too
            robots.update(_known([part], agent) if not agent or agent[:-1] in _AGENTS else ())
    if headers.get("tdm-reservation", "").strip() == "1":
        robots.add(_TDM)
    links = [found[1] for line in headers.get("link", "").split("\n")[:_MOST] for found in _LINK.finditer(line[:10_000])]
    licences = {spdx: url[:1000] for url in links if (spdx := licence_of_url(url))}
    if len(licences) == 1:
        return Rights(next(iter(licences)), [], sorted(robots))
    return Rights(None, sorted(licences.values())[:10], sorted(robots))


_LINK = re.compile(r"""<([^<>]{1,2000})>\s{0,9};[^<>]{0,200}?\brel\s{0,9}=\s{0,9}["']?[^"',<>]{0,100}\blicense\b""", re.IGNORECASE)


def reserved(robots: Iterable[str]) -> str | None:
    """The directive that keeps a page out of a corpus: noindex, none, noai or noml to all robots or to one that gathers text for models, or
    a reservation of text and data mining."""
    for directive in robots:
        agent, _, word = directive.rpartition(":")
        if directive == _TDM or (word in _RESERVING and (not agent or agent in _CORPUS_AGENTS)):
            return directive
    return None
