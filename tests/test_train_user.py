"""What a person meets who trains a model by the guide: what is told of held-out answers, mistakes and what to do about them, tables
in a narrow terminal, a conversation that is not lost, a server that says why it refuses."""

from __future__ import annotations

import builtins
import io
import itertools
import json
import os
import re
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from test_train_tune import conversations, sft

from codedev._errors import InputError, RunError
from codedev._terminal import watch
from codedev.cli import cli
from codedev.commands import use
from codedev.eval.perplexity import bits_per_byte
from codedev.train import run
from codedev.train.data import open_shards
from codedev.train.model_path import config_of
from codedev.train.use.chat import Talk, open_chat
from codedev.train.use.generate import Sampling
from codedev.train.watch import show

QUESTIONS = ("Add", "Subtract", "Multiply", "Divide")
CONFIG = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 160,
    "initializer_range": 0.1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rows.jsonl, its tokenizer and shards; talks, a run of stage sft on the table; base, one of stage pt on the shards."""
    folder = tmp_path_factory.mktemp("user")
    rows = [
        {"instruction": f"{QUESTIONS[n % 4]} {n} and {n + 1}.", "output": f"{QUESTIONS[n % 4].lower()}({n}, {n + 1})"} for n in range(60)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    conversations(folder, [str(folder / "rows.jsonl")], 400)
    base = sft("base", stage="pt", model={"config": CONFIG}, run__steps=6)
    (folder / "base.yaml").write_text(yaml.safe_dump(base.model_dump(mode="json", exclude={"data": {"prepared"}})))
    run(base, folder)
    tables = {"tables": "rows.jsonl", "template": "chatml", "seq_len": 128, "holdout": 0.2}
    run(sft("talks", model={"path": "base/model"}, data=tables, run__steps=8, run__eval_every=4), folder)
    return folder


def call(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def told(folder: Path, *changes: str) -> str:
    """What the command line says of a mistake in the recipe of `base`."""
    done = call("train", folder / "base.yaml", "-q", *(word for change in changes for word in ("--set", change)))
    assert isinstance(done.exception, InputError | RunError), done.output
    return str(done.exception)


# What was held out


def test_the_held_out_loss_of_answers_is_that_of_the_answers_alone(folder: Path) -> None:
    """Against the saved model in plain transformers, each conversation by itself."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder / "talks/model").eval()
    shards = open_shards((folder / "talks/data/shards/heldout",))
    total, count, questions = 0.0, 0, 0
    rows = shards.read(np.arange(shards.rows))
    for ids, positions, real, targets in zip(rows.input_ids, rows.positions, rows.real, rows.targets, strict=True):
        starts = [*np.flatnonzero((positions == 0) & real), int(real.sum())]
        for start, end in itertools.pairwise(starts):
            with torch.no_grad():
                logits = model(torch.tensor(ids[None, start:end])).logits[0]
            nats = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[start + 1 : end]), reduction="none").numpy()
            learned = targets[start + 1 : end]
            total, count, questions = total + float(nats[learned].sum()), count + int(learned.sum()), questions + int((~learned).sum())
    assert count > 20 and questions > count  # noqa: PT018
    rows_told = [json.loads(line) for line in (folder / "talks/metrics.jsonl").read_text().splitlines()]
    measured = [(row["step"], row["heldout_answer_loss"]) for row in rows_told if "heldout_answer_loss" in row]
    assert [step for step, _ in measured] == [0, 4, 8]
    assert measured[-1][1] == pytest.approx(total / count, rel=1e-4)
    again = run(sft("talks", model={"path": "base/model"}, data=_tables(), run__steps=8, run__eval_every=4), folder)
    assert again["heldout_answer_loss"] == {"before": measured[0][1], "after": measured[-1][1]}
    assert "Held-out loss of answers" in (folder / "talks/index.html").read_text()


def _tables() -> dict[str, Any]:
    return {"tables": "rows.jsonl", "template": "chatml", "seq_len": 128, "holdout": 0.2}


