"""Tables of feedback as examples: the tokens are those of plain transformers, every row is one or counted, and what is there is used."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from train_support import TINY, recipe
from transformers import PreTrainedTokenizerFast

from codedev._errors import InputError, RecipeError, RunError
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.tokenize.chat.templates import built_in
from codedev.tokenize.train import train_tokenizer
from codedev.train.align import examples
from codedev.train.align.examples import prepare
from codedev.train.recipe import TrainRecipe, absolute

MODEL = {**TINY, "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 512, "initializer_range": 0.1}
WORDS = "the queue holds rows that a reader takes and gives back in order while it sorts seven green files by their names".split()


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def pairs(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Sort {WORDS[i % 20]} {i}", "chosen": f"{WORDS[i % 19]} gives order {i}", "rejected": WORDS[i % 17], "margin": i / 10}
        for i in range(count)
    ]


def make_tokenizer(folder: Path, vocab_size: int = 500) -> Path:
    """A tokenizer of `vocab_size` tokens at folder/tokenizer."""
    write_rows(folder / "words.jsonl", [{"text": " ".join(WORDS[i % 20 :]) + f" {i} Sort order"} for i in range(100)])
    source = {"name": "t", "sources": [{"name": "t", "type": "tables", "paths": ["words.jsonl"]}]}
    build(recipes.check(source, "r"), folder, folder / "words")
    train_tokenizer(folder / "words", folder / "tokenizer", vocab_size=vocab_size, special_slots=64)
    return folder / "tokenizer"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("examples"))


def asked(tokenizer: Path, base: Path, stage: str = "reward", **data: Any) -> TrainRecipe:
    given = {"tokenizer": str(tokenizer), "template": "chatml", **data}
    rewards = [{"grader": "answer"}] if stage == "ppo" else []
    return absolute(recipe(stage=stage, model={"config": MODEL}, data=given, rewards=rewards), base)


def plain(tokenizer: Path) -> Any:
    found = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer / "tokenizer.json"))
    found.chat_template = built_in("chatml")
    return found


def balanced(told: dict[str, Any]) -> bool:
    lost = sum(told["dropped"].values()) + sum(told["errors"].values())
    return bool(told["rows"] == told["examples"] + told["heldout"] + lost)


def test_pairs_are_the_tokens_of_plain_transformers(tmp_path: Path, tokenizer: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", pairs(40))
    found = prepare(asked(tokenizer, tmp_path, tables=["pairs.jsonl"], holdout=0.2), ("pairs", "rated"))
    told, reader = found.told, plain(tokenizer)
    assert (told["kind"], told["rows"], told["reused"]) == ("pairs", 40, False)
    assert found.table.num_rows == told["examples"]
    assert found.heldout.num_rows == told["heldout"] > 0
    assert balanced(told)
    for row in [*found.table.to_pylist(), *found.heldout.to_pylist()]:
        messages = json.loads(row["messages"])
        text = reader.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert row["prompt"] == text
        assert row["prompt_ids"] == reader.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        for side in ("chosen", "rejected"):
            whole = [*messages, {"role": "assistant", "content": row[side]}]
            ids = row["prompt_ids"] + row[f"{side}_ids"]
            given = reader.apply_chat_template(whole, return_dict=False)
            assert given[: len(ids)] == ids
            assert reader.decode(given[len(ids) :]) == "\n"
            assert reader.convert_ids_to_tokens(ids[-1]) == "<|im_end|>"
        assert row["answer_ids"] is row["reward"] is row["label"] is None
    first = found.table.slice(0, 1).to_pylist()[0]
    assert json.loads(first["reference"])["margin"] == pytest.approx(int(json.loads(first["messages"])[0]["content"].split()[-1]) / 10)


def test_every_row_is_an_example_or_counted(tmp_path: Path, tokenizer: Path) -> None:
    bad = [
        {"prompt": "Sort", "chosen": "the same", "rejected": "the same"},
        {"prompt": "Sort", "chosen": "rows", "rejected": "  "},
        {"prompt": "", "chosen": "rows", "rejected": "files"},
        {"prompt": "Sort", "chosen": "rows " * 400, "rejected": "files"},
    ]
    write_rows(tmp_path / "pairs.jsonl", pairs(5) + bad)
    found = prepare(asked(tokenizer, tmp_path, tables=["pairs.jsonl"], seq_len=64), "pairs")
    assert found.told["dropped"] == {"empty_answer": 1, "empty_prompt": 1, "same_answers": 1, "too_long": 1}
    assert balanced(found.told)


def test_long_prompts_lose_their_oldest_exchanges_and_answers_nothing(tmp_path: Path, tokenizer: Path) -> None:
    turns = [{"role": role, "content": f"{number} " + "queue " * 8} for number in range(6) for role in ("user", "assistant")]
    rows = [
        {
            "prompt": [{"role": "system", "content": "Sort."}, *turns, {"role": "user", "content": "last"}],
            "chosen": "rows " * 9,
            "rejected": "it",
        }
    ]
    write_rows(tmp_path / "pairs.jsonl", rows + pairs(1))
    found = prepare(asked(tokenizer, tmp_path, tables=["pairs.jsonl"], seq_len=90), "pairs")
    row = found.table.to_pylist()[0]
    messages = json.loads(row["messages"])
    assert found.told["shortened"] == 1
    assert found.told["examples"] == 2
    assert messages[0]["role"] == "system"
    assert messages[-1]["content"] == "last"
    assert 2 < len(messages) < 14
    assert len(messages) % 2 == 0
    assert row["chosen"] == "rows " * 9
    assert len(row["prompt_ids"]) + len(row["chosen_ids"]) <= 90
    assert row["prompt_ids"] == plain(tokenizer).apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    with pytest.raises(InputError, match=r"Raise data\.seq_len"):
        prepare(asked(tokenizer, tmp_path, tables=["pairs.jsonl"], seq_len=90, overlong="error", prepared="other"), "pairs")


def test_a_second_call_makes_nothing_and_the_same_bytes_come_again(tmp_path: Path, tokenizer: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", pairs(30))
    wanted = asked(tokenizer, tmp_path, tables=["pairs.jsonl"], holdout=0.2)
    folder = Path(wanted.data.prepared or "")
    first = prepare(wanted, ("pairs", "rated"))
    before = {name: (folder / name).read_bytes() for name in ("examples.arrow", "heldout.arrow", "prepared.json")}
    again = prepare(wanted, ("pairs", "rated"))
    assert again.told == first.told | {"reused": True}
    assert again.table.equals(first.table)
    other = asked(tokenizer, tmp_path, tables=["pairs.jsonl"], holdout=0.2, prepared="other")
    prepare(other, ("pairs", "rated"))
    assert all((tmp_path / "other" / name).read_bytes() == data for name, data in before.items() if name != "prepared.json")
    write_rows(tmp_path / "pairs.jsonl", pairs(31))
    assert "changed" in prepare(wanted, ("pairs", "rated")).told["again"]
    (tmp_path / "run/checkpoints/step-00000001").mkdir(parents=True)
    write_rows(tmp_path / "pairs.jsonl", pairs(32))
    with pytest.raises(RunError, match="has checkpoints of a run on other data"):
        prepare(wanted, ("pairs", "rated"))


def test_rated_rows_of_many_forms_and_databases(tmp_path: Path, tokenizer: Path) -> None:
    """Prompt, answer and reward; a text and its reward; SQLite; Parquet as `codedev feedback export` writes it."""
    write_rows(tmp_path / "a.jsonl", [{"prompt": "Sort", "response": f"rows {i}", "reward": i / 4} for i in range(4)])
    write_rows(tmp_path / "b.jsonl", [{"input": f"a whole text {i}", "reward": str(i)} for i in range(3)])
    with sqlite3.connect(tmp_path / "c.db") as database:
        database.execute("create table rated (question text, answer text, points real)")
        database.executemany("insert into rated values (?, ?, ?)", [(f"Sort {i}", f"files {i}", i * 0.5) for i in range(5)])
    messages = [[{"role": "user", "content": "Sort"}, {"role": "assistant", "content": f"names {i}"}] for i in range(2)]
    pq.write_table(pa.table({"messages": messages, "reward": [0.5, 1.5]}), tmp_path / "d.parquet")
    tables = ["a.jsonl", "b.jsonl", {"uri": "sqlite:///c.db", "table": "rated", "columns": {"reward": "points"}}, "d.parquet"]
    found = prepare(asked(tokenizer, tmp_path, tables=tables), ("pairs", "rated"))
    assert found.told["kind"] == "rated"
    assert found.told["examples"] == 14
    assert balanced(found.told)
    rows = found.table.to_pylist()
    assert [row["reward"] for row in rows] == [0, 0.25, 0.5, 0.75, 0, 1, 2, 0, 0.5, 1, 1.5, 2, 0.5, 1.5]
    assert [row["answer"] for row in rows[:5]] == ["rows 0", "rows 1", "rows 2", "rows 3", ""]
    assert rows[4]["answer_ids"] == []
    assert "a whole text 0" in rows[4]["prompt"]


def test_rewards_that_are_no_numbers_are_counted(tmp_path: Path, tokenizer: Path) -> None:
    rows = [
        {"prompt": "Sort", "response": f"rows {i}", "reward": given} for i, given in enumerate((1, "2.5", "good", "nan", "inf", None, True))
    ]
    write_rows(tmp_path / "a.jsonl", rows)
    found = prepare(asked(tokenizer, tmp_path, tables=["a.jsonl"]), ("pairs", "rated"))
    assert found.told["dropped"] == {"no_reward": 5}
    assert found.table.column("reward").to_pylist() == [1, 2.5]


def test_labels_come_of_pairs_too(tmp_path: Path, tokenizer: Path) -> None:
    write_rows(
        tmp_path / "a.jsonl", [{"prompt": "Sort", "completion": "rows", "label": True}, {"prompt": "Sort", "completion": "no", "label": 0}]
    )
    write_rows(tmp_path / "b.jsonl", pairs(2))
    found = prepare(asked(tokenizer, tmp_path, "kto", tables=["a.jsonl", "b.jsonl"]), "labelled").table.to_pylist()
    assert [(row["answer"], row["label"]) for row in found[:2]] == [("rows", True), ("no", False)]
    assert [row["label"] for row in found[2:]] == [True, False, True, False]
    assert found[2]["chosen_ids"] is None


def test_prompts_with_references_for_graders(tmp_path: Path, tokenizer: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"prompt": "2 + 3?", "answer": "5", "level": 1}, {"prompt": "2 + 4?", "answer": 6, "level": 2}])
    write_rows(tmp_path / "b.jsonl", [{"prompt": "Write f", "tests": ["assert f(1) == 2"]}])
    write_rows(tmp_path / "c.jsonl", [{"messages": [{"role": "user", "content": "Hello"}]}])
    write_rows(tmp_path / "d.jsonl", pairs(1))
    found = prepare(asked(tokenizer, tmp_path, "ppo", tables=["a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl"]), "prompts").table.to_pylist()
    assert [json.loads(row["reference"]) for row in found] == [
        {"answer": "5", "level": 1},
        {"answer": "6", "level": 2},
        {"answer": None, "tests": ["assert f(1) == 2"]},
        {"answer": None},
        {"answer": "the gives order 0", "margin": 0.0},
    ]
    assert all(row["prompt"].endswith("<|im_start|>assistant\n") and row["answer_ids"] is None for row in found)


@pytest.mark.parametrize(
    ("rows", "data", "said"),
    [
        ([{"instruction": "Sort", "output": "rows", "points": 3}], {}, "answers without a verdict .*points.*reward: COLUMN"),
        ([{"title": "Sort", "body": "rows"}], {}, "not known as judged answers"),
        ([{"prompt": "Sort", "chosen": "a", "rejected": "a"}], {}, "no row of 1 is a judged answer .1 same_answers"),
        ([{"prompt": "Sort", "completion": "a", "label": True}], {}, "no row is of use for stage reward, which needs pairs or rated"),
        (pairs(3), {"holdout": 0.01}, "leaves none of 3 examples held out"),
        (pairs(3), {"overlong": "split"}, "needs it whole"),
        (pairs(3), {"train_on": "last"}, "train_on: has no effect"),
        ([*pairs(3), {"prompt": "x", "response": "y", "reward": 1}], {}, "hold both pairs and rated"),
    ],
)
def test_what_cannot_be_learned_is_said(tmp_path: Path, tokenizer: Path, rows: Any, data: Any, said: str) -> None:
    tables: Any = ["a.jsonl"]
    if "response" in rows[-1]:
        write_rows(tmp_path / "b.jsonl", rows[-1:])
        tables, rows = ["a.jsonl", "b.jsonl"], rows[:-1]
    write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises((InputError, RecipeError), match=said):
        prepare(asked(tokenizer, tmp_path, tables=tables, **data), ("pairs", "rated"))


@pytest.mark.realdata
def test_real_feedback(tmp_path: Path, data_dir: Path, tokenizer: Path) -> None:
    """HH-RLHF, DPO and KTO sets, and rated answers whose reward is a text: each row an example, or counted."""
    with gzip.open(data_dir / "feedback/anthropics__hh-rlhf/harmless-base/test.jsonl.gz", "rt") as file:
        (tmp_path / "hh.jsonl").write_text("".join(next(file) for _ in range(200)))
    factory = data_dir / "feedback/hiyouga__LLaMA-Factory/data"
    wanted = asked(tokenizer, tmp_path, tables=["hh.jsonl", str(factory / "dpo_en_demo.json")], seq_len=2048, holdout=0.1)
    wanted = wanted.model_copy(update={"model": wanted.model.model_copy(update={"config": {**MODEL, "max_position_embeddings": 2048}})})
    found = prepare(wanted, ("pairs", "rated"))
    assert found.told["rows"] == 500
    assert balanced(found.told)
    assert found.told["examples"] + found.told["heldout"] > 350
    assert max(len(row["prompt_ids"]) + len(row["chosen_ids"]) for row in found.table.to_pylist()) <= 2048
    kto = prepare(asked(tokenizer, tmp_path, "kto", tables=[str(factory / "kto_en_demo.json")], prepared="kto", seq_len=500), "labelled")
    assert balanced(kto.told)
    assert set(kto.table.column("label").to_pylist()) == {True, False}
    auto = {"paths": [str(data_dir / "feedback/GAIR-NLP__auto-j/data/training/single_traindata.jsonl")]}
    rated = {**auto, "columns": {"prompt": "usrmsg", "reward": "pred_score"}}
    scores = prepare(asked(tokenizer, tmp_path, tables=[rated], prepared="rated", seq_len=500), ("pairs", "rated"))
    assert balanced(scores.told)
    assert set(scores.told["dropped"]) == {"too_long"}
    assert min(scores.table.column("reward").to_pylist()) >= 1
    assert "answer" not in examples.summary(scores.told)
    assert "too_long" in examples.summary(scores.told)
