"""\\begin and \\end: what each environment of LaTeX's text becomes."""

from __future__ import annotations

import re

from codedev.corpus.extract.latex import names
from codedev.corpus.extract.latex.table import flat
from codedev.corpus.extract.latex.text import Text

_LINE, _PARAGRAPH = 2, 3
_LANGUAGE = re.compile(r"language\s*=\s*\{?\s*(?:\[[^\]]*\])?\s*([A-Za-z0-9+#-]*)")
_CAPTION = re.compile(r"caption\s*=\s*(\{(?:[^{}]|\{[^{}]*\})*\}|[^,\]]+)")
_VERBATIM_OPTIONS = re.compile(r"[ \t]*(?:\[([^\]]{0,2000})\])?(?:\{([^{}\n]{0,100})\})?")
# Environments of packages that nobody here knows, but whose names say that they are displays.
_MATHEMATICAL = re.compile(r"^math(?!s)|^eqn|^equ|align\*?$|equation\*?$|eqnarray\*?$|gather\*?$|multline\*?$")
_FENCES = re.compile(r"`{3,}")


def begin(text: Text, command: str) -> None:
    name = (text.stream.group() or "").strip()
    source = text.source
    if name in source.comment_environments:
        _skip(text, name, "comments")
    elif name in source.theorems:
        _theorem(text, name, source.theorems[name])
    elif source.begin(name):
        pass
    elif name in names.INLINES:
        text.inline_until(name)
    elif name in names.DISPLAYS or (name not in source.environments and _MATHEMATICAL.search(name)):
        text.display(name, wrap="" if name in names.PLAIN_DISPLAYS else name)
    elif (
        (name in names.VERBATIM and _verbatim(text, name))
        or (name in names.PICTURES and _skip(text, name, "graphics"))
        or (name in ("thebibliography", "references") and text.options.bibliography == "drop" and _skip(text, name, "bibliographies"))
    ):
        pass
    elif name in names.ALGORITHMS or (text.algorithm2e and name in ("algorithm", "algorithm*", "procedure", "function")):
        text.stream.optional()
        _algorithm(text, name)
    elif name in names.TABLES:
        _table(text, name)
    elif name in names.LISTS:
        _list(text, name)
    elif name in names.FLOATS:
        text.skip(names.ENVIRONMENT_ARGUMENTS.get(name, "oo"))
        text.floats.append(names.FLOATS[name])
        text.want(_PARAGRAPH)
        text.open_with(name, lambda _, __: text.leave_float())
    elif name in names.PROOFS:
        _proof(text, name)
    elif name.rstrip("*") in names.THEOREMS:
        _theorem(text, name, names.THEOREMS[name.rstrip("*")])
    else:
        _other(text, name)


def end(text: Text, command: str) -> None:
    name = text.stream.group()
    if name is None:  # of plain TeX: the end of it all
        text.stop()
        return
    name = name.strip()
    if name in text.source.environments and name not in text.source.theorems:
        text.source.end(name)
        return
    if name == "document":
        text.stop()
        return
    if name in names.TABLES or name in names.ALGORITHMS:
        text.close_declared()
    was_open = bool(text.open_environments.get(name))
    text.end_environment(name)
    if was_open and name not in _INLINE_ENVIRONMENTS:
        text.want(_LINE if text.lists else _PARAGRAPH)


_INLINE_ENVIRONMENTS = frozenset({"minipage", "center", "small", "footnotesize", "tabular", "math"})


def _skip(text: Text, name: str, count: str) -> bool:
    passed = text.stream.raw_until(f"\\end{{{name}}}")
    if passed is None:
        return False
    text.counts[count] += 1
    text.counts[f"{count}_characters"] += len(passed)
    return True


def _verbatim(text: Text, name: str) -> bool:
    frame = text.stream.here()
    if f"\\end{{{name}}}" in frame.gone:
        return False
    begun = frame.pos
    language = ""
    if name not in ("verbatim", "verbatim*", "alltt"):
        match = _VERBATIM_OPTIONS.match(frame.text, frame.pos)
        assert match is not None
        frame.pos = match.end()
        options = match[1] or ""
        found = _LANGUAGE.search(options)
        language = found[1].lower() if found else ""
        if name.startswith("minted"):
            language = match[2] or ""
        caption = _CAPTION.search(options)
        if caption and caption[1].strip("{} "):
            text.block(caption[1].strip("{} "))
    code = text.stream.raw_until(f"\\end{{{name}}}")
    if code is None:
        text.counts["unbalanced"] += 1
        frame.pos = begun
        return False
    text.block(fenced(code.strip("\n").rstrip(), language))
    return True


