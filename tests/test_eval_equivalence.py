"""Answers of mathematics: which ones are the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from codedev.corpus.questions import read_questions
from codedev.eval import graders
from codedev.eval.equivalence import equal

REAL = Path(__file__).parent.parent / ".data/eval"
EQUAL = [
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac12", r"\frac{1}{2}"),
    ("1/2", r"\frac12"),
    (r"3\frac{1}{2}", "3.5"),
    (r"\sqrt{8}", r"2\sqrt2"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    ("1,000", "1000"),
    ("1{,}000", "1000"),
    ("$5$", "5"),
    (r"5\text{ cm}", "5"),
    (r"5\text{ cm}^2", "5"),
    (r"90^\circ", "90"),
    (r"50\%", "50"),
    (r"\$12.50", "12.5"),
    (r"\text{(C)}", "C"),
    ("(C)", "c"),
    ("(1, 2)", r"\left(1,2\right)"),
    (r"\left(\frac12,3\right)", "(0.5,3)"),
    ("[0,1)", "[0, 1)"),
    (r"\{1,2\}", r"\{2,1\}"),
    ("1, 2", "2,1"),
    (r"1\text{ and }2", "1,2"),
    ("1 and 2", "2, 1"),
    (r"2\pm\sqrt3", r"2-\sqrt{3},2+\sqrt{3}"),
    (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty, 2)"),
    ("x^2+2x+1", "(x+1)^2"),
    ("2x", "x*2"),
    ("x=5", "5"),
    ("y = 2x+1", "2x - y + 1 = 0"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
    (r"\frac{\pi}{2}", r"\pi/2"),
    ("10!", "3628800"),
    (r"\binom{5}{2}", "10"),
    (r"e^{i\pi}", "-1"),
    (r"\log_2 8", "3"),
    ("-3", "−3"),
    ("3.0", "3"),
    (".5", "0.5"),
    (r"\sqrt[3]{8}", "2"),
    ("|{-3}|", "3"),
    ("2^{10}", "1024"),
    (r"x\in[1,2]", "[1,2]"),
    (r"\text{even}", "even"),
    (r"6 \text{ or } 7", "6,7"),
    (r"\sin^2 x+\cos^2 x", "1"),
    ("5 cm", "5 cm"),
    (r"2\sin x\cos x", r"\sin(2x)"),
    (r"\left\{1,2\right\}", r"\{1,2\}"),
    ("a^2-b^2", "(a-b)(a+b)"),
    (r"\frac{x+1}{2}", r"\frac12 x+\frac12"),
    (r"\mathrm{A}", "A"),
    ("1:2", "1:2"),
    (r"8 \sqrt{3}", r"8\sqrt3"),
]
UNEQUAL = [
    ("Most people who dislike this book will like it.", "Most people who like this book will dislike it."),
    (r"f\left(-\frac{1}{2}\right)=0", "f(-1)=0"),
    ("$y=40+21$", "$y=40+21t$"),
    (r"$-4+\mathrm{i}$", r"$-4-\mathrm{i}$"),
    ("0.33", r"\frac13"),
    ("(1,2)", "(2,1)"),
    ("[0,1)", "(0,1)"),
    ("x+1", "x-1"),
    ("5", "6"),
    ("", ""),
    ("", "5"),
    ("1,2", "1,2,3"),
    (r"\sqrt2", "1.414"),
    ("x^2", "x^3"),
    ("y=2x", "y=3x"),
    ("a", "b"),
    ("10^10^10^10", "5"),
    ("{{{{{{{{{{", "}}}}}}}}}}"),
    ("1e400", "5"),
    ("x=5", "y^2=5"),
    (r"\text{odd}", "even"),
    ("12", "1,2"),
    ("(1,000)", "1000"),
    ("0", "x-x+1"),
    ("--1", "1"),
    ("5", "-5"),
    ("2^{10}", "1023"),
    (r"\sqrt{2}", r"\sqrt{3}"),
    ("10^{10}", "10000000001"),
    ("9" * 399, "8" + "9" * 398),
]
HOSTILE = [
    "9^" * 190 + "9",
    "10^10^10^10",
    "(" * 390,
    "((" * 90 + "1" + "))" * 90,
    r"\frac{" * 60,
    r"\sqrt{" * 40 + "2" + "}" * 40,
    "170!" * 90,
    "1000000!",
    r"\binom{10^9}{10^8}",
    "1e999999999",
    "x" * 400,
    "{" * 1_000_000,
    "1," * 500_000,
    "1/0",
    "0^{-1}",
    r"\text{" * 5000,
    "a=" * 5000,
    r"\begin{pmatrix}" * 300,
    "\ud800",
    "",
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_the_same(one: str, other: str) -> None:
    assert equal(one, other)
    assert equal(other, one)


@pytest.mark.parametrize(("one", "other"), UNEQUAL)
def test_not_the_same(one: str, other: str) -> None:
    assert not equal(one, other)
    assert not equal(other, one)


@pytest.mark.parametrize("answer", HOSTILE)
def test_nothing_takes_long_or_raises(answer: str) -> None:
    began = time.process_time()
    for gold in ("5", r"\frac{1}{2}", "(1,2)", answer + "1"):
        equal(answer, gold)
        graders.answer([rf"so \boxed{{{answer}}}"], [gold])
    assert time.process_time() - began < 5


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name",
    [
        "openai__grade-school-math/grade_school_math/data/test.jsonl",
        "deepseek-ai__DeepSeek-Math/evaluation/datasets/cmath/test.jsonl",
        "deepseek-ai__DeepSeek-Math/evaluation/datasets/mgsm_zh/mgsm_zh.jsonl",
        "deepseek-ai__DeepSeek-Coder/Evaluation/PAL-Math/datasets/svamp/test.json",
        "ruixiangcui__AGIEval/data/v1/gaokao-mathcloze.jsonl",
    ],
)
def test_gold_answers_are_right_and_those_of_other_questions_are_not(name: str) -> None:
    golds = [row[0] for row in read_questions([REAL / name]).table["golds"].to_pylist()]
    assert graders.answer(golds, golds) == [1.0] * len(golds)
    short = [gold if graders.short(gold) else graders.final(gold) for gold in golds]
    for said in (r"Thus \boxed{%s}.", "So the answer is %s.", "Adding 3 and 4 and more.\n#### %s"):
        assert graders.answer([said % one for one in short], golds) == [1.0] * len(golds)
    others = graders.answer(golds[1:] + golds[:1], golds)
    assert sum(others) < 0.05 * len(golds)  # neighbours whose answers are the same by chance
