"""Comments and docstrings of real files, by language. The peer is Pygments, which tells comments and no docstrings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from _bench import Case, SkipError

from codedev.corpus.extract.comments import find as comments
from codedev.corpus.extract.comments import pygments as comments_pygments
from codedev.corpus.languages import detect

LANGUAGES = ("Python", "JavaScript", "C", "C++", "Java", "Go", "Rust", "Ruby", "PHP", "Scala", "Shell", "TypeScript", "OCaml", "Haskell")
AMOUNT = 1_000_000  # bytes of each


def cases(data: Path, work: Path) -> dict[str, Case]:
    """Files in order of their paths, as many as make AMOUNT."""
    held: dict[str, list[bytes]] = {language: [] for language in LANGUAGES}
    for path in sorted((data / "code").rglob("*")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > AMOUNT // 2:
            continue
        language = detect(path.name, "") if path.suffix != ".h" else None
        if language in held and sum(map(len, held[language])) < AMOUNT:
            held[language].append(path.read_bytes())
    if not any(held.values()):
        raise SkipError(f"no source files under {data / 'code'}")
    return {f"comments: {language}": _case(language, files) for language, files in held.items() if files}


def _case(language: str, files: list[bytes]) -> Case:
    def each(spans: Callable[[bytes, str], Any]) -> Callable[[], None]:
        def run() -> None:
            for file in files:
                spans(file, language)

        return run

    return Case(each(comments.spans), sum(map(len, files)) / 1e6, "MB raw", peers={"Pygments": each(comments_pygments.spans)})
