"""How much of a block the gold holds, by counting; what keeping such blocks scores; learning, twice the same."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev._errors import InputError
from codedev.cli import cli
from codedev.corpus.extract import content, html
from codedev.corpus.extract.learn import gold, metrics

pytest.importorskip("trafilatura")  # whose texts stand in for gold
from codedev.corpus.extract.learn import label, train

WORD = re.compile(r"\w+")


def shares(blocks: list[str], text: str) -> list[float]:
    return [round(float(share), 3) for share in label.shares([WORD.findall(block) for block in blocks], text)]


BODY = "the river rose again in the night and people of the valley moved their animals to the hills"
TEASER = "Read what the mayor says now"


@pytest.mark.parametrize(
    ("blocks", "text", "expected"),
    [
        ([], "", []),
        ([""], "", [0]),
        ([BODY], "", [0]),
        ([BODY], BODY, [1]),
        ([BODY, "other words that are not there at all"], BODY, [1, 0]),
        # gold with more than the page has
        ([BODY], f"before it {BODY} and behind it", [1]),
        # half of a block: 4 of 9 shingles
        (["one two three four five six seven a b c d e"], "one two three four five six seven", [4 / 9]),
        # short cells of a table, whose shingles run on
        (["Name", "Age", "Town", "Ann", "31", "Ulm", "Bob", "27", "Bonn"], "Name Age Town Ann 31 Ulm Bob 27 Bonn", [1] * 9),
        ([BODY, "Ann", "31", "Ulm", "Bob"], BODY, [1, 0, 0, 0, 0]),
        # a heading between paragraphs, a link between them that is none of it
        ([BODY, "The flood", f"later {BODY}"], f"{BODY} The flood later {BODY}", [1, 1, 1]),
        ([BODY, "Share this", f"later {BODY}"], f"{BODY} later {BODY}", [1, 0, 1]),
        # a teaser that comes again at the end is content once, beside the content
        ([TEASER, BODY, TEASER, *["other words"] * 9], f"{TEASER} {BODY}", [1, 1, 0, *[0] * 9]),
        ([BODY, BODY], f"{BODY} {BODY}", [1, 1]),
    ],
)  # fmt: skip
def test_shares_of_pages_that_can_be_counted(blocks: list[str], text: str, expected: list[float]) -> None:
    assert shares(blocks, text) == [round(share, 3) for share in expected]


WORDS = st.sampled_from([f"w{number}" for number in range(6)])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(WORDS, min_size=8, max_size=14), max_size=6), st.lists(WORDS, max_size=40))
def test_shares_of_long_blocks_are_those_of_their_shingles(blocks: list[list[str]], text: list[str]) -> None:
    """But for blocks that are all the same: of these no more are content than the gold has."""
    known = {tuple(text[at : at + 4]) for at in range(len(text) - 3)}
    found = label.shares(blocks, " ".join(text))
    for block, own in enumerate(blocks):
        shingles = [tuple(own[at : at + 4]) for at in range(len(own) - 3)]
        share = sum(shingle in known for shingle in shingles) / len(shingles)
        assert found[block] == np.float32(share) or (found[block] == 0 and blocks.count(own) > 1)
        if share > 0.5:
            assert any(found[other] > 0 for other, same in enumerate(blocks) if same == own)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(WORDS, max_size=9), max_size=12), st.lists(WORDS, max_size=40))
def test_shares_lie_between_0_and_1(blocks: list[list[str]], text: list[str]) -> None:
    found = label.shares(blocks, " ".join(text))
    assert ((found >= 0) & (found <= 1)).all()
    assert not label.shares(blocks, "").any()


def test_segments_outweigh_the_rest() -> None:
    texts = [BODY, "Share  this", "some other words"]
    page = gold.GoldPage("trafilatura", "x", "", b"", text=BODY, must=("other words",), must_not=("Share this", ""))
    found = label.labels(page, texts)
    assert found.content.tolist() == [1, 0, 1]
    assert (found.weight > 0).all()
    assert (found.weight <= 0.5).all()
    assert found.weight[1] >= np.float32(0.1)


# --- real pages


@pytest.fixture(scope="module")
def articles(data_dir: Path) -> list[train.Marked]:
    """The article benchmark; labels of 30 pages of it are what learning is tried on."""
    marked = []
    for page in gold.read(data_dir / "web", ["article_benchmark"]):
        prepared = html.prepare(page.html)
        texts = train.block_texts(prepared.tape, prepared.blocks)
        table = content.features(prepared.tape, prepared.blocks, prepared.title)
        labels = label.labels(page, texts)
        marked.append(train.Marked(page, prepared.tape, prepared.blocks, prepared.title, table, texts, labels))
    return marked


def f1(pages: list[train.Marked], keeps: list[np.ndarray]) -> float:
    scores = [
        metrics.shingle_scores(one.page.text or "", "\n".join(text for text, kept in zip(one.texts, keep, strict=True) if kept))
        for one, keep in zip(pages, keeps, strict=True)
    ]
    found = metrics.article_f1(scores)
    return 2 * found.precision * found.recall / (found.precision + found.recall)


@pytest.mark.realdata
def test_blocks_that_the_gold_holds_are_the_gold(articles: list[train.Marked]) -> None:
    assert len(articles) == 88
    assert f1(articles, [one.labels.content > 0.5 for one in articles]) >= 0.98


@pytest.mark.realdata
def test_learning_twice_gives_the_same_bytes(articles: list[train.Marked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightgbm")
    monkeypatch.setattr(train, "ROUNDS", 25)
    few, rest = articles[:30], articles[30:]
    for name in ("a", "b"):
        content.save(train.learn(few).model, tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    model = content.load(tmp_path / "a.npz")
    assert model.recipe["sets"] == {"article_benchmark": 30}
    assert model.recipe["rounds"] == 25
    learnt = f1(rest, [content.choose(one.tape, one.blocks, one.title, model).keep for one in rest])
    everything = f1(rest, [np.ones(len(one.texts), np.bool_) for one in rest])
    assert learnt > everything + 0.15
    assert learnt > 0.9
    asked = train.importance(model, 5)
    assert len(asked) == 5
    assert asked == sorted(asked, key=lambda one: -one[1])


@pytest.mark.realdata
def test_folds_part_no_site(articles: list[train.Marked], data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightgbm")
    fold_of: dict[str, int] = {}
    for page in gold.read(data_dir / "web"):
        assert fold_of.setdefault(page.group, gold.fold(page)) == gold.fold(page)
    assert len(set(fold_of.values())) == 10
    assert len({page.group for page in (one.page for one in articles)}) > 60
    monkeypatch.setattr(train, "ROUNDS", 10)
    few = articles[:20]
    learnt = train.learn(few, folds=2)
    assert len(learnt.folds) == 2
    for fold, model in enumerate(learnt.folds):
        seen = [one for one in few if gold.fold(one.page, 2) != fold]
        assert sum(model.recipe["sets"].values()) == len(seen)
        held = {one.page.group for one in few} - {one.page.group for one in seen}
        assert held == {one.page.group for one in few if gold.fold(one.page, 2) == fold}
    assert set(learnt.scores) == {"article_benchmark"}
    assert learnt.model.recipe["cross_validated"]["article_benchmark"] == learnt.scores["article_benchmark"]._asdict()


# --- the command


@pytest.fixture(scope="module")
def few(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sets with 12 pages of the article benchmark."""
    source, folder = (
        data_dir / "web" / gold.FOLDERS["article_benchmark"],
        tmp_path_factory.mktemp("web") / gold.FOLDERS["article_benchmark"],
    )
    (folder / "html").mkdir(parents=True)
    truth = dict(sorted(json.loads((source / "ground-truth.json").read_text()).items())[:12])
    (folder / "ground-truth.json").write_text(json.dumps(truth))
    for name in truth:
        shutil.copy(source / "html" / f"{name}.html.gz", folder / "html")
    return folder.parent


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["corpus", "learn-extractor", *map(str, arguments)])


