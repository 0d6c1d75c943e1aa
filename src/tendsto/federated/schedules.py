"""When clients answer and when the server steps: times of clients, and schedules made by simulating their events."""

from __future__ import annotations

import abc
import heapq
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike, NDArray

from tendsto import validation

Weighting = Literal["importance", "identical", "step_size"]
"""What a contribution counts: by its client's importance and rarity, all the same, or the latter with step sizes of
the former's proportions."""

TICK = 1e-6
"""The seconds of a tick, the unit of simulated time. In whole ticks equal times are equal: in floats 0.6 is not three
times 0.2, and a client would miss the step that it arrives at."""

Collect = Callable[[list[tuple[int, int]], int], tuple[int, list[int]]]
"""From the queue of (time, client) and the time of the last step: time and contributors of the next one; it takes them
off the queue."""


def _ticks(seconds: Any) -> NDArray[np.int64]:
    return np.asarray(np.maximum(1, np.rint(np.asarray(seconds, float) / TICK)), np.int64)


class ClientTimes(abc.ABC):
    """How long each client takes to download a model, work on it and send its answer."""

    @property
    @abc.abstractmethod
    def mean(self) -> NDArray[np.float64]:
        r"""$\mathbb E\,\tau_i$ in seconds, shape `(clients,)`."""

    @abc.abstractmethod
    def intervals(self, interval: float) -> NDArray[np.float64]:
        r"""$\mathbb E\lceil \tau_i/\Delta \rceil$: how many intervals of this many seconds an answer takes."""

    @abc.abstractmethod
    def draw(self, client: int, job: int, generator: np.random.Generator) -> int:
        """The ticks of a client's job with this number, counted from 0."""


class RecordedTimes(ClientTimes):
    """Given times, for every job the same or from a log; after the log's last row it starts again.

    **Arguments**: `seconds`, shape `(clients,)` or `(jobs, clients)`.

    **Raises** `ValueError` unless all are positive.
    """

    def __init__(self, seconds: ArrayLike) -> None:
        values = np.atleast_2d(np.asarray(validation.finite_array("seconds", seconds)))
        if values.ndim != 2:
            raise ValueError(f"seconds: expected shape (clients,) or (jobs, clients), got {values.shape}")
        validation.real("seconds", values, low=0.0, open_low=True)
        self._ticks = _ticks(values)

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean over jobs."""
        return np.asarray(TICK * self._ticks.mean(axis=0))

    def intervals(self, interval: float) -> NDArray[np.float64]:
        """The mean over jobs."""
        return np.asarray((-(-self._ticks // _ticks(interval))).mean(axis=0))

    def draw(self, client: int, job: int, generator: np.random.Generator) -> int:
        """The next row's."""
        del generator
        return int(self._ticks[job % len(self._ticks), client])


class ExponentialTimes(ClientTimes):
    """Independent exponential times.

    **Arguments**: `mean`, seconds, shape `(clients,)`.

    **Raises** `ValueError` unless all are positive.
    """

    def __init__(self, mean: ArrayLike) -> None:
        self._mean = np.asarray(validation.finite_array("mean", mean, ndim=1), float)
        validation.real("mean", self._mean, low=0.0, open_low=True)

    @property
    def mean(self) -> NDArray[np.float64]:
        """As given."""
        return self._mean

    def intervals(self, interval: float) -> NDArray[np.float64]:
        r"""$1/(1 - e^{-\Delta/\tau_i})$, the mean of a geometric law."""
        return np.asarray(-1.0 / np.expm1(-interval / self._mean))

    def draw(self, client: int, job: int, generator: np.random.Generator) -> int:
        """A fresh time."""
        del job
        return int(_ticks(generator.exponential(self._mean[client])))


