"""The books source: every format, every way to pack it, what is no book, hostile inputs, and the real library."""

from __future__ import annotations

import gzip
import html
import io
import json
import random
import re
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from codedev import _files
from codedev._errors import InputError
from codedev.corpus.source import Document, Drop, Extent, Failure
from codedev.corpus.sources.books import source as books

Record = Document | Drop | Failure


def _read(base: Path, *paths: str, unit_bytes: int = 1 << 30, **keys: Any) -> list[tuple[Extent, Record]]:
    config = books.Config(name="b", paths=paths or (".",), **keys)
    found: list[tuple[Extent, Record]] = []
    for extent in books.plan(config, base, unit_bytes):
        if not extent.hash:
            extent = extent._replace(hash=_files.hash_of(extent.file))
        found += [(extent, record) for record in books.read(extent, config, base)]
    return found


def _records(base: Path, *paths: str, **keys: Any) -> list[Record]:
    return [record for _, record in _read(base, *paths, **keys)]


def _only(base: Path, name: str, data: bytes, **keys: Any) -> Record:
    (base / name).write_bytes(data)
    (record,) = _records(base, name, **keys)
    return record


def _documents(records: list[Record]) -> list[Document]:
    return [record for record in records if isinstance(record, Document)]


def _meta(document: Record) -> dict[str, Any]:
    assert isinstance(document, Document), document
    found: dict[str, Any] = json.loads(document.meta)
    return found


# --- EPUB

CONTAINER = '<container><rootfiles><rootfile full-path="{}" media-type="application/oebps-package+xml"/></rootfiles></container>'
OPF = """{}<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title>A Title</dc:title><dc:creator id="c">A. Author</dc:creator><dc:contributor id="t">T. Later</dc:contributor>
<meta refines="#t" property="role">trl</meta><dc:language>en-GB</dc:language><dc:identifier>urn:isbn:1</dc:identifier>
<dc:rights>https://creativecommons.org/licenses/by/4.0/</dc:rights></metadata>
<manifest>{}</manifest><spine toc="ncx">{}</spine></package>"""
ITEMS = """<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>
<item id="b" href="t%20x/b.xhtml" media-type="application/xhtml+xml"/>
<item id="n" href="n.xhtml" media-type="application/xhtml+xml"/><item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>"""
SPINE = '<itemref idref="n" linear="no"/><itemref idref="a"/><itemref idref="b"/><itemref idref="a"/>'
A = """<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><body><h1>One</h1>
<p>First&nbsp;sentence.<a href="n.xhtml#n1" class="noteref">1</a></p></body></html>"""
B = "<html><body><h1 id='two'>Two</h1><p>Last sentence."  # HTML's rules
N = "<html><body><p id='n1'><a href='a.xhtml#r'>1</a> The note.</p></body></html>"
NCX = """<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap><navPoint><navLabel><text>The First</text></navLabel>
<content src="a.xhtml"/></navPoint>
<navPoint><navLabel><text>The Second</text></navLabel><content src="t%20x/b.xhtml#two"/></navPoint></navMap></ncx>"""


