"""Gold pages are read whole, their folds part no site, and the metrics give the figures that were published with them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codedev.corpus.extract.learn import gold, metrics

ROOT = Path(__file__).parent.parent


# --- sites and folds


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://www.nytimes.com/2019/11/19/opinion/x.html", "nytimes"),
        ("http://next.liberation.fr/culture/a", "liberation"),
        ("https://www.bbc.co.uk/news", "bbc"),
        ("http://bbc.com", "bbc"),
        ("http://co.uk", "co"),
        ("https://web.archive.org/web/20190717140047/http://www.modabot.de/paris", "modabot"),
        ("https://web.archive.org/web/20130307194448/the-pain.net/2008/05/x.html", "the-pain"),
        ("http://192.0.2.7:8080/x", "192.0.2.7"),
        ("http://localhost/x", "localhost"),
        ("hard::name", ""),
        ("http://[broken", ""),
        ("", ""),
    ],
)
def test_site(url: str, site: str) -> None:
    assert gold.site_of(url) == site


def _page(group: str, html: bytes = b"", url: str = "", name: str = "a") -> gold.GoldPage:
    return gold.GoldPage(name, group, url, html, group=group)


def test_folds_never_change() -> None:
    assert [gold.fold(_page(name)) for name in ("nytimes", "wikipedia", "bbc", "liberation")] == [6, 3, 6, 2]
    spread = Counter(gold.fold(_page(f"site{number}"), 5) for number in range(5000))
    assert min(spread.values()) > 900
    assert set(spread) == set(range(5))


def test_duplicates_by_address_and_by_html() -> None:
    first = _page("a", b"<p>one", "https://www.example.org/x/")
    pages = [first, _page("b", b"<p>two", "http://example.org/x"), _page("c", b"<p>\n one", ""), _page("d", b"<p>three", "")]
    assert [(one.group, other.group) for one, other in gold.duplicates(pages)] == [("a", "b"), ("a", "c")]
    assert gold.duplicates([first, _page("e", b" <p>one\n")]) == [(first, _page("e", b" <p>one\n"))]


def test_annotations_leave_no_trace() -> None:
    marked = (
        '<html><head><style id="cc-extraStyle" name="cc">.mark-selected { x }</style><title>t</title></head>'
        '<body data-anno-uid="anno-uid-1"><h1 class="mark-selected" data-anno-uid="anno-uid-2" style="" cc-select="true">mark-selected</h1>'
        '<p cc-select="true" class="big mark-selected" data-anno-uid="anno-uid-3" style="color: red">a &lt; b</p>'
        '<p class="" data-anno-uid="anno-uid-4">c</p><pre class="" title="a > b">\n x</pre></body></html>'
    )
    clean = (
        "<html><head><title>t</title></head><body><h1>mark-selected</h1>"
        '<p class="big " style="color: red">a &lt; b</p><p>c</p><pre class="" title="a > b">\n x</pre></body></html>'
    )
    assert gold.without_annotations(marked) == clean
    assert gold.without_annotations(clean) == clean


# --- words


def _by_counting(wanted: str, got: str) -> tuple[float, float, float]:
    """The benchmark's shares, one shingle at a time."""
    sides = []
    for text in (wanted, got):
        words = re.findall(r"\w+", text)
        sides.append([tuple(words[at : at + 4]) for at in range(max(1, len(words) - 3))] if words else [])
    common = surplus = missing = 0
    for shingle in {*sides[0], *sides[1]}:
        want, have = sides[0].count(shingle), sides[1].count(shingle)
        common, surplus, missing = common + min(want, have), surplus + max(0, have - want), missing + max(0, want - have)
    whole = common + surplus + missing or 1
    return common / whole, surplus / whole, missing / whole


_TEXT = st.lists(st.sampled_from(["a", "b", "c", "A", "_", ".", "\n"]), max_size=25).map(" ".join)


@given(_TEXT, _TEXT)
def test_shingles_against_counting(wanted: str, got: str) -> None:
    assert metrics.shingle_scores(wanted, got) == pytest.approx(_by_counting(wanted, got))


def _published(shares: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Means as the data's description tells them."""

    def one(common: float, other: float, third: float) -> float:
        return 1.0 if other == third == 0 else 0.0 if common == other == 0 else common / (common + other)

    precision = np.mean([one(c, s, m) for c, s, m in shares if c + s > 0])
    recall = np.mean([one(c, m, s) for c, s, m in shares if c + m > 0])
    return float(precision), float(recall), float(2 * precision * recall / (precision + recall))


@given(st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=8))
def test_means_against_the_description(pages: list[tuple[str, str]]) -> None:
    shares = [metrics.shingle_scores(*page) for page in [*pages, ("a b c d e", "a b c d x")]]  # one page counts on both sides
    scores = metrics.article_f1(shares)
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx(_published(shares))
    for (low, high), value in zip(metrics.article_interval(shares, 200), (*scores, scores.f1), strict=True):
        assert low - 0.35 <= value <= high + 0.35
        assert 0 <= low <= high <= 1


