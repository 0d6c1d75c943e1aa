"""Adversaries against closed forms, their constraints, and another library's attack."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tendsto.federated import (
    PGD,
    Among,
    RandomNoise,
    Strongest,
    fgsm,
    into_interval,
    into_slice,
    mlp,
    mlp_parameters,
    separated_points,
    unperturbed,
)
from tendsto.federated.adversaries import attack_gradients
from tendsto.problems import dataset

KEY = jax.random.key(5)
SLOPE = jnp.asarray([3.0, -1.0, 0.0, 2.0])


def linear_loss(features, targets):
    return targets * (features @ SLOPE)


def bowl(features, targets):
    """Largest at (1, 1), beyond every ball here."""
    return -jnp.sum((features - 1.0) ** 2, axis=1) + 0.0 * targets


@pytest.fixture(scope="module")
def samples():
    return jax.random.normal(jax.random.key(1), (6, 4)), jnp.asarray([1.0, -1.0, 1.0, 1.0, -1.0, 2.0])


def transcription(features, targets, radius, steps, norm):
    """Ascent on the linear loss from the clean samples."""
    clean, moved = np.asarray(features), np.asarray(features)
    for _ in range(steps):
        gradient = np.outer(targets, SLOPE) * (1.0 + np.sum(moved**2, axis=1, keepdims=True))
        gradient += 2.0 * moved * (targets * (moved @ np.asarray(SLOPE)))[:, None]
        if norm == "sup":
            moved = moved + 2.5 * radius / steps * np.sign(gradient)
            moved = clean + np.clip(moved - clean, -radius, radius)
        else:
            moved = moved + 2.5 * radius / steps * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
            length = np.linalg.norm(moved - clean, axis=1, keepdims=True)
            moved = clean + (moved - clean) * np.minimum(1.0, radius / length)
    return moved


@pytest.mark.parametrize("norm", ["euclidean", "sup"])
def test_ascent_is_that_of_the_algorithm(samples, norm):
    def loss(features, targets):
        return linear_loss(features, targets) * (1.0 + jnp.sum(features**2, axis=1))

    moved = PGD(0.3, norm, steps=3, random_start=False)(loss, *samples, KEY)
    np.testing.assert_allclose(moved, transcription(*samples, 0.3, 3, norm), rtol=1e-12)


@pytest.mark.parametrize("norm", ["euclidean", "sup"])
def test_one_step_is_exact_where_predictions_are_linear(samples, norm):
    features, targets = samples
    moved = fgsm(0.2, norm)(linear_loss, features, targets, KEY)
    dual = jnp.sum(jnp.abs(SLOPE)) if norm == "sup" else jnp.linalg.norm(SLOPE)
    expected = linear_loss(features, targets) + 0.2 * jnp.abs(targets) * dual
    np.testing.assert_allclose(linear_loss(moved, targets), expected, rtol=1e-12)
    # A step of the radius at least halves the way to the best point of the ball.
    long = PGD(0.2, norm, steps=60, step_size=0.2)(linear_loss, features, targets, KEY)
    np.testing.assert_allclose(linear_loss(long, targets), expected, rtol=1e-9)


def test_nobody_leaves_the_ball_and_noise_reaches_its_boundary(samples):
    features, targets = samples
    for norm, size in (("euclidean", lambda v: jnp.linalg.norm(v, axis=1)), ("sup", lambda v: jnp.abs(v).max(axis=1))):
        attack = eqx.filter_jit(PGD(0.3, norm, steps=4, step_size=5.0, restarts=2))
        moved = attack(linear_loss, features, targets, KEY)
        assert float(size(moved - features).max()) <= 0.3 * (1 + 1e-12)
        noise = eqx.filter_jit(RandomNoise(0.3, norm))(linear_loss, features, targets, KEY) - features
        np.testing.assert_allclose(size(noise), 0.3)
        assert len(np.unique(np.asarray(noise), axis=0)) == 6


def test_a_radius_of_zero_and_a_flat_loss_change_nothing(samples):
    features, targets = samples
    np.testing.assert_array_equal(PGD(0.0)(linear_loss, features, targets, KEY), features)
    flat = PGD(0.3, random_start=False)(lambda features, targets: 0.0 * features[:, 0], features, targets, KEY)
    np.testing.assert_array_equal(flat, features)


def test_random_starts_fill_the_ball():
    features = jnp.zeros((4000, 2))
    moved = PGD(0.5, steps=1, step_size=0.0)(bowl, features, jnp.zeros(4000), KEY)
    lengths = np.linalg.norm(moved, axis=1) / 0.5
    # Uniform in a disc: the squared length is uniform.
    assert np.mean(lengths**2) == pytest.approx(0.5, abs=0.02)
    assert np.abs(np.asarray(moved).mean(axis=0)).max() < 0.02


def test_restarts_keep_each_samples_worst():
    def rugged(features, targets):
        return jnp.sin(40.0 * features[:, 0]) + features[:, 0] + 0.0 * targets

    features, targets = jnp.zeros((50, 1)), jnp.zeros(50)
    once, often = (PGD(0.5, "sup", steps=5, step_size=0.01, restarts=number) for number in (1, 10))
    few = rugged(once(rugged, features, targets, KEY), targets)
    many = rugged(often(rugged, features, targets, KEY), targets)
    assert float(many.mean()) > float(few.mean()) + 0.1
    assert float(many.min()) > float(few.min())


def test_pixels_stay_pixels(samples):
    features = jnp.clip(samples[0], 0.0, 1.0)
    moved = PGD(0.4, "sup", project=into_interval(0.0, 1.0))(linear_loss, features, samples[1], KEY)
    assert float(moved.min()) >= 0.0
    assert float(moved.max()) <= 1.0
    assert float(jnp.abs(moved - features).max()) <= 0.4 + 1e-12


def test_the_slice_of_the_sphere_is_kept_and_its_edge_attained():
    points = separated_points(7, 5, 0.3)
    targets = jnp.ones(7)
    slope = jnp.asarray([1.0, 2.0, -1.0, 0.5, 3.0])
    attack = eqx.filter_jit(PGD(0.2, steps=200, step_size=0.05, project=into_slice))
    moved = attack(lambda x, y: y * (x @ slope), points, targets, KEY)
    np.testing.assert_allclose(jnp.linalg.norm(moved, axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(moved[:, -1], 0.5)
    # The best point of a cap lies on the great circle towards the slope, at the edge unless that comes later.
    for clean, found in zip(np.asarray(points)[:, :4], np.asarray(moved)[:, :4], strict=True):
        towards = np.asarray(slope)[:4] - clean * (np.asarray(slope)[:4] @ clean) / 0.75
        to_slope = np.arccos(clean @ slope[:4] / np.sqrt(0.75) / np.linalg.norm(slope[:4]))
        angle = min(2 * np.arcsin(0.2 / (2 * np.sqrt(0.75))), to_slope)
        best = np.cos(angle) * clean + np.sin(angle) * np.sqrt(0.75) * towards / np.linalg.norm(towards)
        np.testing.assert_allclose(found, best, atol=2e-3)
    lengths = np.linalg.norm(moved - points, axis=1)
    assert lengths.max() == pytest.approx(0.2, rel=1e-9)
    assert np.sum(np.isclose(lengths, 0.2)) >= 6


def test_the_worst_of_given_points_within_reach():
    features, targets = jnp.asarray([[0.0, 0.0], [3.0, 0.0]]), jnp.zeros(2)
    near = Among(jnp.asarray([[0.5, 0.0], [0.9, 0.9], [2.5, 0.0]]), 1.0)
    np.testing.assert_array_equal(near(bowl, features, targets, KEY), [[0.5, 0.0], [2.5, 0.0]])
    square = Among(jnp.asarray([[0.5, 0.0], [0.9, 0.9], [2.5, 0.0]]), 1.0, "sup")
    np.testing.assert_array_equal(square(bowl, features, targets, KEY), [[0.9, 0.9], [2.5, 0.0]])
    nothing = Among(jnp.asarray([[-1.0, 0.0]]), 1.0)
    np.testing.assert_array_equal(nothing(bowl, features, targets, KEY), features)


def test_the_strongest_answer_is_taken_sample_by_sample(samples):
    features, targets = samples

    def backwards(loss, features, targets, key):
        return features - 0.1 * jnp.sign(SLOPE)

    both = Strongest((backwards, unperturbed))
    moved = both(linear_loss, features, targets, KEY)
    expected = jnp.where(targets[:, None] > 0, features, features - 0.1 * jnp.sign(SLOPE))
    np.testing.assert_array_equal(moved, expected)
    assert attack_gradients(Strongest((PGD(0.1, steps=3, restarts=2), unperturbed, fgsm(0.1)))) == 7


def test_the_attack_is_as_strong_as_foolboxs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox")
        import torch
    images, labels = dataset("digits", standardise=False)
    images, labels = jnp.asarray(images[:200] / 16.0), jnp.asarray(labels[:200])
    parameters = mlp_parameters(jax.random.key(0), (64, 16, 10))

    def loss(features, targets):
        scores = jax.nn.log_softmax(mlp(parameters, features))
        return -jnp.take_along_axis(scores, targets[:, None], axis=1)[:, 0]

    network = torch.nn.Sequential(
        torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)
    ).double()  # fmt: skip
    with torch.no_grad():
        for layer, ours in zip((network[0], network[2]), parameters, strict=True):
            layer.weight.copy_(torch.tensor(np.asarray(ours["weights"]).T))
            layer.bias.copy_(torch.tensor(np.asarray(ours["bias"])))
    model = foolbox.PyTorchModel(network.eval(), bounds=(0, 1), device="cpu")
    tensors = torch.tensor(np.asarray(images)), torch.tensor(np.asarray(labels))
    for norm, attack in (
        ("sup", foolbox.attacks.LinfProjectedGradientDescentAttack(rel_stepsize=0.125, steps=20, random_start=False)),
        (
            "euclidean",
            foolbox.attacks.L2ProjectedGradientDescentAttack(rel_stepsize=0.125, steps=20, random_start=False),
        ),
    ):
        radius = 0.1 if norm == "sup" else 0.6
        _, theirs, _ = attack(model, *tensors, epsilons=radius)
        ours = PGD(radius, norm, steps=20, random_start=False, project=into_interval(0.0, 1.0, norm))
        found = loss(ours(loss, images, labels, KEY), labels)
        peer = loss(jnp.asarray(theirs.numpy()), labels)
        clean = loss(images, labels)
        assert float(jnp.mean(found - clean)) == pytest.approx(float(jnp.mean(peer - clean)), rel=0.01)
        assert float(jnp.mean(peer - clean)) > 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PGD(-0.1), "radius"),
        (lambda: PGD(0.1, "taxicab"), "norm"),
        (lambda: PGD(0.1, steps=0), "steps"),
        (lambda: PGD(0.1, restarts=0), "restarts"),
        (lambda: PGD(0.1, step_size=-1.0), "step_size"),
        (lambda: PGD(0.1, restarts=2, random_start=False), "restarts: without a random start"),
        (lambda: RandomNoise(-1.0), "radius"),
        (lambda: Among([[np.nan]], 1.0), "points"),
        (lambda: Strongest(()), "adversaries"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
