"""arXiv sources: bulk archives, archives of one paper, folders; the join with the metadata; hostile archives; splitting."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import os
import re
import tarfile
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from codedev._files import hash_of
from codedev.corpus.source import Document, Drop, Failure, Piece
from codedev.corpus.sources.arxiv import metadata as arxiv_metadata
from codedev.corpus.sources.arxiv import source as arxiv

PAPER = rb"\documentclass{a}\begin{document}\section{S} Area $\pi r^2$.\end{document}"


def tar(*files: tuple[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def read(folder: Path, *paths: str, unit_bytes: int = 1 << 30, **keys: Any) -> list[Document | Drop | Failure | Piece]:
    config = arxiv.Config(name="arxiv", paths=paths or (".",), **keys)
    found = []
    for extent in arxiv.plan(config, folder, unit_bytes):
        extent = extent._replace(hash=extent.hash or (hash_of(extent.file) if os.path.isfile(extent.file) else ""))
        found += list(arxiv.read(extent, config, folder))
    return found


def gathered(found: list[Any], **keys: Any) -> list[Any]:
    config = arxiv.Config(name="arxiv", paths=(".",), metadata=("m",), **keys)
    assert arxiv.rounds(config) == 1
    by_key: dict[str, list[Piece]] = defaultdict(list)
    for piece in found:
        if isinstance(piece, Piece):
            by_key[piece.key].append(piece)
    return [made for key, pieces in by_key.items() for made in arxiv.gather(0, key, pieces, config)]


def kinds(found: list[Any]) -> list[str]:
    return [f"{type(one).__name__}:{getattr(one, 'reason', None) or getattr(one, 'kind', None) or ''}" for one in found]


def bulk() -> bytes:
    return tar(
        ("2101/2101.00001.gz", gzip.compress(PAPER)),
        (
            "2101/2101.00002v3.gz",
            gzip.compress(tar(("m.tex", PAPER.replace(b"Area", rb"\input{p}")), ("p.tex", b"Part"), ("f.png", b"\x89PNG"))),
        ),
        ("2101/hep-th9901001.pdf", b"%PDF-1.4"),
        ("2101/2101.00004.gz", gzip.compress(b"%auto-ignore\nThis paper has been withdrawn by the author.\n")),
        ("2101/2101.00005.gz", gzip.compress(b"%!PS-Adobe-3.0")),
        ("2101/2101.00006.gz", gzip.compress(b"<html><body>x</body></html>")),
        ("2101/2101.00007.gz", gzip.compress(tar(("word/document.xml", b"<w/>")))),
        ("2101/2101.00008.gz", gzip.compress(tar(("paper.pdf", b"%PDF")))),
        ("2101/2101.00009.gz", gzip.compress(PAPER)[:40]),
        ("2101/2101.00010.gz", b""),
    )


def test_bulk_archive(tmp_path: Path) -> None:
    (tmp_path / "arXiv_src_2101_001.tar").write_bytes(bulk())
    found = read(tmp_path)
    drops = ["pdf_only", "withdrawn", "postscript", "html", "docx", "pdf_only"]
    assert kinds(found) == ["Document:", "Document:", *[f"Drop:{reason}" for reason in drops], "Failure:truncated", "Failure:empty"]
    one, two = found[0], found[1]
    assert isinstance(one, Document)
    assert isinstance(two, Document)
    assert (one.id, one.member, one.url) == ("2101.00001", "2101/2101.00001.gz", "https://arxiv.org/abs/2101.00001")
    assert (two.id, two.text) == ("2101.00002v3", "## S\n\nPart $\\pi r^2$.")
    assert getattr(found[2], "id", "") == "hep-th/9901001"
    raw = (tmp_path / "arXiv_src_2101_001.tar").read_bytes()
    assert one.offset is not None
    assert one.length is not None
    assert gzip.decompress(raw[one.offset : one.offset + one.length]) == PAPER


@pytest.mark.parametrize("unit_bytes", [1, 200, 400])
def test_splitting_changes_nothing(tmp_path: Path, unit_bytes: int) -> None:
    (tmp_path / "a.tar").write_bytes(bulk())
    config = arxiv.Config(name="arxiv", paths=("a.tar",))
    assert len(list(arxiv.plan(config, tmp_path, unit_bytes))) > 1
    assert read(tmp_path, "a.tar", unit_bytes=unit_bytes) == read(tmp_path, "a.tar")


def test_join_with_the_metadata(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(bulk())
    row = {
        "id": "2101.00001",
        "title": "A\n  title",
        "authors_parsed": [["Doe", "J.", "Jr."]],
        "categories": "math.AG cs.CL",
        "license": "http://creativecommons.org/licenses/by-nc-sa/4.0/",
        "abstract": " We. ",
        "doi": "10.1/x",
        "versions": [
            {"version": "v1", "created": "Fri, 1 Jan 2021 10:00:00 GMT"},
            {"version": "v2", "created": "Mon, 4 Jan 2021 12:30:00 GMT"},
        ],
    }
    older = {**row, "versions": row["versions"][:1]}
    other = {
        "id": "2101.00002",
        "license": "http://arxiv.org/licenses/nonexclusive-distrib/1.0/",
        "versions": "rubbish",
        "authors_parsed": 3,
    }
    lines = [older, row, other, {"id": "9999.99999"}]
    (tmp_path / "m.json").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"id": 3}\nno json\n')
    found = read(tmp_path, "a.tar", metadata=("m.json",))
    assert kinds(found).count("Failure:invalid_json") == 1
    assert kinds(found).count("Failure:invalid_id") == 1
    assert sum(piece.records for piece in found if isinstance(piece, Piece)) == 2
    one, two = gathered(found)
    assert (one.id, one.licence) == ("2101.00001v2", "CC-BY-NC-SA-4.0")
    assert one.created == dt.datetime(2021, 1, 4, 12, 30, tzinfo=dt.UTC)
    meta = orjson.loads(one.meta)
    assert (meta["title"], meta["authors"], meta["categories"], meta["abstract"]) == (
        "A title",
        ["J. Doe Jr."],
        ["math.AG", "cs.CL"],
        "We.",
    )
    assert (two.id, two.licence, two.created) == ("2101.00002v3", "LicenseRef-arXiv-nonexclusive-1.0", None)
    assert two.text == "## S\n\nPart $\\pi r^2$."
    split = read(tmp_path, "a.tar", metadata=("m.json",), unit_bytes=100)
    assert sorted(split, key=repr) == sorted(found, key=repr)


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("http://creativecommons.org/licenses/by/3.0/", "CC-BY-3.0"),
        ("http://creativecommons.org/licenses/publicdomain/", "CC-PDDC"),
        ("http://arxiv.org/licenses/assumed-1991-2003/", "LicenseRef-arXiv-assumed-1991-2003"),
        ("http://x.org/a b", "LicenseRef-x.org-a-b"),
        (None, None),
    ],
)
def test_licences(address: str | None, wanted: str | None) -> None:
    assert arxiv_metadata.spdx(address) == wanted


def test_names_of_papers() -> None:
    names = (
        "2101.00001.gz",
        "x/1911.02782v2.tar.gz",
        "0001/hep-th0001001.gz",
        "math.AG/0309136",
        "2101/2101.1234",
        "main.tex",
        "a12101.00001.gz",
    )
    found = [arxiv_metadata.identity(name) for name in names]
    assert [one and one.id for one in found] == ["2101.00001", "1911.02782", "hep-th/0001001", "math/0309136", "2101.1234", None, None]
    assert found[1] == arxiv_metadata.Identity("1911.02782", "v2")


def test_folders(tmp_path: Path) -> None:
    def write(name: str, data: bytes) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)

    write("one/main.tex", rb"\documentclass{a}\begin{document}A \input{parts/b}\end{document}")
    write("one/parts/b.tex", b"B")
    write("two/x.tex", rb"\input{pre}\begin{document}X\end{document}")
    write("two/y.tex", rb"\input{pre}\begin{document}Y\end{document}")
    write("two/pre.tex", rb"\documentclass{a}")
    write("two/orphan.tex", b"nobody reads me")
    write("plain/story.tex", b"Once.\n\\bye\n")
    write("2001.00001/ms.tex", PAPER)
    write("book.tex", b"%PDF-1.4")
    write("readme.md", b"# no TeX")
    assert [one.text for one in read(tmp_path, "one/main.tex") if isinstance(one, Document)] == ["A B"]
    found = read(tmp_path)
    texts = sorted(one.text for one in found if isinstance(one, Document))
    assert texts == ["## S\n\nArea $\\pi r^2$.", "A B", "Once.", "X", "Y"]
    assert sorted(one.reason for one in found if isinstance(one, Drop)) == ["no_document", "not_latex", "pdf_only"]
    assert [one.id for one in found if isinstance(one, Document) and len(one.id) != 32] == ["2001.00001"]


def test_a_changed_part_changes_the_extents_hash(tmp_path: Path) -> None:
    (tmp_path / "m.tex").write_bytes(rb"\documentclass{a}\begin{document}\input{p}\end{document}")
    (tmp_path / "p.tex").write_text("one")
    config = arxiv.Config(name="a", paths=(".",))
    before = [extent.hash for extent in arxiv.plan(config, tmp_path, 1 << 20)]
    (tmp_path / "p.tex").write_text("two")
    assert len(before) == 1
    assert before != [extent.hash for extent in arxiv.plan(config, tmp_path, 1 << 20)]


def test_hostile_archives(tmp_path: Path) -> None:
    evil = tar(("m.tex", PAPER), ("../../evil.tex", b"x"), ("/abs.tex", b"y"), links=("l.tex",))
    (tmp_path / "2101.00001.tar.gz").write_bytes(gzip.compress(evil))
    found = read(tmp_path)
    assert sorted(kinds(found)) == ["Document:", "Failure:unsafe_path", "Failure:unsafe_path"]
    assert orjson.loads(next(one for one in found if isinstance(one, Document)).meta)["refused_members"] == 1
    (tmp_path / "2101.00001.tar.gz").write_bytes(gzip.compress(b"a" * (200 << 20)))
    assert kinds(read(tmp_path, max_ratio=100)) in (["Failure:bomb"], ["Failure:too_large"])
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m.tex", PAPER)
    (tmp_path / "2101.00001.tar.gz").write_bytes(zipped.getvalue())
    assert kinds(read(tmp_path)) == ["Document:"]
    (tmp_path / "2101.00001.tar.gz").unlink()
    os.symlink("/etc/passwd", tmp_path / "p.tex")
    (tmp_path / "m.tex").write_bytes(rb"\documentclass{a}\begin{document}A\input{p}\end{document}")
    os.mkfifo(tmp_path / "fifo.tex")
    os.symlink(tmp_path, tmp_path / "loop")
    found = read(tmp_path)
    assert "root:" not in "".join(one.text for one in found if isinstance(one, Document))
    assert "Failure:unreadable" in kinds(found) or "Failure:empty" in kinds(found) or len(found) == 2


def test_limits(tmp_path: Path) -> None:
    (tmp_path / "big.tex").write_bytes(PAPER + b"x" * 5000)
    (tmp_path / "2101.00003.gz").write_bytes(gzip.compress(PAPER + b"x" * 5000))
    assert kinds(read(tmp_path, max_record_bytes=1000)) == ["Failure:too_large", "Failure:too_large"]


def _papers(data_dir: Path) -> list[Path]:
    science = data_dir / "science"
    names = (
        "arxiv-vanity__engrafo",
        "HoTT__book",
        "stacks__stacks-project",
        "google-research__arxiv-latex-cleaner",
        "sympy__sympy-paper",
        "dfm__emcee",
    )
    return [
        *(science / name for name in names),
        science / "allenai__s2orc-doc2json" / "tests" / "latex",
        *(data_dir / "books").glob("GITenberg__*"),
    ]


@pytest.mark.realdata
def test_real_folders(data_dir: Path) -> None:
    """Every file is accounted for, and the words of each text stand in its source."""
    counts: dict[str, int] = defaultdict(int)
    config = arxiv.Config(name="arxiv", paths=tuple(map(str, _papers(data_dir))))
    for extent in arxiv.plan(config, data_dir, 1 << 30):
        for one in arxiv.read(extent._replace(hash=extent.hash or "0"), config, data_dir):
            counts[kinds([one])[0]] += 1
            if isinstance(one, Document) and one.member is None:
                parts = [Path(extent.file), *(Path(extent.file).parent).rglob("*.tex")]
                raw = " ".join(part.read_bytes().decode("latin-1") for part in dict.fromkeys(parts))
                words = re.findall(r"[a-z]{6,}", one.text)[:500]
                if len(words) > 100:  # the rest are an algorithm's and an environment's words, which are ours
                    assert sum(word in raw for word in words) >= 0.95 * len(words), extent.name
    assert counts["Document:"] > 55
    assert {name for name in counts if name.startswith("Failure")} == {"Failure:empty"}, dict(counts)


@pytest.mark.realdata
def test_a_real_paper(data_dir: Path) -> None:
    (found,) = read(data_dir / "science" / "allenai__s2orc-doc2json" / "tests" / "latex")
    assert isinstance(found, Document)
    meta = orjson.loads(found.meta)
    assert (found.id, found.member, meta["main"]) == ("1911.02782", "main.tex", "main.tex")
    assert found.text.startswith("# S2ORC: The Semantic Scholar Open Research Corpus")
    assert "$" in found.text
    assert "\\documentclass" not in found.text