def _epub(
    *, container: str = CONTAINER.format("OPS/c.opf"), opf: str | None = None, a: str = A, extra: dict[str, str] | None = None, **parts: str
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", container)
        if opf != "":
            archive.writestr("OPS/c.opf", opf or OPF.format("", parts.get("items", ITEMS), parts.get("spine", SPINE)))
        for name, data in {"OPS/a.xhtml": a, "OPS/t x/b.xhtml": B, "OPS/n.xhtml": N, "OPS/toc.ncx": NCX, **(extra or {})}.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_an_epub(tmp_path: Path) -> None:
    document = _only(tmp_path, "book", _epub())
    about = _meta(document)
    assert isinstance(document, Document)
    assert document.text == "# One\n\nFirst sentence.[1]\n\n# Two\n\nLast sentence.\n\n1 The note."
    assert (document.lang, document.licence) == ("en-GB", "CC-BY-4.0")
    assert tuple(about[key] for key in ("title", "authors", "translators", "identifiers")) == (
        "A Title",
        ["A. Author"],
        ["T. Later"],
        ["urn:isbn:1"],
    )
    assert [(c["title"], document.text[c["offset"] :][:5]) for c in about["chapters"]] == [("The First", "# One"), ("The Second", "# Two")]
    dropped = _only(tmp_path, "book", _epub(), nonlinear="drop")
    assert isinstance(dropped, Document)
    assert dropped.text.endswith("Last sentence.")
    assert _meta(dropped)["removed"]["nonlinear"] == len("1 The note.")


def test_an_unpacked_epub_is_one_book(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(_epub())) as archive:
        archive.extractall(tmp_path / "src")
    (tmp_path / "LICENSE.md").write_text("Dedicated to the public domain by https://creativecommons.org/publicdomain/zero/1.0/ and so on.")
    document, licence = sorted(_records(tmp_path), key=lambda record: isinstance(record, Drop))
    assert isinstance(document, Document)
    assert document.text == _documents([_only(tmp_path, "packed.epub", _epub())])[0].text
    assert isinstance(licence, Drop)
    assert licence.reason == "not_a_book"
    old = next(extent.hash for extent, _ in _read(tmp_path, "src"))
    (tmp_path / "src/OPS/a.xhtml").write_text("<p>Changed.</p>")
    assert next(extent.hash for extent, _ in _read(tmp_path, "src")) != old
    (tmp_path / "src/OPS/a.xhtml").unlink()
    (tmp_path / "src/OPS/a.xhtml").symlink_to("/etc/hostname")
    failure = next(record for _, record in _read(tmp_path, "src"))
    assert isinstance(failure, Failure)
    assert failure.kind == "unsafe_path"
    (tmp_path / "src/OPS/a.xhtml").unlink()  # without the container's folder its files are files
    assert {type(record) for record in _records(tmp_path, "src/OPS/t x")} == {Document}


FONT = '<encryption><EncryptedData><EncryptionMethod Algorithm="http://www.idpf.org/2008/embedding"/></EncryptedData></encryption>'
AES = '<encryption><EncryptedData><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/></EncryptedData></encryption>'


@pytest.mark.parametrize(
    ("extra", "scheme"),
    [
        ({"META-INF/rights.xml": '<r xmlns="http://ns.adobe.com/adept"/>', "META-INF/encryption.xml": AES}, "Adobe ADEPT"),
        ({"META-INF/sinf.xml": "<s/>", "META-INF/encryption.xml": AES}, "Apple FairPlay"),
        ({"META-INF/license.lcpl": "{}"}, "Readium LCP"),
        ({"META-INF/encryption.xml": AES}, "does not name"),
        ({"META-INF/encryption.xml": FONT}, None),
        ({"META-INF/rights.xml": "<rights/>"}, None),
    ],
)
def test_protection_is_refused_by_name(tmp_path: Path, extra: dict[str, str], scheme: str | None) -> None:
    record = _only(tmp_path, "book.epub", _epub(extra=extra))
    if scheme is None:
        assert isinstance(record, Document)
    else:
        assert isinstance(record, Failure)
        assert record.kind == "encrypted"
        assert scheme in record.message


LAUGHS = (
    "<!DOCTYPE x [<!ENTITY a '"
    + "ha" * 50
    + "'>"
    + "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("unsafe_path", {"container": CONTAINER.format("../../etc/passwd")}),
        ("unsafe_path", {"container": CONTAINER.format("/etc/passwd")}),
        ("unsafe_path", {"items": '<item id="a" href="../../etc/passwd" media-type="application/xhtml+xml"/>'}),
        ("unsafe_path", {"items": '<item id="a" href="%2e%2e/%2e%2e/etc/passwd" media-type="application/xhtml+xml"/>'}),
        ("unsafe_path", {"items": '<item id="a" href="file:///etc/passwd" media-type="application/xhtml+xml"/>'}),
        ("entity_declaration", {"opf": LAUGHS + "<package><metadata><title>&i;</title></metadata><manifest/><spine/></package>"}),
        ("entity_declaration", {"a": LAUGHS + "<html><body>&i;</body></html>"}),
        ("entity_declaration", {"a": "<!DOCTYPE html [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><html><body>&x;</body></html>"}),
        ("no_package", {"opf": ""}),
        ("no_package", {"opf": "<html/>"}),
        ("no_package", {"container": "<container/>"}),
        ("no_spine", {"opf": "<package><manifest/></package>"}),
        ("invalid_xml", {"opf": "nothing"}),
        ("no_document", {"items": '<item id="a" href="absent.xhtml" media-type="application/xhtml+xml"/>'}),
        ("bomb", {"a": "<p>" + " " * (200 << 20)}),
        ("too_deep", {"a": "<html><body>" + "<div>" * 50_000}),
        ("too_large", {"a": "<html><body>" + "".join(map(chr, range(0x4E00, 0x9000))) * 2_000}),
    ],
)
def test_a_hostile_epub_is_refused_in_bounded_time(tmp_path: Path, kind: str, parts: dict[str, Any]) -> None:
    data = _epub(**parts)
    started = time.process_time()
    record = _only(tmp_path, "book.epub", data)
    assert isinstance(record, Failure)
    assert record.kind == kind
    assert "root:" not in record.message
    assert time.process_time() - started < 5


