"""Pages as text: every rule on a fragment, CommonMark's reading of what is written, the words of real pages, random and hostile trees."""

from __future__ import annotations

import gzip
import json
import re
import statistics
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import html as lxml_html
from markdown_it import MarkdownIt
from resiliparse.parse.html import HTMLTree

from codedev.kernels import htmltape
from codedev.kernels.htmlrender import render

COMMONMARK = MarkdownIt("commonmark").enable("table")


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


def markdown(source: str) -> str:
    return render(*parsed(source), np.ones(1, np.bool_)).decode()


FRAGMENTS = {
    # white space, references, lines
    "<p>a <b> b</b>\n\n c": "a b c",
    "<b>a</b><i>b</i>": "ab",
    "<b>a</b> <i>b</i>": "a b",
    "<p>a</p>b<div>c</div>": "a\n\nb\n\nc",
    '<p>a&nbsp;&lt;b&gt; &amp;amp; "q"': 'a <b> &amp; "q"',
    "<p>so\u00adft ze\u200bro &nbsp; x": "soft zero x",
    "<p>a<br>b<br/>c": "a\nb\nc",
    "<p>a<br> <br>b<br>": "a\n\nb",
    "<p>*a* _b_ # c [d](e)": "*a* _b_ # c [d](e)",
    "<p>a<select><option>x</select>b<input>c": "a b c",
    "<p>a<button>Go</button>b": "a\n\nGo\n\nb",
    "<label>Name<input></label><label>Mail</label>": "Name\n\nMail",
    "<p>a<hr>b<script>c</script><style>d</style>": "a\n\nb",
    "<p>a<img alt=x src=y>b<a href=z>c</a>": "a bc",
    "<figure><img alt=x><figcaption>The caption</figcaption></figure>": "The caption",
    "<details><summary>S</summary>d</details><address>x<br>y</address>": "S\n\nd\n\nx\ny",
    "<p><del>a</del> <s>b</s> <em>c</em> <strong>d</strong> <kbd>e</kbd> <var>f</var>": "a b c d e f",
    "<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp>字<rt>ji</rt></ruby>": "漢字",
    "<p>He said <q>yes <q>no</q></q>.": "He said “yes “no””.",
    "<p><q></q>a": "a",
    # above and below the line, notes
    "<p>x<sup>2</sup> H<sub>2</sub>O 10<sup>−3</sup> Ca<sup>2+</sup>": "x² H₂O 10⁻³ Ca²⁺",
    "<p>1<sup>st</sup> x<sub>n</sub>": "1st x_n",
    "<p>a<sup>[1]</sup> b<sup><a href=x>12</a></sup> c<a href=x><sup>3</sup></a>": "a[1] b[12] c[3]",
    # headings
    "<h1>A <b>b</b></h1><h2>x<br>y</h2><h3> </h3><h6>z</h6>p": "# A b\n\n## x y\n\n###### z\n\np",
    "<h2><div>a</div><p>b</p></h2>": "## a b",
    "<h2>a <code>b</code></h2>": "## a `b`",
    "<ul><li><h3>Title</h3>text": "- Title\n\n  text",
    "<h1>a<ul><li>b</ul><p>c</h1>": "a\n\n- b\n\nc",
    # lists
    "<ul><li>a<li>b</ul>c": "- a\n- b\n\nc",
    "<ul><li>a<ul><li>b<ul><li>c</ul></ul><li>d</ul>": "- a\n  - b\n    - c\n- d",
    "<ul><li>a<ol><li>b<li>c</ol></ul>": "- a\n  1. b\n  2. c",
    "<ol start=9><li>a<li>b<ul><li>c</ul><li value=20>d<li>e</ol>": "9. a\n10. b\n    - c\n20. d\n21. e",
    "<ul><li><p>a</p><li><p>b</p></ul>": "- a\n- b",
    "<ul><li><p>a<p>b</li><li>c</ul>": "- a\n\n  b\n\n- c",
    "<ul><li>a</li><ul><li>b</ul><li>c</ul>": "- a\n  - b\n- c",
    "<ul><li></li><li> </li><li>c</ul>": "- c",
    "<ul><li>a<br>b<li>c": "- a\n  b\n- c",
    "<dl><dt>t<dd>d<dd>e<dt>u<dt>v<dd><p>f<p>g</dl>": "t\n: d\n: e\n\nu\nv\n: f\n\n  g",
    # quotes
    "<blockquote><p>a<p>b</blockquote>c": "> a\n>\n> b\n\nc",
    "<blockquote>a<blockquote>b</blockquote>c</blockquote>": "> a\n>\n> > b\n>\n> c",
    "<blockquote><ul><li>a<li>b</ul></blockquote>": "> - a\n> - b",
    "<ul><li>a<blockquote>b<br>c</blockquote></ul>": "- a\n\n  > b\n  > c",
    # code
    "<p>use <code>x  y</code>, <tt>z</tt>": "use `x y`, `z`",
    "<p><code>a`b</code> <code>`</code>": "``a`b`` `` ` ``",
    "<p><code>a</code><code>b</code>": "`ab`",
    "<p><code></code>a": "a",
    "<pre>\n\n  a\n\n\tb  \n\n</pre>c": "```\n  a\n\n\tb\n```\n\nc",
    "<pre>a&nbsp;&lt;<b>b</b></pre>": "```\na <b\n```",
    "<pre>```\nx</pre>": "````\n```\nx\n````",
    "<pre><code class='language-C++'>a": "```c++\na\n```",
    "<pre class='brush: python; gutter: false'>a": "```python\na\n```",
    "<div class='highlight highlight-source-shell'><pre>a</pre></div>": "```shell\na\n```",
    "<div class='highlight-default notranslate'><div class=highlight><pre>a</pre></div></div>": "```\na\n```",
    "<div class='highlight-python3 notranslate'><div class=highlight><pre>a</pre></div></div>": "```python3\na\n```",
    "<div class=sourceCode><pre class='sourceCode haskell'>a</pre></div>": "```haskell\na\n```",
    "<pre class='src src-emacs-lisp'>a</pre><pre class='src src-sh'>a</pre>": "```\na\n```\n\n```sh\na\n```",
    "<pre><code class='hljs javascript'>a": "```javascript\na\n```",
    "<pre data-lang=rust>a": "```rust\na\n```",
    "<pre lang=en>a</pre><pre lang=php>b</pre>": "```\na\n```\n\n```php\nb\n```",
    "<pre class='prettyprint lang-js'>a": "```js\na\n```",
    "<pre>a<br>b<br>\nc<br><br>d</pre>": "```\na\nb\nc\n\nd\n```",
    "<pre><div class=line>a</div><div class=line></div><div class=line>  b</div></pre>": "```\na\n\n  b\n```",
    "<pre><div>a\n</div><div>b\n</div></pre>": "```\na\nb\n```",
    "<pre><ol><li>a<li><li>  b</ol></pre>": "```\na\n\n  b\n```",
    "<pre><span class=lineno>1 </span>a\n<span class=lineno>2 </span>b<button>Copy</button></pre>": "```\na\nb\n```",
    "<blockquote><pre>a\n\nb</pre></blockquote>": "> ```\n> a\n>\n> b\n> ```",
    "<ul><li>x<pre>a\n\n b</pre>y</ul>": "- x\n\n  ```\n  a\n\n   b\n  ```\n\n  y",
    "<xmp>a <b> &amp;</xmp>": "```\na <b> &amp;\n```",
    "<div><code>a<br>&nbsp;&nbsp;b</code></div>": "```\na\n  b\n```",
    "<div><div><code>if</code> <code>x:</code></div><div><code>&nbsp;</code><code>y</code></div></div>": "```\nif x:\n y\n```",
    "<table class=highlighttable><tr><td class=linenos><div class=linenodiv><pre>1\n2</pre></div></td>"
    "<td class=code><div class=highlight><pre>a\n  b\n</pre></div></td></tr></table>": "```\na\n  b\n```",
    "<div class='language-ruby highlighter-rouge'><div class=highlight><pre class=highlight><code><table class=rouge-table><tbody><tr>"
    "<td class='rouge-gutter gl'><pre class=lineno>1\n2\n</pre></td><td class=rouge-code><pre>a\nb\n</pre></td></tr></tbody></table></code>"
    "</pre></div></div>": "```ruby\na\nb\n```",
    "<div class='syntaxhighlighter java'><table><tr><td class=gutter><div class=line>1</div><div class=line>2</div></td><td class=code>"
    "<div class=container><div class=line><code>a</code></div><div class=line><code>&nbsp;&nbsp;</code><code>b</code></div></div></td></tr>"
    "</table></div>": "```java\na\n  b\n```",
    "<table class='highlight js-file-line-container'>\n<tr>\n<td class=blob-num data-line-number=1></td>\n"
    "<td class=blob-code>if:</td>\n</tr>"
    "<tr><td class=blob-num data-line-number=2></td><td class=blob-code>\n</td></tr>"
    "<tr><td class=blob-num data-line-number=3></td><td class=blob-code>  <b>x</b></td></tr></table>": "```\nif:\n\n  x\n```",
    # tables
    "<table><tr><th>a<th>b<tr><td>1|2<td><p>3<br>4</p></table>": "| a | b |\n| --- | --- |\n| 1\\|2 | 3 4 |",
    "<table><caption>C</caption><thead><tr><td>a<td>b</thead><tr><td colspan=2>x<tr><td>y</table>": (
        "C\n\n| a | b |\n| --- | --- |\n| x |  |\n| y |  |"
    ),
    "<table><tr><td rowspan=2>a<td>b<tr><td>c</table>": "| a | b |\n| --- | --- |\n|  | c |",
    "<table><tr><td>a<td>b</table>": "a\n\nb",
    "<table role=presentation><tr><td>a<td>b<tr><td>c<td>d</table>": "a\n\nb\n\nc\n\nd",
    "<table><tr><td>a<td><table><tr><td>b<td>c<tr><td>d<td>e</table><tr><td>f<td>g</table>": (
        "a\n\n| b | c |\n| --- | --- |\n| d | e |\n\nf\n\ng"
    ),
    "<table><tr><td>a<td><p>b<p>c<tr><td>d<td>e</table>": "| a | b<br>c |\n| --- | --- |\n| d | e |",
    "<table><tr><td>a<td><p>b<p>c<p>d<tr><td>e<td>f</table>": "a\n\nb\n\nc\n\nd\n\ne\n\nf",
    "<table><tr><td>a<td><code>x|y</code><tr><td>c<td><h3>d</h3></table>": "| a | `x\\|y` |\n| --- | --- |\n| c | d |",
    "<ul><li>x<table><tr><td>a<td>b<tr><td>c<td>d</table></ul>": "- x\n\n  | a | b |\n  | --- | --- |\n  | c | d |",
    # formulas
    "<p>a <codedev-math>\n x &lt; y\n+1 </codedev-math>, b": "a $x < y +1$, b",
    "<p>a <codedev-math display=block> x\n= y </codedev-math> b": "a\n\n$$\nx\n= y\n$$\n\nb",
    "<blockquote><codedev-math display=block>x\ny</codedev-math></blockquote>": "> $$\n> x\n> y\n> $$",
    "<h2>On <codedev-math display=block>x</codedev-math></h2>": "## On $x$",
    "<table><tr><td>a<td><codedev-math display=block>|x|</codedev-math><tr><td>b<td>c</table>": (
        "| a | $\\|x\\|$ |\n| --- | --- |\n| b | c |"
    ),
}


