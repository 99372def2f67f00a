"""Real texts below .data by kind, for tokenizers: source code, LaTeX, English prose, Chinese, and a hundred languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import xxhash

from codedev._files import is_damage, open_decompressed

_CODE = {"py", "js", "ts", "rb", "scala", "c", "h", "cc", "cpp", "rs", "go", "java", "php", "ml", "hs", "ex", "pl", "R", "lua", "sh"}
_OF_LANGUAGE = 6_000_000  # bytes of code of one language
_PIECE = 8192  # characters of a document that is cut: bibles, poems
_HELD = 0.1  # of the documents, by a hash of their place


def documents(data: Path, code: float = 0) -> Iterator[tuple[str, str, str]]:
    """(kind, place, text) in a fixed order: 6 MB of source files of each language, or of `code` bytes a fifth. Files that are no UTF-8 are
    passed over."""
    yield from _code(data / "code", int(code / 5) if code else _OF_LANGUAGE)
    yield from (("latex", place, text) for place, text in _files(data / "science", "*.tex"))
    for place, text in _files(data / "books", "*.txt"):
        chinese = len(re.findall(r"[一-鿿]", text[:4000])) > 400
        yield from _pieces("chinese" if chinese else "prose", place, text)
    for place, text in _files(data / "books", "*.xhtml"):
        yield from _pieces("prose", place, re.sub(r"<[^>]*>", "", text))
    for place, text in (
        *_files(data / "books/chinese-poetry__chinese-poetry", "*.json"),
        *_files(data / "instruction", "*chinese*/**/*.json"),
    ):
        strings = "\n".join(re.findall(r'"([^"]*[一-鿿][^"]*)"', text.encode().decode("utf-8")))
        yield from _pieces("chinese", place, strings)
    for place, text in _files(data / "multilingual/christos-c__bible-corpus", "*.xml"):
        yield from _pieces("multilingual", place, re.sub(r"\s*\n\s*", "\n", re.sub(r"<[^>]*>", "", text)))
    for folder in ("pemistahl__lingua-py", "facebookresearch__LASER", "nltk__nltk_data"):
        for place, text in _files(data / "multilingual" / folder, "*.txt"):
            yield from _pieces("multilingual", place, text)


def every_text(data: Path) -> Iterator[str]:
    """All that is text below `data`, in pieces of 200,000 characters: every file once, compressed ones (gz, bz2, xz, zst) unpacked; those
    with a zero byte in front are none. Bytes that are no UTF-8 become U+FFFD."""
    seen = set()
    for path in sorted(path for path in data.rglob("*") if path.is_file() and not path.is_symlink()):
        try:
            with open_decompressed(str(path)) as file:
                content = file.read()
        except Exception as error:
            if not is_damage(error):
                raise
            continue  # on purpose
        same = xxhash.xxh3_128_digest(content)
        if same in seen or b"\0" in content[:4096]:
            continue
        seen.add(same)
        text = content.decode("utf-8", "replace")
        yield from (text[at : at + 200_000] for at in range(0, len(text), 200_000))


def split(data: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """(texts to learn from, texts held out) by kind; no text stands in both."""
    learn: dict[str, list[str]] = {}
    held: dict[str, list[str]] = {}
    seen: set[int] = set()
    for kind, place, text in documents(data):
        same = _hash(text)
        if text.strip() and same not in seen:
            seen.add(same)
            into = held if _hash(place) < _HELD * 2**64 else learn
            into.setdefault(kind, []).append(text)
    return learn, held


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())


def _code(folder: Path, of_language: int) -> Iterator[tuple[str, str, str]]:
    left = dict.fromkeys(_CODE, of_language)
    found = [path for path in folder.rglob("*") if path.suffix[1:] in _CODE and path.is_file()]
    for path in sorted(found, key=lambda path: _hash(str(path.relative_to(folder)))):
        size = path.stat().st_size
        if 0 < size <= min(1_000_000, left[path.suffix[1:]]):
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            left[path.suffix[1:]] -= size
            yield "code", str(path.relative_to(folder)), text


def _files(folder: Path, pattern: str) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob(pattern)):
        try:
            yield str(path.relative_to(folder)), path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue


def _pieces(kind: str, place: str, text: str) -> Iterator[tuple[str, str, str]]:
    for begin in range(0, len(text), _PIECE):
        yield kind, f"{place}:{begin}", text[begin : begin + _PIECE]
