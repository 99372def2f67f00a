"""Boosted trees of one depth: the sum of the leaves that a row falls into, 4 ns a tree and row.

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


_ROWS = 16  # walks side by side: as many float32 as the widest registers hold
_int = numba.int32


@numba.njit(numba.void(_u16, _f32, _f32, _f32, numba.float32[::1]), nogil=True, cache=True)
def _sums(feature: Any, threshold: Any, leaf: Any, table: Any, out: Any) -> None:
    """Every comparison of a tree is made for all rows of a group, and which of them counts is chosen after: without a branch or an address
    that waits for the one above, a compiler makes each a single instruction for the group."""
    rows, features = len(table), table.shape[1]
    columns = np.empty((features, _ROWS), np.float32)
    sums = np.empty(_ROWS, np.float32)
    leaves = np.empty(_ROWS, np.int32)
    for start in range(0, rows, _ROWS):
        held = min(_ROWS, rows - start)
        for row in range(_ROWS):
            source = table[start + min(row, held - 1)]
            for column in range(features):
                columns[column, row] = source[column]
        for row in range(_ROWS):
            sums[row] = numba.float32(0)
        for tree in range(len(feature)):
            f, t, values = feature[tree], threshold[tree], leaf[tree]
            c0, c1, c2, c3, c4 = columns[f[0]], columns[f[1]], columns[f[2]], columns[f[3]], columns[f[4]]
            c5, c6, c7, c8, c9 = columns[f[5]], columns[f[6]], columns[f[7]], columns[f[8]], columns[f[9]]
            c10, c11, c12, c13, c14 = columns[f[10]], columns[f[11]], columns[f[12]], columns[f[13]], columns[f[14]]
            t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
            t8, t9, t10, t11, t12, t13, t14 = t[8], t[9], t[10], t[11], t[12], t[13], t[14]
            for row in range(_ROWS):
                top = _int(c0[row] > t0)
                left, right = _int(c1[row] > t1), _int(c2[row] > t2)
                second = left + top * (right - left)
                n3, n4, n5, n6 = _int(c3[row] > t3), _int(c4[row] > t4), _int(c5[row] > t5), _int(c6[row] > t6)
                left, right = n3 + second * (n4 - n3), n5 + second * (n6 - n5)
                third = left + top * (right - left)
                n7, n8, n9, n10 = _int(c7[row] > t7), _int(c8[row] > t8), _int(c9[row] > t9), _int(c10[row] > t10)
                n11, n12, n13, n14 = _int(c11[row] > t11), _int(c12[row] > t12), _int(c13[row] > t13), _int(c14[row] > t14)
                a, b, c, d = n7 + third * (n8 - n7), n9 + third * (n10 - n9), n11 + third * (n12 - n11), n13 + third * (n14 - n13)
                left, right = a + second * (b - a), c + second * (d - c)
                leaves[row] = 8 * top + 4 * second + 2 * third + left + top * (right - left)
            for row in range(_ROWS):
                sums[row] += values[numba.uintp(leaves[row])]
        for row in range(held):
            out[start + row] = sums[row]


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
