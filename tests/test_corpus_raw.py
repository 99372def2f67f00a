"""Raw records found again where an origin says they are."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from codedev.corpus.raw import raw_record

FILES = {"a/b.txt": b"first\nsecond\nthird\n", "c.txt": bytes(range(256)) * 3000}


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    "data", [_tar(), _zip(), gzip.compress(_tar()), zstandard.compress(_tar())], ids=["tar", "zip", "tar.gz", "tar.zst"]
)
def test_members(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "archive"
    path.write_bytes(data)
    for name, content in FILES.items():
        assert raw_record(path, {"member": name}) == content
        assert raw_record(path, {"member": name, "offset": 99, "length": len(content)}) == content  # the member's own place
        assert raw_record(path, {"member": name, "offset": 6, "length": 6}) == content[6:12]  # a part of it
    with pytest.raises(OSError, match="holds no member 'nothing'"):
        raw_record(path, {"member": "nothing"})


def test_members_of_members(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in {"in.tar.gz": gzip.compress(_tar()), "one.gz": gzip.compress(b"single")}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    path = tmp_path / "outer.tar"
    path.write_bytes(out.getvalue())
    assert raw_record(path, {"member": "in.tar.gz!c.txt"}) == FILES["c.txt"]
    assert raw_record(path, {"member": "one.gz!one"}) == b"single"


def test_places_in_files(tmp_path: Path) -> None:
    content = b"".join(b"line %d\n" % number for number in range(1000))
    for name, data in {"plain": content, "gz": gzip.compress(content), "zst": zstandard.compress(content)}.items():
        (tmp_path / name).write_bytes(data)
        assert raw_record(tmp_path / name, {"offset": content.index(b"line 500"), "length": 9}) == b"line 500\n"
        assert raw_record(tmp_path / name, {}) == content


def test_a_file_of_a_commit(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for step in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        (tmp_path / "f.py").write_text("x = 1\n")
        subprocess.run([*git, *step], check=True)
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    (tmp_path / "f.py").write_text("x = 2\n")
    assert raw_record(tmp_path, {"member": "f.py"}, f"repo@{commit}:f.py") == b"x = 1\n"
    with pytest.raises(OSError, match="holds no file"):
        raw_record(tmp_path, {"member": "g.py"}, f"repo@{commit}:f.py")
