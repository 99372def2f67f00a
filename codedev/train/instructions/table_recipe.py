"""What a train recipe says of a table of instructions: the keys of the corpus's source `tables`, for conversations alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_serializer, model_validator

from codedev._errors import CodedevError
from codedev._recipe import Model

if TYPE_CHECKING:
    from codedev.corpus.sources.tables.columns import Config


class TableRecipe(Model):
    """Files (CSV, TSV, JSON, JSON lines, Parquet, Arrow, SQLite; compressed or not; URLs), or a database. docs/sources.md, tables."""

    name: str | None = None  # of its rows' ids; null = the file's
    paths: tuple[str, ...] = ()  # files, folders, globs, URLs
    uri: str | None = None  # or a database: postgresql://… or sqlite:///path, with
    table: str | None = None  # one of its tables, or
    query: str | None = None  # a SELECT
    key: str | None = None  # column by whose ranges it is split
    columns: dict[str, str] = Field(default={})  # prompt, input, answer, history, system, messages, tools or id -> its column
    # auto = told by its columns; instruction, messages and sharegpt for stage sft, the others for feedback and prompts
    layout: Literal["auto", "instruction", "messages", "sharegpt", "preference", "hh", "kto", "reward", "prompts"] = "auto"
    delimiter: str | None = None  # of CSV; null = told by the header
    encoding: str | None = None  # of CSV; null = detected
    epochs: Annotated[float, Field(gt=0, le=1000)] = 1.0  # how often each row is learned in one of the run's; 2.5: half of them thrice
    max_record_bytes: Annotated[int, Field(gt=0, lt=1 << 31)] = 64 << 20  # a larger row is an error row `too_large`

    @model_validator(mode="before")
    @classmethod
    def _one_path(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"paths": (data,)}
        if isinstance(data, dict) and isinstance(data.get("paths"), str):
            return {**data, "paths": (data["paths"],)}
        return data

    @model_validator(mode="after")
    def _readable(self) -> TableRecipe:
        self.config("table")
        return self

    @field_serializer("uri")
    def _hide(self, uri: str | None) -> str | None:
        """A password in the uri is written nowhere."""
        from codedev.corpus.sources.tables.columns import redacted

        return None if uri is None else redacted(uri)

    @property
    def shown(self) -> str:
        """What to call it."""
        if self.uri is None:
            return self.paths[0] if len(self.paths) == 1 else f"{self.paths[0]} and {len(self.paths) - 1} more"
        return f"{self._hide(self.uri)} {self.table or self.query or ''}".rstrip()

    def config(self, name: str) -> Config:
        """The corpus's source of these rows, called `name`. ValueError for what it refuses."""
        from codedev import _recipe
        from codedev.corpus.sources.tables.columns import Config

        keys = {key: value for key, value in self if key not in ("name", "epochs") and value not in (None, ())}
        try:
            return _recipe.check({"type": "tables", "name": name, **keys}, Config, "table")
        except CodedevError as error:
            raise ValueError(str(error).removeprefix("table: ").removeprefix("the recipe: ")) from None

    def relocated(self, move: Callable[[str], str]) -> TableRecipe:
        """With `move` applied to its paths; URLs and servers stay."""
        uri = self.uri
        if uri is not None and uri.startswith("sqlite://"):
            uri = f"sqlite:///{move(uri.removeprefix('sqlite://').removeprefix('/'))}"
        paths = tuple(path if "://" in path else move(path) for path in self.paths)
        return self.model_copy(update={"paths": paths, "uri": uri})


def names_of(tables: tuple[TableRecipe, ...]) -> list[str]:
    """A name for each table, no two alike: its own, or the stem of its first path."""
    found: list[str] = []
    for table in tables:
        stem = PurePath(table.paths[0].rstrip("/")).name.partition(".")[0] if table.paths else table.table or "query"
        own = table.name or re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:80] or "table"
        name, number = own, 2
        while name in found:
            name, number = f"{own}-{number}", number + 1
        found.append(name)
    return found
