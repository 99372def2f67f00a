"""Reasons for a block's score: they add up to it, and each can be said in words."""

from __future__ import annotations

import numpy as np

from codedev.corpus.extract import content, explain, html
from codedev.kernels import trees
from codedev.kernels.blockfeatures import FEATURES

PAGE = (
    "<nav><ul><li><a href=a>Home</a><li><a href=b>News</a></ul></nav><article><h1>Tides</h1>"
    + "<p>The sea comes twice a day, as the moon has it, and the harbour waits for it with its ropes slack.</p>" * 5
    + "</article><footer class=footer>Copyright, all rights reserved</footer>"
)


def test_contributions_add_up_to_the_score() -> None:
    model = content.shipped_model()
    page = html.prepare(PAGE.encode())
    table = content.features(page.tape, page.blocks, page.title)
    sums = explain.contributions(model.trees, table).sum(axis=1) + explain.base(model.trees)
    scores = trees.probabilities(model.trees, table)
    assert np.allclose(1 / (1 + np.exp(-sums)), scores, atol=1e-5)


def test_every_feature_can_be_said() -> None:
    for value in (-999.0, -1.0, 0.0, 0.4, 1.0, 2.0, 20.0, 1e6):
        row = np.full(len(FEATURES), value, np.float32)
        row[[FEATURES.index("first"), FEATURES.index("last")]] = min(max(value, 0), 5)
        row[[n for n, name in enumerate(FEATURES) if name.startswith("tag")]] = 1
        assert all(explain.phrase(feature, row) for feature in range(len(FEATURES)))


def test_the_strongest_reason_comes_first() -> None:
    page = html.prepare(PAGE.encode())
    table = content.features(page.tape, page.blocks, page.title)
    for told in explain.reasons(content.shipped_model(), table, most=3):
        assert 1 <= len(told) <= 3
        assert [abs(given) for _, _, given in told] == sorted((abs(given) for _, _, given in told), reverse=True)
        assert {name for name, _, _ in told} <= set(FEATURES)


def test_both_sides_are_heard() -> None:
    """What speaks against the score is named too, where anything does: found by adding up every feature of a group by hand."""
    page = html.prepare(PAGE.encode())
    table = content.features(page.tape, page.blocks, page.title)
    model = content.shipped_model()
    everything = explain.reasons(model, table, most=len(FEATURES))
    for few, whole in zip(explain.reasons(model, table, most=4), everything, strict=True):
        assert {given > 0 for _, _, given in few} == {given > 0 for _, _, given in whole}
        assert few[:3] == whole[:3]


def test_shares_are_said_in_words() -> None:
    row = np.zeros(len(FEATURES), np.float32)
    share = FEATURES.index("link_share")
    for value, words in (
        (0, "none of its text is links"),
        (0.001, "less than 1 %"),
        (0.5, "50 %"),
        (0.999, "almost all"),
        (1, "all of its text"),
    ):
        row[share] = value
        assert explain.phrase(share, row).startswith(words)
