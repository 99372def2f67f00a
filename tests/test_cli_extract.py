"""`codedev corpus extract`, as a user runs it: where a page may lie, what is shown, what is said of what cannot be read."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import tracemalloc
from html import escape
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import ROOT

from codedev._errors import InputError
from codedev.cli import cli
from codedev.corpus.page import apart, find, html, view
from codedev.corpus.page.seen import Entry, Raw, View, Wanted
from codedev.corpus.source import Failure

SAMPLES = ROOT / "samples"

PROSE = "The ferry leaves the harbour at seven in the morning, and it comes back in the late afternoon when the tide is high enough. "
PAGE = f"""<!doctype html><html lang=en><head><title>The ferry</title></head><body>
<nav><ul><li><a href=/>Home</a><li><a href=/b>News</a></ul></nav>
<article><h1>The ferry</h1><p>{PROSE * 2}</p><p>{PROSE * 3}</p><pre><code class=language-python>if late:
    wait()</code></pre><p>{PROSE}</p></article>
<footer><script>alert(1)</script><img src=x onerror=alert(2)>Imprint</footer></body></html>"""
WARC = "web/pages.warc.gz"


def extract(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "codedev", "corpus", "extract", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "ferry.html"
    path.write_text(PAGE)
    return path


def test_text_goes_to_stdout_and_the_rest_to_stderr(page: Path, tmp_path: Path) -> None:
    done = extract(page)
    text = done.stdout.decode()
    assert done.returncode == 0
    assert text.startswith("# The ferry\n\nThe ferry leaves")
    assert "```python\nif late:\n    wait()\n```" in text
    assert "Home" not in text
    assert "Imprint" not in text
    assert b"The ferry" in done.stderr
    packed = tmp_path / "ferry.html.gz"
    packed.write_bytes(gzip.compress(page.read_bytes()))
    assert extract(packed).stdout == extract("-", stdin=page.read_bytes()).stdout == done.stdout


def test_programs_get_everything(page: Path) -> None:
    told = json.loads(extract(page, "--json").stdout)
    kept = [block for block in told["blocks"] if block["kept"]]
    assert told["text"].startswith("# The ferry")
    assert told["meta"]["title"] == "The ferry"
    assert {"kept", "score", "reason"} <= set(kept[0])
    assert len(told["blocks"]) > len(kept) > 2


def test_blocks_are_told_without_colour_and_without_blanks_that_fill_lines_up(page: Path) -> None:
    done = extract(page, "--blocks")
    shown = done.stdout.decode()
    assert "\x1b" not in shown
    letters = re.findall(r"^ ([Kd])\s", shown, re.MULTILINE)
    assert {*letters} == {"K", "d"}
    for output in (shown, done.stderr.decode(), extract(SAMPLES / WARC).stdout.decode()):
        assert output
        assert [line for line in output.splitlines() if line != line.rstrip() or not line] == []
    dropped = extract(page, "--blocks", "--only", "dropped").stdout.decode()
    assert re.findall(r"^ ([Kd])\s", dropped, re.MULTILINE) == [letter for letter in letters if letter == "d"]
    kept = json.loads(extract(page, "--json", "--only", "kept").stdout)["blocks"]
    assert [block["kept"] for block in kept] == [True] * letters.count("K")


def seen(path: Path, **asked: Any) -> View:
    """In this process."""
    raw = find.page(str(path))
    assert isinstance(raw, Raw)
    return view.view(raw, **asked)


def test_words_of_code_are_not_glued(tmp_path: Path) -> None:
    """The Markdown, which a kernel writes, is the oracle."""
    codes = {
        "<div class=line><b>int</b> <i>a</i>;</div><div class=line><b>int</b> b;</div>": "int a;\nint b;",
        "<code><span>def</span> <span>f</span>():\n    <span>return</span> <span>1</span></code>": "def f():\n    return 1",
        "<ol><li>first line<li>second line</ol>": "first line\nsecond line",
        "a<br>b<br> c": "a\nb\n c",
        "one\n  two &lt; 3": "one\n  two < 3",
    }
    for number, (code, expected) in enumerate(codes.items()):
        path = tmp_path / f"{number}.html"
        path.write_text(f"<html><body><h1>Code</h1><p>{PROSE * 3}</p><pre>{code}</pre><p>{PROSE * 3}</p></body></html>")
        told = seen(path)
        (block,) = (block for block in told.blocks if block.tag == "pre")
        assert block.text == expected
        assert f"```\n{expected}\n```" in told.text


def test_formulas_and_blanks_in_running_text(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text(
        f"<html><body><p>{PROSE}<b>bold</b> <i>italic</i> <math><mi>a</mi><mo>=</mo><mn>1</mn></math> end.</p><p>{PROSE}</p></body></html>"
    )
    told = seen(path)
    assert told.blocks[0].text.endswith("bold italic $a=1$ end.")
    assert "bold italic $a=1$ end" in told.text.replace("*", "")


def test_every_block_says_why(page: Path) -> None:
    for extract in ("main", "all"):
        for block in seen(page, extract=extract).blocks:
            assert block.because
            assert all(block.because)
            side = 1 if block.score > 0.55 else -1
            if block.reason == "score":
                assert block.kept == (side > 0)
                spoken = [words for _, words, weight in block.why if weight * side > 0]
                assert block.because == spoken or block.because[0].startswith(("too little", "nothing"))
            else:
                assert block.because[0] not in [words for _, words, _ in block.why]


# --- limits


@pytest.mark.slow
def test_a_page_that_hangs_ends_in_one_line(tmp_path: Path) -> None:
    """50,000 formulas under a limit that they cannot hold stand for a page that hangs."""
    (tmp_path / "big.html").write_text(PAGE.replace("<p>", "<p>" + "<math><mi>x</mi><mo>=</mo><mn>1</mn></math> " * 50_000, 1))
    done = extract(tmp_path / "big.html", "--max-record-seconds", "0.05")
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.decode() == (
        f"error: {tmp_path}/big.html: took more than 0.05 s of CPU time and was given up; a build of a corpus makes an error row `timeout` "
        "of it. Give it more: --max-record-seconds 0.5\n"
    )


def test_what_a_build_makes_of_a_page_is_said() -> None:
    """The words of the other ends, which no harmless page comes to."""
    failures = [Failure(kind, f"native code crashed while reading it ({kind})") for kind in ("timeout", "memory", "crash")]
    for failure in failures:
        told = apart._given_up("a.html", failure, 30)
        assert told.startswith("a.html: ")
        assert f"an error row `{failure.kind}` of it" in told


# --- the nearest URLs


def test_the_nearest_urls_are_those_of_all_and_few_are_held() -> None:
    rng = random.Random(0)
    words = ["ferry", "tide", "2020", "news", "a", "b", "harbour", "de"]
    urls = [f"https://{rng.choice(words)}.example/{'/'.join(rng.choices(words, k=rng.randint(0, 4)))}" for _ in range(3000)]
    wanted = "http://www.harbour.example/news/ferry/2020/"

    def share(url: str) -> float:
        own, asked = ({*re.findall(r"[^\W_]+", one.partition("://")[2].lower().removeprefix("www."))} for one in (url, wanted))
        return len(own & asked) / len(own | asked)

    near = find.Nearest(wanted)
    for url in urls:
        near.see(url)
    assert near.urls == sorted({*urls}, key=lambda url: (-share(url), url))[:3]
    tracemalloc.start()
    for number in range(20_000):
        near.see(f"https://harbour.example/{number}/" + "x" * 200)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 100_000  # all of them are 5 MB


# --- where a page may lie


def members(path: Path) -> Path:
    """An archive of a page, a PDF, an error page, an empty answer and what is no HTTP."""

    def record(url: str, block: bytes) -> bytes:
        fields = f"WARC-Type: response\r\nWARC-Target-URI: {url}\r\nContent-Type: application/http\r\nContent-Length: {len(block)}"
        return f"WARC/1.0\r\n{fields}\r\n\r\n".encode() + block + b"\r\n\r\n"

    def http(status: str, kind: str, body: bytes) -> bytes:
        return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n\r\n".encode() + body

    answers = {
        "page": http("200 OK", "text/html", PAGE.encode()),
        "pdf": http("200 OK", "application/pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj"),
        "gone": http("404 Not Found", "text/html", PAGE.encode()),
        "empty": http("200 OK", "text/html", b""),
        "image": http("200 OK", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(99)),
        "bad": b"nonsense",
    }
    path.write_bytes(b"".join(record(f"http://a.example/{name}", block) for name, block in answers.items()))
    return path


def test_records_of_an_archive(tmp_path: Path) -> None:
    archive = str(members(tmp_path / "m.warc"))
    (entry,) = find.page(archive)
    assert isinstance(entry, Entry)
    assert (entry.record, entry.offset, entry.title) == (1, 0, "The ferry")
    wanted = (Wanted(url="http://a.example/page"), Wanted(url="a.example/page/"), Wanted(url="https://www.a.example/page#x"))
    for one in (*wanted, Wanted(offset=0), Wanted(record=1)):
        raw = find.page(archive, one)
        assert isinstance(raw, Raw)
        assert raw.html == PAGE.encode()
        assert raw.note is None
    gone = find.page(archive, Wanted(record=3))
    assert isinstance(gone, Raw)
    assert gone.note
    assert "HTTP 404" in gone.note
    for one, message in {
        Wanted(url="http://a.example/pdf"): "http://a.example/pdf is a PDF, which is not read",
        Wanted(url="http://a.example/empty"): "is empty",
        Wanted(url="http://a.example/image"): "is image/png, not HTML",
        Wanted(url="http://a.example/bad"): "no HTTP response that can be read",
        Wanted(url="http://a.example/other"): "Nearest: http://a.example/bad, http://a.example/empty, http://a.example/gone",
        Wanted(offset=1): "no record starts at byte 1. The next one starts at",
        Wanted(offset=1 << 40): "or behind it",
        Wanted(record=7): "has 6 records, none with the number 7",
    }.items():
        with pytest.raises(InputError, match=re.escape(message)) as told:
            find.page(archive, one)
        assert "\n" not in str(told.value)


def test_files_in_every_dress(page: Path, tmp_path: Path) -> None:
    packed = tmp_path / "ferry.html.gz"
    packed.write_bytes(gzip.compress(page.read_bytes()))
    for where in (str(page), str(packed), page.as_uri()):
        raw = find.page(where)
        assert isinstance(raw, Raw)
        assert raw.html == page.read_bytes()
    assert find.page("-", piped=packed.read_bytes()) == Raw("-", page.read_bytes())
    (tmp_path / "empty.html.gz").write_bytes(gzip.compress(b""))
    os.mkfifo(tmp_path / "pipe")
    for where, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere", "No such file or directory"),
        (tmp_path / "empty.html.gz", "holds nothing"),
        (tmp_path / "pipe", "is no regular file. Give `-`"),
    ):
        with pytest.raises(InputError, match=message):
            find.page(str(where))
    with pytest.raises(InputError, match="is no web archive"):
        find.page(str(page), Wanted(record=1))


@pytest.mark.skipif(find_spec("aiohttp") is None, reason="https:// is read with aiohttp, which is not installed")
def test_a_page_and_an_archive_behind_a_server(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEDEV_REMOTE_TRIES", "1")
    archive = (SAMPLES / WARC).read_bytes()
    files = {"/ferry.html": page.read_bytes(), "/a.warc.gz": archive}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            if (body := self.answer()) is not None:
                self.wfile.write(body)

        def answer(self) -> bytes | None:
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            return body

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        raw = find.page(f"{base}/ferry.html")
        assert isinstance(raw, Raw)
        assert raw.html == page.read_bytes()
        listed = find.page(f"{base}/a.warc.gz", most=2)
        assert isinstance(listed, list)
        assert [entry.record for entry in listed] == [3, 5]
        with pytest.raises(InputError, match="there is no such object") as told:
            find.page(f"{base}/nowhere.html")
        assert str(told.value).count(base) == 1
        server.shutdown()


# --- the page view in a browser

ATTACK = """<script>document.title="PWNED"</script><img src=x onerror="document.title='PWNED'">"'><svg onload="document.title='PWNED'">"""


