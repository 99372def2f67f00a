"""Bits per byte of documents beside a forward pass of plain transformers in float64, a document at a time, and beside the compressors."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import zstandard
from click.testing import CliRunner
from eval_support import FAMILIES, tiny
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from codedev import _recipe
from codedev._errors import InputError, RecipeError
from codedev.cli import cli
from codedev.eval import intervals
from codedev.eval.perplexity import bits_per_byte, gzip_bits_per_byte
from codedev.eval.recipe import EvalRecipe
from codedev.eval.run import evaluate, records_of
from codedev.train.compute import attention
from codedev.train.compute.loss import WithLoss
from codedev.train.data import open_shards
from codedev.train.use.lm import open_lm

SAMPLES = Path(__file__).parent.parent / "samples"


def documents() -> list[dict[str, Any]]:
    """Real text and code, and what is easily miscounted: a letter, blanks, other scripts, what looks like a special token."""
    odd = ["x", " ", "\n\n\n", "好" * 40, "naïve 😀 e\u0301", "a <|end|> b <|begin|>", "\u0000\u0001", "one\r\ntwo\r\n"]
    files = sorted(file for pattern in ("*.md", "*.py") for file in SAMPLES.rglob(pattern))[:12]
    texts = [file.read_text(errors="replace")[:3000] for file in files]
    texts = [text for text in texts if text.strip()]
    langs = ["en", "de", None]
    return [
        {"id": f"d{at}", "text": text, "lang": langs[at % 3], "source": "odd" if at < len(odd) else "files"}
        for at, text in enumerate(odd + texts)
    ]


def reference(model: Any, tokenizer: Tokenizer, text: str, window: int, *, begin: bool) -> float:
    """Bits of a document. Every token is told from what stands before it within its window: the window of the document's beginning, or one
    that ends a whole half further, of which the first half was told before."""
    ids = [*([1] if begin else []), *tokenizer.encode(text, add_special_tokens=False).ids, 0]
    bits = 0.0 if begin else math.log2(tokenizer.get_vocab_size())
    told = 1
    while told < len(ids):
        start = 0 if told == 1 else told - window // 2
        end = min(len(ids), start + window)
        with torch.no_grad():
            logits = model(torch.tensor([ids[start:end]])).logits[0].log_softmax(-1)
        for place in range(told, end):
            bits -= float(logits[place - 1 - start, ids[place]]) / math.log(2)
        told = end
    return bits


def evaluated(folder: Path, model: Path, **task: Any) -> tuple[dict[str, Any], pa.Table]:
    given = {"model": str(model), "out": str(folder / "out"), "tasks": [{"name": "t", "kind": "text", **task}]}
    recipe = _recipe.check(given, EvalRecipe, "eval.yaml")
    told = evaluate(recipe, folder, lambda path, template: open_lm(str(path), template))
    return told["tasks"]["t"]["scores"], records_of(folder / "out", "t")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("documents") / "documents.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in documents()))
    return file


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_bits_are_those_of_a_plain_forward_pass(tmp_path: Path, written: Path, family: str, begin: bool) -> None:
    model, window = tiny(tmp_path / "model", family, begin=begin, positions=256), 128
    scores, records = evaluated(tmp_path, model, paths=[str(written)], window=window)
    own = {row["id"]: row for row in documents()}
    assert set(records.column("id").to_pylist()) == set(own)
    assert max(records.column("tokens").to_pylist()) > 5 * window  # or windows would not be tried
    plain: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64, attn_implementation="eager")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    expected = {name: reference(plain, tokenizer, row["text"], window, begin=begin) for name, row in own.items()}
    for row in records.to_pylist():
        assert row["bytes"] == len(own[row["id"]]["text"].encode())
        assert row["score"] == pytest.approx(expected[row["id"]] / row["bytes"], rel=1e-6)
    whole = sum(expected.values()) / sum(len(row["text"].encode()) for row in own.values())
    assert scores[""]["bits_per_byte"]["value"] == pytest.approx(whole, abs=1e-6)


def test_figures_stand_beside_compressors_and_are_told_by_group(tmp_path: Path, written: Path) -> None:
    scores, records = evaluated(tmp_path, tiny(tmp_path / "model"), paths=[str(written)], by=["lang"])
    texts = {row["id"]: row["text"] for row in documents()}
    own = [texts[name] for name in records.column("id").to_pylist()]
    for row, text in zip(records.to_pylist(), own, strict=True):
        assert row["gzip"] == len(gzip.compress(text.encode(), 9, mtime=0))
        assert zstandard.ZstdDecompressor().decompress(zstandard.ZstdCompressor(level=19).compress(text.encode())) == text.encode()
        assert row["zstd"] == len(zstandard.ZstdCompressor(level=19).compress(text.encode()))
    assert scores[""]["gzip"]["value"] == pytest.approx(gzip_bits_per_byte(own))
    frame = records.to_pandas()
    for group, some in [("", frame), *((f"lang={name}", frame[frame["lang"] == name]) for name in ("en", "de"))]:
        told = scores[group]["bits_per_byte"]
        assert told["value"] == pytest.approx(some["bits"].sum() / some["bytes"].sum())
        assert told["n"] == len(some)
        assert told["low"] < told["value"] < told["high"]
    assert set(scores) == {"", "lang=en", "lang=de"}  # none of the documents without a language


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Documents of which the long ones are told better, so that a mean over documents would be another figure."""
    random, hits, runs = np.random.default_rng(0), 0, 120
    for _ in range(runs):
        size = random.lognormal(6, 0.5, 200)
        bits = size * (1 + random.gamma(2, 0.5, 200) + 100 / size)
        found = intervals.ratio(bits, size)
        assert found.value == pytest.approx(bits.sum() / size.sum())
        hits += found.low <= 2 + 100 / math.exp(6.125) <= found.high
    assert 0.89 < hits / runs < 0.98


