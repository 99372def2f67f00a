"""Near-duplicates against what is known to be alike: brute force, people's labels, clones of source files, one template.

    python benchmarks/bench_near_gold.py [--part brute|labels|clones|template ...] [--data .data] [--peers DIR | --no-peers] [--only WORD]
                                          [--json FILE]

brute     10,000 real documents (pages, questions, Reddit, chapters, source files) and 2,500 copies edited to a likeness of 0.5 to 0.99,
          drawn anew for each of --seeds seeds. All pairs are compared exactly, without codedev's code (gold/exact.py). Precision: of the
          dropped, those at least as like as 0.8 to the document they name, which must have stayed. Recall: of what a greedy pass over all
          pairs in the same order drops (`alike`; `as found`: of these no edited copies), also by how like they are. left: documents that
          stay though one before them that stays is as like.
labels    copycat's pairs of pages, judged by a person from 3 (the same) to 0.5; McCormick's articles with their copies; Clough and
          Stevenson's answers copied, revised lightly or heavily, or written alone. Share of the pairs of each level that is joined.
clones    real Python files and what renaming, reformatting, reordering and the syntax tree make of them.
template  100,000 documents of one frame. lost: dropped though less than 0.8 alike with the document kept in their place.

Beside them text-dedup 0.4.0 (PyPI's last; it verifies nothing), datasketch's LSH and datatrove, with five words to a shingle. `exact` rows
are what comparing all pairs would give. DIR is a virtual environment with the peers, made where there is none. A quarter of an hour of one
core, half of it the peers'; without them the parts take five minutes, one, two and one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS"), "1"))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _bench import clock, machine, peers_python, write_json
from gold.contenders import BARE, OURS, PACKAGES, PEERS, Answers, ours, peers, survivors
from gold.exact import all_pairs, greedy, jaccard, shingle_sets
from gold.texts import Gold, Text, cloned, labelled, mixture, pool, templated, vocabulary

VERIFY = 0.8
SHORT = {  # the kinds of change of minhash_clones.py at the head of a column
    "reformatted (indent, blanks, CRLF)": "reformatted",
    "comment lines removed": "no comments",
    "functions and classes reordered": "reordered",
    "through the syntax tree": "syntax tree",
    "1 identifier in 100 renamed": "1/100 renamed",
    "1 identifier in 20 renamed": "1/20 renamed",
    "1 identifier in 5 renamed": "1/5 renamed",
    "all identifiers renamed": "all renamed",
}
Row = dict[str, Any]
Ask = Callable[[Mapping[str, Sequence[str]], Mapping[str, str], Callable[[str], bool]], tuple[Answers, dict[str, float]]]


# -- brute force -----------------------------------------------------------------------------------------------------------------------


def brute(arguments: argparse.Namespace, work: Path, ask: Ask) -> list[Row]:
    documents = pool(arguments.data.absolute(), work)
    print("pool:", ", ".join(f"{len(texts)} {name}" for name, texts in documents.items()), file=sys.stderr)
    names = (
        "documents",
        "alike",
        "as found",
        "dropped",
        "precision",
        "recall",
        "0.8-0.85",
        "0.85-0.9",
        "0.9-1",
        "not by brute",
        "left",
        "CPU s",
    )
    print(f"{'brute force':<48}" + "".join(f"{name:>13}" for name in names))
    rows: list[Row] = []
    for seed in range(arguments.seeds):
        texts = mixture(documents, arguments.documents, seed)
        before = clock().cpu
        texts, found = build_of(texts, work / f"seed-{seed}", seed)
        seconds = clock().cpu - before
        sets = shingle_sets([one.text for one in texts], ["code" if one.kind == "code" else "words" for one in texts])
        pairs = all_pairs(sets, VERIFY)
        reference = greedy(len(sets), *pairs)
        as_found = sum(texts[row].planted == 0 for row in np.flatnonzero(reference[0] != np.arange(len(texts))))
        figures = {"seed": seed, "as_found": as_found}
        rows.append({"part": "brute", "contender": "codedev", **figures, **judged(found, sets, reference, pairs), "cpu_s": seconds})
        _print_brute(rows[-1])
        if seed == 0:
            answers, spent = ask({"brute": [one.text for one in texts]}, {}, lambda name: not name.startswith("codedev"))
            for name, answer in answers.items():
                rows.append({"part": "brute", "contender": name, **figures, **judged(answer["brute"], sets, reference, pairs)})
                rows[-1]["cpu_s"] = spent[name]
                _print_brute(rows[-1])
    mine = [row for row in rows if row["contender"] == "codedev"]
    least = {key: min(row[key] for row in mine) for key in ("precision", "recall")}
    print(f"codedev, least of {len(mine)} seeds: precision {least['precision']:.4f}, recall {least['recall']:.4f}")
    return rows


def build_of(texts: Sequence[Text], work: Path, seed: int) -> tuple[list[Text], np.ndarray]:
    """(the texts as the build has them, survivors): prose and code are sources of their own, as their shingles are made of other things."""
    from codedev.corpus import recipe as recipes
    from codedev.corpus.build import build

    work.mkdir()
    sources = []
    kinds = ["code" if one.kind == "code" else "web" for one in texts]
    for kind in ("web", "code"):
        chosen = [row for row, one in enumerate(kinds) if one == kind]
        table = pa.table({"id": [f"{row:08d}" for row in chosen], "text": pa.array([texts[row].text for row in chosen], pa.large_string())})
        pq.write_table(table, work / f"{kind}.parquet")
        sources.append(
            {"name": kind, "type": "tables", "paths": [f"{kind}.parquet"], "text": "text", "kind": kind, "columns": {"id": "id"}}
        )
    recipe = {"name": "gold", "sources": sources, "dedup": {"exact": {}, "minhash": {"seed": seed}}}
    build(recipes.check(recipe, "gold"), work, work / "out", workers=1, memory=2 << 30)
    made = list(texts)
    lost: dict[int, int] = {}
    seen = 0
    for folder in ("documents", "dropped"):
        for path in sorted((work / "out" / folder).rglob("*.parquet")):
            columns = ["id", "text", *(("stage", "evidence") if folder == "dropped" else ())]
            for row in pq.read_table(path, columns=columns).to_pylist():
                number = int(row["id"].rpartition(":")[2])
                made[number] = texts[number]._replace(text=row["text"])
                seen += 1
                if folder == "dropped":
                    assert row["stage"] in ("exact", "near"), row["stage"]
                    lost[number] = int(json.loads(row["evidence"])["duplicate_of"].rpartition(":")[2])  # ids end in the numbers of the rows
    assert seen == len(texts), f"{seen} of {len(texts)} documents came back"
    return made, survivors(len(texts), list(lost), list(lost.values()))


def judged(
    found: np.ndarray, sets: Sequence[np.ndarray], reference: tuple[np.ndarray, np.ndarray], pairs: tuple[np.ndarray, ...]
) -> dict[str, float]:
    """The figures of one answer beside the greedy pass over all pairs."""
    places = np.arange(len(sets))
    gone, expected = found != places, reference[0] != places
    share = np.array([jaccard(sets[row], sets[found[row]]) for row in np.flatnonzero(gone)])
    named_stay = ~gone[found[gone]]
    later, earlier, _ = pairs
    both_stay = ~gone[later] & ~gone[earlier]
    bins = {}
    for low, high in ((0.8, 0.85), (0.85, 0.9), (0.9, 1.01)):
        inside = expected & (reference[1] >= low) & (reference[1] < high)
        bins[f"recall_{low}"] = float(gone[inside].mean()) if inside.any() else float("nan")
    return {
        "documents": len(sets),
        "alike": int(expected.sum()),
        "dropped": int(gone.sum()),
        "precision": float(((share >= VERIFY) & named_stay).mean()) if gone.any() else 1.0,
        "recall": float(gone[expected].mean()) if expected.any() else 1.0,
        **bins,
        "not_by_brute": int((gone & ~expected).sum()),
        "left": len(np.unique(later[both_stay])),
    }


def _print_brute(row: Row) -> None:
    title = f"{row['contender']}, seed {row['seed']}"
    shares = [row[name] for name in ("precision", "recall", "recall_0.8", "recall_0.85", "recall_0.9")]
    cells = [f"{row[name]:>13}" for name in ("documents", "alike", "as_found", "dropped")] + [f"{share:>13.4f}" for share in shares]
    print(f"{title:<48}" + "".join(cells) + f"{row['not_by_brute']:>13}{row['left']:>13}{row['cpu_s']:>13.1f}", flush=True)


# -- labels ----------------------------------------------------------------------------------------------------------------------------


def labels(arguments: argparse.Namespace, work: Path, ask: Ask) -> list[Row]:
    sets = dict(labelled(arguments.data))
    answers, _ = ask({name: gold.texts for name, gold in sets.items()}, {}, lambda _: True)
    rows: list[Row] = []
    for name, gold in sets.items():
        counts = {level: sum(one[2] == level for one in gold.pairs) for level in gold.levels}
        print(
            f"{name:<40}" + "".join(f"{f'{level} ({count})':>16}" for level, count in counts.items()) + f"{'precision':>16}{'recall':>10}"
        )
        shingles = shingle_sets(gold.texts, ["words"] * len(gold.texts))
        for title, level in (("exact J >= 0.8", 0.8), ("exact J >= 0.5", 0.5)):
            later, earlier, _ = all_pairs(shingles, level)
            joined = set(zip(earlier.tolist(), later.tolist(), strict=True))
            rows.append({"part": "labels", "set": name, "contender": title, **levels_of(gold, joined)})
            _print_levels(rows[-1])
        for title, answer in answers.items():
            rows.append({"part": "labels", "set": name, "contender": title, **levels_of(gold, joined_by(answer[name]))})
            _print_levels(rows[-1])
    return rows


def joined_by(survivor: np.ndarray) -> set[tuple[int, int]]:
    clusters: dict[int, list[int]] = {}
    for row in np.flatnonzero(np.bincount(survivor, minlength=len(survivor))[survivor] > 1).tolist():
        clusters.setdefault(int(survivor[row]), []).append(row)
    return {pair for rows in clusters.values() for pair in itertools.combinations(rows, 2)}


def levels_of(gold: Gold, joined: set[tuple[int, int]]) -> dict[str, Any]:
    """Share of each level's pairs that is joined; of the joined that were judged the duplicates; of the duplicates the joined."""
    pairs = {(min(one, other), max(one, other)): level for one, other, level in gold.pairs}
    told: dict[str, list[bool]] = {level: [] for level in gold.levels}
    for pair, level in pairs.items():
        told[level].append(pair in joined)
    right = sum(sum(told[level]) for level in gold.levels[: gold.alike])
    wrong = sum(sum(told[level]) for level in gold.levels[gold.alike :] if level != "unknown")
    wrong += len(joined - set(pairs)) if gold.closed else 0
    return {
        "levels": {level: float(np.mean(found)) for level, found in told.items()},
        "precision": right / (right + wrong) if right + wrong else float("nan"),
        "recall": right / sum(len(told[level]) for level in gold.levels[: gold.alike]),
    }


