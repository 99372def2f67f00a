"""The report as one HTML file that asks for nothing: no network, no fonts, no images, and a policy that forbids them.

Document text comes from strangers. It is escaped, its invisible characters are spelled out (text.neutral), and the page's policy runs
one script and one style sheet, known by their hashes: text that slipped through would still not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codedev.corpus.report import charts
from codedev.corpus.report.charts import esc
from codedev.corpus.report.figure import Figure

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
    folder = Path(__file__).parent
    style = (folder / "page.css").read_text(encoding="utf-8").strip()
    script = (folder / "page.js").read_text(encoding="utf-8").strip()
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    corpus = report["corpus"]
    links = "".join(f'<li><a href="#{figure.id}">{esc(figure.title)}</a></li>' for figure in figures)
    if report["alarms"]:
        links = f'<li><a href="#alarms">Alarms ({len(report["alarms"])})</a></li>{links}'
    facts = f"codedev {esc(corpus['codedev'])} · recipe <code>{esc(corpus['recipe_hash'])}</code> · seed {esc(corpus['seed'])}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{esc(corpus["name"])} – corpus report</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the figures</a>
<nav aria-label="Figures">
<p class="brand">Corpus report</p>
<ol>{links}</ol>
<button type="button" id="theme" hidden>Theme: auto</button>
</nav>
<main id="main">
<header class="top">
<h1>{esc(corpus["name"])}</h1>
<p class="facts">{facts}</p>
</header>
{_alarms(report["alarms"])}{"".join(_section(figure) for figure in figures)}
<footer><p>The same figures, as data: <code>report.json</code>; as tables: <code>report.md</code>.</p></footer>
</main>
<script>{script}</script>
</body>
</html>
"""


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


def _hash(inline: str) -> str:
    """The source expression of a Content Security Policy that allows this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
