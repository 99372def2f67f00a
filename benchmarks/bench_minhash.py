"""Near-duplicate sketches: MB of text a second of one core beside datatrove, datasketch, rensa and daft; and what clones of source keep.

    python benchmarks/bench_minhash.py [--data .data] [--mb 5] [--rounds 3] [--peers DIR] [--only WORD] [--json FILE]

Every contender reads the same documents: files below DATA (books, multilingual, science, code) taken by a hash of their paths. 112 hashes,
14 bands of 8, 5-grams of words. Contenders take turns, each in a process of its own pinned to one core; CPU seconds, user and system; start
and a warm-up on 20 documents are not counted. Rates are medians of the rounds, ratios medians of the rounds' ratios.

DIR is a virtual environment with the peers, made where there is none (pip, 600 MB). What each does:

    sketches     shingles and sketches from the Arrow buffers                      (fss, kperm, datasketch: see kernels/sketch.py)
    end to end   the same, then bands by NumPy and groups by union-find
    daft         normalize and minhash, no bands
    rensa        lists of \\w+ 5-grams made by Python, RMinHash.from_token_sets, RMinHashDeduplicator
    datasketch   the same lists, xxh32, MinHash.bulk, MinHashLSH
    datatrove    signature, buckets, cluster and filter stages, words by str.split

The second table: exact Jaccard of real Python files and clones of them, per kind of change, for shingles of words and of code tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

NUM_HASHES, BANDS, ROWS, NGRAM = 112, 14, 8, 5
PEERS = ("daft==0.7.26", "datasketch==2.0.0", "datatrove==0.10.1", "numpy", "pyarrow", "regex", "rensa==0.5.0", "tokenizers", "xxhash<4")
FOLDERS = ("books", "multilingual", "science", "code")
SECONDS = 1.0  # a contender goes over the documents until it has used so much

Texts = list[str]
Run = Callable[[], int | None]  # gives how many documents are kept, where the contender says


# -- contenders: each a function of the documents' file and how many of them, that gives the function to measure ---------------------


def _texts(path: Path, limit: int | None) -> Texts:
    import pyarrow as pa

    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        texts: Texts = stream.read_all().column("text").to_pylist()
    return texts[:limit]


def _ours(method: str, *, groups: bool) -> Callable[[Path, int | None], Run]:
    def make(path: Path, limit: int | None) -> Run:
        import pyarrow as pa

        from codedev.corpus.buffers import text_buffers
        from codedev.kernels.sketch import sketches

        data, offsets = text_buffers(pa.array(_texts(path, limit), pa.large_string()))

        def run() -> int | None:
            found = sketches(data, offsets, ngram=NGRAM, num_hashes=NUM_HASHES, method=method)
            return _groups(found) if groups else None

        return run

    return make


def _groups(found: Any) -> int:
    """The number of groups: documents that agree in a band, and in turn those that agree with them."""
    import numpy as np

    parents = list(range(len(found)))

    def first_of(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    rows = np.flatnonzero(found[:, 0] != 0xFFFFFFFF)
    words = found[rows].reshape(len(rows), BANDS, ROWS).view(np.uint64)
    keys = (words * np.array([0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 0xAF251AF3B0F025B5, 0xB564EF22EC7AECE5], np.uint64)).sum(axis=2)
    keys = (keys + np.arange(BANDS, dtype=np.uint64) * np.uint64(0xFF51AFD7ED558CCD)).ravel()
    order = np.argsort(keys)
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    for one, two in set(zip(rows[order[same] // BANDS].tolist(), rows[order[same + 1] // BANDS].tolist(), strict=True)):
        one, two = first_of(one), first_of(two)
        parents[max(one, two)] = min(one, two)
    return sum(first_of(row) == row for row in range(len(found)))


def _shingle_lists(texts: Texts) -> Iterator[list[str]]:
    word = re.compile(r"\w+")
    for text in texts:
        words = word.findall(text.lower())
        yield [" ".join(words[at : at + NGRAM]) for at in range(max(1, len(words) - NGRAM + 1))]


def _daft(path: Path, limit: int | None) -> Run:
    import daft
    from daft.functions import minhash, normalize

    texts = _texts(path, limit)

    def run() -> int | None:
        text = normalize(daft.col("text"), remove_punct=True, lowercase=True, nfd_unicode=True, white_space=True)
        daft.from_pydict({"text": texts}).select(minhash(text, num_hashes=NUM_HASHES, ngram_size=NGRAM)).collect()

    return run


def _rensa(path: Path, limit: int | None) -> Run:
    from rensa import RMinHash, RMinHashDeduplicator

    texts = _texts(path, limit)

    def run() -> int | None:
        hashes = RMinHash.from_token_sets(list(_shingle_lists(texts)), NUM_HASHES, 42)
        found = RMinHashDeduplicator(0.72, NUM_HASHES, True, BANDS)
        found.add_pairs([(str(row), minhash) for row, minhash in enumerate(hashes)])

    return run


def _datasketch(path: Path, limit: int | None) -> Run:
    import xxhash
    from datasketch import MinHash, MinHashLSH

    texts = _texts(path, limit)

    def run() -> int | None:
        lists = ([shingle.encode() for shingle in shingles] for shingles in _shingle_lists(texts))
        index = MinHashLSH(params=(BANDS, ROWS), num_perm=NUM_HASHES)
        kept = 0
        for row, minhash in enumerate(MinHash.bulk(lists, num_perm=NUM_HASHES, hashfunc=xxhash.xxh32_intdigest)):
            kept += not index.query(minhash)
            index.insert(row, minhash)
        return kept

    return run


def _datatrove(path: Path, limit: int | None) -> Run:
    import logging

    import datatrove.pipeline.dedup.minhash as stages
    from datatrove.data import Document
    from datatrove.utils.logging import logger

    logger.remove()
    logging.disable(logging.INFO)

    class Split:
        word_tokenize = staticmethod(str.split)

    stages.load_word_tokenizer = lambda _language: Split()
    texts = _texts(path, limit)
    config = stages.MinhashConfig(n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS)

    def drain(stage: Iterable[object] | None) -> None:
        deque(stage or (), maxlen=0)

    def run() -> int | None:
        documents = [Document(text=text, id=str(row)) for row, text in enumerate(texts)]
        with tempfile.TemporaryDirectory() as work:
            drain(stages.MinhashDedupSignature(f"{work}/signatures", config=config).run(documents))
            for bucket in range(BANDS):
                drain(stages.MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config).run(None, bucket, BANDS))
            drain(stages.MinhashDedupCluster(f"{work}/buckets", f"{work}/removed", config=config).run(None, 0, 1))
            return sum(1 for _ in stages.MinhashDedupFilter(f"{work}/removed").run(documents, 0, 1))

    return run


CONTENDERS: dict[str, tuple[Callable[[Path, int | None], Run], bool]] = {  # name -> (what makes it, needs the peers' environment)
    "ours fss, sketches": (_ours("fss", groups=False), False),
    "ours fss, end to end": (_ours("fss", groups=True), False),
    "ours kperm, sketches": (_ours("kperm", groups=False), False),
    "ours kperm, end to end": (_ours("kperm", groups=True), False),
    "ours datasketch, sketches": (_ours("datasketch", groups=False), False),
    "daft": (_daft, True),
    "rensa": (_rensa, True),
    "datasketch": (_datasketch, True),
    "datatrove": (_datatrove, True),
}


def child(name: str, path: Path) -> None:
    """Prints the CPU seconds of one pass, how many passes it is the mean of, and the documents kept."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    make, _ = CONTENDERS[name]
    make(path, 20)()
    run = make(path, None)
    passes, began = 0, time.process_time()
    while passes == 0 or time.process_time() - began < SECONDS:
        kept = run()
        passes += 1
    print(json.dumps({"seconds": (time.process_time() - began) / passes, "passes": passes, "kept": kept}))


