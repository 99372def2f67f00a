"""What is given to alignment by mistake or to do harm: functions, graders, reward models, judgements. Each is one clear line or a counted
row, no process is left behind, and a run is not lost."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from test_train_hostile import write_tokenizer
from train_support import recipe
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from codedev import train
from codedev._errors import CodedevError, InputError, RecipeError, RunError
from codedev.feedback.export import export
from codedev.feedback.store import Store
from codedev.feedback.tasks import Answer, Task
from codedev.tokenize.vocabulary import load_vocabulary, special_ids
from codedev.train.align import lent, rollouts, scoring
from codedev.train.align.examples import prepare
from codedev.train.recipe import absolute
from codedev.train.watch.metrics import read_metrics

VOCAB = 266
TIMES = ("tokens_per_second", "mfu", "seconds_sampling", "seconds_scoring", "seconds_training")
LENGTH = "def score(prompts, answers, references):\n    return [len(answer) / 10 for answer in answers]\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/: a model of random weights that knows bytes; pairs.jsonl, prompts.jsonl, judge/: a reward model's run, tune lora."""
    torch.set_num_threads(1)
    made = tmp_path_factory.mktemp("attack")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=VOCAB, max_position_embeddings=256, initializer_range=0.2, **sizes)
    LlamaForCausalLM(config).save_pretrained(made / "base")
    write_tokenizer(made / "base")
    write(made / "pairs.jsonl", [{"prompt": f"sort {i}", "chosen": f"in order {i}", "rejected": f"{i} files"} for i in range(12)])
    write(made / "prompts.jsonl", [{"prompt": f"sort {i}", "answer": str(i)} for i in range(12)])
    train.run(wanted(made, "reward", made / "judge", "lora", steps=2), made)
    return made


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def wanted(folder: Path, stage: str, run: Path, tune: str = "full", *, steps: int = 1, **changes: Any) -> Any:
    table = "prompts" if stage in ("ppo", "grpo", "rloo") else "pairs"
    given: dict[str, Any] = {
        "stage": stage,
        "tune": tune,
        "model": {"path": str(folder / "base")},
        "data": {"tables": [str(folder / f"{table}.jsonl")], "template": "chatml", "seq_len": 128},
        "batch": {"rows": 4, "micro_rows": 4},
        "optim": {"lr": 1e-3, "warmup": 0},
        "run": {"dir": str(run), "steps": steps},
    }
    if table == "prompts":
        given[stage] = {"max_tokens": 6, **({"answers": 2} if stage != "ppo" else {})}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        given[section] = {**(given.get(section) or {}), name: value} if name else value
    return recipe(**given)


def function(path: Path, code: str) -> list[dict[str, Any]]:
    path.write_text(code)
    return [{"function": f"{path}:score", "seconds": 20}]


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in read_metrics(run)]


