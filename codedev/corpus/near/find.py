"""Near-duplicates: which documents resemble one that is kept, verified by the exact Jaccard similarity of their shingles.

    spill    every standing row's band keys, by prefix of the key; a bit of each coordinate     disk: 12 bytes a band, 1 bit a coordinate
    pair     keys that occur twice or more; each document with some before it of the same key   disk: 8 bytes a pair and key (below)
             whose bits resemble its own
    gather   the shingles of the documents that are left                                        disk: 8 bytes a distinct shingle
    decide   in order of preference: dropped when as like as `verify` to one that is kept       kernels/bands.py

A document is compared with survivors alone, so a chain of resemblance never drops what is not like the document that stays. In a bucket
of very many documents each is paired with the first and the last NEAR before it: linear, what differs is kept, and a duplicate further
away may be. The result does not depend on `memory`, on batches or on the order of work.

Memory, whatever the documents: `memory`, and beside it 20 bytes a document in a pair, 8 bytes a row where there is a preference. What is
mapped is read by place and given back in turns. Disk, where most documents share their buckets with many: up to 128 bytes a document and
band, twice. Cost beside the sketches: about 5 µs a document, and a second read of the texts of documents in pairs.
"""

from __future__ import annotations

import itertools
import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
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
from codedev.corpus.known import naming_damage
from codedev.corpus.near.external import sorted_blocks
from codedev.corpus.near.prefer import ranks_of
from codedev.corpus.near.sketch import of_unit, values
from codedev.corpus.recipe import MinHash
from codedev.corpus.standing import Table, ids_of, read_group, share_out, standing, write_drops
from codedev.kernels.bands import alike, band_keys, decide, ends_of_last, low_bits, mark, marked, pairs, places, repeated
from codedev.kernels.overlap import shingle_sets
from codedev.kernels.shingles import shingle_hashes

NEAR = 8  # of each end of a bucket
FEWEST = 6  # distinct shingles: ten words of five
_RECORD = np.dtype([("key", "<u8"), ("rank", "<u4")])
_PAIR = np.dtype([("pair", "<u8")])  # rank << 32 | lesser rank
_RECORD_BYTES = 60  # of memory a record, with what is done to it
_ROWS = 4096
CLUSTER = pa.schema([pa.field("row", pa.int64(), nullable=False), pa.field("size", pa.int32(), nullable=False)])


class Found(NamedTuple):
    """Of the documents in a pair: their rows, sorted; who each lost to (an index into `rows`; itself = kept) and how alike they are."""

    rows: np.ndarray  # uint32[n]
    survivor: np.ndarray  # uint32[n]
    jaccard: np.ndarray  # float32[n]


class _Mapped(NamedTuple):
    """A file of uint64 as an array. What was read of it counts as this process's memory until it is given back."""

    array: np.ndarray  # read-only
    file: mmap.mmap | None  # None where the file is empty

    def give_back(self) -> None:
        if self.file:
            self.file.madvise(mmap.MADV_DONTNEED)  # of a file that is only read: its pages are read again when asked for


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
    work = found.parent / "near"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir()
    try:
        with naming_damage(table.scored for table in tables if table.known):
            ranks = ranks_of(tables, config.keep, rows, work, memory=memory, known=known)
            spilled, bits = _spill(tables, changes, ranks, rows, work, config, memory)
            back = _inverse(ranks)
            del ranks
            pairs_path = _pairs(spilled, bits, work, config, memory, known)
            result = _decide(tables, pairs_path, back, rows, work, config, memory)
            return _write(tables, result, changes, found, known, work)
    finally:
        shutil.rmtree(work)


def _inverse(ranks: np.ndarray | None) -> np.ndarray | None:
    """uint32[rows]: the row of each rank."""
    if ranks is None:
        return None
    rows = np.empty(len(ranks), np.uint32)
    for low in range(0, len(ranks), 1 << 20):
        rows[ranks[low : low + (1 << 20)]] = np.arange(low, min(low + (1 << 20), len(ranks)), dtype=np.uint32)
    return rows


