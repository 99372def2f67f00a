"""LaTeX to text: what each construction becomes, that no formula is lost, and that no input takes long or raises."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev.corpus.extract.latex import document as latex
from codedev.corpus.extract.latex import main as latex_main
from codedev.corpus.extract.latex import source as latex_source

LIMIT = 1 << 26


def paper(source: str, more: dict[str, str] | None = None, **options: str) -> latex.Paper:
    files = {"main.tex": source.encode(), **{name: text.encode() for name, text in (more or {}).items()}}
    return latex.convert(files, "main.tex", latex.Options(**options), LIMIT)  # type: ignore[arg-type]


def text(source: str, **options: str) -> str:
    return paper(source, **options).text


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        # mathematics
        (r"a $x_1$ b", "a $x_1$ b"),
        (r"a \(x\) b \[y\] c", "a $x$ b\n$$\ny\n$$\nc"),
        ("$$a\n\n  +b % comment\n$$", "$$\na\n  +b\n$$"),
        (r"\begin{equation}\label{e} x \end{equation}", "$$\nx\n$$"),
        ("\\begin{align*}a&=b\\\\\nc&=d\\end{align*}", "$$\n\\begin{align*}a&=b\\\\\nc&=d\\end{align*}\n$$"),
        (r"\begin{math}z\end{math}", "$z$"),
        (r"$a$$b$", "$a$ $b$"),
        (r"\$5 and $5$", r"\$5 and $5$"),
        (r"$x \mbox{ if $y$ and \(z\)}$ end", r"$x \mbox{ if $y$ and $z$}$ end"),
        (r"$50\%$ of", r"$50\%$ of"),
        (r"\ensuremath{a+b}", "$a+b$"),
        (r"$\alpha\ $.", "$\\alpha\\ $."),
        # macros
        (r"\newcommand{\R}{\mathbb{R}}$\R^n$", r"$\mathbb{R}^n$"),
        (r"\def\v#1{\mathbf#1}$\v x$", r"$\mathbf x$"),
        (r"\newcommand{\f}[2][q]{#1(#2)}$\f{x}\f[p]{y}$", "$q(x)p(y)$"),
        (r"\def\a#1;#2.{[#2#1]}$\a x;y.$", "$[yx]$"),
        (r"\DeclareMathOperator*{\am}{arg\,min}$\am_x$", r"$\operatorname*{arg\,min}_x$"),
        (r"\let\oldphi\phi\renewcommand{\phi}{\varphi}$\phi\oldphi$", r"$\varphi\phi$"),
        (r"\NewDocumentCommand{\g}{s m O{1}}{\IfBooleanTF{#1}{S}{N}#2_#3}$\g{a}\g*{b}[2]$", "$Na_1Sb_2$"),
        (r"\DeclarePairedDelimiter{\abs}{\lvert}{\rvert}$\abs*{x}$", r"$\left\lvert x\right\rvert$"),
        (r"\newcommand{\be}{\begin{equation}}\newcommand{\ee}{\end{equation}}\be x \ee", "$$\nx\n$$"),
        (r"\newenvironment{eq}{\begin{equation}}{\end{equation}}\begin{eq}x\end{eq}", "$$\nx\n$$"),
        (r"\newcommand{\N}{\ensuremath{\mathbb{N}}}$x_\N \text{ in \N}$, \N", r"$x_{\mathbb{N}} \text{ in $\mathbb{N}$}$, $\mathbb{N}$"),
        (r"{\def\x{1}$\x$}\def\x{2}$\x$", "$1$ $2$"),
        (r"\newcommand{\p}{\@ifnextchar[{a}{b}}$\p[x]$", r"$\p[x]$"),
        (r"\newcommand{\m}{\ifmmode M\else T\fi}\m{} $\m$", "T $M$"),
        # text
        (r"\'e\`a\^{o}\"{\i} \c{c} \v s \ss{} \aa{} \o", "éàôï ç š ß å ø"),
        (r"``a'' -- b---c~d \S 1 \ldots", "“a” – b—c d §1 …"),
        (r"\emph{a \textbf{b}} {\bf c} \texttt{d_e}", "*a **b*** **c** `d_e`"),
        (r"a\textbf{ b }c", "a **b** c"),
        (r"\section{On $x$} a \subsection*{B} c", "## On $x$\n\na\n\n### B\n\nc"),
        ("a\nb\n\n\nc", "a b\n\nc"),
        ("a% comment\nb \\% c", "ab % c"),
        (r"\verb|a%$b| c", "`a%$b` c"),
        ("\\begin{verbatim}\n $a$ % b\n\\end{verbatim}", "```\n $a$ % b\n```"),
        ("\\begin{lstlisting}[language=Python]\nx = 1\n\\end{lstlisting}", "```python\nx = 1\n```"),
        (r"\url{http://a.b/c%20d_e} \href{http://x.y}{there}", "http://a.b/c%20d_e [there](http://x.y)"),
        (r"a\footnote{see $n$} b", "a[^1] b\n\n[^1]: see $n$"),
        (r"\begin{itemize}\item a \item b\end{itemize}", "- a\n- b"),
        (r"\begin{enumerate}\item a\begin{itemize}\item x\end{itemize}\item b\end{enumerate}", "1. a\n   - x\n2. b"),
        (r"\begin{description}\item[one] a\end{description}", "- **one** a"),
        (r"\begin{tabular}{l|c} a & $|x|$ \\ \hline b & c \end{tabular}", "| a | $|x|$ |\n| --- | --- |\n| b | c |"),
        (r"\begin{figure}\includegraphics[w=1]{f}\caption{A $q$}\end{figure}", "**Figure.** A $q$"),
        (r"\newtheorem{t}{Satz}\begin{t}[Euler] x \end{t}\begin{t} y \end{t}", "**Satz** (Euler). x\n\n**Satz.** y"),
        (r"\begin{proof}[Proof of $a$] x \end{proof}", "*Proof of $a$.* x"),
        (r"\iffalse a $x$ \fi b \iftrue c \else d \fi", "b c"),
        (r"\newif\ifdraft\iffalse\draftfoo\fi\ifdraft x\else y\fi", "y"),
        (r"\begin{comment} $x$ \end{comment}b", "b"),
        (r"see \cite[p.~3]{a,b} and \eqref{e}", "see [a, b, p. 3] and ([e])"),
        (
            r"\citep[see, for example,][for a review]{a} \citep[for example,][]{b} \citep[][p. 2]{c}",
            "[see, for example, a, for a review] [for example, b] [c, p. 2]",
        ),
        (r"\foo[x]{bar $y$}", "bar $y$"),
        (r"\hskip 1em plus 2pt a\vspace*{2cm}b", "ab"),
        (r"plain text \bye ignored", "plain text"),
    ],
)
def test_each_construction(source: str, wanted: str) -> None:
    assert text(source) == wanted


def test_options() -> None:
    source = (
        r"\documentclass{a}\begin{document}% note"
        + "\n"
        + r"\section{A}\label{s} \begin{equation}\label{e}x\end{equation} \ref{s} \cite{k}"
    )
    source += r"\begin{thebibliography}{1}\bibitem{k} Knuth\end{thebibliography}\end{document}"
    assert text(source) == "## A\n\n$$\nx\n$$\n[s] [1]"
    assert text(source, citations="keys", references="drop") == "## A\n\n$$\nx\n$$\n[k]"
    kept = text(source, labels="keep", bibliography="keep", comments="keep", preamble="keep")
    assert kept == "```latex\n\\documentclass{a}\n```\n\n% note\n\n## A\n\n{#s}\n$$\n\\label{e}x\n$$\n[s] [1]\n\n## References\n\n[1] Knuth"


def test_front_matter_and_what_is_counted() -> None:
    found = paper(
        r"\documentclass{article}\title{On $x$}\author{A. B\thanks{c} \and D}\date{May 1999}\begin{document}\maketitle"
        r"\begin{abstract}Short $y$.\end{abstract} \unknown{z} $a$ } \includegraphics{f}\end{document} tail"
    )
    assert found.text.startswith("# On $x$\n\nA. B[^1], D\n\nMay 1999\n\n## Abstract\n\nShort $y$.")
    assert (found.title, found.authors, found.date, found.abstract) == ("On $x$", ["A. B", "D"], "May 1999", "Short $y$.")
    assert found.meta["unknown_macros"] == {"unknown": 1}
    assert found.meta["graphics"] == 1
    assert found.meta["unbalanced"] >= 1


def test_inputs_are_the_papers_own_and_do_not_go_round() -> None:
    more = {"a.tex": r"A \input{b}", "b.tex": r"B \input{a} \input{../../etc/passwd} \input{/etc/passwd}", "my.sty": r"\newcommand{\q}{Q}"}
    found = paper(r"\documentclass{x}\usepackage{my}\begin{document}\q \input{a}\include{a} end\end{document}", more)
    assert found.text == "QA B A B end"
    assert found.meta["missing_inputs"] == 4
    assert found.meta["refused_inputs"] == 2
    assert found.files == ["a.tex", "b.tex", "main.tex", "my.sty"]


def test_encodings() -> None:
    source = "\\documentclass{a}\\usepackage[latin2]{inputenc}\\begin{document}Łódź\\end{document}".encode("iso8859-2")
    found = latex.convert({"m.tex": source}, "m.tex", latex.Options(), LIMIT)
    assert (found.text, found.meta["encoding"]) == ("Łódź", "iso8859-2")
    assert latex.convert({"m.tex": b"na\xefve"}, "m.tex", latex.Options(), LIMIT).text == "naïve"


def test_main_file() -> None:
    class_file, part = rb"\documentclass{a}\begin{document}\input{p}\end{document}", b"part"
    assert latex_main.find_main({"p.tex": part, "z.tex": class_file}) == "z.tex"
    assert latex_main.find_main({"a.tex": class_file, "b.tex": class_file, "b.bbl": b"", "p.tex": part}) == "b.tex"
    assert latex_main.find_main({"a.tex": class_file, "b.tex": class_file, "00README.XXX": b"b.tex toplevelfile\n"}) == "b.tex"
    assert latex_main.find_main({"x.tex": b"plain \\bye"}) == "x.tex"
    assert latex_main.find_main({"a.png": b"", "r.txt": b"no"}) is None


BOMB = "".join(rf"\def\{a}{{{rf'{chr(92)}{b}' * 10}}}" for a, b in zip("abcdefghi", "bcdefghij", strict=True)) + r"\def\j{lol}"


@pytest.mark.parametrize(
    "call",
    [
        r"\a",
        r"$\a$",
        r"\a " * 500,
        r"\def\x{\y\y}\def\y{\x\x}\x $\x$",
        r"\newcommand{\q}[1]{#1#1}" + r"\q{" * 60 + "x" + "}" * 60,
        r"\newenvironment{z}{\begin{w}}{}\newenvironment{w}{\begin{z}\begin{z}}{}\begin{z}$\begin{z}$",
    ],
)
def test_macros_that_multiply_are_left(call: str) -> None:
    found = paper(BOMB + call)
    assert len(found.text) < 4_000_000
    assert found.meta["unexpanded_macros"] > 0


UNITS = [
    r"{",
    "}",
    r"\emph{",
    r"\begin{itemize}\item ",
    r"\begin{tabular}{c}a&",
    "$",
    "${",
    "$$",
    r"\verb|",
    r"\begin{verbatim}",
    r"\iffalse ",
]
UNITS += [
    r"\foo[",
    r"\cite[",
    "%",
    r"\footnote{",
    r"\def\a{",
    "\\",
    r"$\text{$",
    r"\url{",
    r"{\em ",
    r"\textbf{\textit{",
    r"\(",
    r"\mya{",
    r"\myo[",
]
UNITS += [
    r"\else ",
    r"\input{main}",
    r"\begin{equation}\begin{array}",
    r"\section{",
    r"\end{a}",
    r"\mydelim a",
    "-`",
    r"$\raisebox{",
    r"\title{",
]
MACROS = r"\def\mydelim#1;{[#1]}\newcommand{\mya}[1]{<#1>}\newcommand{\myo}[2][d]{(#1#2)}" + "\n"


@pytest.mark.parametrize("unit", UNITS)
def test_deep_and_unbalanced_input_takes_linear_time(unit: str) -> None:
    source = MACROS + unit * (60_000 // len(unit)) + "x]$;" + "}" * (60_000 // len(unit))
    started = time.process_time()
    paper(source)
    assert time.process_time() - started < 3  # 0.1 s as measured; hours, were it quadratic with depth


HOSTILE = {
    "parameters": r"\newcommand{\a}[123456789]{x}\newenvironment{b}[23456789]{}{}\a x",
    "IfBooleanTF": r"\IfBooleanTF{}{}{x" * 8000 + "}" * 8000,
    "IfBooleanTF, in a formula": "$" + r"\IfBooleanTF{}{}{x" * 8000 + "}" * 8000 + "$",
    "IfBooleanTF, with a tail": r"\IfBooleanTF{}{}{x" * 8000 + "y}" * 8000,
    "ifdef": r"\ifdef{q}{}{x" * 8000 + "}" * 8000,
    "IfFileExists": r"\IfFileExists{q}{}{x" * 8000 + "}" * 8000,
    "ifthenelse": r"\ifthenelse{q}{x" * 8000 + "}{}" * 8000,
    "texorpdfstring": r"\texorpdfstring{x" * 8000 + "}{}" * 8000,
    "ensuremath": r"\ensuremath{x" * 8000 + "}" * 8000,
    "ensuremath, in a formula": "$" + r"\ensuremath{x" * 8000 + "}y" * 8000 + "$",
    "accents": r"\'{" * 8000 + "}" * 8000,
    "items": r"\item[{" * 8000 + "}]" * 8000,
    "options": r"\foo[{$x" * 8000 + "}]" * 8000,
    "proofs": r"\begin{proof}[{" * 4000 + "}]" * 4000,
    "titles": r"\title{x" * 4000 + r"}\maketitle " * 4000,
    "text": r"\text{$" * 8000,
    "textit": r"$\textit{" * 8000,
    "minipage": r"\begin{minipage}$" * 4000,
    "thanks": r"\author{" + r"\thanks" + " " * 19_000 + "x}" + (r"\author{" + r"\thanks[" * 2500 + "}") * 60,
    "blanks of an input": r"\input" + " " * 100_000 + "%",
    "blanks of a package": r"\usepackage" + " " * 100_000 + r"x\bibitem" + " " * 100_000 + "x",
    "blanks of a formula": "$$a" + " " * 100_000 + "b\n$$",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_input_takes_little_time(source: str) -> None:
    files = {"main.tex": rb"\documentclass{a}\begin{document}" + source.encode()}
    started = time.process_time()
    assert latex_main.find_main(files) == "main.tex"
    latex.convert(files, "main.tex", latex.Options(bibliography="keep"), LIMIT)
    assert time.process_time() - started < 8  # 0.3 s on a machine with nothing else to do


@pytest.mark.parametrize("name", ["parameters", "IfBooleanTF, with a tail"])
def test_hostile_input_takes_little_memory(name: str) -> None:
    tracemalloc.start()
    text(HOSTILE[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000


def test_branches_past_the_bound_are_counted_and_their_text_stays() -> None:
    found = paper(r"\texorpdfstring{x" * 8000 + "}{}" * 8000 + " $a$")
    assert found.meta["unexpanded_macros"] > 0
    assert found.text.count("x") == 8000
    assert found.text.endswith("$a$")
    assert text(r"\IfBooleanTF{\BooleanTrue}{\IfBooleanTF{}{}{\ifdef{q}{}{a $x$}}}{} \emph{b}") == "a $x$ *b*"


def test_inputs_larger_than_the_room_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = latex_source.decode

    def counted(data: bytes, encoding: str | None = None) -> tuple[str, str]:
        decoded.append(len(data))
        return decode(data, encoding)

    monkeypatch.setattr(latex_source, "decode", counted)
    files = {"main.tex": rb"a \input{big} b \input{big} \input{small}", "big.tex": b"x" * 5000, "small.tex": b"c"}
    found = latex.convert(files, "main.tex", latex.Options(), 1000)
    assert found.text == "a b c"
    assert found.meta["refused_inputs"] == 2
    assert max(decoded) < 1000


PARTS = r"""\\ ] ) \) \] & # #1 é a \fi \item \a \b \' \csname \ifx \ensuremath \xspace \maketitle \let\c\b \newcommand{\b}[2]{#2\b#1}
\end{equation} \end{itemize} \begin{equation} \begin{document} \end{document} \documentclass{x} \begin{e} \end{e}
\newenvironment{e}[1]{#1\begin{equation}}{\end{equation}}"""
PIECES = st.sampled_from([*UNITS, *PARTS.split(), " ", "\n", "\n\n", "\x00"])


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES | st.text(max_size=3), max_size=60))
def test_any_tex_is_read(pieces: list[str]) -> None:
    source = "".join(pieces)
    found = latex.convert({"main.tex": source.encode("utf-8", "replace")}, "main.tex", latex.Options(), LIMIT)
    found.text.encode()
    assert "\x1f" not in found.text
    assert "\x1e" not in found.text