@pytest.mark.slow
@pytest.mark.skipif(not which("chromium"), reason="no chromium")
def test_a_huge_hostile_page_is_shown_and_runs_nothing(tmp_path: Path) -> None:
    """5 MB in 50,000 blocks. A file:// page has every right that a view could have."""
    said = escape(ATTACK)
    head = (
        f"<title>{said}</title><meta name=author content='{said}'><meta property=article:tag content='{said}'><base href=http://e.example/>"
    )
    body = "".join(f"<p class='{said if n % 900 == 0 else n}'>{PROSE[:100]} {n} {said if n % 700 == 0 else ''}</p>" for n in range(50_000))
    path = tmp_path / f"{ATTACK[:8]}.html".replace("/", "")
    path.write_text(f"<!doctype html><html lang='{said}'><head>{head}</head><body onload=\"document.title='PWNED'\">{body}</body></html>")
    (tmp_path / "why.html").write_text(html.render(seen(path)))
    assert (tmp_path / "why.html").stat().st_size < 20_000_000
    started = time.monotonic()
    dom = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=2000",
         "--dump-dom", (tmp_path / "why.html").as_uri()],
        capture_output=True, check=True, timeout=300,
    ).stdout.decode()  # fmt: skip
    assert time.monotonic() - started < 120  # 3 s on an idle machine
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title
    assert title[1].startswith("&lt;script&gt;")
    assert not re.search(r"<(?:script|img|base|link|iframe|a)\b|<[^>]*\son\w+=", dom)
    assert dom.count('<li class="block') == 10_000
    assert "40,000 further blocks are not shown" in dom


