"""The arxiv source, beside pylatexenc's LatexNodes2Text with mathematics verbatim."""

from __future__ import annotations

import gzip
import io
import logging
import tarfile
from contextlib import suppress
from pathlib import Path

from _bench import Case

from codedev.corpus.sources.arxiv import source as arxiv

_COPIES = 4


def cases(data: Path, work: Path) -> dict[str, Case]:
    """A bulk archive of the Stacks project's chapters, each with its preamble: dense mathematics with macros."""
    root = data / "science" / "stacks__stacks-project"
    preamble = (root / "preamble.tex").read_bytes()
    chapters = [path.read_bytes() for path in sorted(root.glob("*.tex")) if path.name != "preamble.tex"]
    bulk = work / "arXiv_src_2101_001.tar"
    with tarfile.open(bulk, "w") as archive:
        for number in range(_COPIES * len(chapters)):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as paper:
                _add(paper, "main.tex", chapters[number % len(chapters)])
                _add(paper, "preamble.tex", preamble)
            _add(archive, f"2101/2101.{number:05}.gz", gzip.compress(inner.getvalue()))
    amount = _COPIES * sum(len(chapter) + len(preamble) for chapter in chapters) / 1e6

    def ours() -> None:
        config = arxiv.Config(name="arxiv", paths=(str(bulk),))
        count = sum(1 for extent in arxiv.plan(config, work, 1 << 40) for _ in arxiv.read(extent._replace(hash="0"), config, work))
        assert count == _COPIES * len(chapters)

    def pylatexenc() -> None:
        from pylatexenc.latex2text import LatexNodes2Text

        logging.disable(logging.WARNING)
        with tarfile.open(bulk) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                with tarfile.open(fileobj=io.BytesIO(gzip.decompress(file.read()))) as paper:
                    source = paper.extractfile("main.tex")
                    assert source is not None
                    with suppress(IndexError):  # it fails on one of the chapters
                        LatexNodes2Text(math_mode="verbatim").latex_to_text(source.read().decode())

    return {"arxiv": Case(ours, amount, "MB raw", peers={"pylatexenc": pylatexenc})}


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
