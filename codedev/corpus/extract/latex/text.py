"""LaTeX's text as Markdown: one pass over the source, with a stack of what is open instead of recursion.

White space is what TeX makes of it: a paragraph is one line. It is held back (`glue`) until something visible follows, so that no output
has to be cleaned afterwards, and formulas and code pass untouched. What must be seen whole before it can be written, such as a heading, a
cell or emphasis, is captured: its text goes to a list of its own until its group or environment closes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from codedev.corpus.extract.latex import names
from codedev.corpus.extract.latex.lexer import CONTROL, CONTROL_AT, Frame
from codedev.corpus.extract.latex.macros import Macro
from codedev.corpus.extract.latex.math import INLINE, displayed, formula, inline, is_plain
from codedev.corpus.extract.latex.source import Source
from codedev.corpus.extract.latex.table import CELL, ROW, rows

_PLAIN = re.compile(r"[^\\\n${}~%&]+")
_NEWLINE = re.compile(r"\n\s*")
_COMMENT = re.compile(r"%([^\n]*)\n?[ \t]*")
_ROW_END = re.compile(r"\*?[ \t]*(?:\[\s*[-+\d.\\][^\]\n]{0,30}\])?")
_VERB = re.compile(r"\*?([^A-Za-z*\s])([^\n]{0,2000}?)\1")
_ADDRESS = re.compile(r"\s*\{([^{}]*)\}")
_ESCAPED = re.compile(r"\\([%#_&~{}$])")
_UNIT = r"(?:true)?(?:pt|em|cm|mm|in|ex|sp|pc|bp|dd|mu|fil+)\b"
_LENGTH = re.compile(
    rf"[ \t]*=?[ \t]*(?:[-+]?[\d.]*[ \t]*(?:\\[A-Za-z@]+|{_UNIT}|\d)?)(?:[ \t]*(?:plus|minus)[ \t]*[-\d.]+[a-z]*){{0,2}} ?"
)
_REGISTER = re.compile(r"[ \t]*(?:\\[A-Za-z@]+|\d+)[ \t]*(?:by)?")
_CAPTURES = 24  # captures inside captures: deeper ones are written as they come

_FAILED = 1 << 20  # characters, and 8 times the source, that may be read for formulas that turn out to be none
_INDENTS = 8  # levels of lists that are indented

_NONE, _SPACE, _LINE, _PARAGRAPH = range(4)  # glue


class Options(NamedTuple):
    preamble: Literal["drop", "keep"] = "drop"
    comments: Literal["drop", "keep"] = "drop"
    bibliography: Literal["drop", "keep"] = "drop"
    labels: Literal["drop", "keep"] = "drop"
    references: Literal["keys", "drop"] = "keys"
    citations: Literal["numbers", "keys", "drop"] = "numbers"


Finish = Callable[[str, str], None]  # told the name or the marker, and the captured text
Command = Callable[["Text", str], None]  # told the reading and the command's name


class _Scope:
    """A group or an environment that is open."""

    __slots__ = ("finish", "glue", "kind", "marker", "name", "out")

    def __init__(self, kind: str, name: str, finish: Finish | None, out: list[str] | None, glue: int, marker: str) -> None:
        self.kind = kind  # "{", "env" or "declared": to the end of the scope around it
        self.name = name
        self.finish = finish  # told the name and the captured text
        self.out = out  # the list to go back to; None where nothing is captured
        self.glue = glue
        self.marker = marker


_GROUP = _Scope("{", "", None, None, 0, "")


class Text:
    """The reading of one paper."""

    def __init__(self, source: Source, options: Options, numbers: dict[str, int], commands: Mapping[str, Command]) -> None:
        self.source, self.stream, self.options = source, source.stream, options
        self.commands = commands
        self.counts = source.counts
        self.numbers = numbers  # of the entries of the bibliography, by key
        self.out: list[str] = []
        self.glue = _NONE
        self.glues = ("", " ", "\n", "\n\n")
        self.scopes: list[_Scope] = []
        self.open_environments: dict[str, int] = {}
        self.captures = 0
        self.styles: list[str] = []
        self.lists: list[list[str | int]] = []
        self.table_outs: list[list[str]] = []
        self.floats: list[str] = []
        self.algorithms = 0
        self.algorithm_depth = 0
        self.algorithm2e = False
        self.entries = 0  # of the bibliography so far
        self.notes: list[str] = []
        self.front: list[tuple[str, str]] = []
        self.written_front: list[tuple[str, str]] = []
        self.abstract = ""
        self._failed = 0  # characters that were read for formulas that are none

    # -- writing

    def emit(self, text: str) -> None:
        if self.glue:
            if self.out:
                self.out.append(self.glues[self.glue])
            self.glue = _NONE
        self.out.append(text)

    def want(self, glue: int) -> None:
        if glue > self.glue:
            self.glue = glue

    def block(self, text: str) -> None:
        self.want(_PARAGRAPH)
        self.emit(text)
        self.glue = _PARAGRAPH

    def inline_formula(self, text: str) -> None:
        if not text:
            return
        if not self.glue and self.out and self.out[-1].endswith("$"):
            self.glue = _SPACE  # $a$$b$ would read as the beginning of a display
        self.emit(f"${text}$")
        self.counts["inline_formulas"] += 1

    def display(self, closer: str, wrap: str = "") -> None:
        """The formula up to `closer`, on lines of its own: in an environment that says more than $$, with that."""
        found = formula(self.source, closer, self.options.labels == "keep").text
        text = displayed(f"\\begin{{{wrap}}}{found}\\end{{{wrap}}}" if wrap else found)
        if not text:
            return
        self.want(_LINE)
        self.emit(f"$$\n{text}\n$$")
        self.glue = _LINE
        self.counts["display_formulas"] += 1

    # -- scopes

    def open(self, kind: str, name: str = "", finish: Finish | None = None, marker: str = "") -> bool:
        """Open a group or an environment; with `finish` its text is captured, unless too many captures are open: then False."""
        captured = finish is not None and self.captures < _CAPTURES
        if kind == "env":
            self.open_environments[name] = self.open_environments.get(name, 0) + 1
        if captured:
            self.scopes.append(_Scope(kind, name, finish, self.out, self.glue, marker))
            self.captures += 1
            self.out, self.glue = [], _NONE
            if marker:
                self.styles.append(marker)
        else:
            self.scopes.append(_Scope(kind, name, None, None, 0, ""))
        self.source.macros.depth = len(self.scopes)
        return captured

    def open_with(self, name: str, finish: Finish) -> None:
        """Open an environment whose text is written as it comes; `finish` is told when it closes."""
        self.open("env", name)
        self.scopes[-1].finish = finish

    def close(self) -> None:
        """Close the innermost scope."""
        scope = self.scopes.pop()
        if scope.kind == "env":
            self.open_environments[scope.name] -= 1
        if scope.out is not None and scope.finish is not None:
            text, after = "".join(self.out), self.glue
            self.out, self.glue = scope.out, scope.glue
            self.captures -= 1
            if scope.marker:
                self.styles.remove(scope.marker)
            scope.finish(scope.marker or scope.name, text)
            self.want(min(after, _SPACE) if scope.kind != "env" else after)
        elif scope.finish is not None:
            scope.finish(scope.name, "")
        self.source.macros.leave(len(self.scopes))

    def close_declared(self) -> None:
        while self.scopes and self.scopes[-1].kind == "declared":
            self.close()

    def close_group(self) -> None:
        self.close_declared()
        if self.scopes and self.scopes[-1].kind == "{":
            if self.scopes[-1] is _GROUP:
                self.scopes.pop()
                self.source.macros.leave(len(self.scopes))
            else:
                self.close()
        else:
            self.counts["unbalanced"] += 1

    def end_environment(self, name: str) -> None:
        if not self.open_environments.get(name):
            self.counts["unbalanced"] += 1
            return
        while True:
            self.close_declared()
            scope = self.scopes[-1]
            if scope.kind == "env" and scope.name == name:
                self.close()
                return
            self.counts["unbalanced"] += 1
            self.close()

    # -- reading

    def run(self) -> None:
        """Read to the end of the stream. A Python loop over the pieces of the text: about 1 µs each."""
        stream, table = self.stream, self.source.macros.table
        plain, commands = _PLAIN.match, self.commands
        while True:
            frame = stream.top
            text, pos = frame.text, frame.pos
            match = plain(text, pos)
            if match is not None:
                self._words(match[0])
                pos = frame.pos = match.end()
            if pos >= len(text):
                if not stream.pop():
                    break
                continue
            char = text[pos]
            if char == "\\":
                command = (CONTROL_AT if frame.at else CONTROL).match(text, pos)
                if command is None:
                    frame.pos = pos + 2
                    self._character(text[pos + 1 : pos + 2])
                    continue
                name = command[1]
                frame.pos = command.end()
                macro = table.get(name)
                if macro is not None:
                    self._expand(name, macro)
                    continue
                action = commands.get(name)
                if action is not None:
                    action(self, name)
                else:
                    self.other(name)
            elif char == "\n":
                newline = _NEWLINE.match(text, pos)
                assert newline is not None
                frame.pos = newline.end()
                self.want(_PARAGRAPH if newline[0].count("\n") > 1 else _SPACE)
            elif char == "$":
                self._dollar(frame, pos)
            elif char == "{":
                frame.pos = pos + 1
                self.scopes.append(_GROUP)
                self.source.macros.depth = len(self.scopes)
            elif char == "}":
                frame.pos = pos + 1
                self.close_group()
            elif char == "~":
                frame.pos = pos + 1
                self.want(_SPACE)
            elif char == "%":
                self._comment(frame)
            else:
                frame.pos = pos + 1
                self._cell()
        self.counts["unbalanced"] += sum(scope.kind != "declared" and scope.name != "document" for scope in self.scopes)
        while self.scopes:
            if self.scopes[-1] is _GROUP:
                self.scopes.pop()
            else:
                self.close()
        self.source.macros.leave(0)

    def _words(self, text: str) -> None:
        words = text.strip(" \t")
        if not words:
            self.want(_SPACE)
            return
        if text[0] in " \t" and not self.glue:
            self.glue = _SPACE
        if "  " in words or "\t" in words:
            words = " ".join(words.split())
        if "`" not in self.styles:
            if "--" in words:
                words = words.replace("---", "—").replace("--", "–")
            if "`" in words:
                words = words.replace("``", "“").replace("`", "‘")
            if ",," in words:
                words = words.replace(",,", "„")
            if "''" in words:
                words = words.replace("''", "”")
        self.emit(words)
        if text[-1] in " \t":
            self.glue = _SPACE

    def _expand(self, name: str, macro: Macro) -> None:
        if macro.kind == "alias":
            target = str(macro.body[0])
            action = self.commands.get(target)
            if action is not None:
                action(self, target)
            else:
                self.other(target)
        elif macro.kind == "opaque" and (action := self.commands.get(name)) is not None:
            action(self, name)
        else:
            if not macro.parameters:
                self.stream.skip_blanks()
            if not self.source.macros.expand(self.stream, name, macro):
                self.source.unknown[name] += 1

    def _dollar(self, frame: Frame, pos: int) -> None:
        text = frame.text
        if text.startswith("$$", pos):
            frame.pos = pos + 2
            if self.table_outs and self.stream.next_is("&"):
                return
            self.display("$$")
            return
        match = INLINE.match(text, pos)
        if match is not None and is_plain(match[1], self.source):
            frame.pos = match.end()
            self.inline_formula(inline(match[1]))
            return
        frame.pos = pos + 1
        self._inline("$", frame, pos + 1)

    def _inline(self, closer: str, frame: Frame, begin: int) -> None:
        below = len(self.stream.below)
        failing = closer in ("$", ")")
        if failing and self._failed > _FAILED + 8 * self.source.size:
            self.counts["unbalanced"] += 1
            self.emit(r"\$" if closer == "$" else "(")
            return
        found = formula(self.source, closer, self.options.labels == "keep")
        if not found.whole and failing and self.stream.top is frame and len(self.stream.below) == below:
            # No formula: the dollar stands for itself, and what follows is text. The rest of the paragraph holds no other dollar outside of
            # groups, so that it is read a second time. Dollars in groups that never close would have it read once each: that is bounded.
            self._failed += frame.pos - begin
            frame.pos = begin
            self.emit(r"\$" if closer == "$" else "(")
            return
        self.inline_formula(inline(found.text))

    def _comment(self, frame: Frame) -> None:
        match = _COMMENT.match(frame.text, frame.pos)
        assert match is not None
        frame.pos = match.end()
        words = match[1].strip(" \t%")
        if words:
            self.counts["comments"] += 1
            if self.options.comments == "keep" and not self.captures:
                self.want(_LINE)
                self.emit(f"% {words}")
                self.want(_LINE)

    def _cell(self) -> None:
        self.close_declared()
        if self.table_outs and self.out is self.table_outs[-1]:
            self.out.append(CELL)
            self.glue = _NONE
        else:
            self.emit("&")

    def line_end(self) -> None:
        self.close_declared()
        if self.table_outs and self.out is self.table_outs[-1]:
            self.out.append(ROW)
            self.glue = _NONE
        else:
            self.want(_LINE)

    def _character(self, char: str) -> None:
        """A command of one character that is no letter."""
        frame = self.stream.top
        if char == "\\":
            match = _ROW_END.match(frame.text, frame.pos)
            frame.pos = match.end() if match else frame.pos
            self.line_end()
        elif char == "(":
            self._inline(")", frame, frame.pos)
        elif char == "[":
            self.display("]")
        elif char in "=>+<" and char and self.open_environments.get("tabbing"):
            if char in "=>":
                self._cell()
        elif char == ";" and self.algorithms:
            self.algorithm_line("")
        elif char in names.ACCENTS:
            self.accent(char)
        elif char in names.CHARACTERS:
            known = names.CHARACTERS[char]
            if known == " ":
                self.want(_SPACE)
            elif known:
                self.emit(known)
        elif char and not char.isspace():
            self.source.unknown[char] += 1

    def accent(self, name: str) -> None:
        argument = self.stream.argument() if self.source.macros.may_reread(self.stream) else None
        if argument is None:
            return
        letters = argument.strip()
        bare = letters.lstrip("\\").strip("{} ")
        if bare in ("i", "j", "imath", "jmath"):
            letters = bare[0]
        elif letters.startswith("\\") and bare in names.SYMBOLS:
            letters = names.SYMBOLS[bare]
        if not letters or "\\" in letters or letters[0] in "{$":
            self.source.macros.reread(self.stream, argument)  # an accent on nothing, or on another accent
            return
        self.emit(unicodedata.normalize("NFC", letters[0] + names.ACCENTS[name] + letters[1:]))

    def other(self, name: str) -> None:
        """A command that has no entry of its own: a conditional, or one that nobody here knows."""
        if name.startswith("if") and self.source.common(name, math=False):
            return
        self.source.unknown[name] += 1
        self.stream.star()
        if self.stream.peek() != "[" or not self.source.macros.may_reread(self.stream):
            return
        if (option := self.stream.optional()) is not None and "$" in option:
            self.source.macros.reread(self.stream, option)

    def stop(self) -> None:
        """The document ends here."""
        stream = self.stream
        while stream.below:
            stream.pop()
        self.counts["characters_behind_end"] += max(0, len(stream.top.text) - stream.top.pos - 1)
        stream.top.pos = len(stream.top.text)

    def skip(self, signature: str) -> None:
        """Pass over arguments that are no text."""
        stream = self.stream
        for kind in signature:
            match kind:
                case "*":
                    stream.star()
                case "o":
                    stream.optional()
                case "m":
                    stream.argument()
                case "p":
                    if stream.peek() == "(":
                        stream.upto(")")
                case _:
                    frame = stream.here()
                    match = (_LENGTH if kind == "n" else _REGISTER).match(frame.text, frame.pos)
                    frame.pos = match.end() if match else frame.pos

    def raw_argument(self) -> str:
        """An address in braces: % and # stand for themselves in it."""
        frame = self.stream.here()
        match = _ADDRESS.match(frame.text, frame.pos)
        if match is None:
            return (self.stream.argument() or "").strip()
        frame.pos = match.end()
        return _ESCAPED.sub(r"\1", match[1].strip())

    def verb(self) -> str | None:
        frame = self.stream.here()
        match = _VERB.match(frame.text, frame.pos)
        if match is None:
            return None
        frame.pos = match.end()
        return match[2]

    def group(self, finish: Finish, name: str = "", marker: str = "") -> bool:
        """Open the group that comes next, captured; False if none comes."""
        if not self.stream.next_is("{"):
            return False
        self.stream.top.pos += 1
        self.stream.skip_blanks()
        self.open("{", name, finish, marker)
        return True

    def style(self, marker: str) -> None:
        """Mark the next group. Markers do not nest in themselves: `**` in `**` would end it."""
        if not self.stream.next_is("{"):
            return
        frame = self.stream.top
        frame.pos += 1
        if self.stream.skip_blanks():
            self.want(_SPACE)
        if marker in self.styles or "`" in self.styles:
            self.scopes.append(_GROUP)
            self.source.macros.depth = len(self.scopes)
        else:
            self.open("{", "", self._styled, marker)

    def declare(self, marker: str) -> None:
        """Mark what follows in this group."""
        self.stream.skip_blanks()
        inside = self.scopes and self.scopes[-1].name != "document"
        if inside and marker not in self.styles and "`" not in self.styles:
            self.open("declared", "", self._styled, marker)

    def _styled(self, marker: str, text: str) -> None:
        if not text.strip():
            return
        if marker == "`":
            if "`" in text or "$" in text.replace(r"\$", ""):
                marker = ""
            else:
                text = text.replace(r"\$", "$")
        if "\n\n" in text or "$$" in text or CELL in text or ROW in text or "```" in text or ("\n" in text and marker == "`"):
            marker = ""
        self.emit(f"{marker}{text}{marker}")

    def algorithm_line(self, word: str) -> None:
        """A new line of an algorithm, indented by the blocks that are open."""
        first = word.split(" ")[0]
        if first in ("end", "until", "else"):
            self.algorithm_depth = max(0, self.algorithm_depth - 1)
        if self.out:
            self.out.append("\n" + "  " * min(self.algorithm_depth, 20))
        self.glue = _NONE
        if word:
            self.emit(word)
            self.glue = _SPACE
        if first in ("if", "for", "while", "repeat", "loop", "procedure", "function", "else"):
            self.algorithm_depth += 1

    def in_line(self) -> bool:
        """Whether the line of an algorithm has begun."""
        return bool(self.out) and not self.out[-1].startswith("\n")

    # -- lists

    def indent(self) -> None:
        """Indent what follows by the lists that are open."""
        blanks = self._blanks(len(self.lists))
        self.glues = ("", " ", f"\n{blanks}", f"\n\n{blanks}")

    def _blanks(self, levels: int) -> str:
        return "".join("   " if marker == "1" else "  " for marker, _ in self.lists[: min(levels, _INDENTS)])

    def leave_list(self, _: str, __: str) -> None:
        self.lists.pop()
        self.indent()

    def write_marker(self, marker: str) -> None:
        blanks = self._blanks(len(self.lists) - 1)
        inner, self.glues = self.glues, ("", " ", f"\n{blanks}", f"\n\n{blanks}")
        self.emit(marker)
        self.glues = inner

    def leave_float(self) -> None:
        self.floats.pop()

    def write_abstract(self, _: str, text: str) -> None:
        self.abstract = self.abstract or text.strip()
        if text:
            self.emit(text)

    def inline_until(self, closer: str) -> None:
        self._inline(closer, self.stream.top, self.stream.top.pos)

    def table_rows(self, text: str) -> None:
        found = rows(text)
        if found:
            self.block(found)

    def aside(self, raw: str) -> str:
        """Some of the source as text, aside from the document. To be called when the stream has been read."""
        notes = len(self.notes)
        found = self.aside_with_notes(raw)
        del self.notes[notes:]
        return found

    def aside_with_notes(self, raw: str) -> str:
        self.out, self.glue = [], _NONE
        self.stream.push(raw)
        self.run()
        return "".join(self.out).strip()
