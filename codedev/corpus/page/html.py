"""A page's view as one HTML file that asks for nothing: no scripts, no network, no images.

All of the stranger's page is text here, escaped and with its invisible characters spelled out; the policy allows one style sheet, known by
its hash, so that text that slipped through would still not run. At most 10,000 blocks are shown, and it says how many are not.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from codedev import __version__
from codedev.corpus.page.seen import Block, View, facts
from codedev.corpus.report.charts import esc, percent

_MOST = 10_000  # blocks: a browser takes seconds for more
_LONGEST = 20_000  # characters of a block
_SHORT = 25  # words of a block that has no more than two reasons beside it, so that menus stay short


def render(view: View) -> str:
    """The same view gives the same text."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = view.meta.get("title") or view.name
    rows = "".join(f"<dt>{esc(name)}</dt><dd>{esc(value)}</dd>" for name, value in facts(view) if name != "title")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{esc(title)} – extraction</title>
<style>{style}</style>
</head>
<body>
<header>
<p class="brand">What is kept of a page</p>
<h1 dir="auto">{esc(title)}</h1>
<p class="soft"><code>{esc(view.name)}</code> · codedev {esc(__version__)}</p>
<dl>{rows}</dl>
</header>
<main>
{_blocks(view)}
<section class="text" aria-labelledby="text">
<h2 id="text">Text</h2>
<p class="soft">What goes into a corpus, as Markdown.</p>
<pre dir="auto" tabindex="0">{esc(view.text) or "nothing"}</pre>
</section>
</main>
</body>
</html>
"""


def _blocks(view: View) -> str:
    if not view.blocks:
        return '<section class="blocks"><h2>Blocks</h2><p class="soft">This extractor names no blocks.</p></section>'
    kept = sum(block.kept for block in view.blocks)
    more = len(view.blocks) - _MOST
    rest = f'<p class="soft">{more:,} further blocks are not shown.</p>' if more > 0 else ""
    choices = "".join(
        f'<label><input type="radio" name="show" id="{name}"{" checked" * (name == "all")}> {words}</label>'
        for name, words in (
            ("all", f"all {len(view.blocks):,}"), ("kept", f"kept {kept:,}"), ("dropped", f"dropped {len(view.blocks) - kept:,}")
        )
    )  # fmt: skip
    return f"""<section class="blocks" aria-labelledby="blocks">
<h2 id="blocks">Blocks</h2>
<p class="soft">In the page's order. A score over {view.threshold} keeps a block, unless a rule beside the score says otherwise.</p>
<fieldset><legend>Show</legend>{choices}</fieldset>
<ol>{"".join(map(_block, view.blocks[:_MOST]))}</ol>
{rest}
</section>"""


def _block(block: Block) -> str:
    state = "kept" if block.kept else "dropped"
    rule = f" · {esc(block.because[0])}" if block.reason != "score" else ""
    why = "".join(_reason(*one) for one in block.why[: 2 if block.words < _SHORT else None])
    bar = f'<svg aria-hidden="true"><rect width="100%" height="4" class="track"/><rect width="{percent(block.score, 1)}" height="4"/></svg>'
    text = block.text.strip("\n")
    cut = f" … ({len(text) - _LONGEST:,} more characters)" if len(text) > _LONGEST else ""
    text = esc(text[:_LONGEST]) if block.tag == "pre" else esc(" ".join(text[:_LONGEST].split()))
    tag = f"<code>&lt;{esc(block.tag or 'body')}&gt;</code>"
    return (
        f'<li class="block {state}"><p class="said{" code" * (block.tag == "pre")}" dir="auto">{text}{cut}</p><div class="note">{bar}'
        f"<p><strong>{state} {block.score:.2f}</strong> {tag}{rule}</p><ul>{why}</ul></div></li>\n"
    )


def _reason(feature: str, words: str, weight: float) -> str:
    side, number = "for" if weight > 0 else "against", f"{weight:+.1f}".replace("-", "−")
    return f'<li class="{side}" title="{esc(feature)}"><b>{number}</b><span>{esc(words)}</span></li>'