def _print_levels(row: Row) -> None:
    cells = "".join(f"{share:>16.3f}" for share in row["levels"].values())
    print(f"  {row['contender']:<38}{cells}{row['precision']:>16.3f}{row['recall']:>10.3f}", flush=True)


# -- clones ----------------------------------------------------------------------------------------------------------------------------


def clones(arguments: argparse.Namespace, work: Path, ask: Ask) -> list[Row]:
    files, changed = cloned(arguments.data, arguments.files)
    count = len(files)
    sets = {kind: [*files, *copies] for kind, copies in changed.items()}
    answers, seconds = ask(sets, dict.fromkeys(sets, "code"), lambda _: True)
    shingles = {kind: shingle_sets(texts, ["code"] * len(texts)) for kind, texts in sets.items()}
    print(
        f"clones of {count} files, share found".ljust(40) + "".join(f"{SHORT.get(kind, kind):>15}" for kind in sets) + f"{'precision':>11}"
    )
    rows: list[Row] = []
    for unit in ("code", "words"):
        made = shingles if unit == "code" else {kind: shingle_sets(texts, ["words"] * len(texts)) for kind, texts in sets.items()}
        found = {kind: [jaccard(one[at], one[count + at]) >= VERIFY for at in range(count)] for kind, one in made.items()}
        title = f"exact J >= 0.8, {'tokens of code' if unit == 'code' else 'words'}"
        rows.append({"part": "clones", "contender": title, "levels": {kind: float(np.mean(shares)) for kind, shares in found.items()}})
        _print_clones(rows[-1])
    for name, answer in answers.items():
        shares, right = {}, []
        for kind, survivor in answer.items():
            shares[kind] = float((survivor[:count] == survivor[count:]).mean())
            for row in np.flatnonzero(survivor != np.arange(2 * count)).tolist():
                to = int(survivor[row])
                right.append(row % count == to % count or jaccard(shingles[kind][row], shingles[kind][to]) >= VERIFY)
        row = {"part": "clones", "contender": name, "levels": shares, "precision": float(np.mean(right)), "dropped": len(right)}
        rows.append({**row, "cpu_s": seconds[name]})
        _print_clones(rows[-1])
    return rows


