"""`decontaminate:` of a corpus recipe. Imported with every recipe: no kernel here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from codedev._errors import nearest
from codedev._recipe import Model
from codedev.corpus.questions import COLUMNS

FLOOR = 0.5  # the least score that is written down: `min_overlap` can be any above it without reading the documents again


class Matching(Model):
    """What of a document is a question of an evaluation set."""

    ngram: int = Field(default=5, ge=2, le=32)  # words; ideographs and kana are one each
    step: int = Field(default=4, ge=1, le=64)  # of a document's n-grams every so many are looked up
    max_misses: int = Field(default=11, ge=0, le=1000)  # n-grams in a row that are none of the question's: there a match ends
    min_tokens: int = Field(default=8, ge=2)  # questions of fewer, choices included, are not looked for

    @model_validator(mode="after")
    def _check(self) -> Matching:
        if self.min_tokens < self.ngram + self.step - 1:
            least = self.ngram + self.step - 1
            raise ValueError(
                f"min_tokens {self.min_tokens}: with this ngram and step questions of fewer than {least} words may be passed over"
            )
        return self


class Decontaminate(Matching):
    """Documents that hold questions of evaluation sets."""

    against: tuple[str, ...] = Field(min_length=1)  # files and folders of questions, from the recipe's folder
    columns: dict[str, str] = Field(default={})  # of rows in another layout: {question: prompt, choices: options, answer: key}
    min_overlap: float = Field(
        default=0.8, gt=FLOOR, le=1
    )  # of a question of 32 words or more; all of one of 16; between them in proportion
    action: Literal["drop", "tag"] = "drop"

    @model_validator(mode="after")
    def _check_columns(self) -> Decontaminate:
        for meaning in self.columns:
            if meaning not in COLUMNS:
                raise ValueError(f"columns: unknown '{meaning}': {nearest(meaning, COLUMNS)}")
        if not all(self.against):
            raise ValueError("against: '' is no path")
        return self
