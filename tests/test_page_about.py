from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from realpages import RealPage, nodes_of, real_pages
from resiliparse.parse.html import HTMLTree

from codedev.corpus.extract import page_dates, page_jsonld, page_names
from codedev.corpus.extract.page_about import About, about
from codedev.corpus.extract.page_names import bare


def told(html: str, url: str | None = None) -> About:
    return about(nodes_of(HTMLTree.parse(html)), url)


def head(inner: str, body: str = "") -> str:
    return f"<!doctype html><html lang=en><head>{inner}</head><body>{body}</body></html>"


def ld(thing: object, around: str = "{}") -> str:
    return f'<script type="application/ld+json">{around.replace("{}", json.dumps(thing))}</script>'


# --- titles


@pytest.mark.parametrize(
    ("html", "title"),
    [
        (head("<meta property=og:site_name content='The Daily'><title>Rain in May | The Daily</title>"), "Rain in May"),
        (head("<meta property=og:site_name content='The Daily'><title>The Daily - Rain in May</title>"), "Rain in May"),
        (head("<title>Rain in May | Weather | Somewhere</title>", "<h1>Rain in May</h1>"), "Rain in May"),
        (head("<link rel=canonical href=https://www.daily-rain.example/x><title>Rain in May – daily-rain.example</title>"), "Rain in May"),
        (head("<title>A - B, and what it means</title>"), "A - B, and what it means"),  # nothing proves that a part is the site
        (head("<title>Home</title>", "<h1>Time to go</h1>"), "Time to go"),
        (head("<title>Daily</title><meta property=og:title content='Rain &amp;amp; wind'>"), "Rain & wind"),
        (
            head(ld({"@type": "NewsArticle", "headline": "Rain over the…"}) + "<meta property=og:title content='Rain over the hills'>"),
            "Rain over the hills",
        ),
        (
            head(ld({"@type": "Article", "headline": "list article", "name": "List of rains"}) + "<title>List of rains - X</title>"),
            "List of rains",
        ),
        (head("", "<h1>Only a heading</h1>"), "Only a heading"),
        (head(""), None),
    ],
)
def test_title(html: str, title: str | None) -> None:
    assert told(html).title == title


# --- authors


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("By Ann Lee and Bo Li, Staff Writer", ["Ann Lee", "Bo Li"]),
        ("Posted by: Ann Lee", ["Ann Lee"]),
        ("Von Änne Groß und Jörg Weiß", ["Änne Groß", "Jörg Weiß"]),
        ("Lee, Ann", ["Ann Lee"]),
        ("Ann Lee; Bo Li", ["Ann Lee", "Bo Li"]),
        ("Ann Lee, Bo Li, Cy Ma", ["Ann Lee", "Bo Li", "Cy Ma"]),
        ("https://facebook.com/annlee", []),
        ("ann@example.com", []),
        ("admin", []),
        ("The Daily", []),
        ("Leonardo Da Vinci", ["Leonardo Da Vinci"]),
    ],
)
def test_names(value: str, names: list[str]) -> None:
    assert page_names.names([value], frozenset({"thedaily"})) == names


@pytest.mark.parametrize(
    "body",
    [
        "<p class='byline'>By <a rel=author href=/ann>Ann Lee</a> | May 3, 2016</p>",
        "<span class='author vcard'><a class='fn' href=/a>Ann Lee</a></span>",
        "<span itemprop=author itemscope><span itemprop=name>Ann Lee</span>, who writes</span>",
        "<h1>Rain</h1><p>By Ann Lee</p><p>Long text</p>",
        "<h1>Rain</h1><div><span>von</span> <b>Ann Lee</b></div>",
        "<div class='comment'><span class=author>Bo Li</span></div><div class=entry-author>Ann Lee</div>",
    ],
)
def test_bylines_of_the_body(body: str) -> None:
    assert told(head("", body)).authors == ["Ann Lee"]


def test_authors_by_reference() -> None:
    graph = [{"@type": "Article", "headline": "Rain", "author": {"@id": "#1"}}, {"@type": "Person", "@id": "#1", "name": "Ann Lee"}]
    assert told(head(ld({"@graph": graph}))).authors == ["Ann Lee"]


# --- dates


