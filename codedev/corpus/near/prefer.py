"""Which of several documents alike is kept: an order over all rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev._errors import InputError
from codedev.corpus.licence import is_permissive
from codedev.corpus.standing import Table

# Criterion -> (column, whether the greatest comes first).
_COLUMNS = {"newest": ("created", True), "oldest": ("created", False), "longest": ("q.chars", True), "shortest": ("q.chars", False)}


def ranks_of(tables: Sequence[Table], keep: Sequence[str], rows: int, known: int = 0) -> np.ndarray | None:
    """uint32[rows]: the place of each row in the order of preference; None where that is the order of the rows themselves.

    Criteria: `newest`, `oldest`, `longest`, `shortest`, `licence` (a permissive one first), or a column's name, `-` before it for the least
    value first. What all of them leave equal, and what has no value, stays in the order of the sources in the recipe and of their records.
    Memory: 16 bytes a row and criterion.
    """
    if not keep:
        return None
    mine = [table for table in tables if not table.known]
    first = np.full(known, -np.inf)  # rows of earlier corpora come before all others, in their order
    keys = [np.concatenate([first, *(_values(table.scored, name) for table in mine)]) for name in keep]
    order = np.lexsort(keys[::-1])
    ranks = np.empty(rows, np.uint32)
    ranks[order] = np.arange(rows, dtype=np.uint32)
    return ranks


def _values(path: Path, name: str) -> np.ndarray:
    """float64[rows]: less is better; what is missing comes last."""
    if name == "licence":
        licences = pq.read_table(path, columns=["licence"]).column(0).cast(pa.string())
        distinct = licences.unique().to_pylist()
        good = pa.array([one for one in distinct if one is not None and is_permissive(one)], pa.string())
        return np.asarray(pc.invert(pc.is_in(licences, good)).to_numpy(), np.float64)
    column, descending = _COLUMNS.get(name, (name.removeprefix("-"), not name.startswith("-")))
    known = pq.read_schema(path).names
    if column not in known:
        scores = ", ".join(one for one in known if one.startswith("q."))
        raise InputError(f"dedup.minhash.keep: no column '{column}'. Choose newest, oldest, longest, shortest, licence, or one of {scores}")
    values = pq.read_table(path, columns=[column]).column(0)
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    numbers = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy()
    return np.where(np.isnan(numbers), np.inf, -numbers if descending else numbers)
