"""Model files, known by what they hold: a file that changed is another model, also to a process that has read it before."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from codedev._errors import InputError
from codedev._run import atomic_write, file_hash

_TICK = 20_000_000  # ns: two changes within a tick of the kernel's clock (1 to 10 ms) have the same time


class Stamp(NamedTuple):
    """A file as it is now. One that was written anew has another inode, or at least another time of its last change."""

    path: Path
    inode: int
    size: int
    changed: int  # ns; of content or of name, no program can set it back


def stamp(path: Path, missing: str) -> Stamp:
    """Raises InputError, saying `missing`, where there is no such file. A file that changed this very moment is waited for: whatever
    changes it after this has another time."""
    try:
        facts = path.stat()
        if 0 <= time.time_ns() - facts.st_ctime_ns < _TICK:
            time.sleep(_TICK / 1e9)
            facts = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with NUL in it is no file's
        raise InputError(f"{path}: {missing}") from None
    except OSError as error:
        raise unreadable(path, error) from None
    if not S_ISREG(facts.st_mode):
        raise InputError(f"{path}: {missing}")
    return Stamp(path, facts.st_ino, facts.st_size, facts.st_ctime_ns)


def check_writable(path: Path) -> None:
    """InputError where no file of that name can be written, before the hours that making it takes. Folders are made."""
    trial = path.with_name(f"{path.name}.try")
    try:
        with atomic_write(trial) as temporary:
            temporary.touch()
        trial.unlink()
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be written: {error.strerror}. Choose another --out") from None
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Choose another --out")


def unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read: {error.strerror}")


@functools.lru_cache(maxsize=1024)
def content_hash(file: Stamp) -> str:
    """Of its bytes; about 5 GB/s, once a process for each state of a file."""
    try:
        return file_hash(file.path)
    except OSError as error:
        raise unreadable(file.path, error) from None
