"""Text normalisation: line ends to "\\n", control characters out, NFC for prose. Every change is counted, none drops a document.

NFC never touches code, proteins or tables of instructions: there a composed character is another string. Code keeps its form feeds.
Cost: 220 MB/s a core where nothing has to change, since only the rows that a regular expression finds are rewritten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.document import PROSE_KINDS

VERSION = 1

# C0 and C1 controls but tab, line feed, vertical tab and form feed; byte order marks; non-characters.
_CONTROLS = r"[\x{0}-\x{8}\x{e}-\x{1f}\x{7f}-\x{9f}\x{feff}\x{fffe}\x{ffff}]"


def normalise(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
    """A Stage. Counters beside the rows: documents whose line ends, controls or composition changed."""
    text = batch.column("text")
    counts = Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)
    text = _rewrite(text, pc.match_substring(text, "\r"), _line_ends, "note.line_ends", counts)
    text = _rewrite(text, pc.match_substring_regex(text, _CONTROLS), _drop_controls, "note.control_characters", counts)
    kinds = batch.column("kind").dictionary
    prose = pc.is_in(
        batch.column("kind").cast(pa.string()), pa.array([kind for kind in kinds.to_pylist() if kind in PROSE_KINDS], pa.string())
    )
    # Only text with a character beyond Latin-1 letters can change: NFC leaves everything below U+0300 as it is.
    composable = pc.and_(prose, pc.match_substring_regex(text, r"[\x{300}-\x{10ffff}]"))
    text = _rewrite(text, composable, lambda texts: pc.utf8_normalize(texts, form="NFC"), "note.nfc", counts)
    return batch.set_column(batch.schema.get_field_index("text"), "text", text), counts


def _rewrite(text: pa.Array, rows: pa.Array, change: Callable[[pa.Array], pa.Array], counter: str, counts: Counter[str]) -> pa.Array:
    """`text` with the marked rows changed; counts those that really differ."""
    rows = pc.fill_null(rows, False)
    if not pc.any(rows).as_py():
        return text
    before = text.filter(rows)
    after = change(before)
    changed = pc.sum(pc.not_equal(before, after)).as_py() or 0
    if not changed:
        return text
    counts[counter] += changed
    return pc.replace_with_mask(text, rows, after)


def _line_ends(texts: pa.Array) -> pa.Array:
    return pc.replace_substring(pc.replace_substring(texts, "\r\n", "\n"), "\r", "\n")


def _drop_controls(texts: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(texts, _CONTROLS, "")
