"""Privacy accounting against closed forms, other accountants and each other."""

import math

import numpy as np
import pytest
import scipy.stats

from tendsto.optimize.private import (
    Release,
    calibrate,
    poisson_release,
    privacy_spent,
    unit_noise,
    zcdp_epsilon,
    zcdp_rho,
)
from tendsto.optimize.private.accounting import batch_capacity


def exact_delta(multiplier, epsilon):
    """The delta of one Gaussian release whose mean moves by 2 (a replaced record), from the normal law."""
    shift = 2.0 / multiplier
    upper = scipy.stats.norm.cdf(shift / 2 - epsilon / shift)
    return upper - math.exp(epsilon) * scipy.stats.norm.cdf(-shift / 2 - epsilon / shift)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_replaced_record_moves_a_release_by_twice_its_norm(epsilon):
    multiplier = unit_noise(epsilon, 1e-5)
    assert exact_delta(multiplier, epsilon) == pytest.approx(1e-5, rel=1e-6)
    spent = privacy_spent([Release(multiplier)], 1e-5)
    assert spent.epsilon == pytest.approx(epsilon, rel=1e-4)
    assert (spent.delta, spent.adjacency) == (1e-5, "replace-one")
    assert "dp-accounting" in spent.accounting
    assert unit_noise(epsilon, 1e-5, adjacency="add-or-remove-one") == pytest.approx(multiplier / 2, rel=1e-9)


def test_releases_on_all_records_compose_like_one():
    releases = [Release(5.0, 3), Release(20.0, 40), Release(7.0, 0)]
    single = (3 / 25 + 40 / 400) ** -0.5
    epsilon = privacy_spent(releases, 1e-6).epsilon
    assert exact_delta(single, epsilon) == pytest.approx(1e-6, rel=1e-3)
    for accountant in ("pld", "rdp"):
        assert epsilon <= privacy_spent(releases, 1e-6, accountant=accountant).epsilon + 1e-9


@pytest.mark.parametrize("adjacency", ["replace-one", "add-or-remove-one"])
def test_order_of_the_accountants(adjacency):
    releases = [Release(15.0, 20), Release(40.0, 30)]
    tight = privacy_spent(releases, 1e-5, adjacency=adjacency).epsilon
    renyi = privacy_spent(releases, 1e-5, adjacency=adjacency, accountant="rdp").epsilon
    closed = zcdp_epsilon(releases, 1e-5, adjacency=adjacency)
    assert tight < renyi < closed < 1.6 * tight


def test_sampled_releases_against_the_accountant_of_opacus():
    # Opacus counts records that are there or not, and knows no limited capacity.
    opacus_rdp = pytest.importorskip("opacus.accountants.analysis.rdp")
    release = Release(1.3, 200, 0.05, 1000, 1000)
    orders = [1 + x / 10 for x in range(1, 200)] + list(range(21, 100))
    theirs, _ = opacus_rdp.get_privacy_spent(
        orders=orders,
        rdp=opacus_rdp.compute_rdp(q=0.05, noise_multiplier=1.3, steps=200, orders=orders),
        delta=1e-5,
    )
    renyi = privacy_spent([release], 1e-5, adjacency="add-or-remove-one", accountant="rdp").epsilon
    assert renyi == pytest.approx(theirs, rel=2e-3)
    tight = privacy_spent([release], 1e-5, adjacency="add-or-remove-one").epsilon
    assert 0.85 * theirs < tight < theirs
    # A replaced record is one removed and one added.
    replaced = privacy_spent([release], 1e-5).epsilon
    assert tight < replaced < 2.5 * tight


def test_sampling_saves_noise_and_full_sampling_is_none():
    assert poisson_release(2.0, 5, 1.0, 100) == Release(2.0, 5)
    sampled = poisson_release(2.0, 5, 0.1, 1000)
    assert privacy_spent([sampled], 1e-5).epsilon < 0.5 * privacy_spent([Release(2.0, 5)], 1e-5).epsilon


@pytest.mark.parametrize("records", [10, 1000])
def test_capacity_is_the_least_with_a_negligible_overflow(records):
    capacity = batch_capacity(records, 0.3)
    assert scipy.stats.binom.sf(capacity, records, 0.3) <= 1e-12
    assert capacity == records or scipy.stats.binom.sf(capacity - 2, records, 0.3) > 1e-12


