"""The classifier: trained from two lists of texts, and scored as the column q.learned.<name>.

What is learnt and scored is the text as it stands, lower-cased where the recipe says so (digits and marks kept); fastText takes line ends
for blanks and cuts words at blanks alone, as DCLM's classifier does.
"""

from __future__ import annotations

import contextlib
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
from codedev.corpus.language import models
from codedev.corpus.learned.config import ClassifierTraining, Learned
from codedev.corpus.learned.documents import as_array
from codedev.corpus.learned.files import Stamp, content_hash, stamp, unreadable
from codedev.corpus.learned.rows import judged, scattered
from codedev.corpus.stage import Filter, Rule, Stage, rule_filter
from codedev.kernels import fasttext_binary, fasttext_documents
from codedev.kernels.fasttext import probabilities
from codedev.kernels.fasttext_file import LARGEST_WEIGHT, FastText, parse

VERSION = 1
FORMAT = "codedev.learned/1"  # of the .json beside a model of ours
_LARGEST_JSON = 64 << 20  # bytes
MISSING = "there is no such model; train one with `codedev corpus quality train RECIPE --out DIR`, or name a fastText .bin or .ftz file"


LEAST_TURNS, LEAST_EPOCHS, MOST_EPOCHS = 100_000, 5, 100  # of texts; see docs/cleaning.md for what fewer learn


def epochs_of(config: ClassifierTraining, texts: int) -> int:
    """How often so many texts are gone over."""
    return config.epochs or min(max(-(-LEAST_TURNS // max(texts, 1)), LEAST_EPOCHS), MOST_EPOCHS)


def fit(positive: list[str], negative: list[str], config: ClassifierTraining) -> bytes:
    """The bytes of a fastText .bin file; the same for the same texts and config. InputError where no text holds a word, or what is learnt
    grows beyond all numbers."""
    texts = as_array(positive + negative, lower=config.lower)
    documents = fasttext_documents.read(*text_buffers(_heads(texts, config.prefix_bytes)))
    if len(documents.spelt) < 2:  # the end of a text is the only word
        raise InputError("no text holds a word to learn: words that begin with `__label__` and what follows `</s>` are none to fastText")
    counts = {config.labels[0]: len(positive), config.labels[1]: len(negative)}
    labels = sorted(counts, key=lambda label: (-counts[label], label))  # fastText has the commonest first
    truth = np.array([labels.index(config.labels[0])] * len(positive) + [labels.index(config.labels[1])] * len(negative), np.int32)
    model = fasttext_documents.train(
        documents, truth, 2, config.dim, epochs_of(config, len(texts)), config.rate, config.word_ngrams, config.bucket, config.min_count,
        config.seed,
    )  # fmt: skip
    if not all(np.abs(weights).max() < LARGEST_WEIGHT for weights in (model.inputs, model.outputs)):  # NaN is not less either
        raise InputError(f"what is learnt at a rate of {config.rate:g} grows beyond all numbers: lower `rate`")
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


def scorer_of(content: bytes, label: str, config: ClassifierTraining) -> Scorer:
    """The scorer of a model that `fit` made, by one of its labels, before it is a file."""
    model = parse(content)
    weights = np.array([name == label for name in model.labels], np.float32)
    return Scorer(fasttext_binary.projected(model) or model, weights, config.lower, config.prefix_bytes)


def scorer(config: Learned, base: Path = Path()) -> Scorer:
    """Raises InputError where there is no such model, it is damaged or lacks a label."""
    path = base / config.model
    labels, model = _read(stamp(path, MISSING))
    lower, prefix = _preparation(config, path)
    weights = np.zeros(len(labels), np.float32)
    for label, weight in config.labels.items():
        name = label if label in labels else label.removeprefix("__label__")
        if name not in labels:
            raise InputError(
                f"{path}: has no label '{name}': {nearest(name, labels)}. Name those to score by: `labels: {{{labels[0]}: 1}}`"
            )
        if labels.count(name) > 1:
            raise InputError(f"{path}: has more than one label '{name}', so that none can be scored by; train it with labels that differ")
        weights[labels.index(name)] = weight
    return Scorer(model, weights, lower, prefix)


@functools.lru_cache(maxsize=8)
def _read(file: Stamp) -> tuple[tuple[str, ...], FastText | fasttext_binary.Binary]:
    """(labels, model), in short where it is of two labels and whole words: the long one, of gigabytes, is then let go."""
    model = models.read(file)
    return model.labels, fasttext_binary.projected(model) or model


def _preparation(config: Learned, path: Path) -> tuple[bool, int]:
    """(lower, prefix_bytes): what the recipe says, else what the .json beside a model of ours says, else a text as it stands."""
    told: dict[str, Any] = {}
    if config.lower is None or config.prefix_bytes is None:
        told = _told(path)
    lower = config.lower if config.lower is not None else told.get("lower", False)
    return lower, config.prefix_bytes if config.prefix_bytes is not None else told.get("prefix_bytes", 0)


def _told(path: Path) -> dict[str, Any]:
    """How the texts of a model of ours are prepared: in the .json beside it, which names the model by its hash. Raises InputError where
    that file is ours and of another model or damaged: texts prepared in another way have other scores, and nobody would see it."""
    beside = path.with_suffix(".json")
    how = "name `lower` and `prefix_bytes` in the recipe, and it is not read"
    try:
        content = beside.read_bytes() if beside.stat().st_size <= _LARGEST_JSON else b""
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{unreadable(beside, error)}; {how}") from None
    try:
        facts = orjson.loads(content)
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            return {}  # of somebody else
        own, asked = facts["model"]["xxh3_128"], facts["recipe"]["classifier"]
        told = {"lower": asked["lower"], "prefix_bytes": asked["prefix_bytes"]} if asked else None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{beside}: is damaged, and tells how the texts of {path.name} are prepared; {how}") from None
    if told is None or own != content_hash(stamp(path, MISSING)):
        raise InputError(f"{beside}: tells of another model than {path.name} is; put the model's own .json there, or {how}")
    if not isinstance(told["lower"], bool) or type(told["prefix_bytes"]) is not int or told["prefix_bytes"] < 0:
        raise InputError(f"{beside}: its `lower` or `prefix_bytes` is damaged; {how}")
    return told


def columns(name: str) -> pa.Schema:
    """The column that `learned_stage` appends."""
    return pa.schema([pa.field(f"q.learned.{name}", pa.float32())])


def version(config: Learned, base: Path = Path()) -> str:
    """What the column depends on."""
    prepared: tuple[bool, int] | None = None
    with contextlib.suppress(InputError):  # the stage says so, and first what is wrong with the model itself
        prepared = _preparation(config, base / config.model)
    return content_key(
        VERSION,
        config.model_dump(mode="json", exclude={"model", "min_score", "max_score"}),
        content_hash(stamp(base / config.model, MISSING)),
        prepared,
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
