"""The extractors under test, each by a name: HTML bytes -> text, with the settings that are fair to it.

The plain settings are for scores of words: no captions of pictures, no addresses of links. With `markup` they are for what the text must
keep: Markdown where a tool writes it. trafilatura's own settings let readers' comments in, which its authors leave out where they measure.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extract.openwebmath import decoded, openwebmath

Extract = Callable[[bytes], str]
OURS = "codedev"
TEXT = (
    *(OURS, "codedev, text alone", "trafilatura", "trafilatura, with metadata", "trafilatura fast", "trafilatura no comments"),
    *("Resiliparse", "jusText", "all text"),
)
MARKUP = (OURS, "trafilatura no comments", "Resiliparse")
FORMULAS = (*MARKUP, "OpenWebMath's way")


def extractor(name: str, fold: int | None = None, models: Path | None = None, *, markup: bool = False) -> Extract:
    """`models` is a folder of our models, `fold-N` trained without the pages of fold N; by default the package's own is used."""
    match name:
        case "codedev":
            return _codedev(models / f"fold-{fold}" if models is not None and fold is not None else None)
        case "codedev, text alone":
            return _text_alone(models / f"fold-{fold}" if models is not None and fold is not None else None)
        case "trafilatura, with metadata":
            return _trafilatura_with_metadata
        case "trafilatura" | "trafilatura fast" | "trafilatura no comments" | "trafilatura fast no comments":
            return _trafilatura(fast="fast" in name, comments="no comments" not in name, markup=markup)
        case "Resiliparse" | "all text":
            return functools.partial(_resiliparse, main=name == "Resiliparse")
        case "jusText":
            return _justext()
        case "OpenWebMath's way":
            return openwebmath
    raise ValueError(name)


def fresh() -> None:
    """Empties what the tools remember of earlier pages, so that a second run over them is not quicker for that."""
    from trafilatura.meta import reset_caches

    reset_caches()


def _codedev(model: Path | None) -> Extract:
    from codedev.corpus.extract.html import html_to_text

    loaded = None if model is None else _loaded(model)
    return lambda html: html_to_text(html, model=loaded).text


def _text_alone(model: Path | None) -> Extract:
    """Without what the page says of itself, which trafilatura does not read by default either."""
    from codedev.corpus.extract.html import chosen, prepare, text_of

    loaded = None if model is None else _loaded(model)

    def text_alone(html: bytes) -> str:
        page = prepare(html)
        return text_of(page, chosen(page, "main", loaded))[0]

    return text_alone


def _loaded(model: Path) -> Any:
    from codedev.corpus.extract import content

    return content.load(model.with_suffix(".npz"))


def _trafilatura_with_metadata(html: bytes) -> str:
    from trafilatura import extract

    return extract(html, output_format="txt", include_comments=False, with_metadata=True) or ""


def _trafilatura(*, fast: bool, comments: bool, markup: bool) -> Extract:
    from trafilatura import extract

    how = {"output_format": "markdown", "include_formatting": True} if markup else {"output_format": "txt", "include_formatting": False}
    return lambda html: extract(html, fast=fast, include_comments=comments, include_tables=True, **how) or ""


def _resiliparse(html: bytes, *, main: bool) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    return extract_plain_text(decoded(html), preserve_formatting=True, main_content=main, alt_texts=False, links=False)


def _justext() -> Extract:
    import justext

    # Of all languages, as trafilatura's evaluation does: what language a page is in, no extractor is told.
    words = frozenset().union(*(justext.get_stoplist(name) for name in justext.get_stoplists()))

    def extract(html: bytes) -> str:
        return "\n".join(part.text for part in justext.justext(html, words) if not part.is_boilerplate)

    return extract
