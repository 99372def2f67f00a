"""FineWeb-2's bounds by language against its rules in plain Python; StarCoder's by programming language; what code's columns count."""

from __future__ import annotations

import random
import time
import unicodedata
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_corpus_quality import plain

from codedev.corpus import presets, quality
from codedev.corpus.buffers import text_buffers
from codedev.corpus.quality import columns
from codedev.corpus.recipe import Quality
from codedev.corpus.stage import verdict
from codedev.kernels import literals

DATA = Path(presets.__file__).parent / "data"


def judged(recipe: Quality, batch: pa.RecordBatch) -> list[str | None]:
    """The first reason of each row, over all filters."""
    scored, _ = quality.scoring(recipe)(batch)
    said = [verdict(judge, scored).field("reason").to_pylist() for _, judge in quality.filters(recipe)]
    return [next((reason for reason in row if reason), None) for row in zip(*said, strict=True)]


def published() -> dict[str, dict[str, Any]]:
    lines = [
        line.split("\t") for line in (DATA / "fineweb2_bounds.tsv").read_text(encoding="utf-8").split("\n") if line[:1] not in ("#", "")
    ]
    return {row[0]: dict(zip(lines[0], row, strict=True)) for row in lines[1:]}


# Articles 1 to 3 of the Universal Declaration of Human Rights (UN, public domain) in five languages.
DECLARATION = {
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und "
    "sollen einander im Geist der Brüderlichkeit begegnen. Jeder hat Anspruch auf die in dieser Erklärung verkündeten "
    "Rechte und Freiheiten ohne irgendeinen Unterschied, etwa nach Rasse, Hautfarbe, Geschlecht, Sprache, Religion. "
    "Jeder hat das Recht auf Leben, Freiheit und Sicherheit der Person.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de conscience "
    "et doivent agir les uns envers les autres dans un esprit de fraternité. Chacun peut se prévaloir de tous les droits "
    "et de toutes les libertés proclamés dans la présente Déclaration, sans distinction aucune. Tout individu a droit à "
    "la vie, à la liberté et à la sûreté de sa personne.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y conciencia, "
    "deben comportarse fraternalmente los unos con los otros. Toda persona tiene los derechos y libertades proclamados "
    "en esta Declaración, sin distinción alguna de raza, color, sexo, idioma, religión. Todo individuo tiene derecho a "
    "la vida, a la libertad y a la seguridad de su persona.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны "
    "поступать в отношении друг друга в духе братства. Каждый человек должен обладать всеми правами и всеми свободами, "
    "провозглашенными настоящей Декларацией, без какого бы то ни было различия. Каждый человек имеет право на жизнь, на "
    "свободу и на личную неприкосновенность. Никто не должен быть в рабстве.",
    "sw": "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa. Wote wamejaliwa akili na dhamiri, hivyo yapasa watendeane "
    "kindugu. Kila mtu anastahili kuwa na haki zote na uhuru wote ambao umeelezwa katika taarifa hii bila ubaguzi wo "
    "wote. Kila mtu ana haki ya kuishi, haki ya uhuru na haki ya usalama wa nafsi yake. Mtu ye yote hataruhusiwa kumweka "
    "mwenziwe katika hali ya utumwa kwa njia yo yote ya namna hiyo.",
}


def varied(text: str) -> list[str]:
    words = text.split()
    return [
        text,
        text.replace(". ", ".\n"),
        "\n".join(text.replace(".", "").split(", ")),
        " ".join(word for word in words if len(word) > 4),
        " ".join(words + words[:25]),
        " ".join(words + words),
        " ".join(f"{word} {n}" if n % 4 == 0 else word for n, word in enumerate(words)),
        "\n".join([text, text]),
        "\n".join(words),
        " ".join(words[:30]),
        " ".join(word + "abcdefgh" for word in words),
        " ".join(word[:2] for word in words),
    ]


