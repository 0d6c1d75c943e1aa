"""Clients that send one compressed vector a round and remember what was lost: EControl and what it is compared with."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.federated.averaging import bits
from tendsto.federated.cohort import Cohort
from tendsto.federated.compressors import Compressor
from tendsto.federated.error_feedback import Start, check_start, per_client_zeros
from tendsto.federated.federation import Federation, begin
from tendsto.federated.optimizers import OptimizerLike, as_optimizer
from tendsto.federated.rounds import Call, RoundMethod
from tendsto.iteration import Cost, Scalar, State, hyperparameter


class ClientMemory(NamedTuple):
    """What clients remember, each part a pytree like the iterate with a row for each client, or `None` if unused.

    **Arguments**

    - `error`: $e_i$, the sum of what was not sent.
    - `estimate`: $h_i$, the estimate of the gradient, whose mean the server knows too.
    - `momentum`: $v_i$, a moving average of stochastic gradients.
    """

    error: PyTree[Array] = None
    estimate: PyTree[Array] = None
    momentum: PyTree[Array] = None


class Exchange(NamedTuple):
    """One client's part in a round.

    **Arguments**

    - `messages`: $D_i$, which goes into the direction of the server's step; for a method of two messages also what the
      estimate $h_i$ changes by, at the server too. With one message, estimates that learn change by $D_i$.
    - `memory`: the client's memory after the round.
    """

    messages: tuple[PyTree[Array], ...]
    memory: ClientMemory


class ControlState(State):
    r"""The iterate, the clients' memory, and the server's $h = \sum_i p_i h_i$."""

    server: PyTree[Array]
    participation: PyTree[Array]
    memory: ClientMemory
    control: PyTree[Array]


class CompressedGradientMethod(RoundMethod[ControlState]):
    r"""Rounds in which each client sends a compressed vector $D_i$ made of its gradient $g_i$ at $x_t$ and its memory.

    $$x_{t+1} = x_t - \gamma \sum_i p_i (h_i + D_i).$$

    A subclass says what is sent and what is remembered. Clients that are not there send nothing and remember all.

    **Arguments**

    - `compressor`: $C$, contractive.
    - `server`: $\gamma$, or an optax transformation for the server's step.
    """

    compressor: Compressor
    server: OptimizerLike = eqx.field(converter=as_optimizer)
    messages: ClassVar[int] = 1
    """How many compressed vectors a client sends in a round."""
    learns: ClassVar[bool] = False
    """Whether the estimates $h_i$ change, by the last of the messages."""

    @abc.abstractmethod
    def blank(self, zero: PyTree[Array]) -> ClientMemory:
        """The memory of clients that have seen nothing, from zeros with a row for each."""

    @abc.abstractmethod
    def exchange(self, memory: ClientMemory, gradient: PyTree[Array], key: Key[Array, ""]) -> Exchange:
        """What one client does in a round, from its memory and its stochastic gradient."""

    def first(self, memory: ClientMemory, gradient: PyTree[Array], key: Key[Array, ""]) -> Exchange:
        """What one client does before the first round, if it is asked; by default as in a round."""
        return self.exchange(memory, gradient, key)

    def remember(self, problem: Any, x0: PyTree[Array]) -> ClientMemory:
        """The memory before clients are asked for anything; by default the blank one."""
        return self.blank(per_client_zeros(problem, x0))

    def opening(self, x: PyTree[Array]) -> int:
        """How many bits a client sends before the first round; none if it is not asked."""
        del x
        return 0

    def open(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> tuple[ControlState, Call | None]:
        """Start at `x0`; methods whose estimates learn ask everyone for the first unless these are zero."""
        of_participation, of_memory = jax.random.split(key)
        participation = begin(problem, x0, of_participation)
        memory = self.remember(problem, x0)
        estimated = memory.estimate is not None
        state = ControlState(
            x=x0,
            cost=Cost(),
            server=self.server.init(x0),
            participation=participation,
            memory=memory,
            control=problem.average(memory.estimate) if estimated else jax.tree.map(jnp.zeros_like, x0),
        )
        if not self.opening(x0):
            return state, None
        keys = tuple(jax.random.split(each, problem.clients) for each in jax.random.split(of_memory))
        return state, Call(Cohort.everyone(problem.clients), x0, keys, opening=True)

    def call(self, problem: Federation, state: ControlState, key: Key[Array, ""]) -> tuple[ControlState, Call]:
        """The iterate to all members, and to each its keys."""
        of_cohort, of_clients = jax.random.split(key)
        cohort, participation = problem.participation.sample(state.participation, problem.clients, of_cohort)
        keys = jax.vmap(jax.random.split)(cohort.take(jax.random.split(of_clients, problem.clients)))
        rows = (keys[:, 0], keys[:, 1])
        return dataclasses.replace(state, participation=participation), Call(cohort, state.x, rows)

    def answer(
        self,
        problem: Federation,
        data: PyTree[Array],
        shared: PyTree[Array],
        row: PyTree[Array],
        kept: PyTree[Array],
        opening: bool,
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        """The messages, and the memory after them."""
        of_gradient, of_compressor = row
        gradient = problem.client_stochastic_gradient(data, shared, of_gradient)
        done = (self.first if opening else self.exchange)(kept, gradient, of_compressor)
        return done.messages, done.memory

    def receive(self, problem: Federation, state: ControlState, call: Call, answers: PyTree[Array]) -> ControlState:
        """The server's step along the estimates and the messages; in the opening it only learns the estimates."""
        cohort = call.cohort
        direction, control = self.combine(cohort, cohort.take(problem.weights), state.control, answers)
        x, server = state.x, state.server
        if not call.opening:
            x, server = self.server.step(direction, server, x)
        cost = problem.round_cost(
            cohort,
            gradients=cohort.take(problem.client_stochastic_gradient_cost),
            bits_up=self.opening(x) if call.opening else self.messages * self.compressor.bits(x),
            bits_down=bits(x),
        )
        return ControlState(x, state.cost + cost, server, state.participation, state.memory, control)

    def combine(
        self, cohort: Cohort, weights: Float[Array, " members"], control: PyTree[Array], messages: PyTree[Array]
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        r"""$h + \sum_i p_i D_i$, and the server's next $h$."""
        direction = _plus(control, cohort.weighted_sum(weights, messages[0]))
        learnt = _plus(control, cohort.weighted_sum(weights, messages[-1])) if self.learns else control
        return direction, learnt

    def kept(self, state: ControlState) -> PyTree[Array]:
        """The clients' memory."""
        return state.memory

    def with_kept(self, state: ControlState, kept: PyTree[Array]) -> ControlState:
        """The state with another memory of the clients."""
        return dataclasses.replace(state, memory=ClientMemory() if kept is None else kept)

    def answer_like(self, x: PyTree[Array]) -> PyTree[Any]:
        """One vector for each message."""
        return (x,) * self.messages


T = TypeVar("T", bound=PyTree)


def _plus(one: T, other: T) -> T:
    total: T = jax.tree.map(jnp.add, one, other)
    return total


def _minus(one: T, other: T) -> T:
    difference: T = jax.tree.map(jnp.subtract, one, other)
    return difference


class CompressedSGD(CompressedGradientMethod):
    """Naive compression, $D_i = C(g_i)$: what is lost is forgotten. It can diverge at any step size.

    **Source**: A. Beznosikov et al., *On Biased Compression for Distributed Learning*, 2002.12410, Example 1.
    """

    def blank(self, zero: PyTree[Array]) -> ClientMemory:
        """Nothing."""
        return ClientMemory()

    def exchange(self, memory: ClientMemory, gradient: PyTree[Array], key: Key[Array, ""]) -> Exchange:
        """The compressed gradient."""
        return Exchange((self.compressor(gradient, key),), memory)


class EF14(CompressedGradientMethod):
    r"""Classical error feedback (D-EC-SGD): what is lost is added to the next gradient.

    $$D_i = C(e_i + g_i), \qquad e_i \leftarrow e_i + g_i - D_i.$$

    Where clients differ it stops at a distance from the minimiser proportional to the step size.

    **Source**: S. Stich, J.-B. Cordonnier, M. Jaggi, *Sparsified SGD with Memory*, 1809.07599, Algorithm 1; distributed
    as in 2311.05645.
    """

    def blank(self, zero: PyTree[Array]) -> ClientMemory:
        """No error."""
        return ClientMemory(error=zero)

    def exchange(self, memory: ClientMemory, gradient: PyTree[Array], key: Key[Array, ""]) -> Exchange:
        """The gradient and the error in full."""
        owed = _plus(memory.error, gradient)
        message = self.compressor(owed, key)
        return Exchange((message,), memory._replace(error=_minus(owed, message)))


class IdealErrorFeedback(CompressedGradientMethod):
    r"""Classical error feedback of $g_i - \nabla f_i(x^\star)$ (EC-Ideal): a yardstick that knows the solution.

    $$D_i = C(e_i + g_i - h_i), \qquad e_i \leftarrow e_i + g_i - h_i - D_i, \qquad h_i = \nabla f_i(x^\star).$$

    It runs on problems that know their minimiser.

    **Source**: Y. Gao, R. Islamov, S. Stich, *EControl*, 2311.05645.
    """

    def blank(self, zero: PyTree[Array]) -> ClientMemory:
        """No error."""
        return ClientMemory(error=zero, estimate=zero)

    def remember(self, problem: Any, x0: PyTree[Array]) -> ClientMemory:
        """The gradients at the minimiser, for nothing."""
        if not hasattr(problem, "minimiser"):
            raise ValueError(f"problem: {type(problem).__name__} does not know its minimiser")
        return super().remember(problem, x0)._replace(estimate=problem.client_gradients(problem.minimiser))

    def exchange(self, memory: ClientMemory, gradient: PyTree[Array], key: Key[Array, ""]) -> Exchange:
        """The error and the difference from the gradient at the minimiser."""
        owed = _plus(memory.error, _minus(gradient, memory.estimate))
        message = self.compressor(owed, key)
        return Exchange((message,), memory._replace(error=_minus(owed, message)))


class _Learning(CompressedGradientMethod):
    """The methods whose estimates $h_i$ follow the gradients."""

    start: Start = eqx.field(static=True, default="gradient", kw_only=True)
    learns: ClassVar[bool] = True

    def __check_init__(self) -> None:
        check_start(self.start)

    def opening(self, x: PyTree[Array]) -> int:
        """Of a vector in full, or compressed, or none."""
        return {"gradient": bits(x), "compressed": self.compressor.bits(x), "zero": 0}[self.start]

    def first(self, memory: ClientMemory, gradient: PyTree[Array], key: Key[Array, ""]) -> Exchange:
        """The first estimate; where there are two messages, either of them is it."""
        estimate = gradient if self.start == "gradient" else self.compressor(gradient, key)
        momentum = None if memory.momentum is None else gradient
        return Exchange((estimate,) * self.messages, memory._replace(estimate=estimate, momentum=momentum))


class EControl(_Learning):
    r"""Error control: estimates learn the gradients, and a share of the error is fed back into the same message.

    $$D_i = C(\eta e_i + g_i - h_i), \qquad e_i \leftarrow e_i + g_i - h_i - D_i, \qquad h_i \leftarrow h_i + D_i.$$

    The error is not scaled by $\eta$, so that $x_t - \gamma\sum_i p_i e_i$ follows SGD without compression. $\eta = 0$
    is EF21. Above about the contraction $\delta$ it may diverge, and errors last $1/\eta$ rounds: between $\delta/4$
    and $\delta/2$ serves most problems.

    **Arguments**

    - `compressor`, `server`: $C$, and $\gamma$ or an optax transformation for the server's step.
    - `feedback`: $\eta \in [0, 1]$.
    - `start`: the first estimates; `"gradient"` sends full gradients once.

    **Source**: Y. Gao, R. Islamov, S. Stich, *EControl: Fast Distributed Optimization with Compression and Error
    Control*, 2311.05645, Algorithm 1.
    """

    feedback: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.real("feedback", self.feedback, low=0.0, high=1.0)

    @classmethod
    def theory(cls, compressor: Compressor, server: Any, x0: PyTree[Array]) -> EControl:
        r"""With $\eta = \delta/400$ of the theorems, $\delta$ the contraction for messages like `x0`.

        The step size is yours to give: the theorems want one of order $\delta^2/L$.

        **Source**: 2311.05645.
        """
        return cls(compressor, server, compressor.contraction(x0) / 400)

    def blank(self, zero: PyTree[Array]) -> ClientMemory:
        """Neither error nor estimate."""
        return ClientMemory(error=zero, estimate=zero)

    def exchange(self, memory: ClientMemory, gradient: PyTree[Array], key: Key[Array, ""]) -> Exchange:
        """The difference from the estimate and a share of the error."""
        change = _minus(gradient, memory.estimate)
        fed_back = jax.tree.map(lambda error: jnp.asarray(self.feedback, error.dtype) * error, memory.error)
        message = self.compressor(_plus(fed_back, change), key)
        error = _minus(_plus(memory.error, change), message)
        return Exchange((message,), ClientMemory(error, _plus(memory.estimate, message)))


class DoubleCompression(_Learning):
    r"""Error feedback whose estimates learn from a message of their own: two compressed messages a round.

    $$D_i = C(e_i + g_i - h_i), \qquad e_i \leftarrow e_i + g_i - h_i - D_i, \qquad h_i \leftarrow h_i + C(g_i - h_i).$$

    **Source**: the variant of D-EC-SGD that 2311.05645 compares with.
    """

    messages: ClassVar[int] = 2

    def blank(self, zero: PyTree[Array]) -> ClientMemory:
        """Neither error nor estimate."""
        return ClientMemory(error=zero, estimate=zero)

    def exchange(self, memory: ClientMemory, gradient: PyTree[Array], key: Key[Array, ""]) -> Exchange:
        """The error with the difference from the estimate; then that difference alone."""
        of_error, of_estimate = jax.random.split(key)
        change = _minus(gradient, memory.estimate)
        owed = _plus(memory.error, change)
        message, learnt = self.compressor(owed, of_error), self.compressor(change, of_estimate)
        return Exchange((message, learnt), ClientMemory(_minus(owed, message), _plus(memory.estimate, learnt)))


class EF21Momentum(_Learning):
    r"""EF21 of a moving average of stochastic gradients (EF21-SGDM).

    $$v_i \leftarrow (1 - \eta) v_i + \eta g_i, \qquad D_i = C(v_i - h_i), \qquad h_i \leftarrow h_i + D_i.$$

    $\eta = 1$ is EF21. A round here begins with the gradients; the paper's begins with the server's step, so that with
    noisy gradients the first estimates enter $v_i$ once more.

    **Arguments**

    - `compressor`, `server`: $C$, and $\gamma$ or an optax transformation for the server's step.
    - `weight`: $\eta \in (0, 1]$, of the new gradient.
    - `start`: the first estimates; `"zero"` starts the average at zero too.

    **Source**: I. Fatkhullin, A. Tyurin, P. Richtárik, *Momentum Provably Improves Error Feedback!*, 2305.15155,
    Algorithm 1.
    """

    weight: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.real("weight", self.weight, low=0.0, high=1.0, open_low=True)

    def blank(self, zero: PyTree[Array]) -> ClientMemory:
        """Neither estimate nor average."""
        return ClientMemory(estimate=zero, momentum=zero)

    def exchange(self, memory: ClientMemory, gradient: PyTree[Array], key: Key[Array, ""]) -> Exchange:
        """The difference of the average from the estimate."""
        momentum = jax.tree.map(
            lambda old, new: old + jnp.asarray(self.weight, new.dtype) * (new - old), memory.momentum, gradient
        )
        message = self.compressor(_minus(momentum, memory.estimate), key)
        return Exchange((message,), ClientMemory(None, _plus(memory.estimate, message), momentum))


class _TransformState(NamedTuple):
    memory: ClientMemory
    control: PyTree[Array]
    rounds: Int[Array, ""]


def compressed_gradients(
    method: CompressedGradientMethod, clients: int, key: Key[Array, ""]
) -> optax.GradientTransformation:
    r"""One of these methods as the first link of an optax chain: from every client's gradient to one direction.

    Its updates are gradients with a leading axis of clients; what comes out is $\frac1n\sum_i (h_i + D_i)$, for any
    optimiser to step with. The memory begins with zeros, as with `start="zero"`.

    **Arguments**

    - `method`: its `server` is not used.
    - `clients`: $n$.
    - `key`: the randomness of the compressor.

    **Raises** `ValueError` for a method that starts with gradients or knows the solution.
    """
    validation.integer("clients", clients, low=1)
    if getattr(method, "start", "zero") != "zero" or isinstance(method, IdealErrorFeedback):
        raise ValueError("method: gradients before the first update are not at hand; choose start='zero'")

    def init(params: optax.Params) -> _TransformState:
        zero = jax.tree.map(lambda leaf: jnp.zeros((clients, *leaf.shape), leaf.dtype), params)
        return _TransformState(method.blank(zero), jax.tree.map(jnp.zeros_like, params), jnp.zeros((), int))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, _TransformState]:
        del params
        keys = jax.random.split(jax.random.fold_in(key, state.rounds), clients)
        done = jax.vmap(method.exchange)(state.memory, updates, keys)
        everyone, equal = Cohort.everyone(clients), jnp.full(clients, 1.0 / clients)
        direction, control = method.combine(everyone, equal, state.control, done.messages)
        return direction, _TransformState(done.memory, control, state.rounds + 1)

    return optax.GradientTransformation(init, update)
