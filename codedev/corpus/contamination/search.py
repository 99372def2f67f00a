"""Which questions a finished corpus holds: `codedev corpus contamination`, and what evaluation needs to score without them."""

from __future__ import annotations

import itertools
import textwrap
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codedev._errors import InputError, printable
from codedev._run import Progress, no_progress, write_json
from codedev.corpus.contamination.config import Matching
from codedev.corpus.contamination.find import CONTEXT, FOUND, PERFECT, RELAXED, find
from codedev.corpus.contamination.find import VERSION as FINDING
from codedev.corpus.contamination.texts import VERSION as READING
from codedev.corpus.contamination.texts import Texts, read_texts
from codedev.corpus.parts import PartWriter

MIN_OVERLAP = 0.8
VERSION = f"{FINDING}.{READING}"  # what a result depends on beside the corpus, the questions and the arguments
BATCH = 1024  # documents at a time

# What is found, a row for each question and document.
SEEN = pa.schema(
    [
        ("task", pa.string()),
        ("question", pa.string()),
        ("document", pa.string()),
        ("source", pa.string()),
        *[field for field in FOUND if field.name not in ("row", "question")],
    ],
    metadata={"codedev.schema": "contamination/1"},
)


class Contamination(NamedTuple):
    """Of a corpus against tasks."""

    questions: pa.Table  # task, question, group, kind, tokens (0: too short to be looked for), documents (that hold it), score (best)
    tasks: list[dict[str, Any]]  # task, questions, left_out, too_short, seen, share (of those looked for), documents; groups
    documents: int  # read
    bytes: int  # of their text
    contaminated: int  # documents that hold a question
    by_source: dict[str, int]
    examples: list[dict[str, Any]]  # SEEN: the first of each task, at most EXAMPLES

    def seen(self, task: str | None = None) -> set[str]:
        """The ids of the questions that were seen: of a task, or of all."""
        of = self.questions.filter(pc.greater(self.questions["documents"], 0))
        return set(of.filter(pc.equal(of["task"], task))["question"].to_pylist() if task is not None else of["question"].to_pylist())

    def as_dict(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in ("tasks", "documents", "bytes", "contaminated", "by_source", "examples")}
        return {"format": "codedev.contamination/1", **facts}


EXAMPLES = 3  # of a task


def seen_questions(
    corpus: Path,
    against: Sequence[Path],
    *,
    columns: Mapping[str, str] | None = None,
    matching: Matching | None = None,
    min_overlap: float = MIN_OVERLAP,
    out: Path | None = None,
    threads: int = 1,
    progress: Progress = no_progress,
) -> Contamination:
    """The questions of the files and folders of `against`, each a task, that documents of `corpus` hold.

    `corpus`: a corpus directory, or Parquet files with a column `text` (and `id`, `source`), or a folder of them. `columns` tells which key
    of a row is what, see questions.py. `out`: a folder for questions.parquet, documents.parquet (SEEN, every row) and contamination.json.
    Ids are those of `read_questions`. The same whatever the number of threads; each holds BATCH documents.
    Raises InputError where there is nothing to read.
    """
    matching = matching or Matching()
    parts = _parts(corpus)
    progress("questions", 0, None)
    texts = read_texts(tuple(against), columns or {}, matching, PERFECT)
    count = texts.questions.num_rows
    progress("questions", count, count)
    documents, best = np.zeros(count, np.int64), np.full(count, np.nan, np.float32)
    tasks = texts.questions.column("task").to_pylist()
    held: dict[str, set[tuple[int, int]]] = {task: set() for task in texts.left_out}  # documents that hold a question
    by_source: dict[str, int] = {}
    examples: list[dict[str, Any]] = []
    read = size = contaminated = 0
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with PartWriter((out or Path()) / "documents.parquet", SEEN) if out else _Nowhere() as writer:
        total = sum(pq.read_metadata(path).num_rows for path in parts)
        for number, (batch, found) in enumerate(_found(texts, parts, matching, threads)):
            read, size = read + batch.num_rows, size + int(pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0)
            found = found.filter(pc.greater_equal(found["score"], pa.scalar(min_overlap, pa.float32())))
            progress("contamination", read, total)
            if not found.num_rows:
                continue
            rows, questions = found["row"].to_numpy(), found["question"].to_numpy()
            pairs = np.unique(np.stack([questions, rows]), axis=1)  # a question may be found by two of its parts
            np.add.at(documents, pairs[0], 1)
            np.fmax.at(best, questions, found["score"].to_numpy())
            for question, row in pairs.T.tolist():
                held[tasks[question]].add((number, row))
            contaminated += len(np.unique(rows))
            shown = _shown(texts, batch, found)
            for source in batch.column("source").take(pa.array(np.unique(rows))).to_pylist():
                by_source[source or ""] = by_source.get(source or "", 0) + 1
            writer.add(shown)
            for one in shown.to_pylist():
                if sum(example["task"] == one["task"] for example in examples) < EXAMPLES:
                    examples.append(one)
    questions = texts.questions.append_column("documents", pa.array(documents))
    questions = questions.append_column("score", pa.array(best, pa.float32(), from_pandas=True))
    told = [_task(questions.filter(pc.equal(questions["task"], task)), task, bad, len(held[task])) for task, bad in texts.left_out.items()]
    result = Contamination(questions, told, read, size, contaminated, dict(sorted(by_source.items())), examples)
    if out is not None:
        pq.write_table(questions, out / "questions.parquet", compression="zstd")
        asked = matching.model_dump() | {"min_overlap": min_overlap, "perfect": PERFECT, "relaxed": RELAXED, "context": CONTEXT}
        write_json(out / "contamination.json", result.as_dict() | {"matching": asked})
    return result


