"""Shingles against a scalar twin in plain Python: many scripts, hostile text, bytes that are no text, pieces and batches."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import subprocess
import sys
import time
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from codedev.corpus.buffers import text_buffers
from codedev.kernels.overlap import jaccards
from codedev.kernels.shingles import PIECE, shingle_hashes
from codedev.kernels.sketch import METHODS, sketches
from codedev.kernels.symbols import UNITS, tables

ROOT = Path(__file__).parent.parent
MASK = (1 << 64) - 1

SCRIPTS = {
    "english": "The quick brown fox, jumped over the lazy dog's back 12 times; e-mail: fox@example.org (call +44 20 7946-0958)!",
    "french": "Élève à l'école, où naïveté et cœur s'opposent — déjà vu, ça va? Noël 2024",
    "decomposed": unicodedata.normalize("NFD", "Élève à l'école, où naïveté s'oppose Ångström Tiếng Việt"),
    "turkish": "İstanbul ve IĞDIR'da ışık, DİYARBAKIR",
    "german": "Straße GROẞ ẞ weiß Öl Übung 3,14 und 1.000.000 Stück",
    "greek": "Ὁ βίος βραχύς, ἡ δὲ τέχνη μακρή· ΌΛΟΣ ὅλος",
    "russian": "Ёлка и ёж: съешь ещё этих мягких французских булок, да выпей чаю. Йод",
    "hebrew": "בְּרֵאשִׁית בָּרָא אֱלֹהִים אֵת הַשָּׁמַיִם וְאֵת הָאָרֶץ",
    "arabic": "بِسْمِ ٱللَّٰهِ ٱلرَّحْمَٰنِ ٱلرَّحِيمِ ١٢٣ و ۴۵۶",
    "hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में १२३ जन्मजात स्वतन्त्रता",
    "thai": "มนุษย์ทั้งหลายเกิดมามีอิสระ ๑๒๓ และเสมอภาคกัน",
    "chinese": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心 2024年 𠀀𪚥𰻞 豈更〇々",
    "japanese": "すべての人間は、生まれながらにして自由であり、カタカナ ガギグ ﾊﾝｶｸ ＡＢＣ１２３ 第3条 𛀀",
    "korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다 ㄱㄴㄷ",
    "planes": "𝐀𝐛𝟙𝟚 😀👍🏽 Ⅷ ² ½ ①② ꓐꓑ 𐐀𐐨 𞤀𞤢 \U000e0041 \ue000 \ufdd0 ﷺ ﬁ Ǆ",
    "code": "for (int i_0 = 0; i_0 < N2; ++i_0) { $x->y[i_0] += 0x1F * 3.5e-7f; } // été\n\tif a!=b: naïve=λx.x # ①",
    "spaces": "a\u00a0b\u2003c\u3000d\u200be\u200df\x85g\x00h\x7fi\ufeffj\tk\r\nl\x0b\x0cm",
}


def shingles_of(texts: Sequence[str | bytes], **options: object) -> tuple[np.ndarray, np.ndarray]:
    return shingle_hashes(*buffers(texts), **options)  # type: ignore[arg-type]


def buffers(texts: Sequence[str | bytes]) -> tuple[np.ndarray, np.ndarray]:
    contents = [text.encode() if isinstance(text, str) else text for text in texts]
    return np.frombuffer(b"".join(contents), np.uint8), np.cumsum([0, *map(len, contents)], dtype=np.int64)


# -- the twin: what the docstring of shingles.py says, character by character ------------------------------------------------------


def twin_characters(content: bytes) -> list[str]:
    """Characters; None-like U+0000 for each byte that is no part of one."""
    out, at = [], 0
    while at < len(content):
        lead = content[at]
        size = 1 if lead < 0x80 else 2 if 0xC0 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if lead >= 0xF0 else 0
        tail = content[at + 1 : at + size]
        code = lead if size == 1 else lead & (0x1F, 0x0F, 0x07)[size - 2] if size else 0
        for byte in tail:
            code = code << 6 | byte & 0x3F
        if size == 0 or len(tail) != size - 1 or code > 0x10FFFF:
            code, size = 0, 1
        out.append(chr(code))
        at += size
    return out


@functools.cache
def is_ideograph(character: str) -> bool:
    """By names, where the kernel goes by ranges."""
    name, code = unicodedata.name(character, ""), ord(character)
    if unicodedata.category(character) not in ("Lo", "Lm", "Nl") or "HANGUL" in name:
        return False
    prefixes = ("CJK UNIFIED", "CJK COMPATIBILITY IDEO", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "BOPOMOFO", "HANGZHOU")
    marks = "々〆〇〱〲〳〴〵〻〼ゟヿーｰﾞﾟ"
    return name.startswith(prefixes) or name.startswith("HENTAIGANA") or character in marks or 0x20000 <= code < 0x40000


@functools.cache
def word_symbol(character: str) -> str | None:
    """None: dropped; "": separates; a folded character, or "0d" for a digit."""
    category = unicodedata.category(character)
    if category == "Mn":
        return None
    if category[0] not in "LMN":
        return ""
    if category == "Nd":
        return "0d"
    folded = character.lower()[0]
    return folded if 0xAC00 <= ord(folded) < 0xD7A4 else unicodedata.normalize("NFD", folded)[0]


def twin_words(characters: list[str], *, figures: bool) -> list[list[str]]:
    """Each word's symbols; [] for a separator that stands between words, kept for `chars`."""
    words: list[list[str]] = []
    open_word = False
    for character in characters:
        symbol = word_symbol(character)
        if symbol is None:
            continue
        if symbol == "0d" and figures:
            symbol = str(unicodedata.digit(character))
        if not symbol:
            words.append([])
            open_word = False
        elif is_ideograph(character):
            words.append([symbol])
            open_word = False
        elif not open_word:
            words.append([symbol])
            open_word = True
        elif symbol != "0d" or words[-1][-1] != "0d":
            words[-1].append(symbol)
    return words


