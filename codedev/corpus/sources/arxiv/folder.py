"""Folders of TeX files: which files are one paper, which a paper by themselves, which neither.

Files are read once each, to see what they are and what they read: about 100 MB/s. Held in memory: 300 bytes a file of a tree.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import xxhash

from codedev._files import found as as_found
from codedev._files import open_raw, walk
from codedev.corpus.extract.latex import main as latex_main

_READ = 16 << 20  # bytes of a file that planning looks at
_PLANNED = (*latex_main.TEX, *latex_main.STYLES, ".bbl")


class Found(NamedTuple):
    """A file of a tree: a paper with the files it reads, a part of a paper without one, or anything else."""

    path: str
    name: str
    size: int
    files: tuple[str, ...]  # of a paper, relative to the tree: itself first; empty for anything else
    hash: str  # of all of them
    role: str  # paper, part (TeX that no paper reads), other


def papers(root: str, base: Path) -> Iterator[Found]:
    """Every file below `root` that goes into no paper as a part, sorted by name."""
    paths = list(walk(root))
    known = {os.path.relpath(path, root).replace(os.sep, "/"): path for path in paths}
    scores: dict[str, int] = {}
    digests: dict[str, str] = {}
    read_by: dict[str, list[str]] = {}
    misnamed: set[str] = set()
    for name, path in known.items():
        if not name.lower().endswith(_PLANNED):
            continue
        data = _head(path)
        digests[name] = xxhash.xxh3_128_hexdigest(data)
        read_by[name] = list(latex_main.reads(name, data, known.__contains__))
        if latex_main.is_tex(name) and data.startswith(b"%PDF"):
            misnamed.add(name)
        elif latex_main.is_tex(name) and (score := latex_main.score(data)):
            scores[name] = score
    mains = dict.fromkeys(latex_main.mains(scores, read_by))
    parts = {part for name in mains for part in latex_main.closure(name, read_by)}
    for name, path in known.items():
        plain = as_found(path, base)
        if name in mains:
            files = latex_main.closure(name, read_by)
            yield Found(plain.path, plain.name, plain.size, tuple(files), _hash(files, digests), "paper")
        elif name not in parts:
            is_part = latex_main.is_tex(name) and name not in misnamed and plain.size > 0
            yield Found(plain.path, plain.name, plain.size, (), "", "part" if is_part else "other")


def alone(path: str, base: Path) -> Found | None:
    """A TeX file that is named by itself, with what it reads from its folder; None if it is no document."""
    folder, name = os.path.split(path)
    if not latex_main.is_tex(name) or not os.path.isfile(path):
        return None

    def known(part: str) -> bool:
        return not part.startswith(("/", "..")) and os.path.isfile(os.path.join(folder, part))

    data = _head(path)
    if data.startswith(b"%PDF") or not latex_main.score(data):
        return None
    digests, pending = {name: xxhash.xxh3_128_hexdigest(data)}, [(name, data)]
    while pending:
        for part in latex_main.reads(*pending.pop(), known):
            if part not in digests:
                data = _head(os.path.join(folder, part))
                digests[part] = xxhash.xxh3_128_hexdigest(data)
                pending.append((part, data))
    plain = as_found(path, base)
    return Found(plain.path, plain.name, plain.size, tuple(digests), _hash(list(digests), digests), "paper")


def _hash(files: list[str], digests: dict[str, str]) -> str:
    return xxhash.xxh3_128_hexdigest("".join(f"{part}\0{digests.get(part, '')}\0" for part in files).encode())


def _head(path: str) -> bytes:
    try:
        with open_raw(path) as file:
            return file.read(_READ)
    except OSError:
        return b""  # `read` meets the same error and reports it


class Tree(Mapping[str, bytes]):
    """The files of a paper in a folder, read when they are asked for. One that cannot be read is empty, and is named in `unreadable`."""

    def __init__(self, root: str, names: list[str], limit: int) -> None:
        self._root, self._names, self._limit = os.path.realpath(root), dict.fromkeys(names), limit
        self._held: dict[str, bytes] = {}
        self.unreadable: list[str] = []

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._held:
            self._held[name] = self._read(name)
        return self._held[name]

    def _read(self, name: str) -> bytes:
        path = os.path.realpath(posixpath.join(self._root, name))
        try:
            if os.path.commonpath([path, self._root]) != self._root:
                raise OSError("a link that leads out of the folder")
            with open_raw(path) as file:
                data = file.read(self._limit + 1)
            if len(data) > self._limit:
                raise OSError("larger than max_record_bytes")
        except OSError:
            self.unreadable.append(name)
            return b""
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
