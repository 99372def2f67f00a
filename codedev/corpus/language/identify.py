"""Identifiers: Arrow texts in, tags and scores out.

An identifier reads the first PREFIX_BYTES of each text: longer prefixes change no label (measured: the first 4,000 characters agree with
the full text on 2,000 of 2,000 documents). Scores are probabilities; a text without a word has neither tag nor score above 0.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from codedev.corpus.buffers import text_buffers
from codedev.corpus.language import models
from codedev.corpus.language.tags import tag_of
from codedev.kernels.fasttext import predict

PREFIX_BYTES = 4096


DEFAULT, PLAIN = "ensemble", "lid.176"


class Identifier(NamedTuple):
    tags: tuple[str, ...]  # that it can say
    identify: Callable[[pa.Array], tuple[pa.Array, pa.Array]]  # large_string -> tags (string), scores (float32)


def identifier_of(model: str = DEFAULT, prefix: int = PREFIX_BYTES) -> Identifier:
    """`ensemble` (the default), `lid.176`, or the path of a fastText model. Raises InputError where a model is missing or damaged."""
    if model == DEFAULT:
        from codedev.corpus.language.ensemble import ensemble_identifier

        return ensemble_identifier(prefix)
    return fasttext_identifier(None if model == PLAIN else Path(model), prefix)  # of a model that was read already, a `stat` and its labels


def version_of(model: str = DEFAULT, prefix: int = PREFIX_BYTES) -> str:
    """What changes whenever an identifier may say something else: the hashes of its models and what it is made of. No model is read."""
    if model == DEFAULT:
        from codedev.corpus.language.ensemble import version

        return f"{version()}:{prefix}"
    return f"{models.model_hash(None if model == PLAIN else Path(model))}:{prefix}"


def fasttext_identifier(path: Path | None = None, prefix: int = PREFIX_BYTES) -> Identifier:
    """A fastText model, lid.176.ftz by default: 50 MB/s a core of the bytes it looks at, no Python object a document."""
    model = models.load(path)
    tags = tuple(tag_of(label) for label in model.labels)
    named = pa.array(tags, pa.string())

    def identify(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
        labels, scores = predict(model, *text_buffers(texts), 1, prefix)
        found = pa.array(labels[:, 0], mask=labels[:, 0] < 0)
        return named.take(found), pa.array(np.minimum(scores[:, 0], np.float32(1)))

    return Identifier(tags, identify)
