"""Pictures and unknown elements within a line: what of them a reader sees there."""

from __future__ import annotations

from typing import Any

import numba

from codedev.kernels.htmlcode import _hashes, attribute, has_class, name
from codedev.kernels.htmltape import INLINE, TEXT, is_space, table_of

_ALT, _WIDTH, _HEIGHT = map(name, ("alt", "width", "height"))
_EMOJI = _hashes("emoji emojione wp-smiley smiley smilie smilies emoticon emote twemoji")
_EMOJI_BYTES = 32  # the longest are ten code points
_ONE_LINE = INLINE | table_of("p h1 h2 h3 h4 h5 h6 dt summary figcaption")
_NAME_BYTES = 60


@numba.njit(nogil=True, cache=True)
def _is_emoji(data: Any, at: int, stop: int) -> bool:
    """Whether a text begins with a pictograph: of U+2300 to U+23FF, U+2600 to U+27BF, U+2B00 to U+2BFF, or beyond U+1F000."""
    if at + 2 >= stop:
        return False
    second = int(data[at + 1])
    if data[at] == 0xE2:
        return second in (0x8C, 0x8D, 0x8E, 0x8F) or 0x98 <= second <= 0x9E or 0xAC <= second <= 0xAF
    return int(data[at]) == 0xF0 and second == 0x9F


@numba.njit(nogil=True, cache=True)
def _is_dot(data: Any, start: int, stop: int, wanted: Any) -> bool:
    at, end = attribute(data, start, stop, wanted)
    return bool(at >= 0 and end == at + 1 and (data[at] == 48 or data[at] == 49))


@numba.njit(nogil=True, cache=True)
def picture(data: Any, tag: Any, start: Any, inner: Any, block: Any, keep: Any, node: int, is_open: int, space: int) -> Any:
    """What an <img> stands for: the bytes of its alternative text where that is an emoji in a line of kept text; (0, 0) a gap between
    two words; (-1, -1) nothing: one that is a dot, or none of a line."""
    following = node + 1
    is_kept = following < len(tag) and tag[following] == TEXT and block[following] >= 0 and keep[block[following]]
    if not is_open and not is_kept:
        return -1, -1
    at, end = attribute(data, start[node], inner[node], _ALT)
    if 0 < end - at <= _EMOJI_BYTES and (_is_emoji(data, at, end) or has_class(data, start[node], inner[node], _EMOJI)):
        return at, end
    if not is_open or space or _is_dot(data, start[node], inner[node], _WIDTH) or _is_dot(data, start[node], inner[node], _HEIGHT):
        return -1, -1
    return 0, 0


@numba.njit(nogil=True, cache=True)
def is_unknown_inline(data: Any, start: int, parent: int) -> bool:
    """Whether an element that HTML does not know goes on with its line, as all do where no style says otherwise: `<o:p>`, and the
    `<string>` of `List<String>`. One with a dash in its name is somebody's own, and mostly a block but in a line of text."""
    if _ONE_LINE[parent]:
        return True
    for at in range(start + 1, min(len(data), start + _NAME_BYTES)):
        if data[at] == 45:
            return False
        if data[at] == 62 or is_space(data[at]):
            break
    return True
