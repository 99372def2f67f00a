"""Models of the hub's cache, by their ids and without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_train_examples as examples
from train_support import recipe

from codedev._errors import InputError
from codedev.train import run
from codedev.train.model_path import located

HASH = "a" * 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache as huggingface_hub lays it out: snapshots of links to blobs; with a pickle and code beside, which nothing may read."""
    made = tmp_path_factory.mktemp("hub")
    examples.make_tokenizer(made, 420)
    examples.write_rows(made / "rows.jsonl", [{"instruction": f"Sort {i}", "output": f"order {i}"} for i in range(40)])
    data = {"tables": "rows.jsonl", "tokenizer": "tokenizer", "template": "chatml", "seq_len": 48}
    run(recipe("base", stage="sft", model={"config": examples.MODEL}, data=data, run__steps=2), made)
    repository = made / "home/hub/models--small--model"
    snapshot = repository / "snapshots" / HASH
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    for name in ("main", "v2"):
        (repository / "refs" / name).write_text(HASH)
    for number, file in enumerate(sorted((made / "base/model").iterdir())):
        shutil.copyfile(file, repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    (snapshot / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR.")
    (snapshot / "modeling_small.py").write_text("raise SystemExit('run')\n")
    return made


@pytest.mark.parametrize("name", ["small/model", "small/model@v2", f"small/model@{HASH}"])
def test_an_id_is_found_in_the_cache(home: Path, name: str) -> None:
    code = f"from codedev.train.model_path import located; print(located({name!r}, __import__('pathlib').Path('.')))"
    assert _python(home, code).strip() == str(home / "home/hub/models--small--model/snapshots" / HASH)


def test_a_run_and_generate_take_an_id(home: Path) -> None:
    data = {"tables": "rows.jsonl", "template": "chatml", "seq_len": 48}
    text = recipe("tuned", stage="sft", model={"path": "small/model"}, tune="lora", data=data, run__steps=2).model_dump_json()
    (home / "tuned.json").write_text(text)
    assert "tuned/model" in _codedev(home, "train", "tuned.json", "-q")
    assert _codedev(home, "generate", "small/model@v2", "--prompt", "Sort", "--max-tokens", "3", "-q").startswith("Sort")
    assert not (home / "pwned").exists()


def test_a_folder_comes_first_and_what_is_nowhere_is_told(home: Path, tmp_path: Path) -> None:
    (tmp_path / "small/model").mkdir(parents=True)
    assert located("small/model", tmp_path) == str(tmp_path / "small/model")
    assert located("../x", tmp_path / "y") == str(tmp_path / "x")
    with pytest.raises(InputError, match=r"no such model.*hf download OWNER/NAME"):
        run(recipe("none", stage="sft", model={"path": "nobody/nothing"}, data={"tables": "rows.jsonl"}), home)


def _environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HF_HOME": str(home / "home"),
        "OMP_NUM_THREADS": "1",
        "http_proxy": "http://127.0.0.1:1",
        "https_proxy": "http://127.0.0.1:1",
    }


def _python(home: Path, code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], env=_environment(home), capture_output=True, text=True, check=True, cwd=home).stdout


def _codedev(home: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "codedev", *words], env=_environment(home), capture_output=True, text=True, cwd=home, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
