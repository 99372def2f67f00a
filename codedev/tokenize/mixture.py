"""The mixture: how often each document stands in the shards.

A document of group g stands `floor(e_g * f + u)` times: e_g the group's epochs, f the document's factor by quality and by the size of its
duplicate cluster, u in [0, 1) a hash of its id and the seed. So 2.3 epochs are every document twice and three in ten once more, the same
ones in every run, and those of fewer epochs are among those of more. A group with a budget of tokens gets the most epochs that stay within
it, found by bisection: it is short of its budget by less than one document, and what is left is handed on to the other groups.

Sources of what is usual: up to four epochs are worth nearly as much as new text (Muennighoff et al. 2023, arXiv 2305.16264); shares by
temperature (Devlin et al. 2019's multilingual BERT; Xue et al. 2021, mT5). Memory: 1 MB for a slice of documents at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from codedev._errors import InputError, nearest
from codedev.tokenize.hashing import held_out, mix
from codedev.tokenize.recipe import MixtureRecipe

_DRAW = 0x6D697874757265
_SLICE = 1 << 16  # units at a time
_HALVINGS = 60
_HANDED_ON, _ENOUGH = 8, 0.001  # times that what is left is handed on; the share of the budget that may be left


class Column(NamedTuple):
    """What the mixture reads of the store, of all units; some are held out and stand in no mixture."""

    counts: np.ndarray  # int64: tokens
    hashes: np.ndarray  # uint64, of the documents' ids
    groups: np.ndarray  # int32: index in `names`
    factors: np.ndarray  # float32
    holdout: float  # the share that is held out


class Mixture(NamedTuple):
    epochs: np.ndarray  # float64[groups]
    most: float  # no document stands more often
    seed: int
    told: dict[str, Any]  # for the manifest: asked and realised


def plan(recipe: MixtureRecipe, columns: Column, names: list[str], seed: int) -> Mixture:
    """The epochs of each group. InputError for a group that the corpus has not, or shares that cannot be."""
    check_names(recipe, names)
    natural = _tokens(columns, np.ones(len(names)), None, seed, len(names), whole=True)
    if not natural.sum():
        raise InputError("mixture: there is no text to mix. See `codedev corpus report` for where it was dropped")
    asked = _epochs(recipe, names) if recipe.epochs else None
    budget = _budgets(recipe, names, natural)
    if asked is not None and recipe.tokens is not None:
        asked = None  # proportions of the whole, not times
    if asked is not None:
        epochs = asked
    else:
        epochs = _within(columns, budget, recipe, seed, len(names))
    realised = _tokens(columns, epochs, recipe.max_epochs, seed, len(names))
    total = int(realised.sum())
    groups = {
        name: {
            "tokens": int(natural[i]),
            "tokens_asked": None if asked is not None else int(budget[i]),
            "epochs": round(float(realised[i] / natural[i]), 6),
            "tokens_mixed": int(realised[i]),
            "share": round(int(realised[i]) / max(1, total), 6),
        }
        for i, name in enumerate(names)
        if natural[i]
    }
    return Mixture(epochs, recipe.max_epochs, seed, {"by": recipe.by, "tokens_asked": recipe.tokens, "tokens": total, "groups": groups})


def check_names(recipe: MixtureRecipe, names: Iterable[str]) -> None:
    """InputError for a group that is not among those of the corpus."""
    for key in ("weights", "epochs"):
        for name in getattr(recipe, key):
            if name not in names:
                raise InputError(f"mixture.{key}: the corpus has no {recipe.by} '{name}': {nearest(name, sorted(names))}")


def copies(mixture: Mixture, columns: Column, at: slice) -> np.ndarray:
    """int64[units of the slice]: how often each stands in the shards; 0 for those held out."""
    return _copies(columns, at, mixture.epochs, mixture.most, mixture.seed)


def _copies(columns: Column, at: slice, epochs: np.ndarray, most: float | None, seed: int) -> np.ndarray:
    times = epochs[columns.groups[at]] * columns.factors[at]
    if most is not None:
        times = np.minimum(times, most)
    drawn = mix(columns.hashes[at], seed ^ _DRAW).astype(np.float64) / 2.0**64
    found: np.ndarray = np.where(held_out(columns.hashes[at], columns.holdout), 0, np.floor(times + drawn)).astype(np.int64)
    return found


def _tokens(columns: Column, epochs: np.ndarray, most: float | None, seed: int, groups: int, *, whole: bool = False) -> np.ndarray:
    """float64[groups]: tokens of each at these epochs; `whole`: of every document once, by its factor."""
    total = np.zeros(groups)
    for at in _slices(len(columns.counts)):
        times = (
            np.where(held_out(columns.hashes[at], columns.holdout), 0, columns.factors[at])
            if whole
            else _copies(columns, at, epochs, most, seed)
        )
        total += np.bincount(columns.groups[at], times * columns.counts[at], groups)  # exact below 2^53 tokens
    return total


def _slices(length: int) -> Iterator[slice]:
    return (slice(begin, min(begin + _SLICE, length)) for begin in range(0, length, _SLICE))


def _epochs(recipe: MixtureRecipe, names: list[str]) -> np.ndarray:
    return np.array([recipe.epochs.get(name, 1.0) for name in names])


def _budgets(recipe: MixtureRecipe, names: list[str], natural: np.ndarray) -> np.ndarray:
    """float64[groups]: tokens that each is to have."""
    shares = natural / natural.sum()
    if recipe.weights:
        named = np.array([name in recipe.weights for name in names]) & (natural > 0)
        given = np.minimum([recipe.weights.get(name, 0.0) for name in names], 1e300) * named  # no sum of them is infinite
        others = shares * ~named
        if others.any():
            if given.sum() >= 1:
                missing = ", ".join(name for name, other in zip(names, others, strict=True) if other)
                raise InputError(
                    f"mixture.weights: they are {given.sum():g} together and leave nothing for {missing}. Give these weights too (0 = "
                    "none), or shares of less than 1 together"
                )
            shares = given + others / others.sum() * (1 - given.sum())
        elif given.any():
            shares = given / given.sum()
        else:
            raise InputError("mixture.weights: every source with text has the weight 0. Give one of them more")
    elif recipe.temperature:
        shares = (shares / shares.max()) ** (1 / recipe.temperature)  # the largest stays 1, however cold
        shares = np.where(natural > 0, shares, 0)
        shares /= shares.sum()
    elif recipe.epochs:
        shares = natural * _epochs(recipe, names)
        if not shares.any():
            raise InputError("mixture.epochs: every source with text stands 0 times. Give one of them more")
        shares /= shares.sum()
    found: np.ndarray = shares * (recipe.tokens or natural.sum())
    return found


def _within(columns: Column, budget: np.ndarray, recipe: MixtureRecipe, seed: int, groups: int) -> np.ndarray:
    """The most epochs that keep each group within its budget. What a group cannot take, as none of its documents may stand more often,
    goes to the others by their shares."""
    limit = _tokens(columns, np.full(groups, 1e9), recipe.max_epochs, seed, groups)
    wanted, full = budget.copy(), np.zeros(groups, np.bool_)
    for _ in range(groups):
        over = ~full & (wanted >= limit)
        spare = float((wanted - limit)[over].sum())
        full |= over
        wanted[over] = limit[over]
        open_ = ~full & (wanted > 0)
        if spare <= 0 or not open_.any():
            break
        wanted[open_] += spare * wanted[open_] / wanted[open_].sum()
    epochs = _most(columns, wanted, recipe, seed, groups)
    # What is left, since the next document of a group is longer than its rest, goes to those that can take it.
    for _ in range(_HANDED_ON):
        realised = _tokens(columns, epochs, recipe.max_epochs, seed, groups)
        spare = float(budget.sum() - realised.sum())
        open_ = (budget > 0) & (realised < limit)
        if spare < _ENOUGH * budget.sum() or not open_.any():
            break
        wanted = realised + np.where(open_, spare * budget / budget[open_].sum(), 0)
        epochs = np.maximum(epochs, _most(columns, wanted, recipe, seed, groups))
    return epochs


def _most(columns: Column, wanted: np.ndarray, recipe: MixtureRecipe, seed: int, groups: int) -> np.ndarray:
    """The most epochs that keep each group within what is wanted of it."""
    low, high = np.zeros(groups), np.where(wanted > 0, 1e9, 0.0)
    fits = _tokens(columns, high, recipe.max_epochs, seed, groups) <= wanted
    low[fits] = high[fits]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = _tokens(columns, middle, recipe.max_epochs, seed, groups) <= wanted
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return low
