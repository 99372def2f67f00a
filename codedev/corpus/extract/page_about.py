"""What a page says of itself: title, authors, dates, language, address, site, description, types, tags.

Read from JSON-LD (`page_jsonld.py`), then from the head's meta tags (`page_metas.py`), then from the body's marks (h1, microdata,
rel=author, byline classes, time: `page_marks.py`), last from the short texts around the heading (`page_near.py`); dates are read by
`page_dates.py`, names by `page_names.py`, licence and robots by `page_rights.py`. Cost: see `about`. Does not look into running text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import urljoin

from codedev.corpus.extract import page_dates, page_jsonld, page_marks, page_metas, page_names, page_near
from codedev.corpus.extract.page_jsonld import Thing, words
from codedev.corpus.extract.page_marks import Mark
from codedev.corpus.extract.page_names import bare
from codedev.corpus.extract.page_nodes import Nodes, plain
from codedev.kernels import htmlfind


class About(NamedTuple):
    """Every text is at most 1,000 characters long, None or empty where the page says nothing."""

    title: str | None  # the headline, without the site's name
    authors: list[str]
    published: str | None  # ISO 8601, a date or a time
    modified: str | None
    language: str | None  # BCP 47
    canonical: str | None
    site: str | None
    description: str | None
    types: list[str]  # schema.org's in lower case, and og:type as og:article
    section: str | None
    tags: list[str]  # at most 20
    generator: str | None


_MOST = 50  # elements of a kind that anything is read from
_MOST_TAGS = 20


def about(nodes: Nodes, url: str | None = None) -> About:
    """What the page says of itself; `url` is where it was found. Cost: 0.24 ms for a real page of 120 kB (median),
    a fifth of it the pass over the body's elements; trafilatura takes 12 ms."""
    told, scripts, title, link = _head(nodes)
    titles = [*told.get("title", ())[:1], *([title] if title else ())]

    # What the head tells is not looked for in the body.
    things = page_jsonld.things(scripts)
    article = _article(things, titles)
    published = _dated(_strings(article, "datePublished", "dateCreated"), told.get("published"))
    named = bool(page_names.names([*page_jsonld.texts(article.get("author")), *told.get("authors", ())], frozenset()))
    marks: list[Mark] = []
    headed: list[tuple[int, str]] = []
    if not (things and named and published and "title" in told):
        wanted = (
            htmlfind.HEADING | htmlfind.SCRIPT | (0 if named else htmlfind.AUTHOR) | (0 if published else htmlfind.DATE | htmlfind.TIME)
        )
        marks = page_marks.marks(nodes, wanted)
        if below := [nodes.script(node) for node in page_marks.found(nodes, htmlfind.SCRIPT)[:_MOST]]:
            things = page_jsonld.things(scripts + below)
        headed = [(node, text) for node in page_marks.found(nodes, htmlfind.HEADING)[:_MOST] if (text := nodes.text(node))]

    by_id = {thing["@id"]: thing for thing in things if isinstance(thing.get("@id"), str) and "name" in thing}
    canonical = _address(link, url) or _address(_first(told.get("canonical")), url)
    site = _first(told.get("site")) or _site(things, by_id)
    sites = frozenset(map(bare, (*told.get("site", ()), *([site] if site else ()), *_domain(canonical), *_domain(url))))
    headings = [text for _, text in headed if bare(text) not in sites]
    article = _article(things, [*titles, *headings])
    headline = _title(_headlines(article, title or ""), told.get("title", []), headings, title or "", sites)
    published = _dated(
        _strings(article, "datePublished", "dateCreated"),
        told.get("published"),
        page_marks.published(nodes, marks),
        (page_dates.of_url(url or canonical),),
    )
    authors = _authors(nodes, article, by_id, told.get("authors", []), marks, sites)
    if not (published and authors) and (heading := _heading(headed, headline)) is not None:
        texts = page_near.near(nodes, heading, 40 if published else 100, 10 if published else 40)
        published = published or _dated(texts)
        authors = authors or page_names.names([*page_near.bylines(texts)][:1], sites, shown=True)
    types = [name for thing in things for name in page_jsonld.types(thing)]
    types += [f"og:{kind.lower()}" for kind in told.get("type", ())]
    return About(
        title=headline,
        authors=authors,
        published=published or _dated(page_marks.changed(nodes, marks)),
        modified=_dated(_strings(article, "dateModified"), told.get("modified"), page_marks.changed(nodes, marks)),
        language=_language(nodes, told.get("language", []), article),
        canonical=canonical,
        site=site,
        description=_first(told.get("description")) or _first(page_jsonld.texts(article.get("description"))),
        types=list(dict.fromkeys(types))[:_MOST],
        section=_first(told.get("section")) or _first(page_jsonld.texts(article.get("articleSection"))),
        tags=_tags(told.get("tags", []), page_jsonld.texts(article.get("keywords"))),
        generator=_first(told.get("generator")),
    )


