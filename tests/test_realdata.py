"""The whole road on real archives and source trees: every record accounted for, every token traced back."""

from __future__ import annotations

import html
import json
import random
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from codedev._files import compression, open_decompressed
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.sources.web.warc_http import decode, parse
from codedev.tokenize.build import tokenize_corpus
from codedev.tokenize.recipe import TokenizeRecipe
from codedev.tokenize.shards import open_shards
from codedev.tokenize.trace import trace
from codedev.tokenize.train import train_tokenizer

pytestmark = [pytest.mark.realdata, pytest.mark.slow]
TREES = 8  # source trees read: the whole set takes a minute more and finds the same


@pytest.fixture(scope="module")
def real(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    trees = sorted(path for path in (data_dir / "code").glob("*") if path.is_dir() and not path.name.startswith("."))
    sources: list[dict[str, Any]] = [{"name": "web", "type": "web", "paths": [str(data_dir / "web")]}]
    small = sorted(trees, key=lambda tree: (sum(1 for _ in tree.rglob("*")), tree.name))[:TREES]
    if small:
        sources.append({"name": "code", "type": "code", "paths": [str(tree) for tree in small]})
    recipe = {
        "name": "real",
        "sources": sources,
        "language": {"min_score": 0.3},
        "quality": {"gopher": {}, "code": {}},
        "dedup": {"exact": {}},
    }
    out = tmp_path_factory.mktemp("real")
    build(recipes.check(recipe, "real"), data_dir, out / "corpus", workers=2)
    return out


def test_every_row_is_accounted_for(real: Path, data_dir: Path) -> None:
    manifest = json.loads((real / "corpus" / "manifest.json").read_bytes())
    for kind in ("documents", "dropped", "errors"):
        assert manifest["totals"][kind] == sum(pq.read_metadata(path).num_rows for path in (real / "corpus" / kind).rglob("*.parquet"))
    totals = manifest["totals"]
    assert totals["records"] == totals["documents"] + totals["dropped"] + totals["errors"]
    # Every file of the web folder left something: a document, a drop or an error.
    named: Counter[str] = Counter()
    for kind in ("documents", "dropped", "errors"):
        for path in (real / "corpus" / kind / "web").glob("*.parquet"):
            table = pq.read_table(path)
            files = table.column("file") if kind == "errors" else table.column("origin").combine_chunks().field("file")
            named.update(files.to_pylist())
    inputs = {path.relative_to(data_dir).as_posix() for path in (data_dir / "web").rglob("*") if path.is_file()}
    visible = {name for name in inputs if not any(part.startswith(".") for part in name.split("/"))}
    assert visible <= set(named), sorted(visible - set(named))[:5]
    assert manifest["totals"]["errors"] > 10  # the damaged archives are in there


def test_a_thousand_tokens_lead_back_to_their_bytes(real: Path, data_dir: Path) -> None:
    corpus, shards = real / "corpus", real / "shards"
    train_tokenizer(corpus, real / "tokenizer", vocab_size=4096, special_slots=64)
    tokenize_corpus(corpus, real / "tokenizer", shards, TokenizeRecipe(seq_len=512))
    rng = random.Random(3)
    rows = open_shards(shards).rows
    found, astray = 0, []
    for _ in range(1000):
        row = rng.randrange(rows)
        length = sum(open_shards(shards).row(row)[1]["segment_lengths"])
        traced = trace(shards, row, rng.randrange(length), base=data_dir)
        token, segment = traced["token"], traced["segment"]
        assert token["as_encoded"]  # the document's text at the span is the token's bytes
        assert segment["byte_end"] - segment["byte_begin"] == len(bytes.fromhex(token["bytes"]))
        if token["special"]:
            continue
        found += 1
        if not _in_raw(bytes.fromhex(token["bytes"]), traced["document"], data_dir):
            astray.append((token["text"], traced["context"], traced["document"]["origin"]))
    assert found > 900
    assert len(astray) <= 2, astray  # of formulas that were MathML, the LaTeX is ours


def _in_raw(token: bytes, document: dict[str, Any], base: Path) -> bool:
    """Whether the raw record at the document's origin holds the token's visible text: decoded as a browser would, blanks aside."""
    record = _record(base / document["origin"]["file"], document["origin"], "stream" in json.loads(document["meta"]))
    response = parse(record.partition(b"\r\n\r\n")[2]) if record.startswith(b"WARC/") else None
    body = decode(response, 1 << 28).data if response else record
    visible = [part for part in re.split(rb"[\s`#|>$-]+", token) if part]  # blanks and the marks of Markdown are ours
    for encoding in ("utf-8", "latin-1", "cp1252", "gb18030", "shift_jis", "euc_jp", "iso2022_jp", "big5", "euc_kr", "utf-16"):
        text = html.unescape(body.decode(encoding, "ignore"))
        if all(part.decode("utf-8", "ignore") in text or part in body for part in visible):
            return True
    return False


def _record(path: Path, origin: dict[str, Any], one_stream: bool) -> bytes:
    """The bytes at `origin`, read without the project's own readers of records."""
    data = path.read_bytes()
    if compression(data[:8]) == "gzip" and not one_stream:
        return zlib.decompressobj(31).decompress(data[origin["offset"] :])
    with open_decompressed(str(path)) as stream:
        content = stream.read()
    return content[origin["offset"] :][: origin["length"]]
