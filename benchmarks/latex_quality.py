"""How many formulas survive: ours, pylatexenc's LatexNodes2Text (mathematics verbatim) and a cleaner of regular expressions.

    python benchmarks/latex_quality.py [--data .data] [--json FILE] [--show N]

The formulas of a paper's source are found by a method of its own, which shares no code with codedev: parts put together, comments,
preamble, bibliography, pictures and verbatim text cut by regular expressions, the paper's macros replaced as strings, then dollars and
environments read character by character. The same macros are replaced in what a cleaner gives before it is compared, so that nobody loses
by leaving a macro as it is. White space, braces, \\label, \\ensuremath and \\xspace do not count. kept: the formula is there as often as in
the source; altered: something like it is there; lost: nothing is.

A second oracle: formulas in the HTML that LaTeXML made of the same papers, counted.
"""

from __future__ import annotations

import argparse
import difflib
import html
import io
import json
import re
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from codedev.corpus.extract.latex import document as latex
from codedev.corpus.extract.latex import main as latex_main

DISPLAYS = [
    "equation",
    "displaymath",
    "align",
    "alignat",
    "flalign",
    "gather",
    "multline",
    "eqnarray",
    "dmath",
    "IEEEeqnarray",
    "tikzcd",
    "mathpar",
    "mathparpagebreakable",
    "narrowmultline",
    "xalignat",
    "CD",
    "math",
]
_CUT = [
    "verbatim",
    "lstlisting",
    "minted",
    "alltt",
    "comment",
    "tikzpicture",
    "pspicture",
    "picture",
    "thebibliography",
    "filecontents",
    "Verbatim",
    "reference",
    "slogan",
    "history",
]
_MACRO_ROUNDS = 12
_EXPANDED = 20_000_000  # characters


class Macro(NamedTuple):
    count: int
    default: str | None
    body: str


# -- the source, by simple means


def braced(text: str, at: int) -> int:
    """Behind the group that opens at `at`; -1 if it does not close."""
    depth = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 2
            continue
        depth += (char == "{") - (char == "}")
        at += 1
        if depth == 0:
            return at
    return -1


def inlined(files: dict[str, bytes], name: str, depth: int = 0) -> str:
    try:
        text = files[name].decode("utf-8")
    except UnicodeDecodeError:
        text = files[name].decode("latin-1")
    text = text.replace("\r\n", "\n")
    text = re.sub(r"\\begin\{(verbatim|lstlisting|minted|alltt|comment|filecontents\*?)\}.*?\\end\{\1\}", "", text, flags=re.S)
    text = re.sub(r"\\verb\*?([^A-Za-z\s*])[^\n]*?\1", "", text)
    text = re.sub(
        r"(?<!\\)((?:\\\\)*)%[^\n]*(\n[ \t]*)?",
        lambda m: m[1] + ("\n" if m[2] and m.start() and text[m.start() - 1] == "\n" else " "),
        text,
    )

    def part(match: re.Match[str]) -> str:
        wanted = match[1].strip().removeprefix("./")
        for candidate in (wanted + ".tex", wanted):
            if candidate in files and depth < 10:
                return inlined(files, candidate, depth + 1)
        return ""

    text = re.sub(r"\\input\{([^{}]*)\}", part, text)
    text = re.sub(r"\\include\{([^{}]*)\}", part, text)
    return re.sub(r"\\input[ ]+([^\s{}\\]+)", part, text)


_PROGRAM = re.compile(
    r"\\(?:@ifnextchar|@ifstar|futurelet|csname|expandafter|mathchoice|[gex]?def\b|let\b|if(?!f\b|mmode)[a-zA-Z@]*|newcommand|catcode)"
)


