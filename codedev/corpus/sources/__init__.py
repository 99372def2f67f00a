"""One module a raw format. To add a source: write the module (see corpus/source.py) and name it here."""

from __future__ import annotations

import importlib
from types import ModuleType

SOURCES = {
    "web": "codedev.corpus.sources.web",
    "code": "codedev.corpus.sources.code",
    "tables": "codedev.corpus.sources.tables",
}
# The kind of a source's documents where neither the document nor the recipe says otherwise.
DEFAULT_KIND = {"web": "web", "code": "code", "tables": "table"}


def module_of(source_type: str) -> ModuleType:
    return importlib.import_module(SOURCES[source_type])
