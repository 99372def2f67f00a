"""What kind of page it is: article, blog, forum, documentation, listing, product, or other.

Every piece of evidence (types, generator, classes, address, dates, counts of blocks) votes as the table in `page_kind_rules.py` says, and
the kind with the most votes is taken. Deterministic; cost: 60 µs a page. Reads no text, so a page that hides what it is by all of these
is taken for what it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, get_args

from codedev.corpus.extract.page_about import About
from codedev.corpus.extract.page_kind_rules import RULES, Kind, Rule
from codedev.corpus.extract.page_nodes import Nodes
from codedev.kernels import htmlfind

KINDS: tuple[Kind, ...] = get_args(Kind)  # of equal votes the first wins


class Stats(NamedTuple):
    """What an extractor counts of a page's blocks."""

    blocks: int = 0  # of text that are kept
    words: int = 0  # in them
    words_all: int = 0  # of the whole page
    link_share: float = 0.0  # of all words, those inside links
    paragraphs: int = 0  # with 30 words or more
    repeated: int = 0  # children of one parent with the same tag and classes, where most
    code: int = 0  # blocks
    tables: int = 0
    prices: int = 0  # amounts of money
    posts: int = 0  # blocks marked as a reader's post, answer or comment


class Verdict(NamedTuple):
    kind: Kind
    votes: dict[Kind, float]
    said: list[Rule]  # that hold

    @property
    def evidence(self) -> list[str]:
        """What voted for it, strongest first."""
        for_it = sorted((rule for rule in self.said if rule.votes.get(self.kind, 0.0) > 0), key=lambda rule: -rule.votes[self.kind])
        return [f"{rule.source} {_shown(rule)}: {rule.why}" for rule in for_it]


def kind(nodes: Nodes, url: str | None, about: About, stats: Stats) -> Verdict:
    """The page's kind, and what it was told by."""
    votes: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
    said: list[Rule] = []
    for rule in _holding(_told(nodes, url, about), about, stats):
        said.append(rule)
        for name, vote in rule.votes.items():
            votes[name] += vote
    best = max(KINDS, key=lambda name: votes[name])
    return Verdict(best, votes, said)


_LONGEST = 1000  # characters of a text that are looked at
_BY_TYPE = {rule.holds: rule for rule in RULES if rule.source == "type"}


def _forms(source: str) -> list[tuple[Rule, re.Pattern[str], re.Pattern[str]]]:
    """Rules about one text with what they hold, first less its edges of words: without them a search skips to where a match may begin,
    which makes it five times as fast."""
    held = [(rule, rule.holds) for rule in RULES if rule.source == source and isinstance(rule.holds, str)]
    return [(rule, re.compile(holds.replace(r"\b", "")), re.compile(holds)) for rule, holds in held]


# Texts are in lower case when they are looked into: 1.5 times as fast as without regard to case.
_BY_TEXT = {source: _forms(source) for source in ("generator", "class", "host", "path", "title")}
_BY_COUNT = [(rule, *rule.holds) for rule in RULES if isinstance(rule.holds, tuple)]
_ADDRESS = re.compile(r"[a-z]+://([^/?#]*)([^#]*)", re.IGNORECASE)
_ARCHIVE = re.compile(r"\Ahttps?://web\.archive\.org/web/\d+[a-z_]*/(?=(https?://)?)", re.IGNORECASE)


def _told(nodes: Nodes, url: str | None, about: About) -> dict[str, str]:
    """The texts that rules look into."""
    roots = [nodes.attributes(root) for what in (htmlfind.HTML, htmlfind.BODY) if (root := nodes.first(what)) is not None]
    marks = [told.get(name, "") for told in roots for name in ("class", "id")]
    title = nodes.first(htmlfind.TITLE)
    title_text = f"{about.site or ''} {(''.join(nodes.parts(title)) if title is not None else '') or about.title or ''}"
    texts = {"class": " ".join(marks), "title": title_text, "generator": about.generator or ""}
    address = (url or about.canonical or "")[:_LONGEST]
    if (archived := _ARCHIVE.match(address)) is not None:
        address = address[archived.end() :] if archived[1] else "http://" + address[archived.end() :]
    if found := _ADDRESS.match(address):
        texts |= {"host": found[1], "path": found[2]}
    return {name: text[:_LONGEST].lower() for name, text in texts.items()}


def _holding(told: dict[str, str], about: About, stats: Stats) -> Iterator[Rule]:
    for name in about.types:
        if rule := _BY_TYPE.get(name):
            yield rule
    for source, rules in _BY_TEXT.items():
        if (text := told.get(source)) is not None:
            yield from (rule for rule, loose, form in rules if loose.search(text) and form.search(text))
    counts = stats._asdict() | {"published": bool(about.published), "authors": bool(about.authors), "section": bool(about.section)}
    for rule, low, high in _BY_COUNT:
        if low <= counts[rule.source] < high:
            yield rule


def _shown(rule: Rule) -> str:
    return rule.holds[:40] if isinstance(rule.holds, str) else f"{rule.holds[0]:g} to {rule.holds[1]:g}"
