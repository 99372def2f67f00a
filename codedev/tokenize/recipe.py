"""What `codedev tokenize` makes of a corpus, as data. Every key has a default; samples/recipes/tokenize.yaml shows them all."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from codedev._recipe import Model
from codedev.corpus.document import KINDS

Mode = Literal["pt", "sft", "preference", "prompt"]
Overlong = Literal["split", "truncate", "drop", "error"]
Packing = Literal["best-fit", "concatenate"]
Share = Annotated[float, Field(ge=0, le=1)]


Steps = tuple[tuple[float, float], ...]  # (from this value on, factor), …


class FimRecipe(Model):
    """Fill in the middle (Bavarian et al. 2022): documents cut at two random characters, the middle told last."""

    rate: Share = 0.5  # of documents, or of their pieces where they are longer than a row
    spm: Share = 0.5  # of those: the suffix first (SPM), else the prefix first (PSM)
    kinds: tuple[str, ...] = ("code",)

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"there is no kind of document '{kind}'; there are {', '.join(KINDS)}")
        return kinds


class ChatRecipe(Model):
    """How a conversation becomes text, and which of it carries loss."""

    template: str = "chatml"  # a built-in name, a file.jinja, or `tokenizer`: the tokenizer directory's own
    train_on: Literal["assistant", "last", "all"] = "assistant"
    system: str | None = None  # of conversations without one
    plain: bool = False  # documents that are no conversation are learned as they are; else they are dropped


class MixtureRecipe(Model):
    """How often each document stands in the shards. Without it each stands once."""

    by: Literal["source", "lang", "kind"] = "source"
    # Shares of the tokens; those not named keep their natural proportion.
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    # How often; 2.5: twice, and half of the documents once more.
    epochs: dict[str, Annotated[float, Field(ge=0, le=1000)]] = Field(default_factory=dict)
    temperature: float | None = Field(default=None, gt=0, le=100)  # shares = natural shares ^ (1 / temperature)
    tokens: int | None = Field(default=None, gt=0)  # of the whole mixture
    max_epochs: float = Field(default=4.0, gt=0, le=1000)  # no document more often than this (Muennighoff et al. 2023)
    quality: dict[str, Steps] = Field(default_factory=dict)  # column q.NAME: [[from this value on, factor], …]
    cluster_size: Steps = ()  # [[from so many near-duplicates on, factor], …]

    @model_validator(mode="after")
    def _one_way(self) -> MixtureRecipe:
        given = [name for name in ("weights", "epochs", "temperature") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}: each decides the shares")
        if self.weights and not any(self.weights.values()):
            raise ValueError("weights: every weight is 0, give one of them more")
        for name, steps in (*((f"quality.{key}", value) for key, value in self.quality.items()), ("cluster_size", self.cluster_size)):
            if any(factor < 0 or factor > 1000 for _, factor in steps):
                raise ValueError(f"{name}: a factor is from 0 to 1000")
        return self


class TokenizeRecipe(Model):
    mode: Mode = "pt"  # pt: whole documents; sft: conversations with loss spans; preference, prompt: tables for reward, DPO, PPO
    seq_len: int = Field(default=2048, ge=8, lt=1 << 31)  # tokens of a row
    overlong: Overlong | None = None  # documents longer than a row: null = split in mode pt, truncate in the others
    packing: Packing = "best-fit"
    holdout: float = Field(default=0.0, ge=0, lt=1)  # share of documents kept for evaluation, by their ids
    seed: int = 0
    kind_prefix: bool = False  # <|doc_code|>, <|doc_web|>, … before each document, where the tokenizer has them
    residues: bool = True  # proteins, DNA and RNA: one token a residue between markers, where the tokenizer has them
    repository: bool = True  # documents made of a repository's files: <|repo_name|>, <|file_sep|> for the lines that name files
    fim: FimRecipe | None = None
    chat: ChatRecipe = ChatRecipe()
    mixture: MixtureRecipe | None = None

    @model_validator(mode="after")
    def _fits(self) -> TokenizeRecipe:
        if self.mode == "pt" and self.overlong == "error":
            raise ValueError("overlong: error is for conversations; documents are split, truncated or dropped")
        if self.mode != "pt" and (self.fim or self.kind_prefix):
            raise ValueError(f"fim and kind_prefix are for mode pt, not {self.mode}")
        if self.fim and self.seq_len < 24:
            raise ValueError(f"fim needs rows of at least 24 tokens, its special ones among them; seq_len is {self.seq_len}")
        if self.mode in ("preference", "prompt") and self.overlong == "split":
            raise ValueError(f"overlong: split has no meaning in mode {self.mode}; choose truncate, drop or error")
        if self.mode in ("preference", "prompt") and self.mixture:
            raise ValueError(f"mixture is for packed rows; mode {self.mode} makes tables, which hold each document once")
        return self

    @property
    def too_long(self) -> Overlong:
        return self.overlong or ("split" if self.mode == "pt" else "truncate")
