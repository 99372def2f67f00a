"""The inside of the sandbox: reads its orders from stdin, walls itself in, runs the program, prints the secret word if it came to its end.

Runs as `python -I -S -c <this text>`, with nothing of codedev to import. Orders: one line of JSON (outside.py), then the program's bytes.
Nothing may be printed before the line that names the layers.
"""

import ctypes
import json
import os
import resource
import struct
import sys

NEW = 0x10000000 | 0x40000000 | 0x08000000 | 0x20000000 | 0x04000000 | 0x00020000  # users, network, ipc, processes, names, mounts
C = ctypes.CDLL(None, use_errno=True)
END = "codedev.end"


def namespaces(folder: str, disk: int) -> bool:
    """Into namespaces of its own, as their first process: every disk read-only but `folder`, an empty one of `disk` bytes in memory.

    True where all came to be. Landlock alone would not do: it leaves modes, times and attributes of files open to change."""
    uid, gid = os.getuid(), os.getgid()
    if C.unshare(NEW) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {uid} 1"), ("gid_map", f"65534 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    child = os.fork()
    if child:  # the first process of the namespace dies with this one, and everything in it with the first
        _, status = os.waitpid(child, 0)
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))  # as a shell does
    C.prctl(1, 9, 0, 0, 0)  # PDEATHSIG = KILL
    # What is mounted elsewhere from now on does not come here, nor the other way round.
    private = C.mount(b"none", b"/", None, 1 << 14 | 1 << 18, None) == 0
    locked = struct.pack("<QQQQ", 1, 0, 0, 0)  # MOUNT_ATTR_RDONLY, of / and (0x8000) everything under it
    fixed = C.syscall(ctypes.c_long(442), -100, ctypes.c_char_p(b"/"), 0x8000, ctypes.c_char_p(locked), ctypes.c_size_t(32)) == 0
    own = C.mount(b"tmpfs", folder.encode(), b"tmpfs", 2 | 4, f"size={disk},nr_inodes=1024,mode=700".encode()) == 0
    os.chdir(folder)
    return bool(private and fixed and own)


def landlock(readable: list[str], folder: str) -> int:
    """Files: `readable` to read, `folder` for everything, nothing else. The interface's version, 0 where there is none."""

    def call(number: int, *values: object) -> int:
        return int(C.syscall(ctypes.c_long(number), *values))

    version = call(444, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if version <= 0:
        return 0
    files = (1 << 13) - 1 | (version >= 2) << 13 | (version >= 3) << 14 | (version >= 5) << 15
    rules = struct.pack("<QQQ", files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    rules = rules[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = call(444, ctypes.c_char_p(rules), ctypes.c_size_t(len(rules)), ctypes.c_uint(0))
    if ruleset < 0:
        return 0
    for path, access in [*((path, 4 | 8) for path in readable), (folder, files & ~1)]:  # 4, 8: read a file, list a folder; 1: execute
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rule = struct.pack("<Qi", access if os.path.isdir(path) else access & (2 | 4), handle)
        added = call(445, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.c_char_p(rule), ctypes.c_uint(0))
        os.close(handle)
        if added:
            return 0
    held = call(446, ctypes.c_int(ruleset), ctypes.c_uint(0)) == 0
    os.close(ruleset)
    return version if held else 0


def seccomp(code: bytes) -> bool:
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    return bool(C.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0)


def limits(orders: dict[str, int]) -> bool:
    for name, value in orders.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    return True


def keep(word: str, home: object) -> None:
    """Let the frame `home` alone say `word`, by raising the event END; no frame that the program can walk to holds it. Audit hooks cannot
    be taken away again, nor found without looking for them in memory."""
    above, write, ending, line = sys._getframe, os.write, END, f"\n{word}\n".encode()
    refused = ("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames", "sys.settrace")

    def say(event: str, _: object) -> None:
        if event == ending and above(1) is home:
            write(1, line)

    def refuse(event: str, _: object) -> None:  # by itself: its frame hangs on the exception
        if event in refused:
            raise PermissionError(event)

    sys.addaudithook(say)
    sys.addaudithook(refuse)


def main() -> None:
    orders = json.loads(sys.stdin.buffer.readline())
    program = sys.stdin.buffer.read().decode()
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    layers = []
    try:
        if namespaces(orders["folder"], orders["disk"]):
            layers.append("namespaces")
    except OSError:
        pass
    C.prctl(38, 1, 0, 0, 0)  # NO_NEW_PRIVS, which landlock and seccomp ask for
    version = landlock(orders["readable"], orders["folder"])
    if version:
        layers.append("landlock")
    C.syscall(
        ctypes.c_long(orders["capset"]), ctypes.c_char_p(struct.pack("<Ii", 0x20080522, 0)), ctypes.c_char_p(bytes(24))
    )  # no capability
    if limits(orders["limits"]):
        layers.append("limits")
    if orders["filter"] and seccomp(bytes.fromhex(orders["filter"])):
        layers.append("seccomp")
    print("LAYERS", *layers, flush=True)
    if not set(orders["needed"]) <= set(layers):
        os._exit(0)
    keep(orders.pop("word"), sys._getframe())
    del orders
    told, leave, out = sys.audit, os._exit, sys.stdout
    try:
        # `__main__` for programs that ask whether they are run.
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})  # noqa: S102  # what all this is for
    except BaseException as error:
        import traceback

        sys.stdout.flush()
        print("".join(traceback.format_exception_only(error))[-2000:], flush=True)
        leave(1)
        return  # whatever the program has put in place of what is called above
    sys.stdout.flush()
    out.flush()
    told(END)
    leave(0)


main()
