"""What strangers' files may hold, command by command: each case once hung, showed a traceback or wrote to the terminal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codedev._errors import InputError, RecipeError
from codedev.corpus.extract.html import PageError, html_to_text
from codedev.corpus.look import look, manifest_of, visible
from codedev.corpus.repository import root_licence
from codedev.corpus.sources.code import source as code
from codedev.tokenize.shards import open_shards


def test_a_page_of_many_licence_links_costs_linear_time() -> None:
    link = '<p><a href="https://creativecommons.org/licenses/by/4.0/">x</a></p>'
    began = time.perf_counter()
    page = html_to_text(f"<html><body>{link * 3000}".encode())
    assert time.perf_counter() - began < 5  # it took 40 s
    assert page.meta["licence_links"] == ["https://creativecommons.org/licenses/by/4.0/"]


def test_a_key_without_end_in_package_metadata_costs_no_time(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(".".join(["a"] * 100_000) + " = 1\n")
    (tmp_path / "Cargo.toml").write_text('[package]\nlicense = "MIT"\n' + f'description = "{"a." * 500}"\n')
    began = time.perf_counter()
    assert root_licence(str(tmp_path), ["pyproject.toml", "Cargo.toml"], []).expression == "MIT"
    assert time.perf_counter() - began < 2


def test_document_text_gives_a_terminal_no_commands() -> None:
    assert visible("a\x1b[2J\u202eb\x9bc\nd\té") == "a\\x1b[2J\\u202eb\\x9bc\nd\té"


CORPUS = {
    "format": "codedev.corpus/1",
    "sources": [{"name": "c"}],
    "parts": {"documents": [], "dropped": [], "errors": []},
    "waterfall": {"c": []},
}


@pytest.mark.parametrize(
    "change",
    [
        {"sources": None},
        {"sources": [1]},
        {"parts": []},
        {"parts": {**CORPUS["parts"], "documents": [{"path": "../x.parquet"}]}},
        {"parts": {**CORPUS["parts"], "errors": [{"path": 5}]}},
        {"waterfall": {"c": [1]}},
    ],
)
def test_a_corpus_manifest_edited_by_hand_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(CORPUS))
    assert look(tmp_path, dropped=None, errors=False, source=None, document_id=None, limit=1) == []
    (tmp_path / "manifest.json").write_text(json.dumps(CORPUS | change))
    with pytest.raises(InputError, match="no complete manifest"):
        manifest_of(tmp_path)


SHARDS = {
    "format": "codedev.shards/1",
    "rows": 1,
    "seq_len": 8,
    "vocab_size": 10,
    "files": [{"name": "shard-00000.arrow", "rows": 1}],
    "corpus": {"path": "../c", "manifest_hash": "0"},
    "tokenizer": {"file": "tokenizer.json", "hash": "0", "eos": "</s>"},
}


@pytest.mark.parametrize(
    "change",
    [{"rows": "x"}, {"files": None}, {"files": [1]}, {"files": [{"name": "../x", "rows": 1}]}, {"corpus": None}, {"tokenizer": []}],
)
def test_a_shard_manifest_edited_by_hand_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(SHARDS))
    assert open_shards(tmp_path).rows == 1
    (tmp_path / "manifest.json").write_text(json.dumps(SHARDS | change))
    with pytest.raises(InputError, match="no complete manifest"):
        open_shards(tmp_path)


def test_a_run_writes_over_no_model_that_is_not_its_own(tmp_path: Path) -> None:
    pretrain = pytest.importorskip("codedev.train.pretrain")
    pretrain._check_dir(tmp_path)
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match="holds model and no run"):
        pretrain._check_dir(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    pretrain._check_dir(tmp_path)


@pytest.mark.parametrize("temperature", [float("nan"), 1e-300, -1.0])
def test_a_temperature_that_no_sampling_stands_is_refused(tmp_path: Path, temperature: float) -> None:
    generate = pytest.importorskip("codedev.train.use.generate").generate
    with pytest.raises(RecipeError, match="temperature"):
        generate(tmp_path, "x", temperature=temperature)


def test_a_recipe_folder_whose_name_is_a_pattern(tmp_path: Path) -> None:
    base = tmp_path / "a[1]*"
    (base / "repos" / "one").mkdir(parents=True)
    (base / "repos" / "one" / "a.py").write_text("x = 1\n")
    found = list(code.plan(code.Config(name="c", paths=("repos/*",)), base, 1 << 20))
    assert [extent.name for extent in found] == ["repos/one/a.py"]


@pytest.mark.parametrize(
    "page",
    [
        "".join(f"<font a{n}=1><p>" for n in range(20_000)),
        "<b><i><a>" * 100_000,
        "<select>" + "<option>x" * 64_000,
        "".join(f"<body a{n}=1>" for n in range(30_000)),
        "<div>" * 1_900 + "</p>" * 64_000,
    ],
    ids=["fonts", "formatting", "options", "bodies", "stray-ends"],
)
def test_markup_that_costs_a_parser_quadratic_time_is_refused_at_once(page: str) -> None:
    started = time.process_time()
    with pytest.raises(PageError):
        html_to_text(page.encode())
    assert time.process_time() - started < 2


# --- pages of any size: text or a PageError, in linear time and memory


def _repeated(piece: str, before: str = "<html><body>", after: str = "") -> Callable[[int], bytes]:
    return lambda size: before.encode() + piece.encode() * (size // len(piece.encode())) + after.encode()


def _numbered(piece: str, before: str = "<html><body>") -> Callable[[int], bytes]:
    """Pieces with their number in the place of #, so that no two are alike."""
    return lambda size: before.encode() + "".join(piece.replace("#", str(number)) for number in range(size // (len(piece) + 5))).encode()


def _nested(opened: str, closed: str, most: int = 100_000) -> Callable[[int], bytes]:
    def make(size: int) -> bytes:
        depth = min(most, size // len(opened + closed))
        return (f"<p>{WORDS}" + opened * depth + "deep" + closed * depth).encode() + f"<p>{WORDS}".encode() * 10

    return make


WORDS = "Some words of a paragraph that is long enough to be taken for content, with a comma or two, and an end. "
_SCRIPT = "<script>if (a < b) { '</p>' }</script>"
PAGES: dict[str, Callable[[int], bytes]] = {
    "nested elements": _nested("<div>", "</div>"),
    "nested lists": _nested("<ul><li>", "</li></ul>"),
    "nested lists, open": _nested("<ol><li>x", ""),
    "nested tables": _nested("<table><tr><td>", "</td></tr></table>", 300),
    "nested tables, deep": _nested("<table><tr><td>", ""),
    "nested quotes": _nested("<blockquote>", "", 1_500),
    "nested spans": _nested("<span>", "</span>", 1_900),
    "nested svg and maths": _nested("<svg><math>", ""),
    "many attributes": _numbered(" a#=b", "<html><body><p"),
    "tags of many attributes": lambda size: ("<p" + "".join(f" a{n}=b" for n in range(5_000)) + ">x</p>").encode() * (size // 45_000),
    "large attributes": lambda size: b"<p class='" + b"word " * (size // 10) + b"' id=\"" + b"x" * (size // 2) + b'">text</p>',
    "classes": _numbered("<p class='a# b#'>x"),
    "entities": _repeated("&amp;&#1234;&nbsp;&bogus;&#xD800;&#0;"),
    "entities without end": _repeated("&#"),
    "longest entity": _repeated("&CounterClockwiseContourIntegral;"),
    "unclosed paragraphs": _repeated(f"<p>{WORDS}"),
    "unclosed everything": _repeated("<div><p><b><table><tr><td><ul><li><a href=x><h1>x"),
    "unclosed comment": _repeated("<!-- a "),
    "unclosed script": _repeated("<script>"),
    "unclosed quotes": _repeated("<a b='"),
    "unclosed tags": _repeated("<p "),
    "left brackets": _repeated("<"),
    "stray ends": _repeated("</div></span></td>"),
    "utf-7": _repeated("+ADw-script+AD4-alert(1)+ADw-/script+AD4- ", "<meta charset=utf-7><body>"),
    "gif": _repeated(f"<p>{WORDS}", "GIF89a/*\0\1<html><body>"),
    "pdf": _repeated(f"<p>{WORDS}", "%PDF-1.7\n1 0 obj <</Type/Catalog>>\n<html><body>"),
    "zip": _repeated(f"<p>{WORDS}", "PK\3\4\24\0\0\0<html><body>"),
    "scripts in every place": _repeated(f"<table>{_SCRIPT}<tr>{_SCRIPT}<td>x{_SCRIPT}</table><p>{_SCRIPT}y<select>{_SCRIPT}</select>"),
    "script in attributes": _repeated("<p title='<script>x</script>' onclick=\"a('</p>')\">x</p>"),
    "cells": _repeated("<td>1", "<html><body><table><tr>"),
    "rows": _repeated("<tr><td>1<td>2", "<html><body><table>"),
    "spans of cells": _repeated("<tr><td colspan=1000000 rowspan=1000000>1", "<html><body><table>"),
    "wide spans": _repeated("<td colspan=1000 rowspan=65534>1", "<html><body><table><tr>"),
    "spans below spans": _repeated("<tr><td rowspan=65534>1<td>2<td colspan=99999999999999999999>3", "<html><body><table>"),
    "one wide row": _repeated("<tr><td>1", "<html><body><table><tr>" + "<td>1" * 10_000),
    "long list": _repeated("<li>x"),
    "list numbers": _repeated("<ol start=99999999999999999999><li value=-99999999999999999999>x</ol>"),
    "formulas": _repeated("<math><mi>x</mi><mo>=</mo><mn>1</mn></math> "),
    "nested formulas": _nested("<mrow>", "", 1_900),
    "nested fractions": lambda size: b"<math>" + b"<mfrac>" * min(size // 8, 1_500) + b"<mi>x" + b"<p>" + WORDS.encode() * 10,
    "one large formula": _repeated("<mfrac><mi>x</mi><mn>1</mn></mfrac>", "<html><body><math>"),
    "dollars": _repeated("$x$ and $$y ", "<html><head><script>MathJax={tex:{inlineMath:[['$','$']]}}</script></head><body>"),
    "open formulas": _repeated("\\[ x \\( y "),
    "formula scripts": _repeated("<script type='math/tex'>x^2</script> "),
    "json-ld": lambda size: (
        b"<script type='application/ld+json'>[" + b'{"@type":"Article","author":{"name":"A B"}},' * (size // 44) + b"{}]</script>"
    ),
    "deep json-ld": lambda size: b"<script type='application/ld+json'>" + b'{"a":[' * (size // 6) + b"</script><p>" + WORDS.encode(),
    "pieces of json-ld": _repeated('<script type="application/ld+json">{"@type":"Article","headline":"x"}</script>'),
    "metas": _repeated("<meta property='article:tag' content='x'><meta name=author content='A B'>", "<html><head>"),
    "dates": _repeated("<time datetime='2020-01-01'>1 May 2020</time> by <span class=author>Ann Rower</span> "),
    "headings": _repeated("<h1>Some heading</h1>"),
    "links": _repeated("<a href='https://example.org/a'>x y</a> "),
    "pictures": _repeated("<img src=x alt='a picture of it'>"),
    "nul bytes": _repeated("\0"),
    "nul between words": _repeated("a\0 <p>\0"),
    "surrogates": lambda size: b"<meta charset=utf-8><p>" + b"\xed\xa0\x80 x" * (size // 5),
    "bad bytes": lambda size: b"<meta charset=utf-8><p>" + b"\xff\xc3 x" * (size // 4),
    "mojibake": _repeated("Ã©tÃ© â€œcafÃ©â€\u009d "),
    "one line": _repeated("word ", "<html><body><p>"),
    "one word": _repeated("a", "<html><body><p>"),
    "white space": _repeated(" \n\t\u00a0", "<html><body><p>a"),
    "breaks": _repeated("<br>a", "<html><body><p>"),
    "code": _repeated("<span class=k>if</span> <span>x</span>\n", "<html><body><pre>"),
    "lines of code": _repeated("<tr><td class=lineno>1<td>x = 1", "<html><body><table class=highlight>"),
    "pieces of code": _repeated("<pre><code class='language-python'>x = 1\n</code></pre>"),
    "inline code": _repeated("<code>`x`</code> "),
    "backticks": _repeated("`", "<html><body><pre>"),
    "layout": _repeated(f"<table><tr><td>{WORDS}<td><ul><li>x</table>"),
    "templates": _repeated("<template><p>x</template><noscript><p>y</noscript>"),
    "namespaces": _repeated("<svg><foreignObject><p>x</p></foreignObject></svg>"),
    "definitions": _repeated("<dl><dt>a<dd>b</dl>"),
}


def read_page(name: str, size: int) -> tuple[int, float, float]:
    """Bytes of the page, seconds of CPU time that it takes, memory that it takes at most as a multiple of its size."""
    html_to_text(b"<title>a - b</title><p>$x$<table><tr><td>" + WORDS.encode())  # what is loaded once
    page = PAGES[name](size)
    before = _most_memory()
    started = time.process_time()
    try:
        html_to_text(page, url="https://example.org/a").text.encode()
    except PageError as error:
        print(f"{name}: {error}", file=sys.stderr)
    seconds = time.process_time() - started
    return len(page), seconds, (_most_memory() - before) / len(page)


def _most_memory() -> int:
    """Bytes that this process has held at most. `ru_maxrss` would start from what its parent held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0


@pytest.mark.parametrize("name", PAGES)
def test_a_hostile_page_is_text_or_a_page_error_and_quick(name: str) -> None:
    size, seconds, _ = read_page(name, 1_000_000)
    assert size < 1_200_000
    assert seconds < 5


# Each of the pages has been read at 50 MB once; these are what the others are like, and take a minute. Formulas between dollars cost up
# to 2 s for each MB, and are let off.
LARGE = (
    *("nested elements", "nested tables, deep", "many attributes", "large attributes", "classes", "deep json-ld", "links", "bad bytes"),
    *("mojibake", "one line", "one word", "code"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_fifty_megabytes_take_ten_seconds_and_sixty_times_their_size_at_most(name: str) -> None:
    """In a process of its own: another page's memory would count."""
    code = f"import json, test_hostile_input as t; print(json.dumps(t.read_page({name!r}, 50_000_000)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    size, seconds, times = json.loads(done.stdout)
    assert seconds < 10, done.stderr
    assert size < 10_000_000 or times < 60  # what a small page takes is no matter
