"""Instruction tuning from raw tables: any form of them gives the tokens that plain transformers gives, what is there is used, what changed
is refused, and every row is accounted for."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from train_support import TINY, on_two_processes, recipe

from codedev._errors import InputError, RecipeError, RunError
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.tokenize.chat.templates import built_in
from codedev.tokenize.train import train_tokenizer
from codedev.train import model as models
from codedev.train import run, tune
from codedev.train.data import Shards, open_shards
from codedev.train.instructions.tables import prepare, summary
from codedev.train.recipe import absolute
from codedev.train.use.merge import loss_of
from codedev.train.watch.metrics import read_metrics

ROOT = Path(__file__).parent.parent
MODEL = {**TINY, "max_position_embeddings": 512, "initializer_range": 0.1}
WORDS = "the queue holds rows that a reader takes and gives back in order while it sorts seven green files by their names".split()

Learned = list[tuple[list[int], list[bool]]]  # of each conversation: its tokens, and which of them are learned


def rows_of(count: int, seed: int = 0, longest: int = 20) -> list[dict[str, str]]:
    """Instructions whose answers are their words turned round: something that can be learned."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.randint(3, longest))]
        row = {"instruction": f"Turn round {number}:", "input": " ".join(words), "output": " ".join(reversed(words))}
        made.append(row if rng.random() < 0.7 else {**row, "instruction": f"Turn round {number}: {row['input']}", "input": ""})
    return made


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 600 tokens, learned from such rows."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_rows(folder / "rows.jsonl", rows_of(200, seed=9))
    build(recipes.check({"name": "t", "sources": [{"name": "t", "type": "tables", "paths": ["rows.jsonl"]}]}, "r"), folder, folder / "c")
    train_tokenizer(folder / "c", folder / "out", vocab_size=600, special_slots=64)
    return folder / "out"


@pytest.fixture
def base(tmp_path: Path, tokenizer: Path) -> Path:
    shutil.copytree(tokenizer, tmp_path / "tokenizer")
    write_rows(tmp_path / "rows.jsonl", rows_of(60))
    return tmp_path


LONG = {"config": {**MODEL, "max_position_embeddings": 16384}}


def sft(directory: str = "run", **changes: Any) -> Any:
    """`data` may hold less than all of it."""
    data = {"tables": "rows.jsonl", "tokenizer": "tokenizer", **changes.pop("data", {})}
    defaults: dict[str, Any] = {"stage": "sft", "model": {"config": dict(MODEL)}, "batch": {"rows": 4, "micro_rows": 2}, "run__steps": 4}
    return recipe(directory, **{**defaults, "data": {key: value for key, value in data.items() if value is not None}, **changes})


def made(base: Path, directory: str = "run", **changes: Any) -> tuple[dict[str, Any], Shards]:
    wanted = absolute(sft(directory, **changes), base)
    told = prepare(wanted)
    return told, open_shards(tuple(map(Path, wanted.data.dirs)))


def learned(shards: Shards) -> Learned:
    """What each segment of the shards holds, sorted."""
    rows = shards.read(np.arange(shards.rows))
    found = []
    for number in range(shards.rows):
        for segment in shards.segments(number):
            part = slice(segment.start, segment.end)
            found.append((rows.input_ids[number, part].tolist(), rows.targets[number, part].tolist()))
    return sorted(found)


def by_transformers(folder: Path, conversations: list[list[dict[str, str]]], template: str, opening: str, closing: str) -> Learned:
    """The same of plain transformers: its rendering, its tokenizer's offsets; learned is what stands between `opening` and `closing`."""
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast.from_pretrained(str(folder))
    found = []
    for messages in conversations:
        text = plain.apply_chat_template(messages, chat_template=template, tokenize=False)
        spans, at = [], 0
        while (begin := text.find(opening, at)) >= 0:
            at = text.index(closing, begin + len(opening)) + len(closing)
            spans.append((begin + len(opening), at))
        encoded = plain(text, add_special_tokens=False, return_offsets_mapping=True)
        mask = [any(begin <= start < end for begin, end in spans) for start, _ in encoded["offset_mapping"]]
        found.append((list(encoded["input_ids"]), mask))
    return sorted(found)


