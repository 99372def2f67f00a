"""The trainers of TRL 1.16 as givers of losses: what they are made with, and what of them a run uses.

A run has its own loop, order, optimizer, checkpoints and metrics (loop.py, pretrain.py), so of TRL come the collators, the losses, the
advantages and their measures, and nothing of its defaults is left to chance: every setting that bites is given here. What it would do
otherwise, seen in 1.16:

    bf16 and gradient checkpointing on, also on a CPU; sequences cut at 1,024 tokens
    a reference loaded anew from the path that the configuration names; for an adapter a second copy of it as reference, made of what it
    is at that moment: after a resumption of what it has already become
    adapters beside quantised weights rounded to bfloat16
    answers shuffled, and drawn by one generator; grpo without a reference
    a ping to its makers when a trainer is made

Its private methods are used by name, which is why the version is pinned.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from codedev._errors import MissingExtraError, RecipeError
from codedev.train import tune
from codedev.train.align.preference_data import Batch, Feed
from codedev.train.compute.parallel import World
from codedev.train.recipe import TrainRecipe

VERSION = "1.16"
# stage -> (name in metrics, name in TRL): means over the examples of a step
MEASURED = {
    "dpo": {
        "reward_margin": "rewards/margins",
        "reward_accuracy": "rewards/accuracies",
        "reward_chosen": "rewards/chosen",
        "reward_rejected": "rewards/rejected",
        "logp_chosen": "logps/chosen",
        "logp_rejected": "logps/rejected",
        "entropy": "entropy",
    },
    "kto": {"reward_margin": "", "kl": "kl", "entropy": "entropy"},  # the first: rewards of good answers and those of bad ones turned round
    "grpo": {"entropy": "entropy", "clip_share": "clip_ratio/region_mean"},  # what is left of a step, sampled.py measures
}
MEASURED["rloo"] = MEASURED["grpo"]


def need() -> None:
    """MissingExtraError without TRL, RecipeError with one of another version."""
    for package in ("trl", "datasets"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "rlhf")
    found = importlib.import_module("importlib.metadata").version("trl")
    if not found.startswith(f"{VERSION}."):
        raise RecipeError(
            f"trl {found} is installed, and the stages dpo, kto, grpo and rloo are made for {VERSION}. Install trl~={VERSION}.0"
        )


def load() -> Any:
    """trl, which reports nothing to anybody. About 10 s."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "1"
    os.environ.setdefault("WANDB_MODE", "disabled")
    need()
    tune.load_peft()
    with tune.silent():
        constants: Any = importlib.import_module("huggingface_hub.constants")
        constants.HF_HUB_OFFLINE = constants.HF_HUB_DISABLE_TELEMETRY = True  # it may have been loaded before
        importlib.import_module("datasets").disable_progress_bars()
        return importlib.import_module("trl")


