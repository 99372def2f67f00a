"""What is known of one page, as data: the process that reads pages makes it, the one that shows them needs nothing else."""

from __future__ import annotations

import os
import re
from typing import Any, Literal, NamedTuple

Only = Literal["kept", "dropped"]
LIMIT = 64 << 20  # bytes of a page


class Wanted(NamedTuple):
    """Which record of an archive; nothing = none is chosen."""

    url: str | None = None
    offset: int | None = None
    record: int | None = None


ANY = Wanted()
_OFFSET = re.compile(r"(.+)#(\d{1,18})")


def with_offset(where: str, offset: int | None) -> tuple[str, int | None]:
    """`archive.warc.gz#1234` is the archive and its offset, unless a file has that name or an offset is given."""
    found = _OFFSET.fullmatch(where)
    if offset is not None or not found or os.path.lexists(where):
        return where, offset
    return found[1], int(found[2])


class Raw(NamedTuple):
    """A page as it is stored."""

    name: str  # what to call it
    html: bytes
    charset: str | None = None  # what the transport said
    url: str | None = None
    note: str | None = None  # what a person should know of it


class Entry(NamedTuple):
    """A page of an archive."""

    record: int  # its number in the archive, from 1
    offset: int
    url: str
    bytes: int
    title: str
    error: str | None = None  # why its title is not known


class Block(NamedTuple):
    kept: bool
    score: float  # 0 to 1; what is over `View.threshold` is kept
    reason: str  # `score`, a rule of kernels/blockchoice.py, or `all`: what decided
    tag: str
    words: int
    text: str  # bare
    why: list[tuple[str, str, float]]  # what moved the score most: a feature, what it says in words, what it added to the log-odds

    @property
    def because(self) -> list[str]:
        """Why it was kept or dropped, in words: the rule that decided, then what speaks for the side that the score is on."""
        ruled = [] if self.reason == "score" else [_RULES[self.reason][not self.kept]]
        side = 1 if self.kept == (self.reason == "score") else -1
        told, rest = ([words for _, words, weight in self.why if (weight * side > 0) == wanted] for wanted in (True, False))
        if ruled:
            return [*ruled, *told[:1]] if self.reason == "all" else ruled
        return told or [f"too little speaks for it: {rest[0]}" if rest else "nothing speaks for it, and most blocks are no content"]


# What the rules beside the score do, where they keep and where they drop.
_RULES = {
    "table": ("kept with its table, which is content as a whole", "dropped with its table, which is no content as a whole"),
    "code": ("code near to what is kept", "code far from what is kept"),
    "formula": ("a formula, which is kept unless it is next to impossible", "a formula among links"),
    "heading": ("the heading of what is kept", "a heading of nothing that is kept"),
    "nothing better": ("too little of the page would be left without it", ""),
    "all": ("kept by --extract all; its score would have it dropped", ""),
}


class View(NamedTuple):
    name: str
    url: str | None
    note: str | None
    bytes: int  # of HTML
    text: str  # Markdown
    kind: str | None
    licence: str | None
    meta: dict[str, object]  # what the page says of itself, and what was done to it
    blocks: list[Block]
    threshold: float


def chosen(view: View, only: Only | None) -> list[Block]:
    return [block for block in view.blocks if only is None or block.kept == (only == "kept")]


def counts(view: View) -> dict[str, int]:
    kept = [block for block in view.blocks if block.kept]
    return {
        "blocks": len(view.blocks),
        "kept": len(kept),
        "words": sum(block.words for block in view.blocks),
        "words_kept": sum(block.words for block in kept),
        "bytes": view.bytes,
        "characters": len(view.text),
    }


def as_json(view: View, only: Only | None = None) -> dict[str, Any]:
    return {
        "name": view.name,
        "url": view.url,
        "kind": view.kind,
        "licence": view.licence,
        "meta": {name: value for name, value in view.meta.items() if value is not None},
        "note": view.note,
        "threshold": view.threshold,
        "counts": counts(view),
        "text": view.text,
        "blocks": [
            {
                **block._asdict(),
                "why": [{"feature": name, "words": words, "weight": round(weight, 4)} for name, words, weight in block.why],
            }
            for block in chosen(view, only)
        ],
    }


def facts(view: View) -> list[tuple[str, str]]:
    """What to show beside the text, in words."""
    number, meta = counts(view), {name: value for name, value in view.meta.items() if value is not None}
    meta.pop("page_kind", None)
    told = [("kind", view.kind or "other"), ("url", view.url), ("licence", view.licence)]
    told += [(name.replace("html_lang", "language").replace("_", " "), _words(value)) for name, value in meta.items()]
    told.append(("bytes", f"{number['bytes']:,} of HTML, {number['characters']:,} characters of text"))
    if view.blocks:
        told.append(("blocks", f"{number['kept']:,} of {number['blocks']:,} kept, {number['words_kept']:,} of {number['words']:,} words"))
    if view.note:
        told.append(("note", view.note))
    return [(name, value) for name, value in told if value]


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
