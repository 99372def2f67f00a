"""Records of web archives, framed so that every stored byte is accounted for.

A WARC file is a sequence of records: a version line, header fields, a blank line, Content-Length bytes, blank lines. It is stored
plain, or with one gzip member a record (`members`), or as one compressed stream (`stream`: gzip, zstd, lz4, bz2, xz). `frame` walks
records in a window of bytes; `gzip_records` walks gzip members and frames what is in them. Both give a Record, or a Damage for each
stretch that cannot be read, and go on at the next record that can. How a record begins, a Grammar says: WARC's is here, that of ARC,
the format before it, in `arc.py`.

FastWARC's iterator is not used for this: it stops without a word at a clipped member, and tells where records start but not where
they end, so that what it skipped cannot be counted. Cost on one core, in records of 14 kB: gzip 450 MB/s of decompressed bytes
(ISA-L), plain 1,400.

An archive that is stored inside a record stays a part of that record. After damage, where the next record starts is a guess: in a gzip
member whose checksum alone is wrong its true end is found, and a plain record that holds an archive is passed over by its length; but
where the deflate stream itself or the length is damaged, what an inner archive holds may be read as records. At most `limit` bytes of
a record are held; larger ones are skipped as they stream by.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from isal import isal_zlib

from codedev._files import MAX_RATIO
from codedev.corpus.document import RAW_PREFIX
from codedev.corpus.sources.web.warc_stream import BOMB_BYTES, FOREVER, GZIP, INFLATE_ERRORS, Inflate, Window, skip

SCAN = 8 << 20  # bytes searched for a record before a file counts as no archive
_LOOK = 2048  # bytes that hold nearly every record header
_HEADER = 1 << 16  # a longer record header is damage
_STORED_BLOCK = 65_535  # bytes a deflate stored block holds at most: see `member_boundary`
_TRIES = 64  # candidates for a boundary
_VERSION = re.compile(rb"WARC/\d\.\d{1,3}[ \t]*\r?\n")


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


class Grammar(NamedTuple):
    """How the records of a format begin."""

    mark: bytes  # what a search for a record looks for: the end of a line and the beginning of a header
    begins: Callable[[bytes], bool]  # whether these bytes begin a record
    look: int  # bytes that `begins` wants to see
    end: re.Pattern[bytes]  # the end of a header
    # (fields, end of the header), (fields, -1) when the header goes on after these bytes, ({}, -1) when they begin none.
    fields: Callable[[bytes], tuple[dict[str, str], int]]


def _header(window: Window, position: int, grammar: Grammar) -> tuple[dict[str, str], int]:
    """The header fields at `position` and where the block starts; no fields when there is no whole record header."""
    for size in (_LOOK, _HEADER):
        head = window.get(position, size)
        fields, end = grammar.fields(head)
        if end >= 0:
            return fields, position + end
        if not fields or len(head) < size:
            break
    return {}, position


# Names of fields as they are nearly always written, and in lower case.
_WRITTEN = (
    "WARC-Type", "WARC-Record-ID", "WARC-Date", "Content-Length",
    "Content-Type", "WARC-Concurrent-To", "WARC-Block-Digest", "WARC-Payload-Digest",
    "WARC-IP-Address", "WARC-Refers-To", "WARC-Target-URI", "WARC-Truncated",
    "WARC-Warcinfo-ID", "WARC-Filename", "WARC-Profile", "WARC-Identified-Payload-Type",
    "WARC-Identified-Content-Language",
)  # fmt: skip
_NAMES = {name: name.lower() for name in _WRITTEN}


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """Lines are read one by one and the first that is no field ends it, so that a file full of false starts costs linear time."""
    version = _VERSION.match(head)
    if not version:
        return {}, -1
    fields: dict[str, str] = {}
    end = head.find(b"\r\n\r\n", version.end() - 2)
    if end >= 0:  # as nearly every header is; 4 µs instead of 25
        for text in head[version.end() : end].decode("utf-8", "replace").split("\r\n"):
            field, found, told = text.partition(":")
            if not found or "\n" in text:
                break
            known = _NAMES.get(field)
            if known is None:
                if field[:1] in (" ", "\t"):
                    break
                known = field.strip().lower()
            if known not in fields:
                fields[known] = told.strip()
        else:
            return fields, end + 4
        fields = {}
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


def _begins(head: bytes) -> bool:
    return _VERSION.match(head) is not None


WARC = Grammar(b"\nWARC/", _begins, 32, re.compile(rb"\n\r?\n"), _fields)


def find_record(window: Window, position: int, stop: int = FOREVER, grammar: Grammar = WARC) -> int:
    """Where the next record header with a Content-Length starts, at the start of a line at or after `position`; -1 when there is none."""
    while (at := window.find(grammar.mark, position, stop)) >= 0:
        if _content_length(_header(window, at + 1, grammar)[0]) is not None:
            return at + 1
        position = at + 1
    return -1


def _content_length(fields: dict[str, str]) -> int | None:
    value = fields.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else None


def frame(
    window: Window,
    limit: int,
    *,
    start: int = 0,
    stop: int = FOREVER,
    sealed: bool = False,
    blocks: bool = True,
    grammar: Grammar = WARC,
) -> Iterator[Record | Damage]:
    """Records that start in [start, stop) of the window, with positions in the window.

    `sealed`: the window is one gzip member, so its end bounds the damage and its checksum covers the record. `blocks=False` leaves
    the blocks empty and hops over them: the same records, for planning.
    """
    position = start
    while (position := skip(window, position, b"\r\n")) < stop and not window.at_end(position):
        window.forget(position)
        fields, body = _header(window, position, grammar)
        length = _content_length(fields)
        end = body + (length or 0)
        held = blocks and length is not None and length <= limit
        if held:
            window.hold(end)
            after = window.get(end, 5)
            if len(after) == 5 and after[:4] == b"\r\n\r\n" and after[4] not in b"\r\n":  # as nearly every record ends
                yield Record(position, end - position, None, fields, window.get(body, end - body), False)
                position = end + 4
                continue
        raw = window.get(position, RAW_PREFIX)
        if not held and length and not window.seekable:
            window.forget(end - 1)
        if fault := _fault(window, raw, length, end, grammar):
            # Past an over-long block of a forward stream there is no way back: the search goes on where the stream is.
            search_from = body if window.seekable or (length or 0) <= limit else end
            if length and search_from == body and not window.at_end(end - 1) and _holds_archive(window.get(body, _HEADER), grammar):
                search_from = max(body, end - _SLIP)
            position_after = -1 if sealed else find_record(window, max(search_from - 1, position), grammar=grammar)
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


_SLIP = 64  # bytes by which the length of a damaged record that holds an archive may be too long


def _holds_archive(block: bytes, grammar: Grammar) -> bool:
    """Whether a block is an archive, as it is or as the body of an HTTP response."""
    return grammar.begins(block) or (block.startswith(b"HTTP/") and grammar.begins(block.partition(b"\r\n\r\n")[2]))


def _fault(window: Window, raw: bytes, length: int | None, end: int, grammar: Grammar) -> tuple[str, str] | None:
    """Why what starts with `raw` and should end at `end` is no record."""
    if length is None:
        if len(raw) < RAW_PREFIX and (grammar.begins(raw) or grammar.fields(raw)[0]) and not grammar.end.search(raw):
            return "truncated", "the file ends in a record header"
        return "corrupt", "no record header with a Content-Length"
    if length and window.at_end(end - 1):
        return "truncated", f"Content-Length {length} runs past the end of the file"
    if window.get(end, 4).startswith((b"\r\n\r\n", b"\n\n")):
        return None  # whatever follows, this record is whole
    following = skip(window, end, b"\r\n")
    if window.at_end(following) or grammar.begins(window.get(following, grammar.look)):
        return None
    return "corrupt", f"Content-Length {length} does not lead to the next record"


def gzip_records(
    stored: Window,
    limit: int,
    *,
    start: int = 0,
    stop: int = FOREVER,
    whole: bool = False,
    grammar: Grammar = WARC,
    max_ratio: int = MAX_RATIO,
) -> Iterator[Record | Damage]:
    """Records of the gzip members that start in [start, stop), or of the one stream that they are (`whole`)."""
    position, wasted = start, 0
    while (position := skip(stored, position, b"\0")) < stop and not stored.at_end(position):
        stored.forget(position)
        inflate = Inflate(stored, position, whole, max_ratio)
        held = b"" if whole else inflate.begin()
        if inflate.error:  # `frame` is to meet it where it lies
            inflate, held = Inflate(stored, position, whole, max_ratio), b""
        elif inflate.done and (only := _only_record(held, limit, grammar)):  # as nearly every member is: half of the time
            yield Record(position, inflate.position - position, None, *only, True)
            position = inflate.position
            continue
        for index, found in enumerate(frame(Window(inflate, held), limit, sealed=not whole, grammar=grammar)):
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
        position = _after_damage(stored, inflate.member, stop, whole, grammar, max_ratio)
        if position < 0:
            return


def _only_record(content: bytes, limit: int, grammar: Grammar) -> tuple[dict[str, str], bytes] | None:
    """Fields and block of the record that `content` is, where it is one whole record and nothing else."""
    fields, body = grammar.fields(content[:_LOOK])
    length = _content_length(fields)
    if body < 0 or length is None or length > limit or body + length > len(content) or content[body + length :].strip(b"\r\n"):
        return None
    return fields, content[body : body + length]


def _after_damage(stored: Window, start: int, stop: int, whole: bool, grammar: Grammar, max_ratio: int) -> int:
    """Where to go on behind the damaged member at `start`; -1 where nothing follows before `stop`. A member before its true end is another
    archive's, unless `member_boundary` would take it for one of this."""
    end = -1 if whole else _true_end(stored, start, max_ratio)
    position = start
    for _ in range(_TRIES):
        position = find_member(stored, position + 1, stop, grammar)
        if end < 0 or (0 <= position < end and _is_run(stored, position)):
            return position
        if not 0 <= position < end:
            break
    return end


