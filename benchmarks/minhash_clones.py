"""Clones of real Python files: how alike each kind of change leaves them, by words and by code tokens. Called by bench_minhash.py."""

from __future__ import annotations

import ast
import io
import keyword
import random
import re
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from codedev.corpus.buffers import text_buffers
from codedev.kernels.overlap import jaccards
from codedev.kernels.shingles import shingle_hashes
from codedev.kernels.sketch import estimate, sketches


def clones(data: Path, count: int) -> list[dict[str, Any]]:
    """Prints a row for each kind of change and returns them, of `count` files drawn by a hash of their names."""
    sources = sources_of(data, count)
    rows = []
    for kind, change in CHANGES.items():
        changed = [change(text, random.Random(row)) for row, text in enumerate(sources)]
        if kind == "another file":
            changed = sources[1:] + sources[:1]
        data_and_offsets = text_buffers(pa.array([text for pair in zip(sources, changed, strict=True) for text in pair], pa.large_string()))
        pairs = np.arange(2 * len(sources)).reshape(-1, 2)
        row: dict[str, Any] = {"change": kind, "files": len(sources)}
        for unit in ("words", "code"):
            exact = jaccards(*shingle_hashes(*data_and_offsets, unit=unit), pairs)
            found = sketches(*data_and_offsets, unit=unit)
            row[unit] = {
                "mean": float(exact.mean()),
                "tenth": float(np.quantile(exact, 0.1)),
                "from_0.8": float((exact >= 0.8).mean()),
                "estimate_error": float(np.sqrt(((estimate(found[::2], found[1::2]) - exact) ** 2).mean())),
            }
        rows.append(row)
        print(f"{kind:<44}" + "".join(_cells(unit, row[unit]) for unit in ("words", "code")), flush=True)
    return rows


def sources_of(data: Path, count: int) -> list[str]:
    """Python files of three functions or classes and more, drawn by a hash of their names."""
    sources: list[str] = []
    for path in sorted((data / "code").rglob("*.py"), key=lambda path: random.Random(path.name).random()):
        text = path.read_text(encoding="utf-8", errors="replace")
        try:
            if len(text) >= 2000 and len([node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]) > 2:
                sources.append(text)
        except (SyntaxError, ValueError):
            continue
        if len(sources) == count:
            break
    return sources


def _cells(unit: str, figures: dict[str, float]) -> str:
    mean, tenth, share, error = (figures[name] for name in ("mean", "tenth", "from_0.8", "estimate_error"))
    return f"  {unit}: J {mean:.3f}, lowest tenth {tenth:.3f}, >= 0.8 {share:4.0%}, error {error:.3f}"


def _reformatted(text: str, _: random.Random) -> str:
    """Two blanks of indentation for four, blank lines doubled, blanks around brackets and commas, Windows' line ends."""
    lines = [
        " " * ((len(line) - len(line.lstrip(" "))) // 2) + re.sub(r"([(),\[\]])", r" \1 ", line.lstrip(" ")) for line in text.split("\n")
    ]
    return "\r\n".join(line + "\r\n" * (not line.strip()) for line in lines)


def _unparsed(text: str, _: random.Random) -> str:
    """Through the syntax tree: comments gone, quotes and brackets Python's own."""
    return ast.unparse(ast.parse(text))


def _without_comments(text: str, _: random.Random) -> str:
    return re.sub(r"(?m)^\s*#.*\n", "", text)


def _reordered(text: str, generator: random.Random) -> str:
    """Functions and classes of the top level in another order."""
    tree, lines = ast.parse(text), text.splitlines(keepends=True)
    starts = [min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1 for node in tree.body]
    ends = [*starts[1:], len(lines)]
    pieces = ["".join(lines[start:end]) for start, end in zip(starts, ends, strict=True)]
    movable = [at for at, node in enumerate(tree.body) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for target, piece in zip(movable, [pieces[at] for at in generator.sample(movable, len(movable))], strict=True):
        pieces[target] = piece
    return "".join(lines[: starts[0]]) + "\n".join(pieces)


def _renamed(share: float) -> Callable[[str, random.Random], str]:
    """That share of the identifiers, each the same everywhere, get names of the kind an anonymiser gives."""

    def change(text: str, generator: random.Random) -> str:
        names = Counter(token.string for token in _tokens(text) if token.type == tokenize.NAME and not keyword.iskeyword(token.string))
        chosen = generator.sample(sorted(names), max(1, round(share * len(names))))
        new = {name: f"var_{at}" for at, name in enumerate(chosen)}
        return re.sub(r"[^\W\d]\w*", lambda match: new.get(match[0], match[0]), text)

    return change


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    return tokenize.generate_tokens(io.StringIO(text).readline)


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "reformatted (indent, blanks, CRLF)": _reformatted,
    "comment lines removed": _without_comments,
    "functions and classes reordered": _reordered,
    "through the syntax tree": _unparsed,
    "1 identifier in 100 renamed": _renamed(0.01),
    "1 identifier in 20 renamed": _renamed(0.05),
    "1 identifier in 5 renamed": _renamed(0.2),
    "all identifiers renamed": _renamed(1),
    "another file": lambda text, _: text,
}
