"""Records of web archives, framed so that every stored byte is accounted for.

A WARC file is a sequence of records: a version line, header fields, a blank line, Content-Length bytes, blank lines. It is stored
plain, or with one gzip member a record (`members`), or as one compressed stream (`stream`: gzip, zstd, lz4, bz2, xz). `frame` walks
records in a window of bytes; `gzip_records` walks gzip members and frames what is in them. Both give a Record, or a Damage for each
stretch that cannot be read, and go on at the next record that can.

FastWARC's iterator is not used for this: it stops without a word at a clipped member, and tells where records start but not where
they end, so that what it skipped cannot be counted. Cost on one core: gzip 340 MB/s of decompressed bytes (zlib), plain 5,000.

After damage, where the next record starts is a guess: an archive stored inside a damaged record may be read as records of its own.
A record of undamaged input never is. At most `limit` bytes of a record are held; larger ones are skipped as they stream by.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

from codedev.corpus.document import RAW_PREFIX
from codedev.corpus.sources.warc_stream import BOMB_BYTES, FOREVER, GZIP, Inflate, Window, skip

SCAN = 8 << 20  # bytes searched for a record before a file counts as no archive
_HEADER = 1 << 16  # a longer record header is damage
_STORED_BLOCK = 65_535  # bytes a deflate stored block holds at most: see `member_boundary`
_TRIES = 64  # candidates for a boundary
_VERSION = re.compile(rb"WARC/\d\.\d{1,3}[ \t]*\r?\n")
_START = re.compile(rb"[\r\n]*WARC/\d\.\d{1,3}[ \t]*\r?\n[A-Za-z][A-Za-z0-9-]*[ \t]*:")


class Record(NamedTuple):
    offset: int
    length: int  # bytes of the gzip member, or of header and block
    stream: int | None  # None: `offset` is in the stored file; else in the decompressed stream that starts at this stored byte
    fields: dict[str, str]  # header fields, names in lower case, the first of a repeated name
    block: bytes
    last: bool  # nothing follows in its stream


class Damage(NamedTuple):
    kind: str  # truncated, corrupt, too_large, bomb
    message: str
    offset: int
    raw: bytes


def _header(window: Window, position: int) -> tuple[dict[str, str], int]:
    """The header fields at `position` and where the block starts; no fields when there is no whole record header."""
    for size in (2048, _HEADER):
        head = window.get(position, size)
        fields, end = _fields(head)
        if end >= 0:
            return fields, position + end
        if not fields or len(head) < size:
            break
    return {}, position


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """(fields, end of the header), (fields, -1) when the header goes on after `head`, ({}, -1) when it is no header.

    Lines are read one by one and the first that is no field ends it, so that a file full of false starts costs linear time.
    """
    version = _VERSION.match(head)
    if not version:
        return {}, -1
    fields: dict[str, str] = {}
    name, at = "", version.end()
    while (newline := head.find(b"\n", at)) >= 0:
        line = head[at:newline].rstrip(b"\r")
        at = newline + 1
        if not line:
            return fields, at
        if line[0] in b" \t" and name:
            fields[name] += " " + line.strip().decode("utf-8", "replace")
            continue
        key, colon, value = line.partition(b":")
        if not colon:
            return {}, -1
        name = key.strip().lower().decode("utf-8", "replace")
        fields.setdefault(name, value.strip().decode("utf-8", "replace"))
    return fields, -1


def is_record(head: bytes) -> bool:
    """Whether a stream that starts with `head` starts with a WARC record."""
    return _VERSION.match(head) is not None


def find_record(window: Window, position: int, stop: int = FOREVER) -> int:
    """Where the next record header with a Content-Length starts, at the start of a line at or after `position`; -1 when there is none."""
    while (at := window.find(b"\nWARC/", position, stop)) >= 0:
        if _content_length(_header(window, at + 1)[0]) is not None:
            return at + 1
        position = at + 1
    return -1


def _content_length(fields: dict[str, str]) -> int | None:
    value = fields.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else None


def frame(
    window: Window, limit: int, *, start: int = 0, stop: int = FOREVER, sealed: bool = False, blocks: bool = True
) -> Iterator[Record | Damage]:
    """Records that start in [start, stop) of the window, with positions in the window.

    `sealed`: the window is one gzip member, so its end bounds the damage and its checksum covers the record. `blocks=False` leaves
    the blocks empty and hops over them: the same records, for planning.
    """
    position = start
    while (position := skip(window, position, b"\r\n")) < stop and not window.at_end(position):
        window.forget(position)
        raw = window.get(position, RAW_PREFIX)
        fields, body = _header(window, position)
        length = _content_length(fields)
        end = body + (length or 0)
        if blocks and length is not None and length <= limit:
            window.hold(end)
        elif length and not window.seekable:
            window.forget(end - 1)
        if fault := _fault(window, raw, length, end):
            # Past an over-long block of a forward stream there is no way back: the search goes on where the stream is.
            search_from = body if window.seekable or (length or 0) <= limit else end
            position_after = -1 if sealed else find_record(window, max(search_from - 1, position))
            if position_after < 0:
                yield Damage(*(window.stream.error or fault), position, raw)
                return
            yield Damage("corrupt", fault[1], position, raw)
            position = position_after
            continue
        following = skip(window, end, b"\r\n")
        last = window.at_end(following)
        if last and sealed and window.stream.error:
            yield Damage(*window.stream.error, position, raw)
            return
        if length is not None and length > limit:
            yield Damage("too_large", f"the record has {length} bytes, more than max_record_bytes={limit}", position, raw)
        else:
            block = window.get(body, length or 0) if blocks else b""
            yield Record(position, end - position, None, fields, block, last)
        position = following
    if window.stream.error and position < stop:
        yield Damage(*window.stream.error, position, b"")


def _fault(window: Window, raw: bytes, length: int | None, end: int) -> tuple[str, str] | None:
    """Why what starts with `raw` and should end at `end` is no record."""
    if length is None:
        if len(raw) < RAW_PREFIX and _VERSION.match(raw) and not re.search(rb"\n\r?\n", raw):
            return "truncated", "the file ends in a record header"
        return "corrupt", "no record header with a Content-Length"
    if length and window.at_end(end - 1):
        return "truncated", f"Content-Length {length} runs past the end of the file"
    if window.get(end, 4).startswith((b"\r\n\r\n", b"\n\n")):
        return None  # whatever follows, this record is whole
    following = skip(window, end, b"\r\n")
    if window.at_end(following) or _VERSION.match(window.get(following, 32)):
        return None
    return "corrupt", f"Content-Length {length} does not lead to the next record"


def gzip_records(stored: Window, limit: int, *, start: int = 0, stop: int = FOREVER, whole: bool = False) -> Iterator[Record | Damage]:
    """Records of the gzip members that start in [start, stop), or of the one stream that they are (`whole`)."""
    position, wasted = start, 0
    while (position := skip(stored, position, b"\0")) < stop and not stored.at_end(position):
        stored.forget(position)
        inflate = Inflate(stored, position, whole)
        for index, found in enumerate(frame(Window(inflate), limit, sealed=not whole)):
            if isinstance(found, Damage):
                raw = found.raw or stored.get(inflate.member, RAW_PREFIX)
                yield found._replace(raw=raw) if whole else found._replace(raw=raw, offset=position)
            elif not whole and index == 0 and found.last:
                yield found._replace(offset=position, length=inflate.position - position)
            else:
                yield found._replace(stream=position)
        while inflate.read():  # what `frame` left unread after damage
            pass
        if not inflate.error:
            position = inflate.position
            continue
        # Bytes of a damaged member are read twice at most, unless a file was made to look like members inside members.
        wasted += inflate.position - inflate.member
        if wasted > 8 * (inflate.position - start) + BOMB_BYTES:
            yield Damage("corrupt", "damaged again and again: the rest is not read", position, stored.get(position, RAW_PREFIX))
            return
        position = find_member(stored, inflate.member + 1, stop)
        if position < 0:
            return


def find_member(stored: Window, position: int, stop: int = FOREVER) -> int:
    """Where the next gzip member whose content starts like a WARC record starts in [position, stop); -1 when there is none."""
    while (position := stored.find(GZIP, position, stop)) >= 0:
        if starts_record(stored, position):
            return position
        position += 1
    return -1


def starts_record(stored: Window, position: int) -> bool:
    try:
        return bool(_START.match(zlib.decompressobj(31).decompress(stored.get(position, 1024), 64)))
    except zlib.error:
        return False


def member_boundary(stored: Window, position: int) -> int:
    """The start of a true member at or after `position`, or -1.

    A WARC.gz stored inside a record appears in the outer deflate stream byte for byte, but in stored blocks of at most 65,535
    bytes with 5 bytes between them. So a run of whole members, each with its checksum right and each starting where the last ended, that is
    longer than a stored block or ends with the file, lies in the outer file. This costs 64 KiB of inflating instead of all
    from the file's start. Near damage no run is found, and the boundary moves on; any true start will do.
    """
    for _ in range(_TRIES):
        position = find_member(stored, position)
        if position < 0 or _is_run(stored, position):
            return position
        position += 1
    return -1


def _is_run(stored: Window, start: int) -> bool:
    position = start
    while position - start <= _STORED_BLOCK:
        inflate = Inflate(stored, position, whole=False)
        while inflate.read():
            pass
        position = inflate.position
        if inflate.error:
            return False
        if stored.at_end(position):
            return True
        if stored.get(position, len(GZIP)) != GZIP:
            return False
    return True


def gzip_framing(stored: Window, limit: int) -> Literal["members", "stream"]:
    """`members` when the first gzip member holds one record and no more, else `stream`. Costs inflating the first member."""
    inflate = Inflate(stored, 0, whole=False)
    first = next(frame(Window(inflate), limit, sealed=True), None)
    if isinstance(first, Record) and not first.last:
        return "stream"
    while inflate.read():
        pass
    if inflate.error:
        return "members" if find_member(stored, 1, SCAN) >= 0 else "stream"
    if isinstance(first, Record) or starts_record(stored, inflate.position):
        return "members"
    return "stream"
