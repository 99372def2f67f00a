"""What pages cost the parser beyond their bytes: deep trees whose tags look for what is not there, and names by the ten thousand."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from resiliparse.parse.html import HTMLTree

from codedev.corpus.extract.html import PageError, html_to_text
from codedev.corpus.extract.maths import settings
from codedev.kernels import htmldepth

_MANY = 80_000


def costs(page: str, free: int = 0, limit: int = 10**9) -> tuple[int, int]:
    data = np.frombuffer(page.encode(), np.uint8)
    steps, names = htmldepth.costs(data, page.count("<"), free, limit, 10**9)
    return int(steps), int(names)


DEEP = {
    "block": "<div>" * _MANY + "</section>" * _MANY,
    "inline": "<span>" * _MANY + "</em>" * _MANY,
    "implied": "<span>" * _MANY + "<li></li>" * _MANY,
    "unknown": "<x-a>" * _MANY + "</x-b>" * _MANY,
    "adoption": "<b><div></b>" * _MANY,
    "adoption in tables": "<b><div></b><table><td></div></table>" * (_MANY // 2),
    "closed in comments": "<div><!--</div>-->" * _MANY + "</section>" * _MANY,
    "closed in attributes": "<div a='</div>' b=\"</div>\">" * _MANY + "</section>" * _MANY,
    "closed in scripts": "<div><script></div></script>" * _MANY + "</section>" * _MANY,
    "self-closing, which HTML does not know": "<span/>" * _MANY + "</em>" * _MANY,
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_pages_are_refused_before_they_cost_the_parser_a_minute(name: str) -> None:
    start = time.process_time()
    with pytest.raises(PageError, match="nested more than 2000 deep"):
        html_to_text(DEEP[name].encode())
    assert time.process_time() - start < 3  # 0.1 s


@pytest.mark.parametrize("tag", ["<x{0}>a</x{0}>", "<p x{0}>a"])
def test_names_by_the_ten_thousand_are_refused(tag: str) -> None:
    page = "".join(map(tag.format, range(_MANY))).encode()
    start = time.process_time()
    with pytest.raises(PageError, match="20,000 names"):
        html_to_text(page)
    assert time.process_time() - start < 3


def test_pages_of_many_tags_at_little_depth_cost_no_steps() -> None:
    page = "<p>a<li>b</li><b><i>c</b></i><font><div>d</font></div><br/><svg><path/></svg><table><tr><td>e</div></table></em></section>"
    assert costs(page * 10_000, free=50)[0] == 0
    assert len(html_to_text((page * 10_000).encode(), extract="all").text) > 50_000


def test_names_are_counted_once() -> None:
    assert costs("<div class=a id='b c' hidden><DIV CLASS=d></div><p/></p>")[1] == 5


def test_steps_of_a_tree_are_those_of_its_depth() -> None:
    """Against the tree that the parser builds: with properly nested tags, its depth decides what a stray end costs."""
    draw = random.Random(5)
    for _ in range(50):
        open_tags: list[str] = []
        parts: list[str] = []
        for _ in range(draw.randrange(1, 200)):
            if open_tags and draw.random() < 0.4:
                parts.append(f"</{open_tags.pop()}>")
            else:
                open_tags.append(draw.choice(["div", "section", "ul", "blockquote"]))
                parts.append(f"<{open_tags[-1]} class='>'>")
        page = "".join(parts)
        document = HTMLTree.parse(page + "<u id=here>").document
        assert document is not None
        node, depth = document.query_selector("#here"), -3  # u itself, html and body
        while node is not None and node.tag != "#document":
            node, depth = node.parent, depth + 1
        assert costs(page)[0] == 0
        assert costs(page + "</center>")[0] == depth


def test_settings_in_thousands_of_scripts_take_linear_time() -> None:
    script = "MathJax={tex:{inlineMath:[['$','$']]}}"

    def seconds(count: int) -> float:
        start = time.process_time()
        assert settings.of_page(("", script) for _ in range(count)) is not None
        return time.process_time() - start

    few = min(seconds(1_500) for _ in range(3))
    assert seconds(30_000) < few * 20 * 5  # 20 where it is linear, 400 where each script copies what was found before
