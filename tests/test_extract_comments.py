# ruff: noqa: E501  source code in strings
"""Comments and docstrings: against Python's own tokenizer and parser, against Pygments, and against inputs made to break a parser."""

from __future__ import annotations

import ast
import inspect
import io
import random
import re
import sys
import time
import tokenize
import warnings
from pathlib import Path

import pytest

from codedev._errors import InputError
from codedev.corpus.extract.comments import find as under_test
from codedev.corpus.extract.comments import pygments as comments_pygments
from codedev.corpus.extract.comments import text as comments_text
from codedev.corpus.extract.comments.find import spans
from codedev.corpus.languages import detect

pytest.importorskip("tree_sitter")

GRAMMARS = sorted(set(under_test._table()) - {"OCaml interface"})

# language -> source, (kind, name, signature, text) of every docstring, number of comments that are not docstrings' own
SAMPLES: dict[str, tuple[str, list[tuple[str, str, str, str]]]] = {
    "Python": (
        '#!/bin/x\n"""Mod."""\n@dec\nclass A(B):  # c\n    # d\n    """Cls.\n\n    more\n    """\n    async def f(self, x: int = 1) -> str:\n'
        '        r"""F \\d."""\n        "no"\n    def g(self): "g" "doc"; return 1\ndef h():\n    b"no"\ndef i():\n    f"no"\n',
        [
            ("module", "", "", "Mod."),
            ("class", "A", "@dec class A(B)", "Cls.\n\nmore"),
            ("method", "A.f", "async def f(self, x: int = 1) -> str", "F \\d."),
            ("method", "A.g", "def g(self)", "gdoc"),
        ],
    ),
    "JavaScript": (
        "/** licence */\n\n/* no */\n/**\n * Cls.\n *   in\n */\nexport default class A extends B {\n  /** m */\n  static foo(x) { return 1 }\n}\n"
        "/** d */\nexport const f = (a) => a;\n/** e */\nexports.h = function (a) {}\nconst o = {\n  /** p */ // eslint\n  q: function() {} };\n",
        [
            ("class", "A", "export default class A extends B", "Cls.\n  in"),
            ("method", "A.foo", "static foo(x)", "m"),
            ("function", "f", "export const f = (a)", "d"),
            ("function", "exports.h", "exports.h = function (a)", "e"),
        ],
    ),
    "TypeScript": (
        "/** i */\nexport interface I {\n  /** x */\n  x(a: number): string\n}\n/** g */\nexport abstract class C<T> {\n /** n */\n private n() {}\n}\n",
        [
            ("type", "I", "export interface I", "i"),
            ("method", "I.x", "x(a: number): string", "x"),
            ("class", "C", "export abstract class C<T>", "g"),
            ("method", "C.n", "private n()", "n"),
        ],
    ),
    "TSX": ("/** v */\nexport function V(): X { return <p>/* no */</p> }\n", [("function", "V", "export function V(): X", "v")]),
    "C": (
        "/** d */\nstatic inline int *foo(int a) { return 0; }\n/* no */\nint bar(void);\n/// s1\n/// s2\nstruct s {\n int x; /**< no */\n};\n"
        "/*! t */\ntypedef struct { int y; } t;\n",
        [
            ("function", "foo", "static inline int *foo(int a)", "d"),
            ("type", "s", "struct s", "s1\ns2"),
            ("type", "t", "typedef struct", "t"),
        ],
    ),
    "C++": (
        "namespace a::b {\n/// doc\ntemplate <typename T>\nclass C : public D {\n public:\n  /** v */\n  virtual void v() = 0;\n};\n"
        "/** m */\nint C::m() const noexcept {}\n}\n",
        [
            ("class", "a::b::C", "template <typename T> class C : public D", "doc"),
            ("method", "a::b::C::v", "virtual void v() = 0", "v"),
            ("function", "a::b::C::m", "int C::m() const noexcept", "m"),
        ],
    ),
    "Java": (
        "/** a */\n@Deprecated\npublic final class A<T> {\n  /** m\n   * @param a b */\n  @Override public int m(int a) throws X { }\n}\n",
        [
            ("class", "A", "@Deprecated public final class A<T>", "a"),
            ("method", "A.m", "@Override public int m(int a) throws X", "m\n@param a b"),
        ],
    ),
    "Go": (
        "// no\n\n// Package p does\npackage p\n\n// M m\n//\n//go:noinline\nfunc (t *T[K]) M(a int) (b int) { return } // trailing\nfunc N() {}\n"
        "// T t\ntype T struct {\n\t// X x\n\tX int\n}\n",
        [
            ("module", "p", "package p", "Package p does"),
            ("method", "T.M", "func (t *T[K]) M(a int) (b int)", "M m"),
            ("type", "T", "type T struct", "T t"),
            ("value", "T.X", "X int", "X x"),
        ],
    ),
    "Rust": (
        "//! inner\n//! two\n\n/// doc\n/// # Examples\n#[derive(A)]\npub struct S<T> {\n    /// f\n    x: T,\n}\nimpl<T> S<T> {\n    /** m */\n"
        "    pub fn m(&self) -> T { }\n}\nmod m {\n    //! in\n    // no\n    fn q() {}\n}\n",
        [
            ("module", "", "", "inner\ntwo"),
            ("type", "S", "pub struct S<T>", "doc\n# Examples"),
            ("value", "S::x", "x: T", "f"),
            ("method", "S::m", "pub fn m(&self) -> T", "m"),
            ("module", "m", "mod m", "in"),
        ],
    ),
    "Ruby": (
        "# frozen_string_literal: true\n\n# m\nmodule A\n  # c\n  #   in\n  class B < C\n    # s\n    private def self.bar(a)\n    end\n  end\nend\n__END__\n# no\n",
        [
            ("module", "A", "module A", "m"),
            ("class", "A::B", "class B < C", "c\n  in"),
            ("method", "A::B::bar", "private def self.bar(a)", "s"),
        ],
    ),
    "PHP": (
        "<html><?php\n/** c */\n#[Attr]\nfinal class C extends D {\n  /** m */\n  public static function m(int $a): int { }\n}\n# no\nfunction f() {}\n",
        [("class", "C", "#[Attr] final class C extends D", "c"), ("method", "C\\m", "public static function m(int $a): int", "m")],
    ),
    "C#": (
        'namespace N.M {\n  /// <summary>\n  /// See <see cref="X"/> &lt;b\n  /// </summary>\n  [Attr]\n  public class C<T> : D {\n    /// <summary>m</summary>\n'
        "    public int M(int a) => 1;\n  }\n}\n",
        [("class", "N.M.C", "[Attr] public class C<T> : D", "See X <b"), ("method", "N.M.C.M", "public int M(int a)", "m")],
    ),
    "Scala": (
        "/** o */\nobject O {\n  /** d */\n  def f[T](x: Int): Int = 1\n  // no\n  val v = 2\n}\n",
        [("class", "O", "object O", "o"), ("method", "O.f", "def f[T](x: Int): Int", "d")],
    ),
    "Shell": ('#!/bin/sh\n# f\n# g\nfoo() { echo "a # b"; }\n\n# no\n\nbar() { :; }\n', [("function", "foo", "foo()", "f\ng")]),
    "Haskell": (
        "{-# LANGUAGE X #-}\n-- | Module doc\nmodule A.B where\n-- | f does\n-- more\nf :: Int -> Int\nf 0 = 1\nf x = x\n-- no\ng = 1\n{-| t -}\ndata T = A | B\n",
        [
            ("module", "A.B", "module A.B", "Module doc"),
            ("function", "f", "f :: Int -> Int", "f does\nmore"),
            ("type", "T", "data T = A | B", "t"),
        ],
    ),
    "OCaml": (
        "(** m *)\nlet f x = x\n\n(* no *)\nlet g = 1\n\ntype t\n(** after *)\n\nmodule M = struct\n  (** in *)\n  let h = 2\nend\n",
        [
            ("function", "f", "let f x = x", "m"),
            ("type", "t", "type t", "after"),
            ("function", "M.h", "let h = 2", "in"),
        ],
    ),
    "Julia": (
        '"""\nmodule doc\n"""\nmodule A\n"f doc"\nfunction f(x::Int)::Int\n 1 end\nx = "no"\n"g"\ng(x) = 2\nend\n# c\n',
        [
            ("module", "A", "module A", "module doc"),
            ("function", "A.f", "function f(x::Int)::Int", "f doc"),
            ("function", "A.g", "g(x) = 2", "g"),
        ],
    ),
    "Lua": (
        "--- doc\n-- more\nlocal function f(a) end\n--[[ block ]]\nfunction M:g(a) end\n",
        [("function", "f", "local function f(a) end", "doc\nmore"), ("function", "M:g", "function M:g(a) end", "block")],
    ),
    "Kotlin": (
        "/** c */\n@A\nclass C<T>(val x: Int) : D() {\n  /** f */\n  fun f(a: Int): Int = 1\n}\n",
        [("class", "C", "@A class C<T>(val x: Int) : D()", "c"), ("method", "C.f", "fun f(a: Int): Int = 1", "f")],
    ),
    "Elixir": (
        'defmodule A.B do\n  @moduledoc """\n  mod\n    in\n  """\n  @doc "f \\"doc\\""\n  @doc since: "1"\n  @spec f(a) :: b\n  def f(0), do: 1\n  def f(a) when a do\n   1\n'
        "  end\n  @doc false\n  def g, do: 1\n  @doc ~S'''\n  sig \\d\n  '''\n  defmacro h(x), do: x\n  # c\nend\n",
        [
            ("module", "A.B", "defmodule A.B", "mod\n  in"),
            ("function", "A.B.f", "def f(0), do: 1", 'f "doc"'),
            ("function", "A.B.h", "defmacro h(x), do: x", "sig \\d"),
        ],
    ),
    "Swift": (
        "/// c\n/// d\npublic class C: D {\n  /// f\n  public func f(a: Int) -> Int { 1 }\n  /* no */\n  init() {}\n}\n",
        [("class", "C", "public class C: D", "c\nd"), ("method", "C.f", "public func f(a: Int) -> Int", "f")],
    ),
    "HTML": ("<!-- a --><p>x</p>", []),
    "CSS": ("/* a */ p { color: red }", []),
}


