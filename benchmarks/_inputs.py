"""What the stages of codedev are measured on, made once from real data: see `prepare`.

Modules of codedev are imported inside the functions: a child process then holds what its own stage needs, and its peak memory says so.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


def prepare(work: Path, data: Path, mb: float) -> dict[str, Any]:
    """Make the inputs in `work` and return the facts about them, sizes in MB:

    tree/                  source files out of data/code                       raw_mb
    web/                   archives out of data/web, repeated                  web_mb when decompressed
    corpus/                a build of tree/, its work kept                     text_mb of documents kept
    code.arrow             documents as the code source reads them             read_mb
    prose.arrow            docstrings and web pages
    tables/                the corpus as JSON lines, CSV and Parquet
    small/                 a corpus of every seventh document                  small_mb
    """
    from codedev.corpus.build import build

    linked = _link_tree(data / "code", work / "tree", int(mb * 1e6))
    web_mb = _repeat_archives(data / "web", work / "web", int(mb * 2e5))
    totals = build(recipe(), work, work / "corpus")["totals"]
    documents = list(code_reader(work, "files")())
    save_batches(work / "code.arrow", documents)
    prose = [*code_reader(work, "docstrings")(), *(reader(work, "web", ["web/archive.warc.gz"])() if web_mb else ())]
    save_batches(work / "prose.arrow", prose)
    _write_tables(work)
    facts = {
        "mb": mb,
        **linked,
        "web_mb": web_mb,
        "documents": totals["documents"],
        "text_mb": totals["text_bytes"] / 1e6,
        "read_mb": _text_bytes(documents) / 1e6,
        "small_mb": _write_small(work) / 1e6,
    }
    (work / "facts.json").write_text(json.dumps(facts))
    return facts


def facts_of(work: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((work / "facts.json").read_text())
    return facts


def recipe(**source: Any) -> Any:
    """The recipe of the build; with keys of a source, the same for that source alone."""
    from codedev.corpus.recipe import check

    sources = [{"name": "code", "type": "code", "paths": ["tree/*"], **source}]
    rules = {"language": {"min_score": 0.3}, "quality": {"gopher": {}, "code": {}}, "dedup": {"exact": {}}}
    return check({"name": "bench", "sources": sources, **rules}, "bench")


# -- making ------------------------------------------------------------------------------------------------------------------------


def _link_tree(source: Path, tree: Path, limit: int) -> dict[str, Any]:
    """Hard links (copies where the folders lie on two disks) to as many files as fit, by a hash of their paths; the licence files at
    the roots of the trees go first, as every file's licence depends on them."""
    import xxhash

    from codedev.corpus.repository import is_licence_name

    found: list[tuple[bool, int, Path]] = []
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if name != ".git" and (folder != str(source) or not name.startswith("."))]
        for path in (Path(folder, name) for name in names):
            if path.is_file() and not path.is_symlink():
                relative = path.relative_to(source)
                covers = len(relative.parts) == 2 and is_licence_name(path.name)
                found.append((not covers, xxhash.xxh3_64_intdigest(os.fsencode(relative)), path))
    files = total = 0
    for _, _, path in sorted(found):
        size = path.stat().st_size
        if total + size > limit:
            continue
        target = tree / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
        files, total = files + 1, total + size
    if not files:
        raise SystemExit(f"{source}: there are no source files of less than {limit} bytes. Name another folder with --data")
    return {"files": files, "raw_mb": total / 1e6}


