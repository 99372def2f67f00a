"""What finds personal data in text: against python-stdnum's checks, the standard library's addresses, and sentences as people write."""

from __future__ import annotations

import ipaddress
import itertools
import json
import random
import string
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import stdnum.br.cpf
import stdnum.ca.sin
import stdnum.cn.ric
import stdnum.de.idnr
import stdnum.es.dni
import stdnum.es.nie
import stdnum.fr.nir
import stdnum.iban
import stdnum.in_.aadhaar
import stdnum.it.codicefiscale
import stdnum.luhn
import stdnum.mx.curp
import stdnum.pl.pesel
import stdnum.us.ssn
from stdnum.exceptions import InvalidComponent, ValidationError

from codedev.kernels.personal.find import TYPES, find
from codedev.kernels.spans import replace


def buffers(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    offsets.flags.writeable = False
    return np.frombuffer(b"".join(texts), np.uint8), offsets


def found(*texts: str, types: tuple[str, ...] = TYPES) -> list[list[tuple[str, str]]]:
    """(type, value) of everything in each text."""
    encoded = [text.encode() for text in texts]
    finds: list[list[tuple[str, str]]] = [[] for _ in texts]
    for row, start, end, kind in find(*buffers(encoded), types).tolist():
        finds[row].append((TYPES[kind], encoded[row][start:end].decode()))
    return finds


# -- sentences -----------------------------------------------------------------------------------------------------------------------

KEY = "".join(random.Random(3).choices(string.ascii_letters + string.digits, k=64))  # made here: no one's
HEX = "".join(random.Random(4).choices("0123456789abcdef", k=64))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to joe.doe+news@mail.home.org.", [("email", "joe.doe+news@mail.home.org")]),
        ("<a href='mailto:ann@home.co.uk?subject=x'>", [("email", "ann@home.co.uk")]),
        ("?to=ann@home.de&cc=bob@home.fr", [("email", "ann@home.de"), ("email", "bob@home.fr")]),
        ("联系我：ann@home.cn谢谢", [("email", "ann@home.cn")]),
        ("end of it: me@home.org.The next", [("email", "me@home.org")]),
        ("icon@2x.png, pkg@1.2.3, @decorator.call, user@localhost, a@b.example.com, x@y.class, git@host.org:a/b.git", []),
        ("From 8.8.4.40 and 10.0.0.1, 127.0.0.1, 192.168.1.77, 203.0.113.9, 1.2.3.4, v10.20.30.40, 1.2.3.400", [("ip", "8.8.4.40")]),
        ("version 101.22.3.44, then [81.2.69.142]:80", [("ip", "81.2.69.142")]),
        ("2606:2800:220:1:248:1893:25c8:1946 2001:db8::1 fe80::1 12:30:45", [("ip", "2606:2800:220:1:248:1893:25c8:1946")]),
        ("at 2a00::7,", [("ip", "2a00::7")]),
        ("Tel: 555 1234 567", [("phone", "555 1234 567")]),
        ("+44 (0)20 7946 0958, (212) 555-0123 ext. 12", [("phone", "+44 (0)20 7946 0958"), ("phone", "(212) 555-0123 ext. 12")]),
        ("(call 212-555-0123)", [("phone", "212-555-0123")]),
        ("06 12 34 56 78 / 0761 203 0", [("phone", "06 12 34 56 78")]),
        ("手机13812345678。", [("phone", "13812345678")]),
        ("0 0 1 0 0 0 0 0 0 0 3; 0.0154831166726115 (0.0186573603); 2003-01-02 10:11:12; pp. 417-420 (2003); J. 71 (2009) 623", []),
        ("ISBN 0-486-45353-7, id 1234567890123, 550e8400-e29b-41d4-a716-446655440000, $1234567.00, 1,234,567", []),
        ("4111 1111 1111 1111 and 4111 1111 1111 1112", [("card", "4111 1111 1111 1111")]),
        ("x = 4111111111111111*t, /4111111111111111, #4111111111111111, 4111111111111111.5", []),
        ("GB82 WEST 1234 5698 7654 32, GB82WEST12345698765433", [("iban", "GB82 WEST 1234 5698 7654 32")]),
        ("ssn 531-21-7351, 000-12-3456, 666-12-3456, 912-12-3456", [("national_id", "531-21-7351")]),
        ("AB 12 34 56 C and QQ123456C", [("national_id", "AB 12 34 56 C")]),
        ("by u/spez_1 and /u/ab; https://x.org/u/spez_1 menu/item", [("username", "spez_1")]),
        ("From: Joe Doe <j@home.org>\nTo: b@home.org\n", [("username", "Joe Doe"), ("email", "j@home.org"), ("email", "b@home.org")]),
        (f"ghp_{KEY[:36]} AKIA{KEY[:16].upper()}", [("secret", f"ghp_{KEY[:36]}"), ("secret", f"AKIA{KEY[:16].upper()}")]),
        (f"it is hf_{KEY[:34]}.", [("secret", f"hf_{KEY[:34]}")]),
        (f"API_KEY = '{HEX[:40]}'; password: \"${{PASSWORD}}\"; token='<your token here>'; token = 'xxxxxxxx1'", [("secret", HEX[:40])]),
        ("sk-this-is-a-very-long-css-class-name-without-any-secret-in-it", []),
        ("postgres://bob:hunter22@home.org/db, postgres://bob:${PW}@home.org, http://home.org:80/a@b", [("secret", "hunter22")]),
        (f"-----BEGIN RSA PRIVATE KEY-----\n{KEY}\n{HEX}\n-----END RSA PRIVATE KEY-----", [("secret", f"{KEY}\n{HEX}")]),
        ("-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----", []),
        (f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{KEY[:43]}", [("secret", f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{KEY[:43]}")]),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_sentences(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == [expected]
    # A neighbour's bytes are never read: the same among other rows, and cut out of the middle of a longer buffer.
    assert found("7", text, "7") == [[], expected, []]
    for kind in TYPES:
        assert found(text, types=(kind,))[0] == [one for one in expected if one[0] == kind] or kind in (
            "phone",
            "national_id",
            "email",
            "iban",
        )


# -- oracles -------------------------------------------------------------------------------------------------------------------------


def test_addresses_are_those_that_the_standard_library_calls_global() -> None:
    rng = random.Random(0)
    texts = [
        ".".join(str(rng.choice((rng.randrange(256), 0, 10, 100, 127, 169, 172, 192, 198, 203, 254, 168, 18))) for _ in range(4))
        for _ in range(20_000)
    ]
    for text, finds in zip(texts, found(*texts, types=("ip",)), strict=True):
        address = ipaddress.ip_address(text)
        public = address.is_global and not address.is_multicast and max(address.packed) > 9
        if not str(text).startswith("192.0.0."):  # a few of these are anycast addresses: nobody's
            assert finds == ([("ip", text)] if public else []), text
    texts = [
        str(
            ipaddress.IPv6Address(
                rng.choice((0x20010DB8, 0x2A000000, 0x26062800, 0xFE800000, 0x20020000)) << 96 | rng.getrandbits(rng.choice((8, 60, 96)))
            )
        )
        for _ in range(5_000)
    ]
    texts += [text.upper() for text in texts[:500]] + [ipaddress.IPv6Address(text).exploded for text in texts[:500]]
    for text, finds in zip(texts, found(*texts, types=("ip",)), strict=True):
        public = ipaddress.ip_address(text).is_global and not text.startswith("2002")
        assert finds == ([("ip", text)] if public else []), text


Number = tuple[str, object, Callable[[random.Random], str]]


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(string.digits, k=count))


def letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(string.ascii_uppercase, k=count))


def day(rng: random.Random, years: str) -> str:
    return f"{years}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"


def fiscal(rng: random.Random) -> str:
    born = f"{digits(rng, 2)}{rng.choice('ABCDEHLMPRST')}{rng.randint(1, 28):02}"
    return f"{letters(rng, 6)}{born}{letters(rng, 1)}{digits(rng, 3)}{letters(rng, 1)}"


def nir(rng: random.Random) -> str:
    return f"{rng.choice('12')}80{rng.randint(1, 12):02}{rng.randint(1, 95):02}{digits(rng, 6)}{rng.randint(1, 97):02}"


def curp(rng: random.Random) -> str:
    return f"BEX{letters(rng, 1)}{day(rng, '85')}{rng.choice('HM')}DF{letters(rng, 3)}0{digits(rng, 1)}"


NUMBERS: list[Number] = [
    ("national_id", stdnum.br.cpf, lambda rng: "{}.{}.{}-{}".format(*(digits(rng, n) for n in (3, 3, 3, 2)))),
    ("national_id", stdnum.cn.ric, lambda rng: "110101" + day(rng, "1980") + digits(rng, 3) + rng.choice("0123456789X")),
    ("national_id", stdnum.in_.aadhaar, lambda rng: f"{rng.randint(2, 9)}{digits(rng, 3)} {digits(rng, 4)} {digits(rng, 4)}"),
    ("national_id", stdnum.es.dni, lambda rng: digits(rng, 8) + letters(rng, 1)),
    ("national_id", stdnum.es.nie, lambda rng: rng.choice("XYZ") + digits(rng, 7) + letters(rng, 1)),
    ("national_id", stdnum.fr.nir, nir),
    ("national_id", stdnum.it.codicefiscale, fiscal),
    ("national_id", stdnum.mx.curp, curp),
    ("national_id", stdnum.us.ssn, lambda rng: "{}-{}-{}".format(*(digits(rng, n) for n in (3, 2, 4)))),
    ("national_id", stdnum.pl.pesel, lambda rng: "PESEL: " + day(rng, "85") + digits(rng, 5)),
    ("national_id", stdnum.de.idnr, lambda rng: "Steuer-ID " + digits(rng, 11)),
    ("national_id", stdnum.ca.sin, lambda rng: "SIN: {}-{}-{}".format(*(digits(rng, 3) for _ in range(3)))),
    ("iban", stdnum.iban, lambda rng: f"DE{rng.randint(2, 98):02}{digits(rng, 18)}"),
    ("iban", stdnum.iban, lambda rng: f"GB{rng.randint(2, 98):02}{letters(rng, 4)}{digits(rng, 14)}"),
    ("card", stdnum.luhn, lambda rng: rng.choice(("4", "51", "2345", "34", "6011", "36"))[:4].ljust(4, "5") + digits(rng, 12)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "module", "make"), NUMBERS, ids=[f"{number[1].__name__}-{i}" for i, number in enumerate(NUMBERS)])  # type: ignore[attr-defined]