@pytest.mark.parametrize("language", sorted(SAMPLES))
def test_docstrings_of_every_grammar(language: str) -> None:
    source, expected = SAMPLES[language]
    for text in (source, source.replace("\n", "\r\n")):
        data = text.encode()
        found = spans(data, language)
        assert found is not None
        assert found.parser == "tree-sitter"
        assert found.errors == 0
        if text is not source and language in ("Julia", "Haskell"):
            continue  # whose grammars end lines at \n alone
        assert [(doc.kind, doc.name, doc.signature, doc.text) for doc in found.docstrings] == expected
        assert found.comments
        for doc in found.docstrings:
            assert doc.text[0] in data[slice(*doc.span)].decode()
            assert re.split(r"[.:\\]", doc.name)[-1] in data[slice(*doc.code)].decode()


def test_every_grammar_has_a_sample() -> None:
    assert set(SAMPLES) | {"JSX", "Cuda", "HTML+PHP"} == set(GRAMMARS)
    assert len(SAMPLES) >= 15


@pytest.mark.parametrize(
    ("language", "source", "expected"),
    [
        ("Perl", "#!/usr/bin/perl\nmy $x = '# no'; # yes\n", ["#!/usr/bin/perl", "# yes"]),
        ("R", 'x <- "# no" # yes\n', ["# yes"]),
        ("SQL", "select '--no' -- yes\n/* and */", ["-- yes", "/* and */"]),
        ("Fortran", "program a ! yes\nend\n", ["! yes"]),
        ("Pascal", "{ yes } begin (* and *) end. // too\n", ["{ yes }", "(* and *)", "// too"]),
        ("Erlang", '-module(a). % yes\nf() -> "% no".\n', ["% yes"]),
        ("Clojure", '(f "; no") ; yes\n', ["; yes"]),
        ("Makefile", "a: b # yes\n\tc\n", ["# yes"]),
        ("YAML", 'a: "# no" # yes\r\nb: 1 # two\r\n', ["# yes", "# two"]),
        ("TOML", 'a = "# no" # yes\n', ["# yes"]),
    ],
)
def test_other_languages_by_pygments(language: str, source: str, expected: list[str]) -> None:
    data = source.encode()
    found = spans(data, language)
    assert found is not None
    assert (found.parser, found.docstrings) == ("pygments", [])
    assert [data[start:end].decode().rstrip() for start, end in found.comments] == expected


