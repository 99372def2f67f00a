"""What each command of LaTeX's text does, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from codedev.corpus.extract.latex import names
from codedev.corpus.extract.latex.environments import begin, end
from codedev.corpus.extract.latex.lexer import without_comments
from codedev.corpus.extract.latex.source import COMMON
from codedev.corpus.extract.latex.text import Command, Text

_LINE, _PARAGRAPH = 2, 3
_MARK = re.compile(r"\s+")


def _blank(text: Text, name: str) -> None:
    text.stream.skip_blanks()


def _transparent(text: Text, name: str) -> None:
    text.stream.skip_blanks()
    text.stream.star()


def _symbol(text: Text, name: str) -> None:
    symbol = names.SYMBOLS[name]
    text.stream.skip_blanks()
    if symbol == " ":
        text.want(1)
    elif symbol:
        text.emit(symbol)


def _accent(text: Text, name: str) -> None:
    text.accent(name)


def _skipped(text: Text, name: str) -> None:
    text.skip(names.SKIPPED[name])


def _graphics(text: Text, name: str) -> None:
    text.skip("*oom")
    text.counts["graphics"] += 1


def _before_text(text: Text, name: str) -> None:
    text.skip(names.BEFORE_TEXT[name])


def _style(text: Text, name: str) -> None:
    text.style(names.STYLES[name])


def _declared(text: Text, name: str) -> None:
    text.declare(names.DECLARED[name])


def _paragraph(text: Text, name: str) -> None:
    text.stream.skip_blanks()
    text.want(_PARAGRAPH)


def _space(text: Text, name: str) -> None:
    text.stream.skip_blanks()
    text.want(1)


def _and(text: Text, name: str) -> None:
    """Between authors."""
    text.stream.skip_blanks()
    text.glue = 0
    text.emit(",")
    text.want(1)


def _line(text: Text, name: str) -> None:
    text.stream.skip_blanks()
    text.line_end()


def _common(text: Text, name: str) -> None:
    text.source.common(name, math=False)


def _heading(text: Text, name: str) -> None:
    text.stream.star()
    text.stream.optional()
    if text.group(lambda title, found: _write_heading(text, names.HEADINGS[title], found), name):
        return
    text.want(_PARAGRAPH)


def _write_heading(text: Text, level: int, found: str) -> None:
    title = " ".join(found.split())
    if title:
        text.block(f"{'#' * level} {title}")


def _run_in_heading(text: Text, name: str) -> None:
    text.stream.star()
    text.stream.optional()
    text.want(_PARAGRAPH)

    def write(_: str, found: str) -> None:
        if found.strip():
            text.emit(f"**{' '.join(found.split())}**")

    text.group(write, name)


def _front(text: Text, name: str) -> None:
    """Title, authors and what stands beside them: held until \\maketitle, where TeX writes it."""
    if not text.source.macros.may_reread(text.stream):
        return
    short = text.stream.optional()
    raw = text.stream.group()
    if raw is None:
        if short:
            text.source.macros.reread(text.stream, short)
        return
    text.front.append((name, raw))


def _front_or_text(text: Text, name: str) -> None:
    """In the text, an address or key words are text."""
    text.stream.optional()
    text.want(_PARAGRAPH)


def _make_title(text: Text, name: str) -> None:
    if text.source.macros.may_reread(text.stream):
        text.source.macros.reread(text.stream, front_matter(text))


def front_matter(text: Text) -> str:
    """The front matter so far: the title as a heading, the rest in paragraphs."""
    written, text.front = text.front, []
    text.written_front += written
    pieces = []
    for kind, raw in sorted(written, key=lambda item: item[0] != "title"):
        if kind == "title":
            pieces.append(f"\\part{{{raw}}}")
        elif kind == "abstract":
            pieces.append(f"\\begin{{abstract}}{raw}\\end{{abstract}}")
        elif kind == "date" and raw.strip() in ("", "\\today"):
            continue
        else:
            pieces.append(f"\\par {raw}\\par ")
    return "".join(pieces)


def _note(text: Text, name: str) -> None:
    text.stream.optional()

    def write(kind: str, found: str) -> None:
        if not found.strip():
            return
        text.notes.append(" ".join(found.split()) if "$$" not in found else found)
        if kind != "footnotetext":
            text.emit(f"[^{len(text.notes)}]")

    text.group(write, name)


def _caption(text: Text, name: str) -> None:
    text.stream.star()
    kind = text.floats[-1] if text.floats else ""
    if name == "captionof":
        kind = (text.stream.argument() or "").strip().capitalize()
    text.stream.optional()

    def write(_: str, found: str) -> None:
        if found.strip():
            text.block(f"**{kind}.** {found}" if kind else found)

    text.group(write, name)


def _item(text: Text, name: str) -> None:
    text.close_declared()
    label = text.stream.optional() if text.source.macros.may_reread(text.stream) else None
    text.want(_LINE)
    if not text.lists:
        text.emit("-")
    else:
        current = text.lists[-1]
        current[1] = int(current[1]) + 1
        kind = current[0]
        text.write_marker("-" if kind != "1" else f"{current[1]}.")
    text.glue = 1
    if label is not None and label.strip():
        described = text.lists and text.lists[-1][0] == ""
        text.source.macros.reread(text.stream, f"\\textbf{{{label}}} " if described else f"{label} ")


def _cite(text: Text, name: str) -> None:
    stream = text.stream
    if not text.source.macros.may_reread(stream):
        return
    stream.star()
    first, second = stream.optional(), stream.optional()
    before, after = ("", first or "") if second is None else (first or "", second)  # one note stands behind the keys
    keys = [_MARK.sub(" ", key).strip() for key in without_comments(stream.argument() or "").split(",")]
    keys = [key for key in keys if key]
    if text.options.citations == "drop" or not keys:
        return
    numbers = text.numbers if text.options.citations == "numbers" else {}
    cited = ", ".join(str(numbers.get(key, key)) for key in keys)
    if not (before.strip() or after.strip()):
        text.emit(f"[{cited}]")
        return
    text.emit("[")
    text.source.macros.reread(stream, f"{before.strip()} {{{cited}}}".strip() + (f", {after.strip()}]" if after.strip() else "]"))


def _reference(text: Text, name: str) -> None:
    text.stream.star()
    if name == "hyperref":
        return
    keys = [_MARK.sub(" ", key).strip() for key in without_comments(text.stream.group() or "").split(",")]
    _write_reference(text, [key for key in keys if key], name)


def _range(text: Text, name: str) -> None:
    text.stream.star()
    _write_reference(text, ["–".join((text.stream.group() or "").strip() for _ in range(2))], name)


def _write_reference(text: Text, keys: list[str], name: str) -> None:
    if keys and text.options.references == "keys":
        found = f"[{', '.join(keys)}]"
        text.emit(f"({found})" if name in ("eqref", "refeq") else found)


def _label(text: Text, name: str) -> None:
    key = (text.stream.group() or "").strip()
    if key and text.options.labels == "keep":
        text.emit(f"{{#{key}}}")


def _url(text: Text, name: str) -> None:
    if name in ("url", "path") and not text.stream.next_is("{"):
        address = text.verb() or ""
    else:
        address = text.raw_argument()
    if address:
        text.emit(address)


def _href(text: Text, name: str) -> None:
    text.stream.optional()
    address = text.raw_argument()

    def write(_: str, found: str) -> None:
        words = " ".join(found.split())
        text.emit(f"[{words}]({address})" if words and words != address else address)

    if not text.group(write, name):
        text.emit(address)


def _verb(text: Text, name: str) -> None:
    if name in ("lstinline", "mintinline"):
        text.stream.optional()
    if name == "mintinline":
        text.stream.argument()
    if name != "verb" and text.stream.peek() == "{":
        code = text.stream.argument()
    else:
        code = text.verb()
    if code is None:
        text.counts["unbalanced"] += 1
    elif code:
        mark = "``" if "`" in code else "`"
        text.emit(f"{mark}{code}{mark}")


def _ensuremath(text: Text, name: str) -> None:
    argument = text.stream.argument() if text.source.macros.may_reread(text.stream) else None
    if argument is not None:
        text.source.macros.reread(text.stream, f"${argument}$")


def _xspace(text: Text, name: str) -> None:
    following = text.stream.peek()
    if following.isalnum() or following in ("$", "\\", "("):
        text.want(1)


def _bibliography(text: Text, name: str) -> None:
    if name == "bibliography":
        text.stream.argument()
    if text.options.bibliography == "keep":
        endings = (".bbl",)
        stem = text.source.main.rsplit(".", 1)[0].rsplit("/", 1)[-1]
        if not text.source.find(stem, endings):
            stem = next((file[:-4] for file in sorted(text.source.files) if file.endswith(".bbl")), stem)
        if text.source.find(stem, endings):
            text.source.include(stem, endings)


def _bibitem(text: Text, name: str) -> None:
    text.stream.optional()
    key = (text.stream.argument() or "").strip()
    text.entries += 1
    text.want(_PARAGRAPH)
    text.emit(f"[{text.numbers.get(key, text.entries)}]")
    text.glue = 1


def _begingroup(text: Text, name: str) -> None:
    text.stream.skip_blanks()
    text.open("{")


def _endgroup(text: Text, name: str) -> None:
    text.stream.skip_blanks()
    text.close_group()


def _texorpdfstring(text: Text, name: str) -> None:
    if text.source.macros.may_reread(text.stream):
        shown, _ = text.stream.argument(), text.stream.argument()
        text.source.macros.reread(text.stream, shown or "")


def _tikz(text: Text, name: str) -> None:
    text.stream.optional()
    text.counts["graphics"] += 1
    if text.stream.group() is None:
        text.stream.upto(";")


def _ifthenelse(text: Text, name: str) -> None:
    """Which branch holds cannot be known: the first is taken."""
    if not text.source.macros.may_reread(text.stream):
        return
    _, yes, _ = text.stream.argument(), text.stream.argument(), text.stream.argument()
    text.counts["guessed_conditions"] += 1
    text.source.macros.reread(text.stream, yes or "")


def _tablecaption(text: Text, name: str) -> None:
    """supertabular's heads and captions, which stand before the table."""
    if name in ("tablecaption", "topcaption", "bottomcaption"):
        _caption(text, name)
    else:
        text.stream.argument()


