"""HTML to text: licences, what a page says of itself, costly pages."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import orjson
import pytest

from codedev.corpus.extract.html import PageError, html_to_text, licence_of_url, looks_like_html

PAGE = """<!DOCTYPE html><html lang="de-AT"><head>{head}<title> Ein   Titel &amp; mehr </title>
<link rel="Canonical" href="https://example.org/seite"></head><body><nav><ul><li><a href="/">Start</a></li></ul></nav>
<article><h1>Überschrift</h1><p>Der erste Absatz erzählt etwas, das länger ist als nur ein Wort, und endet hier.</p>
<p>Der zweite Absatz: größer, schöner, weiter. {body}</p><script>var no = "script text";</script></article>
<footer class="footer">Impressum</footer></body></html>"""


def page(head: str = "", body: str = "", charset: str = "utf-8") -> bytes:
    return PAGE.format(head=head, body=body).encode(charset)


def test_main_content_and_what_the_page_says_of_itself() -> None:
    text, licence, meta, _ = html_to_text(page())
    assert "Der erste Absatz erzählt etwas" in text
    assert "größer, schöner" in text
    assert "Start" not in text
    assert "Impressum" not in text
    assert "script text" not in text
    assert licence is None
    assert {name: value for name, value in meta.items() if value is not None} == {
        "title": "Ein Titel & mehr",
        "page_kind": "other",
        "html_lang": "de-AT",
        "canonical": "https://example.org/seite",
        "charset": "utf-8",
    }
    everything = html_to_text(page(), extract="all").text
    assert "Start" in everything
    assert "Impressum" in everything
    assert "script text" not in everything


def test_xhtml_may_close_elements_at_once() -> None:
    source = b'<html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="a"/></head><body><p>seen</p></body></html>'
    assert html_to_text(source, extract="all").text.strip() == "seen"


@pytest.mark.parametrize(
    ("url", "spdx"),
    [
        ("https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("http://creativecommons.org/licenses/by-sa/3.0/deed.en", "CC-BY-SA-3.0"),
        ("//www.creativecommons.org/licenses/by-nc-nd/2.5", "CC-BY-NC-ND-2.5"),
        ("http://creativecommons.org/licenses/by-nc-sa/3.0/de/", "CC-BY-NC-SA-3.0-DE"),
        ("http://creativecommons.org/licenses/by/2.0/fr/", "CC-BY-2.0"),
        ("http://creativecommons.org/licenses/by-nd-nc/1.0/", "CC-BY-NC-ND-1.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("http://creativecommons.org/licenses/publicdomain/", "CC-PDDC"),
        ("https://www.apache.org/licenses/LICENSE-2.0.html", "Apache-2.0"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("https://creativecommons.org/", None),
        ("https://creativecommons.org/licenses/by/9.0/", None),
        ("https://creativecommons.org/licenses/sampling+/1.0/", None),
        ("https://evil.example/creativecommons.org/licenses/by/4.0/", None),
        ("all rights reserved", None),
    ],
)
def test_licence_urls(url: str, spdx: str | None) -> None:
    assert licence_of_url(url) == spdx


def test_a_licence_is_what_the_page_marks_as_its_own() -> None:
    by = "https://creativecommons.org/licenses/by/4.0/"
    nc = "https://creativecommons.org/licenses/by-nc/4.0/"
    assert html_to_text(page(body=f'<a href="{by}" rel="nofollow License">CC</a>')).licence == "CC-BY-4.0"
    assert html_to_text(page(head=f'<link rel="license" href="{by}">')).licence == "CC-BY-4.0"
    assert html_to_text(page(head=f'<meta name="DCTERMS.license" content="{by}">')).licence == "CC-BY-4.0"
    picture = html_to_text(page(body=f'<a href="{by}">the picture</a>'))
    assert picture.licence is None
    assert picture.meta["licence_links"] == [by]
    two = html_to_text(page(body=f'<a rel=license href="{by}">a</a><a rel=license href="{nc}">b</a>'))
    assert two.licence is None
    assert two.meta["licence_links"] == [nc, by]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"<!doctype HTML>\n<p>", True),
        (b"  <HTML lang=en>", True),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x"><html xmlns="x">', True),
        (b"<!-- one --><!-- two -->\n<head>", True),
        ("<html>".encode("utf-16"), True),
        (b'<?xml version="1.0"?><rss><channel>', False),
        (b'<?xml version="1.0"?><TEI><text><body>', False),
        (b"<svg><title>x</title></svg>", False),
        (b"<p align=center>Markdown</p>", False),
        (b"about <html>", False),
        (b"", False),
        (b"<!---->" * 500 + b"x", False),  # exponential for a pattern that backtracks
        (b"<?a?>" * 800, False),
        (b"<!doctype \n" * 300, False),
    ],
)
def test_what_looks_like_html(head: bytes, expected: bool) -> None:
    assert looks_like_html(head) == expected


@pytest.mark.parametrize(
    "source",
    [
        "<div>" * 300_000 + "x",
        "<div>" * 300_000 + "x" + "</div>" * 300_000,
        "<div " + " ".join(f"a{n}=1" for n in range(300_000)) + ">x",
        "<div " + " ".join(f"a{n}='>'" for n in range(300_000)) + ">x",
        "<script>if (a<b) '</script><div " + " ".join(f"a{n}" for n in range(300_000)) + ">x",
        "<b><p>" * 100_000,
        "<table><tr><td>" * 100_000,
        "<a>" * 300_000 + "x",
        "<p><i>x" * 50_000,
        "<!--" * 300_000,
        "<" * 1_000_000,
        "&" * 1_000_000,
        "<a b='" * 100_000,
        "<ul><li>x" * 50_000,
    ],
    ids=lambda source: source[:24],
)
def test_costly_pages_are_refused_or_quick(source: str) -> None:
    started = time.perf_counter()
    with contextlib.suppress(PageError):
        html_to_text(source.encode())
    assert time.perf_counter() - started < 5


@pytest.mark.realdata
def test_main_content_of_real_pages_holds_what_people_marked(data_dir: Path) -> None:
    """trafilatura's evaluation: sentences that the text must have, and others it must not."""
    folder = data_dir / "web" / "adbar__trafilatura" / "tests"
    told = orjson.loads((folder / "evaldata.json").read_bytes())
    hits = wanted = noise = unwanted = 0
    for entry in list(told.values())[:150]:
        file = next((path for name in ("eval", "cache") if (path := folder / name / entry["file"]).exists()), None)
        if file is None:
            continue
        text = " ".join(html_to_text(file.read_bytes()).text.split())
        hits += sum(" ".join(segment.split()) in text for segment in entry["with"])
        wanted += len(entry["with"])
        noise += sum(" ".join(segment.split()) in text for segment in entry["without"])
        unwanted += len(entry["without"])
    assert wanted > 200
    assert hits / wanted > 0.9
    assert noise / unwanted < 0.35
