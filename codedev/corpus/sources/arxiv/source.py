"""arXiv's sources: the bulk archives, archives of single papers, folders and files of TeX. One paper is one record.

In a bulk archive (`arXiv_src_2101_001.tar`) every member is a paper: a gzipped tar of its files, or one gzipped file. A tar or zip with
TeX in it is one paper. In a folder every document (`\\documentclass` and its likes) that no other one reads is a paper, with all that it
reads. The conversion is in `extract/latex.py`; formulas stay verbatim.

With `metadata:` (the JSON-lines snapshot of arXiv) papers are joined out of core with their row, by id: version, authors, categories,
licence, date, DOI, abstract. Rows become nothing by themselves.

Ids: `2101.00001v2`, where the version is known from the snapshot or the file's name, else `2101.00001`; a paper that is named by no arXiv
id has a position id. Cost: 4 to 6 MB of TeX a second and core; memory: one paper, a few times its source.
"""

from __future__ import annotations

import datetime as dt
import io
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import orjson

from codedev import _archive, _files
from codedev.corpus.document import RAW_PREFIX, meta_json, position_id
from codedev.corpus.extract.latex import document as latex
from codedev.corpus.extract.latex import main as latex_main
from codedev.corpus.source import Document, Drop, Extent, Failure, Piece, SourceConfig
from codedev.corpus.sources.arxiv import folder as arxiv_folder
from codedev.corpus.sources.arxiv import metadata as arxiv_metadata
from codedev.corpus.sources.arxiv.metadata import Identity
from codedev.corpus.sources.lines import lines

VERSION = 1


class Config(SourceConfig):
    type: Literal["arxiv"] = "arxiv"
    metadata: tuple[str, ...] = ()  # the snapshot (arxiv-metadata-oai-snapshot.json), JSON lines: files, globs or URLs
    preamble: Literal["drop", "keep"] = "drop"  # keep: as a block of code before the text
    comments: Literal["drop", "keep"] = "drop"  # keep: those between paragraphs, as lines that begin with %; never inside formulas
    bibliography: Literal["drop", "keep"] = "drop"
    labels: Literal["drop", "keep"] = "drop"  # \label in formulas and in the text; \tag is always kept
    references: Literal["keys", "drop"] = "keys"  # \ref{thm:a} as [thm:a]
    citations: Literal["numbers", "keys", "drop"] = "numbers"  # \cite as [3], where the bibliography's order is known, else as keys


_METADATA = b"M"
_PAPER = b"P"

# -- plan


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    """The snapshot in pieces, then one extent a file or paper; bulk archives are cut at members."""
    for found in _files.expand(config.metadata, base):
        yield from _metadata_extents(found, unit_bytes)
    seen: set[str] = set()  # 100 bytes a file
    for pattern in config.paths:
        for extent in _extents(pattern, base, unit_bytes):
            key = f"{extent.file}:{extent.start}"
            if key not in seen:
                seen.add(key)
                yield extent


