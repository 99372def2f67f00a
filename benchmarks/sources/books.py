"""The books source beside ebooklib with BeautifulSoup for EPUB, lxml's text for HTML and TEI, decoding by a guess for plain text.

The peers give text alone: no Gutenberg header found, no lines joined, no chapters, no licence.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from _bench import Case

from codedev import _files
from codedev.corpus.source import Document
from codedev.corpus.sources.books import source as books


def cases(data: Path, work: Path) -> dict[str, Case]:
    library = data / "books"
    if not library.is_dir():
        return {}
    texts = sorted(path for path in library.glob("GITenberg__*/**/*.txt") if path.stat().st_size > 100_000)
    pages = sorted(library.glob("GITenberg__*/*/*.htm"))
    teis = sorted((library / "PerseusDL__canonical-latinLit").rglob("*.xml"))
    poems = sorted((library / "chinese-poetry__chinese-poetry").rglob("*.json"))
    epubs = _epubs(library, work)
    return {
        "books: plain text": _case(texts, {"charset-normalizer": lambda: [_guessed(path) for path in texts]}),
        "books: HTML": _case(
            pages, {"bs4": lambda: [_bs4(path) for path in pages], "lxml text": lambda: [_lxml_html(path) for path in pages]}
        ),
        "books: EPUB": _case(epubs, {"ebooklib + bs4": lambda: [_ebooklib(path) for path in epubs]}, unfolded=True),
        "books: TEI": _case(teis, {"lxml text": lambda: [_lxml_tei(path) for path in teis]}),
        "books: JSON poems": _case(poems, {"json": lambda: [_json(path) for path in poems]}),
    }


def _case(paths: list[Path], peers: dict[str, Callable[[], object]], *, unfolded: bool = False) -> Case:
    config = books.Config(name="books", paths=tuple(str(path.resolve()) for path in paths))
    extents = [extent._replace(hash=_files.hash_of(extent.file)) for extent in books.plan(config, paths[0].parent.resolve(), 1 << 30)]
    size = sum(map(_unfolded, paths)) if unfolded else sum(path.stat().st_size for path in paths)

    def run() -> int:
        return sum(isinstance(record, Document) for extent in extents for record in books.read(extent, config, Path()))

    return Case(run, size / 1e6, "MB raw", peers=peers)


def _unfolded(path: Path) -> int:
    """Bytes of an EPUB's documents; pictures are read by neither."""
    with zipfile.ZipFile(path) as archive:
        return sum(
            entry.file_size for entry in archive.infolist() if not entry.filename.endswith((".png", ".jpg", ".svg", ".css", ".ttf", ".otf"))
        )


def _epubs(library: Path, work: Path) -> list[Path]:
    """Standard Ebooks' source as an EPUB, and a play."""
    work.mkdir(parents=True, exist_ok=True)
    packed = work / "pride.epub"
    root = library / "standardebooks__jane-austen_pride-and-prejudice" / "src"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(root))
        for name in re.findall(r'<item href="([^"]+)"', (root / "epub" / "content.opf").read_text()):
            if not (root / "epub" / name).exists():
                archive.writestr(f"epub/{name}", b"")  # pictures and styles, without which ebooklib reads nothing
    return [packed, library / "koreader__test-data" / "juliet.epub"]


def _guessed(path: Path) -> str:
    import charset_normalizer

    data = path.read_bytes()
    return data.decode(str(charset_normalizer.detect(data)["encoding"] or "utf-8"), "replace")


def _bs4(path: Path) -> str:
    from bs4 import BeautifulSoup

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that XHTML is read as HTML
        return str(BeautifulSoup(path.read_bytes(), "lxml").get_text())


def _lxml_html(path: Path) -> str:
    import lxml.html

    return str(lxml.html.document_fromstring(path.read_bytes()).text_content())


def _lxml_tei(path: Path) -> str:
    from lxml import etree

    return "".join(etree.fromstring(path.read_bytes()).itertext())


def _json(path: Path) -> list[str]:
    import json

    return ["\n".join(poem.get("paragraphs", ())) for poem in json.loads(path.read_text())]


def _ebooklib(path: Path) -> str:
    from bs4 import BeautifulSoup
    from ebooklib import epub

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        book = epub.read_epub(str(path), {"ignore_ncx": True})
        documents = (book.get_item_with_id(name) for name, _ in book.spine)
        return "\n\n".join(BeautifulSoup(document.get_content(), "lxml").get_text() for document in documents if document)
