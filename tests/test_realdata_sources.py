"""Every real file of every format: accounted for, in bounded memory, the same on one worker and two, and traced back to its raw record."""

from __future__ import annotations

import html
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.raw import raw_record

pytestmark = [pytest.mark.realdata, pytest.mark.slow]
PAPERS = (
    "arxiv-vanity__engrafo",
    "HoTT__book",
    "stacks__stacks-project",
    "google-research__arxiv-latex-cleaner",
    "sympy__sympy-paper",
    "dfm__emcee",
)
SEQUENCES = ("biopython__biopython", "soedinglab__MMseqs2", "tseemann__prokka", "J-SNACKKB__FLIP")
SOURCES: dict[str, dict[str, Any]] = {
    "posts": {"type": "reddit", "paths": ["reddit"]},
    "threads": {"type": "reddit", "paths": ["reddit"], "mode": "threads"},
    "books": {"type": "books", "paths": ["books", "science/IDPF__epub3-samples"]},
    "papers": {"type": "arxiv", "paths": [*(f"science/{name}" for name in PAPERS), "science/allenai__s2orc-doc2json/tests/latex"]},
    "questions": {"type": "stackexchange", "paths": ["stackexchange"]},
    "sequences": {"type": "protein", "paths": [f"science/{name}" for name in SEQUENCES]},
    "instructions": {"type": "tables", "paths": ["instruction", "eval"]},
    "preferences": {"type": "tables", "paths": ["feedback"]},
}
PEAK_MB = 1000  # with Python and its libraries


@pytest.fixture(scope="module")
def real(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sources")
    recipe = {"name": "formats", "sources": [{"name": name, **source} for name, source in SOURCES.items()], "unit_bytes": 1 << 20}
    build(recipes.check(recipe, "formats"), data_dir, out / "corpus", workers=2)
    return out / "corpus"


def _rows(corpus: Path, kind: str, source: str, columns: list[str]) -> list[dict[str, Any]]:
    return [row for path in sorted((corpus / kind / source).glob("*.parquet")) for row in pq.read_table(path, columns=columns).to_pylist()]


@pytest.mark.parametrize("source", SOURCES)
def test_every_file_left_something(real: Path, data_dir: Path, source: str) -> None:
    named = {row["file"] for row in _rows(real, "errors", source, ["file"])}
    for kind in ("documents", "dropped"):
        named |= {row["origin"]["file"] for row in _rows(real, kind, source, ["origin"])}
    inputs = set()
    for path in SOURCES[source]["paths"]:
        inputs |= {found.relative_to(data_dir).as_posix() for found in (data_dir / path).rglob("*") if found.is_file()}
    inputs = {name for name in inputs if not any(part.startswith(".") for part in name.split("/"))}
    # A paper or an unpacked book is one record of many files, named by its folder or its main file.
    missing = [name for name in inputs - named if not any(name.startswith((f"{above}/", f"{above.rsplit('/', 1)[0]}/")) for above in named)]
    assert not missing, sorted(missing)[:10]


def test_the_books_balance(real: Path) -> None:
    manifest = json.loads((real / "manifest.json").read_bytes())
    for name, stages in manifest["waterfall"].items():
        read = stages[0]
        assert read["rows_in"] == read["rows_out"] + read["joined"] + sum(read["drop"].values()) + sum(read["error"].values())
        print(name, {key: read[key] for key in ("rows_in", "rows_out", "joined")}, read["drop"], read["error"])
        assert read["rows_out"] > 0


BUILD = """
import sys
from pathlib import Path
from codedev.corpus import recipe
from codedev.corpus.build import build

build(recipe.load(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_one_worker_writes_the_same_bytes_in_bounded_memory(real: Path, data_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILD, str(real / "recipe.yaml"), str(data_dir), str(tmp_path / "corpus")]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024
    assert json.loads((tmp_path / "corpus/manifest.json").read_bytes()) == json.loads((real / "manifest.json").read_bytes())
    print(f"peak memory: {peak:.0f} MB")
    assert peak < PEAK_MB


@pytest.mark.parametrize("source", SOURCES)
def test_documents_lead_back_to_their_records(real: Path, data_dir: Path, source: str) -> None:
    """Words of the text stand in the raw record, which may write them in JSON, HTML or another encoding."""
    documents = _rows(real, "documents", source, ["id", "text", "origin", "meta"])
    chosen = random.Random(4).sample(documents, min(100, len(documents)))
    astray = []
    for document in chosen:
        raw = raw_record(data_dir / document["origin"]["file"], document["origin"], document["id"])
        if not _holds(raw, document["text"], source):
            astray.append((document["id"], document["origin"], document["text"][:80]))
    # A paper may begin in a file that it includes, and old posts hold control characters, which are taken out.
    assert len(astray) <= len(chosen) // (10 if source in ("papers", "threads") else 100), astray[:5]


def _holds(raw: bytes, text: str, source: str) -> bool:
    spellings = []
    for encoding in ("utf-8", "latin-1", "utf-16"):
        found = raw.decode(encoding, "ignore")
        spellings += [found, html.unescape(found), re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), found)]
    if source == "sequences":
        return any(text[:40].upper() in re.sub(r"[\s\d]", "", spelling).upper() for spelling in spellings)
    # Labels of speakers are the project's; what joined records and \input files add comes after the beginning.
    words = [
        word
        for word in re.findall(r"\w{4,}", text)
        if not re.fullmatch(r"User\d*|Someone|Assistant|assistant|Chosen|Rejected|System", word)
    ]
    words = words[: 4 if source in ("threads", "questions") else 40] or text.split()[:5]
    share = 0.5 if source == "papers" else 0.9
    return any(sum(word in spelling for word in words) >= share * len(words) for spelling in spellings)
