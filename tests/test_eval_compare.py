"""`codedev eval compare`: figures against the records by pandas, the page in a browser, hostile questions."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from codedev._errors import InputError
from codedev._run import write_json
from codedev.cli import cli
from codedev.eval import intervals
from codedev.eval.compare import compare, page
from codedev.eval.run import FORMAT

HOSTILE = (
    "</pre></script><script>document.title='ran'</script><img src=http://x/y onerror=alert(2)> \u202egnp.exe\u202c \x1b[31m \"' & --> "
)


def written(folder: Path, seed: int, *, skip: int = 0, hostile: str = "") -> Path:
    """An evaluation of two tasks as codedev eval leaves it, the scores drawn."""
    random = np.random.default_rng(seed)
    ids = [f"q/{at}{hostile}" for at in range(skip, 80)]
    right = np.random.default_rng(0).random(80)[skip:] + random.normal(0, 0.4, 80 - skip) > 0.6
    size = np.random.default_rng(1).integers(100, 3000, len(ids))
    bits = size * (1 + random.random(len(ids)) * 0.2)
    choice = {
        "id": ids,
        "group": [("algebra", "biology")[at % 2] + hostile for at in range(len(ids))],
        "asked": [f"Question {one}?{hostile}\nAnswer:" for one in ids],
        "gold": ["B"] * len(ids),
        "said": ["B" if one else "A" + hostile for one in right],
        "score": right.astype(float),
    }
    texts = {
        "id": ids,
        "group": ["s"] * len(ids),
        "asked": ids,
        "gold": [""] * len(ids),
        "said": [""] * len(ids),
        "score": bits / size,
        "bits": bits,
        "bytes": size,
    }
    tasks = {}
    for name, kind, columns in (("facts", "choice", choice), ("held-out", "text", texts)):
        (folder / "tasks" / name).mkdir(parents=True)
        pq.write_table(pa.table(columns), folder / "tasks" / name / "records.parquet")
        own = {"acc": intervals.share(right.astype(float))} if kind == "choice" else {"bits_per_byte": intervals.ratio(bits, size)}
        scores = {"": {metric: one._asdict() for metric, one in own.items()}}
        if kind == "choice":
            for group in sorted(set(choice["group"])):
                some = np.array([one == group for one in choice["group"]])
                scores[group] = {"acc": intervals.share(right[some].astype(float))._asdict()}
        tasks[name] = {"task": name, "kind": kind, "key": "k", "questions": len(ids), "left_out": [], "scores": scores}
    write_json(
        folder / "results.json", {"format": FORMAT, "codedev": "0", "model": {"name": f"m{seed}{hostile}", "identity": "h"}, "tasks": tasks}
    )
    return folder


def frame(folder: Path, task: str) -> pd.DataFrame:
    return pd.read_parquet(folder / "tasks" / task / "records.parquet").set_index("id")


def test_figures_are_those_of_the_records(tmp_path: Path) -> None:
    paths = [written(tmp_path / "a", 1), written(tmp_path / "b", 2, skip=5), written(tmp_path / "c", 3)]
    found = compare(paths, shown=30)
    facts, texts = found.figures["tasks"]
    a, b, c = (frame(path, "facts") for path in paths)
    both = [one for one in a.index if one in b.index and one in c.index]
    assert facts["common"] == len(both) == 75
    assert facts["questions"] == [80, 75, 80]
    scores = pd.DataFrame({"a": a["score"], "b": b["score"], "c": c["score"]}).loc[both]
    assert facts["differ"] == (scores.max(axis=1) != scores.min(axis=1)).sum()
    for told, name in zip(facts["against_first"][1:], "bc", strict=True):
        assert told["value"] == pytest.approx(scores[name].mean() - scores["a"].mean())
        assert told["better"] == (scores[name] > scores["a"]).sum()
        assert told["worse"] == (scores[name] < scores["a"]).sum()
        assert told["low"] < told["value"] < told["high"]
    for one in found.differing["facts"]:
        assert [said.score for said in one.said] == scores.loc[one.id].tolist()
        assert [said.said for said in one.said] == [table.loc[one.id, "said"] for table in (a, b, c)]
    ta, tb = (frame(path, "held-out").loc[both] for path in paths[:2])
    told = texts["against_first"][1]
    assert told["value"] == pytest.approx(tb["bits"].sum() / tb["bytes"].sum() - ta["bits"].sum() / ta["bytes"].sum())
    assert told["better"] == (tb["score"] < ta["score"]).sum()  # fewer bits are better
    spread = [max(said.score for said in one.said) - min(said.score for said in one.said) for one in found.differing["held-out"]]
    assert len(spread) == 30
    assert spread == sorted(spread, reverse=True)
    assert compare(paths, shown=30) == found


def test_a_paired_interval_is_narrower_than_two_beside_one_another(tmp_path: Path) -> None:
    """Document by document the models agree but for a tenth: the documents' own spread must not count."""
    paths = [written(tmp_path / "a", 1), tmp_path / "b"]
    shutil.copytree(paths[0], paths[1])
    file = paths[1] / "tasks/held-out/records.parquet"
    table = pd.read_parquet(file)
    table["bits"] *= 1.01 + np.arange(len(table)) % 2 * 0.001
    table["score"] = table["bits"] / table["bytes"]
    table.to_parquet(file)
    told = compare(paths).figures["tasks"][1]["against_first"][1]
    alone = intervals.ratio(table["bits"].to_numpy(), table["bytes"].to_numpy())
    assert 0 < told["low"] < told["high"]
    assert told["high"] - told["low"] < 0.1 * (alone.high - alone.low)


