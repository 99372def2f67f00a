"""MathML to LaTeX: all of MathML Core, real pages, a round trip through another library, and trees that no page should hold."""

# ruff: noqa: E501 -- a line of the table is markup and its LaTeX
from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maths_support import check, normal
from resiliparse.parse.html import HTMLTree

from codedev.corpus.extract.maths import mathml

LAYOUT = {
    # tokens
    "<mi>x</mi><mo>+</mo><mn>2</mn>": "x+2",
    "<mi>sin</mi><mo>&#x2061;</mo><mi>x</mi>": r"\sin x",
    "<mi>foo</mi><mo>&#x2061;</mo><mo>(</mo><mi>x</mi><mo>)</mo>": r"\operatorname{foo}(x)",
    "<mi>foo</mi>": r"\mathrm{foo}",
    '<mi mathvariant="normal">d</mi><mi>x</mi>': r"\mathrm{d}x",
    '<mi mathvariant="normal">a</mi><mi mathvariant="normal">b</mi>': r"\mathrm{ab}",
    '<mi mathvariant="bold">v</mi><mi mathvariant="double-struck">R</mi><mi mathvariant="bold">α</mi>': r"\mathbf{v}\mathbb{R}\boldsymbol{\alpha}",
    '<mstyle mathvariant="fraktur"><mi>g</mi></mstyle>': r"\mathfrak{g}",
    "<mi>𝔸</mi><mi>ℝ</mi><mi>𝒜</mi><mi>𝐱</mi><mi>𝑥</mi><mi>𝛼</mi><mi>𝔤</mi><mi>𝖠</mi><mi>𝙰</mi>": (
        r"\mathbb{A}\mathbb{R}\mathcal{A}\mathbf{x}x\alpha\mathfrak{g}\mathsf{A}\mathtt{A}"
    ),
    "<mi>α</mi><mi>x</mi>": r"\alpha x",
    "<mi>α</mi><mn>2</mn>": r"\alpha2",
    "<mi>x</mi><mo>&#x2062;</mo><mi>y</mi><mo>−</mo><mi>∞</mi>": r"xy-\infty",
    "<mn>1,234.5</mn>": r"1{,}234.5",
    "<mtext>50% of {a_1} &amp; b#$\\~^</mtext>": r"\text{50\% of \{a\_1\} \& b\#\$\textbackslash{}\textasciitilde{}\textasciicircum{}}",
    "<mtext>&nbsp;if&nbsp;</mtext>": r"\text{ if }",
    "<mtext>if <b>not</b></mtext>": r"\text{if not}",
    "<mtext>if <math><mi>x</mi></math> is</mtext>": r"\text{if}x\text{is}",
    "<ms>a</ms>": r'\text{"a"}',
    '<mi>a</mi><mspace width="1em"/><mi>b</mi><mspace width="thickmathspace"/><mi>c</mi><mspace width="-0.167em"/>': r"a\quad b\;c\!",
    "<mi>漢字</mi>": r"\text{漢字}",
    "x": r"\text{x}",
    # scripts
    "<msup><mi>x</mi><mn>2</mn></msup>": "x^2",
    "<msubsup><mi>x</mi><mi>i</mi><mrow><mi>n</mi><mo>+</mo><mn>1</mn></mrow></msubsup>": "x_i^{n+1}",
    "<msup><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></msup>": "{a+b}^2",
    "<msup><mrow><mo>(</mo><mi>a</mi><mo>+</mo><mi>b</mi><mo>)</mo></mrow><mn>2</mn></msup>": "(a+b)^2",
    "<msup><msup><mi>x</mi><mn>2</mn></msup><mn>3</mn></msup>": "{x^2}^3",
    "<msup><mi>f</mi><mo>′</mo></msup><msup><mi>g</mi><mrow><mo>′</mo><mo>′</mo></mrow></msup><msup><mi>h</mi><mo>″</mo></msup>": "f'g''h''",
    "<msup><msup><mi>f</mi><mo>′</mo></msup><mn>2</mn></msup>": "{f'}^2",
    "<msup><mn>90</mn><mo>∘</mo></msup>": r"90^{\circ}",
    "<msub><mi></mi><mi>a</mi></msub>": "{}_a",
    "<mmultiscripts><mi>X</mi><mi>a</mi><none/><mprescripts/><mi>c</mi><mi>d</mi></mmultiscripts>": "{}_c^dX_a",
    # fractions, roots
    "<mfrac><mi>a</mi><mi>b</mi></mfrac>": r"\frac{a}{b}",
    '<mfrac bevelled="true"><mi>a</mi><mi>b</mi></mfrac>': "a/b",
    '<mo>(</mo><mfrac linethickness="0"><mi>n</mi><mi>k</mi></mfrac><mo>)</mo>': r"\binom{n}{k}",
    '<mfrac linethickness="0px"><mi>n</mi><mi>k</mi></mfrac>': r"{n\atop k}",
    '<mstyle displaystyle="true"><mfrac><mi>a</mi><mi>b</mi></mfrac></mstyle>': r"\dfrac{a}{b}",
    "<msqrt><mi>a</mi><mo>+</mo><mi>b</mi></msqrt><mroot><mi>x</mi><mn>3</mn></mroot>": r"\sqrt{a+b}\sqrt[3]{x}",
    # fences
    "<mo>(</mo><mfrac><mi>a</mi><mi>b</mi></mfrac><mo>)</mo>": r"\left(\frac{a}{b}\right)",
    '<mo stretchy="false">(</mo><mfrac><mi>a</mi><mi>b</mi></mfrac><mo stretchy="false">)</mo>': r"(\frac{a}{b})",
    "<mo>(</mo><mfrac><mi>a</mi><mi>b</mi></mfrac><msup><mo>)</mo><mn>2</mn></msup>": r"\left(\frac{a}{b}\right)^2",
    "<mo>|</mo><mi>x</mi><mo>|</mo><mo>+</mo><mo>‖</mo><mfrac><mi>y</mi><mn>2</mn></mfrac><mo>‖</mo>": r"|x|+\left\|\frac{y}{2}\right\|",
    "<mo>{</mo><mi>x</mi><mo>∣</mo><mi>x</mi><mo>&gt;</mo><mn>0</mn><mo>}</mo>": r"\{x\mid x>0\}",
    "<mo>⟨</mo><mi>x</mi><mo>,</mo><mi>y</mi><mo>⟩</mo>": r"\langle x,y\rangle",
    "<mo>[</mo><mfrac><mi>a</mi><mi>b</mi></mfrac>": r"[\frac{a}{b}",
    '<mrow><mo fence="true"></mo><mfrac><mi>a</mi><mi>b</mi></mfrac><msub><mo>|</mo><mn>0</mn></msub></mrow>': r"\left.\frac{a}{b}\right|_0",
    '<mo minsize="1.2em" maxsize="1.2em">(</mo>': r"\big(",
    '<mfenced open="[" close=")"><mi>a</mi><mi>b</mi></mfenced>': "[a,b)",
    '<mfenced separators=";"><mi>a</mi><mfrac><mn>1</mn><mn>2</mn></mfrac><mi>c</mi></mfenced>': r"\left(a;\frac{1}{2};c\right)",
    # limits and accents
    "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover><mi>i</mi>": r"\sum_{i=1}^ni",
    "<msubsup><mo>∫</mo><mn>0</mn><mn>1</mn></msubsup><mi>f</mi>": r"\int_0^1f",
    "<munderover><mo>∫</mo><mn>0</mn><mn>1</mn></munderover>": r"\int\limits_0^1",
    "<munder><mi>lim</mi><mrow><mi>x</mi><mo>→</mo><mn>0</mn></mrow></munder><mi>x</mi>": r"\lim_{x\to0}x",
    "<munder><mi>argmax</mi><mi>x</mi></munder>": r"\operatorname*{argmax}_x",
    '<mover accent="true"><mi>x</mi><mo>^</mo></mover><mover><mi>y</mi><mo stretchy="false">¯</mo></mover>': r"\hat{x}\bar{y}",
    "<mover><mrow><mi>A</mi><mi>B</mi></mrow><mo>¯</mo></mover><munder><mrow><mi>a</mi><mi>b</mi></mrow><mo>_</mo></munder>": r"\overline{AB}\underline{ab}",
    '<mover><mi>v</mi><mo stretchy="false">→</mo></mover><mover><mi>x</mi><mo>˙</mo></mover><mover><mi>x</mi><mo>~</mo></mover>': r"\vec{v}\dot{x}\tilde{x}",
    "<munder><munder><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mo>⏟</mo></munder><mi>c</mi></munder>": r"\underbrace{a+b}_c",
    "<mover><mo>=</mo><mtext>def</mtext></mover>": r"\overset{\text{def}}{=}",
    "<mover><mo>→</mo><mi>f</mi></mover>": r"\xrightarrow{f}",
    '<mover><mo stretchy="false">→</mo><mi>f</mi></mover>': r"\overset{f}{\to}",
    # tables
    "<mo>(</mo><mtable><mtr><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd></mtr><mtr><mtd><mi>c</mi></mtd><mtd><mi>d</mi></mtd></mtr></mtable><mo>)</mo>": (
        r"\begin{pmatrix}a&b\\ c&d\end{pmatrix}"
    ),
    "<mo>|</mo><mtable><mtr><mtd><mi>a</mi></mtd></mtr></mtable><mo>|</mo>": r"\begin{vmatrix}a\end{vmatrix}",
    '<mo>{</mo><mtable columnalign="left"><mtr><mtd><mi>a</mi></mtd><mtd><mtext>if</mtext></mtd></mtr></mtable>': r"\begin{cases}a&\text{if}\end{cases}",
    '<mtable columnalign="right left"><mtr><mtd><mi>a</mi></mtd><mtd><mo>=</mo><mi>b</mi></mtd></mtr></mtable>': r"\begin{aligned}a&=b\end{aligned}",
    '<mo>[</mo><mtable columnlines="none solid"><mtr><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd><mtd><mi>c</mi></mtd></mtr></mtable><mo>]</mo>': (
        r"\left[\begin{array}{cc|c}a&b&c\end{array}\right]"
    ),
    "<mtable><mlabeledtr><mtd><mtext>(1)</mtext></mtd><mtd><mi>x</mi></mtd></mlabeledtr></mtable>": r"x\tag{1}",
    "<munder><mo>∑</mo><mtable><mtr><mtd><mi>a</mi></mtd></mtr><mtr><mtd><mi>b</mi></mtd></mtr></mtable></munder>": r"\sum_{\substack{a\\ b}}",
    # the rest
    '<menclose notation="box"><mi>x</mi></menclose><mphantom><mi>y</mi></mphantom><mpadded><mi>z</mi></mpadded>': r"\boxed{x}\phantom{y}z",
    "<maction><mi>x</mi><mi>y</mi></maction><merror><mi>z</mi></merror><!-- c --><mglyph/>": "xz",
    "<semantics><mi>x</mi><annotation-xml><ci>y</ci></annotation-xml></semantics>": "x",
    "<m:mi>x</m:mi><mml:mfrac><mml:mi>a</mml:mi><mml:mi>b</mml:mi></mml:mfrac>": r"x\frac{a}{b}",
}
CONTENT = {
    "<apply><plus/><ci>x</ci><apply><times/><cn>2</cn><ci>y</ci></apply></apply>": "x+2y",
    "<apply><times/><apply><minus/><ci>a</ci><ci>b</ci></apply><apply><minus/><ci>c</ci></apply></apply>": "(a-b)(-c)",
    "<apply><power/><apply><plus/><ci>a</ci><ci>b</ci></apply><cn>2</cn></apply>": "(a+b)^{2}",
    "<apply><divide/><cn>1</cn><apply><root/><degree><cn>3</cn></degree><ci>x</ci></apply></apply>": r"\frac{1}{\sqrt[3]{x}}",
    "<apply><sum/><bvar><ci>i</ci></bvar><lowlimit><cn>1</cn></lowlimit><uplimit><ci>n</ci></uplimit><apply><power/><ci>i</ci><cn>2</cn></apply></apply>": (
        r"\sum_{i=1}^{n}i^{2}"
    ),
    "<apply><int/><bvar><ci>x</ci></bvar><lowlimit><cn>0</cn></lowlimit><uplimit><pi/></uplimit><apply><sin/><ci>x</ci></apply></apply>": r"\int_{0}^{\pi}\sin x\,dx",
    "<apply><diff/><bvar><ci>x</ci><degree><cn>2</cn></degree></bvar><ci>f</ci></apply>": r"\frac{d^{2}f}{dx^{2}}",
    "<apply><eq/><apply><ci>f</ci><ci>x</ci></apply><cn type='rational'>1<sep/>2</cn></apply>": r"f(x)=\frac{1}{2}",
    "<apply><in/><ci>x</ci><reals/></apply>": r"x\in\mathbb{R}",
    "<piecewise><piece><cn>1</cn><apply><gt/><ci>x</ci><cn>0</cn></apply></piece><otherwise><cn>0</cn></otherwise></piecewise>": (
        r"\begin{cases}1&x>0\\ 0&\text{otherwise}\end{cases}"
    ),
    "<matrix><matrixrow><cn>1</cn><cn>2</cn></matrixrow><matrixrow><cn>3</cn><cn>4</cn></matrixrow></matrix>": r"\begin{pmatrix}1&2\\ 3&4\end{pmatrix}",
    "<set><ci>a</ci><ci>b</ci></set><interval closure='open'><ci>a</ci><ci>b</ci></interval>": r"\{a,b\}(a,b)",
    "<apply><limit/><bvar><ci>x</ci></bvar><lowlimit><cn>0</cn></lowlimit><apply><exp/><ci>x</ci></apply></apply>": r"\lim_{x\to0}e^{x}",
    "<apply><abs/><apply><divide/><ci>a</ci><ci>b</ci></apply></apply>": r"\left|\frac{a}{b}\right|",
}