def _headlines(article: Thing, title: str) -> list[str]:
    """What JSON-LD calls the text; its headline may be a description where another name is in the page's title."""
    found = [text for name in ("headline", "name") for text in page_jsonld.texts(article.get(name))[:1]]
    return sorted(found, key=lambda text: bare(text) not in bare(title))[:1] if len(found) > 1 else found


def _heading(headed: list[tuple[int, str]], headline: str | None) -> int | None:
    """The element that shows the headline, else the only heading."""
    key = bare(headline or "")
    return next((node for node, text in headed if key and bare(text) == key), headed[0][0] if len(headed) == 1 else None)


def _head(nodes: Nodes) -> tuple[dict[str, list[str]], list[str], str, str | None]:
    """(what meta tags say by fact, best first; the JSON-LD; the title; the canonical link)."""
    metas: dict[str, list[tuple[int, str]]] = {}
    scripts: list[str] = []
    title, link = "", None
    behind = first = 0
    for what, node, start, end in nodes.told:
        if what == htmlfind.HEAD:
            behind = behind or nodes.after[node]
        elif what == htmlfind.TITLE:
            if node < behind or not first:
                title = title or nodes.text(node)
            first = first or node
        elif node >= behind:
            continue
        elif what == htmlfind.CANONICAL:
            link = link or nodes.attributes(node).get("href")
        elif what == htmlfind.JSON_LD:
            scripts.append(nodes.script(node))
        elif htmlfind.META <= what < _END:
            fact, rank = page_metas.FACTS[what - htmlfind.META]
            values = metas.setdefault(fact, [])
            if len(values) < _MOST and (value := words(plain(nodes.string(start, min(end, start + _LONGEST_VALUE))))):
                values.append((rank, value))
    told = {fact: [value for _, value in sorted(values, key=_rank)] for fact, values in metas.items()}
    return told, scripts, title, link


_rank = itemgetter(0)
_END = htmlfind.META + len(page_metas.FACTS)
_LONGEST_VALUE = 24_000  # bytes; 4,000 characters that are all escaped


def _first(values: Iterable[str] | None) -> str | None:
    return next(iter(values or ()), None)


# --- the site


_PLAIN = re.compile(r"https?://[\w.-]++(?::\d++)?+/[\w.,/~%+!@&=-]*+(?:\?[\w.,/~%+!@&=-]++)?+", re.ASCII)  # as it is when joined


def _address(value: str | None, base: str | None) -> str | None:
    if not value or len(value) > 1000:
        return None
    if _PLAIN.fullmatch(value):
        return value
    try:
        joined = urljoin(base or "", value.strip())
    except ValueError:
        return None
    return joined if joined.startswith(("http://", "https://")) else None


_HOST = re.compile(r"https?://(?:www\.|m\.|blog\.|blogs\.)?([^/:?#]{1,200})", re.IGNORECASE)


def _domain(url: str | None) -> Iterator[str]:
    """What a site may be called by its host: example.co.uk, its labels before the end."""
    if url and (found := _HOST.match(url)):
        yield found[1]
        labels = found[1].split(".")
        yield from (label for label in labels[:-1] if len(label) > 3)
        yield ".".join(labels[-2:])
        yield "www." + found[1]


def _site(things: list[Thing], by_id: dict[str, Thing]) -> str | None:
    for thing in things:
        if "website" in page_jsonld.types(thing) and (name := _first(page_jsonld.texts(thing.get("name")))):
            return name
    return next((name for thing in things for name in page_jsonld.texts(thing.get("publisher"), by_id)), None)


# --- the text that the page is about

_ARTICLES = frozenset(
    {
        "article",
        "newsarticle",
        "analysisnewsarticle",
        "opinionnewsarticle",
        "reportagenewsarticle",
        "scholarlyarticle",
        "techarticle",
        "report",
    }
    | {"medicalscholarlyarticle", "satiricalarticle", "blogposting", "liveblogposting", "socialmediaposting", "discussionforumposting"}
    | {"reviewnewsarticle", "recipe", "howto", "review", "creativework", "advertisercontentarticle", "backgroundnewsarticle", "question"}
)
_PAGES = frozenset({"webpage", "itempage", "aboutpage", "faqpage", "qapage", "medicalwebpage"})


def _article(things: list[Thing], titles: list[str]) -> Thing:
    """The thing that is the page's text: of several the one with the page's title. Else the page, for its dates."""
    articles = [thing for thing in things if not _ARTICLES.isdisjoint(page_jsonld.types(thing))]
    if len(articles) > 1:
        keys = [key for key in map(bare, titles) if key]
        same = [thing for thing in articles if _is_title(thing, keys)]
        # Several headlines that are not the page's are a list of other pages.
        articles = same or (articles[:1] if len({str(thing.get("headline")) for thing in articles}) == 1 else [])
    if articles:
        return articles[0]
    return next(
        (
            {name: thing.get(name) for name in ("datePublished", "dateModified", "author", "inLanguage")}
            for thing in things
            if not _PAGES.isdisjoint(page_jsonld.types(thing))
        ),
        {},
    )


