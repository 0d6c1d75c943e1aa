"""Monotone inclusions: find a zero of a sum of an operator and a set-valued part with a cheap resolvent."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax.tree_utils as otu
from jaxtyping import Array, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.problems.finite_sum import FiniteSum
from tendsto.problems.regularisers import Regulariser, Zero

ConstantName = Literal["lipschitz", "cocoercivity", "average_lipschitz", "average_cocoercivity"]


class Certificate(NamedTuple):
    r"""Proof that `x` nearly solves an inclusion: anyone can check it with one evaluation of $F$.

    **Arguments**

    - `x`: the point.
    - `element`: $g \in G(x)$.
    - `residual`: $\lVert F(x) + g \rVert$, which is zero exactly if $g$ shows that $x$ is a solution.
    """

    x: PyTree[Array]
    element: PyTree[Array]
    residual: Float[Array, ""]


class Inclusion(eqx.Module):
    r"""Find $x^\star$ with $0 \in F(x^\star) + G(x^\star)$, for $F$ monotone and $G = \partial h$.

    $F$ is single-valued; $G$ is the subdifferential of the regulariser $h$ (the normal cone, for a set), whose
    resolvent $(I + \eta G)^{-1}$ is the proximal map of $\eta h$. A subclass gives `operator`.

    **Arguments** (fields that subclasses may set; a constant is `None` where it is unknown)

    - `regulariser`: $h$, by default zero, so that the inclusion is the equation $F(x) = 0$.
    - `lipschitz`: $L_F$ with $\lVert F(x) - F(y) \rVert \le L_F \lVert x - y \rVert$.
    - `cocoercivity`: $\beta$ with $\langle F(x) - F(y), x - y \rangle \ge \beta \lVert F(x) - F(y) \rVert^2$.
    """

    regulariser: Regulariser = Zero()
    lipschitz: Scalar | None = None
    cocoercivity: Scalar | None = None

    @abc.abstractmethod
    def operator(self, x: PyTree[Array]) -> PyTree[Array]:
        """$F(x)$."""

    @property
    def operator_cost(self) -> int:
        """How many components one evaluation of `operator` costs."""
        return 1

    def resolvent(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        r"""$(I + \eta G)^{-1}(v)$ with $\eta$ = `step_size`."""
        return self.regulariser.proximal(v, step_size)

    def forward_backward(self, x: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        r"""$(I + \eta G)^{-1}(x - \eta F(x))$, whose fixed points are the solutions."""
        return self.resolvent(otu.tree_add_scale(x, -step_size, self.operator(x)), step_size)

    def stationarity(self, x: PyTree[Array]) -> Float[Array, ""]:
        r"""The natural residual $\lVert x - (I + G)^{-1}(x - F(x)) \rVert$.

        It is at most $\lVert F(x) + g \rVert$ for every $g \in G(x)$, and zero exactly at solutions.
        """
        return jnp.asarray(otu.tree_norm(otu.tree_sub(x, self.forward_backward(x, 1.0))))

    def certificate(self, x: PyTree[Array], step_size: Scalar | None = None) -> Certificate:
        r"""A certified solution at `x`, or one forward-backward step away from it.

        Without a regulariser, the point is `x` itself and $g = 0$. Otherwise, it is
        $x^+ = (I + \eta G)^{-1}(v)$ for $v = x - \eta F(x)$, with $g = (v - x^+) / \eta \in G(x^+)$.

        **Arguments**

        - `x`: where to start from.
        - `step_size`: $\eta$, by default $1/L_F$.

        **Returns** a `Certificate`. It costs at most two evaluations of $F$.

        **Raises** `ValueError` if `step_size` is left out and $L_F$ is not known.
        """
        # A subclass may bring its own resolvent; then the regulariser says nothing about G.
        if isinstance(self.regulariser, Zero) and type(self).resolvent is Inclusion.resolvent:
            return Certificate(x, otu.tree_zeros_like(x), otu.tree_norm(self.operator(x)))
        step_size = 1.0 / self.constant("lipschitz") if step_size is None else step_size
        moved = otu.tree_add_scale(x, -step_size, self.operator(x))
        point = self.resolvent(moved, step_size)
        element = otu.tree_scale(1.0 / step_size, otu.tree_sub(moved, point))
        return Certificate(point, element, otu.tree_norm(otu.tree_add(self.operator(point), element)))

    def residual(self, x: PyTree[Array]) -> Float[Array, ""]:
        """The residual that `certificate(x)` certifies."""
        return self.certificate(x).residual

    def constant(self, name: ConstantName) -> Scalar:
        """The constant of this name.

        **Raises** `ValueError` if it is not known.
        """
        value: Scalar | None = getattr(self, name, None)
        if value is None:
            raise ValueError(f"problem: {type(self).__name__} does not know its {name}; give it, or choose a step size")
        return value


class FiniteSumInclusion(Inclusion):
    r"""An inclusion whose operator is an average, $F = \frac{1}{n} \sum_{i=1}^n F_i$, sampled one component at a time.

    An index $i$ drawn from a distribution $Q$ gives the unbiased estimate $F_q = F_i / (n Q_i)$, the scaled component.
    A subclass gives `components`, `sample` and `scaled_components`.

    **Arguments** (further fields; `None` where unknown)

    - `average_lipschitz`: $L$ with $\mathbb{E}_q \lVert F_q(x) - F_q(y) \rVert^2 \le L^2 \lVert x - y \rVert^2$.
    - `average_cocoercivity`: $\beta = 1/L$ with
      $\langle F(x) - F(y), x - y \rangle \ge \beta\, \mathbb{E}_q \lVert F_q(x) - F_q(y) \rVert^2$.
    """

    average_lipschitz: Scalar | None = None
    average_cocoercivity: Scalar | None = None

    @property
    @abc.abstractmethod
    def components(self) -> int:
        """$n$."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], size: int) -> PyTree[Int[Array, " size"]]:
        """`size` independent indices from $Q$."""

    @abc.abstractmethod
    def scaled_components(self, x: PyTree[Array], indices: PyTree[Int[Array, " batch"]]) -> PyTree[Array]:
        """$F_q(x)$ for each index, stacked along a first dimension of every leaf."""

    @property
    def operator_cost(self) -> int:
        """A full evaluation costs $n$ components."""
        return self.components