def by_the_rules(text: str, row: dict[str, Any], counted: dict[str, Any]) -> bool:
    """Whether FineWeb-2 keeps a text (fineweb-2-pipeline.py): what is simple counted here, shares of repeated n-grams by their columns."""
    words = text.split()
    real = [word for word in words if any(unicodedata.category(letter)[0] not in "PS" for letter in word)]
    lines = [line for line in text.split("\n") if line.strip()]
    mean = sum(map(len, real)) / len(real)
    at_least = {  # a figure, and the bound below which it must not lie
        "gopher words": (len(real), 50),
        "min_word_length": (mean, row["min_word_length"]),
        "alpha_words": (sum(any(map(str.isalpha, word)) for word in words) / len(words), row["alpha_words"]),
        "stop_words": (len({*words} & {*row["stop_words"].split(" ")}), 2),
        "terminal_lines": (counted["q.fineweb.terminal_lines"], row["terminal_lines"]),
    }
    at_most = {
        "max_word_length": (mean, row["max_word_length"]),
        "newlines_per_word": (text.count("\n") / len(words), row["newlines_per_word"]),
        "dup_line_chars": (sum(len(line) for n, line in enumerate(lines) if line in lines[:n]) / len(text.replace("\n", "")), 0.1),
        **{name: (counted[f"q.repetition.{name}"], row[name]) for name in row if name.startswith(("top_", "dup_"))},
    }
    low = all(bound == "" or np.float32(value) >= np.float32(bound) for value, bound in at_least.values())
    return low and all(bound == "" or np.float32(value) <= np.float32(bound) for value, bound in at_most.values())


def test_fineweb_2_decides_by_each_languages_bounds() -> None:
    recipe, table = Quality(preset="fineweb-2", words="whitespace"), published()
    texts = [(language, text) for language, whole in DECLARATION.items() for text in varied(whole)]
    random.Random(0).shuffle(texts)
    batches = [plain([text], lang=language) for language, text in texts]
    batch = pa.RecordBatch.from_arrays(
        [pa.concat_arrays([one.column(name).cast(pa.string()) if name == "lang" else one.column(name) for one in batches])
         if name != "lang" else pa.array([language for language, _ in texts]).dictionary_encode().cast(batches[0].schema.field("lang").type)
         for name in batches[0].schema.names], schema=batches[0].schema,
    )  # fmt: skip
    scored, _ = quality.scoring(recipe)(batch)
    rows = scored.select([name for name in scored.schema.names if name.startswith("q.")]).to_pylist()
    expected = [by_the_rules(text, table[language], row) for (language, text), row in zip(texts, rows, strict=True)]
    assert [reason is None for reason in judged(recipe, batch)] == expected
    for language, whole in DECLARATION.items():
        kept = [ok for (of, _), ok in zip(texts, expected, strict=True) if of == language]
        assert 1 <= sum(kept) < len(kept), (language, whole[:20])


def test_fineweb_2_stop_words_are_the_languages_own() -> None:
    recipe = Quality(preset="fineweb-2", words="whitespace")
    for language, text in DECLARATION.items():
        batch, _ = quality.scoring(recipe)(plain([text], lang=language))
        words = {*text.split()} & {*published()[language]["stop_words"].split(" ")}
        assert batch.column("q.gopher.stop_words").to_pylist() == [len(words)]
        assert len(words) >= 2
        assert judged(recipe, plain([text], lang=language)) == [None]
    assert judged(recipe, plain([DECLARATION["ru"]], lang="de")) == ["few_stop_words"]
    assert judged(recipe, plain([DECLARATION["ru"]], lang=None)) == [None]


def test_every_row_of_the_table_is_a_language_with_valid_bounds() -> None:
    table, recipe = published(), Quality(preset="fineweb-2")
    assert frozenset(columns.UNSPACED) == presets._OTHER_WORDS
    assert len(table) == 1929
    for language, row in table.items():
        own = recipe.of_language(language)
        assert own.gopher
        assert own.repetition
        assert own.repetition.max_dup_lines == (float(row["dup_lines"]) if row["dup_lines"] else None)
        if language not in ("zh", "th"):
            assert own.gopher.stop_words is None or (
                2 <= len(own.gopher.stop_words) <= 63 and all(w.split() == [w] for w in own.gopher.stop_words)
            )
    zh = recipe.of_language("zh").gopher
    assert zh
    assert (zh.stop_words, zh.min_stop_words, zh.max_mean_word_length) == (None, None, None)


