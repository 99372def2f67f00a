"""Finding and opening inputs: globs against the standard library's, link loops, lying names, damaged streams, what would hang, URLs."""

from __future__ import annotations

import bz2
import glob
import gzip
import http.server
import io
import lzma
import os
import random
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import lz4.frame
import pytest
import xxhash
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from codedev import _files
from codedev._errors import InputError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lz4": lz4.frame.compress,
}
CODECS = sorted(COMPRESS)
TEXT = b"".join(b'{"n": %d, "text": "%s"}\n' % (n, random.Random(n).randbytes(30).hex().encode()) for n in range(3000))


@pytest.fixture(autouse=True)
def _no_hanging() -> Iterator[None]:
    """A test that hangs fails instead."""
    signal.alarm(30)
    yield
    signal.alarm(0)


def names(*paths: str, base: Path) -> list[str]:
    return [found.name for found in _files.expand(paths, base)]


def plant(base: Path, *paths: str) -> None:
    for path in paths:
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_bytes(path.encode())


TREE = (
    "a.jsonl",
    "b.csv",
    "d/a.jsonl",
    "d/e/a.jsonl",
    "d/e/b.csv",
    "z/.hidden",
    "z/.dir/a.jsonl",
    ".h/a.jsonl",
    "z/[x].jsonl",
    "Ü/é.jsonl",
)


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*.jsonl",
        "**/*.jsonl",
        "**/a.jsonl",
        "d/**",
        "d/**/*.csv",
        "**/e/*",
        "*/*",
        "?.csv",
        "[ab].*",
        "z/.*/*",
        ".*/*",
        "Ü/*",
        "**/[!a].*",
    ],
)
def test_globs_against_the_standard_library(tmp_path: Path, pattern: str) -> None:
    plant(tmp_path, *TREE)
    expected = set()
    for match in glob.glob(str(tmp_path / pattern), recursive=True):
        inside = (
            [match] if os.path.isfile(match) else [p for p in glob.glob(f"{glob.escape(match)}/**", recursive=True) if os.path.isfile(p)]
        )
        expected |= {os.path.relpath(path, tmp_path) for path in inside}
    found = names(pattern, base=tmp_path)
    assert set(found) == expected
    assert len(found) == len(expected)
    assert names(str(tmp_path / pattern), base=tmp_path) == found  # an absolute pattern finds the same


def test_directories_are_walked_in_order_without_hidden_names(tmp_path: Path) -> None:
    plant(tmp_path, *TREE)
    assert names(".", base=tmp_path) == ["a.jsonl", "b.csv", "d/a.jsonl", "d/e/a.jsonl", "d/e/b.csv", "z/[x].jsonl", "Ü/é.jsonl"]
    assert names("z/.dir", "z/.hidden", base=tmp_path) == ["z/.dir/a.jsonl", "z/.hidden"]  # named, it is meant


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path: Path) -> None:
    base = tmp_path / "run [1]*"
    plant(base, "z/[x].jsonl", "z/x.jsonl")
    assert names("z/[x].jsonl", base=base) == ["z/[x].jsonl"]
    assert names("z/*.jsonl", "**/x.jsonl", base=base) == ["z/[x].jsonl", "z/x.jsonl"]


def test_a_file_named_twice_is_given_once(tmp_path: Path) -> None:
    plant(tmp_path, "a.jsonl", "d/b.jsonl")
    assert names("d/b.jsonl", "*.jsonl", ".", "d/../a.jsonl", str(tmp_path), base=tmp_path) == ["d/b.jsonl", "a.jsonl"]


def test_link_loops_and_broken_links(tmp_path: Path) -> None:
    plant(tmp_path, "d/a.jsonl")
    for loop in ("l1", "l2", "l3"):  # three loops: 3^40 paths to one who follows them
        (tmp_path / "d" / loop).symlink_to(tmp_path / "d")
    (tmp_path / "d/broken.jsonl").symlink_to("nowhere")
    (tmp_path / "d/again.jsonl").symlink_to("a.jsonl")
    (tmp_path / "self").symlink_to("self")
    assert names("d", base=tmp_path) == ["d/a.jsonl", "d/again.jsonl", "d/broken.jsonl"]
    assert names("**/*.jsonl", base=tmp_path) == ["d/a.jsonl", "d/again.jsonl", "d/broken.jsonl"]
    assert names("self", base=tmp_path) == ["self"]  # its reader says what is wrong
    with pytest.raises(OSError, match=r"[Ss]ymbolic links"):
        _files.open_raw(str(tmp_path / "self"))


def test_a_linked_directory_is_read_where_it_is_named(tmp_path: Path) -> None:
    plant(tmp_path, "real/a.jsonl")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/link").symlink_to(tmp_path / "real")
    assert names("data/*", base=tmp_path) == ["data/link/a.jsonl"]
    assert names("data/link", base=tmp_path) == ["data/link/a.jsonl"]


