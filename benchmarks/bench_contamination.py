"""Contamination: real questions planted in real documents and found again, what is found in documents left as they are, and speed.

    python benchmarks/bench_contamination.py [--data .data] [--mb 100] [--each 200] [--peers PYTHON] [--json FILE]

`--each` questions of each set below DATA/eval are copied into the middle of a real document of its kind, in several ways:

    verbatim     passage, question and labelled choices; of code the prompt and its solution
    reformatted  quoted, wrapped at 48 columns, other quotation marks, choices as (a), (b); code indented by two blanks, other quotes
    renamed      code: every parameter and local variable has another name
    translated   code: comments and docstrings are sentences of another language; doctests stay
    edited       every twelfth word is another
    half         the first half of the question
    changed      every number is another: another question, and no find is asked for

Beside it a plain filter in the same run: a document that shares any 13 words in a row with a question is contaminated (the rule of GPT-3).
PYTHON is that of an environment with `pip install datatrove spacy`: its NGramsDecontFilter sees the same documents and questions.
Then all of DATA but eval, at most --mb of it: whatever is found there is listed with both sides, to be judged by eye. MB are 10^6 bytes of
UTF-8 a second of CPU time, one core.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from _bench import machine
from _texts import every_text

from codedev.corpus.buffers import text_buffers
from codedev.corpus.contamination.config import Matching
from codedev.corpus.contamination.find import PERFECT, bound, find
from codedev.corpus.contamination.texts import Texts, read_texts
from codedev.corpus.questions import LETTERS, read_questions
from codedev.kernels.shingles import shingle_hashes

HERE = Path(__file__).parent
SETS = {
    "HumanEval": "openai__human-eval/data",
    "MBPP": "deepseek-ai__DeepSeek-Coder/Evaluation/MBPP/data/mbpp_test.jsonl",
    "GSM8K": "openai__grade-school-math/grade_school_math/data/test.jsonl",
    "MMLU": "deepseek-ai__DeepSeek-Math/evaluation/datasets/mmlu_stem",
    "AGIEval": "ruixiangcui__AGIEval/data",
    "CMMLU": "haonan-li__CMMLU/data/test",
    "CMath": "deepseek-ai__DeepSeek-Math/evaluation/datasets/cmath",
}
MIN_OVERLAP = 0.8
PLAIN = 13  # words in a row
BATCH = 8 << 20  # bytes of documents at a time
Row = dict[str, Any]


class Planted(NamedTuple):
    way: str
    set: str
    question: int  # row of Texts.questions
    document: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / ".data", help="folder of the real data")
    parser.add_argument("--mb", type=float, default=100, help="of documents left as they are; 0: all")
    parser.add_argument("--each", type=int, default=200, help="questions of each set that are planted")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="of an environment with datatrove and spacy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if not (arguments.data / "eval").is_dir():
        raise SystemExit(f"{arguments.data}: holds no eval folder. Name the folder of the real data with --data")
    paths = [arguments.data / "eval" / path for path in SETS.values()]
    texts = read_texts(paths, {}, Matching(), PERFECT)
    rows = [row for path in paths for row in read_questions([path]).table.to_pylist()]
    plain = np.unique(shingle_hashes(*text_buffers(_asked(rows)), ngram=PLAIN, unit="figures")[0])
    planted = [*_planted(texts, rows, arguments.data, arguments.each)]
    told: dict[str, Any] = {"machine": machine(), "questions": len(rows), "planted": _recall(planted, texts, plain, rows, arguments.peers)}
    untouched = _pieces(arguments.data, arguments.mb * 1e6)
    told["untouched"] = _untouched(untouched, texts, plain)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def _asked(rows: list[Row]) -> pa.Array:
    return pa.array([f"{row['passage']}\n{row['question']}" for row in rows], pa.large_string())


# --- planting


def _planted(texts: Texts, rows: list[Row], data: Path, each: int) -> Iterator[Planted]:
    rng = random.Random(0)
    hosts = {name: _hosts(data, name) for name in ("code", "prose", "chinese")}
    tokens, tasks = texts.questions["tokens"].to_pylist(), texts.questions["task"].to_pylist()
    names = dict(zip(dict.fromkeys(tasks), SETS, strict=True))
    foreign = re.findall(r"[^\n]{20,120}", (data / "multilingual/facebookresearch__LASER/data/tatoeba/v1/tatoeba.deu-eng.deu").read_text())
    for task, name in names.items():
        mine = [number for number, of in enumerate(tasks) if of == task and tokens[number]]
        for number in rng.sample(mine, min(each, len(mine))):
            row = rows[number]
            kind = "code" if row["kind"] == "code" else "chinese" if re.search(r"[一-鿿]{5}", row["question"]) else "prose"
            host = rng.choice(hosts[kind])
            at = host.find("\n", rng.randrange(len(host) // 2)) + 1
            for way, copy in _copies(row, rng, foreign):
                yield Planted(way, name, number, f"{host[:at]}\n{copy}\n\n{host[at:]}")


def _hosts(data: Path, kind: str) -> list[str]:
    """200 real documents of 2,000 to 8,000 characters."""
    if kind == "code":
        files = sorted((data / "code/networkx").rglob("*.py"))
        return [text[:8000] for text in (file.read_text() for file in files) if len(text) > 2000][:200]
    if kind == "chinese":
        files = sorted((data / "instruction").glob("*chinese*/**/*.json"))
        long = ["\n".join(re.findall(r'"([^"]*[一-鿿][^"]*)"', file.read_text("utf-8", "replace"))) for file in files]
    else:
        long = [file.read_text("utf-8", "replace") for file in sorted((data / "books").rglob("*.txt"))]
    pieces = [text[at : at + 4000] for text in long for at in range(4000, len(text) - 4000, 4000)]
    return random.Random(1).sample(pieces, min(200, len(pieces)))


def _copies(row: Row, rng: random.Random, foreign: list[str]) -> Iterator[tuple[str, str]]:
    if row["kind"] == "code":
        gold = row["golds"][0]
        program = row["question"] + gold if gold[:1].isspace() else gold
        words = "" if program.startswith(row["question"]) else f"# {row['question']}\n"
        yield "verbatim", words + program
        yield "reformatted", re.sub(r"(?m)^( +)", lambda found: found[1][: len(found[1]) // 2], (words + program).replace("'", '"'))
        if renamed := _renamed(program):
            yield "renamed", words + renamed
        translated = _translated(program, rng, foreign)
        yield "translated", f"# {rng.choice(foreign)}\n{translated}" if words else translated
    else:
        labels = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, row["choices"], strict=False)]
        whole = "\n".join(part for part in (row["passage"], row["question"], *labels) if part)
        yield "verbatim", whole
        yield "reformatted", _reformatted(row)
    question = row["question"]
    words_ = question.split(" ") if " " in question else list(question)
    between = " " if " " in question else ""
    rest = "\n".join([row["passage"], *row["choices"]])
    edited = [rng.choice(foreign).split()[0] if place % 12 == 11 else word for place, word in enumerate(words_)]
    yield "edited", f"{between.join(edited)}\n{rest}"
    yield "half", between.join(words_[: len(words_) // 2])
    if len(re.findall(r"\d+", question)) > 1 and row["kind"] == "answer":
        yield "changed", re.sub(r"\d+", lambda found: str(int(found[0][:9]) + rng.randrange(1, 9)), question)


def _reformatted(row: Row) -> str:
    parts = [
        row["passage"],
        row["question"],
        *(f"({letter.lower()}) *{one}*" for letter, one in zip(LETTERS, row["choices"], strict=False)),
    ]
    text = "\n".join(part for part in parts if part).replace('"', "”").replace("'", "’")
    lines = [line for part in text.split("\n") for line in (textwrap.wrap(part, 48) or [""])]
    return "\n".join(f"> {line}" for line in lines)


def _renamed(program: str) -> str | None:
    """Parameters and variables of Python with other names; None where it has none."""
    try:
        tree = ast.parse(program)
    except SyntaxError:
        return None
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for number, name in enumerate(sorted(names)):
        program = re.sub(rf"\b{re.escape(name)}\b", f"item{number}", program)
    return program if names else None


def _translated(program: str, rng: random.Random, foreign: list[str]) -> str:
    """Each line of words in a docstring or comment is a sentence of another language; doctests stay."""

    def other(found: re.Match[str]) -> str:
        lines = found[0].split("\n")
        keep = [bool(re.match(r"\s*(>>>|\.\.\.)", line)) for line in lines]
        keep = [mine or (place > 0 and keep[place - 1]) for place, mine in enumerate(keep)]  # and what a doctest prints
        quote = found[0][:3]
        said = [line if stays else re.sub(r"\S.*", rng.choice(foreign), line) for line, stays in zip(lines, keep, strict=True)]
        text = "\n".join(said)
        return (text if text.startswith(quote) else quote + text.lstrip()) + ("" if text.endswith(quote) else quote)

    program = re.sub(r'"""(?:.|\n)*?"""|' + r"'''(?:.|\n)*?'''", other, program)
    return re.sub(r"(?<=#)[^\n]*", lambda _: f" {rng.choice(foreign)}", program)


# --- finding


def _found(texts: Texts, documents: list[str]) -> tuple[list[set[int]], float]:
    """(questions of each document, seconds of CPU)"""
    array = pa.array(documents, pa.large_string())
    began = time.process_time()
    found = find(texts, array, Matching())
    spent = time.process_time() - began
    seen: list[set[int]] = [set() for _ in documents]
    for row, question, score in zip(*(found[name].to_pylist() for name in ("row", "question", "score")), strict=True):
        if score >= MIN_OVERLAP - 1e-6:
            seen[row].add(question)
    return seen, spent


def _plainly(plain: np.ndarray, documents: list[str]) -> tuple[list[bool], float]:
    array = pa.array(documents, pa.large_string())
    began = time.process_time()
    hashes, bounds = shingle_hashes(*text_buffers(array), ngram=PLAIN, unit="figures")
    at = np.searchsorted(plain, hashes)
    hits = np.concatenate(([0], np.cumsum(plain[np.minimum(at, len(plain) - 1)] == hashes)))
    long = np.diff(bounds) > 1  # a shorter document has one shingle of all it has
    return ((hits[bounds[1:]] > hits[bounds[:-1]]) & long).tolist(), time.process_time() - began


def _datatrove(python: Path, documents: list[str], rows: list[Row]) -> tuple[list[bool], float]:
    asked = {"documents": documents, "questions": _asked(rows).to_pylist(), "ngram": PLAIN}
    done = subprocess.run([python, HERE / "peers/contamination.py"], input=json.dumps(asked), capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seen"], answer["seconds"]


def _recall(planted: list[Planted], texts: Texts, plain: np.ndarray, rows: list[Row], peers: Path | None) -> dict[str, Any]:
    documents = [one.document for one in planted]
    found, spent = _found(texts, documents)
    shared, plain_spent = _plainly(plain, documents)
    filters: dict[str, list[bool]] = {
        "codedev": [bool(seen & _same(texts, one.question)) for seen, one in zip(found, planted, strict=True)],
        "13 words": shared,
    }
    seconds = {"codedev": spent, "13 words": plain_spent}
    if peers:
        filters["datatrove"], seconds["datatrove"] = _datatrove(peers, documents, rows)
    size = sum(len(document.encode()) for document in documents) / 1e6
    rates = {name: size / took for name, took in seconds.items()}
    print(f"copies of {len({one.question for one in planted}):,} questions in {len(planted):,} documents, {size:.0f} MB: share found")
    print(f"{'':22}{'copies':>8}" + "".join(f"{name:>12}" for name in filters))
    told: dict[str, Any] = {"mb_per_s": rates}
    ways = list(dict.fromkeys(one.way for one in planted))
    for way in ways:
        for name in ("all", *SETS):
            mine = [place for place, one in enumerate(planted) if one.way == way and name in ("all", one.set)]
            if mine:
                shares = {by: float(np.mean([hits[place] for place in mine])) for by, hits in filters.items()}
                told.setdefault(way, {})[name] = {"copies": len(mine), **shares}
                print(
                    f"{way if name == 'all' else '  ' + name:22}{len(mine):>8,}" + "".join(f"{share:>12.3f}" for share in shares.values())
                )
    others = [len(seen - _same(texts, one.question)) > 0 for seen, one in zip(found, planted, strict=True)]
    told["also_another"] = int(np.sum(others))
    print(f"documents in which codedev also finds a question that was not planted there: {np.sum(others):,}")
    print("MB/s a core on these documents: " + ", ".join(f"{name} {rate:,.2f}" for name, rate in rates.items()), flush=True)
    return told


def _same(texts: Texts, question: int) -> set[int]:
    """The questions that share a text with this one, itself among them."""
    if not hasattr(_same, "of"):
        of: dict[int, set[int]] = {}
        for owners in texts.owners:
            together = {owner.question for owner in owners}
            for one in together:
                of.setdefault(one, {one}).update(together)
        _same.of = of  # type: ignore[attr-defined]
    return _same.of.get(question, {question})  # type: ignore[attr-defined,no-any-return]


# --- what was left as it is


def _pieces(data: Path, size: float) -> Iterator[str]:
    """All texts below `data` but those of eval, at most `size` bytes of each folder's share."""
    folders = [folder for folder in sorted(data.iterdir()) if folder.is_dir() and folder.name not in ("eval", "tokenizers")]
    for folder in folders:
        left = size / len(folders) if size else float("inf")
        for piece in every_text(folder):
            if left <= 0:
                break
            left -= len(piece.encode("utf-8", "replace"))
            yield piece


