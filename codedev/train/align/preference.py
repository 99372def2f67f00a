"""Stages `dpo`, `kto`, `grpo` and `rloo`: the losses of TRL in the run of `pt` and `sft`, on examples (examples.py).

    dpo     pairs: the chosen answer more probable than the rejected one, measured against the reference
    kto     answers that are good or not, a pair counting as one of each
    grpo    prompts: answers are sampled, rewarded and judged against the others to the same prompt
    rloo    the same, against the mean of the others

batch.rows are pairs, answers, or sampled answers (prompts x answers) of a step. The reference is the model that the run began with: a
frozen copy of it, or with an adapter the same weights with the adapter off. Order, answers and dropout-free arithmetic are functions of
(recipe, data, seed), so a run that goes on from a checkpoint repeats the undisturbed one to the bit.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codedev._errors import InputError, RecipeError
from codedev._run import Progress, file_hash, read_json, write_text
from codedev.train import loop, pretrain
from codedev.train import model as models
from codedev.train.align import sampled, trl_trainers
from codedev.train.align.examples import Kind, prepare
from codedev.train.align.policy import reading
from codedev.train.align.preference_data import Feed
from codedev.train.align.rewards import check_graded
from codedev.train.align.scoring import folder_of
from codedev.train.align.trl_trainers import MEASURED, Trainer, section_of
from codedev.train.chatglm import adapter as leads
from codedev.train.compute.parallel import World
from codedev.train.instructions import prepared
from codedev.train.instructions.vocabularies import check_file
from codedev.train.pretrain import MENDED
from codedev.train.recipe import SAMPLING, TrainRecipe, absolute
from codedev.train.use import chat_files
from codedev.train.use.companions import TEMPLATE

KINDS: dict[str, Kind] = {"dpo": "pairs", "kto": "labelled", "grpo": "prompts", "rloo": "prompts", "ppo": "prompts"}


def run(recipe: TrainRecipe, base: Path, on_step: pretrain.OnStep, progress: Progress) -> dict[str, Any]:
    """See `codedev.train.run`. The result has `data` too: what became of the tables' rows."""
    recipe = absolute(recipe, base)
    refuse(recipe)
    trl_trainers.need()
    feed, heldout, told = feeds(recipe, progress)
    with sampled.opened(recipe, feed.vocabulary) as rewards:
        result = pretrain.carry_out(recipe, _work(recipe, feed, heldout, rewards), on_step, progress)
    leave(feed, Path(told["prepared"]), Path(result["model_dir"]))
    return result | {"data": told}


def refuse(recipe: TrainRecipe) -> None:
    """RecipeError for what TRL or these stages are known to get wrong, by its name and with the reason."""
    stage, batch = recipe.stage, recipe.batch
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or recipe.run.parallel == "fsdp":
        raise RecipeError(
            f"run.parallel: stage {stage} computes in one process: TRL averages what each process measures, and gathers answers in an "
            "order of its own. Start it without torchrun, with run.parallel auto"
        )
    if recipe.run.compile:
        raise RecipeError(f"run.compile: rows of stage {stage} come in ever new lengths, and each would be compiled again. Set it to false")
    if recipe.model.attn in ("varlen", "flex", "flash_attention_2"):
        raise RecipeError(
            f"model.attn: {recipe.model.attn} is for packed rows; those of stage {stage} are padded, and TRL's own packing (padding_free) "
            "is switched off in 1.16. Set it to sdpa or auto"
        )
    if recipe.lora is not None and recipe.lora.dropout:
        raise RecipeError(
            f"lora.dropout: stage {stage} compares probabilities with those of a reference, and dropout would make them differ by chance. "
            "Set it to 0"
        )
    if batch.rows is None:
        raise RecipeError(f"batch.tokens: rows of stage {stage} differ in length. Set batch.rows in its place")
    if stage == "kto" and (batch.rows % batch.micro_rows == 1 or min(batch.rows, batch.micro_rows) < 2):
        raise RecipeError(
            f"batch.micro_rows: {batch.micro_rows} of {batch.rows} rows leaves a micro-batch of one answer, which kto has nothing to "
            "compare with. Choose 2 and more that divide batch.rows"
        )
    if stage in ("grpo", "rloo"):
        if batch.rows % section_of(recipe).answers:
            raise RecipeError(
                f"batch.rows: {batch.rows} answers a step are no whole number of prompts with {section_of(recipe).answers} answers each "
                f"({stage}.answers). Choose a multiple"
            )
        if recipe.run.spike is not None:
            raise RecipeError(
                f"run.spike: the loss of stage {stage} is about 0 and has either sign, so that no multiple of it is a spike. Leave it out"
            )


