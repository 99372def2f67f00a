"""Rows of an XML table: `<row a="…" b="…"/>` elements under one root, as Stack Exchange dumps them, with their byte offsets.

The bytes are scanned by a kernel (kernels/xmlrows.py) that finds rows and the integers asked for, so that no attribute becomes a Python
object before somebody wants it: `attributes` then decodes the row. A row belongs to the byte range in which it starts, and `<row` starts a
row wherever it stands, so that ranges that meet give every row once and damage ends at the next row.

Entities are never expanded: five are known and every other reference, and every declaration, is damage. Cost: 0.6 GB/s a core for the
scan, `attributes` about 7 µs a post. Memory: twice the longest row allowed. Not read: text inside rows, namespaces, encodings other than
UTF-8 (told as such); a `<row` inside a comment is taken for a row.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from codedev._files import damage_kind, is_damage
from codedev.corpus.document import RAW_PREFIX
from codedev.kernels import xmlrows

BLOCK = 1 << 18  # bytes read at a time: larger blocks fall out of the processor's caches, and cost a third more
HEAD = 1 << 16  # bytes in which the root element nearly always stands,
LONG_HEAD = 8 << 20  # and must stand
_ROWS = 4096  # rows of one call of the kernel
FOREVER = 1 << 62


class Damage(NamedTuple):
    """What is no row: `kind` is invalid_xml, invalid_utf8, entity_declaration, truncated, too_large, corrupt or bomb."""

    kind: str
    message: str
    offset: int
    raw: bytes


Row = tuple[int, bytes, list[int]]  # byte offset, the element, the integers asked for


class Head(NamedTuple):
    root: str | None  # name of the root element
    encoding: str | None  # where it is none that can be read


class RowError(ValueError):
    """Bytes that are no well-formed row."""


# -- the head of a file ------------------------------------------------------------------------------------------------------------

_BOM = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<", b"\0\0\xfe\xff", b"\0\0\0<")
_DECLARED = re.compile(rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)""")
_PROLOGUE = re.compile(rb"(?>\s|<!--.*?-->|<\?.*?\?>|<!DOCTYPE[^<>\[]*+(?:\[[^\]]*+\]\s*+)?>)*+", re.DOTALL)
_ROOT = re.compile(rb"<([A-Za-z_][A-Za-z0-9_.-]*)(?:\s[^<>]*)?(/?)>")


def head_of(data: bytes) -> Head:
    """What the first bytes of a file, HEAD of them, say."""
    if data.startswith(_WIDE):
        return Head(None, "UTF-16 or UTF-32")
    data = data.removeprefix(_BOM)
    declared = _DECLARED.match(data)
    encoding = declared[1].decode().lower() if declared else "utf-8"
    known = encoding in ("utf-8", "utf8", "us-ascii", "ascii")
    root = _root(data)
    return Head(root[1].decode() if root else None, None if known else encoding)


def is_open(data: bytes) -> bool:
    """Whether the root element may come behind the first HEAD bytes: white space, comments or a declaration fill them."""
    visible = data.removeprefix(_BOM).lstrip()
    may_go_on = not visible or visible.startswith((b"<?", b"<!"))
    return len(data) >= HEAD and may_go_on and b"<row" not in data and head_of(data) == Head(None, None)


def _root(data: bytes) -> re.Match[bytes] | None:
    prologue = _PROLOGUE.match(data)
    return _ROOT.match(data, prologue.end() if prologue else 0)


# -- rows --------------------------------------------------------------------------------------------------------------------------

# What may stand between two rows, before the first and after the last: white space, plain tags, comments, instructions.
_BETWEEN = re.compile(rb"(?>\s|</?[A-Za-z_][A-Za-z0-9_.-]*+\s*+/?+>|<!--.*?-->|<\?.*?\?>)*+", re.DOTALL)
_DECLARATION = re.compile(rb"<!(?:DOCTYPE|ENTITY)\b")
_MESSAGES = {
    xmlrows.MALFORMED: ("invalid_xml", "the row is not well-formed"),
    xmlrows.CUT: ("truncated", "the file ends inside the row"),
    xmlrows.REFERENCE: ("invalid_xml", "the row refers to an entity that XML does not define"),
}


