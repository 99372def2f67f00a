"""What is looked for of each question: its texts, each once however many questions have it, in an index.

    question   the question; with its choices behind it where it alone has fewer than `min_tokens`
    program    of code: the canonical solution without comments and docstrings, from LEAST_PROGRAM tokens on, so that a copy is found whose
               words were translated

The rest of a question, its passage and choices, is its context: what stands beside the question in a copy (see find.py).
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from codedev._errors import InputError, printable
from codedev._run import content_key
from codedev.corpus.buffers import text_buffers
from codedev.corpus.contamination.config import Matching
from codedev.corpus.learned.files import Stamp, content_hash, stamp
from codedev.corpus.questions import LETTERS, files_of, read_questions
from codedev.kernels import contamination as kernel

VERSION = 1
LEAST_PROGRAM = 16  # tokens
MISSING = "there is no such file of questions"
_TRIPLE = re.compile(r'"""(?:.|\n)*?(?:"""|\Z)|' + r"'''(?:.|\n)*?(?:'''|\Z)")
_HASH = re.compile(r"#.*")
_SLASHES = re.compile(r"/\*(?:.|\n)*?(?:\*/|\Z)|//.*")


class Owner(NamedTuple):
    """A question that has a text."""

    question: int  # its row in Texts.questions
    part: str  # question, program
    context: np.ndarray  # uint64: distinct pairs of tokens that are to stand beside the text, none where it says enough by itself


class Texts(NamedTuple):
    questions: pa.Table  # task, question (its id), group, kind, tokens (of what is looked for; 0: too short)
    left_out: dict[str, int]  # task: rows that are no questions
    owners: list[list[Owner]]  # of each text
    bytes: bytes  # all texts, UTF-8
    offsets: np.ndarray  # int64[texts + 1]
    lookup: kernel.Index | None  # None where nothing is long enough
    numbers: list[np.ndarray]  # uint64, of each text: the distinct tokens that begin with a digit


class _Row(NamedTuple):
    task: str
    id: str
    group: str
    kind: str
    passage: str
    question: str
    choices: list[str]
    golds: list[str]
    details: str


def key_of(paths: Sequence[Path], columns: Mapping[str, str]) -> str:
    """What the questions of these files depend on: the files' content, not where they lie."""
    return content_key(VERSION, [[content_hash(one) for one in _stamps(path)] for path in paths], dict(columns))


def _stamps(path: Path) -> list[Stamp]:
    return [stamp(file, MISSING) for file in files_of([path])]


def read_texts(paths: Sequence[Path], columns: Mapping[str, str], matching: Matching, perfect: int) -> Texts:
    """The questions of the files and folders of `paths`, each a task. A text of fewer than `perfect` tokens needs its context beside it.
    Raises InputError for files that are no questions. 3 s and 400 MB for the 30,000 of all the sets we test with; kept for the next."""
    stamps = tuple(tuple(_stamps(path)) for path in paths)
    return _read(tuple(paths), stamps, tuple(sorted(columns.items())), matching.ngram, matching.step, matching.min_tokens, perfect)


@functools.lru_cache(maxsize=2)
def _read(
    paths: tuple[Path, ...],
    stamps: tuple[tuple[Stamp, ...], ...],
    columns: tuple[tuple[str, str], ...],
    ngram: int,
    step: int,
    min_tokens: int,
    perfect: int,
) -> Texts:
    rows: list[_Row] = []
    left_out: dict[str, int] = {}
    for path in paths:
        task = _named(path, left_out)
        found = read_questions([path], dict(columns))
        left_out[task] = len(found.left_out)
        fields = ("id", "group", "kind", "passage", "question", "choices", "golds", "details")
        rows += [_Row(task, *values) for values in zip(*(found.table[name].to_pylist() for name in fields), strict=True)]
    joined = [f"{row.question}\n{_labelled(row.choices)}" for row in rows]
    lengths = np.diff(_tokens([row.question for row in rows])[1])
    alone = lengths >= min_tokens
    asked = [row.question if fits else both for row, fits, both in zip(rows, alone, joined, strict=True)]
    contexts = [_context([row.passage, *(row.choices if fits else ())]) for row, fits in zip(rows, alone, strict=True)]
    programs = [_program(row) if row.kind == "code" else "" for row in rows]
    texts = _distinct([*asked, *programs])
    sizes = np.diff(_tokens(texts.unique)[1])
    none = np.empty(0, np.uint64)
    owners: list[list[Owner]] = [[] for _ in texts.unique]
    for question, text in enumerate(texts.which[: len(rows)]):
        if sizes[text] >= min_tokens:
            owners[text].append(Owner(question, "question", contexts[question]))
    for question, text in enumerate(texts.which[len(rows) :]):
        if sizes[text] >= max(LEAST_PROGRAM, min_tokens):
            owners[text].append(Owner(question, "program", none))
    for text, own in enumerate(owners):
        stem = len({one.context.tobytes() for one in own}) > 1  # words that several questions begin with
        if sizes[text] >= perfect and not stem:
            owners[text] = [one if rows[one.question].passage else one._replace(context=none) for one in own]
    kept = [text for text, own in enumerate(owners) if own]
    data, offsets = text_buffers(pa.array([texts.unique[text] for text in kept], pa.large_string()))
    looked_for = np.array([sizes[text] if sizes[text] >= min_tokens else 0 for text in texts.which[: len(rows)]], np.int32)
    table = pa.table({name: [getattr(row, name) for row in rows] for name in ("task", "id", "group", "kind")})
    table = table.rename_columns(["task", "question", "group", "kind"]).append_column("tokens", pa.array(looked_for))
    index = kernel.index_of(data, offsets, ngram, step) if kept else None
    return Texts(table, left_out, [owners[text] for text in kept], data.tobytes(), offsets, index, _numbers(data, index) if index else [])


def _numbers(data: np.ndarray, index: kernel.Index) -> list[np.ndarray]:
    places = np.arange(len(index.hashes)) + np.repeat(np.arange(len(index.totals)), index.lengths)
    digit = (data[index.starts[places]] - np.uint8(48)) < 10  # unsigned: smaller ones wrap around
    bounds = index.firsts.tolist()
    return [np.unique(index.hashes[low:high][digit[low:high]]) for low, high in itertools.pairwise(bounds)]


def _named(path: Path, taken: Mapping[str, int]) -> str:
    """A task's name: its path's last part, with those before it as far as it takes to be the only one."""
    parts = path.absolute().parts
    for count in range(1, len(parts) + 1):
        if (name := "/".join(parts[-count:])) not in taken:
            return printable(name)
    raise InputError(f"{path}: is named twice. Name each file of questions once")


def _labelled(choices: Sequence[str]) -> str:
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def _tokens(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    hashes, _, bounds = kernel.tokens(*text_buffers(pa.array(texts, pa.large_string())))
    return hashes, bounds


def _context(parts: list[str]) -> np.ndarray:
    """The distinct pairs of tokens within each part; the token of a part that has but one."""
    hashes, bounds = _tokens(parts)
    spans = list(itertools.pairwise(bounds.tolist()))
    return np.unique(np.concatenate([kernel.pairs(hashes[low:high]) if high - low > 1 else hashes[low:high] for low, high in spans]))


class _Distinct(NamedTuple):
    unique: list[str]
    which: list[int]  # of each text given


def _distinct(texts: list[str]) -> _Distinct:
    """Texts whose tokens are the same are one."""
    hashes, bounds = _tokens(texts)
    number: dict[bytes, int] = {}
    unique: list[str] = []
    which = []
    for text, low, high in zip(texts, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        which.append(number.setdefault(hashes[low:high].tobytes(), len(unique)))
        if which[-1] == len(unique):
            unique.append(text)
    return _Distinct(unique, which)


def _program(row: _Row) -> str:
    """Code without comments and docstrings; "" where no solution is known."""
    solution = row.golds[0] if row.golds else ""
    if not solution.strip():
        return ""
    if json.loads(row.details).get("language") == "python":
        return _HASH.sub("", _TRIPLE.sub("", solution))
    return _SLASHES.sub("", solution)
