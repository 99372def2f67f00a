"""Language identification against fastText's own `predict`, and the filter: its reasons, its bounds, its evidence."""

from __future__ import annotations

import json
import random
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev._errors import InputError
from codedev.corpus import language
from codedev.corpus.buffers import text_buffers
from codedev.corpus.document import DOCUMENT, KINDS, PROSE_KINDS
from codedev.corpus.language import thresholds, train
from codedev.corpus.language.mixed import COLUMNS
from codedev.corpus.language.tags import short_tag
from codedev.corpus.recipe import Language
from codedev.corpus.stage import verdict
from codedev.kernels.passages import passages, windows

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


@pytest.mark.parametrize("model", ["ensemble", "lid.176"])
@pytest.mark.parametrize("tag", SENTENCES)
def test_ten_languages_and_more(tag: str, model: str) -> None:
    found, score = language.identify(SENTENCES[tag], model)
    assert found == tag
    assert score > 0.65


def agrees(reference: Any, text: str) -> None:
    """The whole prefix, as one line, through the package's public predict."""
    line = text.encode()[: language.PREFIX_BYTES].decode("utf-8", "ignore").replace("\n", " ")
    labels, scores = reference.predict(line, k=1, threshold=0.0) if line.strip(" \t\r\v\f\0") else ((), ())
    found, score = language.identify(text, "lid.176")
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


@pytest.mark.parametrize("text", ["", " \n\t ", "\0\n", "\n\n"])
def test_a_text_without_a_word_has_no_language(text: str) -> None:
    assert language.identify(text) == (None, 0.0)
    assert language.identify(text, "lid.176") == (None, 0.0)


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
    assert [reason for reason, _ in judged(batch, keep=("fr",), min_score=0.0)] == ["language"] * 5
    assert [reason for reason, _ in judged(batch_of(["t"] * len(KINDS), list(KINDS)), keep=("en",))] == [
        "language" if kind in PROSE_KINDS else None for kind in KINDS
    ]


def test_evidence_is_json_whatever_the_tag() -> None:
    tags: list[str | None] = ['e"n', "\\", "\n", "é", "", "</script>"]
    for (_, evidence), tag in zip(judged(batch_of(["t"] * 6, langs=tags), keep=('q"',), model="own.ftz"), tags, strict=True):
        assert evidence == {"lang": tag, "lang_score": None, "keep": ['q"']}


def test_every_language_can_have_its_own_bound() -> None:
    batch = batch_of(["t"] * 5, langs=["en", "en-GB", "nb", "zu", None], scores=[0.6, 0.6, 0.6, 0.6, 0.6])
    said = [reason for reason, _ in judged(batch, min_score=0.5, min_scores={"en": 0.7, "no": 0.8})]
    assert said == ["language_score", "language_score", "language_score", None, None]
    table = thresholds.thresholds()
    assert len(table) >= 122
    assert all(thresholds.LOWEST <= least <= thresholds.HIGHEST for least in table.values())
    tags = list(table)[:40]
    for above, reason in ((0.01, None), (-0.01, "language_score")):
        batch = batch_of(["t"] * 40, langs=list(tags), scores=[table[tag] + above for tag in tags])
        assert [reason for reason, _ in judged(batch, min_score=None)] == [reason] * 40
    batch = batch_of(["t"] * 2, langs=["xx-Cyrl", None], scores=[thresholds.OTHERWISE + 0.01] * 2)
    assert [reason for reason, _ in judged(batch, min_score=None)] == [None, None]


