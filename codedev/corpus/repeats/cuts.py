"""Cuts: spans that barriers want out of texts, kept in files until the last pass takes them out.

What a cut document says: `text` without the spans; `q.cuts`, the spans as (offset, length) in UTF-8 bytes of the text before, so that a
byte of the corpus is traced to its record (`before`); `q.pii.spans` moved along. Every other q. column is of the text before: by it the
document was judged, and a second judgement after the cuts would drop documents for what they share with others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev._run import atomic_write
from codedev.corpus.buffers import text_buffers
from codedev.corpus.dedup import Changes
from codedev.corpus.standing import Table, standing, write_drops
from codedev.kernels.spans import replace

STAGES = ("lines", "paragraphs", "substring")  # in order: a byte that two of them cut counts as the first one's
SPAN = pa.struct([pa.field("start", pa.int64()), pa.field("end", pa.int64())])  # UTF-8 bytes of the scored text
CUTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # among all scored rows, in plan order; sorted
        pa.field("spans", pa.list_(SPAN), nullable=False),  # sorted and apart
        pa.field("stage", pa.string(), nullable=False),
        pa.field("evidence", pa.string()),
    ]
)
CUT = pa.struct([pa.field("offset", pa.int64()), pa.field("length", pa.int64())])
COLUMN = pa.field("q.cuts", pa.list_(CUT))
_ROWS = 1024


def cuts_path(found: Path, stage: str) -> Path:
    return found / "cuts" / f"{stage}.parquet"


def write_cuts(path: Path, stage: str, parts: Iterator[tuple[np.ndarray, np.ndarray, list[str]]]) -> int:
    """Write CUTS from (rows int64[n] sorted, spans int64[n, 2] sorted and apart in each row, evidence of each distinct row), parts in order
    and no row in two of them. Returns the rows written; none, no file."""
    rows = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    held = CUTS.empty_table()
    with atomic_write(path) as temporary:
        with pq.ParquetWriter(temporary, CUTS, compression="zstd") as writer:
            for of, spans, evidence in parts:
                distinct, starts = np.unique(of, return_index=True)
                if not len(distinct):
                    continue
                values = pa.StructArray.from_arrays([pa.array(np.ascontiguousarray(side)) for side in spans.T], fields=list(SPAN))
                lists = pa.ListArray.from_arrays(np.append(starts, len(of)).astype(np.int32), values)
                columns = [pa.array(distinct), lists, pa.array([stage] * len(distinct)), pa.array(evidence, pa.string())]
                held = pa.concat_tables([held, pa.Table.from_arrays(columns, schema=CUTS)])
                rows += len(distinct)
                whole = held.num_rows // _ROWS * _ROWS  # row groups are cut by count: the file says nothing of the parts
                for low in range(0, whole, _ROWS):
                    writer.write_table(held.slice(low, _ROWS).combine_chunks())
                held = held.slice(whole)
            if held.num_rows:
                writer.write_table(held.combine_chunks())
    if not rows:
        path.unlink()
    return rows


class Spans(NamedTuple):
    """Cuts of some rows."""

    row: np.ndarray  # int64[n]
    start: np.ndarray
    end: np.ndarray
    stage: np.ndarray  # int64[n]: an index of STAGES


class Cuts:
    """What the barriers want cut, read a range of rows at a time. Holds the bounds of the row groups, not the rows."""

    def __init__(self, found: Path) -> None:
        self._groups: list[tuple[int, int, pq.ParquetFile, int, int]] = []  # least row, greatest row, file, row group, stage
        for stage, name in enumerate(STAGES):
            if cuts_path(found, name).exists():
                file = pq.ParquetFile(cuts_path(found, name))
                for group in range(file.num_row_groups):
                    bounds = file.metadata.row_group(group).column(0).statistics
                    self._groups.append((bounds.min, bounds.max, file, group, stage))

    def any_between(self, low: int, high: int) -> bool:
        return any(least < high and greatest >= low for least, greatest, *_ in self._groups)

    def between(self, low: int, high: int) -> Spans:
        """The cuts of rows low <= row < high."""
        held = [np.empty((0, 4), np.int64)]
        for least, greatest, file, group, stage in self._groups:
            if least < high and greatest >= low:
                table = file.read_row_group(group, columns=["row", "spans"], use_threads=False).combine_chunks()
                rows = table.column("row").to_numpy()
                start, end = rows.searchsorted([low, high])
                lists = table.column("spans").chunk(0).slice(start, end - start) if end > start else None
                if lists is not None:
                    flat = lists.flatten()
                    of = np.repeat(rows[start:end], np.diff(lists.offsets.to_numpy()))
                    held.append(np.stack([of, flat.field(0).to_numpy(), flat.field(1).to_numpy(), np.full(len(of), stage)], axis=1))
        found = np.concatenate(held)
        return Spans(*(np.ascontiguousarray(column) for column in found.T))


def apply_cuts(batch: pa.RecordBatch, cuts: Spans, first_row: int, kept: np.ndarray) -> tuple[pa.RecordBatch, Counter[str]]:
    """(the batch with its cuts taken out and the column q.cuts appended, bytes cut by stage).

    `first_row` is the place of the batch's first row; rows that are not `kept`, bool[rows], stay whole: what is dropped is dropped as it
    was. 1 GB/s."""
    text = batch.column("text")
    data, offsets = text_buffers(text)
    inside = kept[cuts.row - first_row]
    row, stage = cuts.row[inside] - first_row, cuts.stage[inside]
    start, end = offsets[row] + cuts.start[inside], offsets[row] + cuts.end[inside]
    counts: Counter[str] = Counter()
    merged, before = np.empty((0, 2), np.int64), 0
    for number, name in enumerate(STAGES):
        if (stage == number).any():
            merged = union(start[stage <= number], end[stage <= number], offsets)
            covered = int((merged[:, 1] - merged[:, 0]).sum())
            if covered > before:
                counts[name], before = covered - before, covered
    if len(merged):
        of = np.searchsorted(offsets, merged[:, 0], side="right") - 1
        local = merged - offsets[of][:, None]
        spans = np.ascontiguousarray(np.column_stack([of, local, np.zeros(len(of), np.int64)]))
        new, new_offsets, _ = replace(data, offsets, spans, np.zeros(1, np.uint8), np.zeros((1, 2), np.int64))
        whole = pa.Array.from_buffers(pa.large_string(), batch.num_rows, [None, pa.py_buffer(new_offsets), pa.py_buffer(new)])
        at = batch.schema.get_field_index("text")
        batch = batch.set_column(at, batch.schema.field(at), pc.if_else(pc.is_valid(text), whole, text) if text.null_count else whole)
        if "q.pii.spans" in batch.schema.names:
            batch = _moved(batch, merged, offsets)
    else:
        of, local = np.empty(0, np.int64), np.empty((0, 2), np.int64)
    bounds = np.zeros(batch.num_rows + 1, np.int32)
    np.cumsum(np.bincount(of, minlength=batch.num_rows), out=bounds[1:])
    values = pa.StructArray.from_arrays([pa.array(local[:, 0].copy()), pa.array(local[:, 1] - local[:, 0])], fields=list(CUT))
    return batch.append_column(COLUMN, pa.ListArray.from_arrays(bounds, values)), counts


def union(start: np.ndarray, end: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64[n, 2]: the union of spans, sorted and apart; spans of two texts are never joined."""
    order = np.lexsort((end, start))
    start, end = start[order], end[order]
    nonempty = end > start
    start, end = start[nonempty], end[nonempty]
    if not len(start):
        return np.empty((0, 2), np.int64)
    reach = np.maximum.accumulate(end)
    text = np.searchsorted(offsets, start, side="right")
    opens = np.append(True, (start[1:] > reach[:-1]) | (text[1:] != text[:-1]))
    firsts = np.flatnonzero(opens)
    return np.stack([start[firsts], reach[np.append(firsts[1:] - 1, len(start) - 1)]], axis=1)


