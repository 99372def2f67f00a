"""The docstrings of a Python file as prose: those of the module, its classes and functions, in source order, each under its qualified name.

The file is parsed and never run. Cost: about 3 MB/s, most of it Python's own parser. Conditional definitions (below `if` or `try`) count; a
string that is merely an expression does not.
"""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator

MAX_CHARS = 4 << 20  # the syntax tree of a file takes about 100 times its size in memory
MAX_PARTS = 1000  # of a dotted name: CPython joins those of `import a.a.a` one by one, 100,000 of them in 45 s
_BLANK = r"(?:[ \t\f]|\\\r?\n)*+"
_DOTTED = re.compile(rf"(?:\.{_BLANK}\w++{_BLANK})++")


class UnparsableError(Exception):
    """The file is not Python that this interpreter reads."""


def docstrings(text: str) -> str:
    """Paragraphs `qualified.name` and docstring, separated by blank lines; empty where there is none. Raises UnparsableError."""
    if len(text) > MAX_CHARS:
        raise UnparsableError(f"{len(text)} characters, above {MAX_CHARS}")
    for name in _DOTTED.finditer(text):
        if name.end() - name.start() > 2 * MAX_PARTS and name[0].count(".") > MAX_PARTS:
            raise UnparsableError(f"a dotted name of more than {MAX_PARTS} parts")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the file's author did to string escapes is not ours to report
            tree = ast.parse(text)
        found = list(_documented(tree))
    except SyntaxError as error:
        raise UnparsableError(f"line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, nesting without end
        raise UnparsableError(f"{type(error).__name__}: {str(error)[:100]}") from None
    parts = [f"{name}\n\n{prose}" if name else prose for name, prose in found]
    # A lone surrogate written as an escape is a legal string and no legal text.
    return "\n\n".join(parts).encode("utf-8", "replace").decode()


def _documented(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) in source order; the module's name is empty."""
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        node, name = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            own = name if isinstance(node, ast.Module) else f"{name}.{node.name}".lstrip(".")
            if (first := ast.get_docstring(node, clean=False)) and (prose := inspect.cleandoc(first).strip()):
                yield own, prose
            name = own
        if isinstance(node, ast.expr):
            continue  # no definitions inside
        waiting.extend((child, name) for child in reversed(list(ast.iter_child_nodes(node))))
