"""Members of tar and zip archives, one after another in bounded memory. Nothing is ever written to disk.

A tar is read forward, so that it may come out of a compressed stream; a zip must be seekable. What cannot or must not be read is a Refused,
and reading goes on behind it: a name that leads out of the archive, a link, a bomb, a damaged header. Python's tarfile ends in silence at
the first damaged header; here the next sound one is looked for. Archives inside archives are members like others: whoever asks decides.
Not read: sparse members, encrypted members, zip compressions that the standard library does not know.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal, NamedTuple, cast

from codedev._files import MAX_RATIO, DamageError, damage_kind, is_damage

Form = Literal["tar", "zip", "7z"]
BLOCK = 512
FREE = 64 << 20  # bytes that a member may unfold to whatever its ratio
_HEADER_LIMIT = 1 << 20  # bytes of a long name or of extended headers; real ones have some hundred
_SCAN_BLOCK = 1 << 20


class ArchiveError(DamageError):
    """A member that cannot be read; `kind` as in Refused."""


class Member(NamedTuple):
    """A file of the archive. `read` and `stream` hold until the next member is asked for, and raise ArchiveError."""

    name: str
    offset: int  # of its bytes in a tar, of its header in a zip
    size: int  # bytes, as the archive says
    read: Callable[[], bytes]
    stream: Callable[[], BinaryIO]
    time: dt.datetime | None = None  # of its last change, where the archive says it with its zone


class Refused(NamedTuple):
    """A member that is not given out.

    `kind` is one of unsafe_path, link, special, encrypted, too_large, bomb, corrupt, truncated, duplicate, unsupported.
    """

    name: str
    offset: int
    kind: str
    message: str


def form(head: bytes) -> Form | None:
    """What archive begins with `head`: 512 bytes of its content, decompressed."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"7z\xbc\xaf\x27\x1c"):
        return "7z"
    return "tar" if len(head) >= BLOCK and _header(head[:BLOCK]) else None


def members(file: BinaryIO, form: Form, *, start: int = 0, end: int = -1, limit: int, ratio: int = MAX_RATIO) -> Iterator[Member | Refused]:
    """Every file that begins in [start, end): bytes of a tar, which must be seekable where `start` is not 0, or numbers of a zip's entries.

    A member of more than `limit` bytes is refused (`too_large`); one of a zip that unfolds to over `ratio` times its size is a `bomb`.
    Folders are passed over.
    """
    match form:
        case "tar":
            yield from _tar(file, start, end, limit)
        case "zip":
            yield from _zip(file, start, end, limit, ratio)
        case "7z":
            from codedev._sevenzip import members as of_7z

            yield from of_7z(file, limit=limit, ratio=ratio)


def cuts(file: BinaryIO, form: Form, unit_bytes: int) -> list[tuple[int, int, int]]:
    """(start, end, bytes) of the pieces of about `unit_bytes` that `members` can read by themselves; the last end is -1.

    For plain, seekable archives; a 7z is one piece. Costs a seek a member."""
    sizes = _tar_sizes(file) if form == "tar" else _zip_sizes(file) if form == "zip" else iter(())
    pieces: list[tuple[int, int, int]] = []
    begin = held = 0
    for at, size in sizes:
        if held and held + size > unit_bytes:
            pieces.append((begin, at, held))
            begin, held = at, 0
        held += size
    return [*pieces, (begin, -1, held)]


def comment(file: BinaryIO, form: Form) -> str:
    """The archive's own comment; that of an archive which git made is the commit. Reads from where `file` stands and leaves it anywhere."""
    try:
        if form == "zip":
            with zipfile.ZipFile(file) as archive:
                return archive.comment.decode("utf-8", "replace")
        header = _header(file.read(BLOCK)) if form == "tar" else None
        if header is not None and header.type == tarfile.XGLTYPE and header.size <= _HEADER_LIMIT:
            return _pax(file.read(header.size)).get("comment", "")
    except Exception as error:
        if not isinstance(error, zipfile.BadZipFile) and not is_damage(error):
            raise
    return ""