def _true_end(stored: Window, start: int, max_ratio: int) -> int:
    """Where the damaged gzip member at `start` ends if its deflate stream can be read to its end, so that its checksum alone is wrong; else
    -1. It must be followed by another member, or by nothing."""
    head = stored.get(start, _HEADER)
    at, flags = 10, head[3] if len(head) > 10 else 0
    if flags & 4:  # FEXTRA
        at += 2 + int.from_bytes(head[at : at + 2], "little")
    for flag in (8, 16):  # FNAME, FCOMMENT
        at = head.find(b"\0", at) + 1 if flags & flag else at
    at += 2 if flags & 2 else 0  # FHCRC
    if flags > 31 or at < 10 or at >= len(head):
        return -1
    inflater = isal_zlib.decompressobj(-15)
    position = start + at
    given = 0
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail
            if not data:
                data = stored.get(position, 1 << 14)
                position += len(data)
                stored.forget(position)
            piece = inflater.decompress(data, 1 << 18)
            given += len(piece)
            if (not data and not piece) or (given > BOMB_BYTES and given > max_ratio * (position - start)):
                return -1
    except INFLATE_ERRORS:
        return -1
    end = skip(stored, position - len(inflater.unused_data) + 8, b"\0")
    return end if stored.at_end(end) or stored.get(end, len(GZIP)) == GZIP else -1