WORDS = st.sampled_from(
    ["x", r"\alpha", r"\frac{a}{b}", "_{i}", "^2", r"\R", r"\norm{y}", r"\text{ if }", "=", r"\,", r"\begin{array}{c}1\end{array}"]
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(WORDS, min_size=1, max_size=6), max_size=8),
    st.sampled_from(["$%s$", r"\(%s\)", r"\[%s\]", r"\begin{equation}%s\end{equation}"]),
)
def test_formulas_come_out_as_they_went_in(formulas: list[list[str]], form: str) -> None:
    written = [" ".join(words) for words in formulas]
    source = r"\newcommand{\R}{\mathbb{R}}\newcommand{\norm}[1]{\|#1\|}" + " word ".join(form % formula for formula in written)
    found = [(a or b).strip() for a, b in re.findall(r"\$\$\n(.*?)\n\$\$|\$([^$]+)\$", text(source), flags=re.S)]
    assert found == [formula.replace(r"\R", r"\mathbb{R}").replace(r"\norm{y}", r"\|y\|") for formula in written]


@pytest.mark.realdata
def test_formulas_of_a_real_chapter_are_all_kept(data_dir: Path) -> None:
    """The Stacks project writes $...$, $$...$$ and a few environments, so that one regular expression finds all of its formulas."""
    root = data_dir / "science" / "stacks__stacks-project"
    source = (root / "schemes.tex").read_text()
    body = re.sub(r"(?<!\\)%.*\n", "\n", source[source.index(r"\begin{document}") :])
    body = re.sub(r"\\begin\{(reference|slogan|history)\}.*?\\end\{\1\}", "", body, flags=re.S)
    body = re.sub(r"\\(begin|end)\{equation\}", "$$", body)
    body = re.sub(r"(\\begin\{((?:eqnarray|align)\*?)\}.*?\\end\{\2\})", lambda m: f"$${m[1]}$$", body, flags=re.S)
    files = {path.name: path.read_bytes() for path in root.glob("*.tex")}
    operators = dict(re.findall(r"\\def(\\[A-Za-z]+)\{(.*)\}\n", (root / "preamble.tex").read_text()))

    def formulas(text: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for display, inline in re.findall(r"\$\$(.*?)\$\$|\$([^$]+)\$", text, flags=re.S):
            formula = display or inline
            for name, meaning in operators.items():
                formula = re.sub(re.escape(name) + r"(?![A-Za-z])", lambda _, meaning=meaning: meaning, formula)
            found[re.sub(r"\s+|\\label\{[^{}]*\}", "", formula)] += 1
        return found

    wanted = formulas(body)
    assert wanted.total() > 2500
    assert formulas(latex.convert(files, "schemes.tex", latex.Options(), LIMIT).text) == wanted
