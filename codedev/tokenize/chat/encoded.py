"""Rendered texts to tokens, all texts of a batch in one call.

What stands between special tokens is encoded by itself, as `tokenizers` does it; a special token is its id. A token carries loss when it
begins in a span of loss: one that straddles the span's beginning does not, one that straddles its end does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from codedev.kernels.packing import copy_segments
from codedev.tokenize.chat.render import Rendered, Template
from codedev.tokenize.vocabulary import Vocabulary, encode_plain, token_bytes

_TEXT, _GAP = -1, -2  # a gap: blanks that a special token beside them takes
# Unicode's White_Space, which `tokenizers` strips; str.strip() takes four controls more.
_BLANKS = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class Spans(NamedTuple):
    """Tokens [start, end) of rows, both counted in the row."""

    rows: np.ndarray  # int64, rising
    starts: np.ndarray  # int64
    ends: np.ndarray  # int64


class Encoded(NamedTuple):
    ids: np.ndarray  # uint16 or uint32: tokens of all texts one after another
    offsets: np.ndarray  # int64[texts + 1]
    loss: Spans  # by text
    byte_lengths: (
        np.ndarray | None
    )  # uint32 a token: bytes of the rendered text it covers, 0 for special tokens; None: the vocabulary tells

    def row(self, number: int) -> np.ndarray:
        return self.ids[self.offsets[number] : self.offsets[number + 1]]

    def counts(self) -> np.ndarray:
        return np.diff(self.offsets)


def encode(vocabulary: Vocabulary, template: Template, texts: Sequence[Rendered]) -> Encoded:
    """The tokens of each text. About 0.5 µs a special token beside the encoder."""
    names = {number: len(name.encode()) for name, number in template.specials.items()}
    what: list[int] = []
    sizes: list[int] = []  # bytes; of text: filled in below
    pieces: list[str] = []
    inner: list[bool] = []  # of each piece: it is not the beginning of a text
    elements: list[int] = []  # of each text
    for rendered in texts:
        before = len(what)
        for kind, piece in _elements(template, rendered):
            what.append(kind)
            sizes.append(names[kind] if kind >= 0 else len(piece.encode()) if kind == _GAP else 0)
            if kind == _TEXT:
                pieces.append(piece)
                inner.append(rendered.inside if len(what) == before + 1 else template.inner is not None and template.inner.behind_specials)
        elements.append(len(what) - before)

    kinds, element_bytes = np.array(what, np.int64), np.array(sizes, np.int64)
    texts_at, special_at = np.flatnonzero(kinds == _TEXT), np.flatnonzero(kinds >= 0)
    counts = (kinds >= 0).astype(np.int64)
    encodings = []
    for one, which in _groups(vocabulary, template, np.array(inner, np.bool_)):
        given = pa.array([pieces[i] for i in which] if len(which) < len(pieces) else pieces, pa.large_string())
        plain = encode_plain(one, given)
        at = texts_at[which]
        element_bytes[at] = np.diff(np.frombuffer(given.buffers()[1], np.int64, len(given) + 1)) if len(given) else 0
        counts[at] = np.diff(plain.offsets)
        encodings.append((at, plain))
    begins = np.concatenate([[0], np.cumsum(counts)])  # in tokens
    ids = np.zeros(int(begins[-1]), vocabulary.dtype)
    ids[begins[special_at]] = kinds[special_at]
    covered = np.zeros(len(ids), np.uint32)
    covered[begins[special_at]] = element_bytes[special_at]
    for at, plain in encodings:
        copy_segments(plain.ids, plain.offsets[:-1], counts[at], begins[at], ids)
        copy_segments(token_bytes(vocabulary, plain), plain.offsets[:-1], counts[at], begins[at], covered)

    first = np.concatenate([[0], np.cumsum(np.array(elements, np.int64))]).astype(np.int64)
    offsets = begins[first]
    places = np.concatenate([[0], np.cumsum(element_bytes)])  # of elements, in bytes
    starts = np.cumsum(covered, dtype=np.int64) - covered
    starts += np.repeat(places[:-1] - np.append(starts, 0)[begins[:-1]], counts)  # the gaps before an element
    loss = _loss(texts, places[first], starts, offsets)
    if vocabulary.byte_lengths is not None:
        return Encoded(ids, offsets, loss, None)
    covered[begins[special_at]] = 0
    return Encoded(ids, offsets, loss, covered)


def _groups(vocabulary: Vocabulary, template: Template, inner: np.ndarray) -> list[tuple[Vocabulary, np.ndarray]]:
    """(vocabulary, pieces that it encodes), which are all but for tokenizers that encode beginnings of texts differently."""
    if template.inner is None or not inner.any():
        return [(vocabulary, np.arange(len(inner)))]
    return [(vocabulary, np.flatnonzero(~inner)), (template.inner.vocabulary, np.flatnonzero(inner))]


def _elements(template: Template, rendered: Rendered) -> Iterable[tuple[int, str]]:
    """The special tokens' ids and the texts between them, in their order."""
    at, takes = 0, False  # the special token before takes the blanks
    for begin, end, number in (*rendered.specials, (len(rendered.text), -1, -1)):
        strips = template.strips.get(number, (False, False))
        if begin > at:
            piece = rendered.text[at:begin]
            if takes or strips[0]:
                text = piece.lstrip(_BLANKS) if takes else piece
                left = len(piece) - len(text)
                text = text.rstrip(_BLANKS) if strips[0] else text
                parts = ((_GAP, piece[:left]), (_TEXT, text), (_GAP, piece[left + len(text) :]))
                yield from (part for part in parts if part[1])
            else:
                yield _TEXT, piece
        if number >= 0:
            yield number, ""
        at, takes = end, strips[1]


