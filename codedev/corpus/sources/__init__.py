"""One folder a raw format. To add a source: write its `source.py` (see corpus/source.py) and name it here."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

SOURCES = {
    "web": "codedev.corpus.sources.web.source",
    "reddit": "codedev.corpus.sources.reddit.source",
    "books": "codedev.corpus.sources.books.source",
    "arxiv": "codedev.corpus.sources.arxiv.source",
    "stackexchange": "codedev.corpus.sources.stackexchange.source",
    "code": "codedev.corpus.sources.code.source",
    "protein": "codedev.corpus.sources.protein.source",
    "tables": "codedev.corpus.sources.tables.source",
}
# The kind of a source's documents where neither the document nor the recipe says otherwise.
DEFAULT_KIND = {
    "web": "web",
    "reddit": "conversation",
    "books": "book",
    "arxiv": "paper",
    "stackexchange": "qa",
    "code": "code",
    "protein": "protein",
    "tables": "table",
}


def module_of(source_type: str) -> ModuleType:
    return importlib.import_module(SOURCES[source_type])


def rounds(config: Any) -> int:
    """How many times the source brings records together (see corpus/source.py)."""
    found = getattr(module_of(config.type), "rounds", None)
    return found(config) if found else 0
