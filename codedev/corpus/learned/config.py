"""The keys of recipes that have to do with learned quality and with toxicity. Imported with every recipe: no kernel here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, model_validator

from codedev._recipe import Model
from codedev.corpus.bounds import Bounded, check_tags

EVERY = "all"  # in place of a language: for those that have nothing of their own
MAX_PIECE = 64  # characters of a piece of a word
MAX_TABLE = 3 << 30  # bytes of a classifier's rows of hashed runs, as they are read: in blocks of 16 numbers
_OR_EVERY = f", or `{EVERY}`"


def check_paths(paths: Iterable[str]) -> None:
    """ValueError for what names no file."""
    for path in paths:
        if not path or "\0" in path:
            raise ValueError(f"{path!r} is no path of a file")


def check_keys(tags: Iterable[str], where: str) -> None:
    """ValueError for what is no tag, and for two that are one language: documents have but one model or list."""
    seen: dict[str, str] = {}
    check_tags(tags := tuple(tags), _OR_EVERY)
    for tag in tags:
        if (other := seen.setdefault(tag.lower(), tag)) != tag:
            raise ValueError(f"{where}: '{other}' and '{tag}' are one language")


def check_scoring(model: str, labels: dict[str, float]) -> None:
    """ValueError for a classifier that says nothing."""
    check_paths([model])
    if not any(labels.values()):
        raise ValueError("labels: every weight is 0, so that every score is")
    if len({label.removeprefix("__label__") for label in labels}) < len(labels):
        raise ValueError("labels: one of them stands twice, with `__label__` before it and without")


def check_reachable(labels: dict[str, float], least: float | None, most: float | None) -> None:
    """ValueError where no sum of weight * probability lies within the bounds: a probability is 0 to 1, of several labels too."""
    low, high = (sum(bound(weight, 0.0) for weight in labels.values()) for bound in (min, max))
    if least is not None and least > high:
        raise ValueError(f"min_score {least:g}: no score is above {high:g}, so nothing would be kept")
    if most is not None and most < low:
        raise ValueError(f"max_score {most:g}: no score is below {low:g}, so nothing would be kept")


class Learned(Bounded):
    """A fastText classifier of documents: our own (`codedev corpus quality train`) or any published one. Prose alone is scored."""

    model: str  # path of a .bin or .ftz file
    labels: dict[str, float] = Field(
        default={"hq": 1.0}, min_length=1
    )  # the score is the sum of weight * probability: {hq: 1}, {"4": 4, "5": 5}
    languages: tuple[str, ...] | None = None  # documents of other languages have no score and are kept; null = all
    lower: bool | None = None  # lower-case the text first; null = as the .json beside the model says, else no: published models do not
    prefix_bytes: int | None = Field(default=None, ge=0)  # of a text that are read; 0 = all, null = as the .json says, else all
    min_score: float | None = None  # less: dropped. `quality train` prints what share each bound keeps
    max_score: float | None = None  # more: dropped; for models of what is not wanted

    @model_validator(mode="after")
    def _check(self) -> Learned:
        check_scoring(self.model, self.labels)
        check_reachable(self.labels, self.min_score, self.max_score)
        return self


class Band(Bounded):
    """Bounds of perplexity. Percentiles are those of the text the model was calibrated on: CCNet's head ends at 30, its middle at 60."""

    min: float | None = None  # less: text that repeats, or that the model has seen
    max: float | None = None
    min_percentile: float | None = Field(default=None, ge=0, le=100)
    max_percentile: float | None = Field(default=None, ge=0, le=100)


class Perplexity(Bounded):
    """How unlike well-written text a document is: perplexity under an n-gram model of its language. Prose alone is scored."""

    models: dict[str, str] = Field(min_length=1)  # language: path of the model; `all` for those that have none of their own
    prefix_bytes: int = Field(default=0, ge=0)  # of a text that are read; 0 = all
    bounds: Band = Band()
    by_language: dict[str, Band] = Field(default={})  # in place of `bounds`

    @model_validator(mode="after")
    def _check(self) -> Perplexity:
        check_keys(self.models, "models")
        check_keys(self.by_language, "by_language")
        check_paths(self.models.values())
        if EVERY in self.by_language:
            raise ValueError(f"by_language.{EVERY}: those are `bounds`")
        if EVERY not in self.models and self.by_language:
            from codedev.corpus.language.tags import covers  # its package has kernels

            for tag in self.by_language:
                if not any(covers(tag, other) or covers(other, tag) for other in self.models):
                    raise ValueError(f"by_language.{tag}: no model is of that language, so that its documents have no perplexity")
        return self


class ToxicityModel(Bounded):
    """A fastText classifier of documents. Its texts are prepared as the .json beside it says, else they are read as they stand."""

    model: str  # path of a .bin or .ftz file
    labels: dict[str, float] = Field(default={"toxic": 1.0}, min_length=1)  # q.toxic.score is the sum of weight * probability
    languages: tuple[str, ...] | None = None  # documents of other languages have no score and are kept; null = all
    lower: bool | None = None  # lower-case the text first; null = as the .json says, else no
    prefix_bytes: int | None = Field(default=None, ge=0)  # of a text that are read; 0 = all, null = as the .json says, else all

    @model_validator(mode="after")
    def _check(self) -> ToxicityModel:
        check_scoring(self.model, self.labels)
        return self


