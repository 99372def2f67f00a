"""Near-duplicates: which documents resemble one that is kept, verified by the exact Jaccard similarity of their shingles.

    spill    every standing row's band keys, by prefix of the key                                  disk: 12 bytes a band
    pair     keys that occur twice or more; each document with some before it of the same key      disk: 8 bytes a pair
    filter   pairs whose sketches resemble each other, by a bit of each coordinate                 memory: 14 bytes a document in a pair
    gather   the shingles of the documents that are left                                           disk: 8 bytes a distinct shingle
    decide   in order of preference: dropped when as like as `verify` to one that is kept          kernels/bands.py

A document is compared with survivors alone, so a chain of resemblance never drops what is not like the document that stays. In a bucket
of very many documents each is paired with the first and the last NEAR before it: linear, what differs is kept, and a duplicate further
away may be. The result does not depend on `memory`, on batches or on the order of work. Not yet bounded: where most documents share their
buckets with many, the pairs take up to 2 KB of memory a document. Cost beside the sketches: about 5 µs a document, and a second read of
the texts of documents in pairs.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from codedev._errors import RunError
from codedev._run import atomic_write
from codedev.corpus.buffers import text_buffers
from codedev.corpus.dedup import Changes
from codedev.corpus.near.prefer import ranks_of
from codedev.corpus.near.sketch import of_unit, values
from codedev.corpus.recipe import MinHash
from codedev.corpus.standing import Table, ids_of, read_group, share_out, standing, write_drops
from codedev.kernels.bands import alike, band_keys, decide, low_bits, pairs, repeated
from codedev.kernels.overlap import shingle_sets
from codedev.kernels.shingles import shingle_hashes

NEAR = 8  # of each end of a bucket
FEWEST = 6  # distinct shingles: ten words of five
_RECORD = np.dtype([("key", "<u8"), ("rank", "<u4")])
_ROWS = 4096
CLUSTER = pa.schema([pa.field("row", pa.int64(), nullable=False), pa.field("size", pa.int32(), nullable=False)])


class Found(NamedTuple):
    """Of the documents in a pair: their rows, sorted; who each lost to (an index into `rows`; itself = kept) and how alike they are."""

    rows: np.ndarray
    survivor: np.ndarray
    jaccard: np.ndarray


def clusters_path(found: Path) -> Path:
    """Where the sizes of clusters are written: CLUSTER rows, sorted."""
    return found / "clusters" / "near.parquet"


def find_near(tables: Sequence[Table], found: Path, *, config: MinHash, memory: int, known: int = 0) -> int:
    """Write `found/near-0000.parquet` (CHANGE rows: what is dropped) and `clusters_path(found)` (rows of the survivors, sizes of
    their clusters). Reads what earlier barriers wrote there: what they dropped is not compared. Returns the number of documents dropped.
    The first `known` rows are of earlier corpora (known.py): they stay."""
    rows = max((table.first_row + pq.read_metadata(table.scored).num_rows for table in tables), default=0)
    if rows >= 1 << 32:
        raise RunError(f"{rows:,} documents: near-duplicates are found among at most 2^32. Build the corpus in parts")
    changes = Changes(found)
    ranks = ranks_of(tables, config.keep, rows, known)
    work = found.parent / "near"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir()
    try:
        spilled = _spill(tables, changes, ranks, work, config, memory)
        told = _pairs(spilled, memory)
        told = told[(told >> np.uint64(32)) >= np.uint64(known)]  # documents of earlier corpora are not compared with each other
        result = _decide(tables, told, ranks, work, config)
    finally:
        shutil.rmtree(work)
    _write(tables, result, changes, found, known)
    return int((result.survivor != np.arange(len(result.rows))).sum())


# -- spill -----------------------------------------------------------------------------------------------------------------------------


def _spill(tables: Sequence[Table], changes: Changes, ranks: np.ndarray | None, work: Path, config: MinHash, memory: int) -> list[Path]:
    """The band keys of all standing rows in files by prefix; each fits into a quarter of `memory` with what is done to it."""
    total = sum(pq.read_metadata(table.scored).num_rows for table in tables) * config.bands
    parts = 1
    while parts < 256 and total * 60 / parts > memory / 4:
        parts *= 2
    paths = [work / f"keys-{part:03d}" for part in range(parts)]
    shift = np.uint64(64 - max(parts.bit_length() - 1, 1))
    files = [path.open("wb", buffering=1 << 16) for path in paths]
    try:
        for first, stand, batch in standing(tables, changes, ["_sketch", "kind"]):
            chosen = stand & batch.column("_sketch").is_valid().to_numpy(zero_copy_only=False)
            if not chosen.any():
                continue
            kinds = batch.column("kind").cast(pa.string())
            salts = of_unit(kinds, "code")[chosen].astype(np.uint64)  # documents of another unit have no key in common
            keys = band_keys(values(batch.column("_sketch"))[chosen], config.bands, config.rows, salts)
            places = np.flatnonzero(chosen) + first
            records = np.empty(keys.size, _RECORD)
            records["key"] = keys.ravel()
            records["rank"] = np.repeat(places if ranks is None else ranks[places], config.bands)
            part = (records["key"] >> shift).astype(np.uint8) if parts > 1 else np.zeros(len(records), np.uint8)
            share_out(records, part, files)
    finally:
        for file in files:
            file.close()
    return paths


# -- pairs -----------------------------------------------------------------------------------------------------------------------------


def _pairs(spilled: list[Path], memory: int) -> np.ndarray:
    """uint64[m]: sorted pairs (rank << 32 | lesser rank), each once."""
    told: list[np.ndarray] = []
    held = 0
    for path in spilled:
        records = np.fromfile(path, _RECORD)
        path.unlink()
        records = records[repeated(records["key"].copy())]
        order = np.lexsort((records["rank"], records["key"]))
        keys, ranks = records["key"][order], records["rank"][order]
        told.append(pairs(keys.copy(), ranks.copy(), NEAR))
        held += told[-1].nbytes
        if held > memory / 8:
            told = [np.unique(np.concatenate(told))]
            held = told[0].nbytes // 2  # not again before as much has come
    return np.unique(np.concatenate(told)) if told else np.empty(0, np.uint64)


# -- verification ----------------------------------------------------------------------------------------------------------------------


def _decide(tables: Sequence[Table], told: np.ndarray, ranks: np.ndarray | None, work: Path, config: MinHash) -> Found:
    later, earlier = (told >> np.uint64(32)).astype(np.int64), (told & np.uint64(0xFFFFFFFF)).astype(np.int64)
    del told
    involved = np.unique(np.concatenate([later, earlier]))  # ranks
    rows = involved if ranks is None else _rows_of(involved, ranks)
    left, right = np.searchsorted(involved, later), np.searchsorted(involved, earlier)
    bits = _gather_bits(tables, rows)
    passed = alike(bits, left, right, config.verify)
    left, right = left[passed], right[passed]
    del bits, later, earlier
    used = np.zeros(len(rows), np.bool_)
    used[left] = used[right] = True
    compact = np.cumsum(used) - 1
    left, right, rows = compact[left], compact[right], rows[used]
    sets, bounds = _gather_sets(tables, rows, work, config)
    survivor, jaccard = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    decide(sets, bounds, left, right, config.verify, FEWEST, survivor, jaccard)
    order = np.argsort(rows)
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows))
    return Found(rows[order], place[survivor[order]], jaccard[order])


def _rows_of(involved: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    rows = np.empty(len(ranks), np.uint32)
    rows[ranks] = np.arange(len(ranks), dtype=np.uint32)
    return np.asarray(rows[involved], np.int64)


def _gather_bits(tables: Sequence[Table], rows: np.ndarray) -> np.ndarray:
    """uint64[n, words]: a bit of each coordinate of the rows' sketches (in any order of rows)."""
    order = np.argsort(rows)
    ordered = rows[order]
    bits = np.empty((0, 1), np.uint64)
    for first, batch in _groups_with(tables, ordered, ["_sketch"]):
        low, high = np.searchsorted(ordered, (first, first + batch.num_rows))
        told = low_bits(values(batch.column("_sketch"))[ordered[low:high] - first])
        if not len(bits):
            bits = np.zeros((len(rows), told.shape[1]), np.uint64)
        bits[order[low:high]] = told
    return bits


