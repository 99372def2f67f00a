"""Answers sampled from a model, with the probabilities that they were drawn with.

Each answer has randomness of its own, from (seed, number of the answer): which others it is sampled beside, on how many processes, does
not matter. A token is drawn as the largest of logit / temperature + Gumbel noise, which has the probabilities of a softmax (Gumbel 1954;
Maddison et al. 2014); transformers is asked for the largest, and its caches, prompts and prefixes serve as they are. Nothing is cut off
(no top-k, no top-p): what PPO corrects for is the probability that the policy itself gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList


class Sampled(NamedTuple):
    """Answers to prompts, in their order."""

    ids: list[np.ndarray]  # int64 tokens of each answer, with the one that ended it
    logprobs: list[np.ndarray]  # float32 ln p of each token, at the temperature it was drawn with
    ended: np.ndarray  # (answers,) bool, by a token that ends answers; the others met the limit


class _Draw(LogitsProcessor):
    """Adds the noise of every answer's own generator to its scores, and notes ln p of what was drawn."""

    def __init__(self, seed: int, numbers: Sequence[int], temperature: float, device: torch.device) -> None:
        self._temperature = temperature
        self._generators = [
            torch.Generator(device).manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1)))
            for number in numbers
        ]
        self._logprobs: torch.Tensor | None = None
        self.noted: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.note(input_ids)
        logprobs = (scores.float() / self._temperature).log_softmax(-1)
        noise = torch.stack(
            [
                torch.empty_like(logprobs[row], dtype=torch.float64).exponential_(generator=generator)
                for row, generator in enumerate(self._generators)
            ]
        )
        self._logprobs = logprobs
        return (logprobs - noise.log()).to(torch.float64)  # float32 would draw the same of two rare tokens too often

    def note(self, input_ids: torch.Tensor) -> None:
        """ln p of the newest tokens of `input_ids`, which were drawn from the last scores."""
        if self._logprobs is not None:
            self.noted.append(self._logprobs.gather(-1, input_ids[:, -1:])[:, 0])


@torch.no_grad()
def sample(
    model: Any,
    prompts: Sequence[np.ndarray],
    numbers: Sequence[int],
    *,
    seed: int,
    max_tokens: int,
    stop: Sequence[int],
    pad: int,
    temperature: float = 1.0,
    batch: int = 64,
) -> Sampled:
    """An answer to each prompt (int64 tokens), of at most `max_tokens`, ended by one of the `stop` tokens.

    `numbers`: of each answer, all different, which with `seed` decide what is drawn. `batch`: answers sampled together: memory, not
    meaning. The model is left in the mode (training or not) that it was in.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        order = np.argsort([len(prompt) for prompt in prompts], kind="stable")  # of like length: little padding
        ids: list[Any] = [None] * len(prompts)
        logprobs: list[Any] = [None] * len(prompts)
        ended = np.zeros(len(prompts), bool)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch].tolist()
            made, noted = _batch(
                model, [prompts[i] for i in chosen], [numbers[i] for i in chosen], seed, max_tokens, stop, pad, temperature, device
            )
            for row, place in enumerate(chosen):
                ends = np.flatnonzero(np.isin(made[row], stop))
                length = int(ends[0]) + 1 if len(ends) else made.shape[1]
                ids[place], logprobs[place], ended[place] = made[row, :length], noted[row, :length], bool(len(ends))
    finally:
        model.train(training)
    return Sampled(ids, logprobs, ended)


def _batch(
    model: Any,
    prompts: list[np.ndarray],
    numbers: list[int],
    seed: int,
    max_tokens: int,
    stop: Sequence[int],
    pad: int,
    temperature: float,
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """(answers, tokens) ids and ln p of one batch; what follows a stop token is padding."""
    longest = max(map(len, prompts))
    given = np.full((len(prompts), longest), pad, np.int64)
    mask = np.zeros((len(prompts), longest), np.int64)
    for row, prompt in enumerate(prompts):
        given[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    draw = _Draw(seed, numbers, temperature, device)
    out = model.generate(
        input_ids=torch.from_numpy(given).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        max_new_tokens=max_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=list(stop),
        pad_token_id=pad,
        logits_processor=LogitsProcessorList([draw]),
        # What a model's own file says of generation would change what is drawn.
        temperature=None, top_p=None, top_k=None, min_p=None, typical_p=None, repetition_penalty=None, no_repeat_ngram_size=None,
    )  # fmt: skip
    draw.note(out)
    return out[:, longest:].cpu().numpy(), torch.stack(draw.noted, 1).cpu().numpy()