def _is_title(thing: Thing, keys: list[str]) -> bool:
    headline = next((bare(text) for text in page_jsonld.texts(thing.get("headline") or thing.get("name"))), "")
    return len(headline) > 3 and any(key.startswith(headline) or headline.startswith(key) for key in keys)


def _strings(thing: Thing, *names: str) -> list[str]:
    return [text for name in names for text in page_jsonld.texts(thing.get(name))]


# --- title

_SEPARATOR = re.compile(r"\s(?:[|\-–—·•»«:/>~]|::|>>|\|\|)\s|\s?\|\s?|\s?»\s?|:\s")
_NO_TITLES = frozenset({"", "home", "homepage", "startseite", "index", "accueil", "inicio", "untitled", "untitleddocument"})
_SHORTENED = ("…", "...")


def _title(headlines: list[str], metas: list[str], headings: list[str], title: str, sites: frozenset[str]) -> str | None:
    candidates = [*headlines[:1], *metas[:3]]
    known = frozenset(bare(text) for text in (*headings, *headlines, *metas))
    for text in candidates:
        # A shortened title is shown in full elsewhere.
        if text.endswith(_SHORTENED):
            stem = bare(text)
            text = next((full for full in (*metas, *headings, title) if len(full) > len(text) and bare(full).startswith(stem)), text)
        if (cut := _without_site(text, sites, known - {bare(text)})) and bare(cut) not in sites:
            return cut
    cut = _without_site(title, sites, known)
    if bare(cut) in _NO_TITLES and headings:
        return headings[0]
    whole = bare(title)
    # The heading that the title repeats; a single one where there is no title.
    for heading in headings:
        if (key := bare(heading)) and len(key) > 3 and key in whole and len(heading) <= len(title):
            return heading if len(key) * 2 > len(bare(cut)) else cut
    return cut or _first(headings)


def _without_site(text: str, sites: frozenset[str], known: frozenset[str]) -> str:
    """`text` less the parts at its ends that name the site, or all but the part that the page repeats as its heading."""
    places = [(found.start(), found.end()) for found in _SEPARATOR.finditer(text)][:_MOST]
    for start, end in places:
        if bare(text[:start]) in known and len(bare(text[:start])) > 3:
            return text[:start].strip()
        if bare(text[end:]) in known and len(text) - end > start and bare(text[end:]) not in sites:
            return text[end:].strip()
    while places and bare(text[places[-1][1] :]) in sites:
        text = text[: places.pop()[0]]
    begin = 0
    for start, end in places:
        if bare(text[begin:start]) not in sites:
            break
        begin = end
    return text[begin:].strip() or text.strip()


# --- authors


def _authors(
    nodes: Nodes, article: Thing, by_id: dict[str, Thing], metas: list[str], marks: list[Mark], sites: frozenset[str]
) -> list[str]:
    if found := page_names.names(page_jsonld.texts(article.get("author"), by_id), sites):
        return found
    if found := page_names.names(metas, sites):
        return found
    shown = (page_names.names(texts, sites, shown=True) for texts in page_marks.bylines(nodes, marks))
    return next((names for names in shown if names), [])


# --- dates


def _dated(*sources: Iterable[str | None] | None) -> str | None:
    return next((date for values in sources for value in values or () if (date := page_dates.iso(value))), None)


# --- language and tags

_TAG = re.compile(r"([A-Za-z]{2,3})((?:[-_][A-Za-z0-9]{2,8}){0,3})(?:[.@].*)?\Z")


def _language(nodes: Nodes, metas: list[str], article: Thing) -> str | None:
    root = nodes.first(htmlfind.HTML)
    own = [nodes.attributes(root).get("lang"), nodes.attributes(root).get("xml:lang")] if root is not None else []
    for value in (*own, *metas, *page_jsonld.texts(article.get("inLanguage"))):
        found = _TAG.match(value.strip().partition(",")[0][:50]) if value else None
        if found and found[1].lower() not in ("und", "mul"):
            first, *rest = found[0].partition(".")[0].replace("_", "-").split("-")
            return "-".join(
                [first.lower(), *(part.upper() if len(part) == 2 else part.title() if len(part) == 4 else part.lower() for part in rest)]
            )
    return None


def _tags(metas: list[str], keywords: list[str]) -> list[str]:
    parts = (part.strip() for value in (*metas, *keywords) for part in re.split("[,;]", value))
    return list(dict.fromkeys(part for part in parts if part))[:_MOST_TAGS]
