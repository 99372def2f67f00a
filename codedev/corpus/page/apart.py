"""A page read in a process of its own, under the limits of a build (guard.py): one that hangs, crashes or eats memory ends in an error.

Cost: 0.3 s over reading it in this process, most of it the start of the other one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from codedev._errors import InputError, RunError
from codedev.corpus import guard
from codedev.corpus.engines.local import engine
from codedev.corpus.page.seen import ANY, LIMIT, Entry, View, Wanted
from codedev.corpus.source import Failure, SourceConfig

SECONDS = 30.0  # as in recipes


class Asked(NamedTuple):
    where: str  # `-` for standard input
    wanted: Wanted = ANY
    most: int = 20  # pages of an archive that are listed
    extract: str = "main"
    charset: str | None = None
    extractor: str = "codedev"
    explained: bool = True  # with blocks
    seconds: float = SECONDS  # CPU time of a page


def see(asked: Asked) -> View | list[Entry]:
    """The page that is asked for, or the first pages of an archive. InputError where there is none, or it cost more than it may."""
    piped = sys.stdin.buffer.read(LIMIT + 1) if asked.where == "-" else None
    config = SourceConfig(type="web", name="extract", paths=("-",), max_record_seconds=asked.seconds)
    before: list[guard.Death] = []

    def lost(_: object, death: guard.Death) -> None:
        if death.record is None:
            raise RunError(_ended(asked, death))
        if guard.poison(poisoned, config, death, before[-1] if before else None):
            before.clear()
        else:
            before.append(death)

    with tempfile.TemporaryDirectory(prefix="codedev-extract-") as folder, engine(1, isolated=True) as run:
        poisoned = Path(folder) / "poisoned"
        (seen,) = run(_see, [(asked, piped, config, str(poisoned))], lost)
    return seen  # type: ignore[no-any-return]  # what `_see` returns


def _ended(asked: Asked, death: guard.Death) -> str:
    if death.kind == "killed":
        return (
            f"{asked.where}: the process that read it was killed ({death.detail}), most likely for want of memory. Free some and try again"
        )
    return f"{asked.where}: {guard.ended(death)}"


# --- in the other process


def _see(given: tuple[Asked, bytes | None, SourceConfig, str]) -> View | list[Entry]:
    asked, piped, config, poisoned = given
    from codedev.corpus.page import find, view

    with guard.limits(config, Path(poisoned)):
        found = find.page(asked.where, asked.wanted, asked.most, piped)
        if isinstance(found, list):
            return found
        seen = guard.guarded(
            None, b"", view.view, found, asked.extract, asked.charset, asked.extractor, explained=asked.explained  # type: ignore[arg-type]
        )  # fmt: skip
    if isinstance(seen, Failure):
        raise InputError(_given_up(found.name, seen, asked.seconds))
    return seen


def _given_up(name: str, failure: Failure, seconds: float) -> str:
    row = f"a build of a corpus makes an error row `{failure.kind}` of it"
    if failure.kind == "timeout":
        return (
            f"{name}: took more than {seconds:g} s of CPU time and was given up; {row}. Give it more: --max-record-seconds {seconds * 10:g}"
        )
    if failure.kind == "memory":
        return f"{name}: took more memory than a page may, and was given up; {row}. Take out what makes it large, or leave the page out"
    return f"{name}: {failure.message}; {row}. Please report the page"