def test_a_threshold_is_where_nine_of_ten_are_right() -> None:
    lines = {"aa": [f"a{n}" for n in range(20)], "bb": [f"b{n}" for n in range(20)]}
    score = {f"a{n}": 0.5 + n / 50 for n in range(20)} | {f"b{n}": n / 50 for n in range(20)}  # all of them called aa: right above 0.5

    def identify(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
        return pa.array(["aa"] * len(texts)), pa.array([score[text] for text in texts.to_pylist()], pa.float32())

    table = thresholds.calibrate(language.Identifier(("aa", "bb"), identify), lines.items())
    said = [(score[line], truth) for truth in lines for line in lines[truth]]
    right = [truth == "aa" for value, truth in said if value >= table["aa"] - 0.005]
    assert np.mean(right) >= 0.9
    assert np.mean([truth == "aa" for value, truth in said if value >= table["aa"] - 0.05]) < 0.9


@pytest.mark.parametrize(
    ("label", "tag"),
    [("eng_Latn", "en"), ("srp_Latn", "sr-Latn"), ("srp_Cyrl", "sr"), ("cmn_Hani", "zh"), ("arb_Arab", "ar"), ("uzn_Cyrl", "uz-Cyrl"),
     ("kab_Latn", "kab"), ("als_Latn", "sq"), ("als", "als"), ("zh", "zh"), ("hin_Latn", "hi-Latn"), ("gsw", "gsw")],
)  # fmt: skip
def test_labels_of_other_models_become_tags(label: str, tag: str) -> None:
    assert language.tag_of(label) == tag


def test_a_macrolanguage_stands_for_its_members() -> None:
    tags = pa.array(["nb", "nn", "no", "en", "yue", "zh-Hant", None])
    assert language.is_among(tags, ["no"]).to_pylist() == [True, True, True, False, False, False, False]
    assert language.is_among(tags, ["zh"]).to_pylist() == [False, False, False, False, True, True, False]


def trained_on(folder: Path, out: Path, **more: Any) -> train.Trained:
    rng = random.Random(1)
    for tag, text in SENTENCES.items():
        if tag in ("en", "de", "fr", "es", "it", "ru", "el"):
            words = text.lower().split()
            folder.mkdir(exist_ok=True)
            (folder / f"{tag}.txt").write_text("\n".join(" ".join(rng.choices(words, k=8)) for _ in range(200)))
    return train.train_identifier(folder, out, dim=16, steps=6000, rows=3000, **more)


def test_a_model_of_our_own_is_one_like_any_other(tmp_path: Path) -> None:
    told = trained_on(tmp_path / "texts", tmp_path / "own.ftz")
    assert told.labels == 7
    assert all(share > 0.9 for share in told.held_out.values())
    model = str(tmp_path / "own.ftz")
    for tag in ("en", "ru", "el"):
        assert language.identify(SENTENCES[tag].lower(), model)[0] == tag
    peer = fasttext.load_model(model)
    for text in SENTENCES.values():
        found, score = language.identify(text, model)
        labels, values = peer.predict(text, k=1)  # nothing where no n-gram of the text was learnt
        assert found == (labels[0].removeprefix("__label__") if labels else None)
        assert score == pytest.approx(min(values[0], 1.0) if labels else 0.0, abs=1e-6)
    trained_on(tmp_path / "texts", tmp_path / "again.ftz")
    assert (tmp_path / "again.ftz").read_bytes() == (tmp_path / "own.ftz").read_bytes()
    assert language.version_of(model) == language.version_of(str(tmp_path / "again.ftz"))
    trained_on(tmp_path / "texts", tmp_path / "other.ftz", seed=2)
    assert language.version_of(model) != language.version_of(str(tmp_path / "other.ftz"))


@pytest.mark.parametrize("content", [None, b"", b"not a model at all", b"\x80\x04."])
def test_a_model_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.ftz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.ftz"):
        language.identify("text", str(path))


def test_texts_to_learn_from_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"udhr2\.zip"):
        train.train_identifier(tmp_path, tmp_path / "m.ftz")
    (tmp_path / "en.txt").write_text("too little")
    with pytest.raises(InputError, match="two languages"):
        train.train_identifier(tmp_path, tmp_path / "m.ftz")


