"""Documents of several languages: a tag for each passage, and the share of each language.

Passages are runs of whole lines of 200 bytes and more; at most 16 of a document are looked at, evenly spaced, 512 bytes of each
(kernels/passages.py). A document with a single passage is what the document's tag says. Columns:

    q.lang.share      share of the text's bytes that is in the document's language
    q.lang.second     the language with the next largest share; null where there is none
    q.lang.passages   where the language changes: "0:en 8124:fr 9001:en", offsets in bytes; null for a single language
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.buffers import text_buffers
from codedev.corpus.document import PROSE_KINDS
from codedev.corpus.language.identify import Identifier
from codedev.corpus.stage import Stage
from codedev.kernels.passages import passages

COLUMNS = pa.schema(
    [pa.field("q.lang.share", pa.float32()), pa.field("q.lang.second", pa.string()), pa.field("q.lang.passages", pa.string())]
)
LEAST_SCORE = 0.5  # a passage that is less certain counts as its neighbour before it, or the document
LEAST_SHARE = 0.02  # of the text: less is a quotation or an error


def mixed_stage(identifier: Identifier) -> Stage:
    """A Stage after the language stage: appends COLUMNS to prose that has a language."""

    def stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        counts = Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)
        lang = batch.column("lang").cast(pa.string())
        prose = pc.and_(pc.is_in(batch.column("kind").cast(pa.string()), pa.array(sorted(PROSE_KINDS))), pc.is_valid(lang))
        asked = pc.indices_nonzero(prose)
        share, second, changes = _shares(identifier, batch.column("text").take(asked), lang.take(asked))
        for field, values in zip(COLUMNS, (share, second, changes), strict=True):
            column = pc.replace_with_mask(pa.nulls(batch.num_rows, field.type), prose, values)
            batch = batch.append_column(field, column)
        return batch, counts

    return stage


def _shares(identifier: Identifier, texts: pa.Array, lang: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
    found = passages(*text_buffers(texts))
    per_row = np.bincount(found.row, minlength=len(texts))
    several = np.flatnonzero(per_row[found.row] > 1)  # passages of documents that have more than one
    share = np.ones(len(texts), np.float32)
    second: list[str | None] = [None] * len(texts)
    changes: list[str | None] = [None] * len(texts)
    if len(several):
        offsets = pa.py_buffer(np.ascontiguousarray(found.offsets))
        parts = pa.LargeStringArray.from_buffers(len(found.row), offsets, pa.py_buffer(np.ascontiguousarray(found.data)))
        tags, scores = identifier.identify(parts.take(pa.array(several)))
        certain = np.asarray(scores) >= LEAST_SCORE
        documents = lang.take(pa.array(found.row[several]))
        same = np.asarray(pc.fill_null(pc.equal(tags, documents), False)) | ~certain
        strange = np.unique(found.row[several][~same])
        # A Python loop over the documents that have a passage in another language: about 20 µs each.
        for row in strange.tolist():
            mine = _rows(found.row[several], row)
            share[row], second[row], changes[row] = _told(
                lang[row].as_py(),
                [tag if sure else None for tag, sure in zip(tags.take(pa.array(mine)).to_pylist(), certain[mine].tolist(), strict=True)],
                found.start[several][mine].tolist(),
                found.weight[several][mine].tolist(),
            )
    return pa.array(share), pa.array(second, pa.string()), pa.array(changes, pa.string())


def _rows(rows: np.ndarray, row: int) -> np.ndarray:
    """The positions of `row` in the sorted array `rows`."""
    return np.arange(np.searchsorted(rows, row), np.searchsorted(rows, row, "right"))


def _told(main: str, tags: list[str | None], starts: list[int], weights: list[int]) -> tuple[float, str | None, str | None]:
    """(share of the main language, second language, changes) of a document's passages."""
    filled: list[str] = []
    for tag in tags:
        filled.append(tag or (filled[-1] if filled else main))
    bytes_of: Counter[str] = Counter()
    for tag, weight in zip(filled, weights, strict=True):
        bytes_of[tag] += weight
    whole = sum(weights)
    rare = {tag for tag, size in bytes_of.items() if size < LEAST_SHARE * whole and tag != main}
    filled = [main if tag in rare else tag for tag in filled]
    bytes_of = Counter()
    for tag, weight in zip(filled, weights, strict=True):
        bytes_of[tag] += weight
    others = sorted((-size, tag) for tag, size in bytes_of.items() if tag != main)
    told = [f"{start}:{tag}" for n, (start, tag) in enumerate(zip(starts, filled, strict=True)) if n == 0 or filled[n - 1] != tag]
    return bytes_of[main] / whole, others[0][1] if others else None, " ".join(told) if others else None
