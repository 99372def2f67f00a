"""Perplexity under an n-gram model: its file, the columns q.perplexity and q.perplexity.percentile, and the filter on them (CCNet's idea,
arXiv 1911.00359). Texts are lower-cased; digits count as 0.

A file is one line that names the format, a line of JSON and the model's three arrays; it is mapped into memory, never unpickled.
"""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError
from codedev._run import atomic_write, canonical_json, content_key
from codedev.corpus.buffers import text_buffers
from codedev.corpus.learned.config import Perplexity, PerplexityTraining
from codedev.corpus.learned.documents import as_array
from codedev.corpus.learned.files import Stamp, content_hash, stamp
from codedev.corpus.learned.rows import covers, narrowest_first, shared_out
from codedev.corpus.stage import Filter, Rule, Stage, rule_filter, verdict
from codedev.kernels import ngram, tokens
from codedev.kernels.ngram import NGramModel

VERSION = 1
MAGIC = b"codedev.ngram/1\n"
MISSING = "there is no such n-gram model; train one with `codedev corpus quality train RECIPE --out DIR`, whose recipe has `perplexity:`"
_HEAD = 1 << 20  # bytes that the line of JSON may take
COLUMNS = pa.schema([pa.field("q.perplexity", pa.float32()), pa.field("q.perplexity.percentile", pa.float32())])
PERCENTILES = np.arange(101)


class Trained(NamedTuple):
    model: NGramModel
    percentiles: np.ndarray  # float64[101]: perplexity of the texts it was calibrated on


def fit(texts: list[str], calibrate: list[str], config: PerplexityTraining) -> Trained:
    """Raises InputError where texts hold no words."""
    hashes, kinds = tokens.tokens(*text_buffers(as_array(texts, lower=True)), config.piece)
    try:
        model = ngram.fit(hashes, kinds, config.order, config.min_words, config.min_counts, config.piece)
    except ValueError as error:
        raise InputError(str(error)) from None
    found = perplexities(model, as_array(calibrate, lower=False))
    if not np.isfinite(found).any():
        raise InputError("no text is left to calibrate on: name more, or raise held_out")
    return Trained(model, np.nanpercentile(found, PERCENTILES))


def perplexities(model: NGramModel, texts: pa.Array, prefix: int = 0) -> np.ndarray:
    """float64[rows]; NaN for a text without tokens."""
    return ngram.perplexity(model, *text_buffers(pc.utf8_lower(texts)), prefix)


def save(path: Path, trained: Trained) -> None:
    model = trained.model
    head = {
        "order": model.order,
        "piece": model.piece,
        "slots": len(model.marks),
        "scale": model.scale,
        "unknown": model.unknown,
        "percentiles": trained.percentiles.tolist(),
    }
    line = MAGIC + canonical_json(head)
    line += b" " * (-(len(line) + 1) % 64) + b"\n"  # the arrays begin at a multiple of 64
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(line)
        for array, kind in ((model.marks, "<u4"), (model.chances, "u1"), (model.gammas, "u1")):
            array.astype(kind, copy=False).tofile(file)


def read(path: Path) -> Trained:
    """Raises InputError where there is no such model or it is damaged."""
    return _read(stamp(path, MISSING))


@functools.lru_cache(maxsize=64)
def _read(file: Stamp) -> Trained:
    path = file.path
    with open(path, "rb") as content:
        magic, line = content.readline(len(MAGIC)), content.readline(_HEAD)
        start = content.tell()
    if magic != MAGIC:
        raise InputError(
            f"{path}: is no n-gram model of codedev; train one with `codedev corpus quality train`, whose recipe has `perplexity:`"
        )
    try:
        head = orjson.loads(line)
        slots, order, piece = head["slots"], head["order"], head["piece"]
        scale, percentiles = [float(value) for value in head["scale"]], np.array(head["percentiles"], np.float64)
        unknown = float(head["unknown"])
        whole = [slots, order, piece]
        sound = all(type(value) is int for value in whole) and slots > 0 and 1 <= order <= ngram.MAX_ORDER and piece >= 0
        sound = sound and len(scale) == 4 and percentiles.shape == PERCENTILES.shape and np.isfinite([*scale, *percentiles, unknown]).all()
    except (ValueError, KeyError, TypeError, OverflowError):
        sound = False
    if not sound or path.stat().st_size != start + 6 * slots:
        raise InputError(f"{path}: the n-gram model is damaged; train it again")
    marks = np.memmap(path, "<u4", "r", start, (slots,))
    codes = np.memmap(path, np.uint8, "r", start + 4 * slots, (2, slots))
    if marks.all():  # a table without an empty slot would be searched for ever
        raise InputError(f"{path}: the n-gram model is damaged; train it again")
    model = NGramModel(
        order, piece, np.asarray(marks), np.asarray(codes[0]), np.asarray(codes[1]), (scale[0], scale[1], scale[2], scale[3]), unknown
    )
    return Trained(model, percentiles)


def perplexity_columns(config: Perplexity) -> pa.Schema:
    """The columns that `perplexity_stage` appends."""
    return COLUMNS


def perplexity_version(config: Perplexity, base: Path = Path()) -> str:
    """What the columns depend on."""
    return content_key(
        VERSION, {tag: content_hash(stamp(base / path, MISSING)) for tag, path in config.models.items()}, config.prefix_bytes
    )


def perplexity_stage(config: Perplexity, base: Path = Path()) -> Stage:
    """A Stage: q.perplexity and q.perplexity.percentile, null for documents that are not judged. Languages are to be known before."""
    models = {tag: read(base / path) for tag, path in config.models.items()}

    def stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        counts = Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)
        found = np.full((2, batch.num_rows), np.nan, np.float32)
        for tag, mine in shared_out(batch, models):
            trained = models[tag]
            value = perplexities(trained.model, batch.column("text").filter(pa.array(mine)), config.prefix_bytes)
            found[0, mine] = value
            found[1, mine] = np.interp(value, trained.percentiles, PERCENTILES)
        added = [pa.array(row, mask=np.isnan(row)) for row in found]
        schema = pa.schema([*batch.schema, *COLUMNS], metadata=batch.schema.metadata)
        return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema), counts

    return stage


def perplexity_filter(config: Perplexity) -> Filter:
    """Reasons `low_perplexity` and `high_perplexity`, by the bounds of the document's language."""
    general = rule_filter(_rules(config.bounds))
    own = [(tag, rule_filter(_rules(config.by_language[tag]))) for tag in reversed(narrowest_first(config.by_language))]

    def judge(batch: pa.RecordBatch) -> pa.Array:
        said = verdict(general, batch)
        for tag, its in own:
            said = pc.if_else(pa.array(covers(tag, batch)), verdict(its, batch), said)
        return said

    return judge


def _rules(band: Any) -> list[Rule]:
    names = ("low_perplexity", "high_perplexity")
    return [
        Rule("q.perplexity", band.min, band.max, *names),
        Rule("q.perplexity.percentile", band.min_percentile, band.max_percentile, *names),
    ]
