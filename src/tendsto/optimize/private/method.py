"""What private methods share: a number of releases that is never exceeded, a random iterate as output, its privacy."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from tendsto import validation
from tendsto.iteration import Method, State, Trace, run
from tendsto.optimize.private.accounting import Adjacency, PrivacySpent, Release, privacy_spent
from tendsto.problems import FiniteSum

Whole = Int[Array, ""] | int
"""A whole number: how many, how often."""


class PrivateState(State):
    r"""The current iterate, and the one that may be published.

    **Arguments**

    - `output`: uniformly random among the iterates $w_1, \dots, w_t$ so far.
    - `count`: $t$, the number of steps taken; it stands still once the budget is spent.
    """

    output: Float[Array, " d"]
    count: Int[Array, ""]


PrivateStateT = TypeVar("PrivateStateT", bound=PrivateState)


class PrivateMethod(Method[Any, PrivateStateT]):
    """A method that makes noisy releases about records, and none after its last step.

    Every iterate is a function of the releases alone, so all of them may be published; gradient norms and values of
    the objective that `tendsto.run` records are not private.
    """

    steps: Whole = eqx.field(converter=jnp.asarray, kw_only=True)

    def __check_init__(self) -> None:
        whole("steps", self.steps)

    @abc.abstractmethod
    def releases(self, records: int) -> list[Release]:
        """What a whole run releases about `records` records, derived from the noise that the method adds."""

    @abc.abstractmethod
    def advance(self, problem: Any, state: PrivateStateT, key: Key[Array, ""]) -> PrivateStateT:
        """One step while budget is left; `count` and `output` are taken care of by `step`."""

    def affordable(self, problem: Any, state: PrivateStateT) -> Bool[Array, ""]:
        """Whether the next step is within what `releases` counts, whatever `steps` says."""
        return jnp.asarray(True)

    def publish(self, state: PrivateStateT, after: PrivateStateT, key: Key[Array, ""]) -> Float[Array, " d"]:
        """The output after the step from `state` to `after`: each of the new iterates so far with equal probability."""
        return reservoir(key, state, after.x)

    def privacy(self, records: int, delta: float, *, adjacency: Adjacency = "replace-one") -> PrivacySpent:
        """The guarantee of a whole run on `records` records, at `delta`; see `privacy_spent`."""
        return privacy_spent(self.releases(records), delta, adjacency=adjacency)

    def step(self, problem: Any, state: PrivateStateT, key: Key[Array, ""]) -> PrivateStateT:
        """One step; after `steps` steps the state stands still, and nothing more is released."""
        advance_key, output_key = jax.random.split(key)
        after = self.advance(problem, state, advance_key)
        output = self.publish(state, after, output_key)
        after = dataclasses.replace(after, output=output, count=state.count + 1)
        spent = (state.count >= self.steps) | ~self.affordable(problem, state)
        held: PrivateStateT = jax.tree.map(lambda old, new: jnp.where(spent, old, new), state, after)
        return held


def whole(name: str, value: ArrayLike) -> None:
    """Require a whole number of at least 1: a fraction would be made more often than it is accounted for.

    **Raises** `TypeError` or `ValueError`.
    """
    validation.real(name, value, low=1)
    if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(f"{name}: expected an integer, got {value}")


def reservoir(key: Key[Array, ""], state: PrivateState, candidate: Float[Array, " d"]) -> Float[Array, " d"]:
    r"""`candidate` with probability $1/(t+1)$ after $t$ steps, else the one before: uniform among all so far."""
    chosen = jax.random.uniform(key) * (state.count + 1) < 1.0
    return jnp.where(chosen, candidate, state.output)


def replacement_only(adjacency: Adjacency, method: str) -> None:
    """Refuse neighbours of different size, for methods that deal records out into batches of fixed size.

    **Raises** `ValueError`.
    """
    if adjacency != "replace-one":
        raise ValueError(f"adjacency: {method} deals out a fixed number of records; only 'replace-one' makes sense")


@dataclasses.dataclass(frozen=True)
class PrivateResult:
    """What `minimise` returns.

    **Arguments**

    - `x`: the output, private.
    - `privacy`: the guarantee of everything released on the way.
    - `finite`: whether the output is finite; otherwise the method diverged.
    - `trace`: the run with its metrics, which are *not* private.
    """

    x: Array
    privacy: PrivacySpent
    finite: bool
    trace: Trace


def minimise(
    method: PrivateMethod[Any],
    problem: FiniteSum,
    x0: ArrayLike,
    *,
    delta: float,
    adjacency: Adjacency = "replace-one",
    key: int | Key[Array, ""] = 0,
    record: str | Sequence[str] = "objective",
    points: int | Sequence[int] = 50,
) -> PrivateResult:
    """Run a private method for as long as its budget lasts.

    **Arguments**

    - `method`: a `PrivateMethod` with its noise.
    - `problem`: the finite sum whose components are the records.
    - `x0`: the start, chosen without looking at the data.
    - `delta`, `adjacency`: what to state the guarantee for; the noise is the method's own.
    - `key`, `record`, `points`: as in `tendsto.run`. The key is secret: who knows it can subtract the noise.

    **Returns** a `PrivateResult`.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """
    if not isinstance(method, PrivateMethod):
        raise TypeError(f"method: expected a PrivateMethod, got {type(method).__name__}")
    if not isinstance(problem, FiniteSum):
        raise TypeError(f"problem: expected a FiniteSum of records, got {type(problem).__name__}")
    privacy = method.privacy(problem.components, delta, adjacency=adjacency)
    trace = run(method, problem, x0, steps=int(method.steps), key=key, record=record, points=points, progress=False)
    output = trace.state.output[0]
    return PrivateResult(output, privacy, bool(np.isfinite(output).all()), trace)


def sensitivity_constants(problem: Any) -> tuple[float, float]:
    """The problem's `lipschitz` and `smoothness`, which hold for every record.

    **Raises** `ValueError` if it knows none that do not depend on the data.
    """
    if not hasattr(problem, "lipschitz") or not hasattr(problem, "smoothness"):
        raise ValueError(
            f"problem: {type(problem).__name__} has no Lipschitz constant of its components' gradients that holds for "
            "every record, as unbounded features or a squared loss have none; use a BoundedModel, or build the method "
            "with constants of your choice and clip=True"
        )
    lipschitz, smoothness = float(problem.lipschitz), float(problem.smoothness)
    validation.positive("lipschitz", lipschitz)
    validation.positive("smoothness", smoothness)
    return lipschitz, smoothness