def _moved(batch: pa.RecordBatch, merged: np.ndarray, offsets: np.ndarray) -> pa.RecordBatch:
    """`q.pii.spans` as places in the cut text: what a cut took whole is left out, what it took in part is shorter."""
    at = batch.schema.get_field_index("q.pii.spans")
    lists = batch.column(at)
    flat = lists.flatten()
    sizes = np.nan_to_num(pc.list_value_length(lists).to_numpy(zero_copy_only=False)).astype(np.int64)
    row = np.repeat(np.arange(batch.num_rows), sizes)
    start = offsets[row] + flat.field(1).to_numpy()
    end = start + flat.field(2).to_numpy()
    gone = np.append(0, np.cumsum(merged[:, 1] - merged[:, 0]))

    def cut_before(place: np.ndarray) -> np.ndarray:
        number = np.searchsorted(merged[:, 0], place, side="right")  # cuts that start at or before it
        inside = np.maximum(merged[np.maximum(number - 1, 0), 1] - place, 0) * (number > 0)
        return np.asarray(gone[number] - inside)

    first = cut_before(offsets[row])  # in rows before
    new_start, new_end = start - cut_before(start), end - cut_before(end)
    stays = (new_end > new_start) | (end == start)
    values = pa.StructArray.from_arrays(
        [
            flat.field(0).filter(pa.array(stays)),
            pa.array((new_start - offsets[row] + first)[stays]),
            pa.array((new_end - new_start)[stays]),
        ],
        fields=list(lists.type.value_type),
    )
    bounds = np.zeros(batch.num_rows + 1, np.int32)
    np.cumsum(np.bincount(row[stays], minlength=batch.num_rows), out=bounds[1:])
    return batch.set_column(at, batch.schema.field(at), pa.ListArray.from_arrays(bounds, values))


