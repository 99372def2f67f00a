"""`codedev corpus dedup`: anybody's Parquet files without their duplicates, every other row with all its columns as it was.

The rows go through a corpus build of their own under OUT/.corpus, whose laws hold here too: interrupted, the same command goes on; the same
input gives the same bytes whatever the workers and the memory. Rows without text are no duplicates of anything and stay.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from codedev._errors import InputError, printable
from codedev._run import Progress, atomic_write, locked, no_progress, read_json, sweep, write_json
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.dedup import KNOWN
from codedev.corpus.known import naming_damage
from codedev.corpus.sources.tables.batches import first_line, is_text
from codedev.corpus.sources.tables.columns import KNOWN as NAMED

LOST = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("id", pa.string()),  # of the column that names rows; null where none was named, or the row has none there
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("of_file", pa.string()),  # the row it lost to
        pa.field("of_row", pa.int64()),
        pa.field("of_id", pa.string()),
        pa.field("against", pa.string()),  # the earlier run or corpus that holds that row; null = this one
        pa.field("jaccard", pa.float32()),  # null for exact duplicates
        pa.field("cluster_size", pa.int32()),
    ]
)
_NAME = "files"  # of the source
_INPUTS = ".inputs.json"
_DUPLICATES = "duplicates.parquet"
_BARRIERS = pa.array(["identity", "exact", "near"])
_LATER = _BARRIERS[1:]  # what identity drops has the id of the row that stays
_LOST_ROWS = 1 << 16  # of duplicates.parquet held until they are written, and those of one file
_GROUP = 256 << 20  # bytes of a row group that is copied: a larger one becomes several
_BATCH = 2048  # rows that are read at a time
_MAX_RATIO = 10**6  # a row group of one text, over and over, is no bomb here but what is looked for
_RENAMED = re.compile("~[0-9a-f]{16}$")  # what the identity barrier put behind an id, once


def dedup_files(
    paths: Sequence[Path],
    out: Path,
    *,
    text: str = "text",
    id_column: str | None = None,
    created_column: str | None = None,
    kind: str = "web",
    minhash: dict[str, Any] | None,
    against: Sequence[Path] = (),
    workers: int = 1,
    memory: int = 4 << 30,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write OUT/<file> for each file of `paths` (Parquet), OUT/duplicates.parquet (LOST rows) and OUT/report.json; returns the report.

    `minhash` are the keys of `dedup.minhash`, None for exact duplicates alone; `text`, `id_column` and `created_column` are columns of
    every file. Of exact duplicates the first in the order of `paths` stays, of near ones that or what `minhash["keep"]` prefers. What is
    in a corpus of `against`, or in an OUT of this command, does not stay at all. Rows without text, and rows that cannot be read as
    documents (`unread`), are compared with nothing and stay. InputError where a file is no Parquet or lacks a column, or a row group of it
    cannot be copied, or OUT holds the result of other files or something else.
    """
    keep = minhash.get("keep", ()) if minhash else ()
    files = _checked(paths, out, text, {"--id-column": id_column, "--created-column": created_column}, keep)
    base = Path(os.path.commonpath([path.parent for path in files.values()]))
    source = {
        "name": _NAME,
        "type": "tables",
        "paths": [path.relative_to(base).as_posix() for path in files.values()],
        "kind": kind,
        "columns": {"text": text} | {field: name for field, name in (("id", id_column), ("created", created_column)) if name},
        "max_ratio": _MAX_RATIO,
    }
    dedup = {"exact": {}, "minhash": minhash, "against": [os.path.abspath(path) for path in against], "index": True}
    recipe = recipes.check({"name": "dedup", "sources": [source], "dedup": dedup}, "corpus dedup")
    _check_out(out, files)
    with locked(out):
        sweep(out)
        corpus = out / ".corpus"
        manifest = build(recipe, base, corpus, workers=workers, memory=memory, progress=progress, isolated=True)
        of_file = _dropped(corpus)
        find = _survivors(corpus, against)
        read = lru_cache(4)(partial(_lost, find=find, named=id_column is not None))  # the rows of many small files lie in one part
        name_of = {path.relative_to(base).as_posix(): name for name, path in files.items()}
        copied: dict[str, dict[str, Any]] = {}
        reasons: Counter[str] = Counter()
        with atomic_write(out / _DUPLICATES) as temporary, pq.ParquetWriter(temporary, LOST, compression="zstd") as writer:
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
        stages = {stage["stage"]: stage for stage in manifest["waterfall"][_NAME]}
        totals["without_text"] = sum(sum(stages[name]["drop"].values()) for name in ("read", "content"))
        totals["unread"] = totals["rows"] - stages["read"]["rows_out"] - sum(stages["read"]["drop"].values())
        if {"newest", "oldest"} & {*keep}:
            totals["without_created"] = _without_created(corpus)
        report = {"files": told, **totals, "dropped": dict(sorted(reasons.items())), "errors": manifest["totals"]["errors"]}
        report["first_errors"] = _first_errors(corpus)
        write_json(out / "report.json", report)
        return report


