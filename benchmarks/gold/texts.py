"""What duplicates are looked for in: real documents with copies edited to every likeness, labelled sets, clones of files, one template."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

# Of 10,000 real documents so many, and how they are read; kinds whose words are compared, then code.
REAL: dict[str, tuple[float, dict[str, Any]]] = {
    "web": (0.10, {"type": "web", "paths": ["web/adbar__trafilatura", "web/scrapinghub*", "web/mozilla__readability", "web/**/*.warc.gz"]}),
    "stackexchange": (0.11, {"type": "stackexchange", "paths": ["stackexchange"]}),
    "reddit": (0.33, {"type": "reddit", "paths": ["reddit"]}),
    "books": (0.23, {"type": "books", "paths": ["books"], "split": "chapter"}),
    "code": (0.23, {"type": "code", "paths": ["code/*"], "languages": ["Python", "C", "Go", "Ruby", "JavaScript"]}),
}
LEAST, MOST = 200, 20_000  # characters of a document
LEVELS = (0.5, 0.6, 0.7, 0.75, 0.79, 0.81, 0.83, 0.85, 0.88, 0.91, 0.94, 0.97, 0.99)


class Text(NamedTuple):
    text: str
    kind: str  # a key of REAL
    planted: float  # how like its original it was meant to be; 0 = a document as it was found


def pool(data: Path, work: Path) -> dict[str, list[str]]:
    """Source -> its documents, as codedev reads them from the raw files: those of REAL that `data` has. Two minutes of CPU."""
    from codedev.corpus import recipe as recipes
    from codedev.corpus.build import build

    found: dict[str, list[str]] = {}
    for name, (_, source) in REAL.items():
        out = work / f"pool-{name}"
        paths = [path for path in source["paths"] if any(data.glob(path))]
        if not paths:
            continue
        recipe = {"name": "pool", "sources": [{"name": name, **source, "paths": paths}]}
        build(recipes.check(recipe, "pool"), data, out, workers=1, memory=2 << 30)
        tables = sorted((out / "documents").rglob("*.parquet"))
        texts = itertools.chain.from_iterable(pq.read_table(path, columns=["text"]).column("text").to_pylist() for path in tables)
        found[name] = [text for text in texts if LEAST <= len(text) <= MOST]
    return found


def mixture(documents: dict[str, list[str]], count: int, seed: int) -> list[Text]:
    """`count` real documents and a quarter more of edited copies, shuffled; code comes last."""
    rng = random.Random(seed)
    chosen = [
        Text(text, name, 0)
        for name, (share, _) in REAL.items()
        if name in documents
        for text in rng.sample(documents[name], min(len(documents[name]), round(share * count)))
    ]
    for original in rng.choices(chosen, k=count // 4):
        level = rng.choice(LEVELS)
        chosen.append(Text(edited(original.text, level, rng), original.kind, level))
    rng.shuffle(chosen)
    return sorted(chosen, key=lambda one: one.kind == "code")


_PIECE = re.compile(r"\s*\S+")


def edited(text: str, level: float, rng: random.Random) -> str:
    """A copy of about that likeness by shingles of five words: words replaced by others of the text, a run of it left out, another put in,
    its parts in another order, its figures changed or all of these."""
    pieces = _PIECE.findall(text)
    kind = rng.choice(("words", "words", "cut", "insert", "order", "mixed"))
    if kind == "mixed":
        return edited(edited(text, math.sqrt(level), rng), math.sqrt(level), rng)
    shared = 2 * level / (1 + level)  # of the shingles of either
    if kind == "words":
        share = 1 - shared ** (1 / 5)
        pieces = [rng.choice(pieces) if rng.random() < share else piece for piece in pieces]
    elif kind == "cut":
        length = round((1 - level) * len(pieces))
        at = rng.randrange(len(pieces) - length + 1)
        del pieces[at : at + length]
    elif kind == "insert":
        length = round((1 / level - 1) * len(pieces))
        strange = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(length)]
        at = rng.randrange(len(pieces) + 1)
        pieces[at:at] = [f" {word}" for word in strange]
    else:
        cuts = max(1, round((1 - shared) * len(pieces) / 4))  # each loses four shingles
        places = sorted(rng.sample(range(1, max(len(pieces), 2)), min(cuts, max(len(pieces) - 1, 1))))
        parts = [pieces[low:high] for low, high in itertools.pairwise([0, *places, len(pieces)])]
        rng.shuffle(parts)
        pieces = list(itertools.chain.from_iterable(parts))
    return "".join(pieces)


# -- labelled sets ---------------------------------------------------------------------------------------------------------------------


class Gold(NamedTuple):
    texts: list[str]
    pairs: list[tuple[int, int, str]]  # (text, text, level)
    levels: tuple[str, ...]  # in the order of the table
    alike: int  # how many of the levels, from the first, are duplicates; "unknown" is neither
    closed: bool = False  # whether pairs that are not listed are no duplicates; else nobody judged them


def labelled(data: Path) -> Iterator[tuple[str, Gold]]:
    base = data / "dedup"
    yield "copycat", _copycat(base / "chatnoir-eu__chatnoir-copycat")
    for size in (100, 1000):
        yield f"articles {size}", _articles(base / "chrisjmccormick__MinHash" / "data" / f"articles_{size}")
    yield "clough-stevenson", _plagiarism(base / "gauravansal__Plagiarism-Detection" / "data")


def _copycat(folder: Path) -> Gold:
    """Pairs of pages with one canonical URL, judged from 0.5 (little in common) to 3 (the same); 45 were left undecided."""
    texts: list[str] = []
    pairs = []
    for label in sorted(folder.rglob("label")):
        said = label.read_text().strip()
        texts += [(label.parent / name).read_text(encoding="utf-8", errors="replace") for name in ("src-doc", "target-doc")]
        pairs.append((len(texts) - 2, len(texts) - 1, "unknown" if said.startswith("unk") else said))
    return Gold(texts, pairs, ("3", "2", "1", "0.5", "unknown"), 2)


def _articles(path: Path) -> Gold:
    rows = [line.split(" ", 1) for line in path.with_suffix(".train").read_text(encoding="utf-8", errors="replace").splitlines()]
    place = {name: at for at, (name, _) in enumerate(rows)}
    truth = [tuple(place[name] for name in line.split()) for line in path.with_suffix(".truth").read_text().splitlines()]
    return Gold([text for _, text in rows], [(one, other, "copied") for one, other in truth], ("copied",), 1, closed=True)


def _plagiarism(folder: Path) -> Gold:
    """Answers of students to five tasks: copied, lightly or heavily revised, or written without the source."""
    texts: list[str] = []
    place, rows = {}, [line.split(",") for line in (folder / "file_information.csv").read_text().split()[1:]]
    for name, *_ in rows:
        place[name] = len(texts)
        texts.append((folder / name).read_bytes().decode("utf-8", "replace"))
    pairs = [(place[f"orig_task{task}.txt"], place[name], level) for name, task, level in rows if level != "orig"]
    return Gold(texts, pairs, ("cut", "light", "heavy", "non"), 3)


# -- clones ----------------------------------------------------------------------------------------------------------------------------


def cloned(data: Path, count: int) -> tuple[list[str], dict[str, list[str]]]:
    """(real Python files, kind of change -> their clones in the same order)."""
    from minhash_clones import CHANGES, sources_of

    files = sources_of(data, count)
    changes = {kind: change for kind, change in CHANGES.items() if kind != "another file"}
    return files, {kind: [change(text, random.Random(row)) for row, text in enumerate(files)] for kind, change in changes.items()}


# -- one template ----------------------------------------------------------------------------------------------------------------------

FRAME, SLOTS, SLOT = 100, 3, 3  # words that all documents share, places between them, words in each


def templated(vocabulary: Sequence[str], count: int, seed: int) -> tuple[list[str], dict[str, list[int]]]:
    """(texts, kind -> their numbers). All have one frame of FRAME words and between its parts what tells them apart.

    topic     other words in every slot: any two are 0.67 alike
    chain     each changes one slot of the one before: 0.88 alike from one to the next, 0.77 after two, 0.67 after three
    figures   the same words with other numbers: 0.58
    again     a topic with another punctuation: the only true duplicates
    """
    rng = random.Random(seed)
    frame = rng.sample(vocabulary, FRAME)
    texts: list[str] = []
    kinds: dict[str, list[int]] = {kind: [] for kind in ("topic", "chain", "figures", "again")}
    slots = [rng.choices(vocabulary, k=SLOT) for _ in range(SLOTS)]
    fixed = [rng.choices(vocabulary, k=SLOT) for _ in range(SLOTS)]
    for row in range(count):
        kind = rng.choices(("topic", "chain", "figures", "again"), (78, 10, 10, 2))[0]
        if kind == "again" and kinds["topic"]:
            text = texts[rng.choice(kinds["topic"])].replace(" ", ", ", 3) + "."
        elif kind == "chain":
            slots[rng.randrange(SLOTS)] = rng.choices(vocabulary, k=SLOT)
            text = _filled(frame, slots)
        elif kind == "figures":
            text = _filled(frame, [[word for pair in zip(words, _numbers(rng), strict=True) for word in pair] for words in fixed])
        else:
            kind = "topic"
            text = _filled(frame, [rng.choices(vocabulary, k=SLOT) for _ in range(SLOTS)])
        kinds[kind].append(row)
        texts.append(text)
    return texts, kinds


def _numbers(rng: random.Random) -> list[str]:
    return [str(rng.randrange(10**6)) for _ in range(SLOT)]


def _filled(frame: Sequence[str], slots: Sequence[Sequence[str]]) -> str:
    size = len(frame) // (len(slots) + 1)
    words = list(itertools.chain.from_iterable([*frame[at * size : (at + 1) * size], *slot] for at, slot in enumerate(slots)))
    return " ".join([*words, *frame[len(slots) * size :]])


def vocabulary(data: Path) -> list[str]:
    """Words of a real book, of source files where there are no books; each once."""
    words: set[str] = set()
    for pattern in ("books/*1342*/*.txt", "books/**/*.txt", "code/**/*.py"):
        for path in sorted(data.glob(pattern)):
            words.update(re.findall(r"[a-z]{3,}", path.read_text(encoding="utf-8", errors="replace").lower()))
            if len(words) >= 5_000:
                return sorted(words)
    return sorted(words)
