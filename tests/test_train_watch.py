"""Watching a run: bad steps, signals, a full disk, which documents made a step, the run's page, the dry run and its memory."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file
from train_support import SEQ_LEN, TINY, VOCAB, recipe, write_shards

from codedev import cli
from codedev._errors import RecipeError, RunError
from codedev._run import TEMPORARY, locked
from codedev.train import checkpoint, run
from codedev.train.data import open_shards
from codedev.train.recipe import TrainRecipe
from codedev.train.watch import curves, policy
from codedev.train.watch.explain import documents_of_step, explain
from codedev.train.watch.metrics import read_metrics
from codedev.train.watch.signals import StoppedError
from codedev.train.watch.status import status

ROOT = Path(__file__).parent.parent
NOISE = (17, 29)  # rows of random tokens, in noisy shards


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_shards(tmp_path / "shards")
    write_shards(tmp_path / "shards" / "heldout", rows=9, seed=9)
    (tmp_path / "shards" / "tokenizer.json").write_text("{}")
    return tmp_path


def rewritten(directory: Path, column: str, change: Any) -> None:
    """Write `change(row number, value)` in the place of every value of a column of the shards."""
    first = 0
    for path in sorted(directory.glob("*.arrow")):
        table = pa.ipc.open_file(path.read_bytes()).read_all()
        kind = table.schema.field(column).type
        values = [change(first + i, value) for i, value in enumerate(table.column(column).to_pylist())]
        first += len(values)
        table = table.set_column(table.schema.get_field_index(column), column, pa.array(values, kind))
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=7)


def noisy(directory: Path) -> None:
    random_ids = np.random.default_rng(3)
    rewritten(directory, "input_ids", lambda row, ids: random_ids.integers(3, VOCAB, SEQ_LEN).tolist() if row in NOISE else ids)


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("tokens_per_second", "mfu")} for row in read_metrics(run_dir)]


def same_weights(a: Path, b: Path, file: str = "model/model.safetensors") -> bool:
    one, other = load_file(a / file), load_file(b / file)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# -- bad steps -------------------------------------------------------------------------------------------------------------------------

# One row a step, so that a row of noise is a step of its own.
ALONE = {"batch": {"rows": 1, "micro_rows": 1}, "run__steps": 130, "run__save_every": 1, "run__keep": 200}
ALONE |= {"optim": {"lr": 5e-3, "warmup": 2, "schedule": "constant"}}
SKIP = {**ALONE, "run__on_bad_step": "skip", "run__spike": 1.25}


def test_spikes_are_skipped_by_policy_and_leave_no_trace(base: Path) -> None:
    noisy(base / "shards")
    result = run(recipe("skip", **SKIP), base)
    rows = read_metrics(base / "skip")
    skipped = {row["step"]: row for row in rows if "skipped" in row}
    held = {step: {one["row"] for one in documents_of_step(base / "skip", step)} for step in range(1, 131)}
    assert skipped
    assert result["skipped"] == len(skipped)
    for step, row in skipped.items():
        assert (row["skipped"], "loss" in row) == ("spike", False)
        before = [row["loss"] for row in rows if "loss" in row and row["step"] < step][-50:]
        assert row["bad_loss"] > 1.25 * float(np.median(before))
        assert held[step] <= set(NOISE)
        assert row["documents"][0]["document"].startswith(("doc-17-", "doc-29-"))
        losses = [one["loss"] for one in row["documents"]]
        assert losses == sorted(losses, reverse=True)
        here, there = (checkpoint.directory(base / "skip", at) for at in (step - 1, step))
        for file in ("model.safetensors", "optimizer.safetensors"):
            assert same_weights(here, there, file), "a skipped step changed something"
    # Good steps are judged by good steps alone: every one with noise late enough is skipped.
    assert {step for step in held if step > 90 and held[step] <= set(NOISE)} == {step for step in skipped if step > 90}

    # Going on from a skipped step is the same run.
    shutil.copytree(base / "skip", base / "cut")
    for later in range(max(skipped) + 1, 131):
        shutil.rmtree(checkpoint.directory(base / "cut", later))
    run(recipe("cut", **SKIP), base)
    assert rows_of(base / "cut") == rows_of(base / "skip")
    assert same_weights(base / "cut", base / "skip")

    # Another policy is refused exactly where it would have gone another way.
    for change, said in {
        "run__on_bad_step": ("stop", "steps before it were skipped"),
        "run__spike": (50.0, "which is no spike by run.spike 50"),
    }.items():
        with pytest.raises(RunError, match=said[1]):
            run(recipe("cut", **{**SKIP, change: said[0], "run__steps": 131}), base)
    with pytest.raises(RunError, match=r"which is a spike by run\.spike 1\.0001"):
        run(recipe("cut", **{**SKIP, "run__spike": 1.0001, "run__steps": 131}), base)


def test_a_spike_stops_the_run_and_names_its_document_and_then_it_goes_on_as_if_it_had_been_told_before(base: Path) -> None:
    noisy(base / "shards")
    with pytest.raises(RunError, match=r"times the median of the \d+ steps before \(run.spike: 1.25\).*doc-(17|29)-.*--step \d+") as caught:
        run(recipe("stop", **{**ALONE, "run__save_every": 40, "run__spike": 1.25}), base)
    assert "\n" not in str(caught.value)
    assert "failed" in (base / "stop/index.html").read_text()
    run(recipe("stop", **{**SKIP, "run__save_every": 40}), base)
    run(recipe("skip", **{**SKIP, "run__save_every": 40}), base)
    assert rows_of(base / "stop") == rows_of(base / "skip")


def test_no_more_than_so_many_steps_are_skipped_in_a_row(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codedev.train import loop

    whole, steps = loop.next_token_loss, []

    def broken(forward: Any, rows: Any) -> Any:
        steps.append(len(steps) + 1)
        return whole(forward, rows) * (float("nan") if len(steps) >= 3 else 1.0)

    monkeypatch.setattr(loop, "next_token_loss", broken)
    with pytest.raises(RunError, match=r"step 6: the loss is nan .*after 3 skipped steps in a row"):
        run(recipe(run__on_bad_step="skip", run__max_skips=3, run__save_every=1, run__keep=9), base)
    rows = read_metrics(base / "run")
    assert [row.get("skipped") for row in rows] == [None, None, *["loss is no number"] * 3]
    assert rows[-1]["bad_loss"] is None
    assert checkpoint.read_state(checkpoint.directory(base / "run", 5))[0].watched.in_row == 3
    assert same_weights(checkpoint.directory(base / "run", 2), checkpoint.directory(base / "run", 5), "model.safetensors")


def test_what_a_checkpoint_keeps_for_judging_is_checked(base: Path) -> None:
    run(recipe(run__steps=2), base)
    path = checkpoint.directory(base / "run", 2) / "state.json"
    state = {name: value for name, value in json.loads(path.read_text()).items() if name != "hash"}  # which would tell any change
    for broken in ([], {"recent": []}, {**state["watched"], "recent": ["x"]}, {**state["watched"], "skipped": -1}):
        path.write_text(json.dumps({**state, "watched": broken}))
        with pytest.raises(RunError, match="is not as it was written"):
            run(recipe(run__steps=2), base)
    path.write_text(json.dumps({name: value for name, value in state.items() if name != "watched"}))  # of an earlier version
    assert run(recipe(run__steps=2), base)["step"] == 2


def test_the_median_has_a_window_and_a_beginning() -> None:
    judge = policy.Policy(spike=3.0, on_bad_step="skip").judge
    watched = policy.Watched()
    for step in range(policy.FEWEST - 1):
        watched = judge(watched, step, 1.0, 1.0).watched
    assert judge(watched, 9, 100.0, 1.0).reason is None  # too few to tell
    watched = judge(watched, 9, 1.0, 1.0).watched
    assert judge(watched, 10, 100.0, 1.0).reason == "spike"
    assert judge(watched, 10, 2.9, 1.0).reason is None
    for step in range(policy.WINDOW):
        watched = judge(watched, step, 2.9, 1.0).watched
    assert watched.recent == (2.9,) * policy.WINDOW
    assert judge(watched, 99, 8.0, 1.0).reason is None  # the level has risen
    assert judge(watched, 99, 1.0, float("inf")).reason == "gradient is no number"


# -- signals ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_the_run_goes_on_as_if_undisturbed(base: Path, name: str) -> None:
    settings: dict[str, Any] = {"data__eval": "shards/heldout", "run__eval_every": 4, "run__save_every": 5}
    run(recipe("whole", **settings), base)

    def kill(row: dict[str, Any]) -> None:
        if row["step"] == 3 and "loss" in row:
            os.kill(os.getpid(), getattr(signal, name))

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(StoppedError, match=rf"stopped by {name} after step 3 of 12.*step-00000003") as caught:
        run(recipe("cut", **settings), base, kill)
    assert caught.value.exit_code == {"SIGTERM": 143, "SIGINT": 130}[name]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert checkpoint.steps_saved(base / "cut") == [3]
    assert "stopped" in (base / "cut/index.html").read_text()

    def in_evaluation(what: str, done: int, total: int | None, note: str = "") -> None:
        if what == "evaluate" and done != total:
            os.kill(os.getpid(), getattr(signal, name))

    with pytest.raises(StoppedError, match="after step 4"):  # in the middle of the evaluation that follows it
        run(recipe("cut", **settings), base, progress=in_evaluation)
    assert not [row for row in read_metrics(base / "cut") if row["step"] == 4 and "bits_per_byte" in row]
    run(recipe("cut", **settings), base)
    assert rows_of(base / "cut") == rows_of(base / "whole")
    assert same_weights(base / "cut", base / "whole")


def command(base: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads()), **environment}
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=base, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def written(base: Path, wanted: TrainRecipe) -> str:
    (base / "r.yaml").write_text(yaml.safe_dump(wanted.model_dump(mode="json")))
    return "r.yaml"


def wait_for_rows(process: subprocess.Popen[str], metrics: Path, least: int) -> None:
    until = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= least):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_says_what_to_run_to_go_on(base: Path, number: signal.Signals, code: int) -> None:
    settings: dict[str, Any] = {"run__steps": 4000, "optim": {"lr": 3e-3, "warmup": 2, "schedule": "constant"}}
    process = command(base, "-m", "codedev", "train", written(base, recipe(**settings)), "--set", "run.log_every=1")
    wait_for_rows(process, base / "run/metrics.jsonl", 5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    [step] = checkpoint.steps_saved(base / "run")
    assert f"stopped by {number.name} after step {step} of 4000" in err
    assert "goes on from there: codedev train r.yaml --set run.log_every=1" in err
    assert "Traceback" not in err
    settings["run__steps"] = step + 3
    run(recipe(**settings), base)
    run(recipe("whole", **settings), base)
    assert rows_of(base / "run") == rows_of(base / "whole")


@pytest.mark.slow
def test_processes_agree_on_the_step(base: Path) -> None:
    """SIGTERM to torchrun, which passes it on, at moments of its own for each process."""
    settings: dict[str, Any] = {"run__steps": 4000, "optim": {"lr": 3e-3, "warmup": 2, "schedule": "constant"}}
    name = written(base, recipe(**settings))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "codedev", "train", name]
    process = command(base, *launch, OMP_NUM_THREADS="1")
    wait_for_rows(process, base / "run/metrics.jsonl", 5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=90)
    [step] = checkpoint.steps_saved(base / "run")
    assert f"stopped by SIGTERM after step {step} of 4000" in err
    assert err.count("stopped by SIGTERM after") == 1
    assert len(read_metrics(base / "run")) == step
    settings["run__steps"] = step + 2
    run(recipe(**settings), base)
    run(recipe("whole", **settings), base)
    assert [row["loss"] for row in rows_of(base / "run")] == pytest.approx([row["loss"] for row in rows_of(base / "whole")], abs=1e-4)


# -- a full disk -----------------------------------------------------------------------------------------------------------------------


def test_a_full_disk_spares_the_last_checkpoint(base: Path) -> None:
    """The kernel refuses files beyond RLIMIT_FSIZE in the middle of a write, as a full disk does."""
    settings: dict[str, Any] = {"run__save_every": 4, "run__keep": 1}
    run(recipe("whole", **settings), base)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(row: dict[str, Any]) -> None:
        if row["step"] == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))

    try:
        with pytest.raises(RunError, match=r"step-00000008: cannot be written.*ulimit -f.*run the same command again") as caught:
            run(recipe("full", **settings), base, fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert checkpoint.steps_saved(base / "full") == [4]
    assert not list((base / "full").rglob(f"{TEMPORARY}*"))
    assert {path.name for path in checkpoint.directory(base / "full", 4).iterdir()} == {
        path.name for path in checkpoint.directory(base / "whole", 12).iterdir()
    }
    run(recipe("full", **settings), base)
    assert rows_of(base / "full") == rows_of(base / "whole")
    assert same_weights(base / "full", base / "whole")


@pytest.mark.slow
def test_a_disk_that_is_really_full(base: Path) -> None:
    """In a file system of 2 MB, in a namespace of our own: one checkpoint of 1.3 MB fits, two do not."""
    inside = 'mount -t tmpfs -o size=2m tmpfs small && exec "$@"'
    (base / "small").mkdir()
    if subprocess.run(["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=2m tmpfs small"], cwd=base, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    settings: dict[str, Any] = {"run__save_every": 4, "run__keep": 1}
    name = written(base, recipe("small/run", **settings))
    script = (
        f"{sys.executable} -m codedev train {name} -q; echo code $?; ls -A small/run/checkpoints; df small | tail -1;"
        "mount -o remount,size=20m small;"
        f"{sys.executable} -m codedev train {name} -q > /dev/null; echo code $?; cp -r small/run run"
    )
    process = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, "sh", "sh", "-c", script],
        cwd=base,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = process.stdout.split()
    assert said[:3] == ["code", "1", "step-00000004"], process.stderr
    assert "cannot be written" in process.stderr
    assert "Make room" in process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout.rstrip().endswith("code 0"), process.stderr
    run(recipe("whole", **settings), base)
    assert rows_of(base / "run") == rows_of(base / "whole")


# -- explain and status ----------------------------------------------------------------------------------------------------------------


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(cli.cli, list(arguments), catch_exceptions=False)


def test_a_step_is_explained_with_the_losses_of_its_documents(base: Path) -> None:
    run(recipe(run__save_every=4, run__keep=9, batch={"rows": 8, "micro_rows": 3}), base)
    rows = {row["step"]: row for row in read_metrics(base / "run")}
    for step in (1, 5, 9):  # weights at exactly that moment: the recorded loss comes out of the documents'
        told = explain(base / "run", step)
        assert (told["exact"], told["weights_step"]) == (True, step - 1)
        assert told["loss"] == pytest.approx(rows[step]["loss"], rel=1e-5)
        assert told["loss_recorded"] == rows[step]["loss"]
        assert sum(one["supervised"] for one in told["documents"]) == rows[step]["supervised"]
        losses = [one["loss"] for one in told["documents"] if one["loss"] is not None]
        assert losses == sorted(losses, reverse=True)
        names = ("shards", "row", "start", "end", "document", "offset")
        here, there = (
            {tuple(one[name] for name in names) for one in found} for found in (told["documents"], documents_of_step(base / "run", step))
        )
        assert here == there
    told = explain(base / "run", 8)
    assert (told["exact"], told["weights_step"]) == (False, 4)
    # Documents' losses are those of the model called on each document alone.
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint.directory(base / "run", 4))
    shards = open_shards((base / "shards",))
    for one in told["documents"][:5]:
        ids = torch.from_numpy(shards.read(np.array([one["row"]])).input_ids[:, one["start"] : one["end"]])
        with torch.no_grad():
            assert float(model(input_ids=ids, labels=ids).loss) == pytest.approx(one["loss"], rel=1e-4)
    with pytest.raises(RecipeError, match="there is no step 13: the run has 12"):
        explain(base / "run", 13)

    for saved in (4, 8):
        shutil.rmtree(checkpoint.directory(base / "run", saved))
    told = explain(base / "run", 8)
    assert told["weights"] is None
    assert "the oldest that is kept is of step 12" in told["why"]
    assert {one["loss"] for one in told["documents"]} == {None}
    shown = invoke("train", "explain", str(base / "run"), "--step", "8", "--limit", "2").output
    assert "without losses" in shown
    assert re.search(r"\d+ more: --limit", shown)
    shown = json.loads(invoke("train", "explain", str(base / "run"), "--step", "1", "--json").output)
    assert shown["weights"] == "the model that the run began with"
    assert invoke("train", "explain", str(base / "run"), "--step", "1").output.count("doc-") == 30


def test_a_step_of_an_adapter_is_explained(base: Path) -> None:
    run(recipe("first", run__steps=2), base)
    settings: dict[str, Any] = {"model": {"path": "first/model"}, "tune": "lora", "run__save_every": 4, "run__steps": 6}
    run(recipe("lora", **settings), base)
    row = next(row for row in read_metrics(base / "lora") if row["step"] == 5)
    assert explain(base / "lora", 5)["loss"] == pytest.approx(row["loss"], rel=1e-5)


def test_where_a_run_stands(base: Path) -> None:
    run(recipe(data__eval="shards/heldout", run__save_every=5), base)
    told = status(base / "run")
    rows = read_metrics(base / "run")
    assert (told["step"], told["steps"], told["going"], told["model"]) == (12, 12, False, True)
    assert told["checkpoints"] == [10, 12]
    assert told["loss"] == rows[-2]["loss"]
    assert told["bits_per_byte"] == {"first": rows[0]["bits_per_byte"], "last": rows[-1]["bits_per_byte"]}
    with locked(base / "run"):
        assert status(base / "run")["going"] is True
    assert "finished" in invoke("train", "status", str(base / "run")).output
    assert json.loads(invoke("train", "status", str(base / "run"), "--json").output)["tokens_seen"] == told["tokens_seen"]


def test_help_and_usage_of_the_group() -> None:
    assert "RECIPE" in invoke("train", "--help").output
    assert "--dry-run" in invoke("train", "-h").output
    assert "--step" in invoke("train", "explain", "--help").output
    for arguments in (["train"], ["train", "explain", "x"], ["train", "explain", "x", "--step", "0"], ["train", "a", "b"]):
        assert CliRunner().invoke(cli.cli, arguments).exit_code == 2


# -- curves and the page ---------------------------------------------------------------------------------------------------------------


def test_a_curve_is_bounded_and_loses_no_peak() -> None:
    values = np.random.default_rng(0).normal(3, 0.1, 5000)
    values[[123, 4000]] = 50, -50
    curve = curves.Curve()
    for step, value in enumerate(values.tolist(), 1):
        curve.add(step, value)
        assert len(curve.buckets) <= curves.MOST
    curve.add(5001, None)
    curve.add(5002, float("nan"))
    assert curve.width == 8
    for bucket in curve.buckets:
        steps = np.arange(max(bucket.step, 1), min(bucket.step + curve.width, 5001))
        own = values[steps - 1]
        assert bucket.step % curve.width == 0
        assert (bucket.steps, bucket.low, bucket.high) == (len(own), own.min(), own.max())
        assert bucket.mean == pytest.approx(own.mean())
    smooth = curves.smoothed([1.0] * 30)
    assert smooth == pytest.approx([1.0] * 30)
    assert curves.smoothed([5.0]) == [5.0]


def test_spikes_for_the_page_stand_out_twice() -> None:
    spikes = curves.Spikes()
    draw = np.random.default_rng(1)
    for step in range(1, 400):
        spikes.add(step, 2.0 + float(draw.normal(0, 0.05)) + (3.0 if step in (100, 250) else 0.0))
    assert [one["step"] for one in spikes.found()] == [100, 250]
    for step in range(400, 800):
        spikes.add(step, 5.0 if step % 20 == 0 else 2.0 + float(draw.normal(0, 0.05)))
    assert len(spikes.found()) <= 12


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("chromium is not installed: the page is not rendered")
    return found


def browse(chromium: str, page: Path, profile: Path, query: str = "") -> tuple[str, str]:
    """(the page as the browser has it, what its console said)"""
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
    flags = [*quiet.split(), "--disable-sync", f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run([chromium, *flags, f"{page.resolve().as_uri()}{query}"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


HOSTILE = '<script>document.title="run"</script>" onload="alert(1)\u202e'


def test_the_page_of_a_run(base: Path, chromium: str) -> None:
    noisy(base / "shards")
    rewritten(base / "shards", "segment_documents", lambda row, names: [f"{HOSTILE}{name}" if row in NOISE else name for name in names])
    settings = {**SKIP, "data__eval": "shards/heldout", "run__eval_every": 25, "run__save_every": None}
    run(recipe(**settings), base)
    page = base / "run" / "index.html"
    text = page.read_text()
    assert "refresh" not in text.split("<style>")[0], "a finished run is not loaded anew"
    assert not re.search(r'(src|href)="(?!#)', text), "the page asks for something"
    assert HOSTILE not in text
    rows = read_metrics(base / "run")
    curves_of = json.loads(re.search(r'id="curves-data">(.*?)</script>', text)[1])  # type: ignore[index]
    assert [[step, value] for step, value, *_ in curves_of["bits_per_byte"]["rows"]] == [
        [row["step"], pytest.approx(row["bits_per_byte"], rel=1e-4)] for row in rows if "bits_per_byte" in row
    ]
    assert len(curves_of["loss"]["rows"]) == sum("loss" in row for row in rows)
    for row in rows:
        if "skipped" in row:
            assert f"codedev train explain {base / 'run'} --step {row['step']}<" in text
    rendered, console = browse(chromium, page, base / "profile", "?theme=dark")
    assert console == ""
    assert 'data-theme="dark"' in rendered
    assert rendered.count('tabindex="0"') >= 5, "the curves' script has run"
    assert "<title>run – step 130 of 130" in rendered

    # In a copy without the policy, a pointer over the middle of the loss.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    probe = """<script>
      const figure = document.querySelector('[data-curve="loss"]'), svg = figure.querySelector("svg.curve");
      const box = svg.getBoundingClientRect();
      svg.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + box.width / 2, clientY: box.top + 20}));
      document.body.dataset.found = figure.querySelector("output").textContent;
      svg.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
      document.body.dataset.next = figure.querySelector("output").textContent;
      svg.dispatchEvent(new PointerEvent("pointerleave"));
      document.body.dataset.usual = figure.querySelector("output").textContent;
    </script></body>"""
    (base / "probe.html").write_text(text.replace("</body>", probe))
    rendered, console = browse(chromium, base / "probe.html", base / "profile")
    assert console == ""
    found = {name: re.search(rf'data-{name}="([^"]*)"', rendered)[1] for name in ("found", "next", "usual")}  # type: ignore[index]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    for name in ("found", "next"):
        step, value = re.fullmatch(r"step (\d+): ([\d.]+)", found[name]).groups()  # type: ignore[union-attr]
        assert float(value) == pytest.approx(losses[int(step)], rel=1e-3)
        assert 60 <= int(step) <= 72
    assert found["found"] != found["next"]
    assert "step" not in found["usual"]


def test_the_page_is_written_while_the_run_goes_on(base: Path) -> None:
    seen: list[str] = []

    def look(row: dict[str, Any]) -> None:
        page = base / "run" / "index.html"
        seen.append(page.read_text() if page.is_file() else "")

    run(recipe(run__page_every=0.001), base, look)
    assert all("running" in page and 'http-equiv="refresh"' in page for page in seen)
    assert "step 7 of 12" in seen[6]
    # It cannot be written: the run goes on without.

    def block(row: dict[str, Any]) -> None:
        if row["step"] == 3:
            (base / "second/index.html").unlink()
            (base / "second/index.html").mkdir()

    run(recipe("second", run__page_every=0.001), base, block)
    assert (base / "second/model").is_dir()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_other_logs(base: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    if importlib.util.find_spec(name) is None:
        with pytest.raises(RecipeError, match=rf"run\.log_to: {name} is not installed. Install it with: pip install {name}"):
            run(recipe(run__log_to=(name,)), base)
        assert not (base / "run/metrics.jsonl").exists()
        return
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(recipe(run__log_to=(name,), data__eval="shards/heldout"), base)
    rows = read_metrics(base / "run")
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(base / "run/tensorboard"))
        events.Reload()
        assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [
            (row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows if "loss" in row
        ]
        assert len(events.Scalars("heldout/bits_per_byte")) == 2
    else:
        assert list((base / "run/wandb").glob("offline-run-*/run-*.wandb"))


# -- the dry run -----------------------------------------------------------------------------------------------------------------------


def test_a_dry_run_trains_nothing_and_tells_what_the_run_then_does(base: Path) -> None:
    settings: dict[str, Any] = {"data__eval": "shards/heldout", "run__save_every": 5, "run__steps": 7}
    name = written(base, recipe(**settings))
    done = invoke("train", str(base / name), "--dry-run", "--json")
    assert done.exit_code == 0
    told = json.loads(done.output)
    assert not (base / "run").exists()
    result = run(recipe(**settings), base)
    rows = [row for row in read_metrics(base / "run") if "loss" in row]
    plan = told["plan"]
    assert (plan["steps"], plan["rows_a_step"], plan["tokens_a_step"]) == (7, 8, 8 * SEQ_LEN)
    assert plan["epochs"] == pytest.approx(7 * 8 / 40)
    assert (told["memory"]["parameters"], told["memory"]["trained"]) == (result["parameters"], result["trained_parameters"])
    assert told["schedule"]["lr"] == [row["lr"] for row in rows]
    files = sum(path.stat().st_size for path in checkpoint.directory(base / "run", 7).iterdir())
    assert told["disk"]["checkpoint"] == pytest.approx(files, rel=0.1)
    assert told["isolation"]["ok"] is True
    shards = open_shards((base / "shards",))
    whole = shards.read(np.arange(shards.rows))
    assert (told["data"]["supervised"], told["data"]["tokens"]) == (int(whole.targets.sum()), int(whole.real.sum()))
    assert told["data"]["padding"] == shards.rows * SEQ_LEN - told["data"]["tokens"]
    # The first rows, piece by piece.
    for row in told["batch"]:
        read = shards.read(np.array([row["row"]]))
        pieces = [piece for segment in row["segments"] for piece in segment["pieces"]]
        ids = [int(number) for piece in pieces for number in piece["text"].split()]
        assert ids == read.input_ids[0, read.real[0]].tolist()
        mask = [piece["supervised"] for piece in pieces for _ in range(piece["tokens"])]
        assert mask == read.targets[0, read.real[0]].tolist()
    shown = invoke("train", str(base / name), "--dry-run").output
    assert "documents of a row do not see each other" in shown
    assert "⟦" in shown


def test_a_dry_run_says_why_a_run_cannot_be(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codedev.train.watch import memory

    monkeypatch.setattr(memory, "machine", lambda device: (1 << 20, 1 << 19))
    done = invoke("train", str(base / written(base, recipe())), "--dry-run", "--json")
    told = json.loads(done.output)
    assert done.exit_code == 1
    assert "Lower batch.micro_rows" in told["faults"][0]
    assert told["isolation"]["ok"] is None
    write_shards(base / "half", spans=[None if row % 2 else [] for row in range(40)])
    monkeypatch.undo()
    told = json.loads(invoke("train", str(base / written(base, recipe(data={"shards": "half"}))), "--dry-run", "--json").output)
    assert told["data"]["rows_unsupervised"] == 20
    assert "20 rows have no supervised token" in told["warnings"][0]


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of the samples' conversations, made by the commands themselves."""
    from codedev import _recipe
    from codedev.corpus import recipe as recipes
    from codedev.corpus.build import build
    from codedev.tokenize.build import tokenize_corpus
    from codedev.tokenize.recipe import TokenizeRecipe
    from codedev.tokenize.train import train_tokenizer

    folder = tmp_path_factory.mktemp("chats")
    sources = [{"name": "chats", "type": "tables", "paths": [str(ROOT / "samples/tables/chats.jsonl")]}]
    build(recipes.check({"name": "sft", "sources": sources}, "recipe"), folder, folder / "corpus")
    train_tokenizer(folder / "corpus", folder / "tokenizer", vocab_size=400, special_slots=64)
    for name, keys in {"chatml": {}, "plain": {"chat": {"template": "plain"}}, "cut": {"seq_len": 48}}.items():
        wanted = _recipe.check({"mode": "sft", "seq_len": 128, **keys}, TokenizeRecipe, "recipe")
        tokenize_corpus(folder / "corpus", folder / "tokenizer", folder / name, wanted)
    return folder


