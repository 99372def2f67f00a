"""Where the bytes of one page are: a file, standard input, a URL, or a record of a WARC or ARC archive.

Files are opened as the web source opens them: local or remote, compressed or not, told by their content. An archive is read from its start
until the page is found, 450 MB of decompressed records a second; a page named by its offset is read at once. At most 64 MiB of a page.
"""

from __future__ import annotations

import heapq
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO, NamedTuple

from codedev import _files
from codedev._errors import InputError, printable
from codedev.corpus.extract import html
from codedev.corpus.sources.web import warc, warc_http, warc_stream
from codedev.corpus.sources.web.format import Format, content, identify, is_fragment, mime

_LIMIT = 64 << 20
_NEAR = 3  # URLs that an error names


class Raw(NamedTuple):
    """A page as it is stored."""

    name: str  # what to call it
    html: bytes
    charset: str | None = None  # what the transport said
    url: str | None = None
    note: str | None = None  # what a person should know of it


class Entry(NamedTuple):
    """A page of an archive."""

    record: int  # its number in the archive, from 1
    offset: int
    url: str
    bytes: int
    title: str


class Wanted(NamedTuple):
    """Which record of an archive; nothing = none is chosen."""

    url: str | None = None
    offset: int | None = None
    record: int | None = None


_ANY = Wanted()


def page(where: str, wanted: Wanted = _ANY, most: int = 20) -> Raw | list[Entry]:
    """The page at `where`, `-` for standard input; where that is an archive and nothing is `wanted` of it, its first pages. In another
    file `wanted.url` says where the page was found. InputError where there is no page."""
    with _opened(where) as file:
        form = _identified(file, where)
        if form.kind in ("warc", "arc"):
            return _listed(file, form, where, most) if wanted == _ANY else _record(file, form, where, wanted)
        if wanted.offset is not None or wanted.record is not None:
            raise InputError(f"{where}: is no web archive, so that it has no records. Leave out --offset and --record")
        body = _whole(file, form, where)
    return Raw(where, body, url=wanted.url)


def _listed(file: BinaryIO, form: Format, where: str, most: int) -> list[Entry]:
    found = []
    for number, record in islice(_pages_of(file, form), most):
        raw = _payload(record, where)
        title = str(html.html_as_it_is(raw.html, raw.charset).meta.get("title") or "")
        found.append(Entry(number, record.offset, raw.url or "", len(raw.html), title))
    if not found:
        raise InputError(f"{where}: this archive holds no page of HTML. See what it holds: codedev corpus read web {where} --dropped")
    return found


_OFFSET = re.compile(r"(.+)#(\d{1,18})")


def with_offset(where: str, offset: int | None) -> tuple[str, int | None]:
    """`archive.warc.gz#1234` is the archive and its offset, unless a file has that name or an offset is given."""
    found = _OFFSET.fullmatch(where)
    if offset is not None or not found or os.path.lexists(where):
        return where, offset
    return found[1], int(found[2])


# --- files


def _opened(where: str) -> BinaryIO:
    if where == "-":
        data = sys.stdin.buffer.read(_LIMIT + 1)
        return io.BytesIO(data)
    try:
        return _files.open_raw(where)
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror or error}). Check the path") from None


def _identified(file: BinaryIO, where: str) -> Format:
    form = identify(file, _LIMIT, _files.MAX_RATIO)
    if form.kind == "empty":
        raise InputError(f"{where}: holds nothing. Give a page of HTML or a web archive")
    return form


def _whole(file: BinaryIO, form: Format, where: str) -> bytes:
    window = content(file, form.codec, _files.MAX_RATIO)
    body = window.get(0, _LIMIT + 1)
    if window.stream.error:
        raise InputError(f"{where}: {window.stream.error[1]}. Fetch the file again")
    if len(body) > _LIMIT:
        raise InputError(f"{where}: has more than {_LIMIT >> 20} MiB. Give one page, or a web archive")
    # Whoever names one file means it: what looks like a part of a page is one, whatever the file's name.
    if form.kind == "other" and not is_fragment(file, "page.html", form, _files.MAX_RATIO):
        raise InputError(f"{where}: {_seen(form.evidence)}")
    return body


# What to read other files with.
_OTHERS = {
    "application/pdf": "is a PDF, which is not read",
    "text/plain": "holds plain text without HTML tags: nothing is to be taken out of it",
    "application/octet-stream": "is binary, neither HTML nor a web archive",
    "application/epub+zip": "is an EPUB: see codedev corpus read books",
    "application/zip": "is a ZIP archive: unpack it and give a page of it",
}


def _seen(mime_type: str) -> str:
    return f"{_OTHERS.get(mime_type, f'is {mime_type}, not HTML')}. Give a page of HTML, or a WARC or ARC archive"


# --- archives


def _records(file: BinaryIO, form: Format, start: int = 0) -> Iterator[warc.Record]:
    """Every whole record; damage is passed over."""
    stored = warc_stream.Window(warc_stream.Stored(file))
    found: Iterable[warc.Record | warc.Damage]
    if form.codec == "gzip":
        found = warc.gzip_records(stored, _LIMIT, start=start, whole=form.framing == "stream", grammar=form.grammar)
    elif form.codec is None:
        found = warc.frame(stored, _LIMIT, start=start, grammar=form.grammar)
    else:
        found = warc.frame(content(file, form.codec, _files.MAX_RATIO), _LIMIT, grammar=form.grammar)
    return (record for record in found if isinstance(record, warc.Record))


