"""The tables source on the same rows in every form: 120,000 rows of text, id, url, date and a number (52 MB as JSON lines), beside the
obvious way to the same dictionary with its text, its id and the other columns as JSON. MB are of the decompressed file, and for binary
forms of the same rows as JSON lines.

Made from the texts of the instruction sets. A peer yields one dictionary a row and keeps nothing; where its name ends in "to Arrow",
it reads the date too and makes record batches of what it has, as the source does.
"""

from __future__ import annotations

import csv
import functools
import gzip
import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from _bench import Case

from codedev.corpus.records import Reader
from codedev.corpus.sources.tables import source as tables

ROWS = 120_000
_COLUMNS = ("id", "text", "url", "created", "score")


def cases(data: Path, work: Path) -> dict[str, Case]:
    work.mkdir(parents=True, exist_ok=True)
    paths = _prepare(data, work)
    chat = data / "feedback" / "anthropics__hh-rlhf" / "harmless-base" / "test.jsonl.gz"
    found = {
        "jsonl": _case(paths["jsonl"], {"json.loads": _json_lines, "json.loads to Arrow": _to_arrow(_json_lines)}),
        "jsonl.gz": _case(paths["gz"], {"gzip + json.loads": _gzip_lines}, paths["jsonl"].stat().st_size),
        "json array": _case(paths["json"], {"json.load": _json_array}),
        "csv": _case(paths["csv"], {"csv.DictReader": _csv, "csv.DictReader to Arrow": _to_arrow(_csv)}),
        "parquet": _case(
            paths["parquet"],
            {"ParquetFile + to_pylist": _parquet, "ParquetFile to Arrow": _to_arrow(_parquet)},
            paths["jsonl"].stat().st_size,
        ),
        "arrow": _case(paths["arrow"], {"open_file + to_pylist": _arrow}, paths["jsonl"].stat().st_size),
        "sqlite": _case(paths["sqlite"], {"sqlite3": _sqlite}, paths["jsonl"].stat().st_size),
    }
    if chat.exists():
        size = len(gzip.decompress(chat.read_bytes()))
        found["hh-rlhf"] = _case(chat, {"gzip + json.loads": _hh}, size)
    return found


def _case(path: Path, peers: dict[str, Callable[[Path], Iterator[Any]]], size: int | None = None) -> Case:
    config = tables.Config(type="tables", name="bench", paths=(str(path),))

    def run() -> None:
        reader = Reader(config, path.parent)
        extents = [extent._replace(hash="0" * 32) for extent in tables.plan(config, path.parent, 1 << 40)]
        for _ in (*reader.drop_batches(), *reader.failure_batches(), *map(len, reader.batches(extents))):
            pass
        assert reader.counts["rows_out"] > 0

    def drained(peer: Callable[[Path], Iterator[Any]]) -> None:
        assert sum(1 for _ in peer(path)) > 0

    return Case(
        run, (size or path.stat().st_size) / 1e6, "MB raw", peers={name: functools.partial(drained, peer) for name, peer in peers.items()}
    )


def _prepare(data: Path, work: Path) -> dict[str, Path]:
    paths = {name: work / f"rows.{name}" for name in ("jsonl", "gz", "json", "csv", "parquet", "arrow", "sqlite")}
    if all(path.exists() for path in paths.values()):
        return paths
    texts = _texts(data)
    rows = [
        {
            "id": n,
            "text": texts[n % len(texts)],
            "url": f"https://example.org/{n}",
            "created": f"2020-01-{n % 28 + 1:02}T10:00:00Z",
            "score": n / 4,
        }
        for n in range(ROWS)
    ]
    paths["jsonl"].write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    paths["gz"].write_bytes(gzip.compress(paths["jsonl"].read_bytes(), 6))
    paths["json"].write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    with open(paths["csv"], "w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, paths["parquet"])
    with pa.OSFile(str(paths["arrow"]), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table, 10_000)
    paths["sqlite"].unlink(missing_ok=True)
    with sqlite3.connect(paths["sqlite"]) as connection:
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT, url TEXT, created TEXT, score REAL)")
        connection.executemany("INSERT INTO rows VALUES (:id, :text, :url, :created, :score)", rows)
    connection.close()
    return paths


def _texts(data: Path) -> list[str]:
    texts = []
    for path in sorted((data / "instruction").rglob("*.json")):
        values = json.loads(path.read_text())
        for row in values if isinstance(values, list) else []:
            texts += [value for value in row.values() if isinstance(value, str) and len(value) > 40]
    return texts


# -- peers -------------------------------------------------------------------------------------------------------------------------


def _document(row: dict[str, Any], place: int) -> dict[str, Any]:
    """What a reader in plain Python makes of a row."""
    text, own = row.pop("text"), row.pop("id", place)
    return {"text": text, "id": f"bench:{own}", "url": row.pop("url"), "created": row.pop("created"), "meta": json.dumps(row)}


def _to_arrow(peer: Callable[[Path], Iterator[dict[str, Any]]]) -> Callable[[Path], Iterator[pa.RecordBatch]]:
    def read(path: Path) -> Iterator[pa.RecordBatch]:
        rows = peer(path)
        while some := list(islice(rows, 1024)):
            for row in some:
                row["created"] = datetime.fromisoformat(row["created"])
            yield pa.RecordBatch.from_pylist(some)

    return read


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        yield from (_document(json.loads(line), place) for place, line in enumerate(file))


def _gzip_lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rb") as file:
        yield from (_document(json.loads(line), place) for place, line in enumerate(file))


def _json_array(path: Path) -> Iterator[dict[str, Any]]:
    yield from (_document(row, place) for place, row in enumerate(json.loads(path.read_bytes())))


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, newline="") as file:
        yield from (_document(row, place) for place, row in enumerate(csv.DictReader(file)))


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(path).iter_batches(2048, use_threads=False):
        yield from (_document(row, place) for place, row in enumerate(batch.to_pylist()))


def _arrow(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            yield from (_document(row, place) for place, row in enumerate(reader.get_batch(number).to_pylist()))


def _sqlite(path: Path) -> Iterator[dict[str, Any]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    yield from (_document(dict(row), place) for place, row in enumerate(connection.execute("SELECT * FROM rows ORDER BY id")))
    connection.close()


def _hh(path: Path) -> Iterator[dict[str, Any]]:
    """The same pairs: dialogues cut at their turns, the common prompt in front."""
    with gzip.open(path, "rb") as file:
        for line in file:
            row = json.loads(line)
            sides = []
            for side in ("chosen", "rejected"):
                turns = row[side].replace("\n\nAssistant:", "\n\nHuman:").split("\n\nHuman:")[1:]
                sides.append([{"role": ("user", "assistant")[place % 2], "content": turn.strip()} for place, turn in enumerate(turns)])
            yield {"text": row["chosen"], "meta": json.dumps({"prompt": sides[0][:-1], "chosen": sides[0][-1:], "rejected": sides[1][-1:]})}
