"""Private generalised linear models in a random subspace, so that the rank of the data counts and not the dimension."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TypeVar

import jax
from jaxtyping import Array, Float, Key

from tendsto import validation
from tendsto.problems import BoundedModel, clip_rows

ModelT = TypeVar("ModelT", bound=BoundedModel)


def project_features(
    problem: ModelT, dimension: int, key: Key[Array, ""]
) -> tuple[ModelT, Callable[[Float[Array, "*batch k"]], Float[Array, "*batch d"]]]:
    r"""The same model on $\Phi a_i$ with a random $\Phi \in \mathbb R^{k\times d}$, and the way back, $\Phi^\top$.

    The entries of $\Phi$ are $\pm1/\sqrt k$. Run any private method on the projected model, whose records have twice
    the bound $X$ on their norm, and so constants $2L_0$ and $4L_1$ in place of $L_0$ and $L_1$; then take its output
    back. A gradient of the model lies in the span of the features, so noise in $\mathbb R^k$ does what noise in
    $\mathbb R^d$ did.

    Projected rows longer than $2X$ are shortened to that, which makes the bound certain. The paper instead sets half
    of $\delta$ aside for the event that there are any.

    **Arguments**

    - `problem`: a `BoundedModel` without penalty, which a projection would change.
    - `dimension`: $k$, for which see `projection_dimension`; without `key` it must be chosen without the data.
    - `key`: the randomness of $\Phi$, which may be public.

    **Returns** the projected model and the map back.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: arXiv:2206.00846, Algorithm 4.
    """
    if not isinstance(problem, BoundedModel):
        raise TypeError(f"problem: expected a BoundedModel, got {type(problem).__name__}")
    validation.integer("dimension", dimension, low=1)
    if not isinstance(problem.penalty, jax.core.Tracer) and float(problem.penalty) != 0.0:
        raise ValueError(f"problem: the projection allows no penalty, got penalty={float(problem.penalty):g}")
    features = problem.features
    signs = jax.random.rademacher(key, (dimension, features.shape[1]), features.dtype)
    projection = signs / math.sqrt(dimension)
    bound = 2.0 * problem.feature_bound
    projected = dataclasses.replace(problem, features=clip_rows(features @ projection.T, bound), feature_bound=bound)

    def lift(output: Float[Array, "*batch k"]) -> Float[Array, "*batch d"]:
        """The output in the original coordinates."""
        return output @ projection

    return projected, lift


def projection_dimension(records: int, rank: int, delta: float) -> int:
    r"""$k = \lceil r\log(2n/\delta)\rceil$, the paper's choice for data of a rank $r$ known beforehand.

    **Arguments**: `records`, $n$; `rank`, $r$; `delta`, $\delta$ in $(0, 1)$.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: arXiv:2206.00846, Algorithm 4.
    """
    validation.integer("records", records, low=1)
    validation.integer("rank", rank, low=1)
    validation.real("delta", delta, low=0.0, high=1.0, open_low=True)
    return math.ceil(rank * math.log(2.0 * records / delta))
