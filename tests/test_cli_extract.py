"""`codedev corpus extract`, as a user runs it: where a page may lie, what is shown, what is said of what cannot be read."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

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


def test_blocks_are_told_in_a_narrow_terminal_without_colour(page: Path) -> None:
    shown = extract(page, "--blocks").stdout.decode()
    assert "\x1b" not in shown
    assert re.search(r"\bK\b", shown)
    assert re.search(r"\bd\b", shown)


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
    ("name", "data"), [("a.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj"), ("empty.html", b""), ("noise.html", bytes(range(256)) * 20)]
)
def test_what_is_no_page_is_said_in_one_line(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    done = extract(tmp_path / name)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") <= 2
    assert b"Traceback" not in done.stderr


def test_what_is_asked_wrongly() -> None:
    assert extract("nowhere.html").returncode == 1
    assert extract(SAMPLES / WARC, "--charset", "klingon").returncode == 2
    assert b"Example:" in extract("--help").stdout