@pytest.mark.parametrize("pattern", ["none.jsonl", "*.parquet", "d/**/none", "/nowhere/at/all", "a\0b", "x" * 5000, "a\n*"])
def test_a_path_that_names_nothing(tmp_path: Path, pattern: str) -> None:
    plant(tmp_path, "a.jsonl", "d/b.jsonl")
    with pytest.raises(InputError, match="no such file or directory") as raised:
        names(pattern, base=tmp_path)
    assert str(raised.value).isprintable()


def test_a_very_deep_tree(tmp_path: Path) -> None:
    here = os.getcwd()
    os.chdir(tmp_path)
    depth = 1100  # beyond Python's recursion limit
    try:
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        Path("a").write_bytes(b"x")
        os.chdir(tmp_path)
        assert len(names(".", base=tmp_path)) == 1
        os.chdir("d/" * depth)
    finally:
        Path("a").unlink()
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d")
        os.chdir(here)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jsonl")
    with open(path, "wb") as file:
        file.write(b"content")
    [found] = _files.expand(("*.jsonl",), tmp_path)
    assert found.name == "caf\\xe9.jsonl"
    with _files.open_raw(found.path) as opened:
        assert opened.read() == b"content"


def test_a_directory_that_cannot_be_listed_is_not_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, since nothing is closed to root."""
    plant(tmp_path, "a.jsonl", "shut/b.jsonl")
    listed = os.scandir

    def scandir(path: str) -> os.PathLike[str]:
        if os.path.basename(path) == "shut":
            raise PermissionError(13, "Permission denied", path)
        return listed(path)  # type: ignore[return-value]

    monkeypatch.setattr(os, "scandir", scandir)
    for pattern in (".", "*", "**/*.jsonl", "shut", "shut/*"):
        assert "shut" in names(pattern, base=tmp_path), pattern


# -- what cannot be opened -----------------------------------------------------------------------------------------------------------


def test_what_would_hang_is_refused(tmp_path: Path) -> None:
    import socket

    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "fifo", tmp_path / "socket", tmp_path, Path("/dev/zero"), Path("/dev/null")):
            with pytest.raises(OSError, match=r"regular file|No such device|directory"):
                _files.open_raw(str(path))
            with pytest.raises(OSError, match=r"regular file|No such device|directory"):
                _files.hash_of(str(path))
    with pytest.raises(FileNotFoundError):
        _files.open_raw(str(tmp_path / "none"))


def test_no_handle_leaks_from_a_refusal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(OSError, match="regular"):
            _files.open_raw(str(tmp_path / "fifo"))
    assert len(os.listdir("/proc/self/fd")) == before


@given(st.binary(max_size=3000))
def test_hashes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "hashed"
    path.write_bytes(content)
    assert _files.hash_of(str(path)) == xxhash.xxh3_128_hexdigest(content)


# -- compression ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("content", [b"", b"x", TEXT], ids=["empty", "byte", "text"])
@pytest.mark.parametrize("ending", [".txt", ".gz", ".zst"])
def test_the_first_bytes_tell_the_codec(tmp_path: Path, codec: str, content: bytes, ending: str) -> None:
    path = tmp_path / f"name{ending}"
    path.write_bytes(COMPRESS[codec](content))
    assert _files.compression(path.read_bytes()[:6]) == codec
    with _files.open_decompressed(str(path)) as file:
        assert file.read() == content


@pytest.mark.parametrize("content", [b"", b"B", b"BZh", b"BZhang wrote this.\n", b"BZh9 is a header", b"\x1f", b"PK\x03\x04"])
def test_what_is_not_compressed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.bz2"
    path.write_bytes(content)
    with _files.open_decompressed(str(path)) as file:
        assert file.read() == content


def everything(stream: io.BufferedReader) -> tuple[bytes, BaseException | None]:
    """What can be read, and what ended it."""
    pieces = []
    try:
        while piece := stream.read1(1 << 16):
            pieces.append(piece)
    except Exception as error:
        return b"".join(pieces), error
    return b"".join(pieces), None


def opened(data: bytes, codec: str) -> io.BufferedReader:
    return _files.decompressed(io.BytesIO(data), codec)  # type: ignore[return-value]


@pytest.mark.parametrize("codec", CODECS)
def test_streams_one_after_another(codec: str) -> None:
    data = b"".join(COMPRESS[codec](part) for part in (TEXT, b"", TEXT[:1], b"", TEXT))
    assert everything(opened(data, codec)) == (TEXT + TEXT[:1] + TEXT, None)


def lines_before(data: bytes, codec: str) -> bytes:
    """All the bytes that the library's own incremental decompressor makes of a clipped stream, fed a byte at a time."""
    makers = {"gzip": lambda: __import__("zlib").decompressobj(31), "lz4": lz4.frame.LZ4FrameDecompressor}
    makers |= {"bz2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor, "zstd": lambda: zstandard.ZstdDecompressor().decompressobj()}
    decompressor = makers[codec]()
    return b"".join(decompressor.decompress(data[at : at + 1]) for at in range(len(data)))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_a_clipped_stream_gives_all_that_it_holds(codec: str, share: float) -> None:
    whole = COMPRESS[codec](TEXT)
    clipped = whole[: int(len(whole) * share)]
    given_, error = everything(opened(clipped, codec))
    assert isinstance(error, EOFError)
    assert _files.is_damage(error)
    assert given_ == lines_before(clipped, codec)
    assert TEXT.startswith(given_)
    # and behind a whole stream
    given_, error = everything(opened(whole + clipped, codec))
    assert isinstance(error, EOFError)
    assert given_ == TEXT + lines_before(clipped, codec)


@pytest.mark.parametrize("codec", CODECS)
def test_rubbish_after_a_stream_is_damage(codec: str) -> None:
    """The libraries' readers for bz2, xz and lz4 end there in silence, and a damaged second stream with all its records would be lost."""
    second = bytearray(COMPRESS[codec](TEXT))
    second[1] ^= 0xFF
    for tail in (b"rubbish that is no stream at all", bytes(second)):
        given_, error = everything(opened(COMPRESS[codec](TEXT) + tail, codec))
        assert given_ == TEXT
        assert error is not None
        assert _files.is_damage(error)


@pytest.mark.parametrize("codec", CODECS)
def test_flipped_bits_are_damage(codec: str) -> None:
    whole = COMPRESS[codec](TEXT)
    rng = random.Random(codec)
    told = 0
    for _ in range(30):
        damaged = bytearray(whole)
        damaged[rng.randrange(8, len(whole))] ^= 1 << rng.randrange(8)
        given_, error = everything(opened(bytes(damaged), codec))
        assert error is None or _files.is_damage(error), error
        told += error is not None
        assert error is not None or len(given_) == len(TEXT)
    # lz4 and zstd carry no checksum of the content by default: there a flipped literal is another text
    assert told == 30 if codec in ("gzip", "bz2", "xz") else told > 0


@pytest.mark.parametrize("codec", CODECS)
def test_garbage_behind_the_magic(codec: str) -> None:
    for seed in range(20):
        given_, error = everything(opened(COMPRESS[codec](TEXT)[:6] + random.Random(seed).randbytes(500), codec))
        assert error is not None
        assert _files.is_damage(error)
        assert len(given_) < 1 << 20


def test_what_may_stand_between_streams() -> None:
    assert everything(opened(lzma.compress(b"a") + bytes(8) + lzma.compress(b"b") + bytes(4), "xz")) == (b"ab", None)
    assert everything(opened(gzip.compress(b"a") + bytes(100), "gzip")) == (b"a", None)
    skippable = struct.pack("<II", 0x184D2A50, 5) + b"notes"
    zstd, lz4_frame = COMPRESS["zstd"], COMPRESS["lz4"]
    assert everything(opened(zstd(b"a") + skippable + zstd(b"b") + skippable, "zstd")) == (b"ab", None)
    assert everything(opened(lz4_frame(b"a") + lz4_frame(b"b"), "lz4")) == (b"ab", None)


def test_a_window_of_two_gigabytes() -> None:
    """The Reddit dumps' frames, whose window the library refuses by default."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True, chain_log=10, hash_log=10, search_log=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(TEXT) + compressor.flush()
    assert zstandard.get_frame_parameters(frame).window_size == 1 << 31
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    assert everything(opened(frame, "zstd")) == (TEXT, None)


@pytest.mark.parametrize("codec", CODECS)
def test_a_bomb_unfolds_bit_by_bit(codec: str) -> None:
    """150 MB of zeros are never held at once. Zstandard's library gives all that 4 KB may become, the others a bounded piece."""
    import tracemalloc

    bomb = COMPRESS[codec](bytes(150 << 20)) if codec != "xz" else lzma.compress(bytes(150 << 20), preset=0)
    assert len(bomb) < 3 << 20
    tracemalloc.start()
    stream = _files.decompressed(io.BytesIO(bomb), codec, max_ratio=1 << 30)
    size = 0
    while piece := stream.read(1 << 20):
        size += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 150 << 20
    assert peak < (290 << 20 if codec == "zstd" else 10 << 20)


@pytest.mark.parametrize("codec", CODECS)
def test_a_bomb_ends_at_its_ratio(codec: str) -> None:
    """What unfolds 100 times may be read whole up to 64 MiB, and beyond with a ratio that allows it."""
    bomb = COMPRESS[codec](bytes(150 << 20)) if codec != "xz" else lzma.compress(bytes(150 << 20), preset=0)
    text, error = everything(_files.decompressed(io.BytesIO(bomb), codec, max_ratio=20))
    assert isinstance(error, _files.BombError)
    assert _files.is_damage(error)
    assert _files.damage_kind(error) == "bomb"
    assert "max_ratio = 20" in str(error)
    # Zstandard's library gives all that 4 KB may become before it can be counted.
    assert 60 << 20 <= len(text) <= (290 << 20 if codec == "zstd" else 80 << 20)
    assert everything(_files.decompressed(io.BytesIO(bomb[:20000]), codec, max_ratio=20))[0].count(0) > 0


def test_an_unknown_codec_is_a_bug() -> None:
    with pytest.raises(ValueError, match="unknown compression"):
        _files.decompressed(io.BytesIO(b""), "rar")


def test_what_is_no_damage() -> None:
    assert not any(_files.is_damage(error) for error in (KeyError("a"), TypeError("b"), AssertionError(), KeyboardInterrupt()))


# -- remote --------------------------------------------------------------------------------------------------------------------------


def test_memory_urls(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.pipe({"/codedev/a.jsonl.gz": gzip.compress(TEXT), "/codedev/d/b.jsonl": TEXT, "/codedev/d/c.csv": b"text\nx\n"})
    try:
        found = list(_files.expand(("memory://codedev",), tmp_path))
        assert [f.path for f in found] == ["memory://codedev/a.jsonl.gz", "memory://codedev/d/b.jsonl", "memory://codedev/d/c.csv"]
        assert [f.path for f in _files.expand(("memory://codedev/d/*.csv", "memory://codedev/d"), tmp_path)] == [
            found[2].path,
            found[1].path,
        ]
        assert found[1].size == len(TEXT)
        with _files.open_decompressed(found[0].path) as file:
            assert file.read() == TEXT
        assert _files.hash_of(found[1].path) == xxhash.xxh3_128_hexdigest(TEXT)
        with pytest.raises(InputError, match="no such file"):
            list(_files.expand(("memory://codedev/none",), tmp_path))
    finally:
        system.rm("/codedev", recursive=True)


def test_file_urls(tmp_path: Path) -> None:
    plant(tmp_path, "a.jsonl", "d/b.jsonl")
    found = list(_files.expand((f"file://{tmp_path}/a.jsonl", f"file://{tmp_path}/d"), tmp_path))
    assert [f.path for f in found] == [f"file://{tmp_path}/a.jsonl", f"file://{tmp_path}/d/b.jsonl"]
    with _files.open_raw(found[1].path) as file:
        assert file.read() == b"d/b.jsonl"


@pytest.mark.parametrize("url", ["nosuchprotocol://x/y", "http://[bad/", "memory://none/at/all"])
def test_urls_that_name_nothing(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError) as raised:
        list(_files.expand((url,), tmp_path))
    assert str(raised.value).isprintable()


class _Server(http.server.BaseHTTPRequestHandler):
    """Serves TEXT, compressed, under /ranges/ with ranges and elsewhere without, as the simplest servers do."""

    body = gzip.compress(TEXT)

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def answer(self, *, head: bool) -> None:
        if "none" in self.path:
            self.send_error(404)
            return
        ranged = self.headers.get("Range") if self.path.startswith("/ranges/") else None
        body = self.body
        if ranged:
            start, _, end = ranged.removeprefix("bytes=").partition("-")
            body = body[int(start) : int(end) + 1 if end else None]
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(body)))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(body) - 1}/{len(self.body)}")
        if self.path.startswith("/ranges/"):
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        pass


@pytest.fixture
def server() -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="fsspec reads http:// with aiohttp, which is not installed")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("folder", ["ranges", "plain"])
def test_http(tmp_path: Path, server: str, folder: str) -> None:
    [found] = _files.expand((f"{server}/{folder}/a.jsonl.gz?x=1",), tmp_path)
    with _files.open_decompressed(found.path) as file:
        assert file.read() == TEXT
    with _files.open_raw(found.path) as file:
        assert file.read(6) == _Server.body[:6]
        assert file.seek(100) == 100
        assert file.read() == _Server.body[100:]
    assert _files.hash_of(found.path) == xxhash.xxh3_128_hexdigest(_Server.body)
    with pytest.raises(InputError, match="no such file"):
        list(_files.expand((f"{server}/{folder}/none",), tmp_path))


def test_http_without_its_library_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError('HTTPFileSystem requires "requests" and "aiohttp" to be installed')

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InputError, match="aiohttp"):
        list(_files.expand(("http://127.0.0.1/a",), tmp_path))
