"""The real pages under .data/web, named as tests/golden/page_kinds.tsv names them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.parse.encoding import detect_encoding
from resiliparse.parse.html import HTMLTree

from codedev.corpus.extract import page_metas
from codedev.corpus.extract.page_nodes import Nodes
from codedev.kernels import htmltape

WARCS = (
    "allenai__dolma/tests/data/warc/sample-0000.warc.gz",
    "chatnoir-eu__chatnoir-copycat/case-studies/relevance-label-transfer/src/test/resources/sample-input/topic-1/topic-1--20201003083220753-00000.warc.gz",
    "chatnoir-eu__chatnoir-resiliparse/tests/data/warcfile.warc.gz",
    "commoncrawl__whirlwind-python/whirlwind.warc.gz",
    "webis-de__ecir20-effect-of-near-duplicates-on-ir-evaluation/src/test/resources/data/corpus-commoncrawl-main-2015-11-sample/"
    "1424936459513.8/warc/CC-MAIN-20150226074059-00000-ip-10-28-5-156.ec2.internal.warc.gz",
    "archivesunleashed__aut/src/test/resources/warc/issue-493.warc",
    "archivesunleashed__aut/src/test/resources/warc/issue-514.warc",
)


def nodes_of(tree: HTMLTree) -> Nodes:
    """What is read of a page, by way of its tape."""
    assert tree.document is not None
    return page_metas.nodes(htmltape.tape(np.frombuffer(tree.document.html.encode("utf-8", "replace"), np.uint8)))


class RealPage(NamedTuple):
    set: str
    id: str
    url: str | None
    html: bytes

    def tree(self) -> HTMLTree:
        try:
            text = self.html.decode()
        except UnicodeDecodeError:
            text = self.html.decode(detect_encoding(self.html, from_html_meta=True) or "utf-8", "replace")
        return HTMLTree.parse(text)


def real_pages(web: Path) -> Iterator[RealPage]:
    trafilatura = web / "adbar__trafilatura/tests"
    for url, known in json.loads((trafilatura / "evaldata.json").read_text()).items():
        path = next((path for folder in ("eval", "cache") if (path := trafilatura / folder / known["file"]).exists()), None)
        if path:
            yield RealPage("trafilatura", known["file"], url, path.read_bytes())
    articles = web / "scrapinghub__article-extraction-benchmark"
    for name, known in json.loads((articles / "ground-truth.json").read_text()).items():
        yield RealPage("article", name, known.get("url"), gzip.decompress((articles / "html" / f"{name}.html.gz").read_bytes()))
    for path in sorted((web / "mozilla__readability/test/test-pages").iterdir()):
        yield RealPage("readability", path.name, None, (path / "source.html").read_bytes())
    for path in sorted((web / "ccprocessor__llm-webkit-mirror/bench/data/origin").iterdir()):
        yield RealPage("llm-webkit", path.stem, None, path.read_bytes())
    with (web / "opendatalab__WebMainBench/data/sample_dataset.jsonl").open() as lines:
        for known in map(json.loads, lines):
            yield RealPage("webmain", known["track_id"], known["url"], known["html"].encode())
    for name in WARCS:
        with (web / name).open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                url = (record.headers.get("WARC-Target-URI") or "").strip("<>")
                yield RealPage("warc", (record.record_id or "").split(":")[-1].strip("<>"), url, record.reader.read())
