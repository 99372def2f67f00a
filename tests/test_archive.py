"""Members of archives against the standard library's readers, and archives made to do harm."""

from __future__ import annotations

import gzip
import io
import itertools
import random
import subprocess
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest

from codedev import _archive, _files
from codedev._archive import ArchiveError, Member, Refused, comment, cuts, form, members

LIMIT = 1 << 20
random.seed(5)
FILES = {
    "a.txt": b"hello",
    "empty": b"",
    "dir/b.txt": random.randbytes(70_000),
    "dir/" + "long" * 40 + "/c.txt": b"x" * 512,
    "ünïcödé/日本.txt": "日本".encode(),
    "block": bytes(1024),
}


def made_tar(kind: int, files: dict[str, bytes] = FILES, mode: str = "w", **pax: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=kind, pax_headers=pax) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("dir")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_600_000_000
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def made_zip(files: dict[str, bytes] = FILES) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("dir")
        for name, data in files.items():
            archive.writestr(name, data)
        archive.comment = b"0123abcd"
    return out.getvalue()


def contents(data: bytes, kind: str, limit: int = LIMIT, **more: int) -> tuple[dict[str, bytes], list[Refused]]:
    found, refused = {}, []
    for member in members(io.BytesIO(data), kind, limit=limit, **more):  # type: ignore[arg-type]
        if isinstance(member, Refused):
            refused.append(member)
        else:
            try:
                found[member.name] = member.read()
            except ArchiveError as error:
                refused.append(Refused(member.name, member.offset, error.kind, str(error)))
    return found, refused


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_member_of_a_tar(kind: int) -> None:
    files = {name: data for name, data in FILES.items() if kind != tarfile.USTAR_FORMAT or len(name) < 100}
    data = made_tar(kind, files)
    assert form(data[:512]) == "tar"
    assert contents(data, "tar") == (files, [])
    for member in members(io.BytesIO(data), "tar", limit=LIMIT):
        assert isinstance(member, Member)
        assert data[member.offset : member.offset + member.size] == files[member.name]
        assert member.time is not None
        assert member.time.timestamp() == 1_600_000_000
        assert member.stream().read() == files[member.name]


def test_a_tar_of_the_command_line(tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "in/link").symlink_to("a.txt")
    for kind in ("gnu", "pax", "posix", "oldgnu"):
        subprocess.run(["tar", "-cf", tmp_path / "x.tar", f"--format={kind}", "-C", tmp_path / "in", "."], check=True)
        found, refused = contents((tmp_path / "x.tar").read_bytes(), "tar")
        assert {name.removeprefix("./"): data for name, data in found.items()} == FILES
        assert [(r.name, r.kind) for r in refused] == [("./link", "link")]


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("unit", [1, 600, 70_000, 1 << 30])
def test_pieces_hold_what_the_whole_does(kind: str, unit: int) -> None:
    data = made_tar(tarfile.GNU_FORMAT) if kind == "tar" else made_zip()
    pieces = cuts(io.BytesIO(data), kind, unit)  # type: ignore[arg-type]
    assert (len(pieces) > 1) == (unit < 1 << 30)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == -1
    assert all(a[1] == b[0] for a, b in itertools.pairwise(pieces))
    names = []
    for start, end, _ in pieces:
        found, refused = contents(data, kind, start=start, end=end)
        assert not refused
        assert all(FILES[name] == content for name, content in found.items())
        names += list(found)
    assert names == list(FILES)


def test_a_tar_out_of_a_stream_of_concatenated_ones() -> None:
    data = made_tar(tarfile.GNU_FORMAT, {"one": b"1"}) + made_tar(tarfile.PAX_FORMAT, {"two": b"2" * 3000})
    stream = _files.decompressed(io.BytesIO(gzip.compress(data)), "gzip")
    found = [(m.name, m.read()) for m in members(stream, "tar", limit=LIMIT) if isinstance(m, Member)]
    assert found == [("one", b"1"), ("two", b"2" * 3000)]


def test_members_may_be_left_unread_or_read_in_part() -> None:
    for data, kind in ((made_tar(tarfile.GNU_FORMAT), "tar"), (made_zip(), "zip")):
        names = []
        for number, member in enumerate(members(io.BytesIO(data), kind, limit=LIMIT)):  # type: ignore[arg-type]
            assert isinstance(member, Member)
            names.append(member.name)
            if number % 2:
                assert member.stream().read(3) == FILES[member.name][:3]
        assert names == list(FILES)


@pytest.mark.parametrize("cut", range(0, 5000, 100))
def test_a_clipped_tar_gives_what_is_whole_and_says_so(cut: int) -> None:
    files = {"a": b"1" * 700, "b": b"2" * 1500, "c": b"3" * 100}
    data = made_tar(tarfile.GNU_FORMAT, files)[:cut]
    found, refused = contents(data, "tar")
    assert all(files[name] == content for name, content in found.items())
    # Where nothing but padding is missing: after the folder, and from the end of each content to the end of its last block.
    whole = cut == 0 or cut == 512 or 1724 <= cut <= 2048 or 4060 <= cut <= 4096 or cut >= 4708
    assert bool(refused) != whole
    assert all(r.kind == "truncated" for r in refused)


def test_a_damaged_header_costs_its_member_alone() -> None:
    data = bytearray(made_tar(tarfile.GNU_FORMAT, {"a": b"1" * 700, "b": b"2" * 1500, "c": b"3"}))
    data[2048 + 10] ^= 0xFF  # b's header
    found, refused = contents(bytes(data), "tar")
    assert found == {"a": b"1" * 700, "c": b"3"}
    assert [(r.kind, r.offset) for r in refused] == [("corrupt", 2048)]


