"""Local steps that are corrected by how a client's gradients differ from everyone's."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from tendsto.federated.averaging import ClientGradient, FederatedAveraging, bits
from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation
from tendsto.federated.optimizers import GradientStep, as_gradient_step
from tendsto.iteration import Cost


class ControlVariates(eqx.Module):
    """$c_i$, with a row for each client, and their mean $c$."""

    clients: PyTree[Array]
    mean: PyTree[Array]


class SCAFFOLD(FederatedAveraging):
    r"""SCAFFOLD: every client remembers the mean gradient of its last local steps, and steps against the difference.

    $y_{k+1} = y_k - \eta_\ell(\nabla f_i(y_k; \xi_k) - c_i + c)$; afterwards
    $c_i \leftarrow c_i - c + (x_t - y_K)/(K\eta_\ell)$ and $c \leftarrow c + \sum_{i \in S_t} p_i (c_i^+ - c_i)$.
    The iterate moves by the mean displacement as in `FedAvg`. All $c_i$ start at zero.

    **Arguments**: `local`, a step size; `steps` and `server` as for `FederatedAveraging`.

    **Source**: S. P. Karimireddy et al., *SCAFFOLD*, 1910.06378, Algorithm 1, option II.
    """

    local: GradientStep = eqx.field(converter=as_gradient_step)

    def remember(self, problem: Federation, x0: PyTree[Array]) -> ControlVariates:
        """Zeros."""
        zeros = jax.tree.map(lambda leaf: jnp.zeros((problem.clients, *leaf.shape), leaf.dtype), x0)
        return ControlVariates(zeros, jax.tree.map(jnp.zeros_like, x0))

    def client_memory(self, memory: ControlVariates) -> PyTree[Array]:
        """$c_i - c$."""
        return jax.tree.map(jnp.subtract, memory.clients, memory.mean)

    def direction(self, problem: Federation, x: PyTree[Array], row: PyTree[Array]) -> ClientGradient:
        r"""$\nabla f_i(y; \xi) - (c_i - c)$."""
        del x

        def corrected(data: PyTree[Array], y: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
            return jax.tree.map(jnp.subtract, problem.client_stochastic_gradient(data, y, key), row)

        return corrected

    def combine(
        self, problem: Federation, memory: ControlVariates, cohort: Cohort, displacements: PyTree[Array]
    ) -> tuple[PyTree[Array], ControlVariates]:
        """The weighted mean over those who are there, whose control variates are renewed."""
        length = self.steps * self.local.step_size
        # The same for each c_i: what its local steps went against on average, less the correction by c.
        changes = jax.tree.map(lambda moved, mean: -moved / length - mean, displacements, memory.mean)
        clients = cohort.put(memory.clients, jax.tree.map(jnp.add, cohort.take(memory.clients), changes))
        drift = cohort.weighted_sum(cohort.take(problem.weights), changes)
        mean = jax.tree.map(jnp.add, memory.mean, drift)
        return problem.cohort_average(cohort, displacements), ControlVariates(clients, mean)

    def spent(self, problem: Federation, cohort: Cohort, x: PyTree[Array]) -> Cost:
        """A gradient in each local step; the iterate and a control variate sent both ways."""
        gradients = self.steps * cohort.take(problem.client_stochastic_gradient_cost)
        return problem.round_cost(cohort, gradients=gradients, bits_up=2 * bits(x), bits_down=2 * bits(x))
