"""The objects of a git repository by their hash: loose ones are inflated here with a bound, packs by libgit2's pack backend.

libgit2 is given the folder of objects and nothing else: no configuration, no refs, no alternates. What it will open is checked first,
since a FIFO would hang it and a link may lead anywhere. Cost: 10 µs an object from a pack, 40 µs a loose one.
"""

from __future__ import annotations

import functools
import os
import stat
import zlib
from typing import Any

from codedev._errors import MissingExtraError
from codedev._files import open_raw, storable
from codedev.corpus import repository
from codedev.corpus.sources.code.pack import largest

_MAX_OBJECT = 1 << 30  # bytes of any object of a pack


class GitError(OSError):
    """`kind` becomes that of the failure."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Objects:
    """The objects of a repository, by their hash in hex."""

    def __init__(self, git: str) -> None:
        folder = os.path.join(repository.shared_directory(git), "objects")
        inside = os.path.realpath(git if os.path.basename(git) != ".git" else os.path.dirname(git))
        self.folder = os.path.realpath(folder)
        if not within(self.folder, inside):
            raise GitError("outside", "its objects lie outside the repository. Name the repository that holds them in `paths:`")
        if repository.read_text(os.path.join(self.folder, "info", "alternates"), 4096).strip():
            raise GitError("outside", "it borrows objects of another repository (objects/info/alternates). Run: git repack -a -d")
        self.bytes = 0  # on disk
        self._loose = False
        packs = self._list()
        self._packs = _pack_backend(self.folder) if packs else None

    def _list(self) -> bool:
        """Whether there are packs. Every file that libgit2 will open is checked: a FIFO would hang it, a link may lead anywhere."""
        packs = False
        for entry in _scan(self.folder):
            if not entry.is_dir(follow_symlinks=False):
                continue
            if len(entry.name) == 2:
                self._loose = True
                self.bytes += sum(inner.stat(follow_symlinks=False).st_size for inner in _scan(entry.path))
            elif entry.name == "pack":
                for inner in _scan(entry.path):
                    if not inner.is_file(follow_symlinks=False):
                        raise GitError("outside", f"objects/pack/{storable(inner.name)} is no plain file")
                    if inner.name.endswith(".idx"):
                        packs = True
                        _check_pack(inner.path)
                    self.bytes += inner.stat(follow_symlinks=False).st_size if inner.name.endswith(".pack") else 0
        return packs

    def header(self, name: str) -> tuple[str, int]:
        """Type and size. Raises GitError."""
        if self._packs is not None:
            try:
                kind, size = self._packs.read_header(_oid(name))
                return _kind(kind), size
            except KeyError:
                pass
            except Exception as error:
                raise _damaged(name, error) from None
        return self._read_loose(name, 0)[:2]

    def read(self, name: str, limit: int) -> tuple[str, bytes]:
        """Type and content, which is at most `limit` bytes long. Raises GitError."""
        if self._packs is not None:
            try:
                kind, size = self._packs.read_header(_oid(name))
                if size > limit:
                    raise GitError("too_large", f"an object of {size:,} bytes, over {limit:,}")
                kind, data = self._packs.read(_oid(name))
                return _kind(kind), data
            except KeyError:
                pass
            except GitError:
                raise
            except Exception as error:
                raise _damaged(name, error) from None
        kind, _, data = self._read_loose(name, limit)
        return kind, data

    def _read_loose(self, name: str, limit: int) -> tuple[str, int, bytes]:
        """Type, size and, unless `limit` is 0, content."""
        path = os.path.join(self.folder, name[:2], name[2:])
        try:
            if not self._loose or not stat.S_ISREG(os.lstat(path).st_mode):
                raise GitError("missing_object", f"object {name} is not in the repository")
            with open_raw(path) as file:
                stream = zlib.decompressobj()
                begin = stream.decompress(file.read(4096), 64)
                head, nul, rest = begin.partition(b"\0")
                kind, _, digits = head.decode("ascii", "replace").partition(" ")
                if not nul or not digits.isdecimal() or len(digits) > 15:
                    raise GitError("corrupt", f"object {name} does not begin like one")
                size = int(digits)
                if limit == 0:
                    return kind, size, b""
                if size > limit:
                    raise GitError("too_large", f"an object of {size:,} bytes, over {limit:,}")
                pieces = [rest]
                missing = size - len(rest)
                source = stream.unconsumed_tail
                while missing >= 0 and not stream.eof and (source := source or file.read(1 << 16)):
                    piece = stream.decompress(source, missing + 1)  # one more than there should be shows an object that lies
                    source = stream.unconsumed_tail
                    pieces.append(piece)
                    missing -= len(piece)
        except FileNotFoundError:
            raise GitError("missing_object", f"object {name} is not in the repository: a shallow or partial clone?") from None
        except zlib.error as error:
            raise _damaged(name, error) from None
        if missing:
            raise GitError("corrupt", f"object {name} is not of the size it says")
        return kind, size, b"".join(pieces)


def _check_pack(index: str) -> None:
    """libgit2 inflates whole what an object's delta builds upon, however large: such a pack is refused."""
    try:
        size = largest(index, index.removesuffix(".idx") + ".pack")
    except (OSError, ValueError) as error:
        raise GitError("corrupt", f"{storable(os.path.basename(index))}: {error}") from None
    if size > _MAX_OBJECT:
        raise GitError("too_large", f"a pack with an object of {size:,} bytes, over {_MAX_OBJECT:,}")


def within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _damaged(name: str, error: Exception) -> GitError:
    return GitError("corrupt", f"object {name} cannot be read: {str(error)[:200]}")


def _pack_backend(folder: str) -> Any:
    try:
        import pygit2
    except ImportError:
        raise MissingExtraError("pygit2", "git") from None
    return pygit2.OdbBackendPack(folder)


@functools.lru_cache(1 << 12)
def _oid(name: str) -> Any:
    import pygit2

    return pygit2.Oid(hex=name)


_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}


def _kind(number: int) -> str:
    return _KINDS.get(int(number), "unknown")


@functools.lru_cache(4)
def _objects(git: str, stamp: tuple[int, ...]) -> Objects:
    return Objects(git)


def objects(git: str) -> Objects:
    """Those of the repository, opened once a process for as long as its packs stay the same."""
    stamps = []
    for folder in ("objects", "objects/pack", "objects/info"):
        try:
            stamps.append(os.stat(os.path.join(repository.shared_directory(git), folder)).st_mtime_ns)
        except OSError:
            stamps.append(0)
    return _objects(git, tuple(stamps))
