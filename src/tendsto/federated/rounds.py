"""Methods whose rounds fall into what the server asks, what clients answer, and what the server makes of it."""

from __future__ import annotations

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Key, PyTree

from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation
from tendsto.iteration import Method, State

StateT = TypeVar("StateT", bound=State)


class Call(eqx.Module):
    """What the server sends in a round.

    **Arguments**

    - `cohort`: to whom.
    - `shared`: what all members get.
    - `rows`: what each member gets by itself, a pytree of arrays with a row for each.
    - `opening`: whether this is the call before the first round.
    """

    cohort: Cohort
    shared: PyTree[Array]
    rows: PyTree[Array]
    opening: bool = eqx.field(static=True, default=False)


class RoundMethod(Method[Federation, StateT], Generic[StateT]):
    """A method of rounds: the server calls a cohort, its members answer, the server receives the answers.

    `init` and `step` play all parts in one program, for every client at once; a deployment plays them on different
    machines. Only `answer` reads data.
    """

    @abc.abstractmethod
    def open(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> tuple[StateT, Call | None]:
        """The state before anybody has sent anything, and what clients are asked before the first round, if anything.

        Of what clients keep for themselves it says how that begins.
        """

    @abc.abstractmethod
    def call(self, problem: Federation, state: StateT, key: Key[Array, ""]) -> tuple[StateT, Call]:
        """What the server sends in the next round, and its state after that."""

    @abc.abstractmethod
    def answer(
        self,
        problem: Federation,
        data: PyTree[Array],
        shared: PyTree[Array],
        row: PyTree[Array],
        kept: PyTree[Array],
        opening: bool,
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        """What one client sends, and what it keeps for the next time.

        **Arguments**: `data`, its own; `shared`, `row` and `opening`, of the call; `kept`, from the last time.
        """

    @abc.abstractmethod
    def receive(self, problem: Federation, state: StateT, call: Call, answers: PyTree[Array]) -> StateT:
        """The state after the answers, which have a row for each member of `call.cohort`; nobody else's count."""

    def kept(self, state: StateT) -> PyTree[Array]:
        """What clients keep for themselves, with a row for each; by default nothing."""
        del state

    def with_kept(self, state: StateT, kept: PyTree[Array]) -> StateT:
        """The state with other rows of what clients keep, or with none of them: `None`."""
        del kept
        return state

    def answer_like(self, x: PyTree[Array]) -> PyTree[Any]:
        """A pytree with the structure and shapes of an answer; by default the iterate's."""
        return x

    def init(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> StateT:
        """Open, and hear what clients have to say before the first round."""
        state, call = self.open(problem, x0, key)
        return state if call is None else self._heard(problem, state, call)

    def step(self, problem: Federation, state: StateT, key: Key[Array, ""]) -> StateT:
        """One round."""
        return self._heard(problem, *self.call(problem, state, key))

    def _heard(self, problem: Federation, state: StateT, call: Call) -> StateT:
        def answer(data: PyTree[Array], row: PyTree[Array], kept: PyTree[Array]) -> tuple[Any, Any]:
            return self.answer(problem, data, call.shared, row, kept, call.opening)

        everyones = self.kept(state)
        answers, kept = problem.map(answer, call.rows, call.cohort.take(everyones), cohort=call.cohort)
        return self.with_kept(self.receive(problem, state, call, answers), call.cohort.put(everyones, kept))
