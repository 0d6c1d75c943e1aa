"""Smoothness constants of clients, their means, and the step sizes that error feedback draws from them."""

from __future__ import annotations

import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from tendsto import validation
from tendsto.federated.clients import Clients


def arithmetic_mean(client_smoothness: ArrayLike) -> float:
    r"""$L_{\mathrm{AM}} = \frac1n \sum_i L_i$."""
    return float(np.mean(validation.finite_array("client_smoothness", client_smoothness)))


def quadratic_mean(client_smoothness: ArrayLike) -> float:
    r"""$L_{\mathrm{QM}} = \sqrt{\frac1n \sum_i L_i^2} \ge L_{\mathrm{AM}}$."""
    return float(np.sqrt(np.mean(np.square(validation.finite_array("client_smoothness", client_smoothness)))))


def feedback_constant(contraction: float) -> float:
    r"""$\xi(\alpha) = \frac{1 + \sqrt{1 - \alpha}}{\alpha} - 1$: what compression multiplies the smoothness by.

    **Raises** `ValueError` unless $0 < \alpha \le 1$.

    **Source**: P. Richtárik, E. Gasanov, K. Burlachenko, *Error Feedback Reloaded*, 2402.10774.
    """
    validation.real("contraction", contraction, low=0.0, high=1.0, open_low=True)
    return (1.0 + math.sqrt(1.0 - contraction)) / contraction - 1.0


def error_feedback_step_size(
    smoothness: float,
    client_smoothness: ArrayLike,
    contraction: float,
    mean: Literal["arithmetic", "quadratic"] = "arithmetic",
    *,
    overlap: float = 1.0,
) -> float:
    r"""$\gamma = 1/(L + \sqrt\kappa\,\bar L\,\xi(\alpha))$, $\bar L$ the arithmetic or quadratic mean of the $L_i$.

    **Arguments**

    - `smoothness`: $L$ of $f$; one above $L_{\mathrm{AM}}$ (from coarser estimates) is cut to it.
    - `client_smoothness`: $L_i$, shape `(clients,)`.
    - `contraction`: $\alpha$ of the compressor.
    - `mean`: `"quadratic"` is the classical step size of EF21.
    - `overlap`: $\kappa \in (0, 1]$ of `feature_overlap`, with the weights that belong to the mean.

    **Source**: P. Richtárik, E. Gasanov, K. Burlachenko, *Error Feedback Reloaded*, 2402.10774, Theorems 3 and 4.
    """
    if mean not in ("arithmetic", "quadratic"):
        raise ValueError(f"mean: must be 'arithmetic' or 'quadratic', got {mean!r}")
    typical = (arithmetic_mean if mean == "arithmetic" else quadratic_mean)(client_smoothness)
    whole = min(float(smoothness), arithmetic_mean(client_smoothness))
    validation.positive("smoothness", whole)
    validation.real("overlap", overlap, low=0.0, high=1.0, open_low=True)
    return 1.0 / (whole + math.sqrt(overlap) * typical * feedback_constant(contraction))


def feature_overlap(used: ArrayLike, client_smoothness: ArrayLike | None = None) -> float:
    r"""How much clients share rare features: $\kappa = \max_j \sum_{i:\, f_i \text{ depends on } x_j} w_i \le 1$.

    For vectors $v_i$ that vanish where $f_i$ does not depend on $x$, the Cauchy-Schwarz inequality by coordinate gives
    $\lVert\frac1n\sum_i v_i\rVert^2 \le \kappa \sum_i \frac{1}{n^2 w_i}\lVert v_i\rVert^2$; in general it holds with
    1 for $\kappa$. With a compressor that keeps zeros zero this takes $\xi$ to $\sqrt\kappa\,\xi$ in the step size.

    **Arguments**

    - `used`: whether each $f_i$ depends on each coordinate, shape `(clients, d)`.
    - `client_smoothness`: $L_i$ for $w_i \propto L_i$, to go with the arithmetic mean. By default $w_i = 1/n$, to go
      with the quadratic mean; $\kappa$ is then the largest number of clients that share a coordinate, over $n$.

    **Source**: derived as above, for the regime of P. Richtárik, E. Gasanov, K. Burlachenko, *Error Feedback Shines
    when Features Are Rare*, 2305.15264; not compared with the constant in 2402.10774.
    """
    uses = np.asarray(used)
    if uses.ndim != 2 or uses.dtype != bool or not uses.any():
        raise ValueError("used: expected booleans of shape (clients, d), not all of them false")
    each = np.ones(len(uses)) if client_smoothness is None else np.asarray(client_smoothness, float)
    if each.shape != (len(uses),):
        raise ValueError(f"client_smoothness: expected one for each of {len(uses)} clients, got shape {each.shape}")
    validation.real("client_smoothness", each, low=0.0, open_low=True)
    return float((each / each.sum() @ uses).max())


def clone_counts(client_smoothness: ArrayLike) -> Int[Array, " clients"]:
    r"""$N_i = \lceil L_i / L_{\mathrm{AM}} \rceil$: how often to clone each client so that the quadratic mean shrinks.

    The clones' quadratic mean is then at most $\sqrt2\, L_{\mathrm{AM}}$, and there are at most $2n$ of them.

    **Source**: P. Richtárik, E. Gasanov, K. Burlachenko, *Error Feedback Reloaded*, 2402.10774, Theorem 2.
    """
    values = np.asarray(validation.finite_array("client_smoothness", client_smoothness))
    return jnp.asarray(np.maximum(np.ceil(values / values.mean()), 1.0).astype(int))


def cloned_mean(client_smoothness: ArrayLike, counts: ArrayLike) -> float:
    r"""The quadratic mean after client $i$ has $N_i$ clones, $\frac1n \sqrt{N \sum_i L_i^2/N_i}$, $N = \sum_i N_i$."""
    values, times = np.asarray(client_smoothness, float), np.asarray(counts, float)
    return float(np.sqrt(times.sum() * np.sum(values**2 / times)) / len(values))


def linear_model_smoothness(clients: Clients, curvature: float, l2: float = 0.0) -> Float[Array, " clients"]:
    r"""$L_i = c\,\lambda_{\max}(A_i^\top A_i)/m_i + \lambda$ for a linear model with a loss of curvature at most $c$.

    **Arguments**

    - `clients`: features as vectors.
    - `curvature`: $c$: 1 for half the squared error, 1/4 for the logistic loss.
    - `l2`: $\lambda$, what the penalty's curvature is at most.
    """
    largest = jnp.linalg.norm(_normalised_rows(clients), 2, axis=(1, 2)) ** 2
    return jnp.asarray(curvature * largest + l2)


def pooled_smoothness(clients: Clients, curvature: float, l2: float = 0.0) -> float:
    r"""$L = c\,\lambda_{\max}(\frac1n\sum_i A_i^\top A_i/m_i) + \lambda$ of the mean of all clients' functions.

    **Arguments**: as for `linear_model_smoothness`.
    """
    rows = _normalised_rows(clients).reshape(-1, clients.features.shape[-1])
    return float(curvature * jnp.linalg.norm(rows, 2) ** 2 / len(clients) + l2)


def _normalised_rows(clients: Clients) -> Float[Array, "clients largest d"]:
    r"""$A_i/\sqrt{m_i}$, with zeros for the padding."""
    real = jnp.arange(clients.features.shape[1])[None, :] < clients.sizes[:, None]
    return jnp.where(real[..., None], clients.features, 0.0) / jnp.sqrt(clients.sizes)[:, None, None]
