"""The run directory: writes are whole or not there, receipts tell changed work, one process at a time, sweeping spares what is not ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import xxhash

from codedev import _run
from codedev._errors import InputError, RunError


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def interrupted_write(path: Path, failure: type[BaseException]) -> None:
    with _run.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise failure


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.json"
    _run.write_text(path, "old")
    for failure in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(failure):
            interrupted_write(path, failure)
        assert path.read_text() == "old"
        assert listing(tmp_path) == ["sub", "sub/a.json"]
    with pytest.raises(FileNotFoundError), _run.atomic_write(path):
        pass  # nothing was written
    assert path.read_text() == "old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"), _run.atomic_write(tmp_path / "folder") as temporary:
        temporary.write_text("x")
    assert listing(tmp_path) == ["folder", "sub", "sub/a.json"]


def test_the_file_appears_at_once(tmp_path: Path) -> None:
    with _run.atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "a").exists()
        assert temporary.name.startswith(_run.TEMPORARY)
    assert (tmp_path / "a").read_text() == "whole"


def test_sweeping_removes_what_a_kill_left_and_no_more(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from codedev._run import atomic_write\n"
        "with atomic_write(Path(sys.argv[1]) / 'deep/a') as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    assert len(listing(tmp_path)) == 2
    (tmp_path / ".tmp-mine").write_text("of another program")
    (tmp_path / f"{_run.TEMPORARY}folder").mkdir()
    (tmp_path / f"{_run.TEMPORARY}folder/file").write_text("x")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / f"{_run.TEMPORARY}kept").write_text("x")
    (tmp_path / "link").symlink_to(outside)
    _run.sweep(tmp_path)
    assert listing(tmp_path) == [".tmp-mine", "deep", "link"]
    assert (outside / f"{_run.TEMPORARY}kept").exists()


def test_json_is_canonical(tmp_path: Path) -> None:
    pair = namedtuple("pair", "a b")
    _run.write_json(tmp_path / "a.json", {"b": 1, "a": {"y": "é", "x": (1, 2)}})
    assert (tmp_path / "a.json").read_bytes() == (
        b'{\n  "a": {\n    "x": [\n      1,\n      2\n    ],\n    "y": "\xc3\xa9"\n  },\n  "b": 1\n}\n'
    )
    assert _run.read_json(tmp_path / "a.json") == {"a": {"x": [1, 2], "y": "é"}, "b": 1}
    assert _run.content_key({"b": 1, "a": 2}, pair(1, 2)) == _run.content_key({"a": 2, "b": 1}, [1, 2])
    assert _run.content_key("a", "b") != _run.content_key("ab")
    assert _run.content_key(["a"], "b") != _run.content_key("a", ["b"])
    assert _run.content_key("a") == xxhash.xxh3_128_hexdigest(b'["a"]')


def test_json_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ')
    for path in (tmp_path / "a.json", tmp_path / "none", tmp_path):
        with pytest.raises(InputError) as raised:
            _run.read_json(path)
        assert str(path) in str(raised.value)


def test_file_hashes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(content)
    assert _run.file_hash(tmp_path / "a") == xxhash.xxh3_128_hexdigest(content)


def test_receipts(tmp_path: Path) -> None:
    outputs = [tmp_path / "out" / name for name in ("a", "b")]
    for output in outputs:
        _run.write_text(output, output.name * 100)
    path = tmp_path / "work" / "receipt.json"
    written = _run.write_receipt(path, outputs, {"rows": 3})
    assert _run.read_receipt(path) == written
    assert written["outputs"].keys() == {"../out/a", "../out/b"}
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)  # a run directory may move
    assert _run.read_receipt(moved / "work/receipt.json") == written
    moved.rename(tmp_path)

    outputs[0].write_text("a" * 99 + "b")  # the same size
    assert _run.read_receipt(path) is None
    outputs[0].write_text("a" * 100)
    assert _run.read_receipt(path) == written
    outputs[1].unlink()
    assert _run.read_receipt(path) is None
    outputs[1].mkdir()
    assert _run.read_receipt(path) is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "null", "{}", '{"outputs": 3}', '{"outputs": {"a": 1}}', '{"outputs": [1]}', "\xff"]
)
def test_a_broken_receipt_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content, encoding="latin-1")
    assert _run.read_receipt(tmp_path / "r.json") is None


def test_one_process_at_a_time(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from codedev._run import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(RunError, match="another run is writing here"), _run.locked(tmp_path):
        pass
    holder.kill()  # the kernel frees the lock
    holder.communicate()
    with _run.locked(tmp_path):
        pass
    before = len(os.listdir("/proc/self/fd"))
    with _run.locked(tmp_path), pytest.raises(RunError), _run.locked(tmp_path):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/codedev")):
        with pytest.raises(RunError, match="Choose another --out"), _run.locked(out):
            pass


def test_events(tmp_path: Path) -> None:
    events = _run.Events(tmp_path)
    events.log("planned", base=os.fsdecode(b"/data/caf\xe9"), units=3)
    events.log("built")
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert [line["event"] for line in lines] == ["planned", "built"]
    assert os.fsencode(lines[0]["base"]) == b"/data/caf\xe9"
    assert lines[0]["time"] <= lines[1]["time"]