class Sampling(eqx.Module):
    """A distribution over the indices of $n$ components, from which drawing a batch does not take a full pass.

    **Arguments**

    - `weights`: one for each component, proportional to its probability; `None` for the uniform distribution.
    - `components`: $n$.
    """

    probabilities: Float[Array, " n"]
    cumulative: Float[Array, " n"] | None
    components: int = eqx.field(static=True)

    def __init__(self, components: int, weights: Any = None) -> None:
        validation.integer("components", components, low=1)
        self.components = components
        if weights is None:
            self.probabilities, self.cumulative = jnp.full(components, 1.0 / components), None
            return
        values = validation.finite_array("weights", weights, ndim=1)
        if values.shape != (components,):
            raise ValueError(f"weights: expected one for each of the {components} components, got shape {values.shape}")
        validation.real("weights", values, low=0.0)
        if not isinstance(values, jax.core.Tracer) and float(values.sum()) == 0.0:
            raise ValueError("weights: must not all be zero")
        self.probabilities = values / values.sum()
        self.cumulative = jnp.cumsum(self.probabilities)

    def draw(self, key: Key[Array, ""], size: int) -> Int[Array, " size"]:
        """`size` independent indices."""
        if self.cumulative is None:
            return jax.random.randint(key, (size,), 0, self.components)
        uniform = jax.random.uniform(key, (size,), self.cumulative.dtype) * self.cumulative[-1]
        # Rounding may put a draw on the last edge.
        return jnp.minimum(jnp.searchsorted(self.cumulative, uniform, side="right"), self.components - 1)

    def scaled(self, values: PyTree[Array], indices: Int[Array, " batch"]) -> PyTree[Array]:
        r"""Component values, stacked along the first dimension of every leaf, times their $1 / (n Q_i)$."""
        if self.cumulative is None:
            return values
        return jax.vmap(otu.tree_scale)(1.0 / (self.components * self.probabilities[indices]), values)


