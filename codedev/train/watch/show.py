"""`codedev train status` and `explain` as a person reads them."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from codedev._errors import printable
from codedev._terminal import clock, print_table


def show_status(told: dict[str, Any]) -> None:
    steps = "?" if told["steps"] is None else f"{told['steps']:,}"
    share = f", {told['step'] / told['steps']:.0%}" if told["steps"] else ""
    if told["going"]:
        state = "going on"
    elif told["steps"] is not None and told["step"] >= told["steps"] and told["model"]:
        state = "finished"
    else:
        state = "not running"
    bits = told["bits_per_byte"]
    lines = [
        ("run", told["run_dir"]),
        ("", f"stage {told['stage']}, tune {told['tune']}: {state}, last row {clock(told['seconds_since'])} ago"),
        ("step", f"{told['step']:,} of {steps}{share}"),
        ("time left", clock(told["seconds_left"]) if told["seconds_left"] is not None else None),
        ("tokens seen", f"{told['tokens_seen']:,}"),
        ("loss", f"{told['loss']:.4f}, mean of the last fifty {told['mean_loss']:.4f}" if told["loss"] is not None else None),
        ("bits per byte", f"{bits['last']:.4f}, at first {bits['first']:.4f}" if bits else None),
        ("held out", _heldout(told.get("heldout"))),
        ("look at", told.get("alarm")),
        ("speed", _speed(told)),
        ("skipped steps", f"{told['skipped']:,}" if told["skipped"] else None),
        ("checkpoints", ", ".join(f"{step:,}" for step in told["checkpoints"]) or "none"),
        ("go on with", go_on(told["run_dir"]) if state == "not running" else None),
        ("page", told["page"]),
    ]
    for name, value in lines:
        if value is not None:
            print(f"{name:<14} {printable(str(value))}")


def go_on(run_dir: str) -> str:
    """The command with which a run that was stopped goes on."""
    return f"codedev train {shlex.quote(str(Path(run_dir, 'recipe.yaml')))}"


def _heldout(found: dict[str, Any] | None) -> str | None:
    if found is None:
        return None
    names = ("accuracy", "margin", "ece", "brier", "r2", "spearman", "mse", "reward", "reward_margin", "reward_accuracy", "unended", "loss")
    return ", ".join(f"{name} {value:.4g}" for name in names if (value := found.get(f"heldout_{name}")) is not None)


def _speed(told: dict[str, Any]) -> str | None:
    if told["tokens_per_second"] is None:
        return None
    mfu = "-" if told["mfu"] is None else f"{told['mfu']:.1%}"
    return f"{told['tokens_per_second']:,.0f} tokens/s, MFU {mfu}"


def show_step(told: dict[str, Any], limit: int) -> None:
    if "answers" in told:
        _show_answers(told, limit)
        return
    documents = told["documents"]
    tokens = sum(one["tokens"] for one in documents)
    skipped = f", skipped: {told['skipped']}" if "skipped" in told else ""
    print(f"step {told['step']:,} of {printable(told['run_dir'])}: {len(documents):,} segments of {tokens:,} tokens{skipped}")
    if told["weights"] is not None:
        exact = "exactly those it began with" if told["exact"] else f"those after step {told['weights_step']:,}, the nearest that are kept"
        recorded = "" if told["loss_recorded"] is None else f", recorded {told['loss_recorded']:.4f}"
        print(f"weights: {printable(told['weights'])} ({exact}); loss {_loss(told)}{recorded}")
    else:
        print(f"without losses: {told['why']}")
    if documents and ("margin" in documents[0] or "wanted" in documents[0]):
        _show_judged(documents[:limit])
        documents = documents[limit:]
        if documents:
            print(f"{len(documents):,} more: --limit, or --json for all")
        return
    rows = []
    for one in documents[:limit]:
        place = [one["row"], f"{one['start']}-{one['end']}", one["offset"]]
        rows.append([printable(one["document"]), _loss(one), one["tokens"], one["supervised"], *place])
    if rows and _fits(rows):
        print_table("Documents", list(_COLUMNS), rows)
    else:
        print("Documents")
        for name, loss, tokens, supervised, row, span, offset in rows:
            learned = "" if supervised is None else f", {supervised:,} supervised"
            print(f"{loss:>9}  {name}")
            print(f"{'':>9}  {tokens:,} tokens{learned}; row {row:,}, {span}; from its token {offset:,}")
    if len(documents) > limit:
        print(f"{len(documents) - limit:,} more: --limit, or --json for all")


_COLUMNS = ("document", "loss", "tokens", "supervised", "row", "in the row", "from its token")


def _fits(rows: list[list[Any]]) -> bool:
    """Names of documents are long: a table that folds them in a terminal of 80 columns leaves them ten."""
    columns = zip(_COLUMNS, zip(*rows, strict=True), strict=True)
    width = sum(
        max(len(heading), *(len(f"{one:,}" if isinstance(one, int) else one or "") for one in column)) for heading, column in columns
    )
    return not sys.stdout.isatty() or width + 3 * len(_COLUMNS) <= shutil.get_terminal_size().columns


def _show_judged(documents: list[dict[str, Any]]) -> None:
    """Of stage reward."""
    names = ["chosen", "rejected", "margin"] if "margin" in documents[0] else ["reward", "wanted"]
    rows = [[printable(one["document"]), _loss(one), *(f"{one[name]:.4f}" for name in names), one["tokens"]] for one in documents]
    print_table("Pairs" if "margin" in documents[0] else "Answers", ["document", "loss", *names, "tokens"], rows)


def _show_answers(told: dict[str, Any], limit: int) -> None:
    """What was sampled in an update, the lowest score first."""
    answers = told["answers"]
    ended = sum(one["ended"] for one in answers)
    means = {name: sum(one[name] or 0.0 for one in answers) / len(answers) for name in ("score", "kl", "tokens")}
    away = "" if answers[0]["kl"] is None else f"{means['kl']:.3f} nats from the reference, "
    print(
        f"update {told['step']:,} of {printable(told['run_dir'])}: {len(answers):,} answers, score {means['score']:.4f}, "
        f"{away}{means['tokens']:.1f} tokens, {ended:,} ended; ln p as trained and as sampled at most "
        f"{max(one['mismatch'] for one in answers):.2g} apart"
    )
    names = list(answers[0]["rewards"]) if len(answers[0]["rewards"]) > 1 else []
    for one in answers[:limit]:
        parts = "".join(f"  {printable(name)} {one['rewards'][name]:.4g}" for name in names)
        end = "" if one["ended"] else ", not ended"
        kl = "" if one["kl"] is None else f"kl {one['kl']:.3g}, "
        print(f"{one['score']:>9.4f}  {printable(one['document'])}{parts}  {kl}{one['tokens']:,} tokens{end}")
        print(f"{'':>9}  {printable(one['answer'])[:_LETTERS]}")
    if len(answers) > limit:
        print(f"{len(answers) - limit:,} more: --limit, or --json for all")


_LETTERS = 200  # of an answer


def _loss(one: dict[str, Any]) -> str:
    return "no number" if one.get("no_number") else "" if one["loss"] is None else f"{one['loss']:.4f}"
