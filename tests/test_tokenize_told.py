"""Corpora of conversations to shards with loss spans, and to tables: every token and every document accounted for."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_tokenize_documents import document, stdlib_texts, write_corpus
from test_tokenize_shards import rows_of, tree

from codedev._errors import InputError, RecipeError
from codedev._recipe import check
from codedev.tokenize import encode, tables
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.recipe import ChatRecipe, TokenizeRecipe
from codedev.tokenize.trace import trace
from codedev.tokenize.train import train_tokenizer
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary


def talk(number: int, turns: int) -> list[dict[str, str]]:
    rng = random.Random(number)
    words = stdlib_texts(2)[number % 2].split()
    told = [{"role": "system", "content": "Be brief."}] if number % 3 == 0 else []
    for turn in range(turns):
        for role in ("user", "assistant"):
            told.append({"role": role, "content": f"{turn} {' '.join(rng.sample(words, 12))} <|im_end|>é漢"})
    return told


def meta(value: dict[str, Any]) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("told")
    rows = [document(n, "readable", kind="instruction", meta=meta({"messages": talk(n, 1 + n % 5)})) for n in range(60)]
    rows.append(document(60, "prose", kind="web"))
    rows.append(document(61, "", kind="instruction", meta=meta({"messages": [{"role": "user", "content": "and?"}]})))
    pairs = []
    for n in range(70, 110):
        told = talk(n, 2)
        pair = {"prompt": told[:-1], "chosen": told[-1:], "rejected": [{"role": "assistant", "content": f"no {n}"}]}
        if n == 75:
            pair["rejected"] = pair["chosen"]
        if n % 4 == 1:
            pair = {"prompt": told[:-1], "completion": told[-1:], "label": n % 8 == 1}
        if n % 4 == 2:
            pair = {"messages": told, "reward": n / 100}
        pairs.append(document(n, "readable", kind="preference", meta=meta(pair)))
    write_corpus(folder / "corpus", rows)
    write_corpus(folder / "pairs", pairs, part_rows=15, row_group=7)
    texts = [document(i, text) for i, text in enumerate(stdlib_texts(8))]
    train_tokenizer(write_corpus(folder / "texts", texts), folder / "tokenizer", vocab_size=1200, special_slots=64)
    return folder


@pytest.fixture(scope="module")
def vocabulary(home: Path) -> Vocabulary:
    return load_vocabulary(home / "tokenizer")


def learned(row: dict[str, Any]) -> list[int]:
    return [number for span in row["loss_spans"] for number in row["input_ids"][span["start"] : span["end"]]]


def test_only_answers_carry_loss(home: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    recipe = TokenizeRecipe(mode="sft", seq_len=1024)
    manifest = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "s", recipe)["manifest"]
    rows = rows_of(tmp_path / "s")
    answers = Counter[str]()
    end = vocabulary.tokenizer.token_to_id("<|im_end|>")
    for row in rows:
        assert row["loss_spans"]
        assert all(0 <= span["start"] < span["end"] <= sum(row["segment_lengths"]) for span in row["loss_spans"])
        for span in row["loss_spans"]:
            ids = row["input_ids"][span["start"] : span["end"]]
            assert ids.count(end) == 1  # the template's own, though every message types one
            answers[vocabulary.tokenizer.decode(ids[: ids.index(end)], skip_special_tokens=False)] += 1
        at = 0
        for length in row["segment_lengths"]:  # no row and no segment trains on nothing
            assert any(at <= span["start"] < at + length for span in row["loss_spans"])
            at += length
    wanted = Counter(message["content"] for n in range(60) for message in talk(n, 1 + n % 5) if message["role"] == "assistant")
    assert answers == wanted
    assert manifest["dropped"] == {"not_a_conversation": 1, "nothing_to_learn": 1}
    assert manifest["counts"]["documents"] == 62
    dropped = pq.read_table(tmp_path / "s" / "dropped.parquet").to_pylist()
    assert sorted((row["document"], row["reason"]) for row in dropped) == [("web/60", "not_a_conversation"), ("web/61", "nothing_to_learn")]
    found = trace(tmp_path / "s", 0, rows[0]["loss_spans"][0]["start"])
    assert found["token"]["as_encoded"]


def test_templates_that_end_every_turn_as_a_document_ends(home: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    recipe = TokenizeRecipe(mode="sft", seq_len=1024, chat=ChatRecipe(template="alpaca"))
    manifest = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "s", recipe)["manifest"]
    rows = rows_of(tmp_path / "s")
    turns = sum(message["role"] == "assistant" for n in range(60) for message in talk(n, 1 + n % 5))
    assert sum(learned(row).count(vocabulary.eos_id) for row in rows) == turns
    assert manifest["counts"]["documents"] == 62


@pytest.mark.parametrize("overlong", ["truncate", "drop", "split"])
def test_long_conversations_are_counted(home: Path, tmp_path: Path, overlong: Any) -> None:
    recipe = TokenizeRecipe(mode="sft", seq_len=160, overlong=overlong)
    manifest = tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "s", recipe)["manifest"]
    rows = rows_of(tmp_path / "s")
    kept = {name for row in rows for name in row["segment_documents"]}
    assert len(kept) + manifest["counts"]["documents_dropped"] == 62
    if overlong == "drop":
        assert manifest["dropped"]["too_long"] > 5
    elif overlong == "truncate":
        assert manifest["made"]["tokens_cut"] > 0
    else:
        assert manifest["made"]["windows"] > manifest["made"]["documents_split"] > 5
        offsets = [offset for row in rows for offset in row["segment_offsets"]]
        assert any(offsets)
    with pytest.raises(InputError, match="Raise seq_len"):
        tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "e", TokenizeRecipe(mode="sft", seq_len=160, overlong="error"))


def test_same_bytes_for_threads_and_batches(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, corpus in (("sft", "corpus"), ("preference", "pairs"), ("prompt", "pairs")):
        recipe = TokenizeRecipe(mode=mode, seq_len=512, holdout=0.2)  # type: ignore[arg-type]
        trees = []
        for number, (workers, size) in enumerate(((1, 2048), (2, 3), (2, 17))):
            monkeypatch.setattr(encode, "BATCH_ROWS", size)
            monkeypatch.setattr(tables, "_ROWS", size)
            tokenize_corpus(home / corpus, home / "tokenizer", tmp_path / f"{mode}{number}", recipe, workers=workers)
            trees.append(tree(tmp_path / f"{mode}{number}"))
        assert trees[0] == trees[1] == trees[2], mode
        again = tokenize_corpus(home / corpus, home / "tokenizer", tmp_path / f"{mode}0", recipe)
        assert again["parts_kept"] == again["parts"]
        assert tree(tmp_path / f"{mode}0") == trees[0]


def read(folder: Path, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"{kind}-*.arrow")):
        with pa.memory_map(str(path)) as source:
            found += pa.ipc.open_file(source).read_all().to_pylist()
    return found


def test_preferences_are_tables(home: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    recipe = TokenizeRecipe(mode="preference", seq_len=512)
    manifest = tokenize_corpus(home / "pairs", home / "tokenizer", tmp_path / "t", recipe)["manifest"]
    assert manifest["format"] == "codedev.tables/1"
    counts = manifest["counts"]
    assert counts["documents"] == 40 == counts["pairs"] + counts["judged"] + counts["rated"] + counts.get("dropped", 0)
    pairs, judged, rated = (read(tmp_path / "t", kind) for kind in ("pairs", "judged", "rated"))
    assert (len(pairs), len(judged), len(rated)) == (counts["pairs"], counts["judged"], counts["rated"])
    decode = vocabulary.tokenizer.decode
    for row in pairs:
        number = int(row["document"].partition("/")[2])
        assert row["position"] == number - 70
        assert talk(number, 2)[-1]["content"] in decode(row["chosen_ids"], skip_special_tokens=False)
        assert f"no {number}" in decode(row["rejected_ids"])
        assert talk(number, 2)[-2]["content"] in decode(row["prompt_ids"], skip_special_tokens=False)
    assert {row["label"] for row in judged} == {True, False}
    assert all(row["reward"] == int(row["document"].partition("/")[2]) / 100 for row in rated)
    assert manifest["dropped"].get("same_answers", 0) == sum(n == 75 and n % 4 not in (1, 2) for n in range(70, 110))


def test_prompts_are_tables(home: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    recipe = TokenizeRecipe(mode="prompt", seq_len=512, holdout=0.25)
    result = tokenize_corpus(home / "pairs", home / "tokenizer", tmp_path / "t", recipe)
    rows = read(tmp_path / "t", "prompts"), read(tmp_path / "t" / "heldout", "prompts")
    assert len(rows[0]) + len(rows[1]) == 40
    assert (len(rows[0]), len(rows[1])) == (result["manifest"]["counts"]["prompts"], result["heldout"]["counts"]["prompts"])
    assert not {row["document"] for row in rows[0]} & {row["document"] for row in rows[1]}
    text = vocabulary.tokenizer.decode(rows[0][0]["prompt_ids"], skip_special_tokens=False)
    assert text.endswith("<|im_start|>assistant\n")


def test_what_makes_no_sense_is_refused(home: Path, tmp_path: Path) -> None:
    for keys, message in (
        ({"mode": "preference", "overlong": "split"}, "split has no meaning"),
        ({"mode": "prompt", "mixture": {"epochs": {"web": 2}}}, "makes tables"),
        ({"mode": "sft", "kind_prefix": True}, "for mode pt"),
        ({"mode": "dpo"}, "mode"),
    ):
        with pytest.raises(RecipeError, match=message):
            check(keys, TokenizeRecipe, "recipe")
    with pytest.raises(InputError, match="no document gives a row for mode preference"):
        tokenize_corpus(home / "texts", home / "tokenizer", tmp_path / "t", TokenizeRecipe(mode="preference"))
    with pytest.raises(InputError, match="no text"):
        tokenize_corpus(home / "texts", home / "tokenizer", tmp_path / "s", TokenizeRecipe(mode="sft"))
    with pytest.raises(InputError, match="chatm: there is no such template"):
        tokenize_corpus(home / "corpus", home / "tokenizer", tmp_path / "u", TokenizeRecipe(mode="sft", chat=ChatRecipe(template="chatm")))
    plain = TokenizeRecipe(mode="sft", chat=ChatRecipe(plain=True))
    manifest = tokenize_corpus(home / "texts", home / "tokenizer", tmp_path / "p", plain)["manifest"]
    assert manifest["counts"]["documents"] == 8
    assert manifest["dropped"] == {}
