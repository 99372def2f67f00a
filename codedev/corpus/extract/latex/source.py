"""A paper's source as it is read: its files, the stream of their text, its macros and environments, and what was met on the way.

Here are the commands that mean the same in text and in mathematics: definitions, conditionals, \\input, \\makeatletter. Only files of the
paper itself are opened, by their names in it; cycles, depth and size of inclusions are bounded.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from codedev.corpus.extract.latex import names
from codedev.corpus.extract.latex.lexer import Stream, without_comments
from codedev.corpus.extract.latex.macros import NO_VALUE, Macros, Parameter, boolean, macro, parameters_of, read_arguments, substituted

DEPTH = 40  # of files inside files
_INCLUDED = 8  # times the paper's size that \input may bring in

_ENCODINGS = {
    "latin1": "latin-1", "latin2": "iso8859-2", "latin3": "iso8859-3", "latin4": "iso8859-4", "latin5": "iso8859-9",
    "latin9": "iso8859-15", "latin10": "iso8859-16", "ansinew": "cp1252", "cp1252": "cp1252", "cp1250": "cp1250", "cp1251": "cp1251",
    "cp1257": "cp1257", "cp437": "cp437", "cp850": "cp850", "cp852": "cp852", "cp866": "cp866", "applemac": "mac-roman",
    "macce": "mac-latin2", "utf8": "utf-8", "utf8x": "utf-8", "koi8-r": "koi8-r", "koi8-ru": "koi8-r", "koi8-u": "koi8-u",
}  # fmt: skip
_INPUTENC = re.compile(rb"\\usepackage\s*\[([A-Za-z0-9-]+)\]\s*\{inputenc\}")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NEWTHEOREM_NAME = re.compile(r"(?:^|,)\s*(?:name|title)\s*=\s*(\{[^{}]*\}|[^,]*)")


def decode(data: bytes, encoding: str | None = None) -> tuple[str, str]:
    """The text of a file, and its encoding: UTF-8 if it is that, else what inputenc says, else Windows-1252."""
    try:
        text, found = data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        match = _INPUTENC.search(data)
        named = _ENCODINGS.get(match[1].decode()) if match else encoding
        found = named if named and named != "utf-8" else "cp1252"
        text = data.decode(found, "replace")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub(" ", text), found


class Environment(NamedTuple):
    """Of \\newenvironment."""

    parameters: tuple[Parameter, ...]
    begin: tuple[str | int, ...]
    end: str
    at: bool


class Source:
    def __init__(self, files: Mapping[str, bytes], main: str, limit: int, size: int) -> None:
        """`limit`: bytes that \\input may bring in; `size`: bytes of all the paper's TeX files."""
        text, self.encoding = decode(files[main])
        self.files = files
        self.main = main
        self.read_files = {main}
        self.stream = Stream(text, name=main)
        self.macros = Macros(size, PROTECTED, KNOWN)
        self.counts: Counter[str] = self.macros.counts
        self.unknown: Counter[str] = Counter()
        self.environments: dict[str, Environment] = {}
        self.theorems: dict[str, str] = {}
        self.comment_environments = set(names.COMMENTS)
        self.size = size
        self._room = min(limit, (1 << 20) + _INCLUDED * size)
        self._refused: set[str] = set()  # files that are larger than the room, which only shrinks
        self._by_lower: dict[str, str] | None = None
        self._folder = posixpath.dirname(main)

    # -- files

    def find(self, name: str, endings: tuple[str, ...]) -> str | None:
        """The paper's file that `name` means, seen from the main file's folder."""
        name = without_comments(name).strip().strip('"')
        if self._by_lower is None:
            self._by_lower = {known.lower(): known for known in sorted(self.files, reverse=True)}
        for folder in dict.fromkeys((self._folder, "")):
            path = posixpath.normpath(posixpath.join(folder, name))
            for ending in endings:
                found = self._by_lower.get((path + ending).lower()) if path + ending not in self.files else path + ending
                if found is not None:
                    return found
        return None

    def include(self, name: str, endings: tuple[str, ...] = (".tex", "", ".ltx")) -> bool:
        """Read the file next. False if the paper has none of that name, or it must not be read here."""
        found = self.find(name, endings)
        stream = self.stream
        if found is None:
            self.counts["missing_inputs"] += 1
            return False
        if stream.files >= DEPTH or any(frame.name == found for frame in (stream.top, *stream.below)):
            self.counts["refused_inputs"] += 1
            return False
        data = b"" if found in self._refused else self.files[found]
        if found in self._refused or len(data) > self._room:
            self._refused.add(found)
            self.counts["refused_inputs"] += 1
            return False
        self._room -= len(data)
        text, _ = decode(data, self.encoding)
        self.read_files.add(found)
        stream.push(text, name=found, at=found.endswith((".sty", ".cls", ".clo", ".def")))
        return True

    def include_styles(self, argument: str, ending: str) -> None:
        """Read the packages or the class of that name if they are the paper's own."""
        for name in reversed(without_comments(argument).split(",")):
            if name.strip() and self.find(name, (ending,)) is not None:
                self.include(name, (ending,))

    # -- commands that mean the same everywhere

    def common(self, name: str, math: bool) -> bool:
        """Carry out \\<name>, which has just been read. False if it is none of those known here."""
        stream = self.stream
        if name in names.DEFINITIONS:
            self.macros.define(stream, name)
        elif name in names.INPUTS:
            self._input(name)
        elif name in names.THEOREM_DEFINITIONS:
            self._theorem(name)
        elif name in ("newenvironment", "renewenvironment"):
            self._environment()
        elif name in ("else", "or"):
            self.macros.skip_branch(stream, to_else=False)
        elif name in ("makeatletter", "makeatother"):
            stream.top.at = name == "makeatletter"
        elif name in _XPARSE_TESTS:
            self._xparse_test(name)
        elif name in ("IfFileExists", "InputIfFileExists"):
            self._if_file_exists(name)
        elif name in ("ifdef", "ifundef", "@ifundefined", "ifdefmacro"):
            if self.macros.may_reread(stream):
                tested, yes, no = (stream.argument() or "" for _ in range(3))
                defined = tested.strip().lstrip("\\") in self.macros.table
                self.macros.reread(stream, yes if defined == name.startswith("ifdef") else no)
        elif name == "fi" or name in _NOTHING:
            pass
        elif name in ("excludecomment", "includecomment"):
            (self.comment_environments.add if name[0] == "e" else self.comment_environments.discard)((stream.argument() or "").strip())
        elif name == "endinput":
            stream.top.pos = len(stream.top.text)
        elif name == "ExplSyntaxOn":
            self.counts["programs"] += stream.raw_until(r"\ExplSyntaxOff") is not None
        elif name == "catcode":
            stream.raw_until("\n")
        else:
            holds = self.macros.condition(stream, name, math)
            if holds is None:
                return False
            if not holds:
                self._skip_false(name)
        return True

    def _skip_false(self, name: str) -> None:
        passed = self.macros.skip_branch(self.stream, to_else=True)
        if passed is not None and name == "iffalse":
            self.counts["comments"] += 1

    def _input(self, name: str) -> None:
        stream = self.stream
        if name in ("import", "subimport", "inputfrom", "includefrom", "subinputfrom"):
            stream.star()
            folder, file = stream.argument() or "", stream.argument() or ""
            self.include(posixpath.join(folder, file))
            return
        if stream.next_is("{"):
            file = stream.argument() or ""
        else:  # plain TeX: up to a blank
            frame = stream.skip_space()
            match = _PLAIN_NAME.match(frame.text, frame.pos)
            file = match[0] if match else ""
            frame.pos += len(file)
        if name == "subfile":
            self.counts["subfiles"] += 1
        if file:
            self.include(file)

    def _environment(self) -> None:
        stream = self.stream
        stream.star()
        name = (stream.argument() or "").strip()
        parameters = parameters_of(stream)
        begin, end = stream.argument(), stream.argument()
        if begin is None or end is None or name in names.DISPLAYS or name in PROTECTED_ENVIRONMENTS:
            return
        if begin.strip() in (r"\comment", r"\begin{comment}"):
            self.comment_environments.add(name)
            return
        made, closed = macro(parameters, begin, stream.top.at, flags=self.macros.flags), macro((), end, flags=self.macros.flags)
        if made.kind == "opaque" or closed.kind == "opaque":
            begins = [found for found in _BEGIN.findall(begin) if found in names.DISPLAYS]
            if not begins:
                return
        body = "".join(part for part in closed.body if isinstance(part, str))
        self.environments[name] = Environment(parameters, made.body, body, stream.top.at)

    def begin(self, name: str) -> bool:
        """Put the beginning of an environment of the paper's own onto the stream."""
        found = self.environments.get(name)
        if found is None or not self.macros.allowed(self.stream, name):
            return False
        text = substituted(found.begin, read_arguments(self.stream, found.parameters)) if found.begin else ""
        self.macros.push(self.stream, name, text, found.at)
        return True

    def end(self, name: str) -> bool:
        found = self.environments.get(name)
        if found is None or not self.macros.allowed(self.stream, name):
            return False
        self.macros.push(self.stream, name, found.end, found.at)
        return True

    def _theorem(self, command: str) -> None:
        stream = self.stream
        stream.star()
        if command == "declaretheorem":
            options = stream.optional() or ""
            name = (stream.argument() or "").strip()
            match = _NEWTHEOREM_NAME.search(options)
            self.theorems[name] = match[1].strip("{} ") if match else name.capitalize()
            return
        name = (stream.argument() or "").strip()
        stream.optional()
        title = stream.argument()
        stream.optional()
        if command == "spnewtheorem":
            stream.group()
            stream.group()
        if title is not None:
            self.theorems[name] = without_comments(title).strip()

    def _xparse_test(self, name: str) -> None:
        stream = self.stream
        if not self.macros.may_reread(stream):
            return
        tested = stream.argument()
        holds = boolean(tested) if "Boolean" in name else ((tested or "").strip() == NO_VALUE) == ("NoValue" in name)
        yes = stream.argument() if name[-2:] == "TF" or name[-1] == "T" else ""
        no = stream.argument() if name[-1] == "F" else ""
        self.macros.reread(stream, (yes if holds else no) or "")

    def _if_file_exists(self, name: str) -> None:
        stream = self.stream
        if not self.macros.may_reread(stream):
            return
        file, yes, no = (stream.argument() or "" for _ in range(3))
        found = self.find(file, ("", ".tex"))
        self.macros.reread(stream, yes if found else no)
        if found and name == "InputIfFileExists":
            self.include(file)


