"""One file of a tree -> a document, a drop with its reason, or a failure. Folders, commits, archives and tables all end here.

The decisions stand in the order of their cost: by name alone, by size, by bytes, by text. Cost: about 50 µs a file and 1 ms a MB.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import orjson
import xxhash

from codedev.corpus import handwritten, languages, licence
from codedev.corpus.document import meta_json
from codedev.corpus.extract import notebook
from codedev.corpus.extract.docstrings import UnparsableError, docstrings
from codedev.corpus.source import Document, Drop, Failure, Piece
from codedev.corpus.sources.code import context as code_context
from codedev.corpus.sources.code import pairs as code_pairs
from codedev.corpus.sources.code.text import BinaryError, UndecodableError, decode

if TYPE_CHECKING:
    from codedev.corpus.sources.code.source import Config

Record = Document | Drop | Failure | Piece
_LFS = "version https://git-lfs.github.com/spec/v"


class File:
    """A file that is being read, and the ways it may end.

    `facts` are what the planner learned: repo, commit, path, licence, licence_from, and where they hold precedence and about.
    `version` is the commit, or the first 16 digits of the content's hash where there is none.
    """

    __slots__ = ("config", "facts", "id", "member", "offset", "size")

    def __init__(self, config: Config, facts: dict[str, Any], version: str, size: int, offset: int | None = 0, member: str | None = None):
        suffix = "" if config.mode == "files" else f"#{config.mode}"
        self.id = f"{facts['repo']}@{version}:{facts['path']}{suffix}"
        self.config, self.facts, self.size, self.offset, self.member = config, facts, size, offset, member

    def drop(self, reason: str, **evidence: Any) -> Drop:
        return Drop(self.id, reason, json_of(evidence), self.offset, self.size, self.member, meta=self.meta({}))

    def fail(self, kind: str, message: str, at: int = 0, raw: bytes = b"") -> Failure:
        return Failure(kind, message, at if self.offset is None else self.offset + at, self.member, raw)

    def document(self, text: str, meta: dict[str, Any], **fields: Any) -> Document:
        return Document(self.id, text, self.offset, self.size, self.member, meta=self.meta(meta), **fields)

    def meta(self, more: dict[str, Any]) -> str:
        facts = self.facts
        about = facts.get("about")
        found = {"repo": facts["repo"], "commit": facts["commit"], "path": facts["path"], **more}
        return meta_json({**about, **found} if about else found)

    def licence(self, head: bytes, *, prose: bool) -> tuple[str | None, str | None]:
        """The file's licence and where it was found."""
        facts = self.facts
        covering, precedence = facts["licence"], facts.get("precedence")
        if precedence == "override":
            return covering, facts["licence_from"]
        own, found = licence.of_tag(head), "spdx"
        if not own and not prose:
            own, found = licence.of_header(head), "header"
        if own and precedence == "aggregate" and own != covering:
            return licence.both([own, covering]), "reuse"
        if own:
            return own, found
        if covering:
            return covering, facts["licence_from"]
        return self.config.licence, "recipe" if self.config.licence else None


def json_of(value: Any) -> str:
    return orjson.dumps(value).decode()


def link(config: Config, facts: dict[str, Any], target: str, member: str | None = None, offset: int | None = 0) -> Drop:
    return File(config, facts, facts["commit"] or xxhash.xxh3_128_hexdigest(target.encode())[:16], 0, offset, member).drop(
        "link", target=target
    )


def records(file: File, read: Callable[[], bytes]) -> Iterator[Record]:
    """`read` gives the file's bytes, one more than max_record_bytes at the most, or raises OSError."""
    name = file.facts["path"].rpartition("/")[2]
    bound = file.config.max_record_bytes
    if dropped := by_name(file, name):
        return iter((dropped,))
    if file.size > bound:
        return iter((file.fail("too_large", f"{file.size:,} bytes; max_record_bytes is {bound:,}"),))
    try:
        data = read()
        if len(data) > bound:
            return iter((file.fail("too_large", f"over max_record_bytes, which is {bound:,}"),))
        text, encoding = decode(data)
    except OSError as error:
        return iter((file.fail(getattr(error, "kind", "unreadable"), error.strerror or str(error)),))
    except BinaryError as found:
        return iter((file.drop("binary", **found.evidence),))
    except UndecodableError as found:
        raw = data[max(0, found.offset - 16) : found.offset + 64]
        return iter((file.fail("invalid_utf8", found.message, found.offset, raw),))
    file.size = len(data)
    head = text[: licence.HEADER_BYTES].encode() if encoding else data[: licence.HEADER_BYTES]
    return by_text(file, name, text, encoding, head)


