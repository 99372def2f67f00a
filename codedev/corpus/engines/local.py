"""The local engine: tasks on N processes of this machine.

It places tasks and carries their descriptors, never data. A worker has one task at a time and gets the next the moment its result is
there (0.1 ms later), so that a plan of millions of units is streamed and the last ones are shared out evenly. A worker that dies is
replaced; whether its task is tried again is the caller's to say. Workers end with their parent, also when that is killed and they are
deep in native code, so that none writes beside the next run. Starting one takes 0.7 s. Without workers, tasks run in this process.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from codedev._errors import CodedevError, RunError
from codedev.corpus import guard

Task = Callable[[Any], Any]
Lost = Callable[[Any, guard.Death], None]  # the argument whose worker died, and how: raises, or returns to have it tried again


class Run(Protocol):
    def __call__(self, task: Task, arguments: Iterable[Any], lost: Lost | None = None) -> Iterator[Any]:
        """`task(argument)` for each argument, in order of completion. `task` must be importable."""


@contextlib.contextmanager
def engine(workers: int, *, isolated: bool | None = None, ready: int = 0) -> Iterator[Run]:
    """What runs tasks on `workers` processes, of which `ready` start at once and import the libraries, the others when they are needed.
    `isolated=False`: in this one, without a guard, as a debugger wants it; that is also what one worker means unless `isolated=True` asks
    for a process of its own, which a hang or a crash may cost."""
    if not (workers > 1 if isolated is None else isolated):
        yield _run_here
        return
    pool: set[_Worker] = set()

    def run(task: Task, arguments: Iterable[Any], lost: Lost | None = None) -> Iterator[Any]:
        return _run(pool, workers, task, arguments, lost)

    try:
        pool.update(_Worker(early=True) for _ in range(min(ready, workers)))
        yield run
    except BaseException:
        for worker in pool:
            worker.process.kill()  # what it was writing stays under a temporary name; waiting for its unit could take a minute
        raise
    finally:
        for worker in pool:
            worker.connection.close()  # an idle worker ends by that
        for worker in pool:
            worker.process.join()


def _run_here(task: Task, arguments: Iterable[Any], lost: Lost | None = None) -> Iterator[Any]:
    return map(task, arguments)


def _run(pool: set[_Worker], size: int, task: Task, arguments: Iterable[Any], lost: Lost | None) -> Iterator[Any]:
    source = iter(arguments)
    again: deque[Any] = deque()
    busy: dict[Connection, _Worker] = {}
    results: list[Any] = []
    looked = time.monotonic()
    while True:
        while len(busy) < size and (argument := again.popleft() if again else next(source, None)) is not None:
            worker = next((worker for worker in pool if worker.connection not in busy), None) or _Worker()
            pool.add(worker)
            worker.give(task, argument)
            busy[worker.connection] = worker
        yield from results
        if not busy:
            return
        results = []
        for connection in wait(list(busy), guard.LOOK_SECONDS):
            worker = busy.pop(connection)  # type: ignore[call-overload]  # what went in comes out
            try:
                answer = worker.connection.recv()
            except (EOFError, ConnectionError):
                pool.discard(worker)
                death = worker.death()
                if lost is None:
                    raise RunError(guard.ended(death)) from None
                lost(worker.argument, death)
                again.append(worker.argument)
            else:
                results.append(_result(*answer))
        if time.monotonic() - looked >= guard.LOOK_SECONDS:
            looked = time.monotonic()
            for worker in busy.values():
                worker.look()


def _result(result: Any, error: Exception | None, trace: str) -> Any:
    if error is None:
        return result
    if not isinstance(error, CodedevError):
        error.add_note(f"in a worker:\n{trace}")
    raise error


class _Worker:
    """A process, the pipe to it, its note, and the argument it has."""

    def __init__(self, *, early: bool = False) -> None:
        # spawn: a fork of a process with threads (Arrow, polars, progress bars) can deadlock
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        note = context.RawArray("q", guard.NOTE_FIELDS)
        self.process = context.Process(target=_work, args=(theirs, note, os.getpid(), early), daemon=True)
        self.argument: Any = None
        # Inherited from their first moment on: Ctrl-C is the parent's to handle. The first start of a process starts the resource tracker
        # too, which unblocks SIGINT once it runs: so it must run before.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        assert self.process.pid
        self._watch = guard.Watch(self.process.pid, note)

    def give(self, task: Task, argument: Any) -> None:
        self.argument = argument
        with contextlib.suppress(ConnectionError):  # it has died: the end of the pipe will tell
            self.connection.send((task, argument))

    def look(self) -> None:
        if self._watch.look():
            self.process.kill()

    def death(self) -> guard.Death:
        self.connection.close()
        self.process.join()
        return self._watch.death(self.process.exitcode)


# --- in the worker


def _work(connection: Connection, note: guard.Note, parent: int, early: bool) -> None:
    _settle(parent)
    guard.keep_note(note)
    if early:
        _import_libraries()
    done: tuple[Any, Exception | None, str]
    with contextlib.suppress(EOFError, OSError):  # the parent has gone or needs no more
        while True:
            task, argument = connection.recv()
            try:
                done = (task(argument), None, "")
            except Exception as error:
                done = (None, _portable(error), traceback.format_exc())
            connection.send(done)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what a task wrote is on disk: taking the interpreter and LLVM apart takes 0.2 s more


def _portable(error: Exception) -> Exception:
    """The error, or one like it where it cannot be made again on the other side."""
    try:
        return copy.copy(error)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _settle(parent: int) -> None:
    """One thread for each library, and an end when the parent's end comes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: native code that holds the GIL lets no thread look
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ.update(POLARS_MAX_THREADS="1", OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def _import_libraries() -> None:
    """What the modules of every task import, while the parent has no task yet: half of the 1.5 s before the first one. None of codedev's
    own: the parent may be compiling its kernels."""
    with contextlib.suppress(ImportError):  # the task's own import tells
        importlib.import_module("polars")
        importlib.import_module("pyarrow.parquet")
        importlib.import_module("numba.np.arraymath")


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