@pytest.mark.parametrize("source", FRAGMENTS)
def test_fragment(source: str) -> None:
    assert markdown(source) == FRAGMENTS[source]


def test_only_kept_blocks_are_written() -> None:
    tape, block = parsed("<ol><li>a<li>b<li>c</ol><h2>d</h2><table><tr><td>e<td>f<tr><td>g<td>h<tr><td>i<td>j</table><pre>k</pre>")
    block[block == 0] = np.arange((block == 0).sum())
    names = "abcdefghijk"

    def kept(wanted: str) -> str:
        return render(tape, block, np.array([name in wanted for name in names])).decode()

    assert kept("bc") == "2. b\n3. c"
    assert kept("eij") == "| e |  |\n| --- | --- |\n| i | j |"
    assert kept("gk") == "| g |  |\n| --- | --- |\n\n```\nk\n```"
    assert kept("d") == "## d"
    assert kept("") == ""
    with pytest.raises(ValueError, match="a block of every node"):
        render(tape, block, np.ones(3, np.bool_))


def fences(text: str) -> list[str]:
    return [token.content for token in COMMONMARK.parse(text) if token.type in ("fence", "code_block")]


def cells(text: str) -> list[str]:
    tokens = COMMONMARK.parse(text)
    return [tokens[i + 1].content for i, token in enumerate(tokens) if token.type in ("td_open", "th_open")]