def test_pygments_spans_are_of_bytes() -> None:
    data = "x <- 'ä€😀' # ö yes\n".encode()
    found = spans(data, "R")
    assert found is not None
    assert [data[slice(*span)] for span in found.comments] == ["# ö yes".encode()]


def test_no_parser_no_answer() -> None:
    assert spans(b"# a", "No Such Language") is None
    assert spans(b"# a", "Markdown") is None
    assert spans(b"#" * (under_test.MAX_BYTES + 1), "Python") is None
    assert spans(b"# a\n" * (1 << 19), "Perl") is None
    assert spans(b"#" * (comments_pygments.MAX_LINE + 1), "Perl") is None
    assert spans(b"", "Python") == ([], [], "tree-sitter", 0)


def test_an_absent_grammar_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    under_test._grammar.cache_clear()
    monkeypatch.setitem(sys.modules, "tree_sitter_go", None)
    with pytest.raises(InputError, match=r"tree-sitter-go.*\[parsers\]"):
        spans(b"", "Go")
    under_test._grammar.cache_clear()


def test_text_of_comments() -> None:
    def said(raw: str, **options: bool) -> str:
        return comments_text.cleaned(raw.encode(), **options)

    assert said("/**\n * a\n *\n *   b\n */") == "a\n\n  b"
    assert said("/** * item\n    * item2\n    */") == "* item\nitem2"
    assert said("(** a\n    - b\n      c *)") == "a\n- b\n  c"
    assert said("/// a\n///\n///   b") == "a\n\n  b"
    assert said("# a\n#\n#  b\n") == "a\n\n b"
    assert said("/** a & <b> */") == "a & <b>"
    assert said("=begin\nx\n=end\n") == "x"
    assert said("/// <summary>a <paramref name='x'/> <c>d</c></summary>", xml=True) == "a  d"
    assert said("/*") == ""
    assert said("/** **/") == ""


