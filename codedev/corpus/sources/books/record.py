"""One record of a library -> documents: a book in plain text, HTML, TEI, EPUB or JSON, or a Drop or Failure that says what else it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from codedev.corpus import encoding
from codedev.corpus.document import RAW_PREFIX, meta_json, position_id
from codedev.corpus.extract import charset, markup, paragraphs
from codedev.corpus.extract.blocks import MarkupError
from codedev.corpus.extract.book import about as book_about
from codedev.corpus.extract.book import asciidoc, epub, gutenberg, tei
from codedev.corpus.extract.book import html as book_html
from codedev.corpus.extract.paragraphs import Chapter
from codedev.corpus.source import Document, Drop, Failure
from codedev.corpus.sources.books import kind as books_kind

if TYPE_CHECKING:
    from codedev.corpus.sources.books.source import Config

Record = Document | Drop | Failure


class Where(NamedTuple):
    """Where a record lies and what is known of it from beside its bytes."""

    key: str  # hash of what `offset` counts in
    name: str
    offset: int
    length: int | None
    member: str | None
    beside: dict[str, Any]  # metadata of a file beside the book

    @property
    def id(self) -> str:
        return position_id(self.key, self.offset if self.member is None else 0)

    def drop(self, reason: str, **evidence: object) -> Drop:
        return Drop(self.id, reason, meta_json(evidence), self.offset, self.length, self.member)

    def fail(self, kind: str, message: str, raw: bytes = b"") -> Failure:
        return Failure(kind, message, self.offset, self.member, raw[:RAW_PREFIX])


def content(data: bytes, where: Where, config: Config) -> Iterator[Record]:
    """A book by itself: plain text, HTML or TEI; or what else the bytes are."""
    head = data[: books_kind.HEAD]
    match books_kind.form_of(head):
        case "empty":
            yield where.fail("empty", "the file holds nothing")
        case "binary":
            seen = books_kind.media_type(head)
            if seen in books_kind.OTHER_FORMATS:
                yield where.drop("other_format", seen=seen)
            elif seen in ("application/octet-stream", "text/plain"):
                yield where.fail("corrupt", "neither text nor of a known type", head)
            else:
                yield where.drop("not_text", seen=seen)
        case "markup":
            try:
                yield from _markup(data, where, config)
            except MarkupError as error:
                yield where.fail(error.kind, str(error), head)
        case _:
            yield from _text(data, where, config)


def _markup(data: bytes, where: Where, config: Config) -> Iterator[Record]:
    source = markup.decode(data) if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<?xml") else charset.decode(data, None, markup=True)[0]
    kind, root_name = books_kind.markup_kind(source)
    if kind in ("other_format", "not_a_book"):
        yield where.drop(kind, seen=root_name)
        return
    if kind == "tei":
        root = markup.parse_xml(source)
        found = tei.extract(root, _options(config))
        about = {"format": "tei", **tei.metadata(root)}
    else:
        root = markup.parse_xhtml(source) if source.lstrip("\ufeff \t\r\n").startswith("<?xml") else markup.parse_html(source)
        found = book_html.extract(root, _options(config))
        about = {"format": "html", **book_html.metadata(root)}
    frame = _frame(found.text, config)
    text, _, cut = paragraphs.cut(found.text, frame.spans)
    if config.unwrap and kind == "html":  # old conversions break every line
        text = paragraphs.unwrap(text)
    about |= _about(frame.header)
    yield from _documents(text, paragraphs.chapters(text), about, found.removed + cut, where, config)


def _text(data: bytes, where: Where, config: Config) -> Iterator[Record]:
    declared = gutenberg.declared_encoding(data)
    try:
        decoded = encoding.decode(data, declared)
    except encoding.UndecodableError as error:
        yield where.fail("invalid_encoding", str(error), data)
        return
    what = books_kind.not_a_book(decoded.text[: 1 << 20], where.name)
    if what:
        yield where.drop("latex" if what == "latex" else "not_a_book", seen=what)
        return
    about: dict[str, Any] = {"format": "text", "encoding": decoded.encoding, "replaced": decoded.replaced or None}
    yield from _plain(decoded.text, about, where, config, None)


def _plain(text: str, about: dict[str, Any], where: Where, config: Config, url: str | None) -> Iterator[Record]:
    text, removed = paragraphs.tidy(text)
    if asciidoc.is_asciidoc(text):
        text, marks = asciidoc.to_text(text, boilerplate=config.boilerplate == "keep")
        removed += marks
        about["format"] = "asciidoc"
    frame = _frame(text, config)
    text, _, cut = paragraphs.cut(text, frame.spans)
    if config.unwrap:
        text = paragraphs.unwrap(text)
    known = _about(frame.header)
    about = {**known, **{key: value for key, value in about.items() if value is not None}}
    yield from _documents(text, paragraphs.chapters(text), about, removed + cut, where, config, url)


def _options(config: Config) -> book_html.Options:
    return book_html.Options(config.notes, config.illustrations == "caption", config.boilerplate)


def _frame(text: str, config: Config) -> gutenberg.Frame:
    frame = gutenberg.frame(text, captions=config.illustrations == "caption")
    return frame if config.boilerplate == "drop" else frame._replace(spans=[])


def _about(header: dict[str, str]) -> dict[str, Any]:
    """What a Gutenberg header says, under the names that all formats use."""
    if not header:
        return {}
    people = {f"{role}s": [header[role]] for role in ("author", "translator", "editor", "illustrator") if role in header}
    number = header.get("number")
    kept: dict[str, Any] = {name: header[name] for name in ("title", "language", "release_date", "original_publication") if name in header}
    rights = header.get("copyright") or "Project Gutenberg: public domain in the United States unless the book says otherwise"
    return {**kept, **people, "gutenberg": int(number) if number else None, "rights": rights}


def _documents(
    text: str,
    chapters: list[Chapter],
    about: dict[str, Any],
    removed: Counter[str],
    where: Where,
    config: Config,
    url: str | None = None,
) -> Iterator[Record]:
    if not text.strip():
        yield where.drop("no_text", removed=dict(removed))
        return
    about = {**where.beside, **{key: value for key, value in about.items() if value is not None}, "removed": dict(removed) or None}
    if not url and about.get("gutenberg"):
        url = f"https://www.gutenberg.org/ebooks/{about['gutenberg']}"
    book = Document(
        where.id,
        text,
        where.offset,
        where.length,
        where.member,
        lang=book_about.language_tag(about.get("language")),
        licence=book_about.licence_of(about.pop("licence_url", None), about.get("rights")),
        url=url,
    )
    if config.split == "book" or len(chapters) < 2:
        listed = [{"offset": offset, "title": title} for offset, title in chapters]
        yield book._replace(meta=meta_json({**about, "chapters": listed or None}))
        return
    about.pop("record", None)
    starts = [(0, "")] if text[: chapters[0].offset].strip() else []
    parts = [*starts, *chapters]
    ends = [*(offset for offset, _ in parts[1:]), len(text)]
    for number, ((start, title), end) in enumerate(zip(parts, ends, strict=True)):
        piece = text[start:end].strip("\n")
        if piece.strip():
            meta = meta_json({**about, "book": book.id, "chapter": number, "chapter_title": title or None})
            yield book._replace(id=f"{book.id}#{number}", text=piece, meta=meta)


# --- EPUB and JSON


def from_epub(files: dict[str, bytes], get: Callable[[str], bytes | None], where: Where, config: Config) -> Iterator[Record]:
    try:
        book = epub.read(files, get, epub.Options(_options(config), config.nonlinear))
    except MarkupError as error:
        yield where.fail(error.kind, str(error))
        return
    frame = _frame(book.text, config)
    text, places, cut = paragraphs.cut(book.text, frame.spans, [chapter.offset for chapter in book.chapters])
    chapters = [Chapter(place, chapter.title) for place, chapter in zip(places, book.chapters, strict=True)]
    about = {**_about(frame.header), **{key: value for key, value in book.meta.items() if value is not None}, "format": "epub"}
    yield from _documents(text, chapters, about, book.removed + cut, where, config)


def from_json(data: bytes, where: Where, config: Config) -> Iterator[Record]:
    """A book or a poem in JSON: its text, and all else in `meta.record`."""
    try:
        record = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        yield where.fail("invalid_json", str(error), data)
        return
    if not isinstance(record, dict):
        yield where.fail("not_an_object", f"a JSON {type(record).__name__} where a record should be", data)
        return
    key = next((key for key in (config.text, "paragraphs", "content") if key in record), None)
    said = record.pop(key) if key else None
    verses = said if isinstance(said, list) and all(isinstance(line, str) for line in said) else None
    if not isinstance(said, str) and verses is None:
        yield where.drop("no_text", keys=sorted(record)[:20])
        return
    own = record.get("meta") or record.get("metadata")
    known = {**(own if isinstance(own, dict) else {}), **record}
    about: dict[str, Any] = {
        "format": "json",
        "title": _string(known, "title", "short_book_title", "book_title", "rhythmic"),
        "authors": [author] if (author := _string(known, "author", "authors")) else None,
        "language": _string(known, "language", "lang"),
        "rights": _string(known, "license", "licence", "rights"),
        "record": record or None,
    }
    try:
        meta_json(record)
    except TypeError as error:  # orjson reads 1,024 levels and writes 254
        yield where.fail("too_deep", f"a column that cannot be kept in meta: {error}", data)
        return
    url = _string(known, "url", "source_url")
    if verses is not None:
        text = "\n".join(verses)
        if text.strip() and about["title"]:
            text = f"{about['title']}\n\n{text}"
        yield from _documents(text, [], about, Counter(), where, config, url)
    else:
        yield from _plain(str(said), about, where, config, url)


def _string(record: dict[str, Any], *names: str) -> str | None:
    return next((value.strip()[:1000] for name in names if isinstance(value := record.get(name), str) and value.strip()), None)