def twin_tokens(content: bytes, unit: str) -> list[list[str]]:
    characters = twin_characters(content)
    if unit == "code":
        kinds = [
            "w" if c in "_$" or unicodedata.category(c)[0] in "LMN" else "s" if unicodedata.category(c)[0] in "PS" else " "
            for c in characters
        ]
        tokens: list[list[str]] = []
        for kind, group in groupby(zip(kinds, characters, strict=True), key=lambda pair: pair[0]):
            run = [character for _, character in group]
            tokens += [run] if kind == "w" else [[character] for character in run] if kind == "s" else []
        return tokens
    words = twin_words(characters, figures=unit == "figures")
    if unit in ("words", "figures"):
        return [[symbol[0] for symbol in word] for word in words if word]
    out: list[list[str]] = []
    gap = False
    for word in words:
        if not word:
            gap = bool(out)
            continue
        out += [[" "]] * gap + [[symbol[0]] for symbol in word]
        gap = False
    return out


def mix(value: int) -> int:
    value = ((value ^ value >> 33) * 0xFF51AFD7ED558CCD) & MASK
    value = ((value ^ value >> 33) * 0xC4CEB9FE1A85EC53) & MASK
    return value ^ value >> 33


@functools.cache
def g(character: str) -> int:
    return mix((ord(character) + 1) * 0x9E3779B97F4A7C15 & MASK)


def twin_hashes(content: bytes, ngram: int, unit: str) -> list[int]:
    hashes = []
    for token in twin_tokens(content, unit):
        value = 0
        for character in token:
            value = (value * 0x9E3779B97F4A7C15 + g(character)) & MASK
        hashes.append(value)
    grams = [hashes[i : i + ngram] for i in range(len(hashes) - ngram + 1)] or ([hashes] if hashes else [])
    out = []
    for gram in grams:
        total = 0
        for value in gram:
            total = (total * 0xD1342543DE82EF95 + value) & MASK
        out.append(mix(total))
    return out