def test_the_table_costs_nothing_at_the_start() -> None:
    presets.table.cache_clear()
    presets.of_language.cache_clear()
    times = []
    for _ in range(3):
        start = time.process_time()
        recipe = Quality(preset="fineweb-2")
        quality.filters(recipe)
        quality.version(recipe)
        times.append(time.process_time() - start)
    assert min(times) < 0.1  # 4 ms
    assert len(str(recipe.model_dump())) < 5000  # the resolved recipe stays readable
    assert Quality.model_validate(recipe.model_dump()) == recipe


def test_what_the_recipe_says_goes_over_the_table_and_the_most_exact_tag_counts() -> None:
    own = {"de": {"gopher": {"min_stop_words": None, "max_mean_word_length": 99.0}}, "no": {"gopher": {"min_words": 1}}}
    recipe = Quality(preset="fineweb-2", by_language=own)
    german = recipe.of_language("de").gopher
    assert german
    assert (german.min_stop_words, german.max_mean_word_length, german.min_alpha_words) == (None, 99.0, 0.774)
    for tag, reason in (("nb", "too_few_words"), ("no", None), ("no-NO", None), ("nb-NO", "too_few_words")):  # nb has a row of its own
        assert judged(recipe.model_copy(update={"fineweb": None, "repetition": None}), plain(["og i jeg har"], lang=tag)) == [reason]
    assert quality.version(recipe) != quality.version(Quality(preset="fineweb-2", gopher=None))
    lists = [quality.version(Quality(gopher={"stop_words": words})) for words in (None, ("die", "und"), ("der", "und"))]
    assert len({*lists}) == 3
    batch, _ = quality.scoring(Quality(gopher={"languages": None, "stop_words": ("und", "der")}))(plain(["und die und der"], lang="de"))
    assert batch.column("q.gopher.stop_words").to_pylist() == [2]


# Code


def counted(text: str | bytes, lang: str | None = "Python") -> dict[str, Any]:
    batch, _ = quality.scoring(Quality(code={}))(plain([text if isinstance(text, str) else text.decode()], kind="code", lang=lang))
    return {name: batch.column(name)[0].as_py() for name in batch.schema.names if name.startswith("q.")}


@pytest.mark.parametrize(
    ("text", "lang", "longest"),
    [
        ("a = 'four' + \"se\\\"ven\" # don't", "Python", 7),
        ("it's one\nthat's two", "C", 0),
        ('x = \'open\ny = "two"', "C", 3),
        ("x = 'joined\\\nlines'", "C", 13),
        ('"""a docstring that is long"""\nx = """not\none"""', "Python", 7),
        ("`${two}\nlines` 'a'", "JavaScript", 12),
        ("'(a `b` c)", "Scheme", 0),
        ("'日本語'", "Go", 3),
        ("x = '''never closed\n'ab'", "Python", 2),
        ("", "Python", 0),
    ],
)
def test_longest_string(text: str, lang: str, longest: int) -> None:
    assert counted(text, lang)["q.code.max_string"] == longest


def tokens_of(text: str) -> int:
    kinds = ["w" if c in "_$" or unicodedata.category(c)[0] in "LMN" else unicodedata.category(c)[0] for c in text]
    return sum((k == "w" and (n == 0 or kinds[n - 1] != "w")) or k in "PS" for n, k in enumerate(kinds))


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.chars, self.hidden = 0, ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.hidden = tag if tag in ("script", "style") else self.hidden

    def handle_endtag(self, tag: str) -> None:
        self.hidden = "" if tag == self.hidden else self.hidden

    def handle_data(self, data: str) -> None:
        self.chars += 0 if self.hidden else len(data)

    def handle_entityref(self, name: str) -> None:
        self.chars += len(name) + 2

    def handle_charref(self, name: str) -> None:
        self.chars += len(name) + 3


PAGE = (
    "<!DOCTYPE html>\n<html><head><style>p > a {color: red}</style ><title>One &amp; Ünï</title>\n<script src='x>y'>"
    "if (a < b) document.write('<p>')"
    '</script></head><body class="a > b"><!-- not <p> seen --><p>1 < 2 &#8364; text</p><br/><scripty>shown</scripty></body></html>\n'
)


def test_visible_characters_are_those_of_pythons_parser() -> None:
    parser = Seen()
    parser.feed(PAGE)
    parser.close()
    row = counted(PAGE, "HTML")
    assert row["q.code.visible_chars"] == parser.chars > 20
    assert row["q.code.visible"] == pytest.approx(parser.chars / len(PAGE))
    assert counted(PAGE, "Vue")["q.code.visible"] is None
    for text in ("<", "<script", "<script>", "<!--", '<a b="', "</", "<p", "a<!-", "<!-->"):
        assert 0 <= counted(text, "HTML")["q.code.visible_chars"] <= len(text)