def _gather_sets(tables: Sequence[Table], rows: np.ndarray, work: Path, config: MinHash) -> tuple[np.ndarray, np.ndarray]:
    """(sets uint64, mapped from disk; bounds int64[n + 1]) of the rows' distinct shingles, in the order of `rows`."""
    order = np.argsort(rows)
    ordered = rows[order]
    sizes = np.zeros(len(rows), np.int64)
    by_row, path = work / "sets-by-row", work / "sets"
    with by_row.open("wb") as file:
        for first, batch in _groups_with(tables, ordered, ["text", "kind"]):
            low, high = np.searchsorted(ordered, (first, first + batch.num_rows))
            taken = batch.take(pa.array(ordered[low:high] - first))
            code = of_unit(taken.column("kind").cast(pa.string()), "code")
            texts = taken.column("text")
            # Of one unit, and few at a time: a text may be large.
            ends = {*range(0, len(taken), _ROWS // 16), *(np.flatnonzero(np.diff(code)) + 1).tolist(), len(taken)}
            for start, end in itertools.pairwise(sorted(ends)):
                unit = "code" if code[start] else "figures"  # two tables of other figures are no duplicates
                hashes, bounds = shingle_hashes(*text_buffers(texts.slice(start, end - start)), ngram=config.ngram, unit=unit)
                distinct, sizes_to = shingle_sets(hashes, bounds)
                sizes[low + start : low + end] = np.diff(sizes_to)
                file.write(distinct.tobytes())
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    if not starts[-1]:
        return np.zeros(1, np.uint64), np.zeros(len(rows) + 1, np.int64)
    mapped = np.memmap(by_row, np.uint64, "r")
    if (np.diff(order) == 1).all():
        bounds = starts
        path = by_row
    else:  # in order of preference
        back = np.argsort(order)
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[back])])
        with path.open("wb") as file:
            for place in back:
                file.write(mapped[starts[place] : starts[place + 1]].tobytes())
    sets = np.asarray(np.memmap(path, np.uint64, "r"))
    sets.flags.writeable = False
    return sets, bounds


