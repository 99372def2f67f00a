"""Charsets of pages against the encodings that made the bytes; mojibake made of real text, and clean text that must stay."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codedev.corpus.extract.charset import declared, decode, known
from codedev.corpus.extract.html import html_to_text
from codedev.corpus.extract.mojibake import repair

RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю"
JAPANESE = "いろはにほへと ちりぬるを わかよたれそ つねならむ"


@pytest.mark.parametrize(
    ("text", "charset", "hint", "declared"),
    [
        ("größer, schöner", "utf-8", None, ""),
        ("größer, schöner", "utf-8", "iso-8859-1", ""),  # a header that lies
        ("größer, schöner", "utf-8-sig", "iso-8859-1", ""),
        ("größer, schöner", "utf-16", None, ""),
        ("größer, schöner", "utf-16-le", None, ""),
        ("größer, schöner", "utf-16-be", None, ""),
        ("größer, schöner", "utf-32", None, ""),
        ("größer – schöner", "cp1252", "ISO-8859-1", ""),
        ("größer, schöner", "latin-1", None, "iso-8859-1"),
        ("Съешь же ещё этих мягких французских булок", "cp1251", None, "windows-1251"),
        ("Съешь же ещё этих мягких французских булок", "koi8-r", "KOI8-R", ""),
        ("いろはにほへと ちりぬるを わかよたれそ", "euc-jp", None, "EUC-JP"),
        ("いろはにほへと ちりぬるを わかよたれそ", "shift_jis", "Shift_JIS", ""),
        ("いろはにほへと ちりぬるを わかよたれそ", "iso-2022-jp", "iso-2022-jp", ""),
        ("天地玄黄宇宙洪荒日月盈昃辰宿列张", "gb18030", None, "gb2312"),
        ("天地玄黃宇宙洪荒日月盈昃辰宿列張", "big5", "big5", ""),
        ("다람쥐 헌 쳇바퀴에 타고파", "euc-kr", None, "euc-kr"),
        ("größer, schöner", "utf-8", "no-such-charset", ""),
    ],
)
def test_charsets(text: str, charset: str, hint: str | None, declared: str) -> None:
    source = f"<html><head>{f'<meta charset={declared}>' if declared else ''}</head><body><p>{text}</p></body></html>"
    assert html_to_text(source.encode(charset), hint, "all").text.strip() == text
    assert decode(source.encode(charset), hint, markup=True)[0] == source


def test_a_few_broken_bytes_do_not_change_the_charset() -> None:
    data = ("größer, schöner, weiter " * 50).encode()
    text, charset, replaced = decode(data[:-2] + b"\xff", "utf-8")
    assert (charset, replaced) == ("utf-8", 1)
    assert text.startswith("größer")
    assert decode(data[:300] + data[301:], None)[1] == "utf-8" or decode(data, None)[2] == 0
    cut = data[: data.index("ö".encode()) + 1]  # a body cut inside a character
    assert decode(cut, "utf-8")[0].startswith("gr")


def test_any_bytes_decode_to_text_that_encodes() -> None:
    noise = random.Random(0)
    for _ in range(300):
        data = noise.randbytes(noise.randrange(0, 200))
        text, _, replaced = decode(data, noise.choice([None, "utf-8", "utf-16", "gbk", "iso-2022-jp", "x"]), markup=True)
        text.encode()
        assert replaced <= len(text)
        html_to_text(b"<p>" + data)


@pytest.mark.parametrize(
    ("label", "charset"),
    [
        ("ISO-8859-1", "cp1252"),
        (" us-ascii ", "cp1252"),
        ("gb2312", "gb18030"),
        ("x-sjis", "cp932"),
        ("ks_c_5601-1987", "cp949"),
        ("TIS-620", "cp874"),
        ("iso-8859-9", "cp1254"),
        ("utf-7", None),
        ("x-user-defined", None),
        ("replacement", None),
        ("unicode_escape", None),
        ("", None),
        (None, None),
    ],
)
def test_labels_stand_for_what_browsers_read(label: str | None, charset: str | None) -> None:
    assert known(label) == charset


@pytest.mark.parametrize(
    ("page", "charset"),
    [
        (b"<meta charset=koi8-r>", "koi8-r"),
        (b"<META content='text/html; charset=koi8-r' http-equiv='Content-Type'>", "koi8-r"),
        (b"<?xml version='1.0' encoding='koi8-r'?><html>", "koi8-r"),
        (b"<title>" + b"x" * 5000 + b"</title><meta charset='koi8-r'>", "koi8-r"),
        (b"<!-- <meta charset=koi8-r> --><meta charset=euc-jp>", "euc_jp"),
        (b"<script>'<meta charset=koi8-r>'</script>", None),
        (b"<meta name=description content='charset=koi8-r'>", None),
        (b"<meta charset=utf-16>", "utf-8"),
        (b"<meta charset=nothing><meta charset=big5>", "big5hkscs"),
        (b"<!--" * 20_000, None),
        (b"<meta " * 20_000, None),
        (b"<script <" * 20_000, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_pages_declare(page: bytes, charset: str | None) -> None:
    started = time.process_time()
    assert declared(page) == charset
    assert time.process_time() - started < 3


def test_utf_7_stays_ascii() -> None:
    page = b"<html>+ADw-script+AD4-alert(1)+ADw-/script+AD4-</html>"
    for hint in (None, "utf-7", "UNICODE-1-1-UTF-7"):
        assert decode(page, hint, markup=True) == (page.decode("ascii"), "utf-8", 0)


@pytest.mark.parametrize(
    ("text", "charset", "hint", "meta"),
    [
        (RUSSIAN, "cp1251", "iso-8859-1", "windows-1251"),  # a server's default above a page that knows
        (RUSSIAN, "cp1251", "iso-8859-1", ""),
        (RUSSIAN, "koi8-r", None, "iso-8859-1"),
        (RUSSIAN, "cp1251", "utf-8", ""),
        (JAPANESE, "euc_jp", "iso-8859-1", ""),
        (JAPANESE, "cp932", None, "windows-1252"),
        (JAPANESE, "iso2022_jp", "utf-8", ""),
        ("天地玄黄宇宙洪荒日月盈昃", "hz", None, ""),
        ("Każdy człowiek ma prawo do życia, wolności", "cp1250", "iso-8859-1", "windows-1250"),
        (RUSSIAN * 20, "utf-16-le", None, ""),
        (JAPANESE * 20, "utf-32-be", None, ""),
    ],
)
def test_declarations_that_are_wrong(text: str, charset: str, hint: str | None, meta: str) -> None:
    page = f"<html><head>{f'<meta charset={meta}>' if meta else ''}</head><body><p>{text}</p></body></html>"
    assert decode(page.encode(charset), hint, markup=True)[0] == page


def test_a_declared_charset_outlives_a_stray_letter() -> None:
    assert decode(b"plain words, D\xc8but and more", "iso-8859-1")[1] == "cp1252"


@pytest.mark.parametrize(
    "data",
    [b"<p>a\0b</p>", b"<p>a\0\0b\0c</p>", b"x\0<p>y", b"n\0a\0m\0e\0 is what it says",
     b"ab\0cd\0ef\0gh\0ij\0kl\0mn\0", b"a\0\0\0\0\0\0b"],
)  # fmt: skip
def test_stray_zeros_make_no_utf_16(data: bytes) -> None:
    assert decode(data)[:2] == (data.decode(), "utf-8")


@pytest.mark.parametrize("charset", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", ["<p>hi</p>", "<p>漢字</p>", "<p>漢字　かな　漢字　かな</p>", " Съешь же ещё этих мягких", "name,value\r\n1,2"]
)
def test_utf_16_without_a_mark_is_told_however_short(text: str, charset: str) -> None:
    assert decode(text.encode(charset))[:2] == (text, charset)


# --- mojibake


def misread(text: str, charset: str = "cp1252") -> str:
    """UTF-8 read as a charset of one byte, its holes as control codes."""
    table = {byte: bytes([byte]).decode(charset, "ignore") or chr(byte) for byte in range(256)}
    return "".join(table[byte] for byte in text.encode())


@pytest.mark.parametrize("charset", ["cp1252", "latin-1", "cp1250", "cp1254"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_mojibake_is_undone_however_often_it_was_made(charset: str, times: int) -> None:
    text = "Ein Müller aß früh, l’été déjà passé — “quoted” über größere Wörter"
    wrong = text
    for _ in range(times):
        wrong = misread(wrong, charset)
    assert repair(wrong)[0] == text


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("cafÃ©", "café"),
        ("itâ€™s", "it’s"),
        ("\xa9 2009 Â© others, Ã‰cole", "\xa9 2009 Â© others, École"),
        ("ï»¿Title", "Title"),
        ("ðŸ˜€ smile", "😀 smile"),
        ("РџСЂРёРІРµС‚, РјРёСЂ", "Привет, мир"),
        ("donâ\x80\x99t", "don’t"),
        ("don\x92t \x96 stop\x85", "don’t – stop…"),
        ("itÂ’s", "it’s"),
    ],
)
def test_what_is_proved_is_repaired(wrong: str, right: str) -> None:
    assert repair(wrong)[0] == right
    assert repair(wrong)[1] > 0


@pytest.mark.parametrize(
    "text",
    [
        "SÃO PAULO, AÇÃO, IRMÃ” e “MANHÃ»",
        "l’«\xa0été\xa0», où\xa0? à\xa0« Paris » dit-il à\xa0«\xa0café\xa0»…",
        "CAFÉ™ CAFÉ® CAFÉ… É– »CAFÉ« „FUß“",
        "též” Úžasný šž",
        "LỚN Â, Ă và Ê; MEVLÂNÂ’NIN",
        "СІРІ ВІВІ її Рівне «Росії»",
        "√2 ± √π ¬∞ ‚Ärger‘ ×½",
        "“Ã©” is what é becomes",
        "Žluťoučký kůň, Đà Nẵng, ÅRSTA, Å",
        "\x7f-\x9f ranges",
        "étudiant·e·s, l·l, 3×²",
        '"Ð¾Ð": 1819',
    ],
)
def test_clean_text_is_left_alone(text: str) -> None:
    assert repair(text) == (text, 0)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("itâ€™s\n\n```\nx = 'â€™'\n```\n\ncafÃ©", "it’s\n\n```\nx = 'â€™'\n```\n\ncafé"),
        ("`Ã©` and cafÃ© `x`", "`Ã©` and café `x`"),
        ("- ```\n  donâ€™t\n  ```\n- cafÃ©", "- ```\n  donâ€™t\n  ```\n- café"),
        ("> ```\n> don\x92t\n> ```\n> don\x92t", "> ```\n> don\x92t\n> ```\n> don’t"),
        ("````\n```\ncafÃ©\n````\ncafÃ©", "````\n```\ncafÃ©\n````\ncafé"),
        ("a ` alone, cafÃ©\nand ` one, cafÃ©", "a ` alone, café\nand ` one, café"),
        ("\x1c\x1f\x1c `Ã©` cafÃ©", "\x1c\x1f\x1c `Ã©` café"),
    ],
)
def test_code_is_left_alone(wrong: str, right: str) -> None:
    assert repair(wrong)[0] == right
    page = "<p>cafÃ© <code>Ã©</code><pre>Ã©</pre>".encode()
    assert html_to_text(page, None, "all").text == "café `Ã©`\n\n```\nÃ©\n```"


@pytest.mark.parametrize(
    "piece",
    ["```\nÃ©\n", "`Ã© ", "```\n", "cafÃ© `a`", "Ã©", "Ã", "â€™ ", "é»", "\x92", "ÃÂ", "Р°", "“Ã©”", "Ãƒâ€šÃ‚Â", "ðŸ", "\udc80Ã", "😀Ã©"],
)
def test_repair_costs_linear_time(piece: str) -> None:
    started = time.process_time()
    repair(piece * (300_000 // len(piece)))
    assert time.process_time() - started < 3


def _texts(data_dir: Path) -> Iterator[tuple[str, str]]:
    for path in sorted((data_dir / "multilingual" / "MicrosoftTranslator__NTREX" / "NTREX-128").glob("newstest2019-ref.*.txt")):
        yield path.name.split(".")[1], path.read_text("utf-8")


@pytest.mark.realdata
def test_128_languages_stay_and_come_back(data_dir: Path) -> None:
    languages = lines = lost = 0
    for name, text in _texts(data_dir):
        assert repair(text) == (text, 0), name
        page = text[:3000]
        for charset in ("cp1252", "latin-1"):
            back = repair(misread(page, charset))[0]
            lines += page.count("\n") + 1
            lost += sum(one != other for one, other in zip(page.split("\n"), back.split("\n"), strict=True))
        languages += 1
    assert languages > 120
    assert lost * 1000 < lines  # letters that stand alone in quotes are left: they may be spoken of


@pytest.mark.realdata
def test_real_text_in_legacy_charsets(data_dir: Path) -> None:
    """Ten lines in the charset of their language, undeclared, rightly declared, and said to be Latin-1 by a server."""
    texts = dict(_texts(data_dir))
    charsets = {
        "jpn": ["cp932", "euc_jp", "iso2022_jp"],
        "zho-CN": ["gb18030", "gbk", "hz"],
        "zho-TW": ["big5hkscs"],
        "kor": ["cp949"],
        "rus": ["cp1251", "koi8-r", "iso8859-5"],
        "ukr": ["cp1251", "koi8-u"],
        "ell": ["cp1253"],
        "heb": ["cp1255"],
        "arb": ["cp1256"],
        "tha": ["cp874"],
    }
    tried = right = 0
    for language, names in charsets.items():
        lines = texts[language].splitlines()
        for charset in names:
            for start in range(0, 200, 20):
                body = "\n".join(lines[start : start + 10]).encode(charset, "ignore").decode(charset)
                page = f"<html><head><title>a page</title></head><body><p>{body}</p></body></html>"
                for hint in (None, "iso-8859-1"):
                    tried += 1
                    right += decode(page.encode(charset), hint, markup=True)[0] == page
    assert tried > 300
    assert right / tried > 0.99
