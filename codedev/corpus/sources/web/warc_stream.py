"""Bytes of an archive as a window that moves forward: stored, inflated from gzip members, or decompressed from one stream.

A Stream gives pieces and, when it ends early, says why. A Window lets a parser look ahead and search in one, holding no more than
what it has not forgotten; over stored bytes it can also go back. Decompression out of proportion ends a stream (`bomb`).
"""

from __future__ import annotations

import io
import zlib
from typing import Any, BinaryIO, Protocol, cast

from isal import isal_zlib

from codedev import _files
from codedev._remote import RemoteError

GZIP = b"\x1f\x8b\x08"
FOREVER = 1 << 62  # a stop that no file reaches
BOMB_BYTES = 64 << 20  # bytes that any stream may unfold to
INFLATE_ERRORS: tuple[type[Exception], ...] = (zlib.error, cast(type[Exception], isal_zlib.error))
_PIECE = 1 << 18  # bytes read or inflated at a time
_FEED = 1 << 14  # compressed bytes fed to zlib at a time: what is fed past a member's end is copied once more


class Stream(Protocol):
    """Bytes in pieces, b"" at the end. `error` says why the end came early: (kind, message)."""

    error: tuple[str, str] | None

    def read(self) -> bytes: ...


class Stored:
    """The bytes of a file as they are stored; the one stream that can go back."""

    error: tuple[str, str] | None = None

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        file.seek(0)

    def read(self) -> bytes:
        return self._file.read(_PIECE)

    def seek(self, position: int) -> None:
        self._file.seek(min(position, self._size))  # a damaged length may point farther than a file can reach


class Decoded:
    """A zstd, lz4, bz2 or xz file as a stream of its content."""

    def __init__(self, file: BinaryIO, codec: str, max_ratio: int = _files.MAX_RATIO) -> None:
        self._file = cast(io.BufferedReader, _files.decompressed(file, codec, max_ratio))
        self.error: tuple[str, str] | None = None

    def read(self) -> bytes:
        if self.error:
            return b""
        try:
            piece = self._file.read1(_PIECE)  # `read` would lose what lies before damage
        except Exception as error:
            if not _files.is_damage(error):
                raise
            kind = "unreadable" if isinstance(error, RemoteError) else _files.damage_kind(error)
            self.error = (kind, f"the compressed stream breaks off: {error}")
            return b""
        return piece


class Inflate:
    """The content of the gzip member at `start`, or of it and all that follow it (`whole`)."""

    def __init__(self, stored: Window, start: int, whole: bool, max_ratio: int = _files.MAX_RATIO) -> None:
        self._stored = stored
        self._start = start
        self._whole = whole
        self._max_ratio = max_ratio
        self._zlib: Any = self._inflater()
        self._given = 0
        self.done = False
        self.error: tuple[str, str] | None = None
        self.member = start  # where the member being read starts
        self.position = start  # the next stored byte to feed; once `done` without error, the end of the last member

    def _inflater(self) -> Any:
        """ISA-L is twice as fast; zlib's state can be copied, see `_step`."""
        return zlib.decompressobj(31) if self._whole else isal_zlib.decompressobj(31)

    def read(self) -> bytes:
        while not self.done:
            piece = self._step()
            if self._zlib.eof and not self.error:
                self._close_member()
            self._given += len(piece)
            taken = self.position - self._start
            if self._given > BOMB_BYTES and self._given > self._max_ratio * taken:
                self._fail("bomb", f"{taken:,} bytes inflate to more than {self._given:,}: over max_ratio = {self._max_ratio:,}")
            if piece:
                return piece
        return b""

    def begin(self) -> bytes:
        """All of a member that is small, else what it begins with."""
        first = self.read()
        if self.done or self.error:
            return first
        pieces, size = [first], len(first)
        while not self.done and size < _PIECE:
            pieces.append(self.read())
            size += len(pieces[-1])
        return b"".join(pieces)

    def _step(self) -> bytes:
        data = self._zlib.unconsumed_tail
        if not data:
            data = self._stored.get(self.position, _FEED)
            self.position += len(data)
            if self.position - self.member > _PIECE:
                self._stored.forget(self.position)  # a search after damage goes back by seeking
        # A copy of the inflater's state costs 8 % and brings back up to 64 KiB before damage. A damaged member alone is a failure anyway.
        before = self._zlib.copy() if self._whole else None
        try:
            piece: bytes = self._zlib.decompress(data, _PIECE)
        except INFLATE_ERRORS as error:
            self._fail("corrupt", f"gzip member at {self.member}: {error}")
            return _salvage(before, data) if before else b""
        if not data and not piece and not self._zlib.eof:
            self._fail("truncated", f"gzip member at {self.member} breaks off at {self.position}, the end of the file")
        return piece

    def _close_member(self) -> None:
        self.position -= len(self._zlib.unused_data)
        if self._whole:
            following = skip(self._stored, self.position, b"\0")
            if self._stored.get(following, len(GZIP)) == GZIP:
                self.member = self.position = following
                self._stored.forget(following)
                self._zlib = self._inflater()
                return
        self.done = True

    def _fail(self, kind: str, message: str) -> None:
        self.error = (kind, message)
        self.done = True


