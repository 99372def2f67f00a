"""Text normalisation: line ends to "\\n", control characters out, NFC for prose. Every change is counted, none drops a document.

NFC never touches code, proteins or tables of instructions: there a composed character is another string. Code keeps its form feeds.
Cost: 2 GB/s a core where nothing has to change: only the rows that a kernel cannot rule out are rewritten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.buffers import text_buffers
from codedev.corpus.document import PROSE_KINDS
from codedev.kernels import normal

VERSION = 1

# C0 and C1 controls but tab, line feed, vertical tab and form feed; byte order marks; non-characters.
_CONTROLS = r"[\x{0}-\x{8}\x{e}-\x{1f}\x{7f}-\x{9f}\x{feff}\x{fffe}\x{ffff}]"


def normalise(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
    """A Stage. Counters beside the rows: documents whose line ends, controls or composition changed."""
    text = batch.column("text")
    counts = Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)
    found = normal.changeable(*text_buffers(text))
    text = _rewrite(text, found & normal.RETURN != 0, _line_ends, "note.line_ends", counts)
    text = _rewrite(text, found & normal.CONTROL != 0, _drop_controls, "note.control_characters", counts)
    prose = pc.is_in(batch.column("kind").cast(pa.string()), pa.array(sorted(PROSE_KINDS), pa.string()))
    composable = (found & normal.COMPOSE != 0) & pc.fill_null(prose, False).to_numpy(zero_copy_only=False)
    text = _rewrite(text, composable, lambda texts: pc.utf8_normalize(texts, form="NFC"), "note.nfc", counts)
    if text is batch.column("text"):
        return batch, counts
    return batch.set_column(batch.schema.get_field_index("text"), "text", text), counts


def _rewrite(text: pa.Array, marked: np.ndarray, change: Callable[[pa.Array], pa.Array], counter: str, counts: Counter[str]) -> pa.Array:
    """`text` with the marked rows changed; counts those that really differ."""
    if not marked.any():
        return text
    rows = pa.array(marked)
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
