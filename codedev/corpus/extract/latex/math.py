"""Formulas, verbatim: only the paper's own macros are expanded, comments taken out, \\label by choice.

Read up to what closes them, whichever macro that stands in. A formula that is never closed ends with its paragraph or with the next
heading, and is counted.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from codedev.corpus.extract.latex import names
from codedev.corpus.extract.latex.lexer import CONTROL, Frame, ends_in_control
from codedev.corpus.extract.latex.source import COMMON, Source

_SPECIAL = re.compile(r"\\(?:([A-Za-z]+)|(.|\n)|$)|[{}$%]|\n[ \t]*\n")
_SPECIAL_AT = re.compile(r"\\(?:([A-Za-z@]+)|(.|\n)|$)|[{}$%]|\n[ \t]*\n")
_REST_OF_COMMENT = re.compile(r"[^\n]*\n?[ \t]*")
# An inline formula in one piece, up to its dollar. Possessive: it never goes back.
INLINE = re.compile(r"\$((?:[^$\\%\n]|\\[^\n]|\n(?![ \t]*\n))++)\$")
_BLANK_LINES = re.compile(r"(?<![ \t])(?:[ \t]*+\n\s*\n|[ \t]++\n)")
_LINE_END = re.compile(r"(?<![ \t])[ \t]*+\n[ \t]*+")

# Commands in whose argument (the first, the second) text begins again.
_TEXT_BOXES = {
    **dict.fromkeys(
        [
            "text",
            "mbox",
            "hbox",
            "textrm",
            "textbf",
            "textit",
            "textsf",
            "texttt",
            "textsc",
            "textnormal",
            "textup",
            "textmd",
            "emph",
            "fbox",
            "intertext",
            "shortintertext",
        ],
        1,
    ),
    **dict.fromkeys(
        ["makebox", "framebox", "tag", "vbox", "vtop", "footnote", "boxed_", "scalebox_", "textsl", "underline_", "hspace_", "label_"], 1
    ),
    **dict.fromkeys(["parbox", "raisebox", "colorbox", "textcolor_", "rotatebox", "scalebox", "resizebox_"], 2),
}
_MATH_BOXES = frozenset({"xymatrix", "diagram"})
_ACTIVE = (
    _MATH_BOXES
    | frozenset(
        [
            "begin",
            "end",
            "ensuremath",
            "label",
            "xspace",
            "verb",
            "section",
            "subsection",
            "subsubsection",
            "chapter",
            "bye",
            "text",
            "mbox",
            "hbox",
            "ExplSyntaxOn",
        ]
    )
    | frozenset(_TEXT_BOXES)
)
SLOW = _ACTIVE | COMMON | {"ifmmode", "iffalse", "iftrue"}
_HEADINGS = frozenset({"section", "subsection", "subsubsection", "chapter", "bye", "paragraph"})


class Formula(NamedTuple):
    text: str
    whole: bool  # False: it was never closed


class _Open(NamedTuple):
    """What is open inside a formula: a group, an inner formula, an environment."""

    kind: str  # "{", "$" or the name of an environment
    text: bool  # whether text was being read around it
    frame: Frame | None = None
    closing: int | None = None


def is_plain(body: str, source: Source) -> bool:
    """Whether nothing in the formula is to be expanded or looked at."""
    if "\\" not in body:
        return True
    words = CONTROL.findall(body)
    return source.macros.table.keys().isdisjoint(words) and SLOW.isdisjoint(words) and "\\(" not in body


def inline(text: str) -> str:
    """A formula's text for a line."""
    text = _stripped(text)
    return _LINE_END.sub(" ", text) if "\n" in text else text


def displayed(text: str) -> str:
    """A formula's text on lines of its own, none of them blank."""
    text = _stripped(text)
    return _BLANK_LINES.sub("\n", text) if "\n" in text else text


