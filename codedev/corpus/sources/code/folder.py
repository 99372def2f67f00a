"""Folders and checkouts of code: every file on disk is one extent, with what covers it. See code.py for the rules.

Cost: about 20 µs a file for the walk; it holds one listing a level.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from codedev._files import hash_of, open_raw, shown, storable
from codedev.corpus.repository import DISK, Checkout, Licence, identify, is_bare
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.code import cover as code_cover
from codedev.corpus.sources.code.cover import Cover
from codedev.corpus.sources.code.file import File, Record, json_of, link, records

if TYPE_CHECKING:
    from codedev.corpus.sources.code.source import Config

VERSION_CONTROL = frozenset({".git", ".hg", ".svn", ".bzr", "_darcs", "CVS", ".jj", ".pijul", ".fslckout"})
_SPECIAL = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
_NONE = Licence(None)


class Walk(NamedTuple):
    """What is the same for all folders of one path."""

    base: Path
    exclude: re.Pattern[str] | None
    about: Callable[[str], dict[str, Any] | None]  # what the metadata table says of a repository
    commit: Callable[[str], Iterator[Extent] | None]  # the extents of a repository whose objects are to be read; None = no such folder


class _Repository(NamedTuple):
    """What the contexts of all files of a tree share."""

    checkout: Checkout
    root: str  # the name to show
    about: dict[str, Any] | None = None

    def extent(self, file: str, path: str, size: int, covering: Licence, **more: Any) -> Extent:
        context = {
            "repo": self.checkout.name,
            "commit": self.checkout.commit,
            "root": self.root,
            "path": path,
            "licence": covering.expression,
            "licence_files": covering.files,
            "licence_from": covering.found,
            **more,
        }
        if covering.precedence != "closest":
            context["precedence"] = covering.precedence
        if self.about:
            context["about"] = self.about
        name = path if self.root == "." else f"{self.root}/{path}"
        try:
            return Extent(file, name, 0, -1, size, json_of(context))
        except TypeError:  # a name of bytes that are no UTF-8 fits neither JSON nor Arrow
            context = {key: storable(value) if isinstance(value, str) else value for key, value in context.items()}
            context["licence_files"] = [storable(found) for found in covering.files]
            return Extent(storable(file), storable(name), 0, -1, 0, json_of({**context, "unnameable": True}))


class _Folder(NamedTuple):
    """A folder that is being walked."""

    entries: Iterator[os.DirEntry[str]]  # what is left of its listing, by name
    names: frozenset[str]
    directory: str
    path: str  # inside its repository
    repository: _Repository
    cover: Cover


def plan(root: str, walk: Walk, inside: set[str]) -> Iterator[Extent]:
    """The files of the folder or plain file `root`, without those of the trees `inside`."""
    if not os.path.isdir(root):
        repository = _Repository(Checkout(os.path.basename(root), None), shown(os.path.dirname(root), walk.base))
        status = os.stat(root) if os.path.exists(root) else os.lstat(root)
        yield _file_extent(repository, root, os.path.basename(root), _NONE, status)
        return
    open_folders: list[_Folder] = []
    yield from _enter(root, "", None, walk, open_folders)
    while open_folders:  # no recursion: a tree may be deeper than Python's stack
        folder = open_folders[-1]
        entry = next(folder.entries, None)
        if entry is None:
            open_folders.pop()
            continue
        path = f"{folder.path}/{entry.name}" if folder.path else entry.name
        if entry.name in VERSION_CONTROL or (walk.exclude and walk.exclude.match(path)):
            continue
        if entry.is_dir(follow_symlinks=False):
            if not inside or os.path.realpath(entry.path) not in inside:
                yield from _enter(entry.path, path, folder, walk, open_folders)
            continue
        try:
            cover = folder.cover
            # Most folders have neither sidecars nor rules: they cost nothing here.
            plain = not cover.rules and f"{entry.name}.license" not in folder.names
            covering = cover.licence if plain else cover.of(path, folder.names, DISK, folder.directory)
            yield _file_extent(folder.repository, entry.path, path, covering, entry.stat(follow_symlinks=False))
        except OSError:  # gone since it was listed: its reader will say so
            yield folder.repository.extent(entry.path, path, 0, folder.cover.licence)


def _enter(directory: str, path: str, above: _Folder | None, walk: Walk, open_folders: list[_Folder]) -> Iterator[Extent]:
    """Opens the folder, with its own licence and, where a repository begins, that. A folder that cannot be listed is an extent that will
    fail; a repository whose objects are to be read gives its own extents."""
    try:
        with os.scandir(directory) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        repository = above.repository if above else _Repository(identify(directory), shown(directory, walk.base))
        covering = above.cover.licence if above else _NONE
        yield repository.extent(directory, path or ".", 0, covering, special="a folder that cannot be listed")
        return
    names = frozenset(entry.name for entry in listed)
    if (".git" in names or is_bare(names)) and (extents := walk.commit(directory)) is not None:
        yield from extents
        return
    if above is None or ".git" in names:
        checkout = identify(directory)
        if above is None or checkout.commit:
            files = [entry.name for entry in listed if entry.is_file(follow_symlinks=False)]
            folders = [entry.name for entry in listed if entry.is_dir(follow_symlinks=False)]
            repository = _Repository(checkout, shown(directory, walk.base), walk.about(checkout.name))
            cover = code_cover.of_root(DISK, directory, files, folders)
            open_folders.append(_Folder(iter(listed), names, directory, "", repository, cover))
            return
    cover = above.cover
    if any(map(code_cover.tells, names)):
        files = [entry.name for entry in listed if entry.is_file(follow_symlinks=False)]
        cover = code_cover.of_folder(cover, DISK, directory, files, path)
    open_folders.append(_Folder(iter(listed), names, directory, path, above.repository, cover))


def _file_extent(repository: _Repository, file: str, path: str, covering: Licence, status: os.stat_result) -> Extent:
    if stat.S_ISREG(status.st_mode):
        return repository.extent(file, path, status.st_size, covering)
    if stat.S_ISLNK(status.st_mode):
        return repository.extent(file, path, 0, covering, link=_target(file))
    special = next((word for test, word in _SPECIAL if test(status.st_mode)), "no regular file")
    return repository.extent(file, path, 0, covering, special=special)


def _target(at: str) -> str:
    try:
        return storable(os.readlink(at))
    except OSError:
        return ""


def read(extent: Extent, config: Config) -> Iterator[Record]:
    facts = orjson.loads(extent.context)
    if "unnameable" in facts:
        return iter((Failure("invalid_name", "the file's name is not UTF-8: rename it"),))
    if "special" in facts:
        return iter((Failure(facts.get("kind", "unreadable"), facts["special"]),))
    if "link" in facts:
        return iter((link(config, facts, facts["link"]),))
    try:
        version = facts["commit"] or (extent.hash or hash_of(extent.file))[:16]
    except OSError as error:
        return iter((Failure("unreadable", error.strerror or str(error)),))
    return records(File(config, facts, version, extent.size), lambda: _content(extent, config.max_record_bytes))


def _content(extent: Extent, bound: int) -> bytes:
    with open_raw(extent.file) as file:
        data = file.read(extent.size + 1)
        if len(data) > extent.size:  # it has grown since it was planned
            data += file.read(bound + 1 - len(data))
    return data
