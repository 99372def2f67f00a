"""The language stage and the filter on what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.document import PROSE_KINDS
from codedev.corpus.language import thresholds
from codedev.corpus.language.identify import Identifier
from codedev.corpus.language.tags import covers, narrowest_first
from codedev.corpus.stage import VERDICT, Filter, Stage

if TYPE_CHECKING:
    from codedev.corpus.recipe import Language


def stage_with(identifier: Identifier) -> Stage:
    """A Stage: `lang` and `lang_score` of prose that has none yet; documents that come with a language keep it."""

    def stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        counts = Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)
        lang, score = batch.column("lang").cast(pa.string()), batch.column("lang_score")
        unknown = pc.and_(pc.is_null(lang), _is_prose(batch))
        tags, scores = identifier.identify(batch.column("text").filter(unknown))
        lang = pc.replace_with_mask(lang, unknown, tags)
        score = pc.replace_with_mask(score, unknown, scores)
        counts["note.identified"] += len(tags)
        batch = batch.set_column(batch.schema.get_field_index("lang"), "lang", lang.dictionary_encode())
        return batch.set_column(batch.schema.get_field_index("lang_score"), "lang_score", score), counts

    return stage


def _is_prose(batch: pa.RecordBatch) -> pa.Array:
    return pc.is_in(batch.column("kind").cast(pa.string()), pa.array(sorted(PROSE_KINDS)))


def is_among(lang: pa.Array, tags: Sequence[str]) -> pa.Array:
    """bool[rows], never null: whether each tag is one of `tags` or a kind of one (tags.covers). A Python loop over the distinct tags."""
    coded = lang.dictionary_encode()
    among = [tag is not None and any(covers(one, tag) for one in tags) for tag in coded.dictionary.to_pylist()]
    return pc.fill_null(pa.array(among, pa.bool_()).take(coded.indices), False)


def language_filter(config: Language) -> Filter:
    """Reasons `language` (not among `keep`) and `language_score` (less certain than `min_scores` or `min_score` ask, or where that is null
    the language's own threshold); prose alone is judged."""

    def judge(batch: pa.RecordBatch) -> pa.Array:
        lang, score = batch.column("lang").cast(pa.string()), batch.column("lang_score")
        prose = _is_prose(batch)
        unwanted = pa.array(np.zeros(batch.num_rows, bool))
        if config.keep is not None:
            unwanted = pc.and_(prose, pc.invert(is_among(lang, config.keep)))
        bounds = _bounds(lang, config)
        uncertain = pc.and_(prose, pc.fill_null(pc.less(score, bounds), False))
        # An uncertain language is no reason to say that it is the wrong one.
        reason = pc.if_else(uncertain, "language_score", pc.if_else(unwanted, "language", pa.scalar(None, pa.string())))
        evidence: list[str | None] = [None] * batch.num_rows
        # A Python loop over the dropped rows alone: about 2 µs a row.
        for row in pc.indices_nonzero(pc.is_valid(reason)).to_pylist():
            value = score[row].as_py()
            seen = {"lang": lang[row].as_py(), "lang_score": None if value is None else round(value, 4)}
            bound = {"bound": round(bounds[row].as_py(), 4)} if uncertain[row].as_py() else {"keep": config.keep}
            evidence[row] = orjson.dumps(seen | bound).decode()
        return pa.StructArray.from_arrays([reason, pa.array(evidence, pa.string())], fields=list(VERDICT))

    return judge


def _bounds(lang: pa.Array, config: Language) -> pa.Array:
    """float32[rows]: the least score asked of each row."""
    if config.min_score is None:
        bounds = pa.array(thresholds.of_tags(lang))
    else:
        bounds = pa.array(np.full(len(lang), config.min_score, np.float32))
    for tag in reversed(narrowest_first(config.min_scores)):
        bounds = pc.if_else(is_among(lang, [tag]), pa.scalar(config.min_scores[tag], pa.float32()), bounds)
    return bounds
