"""The command line as its users meet it: help, exit codes, one-line errors, JSON, pipes, interruption; and builds on hostile folders."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from codedev import _files, cli
from codedev.commands import options
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build

WORDS = ["the", "of", "and", "to", "that", "have", "with", "be", "a", "cat", "dog", "river", "stone", "sky"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "COLUMNS": "200"}


def codedev(*arguments: str | Path, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "codedev", *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """The command in this process, which spares a second of imports: exit code, stdout and stderr as a user's shell sees them."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["codedev", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capfd.readouterr()
        assert isinstance(stopped.value.code, int)
        return Outcome(stopped.value.code, out, err)

    return call


def one_line(outcome: Outcome | subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The error that a failed command shows: one line on stderr, nothing on stdout, no traceback."""
    returned, out, err = (
        (outcome.code, outcome.out, outcome.err) if isinstance(outcome, Outcome) else (outcome.returncode, outcome.stdout, outcome.stderr)
    )
    assert returned == code, err
    assert out == ""
    assert "Traceback" not in err
    [line] = err.splitlines()
    assert line.startswith("error: ")
    return line


def write_lines(path: Path, count: int = 20, seed: int = 0) -> None:
    rng = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps({"id": f"{seed}-{n}", "text": " ".join(rng.choices(WORDS, k=30)) + f" {seed}.{n}"}) + "\n" for n in range(count))
    )


def write_recipe(folder: Path, *sources: dict[str, Any], **keys: Any) -> Path:
    sources = sources or ({"name": "s", "type": "tables", "paths": ["a.jsonl"]},)
    path = folder / "r.yaml"
    path.write_text(json.dumps({"name": "t", "sources": list(sources), **keys}))  # JSON is YAML
    return path


def source(name: str, *paths: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "type": "tables", "paths": list(paths), **keys}


def build_at(folder: Path, out: Path, *sources: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return build(recipes.check({"name": "t", "sources": list(sources), **keys}, "recipe"), folder, out)


def table(out: Path, kind: str) -> list[dict[str, Any]]:
    return [row for path in sorted((out / kind).rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def tree(out: Path) -> dict[str, bytes]:
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: content for name, content in files.items() if name.split("/")[0] not in (".work", ".lock", "events.jsonl")}


# -- help and usage ------------------------------------------------------------------------------------------------------------------


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = [(path, group)]
    for name, command in group.commands.items():
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [((*path, name), command)]
    return found


@pytest.mark.parametrize(("path", "command"), commands(cli.cli), ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_every_command_explains_itself(path: tuple[str, ...], command: click.Command) -> None:
    for flag in ("--help", "-h"):
        result = CliRunner().invoke(cli.cli, [*path, flag])
        assert result.exit_code == 0
        if not isinstance(command, click.Group):
            assert f"Example: codedev {' '.join(path)}" in result.output
            assert all(option.help for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["corpus", "nosuch"],
        ["corpus", "build"],
        ["corpus", "build", "r.yaml"],
        ["corpus", "build", "r.yaml", "--out", "c", "--workers", "0"],
        ["corpus", "build", "r.yaml", "--out", "c", "--workers", "x"],
        *(
            ["corpus", "build", "r.yaml", "--out", "c", "--memory", size]
            for size in ("0", "1", "-4GB", "inf", "1e999", "nan", "GB", "4XB", "")
        ),
        ["corpus", "build", "r.yaml", "--out", "c", "--set"],
        ["corpus", "inspect", "c", "--limit", "0"],
        ["corpus", "inspect", "c", "--errors", "--dropped", "any"],
        ["corpus", "inspect", "c", "--errors", "--id", "x"],
        ["corpus", "diff", "c"],
        ["tokenize", "c", "--tokenizer", "t", "--out", "s", "--seq-len", "1"],
        ["trace", "s", "-1"],
        ["trace", "s", "one"],
        ["generate", "m", "--temperature", "-1"],
    ],
)
def test_wrong_usage(run: Any, arguments: list[str]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Error: " in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("size", "meant"), [("4GB", 4 * 10**9), ("512MiB", 512 << 20), ("16777216", 16 << 20), (" 1.5 gb ", 1_500_000_000)]
)
def test_sizes(size: str, meant: int) -> None:
    assert options.Bytes(16 << 20).convert(size, None, None) == meant


def test_version(run: Any) -> None:
    outcome = run("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("codedev, version ")


# -- errors --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus with documents, drops and errors."""
    folder = tmp_path_factory.mktemp("corpus")
    write_lines(folder / "a.jsonl")
    with open(folder / "a.jsonl", "a") as file:
        file.write('{"text": bad\n{"id": "none"}\n{"id": "short", "text": "a b"}\n')
        file.write('{"id": "esc\\u001b[31m", "url": "\\u001b]0;x\\u0007", "text": "x y"}\n')
    build_at(
        folder,
        folder / "c",
        source("s", "a.jsonl"),
        quality={"gopher": {"min_words": 5, "languages": ["en", "de"]}},
        language={"min_score": 0.0},
    )
    return folder / "c"


MISSING = [
    ["corpus", "report", "none"],
    ["corpus", "inspect", "none"],
    ["corpus", "diff", "none", "none"],
    ["tokenizer", "train", "none", "--out", "t"],
    ["tokenize", "none", "--tokenizer", "t", "--out", "s"],
    ["trace", "none", "0"],
    ["train", "none.yaml"],
    ["corpus", "build", "none.yaml", "--out", "c"],
]


@pytest.mark.parametrize("arguments", [*MISSING, pytest.param(["generate", "none"], marks=pytest.mark.slow)], ids=" ".join)
def test_nothing_there(run: Any, arguments: list[str]) -> None:
    assert "none" in one_line(run(*arguments))


@pytest.mark.parametrize("arguments", MISSING[:6], ids=" ".join)
def test_something_else_there(run: Any, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "none").mkdir()
    for content in ("", "[]", '{"format": "other/1"}', "\xff"):
        (tmp_path / "none/manifest.json").write_text(content, encoding="latin-1")
        one_line(run(*arguments))


def test_errors_of_a_build(run: Any, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    assert "a.jsonl: no such file or directory" in one_line(run("corpus", "build", recipe, "--out", "c"))
    write_lines(tmp_path / "a.jsonl")
    assert "did you mean 'seed'" in one_line(run("corpus", "build", recipe, "--out", "c", "--set", "sead=1"))
    assert "did you mean 'text'" in one_line(run("corpus", "build", recipe, "--out", "c", "--set", "sources.0.txt=a"))
    assert "there is no '4'" in one_line(run("corpus", "build", recipe, "--out", "c", "--set", "sources.4.text=a"))
    for out in ("a.jsonl", "a.jsonl/c", "/proc/c"):
        assert "Choose another --out" in one_line(run("corpus", "build", recipe, "--out", out, "-q"))
    assert "cannot be read" in one_line(run("corpus", "build", tmp_path, "--out", "c"))


def test_a_folder_of_someone_elses_files_is_spared(run: Any, tmp_path: Path) -> None:
    write_lines(tmp_path / "mine/documents/part-1.parquet")
    recipe = write_recipe(tmp_path / "mine", source("s", "documents"))
    before = tree(tmp_path / "mine")
    assert "holds no corpus" in one_line(run("corpus", "build", recipe, "--out", tmp_path / "mine"))
    assert tree(tmp_path / "mine") == before
    (tmp_path / "mine/manifest.json").write_text('{"format": "codedev.shards/1"}')
    assert "holds no corpus" in one_line(run("corpus", "build", recipe, "--out", tmp_path / "mine"))


def test_unknown_reasons_sources_and_ids(run: Any, corpus: Path) -> None:
    assert "did you mean 'short_words'" in one_line(run("corpus", "inspect", corpus, "--dropped", "short_word"))
    assert "did you mean 's'" in one_line(run("corpus", "inspect", corpus, "--source", "ss"))
    assert "no document with the id 'x y'" in one_line(run("corpus", "inspect", corpus, "--id", "x y"))
    assert r"\x1b" in one_line(run("corpus", "inspect", corpus, "--id", "\x1b[2J"))


def test_a_damaged_corpus(run: Any, corpus: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(corpus, tmp_path / "c")
    part = tmp_path / "c/documents/s/part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-50])
    assert "is damaged" in one_line(run("corpus", "inspect", "c"))
    part.unlink()
    assert "is missing" in one_line(run("corpus", "inspect", "c"))
    assert "is missing" in one_line(run("corpus", "diff", "c", corpus))


def test_a_full_disk_is_no_bug(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "c/documents")

    write_lines(tmp_path / "a.jsonl")
    monkeypatch.setattr("codedev.corpus.build.warm", full)
    assert "No space left" in one_line(run("corpus", "build", write_recipe(tmp_path), "--out", "c", "-q"))
    for number, mend in ((errno.EFBIG, "ulimit -f"), (errno.EMFILE, "ulimit -n"), (errno.EIO, "disk"), (errno.ENOTDIR, "another path")):
        monkeypatch.setattr("codedev.corpus.build.warm", lambda number=number: (_ for _ in ()).throw(OSError(number, "said", "c")))
        assert mend in one_line(run("corpus", "build", "r.yaml", "--out", "c", "-q"))
    monkeypatch.setattr("codedev.corpus.build.warm", lambda: 1 // 0)  # a bug keeps its traceback
    monkeypatch.setattr(sys, "argv", ["codedev", "corpus", "build", "r.yaml", "--out", "c", "-q"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


# -- output --------------------------------------------------------------------------------------------------------------------------


def test_json_alone_on_stdout(run: Any, corpus: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl")
    recipe = write_recipe(tmp_path)
    for arguments in (
        ["doctor"],
        ["corpus", "build", recipe, "--out", "c"],
        ["corpus", "build", recipe, "--out", "c", "--set", "seed=1"],
        ["corpus", "report", corpus],
        ["corpus", "inspect", corpus, "--limit", "2"],
        ["corpus", "inspect", corpus, "--dropped", "any"],
        ["corpus", "inspect", corpus, "--errors"],
        ["corpus", "inspect", corpus, "--id", "s:0-1"],
        ["corpus", "inspect", corpus, "--source", "s"],
        ["corpus", "diff", corpus, "c"],
        ["tokenizer", "train", corpus, "--out", "t", "--vocab-size", "340", "--special-slots", "16"],
        ["tokenize", corpus, "--tokenizer", "t", "--out", "s", "--seq-len", "16"],
        ["trace", "s", "0"],
        ["trace", "s", "0", "0", "--base", corpus.parent],
    ):
        outcome = run(*arguments, "--json")
        assert outcome.code == 0, outcome.err
        assert outcome.err == "", arguments
        json.loads(outcome.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_what_a_document_says_is_no_command_to_the_terminal(run: Any, corpus: Path) -> None:
    for arguments in (["--id", "s:esc\x1b[31m"], ["--dropped", "any", "--limit", "99"], ["--errors"], []):
        outcome = run("corpus", "inspect", corpus, *arguments)
        assert outcome.code == 0
        assert "\x1b" not in outcome.out
        assert "\x07" not in outcome.out
    assert r"esc\x1b[31m" in run("corpus", "inspect", corpus, "--limit", "99").out


def test_scores_that_say_something_stand_several_a_line(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    write_lines(tmp_path / "a.jsonl")
    write_lines(tmp_path / "b.jsonl", count=1, seed=1)
    row = json.loads((tmp_path / "b.jsonl").read_text())
    (tmp_path / "b.jsonl").write_text(json.dumps({**row, "field": "x" * 1000}))
    sources = [source("s", "a.jsonl"), source("long", "b.jsonl")]
    build_at(tmp_path, tmp_path / "c", *sources, quality={"preset": "gopher", "gopher": {"min_words": 40}})
    assert run("corpus", "inspect", "c", "--json").out == "[]\n"
    arguments = ("corpus", "inspect", "c", "--dropped", "any", "--source", "long")
    [whole] = json.loads(run(*arguments, "--json").out)
    lines = run(*arguments).out.splitlines()
    scored = [line for line in lines if line.startswith("  q.")]
    told = dict(pair.split(" ") for line in scored for pair in line.strip().split("  "))
    assert told.keys() == {name for name, value in whole.items() if name.startswith("q.") and value}
    assert float(told["q.gopher.words"]) == whole["q.gopher.words"] > 0
    assert all(len(line) <= 100 for line in scored)
    assert len(scored) < len(told) / 2
    assert sum(len(line) for line in lines if line.startswith("  meta: ")) == len("  meta: …") + 300
    assert "x" * 1000 in run("corpus", "inspect", "c", "--id", whole["id"]).out


def test_a_diff_names_the_keys_that_differ(run: Any, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl")
    write_lines(tmp_path / "b.jsonl", seed=1)
    one, two = source("one", "a.jsonl"), source("two", "b.jsonl")
    build_at(tmp_path, tmp_path / "A", one, two, quality={"gopher": {"min_words": 20}})
    build_at(tmp_path, tmp_path / "B", two, {**one, "kind": "web"}, quality={"gopher": {"min_words": 40}, "code": {}}, seed=3)
    found = {row["key"]: (row["a"], row["b"]) for row in json.loads(run("corpus", "diff", "A", "B", "--json").out)["recipe"]}
    code = found.pop("quality.code")
    assert code[0] is None
    assert code[1]["max_line"] == 1000
    assert found == {
        "seed": (0, 3),
        "sources (order)": (["one", "two"], ["two", "one"]),
        "sources.one.kind": (None, "web"),
        "quality.gopher.min_words": (20, 40),
    }
    out = run("corpus", "diff", "A", "B").out
    assert out.index("quality.gopher.min_words") < out.index("rewritten")
    assert run("corpus", "diff", "A", "A").out.startswith("Recipe: the same\n")
    (tmp_path / "B/recipe.yaml").write_text("sources: 3")
    assert "recipe.yaml" in one_line(run("corpus", "diff", "A", "B"))


def test_a_model_that_is_nearly_named(run: Any, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl")
    said = one_line(run("corpus", "build", write_recipe(tmp_path, language={"model": "lid176"}), "--out", "c", "--quiet"))
    assert "language.model" in said
    assert said.endswith("did you mean 'lid.176'?")


def test_compilation_is_announced_once_and_where_it_happens(tmp_path: Path) -> None:
    module = tmp_path / "kernel.py"
    module.write_text(
        "import sys, numba\nfrom codedev._terminal import compiling\n"
        "with compiling(quiet='quiet' in sys.argv):\n"
        "    @numba.njit('i8(i8)', cache=True)\n    def one(x): return x + 1\n"
        "    @numba.njit('i8(i8)', cache=True)\n    def two(x): return x + 2\n"
    )
    said = []
    for folder, *words in (("a",), ("a",), ("b", "quiet")):  # cold, warm, cold
        done = subprocess.run(
            [sys.executable, module, *words],
            env={**ENVIRONMENT, "NUMBA_CACHE_DIR": str(tmp_path / folder), "PYTHONPATH": str(Path(__file__).parent.parent)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert done.stdout == ""
        said.append(done.stderr.count("compiling kernels"))
    assert said == [1, 0, 0]


def test_head_may_go(corpus: Path) -> None:
    """Much output and little: the writer ends quietly, and with 0, when its reader has gone."""
    for arguments in (f"inspect {corpus} --limit 100000 --json", f"inspect {corpus}", "--help"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m codedev corpus {arguments} | true; echo ${{PIPESTATUS[0]}}"],
            env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("0\n", ""), arguments


def test_progress_is_not_for_stdout(tmp_path: Path) -> None:
    """On a terminal too: bars on stderr, the result on stdout."""
    write_lines(tmp_path / "a.jsonl")
    write_recipe(tmp_path)
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "codedev", "corpus", "build", "r.yaml", "--out", "c", "--workers", "1"],
        cwd=tmp_path, env=ENVIRONMENT, stdout=(tmp_path / "stdout").open("wb"), stderr=child,
    )  # fmt: skip
    os.close(child)
    pieces = []
    with contextlib.suppress(OSError):  # which a terminal says at its end
        while piece := os.read(parent, 1 << 16):  # as it comes: who writes to a full terminal waits
            pieces.append(piece)
    os.close(parent)
    shown = b"".join(pieces).decode()
    assert process.wait(60) == 0
    printed = (tmp_path / "stdout").read_bytes()
    assert b"Waterfall" in printed
    assert b"\x1b" not in printed
    assert "report: " in shown


# -- interruption --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_and_on(tmp_path: Path, workers: int) -> None:
    """SIGINT to the whole group, as a terminal sends it: exit code 130, one message, no workers' tracebacks; then the run resumes."""
    for number in range(20):
        write_lines(tmp_path / f"in/{number}.jsonl", 300, seed=number)
    recipe = write_recipe(tmp_path, source("s", "in"), unit_bytes=60_000, language={"min_score": 0.0})
    command = [sys.executable, "-m", "codedev", "corpus", "build", str(recipe), "--out", "c", "--workers", str(workers), "-q"]
    scored = tmp_path / "c/.work/scored"

    def receipts() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in scored.glob("[!.]*.json")}

    for _ in range(10):  # on a busy machine the build may be over before this process gets its turn: then once more
        process = subprocess.Popen(
            command, cwd=tmp_path, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while len(receipts()) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        if process.returncode != 0 and len(receipts()) < 20:
            break
        shutil.rmtree(tmp_path / "c")
    assert process.returncode == 130, err
    assert out == ""
    assert err.strip() == "interrupted: run the same command again to go on from here"
    kept = receipts()
    assert 2 <= len(kept) < 20
    assert not (tmp_path / "c/manifest.json").exists()
    again = codedev("corpus", "build", recipe, "--out", "c", "--workers", str(3 - workers), "-q", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(receipts()) == 20
    assert {name: receipts()[name] for name in kept} == kept
    assert len(table(tmp_path / "c", "documents")) == 6000


# -- expectations --------------------------------------------------------------------------------------------------------------------


def test_a_broken_expectation(run: Any, tmp_path: Path) -> None:
    """Exit code 3, and the corpus is complete; it holds again once the expectation does, without new work, as a fresh build would."""
    write_lines(tmp_path / "a.jsonl")
    recipe = write_recipe(tmp_path, expect={"min_documents": 21, "max_unknown_licence": 0.5})
    broken = run("corpus", "build", recipe, "--out", "c", "-q")
    assert broken.code == 3
    assert "records 20 = kept 20" in broken.out  # the waterfall is shown: now it is wanted most
    line = broken.err.splitlines()[-1]
    assert line.startswith("error: ")
    assert "min_documents: 20 < 21" in line
    assert "max_unknown_licence: 1.0000 > 0.5" in line
    assert json.loads((tmp_path / "c/manifest.json").read_bytes())["totals"]["documents"] == 20
    assert len(table(tmp_path / "c", "documents")) == 20
    assert (tmp_path / "c/report/index.html").is_file()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.parquet")}
    met = ["--set", "expect.min_documents=20", "--set", "expect.max_unknown_licence=1.0"]
    assert run("corpus", "build", recipe, "--out", "c", "-q", *met).code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.parquet")} == written
    assert run("corpus", "build", recipe, "--out", "fresh", "-q", *met).code == 0
    assert tree(tmp_path / "c") == tree(tmp_path / "fresh")
    assert run("corpus", "build", recipe, "--out", "c", "-q").code == 3  # and it breaks again


def test_every_expectation_is_held_against_the_files(run: Any, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl")
    text = sum(len(json.loads(line)["text"].encode()) for line in (tmp_path / "a.jsonl").read_text().splitlines())
    holds = {
        "max_drop": 0.0, "max_source_drop": 0.0, "max_error": 0.0, "max_contaminated": 0.0, "min_documents": 20, "min_bytes": text,
        "min_tokens": text // 5, "bytes_per_token": 5.0, "languages": {"en": {"max": 0.0}, "unknown": {"min": 1.0, "max": 1.0}},
        "licences": {"MIT": {"max": 0.0}, "unknown": {"min": 1.0}},
    }  # fmt: skip
    recipe = write_recipe(tmp_path, expect=holds)
    built = run("corpus", "build", recipe, "--out", "c", "-q")
    assert built.code == 0, built.err
    figure = next(one for one in json.loads((tmp_path / "c/report/report.json").read_bytes())["figures"] if one["id"] == "expected")
    rows = {row[0]: row[1:] for row in figure["data"]["table"]["rows"]}
    assert rows["min_tokens"] == [text // 5, text // 5, True]
    assert rows["max_source_drop of s"] == [0.0, 0.0, True]
    assert rows["languages.unknown.min"] == [1.0, 1.0, True]
    assert len(rows) == 12
    for key, value, said in (
        ("min_bytes", str(text + 1), f"min_bytes: {text} < {text + 1}"),
        ("min_tokens", str(text), f"min_tokens: {text // 5} < {text}"),
        ("languages.en", "{min: 0.5}", "languages.en.min: 0.0000 < 0.5"),
        ("licences.unknown", "{max: 0.5}", "licences.unknown.max: 1.0000 > 0.5"),
    ):
        broken = run("corpus", "build", recipe, "--out", "c", "-q", "--set", f"expect.{key}={value}")
        assert broken.code == 3
        assert said in broken.err
        assert "**broken**" in (tmp_path / "c/report/report.md").read_text()
    wrong = run("corpus", "build", recipe, "--out", "c", "-q", "--set", "expect.languages.en={}")
    assert wrong.code == 1
    assert "give min, max or both" in wrong.err


# -- hostile folders -----------------------------------------------------------------------------------------------------------------


def hostile_folder(folder: Path) -> tuple[int, set[str]]:
    """(documents, names in errors/) of a folder with one file of every kind of damage beside good ones."""
    write_lines(folder / "a.jsonl", seed=1)
    write_lines(folder / "d/deep.jsonl", seed=2)
    good = (folder / "a.jsonl").read_bytes()
    (folder / "clipped.jsonl.gz").write_bytes(gzip.compress(random.Random(1).randbytes(4000).hex().encode())[:500])
    (folder / "rubbish.zst").write_bytes(b"\x28\xb5\x2f\xfd" + random.Random(2).randbytes(300))
    (folder / "rubbish.parquet").write_bytes(b"PAR1" + random.Random(3).randbytes(300))
    (folder / "empty.jsonl").write_bytes(b"")
    (folder / "binary.jsonl").write_bytes(bytes(range(256)))
    (folder / "array.json").write_bytes(b"[1, 2]")
    (folder / "broken.jsonl").symlink_to("nowhere")
    os.mkfifo(folder / "fifo.jsonl")
    (folder / "loop").symlink_to(folder)
    (folder / "ring.jsonl").symlink_to("ring.jsonl")
    with open(os.path.join(os.fsencode(folder), b"caf\xe9.jsonl"), "wb") as file:
        file.write(good.replace(b" 1.", b" 3.").replace(b'"1-', b'"3-') + b"bad\n")
    (folder / "line\nbreak\x1b[31m.jsonl").write_bytes(b'{"id": "last", "text": "the last one"}\n\xff\n')
    errors = {
        "clipped.jsonl.gz",
        "rubbish.zst",
        "rubbish.parquet",
        "empty.jsonl",
        "binary.jsonl",
        "array.json",
        "broken.jsonl",
        "fifo.jsonl",
        "ring.jsonl",
    }
    return 61, errors | {"caf\\xe9.jsonl", "line\nbreak\x1b[31m.jsonl"}


def test_every_kind_of_damage_is_a_row(run: Any, tmp_path: Path) -> None:
    documents, files = hostile_folder(tmp_path / "in")
    recipe = write_recipe(tmp_path, source("s", "in"))
    outcome = run("corpus", "build", recipe, "--out", "c", "--workers", "1")
    assert outcome.code == 0, outcome.err
    assert {row["file"].removeprefix("in/") for row in table(tmp_path / "c", "errors")} == files
    assert len(table(tmp_path / "c", "documents")) == documents
    for arguments in (["inspect", "c", "--errors", "--limit", "99"], ["report", "c"], ["inspect", "c", "--errors", "--json"]):
        outcome = run("corpus", *arguments)
        assert outcome.code == 0, outcome.err
        assert "\x1b" not in outcome.out
    assert build_at(tmp_path, tmp_path / "c1", source("s", "in"), unit_bytes=1 << 10)["totals"]["documents"] == documents


def test_a_recipe_in_a_folder_that_is_no_utf8(run: Any, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf\xe9")))
    write_lines(folder / "a.jsonl")
    recipe = write_recipe(folder)
    outcome = run("corpus", "build", recipe, "--out", "c", "--workers", "1")
    assert outcome.code == 0, outcome.err
    assert len(table(tmp_path / "c", "documents")) == 20
    assert "not UTF-8" in one_line(run("corpus", "build", recipe, "--out", folder / "c"))


def closed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Files and folders that may not be read, simulated where the tests run as root, to whom nothing is closed."""
    listed, opened = os.scandir, os.open

    def check(path: Any) -> None:
        if os.path.basename(os.fspath(path)) in names:
            raise PermissionError(errno.EACCES, "Permission denied", path)

    def scandir(path: Any = ".") -> Any:
        check(path)
        return listed(path)

    def open_(path: Any, *arguments: Any, **options: Any) -> int:
        check(path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(_files.os, "scandir", scandir)
    monkeypatch.setattr(_files.os, "open", open_)


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / "in/a.jsonl")
    write_lines(tmp_path / "in/shut.jsonl", seed=1)
    write_lines(tmp_path / "in/d/shut/b.jsonl", seed=2)
    with monkeypatch.context() as patch:
        closed(patch, "shut.jsonl", "shut")
        manifest = build_at(tmp_path, tmp_path / "c", source("s", "in"), source("t", "in/sh*.jsonl", "in/d/*/*.jsonl"))
    assert {(row["source"], row["file"], row["kind"]) for row in table(tmp_path / "c", "errors")} == {
        (name, file, "unreadable") for name in "st" for file in ("in/shut.jsonl", "in/d/shut")
    }
    assert manifest["totals"] | {"bytes_in": 0, "text_bytes": 0} == {
        "records": 24, "documents": 20, "joined": 0, "dropped": 0, "errors": 4, "bytes_in": 0, "text_bytes": 0, "unknown_licence": 20,
    }  # fmt: skip
    # opened again, they are read
    assert build_at(tmp_path, tmp_path / "c", source("s", "in"))["totals"]["documents"] == 60


def test_a_source_of_unreadable_files_alone(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").symlink_to("nowhere")
    os.mkfifo(tmp_path / "f.jsonl")
    for exact in ({}, {"exact": {}}):
        totals = build_at(tmp_path, tmp_path / f"c{len(exact)}", source("s", "*.jsonl"), dedup=exact)["totals"]
        assert (totals["records"], totals["errors"]) == (2, 2)
    write_lines(tmp_path / "good/a.jsonl")
    totals = build_at(tmp_path, tmp_path / "c", source("a", "b.jsonl"), source("s", "good"), source("z", "f.jsonl"), dedup={"exact": {}})[
        "totals"
    ]
    assert (totals["records"], totals["documents"], totals["errors"]) == (22, 20, 2)


# -- recipes that change -------------------------------------------------------------------------------------------------------------


def same_as_fresh(folder: Path, out: Path, *sources: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """Build over what `out` holds; the result must be what a fresh build gives."""
    manifest = build_at(folder, out, *sources, **keys)
    fresh = out.with_name("fresh")
    assert build_at(folder, fresh, *sources, **keys) == manifest
    assert tree(fresh) == tree(out)
    subprocess.run(["rm", "-r", fresh], check=True)
    return manifest


def test_two_sources_of_one_file(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": f"the text {n}"}) + "\n" for n in range(5)))
    both = (source("s", "a.jsonl", "b.jsonl"), source("t", "*.jsonl"))
    manifest = same_as_fresh(tmp_path, tmp_path / "c", *both)
    # ids of its own differ by source; those made of the content are the same, and so is their text
    assert manifest["totals"]["records"] == 50
    assert manifest["totals"]["documents"] == 45
    assert {row["reason"] for row in table(tmp_path / "c", "dropped")} == {"duplicate_id"}
    manifest = same_as_fresh(tmp_path, tmp_path / "c", *both, dedup={"exact": {}})
    assert manifest["totals"]["documents"] == 25
    assert {row["source"] for row in table(tmp_path / "c", "documents")} == {"s"}


def test_sources_renamed_removed_and_moved(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", seed=1)
    write_lines(tmp_path / "b.jsonl", seed=2)
    (tmp_path / "b.jsonl").open("a").write("bad\n")
    out = tmp_path / "c"
    a, b = source("a", "a.jsonl"), source("b", "b.jsonl")
    same_as_fresh(tmp_path, out, a, b)
    same_as_fresh(tmp_path, out, a, {**b, "name": "c"})  # renamed
    assert not (out / "documents/b").exists()
    same_as_fresh(tmp_path, out, {**b, "name": "c"}, a)  # the other way round
    same_as_fresh(tmp_path, out, a)  # removed
    assert sorted(path.name for path in (out / "documents").iterdir()) == ["a"]
    assert not list(out.rglob("errors/**/*.parquet"))
    assert {path.name for path in (out / ".work/written").iterdir()} == {"a"}
    same_as_fresh(tmp_path, out, a, b)
    (tmp_path / "a.jsonl").write_text('{"text": "only one is left"}\n')  # fewer records
    same_as_fresh(tmp_path, out, a, b, unit_bytes=1 << 10)
    same_as_fresh(tmp_path, out, a, b)  # fewer units


def test_work_that_is_not_kept(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl")
    out = tmp_path / "c"
    manifest = same_as_fresh(tmp_path, out, source("s", "a.jsonl"), keep_work=False)
    assert not (out / ".work").exists()
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert build_at(tmp_path, out, source("s", "a.jsonl"), keep_work=False) == manifest  # nothing to do, and nothing left behind
    assert not (out / ".work").exists()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == written
    same_as_fresh(tmp_path, out, source("s", "a.jsonl"), keep_work=False, quality={"gopher": {}})
    build_at(tmp_path, out, source("s", "a.jsonl"))
    assert (out / ".work").exists()


@pytest.mark.parametrize("linked", [False, True])
def test_a_corpus_inside_its_own_input(tmp_path: Path, linked: bool) -> None:
    """It is no input: the second build has nothing to do, and a changed one reads nothing that it wrote."""
    data = tmp_path / "data"
    write_lines(data / "a.jsonl")
    write_lines(data / "z/b.jsonl", seed=1)
    out = data / "m" / "c"
    if linked:
        (tmp_path / "link").symlink_to(data)
        out = tmp_path / "link/m/c"
    for paths in (["."], ["**/*"], [str(data)]):
        first = build_at(data, out, source("s", *paths))
        assert first["totals"]["documents"] == first["totals"]["records"] == 40
        assert build_at(data, out, source("s", *paths)) == first
        changed = build_at(data, out, source("s", *paths), quality={"gopher": {"min_words": 1}})
        assert changed["totals"]["records"] == 40
    # another corpus beside it is input like any other file
    assert build_at(data, tmp_path / "other", source("s", "m/c/documents"))["totals"]["documents"] == changed["totals"]["documents"] > 0


def test_nothing_is_done_while_nothing_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / "a.jsonl")
    first = build_at(tmp_path, tmp_path / "c", source("s", "a.jsonl"))
    monkeypatch.setattr("codedev.corpus.build._build", lambda *_: pytest.fail("worked again"))
    assert build_at(tmp_path, tmp_path / "c", source("s", "a.jsonl")) == first


def test_a_path_more_costs_no_new_reading_of_the_others(tmp_path: Path) -> None:
    for name in "abc":
        write_lines(tmp_path / f"{name}.jsonl", 60, seed=ord(name))
    out = tmp_path / "c"
    build_at(tmp_path, out, source("s", "a.jsonl"), unit_bytes=5000)
    before = {path: path.stat().st_mtime_ns for path in (out / ".work/scored").glob("*.json")}
    same_as_fresh(tmp_path, out, source("s", "a.jsonl", "[bc].jsonl"), unit_bytes=5000)
    after = {path: path.stat().st_mtime_ns for path in (out / ".work/scored").glob("*.json")}
    kept = before.items() & after.items()
    assert len(before) > 1
    assert len(kept) >= len(before) - 1  # the last unit may have taken more in


# --- corpus read


def test_reading_without_a_recipe(tmp_path: Path, run: Any) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one", "n": 1}\n{"body": "none"}\n{"text": "two"}\n[1]\n{"text": "three"}\n')
    told = run("corpus", "read", "tables", "a.jsonl", "--limit", "0", "--json")
    assert told.code == 0
    assert [json.loads(line)["text"] for line in told.out.splitlines()] == ["one", "two", "three"]
    assert "records 5" in told.err
    assert "documents 3" in told.err
    assert "drop no_text 1" in told.err
    told = run("corpus", "read", "tables", "a.jsonl", "--dropped", "--limit", "0", "--json")
    assert {json.loads(line)["part"] for line in told.out.splitlines()} == {"dropped", "errors"}
    told = run("corpus", "read", "tables", "a.jsonl", "--set", "text=body", "--limit", "1")
    assert "none" in told.out
    assert "the first 1" in told.err


def test_reading_what_brings_records_together(tmp_path: Path, run: Any) -> None:
    posts = [
        {
            "id": "s1",
            "title": "A question of tides",
            "selftext": "Why twice a day?",
            "subreddit": "tides",
            "author": "ann",
            "created_utc": 10,
        },
        {
            "id": "c2",
            "body": "Two bulges.",
            "link_id": "t3_s1",
            "parent_id": "t1_c1",
            "subreddit": "tides",
            "author": "ann",
            "created_utc": 30,
        },
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"score": 1, **post}) + "\n" for post in posts))
    comment = {
        "id": "c1",
        "body": "The moon.",
        "link_id": "t3_s1",
        "parent_id": "t3_s1",
        "subreddit": "tides",
        "author": "bo",
        "created_utc": 20,
    }
    (tmp_path / "b.jsonl").write_text(json.dumps({"score": 1, **comment}) + "\n")
    told = run("corpus", "read", "reddit", "a.jsonl", "b.jsonl", "--set", "mode=threads", "--limit", "0", "--json")
    assert told.code == 0, told.err
    thread = json.loads(told.out)
    assert thread["id"] == "t3_s1"
    places = [thread["text"].index(words) for words in ("A question of tides", "Why twice", "The moon", "Two bulges")]
    assert places == sorted(places)
    assert "joined 2" in told.err


def test_reading_what_is_not_there(tmp_path: Path, run: Any) -> None:
    for arguments, words in [
        (("redit", "x"), "reddit"),
        (("reddit", "nothing.zst"), "no such file"),
        (("reddit",), "paths"),
        (("tables", "x", "--set", "txt=a"), "text"),
    ]:
        told = run("corpus", "read", *arguments)
        assert told.code == 1
        assert words in told.err
        assert len(told.err.splitlines()) == 1
