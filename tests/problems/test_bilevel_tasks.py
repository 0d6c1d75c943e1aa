"""Bilevel tasks against scikit-learn, loops in NumPy and exact counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets
import sklearn.linear_model

from tendsto.problems import (
    HyperCleaning,
    HyperRepresentation,
    RegularisationSearch,
    corrupted,
    split_rows,
    zero_classifier,
)

INPUTS, LABELS = sklearn.datasets.load_wine(return_X_y=True)
INPUTS = (INPUTS - INPUTS.mean(axis=0)) / INPUTS.std(axis=0)
LOWER, UPPER, TEST = split_rows(INPUTS, LABELS, (0.5, 0.3, 0.2))


def cleaning(lower, regularisation=0.01):
    return HyperCleaning(
        upper_data=UPPER, lower_data=lower, test_data=TEST, lower_start=zero_classifier(13, 3),
        regularisation=regularisation,
    )  # fmt: skip


def test_split_deals_out_every_sample_once():
    assert [len(part[1]) for part in (LOWER, UPPER, TEST)] == [89, 53, 36]
    together = np.concatenate([np.asarray(part[0]) for part in (LOWER, UPPER, TEST)])
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(INPUTS, axis=0))


def test_lower_solution_is_the_ridge_classifier_of_scikit_learn():
    task = cleaning((*LOWER, jnp.arange(89)), 0.02)
    # Full weight for every sample; the penalty of scikit-learn leaves out the intercept, so it gets a feature instead.
    weight, bias = task.lower_solution(jnp.full(89, 40.0))
    augmented = np.column_stack([LOWER[0], np.ones(89)])
    peer = sklearn.linear_model.LogisticRegression(C=1 / (0.02 * 89), fit_intercept=False, tol=1e-10, max_iter=5000)
    peer.fit(augmented, LOWER[1])
    np.testing.assert_allclose(weight, peer.coef_[:, :13].T, atol=1e-5)
    np.testing.assert_allclose(bias, peer.coef_[:, 13], atol=1e-5)
    accuracy = task.test_accuracy(None, (weight, bias))
    assert float(accuracy) == pytest.approx(peer.score(np.column_stack([TEST[0], np.ones(36)]), TEST[1]))
    probabilities = peer.predict_proba(np.column_stack([TEST[0], np.ones(36)]))
    expected = -np.log(probabilities[np.arange(36), TEST[1]]).mean()
    assert float(task.test_loss(None, (weight, bias))) == pytest.approx(expected, rel=1e-4)


def test_weights_of_zero_drop_a_sample():
    data = corrupted(LOWER, 0.3, 3, seed=1)
    wrong = np.asarray(data[1]) != np.asarray(LOWER[1])
    assert wrong.sum() == round(0.3 * 89)
    task = cleaning(data)
    x = jnp.where(wrong, -40.0, 40.0)
    kept = tuple(leaf[~wrong] for leaf in data)
    smaller = cleaning(kept, 0.01 * 89 / (~wrong).sum())
    np.testing.assert_allclose(task.lower_solution(x)[0], smaller.lower_solution(x)[0], atol=1e-10)
    gradient = jax.jit(lambda x: task.hypergradient(x))(jnp.zeros(89))
    # Raising the weight of a wrong label hurts more than raising that of a right one.
    assert gradient[wrong].mean() > gradient[~wrong].mean()
    np.testing.assert_array_equal(task.upper_gradient_x(jnp.zeros(89), task.lower_start), 0.0)


def test_penalties_are_per_feature_or_one_for_all():
    task = RegularisationSearch(upper_data=UPPER, lower_data=LOWER, test_data=TEST, lower_start=zero_classifier(13, 3))
    y = (jnp.arange(39.0).reshape(13, 3) / 20, jnp.array([1.0, 2.0, 3.0]))
    x = jnp.linspace(-3, 3, 13)
    plain = float(task.losses(x, y, LOWER).mean())
    penalty = sum((1e-3 + 1 / (1 + np.exp(-x[j]))) * float(jnp.sum(y[0][j] ** 2)) for j in range(13)) + 1e-3 * 14
    assert float(task.lower(x, y, LOWER)) == pytest.approx(plain + penalty / 2)
    one = float(task.lower(jnp.array([0.7]), y, LOWER))
    assert one == pytest.approx(float(task.lower(jnp.full(13, 0.7), y, LOWER)))


def test_encoder_is_the_loop_over_time():
    sequences = INPUTS[:, :12].reshape(-1, 4, 3)
    lower, upper, test = split_rows(sequences, LABELS, (0.5, 0.3, 0.2))
    task = HyperRepresentation(
        upper_data=upper, lower_data=lower, test_data=test, lower_start=zero_classifier(5, 3), batch_size=8
    )
    x = HyperRepresentation.encoder(jax.random.key(0), 3, 5, gain=0.9)
    x = x | {"bias": jnp.linspace(-1, 1, 5)}
    hidden = np.zeros((len(test[1]), 5))
    for t in range(4):
        inputs = np.asarray(test[0])[:, t]
        hidden = np.tanh(hidden @ np.asarray(x["recurrent"]) + inputs @ np.asarray(x["input"]) + np.asarray(x["bias"]))
    np.testing.assert_allclose(task.features(x, test[0]), hidden, rtol=1e-12)
    np.testing.assert_allclose(x["recurrent"] @ x["recurrent"].T, 0.81 * np.eye(5), atol=1e-12)
    y = (jnp.ones((5, 3)), jnp.zeros(3))
    assert float(task.lower(x, y, test) - task.upper(x, y, test)) == pytest.approx(0.5 * 1e-2 * 15)
    rows = task.lower_batch(jax.random.key(3))
    assert rows[0].shape == (8, 4, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: split_rows(INPUTS, LABELS, (0.9, 0.3)), "parts: must have a sum in"),
        (lambda: corrupted(LOWER, 1.2, 3), "rate: must lie in"),
        (lambda: cleaning((*LOWER, jnp.arange(89)), 0.0), "regularis"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
