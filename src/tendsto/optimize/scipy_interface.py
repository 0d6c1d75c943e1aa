"""What lets a method stand as `method=` in `scipy.optimize.minimize`: counted calls, callbacks, warnings.

SciPy calls such a method as `method(fun, x0, args=…, jac=…, hess=…, hessp=…, bounds=…, constraints=…, callback=…,
**options)` and expects a `scipy.optimize.OptimizeResult`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, OptimizeResult, OptimizeWarning

Vector = NDArray[np.float64]

STOPPED_BY_CALLBACK = 99
"""The status with which SciPy's own methods report a callback that raised `StopIteration`."""


class Counted:
    """A user's function with its extra arguments, whose calls are counted in `calls`.

    **Arguments**

    - `function`: called as `function(x, *args)` with a copy of `x`, so that it may change its argument.
    - `args`: extra arguments, as SciPy passes them.
    """

    def __init__(self, function: Callable[..., Any], args: Sequence[Any] = ()) -> None:
        self.function = function
        self.args = tuple(args)
        self.calls = 0

    def __call__(self, x: Vector) -> Vector:
        """The function's value at `x`, as an array of floats."""
        self.calls += 1
        return np.asarray(self.function(np.copy(x), *self.args), dtype=np.float64)

    def scalar(self, x: Vector) -> float:
        """The function's value at `x`, as a float.

        **Raises** `ValueError` if it is not a scalar.
        """
        value = self(x)
        if value.size != 1:
            raise ValueError(f"fun: must return a scalar, got an array of shape {value.shape}")
        return float(value.reshape(()))


def starting_vector(x0: ArrayLike) -> Vector:
    """`x0` as a fresh vector of floats.

    **Raises** `TypeError` if it is not numeric, `ValueError` if it is empty, has several dimensions, or is not finite.
    """
    try:
        x = np.array(x0, dtype=np.float64, ndmin=1)
    except (TypeError, ValueError):
        raise TypeError(f"x0: expected an array of real numbers, got {type(x0).__name__}") from None
    if x.ndim != 1:
        raise ValueError(f"x0: must be a vector, got shape {x.shape}")
    if x.size == 0:
        raise ValueError("x0: must not be empty")
    if not np.isfinite(x).all():
        raise ValueError("x0: must be finite, got NaN or infinity")
    return x


def box(bounds: Bounds | Sequence[tuple[float | None, float | None]] | None, size: int) -> tuple[Vector, Vector]:
    """Lower and upper bounds as vectors of length `size`, infinite where there is none; accepts both of SciPy's forms.

    **Raises** `ValueError` if their number differs from `size`, or a lower bound exceeds its upper bound.
    """
    if bounds is None:
        return np.full(size, -np.inf), np.full(size, np.inf)
    if isinstance(bounds, Bounds):
        sides = (bounds.lb, bounds.ub)
    else:
        pairs = list(bounds)
        if len(pairs) != size:
            raise ValueError(f"bounds: expected {size} pairs, got {len(pairs)}")
        sides = (
            [-np.inf if low is None else low for low, _ in pairs],
            [np.inf if high is None else high for _, high in pairs],
        )
    try:
        low, high = (np.array(np.broadcast_to(side, (size,)), dtype=np.float64) for side in sides)
    except ValueError:
        raise ValueError(f"bounds: expected {size} lower and {size} upper bounds") from None
    if np.isnan(low).any() or np.isnan(high).any() or (low > high).any():
        raise ValueError("bounds: every lower bound must be at most its upper bound")
    return low, high


def wants_to_stop(callback: Callable[..., Any] | None, result: OptimizeResult) -> bool:
    """Call the user's callback by SciPy's rule; whether it raised `StopIteration`.

    A callback whose only parameter is named `intermediate_result` gets `result`, any other one a copy of `result.x`.
    What else it raises passes through.
    """
    if callback is None:
        return False
    try:
        if set(inspect.signature(callback).parameters) == {"intermediate_result"}:
            callback(intermediate_result=result)
        else:
            callback(np.copy(result.x))
    except StopIteration:
        return True
    return False


def warn_unused(method: str, *, options: Mapping[str, Any] | None = None, **given: Any) -> None:
    """Warn of what `method` was given and makes no use of, as SciPy's own methods do.

    **Arguments**

    - `method`: the method's name.
    - `options`: unknown options.
    - `given`: arguments of `minimize` (`jac`, `hess`, `constraints`, …) of which the method makes no use.
    """
    for name, value in given.items():
        if value is not None and not (isinstance(value, (tuple, list)) and not value) and value is not False:
            warnings.warn(f"Method {method} does not use {name}.", RuntimeWarning, stacklevel=3)
    if options:
        warnings.warn(f"Unknown solver options: {', '.join(options)}", OptimizeWarning, stacklevel=3)
