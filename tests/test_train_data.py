"""Shards, the order of rows and the schedule: no torch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from train_support import PAD, SEQ_LEN, VOCAB, recipe, write_shards

from codedev._errors import InputError, RecipeError
from codedev.train.data import open_shards
from codedev.train.order import permuted, shuffled
from codedev.train.recipe import OptimRecipe, run_steps, step_rows
from codedev.train.schedule import lr_at
from codedev.train.watch.explain import documents_of_step


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 1000, 4097])
def test_the_permutation_is_a_bijection(n: int) -> None:
    image = permuted(np.arange(n), n, b"key")
    assert sorted(image.tolist()) == list(range(n))
    if n >= 1000:
        assert permuted(np.arange(n), n, b"other").tolist() != image.tolist()
        # A random permutation leaves one row in place on average and correlates with nothing: 5 / sqrt(n).
        assert (image == np.arange(n)).sum() < 10
        assert abs(np.corrcoef(image, np.arange(n))[0, 1]) < 5 / math.sqrt(n)
        assert abs(np.corrcoef(image[1:], image[:-1])[0, 1]) < 5 / math.sqrt(n)


def test_the_order_is_a_function_of_the_position() -> None:
    stream = shuffled(np.arange(35), 10, seed=3)
    for epoch in range(3):
        assert sorted(stream[10 * epoch : 10 * epoch + 10].tolist()) == list(range(10))
    assert stream[:10].tolist() != stream[10:20].tolist()
    assert np.concatenate([shuffled(np.arange(i, i + 7), 10, seed=3) for i in range(0, 35, 7)]).tolist() == stream.tolist()
    assert shuffled(np.arange(35), 10, seed=4).tolist() != stream.tolist()


@pytest.mark.parametrize("dtype", [pa.uint16(), pa.uint32()])
def test_rows_against_brute_force(tmp_path: Path, dtype: pa.DataType) -> None:
    spans = [None if row % 3 == 0 else [] if row % 3 == 1 else [{"start": 2, "end": 9}, {"start": 30, "end": 31}] for row in range(40)]
    packed = write_shards(tmp_path / "s", dtype=dtype, spans=spans)
    shards = open_shards((tmp_path / "s",))
    numbers = np.random.default_rng(1).permutation(40)
    rows = shards.read(numbers)
    for at, number in enumerate(numbers):
        ids, positions, targets, real = [], [], [], []
        for _, _, tokens in packed[number]:
            for i, token in enumerate(tokens):
                t = len(ids)
                spanned = spans[number] is None or any(span["start"] <= t < span["end"] for span in spans[number])
                ids.append(token)
                positions.append(i)
                targets.append(i > 0 and spanned)
                real.append(True)
        padding = SEQ_LEN - len(ids)
        assert rows.input_ids[at].tolist() == ids + [PAD] * padding
        assert rows.positions[at].tolist() == positions + list(range(padding))
        assert rows.targets[at].tolist() == targets + [False] * padding
        assert rows.real[at].tolist() == real + [False] * padding
        assert rows.text_bytes[at] == sum(2 for token in ids if token not in (0, 1))


def test_several_directories_are_one_stream(tmp_path: Path) -> None:
    a, b = write_shards(tmp_path / "a", rows=10), write_shards(tmp_path / "b", rows=5, seed=1)
    shards = open_shards((tmp_path / "a", tmp_path / "b"))
    assert shards.rows == 15
    for number, segments in enumerate(a + b):
        assert [(s.document, s.offset, s.end - s.start) for s in shards.segments(number)] == [(n, o, len(t)) for n, o, t in segments]
    assert shards.place_of(12) == (tmp_path / "b", 2)


def test_a_step_names_its_documents(tmp_path: Path) -> None:
    packed = write_shards(tmp_path / "shards")
    import yaml

    (tmp_path / "run").mkdir()
    rewritten = recipe(directory=".", data={"shards": "../shards"}).model_dump(mode="json")
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(rewritten))
    segments = documents_of_step(tmp_path / "run", 3)
    numbers = shuffled(np.arange(16, 24), 40, seed=0).tolist()
    assert [(s["document"], s["end"] - s["start"]) for s in segments] == [(n, len(t)) for row in numbers for n, _, t in packed[row]]
    shards = open_shards((tmp_path / "shards",))
    assert sum(s["end"] - s["start"] for s in segments) == shards.read(np.array(numbers)).real.sum()


def test_bad_shards_are_one_clear_line(tmp_path: Path) -> None:
    def fault(*dirs: str) -> str:
        def read_all() -> None:
            shards = open_shards(tuple(tmp_path / name for name in dirs))
            shards.read(np.arange(shards.rows))

        with pytest.raises(InputError) as caught:
            read_all()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "there is no such directory" in fault("nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no manifest.json" in fault("empty")
    write_shards(tmp_path / "good")
    write_shards(tmp_path / "format", format="webdataset")
    assert "'webdataset'" in fault("format")
    write_shards(tmp_path / "short", seq_len=32)
    assert "seq_len is 32" in fault("good", "short")
    write_shards(tmp_path / "other", tokenizer={"file": "tokenizer.json", "hash": "x"})
    assert "another tokenizer" in fault("good", "other")
    write_shards(tmp_path / "rows", files=1)
    manifest = (tmp_path / "rows" / "manifest.json").read_text()
    (tmp_path / "rows" / "manifest.json").write_text(manifest.replace('"rows": 40, "hash"', '"rows": 41, "hash"'))
    assert "has 40 rows, its manifest says 41" in fault("rows")
    write_shards(tmp_path / "cut")
    whole = (tmp_path / "cut" / "shard-00001.arrow").read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut" / "shard-00001.arrow").write_bytes(whole[:size])
        assert "shard-00001.arrow: is damaged or cut short" in fault("cut")
    (tmp_path / "cut" / "shard-00001.arrow").unlink()
    assert "named in the manifest and missing" in fault("cut")
    write_shards(tmp_path / "ids", vocab_size=VOCAB - 40)
    assert "its vocabulary ends at 210" in fault("ids")
    write_shards(tmp_path / "json")
    (tmp_path / "json" / "manifest.json").write_text("{")
    assert "is not JSON" in fault("json")
    write_shards(tmp_path / "field", vocab_size=None)
    assert "vocab_size" in fault("field")
    write_shards(tmp_path / "outside", tokenizer={"file": "../../secret", "hash": "h"})
    assert "tokenizer.file" in fault("outside")
    write_shards(tmp_path / "none", rows=0)
    assert "hold no rows" in fault("none")


def test_schedules() -> None:
    wsd = OptimRecipe(lr=1.0, schedule="wsd", warmup=4, cooldown=0.25)
    rates = [lr_at(wsd, step, 40) for step in range(40)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert set(rates[4:31]) == {1.0}
    assert rates[30:] == pytest.approx([1 - math.sqrt(i / 10) for i in range(10)])
    cosine = OptimRecipe(lr=2.0, schedule="cosine", warmup=0, final=0.1)
    assert lr_at(cosine, 0, 100) == 2.0
    assert lr_at(cosine, 50, 100) == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert lr_at(cosine, 100, 100) == pytest.approx(0.2)
    constant = OptimRecipe(lr=2.0, schedule="constant", warmup=0.1)
    assert [lr_at(constant, step, 20) for step in (0, 1, 2, 19)] == [1.0, 2.0, 2.0, 2.0]


def test_recipes_say_what_is_wrong() -> None:
    cases = {
        "there is no stage 'dpoo'": {"stage": "dpoo"},
        "there is no tuning 'loar'": {"tune": "loar"},
        "unknown key 'stepz' in run: did you mean 'steps'?": {"run__stepz": 1},
        "run.steps is 0": {"run__steps": 0},
        "either `steps` or `epochs`": {"run__epochs": 1.0},
        "either `rows` or `tokens`": {"batch__tokens": 64},
        "either `config`": {"model__path": "x"},
        "needs `model_type`": {"model": {"config": {"hidden_size": 3}}},
    }
    for message, changes in cases.items():
        with pytest.raises(RecipeError, match=message.replace("?", r"\?")) as caught:
            recipe(**changes)
        assert "\n" not in str(caught.value)


def test_batches_and_lengths() -> None:
    by_tokens = recipe(batch={"tokens": 512})
    assert step_rows(by_tokens, 64) == 8
    with pytest.raises(RecipeError, match="Nearest: 500"):
        step_rows(by_tokens, 100)
    assert run_steps(recipe(run__steps=None, run__epochs=1.5), rows=40, rows_a_step=8) == 8


def test_importing_training_leaves_torch_alone() -> None:
    import subprocess
    import sys

    code = "import sys, codedev.train, codedev.train.watch.explain, codedev.eval.perplexity; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