@pytest.mark.parametrize(
    ("value", "date"),
    [
        ("2017-02-23T17:18:13-08:00", "2017-02-23T17:18:13-08:00"),
        ("2017-02-23 17:18:13.123Z", "2017-02-23T17:18:13+00:00"),
        ("2017-02-23T17:18:13-0800", "2017-02-23T17:18:13-08:00"),
        ("2017/2/3", "2017-02-03"),
        ("20170223", "2017-02-23"),
        ("Thu, 23 Feb 2017 17:18:13 GMT", "2017-02-23T17:18:13+00:00"),
        ("May 3rd, 2016 at 4:05 pm", "2016-05-03T16:05:00"),
        ("12. März 2016", "2016-03-12"),
        ("3 de mayo de 2016", "2016-05-03"),
        ("1er août 2019", "2019-08-01"),
        ("14 juillet 2019", "2019-07-14"),
        ("21 kwietnia 2021", "2021-04-21"),
        ("3 мая 2016", "2016-05-03"),
        ("2016年5月3日", "2016-05-03"),
        ("25/12/2016", "2016-12-25"),
        ("12/25/2016", "2016-12-25"),
        ("03.05.2016", "2016-05-03"),
        ("05/06/2016", None),  # may or june
        ("30 February 2016", None),
        ("2016-13-01", None),
        ("1816-05-03", None),
        ("3 market 2016", None),
        ("", None),
    ],
)
def test_dates(value: str, date: str | None) -> None:
    assert page_dates.iso(value) == date


@pytest.mark.parametrize(
    ("html", "published"),
    [
        (head("<meta property=article:published_time content=2016-05-03T10:00:00Z>"), "2016-05-03T10:00:00+00:00"),
        (head("<meta name=citation_publication_date content=2016/05/03>"), "2016-05-03"),
        (head("", "<time datetime=2016-05-03>yesterday</time>"), "2016-05-03"),
        (head("", "<div class=comments><time datetime=2017-01-01></time></div><span class=post-date>3 May 2016</span>"), "2016-05-03"),
        (head("", "<time class=updated datetime=2017-01-01></time><time class=published datetime=2016-05-03></time>"), "2016-05-03"),
        (head("", "<h1>Rain</h1><p>Weather • 03.05.2016</p><p>It rained on 4.4.1999.</p>"), "2016-05-03"),
        (head("", "<p>It rained on 4 April 1999 and nobody marked it.</p>"), None),
    ],
)
def test_published(html: str, published: str | None) -> None:
    assert told(html).published == published


def test_published_of_the_address() -> None:
    assert told(head(""), "https://x.example/2016/05/03/rain").published == "2016-05-03"
    assert told(head(""), "https://web.archive.org/web/20200808063632/https://x.example/20160503/rain").published == "2016-05-03"


# --- JSON-LD


@pytest.mark.parametrize(
    "around", ["{}", "<!-- {} -->", "//<![CDATA[\n{}\n//]]>", "/* <![CDATA[ */ {}; /* ]]> */", "\n\n{};", "[{},]", '{"@graph":[{}]}']
)
def test_wrappers(around: str) -> None:
    thing = {"@type": "https://schema.org/NewsArticle", "headline": "Rain"}
    found = page_jsonld.things([around.replace("{}", json.dumps(thing))])
    assert [page_jsonld.types(one) for one in found if "headline" in one] == [["newsarticle"]]


def test_broken_json() -> None:
    assert page_jsonld.things(['{"@type": "Article", "headline": "a\nb", "author": ["x",], }'])[0]["headline"] == "a b"
    assert page_jsonld.things(["{", "", "nothing", "}{", '"text"', "3"]) == []


def test_a_list_of_articles_is_no_article() -> None:
    things = [{"@type": "BlogPosting", "headline": f"Post {n}", "datePublished": f"2016-05-0{n}"} for n in (1, 2, 3)]
    assert told(head(ld(things) + "<title>All posts</title>")).published is None
    assert told(head(ld(things) + "<title>Post 2</title>")).published == "2016-05-02"


# --- the rest


def test_the_rest() -> None:
    found = told(
        "<html lang=de_at><head><meta property=og:type content=Article><meta name=generator content='Sphinx 7'>"
        "<meta property=og:locale content=en_US><link rel='nofollow canonical' href=/rain><meta name=description content='How  it\nrained'>"
        "<meta property=article:section content=Weather><meta name=keywords content='rain, wind,,rain'></head></html>",
        "https://x.example/a",
    )
    assert found.language == "de-AT"
    assert found.canonical == "https://x.example/rain"
    assert (found.description, found.section, found.tags) == ("How it rained", "Weather", ["rain", "wind"])
    assert (found.types, found.generator) == (["og:article"], "Sphinx 7")


