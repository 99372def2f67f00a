"""What TeX's mouth reads: a stack of texts (files, expansions of macros), and the arguments of commands that lie in it.

A command's expansion is pushed on top of the stack and read before the rest, as TeX does, so that nothing recurses however deep
macros or braces nest. Matching braces of a text are found once, in one pass, when the first argument in it is asked for. Arguments are
text, not tokens, so that what a formula holds comes out as it was written.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left

CONTROL = re.compile(r"\\([A-Za-z]+)")
CONTROL_AT = re.compile(r"\\([A-Za-z@]+)")  # where @ counts as a letter: styles, classes, after \makeatletter
# White space that ends no paragraph, with the comments in it.
SPACE = re.compile(r"(?:[ \t]+|\n(?![ \t]*\n)|%[^\n]*(?:\n[ \t]*)?)+")
_BLANKS = re.compile(r"[ \t]*(?:\n(?![ \t]*\n)[ \t]*)?")
_ENDS_IN_CONTROL = re.compile(r"\\[A-Za-z@]+$")
# Braces, and what hides braces: comments, escapes, addresses (a % in them is no comment), \verb.
_BRACES = re.compile(r"[{}]|\\(?:(?:url|path|nolinkurl|href)[ \t]*\{[^{}\n]*\}|verb\*?([^A-Za-z*\s{])[^\n]{0,1000}?\1|[\\{}%])|%[^\n]*")
_COMMENT = re.compile(r"(\\[\\%])|%[^\n]*\n?[ \t]*")
_OPTIONAL = re.compile(r"[^\]\[{}\\\n]+|\n(?![ \t]*\n)|\\.", re.S)
_OPTIONAL_LIMIT = 4000  # characters of an optional argument, or up to a delimiter
_OPTIONAL_DEPTH = 6  # brackets inside brackets
_SPILL_LIMIT = 100_000  # characters of an argument that begins in a macro and ends behind it


def ends_in_control(text: str) -> bool:
    """Whether a letter behind `text` would become part of a command's name."""
    return text[-1:].isalpha() and text[-1].isascii() and _ENDS_IN_CONTROL.search(text[-60:]) is not None


def without_comments(text: str) -> str:
    return _COMMENT.sub(lambda m: m[1] or "", text) if "%" in text else text


class Frame:
    """A text that is being read."""

    __slots__ = ("_last_bracket", "_pairs", "at", "depth", "gone", "macro", "name", "pos", "text")

    def __init__(self, text: str, macro: str | None = None, name: str | None = None, at: bool = False, depth: int = 0) -> None:
        self.text = text
        self.pos = 0
        self.macro = macro  # whose expansion it is
        self.name = name  # of the file it is
        self.at = at  # @ is a letter
        self.depth = depth  # of macros inside macros
        self.gone: set[str] = set()  # ends that were looked for and do not come in the rest of the text
        self._pairs: tuple[array[int], array[int]] | None = None  # where groups open and close: 16 bytes a group
        self._last_bracket: int | None = None

    def closing(self, pos: int) -> int | None:
        """Where the group that opens at `pos` closes."""
        if self._pairs is None:
            opens, closes = self._pairs = array("q"), array("q")
            opened: list[int] = []
            for match in _BRACES.finditer(self.text):
                brace = match[0]
                if brace == "{":
                    opened.append(len(opens))
                    opens.append(match.start())
                    closes.append(-1)
                elif brace == "}" and opened:
                    closes[opened.pop()] = match.start()
        opens, closes = self._pairs
        at = bisect_left(opens, pos)
        return closes[at] if at < len(opens) and opens[at] == pos and closes[at] >= 0 else None

    def last_bracket(self) -> int:
        if self._last_bracket is None:
            self._last_bracket = self.text.rfind("]")
        return self._last_bracket


