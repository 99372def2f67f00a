"""A source whose lines do what their first word says, inside native code: for test_corpus_guard.py, in its workers too.

`python guard_support.py ARGUMENT…` is the `codedev` command with this source in it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from codedev import _files
from codedev.corpus import sources
from codedev.corpus.guard import guarded, limits, numbered
from codedev.corpus.source import Document, Drop, Extent, Failure, SourceConfig

VERSION = 1
SECONDS = 0.3  # of CPU time, for a record


def register() -> None:
    sources.SOURCES["wild"], sources.DEFAULT_KIND["wild"] = "guard_support", "web"


def unregister() -> None:
    del sources.SOURCES["wild"], sources.DEFAULT_KIND["wild"]


if multiprocessing.parent_process():  # a worker
    register()


class Config(SourceConfig):
    type: Literal["wild"] = "wild"


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    for found in _files.expand(config.paths, base):
        yield Extent(found.path, found.name, 0, -1, found.size)


def read(extent: Extent, config: Config, base: Path) -> Iterator[Document | Drop | Failure]:
    offset = 0
    for line in Path(extent.file).read_bytes().splitlines(keepends=True):
        yield guarded(offset, line, _document, line.decode().rstrip("\n"), offset, extent)
        offset += len(line)


def _document(line: str, offset: int, extent: Extent) -> Document | Drop:
    held: list[Any] = []
    match line.split(" "):
        case ["hang", *flag]:
            for name in flag:
                Path(name).touch()
            re.match(r"(a+)+$", "a" * 60 + "b")  # longer than the sun will shine, with the GIL held
        case ["sleep", *_]:
            ctypes.PyDLL(None).sleep(3600)
        case ["segfault", *_]:
            ctypes.string_at(0)
        case ["abort", *_]:
            os.abort()
        case ["exit", *_]:
            os._exit(3)
        case ["killed", *_]:  # as the kernel does when memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
        case ["killed-once", flag, *_]:
            if not Path(flag).exists():
                Path(flag).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case ["parse", *_]:  # 70 KB: every paragraph opens all elements before it again, 12 million in the end, 4 GB
            held.append(HTMLTree.parse("".join(f"<p><b id={n}>" for n in range(5_000))))
        case ["extract", *_]:  # 500 KB of nested elements: over a minute
            held.append(extract_plain_text(HTMLTree.parse("<div>" * 100_000), main_content=True))
        case ["refused", *_]:
            held.append(bytearray(1 << 60))
        case ["slow", seconds, *_]:
            end = time.process_time() + float(seconds)
            while time.process_time() < end:
                pass
        case ["drop", *_]:
            return Drop(f"{extent.name}:{offset}", "unwanted", offset=offset)
    return Document(f"{extent.name}:{offset}", line, offset, len(line))


# --- tasks for the engine alone: without a build, a worker is there in a third of the time


def read_lines(folder: Path, units: list[list[str]], unit: int) -> tuple[int, list[Document | Drop | Failure]]:
    """What becomes of the lines of a unit."""
    if units[unit] == ["unguarded"]:
        ctypes.string_at(0)
    extent = Extent("a", "a", 0, -1, 0)
    config = Config(name="wild", paths=("a",), max_record_seconds=SECONDS, max_record_bytes=1 << 20)
    with limits(config, folder / f"{unit}.poisoned"):
        lines = ((number, line) for _ in numbered([extent]) for number, line in enumerate(units[unit]))
        return unit, [guarded(number, line.encode(), _document, line, number, extent) for number, line in lines]


def square_or_die(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 13:
        raise ValueError("thirteen")
    return number * number


def name_of_worker(_: int) -> int:
    time.sleep(0.02)
    return os.getpid()


if __name__ == "__main__":
    import guard_support  # by the name that workers know it by

    guard_support.register()

    from codedev.cli import main

    main()