def unsafe(name: str) -> str | None:
    """Why a member of that name must not be given out, or None."""
    parts = name.replace("\\", "/").split("/")
    if "\0" in name:
        return "a NUL in its name"
    if parts[0] == "" or parts[0][1:2] == ":":
        return "an absolute path"
    return "a path that leads out of the archive" if ".." in parts else None


class _Part(io.RawIOBase):
    """The next `size` bytes of a stream. Raises ArchiveError where the stream is damaged or ends before."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.left == 0 or len(buffer) == 0:
            return 0
        try:
            data = self._file.read(min(len(buffer), self.left))
        except Exception as error:
            if not is_damage(error):
                raise
            raise ArchiveError(damage_kind(error), f"the archive is damaged: {error}") from None
        if not data:
            raise ArchiveError("truncated", f"the archive ends {self.left:,} bytes before the end of its member")
        buffer[: len(data)] = data
        self.left -= len(data)
        return len(data)


# -- tar ---------------------------------------------------------------------------------------------------------------------------


class _Header(NamedTuple):
    name: str
    size: int
    type: bytes
    time: float


def _header(block: bytes) -> _Header | None:
    """What a block says if it is a header of a tar: ustar, GNU or older. 3 µs; tarfile's own takes 40."""
    told = _number(block[148:156])
    if told is None or told not in (sum(block) - sum(block[148:156]) + 256, _signed_sum(block)):
        return None
    size, time, kind = _number(block[124:136]), _number(block[136:148]), block[156:157]
    if size is None or size < 0:
        return None
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    if kind == tarfile.AREGTYPE and name.endswith("/"):
        kind = tarfile.DIRTYPE
    return _Header(name, size, kind, time or 0)


def _signed_sum(block: bytes) -> int:
    """The check sum as some old tars took it: of signed bytes."""
    return sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:]) if not block.isascii() else -1


def _number(field: bytes) -> int | None:
    """Octal digits, or binary digits where the first bit says so."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=True)
        return value if field[0] == 0xFF else value + (1 << (8 * len(field) - 1))
    try:
        return int(field.rstrip(b"\0 ").lstrip() or b"0", 8) if b"\0" not in field.rstrip(b"\0 ") else None
    except ValueError:
        return None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _pax(data: bytes) -> dict[str, str]:
    """Records of an extended header: `<length> <key>=<value>\\n`. A broken one ends them."""
    found = {}
    at = 0
    while (blank := data.find(b" ", at, at + 20)) > 0 and data[at:blank].isdigit():
        length = int(data[at:blank])
        key, equals, value = data[blank + 1 : at + length - 1].partition(b"=")
        if length <= blank - at or not equals:
            break
        found[key.decode("utf-8", "backslashreplace")] = value.decode("utf-8", "backslashreplace")
        at += length
    return found


class _Tar:
    """A tar being read forward, and where it stands."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self.file, self.at = file, start
        self._held = b""  # a block that was read too early

    def take(self, size: int) -> bytes:
        """The next `size` bytes, or what is left."""
        data, self._held = self._held[:size], self._held[size:]
        while len(data) < size and (piece := self.file.read(size - len(data))):
            data += piece
        self.at += len(data)
        return data

    def give_back(self, block: bytes) -> None:
        self._held = block + self._held
        self.at -= len(block)

    def skip(self, size: int) -> int:
        """Pass over `size` bytes; the number of those that are missing."""
        if size > _SCAN_BLOCK and not self._held and self.file.seekable():
            begin = self.file.tell()
            passed = max(0, min(size, self.file.seek(0, 2) - begin))
            self.file.seek(begin + passed)
            self.at += passed
            return size - passed
        while size and (piece := self.take(min(size, _SCAN_BLOCK))):
            size -= len(piece)
        return size


class _Entry(NamedTuple):
    begin: int  # of its first header
    header: _Header
    content: int  # where its bytes begin


_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_ABOUT_THE_NEXT = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE, *_EXTENDED)


