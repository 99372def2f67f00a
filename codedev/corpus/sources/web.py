"""Web pages: WARC and WET archives, plain or compressed in any way, and single HTML files.

Every WARC record gives one thing: a page of text (`response`, `resource`, `conversion` records), a Drop that names why it is none,
or a Failure. What a file is, is told by its content and never by its name. Large archives are split where records start: gzip
WARC at members, plain WARC by hopping over records; an archive compressed as one stream is one piece.

`origin.offset` is where the record lies in the file as stored. In an archive compressed as one stream it lies in the decompressed
stream, and `meta` says `"stream": "decompressed"`. Cost: 40 to 50 MB of raw records a second and core, nine tenths of it extraction;
framing alone is given in `warc.py`. Not read: ARC files (the format before WARC), WARC-Segment continuations, frames, scripts.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import orjson
from resiliparse.parse.encoding import detect_mime

from codedev import _files
from codedev.corpus.document import RAW_PREFIX, meta_json, position_id
from codedev.corpus.extract import html
from codedev.corpus.source import Document, Drop, Extent, Failure, SourceConfig
from codedev.corpus.sources import warc, warc_http, warc_stream

VERSION = 1


class Config(SourceConfig):
    type: Literal["web"] = "web"
    extract: Literal["main", "all"] = "main"  # main content, or all visible text


# --- plan


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    """One extent a file; archives larger than `unit_bytes` are cut where records start."""
    for found in _files.expand(config.paths, base):
        starts: list[int] = []
        framing = ""
        if found.size > unit_bytes:
            try:
                with _files.open_raw(found.path) as file:
                    framing, starts = _cut(file, found, unit_bytes, config.max_record_bytes)
            except OSError:
                pass  # `read` meets the same error and reports it
        if not starts:
            yield Extent(found.path, found.name, 0, -1, found.size)
            continue
        context = meta_json({"framing": framing})
        for start, end in zip([0, *starts], [*starts, found.size], strict=True):
            yield Extent(found.path, found.name, start, -1 if end == found.size else end, end - start, context)


def _cut(file: BinaryIO, found: _files.Found, unit_bytes: int, limit: int) -> tuple[str, list[int]]:
    """How the archive is framed and where to cut it: true starts of records, at least `unit_bytes` apart."""
    framing = identify(file, found.size, limit).framing
    stored = warc_stream.Window(warc_stream.Stored(file))
    starts: list[int] = []
    if framing == "members":
        while (start := warc.member_boundary(stored, (starts[-1] if starts else 0) + unit_bytes)) >= 0:
            starts.append(start)
    elif framing == "plain" and not _files.is_url(found.path):  # hopping through a remote file would fetch all of it
        for record in warc.frame(stored, limit, blocks=False):
            if record.offset - (starts[-1] if starts else 0) >= unit_bytes:
                starts.append(record.offset)
    return framing, starts


# --- what a file is


class Format(NamedTuple):
    kind: Literal["warc", "arc", "html", "other", "empty"]
    framing: Literal["plain", "members", "stream", ""] = ""
    codec: str | None = None
    evidence: str = ""  # what was seen instead


def identify(file: BinaryIO, size: int, limit: int) -> Format:
    """What the file's content is. Reads its head, and up to 8 MiB when that does not tell."""
    stored = warc_stream.Window(warc_stream.Stored(file))
    codec = _files.compression(stored.get(0, 8))
    window = _content(file, stored, codec, size)
    start = warc_stream.skip(window, 0, b"\r\n")
    head = window.get(start, 4096)
    framing: Literal["plain", "stream"] = "stream" if codec else "plain"
    if not head and not window.stream.error:
        return Format("empty", codec=codec)
    if warc.is_record(head):
        return Format("warc", warc.gzip_framing(stored, limit) if codec == "gzip" else framing, codec)
    if head.startswith(b"filedesc://"):
        return Format("arc", codec=codec)
    if html.looks_like_html(head):
        return Format("html", codec=codec)
    # An archive whose head is damaged still has records farther on.
    if warc.find_record(window, 0, warc.SCAN) >= 0:
        return Format("warc", framing, codec)
    if codec in (None, "gzip") and warc.find_member(stored, 0, warc.SCAN) >= 0:
        return Format("warc", "members", "gzip")
    return Format("other", codec=codec, evidence=_mime(head))


