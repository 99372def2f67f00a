"""Which program turns a page into text: codedev's own extraction, or trafilatura where it is installed.

Both take the bytes of a page and give a `Page` with the same names in `meta`. Licence, robots, language, charset and kind of page are
always codedev's reading; trafilatura gives text, title, authors, date, site and tags. Cost: 7 MB of HTML a second and core with
trafilatura, ten times that without. trafilatura is called in this thread and fetches nothing; neither reads what the other has made.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from codedev._errors import MissingExtraError
from codedev._run import file_hash
from codedev.corpus.extract import content, html, page_about, page_kind, page_metas
from codedev.corpus.extract.html import Extract, Page, PageError

Name = Literal["codedev", "trafilatura"]


class Read(NamedTuple):
    page: Page
    verdict: Callable[[], page_kind.Verdict]  # on the page's kind, with its votes: told again, 0.3 ms


class Extractor(Protocol):
    def __call__(self, page: bytes, charset_hint: str | None = None, extract: Extract = "main", url: str | None = None) -> Read:
        """Raises PageError."""


def extractor(name: Name) -> Extractor:
    return {"codedev": _by_codedev, "trafilatura": _by_trafilatura}[name]


@functools.cache
def version(name: Name) -> str:
    """What of an extractor decides its output, beside codedev's own version. MissingExtraError where it is not installed."""
    model = file_hash(Path(str(files("codedev.corpus.extract") / "content_model.npz")))  # which the kind of page depends on
    if name == "codedev":
        return model
    _trafilatura()
    return f"trafilatura {importlib.metadata.version('trafilatura')} {model}"


def by_codedev(page: bytes, charset_hint: str | None = None, extract: Extract = "main", url: str | None = None) -> Page:
    return _by_codedev(page, charset_hint, extract, url).page


def by_trafilatura(page: bytes, charset_hint: str | None = None, extract: Extract = "main", url: str | None = None) -> Page:
    """Main content as Markdown with tables and emphasis, without links and readers' comments."""
    return _by_trafilatura(page, charset_hint, extract, url).page


def _by_codedev(page: bytes, charset_hint: str | None = None, extract: Extract = "main", url: str | None = None) -> Read:
    prepared = html.prepare(page, charset_hint)
    return _of(prepared, html.chosen(prepared, extract), url)


def _of(prepared: html.Prepared, keep: np.ndarray, url: str | None) -> Read:
    def verdict() -> page_kind.Verdict:
        nodes = page_metas.nodes(prepared.tape)
        stats = content.stats(prepared.tape, prepared.blocks, keep)
        return page_kind.kind(nodes, url, page_about.about(nodes, url), stats)

    return Read(html.written(prepared, keep, url), verdict)


def _by_trafilatura(page: bytes, charset_hint: str | None = None, extract: Extract = "main", url: str | None = None) -> Read:
    trafilatura = _trafilatura()
    prepared = html.prepare(page, charset_hint)
    read = _of(prepared, html.chosen(prepared, "main"), url)
    own = read.page
    if not prepared.source.strip():
        return read
    options = trafilatura.Extractor(output_format="markdown", comments=False, url=url, with_metadata=True, date_params=_DATES)
    options.max_file_size = len(page) * 4 + 1  # `max_record_bytes` is the limit, and has been held
    try:
        found = trafilatura.bare_extraction(_DECLARATION.sub("", prepared.source, count=1), options=options)
        options.with_metadata = False  # no header of metadata above the text
        text = trafilatura.determine_returnstring(found, options) if found is not None else ""
    except MemoryError:
        raise
    except RecursionError:
        raise PageError("trafilatura: the page is nested too deep") from None
    except Exception as error:  # a fault of its own, whatever it is, costs the page and not the run
        raise PageError(f"trafilatura: {type(error).__name__}: {str(error)[:200]}") from None
    # Without text it says nothing of the page either: then codedev's reading stands.
    meta = own.meta | (_meta(found) if found is not None else {}) | {"formulas": None, "repaired": None}
    return read._replace(page=own._replace(text=text, meta=meta))


# lxml refuses characters under a declaration of their encoding, and trafilatura would then parse bytes of its own making.
_DECLARATION = re.compile(r"\A\s*+<\?xml[^>]*+>")
# Its own bound is the day of the run, and its extensive search fills in this year where a date has none: other bytes every day.
_DATES = {"original_date": True, "extensive_search": False, "max_date": "2100-01-01"}
_LONGEST, _MOST = 1000, 20  # characters of a text, texts of a list: as in page_about.py


def _meta(found: Any) -> dict[str, object]:
    """What trafilatura has found, under codedev's names."""
    return {
        "title": _short(found.title),
        "authors": _list((found.author or "").split(";")),
        "published": _short(found.date),
        "modified": None,
        "site": _short(found.sitename),
        "tags": _list(found.tags or ()),
    }


def _list(values: Any) -> list[str] | None:
    return [text for value in values if (text := _short(value))][:_MOST] or None


def _short(value: object) -> str | None:
    return (" ".join(value.split())[:_LONGEST] or None) if isinstance(value, str) else None


@functools.cache
def _trafilatura() -> ModuleType:
    try:
        from trafilatura import core
    except ImportError:
        raise MissingExtraError("trafilatura", "trafilatura") from None
    for name in ("trafilatura", "htmldate", "courlan"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # else a line to stderr for each page without text
    module: ModuleType = core
    return module