# -- oracles ---------------------------------------------------------------------------------------------------------------------------


def _files(data_dir: Path, language: str, limit: int) -> list[tuple[Path, bytes]]:
    """Real files of a language, in an order of chance, up to `limit` bytes of them."""
    found: list[tuple[Path, bytes]] = []
    for path in _listed(data_dir).get(language, []):
        data = path.read_bytes()
        if 0 < len(data) <= limit:
            found.append((path, data))
            limit -= len(data)
    return found


_LISTED: dict[Path, dict[str, list[Path]]] = {}


def _listed(data_dir: Path) -> dict[str, list[Path]]:
    if data_dir not in _LISTED:
        paths = sorted(path for path in (data_dir / "code").rglob("*") if path.is_file() and not path.is_symlink())
        random.Random(0).shuffle(paths)
        languages: dict[str, list[Path]] = {}
        for path in paths:
            if path.suffix != ".h" and (language := detect(path.name, "")):
                languages.setdefault(language, []).append(path)
        _LISTED[data_dir] = languages
    return _LISTED[data_dir]


@pytest.mark.realdata
def test_python_as_its_own_tokenizer_and_parser_see_it(data_dir: Path) -> None:
    count = 0
    for path, data in _files(data_dir, "Python", 600_000):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(data)
            tokens = list(tokenize.tokenize(io.BytesIO(data).readline))
        except (SyntaxError, ValueError):
            continue
        found = spans(data, "Python")
        assert found is not None
        lines = data.decode().splitlines(keepends=True)
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line.encode()))
        expected = [
            (starts[token.start[0] - 1] + len(token.line[: token.start[1]].encode()), token.string.encode())
            for token in tokens
            if token.type == tokenize.COMMENT
        ]
        assert [(start, data[start:end]) for start, end in found.comments] == [(at, text.rstrip()) for at, text in expected], path
        documented = [
            (getattr(node, "name", ""), inspect.cleandoc(raw).strip())
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and (raw := ast.get_docstring(node, clean=False))
            and raw.strip()
        ]
        mine = [(doc.name.rpartition(".")[2], doc.text) for doc in found.docstrings]
        assert sorted(mine) == sorted(documented), path
        count += len(mine)
    assert count > 100