def test_the_end_of_every_turn_is_trained(chats: Path, tmp_path: Path) -> None:
    from codedev.train.instructions.turns import check_turns

    told = check_turns(open_shards((chats / "chatml",)))
    assert (told["ok"], told["ends"], told["open"]) == (True, ["<|im_end|>"], 0)
    assert told["answers"] == told["ended"] + told["cut"] > 0
    # By hand: the token before every end of a span.
    shards = open_shards((chats / "chatml",))
    from codedev.tokenize.vocabulary import load_vocabulary, special_id

    end = special_id(load_vocabulary(chats / "chatml/tokenizer.json"), "<|im_end|>")
    ended = 0
    for batch in shards.batches:
        for ids, spans in zip(batch.column("input_ids").to_pylist(), batch.column("loss_spans").to_pylist(), strict=True):
            ended += sum(ids[span["end"] - 1] == end for span in spans)
    assert told["ended"] == ended
    cut = check_turns(open_shards((chats / "cut",)))
    assert cut["cut"] > 0
    assert cut["open"] == 0

    # A mask that leaves the end out, as a mask of padding that is the same token does.
    shutil.copytree(chats / "chatml", tmp_path / "open")
    rewritten(
        tmp_path / "open",
        "loss_spans",
        lambda row, spans: [{"start": span["start"], "end": span["end"] - 1} for span in spans if span["end"] - 1 > span["start"]],
    )
    told = check_turns(open_shards((tmp_path / "open",)))
    assert (told["ok"], told["ended"]) == (False, 0)
    assert "is not taught to stop" in told["said"]