@pytest.mark.parametrize("case", ["one", "twice", "none", "no task", "no question", "broken"])
def test_what_cannot_be_compared_is_said(tmp_path: Path, case: str) -> None:
    a, b = written(tmp_path / "a", 1), written(tmp_path / "b", 2)
    paths, says = [a, b], "evaluation"
    if case == "one":
        paths, says = [a], "two or more"
    elif case == "twice":
        paths, says = [a, tmp_path / "b" / ".." / "a"], "each once"
    elif case == "none":
        (b / "results.json").unlink()
    elif case == "no task":
        told = json.loads((b / "results.json").read_text())
        write_json(b / "results.json", told | {"tasks": {"other": told["tasks"]["facts"]}})
        says = "no task is in all"
    elif case == "no question":
        shutil.rmtree(b)
        written(b, 2, hostile="x")
        says = "no question was asked of all"
    else:
        (b / "tasks/facts/records.parquet").write_bytes(b"PAR1")
        says = "cannot be read"
    with pytest.raises(InputError, match=says):
        compare(paths)


def test_the_page_runs_nothing_of_strangers(tmp_path: Path) -> None:
    found = compare([written(tmp_path / "a", 1, hostile=HOSTILE), written(tmp_path / "b<i>", 2, hostile=HOSTILE)])
    text = page.render(found)
    assert text == page.render(found)
    assert (text.count("<script"), text.count("<img"), text.count("<i>")) == (1, 0, 0)
    assert not re.search("[\u202e\u202c\x1b]", text)
    policy = re.search('Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    for tag in ("style", "script"):
        inline = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inline
        assert base64.b64encode(hashlib.sha256(inline[1].encode()).digest()).decode() in policy[1]


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """Light and dark, wide and on a telephone: nothing runs, nothing overflows, nobody is shut out."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("chromium is not installed: the page is not rendered")
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    file = tmp_path / "page.html"
    file.write_text(page.render(compare([written(tmp_path / "a", 1, hostile=HOSTILE), written(tmp_path / "b", 2, hostile=HOSTILE)])))
    said: list[str] = []
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width, scheme in ((1280, "light"), (390, "dark")):
            context = opened.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
            tab = context.new_page()
            tab.on("console", lambda message: said.append(message.text))
            tab.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
            tab.goto(file.as_uri())
            assert tab.title() == "Models compared"
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert tab.locator("article.excerpt").count() > 60
            serious = [one for one in Axe().run(tab).response["violations"] if one["impact"] in ("serious", "critical")]
            assert not serious, [(one["id"], one["nodes"][0]["html"]) for one in serious]
        opened.close()
    assert not said


def test_the_command(tmp_path: Path) -> None:
    paths = [str(written(tmp_path / "runs/a", 1)), str(written(tmp_path / "runs/b", 2))]
    run, out = CliRunner(), tmp_path / "new/page.html"
    shown = run.invoke(cli, ["eval", "compare", *paths, "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "bits_per_byte" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert out.read_text().startswith("<!doctype html>")
    told = json.loads(run.invoke(cli, ["eval", "compare", *paths, "--json"]).stdout)
    assert [one["label"] for one in told["runs"]] == ["a", "b"]
    assert run.invoke(cli, ["eval", "compare", *paths, "--out", str(tmp_path)]).exit_code == 2
    assert run.invoke(cli, ["eval", "compare"]).exit_code == 2