def test_cld2_gets_only_what_it_takes() -> None:
    planes = "".join(chr(code) for code in range(1, 0x110000, 37) if not 0xD800 <= code < 0xE000)
    texts = [planes, "\0 a \x01 b " * 50, "\ufdd0\U0001ffff", "x" * 300_000, "\n" * 100_000 + "word", *SENTENCES.values()]
    out, _ = language.language_stage(batch_of(texts))
    assert out.column("lang").to_pylist()[5:] == list(SENTENCES)
    again, _ = language.language_stage(batch_of(texts[::-1]))
    assert again.column("lang").to_pylist()[::-1] == out.column("lang").to_pylist()
    assert again.column("lang_score").to_pylist()[::-1] == out.column("lang_score").to_pylist()


def test_many_short_texts_take_little_memory() -> None:
    texts = pa.array([f"{text[:30]} {n}" for n in range(250) for text in SENTENCES.values()] * 10, pa.large_string())
    identifier = language.identifier_of()
    identifier.identify(texts[:10])
    tracemalloc.start()
    tags, _ = identifier.identify(texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(tags) == len(texts) == 30_000
    assert peak < 60e6  # a matrix for all of them at once would take 50 MB, and there are a dozen
    assert tags[:3000] == tags[3000:6000]


def mixed(texts: list[str]) -> list[dict[str, Any]]:
    identifier = language.identifier_of()
    batch, _ = language.stage_with(identifier)(batch_of(texts))
    out, counts = language.mixed_stage(identifier)(batch)
    assert counts["rows_in"] == counts["rows_out"] == len(texts)
    return [{key.removeprefix("q.lang."): value for key, value in row.items()} for row in out.select(["lang", *COLUMNS.names]).to_pylist()]


def test_the_languages_of_a_mixed_document() -> None:
    english, french, russian = (f"{SENTENCES[tag]} {SENTENCES[tag]}\n" for tag in ("en", "fr", "ru"))
    alone, two, three, short, empty = mixed([english * 6, english * 6 + french * 2, english * 4 + russian * 2 + french, "A word.", ""])
    assert alone == {"lang": "en", "share": 1.0, "second": None, "passages": None}
    assert (two["lang"], two["second"], two["passages"]) == ("en", "fr", f"0:en {len(english) * 6}:fr")
    assert two["share"] == pytest.approx(len(english) * 6 / len((english * 6 + french * 2).encode()), abs=1e-6)
    assert [part.split(":")[1] for part in three["passages"].split()] == ["en", "ru", "fr"]
    assert three["second"] == "ru"
    assert (short["share"], short["second"]) == (1.0, None)
    assert empty == {"lang": None, "share": None, "second": None, "passages": None}


def test_passages_stand_for_every_byte() -> None:
    texts = ["", "a", "line\n" * 3, ("word " * 50 + "\n") * 300, "é" * 5000, "\n" * 5000, ("x" * 199 + "\n") * 17, "海\n" * 900]
    found = passages(*text_buffers(pa.array(texts, pa.large_string())), 16)
    assert np.bincount(found.row, found.weight, len(texts)).tolist() == [len(text.encode()) for text in texts]
    assert np.bincount(found.row, minlength=len(texts)).max() <= 16
    assert np.diff(found.offsets).max() <= 512
    for number, row in enumerate(found.row.tolist()):
        part = found.data[found.offsets[number] : found.offsets[number + 1]].tobytes().decode()  # whole characters
        start = int(found.start[number])
        assert texts[row].encode()[start : start + len(part.encode())].decode() == part
        assert start == 0 or texts[row].encode()[start - 1 : start] == b"\n"


@pytest.mark.parametrize(("prefix", "parts", "size"), [(4096, 4, 512), (4096, 4, 160), (64, 4, 512), (100, 2, 10), (7, 3, 1)])
def test_windows_are_pieces_of_the_text_in_order(prefix: int, parts: int, size: int) -> None:
    rng = random.Random(3)
    texts = [
        "",
        "a",
        "é" * 3000,
        "word " * 2000,
        "😀" * 2000,
        "x" * 9000,
        *("".join(rng.choices("aé海😀 \n", k=n)) for n in range(0, 4000, 37)),
    ]
    data, offsets = windows(*text_buffers(pa.array(texts, pa.large_string())), prefix, parts, size)
    for number, text in enumerate(texts):
        found = data[offsets[number] : offsets[number + 1]].tobytes().decode()
        head = text.encode()[:prefix].decode("utf-8", "ignore")
        if len(text.encode()[:prefix]) <= parts * size:
            assert found == head
            continue
        assert len(found.encode()) <= parts * (size + 1)
        # Each window, a blank before it, is found in the text after the one before it.
        at = 0
        for char in found:
            if char == " ":
                continue
            at = head.index(char, at) + 1
        if " " not in text and size > 100:
            assert all(part in head for part in found.split(" "))
            assert len(found.split(" ")) == parts


def test_an_english_head_is_not_the_language_of_a_page() -> None:
    page = SENTENCES["en"] * 5 + "\n" + SENTENCES["fr"] * 40
    assert language.identify(page)[0] == "fr"


@pytest.mark.realdata
def test_ntrex_which_nothing_was_trained_on(data_dir: Path) -> None:
    """Macro accuracy over all 127 references, every twentieth line; 0.938 over all lines (benchmarks/bench_language.py)."""
    folder = data_dir / "multilingual/MicrosoftTranslator__NTREX/NTREX-128"
    macro = {"mey": "ar", "yue": "zh", "prs": "fa"}  # members of a macrolanguage, counted as it
    shares = []
    for path in sorted(folder.glob("newstest2019-ref.*.txt")):
        code = path.name.split(".")[1].split("-")[0]
        lines = [line for line in path.read_text().split("\n") if line.strip()][::20]
        tags, _ = language.identifier_of().identify(pa.array(lines, pa.large_string()))
        shares.append(np.mean([tag == (macro.get(code) or short_tag(code)) for tag in tags.to_pylist()]))
    if not shares:
        pytest.skip("NTREX is not unpacked")
    assert len(shares) == 127
    assert np.mean(shares) >= 0.93


NO_LANGUAGE = [
    "https://www.example.org/harbour/ferry?id=7", "12 4,500 3.14", "😀👍🏽 ❤️", "d41d8cd98f00b204e9800998ecf8427e", "-> {} [] #!", "x" * 500,
    "QmFzZTY0IHRleHQgd2l0aCAxMjM0NTY3ODkw0KHRgtGA0L7QutCw", "kf_nodes==g.nodes",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_LANGUAGE)
def test_what_is_no_language_has_none(text: str) -> None:
    assert language.identify(text) == (None, 0.0)
    assert language.identify(f"{text} {text}\n{text}") == (None, 0.0)
    assert language.identify(f"{SENTENCES['de']} {text}")[0] == "de"


def test_a_word_or_two_are_not_believed() -> None:
    for word in ("falling", "say", "a", "wait", "海", "assert(p != q);"):
        assert language.identify(word)[1] < 0.65
    scores = [language.identify(" ".join(SENTENCES["en"].split()[:words]))[1] for words in (1, 3, 5, 12)]
    assert scores == sorted(scores)
    assert scores[0] < 0.5 < 0.9 < scores[-1]


def test_cld2_refuses_nothing_that_it_is_given() -> None:
    import pycld2

    from codedev.corpus.language.ensemble import _NOT_TEXT

    for plane in range(17):
        text = "".join(chr(code) for code in range(plane << 16, (plane + 1) << 16) if not 0xD800 <= code < 0xE000)
        pycld2.detect(_NOT_TEXT.sub(" ", text).encode())  # raises pycld2.error where it refuses a character


def test_word_sums_change_no_tag() -> None:
    from codedev.corpus.language import models
    from codedev.kernels.fasttext import probabilities

    texts = pa.array([text * n for text in SENTENCES.values() for n in (1, 3, 30)], pa.large_string())
    for path in (None, models.OWN):
        exact, summed = (probabilities(models.load(path), *text_buffers(texts), exact=exact) for exact in (True, False))
        assert np.abs(exact - summed).max() < 1e-5
        assert (exact.argmax(1) == summed.argmax(1)).all()
    once = probabilities(models.load(models.OWN), *text_buffers(texts.take(pa.array([5]))), exact=False)
    assert (once[0] == summed[5]).all()  # whatever stands beside it