def _mapped(path: Path) -> _Mapped:
    if not path.stat().st_size:
        return _Mapped(np.frombuffer(b"", np.uint64), None)
    with path.open("rb") as file:
        opened = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _Mapped(np.frombuffer(opened, np.uint64), opened)


# -- spill -----------------------------------------------------------------------------------------------------------------------------


def _spill(
    tables: Sequence[Table], changes: Changes, ranks: np.ndarray | None, rows: int, work: Path, config: MinHash, memory: int
) -> tuple[list[Path], Path]:
    """The band keys of all standing rows in files by prefix, each of which fits into a quarter of `memory` unless one key is too common;
    and the bits of their sketches, by rank."""
    total = sum(pq.read_metadata(table.scored).num_rows for table in tables) * config.bands
    parts = 1
    while parts < 256 and total * _RECORD_BYTES / parts > memory / 4:
        parts *= 2
    paths = [work / f"keys-{part:03d}" for part in range(parts)]
    shift = np.uint64(64 - max(parts.bit_length() - 1, 1))
    width = max(1, config.bands * config.rows // 64)
    files = [path.open("wb", buffering=1 << 14) for path in paths]
    (work / "bits").touch()
    out = _writable(work / "bits", max(rows, 1) * width)
    try:
        for number, (first, stand, batch) in enumerate(standing(tables, changes, ["_sketch", "kind"])):
            chosen = stand & batch.column("_sketch").is_valid().to_numpy(zero_copy_only=False)
            if not chosen.any():
                continue
            kinds = batch.column("kind").cast(pa.string())
            salts = of_unit(kinds, "code")[chosen].astype(np.uint64)  # documents of another unit have no key in common
            sketches = values(batch.column("_sketch"))[chosen]
            keys = band_keys(sketches, config.bands, config.rows, salts)
            at = np.flatnonzero(chosen) + first
            at = at if ranks is None else ranks[at]
            np.frombuffer(out, np.uint64).reshape(-1, width)[at] = low_bits(sketches)
            if number % 64 == 63:
                out.madvise(mmap.MADV_DONTNEED)  # of a shared map: what was written stays in the file
            records = np.empty(keys.size, _RECORD)
            records["key"] = keys.ravel()
            records["rank"] = np.repeat(at, config.bands)
            part = (records["key"] >> shift).astype(np.uint8) if parts > 1 else np.zeros(len(records), np.uint8)
            share_out(records, part, files)
    finally:
        for file in files:
            file.close()
    return paths, work / "bits"


def _writable(path: Path, count: int) -> mmap.mmap:
    """A file of so many uint64, mapped. Its disk is taken at once: a page of a map for which there is none is no error but the process's
    death by SIGBUS. OSError where the disk is full."""
    with path.open("r+b") as file:
        file.truncate(count * 8)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, count * 8)
        return mmap.mmap(file.fileno(), 0)


# -- pairs -----------------------------------------------------------------------------------------------------------------------------


