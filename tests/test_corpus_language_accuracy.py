"""`codedev corpus langid test`: figures that are counted by hand, on real answers of the identifier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from codedev._errors import InputError
from codedev.cli import cli
from codedev.corpus import language
from codedev.corpus.language.accuracy import LONGEST, accuracy

EN = "The ferry leaves the harbour at half past seven in the morning."
DE = "Die Fähre verlässt den Hafen um halb acht am Morgen."
NB = "Fergen går fra kaia klokka halv åtte om morgenen, og turen tar ikke lang tid."


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "en.txt").write_text(f"{EN}\n\n  {EN}\n{DE}\n")  # one German line among the English
    (folder / "de.news.txt").write_text(f"{DE}\n{DE}\n{DE}\n12 34\n")
    (folder / "no.txt").write_text(f"{NB}\n")  # nb is one of no
    (folder / "notes.txt").write_text("no language by name\n")
    return folder


def test_recall_precision_and_confusions(texts: Path) -> None:
    found = accuracy("ensemble", [texts])
    rows = {one.tag: (one.lines, one.recall, one.precision) for one in found.languages}
    assert language.identify(NB)[0] == "nb"
    assert rows == {"en": (3, 2 / 3, 1.0), "de": (4, 3 / 4, 3 / 4), "no": (1, 1.0, None)}
    assert [one.tag for one in found.languages] == ["en", "de", "no"]
    assert set(found.confusions) == {("en", "de", 1), ("de", "und", 1)}
    assert found.lines == 8
    assert found.macro == pytest.approx((2 / 3 + 3 / 4 + 1) / 3)


def test_the_command(texts: Path) -> None:
    done = CliRunner().invoke(cli, ["corpus", "langid", "test", "lid.176", str(texts / "en.txt"), str(texts / "de.news.txt"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [one["tag"] for one in told["languages"]] == [
        one.tag for one in accuracy("lid.176", [texts / "en.txt", texts / "de.news.txt"]).languages
    ]
    assert {"truth": "en", "told": "de", "lines": 1} in told["confusions"]
    shown = CliRunner().invoke(cli, ["corpus", "langid", "test", "ensemble", str(texts)])
    assert "8 lines of 3 languages" in shown.stdout


def test_a_line_is_read_to_its_end_once(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text((EN + " ") * (3 * LONGEST // len(EN)) + "\n" + EN)
    assert accuracy("lid.176", [tmp_path / "en.txt"]).lines == 2


def test_what_cannot_be_tested(tmp_path: Path) -> None:
    (tmp_path / "words_de.txt").write_text(DE)
    with pytest.raises(InputError, match="TAG"):
        accuracy("lid.176", [tmp_path / "words_de.txt"])
    with pytest.raises(InputError, match="no such file"):
        accuracy("lid.176", [tmp_path / "none"])
    (tmp_path / "en.txt").write_text("\n")
    with pytest.raises(InputError, match="no lines"):
        accuracy("lid.176", [tmp_path])
