"""Consensus-based optimisation as a method of `scipy.optimize.minimize`, for functions that JAX cannot trace."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, OptimizeResult

from tendsto import validation
from tendsto.optimize.annealing import Annealed, value_at
from tendsto.optimize.consensus import ConsensusBased, Noise, consensus_weights, move
from tendsto.optimize.scipy_interface import (
    STOPPED_BY_CALLBACK,
    Counted,
    Vector,
    box,
    starting_vector,
    wants_to_stop,
    warn_unused,
)

_CONSENSUS, _MAX_ITERATIONS, _MAX_EVALUATIONS, _NONFINITE = range(4)
_MESSAGES = {
    _CONSENSUS: "The particles reached consensus: their root mean square distance from it is at most tol.",
    _MAX_ITERATIONS: "Maximum number of iterations has been exceeded.",
    _MAX_EVALUATIONS: "Maximum number of function evaluations has been exceeded.",
    _NONFINITE: "The consensus point is not finite: fun was finite at no particle, or the particles diverged.",
    STOPPED_BY_CALLBACK: "`callback` raised `StopIteration`.",
}
_HISTORY = ("trajectory", "fun_trajectory", "variance", "effective_sample_size")


def consensus_based(
    fun: Callable[..., Any],
    x0: ArrayLike,
    args: Sequence[Any] = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Bounds | Sequence[tuple[float | None, float | None]] | None = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    particles: int = 200,
    inverse_temperature: Annealed = 100.0,
    drift: float = 1.0,
    noise_strength: Annealed = 1.0,
    time_step: float = 0.01,
    noise: Noise = "anisotropic",
    initial_spread: float = 1.0,
    truncation: float = float("inf"),
    init: ArrayLike | None = None,
    maxiter: int = 1000,
    maxfev: int | None = None,
    tol: float = 1e-6,
    vectorized: bool = False,
    rng: Any = None,
    seed: Any = None,
    disp: bool = False,
    **unknown: Any,
) -> OptimizeResult:
    r"""Minimise a function by consensus: `scipy.optimize.minimize(fun, x0, method=consensus_based, options={…})`.

    The same update as `ConsensusBased`, in NumPy and 64-bit floats, for any Python function. A function that JAX can
    trace is faster with `tendsto.run` or `tendsto.solve`.

    **Arguments**

    - `fun`: called as `fun(x, *args)` with a vector; with `vectorized`, once an iteration with all particles, shape
      `(d, particles)`, for which it returns shape `(particles,)`, as in `scipy.optimize.differential_evolution`. Where
      it returns NaN or infinity the particle has no weight. What it raises passes through.
    - `x0`: the mean of the first particles, shape `(d,)`.
    - `args`: extra arguments of `fun`.
    - `bounds`: particles that leave the box are projected onto it, before they are evaluated; the consensus point, a
      mean of them, stays in it.
    - `callback`: by SciPy's rule `callback(x)` or `callback(intermediate_result)`, after every iteration with the
      consensus point; may raise `StopIteration`.
    - `jac`, `hess`, `hessp`: not used, with a warning.

    **Options**

    - `particles`, `inverse_temperature`, `drift`, `noise_strength`, `time_step`, `noise`, `initial_spread`,
      `truncation`: as for `ConsensusBased`; functions of the step count where that takes them.
    - `init`: the first particles themselves, shape `(particles, d)`; then `x0` only has to have the right length.
    - `maxiter`: the largest number of iterations.
    - `maxfev`: the largest number of evaluations of `fun`; an iteration takes one for each particle and one for the
      consensus point, and so does the start.
    - `tol`: stop when $(\frac1N \sum_i \lVert X^i - x_\alpha\rVert^2)^{1/2}$ is at most this. The particles then
      agree; whether on the global minimum no stopping rule can tell.
    - `vectorized`: see `fun`.
    - `rng` (or its older name `seed`): an integer or a `numpy.random.Generator`; 0 if neither is given, so that a call
      repeats.
    - `disp`: print the message at the end.

    **Returns** a `scipy.optimize.OptimizeResult`: `x` is the consensus point and `fun` its value, `best_x` and
    `best_fun` belong to the best point seen; `nit`, `nfev`, `success`, `status`, `message` as in SciPy; `trajectory`
    holds the consensus point at the start and after every iteration, shape `(nit + 1, d)`; `fun_trajectory` its values,
    `variance` the mean squared distance from it and `effective_sample_size` that of the weights, shapes `(nit + 1,)`;
    `particles` are the last ones. `status` is 0 for consensus, 1 and 2 for the limits, 3 if the consensus point is not
    finite, 99 for a callback that stopped it.

    **Raises** `TypeError` or `ValueError` naming the argument; `ValueError` for `constraints`, which the method cannot
    honour.
    """
    warn_unused("consensus_based", options=unknown, jac=jac, hess=hess, hessp=hessp)
    if constraints is not None and not (isinstance(constraints, (tuple, list)) and not constraints):
        raise ValueError("constraints: consensus_based honours bounds alone; add a penalty to fun instead")
    # The method checks its hyper-parameters.
    ConsensusBased(particles, inverse_temperature, drift, noise_strength, time_step, noise, initial_spread, truncation)
    validation.integer("maxiter", maxiter, low=0)
    if maxfev is not None:
        validation.integer("maxfev", maxfev, low=particles + 1)
    validation.real("tol", tol, low=0.0)
    start = starting_vector(x0)
    low, high = box(bounds, start.size)
    random = _generator(rng, seed)
    objective = _Objective(fun, args, vectorized)

    cloud = _first_cloud(start, particles, initial_spread, init, random)
    history: list[tuple[Vector, float, float, float]] = []
    for nit in itertools.count():
        cloud = np.clip(cloud, low, high)
        consensus, size = _meet(cloud, objective(cloud), value_at(inverse_temperature, nit))
        finite = bool(np.isfinite(consensus).all())
        value = float(objective(consensus[None])[0]) if finite else np.nan
        with np.errstate(all="ignore"):
            variance = float(((cloud - consensus) ** 2).sum(axis=1).mean())
        history.append((consensus, value, variance, size))
        progress = OptimizeResult(x=consensus, fun=value, nit=nit, nfev=objective.points)
        if not finite:
            status = _NONFINITE
        elif nit > 0 and wants_to_stop(callback, progress):
            status = STOPPED_BY_CALLBACK
        elif variance <= tol**2:
            status = _CONSENSUS
        elif nit >= maxiter:
            status = _MAX_ITERATIONS
        elif maxfev is not None and objective.points + particles + 1 > maxfev:
            status = _MAX_EVALUATIONS
        else:
            # A cloud that overflows is reported by the next meeting.
            with np.errstate(all="ignore"):
                cloud = np.asarray(
                    move(
                        cloud,
                        consensus,
                        random.standard_normal(cloud.shape),
                        drift=drift,
                        noise_strength=float(value_at(noise_strength, nit)),
                        time_step=time_step,
                        noise=noise,
                        truncation=truncation,
                    )
                )
            continue
        break

    if disp:
        print(_MESSAGES[status])
    return OptimizeResult(
        x=np.copy(consensus),
        fun=value,
        best_x=objective.best_x,
        best_fun=objective.best_fun,
        nit=nit,
        nfev=objective.points,
        success=status == _CONSENSUS,
        status=status,
        message=_MESSAGES[status],
        particles=cloud,
        **{name: np.array(each) for name, each in zip(_HISTORY, zip(*history, strict=True), strict=True)},
    )


class _Objective:
    """The user's function at many points, how many there were, and the best of them."""

    def __init__(self, fun: Callable[..., Any], args: Sequence[Any], vectorized: bool) -> None:
        self.counted = Counted(fun, args)
        self.vectorized = vectorized
        self.points = 0
        self.best_x: Vector | None = None
        self.best_fun = np.inf

    def __call__(self, points: NDArray[np.float64]) -> Vector:
        if self.vectorized:
            values = self.counted(points.T)
            if values.shape != (len(points),):
                raise ValueError(
                    f"fun: vectorized, must return shape ({len(points)},) for x of shape {points.T.shape}, "
                    f"got {values.shape}"
                )
        else:
            values = np.array([self.counted.scalar(point) for point in points])
        self.points += len(points)
        leader = int(np.argmin(np.where(np.isnan(values), np.inf, values)))
        if values[leader] < self.best_fun:
            self.best_x, self.best_fun = np.copy(points[leader]), float(values[leader])
        return values


def _meet(cloud: NDArray[np.float64], values: Vector, inverse_temperature: Any) -> tuple[Vector, float]:
    """The consensus point and the effective sample size; both NaN if no value is finite."""
    with np.errstate(all="ignore"):
        weights = np.asarray(consensus_weights(values, float(inverse_temperature)))
        return weights @ cloud, float(1.0 / (weights**2).sum())


def _first_cloud(
    start: Vector, particles: int, spread: float, init: ArrayLike | None, random: np.random.Generator
) -> NDArray[np.float64]:
    if init is None:
        return start + spread * random.standard_normal((particles, start.size))
    cloud = np.array(init, dtype=np.float64)
    if cloud.shape != (particles, start.size):
        raise ValueError(f"init: expected shape ({particles}, {start.size}), got {cloud.shape}")
    if not np.isfinite(cloud).all():
        raise ValueError("init: must be finite, got NaN or infinity")
    return cloud


def _generator(rng: Any, seed: Any) -> np.random.Generator:
    if rng is not None and seed is not None:
        raise TypeError("rng: is the newer name of seed; give one of them")
    chosen = seed if rng is None else rng
    return np.random.default_rng(0 if chosen is None else chosen)
