"""First pass over a unit: raw records to normalised, scored documents. The only pass that reads raw input, and the dearest."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from codedev._errors import RunError
from codedev._run import read_receipt, write_receipt
from codedev.corpus import guard
from codedev.corpus.buffers import text_buffers
from codedev.corpus.document import DROPPED, ERROR
from codedev.corpus.join import PieceWriter, groups
from codedev.corpus.parts import PartWriter
from codedev.corpus.records import Reader
from codedev.corpus.unit import IDENTITY, Context, Unit, poisoned_path, score_key, scoring_stages, tables
from codedev.kernels.squeeze import squeeze

_NOTED_AT = {"scores": "c4"}  # stage: the filter of the waterfall that tells what it did; C4 alone rewrites


def score_unit(context: Context, unit: Unit) -> dict[str, Any]:
    """The receipt of the unit's first pass: key, rows, bytes read, counters of reading and of normalisation."""
    key = score_key(context, unit)
    stem = context.work / "scored" / key
    receipt_path = stem.with_suffix(".json")
    if receipt := read_receipt(receipt_path):
        return receipt
    pieces = PieceWriter(stem)
    config = context.recipe.sources[unit.source]
    reader = Reader(config, context.base, pieces.add)
    stages = scoring_stages(context.recipe)
    noted: dict[str, Counter[str]] = {}  # what each stage did
    paths = [stem.with_suffix(suffix) for suffix in (".parquet", ".dropped.parquet", ".errors.parquet")]
    with (
        guard.limits(config, poisoned_path(context, key)),
        PartWriter(paths[0], tables(context.recipe).scored, passing=True) as documents,
        PartWriter(paths[1], DROPPED) as dropped,
        PartWriter(paths[2], ERROR) as errors,
    ):

        def drain() -> None:
            for batch in reader.drop_batches():
                dropped.add(batch)
            for batch in reader.failure_batches():
                errors.add(batch)

        span = unit.span
        for batch in reader.gathered(span.round, groups(context.work, span), drain) if span else reader.batches(unit.extents, drain):
            for scoring in stages:
                batch, counted = scoring.stage(batch)
                if scoring.name != "normalise":  # rows of the others are counted where their columns are judged
                    counted = Counter({name: count for name, count in counted.items() if name.startswith("note.")})
                noted.setdefault(_NOTED_AT.get(scoring.name, scoring.name), Counter()).update(counted)
            documents.add(with_identity(batch))
        drain()
    pieces.flush()
    if score_key(context, unit) != key:  # the key names what was read before
        raise RunError("a model or list of the recipe changed while documents were scored: run the build again")
    facts = {
        "key": key,
        "rows": documents.rows,
        "bytes_in": sum(extent.size for extent in unit.extents),
        "counts": {"read": reader.counts, "normalise": Counter(), **noted},
        "pieces": pieces.facts(),
    }
    return write_receipt(receipt_path, [*(path for path in paths if path.exists()), *pieces.paths], facts)


def with_identity(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Append the hashes that the barriers compare: 128 bits of the squeezed text, 64 of the id. A Python loop over documents, 1 µs each
    beside the hashing itself. Preferences of one text differ in what was rejected: their `meta` counts too."""
    text = batch.column("text")
    paired = pc.equal(batch.column("kind").cast(pa.string()), "preference")
    if pc.any(paired).as_py():
        meta = batch.column("meta").cast(pa.large_string())
        text = pc.if_else(paired, pc.binary_join_element_wise(text, meta, pa.scalar("\n", pa.large_string())), text)
    data, offsets = squeeze(*text_buffers(text))
    view, bounds = memoryview(data.data), offsets.tolist()
    digests = b"".join(xxhash.xxh3_128_digest(view[start:end]) for start, end in itertools.pairwise(bounds))
    halves = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
    ids = np.fromiter(map(xxhash.xxh3_64_intdigest, batch.column("id").cast(pa.binary()).to_pylist()), np.uint64, batch.num_rows)
    hashes = [pa.array(np.ascontiguousarray(column)) for column in (halves[:, 0], halves[:, 1], ids)]
    return pa.RecordBatch.from_arrays([*batch.columns, *hashes], schema=pa.schema([*batch.schema, *IDENTITY]))
