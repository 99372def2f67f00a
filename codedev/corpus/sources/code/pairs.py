"""Comments and docstrings of a file: their share of it, and docstring -> code pairs for instruction tuning.

A pair is a document of kind `instruction` for one function or method: its documentation and signature ask, its code without the docstring
answers. The text is both, readable; `meta.instruction` and `meta.response` hold the parts. What documents a module, a class or a value
asks for too much and makes no pair, nor does a docstring of fewer than `min_chars` characters that are not blank, or a definition without
a body. Each pair counts as a record; a file without any is the drop `no_docstrings`, and one in a language without a parser `no_parser`.
Cost: the parser's, see corpus/extract/comments/find.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from codedev.corpus.extract.comments import find as comments
from codedev.corpus.source import Document, Drop

if TYPE_CHECKING:
    from codedev.corpus.extract.comments.find import Comments, Docstring
    from codedev.corpus.sources.code.file import File

_BLANK_LINES = re.compile(rb"(?:[ \t]*\r?\n)++")


def shares(text: str, language: str) -> dict[str, Any]:
    """`comment_share` and `docstring_share`: bytes among the file's bytes; empty where no parser knows the language."""
    data = text.encode()
    found = comments.spans(data, language)
    if found is None:
        return {}
    documented = comments.merged([item.span for item in found.docstrings])
    return {
        "comment_share": round(sum(end - start for start, end in found.comments) / len(data), 4),
        "docstring_share": round(sum(end - start for start, end in documented) / len(data), 4),
    }


def pairs(file: File, text: str, language: str, licence: str | None, meta: dict[str, Any]) -> Iterator[Document | Drop]:
    data = text.encode()
    found = comments.spans(data, language)
    if found is None or found.parser != "tree-sitter":
        yield file.drop("no_parser", language=language, bytes=len(data))
        return
    names = Counter[str]()
    for item, response in _answered(data, found, file.config.min_chars):
        names[item.name] += 1
        again = f"~{names[item.name]}" if names[item.name] > 1 else ""  # overloads and redefinitions
        word = language.lower().replace(" ", "-")
        instruction = f"{item.text.strip()}\n\n{_fenced(item.signature, word)}"
        start, end = min(item.span[0], item.code[0]), max(item.span[1], item.code[1])
        # Offsets are bytes of the decoded text: those of the file where that is plain UTF-8 in a file of its own.
        plain = file.offset == 0 and file.size == len(data)
        parts = {"name": item.name, "kind": item.kind, "signature": item.signature, "instruction": instruction, "response": response}
        yield Document(
            f"{file.id.removesuffix('#pairs')}#{item.name}{again}",
            f"{instruction}\n\n{_fenced(response, word)}\n",
            start if plain else file.offset,
            end - start if plain else file.size,
            file.member,
            kind="instruction",
            lang=language,
            licence=licence,
            meta=file.meta({**meta, **parts}),
        )
    if not names:
        yield file.drop("no_docstrings", language=language, documented=len(found.docstrings))


def _answered(data: bytes, found: Comments, min_chars: int) -> Iterator[tuple[Docstring, str]]:
    for item in found.docstrings:
        if item.kind not in ("function", "method") or not item.name or len("".join(item.text.split())) < min_chars:
            continue
        response = _without(data, item)
        signature = "".join(item.signature.split())
        if len("".join(response.split())) > len(signature) + 3:  # more than the signature, brackets and `end`
            yield item, response


def _without(data: bytes, item: Docstring) -> str:
    """The code of the definition, with its docstring cut out where that lies inside, indented as if it stood alone."""
    start, end = item.code
    inner_start, inner_end = item.span
    code = data[start:end]
    if start <= inner_start and inner_end <= end:
        before, after = data[start:inner_start], data[inner_end:end]
        blank = _BLANK_LINES.match(after)
        code = before.rstrip() + b"\n" + after[blank.end() :] if blank else before + after.lstrip(b"; \t")
    line = data.rfind(b"\n", 0, start) + 1
    indent = data[line:start]
    text = code.decode("utf-8", "replace")
    if indent and not indent.strip():
        text = text.replace("\n" + indent.decode(), "\n")
    return text.strip("\n")


def _fenced(text: str, word: str) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{word}\n{text}\n{fence}"
