"""Signs that sampling and rewarding go wrong, told once each on the run page, in metrics and, where the recipe says so, by ending the run.

    kl          an answer lies further from the reference than max_kl
    ends        nearly no answer ends by itself
    repetition  answers say the same over and over
    entropy     the policy has nearly made up its mind: nothing new will be sampled
    gamed       the reward rises while a part of it falls, or while answers grow to twice their length
    alike       answers earn the same as those they are judged against: nothing is learned

What it knows of earlier updates is a plain dictionary, part of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from codedev.train.loop import OutsideError

FIRST = 10  # updates that later ones are compared with
_ENDS, _REPEATED, _ENTROPY, _ALIKE = 0.95, 0.5, 0.05, 0.98
_WATCHED = ("reward", "entropy", "answer_tokens", "reward_std", "groups_alike")


def raised(known: dict[str, Any], row: dict[str, Any], max_kl: float, stage: str = "ppo") -> list[str]:
    """What is to be said after the update of `row`; `known` is changed. Each kind is said once."""
    price = "ppo.kl.coef" if stage == "ppo" else f"{stage}.beta"
    begun = known.setdefault("first", {})
    seen = known["seen"] = known.get("seen", 0) + 1
    watched = [name for name in row if name in _WATCHED or name.startswith("reward/")]
    for name in watched:
        if seen <= FIRST:
            begun[name] = begun.get(name, 0.0) + row[name] / FIRST
        late = known.setdefault("late", {})
        late[name] = 0.8 * late.get(name, row[name]) + 0.2 * row[name]
    found = {}
    if row.get("kl", 0.0) > max_kl:
        found["kl"] = (
            f"answers lie {row['kl']:.3g} nats from the reference, above {stage}.max_kl {max_kl:g}. Raise {price}, or lower optim.lr"
        )
    if row["unended"] >= _ENDS:
        found["ends"] = f"{row['unended']:.0%} of the answers meet {stage}.max_tokens before they end. Raise it" + (
            ", or what a missing end costs (ppo.missing_end)" if stage == "ppo" else ", or let what they earn depend on their end"
        )
    if row["repetition"] > _REPEATED:
        found["repetition"] = f"{row['repetition']:.0%} of what answers say they have said before. Look at the rollouts"
    if seen > FIRST:
        late = known["late"]
        if late.get("groups_alike", float(late["reward_std"] < 1e-9)) > _ALIKE:
            found["alike"] = (
                f"nearly all answers to a prompt earn the same, {late['reward']:.4g}, so that nothing is learned. Look whether `rewards` "
                "tell them apart, or whether all is learned"
            )
        if late["entropy"] < _ENTROPY * begun["entropy"]:
            found["entropy"] = (
                f"the entropy of a token fell to {late['entropy']:.3g} nats, at first {begun['entropy']:.3g}: little new is sampled. Raise "
                + (f"{price} or ppo.entropy_coef" if stage == "ppo" else price)
            )
        up = late["reward"] - begun["reward"]
        if up > begun["reward_std"]:
            for name in watched:
                if name.startswith("reward/") and begun[name] - late[name] > 0.5 * begun["reward_std"]:
                    part = name.removeprefix("reward/")
                    found["gamed"] = f"the reward rose by {up:.3g} while its part {part} fell to {late[name]:.3g}. Look whether it is gamed"
            if late["answer_tokens"] > 2 * begun["answer_tokens"]:
                found["gamed"] = f"the reward rose by {up:.3g} while answers grew to twice their length. Look whether it pays for length"
    said = known.setdefault("said", [])
    new = [words for kind, words in found.items() if kind not in said]
    said += [kind for kind in found if kind not in said]
    return new


def stopped(step: int, said: list[str], stage: str) -> OutsideError:
    """What ends a run of which alarms are to end it; what it has learned is saved."""
    return OutsideError(
        f"update {step}: {' '.join(said)} The run ends by {stage}.on_alarm; what it has learned is in its newest checkpoint"
    )


def repetition(answers: Sequence[np.ndarray], size: int = 4) -> tuple[int, int]:
    """(`size`-grams of tokens that an answer has had before, all of them), over all answers."""
    total = repeated = 0
    for ids in answers:
        if len(ids) >= size:
            grams = np.lib.stride_tricks.sliding_window_view(ids, size)
            total += len(grams)
            repeated += len(grams) - len(np.unique(grams, axis=0))
    return repeated, total
