"""Attacks on a trained network along a direction of its outputs: the ascent steps of a search through it."""

from __future__ import annotations

from typing import Any, Literal, get_args

import equinox as eqx
import numpy as np
import scipy.special
from numpy.typing import NDArray

from tendsto import validation
from tendsto.problems import FrozenNetwork, freeze

Vector = NDArray[np.float64]
Kind = Literal["fgsm", "pgd"]
Loss = Literal["linear", "cross-entropy"]


class DirectionalAttack(eqx.Module):
    r"""A perturbation of the inputs that moves the outputs of a network along a direction $u$.

    It looks for $d$ with $\lVert d\rVert_\infty \le r$ and $\langle u, \Phi(x+d) - \Phi(x)\rangle$ large, in the unit
    cube: $q = \frac12 + d/(2r)$ starts at the centre and is clipped to $[0, 1]^n$, while $x$ itself has no limits.
    With $g(d)$ the gradient of the loss at $x + d$,

    $$\text{FGSM:}\quad d = r\operatorname{sign} g(0), \qquad
    \text{PGD:}\quad q \leftarrow \operatorname{clip}_{[0,1]}(q + \alpha\operatorname{sign} g(2r(q - \tfrac12))).$$

    For the linear loss $g(d) = J_\Phi(x+d)^\top u$. On an affine network $\Phi(x) = Wx + b$ FGSM is then optimal, with
    the gain $r\lVert W^\top u\rVert_1$; in general nothing is guaranteed.

    **Arguments**

    - `kind`: `"fgsm"`, one signed gradient step, or `"pgd"`, projected steps of that kind.
    - `loss`: `"linear"`, or `"cross-entropy"`: what libraries of attacks minimise, with $u$ for soft labels against
      the logits $z = \Phi(x+d) - \Phi(x)$. Its gradient is $J^\top(u - \operatorname{softmax}(z)\sum_j u_j)$, at
      $z = 0$ along $u - \operatorname{mean}(u)$: it ignores the mean of $u$, and does nothing on a single output.
    - `steps`: how many steps PGD takes.
    - `step_size`: $\alpha$, in the cube. The default of ten steps of $2/255$, which the paper's experiments take over
      from a library of attacks, ends within $0.157\,r$ of $x$; a product of $\frac12$ or more reaches the boundary.

    **Raises** `ValueError` or `TypeError` naming the argument.

    **Source**: P.-Y. Bouchet, T. Vidal, "Optimization by Directional Attacks: Solving Problems with Neural Network
    Surrogates", arXiv:2510.01461, Section 3. Outputs that never influence the objective need no list: their entries
    of $u$ are zero, and the linear loss does not see them.
    """

    kind: Kind = eqx.field(default="fgsm", static=True)
    loss: Loss = eqx.field(default="linear", static=True)
    steps: int = eqx.field(default=10, static=True)
    step_size: float = eqx.field(default=2.0 / 255.0, static=True)

    def __check_init__(self) -> None:
        for name, value, allowed in (("kind", self.kind, get_args(Kind)), ("loss", self.loss, get_args(Loss))):
            if value not in allowed:
                raise ValueError(f"{name}: {value!r} is not one of {', '.join(allowed)}")
        validation.integer("steps", self.steps, low=1)
        validation.positive("step_size", self.step_size)

    @property
    def calls(self) -> int:
        """How many evaluations and gradients of the network one attack costs, taken together."""
        if self.kind == "fgsm":
            return 2
        return 2 * self.steps + (self.steps if self.loss == "cross-entropy" else 0)

    def __call__(self, network: Any, x: Vector, direction: Vector, radius: float) -> Vector:
        r"""The perturbation $d$ of `x`.

        **Arguments**

        - `network`: a `FrozenNetwork`, or what `freeze` takes; freeze it once to compile it once.
        - `x`: the inputs, shape `(n,)`.
        - `direction`: $u$, shape `(m,)`.
        - `radius`: $r > 0$.

        **Returns** $d$, shape `(n,)`.

        **Raises** `ValueError` if the radius is not positive.
        """
        validation.positive("radius", radius)
        frozen = freeze(network)
        x, direction = np.asarray(x, dtype=np.float64), np.asarray(direction, dtype=np.float64)
        if self.kind == "fgsm":
            ascent = direction if self.loss == "linear" else direction - direction.mean()
            return radius * np.sign(frozen.pullback(x, ascent))
        position = np.full_like(x, 0.5)
        reference = frozen(x) if self.loss == "cross-entropy" else None
        for step in range(self.steps):
            point = x + 2.0 * radius * (position - 0.5)
            ascent = direction if reference is None else _descent_of_entropy(frozen, point, reference, direction, step)
            position = np.clip(position + self.step_size * np.sign(frozen.pullback(point, ascent)), 0.0, 1.0)
        return 2.0 * radius * (position - 0.5)


def _descent_of_entropy(
    network: FrozenNetwork, point: Vector, reference: Vector, direction: Vector, step: int
) -> Vector:
    """Minus the gradient, in the logits, of the cross-entropy with soft labels; the logits are zero at first."""
    logits = network(point) - reference if step else np.zeros_like(reference)
    descent: Vector = direction - scipy.special.softmax(logits) * direction.sum()
    return descent
