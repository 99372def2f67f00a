"""7z archives read as a stream, against the 7z command line tool; and archives that mean harm."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest

py7zr = pytest.importorskip("py7zr")

from codedev import _archive  # noqa: E402
from codedev._archive import ArchiveError, Member, Refused  # noqa: E402
from codedev._sevenzip import members  # noqa: E402

SEVENZIP = shutil.which("7z")
needs_7z = pytest.mark.skipif(SEVENZIP is None, reason="the 7z command (p7zip-full) is absent")
ANY = 1 << 60
FAST = [{"id": py7zr.FILTER_LZMA2, "preset": 0}]  # its dictionary has 256 KB


def pack(folder: Path, files: dict[str, bytes], *options: str) -> Path:
    """An archive of the files, made by the command line tool."""
    for name, data in files.items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    archive = folder / "a.7z"
    subprocess.run(["7z", "a", "-bso0", "-mx=1", *options, str(archive), *sorted(files)], cwd=folder / "in", check=True)
    return archive


def packed(files: dict[str, bytes], **options: Any) -> bytes:
    """The same by py7zr, which writes any name."""
    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w", **options) as archive:
        for name, data in files.items():
            archive.writef(io.BytesIO(data), name)
    return buffer.getvalue()


def read(data: bytes, **limits: int) -> dict[str, bytes | str]:
    """What each member holds, or why it holds nothing."""
    found: dict[str, bytes | str] = {}
    for member in members(io.BytesIO(data), **{"limit": ANY, **limits}):
        if isinstance(member, Refused):
            found[member.name] = member.kind
            continue
        try:
            found[member.name] = member.read()
        except ArchiveError as error:
            found[member.name] = error.kind
    return found


def text(size: int, seed: int = 0) -> bytes:
    words = [b"tide", b"gauge", b"sand", b"\xc3\xa4pfel"]
    page = b" ".join(random.Random(seed).choices(words, k=2000))
    return b"\n".join(b"%d %s" % (number, page) for number in range(1 + size // len(page)))[:size]


FILES = {"Posts.xml": text(2_500_000), "Users.xml": text(5), "empty.xml": b"", "deep/er/Votes.xml": text(200_000, 1)}


@needs_7z
@pytest.mark.parametrize("method", ["LZMA", "LZMA2", "PPMd", "BZip2", "Deflate", "Copy"])
@pytest.mark.parametrize("solid", ["on", "off"])
def test_every_method_gives_the_bytes_that_7z_gives(tmp_path: Path, method: str, solid: str) -> None:
    archive = pack(tmp_path, FILES, f"-m0={method}", f"-ms={solid}")
    with archive.open("rb") as file:
        listed = list(members(file, limit=ANY))
        assert sorted(member.name for member in listed) == sorted(FILES)
        for member in listed:
            assert isinstance(member, Member)
            expected = subprocess.run(["7z", "x", "-so", str(archive), member.name], capture_output=True, check=True).stdout
            assert member.read() == expected == FILES[member.name]
            assert member.size == len(expected)
            assert member.time is not None


@needs_7z
@pytest.mark.realdata
def test_a_real_dump(data_dir: Path, tmp_path: Path) -> None:
    tables = {path.name: path.read_bytes() for path in sorted((data_dir / "stackexchange").glob("Th3CracKed*/data/*.xml"))}
    assert len(tables) > 5
    assert read(pack(tmp_path, tables).read_bytes()) == tables


def test_members_are_read_in_any_order_and_twice() -> None:
    listed = [member for member in members(io.BytesIO(packed(FILES)), limit=ANY) if isinstance(member, Member)]
    for member in [*reversed(listed), *listed]:
        assert member.read() == FILES[member.name]
    first, second = (next(m for m in listed if m.name == name).stream() for name in ("Posts.xml", "deep/er/Votes.xml"))
    halves = first.read(1_500_000), second.read(100_000), first.read(), second.read()
    assert halves[0] + halves[2] == FILES["Posts.xml"]
    assert halves[1] + halves[3] == FILES["deep/er/Votes.xml"]


def test_what_is_not_read_is_not_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed(FILES)
    spent = []
    real = py7zr.compressor.SevenZipDecompressor.decompress
    monkeypatch.setattr(py7zr.compressor.SevenZipDecompressor, "decompress", lambda *a, **k: spent.append(1) or real(*a, **k))
    iterator = members(io.BytesIO(data), limit=ANY)
    names = [member.name for member in iterator]
    assert len(names) == 4
    header = len(spent)
    found = next(member for member in members(io.BytesIO(data), limit=ANY) if isinstance(member, Member) and member.name == "Posts.xml")
    assert found.stream().read(10) == FILES["Posts.xml"][:10]
    assert len(spent) <= 2 * header + 3


def test_memory_does_not_grow_with_the_member() -> None:
    data = packed({"a": text(20_000_000)}, filters=FAST)
    (member,) = members(io.BytesIO(data), limit=ANY)
    assert isinstance(member, Member)
    tracemalloc.start()
    stream, size = member.stream(), 0
    while block := stream.read(1 << 16):
        size += len(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 20_000_000
    assert peak < 6_000_000


def test_the_archive_module_gives_them_too() -> None:
    data = packed(FILES)
    assert _archive.form(data[:512]) == "7z"
    assert [member.name for member in _archive.members(io.BytesIO(data), "7z", limit=ANY)] == list(FILES)


# -- what is refused ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "C:/boot.ini", "C:\\boot.ini", "..\\x", "a/../../b", "\\host"])
def test_names_that_lead_out_are_refused(name: str) -> None:
    # py7zr mends such names when it writes: they go in by force.
    filler = "x" * len(name)
    data = _with_header(packed({filler: b"harm", "Posts.xml": b"good"}), filler.encode("utf-16-le"), name.encode("utf-16-le"))
    found = read(data)
    assert found.pop("Posts.xml") == b"good"
    assert list(found.values()) == ["unsafe_path"]


def _with_header(data: bytes, old: bytes, new: bytes) -> bytes:
    """The archive with `old` in its header replaced: the header is unfolded, changed, and its check sums made right."""
    with py7zr.SevenZipFile(io.BytesIO(data)) as archive:
        buffer = io.BytesIO()
        archive.header._encode_header = None
        archive.header.write(buffer, 32, encoded=False)
    offset = struct.unpack("<Q", data[12:20])[0]
    header = buffer.getvalue()
    assert old in header
    return _sealed(data[: 32 + offset], header.replace(old, new))


def _sealed(body: bytes, header: bytes) -> bytes:
    start = struct.pack("<QQI", len(body) - 32, len(header), zlib.crc32(header))
    return body[:8] + struct.pack("<I", zlib.crc32(start)) + start + body[32:] + header


@needs_7z
def test_encrypted_archives_are_refused(tmp_path: Path) -> None:
    files = {"Posts.xml": b"secret"}
    assert read(pack(tmp_path / "a", files, "-pword").read_bytes()) == {"Posts.xml": "encrypted"}
    assert read(pack(tmp_path / "b", files, "-pword", "-mhe").read_bytes()) == {"": "encrypted"}


@needs_7z
def test_links_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.xml").symlink_to("/etc/passwd")
    (folder / "Posts.xml").write_bytes(b"x")
    subprocess.run(["7z", "a", "-bso0", "-snl", "../a.7z", "link.xml", "Posts.xml"], cwd=folder, check=True)
    assert read((tmp_path / "a.7z").read_bytes()) == {"Posts.xml": b"x", "link.xml": "link"}


def test_bombs_are_refused() -> None:
    data = packed({"Posts.xml": b"\0" * 100_000_000}, filters=FAST)
    assert len(data) < 100_000
    assert read(data) == {"Posts.xml": "bomb"}
    assert read(data, limit=1 << 20) == {"Posts.xml": "too_large"}
    found = next(iter(members(io.BytesIO(data), limit=ANY, ratio=1 << 20)))
    assert isinstance(found, Member)
    stream, size = found.stream(), 0
    while block := stream.read(1 << 20):
        size += len(block)
    assert size == 100_000_000


def test_second_members_of_a_name_are_refused() -> None:
    data = _with_header(packed({"a.xml": b"one", "b.xml": b"two"}), "b.xml".encode("utf-16-le"), "a.xml".encode("utf-16-le"))
    kinds = [thing.kind if isinstance(thing, Refused) else thing.read() for thing in members(io.BytesIO(data), limit=ANY)]
    assert kinds == [b"one", "duplicate"]


def test_clipped_archives_say_so() -> None:
    data = packed(FILES)
    for size in [*range(40), *range(40, len(data), 97), len(data) - 1]:
        assert read(data[:size]) == {"": "truncated"}


def test_damaged_archives_never_raise() -> None:
    data = packed({"Posts.xml": text(50_000), "Users.xml": text(3_000, 2)})
    rng = random.Random(5)
    whole = read(data)
    seen = set()
    for _ in range(200):
        harmed = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            harmed[rng.randrange(len(harmed))] = rng.randrange(256)
        for name, content in read(bytes(harmed)).items():
            assert isinstance(content, str) or content == whole[name]  # check sums: what is given out is right
            seen.add(content if isinstance(content, str) else "whole")
    assert {"corrupt", "whole"} <= seen


def test_headers_with_right_check_sums_and_wrong_content_never_raise() -> None:
    data = packed({"Posts.xml": text(5_000), "Users.xml": text(300, 2)})
    with py7zr.SevenZipFile(io.BytesIO(data)) as archive:
        buffer = io.BytesIO()
        archive.header.write(buffer, 32, encoded=False)
    header, body = buffer.getvalue(), data[: 32 + struct.unpack("<Q", data[12:20])[0]]
    assert read(_sealed(body, header)) == read(data)
    rng = random.Random(6)
    for _ in range(300):
        harmed = bytearray(header)
        for _ in range(rng.randrange(1, 3)):
            harmed[rng.randrange(len(harmed))] = rng.choice([0, 1, 0x7F, 0xFF, rng.randrange(256)])
        for content in read(_sealed(body, bytes(harmed))).values():
            assert isinstance(content, str | bytes)


def test_many_blocks_that_are_small_alone_are_a_bomb_together(tmp_path: Path) -> None:
    path = tmp_path / "many.7z"
    with py7zr.SevenZipFile(path, "w", filters=[{"id": py7zr.FILTER_BZIP2}]) as archive:
        archive.writestr(bytes(1000), "first")
    for number in range(6):
        with py7zr.SevenZipFile(path, "a", filters=[{"id": py7zr.FILTER_BZIP2}]) as archive:
            archive.writestr(bytes(40 << 20), f"blank{number}")
    with open(path, "rb") as file:
        found = list(members(file, limit=1 << 30, ratio=100))
    assert [type(one) for one in found[:2]] == [Member, Member]
    assert {one.kind for one in found[2:] if isinstance(one, Refused)} == {"bomb"}
    assert not [one for one in found[2:] if isinstance(one, Member)]
