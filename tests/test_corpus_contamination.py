"""Contamination: the kernel against a plain definition of it, what counts as seen, the command, and `decontaminate:` in a build."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev._errors import InputError, RecipeError
from codedev.cli import main
from codedev.corpus import recipe as recipes
from codedev.corpus.buffers import text_buffers
from codedev.corpus.build import build
from codedev.corpus.contamination.config import FLOOR, Matching
from codedev.corpus.contamination.find import PERFECT, RELAXED, bound, find, scores
from codedev.corpus.contamination.search import seen_questions
from codedev.corpus.contamination.texts import Texts, read_texts
from codedev.corpus.questions import read_questions
from codedev.kernels import contamination as kernel
from codedev.kernels.characters import CLUSTER, MARK, properties
from codedev.kernels.symbols import _is_single

# --- the definition, in plain Python


class Token(NamedTuple):
    word: str
    start: int  # byte


def plain_tokens(text: str) -> list[Token]:
    """Of text; the last one is empty and stands at its end."""
    found: list[Token] = []
    word, begin, at = "", 0, 0
    for character in text:
        code, category = ord(character), unicodedata.category(character)
        bits = int(properties()[code])
        alone = category[0] in "LN" and (_is_single(code, category) or (bits & CLUSTER and not bits & MARK))
        if category[0] in "LMN" and not alone:
            if category != "Mn":
                begin = begin if word else at
                word += _folded(character, category)
        else:
            if word:
                found.append(Token(word, begin))
                word = ""
            if alone:
                found.append(Token(_folded(character, category), at))
        at += len(character.encode())
    if word:
        found.append(Token(word, begin))
    return [*found, Token("", at)]


def _folded(character: str, category: str) -> str:
    if category == "Nd":
        return str(unicodedata.digit(character))
    if 0xAC00 <= ord(character) < 0xD7A4:
        return character
    return unicodedata.normalize("NFD", character.lower()[0])[0]


def grams(tokens: list[Token], ngram: int) -> list[tuple[str, ...]]:
    words = [token.word for token in tokens[:-1]]
    return [tuple(words[at : at + ngram]) for at in range(len(words) - ngram + 1)]


def plain_scan(
    questions: list[str], documents: list[str], ngram: int, step: int, max_misses: int, least: float
) -> list[tuple[int, int, int, int, int, int, float]]:
    """(document, question, first byte and end of the stretch, the same in the question, overlap) of every match."""
    asked = [plain_tokens(question) for question in questions]
    own = [grams(tokens, ngram) for tokens in asked]
    places = [{gram: all_.index(gram) for gram in all_} for all_ in own]
    shared: dict[tuple[str, ...], int] = {}
    for every in places:
        for gram in every:
            shared[gram] = shared.get(gram, 0) + 1
    having: dict[str, int] = {}
    for tokens in asked:
        for word in {token.word for token in tokens[:-1]}:
            having[word] = having.get(word, 0) + 1
    weights = [[math.log(1 + len(questions) / having[token.word]) for token in tokens[:-1]] for tokens in asked]
    seeds: dict[tuple[str, ...], set[int]] = {}
    for question, all_ in enumerate(own):
        for residue in range(step):
            mine = [(shared[gram], place) for place, gram in enumerate(all_) if place % step == residue]
            if mine:
                seeds.setdefault(all_[min(mine)[1]], set()).add(question)
        for gram in all_:
            if shared[gram] <= kernel.COMMON:
                seeds.setdefault(gram, set()).add(question)
    found = []
    for row, document in enumerate(documents):
        tokens = plain_tokens(document)
        mine = grams(tokens, ngram)
        covered: dict[int, int] = {}
        for at in range(0, len(mine), step):
            for question in sorted(seeds.get(mine[at], ())):
                if covered.get(question, 0) > at:
                    continue
                reach = 2 * (len(asked[question]) - 1) + kernel.SLACK
                met, ends = {mine[at]}, []
                for way in (1, -1):
                    end, here, misses = at, at, 0
                    while misses <= max_misses:
                        here += way
                        if not 0 <= here < len(mine) or abs(here - at) > reach:
                            break
                        if mine[here] in places[question]:
                            met.add(mine[here])
                            end, misses = here, 0
                        else:
                            misses += 1
                    ends.append(end)
                    if way == 1:
                        covered[question] = here
                words = {place + n for place, gram in enumerate(own[question]) if gram in met for n in range(ngram)}
                overlap = sum(weights[question][word] for word in words) / sum(weights[question])
                if len(met & {*own[question]}) < len({*own[question]}):
                    overlap = min(overlap, 1 - 1 / len(weights[question]))
                if overlap >= least - 1e-12:
                    first, last = min(places[question][gram] for gram in met), max(places[question][gram] for gram in met)
                    stretch = tokens[ends[1]].start, tokens[ends[0] + ngram].start
                    sides = asked[question][first].start, asked[question][last + ngram].start
                    found.append((row, question, *stretch, *sides, overlap))
    return found


def check(questions: list[str], documents: list[str], ngram: int = 5, step: int = 4, max_misses: int = 11, least: float = 0.3) -> int:
    """The kernel finds what the definition does; how much that is."""
    expected = plain_scan(questions, documents, ngram, step, max_misses, least)
    asked, offsets = text_buffers(pa.array(questions, pa.large_string()))
    index = kernel.index_of(asked, offsets, ngram, step)
    found = kernel.scan(index, *text_buffers(pa.array(documents, pa.large_string())), step, max_misses, least)
    lengths = np.cumsum([0, *(len(document.encode()) for document in documents)])
    got = [
        (row, text, start - lengths[row], end - lengths[row], first - offsets[text], last - offsets[text])
        for row, text, start, end, first, last in zip(*found[:6], strict=True)
    ]
    assert got == [one[:6] for one in expected]
    np.testing.assert_allclose(found.overlap, [one[6] for one in expected], rtol=1e-9)
    return len(got)


def lengths_of(texts: list[str]) -> np.ndarray:
    return np.diff(kernel.tokens(*text_buffers(pa.array(texts, pa.large_string())))[2])


ALPHABET = "abC dé e\u0301 ß 12 ٣ 中文字 かな ไทย한국 _-*\n\U0001d400𠀀'\u200b"


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(), st.text(ALPHABET)), max_size=4))
def test_tokens_are_as_defined(texts: list[str]) -> None:
    hashes, starts, bounds = kernel.tokens(
        *text_buffers(pa.array([text.encode("utf-8", "replace").decode() for text in texts], pa.large_string()))
    )
    expected = [plain_tokens(text.encode("utf-8", "replace").decode()) for text in texts]
    assert np.diff(bounds).tolist() == [len(tokens) - 1 for tokens in expected]
    offsets = np.cumsum([0, *(len(text.encode("utf-8", "replace")) for text in texts)])
    assert starts.tolist() == [offsets[row] + token.start for row, tokens in enumerate(expected) for token in tokens]
    words = [token.word for tokens in expected for token in tokens[:-1]]
    assert len({*zip(words, hashes.tolist(), strict=True)}) == len({*words}) == len({*hashes.tolist()})


_WORDS = st.lists(st.sampled_from("a b c d e f g 1".split()), min_size=6, max_size=30)


@settings(deadline=None)
@given(st.lists(_WORDS, min_size=1, max_size=5), st.lists(_WORDS, max_size=4), st.integers(2, 4), st.integers(1, 3), st.integers(0, 4))
def test_matches_are_as_defined(questions: list[list[str]], documents: list[list[str]], ngram: int, step: int, misses: int) -> None:
    asked = [" ".join(words) for words in questions]
    check(asked, [*(", ".join(words) for words in documents), *asked, "\n".join(asked)], ngram, step, misses)


@settings(deadline=None)
@given(_WORDS, _WORDS, _WORDS, st.lists(_WORDS, max_size=5), st.integers(2, 4), st.integers(1, 4))
def test_a_whole_question_is_found_wherever_it_stands(
    question: list[str], before: list[str], after: list[str], others: list[list[str]], ngram: int, step: int
) -> None:
    questions = [" ".join(question)] + [" ".join(words) for words in others] * (kernel.COMMON + 1)  # its n-grams are common
    questions = [text for text in questions if len(text.split()) >= ngram + step - 1]
    if len(question) < ngram + step - 1:
        return
    index = kernel.index_of(*text_buffers(pa.array(questions, pa.large_string())), ngram, step)
    document = pa.array([" ".join([*before, *question, *after])], pa.large_string())
    found = kernel.scan(index, *text_buffers(document), step, 0, 0.0)
    assert found.overlap[found.text == 0].max() == 1


@pytest.mark.realdata
def test_matches_in_real_documents_are_as_defined(data_dir: Path) -> None:
    sets = [
        "openai__human-eval",
        "deepseek-ai__DeepSeek-Math/evaluation/datasets/cmath",
        "haonan-li__CMMLU/data/dev",
        "ruixiangcui__AGIEval",
    ]
    questions: list[str] = []
    for name in sets:
        every = read_questions([data_dir / "eval" / name]).table["question"].to_pylist()
        questions += random.Random(0).sample(every, 120)
    questions = list(dict.fromkeys(questions))
    questions = [text for text, length in zip(questions, lengths_of(questions), strict=True) if length >= 8]
    book = next(iter(sorted((data_dir / "books").rglob("*.txt")))).read_text("utf-8", "replace")[:60_000]
    code = sorted((data_dir / "code/networkx").rglob("*.py"))[:8]
    rng = random.Random(1)
    planted = []
    for question in questions:
        words = question.split(" ")
        if len(words) > 8:
            words[rng.randrange(len(words))] = "changed"  # with a word or without
        planted += [" > ".join(words), question.replace("，", ", ")]
    documents = [book, *(file.read_text()[:8_000] for file in code), "\n\n".join(planted), *planted[:40], "", "的" * 50]
    assert check(questions, documents, least=0.5) > 400


# --- what counts as seen


def texts_of(folder: Path, rows: list[dict[str, Any]], name: str = "set.jsonl", **more: Any) -> Texts:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_texts([path], more, Matching(), PERFECT)


def found_in(texts: Texts, *documents: str) -> list[dict[str, Any]]:
    return find(texts, pa.array(documents, pa.large_string()), Matching()).to_pylist()  # type: ignore[no-any-return]


LONG = (
    "A farmer has 17 sheep and sells all but 9 of them to the butcher in the next village, who pays 12 crowns for each; "
    "how many crowns does he bring home, and how many sheep are left in his stable?"
)
SHORT = "Which of these metals melts at the lowest temperature?"
METALS = ["Gallium from Norway", "Tungsten wire", "Copper plate", "Iron nails"]


def test_layout_quotation_and_case_do_not_hide_a_question(tmp_path: Path) -> None:
    texts = texts_of(tmp_path, [{"question": LONG, "answer": "96"}])
    quoted = "\n".join(f"> **{word.upper()}**" for word in LONG.split())
    (found,) = found_in(texts, f"Some text before.\n{quoted}\n\nand after it.")
    assert found["overlap"] == found["score"] == 1
    assert found["found"].startswith("A** \n> **FARMER".replace(" \n", "\n"))
    assert (found["start"], found["part"]) == (f"Some text before.\n{quoted}".index("A**"), "question")


def test_the_bound_falls_with_the_length_and_scores_say_the_same() -> None:
    assert [bound(tokens, 0.8) for tokens in (8, PERFECT, (PERFECT + RELAXED) // 2, RELAXED, 500)] == [1, 1, 0.9, 0.8, 0.8]
    for least in (0.55, 0.8, 1.0):
        for tokens in range(8, 60):
            for overlap in np.linspace(0.3, 1, 200):
                if abs(overlap - bound(tokens, least)) > 1e-9:
                    assert (scores(np.array([overlap]), np.array([tokens]))[0] >= least - 1e-12) == (overlap >= bound(tokens, least))


def test_a_changed_number_is_another_short_question_and_a_long_one_with_a_slip_is_the_same(tmp_path: Path) -> None:
    texts = texts_of(
        tmp_path, [{"question": LONG, "answer": "96"}, {"question": "What is the sum of 17 and 25 taken 3 times?", "answer": "126"}]
    )
    assert [one["question"] for one in found_in(texts, "So: what is the sum of 17 and 25 taken 3 times?")] == [1]
    assert found_in(texts, "So: what is the sum of 18 and 25 taken 3 times?") == []
    (found,) = found_in(texts, LONG.replace("the butcher", "a butcher"))
    assert found["score"] == found["overlap"]
    assert 0.8 <= found["score"] < 1


def test_a_short_question_counts_with_its_choices_beside_it(tmp_path: Path) -> None:
    texts = texts_of(tmp_path, [{"question": SHORT, "choices": METALS, "answer": 0}])
    assert found_in(texts, f"We were asked: {SHORT} Nobody in the room knew.") == []
    for layout in ("\n".join(METALS), " ".join(f"({letter}) {one}" for letter, one in zip("ABCD", METALS, strict=True))):
        (found,) = found_in(texts, f"We were asked: {SHORT}\n{layout}\n")
        assert found["context"] == 1
    assert found_in(texts, f"{SHORT} {'Far away from it. ' * 300} {METALS}") == []


def test_a_question_of_few_words_is_looked_for_with_its_choices_and_one_word_is_not(tmp_path: Path) -> None:
    rows = [
        {"question": "Lowest melting point?", "choices": METALS, "answer": 0},
        {"question": "Why?", "answer": "so"},
        {"question": "", "answer": "nothing"},
        {"question": "…?!", "answer": "nothing"},
        *({"question": f"{LONG} {n}", "answer": "96"} for n in range(40)),  # a set may have a few rows that are none
    ]
    texts = texts_of(tmp_path, rows)
    assert texts.questions["tokens"].to_pylist()[1:3] == [0, 0]
    copy = "Lowest melting point?\nA. Gallium from Norway\nB. Tungsten wire\nC. Copper plate\nD. Iron nails"
    assert [one["question"] for one in found_in(texts, copy, "Why?", "")] == [0]


def test_words_that_several_questions_begin_with_need_what_follows(tmp_path: Path) -> None:
    stem = "Read the passage above with care and then say which one of the following statements the author would most likely agree with"
    others = ["Ships are slow", "Trains are late", "Planes are loud", "Roads are full"]
    texts = texts_of(tmp_path, [{"question": stem, "choices": METALS, "answer": 0}, {"question": stem, "choices": others, "answer": 1}])
    assert found_in(texts, stem) == []
    assert [one["question"] for one in found_in(texts, f"{stem}\n{others}")] == [1]


def test_a_passage_is_to_stand_beside_its_question(tmp_path: Path) -> None:
    passage = "The lighthouse keeper counted seventeen ferries between dawn and noon, and wrote every name into a ledger bound in skin."
    row = {"passage": passage, "question": f"According to the text, {LONG}", "options": METALS, "label": "A"}
    texts = texts_of(tmp_path, [row])
    assert found_in(texts, passage) == []
    assert found_in(texts, row["question"]) == []
    assert len(found_in(texts, f"{passage}\n{row['question']}\n{METALS}")) == 1


def test_programs_are_found_without_their_comments(tmp_path: Path) -> None:
    asked = "Split the groups of nested parentheses that the text holds"
    prompt = f'def separate_parens(text: str):\n    """{asked}.\n    >>> separate_parens("()")\n    """\n'
    solution = (
        "    result = []\n    current = []\n    depth = 0\n    for symbol in text:\n        if symbol == '(':\n            depth += 1\n"
        "            current.append(symbol)\n        elif symbol == ')':\n            depth -= 1\n    return result\n"
    )
    texts = texts_of(tmp_path, [{"task_id": "X/1", "prompt": prompt, "canonical_solution": solution, "test": "pass", "entry_point": "f"}])
    translated = prompt.replace(asked, "Trenne die Gruppen geschachtelter Klammern in diesem Text") + solution
    assert {one["part"] for one in found_in(texts, prompt + solution)} == {"question", "program"}
    assert {one["part"] for one in found_in(texts, translated)} == {"program"}


@pytest.mark.realdata
def test_what_all_texts_share_is_no_contamination(data_dir: Path) -> None:
    texts = read_texts(
        [data_dir / "eval" / name for name in ("openai__human-eval", "haonan-li__CMMLU/data/dev", "ruixiangcui__AGIEval")],
        {},
        Matching(),
        PERFECT,
    )
    common = [
        'def main():\n    parser = argparse.ArgumentParser()\n    args = parser.parse_args()\n\n\nif __name__ == "__main__":\n    main()\n',
        "from typing import List, Dict, Tuple, Optional\nimport os\nimport sys\n",
        'Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with the License.',
        "Answer the following question. Choose the correct answer from the options below.\nA.\nB.\nC.\nD.\nAnswer:",
        "下列说法正确的是（  ）\nA. \nB. \nC. \nD. \n答案：",
        "以下是中国关于考试的单项选择题，请选出其中的正确答案。",
        "Which one of the following, if true, most strengthens the argument?",
        "According to the passage, the author would most likely agree with which one of the following statements?",
    ]
    assert found_in(texts, *common) == []


@pytest.mark.realdata
def test_every_question_is_found_in_a_book_and_no_book_has_one(data_dir: Path) -> None:
    tasks = [data_dir / "eval" / name for name in ("openai__human-eval", "haonan-li__CMMLU/data/test", "ruixiangcui__AGIEval")]
    texts = read_texts(tasks, {}, Matching(), PERFECT)
    books = [path.read_text("utf-8", "replace") for path in sorted((data_dir / "books").rglob("*.txt"))[:4]]
    assert found_in(texts, *books) == []
    rng = random.Random(2)
    documents, planted = [], []
    for task in tasks:
        table = read_questions([task]).table.to_pylist()
        wanted = texts.questions.to_pylist()
        first = next(number for number, row in enumerate(wanted) if row["task"] == task.name)
        for number in rng.sample(range(len(table)), 150):
            row = table[number]
            if wanted[first + number]["tokens"]:
                labelled = "\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCDEFGHIJ", row["choices"], strict=False))
                at = rng.randrange(len(books[0]) - 3000)
                documents.append(
                    f"{books[0][at : at + 1500]}\n{row['passage']}\n{row['question']}\n{labelled}\n{books[0][at + 1500 : at + 3000]}"
                )
                planted.append(first + number)
    hits = {(one["row"], one["question"]) for one in found_in(texts, *documents)}
    assert all((row, question) in hits for row, question in enumerate(planted))


# --- a finished corpus


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Two tasks, and documents of which three hold a question of the first."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/riddles.jsonl").write_text(
        "".join(json.dumps({"id": f"r{n}", "question": text, "answer": "96"}) + "\n" for n, text in enumerate([LONG, LONG[::-1], "Why?"]))
    )
    (tmp_path / "tasks/metals.json").write_text(json.dumps([{"question": SHORT, "choices": METALS, "answer": 0}]))
    rows = [{"id": f"d{n}", "text": f"Document {n} speaks of harbours and of the tide that comes in at {n}."} for n in range(40)]
    for number in (3, 17, 30):
        rows[number]["text"] += f"\n{LONG}\nIt goes on."
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def built(here: Path, name: str, workers: int = 1, **decontaminate: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"name": "x", "sources": [{"name": "rows", "type": "tables", "paths": ["rows.jsonl"]}], "unit_bytes": 1024}
    if decontaminate:
        data["decontaminate"] = decontaminate
    return build(recipes.check(data, "test"), here, here / name, workers=workers)


def rows_of(corpus: Path, part: str) -> list[dict[str, Any]]:
    return [row for path in sorted((corpus / part).rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_corpus_tells_which_questions_it_holds(here: Path) -> None:
    built(here, "corpus")
    tasks = [here / "tasks/riddles.jsonl", here / "tasks/metals.json"]
    told = seen_questions(here / "corpus", tasks, out=here / "seen")
    assert told.seen() == told.seen("riddles.jsonl") == {"r0"}
    assert told.seen("metals.json") == set()
    riddles, metals = told.tasks
    assert {name: riddles[name] for name in ("questions", "too_short", "seen", "share", "documents")} == {
        "questions": 3, "too_short": 1, "seen": 1, "share": 0.5, "documents": 3
    }  # fmt: skip
    assert (metals["seen"], told.documents, told.contaminated, told.by_source) == (0, 40, 3, {"rows": 3})
    seen = pq.read_table(here / "seen/documents.parquet").to_pylist()
    texts = {row["id"]: row["text"].encode() for row in rows_of(here / "corpus", "documents")}
    assert [(row["task"], row["question"], row["document"]) for row in seen] == [
        ("riddles.jsonl", "r0", name) for name in ("rows:d3", "rows:d17", "rows:d30")
    ]
    for row in seen:
        assert texts[row["document"]][row["start"] : row["end"]].decode().strip() == row["found"] == row["asked"] == LONG
    assert pq.read_table(here / "seen/questions.parquet")["documents"].to_pylist() == [3, 0, 0, 0]
    assert json.loads((here / "seen/contamination.json").read_text())["tasks"] == told.tasks


def test_threads_and_the_form_of_the_corpus_change_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(here, "corpus")
    monkeypatch.setattr("codedev.corpus.contamination.search.BATCH", 7)
    whole = pa.concat_tables(pq.read_table(path) for path in sorted((here / "corpus/documents").rglob("*.parquet")))
    pq.write_table(whole.select(["text", "id", "source"]), here / "one.parquet")
    told = [
        seen_questions(path, [here / "tasks"], threads=threads).as_dict()
        for path, threads in ((here / "corpus", 1), (here / "corpus", 3), (here / "one.parquet", 2))
    ]
    assert told[0] == told[1] == told[2]
    pq.write_table(whole.select(["text"]), here / "bare.parquet")
    bare = seen_questions(here / "bare.parquet", [here / "tasks"])
    assert (bare.contaminated, [one["document"] for one in bare.examples]) == (3, ["bare.parquet:3", "bare.parquet:17", "bare.parquet:30"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["codedev", "corpus", "contamination", *map(str, arguments), "-q"])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        told = capfd.readouterr()
        return code, told.out if code == 0 else told.err

    return run


def test_the_command_shows_tasks_and_evidence(here: Path, run: Callable[..., tuple[int, str]]) -> None:
    built(here, "corpus")
    code, output = run(
        here / "corpus", "--against", here / "tasks/riddles.jsonl", "--against", here / "tasks/metals.json", "--out", here / "o"
    )
    assert code == 0
    assert "3 of 40 documents" in output
    assert "r0 (question, 100%) in rows:d3" in output
    assert (here / "o/documents.parquet").exists()
    code, output = run(here / "corpus", "--against", here / "tasks/riddles.jsonl", "--json")
    assert json.loads(output)["tasks"][0]["seen"] == 1


def test_files_in_other_layouts_are_read_by_chosen_columns(here: Path, run: Callable[..., tuple[int, str]]) -> None:
    built(here, "corpus")
    (here / "mine.csv").write_text(f'frage,loesung\n"{LONG}",96\n')
    code, output = run(here / "corpus", "--against", here / "mine.csv")
    assert code != 0
    assert "columns" in output
    code, output = run(
        here / "corpus", "--against", here / "mine.csv", "--columns", "question=frage", "--columns", "answer=loesung", "--json"
    )
    assert (code, json.loads(output)["contaminated"]) == (0, 3)
    assert run(here / "corpus", "--against", here / "mine.csv", "--columns", "question")[0] == 2


@pytest.mark.parametrize(
    ("corpus", "task", "says"),
    [
        ("corpus", "missing.jsonl", "no such file of questions"),
        ("corpus", "broken.json", "is no JSON"),
        ("corpus", "binary.parquet", "cannot be read as Parquet"),
        ("corpus", "empty", "holds no"),
        ("corpus", "numbers.jsonl", "no known layout"),
        ("nowhere", "tasks", "holds no corpus"),
        ("binary.parquet", "tasks", "cannot be read as Parquet"),
        ("numbers.parquet", "tasks", "no column `text`"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(here: Path, corpus: str, task: str, says: str, run: Callable[..., tuple[int, str]]) -> None:
    built(here, "corpus")
    (here / "broken.json").write_text('[{"question": ')
    (here / "binary.parquet").write_bytes(bytes(range(256)))
    (here / "empty").mkdir()
    (here / "numbers.jsonl").write_text('{"a": 1}\n')
    pq.write_table(pa.table({"text": [1, 2]}), here / "numbers.parquet")
    code, output = run(here / corpus, "--against", here / task)
    assert code != 0
    assert says in output
    assert len(output.strip().splitlines()) == 1


# --- a build


def test_what_holds_a_question_is_dropped_with_the_evidence(here: Path) -> None:
    manifest = built(here, "corpus", against=["tasks"])
    (stage,) = [stage for stage in manifest["waterfall"]["rows"] if stage["stage"] == "contamination"]
    assert (stage["rows_in"], stage["rows_out"], stage["drop"]) == (40, 37, {"seen_question": 3})
    dropped = rows_of(here / "corpus", "dropped")
    assert [row["id"] for row in dropped] == ["rows:d3", "rows:d17", "rows:d30"]
    evidence = json.loads(dropped[0]["evidence"])
    assert evidence["bound"] == 0.8
    assert (evidence["task"], evidence["question"], evidence["overlap"]) == ("tasks", "r0", 1)
    assert evidence["found"] == evidence["asked"] == LONG
    assert dropped[0]["text"].encode()[evidence["start"] : evidence["end"]].decode().strip() == LONG
    assert {row["q.seen.score"] for row in rows_of(here / "corpus", "documents")} == {None}
    assert seen_questions(here / "corpus", [here / "tasks"]).contaminated == 0


def test_tagged_documents_stay(here: Path) -> None:
    built(here, "corpus", against=["tasks"], action="tag")
    kept = {row["id"]: row for row in rows_of(here / "corpus", "documents")}
    assert len(kept) == 40
    (told,) = json.loads(kept["rows:d17"]["q.seen.questions"])
    assert (told["question"], kept["rows:d17"]["q.seen.score"], kept["rows:d16"]["q.seen.questions"]) == ("r0", 1, None)


def _scored(here: Path) -> dict[str, float]:
    return {path.name: path.stat().st_mtime_ns for path in (here / "corpus/.work/scored").glob("*.parquet")}


def test_a_changed_bound_reads_nothing_again_and_changed_questions_do(here: Path) -> None:
    text = (here / "rows.jsonl").read_text().replace("the butcher", "a butcher", 1)
    (here / "rows.jsonl").write_text(text)
    assert built(here, "corpus", against=["tasks"])["totals"]["documents"] == 37
    before = _scored(here)
    assert built(here, "corpus", against=["tasks"], min_overlap=0.99)["totals"]["documents"] == 38  # the one with the slip
    assert _scored(here) == before
    (here / "tasks/riddles.jsonl").write_text(json.dumps({"question": LONG.upper()[::-1], "answer": "1"}) + "\n")
    assert built(here, "corpus", against=["tasks"])["totals"]["documents"] == 40
    assert not {*_scored(here)} & {*before}


def test_where_the_questions_lie_and_how_many_work_changes_nothing(here: Path) -> None:
    built(here, "corpus", against=["tasks"])
    before = _scored(here)
    shutil.move(here / "tasks", here / "elsewhere")
    (here / "tasks").symlink_to(here / "elsewhere")
    built(here, "corpus", against=["elsewhere"])
    assert _scored(here) == before
    built(here, "two", workers=2, against=["tasks"])
    parts = [
        {path.relative_to(here / name): path.read_bytes() for path in (here / name).rglob("part-*.parquet")} for name in ("corpus", "two")
    ]
    assert parts[0] == parts[1]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"against": []}, "against"),
        ({"against": [""]}, "no path"),
        ({"against": ["tasks"], "min_overlap": 0.4}, "min_overlap"),
        ({"against": ["tasks"], "columns": {"questoin": "x"}}, "question"),
        ({"against": ["tasks"], "ngram": 9}, "min_tokens"),
        ({"against": ["tasks"], "action": "mask"}, "action"),
    ],
)
def test_recipes_that_cannot_be(here: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        built(here, "corpus", **changed)


def test_missing_questions_cost_no_corpus(here: Path) -> None:
    built(here, "corpus", against=["tasks"])
    with pytest.raises(InputError, match="no such file of questions"):
        built(here, "corpus", against=["tsaks"])
    assert len(rows_of(here / "corpus", "documents")) == 37


def test_the_sample_recipe_tags_the_note_that_a_question_was_made_of(tmp_path: Path) -> None:
    recipe = recipes.load(ROOT / "samples/recipes/corpus.yaml")
    assert recipe.decontaminate
    assert recipe.decontaminate.action == "tag"
    chosen = recipe.model_copy(update={"sources": recipe.sources[2:3], "expect": recipes.Expect()})
    build(chosen, ROOT / "samples/recipes", tmp_path / "corpus")
    told = {row["id"]: row["q.seen.questions"] for row in rows_of(tmp_path / "corpus", "documents") if row["q.seen.questions"]}
    assert [json.loads(one)[0]["question"] for one in told.values()] == ["workshop-1"]
    assert [*told] == ["notes:n-002"]


# --- hostile


def _hostile() -> Iterator[bytes]:
    yield b""
    yield b"\xff\xfe\x00" * 1000
    yield "中".encode()[:2]
    yield b"\xf0\x9f"
    yield b"a" * 100_000
    yield "的".encode() * 100_000


def test_any_bytes_are_read_within_their_bounds(tmp_path: Path) -> None:
    texts = texts_of(tmp_path, [{"question": LONG, "answer": "96"}])
    assert texts.lookup is not None
    for data in _hostile():
        padded = np.frombuffer(data + LONG.encode(), np.uint8)  # what lies behind a document is not its own
        found = kernel.scan(texts.lookup, padded, np.array([0, len(data)]), 4, 11, FLOOR)
        assert len(found.row) == 0


def test_a_question_of_a_megabyte_and_a_document_that_repeats_a_phrase_take_no_time(tmp_path: Path) -> None:
    rng = random.Random(3)
    huge = " ".join(str(rng.randrange(10**6)) for _ in range(150_000))
    stems = [f"下列关于细胞的说法正确的是第{n}项还是第{n + 1}项" for n in range(300)]
    texts = texts_of(tmp_path, [{"question": text, "answer": "1"} for text in (huge, *stems)])
    began = time.perf_counter()
    found = found_in(texts, "下列关于细胞的说法正确的是" * 20_000, f"before {huge} after", " ".join(stems) * 20)
    assert time.perf_counter() - began < 20
    assert {(1, 0)} | {(2, n + 1) for n in range(300)} == {(one["row"], one["question"]) for one in found}


def test_words_that_many_questions_begin_with_repeated_without_end_take_no_time(tmp_path: Path) -> None:
    stem = "下列说法正确的是"
    rows = [{"question": stem, "choices": [f"选项{n}{m}甲乙" for m in range(4)], "answer": 0} for n in range(30)]
    texts = texts_of(tmp_path, rows)
    began = time.process_time()
    found = found_in(texts, stem * 50_000, f"{stem}\n{rows[7]['choices']}\n{stem * 50}")
    assert time.process_time() - began < 8  # 1.5 s on a quiet machine; 40 s without a bound on what is tried
    assert [(one["row"], one["question"]) for one in found] == [(1, 7)]


def test_a_set_inside_a_document_is_found_question_by_question(tmp_path: Path) -> None:
    rng = random.Random(4)
    rows = [{"question": " ".join(rng.choices("abcdefghij", k=40)), "answer": "1"} for _ in range(9_000)]
    texts = texts_of(tmp_path, rows)
    whole = (tmp_path / "set.jsonl").read_text()
    assert [one["question"] for one in found_in(texts, whole)] == [*range(9_000)]
    pq.write_table(pa.table({"text": [whole * 3, whole[:4_000]]}), tmp_path / "set.parquet")
    told = seen_questions(tmp_path / "set.parquet", [tmp_path / "set.jsonl"])
    assert (told.contaminated, told.tasks[0]["seen"], told.tasks[0]["documents"]) == (2, 9_000, 2)
    assert len(told.examples) == 3


# --- the benchmark


@pytest.mark.slow
@pytest.mark.realdata
def test_the_benchmark_finds_every_copy_left_as_it_was(data_dir: Path, tmp_path: Path) -> None:
    script = ROOT / "benchmarks/bench_contamination.py"
    command = [sys.executable, script, "--data", data_dir, "--each", "12", "--mb", "3", "--json", tmp_path / "figures.json"]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    told = json.loads((tmp_path / "figures.json").read_text())
    assert told["planted"]["verbatim"]["all"]["codedev"] == told["planted"]["reformatted"]["all"]["codedev"] == 1
    assert told["planted"]["changed"]["all"]["codedev"] == 0 < told["planted"]["changed"]["all"]["13 words"]
    assert told["untouched"]["found"] == []