class Trainer:
    """A trainer of TRL around `model`, on its device. `reference`: a frozen model, or None for `model` with its adapter off."""

    def __init__(self, recipe: TrainRecipe, feed: Feed, model: Any, reference: Any, place: World, dtype: torch.dtype) -> None:
        self.stage, self.section, self.model, self.feed, self._dtype = recipe.stage, section_of(recipe), model, feed, dtype
        self.device = place.device
        self._prompts: list[np.ndarray] = []  # of a step, by answer
        self._answers: list[list[int]] = []
        self._earned: list[float] = []
        self.logprobs = torch.zeros(0)  # (answers, tokens) of the last call, as they are learned from
        self.of_reference: torch.Tensor | None = None  # (answers, tokens) ln p of the answers that were judged last
        trl = load()
        kept = model.config.pad_token_id, model.generation_config.pad_token_id, model.generation_config.eos_token_id
        trained = [(parameter, parameter.data) for parameter in model.parameters() if parameter.requires_grad]
        with tempfile.TemporaryDirectory() as folder, tune.silent(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.trl = self._made(trl, recipe, reference, place, folder)
        if getattr(model, "peft_config", None) and "ref" in model.peft_config:
            model.delete_adapter("ref")
        model.config.get_text_config().pad_token_id, model.generation_config.pad_token_id = kept[:2]
        model.generation_config.eos_token_id = kept[2]
        for parameter, numbers in trained:
            parameter.data = numbers.to(parameter.device)
            parameter.requires_grad_(True)

    def _made(self, trl: Any, recipe: TrainRecipe, reference: Any, place: World, folder: str) -> Any:
        kind = {"dpo": "DPO", "kto": "KTO", "grpo": "GRPO", "rloo": "RLOO"}[self.stage]
        arguments = getattr(trl, f"{kind}Config")(**_common(recipe, place, self._dtype, folder), **_own(recipe))
        vocabulary = self.feed.vocabulary
        given: dict[str, Any] = {"args": arguments, "processing_class": _numbers(vocabulary.size, vocabulary.pad_id, vocabulary.eos_id)}
        row = self.feed.read(np.zeros(1, np.int64)).rows[0] if self.stage in ("dpo", "kto") else {"prompt": "0"}
        dataset = importlib.import_module("datasets").Dataset.from_list([row])
        own: dict[str, Any] = {"_prepare_dataset": lambda _, dataset, *rest: dataset}
        if self.stage in ("dpo", "kto"):
            given["ref_model"] = reference
        else:
            given["reward_funcs"] = [lambda **_: self._earned]
            given["reward_funcs"][0].__name__ = "earned"
            own = {
                "_tokenize_prompts": lambda _, prompts: ([self._prompts[int(at)].tolist() for at in prompts], None, {}),
                "_get_per_token_logps_and_entropies": lambda _, *given, **named: self._logprobs(*given, **named),
                "_generate_single_turn": lambda *_, **__: self._answers if self.stage == "rloo" else (self._answers, None),
            }
        made = type(f"{kind}Trainer", (getattr(trl, f"{kind}Trainer"),), own)(self.model, train_dataset=dataset, **given)
        if self.stage in ("grpo", "rloo"):
            made.eos_token_ids = self.feed.stops
            made.beta = self.section.beta
            if reference is not None and made.beta:
                made.ref_model = reference
                utilities = importlib.import_module("trl.trainer.utils")
                utilities.add_fused_lm_head(reference, temperature=self.section.temperature)
        return made

    # -- dpo and kto ---------------------------------------------------------------------------------------------------------------

    def collated(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The rows as TRL's collator pads them, on the device."""
        padded: dict[str, torch.Tensor] = self.trl.data_collator(batch.rows)
        return {name: tensor.to(self.device) for name, tensor in padded.items()}

    def losses(self, batch: Batch) -> torch.Tensor:
        """Sums over the batch's examples: the loss, which can be differentiated, and MEASURED."""
        mode = "train" if self.model.training else "eval"
        with self._called():
            loss = self.trl.compute_loss(self.model_called, self.collated(batch))
        told = self.trl._metrics[mode]
        means = {name: float(np.mean(values)) for name, values in told.items() if values}
        if self.stage == "kto":
            good = sum(row["label"] for row in batch.rows) / len(batch.rows)
            means[""] = means.get("rewards/chosen", 0.0) * good - means.get("rewards/rejected", 0.0) * (1 - good)
        found = [means.get(name, 0.0) for name in MEASURED[self.stage].values()]
        told.clear()
        rest = torch.tensor(found, dtype=torch.float32, device=loss.device)
        return torch.cat([loss.float().reshape(1), rest]) * len(batch.rows)

    # -- grpo and rloo -------------------------------------------------------------------------------------------------------------

    def judged(self, prompts: list[np.ndarray], answers: list[list[int]], rewards: Sequence[float]) -> dict[str, torch.Tensor]:
        """What TRL makes of answers, each to the prompt at its place, and what they earn: tensors by answer, advantages among them."""
        self._prompts, self._answers, self._earned = prompts, answers, list(rewards)
        with self._called():
            made: dict[str, torch.Tensor] = self.trl._generate_and_score_completions([{"prompt": str(at)} for at in range(len(prompts))])
        self.of_reference = self.logprobs if self.section.beta else None  # what it looks up last
        return made

    def answer_loss(self, judged: dict[str, torch.Tensor], rows: slice, parts: int) -> torch.Tensor:
        """The part of a step's loss that some of its answers make; `parts` of the same size make it up."""
        some = {name: tensor if tensor.ndim == 0 else tensor[rows] for name, tensor in judged.items()}
        self.trl.current_gradient_accumulation_steps = parts
        with self._called():
            loss: torch.Tensor = self.trl.compute_loss(self.model_called, some)
        return loss if self.stage == "grpo" else loss / parts

    def _logprobs(
        self, model: Any, ids: torch.Tensor, mask: torch.Tensor, keep: int, batch_size: int | None = None, **asked: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """(answers, keep) ln p of the last `keep` tokens, and their entropies if asked for, of prompts that are padded on their left.

        TRL leaves them there, so that a token's place is another beside a longer prompt: no matter to rotary positions alone, but to
        learned ones, and to prompts and prefixes, which stand before the padding. Here every row begins at its first token.
        """
        places = torch.arange(ids.shape[1], device=ids.device)
        found, entropies = [], []
        for at in range(0, len(ids), batch_size or len(ids)):
            some = slice(at, at + (batch_size or len(ids)))
            before = mask[some].argmax(1, keepdim=True)  # padding on the left
            order = (places + before) % ids.shape[1]
            given, real = ids[some].gather(1, order), mask[some].gather(1, order)
            labels = torch.where((order >= ids.shape[1] - keep) & (real > 0), given, -100)
            with self.trl.accelerator.autocast():
                made = model(input_ids=given, attention_mask=real, labels=labels, fused_lm_head=True)
            back = places[-keep:] - before - 1  # what predicts a token stands before it
            found.append(made.log_probs[:, 1 - ids.shape[1] :].gather(1, back))
            if asked.get("compute_entropy"):
                entropies.append(made.entropy[:, 1 - ids.shape[1] :].gather(1, back))
        logprobs = torch.cat(found)
        self.logprobs = logprobs.detach()
        return logprobs, torch.cat(entropies) if entropies else None, None

    def measures(self) -> dict[str, float]:
        """MEASURED of the answers since the last call, as means."""
        told = self.trl._metrics["train"]
        found = {name: float(np.mean(told[theirs])) for name, theirs in MEASURED[self.stage].items() if told.get(theirs)}
        told.clear()
        self.trl._metrics["eval"].clear()
        return found

    # -- both ----------------------------------------------------------------------------------------------------------------------

    model_called: Any = None  # the model as it is spread over processes

    @contextmanager
    def _called(self) -> Iterator[None]:
        with warnings.catch_warnings(), self.autocast():
            warnings.simplefilter("ignore", FutureWarning)  # names that transformers has changed and TRL has not
            yield

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32)


def section_of(recipe: TrainRecipe) -> Any:
    """What the recipe says of its stage, defaults filled in."""
    kind = type(recipe).model_fields[recipe.stage].annotation
    found = getattr(recipe, recipe.stage)
    return found if found is not None else _first(kind)()


def _first(optional: Any) -> Any:
    return next(one for one in optional.__args__ if one is not type(None))


def micro_of(recipe: TrainRecipe, processes: int = 1) -> int:
    """Answers that a process computes at once: the largest number up to batch.micro_rows that divides its share of a step."""
    share = (recipe.batch.rows or 0) // processes
    return max(size for size in range(1, min(recipe.batch.micro_rows, share) + 1) if share % size == 0)


def _common(recipe: TrainRecipe, place: World, dtype: torch.dtype, folder: str) -> dict[str, Any]:
    sampling = recipe.stage in ("grpo", "rloo")
    micro = micro_of(recipe, place.size) if sampling else max(2, recipe.batch.micro_rows)
    parts = (recipe.batch.rows or 0) // place.size // micro if sampling else 1
    return {
        "output_dir": folder,
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": micro,
        "gradient_accumulation_steps": parts,
        "learning_rate": recipe.optim.lr,
        "max_steps": 1,
        "bf16": dtype == torch.bfloat16,
        "fp16": False,
        "gradient_checkpointing": False,  # run.activation_checkpointing is our own
        "gradient_checkpointing_kwargs": {"use_reentrant": False},  # which TRL switches on again where it has switched it off
        "torch_compile": False,
        "use_cpu": place.device.type == "cpu",
        "average_tokens_across_devices": False,
        "max_grad_norm": 0.0,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "push_to_hub": False,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        "disable_dropout": True,
        "use_liger_kernel": False,
        "router_aux_loss_coef": 0.0,
        "trust_remote_code": False,
        "sync_ref_model": False,
        "seed": recipe.run.seed % (1 << 32),
        "data_seed": recipe.run.seed % (1 << 32),
    }


def _own(recipe: TrainRecipe) -> dict[str, Any]:
    """Of its stage."""
    section = section_of(recipe)
    if recipe.stage == "dpo":
        return {
            "loss_type": [section.loss],
            "beta": section.beta,
            "label_smoothing": section.label_smoothing,
            "max_length": None,
            "padding_free": False,
            "precompute_ref_log_probs": False,
            "use_weighting": False,
            "activation_offloading": False,
        }
    if recipe.stage == "kto":
        weights = {"desirable_weight": section.desirable_weight, "undesirable_weight": section.undesirable_weight}
        fixed = {"max_length": None, "precompute_ref_log_probs": False, "train_sampling_strategy": "sequential"}
        return {"loss_type": "kto", "beta": section.beta, **weights, **fixed, "activation_offloading": False}
    shared = {
        "num_generations": section.answers,
        "num_iterations": section.epochs,
        "max_completion_length": section.max_tokens,
        "temperature": section.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "beta": 0.0,  # the reference is put in afterwards
        "epsilon": section.clip,
        "mask_truncated_completions": False,
        "use_vllm": False,
        "use_transformers_continuous_batching": False,
        "log_completions": False,
        "shuffle_dataset": False,
    }
    if recipe.stage == "rloo":
        return {**shared, "normalize_advantages": section.normalise, "reward_clip_range": None}
    high = section.clip_high if section.clip_high is not None else 5.0 if section.loss == "cispo" else section.clip
    more = {"loss_type": section.loss, "epsilon_high": high, "scale_rewards": section.scale, "importance_sampling_level": "token"}
    # The estimate of the divergence times the ratio: its gradient is that of the divergence, which without it is not (DeepSeek-V3.2, 2025).
    more |= {"use_bias_correction_kl": True, "delta": None, "off_policy_mask_threshold": None}
    more |= {"multi_objective_aggregation": "sum_then_normalize"}
    return {**shared, **more, "entropy_coef": 0.0, "use_adaptive_entropy": False, "top_entropy_quantile": 1.0}


def _numbers(size: int, pad: int, eos: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are their own numbers, written out: TRL wants one, and has no text to read."""
    plain = Tokenizer(WordLevel({str(number): number for number in range(size)}, unk_token=str(pad)))
    maker: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = maker(tokenizer_object=plain, pad_token=str(pad), eos_token=str(eos), padding_side="left")
    return made
