"""The run directory: atomic writes, hashes, receipts, the event log, the lock.

A file is written whole or not at all: to a temporary name beside it, flushed to disk, renamed. A receipt is written after the files
it names and holds their hashes; work whose receipt still matches its files is not done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import orjson
import xxhash

from codedev._errors import InputError, RunError

TEMPORARY = ".tmp-codedev-"  # prefix of files being written; what a killed run left is removed by `sweep`
_HOST = xxhash.xxh32_hexdigest(os.uname().nodename.encode())  # two containers may write the same file, each as its process 1


class Progress(Protocol):
    """What long work tells whoever watches: `done` of `total` (None = not known yet) of whatever `what` counts, and a word on it."""

    def __call__(self, what: str, done: int, total: int | None, note: str = "") -> None: ...


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path to write to; renamed to `path` on success, removed on failure. Parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{_HOST}-{os.getpid()}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, obj: Any) -> None:
    """`obj` as canonical JSON (sorted keys, two spaces, newline at the end), written atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(canonical_json(obj, indent=True) + b"\n")


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: is not valid JSON: {error}") from None


def canonical_json(obj: Any, *, indent: bool = False) -> bytes:
    # `default`: named tuples as lists
    return orjson.dumps(obj, default=list, option=orjson.OPT_SORT_KEYS | (orjson.OPT_INDENT_2 if indent else 0))


def content_key(*parts: Any) -> str:
    """32 hex digits that name work by everything that decides its output."""
    return xxhash.xxh3_128_hexdigest(canonical_json(parts))


def file_hash(path: Path | str) -> str:
    """xxh3-128 of the file's bytes as 32 hex digits; about 5 GB/s from the page cache."""
    digest = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_receipt(path: Path, outputs: list[Path], facts: dict[str, Any]) -> dict[str, Any]:
    """Written last: the facts of a piece of work and the hashes of what it wrote (paths relative to the receipt)."""
    hashes = {os.path.relpath(output, path.parent): file_hash(output) for output in outputs}
    receipt = {**facts, "outputs": hashes}
    write_json(path, receipt)
    return receipt


def read_receipt(path: Path) -> dict[str, Any] | None:
    """The receipt, or None when it is missing, unreadable, or a file it names is missing or has changed."""
    try:
        receipt: dict[str, Any] = orjson.loads(path.read_bytes())
        if all(file_hash(path.parent / name) == digest for name, digest in receipt["outputs"].items()):
            return receipt
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None


@contextlib.contextmanager
def locked(directory: Path, named: str = "--out", *, shared: bool = False) -> Iterator[None]:
    """Hold the directory for this process; a second run on it is refused. The kernel frees the lock when the process dies.

    `named`: the option or key that gave it, for people. `shared`: only against those that do not share it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"{directory}: cannot be written: {error.strerror}. Choose another {named}") from None
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"{directory}: another run is writing here; wait for it, or choose another directory") from None
        yield
    finally:
        os.close(handle)


def held(directory: Path) -> bool:
    """Whether a process holds the directory's lock. Asks for it without waiting, for a moment, as a reader."""
    try:
        handle = os.open(directory / ".lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def sweep(directory: Path) -> None:
    """Remove what a killed run left half-written."""
    for folder, folders, files in os.walk(directory):  # what cannot be listed is passed over
        for name in filter(lambda name: name.startswith(TEMPORARY), files):
            Path(folder, name).unlink(missing_ok=True)
        for name in filter(lambda name: name.startswith(TEMPORARY), folders):
            shutil.rmtree(Path(folder, name), ignore_errors=True)


def no_progress(what: str, done: int, total: int | None, note: str = "") -> None:
    """For callers that do not watch."""


class Events:
    """`events.jsonl`: what happened and when. The one file of a run that holds wall-clock time."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "events.jsonl"

    def log(self, event: str, **facts: Any) -> None:
        # The standard library's JSON: a path that is no UTF-8 is a fact too.
        line = json.dumps({"time": round(time.time(), 3), "event": event, **facts}).encode()
        with open(self._path, "ab") as file:
            file.write(line + b"\n")
