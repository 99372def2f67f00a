"""What a page says of itself: WAT records joined with their pages, licences, robots; the HTML handed over as it is."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import lxml.html
import orjson
import pyarrow.parquet as pq
import pytest
from test_source_web import HTML, Thing, kinds, members, pages, read, record, response, write

from codedev._files import open_decompressed
from codedev.corpus.extract import charset, html
from codedev.corpus.extract.page_rights import licence_of, licence_of_url, of_headers
from codedev.corpus.source import Document, Drop, Failure, Piece
from codedev.corpus.sources.web import source as web
from codedev.corpus.sources.web.format import identify


def joined(folder: Path, unit_bytes: int = 1 << 40, **keys: Any) -> list[Thing]:
    """read and gather, as a build brings them together: pieces sorted by file, offset, member and data."""
    config = web.Config(name="w", **keys)
    out: list[Thing] = []
    groups: dict[str, list[Piece]] = defaultdict(list)
    for extent in web.plan(config, folder, unit_bytes):
        for thing in web.read(extent._replace(hash="h"), config, folder):
            if isinstance(thing, Piece):
                groups[thing.key].append(thing._replace(file=thing.file or extent.name))
            else:
                out.append(thing)
    for key, pieces in groups.items():
        made = list(web.gather(0, key, sorted(pieces, key=lambda p: (p.file, p.offset, p.member or "", p.data)), config))
        assert sum(piece.records for piece in pieces) == len(made)
        out += made
    return out


def wat_record(number: int, facts: dict[str, Any], refers: str | None = None, kind: str = "response") -> bytes:
    crawled = {"WARC-Type": kind, "WARC-Record-ID": f"<urn:uuid:{number:08}>", "WARC-Target-URI": f"http://example.org/{number}"}
    envelope = {"Format": "WARC/1.0", "WARC-Header-Metadata": crawled, "Payload-Metadata": {"HTTP-Response-Metadata": facts}}
    fields = {"WARC_Refers_To": refers} if refers else {}
    return record(9000 + number, orjson.dumps({"Envelope": envelope}), "metadata", Content_Type="application/json", **fields)


FACTS = {
    "Headers": {"Content-Language": "en-GB", "X-Robots-Tag": "noarchive", "Server": "s"},
    "HTML-Metadata": {
        "Head": {
            "Title": "A  title",
            "Metas": [{"name": "description", "content": "Of words."}, {"property": "og:type", "content": "article"}],
            "Link": [
                {"path": "LINK@/href", "url": "https://creativecommons.org/licenses/by/4.0/", "rel": "license"},
                {"path": "LINK@/href", "url": "http://example.org/canonical", "rel": "canonical"},
            ],
        },
        "Links": [{"path": "A@/href", "url": "/a"}, {"path": "A@/href", "url": "/b"}, {"path": "IMG@/src", "url": "/c.png"}],
    },
}


@pytest.mark.realdata
def test_real_wat_and_wet_meet(data_dir: Path) -> None:
    folder = data_dir / "web/commoncrawl__whirlwind-python"
    for ending in ("", ".gz"):
        wat = (f"whirlwind.warc.wat{ending}",)
        found = joined(folder, paths=(f"whirlwind.warc.wet{ending}",), wat=wat)
        assert sorted(kinds(found)) == ["document", "metadata", "warcinfo", "warcinfo"]
        (page,) = (thing for thing in found if isinstance(thing, Document))
        with open_decompressed(str(folder / f"whirlwind.warc.wat{ending}")) as file:
            told = [orjson.loads(line) for line in file.read().split(b"\n") if line.startswith(b'{"Container"')]
        about = [one["Envelope"] for one in told if one["Envelope"]["WARC-Header-Metadata"]["WARC-Type"] == "response"]
        assert (page.file or "").endswith(f"whirlwind.warc.wet{ending}")
        assert page.text.startswith("Escopete") or "Escopete" in page.text
        assert len(about) <= 1
        (whole,) = (thing for thing in joined(folder, paths=(f"whirlwind.warc{ending}",), wat=wat) if isinstance(thing, Document))
        alone = [thing for thing in read(folder / f"whirlwind.warc{ending}") if isinstance(thing, Document)]
        assert whole.text == alone[0].text
        assert (whole.id, whole.offset, whole.length, whole.licence, whole.created) == (
            alone[0].id,
            alone[0].offset,
            alone[0].length,
            alone[0].licence,
            alone[0].created,
        )


def test_pages_meet_their_metadata(tmp_path: Path) -> None:
    write(tmp_path / "a.warc.gz", members(pages(20)))
    wet = [
        record(100 + n, b"Some words of page %d." % n, "conversion", WARC_Refers_To=f"<urn:uuid:{n:08}>", Content_Type="text/plain")
        for n in range(20)
    ]
    write(tmp_path / "b.wet", b"".join(wet))
    order = random.Random(0).sample(range(15), 15)
    wat = [wat_record(n, FACTS, f"<urn:uuid:{n:08}>") for n in order] + [wat_record(700, FACTS), wat_record(3, FACTS, kind="request")]
    write(tmp_path / "c.wat.gz", members([*wat, record(1, b"{broken", "metadata")]))
    whole = joined(tmp_path, paths=("*",), wat=("c.wat.gz",))  # the glob names the WAT file too, which is read once
    for unit_bytes in (1, 2000):
        assert sorted(map(repr, joined(tmp_path, unit_bytes, paths=("*",), wat=("c.wat.gz",)))) == sorted(map(repr, whole))
    documents = {thing.id: thing for thing in whole if isinstance(thing, Document)}
    assert len(documents) == 40
    assert sorted(kinds(whole)) == ["document"] * 40 + ["failure invalid_json", "metadata"]
    for n in range(20):
        page, text = documents[f"urn:uuid:{n:08}"], documents[f"urn:uuid:{100 + n:08}"]
        for one in (page, text):
            meta = orjson.loads(one.meta)
            assert ("wat" in meta) == (n < 15)
            if n < 15:
                assert meta["wat"] == {
                    "content_language": "en-GB",
                    "description": "Of words.",
                    "images": 1,
                    "links": 2,
                    "og_type": "article",
                    "server": "s",
                }
                assert one.licence == "CC-BY-4.0"
                assert meta["canonical"] == "http://example.org/canonical"
                assert meta["robots"] == ["noarchive"]
            else:
                assert one.licence is None
        assert orjson.loads(page.meta)["title"] == "T"  # the page's own word goes first
        assert orjson.loads(text.meta).get("title") == ("A title" if n < 15 else None)


def test_without_the_option_metadata_are_drops(tmp_path: Path) -> None:
    write(tmp_path / "a.wat", b"".join([*pages(1), wat_record(0, FACTS, "<urn:uuid:00000000>")]))
    assert web.rounds(web.Config(name="w", paths=(".",))) == 0
    assert kinds(read(tmp_path / "a.wat")) == ["document", "metadata"]
    config = web.Config(name="w", paths=("a.wat",), wat=("a.wat",))
    assert web.rounds(config) == 1


def test_arc_pages_meet_their_metadata_by_url_and_date(tmp_path: Path) -> None:
    from test_source_web_arc import arc_pages

    write(tmp_path / "a.arc", b"".join(arc_pages(4)))
    said = {"Target-URI": "http://example.org/2", "Date": "20200203040506", "IP-address": "192.0.2.7"}
    envelope = {"Format": "ARC", "ARC-Header-Metadata": said, "Payload-Metadata": {"HTTP-Response-Metadata": FACTS}}
    write(tmp_path / "b.wat", record(1, orjson.dumps({"Envelope": envelope}), "metadata", Content_Type="application/json"))
    found = [thing for thing in joined(tmp_path, paths=("a.arc",), wat=("b.wat",)) if isinstance(thing, Document)]
    assert {thing.url for thing in found if "wat" in orjson.loads(thing.meta)} == {"http://example.org/2"}
    assert len(found) == 3


@pytest.mark.parametrize(
    "block",
    [b"", b"[]", b"1", b'{"Envelope": []}', b'{"Envelope": {"WARC-Header-Metadata": 7}}', b'{"a":' * 5000, b"\xff\xfe", b"null"],
)
def test_metadata_of_any_shape(tmp_path: Path, block: bytes) -> None:
    write(tmp_path / "a.warc", b"".join(pages(1)))
    write(tmp_path / "a.wat", record(1, block, "metadata"))
    found = joined(tmp_path, paths=("a.warc",), wat=("a.wat",))
    assert len(found) == 2
    assert isinstance(found[0], Drop | Failure)
    for value in (None, 7, "x", [], {}, [[]], [{"name": 7, "content": 8}], {"a": {}}):
        facts = {"Headers": value, "HTML-Metadata": {"Head": {"Metas": value, "Link": value, "Title": value}, "Links": value}}
        write(tmp_path / "a.wat", wat_record(0, facts))
        (page,) = joined(tmp_path, paths=("a.warc",), wat=("a.wat",))
        assert isinstance(page, Document)


# --- licences


@pytest.mark.parametrize(
    ("url", "spdx"),
    [
        ("http://creativecommons.org/licenses/by-nc/2.5/br/", "CC-BY-NC-2.5"),
        ("https://creativecommons.org/licenses/by-sa/3.0/igo/legalcode", "CC-BY-SA-3.0-IGO"),
        ("https://creativecommons.org/licenses/by-nc-sa/2.0/fr/deed.fr", "CC-BY-NC-SA-2.0-FR"),
        ("https://creativecommons.org/licenses/by/2.5/au?ref=chooser", "CC-BY-2.5-AU"),
        ("//creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("creativecommons.org/publicdomain/mark/1.0/deed.de", "CC-PDM-1.0"),
        ("http://creativecommons.org/licenses/publicdomain/", "CC-PDDC"),
        ("https://www.creativecommons.org/licenses/by-nd-nc/1.0/", "CC-BY-NC-ND-1.0"),
        ("http://creativecommons.org/licenses/by/2.1/jp/", None),
        ("http://creativecommons.org/licenses/sampling+/1.0/", None),
        ("http://creativecommons.org/licenses/by/", None),
        ("http://evil.example/?creativecommons.org/licenses/by/4.0/", None),
        ("https://www.apache.org/licenses/LICENSE-2.0.html", "Apache-2.0"),
        ("https://www.gnu.org/licenses/fdl-1.3.html", "GFDL-1.3-only"),
    ],
)
def test_licence_urls(url: str, spdx: str | None) -> None:
    assert licence_of_url(url) == spdx
    assert licence_of(f"Some rights reserved: {url}") == (spdx if "reativecommons" in url and "evil" not in url else licence_of(url + " x"))


CC = "https://creativecommons.org/licenses/by-sa/4.0/"
NC = "https://creativecommons.org/licenses/by-nc/4.0/"


@pytest.mark.parametrize(
    ("markup", "spdx"),
    [
        (f'<a rel="license" href="{CC}">x</a>', "CC-BY-SA-4.0"),
        (f'<a rel="License noopener" href="{CC}">x</a>', "CC-BY-SA-4.0"),
        (f'<link rel="license" href="{CC}">', "CC-BY-SA-4.0"),
        (f'<meta name="DC.rights" content="Licensed under {CC} by its author">', "CC-BY-SA-4.0"),
        ('<meta name="dcterms.license" content="CC BY-SA 4.0">', "CC-BY-SA-4.0"),
        (f'<a property="cc:license" resource="{CC}">x</a>', "CC-BY-SA-4.0"),
        (f'<div typeof="schema:Article"><a property="schema:license" href="{CC}">x</a></div>', "CC-BY-SA-4.0"),
        (f'<div typeof="schema:ImageObject"><a property="license" href="{CC}">x</a></div>', None),
        (f'<div itemscope itemtype="https://schema.org/Article"><link itemprop="license" href="{CC}"></div>', "CC-BY-SA-4.0"),
        (f'<div itemscope itemtype="https://schema.org/ImageObject"><link itemprop="license" href="{CC}"></div>', None),
        (f'<div about="photo.jpg"><a property="cc:license" href="{CC}">x</a></div>', None),
        (f'<a href="{CC}">x</a>', None),
        (f'<a rel="license" href="{CC}">x</a><a rel="license" href="{NC}">y</a>', None),
        (f'<script type="application/ld+json">{{"@type": "NewsArticle", "license": "{CC}"}}</script>', "CC-BY-SA-4.0"),
        (
            f'<script type="application/ld+json">{{"@graph": [{{"@type": ["WebPage"], "license": {{"@id": "{CC}"}}}}]}}</script>',
            "CC-BY-SA-4.0",
        ),
        (f'<script type="application/ld+json">[{{"@type": "ImageObject", "license": "{CC}"}}]</script>', None),
        (f'<script type="application/ld+json">{{"@type": "Article", "image": {{"license": "{CC}"}}}}</script>', None),
        ('<script type="application/ld+json">{"license": </script>', None),
        ('<script type="application/ld+json">' + '{"license":[' * 2000 + "</script>", None),
    ],
)
def test_licences_that_pages_mark(markup: str, spdx: str | None) -> None:
    for page in (f"<html><body><p>Words of it.</p>{markup}</body></html>", f"<html><head>{markup}</head><body><p>Words</p></body></html>"):
        if page.startswith(("<html><head><div", "<html><head><a")):
            continue
        data = page.encode()
        assert html.html_to_text(data).licence == spdx
        assert html.html_as_it_is(data).licence == spdx


def test_a_licence_in_a_link_header(tmp_path: Path) -> None:
    link = f'<https://example.org/p>; rel="canonical", <{CC}>; title="a, b"; rel="license"'
    blocks = [
        response(HTML % b"a", Link=link),
        response(HTML.replace(b"</p>", b'</p><a rel="license" href="' + NC.encode() + b'">x</a>') % b"b", Link=link),
    ]
    first, second = read(write(tmp_path / "w", b"".join(record(n, block) for n, block in enumerate(blocks))))
    assert isinstance(first, Document)
    assert first.licence == "CC-BY-SA-4.0"
    assert isinstance(second, Document)
    assert second.licence is None
    assert sorted(orjson.loads(second.meta)["licence_links"]) == ["CC-BY-NC-4.0", "CC-BY-SA-4.0"]


@pytest.mark.realdata
def test_licences_of_real_pages_against_lxml(data_dir: Path) -> None:
    """rel=license alone, as another parser finds it."""
    agreed = 0
    for path in sorted((data_dir / "web").rglob("*.html")):
        data = path.read_bytes()
        try:
            page = html.html_as_it_is(data)
            tree = lxml.html.document_fromstring(data)
        except (html.PageError, lxml.etree.ParserError, ValueError):
            continue
        marked = {
            licence_of_url(one.get("href") or "")
            for one in tree.iter()
            if isinstance(one.tag, str) and "license" in (one.get("rel") or "").lower().split()
        }
        marked.discard(None)
        if len(marked) == 1 and b"ld+json" not in data:
            assert page.licence in marked, path
            agreed += 1
    assert agreed > 15


# --- robots


ROBOTS = [
    ('<meta name="robots" content="NOAI, noimageai">', {}, ["noai", "noimageai"], True),
    ('<meta name="robots" content="index, follow, max-snippet:-1">', {}, None, False),
    ('<meta name="ROBOTS" content="noindex,nofollow">', {}, ["nofollow", "noindex"], True),
    ('<meta name="robots" content="nofollow">', {}, ["nofollow"], False),
    ('<meta name="googlebot" content="noindex">', {}, ["googlebot:noindex"], False),
    ('<meta name="CCBot" content="nofollow, noindex">', {}, ["ccbot:nofollow", "ccbot:noindex"], True),
    ('<meta name="tdm-reservation" content="1">', {}, ["tdm-reservation:1"], True),
    ('<meta name="tdm-reservation" content="0">', {}, None, False),
    ("", {"TDM_Reservation": "1"}, ["tdm-reservation:1"], True),
    ("", {"X_Robots_Tag": "noarchive, noai"}, ["noai", "noarchive"], True),
    ("", {"X_Robots_Tag": "otherbot: noindex, nofollow"}, None, False),
    ("", {"X_Robots_Tag": "googlebot: nofollow\r\nX-Robots-Tag: noindex"}, ["googlebot:nofollow", "noindex"], True),
    ("", {"X_Robots_Tag": "unavailable_after: 25 Jun 2010 15:00:00 PST, none"}, ["none"], True),
    ('<meta name="robots" content="nofollow">', {"X_Robots_Tag": "gptbot: noml"}, ["gptbot:noml", "nofollow"], True),
]


@pytest.mark.parametrize(("markup", "headers", "expected", "reserved"), ROBOTS)
def test_robots(tmp_path: Path, markup: str, headers: dict[str, str], expected: list[str] | None, reserved: bool) -> None:
    page = b"<html><head>" + markup.encode() + b"</head><body><p>Some words that a page may have.</p></body></html>"
    path = write(tmp_path / "w", record(0, response(page, **headers)))
    for extract in ("main", "none"):
        (thing,) = read(path, extract=extract)
        assert isinstance(thing, Document)
        assert orjson.loads(thing.meta).get("robots") == expected
        (thing,) = read(path, extract=extract, robots="respect")
        assert isinstance(thing, Drop) == reserved
        if isinstance(thing, Drop):
            assert thing.reason == "robots"
            assert orjson.loads(thing.evidence)["directive"] in (expected or [])


def test_robots_of_a_wat_record_count(tmp_path: Path) -> None:
    wet = record(100, b"Some words.", "conversion", WARC_Refers_To="<urn:uuid:00000001>", Content_Type="text/plain")
    write(tmp_path / "a.wet", wet)
    write(tmp_path / "a.wat", wat_record(1, {"Headers": {"X-Robots-Tag": "noai"}}))
    (kept,) = joined(tmp_path, paths=("a.wet",), wat=("a.wat",))
    assert orjson.loads(kept.meta)["robots"] == ["noai"]
    (dropped,) = joined(tmp_path, paths=("a.wet",), wat=("a.wat",), robots="respect")
    assert isinstance(dropped, Drop)
    assert (dropped.reason, dropped.id, dropped.file) == ("robots", "urn:uuid:00000100", kept.file)


def test_hostile_headers_cost_linear_time() -> None:
    started = time.perf_counter()
    for value in (
        "a:" * 500_000,
        "noindex," * 500_000,
        "<x>; " * 200_000,
        '<a>; rel="' + "b " * 500_000,
        "\n" * 1_000_000,
        "," * 1_000_000,
    ):
        of_headers({"x-robots-tag": value, "link": value})
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "piece", ["icense ", '<a rel="license" href="x">y</a>', '<i itemprop="license">', '<meta name="robots" content="noai">', "</head>"]
)
def test_hostile_pages_cost_linear_time(piece: str) -> None:
    started = time.perf_counter()
    html.html_as_it_is(("<html><head></head><body>" + piece * (3_000_000 // len(piece))).encode())
    assert time.perf_counter() - started < 5


# --- the HTML as it is


@pytest.mark.realdata
def test_pages_as_they_are(data_dir: Path) -> None:
    """With `extract: none` the text is the page, and what it says of itself is what the whole tree says."""
    compared = told = 0
    for path in sorted((data_dir / "web").rglob("*.html"))[::3]:
        data = path.read_bytes()
        try:
            whole = html.html_to_text(data, extract="all")
        except html.PageError:
            continue
        page = html.html_as_it_is(data)
        assert page.text == charset.decode(data, markup=True)[0]
        told_here = {
            "charset",
            "replaced",
            "licence_links",
            "robots",
        }  # titles, languages and addresses are read more thoroughly with the text
        differing = {key for key in told_here if whole.meta[key] != page.meta[key]}
        assert differing <= {"robots"}, (path, differing)
        compared += 1
        told += not differing and page.licence == whole.licence
    assert compared > 200
    assert told > 0.98 * compared


def test_the_html_of_a_page_that_cannot_be_parsed_is_handed_over(tmp_path: Path) -> None:
    page = b"<html><head><title>T</title></head><body>" + b"<b><i>" * 1500 + b"<a rel=license></body></html>"
    assert kinds(read(write(tmp_path / "w", record(0, response(page))))) == ["failure bad_html"]
    (thing,) = read(tmp_path / "w", extract="none")
    assert isinstance(thing, Document)
    assert thing.text.encode() == page
    assert "left open" in orjson.loads(thing.meta)["unparsed"]


@pytest.mark.realdata
def test_every_real_file_of_the_category_is_read(data_dir: Path) -> None:
    """No exception, and where another count of records is to be had, as many as that."""
    files = kinds_seen = 0
    for path in sorted((data_dir / "web").rglob("*")):
        if not path.is_file():
            continue
        things = read(path, extract="none")
        assert things, path
        files += 1
        with path.open("rb") as file:
            form = identify(file, 64 << 20, 1000)
        if form.kind in ("html", "other", "empty"):
            assert len(things) == 1, path
        elif form.kind == "warc" and not any(isinstance(thing, Failure) for thing in things):
            with open_decompressed(str(path)) as stream:
                assert len(things) == stream.read().count(b"WARC-Record-ID:") or path.name.startswith("clueweb"), path
            kinds_seen += 1
    assert files > 700
    assert kinds_seen > 20


@pytest.mark.slow
def test_a_build_joins_metadata_whatever_the_units_and_workers(tmp_path: Path) -> None:
    from codedev.corpus.build import build
    from codedev.corpus.recipe import load

    write(tmp_path / "a.warc.gz", members(pages(60)))
    order = random.Random(1).sample(range(50), 50)
    write(
        tmp_path / "b.wat.gz", members([wat_record(n, FACTS, f"<urn:uuid:{n:08}>") for n in order] + [wat_record(3, FACTS, kind="request")])
    )
    tables = []
    for out, unit_bytes, workers in (("one", 1 << 25, 1), ("two", 1500, 2)):
        source = {"name": "w", "type": "web", "paths": ["*.gz"], "wat": ["b.wat.gz"], "robots": "respect"}
        recipe = tmp_path / "recipe.yaml"
        recipe.write_bytes(orjson.dumps({"name": "c", "unit_bytes": unit_bytes, "sources": [source], "dedup": {"exact": None}}))
        manifest = build(load(recipe), tmp_path, tmp_path / out, workers=workers)
        totals = manifest["totals"]
        assert (totals["records"], totals["documents"], totals["dropped"], totals["errors"]) == (61, 60, 1, 0)
        parts = sorted((tmp_path / out / "documents/w").glob("*.parquet"))
        rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
        tables.append(sorted(rows, key=lambda row: row["id"]))
        assert sum('"wat"' in row["meta"] for row in rows) == 50
    assert tables[0] == tables[1]