def feeds(recipe: TrainRecipe, progress: Progress) -> tuple[Feed, Feed | None, dict[str, Any]]:
    """(what is learned, what it is measured on, what became of the rows)."""
    reader = prepared.reader(recipe)
    check_file(recipe, reader.vocabulary.path, str(reader.tokenizer), "Leave data.tokenizer out, or name")
    found = prepare(recipe, KINDS[recipe.stage], progress)
    if recipe.stage == "kto":
        labels = found.table.column("label").unique().to_pylist()
        if len(labels) == 1:
            which = "good" if labels[0] else "bad"
            raise InputError(
                f"data.tables: all {len(found.table):,} answers are {which}, and kto learns what tells good ones from bad ones. "
                "Add the others, or look whether another column says which is which"
            )
    check_graded(recipe.rewards, found.table)
    if len(found.heldout):
        check_graded(recipe.rewards, found.heldout)
    answers = section_of(recipe).answers if recipe.stage in SAMPLING else 1
    folder = Path(found.told["prepared"])
    feed = Feed(reader, found.table, folder, recipe.stage, answers)
    return feed, Feed(reader, found.heldout, folder, recipe.stage) if len(found.heldout) else None, found.told


def _work(recipe: TrainRecipe, feed: Feed, heldout: Feed | None, rewards: sampled.Rewards | None) -> pretrain.Work:
    held: dict[str, Any] = {}  # the reference, between the making of the model and that of its trainer
    sampling = rewards is not None
    known: dict[str, Any] = {}  # of alarms.py

    def model(attn: str, path: Path | None, place: World, dtype: torch.dtype) -> Any:
        found, held["reference"] = model_of(recipe, feed, attn, path, place, dtype)
        return found

    def forward(wrapped: Any, attn: str, device: torch.device, dtype: torch.dtype) -> Trainer:
        reference = held.pop("reference")
        inside = wrapped.module if hasattr(wrapped, "module") else wrapped
        trainer = Trainer(recipe, feed, inside, reference, World(0, 1, device), dtype)
        trainer.model_called = wrapped
        if rewards is not None:
            rewards.meet(trainer.model)
        return trainer

    def measure(trainer: Trainer, group: int, told: Progress) -> dict[str, Any]:
        assert heldout is not None
        if rewards is not None:
            return sampled.measure(recipe, trainer, heldout, rewards, group, told)
        return _measure(trainer, heldout, group, told)

    identity = {
        "data.examples": read_json(feed.folder / "prepared.json")["manifests"]["examples.arrow"],
        **{f"{recipe.stage}.{name}": value for name, value in section_of(recipe).model_dump(exclude={"max_kl", "on_alarm"}).items()},
        **({"batch.micro_rows": recipe.batch.micro_rows} if _by_micro(recipe) else {}),
        **(rewards_identity(recipe) if sampling else {}),
    }
    return pretrain.Work(
        data=feed,
        identity=identity,
        attn=lambda device, dtype: "eager" if models.attention(recipe.model) == "eager" else "sdpa",
        model=model,
        called=_called,
        forward=forward,
        check=lambda trainer, *rest: check_collated(trainer, feed) if not sampling else None,
        scorer=lambda wrapped, trainer, place: trainer,
        measure=measure if heldout is not None else None,
        documents=lambda trainer, numbers, group: documents(trainer, feed, numbers),
        loss=lambda trainer, batch: trainer.losses(batch),
        result=_result,
        also=() if sampling else tuple(MEASURED[recipe.stage]),
        sized=False,
        train=sampled.trains(recipe, feed, rewards, known) if rewards is not None else loop.train,
        keep=(lambda target: sampled.keep(target, known)) if sampling else None,
        take=(lambda path: sampled.take(path, known)) if sampling else None,
    )


