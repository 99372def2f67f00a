"""The barriers of dedup.py for a part that is too large because its rows are alike: equal texts, or equal ids, have equal hashes.

Instead of the rows of the part it holds what is distinct among them, and reads the judged tables once to find the first row of each and
once to write what becomes of the others, a table at a time. Of ids with many texts it holds a share of the texts at a time, and reads the
tables for each. The changes are those of dedup.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from codedev._run import atomic_write

_TEXT = ("_text_high", "_text_low")
_REGROUP = 1 << 20  # distinct rows of single tables that are held before they are put together

Tables = list[tuple[Path, int]]  # judged tables and the place of their first row
Choose = Callable[[pl.DataFrame], pl.DataFrame]  # rows -> changes


def heavy_rows(tables: Tables, column: str, parts: int) -> list[int]:
    """How many standing rows each part has."""
    total = pl.DataFrame({"part": range(parts), "len": [0] * parts}, schema={"part": pl.UInt64, "len": pl.UInt32})
    for path, _ in tables:
        counted = _standing(path, 0).group_by((pl.col(column) % parts).alias("part")).len().collect()
        total = pl.concat([total, counted.cast({"part": pl.UInt64, "len": pl.UInt32})]).group_by("part").sum()
    return [int(count) for count in total.sort("part")["len"].to_list()]


def heavy_identity(
    tables: Tables,
    part: int,
    parts: int,
    shares: int,
    known: int,
    looks_new: pl.Expr,
    reason: Callable[..., pl.Expr],
    schema: object,
    out: Path,
) -> None:
    """Write the changes of the part's ids as `out/identity-<part>.parquet`."""
    mine = pl.col("_id_hash") % parts == part
    first_of_id = _least(tables, mine, ["id"]).rename({"first": "first_of_id"})

    def changes() -> Iterator[pl.DataFrame]:
        for share in range(shares):
            here = mine & ((pl.col("_text_low") // parts) % shares == share)
            first_of_text = _least(tables, here, ["id", *_TEXT]).rename({"first": "first_of_text"})
            for rows in _of_tables(tables, here):
                yield _renamed_or_gone(rows.join(first_of_id, on="id").join(first_of_text, on=["id", *_TEXT]), known, looks_new, reason)

    _write(out / f"identity-{part:04d}.parquet", changes(), schema)


def _renamed_or_gone(rows: pl.DataFrame, known: int, looks_new: pl.Expr, reason: Callable[..., pl.Expr]) -> pl.DataFrame:
    """The changes of rows with first_of_id and first_of_text."""
    is_new = (pl.col("first_of_text") != pl.col("first_of_id")) | looks_new
    gone = pl.col("row") != pl.col("first_of_text")
    rows = rows.filter((is_new | gone) & (pl.col("row") >= known))
    digits = pl.Series([f"{high:016x}" for high in rows["_text_high"].to_list()], dtype=pl.String)  # 0.3 µs each
    rows = rows.with_columns(pl.when(is_new & (pl.col("first_of_text") >= known)).then(pl.col("id") + "~" + digits).alias("new_id"))
    evidence = pl.struct(pl.coalesce("new_id", "id").alias("duplicate_of")).struct.json_encode()
    return rows.filter(gone | pl.col("new_id").is_not_null()).select(
        "row",
        pl.when(gone).then(pl.lit("identity")).alias("stage"),
        pl.when(gone).then(reason("duplicate_id", "first_of_text", known)).alias("reason"),
        pl.when(gone).then(evidence).alias("evidence"),
        pl.when(~gone).then(pl.col("new_id")).alias("new_id"),
    )


def heavy_exact(
    tables: Tables,
    part: int,
    parts: int,
    known: int,
    taken: list[Path],
    renamed: pl.DataFrame,
    reason: Callable[..., pl.Expr],
    schema: object,
    out: Path,
) -> None:
    """Write the changes of the part's texts as `out/exact-<part>.parquet`; `taken` are the files of the identity barrier."""
    mine = pl.col("_text_low") % parts == part
    best = _least(tables, mine, list(_TEXT), lambda rows: _named(_without(rows, taken), renamed)).rename({"first": "best", "id": "kept"})

    def choose(rows: pl.DataFrame) -> pl.DataFrame:
        rows = _without(rows, taken).join(best, on=list(_TEXT)).filter((pl.col("row") != pl.col("best")) & (pl.col("row") >= known))
        return rows.join(renamed, on="row", how="left").select(
            "row",
            pl.lit("exact").alias("stage"),
            reason("duplicate", "best", known),
            pl.struct(pl.col("kept").alias("duplicate_of")).struct.json_encode().alias("evidence"),
            "new_id",
        )

    _write(out / f"exact-{part:04d}.parquet", (choose(rows) for rows in _of_tables(tables, mine)), schema)


def _standing(path: Path, first: int) -> pl.LazyFrame:
    return (
        pl.scan_parquet(path, row_index_name="row")
        .filter(pl.col("reason").is_null())
        .select(pl.col("row").cast(pl.Int64) + first, "id", *_TEXT, "_id_hash")
    )


def _of_tables(tables: Tables, chosen: pl.Expr) -> Iterator[pl.DataFrame]:
    for path, first in tables:
        yield _standing(path, first).filter(chosen).collect()


def _least(tables: Tables, chosen: pl.Expr, keys: list[str], change: Choose | None = None) -> pl.DataFrame:
    """The keys of the chosen rows, the first row of each, and its id where that is no key."""
    carried = [] if "id" in keys else ["id"]
    held: list[pl.DataFrame] = []
    size = 0
    for rows in _of_tables(tables, chosen):
        rows = change(rows) if change else rows
        found = _grouped(rows.select(*keys, *carried, pl.col("row").alias("first")), keys, carried)
        held.append(found)
        size += found.height
        if size > _REGROUP:
            held = [_grouped(pl.concat(held), keys, carried)]
            size = 0
    return _grouped(pl.concat(held), keys, carried)


def _grouped(rows: pl.DataFrame, keys: list[str], carried: list[str]) -> pl.DataFrame:
    return rows.group_by(keys).agg(*(pl.col(name).sort_by("first").first() for name in carried), pl.col("first").min())


def _named(rows: pl.DataFrame, renamed: pl.DataFrame) -> pl.DataFrame:
    return rows.join(renamed, on="row", how="left").with_columns(pl.coalesce("new_id", "id").alias("id"))


def _without(rows: pl.DataFrame, taken: list[Path]) -> pl.DataFrame:
    """`rows` of one table without those that the identity barrier dropped."""
    if not rows.height:
        return rows
    low, high = rows["row"].min(), rows["row"].max()
    for path in taken:
        if path.exists():
            gone = pl.scan_parquet(path).filter(pl.col("reason").is_not_null() & pl.col("row").is_between(low, high)).select("row")
            rows = rows.join(gone.collect(), on="row", how="anti")
    return rows


def _write(path: Path, changes: Iterator[pl.DataFrame], schema: object) -> None:
    """No changes, no file. Tables come in the order of their rows, which are sorted here within each."""
    path.unlink(missing_ok=True)
    with atomic_write(path) as temporary:
        rows = 0
        with pq.ParquetWriter(temporary, schema) as writer:
            for table in changes:
                if table.height:
                    writer.write_table(table.sort("row").to_arrow().cast(schema), row_group_size=4096)
                    rows += table.height
    if not rows:
        path.unlink()