@pytest.mark.realdata
def test_the_command_learns_scores_and_writes_the_same_bytes_twice(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightgbm")
    monkeypatch.setattr(train, "ROUNDS", 10)
    first = run("--data", few, "--out", tmp_path / "new/a.npz", "--folds", 2, "--folds-out", tmp_path / "folds", "--json")
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert told["sets"] == {"article_benchmark": 12}
    assert 0.5 < told["scores"]["article_benchmark"]["f1"] <= 1
    again = run("--data", few, "--out", tmp_path / "b.npz", "--folds", 2, "--quiet")
    assert again.exit_code == 0
    assert again.stdout.endswith(f"learnt from {told['blocks']:,} blocks of 12 pages\n")
    assert (tmp_path / "new/a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in (tmp_path / "folds").iterdir()) == ["fold-0.npz", "fold-1.npz"]
    assert content.load(tmp_path / "folds/fold-1.npz").recipe["pages"] == "without fold 1 of 2"
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.realdata
def test_too_few_pages_and_sets_that_are_not_whole(few: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    (tmp_path / "one").mkdir()
    folder = shutil.copytree(few / gold.FOLDERS["article_benchmark"], tmp_path / "one" / gold.FOLDERS["article_benchmark"])
    name, page = min(json.loads((folder / "ground-truth.json").read_text()).items())
    (folder / "ground-truth.json").write_text(json.dumps({name: page}))
    lonely = run("--data", tmp_path / "one", "--out", tmp_path / "m.npz", "--folds", 2)
    assert isinstance(lonely.exception, InputError)
    assert "1 pages are too few for 2 folds" in str(lonely.exception)
    for damage in ("{", "[]", json.dumps({"nowhere": page}), json.dumps({name: {}})):
        (folder / "ground-truth.json").write_text(damage)
        done = run("--data", tmp_path / "one", "--out", tmp_path / "m.npz")
        assert isinstance(done.exception, InputError), damage
        assert "is not whole" in str(done.exception)
        assert "\n" not in str(done.exception)
    assert not (tmp_path / "m.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere", "--out", "m.npz"], "nowhere: no such folder"),
        (["--data", ".", "--out", "m.npz"], "holds none of the gold sets"),
        (["--data", ".", "--out", "."], "is a folder. Give the file of the model"),
        (["--data", ".", "--out", "m.npz", "--folds", "1"], "leaves no page to learn from"),
        (["--data", ".", "--out", "m.npz", "--folds", "-1"], "is not in the range"),
        (["--data", ".", "--out", "m.npz", "--folds", "0", "--folds-out", "f"], "--folds-out needs --folds"),
    ],
)
def test_what_is_asked_wrongly(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightgbm")
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code != 0
    assert message in (str(done.exception) if isinstance(done.exception, InputError) else done.output)
    assert not list(tmp_path.iterdir())


def test_no_gold_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds none of the gold sets"):
        train.read(tmp_path)