def test_commonmark_reads_back_what_was_written() -> None:
    code = "  a\n\n```\n\tb <c> `d`\n- e"
    source = f"<ul><li>x<ol><li>y<blockquote><pre>{code.replace('<', '&lt;')}</pre></blockquote></ol><li>z</ul>"
    assert fences(markdown(source)) == [code + "\n"]
    source = "<blockquote><table><tr><th>a|b<th>c<tr><td>d<td><code>e|f</code></table></blockquote>"
    assert [cell.replace("\\|", "|") for cell in cells(markdown(source))] == ["a|b", "c", "d", "`e|f`"]
    nested = (
        "<ul>" + "".join(f"<li>level {n}<ol><li>one<li>two<ul>" for n in range(4)) + "<li>end"
    )  # markdown-it reads 20 levels, two a list
    ours = [token.type for token in COMMONMARK.parse(markdown(nested)) if "list" in token.type]
    theirs: list[str] = []
    for element in lxml_html.fragment_fromstring(HTMLTree.parse(nested).body.html, create_parent="div").iter():
        theirs += {"ul": ["bullet_list_open"], "ol": ["ordered_list_open"], "li": ["list_item_open"]}.get(element.tag, [])
    assert [kind for kind in ours if kind.endswith("open")] == theirs


WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    return WORD.findall(unicodedata.normalize("NFKC", text.replace("\u00ad", "").replace("\u200b", "").replace("\ufeff", "")))


