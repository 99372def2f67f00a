"""What a model is told of blocks against brute force, its trees against LightGBM's own, broken model files, and the rules of choice."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev._errors import InputError
from codedev.corpus.extract import content, html
from codedev.kernels import blockchoice, blockfeatures, htmlblocks, htmltape, trees
from codedev.kernels.blockfeatures import FEATURES
from codedev.kernels.htmlblocks import CHARS, COMMAS, LINK_CHARS, LINK_WORDS, SENTENCES, WORDS
from codedev.kernels.htmltape import INLINE, TAG, Tape

COLUMN = {name: number for number, name in enumerate(FEATURES)}


def features_of(page: html.Prepared) -> np.ndarray:
    return content.features(page.tape, page.blocks, page.title)


# --- features


def above(tape: Tape, node: int) -> int:
    node = int(tape.parent[node])
    while node > 0 and INLINE[tape.tag[node]]:
        node = int(tape.parent[node])
    return max(node, 0)


def brute(page: html.Prepared) -> dict[str, list[float]]:
    """Columns by their definition, at quadratic cost."""
    tape, blocks = page.tape, page.blocks
    n, counts = len(blocks.first), blocks.counts
    words = counts[:, WORDS].astype(float)
    share = counts[:, LINK_CHARS] / np.maximum(1, counts[:, CHARS])
    para = (words >= 12) & (share < 0.35) & (counts[:, SENTENCES] + counts[:, COMMAS] > 0)
    element = blocks.element

    def inside(node: int) -> np.ndarray:
        return (element >= node) & (element < tape.after[node]) if node else np.ones(n, np.bool_)

    total, mass = max(1, words.sum()), max(1, (words * para).sum())

    def core(least: float) -> int:
        here = 0
        while True:
            child = here + 1
            while child < tape.after[here] and (words * para)[inside(child)].sum() < least * mass:
                child = int(tape.after[child])
            if child >= tape.after[here]:
                return here
            here = child

    cores = {name: core(least) for name, least in (("in_core9", 0.9), ("in_core7", 0.7), ("in_core5", 0.5))}
    shape = blocks.shape[element]
    out: dict[str, list[float]] = {name: [] for name in COLUMN}
    for b in range(n):
        told: dict[str, float] = {
            "tag": tape.tag[element[b]], "words": words[b], "link_share": share[b], "paragraph": para[b], "depth": tape.depth[element[b]],
            "index": b, "from_end": n - b, "position": b / n, "words_before": words[:b].sum() / total, "page_blocks": n,
            "same_text": (blocks.hashes == blocks.hashes[b]).sum(), "same_shape": (shape == shape[b]).sum(),
            "shape_words": words[shape == shape[b]].mean(), "shape_share": words[shape == shape[b]].sum() / total,
            "page_words": total, "page_link_share": counts[:, LINK_WORDS].sum() / total, "page_paragraphs": para.sum(),
        }  # fmt: skip
        for name, node in cores.items():
            told[name] = node <= blocks.first[b] < tape.after[node]
        node, steps = int(element[b]), 0
        while node and not node <= cores["in_core5"] < tape.after[node]:
            node, steps = int(tape.parent[node]), steps + 1
        told["steps_to_core"] = steps if told["in_core5"] else tape.depth[node] - tape.depth[cores["in_core5"]] - 1
        up = int(element[b])
        for level in range(1, 5):
            up = above(tape, up)
            here = inside(up)
            told |= {f"words{level}": words[here].sum(), f"blocks{level}": here.sum(), f"share{level}": (words * para)[here].sum() / mass}
            told[f"link_share{level}"] = counts[here, LINK_WORDS].sum() / max(1, words[here].sum())
            told[f"tag{level}"] = tape.tag[up]
        for offset in (-3, -2, -1, 1, 2, 3):
            other = b + offset
            known = 0 <= other < n
            told[f"words{offset:+}"] = words[other] if known else -1
            told[f"link_share{offset:+}"] = share[other] if known else -1
            told[f"near{offset:+}"] = above(tape, int(element[other])) == above(tape, int(element[b])) if known else -1
            told[f"same_shape{offset:+}"] = shape[other] == shape[b] if known else -1
        for name, value in told.items():
            out[name].append(float(value))
    return {name: values for name, values in out.items() if values}


def check_features(source: str) -> None:
    page = html.prepare(source.encode())
    table = features_of(page)
    assert table.shape == (len(page.blocks.first), len(FEATURES))
    assert np.isfinite(table).all()
    for name, values in brute(page).items():
        np.testing.assert_allclose(table[:, COLUMN[name]], values, rtol=1e-5, atol=1e-6, err_msg=name)


PIECES = """
    <p> </p> <div> </div> <b> </b> <a\thref=x> </a> <ul> <li> </ul> <table> <tr> <td> </table> <article> </article> <h1> <br>
    <p\tclass=a> <p\tclass=b> <div\tclass=nav>
