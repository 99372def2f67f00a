"""Source trees: checkouts and plain folders of code. Every file is one record: a document, a drop with its reason, or a failure.

`paths` name trees or globs of trees (`repos/*`); a plain file is a tree of one. A folder with a `.git` that names a commit is a checkout,
also inside another tree (a submodule, or a folder full of checkouts); its files belong to it. The folders of version control are no
content and are passed over; other hidden files and folders are content. Links are dropped, and never followed below a tree.

Ids. `repo@commit:path` in a checkout; its working tree is taken to be that commit. Elsewhere `repo@<16 digits of the file's hash>:path`,
where repo is the name of the tree's folder: other content at the same place has another id, and the same content at the same place of
two trees of one name is the same record, of which exact deduplication keeps one. With `mode: docstrings` ids end in `#docstrings`.

Licence of a file: its `SPDX-License-Identifier`, else the notice in its first 4 KiB (not of prose), else that of the nearest folder above
it with a licence file, up to the tree's own. `meta.licence_from` says which: spdx, header, file, metadata, recipe.

Cost a core: planning about 20 µs a file; reading about 50 µs a file and 1 ms a MB: 120 MB/s on real trees, whose files average 6 KB.
It does not read archives or a repository's history, and takes notebooks as they are.
"""

from __future__ import annotations

import bisect
import fnmatch
import os
import re
import stat
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
import xxhash
from pydantic import Field, field_validator

from codedev._errors import InputError, nearest
from codedev._files import hash_of, is_url, matches, nothing_at, open_raw, shown, storable
from codedev.corpus import handwritten, languages, licence
from codedev.corpus.document import meta_json
from codedev.corpus.extract.docstrings import UnparsableError, docstrings
from codedev.corpus.repository import Checkout, Licence, identify, is_licence_name, nested_licence, root_licence
from codedev.corpus.source import Document, Drop, Extent, Failure, SourceConfig
from codedev.corpus.sources.code_text import BinaryError, UndecodableError, decode

VERSION = 1
_VERSION_CONTROL = frozenset({".git", ".hg", ".svn", ".bzr", "_darcs", "CVS", ".jj", ".pijul", ".fslckout"})
_SPECIAL = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


