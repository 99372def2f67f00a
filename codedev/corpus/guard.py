"""What a record may cost: one that hangs or crashes native code, or eats memory, costs its worker and becomes an error row.

A worker keeps a note, a few numbers in memory that it shares with its parent: which record it reads. The parent (engines/local.py) looks
at the notes LOOK_SECONDS apart and kills a worker whose record has taken more CPU time or memory than it may, which no native code can
put off. Who dies while reading a record, by the parent's hand or by a crash, leaves the note; the record joins the unit's list of
poisoned ones in `.work/scored/<key>.poisoned`, and the unit is done again from its start. There `guarded` gives a Failure in the
record's place without reading it:

    timeout   more CPU time than `max_record_seconds` (of a worker that sleeps: 20 times as long by the clock)
    memory    more than 64 x `max_record_bytes` over what the worker held when the unit began, or killed twice at the same record
    crash     ended by a signal of its own (SIGSEGV, SIGABRT, …) or by an exit

The list is kept, so that a run that is killed and resumed does not hang again, and the output does not depend on how often workers died.
A time limit is no property of the bytes alone: a record that needs about the limit may be kept on one machine and given up on another.
30 seconds is a thousand times what a large page takes, so that only what truly hangs meets it.

Cost: 0.4 µs a record in a worker, 15 µs a look. Sources say which of their work is guarded, with one call a record; framing, stages and
barriers are not. Nothing is watched where records are read in the caller's own process. Where there is no /proc, only the clock counts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import orjson

from codedev._errors import RunError
from codedev._run import atomic_write, canonical_json
from codedev.corpus.document import RAW_PREFIX
from codedev.corpus.source import Extent, Failure, SourceConfig

P = ParamSpec("P")
T = TypeVar("T")

KINDS = ("timeout", "memory", "crash")
LOOK_SECONDS = 0.2
MOST_POISONED = 20  # records of one unit; each costs the unit's work once more
_ASLEEP = 20  # times the limit on the clock, for what hangs without working
_MEMORY = 64  # times max_record_bytes: 4 GiB; the tree of a page of empty elements takes about 50 times its bytes

# The note, 64-bit integers. _RECORD counts the records of the process and is written last: while it is 0, none is being read. _BEFORE is
# the count when the present extent began, so that a record is known by its number in the extent, which reading it again gives again.
_RECORD, _BEFORE, _EXTENT, _OFFSET, _MILLISECONDS, _BYTES = range(6)
NOTE_FIELDS = 6
Note = Any  # a sharedctypes array of NOTE_FIELDS; read and written as a memoryview, at half the cost


class Place(NamedTuple):
    """A record of a unit."""

    extent: int  # index of its extent in the unit
    number: int  # of the record among those of the extent that are guarded, from 1


class Death(NamedTuple):
    """How a worker ended, and at which record."""

    kind: str  # of KINDS, or `killed` from outside: nobody knows yet whose fault it was
    detail: str  # SIGSEGV, exit code 3
    record: Place | None
    offset: int | None  # of the record, where it has one


def _numbers(note: Note) -> memoryview[int]:
    return memoryview(note).cast("B").cast("q")


# --- in the worker


_note = memoryview(array("q", [0] * NOTE_FIELDS))
_poisoned: dict[Place, tuple[str, str]] = {}
_count = 0


def keep_note(note: Note) -> None:
    """From now on this process says in `note` what it is reading."""
    global _note
    _note = _numbers(note)


@contextlib.contextmanager
def limits(config: SourceConfig, poisoned: Path) -> Iterator[None]:
    """For a unit: what its records may take, and which of them not to read."""
    global _poisoned
    _note[_EXTENT], _note[_BEFORE] = 0, _count
    _poisoned = {Place(*place): (kind, message) for place, kind, message in _read(poisoned)}
    held = resident(os.getpid())
    _note[_MILLISECONDS] = int(config.max_record_seconds * 1000)
    _note[_BYTES] = held + _MEMORY * config.max_record_bytes if held else 0
    try:
        yield
    finally:
        _poisoned = {}


def numbered(extents: Iterable[Extent]) -> Iterator[Extent]:
    """The extents, each noted when its turn has come."""
    for index, extent in enumerate(extents):
        _note[_EXTENT], _note[_BEFORE] = index, _count
        yield extent


def guarded(offset: int | None, raw: bytes, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Failure:
    """`read(*args)`, for a record whose bytes are `raw`; a Failure without reading it, if it has cost a worker before. Not to be nested."""
    global _count
    _count += 1
    if _poisoned and (found := _poisoned.get(Place(_note[_EXTENT], _count - _note[_BEFORE]))):
        return Failure(*found, offset, raw=raw[:RAW_PREFIX])
    _note[_OFFSET] = -1 if offset is None else offset
    _note[_RECORD] = _count
    try:
        return read(*args, **kwargs)
    except MemoryError:
        return Failure("memory", "there was not enough memory to read it", offset, raw=raw[:RAW_PREFIX])
    finally:
        _note[_RECORD] = 0


# --- in the parent


class Watch:
    """Looks at one worker. `look` says `timeout` or `memory` once its record has had more than it may."""

    def __init__(self, pid: int, note: Note) -> None:
        self._pid, self._note = pid, _numbers(note)
        self._record = 0
        self._looks = 0
        self._since = 0.0
        self._verdict: Death | None = None

    def look(self) -> bool:
        """True: its record has had more than it may, the worker is to be killed."""
        record, used = self._note[_RECORD], cpu_seconds(self._pid)
        if record != self._record:
            self._record, self._since, self._looks = record, used, 0
        if not record:
            return False
        self._looks += 1  # not the clock: a run that was stopped for an hour has done nothing wrong
        limit = self._note[_MILLISECONDS] / 1000
        if 0 < self._note[_BYTES] < resident(self._pid):
            kind = "memory"
        elif used - self._since > limit or self._looks * LOOK_SECONDS > _ASLEEP * limit:
            kind = "timeout"
        else:
            return False
        death = self._death(kind, "over its limit")
        if self._note[_RECORD] == record:  # then that is its death, even if it should end before the kill arrives
            self._verdict = death
        return self._verdict is not None

    def death(self, exitcode: int | None) -> Death:
        """How the worker ended: by the verdict of the last look, or by itself."""
        if self._verdict:
            return self._verdict
        detail = signal.Signals(-exitcode).name if exitcode and exitcode < 0 else f"exit code {exitcode}"
        outside = detail in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT")
        return self._death("killed" if outside else "crash", detail)

    def _death(self, kind: str, detail: str) -> Death:
        record, before, extent, offset = self._note[:_MILLISECONDS]
        return Death(kind, detail, Place(extent, record - before) if record else None, offset if record and offset >= 0 else None)


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process; 0 where the system does not tell. 0.5 µs."""
    try:
        return time.clock_gettime((~pid << 3) | 2) if sys.platform == "linux" else 0.0  # clock_getcpuclockid(3)
    except OSError:
        return 0.0


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 where the system does not tell. 12 µs."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


