"""Files behind URLs, against real servers on loopback: HTTP with every fault injected, S3 (moto), Google Cloud Storage (an emulator).

hf:// has no server that could be run here: how its URLs are taken and what happens without network or package is tested, no more."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import xxhash
from test_source_web import HTML, members, record, response

from codedev import _files, _remote
from codedev._errors import InputError
from codedev.corpus.build import build
from codedev.corpus.recipe import load
from codedev.corpus.source import Failure
from codedev.corpus.sources.web import source as web

NOISE = random.Random(0).randbytes(1 << 20)
TEXT = b"".join(b"line %d of a file behind a URL\n" % number for number in range(20_000))


def listed(*urls: str) -> list[str]:
    return [found.path for found in _files.expand(urls, Path("/nowhere"))]


def content(url: str, expected: str = "") -> bytes:
    with _files.open_raw(url, expected) as file:
        return file.read()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_remote, "_PAUSE", 0.01)


# --- HTTP


class Site:
    """What the server holds and how it behaves; the first word of a path chooses."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: Counter[str] = Counter()  # by path: how many requests are still to fail
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, range
        self.sent = 0  # bytes of bodies
        self.url = ""


def handler(site: Site) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(head=True)

        def do_GET(self) -> None:
            self.answer(head=False)

        def answer(self, *, head: bool) -> None:
            path = self.path.partition("?")[0]
            asked = self.headers.get("Range")
            site.asked.append((self.command, self.path, asked))
            mode = path.split("/")[1]
            body = site.files.get(path)
            status = {"denied": 403, "login": 401, "gone": 410}.get(mode, 200 if body is not None else 404)
            failing = not head and site.faults[path] > 0
            if failing:
                site.faults[path] -= 1
            if failing and mode in ("busy", "limited"):
                status = 503 if mode == "busy" else 429
            if status != 200 or body is None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            tag = f'"{xxhash.xxh3_64_hexdigest(body)}"'
            if self.headers.get("If-Match") not in (None, tag):
                self.send_response(412)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            whole = len(body)
            ranged = asked if asked and mode not in ("plain", "stream") else None
            start = 0
            if ranged:
                first, _, last = ranged.removeprefix("bytes=").partition("-")
                start = int(first)
                body = body[start : int(last) + 1 if last else None]
            self.send_response(206 if ranged else 200)
            if mode != "stream":
                self.send_header("Content-Length", str(len(body)))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            if mode in ("tagged", "weak"):
                self.send_header("ETag", tag if mode == "tagged" else f"W/{tag}")
            if path.endswith("/"):
                self.send_header("Content-Type", "text/html")
            if ranged:
                self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{whole}")
            self.end_headers()
            if head:
                return
            if failing and mode in ("dropping", "plain", "stream"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            with contextlib.suppress(OSError):  # a client that has enough hangs up
                site.sent += len(body)  # before the client has it and looks here
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            pass

    return Handler


@pytest.fixture
def site() -> Iterator[Site]:
    pytest.importorskip("aiohttp", reason="https:// is read with aiohttp, which is not installed")
    held = Site()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(held)) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        held.url = f"http://127.0.0.1:{running.server_port}"
        yield held
        running.shutdown()


@pytest.mark.parametrize("mode", ["ranges", "tagged", "weak", "plain", "stream"])
def test_reading_at_any_place(site: Site, mode: str) -> None:
    data = NOISE * 3
    site.files[f"/{mode}/a"] = data
    rng = random.Random(mode)
    with _files.open_raw(f"{site.url}/{mode}/a") as file:
        assert file.seek(0, 2) == len(data)
        assert file.read(1) == b""
        for _ in range(40):
            at, size = rng.randrange(len(data)), rng.randrange(1, 400_000)
            assert file.seek(at) == at
            assert file.read(size) == data[at : at + size]
        file.seek(5)
        assert file.read() == data[5:]


def test_reading_in_order_asks_for_ever_larger_ranges(site: Site) -> None:
    site.files["/ranges/a"] = NOISE * 40
    with _files.open_raw(f"{site.url}/ranges/a") as file:
        while file.read(1 << 18):
            pass
    sizes = [int(r.partition("-")[2]) - int(r.removeprefix("bytes=").partition("-")[0]) + 1 for _, _, r in site.asked if r]
    assert sizes[:4] == [256 << 10, 512 << 10, 1 << 20, 2 << 20]
    assert max(sizes) == 8 << 20
    assert site.sent == 40 << 20


