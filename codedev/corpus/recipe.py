"""The corpus recipe: what `codedev corpus build` reads. Every key, its default and its meaning stand here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from codedev import _recipe
from codedev._errors import RecipeError, nearest
from codedev._recipe import Model
from codedev.corpus import presets
from codedev.corpus.bounds import Bounded, Share, check_mask, check_owner, check_reached, check_tags, own_bounds
from codedev.corpus.contamination.config import Decontaminate
from codedev.corpus.document import KINDS
from codedev.corpus.learned.config import Learned, Perplexity, Toxicity
from codedev.corpus.repeats.config import Lines, Substring, Url
from codedev.corpus.source import SourceConfig
from codedev.corpus.sources import SOURCES, module_of


class Language(Model):
    """Drop prose whose language is not wanted or not certain. Code keeps its programming language and is never judged here."""

    keep: tuple[str, ...] | None = None  # BCP-47 tags; null = all
    min_score: float | None = Field(default=0.65, ge=0, le=1)  # probability; FineWeb and Dolma use 0.65. null = each language's own
    min_scores: dict[str, float] = Field(default={})  # tag: its least score, in place of min_score
    model: str = "ensemble"  # lid.176, CLD2 and our own; `lid.176`; or the path of a fastText model (GlotLID, OpenLID, yours)
    prefix_bytes: int = Field(default=4096, ge=64)  # of a text that are read
    passages: bool = False  # look at passages too: q.lang.share, q.lang.second, q.lang.passages

    @model_validator(mode="after")
    def _check_tags(self) -> Language:
        if self.keep is not None and not self.keep:
            raise ValueError("keep: names no language, so nothing would be kept. Leave it out to keep all")
        if self.model in ("ensemble", "lid.176"):  # any other may have labels of its own
            check_tags([*(self.keep or ()), *self.min_scores])
        return self


class Gopher(Bounded):
    """Quality rules of Rae et al. 2021 (arXiv 2112.11446), table A1. null switches a bound off."""

    languages: tuple[str, ...] | None = ("en",)  # the rules count English words and spaces between words; null = all
    min_words: int | None = 50  # words that are more than punctuation
    max_words: int | None = 100_000
    min_mean_word_length: float | None = 3.0
    max_mean_word_length: float | None = 10.0
    max_symbol_ratio: float | None = 0.1  # '#' or ellipses, each, to words
    max_bullet_lines: float | None = 0.9  # share of lines that start with a bullet
    max_ellipsis_lines: float | None = 0.3  # share of lines that end with an ellipsis
    min_alpha_words: Share | None = 0.8  # share of words with a letter
    min_stop_words: int | None = 2  # distinct words of stop_words
    stop_words: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=63)  # null = the be to of and that have with

    @model_validator(mode="after")
    def _check_words(self) -> Gopher:
        for word in self.stop_words or ():
            if word.split() != [word]:
                raise ValueError(f"stop_words: '{word}' is no single word, and would never be met")
        known = 8 if self.stop_words is None else len({*self.stop_words})
        if self.min_stop_words is not None and self.min_stop_words > known:
            raise ValueError(f"min_stop_words is {self.min_stop_words}, of {known} stop words: nothing would be kept")
        return self


class Repetition(Bounded):
    """Repetition rules of Rae et al. 2021 (arXiv 2112.11446), table A1: shares of lines, of paragraphs, and of all characters. null
    switches a bound off."""

    languages: tuple[str, ...] | None = None  # null = all
    max_dup_lines: float | None = 0.3
    max_dup_paragraphs: float | None = 0.3
    max_dup_line_chars: float | None = 0.2
    max_dup_paragraph_chars: float | None = 0.2
    max_top_2: float | None = 0.2  # characters of the most frequent pair of words
    max_top_3: float | None = 0.18
    max_top_4: float | None = 0.16
    max_dup_5: float | None = 0.15  # characters of words in runs of five that occurred before
    max_dup_6: float | None = 0.14
    max_dup_7: float | None = 0.13
    max_dup_8: float | None = 0.12
    max_dup_9: float | None = 0.11
    max_dup_10: float | None = 0.1


class C4(Bounded):
    """Rules of C4 (Raffel et al. 2020, JMLR 21:140): lines are judged first, then the document by the lines that stay."""

    languages: tuple[str, ...] | None = ("en",)
    rewrite: bool = False  # keep of each document the lines that stay; other filters then see those alone
    citations: bool = True  # take out [1], [edit] and [citation needed] first
    terminal_punctuation: bool = True  # a line ends with . ! ? or a quote, and not with an ellipsis
    min_line_words: int | None = 3
    max_word_length: int | None = 1000  # characters of a line's longest word
    javascript: bool = True  # drop lines that speak of JavaScript
    policy: bool = True  # drop lines that speak of cookies, terms of use and privacy policies
    min_sentences: int | None = 5
    lorem_ipsum: bool = True  # drop documents with a line that says so
    curly_bracket: bool = True  # drop documents with a curly bracket in a line


class FineWeb(Bounded):
    """Rules of FineWeb (Penedo et al. 2024, arXiv 2406.17557, §3.6). null switches a bound off."""

    languages: tuple[str, ...] | None = None
    min_terminal_lines: Share | None = 0.12  # share of lines that end with a sentence's end
    max_short_lines: float | None = 0.67  # share of lines of at most 30 characters
    max_dup_line_chars: float | None = 0.01  # share of characters in lines that stood before
    max_newlines_per_word: float | None = 0.3


class RefinedWeb(Bounded):
    """The line rule of RefinedWeb (Penedo et al. 2023, arXiv 2306.01116, G.2)."""

    languages: tuple[str, ...] | None = ("en",)
    max_flagged_words: float | None = 0.05  # share of words in lines of capitals, numbers, counters, one word or calls to action


class Maths(Bounded):
    """Keep what holds mathematics: a share of characters, where OpenWebMath (arXiv 2310.06786) asks a classifier."""

    languages: tuple[str, ...] | None = None
    min_share: Share | None = 0.01  # of characters in formulas, LaTeX commands and mathematical symbols


class Compression(Bounded):
    """How far the head of a document shrinks under LZ77: 1 = nothing repeats, near 0 = nothing else. No published bounds."""

    languages: tuple[str, ...] | None = None
    min_ratio: float | None = None
    max_ratio: float | None = None


class Code(Bounded):
    """Rules of The Stack and StarCoder (arXiv 2211.15533, 2301.03988, 2305.06161, 2402.19173) for kind `code`. null switches a bound off.
    `by_language` gives a programming language bounds of its own: {JSON: {code: {max_lines: 512}}}."""

    max_line: int | None = 1000  # characters of the longest line
    max_mean_line: float | None = 100.0  # characters
    min_alnum: Share | None = 0.25  # share of letters and digits among characters
    min_alpha: Share | None = None  # share of letters
    min_comments: Share | None = None  # share of characters in lines that are comments, in languages whose comments are known
    max_comments: float | None = None
    max_encoded: float | None = None  # share of characters in base64 and lists of hexadecimal numbers
    max_encoded_run: int | None = None  # characters of the longest of them
    min_fertility: float | None = None  # characters to a token: an identifier, a number, any other visible character. No tokenizer's tokens
    max_fertility: float | None = None
    max_string: int | None = None  # characters of the longest string literal, docstrings aside
    min_visible: Share | None = None  # share of characters outside tags, scripts, styles and comments, in HTML
    min_visible_chars: int | None = None  # those characters, in HTML
    min_chars: int | None = None
    max_chars: int | None = None
    max_lines: int | None = None  # that are not blank


class Quality(Model):
    """A filter that is not named is off. Each sees the documents that those above it keep."""

    preset: str | None = None  # filters and bounds of corpus/data/presets/NAME.yaml; what stands beside it goes over them
    words: str = "whitespace"  # or `spacy-like`; languages that write no spaces are segmented in their own way
    gopher: Gopher | None = None
    repetition: Repetition | None = None
    c4: C4 | None = None
    fineweb: FineWeb | None = None
    refinedweb: RefinedWeb | None = None
    maths: Maths | None = None
    compression: Compression | None = None
    code: Code | None = None
    learned: dict[str, Learned] = Field(default={})  # name: a classifier of documents, which judges by its own column q.learned.<name>
    perplexity: Perplexity | None = None
    by_language: dict[str, dict[str, Any]] = Field(default_factory=dict)  # other bounds: {de: {fineweb: {max_short_lines: 0.5}}}

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, data: Any) -> Any:
        return presets.completed(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _check(self) -> Quality:
        if self.words not in WORD_DEFINITIONS:
            raise ValueError(f"unknown words '{self.words}': {nearest(self.words, WORD_DEFINITIONS)}")
        for language, families in self.by_language.items():
            check_owner(language, families)
            self.of_language(language)
        for name in self.learned:
            if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"learned: '{name}' is no name: letters, digits, - and _ will do")
        return self

    def of_language(self, language: str) -> Quality:
        """These rules with the bounds that the language has of its own: those of the preset's table, then `by_language`."""
        changed: dict[str, Any] = {"by_language": {}, "preset": None}
        for name in presets.of_language(self.preset, language):
            if (base := getattr(self, name)) is not None:
                changed[name] = type(base).model_validate({**base.model_dump(), **presets.own_keys(self.preset, language, name, base)})
        for name, keys in self.by_language.get(language, {}).items():
            base = (changed.get(name) or getattr(self, name, None)) if name in FAMILIES else None
            if name == "perplexity":
                raise ValueError(f"by_language.{language}: write it under quality.perplexity.by_language")
            if name == "learned":
                raise ValueError(f"by_language.{language}: name the model twice under quality.learned, each with its `languages`")
            if base is None:
                raise ValueError(f"by_language.{language}: there is no filter '{name}' above")
            check_reached(language, name, getattr(base, "languages", None))
            changed[name] = own_bounds(base, keys, f"by_language.{language}.{name}", fixed={"languages", *_LINE_RULES})
        return self.model_copy(update=changed)


