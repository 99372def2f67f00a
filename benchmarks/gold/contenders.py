"""Who is asked for duplicates: codedev by `corpus dedup`'s way, the peers by peers/near.py in an environment of their own.

Every answer is int64[texts]: the document that each is dropped for, itself where it stays. Of a peer's cluster the first document stays, so
that answers compare: text-dedup would keep the root of its union-find, any of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _bench import clock

OURS: dict[str, dict[str, Any]] = {
    "codedev 14x8, verify 0.8 (default)": {},
    "codedev 20x6, verify 0.7": {"bands": 20, "rows": 6, "verify": 0.7},
    "codedev 40x3, verify 0.5": {"bands": 40, "rows": 3, "verify": 0.5},
}
# name -> (function of peers/near.py, its keys)
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "text-dedup 0.7, 250 hashes (default)": ("text_dedup", {"threshold": 0.7, "num_perm": 250}),
    "text-dedup 0.8, 250 hashes": ("text_dedup", {"threshold": 0.8, "num_perm": 250}),
    "datasketch 0.9, 128 hashes (default)": ("datasketch", {"threshold": 0.9, "num_perm": 128}),
    "datasketch 0.8, 128 hashes": ("datasketch", {"threshold": 0.8, "num_perm": 128}),
    "datatrove 14x8 (default)": ("datatrove", {"bands": 14, "rows": 8}),
}
PACKAGES = (
    *(
        "datasketch==2.0.0",
        "datatrove==0.10.1",
        "numpy",
        "scipy",
        "datasets>=2.17",
        "xxhash<4",
        "click",
        "click-option-group",
        "ftfy",
        "regex",
    ),
    *("rich", "tqdm", "tokenizers", "pyarrow"),
)
BARE = ("text-dedup==0.4.0",)  # asks for Spark and TensorFlow, which its MinHash does not use

Answers = dict[str, dict[str, np.ndarray]]  # contender -> set -> survivors


def codedev(texts: Sequence[str], work: Path, *, kind: str = "web", minhash: Mapping[str, Any]) -> np.ndarray:
    """What `codedev corpus dedup --kind` drops; exact duplicates for the one that the last of them stays for."""
    from codedev.corpus.dedup_files import dedup_files

    work.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": [f"{row:08d}" for row in range(len(texts))], "text": pa.array(texts, pa.large_string())})
    pq.write_table(table, work / "in.parquet")
    dedup_files([work / "in.parquet"], work / "out", id_column="id", kind=kind, minhash=dict(minhash))
    lost = pq.read_table(work / "out" / "duplicates.parquet")
    return survivors(len(texts), lost.column("row").to_pylist(), lost.column("of_row").to_pylist())


def survivors(count: int, rows: Sequence[int], of: Sequence[int]) -> np.ndarray:
    """For each document the one that it stands behind in the end: `rows` lost to the rows `of`."""
    found = np.arange(count)
    found[list(rows)] = of
    while (found[found] != found).any():  # an exact duplicate of one that went for a third
        found = found[found]
    return found


def ours(
    sets: Mapping[str, Sequence[str]], work: Path, kinds: Mapping[str, str], wanted: Sequence[str]
) -> tuple[Answers, dict[str, float]]:
    """(answers, CPU seconds)."""
    answers: Answers = {}
    seconds: dict[str, float] = {}
    for number, (name, minhash) in enumerate(OURS.items()):
        if name in wanted:
            before = clock().cpu
            answers[name] = {
                one: codedev(texts, work / f"ours-{number}-{at}", kind=kinds.get(one, "web"), minhash=minhash)
                for at, (one, texts) in enumerate(sets.items())
            }
            seconds[name] = clock().cpu - before
    return answers, seconds


def peers(sets: Mapping[str, Sequence[str]], work: Path, python: str, wanted: Sequence[str]) -> tuple[Answers, dict[str, float]]:
    """(answers, CPU seconds of sketching and joining), each peer in a process of its own on one core."""
    folder = work / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    names = list(sets)
    for number, name in enumerate(names):
        pq.write_table(pa.table({"text": pa.array(sets[name], pa.large_string())}), folder / f"{number}.parquet")
    script = Path(__file__).parent.parent / "peers" / "near.py"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "HF_HOME": str(work / "hf"), "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": ""}
    answers: Answers = {}
    seconds: dict[str, float] = {}
    for name, (function, keys) in PEERS.items():
        if name not in wanted:
            continue
        command = [python, str(script), function, json.dumps(keys), str(folder), str(len(names))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
        seconds[name] = json.loads(done.stdout.splitlines()[-1])["cpu_s"]
        answers[name] = {one: _first(np.load(folder / f"{number}.npy")) for number, one in enumerate(names)}
    return answers, seconds


def _first(clusters: np.ndarray) -> np.ndarray:
    """The first document of each one's cluster, whatever number the cluster has."""
    _, first, places = np.unique(clusters, return_index=True, return_inverse=True)
    return np.asarray(first[places], np.int64)