def _entries(tar: _Tar, end: int) -> Iterator[_Entry | Refused]:
    """Headers of files, folders and links, with the long names and sizes that headers before them gave.

    The content and its padding are to be passed before the next one is asked for."""
    while end < 0 or tar.at < end:
        begin = tar.at
        given: dict[str, str] = {}
        while True:
            block = tar.take(BLOCK)
            if not block:
                if given:
                    yield Refused("", begin, "truncated", "the archive ends after an extended header")
                return
            if not block.strip(b"\0"):
                break  # the end of an archive; another may follow
            header = _header(block) if len(block) == BLOCK else None
            if header is None:
                passed = len(block) + _to_next_header(tar)
                kind = "truncated" if passed < BLOCK else "corrupt"
                yield Refused("", begin, kind, f"{passed:,} bytes where a header should be are none")
                break
            if header.type not in _ABOUT_THE_NEXT:
                yield _Entry(begin, _named(header, given), tar.at)
                break
            if header.size > _HEADER_LIMIT:
                yield Refused(header.name, begin, "too_large", f"an extended header of {header.size:,} bytes")
                tar.skip(header.size + -header.size % BLOCK)
                break
            data = tar.take(header.size)
            tar.skip(-header.size % BLOCK)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                given["path"] = data.rstrip(b"\0").decode("utf-8", "backslashreplace")
            elif header.type in _EXTENDED:
                given |= _pax(data)


def _named(header: _Header, given: dict[str, str]) -> _Header:
    size, time = given.get("size", ""), given.get("mtime", "")
    if any(key.startswith("GNU.sparse") for key in given):
        header = header._replace(type=tarfile.GNUTYPE_SPARSE)
    if size.isascii() and size.isdecimal() and len(size) < 20:
        header = header._replace(size=int(size))
    with contextlib.suppress(ValueError):
        header = header._replace(time=float(time)) if time else header
    return header._replace(name=given.get("path", header.name))


def _to_next_header(tar: _Tar) -> int:
    """Pass over blocks that are no header, to the next one or the end; the bytes passed over."""
    passed = 0
    while block := tar.take(BLOCK):
        if len(block) == BLOCK and _header(block):
            tar.give_back(block)
            break
        passed += len(block)
    return passed


_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE)


def _tar(file: BinaryIO, start: int, end: int, limit: int) -> Iterator[Member | Refused]:
    if start:
        file.seek(start)
    tar = _Tar(file, start)
    try:
        for entry in _entries(tar, end):
            if isinstance(entry, Refused):
                yield entry
                continue
            header = entry.header
            size = header.size if header.type not in (*_LINKS, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE) else 0
            part = _Part(cast(BinaryIO, _Taken(tar)), size)
            if header.type != tarfile.DIRTYPE and not header.name.endswith("/"):
                yield _refused(header, entry.content, limit) or Member(
                    header.name, entry.content, size, _reader(part, size), _opener(part), _time(header.time)
                )
            missing = tar.skip(part.left + -size % BLOCK)
            if missing > -size % BLOCK:
                kept = f"{size - missing + -size % BLOCK:,} of {size:,}"
                yield Refused(header.name, entry.content, "truncated", f"the archive ends after {kept} bytes of this member")
    except Exception as error:
        if not is_damage(error) or isinstance(error, ArchiveError):
            raise
        yield Refused("", tar.at, damage_kind(error), f"the archive cannot be read beyond byte {tar.at:,}: {error}")


class _Taken:
    """A tar's bytes as a file that _Part reads."""

    def __init__(self, tar: _Tar) -> None:
        self.read = tar.take


def _refused(header: _Header, offset: int, limit: int) -> Refused | None:
    if header.type in _LINKS:
        return Refused(header.name, offset, "link", "a link: links are not followed")
    if header.type not in _FILES:
        return Refused(header.name, offset, "special", f"a member of type {header.type!r}: no plain file")
    return _refused_for(header.name, offset, header.size, limit)


def _refused_for(name: str, offset: int, size: int, limit: int) -> Refused | None:
    if why := unsafe(name):
        return Refused(name, offset, "unsafe_path", why)
    if size > limit:
        return Refused(name, offset, "too_large", f"a member of {size:,} bytes; max_record_bytes is {limit:,}")
    return None


