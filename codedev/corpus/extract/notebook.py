"""Jupyter notebooks as text: code and Markdown cells in their order. nbformat 3 (worksheets) and 4.

`script`: the percent format that editors and jupytext read. Every cell begins with a line `# %%` (`# %% [markdown]`, `# %% [raw]`), and
what is no code stands in comments, so that the text is a program of the kernel's language. `markdown`: Markdown cells as they are, code
cells in fences. Outputs are dropped, or kept as text behind their cell, each cut at a number of characters: streams, plain-text results
and errors; an image is named and not kept. Counts of all cells and outputs are returned, so that nothing is lost unseen. Magics
(`%matplotlib inline`, `!pip`) stay as they are in `markdown`; in a script they become comments, since they are no Python. Cost: the JSON
parser's, 1 ms a MB.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

import orjson

LANGUAGE = "Jupyter Notebook"  # linguist's name
# Line comments of languages that have kernels; others get Python's.
_COMMENT = {
    **dict.fromkeys(
        ("c++", "cpp", "c", "java", "javascript", "typescript", "go", "rust", "scala", "kotlin", "c#", "csharp", "swift", "f#"), "//"
    ),
    **dict.fromkeys(("groovy", "php", "dart", "d"), "//"),
    **dict.fromkeys(("haskell", "lua", "sql", "ada", "elm"), "--"),
    **dict.fromkeys(("matlab", "octave", "prolog", "erlang", "tex", "latex"), "%"),
    **dict.fromkeys(("scheme", "clojure", "common lisp", "racket"), ";;"),
    **dict.fromkeys(("fortran", "stata"), "!"),
    "ocaml": "#",
}
_MAGIC = re.compile(r"^(?=[ \t]*[%!][^=\s])", re.MULTILINE)
_CELL_MAGIC = re.compile(r"\A\s*%%(\w+)")
_ANSI = re.compile(r"\x1b\[[0-9;]{0,30}[A-Za-z]")
_FENCE = re.compile(r"^[ \t]{0,3}(`{3,})", re.MULTILINE)

Form = Literal["script", "markdown"]
Outputs = Literal["drop", "keep"]


class NotebookError(Exception):
    """Not a notebook that can be read."""


class Notebook(NamedTuple):
    text: str
    language: str  # of the kernel, in lower case
    counts: dict[str, int]  # cells and outputs by their fate


def read(text: str, form: Form, outputs: Outputs, max_output_chars: int) -> Notebook:
    """Raises NotebookError. The text is empty where no cell holds anything."""
    try:
        data = orjson.loads(text)
    except ValueError as error:
        raise NotebookError(f"no JSON: {error}") from None
    cells = _cells(data)
    language = _language(data, cells)
    counts = dict.fromkeys(("code", "markdown", "raw", "empty", "outputs_kept", "outputs_dropped", "outputs_cut"), 0)
    parts = []
    for cell in cells:
        kind, source = (
            _kind(cell),
            _joined(cell.get("input", cell.get("source")) if cell.get("cell_type") == "code" else cell.get("source")),
        )
        said = _outputs(cell, outputs, max_output_chars, counts) if kind == "code" else []
        if not source.strip() and not said:
            counts["empty"] += 1
            continue
        counts[kind] += 1
        source = _heading(cell) + source.strip("\r\n")
        parts.append(_as_script(kind, source, said, language) if form == "script" else _as_markdown(kind, source, said, language))
    body = "\n\n".join(parts)
    # A lone surrogate written as an escape is legal JSON and no legal text.
    whole = body.encode("utf-8", "replace").decode() + "\n" if body else ""
    return Notebook(whole, language, {key: count for key, count in counts.items() if count})


def _cells(data: Any) -> list[dict[str, Any]]:
    if not isinstance(data, dict):
        raise NotebookError("no JSON object")
    if isinstance(worksheets := data.get("worksheets"), list):  # nbformat 3
        listed = [cell for sheet in worksheets if isinstance(sheet, dict) for cell in _list(sheet.get("cells"))]
    elif isinstance(data.get("cells"), list):
        listed = data["cells"]
    else:
        raise NotebookError("has neither `cells` nor `worksheets`")
    if not all(isinstance(cell, dict) for cell in listed):
        raise NotebookError("a cell that is no JSON object")
    return listed


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _joined(value: Any) -> str:
    """A multi-line string: text, or a list of lines."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def _language(data: dict[str, Any], cells: list[dict[str, Any]]) -> str:
    """By language_info, then the kernel's own words, then the first code cell (nbformat 3); Python where nothing is said."""
    metadata = data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    for part, keys in (("language_info", ("name",)), ("kernelspec", ("language", "name"))):
        found = metadata.get(part)
        said = [found.get(key) for key in keys] if isinstance(found, dict) else []
        for name in said:
            if isinstance(name, str) and name.strip():
                name = name.strip().lower()[:40]
                return "r" if name == "ir" else re.sub(r"[0-9. ]+\Z", "", name) or "python"
    first = next((cell["language"] for cell in cells if isinstance(cell.get("language"), str)), "python")
    return str(first).lower()[:40] or "python"