def _salvage(inflater: zlib._Decompress, data: bytes) -> bytes:
    """What `data` inflates to before the byte that is damaged. 20 ms, once a damaged stream."""
    good = bytearray()
    for index in range(len(data)):
        try:
            good += inflater.decompress(data[index : index + 1])
        except zlib.error:
            break
    return bytes(good)


class Window:
    """Reads at rising positions of a stream. It holds what lies between the last `forget` and the farthest read; reading before
    that works for stored files only."""

    def __init__(self, stream: Stream, held: bytes = b"") -> None:
        """`held`: what has already been read of the stream."""
        self.stream = stream
        self._seek = getattr(stream, "seek", None)
        self._base = 0  # position of the buffer's first byte
        self._buffer = bytearray(held)
        self._ended = False

    @property
    def seekable(self) -> bool:
        return self._seek is not None

    def get(self, position: int, size: int) -> bytes:
        """Up to `size` bytes at `position`; fewer only where the stream ends."""
        at = position - self._base
        if at < 0 or (at + size > len(self._buffer) and not self._ended):  # seldom: a record is looked at ten times
            if self._seek is not None:
                self._reach(position)
            assert position >= self._base, "the bytes before the window are gone"
            self.hold(position + size)
            at = position - self._base
        return bytes(memoryview(self._buffer)[at : at + size]) if size > 4096 else bytes(self._buffer[at : at + size])

    def hold(self, end: int) -> None:
        """Read on until the window reaches `end`."""
        while self._base + len(self._buffer) < end and self._grow():
            pass

    def at_end(self, position: int) -> bool:
        return not (0 <= position - self._base < len(self._buffer)) and not self.get(position, 1)

    def forget(self, position: int) -> None:
        """Nothing before `position` will be read again."""
        self._reach(position)
        at = min(position - self._base, len(self._buffer))
        del self._buffer[:at]
        self._base += at

    def find(self, pattern: bytes, position: int, stop: int = FOREVER) -> int:
        """Position of the first `pattern` at or after `position` and before `stop`, or -1. Forgets what it has searched."""
        while position < stop:
            self.forget(position)
            at = self._buffer.find(pattern, position - self._base)
            if at >= 0:
                return self._base + at if self._base + at < stop else -1
            position = max(position, self._base + len(self._buffer) - len(pattern) + 1)
            if not self._grow():
                return -1
        return -1

    def _grow(self) -> bool:
        if not self._ended:
            piece = self.stream.read()
            self._ended = not piece
            self._buffer += piece
        return not self._ended

    def _reach(self, position: int) -> None:
        if self._base <= position and (position <= self._base + len(self._buffer) or self._ended):
            return
        if self._seek is not None:
            self._seek(position)
            self._base, self._buffer, self._ended = position, bytearray(), False
            return
        while self._base + len(self._buffer) < position:
            self._base += len(self._buffer)
            self._buffer.clear()
            if not self._grow():
                return


def skip(window: Window, position: int, what: bytes) -> int:
    """The first position at or after `position` whose byte is not one of `what`."""
    while piece := window.get(position, 64):
        rest = piece.lstrip(what)
        position += len(piece) - len(rest)
        if rest:
            break
    return position
