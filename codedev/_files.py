"""One way to find and to open an input: local or remote (see _remote.py), compressed or not.

Compression is told by the first bytes, never by the name. Zstandard windows up to 2 GiB are accepted, as the Reddit dumps need them.
A file of several compressed streams is read to its end, and what follows the last one is damage, never ignored.
Opening a FIFO or a device is refused: reading one would hang.
"""

from __future__ import annotations

import bz2
import glob
import io
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import xxhash

from codedev._errors import InputError
from codedev._remote import identity, listing, open_url
from codedev._remote import is_url as is_url
from codedev._remote import shown as shown_url

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
# What a damaged or clipped compressed stream raises on reading: a source turns these into an error row.
# lz4 says RuntimeError, zstandard ZstdError (looked up in `is_damage`, so that neither is imported before it is needed).
_DAMAGE: tuple[type[BaseException], ...] = (EOFError, lzma.LZMAError, zlib.error, OSError, ValueError, RuntimeError)


class Found(NamedTuple):
    path: str  # absolute path or URL: what to open
    name: str  # what to show and to store: relative to the recipe's folder where both lie in one project
    size: int  # bytes


def expand(paths: tuple[str, ...], base: Path) -> Iterator[Found]:
    """Every file that `paths` (files, directories, globs, URLs) name, in order of the paths and sorted inside each.

    Raises InputError when one of them names nothing. Directories are walked with sorted names and without following links to
    directories, so that a link loop cannot hang it. A file named twice is given once.
    """
    seen: set[str] = set()  # 100 bytes a file: 100 MB for a million of them
    for pattern in paths:
        count = 0
        for found in _remote(pattern) if is_url(pattern) else _local(pattern, base):
            count += 1
            if found.path not in seen:
                seen.add(found.path)
                yield found
        if count == 0:
            raise nothing_at(pattern, base)


def matches(pattern: str, base: Path) -> list[str]:
    """The local files and folders that a path or glob names, absolute and sorted; none, an empty list."""
    pattern = os.path.normpath(os.path.expanduser(pattern))
    absolute = os.path.normpath(base / pattern)
    if os.path.lexists(absolute):
        return [absolute]
    start = Path(pattern).anchor or base  # the base is no pattern, whatever its name
    return sorted({os.path.normpath(match) for match in _glob(str(start), Path(pattern).parts[os.path.isabs(pattern) :])})


def nothing_at(pattern: str, base: Path) -> InputError:
    where = "" if is_url(pattern) or os.path.isabs(pattern) else f" (looked in {base})"
    return InputError(f"{pattern}: no such file or directory{where}. Check `paths:` in the recipe")


def _remote(url: str) -> Iterator[Found]:
    return (Found(path, shown_url(path), size) for path, size in listing(url))


def _local(pattern: str, base: Path) -> Iterator[Found]:
    for match in matches(pattern, base):
        if os.path.isdir(match):
            yield from (found(path, base) for path in walk(match))
        else:
            yield found(match, base)


def _glob(folder: str, parts: tuple[str, ...]) -> Iterator[str]:
    """Paths below `folder` that the parts of a pattern match. As in a shell, * passes hidden names by. ** follows no link, so that a
    link loop cannot hang it (glob.glob would go round 40 times, and 2^40 times where there are two). A folder that cannot be listed is
    yielded itself, as by `walk`."""
    if not parts:
        yield folder
        return
    part, *rest = parts
    if not glob.has_magic(part):
        path = os.path.join(folder, part)
        if os.path.lexists(path):
            yield from _glob(path, tuple(rest))
        return
    if part == "**":
        yield from _glob(folder, tuple(rest))
        if not rest:
            return
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError:
        yield folder
        return
    for name, is_folder in listed:
        path = os.path.join(folder, name)
        if part == "**":
            if is_folder and not name.startswith("."):
                yield from _glob(path, parts)
        elif fnmatchcase(name, part) and (part.startswith(".") or not name.startswith(".")) and (not rest or os.path.isdir(path)):
            yield from _glob(path, tuple(rest))


def found(path: str, base: Path) -> Found:
    return Found(path, shown(path, base), os.path.getsize(path) if os.path.isfile(path) else 0)


def shown(path: str, base: Path) -> str:
    """`path` relative to the recipe's folder when both lie in one project, so that outputs do not depend on where that is.

    Two paths lie in one project when they share a folder below the first level: /home/me, not /home."""
    together = len(Path(os.path.commonpath([path, base])).parts) > 2
    name = os.path.relpath(path, base) if together or Path(path).is_relative_to(base) else path
    return storable(name)


