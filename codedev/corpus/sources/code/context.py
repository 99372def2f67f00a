"""Code with its repository around it: the kept files of a repository, in order, joined into one document.

`order: dependencies` puts what is imported before what imports it (see code_imports), else by path; inside a cycle, and where nothing
decides, by path. Before each file stands a line `# File: <path>` between blank lines: plain text, no special token, which a tokenizer may
put in its place by `meta.files`, where path, language, licence and place of every file's text are given (`start`, `end`: characters).

A repository larger than `max_repository_bytes` becomes several documents: files go whole into the first part with room, in order, and a
file larger than that is a part of its own. The document's licence is that of all its files together (AND), unknown where one is unknown.
A repository's kept text is held in memory while it is joined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson
import xxhash

from codedev.corpus import licence
from codedev.corpus.document import meta_json
from codedev.corpus.source import Document, Piece
from codedev.corpus.sources.code.imports import Paths, imports

if TYPE_CHECKING:
    from codedev.corpus.sources.code.file import File
    from codedev.corpus.sources.code.source import Config


def piece(file: File, document: Document) -> Piece:
    """A kept file on its way to the others of its repository."""
    facts = file.facts
    data = {
        "path": facts["path"],
        "repo": facts["repo"],
        "commit": facts["commit"],
        "root": facts["root"],
        "about": facts.get("about"),
        "lang": document.lang,
        "licence": document.licence,
        "bytes": file.size,
        "text": document.text,
    }
    key = f"{facts['repo']}@{facts['commit'] or facts['root'] or ''}"
    return Piece(0, key, orjson.dumps(data), 1, None, document.offset, document.length, document.member)


def join(pieces: list[Piece], config: Config) -> Iterator[Document]:
    files = sorted((orjson.loads(piece.data) for piece in pieces), key=lambda file: (file["path"], file["text"]))
    ordered = _by_dependency(files) if config.order == "dependencies" else files
    first = files[0]
    version = first["commit"] or _hash(files)
    parts = _parts(ordered, config.max_repository_bytes)
    for number, part in enumerate(parts, 1):
        text, placed = _text(part)
        licences = [file["licence"] for file in part]
        languages = Counter[str]()
        for file in part:
            languages[file["lang"] or "unknown"] += len(file["text"])
        meta = {
            **(first["about"] or {}),
            "repo": first["repo"],
            "commit": first["commit"],
            "order": config.order,
            "part": number,
            "parts": len(parts),
            "languages": dict(languages.most_common()),
            "files": placed,
        }
        yield Document(
            f"{first['repo']}@{version}#{number}",
            text,
            lang=min(languages, key=lambda name: (-languages[name], name)),
            licence=licence.both(licences) if all(licences) else None,
            meta=meta_json(meta),
            file=first["root"],
            records=len(part),
        )


def _hash(files: list[dict[str, Any]]) -> str:
    digest = xxhash.xxh3_128()
    for file in files:
        digest.update(orjson.dumps([file["path"], file["text"]]))
    return digest.hexdigest()[:16]


def _text(files: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    pieces: list[str] = []
    placed = []
    at = 0
    for file in files:
        path = " ".join(file["path"].split("\n"))
        marker = f"# File: {path}\n\n" if not pieces else f"\n\n# File: {path}\n\n"
        body = file["text"].strip("\r\n")
        pieces += [marker, body]
        start = at + len(marker)
        at = start + len(body)
        placed.append({"path": file["path"], "lang": file["lang"], "licence": file["licence"], "start": start, "end": at})
    return "".join(pieces) + "\n", placed


def _parts(files: list[dict[str, Any]], most: int) -> list[list[dict[str, Any]]]:
    parts: list[list[dict[str, Any]]] = [[]]
    held = 0
    for file in files:
        size = len(file["text"].encode())
        if parts[-1] and held + size > most:
            parts.append([])
            held = 0
        parts[-1].append(file)
        held += size
    return parts


def _by_dependency(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Depth first from the files in path order, what a file imports before it. An edge that closes a cycle does not count."""
    by_path = {file["path"]: file for file in files}
    paths = Paths(by_path, lambda path: str(by_path[path]["text"]))
    wanted = {path: imports(path, file["text"], file["lang"], paths) for path, file in by_path.items()}
    ordered: list[str] = []
    seen: set[str] = set()
    for start in by_path:
        if start in seen:
            continue
        seen.add(start)
        way = [(start, iter(wanted[start]))]
        while way:  # no recursion: a chain of imports may be longer than Python's stack
            path, rest = way[-1]
            following = next((other for other in rest if other not in seen), None)
            if following is None:
                ordered.append(path)
                way.pop()
            else:
                seen.add(following)
                way.append((following, iter(wanted[following])))
    # Two records of one path (a table may hold several) stay side by side.
    again: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        again.setdefault(file["path"], []).append(file)
    return [file for path in ordered for file in again[path]]
