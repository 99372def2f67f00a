"""A corpus directory as the tokenizer sees it: its parts in the manifest's order, read a row group at a time.

The order of the parts and of the rows in them gives every document its position in the corpus. Memory: one row group (16 MB of text).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from codedev._errors import InputError
from codedev._run import file_hash, read_json
from codedev.corpus.look import is_below

FORMAT = "codedev.corpus/1"
_AGAIN = "Run `codedev corpus build` again"


class Part(NamedTuple):
    path: Path
    name: str  # as the manifest has it: documents/<source>/part-00000.parquet
    rows: int
    text_bytes: int
    hash: str

    @property
    def source(self) -> str:
        """The recipe's name for the source its documents are from."""
        return Path(self.name).parent.name


class Corpus(NamedTuple):
    path: Path
    parts: tuple[Part, ...]
    manifest_hash: str

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def text_bytes(self) -> int:
        return sum(part.text_bytes for part in self.parts)


def open_corpus(path: Path) -> Corpus:
    """The finished corpus at `path`. InputError when there is none, it is unfinished, or it holds no document."""
    manifest_path = path / "manifest.json"
    if not path.is_dir():
        raise InputError(f"{path}: there is no such corpus directory. Make one with `codedev corpus build RECIPE --out {path}`")
    if not manifest_path.is_file():
        raise InputError(f"{path}: has no manifest.json, so it is no corpus or an unfinished one. {_AGAIN}")
    manifest = read_json(manifest_path)
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise InputError(f"{manifest_path}: the format is {found!r}, not '{FORMAT}': not a corpus of this version. {_AGAIN}")
    try:
        entries = manifest["parts"]["documents"]
        parts = tuple(Part(path / e["path"], str(e["path"]), int(e["rows"]), int(e["text_bytes"]), str(e["hash"])) for e in entries)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{manifest_path}: its list of parts cannot be understood ({error!r}). {_AGAIN}") from None
    for part in parts:
        if part.rows < 0 or part.text_bytes < 0:
            raise InputError(f"{manifest_path}: the part {part.name!r} has less than no rows or bytes. {_AGAIN}")
        if not is_below(part.name):
            raise InputError(f"{manifest_path}: the part {part.name!r} lies outside of the corpus. {_AGAIN}")
        if not part.path.is_file():
            raise InputError(f"{part.path}: the manifest names it, but it is missing. {_AGAIN}")
    corpus = Corpus(path, parts, file_hash(manifest_path))
    if corpus.rows == 0:
        raise InputError(f"{path}: the corpus holds no documents. See `codedev corpus report {path}` for where they were dropped")
    return corpus


def verify(part: Part) -> None:
    """InputError when the part's bytes are not those of the manifest. 5 GB/s."""
    if file_hash(part.path) != part.hash:
        raise InputError(f"{part.path}: has changed since the corpus was built, or is damaged. {_AGAIN}")


def batches(part: Part, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The part's rows, one batch a row group, with `text` as large_string without nulls. InputError when it cannot be read, lacks a column
    or has it in another type, or where text is no UTF-8: Parquet says of a column that it is text, and nothing checks that."""
    with _opened(part) as file:
        if file.metadata.num_rows != part.rows:
            raise InputError(f"{part.path}: {file.metadata.num_rows} rows, the manifest says {part.rows}. {_AGAIN}")
        _check_columns(part, file.schema_arrow, columns)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns, use_threads=False)
            if "text" in columns:
                text = pc.fill_null(table.column("text").cast(pa.large_string()), "")
                table = table.set_column(table.schema.get_field_index("text"), "text", text)
            if "id" in columns and table.column("id").null_count:
                raise InputError(f"{part.path}: a document has no id. {_AGAIN}")
            table = table.combine_chunks()
            table.validate(full=True)  # UTF-8, 1 GB/s and more
            yield from table.to_batches()


def column_names(part: Part) -> list[str]:
    """InputError when the part cannot be read."""
    with _opened(part) as file:
        names: list[str] = file.schema_arrow.names
        return names


def _check_columns(part: Part, schema: pa.Schema, columns: list[str]) -> None:
    for name in columns:
        places = schema.get_all_field_indices(name)
        if len(places) != 1:
            raise InputError(f"{part.path}: has {'no column' if not places else 'several columns'} {name}. {_AGAIN}")
        kind = schema.field(places[0]).type
        within = kind.value_type if pa.types.is_dictionary(kind) else kind
        if name.startswith("q."):
            fits = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
        else:
            fits = pa.types.is_string(within) or pa.types.is_large_string(within) or pa.types.is_null(within)
        if not fits:
            raise InputError(
                f"{part.path}: its column {name} is of type {kind}, not {'a number' if name.startswith('q.') else 'text'}. {_AGAIN}"
            )


def id_hashes(ids: pa.Array) -> np.ndarray:
    """uint64 a document: xxh3-64 of its id. 0.3 µs each."""
    return np.array([xxhash.xxh3_64_intdigest(name) for name in ids.cast(pa.large_binary()).to_pylist()], np.uint64)


def find_document(corpus: Corpus, document_id: str, position: int | None = None) -> dict[str, Any] | None:
    """The document's row as Python values, or None. With its position in the corpus one row group is read; without it, or when another
    document stands there, the ids of all parts whose statistics allow it are searched."""
    if position is not None:
        ends = np.cumsum([part.rows for part in corpus.parts])
        at = int(np.searchsorted(ends, position, side="right"))
        if at < len(corpus.parts):
            part = corpus.parts[at]
            row = _row(part, position - int(ends[at]) + part.rows)
            if row is not None and row["id"] == document_id:
                return row
    for part in corpus.parts:
        if (found := _search(part, document_id)) is not None:
            return _row(part, found)
    return None


def _row(part: Part, row: int) -> dict[str, Any] | None:
    with _opened(part) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < rows:
                return file.read_row_group(group, use_threads=False).slice(row, 1).to_pylist()[0]  # type: ignore[no-any-return]
            row -= rows
    return None


def _search(part: Part, document_id: str) -> int | None:
    """The row of the document in the part. Reads the ids alone, and only of row groups whose statistics leave room for it."""
    first = 0
    with _opened(part) as file:
        column = file.schema_arrow.get_field_index("id")
        for group in range(file.num_row_groups):
            metadata = file.metadata.row_group(group)
            statistics = metadata.column(column).statistics
            if statistics is None or not statistics.has_min_max or statistics.min <= document_id <= statistics.max:
                ids = file.read_row_group(group, columns=["id"], use_threads=False).column("id")
                at = pc.index(ids, pa.scalar(document_id, ids.type)).as_py()
                if at >= 0:
                    return first + int(at)
            first += metadata.num_rows
    return None


@contextlib.contextmanager
def _opened(part: Part) -> Iterator[pq.ParquetFile]:
    """The part, open; what reading it raises becomes an InputError."""
    try:
        with pq.ParquetFile(part.path) as file:
            yield file
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{part.path}: cannot be read as Parquet: {str(error).splitlines()[0]}. {_AGAIN}") from None
