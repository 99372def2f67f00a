"""The pages that an extractor does worst on, with the text it lost and the text it let in."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from extract.quality import found_in, gold_of, gold_text, is_pre

from codedev.corpus.extract.learn import metrics
from codedev.corpus.extract.learn.gold import GoldPage

_WORD = re.compile(r"\w+")
_SHINGLE = 4
_SHOWN = 1500  # characters of each kind, of a page


def worst_words(pages: Sequence[GoldPage], texts: Sequence[str | None], number: int) -> Iterator[str]:
    """By F1 of words, lowest first. A run is shown where no shingle of it is on the other side."""
    scored = []
    for page, text in zip(pages, texts, strict=True):
        scores = metrics.shingle_scores(gold_text(page), text or "").scores()
        scored.append((scores.f1, scores, page, text or ""))
    for _, scores, page, text in sorted(scored, key=lambda one: one[0])[:number]:
        yield f"\n=== {page.set}/{page.id}  F1 {scores.f1:.3f}  P {scores.precision:.3f}  R {scores.recall:.3f}  {page.url}"
        yield from _named("lost", alone(gold_text(page), text))
        yield from _named("surplus", alone(text, gold_text(page)))


def worst_segments(pages: Sequence[GoldPage], texts: Sequence[str | None], number: int) -> Iterator[str]:
    """By segments missed or let in, most first."""
    scored = []
    for page, text in zip(pages, texts, strict=True):
        line = " ".join((text or "").split())
        missed = [segment for segment in page.must if " ".join(segment.split()) not in line]
        let_in = [segment for segment in page.must_not if " ".join(segment.split()) in line]
        scored.append((len(missed) + len(let_in), missed, let_in, page, len(line)))
    for wrong, missed, let_in, page, length in sorted(scored, key=lambda one: -one[0])[:number]:
        if wrong:
            yield f"\n=== {page.set}/{page.id}  {wrong} wrong, {length} characters came out  {page.url}"
            yield from _named("missed", missed)
            yield from _named("let in", let_in)


def lost_formulas(pages: Sequence[GoldPage], texts: Sequence[str | None], number: int) -> Iterator[str]:
    """By formulas that did not come out, most first."""
    scored = []
    for page, text in zip(pages, texts, strict=True):
        wanted, found = gold_of(page), found_in(page, text)
        scored.append(((wanted - found).total(), wanted.total(), wanted - found, found - wanted, page))
    for lost, total, missing, surplus, page in sorted(scored, key=lambda one: -one[0])[:number]:
        if lost:
            yield f"\n=== {page.set}/{page.id}  {lost} of {total} formulas lost  {page.url}"
            yield from _named("lost", list(missing))
            yield from _named("instead", list(surplus))


def altered_code(pages: Sequence[GoldPage], texts: Sequence[str | None], number: int) -> Iterator[str]:
    """Blocks of `<pre>` that are no block of the text, each beside the block that is nearest to it."""
    left = number
    for page, text in zip(pages, texts, strict=True):
        blocks = [block.text.strip("\n") for block in metrics.code_blocks(text or "")]
        for element in page.elements:
            wanted = element.text.strip("\n")
            if element.kind != "code" or not is_pre(element) or wanted in blocks or not left:
                continue
            left -= 1
            near = difflib.get_close_matches(wanted, blocks, 1, 0.3)
            yield f"\n=== {page.set}/{page.id}  {element.source}\n  wanted:  {wanted[:_SHOWN]!r}"
            yield f"  nearest: {near[0][:_SHOWN]!r}" if near else "  nearest: no block is like it"


def alone(text: str, other: str) -> list[str]:
    """The runs of words of `text` that are in no shingle of `other`, with what is between; equal shingles are used up one by one."""
    found = list(_WORD.finditer(text))
    names = [word[0] for word in found]
    there = Counter(_shingles(_WORD.findall(other)))
    common = bytearray(len(names))
    for at, shingle in enumerate(_shingles(names)):
        if there[shingle] > 0:
            there[shingle] -= 1
            common[at : at + _SHINGLE] = b"\1" * len(common[at : at + _SHINGLE])
    runs, start = [], None
    for at in range(len(names) + 1):
        if at < len(names) and not common[at]:
            start = at if start is None else start
        elif start is not None:
            runs.append(text[found[start].start() : found[at - 1].end()])
            start = None
    return runs


def _shingles(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + _SHINGLE]) for at in range(max(1, len(words) - _SHINGLE + 1))] if words else []


def _named(title: str, runs: Sequence[str]) -> Iterator[str]:
    room = _SHOWN
    for run in runs:
        if room <= 0:
            yield f"  {title}: … {len(runs)} in all"
            return
        line = " ".join(run.split())
        shown = line if len(line) <= 400 else f"{line[:250]} … {line[-100:]} [{len(line)} characters]"
        yield f"  {title}: {shown}"
        room -= len(shown)
