"""Ways to deal a data set out to clients."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tendsto import validation

Shares = list[NDArray[np.int64]]
"""For each client, the numbers of its samples."""


class Partition(abc.ABC):
    """A rule that deals samples out to clients, each sample to at most one of them."""

    @abc.abstractmethod
    def deal(self, labels: NDArray[Any], clients: int, generator: np.random.Generator) -> Shares:
        """The numbers of each client's samples, sorted; every client gets at least one.

        **Raises** `ValueError` if that cannot be met.
        """


@dataclass(frozen=True)
class IID(Partition):
    """Shuffle and cut into parts whose sizes differ by at most one."""

    def deal(self, labels: NDArray[Any], clients: int, generator: np.random.Generator) -> Shares:
        """Equal parts of a random order."""
        _enough(len(labels), clients)
        return [np.sort(part) for part in np.array_split(generator.permutation(len(labels)), clients)]


@dataclass(frozen=True)
class Dirichlet(Partition):
    r"""For each class, deal its samples out in proportions drawn from a symmetric Dirichlet law.

    **Arguments**

    - `concentration`: $\alpha > 0$; small values give each client few classes.
    - `fewest`: draw again until every client has at least this many samples.
    """

    concentration: float
    fewest: int = 1

    def __post_init__(self) -> None:
        validation.positive("concentration", self.concentration)
        validation.integer("fewest", self.fewest, low=1)

    def deal(self, labels: NDArray[Any], clients: int, generator: np.random.Generator) -> Shares:
        """Proportions for each class, drawn until nobody goes without."""
        _enough(len(labels), clients * self.fewest, f"{clients} clients with {self.fewest} samples each")
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        for _ in range(100):
            shares: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
            for rows in members:
                portions = generator.dirichlet(np.full(clients, self.concentration))
                cuts = np.rint(np.cumsum(portions)[:-1] * len(rows)).astype(int)
                for share, part in zip(shares, np.split(generator.permutation(rows), cuts), strict=True):
                    share.append(part)
            dealt = [np.sort(np.concatenate(share)) for share in shares]
            if min(map(len, dealt)) >= self.fewest:
                return dealt
        raise ValueError(
            f"concentration: with {self.concentration:g}, {clients} clients did not get {self.fewest} sample(s) each "
            "in 100 draws; use a larger one, or fewer clients"
        )


@dataclass(frozen=True)
class ByLabel(Partition):
    """Each client has samples of a fixed number of classes only.

    Every class is cut into as many equal shards as there are clients that hold it; classes are handed out in turns, so
    that all of them are used.

    **Arguments**: `classes`, how many a client holds.
    """

    classes: int = 1

    def __post_init__(self) -> None:
        validation.integer("classes", self.classes, low=1)

    def deal(self, labels: NDArray[Any], clients: int, generator: np.random.Generator) -> Shares:
        """Classes in turns over a random order of the clients."""
        kinds = np.unique(labels)
        if self.classes > len(kinds):
            raise ValueError(f"classes: a client cannot hold {self.classes} classes of {len(kinds)}")
        order = generator.permutation(clients)
        holders: list[list[int]] = [[] for _ in kinds]
        for place, client in enumerate(order):
            for offset in range(self.classes):
                holders[(place * self.classes + offset) % len(kinds)].append(int(client))
        shares: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
        for label, owners in zip(kinds, holders, strict=True):
            rows = generator.permutation(np.flatnonzero(labels == label))
            if len(rows) < len(owners):
                raise ValueError(f"classes: class {label} has {len(rows)} samples for {len(owners)} clients")
            for owner, part in zip(owners, np.array_split(rows, max(len(owners), 1)), strict=False):
                shares[owner].append(part)
        return [np.sort(np.concatenate(share)) for share in shares]


@dataclass(frozen=True)
class ByQuantity(Partition):
    r"""Shuffle and cut into parts whose sizes are drawn from a symmetric Dirichlet law.

    **Arguments**

    - `concentration`: $\alpha > 0$; small values give very unequal sizes.
    - `fewest`: what every client gets before the rest is dealt out.
    """

    concentration: float
    fewest: int = 1

    def __post_init__(self) -> None:
        validation.positive("concentration", self.concentration)
        validation.integer("fewest", self.fewest, low=1)

    def deal(self, labels: NDArray[Any], clients: int, generator: np.random.Generator) -> Shares:
        """A multinomial number of samples on top of the fewest."""
        _enough(len(labels), clients * self.fewest, f"{clients} clients with {self.fewest} samples each")
        portions = generator.dirichlet(np.full(clients, self.concentration))
        sizes = self.fewest + generator.multinomial(len(labels) - clients * self.fewest, portions)
        return [np.sort(part) for part in np.split(generator.permutation(len(labels)), np.cumsum(sizes)[:-1])]


@dataclass(frozen=True)
class Given(Partition):
    """A partition that you bring.

    **Arguments**: `shares`, for each client the numbers of its samples.
    """

    shares: Sequence[Sequence[int]]

    def deal(self, labels: NDArray[Any], clients: int, generator: np.random.Generator) -> Shares:
        """As given."""
        del generator
        if len(self.shares) != clients:
            raise ValueError(f"shares: expected one for each of {clients} clients, got {len(self.shares)}")
        dealt = [np.asarray(share, dtype=np.int64) for share in self.shares]
        if empty := [number for number, share in enumerate(dealt) if share.size == 0]:
            raise ValueError(f"shares: client {empty[0]} has no samples")
        everything = np.concatenate(dealt)
        if everything.min() < 0 or everything.max() >= len(labels):
            raise ValueError(f"shares: sample numbers must lie in [0, {len(labels) - 1}]")
        if len(np.unique(everything)) < len(everything):
            raise ValueError("shares: a sample is given to more than one client")
        return dealt


def _enough(samples: int, wanted: int, what: str | None = None) -> None:
    if samples < wanted:
        raise ValueError(f"clients: {samples} samples are not enough for {what or f'{wanted} clients'}")
