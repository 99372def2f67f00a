"""Formulas of pages: every system by a fragment, delimiters by the page's settings, money, real pages against their gold text."""

from __future__ import annotations

import importlib.util
import json
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resiliparse.parse.html import HTMLTree

from codedev.corpus.extract.html import html_to_text
from codedev.corpus.extract.learn import gold
from codedev.corpus.extract.maths import page
from codedev.kernels.htmltags import Words

ROOT = Path(__file__).resolve().parent.parent
GOLD = ROOT / ".data/web/ccprocessor__llm-webkit-mirror/bench/data"
MATHJAX = '<script src="https://cdn/mathjax@3/es5/tex-mml-chtml.js"></script>'
DOLLARS = MATHJAX + "<script>window.MathJax = {tex: {inlineMath: [['$','$'], ['\\\\(','\\\\)']]}};</script>"


def shown(html: str) -> tuple[list[tuple[str, bool]], HTMLTree]:
    tree = HTMLTree.parse(html)
    count = page.rewrite(tree, html.encode())
    document = tree.document
    assert document is not None
    found = [(one.text or "", one.getattr("display") == "block") for one in document.query_selector_all(page.TAG)[:]]
    assert len(found) == count
    return found, tree


@pytest.mark.parametrize(
    ("html", "latex", "display"),
    [
        ('<script type="math/tex">x^2</script>', "x^2", False),
        ('<span class="MathJax_Preview">p</span><span class="MathJax">r</span><script type="math/tex; mode=display">y</script>', "y", True),
        (
            '<span class="katex-display"><span class="katex"><span class="katex-mathml"><math><semantics><mi>x</mi>'
            '<annotation encoding="application/x-tex">x_1</annotation></semantics></math></span>'
            '<span class="katex-html">x1</span></span></span>',
            "x_1",
            True,
        ),
        (
            '<span class="mwe-math-element"><math alttext="{\\displaystyle E=mc^{2}}"><mi>E</mi></math>'
            '<img class="mwe-math-fallback-image-inline" alt="{\\displaystyle E=mc^{2}}"></span>',
            "E=mc^{2}",
            False,
        ),
        ('a <img class="latex" src="https://s0.wp.com/latex.php?latex=%5Ckappa+%3E+0&bg=fff">', "\\kappa > 0", False),
        ('<p>a <img src="http://latex.codecogs.com/gif.latex?\\dpi{110}&space;\\inline&space;\\alpha"></p>', "\\alpha", False),
        ('<p><img src="/cgi-bin/mimetex.cgi?f(z)=\\exp(z)-1"></p>', "f(z)=\\exp(z)-1", True),
        ('a <img src="https://chart.googleapis.com/chart?cht=tx&chl=a%2Bb">', "a+b", False),
        ('a <img eeimg="1" src="https://www.zhihu.com/equation?tex=x%5E2" alt="x^2">', "x^2", False),
        ('a <span class="math inline">\\(x\\)</span>', "x", False),
        ('<span class="math-tex">\\[y\\]</span>', "y", True),
        ('<span class="math-container">$$z^2$$</span>', "z^2", True),
        ('a <span class="ztext-math" data-tex="a_1">a1</span>', "a_1", False),
        ("a <tex-math>\\begin{document}$$x^2$$\\end{document}</tex-math>", "x^2", True),
        ("<p>a [tex]x^2[/tex]</p>", "x^2", False),
        ("<p>a $latex x^2$</p>", "x^2", False),
        (
            '<mjx-container display="true"><mjx-math><mjx-mi><mjx-c class="mjx-c1D465 TEX-I"></mjx-c></mjx-mi></mjx-math></mjx-container>',
            "x",
            True,
        ),
        (MATHJAX + "<p>so \\(a<br>+b\\)</p>", "a\n+b", False),
        (MATHJAX + "<p>\\begin{align}a&amp;=b\\end{align}</p>", "\\begin{align}a&=b\\end{align}", True),
        (DOLLARS + "<p>costs $5 or $x^2$ and \\$6</p>", "x^2", False),
        (
            "<script>renderMathInElement(document.body, {delimiters: [{left: '##', right: '##', display: true}]})</script><p>##q##",
            "q",
            True,
        ),
        ('<script src="ASCIIMathML.js"></script><p>a `x^2`</p>', "x^2", False),
        # MathJax 2 on a server: the label is the TeX
        (
            '<span class="mjx-chtml"><span class="mjx-math" aria-label="l_{2}"><span class="mjx-mrow MathJax">l2</span></span></span>',
            "l_{2}",
            False,
        ),
        (
            '<table class="ltx_equation"><tr><td><span class="mjx-chtml MJXc-display">'
            '<span class="mjx-math" aria-label="\\displaystyle a=b">'
            '<span class="MathJax">a</span></span></span></td><td class="ltx_eqn_eqno">(1)</td></tr></table><i class="ltx_Math"></i>',
            "a=b",
            True,
        ),
        (
            '<table class="ltx_equationgroup"><tr><td><math alttext="\\displaystyle a"><mi>a</mi></math></td>'
            '<td><math alttext="\\displaystyle=b"><mi>b</mi></math></td></tr>'
            '<tr><td><math alttext="c"><mi>c</mi></math></td></tr></table>',
            "\\begin{align*}\na & =b \\\\\nc\n\\end{align*}",
            True,
        ),
        # MathJax 3 as SVG
        (
            '<mjx-container jax="SVG"><svg><g data-mml-node="math"><g data-mml-node="msup">'
            '<g data-mml-node="mi"><use data-c="1D465"></use></g>'
            '<g data-mml-node="mn"><use data-c="32"></use></g></g></g></svg></mjx-container>',
            "x^2",
            False,
        ),
        ('<mjx-container display="true"><formula class="mathJaxEqu">\\frac{a}{b}</formula></mjx-container>', "\\frac{a}{b}", True),
        ('<p>a <img src="/cgi-bin/mathtex.cgi?\\alpha^2"> b</p>', "\\alpha^2", False),
        (
            '<p>a <img class="ql-img-inline-formula" alt="\\beta_1" src="/ql-cache/quicklatex.com-1.png"></p>',
            "\\beta_1",
            False,
        ),
        ('<p>a <img src="http://www.texify.com/img/texify?$\\gamma$"> b</p>', "\\gamma", False),
        ('<p>a <span class="math">\\delta_0</span> jsMath</p>', "\\delta_0", False),
        ('<div class="math">\\delta_0</div>', "\\delta_0", True),
        ('<p>a <span class="math" data-applied-mathjax="true">\\(x_0\\)</span> Discourse</p>', "x_0", False),
        ('<p>a <span data-formula="x^2">?</span></p>', "x^2", False),
        ('<p>a <span data-equation="y=\\sqrt x">?</span></p>', "y=\\sqrt x", False),
        ("<p>a [itex]x^3[/itex]</p>", "x^3", False),
        ("<p>a [math]x^4[/math]</p>", "x^4", False),
        ("<p>a [TEX]x^5[/TEX]</p>", "x^5", False),
        ("<p>a [LATEX]x^5[/LATEX]</p>", "x^5", False),
        ("<p>a <dt-math>\\beta = 0</dt-math></p>", "\\beta = 0", False),
        ("<d-math block>x^6</d-math>", "x^6", True),
        ('<noscript><img src="/latex.php?latex=x%5E7"></noscript>', "x^7", False),
        ('<P>a <SCRIPT TYPE="MATH/TEX">x^8</SCRIPT> math/tex</P>', "x^8", False),
        ("<P>a <MATH><MI>x</MI></MATH></P>", "x", False),
        ('<script src="ASCIIMathML.js"></script><p>amath `x/2` endamath</p>', "\\frac{x}{2}", False),
        ('<p>a <img src="/img/texify?x%5E9"></p>', "x^9", False),
        # Settings in another file: the documented defaults
        ('<script src="https://cdn/MathJax.js?config=local/mine"></script><p>$x$ and \\(y\\)</p>', "y", False),
        (
            "<script>MathJax.Hub.Config({tex2jax: {inlineMath: [['$','$']], ignoreClass: 'no|dno'}})</script>"
            '<p class="no">$a$</p><div class="dno"><p>$b$</p></div><p>$c$</p>',
            "c",
            False,
        ),
    ],
)
def test_one_formula(html: str, latex: str, display: bool) -> None:
    assert page.may_hold(html.encode())
    assert shown(html)[0] == [(latex, display)]


