"""How well an identifier tells labelled lines: `codedev corpus langid test`.

Files are named TAG.txt or TAG.anything.txt, a text a line, as `langid train` reads them. A tag is right when it is the file's, without
regard to subtags (sr-Latn is sr), or one of the two is the macrolanguage of the other (ar for arz, nb for no).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from codedev._errors import InputError
from codedev.corpus.language.identify import identifier_of
from codedev.corpus.language.tags import MACRO

UNKNOWN = "und"  # said of a text without words
LINES = 4096  # judged at a time
LONGEST = 1 << 16  # bytes read of a line; identifiers look at the first 4 KB
_NAME = re.compile(r"([a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)\.(?:.*\.)?txt")


class Language(NamedTuple):
    tag: str
    lines: int
    recall: float  # share of its lines that are told right
    precision: float | None  # share of right ones among the lines that are said to be in it; None where it is never said


class Accuracy(NamedTuple):
    lines: int
    macro: float  # mean recall over the languages
    languages: tuple[Language, ...]  # by rising recall
    confusions: tuple[tuple[str, str, int], ...]  # (in truth, as told, lines), most lines first


def accuracy(model: str, paths: Sequence[Path]) -> Accuracy:
    """Raises InputError for a file whose name is no tag, and where there are no lines."""
    identifier = identifier_of(model)
    said: dict[str, Counter[str]] = {}
    for file in _files(paths):
        counts = said.setdefault(_base(_tag(file)), Counter())
        lines = _lines(file)
        while texts := list(islice(lines, LINES)):
            tags, _ = identifier.identify(pa.array(texts, pa.large_string()))
            counts.update(_base(tag) if tag else UNKNOWN for tag in tags.to_pylist())
    said = {truth: counts for truth, counts in said.items() if counts}
    if not said:
        raise InputError(f"no lines in {', '.join(map(str, paths))}: files named TAG.txt with a text a line are needed")
    told: Counter[str] = Counter()
    right: Counter[str] = Counter()
    languages: list[tuple[str, int, float]] = []
    for truth, counts in said.items():
        told.update(counts)
        good = {tag: number for tag, number in counts.items() if is_right(tag, truth)}
        right.update(good)
        languages.append((truth, counts.total(), sum(good.values()) / counts.total()))
    found = [Language(tag, lines, recall, right[tag] / told[tag] if told[tag] else None) for tag, lines, recall in languages]
    wrong = [(truth, tag, lines) for truth, counts in said.items() for tag, lines in counts.items() if not is_right(tag, truth)]
    return Accuracy(
        told.total(),
        sum(language.recall for language in found) / len(found),
        tuple(sorted(found, key=lambda language: (language.recall, language.tag))),
        tuple(sorted(wrong, key=lambda pair: (-pair[2], pair))),
    )


def is_right(tag: str, truth: str) -> bool:
    """Of tags without subtags."""
    return tag == truth or truth in MACRO.get(tag, ()) or tag in MACRO.get(truth, ())


def shown(found: Accuracy, most: int = 20) -> str:
    """The weakest languages and the commonest confusions as text."""
    rows = [f"{found.lines:,} lines of {len(found.languages)} languages; macro accuracy {found.macro:.4f}", ""]
    rows.append(f"{'weakest':10}{'lines':>8}{'recall':>9}{'precision':>11}")
    for one in found.languages[:most]:
        precision = "" if one.precision is None else f"{one.precision:.3f}"
        rows.append(f"{one.tag:10}{one.lines:8,}{one.recall:9.3f}{precision:>11}")
    if found.confusions:
        rows += ["", f"{'in truth':10}{'told':10}{'lines':>8}"]
        rows += [f"{truth:10}{tag:10}{lines:8,}" for truth, tag, lines in found.confusions[:most]]
    return "\n".join(rows)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (file for file in sorted(path.glob("*.txt")) if _NAME.fullmatch(file.name))
        elif path.is_file():
            yield path
        else:
            raise InputError(f"{path}: no such file or folder")


def _tag(file: Path) -> str:
    match = _NAME.fullmatch(file.name)
    if not match:
        raise InputError(f"{file}: the name does not begin with a language tag; name it TAG.txt, like de.txt or sr-Latn.news.txt")
    return match[1]


def _base(tag: str) -> str:
    return tag.split("-")[0]


def _lines(file: Path) -> Iterator[str]:
    with file.open("rb") as stream:
        inside = False  # a line longer than LONGEST: what follows its head is not read as another
        while raw := stream.readline(LONGEST):
            if not inside and (line := raw.decode("utf-8", "replace").strip()):
                yield line
            inside = not raw.endswith(b"\n")
