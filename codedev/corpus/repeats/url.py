"""Documents of one URL: one stays. URLs are compared in canonical form (kernels/urls.py).

A document without a URL, or with one of which nothing is left (blanks, "/", "#top"), is never dropped here. Memory: 40 bytes a document
with a URL, in as many turns as `memory` asks for; the result does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from codedev.corpus.buffers import text_buffers
from codedev.corpus.dedup import Changes
from codedev.corpus.known import naming_damage
from codedev.corpus.repeats.config import Url
from codedev.corpus.standing import Table, ids_of, of_kinds, standing, write_drops
from codedev.kernels.urls import canonical

_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("order", "<i8"), ("row", "<i8")])
_ROW_BYTES = 160  # of memory a document: the record, and what sorting it takes


def canonical_urls(urls: pa.Array) -> pa.LargeStringArray:
    """The canonical form of each URL; null where it is null."""
    whole = urls.cast(pa.large_string())
    data, offsets = canonical(*text_buffers(whole))
    return pc.if_else(
        pc.is_valid(whole), pa.Array.from_buffers(pa.large_string(), len(whole), [None, pa.py_buffer(offsets), pa.py_buffer(data)]), None
    )


def find_urls(tables: Sequence[Table], found: Path, *, config: Url, memory: int, known: int = 0) -> int:
    """Write `found/url-<part>.parquet` (CHANGE rows: stage `url`, reason `duplicate_url`). Returns the number of documents dropped.
    The first `known` rows are of earlier corpora: they stay, and no other document of their URLs does."""
    total = sum(pq.read_metadata(table.judged).num_rows for table in tables)
    parts = max(1, -(-total * _ROW_BYTES // (memory // 2)))
    changes = Changes(found)
    with naming_damage(table.scored for table in tables if table.known):
        return sum(_find(tables, found, changes, config, part, parts, known) for part in range(parts))


def _find(tables: Sequence[Table], found: Path, changes: Changes, config: Url, part: int, parts: int, known: int) -> int:
    columns = ["url", "kind", *(["created"] if config.keep == "newest" else ["text"] if config.keep == "longest" else [])]
    held = [np.empty(0, _RECORD)]
    for first, stand, batch in standing(tables, changes, columns):
        wanted = stand & of_kinds(batch, config.kinds) & batch.column("url").is_valid().to_numpy(zero_copy_only=False)
        if not wanted.any():
            continue
        forms = canonical_urls(batch.column("url").filter(pa.array(wanted)))
        wanted[wanted] = pc.greater(pc.binary_length(forms), 0).to_numpy(zero_copy_only=False)
        chosen = batch.filter(pa.array(wanted))
        records = np.empty(chosen.num_rows, _RECORD)
        keys = [key for key in forms.cast(pa.large_binary()).to_pylist() if key]
        # A Python loop over documents with a URL: 0.5 µs each.
        digests = np.frombuffer(b"".join(map(xxhash.xxh3_128_digest, keys)), ">u8").reshape(-1, 2)
        records["high"], records["low"], records["row"] = digests[:, 0], digests[:, 1], np.flatnonzero(wanted) + first
        if config.keep == "newest":  # the least order stays
            records["order"] = -pc.fill_null(chosen.column("created").cast(pa.int64()), -(2**62)).to_numpy(zero_copy_only=False)
        elif config.keep == "longest":
            records["order"] = -pc.fill_null(pc.binary_length(chosen.column("text")), 0).to_numpy(zero_copy_only=False)
        else:
            records["order"] = 0
        records["order"][records["row"] < known] = np.iinfo(np.int64).min
        held.append(records[records["low"] % np.uint64(parts) == part])
    told = np.concatenate(held)
    told = told[np.lexsort((told["row"], told["order"], told["high"], told["low"]))]
    opens = np.ones(len(told), bool)
    opens[1:] = (told["low"][1:] != told["low"][:-1]) | (told["high"][1:] != told["high"][:-1])
    survivors = told["row"][np.maximum.accumulate(np.where(opens, np.arange(len(told)), 0))]
    gone = np.flatnonzero((survivors != told["row"]) & (told["row"] >= known))
    gone = gone[np.argsort(told["row"][gone])]
    kept, inverse = np.unique(survivors[gone], return_inverse=True)
    ids = ids_of(tables, kept, changes)
    evidence = [orjson.dumps({"duplicate_of": ids[number]}).decode() for number in inverse.tolist()]  # what is dropped alone
    write_drops(
        found / f"url-{part:04d}.parquet", "url", "duplicate_url", told["row"][gone], evidence.__getitem__, changes, survivors[gone] < known
    )
    return len(gone)
