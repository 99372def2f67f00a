"""What somebody should look at before the corpus is used: a source that lost most of its documents, near-duplicates that are not alike.

lost             more than MOST of a source's records were dropped or unreadable. Records joined into others' documents do not count, nor
                 what a source passes over as it reads: the requests of a web archive, the vendored files of a repository
near_duplicates  more than MOST of the documents that reached that barrier were dropped by it
near_precision   of the sampled near-duplicates fewer than PRECISE are as alike as the recipe asks
"""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from codedev._errors import printable
from codedev.corpus.report.data import CorpusData, StageCounts
from codedev.corpus.report.text import count, share

MOST = 0.5
PRECISE = 0.99
NEAR = "near"  # the stage
_CORPUS = "CORPUS"  # in a command: the directory, which the report does not know


def alarms(data: CorpusData) -> list[dict[str, Any]]:
    """{alarm, source, share, lost, of, stage, reason, count, said, look} of each, in the recipe's order: `share` = lost / of; `stage` and
    `reason` took most, `count` of them; `said` is a sentence and `look` the command that shows what is meant."""
    found = []
    for source in data.sources:
        stages = data.waterfall[source.name]
        if stages:
            found += _lost(source.name, stages)
            found += [alarm for stage in stages if stage.stage == NEAR for alarm in _near(source.name, stage)]
    return found + _imprecise(data)


def lines(found: list[dict[str, Any]], corpus: Path) -> list[str]:
    """The alarms for a terminal, a line each, of a report's `alarms`."""
    where = shlex.quote(str(corpus))
    return [printable(f"alarm: {alarm['said']} See: {alarm['look'].replace(_CORPUS, where, 1)}") for alarm in found]


def _lost(source: str, stages: list[StageCounts]) -> list[dict[str, Any]]:
    passed_over = sum(stages[0].drop.values())
    stages = [stages[0]._replace(drop={}), *stages[1:]]
    records = stages[0].rows_in - passed_over - sum(stage.joined for stage in stages)
    lost = sum(stage.lost for stage in stages)
    if lost <= MOST * records:
        return []
    most = max(stages, key=lambda stage: stage.lost)  # the first of equals
    reason, number = _most(most)
    said = f"Source {source} lost {share(lost / records)} of its {count(records)} records, "
    said += f"{count(most.lost)} of them at stage {most.stage} ({reason} {count(number)})."
    return [_alarm("lost", source, lost, records, most.stage, reason, number, said, error=reason not in most.drop)]


def _near(source: str, stage: StageCounts) -> list[dict[str, Any]]:
    lost = sum(stage.drop.values())
    if lost <= MOST * stage.rows_in:
        return []
    reason, number = _most(stage)
    said = f"Source {source} lost {share(lost / stage.rows_in)} of the {count(stage.rows_in)} documents that reached stage {stage.stage}, "
    said += "as near-duplicates of others."
    return [_alarm("near_duplicates", source, lost, stage.rows_in, stage.stage, reason, number, said)]


def _imprecise(data: CorpusData) -> list[dict[str, Any]]:
    found = []
    for told in data.near.sources if data.near else []:
        if told.precision is None or told.precision >= PRECISE:
            continue
        wrong = told.sampled - told.alike
        said = f"Source {told.source}: {count(wrong)} of {count(told.sampled)} sampled near-duplicates are less alike than the recipe asks "
        said += f"(precision {share(told.precision)}, at least {share(told.low or 0.0)})."
        reason = "near_duplicate"
        found.append(
            _alarm("near_precision", told.source, wrong, told.sampled, NEAR, reason, wrong, said, name=(told.least or {}).get("id"))
        )
    return found


def _most(stage: StageCounts) -> tuple[str, int]:
    losses = Counter(stage.drop) + Counter(stage.error)
    return min(losses.items(), key=lambda entry: (-entry[1], entry[0]))


def _alarm(
    alarm: str,
    source: str,
    lost: int,
    of: int,
    stage: str,
    reason: str,
    number: int,
    said: str,
    *,
    error: bool = False,
    name: str | None = None,
) -> dict[str, Any]:
    shown = (
        f"--id {shlex.quote(name)}"
        if name
        else f"--source {shlex.quote(source)} " + ("--errors" if error else f"--dropped {shlex.quote(reason)}")
    )
    return {
        "alarm": alarm,
        "source": source,
        "share": lost / of,
        "lost": lost,
        "of": of,
        "stage": stage,
        "reason": reason,
        "count": number,
        "said": said,
        "look": command_for(shown),
    }


def command_for(shown: str) -> str:
    """The command that shows documents of the corpus."""
    return f"codedev corpus inspect {_CORPUS} {shown}"
