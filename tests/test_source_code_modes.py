"""Modes and options of the code source: notebooks, pairs, comment shares, repository context, REUSE, classes of licences, metadata."""

from __future__ import annotations

import ast
import inspect
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_source_code import GPL, MIT, SOURCE, by_name, config, make, one, verdict

from codedev._errors import InputError, RecipeError
from codedev.corpus import licence, recipe
from codedev.corpus.build import build
from codedev.corpus.extract import notebook
from codedev.corpus.source import Document, Drop, Failure, Piece
from codedev.corpus.sources.code import cover as code_cover
from codedev.corpus.sources.code import source as code
from codedev.corpus.sources.code.imports import Paths, imports

Record = Document | Drop | Failure


# Notebooks.

NOTEBOOK: dict[str, Any] = {
    "nbformat": 4,
    "metadata": {"kernelspec": {"name": "python3", "language": "python"}, "language_info": {"name": "python"}},
    "cells": [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "Some *words*."]},
        {"cell_type": "code", "source": "%matplotlib inline\nx = 1\nprint(x)", "outputs": [{"output_type": "stream", "text": ["1\n"]}]},
        {"cell_type": "code", "source": "", "outputs": []},
        {"cell_type": "raw", "source": "raw words"},
        {
            "cell_type": "code",
            "source": ["def f():\n", "    return 2"],
            "outputs": [
                {"output_type": "execute_result", "data": {"text/plain": ["2"], "image/png": "iVBOR"}},
                {"output_type": "display_data", "data": {"image/png": "iVBOR"}},
                {"output_type": "error", "ename": "ValueError", "evalue": "no \x1b[31mred\x1b[0m", "traceback": ["long"]},
            ],
        },
    ],
}
SCRIPT = (
    "# %% [markdown]\n# # Title\n#\n# Some *words*.\n\n# %%\n# %matplotlib inline\nx = 1\nprint(x)\n\n# %% [raw]\n# raw words\n\n"
    "# %%\ndef f():\n    return 2\n"
)
MARKDOWN = (
    "# Title\n\nSome *words*.\n\n```python\n%matplotlib inline\nx = 1\nprint(x)\n```\n\n```\n1\n```\n\n```\nraw words\n```\n\n"
    "```python\ndef f():\n    return 2\n```\n\n```\n2\n```\n\n```\n[image/png]\n```\n\n```\nValueError: no red\n```\n"
)


def test_a_notebook_as_a_script(tmp_path: Path) -> None:
    record = one(tmp_path, "n.ipynb", orjson.dumps(NOTEBOOK))
    assert isinstance(record, Document)
    assert (record.text, record.lang) == (SCRIPT, "Python")
    ast.parse(record.text)
    counts = {"language": "python", "code": 2, "markdown": 1, "raw": 1, "empty": 1, "outputs_dropped": 4}
    assert orjson.loads(record.meta)["notebook"] == counts


def test_a_notebook_as_markdown_with_outputs(tmp_path: Path) -> None:
    record = one(tmp_path, "n.ipynb", orjson.dumps(NOTEBOOK), notebooks="markdown", notebook_outputs="keep")
    assert isinstance(record, Document)
    assert (record.text, record.lang) == (MARKDOWN, "Jupyter Notebook")
    cut = notebook.read(orjson.dumps(NOTEBOOK).decode(), "script", "keep", 5)
    assert "# Output:\n# Value\n# [...]" in cut.text
    assert cut.counts["outputs_cut"] == 2
    raw = one(tmp_path, "n.ipynb", orjson.dumps(NOTEBOOK), notebooks="raw")
    assert isinstance(raw, Document)
    assert raw.text == orjson.dumps(NOTEBOOK).decode()


def test_nbformat_3_and_other_kernels() -> None:
    old = {
        "nbformat": 3,
        "worksheets": [
            {
                "cells": [
                    {"cell_type": "heading", "level": 2, "source": ["Two"]},
                    {"cell_type": "code", "language": "julia", "input": ["y = 2"], "outputs": [{"output_type": "pyout", "text": ["2"]}]},
                ]
            }
        ],
    }
    found = notebook.read(orjson.dumps(old).decode(), "script", "keep", 100)
    assert (found.text, found.language) == ("# %% [markdown]\n# ## Two\n\n# %%\ny = 2\n# Output:\n# 2\n", "julia")
    for said, language, sign in (("ir", "r", "#"), ("scala", "scala", "//"), ("python3", "python", "#"), ("ihaskell", "ihaskell", "#")):
        cells = [{"cell_type": "code", "source": "a"}]
        made = notebook.read(orjson.dumps({"metadata": {"kernelspec": {"name": said}}, "cells": cells}).decode(), "script", "drop", 0)
        assert (made.language, made.text) == (language, f"{sign} %%\na\n")