class Stream:
    """The stack of texts. `top` is the one being read; it is never empty of frames: the last one stays."""

    def __init__(self, text: str, name: str | None = None) -> None:
        self.top = Frame(text, name=name)
        self.below: list[Frame] = []
        self.files = 0  # inside files

    @property
    def depth(self) -> int:
        """Of macros inside macros, those counted that have been read to their end when they called the next."""
        return self.top.depth

    def push(self, text: str, macro: str | None = None, name: str | None = None, at: bool = False) -> None:
        """Read `text` next. What has been read to its end is let go, but for files: they say what must not be included again."""
        depth = self.top.depth + (macro is not None)
        while self.below and self.top.name is None and self.top.pos >= len(self.top.text):
            self.pop()
        self.below.append(self.top)
        self.top = Frame(text, macro, name, at, depth)
        self.files += name is not None

    def pop(self) -> bool:
        """Leave the top, which has been read. False where nothing lies below."""
        if not self.below:
            return False
        self.files -= self.top.name is not None
        self.top = self.below.pop()
        return True

    def here(self) -> Frame:
        """The frame with the next character; the last one, read to its end, at the end of input."""
        while self.top.pos >= len(self.top.text) and self.pop():
            pass
        return self.top

    def peek(self) -> str:
        frame = self.here()
        return frame.text[frame.pos : frame.pos + 1]

    def skip_blanks(self) -> bool:
        """Pass over blanks and one line end, as TeX does behind a command's name; not over the end of a paragraph."""
        frame = self.here()
        match = _BLANKS.match(frame.text, frame.pos)
        end = match.end() if match else frame.pos
        passed = end > frame.pos
        frame.pos = end
        return passed

    def skip_space(self) -> Frame:
        """Pass over white space and comments, to what may be an argument."""
        while True:
            frame = self.here()
            match = SPACE.match(frame.text, frame.pos)
            if match is None:
                return frame
            frame.pos = match.end()

    def argument(self) -> str | None:
        """The next argument: a group's content, a command or a character. None where a paragraph, a group or the input ends."""
        frame = self.skip_space()
        text, pos = frame.text, frame.pos
        char = text[pos : pos + 1]
        if char == "{":
            end = frame.closing(pos)
            if end is None:
                return self._spilling(frame)
            frame.pos = end + 1
            return text[pos + 1 : end]
        if char in ("}", "$", "&", "\n", ""):
            return None
        if char == "\\":
            match = (CONTROL_AT if frame.at else CONTROL).match(text, pos)
            frame.pos = match.end() if match else pos + 2
            return text[pos : frame.pos]
        frame.pos = pos + 1
        return char

    def group(self) -> str | None:
        """The next argument if it stands in braces."""
        return self.argument() if self.next_is("{") else None

    def next_is(self, char: str) -> bool:
        """Whether `char` comes next, behind white space. Passes over that only if it does."""
        frame = self.here()
        match = SPACE.match(frame.text, frame.pos)
        at = match.end() if match else frame.pos
        if at >= len(frame.text) and self.below:
            return char == self._after_space()
        if frame.text[at : at + 1] != char:
            return False
        frame.pos = at
        return True

    def _after_space(self) -> str:
        """As `peek`, where white space ends a frame: it is passed over, which no output depends on."""
        self.skip_space()
        return self.peek()

    def _spilling(self, frame: Frame) -> str | None:
        """An argument that begins in a macro's expansion and ends in what follows it: `\\def\\a{\\b{x}`, `\\a y}`."""
        if frame.macro is None or not self.below:
            return None
        parent = self.below[-1]
        depth = 1
        for match in _BRACES.finditer(frame.text, frame.pos + 1):
            depth += (match[0] == "{") - (match[0] == "}")
        for match in _BRACES.finditer(parent.text, parent.pos, parent.pos + _SPILL_LIMIT):
            depth += (match[0] == "{") - (match[0] == "}")
            if depth == 0:
                taken = frame.text[frame.pos + 1 :] + parent.text[parent.pos : match.start()]
                self.pop()
                parent.pos = match.end()
                return taken
        return None

    def optional(self, closer: str = "]") -> str | None:
        """The content of square brackets, if they come next."""
        if not self.next_is("["):
            return None
        frame = self.top
        text, start = frame.text, frame.pos + 1
        if frame.last_bracket() < start:
            return None
        limit = start + _OPTIONAL_LIMIT
        pos, depth = start, 0
        while pos < limit:
            match = _OPTIONAL.match(text, pos, limit)
            if match is not None:
                pos = match.end()
                continue
            char = text[pos : pos + 1]
            if char == "{" and (end := frame.closing(pos)) is not None:
                pos = end + 1
            elif char == "[" and depth < _OPTIONAL_DEPTH:
                depth, pos = depth + 1, pos + 1
            elif char == "]" and depth:
                depth, pos = depth - 1, pos + 1
            elif char == "]":
                frame.pos = pos + 1
                return text[start:pos]
            else:
                return None  # the end of the group, the paragraph or the input
        return None

    def upto(self, delimiter: str) -> str | None:
        """What comes before `delimiter`, outside of groups; passes over both."""
        frame = self.here()
        text, start = frame.text, frame.pos
        pos, limit = start, start + _OPTIONAL_LIMIT
        while True:
            at = text.find(delimiter, pos, limit)
            if at < 0:
                return None
            brace = text.find("{", pos, at)
            if brace < 0:
                frame.pos = at + len(delimiter)
                found = text[start:at]
                whole = found.startswith("{") and frame.closing(start) == at - 1
                return found[1:-1] if whole else found
            end = frame.closing(brace)
            if end is None:
                return None
            pos = end + 1

    def star(self) -> bool:
        """Pass over a star."""
        frame = self.here()
        if frame.text[frame.pos : frame.pos + 1] == "*":
            frame.pos += 1
            return True
        return False

    def raw_until(self, end: str) -> str | None:
        """The text before `end` as it stands, for verbatim environments and comments. None, and nothing read, where there is no `end`."""
        frame = self.here()
        if end in frame.gone:
            return None
        at = frame.text.find(end, frame.pos)
        if at < 0:
            frame.gone.add(end)
            return None
        found = frame.text[frame.pos : at]
        frame.pos = at + len(end)
        return found
