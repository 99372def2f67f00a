"""The quick check of normalisation against pyarrow's NFC: what it calls unchanged stays as it is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev.corpus.buffers import text_buffers
from codedev.corpus.normalise import _CONTROLS
from codedev.kernels.normal import COMPOSE, CONTROL, RETURN, changeable

_CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def _said(texts: pa.Array) -> np.ndarray:
    return changeable(*text_buffers(texts))


def _changed(texts: pa.Array) -> np.ndarray:
    return pc.not_equal(pc.utf8_normalize(texts, form="NFC"), texts).to_numpy(zero_copy_only=False)


def test_every_character_behind_letters_and_marks_that_it_may_join() -> None:
    for before in ("", "a", "e\u0323", "\u1100", "\uac00", "\u09c7", "\u3046", "\u05d0\u05b4"):
        texts = pa.array([before + chr(code) for code in _CODES], pa.large_string())
        missed = _changed(texts) & (_said(texts) & COMPOSE == 0)
        assert not missed.any(), (before, [hex(_CODES[at]) for at in np.flatnonzero(missed)[:5]])


def test_plain_text_of_many_scripts_is_left_alone() -> None:
    texts = "naïve café — “quoted” …|Добрый день, ёлка|日本語のテキスト。|สวัสดีครับ ผู้ใหญ่|한국어 문장|שלום|مرحبا بالعالم|😀 →"
    assert not _said(pa.array(texts.split("|"), pa.large_string())).any()


def test_returns_and_controls_are_found_wherever_they_stand() -> None:
    controls = [code for code in _CODES[:0x100] if pc.match_substring_regex(pa.scalar(chr(code)), _CONTROLS).as_py()]
    controls += [0xFEFF, 0xFFFE, 0xFFFF]
    assert len(controls) == 65 - 5 + 3
    for at in (0, 5, 63, 64, 65, 130):
        texts = [*("x" * at + chr(code) + "y" * 70 for code in controls), "x" * at + "\r" + "y" * 70, "x" * 200]
        said = _said(pa.array(texts, pa.large_string()))
        assert (said[: len(controls)] & CONTROL != 0).all()
        assert said[-2:].tolist() == [RETURN, 0]


_marks = st.sampled_from([*"aécかक가\0\r", *"\u0301\u0323\u0327\u0345\u1161\u11a8\u094d\u093c\u3099"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(_marks | st.characters(exclude_categories=["Cs", "Cn"]), max_size=90).map("".join), min_size=1, max_size=5))
def test_unmarked_texts_are_in_nfc_without_their_controls(texts: list[str]) -> None:
    array = pa.array(texts, pa.large_string())
    said = _said(array)
    bare = pc.replace_substring_regex(array, _CONTROLS, "")
    assert not (_changed(bare) & (said & COMPOSE == 0)).any()
    assert ((said & CONTROL != 0) == pc.not_equal(bare, array).to_numpy(zero_copy_only=False)).all()
    assert ((said & RETURN != 0) == np.array(["\r" in text for text in texts])).all()
    sliced = array.slice(len(texts) - 1)
    assert _said(sliced).tolist() == said[-1:].tolist()
