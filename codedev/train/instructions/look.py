"""A look at the first rows of a table, before hours are spent on it: are they conversations, and which columns hold them?"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import NamedTuple

import orjson

from codedev._errors import InputError, nearest
from codedev.corpus.source import Document, Drop, Extent, Failure
from codedev.corpus.sources.tables import source as tables_source
from codedev.corpus.sources.tables.columns import Config
from codedev.corpus.sources.tables.conversations import PARTS
from codedev.train.instructions.table_recipe import TableRecipe

_ROWS = 32  # of a file
_FILES = 64  # of a table
_NAMED = 20  # columns that the readers tell
_NO_COLUMN = "\0"  # asked for as the text, it makes the readers tell which columns there are


class Wanted(NamedTuple):
    """What a stage learns from."""

    kinds: frozenset[str]  # of documents, whose layout is left to their columns
    layouts: tuple[str, ...]  # tried in turn where the columns give no such documents
    refused: dict[str, str]  # kind of document -> why it is none of them; {file} and {columns}
    unknown: str  # what the columns ought to hold
    mapped: str  # how they are named in data.tables: {file}
    parts: tuple[str, ...]  # that are known by themselves
    trusting: bool = True  # columns that speak for a layout are believed, though its first rows may be bad by themselves


CONVERSATIONS = Wanted(
    frozenset({"instruction"}),
    ("instruction", "messages"),
    {
        "preference": "{file}: its rows are judged answers ({columns}), which stage sft would learn whatever the verdict. Choose the good "
        "ones first, or set layout of this table to instruction or messages to learn them all"
    },
    "what is asked and answered",
    "{{paths: [{file}], columns: {{prompt: COLUMN, answer: COLUMN}}}}, or columns: {{messages: COLUMN}}",
    ("prompt", "input", "answer", "messages"),
)


def settled(table: TableRecipe, config: Config, extents: list[Extent], base: Path, wanted: Wanted = CONVERSATIONS) -> Config:
    """`config` with the layout that the table's rows have, where the recipe leaves it to them and a column `text` hides it. InputError for
    a file whose columns hold no conversations; rows that are bad by themselves are left to the build, which counts them."""
    layouts = set()
    files = {extent.file: extent for extent in reversed(extents)}
    for extent in list(files.values())[::-1][:_FILES]:
        first = list(itertools.islice(tables_source.read(extent, config, base), _ROWS))
        if table.layout != "auto" or not first or all(_is_bad(thing) for thing in first):
            continue
        kinds = {str(thing.kind) for thing in first if isinstance(thing, Document)}
        for kind, why in wanted.refused.items():
            if kind in kinds:
                raise InputError(why.format(file=extent.file, columns=_columns(extent, config, base)))
        if kinds & wanted.kinds or (wanted.trusting and not all(map(_is_text, first))):
            layouts.add("auto")
            continue
        layouts.add(_hidden(extent, config, base, wanted))
    if not layouts <= {"auto"}:
        if len(layouts) > 1:
            raise InputError(
                f"data.tables: the files of {table.shown} have several layouts ({', '.join(sorted(layouts))}). List them apart"
            )
        return config.model_copy(update={"layout": layouts.pop()})
    return config


def _hidden(extent: Extent, config: Config, base: Path, wanted: Wanted) -> str:
    """The layout of a table that is told as text because of a column of that name."""
    for layout in wanted.layouts:
        asked = config.model_copy(update={"layout": layout})
        things = itertools.islice(tables_source.read(extent, asked, base), _ROWS)
        if any(isinstance(thing, Document) for thing in things):
            return layout
    names = _columns(extent, config, base)
    listed = names.split(", ")
    wrong = [
        f"columns.{part}: there is no column '{name}', {nearest(name, listed)} "
        for part, name in config.columns.items()
        if name not in listed and len(listed) < _NAMED
    ]
    known = "; ".join(f"{part}: {', '.join(PARTS[part])}" for part in wanted.parts)
    raise InputError(
        f"{extent.file}: {''.join(wrong[:1])}its columns ({names or 'none'}) are not known as {wanted.unknown}. "
        f"Map them in data.tables: {wanted.mapped.format(file=extent.file)}. Known by themselves are {known}"
    )


def _is_bad(thing: object) -> bool:
    """It says nothing of the columns: a damaged row, an empty file."""
    return isinstance(thing, Failure) and thing.kind != "no_text_column"


def _is_text(thing: object) -> bool:
    """The columns speak for no conversation."""
    if isinstance(thing, Drop):
        return thing.reason == "no_text"
    return not isinstance(thing, Document) or thing.kind is None


def _columns(extent: Extent, config: Config, base: Path) -> str:
    """The columns of the first rows, at most _NAMED, in words."""
    asked = config.model_copy(update={"text": _NO_COLUMN, "columns": {}, "layout": "text"})
    found: dict[str, None] = {}
    for thing in itertools.islice(tables_source.read(extent, asked, base), _ROWS):
        if isinstance(thing, Drop) and thing.reason == "no_text":
            found |= dict.fromkeys(orjson.loads(thing.evidence)["columns"])
        elif isinstance(thing, Failure) and (told := re.search(r"\(has: (.*)\)\. Set text", thing.message, re.DOTALL)):
            found |= dict.fromkeys(told[1].split(", "))
    return ", ".join(list(found)[:_NAMED])