def _repeat_archives(source: Path, folder: Path, stored: int) -> float:
    """The five largest archives of one gzip member a record, one after another until `stored` bytes are full; MB when decompressed."""
    from codedev._files import open_raw
    from codedev.corpus.sources.web.source import identify

    folder.mkdir()
    contents: list[bytes] = []
    for path in sorted(source.rglob("*.warc.gz"), key=lambda path: (-path.stat().st_size, str(path))):
        with open_raw(str(path)) as file:
            if len(contents) < 5 and identify(file, path.stat().st_size, 64 << 20).framing == "members":
                contents.append(path.read_bytes())
    content = b"".join(contents)
    times = max(1, stored // max(1, len(content)))
    (folder / "archive.warc.gz").write_bytes(content * times)
    return sum(map(len, inflated(content))) * times / 1e6


def inflated(data: bytes) -> Iterator[bytes]:
    """The content of a file of gzip members, as zlib gives it."""
    view, at = memoryview(data), 0
    while at < len(data):
        member = zlib.decompressobj(31)
        while not member.eof and at < len(data):
            yield member.decompress(view[at : at + 65536])
            at = min(at + 65536, len(data))
        at -= len(member.unused_data)


def _write_tables(work: Path) -> None:
    import orjson
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    (work / "tables").mkdir()
    table = ds.dataset(work / "corpus/documents").to_table(columns=["id", "text", "lang", "meta"])
    table = table.set_column(2, "lang", table.column("lang").cast("string"))
    pq.write_table(table, work / "tables/texts.parquet", compression="zstd", row_group_size=2048)
    with open(work / "tables/texts.jsonl", "wb") as lines, open(work / "tables/texts.csv", "w", newline="", encoding="utf-8") as rows:
        writer = csv.writer(rows)
        writer.writerow(table.column_names)
        for batch in table.to_batches(1024):
            for row in batch.to_pylist():
                lines.write(orjson.dumps(row) + b"\n")
                writer.writerow(row.values())


def _write_small(work: Path) -> int:
    """A corpus of every seventh document, for what is slow; the bytes of its text."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    from codedev._run import file_hash, read_json, write_json
    from codedev.corpus.parts import write_part

    table = ds.dataset(work / "corpus/documents").to_table()
    table = table.take(pa.array(range(0, table.num_rows, 7)))
    path = work / "small/documents/code/part-00000.parquet"
    rows, size = write_part(path, table.combine_chunks().to_batches(), table.schema), _text_bytes(table.to_batches())
    part = {"path": "documents/code/part-00000.parquet", "rows": rows, "hash": file_hash(path), "text_bytes": size}
    write_json(work / "small/manifest.json", read_json(work / "corpus/manifest.json") | {"parts": {"documents": [part]}})
    return size


def _text_bytes(batches: Iterable[Any]) -> int:
    import pyarrow.compute as pc

    return sum(pc.sum(pc.binary_length(batch.column("text"))).as_py() for batch in batches)


# -- using -------------------------------------------------------------------------------------------------------------------------


def reader(work: Path, kind: str, paths: list[str], **config: Any) -> Callable[[], Iterator[Any]]:
    """A function that reads a source's files anew: batches of documents."""
    from codedev.corpus.records import Reader
    from codedev.corpus.sources import module_of

    source = recipe(name="bench", type=kind, paths=paths, **config).sources[0]
    plan = module_of(kind).plan
    return lambda: Reader(source, work).batches(plan(source, work, 1 << 40))


def code_reader(work: Path, mode: str) -> Callable[[], Iterator[Any]]:
    """The same for the planned source files, whose hashes are known."""
    from codedev.corpus.plan import read_plan
    from codedev.corpus.records import Reader
    from codedev.corpus.sources import module_of

    module_of("code")  # the reader imports it by name, and its memory is not the reading's
    source = recipe(mode=mode).sources[0]
    extents = [extent for unit in read_plan(work / "corpus/.work/plan.jsonl") for extent in unit.extents]
    return lambda: Reader(source, work).batches(extents)


def drain(batches: Iterable[Any]) -> int:
    return sum(batch.num_rows for batch in batches)


def save_batches(path: Path, batches: list[Any]) -> None:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def load_batches(path: Path) -> list[Any]:
    import pyarrow as pa

    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        return list(stream)


def texts_of(batches: Iterable[Any]) -> list[str]:
    return [text for batch in batches for text in batch.column("text").to_pylist()]


def memcpy(batches: list[Any]) -> Callable[[], None]:
    """A function that copies the text of all batches."""
    import numpy as np

    source = np.concatenate([np.frombuffer(batch.column("text").buffers()[2], np.uint8) for batch in batches])
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def fresh(*folders: Path) -> Callable[[], None]:
    """A function that removes the folders, so that a stage starts without earlier results."""

    def remove() -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    return remove


def borrowed(work: Path, name: str, *tables: str) -> Any:
    """A context that writes to work/name and reads the named tables (scored, judged) of corpus/."""
    from codedev.corpus.unit import Context

    context = Context(recipe(), work, work / name)
    context.work.mkdir(parents=True)
    for table in tables:
        (context.work / table).symlink_to(work / "corpus/.work" / table)
    return context


def unit_keys(context: Any) -> list[tuple[str, str, int]]:
    """(key of the scored table, key of the judged one, rows) of every unit of corpus/."""
    from codedev._run import read_json
    from codedev.corpus.plan import read_plan
    from codedev.corpus.unit import judge_key, score_key

    keys = [score_key(context, unit) for unit in read_plan(context.base / "corpus/.work/plan.jsonl")]
    return [(key, judge_key(context, key), read_json(context.work / f"scored/{key}.json")["rows"]) for key in keys]