def model_of(recipe: TrainRecipe, feed: Feed, attn: str, path: Path | None, place: World, dtype: torch.dtype) -> tuple[Any, Any]:
    """(the model as it stands at the checkpoint `path` or at the beginning, its reference or None for the adapter off)."""
    words: Any = feed
    found: Any = pretrain._model(recipe, words, attn, path, place, dtype)
    if leads.native(found) or leads.is_lead(found):
        raise RecipeError(
            f"model: ChatGLM-6B reads a context in both directions, which the losses of TRL know nothing of. Stage {recipe.stage}"
        )
    section = section_of(recipe)
    longest = getattr(found.config, "max_position_embeddings", None)
    if recipe.stage in ("grpo", "rloo") and longest is not None:
        prompt = max(map(len, feed.table.column("prompt_ids")))
        before = getattr(recipe.method, "tokens", 0)
        if prompt + section.max_tokens + before > longest:
            raise RecipeError(
                f"{recipe.stage}.max_tokens: {section.max_tokens} behind a prompt of {prompt + before} tokens are more than the {longest} "
                "positions of the model. Lower it, or data.seq_len, which bounds prompts"
            )
    if recipe.tune != "full" or not section.beta:
        return found, None
    # The model that the run began with, whatever the checkpoint.
    reference = copy.deepcopy(found) if path is None else pretrain._model(recipe, words, attn, None, place, dtype)
    return found, reference.to(place.device).requires_grad_(False).eval()  # type: ignore[arg-type]


def check_collated(trainer: Trainer, feed: Feed) -> None:
    """That what TRL pads are the tokens of the examples, none more and none fewer: its collators cut, and its preparation adds."""
    batch = feed.read(np.arange(min(4, feed.rows)))
    made = {name: tensor.cpu() for name, tensor in trainer.collated(batch).items()}
    sides = ("chosen_ids", "rejected_ids") if feed.stage == "dpo" else ("completion_ids",)
    wanted = [(row["prompt_ids"], row[side]) for side in sides for row in batch.rows]
    for i, (prompt, answer) in enumerate(wanted):
        real = made["attention_mask"][i].bool()
        learned = made["input_ids"][i][made["completion_mask"][i].bool()]
        if made["input_ids"][i][real].tolist() != [*prompt, *answer] or learned.tolist() != list(answer):
            raise RecipeError(f"stage {feed.stage}: TRL's collator does not give the examples' own tokens. Install the trl that is pinned")


def documents(trainer: Trainer, feed: Feed, numbers: np.ndarray) -> list[dict[str, Any]]:
    """The examples of a step as explain.segment_losses has them; of dpo with the loss of each."""
    found = feed.documents(numbers)
    if feed.stage == "dpo":
        with reading(trainer.model):
            for one in found:
                one["loss"] = float(trainer.losses(feed.read(np.array([one["row"]])))[0])
    return found


def _called(model: Any) -> Any:
    model.keep_gradients = True  # it is called as it is: see parallel.distribute
    return model


def _measure(trainer: Trainer, heldout: Feed, group: int, told: Progress) -> dict[str, Any]:
    total: Any = 0.0
    group = max(2, group)
    with reading(trainer.model):
        for part in np.array_split(np.arange(heldout.rows), max(1, heldout.rows // group)):
            total = total + trainer.losses(heldout.read(part)).double().cpu()
            told("evaluate", int(part[-1]) + 1, heldout.rows)
    loss, *rest = (total / heldout.rows).tolist()
    return {"heldout_loss": loss, **{f"heldout_{name}": value for name, value in zip(MEASURED[heldout.stage], rest, strict=True)}}


def _by_micro(recipe: TrainRecipe) -> bool:
    """Whether what is computed together is part of the result."""
    return recipe.stage == "kto" or (recipe.stage == "grpo" and section_of(recipe).loss == "bnpo")


def rewards_identity(recipe: TrainRecipe) -> dict[str, Any]:
    """What of the rewards decides the weights. A function's file that changes is told of, not refused: it is mended while a run waits."""
    told, files = [], {}
    for one in recipe.rewards:
        told.append(one.model_dump(exclude={"seconds", "sandbox", "function", "model"}))
        if one.function is not None:
            file, _, name = one.function.rpartition(":")
            told[-1]["function"] = name
            files[f"{Path(file).name}:{name}"] = file_hash(Path(file)) if Path(file).is_file() else None
        if one.model is not None:
            folder = folder_of(Path(one.model))
            weights = {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}
            told[-1] |= {"model": Path(one.model).name, "weights": weights}
    return {"rewards": told, MENDED: files}


def _result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("heldout_loss", "heldout_reward", "heldout_reward_accuracy", "heldout_reward_margin", "reward"):
        values = [row[name] for row in rows if name in row]
        if values:
            found[name] = {"before": values[0], "after": values[-1]}
    return found | ({"alarms": [row["alarm"] for row in rows if "alarm" in row]} if any("groups_alike" in row for row in rows) else {})


def leave(feed: Feed, folder: Path, model_dir: Path) -> None:
    """The chat template and the tokens that end answers, beside the model."""
    write_text(model_dir / TEMPLATE, (folder / TEMPLATE).read_text(encoding="utf-8"))
    chat_files.leave_ends(model_dir, feed.stops)