def test_a_mean_over_loss_spans_by_hand(folder: Path) -> None:
    shards = open_shards((folder / "shards",))
    rows = shards.read(np.arange(shards.rows))
    within = rows.targets

    def score(input_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return np.where(within, 3.0, 7.0)

    found = bits_per_byte(score, shards, shards.rows)
    assert (found.targets, found.nats_per_target) == (int(within.sum()), 3.0)
    assert 3 < found.nats_per_token < 7


# A run, again


def test_a_finished_run_says_so_and_keeps_its_page(folder: Path) -> None:
    done = call("train", folder / "base.yaml")
    assert done.exit_code == 0
    assert f"{folder / 'base'}: is finished, at step 6: nothing is left to train" in done.stderr
    page = (folder / "base/index.html").read_text()
    assert "it was finished when last started" in page
    assert "since it was last started" not in page


def test_others_can_read_what_a_run_leaves(folder: Path) -> None:
    """The writer of safetensors makes files that their owner alone can read."""
    umask = os.umask(0o022)
    os.umask(umask)
    files = [file for part in ("base/model", "base/checkpoints", "talks/model") for file in (folder / part).rglob("*") if file.is_file()]
    assert any(file.suffix == ".safetensors" for file in files)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~umask}


# Mistakes


def test_mistakes_in_a_recipe_say_what_to_do(folder: Path) -> None:
    assert "with model.config.hidden_size 32, the recipe says 16. Choose" in told(folder, "model.config.hidden_size=16")
    assert "with model.config.rope_theta None, the recipe says 5. Choose" in told(folder, "model.config.rope_theta=5")
    more = told(folder, "run.steps=9", "optim.schedule=cosine")
    assert more.endswith(f"or set the recipe back; or train on in another run from model.path {folder / 'base/model'}")
    assert told(folder, "run.dir=rows.jsonl").endswith("Choose another run.dir")
    as_tables = ("stage=sft", "run.dir=new", "model.config=null", "model.path=base/model", "data.shards=null")
    assert "nowhere.csv: no such file or directory. Check data.tables" in told(folder, *as_tables, "data.tables=nowhere.csv")


def test_a_run_or_an_adapter_in_the_place_of_a_model(folder: Path, tmp_path: Path) -> None:
    for change in (("run.dir=new",), ("run.dir=new", "stage=sft", "data.shards=null", "data.tables=rows.jsonl")):
        said = told(folder, "model.config=null", "model.path=base", *change)
        assert said == f"{folder / 'base'}: is a run. Set model.path to the model in it, {folder / 'base/model'}"
    assert config_of(folder / "base/model") == folder / "base/model/config.json" == config_of(folder / "base/model/config.json")
    (tmp_path / "tuned/model").mkdir(parents=True)
    (tmp_path / "tuned/model/adapter_config.json").write_text("{}")
    for path in (tmp_path / "tuned", tmp_path / "tuned/model"):
        with pytest.raises(InputError, match=rf"{path}: is an adapter.* codedev export {path} --merge dequant --out DIR, and set"):
            config_of(path)
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=r"there is no such .* Give model.path a directory"):
            config_of(path)


def test_a_directory_in_the_place_of_a_recipe(folder: Path) -> None:
    assert str(call("train", folder).exception) == f"{folder}: cannot be read as a recipe: it is a directory. Give a YAML file"
    assert str(call("train", folder / "base").exception).endswith(f"a YAML file: {folder / 'base/recipe.yaml'}")


# What is shown


