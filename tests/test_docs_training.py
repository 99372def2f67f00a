"""docs/training.md and docs/alignment.md, which goes on from it, are true: their files are written, their commands run in their order on
real data, and their output has the form they show. A page of feedback is judged by a program in the place of a person."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PAGE, ALIGNMENT = (Path(__file__).parent.parent / "docs" / name for name in ("training.md", "alignment.md"))
CODE = ("click", "express", "flask", "requests", "rust-serde")
ALPACA = "instruction/sahil280114__codealpaca/data/code_alpaca_2k.json"
# Run with a fifth of the page's steps: numbers are not compared.
SHORTER = {"steps: 200, save_every: 100": "steps: 40, save_every: 20", "epochs: 1}": "epochs: 0.1}", "--step 150": "--step 30"}
NUMBER = re.compile(r"-?\d[\d.,:]*(?:e[-+]?\d+)?%?")


class Command(NamedTuple):
    line: str
    shown: list[str]


def files(page: str) -> dict[str, str]:
    """What stands in a block behind "`name`:"."""
    return dict(re.findall(r"^`([\w.-]+)`:\n\n```\w+\n(.*?)^```", page, re.M | re.S))


def commands(page: str) -> list[Command]:
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            lines = part.rstrip("\n").split("\n")
            end = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
            found.append(Command("\n".join(lines[: end + 1]), lines[end + 1 :]))
    return found


def form(lines: list[str]) -> list[str]:
    """Without numbers, rules of tables, blanks at the ends and between columns."""
    masked = (NUMBER.sub("0", " ".join(line.split())) for line in lines)
    return [line for line in masked if line and not set(line) <= set("─ ")]


def alike(shown: list[str], told: list[str]) -> bool:
    """Whether `told` has the lines `shown`, among which … stands for any others."""
    pattern = "".join("(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + "\n" for line in shown)
    return re.fullmatch(pattern, "".join(line + "\n" for line in told)) is not None


def test_the_comparison_sees_differences() -> None:
    assert alike(form(["a  1.5", "…", "b 2"]), form(["a 7", "c", "d", "b 9"]))
    assert alike(form(["a … 3"]), form(["a b c 4"]))
    for told in (["a 7", "b 9", "e"], ["b 7", "b 9"], ["a x", "b 9"]):
        assert not alike(form(["a  1.5", "…", "b 2"]), form(told))


@pytest.mark.parametrize("page", [PAGE, ALIGNMENT], ids=["training", "alignment"])
def test_every_command_of_the_page_is_one(page: Path) -> None:
    """Fast: names of commands and their options."""
    from codedev.cli import cli

    for command in commands(page.read_text(encoding="utf-8")):
        for line in re.findall(r"codedev ([^|\n]*)", command.line.replace("\\\n", " ")):
            words, at = line.split(), cli
            while words and words[0] in getattr(at, "commands", {}):
                at = at.commands[words.pop(0)]  # type: ignore[assignment]
            at = getattr(at, "recipe", at)  # `train RECIPE`
            assert at is not cli, line
            known = {option for parameter in at.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, line


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A folder in which all that docs/training.md says was done."""
    folder = tmp_path_factory.mktemp("walk")
    page = PAGE.read_text(encoding="utf-8")
    for whole, part in SHORTER.items():
        assert page.count(whole) == 1
        page = page.replace(whole, part)
    (folder / "code").mkdir()
    for name in CODE:
        (folder / "code" / name).symlink_to(data_dir / "code" / name)
    (folder / "alpaca.json").symlink_to(data_dir / ALPACA)
    _walk(page, folder)
    for program in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
        done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=_shell(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "<|im_start|>assistant" in done.stdout
    return folder


@pytest.mark.slow
@pytest.mark.realdata
def test_the_page_of_training_is_true(walked: Path) -> None:
    assert (walked / "merged" / "config.json").is_file()


@pytest.mark.slow
@pytest.mark.realdata
def test_the_page_of_alignment_is_true(walked: Path) -> None:
    pytest.importorskip("trl")
    pytest.importorskip("starlette")
    _walk(ALIGNMENT.read_text(encoding="utf-8"), walked)
    judged = json.loads((walked / "feedback" / "manifest.json").read_bytes())
    assert judged["rows"]["preferences"] >= 20, judged


def _shell() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "OMP_NUM_THREADS": "2", "COLUMNS": "160", "PATH": path}


def _walk(page: str, folder: Path) -> None:
    """Run the page's commands one after the other, and compare what they say with what it shows."""
    for name, text in files(page).items():
        (folder / name).write_text(text, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shell, server = _shell(), None
    try:
        for command in commands(page):
            line = command.line.replace("8000", str(port)).replace("8111", str(port))
            if line.endswith("&"):
                started = subprocess.Popen(["bash", "-c", f"exec {line[:-1]}"], cwd=folder, env=shell, text=True, **_PIPES)
                if "feedback" in line:
                    _judge(started)
                else:
                    server = started
                    _wait(server, port)
                continue
            done = subprocess.run(["bash", "-c", line], cwd=folder, env=shell, capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
            told = done.stdout.splitlines()
            if re.search(r"codedev (generate|chat)|curl", line):  # what a model says depends on the machine
                assert "--out" in line or len("".join(told)) > 20, line
                if shown := _rows(command.shown):
                    assert [row.keys() for row in shown] == [row.keys() for row in _rows(told)], line
            else:
                assert alike(form(command.shown), form(told)), f"{line}\n{done.stdout}"
    finally:
        if server is not None:
            server.terminate()
            server.wait(30)


_PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def _judge(server: subprocess.Popen[str]) -> None:
    """Open the page's address and prefer the shorter of two answers until there are no more."""
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    root = address.partition("/?")[0]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(address, timeout=30).close()

    def call(path: str, fields: dict[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(fields).encode() if fields else None
        asked = urllib.request.Request(root + path, data, {"content-type": "application/json", "x-codedev": "1"})
        with opener.open(asked, timeout=30) as answer:
            return json.loads(answer.read())  # type: ignore[no-any-return]

    state = call("/api/state?rater=ann")
    while task := state["task"]:
        best = min(task["answers"], key=lambda answer: answer["characters"])["side"]
        verdict = best if task["kind"] == "compare" else "3"
        fields = {"task": task["id"], "rater": "ann", "verdict": verdict, "comment": "", "seconds": 1.0}
        state = call("/api/judge", {"key": secrets.token_hex(16), **fields})
    server.send_signal(signal.SIGINT)
    assert server.wait(30) in (0, 130)


def _rows(lines: list[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines if line.startswith("{")]


def _wait(server: subprocess.Popen[str], port: int) -> None:
    ends = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.3)
