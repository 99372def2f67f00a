"""Earlier corpora that a build is compared with (`dedup.against`): what they hold is not kept again.

Their documents take part in the barriers `identity`, `exact`, `url` and `near` as rows before all others: they are never dropped, renamed
or written, and a document that loses to one of them has a reason that begins with `known_`.

An index is what the barriers need beside the documents: a judged table without verdicts (ids and hashes) and the sketches, row by row and
row group by row group as the part of the corpus that it is of. A build with `dedup.index: true` writes its own (`index/`), of the texts as
they were before anything was cut out of them; for a corpus that has none, or sketches of another kind, it is computed here: a read of the
texts at about 500 MB/s a core, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from codedev._errors import InputError, printable
from codedev._run import Progress, content_key, file_hash, read_json, read_receipt, write_receipt
from codedev.corpus.document import DOCUMENT
from codedev.corpus.engines.local import Run
from codedev.corpus.parts import PartWriter, read_part
from codedev.corpus.recipe import CorpusRecipe
from codedev.corpus.standing import Table
from codedev.corpus.unit import JUDGED, Context

VERSION = 1
_DESCRIPTION = b"codedev.index"  # in a file's metadata: what its columns are computed with


class Part(NamedTuple):
    """A part of an earlier corpus: its documents, what they hash to, and its own index where that can be used."""

    documents: Path
    hash: str
    own_index: Path | None


class Known(NamedTuple):
    """All of them: the tables in order, the rows in them, and a key of their content."""

    tables: list[Table]
    rows: int
    key: str


def index_schema(recipe: CorpusRecipe) -> pa.Schema:
    """JUDGED, every verdict null, and `_sketch` where the recipe compares sketches; the metadata says how they are made."""
    minhash = recipe.dedup.minhash
    made: Any = None
    columns = pa.schema([])
    if minhash:
        from codedev.corpus.near import sketch

        columns = sketch.columns(minhash)
        made = content_key(sketch.VERSION, minhash.model_dump(mode="json", include={"ngram", "bands", "rows", "method", "seed"}))
    return pa.schema([*JUDGED, *columns], metadata={_DESCRIPTION: content_key(VERSION, made)})


def index_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of an index and the text, by whose size row groups are cut, of scored documents."""
    columns = [
        batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows, schema.field(name).type) for name in schema.names
    ]
    return pa.RecordBatch.from_arrays([*columns, batch.column("text")], names=[*schema.names, "text"])


def parts_of(recipe: CorpusRecipe, base: Path, out: Path) -> list[Part]:
    """The parts of the corpora that `dedup.against` names. InputError where one is no finished corpus, or not what it was."""
    found: list[Part] = []
    described = dict(index_schema(recipe).metadata or {})[_DESCRIPTION]
    for name in recipe.dedup.against:
        corpus = base / name
        corpus = corpus / ".corpus" if (corpus / ".corpus").is_dir() else corpus  # what `corpus dedup` leaves
        if corpus.resolve() == out.resolve():
            raise InputError(f"{name}: is the corpus that is built here. Name an earlier one, or choose another --out")
        if not (corpus / "manifest.json").is_file():
            raise InputError(f"{name}: holds no finished corpus (no manifest.json). Name a directory that `corpus build` wrote")
        manifest = read_json(corpus / "manifest.json")
        try:
            listed = [(str(part["path"]), str(part["hash"]), int(part["rows"])) for part in manifest["parts"]["documents"]]
            indexes = {str(part["path"]): str(part["hash"]) for part in manifest["parts"].get("index", [])}
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{name}: its manifest.json lists no documents. Build that corpus again") from None
        for told, digest, rows in listed:
            if not rows:
                continue
            inside = PurePosixPath(told)
            if inside.parts[:1] != ("documents",) or ".." in inside.parts:
                raise InputError(f"{name}: its manifest.json lists {printable(told)}, which is no part of it. Build that corpus again")
            _check(corpus / inside, rows)
            index = PurePosixPath("index", *inside.parts[1:])
            usable = _usable(corpus / index, corpus / inside, described, indexes.get(str(index)))
            found.append(Part(corpus / inside, digest, corpus / index if usable else None))
    return found


