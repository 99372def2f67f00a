"""Posts to Markdown: worked by hand, against lxml's text of real posts, and for posts that mean harm."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import html as lxml_html

from codedev.corpus.extract.post_html import to_markdown
from codedev.corpus.sources.stackexchange import xml_rows

CASES = {
    "<p>One &amp; two.</p>\n\n<p>Three<br>\nfour</p>\n": "One & two.\n\nThree\n\nfour",
    "<p>a <strong>b</strong> <em>c</em> <code>d</code> <s>e</s> x<sup>2</sup> <kbd>F1</kbd></p>": (
        "a **b** *c* `d` ~~e~~ x<sup>2</sup> <kbd>F1</kbd>"
    ),
    "<p><code>a `b` c</code> <code>&lt;p&gt;</code></p>": "`` a `b` c `` `<p>`",
    '<p><a href="https://a.b/?x=1&amp;y=2">text</a> <a href="https://a.b">https://a.b</a> <a>none</a></p>': (
        "[text](https://a.b/?x=1&y=2) https://a.b none"
    ),
    '<p><a href="x"><img src="i.png" alt="a &quot;b&quot; > c"></a></p>': '[![a "b" > c](i.png)](x)',
    "<h1>T</h1><h3>U\nV</h3><hr><p>x</p>": "# T\n\n### U V\n\n---\n\nx",
    "<ul>\n<li>a</li>\n<li>b\n<ol><li>c</li><li>d</li></ol></li>\n</ul>": "- a\n- b\n  1. c\n  2. d",
    '<ol start="9"><li><p>a</p>\n<p>b</p></li><li>c</ol>': "9. a\n\n   b\n10. c",
    "<blockquote>\n<p>a</p>\n<blockquote><p>b\nc</p></blockquote></blockquote><p>d</p>": "> a\n> \n> > b\n> > c\n\nd",
    '<blockquote class="spoiler"><p>a</p></blockquote>': ">! a",
    '<pre class="lang-py prettyprint-override"><code>if a &lt; b:\n\treturn   x  \n\n    y\n</code></pre>': (
        "```py\nif a < b:\n\treturn   x  \n\n    y\n```"
    ),
    '<pre><code class="language-c++">x</code></pre><pre><code>y</code></pre>': "```c++\nx\n```\n\n```\ny\n```",
    "<pre><code>a\n```\nb\n</code></pre>": "````\na\n```\nb\n````",
    "<p>$a_1 &lt; b^*$ and $$\\sum_{i}\n  x_i * y_i * z$$</p>": "$a_1 < b^*$ and $$\\sum_{i}\n  x_i * y_i * z$$",
    "<table><thead><tr><th>A</th><th>B</th></tr></thead><tbody><tr><td>1</td><td></td></tr></tbody></table>": (
        "| A | B |\n| --- | --- |\n| 1 |  |"
    ),
    "<div class='snippet'><p>a</p></div><!-- begin --><p>b</p>": "a\n\nb",
    "a < b, c > d <3 &nosuch; &#x1F600;": "a < b, c > d <3 &nosuch; \U0001f600",
    "<p><b>open <i>marks</p><p>c": "**open *marks***\n\nc",
    "<p>a</p></blockquote></li></p>b": "a\n\nb",
    "": "",
    "<p></p>\n \n": "",
}


@pytest.mark.parametrize("source", CASES)
def test_by_hand(source: str) -> None:
    assert to_markdown(source) == CASES[source]


def bodies(data_dir: Path) -> list[str]:
    found = []
    for path in sorted((data_dir / "stackexchange").rglob("Posts.xml")):
        with path.open("rb") as file:
            found += [xml_rows.attributes(row[1])["Body"] for row in xml_rows.rows(file) if not isinstance(row, xml_rows.Damage)]
    return found


@pytest.mark.realdata
def test_no_character_of_a_real_post_is_lost(data_dir: Path) -> None:
    """The characters that lxml finds are there in the same order; between them stand marks, numbers of lists and targets of links."""
    posts = bodies(data_dir)
    assert len(posts) > 3000
    for body in posts:
        if not body.strip():
            continue
        expected = "".join(lxml_html.fragment_fromstring(body, create_parent="div").text_content().split())
        found = iter(to_markdown(body))
        assert all(character in found for character in expected), body


@pytest.mark.realdata
def test_code_of_real_posts_is_kept_to_the_byte(data_dir: Path) -> None:
    count = 0
    for body in bodies(data_dir):
        if "<blockquote" in body or "<li" in body:
            continue  # there each line has something before it
        text = to_markdown(body)
        for code in re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", body, re.DOTALL):
            assert html.unescape(code) in text
            count += 1
    assert count > 40


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")))
def test_any_code_comes_back(code: str) -> None:
    lines = to_markdown(f"<p>a</p><pre><code>{html.escape(code)}</code></pre><p>b</p>").removeprefix("a\n\n").removesuffix("\n\nb")
    fence = lines.split("\n", 1)[0]
    assert lines.endswith("\n" + fence)
    inner = lines.removeprefix(fence + "\n").removesuffix(fence)
    assert inner in (code, code + "\n")
    assert fence not in inner


PIECES = (
    *("<p>", "</p>", "<ul>", "<li>", "</ul>", "<td>", "</table>", "<b>", "</b>", "<a href='x'>", "</a>", "<pre>", "</pre>", "<code>"),
    *("</code>", "<blockquote>", "</blockquote>", "word ", "<", ">", "&lt;", "<!--", "-->", '"'),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES)))
def test_no_nesting_raises_or_loses_words(pieces: list[str]) -> None:
    kept = to_markdown("".join(pieces)).count("word")
    assert kept <= pieces.count("word ") if "<!--" in pieces else kept == pieces.count("word ")  # a comment's words are no text


@pytest.mark.parametrize(
    "harm",
    [
        "<b>" * 200_000 + "</i>" * 200_000,
        "<a>" * 200_000 + "</a>" * 200_000,
        "<pre>" * 200_000,
        "<code>" * 200_000,
        "<blockquote>" * 100_000 + "\n" * 200_000 + "x",
        "<blockquote>" * 32 + "x\n" * 1_000_000,
        "<li>" * 200_000,
        "<ul>" * 200_000,
        "<table>" + "<tr><td>x" * 100_000,
        "<" * 1_000_000,
        "<a " * 300_000,
        "<a '\"" * 200_000,
        "<a " + 'x="' * 300_000,
        "<a " + "b=" * 300_000 + ">",
        "<!--" * 300_000,
        "`" * 1_000_000,
        "<code>`" * 200_000,
        "&" * 1_000_000,
    ],
    ids=range(18),
)
def test_harm_costs_linear_time_and_space(harm: str) -> None:
    began = time.process_time()
    text = to_markdown(harm)
    assert time.process_time() - began < 5
    assert len(text) < 40 * len(harm)
