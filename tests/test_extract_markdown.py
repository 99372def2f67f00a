"""Reddit's Markdown to text: cases by hand, no word lost beside a CommonMark parser on real posts, linear time on hostile input."""

from __future__ import annotations

import csv
import html
import re
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev.corpus.extract.markdown import MARKS, NEEDS, entities, plain, tidy, without_marks


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("hello *world* and **bold _x_** ***all***", "hello world and bold x all"),
        ("snake_case_name __init__ _it_", "snake_case_name init it"),
        ("2*3*4 and 2 * 3 * 4 and *Terms apply", "2*3*4 and 2 * 3 * 4 and *Terms apply"),
        ("x^2 ^(small print) ^^tiny e^(-x)", "x^2 small print tiny e^(-x)"),
        ("*d*^2 and *^tiny*", "d^2 and tiny"),
        ("^(see `f(x)`) end", "(see f(x)) end"),  # brackets inside: the caret goes alone
        ("[a link](http://a.b/c_(d)_e 'title') http://x.y/a_b_c.", "a link http://x.y/a_b_c."),
        ("[a **b** [c](d) e](f)", "a b c e"),
        ("[not a link] (x) [1]", "[not a link] (x) [1]"),
        ("![gif](giphy|abc) ![words](http://i) [](/smile)x", "words x"),
        ("[Ned](/s \"dies\") &gt;!he does!&lt;", "Ned (dies) he does"),
        ("<https://a.b/c_d_e> https://example.com/foo\\_bar", "https://a.b/c_d_e https://example.com/foo_bar"),
        ("&lt;b&gt; &amp;amp; &amp;nbsp;|&amp;#x27; &copy=1", "<b> &  |' &copy=1"),
        ("a\n\n&amp;#x200B;\n\nb", "a\n\nb"),
        ("~~gone~~ ~5 ~~", "gone ~5 ~~"),
        ("1\\. no list \\*\\* \\a", "1. no list ** \\a"),
        ("`a*b*` ``x`y`` `open", "a*b* x`y `open"),
        ("&gt; quote *x*\n&gt; more\n\nanswer", "> quote x\n> more\n\nanswer"),
        ("&gt;a\n\n&gt;&gt;b\nc", "> a\n\n> > b\nc"),
        ("* a\n* b\n    * c\n\n1. x\n+ y", "- a\n- b\n    - c\n\n1. x\n- y"),
        ("text\n\n    if *x* &lt; 1:\n        y = &amp;amp;\n\nend", "text\n\nif *x* < 1:\n    y = &amp;\n\nend"),
        ("```\ncode **x**\n\n    y\n```\n*after*", "code **x**\n\n    y\nafter"),
        ("```\nnever *closed*", "never *closed*"),
        ("a|b\n:--|:--\n1|*2*", "a|b\n1|2"),
        ("# Head *one* #\ntext\n\nHead\n====\nx\n\n***\ny", "Head one\ntext\n\nHead\nx\n\n---\ny"),
        ("#hashtag", "#hashtag"),
        ("##Old heading\nx", "Old heading\nx"),
        ("one  \r\ntwo\r\n\r\n\r\n\r\nthree \n", "one\ntwo\n\nthree"),
        ("*over\ntwo* lines", "over\ntwo lines"),
        ("*not over\n\nparagraphs*", "*not over\n\nparagraphs*"),
        ("Nothing to do. (At all) - see: 5 > 4? \"No\"", "Nothing to do. (At all) - see: 5 > 4? \"No\""),
        ("", ""),
        (" \n\t", ""),
    ],
)  # fmt: skip
def test_cases(markdown: str, text: str) -> None:
    assert plain(markdown) == text


def test_titles_keep_their_marks() -> None:
    assert entities("R&amp;D: 5 &lt; 6 *really* &amp;eacute;") == "R&D: 5 < 6 *really* é"


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab 1\n\r\t*_[]()`~^\\&;#<>|!-+=:x/.", max_size=60))
def test_what_needs_nothing_stays_and_nothing_raises(text: str) -> None:
    result = plain(text)
    needs = re.search(NEEDS, text) is not None
    assert needs == pc.match_substring_regex(pa.array([text]), NEEDS)[0].as_py()
    if not needs:
        assert result == text
    marks = re.search(MARKS, text) is not None
    assert marks == pc.match_substring_regex(pa.array([text]), MARKS)[0].as_py()
    assert result == (without_marks(text) if marks else tidy(text))
    assert result == result.strip()
    assert "\n\n\n" not in result
    words = re.findall(r"[ab1x]+", result)
    assert len("".join(words)) <= len(re.findall(r"[ab1x]", text)) + 2 * text.count("&")


@pytest.mark.parametrize(
    "part",
    ["](", "[", "*a ", "_a_ ", "`a``b```c", "^(", '](a "', "](<", "&", "<http:", "http://___", "](  ", "![", ">!", "> ", "\\", "**a*", "* ",
     "|-", "~~a", "[a](b ", " ", "\t", "    x\n", "#", "```\n", "\n", "1. ", "&#1", "^", "~", "[*", "*_", "`"],
)  # fmt: skip
def test_linear(part: str) -> None:
    for text in (part * (200_000 // len(part)), "a " + part * (200_000 // len(part)) + " b"):
        start = time.process_time()
        plain(text)
        assert time.process_time() - start < 2  # quadratic: minutes


@pytest.mark.realdata
def test_no_word_is_lost(data_dir: Path) -> None:
    """Beside a CommonMark parser: the same words, but where Reddit's rules differ."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": False})
    parser.disable("html_inline").disable("html_block")
    texts = []
    for name in ("askphilosophy", "talesfromtechsupport", "Fitness"):
        with (data_dir / f"reddit/umbrae__reddit-top-2.5-million/data/{name}.csv").open(newline="") as file:
            texts += [row["selftext"] for row in csv.DictReader(file) if row["selftext"]][:150]
    same = 0
    for text in texts:
        raw = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        expected = html.unescape(re.sub(r"<[^>]*>", "", parser.render(raw)))
        same += re.findall(r"\w+", plain(text)) == re.findall(r"\w+", expected)
    assert len(texts) > 400
    print(f"{same} of {len(texts)} texts have the same words")
    assert same > 0.97 * len(texts)