# Where the two parsers mean different things by a comment, and the bytes that are then left out on both sides.
_MEANT_OTHERWISE = {
    "C": rb"(?ms)^[ \t]*#[ \t]*if[ \t]+0.*?^[ \t]*#[ \t]*(?:endif|else|elif)",  # Pygments: what is between is a comment
    "C++": rb"(?ms)^[ \t]*#[ \t]*if[ \t]+0.*?^[ \t]*#[ \t]*(?:endif|else|elif)",
    "Haskell": rb"(?sm)\{-#.*?#-\}|^#else.*?^#endif",  # Pygments: a pragma is a comment; the grammar: the other branch is no code
    "HTML": rb"(?s)<(script|style).*?</\1>",  # Pygments: comments of these languages too
}
_AGREE = [
    "C",
    "C++",
    "CSS",
    "Elixir",
    "Go",
    "HTML",
    "Haskell",
    "Java",
    "JavaScript",
    "Lua",
    "OCaml",
    "PHP",
    "Ruby",
    "Rust",
    "Scala",
    "Shell",
]
_AGREE += ["TypeScript"]


@pytest.mark.realdata
@pytest.mark.parametrize("language", _AGREE)
def test_comments_as_pygments_sees_them(data_dir: Path, language: str) -> None:
    both = different = 0
    for _, data in _files(data_dir, language, 120_000):
        mine, other = spans(data, language), _by_pygments(data, language)
        if mine is None or other is None:
            continue
        pattern = _MEANT_OTHERWISE.get(language)
        aside = [match.span() for match in re.finditer(pattern, data)] if pattern else []
        a, b = _marked(data, mine.comments, aside), _marked(data, other, aside)
        both += (a & b).bit_count()
        different += (a ^ b).bit_count()
    assert both > 0
    assert different / (2 * both + different) < 0.01


def _by_pygments(data: bytes, language: str) -> list[tuple[int, int]] | None:
    """Comments, those that Pygments calls documentation too."""
    from pygments.token import Comment, String

    lexer = comments_pygments._lexer(language)
    assert lexer is not None
    doc = String.Doc if language in ("Rust", "PHP", "OCaml") else Comment
    text = data.decode("latin-1")
    if "\r" in text:
        return None
    return [
        (at, at + len(value))
        for at, kind, value in lexer.get_tokens_unprocessed(text)
        if (kind in Comment or kind in doc) and kind not in Comment.Preproc and kind not in Comment.PreprocFile
    ]


def _marked(data: bytes, found: list[tuple[int, int]], aside: list[tuple[int, int]]) -> int:
    """One bit set for each byte inside a comment that is not white space."""
    mask = bytearray(len(data))
    for start, end in found:
        mask[start:end] = b"\x01" * (end - start)
    for start, end in aside:
        mask[start:end] = bytes(end - start)
    return int.from_bytes(bytes(flag and byte > 32 for flag, byte in zip(mask, data, strict=True)))


