"""Extragradient methods for monotone inclusions, plain and anchored."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import optax.tree_utils as otu
from jaxtyping import Array, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, hyperparameter
from tendsto.optimize.halpern import CertifiedState, resolve
from tendsto.problems import Inclusion


class Extragradient(Method[Inclusion, CertifiedState]):
    r"""A forward-backward step to look ahead, and a second one with the operator found there.

    $$\bar x_k = (I + \eta G)^{-1}(x_k - \eta F(x_k)), \qquad x_{k+1} = (I + \eta G)^{-1}(x_k - \eta F(\bar x_k)).$$

    It converges for monotone $L_F$-Lipschitz $F$ and $\eta < 1/L_F$, the last residual at the rate
    $O(1/\sqrt{k})$. A step costs two full evaluations.

    **Arguments**: `step_size`, $\eta$.

    **Source**: Korpelevich (1976).
    """

    step_size: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)

    @classmethod
    def theory(cls, problem: Inclusion) -> Extragradient:
        r"""$\eta = 1/(\sqrt2 L_F)$, which makes $\eta^2 (1 - \eta^2 L_F^2)$ and so the guarantee best.

        **Raises** `ValueError` if the problem does not know $L_F$.
        """
        return cls(1.0 / (math.sqrt(2.0) * problem.constant("lipschitz")))

    def init(self, problem: Inclusion, x0: PyTree[Array], key: Key[Array, ""]) -> CertifiedState:
        r"""Start at $(I + \eta G)^{-1}(x_0)$."""
        del key
        x, element = resolve(problem, x0, self.step_size)
        return CertifiedState(x, Cost(proximal_steps=1), element)

    def step(self, problem: Inclusion, state: CertifiedState, key: Key[Array, ""]) -> CertifiedState:
        """Two evaluations, two resolvents."""
        del key
        ahead = problem.forward_backward(state.x, self.step_size)
        moved = otu.tree_add_scale(state.x, -self.step_size, problem.operator(ahead))
        x, element = resolve(problem, moved, self.step_size)
        spent = Cost(gradients=2 * problem.operator_cost, proximal_steps=2)
        return CertifiedState(x, state.cost + spent, element)


class ExtraAnchoredGradientState(CertifiedState):
    """The iterate with its element of $G$, the anchor $x_0$ and the number of steps taken."""

    anchor: PyTree[Array]
    count: Int[Array, ""]


class ExtraAnchoredGradient(Method[Inclusion, ExtraAnchoredGradientState]):
    r"""Extragradient steps, both anchored at the start (EAG).

    $$\begin{aligned} a_k &= x_k + \tfrac{1}{k+2}(x_0 - x_k), & \bar x_k &= (I + \eta G)^{-1}(a_k - \eta F(x_k)), \\
    x_{k+1} &= (I + \eta G)^{-1}(a_k - \eta F(\bar x_k)). \end{aligned}$$

    The last residual falls as $O(1/k)$ for monotone $L_F$-Lipschitz $F$, the optimal order for deterministic
    methods. A step costs two full evaluations.

    **Arguments**: `step_size`, $\eta$.

    **Source**: Yoon and Ryu, "Accelerated algorithms for smooth convex-concave minimax problems with O(1/k²) rate
    on squared gradient norm" (2021); with a resolvent: Cai, Oikonomou and Zheng (2022), who need
    $\eta < 1/(\sqrt3 L_F)$.
    """

    step_size: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)

    @classmethod
    def theory(cls, problem: Inclusion) -> ExtraAnchoredGradient:
        r"""$\eta = 1/(2 L_F)$.

        **Raises** `ValueError` if the problem does not know $L_F$.
        """
        return cls(1.0 / (2.0 * problem.constant("lipschitz")))

    def init(self, problem: Inclusion, x0: PyTree[Array], key: Key[Array, ""]) -> ExtraAnchoredGradientState:
        r"""Start at $(I + \eta G)^{-1}(x_0)$, which stays the anchor."""
        del key
        x, element = resolve(problem, x0, self.step_size)
        return ExtraAnchoredGradientState(x, Cost(proximal_steps=1), element, x, jnp.asarray(0))

    def step(
        self, problem: Inclusion, state: ExtraAnchoredGradientState, key: Key[Array, ""]
    ) -> ExtraAnchoredGradientState:
        """Two evaluations, two resolvents."""
        del key

        def pulled(x: Array, anchor: Array) -> Array:
            return x + (anchor - x) / jnp.asarray(state.count + 2, x.dtype)

        base = jax.tree.map(pulled, state.x, state.anchor)
        ahead = problem.resolvent(otu.tree_add_scale(base, -self.step_size, problem.operator(state.x)), self.step_size)
        moved = otu.tree_add_scale(base, -self.step_size, problem.operator(ahead))
        x, element = resolve(problem, moved, self.step_size)
        spent = Cost(gradients=2 * problem.operator_cost, proximal_steps=2)
        return ExtraAnchoredGradientState(x, state.cost + spent, element, state.anchor, state.count + 1)