UNREAD = {name for name, number in htmltape.TAG.items() if htmltape.SKIPPED[number]} | {"rt", "rp"}
INLINE = {name for name, number in htmltape.TAG.items() if htmltape.INLINE[number]} - {"label", "br", "input"}


def words_of_dom(source: str) -> list[str]:
    """The words of the text outside what no one reads, by a walk over the parser's own tree."""
    pieces: list[str] = []
    todo = [(HTMLTree.parse(source).body, False)]
    while todo:
        node, done = todo.pop()
        if node is None:
            continue
        name = node.tag.lower()
        if name == "#text":
            pieces.append(node.text)
        elif done or name in UNREAD:
            pieces.append("" if name in INLINE | {"script", "style", "noscript", "template", "svg", "math", "picture", "title"} else " ")
        elif not name.startswith("#"):
            pieces.append("" if name in INLINE else " ")
            todo.append((node, True))
            todo += [(child, False) for child in reversed(node.child_nodes)]
    return words("".join(pieces))


BLOCKS = ["p", "div", "ul", "ol", "li", "dl", "dt", "dd", "blockquote", "h2", "table", "tr", "td", "th", "caption", "hr", "section", "x-y"]
TAGS = [*BLOCKS, "b", "i", "a", "sup", "sub", "q", "ruby", "rt", "br", "label", "span", "code"]


@st.composite
def trees(draw: st.DrawFn) -> str:
    pieces = draw(
        st.lists(st.one_of(st.sampled_from([f"<{t}>" for t in TAGS] + [f"</{t}>" for t in TAGS]), st.text("ab1 \n|é漢&<", max_size=4)))
    )
    return "".join(
        piece if piece.startswith(("<", "</")) and piece.endswith(">") else piece.replace("&", "&amp;").replace("<", "&lt;")
        for piece in pieces
    )


@given(trees())
@settings(max_examples=400, deadline=None)
def test_random_trees_keep_their_words_in_order(source: str) -> None:
    text = markdown(source)
    # Numbers of items and marks are ours.
    ours = words(re.sub(r"(?m)^[ >:-]*(\d+\. [ >:-]*)+", "", text).translate({ord(mark): None for mark in "“”[]`^_()\\"}))
    theirs = words_of_dom(source)
    assert [w for w in ours if not w.isdigit()] == [w for w in theirs if not w.isdigit()]


