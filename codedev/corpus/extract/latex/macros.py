"""A paper's own macros: their definitions, and their expansion as text.

Known: \\newcommand and its kin with optional arguments, \\def with delimited parameters, \\let, \\DeclareMathOperator,
\\DeclarePairedDelimiter, xparse's commands with m, o, O, d, s, t and r arguments, \\newif. A macro whose body is a program (it looks at the
next character, builds names, computes, defines others) is `opaque`: it stays as it is written, and so does one that calls itself.

Expansion is bounded per call and per paper, so that macros that multiply stay unexpanded where the bound is met: they are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal, NamedTuple

from codedev.corpus.extract.latex.lexer import CONTROL, CONTROL_AT, Stream, ends_in_control, without_comments

DEPTH = 500  # of macros inside macros
_STACK = 1000  # texts inside texts: expansions, branches, files
CALL = 1 << 20  # characters that one call in the source may unfold to, and as many as the source has
PAPER = 4 << 20  # characters that all calls may unfold to, and 16 times the source
_CALL_COST = 16  # of an expansion beside its characters

NO_VALUE = "-NoValue-"
_TRUE, _FALSE = r"\BooleanTrue", r"\BooleanFalse"


class Parameter(NamedTuple):
    kind: Literal["m", "o", "s", "t", "d", "l"]  # mandatory, optional, star, token, delimited, literal text that is passed over
    text: str = ""  # the default, the token, the delimiter, the literal


class Macro(NamedTuple):
    parameters: tuple[Parameter, ...]
    body: tuple[str | int, ...]  # text and numbers of arguments
    at: bool = False  # defined where @ is a letter
    kind: Literal["expand", "opaque", "alias"] = "expand"  # alias: of a command of TeX itself, body[0]


_PROGRAM = re.compile(
    r"\\(?:@ifnextchar|@ifstar|@testopt|futurelet|csname|expandafter|noexpand|catcode|mathchoice|[gex]?def|let|(?:re)?newcommand|providecommand"
    r"|loop|advance|afterassignment|aftergroup|setbox|halign|valign|read|write|openin|toks|newenvironment|(?:re)?newtheorem"
    r"|makeatletter|verbatim|obeylines)(?![A-Za-z])"
)
_CONDITION = re.compile(r"\\(if[A-Za-z@]*)")
_EVALUATED = frozenset({"iff", "ifmmode", "iftrue", "iffalse"})
# Commands that begin with `if` and are no conditionals: they take their branches as arguments.
NOT_CONDITIONS = frozenset(
    [
        "iff",
        "ifthenelse",
        "ifdef",
        "ifundef",
        "ifcsdef",
        "ifcsundef",
        "ifdefmacro",
        "ifdefempty",
        "ifstrequal",
        "ifstrempty",
        "ifblank",
        "ifnotblank",
        "ifbool",
        "iftoggle",
        "ifdefstring",
        "ifdefequal",
        "ifnumcomp",
        "ifnumequal",
        "ifnumgreater",
        "ifnumless",
        "ifdimcomp",
        "ifinlist",
        "ifboolexpr",
        "ifpackageloaded",
        "ifclassloaded",
    ]
)
_PARAMETER = re.compile(r"#(#|[1-9])")
_NAME = re.compile(r"\\([A-Za-z@]+)")
_PARAMETER_TEXT = re.compile(r"(?:[^{}\\]|\\(?:[A-Za-z@]+|[^A-Za-z])){0,200}", re.S)
_BRANCH = re.compile(r"\\(if[A-Za-z@]*|else|fi|or)(?![A-Za-z@])|\\[\\%]|%[^\n]*")
_COMPARISON = re.compile(
    r"\s*(?:\\[A-Za-z@]+|[-\d.'\"`]+[a-z]{0,2})\s*[<>=]\s*(?:\\[A-Za-z@]+|[-\d.]+(?:pt|em|cm|mm|in|ex|sp)?)?\s?(?:\\relax)?"
)
_NEWLINE_BLANKS = re.compile(r"\s+")


class Macros:
    def __init__(self, source_size: int, protected: frozenset[str], known: frozenset[str]) -> None:
        self.table: dict[str, Macro] = {}
        self.flags: dict[str, bool] = {"pdf": True}
        self.counts: Counter[str] = Counter()
        self.depth = 0  # of groups: definitions inside one end with it
        self._protected = protected  # commands whose meaning is not taken from the paper: \section, \footnote
        self._known = known  # commands that no style file of the paper redefines
        self._undo: list[tuple[int, str, Macro | None]] = []
        self._bombs: set[str] = set()
        self._spent = self._total = 0
        self._root = ""
        self._call_limit = CALL + 2 * source_size
        self._total_limit = PAPER + 16 * source_size

    # -- definitions

    def define(self, stream: Stream, command: str) -> None:
        """Carry out a definition whose command has just been read."""
        match command:
            case "let" | "futurelet":
                self._let(stream)
            case "def" | "gdef" | "edef" | "xdef":
                self._def(stream, local=command in ("def", "edef"))
            case "newif":
                name = _name_of(stream.argument())
                if name.startswith("if"):
                    self.flags[name[2:]] = False
            case "DeclareMathOperator":
                operator = r"\operatorname*" if stream.star() else r"\operatorname"
                name, body = _name_of(stream.argument()), stream.argument()
                self._set(name, Macro((), (f"{operator}{{{body or ''}}}",)), stream, local=False)
            case "DeclarePairedDelimiter":
                name, left, right = _name_of(stream.argument()), stream.argument() or "", stream.argument() or ""
                parts = (r"\IfBooleanTF{", 1, rf"}}{{\left{left} ", 3, rf"\right{right}}}{{{left} ", 3, f"{right}}}")
                self._set(name, Macro((Parameter("s"), Parameter("o"), Parameter("m")), parts), stream, local=False)
            case _ if "DocumentCommand" in command:
                self._document_command(stream, command)
            case _:
                self._newcommand(stream, command)

    def _newcommand(self, stream: Stream, command: str) -> None:
        stream.star()
        name = _name_of(stream.argument())
        parameters = parameters_of(stream)
        body = stream.argument()
        if body is None:
            self.counts["unbalanced"] += 1
        elif command != "providecommand" or (name not in self.table and name not in self._known):
            self._set(name, macro(parameters, body, stream.top.at, name, self.flags), stream, local=True)

    def _def(self, stream: Stream, local: bool) -> None:
        name = _name_of(stream.argument())
        frame = stream.here()
        match = _PARAMETER_TEXT.match(frame.text, frame.pos)
        text = match[0] if match else ""
        end = frame.pos + len(text)
        if frame.text[end : end + 1] != "{":
            return  # no definition: a comment, or what is left of a broken one
        frame.pos = end
        body = stream.argument()
        if body is None:
            self.counts["unbalanced"] += 1
            return
        parameters = _delimited(without_comments(text))
        made = macro(parameters, body, frame.at, name, self.flags) if parameters is not None else Macro((), (), kind="opaque")
        self._set(name, made, stream, local)

    def _let(self, stream: Stream) -> None:
        name = _name_of(stream.argument())
        if stream.next_is("="):
            stream.top.pos += 1
        target = stream.argument()
        found = _NAME.fullmatch(target or "")
        if found is None:
            return
        meaning = self.table.get(found[1])
        if meaning is None and found[1] in ("bgroup", "egroup", "relax", "undefined", "@undefined", "par"):
            return
        self._set(name, meaning or Macro((), (found[1],), kind="alias"), stream, local=True)

    def _document_command(self, stream: Stream, command: str) -> None:
        name, spec, body = _name_of(stream.argument()), stream.argument(), stream.argument()
        if body is None or (command.startswith("Provide") and name in self.table):
            return
        parameters = _xparse(spec or "")
        made = macro(parameters, body, stream.top.at, name, self.flags) if parameters is not None else Macro((), (), kind="opaque")
        self._set(name, made, stream, local=False)

    def _set(self, name: str, macro: Macro, stream: Stream, local: bool) -> None:
        if not name or name in self._protected:
            return
        if name in self._known and ((stream.files and _is_style(stream)) or macro.kind == "opaque"):
            return
        if local and self.depth:
            self._undo.append((self.depth, name, self.table.get(name)))
        self.table[name] = macro

    def leave(self, depth: int) -> None:
        """Groups down to `depth` have ended: their definitions end."""
        self.depth = depth
        while self._undo and self._undo[-1][0] > depth:
            _, name, old = self._undo.pop()
            if old is None:
                self.table.pop(name, None)
            else:
                self.table[name] = old

    # -- expansion

    def expand(self, stream: Stream, name: str, macro: Macro) -> bool:
        """Put the expansion of a macro whose name has just been read onto the stream. False: it stays as it is."""
        if macro.kind == "opaque":
            self.counts["opaque_macros"] += 1
            return False
        if not self.allowed(stream, name):
            return False
        if not macro.parameters:
            text = macro.body[0] if macro.body else ""
            assert isinstance(text, str)
        else:
            text = substituted(macro.body, read_arguments(stream, macro.parameters))
        self.push(stream, name, text, macro.at)
        return True

    def allowed(self, stream: Stream, name: str) -> bool:
        """Whether one more expansion is within the bounds."""
        if stream.depth == 0:
            self._spent, self._root = 0, name
        if self._spent > self._call_limit or self._total > self._total_limit or stream.depth >= DEPTH or name in self._bombs:
            self.counts["unexpanded_macros"] += 1
            self._bombs.add(self._root)
            return False
        return True

    def push(self, stream: Stream, name: str, text: str, at: bool) -> None:
        """Read an expansion next, and charge it to the bounds."""
        self._charge(text)
        stream.push(text, macro=name, at=at)

    def may_reread(self, stream: Stream) -> bool:
        """Whether an argument, a branch for one, may be read a second time: copies of what nests grow with the square of its depth. To be
        asked before the argument is read; where it may not, the command is passed over and its arguments are read where they stand."""
        spent = stream.depth > 0 and self._spent > self._call_limit
        if spent or self._total > self._total_limit or len(stream.below) >= _STACK:
            self.counts["unexpanded_macros"] += 1
            return False
        return True

    def reread(self, stream: Stream, text: str) -> None:
        """Read an argument again, and charge it to the bounds."""
        self._charge(text)
        stream.push(text)

    def _charge(self, text: str) -> None:
        self._spent += len(text) + _CALL_COST
        self._total += len(text) + _CALL_COST

    # -- conditionals

    def condition(self, stream: Stream, name: str, math: bool) -> bool | None:
        """Whether \\<name>, which has just been read, holds; None if it is no conditional. What cannot be known is guessed."""
        if name in NOT_CONDITIONS or not name.startswith("if"):
            return None
        flag = name[2:]
        if flag in self.flags:
            return self.flags[flag]
        match name:
            case "ifmmode":
                return math
            case "iftrue" | "ifhmode":
                return True
            case "iffalse" | "ifvmode" | "ifinner" | "ifeof":
                return False
            case "ifx" | "if" | "ifcat":
                return self._same(stream.argument(), stream.argument())
            case "ifdefined":
                return _name_of(stream.argument()) in self.table
            case "ifnum" | "ifdim" | "ifodd" | "ifcase":
                self.counts["guessed_conditions"] += 1
                frame = stream.here()
                match = _COMPARISON.match(frame.text, frame.pos)
                if match:
                    frame.pos = match.end()
                else:
                    stream.argument()
                return True
        self.counts["guessed_conditions"] += 1
        return False  # a flag of a class: \if@twocolumn

    def _same(self, one: str | None, other: str | None) -> bool:
        if one is None or other is None:
            return False
        names = {_name_of(one), _name_of(other)}
        if names & {"undefined", "@undefined"}:
            return not any(name in self.table or name in ("pdfoutput", "pdfmajorversion") for name in names)
        return one == other or (_name_of(one) in self.table and self.table[_name_of(one)] == self.table.get(_name_of(other)))

    def skip_branch(self, stream: Stream, to_else: bool) -> str | None:
        """Pass over a branch that is not taken; the text passed over. None, and nothing read, where its \\fi does not come."""
        frame = stream.here()
        if r"\fi" in frame.gone:
            return None
        start, depth = frame.pos, 0
        for match in _BRANCH.finditer(frame.text, start):
            word = match[1]
            if word is None or word in NOT_CONDITIONS:
                continue
            if word.startswith("if"):
                depth += 1
            elif depth == 0 and (word == "fi" or (to_else and word == "else")):
                frame.pos = match.end()
                return frame.text[start : match.start()]
            elif word == "fi":
                depth -= 1
        frame.gone.add(r"\fi")
        self.counts["unbalanced"] += 1
        return None


def macro(parameters: tuple[Parameter, ...], body: str, at: bool = False, name: str = "", flags: dict[str, bool] | None = None) -> Macro:
    """A macro of a body in which #1, #2, ... stand for arguments."""
    kind: Literal["expand", "opaque"] = "expand"
    if "\\" in body and (_is_program(body, flags or {}) or any(m[1] == name for m in (CONTROL_AT if at else CONTROL).finditer(body))):
        kind = "opaque"
    if "%" in body:
        body = without_comments(body)
    if "#" not in body:
        return Macro(parameters, (body,), at, kind)
    pieces = _PARAMETER.split(body)
    parts: list[str | int] = [pieces[0]]
    for mark, text in zip(pieces[1::2], pieces[2::2], strict=True):
        if mark == "#":
            parts[-1] = f"{parts[-1]}#{text}"
        else:
            parts += [int(mark), text]
    if not parameters:
        return Macro((), ("".join(f"#{part}" if isinstance(part, int) else part for part in parts),), at, kind)
    return Macro(parameters, tuple(part for part in parts if part != ""), at, kind)