def _kind(record: warc.Record) -> str:
    return record.fields.get("warc-type", "").lower()


def _url(record: warc.Record) -> str:
    return record.fields.get("warc-target-uri", "").strip().removeprefix("<").removesuffix(">").strip()


def _pages_of(file: BinaryIO, form: Format) -> Iterator[tuple[int, warc.Record]]:
    """The records that hold a page of HTML that was delivered, with their numbers."""
    for number, record in enumerate(_records(file, form), 1):
        if _kind(record) in ("response", "resource"):
            raw = _unpacked(record)
            if raw and raw.status // 100 == 2 and html.looks_like_html(raw.body[:4096]):
                yield number, record


class _Unpacked(NamedTuple):
    status: int
    content_type: str
    body: bytes


def _unpacked(record: warc.Record) -> _Unpacked | None:
    """What a record delivers; None where that cannot be told."""
    if _kind(record) != "response" or not (
        record.fields.get("content-type", "").lower().startswith("application/http") or record.block.startswith(b"HTTP/")
    ):
        return _Unpacked(200, record.fields.get("content-type", ""), record.block)
    response = warc_http.parse(record.block)
    if response is None:
        return None
    try:
        return _Unpacked(response.status, response.headers.get("content-type", ""), warc_http.decode(response, _LIMIT).data)
    except warc_http.BombError:
        return None


def _payload(record: warc.Record, where: str) -> Raw:
    """The page in a record."""
    name = f"{where}#{record.offset}"
    kind = _kind(record)
    if kind not in ("response", "resource"):
        said = f" of {_url(record)}" if _url(record) else ""
        raise InputError(
            f"{name}: is a record of type {kind or 'unknown'}{said}, not a page. List the pages: codedev corpus extract {where}"
        )
    found = _unpacked(record)
    if found is None:
        raise InputError(f"{name}: holds no HTTP response that can be read. List the pages: codedev corpus extract {where}")
    if not found.body.strip():
        raise InputError(
            f"{name}: the response of {_url(record)} (HTTP {found.status}) is empty. List the pages: codedev corpus extract {where}"
        )
    declared = warc_http.media_type(found.content_type)
    if not html.looks_like_html(found.body[:4096]) and declared not in ("text/html", "application/xhtml+xml"):
        seen = mime(found.body[:4096])
        raise InputError(
            f"{name}: {_url(record)} {_seen(declared if seen in ('text/plain', 'application/octet-stream') and declared else seen)}"
        )
    note = None if found.status // 100 == 2 else f"the server answered with HTTP {found.status}: a build of a corpus drops this page"
    return Raw(name, found.body, warc_http.charset(found.content_type), _url(record) or None, note)


def _record(file: BinaryIO, form: Format, where: str, wanted: Wanted) -> Raw:
    if wanted.offset is not None:
        return _at_offset(file, form, where, wanted.offset)
    if wanted.record is not None:
        return _numbered(file, form, where, wanted.record)
    assert wanted.url is not None
    return _with_url(file, form, where, wanted.url)


def _at_offset(file: BinaryIO, form: Format, where: str, offset: int) -> Raw:
    # In an archive that is one stream, offsets are those of its content.
    straight = form.framing in ("plain", "members")
    before: int | None = None
    for record in _records(file, form, offset if straight else 0):
        if record.offset == offset:
            return _payload(record, where)
        if record.offset > offset:
            hint = f"The next one starts at {record.offset}" + (f", the last one before at {before}" if before is not None else "")
            raise InputError(f"{where}: no record starts at byte {offset}. {hint}")
        before = record.offset
    raise InputError(f"{where}: no record starts at byte {offset} or behind it. List the pages: codedev corpus extract {where}")


def _numbered(file: BinaryIO, form: Format, where: str, wanted: int) -> Raw:
    number = 0
    for number, record in enumerate(_records(file, form), 1):
        if number == wanted:
            return _payload(record, where)
    raise InputError(f"{where}: has {number} records, none with the number {wanted}. List the pages: codedev corpus extract {where}")


def _with_url(file: BinaryIO, form: Format, where: str, wanted: str) -> Raw:
    """The first page of that very URL; else of one that differs in its scheme, `www.`, fragment or last slash alone."""
    close: warc.Record | None = None
    bare, seen = _bare(wanted), set()
    for record in _records(file, form):
        if _kind(record) in ("response", "resource") and (url := _url(record)):
            if url == wanted:
                return _payload(record, where)
            if close is None and _bare(url) == bare:
                close = record
            seen.add(url)
    if close:
        return _payload(close, where)
    near = _nearest(wanted, seen)
    hint = f"Nearest: {', '.join(map(printable, near))}" if near else f"List the pages: codedev corpus extract {where}"
    raise InputError(f"{where}: holds no page of {wanted}. {hint}")


def _bare(url: str) -> str:
    return url.partition("#")[0].partition("://")[2].lower().removeprefix("www.").rstrip("/")


_WORD = re.compile(r"[^\W_]+")


def _nearest(wanted: str, urls: Iterable[str]) -> list[str]:
    """Those that share most words with it: linear, where comparing letters is not."""
    words = set(_WORD.findall(_bare(wanted)))

    def shared(url: str) -> float:
        own = set(_WORD.findall(_bare(url)))
        return len(words & own) / max(1, len(words | own))

    return heapq.nlargest(_NEAR, sorted(url for url in urls if shared(url)), shared)
