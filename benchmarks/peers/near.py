"""Other tools' near-duplicates. bench_near_gold.py runs it in an environment with the packages of gold/contenders.py.

    python peers/near.py FUNCTION KEYS FOLDER COUNT    reads FOLDER/<n>.parquet (column text), writes FOLDER/<n>.npy int64[texts]

Documents of one cluster have one number in the result. Shingles are five words in all of them, words as the tool
splits them: text-dedup at \\W, datatrove at white space once punctuation is gone (its spaCy tokens differ in little here), datasketch,
which has no words of its own, \\w+. Prints a line of JSON: CPU seconds, children counted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import resource
import sys
import tempfile
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

NGRAM = 5


def text_dedup(path: Path, work: Path, *, threshold: float, num_perm: int) -> np.ndarray:
    """Its own command, `python -m text_dedup.minhash`, with the roots of its union-find."""
    import pickle

    from text_dedup.minhash import main

    arguments = [
        "--path",
        "parquet",
        "--data_files",
        str(path),
        "--split",
        "train",
        "--cache_dir",
        str(work / "cache"),
        "--output",
        str(work / "out"),
    ]
    arguments += [
        "--column",
        "text",
        "--num_proc",
        "1",
        "--debug",
        "--ngram",
        str(NGRAM),
        "--threshold",
        str(threshold),
        "--num_perm",
        str(num_perm),
    ]
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(sys.stderr):
        main(arguments, standalone_mode=False)
    joined = pickle.loads((work / "out" / "uf.pkl").read_bytes())
    return np.array([joined.find(row) for row in range(pq.read_metadata(path).num_rows)])


def datasketch(path: Path, work: Path, *, threshold: float, num_perm: int) -> np.ndarray:
    """MinHashLSH for that threshold; what shares a bucket is joined, as the users of its index do."""
    import xxhash
    from datasketch import MinHash, MinHashLSH

    texts = pq.read_table(path).column("text").to_pylist()
    word = re.compile(r"\w+")

    def shingles(text: str) -> list[bytes]:
        words = word.findall(text.lower())
        return [" ".join(words[at : at + NGRAM]).encode() for at in range(max(1, len(words) - NGRAM + 1))]

    index = MinHashLSH(threshold=threshold, num_perm=num_perm)
    for row, one in enumerate(MinHash.bulk(map(shingles, texts), num_perm=num_perm, hashfunc=xxhash.xxh32_intdigest)):
        index.insert(row, one)
    parents = list(range(len(texts)))

    def first_of(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for table in index.hashtables:
        for key in table.keys():  # noqa: SIM118 (no mapping)
            first, *others = table.get(key)
            for other in others:
                one, two = first_of(first), first_of(other)
                parents[max(one, two)] = min(one, two)
    return np.array([first_of(row) for row in range(len(texts))])


def datatrove(path: Path, work: Path, *, bands: int, rows: int) -> np.ndarray:
    """Its four stages up to the clusters' ids; the documents that it keeps stand for their clusters."""
    import datatrove.pipeline.dedup.minhash as stages
    from datatrove.data import Document
    from datatrove.utils.logging import logger

    logger.remove()
    logging.disable(logging.INFO)

    class Split:
        word_tokenize = staticmethod(str.split)

    stages.load_word_tokenizer = lambda _language: Split()
    documents = [Document(text=text, id=str(row)) for row, text in enumerate(pq.read_table(path).column("text").to_pylist())]
    config = stages.MinhashConfig(n_grams=NGRAM, num_buckets=bands, hashes_per_bucket=rows)

    def drain(stage: Iterable[object] | None) -> None:
        deque(stage or (), maxlen=0)

    drain(stages.MinhashDedupSignature(f"{work}/signatures", config=config).run(documents))
    for bucket in range(bands):
        drain(stages.MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config).run(None, bucket, bands))
    drain(
        stages.MinhashDedupCluster(f"{work}/buckets", f"{work}/removed", config=config, save_cluster_id=True, save_cluster_size=True).run(
            None, 0, 1
        )
    )
    kept = {}
    drop = stages.MinhashDedupFilter(f"{work}/removed", load_cluster_ids=True)
    clusters = {}
    for document in drop.run(documents, 0, 1):
        kept[document.metadata.get("minhash_cluster_id", -1)] = int(document.id)
    for document in documents:
        clusters[int(document.id)] = document.metadata.get("minhash_cluster_id", -1)
    return np.array([row if cluster == -1 else kept.get(cluster, row) for row, cluster in sorted(clusters.items())])


def cpu() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def main() -> None:
    function, keys, folder, count = sys.argv[1:]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    run: Any = {"text_dedup": text_dedup, "datasketch": datasketch, "datatrove": datatrove}[function]
    total = 0.0
    for number in range(int(count)):
        with tempfile.TemporaryDirectory() as work:
            before = cpu()
            found = run(Path(folder) / f"{number}.parquet", Path(work), **json.loads(keys))
            total += cpu() - before
        np.save(Path(folder) / f"{number}.npy", np.asarray(found, np.int64))
    print(json.dumps({"cpu_s": total}))


if __name__ == "__main__":
    main()