def test_a_spine_that_repeats_itself_is_read_once(tmp_path: Path) -> None:
    document = _only(tmp_path, "b.epub", _epub(spine='<itemref idref="a"/>' * 5_000))
    assert isinstance(document, Document)
    assert document.text.count("First") == 1


def test_a_member_that_is_no_part_of_the_book_is_refused_beside_it(tmp_path: Path) -> None:
    (tmp_path / "b.epub").write_bytes(_epub(extra={"../../evil.xhtml": "x"}))
    failure, document = _records(tmp_path, "b.epub")
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.member) == ("unsafe_path", "../../evil.xhtml")
    assert isinstance(document, Document)


@pytest.mark.parametrize("size", [100, 700, 1500, -30])
def test_a_clipped_epub_is_one_failure(tmp_path: Path, size: int) -> None:
    record = _only(tmp_path, "b.epub", _epub()[:size])
    assert isinstance(record, Failure)
    assert record.kind == "corrupt"


# --- JSON, archives, compression

POEMS = [
    {"author": "李白", "paragraphs": ["白玉誰家郎，回車渡天津。", "看花東上陌，驚動洛陽人。"], "title": "洛陽陌", "id": "7f96"},
    {"strains": ["仄仄平平平"], "id": "7f96"},
    {"title": "Ozymandias", "content": "I met a traveller", "author": "Shelley"},
]


def test_poems_of_a_json_array(tmp_path: Path) -> None:
    data = json.dumps(POEMS, ensure_ascii=False, indent=1).encode()
    (tmp_path / "poems.json").write_bytes(data)
    first, drop, second = _records(tmp_path, "poems.json")
    assert isinstance(first, Document)
    assert first.text == "洛陽陌\n\n白玉誰家郎，回車渡天津。\n看花東上陌，驚動洛陽人。"
    assert json.loads(data[first.offset : first.offset + first.length]) == POEMS[0]  # type: ignore[operator]
    assert (_meta(first)["authors"], _meta(first)["record"]["id"]) == (["李白"], "7f96")
    assert isinstance(drop, Drop)
    assert drop.reason == "no_text"
    assert isinstance(second, Document)
    assert second.text == "I met a traveller"
    assert first.id != second.id


PILE = [
    {"text": "A book.\n\nIts text.", "meta": {"short_book_title": "A Book", "publication_date": 1871, "url": "http://x/1"}},
    {"text": "Another.", "title": "Second", "author": "B", "language": "fr", "license": "CC-BY-SA-4.0"},
    {"text": 5},
    {"text": " "},
]


def _jsonl() -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in PILE) + b"{broken\n\n[1]\n" + b'{"text": "a\\ud800b"}\n'


@pytest.mark.parametrize("pack", ["plain", "gzip", "zip", "zstd"])
def test_json_lines_in_the_manner_of_the_pile(tmp_path: Path, pack: str) -> None:
    import zstandard

    data = _jsonl()
    packed = {"plain": data, "gzip": gzip.compress(data), "zstd": zstandard.compress(data)}.get(pack)
    if packed is None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("b.jsonl", data)
        packed = buffer.getvalue()
    (tmp_path / "b").write_bytes(packed)
    records = _records(tmp_path, "b")
    assert [getattr(r, "kind", None) or getattr(r, "reason", "document") for r in records] == [
        *("document", "document", "no_text", "no_text", "invalid_json", "not_an_object", "invalid_json"),
    ]
    first, second = _documents(records)
    assert (_meta(first)["title"], first.url) == ("A Book", "http://x/1")
    assert (second.lang, second.licence) == ("fr", "CC-BY-SA-4.0")
    for document in (first, second):
        assert document.text in json.loads(data[document.offset : document.offset + document.length])["text"]  # type: ignore[operator]


