"""Where the checkpoints of a run lie. Knows nothing of torch."""

from __future__ import annotations

import re
from pathlib import Path

_STEP = re.compile(r"step-([0-9]{8,18})")


def directory(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"step-{step:08d}"


def steps_saved(run_dir: Path) -> list[int]:
    """The steps of the checkpoints, rising. Folders of another name are none."""
    found = (_STEP.fullmatch(path.name) for path in (run_dir / "checkpoints").glob("step-*"))
    steps = {int(one[1]) for one in found if one}
    return sorted(step for step in steps if directory(run_dir, step).is_dir())
