"""Why a block scored as it did: what each feature added to the score of the trees, in words.

A node of a tree is worth the mean of the leaves below it, by the blocks that it was learnt from; on its way down, a block gains or loses
the difference at each question that it is asked, and the feature that was asked about is given that difference (Saabas). The differences
of a block and the mean of all trees add up to its score before the logistic function, exactly. Features that say one thing (words,
characters) are added up, and the one that moved most speaks for them; what holds of the whole page, and so tells no two of its blocks
apart, is not told. Cost: 70 µs a block. It tells what the model looked at, not what would have to change for another verdict.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from codedev.corpus.extract.content import Model
from codedev.kernels.blockfeatures import FEATURES
from codedev.kernels.htmltape import NAMES, OTHER
from codedev.kernels.trees import DEPTH, Trees

_ROWS = 256  # explained at a time: 0.5 MB of contributions


Reason = tuple[str, str, float]  # a feature, what it says in words, and what it and its like added to the log-odds


def reasons(model: Model, table: np.ndarray, most: int = 3) -> list[list[Reason]]:
    """For each row of float32[blocks, FEATURES], what moved its score most, the strongest first. Of two and more, one is for the other side
    where anything is."""
    return [
        _told(row, given, most)
        for start in range(0, len(table), _ROWS)
        for row, given in zip(table[start : start + _ROWS], contributions(model.trees, table[start : start + _ROWS]), strict=True)
    ]


def _told(row: np.ndarray, given: np.ndarray, most: int) -> list[Reason]:
    together = np.bincount(_GROUP_OF, given, _GROUPS)
    together[_NUMBERS["page"]] = 0
    ranked = [group for group in np.argsort(-np.abs(together), kind="stable") if together[group]]
    told = ranked[:most]
    if 1 < most < len(ranked) and len({together[group] > 0 for group in told}) == 1:
        other = next((group for group in ranked[most:] if (together[group] > 0) != (together[told[0]] > 0)), told[-1])
        told = [*told[:-1], other]
    return [(*_speaker(group, row, given), float(together[group])) for group in told]


def _speaker(group: int, row: np.ndarray, given: np.ndarray) -> tuple[str, str]:
    """The feature that moved most in the direction in which the group moved, and its words."""
    members = np.flatnonzero(group == _GROUP_OF)
    sign = np.sign(given[members].sum())
    feature = int(members[np.argmax(given[members] * sign)])
    return FEATURES[feature], phrase(feature, row)


def contributions(trees: Trees, table: np.ndarray) -> np.ndarray:
    """float64[rows, FEATURES]: with `base(trees)`, the rows add up to the sums of their leaves."""
    worth = _worths(trees)
    rows, features = table.shape
    out = np.zeros(rows * features)
    start, tree = (np.arange(rows) * features)[:, None], np.arange(len(worth))[None, :]
    node = np.zeros((rows, len(worth)), np.int64)
    for _ in range(DEPTH):
        asked = trees.feature[tree, node].astype(np.int64)
        right = table[np.arange(rows)[:, None], asked] > trees.threshold[tree, node]
        child = 2 * node + 1 + right
        gained = worth[tree, child] - worth[tree, node]
        out += np.bincount((start + asked).ravel(), gained.ravel(), len(out))
        node = child
    return out.reshape(rows, features)


def base(trees: Trees) -> float:
    """What a block is given before its first question."""
    return float(_worths(trees)[:, 0].sum())


def _worths(trees: Trees) -> np.ndarray:
    """float64[trees, nodes and leaves], as a heap."""
    return np.concatenate([trees.worth, trees.leaf], axis=1, dtype=np.float64)


# --- words

Say = Callable[[float, str], str]  # the feature's value and what its name leaves open -> words


class _Phrase(NamedTuple):
    pattern: re.Pattern[str]  # of whole names of features; its group goes to `say`
    group: str  # features of one group are added up
    say: Say


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _counted(one: str, many: str) -> Say:
    return lambda value, _: f"no {many}" if value == 0 else f"1 {one}" if value == 1 else f"{_number(value)} {many}"


def _part(value: float) -> str:
    """A share in words, so that a little is told from nothing."""
    if value <= 0:
        return "none"
    return "all" if value >= 1 else "less than 1 %" if value < 0.005 else "almost all" if value > 0.995 else f"{value * 100:.0f} %"


def _share(of: str) -> Say:
    return lambda value, _: f"{_part(value)} {of}"


def _rate(what: str) -> Say:
    """`value` a word."""
    return lambda value, _: f"no {what}s" if value <= 0 else f"a {what} every {1 / value:.0f} words" if value < 1 else f"a {what} a word"


def _yes(yes: str, no: str) -> Say:
    return lambda value, rest: (yes if value > 0 else no).format(rest)


def _inside(what: str) -> Say:
    return _yes(f"inside {what}", f"outside of {what}")


def _tag(value: float) -> str:
    number = int(value) - OTHER - 1
    return f"a <{NAMES[number]}>" if 0 <= number < len(NAMES) else "an element that HTML does not know"


def _way(what: str, nowhere: str) -> Say:
    def say(value: float, _: str) -> str:
        if value == -999:
            return nowhere
        return f"is the {what}" if value == 0 else f"{_number(abs(value))} {_blocks(value)} {'before' if value < 0 else 'after'} the {what}"

    return say


def _blocks(count: float) -> str:
    return "block" if abs(count) == 1 else "blocks"


def _around(level: str) -> str:
    return "the element around it" if level == "1" else f"the element {level} levels up"


def _rich(value: float, level: str) -> str:
    if value < 0.005:
        return f"no running text in {_around(level)}"
    if value >= 1:
        return f"{_around(level)} is the page's richest in running text"
    return f"{_around(level)} is {_part(value)} as rich in running text as the page's richest"


def _neighbour(offset: str) -> str:
    count = abs(int(offset))
    side = "before" if offset.startswith("-") else "after"
    return f"the block {side} it" if count == 1 else f"the block {count} {side} it"


def _edge(offset: int) -> str:
    which = "first" if offset < 0 else "last"
    return f"is the page's {which} block" if abs(offset) == 1 else f"is among the page's {which} {abs(offset)} blocks"


def _beside(say: Say) -> Say:
    """-1 is past the edge of the page."""
    return lambda value, rest: _edge(int(rest)) if value < 0 else say(value, _neighbour(rest))


# What a text mark is about, where its first word does not say it.
_SAID = {
    "subscrib": "subscribing", "sign": "signing in", "advertis": "advertising", "read": "reading on",
    "posted": "when it was posted", "by": "who wrote it", "next": "next or previous", "january": "a month",
    "monday": "a day of the week", "am": "a time of day", "views": "views or likes", "watch": "watching or listening",
    "search": "search or home", "price": "a price", "join": "an offer", "the": "a common word", "you": "you or us",
    "skip": "going to the top", "correction": "a correction", "photo": "a picture's credit", "source": "a source",
    "follow": "a social network", "share": "sharing", "comment": "comments", "related": "related pages", "tags": "tags",
    "click": "clicking", "email": "e-mail", "download": "download or print", "cookie": "cookies", "privacy": "privacy or terms",
}  # fmt: skip
# Stems among the words of classes.
_SPELT = {
    "subscri": "subscribe",
    "pagina": "pagination",
    "donat": "donate",
    "lang": "language",
    "stat": "statistics",
    "desc": "description",
}
_CLASSES = ("other", "a capital", "a small letter", "a digit", "a letter beyond ASCII", "a sign")
_ENDS = ("nothing", "a letter", "a digit", "the end of a sentence", "a colon", "a comma", "a sign")
_PLACE_WORDS = {
    "hidden": "hidden", "aria_hidden": "hidden from screen readers", "article_body": "inside what is marked articleBody",
    "role_main": "inside role=main",
}  # fmt: skip


def _place(value: float, name: str) -> str:
    words = _PLACE_WORDS.get(name) or f"inside <{name}>"
    return words if value > 0 else f"not {words}"


def _mark(value: float, name: str) -> str:
    """A mark stands for words of one meaning, of which one gives it its name."""
    what = f"class or id like “{_SPELT.get(name, name)}”"
    if value >= 20:
        return f"no {what} on it or around it"
    return f"its {what}" if value == 0 else f"a {what}, {_number(value)} {'level' if value == 1 else 'levels'} up"


def _core(what: str) -> Say:
    def say(value: float, _: str) -> str:
        where = "outside of" if value < 0 else "inside"
        return f"{_number(abs(value))} {'level' if abs(value) == 1 else 'levels'} {where} {what}"

    return say


def _article(value: float, _: str) -> str:
    return f"its <article> holds {_part(value)} of the page's paragraphs" if value else "in no <article> that holds paragraphs"


def _alike(value: float, _: str) -> str:
    return "no other block has its tags and classes" if value <= 1 else f"{_number(value)} blocks have the same tags and classes"


def _linked(value: float, which: str) -> str:
    return f"{which} has no links" if value <= 0 else f"{_part(value)} of {which} is links"


def _list(*phrases: tuple[str, str, Say]) -> tuple[_Phrase, ...]:
    return tuple(_Phrase(re.compile(pattern), group, say) for pattern, group, say in phrases)


_NO_PARAGRAPHS = "the page has no full paragraphs"
PHRASES = _list(
    ("tag", "tag", lambda value, _: f"is {_tag(value)}"),
    ("heading", "tag", lambda value, _: f"is a heading of level {_number(value)}" if value else "is no heading"),
    ("words", "length", lambda value, _: f"{_number(value)} {'word' if value == 1 else 'words'} long"),
    ("chars", "length", lambda value, _: f"{_number(value)} {'character' if value == 1 else 'characters'} long"),
    ("paragraph", "length", _yes("a full paragraph with few links", "no full paragraph")),
    ("link_share", "links", _share("of its text is links")),
    ("links", "links", _counted("link", "links")),
    ("link_words", "links", _counted("word in links", "words in links")),
    ("word_length", "spelling", lambda value, _: f"{value:.1f} characters a word"),
    ("longest", "spelling", lambda value, _: f"a longest word of {_number(value)} letters"),
    ("capitalised", "spelling", _share("of its words begin with a capital")),
    ("short", "spelling", _share("of its words are short")),
    ("foreign", "spelling", _share("of its characters are beyond ASCII")),
    ("digits", "digits", _share("of its characters are digits")),
    ("commas", "sentences", _rate("comma")),
    ("sentences", "sentences", _counted("end of a sentence", "ends of sentences")),
    ("first", "ends", lambda value, _: f"begins with {_CLASSES[int(value)]}"),
    ("last", "ends", lambda value, _: f"ends in {_ENDS[int(value)]}"),
    ("bars", "bars", _counted("bar or slash", "bars or slashes")),
    ("emphasis", "emphasis", _share("of it is bold or italic")),
    ("code", "code", _share("of it is code")),
    ("math", "math", _counted("formula", "formulas")),
    ("breaks", "breaks", _counted("line break", "line breaks")),
    ("images", "images", _counted("picture just before", "pictures just before")),
    ("inputs", "inputs", _counted("form field just before", "form fields just before")),
    ("depth", "depth", lambda value, _: f"nested {_number(value)} elements deep"),
    ("index", "position", lambda value, _: f"block {_number(value + 1)} of the page"),
    ("from_end", "position", lambda value, _: f"{_number(value)} {_blocks(value)} from the page's end"),
    ("position", "position", lambda value, _: f"{value * 100:.0f} % down the page's blocks"),
    ("words_before", "position", _share("of the page's words are before it")),
    ("same_text", "same_text", lambda value, _: "its text comes once" if value <= 1 else f"its text comes {_number(value)} times"),
    ("same_shape", "shape", _alike),
    ("shape_words", "shape", lambda value, _: f"blocks with its tags and classes have {_number(value)} words each"),
    ("shape_links", "shape", _share("of the words in blocks with its tags and classes are links")),
    ("shape_share", "shape", _share("of the page's words are in blocks with its tags and classes")),
    ("is_title", "title", _yes("says what the page's title says", "does not say the page's title")),
    ("from_heading", "heading", _way("main heading", "the page has no <h1>")),
    ("from_first", "first", _way("first full paragraph", _NO_PARAGRAPHS)),
    ("from_last", "last", _way("last full paragraph", _NO_PARAGRAPHS)),
    ("in_core([975])", "core", _inside("the element with {}0 % of the page's paragraphs")),
    ("in_top", "core", _inside("the element that is richest in running text")),
    ("steps_to_core", "core", _core("the element with half of the page's paragraphs")),
    ("steps_to_top", "core", _core("the element that is richest in running text")),
    ("score([12])", "core", _rich),
    ("article_share", "article", _article),
    ("articles", "page", _counted("<article> on the page", "<article>s on the page")),
    (r"words([1-4])", "around", lambda value, level: f"{_around(level)} has {_number(value)} words"),
    (r"link_share([1-4])", "around", lambda value, level: f"{_part(value)} of the words of {_around(level)} are links"),
    (r"blocks([1-4])", "around", lambda value, level: f"{_around(level)} holds {_number(value)} {_blocks(value)}"),
    (r"share([1-4])", "around", lambda value, level: f"{_around(level)} holds {_part(value)} of the page's paragraphs"),
    (r"mean([1-4])", "around", lambda value, level: f"{_around(level)} has {_number(value)} words a block"),
    (r"place([1-4])", "around", lambda value, level: f"{value * 100:.0f} % down {_around(level)}"),
    (r"tag([1-4])", "around", lambda value, level: f"{_around(level)} is {_tag(value)}" if value else f"{_around(level)} is the page"),
    (r"words([+-]\d)", "near", _beside(lambda value, which: f"{which} has {_number(value)} words")),
    (r"link_share([+-]\d)", "near", _beside(_linked)),
    (r"tag([+-]\d)", "near", _beside(lambda value, which: f"{which} is {_tag(value)}")),
    (r"near([+-]\d)", "near", _beside(lambda value, which: f"{which} {'shares' if value else 'does not share'} its parent")),
    (r"same_shape([+-]\d)", "near", _beside(lambda value, which: f"{which} has {'the same' if value else 'other'} tags and classes")),
    ("page_blocks", "page", lambda value, _: f"{_number(value)} blocks on the page"),
    ("page_words", "page", lambda value, _: f"{_number(value)} words on the page"),
    ("page_link_share", "page", _share("of the page's words are links")),
    ("page_paragraphs", "page", lambda value, _: f"{_number(value)} full paragraphs on the page"),
    ("page_longest", "page", lambda value, _: f"the page's longest block has {_number(value)} words"),
    (r"in_(\w+)", "", _place),
    (r"mark_(\w+)", "", _mark),
    (r"says_(\w+)", "", lambda value, name: f"{'speaks' if value else 'does not speak'} of {_SAID.get(name, name)}"),
)  # fmt: skip


def _phrase_of(feature: str) -> tuple[str, str, Say]:
    """(group, what the name leaves open, what to say). Where a group has no name, each feature is its own."""
    for pattern, group, say in PHRASES:
        if found := pattern.fullmatch(feature):
            return group or feature, found[1] if found.re.groups else "", say
    raise KeyError(feature)


_OF_FEATURE = [_phrase_of(feature) for feature in FEATURES]
_NUMBERS = {group: number for number, group in enumerate(dict.fromkeys(group for group, _, _ in _OF_FEATURE))}
_GROUPS = len(_NUMBERS)
_GROUP_OF = np.array([_NUMBERS[group] for group, _, _ in _OF_FEATURE])


def phrase(feature: int, row: np.ndarray) -> str:
    """What the number of a feature says of a block."""
    _, rest, say = _OF_FEATURE[feature]
    return say(float(row[feature]), rest)
