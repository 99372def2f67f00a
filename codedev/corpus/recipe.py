"""The corpus recipe: what `codedev corpus build` reads. Every key, its default and its meaning stand here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator

from codedev import _recipe
from codedev._errors import RecipeError, nearest
from codedev._recipe import Model
from codedev.corpus.document import KINDS
from codedev.corpus.source import SourceConfig
from codedev.corpus.sources import SOURCES, module_of


class Language(Model):
    """Drop prose whose language is not wanted or not certain. Code keeps its programming language and is never judged here."""

    keep: tuple[str, ...] | None = None  # BCP-47 tags; null = all
    min_score: float = Field(default=0.65, ge=0, le=1)  # fastText probability; FineWeb and Dolma use 0.65


class Gopher(Model):
    """Quality rules of Rae et al. 2021 (arXiv 2112.11446), table A1, on whitespace words. null switches a bound off."""

    languages: tuple[str, ...] = ("en",)  # the rules count English words and spaces between words: other languages would be lost
    min_words: int | None = 50
    max_words: int | None = 100_000
    min_mean_word_length: float | None = 3.0
    max_mean_word_length: float | None = 10.0
    max_symbol_ratio: float | None = 0.1  # '#' or ellipses, each, to words
    max_bullet_lines: float | None = 0.9  # share of lines that start with a bullet
    max_ellipsis_lines: float | None = 0.3  # share of lines that end with an ellipsis
    min_alpha_words: float | None = 0.8  # share of words with a letter
    min_stop_words: int | None = 2  # distinct words of: the be to of and that have with


class Code(Model):
    """Basic rules of The Stack and StarCoder (arXiv 2211.15533, 2305.06161) for kind `code`. null switches a bound off."""

    max_line: int | None = 1000  # characters of the longest line
    max_mean_line: float | None = 100.0  # characters
    min_alnum: float | None = 0.25  # share of letters and digits among characters


class Quality(Model):
    gopher: Gopher | None = None
    code: Code | None = None


class Exact(Model):
    """Keep one of the documents whose text is equal once runs of white space are one blank."""


Action = Literal["mask", "tag", "drop", "keep"]


class Personal(Model):
    """What becomes of personal data and secrets, type by type: `mask` puts the type's mask in their place, `tag` records where they stand,
    `drop` drops the document, `keep` does not look for them."""

    email: Action = "keep"
    ip: Action = "keep"  # IPv4 and IPv6, global addresses alone
    phone: Action = "keep"
    card: Action = "keep"  # payment cards: issuer's prefix and Luhn's sum
    iban: Action = "keep"
    national_id: Action = "keep"  # SSN, CPF, Aadhaar, NIR, codice fiscale, DNI, NINO, resident identity numbers, ...
    secret: Action = "keep"  # noqa: S105  # keys and tokens of providers, private keys, passwords in URLs and assignments
    username: Action = "keep"  # u/name, names in mail headers, authors in `meta` of conversations
    masks: dict[str, str] = Field(default={})  # type: text in its place; default the type in capitals, <EMAIL>

    @field_validator("masks")
    @classmethod
    def _check_masks(cls, masks: dict[str, str]) -> dict[str, str]:
        types = [name for name in cls.model_fields if name != "masks"]
        for name in masks:
            if name not in types:
                raise ValueError(f"unknown type '{name}': {nearest(name, types)}")
        return masks


class Dedup(Model):
    exact: Exact | None = None


class Expect(Model):
    """Shares that must hold at the end of the run; a broken one fails it with exit code 3."""

    max_drop: float | None = Field(default=None, ge=0, le=1)  # of records
    max_error: float | None = Field(default=None, ge=0, le=1)  # of records
    max_unknown_licence: float | None = Field(default=None, ge=0, le=1)  # of kept documents
    min_documents: int | None = Field(default=None, ge=0)


class CorpusRecipe(Model):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 0
    sources: tuple[SerializeAsAny[SourceConfig], ...] = Field(min_length=1)  # in order of preference: duplicates keep the first source's
    language: Language | None = None
    quality: Quality = Quality()
    pii: Personal | None = None
    dedup: Dedup = Dedup()
    expect: Expect = Expect()
    unit_bytes: int = Field(default=32 << 20, ge=1 << 10)  # raw bytes of a work unit: larger files are split, smaller ones packed
    keep_work: bool = True  # keep the scored tables, so that a changed threshold costs no new reading

    @field_validator("sources")
    @classmethod
    def _check_sources(cls, sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        names = [source.name for source in sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are named '{name}'")
        for source in sources:
            if source.kind is not None and source.kind not in KINDS:
                raise ValueError(f"unknown kind '{source.kind}' of source '{source.name}': {nearest(source.kind, KINDS)}")
        return sources


def load(path: Path, overrides: tuple[str, ...] = ()) -> CorpusRecipe:
    """The recipe at `path`, checked; RecipeError or InputError in one line."""
    return check(_recipe.read(path, overrides), str(path))


def check(data: dict[str, Any], where: str) -> CorpusRecipe:
    sources = data.get("sources")
    if isinstance(sources, list):
        data = {**data, "sources": [check_source(source, f"{where}: sources.{i}") for i, source in enumerate(sources)]}
    return _recipe.check(data, CorpusRecipe, where)


def check_source(source: Any, where: str) -> SourceConfig:
    """One source of a recipe, checked by its own model; RecipeError in one line."""
    if not isinstance(source, dict) or not isinstance(source.get("type"), str):
        raise RecipeError(f"{where}: a source is a mapping with a name, a type ({', '.join(SOURCES)}) and paths")
    if source["type"] not in SOURCES:
        raise RecipeError(f"{where}: unknown type '{source['type']}': {nearest(source['type'], SOURCES)}")
    config: SourceConfig = _recipe.check(source, module_of(source["type"]).Config, where)
    return config