def test_fertility_and_hostile_text_against_plain_python() -> None:
    rng = random.Random(0)
    alphabet = "ab1_$ \t\n.\\'\"`<>!-/=éß日\u0301😀\x00&;"
    texts = ["".join(rng.choices(alphabet, k=rng.randrange(60))) for _ in range(300)] + ["", "x" * 500, "def f(a, b): return a['k'] + 1"]
    batch, _ = quality.scoring(Quality(code={}))(plain(texts, kind="code", lang="HTML"))
    for text, fertility in zip(texts, batch.column("q.code.fertility").to_pylist(), strict=True):
        assert fertility == pytest.approx(len(text) / max(1, tokens_of(text)))
    noise = np.random.default_rng(0).integers(0, 256, 20_000, np.uint8)
    offsets = np.sort(np.append(np.random.default_rng(1).integers(0, 20_000, 400), [0, 20_000]))
    every = np.ones(len(offsets) - 1, np.uint8)
    for quotes in (0, literals.BACKTICK, literals.TRIPLE):
        found = literals.literal_stats(noise, offsets, every, every * quotes, every)
        alone = [literals.literal_stats(noise[a:b].copy(), np.array([0, b - a]), every[:1], every[:1] * quotes, every[:1])[0] for a, b in
                 pairwise(offsets.tolist())]  # fmt: skip
        assert (found == np.array(alone)).all()  # nothing is read outside a document
        assert (found >= 0).all()
        assert (found <= np.diff(offsets)[:, None]).all()


@pytest.mark.parametrize("unit", ['"\\\n', '\'"\\"', '"""\\', "`'\"", '<a "', "<script", "<!--", "</script", "'\n\"", "<style><", "x"])
def test_literals_take_linear_time(unit: str) -> None:
    times = []
    for size in (50_000, 400_000):
        data, offsets = text_buffers(pa.array([unit * (size // len(unit))], pa.large_string()))
        one = np.ones(1, np.uint8)
        best = 9.0
        for quotes in (literals.BACKTICK, literals.TRIPLE):
            start = time.thread_time()
            literals.literal_stats(data, offsets, one, one * quotes, one)
            best = min(best, time.thread_time() - start)
        times.append(best)
    assert times[1] < 0.25  # 4 ms; quadratic would be minutes


def test_starcoder_by_programming_language() -> None:
    recipe = Quality(preset="starcoder")
    page = PAGE.replace("shown", "shown at length " * 12) + "y" * 200 + "\n"
    long = '{"a": "' + "word " * 300 + '"}\n'
    lines = '{"a": "some words"},\n' * 600
    wasm = "(" + "$1 " * 20 + ")\n"
    for text, lang, reason in (
        (page, "HTML", None),
        ("<p>" + "<b></b>" * 60 + "</p>\n<br>\n", "HTML", "little_visible"),
        (long, "JSON", None),
        (long, "C", "long_line"),
        (lines, "JSON", "too_many_lines"),
        (lines, "C", None),
        (wasm, "WebAssembly", None),
        (wasm, "C", "few_letters"),
        ("x = 1 + one\n" * 20, "Python", "few_comments"),
        ("x = 1 + one\n" * 20, "Ruby", None),
    ):
        assert judged(recipe, plain([text], kind="code", lang=lang)) == [reason], (lang, text[:20])
    bounds = {"min_fertility": 2.0, "max_fertility": 4.0, "max_string": 10, "min_chars": 5, "max_chars": 60}
    own = Quality(code={"min_alnum": None}, by_language={"JSON": {"code": bounds}})
    for text, reason in (
        ("[[[[]]]]", "low_fertility"),
        ("identifiers are long", "high_fertility"),
        ("abc = 'elevenchars'", "long_string"),
        ("abc ", "too_small"),
        ("abc = d\n" * 10, "too_large"),
        ("abc = 'ok' + d", None),
    ):
        assert judged(own, plain([text], kind="code", lang="JSON")) == [reason], text
        assert judged(own, plain([text], kind="code", lang="C")) == [None]
