"""Checks of what users pass in; each error names the argument, what was given and what is allowed."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float


def real(
    name: str, value: ArrayLike, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> None:
    """Require a real number, or an array of them, in `[low, high]` (in `(low, high]` with `open_low`).

    A traced value passes unseen: its number is not known yet.

    **Raises** `TypeError` for what is not a real number, `ValueError` for NaN or a number out of range.
    """
    if isinstance(value, jax.core.Tracer):
        return
    try:
        number = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}") from None
    inside = (number > low if open_low else number >= low) & (number <= high)
    if not inside.all():
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if math.isinf(high) else ']'}"
        raise ValueError(f"{name}: must lie in {interval}, got {value}")


def positive(name: str, value: ArrayLike) -> None:
    """Require a finite number greater than zero; raises as `real` does."""
    real(name, value, low=0.0, high=np.finfo(np.float64).max, open_low=True)


def integer(name: str, value: Any, *, low: int | None = None, high: int | None = None) -> None:
    """Require a Python or NumPy integer in `[low, high]`; raises `TypeError` or `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name}: must lie in [{low}, {'∞' if high is None else high}], got {value}")


def finite_array(name: str, value: Any, *, ndim: int | None = None) -> Float[Array, "..."]:
    """Return `value` (an array, nested lists, a pandas frame) as a floating-point JAX array.

    **Raises** `TypeError` if it is not numeric, `ValueError` if it is empty, has another number of
    dimensions than `ndim`, or contains NaN or infinity.
    """
    if isinstance(value, jax.Array):
        array = value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(float)
    else:
        try:
            host = np.asarray(value)
            if host.dtype == object:
                host = host.astype(np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: expected an array of real numbers, got {type(value).__name__}") from None
        if not (np.issubdtype(host.dtype, np.number) or host.dtype == bool) or np.iscomplexobj(host):
            raise TypeError(f"{name}: expected an array of real numbers, got dtype {host.dtype}")
        array = jnp.asarray(host if np.issubdtype(host.dtype, np.floating) else host.astype(np.float64))
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension(s), got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name}: must not be empty, got shape {array.shape}")
    # By NumPy: within a traced function JAX's own test of a constant would be a tracer.
    if not isinstance(array, jax.core.Tracer) and not np.isfinite(np.asarray(array)).all():
        raise ValueError(f"{name}: must be finite, got NaN or infinity")
    return array
