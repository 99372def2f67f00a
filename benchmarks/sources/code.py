"""The code source: folders, a commit of a bare repository, a tar, a Parquet table; peers read the same bytes and decode them.

A peer judges nothing: no language, licence, vendored or generated code is found. GitPython asks a `git cat-file` process for every blob.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from _bench import Case, SkipError

TREES = ("django", "git", "sympy", "redis", "golang-github-gin-gonic-gin", "rust-serde")


def cases(data: Path, work: Path) -> dict[str, Case]:
    trees = [data / "code" / name for name in TREES if (data / "code" / name).is_dir()]
    if not trees:
        raise SkipError(f"no source trees at {data / 'code'}")
    work.mkdir(parents=True, exist_ok=True)
    tree = _together(trees, work / "trees")
    size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink() and ".git" not in path.parts)
    amount = size / 1e6
    made = {"files/folders": Case(_reader(work, "trees"), amount, "MB raw", peers={"open and decode": lambda: _walk(tree)})}
    bare, tar, table = work / "trees.git", work / "trees.tar", work / "trees.parquet"
    if shutil.which("git"):
        if not bare.exists():
            _commit(tree, bare)
        peers: dict[str, Callable[[], object]] = {}
        try:
            import git  # noqa: F401

            peers["GitPython"] = lambda: _gitpython(bare)
        except ImportError:
            pass
        made["files/bare repository"] = Case(_reader(work, "trees.git"), amount, "MB raw", peers=peers)
        if not tar.exists():
            subprocess.run(["git", "archive", "--prefix=trees/", "-o", str(tar), "HEAD"], cwd=bare, check=True)
        made["files/tar"] = Case(_reader(work, "trees.tar"), amount, "MB raw", peers={"tarfile": lambda: _tarfile(tar)})
    rows = _table(tree, table)
    made["files/Parquet"] = Case(_reader(work, "trees.parquet"), rows, "MB raw", peers={"pyarrow to_pylist": lambda: _parquet(table)})
    made["files/with comment shares"] = Case(_reader(work, "trees/redis", comments=True), _size(tree / "redis"), "MB raw")
    made["pairs/docstring to code"] = Case(_reader(work, "trees/django", mode="pairs"), _size(tree / "django"), "MB raw")
    made["context/whole repository"] = Case(_context(work, "trees/sympy"), _size(tree / "sympy"), "MB raw")
    return made


def _size(tree: Path) -> float:
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def _together(trees: list[Path], target: Path) -> Path:
    for tree in trees:
        if not (target / tree.name).exists():
            shutil.copytree(tree, target / tree.name, symlinks=True)
    return target


def _commit(tree: Path, bare: Path) -> None:
    environment = {**os.environ, "HOME": str(tree.parent), "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "trees"], ["clone", "-q", "--bare", ".", str(bare)]):
        subprocess.run(["git", *who, *arguments], cwd=tree, env=environment, check=True)
    subprocess.run(["git", "gc", "-q"], cwd=bare, env=environment, check=True)
    shutil.rmtree(tree / ".git")


def _table(tree: Path, target: Path) -> float:
    """The texts of the trees as a table; its MB."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: dict[str, list[str]] = {"content": [], "path": [], "repo_name": []}
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            try:
                rows["content"].append(path.read_bytes().decode())
            except UnicodeDecodeError:
                continue
            repository, _, inner = str(path.relative_to(tree)).partition("/")
            rows["path"].append(inner)
            rows["repo_name"].append(f"owner/{repository}")
    if not target.exists():
        pq.write_table(pa.table(rows), target, row_group_size=4096, compression="zstd")
    return sum(len(text.encode()) for text in rows["content"]) / 1e6


def _reader(base: Path, path: str, **keys: object) -> Callable[[], int]:
    def run() -> int:
        from codedev.corpus.sources.code import source as code

        config = code.Config(name="code", paths=(path,), **keys)  # type: ignore[arg-type]
        return sum(1 for extent in code.plan(config, base, 32 << 20) for _ in code.read(extent._replace(hash="0" * 32), config, base))

    return run


def _context(base: Path, path: str) -> Callable[[], int]:
    def run() -> int:
        from codedev.corpus.source import Piece
        from codedev.corpus.sources.code import source as code

        config = code.Config(name="code", paths=(path,), mode="context")
        read = (record for extent in code.plan(config, base, 32 << 20) for record in code.read(extent._replace(hash="0"), config, base))
        pieces = [record for record in read if isinstance(record, Piece)]
        return sum(1 for _ in code.gather(0, "", pieces, config))

    return run


def _walk(tree: Path) -> int:
    held = 0
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                with open(path, "rb") as file:
                    held += len(file.read().decode("utf-8", "replace"))
    return held


def _gitpython(bare: Path) -> int:
    import git

    with git.Repo(bare) as repository:  # closed, so that the time of its `git cat-file` counts
        blobs = (found for found in repository.head.commit.tree.traverse() if found.type == "blob")
        return sum(len(blob.data_stream.read().decode("utf-8", "replace")) for blob in blobs)


def _tarfile(path: Path) -> int:
    held = 0
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                held += len(archive.extractfile(member).read().decode("utf-8", "replace"))  # type: ignore[union-attr]
    return held


def _parquet(path: Path) -> int:
    import pyarrow.parquet as pq

    return sum(len(row["content"]) for batch in pq.ParquetFile(path).iter_batches(512, use_threads=False) for row in batch.to_pylist())
