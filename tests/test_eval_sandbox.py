"""The sandbox against programs that try to get out, and with every layer taken away in turn."""

from __future__ import annotations

import os
import platform
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

from codedev._errors import RunError
from codedev.eval.sandbox import LAYERS, check, outside, run
from codedev.eval.sandbox.calls import PROCESSORS, REFUSED, seccomp_filter


@pytest.fixture(autouse=True)
def walls() -> None:
    try:
        check("strict")
    except RunError as error:
        pytest.skip(str(error))


def test_a_program_runs() -> None:
    done = run("import json, re, math, random, collections, itertools, datetime, heapq\nprint(json.dumps({'a': math.pi}))\nassert 1")
    assert done.passed
    assert done.output == '{"a": 3.141592653589793}\n'
    assert done.layers == LAYERS
    assert run("").passed
    assert run("open('x', 'w').write('é' * 1000); assert open('x').read() == 'é' * 1000; import os; assert os.listdir() == ['x']").passed
    assert run("import threading\nt = threading.Thread(target=print, args=('x',)); t.start(); t.join()").output == "x\n"
    assert run("x = 1\ndef f():\n    return x\nassert f() == 1\nif __name__ == '__main__': print(__name__)").output == "__main__\n"


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("assert False", "AssertionError"),
        ("raise ValueError('a\\nb')", "b"),
        ("1/0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("\x00", "SyntaxError: source code string cannot contain null bytes"),
        ("\ud800", "is no UTF-8"),
        ("import os; os._exit(0)", "exit 0"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise BaseException('no')", "BaseException: no"),
        ("import ctypes; ctypes.string_at(0)", "exit 139"),
        ("while True: pass", "time"),
        ("import time; time.sleep(100)", "time"),
        ("while True: print('x' * 1000)", "output"),
        ("x = bytearray(10**9)", "memory"),
        ("x = [0]\nwhile True: x *= 2", "memory"),
        ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("print('LAYERS namespaces', flush=True); import os; os._exit(0)", "LAYERS namespaces"),
    ],
)
def test_a_program_that_does_not_pass(program: str, status: str | None) -> None:
    seconds = 1.0 if status == "time" else 10.0  # the rest ends by itself, however busy the machine
    done = run(program, seconds=seconds)
    assert not done.passed
    if status is not None:
        assert done.status == status
    assert done.seconds < seconds + 5
    assert len(done.output) <= 1 << 16


