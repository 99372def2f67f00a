"""Sources of rewards: functions in their own process, graders, sums, and everything that can go wrong with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from codedev import _recipe
from codedev._errors import InputError, RecipeError, RunError
from codedev.eval import sandbox
from codedev.train.align.reward_recipe import RewardRecipe
from codedev.train.align.rewards import Asked, Source, earn, open_source

ASKED = [
    Asked("What is 1 + 1?", "It is 2.", {"answer": "2"}, "doc-1"),
    Asked("And 2 + 2?", "It is 5.", {"answer": "#### 4", "difficulty": 3}, "doc-2"),
]


def recipe(**keys: Any) -> RewardRecipe:
    return _recipe.check(keys, RewardRecipe, "reward")


def source(folder: Path, code: str, seconds: float = 20.0) -> Source:
    (folder / "rewards.py").write_text(code)
    return open_source(recipe(function="rewards.py:score", seconds=seconds), folder)


def test_a_function_and_a_grader_add_up(tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text("LONG = 4\n")
    code = (
        "import os, words\nprint('loaded')\nseen = []\ndef score(prompts, answers, references):\n    seen.append(1)\n    print('noise')\n"
    )
    code += "    assert references[1].get('difficulty') == 3\n    return [len(a) + words.LONG * len(seen) for a in answers]\n"
    function = source(tmp_path, code)
    grader = open_source(recipe(grader="answer", weight=10, name="right"), tmp_path)
    try:
        earned = earn([function, grader], ASKED)
        assert earned.parts["score"].tolist() == [12, 12]
        assert earned.parts["right"].tolist() == [1, 0]
        assert earned.scores.tolist() == [22, 12]
        assert earn([function], ASKED).scores.tolist() == [16, 16]  # the same process: it remembers
        long = [one._replace(answer="é\n\x00" * 200_000) for one in ASKED]
        assert earn([function], long).scores.tolist() == [600_012] * 2
    finally:
        function.close()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "def score(p, a, r):\n    return [1 / 0]",
            r"rewards\.py:score: ZeroDivisionError: division by zero \(line 2 of rewards\.py\), in calling it",
        ),
        (
            "import nothing_of_that_name",
            r"ModuleNotFoundError: No module named 'nothing_of_that_name' \(line 1 of rewards\.py\), in loading it",
        ),
        ("def other(): pass", r"there is no function 'score' in it; its functions: other, in loading it"),
        ("def score(:", "SyntaxError"),
        ("def score(p, a, r): return [1.0]", "gave 1 numbers for 2 answers"),
        (
            "def score(p, a, r): return [1.0, float('nan')]",
            r"gave nan for the answer .* to the prompt doc-2\. Give a number that is finite",
        ),
        ("def score(p, a, r): return [float('inf'), 1.0]", r"gave inf for the answer .* to the prompt doc-1"),
        ("def score(p, a, r): return ['x', 1.0]", r"it gave 'x' for answer 0, which is no number \(could not convert"),
        ("def score(p, a, r): return None", "TypeError: it gave NoneType in the place of 2 numbers"),
        ("def score(p, a, r):\n    import os; os._exit(3)", "its process ended with code 3"),
        ("def score(p, a, r):\n    import sys; sys.exit('no')", "SystemExit: no"),
        ("def score(p, a, r):\n    while True: yield 1.0", "gave 3 numbers for 2 answers"),
        ("def score(p, a, r): return [1e300, 1.0]", r"gave 1e\+300 .* with its weight no more than 1e\+15"),
        ("def score(p, a, r): return [10**400, 1.0]", "int too large"),
        ("def score(p, a, r): return input()", "EOFError"),
        ("import os, signal\ndef score(p, a, r): os.kill(os.getpid(), signal.SIGSEGV)", "its process ended by SIGSEGV"),
        ("import os\ndef score(p, a, r): os.closerange(0, 99); return [1.0, 1.0]", "its process ended"),
        (
            "import os\ndef score(p, a, r):\n    for at in range(3, 9):\n        try: os.write(at, b'x\\n')\n        except OSError: pass",
            "writes where its numbers go",
        ),
        ("import time\ndef score(p, a, r): time.sleep(99)", r"took longer than 1 s to score 2 answers"),
    ],
)
def test_a_function_that_fails_is_told(tmp_path: Path, code: str, said: str) -> None:
    def run() -> None:
        made = source(tmp_path, code, 1.0)
        try:
            earn([made], ASKED)
        finally:
            made.close()

    started = time.monotonic()
    with pytest.raises(RunError, match=said):
        run()
    assert time.monotonic() - started < 30


def test_a_function_that_reads_nothing(tmp_path: Path) -> None:
    made = source(tmp_path, "import threading, os, sys, time\ndef score(p, a, r): time.sleep(99)", 1.0)
    try:
        with pytest.raises(RunError, match="took longer"):
            made.score(ASKED)
        with pytest.raises((RunError, ValueError)):
            made.score(ASKED)
    finally:
        made.close()


def test_graders_need_to_know_what_is_right(tmp_path: Path) -> None:
    grader = open_source(recipe(grader="answer", column="gold"), tmp_path)
    with pytest.raises(RunError, match=r"the prompt doc-1 does not say what is right in 'gold'; its reference has answer"):
        earn([grader], ASKED)
    number = [ASKED[0]._replace(reference={"gold": 2})]
    assert earn([grader], number).scores.tolist() == [1]


def test_unit_tests_run_in_the_sandbox(tmp_path: Path) -> None:
    try:
        sandbox.check("strict")
    except RunError as error:
        pytest.skip(str(error))
    grader = open_source(recipe(grader="tests", seconds=2), tmp_path)
    checks = {"tests": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]}
    answers = ["```python\ndef add(a, b):\n    return a + b\n```", "def add(a, b): return 3", "while True: pass"]
    assert earn([grader], [Asked("add", answer, checks, "d") for answer in answers]).scores.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "give exactly one of"),
        ({"model": "a", "grader": "answer"}, "give exactly one of"),
        ({"function": "score"}, r"function is FILE\.py:NAME"),
        ({"function": "a.py:b-c"}, r"function is FILE\.py:NAME"),
        ({"function": "a.py:b", "column": "x"}, "there is no grader"),
        ({"grader": "magic"}, "grader"),
        ({"model": "m", "name": "a b"}, "name"),
        ({"model": "m", "wieght": 1}, "weight"),
    ],
)
def test_recipes_that_make_no_sense(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(**keys)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        open_source(recipe(function="none.py:score"), tmp_path)