# -- the first table -------------------------------------------------------------------------------------------------------------------


def rates(arguments: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    path, megabytes, documents = work / "texts.arrow", *_write_texts(arguments.data, arguments.mb, work / "texts.arrow")
    print(f"{documents} documents, {megabytes:.1f} MB; load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    names = [name for name in CONTENDERS if arguments.only in name]
    from _bench import peers_python

    python = peers_python(arguments.peers, PEERS) if any(CONTENDERS[name][1] for name in names) else sys.executable
    seconds: dict[str, list[float]] = {name: [] for name in names}
    kept: dict[str, int | None] = {}
    environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")}
    for _ in range(arguments.rounds):
        for name in names:
            command = [python if CONTENDERS[name][1] else sys.executable, __file__, "--child", name, str(path)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
            answer = json.loads(done.stdout.splitlines()[-1])
            seconds[name].append(answer["seconds"])
            kept[name] = answer["kept"]
    rows = []
    lead = next((name for name in names if "end to end" in name), names[0])
    for name in names:
        ratio = statistics.median(other / own for other, own in zip(seconds[name], seconds[lead], strict=True))
        rate = megabytes / statistics.median(seconds[name])
        rows.append({"contender": name, "mb_per_s": rate, "seconds": seconds[name], f"time over {lead}": ratio, "kept": kept[name]})
        count = "" if kept[name] is None else f", {kept[name]} of {documents} kept"
        print(f"{name:<28}{rate:>10.2f} MB/s{ratio:>10.2f} x the time of {lead}{count}", flush=True)
    return rows


def _write_texts(data: Path, limit: float, path: Path) -> tuple[float, int]:
    """Valid UTF-8 files of 200 bytes to 1 MB; (megabytes, documents)."""
    import pyarrow as pa
    import xxhash

    found = [file for folder in FOLDERS for file in (data / folder).rglob("*") if file.is_file() and not file.is_symlink()]
    found.sort(key=lambda file: xxhash.xxh3_64_intdigest(os.fsencode(file.relative_to(data))))
    texts: Texts = []
    total = 0
    for file in found:
        content = file.read_bytes() if 200 <= file.stat().st_size <= 1_000_000 else b""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            continue
        if text and "\0" not in text:
            texts.append(text)
            total += len(content)
        if total >= limit * 1e6:
            break
    if not texts:
        raise SystemExit(f"{data}: no texts below its folders {', '.join(FOLDERS)}. Name another one with --data")
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return total / 1e6, len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--mb", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=300, help="source files to clone; 0: no second table")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "codedev-minhash-peers")
    parser.add_argument("--only", default="", help="contenders whose name holds this word")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]))
        return
    from _bench import machine, write_json

    described = machine()
    with tempfile.TemporaryDirectory() as work:
        rows = rates(arguments, Path(work))
    if arguments.files:
        from minhash_clones import clones

        rows += clones(arguments.data, arguments.files)
    if arguments.json:
        options = {name: str(value) for name, value in vars(arguments).items() if name in ("mb", "rounds", "files", "only")}
        write_json(arguments.json, "minhash", described, options, rows)


if __name__ == "__main__":
    main()