# Each does what it wants to, says so by reaching its end, and leaves a trace outside if it can.
ATTACKS = {
    "read a file of the user": "open({secret!r}).read()",
    "read passwords": "open('/etc/passwd').read()",
    "list the root": "import os; os.listdir('/')",
    "list the folder of temporary files": "import os; os.listdir('/tmp')",
    "write beside": "open({folder!r} + '/x', 'w').write('x')",
    "write to its own interpreter": "import os; open(os.__file__, 'a').write('x')",
    "read installed packages": "import sys; sys.path.append({packages!r}); import numpy",
    "make a link out": "import os; os.symlink({secret!r}, 'l'); open('l').read()",
    "make a hard link out": "import os; os.link({secret!r}, 'l')",
    "climb up": "open('../../../../../../../../etc/hostname').read()",
    "truncate": "import os; os.truncate({secret!r}, 0)",
    "rename": "import os; os.rename({secret!r}, 'x')",
    "delete": "import os; os.remove({secret!r})",
    "change mode": "import os; os.chmod({secret!r}, 0o777)",
    "fill the disk": "f = open('x', 'wb')\nfor _ in range(100): f.write(bytes(1 << 20)); f.flush()",
    "fill the disk with many files": "for i in range(100): open(f'{{i}}', 'wb').write(bytes(1 << 20))",
    "fill the disk with names": "for i in range(10**5): open(f'{{i}}', 'w').close()",
    "connect": "import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
    "send a datagram": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    "open a local socket": "import socket; socket.socket(socket.AF_UNIX)",
    "a pair of sockets": "import socket; socket.socketpair()",
    "fork": "import os; os.fork() or os._exit(0)",
    "a fork bomb": "import os\nwhile True: os.fork()",
    "a process": "import subprocess; subprocess.run(['/bin/true'], check=True)",
    "a shell": "import os; assert os.system('true') == 0",
    "another program": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', ''])",
    "spawn": "import os, sys; os.posix_spawn(sys.executable, [sys.executable], dict())",
    "a program in memory": "import os; fd = os.memfd_create('x'); os.write(fd, b'#!/bin/sh\\n'); os.execve(fd, ['x'], dict())",
    "many threads": "import threading, time\nfor _ in range(1000): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
    "kill its parent": "import os, signal; os.kill(os.getppid() or {pid}, signal.SIGKILL)",
    "kill everything": "import os, signal; os.kill(-1, signal.SIGKILL); raise SystemExit",
    "kill us": "import os, signal; os.kill({pid}, signal.SIGTERM)",
    "trace": "import ctypes; assert ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0",
    "mount": "import ctypes; assert ctypes.CDLL(None).mount(b'none', b'.', b'tmpfs', 0, None) == 0",
    "namespaces again": "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "chroot": "import os; os.chroot('.')",
    "a system call by number": "import ctypes; assert ctypes.CDLL(None).syscall(ctypes.c_long({socket}), 2, 1, 0) >= 0",
    "an io_uring": "import ctypes; assert ctypes.CDLL(None).syscall(ctypes.c_long(425), 8, ctypes.create_string_buffer(120)) >= 0",
    "clone3": "import ctypes; assert ctypes.CDLL(None).syscall(ctypes.c_long(435), ctypes.create_string_buffer(88), 88) >= 0",
    "raise its limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "look at other processes": "import os; [open(f'/proc/{{p}}/cmdline').read() for p in os.listdir('/proc') if p.isdigit()]",
    "look at its own memory": "open('/proc/self/mem', 'rb').read(1)",
    "environment of its parent": "open('/proc/1/environ').read()",
    "descriptors left open": "import os\nfound = [n for n in range(3, 64) if not os.set_inheritable.__call__ or ok(n)]\nassert found",
    "an exception that lies": "class E(BaseException):\n    def __str__(self): raise SystemExit(0)\nraise E",
    "an exit handler": "import atexit, sys; atexit.register(print, 'x'); sys.exit()",
    "no more output": "import os; os.close(1); raise SystemExit",
    "a closed stdin": "assert input()",
    "set the host's name": "import socket; socket.sethostname('x')",
    "the clock": "import time; time.clock_settime(time.CLOCK_REALTIME, 0)",
    "a device": "import os; os.mknod('d', 0o666 | 0o20000, os.makedev(1, 1))",
    "another priority": "import os; os.setpriority(os.PRIO_PROCESS, {pid}, 19)",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    tmp_path.chmod(0o777)
    with socket.socket() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.01)
        port = server.getsockname()[1]
        datagrams.bind(("127.0.0.1", port))
        datagrams.settimeout(0.01)
        column = PROCESSORS[platform.machine()][0]
        program = ATTACKS[name].format(
            secret=str(secret), folder=str(tmp_path), port=port, pid=os.getpid(), socket=REFUSED["socket"][column],
            packages=str(Path(pytest.__file__).parent.parent),
        )  # fmt: skip
        if name == "descriptors left open":
            program = "import os\ndef ok(n):\n    try: os.fstat(n); return True\n    except OSError: return False\n" + program
        started = time.monotonic()
        done = run(program, seconds=2.0)
        assert not done.passed, done
        assert time.monotonic() - started < 10
        with pytest.raises(TimeoutError):
            server.accept()
        with pytest.raises(TimeoutError):
            datagrams.recv(1)
    assert secret.read_text() == "secret"
    assert secret.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert "secret" not in done.output.replace(str(secret), "")
    assert os.getpriority(os.PRIO_PROCESS, 0) == 0


def test_nothing_is_left_behind() -> None:
    before = {name for name in os.listdir("/tmp") if name.startswith("codedev-sandbox-")}
    for program in ("open('x', 'w').write('x')", "while True: pass", "import os; os.setsid(); import time; time.sleep(60)"):
        run(program, seconds=0.5)
    after = {name for name in os.listdir("/tmp") if name.startswith("codedev-sandbox-")}
    assert after <= before
    time.sleep(0.2)
    running = [
        Path(f"/proc/{pid}/cmdline").read_bytes() for pid in os.listdir("/proc") if pid.isdigit() and os.path.exists(f"/proc/{pid}/cmdline")
    ]
    assert not [line for line in running if b"codedev-sandbox" in line]


