"""Error feedback of 2021 (EF21), whose clients send the compressed change of their gradient, and its weighted form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree
from numpy.typing import ArrayLike, NDArray

from tendsto import validation
from tendsto.federated.averaging import bits
from tendsto.federated.cohort import Cohort
from tendsto.federated.compressors import Compressor
from tendsto.federated.federation import Federation, begin, client_weights, squared_norm
from tendsto.federated.optimizers import GradientStep, OptimizerLike, as_optimizer
from tendsto.federated.participation import Everyone
from tendsto.federated.rounds import Call, RoundMethod
from tendsto.federated.smoothness import error_feedback_step_size
from tendsto.iteration import Cost, State, Trace, run

Start = Literal["gradient", "compressed", "zero"]
"""The first estimates: every client's gradient sent in full, that gradient compressed, or zeros."""


class FeedbackState(State):
    r"""The iterate, the estimate $g_i$ at each client and their weighted sum, which is all that the server keeps."""

    server: PyTree[Array]
    participation: PyTree[Array]
    estimates: PyTree[Array]
    aggregate: PyTree[Array]


class EF21(RoundMethod[FeedbackState]):
    r"""Error feedback: each client keeps an estimate of its gradient and sends only the compressed correction.

    $$x_{t+1} = x_t - \gamma \sum_i w_i g_i^t, \qquad
      g_i^{t+1} = g_i^t + C\!\left(\frac{p_i}{w_i}\nabla f_i(x_{t+1}) - g_i^t\right).$$

    With $w_i = p_i$ this is EF21; with $w_i \propto p_i L_i$ it is EF21-W, the same method for a homogeneous compressor
    (top-k, sign) and another one otherwise. Clients that are not there keep their estimate and send nothing. Stochastic
    gradients are used where the problem has them (EF21-W-SGD).

    **Arguments**

    - `compressor`: $C$, contractive.
    - `server`: $\gamma$, or an optax transformation for the server's step.
    - `weights`: $w_i > 0$ that sum to one, shape `(clients,)`; by default the problem's $p_i$.
    - `start`: the first estimates; `"gradient"` sends full gradients once.

    **Source**: P. Richtárik, I. Sokolov, I. Fatkhullin, *EF21*, 2106.05203, Algorithm 2; P. Richtárik, E. Gasanov,
    K. Burlachenko, *Error Feedback Reloaded*, 2402.10774, Algorithm 3 and its variants with stochastic gradients and
    partial participation.
    """

    compressor: Compressor
    server: OptimizerLike = eqx.field(converter=as_optimizer)
    weights: Float[Array, " clients"] | None = eqx.field(
        default=None, converter=lambda value: None if value is None else jnp.asarray(value, float)
    )
    start: Start = eqx.field(static=True, default="gradient")

    def __check_init__(self) -> None:
        check_start(self.start)
        if self.weights is not None:
            validation.real("weights", self.weights, low=0.0, open_low=True)

    @classmethod
    def theory(
        cls,
        problem: Any,
        compressor: Compressor,
        x0: PyTree[Any],
        *,
        mean: Literal["arithmetic", "quadratic"] = "arithmetic",
        weighted: bool = False,
        smoothness: float | None = None,
        client_smoothness: ArrayLike | None = None,
    ) -> EF21:
        r"""With the step size $\gamma = 1/(L + \bar L\,\xi(\alpha))$ of the theorem.

        **Arguments**

        - `problem`: with equal weights.
        - `compressor`: its contraction is taken for messages like `x0`.
        - `mean`: which mean $\bar L$ of the $L_i$ is: the arithmetic one (Theorems 3 and 4), or the quadratic one of
          the earlier analysis.
        - `weighted`: weigh clients by their smoothness, EF21-W.
        - `smoothness`, `client_smoothness`: $L$ and $L_i$; by default those that the problem knows.

        **Raises** `ValueError` if the problem's weights differ.

        **Source**: 2402.10774, Theorems 3 and 4.
        """
        whole, each = _constants(problem, smoothness, client_smoothness)
        step_size = error_feedback_step_size(whole, each, compressor.contraction(x0), mean)
        return cls(compressor, GradientStep(step_size), smoothness_weights(each) if weighted else None)

    def certify(
        self,
        problem: Any,
        x0: PyTree[ArrayLike],
        *,
        steps: int,
        seeds: int | Sequence[int] = 1,
        key: int | Key[Array, ""] = 0,
        smoothness: float | None = None,
        client_smoothness: ArrayLike | None = None,
        lower: float | None = None,
    ) -> StationarityCertificate:
        r"""Run, and put the mean squared gradient of the iterates beside the theorem's bound.

        $$\frac1T \sum_{t<T} \mathbb E\lVert\nabla f(x_t)\rVert^2 \le
          \frac{2(f(x_0) - \inf f)}{\gamma T} + \frac{\mathbb E\,G_0}{\theta T},
          \qquad \theta = 1 - \sqrt{1 - \alpha},$$

        where $G_0 = \sum_i \frac{1}{n^2 w_i}\lVert g_i^0 - \nabla f_i(x_0)\rVert^2$ with $w_i \propto L_i$ is zero for
        estimates that start as full gradients. It holds for EF21, for EF21-W and for any other weights of the method,
        since a client's scale leaves the relative error of its messages as it is. For a compressor without randomness
        it holds for the run itself, and for another one of the mean over all runs.

        **Arguments**

        - `problem`: with equal weights, everyone taking part and exact gradients.
        - `x0`, `steps` ($T$), `seeds`, `key`: as for `run`.
        - `smoothness`, `client_smoothness`: $L$ and $L_i$; by default those that the problem knows.
        - `lower`: a number that $f$ never falls below; by default the problem's minimum.

        **Raises** `ValueError` or `TypeError` where the theorem does not apply: for a larger step size than
        $1/(L + L_{\mathrm{AM}}\,\xi(\alpha))$, another server optimiser, absent clients, noisy gradients.

        **Source**: 2402.10774, Theorems 3 and 4.
        """
        validation.integer("steps", steps, low=1)
        whole, each = _constants(problem, smoothness, client_smoothness)
        contraction = self.compressor.contraction(x0)
        if not isinstance(self.server, GradientStep):
            raise TypeError("server: the theorem is for a step size, not for another optimiser")
        step_size = float(self.server.step_size)
        largest = error_feedback_step_size(whole, each, contraction)
        if step_size > largest * (1 + 1e-12):
            raise ValueError(f"server: the theorem allows step sizes up to {largest:.6g}, got {step_size:.6g}")
        if not isinstance(problem.participation, Everyone):
            raise ValueError("problem: the theorem is for everyone taking part in every round")
        if not _exact_gradients(problem, jax.tree.map(jnp.asarray, x0)):
            raise ValueError("problem: the theorem is for exact gradients; these are noisy")
        lowest = float(problem.minimum) if lower is None else float(lower)
        gap = float(problem.objective(jax.tree.map(jnp.asarray, x0))) - lowest
        validation.real("lower", gap, low=0.0)
        how: dict[str, Any] = {"seeds": seeds, "key": key, "progress": False}
        trace = run(self, problem, x0, steps=steps, record="squared_gradient", points=range(steps), **how)
        distortion = 0.0
        if self.start != "gradient":
            weights = smoothness_weights(each)

            def first(problem: Federation, state: FeedbackState) -> Float[Array, ""]:
                return self.distortion(problem, state, weights)

            distortion = float(run(self, problem, x0, steps=0, record={"G": first}, **how)["G"].mean())
        shrink = 1.0 - math.sqrt(1.0 - contraction)
        return StationarityCertificate(
            bound=2.0 * gap / (step_size * steps) + distortion / (shrink * steps),
            mean_squared_gradient=trace["squared_gradient"].values[:, :-1].mean(axis=1),
            trace=trace,
        )

    def _scales(self, problem: Federation) -> tuple[Float[Array, " clients"], Float[Array, " clients"]]:
        """$w_i$ and $p_i / w_i$."""
        if self.weights is None:
            return problem.weights, jnp.ones_like(problem.weights)
        if self.weights.shape != problem.weights.shape:
            raise ValueError(f"weights: expected one for each of {problem.clients} clients, got {self.weights.shape}")
        return self.weights, problem.weights / self.weights

    def open(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> tuple[FeedbackState, Call | None]:
        """All estimates are zero; unless they stay so, everyone is asked for its first."""
        of_participation, of_gradients, of_compressor = jax.random.split(key, 3)
        state = FeedbackState(
            x=x0,
            cost=Cost(),
            server=self.server.init(x0),
            participation=begin(problem, x0, of_participation),
            estimates=per_client_zeros(problem, x0),
            aggregate=jax.tree.map(jnp.zeros_like, x0),
        )
        if self.start == "zero":
            return state, None
        keys = (jax.random.split(each, problem.clients) for each in (of_gradients, of_compressor))
        return state, Call(Cohort.everyone(problem.clients), x0, (*keys, self._scales(problem)[1]), opening=True)

    def call(self, problem: Federation, state: FeedbackState, key: Key[Array, ""]) -> tuple[FeedbackState, Call]:
        """Step along the aggregate; then the cohort is asked for compressed corrections at the new point."""
        of_cohort, of_gradients, of_compressor = jax.random.split(key, 3)
        x, server = self.server.step(state.aggregate, state.server, state.x)
        cohort, participation = problem.participation.sample(state.participation, problem.clients, of_cohort)
        keys = (jax.random.split(each, problem.clients) for each in (of_gradients, of_compressor))
        rows = cohort.take((*keys, self._scales(problem)[1]))
        return dataclasses.replace(state, x=x, server=server, participation=participation), Call(cohort, x, rows)

    def answer(
        self,
        problem: Federation,
        data: PyTree[Array],
        shared: PyTree[Array],
        row: PyTree[Array],
        kept: PyTree[Array],
        opening: bool,
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        r"""$C\!\left(\frac{p_i}{w_i}\nabla f_i(x) - g_i\right)$, and $g_i$ with that added."""
        of_gradient, of_compressor, scale = row
        gradient = problem.client_stochastic_gradient(data, shared, of_gradient)
        change = jax.tree.map(lambda leaf, old: scale.astype(leaf.dtype) * leaf - old, gradient, kept)
        in_full = opening and self.start == "gradient"
        message = change if in_full else self.compressor(change, of_compressor)
        return message, jax.tree.map(jnp.add, kept, message)

    def receive(self, problem: Federation, state: FeedbackState, call: Call, answers: PyTree[Array]) -> FeedbackState:
        """The aggregate with the corrections added."""
        cohort, x = call.cohort, state.x
        in_full = call.opening and self.start == "gradient"
        cost = problem.round_cost(
            cohort,
            gradients=cohort.take(problem.client_stochastic_gradient_cost),
            bits_up=bits(x) if in_full else self.compressor.bits(x),
            bits_down=bits(x),
        )
        received = cohort.weighted_sum(cohort.take(self._scales(problem)[0]), answers)
        return dataclasses.replace(
            state, cost=state.cost + cost, aggregate=jax.tree.map(jnp.add, state.aggregate, received)
        )

    def kept(self, state: FeedbackState) -> PyTree[Array]:
        """$g_i$."""
        return state.estimates

    def with_kept(self, state: FeedbackState, kept: PyTree[Array]) -> FeedbackState:
        """The state with other estimates."""
        return dataclasses.replace(state, estimates=kept)

    def distortion(
        self, problem: Federation, state: FeedbackState, weights: ArrayLike | None = None
    ) -> Float[Array, ""]:
        r"""How far estimates are off: $G = \sum_i \frac{p_i^2}{v_i} \lVert\frac{w_i}{p_i} g_i - \nabla f_i(x)\rVert^2$.

        **Arguments**: `weights`, $v_i$ of the analysis; by default the method's own $w_i$.
        """
        own, _ = self._scales(problem)
        shares = problem.weights
        gradients = problem.client_gradients(state.x)

        def error(gradient: PyTree[Array], estimate: PyTree[Array], scale: Float[Array, ""]) -> Float[Array, ""]:
            return squared_norm(jax.tree.map(lambda exact, kept: scale * kept - exact, gradient, estimate))

        errors = jax.vmap(error)(gradients, state.estimates, own / shares)
        return jnp.dot(shares**2 / (own if weights is None else jnp.asarray(weights)), errors)


@dataclass(frozen=True)
class StationarityCertificate:
    """What the theorem allows the iterates' mean squared gradient to be, and what it was.

    **Arguments**

    - `bound`: of the theorem.
    - `mean_squared_gradient`: over the iterates before the last, one number for each seed.
    - `trace`: the run, with the squared gradient of every iterate.
    """

    bound: float
    mean_squared_gradient: NDArray[np.float64]
    trace: Trace


def check_start(start: Any) -> None:
    """Refuse another start than the three; raises `ValueError`."""
    if start not in get_args(Start):
        raise ValueError(f"start: must be 'gradient', 'compressed' or 'zero', got {start!r}")


def per_client_zeros(problem: Federation, x: PyTree[Array]) -> PyTree[Array]:
    """Zeros like `x` for every client."""
    return jax.tree.map(lambda leaf: jnp.zeros((problem.clients, *leaf.shape), leaf.dtype), x)


def _constants(
    problem: Any, smoothness: float | None, client_smoothness: ArrayLike | None
) -> tuple[float, Float[Array, " clients"]]:
    """$L$ and $L_i$, for a problem whose clients weigh the same."""
    if not np.allclose(problem.weights, 1.0 / problem.clients, rtol=1e-6):
        raise ValueError("problem: the theorem is for clients of equal weights")
    for name, given in (("smoothness", smoothness), ("client_smoothness", client_smoothness)):
        if given is None and not hasattr(problem, name):
            raise ValueError(
                f"{name}: {type(problem).__name__} does not know it, so it must be given; for linear models "
                "pooled_smoothness and linear_model_smoothness compute it"
            )
    each = problem.client_smoothness if client_smoothness is None else client_smoothness
    values = validation.finite_array("client_smoothness", each, ndim=1)
    if values.shape != (problem.clients,):
        raise ValueError(f"client_smoothness: expected one for each of {problem.clients} clients, got {values.shape}")
    return float(problem.smoothness if smoothness is None else smoothness), values


def _exact_gradients(problem: Federation, x: PyTree[Array]) -> bool:
    """Whether stochastic gradients are the gradients, as far as one draw at `x` tells."""
    keys = jax.random.split(jax.random.key(0), problem.clients)
    drawn = problem.map(lambda data, key: problem.client_stochastic_gradient(data, x, key), keys)
    pairs = zip(jax.tree.leaves(drawn), jax.tree.leaves(problem.client_gradients(x)), strict=True)
    return all(np.allclose(one, other, rtol=1e-6) for one, other in pairs)


def smoothness_weights(client_smoothness: ArrayLike) -> Float[Array, " clients"]:
    r"""$w_i = L_i / \sum_j L_j$.

    **Raises** `ValueError` unless all are positive: a client whose function is constant has nothing to send.
    """
    values = validation.finite_array("client_smoothness", client_smoothness, ndim=1)
    validation.real("client_smoothness", values, low=0.0, open_low=True)
    return client_weights(values, len(values))