"""
PROSE = ["one two three, four five six seven eight nine ten eleven twelve thirteen. ", "Share this ", "a ", "12 "]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*(piece.replace("\t", " ") for piece in PIECES.split(" ")), *PROSE, *PROSE]), max_size=40).map("".join))
def test_features_are_what_they_say(source: str) -> None:
    check_features(source)


@pytest.mark.parametrize("source", ["", "<p>", "a", "<p>a<script>b</script>", "<title>t</title><h1>t</h1>"])
def test_features_of_next_to_nothing(source: str) -> None:
    check_features(source)


def test_a_heading_may_repeat_the_title() -> None:
    page = html.prepare(b"<title>The first thing | A site</title><h1>The First Thing</h1><p>The second thing</p>")
    assert features_of(page)[:, COLUMN["is_title"]].tolist() == [1, 0]


def raw(source: bytes) -> tuple[Tape, htmlblocks.Blocks]:
    tape = htmltape.tape(np.frombuffer(source, np.uint8))
    return tape, htmlblocks.blocks(tape)


PARAGRAPH = b"one two three, four five six seven eight nine ten eleven twelve thirteen."
HOSTILE = {
    "wide": b"<div>" + b"<p>x</p>" * 100_000 + b"</div>",
    "paragraphs": b"<div>" + (b"<p>" + PARAGRAPH + b"</p>") * 100_000 + b"</div>",
    "deep": b"<div>" * 2_000 + b"<p>x</p>" * 20_000 + b"</div>" * 2_000,
    "deep, core elsewhere": b"<p>" + PARAGRAPH + b"</p>" + b"<div>" * 2_000 + b"<p>x</p>" * 20_000 + b"</div>" * 2_000,
    "deep and inline": b"<b>" * 2_000 + b"<p>x</p>" * 100_000 + b"</b>" * 2_000,
    "inline under each": b"<div>" + (b"<b>" * 20 + b"<p>x</p>" + b"</b>" * 20) * 10_000 + b"</div>",
    "tables": b"<table>" * 500 + b"<tr><td>x</td></tr>" * 50_000 + b"</table>" * 500,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_is_linear(name: str) -> None:
    tape, blocks = raw(HOSTILE[name])
    blockfeatures.features(*raw(b"<p>x</p>"), np.zeros(1, np.uint64))
    begin = time.process_time()
    table = blockfeatures.features(tape, blocks, np.zeros(17, np.uint64))
    scores = np.full(len(table), 0.5, np.float32)
    blockchoice.choose(tape, blocks, scores, 0.55)
    seconds = time.process_time() - begin
    assert np.isfinite(table).all()
    assert seconds < 1e-5 * len(table) + 0.1, f"{seconds:.2f} s for {len(table)} blocks"


# --- trees


def learnt(seed: int, features: int = 12) -> tuple[Any, np.ndarray]:
    lightgbm = pytest.importorskip("lightgbm")
    random = np.random.default_rng(seed)
    table = random.choice([random.normal(size=3_000), random.integers(-3, 4, 3_000), np.zeros(3_000)], features).T.astype(np.float32)
    table += random.integers(0, 3, table.shape).astype(np.float32)
    wanted = 1 / (1 + np.exp(-table[:, 0] * table[:, 1] + table[:, 2]))
    parameters = {"objective": "cross_entropy", "max_depth": trees.DEPTH, "num_leaves": 16, "min_data_in_leaf": 5, "seed": seed}
    parameters |= {"verbosity": -1, "num_threads": 1, "deterministic": True}
    return lightgbm.train(parameters, lightgbm.Dataset(table, wanted), 30), table


@pytest.mark.parametrize("seed", range(2))
def test_trees_are_those_of_lightgbm(seed: int) -> None:
    booster, table = learnt(seed)
    flat = trees.flatten(booster.dump_model())
    trees.check(flat, table.shape[1])
    limits = np.unique(flat.threshold)
    random = np.random.default_rng(seed)
    around = np.concatenate([limits, np.nextafter(limits, np.float32(9)), np.nextafter(limits, np.float32(-9))])
    around = around[(np.abs(around) > 2e-35) | (around == 0)]  # to LightGBM what is smaller is zero
    rows = np.concatenate([table[:500], random.choice(around, (2_000, table.shape[1])).astype(np.float32)])
    expected = booster.predict(rows, num_threads=1)
    for size in (0, 1, 2, 3, 5, len(rows)):
        np.testing.assert_allclose(trees.probabilities(flat, rows[:size]), expected[:size], rtol=0, atol=1e-6)


def broken(model: trees.Trees) -> dict[str, trees.Trees]:
    feature, leaf = model.feature.copy(), model.leaf.copy()
    feature[0, 3] = len(FEATURES)
    leaf[0, 0] = np.nan
    return {
        "beyond": model._replace(feature=feature),
        "depth": model._replace(threshold=model.threshold[:, :7].copy()),
        "fewer": model._replace(leaf=model.leaf[:-1]),
        "types": model._replace(feature=model.feature.astype(np.int64)),
        "doubles": model._replace(leaf=model.leaf.astype(np.float64)),
        "order": model._replace(leaf=np.asfortranarray(model.leaf)),
        "number": model._replace(feature=np.array(3, np.uint16)),
        "not a number": model._replace(leaf=leaf),
    }


def test_broken_trees_are_refused(tmp_path: Path) -> None:
    shipped = content.shipped_model()
    trees.check(shipped.trees, len(FEATURES))
    for name, model in broken(shipped.trees).items():
        with pytest.raises(ValueError, match=r"its trees|a tree asks"):
            trees.check(model, len(FEATURES))
        content.save(content.Model(model, {}), tmp_path / "m.npz")
        refused(tmp_path / "m.npz", name)


# --- files


def refused(path: Path, name: object) -> None:
    with pytest.raises(InputError) as error:
        content.load(path)
    assert "\n" not in str(error.value), name
    assert str(path) in str(error.value), name


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)


def test_other_files_are_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped, path = content.shipped_model(), tmp_path / "m.npz"
    for name, data in {"empty": b"", "text": b"hello", "zip": b"PK\3\4" + bytes(40), "npy": b"\x93NUMPY\1\0"}.items():
        path.write_bytes(data)
        refused(path, name)
    refused(tmp_path / "absent.npz", "absent")
    refused(tmp_path, "a folder")
    np.savez(path, allow_pickle=True, recipe=np.array([Bomb()], object), **shipped.trees._asdict())
    refused(path, "pickle")
    np.save(tmp_path / "m.npy", np.array([Bomb()], object), allow_pickle=True)
    refused(tmp_path / "m.npy", "a pickled array")
    assert not (tmp_path / "executed").exists()
    for recipe in (b"{", b"[]", b"3", b"{}", b'{"features": 3}', orjson.dumps({"format": "x", "features": FEATURES}), b"\xff"):
        np.savez(path, recipe=np.frombuffer(recipe, np.uint8), **shipped.trees._asdict())
        refused(path, recipe)
    np.savez(path, **shipped.trees._asdict())
    refused(path, "no recipe")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("recipe.npy", bytes(100 << 20))
    refused(path, "bomb")
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50, 16)})
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("recipe.npy", huge.getvalue())
    refused(path, "an array that is not there")


def test_damaged_files_never_end_in_another_way(tmp_path: Path) -> None:
    path, random = tmp_path / "m.npz", np.random.default_rng(1)
    content.save(content.shipped_model(), path)
    whole = path.read_bytes()
    for number in range(300):
        data = bytearray(whole)
        if number % 2:
            del data[random.integers(len(data)) :]
        else:
            for at in random.integers(len(data), size=3):
                data[at] = random.integers(256)
        path.write_bytes(data)
        try:
            content.load(path)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_the_shipped_model_says_what_it_was_learnt_from(tmp_path: Path) -> None:
    model = content.shipped_model()
    assert {"pages", "sets", "pages_hash", "library", "parameters", "rounds", "threshold"} <= set(model.recipe)
    assert sum(model.recipe["sets"].values()) > 500
    content.save(model, tmp_path / "a.npz")
    again = content.load(tmp_path / "a.npz")
    assert again.recipe == model.recipe
    assert all((one == other).all() for one, other in zip(model.trees, again.trees, strict=True))


# --- the choice


def chosen(source: str, scores: dict[str, float], otherwise: float = 0.0) -> dict[str, tuple[bool, str]]:
    """By the text of each block. `scores`: of blocks whose text has this word."""
    page = html.prepare(source.encode())
    data = page.tape.data.tobytes()
    texts = [data[page.tape.start[node] : page.tape.end[node]].decode() for node in page.blocks.first]
    given = [next((score for word, score in scores.items() if word in text), otherwise) for text in texts]
    keep, reason = blockchoice.choose(page.tape, page.blocks, np.array(given, np.float32), 0.55)
    return {text: (bool(kept), content.REASONS[why]) for text, kept, why in zip(texts, keep, reason, strict=True)}


LONG = "content " * 30


def test_a_table_is_kept_or_dropped_whole() -> None:
    table = "<table><tr><td>a1<td>a2<tr><td>b1<td>b2<tr><td>c1<td>c2</table>"
    found = chosen(f"<div><p>{LONG}</p>{table}outside</div>", {"content": 0.9, "a": 0.9, "b": 0.9, "c": 0.2, "outside": 0.1})
    assert found["c1"] == (True, "table")
    assert found["a1"] == (True, "score")
    assert found["outside"] == (False, "score")  # behind the table, though in the element that the table is in
    found = chosen(f"<div><p>{LONG}</p>{table}outside</div>", {"content": 0.9, "a": 0.58, "b": 0.0, "c": 0.0, "outside": 0.9})
    assert found["a1"] == (False, "table")
    assert found["outside"] == (True, "score")
    found = chosen(f"<div><p>{LONG}</p>{table}</div>", {"content": 0.9, "a": 0.5, "b": 0.3, "c": 0.1})
    assert found["c1"] == (True, "table")  # beside what is kept
    layout = f"<table><tr><td>{table}<td>l1<td>l2<td>l3<td>l4</table>"
    found = chosen(layout + f"<p>{LONG}", {"content": 0.9, "a": 0.9, "b": 0.9, "c": 0.9, "l1": 0.9})
    assert found["l1"] == (True, "score")
    assert found["l2"] == (False, "score")


def test_code_goes_with_its_neighbours_and_formulas_stay() -> None:
    scores = {"content": 0.9, "likely": 0.3, "hardly": 0.04}
    found = chosen(f"<p>{LONG}<pre>likely x = 1</pre><pre>hardly y</pre><p>likely text", scores)
    assert found["likely x = 1"] == (True, "code")
    assert found["hardly y"] == (False, "score")
    assert found["likely text"] == (False, "score")
    far = "".join(f"<p>far {number}" for number in range(12))
    assert not chosen(f"<p>{LONG}{far}<pre>likely x</pre>", scores)["likely x"][0]
    formulas = "<p>likely so <math><mi>x</mi></math><p>hardly <math><mi>y</mi></math><p><a href=z>likely <math><mi>z</mi></math></a>"
    found = chosen(f"<p>{LONG}{far}{formulas}", scores)
    assert found["likely so "] == (True, "formula")
    assert found["hardly "] == (False, "score")
    assert found["likely "] == (False, "score")  # a link


def test_a_heading_goes_with_what_it_heads() -> None:
    scores = {"content": 0.9, "Likely": 0.4, "Hardly": 0.3, "other": 0.1}
    found = chosen(f"<h2>Likely A</h2><p>{LONG}<h2>Hardly B</h2><p>{LONG}</p><h2>Likely C</h2><p>other", scores)
    assert found["Likely A"] == (True, "heading")
    assert not found["Hardly B"][0]
    assert not found["Likely C"][0]


def test_a_page_of_few_words_keeps_what_comes_nearest() -> None:
    found = chosen("<p>a little text<p>less text<p><a href=x>a link</a>", {"little": 0.4, "less": 0.1, "link": 0.4})
    assert found == {"a little text": (True, "nothing better"), "less text": (False, "score"), "a link": (False, "score")}
    assert chosen("", {}) == {}
    assert chosen("<p>a", {"a": 0.0}) == {"a": (False, "score")}


def test_the_shipped_model_tells_content_from_the_rest() -> None:
    prose = "".join(
        f"<p>The river rose again in week {n}, and people of the valley, who know it well, moved their animals." for n in range(9)
    )
    links = "".join(f"<li><a href=/{n}>Section {n}</a>" for n in range(12))
    source = f"<nav><ul class=menu>{links}</ul></nav><article><h1>Floods</h1>{prose}</article><footer>Copyright X</footer>"
    page = html.prepare(source.encode())
    keep = content.choose(page.tape, page.blocks, page.title).keep
    tags = [htmltape.NAMES[page.tape.tag[node] - 2] for node in page.blocks.element]
    assert all(kept for kept, tag in zip(keep, tags, strict=True) if tag == "p")
    assert not any(kept for kept, tag in zip(keep, tags, strict=True) if tag in ("li", "footer"))
    assert TAG["p"] in page.tape.tag