def _metadata_extents(found: _files.Found, unit_bytes: int) -> Iterator[Extent]:
    context = meta_json({"role": "metadata"})
    pieces = 1
    if found.size > unit_bytes and not _files.is_url(found.path):
        try:
            with _files.open_raw(found.path) as file:
                if _files.compression(file.read(8)) is None:
                    pieces = -(-found.size // unit_bytes)
        except OSError:
            pass  # `read` meets the same error and reports it
    for number in range(pieces):
        start, end = number * unit_bytes, (number + 1) * unit_bytes if number < pieces - 1 else -1
        yield Extent(found.path, found.name, start, end, min(unit_bytes, found.size - start) if pieces > 1 else found.size, context)


def _extents(pattern: str, base: Path, unit_bytes: int) -> Iterator[Extent]:
    if _files.is_url(pattern):
        for found in _files.expand((pattern,), base):
            yield from _file_extents(found, unit_bytes)
        return
    matches = _files.matches(pattern, base)
    if not matches:
        raise _files.nothing_at(pattern, base)
    for match in matches:
        if Path(match).is_dir():
            papers = arxiv_folder.papers(match, base)
        elif paper := arxiv_folder.alone(match, base):
            papers = iter((paper,))
        else:
            yield from _file_extents(_files.found(match, base), unit_bytes)
            continue
        for paper in papers:
            found = _files.Found(paper.path, paper.name, paper.size)
            if paper.role == "other":
                yield from _file_extents(found, unit_bytes)
            else:
                context = meta_json({"role": paper.role, "files": paper.files})
                yield Extent(paper.path, paper.name, 0, -1, paper.size, context, paper.hash)


def _file_extents(found: _files.Found, unit_bytes: int) -> Iterator[Extent]:
    if found.size > unit_bytes:
        try:
            with _files.open_raw(found.path) as file:
                if _archive.form(file.read(_archive.BLOCK)) == "tar":
                    file.seek(0)
                    if _is_bulk(file):
                        file.seek(0)
                        for start, end, size in _archive.cuts(file, "tar", unit_bytes):
                            yield Extent(found.path, found.name, start, end, size, meta_json({"role": "bulk"}))
                        return
        except OSError:
            pass  # `read` meets the same error and reports it
    yield Extent(found.path, found.name, 0, -1, found.size)


# In a bulk archive: 2101/2101.00001.gz, 0001/hep-th0001001.pdf
_BULK_MEMBER = re.compile(r"(?:^|/)(?:\d{4}\.\d{4,5}|[a-z-]{2,12}\d{7})(?:v\d+)?\.(?:gz|pdf|tar\.gz|tgz)$")


def _is_bulk(file: BinaryIO) -> bool:
    """Whether the first file of a tar is a paper and not a part of one."""
    for member in _archive.members(file, "tar", limit=1 << 62):
        return _BULK_MEMBER.search(member.name) is not None
    return False


# -- read

_Records = Iterator[Document | Drop | Failure | Piece]


def read(extent: Extent, config: Config, base: Path) -> _Records:
    """One Document, Drop or Failure a paper; Pieces of the papers and the rows where the metadata is to be joined."""
    context = orjson.loads(extent.context)
    try:
        match context.get("role"):
            case "metadata":
                yield from _read_metadata(extent, config)
            case "paper":
                yield from _read_folder(extent, config, context["files"])
            case "part":
                evidence = meta_json({"why": "TeX that is no document and that none reads"})
                yield Drop(position_id(extent.hash, 0), "no_document", evidence, 0, extent.size)
            case role:
                yield from _read_file(extent, config, role == "bulk")
    except OSError as error:
        kind = _files.damage_kind(error) if isinstance(error, _files.BombError) else "unreadable"
        yield Failure(kind, error.strerror or str(error))


def _read_metadata(extent: Extent, config: Config) -> _Records:
    with _files.open_raw(extent.file) as file:
        codec = _files.compression(file.read(8))
        file.seek(0)
        for line in lines(_files.decompressed(file, codec, config.max_ratio), extent, config.max_record_bytes):
            if isinstance(line, Failure):
                yield line
                continue
            offset, data = line
            if not data.strip():
                continue
            try:
                row = orjson.loads(data)
                key = arxiv_metadata.key_of(row) if isinstance(row, dict) else None
            except orjson.JSONDecodeError as error:
                yield Failure("invalid_json", f"a line of the metadata: {error}", offset, raw=data[:RAW_PREFIX])
                continue
            if key is None:
                yield Failure("invalid_id", "a line of the metadata without an arXiv id", offset, raw=data[:RAW_PREFIX])
            else:
                yield Piece(0, key, _METADATA + data.strip(), records=0, offset=offset, length=len(data))


def _read_folder(extent: Extent, config: Config, names: list[str]) -> _Records:
    main = names[0]  # relative to the folder, as all of them
    tree = arxiv_folder.Tree(extent.file.removesuffix(main), names, config.max_record_bytes)
    place = _Place(extent, 0, extent.size, None)
    with _files.open_raw(extent.file):
        pass  # so that a file that is gone is an error row
    folder = posixpath.basename(posixpath.dirname(extent.name))
    named = arxiv_metadata.identity(extent.name) or arxiv_metadata.identity(folder)
    if main in tree and len(tree[main]) == 0 and extent.size:
        yield Failure("too_large", f"a file of {extent.size:,} bytes; max_record_bytes is {config.max_record_bytes:,}", 0)
        return
    yield _paper(tree, main, named, place, config, {"unreadable_files": tree.unreadable} if tree.unreadable else {})


def _read_file(extent: Extent, config: Config, bulk: bool) -> _Records:
    with _files.open_raw(extent.file) as file:
        codec = _files.compression(file.read(8))
        file.seek(0)
        stream = _files.decompressed(file, codec, config.max_ratio)
        try:
            form = _archive.form(stream.read(_archive.BLOCK))
        except Exception as error:
            if not _files.is_damage(error):
                raise
            yield Failure(_files.damage_kind(error), str(error), 0)
            return
        if form == "tar" and not bulk and extent.end < 0 and extent.start == 0:
            file.seek(0)
            bulk = _is_bulk(_files.decompressed(file, codec, config.max_ratio))
        file.seek(0)
        stream = _files.decompressed(file, codec, config.max_ratio)
        if bulk:
            for member in _archive.members(stream, "tar", start=extent.start, end=extent.end, limit=config.max_record_bytes):
                yield from _bulk_member(member, extent, config)
            return
        named = arxiv_metadata.identity(extent.name)
        place = _Place(extent, 0, extent.size or None, None)
        if form is not None:
            file.seek(0)
            whole = stream if form == "tar" else file if codec is None else cast(BinaryIO, io.BytesIO(_whole(stream, config)))
            yield from _archived(whole, form, named, place, config)
        else:
            try:
                data = _whole(stream, config)
            except Exception as error:
                if not _files.is_damage(error):
                    raise
                yield _failure(error, place)
                return
            yield from _single(data, extent.name, named, place, config)


class _TooLargeError(OSError):
    pass


def _whole(stream: BinaryIO, config: Config) -> bytes:
    data = stream.read(config.max_record_bytes + 1)
    if len(data) > config.max_record_bytes:
        raise _TooLargeError(f"it unfolds to more than max_record_bytes, {config.max_record_bytes:,}")
    return data


class _Place:
    """Where a paper lies."""

    def __init__(self, extent: Extent, offset: int | None, length: int | None, member: str | None) -> None:
        self.extent, self.offset, self.length, self.member = extent, offset, length, member

    def key(self) -> str:
        return position_id(self.extent.hash, self.offset or 0)


def _failure(error: BaseException, place: _Place) -> Failure:
    kind = "too_large" if isinstance(error, _TooLargeError) else getattr(error, "kind", None) or _files.damage_kind(error)
    return Failure(kind, str(error), place.offset, place.member)


def _drop(reason: str, named: Identity | None, place: _Place, **evidence: Any) -> Drop:
    return Drop(
        named.id + (named.version or "") if named else place.key(), reason, meta_json(evidence), place.offset, place.length, place.member
    )


def _bulk_member(member: _archive.Member | _archive.Refused, extent: Extent, config: Config) -> _Records:
    place = _Place(extent, member.offset, None, member.name)
    if isinstance(member, _archive.Refused):
        yield _refused(member, place)
        return
    place.length = member.size
    named = arxiv_metadata.identity(member.name)
    try:
        data = member.read()
        codec = _files.compression(data[:8])
        content = _whole(_files.decompressed(cast(BinaryIO, io.BytesIO(data)), codec, config.max_ratio), config)
    except Exception as error:
        if not _files.is_damage(error):
            raise
        yield _failure(error, place)
        return
    form = _archive.form(content[: _archive.BLOCK])
    if form is not None:
        yield from _archived(cast(BinaryIO, io.BytesIO(content)), form, named, place, config)
    else:
        yield from _single(content, member.name, named, place, config)


def _refused(member: _archive.Refused, place: _Place) -> Drop | Failure:
    if member.kind == "link":
        return Drop(place.key(), "link", meta_json({"message": member.message}), member.offset, member=member.name)
    return Failure(member.kind, member.message, member.offset, member.name)


# -- a paper


def _archived(file: BinaryIO, form: _archive.Form, named: Identity | None, place: _Place, config: Config) -> _Records:
    """The paper that an archive holds. A member that must not be read is an error row of its own, a link is counted."""
    files: dict[str, bytes] = {}
    names: list[str] = []
    size, links = 0, 0
    for member in _archive.members(file, form, limit=config.max_record_bytes, ratio=config.max_ratio):
        if isinstance(member, _archive.Refused):
            if member.kind in ("link", "special", "duplicate"):
                links += 1
            else:
                path = f"{place.member}/{member.name}" if place.member else member.name
                yield Failure(member.kind, member.message, place.offset if place.member else member.offset, path)
            continue
        name = posixpath.normpath(member.name)
        names.append(name)
        if name.lower().endswith(latex_main.BINARY):
            continue
        size += member.size
        if size > config.max_record_bytes:
            yield Failure("too_large", f"a paper of over {config.max_record_bytes:,} bytes of text", place.offset, place.member)
            return
        try:
            files[name] = member.read()
        except Exception as error:
            if not _files.is_damage(error):
                raise
            path = f"{place.member}/{member.name}" if place.member else member.name
            yield _failure(error, _Place(place.extent, place.offset, None, path))
    main = latex_main.find_main(files)
    if main is None:
        yield _without_tex(names, named, place)
        return
    if _is_withdrawn(files[main]):
        yield _drop("withdrawn", named, place)
        return
    if place.member is None:
        place.member = main
    yield _paper(files, main, named, place, config, {"refused_members": links} if links else {})


def _without_tex(names: list[str], named: Identity | None, place: _Place) -> Drop:
    endings = {posixpath.splitext(name.lower())[1] for name in names}
    if "word/document.xml" in names or ".docx" in endings:
        return _drop("docx", named, place)
    for ending, reason in ((".pdf", "pdf_only"), (".ps", "postscript"), (".eps", "postscript"), (".html", "html"), (".htm", "html")):
        if ending in endings:
            return _drop(reason, named, place, files=len(names))
    return _drop("no_tex", named, place, files=len(names))


_HTML = re.compile(rb"^\s*(?:<!doctype\s+html|<html|<\?xml)", re.IGNORECASE)
_WITHDRAWN = re.compile(
    rb"(?:has|was|is)\s+(?:been\s+)?(?:temporarily\s+)?withdrawn|withdrawn\s+by\s+(?:the\s+)?(?:arxiv|author)", re.IGNORECASE
)
_COMMAND = re.compile(rb"\\[A-Za-z]+|\$")


def _is_withdrawn(data: bytes) -> bool:
    """A note that says so instead of a paper. arXiv marks it %auto-ignore."""
    return (
        len(data) < 4000
        and (data.lstrip().startswith(b"%auto-ignore") or _WITHDRAWN.search(data) is not None)
        and data.count(b"\\section") < 2
    )


def _single(data: bytes, name: str, named: Identity | None, place: _Place, config: Config) -> _Records:
    """The paper that is one file, or what else the file is."""
    if data.startswith(b"%PDF"):
        yield _drop("pdf_only", named, place)
    elif data.startswith((b"%!", b"\x04%!", b"\xc5\xd0\xd3\xc6")):
        yield _drop("postscript", named, place)
    elif _HTML.match(data[:1000]):
        yield _drop("html", named, place)
    elif not data.strip():
        yield Failure("empty", "the file holds nothing", place.offset, place.member)
    elif _is_withdrawn(data) and (named or data.lstrip().startswith(b"%auto-ignore")):
        yield _drop("withdrawn", named, place)
    elif not (latex_main.score(data) or (named and _is_text(data)) or (latex_main.is_tex(name) and _is_text(data))):
        yield _drop("not_latex", named, place)
    else:
        file = posixpath.basename(name)
        file = file if latex_main.is_tex(file) else f"{file.removesuffix('.gz')}.tex"
        yield _paper({file: data}, file, named, place, config, {})


def _is_text(data: bytes) -> bool:
    return b"\0" not in data[:4096] and _COMMAND.search(data) is not None


def _paper(
    files: Mapping[str, bytes], main: str, named: Identity | None, place: _Place, config: Config, more: dict[str, Any]
) -> Document | Drop | Piece:
    options = latex.Options(config.preamble, config.comments, config.bibliography, config.labels, config.references, config.citations)
    paper = latex.convert(files, main, options, config.max_record_bytes)
    if not paper.text:
        return _drop("no_text", named, place, main=main)
    meta = {
        "title": paper.title,
        "authors": paper.authors or None,
        "date": paper.date,
        "abstract": paper.abstract,
        "arxiv_id": named.id if named else None,
        "version": named.version if named else None,
        "main": main,
        "files": len(paper.files) if len(paper.files) > 1 else None,
        **paper.meta,
        **more,
    }
    if named is None:
        return Document(place.key(), paper.text, place.offset, place.length, place.member, meta=meta_json(meta))
    if not config.metadata:
        return _document(named, paper.text, meta, place.offset, place.length, place.member)
    data = orjson.dumps({"id": list(named), "text": paper.text, "meta": meta})
    return Piece(0, named.id, _PAPER + data, 1, None, place.offset, place.length, place.member)


def _document(
    named: Identity,
    text: str,
    meta: dict[str, Any],
    offset: int | None,
    length: int | None,
    member: str | None,
    file: str | None = None,
    licence: str | None = None,
    created: dt.datetime | None = None,
) -> Document:
    key = named.id + (named.version or "")
    meta_text, url = meta_json(meta), f"https://arxiv.org/abs/{key}"
    return Document(key, text, offset, length, member, None, None, None, licence, url, created, meta_text, file)


# -- the join with the metadata


def rounds(config: Config) -> int:
    return 1 if config.metadata else 0


def gather(number: int, key: str, pieces: list[Piece], config: Config) -> Iterator[Document | Drop | Failure | Piece]:
    """The papers of one id, each with what its row of the snapshot says. A row without a paper becomes nothing."""
    row = arxiv_metadata.newest([piece.data[1:] for piece in pieces if piece.data[:1] == _METADATA])
    for piece in pieces:
        if piece.data[:1] != _PAPER:
            continue
        held = orjson.loads(piece.data[1:])
        named, meta = Identity(*held["id"]), held["meta"]
        licence = created = None
        if row is not None:
            facts = arxiv_metadata.facts(row, named.version)
            named, licence, created = Identity(named.id, facts.version), facts.licence, facts.created
            meta = {**meta, **facts.meta, "version": facts.version}
        yield _document(named, held["text"], meta, piece.offset, piece.length, piece.member, piece.file, licence, created)
