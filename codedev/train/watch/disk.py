"""A checkpoint that cannot be written: what was begun is removed, so that the disk is as full as before, and the ones before are whole."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from codedev._errors import RunError
from codedev._terminal import size


def unsaved(path: Path, temporary: Path, error: BaseException) -> RunError:
    """The error to raise. `error`: the system's, or that of safetensors, which has no number of its own."""
    shutil.rmtree(temporary, ignore_errors=True)
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EFBIG or "os error 27" in str(error).lower():
        advice = "Raise the limit on the size of files (ulimit -f)"
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "Make it writable"
    else:
        advice = f"{size(shutil.disk_usage(path.parent).free)} are free there. Make room, or lower run.keep"
    return RunError(f"{path}: cannot be written: {error}. {advice}, and run the same command again: earlier checkpoints are kept")
