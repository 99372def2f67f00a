"""The documents of a corpus that tokenizers are compared on: a sample by seed, of about so many bytes, in which every source is seen.

Sources share the bytes evenly; what a small one leaves over goes to the others. Of a source, at most GROUPS row groups are read, spread
over its files by a hash of seed and name; of their documents those are taken whose hash of seed and id is lowest, until the source has its
bytes. The same corpus and seed give the same documents in the same order. A long document is represented by its beginning, so that one
book is not the whole sample.

Memory: three times the sample, and a row group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from codedev._errors import InputError
from codedev._run import Progress, no_progress
from codedev.corpus.buffers import text_buffers
from codedev.tokenize.documents import Corpus, Part, id_hashes, verify
from codedev.tokenize.hashing import mix

GROUPS = 16  # row groups of a source that are read, of about 16 MB of text
DOCUMENT_BYTES = 256 << 10  # of a document at most, less in a small sample: a source gives at least DOCUMENTS of them where it has those
DOCUMENTS = 8
LEAST_BYTES = 4 << 10
_SEED = 0x636F6D70617265


class Sample(NamedTuple):
    """Documents with text, in the order of their hashes."""

    texts: pa.LargeStringArray  # cut to document_bytes
    bytes: np.ndarray  # int64: of the whole document
    ids: list[str]
    sources: list[str]
    kinds: list[str]
    languages: list[str]  # "" = not known
    document_bytes: int  # what a longer document was cut to


class _Found(NamedTuple):
    hash: int
    id: str
    source: str
    kind: str
    language: str
    bytes: int
    text: str


def draw(corpus: Corpus, sample_bytes: int, seed: int, progress: Progress = no_progress) -> Sample:
    """About `sample_bytes` of text. InputError for a part that has changed or cannot be read, and where there is no text at all."""
    parts: dict[str, list[Part]] = {}
    for part in corpus.parts:
        parts.setdefault(Path(part.name).parent.name, []).append(part)
    sizes = {source: sum(part.text_bytes for part in some) for source, some in parts.items()}
    quotas = shares(sizes, sample_bytes)
    most = min(max(sample_bytes // len(parts) // DOCUMENTS, LEAST_BYTES), DOCUMENT_BYTES)
    found: list[_Found] = []
    for number, source in enumerate(parts):
        found += _of_source(parts[source], quotas[source], seed, most)
        progress("sources", number + 1, len(parts))
    found.sort(key=lambda one: (one.hash, one.source, one.id))
    if not found:
        raise InputError(f"{corpus.path}: the sample of {sample_bytes} bytes holds no text. Raise --sample-bytes")
    return Sample(
        texts=pa.array([one.text for one in found], pa.large_string()),
        bytes=np.array([one.bytes for one in found], np.int64),
        ids=[one.id for one in found],
        sources=[one.source for one in found],
        kinds=[one.kind for one in found],
        languages=[one.language for one in found],
        document_bytes=most,
    )


def shares(sizes: dict[str, int], total: int) -> dict[str, int]:
    """How many of `total` bytes each source gives: the same number, but none more than it has."""
    found: dict[str, int] = {}
    left = total
    for number, source in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):  # small ones first: what they leave, others get
        found[source] = min(sizes[source], left // (len(sizes) - number))
        left -= found[source]
    return found


def _of_source(parts: list[Part], quota: int, seed: int, most: int) -> list[_Found]:
    """Documents of lowest hash, of each at most `most` bytes, that together reach `quota` bytes; the last one may pass it."""
    held: list[_Found] = []
    bound = (1 << 64) - 1  # a document of a higher hash has no place
    for batch in _groups(parts, seed):
        texts = batch.column("text")
        hashes = mix(id_hashes(batch.column("id")), seed ^ _SEED)
        sizes = np.diff(text_buffers(texts)[1])
        rows = np.flatnonzero((sizes > 0) & (hashes <= np.uint64(bound)))
        rows = rows[np.argsort(hashes[rows], kind="stable")]
        reach = np.cumsum(np.minimum(sizes[rows], most))
        rows = rows[: np.searchsorted(reach, quota) + 1]  # more of this group cannot be needed
        taken = batch.take(pa.array(rows))
        columns = [taken.column(name).cast(pa.string()).to_pylist() for name in ("id", "source", "kind", "lang")]
        cut = _cut(taken.column("text"), most)
        for row, place in enumerate(rows.tolist()):
            name, source, kind, language = (column[row] for column in columns)
            held.append(_Found(int(hashes[place]), name, source or "", kind or "", language or "", int(sizes[place]), cut[row]))
        if sum(min(one.bytes, most) for one in held) > 2 * quota:
            held = _lowest(held, quota, most)
            bound = held[-1].hash if held else 0
    return _lowest(held, quota, most)


def _lowest(found: list[_Found], quota: int, most: int) -> list[_Found]:
    kept, total = [], 0
    for one in sorted(found, key=lambda one: (one.hash, one.id)):
        if total >= quota:
            break
        kept.append(one)
        total += min(one.bytes, most)
    return kept


def _cut(texts: pa.Array, most: int) -> list[str]:
    """The texts, each cut to `most` bytes where a character ends."""
    return [raw.decode() if len(raw) <= most else raw[:most].decode("utf-8", "ignore") for raw in texts.cast(pa.large_binary()).to_pylist()]


def _groups(parts: list[Part], seed: int) -> Iterator[pa.RecordBatch]:
    """Row groups of the parts: all, or GROUPS of them, by hash, from as many parts as there are."""

    def place(*name: Any) -> int:
        return xxhash.xxh3_64_intdigest(repr((seed, *name)).encode())

    chosen = sorted(parts, key=lambda part: (place(part.name), part.name))[:GROUPS]
    places: list[tuple[int, int, int, int]] = []
    for number, part in enumerate(chosen):
        verify(part)
        with _opened(part) as file:
            ranked = sorted(range(file.num_row_groups), key=lambda group: place(part.name, group))
        places += [(rank, place(part.name, group), number, group) for rank, group in enumerate(ranked)]
    for *_, number, group in sorted(places)[:GROUPS]:
        yield from _read(chosen[number], group)


def _opened(part: Part) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(part.path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{part.path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _read(part: Part, group: int) -> Iterable[pa.RecordBatch]:
    with _opened(part) as file:
        try:
            table = file.read_row_group(group, columns=["id", "source", "kind", "lang", "text"], use_threads=False)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise InputError(f"{part.path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    text = pc.fill_null(table.column("text").cast(pa.large_string()), "")
    return table.set_column(table.schema.get_field_index("text"), "text", text).combine_chunks().to_batches()  # type: ignore[no-any-return]
