"""The train recipe. A stage is one entry of STAGES: the module whose `run(recipe, base, on_step, progress)` carries it out.

stage: pt
model: {config: {model_type: llama, hidden_size: 256, …}}      # or {path: DIR or config.json}
data:  {shards: shards, eval: shards/heldout}
batch: {rows: 32, micro_rows: 8}                               # rows (or tokens) a step over all processes together
optim: {lr: 3e-3, schedule: wsd, warmup: 0.05, cooldown: 0.3}
run:   {dir: runs/first, steps: 1000, save_every: 200}
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from codedev._errors import RecipeError, nearest
from codedev._recipe import Model
from codedev.train.align.ppo_recipe import PpoRecipe
from codedev.train.align.preference_recipe import DpoRecipe, GrpoRecipe, KtoRecipe, RlooRecipe
from codedev.train.align.reward_recipe import RewardModelRecipe, RewardRecipe
from codedev.train.instructions.table_recipe import TableRecipe
from codedev.train.model_path import located

STAGES = {
    "pt": "codedev.train.pretrain",
    "sft": "codedev.train.sft",
    "reward": "codedev.train.align.reward_model",
    "ppo": "codedev.train.align.ppo",
    "dpo": "codedev.train.align.preference",
    "kto": "codedev.train.align.preference",
    "grpo": "codedev.train.align.preference",
    "rloo": "codedev.train.align.preference",
}
ALIGN = ("reward", "ppo", "dpo", "kto", "grpo", "rloo")  # stages that read tables of feedback or prompts, never shards
SAMPLING = ("ppo", "grpo", "rloo")  # those that sample answers and reward them
TUNES = ("full", "lora", "qlora", "prompt", "prefix")
SECTIONS = {"lora": "lora", "qlora": "lora", "prompt": "prompt", "prefix": "prefix"}  # the section that says more of a tuning

MAX_STEP_ROWS = 1 << 24  # their numbers are held at once: 128 MB
Share = Annotated[float, Field(ge=0, lt=1)]  # of the run's steps
Steps = Annotated[int, Field(ge=0)]


class ModelRecipe(Model):
    config: dict[str, Any] | None = None  # a transformers configuration with `model_type`: the weights start at random
    # A directory of config.json and *.safetensors; a config.json alone: random weights; or owner/name[@revision] in the hub's cache.
    path: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of the arithmetic; auto: bfloat16 autocast on CUDA; weights stay float32
    attn: Literal["auto", "sdpa", "eager", "varlen", "flex", "flash_attention_2"] = "auto"

    @model_validator(mode="after")
    def _one_origin(self) -> ModelRecipe:
        if (self.config is None) == (self.path is None):
            raise ValueError("give either `config` (random weights) or `path` (a local checkpoint or a config.json)")
        if self.config is not None and not isinstance(self.config.get("model_type"), str):
            raise ValueError("`config` needs `model_type`, for example model_type: llama")
        return self


class DataRecipe(Model):
    """Either `shards`, or `tables` of instructions: stage sft tokenizes those itself, by the code of `codedev tokenize --mode sft`."""

    shards: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None  # shard directories
    weights: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] | None = None  # shares of the rows by directory; null = as many as each has
    eval: str | None = None  # a held-out shard directory; null = of `tables` what `holdout` keeps, else no bits per byte
    tables: tuple[TableRecipe, ...] = ()  # files or databases of instruction/input/output or messages; a path alone will do
    tokenizer: str | None = None  # of the tables; null = the model's own
    template: str | None = None  # chat template: a built-in name, a file.jinja, or `tokenizer`; null = the tokenizer's own, else chatml
    train_on: Literal["assistant", "last", "all"] = "assistant"  # all answers, the last one, the whole text
    system: str | None = None  # of conversations without one
    seq_len: int | None = Field(default=None, ge=8, lt=1 << 31)  # tokens of a row; null = 2048, or what the model has positions for
    overlong: Literal["truncate", "split", "drop", "error"] = "truncate"  # conversations longer than a row
    holdout: float = Field(default=0.0, ge=0, lt=1)  # share of the conversations kept for evaluation, by their ids
    prepared: str | None = None  # where the tables' shards are kept; null = RUN/data

    @field_validator("tables", mode="before")
    @classmethod
    def _one_table(cls, tables: Any) -> Any:
        return () if tables is None else (tables,) if isinstance(tables, str | dict) else tables

    @model_validator(mode="after")
    def _one_origin(self) -> DataRecipe:
        if (self.shards is None) == (not self.tables):
            raise ValueError("give either `shards` (of codedev tokenize) or `tables` (files of instruction/input/output or messages)")
        if self.shards is not None:
            for name, field in type(self).model_fields.items():
                if name not in ("shards", "weights", "eval", "tables") and getattr(self, name) != field.default:
                    raise ValueError(f"{name}: has no effect with shards, it says how `tables` are tokenized. Leave it out")
        if self.system is not None and not self.system.isascii() and any(0xD800 <= ord(letter) < 0xE000 for letter in self.system):
            raise ValueError("system: has half a surrogate pair in it, which is no text. Correct it")
        count = 0 if self.tables else len(self.dirs)
        if self.weights is not None and len(self.weights) != count:
            raise ValueError(f"weights: {len(self.weights)} for {count} shard directories; give each of them one")
        if self.eval is not None and self.holdout:
            raise ValueError("give either `eval` or `holdout`: each says what the model is measured on")
        return self

    @property
    def dirs(self) -> tuple[str, ...]:
        """The shard directories; of tables where they will be."""
        if self.shards is None:
            return (f"{self.prepared}/shards",)
        return (self.shards,) if isinstance(self.shards, str) else self.shards

    @property
    def heldout(self) -> str | None:
        """The shard directory to measure on."""
        return f"{self.prepared}/shards/heldout" if self.tables and self.holdout else self.eval


class LoraRecipe(Model):
    """Low-rank updates beside frozen matrices (Hu et al. 2021); of `qlora` too, whose matrices are 4-bit (Dettmers et al. 2023)."""

    r: int = Field(default=16, gt=0, le=1 << 16)
    alpha: float = Field(default=32.0, gt=0, le=1e6)  # the update is multiplied by alpha / r
    dropout: float = Field(default=0.0, ge=0, lt=1)
    # Names of modules (their last part, such as q_proj), or all-linear: every linear layer but the output matrix.
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"
    dora: bool = False  # magnitude and direction apart (Liu et al. 2024)
    rslora: bool = False  # alpha / sqrt(r) instead (Kalajdzievski 2023)


class PromptRecipe(Model):
    """Trained vectors before every document (Lester et al. 2021)."""

    tokens: int = Field(default=20, gt=0, le=1 << 16)
    # `vocabulary`: embeddings of random tokens; `random`: noise of their size; any other text: the embeddings of its tokens, repeated.
    init: str = Field(default="vocabulary", min_length=1)


class PrefixRecipe(Model):
    """Trained keys and values before every document, in every layer (P-Tuning v2, Liu et al. 2021)."""

    tokens: int = Field(default=20, gt=0, le=1 << 16)
    projection: bool = False  # they come out of a small network, which is thrown away after training


class BatchRecipe(Model):
    """Rows (or tokens) of one optimizer step over all processes together: their number never changes the result."""

    rows: int | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)  # a multiple of the shards' seq_len
    micro_rows: int = Field(default=8, gt=0)  # rows a process computes at once: memory, not meaning

    @model_validator(mode="after")
    def _one_size(self) -> BatchRecipe:
        if (self.rows is None) == (self.tokens is None):
            raise ValueError("give either `rows` or `tokens`")
        return self


class OptimRecipe(Model):
    # adamw8bit, lion8bit, ademamix8bit: bitsandbytes, moments of 8 bits; muon: orthogonal momentum for hidden matrices, adamw for the rest
    name: Literal["adamw", "adamw8bit", "lion8bit", "ademamix8bit", "muon"] = "adamw"
    lr: float = Field(gt=0, le=1e6)
    schedule: Literal["wsd", "cosine", "constant"] = "wsd"
    warmup: Steps | Share = 0.02  # steps, or a share of the run when below 1 and written with a point
    cooldown: Steps | Share = 0.2  # of wsd: the last steps, lr falls as 1 - sqrt
    final: float = Field(default=0.0, ge=0, le=1)  # lr at the end of cosine and wsd, as a share of lr
    weight_decay: float = Field(default=0.1, ge=0, le=1e6)  # of matrices; vectors (norms, biases) have none
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0, le=1e6)
    clip: float | None = Field(default=1.0, gt=0, le=1e30)  # norm of the gradient; null = no clipping


class RunRecipe(Model):
    dir: str = Field(min_length=1)
    steps: int | None = Field(default=None, gt=0)
    epochs: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)
    save_every: int | None = Field(default=None, gt=0)  # steps; null = at the end alone
    eval_every: int | None = Field(default=None, gt=0)  # steps; null = before and after
    keep: int = Field(default=2, gt=0)  # newest checkpoints
    resume: Literal["auto", "never", "must"] = "auto"
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    compile: bool = False  # each layer: some minutes before the first step, faster after it
    activation_checkpointing: bool = False  # layers are computed again in the backward pass: less memory, a third more time, same result
    log_every: int = Field(default=1, gt=0)
    peak_flops: float | None = Field(default=None, gt=0)  # of one device, for mfu; null = known GPUs alone
    on_bad_step: Literal["stop", "skip"] = "stop"  # a loss or gradient that is no number, or a spike
    spike: float | None = Field(default=None, gt=1)  # a loss this many times the median of the last 50 steps; null = no loss is one
    max_skips: int = Field(default=5, gt=0)  # in a row; then the run stops
    page_every: float = Field(default=20.0, gt=0)  # seconds between two writings of RUN/index.html
    log_to: tuple[Literal["tensorboard", "wandb"], ...] = ()  # beside metrics.jsonl

    @model_validator(mode="after")
    def _one_length(self) -> RunRecipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either `steps` or `epochs`")
        return self


class TrainRecipe(Model):
    stage: str
    model: ModelRecipe
    data: DataRecipe
    tune: str = "full"
    lora: LoraRecipe | None = None  # of tune lora and qlora; null = its defaults
    prompt: PromptRecipe | None = None
    prefix: PrefixRecipe | None = None
    rewards: tuple[RewardRecipe, ...] = ()  # of stage ppo, grpo and rloo: what an answer earns, summed by weight
    reward: RewardModelRecipe | None = None  # of stage reward, and so on: the section that is called as its stage; null = its defaults
    ppo: PpoRecipe | None = None
    dpo: DpoRecipe | None = None
    kto: KtoRecipe | None = None
    grpo: GrpoRecipe | None = None
    rloo: RlooRecipe | None = None
    batch: BatchRecipe
    optim: OptimRecipe
    run: RunRecipe

    @field_validator("stage")
    @classmethod
    def _known_stage(cls, stage: str) -> str:
        if stage not in STAGES:
            raise ValueError(f"there is no stage '{stage}': {nearest(stage, STAGES)}")
        return stage

    @field_validator("tune")
    @classmethod
    def _known_tune(cls, tune: str) -> str:
        if tune not in TUNES:
            raise ValueError(f"there is no tuning '{tune}': {nearest(tune, TUNES)}")
        return tune

    @model_validator(mode="after")
    def _stage_fits(self) -> TrainRecipe:
        for name in ALIGN:
            if getattr(self, name) is not None and name != self.stage:
                raise ValueError(f"{name}: has no effect in stage {self.stage}. Leave it out, or set stage to {name}")
        if bool(self.rewards) != (self.stage in SAMPLING):
            if self.rewards:
                raise ValueError(f"rewards: nothing is sampled in stage {self.stage}. Leave it out, or set stage to {', '.join(SAMPLING)}")
            raise ValueError(f"rewards: stage {self.stage} needs to know what an answer earns: [{{model: RUN}}], a function or a grader")
        names = [one.shown for one in self.rewards]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"rewards: two of them are called '{twice}' in metrics and rollouts. Give each a `name` of its own")
        if self.stage in ALIGN and not self.data.tables:
            raise ValueError(f"data.shards: stage {self.stage} learns from tables of feedback or prompts. Name them in data.tables")
        return self

    @model_validator(mode="after")
    def _tables_fit(self) -> TrainRecipe:
        if not self.data.tables:
            return self
        if self.stage == "pt":
            raise ValueError(
                f"data.tables: are instructions, for stage sft; stage {self.stage} reads data.shards. Make a corpus of the tables with "
                "codedev corpus build and shards with codedev tokenize, or set stage to sft"
            )
        if self.model.path is None and self.data.tokenizer is None:
            raise ValueError("data.tokenizer: model.config has no tokenizer to read the tables with. Name the folder of one")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> TrainRecipe:
        for name in sorted(set(SECTIONS.values())):
            if getattr(self, name) is not None and SECTIONS.get(self.tune) != name:
                users = " or ".join(tune for tune, section in SECTIONS.items() if section == name)
                raise ValueError(f"{name}: has no effect with tune: {self.tune}. Leave it out, or set tune to {users}")
        if self.tune == "full":
            return self
        if self.model.path is None:
            raise ValueError(
                f"tune: {self.tune} leaves the model's weights as they are, and model.config makes random ones: give model.path"
            )
        if self.tune in ("prompt", "prefix"):
            if self.run.parallel == "fsdp":
                raise ValueError(
                    f"run.parallel: with fsdp every process calls the model as often as the others, with tune: {self.tune} as often as its "
                    "documents need. Set it to ddp or auto"
                )
            if self.model.attn in ("varlen", "flex", "flash_attention_2"):
                raise ValueError(
                    f"model.attn: {self.model.attn} has no place before each document for what tune: {self.tune} trains. Set it to sdpa"
                )
            if self.tune == "prefix" and self.run.activation_checkpointing:
                raise ValueError(
                    "run.activation_checkpointing: a layer that is computed again gets no keys and values from before the document, which "
                    "are what tune: prefix trains. Set it to false, or use tune: prompt"
                )
            if self.run.compile:
                raise ValueError(
                    f"run.compile: documents are computed one by one with tune: {self.tune}, in ever new shapes. Set it to false"
                )
        return self

    @property
    def method(self) -> LoraRecipe | PromptRecipe | PrefixRecipe | None:
        """What the recipe says of its tuning, defaults filled in; None for full."""
        if self.tune == "full":
            return None
        makers = {"lora": LoraRecipe, "prompt": PromptRecipe, "prefix": PrefixRecipe}
        section = SECTIONS[self.tune]
        found: LoraRecipe | PromptRecipe | PrefixRecipe = getattr(self, section) or makers[section]()
        return found


def step_rows(recipe: TrainRecipe, seq_len: int) -> int:
    """Rows of one step over all processes."""
    tokens = recipe.batch.tokens or 0
    if tokens % seq_len:
        near = max(1, round(tokens / seq_len)) * seq_len
        raise RecipeError(f"batch.tokens: {tokens} is no multiple of the shards' seq_len {seq_len}. Nearest: {near}")
    rows = recipe.batch.rows or tokens // seq_len
    if rows > MAX_STEP_ROWS:
        raise RecipeError(
            f"batch: a step of {rows:,} rows is too large; at most {MAX_STEP_ROWS:,}. "
            f"Lower batch.{'rows' if recipe.batch.rows else 'tokens'}"
        )
    return rows


def run_steps(recipe: TrainRecipe, rows: int, rows_a_step: int) -> int:
    """Steps of the run; `epochs` is rounded up, so that every one of the `rows` is seen."""
    if recipe.run.steps is not None:
        return recipe.run.steps
    steps = (recipe.run.epochs or 0) * rows / rows_a_step
    if steps > 1 << 53:
        raise RecipeError(f"run.epochs: {recipe.run.epochs:g} of {rows:,} rows are {steps:.3g} steps, more than can be counted. Lower it")
    return max(1, math.ceil(steps))


def relocated(recipe: TrainRecipe, move: Any) -> TrainRecipe:
    """`recipe` with `move(path: str) -> str` applied to every path in it."""
    model = recipe.model.model_copy(update={"path": move(recipe.model.path)} if recipe.model.path else {})
    given = recipe.data
    moved: dict[str, Any] = {name: move(path) for name in ("eval", "tokenizer", "prepared") if (path := getattr(given, name)) is not None}
    if given.shards is not None:
        moved["shards"] = tuple(move(path) for path in given.dirs)
    if given.template is not None and (given.template.endswith((".jinja", ".jinja2", ".j2")) or "/" in given.template):
        moved["template"] = move(given.template)
    data = given.model_copy(update={**moved, "tables": tuple(table.relocated(move) for table in given.tables)})
    rewards = tuple(source.relocated(move) for source in recipe.rewards)
    run = recipe.run.model_copy(update={"dir": move(recipe.run.dir)})
    return recipe.model_copy(update={"model": model, "data": data, "rewards": rewards, "run": run})


def absolute(recipe: TrainRecipe, base: Path) -> TrainRecipe:
    """`recipe` with every path made absolute from `base`, and data.prepared filled in for tables."""

    def placed(path: str) -> str:
        if "\0" in path:
            raise RecipeError(f"{path!r}: no path has a NUL in it. Correct it in the recipe")
        if any(len(part.encode(errors="replace")) > 255 for part in Path(path).parts):
            raise RecipeError(f"{path[:60]}…: no file has a name of more than 255 bytes. Correct it in the recipe")
        return str((base / Path(path).expanduser()).resolve())

    moved = relocated(recipe, placed)
    if recipe.model.path is not None:  # which may be of the hub
        moved = moved.model_copy(update={"model": moved.model.model_copy(update={"path": located(recipe.model.path, base)})})
    recipe = moved
    if not recipe.data.tables or recipe.data.prepared is not None:
        return recipe
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"prepared": str(Path(recipe.run.dir, "data"))})})
