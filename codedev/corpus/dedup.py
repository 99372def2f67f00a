"""Exact deduplication and unique ids: two barriers over all judged rows.

identity  An id stands for one document. The same id and text again is dropped (`duplicate_id`); the same id with another text keeps
          its document under a new id, the old one with `~` and 16 digits of the text's hash. An id that ends like that on its own
          gets another ending, so that no input can take an id away from another.
exact     Of documents with equal squeezed text (kernels/squeeze.py; 128-bit hash) one survives: the first in the order of
          the sources in the recipe and of their records. The others are dropped (`duplicate`) with the survivor's id as evidence.

Memory: rows are partitioned by hash into as many parts as it takes to stay below the limit, about 300 bytes a row, and the judged
tables are read once for each part; a part that is too large since its rows are alike goes another way (dedup_heavy.py). The result does
not depend on the number of parts. Does not find near-duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from codedev._run import atomic_write
from codedev.corpus.dedup_heavy import heavy_exact, heavy_identity, heavy_rows

# What the barriers found, sorted by row: a reason to drop that row, or a new id for it.
CHANGE = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # among all scored rows, in plan order
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("evidence", pa.string()),
        pa.field("new_id", pa.string()),
    ]
)
KNOWN = "known_"  # before the reason of a drop whose survivor is in an earlier corpus
_ROW_BYTES = 300
_HEAVY = 2  # times the limit: what is no more than uneven stays as it is
_LOOKS_NEW = pl.col("id").str.contains("~[0-9a-f]{16}$")


def find_duplicates(judged: list[Path], first_rows: list[int], out: Path, *, exact: bool, memory: int, known: int = 0) -> int:
    """Write `out/changes-<part>.parquet` (CHANGE rows) for the judged tables, given in plan order. Returns the number of parts.

    `first_rows[i]` is the place of table i's first row among all scored rows.
    The first `known` rows are of earlier corpora: what equals them goes, they stay as they are.
    """
    rows = sum(pq.read_metadata(path).num_rows for path in judged)
    parts = max(1, -(-rows * _ROW_BYTES // memory))
    renamed = pl.DataFrame(schema={"row": pl.Int64, "new_id": pl.String})
    tables, taken = list(zip(judged, first_rows, strict=True)), list[Path]()
    sizes = heavy_rows(tables, "_id_hash", parts) if parts > 1 else [rows]
    for part in range(parts):
        if sizes[part] * _ROW_BYTES > _HEAVY * memory:
            shares = -(-sizes[part] * _ROW_BYTES // memory)
            heavy_identity(tables, part, parts, shares, known, _LOOKS_NEW, _reason, CHANGE, out)
            taken.append(out / f"identity-{part:04d}.parquet")
            if taken[-1].exists():
                named = pl.scan_parquet(taken[-1]).filter(pl.col("new_id").is_not_null()).select("row", "new_id")
                renamed = pl.concat([renamed, named.collect()])
            continue
        changes = _identity(_standing(judged, first_rows, "_id_hash", part, parts), known)
        taken.append(out / f"identity-{part:04d}.parquet")
        _write(taken[-1], changes)
        renamed = pl.concat([renamed, changes.filter(pl.col("new_id").is_not_null()).select("row", "new_id")])
    if exact:
        sizes = heavy_rows(tables, "_text_low", parts) if parts > 1 else [rows]
        for part in range(parts):
            if sizes[part] * _ROW_BYTES > _HEAVY * memory:
                heavy_exact(tables, part, parts, known, taken, renamed, _reason, CHANGE, out)
                continue
            rows_of_part = _standing(judged, first_rows, "_text_low", part, parts)
            _write(out / f"exact-{part:04d}.parquet", _exact(_without(rows_of_part, taken), renamed, known))
    return int(parts)


def _standing(judged: Iterable[Path], first_rows: list[int], column: str, part: int, parts: int) -> pl.DataFrame:
    """The rows that no filter dropped and whose hash falls into the part: row, id and hashes."""
    frames = [
        pl.scan_parquet(path, row_index_name="row")
        .filter(pl.col("reason").is_null() & (pl.col(column) % parts == part))
        .select(pl.col("row").cast(pl.Int64) + first, "id", "_text_high", "_text_low", "_id_hash")
        for path, first in zip(judged, first_rows, strict=True)
    ]
    if not frames:
        return pl.DataFrame(
            schema={"row": pl.Int64, "id": pl.String, "_text_high": pl.UInt64, "_text_low": pl.UInt64, "_id_hash": pl.UInt64}
        )
    return pl.concat(pl.collect_all(frames))


def _reason(name: str, survivor: str, known: int) -> pl.Expr:
    return pl.when(pl.col(survivor) < known).then(pl.lit(KNOWN + name)).otherwise(pl.lit(name)).alias("reason")


def _identity(rows: pl.DataFrame, known: int) -> pl.DataFrame:
    again = rows.filter((pl.len().over("_id_hash") > 1) | _LOOKS_NEW).sort("row")
    text = ("_text_high", "_text_low")
    again = again.with_columns(
        pl.col("row").first().over("id").alias("first_of_id"),
        pl.col("row").first().over("id", *text).alias("first_of_text"),
    )
    digits = pl.Series([f"{high:016x}" for high in again["_text_high"].to_list()], dtype=pl.String)  # colliding ids alone: few
    is_new = (pl.col("first_of_text") != pl.col("first_of_id")) | _LOOKS_NEW
    again = again.with_columns(pl.when(is_new & (pl.col("first_of_text") >= known)).then(pl.col("id") + "~" + digits).alias("new_id"))
    dropped = again.filter(pl.col("row") != pl.col("first_of_text")).select(
        "row",
        pl.lit("identity").alias("stage"),
        _reason("duplicate_id", "first_of_text", known),
        pl.struct(pl.coalesce("new_id", "id").alias("duplicate_of")).struct.json_encode().alias("evidence"),
        pl.lit(None, pl.String).alias("new_id"),
    )
    renamed = again.filter((pl.col("row") == pl.col("first_of_text")) & pl.col("new_id").is_not_null()).select(
        "row",
        pl.lit(None, pl.String).alias("stage"),
        pl.lit(None, pl.String).alias("reason"),
        pl.lit(None, pl.String).alias("evidence"),
        "new_id",
    )
    return pl.concat([dropped, renamed]).filter(pl.col("row") >= known).sort("row")


def _without(rows: pl.DataFrame, taken: list[Path]) -> pl.DataFrame:
    """`rows` without those that the identity barrier dropped."""
    for path in taken:
        if path.exists():
            gone = pl.scan_parquet(path).filter(pl.col("reason").is_not_null()).select("row").collect()
            rows = rows.join(gone, on="row", how="anti")
    return rows


def _exact(rows: pl.DataFrame, renamed: pl.DataFrame, known: int) -> pl.DataFrame:
    text = ("_text_high", "_text_low")
    again = rows.filter(pl.len().over(text) > 1).join(renamed, on="row", how="left").with_columns(pl.coalesce("new_id", "id").alias("id"))
    again = again.sort("row").with_columns(pl.col("id").first().over(text).alias("kept"), pl.col("row").first().over(text).alias("best"))
    return (
        again.filter((pl.col("row") != pl.col("best")) & (pl.col("row") >= known))
        .select(
            "row",
            pl.lit("exact").alias("stage"),
            _reason("duplicate", "best", known),
            pl.struct(pl.col("kept").alias("duplicate_of")).struct.json_encode().alias("evidence"),
            "new_id",  # a row that both barriers change says all of it here
        )
        .sort("row")
    )


def _write(path: Path, changes: pl.DataFrame) -> None:
    """No changes, no file."""
    if changes.height == 0:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as temporary:
        pq.write_table(changes.to_arrow().cast(CHANGE), temporary, row_group_size=4096)


class Changes:
    """What the barriers found, read a range of rows at a time. Holds the bounds of the row groups, not the rows."""

    def __init__(self, folder: Path) -> None:
        self._files = [pq.ParquetFile(path) for path in sorted(folder.glob("*.parquet"))]
        self._groups: list[tuple[int, int, pq.ParquetFile, int]] = []  # least row, greatest row, file, row group
        for file in self._files:
            for group in range(file.num_row_groups):
                bounds = file.metadata.row_group(group).column(0).statistics
                self._groups.append((bounds.min, bounds.max, file, group))

    def between(self, low: int, high: int) -> pa.Table:
        """The changes of rows low <= row < high, sorted by row; of two for one row the drop goes first, a mere new id last."""
        tables = [file.read_row_group(group) for least, greatest, file, group in self._groups if least < high and greatest >= low]
        if not tables:
            return CHANGE.empty_table()
        table = pa.concat_tables(tables).sort_by([("row", "ascending"), ("reason", "ascending")])  # nulls go last
        rows = table.column("row").to_numpy()
        start, end = rows.searchsorted([low, high])
        return table.slice(start, end - start)