_PLAIN_NAME = re.compile(r"[^\s\\{}%$]{1,300}")
_BEGIN = re.compile(r"\\begin\s*\{([^{}]*)\}")
_NOTHING = frozenset(
    {"global", "long", "outer", "protected", "relax", "protect", "unless", "expandafter", "noexpand", "BooleanTrue", "BooleanFalse"}
)
_XPARSE_TESTS = frozenset(f"If{what}{branches}" for what in ("Boolean", "NoValue", "Value") for branches in ("TF", "T", "F"))
COMMON = (
    names.DEFINITIONS
    | _XPARSE_TESTS
    | names.INPUTS
    | names.THEOREM_DEFINITIONS
    | _NOTHING
    | frozenset(
        [
            "newenvironment",
            "renewenvironment",
            "else",
            "or",
            "fi",
            "makeatletter",
            "makeatother",
            "IfFileExists",
            "InputIfFileExists",
            "endinput",
            "ExplSyntaxOn",
            "catcode",
            "ifdef",
            "ifundef",
            "@ifundefined",
            "ifdefmacro",
            "excludecomment",
            "includecomment",
        ]
    )
)
# What a paper says of these is layout: their meaning stays ours.
PROTECTED = (
    COMMON
    | frozenset(names.HEADINGS)
    | names.RUN_IN_HEADINGS
    | names.FRONT
    | names.CITES
    | names.REFERENCES
    | frozenset(names.STYLES)
    | frozenset(
        [
            "begin",
            "end",
            "item",
            "footnote",
            "footnotetext",
            "thanks",
            "caption",
            "label",
            "maketitle",
            "par",
            "href",
            "url",
            "bibliography",
            "bibitem",
            "usepackage",
            "documentclass",
            "includegraphics",
            "multicolumn",
            "text",
            "textrm",
            "mbox",
            "hbox",
            "ensuremath",
            "left",
            "right",
            "frac",
            "sqrt",
            "sum",
            "int",
            "over",
        ]
    )
) - {"bm", "strong", "underline"}
PROTECTED_ENVIRONMENTS = frozenset(
    {"document", "abstract", "figure", "table", "itemize", "enumerate", "description", "tabular", "proof", "thebibliography", "verbatim"}
)
KNOWN = (
    PROTECTED
    | frozenset(names.SYMBOLS)
    | frozenset(names.SKIPPED)
    | frozenset(names.BEFORE_TEXT)
    | names.TRANSPARENT
    | frozenset(names.DECLARED)
    | names.PARAGRAPHS
)
