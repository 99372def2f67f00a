"""The language of a source file: by its name, by its `#!` line or mode line, and by its text where a name is shared.

`detect` looks, in this order, at the exact file name (Makefile), the extension (longest first: `.html.erb` before `.erb`), the same
for the name inside a template's (`config.h.in` is C), the first part of the name (Dockerfile.web), the `#!` line, an Emacs or Vim
mode line, an XML declaration. Extensions that several languages share (`.h`, `.m`, `.pl`, `.v`) are settled by a mode line or `#!`
line, else by patterns over the first 32 KiB of text. Names, extensions and interpreters are those of GitHub's linguist, 660 languages in
`data/languages.tsv`; dialects of SQL are all SQL, and of linguist's last resort, a classifier trained on samples, there is none.
Cost: under 1 µs for a plain extension, up to 1 ms for a shared one. It does not guess a language from text alone.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).parent / "data" / "languages.tsv"
SNIFFED = 32 << 10  # characters of text that patterns see

# Suffixes of templates and samples: what counts is the name before them.
_TEMPLATE_SUFFIXES = frozenset(
    {".in", ".tt", ".tmpl", ".template", ".dist", ".sample", ".example", ".default", ".py-tpl", ".js-tpl", ".html-tpl", ".cmakein"}
)
_NAME_PREFIXES = (
    "Dockerfile",
    "Containerfile",
    "Makefile",
    "Jenkinsfile",
    "Gemfile",
    "README",
    "CHANGELOG",
    "ChangeLog",
    "INSTALL",
    "NEWS",
)
_ALIASES = {
    "cpp": "C++",
    "cperl": "Perl",
    "sh": "Shell",
    "shell-script": "Shell",
    "js": "JavaScript",
    "js2": "JavaScript",
    "make": "Makefile",
}
_ALIASES |= {"gmake": "Makefile", "automake": "Makefile", "autoconf": "M4Sugar", "csharp": "C#", "fsharp": "F#", "objc": "Objective-C"}
_ALIASES |= {
    "lisp": "Common Lisp",
    "elisp": "Emacs Lisp",
    "emacs-lisp": "Emacs Lisp",
    "vim": "Vim Script",
    "tuareg": "OCaml",
    "asm": "Assembly",
}
_ALIASES |= {
    "conf": "INI",
    "dosini": "INI",
    "nroff": "Roff",
    "latex": "TeX",
    "rst": "reStructuredText",
    "caml": "OCaml",
    "python3": "Python",
}

_OBJC = r"^[ \t]*(?:@(?:interface|protocol|class|property|end|implementation|synthesize|import|autoreleasepool)\b|#import[ \t]+[\"<])"
_CPP = (
    r"^[ \t]*(?:template[ \t]*<|(?:inline[ \t]+)?namespace\b[^;\n=]{0,120}$|using[ \t]+(?:namespace\b|\w{1,80}[ \t]*=)"
    r"|class[ \t]{1,9}\w[^;=(){\n]{0,200}[{:]|class[ \t]{1,9}[\w \t]{1,100}$|(?:public|private|protected)[ \t]*:"
    r"|(?:virtual|constexpr|explicit)\b|static_assert[ \t]*\(|enum[ \t]+class\b)"
    r"|^[ \t]*#[ \t]*include[ \t]*<(?:algorithm|array|atomic|cassert|chrono|climits|cmath|complex|cst\w+|deque|exception|fstream|functional"
    r"|initializer_list|iomanip|iosfwd|iostream|istream|iterator|limits|list|locale|map|memory|mutex|numeric|optional|ostream|queue|random|ratio"
    r"|regex|set|sstream|stack|stdexcept|streambuf|string|string_view|system_error|thread|tuple|type_traits|typeinfo|unordered_map|unordered_set"
    r"|utility|variant|vector)>|\bstd::\w"
)
_PERL = (
    r"\A#!.*\bperl|^[ \t]*(?:use[ \t]+(?:strict|warnings|utf8|vars|[A-Z]\w*|v?5)|my[ \t]+[$@%(]|our[ \t]+[$@%(]"
    r"|package[ \t]+[\w:]+[ \t]*;|sub[ \t]+\w)"
)
_RAKU = (
    r"\A#!.*\b(?:raku|perl6)|^[ \t]*(?:use[ \t]+v6|unit[ \t]+(?:module|class|role)|(?:my[ \t]+)?(?:multi|proto)[ \t]+(?:sub|method)"
    r"|grammar[ \t]+\w+[ \t]*\{)"
)
_VERILOG = (
    r"^[ \t]*(?:`(?:timescale|include|define|ifdef|default_nettype)|endmodule|always[ \t]*@|assign[ \t]+\w|module[ \t]+\w+[ \t]*[#(;])"
)
_ROCQ = (
    r"\(\*|^[ \t]*(?:Require|From|Theorem|Lemma|Definition|Inductive|Fixpoint|Proof|Section|Module|Variable|Check|Print|Goal|Set|Import"
    r"|Axiom|Declare)\b"
)
_APEX = (
    r"(?i)\b(?:public|global|private)[ \t]+(?:(?:with|without|inherited)[ \t]+sharing[ \t]+|virtual[ \t]+|abstract[ \t]+)*"
    r"(?:class|interface|enum)\b"
)
_PROLOG = r"^[ \t]*:-|^[a-z]\w*(?:\([^\n]{0,300}\))?[ \t]*(?::-|-->)"
_ROFF = r"\A(?:[.'][ \t]*(?:\\\"|[A-Za-z]{1,3}\b)|'\\\")"

# Extension -> (language, pattern) tried in order; pattern None takes what is left, no None entry leaves it unknown.
_SHARED: dict[str, tuple[tuple[str, str | None], ...]] = {
    ".h": (("Objective-C", _OBJC), ("C++", _CPP), ("C", None)),
    ".hh": (("Hack", r"\A<\?hh"), ("C++", None)),
    ".m": (
        ("Objective-C", _OBJC),
        ("Mercury", r"^:-[ \t]*(?:module|interface|import_module|pred|func)\b"),
        ("Wolfram Language", r"^[ \t]*(?:\(\*|BeginPackage\[|Begin\[|\w{1,40}\[\w{1,40}_[^\n]{0,80}\][ \t]*:?=)"),
        ("M", r"^[ \t]*;"),
        ("MATLAB", r"^[ \t]*(?:function\b|%|classdef\b|end[ \t]*;?[ \t]*$|clc\b|clear\b|disp[ \t]*\(|\w+[ \t]*=[^=\n]*;[ \t]*(?:%.*)?$)"),
        ("Objective-C", r"^[ \t]*(?://|#include|#define)"),
        ("MATLAB", None),
    ),
    ".pl": (("Raku", _RAKU), ("Perl", _PERL), ("Prolog", _PROLOG), ("Perl", None)),
    ".pm": (("X PixMap", r"\A\s*/\* XPM \*/"), ("Raku", _RAKU), ("Perl", None)),
    ".t": (
        ("Raku", _RAKU),
        ("Perl", _PERL),
        ("Cram", r"^  \$ "),
        ("Terra", r"^[ \t]*(?:terra[ \t]+\w+[ \t]*[(:]|local[ \t]+\w+[ \t]*=|require[ \t]*[(\"'])"),
        ("Turing", r"^[ \t]*(?:put[ \t]+|var[ \t]+\w+[ \t]*:|procedure[ \t]+\w+)"),
        ("Perl", r"\b(?:ok|is|plan|done_testing)[ \t]*[(;]|[$@%]\w+"),
    ),
    ".r": (("REBOL", r"\A\s*REBOL\b"), ("R", None)),
    ".rs": (("RenderScript", r"^[ \t]*#pragma[ \t]+(?:rs|version)\b"), ("XML", r"\A\s*<\?xml"), ("Rust", None)),
    ".ts": (("XML", r"\A\s*(?:<\?xml|<!DOCTYPE TS|<TS\b)"), ("TypeScript", None)),
    ".tsx": (("XML", r"\A\s*(?:<\?xml|<tileset\b)"), ("TSX", None)),
    ".v": (
        ("Verilog", _VERILOG),
        ("Rocq Prover", _ROCQ),
        ("V", r"^(?:pub[ \t]+)?(?:fn|struct|enum|const|import|module)\b"),
        ("Verilog", None),
    ),
    ".cls": (
        ("TeX", r"\\(?:ProvidesClass|NeedsTeXFormat|LoadClass|documentclass|newcommand|def\\)"),
        ("VBA", r"^(?:VERSION \d|Attribute VB_)"),
        ("Apex", _APEX),
        ("OpenEdge ABL", r"(?im)^[ \t]*(?:using[ \t]+[\w.*]+\.|class[ \t]+[\w.]+)"),
    ),
    ".inc": (
        ("POV-Ray SDL", r"^[ \t]*#(?:declare|local|macro|while|version)\b"),
        ("PHP", r"<\?(?:php|=)"),
        ("SourcePawn", r"^[ \t]*(?:native[ \t]+\w+|stock[ \t]+\w+|forward[ \t]+\w+|#pragma[ \t]+semicolon)"),
        ("BitBake", r"^(?:SRC_URI|DEPENDS|LICENSE|RDEPENDS\w*|inherit|PN|PV)\b"),
        ("Assembly", r"(?i)^[ \t]*(?:\.(?:macro|equ|globl|text|section)\b|%(?:define|macro|include)\b|\w+[ \t]+(?:equ|proc|macro)\b)"),
        ("C++", _CPP),
        ("C", r"^[ \t]*(?:#[ \t]*(?:include|define|if|ifdef|ifndef)\b|(?:static|const|extern|struct|typedef)\b)"),
        ("Pascal", r"(?i)^[ \t]*(?:\{\$|procedure\b|function\b|unit\b|const\b|var\b|implementation\b)"),
    ),
    ".bas": (("VBA", r"^(?:VERSION \d|Attribute VB_)"), ("BASIC", None)),
    ".bb": (("BitBake", r"^(?:SRC_URI|DEPENDS|LICENSE|SUMMARY|DESCRIPTION|inherit|require)\b"), ("Clojure", r"\A(?:#!|[ \t]*[;(])")),
    ".cl": (
        ("OpenCL", r"\b(?:__kernel|kernel|__global|__local)\b|^[ \t]*#(?:pragma|define|include)\b"),
        ("Common Lisp", r"^[ \t]*[;(]"),
        ("OpenCL", None),
    ),
    ".cs": (("Smalltalk", r"^![\w :]+(?:methodsFor|subclass|class)\b|^Object subclass:"), ("C#", None)),
    ".d": (
        ("DTrace", r"^(?:\w+:\w*:\w*:\w*|BEGIN|END|provider[ \t]+\w+|#pragma[ \t]+D[ \t]+\w+)[ \t]*(?:$|[/{,])"),
        ("D", r"^[ \t]*(?:module|import)[ \t]+[\w.]+|^[ \t]*(?:unittest|version[ \t]*\(|void main)"),
        ("Makefile", r"\A[^\n:]{1,200}\.(?:o|lo|obj|d)\b[^\n:]{0,200}:"),
        ("D", None),
    ),
    ".f": (("Forth", r"^: [^\s]+"), ("Fortran", None)),
    ".for": (("Forth", r"^: [^\s]+"), ("Fortran", None)),
    ".fs": (("Forth", r"^: [^\s]+[ \t]+\("), ("GLSL", r"^[ \t]*(?:#version\b|precision[ \t]+\w+p|uniform\b|varying\b)"), ("F#", None)),
    ".gd": (
        ("GAP", r"^[ \t]*(?:DeclareOperation|DeclareGlobalFunction|DeclareAttribute|DeclareCategory|BindGlobal)\b"),
        ("GDScript", None),
    ),
    ".l": (("Lex", r"^%%|^%\{"), ("Roff", _ROFF), ("Common Lisp", r"^[ \t]*[;(]")),
    ".ll": (("Lex", r"^%%|^%\{"), ("LLVM", None)),
    ".md": (("GCC Machine Description", r"^\(define_(?:insn|expand|split|peephole2?|attr|constants?)\b"), ("Markdown", None)),
    ".ms": (("Roff", _ROFF), ("MAXScript", r"(?i)^[ \t]*(?:fn|function|rollout|struct|macroscript|local|global)\b|--")),
    ".n": (("Roff", _ROFF), ("Nemerle", r"^[ \t]*(?:using|namespace|module|class)\b")),
    ".p": (
        ("Gnuplot", r"^[ \t]*(?:set[ \t]+(?:term|output|title|xlabel|style)\w*|s?plot[ \t])"),
        ("OpenEdge ABL", r"(?i)^[ \t]*(?:define|procedure|for each|find first)\b"),
    ),
    ".php": (("Hack", r"\A(?:#!.*\n)?<\?hh"), ("PHP", None)),
    ".plt": (("Prolog", _PROLOG), ("Gnuplot", None)),
    ".pp": (
        (
            "Puppet",
            r"^[ \t]*(?:class[ \t]+[\w:]+[ \t]*[({]|define[ \t]+[\w:]+|node[ \t]+|include[ \t]+[\w:]+[ \t]*$|\w+[ \t]*\{[ \t]*['\"$])",
        ),
        ("Pascal", None),
    ),
    ".pro": (
        ("QMake", r"^[ \t]*(?:TEMPLATE|SOURCES|HEADERS|QT|CONFIG|TARGET|SUBDIRS|INCLUDEPATH|DEFINES)\b[ \t]*[-+*]?="),
        ("Prolog", _PROLOG),
        ("IDL", r"(?i)^[ \t]*(?:pro|function|compile_opt)\b"),
    ),
    ".sc": (("SuperCollider", r"^[ \t]*(?:\+[ \t]*)?[A-Z]\w*[ \t]*(?::[ \t]*[A-Z]\w*)?[ \t]*\{|\bSynthDef\b"), ("Scala", None)),
    ".al": (
        ("Perl", r"\bsub[ \t]+\w+|^(?:package|1;)|AutoSplit"),
        ("AL", r"(?i)^[ \t]*(?:table|page|codeunit|report|query|enum|interface)(?:extension)?[ \t]+\d*"),
    ),
    # Extensions that are as often something else: a file must look like the language.
    ".test": (("Tcl", r"^[ \t]*(?:proc|source|set|namespace eval|package require|do_execsql_test|start_server|test)[ \t]+[\w:\"\[{$]"),),
    ".asc": (("AsciiDoc", r"^(?:=+ \S|\[\[|:[\w-]+:|----+$)"),),
    ".me": (("Roff", _ROFF),),
    ".e": (("Eiffel", r"(?m)^[ \t]*(?:class|deferred class|feature|inherit|note|indexing)\b"),),
    ".i": (
        ("SWIG", r"^[ \t]*%(?:module|include|import|inline|typemap|extend|template|\{)"),
        ("Assembly", r"^[ \t]*\.(?:text|globl|macro)\b"),
    ),
    ".w": (("OpenEdge ABL", r"(?i)^[ \t]*(?:&ANALYZE-SUSPEND|&SCOPED-DEFINE|DEFINE[ \t]+\w+)"),),
    ".mod": (("Modula-2", r"^[ \t]*(?:(?:IMPLEMENTATION|DEFINITION)[ \t]+)?MODULE[ \t]+\w+"),),
    ".mo": (("Modelica", r"^[ \t]*(?:within|model|package|class|block|function|connector|partial)\b"),),
    ".do": (("Stata", r"^[ \t]*(?:\*|use|gen|generate|reg|regress|clear|set|local|global|foreach|forvalues|program|quietly|display)\b"),),
    ".res": (("ReScript", r"^[ \t]*(?:let|type|module|open|@\w+|external)\b"),),
    ".re": (("Reason", r"^[ \t]*(?:let|type|module|open|switch|external)\b"), ("C++", r"/\*!re2c")),
    ".ins": (("TeX", r"\\"),),
    ".vs": (("GLSL", r"^[ \t]*(?:#version\b|attribute\b|uniform\b|varying\b|void main|in[ \t]+\w+|layout[ \t]*\()"),),
    ".sp": (("SourcePawn", r"^[ \t]*(?:#include|#pragma|public|stock|native|new)\b"),),
    ".st": (("Smalltalk", r"^!|\bsubclass:|^[ \t]*\"|\^[ \t]*self"),),
    ".tpl": (("Smarty", r"\{\*|\{(?:if|foreach|include|block|extends|/?literal|\$)"), ("Smarty", r"<[a-z!]")),
    ".service": (("INI", r"^\["),),
    ".desktop": (("INI", r"^\["),),
    **{f".{section}": (("Roff", _ROFF),) for section in ("1", "2", "3", "4", "5", "6", "7", "8", "9", "1m", "3pm", "3x")},
}

_SCRIPTS = frozenset({".cgi", ".fcgi", ".script", ".tool", ".wsgi"})  # what runs them, their first line says
_FOR_CPP = re.compile(
    r"^[ \t]*#[ \t]*if(?:def)?[ \t(]*(?:defined[ \t(]*)?__cplusplus\b.{0,4000}?^[ \t]*#[ \t]*(?:endif|else)\b", re.MULTILINE | re.DOTALL
)
_SHEBANG = re.compile(r"\A#![ \t]*(\S+)([^\n]*)")
_EXEC = re.compile(r"^[ \t]*exec[ \t]+(?:\S*/)?(\w+)", re.M)
_MODE = re.compile(r"-\*-[ \t]*(?:.*?\bmode:[ \t]*)?([\w+#-]+)[ \t]*(?:;.*)?-\*-|\b(?:vim?|ex):.*?\b(?:ft|filetype|syntax)=(\w+)", re.I)


class _Table(NamedTuple):
    types: dict[str, str]  # language -> programming, markup, data, prose
    extensions: dict[str, str]  # extension -> language; of a shared one, the first in the table
    file_names: dict[str, str]
    interpreters: dict[str, str]
    aliases: dict[str, str]  # lower-case mode name -> language


@functools.cache
def _table() -> _Table:
    table = _Table({}, {}, {}, {}, dict(_ALIASES))
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        name, table.types[name], *lists = line.split("\t")
        table.aliases.setdefault(name.lower(), name)
        table.aliases.setdefault(name.lower().replace(" ", "-"), name)
        for names, known in zip(lists, (table.extensions, table.file_names, table.interpreters), strict=True):
            for entry in names.split():
                known.setdefault(entry, name)
    return table


@functools.cache
def _patterns(extension: str) -> tuple[tuple[str, re.Pattern[str] | None], ...]:
    return tuple((language, re.compile(pattern, re.MULTILINE) if pattern else None) for language, pattern in _SHARED[extension])


def names() -> frozenset[str]:
    return frozenset(_table().types)


def type_of(language: str) -> str:
    """`programming`, `markup`, `data` or `prose`; KeyError for an unknown language."""
    return _table().types[language]


def by_alias(word: str) -> str | None:
    """The language that an editor, a notebook's kernel or a table calls so; None = unknown."""
    return _table().aliases.get(word.strip().lower())