def test_numbers_with_a_check(kind: str, module: object, make: Callable[[random.Random], str]) -> None:
    """What python-stdnum calls valid is found; what fails its check is not. What has a part that was never given out may be."""
    rng = random.Random(1)
    texts = [make(rng) for _ in range(6000)]
    verdicts: Counter[str] = Counter()
    for text, finds in zip(texts, found(*texts, types=(kind,)), strict=True):
        number = text.split(": ")[-1].removeprefix("Steuer-ID ")
        try:
            module.validate(number)  # type: ignore[attr-defined]
            verdict = "valid"
        except InvalidComponent:
            verdict = "component"
        except ValidationError:
            verdict = "invalid"
        if kind == "card" and number[:2] in ("34", "36"):
            verdict = "invalid" if number[:2] == "34" or verdict == "invalid" else "component"  # 15 digits; 14
        if module in (stdnum.de.idnr, stdnum.pl.pesel) and verdict != "valid":
            verdict = "component"  # eleven digits that a word announces may be of another country
        verdicts[verdict] += 1
        if verdict == "valid":
            assert finds == [(kind, number)], text
        elif verdict == "invalid":
            assert finds == [], text
    assert verdicts["valid"] >= 20, verdicts


@pytest.mark.realdata
def test_gold_of_presidio(data_dir: Path) -> None:
    """Precision and recall on the gold of presidio-research's synthetic sentences."""
    named = {
        "EMAIL_ADDRESS": "email",
        "IP_ADDRESS": "ip",
        "PHONE_NUMBER": "phone",
        "CREDIT_CARD": "card",
        "IBAN_CODE": "iban",
        "US_SSN": "national_id",
    }
    rows = json.loads((data_dir / "pii/microsoft__presidio-research/data/synth_dataset_v2.json").read_text())
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for row, finds in zip(rows, found(*(row["full_text"] for row in rows)), strict=True):
        gold = Counter((named[span["entity_type"]], span["entity_value"]) for span in row["spans"] if span["entity_type"] in named)
        mine = Counter(finds)
        right.update(kind for kind, _ in (gold & mine).elements())
        wrong.update(kind for kind, _ in (mine - gold).elements())
        missed.update(kind for kind, _ in (gold - mine).elements())
    for kind, least in (("email", 1.0), ("iban", 1.0), ("national_id", 1.0), ("card", 0.97), ("ip", 0.92), ("phone", 0.9)):
        assert right[kind] / (right[kind] + missed[kind]) >= least, kind
        assert right[kind] / (right[kind] + wrong[kind]) >= 0.98, kind


