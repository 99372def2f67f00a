"""Masks, bounds and reports that somebody gets wrong, or means ill: a clear error, or text that is masked once and for all."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codedev._errors import RecipeError
from codedev.corpus import quality
from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.document import KINDS
from codedev.corpus.personal import SPAN, masked, personal_stage
from codedev.corpus.recipe import Personal, Quality
from codedev.corpus.stage import Rule, rule_filter
from codedev.kernels.personal.find import TYPES

SOURCES = [{"name": "s", "type": "tables", "paths": ["x"]}]
ALL = dict.fromkeys(TYPES, "mask")


def check(**keys: Any) -> recipes.CorpusRecipe:
    return recipes.check({"name": "p", "sources": SOURCES, **keys}, "recipe")


def personal(config: dict[str, Any], texts: list[str], kind: str = "web", meta: list[str] | None = None) -> pa.RecordBatch:
    assert kind in KINDS
    columns = {"text": pa.array(texts, pa.large_string()), "kind": pa.array([kind] * len(texts)).dictionary_encode()}
    columns["meta"] = pa.array(meta or ["{}"] * len(texts))
    return personal_stage(check(pii=config).pii or Personal())(pa.RecordBatch.from_pydict(columns))[0]


# -- masks -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mask", "says"),
    [
        ("email", "me@home.org", "masks.email would be found as email itself"),
        ("phone", "call 212-555-0123", "masks.phone would be found as phone itself"),
        ("email", "at 93.184.216.34", "masks.email would be found as ip itself"),
        ("username", "email@example.com", "masks.username would be found again, in part, behind u/"),
        ("ip", "\ud800", r"masks.ip holds U\+D800"),
        ("ip", "a\r\nb", r"masks.ip holds U\+000D"),
        ("ip", "a\0b", r"masks.ip holds U\+0000"),
        ("ip", "\u202eb", r"masks.ip holds U\+202E"),
        ("ip", "e\u0301", "masks.ip is not in Unicode's composed form"),
        ("ip", "x" * 1_000_000, "masks.ip has 1,000,000 characters: 100 are the most"),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)
def test_masks_that_would_not_stay(name: str, mask: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        check(pii={name: "mask", "masks": {name: mask}})


def test_a_mask_of_what_is_not_looked_for() -> None:
    with pytest.raises(RecipeError, match=r"masks\.email masks nothing, since email is 'keep'"):
        check(pii={"masks": {"email": "<mail>"}})


@pytest.mark.parametrize("mask", ["", r"\1\g<0>$1.*", "漢字", "REDACTED1", "'\"`<>&"])
def test_masks_stand_as_they_are_written(mask: str) -> None:
    config = {**ALL, "masks": dict.fromkeys(TYPES, mask)}
    one = personal(config, ["Ask joe@home.org, or at 93.184.216.34.", 'password = "h4x0rPass9" and u/somebody', ""])
    assert one.column("text").to_pylist() == [f"Ask {mask}, or at {mask}.", f'password = "{mask}" and u/{mask}', ""]
    again = personal(config, one.column("text").to_pylist())
    assert again.column("text").to_pylist() == one.column("text").to_pylist()
    assert again.column("q.pii.spans").to_pylist() == [[], [], []]


PIECES = (
    "joe@home.org", "93.184.216.34", "2607:f8b0::1", "4111 1111 1111 1111", "4111111111111111", "212-555-0123", "+44 20 7946 0958",
    "Tel: 0301234567", "DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "123-45-6789", "ssn 123-45-6789",
    "ghp_abcdefghij0123456789ABCDEFGHIJabcdef", 'password = "h4x0rPass9"', "https://u:pa55w0rd@host.org/", "/u/somebody",
    "\nFrom: Joe Doe <joe@home.org>\n", "From: u/somebody", "AKIAIOSFODNN7EXAMPLE",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7Zq1xT4oT8bq0K3nJ9vYw5sR2mL6uHc\n-----END RSA PRIVATE KEY-----",
)  # fmt: skip
BETWEEN = ("\n", " and ", "; ", ", so ", " (", ") ", "\t", ' "', '" ', " 漢 ", "。", " | ", ". ")


@pytest.mark.parametrize("masks", [None, *("[removed]", "SECRET")])
def test_what_is_masked_is_found_no_more(masks: str | None) -> None:
    draw = random.Random(5)
    texts = ["".join(draw.choice(PIECES) + draw.choice(BETWEEN) for _ in range(draw.randint(1, 8))) for _ in range(3000)]
    config = {**ALL, "masks": dict.fromkeys(TYPES, masks) if masks else {}}
    one = personal(config, texts)
    assert sum(map(len, one.column("q.pii.spans").to_pylist())) > 10_000
    again = personal(config, one.column("text").to_pylist())
    assert again.column("text").to_pylist() == one.column("text").to_pylist()
    assert [spans for spans in again.column("q.pii.spans").to_pylist() if spans] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # What stands beside a find, or begins within it, is found like any other.
        ("joe@home.org,DE89370400440532013000", "<EMAIL>,<IBAN>"),
        ("212-555-0123+joe@home.org", "<PHONE><EMAIL>"),
        ("joe@home.org,4111111111111111", "<EMAIL>,<CARD>"),
        ("u/somebody,212-555-0123", "u/<USERNAME>,<PHONE>"),
        ("4111111111111111/u/somebody", "<CARD>/u/<USERNAME>"),
        # A mask announces no number.
        ("<PHONE> 5550555", "<PHONE> 5550555"),
        ("<phone> 5550555", "<phone> <PHONE>"),
    ],
)
def test_finds_beside_finds(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "from: List<String> names",
        "to: Vec<u8>,\n",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nyour key here\n-----END RSA PRIVATE KEY-----",
        '<svg viewBox="0 0 1792 1792"><path d="M509 0Q376 0 262 66 152 131 88 241 21 355"/></svg>',
        'd="m1.57.1.48-.07 2.2.82.64-.18 0 0 1.218.89 2.395 1.015 2.56.124.166 1.754 2.667"',
        'd="V8.622h6.945v11.333c-.006.463.05.924.167 1.372-.002.046.013.484-.1.469"',
        "320C ;\t0028 1111 0029 ;\tMA\n2172 ;\t0069 0069 0069 ;\tMA\n20AB ;\t0064 0335 0331 ;",
        '<script src="/all.js?1646226747" type="text/javascript">',
        '"sheriffs-office","id":"14030671","pageType":"text"',
        '"sentryPublicApiKey":"344003a8d11c41d8800fbad8383fdc50"',
        "doi:10.1038/s41586-020-2649-2 arXiv:2101.00190v1 ISBN 978-3-16-148410-0 2024-01-15T12:34:56 1.2.3.4 3.14159265358979",
        "commit 4111111111111111f0e1d2c3b4a5968778695a4b x = 0x4111111111111111; y = 1e-4111111111111111",
    ],
)
def test_what_is_nobodys_stays(text: str) -> None:
    assert masked(text) == text


# -- meta ------------------------------------------------------------------------------------------------------------------------------


def test_conversations_in_meta_are_masked_too() -> None:
    told = {
        "prompt": [{"role": "user", "content": "Who?"}],
        "chosen": [{"role": "assistant", "content": 'No.\n"joe@home.org"\n'}],
        "rejected": [{"role": "assistant", "content": "Pay:\n4111111111111111", "tool_calls": [{"a@b.org": ["joe@home.org", 8.5, None]}]}],
    }
    meta = [orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode(), "{}", orjson.dumps({"messages": []}).decode()]
    found = personal({"email": "mask", "card": "drop"}, ['Who?\nNo.\n"joe@home.org"', "4111111111111111", ""], "preference", meta)
    assert found.column("text").to_pylist() == ['Who?\nNo.\n"<EMAIL>"', "4111111111111111", ""]
    told["chosen"][0]["content"] = 'No.\n"<EMAIL>"\n'
    told["rejected"][0]["tool_calls"] = [{"a@b.org": ["<EMAIL>", 8.5, None]}]
    assert found.column("meta").to_pylist() == [orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode(), *meta[1:]]
    assert found.column("q.pii.card").to_pylist() == [1, 1, 0]  # the rejected answer's: its document is dropped
    assert found.column("q.pii.email").to_pylist() == [1, 0, 0]
    plain = personal({"email": "mask"}, ["joe@home.org"], "book", ['{"title":"joe@home.org"}'])
    assert plain.column("meta").to_pylist() == ['{"title":"joe@home.org"}']


@pytest.mark.parametrize("mask", [None, "", 'a"b\\c', r"\1", "somebody"])
def test_authors_in_meta(mask: str | None) -> None:
    rows = [
        {"author": "joe", "score": 3},
        {"authors": ["j]oe", 'q"u', "\\"], "title": '"author":"ann"'},
        {"author": 'x"y\\', "author_id": -5, "n": 1},
        {"author": None, "authors": []},
    ]
    config = {"username": "mask", "masks": {} if mask is None else {"username": mask}}
    found = personal(config, [""] * len(rows), "qa", [orjson.dumps(row).decode() for row in rows])
    said = "<USERNAME>" if mask is None else mask
    assert [json.loads(meta) for meta in found.column("meta").to_pylist()] == [
        {"author": said, "score": 3},
        {"authors": said, "title": '"author":"ann"'},
        {"author": said, "author_id": said, "n": 1},
        {"author": None, "authors": said},
    ]


# -- nothing of it in reports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["mask", "drop", "tag"])
def test_no_output_but_the_texts_holds_a_value(tmp_path: Path, action: str) -> None:
    values = {"email": "zq.unique77@mailhost.org", "card": "4111 1111 1111 1111", "iban": "DE89370400440532013000"}
    prose = "This sentence of the document has enough words in it. "
    rows = [{"id": name, "text": prose + "x" * 300 + f" {value}\nshort\n\x0b{value} it is."} for name, value in values.items()]
    raw = b"".join(orjson.dumps(row) + b"\n" for row in rows) + f'{{"id": "bad", "text": "{values["email"]}'.encode() + b"\n"
    (tmp_path / "in.jsonl").write_bytes(raw)
    told = [{"prompt": f"Tell {name}", "chosen": "no", "rejected": f"Yes:\n{value}"} for name, value in values.items()]
    (tmp_path / "set.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in told))
    base = {"type": "tables", "columns": {"id": "id"}, "kind": "web"}
    recipe = {
        "name": "p",
        "sources": [{**base, "name": "s", "paths": ["in.jsonl"]}, {"name": "t", "type": "tables", "paths": ["set.jsonl"]}],
        "pii": dict.fromkeys(values, action),
        "quality": {"gopher": {"min_words": 1000, "languages": None}},  # drops what is left: the report quotes all of it
        "dedup": {"exact": {}},
    }
    build(recipes.check(recipe, "recipe"), tmp_path, tmp_path / "out")
    told_in = set()
    for path in sorted((tmp_path / "out").rglob("*")):
        if path.is_file():
            rows = pq.read_table(path).to_pylist() if path.suffix == ".parquet" else []
            said = json.dumps(rows, default=str) if path.suffix == ".parquet" else path.read_bytes().decode(errors="replace")
            if any(value in said for value in values.values()):
                told_in.add(path.relative_to(tmp_path / "out").parts[0])
    # An unreadable record's first bytes are kept as they are; a document whose finds are not masked keeps them.
    assert told_in == {"errors", ".work"} | {"mask": set(), "drop": {"dropped"}, "tag": {"dropped", "documents"}}[action]
    for name in ("index.html", "report.md", "report.json"):
        said = (tmp_path / "out" / "report" / name).read_text()
        assert "EMAIL" in said
        assert "mailhost" not in said


# -- spans -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("citations", [True, False])
def test_spans_after_c4_against_a_search(citations: bool) -> None:
    draw = random.Random(3)
    pieces = (
        "This is a line that ends well. ",
        "short",
        "[edit]",
        "[12]",
        "漢字 です。",
        "Five words stand here, yes!",
        "no end",
        " ",
        "\u00a0",
    )
    ends = ("\n", "\n\n", "\x0b", "\x0c", "\u2028", "\u2029", " \t\n ", "\r\n", "\r", "\x85")
    texts, lists, tokens = [], [], []
    for _ in range(2000):
        text, spans, mine = "", [], []
        for number in range(draw.randint(1, 25)):
            if draw.random() < 0.4:
                mine.append(f"<T{number}>")
                spans.append({"type": "email", "offset": len(text.encode()), "length": len(mine[-1])})
                text += mine[-1]
            text += draw.choice(ends if draw.random() < 0.4 else pieces)
        texts.append(text)
        lists.append(spans)
        tokens.append(mine)
    batch = pa.RecordBatch.from_pydict(
        {
            "kind": pa.array(["web"] * len(texts)).dictionary_encode(),
            "text": pa.array(texts, pa.large_string()),
            "lang": pa.array(["en"] * len(texts)).dictionary_encode(),
            "q.pii.spans": pa.array(lists, pa.list_(SPAN)),
        }
    )
    scored, _ = quality.scoring(Quality(c4={"rewrite": True, "citations": citations, "terminal_punctuation": False}))(batch)
    moved = 0
    for old, new, spans, mine in zip(
        texts, scored.column("text").to_pylist(), scored.column("q.pii.spans").to_pylist(), tokens, strict=True
    ):
        said = [new.encode()[span["offset"] : span["offset"] + span["length"]].decode() for span in spans]
        assert said == [token for token in mine if token in new], (old, new)
        moved += old != new and bool(said)
    assert moved > 500


# -- bounds ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"gopher": {"min_words": -5}}, "gopher: min_words is -5: what it bounds is never negative, so it does nothing"),
        ({"repetition": {"max_dup_lines": -0.1}}, "repetition: max_dup_lines is -0.1: .* nothing would be kept"),
        ({"gopher": {"min_stop_words": 9}}, "min_stop_words is 9, of 8 stop words: nothing would be kept"),
        ({"gopher": {"stop_words": ["of the", "a"]}}, "stop_words: 'of the' is no single word"),
        ({"gopher": {"languages": []}}, "languages: names none, so nothing would be judged"),
        ({"gopher": {}, "by_language": {"de": {"gopher": {"min_words": 3}}}}, "gopher judges en alone: name de in its `languages` too"),
        ({"fineweb": {}, "by_language": {"EN": {"fineweb": {}}}}, "by_language.EN: tags of languages are written in small letters: en"),
        ({"fineweb": {}, "by_language": {"": {"fineweb": {}}}}, "is no BCP-47 tag"),
        ({"fineweb": {}, "by_language": {"Python": {"fineweb": {}}}}, "by_language.Python: 'fineweb' judges prose"),
        ({"code": {}, "by_language": {"sql": {"code": {}}}}, "by_language.sql: is no programming language: did you mean 'SQL'"),
        ({"code": {}, "by_language": {"Pyton": {"code": {}}}}, "did you mean 'Python'"),
        ({"code": {}, "by_language": {"Go": {"code": None}}}, "by_language.Go.code: should be a mapping of bounds"),
        ({"code": {}, "by_language": {"Go": {"code": 5}}}, "by_language.Go.code: should be a mapping of bounds"),
        ({"code": {}, "by_language": {"Go": {"code": {"max_lines": "x"}}}}, "by_language.Go.code: max_lines is 'x'"),
        ({"code": {}, "by_language": {"Go": {"code": {"max_line": -1}}}}, "by_language.Go.code: max_line is -1"),
        ({"preset": "starcoder", "by_language": {"Python": {"code": {"min_comments": 0.9}}}}, "Python.code: min_comments 0.9 is"),
    ],
    ids=str,
)  # fmt: skip
def test_bounds_without_effect_or_sense(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        check(quality=rules)


def test_rows_of_languages_that_are_judged() -> None:
    rows = {name: {"gopher": {"min_words": 3}} for name in ("sr-Latn", "sr", "no", "nb", "zh-Hant", "en-US")}
    own = check(quality={"gopher": {"languages": None}, "by_language": rows}).quality.of_language("nb").gopher
    assert own
    assert own.min_words == 3
    check(quality={"gopher": {"languages": ["no", "en"]}, "by_language": {"nb": {"gopher": {}}, "en-US": {"gopher": {}}}})
    check(quality={"code": {}, "by_language": {name: {"code": {}} for name in ("C++", "Motorola 68K Assembly", "SQL")}})


def test_what_stands_beside_fineweb_2_goes_over_its_table() -> None:
    words = [f"w{number}" for number in range(20)]  # for languages without a row
    keys = {
        "fineweb": {"min_terminal_lines": 0.5},
        "gopher": {"max_mean_word_length": 9.0, "min_stop_words": 20, "stop_words": tuple(words)},
    }
    for rules in (Quality(preset="fineweb-2", **keys), Quality.model_validate(Quality(preset="fineweb-2", **keys).model_dump())):
        german, table = rules.of_language("de"), Quality(preset="fineweb-2").of_language("de")
        assert german.fineweb
        assert table.fineweb
        assert german.fineweb.min_terminal_lines == 0.5
        assert table.fineweb.min_terminal_lines != 0.5
        assert german.fineweb.max_newlines_per_word == table.fineweb.max_newlines_per_word
        assert german.gopher
        assert german.gopher.stop_words == (table.gopher and table.gopher.stop_words)
        assert german.gopher.min_stop_words == len(german.gopher.stop_words or ()) == 15  # no more than there are
        long = rules.of_language("nab").gopher  # whose words are of 10 characters and more
        assert long
        assert (long.min_mean_word_length, long.max_mean_word_length) == (None, 9.0)


@pytest.mark.parametrize("bound", [(1 << 24) + 1, 20_000_001, 1 << 60])
def test_large_integers_bound_columns_of_floats(bound: int) -> None:
    batch = pa.RecordBatch.from_pydict({"q.x": pa.array([1.0, 3e38, None], pa.float32())})
    assert rule_filter([Rule("q.x", None, bound, too_high="long")])(batch).field("reason").to_pylist() == [None, "long", None]
