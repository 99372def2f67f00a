"""Encoding by `tokenizers`, for the tokenizers that the kernels do not cover.

It encodes 1 to 3 MB/s a core and takes 116 bytes of memory for each byte of text being encoded, so texts are given to it some at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from codedev._errors import InputError

SECONDS, SECONDS_A_CHARACTER = 120.0, 1e-4  # that the library may take; it takes 0.3 to 1 µs a character
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
                made = _in_time(lambda some=some: encode_batch(some, add_special_tokens=False), held)  # type: ignore[misc]
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


def _in_time(encode: Callable[[], list[Encoding]], characters: int) -> list[Encoding]:
    """What `encode` returns or raises. InputError when it takes a hundred times as long as it should: an expression such as `.*x|.` looks
    through the rest of the text from each of its characters, and nothing can stop it but the end of the process."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append((encode(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=run, daemon=True)  # which the end of the process does not wait for
    thread.start()
    thread.join(SECONDS + characters * SECONDS_A_CHARACTER)
    if not found:
        raise InputError(
            f"the tokenizers library does not come to an end with a text of {characters} characters. The expression that parts texts into "
            "words is unsound, or the text is no text: use another tokenizer, or leave the document out"
        )
    made, error = found[0]
    if error is not None:
        raise error
    return made  # type: ignore[no-any-return]


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