def test_leads_are_drawn_in_pairs() -> None:
    draw = np.random.default_rng(2)
    ours = [metrics.Shares(common, 0.0, 1 - common) for common in draw.uniform(0.1, 0.8, 200).tolist()]
    theirs = [metrics.Shares(share.common - 0.05, 0.0, share.missing + 0.05) for share in ours]
    low, high = metrics.article_lead(ours, theirs)
    lead = metrics.article_f1(ours).f1 - metrics.article_f1(theirs).f1
    assert low < lead < high
    wide = metrics.article_interval(ours)[2]
    assert high - low < (wide[1] - wide[0]) / 4
    assert metrics.article_lead(ours, ours) == (0.0, 0.0)


def test_intervals_are_those_of_the_mean() -> None:
    draw = np.random.default_rng(1)
    rows = draw.normal(5, 2, (400, 1))
    low, high = metrics.interval(rows, lambda drawn: float(drawn.mean()))
    assert (low, high) == pytest.approx((rows.mean() - 0.196, rows.mean() + 0.196), abs=0.03)  # 1.96 * 2 / sqrt(400)
    assert metrics.interval(rows, lambda drawn: float(drawn.mean())) == (low, high)  # seeded


# --- segments, code, tables, fields


def test_segments() -> None:
    said = "One  two\nthree. Menu"
    assert metrics.segments(("two three", "four"), ("menu", "Menu"), said) == (1, 1, 1, 1)
    assert metrics.segments(("two",), ("Menu",), None) == (0, 1, 0, 1)
    whole = metrics.added([metrics.Segments(3, 1, 0, 4), metrics.Segments(1, 1, 2, 0)])
    assert whole == (4, 2, 2, 4)
    assert whole.scores().f1 == pytest.approx(2 * 4 / (2 * 4 + 2 + 2))
    assert whole.accuracy == pytest.approx(8 / 12)


def test_code_blocks() -> None:
    text = "a\n```py title\nx\n  y\n```\n- ```\n  z\n    w\n  ```\n~~~\n```\n~~~\n````\n```\n````\n```\nopen"
    assert [tuple(block) for block in metrics.code_blocks(text)] == [
        ("x\n  y", "py title"),
        ("z\n  w", None),
        ("```", None),
        ("```", None),
        ("open", None),
    ]
    assert metrics.code_equality(["x\n  y\n", "x\n  y", "z\n", "p q", "gone", " "], f"{text}\nz\npq") == (1, 3, 4, 5)


def test_tables() -> None:
    text = (
        "| a | **b** |\n|---|:-:|\n| 1 \\| 2 |  |\n> | [q](http://x.org) | `c` |\n\n```\n| no | no |\n```\n"
        '<table><tr><td colspan="2">q <b>r</b></td><td>s &amp; t</td></tr></table> end'
    )
    assert metrics.tables(text) == [[("a", "b"), ("1 | 2", ""), ("q", "c")], [("q r", "s & t")]]
    wanted, got = [[("a", "b"), ("c", "")]], [[("b", "a"), ("c",), ("c",)]]
    assert metrics.cell_scores(wanted, got) == (3, 4, 3)
    assert metrics.row_scores(wanted, got) == (1, 3, 2)
    assert metrics.cell_scores(wanted, []).scores() == (0.0, 0.0)


def test_words_of_markdown() -> None:
    text = '```python\nx\n```\n[link](http://b_(c)) ![d](e.png "f")<table><tr><td colspan="2">a&amp;b</td></tr></table> 1 < 2'
    assert metrics.words_of_markdown(text).split() == ["```", "x", "```", "link", "a&b", "1", "<", "2"]


def test_fields() -> None:
    assert metrics.same_title("A “title” – of it", 'A "TITLE" - of it | Site')
    assert metrics.same_title("Site: A long title", "A long title")
    assert not metrics.same_title("A long title | Site", "Site")
    assert not metrics.same_title("A title", "A titles")
    assert not metrics.same_title("A title", None)
    assert metrics.same_date("2019-05-01T10:00:00Z", "2019-05-01")
    assert not metrics.same_date("2019-05-01", None)
    assert metrics.same_byline("By Ann Lee and Bo Li", "Bo Li; Ann Lee")
    assert not metrics.same_byline("Ann Lee", "Ann")


# --- real pages


@pytest.fixture(scope="module")
def pages(data_dir: Path) -> list[gold.GoldPage]:
    return list(gold.read(data_dir / "web"))