def test_a_notebook_larger_than_data_may_be_and_its_languages(tmp_path: Path) -> None:
    cells = [{"cell_type": "code", "source": f"value_{n} = {n}", "outputs": []} for n in range(3000)]
    data = orjson.dumps({"metadata": {}, "nbformat": 4, "cells": cells})
    assert len(data) > 1 << 16
    assert verdict(one(tmp_path, "n.ipynb", data)) == "kept"
    assert verdict(one(tmp_path, "n.ipynb", data, languages=["Python"])) == "kept"
    assert verdict(one(tmp_path, "n.ipynb", data, languages=["Jupyter Notebook"])) == "kept"
    assert verdict(one(tmp_path, "n.ipynb", data, languages=["R"])) == "other_language"
    assert verdict(one(tmp_path, "n.ipynb", data, notebooks="raw")) == "data_file"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("{", "invalid_notebook"),
        ("[1]", "invalid_notebook"),
        ('{"cells": 1}', "invalid_notebook"),
        ('{"cells": [1]}', "invalid_notebook"),
        ("[" * 5000, "invalid_notebook"),
        ('{"cells": []}', "empty"),
        ('{"cells": [{"cell_type": "code", "source": 7, "outputs": 9}]}', "empty"),
        ('{"cells": [{"source": ["a", 1, null]}], "metadata": []}', "kept"),
        ('{"cells": [{"cell_type": "code", "source": "x = \\"\\ud800 and more\\""}]}', "invalid_notebook"),
    ],
)
def test_bad_notebooks(tmp_path: Path, data: str, expected: str) -> None:
    record = one(tmp_path, "n.ipynb", data, min_chars=1)
    assert verdict(record) == expected
    if isinstance(record, Document):
        record.text.encode()


def test_any_json_makes_a_notebook_or_an_error() -> None:
    generator = random.Random(3)
    leaves = [None, 1, "text", True, [], {}, "code", "markdown", ["a", "b"]]
    keys = [
        "cells",
        "worksheets",
        "metadata",
        "source",
        "input",
        "outputs",
        "cell_type",
        "data",
        "text/plain",
        "kernelspec",
        "name",
        "level",
    ]

    def value(depth: int) -> Any:
        if depth == 0 or generator.random() < 0.3:
            return generator.choice(leaves)
        if generator.random() < 0.4:
            return [value(depth - 1) for _ in range(generator.randrange(4))]
        return {generator.choice(keys): value(depth - 1) for _ in range(generator.randrange(6))}

    for _ in range(3000):
        more = value(2)
        data = orjson.dumps({"cells": [value(3)], **(more if isinstance(more, dict) else {})})
        for form in ("script", "markdown"):
            try:
                notebook.read(data.decode(), form, "keep", 50)
            except notebook.NotebookError:
                continue


# Pairs and comments.

pairs_source = '''"""The module."""

class Shape:
    """A class, which is no pair."""

    def area(self, width: int, height: int) -> int:
        """Return how many square units the shape covers.

        Both sides count.
        """

        total = width * height
        return total

    def empty(self) -> None:
        """There is nothing but this docstring."""

    @property
    def name(self) -> str:
        """short"""
        return "x"

def plain(a):
    # no docstring
    return a

if True:
    def area(x):
        """The first of two functions of one name."""
        return x
else:
    def area(x):
        """The second of two functions of one name."""
        return -x
'''


def all_of(base: Path, *paths: str, **keys: Any) -> list[tuple[str, Any]]:
    settings = config(*paths, **keys)
    return [(e.name, r) for e in code.plan(settings, base, 1 << 20) for r in code.read(e, settings, base)]


