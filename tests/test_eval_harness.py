"""Tasks of lm-eval through the protocol of eval/lm.py: the figures of lm-eval's own evaluator and model class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eval_support import lm_eval_model, tiny

from codedev import _recipe
from codedev._errors import CodedevError, InputError, RecipeError
from codedev.eval.recipe import EvalRecipe
from codedev.eval.run import evaluate, records_of
from codedev.train.use.lm import open_lm

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install -e '.[eval]'")

CHOICES = """
task: kettles
dataset_path: json
dataset_kwargs: {data_files: {test: data/test.jsonl, dev: data/dev.jsonl}}
test_split: test
fewshot_split: dev
num_fewshot: 2
output_type: multiple_choice
doc_to_text: "Q: {{question}}\\nA:"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
WRITTEN = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: data/test.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}} ="
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n", "e"], max_gen_toks: 12, do_sample: false}
filter_list:
  - {name: first, filter: [{function: regex, regex_pattern: "(\\\\w)"}, {function: take_first}]}
  - {name: whole, filter: [{function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
  - {metric: bleu}
"""


def local(folder: Path, name: str, text: str) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    for split, count in (("test", 24), ("dev", 6)):
        rows = []
        for at in range(count):
            choices = [f"{word * (1 + at % 3)} {at}" for word in ("steam ", "a wire", "tin", "x")]
            rows.append({"question": f"{split} why does kettle {at} sing", "choices": choices, "answer": at % 4})
        (folder / f"data/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file


def ours(folder: Path, model: Path, file: Path | str, **task: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    given = {"model": str(model), "out": "out", "tasks": [{"name": "t", "kind": "lm_eval", "task": str(file), **task}]}
    told = evaluate(_recipe.check(given, EvalRecipe, "r"), folder, lambda path, template: open_lm(str(path), template))
    return told["tasks"]["t"]["scores"], records_of(folder / "out", "t").to_pylist()


def theirs(folder: Path, model: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(folder)  # where it looks for data
    manager = TaskManager(include_defaults=False)
    found: dict[str, Any] = simple_evaluate(lm_eval_model(model), tasks=[str(file)], task_manager=manager, bootstrap_iters=0)
    return found


@pytest.mark.parametrize("name", ["kettles", "sums"])
def test_figures_are_those_of_lm_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    model = tiny(tmp_path / "model", "qwen3")
    file = local(tmp_path, name, {"kettles": CHOICES, "sums": WRITTEN}[name])
    scores, records = ours(tmp_path, model, file)
    found = theirs(tmp_path, model, file, monkeypatch)
    samples: dict[int, list[dict[str, Any]]] = {}
    for one in found["samples"][name]:
        samples.setdefault(one["doc_id"], []).append(one)
    assert len(records) == len(samples) == 24
    for row in records:
        own = samples[int(row["id"].split("/")[1])]
        assert row["asked"] == own[0]["arguments"][0][0]
        told = {metric if one["filter"] == "none" else f"{metric},{one['filter']}": one[metric] for one in own for metric in one["metrics"]}
        assert json.loads(row["metrics"]) == json.loads(json.dumps(told))
        if name == "sums":
            assert row["said"] == own[0]["resps"][0][0]
    figures = {key.removesuffix(",none"): value for key, value in found["results"][name].items() if isinstance(value, float)}
    assert {metric: one["value"] for metric, one in scores[""].items()} == pytest.approx(
        {metric: value for metric, value in figures.items() if "_stderr" not in metric}
    )
    assert len({row["said"] for row in records}) > 12
    assert name == "sums" or 0 < scores[""]["acc"]["value"] < 1


def test_a_limit_takes_some_and_shots_can_be_set(tmp_path: Path) -> None:
    model, file = tiny(tmp_path / "model"), local(tmp_path, "kettles", CHOICES)
    _, records = ours(tmp_path, model, file, limit=5, shots=1)
    assert len(records) == 5
    assert all(row["asked"].count("Q: dev") == 1 for row in records)


def test_code_in_a_task_is_run_only_where_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\ndef text(doc):\n    return doc['question']\n"
    )
    model = tiny(tmp_path / "model")
    file = local(tmp_path, "own", CHOICES.replace('"Q: {{question}}\\nA:"', "!function own.text"))
    outer = local(tmp_path, "outer", "include: own.yaml\ntask: outer\n")
    for path in (file, outer):
        with pytest.raises(RecipeError, match="code: true"):
            ours(tmp_path, model, path)
        assert not (tmp_path / "ran").exists()
    assert len(ours(tmp_path, model, file, code=True)[1]) == 24
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CHOICES.replace("{{question}}", "{{ ''.__class__.__mro__[1].__subclasses__() }}"), "unsafe|Security"),
        (CHOICES.replace("{{question}}", "{{ body }}"), "body"),
        (CHOICES.replace("data/test", "data/nothing"), "nothing"),
        (CHOICES.replace("dataset_path: json", "dataset_path: owner/nothing").replace("dataset_kwargs", "metadata"), "fetched"),
        ("group: g\ntask: [a, b]\n", "one task"),
        ("- a\n", "no task"),
        ("a: [\n", "YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "code: true"),
    ],
)
def test_what_cannot_be_asked_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CodedevError, match=says):
        ours(tmp_path, tmp_path / "model", local(tmp_path, "bad", text))


@pytest.mark.slow  # lm-eval reads all of its 14,000 files for its list
def test_an_unknown_name_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="knows no such task"):
        ours(tmp_path, tmp_path / "model", "no_such_task_at_all")