def test_a_dry_run_of_instruction_tuning(chats: Path) -> None:
    config = {**TINY, "max_position_embeddings": 160}
    settings: dict[str, Any] = {"stage": "sft", "model": {"config": config}, "batch": {"rows": 4, "micro_rows": 2}}
    name = written(chats, recipe(**settings, data={"shards": "chatml"}))
    told = json.loads(invoke("train", str(chats / name), "--dry-run", "--json").output)
    assert told["turns"]["ok"] is True
    assert told["faults"] == []
    learned = "".join(piece["text"] for row in told["batch"] for part in row["segments"] for piece in part["pieces"] if piece["supervised"])
    given = "".join(
        piece["text"] for row in told["batch"] for part in row["segments"] for piece in part["pieces"] if not piece["supervised"]
    )
    assert "<|im_end|>" in learned
    assert "<|im_start|>assistant" in given
    assert "<|im_start|>" not in learned
    shown = invoke("train", str(chats / name), "--dry-run").output
    assert "✓" in shown
    assert "which is trained" in shown


# In a process of its own, whose memory goes back as soon as it is freed (MALLOC_MMAP_THRESHOLD_), so that what the kernel counts at its
# highest is what was held. A small run of the same kind comes first: what libraries set up is no part of the estimate.
MEASURE = """
import sys, json, gc
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
from train_support import recipe
from codedev.train.watch import memory
from codedev.train import run
from codedev.train.data import open_shards
from codedev.train.loop import Plan
from codedev.train.recipe import absolute
base = Path(sys.argv[2])
def held(what):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(what))
def wanted(size, tune, rows):
    model = base / size / "model"
    model = {"path": str(model / "config.json" if tune == "full" else model)}
    return recipe(f"{size}-{tune}-{rows}", model=model, tune=tune, batch={"rows": rows, "micro_rows": 12}, run__steps=2)
found = {}
for tune, rows in json.loads(sys.argv[3]):
    run(wanted("small", tune, rows), base)
    shards, asked, device = open_shards((base / "shards",)), wanted("large", tune, rows), torch.device("cpu")
    first = shards.read(Plan(2, rows, 12, 0).numbers(0, shards)[:12])
    told = memory.estimate(absolute(asked, base), shards, device, torch.float32, "sdpa", first)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before, mapped = held("VmRSS"), [held("RssFile")]
    run(asked, base, lambda row: mapped.append(held("RssFile")))
    # A file of weights that is mapped is read again where memory is short: it counts where its pages are the weights.
    files = max(mapped) - mapped[0] if tune == "qlora" else 0
    found[f"{tune} {rows}"] = [told.how, told.peak, held("VmHWM") - before - files]
print(json.dumps(found))
"""
MEASURED = [("full", 12), ("full", 24), ("lora", 12), ("qlora", 12), ("prefix", 12)]


@pytest.mark.slow
def test_the_estimate_of_memory_is_what_is_measured(base: Path) -> None:
    big = {**TINY, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 6}
    run(recipe("small", run__steps=1), base)
    run(recipe("large", model={"config": big}, run__steps=1, batch={"rows": 1, "micro_rows": 1}), base)
    process = command(base, "-c", MEASURE, str(ROOT / "tests"), str(base), json.dumps(MEASURED), MALLOC_MMAP_THRESHOLD_="65536")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    found = json.loads(out)
    assert {how for how, *_ in found.values()} == {"counted"}
    off = {name: round(told / measured - 1, 3) for name, (_, told, measured) in found.items()}
    assert max(map(abs, off.values())) < 0.1, off
    print(off)