@pytest.mark.parametrize(("mode", "faults"), [("busy", 4), ("limited", 2), ("dropping", 4), ("plain", 3), ("stream", 0)])
def test_faults_that_pass_are_tried_again(site: Site, mode: str, faults: int) -> None:
    site.files[f"/{mode}/a"] = NOISE
    url = f"{site.url}/{mode}/a"
    site.faults[f"/{mode}/a"] = faults
    assert content(url) == NOISE


def test_a_connection_that_drops_in_every_range(site: Site) -> None:
    site.files["/dropping/a"] = data = NOISE * 12
    file = _files.open_raw(f"{site.url}/dropping/a")
    read = b""
    while len(read) < len(data):
        site.faults["/dropping/a"] = 2
        read += file.read(1 << 20)
    assert read == data


def test_faults_that_do_not_pass_end_after_the_tries(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files["/busy/a"] = NOISE
    site.faults["/busy/a"] = 1000
    with pytest.raises(OSError, match=r"/busy/a: .*503.* after 5 tries \(CODEDEV_REMOTE_TRIES"):
        content(f"{site.url}/busy/a")
    monkeypatch.setenv("CODEDEV_REMOTE_TRIES", "2")
    site.asked.clear()
    with pytest.raises(OSError, match="after 2 tries"):
        content(f"{site.url}/busy/a")
    assert sum(method == "GET" for method, _, _ in site.asked) == 2
    monkeypatch.setenv("CODEDEV_REMOTE_TRIES", "many")
    with pytest.raises(InputError, match="CODEDEV_REMOTE_TRIES=many"):
        listed(f"{site.url}/busy/a")


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a"
    with pytest.raises(InputError, match=r"/a: .*after 5 tries"):
        listed(url)
    with pytest.raises(OSError, match="after 5 tries"):
        content(url)


@pytest.mark.parametrize(("mode", "words"), [("denied", "access denied"), ("login", "access denied"), ("gone", "410")])
def test_what_will_not_pass_is_told_at_once(site: Site, mode: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it was tried again"))
    site.files[f"/{mode}/a"] = TEXT
    with pytest.raises(InputError, match=words):
        listed(f"{site.url}/{mode}/a")
    with pytest.raises(OSError, match=words):
        content(f"{site.url}/{mode}/a")
    with pytest.raises(InputError, match="no such file"):
        listed(f"{site.url}/ranges/none")
    with pytest.raises(OSError, match="no such object"):
        content(f"{site.url}/ranges/none")


def test_index_pages_are_folders(site: Site) -> None:
    links = ["../", "?C=N;O=D", "b.gz", "a.gz", "d/", ".hidden", "http://elsewhere.example/x.gz", "/ranges/other"]
    page = "".join(f'<a href="{link}">x</a>' for link in links)
    site.files["/ranges/i/"] = f"<html>{page}</html>".encode()
    site.files["/ranges/i/d/"] = b'<html><a href="c.gz">x</a></html>'
    for name in ("a.gz", "b.gz", "d/c.gz", ".hidden"):
        site.files[f"/ranges/i/{name}"] = name.encode()
    top = f"{site.url}/ranges/i"
    assert listed(f"{top}/") == [f"{top}/a.gz", f"{top}/b.gz", f"{top}/d/c.gz"]
    assert listed(f"{top}/*.gz") == [f"{top}/a.gz", f"{top}/b.gz"]
    assert listed(f"{top}/**/c*") == [f"{top}/d/c.gz"]
    assert [found.size for found in _files.expand((f"{top}/",), Path("/"))] == [4, 4, 6]


def test_secrets_in_urls_are_not_shown(site: Site) -> None:
    site.files["/ranges/a"] = TEXT
    host = site.url.removeprefix("http://")
    [found] = _files.expand((f"http://me:hunter2@{host}/ranges/a?X-Amz-Signature=c0ffee",), Path("/"))
    assert found.name == f"http://{host}/ranges/a"
    assert content(found.path) == TEXT
    with pytest.raises(OSError, match="no such object") as raised:
        content(f"http://me:hunter2@{host}/ranges/none?sig=c0ffee")
    assert "hunter2" not in str(raised.value)
    assert "c0ffee" not in str(raised.value)
    assert _remote.shown("https://example.org/a?page=2") == "https://example.org/a?page=2"
    assert _remote.shown("s3://bucket/a?b") == "s3://bucket/a?b"


def test_what_the_server_calls_a_file_is_its_hash(site: Site) -> None:
    for mode in ("tagged", "weak", "ranges"):
        site.files[f"/{mode}/a"] = TEXT
        site.files[f"/{mode}/b"] = TEXT
    site.sent = 0
    a = _files.hash_of(f"{site.url}/tagged/a")
    assert len(a) == 32
    assert int(a, 16)
    assert a == _files.hash_of(f"{site.url}/tagged/a") != _files.hash_of(f"{site.url}/tagged/b")
    assert site.sent == 0
    assert _files.hash_of(f"{site.url}/weak/a") == _files.hash_of(f"{site.url}/ranges/a") == xxhash.xxh3_128_hexdigest(TEXT)
    site.files["/tagged/a"] = TEXT + b"more"
    assert _files.hash_of(f"{site.url}/tagged/a") != a


# --- archives behind URLs


def archive(count: int) -> bytes:
    rng = random.Random(1)
    pages = [HTML % b"%d %s" % (number, rng.randbytes(6000).hex().encode()) for number in range(count)]
    return members([record(number, response(page)) for number, page in enumerate(pages)], 1)


def config(url: str, **keys: Any) -> web.Config:
    return web.Config(name="w", paths=(url,), **keys)


def test_planning_does_not_fetch_the_archive(site: Site) -> None:
    site.files["/tagged/a.warc.gz"] = data = archive(1500)
    assert len(data) > 9 << 20
    recipe = config(f"{site.url}/tagged/a.warc.gz")
    extents = list(web.plan(recipe, Path("/"), 2 << 20))
    assert len(extents) >= 4
    assert site.sent < 0.3 * len(data)
    whole = list(web.plan(recipe, Path("/"), 1 << 30))
    assert len(whole) == 1
    things = [thing for extent in extents for thing in web.read(extent, recipe, Path("/"))]
    assert things == [thing for extent in whole for thing in web.read(extent, recipe, Path("/"))]
    assert len(things) == 1500
    site.sent = 0
    list(web.read(extents[1], recipe, Path("/")))
    assert site.sent < extents[1].size + (9 << 20)


def test_an_object_that_changed_is_an_error_row(site: Site) -> None:
    site.files["/tagged/a.warc.gz"] = archive(500)
    recipe = config(f"{site.url}/tagged/a.warc.gz")
    (extent,) = web.plan(recipe, Path("/"), 1 << 30)
    extent = extent._replace(hash=_files.hash_of(extent.file))
    reading = web.read(extent, recipe, Path("/"))
    first = next(reading)
    assert not isinstance(first, Failure)
    site.files["/tagged/a.warc.gz"] = archive(501)
    rest = list(reading)  # it changes while it is read
    assert isinstance(rest[-1], Failure)
    assert rest[-1].kind == "changed"
    (failure,) = web.read(extent, recipe, Path("/"))  # it had changed before
    assert isinstance(failure, Failure)
    assert failure.kind == "changed"
    assert "Run the build again" in failure.message


def test_an_archive_that_cannot_be_read_to_its_end_is_an_error_row(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import zstandard

    plain = gzip.decompress(archive(500))
    for name, data in (("a.gz", gzip.compress(plain)), ("a.zst", zstandard.compress(plain)), ("a", plain)):
        site.files[f"/busy/{name}"] = data
        monkeypatch.setenv("CODEDEV_REMOTE_TRIES", "1")
        recipe = config(f"{site.url}/busy/{name}")
        (extent,) = web.plan(recipe, Path("/"), 1 << 30)
        reading = web.read(extent, recipe, Path("/"))
        next(reading)
        site.faults[f"/busy/{name}"] = 1000
        rest = list(reading)
        site.faults[f"/busy/{name}"] = 0
        assert [thing.kind for thing in rest if isinstance(thing, Failure)] == ["unreadable"], name


# --- S3


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    pytest.importorskip("s3fs", reason="s3:// is read with s3fs, which is not installed")
    boto3 = pytest.importorskip("boto3", reason="the S3 test server needs boto3")
    server = pytest.importorskip("moto.server", reason="the S3 test server is moto's").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        settings = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        settings |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
        for name, value in settings.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="corpus")
        yield client
    server.stop()


def put(client: Any, **files: bytes) -> None:
    for name, data in files.items():
        client.put_object(Bucket="corpus", Key=name, Body=data)


def test_listing_a_bucket(s3: Any) -> None:
    names = ["l/a.b", "l/a/x.gz", "l/a/y.txt", "l/b.gz", "l/.hidden", "l/.dir/x.gz", "l/a/deep/z.gz", "l/[x].gz"]
    put(s3, **dict.fromkeys(names, b"x"))
    s3.put_object(Bucket="corpus", Key="l/a/", Body=b"")  # a folder's own object, as consoles make them
    at = "s3://corpus/l"
    assert listed(at) == listed(f"{at}/") == [f"{at}/{n}" for n in ("[x].gz", "a/deep/z.gz", "a/x.gz", "a/y.txt", "a.b", "b.gz")]
    assert listed(f"{at}/*.gz") == [f"{at}/[x].gz", f"{at}/b.gz"]
    assert listed(f"{at}/**/*.gz") == [f"{at}/[x].gz", f"{at}/a/deep/z.gz", f"{at}/a/x.gz", f"{at}/b.gz"]
    assert listed(f"{at}/[x].gz", f"{at}/*/?.gz") == [f"{at}/[x].gz", f"{at}/a/x.gz"]
    assert listed(f"{at}/a/x.gz", at)[0] == f"{at}/a/x.gz"
    assert len(listed(f"{at}/a/x.gz", at)) == 6
    assert listed("s3://corpus/*/b.gz") == [f"{at}/b.gz"]


def test_more_objects_than_a_page_lists(s3: Any) -> None:
    from moto.backends import get_backend

    store = get_backend("s3")["123456789012"]["aws"]  # ten times as quick as a thousand requests
    for number in range(1100):
        store.put_object("corpus", f"many/{number:04}", b"")
    assert listed("s3://corpus/many") == [f"s3://corpus/many/{number:04}" for number in range(1100)]


def test_local_and_remote_files_are_listed_in_one_order(s3: Any, tmp_path: Path) -> None:
    names = ["a-b/x", "a/x", "a.b/x", "a b", "Z", "é", "a/~", "a/_/x"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        put(s3, **{f"order/{name}": b"x"})
    for pattern in ("", "/*", "/**/x"):
        local = [os.path.relpath(path, tmp_path) for path in listed(f"{tmp_path}{pattern}")]
        assert [path.removeprefix("s3://corpus/order/") for path in listed(f"s3://corpus/order{pattern}")] == local


def test_reading_and_naming_objects(s3: Any) -> None:
    put(s3, **{"r/a": NOISE * 3, "r/b": NOISE * 3, "r/empty": b""})
    with _files.open_raw("s3://corpus/r/a") as file:
        file.seek(2_000_000)
        assert file.read(1000) == (NOISE * 3)[2_000_000:2_001_000]
    assert content("s3://corpus/r/a") == NOISE * 3
    assert content("s3://corpus/r/empty") == b""
    named = _files.hash_of("s3://corpus/r/a")
    assert named == _files.hash_of("s3://corpus/r/b")  # S3 names content, wherever it lies
    put(s3, **{"r/a": NOISE})
    assert _files.hash_of("s3://corpus/r/a") != named
    with pytest.raises(_remote.ChangedError):
        content("s3://corpus/r/a", named)


def test_an_object_that_changes_while_it_is_read(s3: Any) -> None:
    put(s3, **{"c/a": NOISE * 10})
    with _files.open_raw("s3://corpus/c/a") as file:
        file.read(10)
        put(s3, **{"c/a": NOISE * 11})
        with pytest.raises(_remote.ChangedError):
            file.read()


def test_what_is_not_in_a_bucket(s3: Any) -> None:
    for url in ("s3://no-such-bucket/a", "s3://no-such-bucket/*.gz", "s3://corpus/none", "s3://corpus/none/*.gz"):
        with pytest.raises(InputError, match="no such file"):
            listed(url)
    with pytest.raises(_remote.MissingError, match="no such object"):
        content("s3://no-such-bucket/a")
    with pytest.raises(OSError, match="a folder"):
        content("s3://corpus")


def test_a_bucket_that_is_closed(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(s3, **{"closed/a": TEXT})
    deny = {"Effect": "Deny", "Principal": "*", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::corpus/*"}
    s3.put_bucket_policy(Bucket="corpus", Policy=orjson.dumps({"Version": "2012-10-17", "Statement": [deny]}).decode())
    try:
        with pytest.raises(OSError, match=r"closed/a: access denied .*AWS_ACCESS_KEY_ID"):
            content("s3://corpus/closed/a")
        recipe = config("s3://corpus/closed/a")
        extents = list(web.plan(recipe, Path("/"), 1 << 30)) if _can_list("s3://corpus/closed/a") else []
        assert all(isinstance(thing, Failure) and thing.kind == "unreadable" for e in extents for thing in web.read(e, recipe, Path("/")))
    finally:
        s3.delete_bucket_policy(Bucket="corpus")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(InputError, match="access denied"):
        listed("s3://corpus/closed/a")
    monkeypatch.undo()
    s3fs.S3FileSystem.clear_instance_cache()


def _can_list(url: str) -> bool:
    try:
        return bool(listed(url))
    except InputError:
        return False


@pytest.mark.slow
def test_a_corpus_from_a_bucket_is_the_corpus_from_a_disk(s3: Any, tmp_path: Path) -> None:
    """Web archive, JSON lines and Parquet; two workers; small units, so that the objects are split."""
    import pyarrow as pa

    rows = [{"id": f"n{number}", "text": f"Row {number} says a little more than nothing."} for number in range(1000)]
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{**row, "id": "p" + row["id"]} for row in rows]), table, row_group_size=200)
    files = {
        "pages.warc.gz": archive(200),
        "rows.jsonl": b"".join(orjson.dumps(row) + b"\n" for row in rows),
        "rows.parquet": table.read_bytes(),
        "deep/rows.jsonl.gz": gzip.compress(b"".join(orjson.dumps({**row, "id": "z" + str(row["id"])}) + b"\n" for row in rows)),
    }
    for name, data in files.items():
        path = tmp_path / "disk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        put(s3, **{f"build/{name}": data})

    def made(place: str, out: str) -> dict[str, Any]:
        recipe = {
            "name": "c",
            "unit_bytes": 1 << 18,
            "sources": [
                {"name": "pages", "type": "web", "paths": [f"{place}/pages.warc.gz"]},
                {"name": "rows", "type": "tables", "paths": [f"{place}/rows.*", f"{place}/deep"]},
            ],
        }
        path = tmp_path / "recipe.yaml"
        path.write_bytes(orjson.dumps(recipe))
        return build(load(path), tmp_path, tmp_path / out, workers=2)

    local, remote = made("disk", "local"), made("s3://corpus/build", "remote")
    assert local["totals"]["documents"] == remote["totals"]["documents"] == 200 + 3000
    assert local["totals"]["errors"] == remote["totals"]["errors"] == 0
    for name in ("pages", "rows"):
        ours, theirs = (
            pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / out / "documents" / name).glob("*.parquet"))]).to_pylist()
            for out in ("local", "remote")
        )
        for one, other in zip(ours, theirs, strict=True):
            one_origin, other_origin = one.pop("origin"), other.pop("origin")
            assert one == other
            assert other_origin.pop("file") == "s3://corpus/build/" + one_origin.pop("file").removeprefix("disk/")
            assert one_origin == other_origin


# --- Google Cloud Storage


@pytest.fixture
def gs() -> Iterator[Callable[[str, bytes], None]]:
    pytest.importorskip("gcsfs", reason="gs:// is read with gcsfs, which is not installed")
    pytest.importorskip("gcp_storage_emulator", reason="the test server is gcp-storage-emulator, which is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = "import sys\nfrom gcp_storage_emulator.server import create_server\n"
    script += "create_server('127.0.0.1', int(sys.argv[1]), in_memory=True, default_bucket='corpus').run()"
    server = subprocess.Popen([sys.executable, "-c", script, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def upload(name: str, data: bytes) -> None:
        place = f"{url}/upload/storage/v1/b/corpus/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
        urllib.request.urlopen(urllib.request.Request(place, data=data, method="POST")).close()

    for _ in range(100):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        time.sleep(0.1)
    import fsspec
    import gcsfs.core

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        patch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        # gcsfs's newer class asks over gRPC what kind of bucket it is, which the emulator does not speak, and waits two minutes for that.
        patch.setattr(fsspec.core, "url_to_fs", lambda url, **options: (gcsfs.core.GCSFileSystem(**options, token="anon"), url[5:]))
        yield upload
    server.terminate()
    server.wait(10)


def test_google_cloud_storage(gs: Callable[[str, bytes], None]) -> None:
    for name in ("x/a.bin", "x/d/b.bin", "x/.hidden", "x/c.txt"):
        gs(name, NOISE * 2 if name == "x/a.bin" else name.encode())
    assert listed("gs://corpus/x") == ["gs://corpus/x/a.bin", "gs://corpus/x/c.txt", "gs://corpus/x/d/b.bin"]
    assert listed("gs://corpus/x/**/*.bin") == ["gs://corpus/x/a.bin", "gs://corpus/x/d/b.bin"]
    assert content("gs://corpus/x/a.bin") == NOISE * 2
    with _files.open_raw("gs://corpus/x/a.bin") as file:
        file.seek(1_500_000)
        assert file.read(99) == (NOISE * 2)[1_500_000:1_500_099]
    named = _files.hash_of("gs://corpus/x/a.bin")
    assert named == _files.hash_of("gs://corpus/x/a.bin")
    gs("x/a.bin", NOISE)
    assert _files.hash_of("gs://corpus/x/a.bin") != named
    with pytest.raises(InputError, match="no such file"):
        listed("gs://corpus/none")


# --- what is not there


def test_hf_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub", reason="hf:// is read with huggingface_hub, which is not installed")
    monkeypatch.setenv("CODEDEV_REMOTE_TRIES", "1")
    system, path = _remote._connect("hf://datasets/org/name@main/data/train-00000.parquet")
    assert path == "datasets/org/name@main/data/train-00000.parquet"
    assert "hf" in system.protocol
    monkeypatch.setattr(type(system), "info", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("no route")))
    with pytest.raises(InputError, match=r"hf://datasets/org/name.*no route"):
        listed("hf://datasets/org/name@main/data/train-00000.parquet")
    told = {"type": "file", "size": 7, "blob_id": "abc", "lfs": {"sha256": "def"}}
    monkeypatch.setattr(type(system), "info", lambda *_, **__: told)
    named = _files.hash_of("hf://datasets/org/name/a")
    told["lfs"] = {"sha256": "other"}
    assert _files.hash_of("hf://datasets/org/name/a") != named


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("https://example.org/a", "aiohttp"),
        ("s3://bucket/a", "s3fs"),
        ("gs://bucket/a", "gcsfs"),
        ("hf://datasets/a/b/c", "huggingface_hub"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(url: str, package: str) -> None:
    script = (
        f"import sys; sys.modules[{package!r}] = None\nfrom pathlib import Path\n"
        "from codedev import _files\nfrom codedev._errors import InputError\n"
        f"try:\n    list(_files.expand(({url!r},), Path('/')))\nexcept InputError as error:\n    print(error)\n"
        f"try:\n    _files.open_raw({url!r})\nexcept OSError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = done.stdout.strip().split("\n")
    for line in (first, second):
        assert f"needs {package}: pip install -e '.[remote]'" in line


def test_which_errors_pass() -> None:
    class Status(Exception):  # noqa: N818
        __module__ = "gcsfs.retry"

        def __init__(self, **fields: Any) -> None:
            super().__init__("told")
            self.__dict__.update(fields)

    class Response:
        status_code = 502

    def boto(status: int) -> Status:
        return Status(response={"Error": {"Code": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}})

    passing = [
        *(TimeoutError(), ConnectionResetError(), EOFError("short"), OSError(5, "EIO")),
        *(Status(status=503), Status(code=500), Status(code="429"), Status(response=Response()), boto(500), boto(429)),
        socket.gaierror(socket.EAI_AGAIN, "try again"),
    ]
    lasting = [
        *(FileNotFoundError(), PermissionError(), IsADirectoryError(), ImportError(), ValueError("x"), TypeError("x"), KeyError("x")),
        *(Status(status=404), Status(code=403), boto(400), boto(412)),
        socket.gaierror(socket.EAI_NONAME, "unknown host"),
    ]
    assert [error for error in passing if not _remote._may_pass(error)] == []
    assert [error for error in lasting if _remote._may_pass(error)] == []
    wrapped = OSError("wrapped")
    wrapped.__cause__ = boto(403)
    assert not _remote._may_pass(wrapped)
    for error in (*passing, *lasting):  # whatever it is, it becomes an OSError that says where
        assert str(_remote._translated("s3://bucket/a", error, 1)).startswith("s3://bucket/a: ")