def messages_of(row: dict[str, str]) -> list[dict[str, str]]:
    asked = "\n\n".join(text for text in (row["instruction"], row.get("input", "")) if text.strip())
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]


# -- the tokens --------------------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "opening", "closing"),
    [("chatml", "<|im_start|>assistant\n", "<|im_end|>"), ("alpaca", "### Response:\n", "<|endoftext|>")],
)
def test_real_rows_are_the_tokens_of_transformers(base: Path, data_dir: Path, name: str, opening: str, closing: str) -> None:
    rows = []
    for file in (
        "sahil280114__codealpaca/data/code_alpaca_2k.json",
        "hiyouga__LLaMA-Factory/data/alpaca_en_demo.json",
        "carbonz0__alpaca-chinese-dataset/zh-data-part-00.json",
    ):
        rows += json.loads((data_dir / "instruction" / file).read_text())[:150]
    rows = [row for row in rows if row["output"].strip() and "### Response" not in json.dumps(row)]
    (base / "real.json").write_text(json.dumps(rows, ensure_ascii=False))
    told, shards = made(base, model=LONG, data={"tables": "real.json", "template": name, "seq_len": 8192, "overlong": "error"})
    want = by_transformers(base / "tokenizer", [messages_of(row) for row in rows], built_in(name), opening, closing)
    assert told["conversations"] == told["rows"] == len(rows) > 400
    assert learned(shards) == want
    assert told["supervised_tokens"] == sum(sum(mask) for _, mask in want)
    assert told["tokens"] == sum(len(ids) for ids, _ in want)


@pytest.mark.realdata
def test_real_conversations_with_tools(base: Path, data_dir: Path) -> None:
    """ShareGPT with a function's calls and answers: against the mask that transformers makes of {% generation %}."""
    from transformers import PreTrainedTokenizerFast

    file = data_dir / "instruction/hiyouga__LLaMA-Factory/data/glaive_toolcall_en_demo.json"
    told, shards = made(base, model=LONG, data={"tables": str(file), "seq_len": 16384, "overlong": "error"})
    assert told["conversations"] == told["rows"] == len(json.loads(file.read_text()))
    plain = PreTrainedTokenizerFast.from_pretrained(str(base / "tokenizer"))
    corpus = pa.concat_tables(pq.read_table(path) for path in (base / "run/data/corpus/documents").rglob("*.parquet"))
    want = []
    for meta in map(json.loads, corpus.column("meta").to_pylist()):
        for message in meta["messages"]:
            for call in message.get("tool_calls") or []:
                if isinstance(call["function"].get("arguments"), str):
                    call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        tools = json.loads(meta["tools"]) if isinstance(meta.get("tools"), str) else meta.get("tools")
        made_by = plain.apply_chat_template(
            meta["messages"], tools=tools, chat_template=built_in("chatml"), return_assistant_tokens_mask=True, return_dict=True
        )
        want.append((list(made_by["input_ids"]), [bool(one) for one in made_by["assistant_masks"]]))
    assert learned(shards) == sorted(want)