def _element(markup: str) -> object:
    return HTMLTree.parse(markup).body.first_child


@pytest.mark.parametrize("markup", [*LAYOUT, *CONTENT])
def test_table(markup: str) -> None:
    wanted = (LAYOUT | CONTENT)[markup]
    assert mathml.latex_of_source(f"<math>{markup}</math>") == wanted
    check(wanted)


@pytest.mark.parametrize("markup", [key for key in LAYOUT if ":m" not in key and "<b>" not in key and "glyph" not in key])
def test_an_element_gives_what_its_source_gives(markup: str) -> None:
    assert mathml.latex(_element(f"<math>{markup}</math>")) == LAYOUT[markup]


@pytest.mark.parametrize(
    ("markup", "wanted"),
    [
        (
            '<math><semantics><mi>x</mi><annotation encoding="application/x-tex">\\alpha &lt; 1</annotation></semantics></math>',
            r"\alpha < 1",
        ),
        (
            '<math><semantics><mi>x</mi><annotation encoding="StarMath">q</annotation><annotation encoding="TeX"> $y$ </annotation></semantics></math>',
            "y",
        ),
        ('<math alttext="{\\displaystyle a}"><mi>x</mi></math>', r"{\displaystyle a}"),
        ('<math alttext="Alternative text not available"><mi>x</mi></math>', "x"),
        ('<math alttext="x squared"><msup><mi>x</mi><mn>2</mn></msup></math>', "x^2"),
        ('<math alttext="\\frac{a"><mi>x</mi></math>', "x"),
        ('<math alttext="a%\n+b"><mi>x</mi></math>', "a+b"),
        ('<math data-latex="\\beta"><mi>x</mi></math>', r"\beta"),
        # an annotation of a part is not the formula
        ('<math><mi>y</mi><semantics><mi>x</mi><annotation encoding="application/x-tex">z</annotation></semantics></math>', "yx"),
        ('<m:math display="block"><m:mi>x</m:mi><m:mspace width="1em"/><m:mi>y</m:mi></m:math>', r"x\quad y"),
    ],
)
def test_source_before_conversion(markup: str, wanted: str) -> None:
    assert mathml.latex(_element(markup)) == wanted
    assert mathml.latex_of_source(" " + markup) == wanted