@pytest.mark.parametrize(
    "html",
    [
        MATHJAX + "<p>$x$ is no default</p>",
        DOLLARS + "<p>$5 and $10, $5-$10, $20 million to $30 million, US$5 and A$6</p>",
        DOLLARS + "<pre>$x$</pre><code>\\(y\\)</code>",
        DOLLARS + '<p class="tex2jax_ignore">$x$</p>',
        '<span class="texhtml"><i>x</i><sup>2</sup></span>',
        '<div class="equation">An equation is a statement about equality of things</div>',
    ],
)
def test_no_formula(html: str) -> None:
    assert shown(html)[0] == []


MONEY = (
    "It costs $5.",
    "$5 and $10",
    "$5-$10",
    "$5 - $10 a day",
    "$5 to $10",
    "$1,000 or $2,000",
    "$1.50/$2.50",
    "$20 million to $30 million",
    "from $5k to $7k",
    "between $3bn and $4bn",
    "US$5 and A$6",
    "US$ 5, CA$ 6",
    "HK$100 (US$13)",
    "($5) or ($6)",
    "$5, $6, $7 and $8",
    "$100 per month, then $200 per year",
    "$9.99 + $4.99 shipping",
    "saves $40 = 10% of $400",
    "a $10 bill and a $20 bill",
    "$5 off when you spend $50 or more",
    "the $HOME and $PATH of a shell",
    "echo $HOME/bin:$PATH",
    "export A=$B; echo ${C} $D",
    "$1 and $2 are arguments",
    "$# of $@ and $*",
    "PHP has $this and $that",
    "$a = 5; $b = 6;",
    "foreach ($rows as $row)",
    "my ($x, $y) = @_;",
    "print $fh $line",
    "^foo$ or bar$",
    "`Hello ${name}, you owe ${sum}`",
    "$(document).ready and $(this)",
    "$.ajax and $.get",
    "USD/EUR, $/€ and $/£",
    "A$AP Rocky and Ke$ha",
    "M$ and Micro$oft",
    "$$$ is cheap, $$$$ is dear",
    "AC$DC costs $",
    "\\$5 or \\$6",
)