def _forms(folder: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """The rows in every form a table comes in: name -> what the recipe says."""
    (folder / "a.json").write_text(json.dumps(rows))
    write_rows(folder / "a.jsonl", rows)
    with open(folder / "a.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet", row_group_size=7)
    with sqlite3.connect(folder / "a.db") as database:
        database.execute("CREATE TABLE faq (instruction TEXT, input TEXT, output TEXT, good INTEGER)")
        database.executemany("INSERT INTO faq VALUES (?, ?, ?, 1)", [tuple(row.values()) for row in rows])
        database.execute("INSERT INTO faq VALUES ('no', '', 'no', 0)")
    write_rows(folder / "m.jsonl", [{"messages": messages_of(row)} for row in rows])
    roles = {"user": "human", "assistant": "gpt"}
    said = [[{"from": roles[one["role"]], "value": one["content"]} for one in messages_of(row)] for row in rows]
    pq.write_table(pa.Table.from_pylist([{"conversations": one} for one in said]), folder / "s.parquet")
    write_rows(folder / "q.jsonl", [{"frage": messages_of(row)[0]["content"], "antwort": row["output"], "text": "beside"} for row in rows])
    write_rows(folder / "t.jsonl", [{"text": "what the set's makers rendered", **row} for row in rows])
    return {
        **{name: name for name in ("a.json", "a.jsonl", "a.csv", "a.parquet", "m.jsonl", "s.parquet", "t.jsonl")},
        "sqlite": {"uri": "sqlite:///a.db", "query": "SELECT instruction, input, output FROM faq WHERE good"},
        "mapped": {"paths": "q.jsonl", "columns": {"prompt": "frage", "answer": "antwort"}},
        "halves": [{"paths": ["a_1.jsonl"]}, {"paths": ["a_2.jsonl"]}],
    }


def test_every_form_of_a_table_gives_the_same_tokens(base: Path) -> None:
    rows = rows_of(40, seed=3)
    forms = _forms(base, rows)
    write_rows(base / "a_1.jsonl", rows[:11])
    write_rows(base / "a_2.jsonl", rows[11:])
    conversations = [messages_of(row) for row in rows]
    want = by_transformers(base / "tokenizer", conversations, built_in("chatml"), "<|im_start|>assistant\n", "<|im_end|>")
    for name, tables in forms.items():
        told, shards = made(base, f"run-{name}", data={"tables": tables})
        assert learned(shards) == want, name
        assert told["rows"] == told["conversations"] == 40
        assert told["template"] == "chatml"


def test_what_is_learned_can_be_chosen(base: Path) -> None:
    talks = [[*messages_of(one), *messages_of(two)] for one, two in zip(rows_of(9, 1), rows_of(9, 2), strict=True)]
    write_rows(base / "rows.jsonl", [{"messages": talk} for talk in talks])
    both = made(base, "both")[1]
    last = made(base, "last", data={"train_on": "last"})[1]
    every = made(base, "all", data={"train_on": "all"})[1]
    asked = made(base, "system", data={"system": "Be brief."})[1]
    for (ids, mask), (same, less), (again, more) in zip(learned(both), learned(last), learned(every), strict=True):
        assert ids == same == again
        assert sum(less) < sum(mask) < sum(more) == len(ids) - 1
        assert all(here for here, there in zip(mask, less, strict=True) if there)
    talks = [[{"role": "system", "content": "Be brief."}, *talk] for talk in talks]
    assert learned(asked) == by_transformers(
        base / "tokenizer", talks, built_in("chatml"), "<|im_start|>assistant\n", "<|im_end|>"
    )  # fmt: skip


def test_the_models_own_template_goes_first(base: Path) -> None:
    own = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    own += "{% if add_generation_prompt %}[assistant] {% endif %}"
    (base / "tokenizer/chat_template.jinja").write_text(own)
    told, shards = made(base)
    want = by_transformers(base / "tokenizer", [messages_of(row) for row in rows_of(60)], own, "[assistant] ", "<|endoftext|>")
    assert told["template"] == "of the tokenizer"
    assert learned(shards) == want
    (base / "tokenizer/chat_template.jinja").unlink()
    (base / "own.jinja").write_text(own)
    assert learned(made(base, "file", data={"template": "own.jinja"})[1]) == want
    with pytest.raises(InputError, match=r"data\.template: .*no special token <\|start_header_id\|>.*codedev tokenizer extend"):
        made(base, "llama3", data={"template": "llama3"})
    with pytest.raises(InputError, match=r"data\.template: .*did you mean 'chatml'"):
        made(base, "chatm", data={"template": "chatm"})
    # Without a template and without the tokens of chatml there is one that needs none.
    file = base / "tokenizer/tokenizer.json"
    file.write_text(file.read_text().replace("<|im_start|>", "<|other|>"))
    assert made(base, "alpaca")[0]["template"] == "alpaca"


# -- every row is accounted for -----------------------------------------------------------------------------------------------------


def test_rows_that_are_no_conversations_are_counted(base: Path) -> None:
    bad: list[dict[str, Any]] = [
        {"instruction": "a", "input": "", "output": ""},
        {"instruction": "a", "input": "", "output": None},
        {"instruction": "", "input": " ", "output": "b"},
        {"instruction": ["a"], "input": "", "output": {"x": 1}},
        {"instruction": "a", "input": "", "output": float("nan")},
        {"instruction": "a", "input": 3, "output": 7},  # numbers are told as text
    ]
    write_rows(base / "rows.jsonl", [*rows_of(20), *bad])
    with open(base / "rows.jsonl", "a") as file:
        file.write('{"instruction": "cut sh\n[1, 2]\n')
    told, shards = made(base)
    # orjson reads no NaN
    assert told["rows"] == 28
    assert told["conversations"] == 21
    assert told["errors"] == {"invalid_json": 2, "not_an_object": 1}
    assert told["dropped"] == {"empty_answer": 2, "empty_prompt": 1, "not_messages": 1}
    assert "21 of 28 rows" in summary(told)
    assert "2 empty_answer" in summary(told)
    assert len(learned(shards)) == 21


@pytest.mark.parametrize("overlong", ["truncate", "split", "drop", "error"])
def test_what_is_longer_than_a_row_is_told(base: Path, overlong: str) -> None:
    rows = rows_of(60, longest=60)
    write_rows(base / "rows.jsonl", rows)
    conversations = [messages_of(row) for row in rows]
    whole = by_transformers(base / "tokenizer", conversations, built_in("chatml"), "<|im_start|>assistant\n", "<|im_end|>")
    sizes = np.array([len(ids) for ids, _ in whole])
    room = 96
    kept = [sum(mask[:room]) > 0 for _, mask in whole]
    if overlong == "error":
        with pytest.raises(InputError, match=r"a conversation of \d+ tokens, .* Raise data\.seq_len, or set data\.overlong to"):
            made(base, data={"seq_len": room, "overlong": overlong})
        return
    told, shards = made(base, data={"seq_len": room, "overlong": overlong})
    assert 5 < (sizes > room).sum() < 55
    if overlong == "drop":
        assert told["dropped"] == {"too_long": int((sizes > room).sum())}
        assert learned(shards) == [one for one, size in zip(whole, sizes, strict=True) if size <= room]
    elif overlong == "truncate":
        cut = (sizes > room) & np.array(kept)
        assert told["truncated"] == {"conversations": int(cut.sum()), "tokens": int((sizes - room)[cut].sum())}
        assert told["dropped"].get("nothing_to_learn", 0) == len(kept) - sum(kept)
        assert learned(shards) == sorted((ids[:room], mask[:room]) for (ids, mask), keep in zip(whole, kept, strict=True) if keep)
    else:
        assert told["split"] == (sizes > room).sum()


def test_held_out_conversations_are_not_learned(base: Path) -> None:
    result = run(sft(data={"holdout": 0.2}), base)
    told = result["data"]
    assert 3 < told["heldout"] < 25
    assert result["bits_per_byte"]["after"] < result["bits_per_byte"]["before"]
    data = base / "run/data"
    train, held = learned(open_shards((data / "shards",))), learned(open_shards((data / "shards/heldout",)))
    assert len(train) == 60 - told["heldout"]
    assert len(held) == told["heldout"]
    assert not {tuple(ids) for ids, _ in train} & {tuple(ids) for ids, _ in held}


# -- what a table looks like --------------------------------------------------------------------------------------------------------


def fault(base: Path, tables: Any, kind: type[Exception] = InputError) -> str:
    with pytest.raises(kind) as caught:
        made(base, data={"tables": tables})
    assert "\n" not in str(caught.value)
    assert not (base / "run/data/corpus").exists()  # said before anything is built
    return str(caught.value)


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet", "db"])
def test_unknown_columns_are_named_with_what_to_map(base: Path, form: str) -> None:
    rows = [{"frage": "wie?", "antwort": "so", "note": 1}] * 3
    file = base / f"odd.{form}"
    if form == "jsonl":
        write_rows(file, rows)
    elif form == "json":
        file.write_text(json.dumps(rows))
    elif form == "csv":
        file.write_text("frage,antwort,note\nwie?,so,1\n")
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE odd (frage TEXT, antwort TEXT, note INTEGER)")
            database.execute("INSERT INTO odd VALUES ('wie?', 'so', 1)")
    said = fault(base, file.name)
    for part in (file.name, "frage, antwort, note", "columns: {prompt: COLUMN, answer: COLUMN}", "messages: COLUMN", "instruction, prompt"):
        assert part in said
    said = fault(base, {"paths": file.name, "columns": {"prompt": "frage", "answer": "antwor"}})
    assert "columns.answer: there is no column 'antwor', did you mean 'antwort'?" in said


def test_tables_of_another_kind(base: Path) -> None:
    write_rows(base / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 3)
    assert "judged answers" in fault(base, "pairs.jsonl")
    write_rows(base / "kto.jsonl", [{"prompt": "a", "completion": "b", "label": False}] * 3)
    assert "judged answers" in fault(base, "kto.jsonl")
    write_rows(base / "plain.jsonl", [{"text": "def f(): pass"}] * 3)
    assert "its columns (text)" in fault(base, "plain.jsonl")
    write_rows(base / "some.jsonl", rows_of(3))
    assert "plain.jsonl" in fault(base, ["some.jsonl", "plain.jsonl"])
    assert "plain.jsonl" in fault(base, {"paths": ["some.jsonl", "plain.jsonl"]})
    write_rows(base / "kto.jsonl", [{"prompt": "Sag es.", "completion": "Gut so.", "label": True}] * 3)
    assert made(base, "asked", data={"tables": {"paths": "kto.jsonl", "layout": "instruction"}})[0]["conversations"] == 3


def test_recipes_say_what_is_wrong(base: Path) -> None:
    for changes, said in (
        ({"stage": "pt"}, "stage pt reads data.shards. Make a corpus"),
        ({"data": {"shards": "x"}}, "give either `shards`"),
        ({"data": {"tables": None}}, "give either `shards`"),
        ({"data": {"tokenizer": None}}, "data.tokenizer: model.config has no tokenizer"),
        ({"data": {"tables": {"paths": "a", "colums": {}}}}, "unknown key 'colums' in data.tables: did you mean 'columns'"),
        ({"data": {"eval": "x", "holdout": 0.1}}, "either `eval` or `holdout`"),
        ({"data": {"tables": {"uri": "mysql://x", "table": "t"}}}, "uri begins with"),
    ):
        with pytest.raises(RecipeError) as caught:
            sft(**changes)
        assert said in str(caught.value)
    with pytest.raises(RecipeError, match="seq_len: has no effect with shards"):
        recipe(data={"shards": "x", "seq_len": 64})


# -- what is there is used, what changed is refused ---------------------------------------------------------------------------------


def state(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


def test_a_run_goes_on_with_what_was_prepared(base: Path) -> None:
    first = run(sft(run__save_every=2), base)
    assert not first["data"]["reused"]
    before = state(base / "run/data")
    again = run(sft(run__save_every=2, run__steps=8, optim__schedule="constant", run__dir="other", data={"prepared": "run/data"}), base)
    assert again["data"]["reused"]
    assert state(base / "run/data") == before
    assert {**again["data"], "reused": False} == first["data"]
    # The recipe that the run wrote is that run, from wherever the folder lies.
    from codedev.train import load_recipe

    moved = base / "moved"
    shutil.move(base / "run", moved / "run")
    for name in ("tokenizer", "rows.jsonl"):
        shutil.copytree(base / name, moved / name) if (base / name).is_dir() else shutil.copy(base / name, moved / name)
    told = run(load_recipe(moved / "run/recipe.yaml"), moved / "run")
    assert told["data"]["reused"]
    assert told["step"] == 4


@pytest.mark.parametrize("checkpoints", [True, False])
def test_another_table_or_setting_is_never_mixed_in(base: Path, checkpoints: bool) -> None:
    if checkpoints:
        run(sft(), base)
    else:
        made(base)
    before = state(base / "run/data")
    rows = rows_of(60)
    rows[5]["output"] += " and more"
    changes: list[tuple[Any, dict[str, Any], str]] = [
        (lambda: write_rows(base / "rows.jsonl", rows), {}, r"rows\.jsonl changed \([\d,]+ bytes, now [\d,]+\)"),
        (lambda: write_rows(base / "rows.jsonl", rows_of(60)), {"seq_len": 256}, r"data\.seq_len was 512, now 256"),
        (lambda: None, {"system": "Be kind."}, r"data\.system was None, now Be kind\."),
        (lambda: None, {"template": "alpaca"}, r"data\.template changed"),
        (lambda: None, {"tables": ["rows.jsonl", "rows.jsonl"]}, r"the table rows-2 is new"),
        (lambda: None, {"tables": {"paths": "rows.jsonl", "layout": "instruction"}}, r"the settings of the table rows changed"),
    ]
    for change, keys, said in changes:
        change()
        if checkpoints:
            with pytest.raises(RunError, match=f"has checkpoints of a run on other data: .*{said}"):
                run(sft(data=keys), base)
            assert state(base / "run/data") == before
        else:
            told = made(base, data=keys)[0]
            assert not told["reused"]
            assert "prepared again, since" in summary(told)
            with pytest.raises(RunError, match="was prepared from something else"):
                made(base, "other", data={"prepared": "run/data", "holdout": 0.3, **keys})
            made(base)  # back again
    if checkpoints:
        result = run(sft(data={"tables": None, "tokenizer": None, "shards": "run/data/shards"}), base)  # as the message says
        assert result["step"] == 4
        template = base / "run/model/chat_template.jinja"  # of shards too it is known
        assert template.read_text() == built_in("chatml")


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"format": "codedev.prepared/1"}', "counts", "record"])
def test_a_damaged_record_is_made_again(base: Path, record: str) -> None:
    first = made(base)[0]
    file = base / "run/data/prepared.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({**whole, record: {}}) if record in whole else record)
    assert made(base)[0] == first
    assert json.loads(file.read_text()) == whole


def test_shards_that_were_lost_are_made_again_to_the_same_run(base: Path) -> None:
    run(sft(run__steps=3), base)
    whole = {path.name: path.read_bytes() for path in (base / "run/data/shards").glob("*") if path.is_file()}
    shutil.rmtree(base / "run/data")
    again = run(sft(run__steps=3), base)
    assert again["step"] == 3
    assert {path.name: path.read_bytes() for path in (base / "run/data/shards").glob("*") if path.is_file()} == whole


def preparing(base: Path, directory: str) -> list[str]:
    """The command of a process that does as `made` does, without torch. It says `ready` when it begins."""
    (base / "worker.json").write_text(sft(directory).model_dump_json())
    (base / "worker.py").write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from codedev import _recipe\n"
        "from codedev._errors import RunError\n"
        "from codedev.train.recipe import TrainRecipe, absolute\n"
        "from codedev.train.instructions.tables import prepare\n"
        "base = Path(__file__).parent\n"
        "recipe = absolute(_recipe.check(json.loads((base / 'worker.json').read_text()), TrainRecipe, 'recipe'), base)\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    prepare(recipe)\n"
        "except RunError as error:\n"
        "    print(error)\n"
    )
    return [sys.executable, str(base / "worker.py")]


