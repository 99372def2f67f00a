"""Corpus parts -> the token store, on several threads.

Batches of documents go to `workers` threads (the kernels and the libraries release the GIL; a library's own threads are switched off, so
that `workers` is what is used) and come back in order: the store's bytes do not depend on the number of threads. Memory: the batches
under way, 2 * workers of at most BATCH_BYTES of text each, or of one document where that is larger.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError, nearest
from codedev._run import Progress, content_key, no_progress
from codedev.corpus.buffers import text_buffers
from codedev.tokenize.chat.render import Template
from codedev.tokenize.chat.templates import check_spans, load_template
from codedev.tokenize.documents import Corpus, Part, batches, column_names, id_hashes, verify
from codedev.tokenize.markers import Markers, markers
from codedev.tokenize.mixture import check_names
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.store import LOSS, Store
from codedev.tokenize.told import told_units
from codedev.tokenize.units import Loss, Units, make_units
from codedev.tokenize.vocabulary import Vocabulary, token_name

VERSION = 3  # raised whenever the same text and tokenizer would give another store
BATCH_BYTES = 1 << 20  # of text
BATCH_ROWS = 2048
# The keys of the recipe that decide what the store holds; the others are for packing.
DECIDES = ("mode", "kind_prefix", "residues", "repository", "fim", "chat")

CLUSTER_SIZE = "q.near.cluster_size"

_Make: TypeAlias = Callable[["_Batch"], Units]


class _Batch(NamedTuple):
    rows: pa.RecordBatch
    hashes: np.ndarray
    position: int  # of its first document in the corpus


class State(NamedTuple):
    """What the store does not hold as columns; each receipt has it."""

    sources: list[str]
    groups: list[str]  # of the mixture
    reasons: list[str]  # "" and why documents were dropped
    said: dict[str, dict[str, str]]  # reason -> the first document that was dropped for it, and what was said of it
    counters: Counter[str]


def encode_corpus(
    corpus: Corpus, vocabulary: Vocabulary, recipe: TokenizeRecipe, store: Store, *, workers: int, progress: Progress = no_progress
) -> tuple[State, int]:
    """Fill the store with the documents of every part; parts whose receipt matches are kept. Returns the state and the number of parts
    kept. InputError for a part that changed or cannot be read, or a text that the tokenizer does not cover."""
    marks = markers(vocabulary, recipe)
    template = load_template(recipe.chat.template, vocabulary) if recipe.mode == "sft" else None
    if template is not None and recipe.chat.train_on == "assistant":
        check_spans(template)
    asked = recipe.model_dump(include={*DECIDES, *(("seed", "seq_len", "overlong") if recipe.fim or template else ())}, mode="json")
    asked["template"] = template and template.source
    asked["mixture"] = recipe.mixture and recipe.mixture.model_dump(include={"by", "quality", "cluster_size"}, mode="json")
    columns = _columns(corpus, recipe)
    if recipe.mixture and (recipe.mixture.weights or recipe.mixture.epochs):  # before hours of work; a column of labels is read in no time
        check_names(recipe.mixture, {name for part in corpus.parts for name in labels_of(part, recipe.mixture.by)})
    keys: list[str] = []
    for part in corpus.parts:  # each key holds the one before it: the store is a prefix of the corpus
        keys.append(content_key(VERSION, keys[-1:], part.hash, part.rows, vocabulary.hash, vocabulary.bos_id, vocabulary.eos_id, asked))
    kept, found = store.resume(keys)
    lists = {name: list(found.get(name, first)) for name, first in (("sources", []), ("groups", []), ("reasons", [""]))}
    state = State(lists["sources"], lists["groups"], lists["reasons"], dict(found.get("said", {})), Counter(found.get("counters", {})))
    done, position = (sum(getattr(part, what) for part in corpus.parts[:kept]) for what in ("text_bytes", "rows"))

    def make(batch: _Batch) -> Units:
        return _units(batch, vocabulary, marks, template, recipe)

    with _library_threads_off(), ThreadPoolExecutor(workers, "encode") as pool:
        for index in range(kept, len(corpus.parts)):
            part = corpus.parts[index]
            verify(part)
            for batch, units in _in_order(pool, make, _batches(part, position, columns), 2 * workers):
                done += _append(store, vocabulary, recipe, part, batch, units, state)
                progress("encode", done, corpus.text_bytes)
            position += part.rows
            store.commit(
                index,
                keys[index],
                {
                    "sources": state.sources,
                    "groups": state.groups,
                    "reasons": state.reasons,
                    "said": state.said,
                    "counters": dict(sorted(state.counters.items())),
                },
            )
    return state, kept


def _in_order(pool: ThreadPoolExecutor, make: _Make, batches: Iterator[_Batch], ahead: int) -> Iterator[tuple[_Batch, Units]]:
    """The batches with what is made of them, in order, at most `ahead` of them under way."""
    waiting: deque[tuple[_Batch, Future[Units]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(make, batch)))
            while len(waiting) >= ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _units(batch: _Batch, vocabulary: Vocabulary, marks: Markers, template: Template | None, recipe: TokenizeRecipe) -> Units:
    try:
        if template is not None:
            return told_units(batch.rows, vocabulary, template, recipe)
        return make_units(batch.rows, batch.hashes, vocabulary, marks, recipe)
    except Exception as error:
        if type(error) is not Exception:  # the library raises bare ones
            raise
        raise InputError(f"{vocabulary.path}: the tokenizer cannot encode the corpus: {error}. Use another tokenizer") from None


def _batches(part: Part, position: int, columns: list[str]) -> Iterator[_Batch]:
    """The part's documents, cut after the row whose text passes BATCH_BYTES."""
    for group in batches(part, columns):
        _, ends = text_buffers(group.column("text"))
        hashes = id_hashes(group.column("id"))
        begin = 0
        while begin < group.num_rows:
            end = int(np.searchsorted(ends, ends[begin] + BATCH_BYTES))
            end = min(max(end, begin + 1), begin + BATCH_ROWS, group.num_rows)
            yield _Batch(group.slice(begin, end - begin), hashes[begin:end], position + begin)
            begin = end
        position += group.num_rows