@pytest.mark.parametrize("hits", [0, 1, 7, 10])
def test_wilsons_interval(hits: int) -> None:
    """Where p is as far from the share as its own normal error allows: the definition, solved by bisection."""
    found = intervals.share(np.arange(10) < hits)

    def far(p: float) -> float:
        return abs(p - hits / 10) - 1.959963984540054 * math.sqrt(p * (1 - p) / 10)

    for end, (low, high) in ((found.low, (0.0, hits / 10)), (found.high, (1.0, hits / 10))):
        if end not in (0.0, 1.0):
            assert abs(far(end)) < 1e-12
        else:
            assert hits in (0, 10)
        assert min(low, high) <= end <= max(low, high)


def test_a_finished_task_is_not_asked_again_and_an_interrupted_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, file = tiny(tmp_path / "model"), tmp_path / "many.jsonl"
    file.write_text("".join(json.dumps({"id": f"d{at}", "text": f"document {at}"}) + "\n" for at in range(600)))
    given = {"model": str(model), "out": "out", "tasks": [{"name": "t", "kind": "text", "paths": ["many.jsonl"], "by": []}]}
    asked: list[int] = []

    class Counting:
        """A local model of which a call is counted, and the third is interrupted."""

        def __init__(self) -> None:
            self._lm = open_lm(str(model))
            self.name, self.identity = self._lm.name, self._lm.identity

        def read(self, texts: Any, window: int, progress: Any) -> Any:
            asked.append(len(texts))
            if len(asked) == 3:
                raise KeyboardInterrupt
            return self._lm.read(texts, window, progress)

    def run(**changes: Any) -> dict[str, Any]:
        recipe = _recipe.check({**given, **changes}, EvalRecipe, "eval.yaml")
        return evaluate(recipe, tmp_path, lambda path, template: Counting())  # type: ignore[arg-type, return-value]

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not (tmp_path / "out/results.json").exists()
    first = run()
    assert asked == [256, 256, 88, 88]
    assert not run()["tasks"]["t"]["again"]
    assert asked == [256, 256, 88, 88]
    assert records_of(tmp_path / "out", "t").num_rows == 600
    run(out="other")
    assert (tmp_path / "other/results.json").read_bytes() == (tmp_path / "out/results.json").read_bytes()  # as if never interrupted
    file.write_text(file.read_text().replace("document 7", "document seven"))
    assert run()["tasks"]["t"]["key"] != first["tasks"]["t"]["key"]
    assert sum(asked) == 256 + 256 + 88 + 88 + 600 + 600


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({}, "give `shards`, `corpus` or `paths`"),
        ({"paths": ["a"], "corpus": "c"}, "give `shards`, `corpus` or `paths`"),
        ({"paths": ["nowhere.jsonl"]}, "no such file"),
        ({"paths": ["empty.txt"]}, "no text"),
        ({"paths": ["rows.jsonl"], "text": "body"}, "no text in 'body'"),
        ({"paths": ["rows.jsonl"], "window": 9999}, "positions"),
        ({"corpus": "nowhere"}, "nowhere"),
        ({"paths": ["rows.jsonl"], "windows": 3}, "window"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, task: dict[str, Any], says: str) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n')
    with pytest.raises((InputError, RecipeError), match=says):
        evaluated(tmp_path, tiny(tmp_path / "model"), **task)
    assert not (tmp_path / "out/results.json").exists()