def _content(file: BinaryIO, stored: warc_stream.Window, codec: str | None, size: int) -> warc_stream.Window:
    """The decompressed content of the file that `stored` is a window on."""
    if codec is None:
        return stored
    if codec == "gzip":
        return warc_stream.Window(warc_stream.Inflate(stored, 0, whole=True))
    file.seek(0)
    return warc_stream.Window(warc_stream.Decoded(file, codec, size))


def _mime(head: bytes) -> str:
    """What else the content is: a type known by its first bytes, text/plain, or application/octet-stream."""
    known = detect_mime(head)
    if known not in ("text/plain", "application/octet-stream"):
        return known
    controls = len(head) - len(head.translate(None, delete=_CONTROLS))
    return "application/octet-stream" if controls * 100 > len(head) else "text/plain"


_CONTROLS = bytes([*range(9), *range(14, 27), *range(28, 32), 127])  # without white space and escape


# --- read


def read(extent: Extent, config: Config, base: Path) -> Iterator[Document | Drop | Failure]:
    """One Document, Drop or Failure for each record that starts in the extent."""
    try:
        with _files.open_raw(extent.file) as file:
            yield from _read(file, extent, config)
    except OSError as error:
        yield Failure("unreadable", error.strerror or str(error))


def _read(file: BinaryIO, extent: Extent, config: Config) -> Iterator[Document | Drop | Failure]:
    size = file.seek(0, 2)
    file.seek(0)
    framing = orjson.loads(extent.context).get("framing")
    form = Format("warc", framing, "gzip" if framing == "members" else None) if framing else identify(file, size, config.max_record_bytes)
    match form.kind:
        case "warc":
            for found in _records(file, extent, form, size, config.max_record_bytes):
                if isinstance(found, warc.Damage):
                    yield Failure(found.kind, found.message, found.offset, raw=found.raw[:RAW_PREFIX])
                else:
                    yield _from_record(found, extent, config)
        case "html":
            yield _from_file(file, extent, form, size, config)
        case "empty":
            yield Failure("empty", "the file holds nothing", 0)
        case "arc":
            yield Failure("unsupported", "an ARC archive: convert it to WARC, for example with `warcio recompress`", 0)
        case "other" if _is_fragment(file, extent, form, size):
            yield _from_file(file, extent, form, size, config)
        case "other":
            yield _other(file, extent, form, size)


# A piece of a page, without what a whole one starts with: told from plain text by its name and its tags together.
_PAGE_NAMES = (".html", ".htm", ".xhtml", ".shtml")
_MARKUP = re.compile(
    rb"<(?:/?(?:p|div|span|b|i|em|strong|a|h[1-6]|ul|ol|li|table|section|article|figure|blockquote)\b|br ?/?>|img )", re.IGNORECASE
)


def _is_fragment(file: BinaryIO, extent: Extent, form: Format, size: int) -> bool:
    if form.evidence not in ("text/plain", "text/xml", "application/xml") or not extent.name.lower().endswith(_PAGE_NAMES):
        return False
    head = _content(file, warc_stream.Window(warc_stream.Stored(file)), form.codec, size).get(0, 4096)
    return _MARKUP.search(head) is not None


def _records(file: BinaryIO, extent: Extent, form: Format, size: int, limit: int) -> Iterator[warc.Record | warc.Damage]:
    stored = warc_stream.Window(warc_stream.Stored(file))
    stop = warc_stream.FOREVER if extent.end < 0 else extent.end
    if form.codec == "gzip":
        yield from warc.gzip_records(stored, limit, start=extent.start, stop=stop, whole=form.framing == "stream")
    elif form.codec is None:
        yield from warc.frame(stored, limit, start=extent.start, stop=stop)
    else:
        for found in warc.frame(_content(file, stored, form.codec, size), limit):
            yield found._replace(stream=0) if isinstance(found, warc.Record) else found