def _append(store: Store, vocabulary: Vocabulary, recipe: TokenizeRecipe, part: Part, batch: _Batch, units: Units, state: State) -> int:
    """Check the batch and append it to the store; returns the bytes of its text."""
    _check(vocabulary, part, batch, units, once=recipe.mode == "pt")
    rows, first = units.rows, store.length("counts")
    ids = batch.rows.column("id").cast(pa.large_string()).take(pa.array(rows))
    data, ends = text_buffers(ids)
    store.append(
        {
            "tokens": units.ids,
            "counts": units.counts,
            "bytes": units.bytes,
            "hashes": batch.hashes[rows],
            "sources": _numbered(batch.rows.column("source"), state.sources)[rows],
            "positions": batch.position + rows,
            "offsets": units.offsets,
            "byte_offsets": units.byte_offsets,
            "begins": store.length("tokens") + np.cumsum(units.counts) - units.counts,
            "groups": _numbered(_labels(batch.rows, recipe), state.groups)[rows],
            "factors": _factors(batch.rows, recipe)[rows],
            "ids": data[ends[0] : ends[-1]],
            "id_offsets": np.concatenate([[0] if first == 0 else [], ends[1:] - ends[0] + store.length("ids")]).astype(np.int64),
            "part_units": units.parts.units + first,
            "part_starts": units.parts.starts,
            "part_bytes": units.parts.bytes,
            "reasons": _numbered(pa.array(units.dropped), state.reasons) if units.dropped else np.zeros(len(rows), np.int32),
            **({"token_bytes": units.byte_lengths} if units.byte_lengths is not None else {}),
            **(_loss(units.loss, first) if units.loss is not None else {}),
        }
    )
    for reason, (row, said) in (units.said or {}).items():
        if reason not in state.said:
            state.said[reason] = {"document": batch.rows.column("id")[row].as_py(), "said": said}
    state.counters.update(units.counters)
    return int(pc.sum(pc.binary_length(batch.rows.column("text"))).as_py() or 0)