def _is_program(body: str, flags: dict[str, bool]) -> bool:
    if _PROGRAM.search(body):
        return True
    return any(m[1] not in _EVALUATED and m[1][2:] not in flags and m[1] not in NOT_CONDITIONS for m in _CONDITION.finditer(body))


def parameters_of(stream: Stream) -> tuple[Parameter, ...]:
    """The parameters of \\newcommand and \\newenvironment: [number][default of the first]."""
    number = (stream.optional() or "0").strip()
    count = int(number) if len(number) == 1 and number in "123456789" else 0
    default = stream.optional() if count else None
    first = () if default is None else (Parameter("o", default),)
    return (*first, *[Parameter("m")] * (count - len(first)))


def read_arguments(stream: Stream, parameters: tuple[Parameter, ...]) -> list[str]:
    found: list[str] = []
    for kind, text in parameters:
        match kind:
            case "m":
                found.append(stream.argument() or "")
            case "o":
                value = stream.optional()
                found.append(text if value is None else value)
            case "s":
                found.append(_TRUE if stream.star() else _FALSE)
            case "t":
                given = stream.next_is(text)
                stream.top.pos += given
                found.append(_TRUE if given else _FALSE)
            case "d":
                if not found:
                    stream.skip_blanks()
                found.append(stream.upto(text) or "")
            case "l":
                frame = stream.here()
                frame.pos += len(text) if frame.text.startswith(text, frame.pos) else 0
    return found


