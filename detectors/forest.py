"""Isolation forests as arrays: grown by scikit-learn, walked by a kernel, 7 bytes a node.

Liu, Ting and Zhou, "Isolation Forest" (ICDM 2008). The anomaly score is ``2 ** (-mean depth / c)`` in (0, 1],
which is minus scikit-learn's ``score_samples``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.arena import Arena
from detectors.batch import Artifact, Tail
from detectors.protocol import F32, F64
from detectors.rows import Rows
from detectors.tables import Tables

NODE: Final = np.dtype(
    [
        ("cut", "f4"),  # of a leaf: the path length it stands for
        ("right", "u2"),  # within the tree; the left child is the next node
        ("feature", "i1"),  # -1 is a leaf
    ]
)
MODEL: Final = np.dtype(
    [("trees", "u4"), ("usual", "f8"), ("middle", "f8"), ("high", "f8"), ("excess", "f8")]
)
_MOST_NODES: Final = 65_535  # of a tree: children are 16-bit numbers


class Params(NamedTuple):
    """``n_estimators``, ``contamination`` and ``max_samples`` as in scikit-learn; ``max_windows`` is how many
    windows of the history are used, evenly spread, which bounds the artifact (0.7 MB for 2,016).
    """

    n_estimators: int = 200
    contamination: float = 0.001
    max_samples: float = 0.7
    max_windows: int = 2016

    @classmethod
    def read(cls, detector: str, params: Mapping[str, Any]) -> Params:
        if unknown := sorted(set(params) - set(cls._fields)):
            raise ValueError(f"{detector} has no parameter {unknown[0]!r}; it has {', '.join(cls._fields)}")
        made = cls(**params)
        limits = {
            "n_estimators": (1, 1000),
            "contamination": (1e-6, 0.5),
            "max_samples": (0.01, 1.0),
            "max_windows": (100, 20_000),
        }
        for name, (least, most) in limits.items():
            value = getattr(made, name)
            whole = isinstance(cls._field_defaults[name], int)
            if not isinstance(value, int if whole else int | float) or not least <= value <= most:
                raise ValueError(f"{detector}: {name} is a number from {least:g} to {most:g}, not {value!r}")
        return made


def grow(windows: F32, params: Params, seed: int) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """Arrays and facts of a forest on windows (n, features); 0.3 s for 2,016 of them.

    ``reach`` (features,) is how far each feature goes in the history: 99.8 % of the windows.
    """
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415  # takes a second, and workers never fit

    thinned = windows[np.linspace(0, len(windows) - 1, min(len(windows), params.max_windows)).astype(int)]
    forest = IsolationForest(
        n_estimators=params.n_estimators,
        contamination=params.contamination,
        max_samples=params.max_samples,
        random_state=seed,
    ).fit(thinned)
    trees = [_nodes(each.tree_) for each in forest.estimators_]
    nodes = np.concatenate(trees)
    usual = len(trees) * float(_usual_depth(np.array([forest.max_samples_]))[0])
    arrays = {name: nodes[name] for name in NODE.names or ()}
    sizes = np.array([len(tree) for tree in trees], np.int32)
    arrays["first"] = (np.cumsum(sizes) - sizes).astype(np.int32)
    arrays["reach"] = (np.quantile(np.abs(windows), 0.998, axis=0) + 1e-3).astype(np.float64)
    facts = {"usual": usual, "threshold": float(-forest.offset_)}
    return arrays, facts | _tail(arrays, facts, windows)._asdict()


def _tail(arrays: dict[str, NDArray[Any]], facts: dict[str, float], windows: F32) -> Tail:
    """Of what `raw` says of the history."""
    forests, unknown = Forests(), dict.fromkeys(Tail._fields, 0.0)
    forests.reserve(1)
    forests.adopt(0, Artifact(arrays, {**unknown, **facts}))
    found = np.empty(len(windows))
    _all_raw(forests.arrays, arrays["reach"], windows, found)
    return Tail.of(found)


def _nodes(tree: Any) -> NDArray[Any]:
    """A tree of scikit-learn; its windows are float32, so cuts rounded down to float32 part them the same."""
    if tree.node_count > _MOST_NODES:
        raise ValueError(f"a tree has {tree.node_count} nodes, at most {_MOST_NODES} fit")
    nodes = np.zeros(tree.node_count, NODE)
    leaf = tree.children_left < 0
    depth = tree.compute_node_depths() - 1.0 + _usual_depth(tree.n_node_samples)
    cut = tree.threshold.astype(np.float32)
    cut = np.where(cut > tree.threshold, np.nextafter(cut, np.float32(-np.inf)), cut)
    nodes["cut"] = np.where(leaf, depth, cut)
    nodes["right"] = np.where(leaf, 0, tree.children_right)
    nodes["feature"] = np.where(leaf, -1, tree.feature)
    return nodes


def _usual_depth(samples: NDArray[Any]) -> F64:
    """Mean depth of an unsuccessful search among so many samples: c(n) of the paper."""
    n = np.maximum(samples.astype(np.float64), 2.0)
    usual = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, usual))


class Forests(Tables):
    """The forest of each slot; kernels take ``model``, ``nodes`` and ``firsts`` with their places."""

    def __init__(self) -> None:
        self._model = Rows(MODEL)
        self._nodes, self._first = Arena(NODE), Arena(np.int32)
        super().__init__(model=self._model, nodes=self._nodes, first=self._first)

    def adopt(self, slot: int, artifact: Artifact) -> None:
        arrays, facts = artifact
        nodes = np.zeros(len(arrays["cut"]), NODE)
        for name in NODE.names or ():
            nodes[name] = arrays[name]
        self._nodes.put(slot, nodes)
        self._first.put(slot, arrays["first"])
        row = self._model.array[slot]
        row["trees"] = len(arrays["first"])
        for name in ("usual", "middle", "high", "excess"):
            row[name] = facts[name]

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Models, nodes, places of nodes, firsts and places of firsts, for `score`."""
        return self._model.array, self._nodes.data, self._nodes.where, self._first.data, self._first.where


@njit(cache=True, nogil=True)
def score(models, nodes, node_places, firsts, first_places, slot, window):  # type: ignore[no-untyped-def]
    """The anomaly score in (0, 1] of a window (features,) float32; 10 to 20 us for 200 trees."""
    depth = 0.0
    start, first = node_places[slot].start, first_places[slot].start
    for t in range(models[slot].trees):
        root = start + firsts[first + t]
        node = nodes[root]
        at = root
        while node.feature >= 0:
            at = at + 1 if window[node.feature] <= node.cut else root + node.right
            node = nodes[at]
        depth += node.cut
    return 2.0 ** (-depth / models[slot].usual)


@njit(cache=True, nogil=True)
def raw(forest, slot, reach, features, window):  # type: ignore[no-untyped-def]
    """The score of a window, and a tenth of the logarithm of how far its features go beyond their reach.

    No tree cuts beyond its history: whatever lies there is equally far to it.
    """
    total = 1.0
    for f in range(features):
        total += max(abs(window[f]) / reach[f] - 1.0, 0.0)
    return score(*forest, slot, window) + 0.1 * np.log(total)  # type: ignore[call-arg]  # numba's types do not know unpacking


@njit(cache=True, nogil=True)
def _all_raw(forest, reach, windows, out):  # type: ignore[no-untyped-def]
    for i in range(windows.shape[0]):
        out[i] = raw(forest, 0, reach, windows.shape[1], windows[i])
