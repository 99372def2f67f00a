"""A work unit, what a worker needs beside it, and the keys that say when its work is done.

A unit goes through three passes, each with a receipt:

    score   raw records -> normalised, scored documents      .work/scored/<key>.parquet, .dropped.parquet, .errors.parquet
            and pieces that meet in units of their own       .work/scored/<key>.<round>.<run>.pieces
            records that cost their worker                   .work/scored/<key>.poisoned
    judge   score columns -> a reason to drop, or none       .work/judged/<key>.parquet; the text is not read
    write   scored + judged + what the barriers found        the parts of the corpus

A key names everything that decides the output: input hashes, configuration, versions. Work whose receipt matches is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from codedev import __version__
from codedev._run import content_key
from codedev.corpus import language, normalise, quality
from codedev.corpus.document import DOCUMENT, DROPPED
from codedev.corpus.join import Span
from codedev.corpus.learned.config import EVERY
from codedev.corpus.recipe import CorpusRecipe, Language
from codedev.corpus.repeats.cuts import COLUMN as CUTS
from codedev.corpus.repeats.cuts import STAGES as CUTTING
from codedev.corpus.source import Extent
from codedev.corpus.sources import module_of
from codedev.corpus.stage import VERDICT, Filter, Stage

# Columns that lead from one pass to the next and never reach the corpus.
IDENTITY = pa.schema([pa.field("_text_high", pa.uint64()), pa.field("_text_low", pa.uint64()), pa.field("_id_hash", pa.uint64())])
JUDGED = pa.schema([pa.field("stage", pa.string()), *VERDICT, pa.field("id", pa.string()), *IDENTITY])


class Tables(NamedTuple):
    """The schemas of a run's tables: those of document.py and the columns that the recipe's stages append."""

    scored: pa.Schema
    documents: pa.Schema
    dropped: pa.Schema


class Scoring(NamedTuple):
    """A stage of the first pass. What it depends on is in the version: thresholds do not belong here."""

    name: str
    version: str
    stage: Stage
    columns: pa.Schema = pa.schema([])  # that it appends; one whose name begins with "_" never reaches the corpus


class Unit(NamedTuple):
    """A slice of one source's input."""

    source: int  # index in the recipe
    number: int  # of the unit within its source: the number of its parts
    extents: tuple[Extent, ...]
    span: Span | None = None  # instead of extents: a share of the pieces that other units wrote


class Context(NamedTuple):
    """What a worker needs beside the unit."""

    recipe: CorpusRecipe
    base: Path  # the recipe's folder
    out: Path

    @property
    def work(self) -> Path:
        return self.out / ".work"


class _Planned(NamedTuple):
    """A Scoring whose stage is not there yet: making it may read a model of gigabytes, which neither keys nor schemas need."""

    name: str
    version: str
    make: Callable[[], Stage]
    columns: pa.Schema = pa.schema([])


def scoring_stages(recipe: CorpusRecipe) -> list[Scoring]:
    """What the first pass does to every batch, in order. Models are read: InputError where one is missing, damaged or of another kind."""
    return [Scoring(one.name, one.version, one.make(), one.columns) for one in _planned(recipe)]


def _planned(recipe: CorpusRecipe) -> list[_Planned]:
    stages = [_Planned("normalise", str(normalise.VERSION), lambda: normalise.normalise)]
    if pii := recipe.pii:
        from codedev.corpus import personal  # its kernel takes 20 s to compile where it never ran: not for those who need none

        version = content_key(personal.VERSION, pii.model_dump(mode="json"))
        stages.append(_Planned("pii", version, partial(personal.personal_stage, pii), personal.columns(pii)))
    if _needs_language(recipe):
        asked = recipe.language or Language()
        model, prefix = asked.model, asked.prefix_bytes
        version = f"{language.VERSION}:{language.version_of(model, prefix)}"
        identifier = partial(language.identifier_of, model, prefix)
        stages.append(_Planned("language", version, lambda: language.stage_with(identifier())))
        if asked.passages:
            stages.append(_Planned("passages", version, lambda: language.mixed_stage(identifier()), language.MIXED))
    rules = recipe.quality
    stages.append(_Planned("scores", quality.version(rules), partial(quality.scoring, rules), quality.scores(rules)))
    stages += _learned(recipe)  # behind the scores: a rewritten text is the one that is kept
    if looked_for := recipe.decontaminate:
        from codedev.corpus.contamination import stage as contamination

        find = partial(contamination.contamination_stage, looked_for)
        stages.append(_Planned("contamination", contamination.version(looked_for), find, contamination.COLUMNS))
    if minhash := recipe.dedup.minhash:
        from codedev.corpus.near import sketch  # its kernels too

        shown = minhash.model_dump(mode="json", exclude={"verify", "keep"})
        stages.append(
            _Planned("sketch", content_key(sketch.VERSION, shown), partial(sketch.sketch_stage, minhash), sketch.columns(minhash))
        )
    return stages


def _learned(recipe: CorpusRecipe) -> list[_Planned]:
    """What models of the recipe's own score. Their kernels are imported when asked for."""
    stages = []
    if models := recipe.quality.learned:
        from codedev.corpus.learned import classifier

        for name, config in models.items():
            make = partial(classifier.learned_stage, name, config)
            stages.append(_Planned(f"learned.{name}", classifier.version(config), make, classifier.columns(name)))
    if asked := recipe.quality.perplexity:
        from codedev.corpus.learned import perplexity as ngram

        columns = ngram.perplexity_columns(asked)
        stages.append(_Planned("perplexity", ngram.perplexity_version(asked), partial(ngram.perplexity_stage, asked), columns))
    if toxic := recipe.toxicity:
        from codedev.corpus import toxicity

        stages.append(_Planned("toxicity", toxicity.version(toxic), partial(toxicity.toxicity_stage, toxic), toxicity.columns(toxic)))
    return stages