@pytest.mark.realdata
def test_every_set_is_read(pages: list[gold.GoldPage], data_dir: Path) -> None:
    counts = {"article_benchmark": 88, "trafilatura": 506, "readability": 64, "llm_webkit": 18, "webmainbench": 4, "engrafo": 17}
    assert Counter(page.set for page in pages) == counts
    assert len({(page.set, page.id) for page in pages}) == len(pages)
    assert all(page.html and page.group for page in pages)
    assert all(page.text for page in pages if page.set in ("article_benchmark", "webmainbench"))
    assert [page.id for page in pages if page.set == "llm_webkit" and page.text is None] == [
        "artical_health_com",
        "blog_plainspot",
        "code_4",
        "img_5",
    ]
    assert all(page.must and page.must_not for page in pages if page.set == "trafilatura")
    assert not gold.duplicates(pages)
    kinds = Counter(element.kind for page in pages for element in page.elements)
    assert (kinds["code"], kinds["table"]) == (79, 29)
    of_engrafo = sum(len(page.elements) for page in pages if page.set == "engrafo")
    tests = data_dir / "science" / "arxiv-vanity__engrafo" / "tests" / "integration-output"
    assert of_engrafo == sum(path.read_bytes().count(b'class="mjx-math"') for path in tests.rglob("index.html"))


@pytest.mark.realdata
def test_annotated_pages_come_without_marks(pages: list[gold.GoldPage]) -> None:
    marked = [page for page in pages if page.set == "webmainbench"]
    for page in marked:
        assert b"anno-uid" not in page.html
        assert b"cc-select" not in page.html
        assert b"mark-selected" not in page.html
        clicked = gold.text_of_html(page.meta["annotated"]).split()
        assert gold.text_of_html(page.html.decode()).split()[-50:] == clicked[-50:]  # text is as it was
        assert "cc-select" in page.meta["annotated"]


@pytest.mark.realdata
def test_folds_share_no_site_and_are_of_one_size(pages: list[gold.GoldPage]) -> None:
    folds = Counter(gold.fold(page) for page in pages)
    assert set(folds) == set(range(10))
    assert max(folds.values()) < 2 * min(folds.values())
    groups = Counter(page.group for page in pages if page.set != "engrafo")
    assert groups["nytimes"] == 6  # of two sets
    assert max(groups.values()) < 20


@pytest.mark.realdata
def test_published_figures_of_resiliparse(pages: list[gold.GoldPage]) -> None:
    from resiliparse.extract.html2text import extract_plain_text

    chosen = [page for page in pages if page.set == "article_benchmark"]
    texts = [extract_plain_text(page.html.decode(), main_content=True, alt_texts=False, links=False) for page in chosen]
    scores = metrics.article_f1([metrics.shingle_scores(page.text or "", text) for page, text in zip(chosen, texts, strict=True)])
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx((0.858, 0.976, 0.913), abs=0.001)


@pytest.mark.realdata
@pytest.mark.skipif(importlib.util.find_spec("trafilatura") is None, reason="trafilatura is not installed")
def test_published_figures_of_trafilatura(pages: list[gold.GoldPage]) -> None:
    from trafilatura import extract

    chosen = [page for page in pages if page.set == "article_benchmark"]
    shares = [metrics.shingle_scores(page.text or "", extract(page.html) or "") for page in chosen]
    assert metrics.article_f1(shares).f1 == pytest.approx(0.9545, abs=0.002)


@pytest.mark.realdata
def test_outputs_that_came_with_the_benchmark(data_dir: Path) -> None:
    """Its own table is of all 181 pages; on the public half the order and the distance of the extractors stay."""
    folder = data_dir / "web" / gold.FOLDERS["article_benchmark"]
    truth = json.loads((folder / "ground-truth.json").read_text())
    f1 = {}
    for path in (folder / "output").glob("*.json"):
        said = json.loads(path.read_text())
        said = said.get("output", said)
        f1[path.stem] = metrics.article_f1(
            [metrics.shingle_scores(page["articleBody"], said[name]["articleBody"]) for name, page in truth.items()]
        ).f1
    published = {
        "AutoExtract": 0.970,
        "trafilatura": 0.958,
        "readability": 0.922,
        "boilerpipe": 0.860,
        "justext": 0.804,
        "inscriptis": 0.679,
    }
    for name, value in published.items():
        assert f1[name] == pytest.approx(value, abs=0.025)
    assert [name for name in sorted(f1, key=lambda name: -f1[name]) if name in published] == list(published)


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trafilatura") is None, reason="trafilatura is not installed")
def test_every_table_of_the_benchmark(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "extract.json"
    script = ROOT / "benchmarks" / "bench_extract.py"
    command = [sys.executable, str(script), "--data", str(data_dir), "--pages", "3", "--rounds", "1", "--worst", "1", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    tables = {row["table"] for row in result["rows"]}
    assert tables == {"articles", "segments", "readability", "kinds", "formulas", "code", "tables", "facts", "warc"}
    ours = next(row for row in result["rows"] if row["table"] == "articles" and row["extractor"] == "codedev")
    assert 0 < ours["f1_95"][0] <= ours["f1"] <= ours["f1_95"][1] <= 1
    assert ours["rate"] > 0
    assert "=== article_benchmark/" in done.stdout
    assert str(data_dir) not in out.read_text()
