"""How often one model's answers are better than another's, by scores and by people."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from codedev._errors import InputError
from codedev.cli import cli
from codedev.eval import wins
from codedev.feedback.store import Store
from codedev.feedback.tasks import read_tasks


def write(path: Path, model: str, answers: dict[str, list[str]]) -> Path:
    rows: list[dict[str, Any]] = [
        {"prompt": prompt, "answers": [{"text": text} for text in own], "model": model} for prompt, own in answers.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_wins_are_those_of_every_pair(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    texts = [["".join(random.choice(list("abc"), int(random.integers(1, 6)))) for _ in range(3)] for _ in range(80)]
    new = {f"p{n}": own for n, own in enumerate(texts[:40])}
    old = {f"p{n}": own[:2] for n, own in enumerate(texts[40:], 5)}  # other prompts too
    one, other, prompts = wins.answers_of(write(tmp_path / "new.jsonl", "new", new), write(tmp_path / "old.jsonl", "old", old))
    assert (one, other, len(prompts)) == ("new", "old", 35)
    found = wins.by_score(one, other, prompts, lambda asked: [float(len(text)) for _, text in asked], margin=1.0)
    expected = []
    for prompt in new.keys() & old.keys():
        pairs = itertools.product(dict.fromkeys(new[prompt]), dict.fromkeys(old[prompt]))
        own = [0.5 if abs(len(a) - len(b)) <= 1 else float(len(a) > len(b)) for a, b in pairs]
        expected.append(own)
    flat = [value for own in expected for value in own]
    assert (found.wins, found.ties, found.losses) == (flat.count(1.0), flat.count(0.5), flat.count(0.0))
    assert found.rate.value == pytest.approx(np.mean([np.mean(own) for own in expected]))
    assert found.rate.low < found.rate.value < found.rate.high
    turned = wins.by_score(
        other, one, [p._replace(one=p.other, other=p.one) for p in prompts], lambda asked: [float(len(t)) for _, t in asked], 1.0
    )
    assert (turned.wins, turned.losses) == (found.losses, found.wins)
    assert turned.rate.value == pytest.approx(1 - found.rate.value)
    # The same text is a tie even where a judge that is not exact scores it twice.
    ticking = itertools.count()
    same = [wins.Prompt(p.said, p.one[:1], p.one[:1]) for p in prompts]
    assert wins.by_score("a", "b", same, lambda asked: [float(next(ticking)) for _ in asked]).ties == 35


def test_people_judge_pairs_without_knowing_which_is_which(tmp_path: Path) -> None:
    files = [
        write(tmp_path / f"{name}.jsonl", name, {f"p{n}": [f"{name} {n}" if n else "same"] for n in range(40)}) for name in ("new", "old")
    ]
    run, pairs, said = CliRunner(), tmp_path / "pairs.jsonl", tmp_path / "said.sqlite"
    done = run.invoke(cli, ["eval", "wins", *map(str, files), "--pairs", str(pairs)])
    assert done.exit_code == 0, done.output
    assert "39 pairs to compare (1 more have" in done.output
    tasks = list(read_tasks([pairs]))
    first = [task.answers[0].model for task in tasks]
    assert 10 < first.count("new") < 29  # either may stand first
    empty = run.invoke(cli, ["eval", "wins", "--judged", str(said)], standalone_mode=True)
    assert isinstance(empty.exception, InputError)
    store = Store(str(said))
    store.add(tasks)
    for number, task in enumerate(tasks):
        if number % 4 == 3:
            verdict = "tie" if number % 8 == 3 else "bad"
        else:
            verdict = "a" if task.answers[0].model == "new" else "b"
        store.judge(f"key-{number:04}", task, "ann", verdict, "", 1.0)
    store.judge("key-skip", tasks[0], "bob", "skip", "", 1.0)
    store.judge("key-other", tasks[1], "bob", "b" if tasks[1].answers[0].model == "new" else "a", "", 1.0)
    done = run.invoke(cli, ["eval", "wins", "--judged", str(said), "--json"])
    assert done.exit_code == 0, done.output
    [told] = json.loads(done.stdout)
    assert (told["one"], told["other"], told["wins"], told["ties"], told["losses"]) == ("new", "old", 30, 9, 1)
    assert told["rate"]["n"] == 39
    assert told["rate"]["value"] == pytest.approx((29 + 0.5 + 9 * 0.5) / 39)
    assert "new" in run.invoke(cli, ["eval", "wins", "--judged", str(said)]).output


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.jsonl", "a", {"x": ["1"]}), write(tmp_path / "b.jsonl", "b", {"y": ["1"]})
    with pytest.raises(InputError, match="no prompt is answered in both"):
        wins.answers_of(one, two)
    (tmp_path / "c.jsonl").write_text("\n")
    with pytest.raises(InputError, match="holds no answers"):
        wins.answers_of(one, tmp_path / "c.jsonl")
    run = CliRunner()
    for words in ([str(one), str(two)], [str(one), "--judge", "x"], [str(one), str(two), "--judge", "x", "--pairs", "y"], ["--judged"]):
        assert run.invoke(cli, ["eval", "wins", *words]).exit_code == 2
