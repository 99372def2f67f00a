"""Bytes of an archive as a window that moves forward: stored, inflated from gzip members, or decompressed from one stream.

A Stream gives pieces and, when it ends early, says why. A Window lets a parser look ahead and search in one, holding no more than
what it has not forgotten; over stored bytes it can also go back. Decompression out of proportion ends a stream (`bomb`).
"""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO, Protocol, cast

from codedev import _files

GZIP = b"\x1f\x8b\x08"
FOREVER = 1 << 62  # a stop that no file reaches
BOMB_BYTES, BOMB_RATIO = 64 << 20, 200  # archives of text compress 3 to 30 times
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

    def __init__(self, file: BinaryIO, codec: str, size: int) -> None:
        self._file = cast(io.BufferedReader, _files.decompressed(file, codec))
        self._size = size
        self._given = 0
        self.error: tuple[str, str] | None = None

    def read(self) -> bytes:
        if self.error:
            return b""
        try:
            piece = self._file.read1(_PIECE)  # `read` would lose what lies before damage
        except Exception as error:
            if not _files.is_damage(error):
                raise
            self.error = ("truncated" if isinstance(error, EOFError) else "corrupt", f"the compressed stream breaks off: {error}")
            return b""
        self._given += len(piece)
        if _is_bomb(self._given, self._size):
            self.error = ("bomb", f"{self._size} bytes decompress to more than {self._given}")
        return piece


class Inflate:
    """The content of the gzip member at `start`, or of it and all that follow it (`whole`)."""

    def __init__(self, stored: Window, start: int, whole: bool) -> None:
        self._stored = stored
        self._start = start
        self._whole = whole
        self._zlib = zlib.decompressobj(31)
        self._given = 0
        self.done = False
        self.error: tuple[str, str] | None = None
        self.member = start  # where the member being read starts
        self.position = start  # the next stored byte to feed; once `done` without error, the end of the last member

    def read(self) -> bytes:
        while not self.done:
            piece = self._step()
            if self._zlib.eof and not self.error:
                self._close_member()
            self._given += len(piece)
            if _is_bomb(self._given, self.position - self._start):
                self._fail("bomb", f"{self.position - self._start} bytes inflate to more than {self._given}")
            if piece:
                return piece
        return b""

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
            piece = self._zlib.decompress(data, _PIECE)
        except zlib.error as error:
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
                self._zlib = zlib.decompressobj(31)
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


def _is_bomb(given: int, stored: int) -> bool:
    return given > BOMB_BYTES and given > BOMB_RATIO * stored


class Window:
    """Reads at rising positions of a stream. It holds what lies between the last `forget` and the farthest read; reading before
    that works for stored files only."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._seek = getattr(stream, "seek", None)
        self._base = 0  # position of the buffer's first byte
        self._buffer = bytearray()
        self._ended = False

    @property
    def seekable(self) -> bool:
        return self._seek is not None

    def get(self, position: int, size: int) -> bytes:
        """Up to `size` bytes at `position`; fewer only where the stream ends."""
        if self._seek is not None:
            self._reach(position)
        assert position >= self._base, "the bytes before the window are gone"
        self.hold(position + size)
        at = position - self._base
        return bytes(memoryview(self._buffer)[at : at + size])

    def hold(self, end: int) -> None:
        """Read on until the window reaches `end`."""
        while self._base + len(self._buffer) < end and self._grow():
            pass

    def at_end(self, position: int) -> bool:
        return not self.get(position, 1)

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
