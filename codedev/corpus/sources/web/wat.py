"""WAT: what Common Crawl's WAT files say of a page, brought together with the page.

A WAT file is a WARC of `metadata` records, each a JSON object about one record of a WARC, WET or ARC file. A page and its metadata meet
under the id of the crawled record (a WET record names it in WARC-Refers-To), or under URL and date where there is none, as in ARC. What
meets a page goes to `meta.wat`: a few of the HTTP headers, the page's meta tags that describe it, numbers of its links. For pages without
HTML of their own (WET) title, canonical URL, licence and robots are taken from it too. Cost: 30 µs a record, most of it parsing JSON.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson

from codedev.corpus.document import meta_json
from codedev.corpus.extract import page_rights
from codedev.corpus.source import Document, Drop, Failure, Piece
from codedev.corpus.sources.web.warc import Record

_PAGES = frozenset({"response", "resource", "conversion"})
_LONGEST = 1000  # characters of a value that are kept
# Meta tags that describe the page, under the names they get.
_METAS = {
    "description": "description",
    "keywords": "keywords",
    "author": "author",
    "generator": "generator",
    "og:type": "og_type",
    "og:locale": "og_locale",
    "og:site_name": "site_name",
    "article:published_time": "published",
    "article:modified_time": "modified",
}
_HEADERS = {"content-language": "content_language", "last-modified": "last_modified", "server": "server"}


def key_of(fields: dict[str, str]) -> str:
    """The key under which a page waits for its metadata, and metadata for their page."""
    kind = fields.get("warc-type", "").lower()
    names = ("warc-refers-to",) if kind in ("metadata", "conversion") else ("warc-record-id",)
    told = next((fields[name] for name in names if fields.get(name)), "")
    if told:
        return "id " + told.strip().removeprefix("<").removesuffix(">").strip()
    return f"at {fields.get('warc-date', '')} {fields.get('warc-target-uri', '').strip().removeprefix('<').removesuffix('>')}"


def look_up(record: Record) -> tuple[str, bytes] | str:
    """(key, what gather needs) of a metadata record; else, in a word, why it is of no use: invalid_json, or the type that it speaks of."""
    try:
        told = orjson.loads(record.block)
    except orjson.JSONDecodeError:
        return "invalid_json"
    envelope = _in(told, "Envelope")
    crawled = {str(name).lower(): str(value) for name, value in _in(envelope, "WARC-Header-Metadata").items()}
    arc = {str(name).lower(): str(value) for name, value in _in(envelope, "ARC-Header-Metadata").items()}
    kind = crawled.get("warc-type", "response" if arc else "").lower()
    if kind not in _PAGES:
        return kind or "no_envelope"
    fields = dict(record.fields)
    if not fields.get("warc-refers-to"):
        if crawled.get("warc-record-id"):
            fields["warc-refers-to"] = crawled["warc-record-id"]
        else:
            target = crawled.get("warc-target-uri") or arc.get("target-uri")
            date = crawled.get("warc-date") or _iso(arc.get("date", ""))
            fields |= {"warc-target-uri": target or fields.get("warc-target-uri", ""), "warc-date": date or fields.get("warc-date", "")}
    return key_of(fields), orjson.dumps(_facts(envelope), option=orjson.OPT_SORT_KEYS)


def _iso(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[8:10]}:{date[10:12]}:{date[12:14]}Z" if len(date) >= 14 and date.isdigit() else date


def _in(value: Any, *names: str) -> dict[str, Any]:
    """The object under `names`, empty where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _each(value: Any) -> list[dict[str, Any]]:
    return [one for one in value[:10_000] if isinstance(one, dict)] if isinstance(value, list) else []


def _short(value: Any) -> str | None:
    return (" ".join(value.split())[:_LONGEST] or None) if isinstance(value, str) else None


