"""Tokens as they come, to text as it can be shown: whole characters alone, and nothing that may become a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from codedev.tokenize.vocabulary import Vocabulary, decode, special_ids

_LOST = "\ufffd"  # what a decoder writes for bytes that are no character, or not yet
_BEFORE = 64  # tokens of the prompt that decide how the next one is written


class TextStream:
    """The text behind a prompt, token by token.

    A token is decoded together with those before it: whether a blank stands before it, and which character its bytes end, is theirs to
    say. Of a long answer a few tokens are decoded again for each new one. Joined, what `add` and `end` give is `text`.
    """

    def __init__(self, vocabulary: Vocabulary, prompt: Sequence[int], stops: Sequence[str] = ()) -> None:
        specials = special_ids(vocabulary)
        tail = list(prompt[-_BEFORE:])
        cut = max((number + 1 for number, token in enumerate(tail) if token in specials), default=0)
        tail = tail[cut:]
        while tail and decode(vocabulary, tail, specials=False).startswith(_LOST):  # it begins inside a character
            tail = tail[1:]
        self._vocabulary = vocabulary
        self._window = tail  # the tokens that are decoded: from the character before the last on
        self._whole = len(tail)  # of them, up to the last whole character
        self._shown = len(self._decoded())  # characters of the window that are told
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""  # the beginning of a stop string, perhaps
        self.text = ""
        self.tokens = 0
        self.stopped = False  # at a stop string, which is not told

    def add(self, token: int) -> str:
        """What can be told now."""
        self.tokens += 1
        self._window.append(token)
        decoded = self._decoded()
        certain = decoded.rstrip(_LOST)
        fresh = certain[self._shown :]
        self._shown = max(self._shown, len(certain))
        if fresh and certain == decoded:
            self._window, self._whole = self._window[self._whole :], len(self._window) - self._whole
            self._shown = len(self._decoded())
        return self._told(fresh)

    def end(self) -> str:
        """What is left to tell when no more tokens come."""
        return "" if self.stopped else self._told(self._decoded()[self._shown :], last=True)

    def _decoded(self) -> str:
        return decode(self._vocabulary, self._window, specials=False) if self._window else ""

    def _told(self, fresh: str, last: bool = False) -> str:
        text = self._held + fresh
        found = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=-1)
        if found >= 0:
            text, self._held, self.stopped = text[:found], "", True
        elif last:
            self._held = ""
        else:
            keep = max((_overlap(text, stop) for stop in self._stops), default=0)
            text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self.text += text
        return text


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that begins `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
