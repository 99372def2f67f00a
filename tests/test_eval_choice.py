"""Multiple choice: the decisions of lm-eval on the same questions and models, one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from eval_support import FAMILIES, lm_eval_model, tiny

from codedev import _recipe
from codedev._run import no_progress
from codedev.corpus.questions import read_questions
from codedev.eval.recipe import EvalRecipe
from codedev.eval.run import evaluate, records_of
from codedev.train.use.lm import open_lm

pytest.importorskip("lm_eval", reason="the oracle lm-eval is not installed: pip install -e '.[eval]'")

MMLU = "deepseek-ai__DeepSeek-Math/evaluation/datasets/mmlu_stem/test.jsonl"
SETS = {
    "mmlu": ([MMLU], []),
    "cmmlu": (["haonan-li__CMMLU/data/test/anatomy.csv"], ["haonan-li__CMMLU/data/dev/anatomy.csv"]),
    "agieval": (["ruixiangcui__AGIEval/data/v1/logiqa-en.jsonl", "ruixiangcui__AGIEval/data/v1/sat-math.jsonl"], []),
}


def made_up(folder: Path, count: int = 40) -> Path:
    """Questions with 2 to 5 choices of very unequal length."""
    random = np.random.default_rng(3)
    words = "kettle sings because water turns into steam above 100 degrees naïve 好 {x: 1} def f(x): return".split()
    file = folder / "made_up.jsonl"
    rows = []
    for number in range(count):
        choices = [" ".join(random.choice(words, int(random.integers(1, 9)))) + str(at) for at in range(int(random.integers(2, 6)))]
        question = " ".join(random.choice(words, 8)) + f" ({number})?"
        rows.append({"id": number, "question": question, "choices": choices, "answer": int(random.integers(len(choices)))})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def ours(folder: Path, model: Path, **task: Any) -> pa.Table:
    given = {"model": str(model), "out": str(folder / "out"), "tasks": [{"name": "t", "kind": "choice", "language": "en", **task}]}
    evaluate(_recipe.check(given, EvalRecipe, "eval.yaml"), folder, lambda path, template: open_lm(str(path), template))
    return records_of(folder / "out", "t")


def theirs(folder: Path, model: Path, questions: pa.Table, examples: pa.Table | None, style: str, shots: int) -> list[dict[str, Any]]:
    """The samples of lm-eval on `questions`, a task written out for it, its own model class reading the same files."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    for name, table in (("test", questions), ("dev", examples)):
        if table is not None:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(table)))
    passage = "{% if passage.strip() %}{{passage.strip()}}\n\n{% endif %}"
    letters = "{% for c in choices %}{{letters[loop.index0]}}. {{c.strip()}}\n{% endfor %}"
    listed = passage + "{{question.strip()}}\n" + letters + "Answer:"
    task = {
        "task": "local",
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {name: str(folder / f"{name}.jsonl") for name in ("test", "dev") if (folder / f"{name}.jsonl").exists()}
        },
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": listed if style == "letters" else passage + "Question: {{question.strip()}}\nAnswer:",
        "doc_to_choice": "{{letters[:choices|length]}}" if style == "letters" else "stripped",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    if examples is not None:
        task |= {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}, "num_fewshot": shots}
    manager = TaskManager(include_defaults=False)
    found = simple_evaluate(lm_eval_model(model), tasks=[task], task_manager=manager, bootstrap_iters=0, log_samples=True)
    return sorted(found["samples"]["local"], key=lambda one: one["doc_id"])


def rows(table: pa.Table) -> list[dict[str, Any]]:
    letters = "ABCDEFGHIJ"
    told = []
    for row in table.to_pylist():
        row["gold"], row["letters"] = letters.index(row["golds"][0]), list(letters)
        row["stripped"] = [choice.strip() for choice in row["choices"]]
        told.append(row)
    return told


def same(mine: pa.Table, samples: list[dict[str, Any]]) -> None:
    """Every prompt, every log-probability, every decision."""
    assert mine.num_rows == len(samples) > 0
    for row, one in zip(mine.to_pylist(), samples, strict=True):
        assert row["id"] == one["doc"]["id"]
        assert row["asked"] == one["arguments"][0][0]
        np.testing.assert_allclose(row["nats"], [-float(answer[0][0]) for answer in one["resps"]], rtol=2e-5, atol=2e-4)
        assert (row["score"], row["score_norm"]) == (one["acc"], one["acc_norm"])


@pytest.mark.parametrize("style", ["letters", "texts"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_decision_is_that_of_lm_eval(tmp_path: Path, family: str, style: str) -> None:
    model, file = tiny(tmp_path / "model", family), made_up(tmp_path)
    mine = ours(tmp_path, model, paths=[str(file)], style=style)
    same(mine, theirs(tmp_path, model, read_questions([file]).table, None, style, 0))
    assert 0 < sum(mine.column("score").to_pylist()) < mine.num_rows
    if style == "texts":
        assert mine.column("said").to_pylist() != mine.column("said_norm").to_pylist()


@pytest.mark.realdata
@pytest.mark.parametrize("style", ["letters", "texts"])
@pytest.mark.parametrize("name", SETS)
def test_every_decision_is_that_of_lm_eval_on_published_sets(tmp_path: Path, data_dir: Path, name: str, style: str) -> None:
    """Among them questions that are longer than the model has positions for: both drop the same beginning."""
    paths, examples = ([data_dir / "eval" / path for path in part] for part in SETS[name])
    model = tiny(tmp_path / "model", "llama", positions=512)
    shots = {"shots": 2, "examples": [str(path) for path in examples]} if examples else {}
    mine = ours(tmp_path, model, paths=[str(path) for path in paths], style=style, limit=40, **shots)
    table = read_questions(paths).table
    asked = table.filter(pa.compute.is_in(table.column("id"), mine.column("id").combine_chunks()))
    shown = read_questions(examples).table if examples else None
    same(mine, theirs(tmp_path, model, asked, shown, style, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_once_is_what_is_read_whole(tmp_path: Path, family: str) -> None:
    """Long shots that all questions share, and choices of unequal length."""
    lm = open_lm(str(tiny(tmp_path / "model", family)))
    shots = "Question: why does a kettle sing?\nAnswer: steam\n\n" * 6
    pairs = [(f"{shots}Question: {at} {'x' * (at % 7)}?\nAnswer:", f" {'wire ' * (at % 4 + 1)}") for at in range(30)]
    assert lm._caches()
    together = lm.continued(pairs, no_progress)
    alone = [lm.continued([pair], no_progress)[0] for pair in pairs]
    assert [one[1:] for one in together] == [one[1:] for one in alone]
    np.testing.assert_allclose([one.nats for one in together], [one.nats for one in alone], rtol=1e-5, atol=1e-4)