def _facts(envelope: dict[str, Any]) -> dict[str, Any]:
    """`wat`: what goes to meta.wat; `page`: what a page without HTML of its own takes over."""
    http = _in(envelope, "Payload-Metadata", "HTTP-Response-Metadata")
    html = _in(http, "HTML-Metadata")
    head = _in(html, "Head")
    headers = {str(name).lower(): value for name, value in _in(http, "Headers").items() if isinstance(value, str)}
    wat: dict[str, Any] = {name: _short(headers.get(header)) for header, name in _HEADERS.items()}
    robots: set[str] = set(page_rights.of_headers(headers).robots)
    licences = set(filter(None, [page_rights.of_headers(headers).licence]))
    for meta in _each(head.get("Metas")):
        name, content = str(meta.get("name") or meta.get("property") or "").strip().lower(), meta.get("content")
        if isinstance(content, str):
            if name in _METAS:
                wat.setdefault(_METAS[name], _short(content))
            robots.update(page_rights.of_meta(name, content))
            if name in page_rights.META_NAMES and (spdx := page_rights.licence_of(content)):
                licences.add(spdx)
    links = _each(html.get("Links"))
    canonical = None
    for link in [*_each(head.get("Link")), *links]:
        rel = str(link.get("rel") or "").lower().split()
        url = link.get("url") or link.get("href")
        if "license" in rel and isinstance(url, str) and (spdx := page_rights.licence_of_url(url)):
            licences.add(spdx)
        if "canonical" in rel:
            canonical = canonical or _short(url)
    paths = [str(link.get("path") or "") for link in links]
    wat["links"] = sum(path.startswith("A@") for path in paths) if html else None
    wat["images"] = sum(path.startswith("IMG@") for path in paths) if html else None
    page = {
        "title": _short(head.get("Title")),
        "canonical": canonical,
        "robots": sorted(robots) or None,
        "licence": licences.pop() if len(licences) == 1 else None,
    }
    return {"wat": {k: v for k, v in wat.items() if v is not None}, "page": {k: v for k, v in page.items() if v is not None}}


# --- pages and their metadata


def page_piece(key: str, document: Document) -> Piece:
    """A page on its way to its metadata. What lies in a Piece's own fields is not said twice."""
    created = document.created.isoformat() if document.created else None
    facts = document._replace(created=None, offset=None, length=None, member=None)._asdict() | {"created": created}
    return Piece(0, key, orjson.dumps(facts), 1, document.file, document.offset, document.length, document.member)


def metadata_piece(key: str, data: bytes, offset: int) -> Piece:
    return Piece(0, key, data, 0, offset=offset)


def gather(pieces: list[Piece], *, respect_robots: bool) -> list[Document | Drop | Failure | Piece]:
    """The pages among the pieces of one key, each with the metadata among them: of several the first in the files' order."""
    told = next((orjson.loads(piece.data) for piece in pieces if piece.records == 0), None)
    return [_with(piece, told, respect_robots=respect_robots) for piece in pieces if piece.records]


def _with(piece: Piece, told: dict[str, Any] | None, *, respect_robots: bool) -> Document | Drop:
    facts = orjson.loads(piece.data)
    created = dt.datetime.fromisoformat(facts["created"]) if facts["created"] else None
    placed = {"file": piece.file, "offset": piece.offset, "length": piece.length, "member": piece.member}
    document = Document(**(facts | placed | {"created": created}))
    if told is None:
        return document
    meta = orjson.loads(document.meta)
    page = dict(told["page"])
    licence = page.pop("licence", None)
    meta = {**page, **meta, "wat": told["wat"]}
    if respect_robots and (directive := page_rights.reserved(page.get("robots") or [])):
        evidence, said = meta_json({"directive": directive, "in": "wat"}), meta_json(meta)
        return Drop(document.id, "robots", evidence, piece.offset, piece.length, piece.member, document.url, said, piece.file)
    # A page that marks two licences as its own has none, whichever of them the metadata name.
    own = document.licence if document.licence or "licence_links" in meta else licence
    return document._replace(licence=own, meta=meta_json(meta))