class Config(SourceConfig):
    type: Literal["code"] = "code"
    mode: Literal["files", "docstrings"] = "files"  # docstrings: instead of each Python file, what its docstrings say, as prose
    exclude: tuple[str, ...] = ()  # globs of paths inside a tree that are passed over and counted nowhere: `site-packages`, `*/testdata`
    languages: tuple[str, ...] | None = None  # names as in corpus/data/languages.tsv; null = all
    licences: Literal["any", "permissive", "permissive_or_unknown"] = "any"
    prose: Literal["keep", "drop"] = "keep"  # Markdown, reStructuredText, plain text
    min_chars: int = Field(default=10, ge=0)  # characters that are not blank; an `__init__.py` of one import has more
    max_data_bytes: int = Field(
        default=32 << 10, ge=0
    )  # of JSON, YAML, XML, CSV, word lists, ...: what is larger is data, not configuration

    @field_validator("languages")
    @classmethod
    def _known(cls, wanted: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in wanted or ():
            if name not in languages.names():
                raise ValueError(f"unknown language '{name}': {nearest(name, languages.names())}")
        return wanted


# Planning.


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    """One extent a file, in order of the paths and sorted inside each tree."""
    exclude = re.compile("|".join(map(fnmatch.translate, config.exclude))) if config.exclude else None
    done: set[str] = set()  # the trees so far: a path that lies in one of them is not walked again
    for pattern in config.paths:
        earlier = sorted(done)
        for root in _roots(pattern, base):
            real = os.path.realpath(root)
            if done.isdisjoint((real, *map(str, Path(real).parents))):
                yield from _tree(root, base, exclude, _inside(real, earlier))
                done.add(real)


def _inside(real: str, trees: list[str]) -> set[str]:
    """Those of the sorted `trees` that lie below `real`."""
    first = bisect.bisect_left(trees, real + os.sep)
    return set(takewhile(lambda tree: tree.startswith(real + os.sep), trees[first:]))


def _roots(pattern: str, base: Path) -> list[str]:
    if is_url(pattern):
        raise InputError(f"{pattern}: source trees are read from local folders. Copy or clone it, and name that folder in `paths:`")
    roots = matches(pattern, base)
    if not roots:
        raise nothing_at(pattern, base)
    return roots


class _Repository(NamedTuple):
    """What the contexts of all files of a tree share."""

    checkout: Checkout
    root: str  # the name to show

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
        name = path if self.root == "." else f"{self.root}/{path}"
        try:
            return Extent(file, name, 0, -1, size, _json(context))
        except TypeError:  # a name of bytes that are no UTF-8 fits neither JSON nor Arrow
            context = {key: storable(value) if isinstance(value, str) else value for key, value in context.items()}
            context["licence_files"] = [storable(found) for found in covering.files]
            return Extent(storable(file), storable(name), 0, -1, 0, _json({**context, "unnameable": True}))


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


class _Folder(NamedTuple):
    """A folder that is being walked."""

    entries: Iterator[os.DirEntry[str]]  # what is left of its listing, by name
    path: str  # inside its repository
    repository: _Repository
    covering: Licence


def _tree(root: str, base: Path, exclude: re.Pattern[str] | None, inside: set[str]) -> Iterator[Extent]:
    """The files of the tree or plain file `root`, without those of the trees `inside`. Holds one listing a level."""
    if not os.path.isdir(root):
        repository = _Repository(Checkout(os.path.basename(root), None), shown(os.path.dirname(root), base))
        status = os.stat(root) if os.path.exists(root) else os.lstat(root)
        yield _file_extent(repository, root, os.path.basename(root), Licence(None), status)
        return
    entered = _enter(root, "", None, Licence(None), base)
    open_folders = [entered] if isinstance(entered, _Folder) else []
    if isinstance(entered, Extent):
        yield entered
    while open_folders:  # no recursion: a tree may be deeper than Python's stack
        folder = open_folders[-1]
        entry = next(folder.entries, None)
        if entry is None:
            open_folders.pop()
            continue
        path = f"{folder.path}/{entry.name}" if folder.path else entry.name
        if entry.name in _VERSION_CONTROL or (exclude and exclude.match(path)):
            continue
        if entry.is_dir(follow_symlinks=False):
            if inside and os.path.realpath(entry.path) in inside:
                continue
            entered = _enter(entry.path, path, folder.repository, folder.covering, base)
            if isinstance(entered, Extent):
                yield entered
            else:
                open_folders.append(entered)
            continue
        try:
            yield _file_extent(folder.repository, entry.path, path, folder.covering, entry.stat(follow_symlinks=False))
        except OSError:  # gone since it was listed: its reader will say so
            yield folder.repository.extent(entry.path, path, 0, folder.covering)


def _enter(directory: str, path: str, repository: _Repository | None, covering: Licence, base: Path) -> _Folder | Extent:
    """The folder with its own licence and, where a repository begins, that; an extent that will fail where it cannot be listed."""
    try:
        with os.scandir(directory) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        repository = repository or _Repository(identify(directory), shown(directory, base))
        return repository.extent(directory, path or ".", 0, covering, special="a folder that cannot be listed")
    names = {entry.name for entry in listed}
    if repository is None or ".git" in names:
        checkout = identify(directory)
        if repository is None or checkout.commit:
            files = [entry.name for entry in listed if entry.is_file(follow_symlinks=False)]
            folders = [entry.name for entry in listed if entry.is_dir(follow_symlinks=False)]
            repository = _Repository(checkout, shown(directory, base))
            return _Folder(iter(listed), "", repository, root_licence(directory, files, folders))
    if any(map(is_licence_name, names)):
        files = [entry.name for entry in listed if entry.is_file(follow_symlinks=False)]
        covering = nested_licence(directory, files, path) or covering
    return _Folder(iter(listed), path, repository, covering)


def _file_extent(repository: _Repository, file: str, path: str, covering: Licence, status: os.stat_result) -> Extent:
    if stat.S_ISREG(status.st_mode):
        return repository.extent(file, path, status.st_size, covering)
    if stat.S_ISLNK(status.st_mode):
        return repository.extent(file, path, 0, covering, link=_target(file))
    special = next((word for test, word in _SPECIAL if test(status.st_mode)), "no regular file")
    return repository.extent(file, path, 0, covering, special=special)


def _target(link: str) -> str:
    try:
        return storable(os.readlink(link))
    except OSError:
        return ""


# Reading.


def read(extent: Extent, config: Config, base: Path) -> Iterator[Document | Drop | Failure]:
    yield _record(extent, config, orjson.loads(extent.context))


def _record(extent: Extent, config: Config, facts: dict[str, Any]) -> Document | Drop | Failure:
    path, repo = facts["path"], facts["repo"]
    name = path.rpartition("/")[2]
    if "unnameable" in facts:
        return Failure("invalid_name", "the file's name is not UTF-8: rename it")
    if "special" in facts:
        return Failure("unreadable", facts["special"])
    if "link" in facts:
        return _File(extent, config, facts, xxhash.xxh3_128_hexdigest(facts["link"].encode())).drop("symlink", target=facts["link"])
    try:
        record = _File(extent, config, facts, extent.hash or ("" if facts["commit"] else hash_of(extent.file)))
        if folder := handwritten.vendored(path, repo):
            return record.drop("vendored", rule=folder)
        if extension := handwritten.binary_extension(name):
            return record.drop("binary", extension=extension)
        if extent.size == 0:
            return record.drop("empty")
        if handwritten.lock_file(name):
            return record.drop("lock_file", name=name)
        if marker := handwritten.generated_name(name):
            return record.drop("generated", name=marker)
        if extent.size > config.max_record_bytes:
            return Failure("too_large", f"{extent.size} bytes, above max_record_bytes={config.max_record_bytes}", 0)
        with open_raw(extent.file) as file:
            data = file.read(extent.size + 1)
            if len(data) > extent.size:  # it has grown since it was planned
                data += file.read(config.max_record_bytes + 1 - len(data))
        if len(data) > config.max_record_bytes:
            return Failure("too_large", f"above max_record_bytes={config.max_record_bytes}", 0)
        text, encoding = decode(data)
    except OSError as error:
        return Failure("unreadable", error.strerror or str(error))
    except BinaryError as found:
        return record.drop("binary", **found.evidence)
    except UndecodableError as found:
        return Failure("invalid_utf8", found.message, found.offset, raw=data[max(0, found.offset - 16) : found.offset + 64])
    return _judged(record, name, data, text, encoding)


def _judged(record: _File, name: str, data: bytes, text: str, encoding: str | None) -> Document | Drop:
    config = record.config
    if not text or text.isspace():
        return record.drop("empty", characters=len(text))
    language = languages.detect(name, text)
    if language is None:
        return record.drop("unknown_language", name=name, head=text[:60])
    if config.languages is not None and language not in config.languages:
        return record.drop("other_language", language=language)
    sort = languages.type_of(language)
    if config.mode == "docstrings" and language != "Python":
        return record.drop("other_language", language=language, mode=config.mode)
    if sort == "prose" and config.prose == "drop":
        return record.drop("prose", language=language)
    if sort != "prose" and (marker := handwritten.generated(text, language)):
        return record.drop("generated", language=language, marker=marker)
    if figures := handwritten.minified(name, text, language):
        return record.drop("minified", language=language, **figures)
    if len(data) > config.max_data_bytes and (sort == "data" or (language == "Text" and not handwritten.is_prose(text))):
        return record.drop("data_file", language=language, bytes=len(data), bound=config.max_data_bytes)
    filled = len(text) - sum(map(text.count, " \t\n\r"))
    if filled < config.min_chars:
        return record.drop("too_small", characters=filled, bound=config.min_chars)
    head = text[: licence.HEADER_BYTES].encode() if encoding else data[: licence.HEADER_BYTES]
    own, found = record.licence(head, prose=sort == "prose")
    if config.licences != "any" and not (licence.is_permissive(own) if own else config.licences == "permissive_or_unknown"):
        return record.drop("licence", licence=own, licence_from=found)
    if config.mode == "docstrings":
        try:
            prose = docstrings(text)
        except UnparsableError as error:
            return record.drop("unparsable", error=str(error))
        if not prose:
            return record.drop("no_docstrings")
        return Document(record.id, prose, 0, len(data), kind="book", licence=own, meta=record.meta(encoding, found))
    return Document(record.id, text, 0, len(data), lang=language, licence=own, meta=record.meta(encoding, found))


class _File:
    """A file that is being read, and the ways it may end."""

    __slots__ = ("config", "facts", "id", "size")

    def __init__(self, extent: Extent, config: Config, facts: dict[str, Any], file_hash: str) -> None:
        suffix = "#docstrings" if config.mode == "docstrings" else ""
        self.id = f"{facts['repo']}@{facts['commit'] or file_hash[:16]}:{facts['path']}{suffix}"
        self.config, self.facts, self.size = config, facts, extent.size

    def drop(self, reason: str, **evidence: Any) -> Drop:
        return Drop(self.id, reason, _json(evidence), 0, self.size, meta=self.meta(None, None))

    def meta(self, encoding: str | None, licence_from: str | None) -> str:
        facts = self.facts
        return meta_json(
            {"repo": facts["repo"], "commit": facts["commit"], "path": facts["path"], "encoding": encoding, "licence_from": licence_from}
        )

    def licence(self, head: bytes, *, prose: bool) -> tuple[str | None, str | None]:
        """The file's licence and where it was found."""
        if tag := licence.of_tag(head):
            return tag, "spdx"
        if not prose and (notice := licence.of_header(head)):
            return notice, "header"
        if self.facts["licence"]:
            return self.facts["licence"], self.facts["licence_from"]
        return self.config.licence, "recipe" if self.config.licence else None