class Toxicity(Bounded):
    """Toxic language, of prose alone. A bound that is null drops nothing: the columns are there all the same."""

    lists: dict[str, tuple[str, ...]] = Field(
        default={}
    )  # language: paths of lists, a word or phrase a line; `all` for languages without one
    max_words: float | None = Field(default=None, ge=0)  # matches a thousand words; more: dropped
    classifier: ToxicityModel | None = None
    max_score: float | None = None  # more: dropped

    @model_validator(mode="after")
    def _check(self) -> Toxicity:
        check_keys(self.lists, "lists")
        for tag, paths in self.lists.items():
            check_paths(paths)
            if not paths:
                raise ValueError(f"lists.{tag}: names no file")
        if self.max_words is not None and not self.lists:
            raise ValueError("max_words: there are no lists to count words of")
        if self.max_score is not None and not self.classifier:
            raise ValueError("max_score: there is no classifier to score with")
        if self.classifier:
            check_reachable(self.classifier.labels, None, self.max_score)
        if not self.lists and not self.classifier:
            raise ValueError("neither lists nor a classifier: nothing would be looked for. Leave `toxicity` out")
        return self


class Examples(Model):
    """Documents to learn from: any source of a corpus recipe, a corpus of ours (`type: tables` and its Parquet files) among them."""

    source: dict[str, Any]  # as in a corpus recipe; `name` may be left out
    count: int | None = Field(default=None, ge=1)  # documents, at most, drawn by the hash of their ids
    where: dict[str, tuple[str, ...]] = Field(default={})  # a column or key of `meta`: the values that are wanted
    cut: int | None = Field(default=None, ge=100)  # bytes of the passages that a long document is cut into, at ends of lines or words


class Split(Model):
    """What both kinds of model share."""

    seed: int = Field(default=0, ge=0)
    held_out: float = Field(default=0.1, gt=0, lt=1)  # share of documents that are not learnt, by the hash of their ids


class ClassifierTraining(Split):
    """Positive against negative documents, as DCLM and FineWeb-Edu have it (arXiv 2406.11794 §4.4, 2406.17557 §4)."""

    positive: tuple[Examples, ...] = Field(min_length=1)
    negative: tuple[Examples, ...] = Field(min_length=1)
    labels: tuple[str, str] = ("hq", "cc")  # what the model calls them: DCLM's names
    lower: bool = True  # digits and marks stay; line ends are blanks to fastText
    prefix_bytes: int = Field(default=0, ge=0)  # of a document that are learnt and later scored; 0 = all
    word_ngrams: int = Field(default=2, ge=1, le=5)
    dim: int = Field(default=16, ge=1, le=1024)
    bucket: int = Field(default=1 << 20, ge=1, le=1 << 28)  # rows of hashed runs of words; 4 * dim bytes each
    min_count: int = Field(default=1, ge=1)  # of a word
    epochs: int | None = Field(default=None, ge=1)  # null = 5, and up to 100 the fewer texts there are: 200 learn nothing in 5
    rate: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _check(self) -> ClassifierTraining:
        if self.labels[0] == self.labels[1] or any(not label or any(c <= " " for c in label) for label in self.labels):
            raise ValueError(f"labels {list(self.labels)}: two different words")
        if any(label.startswith("__label__") for label in self.labels):
            raise ValueError(f"labels {list(self.labels)}: leave `__label__` out, the file has it before each")
        size = 4 * -(-self.dim // 16) * 16 * self.bucket
        if self.word_ngrams > 1 and size > MAX_TABLE:
            raise ValueError(f"bucket {self.bucket} of dim {self.dim}: {size / 1e9:.0f} GB; at most {MAX_TABLE / 1e9:.1f} are read")
        return self


class PerplexityTraining(Split):
    """An n-gram model of texts: modified Kneser-Ney (kernels/ngram.py)."""

    texts: tuple[Examples, ...] = Field(min_length=1)
    calibrate: tuple[Examples, ...] = ()  # texts that the percentiles are of, the crawl to be judged; none = those held out
    order: int = Field(default=5, ge=1, le=8)
    piece: int = Field(default=0, ge=0, le=MAX_PIECE)  # characters of the pieces that words are cut into; 0 = words are whole
    min_words: int = Field(default=2, ge=1)  # words seen less often are the unknown word
    min_counts: tuple[int, ...] = Field(default=(1, 1, 2), min_length=1)  # least counts of n-grams by length, the last for all longer ones


class TrainRecipe(Model):
    """One of the two."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    classifier: ClassifierTraining | None = None
    perplexity: PerplexityTraining | None = None

    @model_validator(mode="after")
    def _check(self) -> TrainRecipe:
        if (self.classifier is None) == (self.perplexity is None):
            raise ValueError("name either `classifier` or `perplexity`")
        return self
