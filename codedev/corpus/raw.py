"""The raw record that an `origin` names: in plain and compressed files, Parquet rows, members of archives, files of a repository.

`offset` counts bytes of the file as stored where a record lies there from end to end (plain files, gzip members of a web archive), else of
the decompressed stream; in Parquet it is a row number. With a `member`, the record is that member, or the bytes at `offset` in it where
`length` says that it is only a part of it. A member of an archive inside an archive is named `outer!inner`.
"""

from __future__ import annotations

import contextlib
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow.parquet as pq

from codedev import _archive
from codedev._files import compression, decompressed, open_decompressed, open_raw

LIMIT = 64 << 20  # bytes of a record that are read


def raw_record(path: Path, origin: dict[str, Any], document_id: str = "") -> bytes:
    """The record, decompressed, at most LIMIT bytes. `document_id` names the commit where `path` is a repository (`repo@commit:path`).

    Raises what reading a damaged file raises (`_files.is_damage`), and OSError for a member that is not there.
    """
    offset, length, member = origin.get("offset"), origin.get("length"), origin.get("member")
    if path.is_dir():
        return _blob(path, document_id.rpartition("@")[2].partition(":")[0], member or "")
    if member is not None:
        return _of_member(path, str(member), offset, length)
    limit = min(LIMIT, length if length is not None else LIMIT)
    offset = offset or 0
    with open_raw(str(path)) as file:
        head = file.read(6)
        if head.startswith(b"PAR1"):
            return _parquet_row(path, offset)
        file.seek(offset)
        codec = compression(head)
        if codec is None:
            return file.read(limit)
        if codec == "gzip" and _member_begins(file, offset) and (length is None or _member_begins(file, offset + length, end_too=True)):
            file.seek(offset)
            return _gzip_member(file)
    with open_decompressed(str(path), 1 << 40) as stream:
        return _at(stream, offset, limit)


def _at(stream: BinaryIO, offset: int, limit: int) -> bytes:
    while offset > 0 and (skipped := len(stream.read(min(offset, 1 << 20)))):
        offset -= skipped
    return stream.read(limit)


def _member_begins(file: BinaryIO, at: int, *, end_too: bool = False) -> bool:
    """Whether a gzip member begins at this byte; with `end_too`, or the file ends there."""
    file.seek(at)
    head = file.read(3)
    return head == b"\x1f\x8b\x08" or (end_too and head == b"" and file.seek(0, os.SEEK_END) == at)


def _gzip_member(file: BinaryIO) -> bytes:
    member, pieces, left = zlib.decompressobj(31), [], LIMIT
    while left > 0 and not member.eof and (block := member.unconsumed_tail or file.read(1 << 16)):
        pieces.append(member.decompress(block, left))
        left -= len(pieces[-1])
    return b"".join(pieces)


def _parquet_row(path: Path, row: int) -> bytes:
    """The row's text columns, one a line."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < rows:
                values = file.read_row_group(group, use_threads=False).slice(row, 1).to_pylist()[0].values()
                return "\n".join(str(value) for value in values if value is not None).encode()
            row -= rows
    return b""


def _of_member(path: Path, member: str, offset: int | None, length: int | None) -> bytes:
    whole = _read_member(path, member, 0, LIMIT if length is None else min(LIMIT, length + 1))
    if length is None or offset is None or len(whole) == length:
        return whole
    return _read_member(path, member, offset, min(LIMIT, length))


def _read_member(path: Path, member: str, offset: int, limit: int) -> bytes:
    outer, _, inner = member.partition("!")
    with open_raw(str(path)) as file, _opened(file, outer) as stream:
        if not inner:
            return _at(stream, offset, limit)
        with _opened(io.BytesIO(stream.read(LIMIT)), inner) as innermost:
            return _at(innermost, offset, limit)


@contextlib.contextmanager
def _opened(file: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """The member as a stream; of a file that is no archive but one compressed stream, what is in it."""
    codec = compression(file.read(8))
    file.seek(0)
    kind = _archive.form(decompressed(file, codec, 1 << 40).read(_archive.BLOCK))
    file.seek(0)
    content = decompressed(file, codec, 1 << 40)
    if kind is None and codec is not None:
        yield content
        return
    for found in _archive.members(content, kind, limit=1 << 62, ratio=1 << 30) if kind else ():
        if isinstance(found, _archive.Member) and found.name == name:
            yield found.stream()
            return
    raise OSError(f"holds no member {name!r}")


def _blob(repository: Path, commit: str, name: str) -> bytes:
    """A file of a git repository at a commit."""
    import pygit2

    folder = repository / ".git" if (repository / ".git").is_dir() else repository
    tree = cast(Any, pygit2.Repository(str(folder), pygit2.enums.RepositoryOpenFlag.BARE).revparse_single(commit)).peel(pygit2.Tree)
    try:
        return cast(bytes, tree[name].data[:LIMIT])
    except KeyError:
        raise OSError(f"commit {commit} holds no file {name!r}") from None