def _reader(part: _Part, size: int) -> Callable[[], bytes]:
    def read() -> bytes:
        data = part.read(size)
        while len(data) < size:  # a raw stream may give less than it is asked for
            data += part.read(size - len(data))
        return data

    return read


def _opener(part: io.RawIOBase) -> Callable[[], BinaryIO]:
    return lambda: cast(BinaryIO, io.BufferedReader(part, 1 << 16))


def _time(seconds: float) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def _tar_sizes(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """(first header, bytes) of every member, as far as the headers are sound."""
    tar = _Tar(file, file.tell())
    for entry in _entries(tar, -1):
        if isinstance(entry, Refused):
            return
        size = entry.header.size if entry.header.type not in _LINKS else 0
        yield entry.begin, size
        if tar.skip(size + -size % BLOCK):
            return


# -- zip ---------------------------------------------------------------------------------------------------------------------------


def _zip(file: BinaryIO, start: int, end: int, limit: int, ratio: int) -> Iterator[Member | Refused]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            spent, most = 0, max(FREE, ratio * file.seek(0, 2))
            seen: set[str] = set()
            for number, entry in enumerate(entries[: None if end < 0 else end]):
                if entry.is_dir():
                    continue
                refused = _refused_entry(entry, limit, ratio, seen)
                if refused is None and (spent := spent + entry.file_size) > most:  # entries that share their bytes
                    message = f"with it the archive's members unfold to over {ratio:,} times the archive"
                    refused = Refused(entry.filename, entry.header_offset, "bomb", message)
                if number >= start:  # a piece counts what lies before it, so that pieces refuse what the whole does
                    yield refused or _zip_member(archive, entry)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, struct.error, ValueError, NotImplementedError) as error:
        yield Refused("", 0, "corrupt", f"not readable as zip: {error}")


def _refused_entry(entry: zipfile.ZipInfo, limit: int, ratio: int, seen: set[str]) -> Refused | None:
    name, offset = entry.filename, entry.header_offset
    if stat.S_ISLNK(entry.external_attr >> 16):
        return Refused(name, offset, "link", "a link: links are not followed")
    if entry.flag_bits & 1:
        return Refused(name, offset, "encrypted", "an encrypted member")
    if name in seen:
        return Refused(name, offset, "duplicate", "a second member of this name")
    seen.add(name)
    if entry.file_size > max(FREE, ratio * entry.compress_size):
        return Refused(name, offset, "bomb", f"{entry.compress_size:,} bytes unfold to {entry.file_size:,}: over max_ratio = {ratio:,}")
    return _refused_for(name, offset, entry.file_size, limit)


class _Entered(io.RawIOBase):
    """An entry's bytes: opened at the first read, never more than its size says, its check sum verified at the end."""

    def __init__(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        self._archive, self._entry = archive, entry
        self._file: Any = None
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            if self._file is None:
                self._file = self._archive.open(self._entry)
            data = self._file.read(len(buffer))
        except NotImplementedError as error:
            raise ArchiveError("unsupported", str(error)) from None
        except EOFError:
            raise ArchiveError("truncated", "the archive ends inside this member") from None
        except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, ValueError, struct.error) as error:
            raise ArchiveError("corrupt", f"a damaged member: {error}") from None
        self._given += len(data)
        if not data and self._given < self._entry.file_size:
            raise ArchiveError("truncated", f"the member ends after {self._given:,} of {self._entry.file_size:,} bytes")
        buffer[: len(data)] = data
        return len(data)


def _zip_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Member:
    def read() -> bytes:
        return _Entered(archive, entry).readall() or b""

    def stream() -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Entered(archive, entry), 1 << 16))

    return Member(entry.filename, entry.header_offset, entry.file_size, read, stream)


def _zip_sizes(file: BinaryIO) -> Iterator[tuple[int, int]]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield from enumerate(entry.compress_size for entry in archive.infolist())
    except (zipfile.BadZipFile, zipfile.LargeZipFile, struct.error, ValueError, NotImplementedError):
        return  # `members` will say what is wrong
