"""Compressed gradients with error feedback in PyTorch's data-parallel training, as communication hooks."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tendsto import extras
from tendsto.federated.compressors import Compressor

torch: Any = extras.load("torch", extra="torch")
distributed: Any = extras.load("torch.distributed", extra="torch")


@dataclasses.dataclass
class ErrorFeedback:
    r"""The state of `error_feedback_hook` at one worker.

    For each bucket $b$ of gradients $g$, with $n$ workers:

    - `"EF21"`: $c_i = C(g_i - h_i)$, $h_i \leftarrow h_i + c_i$; what comes out is
      $\bar h \leftarrow \bar h + \frac1n\sum_i c_i$, from $h_i = 0$.
    - `"EF14"`: $c_i = C(e_i + g_i)$, $e_i \leftarrow e_i + g_i - c_i$; what comes out is $\frac1n\sum_i c_i$.

    The compressor is the simulator's own: it runs in JAX on the bucket's memory, so that nothing is written twice. The
    workers' messages are summed by an all-reduce of dense vectors: the hook shows what a compressor does to training,
    and does not make communication cheaper.

    **Arguments**

    - `compressor`: $C$, on each bucket as on one long vector. DDP may deal parameters out to buckets anew after its
      first step; a `bucket_cap_mb` that holds the model makes one bucket of it.
    - `feedback`: which of the two.
    - `seed`: of the compressor's randomness, which differs from worker to worker and step to step.

    **Raises** `ValueError` naming the argument.
    """

    compressor: Compressor
    feedback: str = "EF21"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.feedback not in ("EF21", "EF14"):
            raise ValueError(f"feedback: must be 'EF21' or 'EF14', got {self.feedback!r}")
        self._memory: dict[tuple[int, ...], Any] = {}
        self._mean: dict[tuple[int, ...], Any] = {}
        self._calls = 0
        self._compress = jax.jit(self.compressor)

    def message(self, bucket: tuple[int, ...], gradient: Any) -> Any:
        """What this worker sends for a bucket, and remember what the feedback remembers."""
        memory = self._memory.setdefault(bucket, torch.zeros_like(gradient))
        target = gradient - memory if self.feedback == "EF21" else gradient + memory
        key = jax.random.fold_in(jax.random.key(self.seed), self._calls)
        key = jax.random.fold_in(key, distributed.get_rank())
        self._calls += 1
        plain = target.detach().cpu().numpy()
        compressed = np.array(self._compress(jnp.asarray(plain), key))
        if compressed.dtype != plain.dtype:
            raise TypeError(f"gradients are {plain.dtype}, JAX computes in {compressed.dtype}; enable 64-bit floats")
        sent = torch.from_numpy(compressed).to(gradient.device)
        self._memory[bucket] = memory + sent if self.feedback == "EF21" else target - sent
        return sent

    def gradient(self, bucket: tuple[int, ...], mean: Any) -> Any:
        """What the workers step with, from the mean of their messages."""
        if self.feedback == "EF14":
            return mean
        self._mean[bucket] = self._mean.get(bucket, torch.zeros_like(mean)) + mean
        return self._mean[bucket]


def error_feedback_hook(state: ErrorFeedback, bucket: Any) -> Any:
    """A hook for `DistributedDataParallel.register_comm_hook(ErrorFeedback(…), error_feedback_hook)`.

    **Returns** a future of the gradient that every worker steps with.
    """
    # Buckets are rebuilt after the first step: memory belongs to the parameters, by their sizes and place.
    name = (bucket.index(), *(parameter.numel() for parameter in bucket.parameters()))
    sent = state.message(name, bucket.buffer()) / distributed.get_world_size()
    summed = distributed.all_reduce(sent, async_op=True).get_future()
    return summed.then(lambda done: state.gradient(name, done.value()[0]))


# DDP looks at the annotations themselves, where a module's own are strings.
error_feedback_hook.__annotations__ |= {
    "bucket": distributed.GradBucket,
    "return": torch.futures.Future[torch.Tensor],
}