class Operator(Inclusion):
    r"""The inclusion of any JAX function: $0 \in F(x) + \partial h(x)$.

    **Arguments**

    - `function`: $F$, from a pytree of arrays to one of the same structure; it must be monotone (`audit` looks
      for pairs of points that show it is not).
    - `regulariser`, `lipschitz`, `cocoercivity`: as in `Inclusion`.
    """

    function: Callable[[Any], Any] = eqx.field(static=True, kw_only=True)

    def __init__(
        self,
        function: Callable[[Any], Any],
        regulariser: Regulariser = Zero(),  # noqa: B008 - immutable
        *,
        lipschitz: float | None = None,
        cocoercivity: float | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(f"function: expected a function of x, got {type(function).__name__}")
        self.function = function
        self.regulariser = regulariser
        self.lipschitz = _given("lipschitz", lipschitz)
        self.cocoercivity = _given("cocoercivity", cocoercivity)

    def operator(self, x: PyTree[Array]) -> PyTree[Array]:
        """$F(x)$."""
        return self.function(x)


class OperatorSum(FiniteSumInclusion):
    r"""The average of any JAX function over data: $F(x) = \frac{1}{n} \sum_i F(x; d_i)$.

    **Arguments**

    - `component`: a function of `x` and one datum.
    - `data`: a pytree of arrays, each with $n$ entries along its first dimension.
    - `regulariser`: $h$, by default zero.
    - `weights`: of the sampling distribution $Q$, one for each datum; by default uniform.
    - `lipschitz`, `cocoercivity`, `average_lipschitz`, `average_cocoercivity`: the constants that are known.

    **Raises** `ValueError` or `TypeError` if the data do not agree on $n$, or a constant is not positive.
    """

    component: Callable[[Any, Any], Any] = eqx.field(static=True, kw_only=True)
    data: PyTree[Array] = eqx.field(kw_only=True)
    sampling: Sampling = eqx.field(kw_only=True)

    def __init__(
        self,
        component: Callable[[Any, Any], Any],
        data: PyTree[Any],
        regulariser: Regulariser = Zero(),  # noqa: B008 - immutable
        *,
        weights: Any = None,
        lipschitz: float | None = None,
        cocoercivity: float | None = None,
        average_lipschitz: float | None = None,
        average_cocoercivity: float | None = None,
    ) -> None:
        if not callable(component):
            raise TypeError(f"component: expected a function of x and a datum, got {type(component).__name__}")
        self.component = component
        self.data = jax.tree.map(lambda leaf: validation.finite_array("data", leaf), data)
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(self.data)}
        if len(sizes) != 1 or () in sizes:
            raise ValueError(f"data: every array needs the same number of entries, got first dimensions {sizes}")
        self.sampling = Sampling(sizes.pop()[0], weights)
        self.regulariser = regulariser
        self.lipschitz = _given("lipschitz", lipschitz)
        self.cocoercivity = _given("cocoercivity", cocoercivity)
        self.average_lipschitz = _given("average_lipschitz", average_lipschitz)
        self.average_cocoercivity = _given("average_cocoercivity", average_cocoercivity)

    @property
    def components(self) -> int:
        return self.sampling.components

    def operator(self, x: PyTree[Array]) -> PyTree[Array]:
        return jax.tree.map(lambda leaf: leaf.mean(axis=0), jax.vmap(self.component, (None, 0))(x, self.data))

    def sample(self, key: Key[Array, ""], size: int) -> Int[Array, " size"]:
        return self.sampling.draw(key, size)

    def scaled_components(self, x: PyTree[Array], indices: Int[Array, " batch"]) -> PyTree[Array]:
        batch = jax.tree.map(lambda leaf: leaf[indices], self.data)
        values = jax.vmap(self.component, (None, 0))(x, batch)
        return self.sampling.scaled(values, indices)


