"""Graders against the gold of GSM8K and against made-up answers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from codedev.eval.graders import answer, code, final, same, unit_tests

GSM8K = Path(__file__).parent.parent / ".data" / "eval" / "openai__grade-school-math" / "grade_school_math" / "data" / "test.jsonl"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is 3.\n#### 1,234", "1,234"),
        ("so \\boxed{\\frac{1}{2}} and \\boxed{{a}b}", "{a}b"),
        ("\\boxed{open", "\\boxed{open"),
        ("42", "42"),
        ("It is 2.", "2"),
        ("The answer is 7.\nSome more text here with 9.", "7"),
        ("First 1, then 2.5, then -3\nand 4/5 of it.", "4/5"),
        ("no number here\nat all", "no number here\nat all"),
        ("", ""),
    ],
)
def test_final_answers(text: str, found: str) -> None:
    assert final(text) == found


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("1,000", "1000.0", True), ("1/2", "0.5", True), ("$5", "5", True), ("50%", "50", True), ("\\frac{3}{4}", ".75", True),
        ("-\\dfrac{1}{3}", "-1/3", True),
        ("2", "3", False), ("x + 1", "X+1", True), ("x", "y", False), ("", "", False), ("1/0", "1/0", True), ("9" * 300, "9" * 300, True),
        ("A", "a", True), ("12", "12.5", False), ("--1", "1", False),
    ],
)  # fmt: skip
def test_equal_answers(one: str, other: str, equal: bool) -> None:
    assert same(one, other) is equal
    assert answer([one], [other]) == [float(equal)]
    assert answer([f"Surely this.\nThe answer is {one}."], [other]) == [float(equal)]


def test_long_answers_cost_little() -> None:
    for text in (
        "\\boxed{" * 100_000,
        "{" * 10**6,
        "1," * 10**6,
        "answer is " * 10**5,
        "####" * 10**5,
        "9" * 10**6,
        "." * 10**6,
        "```" * 10**5,
    ):
        started = time.process_time()
        answer([text], ["1"])
        code(text)
        assert time.process_time() - started < 5, text[:10]


def test_unit_tests() -> None:
    texts = [
        "def f(x): return x + 1",
        "Sure!\n```python\ndef f(x):\n    return x + 1\n```\nDone.",
        "```\ndef f(x): return x\n```",
        "while True: pass",
        "",
        "open(",
    ]
    assert unit_tests(texts, ["assert f(1) == 2"] * 6, seconds=1) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.realdata
def test_gold_answers_score_all_and_others_none() -> None:
    if not GSM8K.is_file():
        pytest.skip("no GSM8K under .data")
    golds = [json.loads(line)["answer"] for line in GSM8K.read_text().splitlines()]
    assert answer(golds, golds) == [1.0] * len(golds)
    said = [f"We compute.\nThe answer is ${final(gold)}." for gold in golds]
    assert answer(said, golds) == [1.0] * len(golds)
    wrong = [f"#### {float(final(gold).replace(',', '')) + 1}" for gold in golds]
    assert answer(wrong, golds) == [0.0] * len(golds)
