"""What a recipe may say of repeats: `dedup: {url: …, lines: …, paragraphs: …, substring: …, min_chars: …}`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from codedev._recipe import Model


class Url(Model):
    """Keep one of the documents with one URL, once it is in canonical form."""

    keep: Literal["first", "newest", "longest"] = "newest"  # in order of the sources; by `created`; by bytes of text. Ties: the first
    kinds: tuple[str, ...] = ("web",)


class Lines(Model):
    """Cut lines, or paragraphs, that stood before in the document or that stand in many documents."""

    within: bool = True  # in one document all but the first
    max_documents: int | None = Field(default=None, ge=1)  # a line that more documents hold is boilerplate; null = no line is
    keep: int = Field(default=1, ge=0)  # documents, the first ones, that keep a line of boilerplate
    min_chars: int = Field(default=30, ge=1)  # of a line, white space squeezed: shorter ones always stay
    digits: bool = False  # lines that differ in their numbers alone are one: for boilerplate; a diary would lose its days
    kinds: tuple[str, ...] | None = ("web", "conversation", "book", "paper", "qa")  # null = all


class Substring(Model):
    """Cut what an earlier document holds: spans of `min_bytes` or more, byte by byte the same."""

    min_bytes: int = Field(default=500, ge=16, le=1 << 20)  # Dolma 3: 500; Lee et al. 2021 (arXiv 2107.06499): 50 tokens; Nemotron: 100
    snap: Literal["character", "word", "line"] = "word"  # where cuts may begin and end: a span shrinks to that
    kinds: tuple[str, ...] | None = ("web", "conversation", "book", "paper", "qa")  # null = all