def fenced(code: str, language: str) -> str:
    longest = max((len(found) for found in _FENCES.findall(code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def _algorithm(text: Text, name: str) -> None:
    depth = text.algorithm_depth

    def write(_: str, found: str) -> None:
        text.algorithms -= 1
        text.floats.pop()
        text.algorithm_depth = depth
        if found.strip():
            text.block(fenced(found.strip("\n"), ""))

    text.want(_PARAGRAPH)
    if text.open("env", name, write):
        text.algorithms += 1
        text.floats.append("Algorithm")


def _table(text: Text, name: str) -> None:
    text.skip(names.TABLE_ARGUMENTS.get(name, "om"))
    nested = bool(text.table_outs) and text.out is text.table_outs[-1]

    def write(_: str, found: str) -> None:
        text.table_outs.pop()
        text.floats.pop()
        if nested:
            text.emit(flat(found))
        else:
            text.table_rows(found)

    if text.open("env", name, write):
        text.table_outs.append(text.out)
        text.floats.append("Table")


def _list(text: Text, name: str) -> None:
    text.skip(names.ENVIRONMENT_ARGUMENTS.get(name, "o"))
    text.want(_LINE)
    text.lists.append([names.LISTS[name], 0])
    text.open_with(name, text.leave_list)
    text.indent()


def _theorem(text: Text, name: str, title: str) -> None:
    named = text.stream.optional() if text.source.macros.may_reread(text.stream) else None
    text.want(_PARAGRAPH)
    text.open("env", name)
    title = title or name
    if named and named.strip():
        text.source.macros.reread(text.stream, f"\\textbf{{{title}}} ({named.strip()}). ")
    else:
        text.source.macros.reread(text.stream, f"\\textbf{{{title}.}} ")


def _proof(text: Text, name: str) -> None:
    may = text.source.macros.may_reread(text.stream)
    named = text.stream.optional() if may else None
    if may and name == "proofof":
        named = f"Proof of {text.stream.argument() or ''}"
    text.want(_PARAGRAPH)
    text.open("env", name)
    title = (named or "").strip().rstrip(".:") or names.PROOFS[name]
    text.source.macros.reread(text.stream, f"\\emph{{{title}.}} ")


def _other(text: Text, name: str) -> None:
    if name == "document":
        text.open("env", name)
        return
    text.skip(names.ENVIRONMENT_ARGUMENTS.get(name, "o"))
    if name in names.SECTION_ENVIRONMENTS:
        text.block(f"## {names.SECTION_ENVIRONMENTS[name]}")
        if name == "abstract":
            text.open("env", name, text.write_abstract)
        else:
            text.open("env", name)
    elif name in names.LABELLED_ENVIRONMENTS:
        text.want(_PARAGRAPH)
        text.emit(f"**{names.LABELLED_ENVIRONMENTS[name]}.**")
        text.glue = 1
        text.open("env", name)
    elif name in ("thebibliography", "references"):
        text.block("## References")
        text.open("env", name)
    else:
        if name not in _SILENT:
            text.counts["unknown_environments"] += 1
        if name not in _INLINE_ENVIRONMENTS:
            text.want(_PARAGRAPH)
        text.open("env", name)


_SILENT = frozenset(
    [
        "center",
        "flushleft",
        "flushright",
        "quote",
        "quotation",
        "verse",
        "minipage",
        "multicols",
        "small",
        "footnotesize",
        "large",
        "titlepage",
        "appendix",
        "appendices",
        "subequations",
        "frontmatter",
        "tcolorbox",
        "frame",
        "columns",
        "column",
        "spacing",
        "singlespace",
        "doublespace",
        "adjustbox",
        "landscape",
        "sloppypar",
        "threeparttable",
        "centering",
        "otherlanguage",
        "samepage",
        "widetext",
        "subfigures",
        "raggedright",
    ]
)