def _check_out(out: Path, files: dict[str, Path]) -> None:
    """InputError where OUT is of other files: their result would lie beside this one's as if it were one; or what is there is not ours."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{out}: is no folder. Choose another --out") from None
    inputs = out / _INPUTS
    now = sorted(map(str, files.values()))
    if not inputs.exists():
        for name in (_DUPLICATES, "report.json", *files):
            if os.path.lexists(out / name):
                raise InputError(f"{out / name}: is there already, and not of this command. Choose another --out")
    before = read_json(inputs) if inputs.exists() else now
    if not isinstance(before, list):
        raise InputError(f"{inputs}: is not what this command wrote. Remove {out}, or choose another --out")
    if before != now:
        other = next(iter(sorted({*map(str, before)} ^ {*now})), "")
        raise InputError(f"{out}: holds the result for other files (such as {printable(other)}). Choose another --out, or remove it")
    write_json(inputs, now)


def _checked(paths: Sequence[Path], out: Path, text: str, named: dict[str, str | None], keep: Sequence[str]) -> dict[str, Path]:
    """Name below OUT -> absolute path, in the order given. `named` holds further columns by the option that names them."""
    written = Path(os.path.abspath(out))
    found: dict[Path, None] = {}
    for path in paths:
        inside = [path]
        if path.is_dir():  # OUT may lie in it; folders may be named like files (what Spark writes)
            listed = (one for one in path.rglob("*.parquet") if ".corpus" not in one.parts and not one.is_dir())
            inside = sorted(one for one in listed if written not in Path(os.path.abspath(one)).parents)
            if not inside:
                raise InputError(f"{path}: holds no Parquet file")
        found |= dict.fromkeys(Path(os.path.abspath(one)) for one in inside)
    for path in found:
        if written in path.parents:
            raise InputError(f"{path}: lies in --out, which is written to. Choose another --out")
        _check_columns(path, text, named, keep)
    base = os.path.commonpath([path.parent for path in found])
    by_name = {os.path.relpath(path, base): path for path in found}
    for name, path in by_name.items():
        if name in (_DUPLICATES, "report.json", _INPUTS) or Path(name).parts[0] == ".corpus":
            raise InputError(f"{path}: has the name of a file that is written to --out. Give it another name")
    return by_name


def _check_columns(path: Path, text: str, named: dict[str, str | None], keep: Sequence[str]) -> None:
    """InputError where a file is none, or lacks a column that is asked for, or holds something else in it."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file")
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: is no Parquet file that can be read ({first_line(error)})") from None
    names = schema.names
    for option, column in ({"--text-column": text} | named).items():
        if column is None:
            continue
        if column not in names:
            raise InputError(f"{path}: has no column '{printable(column)}' (it has: {printable(', '.join(names))}). Name it with {option}")
        if names.count(column) > 1:
            raise InputError(
                f"{path}: has {names.count(column)} columns '{printable(column)}'. Rename the others, or name one with {option}"
            )
    kind = schema.field(text).type
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if not (pa.types.is_null(kind) or is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)):
        raise InputError(f"{path}: column '{printable(text)}' holds {kind}, which is no text. Name the text's with --text-column")
    if {"newest", "oldest"} & {*keep} and not named.get("--created-column") and not {*NAMED["created"]} & {*names}:
        wanted = ", ".join(NAMED["created"])
        raise InputError(f"{path}: --keep newest and oldest need a column of times ({wanted}). Name it with --created-column")
    if "licence" in keep and not {*NAMED["licence"]} & {*names}:
        raise InputError(f"{path}: --keep licence needs a column of licences ({', '.join(NAMED['licence'])}), which it has not")


