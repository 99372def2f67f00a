"""The frame of the corpus report and of the pages that compare, so that a person who knows one page knows the others.

It asks for nothing, no network, no fonts, no images, and its policy runs one script and one style sheet, known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from codedev.corpus.report.charts import esc

Section = tuple[str, str, str, str]  # id, title, how to read it, and what it holds as HTML


def page(title: str, facts: str, sections: Sequence[Section], *styles: Path) -> str:
    """The page as text. `facts`: HTML below the title. Sections that hold nothing are left out. `styles`: sheets beside the report's."""
    shown = [section for section in sections if section[3]]
    links = "".join(f'<li><a href="#{name}">{esc(title)}</a></li>' for name, title, _, _ in shown)
    body = "".join(
        f'<section class="figure" id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{esc(title)}</h2>'
        f'<p class="guide">{esc(guide)}</p>{content}</section>\n'
        for name, title, guide, content in shown
    )
    return frame(title, title, title, facts, links, body, *styles)


def frame(title: str, brand: str, heading: str, facts: str, links: str, body: str, *styles: Path) -> str:
    """A page of these parts; the last three before the styles are HTML. `title` is the window's, `brand` stands above the links."""
    folder = Path(__file__).parent
    style = "\n".join(path.read_text(encoding="utf-8").strip() for path in (folder / "page.css", *styles))
    script = (folder / "page.js").read_text(encoding="utf-8").strip()
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{esc(title)}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the figures</a>
<nav aria-label="Figures">
<p class="brand">{esc(brand)}</p>
<ol>{links}</ol>
<button type="button" id="theme" hidden>Theme: auto</button>
</nav>
<main id="main">
<header class="top">
<h1>{esc(heading)}</h1>
<p class="facts">{facts}</p>
</header>
{body}</main>
<script>{script}</script>
</body>
</html>
"""


def _hash(inline: str) -> str:
    """The source expression of a Content Security Policy that allows this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