def test_what_a_tar_must_not_give() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("../../etc/passwd", "/etc/passwd", "a/../../b", "C:/x", "ok", "..\\x"):
            info = tarfile.TarInfo(name)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"hi"))
        for name, kind in (("s", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("f", tarfile.FIFOTYPE), ("d", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        big = tarfile.TarInfo("big")
        big.size = 2000
        archive.addfile(big, io.BytesIO(bytes(2000)))
    found, refused = contents(out.getvalue(), "tar", limit=1000)
    assert found == {"ok": b"hi"}
    assert [r.kind for r in refused] == ["unsafe_path"] * 5 + ["link", "link", "special", "special", "too_large"]


def test_a_name_of_many_gigabytes_is_not_read() -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    found, refused = contents(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 5000, "tar")
    assert not found
    assert refused[0].kind == "too_large"


def test_a_sparse_member_is_refused() -> None:
    data = made_tar(tarfile.PAX_FORMAT, {"plain": b"1"})
    info = tarfile.TarInfo("holes")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    found, refused = contents(info.tobuf(tarfile.PAX_FORMAT) + data, "tar")
    assert found == {"plain": b"1"}
    assert [(r.name, r.kind) for r in refused] == [("holes", "special")]


def test_every_member_of_a_zip() -> None:
    data = made_zip()
    assert form(data[:512]) == "zip"
    assert contents(data, "zip") == (FILES, [])


def test_what_a_zip_must_not_give() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("../x", "/x", "a/../../b", "ok"):
            archive.writestr(name, "hi")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb", bytes(70 << 20))
        archive.writestr("big", random.randbytes(2000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr("ok", "again")
    found, refused = contents(out.getvalue(), "zip", limit=1000, ratio=100)
    assert found == {"ok": b"hi"}
    assert [r.kind for r in refused] == ["unsafe_path"] * 3 + ["link", "bomb", "too_large", "duplicate"]


def test_entries_that_share_their_bytes_are_a_bomb() -> None:
    """A hundred names for one member of 60 MB: each is harmless by itself."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a0", bytes(60 << 20))
        first = archive.infolist()[0]
        for number in range(1, 100):
            twin = zipfile.ZipInfo(f"a{number}")
            for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset", "flag_bits"):
                setattr(twin, field, getattr(first, field))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    entries = list(members(io.BytesIO(out.getvalue()), "zip", limit=1 << 30, ratio=2000))
    assert len(entries) == 100
    assert isinstance(entries[0], Member)
    assert {entry.kind for entry in entries[4:] if isinstance(entry, Refused)} == {"bomb"}
    assert not [entry for entry in entries[4:] if isinstance(entry, Member)]
    # Pieces refuse what the whole does.
    pieces = [
        entry
        for start in range(0, 100, 7)
        for entry in members(io.BytesIO(out.getvalue()), "zip", start=start, end=start + 7, limit=1 << 30, ratio=2000)
    ]
    assert [(entry.name, type(entry)) for entry in pieces] == [(entry.name, type(entry)) for entry in entries]


def test_damaged_zips() -> None:
    data = made_zip()
    for broken in (data[: len(data) // 2], b"PK\x03\x04" + bytes(100), data[:-30]):
        found, refused = contents(broken, "zip")
        assert not found
        assert [r.kind for r in refused] == ["corrupt"]
    flipped = bytearray(data)
    flipped[data.index(b"dir/b.txt") + 2000] ^= 0xFF
    found, refused = contents(bytes(flipped), "zip")
    assert set(FILES) - set(found) == {"dir/b.txt"}
    assert [r.kind for r in refused] == ["corrupt"]


def test_an_encrypted_member_is_named() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", b"secret")
    data = bytearray(out.getvalue())
    for signature, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(signature) + place] |= 1
    assert [r.kind for r in contents(bytes(data), "zip")[1]] == ["encrypted"]


def test_comments_of_archives() -> None:
    tar = made_tar(tarfile.PAX_FORMAT, {"a": b""}, comment="9f3c")
    assert comment(io.BytesIO(tar), "tar") == "9f3c"
    assert comment(io.BytesIO(made_zip()), "zip") == "0123abcd"
    assert comment(io.BytesIO(made_tar(tarfile.GNU_FORMAT)), "tar") == ""
    assert comment(io.BytesIO(b"PK\x03\x04"), "zip") == ""


def test_what_is_no_archive() -> None:
    assert form(b"") is None
    assert form(bytes(512)) is None
    assert form(b"hello" * 200) is None
    assert form(b"7z\xbc\xaf\x27\x1c" + bytes(20)) == "7z"


def test_headers_are_read_as_tarfile_reads_them() -> None:
    """Random sizes, times and names, in every format; one flipped byte makes a header none."""
    rng = random.Random(3)
    for number in range(300):
        info = tarfile.TarInfo(rng.choice(["a", "ü" * 40, "d" * 60 + "/" + "e" * 80]))
        info.size = rng.choice([0, 1, 8**11 - 1, 8**11, 1 << 40])
        info.mtime = rng.choice([0, 1_600_000_000, 8**11])
        info.type = rng.choice([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
        block = info.tobuf(rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))[-512:]
        expected = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        found = _archive._header(block)
        assert found is not None
        assert (found.name.rstrip("/"), found.size, found.type, found.time) == (expected.name, expected.size, expected.type, expected.mtime)
        broken = bytearray(block)
        broken[number] ^= 1
        assert _archive._header(bytes(broken)) is None