def test_nothing() -> None:
    assert told("") == About(None, [], None, None, None, None, None, None, [], None, [], None)


def _cost(html: str) -> float:
    tree = HTMLTree.parse(html)
    begin = time.process_time()
    about(nodes_of(tree))
    return time.process_time() - begin


@pytest.mark.parametrize(
    "piece",
    [
        "<meta property=og:title content='a | b'>",
        "<h1>a - b</h1>",
        "<time datetime=x>3 May</time>",
        "<i class=author>by by by</i>",
        '<script type="application/ld+json">[{"@graph":[[{}]]},,</script>',
        "<p class=date>3 3 3 3 3 3 3 3</p>",
    ],
)
def test_linear_in_elements(piece: str) -> None:
    assert _cost("<html><body>" + piece * 20_000) < 2  # measured: 0.1 s


def test_marks_inside_each_other() -> None:
    opened = "<div class='date author' itemprop=author><h1>"
    assert _cost(f"<html><body>{opened * 500}{'word ' * 2_000_000}") < 1  # measured: 0.05 s; by the whole text of each 20 s


@pytest.mark.parametrize("text", ["| ", "by ", "1.", "a, ", "3 May ", "\t", "{", "[", "&amp;", ", ]", "0" * 10, "<!--"])
def test_linear_in_text(text: str) -> None:
    long = text * (2_000_000 // len(text))
    script = f"<script type=application/ld+json>{long[: 1 << 20]}</script>"
    html = f"<title>{long}</title><meta name=author content='{long}'><meta name=date content='{long}'>{script}"
    found = told(html)
    assert all(len(value) <= 1000 for value in found if isinstance(value, str))
    assert _cost(html) < 2  # measured: 0.05 s


# --- real pages


def _gold(web: Path, page: RealPage) -> dict[str, Any]:
    gold: dict[str, Any] = json.loads((web / "mozilla__readability/test/test-pages" / page.id / "expected-metadata.json").read_text())
    return gold


@pytest.mark.realdata
def test_agreement_with_readability_and_trafilatura(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trafilatura = pytest.importorskip("trafilatura")
    rows = dict.fromkeys(("title", "author", "date"), (0, 0, 0))

    def count(name: str, gold: str | None, ours: bool, theirs: bool) -> None:
        if gold:
            rows[name] = (rows[name][0] + 1, rows[name][1] + ours, rows[name][2] + theirs)

    for page in real_pages(data_dir / "web"):
        if page.set != "readability":
            continue
        gold = _gold(data_dir / "web", page)
        ours, theirs = about(nodes_of(page.tree())), trafilatura.extract_metadata(page.html)
        title, names = bare(gold["title"]), bare(gold.get("byline") or "")
        count("title", title, bare(ours.title or "") == title, bare((theirs and theirs.title) or "") == title)
        their_names = [bare(name) for name in ((theirs and theirs.author) or "").split(";") if bare(name)]
        our_names = [bare(name) for name in ours.authors]
        count("author", names, *(bool(found) and all(name in names for name in found) for found in (our_names, their_names)))
        day = page_dates.iso(gold.get("publishedTime"))
        # The wikia page tells the same instant in another zone.
        count(
            "date", day, bool(day and ours.published and _same_day(ours.published, day)), bool(day and theirs and theirs.date == day[:10])
        )
    with capsys.disabled():
        print("\n".join(["", "           gold  ours  trafilatura", *(f"{name:10} {n:5} {a:5} {b:12}" for name, (n, a, b) in rows.items())]))
    assert rows["title"][1] >= 49
    assert rows["author"][1] >= 25
    assert rows["date"][1] >= 12


def _same_day(one: str, other: str) -> bool:
    a, b = datetime.fromisoformat(one), datetime.fromisoformat(other)
    return one[:10] == other[:10] or (a.tzinfo is not None and b.tzinfo is not None and a == b)


@pytest.mark.realdata
def test_bounds_on_real_pages(data_dir: Path) -> None:
    for number, page in enumerate(real_pages(data_dir / "web")):
        if number % 4:
            continue
        nodes = nodes_of(page.tree())
        found = about(nodes, page.url)
        assert all(len(value) <= 1000 for value in found if isinstance(value, str))
        assert all("@" not in name and "http" not in name for name in found.authors)
        for date in (found.published, found.modified):
            assert date is None or page_dates.iso(date) == date
        assert about(nodes, page.url) == found
