"""Boosted trees of one depth: the sum of the leaves that a row falls into, 25 ns a tree and row.

A tree is stored whole, as a heap: the children of node n are 2n+1 and 2n+2, and branches that end early go on with both sides alike. So
every walk has the same length and no branch to guess. A row goes right where its feature is greater than the threshold. Does not know
missing values or categories; to LightGBM, a value nearer to 0 than 1e-35 is 0, here it is not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

DEPTH = 4
_INNER, _LEAVES = (1 << DEPTH) - 1, 1 << DEPTH


class Trees(NamedTuple):
    feature: np.ndarray  # uint16[trees, 15]
    threshold: np.ndarray  # float32[trees, 15]
    leaf: np.ndarray  # float32[trees, 16]
    worth: np.ndarray  # float32[trees, 15]: of each node, the mean of the leaves below it, by what fell into them in learning


_u16, _f32 = numba.types.Array(numba.uint16, 2, "C", readonly=True), numba.types.Array(numba.float32, 2, "C", readonly=True)


@numba.njit(inline="always")
def _child(node: Any, right: Any) -> Any:
    return (node << numba.uintp(1)) + numba.uintp(1) + numba.uintp(right)


@numba.njit(numba.void(_u16, _f32, _f32, _f32, numba.float32[::1]), nogil=True, cache=True)
def _sums(feature: Any, threshold: Any, leaf: Any, table: Any, out: Any) -> None:
    rows = len(table)
    for a in range(0, rows, 4):  # four walks side by side, so that one does not wait for the other's memory
        b, c, d = min(a + 1, rows - 1), min(a + 2, rows - 1), min(a + 3, rows - 1)
        sum_a = sum_b = sum_c = sum_d = numba.float32(0)
        for tree in range(len(feature)):
            node_a = node_b = node_c = node_d = numba.uintp(0)  # unsigned: a signed index would be checked for its sign
            for _ in range(DEPTH):
                node_a = _child(node_a, table[a, feature[tree, node_a]] > threshold[tree, node_a])
                node_b = _child(node_b, table[b, feature[tree, node_b]] > threshold[tree, node_b])
                node_c = _child(node_c, table[c, feature[tree, node_c]] > threshold[tree, node_c])
                node_d = _child(node_d, table[d, feature[tree, node_d]] > threshold[tree, node_d])
            sum_a += leaf[tree, node_a - numba.uintp(_INNER)]
            sum_b += leaf[tree, node_b - numba.uintp(_INNER)]
            sum_c += leaf[tree, node_c - numba.uintp(_INNER)]
            sum_d += leaf[tree, node_d - numba.uintp(_INNER)]
        out[d], out[c], out[b], out[a] = sum_d, sum_c, sum_b, sum_a


def probabilities(trees: Trees, table: np.ndarray) -> np.ndarray:
    """float32[rows] between 0 and 1, of a float32[rows, features]: the logistic function of the sums."""
    sums = np.empty(len(table), np.float32)
    _sums(trees.feature, trees.threshold, trees.leaf, table, sums)
    return 1 / (1 + np.exp(-sums))


def flatten(model: dict[str, Any]) -> Trees:
    """Trees of a LightGBM model no deeper than DEPTH, as its `dump_model` gives it. Thresholds are rounded down, so that a float32 falls
    as it did there."""
    count = len(model["tree_info"])
    inner, leaves = (count, _INNER), (count, _LEAVES)
    trees = Trees(np.zeros(inner, np.uint16), np.zeros(inner, np.float32), np.zeros(leaves, np.float32), np.zeros(inner, np.float32))

    def place(number: int, at: int, node: dict[str, Any]) -> tuple[float, int]:
        """The sum of the leaves below, and how many rows fell into them."""
        if "leaf_value" in node:
            value, rows = float(node["leaf_value"]), max(1, int(node.get("leaf_count", 1)))
            if at >= _INNER:
                trees.leaf[number, at - _INNER] = value
            else:
                trees.worth[number, at] = value
                place(number, 2 * at + 1, node)
                place(number, 2 * at + 2, node)
            return value * rows, rows
        wanted = float(node["threshold"])
        rounded = np.float32(wanted)
        trees.feature[number, at] = node["split_feature"]
        trees.threshold[number, at] = np.nextafter(rounded, np.float32(-np.inf)) if float(rounded) > wanted else rounded
        left, left_rows = place(number, 2 * at + 1, node["left_child"])
        right, right_rows = place(number, 2 * at + 2, node["right_child"])
        trees.worth[number, at] = (left + right) / (left_rows + right_rows)
        return left + right, left_rows + right_rows

    for number, tree in enumerate(model["tree_info"]):
        place(number, 0, tree["tree_structure"])
    return trees


def check(trees: Trees, features: int) -> None:
    """ValueError where a walk could leave the arrays."""
    count = len(trees.feature) if trees.feature.ndim else 0
    if any(array.shape != (count, _INNER) for array in (trees.feature, trees.threshold, trees.worth)) or trees.leaf.shape != (
        count,
        _LEAVES,
    ):
        raise ValueError("its trees have another depth")
    if trees.feature.dtype != np.uint16 or any(array.dtype != np.float32 for array in trees[1:]):
        raise ValueError("its trees are of other types")
    if not all(array.flags.c_contiguous for array in trees):
        raise ValueError("its trees lie in another order")
    if np.isnan(trees.threshold).any() or not (np.isfinite(trees.leaf).all() and np.isfinite(trees.worth).all()):
        raise ValueError("its trees hold what is no number")
    if (trees.feature >= features).any():
        raise ValueError(f"a tree asks for a feature beyond {features}")
