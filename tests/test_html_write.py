"""As a browser shows them: numbers of lists, powers, pictures in a line, unknown elements, the order of tables, numbers beside code."""

from __future__ import annotations

import time

import numpy as np
import pytest
from resiliparse.parse.html import HTMLTree

from codedev.kernels import htmltape
from codedev.kernels.htmlrender import render


def markdown(source: str) -> str:
    tape, block = parsed(source)
    return render(tape, block, np.ones(1, np.bool_)).decode()


def parsed(source: str) -> tuple[htmltape.Tape, np.ndarray]:
    """The tape, and one block for all text."""
    data = HTMLTree.parse(source).document.html.encode()
    tape = htmltape.tape(np.frombuffer(data, np.uint8))
    block = np.full(len(tape.tag), -1, np.int32)
    skipped = 0
    for node in range(1, len(tape.tag)):
        if node >= skipped:
            if tape.tag[node] != htmltape.TEXT:
                skipped = int(tape.after[node]) if htmltape.SKIPPED[tape.tag[node]] else 0
            elif data[tape.start[node] : tape.end[node]].strip():
                block[node] = 0
    return tape, block


FRAGMENTS = {
    # numbers of lists
    "<ol start=-2><li>a<li>b<li>c<li>d</ol>": "-2. a\n-1. b\n0. c\n1. d",
    "<ol reversed><li>a<li>b<li>c</ol>": "3. a\n2. b\n1. c",
    "<ol reversed><li>a<li value=7>b<li>c</ol>": "3. a\n7. b\n6. c",
    "<ol reversed start=10><li>a<p>b<li>c</ol>": "10. a\n\n    b\n\n9. c",
    "<ol reversed>x<li>a<ol reversed><li>b<li>c</ol><li>d</ol>": "x\n\n2. a\n   2. b\n   1. c\n1. d",
    "<ol start=' 3x'><li>a<li value=-5>b<li value=z>c<li value=+9>d</ol>": "3. a\n-5. b\n-4. c\n9. d",
    "<ul><li>x<ol start=-1><li>a<ul><li>b</ul><li>c</ol></ul>": "- x\n  -1. a\n      - b\n  0. c",
    "<ol start=99999999999><li>a</ol><ol start=><li>b</ol>": "1. a\n\n1. b",
    # powers and indices
    "<p>x<sup>n+1</sup> x<sub>i+1</sub> 2<sup>n</sup> x<sup>2n</sup> e<sup>ix</sup>": "x^(n+1) x_(i+1) 2^n x^(2n) e^(ix)",
    "<p>(a+b)<sup>n</sup> f<sup>(n)</sup>(x) O(n<sup>k</sup>) x<sup>α</sup>": "(a+b)^n f^(n)(x) O(n^k) x^α",
    "<p>a<sub>ij</sub> a<sub>n</sub>b a<sub>n</sub> b lim<sub>n→∞</sub> log<sub>b</sub>": "a_ij a_(n)b a_n b lim_(n→∞) log_b",
    "<p>CO<sub>x</sub> V<sub>max</sub> x<sup><i>max</i></sup> 10<sup>1.5</sup>": "CO_x V_max x^(max) 10^(1.5)",
    "<p>2<sup>2<sup>2</sup></sup> x<sup>y<sup>2</sup></sup> e<sup>−x<sup>2</sup></sup>": "2^(2²) x^(y²) e^(−x²)",
    "<p>x<sub>i</sub><sup>2</sup> x<sub>1</sub><sup>n</sup> SO<sub>4</sub><sup>2−</sup>": "x_i² x₁^n SO₄²⁻",
    "<p>1<sup>st</sup> 2<sup>nd</sup> 3<sup>rd</sup> k<sup>th</sup> 1<sup>er</sup> 19<sup>ème</sup>": "1st 2nd 3rd kth 1er 19ème",
    "<p>XX<sup>e</sup> V<sup>e</sup> n<sup>o</sup> 5 M<sup>me</sup> D<sup>r</sup> 3<sup>a</sup> 1<sup>o</sup>": "XXe Ve no 5 Mme Dr 3a 1o",
    "<p>Acme<sup>TM</sup> Acme<sup>®</sup> App<sup>beta</sup> X<sup>TM</sup> 30/01<sup>SC</sup>": "AcmeTM Acme® Appbeta XTM 30/01SC",
    "<p>Smith<sup>a,b</sup> word<sup>a</sup> so<sup>[citation needed]</sup> x<sup>*</sup>": "Smitha,b worda so[citation needed] x*",
    "<p>so<sup><a href=#a>a</a></sup> so<sup><a href=#b>[1]</a></sup> x <sup>n</sup>": "soa so[1] x n",
    "<p>(see below, and the rest)<sup>a</sup> see<sub>small words here</sub>": "(see below, and the rest)a seesmall words here",
    "<p><code>n &lt;= 10<sup>5</sup></code> <code>2<sup>n+1</sup></code> <code>x<sub>1</sub></code>": "`n <= 10^5` `2^(n+1)` `x_1`",
    "<p><code><sup>2</sup>x</code>": "`2x`",
    "<pre>O(n<sup>2</sup>) x<sub>i</sub> 10<sup>-3</sup>\n2<sup>n+1</sup>\n</pre>": "```\nO(n^2) x_i 10^-3\n2^(n+1)\n```",
    # pictures
    "<p>foo<img src=a>bar foo<svg><path/></svg>bar foo<picture><img></picture>bar": "foo bar foo bar foo bar",
    "<p><a>link<svg></svg></a>, done.<img src=b>Next (<img>x) 漢<img>字": "link, done. Next (x) 漢字",
    "<p>foo<img width=1 height=1 src=p>bar": "foobar",
    "<p>nice <img class=emoji alt=':smile:'> day<img alt='😀'>, <img alt=photo> ok": "nice :smile: day😀, ok",
    "<p><img alt='❤️'>love <img class=wp-smiley alt=';-)'>": "❤️love ;-)",
    "<p><img alt='😀'>": "",
    # blanks of no width, between words of scripts without blanks
    "<p>ภาษา\u200bไทย a\u200bb ไทย\u200b x ភាសា\u200bខ្មែរ ພາສາ\u200bລາວ မြန်မာ\u200bစာ": (
        "ภาษา\u200bไทย ab ไทย x ភាសា\u200bខ្មែរ ພາສາ\u200bລາວ မြန်မာ\u200bစာ"
    ),
    "<p>می\u200cخواهم क्\u200dष 👩\u200d💻": "می\u200cخواهم क्\u200dष 👩\u200d💻",
    # unknown elements
    "<p>List<String> x and more": "List x and more",
    "<div>in <st1:city>Paris</st1:city>, <o:p></o:p>un<i>der</i> it</div>": "in Paris, under it",
    "<p>see (<x-tip>the tip</x-tip>) here": "see (the tip) here",
    "<div><x-card>a</x-card><x-card>b</x-card></div><content>c</content><content>d</content>": "a\n\nb\n\nc d",
    "<pre><x-t>import</x-t> <x-t>os</x-t>\nMap<string>a;</string>\nb</pre>": "```\nimport os\nMapa;\nb\n```",
    # order of tables
    "<table><tbody><tr><td>1<td>2</tbody><thead><tr><th>a<th>b</thead></table>": "| a | b |\n| --- | --- |\n| 1 | 2 |",
    "<table><caption>C</caption><tfoot><tr><td>s<td>t</tfoot><thead><tr><th>a<th>b</thead><tbody><tr><td>1<td>2</tbody></table>d": (
        "C\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n| s | t |\n\nd"
    ),
    "<table><tr><td>1<td>2<tfoot><tr><td>3<td>4</tfoot><tbody><tr><td>5<td>6</tbody>"
    "<thead><tr><td>a<td>b</thead><thead><tr><td>7<td>8</table>": (
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 5 | 6 |\n| 7 | 8 |\n| 3 | 4 |"
    ),
    "<table><tbody><tr><td>1<td>2</tbody><thead><tr><th rowspan=9>a<th>b</thead></table>": "| a | b |\n| --- | --- |\n| 1 | 2 |",
    "<ul><li><table><tfoot><tr><td>s<td>t</tfoot><tr><td>1<td>2</table><li>x</ul>": "- | 1 | 2 |\n  | --- | --- |\n  | s | t |\n- x",
    # two short paragraphs in a cell
    "<table><tr><th>a<th>b<tr><td><div>x</div><div><p>y</div><td>z<br>w<hr>v</table>": "| a | b |\n| --- | --- |\n| x<br>y | z w<br>v |",
    f"<table><tr><td>a<td><p>b<p>{'c' * 160}<tr><td>d<td>e</table>": f"a\n\nb\n\n{'c' * 160}\n\nd\n\ne",
    # numbers beside code
    "<pre><table><tr><td>1<td>x=1<tr><td>2<td><tr><td>3<td>  y=2</table></pre>": "```\nx=1\n\n  y=2\n```",
    "<pre><table><tr><td>9\n10\n11</td><td>a\n b\nc</td></tr></table></pre>": "```\na\n b\nc\n```",
    "<pre><table><tr><td><pre>1\n2</pre></td><td><pre>a\n b</pre></td></tr></table></pre>": "```\na\n b\n```",
    "<pre><table><tr><td>a<td>1<tr><td>b<td>2</table></pre>": "```\na1\nb2\n```",
    "<pre><code class=line-numbers>a\nb</code></pre>": "```\na\nb\n```",
    "<pre><code class=line-numbers>1\n2</code><code>a\nb</code></pre>": "```\na\nb\n```",
    "<pre><span class=file-line-num>1</span>a\n<span class=linenum>2</span>b</pre>": "```\na\nb\n```",
    "<pre>a  \n\t b\t\n\n  \nc </pre>": "```\na\n\t b\n\n\nc\n```",
}  # fmt: skip