def definitions(text: str) -> tuple[dict[str, Macro], str]:
    """The macros of a source, and the source without their definitions."""
    macros: dict[str, Macro] = {}
    kept: list[str] = []
    at = 0
    head = re.compile(
        r"\\(?:(?:re|provide)?newcommand|renewcommand|providecommand|DeclareRobustCommand)\*?\s*(?:\{\s*\\([A-Za-z@]+)\s*\}|\\([A-Za-z@]+))\s*"
        r"(?:\[(\d)\])?\s*(?:\[([^\[\]]*)\])?\s*(?=\{)|\\[gex]?def\s*\\([A-Za-z@]+)\s*((?:#\d)*)\s*(?=\{)"
        r"|\\DeclareMathOperator(\*?)\s*(?:\{\s*\\([A-Za-z@]+)\s*\}|\\([A-Za-z@]+))\s*(?=\{)"
    )
    for match in head.finditer(text):
        if match.start() < at:
            continue
        end = braced(text, match.end())
        if end < 0:
            continue
        body = text[match.end() + 1 : end - 1]
        name = match[1] or match[2] or match[5] or match[8] or match[9]
        if match[8] or match[9]:
            body = f"\\operatorname{match[7]}{{{body}}}"
        count = int(match[3]) if match[3] else (match[6] or "").count("#")
        if not _PROGRAM.search(body) and f"\\{name}" not in re.findall(r"\\[A-Za-z@]+", body):
            macros[name] = Macro(count, match[4], body)
        kept.append(text[at : match.start()])
        at = end
    kept.append(text[at:])
    rest = "".join(kept)
    for match in re.finditer(r"\\let\s*\\([A-Za-z]+)\s*=?\s*\\([A-Za-z]+)", rest):
        macros.setdefault(match[1], macros.get(match[2], Macro(0, None, f"\\{match[2]} ")))
    return macros, re.sub(r"\\let\s*\\[A-Za-z@]+\s*=?\s*\\[A-Za-z@]+", "", rest)


def expanded(text: str, macros: dict[str, Macro]) -> str:
    """The text with macros replaced, again and again."""
    if not macros:
        return text
    found = re.compile(r"\\(" + "|".join(sorted(map(re.escape, macros), key=len, reverse=True)) + r")(?![A-Za-z@])")
    for _ in range(_MACRO_ROUNDS):
        pieces: list[str] = []
        at = changed = 0
        for match in found.finditer(text):
            if match.start() < at:
                continue
            macro = macros[match[1]]
            arguments, end = _arguments(text, match.end(), macro)
            pieces += [
                text[at : match.start()],
                re.sub(r"#(\d)", lambda m, a=arguments: a[int(m[1]) - 1] if int(m[1]) <= len(a) else "", macro.body),
            ]
            if text[end : end + 1].isalpha():
                pieces.append(" ")
            at, changed = end, changed + 1
        pieces.append(text[at:])
        text = "".join(pieces)
        if not changed or len(text) > _EXPANDED:
            break
    return text


def _arguments(text: str, at: int, macro: Macro) -> tuple[list[str], int]:
    found: list[str] = []
    if macro.default is not None:
        option = re.compile(r"\s*\[((?:[^\[\]{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\]").match(text, at)
        found.append(option[1] if option else macro.default)
        at = option.end() if option else at
    while len(found) < macro.count:
        blank = re.compile(r"\s*").match(text, at)
        assert blank is not None
        start = blank.end()
        if text[start : start + 1] == "{":
            end = braced(text, start)
            if end < 0:
                break
            found.append(text[start + 1 : end - 1])
            at = end
            continue
        token = re.compile(r"\\[A-Za-z]+|\\.|[^}$&]", re.S).match(text, start)
        if token is None:
            break
        found.append(token[0])
        at = token.end()
    return found, at


def body_of(text: str) -> str:
    text = re.sub(r"\\iffalse\b.*?\\fi\b", "", text, flags=re.S)
    _, begun, rest = text.partition("\\begin{document}")
    text = rest.partition("\\end{document}")[0] if begun else text
    for name in _CUT:
        text = re.sub(r"\\begin\{" + name + r"\*?\}.*?\\end\{" + name + r"\*?\}", "", text, flags=re.S)
    return text


_TOKEN = re.compile(r"\\(begin|end)\s*\{([A-Za-z]+\*?)\}|\\ensuremath\s*(?=\{)|\\[\[\]()]|\\.|\$\$?|[{}]|\n[ \t]*\n", re.S)


def formulas(text: str) -> Iterator[str]:
    """Formulas of TeX or Markdown text, in canonical form: the content, with its environment where that is no plain display."""
    depth, at = 0, 0
    opened: tuple[str, int, int, int] | None = None  # what closes it, depth, start of the content, start of the whole
    while match := _TOKEN.search(text, at):
        token, at = match[0], match.end()
        if token.startswith("\n"):
            if opened and opened[0] == "$" and depth <= opened[1]:
                opened = None
        elif token == "{":
            depth += 1
        elif token == "}":
            depth -= 1
            if opened and depth < opened[1]:
                opened = None  # of a column's type: >{$}c<{$}
        elif opened is None:
            if match[1] == "begin" and match[2].rstrip("*") in DISPLAYS:
                opened = (match[2], depth, at, match.start())
            elif token in ("$", "$$"):
                opened = (token, depth, at, match.start())
            elif token in ("\\(", "\\["):
                opened = (")" if token == "\\(" else "]", depth, at, match.start())
            elif token.startswith("\\ensuremath"):
                end = braced(text, at)
                if end > 0:
                    yield text[at + 1 : end - 1]
                    at = end
        elif depth == opened[1]:
            closes = opened[0]
            if (match[1] == "end" and match[2] == closes) or token == closes or token == f"\\{closes}" or (token == "$$" and closes == "$"):
                if token == "$$" and closes == "$":
                    at -= 1
                plain = match[1] != "end" or closes.rstrip("*") in ("equation", "displaymath", "math", "dmath")
                yield text[opened[2] : match.start()] if plain else text[opened[3] : match.end()]
                opened = None


