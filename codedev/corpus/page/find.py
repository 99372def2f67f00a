"""Where the bytes of one page are: a file, standard input, a URL, or a record of a WARC or ARC archive.

Files are opened as the web source opens them: local or remote, compressed or not, told by their content. An archive is read from its start
until the page is found, 450 MB of decompressed records a second; a page named by its offset is read at once. At most 64 MiB of a page.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO, NamedTuple

from codedev import _files
from codedev._errors import InputError, printable
from codedev.corpus import guard
from codedev.corpus.extract import html
from codedev.corpus.page.seen import ANY, LIMIT, Entry, Raw, Wanted
from codedev.corpus.source import Failure
from codedev.corpus.sources.web import warc, warc_http, warc_stream
from codedev.corpus.sources.web.format import Format, content, identify, is_fragment, mime

_NEAR = 3  # URLs that an error names
_COMPARED = 2_000  # characters of a URL


def page(where: str, wanted: Wanted = ANY, most: int = 20, piped: bytes | None = None) -> Raw | list[Entry]:
    """The page at `where`, or `piped`, what came through standard input; where that is an archive and nothing is `wanted` of it, its first
    pages. In another file `wanted.url` says where the page was found. InputError where there is no page."""
    with _opened(where, piped) as file:
        form = _identified(file, where)
        if form.kind in ("warc", "arc"):
            return _listed(file, form, where, most) if wanted == ANY else _record(file, form, where, wanted)
        if wanted.offset is not None or wanted.record is not None:
            raise InputError(f"{where}: is no web archive, so that it has no records. Leave out --offset and --record")
        body = _whole(file, form, where)
    return Raw(where, body, url=wanted.url)


def _listed(file: BinaryIO, form: Format, where: str, most: int) -> list[Entry]:
    found = []
    for number, record in islice(_pages_of(file, form), most):
        raw = _payload(record, where)
        title = guard.guarded(record.offset, record.block, _title, raw)
        error = title.message if isinstance(title, Failure) else None
        found.append(Entry(number, record.offset, raw.url or "", len(raw.html), title if isinstance(title, str) else "", error))
    if not found:
        raise InputError(f"{where}: this archive holds no page of HTML. See what it holds: codedev corpus read web {where} --dropped")
    return found


def _title(raw: Raw) -> str:
    return str(html.html_as_it_is(raw.html, raw.charset).meta.get("title") or "")


# --- files


def _opened(where: str, piped: bytes | None) -> BinaryIO:
    if piped is not None:
        return io.BytesIO(piped)
    if os.path.isdir(where):
        raise InputError(f"{where}: is a folder. Give one file of it: a page of HTML or a web archive")
    if os.path.exists(where) and not os.path.isfile(where):
        raise InputError(f"{where}: is no regular file. Give `-` for what comes through standard input")
    try:
        return _files.open_raw(where)
    except OSError as error:
        said = str(error)
        raise InputError(
            f"{said if said.startswith(where) else f'{where}: cannot be read ({error.strerror or said})'}. Check the path"
        ) from None


def _identified(file: BinaryIO, where: str) -> Format:
    form = identify(file, LIMIT, _files.MAX_RATIO)
    if form.kind == "empty":
        raise InputError(f"{where}: holds nothing. Give a page of HTML or a web archive")
    return form


def _whole(file: BinaryIO, form: Format, where: str) -> bytes:
    window = content(file, form.codec, _files.MAX_RATIO)
    body = window.get(0, LIMIT + 1)
    if window.stream.error:
        raise InputError(f"{where}: {window.stream.error[1]}. Fetch the file again")
    if len(body) > LIMIT:
        raise InputError(f"{where}: has more than {LIMIT >> 20} MiB. Give one page, or a web archive")
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
        found = warc.gzip_records(stored, LIMIT, start=start, whole=form.framing == "stream", grammar=form.grammar)
    elif form.codec is None:
        found = warc.frame(stored, LIMIT, start=start, grammar=form.grammar)
    else:
        found = warc.frame(content(file, form.codec, _files.MAX_RATIO), LIMIT, grammar=form.grammar)
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
        return _Unpacked(response.status, response.headers.get("content-type", ""), warc_http.decode(response, LIMIT).data)
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
    """The first page of that very URL; else of one that differs in its scheme, `www.`, fragment or last slash alone. However many URLs an
    archive holds, those few that are nearest are remembered."""
    close: warc.Record | None = None
    bare, near = _bare(wanted), Nearest(wanted)
    for record in _records(file, form):
        if _kind(record) in ("response", "resource") and (url := _url(record)):
            if url == wanted:
                return _payload(record, where)
            if close is None and _bare(url) == bare:
                close = record
            near.see(url)
    if close:
        return _payload(close, where)
    hint = f"Nearest: {', '.join(map(printable, near.urls))}" if near.urls else f"List the pages: codedev corpus extract {where}"
    raise InputError(f"{where}: holds no page of {wanted}. {hint}")


def _bare(url: str) -> str:
    return _SCHEME.sub("", url.partition("#")[0]).lower().removeprefix("www.").rstrip("/")


_SCHEME = re.compile(r"\A[a-zA-Z][\w+.-]*://")
_WORD = re.compile(r"[^\W_]+")


class Nearest:
    """Of the URLs that pass, those that share most words with one: linear, where comparing letters is not."""

    def __init__(self, wanted: str) -> None:
        self._words = _words(wanted)
        self._best: list[tuple[float, str]] = []  # less the share, URL; the best first

    def see(self, url: str) -> None:
        own = _words(url)
        if common := len(self._words & own):
            entry = (-common / len(self._words | own), url[:_COMPARED])
            if (len(self._best) < _NEAR or entry < self._best[-1]) and entry not in self._best:
                self._best = sorted([*self._best, entry])[:_NEAR]

    @property
    def urls(self) -> list[str]:
        return [url for _, url in self._best]


def _words(url: str) -> set[str]:
    return set(_WORD.findall(_bare(url[:_COMPARED])))
