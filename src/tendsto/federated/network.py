"""How long a round would take: links and processors of the clients."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from tendsto import validation
from tendsto.federated.cohort import Cohort
from tendsto.iteration import Scalar

PerClient = Float[Array, " clients"] | Scalar


class Network(eqx.Module):
    r"""Links and processors; a synchronous round waits for the slowest of its cohort.

    A member that downloads $D$ bits, computes $g$ component gradients and uploads $U$ bits needs
    $\ell + D/d + g\,c + U/u$ seconds. The default is infinitely fast.

    **Arguments**, each one number or one for each client

    - `latency`: $\ell$, seconds a round trip.
    - `download`, `upload`: $d$ and $u$, bits a second.
    - `compute`: $c$, seconds a component gradient.
    """

    latency: PerClient = eqx.field(converter=jnp.asarray, default=0.0)
    download: PerClient = eqx.field(converter=jnp.asarray, default=jnp.inf)
    upload: PerClient = eqx.field(converter=jnp.asarray, default=jnp.inf)
    compute: PerClient = eqx.field(converter=jnp.asarray, default=0.0)

    def __check_init__(self) -> None:
        for name in ("latency", "compute"):
            validation.real(name, getattr(self, name), low=0.0)
        for name in ("download", "upload"):
            validation.real(name, getattr(self, name), low=0.0, open_low=True)

    def seconds(
        self,
        clients: int,
        cohort: Cohort,
        gradients: PerClient,
        bits_up: PerClient,
        bits_down: PerClient,
    ) -> Float[Array, ""]:
        """The duration of a round in seconds, from what each member of the cohort computes and sends."""
        each = (jnp.broadcast_to(value, clients) for value in (self.latency, self.download, self.upload, self.compute))
        latency, download, upload, compute = (cohort.take(value) for value in each)
        needed = latency + bits_down / download + gradients * compute + bits_up / upload
        return jnp.max(jnp.where(cohort.active, needed, 0.0), initial=0.0)
