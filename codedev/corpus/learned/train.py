"""`codedev corpus quality train`: a model and the JSON of how it was made, from a recipe that names the documents.

    name: books-against-forum
    classifier:
      positive: [{source: {type: tables, paths: ["good/*.parquet"]}, count: 20000}]
      negative: [{source: {type: tables, paths: ["crawl/*.jsonl.zst"], text: body}, count: 20000}]

or, for perplexity,

    name: english
    perplexity:
      texts: [{source: {type: tables, paths: ["wiki/*.parquet"]}, cut: 5000}]

OUT/<name>.bin is a fastText file, OUT/<name>.ngram an n-gram model; OUT/<name>.json holds the recipe, the data's hashes, the figures and
the hash of the model. It is written before the model: whenever a run is killed, a model that stands beside another one's JSON is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash

from codedev import __version__, _recipe
from codedev._errors import InputError
from codedev._run import atomic_write, write_json
from codedev.corpus.learned import classifier, perplexity
from codedev.corpus.learned.config import ClassifierTraining, PerplexityTraining, TrainRecipe
from codedev.corpus.learned.documents import Texts, as_array, gather
from codedev.corpus.learned.figures import figures, table
from codedev.corpus.learned.files import check_writable

LEAST = 10  # held-out texts of each side: fewer say nothing
FEW = 5  # held-out documents of each side: the figures of fewer are those of these documents
FEW_LEARNT = 200  # texts: AUC rises by 0.02 to 0.05 from 200 to 1,000 (tweets, comments, books)
FLAT, SOME = 0.05, 1000  # spread of the scores of what was learnt, that says that nothing was; texts looked at of each side
FAR = 1.5  # times more or less than asked for: long documents move the share of texts


def train(path: Path, out: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Fit a model of quality from the documents that a recipe names, and say what it achieves on documents it has not seen.

    Precision, recall and F1 are those of documents held out by the hash of their ids. The table of shares names the threshold that keeps a
    tenth of the negatives, as DCLM keeps a tenth of the crawl."""
    recipe = _recipe.load(path, TrainRecipe, overrides)
    base = path.parent.resolve()
    target = out / f"{recipe.name}.{'bin' if recipe.classifier else 'ngram'}"
    _check_target(target)
    if recipe.classifier:
        return _train_classifier(recipe, recipe.classifier, base, target)
    assert recipe.perplexity is not None  # the recipe's check
    return _train_perplexity(recipe, recipe.perplexity, base, target)


def _check_target(target: Path) -> None:
    """InputError where the model cannot be written, before hours of learning, or its JSON is another model's."""
    beside = target.with_suffix(".json")
    check_writable(target)
    check_writable(beside)
    try:
        facts = orjson.loads(beside.read_bytes())
        other = facts["model"]["file"] if facts["format"] == classifier.FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return
    if isinstance(other, str) and other != target.name and (target.parent / Path(other).name).is_file():
        raise InputError(f"{beside}: tells of {other}, which needs it. Choose another --out or another name")


def _train_classifier(recipe: TrainRecipe, config: ClassifierTraining, base: Path, target: Path) -> dict[str, Any]:
    seen: set[bytes] = set()
    positive, negative = (gather(side, base, config.seed, config.held_out, seen) for side in (config.positive, config.negative))
    for name, texts in (("positive", positive), ("negative", negative)):
        if len(texts.held_out) < LEAST or not texts.learnt:
            raise InputError(f"{recipe.name}: {len(texts.held_out)} {name} texts held out of {_too_few(texts)}")
    learnt = len(positive.learnt) + len(negative.learnt)
    content = classifier.fit(positive.learnt, negative.learnt, config)
    score = classifier.scorer_of(content, config.labels[0], config).score
    scores = score(as_array(positive.held_out + negative.held_out, lower=False))
    truth = np.arange(len(scores)) < len(positive.held_out)
    data = {"positive": _described(positive), "negative": _described(negative)}
    warnings = warnings_of("positive", positive, config.held_out) + warnings_of("negative", negative, config.held_out)
    if learnt < FEW_LEARNT:
        warnings.append(f"{learnt} texts learnt: thousands of each side tell good from poor text far better. Name more documents")
    found = figures(scores, truth)
    seen_as = score(as_array(positive.learnt[:SOME] + negative.learnt[:SOME], lower=False))
    if float(seen_as.max() - seen_as.min()) < FLAT:
        warnings.append(
            f"the scores of what was learnt lie between {seen_as.min():.3f} and {seen_as.max():.3f}: next to nothing was learnt. Raise"
            " `epochs` or `rate`, or name more documents"
        )
    found["epochs"] = classifier.epochs_of(config, learnt)
    return _written(recipe, target, data, found, warnings, content)


