"""Corpus parts -> the token store, on several threads.

Batches of documents go to `workers` threads (the library releases the GIL; its own threads are switched off, so that `workers` is what
is used) and come back in order: the store's bytes do not depend on the number of threads. Memory: the batches under way, 2 * workers of
at most BATCH_BYTES of text each, or of one document where that is larger.
Beside the library a document costs about 4 µs of Python; a corpus of 100-byte documents is thereby bounded to 25 MB/s.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError
from codedev._run import Progress, content_key, no_progress
from codedev.corpus.buffers import text_buffers
from codedev.tokenize.documents import Corpus, Part, batches, id_hashes, verify
from codedev.tokenize.store import Store
from codedev.tokenize.vocabulary import Tokens, Vocabulary, encode_texts

VERSION = 1  # raised whenever the same text and tokenizer would give another store
BATCH_BYTES = 1 << 20  # of text
BATCH_ROWS = 2048


class _Batch(NamedTuple):
    source: list[str]
    ids: pa.LargeStringArray
    texts: pa.LargeStringArray


def encode_corpus(
    corpus: Corpus, vocabulary: Vocabulary, store: Store, *, workers: int, progress: Progress = no_progress
) -> tuple[list[str], int]:
    """Fill the store with the documents of every part; parts whose receipt matches are kept. Returns the names of the sources and the
    number of parts kept. InputError for a part that changed or cannot be read, or a text that the tokenizer does not cover."""
    keys: list[str] = []
    for part in corpus.parts:  # each key holds the one before it: the store is a prefix of the corpus
        keys.append(content_key(VERSION, keys[-1:], part.hash, part.rows, vocabulary.hash, vocabulary.bos_id, vocabulary.eos_id))
    kept, sources = store.resume(keys)
    done = sum(part.text_bytes for part in corpus.parts[:kept])
    with _library_threads_off(), ThreadPoolExecutor(workers, "encode") as pool:
        for index in range(kept, len(corpus.parts)):
            part = corpus.parts[index]
            verify(part)
            for batch, tokens in _in_order(pool, vocabulary, part, 2 * workers):
                done += _append(store, vocabulary, part, batch, tokens, sources)
                progress("encode", done, corpus.text_bytes)
            store.commit(index, keys[index], sources)
    return sources, kept


def _in_order(pool: ThreadPoolExecutor, vocabulary: Vocabulary, part: Part, ahead: int) -> Iterator[tuple[_Batch, Tokens]]:
    """The part's batches with their tokens, in order, at most `ahead` of them under way."""
    waiting: deque[tuple[_Batch, Future[Tokens]]] = deque()
    try:
        for batch in _batches(part):
            waiting.append((batch, pool.submit(_encode, vocabulary, batch.texts)))
            while len(waiting) >= ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _encode(vocabulary: Vocabulary, texts: pa.LargeStringArray) -> Tokens:
    try:
        return encode_texts(vocabulary, texts.to_pylist())
    except Exception as error:
        if type(error) is not Exception:  # the library raises bare ones
            raise
        raise InputError(f"{vocabulary.path}: the tokenizer cannot encode the corpus: {error}. Use another tokenizer") from None


def _batches(part: Part) -> Iterator[_Batch]:
    """The part's documents, cut after the row whose text passes BATCH_BYTES."""
    for group in batches(part, ["id", "source", "text"]):
        _, ends = text_buffers(group.column("text"))
        begin = 0
        while begin < group.num_rows:
            end = int(np.searchsorted(ends, ends[begin] + BATCH_BYTES))
            end = min(max(end, begin + 1), begin + BATCH_ROWS, group.num_rows)
            rows = group.slice(begin, end - begin)
            names = rows.column("source").cast(pa.string()).to_pylist()
            yield _Batch(names, rows.column("id").cast(pa.large_string()), rows.column("text"))
            begin = end


def _append(store: Store, vocabulary: Vocabulary, part: Part, batch: _Batch, tokens: Tokens, sources: list[str]) -> int:
    """Check the batch and append it to the store; returns the bytes of its text."""
    sizes = pc.binary_length(batch.texts).to_numpy()
    _check(vocabulary, part, batch, tokens, sizes)
    for name in dict.fromkeys(batch.source):
        if name not in sources:
            sources.append(name)
    number = {name: i for i, name in enumerate(sources)}
    data, ends = text_buffers(batch.ids)
    arrays = {
        "tokens": tokens.ids,
        "counts": tokens.counts,
        "bytes": sizes,
        "hashes": id_hashes(batch.ids),
        "sources": np.array([number[name] for name in batch.source], np.int32),
        "ids": data[ends[0] : ends[-1]],
        "id_sizes": np.diff(ends).astype(np.int32),
    }
    if tokens.byte_lengths is not None:
        arrays["token_bytes"] = tokens.byte_lengths
    store.append(arrays)
    return int(sizes.sum())


def _check(vocabulary: Vocabulary, part: Part, batch: _Batch, tokens: Tokens, sizes: np.ndarray) -> None:
    """The tokens of every document cover its text to the byte, and none but ours is the one that ends a document."""
    full = np.flatnonzero(tokens.counts)
    if len(full) == 0:
        return
    begins = np.concatenate([[0], np.cumsum(tokens.counts[full])[:-1]])
    wrong = np.add.reduceat((tokens.ids == vocabulary.eos_id).astype(np.int64), begins) != 1
    problem = f"gives the token that ends a document from text ({vocabulary.tokenizer.id_to_token(vocabulary.eos_id)!r})"
    if not wrong.any():
        spans = vocabulary.byte_lengths[tokens.ids] if vocabulary.byte_lengths is not None else tokens.byte_lengths
        assert spans is not None  # one of the two is there
        wrong = np.add.reduceat(spans, begins, dtype=np.int64) != sizes[full]
        problem = "does not give the text back: its tokens stand for another number of bytes"
    if wrong.any():
        document = batch.ids[int(full[np.flatnonzero(wrong)[0]])].as_py()
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