# -- hostile text --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "piece",
    ["@", "a@", "a@b.", "1", "1 ", "1.", "1-2 ", "(1) ", "+", "+1", ":", "2001:", "2a00::", "eyJ", "eyJa.", "-----BEGIN ", "://a:b",
     "-----BEGIN X PRIVATE KEY-----", "https://", "key='", "secret=\"a1", "From: ", "\nFrom: a", "u/", "u/abc/", "AKIA", "\0", "\n", "ä",
     "漢", "\U0001f600", "GB82", "GB82 WEST "],
)  # fmt: skip
def test_linear_on_repetition(piece: str) -> None:
    text = (piece * (400_000 // len(piece))).encode()
    seconds = []
    for _ in range(3):
        began = time.thread_time()
        spans = find(*buffers([text, b"ann@home.org"]))
        seconds.append(time.thread_time() - began)
    assert min(seconds) < 2  # quadratic: minutes; measured: at most 0.15 s
    assert spans[-1].tolist() == [1, 0, 12, 0]


def test_noise_never_leaves_the_row_and_never_overlaps() -> None:
    rng = random.Random(5)
    alphabet = [
        "@",
        ".",
        "a",
        "b.org",
        "1",
        "23",
        "-",
        " ",
        "(",
        ")",
        "+",
        ":",
        "=",
        "'",
        '"',
        "/",
        "//",
        "u/",
        "\n",
        "From:",
        "<",
        ">",
        "eyJ",
        "key",
        "漢",
        "\0",
        "tel ",
    ]
    texts = ["".join(rng.choices(alphabet, k=rng.randrange(60))).encode() for _ in range(20_000)]
    spans = find(*buffers(texts))
    assert len(spans) > 500
    for (row, _, end, _), (after, start, _, _) in zip(spans[:-1].tolist(), spans[1:].tolist(), strict=True):
        assert (row, end) <= (after, start) or row < after
    for row, start, end, _ in spans.tolist():
        assert 0 <= start < end <= len(texts[row])
        texts[row][start:end].decode()  # never in the middle of a character
    # Every row alone gives what it gives among others.
    for row in range(0, len(texts), 37):
        assert find(*buffers([texts[row]]))[:, 1:].tolist() == spans[spans[:, 0] == row, 1:].tolist()


def test_replacing_against_slices() -> None:
    rng = random.Random(6)
    texts = [("".join(rng.choices("ab漢 ", k=rng.randrange(12)))).encode() for _ in range(500)]
    spans, expected, places = [], [], []
    masks: list[bytes | None] = [b"<X>", b"", None]
    for row, text in enumerate(texts):
        cuts = sorted(rng.sample(range(len(text) + 1), k=min(4, len(text) + 1)))
        new, at = b"", 0
        for start, end in zip(cuts[::2], cuts[1::2], strict=False):
            kind = rng.randrange(3)
            spans.append((row, start, end, kind))
            new += text[at:start]
            put = text[start:end] if masks[kind] is None else masks[kind] or b""
            places.append([len(new), len(put)])
            new, at = new + put, end
        expected.append(new + text[at:])
    data, offsets, where = replace(
        *buffers(texts), np.array(spans, np.int64), np.frombuffer(b"<X>", np.uint8).copy(), np.array([(0, 3), (3, 3), (-1, -1)], np.int64)
    )
    assert [data[low:high].tobytes() for low, high in itertools.pairwise(offsets)] == expected
    assert where.tolist() == places