def _untouched(pieces: Iterator[str], texts: Texts, plain: np.ndarray) -> dict[str, Any]:
    spent = plain_spent = size = 0.0
    count = flagged = 0
    listed: list[Row] = []
    for batch in _batches(pieces):
        count, size = count + len(batch), size + sum(len(text.encode("utf-8", "replace")) for text in batch)
        array = pa.array(batch, pa.large_string())
        began = time.process_time()
        found = find(texts, array, Matching())
        spent += time.process_time() - began
        shared, took = _plainly(plain, batch)
        plain_spent += took
        flagged += sum(shared)
        listed += [one for one in found.to_pylist() if one["score"] >= MIN_OVERLAP - 1e-6]
    rates = {"codedev": size / 1e6 / spent, "13 words": size / 1e6 / plain_spent}
    print(f"\nleft as they are: {count:,} pieces, {size / 1e6:,.0f} MB")
    print(f"13 words flag {flagged:,} pieces; codedev finds {len(listed):,} questions")
    print("MB/s a core: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()))
    for one in listed:
        asked = texts.questions.slice(one["question"], 1).to_pylist()[0]
        print(f"  {asked['task']} {asked['question']} ({one['part']}): {one['overlap']:.2f} of {bound(asked['tokens'], MIN_OVERLAP):.2f}")
        for side in ("asked", "found"):
            print(f"    {side}: {' '.join(one[side].split())[:160]}")
    return {"pieces": count, "mb": size / 1e6, "mb_per_s": rates, "flagged_by_13_words": flagged, "found": listed}


def _batches(pieces: Iterator[str]) -> Iterator[list[str]]:
    held: list[str] = []
    size = 0
    for piece in pieces:
        held.append(piece.encode("utf-8", "replace").decode())
        size += len(piece)
        if size >= BATCH:
            yield held
            held, size = [], 0
    if held:
        yield held


if __name__ == "__main__":
    main()