class _Nowhere:
    def add(self, batch: pa.RecordBatch) -> None: ...

    def __enter__(self) -> _Nowhere:
        return self

    def __exit__(self, *error: Any) -> None: ...


def _task(questions: pa.Table, task: str, left_out: int, documents: int) -> dict[str, Any]:
    groups = {}
    for group in sorted(set(questions["group"].to_pylist())):
        groups[group] = _counts(questions.filter(pc.equal(questions["group"], group)))
    return {"task": task, **_counts(questions), "left_out": left_out, "documents": documents, "groups": groups}


def _counts(questions: pa.Table) -> dict[str, Any]:
    short = pc.sum(pc.equal(questions["tokens"], 0)).as_py() or 0
    seen = pc.sum(pc.greater(questions["documents"], 0)).as_py() or 0
    looked_for = questions.num_rows - short
    return {"questions": questions.num_rows, "too_short": short, "seen": seen, "share": seen / looked_for if looked_for else None}


def _shown(texts: Texts, batch: pa.RecordBatch, found: pa.Table) -> pa.RecordBatch:
    asked = texts.questions.take(found["question"])
    where = batch.select(["id", "source"]).take(found["row"].combine_chunks())  # not the text again for every question in it
    columns = {"task": asked["task"], "question": asked["question"], "document": where.column("id"), "source": where.column("source")}
    table = pa.table([columns.get(name, found[name] if name in found.column_names else None) for name in SEEN.names], names=SEEN.names)
    return table.cast(SEEN).combine_chunks().to_batches()[0]


def _parts(corpus: Path) -> list[Path]:
    corpus = corpus / ".corpus" if (corpus / ".corpus").is_dir() else corpus  # what `corpus dedup` leaves
    if corpus.is_file():
        found = [corpus]
    elif (corpus / "manifest.json").is_file() or (corpus / "documents").is_dir():
        found = sorted((corpus / "documents").rglob("*.parquet"))
    else:
        found = sorted(corpus.rglob("*.parquet"))
    if not found:
        raise InputError(f"{corpus}: holds no corpus and no Parquet file")
    for path in found:
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: cannot be read as Parquet: {printable(str(error).splitlines()[0])}") from None
        if "text" not in schema.names or not _is_text(schema.field("text").type):
            raise InputError(f"{path}: has no column `text` of strings; it has {printable(', '.join(schema.names))}")
    return found


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _found(texts: Texts, parts: list[Path], matching: Matching, threads: int) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    """(batch, FOUND in it) of all documents, in order. Kernels and Parquet release the GIL: threads are processors."""
    waiting: deque[Future[tuple[pa.RecordBatch, pa.Table]]] = deque()

    def look(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Table]:
        return batch, find(texts, batch.column("text"), matching)

    with ThreadPoolExecutor(threads) as pool:
        try:
            for batch in _batches(parts):
                waiting.append(pool.submit(look, batch))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def _batches(parts: list[Path]) -> Iterator[pa.RecordBatch]:
    """id, source, text of all documents."""
    for path in parts:
        with pq.ParquetFile(path) as file:
            names = [name for name in ("id", "source", "text") if name in file.schema_arrow.names]
            at = 0
            groups = range(file.num_row_groups)  # one at a time: a batch of long books from many would hold them all
            for batch in itertools.chain.from_iterable(file.iter_batches(BATCH, [group], names, use_threads=False) for group in groups):
                text = pc.fill_null(batch.column("text").cast(pa.large_string()), "")
                ids = (
                    batch.column("id").cast(pa.string()) if "id" in names else pa.array([f"{path.name}:{at + n}" for n in range(len(text))])
                )
                source = batch.column("source").cast(pa.string()) if "source" in names else pa.nulls(len(text), pa.string())
                at += len(text)
                yield pa.RecordBatch.from_arrays([ids, source, text], names=["id", "source", "text"])


def show(found: Contamination) -> None:
    """A table of tasks, and the first matches with the text of both sides."""
    from codedev._terminal import note, print_table, size

    rows = [
        [task["task"], task["questions"], task["too_short"], task["seen"], _percent(task["share"]), task["documents"]]
        for task in found.tasks
    ]
    title = f"{found.contaminated:,} of {found.documents:,} documents ({size(found.bytes)}) hold questions"
    print_table(title, ["task", "questions", "too short", "seen", "share", "documents"], rows)
    if len(found.by_source) > 1:
        print_table("Documents that hold questions", ["source", "documents"], [[name, count] for name, count in found.by_source.items()])
    for one in found.examples:
        print(printable(f"{one['task']} {one['question']} ({one['part']}, {one['overlap']:.0%}) in {one['document']}"))
        for side in ("asked", "found"):
            text = textwrap.shorten(printable(" ".join(one[side].split())), 200, placeholder=" …")
            print(textwrap.fill(text, 80, initial_indent=f"  {side}: ", subsequent_indent="         "))
    left_out = sum(task["left_out"] for task in found.tasks)
    if left_out:
        note(f"{left_out:,} rows of the files are no questions and were left out")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