@given(st.text(alphabet="<>/preculiodvtah 12\n`&;", max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes_give_text(source: str) -> None:
    markdown(source)


HOSTILE = {
    "lists": "<ul><li>a" * 600 + "<p>x" * 10_000,
    "quotes": "<blockquote>" * 600 + "<p>x" * 20_000,
    "lines in a list": "<ul><li>" * 300 + "<pre>" + "\n x" * 300_000,
    "blank lines in quotes": "<blockquote>" * 300 + "<pre>x" + "\n" * 500_000 + "y",
    "columns": "<table><tr>" + "<td colspan=1000 rowspan=65534>a" * 900 + "<tr>" * 30_000,
    "wide rows": "<table>" + "<tr><td colspan=999>a<td>b" * 20_000,
    "empty headings": "<h1><div>" * 700 + "x" * 100_000,
    "quotation marks": "<q>" * 800 + "x" + "</q>" * 800,
    "inline code": "<code>`</code>" * 50_000,
    "pieces of code": "<code>a</code>" * 50_000,
    "code lines": "<div>" * 500 + "<p><code>a</code></p>" * 20_000 + "b",
    "backticks": "<pre>" + "`" * 500_000,
    "attributes": "<div class='" + "a " * 300_000 + "'>" + "<pre>a</pre>" * 20_000,
    "sups": "<sup><a>" * 500 + "1" * 50_000,
    "tables in tables": "<table><tr><td>" * 300 + "x" * 100_000,
    "pre in pre": "<pre>" * 500 + "a\n" * 100_000,
    "formulas": "<table><tr><td>a<td>" + "<codedev-math>|</codedev-math>" * 20 + "<tr><td>b<td>c</table>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_cost_what_their_bytes_cost(name: str) -> None:
    tape, block = parsed(HOSTILE[name])
    begin = time.process_time()
    text = render(tape, block, np.ones(1, np.bool_))
    seconds = time.process_time() - begin
    assert len(text) <= 5 * len(tape.data) + (1 << 16)
    assert seconds < 0.05 + 50e-9 * len(tape.data) * 4, f"{seconds:.2f} s for {len(tape.data)} bytes"
    text.decode()


def _pages(data_dir: Path) -> list[str]:
    web = data_dir / "web"
    found = [gzip.decompress(path.read_bytes()) for path in sorted((web / "scrapinghub__article-extraction-benchmark/html").glob("*.gz"))]
    found += [path.read_bytes() for path in sorted((web / "ccprocessor__llm-webkit-mirror/bench/data/origin").glob("*.html"))]
    return [page.decode("utf-8", "replace") for page in found]


@pytest.mark.realdata
def test_real_pages_keep_every_word(data_dir: Path) -> None:
    lost = shown = 0
    for page in _pages(data_dir):
        ours, theirs = words(markdown(page)), words_of_dom(page)
        shown += len(theirs)
        lost += abs(len(ours) - len(theirs))
    print(f"{lost} of {shown} words")
    assert lost < 0.005 * shown


@pytest.mark.realdata
def test_real_code_blocks_are_equal_to_the_gold(data_dir: Path) -> None:
    """Lines without the blanks at their ends, as the gold has them."""

    def lines(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.split("\n")).strip()

    data = data_dir / "web/ccprocessor__llm-webkit-mirror/bench/data"
    equal = gold = 0
    for path in sorted((data / "groundtruth").glob("code_*.jsonl")):
        wanted = json.loads(path.read_text().splitlines()[0])["content"]
        page = (data / "origin" / f"{path.stem}.html").read_bytes().decode("utf-8", "replace")
        written = {lines(text) for text in fences(markdown(page))}
        for text in fences(wanted):
            gold += 1
            equal += lines(text.replace("\u00a0", " ")) in written
    print(f"{equal} of {gold}")
    assert equal >= 0.75 * gold  # the rest is inline code that the gold has in blocks


@pytest.mark.realdata
def test_speed(data_dir: Path) -> None:
    pages = [(*parsed(page), np.ones(1, np.bool_)) for page in _pages(data_dir)[:40]]
    seconds = []
    for _ in range(5):
        begin = time.process_time()
        for page in pages:
            render(*page)
        seconds.append(time.process_time() - begin)
    assert sum(len(tape.data) for tape, _, _ in pages) / statistics.median(seconds) > 400e6