def _needs_language(recipe: CorpusRecipe) -> bool:
    """Whether anything asks what language a document is in."""
    perplexity, toxic = recipe.quality.perplexity, recipe.toxicity
    by_language = bool(perplexity and ({*perplexity.models} != {EVERY} or perplexity.by_language))
    by_language |= bool(toxic and ({*toxic.lists} - {EVERY} or (toxic.classifier and toxic.classifier.languages is not None)))
    by_language |= any(config.languages is not None for config in recipe.quality.learned.values())
    return by_language or recipe.language is not None or quality.needs_language(recipe.quality)


# How many documents the survivor stands for, itself counted.
CLUSTER_SIZE = pa.field("q.near.cluster_size", pa.int32())


def tables(recipe: CorpusRecipe) -> Tables:
    columns = [field for planned in _planned(recipe) for field in planned.columns]
    shown = [field for field in columns if not field.name.startswith("_")]
    shown += ([CLUSTER_SIZE] if recipe.dedup.minhash else []) + ([CUTS] if cuts(recipe) else [])
    return Tables(
        pa.schema([*DOCUMENT, *columns, *IDENTITY], metadata=DOCUMENT.metadata),
        pa.schema([*DOCUMENT, *shown], metadata=DOCUMENT.metadata),
        pa.schema([*DROPPED, *shown], metadata=DROPPED.metadata),
    )


def filters(recipe: CorpusRecipe) -> list[tuple[str, Filter]]:
    """(name in the waterfall, filter) in order: the first one with a reason decides."""
    chosen: list[tuple[str, Filter]] = [("content", quality.content_filter())]
    if recipe.pii:
        from codedev.corpus import personal

        chosen.append(("pii", personal.personal_filter(recipe.pii)))
    if recipe.language:
        chosen.append(("language", language.language_filter(recipe.language)))
    chosen += quality.filters(recipe.quality)
    if models := recipe.quality.learned:
        from codedev.corpus.learned import classifier

        chosen.append(("learned", classifier.learned_filter(models)))
    if asked := recipe.quality.perplexity:
        from codedev.corpus.learned import perplexity as ngram

        chosen.append(("perplexity", ngram.perplexity_filter(asked)))
    if toxic := recipe.toxicity:
        from codedev.corpus import toxicity

        chosen.append(("toxicity", toxicity.toxicity_filter(toxic)))
    if looked_for := recipe.decontaminate:
        from codedev.corpus.contamination import stage as contamination

        chosen.append(("contamination", contamination.contamination_filter(looked_for)))
    return chosen


def barriers(recipe: CorpusRecipe) -> list[str]:
    """Their names in the waterfall, in order."""
    dedup = recipe.dedup
    wanted = {"identity": True, "exact": dedup.exact is not None, "url": dedup.url is not None, "near": dedup.minhash is not None}
    return [name for name, asked in wanted.items() if asked] + cuts(recipe) + (["repeats"] if cuts(recipe) else [])


def cuts(recipe: CorpusRecipe) -> list[str]:
    """The barriers that cut spans out of texts, in order."""
    return [name for name in CUTTING if getattr(recipe.dedup, name) is not None]


def score_key(context: Context, unit: Unit) -> str:
    source = context.recipe.sources[unit.source]
    versions = [(planned.name, planned.version) for planned in _planned(context.recipe)]
    # `file` is where the bytes lie on this machine and decides nothing; `name` reaches the origin column. What `paths` lead to, the
    # extents say: a path more costs no new reading of the others.
    extents = [extent._replace(file="") for extent in unit.extents]
    return content_key(
        __version__, source.model_dump(mode="json", exclude={"paths"}), module_of(source.type).VERSION, versions, extents, unit.span
    )


def poisoned_path(context: Context, key: str) -> Path:
    """Where the records are listed that have cost the scoring of the unit a worker (see guard.py)."""
    return context.work / "scored" / f"{key}.poisoned"


# Where models and lists lie decides nothing: what they hold is in the key of the scores.
_PATHS: Any = {
    "model": True,  # of `language`
    "learned": {"__all__": {"model"}},
    "perplexity": {"models"},
    "lists": True,  # of `toxicity`
    "classifier": {"model"},
    "against": True,  # of `decontaminate`
}


def judge_key(context: Context, scored: str) -> str:
    recipe = context.recipe
    parts = [
        part.model_dump(mode="json", exclude=_PATHS) if part else None
        for part in (recipe.pii, recipe.language, recipe.quality, recipe.toxicity, recipe.decontaminate)
    ]
    return content_key(scored, quality.VERSION, language.VERSION, language.thresholds_hash(), parts)


def to_line(unit: Unit) -> bytes:
    """A unit as a line of the plan file; what is planned has extents and no span."""
    # The standard library's JSON: a file name that is no UTF-8 survives the round trip.
    return json.dumps(unit[:3]).encode() + b"\n"


def from_line(line: bytes) -> Unit:
    source, number, extents = json.loads(line)
    return Unit(source, number, tuple(Extent(*extent) for extent in extents))