def _check(path: Path, rows: int) -> None:
    try:
        facts = pq.read_metadata(path)
        held, names = facts.num_rows, facts.schema.to_arrow_schema().names
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}), but its corpus lists it. Build that corpus again"
        ) from None
    if held != rows:
        raise InputError(f"{path}: holds {held:,} documents where its manifest says {rows:,}. Build that corpus again")
    if missing := [name for name in ("id", "text", "kind", "url", "created") if name not in names]:
        raise InputError(f"{path}: has no column '{missing[0]}', so it is no part of a corpus. Build that corpus again")


@contextmanager
def naming_damage(paths: Iterable[Path]) -> Iterator[None]:
    """Where reading fails and one of these parts of earlier corpora cannot be read through, InputError names it. What hashes would tell
    before costs a read of all earlier corpora; this costs nothing until then."""
    try:
        yield
    except (OSError, pa.ArrowException):
        for path in paths:
            try:
                with pq.ParquetFile(path) as file:
                    for _ in file.iter_batches(256, use_threads=False):
                        pass
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"{path}: is damaged ({str(error).splitlines()[0]}). Build that corpus again") from None
        raise


def _usable(index: Path, documents: Path, described: bytes, digest: str | None) -> bool:
    """The file that the corpus lists, made in the same way, row group by row group as the documents."""
    try:
        if digest is None or file_hash(index) != digest:
            return False
        mine, theirs = pq.read_metadata(index), pq.read_metadata(documents)
    except (OSError, pa.ArrowException):
        return False
    groups = [[facts.row_group(group).num_rows for group in range(facts.num_row_groups)] for facts in (mine, theirs)]
    return (mine.metadata or {}).get(_DESCRIPTION) == described and groups[0] == groups[1]


def index_all(context: Context, run: Run, progress: Progress) -> Known:
    """The tables of all parts; the indexes that are missing are computed under `.work/known`, and kept there."""
    parts = parts_of(context.recipe, context.base, context.out)
    told: dict[int, Path] = {number: part.own_index for number, part in enumerate(parts) if part.own_index}
    missing = {part.hash: part for part in parts if not part.own_index}  # a corpus may be named twice
    made: dict[str, Path] = {}
    if missing:
        progress("index", 0, len(missing))
        for digest, path in run(partial(_index_one, context), missing.values()):
            made[digest] = path
            progress("index", len(made), len(missing))
    told |= {number: made[part.hash] for number, part in enumerate(parts) if not part.own_index}
    _remove_others(context, set(told.values()))
    tables: list[Table] = []
    rows = 0
    for number, part in enumerate(parts):
        tables.append(Table(part.documents, told[number], rows, known=True))
        rows += pq.read_metadata(part.documents).num_rows
    return Known(tables, rows, known_key(parts))


def known_key(parts: list[Part]) -> str:
    return content_key([(part.hash, part.own_index is not None) for part in parts])


def _index_one(context: Context, part: Part) -> tuple[str, Path]:
    """(the part's hash, its index), which is computed unless it is there."""
    from codedev.corpus.score import with_identity

    schema = index_schema(context.recipe)
    path = context.work / "known" / f"{content_key(part.hash, (schema.metadata or {})[_DESCRIPTION].decode())}.parquet"
    receipt = path.with_suffix(".json")
    if file_hash(part.documents) != part.hash:
        raise InputError(f"{part.documents}: is not what its corpus wrote. Build that corpus again")
    if read_receipt(receipt):
        return part.hash, path
    minhash = context.recipe.dedup.minhash
    columns = [name for name in DOCUMENT.names if name in pq.read_schema(part.documents).names]

    def indexed() -> Iterator[pa.RecordBatch]:
        for batch in read_part(part.documents, columns):
            batch = with_identity(batch)
            if minhash:
                from codedev.corpus.near.sketch import sketch_stage

                batch, _ = sketch_stage(minhash)(batch)
            yield batch

    with PartWriter(path, schema, regrouped=False) as writer:
        for batch in indexed():
            writer.add(index_batch(batch, schema))
    write_receipt(receipt, [path], {"rows": writer.rows})
    return part.hash, path


def _remove_others(context: Context, used: set[Path]) -> None:
    folder = context.work / "known"
    for path in folder.glob("*") if folder.is_dir() else ():
        if path.with_suffix(".parquet") not in used:
            path.unlink()
