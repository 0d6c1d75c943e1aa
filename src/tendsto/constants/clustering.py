"""Cluster formulas by how they converge, before anything is known of the constants they compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import HDBSCAN

from tendsto import validation

Plane = tuple[str, str]

PLANES: tuple[Plane, ...] = (
    ("blind_delta", "factorial_growth"),
    ("blind_delta", "growth"),
    ("blind_delta", "error_factorial"),
    ("blind_delta", "error_rate"),
)
"""The planes of the paper in its order; columns of a table of metrics."""

_SAME_RATIO = 1e-9


class FormulaClusterer(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    r"""HDBSCAN in a plane of two metrics, down-sampled to a grid.

    In the first of `planes`: of the points in a square cell of the grid one is kept; HDBSCAN clusters those; then every
    point takes the label of the nearest that was kept, or is noise if that is further than `reach`. A plane in which
    there is no cluster, or more than `max_clusters`, is given up for the next. Only rows with the status `"measured"`
    take part; all others are noise.

    **Arguments**

    - `planes`: pairs of columns, by default the paper's.
    - `min_cluster_size`: the fewest kept points that make a cluster.
    - `cell`: the side of a cell.
    - `reach`: the largest distance from a kept point.
    - `max_clusters`: the most clusters that a plane may have.

    **Attributes**

    - `labels_`: shape `(n,)`, the number of each row's cluster, −1 for noise.
    - `plane_`: the plane they were found in; none if there was no cluster in any.

    **Source**: section 4 of arXiv:2412.16818, with the constants of its authors' code; distances are Euclidean in the
    metrics as they are.
    """

    def __init__(
        self,
        planes: Sequence[Plane] = PLANES,
        *,
        min_cluster_size: int = 5,
        cell: float = 0.001,
        reach: float = 0.01,
        max_clusters: int = 500,
    ) -> None:
        self.planes = planes
        self.min_cluster_size = min_cluster_size
        self.cell = cell
        self.reach = reach
        self.max_clusters = max_clusters

    def fit(self, X: pd.DataFrame, y: Any = None) -> FormulaClusterer:
        """Cluster the rows of a table of metrics (`metrics_table`, `metrics_part`).

        **Raises** `TypeError` if `X` is no table, `ValueError` if it lacks a column, or for a parameter out of range.
        """
        validation.integer("min_cluster_size", self.min_cluster_size, low=2)
        validation.integer("max_clusters", self.max_clusters, low=1)
        validation.positive("cell", self.cell)
        validation.positive("reach", self.reach)
        if not self.planes:
            raise ValueError("planes: must not be empty")
        require_columns("X", X, {"status", *(name for plane in self.planes for name in plane)})
        self.n_features_in_ = X.shape[1]
        self.labels_: NDArray[np.intp] = np.full(len(X), -1, dtype=np.intp)
        self.plane_: Plane | None = None
        for plane in self.planes:
            points = X[list(plane)].to_numpy(dtype=np.float64)
            usable = (X["status"] == "measured").to_numpy() & np.isfinite(points).all(axis=1)
            found = self._in_plane(points[usable])
            if found is not None:
                self.labels_[usable], self.plane_ = found, plane
                break
        return self

    def _in_plane(self, points: NDArray[np.float64]) -> NDArray[np.intp] | None:
        _, first = np.unique(np.floor(points / self.cell), axis=0, return_index=True)
        kept = points[np.sort(first)]
        if len(kept) < self.min_cluster_size:
            return None
        labels = HDBSCAN(min_cluster_size=self.min_cluster_size, copy=True).fit_predict(kept)
        if not 0 <= labels.max() < self.max_clusters:
            return None
        distance, nearest = KDTree(kept).query(points)
        assigned: NDArray[np.intp] = np.where(distance <= self.reach, labels[nearest], -1)
        return assigned


def reducing(table: pd.DataFrame) -> pd.DataFrame:
    r"""Those rows of a table of metrics that reduce factorially and converge exponentially, to no rational number.

    They are the candidates for formulas of constants: $\eta' = 0$ and $1 < |r| < \infty$.

    **Returns** the rows, numbered anew.

    **Raises** `TypeError` or `ValueError` for what is no table, or lacks a column.
    """
    require_columns("table", table, {"status", "factorial_growth", "eigenvalue_ratio"})
    kept = (table["status"] == "measured") & (table["factorial_growth"] == 0.0)
    rows: pd.DataFrame = table[kept & exponential(table["eigenvalue_ratio"])].reset_index(drop=True)
    return rows


def exponential(ratios: pd.Series) -> NDArray[np.bool_]:
    r"""Whether each ratio of eigenvalues is one of exponential convergence, $1 < |r| < \infty$."""
    size = ratios.abs().to_numpy(dtype=np.float64)
    converging: NDArray[np.bool_] = (size > 1 + 1e-9) & np.isfinite(size)
    return converging


def split_by_eigenvalue_ratio(table: pd.DataFrame, labels: NDArray[np.intp]) -> NDArray[np.intp]:
    r"""Split clusters whose members differ in the ratio $r$ of their eigenvalues, sign included.

    The paper's planes do not see the sign of $r$, so they mix $\pi$ (eigenvalues 2 and 1) with
    $\ln(2+\sqrt3)/\sqrt3$ (2 and −1), nor always its modulus. $r$ is known from the coefficients alone, to rounding.

    **Arguments**: `table`, the metrics; `labels`, shape `(n,)`, −1 for noise.

    **Returns** new labels, numbered in the order of the old.
    """
    require_columns("table", table, {"eigenvalue_ratio"})
    ratios = table["eigenvalue_ratio"].to_numpy(dtype=np.float64)
    refined: NDArray[np.intp] = np.full(len(labels), -1, dtype=np.intp)
    number = 0
    for label in range(labels.max(initial=-1) + 1):
        rows = np.flatnonzero(labels == label)
        for part in by_ratio(ratios[rows]):
            refined[rows[part]] = number
            number += 1
    return refined


def by_ratio(ratios: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """The groups of positions whose ratios agree to nine digits, in ascending order of the ratio."""
    order = np.argsort(ratios, kind="stable")
    ascending = ratios[order]
    with np.errstate(invalid="ignore"):  # infinity less infinity
        gaps = ascending[1:] - ascending[:-1]
        new = (gaps > _SAME_RATIO * np.abs(ascending[1:])) | (np.isinf(ascending[1:]) != np.isinf(ascending[:-1]))
    return np.split(order, np.flatnonzero(new) + 1)


def require_columns(name: str, table: Any, columns: set[str]) -> None:
    """Raise unless `table` is a pandas table with these columns."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"{name}: expected a table of metrics (a pandas DataFrame), got {type(table).__name__}")
    missing = sorted(columns - set(table.columns))
    if missing:
        raise ValueError(f"{name}: has no column {', '.join(missing)}")