@pytest.mark.realdata
def test_real_files_parse(data_dir: Path) -> None:
    """Nearly all of them without an error, none of them over a limit. C is parsed before its macros are expanded."""
    for language, least in {
        "Python": 0.99,
        "JavaScript": 0.97,
        "Java": 0.98,
        "Go": 0.98,
        "PHP": 0.98,
        "Ruby": 0.95,
        "Scala": 0.95,
        "C": 0.5,
    }.items():
        found = [spans(data, language) for _, data in _files(data_dir, language, 250_000)]
        assert found
        assert None not in found
        assert sum(one is not None and one.errors == 0 for one in found) >= least * len(found)


# -- hostile inputs --------------------------------------------------------------------------------------------------------------------

_HOSTILE = {
    "parentheses": b"(" * 100_000,
    "closed": b"(" * 50_000 + b"a" + b")" * 50_000,
    "mixed": b"[(" * 5_000 + b")]" * 5_000,
    "quotes": b"'" * 10_000,
    "no UTF-8": b"\xff" * 10_000,
    "NUL": b"\0" * 10_000,
    "open comments": b"/*" * 10_000,
    "comments": b"/** a */\n" * 2_000,
    "chance": random.Random(0).randbytes(10_000),
    "signs": bytes(random.Random(1).choices(b"(){}[]<>;:,.\"'`#/*-+=ab12 \n@$|&!?\\~^%", k=10_000)),
}


@pytest.mark.parametrize("language", GRAMMARS)
def test_hostile_inputs_end_soon(language: str) -> None:
    for name, data in _HOSTILE.items():
        if language in ("Haskell", "Elixir", "Scala", "Julia") and len(data) in (10_000, 20_000):
            data = data[:5_000]  # quadratic in the grammar's own code, see MAX_SECONDS
        started = time.thread_time()
        found = spans(data, language)
        assert time.thread_time() - started < 4, name
        assert found is None or all(0 <= start < end <= len(data) for start, end in found.comments)


@pytest.mark.parametrize("tags", [b"<div>", b"<td><li>", b"<p><x-y>", b"<DIV></p>"])
def test_elements_of_html_inside_one_another(tags: bytes) -> None:
    started = time.thread_time()
    assert spans(tags * 200_000, "HTML") is None
    assert time.thread_time() - started < 3
    assert spans(b"<!-- a -->" + tags.lower() * 100, "HTML") is not None


@pytest.mark.parametrize("tags", [b"<p>a", b"<br>", b"<li>a", b"<tr><td>a<td>b", b"<dt>a<dd>b", b"<div><p>a<a>b</a></div>"])
def test_html_of_many_elements_side_by_side(tags: bytes) -> None:
    assert not under_test._deep(tags * 11_000)
    found = spans(b"<table>" + tags * 11_000 + b"</table><!-- a -->", "HTML")
    assert found is not None
    assert len(found.comments) == 1


def test_no_quadratic_time_in_definitions_without_documentation() -> None:
    def cost(count: int) -> float:
        data = b"/** a */" + b"\n" * 900 + b"int f(){}\n" * count
        took = []
        for _ in range(3):
            started = time.thread_time()
            assert spans(data, "Java") is not None
            took.append(time.thread_time() - started)
        return min(took)

    cost(100)
    assert cost(16_000) < 60 * max(cost(1_000), 0.005)


def test_damaged_files_never_raise() -> None:
    for seed in range(150):
        chance = random.Random(seed)
        language = chance.choice(sorted(SAMPLES))
        data = bytearray(SAMPLES[language][0].encode() * 3)
        for _ in range(chance.choice([1, 5, 30])):
            at = chance.randrange(len(data) + 1)
            if chance.random() < 0.4:
                del data[at : at + chance.randrange(30)]
            else:
                data[at:at] = chance.choice([b"(", b"{", b'"', b"/*", b"'", b"\xff\xfe", b"*/", b"\n", b"\0", b"\r"]) * chance.randrange(6)
        found = spans(bytes(data), language)
        if found is None:
            continue
        for doc in found.docstrings:
            assert 0 <= doc.span[0] < doc.span[1] <= len(data)
            assert 0 <= doc.code[0] <= doc.code[1] <= len(data)
            (doc.name + doc.signature + doc.text).encode()
