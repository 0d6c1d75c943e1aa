"""Margins and certificates against constructions, exact arithmetic and scikit-learn; bounds against their lemma."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import sklearn.svm

from tendsto.problems import (
    LinearSeparation,
    batch_perceptron_worst_case,
    dataset,
    gaussian_separation,
    margin_certificate,
    misleading_loss_pair,
    weighted_margin_bound,
)
from tendsto.problems.regularisers import SquaredL2


@pytest.mark.parametrize("margin", [1e-3, 0.1, 2.0])
@pytest.mark.parametrize(("samples", "dimension"), [(2, 2), (5, 20), (200, 20)])
def test_certificate_encloses_a_constructed_margin(samples, dimension, margin):
    problem = gaussian_separation(jax.random.key(0), samples, dimension, margin)
    certificate = margin_certificate(problem.features, problem.targets)
    assert certificate.lower <= margin <= certificate.upper
    assert certificate.upper - certificate.lower < 1e-9 * margin + 1e-12 * certificate.radius
    assert certificate.separable


def test_certificate_holds_in_exact_arithmetic():
    problem = gaussian_separation(jax.random.key(1), 12, 4, 0.2)
    certificate = margin_certificate(problem.features, problem.targets)
    rows = [
        [Fraction(float(sign)) * Fraction(float(entry)) for entry in row]
        for row, sign in zip(np.asarray(problem.features), np.asarray(problem.targets), strict=True)
    ]
    direction = [Fraction(float(entry)) for entry in certificate.direction]
    smallest = min(sum(a * b for a, b in zip(row, direction, strict=True)) for row in rows)
    assert smallest > 0
    assert smallest**2 >= Fraction(certificate.lower) ** 2 * sum(entry**2 for entry in direction)
    weights = [Fraction(float(weight)) for weight in certificate.weights]
    assert min(weights) >= 0
    combination = [sum(w * row[j] for w, row in zip(weights, rows, strict=True)) / sum(weights) for j in range(4)]
    assert sum(entry**2 for entry in combination) <= Fraction(certificate.upper) ** 2
    assert all(sum(entry**2 for entry in row) <= Fraction(certificate.radius) ** 2 for row in rows)


def test_certificate_is_the_hard_margin_of_a_support_vector_machine():
    features, targets = dataset("iris", classes=(0, 1), intercept=True)
    certificate = margin_certificate(features, targets)
    # Signed samples and their mirror images make the SVM's own intercept vanish.
    signed = np.where(targets == 1, 1.0, -1.0)[:, None] * features
    machine = sklearn.svm.SVC(kernel="linear", C=1e8, tol=1e-8).fit(
        np.vstack([signed, -signed]), np.repeat([1, -1], len(signed))
    )
    assert certificate.lower == pytest.approx(1 / np.linalg.norm(machine.coef_), rel=1e-5)
    np.testing.assert_allclose(certificate.direction, machine.coef_[0] / np.linalg.norm(machine.coef_), atol=1e-4)


def test_data_that_cannot_be_separated_have_no_margin_and_no_bound():
    features, targets = dataset("iris", classes=(1, 2), intercept=True)
    certificate = margin_certificate(features, targets)
    assert not certificate.separable
    assert certificate.upper < 1e-11 * certificate.radius
    assert certificate.weights.sum() == pytest.approx(1.0)
    assert certificate.perceptron_bound() == certificate.gradient_bound(1.0) == np.inf


def test_worst_case_has_the_margin_and_radius_of_the_theorem():
    problem = batch_perceptron_worst_case(50)
    certificate = margin_certificate(problem.features, problem.targets)
    assert certificate.lower == pytest.approx(0.5, rel=1e-12)
    assert certificate.perceptron_bound() == pytest.approx(5.0, rel=1e-10)
    assert certificate.batch_perceptron_bound() == pytest.approx(250.0, rel=1e-10)
    assert certificate.normalised_gradient_bound(0.1, "paper") == pytest.approx(5 + 80 * np.log(99), rel=1e-10)
    assert certificate.gradient_bound(0.1, "paper") == pytest.approx(100 * (5 + 80 * np.log(99)), rel=1e-10)
    assert certificate.normalised_gradient_bound(0.1) < certificate.normalised_gradient_bound(0.1, "paper")


@pytest.mark.parametrize("samples", [2, 3, 10, 100, 1000])
def test_sharp_constant_is_the_supremum_of_the_weighted_margin(samples):
    def weighted_margin(common):
        # One margin is zero, the others are equal: the maximiser of a sum that is concave where it matters.
        residual = 1 / (1 + np.exp(common))
        return (samples - 1) * residual * common / (0.5 + (samples - 1) * residual)

    found = scipy.optimize.minimize_scalar(
        lambda m: -weighted_margin(m), bounds=(0, 30), method="bounded", options={"xatol": 1e-10}
    )
    assert weighted_margin_bound(samples) == pytest.approx(-found.fun, rel=1e-9)
    assert weighted_margin_bound(samples) < weighted_margin_bound(samples, "paper") == np.log(2 * samples - 1)


def test_no_margins_with_a_mistake_exceed_the_sharp_constant():
    margins = np.random.default_rng(0).normal(2.0, 4.0, size=(100_000, 6))
    margins[:, 0] = -np.abs(margins[:, 0]) * (np.arange(100_000) % 2)
    residuals = 1 / (1 + np.exp(margins))
    weighted = (residuals * margins).sum(axis=1) / residuals.sum(axis=1)
    bound = weighted_margin_bound(6)
    assert weighted.max() <= bound
    assert weighted.max() > 0.95 * bound


def test_margins_mistakes_and_combinations_are_those_of_the_signed_samples():
    problem = misleading_loss_pair()
    signed = np.array([[1.0, -1.0], [1.0, 4.0]])
    x = jnp.array([0.5, 0.5])
    np.testing.assert_allclose(problem.margins(x), signed @ x)
    np.testing.assert_allclose(problem.combination(jnp.array([2.0, 3.0])), [5.0, 10.0])
    # A margin of exactly zero is a mistake, and so is NaN.
    assert problem.mistakes(x) == 1
    assert problem.mistakes(jnp.array([1.0, 0.25])) == 0
    assert problem.mistakes(jnp.array([jnp.nan, 0.0])) == 2


def test_gaussian_data_are_balanced_and_depend_on_the_key_alone():
    one, same, other = (gaussian_separation(jax.random.key(key), 30, 5, 0.1) for key in (0, 0, 1))
    np.testing.assert_array_equal(one.features, same.features)
    assert not np.allclose(one.features, other.features)
    assert float(one.targets.sum()) == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearSeparation([[1.0], [2.0]], [0, 1], l2=0.1), "l2: must lie in"),
        (lambda: LinearSeparation([[1.0], [2.0]], [0, 1], regulariser=SquaredL2(1.0)), "regulariser"),
        (lambda: margin_certificate([[1.0], [2.0]], [1, 1]), "targets: expected exactly two classes"),
        (lambda: margin_certificate([[1.0], [np.inf]], [0, 1]), "features: must be finite"),
        (lambda: margin_certificate([[1.0], [2.0]], [0, 1, 1]), "targets: expected one for each"),
        (lambda: batch_perceptron_worst_case(1), "samples: must lie in"),
        (lambda: gaussian_separation(jax.random.key(0), 10, 1, 0.1), "dimension: must lie in"),
        (lambda: gaussian_separation(jax.random.key(0), 10, 3, 0.0), "margin: must lie in"),
        (lambda: weighted_margin_bound(0), "samples: must lie in"),
        (lambda: margin_certificate([[1.0], [-2.0]], [1, 0]).gradient_bound(0.0), "step_size: must lie in"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_unknown_bound_is_refused():
    # Run-time type checking, where it is on, speaks first.
    with pytest.raises((ValueError, TypeError), match="bound"):
        weighted_margin_bound(10, "tight")