def _loss(texts: Sequence[Rendered], bases: np.ndarray, starts: np.ndarray, offsets: np.ndarray) -> Spans:
    """Spans of characters -> spans of tokens; those without a token are left out."""
    rows: list[int] = []
    borders: list[int] = []  # begin and end of each, in bytes of all texts
    for number, rendered in enumerate(texts):
        base, text = int(bases[number]), rendered.text
        ascii_, at, place = text.isascii(), 0, 0
        for span in rendered.loss:
            rows.append(number)
            for border in span:
                place += border - at if ascii_ else len(text[at:border].encode())
                at = border
                borders.append(base + place)
    units = np.array(rows, np.int64)
    pairs = np.searchsorted(starts, np.array(borders, np.int64).reshape(-1, 2))
    begins = np.maximum(pairs[:, 0], offsets[units])
    ends = np.minimum(pairs[:, 1], offsets[units + 1])
    keep = begins < ends
    units = units[keep]
    return Spans(units, begins[keep] - offsets[units], ends[keep] - offsets[units])


def joined(parts: Sequence[Encoded]) -> Encoded:
    """All texts of the parts, in their order."""
    ids = np.concatenate([part.ids for part in parts])
    sizes = np.concatenate([part.counts() for part in parts])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    before = np.cumsum([0] + [len(part.offsets) - 1 for part in parts])
    loss = Spans(
        np.concatenate([part.loss.rows + base for part, base in zip(parts, before, strict=False)]),
        np.concatenate([part.loss.starts for part in parts]),
        np.concatenate([part.loss.ends for part in parts]),
    )
    lengths = [part.byte_lengths for part in parts if part.byte_lengths is not None]
    return Encoded(ids, offsets, loss, np.concatenate(lengths) if lengths else None)


def taken(encoded: Encoded, rows: np.ndarray, limits: np.ndarray) -> Encoded:
    """These rows (int64, in any order), each cut behind its first `limits` tokens."""
    sizes = np.minimum(encoded.counts()[rows], limits)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    at = np.repeat(encoded.offsets[rows] - offsets[:-1], sizes) + np.arange(int(offsets[-1]))
    lo = np.searchsorted(encoded.loss.rows, rows, side="left")
    spans = np.searchsorted(encoded.loss.rows, rows, side="right") - lo
    total = np.cumsum(spans)
    which = np.repeat(lo - (total - spans), spans) + np.arange(int(total[-1]) if len(total) else 0)
    of = np.repeat(np.arange(len(rows)), spans)
    starts, ends = encoded.loss.starts[which], np.minimum(encoded.loss.ends[which], sizes[of])
    keep = starts < ends
    lengths = None if encoded.byte_lengths is None else encoded.byte_lengths[at]
    return Encoded(encoded.ids[at], offsets, Spans(of[keep], starts[keep], ends[keep]), lengths)
