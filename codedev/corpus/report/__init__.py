"""The data-quality report of a finished corpus: `report/index.html`, `report.json` and `report.md`.

    data.py      the corpus directory -> counters, sketches, examples (one streaming pass)
    alarms.py    those -> what should be looked at before the corpus is used
    figures.py   those -> figures, which are plain data; a figure is added there and nowhere else
    html.py, charts.py, markdown.py      figures -> text

The same corpus gives the same bytes.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from codedev._run import write_json, write_text
from codedev.corpus.report import html, markdown
from codedev.corpus.report.alarms import alarms
from codedev.corpus.report.data import CorpusData, Map, gather
from codedev.corpus.report.figure import Figure
from codedev.corpus.report.figures import FIGURES

FORMAT = "codedev.report/1"


def write_report(corpus: Path, run: Map = map) -> Path:
    """Write the report of the corpus directory under its `report/`; the path of its index.html. `run` gathers what its parts hold.
    InputError where it is not finished."""
    data = gather(corpus, run)
    figures = [figure(data) for figure in FIGURES]
    report = _report(data, figures)
    folder = corpus / "report"
    write_json(folder / "report.json", report)
    write_text(folder / "report.md", markdown.render(report, figures))
    write_text(folder / "index.html", html.render(report, figures))
    return folder / "index.html"


def report_data(corpus: Path) -> dict[str, Any]:
    """What report.json holds: {format, corpus: {name, codedev, recipe_hash, seed}, alarms: [alarm], figures: [figure]}. Writes nothing."""
    data = gather(corpus)
    return _report(data, [figure(data) for figure in FIGURES])


def _report(data: CorpusData, figures: list[Figure]) -> dict[str, Any]:
    corpus = {"name": data.name, "codedev": data.codedev, "recipe_hash": data.recipe_hash, "seed": data.seed}
    return {"format": FORMAT, "corpus": corpus, "alarms": alarms(data), "figures": [asdict(figure) for figure in figures]}
