"""Books: plain text, HTML, EPUB (a file or an unpacked folder), TEI, and JSON of books or poems; plain, compressed, or in archives.

What a file is, is told by its content. A book is one record and one document, or with `split: chapter` as many records and documents as it
has chapters. What surrounds a book (Project Gutenberg's header and licence, credits, tables of contents) is cut out and counted by part in
`meta.removed`. Everything else in a library (licences, listings, LaTeX editions, pictures) is a Drop that says what it is.

Ids are position ids: one book number has many editions, so numbers and identifiers go to `meta`. `origin.offset` is a line's or element's
place in a JSON file, an archive member's in its archive, else 0; of an unpacked EPUB the origin is its container file. Plain JSON lines and
archives are split, books never. Cost: 14 MB a second of plain text, 13 of HTML, 12 of EPUB, 17 of TEI, 30 of JSON. Memory: up to 12 times
the largest record.
Not read: PDF, Mobipocket, FictionBook, DocBook (Drop `other_format`), archives in archives but for EPUB.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import orjson

from codedev import _archive, _files
from codedev.corpus.document import meta_json
from codedev.corpus.extract.blocks import MarkupError
from codedev.corpus.extract.book import epub
from codedev.corpus.source import Extent, Failure, SourceConfig
from codedev.corpus.sources import json_array, lines
from codedev.corpus.sources.books import folder as books_folder
from codedev.corpus.sources.books import kind as books_kind
from codedev.corpus.sources.books.record import Record, Where, content, from_epub, from_json

VERSION = 1


class Config(SourceConfig):
    type: Literal["books"] = "books"
    split: Literal["book", "chapter"] = "book"  # one document a book, or one a chapter with the id `<book>#<number>`
    unwrap: bool = True  # join the lines of wrapped prose; verse, tables and whatever is in doubt keep theirs
    boilerplate: Literal["drop", "keep"] = (
        "drop"  # header, licence, credits, transcribers' notes, page numbers, tables of contents, colophons
    )
    notes: Literal["keep", "drop"] = "keep"  # footnotes and endnotes where the format marks them: EPUB, HTML, TEI
    illustrations: Literal["caption", "drop"] = "caption"  # descriptions of pictures, as [Illustration: …]
    nonlinear: Literal["end", "drop"] = "end"  # what an EPUB has outside its reading order
    text: str = "text"  # the key that holds the text in JSON; `paragraphs` and `content` are taken too


# --- plan


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    for found in books_folder.inputs(config.paths, base):
        whole = Extent(found.path, found.name, 0, -1, found.size, found.context, found.hash)
        if found.size <= unit_bytes or found.hash:
            yield whole
        else:
            yield from _cut(whole, unit_bytes)


def _cut(whole: Extent, unit_bytes: int) -> Iterator[Extent]:
    """A large file in pieces: JSON lines by bytes, archives by members."""
    pieces: list[tuple[int, int, int]] = []
    form = ""
    with contextlib.suppress(OSError):  # `read` meets the same error and reports it
        with _files.open_raw(whole.file) as file:
            head = file.read(books_kind.HEAD)
            form = "" if _files.compression(head) else books_kind.form_of(head)
            file.seek(0)
            if form == "jsonl":
                pieces = [(start, min(start + unit_bytes, whole.size), 0) for start in range(0, whole.size, unit_bytes)]
            elif form == "archive" and (kind := _archive.form(head[: _archive.BLOCK])) in ("zip", "tar") and not _is_epub(file, kind):
                file.seek(0)
                pieces = _archive.cuts(file, kind, unit_bytes)
    if len(pieces) < 2:
        yield whole
        return
    context = meta_json({**orjson.loads(whole.context), "form": form})
    for start, end, size in pieces:
        yield whole._replace(start=start, end=end, size=size or end - start, context=context)


def _is_epub(file: BinaryIO, form: _archive.Form | None) -> bool:
    """Whether a zip is one book: its first entry says so, or it holds a container file."""
    if form != "zip":
        return False
    file.seek(0)
    if file.read(200)[30:].startswith(b"mimetypeapplication/epub+zip"):
        return True
    return any(member.name == epub.CONTAINER for member in _archive.members(file, "zip", limit=1 << 31))


# --- read


def read(extent: Extent, config: Config, base: Path) -> Iterator[Record]:
    context = orjson.loads(extent.context)
    where = Where(extent.hash, extent.name, 0, extent.size if extent.end < 0 else None, None, context.get("beside", {}))
    try:
        if "book" in context:
            yield from _folder(context["book"], where, config)
            return
        with _files.open_raw(extent.file) as file:
            yield from _file(file, extent, where, config, context.get("form"))
    except OSError as error:
        yield Failure("unreadable", error.strerror or str(error))


def _file(file: BinaryIO, extent: Extent, where: Where, config: Config, form: str | None) -> Iterator[Record]:
    start = file.read(8)
    file.seek(0)
    codec = _files.compression(start)
    try:
        head = _read(_files.decompressed(file, codec, config.max_ratio), books_kind.HEAD)
    except Exception as error:
        if not _files.is_damage(error):
            raise
        yield where.fail(_files.damage_kind(error), f"the compressed stream is damaged: {error}", start)
        return
    file.seek(0)
    stream = _files.decompressed(file, codec, config.max_ratio)
    match form or books_kind.form_of(head):
        case "jsonl":
            yield from _lines(stream, extent, where, config)
        case "array":
            yield from _elements(stream, where, config, "array")
        case "values":
            yield from _elements(stream, where, config, "values")
        case "archive":
            yield from _archived(file, stream, head, codec, extent, where, config)
        case _:
            data = _bounded(stream, config.max_record_bytes, where)
            yield from content(data, where, config) if isinstance(data, bytes) else (data,)


def _read(stream: BinaryIO, size: int) -> bytes:
    """`size` bytes, or all that there are; what comes before a damage, if it comes."""
    parts: list[bytes] = []
    try:
        while size > 0 and (part := stream.read(size)):
            parts.append(part)
            size -= len(part)
    except Exception as error:
        if not parts or not _files.is_damage(error):
            raise
    return b"".join(parts)


def _bounded(stream: BinaryIO, limit: int, where: Where) -> bytes | Failure:
    parts: list[bytes] = []
    size = 0
    try:
        while size <= limit and (part := stream.read(1 << 20)):
            parts.append(part)
            size += len(part)
    except Exception as error:
        if not _files.is_damage(error):
            raise
        return where.fail(_files.damage_kind(error), f"the stream ends damaged after {size:,} bytes: {error}", b"".join(parts[:1]))
    if size > limit:
        return where.fail("too_large", f"a record of more than {limit:,} bytes (max_record_bytes)", parts[0])
    return b"".join(parts)


# --- archives and folders


def _archived(
    file: BinaryIO, stream: BinaryIO, head: bytes, codec: str | None, extent: Extent, where: Where, config: Config
) -> Iterator[Record]:
    form = _archive.form(head[: _archive.BLOCK])
    assert form is not None  # `form_of` said so
    if codec and form != "tar":  # a zip must be seekable
        data = _bounded(stream, config.max_record_bytes, where)
        if isinstance(data, Failure):
            yield data
            return
        stream = io.BytesIO(data)
    if extent.start == 0 and extent.end < 0 and _is_epub(stream, form):
        stream.seek(0)
        yield from _epub(stream, where, config)
        return
    if stream.seekable():
        stream.seek(0)
    for member in _archive.members(stream, form, start=extent.start, end=extent.end, limit=config.max_record_bytes, ratio=config.max_ratio):
        inner = where._replace(
            key=f"{where.key}:{member.offset}",
            name=member.name,
            offset=member.offset,
            length=getattr(member, "size", None),
            member=member.name,
        )
        if isinstance(member, _archive.Refused):
            yield inner.drop("link") if member.kind == "link" else inner.fail(member.kind, member.message)
            continue
        try:
            data = member.read()
        except _archive.ArchiveError as error:
            yield inner.fail(error.kind, str(error))
            continue
        yield from _member(data, inner, extent, config)


def _member(data: bytes, where: Where, extent: Extent, config: Config) -> Iterator[Record]:
    inner = extent._replace(start=0, end=-1, size=len(data))
    match books_kind.form_of(data[: books_kind.HEAD]):
        case "jsonl":
            yield from _lines(io.BytesIO(data), inner, where, config)
        case "array":
            yield from _elements(io.BytesIO(data), where, config, "array")
        case "values":
            yield from _elements(io.BytesIO(data), where, config, "values")
        case "archive" if _is_epub(io.BytesIO(data), _archive.form(data[: _archive.BLOCK])):
            yield from _epub(io.BytesIO(data), where, config)
        case "archive":
            yield where.fail("nested_archive", "an archive in an archive: unpack it first", data)
        case _ if _files.compression(data[:8]):
            yield where.fail("nested_archive", "a compressed file in an archive: unpack it first", data)
        case _:
            yield from content(data, where, config)


# Members of an EPUB that hold no text.
_MEDIA = (
    *(
        ".jpg",
        ".jpeg",
        ".png",
        ".gif",
        ".webp",
        ".svg",
        ".css",
        ".js",
        ".ttf",
        ".otf",
        ".woff",
        ".woff2",
        ".mp3",
        ".mp4",
        ".m4a",
        ".m4v",
        ".ogg",
    ),
    *(".webm", ".smil", ".pls", ".bmp", ".tif", ".tiff", ".wav", ".avi", ".pdf"),
)


def _epub(stream: BinaryIO, where: Where, config: Config) -> Iterator[Record]:
    """The book, behind a Failure for each member that is refused and is none of its parts."""
    files: dict[str, bytes] = {}
    refused: dict[str, Failure] = {}
    size = 0
    for member in _archive.members(stream, "zip", limit=config.max_record_bytes, ratio=config.max_ratio):
        inside = where._replace(offset=member.offset, member=f"{where.member}/{member.name}" if where.member else member.name)
        if isinstance(member, _archive.Refused):
            refused[member.name] = inside.fail(member.kind, member.message)
            continue
        if member.name.lower().endswith(_MEDIA):
            continue
        try:
            files[member.name] = member.read()
        except _archive.ArchiveError as error:
            refused[member.name] = inside.fail(error.kind, str(error))
            continue
        size += len(files[member.name])
        if size > config.max_record_bytes:
            yield where.fail("too_large", f"the book unfolds to more than {config.max_record_bytes:,} bytes (max_record_bytes)")
            return

    if refused and not files:  # no zip that can be read
        yield from refused.values()
        return

    def get(name: str) -> bytes | None:
        if name in refused:
            failure = refused.pop(name)
            raise MarkupError(failure.kind, f"{name}: {failure.message}")
        return files.get(name)

    book = list(from_epub(files, get, where, config))
    yield from refused.values()
    yield from book


def _folder(root: str, where: Where, config: Config) -> Iterator[Record]:
    folder = books_folder.Folder(root, config.max_record_bytes)
    yield from from_epub(folder.about(), folder.get, where, config)


# --- JSON


def _lines(stream: BinaryIO, extent: Extent, where: Where, config: Config) -> Iterator[Record]:
    for line in lines.lines(stream, extent, config.max_record_bytes):
        if isinstance(line, Failure):
            yield line._replace(member=where.member)
        elif line[1].strip(b"\xef\xbb\xbf \t\r\n"):  # a blank line is no record
            yield from from_json(line[1], _inner(where, *line), config)


def _elements(stream: BinaryIO, where: Where, config: Config, form: str) -> Iterator[Record]:
    for element in json_array.elements(stream, config.max_record_bytes, form):
        if isinstance(element, Failure):
            yield element._replace(member=where.member)
        elif not isinstance(element, json_array.Beside):
            yield from from_json(element[1], _inner(where, *element), config)


def _inner(where: Where, offset: int, data: bytes) -> Where:
    key, position = (where.key, offset) if where.member is None else (f"{where.key}:{offset}", offset)
    return where._replace(key=key, offset=position, length=len(data))
