"""A page as the extractor sees it: its text and metadata, and every block with its score, whether it was kept, and why.

Cost: that of the extraction and 0.1 ms a block. trafilatura names no blocks: a page that it extracts has none here.
"""

from __future__ import annotations

from html import unescape

import numpy as np

from codedev._errors import InputError
from codedev.corpus.extract import content, explain, extractors, html
from codedev.corpus.page.seen import Block, Raw, View
from codedev.kernels.htmlblocks import WORDS, Blocks
from codedev.kernels.htmltape import INLINE, NAMES, OTHER, TAG, TEXT, Tape, table_of

_MOST = 4  # reasons of a block


def view(
    raw: Raw, extract: html.Extract = "main", charset: str | None = None, extractor: extractors.Name = "codedev", *, explained: bool = True
) -> View:
    """The page in `raw`. `explained`: with blocks. InputError where it cannot be parsed."""
    hint = charset or raw.charset
    blocks: list[Block] = []
    try:
        if extractor != "codedev" or not explained:
            page = extractors.extractor(extractor)(raw.html, hint, extract, raw.url).page
        else:
            prepared = html.prepare(raw.html, hint)
            choice = content.choose(prepared.tape, prepared.blocks, prepared.title)
            keep = choice.keep if extract == "main" else np.ones_like(choice.keep)
            page = html.written(prepared, keep, raw.url)
            blocks = _blocks(prepared, choice, keep)
    except html.PageError as error:
        raise InputError(f"{raw.name}: {error}. A build of a corpus makes an error row `bad_html` of it") from None
    return View(raw.name, raw.url, raw.note, len(raw.html), page.text, page.kind, page.licence, page.meta, blocks, content.THRESHOLD)


def _blocks(page: html.Prepared, choice: content.Choice, keep: np.ndarray) -> list[Block]:
    texts = block_texts(page.tape, page.blocks)
    tags = page.tape.tag[page.blocks.element]
    return [
        Block(
            kept=bool(keep[number]),
            score=round(float(choice.scores[number]), 4),
            reason=content.REASONS[choice.reason[number]] if keep[number] == choice.keep[number] else "all",
            tag=NAMES[tags[number] - OTHER - 1] if tags[number] > OTHER else "",
            words=int(page.blocks.counts[number, WORDS]),
            text=texts[number],
            why=why,
        )
        for number, why in enumerate(explain.reasons(content.shipped_model(), content.features(page.tape, page.blocks, page.title), _MOST))
    ]


_VERBATIM, _BR, _MATH = table_of("pre listing xmp plaintext"), TAG["br"], TAG["codedev-math"]


def block_texts(tape: Tape, blocks: Blocks) -> list[str]:
    """The bare text of each block: as it is written in the page, with a line end for each `<br>` and between elements that are lines of a
    `<pre>`, and formulas between dollars. 1 µs a node."""
    data = tape.data.tobytes()
    parts: list[list[bytes]] = [[] for _ in blocks.first]
    line_of = _lines(tape, blocks)
    block, line = -1, -1
    between: list[bytes] = []  # white space since the block's last text, which is part of it if more text follows
    for node in np.flatnonzero((tape.tag == TEXT) | (tape.tag == _BR)).tolist():
        here = int(blocks.of_node[node])
        raw = data[tape.start[node] : tape.end[node]]
        if here < 0:
            if tape.tag[node] == _BR:
                between.append(b"\n")
            elif not raw.replace(b"&nbsp;", b" ").strip():
                between.append(raw)
            continue
        if here == block:
            apart = int(line_of[node]) != line and not any(b"\n" in gap for gap in between)
            parts[block] += [*between, b"\n" * apart]
        block, line, between = here, int(line_of[node]), []
        parts[block].append(b"$" + raw.strip() + b"$" if tape.tag[tape.parent[node]] == _MATH else raw)
    return [unescape(b"".join(part).decode("utf-8", "replace")) for part in parts]


def _lines(tape: Tape, blocks: Blocks) -> np.ndarray:
    """int64[nodes]: inside of each `<pre>`, the innermost element that stands on lines of its own; elsewhere 0."""
    lines = np.zeros(len(tape.tag), np.int64)
    end = 0
    for element in np.unique(blocks.element[_VERBATIM[tape.tag[blocks.element]]]).tolist():
        if element < end:
            continue
        end = int(tape.after[element])
        parents = tape.parent[element:end].tolist()
        inline = INLINE[tape.tag[element:end]].tolist()
        around = [element] * len(parents)
        for node in range(1, len(parents)):
            up = parents[node] - element
            around[node] = around[up] if inline[up] else parents[node]
        lines[element:end] = around
    return lines