def _groups_with(tables: Sequence[Table], ordered: np.ndarray, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(place of the first row, batch) of the row groups that hold any of the sorted rows."""
    for table in tables:
        first = table.first_row
        with pq.ParquetFile(table.scored) as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(ordered, (first, first + count))
                if high > low:
                    with pq.ParquetFile(table.judged) as judged:
                        yield first, read_group(table, file, judged, group, columns)
                first += count


# -- result ----------------------------------------------------------------------------------------------------------------------------


def _write(tables: Sequence[Table], result: Found, changes: Changes, found: Path, known: int) -> None:
    """No drops, no files."""
    gone = np.flatnonzero(result.survivor != np.arange(len(result.rows)))
    sizes = np.bincount(result.survivor, minlength=len(result.rows))
    kept, survivors = np.unique(result.survivor[gone]), result.survivor[gone]
    ids = dict(zip(kept.tolist(), ids_of(tables, result.rows[kept], changes), strict=True))

    def evidence(part: slice) -> list[str]:
        """A Python loop over the dropped rows: 2 µs each."""
        told = zip(survivors[part].tolist(), result.jaccard[gone[part]].tolist(), sizes[survivors[part]].tolist(), strict=True)
        return [
            orjson.dumps({"duplicate_of": ids[to], "jaccard": round(share, 4), "cluster_size": size}).decode() for to, share, size in told
        ]

    lost_to_known = result.rows[survivors] < known
    write_drops(found / "near-0000.parquet", "near", "near_duplicate", result.rows[gone], evidence, changes, lost_to_known)
    path = clusters_path(found)
    if not len(gone):
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as temporary:
        sized = pa.table([result.rows[kept], sizes[kept].astype(np.int32)], schema=CLUSTER)
        pq.write_table(sized, temporary, row_group_size=_ROWS)