def _stripped(text: str) -> str:
    text = text.strip()
    if text.endswith("\\") and (len(text) - len(text.rstrip("\\"))) % 2:
        text += " "  # it was a `\\ `: without its blank it would escape the dollar
    return text


def formula(source: Source, closer: str, keep_labels: bool) -> Formula:
    """The formula that goes up to `closer`: `$`, `$$`, `)`, `]` or the name of an environment. An environment's end is passed over."""
    reading = _Reading(source, closer, keep_labels)
    whole = reading.run()
    source.counts["unbalanced"] += not whole or reading.untidy
    return Formula("".join(reading.out), whole)


class _Reading:
    def __init__(self, source: Source, closer: str, keep_labels: bool) -> None:
        self.source, self.stream = source, source.stream
        self.closer = closer
        self.keep_labels = keep_labels
        self.out: list[str] = []
        self.open: list[_Open] = []
        self.environments = 0
        self.in_text = False
        self.box = 0  # groups until the one in which text begins
        self.math_box = False  # mathematics begins again in the next group
        self.untidy = False

    def run(self) -> bool:
        """Read to the end. A Python loop over what is special in a formula: 0.5 µs each."""
        stream, out, table = self.stream, self.out, self.source.macros.table
        while True:
            frame = stream.top
            text, pos = frame.text, frame.pos
            match = (_SPECIAL_AT if frame.at else _SPECIAL).search(text, pos)
            if match is None:
                if pos < len(text):
                    out.append(text[pos:])
                    frame.pos = len(text)
                if not stream.pop():
                    return False
                self._space_before_letter()
                continue
            if match.start() > pos:
                out.append(text[pos : match.start()])
            frame.pos = match.end()
            name = match[1]
            if name is not None:
                macro = table.get(name)
                if macro is not None:
                    if macro.kind == "alias":
                        out.append(f"\\{macro.body[0]}")
                    elif self.source.macros.expand(stream, name, macro):
                        if self.in_text and not macro.parameters:
                            frame.pos += frame.text[frame.pos : frame.pos + 1] == " "
                        self._space_before_letter()
                    else:
                        out.append(match[0])
                elif name in SLOW or name.startswith("if"):
                    ended = self._command(name, frame, match.start())
                    if ended is not None:
                        return ended
                else:
                    out.append(match[0])
                continue
            ended = self._character(match[0], frame, match.start())
            if ended is not None:
                return ended

    def _space_before_letter(self) -> None:
        """Keep a command's name apart from the letters that an expansion brought next to it."""
        if self.out and self.stream.peek().isalpha() and ends_in_control(self.out[-1]):
            self.out.append(" ")

    def _character(self, found: str, frame: Frame, at: int) -> bool | None:
        """What is special and no command's name. True: the formula is closed; False: it ends open; None: it goes on."""
        out = self.out
        match found[0]:
            case "{":
                out.append("{")
                is_box = self.box == 1
                self.box -= self.box > 0
                self.open.append(_Open("{", self.in_text, frame, at))
                self.in_text = (self.in_text or is_box) and not self.math_box
                self.math_box = False
            case "}":
                while self.open and self.open[-1].kind == "$":
                    self._close_inner()
                if self.open and self.open[-1].kind == "{":
                    self.in_text = self.open.pop().text
                else:
                    self.untidy = True
                out.append("}")
            case "$":
                return self._dollar(frame)
            case "%":
                rest = _REST_OF_COMMENT.match(frame.text, frame.pos)
                frame.pos = rest.end() if rest else frame.pos
                self.source.counts["comments"] += 1
                out.append("\n" if not self.in_text or (out and ends_in_control(out[-1])) else "")
            case "\n":
                if self.closer in ("$", ")") and not self.open:
                    frame.pos = at
                    return False
                out.append("\n")
            case _:
                if found[1:] == self.closer and not self.in_text:
                    return True
                if found == "\\(" and self.in_text:
                    self._open_inner()
                elif found in ("\\(", "\\[") and self.closer == ")":
                    frame.pos = at  # the one before was never closed
                    return False
                elif found == "\\)" and self.open and self.open[-1].kind == "$":
                    self._close_inner()
                else:
                    out.append(found)
        return None

    def _open_inner(self) -> None:
        self.open.append(_Open("$", self.in_text))
        self.in_text = False
        self.out.append("$")

    def _close_inner(self) -> None:
        self.in_text = self.open.pop().text
        self.out.append("$")

    def _dollar(self, frame: Frame) -> bool | None:
        if self.in_text:
            self._open_inner()
            return None
        inner = self.open[-1] if self.open else None
        if inner is not None and inner.kind == "$":
            self._close_inner()
            return None
        if self.closer not in ("$", "$$"):
            self.out.append("$")
            return None
        if inner is not None and inner.kind == "{" and inner.frame is frame and inner.closing is not None:
            end = frame.closing(inner.closing)
            if end is not None and frame.text.find("$", frame.pos, end) >= 0:  # a pair in the argument of a command that makes text
                self.in_text = True
                self._open_inner()
                return None
        self.untidy = bool(self.open)
        if self.closer == "$$":
            following = self.stream.peek()
            if following == "$":
                self.stream.top.pos += 1
            else:
                self.untidy = True
        return True

    def _command(self, name: str, frame: Frame, at: int) -> bool | None:
        stream, out = self.stream, self.out
        if name in _TEXT_BOXES:
            out.append(f"\\{name}")
            self.box = _TEXT_BOXES[name] if stream.peek() == "[" or stream.next_is("{") else 0
        elif name in _MATH_BOXES:
            out.append(f"\\{name}")
            self.math_box = self.in_text
        elif name == "begin":
            return self._begin(frame, at)
        elif name == "end":
            return self._end(frame, at)
        elif name == "ensuremath":
            macros = self.source.macros
            if not macros.may_reread(stream):
                out.append(f"\\{name}")
                return None
            argument = stream.argument() or ""
            if self.in_text:
                macros.reread(stream, f"${argument}$")
            else:
                macros.reread(stream, f"{{{argument}}}" if out and out[-1].rstrip()[-1:] in ("_", "^") else argument)
                self._space_before_letter()
        elif name == "label":
            argument = stream.argument() or ""
            if self.keep_labels:
                out.append(f"\\label{{{argument}}}")
        elif name == "xspace":
            if self.in_text and stream.peek().isalnum():
                out.append(" ")
        elif name in _HEADINGS:
            frame.pos = at
            return False
        elif name == "verb" or not self.source.common(name, math=not self.in_text):
            out.append(f"\\{name}")
        else:
            self._space_before_letter()
        return None

    def _begin(self, frame: Frame, at: int) -> bool | None:
        name = (self.stream.group() or "").strip()
        if name in self.source.comment_environments:
            self.stream.raw_until(f"\\end{{{name}}}")
        elif self.source.begin(name):
            self._space_before_letter()
        elif not self.open and (name in names.LISTS or name in names.FLOATS or name in self.source.theorems or name in names.PROOFS):
            frame.pos = at
            return False
        else:
            self.out.append(f"\\begin{{{name}}}")
            self.open.append(_Open(name, self.in_text))
            self.environments += 1
            self.in_text = name in names.TABLES or name == "minipage"
        return None

    def _end(self, frame: Frame, at: int) -> bool | None:
        name = (self.stream.group() or "").strip()
        if self.environments:
            if name in self.source.environments:
                self.source.end(name)
                return None
            while self.open[-1].kind in ("{", "$"):
                self.open.pop()
                self.untidy = True
            opened = self.open.pop()
            self.environments -= 1
            self.untidy = self.untidy or opened.kind != name
            self.in_text = opened.text
            self.out.append(f"\\end{{{name}}}")
            return None
        if name == self.closer:
            self.untidy = self.untidy or bool(self.open)
            return True
        if self.source.end(name):
            return None
        frame.pos = at
        return False
