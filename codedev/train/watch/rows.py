"""A row of metrics.jsonl as it is read back. Knows nothing of torch."""

from __future__ import annotations

from typing import Any

import orjson

# Numbers that are reckoned with, and those of which None may stand for one that is none.
_NUMBERS, _OR_NONE = ("loss", "tokens_seen", "tokens_per_second"), ("mfu", "bits_per_byte", "heldout_loss")


def parsed(line: bytes) -> dict[str, Any] | None:
    """The row of a line: an object with the `step` that it is of. None for a line that is cut off, or is something else."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    known = [row[name] for name in _NUMBERS if name in row] + [row[name] for name in _OR_NONE if row.get(name) is not None]
    return row if all(type(value) in (int, float) for value in known) else None
