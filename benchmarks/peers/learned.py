"""The fastText package, trained and asked by bench_learned.py in an environment of its own.

    python learned.py TASK OUT

TASK is JSON {"sets": {name: {"train": [[label, text], …], "test": [text, …], "label": label, "settings": {…}}}, "model": path,
"label": label, "documents": [text, …], "rounds": n}; OUT becomes {"sets": {name: {"runs": [{"scores": […], "seconds": s}, …],
"failed": n}}, "scores": […], "seconds": s}. Seconds are CPU time: of training alone, and of scoring all documents with the model in the
best of the rounds, lower-casing included. `failed` counts the trainings that the library gave up: with one and the same file, seed and
thread version 0.9.2 now and then ends in NaN or learns little, more often in memory that was used before. Each runs several times.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fasttext

RUNS = 5


def line(text: str) -> str:
    return text.lower().replace("\n", " ") + "\n"


def scores(library: Any, texts: list[str], label: str) -> list[float]:
    """The public predict fails beside NumPy 2; this is what it calls."""
    found = (library.predict(line(text), 2, 0.0, "strict") for text in texts)
    return [next((value for value, name in each if name == f"__label__{label}"), 0.0) for each in found]


def train(path: str, one: dict[str, Any]) -> dict[str, Any] | None:
    """None where the library gives up ("Encountered NaN")."""
    start = time.process_time()
    try:
        model = fasttext.train_supervised(path, thread=1, verbose=0, **one["settings"])
    except RuntimeError:
        return None
    return {"seconds": time.process_time() - start, "scores": scores(model.f, one["test"], one["label"])}


def trained(one: dict[str, Any], folder: str) -> dict[str, Any]:
    path = Path(folder) / "train.txt"
    path.write_text("".join(f"__label__{label} {line(text)}" for label, text in one["train"]))
    # Each in a process of its own, whose memory is still empty.
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        found = [pool.apply(train, (str(path), one)) for _ in range(RUNS)]
    runs = [run for run in found if run]
    if not runs:
        raise SystemExit(f"fastText failed {RUNS} times")
    return {"runs": runs, "failed": RUNS - len(runs)}


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as folder:
        sets = {name: trained(one, folder) for name, one in task["sets"].items()}
    library = fasttext.FastText._FastText(task["model"]).f
    seconds, found = [], []
    for _ in range(task["rounds"]):
        start = time.process_time()
        found = scores(library, task["documents"], task["label"])
        seconds.append(time.process_time() - start)
    Path(sys.argv[2]).write_text(json.dumps({"sets": sets, "scores": found, "seconds": min(seconds)}))


if __name__ == "__main__":
    main()
