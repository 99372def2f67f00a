"""The web source: which extractor reads pages, which kinds of page are kept, and what a page that kills its worker costs."""

from __future__ import annotations

import datetime as dt
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from test_source_web import Thing, extents, kinds, members, read, record, response, write

from codedev._errors import MissingExtraError, RecipeError
from codedev.corpus import recipe as recipes
from codedev.corpus.extract import content, extractors, page_kind
from codedev.corpus.extract.extractors import by_codedev, by_trafilatura
from codedev.corpus.extract.html import PageError
from codedev.corpus.source import Document, Drop, Failure
from codedev.corpus.unit import Context, Unit, score_key

WORDS = "The ferry leaves the harbour at seven in the morning and comes back in the late afternoon, when the tide is high enough. "
ARTICLE = f"""<!doctype html><html lang="en"><head><title>The ferry - Harbour News</title>
<meta property="og:type" content="article"><meta property="og:site_name" content="Harbour News"><meta name="author" content="Ann Rower">
<meta property="article:published_time" content="2019-05-06T07:08:09Z"><meta name="robots" content="noarchive">
<link rel="license" href="https://creativecommons.org/licenses/by/4.0/"><link rel="canonical" href="https://example.org/ferry"></head>
<body><nav><a href="/">Start</a> <a href="/all">All the news</a></nav><article><h1>The ferry</h1><p>{WORDS * 2}</p>
<table><tr><th>Day</th><th>Time</th></tr><tr><td>Monday</td><td>seven</td></tr><tr><td>Sunday</td><td>nine</td></tr></table>
<p>{WORDS} It is <b>never</b> late.</p></article><footer>Imprint</footer></body></html>""".encode()
PRODUCT = f"""<!doctype html><html><head><title>Rope, 20 m</title><meta property="og:type" content="product">
<script type="application/ld+json">{{"@context":"https://schema.org","@type":"Product","name":"Rope"}}</script></head>
<body class="single-product"><h1>Rope</h1><p>{WORDS * 2}</p></body></html>""".encode()


def meta(thing: Thing) -> dict[str, Any]:
    assert not isinstance(thing, Failure)
    return orjson.loads(thing.meta)  # type: ignore[no-any-return]


# --- trafilatura behind the same seam


def test_both_extractors_say_the_same_things_of_a_page() -> None:
    pytest.importorskip("trafilatura")
    ours, theirs = (extract(ARTICLE, None, "main", "https://example.org/ferry?x") for extract in (by_codedev, by_trafilatura))
    for page in (ours, theirs):
        assert page.text.count("The ferry leaves the harbour") == 3
        assert "| Monday | seven |" in page.text
        assert "**never**" in page.text or page is ours
        assert "Imprint" not in page.text
        assert "All the news" not in page.text
    told = ("title", "authors", "site", "html_lang", "canonical", "robots", "charset", "page_kind")
    assert {name: theirs.meta[name] for name in told} == {name: ours.meta[name] for name in told}
    assert theirs.meta["title"] == "The ferry"
    assert theirs.meta["published"] == "2019-05-06"
    assert (theirs.licence, theirs.kind) == (ours.licence, ours.kind) == ("CC-BY-4.0", "article")
    assert set(theirs.meta) == set(ours.meta)


@pytest.mark.realdata
def test_trafilatura_gives_the_text_that_it_gives_by_itself(data_dir: Path) -> None:
    """On real pages, beside its own command for the same choices; in both our reading of the charset."""
    trafilatura = pytest.importorskip("trafilatura")
    compared = 0
    for path in sorted((data_dir / "web/adbar__trafilatura/tests/eval").glob("*.html"))[:25]:
        try:
            html = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        page = by_trafilatura(html.encode())
        assert page.text == (trafilatura.extract(html, output_format="markdown", include_comments=False) or ""), path
        compared += 1
    assert compared > 20