FAMILIES = ("gopher", "repetition", "c4", "fineweb", "refinedweb", "maths", "compression", "code")  # in the order in which they judge
WORD_DEFINITIONS = ("whitespace", "spacy-like")
_LINE_RULES = ("rewrite", "citations", "terminal_punctuation", "min_line_words", "max_word_length", "javascript", "policy")


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

    @model_validator(mode="after")
    def _check_masks(self) -> Personal:
        types = [name for name in type(self).model_fields if name != "masks"]
        for name, mask in self.masks.items():
            if name not in types:
                raise ValueError(f"masks: unknown type '{name}': {nearest(name, types)}")
            if getattr(self, name) == "keep":
                raise ValueError(f"masks.{name} masks nothing, since {name} is 'keep': write {name}: mask beside it")
            check_mask(name, mask)
        return self


class MinHash(Model):
    """Keep one of the documents that resemble each other; each that is dropped is as like as `verify` to one that is kept.

    Pairs are found by bands of a sketch (Broder 1997; Dahlgaard, Knudsen, Thorup 2017, arXiv 1704.04370) and verified on the shingles.
    Presets of others: 14 x 8 FineWeb, 9 x 13 RedPajama, 20 x 13 Nemotron, 26 x 11 Dolma 3.
    """

    ngram: int = Field(default=5, ge=1, le=64)  # words of a shingle, tokens of code
    bands: int = Field(default=14, ge=1, le=256)
    rows: int = Field(default=8, ge=1, le=64)  # of a band
    verify: float = Field(default=0.8, gt=0, le=1)  # Jaccard similarity of the shingles
    method: Literal["fss", "kperm", "datasketch"] = "fss"  # of the sketch: Fast Similarity Sketching, or k permutations
    keep: tuple[str, ...] = ()  # newest, oldest, longest, shortest, licence, a q. column (-: least first); then the order of the sources
    seed: int = Field(default=0, ge=0, lt=1 << 32)