_SAY = (
    "import gc, os, sys\n"
    "def say(word):\n"
    "    if type(word) is bytes: word = word.decode()\n"
    "    os.write(1, f'\\n{word.strip()}\\n'.encode()); os._exit(0)\n"
)
_WALK = (
    "f = sys._getframe()\nwhile f:\n    for v in [*f.f_locals.values(), *f.f_globals.values()]:\n        {}\n    f = f.f_back\nassert False"
)
_IS_WORD = "type(v) in (str, bytes) and len(v.strip()) == 32"
# Programs that fail and want to be taken for ones that passed.
FORGERIES = {
    "a word of its own": "say('0' * 32)",
    "an exit": "print('\\n'); raise SystemExit(0)",
    "nothing exits": "os._exit = lambda code: None\nassert False",
    "nothing exits or prints": "import builtins\nos._exit = builtins.print = lambda *a, **k: None\nassert False",
    "nothing is told": "import traceback\ntraceback.format_exception_only = lambda e: []\nos._exit = int\nraise ValueError",
    "an output of its own": "class S:\n    def write(self, x): pass\n    def flush(self): os._exit(0)\nsys.stdout = S()\nassert False",
    "from a thread": "import threading, time\nthreading.Thread(target=lambda: os._exit(0)).start()\ntime.sleep(1)\nassert False",
    "by a signal": "import signal, time\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(0))\nsignal.setitimer(0, 0.1)\ntime.sleep(5)",
    "by an exit handler": "import atexit\natexit.register(os._exit, 0)\nsys.exit(0)",
    "the word in the frames above": _WALK.format(f"if {_IS_WORD}: say(v)"),
    "the word in the frames of a thread": "def look():\n    for f in [*sys._current_frames().values()]:\n"
    "        for v in [*f.f_locals.values()]:\n"
    f"            if {_IS_WORD}: say(v)\nimport threading\nt = threading.Thread(target=look); t.start(); t.join()\nassert False",
    "the word in an exception's frames": "try: gc.get_objects()\nexcept PermissionError as e:\n    t = e.__traceback__\n    while t:\n"
    f"        for v in [*t.tb_frame.f_locals.values()]:\n            if {_IS_WORD}: say(v)\n        t = t.tb_next\nassert False",
    "the word among all objects": "for o in gc.get_objects():\n    for v in gc.get_referents(o):\n"
    f"        if {_IS_WORD}: say(v)\nassert False",
    "the word by a trace": f"def t(f, e, a):\n    for v in [*f.f_locals.values()]:\n        if {_IS_WORD}: say(v)\n    return t\n"
    "sys._getframe(1).f_trace = t\nsys.settrace(t)\nassert False",
    "the end, said by itself": "sys.audit('codedev.end'); os._exit(0)",
    "the end, said by what says it": _WALK.format("if callable(v) and getattr(v, '__name__', '') == 'audit': v('codedev.end')"),
    "the beginning again": "sys._getframe(1).f_globals['main']()",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_an_end_cannot_be_forged(name: str) -> None:
    done = run(_SAY + FORGERIES[name], seconds=8.0)
    assert not done.passed, done
    assert done.status != "time"
    assert "SyntaxError" not in done.status


def test_output_of_its_own_does_not_hide_the_end() -> None:
    assert run("import io, sys\nprint('x')\nsys.stdout = io.StringIO()\nprint('y')").output == "x\n"


def test_a_missing_layer_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "seccomp_filter", lambda: None)
    outside._check.cache_clear()
    try:
        with pytest.raises(RunError, match=r"the sandbox has no seccomp on this machine"):
            run("x = 1")
        done = run("x = 1", policy="lenient")
        assert done.passed
        assert "seccomp" not in done.layers
        # Also where it went away between the check and the run.
        outside._check.cache_clear()
        monkeypatch.setattr(outside, "_check", lambda policy: LAYERS)
        done = outside.run("open('x', 'w'); x = 1")
        assert (done.passed, done.status) == (False, "the sandbox could not be made")
    finally:
        monkeypatch.undo()
        outside._check.cache_clear()


@pytest.mark.parametrize("machine", PROCESSORS)
def test_the_filter_by_a_machine_of_its_own(machine: str) -> None:
    """Every refused call is refused, every other one let through; by an interpreter of the filter's instructions."""
    code = seccomp_filter(machine)
    assert code is not None
    program = list(struct.iter_unpack("<HBBI", code))
    column, arch = PROCESSORS[machine]

    def verdict(number: int, arch: int = arch, flags: int = 0) -> int:
        memory, at, value = {0: number, 4: arch, 16: flags}, 0, 0
        while True:
            operation, yes, no, constant = program[at]
            at += 1
            if operation == 0x20:
                value = memory[constant]
            elif operation == 0x15:
                at += yes if value == constant else no
            elif operation == 0x35:
                at += yes if value >= constant else no
            elif operation == 0x45:
                at += yes if value & constant else no
            else:
                assert operation == 0x06
                return constant

    refused = {pair[column] for pair in REFUSED.values()} - {None}
    clone = (56, 220)[column]
    for number in range(600):
        if number == 435:
            assert verdict(number) == 0x50000 | 38
        elif number != clone:
            assert verdict(number) == (0x50001 if number in refused else 0x7FFF0000), number
    assert verdict(clone, flags=0x3D0F00) == 0x7FFF0000  # as the C library makes a thread
    for flags in (0x11, 0x10000000, 0x3D0F00 | 0x10000000, 0x3D0F00 | 0x20000, 0x3D0F00 | 0x40000000, 0x3D0F00 | 0x80):
        assert verdict(clone, flags=flags) == 0x50001
    assert verdict(1, arch=0x40000003) == 0x80000000  # 32-bit calls have other numbers
    assert verdict(0x40000000 + 41) == 0x80000000
    assert seccomp_filter("riscv64") is None


def test_python_of_the_sandbox_is_ours() -> None:
    assert run("import sys; print(sys.version_info[:3])").output.strip() == str(tuple(sys.version_info[:3]))