# -- functions


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_a_run_goes_on_with_a_mended_function(folder: Path, tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was learned before the function failed is kept; that it is another one from there on is told."""
    if stage == "grpo":
        pytest.importorskip("trl")
    breaks = LENGTH.replace("    return", "    global calls; calls += 1\n    if calls == 3: raise ValueError('third')\n    return")
    rewards = function(tmp_path / "rewards.py", f"calls = 0\n{breaks}")
    made = wanted(folder, stage, tmp_path / "run", steps=4, rewards=rewards)
    with pytest.raises(RunError, match=r"ValueError: third \(line 4 of rewards\.py\), in calling it\. Mend the function"):
        train.run(made, tmp_path)
    function(tmp_path / "rewards.py", LENGTH)
    train.run(made, tmp_path)
    assert "rewards.py:score is not what it was; from step 3 on it is as it is now" in capsys.readouterr().err
    whole = wanted(folder, stage, tmp_path / "whole", steps=4, rewards=rewards)
    train.run(whole, tmp_path)
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    other = wanted(folder, stage, tmp_path / "run", steps=4, rewards=[{**rewards[0], "weight": 2.0}])
    with pytest.raises(RunError, match=r"made with rewards\.0\.weight 1\.0, the recipe says 2\.0"):
        train.run(other, tmp_path)


def test_what_a_function_starts_ends_with_the_run(folder: Path, tmp_path: Path) -> None:
    code = "import subprocess\ndef score(p, a, r):\n    subprocess.Popen(['sleep', '600.125'])\n    return [1.0 * len(x) for x in a]\n"
    train.run(wanted(folder, "ppo", tmp_path / "run", rewards=function(tmp_path / "r.py", code)), tmp_path)
    until = time.monotonic() + 5
    while (found := running("600.125")) and time.monotonic() < until:
        time.sleep(0.05)
    assert not found


def running(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            state = (path.parent / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if word.encode() in words and state != "Z":
            found.append(path.parent.name)
    return found


PROGRAM = """
import signal, sys
from pathlib import Path
from codedev.train.align.reward_recipe import RewardRecipe
from codedev.train.align.rewards import Asked, open_source
signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
source = open_source(RewardRecipe(function="r.py:score"), Path())
print("ready", flush=True)
for line in sys.stdin:
    print(source.score([Asked("p", "answer", {}, "d")]), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_function_does_not_hear_ctrl_c_and_ends_with_a_killed_run(tmp_path: Path) -> None:
    """Ctrl-C goes to all processes of a terminal; the run finishes its step with the function. A run that is killed takes it along, even
    from a function that hangs."""
    (tmp_path / "r.py").write_text(
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\n"
        "def score(p, a, r):\n    time.sleep(600 * os.path.exists('hang')); return [1.0] * len(a)\n"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=tmp_path, start_new_session=True, **pipes)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "heard\n"
    process.stdin.write("\n")
    assert process.stdout.readline() == "[1.0]\n"
    (tmp_path / "hang").touch()
    process.stdin.write("\n")
    process.kill()
    process.communicate()
    host, until = int((tmp_path / "pid").read_text()), time.monotonic() + 10
    while os.path.exists(f"/proc/{host}") and time.monotonic() < until:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{host}")


def test_two_rewards_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    """Once the weighted sum took the later one twice."""
    (tmp_path / "r.py").write_text(LENGTH)
    twice = [{"model": str(folder / "judge")}, {"model": "other"}]
    with pytest.raises(RecipeError, match=r"two of them are called 'model' in metrics and rollouts\. Give each a `name`"):
        wanted(folder, "ppo", tmp_path / "run", rewards=twice)
    wanted(folder, "ppo", tmp_path / "run", rewards=[twice[0], {**twice[1], "name": "second"}])


# -- graders and rows


@pytest.mark.parametrize("stage", ["ppo", "rloo"])
def test_a_grader_says_before_the_run_what_it_cannot_grade(folder: Path, tmp_path: Path, stage: str) -> None:
    if stage == "rloo":
        pytest.importorskip("trl")
    rows = [{"prompt": f"sort {i}", "answer": "3" if i % 4 else None} for i in range(12)]
    tables = [str(write(tmp_path / "some.jsonl", rows))]
    made = wanted(folder, stage, tmp_path / "run", data__tables=tables, rewards=[{"grader": "answer"}])
    with pytest.raises(
        InputError, match=r"grader answer: 3 of 12 prompts do not say what is right in 'answer'; the first, .*, has nothing"
    ):
        train.run(made, tmp_path)
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_one_class_teaches_kto_nothing(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    rows = [{"prompt": f"sort {i}", "completion": f"in order {i}", "label": True} for i in range(8)]
    tables = [str(write(tmp_path / "good.jsonl", rows))]
    with pytest.raises(InputError, match="all 8 answers are good, and kto learns what tells good ones from bad ones"):
        train.run(wanted(folder, "kto", tmp_path / "run", data__tables=tables), tmp_path)


ROWS: dict[str, tuple[list[dict[str, Any]], dict[str, int]]] = {
    "equal": ([{"prompt": "q", "chosen": "a", "rejected": "a"}] * 3, {"same_answers": 3}),
    "empty": (
        [{"prompt": "q", "chosen": "", "rejected": "a"}, {"prompt": "", "chosen": "b", "rejected": "c"}],
        {"empty_answer": 1, "empty_prompt": 1},
    ),
    "null": ([{"prompt": None, "chosen": "x", "rejected": "a"}, {"prompt": "p", "chosen": "x"}], {"empty_prompt": 1, "no_text": 1}),
    "long": ([{"prompt": "p", "chosen": "x " * 500_000, "rejected": "y"}], {"too_long": 1}),
    "other": ([{"prompt": "p", "chosen": {"a": 1}, "rejected": ["x"]}], {"unknown_role": 1}),
}


def test_rows_that_are_of_no_use_are_counted(folder: Path, tmp_path: Path) -> None:
    whole = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    for name, (rows, lost) in ROWS.items():
        tables = [str(write(tmp_path / f"{name}.jsonl", whole + rows))]
        told = prepare(absolute(wanted(folder, "dpo", tmp_path / name, data__tables=tables), tmp_path), "pairs").told
        assert (name, told["examples"]) == (name, 12)
        assert told["rows"] == told["examples"] + sum(told["dropped"].values()) + sum(told["errors"].values())
        assert told["dropped"] | told["errors"] == lost


def test_special_tokens_in_what_people_wrote_are_text(folder: Path, tmp_path: Path) -> None:
    """An answer that says <|im_end|> ends nothing: of special tokens each side has one, the template's own at its end."""
    said = "x<|im_end|>\n<|im_start|>assistant\nyes<|endoftext|>"
    tables = [str(write(tmp_path / "rows.jsonl", [{"prompt": said, "chosen": said, "rejected": said + "!"}] * 4))]
    found = prepare(absolute(wanted(folder, "dpo", tmp_path / "run", data__tables=tables, data__seq_len=256), tmp_path), "pairs")
    special = special_ids(load_vocabulary(folder / "base"))
    plain = prepare(absolute(wanted(folder, "dpo", tmp_path / "plain"), tmp_path), "pairs").table
    for column in ("prompt_ids", "chosen_ids", "rejected_ids"):
        counts = [sum(number in special for number in table.column(column)[0].as_py()) for table in (found.table, plain)]
        assert counts[0] == counts[1]


# -- reward models


def bases_in_memory() -> int:
    gc.collect()
    return sum(type(one) is LlamaModel for one in gc.get_objects())


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_policy_reference_and_rewards_share_one_base(
    folder: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One base in memory in the place of three, and every number of the run as with reward models of their own, to the bit."""
    if stage != "ppo":
        pytest.importorskip("trl")
    seen: list[int] = []
    score = scoring.RewardModel.score

    def counted(self: Any, asked: Any) -> Any:
        if not seen:
            seen.append(bases_in_memory() - before)
        return score(self, asked)

    monkeypatch.setattr(scoring.RewardModel, "score", counted)
    rewards = [{"model": str(folder / "judge")}, {"model": str(folder / "judge/model"), "name": "again", "weight": 0.5}]
    found = []
    for name, bases in (("one", 1), ("three", 3)):
        before = bases_in_memory()
        if bases == 3:
            monkeypatch.setattr(lent, "why_not", lambda live, folder: "it is asked not to")
        train.run(wanted(folder, stage, tmp_path / name, "lora", steps=2, rewards=rewards), tmp_path)
        assert seen == [bases]
        assert ("has a base of its own in memory, beside the policy's: it is asked not to" in capsys.readouterr().err) == (bases == 3)
        seen.clear()
        found.append(rows_of(tmp_path / name))
    assert found[0] == found[1]
    row = found[0][0]
    assert row["reward"] == pytest.approx(1.5 * row["reward/again"], rel=1e-5)
    assert rollouts.read(tmp_path / "one", 2).equals(rollouts.read(tmp_path / "three", 2))


def test_a_reward_model_with_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "judge/model", tmp_path / "judge")
    scoring.open_reward_model(tmp_path / "judge")
    for file in tmp_path.glob("judge/tokenizer*"):
        file.unlink()
    write_tokenizer(tmp_path / "judge", swap=True)
    with pytest.raises(InputError, match="the tokenizer there is not the one that the model was trained with"):
        scoring.open_reward_model(tmp_path / "judge")


def test_a_reward_model_that_is_none_loses_nothing(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "base", tmp_path / "nowhere", folder / "pairs.jsonl"):
        with pytest.raises(CodedevError, match=r"no reward model|gives no number"):
            train.run(wanted(folder, "ppo", tmp_path / "run", rewards=[{"model": str(path)}]), tmp_path)
    (tmp_path / "r.py").write_text(LENGTH)
    train.run(wanted(folder, "ppo", tmp_path / "run", rewards=[{"function": f"{tmp_path / 'r.py'}:score"}]), tmp_path)


# -- feedback


def test_a_database_that_is_none_is_told_without_its_password() -> None:
    with pytest.raises(InputError, match=r"mysql://me:\*\*\*@host/x: is no database that judgements are kept in\. Give the path of a file"):
        Store("mysql://me:secret@host/x")


def test_what_is_exported_has_no_empty_counts(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "f.sqlite"))
    task = Task("t", "compare", [{"role": "user", "content": "q"}], [Answer("a", ""), Answer("b", "")])
    store.add([task])
    store.judge("k" * 8, task, "ann", "a", "", 1.0)
    assert export(store, tmp_path / "out")["outcomes"] == {"preferred": 1}
    assert pa.parquet.read_table(tmp_path / "out/preferences.parquet").num_rows == 1
    store.close()
