"""Run a method until it is done, for those who only want the answer."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration.method import Cost, Method, State
from tendsto.iteration.pace import progress_bar, slices
from tendsto.iteration.running import all_finite, init_key, root_key, run_key, start_key, starting_point, step_key


class Result(enum.StrEnum):
    """How a solve ended."""

    converged = "the stopping measure fell to the tolerance"
    max_steps = "the step limit was reached before the tolerance"
    nonfinite = "the iterate stopped being finite: the method diverged"


@dataclass(frozen=True)
class Solution:
    """The answer of `solve`.

    **Arguments**

    - `x`: the last iterate.
    - `result`: how the solve ended.
    - `steps`: how many steps were taken.
    - `measure`: the stopping measure at `x`.
    - `cost`: what was spent on the steps (the stopping test is not counted).
    - `state`: the method's last state.
    """

    x: PyTree[Array]
    result: Result
    steps: int
    measure: float
    cost: Cost
    state: State

    @property
    def converged(self) -> bool:
        """Whether the tolerance was reached."""
        return self.result is Result.converged


def solve(
    method: Method[Any, Any],
    problem: Any,
    x0: PyTree[ArrayLike] | Callable[[Key[Array, ""]], PyTree[Array]] | None = None,
    *,
    tol: float = 1e-6,
    max_steps: int = 100_000,
    measure: str | Callable[[Any, Any], Float[Array, ""]] = "stationarity",
    check_every: int = 1,
    key: int | Key[Array, ""] = 0,
    progress: bool | None = None,
    throw: bool = False,
) -> Solution:
    """Step until `measure` is at most `tol`; the iterates are those of `run` with seed 0.

    **Arguments**

    - `method`, `problem`, `x0`, `key`, `progress`: as in `run`.
    - `tol`: the tolerance.
    - `max_steps`: the largest number of steps.
    - `measure`: the name of one of the problem's measures (a method of `problem` that takes `x`), or a
      function `(problem, state) -> scalar`.
    - `check_every`: how many steps to take between two tests; a test may cost as much as a step.
    - `throw`: raise `RuntimeError` unless the solve converged.

    **Returns** a `Solution`, whose `result` says how the solve ended.

    **Raises** `ValueError` or `TypeError` naming the argument that is wrong.
    """
    validation.positive("tol", tol)
    validation.integer("max_steps", max_steps, low=0)
    validation.integer("check_every", check_every, low=1)
    if isinstance(measure, str) and not callable(getattr(problem, measure, None)):
        raise ValueError(f"measure: {type(problem).__name__} has no measure {measure!r}")
    start = starting_point(x0)
    task = _Task(method, problem, jnp.asarray(tol), run_key(root_key(key), 0), measure, check_every)

    carry = _begin(task, start)
    with progress_bar(type(method).__name__, max_steps, progress) as report:
        for stop in slices(0, max_steps):
            carry = _search(task, carry, jnp.asarray(stop), jnp.asarray(max_steps))
            report(int(carry.step))
            if not bool(carry.unfinished(task.tol)):
                break

    if not bool(all_finite(carry.state.x)):
        result = Result.nonfinite
    else:
        result = Result.converged if bool(carry.measure <= task.tol) else Result.max_steps
    if throw and result is not Result.converged:
        raise RuntimeError(f"{type(method).__name__}: {result} (measure {float(carry.measure):.3g}, tol {tol:g})")
    return Solution(carry.state.x, result, int(carry.step), float(carry.measure), carry.state.cost, carry.state)


class _Task(eqx.Module):
    method: Method[Any, Any]
    problem: Any
    tol: Float[Array, ""]
    key: Key[Array, ""]
    measure: str | Callable[[Any, Any], Float[Array, ""]] = eqx.field(static=True)
    check_every: int = eqx.field(static=True)

    def __call__(self, state: State) -> Float[Array, ""]:
        if callable(self.measure):
            return jnp.asarray(self.measure(self.problem, state))
        return jnp.asarray(getattr(self.problem, self.measure)(state.x))


class _Search(eqx.Module):
    state: State
    step: Int[Array, ""]
    measure: Float[Array, ""]

    def unfinished(self, tol: Float[Array, ""]) -> Array:
        return (self.measure > tol) & all_finite(self.state.x)


@eqx.filter_jit
def _begin(task: _Task, x0: Any) -> _Search:
    start = x0(start_key(task.key)) if callable(x0) else x0
    state = task.method.init(task.problem, start, init_key(task.key))
    return _Search(state, jnp.asarray(0), task(state))


@eqx.filter_jit
def _search(task: _Task, carry: _Search, stop: Int[Array, ""], limit: Int[Array, ""]) -> _Search:
    """Step in strides of `check_every` (the last one cut at `limit`) until step `stop` is passed or the search ends."""

    def one_step(number: Int[Array, ""], state: State) -> State:
        after: State = task.method.step(task.problem, state, step_key(task.key, number))
        return after

    def stride(carry: _Search) -> _Search:
        end = jnp.minimum(carry.step + task.check_every, limit)
        state = jax.lax.fori_loop(carry.step, end, one_step, carry.state)
        return _Search(state, end, task(state))

    def going(carry: _Search) -> Array:
        return (carry.step < stop) & carry.unfinished(task.tol)

    return jax.lax.while_loop(going, stride, carry)
