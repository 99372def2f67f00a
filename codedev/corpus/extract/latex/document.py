"""LaTeX to text with every formula kept: the conversion of a paper to Markdown.

The canonical form of mathematics is `$...$` in a line and, on lines of its own,

    $$
    ...
    $$

for displays. \\(...\\), \\[...\\], the environments math, equation and displaymath become one of these; align, gather, multline, eqnarray,
tikzcd and the like stay as environments between the $$, since they say how the lines belong together. Inside, the LaTeX is verbatim: the
paper's own macros are expanded, comments are gone, nothing else is touched. A dollar that is money is `\\$`.

Cost: 4 to 6 MB of source a second. Plain TeX and AMS-TeX are read as far as their commands have meanings here. It is no TeX: macros that
are programs stay unexpanded, nothing is numbered, and pictures are not drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from codedev.corpus.extract.latex import preamble as latex_preamble
from codedev.corpus.extract.latex.commands import COMMANDS, front_matter
from codedev.corpus.extract.latex.environments import fenced
from codedev.corpus.extract.latex.lexer import without_comments
from codedev.corpus.extract.latex.main import document_follows, is_tex
from codedev.corpus.extract.latex.source import Source, decode
from codedev.corpus.extract.latex.text import Options, Text

__all__ = ["Options", "Paper", "convert"]

_SHOWN_UNKNOWN = 50  # names of unknown macros in meta, the most frequent ones


class Paper(NamedTuple):
    text: str
    title: str | None
    authors: list[str]
    date: str | None
    abstract: str | None
    meta: dict[str, Any]  # what was counted on the way
    files: list[str]  # that went into the text


# -- the conversion


def convert(files: Mapping[str, bytes], main: str, options: Options, limit: int) -> Paper:
    """The paper whose text begins in `main`. Never raises for what the files say. `limit`: bytes that \\input may bring in."""
    sizes = sum(len(files[name]) for name in files if is_tex(name) or name.endswith((".sty", ".cls", ".bbl")))
    text = _begun(files, main, options, limit, sizes)
    text.run()
    body = "".join(text.out).strip()
    if text.front:
        head = text.aside_with_notes(front_matter(text))
        body = f"{head}\n\n{body}" if head else body
    notes = "\n\n".join(f"[^{number}]: {note}" for number, note in enumerate(text.notes, 1))
    if notes:
        body = f"{body}\n\n{notes}"
    if options.preamble == "keep":
        source_text, _ = decode(files[main])
        preamble, found, _ = source_text.partition(r"\begin{document}")
        if found and preamble.strip():
            body = f"{fenced(preamble.strip(), 'latex')}\n\n{body}"
    return _paper(text, body)


def _begun(files: Mapping[str, bytes], main: str, options: Options, limit: int, size: int) -> Text:
    """A reading that stands where the document begins."""
    numbers = _bibliography(files) if options.citations == "numbers" or options.bibliography == "keep" else {}
    text = Text(Source(files, main, limit, size), options, numbers, COMMANDS)
    if document_follows(files, main) and not latex_preamble.read(text):
        # It never begins in so many words: all of it is text.
        text = Text(Source(files, main, limit, size), options, numbers, COMMANDS)
    return text


_BIBITEM = re.compile(
    r"\\bibitem\s*+(?:\[(?:[^\[\]]|\[[^\[\]]{0,500}+\]){0,2000}+\])?\s*+\{([^{}]*)\}|\\(?:begin\{thebibliography|entry\{)"
)


def _bibliography(files: Mapping[str, bytes]) -> dict[str, int]:
    """Numbers of the entries of the first bibliography, by key."""
    for name in sorted(files, key=lambda name: (not name.endswith(".bbl"), name)):
        if name.endswith(".bbl") or is_tex(name):
            data = files[name]
            if b"\\bibitem" not in data:
                continue
            keys = [match[1].strip() for match in _BIBITEM.finditer(without_comments(decode(data)[0])) if match[1] is not None]
            if keys:
                return {key: number for number, key in reversed(list(enumerate(keys, 1)))}
    return {}


_AUTHOR_BREAK = re.compile(r"\\(?:and|And|AND|qand)(?![A-Za-z])")
_AUTHOR_NOTES = re.compile(
    r"\\(?:thanks|footnote|inst|textsuperscript|thanksref|footnotemark|orcid)\s*+(?:\[[^\]]{0,500}+\])?\s*+\{[^{}]*+\}|\$\^?[^$]*\$"
)
_AUTHORS = 1 << 20  # characters of all authors that are looked at, and of one:
_AUTHOR = 20_000
_COUNTS = (
    "inline_formulas",
    "display_formulas",
    "comments",
    "graphics",
    "unbalanced",
    "opaque_macros",
    "unexpanded_macros",
    "guessed_conditions",
    "missing_inputs",
    "refused_inputs",
    "unknown_environments",
    "bibliographies_characters",
    "characters_behind_end",
)


def _paper(text: Text, body: str) -> Paper:
    front = [*text.written_front, *text.front]
    title = next((raw for kind, raw in front if kind == "title"), None)
    date = next((raw for kind, raw in front if kind == "date" and raw.strip() not in ("", r"\today")), None)
    counts, unknown, files = dict(text.counts), text.source.unknown.copy(), sorted(text.source.read_files)
    authors = [
        name
        for raw in _within(_AUTHORS, (raw[:_AUTHOR] for kind, raw in front if kind == "author"))
        for part in _AUTHOR_BREAK.split(_AUTHOR_NOTES.sub(" ", raw))
        if (name := " ".join(text.aside(part).split())[:300])
    ]
    abstract = text.abstract or None
    meta: dict[str, Any] = {name: counts[name] for name in _COUNTS if counts.get(name)}
    if text.source.encoding != "utf-8":
        meta["encoding"] = text.source.encoding
    if unknown:
        most = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_UNKNOWN]
        meta["unknown_macros"] = dict(most)
        meta["unknown_macro_calls"] = unknown.total()
    return Paper(
        body,
        _line(text, title),
        authors,
        _line(text, date),
        abstract,
        meta,
        files,
    )


def _within(room: int, pieces: Iterable[str]) -> Iterator[str]:
    """The first pieces, up to `room` characters of them."""
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            return
        yield piece


def _line(text: Text, raw: str | None) -> str | None:
    return " ".join(text.aside(raw).split()) or None if raw else None