def _from_record(record: warc.Record, extent: Extent, config: Config) -> Document | Drop | Failure:
    fields = record.fields
    kind = fields.get("warc-type", "").lower()
    key = extent.hash if record.stream is None else f"{extent.hash}:{record.stream}"
    origin = _Origin(
        id=_unbracketed(fields.get("warc-record-id", "")) or position_id(key, record.offset),
        offset=record.offset,
        length=record.length,
        url=_unbracketed(fields.get("warc-target-uri", "")) or None,
    )
    meta: dict[str, object] = {"warc_type": kind or None, "truncated": fields.get("warc-truncated"), **_stream_meta(record.stream)}
    if kind not in ("response", "resource", "conversion"):
        return _drop(origin, kind if kind in _NO_PAGES else "unknown_type", {"warc_type": kind}, meta)
    if origin.url and origin.url.startswith("metadata:"):  # the crawler's own log, stored as a resource
        return _drop(origin, "metadata", {"url": origin.url}, meta)
    created = _date(fields.get("warc-date", ""))
    content_type, body = fields.get("content-type", ""), record.block
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
            body, cut = warc_http.decode(response, config.max_record_bytes)
        except warc_http.BombError as error:
            return Failure("bomb", str(error), record.offset, raw=record.block[:RAW_PREFIX])
        meta["truncated"] = meta["truncated"] or cut or None
    return _page(body, content_type, origin, created, meta, config)


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
    body: bytes, content_type: str, origin: _Origin, created: dt.datetime | None, meta: dict[str, object], config: Config
) -> Document | Drop | Failure:
    """The document that `body` is under `content_type`, or why it is none."""
    declared = warc_http.media_type(content_type)
    meta["content_type"] = declared or None
    seen = "text/html" if html.looks_like_html(body[:4096]) else _mime(body[:4096])
    as_html = seen == "text/html" or (declared in _HTML_TYPES and seen in ("text/plain", "text/xml", "application/xml"))
    as_text = declared == "text/plain" and seen == "text/plain"
    if not body.strip():
        return _drop(origin, "empty_text", {"bytes": len(body)}, meta)
    if declared not in _MAYBE_PAGES or not (as_html or as_text):
        return _drop(origin, "not_html", {"content_type": content_type or None, "seen": seen}, meta)
    hint, licence = warc_http.charset(content_type), None
    if as_html:
        try:
            text, licence, told = html.html_to_text(body, hint, config.extract)
        except html.PageError as error:
            return Failure("bad_html", str(error), origin.offset, raw=body[:RAW_PREFIX])
        meta.update(told)
    else:
        text, meta["charset"], replaced = html.decode(body, hint)
        meta["replaced"] = replaced or None
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


def _from_file(file: BinaryIO, extent: Extent, form: Format, size: int, config: Config) -> Document | Drop | Failure:
    """A single HTML file."""
    window = _content(file, warc_stream.Window(warc_stream.Stored(file)), form.codec, size)
    body = window.get(0, config.max_record_bytes + 1)
    if window.stream.error:
        return Failure(*window.stream.error, 0, raw=body[:RAW_PREFIX])
    if len(body) > config.max_record_bytes:
        return Failure("too_large", f"the page has more bytes than max_record_bytes={config.max_record_bytes}", 0, raw=body[:RAW_PREFIX])
    origin = _Origin(position_id(extent.hash, 0), 0, len(body), None)
    return _page(body, "text/html", origin, None, _stream_meta(0 if form.codec else None), config)


def _other(file: BinaryIO, extent: Extent, form: Format, size: int) -> Drop | Failure:
    """A file that is neither an archive nor a page."""
    window = _content(file, warc_stream.Window(warc_stream.Stored(file)), form.codec, size)
    raw = window.get(0, RAW_PREFIX)
    if window.stream.error:
        return Failure(*window.stream.error, 0, raw=raw)
    if form.evidence == "application/octet-stream":
        return Failure("corrupt", "neither a web archive nor HTML, nor of a known type", 0, raw=raw)
    return _drop(_Origin(position_id(extent.hash, 0), 0, size, None), "not_html", {"seen": form.evidence, "compression": form.codec}, {})


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