@pytest.mark.parametrize("text", MONEY)
@pytest.mark.parametrize("head", [DOLLARS, MATHJAX, ""])
def test_money_and_code_are_no_formulas(text: str, head: str) -> None:
    assert shown(f"{head}<p>{text}</p>")[0] == []


def test_a_formula_beside_money() -> None:
    assert shown(DOLLARS + "<p>$x$ costs $5 and $y_1$ costs $6</p>")[0] == [("x", False), ("y_1", False)]


def test_katex_without_source_stays() -> None:
    html = '<span class="katex"><span class="katex-html" aria-hidden="true"><span class="mord">x</span></span></span>'
    assert shown(html)[0] == []


@given(
    st.lists(
        st.sampled_from(["$", "$$", "\\(", "\\)", "\\$", "{", "}", "x^2", " ", "5", "<br>", "<b>", "</b>", "word ", "[tex]"]), max_size=30
    )
)
@settings(max_examples=150, deadline=None)
def test_text_outside_formulas_stays(parts: list[str]) -> None:
    html = DOLLARS + "<p>" + "".join(parts) + "</p>"
    before = HTMLTree.parse(html)
    _, tree = shown(html)
    assert before.body is not None
    assert tree.body is not None
    assert tree.document is not None
    for formula in tree.document.query_selector_all(page.TAG)[:]:
        formula.remove()
    rest = iter(before.body.text or "")
    assert all(char in rest for char in tree.body.text or "")  # a subsequence: nothing is added or moved