def check(texts: Sequence[str | bytes], ngram: int, unit: str) -> None:
    hashes, bounds = shingles_of(texts, ngram=ngram, unit=unit)
    assert bounds[0] == 0
    assert bounds[-1] == len(hashes)
    for i, text in enumerate(texts):
        expected = twin_hashes(text.encode() if isinstance(text, str) else text, ngram, unit)
        assert hashes[bounds[i] : bounds[i + 1]].tolist() == expected, (unit, ngram, text[:80])


# -- tests -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("ngram", [1, 2, 5, 13])
def test_every_script_as_the_twin(unit: str, ngram: int) -> None:
    check(
        [*SCRIPTS.values(), "", " ", "\n" * 50, "one", "two words", "1", "漢", "a漢b1漢2c", "\u0301", "e\u0301", ".", "\x00" * 9],
        ngram,
        unit,
    )


@pytest.mark.parametrize("unit", UNITS)
def test_every_code_point(unit: str) -> None:
    """Each assigned or not, between letters, in documents of 997 of them; surrogates as the bytes that would encode them."""
    texts = []
    for first in range(0, 0x110000, 997 * 9):  # every ninth window: 124,000 code points a unit
        window = "".join(f"a{chr(code)}b " for code in range(first, min(first + 997, 0x110000)))
        texts.append(window.encode("utf-8", "surrogatepass"))
    check(texts, 3, unit)


@pytest.mark.parametrize("unit", UNITS)
def test_bytes_that_are_no_text(unit: str) -> None:
    generator = random.Random(7)
    texts = [bytes(generator.choices(range(256), k=generator.randrange(60))) for _ in range(300)]
    texts += [
        bytes(generator.choices([0x61, 0x20, 0x31, 0xC3, 0xA9, 0xE4, 0xB8, 0xAD, 0xF0, 0x9F, 0x98, 0x80, 0xFF], k=40)) for _ in range(300)
    ]
    texts += [
        b"abc " + tail for tail in (b"\xc3", b"\xe4", b"\xe4\xb8", b"\xf0\x9f", b"\xf0\x9f\x98", b"\xf7\xbf\xbf\xbf", b"\xff", b"\x80")
    ]
    check(texts, 2, unit)


