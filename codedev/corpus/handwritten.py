"""Whether a source file was written by people for this project: vendored, generated, minified, locked and binary files are not.

Each rule gives its evidence, and errs on the side of keeping: a marker counts only in a comment near the top and not inside a string
(a generator's template is source), `vendor/` is a package's own word in `app/models/vendor/`, and a library's bundled file is its own
source in that library's repository. Cost: about 1 µs for a path, 3 µs for a text without markers.
"""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).parent / "data" / "handwritten.toml"
HEAD = 4096  # characters in which a generator says its name


class _Names(NamedTuple):
    binary_extensions: frozenset[str]
    lock_files: frozenset[str]
    vendored_folders: frozenset[str]
    own_words: frozenset[str]
    tool_files: frozenset[str]
    bare_libraries: frozenset[str]
    library_file: re.Pattern[str]


@functools.cache
def _names() -> _Names:
    table = {key: frozenset(words.split()) for key, words in tomllib.loads(TABLE.read_text(encoding="utf-8")).items()}
    library = re.compile(
        rf"(?P<library>{'|'.join(sorted(map(re.escape, table.pop('libraries')), reverse=True))})"
        r"(?:[-.](?:ui|core|all|theme|slim|bundle|full|custom|dom|migrate|form|validate|cookie|layout|tools|pjax|hotkeys|mousewheel|easing|js))*"
        r"(?P<version>[-.]v?\d+(?:\.\d+)*(?:[-.]?(?:rc|beta|alpha)\d*)?)?(?P<minified>[-.](?:min|pack|prod|production|slim))*\.(?:js|mjs|css)",
        re.IGNORECASE,
    )
    return _Names(library_file=library, **table)


def binary_extension(name: str) -> str | None:
    """The extension when its content is never text."""
    dot = name.rfind(".")
    return name[dot:] if dot >= 0 and name[dot:].lower() in _names().binary_extensions else None


def lock_file(name: str) -> str | None:
    return name if name.lower() in _names().lock_files else None


def vendored(path: str, repository: str) -> str | None:
    """The part of the path that says the file was taken over from another project. `path` is relative to the repository."""
    names = _names()
    *folders, name = path.split("/")
    for depth, folder in enumerate(folders):
        if folder.lower() in names.vendored_folders or (depth == 0 and folder == "deps"):  # at the root of Erlang, Elixir, C projects
            return folder
        if folder in ("vendor", "vendors") and names.own_words.isdisjoint(folders[:depth]):
            return folder
    if name in names.tool_files:
        return name
    if name.endswith((".js", ".css", ".mjs")) and (found := names.library_file.fullmatch(name)):
        library = found["library"].lower()
        own = repository.rpartition("/")[2].lower().startswith(library)
        if not own and (found["version"] or found["minified"] or library in names.bare_libraries):
            return name
    return None


# Folders of what tests read and compare with, where a test's folder holds them.
_TEST_DATA = re.compile(
    r"(?:.*/)?(?:testdata|test[-_]data|__fixtures__|__snapshots__|(?:[Tt]ests?|[Ss]pecs?|__tests__)/(?:[^/]+/){0,8}?"
    r"(?:fixtures?|golden|goldens|data|resources|testcases|corpus|snapshots|expected|samples))/.*"
)


def test_data(path: str) -> str | None:
    """The folder that says the file is an input or an expected output of tests."""
    if "est" not in path and "pec" not in path and "__" not in path:
        return None
    return path.rpartition("/")[0] if _TEST_DATA.fullmatch(path) else None


# Generated: by name, then by what the head says.

