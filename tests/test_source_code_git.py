"""Code out of git's objects: against git itself and against the checkout; packed, loose, damaged and hostile repositories."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from test_source_code import GPL, MIT, SOURCE, config, make, verdict

from codedev.corpus.source import Document, Drop, Extent, Failure
from codedev.corpus.sources.code import objects as code_objects
from codedev.corpus.sources.code import pack as code_pack
from codedev.corpus.sources.code import source as code

pytest.importorskip("pygit2")
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(at: Path, *arguments: str, text: bool = True) -> Any:
    environment = {"PATH": os.environ["PATH"], "HOME": str(at), "GIT_CONFIG_NOSYSTEM": "1", "GIT_ALLOW_PROTOCOL": "file"}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *arguments], cwd=at, env=environment, check=True, capture_output=True)
    return done.stdout.decode().strip() if text else done.stdout


def commit(tree: Path) -> str:
    if not (tree / ".git").exists():
        git(tree, "init", "-q")
    git(tree, "add", "-A", "-f")
    git(tree, "commit", "-q", "-m", "x")
    return str(git(tree, "rev-parse", "HEAD"))


def bare(tree: Path, *, packed: bool = True) -> Path:
    made = tree.parent / f"{tree.name}.git"
    git(tree.parent, "clone", "-q", "--bare", "--no-local", str(tree), str(made))
    if not packed:
        for pack in sorted((made / "objects/pack").glob("*.pack")):
            loose = pack.rename(made.parent / pack.name)
            for rest in (made / "objects/pack").iterdir():
                rest.unlink()
            subprocess.run(["git", "unpack-objects", "-q"], cwd=made, stdin=open(loose, "rb"), check=True)  # noqa: SIM115
    return made


def read(base: Path, *paths: str, unit: int = 1 << 20, **keys: Any) -> list[Document | Drop | Failure]:
    settings = config(*paths, **keys)
    return [record for extent in code.plan(settings, base, unit) for record in code.read(extent, settings, base)]


def content(record: Document | Drop | Failure) -> tuple[Any, ...]:
    """All but where it lies: offset, length, member."""
    if isinstance(record, Failure):
        return record.kind, record.message
    if isinstance(record, Drop):
        return record.id, record.reason, record.evidence, record.meta
    return record.id, record.text, record.lang, record.licence, record.meta


TREE: dict[str, str | bytes] = {
    "LICENSE": MIT,
    "a.py": SOURCE,
    "a/b.py": SOURCE + "# b\n",
    "a.b/c.py": SOURCE,
    "a0.py": SOURCE,
    "lib/COPYING": GPL,
    "lib/deep/er/x.c": "int f(void) { return 1; }\n",
    "empty.py": "",
    "pic.png": b"\x89PNG",
    "pointer.txt": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    "bad.py": b"# caf\xc3\xa9 \xc3\xa9 \xff\n",
    "Größe/naïve.py": SOURCE,
    "REUSE.toml": 'version = 1\n[[annotations]]\npath = "lib/deep/**"\nSPDX-License-Identifier = "Zlib"\n',
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = make(tmp_path / "tree", TREE)
    (root / "link.py").symlink_to("a.py")
    (root / "loop").symlink_to(".")
    commit(root)
    return root


def test_the_same_documents_as_the_checkout(tmp_path: Path, tree: Path) -> None:
    expected = Counter(map(content, read(tmp_path, "tree")))
    packed = bare(tree)
    assert Counter(map(content, read(tmp_path, "tree.git"))) == expected
    assert Counter(map(content, read(tmp_path, "tree", revision="main"))) == expected
    shutil.rmtree(packed)
    bare(tree, packed=False)
    assert Counter(map(content, read(tmp_path, "tree.git"))) == expected
    assert expected.total() == len(TREE) + 2


def test_bytes_are_those_of_git_show(tmp_path: Path, tree: Path) -> None:
    made = bare(tree)
    records = read(tmp_path, "tree.git")
    listed = git(made, "ls-tree", "-r", "-z", "--name-only", "HEAD", text=False).decode().rstrip("\0").split("\0")
    assert {record.member for record in records} == set(listed)
    for record in records:
        if isinstance(record, Document):
            assert record.text.encode() == git(made, "show", f"HEAD:{record.member}", text=False)
            assert record.length == len(record.text.encode())
    links = {
        record.member: orjson.loads(record.evidence)["target"] for record in records if isinstance(record, Drop) and record.reason == "link"
    }
    assert links == {"link.py": "a.py", "loop": "."}
    assert {verdict(record) for record in records if record.member == "pointer.txt"} == {"lfs_pointer"}


def test_any_unit_gives_the_same(tmp_path: Path, tree: Path) -> None:
    make(tree, {f"many/{n % 7}/{n}.py": SOURCE + f"# {n}\n" for n in range(60)})
    commit(tree)
    bare(tree)
    whole = read(tmp_path, "tree.git", unit=1 << 30)
    for unit in (1, 40, 300, 5000):
        assert read(tmp_path, "tree.git", unit=unit) == whole
    assert len(list(code.plan(config("tree.git"), tmp_path, 1))) > 60


def test_revisions(tmp_path: Path, tree: Path) -> None:
    first = git(tree, "rev-parse", "HEAD")
    git(tree, "tag", "-a", "v1", "-m", "one")
    git(tree, "tag", "-a", "again", "v1", "-m", "a tag of a tag")
    git(tree, "checkout", "-q", "-b", "topic/two")
    make(tree, {"a.py": SOURCE + "# changed\n"})
    second = commit(tree)

    def texts(revision: str | None, path: str = "tree") -> tuple[str, str]:
        (found,) = [r for r in read(tmp_path, path, revision=revision) if isinstance(r, Document) and r.id.endswith(":a.py")]
        return found.id.split("@")[1].split(":")[0], found.text

    git(tree, "pack-refs", "--all")
    for revision in ("v1", "again", "main", "refs/heads/main", first):
        assert texts(revision) == (first, SOURCE)
    assert texts("topic/two") == texts("HEAD") == texts(second) == (second, SOURCE + "# changed\n")
    bare(tree)
    assert texts(None, "tree.git") == (second, SOURCE + "# changed\n")
    for revision in ("nothing", "../../etc", "HEAD^", "main:a.py", "f" * 40):
        assert [verdict(r) for r in read(tmp_path, "tree", revision=revision)] in (["no_revision"], ["missing_object"])


def test_submodules_and_other_trees_beside(tmp_path: Path, tree: Path) -> None:
    inner = make(tmp_path / "inner", {"x.py": SOURCE})
    pinned = commit(inner)
    git(tree, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub")
    commit(tree)
    (found,) = [r for r in read(tmp_path, "tree", revision="HEAD") if r.member == "sub"]
    assert isinstance(found, Drop)
    assert (found.reason, orjson.loads(found.evidence)) == ("submodule", {"commit": pinned})
    # A folder that holds bare repositories is walked to them.
    make(tmp_path / "mirrors", {"notes.py": SOURCE})
    shutil.move(bare(tree), tmp_path / "mirrors/tree.git")
    shutil.move(bare(inner), tmp_path / "mirrors/inner.git")
    by_repository = Counter(r.id.split("@")[0] for r in read(tmp_path, "mirrors") if not isinstance(r, Failure))
    assert set(by_repository) == {"tree", "inner", "mirrors"}


def test_nothing_of_the_configuration_is_obeyed(tmp_path: Path, tree: Path) -> None:
    ran = tmp_path / "ran"
    made = bare(tree)
    secret = make(tmp_path, {"secret": f"[core]\n\tfsmonitor = touch {ran}\n"}) / "secret"
    evil = (
        f"[core]\n\tbare = true\n\tfsmonitor = touch {ran}\n\tsshCommand = touch {ran}\n\thooksPath = {tmp_path}\n"
        f'[include]\n\tpath = {secret}\n\tpath = /dev/zero\n[filter "x"]\n\tsmudge = touch {ran}\n'
        f'[remote "origin"]\n\turl = ext::sh -c touch% {ran}\n'
    )
    for at in (made / "config", tree / ".git/config"):
        at.write_text(evil)
    make(tree, {".gitattributes": "* filter=x\n"})
    for hook in ("post-checkout", "pre-commit"):
        script = made / "hooks" / hook
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ntouch {ran}\n")
        script.chmod(0o755)
    os.mkfifo(made / "commondir.lock")
    assert Counter(map(verdict, read(tmp_path, "tree.git"))) == Counter(map(verdict, read(tmp_path, "tree", revision="main")))
    assert any(isinstance(r, Document) for r in read(tmp_path, "tree.git"))
    assert not ran.exists()


def test_objects_outside_are_refused(tmp_path: Path, tree: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", "--shared", str(tree), "borrowed.git")
    make(tmp_path, {"pointing/.git": f"gitdir: {tree}/.git\n", "pointing/a.py": SOURCE})
    shutil.copytree(bare(tree), tmp_path / "linked.git")
    shutil.rmtree(tmp_path / "linked.git/objects")
    (tmp_path / "linked.git/objects").symlink_to(tree / ".git/objects")
    shutil.copytree(tmp_path / "tree.git", tmp_path / "packs.git")
    for pack in (tmp_path / "packs.git/objects/pack").iterdir():
        pack.unlink()
        pack.symlink_to(tmp_path / "tree.git/objects/pack" / pack.name)
    shutil.copytree(tmp_path / "tree.git", tmp_path / "fifo.git")
    os.mkfifo(tmp_path / "fifo.git/objects/pack/pack-0.idx")
    for path in ("borrowed.git", "pointing", "linked.git", "packs.git", "fifo.git"):
        (record,) = read(tmp_path, path, revision="main")
        assert verdict(record) == "outside", path


def test_what_cannot_be_read_says_so(tmp_path: Path, tree: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "empty.git")
    assert [verdict(r) for r in read(tmp_path, "empty.git")] == ["no_revision"]
    git(tmp_path, "init", "-q", "--object-format=sha256", "new")
    make(tmp_path / "new", {"a.py": SOURCE})
    git(tmp_path / "new", "add", ".")
    git(tmp_path / "new", "commit", "-q", "-m", "x")
    (record,) = read(tmp_path, "new", revision="HEAD")
    assert isinstance(record, Failure)
    assert (record.kind, "SHA-256" in record.message) == ("unsupported", True)
    make(tmp_path / "plain", {"a.py": SOURCE})
    assert [verdict(r) for r in read(tmp_path, "plain", revision="v1")] == ["kept"]  # no repository: read as it is


def test_damage_costs_no_more_than_it_hits(tmp_path: Path, tree: Path) -> None:
    made = bare(tree, packed=False)
    names = dict(reversed(line.split("\t")) for line in git(made, "ls-tree", "-r", "-t", "HEAD").splitlines())  # type: ignore[arg-type]
    hashes = {path: said.split()[2] for path, said in names.items()}

    def place(path: str) -> Path:
        return made / "objects" / hashes[path][:2] / hashes[path][2:]

    for path in ("a/b.py", "lib/COPYING", "a.b"):
        place(path).chmod(0o644)
    place("a/b.py").unlink()
    place("lib/COPYING").write_bytes(place("lib/COPYING").read_bytes()[:20])
    place("a.b").write_bytes(zlib.compress(b"tree 5\0xxxxx"))
    found = {record.member: verdict(record) for record in read(tmp_path, "tree.git")}
    assert (found["a/b.py"], found["lib/COPYING"], found["a.b"]) == ("missing_object", "corrupt", "corrupt")
    assert found["lib/deep/er/x.c"] == found["a0.py"] == "kept"


def loose(made: Path, kind: str, data: bytes) -> str:
    """Write an object that git itself would refuse."""
    whole = b"%s %d\0%b" % (kind.encode(), len(data), data)
    name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
    path = made / "objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_bytes(zlib.compress(whole))
    return name


def entry(mode: str, name: bytes, hashed: str) -> bytes:
    return mode.encode() + b" " + name + b"\0" + bytes.fromhex(hashed)


def head(made: Path, tree: str) -> None:
    hashed = loose(made, "commit", f"tree {tree}\nauthor a <a> 0 +0000\ncommitter a <a> 0 +0000\n\nx\n".encode())
    (made / "HEAD").write_text(hashed + "\n")


@pytest.fixture
def handmade(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "--bare", "hand.git")
    return tmp_path / "hand.git"


def test_a_tree_that_unfolds_without_end(tmp_path: Path, handmade: Path) -> None:
    hashed = loose(handmade, "blob", SOURCE.encode())
    mode = "100644"
    for _ in range(12):
        data = b"".join(entry(mode, b"d%d" % n, hashed) for n in range(10))
        hashed, mode = loose(handmade, "tree", data), "40000"
    head(handmade, hashed)
    assert [verdict(record) for record in read(tmp_path, "hand.git")] == ["bomb"]


@pytest.mark.parametrize("name", [b"", b"x.py"])
def test_folders_that_unfold_without_end_and_hold_no_file(tmp_path: Path, handmade: Path, name: bytes) -> None:
    blob = loose(handmade, "blob", SOURCE.encode())
    hashed = loose(handmade, "tree", entry("100644", name, blob) if name else b"")
    for _ in range(12):
        hashed = loose(handmade, "tree", b"".join(entry("40000", b"d%d" % n, hashed) for n in range(10)))
    head(handmade, hashed)
    started = time.process_time()
    assert [verdict(record) for record in read(tmp_path, "hand.git", exclude=["*.py"])] == ["bomb"]
    context = orjson.dumps({"git": True, "repo": "r", "commit": "c", "tree": hashed, "root": "r", "begin": ""}).decode()
    settings = config("hand.git", exclude=["*.py"])
    extent = Extent(str(handmade), "hand.git", 0, 5, 0, context)
    assert [verdict(record) for record in code.read(extent, settings, tmp_path)] == ["bomb"]
    assert time.process_time() - started < 4


def test_objects_that_lie(tmp_path: Path, handmade: Path) -> None:
    bomb = handmade / "objects" / "aa" / ("b" * 38)
    bomb.parent.mkdir()
    bomb.write_bytes(zlib.compress(b"blob 10\0" + bytes(1 << 24), 9))
    huge = handmade / "objects" / "aa" / ("c" * 38)
    huge.write_bytes(zlib.compress(b"blob 999999999999\0" + bytes(10)))
    os.mkfifo(handmade / "objects" / "aa" / ("d" * 38))
    twice = loose(handmade, "tree", entry("100644", b"x", "aa" + "b" * 38) * 2)
    good = loose(handmade, "blob", SOURCE.encode())
    data = b"".join(
        [
            entry("100644", b"bomb.py", "aa" + "b" * 38),
            entry("100644", b"fifo.py", "aa" + "d" * 38),
            entry("100644", b"good.py", good),
            entry("100644", b"huge.py", "aa" + "c" * 38),
            entry("100644", b"name\xff.py", good),
            entry("40000", b"notree", good),
            entry("100644", b"tree.py", twice),
            entry("40000", b"twice", twice),
        ]
    )
    head(handmade, loose(handmade, "tree", data))
    found = {record.member: verdict(record) for record in read(tmp_path, "hand.git", max_ratio=1 << 20)}
    assert found == {
        "bomb.py": "corrupt",
        "fifo.py": "missing_object",
        "good.py": "kept",
        "huge.py": "too_large",
        "name\\xff.py": "invalid_name",
        "notree": "corrupt",
        "tree.py": "corrupt",
        "twice": "corrupt",
    }
    for unit in (1, 1 << 30):
        assert {record.member: verdict(record) for record in read(tmp_path, "hand.git", unit=unit, max_ratio=1 << 20)} == found


def test_any_bytes_for_a_folder(tmp_path: Path, handmade: Path) -> None:
    generator = random.Random(1)
    good = loose(handmade, "blob", SOURCE.encode())
    parts = [b"100644 ", b"40000 ", b"\0", bytes.fromhex(good), b"name", b"/", b"..", b"120000 x\0", b"9" * 9, b".git"]
    for _ in range(300):
        data = b"".join(generator.choice(parts) for _ in range(generator.randrange(12)))
        head(handmade, loose(handmade, "tree", data))
        for record in read(tmp_path, "hand.git"):
            assert isinstance(record, Document | Drop | Failure)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["requests", "networkx", "golang-github-gin-gonic-gin"])
def test_a_real_tree(tmp_path: Path, data_dir: Path, name: str) -> None:
    source = data_dir / "code" / name
    if not source.is_dir():
        pytest.skip(f"no source tree at {source}")
    shutil.copytree(source, tmp_path / name, symlinks=True)
    commit(tmp_path / name)
    bare(tmp_path / name)
    assert Counter(map(content, read(tmp_path, f"{name}.git"))) == Counter(map(content, read(tmp_path, name)))


def test_objects_are_found_again_after_a_repack(tmp_path: Path, tree: Path) -> None:
    before = read(tmp_path, "tree", revision="HEAD")
    git(tree, "gc", "-q")
    assert read(tmp_path, "tree", revision="HEAD") == before
    assert code_objects.objects(str(tree / ".git")).bytes > 0


def test_a_pack_tells_the_size_of_its_largest_object(tmp_path: Path) -> None:
    """Against git's own listing; in both versions of the index; and what is no pack says so."""
    root = make(tmp_path / "tree", {f"{n}.py": SOURCE * n for n in range(1, 40)} | {"big.txt": "words and " * 200_000})
    commit(root)
    git(root, "gc", "-q")
    (index,) = sorted((root / ".git/objects/pack").glob("*.idx"))
    listed = git(root, "verify-pack", "-v", str(index)).splitlines()
    expected = max(int(line.split()[2]) for line in listed if len(line.split()) in (5, 7) and line.split()[1] in ("blob", "tree", "commit"))
    pack = index.with_suffix(".pack")
    assert code_pack.largest(str(index), str(pack)) == expected == 2_000_000
    git(root, "index-pack", "--index-version=1", "-o", str(tmp_path / "one.idx"), str(pack))
    assert code_pack.largest(str(tmp_path / "one.idx"), str(pack)) == expected
    whole = index.read_bytes()
    for cut in (0, 7, 900, 1100, len(whole) // 2):
        (tmp_path / "cut.idx").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"index|pack|begin|buffer"):
            code_pack.largest(str(tmp_path / "cut.idx"), str(pack))


def test_a_pack_with_a_giant_is_refused(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tree, {"big.txt": "words and " * 20_000})
    commit(tree)
    made = bare(tree)
    git(made, "gc", "-q")
    monkeypatch.setattr(code_objects, "_MAX_OBJECT", 100_000)
    assert [verdict(record) for record in read(tmp_path, "tree.git")] == ["too_large"]
    (index,) = sorted((made / "objects/pack").glob("*.idx"))
    index.chmod(0o644)
    index.write_bytes(index.read_bytes()[:1500])
    assert [verdict(record) for record in read(tmp_path, "tree.git")] == ["corrupt"]
