"""Tasks of which the answer is written: programs in the sandbox, exact answers; with a writer that knows the gold answers as the oracle."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner
from eval_support import tiny

from codedev import _recipe
from codedev._errors import InputError, RecipeError
from codedev._run import Progress
from codedev.cli import cli
from codedev.corpus.questions import read_questions
from codedev.eval.lm import Answer, Continued, Read, Sampling
from codedev.eval.recipe import EvalRecipe
from codedev.eval.run import evaluate, records_of
from codedev.eval.tasks import asked, code

REAL = Path(__file__).parent.parent / ".data/eval"
HUMANEVAL = REAL / "openai__human-eval/data/HumanEval.jsonl.gz"
MBPP = REAL / "deepseek-ai__DeepSeek-Coder/Evaluation/MBPP/data/mbpp.jsonl"
GSM8K = REAL / "openai__grade-school-math/grade_school_math/data/test.jsonl"


class Writer(NamedTuple):
    """Answers by what it finds in a prompt."""

    texts: dict[str, list[str]]  # a piece of the prompt -> its answers, in turn
    name: str = "writer"
    identity: str = "1"

    def continued(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> list[Continued]:
        raise NotImplementedError  # tasks that are written ask for no log-probability: one that did would fail here

    def read(self, texts: Sequence[str], window: int, progress: Progress) -> list[Read]:
        raise NotImplementedError  # nor for documents

    def write(self, prompts: Sequence[str], sampling: Sampling, progress: Progress, *, first: int = 0) -> list[list[Answer]]:
        found = []
        for prompt in prompts:
            own = next(texts for piece, texts in self.texts.items() if piece in prompt.rsplit("\n\nQuestion:", 1)[-1])
            found.append([Answer(text, 1, "end") for text in itertools.islice(itertools.cycle(own), sampling.n)])
        return found


def scores(folder: Path, writer: Writer, **task: Any) -> dict[str, float]:
    given = {"model": "writer", "out": "out", "tasks": [{"name": "t", **task}]}
    told = evaluate(_recipe.check(given, EvalRecipe, "eval.yaml"), folder, lambda model, template: writer)
    return {name: one["value"] for name, one in told["tasks"]["t"]["scores"][""].items()}


def humaneval(folder: Path, count: int = 3) -> list[dict[str, Any]]:
    """Problems in HumanEval's layout."""
    rows = []
    for number in range(count):
        prompt = f'def add_{number}(a, b):\n    """Add a and b and {number}."""\n'
        test = f"def check(candidate):\n    assert candidate(1, 2) == {3 + number}\n    assert candidate(0, 0) == {number}\n"
        body = f"    return a + b + {number}\n"
        rows.append({"task_id": f"T/{number}", "prompt": prompt, "entry_point": f"add_{number}", "canonical_solution": body, "test": test})
    (folder / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_pass_at_k_is_that_of_all_draws() -> None:
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
                assert code.pass_at(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    assert code.pass_at(200, 1, 100) == pytest.approx(0.5)


def test_programs_are_taken_out_of_what_is_written(tmp_path: Path) -> None:
    rows = humaneval(tmp_path)
    body = rows[0]["canonical_solution"]
    whole = rows[0]["prompt"] + body
    forms = {
        "goes on": body,
        "goes on and on": f"{body}\ndef other():\n    assert False\n\nprint(1 / 0)",
        "a block": f"Here it is:\n```python\n{whole}```\nIt adds.",
        "a block that goes on": f"```python\n{body}```",
        "a block that is not closed": f"```\n{whole}",
        "with a class behind": f"{body}\nclass A:\n    x = 1 / 0\n",
    }
    question = read_questions([tmp_path / "code.jsonl"]).table.to_pylist()[0]
    for name, text in forms.items():
        made: dict[str, Any] = {}
        exec(code.program(question, text), made)
        assert made["add_0"](1, 2) == 3, name


def test_passes_are_counted(tmp_path: Path) -> None:
    rows = humaneval(tmp_path)
    right = {row["prompt"]: row["canonical_solution"] for row in rows}
    wrong = "    return None\n"
    [one, two, three] = right
    writer = Writer(
        {
            one: [right[one]],
            two: [right[two], wrong, wrong, wrong],
            three: [wrong, "    while True: pass\n", "    import os; os._exit(0)\n", "x ="],
        }
    )
    found = scores(tmp_path, writer, kind="code", paths=["code.jsonl"], samples=4, k=[1, 2, 4], temperature=1.0, timeout=2.0)
    assert found == pytest.approx({"pass@1": (1 + 0.25) / 3, "pass@2": (1 + 0.5) / 3, "pass@4": 2 / 3})
    records = {row["id"]: row for row in records_of(tmp_path / "out", "t").to_pylist()}
    assert [records[f"T/{n}"]["passed"] for n in range(3)] == [4, 1, 0]
    assert records["T/1"]["statuses"][:2] == ["passed", "AssertionError"]
    assert records["T/2"]["statuses"][1] == "time"
    assert records["T/0"]["said"] == one + right[one]


def test_a_language_that_cannot_be_run_is_refused_by_name(tmp_path: Path) -> None:
    row = {"name": "X_1", "language": "lua", "prompt": "local function f(x)\n", "tests": "assert(f(1) == 2)", "stop_tokens": ["\nend"]}
    (tmp_path / "lua.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"the sandbox runs Python; these questions are of lua \(1 questions\)"):
        scores(tmp_path, Writer({}), kind="code", paths=["lua.jsonl"])


def test_answers_are_compared_and_counted(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n} plus 1?", "answer": f"{n} and one more.\n#### {n + 1}"} for n in range(4)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    writer = Writer(
        {
            "What is 0": [r"It is \boxed{\frac{2}{2}}"],
            "What is 1": ["the answer is 2.0", "3", "3"],
            "What is 2": ["no", "I give up, 7", "7"],
            "What is 3": ["4 apples", "#### 4", "5"],
        }
    )
    found = scores(tmp_path, writer, kind="answer", paths=["sums.jsonl"], samples=3, temperature=1.0)
    assert found == pytest.approx({"exact": (3 + 1 + 0 + 2) / 12, "majority": 2 / 4})
    assert scores(tmp_path, writer, kind="answer", paths=["sums.jsonl"], shots=2) == {"exact": 3 / 4}
    [first, *_] = records_of(tmp_path / "out", "t").to_pylist()
    assert first["asked"].count("Question:") == 3
    assert first["asked"].endswith("Question: What is 0 plus 1?\nAnswer:")
    assert "What is 0" not in first["asked"].rsplit("Question:", 1)[0]  # a question is never its own example
    with pytest.raises(InputError, match="not 4 examples beside question"):
        scores(tmp_path, writer, kind="answer", paths=["sums.jsonl"], shots=4)
    with pytest.raises(InputError, match="no question of kind code in its files, they are of kind answer"):
        scores(tmp_path, writer, kind="code", paths=["sums.jsonl"])


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"kind": "code", "paths": ["x"], "k": [10]}, "pass@10 needs `samples` of at least 10"),
        ({"kind": "code", "paths": ["x"], "samples": 2}, "samples above 1 at temperature 0"),
        ({"kind": "answer", "paths": ["x"], "samples": 2}, "samples above 1 at temperature 0"),
        ({"kind": "answer", "paths": []}, "is empty"),
        ({"kind": "answer", "paths": ["x"], "columns": {"qestion": "q"}}, "did you mean 'question'|question"),
        ({"kind": "answer", "paths": ["x"], "temprature": 1}, "unknown key 'temprature'"),
        ({"kind": "guess", "paths": ["x"]}, "kind"),
        ({"kind": "text", "paths": ["x"], "shards": "y"}, "give `shards`, `corpus` or `paths`"),
        ({"kind": "text"}, "give `shards`, `corpus` or `paths`"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(task: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        _recipe.check({"model": "m", "out": "o", "tasks": [{"name": "t", **task}]}, EvalRecipe, "eval.yaml")


def test_a_real_model_writes_programs_and_answers(tmp_path: Path) -> None:
    humaneval(tmp_path)
    (tmp_path / "sums.jsonl").write_text('{"question": "What is 1 plus 1?", "answer": "2"}\n')
    tasks = [
        {"name": "code", "kind": "code", "paths": ["code.jsonl"], "samples": 2, "k": [1, 2], "temperature": 1.0, "max_tokens": 8},
        {"name": "sums", "kind": "answer", "paths": ["sums.jsonl"], "max_tokens": 8},
    ]
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"model": str(tiny(tmp_path / "model")), "out": "out", "tasks": tasks}))
    run = CliRunner()
    first = run.invoke(cli, ["eval", str(tmp_path / "e.yaml"), "--json"])
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)["tasks"]
    assert [told[name]["questions"] for name in ("code", "sums")] == [3, 1]
    texts = records_of(tmp_path / "out", "code").column("texts").to_pylist()
    again = run.invoke(cli, ["eval", str(tmp_path / "e.yaml"), "--json", "--out", str(tmp_path / "again")])
    assert again.exit_code == 0, again.output
    assert records_of(tmp_path / "again", "code").column("texts").to_pylist() == texts  # drawn from the seed
    assert texts[0][0] != texts[0][1]


