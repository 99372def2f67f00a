"""The classifier: trained from two lists of texts, and scored as the column q.learned.<name>.

What is learnt and scored is the text as it stands, lower-cased where the recipe says so (digits and marks kept); fastText takes line ends
for blanks and cuts words at blanks alone, as DCLM's classifier does.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError, nearest
from codedev._run import content_key
from codedev.corpus.buffers import text_buffers
from codedev.corpus.language.models import load
from codedev.corpus.learned.config import ClassifierTraining, Learned
from codedev.corpus.learned.documents import as_array
from codedev.corpus.learned.files import Stamp, content_hash, stamp
from codedev.corpus.learned.rows import judged, scattered
from codedev.corpus.stage import Filter, Rule, Stage, rule_filter
from codedev.kernels import fasttext_binary, fasttext_documents
from codedev.kernels.fasttext import probabilities
from codedev.kernels.fasttext_file import FastText

VERSION = 1
MISSING = "there is no such model; train one with `codedev corpus quality train RECIPE --out DIR`, or name a fastText .bin or .ftz file"


def fit(positive: list[str], negative: list[str], config: ClassifierTraining) -> bytes:
    """The bytes of a fastText .bin file; the same for the same texts and config."""
    texts = as_array(positive + negative, lower=config.lower)
    data, offsets = text_buffers(_heads(texts, config.prefix_bytes))
    counts = {config.labels[0]: len(positive), config.labels[1]: len(negative)}
    labels = sorted(counts, key=lambda label: (-counts[label], label))  # fastText has the commonest first
    truth = np.array([labels.index(config.labels[0])] * len(positive) + [labels.index(config.labels[1])] * len(negative), np.int32)
    model = fasttext_documents.train(
        fasttext_documents.read(data, offsets), truth, 2, config.dim, config.epochs, config.rate, config.word_ngrams, config.bucket,
        config.min_count, config.seed,
    )  # fmt: skip
    return fasttext_documents.binary(model, labels, [counts[label] for label in labels], config.word_ngrams)


def _heads(texts: pa.Array, size: int) -> pa.Array:
    """The first `size` bytes of each text, cut at a character; 0 = all."""
    if not size:
        return texts
    return pa.array([text.encode()[:size].decode("utf-8", "ignore") for text in texts.to_pylist()], pa.large_string())


class Scorer(NamedTuple):
    """A model, and how its texts are prepared."""

    model: FastText | fasttext_binary.Binary
    weights: np.ndarray  # float32[labels]
    lower: bool
    prefix: int

    def score(self, texts: pa.Array) -> np.ndarray:
        """float32[rows] of a large_string array: the sum of weight * probability; 0 for a text without a word."""
        data, offsets = text_buffers(pc.utf8_lower(texts) if self.lower else texts)
        if isinstance(self.model, fasttext_binary.Binary):
            found = fasttext_binary.probabilities(self.model, data, offsets, self.prefix)
        else:
            found = probabilities(self.model, data, offsets, self.prefix)
        scores = np.zeros(len(texts), np.float32)
        for label in np.flatnonzero(self.weights):  # label by label: a matrix product rounds by the number of rows
            scores += np.minimum(found[:, label], 1) * self.weights[label]
        return scores


def scorer(config: Learned, base: Path = Path()) -> Scorer:
    """Raises InputError where there is no such model, it is damaged or lacks a label."""
    path = base / config.model
    (labels, model), told = _read(stamp(path, MISSING)), _told(path)
    weights = np.zeros(len(labels), np.float32)
    for label, weight in config.labels.items():
        name = label.removeprefix("__label__")
        if name not in labels:
            raise InputError(
                f"{path}: has no label '{name}': {nearest(name, labels)}. Name those to score by: `labels: {{{labels[0]}: 1}}`"
            )
        weights[labels.index(name)] = weight
    lower = config.lower if config.lower is not None else told.get("lower", False)
    prefix = config.prefix_bytes if config.prefix_bytes is not None else told.get("prefix_bytes", 0)
    return Scorer(model, weights, lower, prefix)


@functools.lru_cache(maxsize=8)
def _read(file: Stamp) -> tuple[tuple[str, ...], FastText | fasttext_binary.Binary]:
    """(labels, model), in short where it is of two labels and whole words: the long one, of gigabytes, is then let go."""
    model = load.__wrapped__(file.path)
    return model.labels, fasttext_binary.projected(model) or model


def _told(path: Path) -> dict[str, Any]:
    """How the texts of a model of ours are prepared: in the .json beside it."""
    try:
        told = orjson.loads(path.with_suffix(".json").read_bytes())["recipe"]["classifier"]
        lower, prefix = told["lower"], told["prefix_bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if not isinstance(lower, bool) or not isinstance(prefix, int) or isinstance(prefix, bool) or prefix < 0:
        raise InputError(f"{path.with_suffix('.json')}: its `lower` or `prefix_bytes` is damaged; name them in the recipe")
    return {"lower": lower, "prefix_bytes": prefix}


def columns(name: str) -> pa.Schema:
    """The column that `learned_stage` appends."""
    return pa.schema([pa.field(f"q.learned.{name}", pa.float32())])


def version(config: Learned, base: Path = Path()) -> str:
    """What the column depends on."""
    return content_key(
        VERSION,
        config.model_dump(mode="json", exclude={"model", "min_score", "max_score"}),
        content_hash(stamp(base / config.model, MISSING)),
        _told(base / config.model),
    )


def learned_stage(name: str, config: Learned, base: Path = Path(), column: str = "") -> Stage:
    """A Stage: the column `q.learned.<name>` (or `column`), null for documents that are not judged. Languages are to be known before."""
    own = scorer(config, base)
    field = pa.field(column or f"q.learned.{name}", pa.float32())

    def stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        counts = Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)
        chosen = judged(batch, config.languages)
        scores = scattered(own.score(batch.column("text").filter(chosen)), chosen)
        schema = pa.schema([*batch.schema, field], metadata=batch.schema.metadata)
        return pa.RecordBatch.from_arrays([*batch.columns, scores], schema=schema), counts

    return stage


def learned_filter(models: Mapping[str, Learned]) -> Filter:
    """Reasons `low_<name>` and `high_<name>`: of several, those of the first model that judges so."""
    return rule_filter(
        [Rule(f"q.learned.{name}", own.min_score, own.max_score, f"low_{name}", f"high_{name}") for name, own in models.items()]
    )
