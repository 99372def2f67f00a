"""Which blocks of a page are its content: boosted trees over what kernels count of each block, then a few rules that hold units together.

The trees are learnt from pages that people marked (`learn/train.py`); `content_model.npz` holds them and how they were made. Cost: 0.3 ms
for a page of 170 blocks. The rules keep a table, a piece of code or a formula with the text around it, and a heading with what it heads.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from codedev._errors import InputError
from codedev.corpus.extract import page_kind
from codedev.kernels import blockchoice, blockfeatures, htmlblocks, trees
from codedev.kernels.htmlblocks import LINK_WORDS, WORDS, Blocks
from codedev.kernels.htmltape import TAG, Tape

THRESHOLD = 0.55  # of the score: where the article benchmark and trafilatura's segments both do well
_AT_ONCE = 32_768  # blocks whose features are held: 32 MB
_FORMAT = "codedev.content-model/1"
_MOST_BYTES = 64 << 20  # of a model unpacked; the shipped one has 29 kB


class Model(NamedTuple):
    trees: trees.Trees
    recipe: dict[str, Any]  # of what and how it was learnt


class Choice(NamedTuple):
    scores: np.ndarray  # float32[blocks]: what the model gives each
    keep: np.ndarray  # bool[blocks]
    reason: np.ndarray  # uint8[blocks]: index into REASONS


REASONS = blockchoice.REASONS


def choose(tape: Tape, blocks: Blocks, title: str, model: Model | None = None) -> Choice:
    """The content among the blocks of a page. `title`: that of its head."""
    known, number, titles = (model or shipped_model()).trees, len(blocks.first), _titles(title)
    scores = np.empty(number, np.float32)
    for start in range(0, number, _AT_ONCE):
        table = blockfeatures.features(tape, blocks, titles, start, start + _AT_ONCE)
        scores[start : start + _AT_ONCE] = trees.probabilities(known, table)
    keep, reason = blockchoice.choose(tape, blocks, scores, THRESHOLD)
    return Choice(scores, keep, reason)


def features(tape: Tape, blocks: Blocks, title: str) -> np.ndarray:
    """float32[blocks, FEATURES]."""
    return blockfeatures.features(tape, blocks, _titles(title))


def stats(tape: Tape, blocks: Blocks, keep: np.ndarray) -> page_kind.Stats:
    """What the kind of a page is told by."""
    counts, marks = blocks.counts, blocks.marks[blocks.element]
    words, kept = counts[:, WORDS], counts[:, WORDS][keep]
    whole = int(words.sum())
    tags = tape.tag
    shapes = np.sort(blocks.shape[blocks.element])
    ends = np.flatnonzero(shapes[1:] != shapes[:-1])  # of runs of the same shape, but for the last
    runs = np.diff(ends, prepend=-1, append=len(shapes) - 1)
    return page_kind.Stats(
        blocks=int(np.count_nonzero(keep)),
        words=int(kept.sum()),
        words_all=whole,
        link_share=float(counts[:, LINK_WORDS].sum()) / max(1, whole),
        paragraphs=int(np.count_nonzero(kept >= 30)),
        repeated=int(runs.max(initial=0)),
        code=int(np.count_nonzero(tags == TAG["pre"])),
        tables=int(np.count_nonzero(tags == TAG["table"])),
        prices=0,
        posts=int(np.count_nonzero(marks & _POST)),
    )


_POST = np.uint64(sum(1 << bit for bit, group in enumerate(htmlblocks.ELEMENT_MARKS) if group.split()[0] in ("comment", "forum")))
_PARTED = re.compile(r"\s+[-|–—·:»«/]+\s+|: |\s*\|\s*")
_MOST_PARTS = 8


def _titles(title: str) -> np.ndarray:
    """Hashes of what a heading may say of a title such as `Heading - Section | Site`."""
    parts = _PARTED.split(title[:1000])[:_MOST_PARTS]
    said = [
        title,
        *(" ".join(parts[:end]) for end in range(1, len(parts))),
        *parts[1:],
        *(" ".join(parts[at:]) for at in range(1, len(parts))),
    ]
    return np.array([htmlblocks.hash_of(text) for text in dict.fromkeys(said) if len(text.strip()) > 3], np.uint64)


def save(model: Model, path: Path) -> None:
    recipe = np.frombuffer(orjson.dumps({"format": _FORMAT, "features": blockfeatures.FEATURES, **model.recipe}), np.uint8)
    with path.open("wb") as file:
        np.savez_compressed(file, recipe=recipe, **model.trees._asdict())


def load(path: Path) -> Model:
    """The model in a file; InputError where it is none, or was learnt from other features than these."""
    try:
        with zipfile.ZipFile(path) as file:
            if sum(member.file_size for member in file.infolist()) > _MOST_BYTES:
                raise ValueError(f"it unpacks to more than {_MOST_BYTES >> 20} MB")
            held = {name: _array(file, name) for name in ("recipe", *trees.Trees._fields)}
        recipe = orjson.loads(held.pop("recipe").tobytes())
        model = trees.Trees(**held)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: is no content model: {' '.join(str(error).split())}") from None
    if not isinstance(recipe, dict) or not isinstance(recipe.get("features"), list):
        raise InputError(f"{path}: is no content model: its recipe names no features")
    if recipe.get("format") != _FORMAT or tuple(recipe.pop("features")) != blockfeatures.FEATURES:
        raise InputError(f"{path}: was learnt from other features; learn it again with `codedev corpus learn-extractor`")
    try:
        trees.check(model, len(blockfeatures.FEATURES))
    except ValueError as error:
        raise InputError(f"{path}: is no content model: {error}") from None
    return Model(model, recipe)


def _array(file: zipfile.ZipFile, name: str) -> np.ndarray:
    with file.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


@cache
def shipped_model() -> Model:
    return load(Path(str(files("codedev.corpus.extract") / "content_model.npz")))