def test_the_page_view_runs_nothing(page: Path, tmp_path: Path) -> None:
    assert extract(page, "--page", tmp_path / "why.html").returncode == 0
    view = (tmp_path / "why.html").read_text()
    assert "Content-Security-Policy" in view
    assert "default-src 'none'" in view
    assert not re.search(r"<script|<img|onerror=|<link|src=", re.sub(r"&lt;.*?&gt;", "", view))
    assert "The ferry leaves" in view


def test_a_page_of_an_archive() -> None:
    archive = SAMPLES / WARC
    listed = extract(archive)
    assert listed.returncode == 0
    assert b"workshop.example.org" in listed.stdout
    url = "https://workshop.example.org/notes/ring-buffers"
    text = extract(archive, "--url", url).stdout
    assert text == extract(url, "--warc", archive).stdout
    assert len(text) > 1000
    wrong = extract(archive, "--url", "https://workshop.example.org/notes/ring-bufers")
    assert wrong.returncode == 1
    assert b"ring-buffers" in wrong.stderr  # the nearest
    assert wrong.stderr.startswith(b"error: ")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.html", b"", "holds nothing"),
        ("noise.html", bytes(range(256)) * 20, "is binary"),
        ("a.txt", b"no tags here\n", "holds plain text without HTML tags"),
        ("a.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "is a PDF, which is not read"),
    ],
)
def test_what_is_no_page_is_said_in_one_line(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / name}: {message}")) as told:
        find.page(str(tmp_path / name))
    assert "\n" not in str(told.value)
    if name == "a.pdf":
        done = extract(tmp_path / name)
        assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", f"error: {told.value}\n")


def test_what_is_asked_wrongly() -> None:
    for arguments, message in (
        (["--charset", "klingon"], "no charset of the web"),
        (["--only", "kept"], "goes with --blocks or --json"),
        (["--max-record-seconds", "nan"], "give a number of seconds"),
        (["--max-record-seconds", "0"], "is not in the range"),
        (["--extractor", "trafilatura", "--extract", "all"], "gives main content alone"),
        (["--extractor", "trafilatura", "--blocks"], "names no blocks"),
        (["--page", str(SAMPLES)], "is a folder"),
        (["--url", "a", "--record", "1"], "give one of them"),
    ):
        done = CliRunner().invoke(cli, ["corpus", "extract", "page.html", *arguments])
        assert done.exit_code == 2, arguments
        assert message in done.output
    assert extract("nowhere.html").returncode == 1
    assert "Example:" in CliRunner().invoke(cli, ["corpus", "extract", "--help"]).output