def substituted(body: tuple[str | int, ...], arguments: list[str]) -> str:
    pieces: list[str] = []
    for part in body:
        piece = part if isinstance(part, str) else arguments[part - 1] if part <= len(arguments) else ""
        if pieces and piece[:1].isalpha() and ends_in_control(pieces[-1]):
            pieces.append(" ")  # a letter would become part of the command's name
        if piece:
            pieces.append(piece)
    return "".join(pieces)


def boolean(text: str | None) -> bool:
    """What \\IfBooleanTF takes for true."""
    return (text or "").strip() == _TRUE


def _name_of(argument: str | None) -> str:
    """The name in `\\name` or in `{\\name}`; empty for anything else."""
    found = _NAME.fullmatch(without_comments(argument or "").strip())
    return found[1] if found else ""


def _is_style(stream: Stream) -> bool:
    name = next((frame.name for frame in (stream.top, *reversed(stream.below)) if frame.name), None)
    return (name or "").endswith((".sty", ".cls", ".clo", ".def"))


def _delimited(text: str) -> tuple[Parameter, ...] | None:
    """The parameters of a \\def; None for those that are not known."""
    pieces = re.split(r"#([1-9])", text)
    if any("#" in piece for piece in pieces[::2]):
        return None
    parameters = [Parameter("l", pieces[0])] if pieces[0].strip() else []
    for delimiter in pieces[2::2]:
        blank = _NEWLINE_BLANKS.sub(" ", delimiter)
        parameters.append(Parameter("d", blank) if blank else Parameter("m"))
    return tuple(parameters)


def _xparse(spec: str) -> tuple[Parameter, ...] | None:
    stream = Stream(spec)
    found: list[Parameter] = []
    while (word := stream.argument()) is not None:
        match word:
            case "+" | "!" | ">":
                continue
            case "m":
                found.append(Parameter("m"))
            case "o":
                found.append(Parameter("o", NO_VALUE))
            case "O":
                found.append(Parameter("o", stream.argument() or ""))
            case "s":
                found.append(Parameter("s"))
            case "t":
                found.append(Parameter("t", stream.argument() or ""))
            case _:
                return None
    return tuple(found)