def test_display() -> None:
    assert mathml.is_display(_element('<math display="block"></math>'))
    assert not mathml.is_display(_element("<math></math>"))
    page = HTMLTree.parse('<span class="katex-display"><span><math><mi>x</mi></math></span></span>')
    assert mathml.is_display(page.body.get_elements_by_tag_name("math")[:][0])
    assert mathml.latex_of_source("<p>x</p>") is None


@pytest.mark.parametrize(
    "hostile",
    [
        "<mrow>" * 30_000,
        "<msup><mi>x</mi>" * 190 + "<mi>y</mi>" * 20_000,
        "<mi>x</mi>" * 50_000,
        "<mo>(</mo>" * 50_000,
        "<mo>|</mo>" * 50_000,
        "</mi>" * 50_000,
        '<mi a="' * 50_000,
        "<mi a='" * 50_000 + "'",
        '<a b="<a b=" c="' * 20_000,
        "<mi a=" + "x " * 100_000,
        "<!--" * 50_000,
        "<" * 200_000,
        "&" * 200_000,
        '<annotation encoding="tex">{' * 20_000 + "</annotation>" * 20_000,
        "<mtable>" + "<mtr><mtd><mi>x</mi></mtd></mtr>" * 10_000 + "</mtable>",
        "<mtext>" + "<b>x" * 150 + "y" * 200_000,
        "<mi>" + "x" * 300_000 + "</mi>",
        "<mn>" + "1," * 100_000 + "</mn>",
        "<mo>" + "′" * 100_000 + "</mo>",
        "<mfenced>" + "<mi>x</mi>" * 20_000,
        "<mmultiscripts>" + "<mi>x</mi>" * 20_000,
        "<apply><plus/>" * 90 + "<ci>x</ci>" * 20_000,
    ],
    ids=range(22),
)
def test_hostile_markup_costs_linear_time_and_gives_bounded_text(hostile: str) -> None:
    source = "<math>" + hostile
    started = time.process_time()
    out = mathml.latex_of_source(source)
    assert time.process_time() - started < 3.0  # 0.1 to 1 s alone
    assert out is not None
    assert len(out) < 60 * len(source)


