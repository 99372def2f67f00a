"""Last pass over a unit: its parts of the corpus, once filters and barriers have spoken."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from codedev._run import content_key, read_receipt, write_receipt
from codedev.corpus.dedup import Changes
from codedev.corpus.document import DOCUMENT, ERROR
from codedev.corpus.known import index_batch, index_schema
from codedev.corpus.parts import PartWriter, read_part, write_part
from codedev.corpus.repeats.cuts import COLUMN as CUTS
from codedev.corpus.repeats.cuts import Cuts, apply_cuts
from codedev.corpus.unit import CLUSTER_SIZE, Context, tables

PARTS = ("documents", "dropped", "errors", "index")  # of a unit, each in a folder of its own; no rows, no file


class Placed(NamedTuple):
    """A unit judged, and the place of its rows among all scored rows."""

    source: str
    number: int  # of the unit within its source
    scored: str  # keys of its first two passes
    judged: str
    first_row: int
    rows: int


def write_unit(context: Context, found: Path, placed: Placed) -> dict[str, Any]:
    """Write the parts of a unit; `found` is the folder of what the barriers found. Returns the receipt: rows of every part,
    text bytes kept, and unknown licences, and what the barriers did to this unit's rows: counters and the number of new ids."""
    changes = _changes(found, _state(found))
    counts, renamed, digest = _summary(changes, placed)
    sizes = _cluster_sizes(found, placed)
    cuts = _cuts(found, _state(found))
    wanted = cuts.between(placed.first_row, placed.first_row + placed.rows)
    spans = xxhash.xxh3_128_hexdigest(b"".join(column.tobytes() for column in wanted))
    schemas = tables(context.recipe)
    shapes = [schemas.documents.names, context.recipe.dedup.index]
    key = content_key(placed.source, placed.number, placed.scored, placed.judged, shapes, digest, sizes, spans)
    receipt_path = context.work / "written" / placed.source / f"{placed.number:05d}.json"
    receipt = read_receipt(receipt_path)
    if receipt and receipt["key"] == key:
        return receipt
    paths = {name: context.out / name / placed.source / f"part-{placed.number:05d}.parquet" for name in PARTS}
    scored = context.work / "scored" / placed.scored
    kept_facts = Counter(text_bytes=0, unknown_licence=0)

    def kept_of(batch: pa.RecordBatch, reasons: pa.Array, stays: pa.Array) -> pa.RecordBatch:
        if CUTS.name in schemas.documents.names:
            batch = cut(batch, reasons)
        if index:
            index.add(index_batch(batch, index.schema).filter(stays))
        kept = batch.select(schemas.documents.names).filter(stays)
        kept_facts["text_bytes"] += pc.sum(pc.binary_length(kept.column("text"))).as_py() or 0
        kept_facts["unknown_licence"] += kept.column("licence").null_count
        return kept

    row = placed.first_row

    def cut(batch: pa.RecordBatch, reasons: pa.Array) -> pa.RecordBatch:
        nonlocal row
        batch, taken = apply_cuts(batch, cuts.between(row, row + batch.num_rows), row, reasons.is_null().to_numpy(zero_copy_only=False))
        row += batch.num_rows
        for stage, size in taken.items():
            counts.setdefault(stage, Counter())["note.cut_bytes"] += size
        return batch

    def unread() -> Iterator[pa.RecordBatch]:
        for batch in read_part(scored.with_suffix(".dropped.parquet")):
            nulls = [pa.nulls(batch.num_rows, field.type) for field in schemas.dropped if field.name not in batch.schema.names]
            yield pa.RecordBatch.from_arrays([*batch.columns, *nulls], schema=schemas.dropped)

    def gone_of(batch: pa.RecordBatch, verdicts: dict[str, pa.Array], gone: pa.Array) -> pa.RecordBatch:
        columns = {name: batch.column(name) for name in batch.schema.names} | verdicts
        columns |= {name: verdicts[name].dictionary_encode() for name in ("stage", "reason")}
        columns[CUTS.name] = pa.nulls(batch.num_rows, CUTS.type)
        return pa.RecordBatch.from_arrays([columns[name].filter(gone) for name in schemas.dropped.names], schema=schemas.dropped)

    with (
        PartWriter(paths["documents"], schemas.documents) as documents,
        PartWriter(paths["dropped"], schemas.dropped) as dropped,
        PartWriter(paths["index"], index_schema(context.recipe)) if context.recipe.dedup.index else contextlib.nullcontext() as index,
    ):
        for batch in unread():
            dropped.add(batch)
        for batch, verdicts in _decided(context, placed, changes, sizes):
            stays = pc.is_null(verdicts["reason"])
            documents.add(kept_of(batch, verdicts["reason"], stays))
            dropped.add(gone_of(batch, verdicts, pc.invert(stays)))
    rows = {
        "documents": documents.rows,
        "index": index.rows if index else 0,
        "dropped": dropped.rows,
        "errors": write_part(paths["errors"], read_part(scored.with_suffix(".errors.parquet")), ERROR),
    }
    if index is None:
        paths["index"].unlink(missing_ok=True)  # of a build that asked for one
    facts = {"key": key, "rows": rows, **kept_facts, "counts": counts, "renamed": renamed}
    return write_receipt(receipt_path, [path for path in paths.values() if path.exists()], facts)


