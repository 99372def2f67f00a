"""Recipes under attack: YAML 1.2 scalars, bombs, wrong types, unknown keys, --set. Every refusal is one line that names the place."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from codedev import _recipe
from codedev._errors import CodedevError, InputError, MissingExtraError, RecipeError
from codedev._recipe import Model, parse_yaml
from codedev.corpus import recipe as recipes

GOOD = "name: t\nsources:\n  - {name: a, type: tables, paths: [a.jsonl]}\n"


class Inner(Model):
    width: int = 1
    words: tuple[str, ...] = ()


class Outer(Model):
    name: str = "x"
    rate: float = 0.5
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    either: str | tuple[str, ...] = ()
    small: int = Field(default=1, ge=1)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "r.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(call: Any, *arguments: Any, error: type[CodedevError] = RecipeError) -> str:
    with pytest.raises(error) as raised:
        call(*arguments)
    message = str(raised.value)
    assert message.isprintable(), message  # one line, no control characters
    assert len(message) < 600
    return message


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("no", "no"),
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("TRUE", True),
        ("False", False),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'null'", "null"),
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.5e1", -5.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("010", 10),
        ("-0", 0),
        ("+7", 7),
        ("9223372036854775807", (1 << 63) - 1),
        ("-9223372036854775808", -(1 << 63)),
        ("1_000", "1_000"),
        ("1:30", "1:30"),  # sixty-base numbers went with YAML 1.1
        ("0b11", "0b11"),
        ("2020-01-01", "2020-01-01"),
        ("=", "="),
        ("<<", "<<"),
        ("'1e-3'", "1e-3"),
        ("é", "é"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("!!bool 'true'", True),
    ],
)
def test_scalars(written: str, meant: Any) -> None:
    [(key, value)] = parse_yaml(f"k: {written}", "w").items()
    assert (key, value, type(value)) == ("k", meant, type(meant))


def test_not_a_number_is_one() -> None:
    assert math.isnan(parse_yaml("k: .nan", "w")["k"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "line 2: the key 'a' stands twice"),
        ("x: {b: 1, b: 2}", "'b' stands twice"),
        ("1: a", "the key 1 must be text"),
        ("? [a]\n: b", "must be text"),
        ("~: b", "must be text"),
        ("true: b", "must be text"),
        ("a: [1, 2", "not valid YAML"),
        ("a: 'x", "not valid YAML"),
        ("a: %x", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("\tb: 1", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: *nowhere", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("a: \x1b[31m", "not valid YAML"),
        ("a: &a [*a]", "not valid YAML"),
        ("a: !!python/object/apply:os.system [id]", "not valid YAML"),
        ("a: !!python/name:os.system", "not valid YAML"),
        ("a: !mine 1", "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: !!binary x", "not valid YAML"),
        ("a: !!set {x, y}", "not valid YAML"),
        ("a: !!int x", "is no integer"),
        ("a: !!int [1]", "not valid YAML"),
        ("a: !!float x", "is no number"),
        ("a: !!bool x", "is no boolean"),
        ("a: !!map x", "a mapping is expected"),
        ("a: !!seq x", "not valid YAML"),
        ("a: 9223372036854775808", "64-bit"),
        ("a: " + "9" * 5000, "64-bit"),
        ("a: " + "[" * 5000, "nested too deep"),
        ("a: " + "[" * 1500 + "]" * 1500, "nested too deep"),
        ("- " * 3000 + "a", "nested too deep"),
    ],
)
def test_what_yaml_may_not_say(text: str, said: str) -> None:
    assert said in refusal(parse_yaml, text, "r.yaml")


def test_aliases_are_written_out() -> None:
    data = parse_yaml("a: &x {k: [1]}\nb: *x\n", "w")
    assert data == {"a": {"k": [1]}, "b": {"k": [1]}}
    data["a"]["k"].append(2)  # as --set may
    assert data["b"] == {"k": [1]}


def test_billions_of_laughs_are_refused_at_once(tmp_path: Path) -> None:
    laughs = "a0: &a0 [ha, ha]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    assert "100,000 values" in refusal(parse_yaml, laughs, "w")
    assert "100,000 values" in refusal(_recipe.read, write(tmp_path, GOOD), (f"x=[&a [1], {'*a, ' * 60000}]",))


@pytest.mark.parametrize("text", ["", "- a", "just words", "3", "~", "# nothing"])
def test_a_recipe_is_a_mapping(tmp_path: Path, text: str) -> None:
    assert "a recipe is a mapping" in refusal(recipes.load, write(tmp_path, text))


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "no such recipe" in refusal(recipes.load, tmp_path / "none.yaml", error=InputError)
    assert "no such recipe" in refusal(recipes.load, tmp_path / "a\nb\x1b[2J.yaml", error=InputError)
    assert "directory" in refusal(recipes.load, tmp_path, error=InputError)
    assert "utf-8" in refusal(recipes.load, write(tmp_path, b"name: \xff\xfe"), error=InputError)
    assert "utf-8" in refusal(recipes.load, write(tmp_path, "name: t".encode("utf-16")), error=InputError)


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    assert recipes.load(write(tmp_path, b"\xef\xbb\xbf" + GOOD.encode())).name == "t"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "sead: 1", "unknown key 'sead': did you mean 'seed'?"),
        (GOOD + "language: {kep: [en]}", "unknown key 'kep' in language: did you mean 'keep'?"),
        (GOOD + "quality: {gopher: {min_word: 3}}", "unknown key 'min_word' in quality.gopher: did you mean 'min_words'?"),
        (GOOD + "quality: {gophr: {}}", "unknown key 'gophr' in quality: did you mean 'gopher'?"),
        (GOOD + "dedup: {exact: {x: 1}}", "unknown key 'x' in dedup.exact"),
        (GOOD.replace("paths", "path"), "sources.0: unknown key 'path': did you mean 'paths'?"),
        (GOOD.replace("tables", "table"), "sources.0: unknown type 'table': did you mean 'tables'?"),
        (GOOD.replace("tables", "parquet"), "known: arxiv, books, code, protein, reddit, stackexchange, tables, web"),
        (GOOD.replace("type: tables, ", ""), "sources.0: a source is a mapping with a name, a type"),
        (GOOD.replace("name: a, ", ""), "sources.0: 'name' is missing"),
        (GOOD.replace("name: a,", "name: ../a,"), "sources.0: name is '../a'"),
        (GOOD.replace("name: a,", f"name: {'a' * 300},"), "sources.0: name is 'aaa"),
        (GOOD.replace("[a.jsonl]", "a.jsonl"), "sources.0: paths is 'a.jsonl': it should be a list"),
        (GOOD.replace("[a.jsonl]", "[]"), "needs `paths`, or the `uri` of a database"),
        (GOOD.replace("[a.jsonl]", "[1]"), "sources.0: paths.0 is 1"),
        (GOOD.replace("}", ", delimiter: ab}"), "sources.0: delimiter is 'ab'"),
        (GOOD.replace("}", ", max_record_bytes: 0}"), "sources.0: max_record_bytes is 0"),
        (GOOD.replace("}", ", kind: novel}"), "unknown kind 'novel'"),
        (GOOD + "  - {name: a, type: tables, paths: [b]}", "two sources are named 'a'"),
        (GOOD + "seed: 1.5", "seed is 1.5"),
        (GOOD + "seed: '1'", "seed is '1'"),
        (GOOD + "seed: true", "seed is true"),
        (GOOD + "language: [en]", "language is ['en']: it should be a mapping"),
        (GOOD + "language: {keep: no}", "language.keep is 'no': it should be a list"),
        (GOOD + "language: {keep: [1]}", "language.keep.0 is 1"),
        (GOOD + "language: {min_score: 1.5}", "language.min_score is 1.5"),
        (GOOD + "language: {min_score: .nan}", "language.min_score is nan"),
        (GOOD + "quality: {gopher: {max_symbol_ratio: .inf}}", "quality.gopher.max_symbol_ratio is inf"),
        (GOOD + "quality: {gopher: yes}", "quality.gopher is 'yes': it should be a mapping"),
        (GOOD + "expect: {min_documents: -1}", "expect.min_documents is -1"),
        (GOOD + "unit_bytes: 1", "unit_bytes is 1"),
        ("name: t", "'sources' is missing"),
        ("name: t\nsources: []", "sources is empty"),
        ("name: t\nsources: {name: a}", "sources is {'name': 'a'}: it should be a list"),
        ("name: t\nsources: [a]", "sources.0: a source is a mapping"),
        ("name: t\nsources: ~", "sources is empty: it should be a list"),
        ('"a\\nb\\e[31m": 1\n' + GOOD, r"unknown key 'a\nb\x1b[31m'"),
        (GOOD + 'seed: "x\\ny"', r"seed is 'x\ny'"),
    ],
)
def test_faults_name_their_place(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(recipes.load, write(tmp_path, text))
    assert said in message
    assert message.startswith(str(tmp_path / "r.yaml"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"inner": {"widht": 1}}, "unknown key 'widht' in inner: did you mean 'width'?"),
        ({"many": [{}, {"widht": 1}]}, "unknown key 'widht' in many.1: did you mean 'width'?"),
        ({"many": [{"width": 1}, {"width": "x"}]}, "many.1.width is 'x'"),
        ({"either": 3}, "either is 3"),
        ({"either": [3]}, "either"),
        ({"rate": "fast"}, "rate is 'fast'"),
        ({"small": 0}, "small is 0"),
        ({"many": {"width": 1}}, "many is {'width': 1}: it should be a list"),
    ],
)
def test_nested_models(data: dict[str, Any], said: str) -> None:
    assert said in refusal(_recipe.check, data, Outer, "r")


def test_models_are_frozen_and_take_lists_and_integers() -> None:
    model = _recipe.check({"many": [{"width": 2}], "either": ["a"], "rate": 1}, Outer, "r")
    assert model.many == (Inner(width=2),)
    assert model.rate == 1.0
    with pytest.raises(Exception, match="frozen"):
        model.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "at", "value"),
    [
        ("seed=3", "seed", 3),
        ("language.min_score=1e-3", "language.min_score", 0.001),
        ("language.keep=[no, de]", "language.keep", ("no", "de")),
        ("language={}", "language.min_score", 0.65),
        ("language=", "language", None),
        ("quality.gopher.min_words=null", "quality.gopher.min_words", None),
        ("sources.0.text=body", "sources.0.text", "body"),
        ("sources.0.paths.0=a=b", "sources.0.paths.0", "a=b"),
        ("name='x: y'", None, None),
    ],
)
def test_set(tmp_path: Path, override: str, at: str | None, value: Any) -> None:
    if at is None:
        assert "name is 'x: y'" in refusal(recipes.load, write(tmp_path, GOOD), (override,))
        return
    found: Any = recipes.load(write(tmp_path, GOOD), (override,))
    for part in at.split("."):
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed", "write --set key.sub=value"),
        ("=3", "write --set key.sub=value"),
        ("", "write --set key.sub=value"),
        ("sead=3", "unknown key 'sead': did you mean 'seed'?"),
        ("name.x=1", "there is no 'x' in 't'"),
        ("sources.7.text=b", "there is no '7' in"),
        ("sources.²=b", "there is no '²' in"),
        (f"sources.{'9' * 5000}=b", "there is no"),
        ("sources.-1.text=b", "there is no '-1' in"),
        ("sources.0.paths.9=b", "there is no '9' in"),
        ("a..b=1", "unknown key 'a'"),
        ("seed=[", "--set seed: line 1"),
        ("seed=&a [*a]", "--set seed"),
        ("seed=x\ny", "seed"),
    ],
)
def test_wrong_set(tmp_path: Path, override: str, said: str) -> None:
    if len(override) > 1000:
        with pytest.raises(RecipeError, match=said):
            recipes.load(write(tmp_path, GOOD), (override,))
    else:
        assert said in refusal(recipes.load, write(tmp_path, GOOD), (override,)).replace(" column 2 is not", "")


def test_set_changes_one_of_two_that_share_an_alias(tmp_path: Path) -> None:
    shared = "name: t\nsources:\n  - &a {name: a, type: tables, paths: &p [x]}\n  - {name: b, type: tables, paths: *p}\n"
    loaded = recipes.load(write(tmp_path, shared), ("sources.0.paths.0=y",))
    assert [source.paths for source in loaded.sources] == [("y",), ("x",)]


def test_errors_survive_a_worker() -> None:
    import pickle

    for error in (RecipeError("a\nb"), MissingExtraError("torch", "train")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"language": {"keep": ["english"]}}, "'english' is no BCP-47 tag"),
        ({"language": {"keep": ["en", "ger"]}}, "'ger' is written 'de' here"),
        ({"language": {"min_scores": {"deu-Latn": 0.5}}}, "'deu-Latn' is written 'de-Latn' here"),
        ({"language": {"keep": []}}, "names no language"),
        ({"quality": {"gopher": {"languages": ["klingon"]}}}, "'klingon' is no BCP-47 tag"),
        ({"quality": {"gopher": {}, "by_language": {"german": {"gopher": {"min_words": 3}}}}}, "'german' is no BCP-47 tag"),
        ({"quality": {"gopher": {"min_words": 100, "max_words": 5}}}, "min_words 100 is more than max_words 5"),
        ({"quality": {"gopher": {"min_alpha_words": 3}}}, "min_alpha_words"),
        (
            {"quality": {"learned": {"good": {"model": "m.bin", "min_score": 0.9, "max_score": 0.1}}}},
            "min_score 0.9 is more than max_score",
        ),
        ({"quality": {"perplexity": {"models": {"en": "m.npz"}, "bounds": {"min": 900.0, "max": 5.0}}}}, "min 900 is more than max 5"),
    ],
)
def test_what_would_keep_nothing_is_refused(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    source = {"name": "s", "type": "tables", "paths": ["a.jsonl"]}
    with pytest.raises(RecipeError, match=re.escape(said)) as refused:
        recipes.check({"name": "r", "sources": [source], **keys}, "r.yaml")
    assert "\n" not in str(refused.value)


def test_tags_of_languages_that_have_three_letters_are_known() -> None:
    source = {"name": "s", "type": "tables", "paths": ["a.jsonl"]}
    recipes.check({"name": "r", "sources": [source], "language": {"keep": ["yue", "sr-Latn", "zh", "fil"]}}, "r.yaml")
    own = {"keep": ["english"], "model": "mine.ftz"}  # its labels are its own
    recipes.check({"name": "r", "sources": [source], "language": own}, "r.yaml")