_GENERATED_NAMES = re.compile(
    r".*(?:_pb2(?:_grpc)?\.pyi?|\.pb\.(?:go|cc|h|gw\.go|swift|validate\.go)|_pb\.(?:js|d\.ts|rb)|\.(?:g|freezed|gr|mocks)\.dart"
    r"|\.[Dd]esigner\.(?:cs|vb)|\.feature\.cs|\.zep\.(?:c|h|php)|_TLB\.pas|\.g\.(?:i\.)?cs|\.(?:js|css|ts|mjs|cjs)\.map"
    r"|\.snap|\.pbxproj|\.xcworkspacedata|\.xcuserstate)"
    r"|zz_generated\..*\.go|moc_.*\.cpp|qrc_.*\.cpp|\.pnp\.(?:loader\.)?[cm]?js|(?:Julia)?Manifest(?:-v[\d.]+)?\.toml|mise\.(?:.+\.)?lock"
)
_GENERATED_FOLDERS = ("/__generated__/", "/htmlcov/", "/.idea/", "/.sqlx/query-")
# What opens a comment or goes on with one; lines of these alone, and the few below, may stand before the marker.
_COMMENT = re.compile(
    r"\s*(?:/[/*]+!?|\*+(?!\w)|#+!?|--+|;+|%+|<!--|\(\*|\{-+|'|!|\.\\\"|dnl\b|rem\b|@rem\b|<#|\{#|<%#|<%--|=begin|--\[\[)", re.IGNORECASE
)
_BLOCKS = (("/*", "*/"), ("<!--", "-->"), ("(*", "*)"), ("{-", "-}"), ("=begin", "=end"), ("--[[", "]]"), ("<#", "#>"), ("<%--", "--%>"))
_PREAMBLE = re.compile(
    r"\s*(?:<\?(?:php|xml)\b.*|package\b.*|[\"']use strict[\"'];?|<!DOCTYPE.*|<html.*|syntax\s*=.*|---|%YAML.*|@echo off)?\s*",
    re.IGNORECASE,
)
_SUBJECT = (
    r"(?:file|code|script|source|class|module|header|document|page|program|schema|parser|lexer|scanner|makefile|manifest|stub|binding)s?"
)
_HOW = r"(?:auto(?:matically)?|machine|programmatically|mechanically)?[ -]?generated"
# Said at the beginning of a line of the comment: in the middle of a sentence the word is about something else.
_SAYS = re.compile(
    r"\W*(?:(?i:warning|note|attention|caution|important)\W+)?(?:"
    rf"(?i:(?:this|the following|the) (?:[\w.+/-]{{1,60}} ){{0,2}}?{_SUBJECT} (?:is|was|has been|were|are)(?: being)? (?:an? )?{_HOW}\b"
    r"(?! (?:when|if|once|at run)))"
    rf"|(?i:(?:code|file|source|parser|lexer) {_HOW} (?:by|from|with)\b)|(?i:this is an? {_HOW} {_SUBJECT}\b)"
    rf"|(?i:[\w/-]{{1,60}}\.[\w.-]{{1,40}}\W{{1,5}}{_HOW} (?:by|from|automatically)\b)"
    r"|(?:Generated|GENERATED)\b(?=.{0,80}\b(?:by|BY|from|FROM|CODE|FILE|with|using|automatically)\b)"
    r"|(?i:generated automatically (?:by|from)\b)"
    r"|(?i:(?:auto|machine|automatically|programmatically)[ -]?generated\b(?=\W*(?:$|(?:by|from|file|code|with|on|using|do not)\b)))"
    r"|(?i:A Bison parser, made by|A lexical scanner generated by|created by (?:JavaCC|JTB|JFlex)\b|<auto-generated))"
)
_TAG = re.compile(r"(?:^|[\s*/#])@(?:partially-)?generated\b(?!\()")
_NO_EDIT = re.compile(
    r"\bdo not (?:hand[- ]?)?(?:edit|modify|change)\b|\bdon't edit\b|\bchanges (?:\w+ ){0,4}will be (?:lost|overwritten)", re.IGNORECASE
)
# Scaffolds are generated once and then written by people.
_SCAFFOLD = re.compile(
    r"Generated by Django|django-admin|rspec --init|quickstart|yeoman|cookiecutter|create-react-app|vue-cli|angular cli|\bmix new|cargo new"
    r"|`?rails |eslint --init|tsc --init|jekyll new|npm init|gradle init",
    re.IGNORECASE,
)
_GENERATOR_META = re.compile(r"<meta\b[^>]{0,80}\bgenerator\b[^>]{0,120}>|<!-- Generated by javadoc|<!-- Creator +: groff", re.IGNORECASE)
_LINE_MARKER = re.compile(r"\A\s*/\*  GIMP (?:header|RGBA?) .{1,80}|\A#line 1 \"|\A-file\(\"[^\"]*(?:yeccpre|leexinc)\.hrl\"")
_BUNDLER = re.compile(r"^var __defProp = Object\.defineProperty;$|^var __commonJS = |webpackBootstrap$", re.MULTILINE)
_COMPILED = re.compile(r"^//[#@] sourceMappingURL=(?!data:)\S+\s*\Z|^/\*# sourceMappingURL=(?!data:)\S+ \*/\s*\Z", re.MULTILINE)
_SCRIPTS = frozenset({"JavaScript", "TypeScript", "CSS"})


