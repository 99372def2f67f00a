"""What a model must do to be evaluated: text in, text and numbers out. No torch: `codedev.train.use.lm` has it for local models,
`codedev.eval.endpoint` for servers that speak OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from codedev._run import Progress


class Continued(NamedTuple):
    """What a model thinks of a text after another."""

    nats: float  # -ln p(text | what stands before)
    tokens: int
    greedy: bool  # whether it is what the model would have written, taking the likeliest token each time


class Read(NamedTuple):
    """What a model thinks of a document."""

    bits: float  # of all of it: see perplexity.py
    tokens: int


class Sampling(NamedTuple):
    n: int = 1  # answers to each prompt
    max_tokens: int = 512
    temperature: float = 0.0  # 0: the likeliest token each time
    top_p: float = 1.0
    seed: int = 0
    stops: tuple[str, ...] = ()  # an answer ends before the first of them


class Answer(NamedTuple):
    text: str
    tokens: int
    why: str  # it ended: end, stop or length


class LM(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> str:
        """A hash of whatever decides its answers: weights and tokenizer, or the address and name of a served one."""
        ...

    def continued(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> list[Continued]:
        """Of each (before, text). The tokens of both are those of the whole; `text` holds at least one."""
        ...

    def read(self, texts: Sequence[str], window: int, progress: Progress) -> list[Read]:
        """Of each document alone, with the token that ends it. `window`: the most tokens seen at once; 0: as many as the model can."""
        ...

    def write(self, prompts: Sequence[str], sampling: Sampling, progress: Progress, *, first: int = 0) -> list[list[Answer]]:
        """`sampling.n` answers to each prompt. `first`: the number of the first prompt in its task, so that what is drawn does not depend
        on how a task is cut."""
        ...
