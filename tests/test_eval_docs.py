"""docs/evaluation.md is true: its files are written, its commands run in their order, and their output has the form it shows.
The sample recipe shows every key, and docs/recipes.md names it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from eval_support import tiny
from test_docs_training import commands, files

from codedev import _recipe
from codedev.corpus.questions import read_questions
from codedev.eval.recipe import AnswerTask, ChoiceTask, CodeTask, Endpoint, EvalRecipe, HarnessTask, TextTask

ROOT = Path(__file__).parent.parent
PAGE, SAMPLE = ROOT / "docs/evaluation.md", ROOT / "samples/recipes/eval.yaml"
KINDS = {"text": TextTask, "choice": ChoiceTask, "answer": AnswerTask, "code": CodeTask, "lm_eval": HarnessTask}
NUMBER = re.compile(r"[-−+]?\d[\d.]*")


def form(lines: list[str]) -> list[str]:
    """Without numbers and rules of tables, and blanks as one."""
    masked = (NUMBER.sub("0", " ".join(line.split())) for line in lines)
    return [line for line in masked if line and not set(line) <= set("─ ")]


def alike(shown: list[str], told: list[str]) -> bool:
    """Whether `told` has the lines `shown`, among which … stands for any others."""
    pattern = "".join("(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + "\n" for line in shown)
    return re.fullmatch(pattern, "".join(line + "\n" for line in told)) is not None


@pytest.mark.slow
def test_every_command_of_the_page(tmp_path: Path) -> None:
    for package in ("lm_eval", "fastapi", "openai"):
        pytest.importorskip(package)
    text = PAGE.read_text()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    tiny(tmp_path / "runs/first", "llama")
    tiny(tmp_path / "runs/tuned", "qwen3")
    for folder in ("first", "tuned"):
        tokens = {"eos_token": "<|end|>", "bos_token": "<|begin|>", "tokenizer_class": "PreTrainedTokenizerFast"}
        (tmp_path / "runs" / folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    for name, content in files(text).items():
        (tmp_path / name).write_text(content.replace("8000", port))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    server = None
    ran = 0
    try:
        for line, shown in commands(text):
            line = line.replace("8000", port)
            if line.endswith("&"):
                server = subprocess.Popen(
                    line.rstrip(" &").split(), cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                answers(port, server)
                continue
            done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
            told = form([*done.stdout.replace(f"{tmp_path}/", "").splitlines()])
            assert not shown or alike(form(shown), told), f"{line}\n{done.stdout}"
            assert max(map(len, done.stdout.splitlines())) <= 80 or "--json" in line
            ran += 1
    finally:
        if server is not None:
            server.terminate()
            server.wait(30)
    assert ran >= 6
    assert (tmp_path / "compared.html").stat().st_size > 10_000
    assert json.loads((tmp_path / "evals/served/results.json").read_text())["model"]["name"] == "first"


def answers(port: str, server: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
            return
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.2)


def test_the_sample_recipe_shows_every_key() -> None:
    data, text = yaml.safe_load(SAMPLE.read_text()), SAMPLE.read_text()
    recipe = _recipe.load(SAMPLE, EvalRecipe)
    assert set(data) == set(EvalRecipe.model_fields)
    assert {task.kind for task in recipe.tasks} == set(KINDS)
    for task in data["tasks"]:
        assert set(task) == set(KINDS[task["kind"]].model_fields), task["name"]
    for key in Endpoint.model_fields:
        assert f"{key}:" in text


def test_the_reference_names_every_key() -> None:
    page = (ROOT / "docs/recipes.md").read_text().split("\n## Evaluation\n")[1].split("\n## ")[0]
    for model in (EvalRecipe, Endpoint, *KINDS.values()):
        missing = [key for key in model.model_fields if not re.search(rf"\b{key}\b", page)]
        assert not missing, (model.__name__, missing)


def test_sample_questions_are_read_whole() -> None:
    for name, kind, count in (("choices", "choice", 8), ("sums", "answer", 4), ("programs", "code", 2)):
        found = read_questions([ROOT / f"samples/evaluation/{name}.jsonl"])
        assert found.table.column("kind").to_pylist() == [kind] * count
        assert not found.left_out
