"""Partitions deal out every sample once, keep their promises, and say so where they cannot."""

import numpy as np
import pytest

from tendsto.federated import IID, ByLabel, ByQuantity, Dirichlet, Given

LABELS = np.repeat(np.arange(10), 60)
RULES = {
    "iid": IID(),
    "dirichlet": Dirichlet(0.3),
    "one label": ByLabel(1),
    "two labels": ByLabel(2),
    "quantity": ByQuantity(0.5),
}


@pytest.mark.parametrize("name", RULES)
def test_every_sample_goes_to_exactly_one_client(name):
    dealt = RULES[name].deal(LABELS, 20, np.random.default_rng(3))
    assert len(dealt) == 20
    assert min(map(len, dealt)) >= 1
    np.testing.assert_array_equal(np.sort(np.concatenate(dealt)), np.arange(600))


@pytest.mark.parametrize("name", RULES)
def test_the_seed_decides(name):
    first, again, other = (RULES[name].deal(LABELS, 20, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_iid_parts_are_equal_up_to_one():
    sizes = [len(share) for share in IID().deal(LABELS[:599], 20, np.random.default_rng(0))]
    assert max(sizes) - min(sizes) == 1


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_by_label_gives_that_many_classes_and_uses_all(classes):
    dealt = ByLabel(classes).deal(LABELS, 20, np.random.default_rng(0))
    assert {len(np.unique(LABELS[share])) for share in dealt} == {classes}
    assert set(LABELS[np.concatenate(dealt)]) == set(range(10))


def test_dirichlet_shares_have_the_laws_moments():
    # The share of a class that one of n clients gets has mean 1/n and variance (n - 1)/(n^2 (n a + 1)).
    clients, concentration = 5, 0.7
    labels = np.repeat(np.arange(4000), 100)
    dealt = Dirichlet(concentration).deal(labels, clients, np.random.default_rng(0))
    shares = np.bincount(labels[dealt[0]], minlength=4000) / 100
    variance = (clients - 1) / (clients**2 * (clients * concentration + 1))
    assert shares.mean() == pytest.approx(1 / clients, abs=4 * np.sqrt(variance / 4000))
    assert shares.var() == pytest.approx(variance, rel=0.1)


def test_small_concentration_means_few_classes():
    def classes(concentration):
        dealt = Dirichlet(concentration).deal(LABELS, 10, np.random.default_rng(0))
        return np.mean([np.exp(entropy(LABELS[share])) for share in dealt])

    def entropy(labels):
        shares = np.bincount(labels) / len(labels)
        return -np.sum(shares[shares > 0] * np.log(shares[shares > 0]))

    assert classes(0.1) < classes(1.0) < classes(100.0)


def test_quantities_have_the_laws_moments():
    sizes = np.asarray(
        [list(map(len, ByQuantity(2.0).deal(LABELS, 4, np.random.default_rng(seed)))) for seed in range(500)]
    )
    assert sizes.sum(axis=1).tolist() == [600] * 500
    rest, clients, concentration = 596, 4, 2.0
    # Dirichlet-multinomial variance of one client's count.
    share = 1 / clients
    total = clients * concentration
    variance = rest * share * (1 - share) * (rest + total) / (1 + total)
    assert sizes[:, 0].var() == pytest.approx(variance, rel=0.2)


def test_given_is_taken_as_given():
    shares = [[0, 2], [1]]
    assert [share.tolist() for share in Given(shares).deal(LABELS, 2, np.random.default_rng(0))] == shares


@pytest.mark.parametrize(
    ("rule", "clients", "message"),
    [
        (IID(), 601, "clients: 600 samples are not enough for 601 clients"),
        (Dirichlet(1e-3, fewest=10), 40, "concentration: with 0.001"),
        (Dirichlet(1.0, fewest=31), 20, "clients: 600 samples are not enough for 20 clients with 31"),
        (ByLabel(11), 5, "classes: a client cannot hold 11 classes of 10"),
        (ByLabel(1), 611, "classes: class 0 has 60 samples for 62 clients"),
        (ByQuantity(1.0, fewest=100), 7, "clients: 600 samples are not enough"),
        (Given([[0], []]), 2, "shares: client 1 has no samples"),
        (Given([[0], [0]]), 2, "shares: a sample is given to more than one client"),
        (Given([[0], [600]]), 2, r"shares: sample numbers must lie in \[0, 599\]"),
        (Given([[0]]), 2, "shares: expected one for each of 2 clients, got 1"),
    ],
)
def test_what_cannot_be_met_is_an_error(rule, clients, message):
    with pytest.raises(ValueError, match=message):
        rule.deal(LABELS, clients, np.random.default_rng(0))


@pytest.mark.parametrize("make", [Dirichlet, ByQuantity])
def test_concentrations_are_positive(make):
    with pytest.raises(ValueError, match="concentration"):
        make(0.0)
