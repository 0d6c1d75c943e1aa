"""Momentum whose steps all have the same length, as an optax transformation."""

from __future__ import annotations

import optax
from jaxtyping import ArrayLike

from tendsto import validation

FLOOR = 1e-10
"""What is added to the norm before dividing by it, so that a zero direction gives a zero step."""


def check_momentum(value: ArrayLike) -> None:
    """Require a momentum parameter in `[0, 1)`; raises as `validation.real` does."""
    validation.real("momentum", value, low=0.0, high=1.0)
    validation.real("momentum: 1 - momentum", 1.0 - value, low=0.0, open_low=True)


def normalised_momentum(step_size: optax.ScalarOrSchedule, momentum: float = 0.9) -> optax.GradientTransformation:
    r"""Steps of a given length along an exponential average of the gradients.

    $$m_{t+1} = \beta m_t + (1-\beta) g_t, \qquad u_t = -\eta\, m_{t+1}/(\lVert m_{t+1}\rVert + 10^{-10})$$

    from $m_0 = 0$, with the norm over all parameters together. Useful where the curvature grows with the gradient
    (recurrent networks), because the length of a step does not depend on the gradient's.

    **Arguments**: `step_size`, $\eta > 0$, or a schedule; `momentum`, $\beta \in [0, 1)$.

    **Returns** an `optax.GradientTransformation`.

    **Raises** `ValueError` or `TypeError` naming the argument.

    **Source** J. Hao, X. Gong, M. Liu, arXiv:2401.09587, the upper-level update of Algorithm 1.
    """
    if not callable(step_size):
        validation.positive("step_size", step_size)
    check_momentum(momentum)
    return optax.chain(
        optax.ema(momentum, debias=False),
        optax.normalize_by_update_norm(eps=FLOOR),
        optax.scale_by_learning_rate(step_size),
    )
