"""`codedev corpus learn-extractor`: reads the marked pages, learns, scores and writes; see `extract/learn/train.py` for what is learnt."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from codedev._errors import InputError, MissingExtraError
from codedev._run import Progress, no_progress
from codedev.corpus.extract import content

_NEEDED = ("lightgbm", "trafilatura")


def learn(data: Path, out: Path, folds: int = 0, folds_out: Path | None = None, progress: Progress = no_progress) -> dict[str, Any]:
    """Write the model to `out`, and those of the folds below `folds_out`. What it was learnt from, its scores, and what it asks for."""
    for name in _NEEDED:
        if find_spec(name) is None:
            raise MissingExtraError(name, "learn")
    from codedev.corpus.extract.learn import train

    if not data.is_dir():
        raise InputError(f"{data}: no such folder. Give the folder that holds the sets of marked pages")
    if out.is_dir():
        raise InputError(f"{out}: is a folder. Give the file of the model: --out {out / 'content_model.npz'}")
    marked = train.read(data, progress)
    for folder in (out.parent, *([folds_out] if folds_out else [])):  # before minutes of learning
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise InputError(f"{folder}: is a file, not a folder to write into. Choose another one") from None
    learnt = train.learn(marked, folds, progress)
    for number, model in enumerate(learnt.folds if folds_out else []):
        assert folds_out is not None  # else there are none
        _save(model, folds_out / f"fold-{number}.npz")
    _save(learnt.model, out)
    sets = learnt.model.recipe["sets"]
    return {
        "model": str(out),
        "sets": sets,
        "blocks": learnt.model.recipe["blocks"],
        "scores": {name: {"f1": score.f1, **score._asdict(), "pages": sets[name]} for name, score in learnt.scores.items() if name in sets},
        "asked": [{"feature": name, "questions": count} for name, count in train.importance(learnt.model)],
    }


def _save(model: content.Model, path: Path) -> None:
    """Whole or not at all."""
    part = path.with_name(path.name + ".part")
    content.save(model, part)
    os.replace(part, path)
