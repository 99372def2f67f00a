"""Learned quality and toxicity: accuracy on held-out documents and speed, beside the fastText package in the same run.

    python benchmarks/bench_learned.py [--data .data] [--peers DIR] [--rounds 5] [--json FILE]

Classifiers, each trained by both on the same texts with the same settings (one thread; of fastText, whose training is unsteady, the best of
five by what is held out), precision and recall at the threshold 0.5 and at that of the best F1, on texts that neither has seen:

    books     books against forum posts; held out: a book and three forums of which nothing was learnt
    surge     surge-ai's toxicity set, a fifth held out by the hash of the id
    davidson  t-davidson's hate speech and offensive language against neither, a fifth held out by the hash of the id

Speed is MB a CPU second over documents of 4,000 characters, one thread, the quicker of the rounds, lower-casing included. Word lists
(LDNOOBW, surge-ai's profanity) are counted on all of the toxicity sets: nothing is learnt from them; the floor is Python's `re` with all
words as one pattern. Perplexity is of an order-5 model of one book: the same book's held-out paragraphs, another book, shuffled words.
DIR is a virtual environment with the peer, made where there is none.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _bench import machine, peers_python, write_json

from codedev import _recipe
from codedev.corpus import toxicity
from codedev.corpus.learned import classifier, perplexity
from codedev.corpus.learned.config import ClassifierTraining, Learned, PerplexityTraining
from codedev.corpus.learned.documents import is_held_out, passages
from codedev.corpus.learned.figures import at_threshold, figures

HERE = Path(__file__).parent
PACKAGES = ("fasttext-numpy2-wheel",)
GITENBERG = {
    "learnt": ("Moby-Dick--Or-The-Whale_2701/2701-0.txt", "Alice-s-Adventures-in-Wonderland_11/11-0.txt"),
    "held_out": ("Pride-and-Prejudice_1342/1342-0.txt",),
}
FORUMS = "reddit/umbrae__reddit-top-2.5-million/data"
UNSEEN_FORUMS = ("truegaming", "philosophy", "talesfromtechsupport")
LDNOOBW = "pii/LDNOOBW__List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words/en"
PROFANITY = "pii/surge-ai__profanity/profanity_en.csv"

Labelled = list[tuple[str, bool, bool]]  # text, positive, held out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / ".data", help="folder of the real data")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "codedev-learned-peers", metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5, help="the quickest counts (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    arguments = parser.parse_args()
    facts = machine()
    if not (arguments.data / "pii").is_dir():
        raise SystemExit(f"{arguments.data}: no such folder. Name that of the real data with --data")
    sets = {"books": _books(arguments.data), "surge": _surge(arguments.data), "davidson": _davidson(arguments.data)}
    with tempfile.TemporaryDirectory() as folder:
        rows = _classifiers(sets, arguments, Path(folder))
    rows += _lists(arguments.data, sets, arguments.rounds)
    rows += _perplexity(arguments.data, arguments.rounds)
    if arguments.json:
        write_json(arguments.json, "learned", facts, {"rounds": arguments.rounds}, rows)


def _books(data: Path) -> Labelled:
    found: Labelled = []
    for part, names in GITENBERG.items():
        for name in names:
            text = (data / "books" / f"GITenberg__{name}").read_text("utf-8")
            found += [(passage, True, part == "held_out") for passage in passages(text, 2000)]
    for path in sorted((data / FORUMS).glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            texts = [row["selftext"] for row in csv.DictReader(file)]
        found += [(text[:2000], False, path.stem in UNSEEN_FORUMS) for text in texts if len(text) > 200]
    return found


def _surge(data: Path) -> Labelled:
    return _table(data / "pii/surge-ai__toxicity/toxicity_en.csv", "text", lambda row: row["is_toxic"] == "Toxic")


def _davidson(data: Path) -> Labelled:
    path = data / "pii/t-davidson__hate-speech-and-offensive-language/data/labeled_data.csv"
    return _table(path, "tweet", lambda row: row["class"] != "2")


def _table(path: Path, column: str, positive: Callable[[dict[str, str]], bool]) -> Labelled:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = {row[column]: positive(row) for row in rows}  # each text once: none is on both sides of the split
    return [(text, label, is_held_out(text, 0.2)) for text, label in texts.items()]


def _classifiers(sets: dict[str, Labelled], arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    side = [{"source": {}}]
    config = _recipe.check({"positive": side, "negative": side, "bucket": 200_000, "rate": 0.3, "epochs": 5}, ClassifierTraining, "bench")
    settings = {"dim": config.dim, "lr": config.rate, "epoch": config.epochs, "wordNgrams": config.word_ngrams, "bucket": config.bucket}
    task: dict[str, Any] = {"sets": {}, "rounds": arguments.rounds, "label": "hq", "model": str(folder / "books.bin")}
    ours: dict[str, tuple[np.ndarray, float]] = {}
    for name, rows in sets.items():
        learnt = [[text for text, positive, held_out in rows if positive == side and not held_out] for side in (True, False)]
        tests = [text for text, _, held_out in rows if held_out]
        classifier.fit(learnt[0][:20], learnt[1][:20], config)  # the kernel is read from its cache
        start = time.process_time()
        (folder / f"{name}.bin").write_bytes(classifier.fit(learnt[0], learnt[1], config))
        spent = time.process_time() - start
        ours[name] = (_scorer(folder / f"{name}.bin").score(pa.array(tests, pa.large_string())), spent)
        train = [("hq", text) for text in learnt[0]] + [("cc", text) for text in learnt[1]]
        random.Random(0).shuffle(train)
        task["sets"][name] = {"train": train, "test": tests, "label": "hq", "settings": settings}
    task["documents"] = _documents(arguments.data)
    (folder / "task.json").write_text(json.dumps(task))
    subprocess.run(
        [peers_python(arguments.peers, PACKAGES), HERE / "peers/learned.py", folder / "task.json", folder / "out.json"],
        check=True,
        stderr=sys.stderr,
    )
    peer = json.loads((folder / "out.json").read_text())
    print(
        f"{'classifier':10}{'':10}{'learnt':>8}{'held out':>9}{'AUC':>8}"
        + 2 * f"{'at':>7}{'prec.':>8}{'recall':>8}{'F1':>8}"
        + f"{'train s':>9}"
    )
    found = []
    for name, rows in sets.items():
        truth = np.array([positive for _, positive, held_out in rows if held_out])
        runs = [(np.array(run["scores"]), run["seconds"]) for run in peer["sets"][name]["runs"]]
        aucs = [figures(scores, truth)["auc"] for scores, _ in runs]
        print(
            f"{name}: {len(runs)} trainings by fastText, AUC {min(aucs):.4f} to {max(aucs):.4f}, {peer['sets'][name]['failed']} more failed"
        )
        for who, (scores, spent) in (("codedev", ours[name]), ("fastText", runs[int(np.argmax(aucs))])):
            known = figures(scores, truth)
            row = {
                "name": name,
                "by": who,
                "learnt": len(rows) - len(truth),
                "held_out": len(truth),
                "auc": known["auc"],
                "train_cpu_s": spent,
            }
            row |= {"failed": peer["sets"][name]["failed"], "least_auc": min(aucs)} if who == "fastText" else {}
            row |= {"half": at_threshold(scores, truth, 0.5), "best": known["best"]}
            cells = "".join(
                f"{at['threshold']:7.2f}{at['precision']:8.3f}{at['recall']:8.3f}{at['f1']:8.3f}" for at in (row["half"], row["best"])
            )
            print(f"{name:10}{who:10}{row['learnt']:8}{row['held_out']:9}{row['auc']:8.4f}{cells}{spent:9.2f}")
            found.append(row)
    return [*found, _scoring(task, peer, folder, arguments.rounds)]


def _scoring(task: dict[str, Any], peer: dict[str, Any], folder: Path, rounds: int) -> dict[str, Any]:
    texts = pa.array(task["documents"], pa.large_string())
    scorer = _scorer(folder / "books.bin")
    apart = float(np.abs(scorer.score(texts) - np.minimum(peer["scores"], 1)).max())
    seconds = min(_seconds(lambda: scorer.score(texts)) for _ in range(rounds))
    megabytes = sum(len(text.encode()) for text in task["documents"]) / 1e6
    row = {
        "name": "scoring",
        "mb_s": megabytes / seconds,
        "peer_mb_s": megabytes / peer["seconds"],
        "ratio": peer["seconds"] / seconds,
        "apart": apart,
    }
    print(f"\nscoring, {len(texts)} documents of {megabytes:.1f} MB: {row['mb_s']:.1f} MB/s, fastText {row['peer_mb_s']:.1f}: ", end="")
    print(f"{row['ratio']:.1f} times; ", end="")
    print(f"largest difference of a score {apart:.1e}")
    return row


def _scorer(path: Path) -> classifier.Scorer:
    return classifier.scorer(Learned(model=str(path), lower=True))


def _documents(data: Path) -> list[str]:
    texts = [path.read_bytes()[: 1 << 22].decode("utf-8", "replace") for path in sorted(data.glob("books/GITenberg*/*-0.txt"))]
    return [text[n : n + 4000] for text in texts for n in range(0, len(text) - 4000, 4000)]


def _lists(data: Path, sets: dict[str, Labelled], rounds: int) -> list[dict[str, Any]]:
    with (data / PROFANITY).open(encoding="utf-8", newline="") as file:
        profanity = [row["text"].lower() for row in csv.DictReader(file)]
    lists = {
        "LDNOOBW": [line.strip().lower() for line in (data / LDNOOBW).read_text().splitlines() if line.strip()],
        "profanity": profanity,
    }
    texts = _documents(data)
    array, megabytes = pa.array(texts, pa.large_string()), sum(len(text.encode()) for text in texts) / 1e6
    print(
        f"\n{'word list':12}{'phrases':>8}{'MB/s':>8}{'re MB/s':>9}"
        + "".join(f"{name + ' prec.':>16}{'recall':>8}" for name in ("surge", "davidson"))
    )
    rows = []
    for name, phrases in lists.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "list").write_text("\n".join(phrases))
            words = toxicity.read_list(("list",), Path(folder))
        seconds = min(_seconds(lambda words=words: toxicity.per_thousand(words, array)) for _ in range(rounds))
        pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(phrases, key=len, reverse=True))) + r")\b")
        some = texts[: max(1, len(texts) // 20)]
        slow = (
            _seconds(lambda pattern=pattern, some=some: [len(pattern.findall(text.lower())) for text in some])
            / len("".join(some).encode())
            * 1e6
        )
        row: dict[str, Any] = {"name": name, "phrases": len(phrases), "mb_s": megabytes / seconds, "re_mb_s": 1 / slow}
        cells = ""
        for title in ("surge", "davidson"):
            scores = toxicity.per_thousand(words, pa.array([text for text, _, _ in sets[title]], pa.large_string()))
            row[title] = at_threshold(np.nan_to_num(scores), np.array([positive for _, positive, _ in sets[title]]), 1e-9)
            cells += f"{row[title]['precision']:16.3f}{row[title]['recall']:8.3f}"
        print(f"{name:12}{len(phrases):8}{row['mb_s']:8.1f}{row['re_mb_s']:9.2f}{cells}")
        rows.append(row)
    return rows


def _perplexity(data: Path, rounds: int) -> list[dict[str, Any]]:
    books = {}
    for part, names in GITENBERG.items():
        paragraphs = (data / "books" / f"GITenberg__{names[0]}").read_text("utf-8").split("\n\n")
        books[part] = [paragraph.replace("\n", " ") for paragraph in paragraphs if len(paragraph) > 80]
    own, other = books["held_out"], books["learnt"]
    learnt, held_out = [text for n, text in enumerate(own) if n % 10], own[::10]
    config = _recipe.check({"texts": [{"source": {}}]}, PerplexityTraining, "benchmark")
    perplexity.fit(learnt[:20], held_out, config)
    start = time.process_time()
    trained = perplexity.fit(learnt, held_out, config)
    spent = time.process_time() - start
    rng = random.Random(0)
    shuffled = [" ".join(rng.sample(text.split(), len(text.split()))) for text in held_out]
    of = {"learnt": learnt, "held out": held_out, "another book": other, "shuffled words": shuffled}
    medians = {
        name: float(np.nanmedian(perplexity.perplexities(trained.model, pa.array(part, pa.large_string())))) for name, part in of.items()
    }
    texts = pa.array(_documents(data), pa.large_string())
    seconds = min(_seconds(lambda: perplexity.perplexities(trained.model, texts)) for _ in range(rounds))
    megabytes = sum(len(text.encode()) for text in texts.to_pylist()) / 1e6
    grams = int(np.count_nonzero(trained.model.marks))
    row = {
        "name": "perplexity",
        "medians": medians,
        "ngrams": grams,
        "bytes": 6 * len(trained.model.marks),
        "train_cpu_s": spent,
        "mb_s": megabytes / seconds,
    }
    print("\nmedian perplexity: " + ", ".join(f"{name} {value:.0f}" for name, value in medians.items()))
    print(f"order 5, {grams:,} n-grams in {row['bytes'] / 1e6:.1f} MB, trained in {spent:.2f} s, scored at {row['mb_s']:.1f} MB/s")
    return [row]


def _seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