@given(
    st.lists(st.text("abc", min_size=6, max_size=9), min_size=1, max_size=8, unique=True),
    st.lists(st.text("abcd", max_size=12) | st.integers(0, 7), max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_words_are_found_as_python_finds_them(words: list[str], parts: list[str | int]) -> None:
    data = "".join(part if isinstance(part, str) else words[part % len(words)] for part in parts).encode()
    assert Words(*(word.encode() for word in words)).found(data) == sum(1 << bit for bit, word in enumerate(words) if word.encode() in data)


@pytest.mark.parametrize("text", ["$" * 100_000, "${" * 50_000, "$x$ " * 20_000, "\\(" * 50_000, "\\begin{align}" * 10_000])
def test_hostile_text_takes_linear_time(text: str) -> None:
    start = time.process_time()
    shown(DOLLARS + "<p>" + text)
    assert time.process_time() - start < 5


def _scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("formulas", ROOT / "benchmarks/extract/formulas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.realdata
@pytest.mark.skipif(not GOLD.is_dir(), reason="needs .data/web")
def test_gold_formulas_of_real_pages() -> None:
    formulas = _scorer()
    matched = total = 0
    for path in sorted(GOLD.glob("groundtruth/math*.jsonl")):
        if "asciimath" in path.name:  # its gold is another converter's LaTeX
            continue
        wanted = Counter(map(formulas.normalised, formulas.gold_formulas(json.loads(path.read_text().splitlines()[0])["content"])))
        html = (GOLD / "origin" / f"{path.stem}.html").read_bytes().decode("utf-8", "replace")
        found = Counter(formulas.normalised(latex) for latex, _ in shown(html)[0])
        matched, total = matched + (wanted & found).total(), total + wanted.total()
    assert total > 300
    assert matched / total >= 0.97


@pytest.mark.realdata
@pytest.mark.skipif(not GOLD.is_dir(), reason="needs .data/web")
def test_no_formula_in_news_and_posts() -> None:
    cache = ROOT / ".data/web/adbar__trafilatura/tests"
    pages = [path.read_bytes() for path in sorted(cache.rglob("*.html"))]
    held = [html for html in pages if page.may_hold(html)]
    assert len(held) < 0.04 * len(pages)
    assert all(not shown(html.decode("utf-8", "replace"))[0] for html in held)


ENGRAFO = ROOT / ".data/science/arxiv-vanity__engrafo"


@pytest.mark.realdata
@pytest.mark.skipif(not ENGRAFO.is_dir(), reason="needs .data/science")
def test_labels_of_mathjax_2() -> None:
    """Every label comes out, those of aligned equations as cells of one formula."""
    formulas = _scorer()

    def plain(latex: str) -> str:
        return str(formulas.normalised(latex.replace("\\displaystyle", "").replace("&", "")))

    missing = total = 0
    for one in gold.read(ROOT / ".data/web", ["engrafo"]):
        found = Counter(plain(latex) for latex, _ in shown(one.html.decode())[0])
        aligned = "".join(latex for latex in found if "{align*}" in latex)
        wanted = Counter(plain(element.text) for element in one.elements)
        total += wanted.total()
        missing += sum(count for latex, count in (wanted - found).items() if latex not in aligned)
    assert total > 1300
    assert not missing


_MATHJAX = '<script src="https://cdn.mathjax.org/mathjax/latest/MathJax.js?config=TeX-AMS-MML_HTMLorMML"></script>'


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r'<script>MathJax={tex:{inlineMath:[["\ud800","\ud800"]]}}</script><p>a', "a"),  # half of a pair, in a page's own settings
        (_MATHJAX + r"<p>run `git commit` then \(x^2\)", "run `git commit` then $x^2$"),  # AMS is not AsciiMath
        ('<body data-latex="true"><p>a b<p>c', "a b\n\nc"),
        ('<article data-tex="1"><p>hi</article>', "hi"),
        ('<div data-expr="count >= 1"><p>x y z</div>', "x y z"),
        ('<p>so <b data-formula="=A1+B1">42</b>', "so 42"),
        ('<p>so <span data-tex="x^2">x2</span> ok', "so $x^2$ ok"),
        (_MATHJAX + '<script>MathJax={tex:{inlineMath:[["a","a"]]}}</script><p>banana cabana', "banana cabana"),
    ],
)
def test_what_only_looks_like_a_formula_stays(source: str, expected: str) -> None:
    assert html_to_text(source.encode(), extract="all").text == expected