def _without_created(corpus: Path) -> int:
    """Documents, kept or dropped, without a time: --keep newest and oldest put them behind all others."""
    return sum(
        batch.column(0).null_count
        for part in ("documents", "dropped")
        for path in sorted((corpus / part).rglob("*.parquet"))
        for batch in pq.ParquetFile(path).iter_batches(1 << 16, columns=["created"])
    )


def _first_errors(corpus: Path) -> list[str]:
    """The first message of each kind of error."""
    first: dict[str, str] = {}
    for path in sorted((corpus / "errors").rglob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(1 << 12, columns=["kind", "file", "message"]):
            for row in batch.to_pylist():
                first.setdefault(row["kind"], f"{row['file']}: {row['message']}")
    return list(first.values())


def _dropped(corpus: Path) -> dict[str, list[Path]]:
    """Input file -> the parts that list rows of it that were dropped."""
    found: dict[str, list[Path]] = {}
    for path in sorted((corpus / "dropped").rglob("*.parquet")):
        for file in pc.struct_field(pq.read_table(path, columns=["origin"]).column(0), "file").unique().to_pylist():
            found.setdefault(file, []).append(path)
    return found


Find = Callable[[list[str], list[bool]], list[tuple[str | None, str | None, int | None]]]


def _survivors(corpus: Path, against: Sequence[Path]) -> Find:
    """What finds (earlier run, file, row) of the documents that others lost to, by their ids. 24 bytes of memory each."""
    sought = [np.empty(0, np.uint64)]
    for path in sorted((corpus / "dropped").rglob("*.parquet")):
        table = pq.read_table(path, columns=["stage", "evidence"])
        told = table.filter(pc.is_in(table.column("stage").cast(pa.string()), _BARRIERS)).column("evidence").to_pylist()
        sought.append(np.unique(_hashes([orjson.loads(one)["duplicate_of"] for one in told])))
    hashes = np.unique(np.concatenate(sought))
    place = [np.full((len(hashes), 2), -1, np.int64) for _ in range(2)]  # (file, row) of this run's, of earlier ones'
    files: list[tuple[str | None, str]] = []
    numbers: dict[tuple[str | None, str], int] = {}

    def look(path: Path, where: np.ndarray, run: str | None, *, lost: bool = False) -> None:
        for batch in pq.ParquetFile(path).iter_batches(1 << 14, columns=["id", "origin", *(["stage"] if lost else [])]):
            if lost:
                batch = batch.filter(pc.is_in(batch.column("stage").cast(pa.string()), _LATER))
            found = _hashes(batch.column("id").to_pylist())
            at = np.minimum(np.searchsorted(hashes, found), max(len(hashes) - 1, 0))
            wanted = np.flatnonzero(hashes[at] == found) if len(hashes) else np.empty(0, np.int64)
            origins = batch.column("origin").take(pa.array(wanted)).to_pylist()
            for row, origin in zip(at[wanted].tolist(), origins, strict=True):
                key = (run, origin["file"])
                if key not in numbers:
                    numbers[key] = len(files)
                    files.append(key)
                where[row] = numbers[key], origin["offset"]

    for path in sorted((corpus / "dropped").rglob("*.parquet")):  # a survivor of one barrier may lose at the next
        look(path, place[0], None, lost=True)
    for path in sorted((corpus / "documents").rglob("*.parquet")):
        look(path, place[0], None)
    for directory in against:
        inside = directory / ".corpus"
        for path in sorted(((inside if inside.is_dir() else directory) / "documents").rglob("*.parquet")):
            with naming_damage([path]):
                look(path, place[1], str(directory))

    def find(ids: list[str], known: list[bool]) -> list[tuple[str | None, str | None, int | None]]:
        found = []
        for at, earlier in zip(np.searchsorted(hashes, _hashes(ids)).tolist(), known, strict=True):
            file, row = place[earlier][at].tolist()
            found.append((*files[file], row) if file >= 0 else (None, None, None))
        return found

    return find


def _hashes(ids: list[str]) -> np.ndarray:
    return np.fromiter((xxhash.xxh3_64_intdigest(one.encode()) for one in ids), np.uint64, len(ids))


def _lost(part: Path, *, find: Find, named: bool) -> pa.Table:
    """LOST rows of what the barriers dropped, of one part."""
    table = pq.read_table(part, columns=["id", "origin", "stage", "reason", "evidence"])
    table = table.filter(pc.is_in(table.column("stage").cast(pa.string()), _BARRIERS))
    origin = table.column("origin")
    reasons = table.column("reason").cast(pa.string())
    evidence = [orjson.loads(one) for one in table.column("evidence").to_pylist()]
    ids = [one["duplicate_of"] for one in evidence]
    found = find(ids, pc.starts_with(reasons, KNOWN).to_pylist())
    stages = table.column("stage").cast(pa.string())
    renamed = pc.not_equal(stages, "identity").to_pylist()  # what that drops has the id it came with
    ours = [run is None or (Path(run) / ".corpus").is_dir() for run, _, _ in found]  # else an id of a corpus, as it is there
    columns = {
        "file": pc.struct_field(origin, "file").cast(pa.string()),
        "row": pc.struct_field(origin, "offset"),
        "id": [_own(one, again) if named else None for one, again in zip(table.column("id").to_pylist(), renamed, strict=True)],
        "stage": stages,
        "reason": reasons,
        "of_file": [file for _, file, _ in found],
        "of_row": [row for _, _, row in found],
        "of_id": [(_own(one, True) if own else one) if named else None for one, own in zip(ids, ours, strict=True)],
        "against": [run for run, _, _ in found],
        "jaccard": [one.get("jaccard") for one in evidence],
        "cluster_size": [one.get("cluster_size") for one in evidence],
    }
    return pa.table([pa.chunked_array([column], field.type) if isinstance(column, list) else column
                     for column, field in zip(columns.values(), LOST, strict=True)], schema=LOST)  # fmt: skip


def _own(name: str, renamed: bool) -> str | None:
    """The value of the column that names rows: without the source that a corpus puts before it and the digits behind one that occurs
    again; None where the id is of the row's place."""
    if not name.startswith(f"{_NAME}:"):
        return None
    return (_RENAMED.sub("", name) if renamed else name).removeprefix(f"{_NAME}:")


def _of_file(parts: Sequence[pa.Table], file: str) -> pa.Table:
    """The LOST rows of an input file, in its order."""
    mine = [part.filter(pc.equal(part.column("file"), file)) for part in parts]
    return pa.concat_tables([LOST.empty_table(), *mine]).sort_by([("row", "ascending")])


def _copy(path: Path, target: Path, gone: np.ndarray) -> dict[str, int]:
    """All rows of a file but those of the sorted numbers `gone`, row group by row group, of which _GROUP bytes are held."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetFile(path) as file, atomic_write(target) as temporary:
        with pq.ParquetWriter(temporary, file.schema_arrow, compression="zstd") as writer:
            for table in _groups(path, file, gone):
                writer.write_table(table, row_group_size=max(table.num_rows, 1))
        return {"rows": file.metadata.num_rows, "kept": file.metadata.num_rows - len(gone)}


def _groups(path: Path, file: pq.ParquetFile, gone: np.ndarray) -> Iterator[pa.Table]:
    first = 0
    for group in range(file.num_row_groups):
        after = first + file.metadata.row_group(group).num_rows
        held: list[pa.RecordBatch] = []
        size, at = 0, first
        batches = file.iter_batches(_BATCH, row_groups=[group], use_threads=False)
        while at < after:
            try:
                batch = next(batches)
            except (OSError, pa.ArrowException, StopIteration) as error:
                raise InputError(
                    f"{path}: row group {group} (rows {first:,} to {after - 1:,}) cannot be read from row {at:,} on ({first_line(error)}), "
                    "so that no copy of the file can be made. Repair it, or leave it out and choose another --out"
                ) from None
            low, high = np.searchsorted(gone, (at, at + batch.num_rows))
            held += _without(batch, gone[low:high] - at) if high > low else [batch]
            size, at = size + batch.nbytes, at + batch.num_rows
            if size > _GROUP:
                yield pa.Table.from_batches(held, file.schema_arrow)
                held, size = [], 0
        if held:
            yield pa.Table.from_batches(held, file.schema_arrow)
        first = after


def _without(batch: pa.RecordBatch, gone: np.ndarray) -> list[pa.RecordBatch]:
    """The rows of the batch but those of these numbers."""
    stays = np.ones(batch.num_rows, np.bool_)
    stays[gone] = False
    try:
        return [batch.filter(pa.array(stays))]
    except pa.ArrowNotImplementedError:  # of views, for one: any type has slices
        edges = [-1, *gone.tolist(), batch.num_rows]
        return [batch.slice(low + 1, high - low - 1) for low, high in itertools.pairwise(edges) if high > low + 1]