def before(cuts: Sequence[dict[str, int]], offset: int) -> int:
    """Where the byte at `offset` of a document's text stood in its text before the cuts. `cuts` is the document's `q.cuts`."""
    for cut in cuts:
        if cut["offset"] > offset:
            break
        offset += cut["length"]
    return offset


def find_short(tables: Sequence[Table], found: Path, *, min_chars: int) -> int:
    """Write `found/repeats-0000.parquet` (CHANGE rows): documents of whose text the cuts leave fewer than `min_chars` characters that are
    no white space at the ends. Run it behind all barriers that cut. Returns their number.

    Such a document may have been the one that kept a copy: then less than `min_chars` characters of it are lost with it."""
    changes, cuts = Changes(found), Cuts(found)
    rows: list[int] = []
    evidence: list[str] = []
    if any(cuts_path(found, stage).exists() for stage in STAGES):
        for first, stand, batch in standing(_touched(tables, cuts), changes, ["text"]):
            wanted = cuts.between(first, first + batch.num_rows)
            if not len(wanted.row):
                continue
            new, _ = apply_cuts(batch, wanted, first, stand)
            touched = pc.list_value_length(new.column(COLUMN.name)).to_numpy() > 0
            left = pc.utf8_length(pc.utf8_trim_whitespace(new.column("text").filter(pa.array(touched)))).to_numpy()
            sizes = pc.binary_length(batch.column("text").filter(pa.array(touched))).to_numpy()
            new_sizes = pc.binary_length(new.column("text").filter(pa.array(touched))).to_numpy()
            for at in np.flatnonzero(left < min_chars).tolist():  # documents that are dropped alone: 2 µs each
                facts: dict[str, Any] = {"chars": int(left[at]), "bound": min_chars, "bytes_cut": int(sizes[at] - new_sizes[at])}
                rows.append(first + int(np.flatnonzero(touched)[at]))
                evidence.append(orjson.dumps(facts).decode())
    write_drops(found / "repeats-0000.parquet", "repeats", "too_little_left", np.array(rows, np.int64), evidence.__getitem__, changes)
    return len(rows)


def _touched(tables: Sequence[Table], cuts: Cuts) -> list[Table]:
    touched = []
    for table in tables:
        if cuts.any_between(table.first_row, table.first_row + pq.read_metadata(table.judged).num_rows):
            touched.append(table)
    return touched