def by_name(file: File, name: str) -> Drop | None:
    """What its path and size alone decide."""
    path = file.facts["path"]
    if folder := handwritten.vendored(path, file.facts["repo"]):
        return file.drop("vendored", rule=folder)
    if extension := handwritten.binary_extension(name):
        return file.drop("binary", extension=extension)
    if file.size == 0:
        return file.drop("empty")
    if handwritten.lock_file(name):
        return file.drop("lock_file", name=name)
    if handwritten.generated_name(path):
        return file.drop("generated", name=name)
    if file.config.test_data == "drop" and (folder := handwritten.test_data(path)):
        return file.drop("test_data", folder=folder)
    return None


def by_text(file: File, name: str, text: str, encoding: str | None, head: bytes, given: str | None = None) -> Iterator[Record]:
    """`head` is the beginning of the file's bytes, `given` the language that its source says it has."""
    config = file.config
    if not text or text.isspace():
        yield file.drop("empty", characters=len(text))
        return
    if text.startswith(_LFS) and len(text) < 1024:
        yield file.drop("lfs_pointer", pointer=text[:300])
        return
    language = languages.detect(name, text) or (given if given in languages.names() else None)
    if language is None:
        yield file.drop("unknown_language", name=name, head=text[:60])
        return
    meta: dict[str, Any] = {"encoding": encoding}
    if language == notebook.LANGUAGE and config.notebooks != "raw":
        try:
            read = notebook.read(text, config.notebooks, config.notebook_outputs, config.max_output_chars)
        except notebook.NotebookError as error:
            yield file.fail("invalid_notebook", str(error), raw=head[:256])
            return
        if not read.text:
            yield file.drop("empty", cells=read.counts)
            return
        text, meta["notebook"] = read.text, {"language": read.language, **read.counts}
        if config.notebooks == "script":
            language = languages.by_alias(read.language) or language
    if dropped := _unwanted(file, name, text, language, converted="notebook" in meta):
        yield dropped
        return
    prose = languages.type_of(language) == "prose"
    own, meta["licence_from"] = file.licence(head, prose=prose)
    classes = allowed(config.licences)
    if classes is not None and licence.class_of(own) not in classes:
        yield file.drop("licence", licence=own, licence_from=meta["licence_from"])
        return
    match config.mode:
        case "docstrings":
            yield _docstrings(file, text, own, meta)
        case "pairs":
            yield from code_pairs.pairs(file, text, language, own, meta)
        case _:
            if config.comments:
                meta |= code_pairs.shares(text, language)
            document = file.document(text, meta, lang=language, licence=own)
            yield code_context.piece(file, document) if config.mode == "context" else document


def _unwanted(file: File, name: str, text: str, language: str, *, converted: bool) -> Drop | None:
    """What language, text and recipe decide. `converted`: the text is no longer what its file was."""
    config = file.config
    if config.languages is not None and language not in config.languages and not (converted and notebook.LANGUAGE in config.languages):
        return file.drop("other_language", language=language)
    sort = languages.type_of(language)
    if config.mode == "docstrings" and (language != "Python" or converted):
        return file.drop("other_language", language=language, mode=config.mode)
    if sort == "prose" and config.prose == "drop":
        return file.drop("prose", language=language)
    if not converted:
        if sort != "prose" and (marker := handwritten.generated(text, language)):
            return file.drop("generated", language=language, marker=marker)
        if figures := handwritten.minified(name, text, language):
            return file.drop("minified", language=language, **figures)
        if file.size > config.max_data_bytes and (sort == "data" or (language == "Text" and not handwritten.is_prose(text))):
            return file.drop("data_file", language=language, bytes=file.size, bound=config.max_data_bytes)
    if _filled(text[: 1024 + 4 * config.min_chars]) < config.min_chars and (filled := _filled(text)) < config.min_chars:
        return file.drop("too_small", characters=filled, bound=config.min_chars)
    return None


def _filled(text: str) -> int:
    """Characters that are not blank."""
    return len(text) - sum(map(text.count, " \t\n\r"))


def _docstrings(file: File, text: str, own: str | None, meta: dict[str, Any]) -> Document | Drop:
    try:
        prose = docstrings(text)
    except UnparsableError as error:
        return file.drop("unparsable", error=str(error))
    return file.document(prose, meta, kind="book", licence=own) if prose else file.drop("no_docstrings")


@functools.cache
def allowed(licences: str | tuple[str, ...]) -> frozenset[str] | None:
    """The classes of licences that a recipe's `licences:` lets through; None = all."""
    words = {"permissive": ("permissive",), "permissive_or_unknown": ("permissive", "unknown")}
    if licences == "any":
        return None
    return frozenset(words[licences] if isinstance(licences, str) else licences)
