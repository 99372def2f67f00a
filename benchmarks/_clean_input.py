"""Gigabytes of text out of megabytes of real text: documents of web, threads, questions, books and code, drawn again and again with words
changed.

A document drawn is a seed with some of its words (runs between white space) replaced by other words of the same seed: its language, length
and lines stay as they are. Of the documents drawn 2 % are copies, 5 % have one word in a hundred changed (a near-duplicate wherever the
seed is drawn twice), the rest 15 to 35 in a hundred: at five words a shingle their Jaccard similarity is below 0.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from codedev.corpus.buffers import text_buffers

KINDS = {"web": 0.55, "conversation": 0.1, "qa": 0.05, "book": 0.1, "code": 0.2}  # share of the bytes
LARGEST = 2_000_000  # bytes of a document
PART_BYTES = 64_000_000  # of text in a file
GROUP_BYTES = 8_000_000  # of text in a row group


def seeds(data: Path, work: Path) -> Path:
    """A folder of one Parquet file a kind (text, lang, url) with what codedev reads in `data`; made once in `work`."""
    from _inputs import _link_tree

    from codedev.corpus.build import build
    from codedev.corpus.recipe import check

    out = work / "seeds"
    if out.is_dir():
        return out
    _link_tree(data / "code", work / "tree", 40_000_000)
    paths = {
        "web": [str(data / "web/**/*.warc.gz"), str(data / "web/**/*.html")],
        "reddit": [str(data / "reddit")],
        "stackexchange": [str(data / "stackexchange")],
        "books": [str(data / "books")],
        "code": [str(work / "tree/*")],
    }
    sources = [{"name": kind, "type": kind, "paths": found} for kind, found in paths.items()]
    build(check({"name": "seeds", "sources": sources, "keep_work": False, "dedup": {"exact": {}}}, "bench"), data, work / "read")
    making = work / "seeds.tmp"
    making.mkdir(exist_ok=True)
    for kind, source in zip(KINDS, ("web", "reddit", "stackexchange", "books", "code"), strict=True):
        columns = ["text", "lang", "url"]
        table = pa.concat_tables(pq.read_table(part, columns=columns) for part in sorted((work / "read/documents" / source).glob("*")))
        sizes = np.asarray(pa.compute.binary_length(table["text"]))
        table = table.filter(pa.array((sizes > 200) & (sizes <= LARGEST)))
        pq.write_table(table.set_column(1, "lang", table["lang"].cast("string")), making / f"{kind}.parquet")
    making.rename(out)
    return out


def make(folder: Path, seed_folder: Path, size: int) -> int:
    """`folder`/<kind>/part-0000.parquet … of `size` bytes of text together (the last document of a kind goes over); bytes made."""
    made = 0
    for number, (kind, share) in enumerate(KINDS.items()):
        table = pq.read_table(seed_folder / f"{kind}.parquet")
        (folder / kind).mkdir(parents=True, exist_ok=True)
        wanted, part, first = int(size * share), 0, 0
        rng = np.random.default_rng(number)
        while wanted > 0:
            path = folder / kind / f"part-{part:04d}.parquet"
            with pq.ParquetWriter(path, _schema(kind), compression="zstd") as writer:
                for batch in _drawn(table, kind, rng, min(wanted, PART_BYTES), first):
                    writer.write_batch(batch)
                    drawn = len(text_buffers(batch.column("text"))[0])
                    wanted, made, first = wanted - drawn, made + drawn, first + batch.num_rows
            part += 1
    return made


def _schema(kind: str) -> pa.Schema:
    fields = [pa.field("id", pa.string()), pa.field("text", pa.large_string()), pa.field("url", pa.string())]
    return pa.schema([*fields, pa.field("lang", pa.string())] if kind == "code" else fields)


def _drawn(table: pa.Table, kind: str, rng: np.random.Generator, size: int, first: int) -> Iterator[pa.RecordBatch]:
    data, offsets = text_buffers(table["text"].combine_chunks())
    mean = max(1, int(offsets[-1] - offsets[0]) // table.num_rows)
    while size > 0:
        rows = rng.integers(0, table.num_rows, max(1, min(GROUP_BYTES, size) // mean))
        ends = np.cumsum(offsets[rows + 1] - offsets[rows])
        rows = rows[: int(np.searchsorted(ends, min(GROUP_BYTES, size))) + 1]
        share = rng.uniform(0.15, 0.35, len(rows))
        lot = rng.random(len(rows))
        share[lot < 0.07], share[lot < 0.02] = 0.01, 0.0
        text, bounds = varied(data, offsets, rows, share, int(rng.integers(1, 1 << 62)))
        ids = pa.array([f"{kind}-{first + row}" for row in range(len(rows))])
        array = pa.LargeStringArray.from_buffers(len(rows), pa.py_buffer(bounds), pa.py_buffer(text))
        chosen = table.take(pa.array(rows))
        columns = [ids, array, chosen["url"].combine_chunks(), chosen["lang"].combine_chunks()]
        yield pa.RecordBatch.from_arrays(columns[: len(_schema(kind))], schema=_schema(kind))
        size, first = size - len(text), first + len(rows)


@numba.njit(nogil=True, cache=True)
def varied(data: np.ndarray, offsets: np.ndarray, rows: np.ndarray, share: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint8[bytes], int64[rows + 1]): each of `rows` with that share of its words replaced by others of its own."""
    out = np.empty(1 << 16, np.uint8)
    bounds = np.zeros(len(rows) + 1, np.int64)
    state = np.uint64(seed)
    at = 0
    for number in range(len(rows)):
        low, high = offsets[rows[number]], offsets[rows[number] + 1]
        starts = np.empty((high - low) // 2 + 1, np.int64)
        ends = np.empty(len(starts), np.int64)
        words = 0
        inside = False
        for i in range(low, high):
            blank = data[i] <= 32
            if inside and blank:
                ends[words - 1] = i
            elif not inside and not blank:
                starts[words] = i
                words += 1
            inside = not blank
        if inside:
            ends[words - 1] = high
        limit = np.uint64(share[number] * 4294967296.0)
        done = low
        for word in range(words):
            state ^= state << np.uint64(13)
            state ^= state >> np.uint64(7)
            state ^= state << np.uint64(17)
            other = word
            if (state & np.uint64(0xFFFFFFFF)) < limit:
                other = np.int64((state >> np.uint64(32)) % np.uint64(words))
            need = starts[word] - done + ends[other] - starts[other]
            while at + need > len(out):
                out = np.concatenate((out, np.empty(len(out), np.uint8)))
            for i in range(done, starts[word]):
                out[at] = data[i]
                at += 1
            for i in range(starts[other], ends[other]):
                out[at] = data[i]
                at += 1
            done = ends[word]
        while at + high - done > len(out):
            out = np.concatenate((out, np.empty(len(out), np.uint8)))
        for i in range(done, high):
            out[at] = data[i]
            at += 1
        bounds[number + 1] = at
    return out[:at].copy(), bounds
