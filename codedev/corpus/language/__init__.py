"""Language identification of prose: lid.176, CLD2 and a model of our own as the default, or any fastText model.

Programming languages are the code source's business.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from codedev.corpus.language.identify import DEFAULT, PLAIN, PREFIX_BYTES, Identifier, identifier_of, version_of
from codedev.corpus.language.mixed import COLUMNS as MIXED
from codedev.corpus.language.mixed import mixed_stage
from codedev.corpus.language.models import model_hash, model_path
from codedev.corpus.language.stage import is_among, language_filter, stage_with
from codedev.corpus.language.tags import tag_of
from codedev.corpus.language.thresholds import thresholds_hash

__all__ = [
    "DEFAULT", "MIXED", "PLAIN", "PREFIX_BYTES", "VERSION", "Identifier", "identifier_of", "identify", "is_among", "language_filter",
    "language_stage", "mixed_stage", "model_hash", "model_path", "stage_with", "tag_of", "thresholds_hash", "version_of",
]  # fmt: skip

VERSION = 5


def language_stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
    """The stage with the default identifier."""
    return stage_with(identifier_of())(batch)


def identify(text: str, model: str = DEFAULT) -> tuple[str | None, float]:
    """(BCP-47 tag, probability) of one text's most probable language; (None, 0) when the text has no word."""
    texts = pa.array([text.encode("utf-8", "replace").decode()], pa.large_string())
    tags, scores = identifier_of(model).identify(texts)
    return tags[0].as_py(), scores[0].as_py()
