"""How far apart samples lie, and the robust loss that close ones with different targets force on any model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist, squareform

from tendsto import validation


class Separability(NamedTuple):
    r"""The least distance $\delta$ of two samples, and $\gamma = \delta(\delta - 2\rho)$."""

    distance: float
    gamma: float


def separability(features: ArrayLike, radius: float) -> Separability:
    r"""$\delta$ and $\gamma$ of samples of all clients together, in the Euclidean norm.

    **Arguments**: `features`, shape `(samples, d)`; `radius`, $\rho$ of the adversary.

    **Source**: X. Li, Z. Song, J. Yang, *Federated Adversarial Learning*, 2208.03635, Definition of separability.
    """
    rows = np.asarray(validation.finite_array("features", features, ndim=2))
    validation.real("radius", radius, low=0.0)
    if len(rows) < 2:
        raise ValueError("features: at least two samples are needed")
    distance = float(pdist(rows).min())
    return Separability(distance, distance * (distance - 2.0 * radius))


def smooth_absolute(predictions: Float[Array, "..."], targets: Array) -> Float[Array, "..."]:
    r"""$\sqrt{1 + (f - y)^2} - 1$: convex, 1-Lipschitz in $f$, non-negative, and zero where $f = y$."""
    return jnp.sqrt(1.0 + (predictions - targets) ** 2) - 1.0


def pairwise_robust_lower_bound(
    features: ArrayLike,
    targets: ArrayLike,
    radius: float,
    loss: Callable[[Array, Array], Array] = smooth_absolute,
) -> float:
    r"""A bound from below on the mean robust loss of any model, however it was trained.

    Samples within $2\rho$ of each other share the midpoint $q$, where a prediction costs them together at least
    $w_{ij} = 2\varphi(|y_i - y_j|/2)$ for a loss $\varphi(|f - y|)$ with $\varphi$ convex and increasing. Losses are
    not negative, so a fractional matching of pairs adds up: $\frac1n \max \sum_{i<j} w_{ij} z_{ij}$ subject to
    $\sum_j z_{ij} \le 1$ and $z \ge 0$, which is half of a maximum assignment.

    **Arguments**

    - `features`: shape `(samples, d)`, all clients' together, in the Euclidean norm.
    - `targets`: $y$, shape `(samples,)`.
    - `radius`: $\rho$; the threat model is the whole ball.
    - `loss`: from predictions and targets, of the form above.
    """
    rows = np.asarray(validation.finite_array("features", features, ndim=2))
    values = np.asarray(validation.finite_array("targets", targets, ndim=1))
    validation.real("radius", radius, low=0.0)
    if len(rows) != len(values):
        raise ValueError(f"targets: expected one for each of {len(rows)} samples, got {len(values)}")
    near = squareform(pdist(rows)) <= 2.0 * radius
    middle = (values[:, None] + values[None, :]) / 2.0
    costs = np.asarray(loss(jnp.asarray(middle), jnp.asarray(values)[:, None])) * 2.0
    pairs = np.where(near, costs, 0.0)
    chosen = linear_sum_assignment(pairs, maximize=True)
    return float(pairs[chosen].sum() / 2.0 / len(rows))


def separated_points(samples: int, dimension: int, distance: float, *, seed: int = 0) -> Float[Array, "samples d"]:
    r"""Points uniform on $\{x : \lVert x\rVert = 1, x_d = \tfrac12\}$, each drawn until it is far from those before.

    **Raises** `ValueError` if a point finds no place in 10,000 draws.
    """
    validation.integer("samples", samples, low=1)
    validation.integer("dimension", dimension, low=2)
    validation.real("distance", distance, low=0.0)
    generator, points = np.random.default_rng(seed), np.empty((0, dimension))
    for _ in range(samples):
        for _ in range(10_000):
            direction = generator.standard_normal(dimension - 1)
            point = np.append(direction * (np.sqrt(0.75) / np.linalg.norm(direction)), 0.5)
            if (np.linalg.norm(points - point, axis=1) >= distance).all():
                break
        else:
            raise ValueError(f"distance: {samples} points in {dimension} dimensions do not fit {distance:g} apart")
        points = np.vstack([points, point])
    return jnp.asarray(points)
