"""The outside of the sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple

from codedev._errors import RunError
from codedev.eval.sandbox.calls import seccomp_filter

LAYERS = ("namespaces", "landlock", "limits", "seccomp")
Policy = Literal["strict", "lenient"]
_CAPSET = {"x86_64": 126, "aarch64": 91}
_OUTPUT = 1 << 16  # bytes that a program may print
_DISK = 16 << 20


class Outcome(NamedTuple):
    passed: bool  # the program came to its end: nothing was raised, nothing cut it short
    status: str  # "passed", "time", "output", "memory", or the last line that was printed, such as "AssertionError"
    output: str  # what it printed, at most 64 KB
    layers: tuple[str, ...]  # that stood while it ran
    seconds: float


def check(policy: Policy = "strict") -> tuple[str, ...]:
    """The layers that this machine offers. Raises RunError under `strict` when one is missing."""
    return _check(policy)


def run(program: str, *, seconds: float = 5.0, memory: int = 512 << 20, policy: Policy = "strict") -> Outcome:
    """Run a Python program; it has `seconds` of wall-clock time, and of CPU time rounded up, and `memory` bytes of address space.

    The program is candidate and tests in one text, the tests last: it has passed when its last line was reached. Raises RunError when a
    layer is missing and the policy is `strict`; `lenient` runs it behind those that there are, for programs that one would run anyway.
    """
    _check(policy)
    return _run(program, seconds, memory, LAYERS if policy == "strict" else ())


def run_many(
    programs: Iterable[str], *, workers: int | None = None, seconds: float = 5.0, memory: int = 512 << 20, policy: Policy = "strict"
) -> Iterator[Outcome]:
    """`run` of each, several at once (default: one for each core), in their order."""
    _check(policy)
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        needed = LAYERS if policy == "strict" else ()
        yield from pool.map(lambda program: _run(program, seconds, memory, needed), programs)


@cache
def _check(policy: Policy) -> tuple[str, ...]:
    if not sys.platform.startswith("linux"):
        if policy == "strict":
            raise RunError(f"the sandbox needs Linux, this is {sys.platform}. Set the policy to lenient to run programs without walls")
        return ()
    found = _run("", 30.0, 512 << 20, ()).layers
    if policy == "strict" and (missing := [layer for layer in LAYERS if layer not in found]):
        raise RunError(
            f"the sandbox has no {', '.join(missing)} on this machine (kernel {platform.release()}, {platform.machine()}), and programs "
            "that a model wrote are not run without. Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or a container that "
            "may), use a kernel of 5.13 or later, or set the policy to lenient"
        )
    return found


@cache
def _inside() -> str:
    return resources.files("codedev.eval.sandbox").joinpath("inside.py").read_text(encoding="utf-8")


@cache
def _readable() -> list[str]:
    """What an interpreter reads: its own library without what an environment has beside it, the C library."""
    own = [os.path.join(sys.base_prefix, "lib", name) for name in (f"python{sys.version_info.major}.{sys.version_info.minor}", "python3")]
    shared = [f"{top}/lib/{machine}-linux-gnu" for top in ("", "/usr") for machine in _CAPSET]
    others = ["/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/dev/zero", "/usr/share/zoneinfo"]
    return [path for path in (*own, *shared, *others) if os.path.exists(path)]


def _run(program: str, seconds: float, memory: int, needed: tuple[str, ...]) -> Outcome:
    started = time.monotonic()
    try:
        source = program.encode()
        compile(b"", "<program>", "exec")
    except UnicodeEncodeError:
        return Outcome(False, "is no UTF-8", "", (), 0.0)
    word = secrets.token_hex(16)
    folder = tempfile.mkdtemp(prefix="codedev-sandbox-")
    filtered = seccomp_filter()
    orders = {
        "word": word,
        "folder": folder,
        "disk": _DISK,
        "readable": _readable(),
        "filter": filtered.hex() if filtered else None,
        "needed": needed,
        "capset": _CAPSET.get(platform.machine(), -1),
        "limits": {
            "RLIMIT_AS": memory, "RLIMIT_CPU": int(seconds) + 1, "RLIMIT_FSIZE": _DISK, "RLIMIT_NOFILE": 64, "RLIMIT_CORE": 0,
            "RLIMIT_NPROC": 64,
        },
    }  # fmt: skip
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _inside()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(orders).encode() + b"\n" + source)
            process.stdin.close()
        except BrokenPipeError:
            pass
        printed, ended = _read(process, started + seconds)
        if ended == "":
            try:
                process.wait(max(0.0, started + seconds - time.monotonic()) + 0.5)
            except subprocess.TimeoutExpired:
                ended = "time"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _outcome(printed, ended, process.returncode, word, needed, time.monotonic() - started)


def _read(process: subprocess.Popen[bytes], until: float) -> tuple[bytes, str]:
    """What the program prints until it ends, and why it was ended: "" where it was not."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    printed = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = until - time.monotonic()
            if left <= 0:
                return bytes(printed), "time"
            if selector.select(left):
                piece = process.stdout.read(1 << 16)
                if not piece:
                    return bytes(printed), ""
                printed += piece
                if len(printed) > _OUTPUT:
                    return bytes(printed[:_OUTPUT]), "output"


def _outcome(printed: bytes, ended: str, code: int, word: str, needed: tuple[str, ...], seconds: float) -> Outcome:
    first, _, rest = printed.decode("utf-8", "replace").partition("\n")
    layers = tuple(first.removeprefix("LAYERS").split()) if first.startswith("LAYERS") else ()
    passed = not ended and code == 0 and rest.endswith(f"\n{word}\n") and set(needed) <= set(layers)
    if passed:
        return Outcome(True, "passed", rest[: -len(word) - 2], layers, seconds)
    lines = rest.strip().splitlines()
    last = lines[-1][:200] if lines else f"exit {code}"
    if not ended and needed and not set(needed) <= set(layers):
        last = "the sandbox could not be made"
    elif last.startswith("MemoryError") or code in (-9, 137):
        last = "memory" if last.startswith("MemoryError") else "time"  # killed: by the limit on CPU time
    return Outcome(False, ended or last, rest, layers, seconds)