_TAGS = sorted(set(mathml.layout.SCHEMATA) | mathml.tokens.TOKENS | mathml.content.ELEMENTS | {"math", "b", "annotation"})
_ATTRIBUTES = [
    "",
    ' stretchy="false"',
    ' mathvariant="bold"',
    ' linethickness="0"',
    ' columnlines="solid"',
    ' fence="true"',
    ' minsize="2em"',
    ' open="}"',
    ' close=""',
]
_WORDS = st.text(st.sampled_from("xA1\\{}%&#$_^~ '|()[]∑→′é漢𝔸\u0338\u2061\xa0,.-<⏟¯"), max_size=4).map(
    lambda text: text.replace("&", "&amp;").replace("<", "&lt;")
)
_TREES = st.recursive(
    _WORDS,
    lambda inner: st.builds(
        lambda tag, said, parts: f"<{tag}{said}>{''.join(parts)}</{tag}>",
        st.sampled_from(_TAGS),
        st.sampled_from(_ATTRIBUTES),
        st.lists(inner, max_size=5),
    ),
    max_leaves=25,
)


@settings(max_examples=400, deadline=None)
@given(_TREES)
def test_any_tree_gives_latex_that_parses(markup: str) -> None:
    out = mathml.latex_of_source(f"<math>{markup}</math>")
    assert out is not None
    check(out)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read(text: str) -> None:
    check(mathml.latex_of_source("<math>" + text) or "")


