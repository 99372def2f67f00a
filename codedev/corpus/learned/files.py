"""Model files, known by what they hold: a file that changed is another model, also to a process that has read it before."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from codedev._errors import InputError
from codedev._run import file_hash


class Stamp(NamedTuple):
    """A file as it is now. One that was written anew has another inode, or at least another time of its last change."""

    path: Path
    inode: int
    size: int
    changed: int  # ns; of content or of name, no program can set it back


def stamp(path: Path, missing: str) -> Stamp:
    """Raises InputError, saying `missing`, where there is no such file."""
    try:
        facts = path.stat()
    except OSError:
        facts = None
    if facts is None or not path.is_file():
        raise InputError(f"{path}: {missing}")
    return Stamp(path, facts.st_ino, facts.st_size, facts.st_ctime_ns)


@functools.lru_cache(maxsize=1024)
def content_hash(file: Stamp) -> str:
    """Of its bytes; about 5 GB/s, once a process for each state of a file."""
    try:
        return file_hash(file.path)
    except OSError as error:
        raise InputError(f"{file.path}: cannot be read: {error.strerror}") from None
