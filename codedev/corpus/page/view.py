"""A page as the extractor sees it: its text and metadata, and every block with its score, whether it was kept, and why.

Cost: that of the extraction and 0.1 ms a block. trafilatura names no blocks: a page that it extracts has none here.
"""

from __future__ import annotations

from html import unescape
from typing import Any, NamedTuple

import numpy as np

from codedev._errors import InputError
from codedev.corpus.extract import content, explain, extractors, html
from codedev.corpus.page.find import Raw
from codedev.kernels.htmlblocks import WORDS, Blocks
from codedev.kernels.htmltape import NAMES, OTHER, TAG, Tape

_MOST = 4  # reasons of a block


class Block(NamedTuple):
    kept: bool
    score: float  # 0 to 1; `content.THRESHOLD` keeps
    reason: str  # of content.REASONS: what decided
    tag: str
    words: int
    text: str  # bare
    why: list[tuple[str, float]]  # what moved the score most, in words, and by how much

    @property
    def because(self) -> list[str]:
        """What speaks for the side that the score is on, the strongest first."""
        sign = 1 if self.score > 0.5 else -1
        return [words for words, weight in self.why if weight * sign > 0]


class View(NamedTuple):
    raw: Raw
    page: html.Page
    blocks: list[Block]


def view(
    raw: Raw, extract: html.Extract = "main", charset: str | None = None, extractor: extractors.Name = "codedev", *, explained: bool = True
) -> View:
    """The page in `raw`. `explained`: with blocks. InputError where it cannot be parsed."""
    hint = charset or raw.charset
    try:
        if extractor != "codedev" or not explained:
            return View(raw, extractors.extractor(extractor)(raw.html, hint, extract, raw.url), [])
        prepared = html.prepare(raw.html, hint)
        choice = content.choose(prepared.tape, prepared.blocks, prepared.title)
        keep = choice.keep if extract == "main" else np.ones_like(choice.keep)
        page = html.written(prepared, keep, raw.url)
    except html.PageError as error:
        raise InputError(f"{raw.name}: {error}. A build of a corpus makes an error row of it") from None
    return View(raw, page, _blocks(prepared, choice, keep))


def _blocks(page: html.Prepared, choice: content.Choice, keep: np.ndarray) -> list[Block]:
    table = content.features(page.tape, page.blocks, page.title)
    why = explain.reasons(content.shipped_model(), table, _MOST)
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
            why=why[number],
        )
        for number in range(len(texts))
    ]


def block_texts(tape: Tape, blocks: Blocks) -> list[str]:
    """The bare text of each block, with a line end for each `<br>` in it."""
    data = tape.data.tobytes()
    parts: list[list[bytes]] = [[] for _ in blocks.first]
    block = -1
    for node in np.flatnonzero((blocks.of_node >= 0) | (tape.tag == TAG["br"])):
        if blocks.of_node[node] >= 0:
            block = blocks.of_node[node]
            parts[block].append(data[tape.start[node] : tape.end[node]])
        elif block >= 0:
            parts[block].append(b"\n")
    return [unescape(b"".join(part).decode("utf-8", "replace")) for part in parts]


def counts(view: View) -> dict[str, int]:
    kept = [block for block in view.blocks if block.kept]
    return {
        "blocks": len(view.blocks),
        "kept": len(kept),
        "words": sum(block.words for block in view.blocks),
        "words_kept": sum(block.words for block in kept),
        "bytes": len(view.raw.html),
        "characters": len(view.page.text),
    }


def as_json(view: View) -> dict[str, Any]:
    return {
        "name": view.raw.name,
        "url": view.raw.url,
        "kind": view.page.kind,
        "licence": view.page.licence,
        "meta": {name: value for name, value in view.page.meta.items() if value is not None},
        "counts": counts(view),
        "text": view.page.text,
        "blocks": [
            {**block._asdict(), "why": [{"words": words, "weight": round(weight, 4)} for words, weight in block.why]}
            for block in view.blocks
        ],
    }


def facts(view: View) -> list[tuple[str, str]]:
    """What to show beside the text, in words."""
    number, meta = counts(view), {name: value for name, value in view.page.meta.items() if value is not None}
    meta.pop("page_kind", None)
    told = [("kind", view.page.kind or "other"), ("url", view.raw.url), ("licence", view.page.licence)]
    told += [(name.replace("html_lang", "language").replace("_", " "), _words(value)) for name, value in meta.items()]
    told.append(("bytes", f"{number['bytes']:,} of HTML, {number['characters']:,} characters of text"))
    if view.blocks:
        told.append(("blocks", f"{number['kept']:,} of {number['blocks']:,} kept, {number['words_kept']:,} of {number['words']:,} words"))
    if view.raw.note:
        told.append(("note", view.raw.note))
    return [(name, value) for name, value in told if value]


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
