"""Law 1 as a table: the build's counters against each other, and against the rows that are really in the files."""

from __future__ import annotations

import itertools
from typing import Any

from codedev.corpus.report.data import CorpusData
from codedev.corpus.report.text import count

REMOVED = "removed"  # the stage of corpus/remove.py


def checks(data: CorpusData) -> list[list[Any]]:
    """[check, expected, found, holds, where it fails first] a check."""
    stages = [(f"{name} / {stage.stage}", stage) for name, found in data.waterfall.items() for stage in found]
    links = [
        (f"{name} / {after.stage}", before.rows_out, after.rows_in)
        for name, found in data.waterfall.items()
        for before, after in itertools.pairwise(found)
    ]
    ends = {name: found[-1].rows_out if found else 0 for name, found in data.waterfall.items()}
    # What `corpus remove` took is kept nowhere, and its last stage notes what it took of earlier losses.
    erased = {name: found[-1] if found and found[-1].stage == REMOVED else None for name, found in data.waterfall.items()}
    dropped = {name: sum(sum(stage.drop.values()) for stage in found) for name, found in data.waterfall.items()}
    failed = {name: sum(sum(stage.error.values()) for stage in found) for name, found in data.waterfall.items()}
    for name, last in ((name, last) for name, last in erased.items() if last):
        dropped[name] -= sum(last.drop.values()) + last.notes.get("dropped_erased", 0)
        failed[name] -= last.notes.get("errors_erased", 0)
    text = sum(kept.bytes for kept in data.kept.values())
    pairs: list[tuple[str, list[tuple[str, int, int]]]] = [
        (
            "In every stage, records in = out + joined + dropped + errors",
            [(at, s.rows_in, s.rows_out + s.joined + s.lost) for at, s in stages],
        ),
        ("Every stage takes in what the one before it let out", links),
        ("Documents in the files = what the last stages let out", [(n, ends[n], kept.documents) for n, kept in data.kept.items()]),
        ("Rows under dropped/ = drops counted", [(name, dropped[name], data.rows["dropped"][name]) for name in dropped]),
        ("Rows under errors/ = errors counted", [(name, failed[name], data.rows["errors"][name]) for name in failed]),
        ("Bytes of text = the manifest's total", [("totals.text_bytes", data.totals.get("text_bytes", 0), text)]),
        (
            "The manifest's totals = the sums of the stages",
            [
                ("totals.records", data.totals.get("records", 0), sum(found[0].rows_in for found in data.waterfall.values() if found)),
                ("totals.documents", data.totals.get("documents", 0), sum(ends.values())),
                ("totals.dropped", data.totals.get("dropped", 0), sum(dropped.values())),
                ("totals.errors", data.totals.get("errors", 0), sum(failed.values())),
            ],
        ),
    ]
    rows: list[list[Any]] = []
    for name, compared in pairs:
        wrong = [(at, expected, found) for at, expected, found in compared if expected != found]
        where = f"{wrong[0][0]}: {count(wrong[0][1])} expected, {count(wrong[0][2])} found" if wrong else ""
        totals = sum(expected for _, expected, _ in compared), sum(found for _, _, found in compared)
        rows.append([name, *totals, not wrong, where + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")])
    return rows
