"""Which of several documents alike is kept: an order over all rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev._errors import InputError, nearest
from codedev.corpus.licence import is_permissive
from codedev.corpus.near.external import sorted_blocks
from codedev.corpus.standing import Table

# Criterion -> (column, whether the greatest comes first).
_COLUMNS = {"newest": ("created", True), "oldest": ("created", False), "longest": ("q.chars", True), "shortest": ("q.chars", False)}


def check_keep(columns: pa.Schema, keep: Sequence[str]) -> None:
    """InputError where a criterion is no column of scored tables, or one whose values have no order of figures."""
    for name in keep:
        column = "licence" if name == "licence" else _column(name)[0]
        if column not in columns.names:
            known = [*_COLUMNS, "licence", *(one.name for one in columns if one.name.startswith("q.") and _is_ordered(one.type))]
            raise InputError(f"dedup.minhash.keep: no column '{column}': {nearest(column, known)}")
        if name != "licence" and not _is_ordered(columns.field(column).type):
            raise InputError(f"dedup.minhash.keep: '{column}' holds no figures (it is {columns.field(column).type}), which have no best")


def _column(name: str) -> tuple[str, bool]:
    return _COLUMNS.get(name, (name.removeprefix("-"), not name.startswith("-")))


def _is_ordered(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_timestamp(kind))


def ranks_of(tables: Sequence[Table], keep: Sequence[str], rows: int, work: Path, *, memory: int, known: int = 0) -> np.ndarray | None:
    """uint32[rows]: the place of each row in the order of preference; None where that is the order of the rows themselves.

    Criteria: `newest`, `oldest`, `longest`, `shortest`, `licence` (a permissive one first), or a column's name, `-` before it for the least
    value first. What all of them leave equal, and what has no value, stays in the order of the sources in the recipe and of their records.
    The first `known` rows come before all others, in their order.
    Memory: 4 bytes a row, and `memory` / 2. Disk, in the folder `work`: 8 bytes a row and criterion, twice.
    """
    if not keep:
        return None
    names = [f"by{number}" for number in range(len(keep))]
    kind = np.dtype([*((name, "<f8") for name in names), ("row", "<u4")])
    path = work / "preference"
    with path.open("wb") as file:
        for low in range(0, known, 1 << 16):
            file.write(_records(kind, low, {name: np.full(min(known - low, 1 << 16), -np.inf) for name in names}).tobytes())
        for table in tables:
            if not table.known:
                columns = {name: _values(table.scored, criterion) for name, criterion in zip(names, keep, strict=True)}
                file.write(_records(kind, table.first_row, columns).tobytes())
    ranks = np.empty(rows, np.uint32)
    done = 0
    for block in sorted_blocks(path, kind, max(memory // 8, 1 << 12)):
        ranks[block["row"]] = np.arange(done, done + len(block), dtype=np.uint32)
        done += len(block)
    return ranks


def _records(kind: np.dtype, first: int, columns: dict[str, np.ndarray]) -> np.ndarray:
    records = np.empty(len(next(iter(columns.values()))), kind)
    for name, column in columns.items():
        records[name] = column
    records["row"] = np.arange(first, first + len(records))
    return records


def _values(path: Path, name: str) -> np.ndarray:
    """float64[rows]: less is better; what is missing comes last."""
    if name == "licence":
        licences = pq.read_table(path, columns=["licence"]).column(0).cast(pa.string())
        distinct = licences.unique().to_pylist()
        good = pa.array([one for one in distinct if one is not None and is_permissive(one)], pa.string())
        return np.asarray(pc.invert(pc.is_in(licences, good)).to_numpy(), np.float64)
    column, descending = _column(name)
    check_keep(pq.read_schema(path), [name])
    values = pq.read_table(path, columns=[column]).column(0)
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    # Unchecked: times beyond 2255 (9999-12-31 stands for "never") have more digits than a float64, which rounds them to 0.1 ms.
    numbers = pc.fill_null(values.cast(pa.float64(), safe=False), np.nan).to_numpy()
    return np.where(np.isnan(numbers), np.inf, -numbers if descending else numbers)