def canonical(formula: str) -> str:
    formula = re.sub(r"\\label\s*\{[^{}]*\}|\\ensuremath(?![A-Za-z])|\\xspace(?![A-Za-z])", "", formula)
    formula = re.sub(r"\\[()]", "$", formula)
    return re.sub(r"\s+|[{}]", "", formula)


# Entries of the index are no text of a page.
_INDEX = re.compile(r"\\(?:index|glossary)\s*(\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*\})*\})")


def found_in(text: str, macros: dict[str, Macro]) -> Counter[str]:
    return Counter(key for formula in formulas(_INDEX.sub("", expanded(text, macros))) if (key := canonical(formula)))


# -- the cleaners


class Paper(NamedTuple):
    corpus: str
    files: dict[str, bytes]
    main: str


def ours(paper: Paper) -> str:
    text = latex.convert(paper.files, paper.main, latex.Options(), 1 << 28).text
    text = re.sub(r"^ *(`{3,})[^\n]*\n.*?^ *\1 *$", lambda m: m[0].replace("`", "") if "$" in m[0] else "", text, flags=re.S | re.M)
    return text.replace("\\$", "")


def pylatexenc(paper: Paper) -> str:
    import logging

    from pylatexenc.latex2text import LatexNodes2Text

    logging.disable(logging.WARNING)
    text = inlined(paper.files, paper.main)
    _, begun, rest = text.partition("\\begin{document}")
    return str(LatexNodes2Text(math_mode="verbatim", keep_comments=False).latex_to_text(rest if begun else text))


def by_expressions(paper: Paper) -> str:
    """What the common cleaners of arXiv do: comments out, macros without arguments replaced, text before the first heading and behind the
    bibliography cut."""
    text = inlined(paper.files, paper.main)
    plain = dict(re.findall(r"\\(?:re)?newcommand\*?\{?(\\[A-Za-z]+)\}?\{((?:[^{}]|\{[^{}]*\})*)\}[ \t]*$", text, flags=re.M))
    plain |= dict(re.findall(r"\\def\s*(\\[A-Za-z]+)\s*\{((?:[^{}]|\{[^{}]*\})*)\}[ \t]*$", text, flags=re.M))
    first = re.search(r"\\(?:chapter|part|section|subsection|paragraph)\*?(?:\[[^\]]*\])?\{", text)
    text = text[first.start() :] if first else ""
    text = re.split(r"\\appendix\b|\\begin\{thebibliography\}|\\bibliography\b|\\begin\{references\}", text, maxsplit=1)[0]
    for name, value in plain.items():
        text = re.sub(re.escape(name) + r"(?![A-Za-z])", lambda _, value=value: value, text)
    return text


CLEANERS: dict[str, Callable[[Paper], str]] = {"codedev": ours, "pylatexenc": pylatexenc, "expressions": by_expressions}

# -- the papers


def papers(data: Path) -> Iterator[Paper]:
    science = data / "science"
    engrafo = science / "arxiv-vanity__engrafo" / "tests" / "integration"
    for corpus, root in (
        ("engrafo", engrafo / "basic"),
        ("engrafo", engrafo / "documents"),
        ("engrafo", engrafo / "packages"),
        ("engrafo", engrafo / "papers" / "1803.07574"),
        ("stacks-project", science / "stacks__stacks-project"),
        ("HoTT book", science / "HoTT__book"),
        ("emcee", science / "dfm__emcee" / "document"),
        ("sympy-paper", science / "sympy__sympy-paper"),
    ):
        files = {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.suffix in (".tex", ".sty", ".cls", ".bbl")
        }
        scores = {name: score for name, text in files.items() if latex_main.is_tex(name) and (score := latex_main.score(text))}
        read_by = {name: list(latex_main.reads(name, text, files.__contains__)) for name, text in files.items()}
        for main in latex_main.mains(scores, read_by):
            yield Paper(corpus, files, main)
    for path in sorted(science.rglob("tests/latex/*.gz")):
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
            files = {
                member.name: file.read()
                for member in archive
                if (file := archive.extractfile(member)) and member.name.endswith((".tex", ".bbl"))
            }
        yield Paper("arXiv 1911.02782", files, latex_main.find_main(files) or "main.tex")
    for path in sorted((data / "books").rglob("*.tex")):
        if not (content := path.read_bytes()).startswith(b"%PDF"):
            yield Paper("Gutenberg TeX", {path.name: content}, path.name)


