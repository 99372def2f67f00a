"""`codedev corpus learn-extractor`: from marked pages to the trees of `content.py`.

LightGBM learns, of each block, the share of it that is content. Pages are tested in folds that part no site: a page is scored by trees that
saw no page of its site. The shipped file is learnt from all pages, in three minutes on two cores; the same pages, versions and seed give
the same file.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from codedev._errors import InputError
from codedev._run import Progress, no_progress
from codedev.corpus.extract import content, html
from codedev.corpus.extract.learn import gold, label, metrics
from codedev.kernels import blockfeatures, trees
from codedev.kernels.htmlblocks import Blocks
from codedev.kernels.htmltape import Tape

SETS = ("article_benchmark", "trafilatura", "readability", "llm_webkit", "webmainbench")
PARAMETERS = {
    "objective": "cross_entropy", "learning_rate": 0.06, "max_depth": trees.DEPTH, "num_leaves": 1 << trees.DEPTH, "min_data_in_leaf": 40,
    "feature_fraction": 0.4, "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 5, "max_bin": 127, "seed": 1, "deterministic": True,
    "force_row_wise": True, "num_threads": 2, "verbosity": -1,
}  # fmt: skip
ROUNDS = 160


class Marked(NamedTuple):
    """A gold page as the extractor sees it."""

    page: gold.GoldPage
    tape: Tape
    blocks: Blocks
    title: str
    features: np.ndarray
    texts: list[str]  # of the blocks
    labels: label.Labels


class Learnt(NamedTuple):
    model: content.Model
    folds: list[content.Model]  # number k saw no page of fold k; empty where none were asked for
    scores: dict[str, metrics.Scores]  # of the article benchmark: those of the folds


def read(web: Path, progress: Progress = no_progress) -> list[Marked]:
    """The gold pages below `web` that hold any text. InputError where there are none, or a set is not whole."""
    pages = [page for name in SETS for page in _pages_of(web, name)]
    if not pages:
        raise InputError(f"{web}: holds none of the gold sets ({', '.join(gold.FOLDERS[name] for name in SETS)})")
    marked = []
    for number, page in enumerate(pages):
        progress("read pages", number, len(pages))
        try:
            prepared = html.prepare(page.html)
        except html.PageError:
            continue
        if len(prepared.blocks.first):
            texts = block_texts(prepared.tape, prepared.blocks)
            table = content.features(prepared.tape, prepared.blocks, prepared.title)
            marked.append(Marked(page, prepared.tape, prepared.blocks, prepared.title, table, texts, label.labels(page, texts)))
    progress("read pages", len(pages), len(pages))
    return marked


def _pages_of(web: Path, name: str) -> list[gold.GoldPage]:
    try:
        return list(gold.read(web, [name]))
    except (OSError, EOFError, AttributeError, LookupError, TypeError, ValueError, zlib.error) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"{web / gold.FOLDERS[name]}: this set of marked pages is not whole ({what}). Unpack it again, or move it away"
        ) from None


def block_texts(tape: Tape, blocks: Blocks) -> list[str]:
    """The bare text of each block."""
    data = tape.data.tobytes()
    parts: list[list[bytes]] = [[] for _ in blocks.first]
    for node in np.flatnonzero(blocks.of_node >= 0):
        parts[blocks.of_node[node]].append(data[tape.start[node] : tape.end[node]])
    return [unescape(b"".join(part).decode("utf-8", "replace")) for part in parts]


def learn(marked: Sequence[Marked], folds: int = 0, progress: Progress = no_progress) -> Learnt:
    """`folds`: how many further models to learn, each without one fold of the pages, to score the pages by. InputError where too few pages
    are left to learn from."""
    fold_of = [gold.fold(one.page, folds) if folds else -1 for one in marked]
    for without in range(folds):
        if not any((one.labels.weight > 0).any() for one, fold in zip(marked, fold_of, strict=True) if fold != without):
            raise InputError(f"{len(marked)} pages are too few for {folds} folds: none is left without fold {without}. Give --folds 0")
    steps = folds + 1
    models = []
    for fold in range(folds):
        progress("learn", fold, steps)
        models.append(_fit([one for one, own in zip(marked, fold_of, strict=True) if own != fold], f"without fold {fold} of {folds}"))
    progress("learn", folds, steps)
    model = _fit(marked, "all")
    progress("learn", steps, steps)
    scores: dict[str, metrics.Scores] = {}
    if folds:
        tested = [(one, models[own]) for one, own in zip(marked, fold_of, strict=True) if one.page.set == "article_benchmark"]
        if tested:
            scores["article_benchmark"] = metrics.article_f1([_score(one, model) for one, model in tested])
        model = model._replace(recipe=model.recipe | {"cross_validated": {name: score._asdict() for name, score in scores.items()}})
    return Learnt(model, models, scores)


def _score(one: Marked, model: content.Model) -> metrics.Shares:
    keep = content.choose(one.tape, one.blocks, one.title, model).keep
    return metrics.shingle_scores(one.page.text or "", "\n".join(text for text, kept in zip(one.texts, keep, strict=True) if kept))


def _fit(marked: Sequence[Marked], pages: str) -> content.Model:
    import lightgbm

    table = np.concatenate([one.features for one in marked])
    wanted = np.concatenate([one.labels.content for one in marked]).clip(0, 1)
    weight = np.concatenate([one.labels.weight for one in marked])
    known = weight > 0
    data = lightgbm.Dataset(table[known], wanted[known], weight=weight[known] * (known.sum() / weight[known].sum()))
    booster = lightgbm.train(PARAMETERS, data, ROUNDS)
    recipe: dict[str, Any] = {
        "pages": pages,
        "sets": dict(Counter(one.page.set for one in marked)),
        "blocks": int(known.sum()),
        "pages_hash": xxhash.xxh3_128_hexdigest(b"".join(xxhash.xxh3_128_digest(one.page.html) for one in marked)),
        "library": f"lightgbm {lightgbm.__version__}",
        "parameters": PARAMETERS,
        "rounds": ROUNDS,
        "threshold": content.THRESHOLD,
    }
    return content.Model(trees.flatten(booster.dump_model()), recipe)


def importance(model: content.Model, most: int = 20) -> list[tuple[str, int]]:
    """The features that the trees ask for, most often first."""
    asked = model.trees.feature[model.trees.threshold != 0].ravel()
    return [(blockfeatures.FEATURES[number], count) for number, count in Counter(asked.tolist()).most_common(most)]
