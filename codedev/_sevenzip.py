"""Members of 7z archives, one after another in bounded memory. Nothing is ever written to disk.

py7zr reads the header and gives each folder (a block of members compressed together) its decompressor, which is drawn from a megabyte at
a time: no thread, no queue, and whoever stops reading has stopped everything. A member that nobody reads is decompressed only when a later
one of its block is read, so that listing an archive, or reading only its first members, costs next to nothing.

Sizes are those of the header, and no member gives more than its own, so that a bomb is refused before a byte of it is unfolded. Check sums
are verified at the end of a member. Cost: that of the decompressor (LZMA about 100 MB of text a second and core). Not read: encrypted
members, BCJ2 (a filter for programs), archives in several volumes.
"""

from __future__ import annotations

import datetime as dt
import io
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from codedev._archive import FREE, ArchiveError, Member, Refused, unsafe
from codedev._errors import MissingExtraError
from codedev._files import MAX_RATIO

_PIECE = 1 << 20  # bytes decompressed at a time
_SIGNATURE = struct.Struct("<6s2BIQQI")  # magic, version, check sum, and of the header: where from here, bytes, check sum


def members(file: BinaryIO, *, limit: int, ratio: int = MAX_RATIO) -> Iterator[Member | Refused]:
    """Every file of the archive in its own order; `file` must be seekable.

    A member of more than `limit` bytes is refused (`too_large`), a block that unfolds to over `ratio` times its size is a `bomb`.
    `offset` is where the member's block begins in the archive. Folders are passed over.
    """
    refused = _clipped(file)
    if refused:
        yield refused
        return
    py7zr = _library()
    file.seek(0)
    try:
        archive = py7zr.SevenZipFile(file)
        blocks = _blocks(archive, file)
        entries = [(entry, _name(entry), int(entry.uncompressed), bool(entry.is_directory)) for entry in getattr(archive, "files", ())]
    except py7zr.exceptions.PasswordRequired:
        yield Refused("", 0, "encrypted", "the archive's header is encrypted")
        return
    except py7zr.exceptions.UnsupportedCompressionMethodError as error:
        yield Refused("", 0, "unsupported", f"a compression that cannot be read: {error}")
        return
    except Exception as error:  # the header comes from strangers, and the library raises whatever it stumbles over
        yield Refused("", 0, "corrupt", f"not readable as 7z: {error or type(error).__name__}")
        return
    seen: set[str] = set()
    spent, most = 0, max(FREE, ratio * file.seek(0, 2))
    for entry, name, size, is_folder in entries:
        if is_folder:
            continue
        block = blocks.get(id(entry.folder)) if entry.folder is not None else None
        begin = 0
        if block:
            spent += 0 if block.size else block.unfolded
            begin, block.size = block.size, block.size + size  # members stand in a block in the order of the header
        offset = block.offset if block else 0
        yield (
            _refused(entry, name, size, offset, limit, seen)
            or (block.refused(name, ratio) if block else None)
            or (
                Refused(name, offset, "bomb", f"the archive unfolds to over max_ratio = {ratio:,} times its size") if spent > most else None
            )
            or _member(entry, name, size, offset, block, begin)
        )


def _library() -> Any:
    try:
        import py7zr
    except ImportError:
        raise MissingExtraError("py7zr", "archives") from None
    return py7zr


def _clipped(file: BinaryIO) -> Refused | None:
    """What is wrong where the archive is shorter than it says: its header stands at its end."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(_SIGNATURE.size)
    if len(head) < _SIGNATURE.size:
        return Refused("", 0, "truncated", f"the archive ends after {len(head)} bytes")
    _, _, _, _, behind, length, _ = _SIGNATURE.unpack(head)
    if _SIGNATURE.size + behind + length > size:
        return Refused("", 0, "truncated", f"the archive has {size:,} bytes of {_SIGNATURE.size + behind + length:,}")
    return None


def _name(entry: Any) -> str:
    return str(entry.filename).replace("\\", "/")


def _refused(entry: Any, name: str, size: int, offset: int, limit: int, seen: set[str]) -> Refused | None:
    mode = entry.posix_mode
    if entry.is_symlink or entry.is_junction:
        return Refused(name, offset, "link", "a link: links are not followed")
    if entry.is_socket or (mode is not None and stat.S_IFMT(mode) not in (0, stat.S_IFREG)):
        return Refused(name, offset, "special", "no plain file")
    if why := unsafe(name):
        return Refused(name, offset, "unsafe_path", why)
    if name in seen:
        return Refused(name, offset, "duplicate", "a second member of this name")
    seen.add(name)
    if size > limit:
        return Refused(name, offset, "too_large", f"a member of {size:,} bytes; the limit is {limit:,}")
    return None


def _member(entry: Any, name: str, size: int, offset: int, block: _Block | None, begin: int) -> Member:
    def stream() -> BinaryIO:
        if block is None:
            return io.BytesIO()
        return cast(BinaryIO, io.BufferedReader(_Unfolded(block, begin, size, entry.crc32), 1 << 16))

    return Member(name, offset, size, lambda: stream().read(), stream, _time(entry))


def _time(entry: Any) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(entry.lastwritetime.totimestamp(), dt.UTC) if entry.lastwritetime else None
    except (ValueError, OverflowError, OSError):
        return None


# -- blocks ------------------------------------------------------------------------------------------------------------------------


def _blocks(archive: Any, file: BinaryIO) -> dict[int, _Block]:
    """The archive's blocks by the identity of their folder."""
    streams = getattr(archive.header, "main_streams", None) if hasattr(archive, "header") else None
    if streams is None:
        return {}
    end = file.seek(0, 2)
    positions, index = streams.packinfo.packpositions, 0
    blocks = {}
    for folder in streams.unpackinfo.folders:
        inputs = len(folder.packed_indices) or 1
        start, packed = archive.afterheader + positions[index], positions[index + inputs] - positions[index]
        blocks[id(folder)] = _Block(file, folder, start, packed, inputs, start + packed <= end)
        index += inputs
    return blocks


