from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from realpages import real_pages
from resiliparse.parse.html import HTMLTree

from codedev.kernels import htmlfind, htmltape
from codedev.kernels.htmltape import NAMES, OTHER, Tape

WORDS, ALONE = ("og:title", "author", "dc.date", "description"), ("robots", "dc.rights")
KNOWN = htmlfind.names(WORDS, ALONE)
SELECTORS = {
    htmlfind.HEADING: ["h1"],
    htmlfind.TIME: ["time"],
    htmlfind.SCRIPT: ['script[type="application/ld+json" i]'],
    htmlfind.AUTHOR: [
        *('[itemprop~="author" i]', '[rel~="author" i]'),
        *('[class*="byline" i]', '[class*="author" i]', '[class*="autor" i]'),
    ],
    htmlfind.DATE: ['[itemprop*="date" i]', '[class*="date" i]', '[class*="publish" i]', '[class*="timestamp" i]'],
    htmlfind.NAME: ['[itemprop~="name" i]'],
    htmlfind.LICENCE: [
        *(f'[rel~="{name}" i]' for name in ("license", "cc:license", "dct:license", "dcterms:license")),
        *('[property$="license" i]', '[itemprop~="license" i]'),
    ],
}
_CREATIVE_COMMONS = re.compile(r"\s*(?:https?:)?(?://)?(?:www\.)?creativecommons\.org/", re.IGNORECASE)


def tape_of(tree: HTMLTree) -> Tape:
    document: Any = tree.document
    return htmltape.tape(np.frombuffer(document.html.encode("utf-8", "replace"), np.uint8))


def check(tree: HTMLTree) -> int:
    """What the kernels find against what the parser's selectors do; how many finds that is."""
    document: Any = tree.document
    tape = tape_of(tree)
    marked = htmlfind.marked(tape)
    places = [node for _, node in marked]
    assert places == sorted(set(places))
    for bit, selectors in SELECTORS.items():
        expected = {hash(element): element.tag for selector in selectors for element in document.query_selector_all(selector)[:]}
        found = [_name(tape, node) for bits, node in marked if bits & bit]
        assert sorted(found) == sorted(tag if tag in NAMES else "" for tag in expected.values()), selectors
    links = [element.getattr("href") for element in document.query_selector_all("a[href]")[:]]
    assert sum(1 for bits, _ in marked if bits & htmlfind.CREATIVE_COMMONS) == sum(1 for link in links if _CREATIVE_COMMONS.match(link))
    told = htmlfind.told(tape, KNOWN)
    singles = (
        (htmlfind.TITLE, "title"),
        (htmlfind.CANONICAL, 'link[rel~="canonical" i]'),
        (htmlfind.JSON_LD, SELECTORS[htmlfind.SCRIPT][0]),
    )
    for what, selector in singles:
        assert sum(1 for row in told if row[0] == what) == len(document.query_selector_all(selector)), selector
    contents = [(what - htmlfind.META, bytes(tape.data[start:end]).decode()) for what, _, start, end in told if what >= htmlfind.META]
    assert sorted(contents) == sorted(_metas(document))
    return len(marked) + len(told)


def _name(tape: Tape, node: int) -> str:
    number = int(tape.tag[node])
    return NAMES[number - OTHER - 1] if number > OTHER else ""


def _metas(document: Any) -> list[tuple[int, str]]:
    found = []
    for element in document.query_selector_all("meta[content]")[:]:
        content = element.getattr("content").replace("&", "&amp;").replace("\xa0", "&nbsp;").replace('"', "&quot;")
        content = content.replace("<", "&lt;").replace(">", "&gt;") if "&lt;" in element.html or "&gt;" in element.html else content
        alone = (element.getattr("name") or "").strip().lower()
        if alone in ALONE:
            found.append((len(WORDS) + ALONE.index(alone), content))
        said = next((value for name in ("property", "name", "itemprop", "http-equiv") if (value := element.getattr(name))), "")
        found += [(WORDS.index(word), content) for word in said.lower().split()[:10] if word in WORDS]
    return found


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<h1>a</h1><H1 class=Post-Author>b</H1><time>c</time>",
        "<i class='x AUTHORS'></i><i class=byLine></i><i class='auto thor'></i><i data-class=author></i><i class=autor>",
        "<i class='up-dated'></i><i class=Update></i><i class=dat></i><i class=timestamps></i><i class=timestam></i><i class=d>",
        "<i itemprop='a author'></i><i itemprop=coauthor></i><i itemprop='dateCreated name'></i><i itemprop=update></i><i itemprop>",
        "<a rel='nofollow author license'></a><a rel=cc:LICENSE></a><a rel=licensed></a><i property=dc:license></i><i property=license:no>",
        "<a href=' HTTPS://www.CreativeCommons.org/x'></a><a href=//creativecommons.org/></a><a href=http://x/creativecommons.org/></a>",
        "<script type='application/LD+json'>{}</script><script type=text/x class=author></script><svg><title class=date>t</title></svg>",
        "<template><h1 class=author>a</h1><meta name=robots content=x></template><p title='\"<h1 class=author>'>",
        "<meta name=' Robots ' content='a&quot;b'><meta property=robots content=no>",
        "<meta name=author property='og:title x Author' content='&nbsp;'><meta property='' name=dc.date content=c>",
        "<meta name=author><meta itemprop=author content><meta http-equiv='description' content='a > b'>",
        "<link rel='x Canonical' href=a><link rel=canonicals href=b>",
        "<body class=author><unknown class=date rel=author></unknown>",
    ],
)
def test_against_selectors(body: str) -> None:
    check(HTMLTree.parse(f"<!doctype html><html><head><title>t</title></head>{body}"))


@pytest.mark.parametrize(
    ("before", "piece", "times"),
    [
        ("", "<i class='author'>", 20_000),
        ("", "<meta name=author content=x>", 50_000),
        ("", "<i>", 100_000),
        ("", "<template>", 20_000),
        ("<p class='", "author ", 500_000),
        ("<p itemprop='", "date", 500_000),
        ("<meta content=x name='", "author ", 500_000),
        ("<p", " class=author rel=license", 200),
        ("<p title='", '<h1 class=author>"=', 100_000),
    ],
)
def test_linear_and_bounded(before: str, piece: str, times: int) -> None:
    html = before + piece * times + ("'>" if before.endswith("'") else "")
    tape = tape_of(HTMLTree.parse(html))
    seconds = []
    for _ in range(3):  # the first may wait for the kernel, and any for a busy machine
        begin = time.thread_time()
        found = len(htmlfind.told(tape, KNOWN)) + len(htmlfind.marked(tape))
        seconds.append(time.thread_time() - begin)
    assert min(seconds) < 0.3  # measured: 0.01 s
    assert found <= 12_000


@pytest.mark.realdata
def test_against_selectors_on_real_pages(data_dir: Path) -> None:
    found = sum(check(page.tree()) for number, page in enumerate(real_pages(data_dir / "web")) if number % 3 == 0)
    assert found > 5_000