class Schedule(eqx.Module):
    r"""The steps of a server: when each happens and whose work it adds. Contributors receive the new model at once.

    Everybody starts at time 0; a client that has answered waits for the step that it contributes to. Make one with
    `synchronous`, `asynchronous`, `buffered` or `fixed_interval`; a method steps along it.

    **Arguments**

    - `times`: seconds, shape `(steps,)`.
    - `members`: numbers of clients, those who contribute and others that fill the row, shape `(steps, most)`.
    - `active`: which of them contribute, shape `(steps, most)`.
    - `frequencies`: $f_i$, in the long run, the share of steps that each client contributes to, shape `(clients,)`.

    **Source**: Y. Fraboni et al., *A General Theory for Federated Optimization with Asynchronous and Heterogeneous
    Clients Updates*, 2206.10189.
    """

    times: Float[Array, " steps"]
    members: Int[Array, "steps most"]
    active: Bool[Array, "steps most"]
    frequencies: Float[Array, " clients"]

    def __len__(self) -> int:
        return int(self.times.shape[0])

    @classmethod
    def synchronous(cls, times: ClientTimes, seconds: float, *, seed: int = 0) -> Schedule:
        """A step whenever all clients have answered, as in FedAvg.

        **Arguments**: `times` of the clients; `seconds` to simulate; `seed` of random times.

        **Raises** `ValueError` if no step falls into that time.
        """
        return cls.buffered(times, times.mean.size, seconds, seed=seed)

    @classmethod
    def asynchronous(cls, times: ClientTimes, seconds: float, *, seed: int = 0) -> Schedule:
        r"""A step with every answer, $f_i = \tau_i^{-1} / \sum_j \tau_j^{-1}$ of the mean times.

        **Arguments**, **Raises**: see `synchronous`.
        """
        return cls.buffered(times, 1, seconds, seed=seed)

    @classmethod
    def buffered(cls, times: ClientTimes, size: int, seconds: float, *, seed: int = 0) -> Schedule:
        """A step whenever so many clients have answered, as in FedBuff.

        For a size between one and all of them, frequencies are counted over the schedule.

        **Arguments**: `size`, how many; the others see `synchronous`.

        **Raises** `ValueError` if `size` is not between 1 and the number of clients, no step falls into that time, or
        a client contributes to none.
        """
        clients = times.mean.size
        validation.integer("size", size, low=1, high=clients)

        def collect(queue: list[tuple[int, int]], now: int) -> tuple[int, list[int]]:
            del now
            answers = [heapq.heappop(queue) for _ in range(size)]
            return answers[-1][0], [client for _, client in answers]

        rates = 1.0 / times.mean
        known = {1: rates / rates.sum(), clients: np.ones(clients)}
        return cls._simulated(times, seconds, seed, collect, known.get(size))

    @classmethod
    def fixed_interval(cls, times: ClientTimes, interval: float, seconds: float, *, seed: int = 0) -> Schedule:
        r"""A step at every multiple of an interval $\Delta$, with all who have answered: FedFix.

        $f_i = 1/\mathbb E\lceil \tau_i/\Delta\rceil$. With $\Delta \ge \max_i \tau_i$ all contribute to every step.

        **Arguments**: `interval`, $\Delta$ in seconds; the others see `synchronous`.

        **Raises** `ValueError` if no step falls into that time.
        """
        validation.positive("interval", interval)
        length = int(_ticks(interval))

        def collect(queue: list[tuple[int, int]], now: int) -> tuple[int, list[int]]:
            now += length
            answered = []
            while queue and queue[0][0] <= now:
                answered.append(heapq.heappop(queue)[1])
            return now, answered

        return cls._simulated(times, seconds, seed, collect, 1.0 / times.intervals(interval))

    @classmethod
    def _simulated(
        cls, times: ClientTimes, seconds: float, seed: int, collect: Collect, known: NDArray[np.float64] | None
    ) -> Schedule:
        validation.positive("seconds", seconds)
        generator, clients, horizon = np.random.default_rng(seed), times.mean.size, int(_ticks(seconds))
        queue = [(times.draw(client, 0, generator), client) for client in range(clients)]
        heapq.heapify(queue)
        jobs = np.ones(clients, int)
        moments: list[int] = []
        rows: list[list[int]] = []
        now, answered = collect(queue, 0)
        while now <= horizon:
            moments.append(now)
            rows.append(sorted(answered))
            for client in rows[-1]:
                heapq.heappush(queue, (now + times.draw(client, int(jobs[client]), generator), client))
                jobs[client] += 1
            now, answered = collect(queue, now)
        if not rows:
            raise ValueError(f"seconds: the first step happens after {TICK * now:g} s, got {seconds:g}")
        shares = (jobs - 1) / len(rows) if known is None else known
        if not shares.all():
            raise ValueError(f"seconds: client {int(shares.argmin())} contributes to no step within {seconds:g} s")
        most = max(1, *map(len, rows))
        filled = [row + [other for other in range(clients) if other not in row][: most - len(row)] for row in rows]
        active = [[place < len(row) for place in range(most)] for row in rows]
        return cls(TICK * jnp.asarray(moments, float), jnp.asarray(filled), jnp.asarray(active), jnp.asarray(shares))

    @property
    def contributors(self) -> Bool[np.ndarray, "steps clients"]:
        """Who contributes to each step."""
        here = np.zeros((len(self), len(self.frequencies)), bool)
        np.put_along_axis(here, np.asarray(self.members), np.asarray(self.active), axis=1)
        return here

    @property
    def staleness(self) -> Int[np.ndarray, " contributions"]:
        """Of every contribution in turn, how many steps the server took since it sent the model worked on."""
        received = np.zeros(len(self.frequencies), int)
        stale = []
        for number, here in enumerate(self.contributors):
            stale.append(number - received[here])
            received[here] = number + 1
        return np.concatenate(stale)

    def weights(self, importance: ArrayLike, weighting: Weighting) -> Float[Array, " clients"]:
        r"""$d_i$, what the server multiplies a contribution with.

        `"importance"` is $d_i = p_i/f_i$, so that $f_i d_i = p_i$; the other two are $1/\sum_j f_j$: 1 where answers
        come one by one, $1/c$ with a buffer of $c$.

        **Arguments**: `importance`, $p_i$; `weighting`.

        **Source**: 2206.10189, Section 4.
        """
        if weighting == "importance":
            return jnp.asarray(importance) / self.frequencies
        return jnp.full_like(self.frequencies, 1.0 / self.frequencies.sum())

    def surrogate_weights(
        self, importance: ArrayLike, weighting: Weighting = "importance"
    ) -> Float[np.ndarray, " clients"]:
        r"""$\tilde q_i$: what each client counts in the function that is minimised, by its contributions.

        With step sizes of the proportions of $p_i/f_i$ the work counts, not the weight: the same as by importance.
        """
        shares = validation.finite_array("importance", importance, ndim=1)
        work = self.weights(shares, "identical" if weighting == "identical" else "importance")
        total = self.contributors.sum(axis=0) * np.asarray(work)
        return np.asarray(total / total.sum())

    def bias(self, importance: ArrayLike, weighting: Weighting = "importance") -> float:
        r"""$\lVert \tilde q - p\rVert_1$: zero says that the right function is minimised."""
        return float(np.abs(self.surrogate_weights(importance, weighting) - np.asarray(importance)).sum())
