"""Quality filters beside datatrove's: what each keeps of the same real documents, and MB of text a second of one core.

    python benchmarks/bench_quality.py [--data .data] [--documents N] [--spacy-documents N] [--peer-python FILE] [--work DIR] [--json FILE]

datatrove runs in an environment of its own, in the same run: that of `--peer-python`, or one made in `--work` with
`pip install datatrove[processing] spacy`. It is asked twice. With str.split in place of its words, and codedev's rule of sentences in place
of its own, the same documents must be kept by every filter; with its default English words and sentences (spaCy) most of them. Every
document is judged as English prose. codedev's rates are for all statistics and include the filters; datatrove stops at a document's first
broken rule, and is asked once more with bounds that nothing breaks: the last row. CPU seconds: datatrove's of one run, codedev's the median
of three.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from _bench import machine, write_json

from codedev.corpus import quality
from codedev.corpus.build import build
from codedev.corpus.document import DOCUMENT
from codedev.corpus.recipe import Quality, check
from codedev.corpus.stage import verdict

Row = dict[str, Any]
PEER = Path(__file__).parent / "peers" / "datatrove_quality.py"
FILTERS: dict[str, dict[str, Any]] = {  # name in peers/datatrove_quality.py: the recipe's keys for the same rules
    "gopher": {"gopher": {}},
    "repetition": {"repetition": {}},
    "fineweb": {"fineweb": {}},
    "c4": {"c4": {}},
    "c4-no-punctuation": {"c4": {"terminal_punctuation": False}},
}
TOGETHER = ("gopher", "repetition", "fineweb", "c4")  # what is timed as one
LARGEST = 400_000  # bytes of a document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--spacy-documents", type=int, default=2_000, help="the first of them, for datatrove with spaCy")
    parser.add_argument("--peer-python", type=Path, help="a Python that has datatrove and spaCy")
    parser.add_argument("--work", type=Path, help="kept between runs: the documents and the environment")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codedev-bench-") as scratch:
        _run(arguments, arguments.work or Path(scratch))


def _run(arguments: argparse.Namespace, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    about = machine()
    texts = documents(arguments.data.resolve(), work, arguments.documents)
    python = str(arguments.peer_python or _environment(work / "datatrove"))
    rows: list[Row] = []
    print(f"{about['cpu']}, load {about['load']}; {len(texts):,} documents, {_megabytes(texts):.1f} MB\n")
    heads = ("documents", 9), ("kept", 6), ("theirs", 6), ("differ", 6), ("agree", 7), ("MB/s", 7), ("theirs", 7), ("ratio", 6)
    print(f"{'words':<11} {'filter':<18}", *(name.rjust(width) for name, width in heads))
    print("-" * 92, flush=True)
    for words, peer_words, number in (("whitespace", "whitespace", len(texts)), ("spacy-like", "spacy", arguments.spacy_documents)):
        asked = texts[:number]
        said = _peer(python, work, asked, peer_words)
        about["packages"]["datatrove"] = said["version"]
        batch, size = as_batch(asked), _megabytes(asked)
        for name, keys in FILTERS.items():
            recipe = Quality.model_validate({"words": words, **_for_all(keys)})
            ours = kept(recipe, batch)
            theirs = [not reason for reason in said["reasons"][name]]
            differ = sum(mine != its for mine, its in zip(ours, theirs, strict=True))
            rows.append(
                {
                    "words": words,
                    "filter": name,
                    "documents": len(asked),
                    "kept": sum(ours),
                    "datatrove_kept": sum(theirs),
                    "disagreements": differ,
                    "agreement": 1 - differ / len(asked),
                    "rate": size / _median(lambda recipe=recipe, batch=batch: kept(recipe, batch)),  # type: ignore[misc]
                    "datatrove_rate": size / said["cpu_s"][name],
                }
            )
            _print(rows[-1])
        recipe = Quality.model_validate({"words": words, **_for_all({key: FILTERS[key][key] for key in TOGETHER})})
        together = size / _median(lambda recipe=recipe, batch=batch: kept(recipe, batch))  # type: ignore[misc]
        theirs_together = size / sum(said["cpu_s"][name] for name in TOGETHER)
        rows.append({"words": words, "filter": "all four", "documents": len(asked), "rate": together, "datatrove_rate": theirs_together})
        _print(rows[-1])
        spent = _peer(python, work, asked, peer_words, "--open")["cpu_s"]
        rows.append({**rows[-1], "filter": "all statistics", "datatrove_rate": size / sum(spent[name] for name in TOGETHER)})
        _print(rows[-1])
    if arguments.json:
        write_json(arguments.json, "quality", about, {"documents": len(texts), "mb": _megabytes(texts)}, rows)


def _for_all(keys: dict[str, Any]) -> dict[str, Any]:
    return {family: {"languages": None, **bounds} for family, bounds in keys.items()}


def kept(recipe: Quality, batch: pa.RecordBatch) -> list[bool]:
    """Which documents all filters of the recipe keep: scored and judged as in a build."""
    scored, _ = quality.scoring(recipe)(batch)
    standing = [True] * batch.num_rows
    for _, judge in quality.filters(recipe):
        dropped = verdict(judge, scored).field("reason").is_valid().to_pylist()
        standing = [keep and not drop for keep, drop in zip(standing, dropped, strict=True)]
    return standing


def _median(run: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(3):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def _print(row: Row) -> None:
    counts = [row.get(name, "") for name in ("documents", "kept", "datatrove_kept", "disagreements")]
    agreement = f"{row['agreement']:.4f}" if "agreement" in row else ""
    print(f"{row['words']:<11} {row['filter']:<18} {counts[0]:>9} {counts[1]:>6} {counts[2]:>6} {counts[3]:>6} {agreement:>7}", end=" ")
    print(f"{row['rate']:>7.1f} {row['datatrove_rate']:>7.2f} {row['rate'] / row['datatrove_rate']:>5.0f}x", flush=True)


def documents(data: Path, work: Path, number: int) -> list[str]:
    """Texts of web pages, Stack Exchange, Reddit, books and code, as codedev reads them, in an order that the ids decide."""
    kept_at = work / f"texts-{number}.jsonl"
    if kept_at.exists():
        return [json.loads(line) for line in kept_at.read_text(encoding="utf-8").splitlines()]
    paths = {
        "web": ["web/**/*.warc.gz", "web/**/*.html"],
        "stackexchange": ["stackexchange"],
        "reddit": ["reddit"],
        "books": ["books"],
        "code": ["code/*"],
    }
    sources = [{"name": kind, "type": kind, "paths": [str(data / path) for path in paths[kind]]} for kind in paths]
    build(check({"name": "texts", "sources": sources, "dedup": {"exact": {}}}, "bench"), data, work / "texts")
    found: dict[str, list[tuple[int, str]]] = {}
    for part in sorted((work / "texts" / "documents").glob("*/*.parquet")):
        table = pq.read_table(part, columns=["id", "text"])
        for name, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
            if len(text.encode()) <= LARGEST:
                found.setdefault(part.parent.name, []).append((xxhash.xxh3_64_intdigest(name.encode()), text))
    share = -(-number // len(found))
    first, rest = [], []
    for source in sorted(found):
        ordered = sorted(found[source])
        first += ordered[:share]
        rest += ordered[share:]
    chosen = first + sorted(rest)[: max(0, number - len(first))]
    texts = [text for _, text in sorted(chosen)[:number]]
    kept_at.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    return texts


def as_batch(texts: list[str]) -> pa.RecordBatch:
    """The texts as documents of English prose."""
    rows = len(texts)
    given = {
        "id": pa.array([str(row) for row in range(rows)]),
        "kind": pa.array(["web"] * rows),
        "lang": pa.array(["en"] * rows),
        "text": pa.array(texts, pa.large_string()),
    }
    columns = [given[field.name].cast(field.type) if field.name in given else pa.nulls(rows, field.type) for field in DOCUMENT]
    return pa.RecordBatch.from_arrays(columns, schema=DOCUMENT)


def _peer(python: str, work: Path, texts: list[str], words: str, *options: str) -> dict[str, Any]:
    source, out = work / "peer.jsonl", work / f"peer-{words}{''.join(options)}.json"
    source.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    subprocess.run([python, str(PEER), str(source), str(out), "--words", words, *options], check=True, stdout=sys.stderr)
    answer: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return answer


def _environment(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "datatrove[processing]", "spacy"], check=True)
    return python


def _megabytes(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


if __name__ == "__main__":
    main()
