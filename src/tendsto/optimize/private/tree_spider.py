"""Tree-based private SPIDER: one pass over the records, corrections along a binary tree."""

from __future__ import annotations

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from tendsto import validation
from tendsto.iteration import Cost, Scalar, hyperparameter
from tendsto.optimize.private.accounting import Adjacency, PrivacySpent, Release, calibrate, privacy_spent
from tendsto.optimize.private.estimators import gaussian
from tendsto.optimize.private.method import (
    PrivateMethod,
    PrivateState,
    replacement_only,
    reservoir,
    sensitivity_constants,
)
from tendsto.problems import FiniteSum, clip_rows


class TreeSpiderState(PrivateState):
    """Adds the path from the root to the current leaf, and what has been used of the records.

    **Arguments**

    - `order`: the records in the random order in which they are used.
    - `used`: how many of them have been.
    - `params`, `estimates`: parameters and estimate of the gradient of the path's node at each depth.
    - `stopped`: whether an estimate was small enough to stop; `output` is then the iterate where it was.
    """

    order: Int[Array, " n"]
    used: Int[Array, ""]
    params: Float[Array, "levels d"]
    estimates: Float[Array, "levels d"]
    stopped: Bool[Array, ""]


class TreeSpider(PrivateMethod[TreeSpiderState]):
    r"""SPIDER whose estimator sums at most $D$ corrections instead of one a step, each on fresh records.

    In each round a binary tree of depth $D$ is visited depth first. The root estimates the gradient from $b$ records;
    a left child takes over its parent's parameters and estimate; a right child $s$ at depth $k$ has the parameters
    $w_s$ that the leaf before it left, and corrects its parent's estimate,

    $$G_s = G_{\mathrm{parent}} + \operatorname{mean}_{b/2^k}[\nabla f(w_s) - \nabla f(w_{\mathrm{parent}})]
    + N(0, s_1^2I).$$

    A leaf stops the run if $\lVert G\rVert \le 2\tilde\alpha$, and otherwise makes a step of the fixed length
    $\beta/(2^{D/2}L_1)$ against $G$. One step of this method is one leaf: the estimate that changes on the way to
    leaf $j$ is that of the node at depth $D$ minus the number of zeros at the end of $j$ in binary. No record is
    used twice, so every release may spend the whole budget.

    **Arguments**

    - `lipschitz`, `smoothness`: $L_0$ and $L_1$; records are clipped to them with `clip`.
    - `length`: $\beta$.
    - `tolerance`: $\tilde\alpha \ge 0$. The theorem's is so large that the very first test fires; choose your own.
    - `root_deviation`, `child_deviation`: $s_0$ and $s_1$, of each entry of the noise.
    - `depth`: $D \ge 1$.
    - `batch`: $b$, a multiple of $2^D$.
    - `steps`: leaves to visit, $2^D$ for each round.
    - `clip`: clip gradients to $L_0$ and changes to what the lengths of the steps allow, for which see `RecordMean`.

    **Raises** `TypeError` or `ValueError` naming the argument; with too few records `privacy` does, and a run ends
    early.

    **Source**: R. Arora, R. Bassily, T. González, C. Guzmán, M. Menart, E. Ullah, "Faster Rates of Convergence to
    Stationary Points in Differentially Private Optimization", arXiv:2206.00846, Algorithm 1.
    """

    depth: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    lipschitz: Scalar = hyperparameter()
    smoothness: Scalar = hyperparameter()
    length: Scalar = hyperparameter()
    tolerance: Scalar = hyperparameter()
    root_deviation: Scalar = hyperparameter()
    child_deviation: Scalar = hyperparameter()
    clip: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        for name in ("lipschitz", "smoothness", "length"):
            validation.positive(name, getattr(self, name))
        for name in ("tolerance", "root_deviation", "child_deviation"):
            validation.real(name, getattr(self, name), low=0.0, high=np.finfo(np.float64).max)
        validation.integer("depth", self.depth, low=1, high=30)
        validation.integer("batch", self.batch, low=1)
        if self.batch % 2**self.depth:
            raise ValueError(f"batch: must be a multiple of 2^depth = {2**self.depth}, got {self.batch}")

    @classmethod
    def theory(
        cls,
        problem: FiniteSum,
        x0: ArrayLike,
        *,
        epsilon: float,
        delta: float,
        tolerance: float | None = None,
        initial_gap: float | None = None,
        failure: float = 0.1,
        clip: bool = False,
    ) -> TreeSpider:
        r"""The method with the settings of Theorem 3.2, its noise found by the accountant.

        $b = \max\{n^{2/3}, \sqrt n\,d^{1/4}/\sqrt\varepsilon\}$; $D \ge 1$ is the largest with $D2^{D+1} \le b$, and
        $b$ is rounded up to a multiple of $2^D$; $\alpha = \sqrt2L_0\max\{n^{-1/3}, (\sqrt d/(n\varepsilon))^{1/2}\}$;
        $\beta = \alpha\min\{1, \sqrt{b\varepsilon}/\sqrt d\}$, as the theorem states it (its proof has
        $\sqrt b\,\varepsilon/\sqrt d$); as many rounds as there are records for.

        **Arguments**

        - `problem`: a finite sum with `lipschitz` and `smoothness` that hold for every record.
        - `x0`: the start, of which only the dimension matters.
        - `epsilon`, `delta`: the budget, for replaced records.
        - `tolerance`: $\tilde\alpha$; by default the theorem's $\tilde C\alpha$ with
          $\tilde C = 256\log\frac{1.25}\delta\log\frac{2T2^{D+1}}p + 4L_1F_0\sqrt{2D}(D/2+1)/L_0^2$.
        - `initial_gap`: $F_0$, which that needs.
        - `failure`: $p$, the theorem's probability of failure.
        - `clip`: clip records to the constants all the same.

        **Raises** `ValueError` naming the argument; for `problem` if it has too few records for one round.
        """
        lipschitz, smoothness = sensitivity_constants(problem)
        validation.positive("epsilon", epsilon)
        records, dimension = problem.components, np.size(x0)
        wanted = max(records ** (2 / 3), math.sqrt(records / epsilon) * dimension**0.25)
        depth = max([1, *(level for level in range(1, 31) if level * 2 ** (level + 1) <= wanted)])
        batch = math.ceil(wanted / 2**depth) * 2**depth
        rounds = records // samples_per_round(batch, depth)
        if rounds < 1:
            raise ValueError(
                f"problem: one round uses {samples_per_round(batch, depth)} records here, there are {records}"
            )
        accuracy = math.sqrt(2.0) * lipschitz
        accuracy *= max(records ** (-1 / 3), math.sqrt(math.sqrt(dimension) / (records * epsilon)))
        length = accuracy * min(1.0, math.sqrt(batch * epsilon / dimension))
        if tolerance is None:
            validation.real("failure", failure, low=0.0, high=1.0, open_low=True)
            if initial_gap is None:
                raise ValueError("initial_gap: is needed for the theorem's tolerance; or choose a tolerance")
            validation.positive("initial_gap", initial_gap)
            constant = 256.0 * math.log(1.25 / delta) * math.log(2.0 * rounds * 2 ** (depth + 1) / failure)
            constant += 4.0 * smoothness * initial_gap * math.sqrt(2.0 * depth) * (depth / 2 + 1) / lipschitz**2
            tolerance = constant * accuracy
        multiplier = calibrate([Release(1.0)], epsilon, delta)
        return cls(
            lipschitz=lipschitz,
            smoothness=smoothness,
            length=length,
            tolerance=tolerance,
            root_deviation=multiplier * lipschitz / batch,
            child_deviation=multiplier * 2.0 ** (depth / 2) * length / batch,
            depth=depth,
            batch=batch,
            clip=clip,
            steps=rounds * 2**depth,
        )

    def releases(self, records: int) -> list[Release]:
        """One release: each record is in one batch alone, and the batch with the least noise decides."""
        root = float(self.root_deviation) * self.batch / float(self.lipschitz)
        child = float(self.child_deviation) * self.batch / (2.0 ** (self.depth / 2) * float(self.length))
        return [Release(min(root, child))]

    def privacy(self, records: int, delta: float, *, adjacency: Adjacency = "replace-one") -> PrivacySpent:
        """The guarantee of one release, which holds for all of them since their batches are disjoint."""
        replacement_only(adjacency, type(self).__name__)
        rounds = -(-int(self.steps) // 2**self.depth)
        needed = rounds * samples_per_round(self.batch, self.depth)
        if needed > records:
            raise ValueError(f"steps: {rounds} rounds use {needed} records, there are {records}")
        spent = privacy_spent(self.releases(records), delta)
        return dataclasses.replace(spent, accounting=f"{spent.accounting}; parallel composition over disjoint batches")

    def init(self, problem: FiniteSum, x0: Float[Array, " d"], key: Key[Array, ""]) -> TreeSpiderState:
        """Start at `x0`, with the records in random order."""
        levels = jnp.zeros((self.depth + 1, x0.size), x0.dtype)
        return TreeSpiderState(
            x=x0,
            cost=Cost(),
            output=x0,
            count=jnp.asarray(0),
            order=jax.random.permutation(key, problem.components),
            used=jnp.asarray(0),
            params=levels,
            estimates=levels,
            stopped=jnp.asarray(False),
        )

    def affordable(self, problem: FiniteSum, state: TreeSpiderState) -> Bool[Array, ""]:
        """Whether there are fresh records for the next leaf."""
        return state.used + self.node(state.count)[1] <= problem.components

    def publish(self, state: TreeSpiderState, after: TreeSpiderState, key: Key[Array, ""]) -> Float[Array, " d"]:
        """The parameters of the leaf where the test fires, else of a random leaf so far."""
        return jnp.where(after.stopped, state.x, reservoir(key, state, state.x))

    def step(self, problem: FiniteSum, state: TreeSpiderState, key: Key[Array, ""]) -> TreeSpiderState:
        """One leaf; the state stands still once a test has fired or all leaves are visited."""
        after = super().step(problem, state, key)
        held: TreeSpiderState = jax.tree.map(lambda old, new: jnp.where(state.stopped, old, new), state, after)
        return held

    def advance(self, problem: FiniteSum, state: TreeSpiderState, key: Key[Array, ""]) -> TreeSpiderState:
        """The corrections on the way to the next leaf, its test, and its step."""
        level, size = self.node(state.count)
        places = jnp.arange(self.batch)
        rows = state.order[(state.used + places) % problem.components]
        weights = jnp.where(places < size, 1.0 / size, 0.0).astype(state.x.dtype)
        fresh = problem.component_gradients(state.x, rows)
        parent = jnp.maximum(level - 1, 0)
        changes = fresh - problem.component_gradients(state.params[parent], rows)
        if self.clip:
            reach = 2.0 ** (self.depth / 2) * self.length * size / self.batch
            fresh, changes = clip_rows(fresh, self.lipschitz), clip_rows(changes, reach)
        root = level == 0
        mean = weights @ jnp.where(root, fresh, changes)
        deviation = jnp.where(root, self.root_deviation, self.child_deviation)
        estimate = jnp.where(root, 0.0, state.estimates[parent]) + mean + gaussian(key, mean, deviation)
        # Left children take over what their parent has, down to the leaf.
        below = (jnp.arange(self.depth + 1) >= level)[:, None]
        norm = jnp.linalg.norm(estimate)
        stopped = norm <= 2.0 * self.tolerance
        step_size = self.length / (2.0 ** (self.depth / 2) * self.smoothness * jnp.where(norm > 0.0, norm, 1.0))
        return dataclasses.replace(
            state,
            x=jnp.where(stopped, state.x, state.x - step_size * estimate),
            cost=state.cost + Cost(gradients=jnp.where(root, 1.0, 2.0) * size),
            used=state.used + size,
            params=jnp.where(below, state.x, state.params),
            estimates=jnp.where(below, estimate, state.estimates),
            stopped=stopped,
        )

    def node(self, leaf: Int[Array, ""]) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """The depth of the node whose estimate is renewed on the way to leaf number `leaf`, and its batch's size."""
        place = leaf % 2**self.depth
        # The lowest bit that is set counts the zeros behind it.
        zeros = jnp.where(place == 0, self.depth, jax.lax.population_count((place & -place) - 1))
        level = self.depth - zeros
        return level, self.batch // 2**level


def samples_per_round(batch: int, depth: int) -> int:
    r"""$b(D/2 + 1)$: the root's $b$ records, and $2^{k-1}$ right children with $b/2^k$ each at every depth $k$."""
    return batch + depth * batch // 2