def _text(name: str, size: int = 3000) -> bytes:
    words = random.Random(name).choices(["alpha", "beta", "gamma", "delta"], k=size // 6)
    return f"The book {name}.\n\n{' '.join(words)}\n".encode()


@pytest.mark.parametrize("unit_bytes", [1, 100, 1000, 5000, 1 << 20])
def test_any_split_gives_the_same_documents(tmp_path: Path, unit_bytes: int) -> None:
    (tmp_path / "b.jsonl").write_bytes(_jsonl() * 20)
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for name in "abc":
            archive.writestr(name, _text(name))
        archive.writestr("d.epub", _epub())
        archive.writestr("e.zip", b"PK\x05\x06" + b"\0" * 18)
        archive.writestr("../f", b"x")
    (tmp_path / "g.txt").write_bytes(_text("g", 9000))
    (tmp_path / "h.epub").write_bytes(_epub())
    whole = _records(tmp_path)
    assert _records(tmp_path, unit_bytes=unit_bytes) == [
        record._replace(length=record.length) if isinstance(record, Document) else record for record in whole
    ]
    ids = [document.id for document in _documents(whole)]
    assert len(ids) == len(set(ids)) == 40 + 4 + 2
    kinds = Counter(record.kind for record in whole if isinstance(record, Failure))
    assert kinds["nested_archive"] == kinds["unsafe_path"] == 1


def test_chapters_are_documents_by_recipe(tmp_path: Path) -> None:
    body = "\n\n".join(f"CHAPTER {number}\n\n" + f"Text of chapter {number}. " * 30 for number in ("I", "II", "III"))
    (tmp_path / "b.txt").write_text(f"THE TITLE\n\nby Somebody\n\n\n{body}")
    (book,) = _documents(_records(tmp_path))
    parts = _documents(_records(tmp_path, split="chapter"))
    assert [part.id for part in parts] == [f"{book.id}#{number}" for number in range(len(parts))]
    assert "".join("".join(part.text for part in parts).split()) == "".join(book.text.split())
    assert [_meta(part).get("chapter_title") for part in parts][-3:] == ["CHAPTER I", "CHAPTER II", "CHAPTER III"]
    assert all(part.records == 1 and _meta(part)["book"] == book.id for part in parts)


# --- what is no book


@pytest.mark.parametrize(
    ("name", "data", "reason", "seen"),
    [
        (
            "LICENSE",
            b"THE FULL PROJECT GUTENBERG LICENSE\nPLEASE READ THIS BEFORE YOU DISTRIBUTE OR USE THIS WORK\n",
            "not_a_book",
            "licence",
        ),
        ("b.tex", b"% a book\n\\documentclass{book}\n\\begin{document}\nText\n\\end{document}\n", "latex", "latex"),
        ("m.yaml", b"title: A Book\ncreator:\n  author:\n    name: B\nlanguage: en\n- one\n", "not_a_book", "metadata"),
        ("l.txt", b"total 3\n" + b"-rw-rw-r-- 1 1005 100 247438 Feb 4 2001 07tom10.txt\n" * 9, "not_a_book", "listing"),
        ("README.md", b"# A repository\n\nIt holds a book.\n", "not_a_book", "readme"),
        ("s.css", b"p {\n  margin: 0;\n}\nh1 {\n  margin: 1em;\n  color: red;\n}\n", "not_a_book", "code"),
        ("x.svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "not_a_book", "svg"),
        ("b.fb2", b'<?xml version="1.0"?><FictionBook/>', "other_format", "FictionBook"),
        ("b.pdf", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "other_format", "application/pdf"),
        ("i.png", b"\x89PNG\r\n\x1a\n" + bytes(100), "not_text", "image/png"),
    ],
)
def test_what_is_no_book_is_a_drop_that_says_what(tmp_path: Path, name: str, data: bytes, reason: str, seen: str) -> None:
    record = _only(tmp_path, name, data)
    assert isinstance(record, Drop)
    assert (record.reason, json.loads(record.evidence)["seen"]) == (reason, seen)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \n\n", "empty"),
        (random.Random(1).randbytes(9000), "corrupt"),
        (b"Hello \0world" * 1000, "invalid_encoding"),
        (gzip.compress(random.Random(2).randbytes(9000))[:4000], "truncated"),
        (gzip.compress(bytes(300 << 20)), "bomb"),
        (b"word " * (20 << 20), "too_large"),
        (b"<TEI><text><p>open</text></TEI>", "invalid_xml"),
        (b'<?xml version="1.0"?><TEI>' + b"<div>" * 9_000 + b"</div>" * 9_000 + b"</TEI>", "invalid_xml"),
    ],
)
def test_damage_is_a_failure_that_says_what(tmp_path: Path, data: bytes, kind: str) -> None:
    started = time.process_time()
    record = _only(tmp_path, "b", data)
    assert isinstance(record, Failure)
    assert record.kind == kind
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "data",
    [
        b"word " * (3 << 20),
        b"*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n" * 20_000,
        b"Project Gutenberg\n" + b"Transcriber's Note:\n\n" * 20_000,
        b"Project Gutenberg\n" + b"[Transcriber " * 100_000,
        b"Project Gutenberg\n" + b"[Illustration: " * 100_000,
        b"Project Gutenberg " + b" by " * 100_000,
        b"a" + b" " * (10 << 20) + b"x",
        b"a" + b"\n" * (10 << 20) + b"x",
        b"Chapter 1\n\n" * 50_000,
        b"<?xml " * 100_000,
        b"<!-- " * 100_000,
        b"<!DOCTYPE x [" + b"<!ENTITY " * 100_000,
    ],
)
def test_no_text_costs_more_than_linear_time(tmp_path: Path, data: bytes) -> None:
    started = time.process_time()
    _only(tmp_path, "b", data)
    assert time.process_time() - started < 5


