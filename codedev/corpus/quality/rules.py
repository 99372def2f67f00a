"""The filters: thresholds on the columns of columns.py. A dropped row's reason is the first broken rule, its evidence value and bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.document import PROSE_KINDS
from codedev.corpus.language import is_among
from codedev.corpus.quality import bylanguage
from codedev.corpus.quality.columns import families
from codedev.corpus.recipe import C4, Code, Compression, FineWeb, Gopher, Maths, Quality, RefinedWeb, Repetition
from codedev.corpus.stage import Filter, Rule, rule_filter, verdict


def filters(quality: Quality) -> list[tuple[str, Filter]]:
    """(name, filter) of what the recipe names, in the order in which they judge. Languages with bounds of their own are judged by those."""
    return [(family, _by_language(family, quality)) for family in families(quality)]


def content_filter() -> Filter:
    """Always on: a document without a single visible character says nothing."""
    return rule_filter([Rule("q.words", 1, None, too_low="empty")])


def gopher_filter(config: Gopher) -> Filter:
    return _of("gopher", config)


def code_filter(config: Code) -> Filter:
    return _of("code", config)


def _by_language(family: str, quality: Quality) -> Filter:
    """A judge a language, made when a batch first holds it: a table of 1900 languages costs nothing before."""
    own = bylanguage.languages(quality, family)
    judges: dict[str | None, Filter] = {None: _of(family, getattr(quality, family))}
    if not own:
        return judges[None]

    def judge(batch: pa.RecordBatch) -> pa.Array:
        found, rows = bylanguage.groups(batch.column("lang").cast(pa.string()), own)
        # Scores alone: to take rows of a language would copy their texts.
        scores = batch.select([name for name in batch.schema.names if name in ("kind", "lang") or name.startswith("q.")])
        said, order = [], []
        for number, language in enumerate(found):
            if language not in judges:
                judges[language] = _of(family, getattr(quality.of_language(str(language)), family))
            mine = np.flatnonzero(rows == number)
            said.append(verdict(judges[language], scores if len(mine) == len(rows) else scores.take(pa.array(mine))))
            order.append(mine)
        return pa.concat_arrays(said).take(pa.array(np.argsort(np.concatenate(order), kind="stable")))

    return judge


def _of(family: str, config: Any) -> Filter:
    """A family's filter, asked of the rows of its kind and languages and of no others."""
    languages = getattr(config, "languages", None)

    def applies(batch: pa.RecordBatch) -> pa.Array:
        kind = batch.column("kind").cast(pa.string())
        if family == "code":
            return pc.equal(kind, "code")
        prose = pc.is_in(kind, pa.array(sorted(PROSE_KINDS)))
        return prose if languages is None else pc.and_(prose, is_among(batch.column("lang").cast(pa.string()), languages))

    return _where(applies, rule_filter(_RULES[family](config)))


def _gopher(config: Gopher) -> list[Rule]:
    return [
        Rule("q.gopher.words", config.min_words, config.max_words, "too_few_words", "too_many_words"),
        Rule("q.gopher.mean_word_length", config.min_mean_word_length, config.max_mean_word_length, "short_words", "long_words"),
        Rule("q.gopher.symbol_ratio", None, config.max_symbol_ratio, too_high="symbols"),
        Rule("q.gopher.bullet_lines", None, config.max_bullet_lines, too_high="bullets"),
        Rule("q.gopher.ellipsis_lines", None, config.max_ellipsis_lines, too_high="ellipses"),
        Rule("q.gopher.alpha_words", config.min_alpha_words, None, too_low="few_alpha_words"),
        Rule("q.gopher.stop_words", config.min_stop_words, None, too_low="few_stop_words"),
    ]


def _repetition(config: Repetition) -> list[Rule]:
    names = [name.removeprefix("max_") for name in Repetition.model_fields if name.startswith("max_")]
    return [Rule(f"q.repetition.{name}", None, getattr(config, f"max_{name}"), too_high=name) for name in names]


def _c4(config: C4) -> list[Rule]:
    return [
        Rule("q.c4.lorem_ipsum_lines", None, 0 if config.lorem_ipsum else None, too_high="lorem_ipsum"),
        Rule("q.c4.curly_bracket_lines", None, 0 if config.curly_bracket else None, too_high="curly_bracket"),
        Rule("q.c4.sentences", config.min_sentences, None, too_low="too_few_sentences"),
    ]


def _fineweb(config: FineWeb) -> list[Rule]:
    return [
        Rule("q.fineweb.terminal_lines", config.min_terminal_lines, None, too_low="few_terminal_lines"),
        Rule("q.fineweb.short_lines", None, config.max_short_lines, too_high="short_lines"),
        Rule("q.fineweb.dup_line_chars", None, config.max_dup_line_chars, too_high="dup_line_chars"),
        Rule("q.fineweb.newlines_per_word", None, config.max_newlines_per_word, too_high="newlines"),
    ]


def _refinedweb(config: RefinedWeb) -> list[Rule]:
    return [Rule("q.refinedweb.flagged_words", None, config.max_flagged_words, too_high="flagged_words")]


def _maths(config: Maths) -> list[Rule]:
    return [Rule("q.maths.share", config.min_share, None, too_low="little_maths")]


def _compression(config: Compression) -> list[Rule]:
    return [Rule("q.compression.ratio", config.min_ratio, config.max_ratio, "compressible", "incompressible")]


def _code(config: Code) -> list[Rule]:
    return [
        Rule("q.code.max_line", None, config.max_line, too_high="long_line"),
        Rule("q.code.mean_line", None, config.max_mean_line, too_high="long_lines"),
        Rule("q.code.alnum", config.min_alnum, None, too_low="few_letters"),
        Rule("q.code.alpha", config.min_alpha, None, too_low="few_letters"),
        Rule("q.code.comments", config.min_comments, config.max_comments, "few_comments", "many_comments"),
        Rule("q.code.encoded", None, config.max_encoded, too_high="encoded"),
        Rule("q.code.encoded_run", None, config.max_encoded_run, too_high="encoded_run"),
        Rule("q.code.fertility", config.min_fertility, config.max_fertility, "low_fertility", "high_fertility"),
        Rule("q.code.max_string", None, config.max_string, too_high="long_string"),
        Rule("q.code.visible", config.min_visible, None, too_low="little_visible"),
        Rule("q.code.visible_chars", config.min_visible_chars, None, too_low="little_visible"),
        Rule("q.chars", config.min_chars, config.max_chars, "too_small", "too_large"),
        Rule("q.lines", None, config.max_lines, too_high="too_many_lines"),
    ]


_RULES: dict[str, Callable[[Any], Sequence[Rule]]] = {
    "gopher": _gopher,
    "repetition": _repetition,
    "c4": _c4,
    "fineweb": _fineweb,
    "refinedweb": _refinedweb,
    "maths": _maths,
    "compression": _compression,
    "code": _code,
}


def _where(applies: Callable[[pa.RecordBatch], pa.Array], judge: Filter) -> Filter:
    """`judge`, asked of the rows that `applies` marks and of no others."""

    def judged(batch: pa.RecordBatch) -> pa.Array:
        said = verdict(judge, batch)
        return pc.if_else(pc.fill_null(applies(batch), False), said, pa.scalar(None, said.type))

    return judged
