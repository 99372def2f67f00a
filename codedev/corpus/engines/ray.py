"""The Ray engine: tasks on the nodes of a Ray cluster.

As the local engine it places tasks and carries their descriptors, never data: what a task reads and writes lies on storage that every node
sees under the same path, which is looked at before the first task. A host is an actor with one CPU; the task itself runs in a process of
the host's, guarded as a local worker is, so that a record that hangs or crashes costs the same and is told in the same words. A host that
is lost with its node gives its task to another one, at most TRIES times; what it still writes is written under temporary names, or is what
the other writes too.

More hosts than the cluster has CPUs wait until there are some: that is what makes a cluster with an autoscaler grow. Needs the `ray` extra.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from codedev import __version__
from codedev._errors import MissingExtraError, RunError
from codedev._run import TEMPORARY
from codedev._terminal import note
from codedev.corpus import guard
from codedev.corpus.engines.local import Lost, Run, Task, _result, _Worker

TRIES = 5  # of a task whose host was lost: nodes of which so many die at the same one most likely die of it
_LOOK = 1.0  # seconds between two looks
_PATIENCE = 20.0  # seconds without any host, after which a person is told


@contextlib.contextmanager
def engine(address: str, workers: int | None, shared: Path) -> Iterator[Run]:
    """What runs tasks on `workers` hosts of the cluster at `address` (HOST:PORT, or auto for the one of this machine), as many as it has
    CPUs when None. `shared`: the directory that every node must see.

    Raises RunError when there is no cluster, or when a node cannot take part: another codedev or Python, or no `shared`.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ours = not ray.is_initialized()
    if ours:
        _knock(address)
        try:
            ray.init(address=address, log_to_driver=True, logging_level=logging.ERROR, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise _no_cluster(address, _first(error)) from None
    marker = shared / f"{TEMPORARY}ray-{uuid.uuid4().hex}"  # of a driver that was killed the next one sweeps it
    hosts = _Hosts(ray, workers or _cpus(ray), marker)

    def run(task: Task, arguments: Iterable[Any], lost: Lost | None = None) -> Iterator[Any]:
        return _run(hosts, task, arguments, lost)

    try:
        marker.touch()
        yield run
    finally:
        marker.unlink(missing_ok=True)
        hosts.end()
        if ours:
            ray.shutdown()


class _Host:
    """A handle to an actor, and the argument it has."""

    def __init__(self, ray: Any, marker: Path) -> None:
        # A host is not started again by Ray: what it had is given to another one, which is counted.
        remote = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD")(Host)
        self.actor = remote.remote(str(marker), _facts())
        self.argument: Any = None


class _Hosts:
    """Those of a run: `coming` until the cluster has a CPU for them, which may be never, and `idle` between tasks."""

    def __init__(self, ray: Any, size: int, marker: Path) -> None:
        self.ray, self.size, self._marker = ray, size, marker
        self.coming: dict[Any, _Host] = {}
        self.idle: list[_Host] = []
        self.busy: dict[Any, _Host] = {}

    def call(self) -> None:
        """Have one more come, unless there are as many as may be."""
        if len(self.coming) + len(self.idle) + len(self.busy) < self.size:
            host = _Host(self.ray, self._marker)
            self.coming[host.actor.unfit.remote()] = host

    def end(self) -> None:
        for host in [*self.coming.values(), *self.idle, *self.busy.values()]:
            with contextlib.suppress(Exception):
                self.ray.kill(host.actor)


def _run(hosts: _Hosts, task: Task, arguments: Iterable[Any], lost: Lost | None) -> Iterator[Any]:
    ray, source = hosts.ray, iter(arguments)
    again: deque[Any] = deque()
    tries: dict[int, int] = {}  # by the argument's place in memory, as long as it is tried again
    waited = time.monotonic()
    left = True
    while True:
        while left or again:
            if not hosts.idle:
                hosts.call()
                break
            argument = again.popleft() if again else next(source, None)
            if argument is None:
                left = False
                break
            host = hosts.idle.pop()
            host.argument = argument
            hosts.busy[host.actor.run.remote(task, argument)] = host
        if not (hosts.busy or left or again):
            return
        ready, _ = ray.wait([*hosts.busy, *hosts.coming], num_returns=1, timeout=_LOOK)
        if ready or hosts.busy:
            waited = time.monotonic()
        elif time.monotonic() - waited > _PATIENCE:
            waited = math.inf
            note(f"no node of the Ray cluster has a free CPU since {_PATIENCE:g} s: waiting for one")
        for reference in ready:
            host = hosts.busy.pop(reference) if reference in hosts.busy else hosts.coming[reference]
            came = hosts.coming.pop(reference, None) is not None
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayActorError as error:  # the host, its node, or the way to it
                if not came:
                    tries[id(host.argument)] = tried = tries.get(id(host.argument), 0) + 1
                    if tried >= TRIES:
                        raise RunError(
                            f"a host of the Ray cluster was lost {TRIES} times at the same task ({_first(error)}). Look at the logs of its "
                            "nodes, and run the same command again: finished work is kept"
                        ) from None
                    again.append(host.argument)
                continue
            except ray.exceptions.RayTaskError as error:  # of the host itself; those of tasks are told
                raise RunError(f"a host of the Ray cluster failed: {_first(error.cause or error)}") from error
            if came:
                if answer is not None:
                    raise RunError(answer)
                hosts.idle.append(host)
                continue
            kind, told = answer
            hosts.idle.append(host)
            if kind == "lost":
                if lost is None:
                    raise RunError(guard.ended(told))
                lost(host.argument, told)
                again.append(host.argument)
                continue
            tries.pop(id(host.argument), None)
            yield _result(*told)


def _knock(address: str) -> None:
    """RunError where nothing listens: Ray itself would try for two minutes."""
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise RunError(
            f"--ray-address {address}: is no HOST:PORT. Give that of the cluster's head, as `ray start --head` prints it, or auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, _first(error)) from None


def _no_cluster(address: str, why: str) -> RunError:
    return RunError(f"--ray-address {address}: no Ray cluster answers there ({why}). Start one with: ray start --head")


def _cpus(ray: Any) -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _first(error: Any) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _facts() -> dict[str, str]:
    """What must be the same on all nodes, for the bytes they write to be."""
    libraries = {name: version(name) for name in ("numpy", "numba", "polars", "pyarrow")}
    return {"codedev": __version__, "Python": f"{sys.version_info.major}.{sys.version_info.minor}", **libraries}


# --- on the nodes


class Host:
    """An actor: runs one task at a time in a guarded process of its own."""

    def __init__(self, marker: str, facts: dict[str, str]) -> None:
        self._worker: _Worker | None = None
        self._unfit = _unfit(Path(marker), facts)

    def unfit(self) -> str | None:
        """Why nothing can be run here."""
        return self._unfit

    def run(self, task: Task, argument: Any) -> tuple[str, Any]:
        """("answer", what _result takes) or ("lost", how its process died)."""
        worker = self._worker = self._worker or _started()
        worker.give(task, argument)
        while not wait([worker.connection], guard.LOOK_SECONDS):
            worker.look()
        try:
            return "answer", worker.connection.recv()
        except (EOFError, ConnectionError):
            self._worker = None
            return "lost", worker.death()


def _unfit(marker: Path, facts: dict[str, str]) -> str | None:
    """Why this node cannot take part."""
    node = os.uname().nodename
    ours = _facts()
    for name, wanted in facts.items():
        if ours.get(name) != wanted:
            return f"the Ray node {node} has {name} {ours.get(name)}, this machine {wanted}. Install the same on all nodes"
    if not marker.exists():
        return f"the Ray node {node} does not see {marker.parent}. Put --out and the sources where all nodes have them under the same path"
    return None


def _started() -> _Worker:
    """A process that does not import what Ray's own main module does: 0.5 s and 60 MB."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__}
    main.__dict__["__spec__"] = None
    try:
        return _Worker()
    finally:
        main.__dict__.update(hidden)