def storable(name: str) -> str:
    """A file name as UTF-8: on disk it may be any bytes, and those that are none become backslash escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def walk(directory: str) -> Iterator[str]:
    """Paths of all files below `directory`, hidden ones left out, in sorted order; streams. A directory that cannot be listed
    is yielded itself, so that its failure becomes an error row instead of silence."""
    pending = [(directory, True)]
    while pending:
        path, is_directory = pending.pop()
        if not is_directory:
            if not (os.path.islink(path) and os.path.isdir(path)):
                yield path
            continue
        try:
            with os.scandir(path) as entries:
                listed = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in entries if not e.name.startswith("."))
        except OSError:
            yield path
            continue
        pending += [(os.path.join(path, name), inner) for name, inner in reversed(listed)]


def open_raw(path: str, expected: str = "") -> BinaryIO:
    """The file's own bytes, seekable. Raises OSError when it cannot be read or is not a regular file, or when it lies behind a URL and
    `expected`, the hash that it was planned with, is no longer what its store calls it."""
    if is_url(path):
        return open_url(path, expected)
    # O_NONBLOCK: opening a FIFO without a writer would hang otherwise; regular files do not care.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"not a regular file: {path}")
    return open(handle, "rb", buffering=1 << 20)


def hash_of(path: str) -> str:
    """xxh3-128 of the file's bytes as 32 hex digits; behind a URL, what its store calls them where it does (`_remote.identity`)."""
    if is_url(path) and (told := identity(path)):
        return told
    digest = xxhash.xxh3_128()
    with open_raw(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def compression(head: bytes) -> str | None:
    """`gzip`, `zstd`, `bz2`, `xz`, `lz4` or None, told by the first bytes: six are enough."""
    if head.startswith(b"BZh") and head[4:6] in (b"1A", b"\x17r"):  # a block or the end of an empty stream; a text may begin with BZh
        return "bz2"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


MAX_RATIO = 1000  # a text of equal lines reaches 1,000 in gzip; bombs, 1,000,000 in bz2
_FREE = 64 << 20  # bytes that any stream may unfold to


class DamageError(OSError):
    """Damage whose kind is known where it is found: a word as in Failure."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class BombError(DamageError):
    """A stream unfolds to more than its ratio allows."""

    def __init__(self, message: str) -> None:
        super().__init__("bomb", message)


def open_decompressed(path: str, max_ratio: int = MAX_RATIO) -> BinaryIO:
    """The file's content as a forward stream, decompressed. Reading it may raise what `is_damage` knows."""
    file = open_raw(path)
    head = file.read(8)
    file.seek(0)
    return decompressed(file, compression(head), max_ratio)


def decompressed(file: BinaryIO, codec: str | None, max_ratio: int = MAX_RATIO) -> BinaryIO:
    """`file` from where it stands on as a forward stream, without its compression. Past 64 MiB, reading raises BombError when more than
    `max_ratio` bytes have come out of one byte."""
    if codec is None:
        return file
    if codec not in ("gzip", "bz2", "xz", "zstd", "lz4"):
        raise ValueError(f"unknown compression {codec}")
    return cast(BinaryIO, io.BufferedReader(_Streams(file, codec, max_ratio), 1 << 16))


def _opener(codec: str) -> Callable[[], Any]:
    """What makes a decompressor of one stream: with `decompress`, `eof` and `unused_data`."""
    opener: Callable[[], Any]
    match codec:
        case "gzip":
            opener = partial(zlib.decompressobj, 31)
        case "bz2":
            opener = bz2.BZ2Decompressor
        case "xz":
            opener = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ)
        case "lz4":
            import lz4.frame

            opener = lz4.frame.LZ4FrameDecompressor
        case _:
            import zstandard

            opener = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj
    return opener


class _Streams(io.RawIOBase):
    """Compressed streams one after another. Unlike the libraries' own readers it tells a clipped Zstandard frame from a whole one, and
    reports a damaged second stream where they take it for rubbish after the first and end in silence."""

    def __init__(self, file: BinaryIO, codec: str, max_ratio: int) -> None:
        self._file = file
        self._padding = b"\0" if codec in ("xz", "gzip") else b""  # what may stand between streams
        # Bytes of output at a time. Zstandard's takes no bound: 4 KB of its input unfold into 128 MB at the very most, of bz2 into 4 GB.
        self._most = () if codec == "zstd" else (1 << 20,)
        self._block = 4096 if codec == "zstd" else 1 << 16
        self._open_stream = _opener(codec)
        self._max_ratio = max_ratio
        self._stream: Any = None
        self._input = self._output = b""
        self._given = 0  # bytes of the output handed out
        self._taken = self._made = 0  # bytes in and out, of all streams

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._given == len(self._output):
            if not self._fill():
                return 0
        count = min(len(buffer), len(self._output) - self._given)
        buffer[:count] = memoryview(self._output)[self._given : self._given + count]
        self._given += count
        return count

    def _fill(self) -> bool:
        """Decompress a little more, which may be nothing yet; False at the end."""
        if self._made > _FREE and self._made > self._max_ratio * self._taken:
            raise BombError(f"{self._taken:,} bytes unfold to more than {self._made:,}: over max_ratio = {self._max_ratio:,}")
        if not self._input and getattr(self._stream, "needs_input", True):
            self._input = self._file.read(self._block)
            self._taken += len(self._input)
            if not self._input:
                if self._stream is not None:
                    raise EOFError("the last compressed stream is cut off")
                return False
        if self._stream is None:
            self._input = self._input.lstrip(self._padding) if self._padding else self._input
            if not self._input:
                return True
            self._stream = self._open_stream()
        self._output, self._given = self._stream.decompress(self._input, *self._most), 0
        self._input = getattr(self._stream, "unconsumed_tail", b"")  # zlib hands back what it had no room for
        self._made += len(self._output)
        if self._stream.eof:
            self._input, self._stream = self._stream.unused_data or b"", None
        return True


def damage_kind(error: BaseException) -> str:
    """The kind of Failure for what `is_damage` knows: the error's own, else truncated or corrupt."""
    if isinstance(error, DamageError):
        return error.kind
    return "truncated" if isinstance(error, EOFError) else "corrupt"


def is_damage(error: BaseException) -> bool:
    """Whether `error` is what reading a damaged or clipped stream raises, and not a bug of ours."""
    return isinstance(error, _DAMAGE) or type(error).__name__ in ("ZstdError", "error")