def test_trafilatura_never_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trafilatura")

    def refuse(*_: object) -> None:
        raise AssertionError("it opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for page in (ARTICLE, b"http://example.org/", b"<html><head><base href='http://example.org/'><link rel=stylesheet href=/a></head><p>a"):
        by_trafilatura(page, None, "main", "http://example.org/a")


@pytest.mark.parametrize("page", [b"", b" ", b"<", b"<html>", b"<?xml version='1.0' encoding='x'?><html><p>a", b"\0" * 99, b"<p>\xff"])
def test_trafilatura_stands_any_page(page: bytes) -> None:
    pytest.importorskip("trafilatura")
    assert by_trafilatura(page).meta["charset"]


def test_a_fault_inside_of_trafilatura_costs_the_page_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = pytest.importorskip("trafilatura").core

    def fail(*_: object, **__: object) -> None:
        raise KeyError("\x1b[31m" + "x" * 1000)

    monkeypatch.setattr(core, "bare_extraction", fail)
    with pytest.raises(PageError, match=r"^trafilatura: KeyError"):
        by_trafilatura(ARTICLE)
    (failure,) = read(write(tmp_path / "w", record(0, response(ARTICLE))), extractor="trafilatura")
    assert isinstance(failure, Failure)
    assert failure.kind == "bad_html"
    assert len(failure.message) < 300


def test_a_missing_package_is_told_before_anything_is_read(tmp_path: Path) -> None:
    """In a process of its own: what was imported once stays."""
    write(tmp_path / "w.html", ARTICLE)
    code = (
        "import sys; sys.modules['trafilatura'] = None\n"
        "from pathlib import Path\n"
        "from codedev._errors import MissingExtraError\n"
        "from codedev.corpus.sources.web import source\n"
        f"config = source.Config(name='w', paths=({str(tmp_path / 'w.html')!r},), extractor='trafilatura')\n"
        "try:\n    next(source.plan(config, Path('.'), 1 << 20))\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("trafilatura is not installed")
    assert "[trafilatura]" in told
    assert told.count("\n") == 1
    assert issubclass(MissingExtraError, Exception)


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("trafilatura", ["extract", "PAGE", "--extractor", "trafilatura"], "trafilatura"),
        ("trafilatura", ["learn-extractor", "--data", "FOLDER", "--out", "FOLDER/m.npz"], "learn"),
        ("lightgbm", ["learn-extractor", "--data", "FOLDER", "--out", "FOLDER/m.npz"], "learn"),
    ],
)
def test_commands_name_what_is_to_be_installed(missing: str, arguments: list[str], extra: str, tmp_path: Path) -> None:
    """The package cannot be found in any process: a folder that comes first hides it, in workers too."""
    write(tmp_path / "w.html", ARTICLE)
    (tmp_path / "hides" / missing).mkdir(parents=True)
    (tmp_path / "hides" / missing / "__init__.py").write_text(f"raise ModuleNotFoundError('No module named {missing}', name={missing!r})")
    if arguments[0] == "learn-extractor":  # which asks before it imports
        code = f"import sys; sys.modules[{missing!r}] = None; from codedev.cli import main; main()"
    else:
        code = "from codedev.cli import main; main()"
    named = [one.replace("PAGE", str(tmp_path / "w.html")).replace("FOLDER", str(tmp_path)) for one in arguments]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "hides")} if arguments[0] == "extract" else None
    command = [sys.executable, "-c", code, "corpus", *named]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: {missing} is not installed. Install it with: pip install -e '.[{extra}]' in the folder of codedev"
    ]


def test_nothing_but_learning_needs_trafilatura() -> None:
    code = "import sys; sys.modules['trafilatura'] = None; import codedev.corpus.extract.learn.train, codedev.corpus.extract.learn.label"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- what decides a unit's key


def test_extractor_its_version_and_the_model_are_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trafilatura")
    path = write(tmp_path / "w.html", ARTICLE)

    def key(**keys: object) -> str:
        extractors.version.cache_clear()
        recipe = recipes.check({"name": "r", "sources": [{"name": "w", "type": "web", "paths": [str(path)], **keys}]}, "r")
        return score_key(Context(recipe, tmp_path, tmp_path / "out"), Unit(0, 0, tuple(extents(path, **keys))))

    ours, theirs, as_it_is = key(), key(extractor="trafilatura"), key(extract="none")
    assert len({ours, theirs, as_it_is}) == 3
    assert key() == ours
    monkeypatch.setattr(extractors.importlib.metadata, "version", lambda _: "99")
    assert key(extractor="trafilatura") != theirs
    assert key() == ours
    monkeypatch.undo()
    monkeypatch.setattr(extractors, "file_hash", lambda _: "another model")
    assert key() != ours
    assert key(extractor="trafilatura") != theirs  # the kind of page depends on it
    assert key(extract="none") == as_it_is
    monkeypatch.undo()
    extractors.version.cache_clear()


# --- kinds of page