@pytest.mark.parametrize("unit", UNITS)
def test_pieces_are_seamless(unit: str) -> None:
    """Documents longer than the piece read at a time, with words, digit runs, characters and blanks across its end."""
    generator = random.Random(3)
    words = [word for text in SCRIPTS.values() for word in text.split()]
    long = " ".join(generator.choices(words, k=5000))
    texts = [long] + [" " * shift + "é漢" * 9000 + "x1" for shift in (0, 1)]
    texts += [
        "word " * 4 + "\n" * (2 * PIECE + 3),
        "a " + "\n" * PIECE + " b",
        "a" * (2 * PIECE),
        "1" * (PIECE - 1) + "22 3",
        "e\u0301" * PIECE,
    ]
    texts += [" " * (PIECE - 2) + "one two", " " * PIECE + "one two three", "b" * PIECE + " c", "é" * (PIECE // 2) + "1" * 10]
    for ngram in (1, 5):
        check(texts, ngram, unit)


def test_the_same_text_however_written() -> None:
    same = [
        ("Crème brûlée, DÉJÀ-VU!", "creme brulee deja vu"),
        ("seen 12 times in 2019", "Seen 7 times, in 1875."),
        ("price ١٢٣ now", "price 9 now"),
        ("我们 是，中国人", "我们是中国人"),
        (unicodedata.normalize("NFC", SCRIPTS["hebrew"]), "בראשית ברא אלהים את השמים ואת הארץ"),
        ("ガギグゲゴ", "カキクケコ"),
    ]
    for left, right in same:
        hashes, bounds = shingles_of([left, right], ngram=2)
        assert hashes[: bounds[1]].tolist() == hashes[bounds[1] :].tolist(), (left, right)
    different = [("no such word", "no such sword"), ("a b", "b a"), ("ab", "a b"), ("teh", "the"), ("漢字", "字漢"), ("a1", "a")]
    for left, right in different:
        hashes, bounds = shingles_of([left, right], ngram=2)
        assert hashes[: bounds[1]].tolist() != hashes[bounds[1] :].tolist(), (left, right)


def test_code_layout_does_not_count_and_names_do() -> None:
    tight, loose, renamed, literal = (
        "if(a<b){return x1;}",
        "if (a < b)\n{\n    return x1 ;\n}\n",
        "if(a<c){return x1;}",
        "if(a<b){return x2;}",
    )
    hashes, bounds = shingles_of([tight, loose, renamed, literal], unit="code")
    assert hashes[: bounds[1]].tolist() == hashes[bounds[1] : bounds[2]].tolist()
    assert jaccards(hashes, bounds, np.array([[0, 2], [0, 3]])).max() < 0.5


def test_short_and_empty_documents() -> None:
    hashes, bounds = shingles_of(["", "  ,;\n", "one", "one two three four", "one two three four five", "one two three four five six"])
    assert np.diff(bounds).tolist() == [0, 0, 1, 1, 1, 2]
    assert len(set(hashes[:3].tolist())) == 3
    assert hashes[2] == hashes[3]  # the six words begin with the five
    assert shingles_of([])[1].tolist() == [0]


def test_arrow_slices_and_batches_agree() -> None:
    texts = pa.array([*SCRIPTS.values(), None, "", *SCRIPTS.values()], pa.large_string())
    whole, bounds = shingle_hashes(*text_buffers(texts), ngram=2)
    for first, last in ((0, 3), (3, 20), (15, len(texts)), (5, 5)):
        part, part_bounds = shingle_hashes(*text_buffers(texts.slice(first, last - first)), ngram=2)
        assert part.tolist() == whole[bounds[first] : bounds[last]].tolist()
        assert (part_bounds + bounds[first]).tolist() == bounds[first : last + 1].tolist()


def test_threads_agree() -> None:
    data, offsets = buffers([text * 200 for text in SCRIPTS.values()])
    alone = shingle_hashes(data, offsets)[0]
    with ThreadPoolExecutor(4) as pool:
        for hashes, _ in pool.map(lambda _: shingle_hashes(data, offsets), range(8)):
            assert (hashes == alone).all()


def test_max_bytes_is_a_shorter_text() -> None:
    texts = [text.encode() for text in SCRIPTS.values()]
    for limit in (0, 1, 17, 40, 10**6):
        cut = shingles_of([text[:limit] for text in texts], ngram=2)
        assert [part.tolist() for part in shingles_of(texts, ngram=2, max_bytes=limit)] == [part.tolist() for part in cut]


def test_wrong_arguments() -> None:
    data, offsets = buffers(["one", "two"])
    for options in ({"ngram": 0}, {"ngram": 1 << 20}, {"unit": "lines"}, {"max_bytes": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            shingle_hashes(data, offsets, **options)  # type: ignore[arg-type]
    for wrong in ([0, 7], [-1, 3], [4, 2, 6], []):
        with pytest.raises(ValueError, match="offsets"):
            shingle_hashes(data, np.array(wrong, np.int64))


HOSTILE = {
    "one word": b"x" * 5_000_000,
    "one character words": b"a " * 2_500_000,
    "blank lines": b"\n" * 1_000_000,
    "nuls": b"\x00" * 2_000_000,
    "nuls in words": b"a\x00" * 1_000_000,
    "digits": b"1" * 2_000_000,
    "marks": "\u0301".encode() * 1_000_000,
    "ideographs": "漢".encode() * 1_000_000,
    "operators": b"+" * 2_000_000,
    "continuation bytes": b"\x80" * 2_000_000,
    "broken leads": b"\xf0" * 2_000_000,
}


@pytest.mark.parametrize("unit", UNITS)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    for name, content in HOSTILE.items():
        started = time.thread_time()
        hashes, bounds = shingles_of([content, b"after it"], unit=unit)
        assert time.thread_time() - started < 2, name  # 0.05 s on a free core
        assert bounds[-1] == len(hashes) <= len(content) + 2
        assert hashes[-1] == shingles_of([b"after it"], unit=unit)[0][-1], name


@pytest.mark.slow
def test_bounds_checked(tmp_path: Path) -> None:
    """Every kernel on every kind of text with numba's bounds checks on, compiled anew."""
    script = f"""
import random, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import numpy as np, numba
assert numba.config.BOUNDSCHECK == 1
from test_kernels_shingles import HOSTILE, SCRIPTS, buffers
from codedev.kernels.shingles import shingle_hashes
from codedev.kernels.symbols import UNITS, tables
from codedev.kernels.sketch import METHODS, sketches, sketches_of
from codedev.kernels.overlap import jaccards
generator = random.Random(1)
texts = [content[:300_000] for content in HOSTILE.values()] + [text.encode() for text in SCRIPTS.values()]
texts += [b"", bytes(generator.choices(range(256), k=200_000)), b"abc \\xf0\\x9f\\x98", (" ".join(SCRIPTS.values()) * 60).encode()]
texts += [bytes([lead]) for lead in range(256)]
data, offsets = buffers(texts)
for unit in UNITS:
    for ngram in (1, 5, 1024):
        hashes, bounds = shingle_hashes(data, offsets, unit=unit, ngram=ngram)
        pairs = np.array([(i, j) for i in range(0, len(texts), 9) for j in range(0, len(texts), 7)])
        assert jaccards(hashes, bounds, pairs).max() <= 1
        for method in METHODS:
            for num_hashes in (1, 2, 112):
                out = sketches(data, offsets, unit=unit, ngram=ngram, method=method, num_hashes=num_hashes)
                assert (out == sketches_of(hashes, bounds, method=method, num_hashes=num_hashes)).all()
try:
    from codedev.kernels import shingles
    shingles._shingles(data[:5], offsets, 1 << 62, 0, 5, np.uint64(1), *tables("words"), np.empty(9, np.uint64), offsets.copy())
except IndexError:
    print("checked")
"""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "checked"


@pytest.mark.slow
def test_the_same_on_every_processor(tmp_path: Path) -> None:
    """Compiled for the oldest x86-64 or ARM there is, without vectors beyond its base, the sketches are those of this processor."""
    script = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from test_kernels_shingles import sketches_digest
print(sketches_digest())
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == sketches_digest()


def sketches_digest() -> str:
    data, offsets = buffers([text * times for text in SCRIPTS.values() for times in (1, 30)])
    parts = [sketches(data, offsets, unit=unit, method=method).tobytes() for unit in UNITS for method in METHODS]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.realdata
def test_real_text_as_the_twin(data_dir: Path) -> None:
    """Declarations, references and source files of every script there is; the first 3,000 bytes of 400 files."""
    paths = sorted((data_dir / "multilingual").rglob("*.txt"))[::3] + sorted((data_dir / "code").rglob("*.py"))[::199]
    texts = [path.read_bytes()[:3000] for path in paths[:400]]
    assert len(texts) > 100
    for unit in UNITS:
        check(texts, 5, unit)


def test_table_covers_all_planes() -> None:
    table, symbols, _ = tables("words")
    assert len(table) == 0x110000
    assert not table.flags.writeable
    assert len({symbol for symbol in symbols[:128].tolist() if symbol}) == 27  # 26 letters, and one symbol for the digits
