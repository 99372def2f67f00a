"""The report as one HTML file that asks for nothing: no network, no fonts, no images, and a policy that forbids them.

Document text comes from strangers. It is escaped, its invisible characters are spelled out (text.neutral), and the page's policy runs
one script and one style sheet, known by their hashes: text that slipped through would still not run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codedev.corpus.report import charts
from codedev.corpus.report.charts import esc
from codedev.corpus.report.figure import Figure
from codedev.corpus.report.shell import frame

_RENDER: dict[str, Callable[[dict[str, Any]], str]] = {
    "tiles": charts.tiles,
    "table": lambda data: "",  # its table alone
    "waterfall": charts.waterfall,
    "examples": charts.examples,
    "bars": charts.bars,
    "histogram": charts.histogram,
}


def render(report: dict[str, Any], figures: list[Figure]) -> str:
    """The page as text; the same figures give the same bytes."""
    corpus = report["corpus"]
    links = "".join(f'<li><a href="#{figure.id}">{esc(figure.title)}</a></li>' for figure in figures)
    if report["alarms"]:
        links = f'<li><a href="#alarms">Alarms ({len(report["alarms"])})</a></li>{links}'
    facts = f"codedev {esc(corpus['codedev'])} · recipe <code>{esc(corpus['recipe_hash'])}</code> · seed {esc(corpus['seed'])}"
    body = f"""{_alarms(report["alarms"])}{"".join(_section(figure) for figure in figures)}
<footer><p>The same figures, as data: <code>report.json</code>; as tables: <code>report.md</code>.</p></footer>
"""
    return frame(f"{corpus['name']} – corpus report", "Corpus report", corpus["name"], facts, links, body)


def _section(figure: Figure) -> str:
    if "empty" in figure.data:
        body = f'<p class="empty">{esc(figure.data["empty"])}</p>'
    else:
        body = _RENDER[figure.kind](figure.data)
        if "table" in figure.data:
            body += charts.table(figure.data["table"])
        body += charts.see(figure.data.get("see", []))
    head = f'<h2 id="{figure.id}-title">{esc(figure.title)}</h2><p class="guide">{esc(figure.guide)}</p>'
    return f'<section class="figure" id="{figure.id}" aria-labelledby="{figure.id}-title">{head}{body}</section>\n'


def _alarms(alarms: list[dict[str, Any]]) -> str:
    """What is wrong with the corpus, above all figures; nothing where nothing is."""
    if not alarms:
        return ""
    listed = "".join(f'<li>{esc(alarm["said"])} <code class="command">{esc(alarm["look"])}</code></li>' for alarm in alarms)
    head = f'<h2 id="alarms-title">{len(alarms)} {"alarm" if len(alarms) == 1 else "alarms"}</h2>'
    return f'<section class="alarms" id="alarms" aria-labelledby="alarms-title">{head}<ul>{listed}</ul></section>\n'