def _too_few(texts: Texts) -> str:
    """The rest of a message: of how many documents, and what to do."""
    if texts.repeated and not texts.documents:
        return f"0: all {texts.repeated} documents stand among the positive ones, or stood before. Name others"
    told = f"{texts.documents} documents" + (f" ({texts.repeated} more are repeated)" if texts.repeated else "")
    return f"{told}; name more, or " + ("raise held_out" if texts.learnt else "lower held_out: none is left to learn from")


def _train_perplexity(recipe: TrainRecipe, config: PerplexityTraining, base: Path, target: Path) -> dict[str, Any]:
    texts = gather(config.texts, base, config.seed, config.held_out, set())
    others = gather(config.calibrate, base, config.seed, config.held_out, set()) if config.calibrate else None
    calibrate = others.learnt + others.held_out if others else texts.held_out
    if not texts.learnt or len(calibrate) < LEAST:
        raise InputError(f"{recipe.name}: {len(calibrate)} texts to calibrate on, {len(texts.learnt)} to learn, of {_too_few(texts)}")
    trained = perplexity.fit(texts.learnt, calibrate, config)
    data = {"texts": _described(texts)} | ({"calibrate": _described(others)} if others else {})
    found: dict[str, Any] = {"percentiles": {str(p): float(trained.percentiles[p]) for p in (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)}}
    for name, part in (("learnt", texts.learnt), ("held_out", texts.held_out)):
        if part:
            found[name] = float(np.nanmedian(perplexity.perplexities(trained.model, as_array(part, lower=False))))
    return _written(recipe, target, data, found, warnings_of("texts", texts, config.held_out), perplexity.content(trained))


def warnings_of(name: str, texts: Texts, share: float) -> list[str]:
    """What makes the figures of a split worth less, and what to do: it is by document, so that few or long ones miss the share."""
    said = []
    if errors := {name.removeprefix("error."): count for name, count in texts.unread.items() if name.startswith("error.")}:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in errors.items())
        said.append(
            f"{name}: {sum(errors.values()):,} records could not be read ({kinds}): a corpus built of them tells why, under errors/"
        )
    if not texts.held_out:
        what = f"{name}: none of {texts.documents} documents is held out, so that nothing is known of text that it has not seen"
    else:
        documents, found = texts.held_out_documents, len(texts.held_out) / (len(texts.held_out) + len(texts.learnt))
        faults = []
        if documents < FEW:
            faults.append(f"{documents} of {texts.documents} documents held out, so that the figures are those of {documents} alone")
        if not share / FAR <= found <= share * FAR:
            faults.append(f"{found:.0%} of the texts held out where held_out is {share:g}")
        if not faults:
            return said
        what = f"{name}: {'; '.join(faults)}"
    return [*said, f"{what}. Name more files or documents, or change held_out: the split is by document, so that no book is on both sides"]


def _described(texts: Texts) -> dict[str, Any]:
    return {
        "documents": texts.documents,
        "learnt": len(texts.learnt),
        "held_out": len(texts.held_out),
        "held_out_documents": texts.held_out_documents,
        "repeated": texts.repeated,
        "unread": dict(texts.unread),
        "xxh3_128": texts.digest,
    }


def _written(
    recipe: TrainRecipe, target: Path, data: dict[str, Any], found: dict[str, Any], warnings: list[str], content: bytes
) -> dict[str, Any]:
    facts = {
        "format": classifier.FORMAT,
        "codedev": __version__,
        "recipe": recipe.model_dump(mode="json"),
        "data": data,
        "model": {"file": target.name, "bytes": len(content), "xxh3_128": xxhash.xxh3_128_hexdigest(content)},
        "held_out": found,
        "warnings": warnings,
    }
    try:
        write_json(target.with_suffix(".json"), facts)
        with atomic_write(target) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}. Choose another --out") from None
    return facts


def shown(facts: dict[str, Any]) -> str:
    """The figures for a terminal."""
    found, lines = facts["held_out"], []
    for name, part in facts["data"].items():
        lines.append(f"{name}: {part['documents']} documents, {part['learnt']} texts learnt, {part['held_out']} held out")
    size = f"{facts['model']['file']}: {facts['model']['bytes'] / 1e6:.1f} MB"
    lines.append(f"{size}, texts gone over {found['epochs']} times" if "epochs" in found else size)
    if "by_threshold" in found:
        lines += [
            f"held out, AUC {found['auc']:.4f}",
            table(found["by_threshold"]),
            "share of negatives kept, and its threshold",
            table(found["by_share"]),
        ]
    else:
        lines.append("median perplexity: " + ", ".join(f"{name} {found[name]:.1f}" for name in ("learnt", "held_out") if name in found))
        lines.append(table([{f"p{name}": value for name, value in found["percentiles"].items()}]))
    return "\n".join(lines + [f"note: {warning}" for warning in facts["warnings"]])
