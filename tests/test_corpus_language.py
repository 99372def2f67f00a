"""Language identification against fastText's own `predict`, and the filter: its reasons, its bounds, its evidence."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev.corpus import language
from codedev.corpus.document import DOCUMENT, KINDS, PROSE_KINDS
from codedev.corpus.recipe import Language
from codedev.corpus.stage import verdict

SENTENCES = {
    "en": "The ferry leaves the harbour at half past seven, and the crossing takes about two hours when the sea is calm.",
    "de": "Die Fähre verlässt den Hafen um halb acht, und die Überfahrt dauert bei ruhiger See ungefähr zwei Stunden.",
    "fr": "Le bateau quitte le port à sept heures et demie, et la traversée dure environ deux heures par mer calme.",
    "es": "El transbordador sale del puerto a las siete y media, y la travesía dura unas dos horas con el mar en calma.",
    "it": "Il traghetto lascia il porto alle sette e mezza, e la traversata dura circa due ore quando il mare è calmo.",
    "ru": "Паром уходит из гавани в половине восьмого, и при спокойном море переправа занимает около двух часов.",
    "zh": "渡轮七点半离开港口，海面平静的时候，航程大约需要两个小时。",
    "ja": "フェリーは七時半に港を出て、海が穏やかなときは二時間ほどで着きます。",
    "ar": "تغادر العبارة الميناء في السابعة والنصف، وتستغرق الرحلة نحو ساعتين عندما يكون البحر هادئا.",
    "hi": "नौका साढ़े सात बजे बंदरगाह से निकलती है और शांत समुद्र में यात्रा में लगभग दो घंटे लगते हैं।",
    "ko": "배는 일곱 시 반에 항구를 떠나며 바다가 잔잔하면 건너는 데 두 시간쯤 걸립니다.",
    "el": "Το πλοίο φεύγει από το λιμάνι στις επτάμισι και το ταξίδι διαρκεί περίπου δύο ώρες όταν η θάλασσα είναι ήρεμη.",
}


@pytest.fixture(scope="module")
def reference() -> Any:
    return fasttext.load_model(str(language.model_path()))


def batch_of(
    texts: list[str], kinds: list[str] | None = None, langs: list[str | None] | None = None, scores: list[float | None] | None = None
) -> pa.RecordBatch:
    none = [None] * len(texts)
    columns: dict[str, Any] = {
        "id": [str(n) for n in range(len(texts))],
        "kind": kinds or ["web"] * len(texts),
        "text": texts,
        "lang": langs or none,
        "lang_score": scores or none,
    }
    arrays = [
        pa.array(columns[f.name], pa.string()).cast(f.type)
        if pa.types.is_dictionary(f.type) and f.name in columns
        else pa.array(columns.get(f.name, none), f.type)
        for f in DOCUMENT
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT)


@pytest.mark.parametrize("tag", SENTENCES)
def test_ten_languages_and_more(tag: str) -> None:
    found, score = language.identify(SENTENCES[tag])
    assert found == tag
    assert score > 0.65


def agrees(reference: Any, text: str) -> None:
    """The whole prefix, split into words and joined by blanks, through the package's public predict."""
    line = " ".join(text.encode()[: language.PREFIX_BYTES].decode("utf-8", "ignore").split())
    labels, scores = reference.predict(line, k=1, threshold=0.0) if line else ((), ())
    found, score = language.identify(text)
    assert found == (labels[0].removeprefix("__label__") if labels else None)
    assert score == pytest.approx(min(float(scores[0]), 1.0) if labels else 0.0, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_against_predict(reference: Any, text: str) -> None:
    agrees(reference, text)


@pytest.mark.realdata
def test_four_hundred_languages_against_predict(reference: Any, data_dir: Path) -> None:
    path = data_dir / "multilingual/nltk__nltk_data/packages/corpora/udhr2.zip"
    if not path.is_file():
        pytest.skip(f"{path} is not unpacked")
    with zipfile.ZipFile(path) as archive:
        texts = [archive.read(name).decode("utf-8", "replace") for name in archive.namelist() if name.endswith(".txt")]
    assert len(texts) > 300
    for text in texts:
        agrees(reference, text[:1500])
    for text in texts[::8]:  # beyond the prefix, which may end within a character
        agrees(reference, text)
        agrees(reference, "x" + text)


@pytest.mark.parametrize("text", ["", " \n\t ", "\u3000", "\n\n"])
def test_a_text_without_a_word_has_no_language(text: str) -> None:
    assert language.identify(text) == (None, 0.0)


@pytest.mark.parametrize("text", ["\0", "a\0b", "1 2 3", "...", "😀" * 3000, "x" * 100_000, "\ud800", "\u200b", "__label__de", "</s>"])
def test_awkward_texts(text: str) -> None:
    found, score = language.identify(text)
    assert found is None or found.isascii()
    assert 0.0 <= score <= 1.0


def test_only_prose_without_a_language_is_identified() -> None:
    texts = list(SENTENCES.values())[:10]
    batch = batch_of([texts[0]] * len(KINDS), list(KINDS))
    out, counts = language.language_stage(batch)
    assert out.column("lang").to_pylist() == ["en" if kind in PROSE_KINDS else None for kind in KINDS]
    assert counts["note.identified"] == len(PROSE_KINDS)
    assert (counts["rows_in"], counts["rows_out"]) == (len(KINDS), len(KINDS))
    assert out.schema.equals(DOCUMENT)
    # documents that come with a language keep it, and their score or its absence
    batch = batch_of(texts[:4], langs=["xx", None, "de", None], scores=[0.3, None, None, None])
    out, _ = language.language_stage(batch)
    assert out.column("lang").to_pylist() == ["xx", "de", "de", "es"]
    assert out.column("lang_score").to_pylist()[0] == np.float32(0.3)
    assert out.column("lang_score").to_pylist()[2] is None
    assert out.drop_columns(["lang", "lang_score"]) == batch.drop_columns(["lang", "lang_score"])


def test_a_slice_gives_what_the_whole_gives() -> None:
    batch = batch_of(list(SENTENCES.values()))
    whole = language.language_stage(batch)[0]
    assert language.language_stage(batch.slice(3, 4))[0].column("lang").to_pylist() == whole.column("lang").to_pylist()[3:7]


def judged(batch: pa.RecordBatch, **keys: Any) -> list[tuple[str | None, dict[str, Any] | None]]:
    said = verdict(language.language_filter(Language(**keys)), batch)
    return [(row["reason"], row["evidence"] and json.loads(row["evidence"])) for row in said.to_pylist()]


def test_the_filter_at_its_bound() -> None:
    scores = [0.65, float(np.nextafter(np.float32(0.65), np.float32(0))), 1.0, None, 0.1]
    batch = batch_of(["t"] * 5, langs=["en", "en", "de", "de", None], scores=scores)
    assert judged(batch, keep=("en",), min_score=0.65) == [
        (None, None),
        ("language_score", {"lang": "en", "lang_score": 0.65, "bound": 0.65}),
        ("language", {"lang": "de", "lang_score": 1.0, "keep": ["en"]}),
        ("language", {"lang": "de", "lang_score": None, "keep": ["en"]}),
        ("language_score", {"lang": None, "lang_score": 0.1, "bound": 0.65}),
    ]
    assert [reason for reason, _ in judged(batch, min_score=0.0)] == [None] * 5
    assert [reason for reason, _ in judged(batch, keep=(), min_score=0.0)] == ["language"] * 5
    assert [reason for reason, _ in judged(batch_of(["t"] * len(KINDS), list(KINDS)), keep=("en",))] == [
        "language" if kind in PROSE_KINDS else None for kind in KINDS
    ]


def test_evidence_is_json_whatever_the_tag() -> None:
    tags: list[str | None] = ['e"n', "\\", "\n", "é", "", "</script>"]
    for (_, evidence), tag in zip(judged(batch_of(["t"] * 6, langs=tags), keep=('q"',)), tags, strict=True):
        assert evidence == {"lang": tag, "lang_score": None, "keep": ['q"']}