def test_the_same_questions_are_chosen_whatever_else_there_is() -> None:
    ids = [f"q{n}" for n in range(100)]
    few = [ids[at] for at in asked.chosen(ids, 20)]
    more = [*ids[50:], *(f"new{n}" for n in range(5)), *ids[:50]]
    assert len(set(few) & {more[at] for at in asked.chosen(more, 20)}) >= 18


@pytest.mark.realdata
@pytest.mark.slow
def test_known_solutions_pass_and_none_scores_nothing(tmp_path: Path) -> None:
    """HumanEval, MBPP and GSM8K through whole tasks: the golds' score is 1."""
    for name, file in (("humaneval", HUMANEVAL), ("mbpp", MBPP)):
        table = read_questions([file]).table.to_pylist()
        # By question and tests: four questions of MBPP are asked twice, of functions with other names.
        own = {code._told(row): [row["golds"][0].replace("\r\n", "\n")] for row in table}
        (tmp_path / name).mkdir()
        found = scores(tmp_path / name, Writer(own), kind="code", paths=[str(file)], timeout=30.0)
        assert [row["id"] for row in records_of(tmp_path / name / "out", "t").to_pylist() if not row["passed"]] == []
        assert found == {"pass@1": 1.0}
        (tmp_path / f"{name}-none").mkdir()
        nothing = {row["question"]: ["    return None\n"] for row in table}
        assert scores(tmp_path / f"{name}-none", Writer(nothing), kind="code", paths=[str(file)], timeout=30.0, limit=100) == {
            "pass@1": 0.0
        }
    golds = {row["question"].strip(): [row["golds"][0]] for row in read_questions([GSM8K]).table.to_pylist()}
    assert scores(tmp_path, Writer(golds), kind="answer", paths=[str(GSM8K)], shots=8) == {"exact": 1.0}
