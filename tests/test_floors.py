"""The floors of the house: imports go downward only, and no data command imports torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "codedev"
FLOORS = ("_* kernels", "corpus", "tokenize feedback", "eval", "train", "demo ablate", "commands", "cli")
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names.split()}
HEAVY = ("torch", "transformers", "peft", "accelerate", "trl", "bitsandbytes")


def part_of(module: str) -> str:
    name = module.split(".")[1] if "." in module else ""
    return "_*" if name.startswith("_") else name


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "codedev"}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_downward(path: Path) -> None:
    own = part_of("codedev." + path.relative_to(PACKAGE).as_posix().removesuffix(".py").replace("/", "."))
    if own in ("_*",) and path.name in ("__init__.py", "__main__.py"):
        return
    for module in imports(path):
        if module.startswith("codedev.") and (other := part_of(module)) in LEVEL:
            assert other == own or LEVEL[other] < LEVEL[own], f"{path} imports {module} from a floor above it"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_torch_stays_in_train(path: Path) -> None:
    if path.is_relative_to(PACKAGE / "train") or path.is_relative_to(PACKAGE / "eval"):
        return
    assert not {module.split(".")[0] for module in imports(path)} & set(HEAVY)


def test_data_commands_never_import_torch(tmp_path: Path) -> None:
    """A whole road of data commands, run with torch made impossible to import."""
    (tmp_path / "torch.py").write_text("raise ImportError('a data command imported torch')")
    (tmp_path / "a.jsonl").write_text('{"text": "def f(): return 1"}\n' * 3 + '{"text": "the cat and the dog sat with the bird"}\n')
    (tmp_path / "r.yaml").write_text("name: t\nsources: [{name: a, type: tables, paths: [a.jsonl]}]\nlanguage: {min_score: 0.0}\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for arguments in (
        ["corpus", "build", "r.yaml", "--out", "c", "--workers", "1"],
        ["corpus", "report", "c"],
        ["corpus", "inspect", "c"],
        ["tokenizer", "train", "c", "--out", "t", "--vocab-size", "400", "--special-slots", "64"],
        ["tokenize", "c", "--tokenizer", "t", "--out", "s", "--seq-len", "16"],
        ["trace", "s", "0", "0"],
        ["doctor"],
    ):
        done = subprocess.run([sys.executable, "-m", "codedev", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (arguments, done.stderr[-2000:])


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "codedev", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.3, seconds  # the least of seven: other work on the machine only adds


def test_the_standard_library_keeps_its_tokenize() -> None:
    assert "codedev" not in str(tokenize.__file__)