def _print_clones(row: Row) -> None:
    precision = f"{row['precision']:>11.4f}" if "precision" in row else ""
    print(f"  {row['contender']:<38}" + "".join(f"{share:>15.3f}" for share in row["levels"].values()) + precision, flush=True)


# -- template --------------------------------------------------------------------------------------------------------------------------


def template(arguments: argparse.Namespace, work: Path, ask: Ask) -> list[Row]:
    texts, kinds = templated(vocabulary(arguments.data), arguments.templated, 0)
    shingles = shingle_sets(texts, ["words"] * len(texts))
    answers, seconds = ask({"template": texts}, {}, lambda name: "default" in name or " 0.8, " in name)
    print(
        f"{f'{len(texts):,} documents of one frame':<40}"
        + "".join(f"{name:>12}" for name in ("dropped", "lost", "least J", "again found", "CPU s"))
    )
    rows: list[Row] = []
    for name, answer in answers.items():
        survivor = answer["template"]
        gone = np.flatnonzero(survivor != np.arange(len(texts)))
        shares = np.array([jaccard(shingles[row], shingles[survivor[row]]) for row in gone.tolist()])
        again = kinds["again"]
        found = sum(survivor[row] != row for row in again) / max(1, len(again))
        lost = {kind: int((shares[np.isin(gone, members)] < VERIFY).sum()) for kind, members in kinds.items()}
        row = {"part": "template", "contender": name, "documents": len(texts), "dropped": len(gone), "lost": sum(lost.values())}
        rows.append({**row, "lost_by_kind": lost, "least": float(shares.min(initial=1)), "again_found": found, "cpu_s": seconds[name]})
        row = rows[-1]
        print(f"  {name:<38}{row['dropped']:>12}{row['lost']:>12}{row['least']:>12.3f}{found:>12.3f}{row['cpu_s']:>12.1f}", flush=True)
    return rows


