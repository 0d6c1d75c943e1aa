"""Clients that fail or lie, around any method of rounds."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key, PyTree

from tendsto import validation
from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation
from tendsto.federated.rounds import Call, RoundMethod
from tendsto.iteration import Cost, Scalar, State, hyperparameter

Fault = Literal["vanish", "nan", "repeat", "scale"]
"""Send nothing; send NaN; send the answer of the last time once more; send the answer times a factor."""


class FaultyState(State):
    """The method's own state, and the last true answer of every client."""

    inner: Any
    last: PyTree[Array]


class Faulty(RoundMethod[FaultyState]):
    """A method some of whose clients do not do as told, in every round after the opening.

    Clients that fail do what the method has them do, but send something else. What does not count, because its client
    vanished or is left out, is as if that client had been absent.

    **Arguments**

    - `method`: any method of rounds.
    - `faulty`: which clients, booleans of shape `(clients,)`.
    - `fault`: what they do.
    - `factor`: of `"scale"`; -1 turns the sign.
    - `leave_out_nonfinite`: whether the server leaves out answers that are not finite, as a deployed server does.
      Otherwise one of them makes the iterate NaN, which `Trace.finite` reports.
    """

    method: RoundMethod[Any]
    faulty: Bool[Array, " clients"] = eqx.field(converter=lambda value: jnp.asarray(value, bool))
    fault: Fault = eqx.field(static=True)
    factor: Scalar = hyperparameter(default=-1.0)
    leave_out_nonfinite: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        if self.fault not in get_args(Fault):
            raise ValueError(f"fault: must be one of {', '.join(get_args(Fault))}, got {self.fault!r}")
        validation.real("factor", self.factor)

    def open(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> tuple[FaultyState, Call | None]:
        """As the method opens."""
        if self.faulty.shape != (problem.clients,):
            raise ValueError(f"faulty: expected one for each of {problem.clients} clients, got {self.faulty.shape}")
        inner, call = self.method.open(problem, x0, key)
        last = jax.tree.map(
            lambda leaf: jnp.zeros((problem.clients, *leaf.shape), leaf.dtype), self.method.answer_like(x0)
        )
        return self._wrapped(inner, last), None if call is None else self._marked(call)

    def call(self, problem: Federation, state: FaultyState, key: Key[Array, ""]) -> tuple[FaultyState, Call]:
        """The method's call; a client knows whether it fails."""
        inner, call = self.method.call(problem, state.inner, key)
        return self._wrapped(inner, state.last), self._marked(call)

    def answer(
        self,
        problem: Federation,
        data: PyTree[Array],
        shared: PyTree[Array],
        row: PyTree[Array],
        kept: PyTree[Array],
        opening: bool,
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        """The method's answer, or what the fault makes of it."""
        fails, inner_row = row
        inner_kept, last = kept
        true, after = self.method.answer(problem, data, shared, inner_row, inner_kept, opening)
        wrong = {"nan": jnp.nan, "scale": self.factor}.get(self.fault, 1.0)
        false = last if self.fault == "repeat" else jax.tree.map(lambda leaf: (wrong * leaf).astype(leaf.dtype), true)
        sent = true if opening else jax.tree.map(lambda lie, truth: jnp.where(fails, lie, truth), false, true)
        lost = jnp.asarray(False) if opening else fails & self._does_not_count()
        after = jax.tree.map(lambda old, new: jnp.where(lost, old, new), inner_kept, after)
        return sent, (after, true)

    def receive(self, problem: Federation, state: FaultyState, call: Call, answers: PyTree[Array]) -> FaultyState:
        """What the method makes of the answers that count."""
        fails, rows = call.rows
        active = call.cohort.active
        if self._does_not_count() and not call.opening:
            active = active & ~fails
        heard = dataclasses.replace(call, cohort=Cohort(active, call.cohort.indices), rows=rows)
        return self._wrapped(self.method.receive(problem, state.inner, heard, answers), state.last)

    def kept(self, state: FaultyState) -> PyTree[Array]:
        """What the method's clients keep, and their last true answers."""
        return self.method.kept(state.inner), state.last

    def with_kept(self, state: FaultyState, kept: PyTree[Array]) -> FaultyState:
        """The state with other rows of both."""
        inner, last = (None, None) if kept is None else kept
        return self._wrapped(self.method.with_kept(state.inner, inner), last)

    def answer_like(self, x: PyTree[Array]) -> PyTree[Any]:
        """As the method's."""
        return self.method.answer_like(x)

    def _does_not_count(self) -> bool:
        return self.fault == "vanish" or (self.fault == "nan" and self.leave_out_nonfinite)

    def _marked(self, call: Call) -> Call:
        return dataclasses.replace(call, rows=(call.cohort.take(self.faulty), call.rows))

    def _wrapped(self, inner: Any, last: PyTree[Array]) -> FaultyState:
        cost: Cost = inner.cost
        return FaultyState(inner.x, cost, inner, last)
