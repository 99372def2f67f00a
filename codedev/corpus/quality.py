"""Quality scores as columns, and the filters that judge them. Scoring needs the text; a changed threshold needs the columns alone.

Columns (all from one pass of kernels/textstats.py; null where the rule does not apply to the document's kind):
    q.chars q.words q.lines                                              every document
    q.gopher.mean_word_length .symbol_ratio .bullet_lines .ellipsis_lines .alpha_words .stop_words      prose
    q.code.max_line .mean_line .alnum                                    code
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.buffers import text_buffers
from codedev.corpus.document import PROSE_KINDS
from codedev.corpus.language import is_among
from codedev.corpus.recipe import Code, Gopher
from codedev.corpus.stage import Filter, Rule, rule_filter, verdict
from codedev.kernels.textstats import COLUMNS, text_stats

VERSION = 2

_GOPHER = ("mean_word_length", "symbol_ratio", "bullet_lines", "ellipsis_lines", "alpha_words", "stop_words")
_CODE = ("max_line", "mean_line", "alnum")
SCORES = pa.schema(
    [
        pa.field("q.chars", pa.int64()),
        pa.field("q.words", pa.int64()),
        pa.field("q.lines", pa.int64()),
        *(pa.field(f"q.gopher.{name}", pa.float32()) for name in _GOPHER),
        *(pa.field(f"q.code.{name}", pa.float32()) for name in _CODE),
    ]
)


def score_stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
    """A Stage: appends the columns of SCORES."""
    stats = dict(zip(COLUMNS, text_stats(*text_buffers(batch.column("text"))).T, strict=True))
    kind = batch.column("kind").cast(pa.string())
    not_prose = ~pc.is_in(kind, pa.array(sorted(PROSE_KINDS))).to_numpy(zero_copy_only=False)
    not_code = ~pc.equal(kind, "code").to_numpy(zero_copy_only=False)
    words, lines, chars = (np.maximum(stats[name], 1) for name in ("words", "lines", "chars"))
    gopher = {
        "mean_word_length": stats["word_chars"] / words,
        "symbol_ratio": np.maximum(stats["hashes"], stats["ellipses"]) / words,
        "bullet_lines": stats["bullet_lines"] / lines,
        "ellipsis_lines": stats["ellipsis_lines"] / lines,
        "alpha_words": stats["alpha_words"] / words,
        "stop_words": stats["stop_words"],
    }
    code = {"max_line": stats["max_line"], "mean_line": chars / lines, "alnum": stats["alnum"] / chars}
    columns = [
        *(pa.array(stats[name]) for name in ("chars", "words", "lines")),
        *(pa.array(gopher[name].astype(np.float32), mask=not_prose) for name in _GOPHER),
        *(pa.array(code[name].astype(np.float32), mask=not_code) for name in _CODE),
    ]
    scored = pa.RecordBatch.from_arrays(
        [*batch.columns, *columns], schema=pa.schema([*batch.schema, *SCORES], metadata=batch.schema.metadata)
    )
    return scored, Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)


def content_filter() -> Filter:
    """Always on: a document without a single visible character says nothing."""
    return rule_filter([Rule("q.words", 1, None, too_low="empty")])


def gopher_filter(config: Gopher) -> Filter:
    rules = [
        Rule("q.words", config.min_words, config.max_words, "too_few_words", "too_many_words"),
        Rule("q.gopher.mean_word_length", config.min_mean_word_length, config.max_mean_word_length, "short_words", "long_words"),
        Rule("q.gopher.symbol_ratio", None, config.max_symbol_ratio, too_high="symbols"),
        Rule("q.gopher.bullet_lines", None, config.max_bullet_lines, too_high="bullets"),
        Rule("q.gopher.ellipsis_lines", None, config.max_ellipsis_lines, too_high="ellipses"),
        Rule("q.gopher.alpha_words", config.min_alpha_words, None, too_low="few_alpha_words"),
        Rule("q.gopher.stop_words", config.min_stop_words, None, too_low="few_stop_words"),
    ]

    def applies(batch: pa.RecordBatch) -> pa.Array:
        prose = pc.is_in(batch.column("kind").cast(pa.string()), pa.array(sorted(PROSE_KINDS)))
        return pc.and_(prose, is_among(batch.column("lang").cast(pa.string()), config.languages))

    return _where(applies, rule_filter(rules))


def code_filter(config: Code) -> Filter:
    rules = [
        Rule("q.code.max_line", None, config.max_line, too_high="long_line"),
        Rule("q.code.mean_line", None, config.max_mean_line, too_high="long_lines"),
        Rule("q.code.alnum", config.min_alnum, None, too_low="few_letters"),
    ]
    return _where(lambda batch: pc.equal(batch.column("kind").cast(pa.string()), "code"), rule_filter(rules))


def _where(applies: Callable[[pa.RecordBatch], pa.Array], judge: Filter) -> Filter:
    """`judge`, asked of the rows that `applies` marks and of no others."""

    def judged(batch: pa.RecordBatch) -> pa.Array:
        said = verdict(judge, batch)
        return pc.if_else(applies(batch), said, pa.scalar(None, said.type))

    return judged
