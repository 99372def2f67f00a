"""The local engine: tasks on N processes of this machine.

It places tasks and carries their descriptors, never data. At most 2 tasks a worker are in flight, so that a plan of millions of units is
streamed. One worker means this process. Workers end with their parent, also when that is killed, so that none writes beside the next run.
"""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from codedev._errors import RunError

Task = Callable[[Any], Any]
Run = Callable[[Task, Iterable[Any]], Iterator[Any]]  # results in order of completion


@contextlib.contextmanager
def engine(workers: int) -> Iterator[Run]:
    """A function that runs `task(argument)` for each argument and yields the results as they come. `task` must be importable."""
    if workers == 1:
        yield lambda task, arguments: map(task, arguments)
        return
    others = set(multiprocessing.active_children())
    # spawn: a fork of a process with threads (Arrow, polars, progress bars) can deadlock
    pool = futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(os.getpid(),))
    try:
        yield lambda task, arguments: _run(pool, 2 * workers, task, arguments)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()  # what it was writing stays under a temporary name; waiting for its unit could take a minute
        raise
    pool.shutdown()


def _run(pool: futures.ProcessPoolExecutor, window: int, task: Task, arguments: Iterable[Any]) -> Iterator[Any]:
    waiting: set[futures.Future[Any]] = set()
    source = iter(arguments)
    try:
        while True:
            while len(waiting) < window and (argument := next(source, None)) is not None:
                waiting.add(_submit(pool, task, argument))
            if not waiting:
                return
            done, waiting = futures.wait(waiting, return_when=futures.FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise RunError(
            "a worker process was killed, most likely for want of memory. Run the same command again with fewer --workers: "
            "finished work is kept"
        ) from None


def _submit(pool: futures.ProcessPoolExecutor, task: Task, argument: Any) -> futures.Future[Any]:
    """Workers start here, and inherit that SIGINT is held back: Ctrl-C is the parent's to handle, from their first moment on."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(task, argument)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(parent: int) -> None:
    """One thread for each library in each worker, and an end when the parent's end comes."""
    os.environ.update(POLARS_MAX_THREADS="1", OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
