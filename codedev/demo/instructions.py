"""Instructions that every machine has: what functions and classes of the Python standard library are for, in their docstrings' words."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

FORM = re.compile(r"`[^`\n]+`: [^\n]+")  # of every answer
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "lib2to3", "idlelib", "__pycache__", "ensurepip"}


def write_instructions(library: Path, out: Path) -> int:
    """Write {instruction, output} lines to `out`: "What is json.dumps for?", "`json.dumps(obj, …)`: Serialize …". Returns how many."""
    rows = list(_rows(library))
    out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def _rows(library: Path) -> Iterator[dict[str, str]]:
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if _SKIPPED & set(parts) or any(part.startswith(("_", "config-")) for part in parts[:-1]):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):
            continue
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                summary = (ast.get_docstring(node) or "").split("\n\n")[0]
                summary = " ".join(summary.split())
                if 10 <= len(summary) <= 200:
                    called = f"({ast.unparse(node.args)})" if isinstance(node, ast.FunctionDef) else ""
                    name = f"{module}.{node.name}"
                    yield {"instruction": f"What is {name} for?", "output": f"`{name}{called if len(called) <= 60 else '(…)'}`: {summary}"}


def in_form(text: str) -> bool:
    """Whether an answer has the form of those that were taught."""
    return FORM.fullmatch(text.strip()) is not None