PARTS = {"brute": brute, "labels": labels, "clones": clones, "template": template}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="may be repeated; default all")
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--documents", type=int, default=10_000, help="real ones of each seed")
    parser.add_argument("--files", type=int, default=200, help="source files to clone")
    parser.add_argument("--templated", type=int, default=100_000)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "codedev-near-peers")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--only", default="", help="contenders whose name holds this word")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    described = machine()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="codedev-gold-") as folder:
        python = None if arguments.no_peers else peers_python(arguments.peers, PACKAGES, BARE)
        numbers = itertools.count()

        def ask(
            sets: Mapping[str, Sequence[str]], kinds: Mapping[str, str], wanted: Callable[[str], bool]
        ) -> tuple[Answers, dict[str, float]]:
            work = Path(folder) / f"asked-{next(numbers)}"
            chosen = [name for name in (*OURS, *PEERS) if wanted(name) and arguments.only in name]
            answers, seconds = ours(sets, work, kinds, chosen)
            if python:
                theirs, spent = peers(sets, work, python, chosen)
                answers, seconds = {**answers, **theirs}, {**seconds, **spent}
            return answers, seconds

        for name in arguments.part or PARTS:
            rows += PARTS[name](arguments, Path(folder), ask)
            print()
    if arguments.json:
        options = {name: getattr(arguments, name) for name in ("part", "seeds", "documents", "files", "templated", "no_peers", "only")}
        told = [
            {key: None if value != value else value for key, value in row.items()} for row in rows
        ]  # no share of nothing: JSON has no NaN
        write_json(arguments.json, "near_gold", described, options, told)


if __name__ == "__main__":
    main()
