"""The small equality-constrained problems of Hock and Schittkowski, with their starts and known minima."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from tendsto.problems.equality_constrained import EqualityConstrained

_Number = Float[Array, ""]
_Function = Callable[[Float[Array, " n"]], _Number]
_Equations = Callable[[Float[Array, " n"]], Sequence[_Number]]
_ROOT = math.sqrt(2.0)


class _Stacked(eqx.Module):
    """A list of equations as one vector."""

    equations: _Equations = eqx.field(static=True)

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, " m"]:
        return jnp.stack(self.equations(x))


def hock_schittkowski(number: int) -> EqualityConstrained:
    """Problem `number` of the collection, with the `start` and the `minimum` given there.

    Equality constraints alone: 6, 7, 9, 26, 27, 28, 39, 40, 42, 46 to 52, 61, and 77 to 79. The minimum of 77 and 79 is
    known to seven digits after the point, that of 61 and 78 to the digits of the collection, all others exactly.
    Numbers 26 and 46 to 50 are degenerate: their Hessians lose rank at the solution, all or in part.

    **Arguments**: `number`. **Returns** the problem. **Raises** `ValueError` for a number that is not among them.

    **Source**: W. Hock, K. Schittkowski, "Test Examples for Nonlinear Programming Codes", Springer, 1981.
    """
    if number not in _COLLECTION:
        raise ValueError(f"number: {number!r} is not one of {', '.join(map(str, _COLLECTION))}")
    function, constraints, start, minimum = _COLLECTION[number]
    return EqualityConstrained(function, _Stacked(constraints), jnp.asarray(start), minimum)


_COLLECTION: dict[int, tuple[_Function, _Equations, list[float], float]] = {
    6: (
        lambda x: (1 - x[0]) ** 2,
        lambda x: [10 * (x[1] - x[0] ** 2)],
        [-1.2, 1.0],
        0.0,
    ),
    7: (
        lambda x: jnp.log1p(x[0] ** 2) - x[1],
        lambda x: [(1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4],
        [2.0, 2.0],
        -math.sqrt(3.0),
    ),
    9: (
        lambda x: jnp.sin(math.pi * x[0] / 12) * jnp.cos(math.pi * x[1] / 16),
        lambda x: [4 * x[0] - 3 * x[1]],
        [0.0, 0.0],
        -0.5,
    ),
    26: (
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
        lambda x: [x[0] * (1 + x[1] ** 2) + x[2] ** 4 - 3],
        [-2.6, 2.0, 2.0],
        0.0,
    ),
    27: (
        lambda x: 0.01 * (x[0] - 1) ** 2 + (x[1] - x[0] ** 2) ** 2,
        lambda x: [x[0] + x[2] ** 2 + 1],
        [2.0, 2.0, 2.0],
        0.04,
    ),
    28: (
        lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2,
        lambda x: [x[0] + 2 * x[1] + 3 * x[2] - 1],
        [-4.0, 1.0, 1.0],
        0.0,
    ),
    39: (
        lambda x: -x[0],
        lambda x: [x[1] - x[0] ** 3 - x[2] ** 2, x[0] ** 2 - x[1] - x[3] ** 2],
        [2.0, 2.0, 2.0, 2.0],
        -1.0,
    ),
    40: (
        lambda x: -x[0] * x[1] * x[2] * x[3],
        lambda x: [x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]],
        [0.8, 0.8, 0.8, 0.8],
        -0.25,
    ),
    42: (
        lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2 + (x[2] - 3) ** 2 + (x[3] - 4) ** 2,
        lambda x: [x[0] - 2, x[2] ** 2 + x[3] ** 2 - 2],
        [1.0, 1.0, 1.0, 1.0],
        28 - 10 * _ROOT,
    ),
    46: (
        lambda x: (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
        lambda x: [x[0] ** 2 * x[3] + jnp.sin(x[3] - x[4]) - 1, x[1] + x[2] ** 4 * x[3] ** 2 - 2],
        [_ROOT / 2, 1.75, 0.5, 2.0, 2.0],
        0.0,
    ),
    47: (
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 3 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 4,
        lambda x: [x[0] + x[1] ** 2 + x[2] ** 3 - 3, x[1] - x[2] ** 2 + x[3] - 1, x[0] * x[4] - 1],
        [2.0, _ROOT, -1.0, 2 - _ROOT, 0.5],
        0.0,
    ),
    48: (
        lambda x: (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2,
        lambda x: [x[0] + x[1] + x[2] + x[3] + x[4] - 5, x[2] - 2 * (x[3] + x[4]) + 3],
        [3.0, 5.0, -3.0, 2.0, -2.0],
        0.0,
    ),
    49: (
        lambda x: (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
        lambda x: [x[0] + x[1] + x[2] + 4 * x[3] - 7, x[2] + 5 * x[4] - 6],
        [10.0, 7.0, 2.0, -3.0, 0.8],
        0.0,
    ),
    50: (
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 2,
        lambda x: [x[0] + 2 * x[1] + 3 * x[2] - 6, x[1] + 2 * x[2] + 3 * x[3] - 6, x[2] + 2 * x[3] + 3 * x[4] - 6],
        [35.0, -31.0, 11.0, 5.0, -5.0],
        0.0,
    ),
    51: (
        lambda x: (x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
        lambda x: [x[0] + 3 * x[1] - 4, x[2] + x[3] - 2 * x[4], x[1] - x[4]],
        [2.5, 0.5, 2.0, -1.0, 0.5],
        0.0,
    ),
    52: (
        lambda x: (4 * x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
        lambda x: [x[0] + 3 * x[1], x[2] + x[3] - 2 * x[4], x[1] - x[4]],
        [2.0, 2.0, 2.0, 2.0, 2.0],
        1859 / 349,
    ),
    61: (
        lambda x: 4 * x[0] ** 2 + 2 * x[1] ** 2 + 2 * x[2] ** 2 - 33 * x[0] + 16 * x[1] - 24 * x[2],
        lambda x: [3 * x[0] - 2 * x[1] ** 2 - 7, 4 * x[0] - x[2] ** 2 - 11],
        [0.0, 0.0, 0.0],
        -143.6461422,
    ),
    77: (
        lambda x: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
        lambda x: [x[0] ** 2 * x[3] + jnp.sin(x[3] - x[4]) - 2 * _ROOT, x[1] + x[2] ** 4 * x[3] ** 2 - 8 - _ROOT],
        [2.0, 2.0, 2.0, 2.0, 2.0],
        0.24150513,
    ),
    78: (
        lambda x: x[0] * x[1] * x[2] * x[3] * x[4],
        lambda x: [
            x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + x[3] ** 2 + x[4] ** 2 - 10,
            x[1] * x[2] - 5 * x[3] * x[4],
            x[0] ** 3 + x[1] ** 3 + 1,
        ],
        [-2.0, 1.5, 2.0, -1.0, -1.0],
        -2.91970041,
    ),
    79: (
        lambda x: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 4,
        lambda x: [
            x[0] + x[1] ** 2 + x[2] ** 3 - 2 - 3 * _ROOT,
            x[1] - x[2] ** 2 + x[3] + 2 - 2 * _ROOT,
            x[0] * x[4] - 2,
        ],
        [2.0, 2.0, 2.0, 2.0, 2.0],
        0.0787768209,
    ),
}