def _loss(loss: Loss, first: int) -> dict[str, np.ndarray]:
    return dict(zip(LOSS, (loss.units + first, loss.starts, loss.ends), strict=True))


def _numbered(labels: pa.Array, names: list[str]) -> np.ndarray:
    """int32 a row: the index in `names`, to which new labels are added."""
    encoded = pc.dictionary_encode(labels.cast(pa.string()).fill_null(""))
    found = encoded.dictionary.to_pylist()
    names.extend(name for name in found if name not in names)
    numbers: np.ndarray = np.array([names.index(name) for name in found], np.int32)[encoded.indices.to_numpy()]
    return numbers


def _columns(corpus: Corpus, recipe: TokenizeRecipe) -> list[str]:
    """What is read of the corpus's parts. InputError for a column that the mixture names and they have not."""
    columns = ["id", "source", "kind", "text", "meta"]
    if recipe.mixture:
        wanted = [f"q.{name.removeprefix('q.')}" for name in recipe.mixture.quality]
        wanted += [CLUSTER_SIZE] if recipe.mixture.cluster_size else []
        there = column_names(corpus.parts[0])
        for name in wanted:
            if name not in there:
                what = "cluster_size" if name == CLUSTER_SIZE else f"quality: {name}"
                scores = [column for column in there if column.startswith("q.")]
                raise InputError(f"mixture.{what}: the corpus has no column {name}: {nearest(name, scores)}")
        columns += [*wanted, *([] if recipe.mixture.by in columns else [recipe.mixture.by])]
    return columns


def labels_of(part: Part, column: str) -> set[str]:
    """What `column` says of the part's documents; nothing is ""."""
    return {str(name or "") for rows in batches(part, [column]) for name in pc.unique(rows.column(column)).to_pylist()}


def _labels(rows: pa.RecordBatch, recipe: TokenizeRecipe) -> pa.Array:
    return rows.column(recipe.mixture.by if recipe.mixture else "source")


def _factors(rows: pa.RecordBatch, recipe: TokenizeRecipe) -> np.ndarray:
    """float32 a document: the product of what its values give; a value below the first step, or none, gives 1."""
    found = np.ones(rows.num_rows, np.float32)
    if recipe.mixture:
        steps = {f"q.{name.removeprefix('q.')}": table for name, table in recipe.mixture.quality.items()}
        if recipe.mixture.cluster_size:
            steps[CLUSTER_SIZE] = recipe.mixture.cluster_size
        for name, table in steps.items():
            ordered = sorted(table)
            values = rows.column(name).cast(pa.float64()).fill_null(-np.inf).to_numpy(zero_copy_only=False)
            at = np.searchsorted([start for start, _ in ordered], np.where(np.isnan(values), -np.inf, values), side="right")
            found *= np.array([1.0, *(factor for _, factor in ordered)], np.float32)[at]
    return found


def _check(vocabulary: Vocabulary, part: Part, batch: _Batch, units: Units, *, once: bool) -> None:
    """The tokens of every document cover its text to the byte, but for what markers stand for, and none but ours ends a document. A chat
    template may end every turn with the token that ends documents: then it need not stand `once`."""
    full = np.flatnonzero(units.counts)
    if len(full) == 0:
        return
    begins = np.concatenate([[0], np.cumsum(units.counts[full])[:-1]])
    wrong = once & (np.add.reduceat((units.ids == vocabulary.eos_id).astype(np.int64), begins) > 1)
    problem = f"gives the token that ends a document from text ({token_name(vocabulary, vocabulary.eos_id)!r})"
    if not wrong.any():
        wrong = units.bytes[full] != units.told[full]
        problem = "does not give the text back: its tokens stand for another number of bytes"
    if wrong.any():
        row = int(units.rows[full[np.flatnonzero(wrong)[0]]])
        document = batch.rows.column("id")[row].as_py()
        raise InputError(f"{vocabulary.path}: the tokenizer {problem}: document {document!r} of {part.path}. Use another tokenizer")


@contextlib.contextmanager
def _library_threads_off() -> Iterator[None]:
    """The library reads TOKENIZERS_PARALLELISM at every call."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