def _kind(cell: dict[str, Any]) -> str:
    kind = cell.get("cell_type")
    return {"code": "code", "markdown": "markdown", "heading": "markdown"}.get(kind, "raw") if isinstance(kind, str) else "raw"


def _heading(cell: dict[str, Any]) -> str:
    """nbformat 3 has cells that are headings."""
    if cell.get("cell_type") != "heading":
        return ""
    level = cell.get("level")
    return "#" * (level if isinstance(level, int) and 0 < level < 7 else 1) + " "


def _outputs(cell: dict[str, Any], outputs: Outputs, bound: int, counts: dict[str, int]) -> list[str]:
    said = []
    for output in _list(cell.get("outputs")):
        text = _ANSI.sub("", _output(output)).strip("\r\n") if isinstance(output, dict) and outputs == "keep" else ""
        if not text.strip():
            counts["outputs_dropped"] += 1
            continue
        counts["outputs_kept"] += 1
        if len(text) > bound:
            counts["outputs_cut"] += 1
            text = text[:bound] + "\n[...]"
        said.append(text)
    return said


def _output(output: dict[str, Any]) -> str:
    """The text of an output: of a stream, a result, an error; nbformat 3 keeps results beside the type."""
    kind = output.get("output_type")
    if kind in ("error", "pyerr"):
        return f"{output.get('ename', '')}: {output.get('evalue', '')}"
    if kind == "stream":
        return _joined(output.get("text"))
    data = output.get("data")
    data = data if isinstance(data, dict) else output
    if plain := _joined(data.get("text/plain", data.get("text"))):
        return plain
    return next((f"[{name}]" for name in sorted(data) if name.startswith("image/") or name in ("png", "jpeg", "svg")), "")


def _commented(text: str, sign: str) -> str:
    return "\n".join(f"{sign} {line}".rstrip() for line in text.splitlines())


def _as_script(kind: str, source: str, said: list[str], language: str) -> str:
    sign = _COMMENT.get(language, "#")
    if kind != "code":
        return f"{sign} %% [{kind}]\n{_commented(source, sign)}"
    if _CELL_MAGIC.match(source):  # a cell in another language, or a shell's
        source = _commented(source, sign)
    elif language == "python":
        source = _MAGIC.sub("# ", source)
    parts = [f"{sign} %%", source, *(f"{sign} Output:\n{_commented(output, sign)}" for output in said)]
    return "\n".join(part for part in parts if part)


def _as_markdown(kind: str, source: str, said: list[str], language: str) -> str:
    if kind == "markdown":
        return source
    named = language if kind == "code" else ""
    return "\n\n".join(_fenced(*block) for block in [(source, named), *((output, "") for output in said)] if block[0])


def _fenced(text: str, language: str) -> str:
    longest = max((len(found) for found in _FENCE.findall(text)), default=2)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
