"""`codedev corpus dedup`: anybody's Parquet files without their duplicates, every other row with all its columns as it was.

The rows go through a corpus build of their own under OUT/.corpus, whose laws hold here too: interrupted, the same command goes on; the same
input gives the same bytes whatever the workers and the memory. Rows without text are no duplicates of anything and stay.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev._errors import InputError
from codedev._run import Progress, atomic_write, no_progress, write_json
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build

LOST = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("id", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("evidence", pa.string()),
    ]
)
_BARRIERS = pa.array(["identity", "exact", "near"])
_LOST_ROWS = 1 << 16  # of duplicates.parquet held until they are written, and those of one file


def dedup_files(
    paths: Sequence[Path],
    out: Path,
    *,
    text: str = "text",
    id_column: str | None = None,
    kind: str = "web",
    minhash: dict[str, Any] | None,
    against: Sequence[Path] = (),
    workers: int = 1,
    memory: int = 4 << 30,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write OUT/<file> for each file of `paths` (Parquet), OUT/duplicates.parquet (LOST rows) and OUT/report.json; returns the report.

    `minhash` are the keys of `dedup.minhash`, None for exact duplicates alone; `text` and `id_column` are columns of every file. Of
    duplicates the first in the order of `paths` stays, or what `minhash["keep"]` prefers. What is in a corpus of `against`, or in an OUT
    of this command, does not stay at all. InputError where a file is no Parquet or
    lacks a column.
    """
    files = _checked(paths, out, text, id_column)
    base = Path(os.path.commonpath([path.parent for path in files.values()]))
    source = {
        "name": "files",
        "type": "tables",
        "paths": [path.relative_to(base).as_posix() for path in files.values()],
        "text": text,
        "kind": kind,
        "columns": {"id": id_column} if id_column else {},
    }
    dedup = {"exact": {}, "minhash": minhash, "against": [os.path.relpath(path, base) for path in against], "index": True}
    recipe = recipes.check({"name": "dedup", "sources": [source], "dedup": dedup}, "corpus dedup")
    out.mkdir(parents=True, exist_ok=True)
    corpus = out / ".corpus"
    manifest = build(recipe, base, corpus, workers=workers, memory=memory, progress=progress, isolated=True)
    of_file = _dropped(corpus)
    read = lru_cache(4)(_lost)  # the rows of many small files lie in one part
    name_of = {path.relative_to(base).as_posix(): name for name, path in files.items()}
    copied: dict[str, dict[str, Any]] = {}
    reasons: Counter[str] = Counter()
    with atomic_write(out / "duplicates.parquet") as temporary, pq.ParquetWriter(temporary, LOST, compression="zstd") as writer:
        held: list[pa.Table] = []
        for number, origin in enumerate(sorted(name_of)):
            progress("write", number, len(files))
            lost = _of_file([read(part) for part in of_file.get(origin, [])], origin)
            name = name_of[origin]
            rows = lost.column("row").to_numpy()
            copied[name] = {"file": str(files[name]), "out": str(out / name), **_copy(files[name], out / name, rows)}
            reasons.update(lost.column("reason").to_pylist())
            held += [lost] if lost.num_rows else []
            if sum(one.num_rows for one in held) >= _LOST_ROWS or number == len(files) - 1:
                writer.write_table(pa.concat_tables([LOST.empty_table(), *held]))
                held = []
    told = [copied[name] for name in files]
    progress("write", len(files), len(files))
    totals = {key: sum(one[key] for one in told) for key in ("rows", "kept")}
    report = {"files": told, **totals, "dropped": dict(sorted(reasons.items())), "errors": manifest["totals"]["errors"]}
    write_json(out / "report.json", report)
    return report


def _checked(paths: Sequence[Path], out: Path, text: str, id_column: str | None) -> dict[str, Path]:
    """Name below OUT -> absolute path, in the order given."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{path}: holds no Parquet file")
        found += [Path(os.path.abspath(one)) for one in inside if Path(os.path.abspath(one)) not in found]
    for path in found:
        if Path(os.path.abspath(out)) in path.parents:
            raise InputError(f"{path}: lies in --out, which is written to. Choose another --out")
        try:
            names = pq.read_schema(path).names
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: is no Parquet file that can be read ({str(error).splitlines()[0]})") from None
        for option, column in {"--text-column": text, "--id-column": id_column or text}.items():
            if column not in names:
                raise InputError(f"{path}: has no column '{column}' (it has: {', '.join(names)}). Name it with {option}")
    base = os.path.commonpath([path.parent for path in found])
    return {os.path.relpath(path, base): path for path in found}


def _dropped(corpus: Path) -> dict[str, list[Path]]:
    """Input file -> the parts that list rows of it that were dropped."""
    found: dict[str, list[Path]] = {}
    for path in sorted((corpus / "dropped").rglob("*.parquet")):
        for file in pc.struct_field(pq.read_table(path, columns=["origin"]).column(0), "file").unique().to_pylist():
            found.setdefault(file, []).append(path)
    return found


def _lost(part: Path) -> pa.Table:
    """LOST rows of what the barriers dropped, of one part."""
    table = pq.read_table(part, columns=["id", "origin", "stage", "reason", "evidence"])
    table = table.filter(pc.is_in(table.column("stage").cast(pa.string()), _BARRIERS))
    origin = table.column("origin")
    columns = [pc.struct_field(origin, "file").cast(pa.string()), pc.struct_field(origin, "offset")]
    columns += [table.column(name).cast(pa.string()) for name in ("id", "stage", "reason", "evidence")]
    return pa.table(columns, schema=LOST)


def _of_file(parts: Sequence[pa.Table], file: str) -> pa.Table:
    """The LOST rows of an input file, in its order."""
    mine = [part.filter(pc.equal(part.column("file"), file)) for part in parts]
    return pa.concat_tables([LOST.empty_table(), *mine]).sort_by([("row", "ascending")])


def _copy(path: Path, target: Path, gone: np.ndarray) -> dict[str, int]:
    """All rows of a file but those of the sorted numbers `gone`, a row group at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetFile(path) as file, atomic_write(target) as temporary:
        with pq.ParquetWriter(temporary, file.schema_arrow, compression="zstd") as writer:
            for table in _groups(file, gone):
                writer.write_table(table, row_group_size=max(table.num_rows, 1))
        return {"rows": file.metadata.num_rows, "kept": file.metadata.num_rows - len(gone)}


def _groups(file: pq.ParquetFile, gone: np.ndarray) -> Iterator[pa.Table]:
    first = 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        low, high = np.searchsorted(gone, (first, first + table.num_rows))
        stays = np.ones(table.num_rows, np.bool_)
        stays[gone[low:high] - first] = False
        yield table.filter(pa.array(stays)) if high > low else table
        first += table.num_rows
