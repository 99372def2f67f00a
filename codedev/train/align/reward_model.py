"""Stage `reward`: a model that says what an answer is worth, from pairs of answers or from answers with their rewards.

    pairs     Bradley-Terry: -ln sigmoid(r_chosen - r_rejected - margin), and center * (r_chosen + r_rejected)² so that rewards lie about 0
              (Eisenstein et al. 2023); the loss of a step is the mean over its pairs
    rewards   (r - z)², z the reward standardised by the mean and deviation of what is learned

Which of them the tables tell (examples.py). The run is that of `pt` (pretrain.py): a row is an example, its sequences are computed by
themselves, so a step's result depends on neither batch.micro_rows nor the number of processes, rounding apart. RUN/model holds what plain
transformers and peft load (reward_head.py), with tokenizer and chat template.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import softplus

from codedev._errors import RecipeError
from codedev._run import Progress, read_json, write_json, write_text
from codedev.train import pretrain
from codedev.train.align import calibration, reward_head
from codedev.train.align.examples import Examples, prepare
from codedev.train.align.examples import opened as opened_examples
from codedev.train.align.reward_data import Judged, Verdicts, judged, token_of
from codedev.train.align.reward_recipe import RewardModelRecipe
from codedev.train.compute import parallel
from codedev.train.instructions.prepared import Reader, reader
from codedev.train.recipe import TrainRecipe, absolute
from codedev.train.sft import first_prepares
from codedev.train.use.companions import TEMPLATE, TOKENIZER_CONFIG

KINDS: Any = ("pairs", "rated")
POOR = 0.4  # of held-out pairs judged right: a model that knows nothing has 0.5
_BLOCK = 1024  # held-out examples in memory


def run(recipe: TrainRecipe, base: Path, on_step: pretrain.OnStep, progress: Progress) -> dict[str, Any]:
    """See `codedev.train.run`. The result has `data` (examples.prepare), `kind`, `heldout` {before, after} or None, and `alarms`."""
    recipe = absolute(recipe, base)
    check(recipe)
    with parallel.world() as place:
        told = first_prepares(lambda: prepare(recipe, KINDS, progress).told, place)
        read, train, heldout = opened(recipe)
        result = pretrain.carry_out(recipe, work_of(recipe, read, train, heldout), on_step, progress)
        if place.first:
            _leave(recipe, read, train, Path(result["model_dir"]))
        place.wait()
    return result | {"kind": "pairs" if train.pairs else "rated", "data": told}


def opened(recipe: TrainRecipe) -> tuple[Reader, Judged, Judged | None]:
    """(what reads the tables, what is learned, what is held out) of a recipe whose examples are prepared."""
    folder = Path(recipe.data.prepared or "")
    told = {**read_json(folder / "prepared.json")["counts"], "prepared": str(folder)}
    read = reader(recipe)
    return read, *judged(Examples(*opened_examples(folder), told), read, _own(recipe).margin)


def work_of(recipe: TrainRecipe, read: Reader, train: Judged, heldout: Judged | None) -> pretrain.Work:
    """What the stage gives the run."""
    own = _own(recipe)
    pad = train.manifest.pad_id

    def measure(score: Any, group: int, told: Progress) -> dict[str, Any]:
        assert heldout is not None
        return measured(score, heldout, group, told)

    def result(rows: list[dict[str, Any]]) -> dict[str, Any]:
        found = [{name: value for name, value in row.items() if name.startswith("heldout_")} for row in rows if "heldout_loss" in row]
        alarms = [row["alarm"] for row in rows if "alarm" in row][-1:] if found and "alarm" in _last_measured(rows) else []
        return {"heldout": {"before": found[0], "after": found[-1]} if found else None, "alarms": alarms}

    return pretrain.Work(
        data=train,
        identity={
            "data.examples": train.digest,
            "reward": own.model_dump(mode="json"),
            "data.tokenizer": read.vocabulary.hash,
        },
        attn=lambda device, dtype: reward_head.choose_attn(recipe, device, dtype),
        model=lambda attn, path, place, dtype: reward_head.build(recipe, train, train.manifest, attn, path, place, dtype),
        called=reward_head.Scores,
        forward=lambda module, attn, device, dtype: reward_head.call_of(module, device, dtype),
        check=lambda call, device, dtype, name, attn: reward_head.check_padding(call, train, dtype, name),
        scorer=lambda module, call, place: reward_head.scorer(module, call, place, pad),
        measure=measure if heldout is not None else None,
        documents=lambda score, numbers, group: documents(score, train, own, numbers, group),
        loss=lambda call, batch: loss_of(call, batch, own.center),
        result=result,
        also=("accuracy", "margin") if train.pairs else (),
        sized=False,
    )


def loss_of(call: reward_head.Call, batch: Verdicts, center: float) -> torch.Tensor:
    """The summed loss of a batch; of pairs (3,): with how many are judged right, and the sum of their margins."""
    numbers = call(batch.input_ids, batch.lasts)
    wanted = torch.from_numpy(batch.wanted).to(numbers.device, torch.float32)
    if not batch.pairs:
        return ((numbers - wanted) ** 2).sum()
    chosen, rejected = numbers[0::2], numbers[1::2]
    apart = chosen - rejected
    loss = softplus(wanted - apart).sum() + center * ((chosen + rejected) ** 2).sum()
    return torch.stack([loss, (apart.detach() > 0).float().sum(), apart.detach().sum()])


def measured(score: reward_head.Score, data: Judged, group: int, told: Progress) -> dict[str, Any]:
    """Held-out numbers (calibration.py), with `alarm` where pairs are judged worse than by chance. `group`: examples at once."""
    found = []
    for at in range(0, data.rows, _BLOCK):
        numbers = np.arange(at, min(data.rows, at + _BLOCK))
        found.append(_numbers(score, data, numbers, group))
        told("evaluate", int(numbers[-1]) + 1, data.rows)
    values = np.concatenate(found)
    if data.pairs:
        row = calibration.of_pairs(values[:, 0] - values[:, 1], data.wanted)
        if row["accuracy"] < POOR and row["pairs"] >= 10:
            row["alarm"] = (
                f"only {row['accuracy']:.0%} of {row['pairs']:,} held-out pairs are judged right, where chance gives 50%. Look whether the "
                "columns chosen and rejected are swapped in some of the tables"
            )
    else:
        row = calibration.of_rewards(data.scale.mean + data.scale.deviation * values[:, 0], data.wanted, data.scale)
    return {name if name == "alarm" else f"heldout_{name}": value for name, value in row.items()}


def documents(score: reward_head.Score, data: Judged, own: RewardModelRecipe, numbers: np.ndarray, group: int) -> list[dict[str, Any]]:
    """The examples with these numbers as explain shows them: place, tokens, loss, and what the model gives of them."""
    values = _numbers(score, data, numbers, group)
    found = []
    for number, given in zip(numbers.tolist(), values, strict=True):
        tokens = [len(sequence) for sequence in data.sequences(number)]
        place = {"shards": str(data.folder), "row": number, "start": 0, "end": max(tokens), "document": data.document(number), "offset": 0}
        wanted = float(data.wanted[number])
        with np.errstate(invalid="ignore", over="ignore"):
            if data.pairs:
                apart, middle = float(given[0] - given[1]), float(given[0] + given[1])
                loss = float(np.logaddexp(0.0, wanted - apart)) + own.center * middle**2
                said = {"chosen": float(given[0]), "rejected": float(given[1]), "margin": apart}
            else:
                reward = data.scale.mean + data.scale.deviation * float(given[0])
                loss = ((reward - wanted) / data.scale.deviation) ** 2
                said = {"reward": reward, "wanted": wanted}
        found.append({**place, "tokens": sum(tokens), "supervised": 1, "loss": loss, **said})
    return found


def step_documents(recipe: TrainRecipe, path: Path | None, numbers: np.ndarray) -> list[dict[str, Any]]:
    """`documents` with the weights of a checkpoint, or with those that the run begins with. On this process alone."""
    _, train, _ = opened(recipe)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place, dtype = parallel.World(0, 1, device), pretrain.dtype_of(recipe, device)
    attn = reward_head.choose_attn(recipe, device, dtype)
    model = reward_head.build(recipe, train, train.manifest, attn, path, place, dtype)
    module = parallel.distribute(reward_head.Scores(model), "single", place, dtype)
    score = reward_head.scorer(module, reward_head.call_of(module, device, dtype), place, train.manifest.pad_id)
    return documents(score, train, _own(recipe), numbers, recipe.batch.micro_rows)


def loss_on_some(recipe: TrainRecipe, rows: int, device: torch.device) -> tuple[Callable[[Any], float], int]:
    """(model -> its mean loss on up to `rows` held-out examples, or of those that were learned where none is held out, how many)."""
    _, train, heldout = opened(recipe)
    data = heldout or train
    sample = np.linspace(0, data.rows - 1, min(rows, data.rows)).astype(np.int64)
    place = parallel.World(0, 1, device)

    def loss(model: Any) -> float:
        module = parallel.distribute(reward_head.Scores(model), "single", place, torch.float32)
        score = reward_head.scorer(module, reward_head.call_of(module, device, torch.float32), place)
        return float(np.mean([one["loss"] for one in documents(score, data, _own(recipe), sample, len(sample))]))

    return loss, len(sample)


def complete(recipe: TrainRecipe, folder: Path) -> None:
    """What a run leaves beside the weights of a whole model, for one that was merged."""
    read, train, _ = opened(recipe)
    _leave(recipe, read, train, folder)
    config = folder / "config.json"
    write_json(config, {**read_json(config), "pad_token_id": train.manifest.pad_id})


def _numbers(score: reward_head.Score, data: Judged, numbers: np.ndarray, group: int) -> np.ndarray:
    """(examples, sequences of each) what the model gives."""
    each = 2 if data.pairs else 1
    found = score([sequence for number in numbers.tolist() for sequence in data.sequences(number)], each * group)
    return found.reshape(-1, each)


def _last_measured(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return [row for row in rows if "heldout_loss" in row][-1]


def _own(recipe: TrainRecipe) -> RewardModelRecipe:
    return recipe.reward or RewardModelRecipe()


def check(recipe: TrainRecipe) -> None:
    if recipe.batch.rows is None:
        raise RecipeError(
            "batch.tokens: examples have lengths of their own, and a step of stage reward has a number of them. Give batch.rows"
        )


def _leave(recipe: TrainRecipe, read: Reader, train: Judged, model_dir: Path) -> None:
    """What a reward model needs beside its weights: scale, template, and a padding token that plain transformers finds the end by."""
    reward_head.leave(model_dir, "pairs" if train.pairs else "rated", train.scale)
    template = Path(recipe.data.prepared or "", TEMPLATE)
    write_text(model_dir / TEMPLATE, template.read_text(encoding="utf-8"))
    file = model_dir / TOKENIZER_CONFIG
    if file.is_file() and (name := token_of(read.vocabulary, train.manifest.pad_id)):
        write_json(file, {**read_json(file), "pad_token": name, "padding_side": "right"})