def generated_name(path: str) -> str | None:
    """The path, if its name or a folder says that a program wrote it."""
    if _GENERATED_NAMES.fullmatch(path.rpartition("/")[2]):
        return path
    below = f"/{path}"
    for folder in _GENERATED_FOLDERS:
        if folder in below:
            return path
    return None


def generated(text: str, language: str) -> str | None:
    """What a program wrote into the file to say that it made it, at most 120 characters; None for a file without such a marker."""
    head = text[:HEAD]
    lower = head.lower()
    if ("generated" in lower or "not edit" in lower or "not modify" in lower or "a bison" in lower or "created by" in lower) and (
        marker := _marker(head)
    ):
        return marker
    if match := _LINE_MARKER.search(head):
        return match[0][:120]
    if language in _SCRIPTS:
        if match := _COMPILED.search(text, max(0, len(text) - 300)):
            return match[0].strip()[:120]
        if language == "JavaScript" and (match := _BUNDLER.search(head)):
            return match[0]
    elif language == "HTML" and (match := _GENERATOR_META.search(head)):
        return match[0][:120]
    return None


def _marker(head: str) -> str | None:
    """The line of the leading comment that says so."""
    said: list[str] = []  # lines of the leading comment
    closes = ""  # what ends the block comment that is open
    for line in head.split("\n")[:80]:
        if closes:
            said.append(line)
            closes = "" if closes in line else closes
        elif _COMMENT.match(line):
            said.append(line)
            opened = next(((start, end) for start, end in _BLOCKS if start in line), None)
            closes = opened[1] if opened and opened[1] not in line.partition(opened[0])[2] else ""
        elif not _PREAMBLE.fullmatch(line):
            break
    forbids = next((line for line in said if _NO_EDIT.search(line)), None)
    for before, line in zip(["", *said], said, strict=False):
        if "enerated" not in line and "ENERATED" not in line and "made by" not in line and "reated by" not in line:
            continue
        first = next((letter for letter in line if letter.isalpha()), "")
        goes_on = first.islower() and (before[-1:].isalpha() or before[-1:] == ",")  # the rest of a sentence
        if ((not goes_on and _SAYS.match(line)) or _TAG.search(line)) and not _SCAFFOLD.search(line):
            return line.strip()[:120]
    if forbids and any("generated" in line.lower() or "will be lost" in line.lower() or "overwritten" in line.lower() for line in said):
        return forbids.strip()[:120]
    return None


# Minified.

_MINIFIABLE = frozenset({"JavaScript", "CSS", "TypeScript", "SCSS", "Less", "JSX", "TSX"})
_MIN_NAME = re.compile(r".*[-._]min\.(?:js|css|mjs|cjs|html|map)", re.IGNORECASE)
MEAN_LINE = 110  # characters; linguist's bound for scripts
_EMBEDDED = re.compile(r"[A-Za-z0-9+/=_-]{200,}")
_BLANKS = 0.08  # share of white space: minified scripts lie at 0.01 to 0.07, written ones at 0.1 to 0.4


def minified(name: str, text: str, language: str) -> dict[str, object] | None:
    """The figures of a script whose white space was taken out: mean line length and the share of white space."""
    if _MIN_NAME.fullmatch(name):
        return {"name": name}
    if language not in _MINIFIABLE or len(text) < 1000 or len(text) <= MEAN_LINE * (text.count("\n") + 1):
        return None
    code = _EMBEDDED.sub("", text)  # an image or a WebAssembly module inside a written script
    mean = len(code) / (code.count("\n") + 1)
    sample = code[:65536]
    blanks = sum(map(sample.count, " \t\n\r")) / max(1, len(sample))
    return {"mean_line": round(mean, 1), "blanks": round(blanks, 3), "bound": MEAN_LINE} if mean > MEAN_LINE and blanks < _BLANKS else None


def is_prose(text: str) -> bool:
    """Whether a plain text reads like sentences rather than like a table or a list of words, by its first 64 KiB."""
    sample = text[:65536]
    letters = sum(map(str.isalpha, sample)) / len(sample)
    # Sentences have a blank to 5 or 6 letters, unless written in a script without blanks.
    return letters > 0.5 and (sample.count(" ") / len(sample) > 0.08 or sum(map(str.isascii, sample)) / len(sample) < 0.7)
