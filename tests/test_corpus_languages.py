"""Languages by name and content: against a hand-checked list, against Pygments' table, and under hostile text."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from codedev.corpus import languages


def _listed(table: str) -> list[tuple[str, str | None]]:
    """(file, language) of lines `language: file file ...`."""
    rows = re.sub(r"\n  ", " ", table).strip().splitlines()
    return [
        (file, None if language == "unknown" else language)
        for language, _, files in (row.partition(": ") for row in rows)
        for file in files.split()
    ]


BY_NAME = _listed("""
Python: a.py a.pyi SConstruct settings.py-tpl A.PY
C: a.c config.h.in
C++: a.cc a.hpp
Rust: a.rs
Go: a.go
Java: a.java
Kotlin: a.kt
Scala: a.scala build.sbt
Ruby: a.rb Gemfile Rakefile x.gemspec app.rb.tt
PHP: a.php
Blade: a.blade.php
Perl: a.pm cpanfile
Lua: a.lua x.rockspec
R: a.R a.r
Julia: a.jl
JavaScript: a.js a.mjs
JSX: a.jsx
TypeScript: a.ts a.d.ts
TSX: a.tsx
CSS: a.css
SCSS: a.scss
HTML: a.html
HTML+ERB: a.html.erb
Vue: a.vue
OCaml: a.ml a.mli
Dune: dune-project
opam: a.opam
Haskell: a.hs
Cabal Config: a.cabal
Elixir: a.ex a.exs
Erlang: a.erl rebar.config
Clojure: a.clj
Emacs Lisp: a.el
Shell: a.sh PKGBUILD
PowerShell: a.ps1
Batchfile: a.bat
Makefile: Makefile GNUmakefile Makefile.am
CMake: CMakeLists.txt a.cmake
Meson: meson.build
Dockerfile: Dockerfile Dockerfile.web web.dockerfile
HCL: a.tf
Protocol Buffer: a.proto
SQL: a.sql
JSON: a.json
JSON with Comments: tsconfig.json
YAML: a.yml .travis.yml
TOML: a.toml
INI: a.ini
XML: a.xml
Maven POM: pom.xml
Markdown: a.md README.md
reStructuredText: a.rst
Text: a.txt README LICENSE
Pip Requirements: requirements.txt
TeX: a.tex
BibTeX: a.bib
Zig: a.zig
Nim: a.nim
Swift: a.swift
Dart: a.dart
Cuda: a.cu
Cython: a.pyx
VHDL: a.vhd
SystemVerilog: a.sv
Fortran: a.f90
Groovy: a.groovy Jenkinsfile
Starlark: BUILD.bazel a.bzl
Ignore List: .gitignore
unknown: x.unheard-of noextension
""")

BY_TEXT = [
    ("a.h", "#ifndef A_H\nstruct a { int class; };\n#endif\n", "C"),
    ("a.h", "#ifdef __cplusplus\nextern \"C\" {\nnamespace x {}\n#endif\nint f(void);\n", "C"),
    ("a.h", "#pragma once\nnamespace a {\nclass B {\n public:\n  B();\n};\n}\n", "C++"),
    ("a.h", "#include <vector>\nint f();\n", "C++"),
    ("a.h", "#import <Foundation/Foundation.h>\n@interface A : NSObject\n@end\n", "Objective-C"),
    ("a.m", "#import \"A.h\"\n@implementation A\n@end\n", "Objective-C"),
    ("a.m", "function y = f(x)\n% doubles\ny = 2 * x;\nend\n", "MATLAB"),
    ("a.m", ":- module hello.\n:- interface.\n", "Mercury"),
    ("a.m", "(* ::Package:: *)\nBeginPackage[\"A`\"]\nf[x_] := x^2\n", "Wolfram Language"),
    ("a.pl", "use strict;\nmy $x = 1;\n", "Perl"),
    ("a.pl", ":- use_module(library(lists)).\nlikes(a, b).\nok(X) :- likes(X, b).\n", "Prolog"),
    ("a.pl", "use v6;\nsay 'hi';\n", "Raku"),
    ("a.t", "use Test::More tests => 1;\nok(1);\n", "Perl"),
    ("a.t", "Build the thing\n\n  $ dune build\n  $ ls\n  a\n", "Cram"),
    ("a.ts", "export const a: number = 1;\n", "TypeScript"),
    ("a.ts", "<?xml version=\"1.0\"?>\n<!DOCTYPE TS>\n<TS></TS>\n", "XML"),
    ("a.v", "module adder(input a, input b, output c);\nassign c = a ^ b;\nendmodule\n", "Verilog"),
    ("a.v", "Require Import List.\nTheorem t : 1 = 1.\nProof. reflexivity. Qed.\n", "Rocq Prover"),
    ("a.v", "module main\n\nfn main() {\n\tprintln('hi')\n}\n", "V"),
    ("a.cls", "\\NeedsTeXFormat{LaTeX2e}\n\\ProvidesClass{a}\n", "TeX"),
    ("a.cls", "VERSION 1.0 CLASS\nAttribute VB_Name = \"A\"\n", "VBA"),
    ("a.cls", "public with sharing class A {\n}\n", "Apex"),
    ("a.inc", "<?php\nfunction f() {}\n", "PHP"),
    ("a.inc", "just some words\n", None),
    ("a.md", "# Title\n\nwords\n", "Markdown"),
    ("a.md", ";; machine\n(define_insn \"x\" [])\n", "GCC Machine Description"),
    ("a.cl", "__kernel void f(__global int *a) {}\n", "OpenCL"),
    ("a.cl", "(defun f (x) x)\n", "Common Lisp"),
    ("a.php", "<?hh\nfunction f(): int { return 1; }\n", "Hack"),
    ("a.pp", "class ntp {\n  package { 'ntp': ensure => installed }\n}\n", "Puppet"),
    ("a.pp", "program a;\nbegin\nend.\n", "Pascal"),
    ("a.d", "module a;\nimport std.stdio;\n", "D"),
    ("a.d", "src/a.o: src/a.c src/a.h\n", "Makefile"),
    ("a.m", "; MUMPS\nHELLO ; a label\n ; says hello\n W \"hi\"\n Q\n", "M"),
    ("a.inc", "#declare Red = rgb <1, 0, 0>;\n", "POV-Ray SDL"),
    ("a.d", "#pragma D option quiet\nBEGIN\n{\n}\n", "DTrace"),
    ("a.for", ": square ( n -- n ) dup * ;\n", "Forth"),
    ("a.h", "// -*- C++ -*-\nint f();\n", "C++"),
    ("a.h", "/* vim: set ft=objc : */\nint f();\n", "Objective-C"),
    ("a.h", "/* -*- mode: python -*- */\nint f();\n", "C"),  # no language of that extension
    ("a.pl", "#!/usr/bin/swipl\nhello.\n", "Prolog"),
    ("a.ts", "#!/usr/bin/env node\nconst a: number = 1\n", "TypeScript"),
    ("a.cgi", "#!/usr/bin/python3\nprint(1)\n", "Python"),
    ("a.fcgi", "#!/usr/bin/env ruby\nputs 1\n", "Ruby"),
    ("a.1", ".TH A 1\n.SH NAME\na\n", "Roff"),
    ("a.1", "2020 was a number\n", None),
    ("a.test", "proc t {} { puts hi }\n", "Tcl"),
    ("a.test", "--TEST--\nexpected\n", None),
    ("a.l", "%{\n#include <stdio.h>\n%}\n%%\n", "Lex"),
    ("a.pro", "TEMPLATE = app\nSOURCES += main.cpp\n", "QMake"),
    ("tool", "#!/usr/bin/env python3\nprint(1)\n", "Python"),
    ("tool", "#!/usr/bin/env -S FOO=1 node --flag\n1\n", "JavaScript"),
    ("tool", "#! /bin/bash -e\nls\n", "Shell"),
    ("tool", "#!/usr/bin/perl5.36\nprint 1;\n", "Perl"),
    ("tool", "#!/bin/sh\n# \\\nexec tclsh \"$0\" \"$@\"\n", "Tcl"),
    ("tool", "#!/usr/bin/unheard-of\nls\n", None),
    ("tool", "# -*- mode: ruby -*-\nputs 1\n", "Ruby"),
    ("tool", "# vim: set ft=python :\nx = 1\n", "Python"),
    ("tool", "<?xml version=\"1.0\"?>\n<a/>\n", "XML"),
    ("tool", "plain words\n", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "language"), BY_NAME)
def test_by_name(name: str, language: str | None) -> None:
    assert languages.detect(f"some/folder/{name}", "") == language or name == "a.pm"  # of .pm only the text decides


@pytest.mark.parametrize(("name", "text", "language"), BY_TEXT)
def test_by_text(name: str, text: str, language: str | None) -> None:
    assert languages.detect(name, text) == language


def test_the_table_is_whole() -> None:
    rows = [line.split("\t") for line in languages.TABLE.read_text().splitlines() if not line.startswith("#")]
    assert len([row for row in rows if row[2]]) >= 120
    owners: dict[str, set[str]] = {}
    for name, kind, extensions, file_names, interpreters in rows:
        assert kind in ("programming", "markup", "data", "prose"), name
        assert languages.type_of(name) == kind
        for entry in extensions.split():
            assert entry.startswith("."), entry
            owners.setdefault(entry, set()).add(name)
        for entry in (*file_names.split(), *interpreters.split()):
            owners.setdefault(f"={entry}", set()).add(name)
    for entry, names in owners.items():
        if len(names) > 1:  # shared: the patterns know every one of them
            assert names <= {language for language, _ in languages._SHARED[entry]}, entry
    for extension, choices in languages._SHARED.items():
        assert {language for language, _ in choices} <= languages.names(), extension
        assert None not in [pattern for _, pattern in choices[:-1]], f"{extension}: nothing comes after a default"


def test_agrees_with_pygments() -> None:
    """Where Pygments gives an extension to one lexer whose name is one of ours, so do we."""
    lexers = pytest.importorskip("pygments.lexers")

    def plain(name: str) -> str:
        return re.sub(r"[^a-z0-9+#]", "", name.lower())

    ours = {plain(name): name for name in languages.names()}
    theirs: dict[str, list[str]] = {}
    for lexer, _, patterns, _ in lexers.get_all_lexers(plugins=False):
        for pattern in patterns:
            if re.fullmatch(r"\*\.[\w+-]+", pattern):
                theirs.setdefault(pattern[1:], []).append(lexer)
    # Ours on purpose: other names of the same thing, and languages that linguist knows and Pygments does not.
    known = {".bzl", ".eex", ".leex", ".gradle", ".svg", ".xmi", ".mir"}
    known |= {".gs", ".gsp", ".xc", ".lsp", ".alg", ".psc", ".sage", ".duby", ".xpl"}
    compared = 0
    for extension, names in theirs.items():
        if len(names) == 1 and plain(names[0]) in ours and extension not in known and extension.lower() not in languages._SHARED:
            found = languages.detect(f"a{extension}", "")
            if found is not None:
                compared += 1
                assert found == ours[plain(names[0])], extension
    assert compared > 150


@pytest.mark.parametrize("extension", sorted(languages._SHARED))
def test_hostile_text_is_quick(extension: str) -> None:
    n = languages.SNIFFED
    texts = [
        " " * n,
        "\n" * n,
        "a" * n,
        "class " + " " * n,
        "class a " * (n // 8),
        "a[" + "_" * n,
        ".o" * n,
        "#ifdef __cplusplus\n" * (n // 19),
        "use A" + "::A" * n,
    ]
    texts += [
        "(" * n,
        "a_" * n,
        "module a" * n,
        "\\" * n,
        ":" * n,
        "put " * n,
        "a=;" * n,
        "-*-" * n,
        "#!" + " " * n,
        "public " + "abstract " * n,
    ]
    start = time.process_time()
    for text in texts:
        languages.detect(f"a{extension}", text)
    languages.detect("tool", "#!/bin/sh " + "-*- mode:" * n)
    assert time.process_time() - start < 3


REAL = _listed("""
C++: leveldb/include/leveldb/db.h fmtlib/include/fmt/core.h
C: leveldb/include/leveldb/c.h redis/src/server.h redis/src/server.c
Tcl: redis/tests/unit/auth.tcl git/gitk-git/gitk
Shell: git/git-gui/git-gui.sh git/t/t0001-init.sh
Perl: git/perl/Git.pm libmojolicious-perl/lib/Mojo.pm libmojolicious-perl/t/mojo/json.t
M4Sugar: git/configure.ac
Makefile: git/Makefile
Coccinelle: git/contrib/coccinelle/array.cocci
Scala: scala/build.sbt scala/src/library/scala/Option.scala
Dune: ocaml-dune/dune-project
OCaml: ocaml-dune/src/dune_rules/module.ml
opam: ocaml-dune/dune.opam
Elixir: elixir-lang/lib/elixir/lib/enum.ex
Cabal Config: haskell-aeson/aeson.cabal
R: r-cran-dplyr/R/across.R
Rd: r-cran-dplyr/man/across.Rd
RMarkdown: r-cran-dplyr/inst/doc/base.Rmd
Lua: luarocks/luarocks-dev-1.rockspec
PHP: composer/bin/composer
Ruby: rails/Gemfile rails/activerecord/Rakefile
Rust: rust-ripgrep/crates/core/main.rs
CMake: fmtlib/CMakeLists.txt
Maven POM: jackson-core/pom.xml
Meson: scikit-learn/sklearn/meson.build
JavaScript: three/src/Three.js
TypeScript: zod/index.d.ts
Rocq Prover: ocaml-dune/test/blackbox-tests/test-cases/coq/base.t/bar.v
""")


@pytest.mark.realdata
def test_real_files(data_dir: Path) -> None:
    seen = 0
    for name, language in REAL:
        path = data_dir / "code" / name
        if path.is_file():
            seen += 1
            assert languages.detect(name, path.read_text(errors="replace")) == language, name
    assert seen >= 20 or not (data_dir / "code").is_dir()
