"""The preamble, and style files: their definitions are carried out, the front matter is held, all else is passed over."""

from __future__ import annotations

import re

from codedev.corpus.extract.latex import names
from codedev.corpus.extract.latex.lexer import CONTROL, CONTROL_AT
from codedev.corpus.extract.latex.source import COMMON
from codedev.corpus.extract.latex.text import Text

_NEXT = re.compile(r"[\\%]")
_COMMENT = re.compile(r"%([^\n]*)\n?")
# Commands whose argument is read like the preamble itself.
_FLOWING = frozenset({"AtBeginDocument", "makeatletter", "makeatother", "begingroup", "endgroup", "bgroup", "egroup", "AtEndOfPackage"})


def read(text: Text) -> bool:
    """Read up to the beginning of the document; False if it does not begin."""
    source, stream = text.source, text.stream
    while True:
        frame = stream.top
        match = _NEXT.search(frame.text, frame.pos)
        if match is None:
            frame.pos = len(frame.text)
            if not stream.pop():
                return False
            continue
        if match[0] == "%":
            comment = _COMMENT.match(frame.text, match.start())
            assert comment is not None
            frame.pos = comment.end()
            text.counts["comments"] += bool(comment[1].strip(" \t%"))
            continue
        command = (CONTROL_AT if frame.at else CONTROL).match(frame.text, match.start())
        if command is None:
            frame.pos = match.end() + 1
            continue
        frame.pos = command.end()
        name = command[1]
        if name == "begin":
            if _begin(text):
                return True
        elif name in ("documentclass", "documentstyle", "LoadClass"):
            stream.optional()
            source.include_styles(stream.argument() or "", ".cls")
        elif name in ("usepackage", "RequirePackage", "RequirePackageWithOptions"):
            stream.optional()
            packages = stream.argument() or ""
            text.algorithm2e = text.algorithm2e or "algorithm2e" in packages
            source.include_styles(packages, ".sty")
        elif name in names.FRONT and not (stream.files > 1 and frame.at):
            stream.optional()
            raw = stream.group()
            if raw is not None:
                text.front.append((name, raw))
        elif name in COMMON or name.startswith("if"):
            if not source.common(name, math=False):
                _pass_arguments(text)
        elif name in source.macros.table:
            macro = source.macros.table[name]
            if any(isinstance(part, str) and r"\begin{document}" in part for part in macro.body) and macro.kind == "expand":
                source.macros.expand(stream, name, macro)
            else:
                _pass_arguments(text)
        elif name not in _FLOWING:
            _pass_arguments(text)


def _begin(text: Text) -> bool:
    name = (text.stream.group() or "").strip()
    if name == "document":
        text.open("env", name)
        return True
    if name in names.PICTURES or name in text.source.comment_environments:
        text.stream.raw_until(f"\\end{{{name}}}")
    elif name == "abstract":
        raw = text.stream.raw_until(r"\end{abstract}")
        if raw is not None:
            text.front.append((name, raw))
    return False


def _pass_arguments(text: Text) -> None:
    """Pass over the arguments of a command that sets something up."""
    stream = text.stream
    stream.star()
    while True:
        char = stream.peek()
        if char == "[":
            if stream.optional() is None:
                return
        elif char != "{" or stream.group() is None:
            return