def test_a_path_that_names_nothing_and_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        _records(tmp_path, "nothing")
    import os

    os.mkfifo(tmp_path / "pipe")
    extent = Extent(str(tmp_path / "pipe"), "pipe", 0, -1, 0)
    (record,) = books.read(extent, books.Config(name="b", paths=("pipe",)), tmp_path)
    assert isinstance(record, Failure)
    assert record.kind == "unreadable"


def test_metadata_beside_a_book_fills_what_the_book_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text(
        "title: A Book\nlanguage: fr\ncreator:\n  author:\n    agent_name: B, A\nidentifiers:\n  gutenberg: '7'\nsubjects:\n- !lcsh 'X'\n"
    )
    (tmp_path / "b.txt").write_bytes(_text("x"))
    (document,) = _documents(_records(tmp_path))
    assert (document.lang, document.url) == ("fr", "https://www.gutenberg.org/ebooks/7")
    assert (_meta(document)["title"], _meta(document)["authors"]) == ("A Book", ["B, A"])


# --- the real library

FIRST_AND_LAST = {
    "Alice": ("Alice was beginning to get very tired of sitting by her sister on the bank", "and the happy summer days."),
    "Candide": ("Il y avait en Vestphalie", "il faut cultiver notre jardin"),
    "Die-Verwandlung": ("Als Gregor Samsa eines Morgens aus unruhigen", "ihren jungen Körper dehnte."),
    "Don-Quijote": ("En un lugar de la Mancha, de cuyo nombre no quiero acordarme", "han de caer del todo, sin duda alguna. Vale."),
    "Moby-Dick": ("Call me Ishmael.", "only found another orphan."),
    "Pride": ("It is a truth universally acknowledged", "had been the means of uniting them."),
    "Devil": ("was begun in a weekly paper in 1881", "sheds its horn every two years."),
}


@pytest.fixture(scope="module")
def library(data_dir: Path) -> list[tuple[Extent, Record]]:
    return _read(data_dir.parent, str(data_dir / "books"))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _shingles(text: str) -> Counter[tuple[str, ...]]:
    words = _words(text)
    return Counter(zip(words, words[1:], words[2:], strict=False))