def test_pairs(tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_python")
    make(tmp_path / "tree", {"LICENSE": MIT, "a.py": pairs_source, "b.py": SOURCE, "c.md": "# words and words\n"})
    records = all_of(tmp_path, "tree", mode="pairs")
    assert [(name.removeprefix("tree/"), verdict(r)) for name, r in records] == [
        ("LICENSE", "no_parser"),
        *[("a.py", "kept")] * 3,
        ("b.py", "no_docstrings"),
        ("c.md", "no_parser"),
    ]
    found = [r for _, r in records if isinstance(r, Document)]
    first = found[0]
    assert [r.id.partition("#")[2] for r in found] == ["Shape.area", "area", "area~2"]
    meta = orjson.loads(first.meta)
    assert meta["response"] == ("def area(self, width: int, height: int) -> int:\n    total = width * height\n    return total")
    assert meta["instruction"] == (
        "Return how many square units the shape covers.\n\nBoth sides count.\n\n"
        "```python\ndef area(self, width: int, height: int) -> int\n```"
    )
    assert first.text == f"{meta['instruction']}\n\n```python\n{meta['response']}\n```\n"
    assert (first.kind, first.lang, first.licence) == ("instruction", "Python", "MIT")
    assert first.offset is not None
    assert first.length is not None
    assert pairs_source.encode()[first.offset : first.offset + first.length].startswith(b"def area(self")


def test_pairs_of_the_standard_library_are_the_ones_that_ast_finds() -> None:
    """Every pair's response parses, has no docstring, and its instruction holds the docstring that Python itself sees."""
    pytest.importorskip("tree_sitter_python")
    settings = config("lib", mode="pairs")
    folder = Path(inspect.getfile(os)).parent
    checked = 0
    for path in ("textwrap.py", "shutil.py", "random.py", "fractions.py", "heapq.py"):
        tree = ast.parse((folder / path).read_text(encoding="utf-8"))
        expected = {
            inspect.cleandoc(doc).split("\n")[0].strip()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (doc := ast.get_docstring(node))
        }
        for extent in code.plan(settings.model_copy(update={"paths": (str(folder / path),)}), folder, 1 << 20):
            for record in code.read(extent, settings, folder):
                assert isinstance(record, Document)
                meta = orjson.loads(record.meta)
                (node,) = ast.parse(meta["response"]).body
                assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                assert ast.get_docstring(node) is None
                assert meta["instruction"].split("\n")[0].strip() in expected
                checked += 1
    assert checked > 100


def test_shares_of_comments(tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_python")
    text = '# one\n"""doc"""\nx = 1\n'
    record = one(tmp_path, "a.py", text, comments=True)
    assert isinstance(record, Document)
    meta = orjson.loads(record.meta)
    assert meta["comment_share"] == pytest.approx(len("# one") / len(text), abs=0.05)
    assert meta["docstring_share"] == pytest.approx(len('"""doc"""') / len(text), abs=1e-4)
    plain = one(tmp_path, "a.py", text)
    assert isinstance(plain, Document)
    assert "comment_share" not in orjson.loads(plain.meta)


# Repository context.

PROJECT: dict[str, str | bytes] = {
    "LICENSE": MIT,
    "app/__init__.py": "from .core import run\n",
    "app/core.py": "from app.util import text\nimport app.zeta\n\ndef run():\n    return text.join()\n",
    "app/util/__init__.py": "",
    "app/util/text.py": "def join():\n    return 'joined words'\n",
    "app/zeta.py": "from . import core  # a cycle\n\nZETA = 'the last letter'\n",
    "web/index.ts": "import { help } from './lib/help.js'\nexport * from './lib'\nhelp()\n",
    "web/lib/help.ts": "export function help() { return 1 }\n",
    "web/lib/index.ts": "const other = require('./help')\nexport const y = other\n",
    "c/main.c": '#include "list.h"\n#include <util/mem.h>\nint main(void) { return 0; }\n',
    "c/list.h": "struct list { int head; };\n",
    "c/util/mem.h": "void *get(int size);\n",
    "go.mod": "module example.org/m\n\ngo 1.22\n",
    "cmd/main.go": 'package main\n\nimport (\n\t"fmt"\n\t"example.org/m/inner/calc"\n)\n\nfunc main() { fmt.Println(calc.Sum(1, 2)) }\n',
    "inner/calc/sum.go": "package calc\n\nfunc Sum(a, b int) int { return a + b }\n",
    "src/main/java/org/x/App.java": "package org.x;\nimport org.x.parts.Wheel;\nimport static org.x.parts.Const.SIZE;\nclass App {}\n",
    "src/main/java/org/x/parts/Wheel.java": "package org.x.parts;\npublic class Wheel { int size; }\n",
    "src/main/java/org/x/parts/Const.java": "package org.x.parts;\npublic class Const { static int SIZE = 1; }\n",
    "rs/src/lib.rs": "mod parse;\npub mod tree;\nuse crate::tree::leaf::Leaf;\n",
    "rs/src/parse.rs": "use super::tree;\npub fn parse() -> u32 { 7 }\n",
    "rs/src/tree/mod.rs": "pub mod leaf;\n",
    "rs/src/tree/leaf.rs": "pub struct Leaf { pub value: u32 }\n",
    "lib/a.rb": "require_relative 'inner/b'\nputs 'hello words'\n",
    "lib/inner/b.rb": "def b\n  'some words'\nend\n",
}
BEFORE = [
    ("app/util/text.py", "app/core.py"),
    ("app/core.py", "app/__init__.py"),
    ("app/zeta.py", "app/core.py"),
    ("web/lib/help.ts", "web/lib/index.ts"),
    ("web/lib/index.ts", "web/index.ts"),
    ("c/list.h", "c/main.c"),
    ("c/util/mem.h", "c/main.c"),
    ("inner/calc/sum.go", "cmd/main.go"),
    ("src/main/java/org/x/parts/Wheel.java", "src/main/java/org/x/App.java"),
    ("src/main/java/org/x/parts/Const.java", "src/main/java/org/x/App.java"),
    ("rs/src/parse.rs", "rs/src/lib.rs"),
    ("rs/src/tree/leaf.rs", "rs/src/tree/mod.rs"),
    ("rs/src/tree/mod.rs", "rs/src/parse.rs"),
    ("lib/inner/b.rb", "lib/a.rb"),
]


def joined(base: Path, *paths: str, **keys: Any) -> tuple[list[Document], list[Record]]:
    """What reading and gathering give, the pieces brought together by a dictionary, in an order that chance chose."""
    settings = config(*paths, mode="context", **keys)
    groups: dict[str, list[Piece]] = {}
    rest: list[Record] = []
    for extent in code.plan(settings, base, 1 << 20):
        for record in code.read(extent, settings, base):
            if isinstance(record, Piece):
                groups.setdefault(record.key, []).append(record._replace(file=extent.name))
            else:
                rest.append(record)
    random.Random(4).shuffle(pieces := [piece for group in groups.values() for piece in group])
    documents = []
    for key in sorted(groups):
        documents += list(code.gather(0, key, [piece for piece in pieces if piece.key == key], settings))
    assert sum(document.records for document in documents) == len(pieces)
    return documents, rest


def order_of(document: Document) -> list[str]:
    return [file["path"] for file in orjson.loads(document.meta)["files"]]


def test_files_of_a_repository_in_order_of_their_imports(tmp_path: Path) -> None:
    make(tmp_path / "tree", PROJECT)
    (document,), rest = joined(tmp_path, "tree")
    assert [verdict(r) for r in rest] == ["empty"]
    order = order_of(document)
    assert sorted([*order, "app/util/__init__.py"]) == sorted(PROJECT)
    for first, second in BEFORE:
        assert order.index(first) < order.index(second), (first, second)
    assert (document.licence, document.records, document.kind, document.file) == ("MIT", len(PROJECT) - 1, None, "tree")
    (by_path,), _ = joined(tmp_path, "tree", order="path")
    assert order_of(by_path) == sorted(order)
    assert (code.rounds(config("x", mode="context")), code.rounds(config("x"))) == (1, 0)


def test_where_every_file_stands(tmp_path: Path) -> None:
    make(tmp_path / "tree", PROJECT)
    (document,), _ = joined(tmp_path, "tree")
    for file in orjson.loads(document.meta)["files"]:
        assert document.text[file["start"] : file["end"]] == str(PROJECT[file["path"]]).strip("\n")
        assert document.text[: file["start"]].endswith(f"# File: {file['path']}\n\n")


def test_a_large_repository_becomes_several_documents(tmp_path: Path) -> None:
    make(
        tmp_path / "tree", {**{f"m{n}.py": SOURCE * 10 for n in range(30)}, "big.py": SOURCE * 200, "GPL/COPYING": GPL, "GPL/x.py": SOURCE}
    )
    documents, _ = joined(tmp_path, "tree", max_repository_bytes=2000)
    assert len(documents) == 7
    assert len({document.id for document in documents}) == len(documents)
    assert [orjson.loads(document.meta)["part"] for document in documents] == list(range(1, len(documents) + 1))
    for document in documents:
        assert len(document.text) < 2500 or document.records == 1
    assert documents == joined(tmp_path, "tree", max_repository_bytes=2000)[0]


def test_cycles_and_long_chains(tmp_path: Path) -> None:
    ring = {f"r{n:04}.py": f"import r{(n + 1) % 3000:04}\nvalue = {n}\n" for n in range(3000)}
    make(tmp_path / "ring", ring)  # type: ignore[arg-type]
    (document,), _ = joined(tmp_path, "ring")
    assert order_of(document) == sorted(ring, reverse=True)


def test_imports_out_of_the_tree_are_none() -> None:
    paths = Paths(["a/b.ts", "x.py", "a/x.h"], lambda path: "")
    assert imports("a/b.ts", "import '../../../etc/passwd'; import './b'", "TypeScript", paths) == []
    assert imports("x.py", "from .... import y\nimport os, sys\nfrom . import x\nimport a..b", "Python", paths) == []
    assert imports("a/y.c", '#include "../../../etc/x.h"\n#include "/a/x.h"\n#include "x.h"\n', "C", paths) == ["a/x.h"]


@pytest.mark.parametrize("language", ["Python", "TypeScript", "Java", "Go", "C", "Rust", "Ruby", "PHP"])
def test_imports_take_linear_time(language: str) -> None:
    paths = Paths(["a.py"], lambda path: "")
    for text in (
        "import a" + ".a" * 60_000,
        "from " * 40_000,
        "import (" * 30_000,
        "use a\\" * 40_000,
        "#include " * 20_000,
        "\t" * 200_000,
    ):
        began = time.process_time()
        imports("a.py", text, language, paths)
        assert time.process_time() - began < 2


def test_context_of_commits_and_tables(tmp_path: Path) -> None:
    rows = {"content": [SOURCE, SOURCE * 2, SOURCE], "path": ["b.py", "a.py", "c.py"], "repo_name": ["o/x", "o/x", "o/y"]}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    documents, _ = joined(tmp_path, "t.parquet")
    assert sorted(map(order_of, documents)) == [["a.py", "b.py"], ["c.py"]]
    assert {document.id.split("@")[0] for document in documents} == {"o/x", "o/y"}


# REUSE, classes, metadata.


def test_reuse(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "LICENSE": MIT,
        "REUSE.toml": (
            'version = 1\n[[annotations]]\npath = ["art/**", "*.cfg"]\nSPDX-License-Identifier = "CC-BY-4.0"\n'
            '[[annotations]]\npath = "forced/**"\nprecedence = "override"\nSPDX-License-Identifier = "0BSD"\n'
            '[[annotations]]\npath = "both/**"\nprecedence = "aggregate"\nSPDX-License-Identifier = "ISC"\n'
            '[[annotations]]\npath = "odd\\\\*name/*"\nSPDX-License-Identifier = "Zlib"\n'
        ),
        "art/deep/a.py": SOURCE,
        "art/tagged.py": "# SPDX-License-Identifier: Apache-2.0\n" + SOURCE,
        "art/inner/REUSE.toml": 'version = 1\n[[annotations]]\npath = "**"\nSPDX-License-Identifier = "Unlicense"\n',
        "art/inner/b.py": SOURCE,
        "setup.cfg": "[metadata]\nname = words\n",
        "deep/setup.cfg": "[metadata]\nname = words\n",
        "forced/c.py": "# SPDX-License-Identifier: GPL-3.0-only\n" + SOURCE,
        "both/d.py": "# SPDX-License-Identifier: Apache-2.0\n" + SOURCE,
        "odd*name/e.py": SOURCE,
        "oddxname/e.py": SOURCE,
        "side.py": "# SPDX-License-Identifier: GPL-3.0-only\n" + SOURCE,
        "side.py.license": "SPDX-FileCopyrightText: nobody\nSPDX-License-Identifier: CC0-1.0\n",
        "plain.py": SOURCE,
    }
    make(tmp_path / "tree", files)
    found = {
        name.removeprefix("tree/"): (record.licence, orjson.loads(record.meta)["licence_from"])
        for name, record in by_name(tmp_path, "tree").items()
        if isinstance(record, Document)
    }
    assert {name: found[name] for name in files if name.endswith((".py", ".cfg"))} == {
        "art/deep/a.py": ("CC-BY-4.0", "reuse"),
        "art/tagged.py": ("Apache-2.0", "spdx"),
        "art/inner/b.py": ("Unlicense", "reuse"),
        "setup.cfg": ("CC-BY-4.0", "reuse"),
        "deep/setup.cfg": ("MIT", "file"),
        "forced/c.py": ("0BSD", "reuse"),
        "both/d.py": ("Apache-2.0 AND ISC", "reuse"),
        "odd*name/e.py": ("Zlib", "reuse"),
        "oddxname/e.py": ("MIT", "file"),
        "side.py": ("CC0-1.0", "reuse"),
        "plain.py": ("MIT", "file"),
    }


def test_dep5(tmp_path: Path) -> None:
    dep5 = (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n\n"
        "Files: *\nCopyright: a\nLicense: MIT\n\nFiles: art/*\n doc/?.py\nCopyright: b\nLicense: CC-BY-SA-4.0\n Some text.\n"
    )
    make(tmp_path / "tree", {".reuse/dep5": dep5, "a.py": SOURCE, "art/deep/b.py": SOURCE, "doc/c.py": SOURCE, "doc/cc.py": SOURCE})
    found = {name: r.licence for name, r in by_name(tmp_path, "tree").items() if isinstance(r, Document) and name.endswith(".py")}
    assert list(found.values()) == ["MIT", "CC-BY-SA-4.0", "CC-BY-SA-4.0", "MIT"]


def test_globs_take_linear_time() -> None:
    for slash in (False, True):
        pattern = code_cover._compiled(code_cover._pattern("*a" * 300 + "b", slash=slash))
        began = time.process_time()
        assert not pattern.fullmatch("a" * 4000)
        assert time.process_time() - began < 3
    for glob, path, expected in [
        ("*.py", "a.py", True),
        ("*.py", "d/a.py", False),
        ("**/a*/b.c", "x/y/ab/b.c", True),
        ("a*b*c", "aXbXbYc", True),
    ]:
        assert bool(code_cover._compiled(code_cover._pattern(glob, slash=False)).fullmatch(path)) is expected


CLASSES = [
    ("MIT", "permissive"),
    ("Apache-2.0 OR GPL-3.0-only", "permissive"),
    ("MIT AND GPL-2.0-only", "copyleft"),
    ("LGPL-2.1-or-later", "copyleft"),
    ("GPL-2.0-only WITH Classpath-exception-2.0", "copyleft"),
    ("MPL-2.0", "copyleft"),
    ("CC-BY-SA-4.0", "copyleft"),
    ("CC-BY-NC-4.0", "other"),
    ("LicenseRef-Proprietary", "other"),
    ("MIT AND CC-BY-NC-4.0", "other"),
    (None, "unknown"),
    ("", "unknown"),
]


@pytest.mark.parametrize(("expression", "expected"), CLASSES)
def test_classes_of_licences(expression: str | None, expected: str) -> None:
    assert licence.class_of(expression) == expected


def test_licences_by_class(tmp_path: Path) -> None:
    make(tmp_path / "tree", {"a/LICENSE": MIT, "a/x.py": SOURCE, "b/COPYING": GPL, "b/x.py": SOURCE, "c/x.py": SOURCE})
    make(tmp_path / "tree", {"d/x.py": "# SPDX-License-Identifier: CC-BY-NC-4.0\n" + SOURCE})

    def kept(**keys: Any) -> str:
        return "".join(
            name[5] for name, r in by_name(tmp_path, "tree", **keys).items() if isinstance(r, Document) and name.endswith("x.py")
        )

    assert kept() == kept(licences="any") == kept(licences=["permissive", "copyleft", "other", "unknown"]) == "abcd"
    assert kept(licences="permissive") == kept(licences=["permissive"]) == "a"
    assert kept(licences="permissive_or_unknown") == kept(licences=["permissive", "unknown"]) == "ac"
    assert kept(licences=["copyleft"]) == "b"
    with pytest.raises(RecipeError):
        config("tree", licences=["free"])


def metadata_rows() -> Iterator[dict[str, Any]]:
    yield {
        "full_name": "Owner/Tree",
        "stargazers_count": 12,
        "forks_count": 3,
        "created_at": "2020-01-01T00:00:00Z",
        "license": {"spdx_id": "MIT"},
    }
    yield {"full_name": "other/thing", "stargazers_count": 1}


def test_metadata_of_repositories(tmp_path: Path) -> None:
    make(tmp_path / "tree", {"a.py": SOURCE})
    make(tmp_path / "thing", {"a.py": SOURCE})
    (tmp_path / "m.jsonl").write_bytes(b"\n".join(map(orjson.dumps, metadata_rows())) + b"\n\n")
    (tmp_path / "m.csv").write_text("repo,stars,forks\nOwner/Tree,12,3\nother/thing,1,\n")
    flat = [{"repo_name": "Owner/Tree", "stars": 12, "forks": 3}, {"repo_name": "other/thing", "stars": 1, "forks": None}]
    pq.write_table(pa.Table.from_pylist(flat), tmp_path / "m.parquet")
    for table in ("m.jsonl", "m.csv", "m.parquet"):
        found = {
            name: orjson.loads(r.meta)
            for name, r in by_name(tmp_path, "tree", "thing", metadata=[table]).items()
            if not isinstance(r, Failure)
        }
        assert (found["tree/a.py"]["stars"], found["tree/a.py"]["forks"], found["thing/a.py"]["stars"]) == (12, 3, 1)
    assert orjson.loads(by_name(tmp_path, "tree", metadata=["m.jsonl"])["tree/a.py"].meta)["repo_licence"] == "MIT"  # type: ignore[union-attr]
    pq.write_table(pa.table({"content": [SOURCE], "path": ["a.py"], "repo_name": ["owner/tree"]}), tmp_path / "t.parquet")
    settings = config("t.parquet", metadata=["m.csv"])
    (record,) = [r for e in code.plan(settings, tmp_path, 1) for r in code.read(e, settings, tmp_path)]
    assert isinstance(record, Document)
    assert orjson.loads(record.meta)["stars"] == 12
    (before,) = code.plan(settings, tmp_path, 1)
    (tmp_path / "m.csv").write_text("repo,stars,forks\nOwner/Tree,13,3\n")
    (after,) = code.plan(settings, tmp_path, 1)
    assert before.context != after.context  # a changed table is other work


@pytest.mark.parametrize("text", ["stars\n3\n", '{"stars": 3}\n', "[1]\n{", "\xff\xfe\n"])
def test_metadata_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    make(tmp_path / "tree", {"a.py": SOURCE})
    (tmp_path / "m").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="m"):
        by_name(tmp_path, "tree", metadata=["m"])


@pytest.mark.realdata
def test_context_of_a_real_repository(tmp_path: Path, data_dir: Path) -> None:
    source = data_dir / "code" / "flask"
    if not source.is_dir():
        pytest.skip(f"no source tree at {source}")
    shutil.copytree(source, tmp_path / "flask", symlinks=True)
    documents, _ = joined(tmp_path, "flask")
    kept = {name: r for name, r in by_name(tmp_path, "flask").items() if isinstance(r, Document)}
    assert sum(document.records for document in documents) == len(kept)
    order = [path for document in documents for path in order_of(document)]
    assert order.index("flask/signals.py") < order.index("flask/app.py") < order.index("flask/__init__.py")


def test_a_build_of_every_mode(tmp_path: Path) -> None:
    """Through the whole build: balanced, and the same documents from one and two workers and from small units."""
    make(tmp_path / "in/tree", PROJECT)
    make(tmp_path / "in/other", {"a.py": pairs_source, "LICENSE": GPL, "n.ipynb": orjson.dumps(NOTEBOOK)})
    sources = [{"name": mode, "type": "code", "paths": ["in/*"], "mode": mode} for mode in ("files", "context", "pairs", "docstrings")]
    found = []
    for workers, unit in ((1, 32 << 20), (2, 32 << 20), (1, 1 << 10)):
        out = tmp_path / f"out{workers}{unit}"
        manifest = build(recipe.check({"name": "x", "unit_bytes": unit, "sources": sources}, "test"), tmp_path, out, workers=workers)
        totals = manifest["totals"]
        assert totals["records"] == totals["documents"] + totals["dropped"] + totals["errors"] + totals["joined"]
        rows = [row for table in sorted((out / "documents").rglob("*.parquet")) for row in pq.read_table(table).to_pylist()]
        found.append(sorted((row["source"], row["id"], row["text"], row["meta"]) for row in rows))
    assert found[0] == found[1] == found[2]
    assert {source for source, *_ in found[0]} == {"files", "context", "pairs", "docstrings"}