@pytest.mark.realdata
def test_wikipedia_agrees_with_its_alttext(data_dir: Path) -> None:
    page = (data_dir / "web/mozilla__readability/test/test-pages/wikipedia-3/source.html").read_text()
    elements = HTMLTree.parse(page).body.get_elements_by_tag_name("math")[:]
    pairs = [(mathml.latex(element), mathml._converted(element.html)) for element in elements]
    equal = [normal(said) == normal(made) for said, made in pairs]
    assert len(equal) == 66
    assert sum(equal) >= 65  # a matrix with \\ after its last row


@pytest.mark.realdata
def test_every_formula_of_a_book_parses(data_dir: Path) -> None:
    for path in sorted((data_dir / "science/IDPF__epub3-samples/30/linear-algebra/EPUB/xhtml").glob("*.xhtml")):
        for element in HTMLTree.parse(path.read_text()).body.get_elements_by_tag_name("math")[:]:
            check(mathml.latex(element))


def _formulas(text: str) -> set[str]:
    """Of a TeX file, what stands between dollars in paragraphs where they pair off."""
    found: set[str] = set()
    for paragraph in re.split(r"\n\s*\n|\\(?:sub)*section|\\item", re.sub(r"(?<!\\)%.*", "", text)):
        pieces = re.split(r"(?<!\\)\$\$?", paragraph)
        if len(pieces) % 2:
            found |= {piece.strip() for piece in pieces[1::2] if 1 < len(piece) < 300}
    prose = re.compile(r"[a-z]{4,} [a-z]{2,} [a-z]{3,}")
    return {
        tex
        for tex in found
        if not re.search(r"\\(?:label|xymatrix|choose|project|sslash|inj)\b", tex) and not ("text" not in tex and prose.search(tex))
    }


@pytest.mark.realdata
def test_round_trip_through_another_converter(data_dir: Path) -> None:
    converter = pytest.importorskip("latex2mathml.converter")
    formulas: set[str] = set()
    for path in sorted([*(data_dir / "science/HoTT__book").glob("*.tex"), *(data_dir / "science/stacks__stacks-project").glob("*.tex")]):
        formulas |= _formulas(path.read_text(errors="replace"))
    equal = total = 0
    for tex in random.Random(0).sample(sorted(formulas), 2_500):
        try:
            markup = converter.convert(tex)
        except Exception:  # macros, and what it cannot read
            continue
        if "\\" in markup.replace("\\backslash", ""):
            continue
        made = mathml.latex_of_source(markup) or ""
        check(made)
        total += 1
        equal += normal(tex) == normal(made)
    assert total > 1_500
    assert equal / total >= 0.99
