"""The over-parameterised two-layer network of convergence theory, its linearisation, and bounds on its outputs."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike
from scipy.optimize import Bounds, LinearConstraint, milp

from tendsto import validation
from tendsto.iteration import Scalar
from tendsto.problems.noise import Norm

TwoLayer = dict[str, Array]
"""`weights` $U$, shape `(d, width)`; `bias` $b$ and `outer` $a$, shape `(width,)`."""


def two_layer(parameters: TwoLayer, features: Float[Array, "batch d"]) -> Float[Array, " batch"]:
    r"""$f_U(x) = \sum_r a_r \max(\langle U_r, x\rangle + b_r, 0)$, of which only $U$ is trained.

    Gradients in $a$ and $b$ are zero.
    """
    outer, bias = jax.lax.stop_gradient((parameters["outer"], parameters["bias"]))
    return jax.nn.relu(features @ parameters["weights"] + bias) @ outer


def two_layer_parameters(key: Key[Array, ""], features: int, width: int) -> TwoLayer:
    r"""$U_r \sim N(0, I/m)$, $b_r \sim N(0, 1/m)$ and $a_r = \pm m^{-1/3}$ with equal chances.

    **Arguments**: `features`, $d$; `width`, $m$.

    **Source**: X. Li, Z. Song, J. Yang, *Federated Adversarial Learning*, 2208.03635, Section 3.
    """
    validation.integer("features", features, low=1)
    validation.integer("width", width, low=1)
    of_weights, of_bias, of_outer = jax.random.split(key, 3)
    return {
        "weights": jax.random.normal(of_weights, (features, width)) / np.sqrt(width),
        "bias": jax.random.normal(of_bias, (width,)) / np.sqrt(width),
        "outer": jax.random.rademacher(of_outer, (width,), float) / np.cbrt(width),
    }


def linearised_two_layer(
    start: TwoLayer, parameters: TwoLayer, features: Float[Array, "batch d"]
) -> Float[Array, " batch"]:
    r"""$g_U(x) = \sum_r a_r (\langle U_r, x\rangle + b_r)\, 1\{\langle U_r(0), x\rangle + b_r \ge 0\}$, linear in $U$.

    **Arguments**: `start`, with $U(0)$, whose activations are kept; `parameters`, with $U$.
    """
    active = features @ start["weights"] + start["bias"] >= 0
    return (active * (features @ parameters["weights"] + parameters["bias"])) @ parameters["outer"]


def two_layer_bounds(
    parameters: TwoLayer, features: Float[Array, "batch d"], radius: Scalar, norm: Norm = "euclidean"
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    r"""Bounds on $f_U$ over the ball around each sample.

    Units that are on throughout the ball are one linear function, which swings by $\rho\lVert\sum_r a_r U_r\rVert_*$;
    each unit that may switch adds its own interval, within $|a_r|\,\rho\,\lVert U_r\rVert_*$ of its value.

    **Returns** the lower and the upper ends.
    """
    weights, outer = parameters["weights"], parameters["outer"]

    def dual(vectors: Array, axis: int) -> Array:
        return jnp.sum(jnp.abs(vectors), axis) if norm == "sup" else jnp.linalg.norm(vectors, axis=axis)

    inner = features @ weights + parameters["bias"]
    slack = radius * dual(weights, 0)
    on, off = inner >= slack, inner <= -slack
    swing = radius * dual((on * outer) @ weights.T, 1)
    least, most = outer * jax.nn.relu(inner - slack), outer * jax.nn.relu(inner + slack)
    centre = jnp.sum(on * outer * inner, axis=1)
    switching = ~(on | off)
    low = centre - swing + jnp.sum(switching * jnp.minimum(least, most), axis=1)
    high = centre + swing + jnp.sum(switching * jnp.maximum(least, most), axis=1)
    return low, high


def two_layer_lipschitz(parameters: TwoLayer) -> Float[Array, ""]:
    r"""$\sum_r |a_r| \lVert U_r\rVert_2$, a Lipschitz constant of $f_U$ in the Euclidean norm."""
    return jnp.dot(jnp.abs(parameters["outer"]), jnp.linalg.norm(parameters["weights"], axis=0))


def exact_extreme(
    parameters: TwoLayer, sample: ArrayLike, radius: float, extreme: Literal["least", "most"]
) -> tuple[float, Float[Array, " d"]]:
    r"""The exact least or largest $f_U$ in the sup-norm ball around a sample, by mixed-integer programming.

    Each unit that may switch is a binary variable, so that this is for small cases: tens of units.

    **Returns** the value and a point that attains it.

    **Raises** `ValueError` for an unknown `extreme`, `RuntimeError` if the solver does not prove optimality.
    """
    if extreme not in ("least", "most"):
        raise ValueError(f"extreme: must be 'least' or 'most', got {extreme!r}")
    validation.real("radius", radius, low=0.0)
    weights, bias, outer = (np.asarray(parameters[name], float) for name in ("weights", "bias", "outer"))
    clean = np.asarray(sample, float)
    size, width = weights.shape
    inner, slack = clean @ weights + bias, radius * np.abs(weights).sum(axis=0)
    low, high = np.minimum(inner - slack, 0.0), np.maximum(inner + slack, 0.0)
    # Variables: the point, then each unit's output, then whether it is on.
    eye, nothing = np.eye(width), np.zeros((width, width))
    rows = [
        (np.hstack([-weights.T, eye, nothing]), bias, np.inf),
        (np.hstack([-weights.T, eye, -np.diag(low)]), -np.inf, bias - low),
        (np.hstack([np.zeros((width, size)), eye, -np.diag(high)]), -np.inf, np.zeros(width)),
    ]
    sign = 1.0 if extreme == "least" else -1.0
    solution = milp(
        np.concatenate([np.zeros(size), sign * outer, np.zeros(width)]),
        constraints=[LinearConstraint(matrix, lower, upper) for matrix, lower, upper in rows],
        integrality=np.repeat([0, 0, 1], [size, width, width]),
        bounds=Bounds(
            np.concatenate([clean - radius, np.zeros(2 * width)]),
            np.concatenate([clean + radius, high, np.ones(width)]),
        ),
        options={"mip_rel_gap": 0.0},
    )
    if not solution.success:
        raise RuntimeError(f"the solver stopped without a proof of optimality: {solution.message}")
    return sign * float(solution.fun), jnp.asarray(solution.x[:size])
