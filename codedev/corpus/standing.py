"""The rows that filters and earlier barriers left standing, table by table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev._run import atomic_write
from codedev.corpus.dedup import CHANGE, KNOWN, Changes


class Table(NamedTuple):
    """A unit's rows: the scored and the judged file, in the same order, and the place of the first among all rows.

    A part of an earlier corpus (known.py) is a table too: its documents are the scored file, its index the judged one.
    """

    scored: Path
    judged: Path
    first_row: int
    known: bool = False


def standing(tables: Sequence[Table], changes: Changes, columns: list[str]) -> Iterator[tuple[int, np.ndarray, pa.RecordBatch]]:
    """(place of the first row, which rows nothing has dropped, the columns) of each row group, in order."""
    for table in tables:
        first = table.first_row
        with pq.ParquetFile(table.scored) as scored, pq.ParquetFile(table.judged) as judged:
            for group in range(scored.num_row_groups):
                rows = scored.metadata.row_group(group).num_rows
                reasons = judged.read_row_group(group, columns=["reason"], use_threads=False).column(0)
                stand = pc.is_null(reasons).to_numpy().copy()
                changed = changes.between(first, first + rows)
                stand[changed.filter(pc.is_valid(changed.column("reason"))).column("row").to_numpy() - first] = False
                if stand.any():
                    yield first, stand, read_group(table, scored, judged, group, columns)
                first += rows


def read_group(table: Table, scored: pq.ParquetFile, judged: pq.ParquetFile, group: int, columns: list[str]) -> pa.RecordBatch:
    """The columns of a row group; the sketches of a known part lie in its index."""
    apart = ["_sketch"] if table.known and "_sketch" in columns else []
    read = scored.read_row_group(group, columns=[name for name in columns if name not in apart], use_threads=False)
    for name in apart:
        read = read.append_column(name, judged.read_row_group(group, columns=[name], use_threads=False).column(0))
    return read.combine_chunks().to_batches()[0]


def of_kinds(batch: pa.RecordBatch, kinds: tuple[str, ...] | None) -> np.ndarray:
    """bool[rows]: of one of these kinds; null = any."""
    if kinds is None:
        return np.ones(batch.num_rows, bool)
    inside = pc.is_in(batch.column("kind").cast(pa.string()), pa.array(kinds, pa.string()))
    return np.asarray(inside.to_numpy(zero_copy_only=False))


def share_out(records: np.ndarray, part: np.ndarray, files: Sequence[BinaryIO]) -> None:
    """Append each record to its part's file; they keep their order."""
    order = np.argsort(part, kind="stable")
    bounds = np.append(0, np.cumsum(np.bincount(part.astype(np.int64), minlength=len(files))))
    records = records[order]
    for number in np.flatnonzero(np.diff(bounds)).tolist():
        files[number].write(records[bounds[number] : bounds[number + 1]].tobytes())


def text_bytes(tables: Sequence[Table]) -> int:
    """Bytes of all texts, by the files' own account: too many by the rows that are dropped."""
    total = 0
    for table in tables:
        facts = pq.read_metadata(table.scored)
        at = facts.schema.to_arrow_schema().get_field_index("text")
        path = facts.schema.to_arrow_schema().field(at).name
        for group in range(facts.num_row_groups):
            row_group = facts.row_group(group)
            total += sum(
                row_group.column(i).total_uncompressed_size
                for i in range(row_group.num_columns)
                if row_group.column(i).path_in_schema == path
            )
    return total


def ids_of(tables: Sequence[Table], rows: np.ndarray, changes: Changes) -> list[str]:
    """The ids that sorted `rows` have in the corpus."""
    ids: list[str] = []
    starts = np.array([table.first_row for table in tables], np.int64)
    touched = np.unique(np.searchsorted(starts, rows, side="right") - 1)
    for table in (tables[number] for number in touched.tolist()):
        with pq.ParquetFile(table.judged) as judged:
            first = table.first_row
            for group in range(judged.num_row_groups):
                size = judged.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, [first, first + size])
                if high > low:
                    column = judged.read_row_group(group, columns=["id"], use_threads=False).column(0).combine_chunks()
                    old = column.take(pa.array(rows[low:high] - first))
                    ids += pc.coalesce(pa.array(new_ids(changes, rows[low:high]), pa.string()), old).to_pylist()
                first += size
    return ids


def new_ids(changes: Changes, rows: np.ndarray) -> list[str | None]:
    """The new ids that the identity barrier gave sorted `rows`."""
    if not len(rows):
        return []
    told = changes.between(int(rows[0]), int(rows[-1]) + 1)
    named = dict(zip(told.column("row").to_pylist(), told.column("new_id").to_pylist(), strict=True)) if told.num_rows else {}
    return [named.get(row) for row in rows.tolist()]


def write_drops(
    path: Path,
    stage: str,
    reason: str,
    rows: np.ndarray,
    evidence: Callable[[slice], Sequence[str]],
    changes: Changes,
    known: np.ndarray | None = None,
) -> None:
    """CHANGE rows, sorted by row; no rows, no file. `evidence` is asked for a slice of the rows at a time; `known[i]` says that row i
    lost to a document of an earlier corpus: its reason says so."""
    if not len(rows):
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, CHANGE) as writer:
        for low in range(0, len(rows), 4096):
            part = rows[low : low + 4096]
            reasons = [reason] * len(part) if known is None else np.where(known[low : low + 4096], KNOWN + reason, reason).tolist()
            columns = [part, [stage] * len(part), reasons, evidence(slice(low, low + 4096)), new_ids(changes, part)]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, CHANGE, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=CHANGE))