def _state(found: Path) -> tuple[tuple[str, int], ...]:
    return tuple((path.name, path.stat().st_mtime_ns) for path in sorted(found.rglob("*.parquet")))


@functools.lru_cache(maxsize=1)
def _changes(found: Path, state: tuple[tuple[str, int], ...]) -> Changes:
    """Opened once a worker, not once a unit."""
    return Changes(found)


@functools.lru_cache(maxsize=1)
def _cuts(found: Path, state: tuple[tuple[str, int], ...]) -> Cuts:
    return Cuts(found)


def _summary(changes: Changes, placed: Placed) -> tuple[dict[str, Counter[str]], int, str]:
    """(drops by stage and reason, number of new ids, a hash of it all) of the unit's rows, 4096 rows at a time."""
    counts: dict[str, Counter[str]] = {}
    renamed, digest = 0, ""
    for low in range(placed.first_row, placed.first_row + placed.rows, 4096):
        table = changes.between(low, min(low + 4096, placed.first_row + placed.rows))
        if table.num_rows == 0:
            continue
        renamed += table.column("reason").null_count
        for stage, reason in zip(table.column("stage").to_pylist(), table.column("reason").to_pylist(), strict=True):
            if reason is not None:
                counts.setdefault(stage, Counter())[f"drop.{reason}"] += 1
        relative = pc.subtract(table.column("row"), placed.first_row).to_pylist()
        digest = content_key(digest, relative, [table.column(name).to_pylist() for name in table.schema.names[1:]])
    return counts, renamed, digest


def _decided(
    context: Context, placed: Placed, changes: Changes, sizes: list[tuple[int, int]]
) -> Iterator[tuple[pa.RecordBatch, dict[str, pa.Array]]]:
    """(scored rows, their stage, reason and evidence) a row group at a time, with the new ids in place."""
    first = placed.first_row
    clustered = CLUSTER_SIZE.name in tables(context.recipe).documents.names
    judged = read_part(context.work / "judged" / f"{placed.judged}.parquet", ["stage", "reason", "evidence"])
    for batch, said in zip(read_part(context.work / "scored" / f"{placed.scored}.parquet"), judged, strict=True):
        verdicts = {name: said.column(name) for name in said.schema.names}
        changed = changes.between(first, first + batch.num_rows)
        if changed.num_rows:
            batch, verdicts = _apply(batch, verdicts, changed.combine_chunks(), first)
        if clustered:
            batch = _with_sizes(batch, verdicts["reason"], sizes, first - placed.first_row)
        first += batch.num_rows
        yield batch, verdicts


def _cluster_sizes(found: Path, placed: Placed) -> list[tuple[int, int]]:
    """(row within the unit, size) of the clusters whose survivor is in the unit."""
    path = found / "clusters" / "near.parquet"
    if not path.exists():
        return []
    inside = (pc.field("row") >= placed.first_row) & (pc.field("row") < placed.first_row + placed.rows)
    told = pq.read_table(path, filters=inside, use_threads=False)
    return list(zip(pc.subtract(told.column("row"), placed.first_row).to_pylist(), told.column("size").to_pylist(), strict=True))


def _with_sizes(batch: pa.RecordBatch, reasons: pa.Array, sizes: list[tuple[int, int]], first: int) -> pa.RecordBatch:
    """The batch with CLUSTER_SIZE: 1 where nothing resembled the document, null where it was dropped."""
    column = np.ones(batch.num_rows, np.int32)
    for row, size in sizes:
        if first <= row < first + batch.num_rows:
            column[row - first] = size
    return batch.append_column(CLUSTER_SIZE, pc.if_else(pc.is_null(reasons), pa.array(column), pa.scalar(None, pa.int32())))


def _apply(
    batch: pa.RecordBatch, verdicts: dict[str, pa.Array], changed: pa.Table, first: int
) -> tuple[pa.RecordBatch, dict[str, pa.Array]]:
    rows = pa.array(range(first, first + batch.num_rows), pa.int64())
    at = pc.index_in(rows, changed.column("row"))  # the first change of each row; null = the barriers say nothing of it
    new = {name: changed.column(name).combine_chunks().take(at) for name in ("new_id", *verdicts)}
    # A row that a filter dropped was never seen by a barrier: a change to drop meets a null reason.
    verdicts = {name: pc.coalesce(new[name], values) for name, values in verdicts.items()}
    ids = pc.coalesce(new["new_id"], batch.column("id"))
    return batch.set_column(0, DOCUMENT.field("id"), ids), verdicts


def part_facts(context: Context, placed: Placed, receipt: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The parts of a written unit as the manifest lists them: path, rows, hash, and for documents the text bytes."""
    facts: dict[str, list[dict[str, Any]]] = {kind: [] for kind in PARTS}
    folder = context.work / "written" / placed.source
    for name, digest in receipt["outputs"].items():
        path = Path((folder / name).resolve().relative_to(context.out.resolve()))
        kind = path.parts[0]
        fact = {"path": path.as_posix(), "rows": receipt["rows"][kind], "hash": digest}
        if kind == "documents":
            fact["text_bytes"] = receipt["text_bytes"]
        facts[kind].append(fact)
    return facts