def poison(path: Path, config: SourceConfig, death: Death, before: Death | None) -> bool:
    """Add the record that a worker died of to its unit's list. False: the unit gets another try as it is, for the worker was killed from
    outside. RunError where a further try would not end better; `before` is how the unit's last worker was killed from outside."""
    if death.record is None or (death.kind == "killed" and before and before.record != death.record):
        raise RunError(f"{config.name}: {ended(death)}")
    if death.kind == "killed" and before is None:
        return False
    listed = _read(path)
    if any(tuple(place) == death.record for place, _, _ in listed):
        raise RunError(
            f"{config.name}: a record that was to be passed over was read all the same. This is a bug in codedev; please report it"
        )
    if len(listed) >= MOST_POISONED:
        raise RunError(
            f"{config.name}: more than {MOST_POISONED} records of one work unit cost their worker. Take their files out of `paths` "
            "(events.jsonl names them), or lower max_record_bytes; finished work is kept"
        )
    kind = "memory" if death.kind == "killed" else death.kind
    listed.append((list(death.record), kind, _message(death, config)))
    with atomic_write(path) as temporary:
        temporary.write_bytes(canonical_json(sorted(listed)))
    return True


def _message(death: Death, config: SourceConfig) -> str:
    match death.kind:
        case "timeout":
            limit = f"max_record_seconds = {config.max_record_seconds:g}"
            return f"reading it took more than {limit}: its worker was ended. Raise the limit if the record is worth it"
        case "memory":
            limit = f"{_MEMORY} x max_record_bytes = {_MEMORY * config.max_record_bytes:,} bytes"
            return f"reading it took more than {limit} of memory: its worker was ended"
        case "killed":
            return f"its worker was killed twice while reading it ({death.detail}), most likely for want of memory"
        case _:
            return f"native code crashed while reading it ({death.detail})"


def ended(death: Death) -> str:
    """What there is to say of a worker's death where no record can be given up for it."""
    if death.kind == "crash":
        return f"a worker process crashed ({death.detail}). This is a bug in codedev or in a library of its; please report it"
    return (
        f"a worker process was killed ({death.detail}), most likely for want of memory. Run the same command again with fewer --workers: "
        "finished work is kept"
    )


def _read(path: Path) -> list[tuple[list[int], str, str]]:
    try:
        return [(place, kind, message) for place, kind, message in orjson.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
