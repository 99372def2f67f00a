"""Inputs of the books source: files, and folders that hold one unpacked EPUB each, as Standard Ebooks keeps its sources.

A folder below one of the paths that has `META-INF/container.xml` is one book, and none of its files is read by itself. A `metadata.yaml`
beside a book, or in the folder above it, as GITenberg has them, gives its title, author and language where the book itself does not.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import xxhash
import yaml

from codedev import _files
from codedev.corpus.document import meta_json
from codedev.corpus.extract.blocks import MarkupError
from codedev.corpus.extract.book import epub

_METADATA = "metadata.yaml"
_MOST_METADATA = 256 << 10


class Input(NamedTuple):
    path: str
    name: str
    size: int
    context: str = "{}"
    hash: str = ""  # of all files of an unpacked book


def inputs(paths: tuple[str, ...], base: Path) -> Iterator[Input]:
    """Every file and every unpacked book that `paths` name. Raises InputError when one of them names nothing."""
    seen: set[str] = set()
    books: set[str] = set()
    for pattern in paths:
        count = 0
        for path, top in _named(pattern, base):
            count += 1
            found = path if isinstance(path, _files.Found) else None
            root = None if found else _book_of(os.path.dirname(str(path)), top)
            if root:
                if root not in books:
                    books.add(root)
                    yield _book(root, base)
                continue
            if any(str(path).startswith(book + os.sep) for book in books) if books and not found else False:
                continue
            one = found or _files.found(str(path), base)
            if one.path not in seen:
                seen.add(one.path)
                beside = {} if found else _beside(os.path.dirname(one.path), top)
                yield Input(one.path, one.name, one.size, meta_json({"beside": beside}) if beside else "{}")
        if count == 0:
            raise _files.nothing_at(pattern, base)


def _named(pattern: str, base: Path) -> Iterator[tuple[str | _files.Found, str]]:
    """(path, the folder that the pattern named) of every file; the folder is "" for a file named by itself."""
    if _files.is_url(pattern):
        yield from ((found, "") for found in _files.expand((pattern,), base))
        return
    for match in _files.matches(pattern, base):
        if os.path.isdir(match):
            yield from ((path, match) for path in _files.walk(match))
        else:
            yield match, ""


@functools.lru_cache(4096)
def _book_of(folder: str, top: str) -> str | None:
    """The unpacked book that files of `folder` belong to: the nearest folder up to `top` that has a container file."""
    if not top:
        return None
    if os.path.isfile(os.path.join(folder, *epub.CONTAINER.split("/"))):
        return folder
    return None if folder in (top, os.path.dirname(folder)) else _book_of(os.path.dirname(folder), top)


def _book(root: str, base: Path) -> Input:
    """Its extent is the container file, its hash that of all its files that may hold text."""
    container = os.path.join(root, *epub.CONTAINER.split("/"))
    digest = xxhash.xxh3_128()
    size = 0
    for path in _files.walk(root):
        name = os.path.relpath(path, root).replace(os.sep, "/")
        if name.lower().endswith(_MEDIA):
            continue
        try:
            content = _files.hash_of(path)
            size += os.path.getsize(path)
        except OSError:
            content = ""
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return Input(container, _files.shown(container, base), size, meta_json({"book": root}), digest.hexdigest())


_MEDIA = (".jpg", ".jpeg", ".png", ".gif", ".svg", ".webp", ".css", ".ttf", ".otf", ".woff", ".woff2", ".mp3", ".mp4", ".m4a")


class Folder:
    """An unpacked book's files by their names in the container. What leads out of it, by a link too, is refused."""

    def __init__(self, root: str, limit: int) -> None:
        self._root = os.path.realpath(root)
        self._limit = limit
        self._left = limit

    def about(self) -> dict[str, bytes]:
        """The files that say what the book is and whether it is protected."""
        names = (epub.CONTAINER, "META-INF/rights.xml", "META-INF/encryption.xml", "META-INF/license.lcpl", "META-INF/sinf.xml")
        return {name: data for name in names if (data := self.get(name)) is not None}

    def get(self, name: str) -> bytes | None:
        path = os.path.realpath(os.path.join(self._root, *name.split("/")))
        if not path.startswith(self._root + os.sep):
            raise MarkupError("unsafe_path", f"{name[:200]} leads out of the book")
        try:
            with _files.open_raw(path) as file:
                data = file.read(self._left + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MarkupError("unreadable", f"{name[:200]}: {error.strerror or error}") from None
        self._left -= len(data)
        if self._left < 0:
            raise MarkupError("too_large", f"the book holds more than {self._limit:,} bytes (max_record_bytes)")
        return data


# --- metadata beside a book


@functools.lru_cache(1024)
def _beside(folder: str, top: str) -> dict[str, Any]:
    """Title, author and language by `metadata.yaml` in `folder` or the one above it, but not above `top`."""
    for place in (folder, os.path.dirname(folder)) if folder != top else (folder,):
        path = os.path.join(place, _METADATA)
        try:
            with _files.open_raw(path) as file:
                data = file.read(_MOST_METADATA + 1)
        except OSError:
            continue
        if len(data) <= _MOST_METADATA:
            return _metadata(data)
    return {}


@functools.cache
def _plain_loader() -> Any:
    """A safe loader to which values with a tag of their own (`!lcsh`) are nothing."""
    loader = type("_PlainLoader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
    loader.add_multi_constructor("!", lambda *_: None)  # type: ignore[attr-defined]  # of the loader's class
    return loader


def _metadata(data: bytes) -> dict[str, Any]:
    try:
        said = yaml.load(data, Loader=_plain_loader())  # noqa: S506  it makes plain values alone
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    creator = said.get("creator")
    author = creator.get("author") if isinstance(creator, dict) else None
    numbers = said.get("identifiers")
    number = str(numbers.get("gutenberg", "")) if isinstance(numbers, dict) else ""
    name = author.get("agent_name") if isinstance(author, dict) else None
    found: dict[str, Any] = {key: said[key][:500] for key in ("title", "language") if isinstance(said.get(key), str)}
    if isinstance(name, str):
        found["authors"] = [name[:500]]
    if number.isdecimal() and len(number) < 8:
        found["gutenberg"] = int(number)
    return found
