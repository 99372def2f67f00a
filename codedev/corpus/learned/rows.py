"""Which documents of a batch a model scores: prose alone, by the language that was identified before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.document import PROSE_KINDS
from codedev.corpus.language import is_among
from codedev.corpus.language import tags as language_tags
from codedev.corpus.learned.config import EVERY


def judged(batch: pa.RecordBatch, languages: tuple[str, ...] | None) -> pa.Array:
    """bool[rows], never null: prose, of one of the languages where some are named."""
    prose = pc.is_in(batch.column("kind").cast(pa.string()), pa.array(sorted(PROSE_KINDS)))
    if languages is not None:
        prose = pc.and_(prose, is_among(batch.column("lang").cast(pa.string()), languages))
    return pc.and_(pc.fill_null(prose, False), pc.is_valid(batch.column("text")))


def shared_out(batch: pa.RecordBatch, tags: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    """(tag, bool[rows]) of each tag that has documents. A document goes to the narrowest tag that covers it: en-GB before en, en before
    `all`."""
    left = np.asarray(judged(batch, None))
    for tag in narrowest_first(tags):
        mine = left if tag == EVERY else left & covers(tag, batch)
        if mine.any():
            yield tag, mine
        left = left & ~mine


def narrowest_first(tags: Iterable[str]) -> list[str]:
    """As the languages' own, `all` last."""
    return sorted(language_tags.narrowest_first(tags), key=lambda tag: tag == EVERY)


def covers(tag: str, batch: pa.RecordBatch) -> np.ndarray:
    """bool[rows]: whether a document's language is `tag` or a kind of it."""
    return np.asarray(is_among(batch.column("lang").cast(pa.string()), [tag]))


def scattered(scores: np.ndarray, chosen: pa.Array) -> pa.Array:
    """float32[rows]: the scores at the chosen rows, null elsewhere."""
    mask = np.asarray(chosen)
    values = np.zeros(len(mask), np.float32)
    values[mask] = scores
    return pa.array(values, mask=~mask | np.isnan(values))