@pytest.mark.realdata
def test_every_real_file_is_read(library: list[tuple[Extent, Record]], data_dir: Path) -> None:
    files = {str(path.relative_to(data_dir.parent)) for path in (data_dir / "books").rglob("*") if path.is_file()}
    book = next(extent.name for extent, _ in library if "container.xml" in extent.name).removesuffix("META-INF/container.xml")
    assert {extent.name for extent, _ in library} == {name for name in files if not name.startswith(book)} | {
        book + "META-INF/container.xml"
    }
    assert not [record for _, record in library if isinstance(record, Failure)]
    reasons = Counter(record.reason for _, record in library if isinstance(record, Drop))
    assert reasons == {"no_text": 1143, "not_a_book": 20, "latex": 2, "other_format": 1}
    documents = _documents([record for _, record in library])
    assert len({document.id for document in documents}) == len(documents) == 12_083
    assert Counter(_meta(document)["format"] for document in documents) == {
        "json": 11_914, "epub": 140, "text": 17, "html": 7, "asciidoc": 3, "tei": 2,
    }  # fmt: skip


@pytest.mark.realdata
def test_editions_of_one_book_agree_and_nothing_around_them_is_left(library: list[tuple[Extent, Record]]) -> None:
    editions: dict[str, list[str]] = {}
    for extent, record in library:
        if isinstance(record, Document) and ("GITenberg__" in extent.name or "standardebooks" in extent.name):
            name = next(name for name in FIRST_AND_LAST if name in extent.name or name.lower() in extent.name)
            editions.setdefault(name, []).append(record.text)
    assert sorted(map(len, editions.values())) == [1, 2, 3, 4, 5, 5, 8]
    for name, texts in editions.items():
        for text in texts:
            joined = " ".join(text.replace("_", "").split())
            for sentence in FIRST_AND_LAST[name]:
                assert sentence in joined
            assert not re.search(r"project gutenberg|gutenberg-tm|transcriber|small print|pgdp\.net", joined, re.IGNORECASE)
        counts = [_shingles(text) for text in texts]
        alike = [2 * sum((counts[0] & other).values()) / (sum(counts[0].values()) + sum(other.values())) for other in counts[1:]]
        # Standard Ebooks' text, the last one, follows another print.
        assert min(alike[:-1] if name == "Pride" else alike, default=1) >= 0.99, name
        assert min(alike, default=1) >= 0.9, name


@pytest.mark.realdata
def test_lineage(library: list[tuple[Extent, Record]]) -> None:
    pairs = [
        (extent, record)
        for extent, record in library
        if isinstance(record, Document) and _meta(record)["format"] in ("json", "text", "html")
    ]
    for extent, record in random.Random(3).sample(pairs, 100) + [pair for pair in pairs if _meta(pair[1])["format"] != "json"]:
        assert isinstance(record, Document)
        raw = Path(extent.file).read_bytes()[record.offset : record.offset + record.length]  # type: ignore[operator]
        if _meta(record)["format"] == "json":
            assert record.text.endswith("\n".join(json.loads(raw)["paragraphs"]))
        else:
            source = raw.decode(_meta(record).get("encoding") or ("utf-8" if raw.startswith(b"\xef\xbb\xbf") else "cp1252"), "replace")
            words = Counter(_words(html.unescape(source)))
            missing = Counter(_words(record.text)) - words
            assert sum(missing.values()) <= 0.005 * len(_words(record.text))


@pytest.mark.realdata
def test_epubs_keep_every_word_that_another_reader_finds(data_dir: Path) -> None:
    """ebooklib orders the documents, lxml takes all their text."""
    ebooklib = pytest.importorskip("ebooklib.epub")
    lxml_html = pytest.importorskip("lxml.html")
    config = books.Config(name="b", paths=(str(data_dir / "books/koreader__test-data"),), boilerplate="keep")
    compared = 0
    for extent in books.plan(config, data_dir, 1 << 30):
        (record,) = books.read(extent, config, data_dir)
        assert isinstance(record, Document)
        try:
            book = ebooklib.read_epub(extent.file, {"ignore_ncx": True})
        except KeyError:  # it does not read a book with a picture that is missing
            continue
        wanted: Counter[str] = Counter()
        for idref, _ in book.spine:
            body = lxml_html.document_fromstring(book.get_item_with_id(idref).get_content()).find("body")
            for hidden in body.xpath(".//script|.//style"):
                hidden.drop_tree()
            wanted.update(re.findall(r"\w+", " ".join(body.itertext())))
        compared += 1
        missing = wanted - Counter(re.findall(r"\w+", record.text))
        assert sum(missing.values()) <= 0.002 * sum(wanted.values()), (extent.name, missing)
    assert compared >= 130