@pytest.mark.slow
def test_a_preparation_that_is_killed_goes_on(base: Path) -> None:
    write_rows(base / "rows.jsonl", rows_of(6000))
    command = preparing(base, "killed")
    want = made(base, "whole")
    rng = random.Random(1)
    for _ in range(4):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        time.sleep(rng.uniform(0.05, 1.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    told, shards = made(base, "killed")
    assert {**told, "prepared": "", "reused": False} == {**want[0], "prepared": ""}
    assert (base / "killed/data/shards/manifest.json").read_bytes() == (base / "whole/data/shards/manifest.json").read_bytes()
    assert shards.digest == want[1].digest


def test_the_folder_of_something_else_is_left_alone(base: Path) -> None:
    (base / "run/data").mkdir(parents=True)
    (base / "run/data/thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"holds thesis\.tex"):
        made(base)
    with pytest.raises(InputError, match="is not a directory"):
        made(base, data={"prepared": "rows.jsonl"})


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_full_disk_says_so_and_goes_on_when_there_is_room(base: Path) -> None:
    """On a disk of its own, of 600 kB, which a mount namespace gives; then without one."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no namespaces here")
    write_rows(base / "rows.jsonl", rows_of(4000))
    (base / "full").mkdir()
    mount = f"mount -t tmpfs -o size=600k tmpfs {base}/full && {' '.join(preparing(base, 'full'))}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", mount], cwd=ROOT, capture_output=True, text=True)
    assert "the disk is full. Make room and run the same command again" in done.stdout, done.stderr[-2000:]
    assert made(base, "full")[0]["conversations"] == 4000


# -- training ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_full_and_lora_learn_from_real_tables(base: Path, data_dir: Path) -> None:
    """A tiny model in full, then low-rank updates on it from other tables: the loss of held-out answers falls by a margin, in full by
    1.0 nats a token, with LoRA by another 0.05."""
    tables = data_dir / "instruction"
    rows = json.loads((tables / "sahil280114__codealpaca/data/code_alpaca_2k.json").read_text())
    (base / "a.json").write_text(json.dumps(rows[:700]))
    corpus = [{"name": "t", "type": "tables", "paths": ["a.json"]}]
    build(recipes.check({"name": "t", "sources": corpus}, "r"), base, base / "corpus")
    train_tokenizer(base / "corpus", base / "own", vocab_size=700, special_slots=64)
    keys = {"tokenizer": "own", "seq_len": 128, "holdout": 0.1}
    full = run(sft("full", data={"tables": "a.json", **keys}, run__steps=60, batch={"rows": 8, "micro_rows": 8}, optim__lr=5e-3), base)
    assert full["data"]["conversations"] > 600
    device, heldout = torch.device("cpu"), open_shards((base / "full/data/shards/heldout",))
    some = np.arange(min(24, heldout.rows))
    start = sft("start", data={"tables": "a.json", **keys}).model
    before = loss_of(models.build(start, heldout, "sdpa", 0), heldout, some, device)
    after = loss_of(models.load(base / "full/model", "sdpa"), heldout, some, device)
    assert after < before - 1.0
    # Its tokenizer and its chat template come from the model now.
    (base / "b.json").write_text(json.dumps(rows[700:1400]))
    wanted = {"tables": "b.json", "tokenizer": None, "seq_len": 128}
    settings: dict[str, Any] = {"model": {"path": "full/model"}, "tune": "lora", "run__steps": 50, "batch": {"rows": 8, "micro_rows": 8}}
    lora = run(sft("lora", data=wanted, optim__lr=5e-3, **settings), base)
    assert lora["data"]["template"] == "of the tokenizer"
    tuned = loss_of(tune.open_adapter(base / "lora/model"), heldout, some, device)
    assert tuned < after - 0.05


def test_plain_transformers_chats_with_what_was_tuned(base: Path) -> None:
    """It has the template, and stops where the answers stopped."""
    write_rows(base / "rows.jsonl", [{"instruction": f"Say {word}", "output": f"{word} it is"} for word in WORDS] * 4)
    run(sft(run__steps=60, batch={"rows": 4, "micro_rows": 4}, optim__lr=1e-2, data={"seq_len": 128}), base)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plain = AutoTokenizer.from_pretrained(str(base / "run/model"))
    model = AutoModelForCausalLM.from_pretrained(str(base / "run/model"))
    asked = [{"role": "user", "content": "Say green"}]
    prompt = plain.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    said = plain.decode(out)
    assert said.endswith(" it is<|im_end|>"), said
    assert plain.eos_token == "<|endoftext|>"


WORKER = """
import sys
from pathlib import Path
from test_train_tables import sft
from codedev.train import run
result = run(sft("two", data={"holdout": 0.1}), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_two_processes_prepare_once(base: Path) -> None:
    on_two_processes(WORKER, base)
    run(sft("one", data={"holdout": 0.1}), base)
    one, two = (open_shards((base / name / "data/shards",)) for name in ("one", "two"))
    assert learned(one) == learned(two)
    losses = [[row["loss"] for row in read_metrics(base / name) if "loss" in row] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert (base / "two/model/chat_template.jinja").is_file()
    # What the first process refuses, all end with.
    (base / "rows.jsonl").write_text('{"frage": 1}\n')
    shutil.rmtree(base / "two")
    done = on_two_processes(WORKER, base, fails=True)
    assert "are not known as what is asked and answered" in done.stderr


# -- weights -----------------------------------------------------------------------------------------------------------------------


def test_tables_are_learned_as_often_as_they_say(base: Path) -> None:
    write_rows(base / "more.jsonl", rows_of(40, seed=5))
    told, shards = made(base, data={"tables": ["rows.jsonl", {"paths": "more.jsonl", "epochs": 2.5}], "seq_len": 256})
    one = learned(made(base, "one", data={"seq_len": 256})[1])
    two = learned(made(base, "two", data={"tables": "more.jsonl", "seq_len": 256})[1])
    times = [learned(shards).count(row) for row in two]
    assert set(times) == {2, 3}
    assert 8 < times.count(3) < 32
    assert [learned(shards).count(row) for row in one] == [1] * 60
    assert told["conversations"] == 100
    told, shards = made(base, "less", data={"tables": [{"paths": "rows.jsonl", "epochs": 0.5}], "holdout": 0.2})
    assert told["left_out"] > 10
    assert told["left_out"] + told["conversations"] == 60


def test_weights_of_shards_are_exact() -> None:
    from codedev.train.order import BLOCK, mixed, shares

    sizes, weights = (7, 1000, 33), (0.2, 3.0, 0.8)
    counts = shares(weights)
    assert counts.tolist() == [205, 3072, 819]
    assert shares((1.0, 1e6)).tolist() == [1, BLOCK - 1]
    assert shares((1.0,) * 3).sum() == BLOCK
    stream = mixed(np.arange(3 * BLOCK), sizes, weights, seed=4)
    for block in range(3):
        part = stream[block * BLOCK : (block + 1) * BLOCK]
        assert [int(((part >= low) & (part < high)).sum()) for low, high in ((0, 7), (7, 1007), (1007, 1040))] == counts.tolist()
    for low, size in ((0, 7), (7, 1000), (1007, 33)):  # no row once more before all have had their turn
        own = stream[(stream >= low) & (stream < low + size)] - low
        times = np.bincount(own, minlength=size)
        assert times.max() - times.min() <= 1
    random_order = np.random.default_rng(0).permutation(3 * BLOCK)
    assert (mixed(random_order, sizes, weights, seed=4) == stream[random_order]).all()
    assert (mixed(np.arange(BLOCK), sizes, weights, seed=5) != stream[:BLOCK]).mean() > 0.5


def test_a_run_with_weights_goes_on_and_explains_itself(base: Path) -> None:
    from train_support import write_shards

    from codedev.train.watch.explain import documents_of_step

    for number in range(2):
        write_shards(base / f"s{number}", rows=10 + 30 * number, seed=number)
    data = {"shards": ("s0", "s1"), "weights": (3.0, 1.0)}
    settings: dict[str, Any] = {"data": data, "run__steps": 12, "optim__schedule": "constant", "run__save_every": 6, "run__keep": 9}
    run(recipe("whole", **settings), base)
    run(recipe("parts", **settings), base)
    shutil.rmtree(base / "parts/checkpoints/step-00000012")
    run(recipe("parts", **settings), base)
    losses = [[row["loss"] for row in read_metrics(base / name) if "loss" in row] for name in ("whole", "parts")]
    assert losses[0] == losses[1]
    read = [(one["shards"], one["row"]) for step in range(1, 13) for one in documents_of_step(base / "whole", step) if one["start"] == 0]
    share = sum(Path(directory).name == "s0" for directory, _ in read) / len(read)
    assert len(read) == 12 * 8
    assert 0.6 < share < 0.9
    with pytest.raises(RunError, match=r"data\.weights"):
        run(recipe("whole", **{**settings, "data": {**data, "weights": (1.0, 1.0)}}), base)
    with pytest.raises(RecipeError, match="weights: 1 for 2 shard directories"):
        recipe(data={"shards": ("a", "b"), "weights": (1.0,)})