def rows(
    stream: BinaryIO, wanted: tuple[str, ...] = (), *, start: int = 0, stop: int = FOREVER, limit: int = 64 << 20
) -> Iterator[Row | Damage]:
    """The rows that start in [start, stop) and what is damaged there, in order. `stream` stands at `start`.

    The integers of a row are those of its `wanted` attributes; xmlrows.NONE for one that is missing or no integer. A row that has,
    with what follows it, more than `limit` bytes is damage.
    """
    source = _Source(stream)
    at, buffer = yield from _to_row(source, b"", start)
    scan = _Scan(wanted)
    while buffer and at < stop:
        count, done = scan(buffer, source.ended)
        if not count:
            if len(buffer) <= limit:
                buffer += source.take(max(BLOCK, len(buffer)))
            else:
                yield _too_large(at, buffer, limit)
                at, buffer = yield from _to_row(source, buffer[-4:], at + len(buffer) - 4, silent=True)
            continue
        is_valid = _is_utf8(buffer[:done])
        ends_here = source.ended and done == len(buffer)
        if is_valid and not ends_here and at + done <= stop and scan.are_plain(count, limit):  # nearly always
            for begin, end, numbers in scan.places(count):
                yield at + begin, buffer[begin:end], numbers
            at, buffer = at + done, _filled(buffer[done:], source)
            continue
        for begin, end, following, state, numbers in scan.found(count):
            offset = at + begin
            if offset >= stop:
                return
            is_last = ends_here and following == done
            if following - begin > limit:
                yield _too_large(offset, buffer[begin:following], limit)
            elif state != xmlrows.OK and state != xmlrows.TAIL:
                if state != xmlrows.CUT or not source.error:
                    yield Damage(*_MESSAGES[state], offset, buffer[begin : min(following, begin + RAW_PREFIX)])
            else:
                row = buffer[begin:end]
                if is_valid or _is_utf8(row):
                    yield offset, row, numbers
                else:
                    yield Damage("invalid_utf8", "the row is not UTF-8", offset, row[:RAW_PREFIX])
                if state == xmlrows.TAIL or is_last:
                    yield from _between(buffer[end:following], at + end, is_last and not source.error)
        at, buffer = at + done, _filled(buffer[done:], source)
    if source.error and at < stop:
        yield Damage(damage_kind(source.error), f"the stream is damaged: {source.error}", at, buffer[:RAW_PREFIX])


def _filled(buffer: bytes, source: _Source) -> bytes:
    if len(buffer) > 2 * BLOCK:  # what came with a long row: taken a block at a time, or each batch would copy all of it
        source.give_back(buffer)
        buffer = b""
    return buffer if len(buffer) >= BLOCK else buffer + source.take(BLOCK)


