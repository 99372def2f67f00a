"""Web pages: WARC, ARC and WET archives, plain or compressed in any way, and single HTML files.

Every record gives one thing: a page of text (`response`, `resource`, `conversion` records), a Drop that names why it is none,
or a Failure. What a file is, is told by its content and never by its name. Large archives are split where records start: gzip
archives at members, plain ones by hopping over records; an archive compressed as one stream is one piece. With `wat`, pages meet their
metadata (see `wat.py`); with `urls`, they pass lists of URLs first (see `url_filter.py`).

`origin.offset` is where the record lies in the file as stored. In an archive compressed as one stream it lies in the decompressed
stream, and `meta` says `"stream": "decompressed"`. Cost: 30 to 40 MB of raw records a second and core, most of it extraction, 110 to
170 with `extract: none`; framing alone is given in `warc.py`. A record that hangs or crashes what reads it costs its worker (guard.py).
Not read: WARC-Segment continuations, archives inside of records, frames, scripts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import orjson
from pydantic import Field, field_validator, model_validator

from codedev import _files
from codedev._errors import nearest
from codedev._recipe import Model
from codedev._remote import ChangedError
from codedev.corpus import guard
from codedev.corpus.document import RAW_PREFIX, meta_json, position_id
from codedev.corpus.extract import charset, extractors, html, page_kind, page_rights
from codedev.corpus.source import Document, Drop, Extent, Failure, Piece, SourceConfig
from codedev.corpus.sources.web import url_filter, warc, warc_http, warc_stream, wat
from codedev.corpus.sources.web.format import Format, content, identify, is_fragment, mime

VERSION = 4


class PageKinds(Model):
    """Which kinds of page become documents: those of `keep`, or all but those of `drop`."""

    keep: tuple[str, ...] | None = Field(default=None, min_length=1)
    drop: tuple[str, ...] | None = Field(default=None, min_length=1)

    @field_validator("keep", "drop")
    @classmethod
    def _check_names(cls, kinds: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for kind in kinds or ():
            if kind not in page_kind.KINDS:
                raise ValueError(f"unknown kind of page '{kind}': {nearest(kind, page_kind.KINDS)}")
        return kinds

    @model_validator(mode="after")
    def _check_one(self) -> PageKinds:
        if (self.keep is None) == (self.drop is None):
            raise ValueError("give either `keep` or `drop`, a list of kinds")
        return self

    def unwanted(self, kind: str | None) -> bool:
        """`kind`: None where nothing tells it."""
        return kind not in self.keep if self.keep is not None else kind in (self.drop or ())


class Config(SourceConfig):
    type: Literal["web"] = "web"
    extract: Literal["main", "all", "none"] = "main"  # main content, all visible text, or the HTML itself
    extractor: extractors.Name = "codedev"  # trafilatura: for `extract: main` alone
    page_kinds: PageKinds | None = None  # null = all
    wat: tuple[str, ...] = ()  # WAT files about the same pages: what they say goes to meta
    urls: url_filter.UrlFilter | None = None  # lists of domains, URLs and words, to block or to allow
    robots: Literal["ignore", "respect"] = "ignore"  # respect: drop what its page reserves from robots or text and data mining

    @model_validator(mode="after")
    def _check_extraction(self) -> Config:
        if self.extractor == "trafilatura" and self.extract != "main":
            raise ValueError(
                f"`extractor: trafilatura` gives main content alone: leave out `extract: {self.extract}`, or `extractor: trafilatura`"
            )
        if self.page_kinds and self.extract == "none":
            raise ValueError("`page_kinds` needs the text of pages: with `extract: none` no kind is known")
        return self


# --- plan


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    """One extent a file; archives larger than `unit_bytes` are cut where records start. MissingExtraError without the extractor."""
    lists = url_filter.digest(config.urls, base) if config.urls else None
    extractor = None if config.extract == "none" else extractors.version(config.extractor)
    metadata = dict.fromkeys(found.path for found in _files.expand(config.wat, base))
    for found in _files.expand(config.paths, base):
        if found.path not in metadata:
            yield from _plan_file(found, config, unit_bytes, {"lists": lists, "extractor": extractor})
    for found in _files.expand(config.wat, base):
        yield from _plan_file(found, config, unit_bytes, {"wat": True})


def _plan_file(found: _files.Found, config: Config, unit_bytes: int, context: dict[str, object]) -> Iterator[Extent]:
    starts: list[int] = []
    if found.size > unit_bytes:
        try:
            with _files.open_raw(found.path) as file:
                form, starts = _cut(file, found, unit_bytes, config)
        except OSError:
            pass  # `read` meets the same error and reports it
    if not starts:
        yield Extent(found.path, found.name, 0, -1, found.size, meta_json(context))
        return
    context = context | {"kind": form.kind, "framing": form.framing}
    for start, end in zip([0, *starts], [*starts, found.size], strict=True):
        yield Extent(found.path, found.name, start, -1 if end == found.size else end, end - start, meta_json(context))


def _cut(file: BinaryIO, found: _files.Found, unit_bytes: int, config: Config) -> tuple[Format, list[int]]:
    """How the archive is stored and where to cut it: true starts of records, at least `unit_bytes` apart."""
    form = identify(file, config.max_record_bytes, config.max_ratio)
    stored = warc_stream.Window(warc_stream.Stored(file))
    starts: list[int] = []
    if form.framing == "members":
        while (start := warc.member_boundary(stored, (starts[-1] if starts else 0) + unit_bytes, form.grammar)) >= 0:
            starts.append(start)
    elif form.framing == "plain" and not _files.is_url(found.path):  # hopping through a remote file would fetch all of it
        for record in warc.frame(stored, config.max_record_bytes, blocks=False, grammar=form.grammar):
            if record.offset - (starts[-1] if starts else 0) >= unit_bytes:
                starts.append(record.offset)
    return form, starts


# --- read and gather


def rounds(config: Config) -> int:
    return 1 if config.wat else 0


def gather(number: int, key: str, pieces: list[Piece], config: Config) -> Iterator[Document | Drop | Failure | Piece]:
    """Pages with what the WAT files say of them."""
    yield from wat.gather(pieces, respect_robots=config.robots == "respect")


def read(extent: Extent, config: Config, base: Path) -> Iterator[Document | Drop | Failure | Piece]:
    """One Document, Drop or Failure for each record that starts in the extent; with `wat` a Piece for each that was to be a Document."""
    context = orjson.loads(extent.context)
    check = url_filter.load(config.urls, base, context.get("lists") or "") if config.urls and not context.get("wat") else None
    try:
        with _files.open_raw(extent.file, extent.hash) as file:
            yield from _read(file, extent, config, context, check)
    except ChangedError as error:
        yield Failure("changed", str(error))
    except OSError as error:
        yield Failure("unreadable", error.strerror or str(error))


def _read(
    file: BinaryIO, extent: Extent, config: Config, context: dict[str, str], check: url_filter.Check | None
) -> Iterator[Document | Drop | Failure | Piece]:
    if framing := context.get("framing"):
        form = Format(context["kind"], framing, "gzip" if framing == "members" else None)  # type: ignore[arg-type]  # our own words
    else:
        form = identify(file, config.max_record_bytes, config.max_ratio)
    match form.kind:
        case "warc" | "arc":
            for found in _records(file, extent, form, config):
                if isinstance(found, warc.Damage):
                    yield Failure(found.kind, found.message, found.offset, raw=found.raw[:RAW_PREFIX])
                elif context.get("wat"):
                    yield _from_metadata(found, extent, config)
                else:
                    page = guard.guarded(found.offset, found.block, _from_record, found, extent, config, check)
                    yield wat.page_piece(wat.key_of(found.fields), page) if config.wat and isinstance(page, Document) else page
        case "html":
            yield _from_file(file, extent, form, config)
        case "empty":
            yield Failure("empty", "the file holds nothing", 0)
        case "other" if is_fragment(file, extent.name, form, config.max_ratio):
            yield _from_file(file, extent, form, config)
        case "other":
            yield _other(file, extent, form, config)


def _records(file: BinaryIO, extent: Extent, form: Format, config: Config) -> Iterator[warc.Record | warc.Damage]:
    limit, stop = config.max_record_bytes, warc_stream.FOREVER if extent.end < 0 else extent.end
    stored = warc_stream.Window(warc_stream.Stored(file))
    if form.codec == "gzip":
        whole = form.framing == "stream"
        yield from warc.gzip_records(
            stored, limit, start=extent.start, stop=stop, whole=whole, grammar=form.grammar, max_ratio=config.max_ratio
        )
    elif form.codec is None:
        yield from warc.frame(stored, limit, start=extent.start, stop=stop, grammar=form.grammar)
    else:
        for found in warc.frame(content(file, form.codec, config.max_ratio), limit, grammar=form.grammar):
            yield found._replace(stream=0) if isinstance(found, warc.Record) else found


def _origin_of(record: warc.Record, extent: Extent) -> _Origin:
    key = extent.hash if record.stream is None else f"{extent.hash}:{record.stream}"
    return _Origin(
        id=_unbracketed(record.fields.get("warc-record-id", "")) or position_id(key, record.offset),
        offset=record.offset,
        length=record.length,
        url=_unbracketed(record.fields.get("warc-target-uri", "")) or None,
    )


def _from_metadata(record: warc.Record, extent: Extent, config: Config) -> Document | Drop | Failure | Piece:
    """A record of a WAT file."""
    if record.fields.get("warc-type", "").lower() != "metadata":
        return _from_record(record, extent, config, None)
    found = wat.look_up(record)
    if isinstance(found, tuple):
        return wat.metadata_piece(*found, record.offset)
    if found == "invalid_json":
        return Failure(found, "a metadata record that is no JSON", record.offset, raw=record.block[:RAW_PREFIX])
    return _drop(_origin_of(record, extent), "metadata", {"of": found}, {"warc_type": "metadata", **_stream_meta(record.stream)})


def _from_record(record: warc.Record, extent: Extent, config: Config, check: url_filter.Check | None) -> Document | Drop | Failure:
    fields = record.fields
    kind = fields.get("warc-type", "").lower()
    origin = _origin_of(record, extent)
    meta: dict[str, object] = {"warc_type": kind or None, "truncated": fields.get("warc-truncated"), **_stream_meta(record.stream)}
    if kind not in ("response", "resource", "conversion"):
        return _drop(origin, kind if kind in _NO_PAGES else "unknown_type", {"warc_type": kind}, meta)
    if origin.url and origin.url.startswith("metadata:"):  # the crawler's own log, stored as a resource
        return _drop(origin, "metadata", {"url": origin.url}, meta)
    if check and (verdict := check(origin.url or "")):
        return _drop(origin, verdict.reason, verdict.evidence, meta)
    created = _date(fields.get("warc-date", ""))
    content_type, body = fields.get("content-type", ""), record.block
    said = page_rights.Rights(None, [], [])
    if kind == "response" and (content_type.lower().startswith("application/http") or body.startswith(b"HTTP/")):
        response = warc_http.parse(body)
        if response is None:
            return Failure("bad_http", "the record does not start with an HTTP status line", record.offset, raw=body[:RAW_PREFIX])
        meta["http_status"] = response.status
        if not 200 <= response.status < 300:
            return _drop(origin, "http_status", {"status": response.status}, meta)
        content_type = (response.headers.get("content-type") or fields.get("warc-identified-payload-type", ""))[:1000]
        if warc_http.media_type(content_type) not in _MAYBE_PAGES:  # before decoding: most of these are images
            return _drop(origin, "not_html", {"content_type": content_type}, meta)
        try:
            body, cut = warc_http.decode(response, config.max_record_bytes, config.max_ratio)
        except warc_http.BombError as error:
            return Failure("bomb", str(error), record.offset, raw=record.block[:RAW_PREFIX])
        meta["truncated"] = meta["truncated"] or cut or None
        said = page_rights.of_headers(response.headers)
    return _page(body, content_type, origin, created, meta, said, config)


# Record types that hold no page.
_NO_PAGES = frozenset({"warcinfo", "request", "metadata", "revisit", "continuation"})
# Media types that a page may come under: the last ones say nothing or too little, so the bytes decide.
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_UNTOLD_TYPES = frozenset({"", "text/xml", "application/xml", "application/octet-stream", "unknown/unknown", "*/*"})
_MAYBE_PAGES = _HTML_TYPES | _UNTOLD_TYPES | {"text/plain"}


class _Origin(NamedTuple):
    id: str
    offset: int
    length: int
    url: str | None


def _page(
    body: bytes,
    content_type: str,
    origin: _Origin,
    created: dt.datetime | None,
    meta: dict[str, object],
    said: page_rights.Rights,
    config: Config,
) -> Document | Drop | Failure:
    """The document that `body` is under `content_type` and what the HTTP headers have `said`, or why it is none."""
    declared = warc_http.media_type(content_type)
    meta["content_type"] = declared or None
    seen = "text/html" if html.looks_like_html(body[:4096]) else mime(body[:4096])
    as_html = seen == "text/html" or (declared in _HTML_TYPES and seen in ("text/plain", "text/xml", "application/xml"))
    as_text = declared == "text/plain" and seen == "text/plain"
    if not body.strip():
        return _drop(origin, "empty_text", {"bytes": len(body)}, meta)
    if declared not in _MAYBE_PAGES or not (as_html or as_text):
        return _drop(origin, "not_html", {"content_type": content_type or None, "seen": seen}, meta)
    hint, licence, robots, kind = warc_http.charset(content_type), said.licence, said.robots, None
    votes: dict[str, object] = {}
    if as_html:
        try:
            if config.extract == "none":
                page = html.html_as_it_is(body, hint)
            else:
                page, verdict = extractors.extractor(config.extractor)(body, hint, config.extract, origin.url)
                if config.page_kinds and config.page_kinds.unwanted(page.kind):
                    votes = _votes(verdict())
        except html.PageError as error:
            return Failure("bad_html", str(error), origin.offset, raw=body[:RAW_PREFIX])
        text, kind = page.text, page.kind
        meta.update(page.meta)
        told = page.meta.get("robots")
        robots = sorted({*robots, *(told if isinstance(told, list) else [])})
        # Two that disagree say nothing.
        marked = [spdx for spdx in dict.fromkeys((page.licence, licence)) if spdx]
        licence = marked[0] if len(marked) == 1 else None
        if len(marked) == 2:
            meta["licence_links"] = marked
    else:
        text, meta["charset"], replaced = charset.decode(body, hint)
        meta["replaced"] = replaced or None
    meta["robots"] = robots or None
    if config.robots == "respect" and (directive := page_rights.reserved(robots)):
        return _drop(origin, "robots", {"directive": directive}, meta)
    if config.page_kinds and config.page_kinds.unwanted(kind):
        return _drop(origin, "page_kind", {"kind": kind or "unknown", **votes}, meta)
    if not text.strip():
        return _drop(origin, "empty_text", {"bytes": len(body)}, meta)
    return Document(
        id=origin.id,
        text=text,
        offset=origin.offset,
        length=origin.length,
        licence=licence,
        url=origin.url,
        created=created,
        meta=meta_json(meta),
    )


def _votes(verdict: page_kind.Verdict) -> dict[str, object]:
    """What each kind of page got, and what spoke for the one that won, strongest first."""
    return {"votes": {kind: vote for kind, vote in verdict.votes.items() if vote}, "spoke": verdict.evidence[:_SPOKE]}


_SPOKE = 5


def _from_file(file: BinaryIO, extent: Extent, form: Format, config: Config) -> Document | Drop | Failure:
    """A single HTML file."""
    window = content(file, form.codec, config.max_ratio)
    body = window.get(0, config.max_record_bytes + 1)
    if window.stream.error:
        return Failure(*window.stream.error, 0, raw=body[:RAW_PREFIX])
    if len(body) > config.max_record_bytes:
        return Failure("too_large", f"the page has more bytes than max_record_bytes={config.max_record_bytes}", 0, raw=body[:RAW_PREFIX])
    origin = _Origin(position_id(extent.hash, 0), 0, len(body), None)
    meta, said = _stream_meta(0 if form.codec else None), page_rights.Rights(None, [], [])
    return guard.guarded(0, body, _page, body, "text/html", origin, None, meta, said, config)


def _other(file: BinaryIO, extent: Extent, form: Format, config: Config) -> Drop | Failure:
    """A file that is neither an archive nor a page."""
    window = content(file, form.codec, config.max_ratio)
    raw = window.get(0, RAW_PREFIX)
    if window.stream.error:
        return Failure(*window.stream.error, 0, raw=raw)
    if form.evidence == "application/octet-stream":
        return Failure("corrupt", "neither a web archive nor HTML, nor of a known type", 0, raw=raw)
    origin = _Origin(position_id(extent.hash, 0), 0, file.seek(0, 2), None)
    return _drop(origin, "not_html", {"seen": form.evidence, "compression": form.codec}, {})


def _drop(origin: _Origin, reason: str, evidence: dict[str, object], meta: dict[str, object]) -> Drop:
    return Drop(origin.id, reason, meta_json(evidence), origin.offset, origin.length, url=origin.url, meta=meta_json(meta))


def _stream_meta(stream: int | None) -> dict[str, object]:
    """Says that `origin.offset` counts decompressed bytes, from the stored byte `stream_start` on."""
    return {} if stream is None else {"stream": "decompressed", "stream_start": stream or None}


def _unbracketed(value: str) -> str:
    return value.strip().removeprefix("<").removesuffix(">").strip()


def _date(value: str) -> dt.datetime | None:
    """WARC-Date as an aware UTC time; None when it is no date."""
    try:
        date = dt.datetime.fromisoformat(value)
        return date.replace(tzinfo=dt.UTC) if date.tzinfo is None else date.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None
