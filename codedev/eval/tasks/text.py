"""Bits per byte of documents, by source, kind and language: what a model needs to tell a text, whatever its tokenizer.

A document is read alone, from the token that begins it to the one that ends it; perplexity.py has the definition. What is longer than the
window is read in windows of which every later one has half a window before the tokens that it counts, so that each token counts once.
Beside it stand gzip -9 and zstd -19 on each document alone, headers included, as a model starts every document afresh.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from codedev._errors import InputError
from codedev._run import Progress
from codedev.corpus.questions import files_of, rows_of
from codedev.eval import intervals
from codedev.eval.lm import LM
from codedev.eval.recipe import TextTask
from codedev.eval.tasks.asked import Asked, Measured, chosen
from codedev.tokenize import documents
from codedev.tokenize.shards import open_shards

VERSION = 1
METRICS = ("bits_per_byte", "gzip", "zstd")
_FIXED = [
    ("id", pa.string()),
    ("group", pa.string()),
    ("asked", pa.large_string()),  # its beginning
    ("gold", pa.large_string()),
    ("said", pa.large_string()),
    ("score", pa.float64()),  # bits per byte
    ("bits", pa.float64()),
    ("bytes", pa.int64()),
    ("tokens", pa.int64()),
    ("gzip", pa.int64()),  # bytes
    ("zstd", pa.int64()),
]
_SHOWN = 200  # characters of a document that are kept with its record
_PLAIN = (".txt", ".md", ".tex", ".py", ".rst")


def questions(task: TextTask) -> Asked:
    """The documents as id, text and the columns of task.by."""
    if task.paths:
        return _of_files(task)
    if task.shards is None:
        assert task.corpus is not None  # the recipe sees to it
        return _of_corpus(task, Path(task.corpus), None)
    shards = open_shards(Path(task.shards))
    corpus = Path(task.corpus) if task.corpus else (shards.path / shards.manifest["corpus"]["path"]).resolve()
    wanted = shards.documents()
    if not wanted:
        raise InputError(f"{task.name}: {task.shards} holds no document. Hold out more when you tokenize")
    return _of_corpus(task, corpus, wanted)


def ask(task: TextTask, asked: Asked, at: range, lm: LM, progress: Progress) -> pa.Table:
    some = asked.table.slice(at.start, len(at))
    texts = some.column("text").to_pylist()
    told = lm.read(texts, task.window, progress)
    data = [text.encode() for text in texts]
    sizes = np.array([len(one) for one in data], np.int64)
    bits = np.array([one.bits for one in told])
    zstd = zstandard.ZstdCompressor(level=19)
    columns = {
        "id": some.column("id"),
        "group": some.column("group"),
        "asked": [text[:_SHOWN] for text in texts],
        "gold": [""] * len(texts),
        "said": [""] * len(texts),
        "score": bits / sizes,
        "bits": bits,
        "bytes": sizes,
        "tokens": [one.tokens for one in told],
        "gzip": [len(zlib.compress(one, 9, wbits=31)) for one in data],
        "zstd": [len(zstd.compress(one)) for one in data],
    }
    by = [name for name in some.column_names if name in task.by]
    schema = pa.schema(_FIXED + [(name, pa.string()) for name in by])
    return pa.Table.from_pydict(columns | {name: some.column(name) for name in by}, schema)


def measure(task: TextTask, records: pa.Table, seed: int) -> Measured:
    found = {"": _figures(records, seed)}
    for name in task.by:
        if name not in records.column_names:
            continue
        values = pc.unique(records.column(name)).to_pylist()
        for value in sorted(value for value in values if value is not None) if len(values) > 1 else ():
            found[f"{name}={value}"] = _figures(records.filter(pc.field(name) == value), seed)
    return found


def _figures(records: pa.Table, seed: int) -> dict[str, intervals.Estimate]:
    size = records.column("bytes").to_numpy()
    found = {"bits_per_byte": intervals.ratio(records.column("bits").to_numpy(), size, seed)}
    for name in ("gzip", "zstd"):
        value = 8 * float(records.column(name).to_numpy().sum() / size.sum())
        found[name] = intervals.Estimate(value, value, value, len(records))
    return found


def _of_files(task: TextTask) -> Asked:
    files, ids, texts, groups = [], [], [], []
    by: dict[str, list[str | None]] = {name: [] for name in task.by}  # as rows have them; the source of others is their file
    for path in map(Path, task.paths):
        plain = [path] if path.suffix.lower() in _PLAIN else sorted(path.rglob("*")) if path.is_dir() else []
        plain = [file for file in plain if file.suffix.lower() in _PLAIN and file.is_file()]
        for file in plain:
            files.append(file)
            ids.append(file.name if file == path else file.relative_to(path).as_posix())
            groups.append(path.name)
            for name, values in by.items():
                values.append(path.name if name == "source" else None)
            try:
                texts.append(file.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{file}: cannot be read: {error}") from None
        for file in files_of([path]) if not plain else ():
            files.append(file)
            for number, row in enumerate(rows_of(file)):
                text = row.get(task.text)
                if not isinstance(text, str):
                    raise InputError(f"{file}: row {number} has no text in '{task.text}', it has {', '.join(row)}. Set `text`")
                ids.append(str(row.get("id", f"{file.name}/{number}")))
                groups.append(file.name)
                texts.append(text)
                for name, values in by.items():
                    value = row.get(name, file.name if name == "source" else None)
                    values.append(None if value is None else str(value))
    told = {name: pa.array(values, pa.string()) for name, values in by.items() if any(value is not None for value in values)}
    columns = {"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.large_string()), "source": pa.array(groups, pa.string())}
    table = pa.table(columns | told)
    return Asked(_limited(table, task), {}, (), files)


def _of_corpus(task: TextTask, path: Path, wanted: Sequence[str] | None) -> Asked:
    corpus = documents.open_corpus(path)
    ids = list(wanted) if wanted is not None else [one for part in corpus.parts for one in _ids(part)]
    own = set(ids if task.limit is None else [ids[at] for at in chosen(ids, task.limit)])
    values = pa.array(sorted(own), pa.string())
    tables = []
    for part in corpus.parts:
        names = ["id", "text", *(name for name in task.by if name in documents.column_names(part))]
        for batch in documents.batches(part, names):
            mask = pc.is_in(batch.column("id").cast(pa.string()), values)
            if pc.any(mask).as_py():
                found = pa.Table.from_batches([batch.filter(mask)])
                tables.append(found.cast(pa.schema([(name, pa.large_string() if name == "text" else pa.string()) for name in names])))
    table = pa.concat_tables(tables, promote_options="default") if tables else None
    if table is None or table.num_rows < len(own):
        missing = len(own) - (table.num_rows if table is not None else 0)
        raise InputError(f"{task.name}: {path} lacks {missing} documents of the shards. Name the corpus they were made of with `corpus`")
    return Asked(_limited(table, task), {}, (), [path / "manifest.json"])


def _ids(part: documents.Part) -> Iterator[str]:
    for batch in documents.batches(part, ["id"]):
        yield from batch.column("id").to_pylist()


def _limited(table: pa.Table, task: TextTask) -> pa.Table:
    """Without empty documents, `limit` of them, with their group: the source where there is one."""
    table = table.filter(pc.greater(pc.binary_length(table.column("text")), 0))
    if not table.num_rows:
        raise InputError(f"{task.name}: there is no text in its documents")
    if task.limit is not None:
        table = table.take(chosen(table.column("id").to_pylist(), task.limit))
    group = table.column("source") if "source" in table.column_names else pa.array([task.name] * table.num_rows, pa.string())
    return table.append_column("group", group)
