"""docs/training.md is true: its files are written, its commands run in their order on real data, and their output has the form it shows."""

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
from typing import NamedTuple

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "training.md"
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


def test_every_command_of_the_page_is_one() -> None:
    """Fast: names of commands and their options."""
    from codedev.cli import cli

    for command in commands(PAGE.read_text(encoding="utf-8")):
        for line in re.findall(r"codedev ([^|\n]*)", command.line.replace("\\\n", " ")):
            words, at = line.split(), cli
            while words and words[0] in getattr(at, "commands", {}):
                at = at.commands[words.pop(0)]  # type: ignore[assignment]
            at = getattr(at, "recipe", at)  # `train RECIPE`
            assert at is not cli, line
            known = {option for parameter in at.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.slow
@pytest.mark.realdata
def test_the_page_is_true(tmp_path: Path, data_dir: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for whole, part in SHORTER.items():
        assert page.count(whole) == 1
        page = page.replace(whole, part)
    (tmp_path / "code").mkdir()
    for name in CODE:
        (tmp_path / "code" / name).symlink_to(data_dir / "code" / name)
    (tmp_path / "alpaca.json").symlink_to(data_dir / ALPACA)
    for name, text in files(page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shell = {
        **os.environ,
        "OMP_NUM_THREADS": "2",
        "COLUMNS": "160",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    server: subprocess.Popen[bytes] | None = None
    try:
        for command in commands(page):
            line = command.line.replace("8000", str(port))
            if line.endswith("&"):
                server = subprocess.Popen(["bash", "-c", f"exec {line[:-1]}"], cwd=tmp_path, env=shell, stderr=subprocess.PIPE)
                _wait(server, port)
                continue
            done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
            told = done.stdout.splitlines()
            if re.search(r"codedev (generate|chat)|curl", line):  # what a model says depends on the machine
                assert len("".join(told)) > 20, line
                if shown := _rows(command.shown):
                    assert [row.keys() for row in shown] == [row.keys() for row in _rows(told)], line
            else:
                assert alike(form(command.shown), form(told)), f"{line}\n{done.stdout}"
        for program in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
            done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr[-3000:]
            assert "<|im_start|>assistant" in done.stdout
    finally:
        if server is not None:
            server.terminate()
            server.wait(30)


def _rows(lines: list[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines if line.startswith("{")]


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    ends = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.3)
