"""A model that gives a number: what transformers loads as AutoModelForSequenceClassification with one label, of any causal model.

The number is read at a sequence's last token. The head is new where the checkpoint is a language model's: weights of variance
1 / (width + 1) (Stiennon et al. 2020), from run.seed.

    reward.json   beside the weights in RUN/model: {format, kind, mean, deviation, tokenizer}. A reward is mean + deviation * the model's
                  number; of pairs 0 and 1. Of a whole model in config.json too, as codedev_reward. tokenizer: its hash
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from codedev._errors import InputError, RecipeError, RunError
from codedev._run import read_json, write_json
from codedev.tokenize.vocabulary import Vocabulary, load_vocabulary
from codedev.train import model as models
from codedev.train import tune
from codedev.train.align.reward_data import Ids, Scale, padded
from codedev.train.compute import attention, parallel
from codedev.train.recipe import TrainRecipe
from codedev.train.weights import check_checkpoint

RECORD, FORMAT = "reward.json", "codedev.reward/1"
Call = Callable[[np.ndarray, np.ndarray], torch.Tensor]
"""((sequences, longest) int64 padded at the end, where each one's last token is) -> (sequences,) float32 on the device."""
Score = Callable[[list[np.ndarray], int], np.ndarray]
"""(sequences, how many at once over all processes) -> (sequences,) float64, what the model gives of each."""


class Scores(nn.Module):
    """`model`, called for its numbers. It is what is spread over processes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.keep_gradients = True  # of FSDP2, see parallel.gradients_later; and what tells parallel.distribute to call it as it is

    def forward(self, ids: torch.Tensor, lasts: torch.Tensor) -> torch.Tensor:
        """(B, L) padded at the end, (B,) -> (B,) float32."""
        inner = self.model.get_base_model() if tune.is_adapter(self.model) else self.model
        body = getattr(inner, inner.base_model_prefix)
        hidden = body(input_ids=ids, use_cache=False)[0]
        saved = getattr(inner.score, "modules_to_save", None)  # of peft
        head = inner.score if saved is None else saved["default"]
        return number_at(hidden, lasts, head.weight, head.bias)


def number_at(hidden: torch.Tensor, lasts: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """What the head (1, D) gives of hidden (B, L, D) at lasts (B,): (B,) float32.

    Not by the layer itself: under autocast it keeps three digits of a reward, and a matrix of one row is multiplied in an order that
    depends on where in memory it lies, so that a run that goes on would differ in the last digit.
    """
    picked = hidden[torch.arange(len(lasts), device=hidden.device), lasts]
    numbers: torch.Tensor = (picked.float() * weight.float()).sum(-1)
    return numbers if bias is None else numbers + bias.float()


def build(
    recipe: TrainRecipe, words: models.Words, ids: Ids, attn: str, path: Path | None, place: parallel.World, dtype: torch.dtype
) -> Any:
    """The model as it stands at the checkpoint `path`, or at the beginning."""
    _check_kind(recipe)
    if recipe.tune == "full" and path:
        return _named(models.load(path, attn, head=models.SCORE), ids)
    tune.need(recipe.tune)
    extra = tune.four_bit(place.device, dtype) if recipe.tune == "qlora" else None
    base = models.build(recipe.model, words, attn, recipe.run.seed, extra, models.SCORE)
    if not has_head(Path(recipe.model.path or "")):
        _begin(base, recipe.run.seed)
    _named(base, ids)
    if recipe.tune == "full":
        return base
    model = tune.attach(base, recipe, words, dtype)
    if path:
        tune.restore(model, path)
    return model


def has_head(directory: Path) -> bool:
    """Whether the checkpoint there is a reward model's already."""
    if not (directory / "config.json").is_file() or not any(directory.glob("*.safetensors")):
        return False
    return "score.weight" in check_checkpoint(directory, transformers.CONFIG_MAPPING)


def choose_attn(recipe: TrainRecipe, device: torch.device, dtype: torch.dtype) -> str:
    if recipe.model.attn in ("varlen", "flex"):
        raise RecipeError(
            f"model.attn: {recipe.model.attn} is for packed rows, and stage reward pads its sequences. Set it to sdpa or auto"
        )
    return attention.choose("sdpa" if recipe.model.attn == "auto" else recipe.model.attn, device, dtype)


def call_of(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Call:
    """The one way a reward model is called. `module`: Scores, as wrapped for the processes."""

    def call(ids: np.ndarray, lasts: np.ndarray) -> torch.Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            found: torch.Tensor = module(
                attention.sent(torch.from_numpy(ids), device), attention.sent(torch.from_numpy(np.asarray(lasts)), device)
            )
        return found

    return call


def check_padding(call: Call, words: models.Words, dtype: torch.dtype, name: str) -> float:
    """The largest difference between numbers of padded sequences and of each alone, in units of the largest number. RunError where what
    follows a sequence changes its number."""
    random = np.random.default_rng(0)
    longest = max(2, min(48, words.seq_len))
    ids = random.integers(0, words.vocab_size, (3, longest))
    lasts = np.array([longest - 1, longest // 2, 0])
    with torch.no_grad():
        together = call(ids, lasts)
        alone = torch.cat([call(ids[row : row + 1, : lasts[row] + 1], lasts[row : row + 1]) for row in range(3)])
    if not together.isfinite().all():
        raise RunError(f"{name}: what it gives are no numbers: weights of it are NaN or infinite, or too large for {dtype}")
    error = float((together - alone).abs().max() / alone.abs().max().clamp(min=1e-6))
    if not error < attention.limit_of(dtype):
        raise RunError(
            f"{name}: its number of a sequence depends on what follows: they differ by {error:.2g} of the largest. It does not read from "
            "left to right, and cannot be a reward model here"
        )
    return error


def scorer(module: nn.Module, call: Call, place: parallel.World, pad: int = 0) -> Score:
    """What the model gives of sequences, those of like length computed together and shared out among the processes."""

    def score(sequences: list[np.ndarray], at_once: int) -> np.ndarray:
        order = np.argsort([-len(sequence) for sequence in sequences], kind="stable")
        found = np.zeros(len(sequences))
        training = module.training
        module.eval()
        with torch.no_grad():
            for start in range(0, len(order), at_once):
                mine = np.array_split(order[start : start + at_once], place.size)[place.rank]
                run = mine if len(mine) else order[start : start + 1]  # FSDP needs every process in every forward pass
                numbers = call(*padded([sequences[i] for i in run.tolist()], pad)).cpu().numpy()
                if len(mine):
                    found[mine] = numbers
        module.train(training)
        parallel.reshard(module)
        return place.sum(found)

    return score


def leave(folder: Path, kind: str, scale: Scale) -> None:
    """Write RECORD, and what it says into config.json where there is one. The tokenizer lies there already."""
    told = {"kind": kind, "mean": scale.mean, "deviation": scale.deviation}
    write_json(folder / RECORD, {"format": FORMAT, **told, "tokenizer": load_vocabulary(folder, need_eos=False).hash})
    if (folder / "config.json").is_file():
        write_json(folder / "config.json", {**read_json(folder / "config.json"), "codedev_reward": told})


def scale_of(folder: Path) -> Scale:
    """As `leave` wrote it; of other reward models 0 and 1."""
    file = folder / RECORD
    if not file.is_file():
        return Scale()
    told = read_json(file)
    try:
        if told["format"] != FORMAT:
            raise ValueError
        return Scale(float(told["mean"]), float(told["deviation"]))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{file}: is not as it was written. Copy the model again") from None


def check_tokenizer(folder: Path, vocabulary: Vocabulary) -> None:
    """InputError where the tokenizer in `folder` is not the one that the model was trained with, as far as RECORD tells."""
    told = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    if isinstance(told, dict) and told.get("tokenizer", vocabulary.hash) != vocabulary.hash:
        raise InputError(f"{folder}: the tokenizer there is not the one that the model was trained with. Copy the model again, whole")


def _check_kind(recipe: TrainRecipe) -> None:
    if recipe.tune in ("prompt", "prefix"):
        raise RecipeError(
            f"tune: {recipe.tune} trains vectors before a text and no head, and a reward model's head is new. Set it to lora, qlora or full"
        )
    path = Path(recipe.model.path or "")
    file = path / "config.json" if path.is_dir() else path
    fields: Any = recipe.model.config or (read_json(file) if file.is_file() else {})
    kind = str(fields.get("model_type")) if isinstance(fields, dict) else ""
    if (
        kind in transformers.CONFIG_MAPPING
        and transformers.CONFIG_MAPPING[kind] not in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    ):
        raise RecipeError(f"model: transformers has no '{kind}' that gives a number (…ForSequenceClassification). Use another model")


def _begin(model: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = model.score.weight
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) / (weight.shape[1] + 1) ** 0.5)


def _named(model: Any, ids: Ids) -> Any:
    """With the token that plain transformers finds a padded text's end by; it is learned like any other where a text has it."""
    model.config.pad_token_id = ids.pad_id
    model.get_input_embeddings().padding_idx = None
    return model