def _pairs(spilled: list[Path], bits_path: Path, work: Path, config: MinHash, memory: int, known: int) -> Path:
    """A file of pairs (rank << 32 | lesser rank) whose bits are alike, sorted, each once. Documents of earlier corpora are not compared
    with each other."""
    coordinates = config.bands * config.rows
    bits = _mapped(bits_path)
    table = bits.array.reshape(-1, max(1, coordinates // 64))
    most = max(memory // 64, 1 << 12)  # pairs
    held: list[np.ndarray] = []
    with (work / "some").open("wb") as file:
        for told in itertools.chain.from_iterable(_paired(path, memory) for path in spilled):
            told = told[(told >> np.uint64(32)) >= np.uint64(known)]
            held.append(told[alike(table, told, config.verify, coordinates)])
            if sum(map(len, held)) > most:
                file.write(np.unique(np.concatenate(held)).tobytes())  # of several keys
                held = []
                bits.give_back()
        if held:
            file.write(np.unique(np.concatenate(held)).tobytes())
    bits.give_back()
    bits_path.unlink()
    with (work / "pairs").open("wb") as file:
        for block in sorted_blocks(work / "some", _PAIR, max(memory // 16, 1 << 12)):
            pair = block["pair"]
            file.write(pair[np.append(True, pair[1:] != pair[:-1])[: len(pair)]].tobytes())
    return work / "pairs"


def _paired(path: Path, memory: int) -> Iterator[np.ndarray]:
    """The pairs of a part's records."""
    budget = max(memory // 4 // _RECORD_BYTES * _RECORD.itemsize, 1 << 12)
    if path.stat().st_size <= budget:
        records = np.fromfile(path, _RECORD)
        records[repeated(records["key"].copy())].tofile(path)
        del records
    keys, ranks = np.empty(0, np.uint64), np.empty(0, np.uint32)
    for block in sorted_blocks(path, _RECORD, budget):
        led = ends_of_last(keys, NEAR)  # the block may go on with the key that the one before it ended with
        keys, ranks = np.concatenate([keys[led], block["key"]]), np.concatenate([ranks[led], block["rank"]])
        del block
        yield from pairs(keys, ranks, NEAR, len(led))


# -- verification ----------------------------------------------------------------------------------------------------------------------


def _decide(
    tables: Sequence[Table], pairs_path: Path, back: np.ndarray | None, count: int, work: Path, config: MinHash, memory: int
) -> Found:
    marks = np.zeros(-(-count // 64) + 1, np.uint64)
    before = np.empty(len(marks), np.uint32)
    most = max(memory // 64, 1 << 12)
    for told in _read(pairs_path, most):
        for one in _rows_of(told, back):
            mark(marks, one)
    rows = np.empty(marked(marks, before, np.empty(0, np.uint32)), np.uint32)
    marked(marks, before, rows)
    sets, bounds = _gather_sets(tables, rows, work, config)
    survivor, jaccard = np.arange(len(rows), dtype=np.uint32), np.ones(len(rows), np.float32)
    for told in _read(pairs_path, max(memory // 256, 1 << 12)):
        later, earlier = _rows_of(told, back)
        places(marks, before, later, later)
        places(marks, before, earlier, earlier)
        decide(sets.array, bounds, later, earlier, config.verify, FEWEST, survivor, jaccard)
        sets.give_back()
    return Found(rows, survivor, jaccard)


def _read(path: Path, most: int) -> Iterator[np.ndarray]:
    """uint64[m]: pairs, about `most` at a time, all of one later document together."""
    rest = np.empty(0, np.uint64)
    with path.open("rb") as file:
        while len(read := np.fromfile(file, np.uint64, most)):
            told = np.concatenate([rest, read])
            end = int(np.searchsorted(told, told[-1] >> np.uint64(32) << np.uint64(32)))
            rest = told[end:].copy()
            if end:
                yield told[:end]
    if len(rest):
        yield rest


def _rows_of(told: np.ndarray, back: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(int64[m] the rows of the later, of the earlier) of pairs of ranks."""
    later, earlier = (told >> np.uint64(32)).astype(np.int64), (told & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return (later, earlier) if back is None else (back[later].astype(np.int64), back[earlier].astype(np.int64))


def _gather_sets(tables: Sequence[Table], rows: np.ndarray, work: Path, config: MinHash) -> tuple[_Mapped, np.ndarray]:
    """(sets, bounds int64[n + 1]) of the sorted rows' distinct shingles."""
    bounds = np.zeros(len(rows) + 1, np.int64)
    path = work / "sets"
    with path.open("wb") as file:
        for first, batch in _groups_with(tables, rows, ["text", "kind"]):
            low, high = np.searchsorted(rows, np.array((first, first + batch.num_rows)).astype(np.uint32))
            taken = batch.take(pa.array(rows[low:high].astype(np.int64) - first))
            code = of_unit(taken.column("kind").cast(pa.string()), "code")
            texts = taken.column("text")
            # Of one unit, and few at a time: a text may be large.
            ends = {*range(0, len(taken), _ROWS // 16), *(np.flatnonzero(np.diff(code)) + 1).tolist(), len(taken)}
            for start, end in itertools.pairwise(sorted(ends)):
                unit = "code" if code[start] else "figures"  # two tables of other figures are no duplicates
                hashes, starts = shingle_hashes(*text_buffers(texts.slice(start, end - start)), ngram=config.ngram, unit=unit)
                distinct, sizes_to = shingle_sets(hashes, starts)
                bounds[low + start + 1 : low + end + 1] = np.diff(sizes_to)
                file.write(distinct.tobytes())
    np.cumsum(bounds, out=bounds)
    return _mapped(path), bounds


def _groups_with(tables: Sequence[Table], rows: np.ndarray, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(place of the first row, batch) of the row groups that hold any of the sorted rows, uint32[n]."""
    for table in tables:
        first = table.first_row
        with pq.ParquetFile(table.scored) as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, np.array((first, first + count)).astype(np.uint32))
                if high > low:
                    with pq.ParquetFile(table.judged) as judged:
                        yield first, read_group(table, file, judged, group, columns)
                first += count


# -- result ----------------------------------------------------------------------------------------------------------------------------


def _write(tables: Sequence[Table], result: Found, changes: Changes, found: Path, known: int, work: Path) -> int:
    """No drops, no files. Returns the number of documents dropped."""
    lost = np.zeros(len(result.rows), np.bool_)
    sizes = np.zeros(len(result.rows), np.int32)
    for low in range(0, len(lost), 1 << 20):
        part = result.survivor[low : low + (1 << 20)]
        lost[low : low + len(part)] = part != np.arange(low, low + len(part))
        np.add.at(sizes, part, 1)
    gone = np.flatnonzero(lost).astype(np.uint32)
    del lost
    survivors = result.survivor[gone]
    kept = np.flatnonzero(sizes > 1).astype(np.uint32)
    ids = _ids(tables, result.rows[kept], changes, work / "ids")

    def evidence(part: slice) -> list[str]:
        """A Python loop over the dropped rows: 2 µs each."""
        to = survivors[part]
        told = zip(ids(np.searchsorted(kept, to)), result.jaccard[gone[part]].tolist(), sizes[to].tolist(), strict=True)
        return [orjson.dumps({"duplicate_of": one, "jaccard": round(share, 4), "cluster_size": size}).decode() for one, share, size in told]

    lost_to_known = result.rows[survivors] < known
    write_drops(found / "near-0000.parquet", "near", "near_duplicate", result.rows[gone], evidence, changes, lost_to_known)
    path = clusters_path(found)
    if not len(gone):
        path.unlink(missing_ok=True)
        return 0
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as temporary:
        sized = pa.table([result.rows[kept].astype(np.int64), sizes[kept]], schema=CLUSTER)
        pq.write_table(sized, temporary, row_group_size=_ROWS)
    return len(gone)


def _ids(tables: Sequence[Table], rows: np.ndarray, changes: Changes, path: Path) -> Callable[[np.ndarray], list[str]]:
    """The ids of sorted rows, kept on disk: what gives those of some places among `rows`."""
    bounds = np.zeros(len(rows) + 1, np.int64)
    with path.open("wb") as file:
        for low in range(0, len(rows), 1 << 16):
            ids = [one.encode() for one in ids_of(tables, rows[low : low + (1 << 16)].astype(np.int64), changes)]
            bounds[low + 1 : low + len(ids) + 1] = [len(one) for one in ids]
            file.write(b"".join(ids))
    np.cumsum(bounds, out=bounds)
    data = np.memmap(path, np.uint8, "r") if bounds[-1] else np.empty(0, np.uint8)
    return lambda at: [data[bounds[one] : bounds[one + 1]].tobytes().decode() for one in at.tolist()]