def _algorithm_word(text: Text, name: str) -> None:
    if not text.algorithms:
        text.other(name)
        return
    text.stream.optional()
    text.algorithm_line(names.ALGORITHM_WORDS[name])


def _algorithm_inline(text: Text, name: str) -> None:
    if not text.algorithms:
        text.other(name)
        return
    word = names.ALGORITHM_INLINE[name]
    if name == "Return" and text.stream.peek() != "" and not text.in_line():
        text.algorithm_line("return")
        return
    if word[0] == " ":
        text.want(1)
    if word.strip():
        text.emit(word.strip())
    if word[-1] == " ":
        text.want(1)


def _stop(text: Text, name: str) -> None:
    text.stop()


def _all(command: Command, known: Iterable[str]) -> dict[str, Command]:
    return dict.fromkeys(known, command)


def _discard(count: int) -> Callable[[Text, str], None]:
    def discard(text: Text, name: str) -> None:
        for _ in range(count):
            text.stream.argument()

    return discard


# Later entries replace earlier ones.
COMMANDS: dict[str, Command] = {
    **_all(_transparent, names.TRANSPARENT),
    **_all(_skipped, names.SKIPPED),
    **_all(_before_text, names.BEFORE_TEXT),
    **_all(_symbol, names.SYMBOLS),
    **_all(_accent, (name for name in names.ACCENTS if name.isalpha())),
    **_all(_style, names.STYLES),
    **_all(_declared, names.DECLARED),
    **_all(_algorithm_word, names.ALGORITHM_WORDS),
    **_all(_algorithm_inline, names.ALGORITHM_INLINE),
    **_all(_paragraph, names.PARAGRAPHS),
    **_all(_space, ("hfill", "hfil", "hss", "quad", "qquad", "enspace", "thinspace", "space", "nobreakspace")),
    **_all(_line, ("newline", "linebreak", "tabularnewline", "cr", "crcr", "startdata")),
    **_all(_common, COMMON),
    **_all(_heading, names.HEADINGS),
    **_all(_run_in_heading, names.RUN_IN_HEADINGS),
    **_all(_front, ("title", "author", "date", "subtitle")),
    **_all(_front_or_text, ("abstract", "address", "affiliation", "affil", "institute", "keywords", "email")),
    **_all(_note, ("footnote", "footnotetext", "thanks", "endnote", "tablefootnote", "sidenote", "titlenote")),
    **_all(_caption, ("caption", "captionof", "subcaption")),
    **_all(_tablecaption, ("tablecaption", "topcaption", "bottomcaption", "tablehead", "tabletail", "tablelasttail")),
    **_all(_cite, names.CITES),
    **_all(_reference, names.REFERENCES),
    **_all(_range, names.RANGES),
    **_all(_url, ("url", "path", "nolinkurl", "burl")),
    **_all(_verb, ("verb", "lstinline", "mintinline", "Verb")),
    **_all(_graphics, ("includegraphics", "psfig", "epsfig", "epsfbox", "includepdf", "epsffile", "pgfimage", "plotone", "plottwo")),
    **_all(_bibliography, ("bibliography", "printbibliography")),
    **_all(_begingroup, ("begingroup", "bgroup")),
    **_all(_endgroup, ("endgroup", "egroup")),
    **_all(_stop, ("bye",)),
    **_all(_discard(1), ("bibliographystyle", "nocite", "ProvidesPackage", "NeedsTeXFormat", "ProvidesClass")),
    "and": _and,
    "And": _and,
    "begin": begin,
    "end": end,
    "maketitle": _make_title,
    "item": _item,
    "label": _label,
    "href": _href,
    "ensuremath": _ensuremath,
    "xspace": _xspace,
    "bibitem": _bibitem,
    "texorpdfstring": _texorpdfstring,
    "tikz": _tikz,
    "ifthenelse": _ifthenelse,
    "newblock": _blank,
}  # fmt: skip
