"""Encoding by `tokenizers`, for the tokenizers that the kernels do not cover.

It encodes 1 to 3 MB/s a core and takes 116 bytes of memory for each byte of text being encoded, so texts are given to it some at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from codedev._errors import InputError

HELD = 256 << 10  # characters encoded at a time: 30 MB of memory


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], dtype: np.dtype[Any], *, spans: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(ids of all texts one after another, int64[texts] tokens of each, uint32 a token: bytes of text it covers, where `spans`).

    A text is encoded whole, whatever its length.
    """
    ids: list[np.ndarray] = [np.empty(0, dtype)]
    covered: list[np.ndarray] = [np.empty(0, np.uint32)]
    counts = np.zeros(len(texts), np.int64)
    for index, text, encoding in _encodings(tokenizer, texts, spans):
        ids.append(np.array(encoding.ids, dtype))  # 40 ns a token
        counts[index] += len(encoding.ids)
        if spans:
            covered.append(_spans(text, encoding))
    return np.concatenate(ids), counts, np.concatenate(covered) if spans else None


def _encodings(tokenizer: Tokenizer, texts: Sequence[str], spans: bool) -> Iterator[tuple[int, str, Encoding]]:
    """(index of the text, the text, its encoding) in order; about HELD characters are in the library's hands at a time, or one text."""
    encode_batch = tokenizer.encode_batch if spans else tokenizer.encode_batch_fast
    waiting: list[int] = []
    held = 0
    for index, text in enumerate(texts):
        if text:
            waiting.append(index)
            held += len(text)
        if held >= HELD or (waiting and index == len(texts) - 1):
            some = [texts[i] for i in waiting]
            try:
                made = encode_batch(some, add_special_tokens=False)
            except BaseException as error:
                if type(error).__name__ != "PanicException":
                    raise
                # Its regular expressions give up a text on which they would go back and forth for ever, and take the thread with them.
                raise InputError(
                    f"the tokenizers library gave up a text of {max(map(len, some))} characters: {error}. The expression that parts texts "
                    "into words is unsound: use another tokenizer"
                ) from None
            yield from zip(waiting, some, made, strict=True)
            waiting, held = [], 0


def _spans(text: str, encoding: Encoding) -> np.ndarray:
    """uint32 a token: bytes from its beginning to the beginning of the next one; the first begins at 0, the last ends with the text."""
    if not encoding.ids:
        return np.empty(0, np.uint32)
    begins = np.array([begin for begin, _ in encoding.offsets], np.int64)  # 100 ns a token
    begins = np.minimum(np.maximum.accumulate(begins), len(text))
    begins[0] = 0
    data = np.frombuffer(text.encode(), np.uint8)
    if len(data) != len(text):
        begins = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))[begins]  # characters -> bytes
    return np.diff(begins, append=len(data)).astype(np.uint32)
