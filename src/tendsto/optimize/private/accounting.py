"""What a private method has spent, by the accountant of dp-accounting, and the noise that a budget asks for."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Literal, get_args

import numpy as np
import scipy.optimize
import scipy.stats

from tendsto import validation
from tendsto.extras import load

Adjacency = Literal["replace-one", "add-or-remove-one"]
"""Data sets are neighbours if one record is replaced by any other, or if one record is there or not."""
Accountant = Literal["pld", "rdp"]
"""Privacy loss distributions, which are tight, or Rényi divergences, which are faster and looser."""

_OVERFLOW = 1e-12
_ROUNDING = 2.0**-22  # what rounding deviations and constants to 32 bits may take off a noise multiplier


@dataclasses.dataclass(frozen=True)
class PrivacySpent:
    r"""An $(\varepsilon, \delta)$ guarantee of everything that a run has released, and where it comes from.

    **Arguments**

    - `epsilon`, `delta`: $\Pr(M(S) \in A) \le e^\varepsilon \Pr(M(S') \in A) + \delta$ for neighbouring $S$ and $S'$.
    - `adjacency`: which data sets are neighbours.
    - `accounting`: the accountant, its version, and what it was told.

    The guarantee is that of exact Gaussian noise; floating-point noise is not hardened against attacks on its low bits.
    """

    epsilon: float
    delta: float
    adjacency: Adjacency
    accounting: str


@dataclasses.dataclass(frozen=True)
class Release:
    r"""A Gaussian release of a sum over records, made `count` times.

    **Arguments**

    - `noise_multiplier`: $z$, the deviation of each entry of the noise over the largest norm that the contribution of
      *one record* can have. Replacing a record moves the sum by up to twice that norm.
    - `count`: how often; later queries may depend on earlier answers.
    - `sampling`: $p$, with which each record takes part, afresh in each release; 1 for all records.
    - `records`, `capacity`: where `sampling` is below 1, how many records there are, and how many of them a batch
      holds at most, a random subset of the sample being dropped beyond that.
    """

    noise_multiplier: float
    count: int = 1
    sampling: float = 1.0
    records: int | None = None
    capacity: int | None = None

    def scaled(self, factor: float) -> Release:
        """The same with its noise multiplied by `factor`."""
        return dataclasses.replace(self, noise_multiplier=self.noise_multiplier * factor)


def batch_capacity(records: int, sampling: float) -> int:
    r"""The least capacity that a Poisson sample exceeds with a probability of at most $10^{-12}$.

    **Arguments**: `records`, $n$; `sampling`, $p$ in $(0, 1]$.
    """
    validation.integer("records", records, low=1)
    validation.real("sampling", sampling, low=0.0, high=1.0, open_low=True)
    return min(records, int(scipy.stats.binom.isf(_OVERFLOW, records, sampling)) + 1)


def poisson_release(noise_multiplier: float, count: int, sampling: float, records: int) -> Release:
    """The release of a method that samples each of `records` records with probability `sampling`."""
    if sampling >= 1.0:
        return Release(noise_multiplier, count)
    return Release(noise_multiplier, count, sampling, records, batch_capacity(records, sampling))


def privacy_spent(
    releases: Sequence[Release],
    delta: float,
    *,
    adjacency: Adjacency = "replace-one",
    accountant: Accountant = "pld",
) -> PrivacySpent:
    r"""The $\varepsilon$ at which the composition of `releases` is $(\varepsilon, \delta)$-differentially private.

    The accountants of dp-accounting disagree on what a noise multiplier is when a record is replaced: that of privacy
    loss distributions takes it relative to the norm of one record's contribution (and doubles the sensitivity
    itself), that of Rényi divergences relative to the sensitivity. Here it is always the former.

    **Arguments**

    - `releases`: what the run releases, all on the same records.
    - `delta`: $\delta$ in $(0, 1)$.
    - `adjacency`: which data sets are neighbours. With `"add-or-remove-one"` the number of records counts as public.
    - `accountant`: `"pld"` or `"rdp"`; the latter covers no sampling when a record is replaced.

    **Returns** a `PrivacySpent`; its epsilon is infinite where noise is missing.

    **Raises** `ValueError` naming the argument; `MissingExtra` without dp-accounting.
    """
    _check(delta=delta, adjacency=adjacency, accountant=accountant)
    _check_releases(releases)
    library = load("dp_accounting", extra="private")
    made = [release for release in releases if release.count and release.noise_multiplier < math.inf]
    if any(release.noise_multiplier == 0.0 for release in made):
        epsilon = math.inf
    elif not made:
        epsilon = 0.0
    else:
        made = _merged(made)
        event = library.ComposedDpEvent([_event(library, release, adjacency, accountant) for release in made])
        account = _fresh(library, made, delta, adjacency, accountant)
        epsilon = float(account.compose(event).get_epsilon(delta))
    told = "; ".join(
        f"{release.count} releases, noise multiplier {release.noise_multiplier:.6g}"
        + (f", sampling {release.sampling:.4g}" if release.sampling < 1.0 else "")
        for release in releases
    )
    return PrivacySpent(epsilon, delta, adjacency, f"{_name(accountant)}: {told}")


def calibrate(
    releases: Sequence[Release],
    epsilon: float,
    delta: float,
    *,
    adjacency: Adjacency = "replace-one",
    accountant: Accountant = "pld",
) -> float:
    r"""The factor on the noise of `releases` at which they spend `epsilon`, from below.

    **Arguments**

    - `releases`: the releases, whose noise multipliers stand in the ratio in which the noise shall be shared out.
    - `epsilon`, `delta`: the budget, $\varepsilon > 0$ and $\delta$ in $(0, 1)$.
    - `adjacency`, `accountant`: as in `privacy_spent`.

    **Returns** the factor: `[release.scaled(factor) for release in releases]` spends at most `epsilon`.

    **Raises** `ValueError` naming the argument; `MissingExtra` without dp-accounting.
    """
    validation.positive("epsilon", epsilon)
    _check(delta=delta, adjacency=adjacency, accountant=accountant)
    _check_releases(releases)
    for release in releases:
        validation.positive("noise_multiplier", release.noise_multiplier)
    if not any(release.count for release in releases):
        raise ValueError("releases: must have a count above zero, got none")
    return _factor(tuple(releases), epsilon, delta, adjacency, accountant)


@functools.lru_cache(maxsize=256)
def _factor(
    releases: tuple[Release, ...], epsilon: float, delta: float, adjacency: Adjacency, accountant: Accountant
) -> float:
    def excess(logarithm: float) -> float:
        scaled = [release.scaled(math.exp(logarithm)) for release in releases]
        spent = privacy_spent(scaled, delta, adjacency=adjacency, accountant=accountant).epsilon
        return math.log(max(spent, 1e-300) / epsilon)

    precision = sum(release.count / release.noise_multiplier**2 for release in releases)
    # Exact without sampling, up to the accountant's rounding of losses; sampling needs less noise.
    root = math.log(unit_noise(epsilon, delta, adjacency=adjacency) * math.sqrt(precision))
    if any(release.sampling < 1.0 for release in releases):
        low, width = root - 0.5, 0.5
        while excess(low) <= 0.0:
            low, width = low - 2.0 * width, 2.0 * width
        root = scipy.optimize.brentq(excess, low, low + width + 0.01, xtol=1e-7)
    nudge = 1e-9
    while excess(root) > 0.0:
        root, nudge = root + nudge, 4.0 * nudge
    return math.exp(root) * (1.0 + _ROUNDING)


def unit_noise(epsilon: float, delta: float, *, adjacency: Adjacency = "replace-one") -> float:
    r"""The noise multiplier $z$ at which a single release on all records spends `epsilon`, by the exact formula.

    Gaussian releases on all records compose exactly: with multipliers $z_j$ they spend as much as one with
    $z^{-2} = \sum_j z_j^{-2}$.

    **Arguments**: as in `calibrate`. **Raises** as `calibrate`.

    **Source**: dp-accounting's analytic Gaussian mechanism (B. Balle, Y.-X. Wang, arXiv:1805.06530).
    """
    validation.positive("epsilon", epsilon)
    _check(delta=delta, adjacency=adjacency)
    library = load("dp_accounting", extra="private")
    sensitivity = 2.0 if adjacency == "replace-one" else 1.0
    with np.errstate(divide="ignore"):  # a vanishing delta has logarithm minus infinity, as it should
        return sensitivity * float(library.get_sigma_gaussian(epsilon, delta))


def zcdp_rho(epsilon: float, delta: float) -> float:
    r"""$\rho = (\sqrt{\log(1/\delta)+\varepsilon} - \sqrt{\log(1/\delta)})^2$, which implies $(\varepsilon, \delta)$.

    A closed form for checks: $\rho$-zCDP costs $\varepsilon = \rho + 2\sqrt{\rho\log(1/\delta)}$, more than an
    accountant finds. **Raises** `ValueError` naming the argument.
    """
    validation.positive("epsilon", epsilon)
    _check(delta=delta)
    logarithm = math.log(1.0 / delta)
    # The difference of two roots as a quotient, which keeps its digits for a small epsilon.
    return (epsilon / (math.sqrt(logarithm + epsilon) + math.sqrt(logarithm))) ** 2


def zcdp_epsilon(releases: Sequence[Release], delta: float, *, adjacency: Adjacency = "replace-one") -> float:
    r"""$\varepsilon = \rho + 2\sqrt{\rho\log(1/\delta)}$ with $\rho = \sum s^2/(2z^2)$, blind to sampling.

    $s$ is the sensitivity over the norm of a contribution: 2 if a record is replaced, else 1.
    """
    _check(delta=delta, adjacency=adjacency)
    sensitivity = 2.0 if adjacency == "replace-one" else 1.0
    rho = sum(release.count * sensitivity**2 / (2.0 * release.noise_multiplier**2) for release in releases)
    return rho + 2.0 * math.sqrt(rho * math.log(1.0 / delta))


def _check(*, delta: float, adjacency: str = "replace-one", accountant: str = "pld") -> None:
    validation.real("delta", delta, low=0.0, high=1.0, open_low=True)
    if delta == 1.0:
        raise ValueError("delta: must lie strictly between 0 and 1, got 1")
    if adjacency not in get_args(Adjacency):
        raise ValueError(f"adjacency: {adjacency!r} is not one of {', '.join(get_args(Adjacency))}")
    if accountant not in get_args(Accountant):
        raise ValueError(f"accountant: {accountant!r} is not one of {', '.join(get_args(Accountant))}")


def _check_releases(releases: Sequence[Release]) -> None:
    if not releases:
        raise ValueError("releases: must not be empty")
    for release in releases:
        validation.real("noise_multiplier", release.noise_multiplier, low=0.0)
        validation.integer("count", release.count, low=0)
        validation.real("sampling", release.sampling, low=0.0, high=1.0, open_low=True)


def _merged(releases: Sequence[Release]) -> list[Release]:
    """The same with one release on all records for all of them; see `unit_noise`."""
    full = [release for release in releases if release.sampling == 1.0]
    sampled = [release for release in releases if release.sampling < 1.0]
    if not full:
        return sampled
    return [Release(sum(release.count / release.noise_multiplier**2 for release in full) ** -0.5), *sampled]


def _event(library: Any, release: Release, adjacency: str, accountant: str) -> Any:
    multiplier = release.noise_multiplier
    if accountant == "rdp" and adjacency == "replace-one":
        multiplier /= 2.0  # relative to the sensitivity
    if release.sampling == 1.0:
        event = library.GaussianDpEvent(multiplier)
    elif accountant == "rdp":
        if adjacency == "replace-one":
            raise ValueError("accountant: 'rdp' covers no Poisson sampling with replace-one adjacency; use 'pld'")
        if release.capacity != release.records:
            raise ValueError("accountant: 'rdp' covers no batch of limited capacity; use 'pld'")
        event = library.PoissonSampledDpEvent(release.sampling, library.GaussianDpEvent(multiplier))
    elif release.records is None or release.capacity is None:
        raise ValueError("records: a sampled release needs to know how many records and what capacity there is")
    else:
        event = library.TruncatedSubsampledGaussianDpEvent(
            release.records, release.sampling, release.capacity, multiplier
        )
    return library.SelfComposedDpEvent(event, release.count)


def _fresh(library: Any, releases: Sequence[Release], delta: float, adjacency: str, accountant: str) -> Any:
    relations = library.NeighboringRelation
    relation = relations.REPLACE_ONE if adjacency == "replace-one" else relations.ADD_OR_REMOVE_ONE
    if accountant == "rdp":
        return library.rdp.RdpAccountant(neighboring_relation=relation)
    # Losses are interpolated on a grid. It must be coarser where they are huge, or it would not fit into memory, and
    # finer than what the exponential function takes; sampled releases compose on the grid, others before it is laid.
    largest = max(
        zcdp_epsilon([dataclasses.replace(release, count=1 if release.sampling < 1.0 else release.count)], delta)
        for release in releases
    )
    fineness = 1e-3 if all(release.sampling == 1.0 for release in releases) else 5e-4
    interval = min(500.0, fineness * max(1.0, 0.1 * largest))
    return library.pld.PLDAccountant(relation, interval)


def _name(accountant: str) -> str:
    return f"dp-accounting {version('dp-accounting')}, {accountant.upper()}"
