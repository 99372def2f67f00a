"""System calls by processor, and the seccomp filter that refuses them. Imported by the outside and sent to the inside as numbers.

Numbers are those of Linux's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64).
"""

from __future__ import annotations

import errno
import platform
import struct

# name -> number on x86-64, on aarch64; None where it has no such call
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # network
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "bind": (49, 200), "listen": (50, 201), "socketpair": (53, 199),
    "accept4": (288, 242),
    # other programs and processes (threads come by clone, looked at below)
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117), "unshare": (272, 97),
    "setns": (308, 268), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "kcmp": (312, 272),
    # the file system itself
    "pivot_root": (155, 41), "chroot": (161, 51), "mount": (165, 40), "umount2": (166, 39), "swapon": (167, 224), "swapoff": (168, 225),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262), "quotactl": (179, 60), "acct": (163, 89), "mknod": (133, None), "mknodat": (259, 33),
    # the kernel
    "reboot": (169, 142), "init_module": (175, 105), "delete_module": (176, 106), "finit_module": (313, 273), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "personality": (135, 92), "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "seccomp": (317, 277),
    "sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58), "lookup_dcookie": (212, 18),
}  # fmt: skip
_CLONE, _CLONE3 = (56, 220), 435
_THREAD, _NAMESPACES = 0x0001_0000, 0x7E02_0080  # flags of clone: one that makes a thread; those that make namespaces
PROCESSORS = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH

_LOAD, _EQUAL, _SET, _MORE, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # of the filter's machine: ld, jeq, jset, jge, ret
_ALLOW, _KILL, _FAIL = 0x7FFF_0000, 0x8000_0000, 0x0005_0000


def seccomp_filter(machine: str | None = None) -> bytes | None:
    """The filter as instructions of 8 bytes, or None for a processor whose calls are not known here.

    A refused call fails with EPERM; clone makes threads alone; clone3, whose flags no filter can see, does not exist (ENOSYS), so that the
    C library falls back to clone. Calls of another processor's table (32-bit ones, x32) kill.
    """
    known = PROCESSORS.get(machine or platform.machine())
    if known is None:
        return None
    column, arch = known
    numbers = sorted(number for pair in REFUSED.values() if (number := pair[column]) is not None)
    refuse = (_RETURN, 0, 0, _FAIL | errno.EPERM)
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0), (_MORE, 0, 1, 0x4000_0000), (_RETURN, 0, 0, _KILL),
        (_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _FAIL | errno.ENOSYS),
        (_EQUAL, 0, 5, _CLONE[column]), (_LOAD, 0, 0, 16), (_SET, 0, 2, _THREAD), (_SET, 1, 0, _NAMESPACES), (_RETURN, 0, 0, _ALLOW),
        refuse,
    ]  # fmt: skip
    for number in numbers:
        code += [(_EQUAL, 0, 1, number), refuse]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