def test_held_out_shards_are_told_as_training_tells_them(tmp_path: Path) -> None:
    """One definition: documents that a shard holds whole cost the same, packed into rows or read alone."""
    rows = [{"key": f"d{at}", "text": row["text"][:300].strip() + " end"} for at, row in enumerate(documents() * 3)]
    rows = [row | {"text": f"{at} {row['text']}"} for at, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"name": "rows", "type": "tables", "paths": ["rows.jsonl"], "text": "text"}
    (tmp_path / "corpus.yaml").write_text(json.dumps({"name": "c", "sources": [source]}))
    model, run = tiny(tmp_path / "model", begin=False), CliRunner()  # as a run on such shards leaves it
    for line in (
        f"corpus build {tmp_path}/corpus.yaml --out {tmp_path}/corpus --workers 1 -q",
        f"tokenize {tmp_path}/corpus --tokenizer {model} --eos <|end|> --out {tmp_path}/shards --seq-len 512 --holdout 0.4 -q",
    ):
        done = run.invoke(cli, line.split())
        assert done.exit_code == 0, done.output
    heldout = open_shards((tmp_path / "shards/heldout",))
    call = attention.Call(WithLoss(AutoModelForCausalLM.from_pretrained(model)), "sdpa", torch.device("cpu"), torch.float32)
    packed = bits_per_byte(lambda ids, positions: losses(call, ids, positions), heldout)
    scores, records = evaluated(tmp_path, model, shards=str(tmp_path / "shards/heldout"))
    assert records.num_rows > 10
    assert sum(records.column("bytes").to_pylist()) == packed.text_bytes
    assert packed.charged == records.num_rows  # no document is cut
    assert scores[""]["bits_per_byte"]["value"] == pytest.approx(packed.bits_per_byte, rel=1e-6)
    whole, _ = evaluated(tmp_path, model, corpus=str(tmp_path / "corpus"), limit=None)
    assert whole[""]["bits_per_byte"]["n"] > records.num_rows


def losses(call: attention.Call, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """-ln p of every token from those before it in its segment, by logits of the packed rows."""
    with torch.no_grad():
        logs = call(torch.from_numpy(ids), torch.from_numpy(positions)).float().log_softmax(-1)
    told = logs[:, :-1].gather(-1, torch.from_numpy(ids[:, 1:, None]))[..., 0]
    return np.concatenate([np.zeros((len(ids), 1)), -told.double().numpy()], 1)
