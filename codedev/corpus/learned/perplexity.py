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
from codedev.corpus.learned.config import MAX_PIECE, Perplexity, PerplexityTraining
from codedev.corpus.learned.documents import as_array
from codedev.corpus.learned.files import Stamp, content_hash, stamp, unreadable
from codedev.corpus.learned.rows import covers, narrowest_first, shared_out
from codedev.corpus.stage import Filter, Rule, Stage, rule_filter, verdict
from codedev.kernels import ngram, tokens
from codedev.kernels.ngram import NGramModel

VERSION = 1
MAGIC = b"codedev.ngram/1\n"
MISSING = "there is no such n-gram model; train one with `codedev corpus quality train RECIPE --out DIR`, whose recipe has `perplexity:`"
_HEAD = 1 << 20  # bytes that the line of JSON may take
_BLOCK = 1 << 20  # slots of a table that are looked at together
MAX_RUN = 1 << 14  # of full slots: 400 are met by chance in a billion. A table made to be full would be searched for hours
MAX_LOG = 100.0  # of a probability: ours are e^-50 and more
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


def content(trained: Trained) -> bytes:
    """The bytes of the model's file."""
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
    arrays = ((model.marks, "<u4"), (model.chances, "u1"), (model.gammas, "u1"))
    return b"".join([line, *(array.astype(kind, copy=False).tobytes() for array, kind in arrays)])


def save(path: Path, trained: Trained) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(content(trained))


def read(path: Path) -> Trained:
    """Raises InputError where there is no such model or it is damaged."""
    return _read(stamp(path, MISSING))


@functools.lru_cache(maxsize=64)
def _read(file: Stamp) -> Trained:
    path = file.path
    damaged = InputError(f"{path}: the n-gram model is damaged; train it again")
    try:
        with open(path, "rb") as stream:
            magic, line = stream.readline(len(MAGIC)), stream.readline(_HEAD)
            start = stream.tell()
    except OSError as error:
        raise unreadable(path, error) from None
    if magic != MAGIC and magic.startswith(MAGIC[:-2]):
        raise InputError(f"{path}: an n-gram model of format {magic.decode('ascii', 'replace').strip()}, which this codedev does not read")
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
        sound = all(type(value) is int for value in whole) and slots > 0 and 1 <= order <= ngram.MAX_ORDER and 0 <= piece <= MAX_PIECE
        sound = sound and len(scale) == 4 and percentiles.shape == PERCENTILES.shape and np.isfinite([*scale, *percentiles, unknown]).all()
        sound = (
            sound
            and bool((np.diff(percentiles) >= -1e-9 * percentiles[1:]).all())
            and max(abs(value) for value in (*_ends(scale), unknown)) <= MAX_LOG
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        sound = False
    if not sound or file.size != start + 6 * slots:
        raise damaged
    try:
        marks = np.memmap(path, "<u4", "r", start, (slots,))
        codes = np.memmap(path, np.uint8, "r", start + 4 * slots, (2, slots))
    except (OSError, ValueError):  # it became shorter meanwhile
        raise damaged from None
    if _longest_run(marks) > min(MAX_RUN, slots - 1):
        raise damaged
    model = NGramModel(
        order, piece, np.asarray(marks), np.asarray(codes[0]), np.asarray(codes[1]), (scale[0], scale[1], scale[2], scale[3]), unknown
    )
    return Trained(model, percentiles)


def _ends(scale: list[float]) -> tuple[float, ...]:
    """The logarithms that the first and the last step stand for, of chances and of gammas."""
    return scale[0], scale[0] + 255 * scale[1], scale[2], scale[2] + 255 * scale[3]


def _longest_run(marks: np.ndarray) -> int:
    """Of full slots, round the end; the number of slots where all are full. 1 GB/s."""
    longest, first, last = 0, -1, -1  # empty slots
    for at in range(0, len(marks), _BLOCK):
        empty = np.flatnonzero(marks[at : at + _BLOCK] == 0) + at
        if len(empty):
            gaps = np.diff(empty, prepend=last if first >= 0 else empty[0])
            longest = max(longest, int(gaps.max()) - 1)
            first, last = first if first >= 0 else int(empty[0]), int(empty[-1])
    return max(longest, first + len(marks) - last - 1) if first >= 0 else len(marks)


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
            found[0, mine] = np.minimum(value, np.finfo(np.float32).max)
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