class _Source:
    """A stream, and how it ended."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held = memoryview(b"")
        self._ended = False
        self.error: Exception | None = None

    @property
    def ended(self) -> bool:
        return self._ended and not self._held

    def take(self, size: int) -> bytes:
        pieces: list[bytes | memoryview] = []
        while size > 0 and not self.ended:
            piece = self._next(min(size, BLOCK))
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def give_back(self, data: bytes) -> None:
        self._held = memoryview(data + self._held)

    def _next(self, size: int) -> bytes | memoryview:
        if self._held:
            piece, self._held = self._held[:size], self._held[size:]
            return piece
        try:
            read = self._stream.read(size)
        except Exception as error:
            if not is_damage(error):
                raise
            self.error, read = error, b""
        self._ended = not read
        return read


class _Scan:
    """The kernel and the arrays it fills."""

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self._names = np.frombuffer("".join(wanted).encode() or b" ", np.uint8)
        self._name_offsets = np.cumsum([0, *map(len, wanted)], dtype=np.int64)
        self._places: list[np.ndarray] = [np.empty(_ROWS, np.int64) for _ in range(3)]  # starts, ends, starts of the next
        self._states, self._numbers = np.empty(_ROWS, np.int8), np.empty((_ROWS, len(wanted)), np.int64)

    def __call__(self, buffer: bytes, final: bool) -> tuple[int, int]:
        data = np.frombuffer(buffer, np.uint8)
        starts, ends, nexts = self._places
        rows, done = xmlrows.scan(
            data, len(buffer), final, self._names, self._name_offsets, starts, ends, nexts, self._states, self._numbers
        )
        return rows, done

    def are_plain(self, count: int, limit: int) -> bool:
        """Whether all rows are sound and followed by white space."""
        starts, nexts = self._places[0], self._places[2]
        return not self._states[:count].any() and int((nexts[:count] - starts[:count]).max()) <= limit

    def places(self, count: int) -> Iterator[tuple[int, int, list[int]]]:
        return zip(*(column[:count].tolist() for column in (*self._places[:2], self._numbers)), strict=True)

    def found(self, count: int) -> Iterator[tuple[int, int, int, int, list[int]]]:
        """Start, end, start of the next, state and integers of each row."""
        columns = [column[:count].tolist() for column in (*self._places, self._states, self._numbers)]
        return zip(*columns, strict=True)


def _to_row(source: _Source, held: bytes, at: int, silent: bool = False) -> Generator[Damage, None, tuple[int, bytes]]:
    """Pass over everything before the next row: its offset, and bytes that begin with it; none at the end. Complains about what stands
    there at the start of a file, and nowhere else: behind another row it is that row's."""
    first, last = b"", b""
    is_head = at == 0 and not silent
    while True:
        held += source.take(BLOCK)
        found = xmlrows.find_row(np.frombuffer(held, np.uint8), 0, len(held))
        keep = found if found >= 0 else len(held) if source.ended else max(len(held) - 4, 0)
        first += held[: min(keep, LONG_HEAD - len(first))]
        last = (last + held[:keep])[-RAW_PREFIX:]
        at, held = at + keep, held[keep:]
        if found >= 0 or source.ended:
            break
    if is_head:
        yield from _head_damage(first, last, at, not held and not source.error)
    return at, held


def _head_damage(first: bytes, last: bytes, size: int, is_all: bool) -> Iterator[Damage]:
    first = first.removeprefix(_BOM)
    root = _root(first)
    if _DECLARATION.search(first):
        yield Damage("entity_declaration", "a document type declaration: its entities are not expanded", 0, first[:RAW_PREFIX])
    elif size > LONG_HEAD or not _BETWEEN.fullmatch(first, root.end() if root else 0):
        yield Damage("invalid_xml", "markup or text before the first row", 0, first[:RAW_PREFIX])
    elif is_all and b"</" not in last and not (root and root[2]):
        yield _unclosed(size)


def _between(data: bytes, offset: int, is_last: bool) -> Iterator[Damage]:
    """What is wrong with the bytes behind a row."""
    if _DECLARATION.search(data):
        yield Damage("entity_declaration", "a document type declaration: its entities are not expanded", offset, data[:RAW_PREFIX])
    elif not _BETWEEN.fullmatch(data):
        yield Damage("invalid_xml", "markup or text between rows", offset, data[:RAW_PREFIX])
    elif is_last and b"</" not in data:
        yield _unclosed(offset + len(data))


def _unclosed(offset: int) -> Damage:
    return Damage("truncated", "the file ends without the end tag of its root element", offset, b"")


def _too_large(offset: int, data: bytes, limit: int) -> Damage:
    return Damage("too_large", f"a row of more than {limit:,} bytes (max_record_bytes)", offset, data[:RAW_PREFIX])


def _is_utf8(data: bytes) -> bool:
    """Arrow's check: 12 GB/s, five times as fast as decoding."""
    if data.isascii():
        return True
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(data)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


# -- attributes --------------------------------------------------------------------------------------------------------------------


def attributes(row: bytes) -> dict[str, str]:
    """The attributes of a row that `rows` gave, decoded. Of two of one name the last one counts; NUL becomes U+FFFD."""
    out = np.empty(3 * len(row), np.uint8)
    size = xmlrows.unfold(np.frombuffer(row, np.uint8), out)
    if size < 0:
        raise RowError("no sound row")
    fields = out[:size].tobytes().decode().split("\0")
    return dict(zip(fields[:-1:2], fields[1::2], strict=True))