class Dedup(Model):
    exact: Exact | None = None
    url: Url | None = None
    minhash: MinHash | None = None
    lines: Lines | None = None
    paragraphs: Lines | None = None  # runs of lines between blank ones
    substring: Substring | None = None
    min_chars: int = Field(default=50, ge=0)  # a document of which the cuts of lines, paragraphs and substring leave less is dropped
    against: tuple[str, ...] = ()  # earlier corpora, from the recipe's folder: what is in them, or near it, is not kept again
    index: bool = False  # write what a later build needs to be compared with this corpus, 0.5 KB a document; else it reads the texts


class Range(Model):
    """A share of kept documents."""

    min: float | None = Field(default=None, ge=0, le=1)
    max: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _says(self) -> Range:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        return self


class Expect(Model):
    """What must hold at the end of the run; a broken one fails it with exit code 3. See expect.py."""

    max_drop: float | None = Field(default=None, ge=0, le=1)  # of records
    max_source_drop: float | None = Field(default=None, ge=0, le=1)  # of the records of each source
    max_error: float | None = Field(default=None, ge=0, le=1)  # of records
    max_unknown_licence: float | None = Field(default=None, ge=0, le=1)  # of kept documents
    min_documents: int | None = Field(default=None, ge=0)
    min_bytes: int | None = Field(default=None, ge=0)  # of text
    min_tokens: int | None = Field(default=None, ge=0)  # by bytes_per_token
    bytes_per_token: float = Field(default=4.0, gt=0, le=1000)  # of your tokenizer on such text: `codedev tokenizer compare` tells
    max_contaminated: float | None = Field(default=None, ge=0, le=1)  # of records in which `decontaminate` found a question
    languages: dict[str, Range] = Field(default={})  # share of kept documents by language, `unknown` among them
    licences: dict[str, Range] = Field(default={})  # the same by SPDX expression


class CorpusRecipe(Model):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 0
    sources: tuple[SerializeAsAny[SourceConfig], ...] = Field(min_length=1)  # in order of preference: duplicates keep the first source's
    language: Language | None = None
    quality: Quality = Quality()
    toxicity: Toxicity | None = None
    pii: Personal | None = None
    decontaminate: Decontaminate | None = None
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