def test_the_plan_fits_a_narrow_terminal(folder: Path) -> None:
    done = call("train", folder / "base.yaml", "--dry-run", "--set", "run.dir=dry")
    table = done.stdout.split("Memory of a process")[1].splitlines()[1:6]
    assert [word for word in table[1].split() if word] == ["weights", "gradients", "optimizer", "activations", "logits", "at", "most"]
    assert max(len(line.rstrip()) for line in table) <= 80


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_long_note_leaves_the_bars_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", _Terminal())
    with watch() as progress:
        progress("data", 7, 7, "120 of 120 rows; 4,468 of 10,554 tokens supervised; template chatml; " * 3)
        progress("train", 50, 100, "loss 3.214  36,232 tokens/s  MFU 41.2%")
    assert isinstance(sys.stderr, _Terminal)
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sys.stderr.getvalue()).replace("\r", "\n").splitlines()]
    data, train = lines[-2:]
    assert data.startswith("data         ━━━━━━") and "100%" in data and data.endswith("…")  # noqa: PT018
    assert train.startswith("train        ━━━") and " 50%" in train and "loss 3.214" in train  # noqa: PT018
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("losses", [True, False])
def test_documents_of_a_step_in_a_narrow_terminal(
    losses: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "source@88d9ee03c553d10a:unittest/test/test_result.py"
    loss, supervised = (3.5, 127) if losses else (None, None)
    one = {"document": name, "loss": loss, "tokens": 128, "supervised": supervised, "row": 1940, "start": 0, "end": 128, "offset": 12_000}
    step = {"step": 3, "run_dir": "r", "weights": None, "why": "none", "documents": [one, one]}
    monkeypatch.setenv("COLUMNS", "80")
    show.show_step(step, 1)
    table = capsys.readouterr().out
    assert "from its token" in table.splitlines()[4]  # into a file: the table, however wide
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    show.show_step(step, 1)
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("Documents")
    assert lines[start + 1].split() == (["3.5000", name] if losses else [name])
    learned = ", 127 supervised" if losses else ""
    assert lines[start + 2].strip() == f"128 tokens{learned}; row 1,940, 0-128; from its token 12,000"
    assert lines[start + 3] == "1 more: --limit, or --json for all"
    assert max(map(len, lines[start:])) <= 80


# In use


def test_a_single_prompt_of_a_model_that_talks(folder: Path) -> None:
    for model, hinted in (("talks", True), ("base", False)):
        done = call("generate", folder / model, "--prompt", "Add", "--max-tokens", "2")
        assert done.exit_code == 0
        assert (f"codedev chat {folder / model} or --prompts" in done.stderr) is hinted
        assert "codedev chat" not in done.stdout + call("generate", folder / model, "-q", "--prompt", "Add", "--max-tokens", "2").stderr


def test_ctrl_c_at_the_prompt_loses_no_conversation(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(open_chat(folder / "talks"), Sampling(max_new_tokens=3, temperature=0))
    file = tmp_path / "talk.jsonl"
    typed: Iterator[Any] = iter(
        [
            f"/save {file}",
            "Add 1 and 2.",
            '"""',
            "half",
            KeyboardInterrupt,
            "one \\",
            KeyboardInterrupt,
            "Divide 3",
            f"/save {file}",
            EOFError,
        ]
    )
    prompts = []

    def typing(prompt: str) -> str:
        prompts.append(prompt)
        now = next(typed)
        if isinstance(now, str):
            return now
        raise now

    monkeypatch.setattr(builtins, "input", typing)
    said = [talk.line(line, lambda text: None) for line in use._typed(talk)]
    assert said[0] == "not saved: nothing was said yet"
    assert [one["content"] for one in json.loads(file.read_text())["messages"] if one["role"] == "user"] == ["Add 1 and 2.", "Divide 3"]
    assert prompts == ["> ", "> ", "> ", "... ", "... ", "> ", "... ", "> ", "> ", "> "]


def test_commands_of_a_conversation(folder: Path) -> None:
    talk = Talk(open_chat(folder / "talks"), Sampling(max_new_tokens=3, temperature=0))
    say: Callable[[str], str | None] = lambda line: talk.line(line, lambda text: None)  # noqa: E731
    assert say("/help") == talk.HELP
    assert max(map(len, talk.HELP.splitlines())) <= 80
    assert say("/nonsense") == f"there is no /nonsense\n{talk.HELP}"
    assert say("/save") == "/save needs the name of a file"


def test_a_port_that_is_taken(folder: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("openai")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        failed = call("serve", folder / "no-model-is-read", "--port", port).exception
    assert isinstance(failed, RunError)
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use. Choose another --port" in str(failed)


def test_the_server_says_why_it_refuses(folder: Path) -> None:
    """In this process, with real requests."""
    pytest.importorskip("fastapi")
    pytest.importorskip("openai")
    from codedev.train.use.serve import serve

    def asked(port: int, where: str, **body: Any) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/{where}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        assert refused.value.code == 400
        return str(json.loads(refused.value.read())["error"]["message"])

    hello = [{"role": "user", "content": "Add"}]
    with _serving(serve, folder / "base") as port:
        assert (
            asked(port, "chat/completions", messages=hello) == "'base' has no chat template, it was not tuned to talk. Use /v1/completions"
        )
        assert "'base'" in asked(port, "completions", prompt="Add", model="gpt")
    template = folder / "talks/model/chat_template.jinja"
    whole = template.read_text()
    try:
        template.write_text("{% if messages|length > 6 %}{{ raise_exception('six messages at most') }}{% endif %}" + whole)
        with _serving(serve, folder / "talks") as port:
            said = asked(port, "chat/completions", messages=hello * 7)
            assert said == "the template refuses the conversation: chat_template.jinja: six messages at most"
    finally:
        template.write_text(whole)


class _serving:  # noqa: N801
    def __init__(self, serve: Callable[..., Any], model: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.server = serve(model, "127.0.0.1", self.port, background=True)

    def __enter__(self) -> int:
        ends = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < ends
                time.sleep(0.05)
            else:
                return self.port

    def __exit__(self, *_: object) -> None:
        self.server.kill_server()