def detect(path: str, text: str) -> str | None:
    """The language of the file at `path` (its last part counts) with the text `text`; None = unknown."""
    name = path.rpartition("/")[2]
    found = _by_name(name, text)
    if found is None:
        found = _by_said(text)
    if found is None and "." not in name.lstrip(".") and text.lstrip()[:5] == "<?xml":
        found = "XML"
    return found


def _by_said(text: str) -> str | None:
    """By what the text says of itself: a `#!` line or an editor's mode line."""
    head = text[:2048]
    if not (head.startswith("#!") or "-*-" in head or "vim:" in head or "vi:" in head or "ex:" in head):
        return None
    return _by_shebang(text) or _by_mode(text)


def _by_name(name: str, text: str) -> str | None:
    table = _table()
    if found := table.file_names.get(name):
        return found
    dot = name.rfind(".")
    if dot >= 0:
        extension = name[dot:]
        before = name.rfind(".", 0, dot)
        if before > 0 and (found := table.extensions.get(name[before:].lower())):
            return found
        lower = extension.lower()
        if lower in _SHARED:
            said = _by_said(text)
            return said if any(said == language for language, _ in _SHARED[lower]) else _by_text(lower, text)
        if lower in _SCRIPTS and (found := _by_said(text)):
            return found
        if found := table.extensions.get(extension) or table.extensions.get(lower):
            return found
        if lower in _TEMPLATE_SUFFIXES and dot > 0:
            inner = lower.removesuffix("-tpl") if lower.endswith("-tpl") else ""
            return _by_name(name[:dot] + inner, text)
    return next((table.file_names[p] for p in _NAME_PREFIXES if name.startswith(p) and name[len(p) : len(p) + 1] in (".", "-", "_")), None)


def _by_text(extension: str, text: str) -> str | None:
    head = text[:SNIFFED]
    if extension == ".h":
        head = _FOR_CPP.sub("", head)  # a C header's part for C++ compilers
    return next((language for language, pattern in _patterns(extension) if pattern is None or pattern.search(head)), None)


def _by_shebang(text: str) -> str | None:
    match = _SHEBANG.match(text[:512])
    if not match:
        return None
    program, rest = match[1].rpartition("/")[2], match[2]
    if program == "env":
        # `env -S VAR=1 python3 -u`: the first word that is neither option nor assignment
        program = next((word for word in rest.split() if not word.startswith("-") and "=" not in word), "").rpartition("/")[2]
    if program == "sh" and (run := _EXEC.search(text[:1024])) and run[1] in _table().interpreters:
        program = run[1]  # the classic `#!/bin/sh` that runs the file again by tclsh or wish
    known = _table().interpreters
    return known.get(program) or known.get(program.rstrip("0123456789.-"))


def _by_mode(text: str) -> str | None:
    head = "\n".join(text[:2048].split("\n", 5)[:5])
    match = _MODE.search(head)
    return _table().aliases.get((match[1] or match[2]).lower()) if match else None