class _Block:
    """Members that are compressed together, and how far they have been decompressed."""

    def __init__(self, file: BinaryIO, folder: Any, offset: int, packed: int, inputs: int, whole: bool) -> None:
        self.offset = offset
        self.size = 0  # of its members so far
        self._file, self._folder, self._packed = file, folder, packed
        self._inputs, self._whole = inputs, whole
        self._decompressor: Any = None
        self._at = 0  # bytes drawn

    @property
    def unfolded(self) -> int:
        return int(self._folder.get_unpack_size())

    def refused(self, name: str, ratio: int) -> Refused | None:
        """Why nothing of the block may be read."""
        from py7zr.compressor import SupportedMethods

        unfolded = self.unfolded
        kind, message = "", ""
        if SupportedMethods.needs_password(self._folder.coders):
            kind, message = "encrypted", "an encrypted member"
        elif self._inputs != 1:
            kind, message = "unsupported", "a compression of several streams (BCJ2)"
        elif not self._whole:
            kind, message = "truncated", "its bytes lie behind the end of the archive"
        elif self.size > unfolded:
            kind, message = "corrupt", f"its block has {unfolded:,} bytes and its members more"
        elif unfolded > max(FREE, ratio * self._packed):
            kind, message = "bomb", f"{self._packed:,} bytes unfold to {unfolded:,}: over max_ratio = {ratio:,}"
        return Refused(name, self.offset, kind, message) if kind else None

    def draw(self, at: int, size: int) -> bytes:
        """Up to `size` bytes from `at` of the unfolded block: b"" where it ends. From the start again where `at` has been passed."""
        if self._decompressor is None or at < self._at:
            self._decompressor = self._folder.get_decompressor(self._packed, reset=True)
            self._at = 0
        while self._at < at:
            if not self._next(min(at - self._at, _PIECE)):
                return b""
        return self._next(size)

    def _next(self, size: int) -> bytes:
        drawn = self._decompressor
        while True:
            consumed = drawn.consumed
            self._file.seek(self.offset + consumed)
            data = bytes(drawn.decompress(self._file, size))
            self._at += len(data)
            # Without output the decompressor may have taken input alone; without both it is at its end.
            if data or drawn.consumed == consumed:
                return data


class _Unfolded(io.RawIOBase):
    """One member's bytes. Raises ArchiveError where they are damaged."""

    def __init__(self, block: _Block, begin: int, size: int, crc: int | None) -> None:
        self._block, self._begin, self._size, self._crc = block, begin, size, crc
        self._given = self._sum = 0
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held:
            self._fill()
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count

    def _fill(self) -> None:
        left = self._size - self._given
        if left == 0:
            return
        try:
            data = self._block.draw(self._begin + self._given, min(left, _PIECE))
        except EOFError:
            data = b""
        except MissingExtraError:
            raise
        except Exception as error:  # lzma, zlib, bz2, PPMd and others, each with errors of its own
            raise ArchiveError(*_damage(error)) from None
        if not data:
            raise ArchiveError("truncated", f"the member ends after {self._given:,} of {self._size:,} bytes")
        self._held = memoryview(data)
        self._given += len(data)
        self._sum = zlib.crc32(data, self._sum)
        if self._given == self._size and self._crc is not None and self._sum != self._crc:
            raise ArchiveError("corrupt", "the member's check sum does not match")


def _damage(error: Exception) -> tuple[str, str]:
    name = type(error).__name__
    if name == "UnsupportedCompressionMethodError":
        return "unsupported", f"a compression that cannot be read: {error}"
    if name == "PasswordRequired":
        return "encrypted", "an encrypted member"
    return "corrupt", f"a damaged member: {error or name}"
