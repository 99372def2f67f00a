"""A commit of a git repository, bare or not, read from its objects: no work tree, no git program.

Nothing that a repository's author may write is obeyed: no configuration is loaded (includes, fsmonitor, ssh commands, filters), no hook
can run, refs are read as text, and objects that lie outside the repository (alternates, links, a `.git` file that leads away) are
refused. See code_objects for how they are read; that needs pygit2 (extra `git`).

A large repository splits into runs of files of its sorted tree. A tree that unfolds to more than max_ratio times the repository's bytes
(the same folder in itself over and over) is a `bomb`; folders count too,
also where nothing is in them or everything is excluded. Submodules are drops. Text is as it was committed: no line ends converted, no LFS
content fetched. Not read: SHA-256 repositories, reftable refs, a partial clone's missing objects (each a failure).

Cost: 10 µs an object from a pack, 40 µs a loose one, beside what every file costs; in each unit the folders on the way are read again.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from codedev._files import shown, storable
from codedev.corpus import repository
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.code import cover as code_cover
from codedev.corpus.sources.code.cover import Cover
from codedev.corpus.sources.code.file import File, Record, json_of, link, records
from codedev.corpus.sources.code.folder import VERSION_CONTROL, Walk
from codedev.corpus.sources.code.objects import GitError, Objects, objects, within

if TYPE_CHECKING:
    from codedev.corpus.sources.code.source import Config

_MAX_FILES = 4096  # of an extent: as many as a unit may have extents
_MAX_TREE = 64 << 20  # bytes of a folder's object
_MAX_PATH = 4096  # bytes
_FREE = 64 << 20  # bytes that any repository may unfold to
_ENTRY = 1024  # bytes that a file counts for beside its own, so that empty ones cannot be without end
_FOLDER, _PER_BYTE = 4096, 32  # bytes that a folder counts for, and each byte of its object: an entry has 40
_KNOWN = 1 << 16
_MAX_READ = 1 << 20  # of a licence file
_HASH = re.compile(r"\A[0-9a-f]{40}\Z")
_CHANGED = "changed while it was read"


# Trees.


class Entry(NamedTuple):
    name: bytes
    mode: int
    object: str


def _entries(data: bytes) -> list[Entry]:
    """The entries of a folder, by name. Raises GitError."""
    found: dict[bytes, Entry] = {}
    at = 0
    while at < len(data):
        nul = data.find(b"\0", at)
        mode, blank, name = data[at:nul].partition(b" ")
        if nul < 0 or not blank or not name or b"/" in name or name in found or len(data) < nul + 21 or not mode.isdigit() or len(mode) > 7:
            raise GitError("corrupt", "a folder's object is not one")
        found[name] = Entry(name, int(mode, 8) if not mode.strip(b"01234567") else 0, data[nul + 1 : nul + 21].hex())
        at = nul + 21
    return [found[name] for name in sorted(found)]


class Found(NamedTuple):
    """A file, link or submodule of a commit; `error` = a folder that cannot be read."""

    path: str
    entry: Entry
    cover: Cover
    siblings: dict[str, Entry]
    error: GitError | None = None


class _Commit:
    """A Place: the files of one folder of a commit at a time."""

    def __init__(self, store: Objects, bound: int) -> None:
        self._store, self._bound, self._left = store, bound, bound
        self._folders: dict[str, dict[str, Entry]] = {}

    def open(self, path: str, tree: str) -> dict[str, Entry]:
        listed = _entries(self._tree(tree))
        self._folders[path] = {_text(entry.name): entry for entry in listed}
        return self._folders[path]

    def close(self, path: str) -> None:
        for known in [known for known in self._folders if known == path or (path and known.startswith(f"{path}/"))]:
            del self._folders[known]

    def _tree(self, name: str) -> bytes:
        kind, data = self._store.read(name, _MAX_TREE) if self._left >= 0 else ("tree", b"")
        self._left -= _FOLDER + _PER_BYTE * len(data)  # before its entries are looked at, be they files, folders or excluded
        if self._left < 0:
            raise GitError("bomb", f"its folders unfold to more than {self._bound:,} bytes")
        if kind != "tree":
            raise GitError("corrupt", f"object {name} is a {kind} where a folder should be")
        return data

    def _listed(self, folder: str) -> dict[str, Entry]:
        """Of a folder that is open, or lies below one."""
        if folder not in self._folders:
            above, _, name = folder.rpartition("/")
            entry = self._listed(above).get(name) if folder else None
            if entry is None or not stat.S_ISDIR(entry.mode):
                return {}
            try:
                return self.open(folder, entry.object)
            except GitError:
                return {}
        return self._folders[folder]

    def text(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        entry = self._listed(folder).get(name)
        if entry is None or not stat.S_ISREG(entry.mode):
            return ""
        try:
            return self._store.read(entry.object, _MAX_READ)[1].decode("utf-8", "replace")
        except GitError:
            return ""

    def files(self, folder: str) -> list[str]:
        return [name for name, entry in self._listed(folder).items() if stat.S_ISREG(entry.mode)]

    def folders(self, folder: str) -> list[str]:
        return [name for name, entry in self._listed(folder).items() if stat.S_ISDIR(entry.mode)]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def walk_tree(store: Objects, tree: str, exclude: re.Pattern[str] | None, bound: int, begin: str = "") -> Iterator[Found]:
    """The files of a commit in order, from the one at the path `begin` on. Raises GitError when folders count for over `bound` bytes."""
    place = _Commit(store, bound)
    start = begin.split("/") if begin else []
    opened: list[tuple[str, dict[str, Entry], Iterator[tuple[str, Entry]], Cover]] = []

    def enter(path: str, name: str, above: Cover | None) -> None:
        names = place.open(path, name)
        cover = above
        if cover is None:
            cover = code_cover.of_root(place, "", place.files(""), place.folders(""))
        elif any(map(code_cover.tells, names)):
            cover = code_cover.of_folder(cover, place, path, place.files(path), path)
        from_name = start[len(opened)] if len(opened) < len(start) else None
        listed = iter(names.items())
        if from_name is not None:
            rest = list(names.items())
            listed = iter(rest[next((at for at, (found, _) in enumerate(rest) if found == from_name), 0) :])
        opened.append((path, names, listed, cover))

    enter("", tree, None)
    while opened:
        path, names, listed, cover = opened[-1]
        name, entry = next(listed, ("", None))
        if entry is None:
            opened.pop()
            place.close(path)
            del start[len(opened) :]  # the way to the beginning has been gone
            continue
        inner = f"{path}/{name}" if path else name
        if name in VERSION_CONTROL or (exclude and exclude.match(inner)):
            continue
        if stat.S_ISDIR(entry.mode):
            try:
                if len(inner) > _MAX_PATH:
                    raise GitError("too_deep", f"a path of more than {_MAX_PATH:,} characters")
                enter(inner, entry.object, cover)
                continue
            except GitError as error:
                if error.kind == "bomb":
                    raise
                yield Found(inner, entry, cover, names, error)
        else:
            yield Found(inner, entry, cover, names)
        del start[len(opened) :]


# Planning.


class Revision(NamedTuple):
    git: str  # the folder that HEAD lies in
    name: str
    commit: str
    tree: str


def find(directory: str, revision: str) -> Revision:
    """What `revision` names in the repository at `directory`. Raises GitError."""
    git = repository.git_directory(directory) or directory
    if not within(os.path.realpath(git), os.path.realpath(directory)):
        raise GitError("outside", "its .git leads out of it. Name the repository that it leads to in `paths:`")
    shared = repository.shared_directory(git)
    config = repository.read_text(os.path.join(shared, "config"), 1 << 16)
    if re.search(r"^\s*objectformat\s*=\s*\"?sha256", config, re.MULTILINE | re.IGNORECASE):
        raise GitError("unsupported", "a SHA-256 repository: convert it, or check it out and name the checkout without `revision:`")
    if re.search(r"^\s*refstorage\s*=\s*\"?reftable", config, re.MULTILINE | re.IGNORECASE):
        raise GitError("unsupported", "its refs are a reftable. Run: git refs migrate --ref-format=files")
    name = repository.remote_name(git) or os.path.basename(os.path.normpath(directory)).removesuffix(".git")
    found = repository.resolve(git, revision)
    if found is None:
        hint = "it has no commit" if revision == "HEAD" else "name a branch, a tag or a full hash of 40 digits"
        raise GitError("no_revision", f"no revision {revision!r} in it: {hint}")
    if not _HASH.match(found):
        raise GitError("unsupported", "a SHA-256 repository")
    store = objects(git)
    for _ in range(10):  # a tag may name a tag
        kind, data = store.read(found, _MAX_READ)
        match = re.match(rb"(?:object|tree) ([0-9a-f]{40})\n", data)
        if kind == "commit" and match:
            return Revision(git, name, found, match[1].decode())
        if kind != "tag" or not match:
            break
        found = match[1].decode()
    raise GitError("no_revision", f"{revision!r} names no commit")


def plan(directory: str, walk: Walk, config: Config, unit_bytes: int) -> Iterator[Extent]:
    """Extents of about `unit_bytes`; one that will fail where the commit cannot be read."""
    name = shown(directory, walk.base)
    try:
        revision = find(directory, config.revision or "HEAD")
        yield from list(_cut(directory, name, revision, walk, config, unit_bytes))  # of a bomb, none
    except GitError as error:
        yield Extent(storable(directory), name, 0, -1, 0, json_of({"special": str(error), "kind": error.kind}))


def _cut(directory: str, name: str, revision: Revision, walk: Walk, config: Config, unit_bytes: int) -> Iterator[Extent]:
    store = objects(revision.git)
    context = {"git": True, "repo": revision.name, "commit": revision.commit, "tree": revision.tree, "root": name}
    if about := walk.about(revision.name):
        context["about"] = about
    bound = _bound(store, config)
    begin, start, at, held, total = "", 0, 0, 0, 0
    sizes: dict[str, int] = {}  # of objects met lately: a bomb has few
    for found in walk_tree(store, revision.tree, walk.exclude, bound):
        size = sizes.get(found.entry.object, -1)
        if size < 0:
            size = sizes[found.entry.object] = _size(store, found)
            if len(sizes) > _KNOWN:
                sizes.clear()
        total += min(size, config.max_record_bytes) + _ENTRY  # a larger one will not be read
        if total > bound:
            raise GitError("bomb", f"{store.bytes:,} bytes unfold to more than {total:,}: over max_ratio = {config.max_ratio:,}")
        if at > start and (held + size > unit_bytes or at - start == _MAX_FILES):
            yield Extent(directory, name, start, at, held, json_of({**context, "begin": begin}))
            start, held = at, 0
        if at == start:
            begin = found.path.encode("utf-8", "surrogateescape").hex()  # JSON holds UTF-8 alone
        at, held = at + 1, held + size
    yield Extent(directory, name, start, at, held, json_of({**context, "begin": begin}))


def _bound(store: Objects, config: Config) -> int:
    return max(_FREE, config.max_ratio * store.bytes)


def _size(store: Objects, found: Found) -> int:
    try:
        return store.header(found.entry.object)[1] if stat.S_ISREG(found.entry.mode) else 0
    except GitError:
        return 0


# Reading.


def read(extent: Extent, config: Config, exclude: re.Pattern[str] | None) -> Iterator[Record]:
    facts = orjson.loads(extent.context)
    try:
        git = repository.git_directory(extent.file) or extent.file
        store = objects(git)
        left = extent.end - extent.start
        begin = _text(bytes.fromhex(facts["begin"]))
        for found in walk_tree(store, facts["tree"], exclude, _bound(store, config), begin) if left else ():
            yield from _read_one(store, found, config, facts)
            left -= 1
            if not left:
                return
        if left:
            yield Failure("corrupt", f"{left:,} files fewer than there were: {_CHANGED}")
    except GitError as error:
        yield Failure(error.kind, str(error))


def _read_one(store: Objects, found: Found, config: Config, facts: dict[str, Any]) -> Iterator[Record]:
    path, mode = found.path, found.entry.mode
    if not path.isprintable() and storable(path) != path:
        yield Failure("invalid_name", "a name that is not UTF-8", member=storable(path))
        return
    if found.error:
        yield Failure(found.error.kind, str(found.error), member=path)
        return
    covering = found.cover.of(path, found.siblings, _Siblings(store, found.siblings), "")
    facts = {
        "repo": facts["repo"],
        "commit": facts["commit"],
        "root": facts["root"],
        "path": path,
        "licence": covering.expression,
        "licence_from": covering.found,
        "precedence": covering.precedence,
        "about": facts.get("about"),
    }
    if stat.S_ISLNK(mode):
        try:
            target = storable(_text(store.read(found.entry.object, _MAX_PATH)[1]))
        except GitError:
            target = ""
        yield link(config, facts, target, path, None)
        return
    if mode == 0o160000:
        yield File(config, facts, facts["commit"], 0, None, path).drop("submodule", commit=found.entry.object)
        return
    try:
        kind, size = store.header(found.entry.object)
    except GitError as error:
        yield Failure(error.kind, str(error), member=path)
        return
    if kind != "blob" or not stat.S_ISREG(mode):
        yield Failure("corrupt", f"a {kind} of mode {mode:o} where a file should be", member=path)
        return
    file = File(config, facts, facts["commit"], size, None, path)
    yield from records(file, lambda: store.read(found.entry.object, config.max_record_bytes)[1])


class _Siblings(NamedTuple):
    """A Place: the files beside one."""

    store: Objects
    entries: dict[str, Entry]

    def text(self, path: str) -> str:
        try:
            return self.store.read(self.entries[path].object, _MAX_READ)[1].decode("utf-8", "replace")
        except (GitError, KeyError):
            return ""

    def files(self, folder: str) -> list[str]:
        return []
