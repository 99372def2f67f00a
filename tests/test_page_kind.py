from __future__ import annotations

import re
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from realpages import RealPage, nodes_of, real_pages
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from codedev.corpus.extract.page_about import about
from codedev.corpus.extract.page_kind import KINDS, Stats, Verdict, kind
from codedev.corpus.extract.page_kind_rules import RULES

GOLDEN = Path(__file__).parent / "golden/page_kinds.tsv"
_PRICE = re.compile(r"(?:[$€£¥]\s?\d|\d\s?(?:€|£|円|EUR\b|USD\b))")
_POST = (
    '[class*="comment-body" i], [class*="comment-content" i], [class*="postbody" i], [class*="message-body" i], [class~="answer" i], '
    '[id^="post_message"]'
)
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


def words_in(text: str) -> int:
    """Chinese and Japanese have no spaces: two characters are a word."""
    return len(text.split()) + len(_UNSPACED.findall(text)) // 2


def stats_of(tree: HTMLTree) -> Stats:
    """The same counts as the extractor's, the slow way."""
    document: Any = tree.document
    kept = extract_plain_text(tree, main_content=True)
    whole = extract_plain_text(tree, main_content=False, alt_texts=False)
    linked = sum(words_in(element.text or "") for element in document.query_selector_all("a[href]")[:])
    alike: Counter[tuple[int, str, str | None]] = Counter()
    for element in document.query_selector_all("article, li, tr, div")[:]:
        alike[hash(element.parent), element.tag, element.getattr("class")] += 1
    words_all = words_in(whole)
    return Stats(
        blocks=sum(1 for line in kept.split("\n") if line.strip()),
        words=words_in(kept),
        words_all=words_all,
        link_share=min(1.0, linked / max(1, words_all)),
        paragraphs=sum(1 for line in kept.split("\n") if words_in(line) >= 30),
        repeated=max(alike.values(), default=0),
        code=len(document.query_selector_all("pre")),
        tables=len(document.query_selector_all("table")),
        prices=len(_PRICE.findall(kept)),
        posts=len(document.query_selector_all(_POST)),
    )


def judged(html: str, url: str | None = None, stats: Stats | None = None) -> Verdict:
    nodes = nodes_of(HTMLTree.parse(html))
    return kind(nodes, url, about(nodes, url), stats or Stats(words=400, words_all=600, link_share=0.2, paragraphs=6))


def site_of(page: RealPage) -> str:
    host = re.match(r"https?://(?:web\.archive\.org/web/\d+/(?:https?://)?)?([^/]+)", page.url or "")
    return host[1] if host else page.id


def is_held_out(page: RealPage) -> bool:
    """By site, so that no site is on both sides."""
    return zlib.crc32(site_of(page).encode()) % 2 == 1


def real_verdicts(web: Path) -> list[tuple[RealPage, str, Verdict]]:
    rows = [line.split("\t") for line in GOLDEN.read_text().splitlines()[1:]]
    labels = {(row[0], row[1]): row[2] for row in rows}
    found = []
    for page in real_pages(web):
        if label := labels.get((page.set, page.id)):
            tree = page.tree()
            nodes = nodes_of(tree)
            found.append((page, label, kind(nodes, page.url, about(nodes, page.url), stats_of(tree))))
    return found


@pytest.mark.parametrize(
    ("html", "url", "expected"),
    [
        ('<script type="application/ld+json">{"@type": "NewsArticle"}</script>', "https://x.example/a", "article"),
        ("<meta name=generator content=blogger>", "https://ann.blogspot.com/2016/05/rain.html", "blog"),
        ("<meta name=generator content='phpBB 3'>", "https://x.example/viewtopic.php?t=3", "forum"),
        (
            "<title>linux - Why does it rain? - Stack Overflow</title>",
            "https://stackoverflow.com/questions/12345/why-does-it-rain",
            "forum",
        ),
        ("<meta name=generator content='Docusaurus v2'>", "https://x.example/docs/rain", "documentation"),
        ("<meta property=og:type content=product>", "https://x.example/p/3", "product"),
        ("<body class='archive category'>", "https://x.example/category/rain/", "listing"),
        ("<title>Impressum</title>", "https://x.example/impressum", "other"),
        ("", "https://x.example/", "other"),
    ],
)
def test_kinds(html: str, url: str, expected: str) -> None:
    assert judged(html, url, Stats(words=150, words_all=200)).kind == expected


def test_evidence_names_what_voted_for_the_kind() -> None:
    verdict = judged(
        "<meta property=og:type content=product><meta name=generator content='WordPress 5'>", "https://shop.x.example/product/umbrella"
    )
    assert verdict.kind == "product"
    assert verdict.evidence[0].startswith("type og:product: ")
    assert not any("generator" in line for line in verdict.evidence)
    assert verdict.votes["product"] == max(verdict.votes.values())


@pytest.mark.parametrize("address", ["x.example/forum/3", "https://x.example/", "http://x.example/category/rain/"])
def test_archived_addresses_are_read_as_the_page_s_own(address: str) -> None:
    own = address if address.startswith("http") else f"http://{address}"
    assert judged("", f"https://web.archive.org/web/20150206075900/{address}").votes == judged("", own).votes


def test_the_table() -> None:
    for rule in RULES:
        assert rule.why
        assert set(rule.votes) <= set(KINDS)
        assert all(0 < vote <= 5 for vote in rule.votes.values())
        assert isinstance(rule.holds, tuple) == (rule.source in {*Stats._fields, "published", "authors", "section"})
    assert len({(rule.source, rule.holds) for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("text", ["a", "-", "/a-", "forum", "20 ", "/blog", "a-b-c-d-"])
def test_linear_in_text(text: str) -> None:
    long = text * (1_000_000 // len(text))
    begin = time.process_time()
    judged(f"<html class='{long}'><title>{long}</title><meta name=generator content='{long}'>", "https://x.example/" + long)
    assert time.process_time() - begin < 2  # measured: 0.03 s


@pytest.mark.realdata
def test_agreement_with_labels(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights were tuned on the sites that are not held out."""
    found: dict[bool, Counter[tuple[str, str]]] = {False: Counter(), True: Counter()}
    for page, label, verdict in real_verdicts(data_dir / "web"):
        found[is_held_out(page)][label, verdict.kind] += 1
    right = {held: sum(n for (label, said), n in counts.items() if label == said) / counts.total() for held, counts in found.items()}
    with capsys.disabled():
        print(f"\n{right[False]:.3f} of {found[False].total()} pages tuned on, {right[True]:.3f} of {found[True].total()} held out:")
        for label in KINDS:
            print(f"  {label:14}", *(f"{found[True][label, said]:4}" for said in KINDS))
    assert right[False] >= 0.88
    assert right[True] >= 0.81