@pytest.mark.parametrize("epsilon", [0.05, 1.0, 10.0, 1e6])
def test_calibration_spends_the_budget_from_below(epsilon):
    shares = [Release(3.0, 10), Release(1.0, 50)]
    factor = calibrate(shares, epsilon, 1e-5)
    spent = privacy_spent([share.scaled(factor) for share in shares], 1e-5).epsilon
    assert (1 - 2e-4) * epsilon <= spent <= epsilon


def test_calibration_of_sampled_releases_spends_the_budget():
    shares = [Release(3.0, 4), poisson_release(1.0, 100, 0.05, 2000)]
    factor = calibrate(shares, 2.0, 1e-5)
    spent = privacy_spent([share.scaled(factor) for share in shares], 1e-5).epsilon
    assert 2.0 * (1 - 1e-5) <= spent <= 2.0
    alone = [privacy_spent([share.scaled(factor)], 1e-5).epsilon for share in shares]
    assert 1.1 * max(alone) < spent < sum(alone)
    assert factor < calibrate([shares[0], Release(1.0, 100)], 2.0, 1e-5)


@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 1e-5), (1e-4, 1e-9), (50.0, 0.1)])
def test_zcdp_conversion_inverts(epsilon, delta):
    rho = zcdp_rho(epsilon, delta)
    assert rho + 2 * math.sqrt(rho * math.log(1 / delta)) == pytest.approx(epsilon, rel=1e-12)
    assert zcdp_epsilon([Release(math.sqrt(2 / rho))], delta) == pytest.approx(epsilon, rel=1e-12)


def test_zcdp_value_of_the_table():
    assert zcdp_rho(1.0, 1e-5) == pytest.approx(0.02081994, abs=5e-9)


def test_missing_noise_is_no_privacy():
    assert privacy_spent([Release(0.0)], 1e-5).epsilon == math.inf
    assert privacy_spent([Release(1.0), Release(0.0, 3)], 1e-5).epsilon == math.inf
    assert privacy_spent([Release(0.0, 0)], 1e-5).epsilon == 0.0
    assert privacy_spent([Release(math.inf)], 1e-5).epsilon == 0.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: calibrate([Release(1.0)], 0.0, 1e-5), "epsilon: must lie in"),
        (lambda: calibrate([Release(1.0)], -1.0, 1e-5), "epsilon: must lie in"),
        (lambda: calibrate([Release(1.0)], np.nan, 1e-5), "epsilon: must lie in"),
        (lambda: privacy_spent([Release(1.0)], 0.0), "delta: must lie in"),
        (lambda: privacy_spent([Release(1.0)], 1.0), "delta: must lie strictly between 0 and 1"),
        (lambda: unit_noise(1.0, 1.5), "delta: must lie in"),
        (lambda: zcdp_rho(1.0, -0.1), "delta: must lie in"),
        (lambda: privacy_spent([], 1e-5), "releases: must not be empty"),
        (lambda: calibrate([], 1.0, 1e-5), "releases: must not be empty"),
        (lambda: calibrate([Release(0.0)], 1.0, 1e-5), "noise_multiplier: must lie in"),
        (lambda: calibrate([Release(1.0, 0)], 1.0, 1e-5), "releases: must have a count above zero"),
        (lambda: privacy_spent([Release(1.0, 1, 1.5)], 1e-5), "sampling: must lie in"),
        (lambda: privacy_spent([Release(-1.0)], 1e-5), "noise_multiplier: must lie in"),
        (lambda: privacy_spent([Release(1.0, -1)], 1e-5), "count: must lie in"),
        (lambda: privacy_spent([Release(1.0, 1, 0.5)], 1e-5), "records: a sampled release needs"),
        (
            lambda: privacy_spent([poisson_release(1.0, 1, 0.5, 10)], 1e-5, accountant="rdp"),
            "accountant: 'rdp' covers no Poisson sampling with replace-one",
        ),
        (
            lambda: privacy_spent(
                [poisson_release(1.0, 1, 0.1, 1000)], 1e-5, adjacency="add-or-remove-one", accountant="rdp"
            ),
            "accountant: 'rdp' covers no batch of limited capacity",
        ),
        (lambda: batch_capacity(10, 1.5), "sampling: must lie in"),
        (lambda: batch_capacity(0, 0.5), "records: must lie in"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", ["adjacency", "accountant"])
def test_unknown_names_are_refused(name):
    with pytest.raises((ValueError, TypeError), match=name):
        privacy_spent([Release(1.0)], 1e-5, **{name: "best"})