def find_member(stored: Window, position: int, stop: int = FOREVER, grammar: Grammar = WARC) -> int:
    """Where the next gzip member whose content starts like a record starts in [position, stop); -1 when there is none."""
    while (position := stored.find(GZIP, position, stop)) >= 0:
        if starts_record(stored, position, grammar):
            return position
        position += 1
    return -1


def starts_record(stored: Window, position: int, grammar: Grammar = WARC) -> bool:
    try:
        head = zlib.decompressobj(31).decompress(stored.get(position, 1024), 4 * grammar.look)
    except zlib.error:
        return False
    return grammar.begins(head.lstrip(b"\r\n"))


def member_boundary(stored: Window, position: int, grammar: Grammar = WARC) -> int:
    """The start of a true member at or after `position`, or -1.

    A WARC.gz stored inside a record appears in the outer deflate stream byte for byte, but in stored blocks of at most 65,535
    bytes with 5 bytes between them. So a run of whole members, each with its checksum right and each starting where the last ended, that is
    longer than a stored block or ends with the file, lies in the outer file. This costs 64 KiB of inflating instead of all
    from the file's start. Near damage no run is found, and the boundary moves on; any true start will do.
    """
    for _ in range(_TRIES):
        position = find_member(stored, position, grammar=grammar)
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


def gzip_framing(stored: Window, limit: int, grammar: Grammar = WARC) -> Literal["members", "stream"]:
    """`members` when the first gzip member holds one record and no more, else `stream`. Costs inflating the first member."""
    inflate = Inflate(stored, 0, whole=False)
    first = next(frame(Window(inflate), limit, sealed=True, grammar=grammar), None)
    if isinstance(first, Record) and not first.last:
        return "stream"
    while inflate.read():
        pass
    if inflate.error:
        return "members" if find_member(stored, 1, SCAN, grammar) >= 0 else "stream"
    if isinstance(first, Record) or starts_record(stored, inflate.position, grammar):
        return "members"
    return "stream"
