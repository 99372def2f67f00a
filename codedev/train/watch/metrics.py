"""metrics.jsonl: what every step did.

    {"step":12,"loss":5.31,"lr":0.003,"grad_norm":0.41,"tokens_seen":98304,"supervised":8160,"tokens_per_second":51234.0,"mfu":null}
    {"step":100,"bits_per_byte":1.93,"heldout_loss":2.87,…}

`step` counts finished steps, `supervised` the tokens that this one learned. `heldout_answer_loss` (stage sft) are the
nats a supervised token of the held-out rows. Rows after the checkpoint that a run goes on from are cut, so that the file of an interrupted
run equals that of an undisturbed one, timings apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from codedev._errors import RunError
from codedev._run import atomic_write
from codedev.train.compute.flops import attention_width, flops_of_step, matrix_parameters, peak_flops
from codedev.train.watch.rows import parsed

__all__ = ["Metrics", "attention_width", "flops_of_step", "matrix_parameters", "peak_flops", "read_metrics"]


class Metrics:
    """The rows of metrics.jsonl up to `step`; later ones, and a line that a kill cut short, are removed on opening."""

    def __init__(self, run_dir: Path, step: int) -> None:
        self._path = run_dir / "metrics.jsonl"
        kept = [row for row in read_metrics(run_dir) if row["step"] <= step] if step else []
        with atomic_write(self._path) as temporary:
            temporary.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in kept))

    def write(self, row: dict[str, Any]) -> None:
        with open(self._path, "ab") as file:
            file.write(orjson.dumps(row) + b"\n")


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of RUN/metrics.jsonl; an unfinished last line is left out."""
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        return []
    try:
        lines = [line for line in path.read_bytes().split(b"\n")[:-1] if line]
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}. Make it readable") from None
    rows = [parsed(line) for line in lines]
    if None in rows:
        raise RunError(f"{path}: line {rows.index(None) + 1} is no row of a run. Remove the line, and the run goes on")
    return [row for row in rows if row is not None]
