"""SentencePiece models of the ChatGLM-6B family write white space as tokens: `<n>`, `<|tab|>`, and `<|blank_2|>` to `<|blank_80|>`
for runs of spaces. A model does not say so; the code around it replaces text before encoding and after decoding. Models that have all of
these pieces are used by that rule here: without it every line end would become a space.

The rule: a line feed is `<n>`, a tab `<|tab|>`, a run of spaces is cut into eighties from the left, and a rest of two or more is one token.
A text that has such a name in it decodes to the white space, as in the released code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

LONGEST = 80  # spaces in a token
_NAMES = {b"\n": b"<n>", b"\t": b"<|tab|>", **{b" " * count: b"<|blank_%d|>" % count for count in range(2, LONGEST + 1)}}
_TEXTS = {name.decode(): text.decode() for text, name in _NAMES.items()}
_WHITE = re.compile(rb"[\n\t]| {2,%d}" % LONGEST)
_NAMED = re.compile(r"<n>|<\|tab\|>|<\|blank_(?:[2-9]|[1-7][0-9]|80)\|>")


def written_so(names: Sequence[str]) -> bool:
    """Whether a model of these pieces writes white space as tokens."""
    return _TEXTS.keys() <= set(names)


class Blanks:
    """A SentencePieceProcessor behind the rule; encodes bytes with `offset_mapping` alone. Any number of threads may use it."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def encode(self, data: bytes, **options: Any) -> dict[str, Any]:
        """Offsets are those of `data`."""
        spans = [found.span() for found in _WHITE.finditer(data)]
        found: dict[str, Any] = self._processor.encode(_WHITE.sub(lambda one: _NAMES[one[0]], data), **options)
        if not spans:
            return found
        begins, ends = np.array(spans, np.int64).T
        longer = np.array([len(_NAMES[data[begin:end]]) for begin, end in spans], np.int64) - (ends - begins)
        grown = np.cumsum(longer)
        # Where each name begins and ends in what was encoded. An offset inside of a name is where the white space begins.
        there = begins + grown - longer
        stops = ends + grown
        asked = np.array(found["offsets"], np.int64).reshape(-1)
        last = np.searchsorted(there, asked, "right") - 1
        inside = (last >= 0) & (asked < stops[last])
        back = np.where(inside, begins[last], asked - np.where(last >= 0, grown[last], 0))
        return {**found, "offsets": [tuple(pair) for pair in back.reshape(-1, 2).tolist()]}

    def decode(self, ids: Sequence[int]) -> str:
        return _NAMED.sub(lambda one: _TEXTS[one[0]], self._processor.decode(list(ids)))