@pytest.mark.parametrize("source", FRAGMENTS)
def test_fragment(source: str) -> None:
    assert markdown(source) == FRAGMENTS[source]


def test_an_emoji_is_kept_with_its_line() -> None:
    tape, block = parsed("<p>one <img alt='😀'> two<p>three <img alt='😎'> four")
    block[block == 0] = np.arange((block == 0).sum())
    assert render(tape, block, np.array([False, False, True, True])).decode() == "three 😎 four"


HOSTILE = {
    "reversed lists": "<ol reversed><li>a" * 900 + "<li>x" * 50_000,
    "sups": "<p>x" + "<sup>n" * 900 + "x<sub>i</sub>" * 50_000,
    "parts": "<table><tbody><tr><td>a<td>b</tbody><thead>"
    + "<tr><td colspan=900 rowspan=65534>a<td>b" * 2_000
    + "</thead>"
    + "<tr><td>c" * 20_000,
    "many parts": "<table><tr><td>a<td>b<tr><td>c<td>d</tr>" + "<tfoot><tr><td>a</tfoot><thead><tr><td>b</thead>" * 20_000,
    "tables out of order": "<table><tfoot><tr><td>a<td>b<tbody><tr><td>c<td>d</table>" * 10_000,
    "numbers": "<pre><table>" + "<tr><td>1<td>a" * 50_000,
    "codes with numbers": "<pre>" + "<code class=ln>" * 900 + "1" * 200_000 + "a",
    "pictures": "<p>a" + "<img alt=x>b" * 80_000,
    "unknown": "<u1>" * 900 + "a<u2>b</u2>" * 50_000,
    "blanks in code": "<pre>" + "a      \n" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_cost_what_their_bytes_cost(name: str) -> None:
    tape, block = parsed(HOSTILE[name])
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        text = render(tape, block, np.ones(1, np.bool_))
        seconds.append(time.process_time() - begin)
    assert len(text) <= 5 * len(tape.data) + (1 << 16)
    assert min(seconds) < 0.05 + 200e-9 * len(tape.data), f"{min(seconds):.2f} s for {len(tape.data)} bytes"
    text.decode()