class Tally(NamedTuple):
    formulas: int
    kept: int
    altered: int
    lost: int
    examples: list[str]


def compared(source: Counter[str], made: Counter[str]) -> Tally:
    missing, left = source - made, list((made - source).elements())
    altered = 0
    examples: list[str] = []
    for formula in missing.elements():
        near = difflib.get_close_matches(formula[:300], [other[:300] for other in left[:400]], n=1, cutoff=0.6)
        altered += bool(near)
        if len(examples) < 200:
            examples.append(f"{'altered' if near else 'lost'}: {formula[:160]}" + (f"\n      now {near[0][:160]}" if near else ""))
    total = source.total()
    return Tally(total, total - missing.total(), altered, missing.total() - altered, examples)


def rendered(data: Path) -> list[tuple[str, int, int]]:
    """(paper, formulas in LaTeXML's HTML, formulas of ours)."""
    tests = data / "science" / "arxiv-vanity__engrafo" / "tests"
    rows = []
    for page in sorted((tests / "integration-output").rglob("index.html")):
        relative = page.parent.relative_to(tests / "integration-output")
        source = tests / "integration" / relative
        main = source / "main.tex" if source.is_dir() else source
        if not main.is_file():
            continue
        markup = page.read_text(errors="replace")
        shown = len(re.findall(r'class="mjx-math"', markup))
        files = {path.name: path.read_bytes() for path in ([main] if main == source else source.iterdir()) if path.is_file()}
        text = ours(Paper("", files, main.name))
        rows.append((str(relative), shown, sum(1 for formula in formulas(text) if canonical(formula))))
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--data", type=Path, default=Path(".data"))
    options.add_argument("--json", type=Path)
    options.add_argument("--show", type=int, default=0, help="formulas of ours that are not kept, this many a corpus")
    given = options.parse_args()
    totals: dict[tuple[str, str], list[float]] = {}
    shown: Counter[str] = Counter()
    for paper in papers(given.data):
        raw = inlined(paper.files, paper.main)
        for style in sorted(name for name in paper.files if name.endswith(".sty") and f"{{{name[:-4]}}}" in raw):
            raw = inlined(paper.files, style) + raw
        macros, rest = definitions(raw)
        source = found_in(body_of(rest), macros)
        for name, clean in CLEANERS.items():
            started = time.process_time()
            try:
                text = clean(paper)
            except Exception as error:  # a cleaner that fails on a paper loses its formulas
                print(f"{name} fails on {paper.main}: {type(error).__name__}: {str(error)[:80]}")
                text = ""
            spent = time.process_time() - started
            tally = compared(source, found_in(text, macros))
            row = totals.setdefault((paper.corpus, name), [0, 0, 0, 0, 0.0, 0.0])
            for place, value in enumerate((*tally[:4], spent, len(raw) / 1e6)):
                row[place] += value
            if name == "codedev":
                for example in tally.examples[: max(0, given.show - shown[paper.corpus])]:
                    shown[paper.corpus] += 1
                    print(f"   {paper.main}: {html.unescape(example)}")
    print(f"{'corpus':18} {'cleaner':12} {'formulas':>9} {'kept':>8} {'altered':>8} {'lost':>7} {'kept %':>7} {'MB/s':>7}")
    for (corpus, name), (count, kept, altered, lost, spent, size) in totals.items():
        share = 100 * kept / count if count else 100.0
        print(f"{corpus:18} {name:12} {count:9.0f} {kept:8.0f} {altered:8.0f} {lost:7.0f} {share:7.2f} {size / max(spent, 1e-9):7.2f}")
    html_rows = rendered(given.data)
    print("\nFormulas in LaTeXML's HTML and ours, where they differ:")
    for paper_name, theirs, mine in html_rows:
        if theirs != mine:
            print(f"   {paper_name:40} {theirs:5} {mine:5}")
    equal = sum(theirs == mine for _, theirs, mine in html_rows)
    print(f"   all: {sum(row[1] for row in html_rows)} {sum(row[2] for row in html_rows)}; equal in {equal} of {len(html_rows)} papers")
    if given.json:
        fields = ("formulas", "kept", "altered", "lost", "cpu_s", "mb")
        rows = [{"corpus": c, "cleaner": n, **dict(zip(fields, row, strict=True))} for (c, n), row in totals.items()]
        given.json.write_text(json.dumps({"papers": rows, "rendered": html_rows}, indent=1))


if __name__ == "__main__":
    main()