def test_pages_of_unwanted_kinds_are_dropped_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "w", b"".join(record(n, response(page)) for n, page in enumerate((ARTICLE, PRODUCT))))
    both = read(path)
    assert kinds(both) == ["document", "document"]
    assert [meta(thing)["page_kind"] for thing in both] == ["article", "product"]
    for choice in ({"keep": ("article", "blog")}, {"drop": ("product", "listing")}):
        first, second = read(path, page_kinds=choice)
        assert first == both[0]
        assert isinstance(second, Drop)
        evidence = orjson.loads(second.evidence)
        assert (second.reason, evidence["kind"]) == ("page_kind", "product")
        assert max(evidence["votes"], key=evidence["votes"].get) == "product"
        assert evidence["votes"]["product"] >= 8  # schema.org's and Open Graph's word
        assert all(evidence["votes"].values())
        assert evidence["spoke"][0].startswith("type product: ")
        assert meta(second)["page_kind"] == "product"
    text = write(tmp_path / "t", record(0, WORDS.encode(), "conversion", Content_Type="text/plain"))
    assert kinds(read(text, page_kinds={"drop": ("article",)})) == ["document"]  # no kind is no unwanted one,
    (drop,) = read(text, page_kinds={"keep": ("article",)})  # and no wanted one
    assert isinstance(drop, Drop)
    assert orjson.loads(drop.evidence) == {"kind": "unknown"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"page_kinds": {"keep": ["articel"]}}, "unknown kind of page 'articel': did you mean 'article'"),
        ({"page_kinds": {"drop": ["shop"]}}, "known: article, blog"),
        ({"page_kinds": {"keep": ["blog"], "drop": ["listing"]}}, "either `keep` or `drop`"),
        ({"page_kinds": {}}, "either `keep` or `drop`"),
        ({"page_kinds": {"keep": []}}, "is empty"),
        ({"page_kinds": {"only": ["blog"]}}, "unknown key 'only'"),
        ({"page_kinds": {"keep": ["blog"]}, "extract": "none"}, "no kind is known"),
        ({"extractor": "trafilatura", "extract": "all"}, "main content alone: leave out `extract: all`, or `extractor: trafilatura`"),
        ({"extractor": "readability"}, "'readability'"),
    ],
)
def test_impossible_recipes_are_refused_in_a_line(keys: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as told:
        recipes.check_source({"name": "w", "type": "web", "paths": ["x"], **keys}, "r")
    assert "\n" not in str(told.value)


def test_every_kind_of_page_may_be_named() -> None:
    recipes.check_source({"name": "w", "type": "web", "paths": ["x"], "page_kinds": {"drop": list(page_kind.KINDS)}}, "r")


# --- what reaches meta


def test_what_a_page_says_of_itself_and_when_it_was_crawled(tmp_path: Path) -> None:
    (thing,) = read(write(tmp_path / "w", record(0, response(ARTICLE))))
    assert isinstance(thing, Document)
    assert thing.created == dt.datetime(2020, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    told = {name: value for name, value in meta(thing).items() if value is not None}
    assert told == {
        "title": "The ferry",
        "authors": ["Ann Rower"],
        "published": "2019-05-06T07:08:09+00:00",
        "site": "Harbour News",
        "html_lang": "en",
        "canonical": "https://example.org/ferry",
        "page_kind": "article",
        "charset": "utf-8",
        "robots": ["noarchive"],
        "content_type": "text/html",
        "http_status": 200,
        "warc_type": "response",
    }


# --- records that cost their worker


@pytest.mark.slow
def test_a_page_that_hangs_costs_its_worker_and_becomes_an_error_row(tmp_path: Path) -> None:
    """50,000 formulas under a limit that they cannot hold stand for a page that hangs."""
    from codedev.corpus.build import build

    big = ARTICLE.replace(b"<p>", b"<p>" + b"<math><mi>x</mi><mo>=</mo><mn>1</mn></math> " * 50_000, 1)
    write(
        tmp_path / "w.warc.gz",
        members([*(record(n, response(ARTICLE)) for n in range(3)), record(3, response(big)), record(4, response(ARTICLE))]),
    )
    write(tmp_path / "w.html", big)
    source = {"name": "w", "type": "web", "paths": ["w.*"], "max_record_seconds": 0.05}
    recipe = recipes.check({"name": "r", "sources": [source], "unit_bytes": 1 << 20}, "r")
    manifest = build(recipe, tmp_path, tmp_path / "out", isolated=True)
    totals = manifest["totals"]
    assert (totals["documents"], totals["errors"]) == (4, 2)
    rows = [row for part in sorted((tmp_path / "out/errors/w").glob("*.parquet")) for row in pq.read_table(part).to_pylist()]
    assert sorted((row["file"], row["kind"]) for row in rows) == [("w.html", "timeout"), ("w.warc.gz", "timeout")]


def test_the_content_model_is_the_one_that_is_hashed() -> None:
    assert content.shipped_model().recipe
    assert extractors.version("codedev") != ""
