"""Two processes do what one does: DDP and FSDP2 over gloo on a CPU, and a checkpoint of two goes on with one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_support import TINY, on_two_processes, recipe, write_shards

from codedev._errors import RecipeError
from codedev.train import loop, run
from codedev.train.watch.metrics import read_metrics

TIED = {"config": {**TINY, "tie_word_embeddings": True}}
SETTINGS = {"model": TIED, "data__eval": "shards/heldout", "run__save_every": 6, "run__keep": 9, "batch__micro_rows": 3}

# One launch for both ways, since starting two processes takes most of the time. The runs share the process group.
WORKER = """
import sys
from pathlib import Path
import torch.distributed as dist
from test_train_parallel import SETTINGS
from train_support import recipe
from codedev.train import run
dist.init_process_group("gloo")
for parallel in ("ddp", "fsdp"):
    run(recipe(parallel, run__parallel=parallel, **SETTINGS), Path(sys.argv[1]))
dist.destroy_process_group()
"""


def losses(run_dir: Path) -> list[float]:
    return [row.get("loss", row.get("bits_per_byte")) for row in read_metrics(run_dir)]


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    write_shards(tmp_path / "shards" / "heldout", rows=9, seed=9)
    on_two_processes(WORKER, tmp_path)

    run(recipe("one", **SETTINGS), tmp_path)
    one = losses(tmp_path / "one")
    assert len(one) == 12 + 2
    for parallel in ("ddp", "fsdp"):
        assert losses(tmp_path / parallel) == pytest.approx(one, abs=1e-5)
        a, b = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", parallel))
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], atol=1e-4, rtol=1e-3)
        config = (tmp_path / parallel / "model" / "config.json").read_text()
        assert '"LlamaForCausalLM"' in config

    # The checkpoint of two FSDP2 processes after step 6 goes on with one process.
    shutil.rmtree(tmp_path / "fsdp" / "checkpoints" / "step-00000012")
    run(recipe("fsdp", **SETTINGS), tmp_path)
    assert losses(tmp_path / "fsdp") == pytest.approx(one, abs=1e-5)


def test_rows_that_cannot_be_shared(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    from codedev.train.checkpoint import State
    from codedev.train.compute.parallel import World
    from codedev.train.data import open_shards

    wanted = recipe()
    plan = loop.Plan(steps=1, rows=8, micro_rows=8, seed=0)
    place = World(0, 3, torch.device("cpu"))
    model = torch.nn.Linear(1, 1)
    task = loop.Task(
        model,
        lambda ids, positions: ids,
        lambda forward, rows: torch.zeros(()),
        loop.adamw(model, wanted.optim, place.device),
        open_shards((tmp_path / "shards",)),
        place,
        plan,
        wanted.optim,
        None,
        1,
        1,
    )
    with pytest.raises(RecipeError, match="8 rows a step cannot be shared by 3 processes"):
        next(loop.train(task, State(0, 0)))