class GradientField(FiniteSumInclusion):
    r"""The optimality condition $0 \in \nabla f(x) + \partial h(x)$ of a convex finite sum.

    With component smoothness $L_i$ and sampling distribution $Q$, the scaled components are cocoercive on average
    with $\beta = 1 / \max_i L_i / (n Q_i)$ and Lipschitz on average with
    $L^2 = \frac{1}{n^2} \sum_i L_i^2 / Q_i$: uniform sampling pays for the largest $L_i$, importance sampling
    ($Q_i \propto L_i$) for their mean.

    **Arguments**

    - `problem`: a finite sum such as `LeastSquares` or `LogisticRegression`, with its regulariser.
    - `sampling`: `"uniform"` or `"importance"`.

    **Raises** `ValueError` for another `sampling`.
    """

    problem: FiniteSum = eqx.field(kw_only=True)
    sampling: Sampling = eqx.field(kw_only=True)

    def __init__(self, problem: FiniteSum, sampling: Literal["uniform", "importance"] = "uniform") -> None:
        if sampling not in ("uniform", "importance"):
            raise ValueError(f"sampling: must be 'uniform' or 'importance', got {sampling!r}")
        n, smoothness = problem.components, problem.component_smoothness
        self.problem = problem
        self.regulariser = problem.regulariser
        self.sampling = Sampling(n, smoothness if sampling == "importance" else None)
        # A component that is never drawn has smoothness zero: it is constant, and its difference vanishes.
        scaled = smoothness if sampling == "uniform" else jnp.full(n, smoothness.mean())
        self.average_cocoercivity = 1.0 / scaled.max()
        self.average_lipschitz = jnp.sqrt(jnp.mean(smoothness * scaled))
        if (largest := getattr(problem, "smoothness", None)) is not None:
            self.lipschitz = jnp.asarray(largest)
            self.cocoercivity = 1.0 / self.lipschitz

    @property
    def components(self) -> int:
        return self.problem.components

    def operator(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        r"""$\nabla f(x)$."""
        gradient: Float[Array, " d"] = self.problem.gradient(x)
        return gradient

    def objective(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """$f(x) + h(x)$."""
        return self.problem.objective(x)

    def sample(self, key: Key[Array, ""], size: int) -> Int[Array, " size"]:
        return self.sampling.draw(key, size)

    def scaled_components(self, x: Float[Array, " d"], indices: Int[Array, " batch"]) -> Float[Array, "batch d"]:
        scaled: Float[Array, "batch d"] = self.sampling.scaled(self.problem.component_gradients(x, indices), indices)
        return scaled


class ProximalSubproblem(FiniteSumInclusion):
    r"""The equation of one resolvent step, $0 \in (x - u) + \eta F(x) + \eta G(x)$, whose solution is
    $(I + \eta(F + G))^{-1}(u)$.

    The sampled operator is $\eta F$; the strongly monotone rest $A = I - u + \eta G$ has the resolvent
    $(I + \tau A)^{-1}(v) = (I + \tfrac{\tau\eta}{1 + \tau} G)^{-1}\bigl(\tfrac{v + \tau u}{1 + \tau}\bigr)$.

    **Arguments**

    - `problem`: the inclusion of $F$ and $G$.
    - `centre`: $u$.
    - `step_size`: $\eta > 0$.
    """

    problem: FiniteSumInclusion = eqx.field(kw_only=True)
    centre: PyTree[Array] = eqx.field(kw_only=True)
    step_size: Scalar = hyperparameter(kw_only=True)

    def __init__(self, problem: FiniteSumInclusion, centre: PyTree[Array], step_size: Scalar) -> None:
        validation.positive("step_size", step_size)
        self.problem, self.centre, self.step_size = problem, centre, step_size
        if problem.lipschitz is not None:
            self.lipschitz = step_size * problem.lipschitz
        if problem.average_lipschitz is not None:
            self.average_lipschitz = step_size * problem.average_lipschitz

    @property
    def components(self) -> int:
        return self.problem.components

    def operator(self, x: PyTree[Array]) -> PyTree[Array]:
        r"""$\eta F(x)$."""
        return otu.tree_scale(self.step_size, self.problem.operator(x))

    def resolvent(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        r"""$(I + \tau A)^{-1}(v)$."""
        shrunk = jax.tree.map(lambda a, u: (a + step_size * u) / (1.0 + step_size), v, self.centre)
        return self.problem.resolvent(shrunk, step_size * self.step_size / (1.0 + step_size))

    def sample(self, key: Key[Array, ""], size: int) -> PyTree[Int[Array, " size"]]:
        return self.problem.sample(key, size)

    def scaled_components(self, x: PyTree[Array], indices: PyTree[Int[Array, " batch"]]) -> PyTree[Array]:
        return otu.tree_scale(self.step_size, self.problem.scaled_components(x, indices))


def _given(name: str, value: float | None) -> Scalar | None:
    if value is None:
        return None
    validation.positive(name, value)
    return jnp.asarray(value)
