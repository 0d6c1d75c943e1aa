"""Attacks against their closed form on affine networks, a transcription in NumPy, and one library against the other."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import torch
from scipy.optimize import linprog

from tendsto.optimize import DirectionalAttack
from tendsto.problems import freeze

RNG = np.random.default_rng(4)
FIRST, SECOND = RNG.standard_normal((6, 8)), RNG.standard_normal((8, 4))
X, U = RNG.standard_normal(6), RNG.standard_normal(4)


def network(x):
    return jnp.tanh(x @ FIRST) @ SECOND


def twin():
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 8, bias=False), torch.nn.Tanh(), torch.nn.Linear(8, 4, bias=False)
    ).double()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor(FIRST.T))
        module[2].weight.copy_(torch.tensor(SECOND.T))
    return module


def outputs(x):
    return np.tanh(x @ FIRST) @ SECOND


def product(x, direction):
    return FIRST @ ((1 - np.tanh(x @ FIRST) ** 2) * (SECOND @ direction))


def entropy_direction(z):
    return U - scipy.special.softmax(z) * U.sum()


ATTACKS = {
    "fgsm": DirectionalAttack(),
    "pgd": DirectionalAttack("pgd"),
    "long pgd": DirectionalAttack("pgd", steps=30, step_size=0.05),
    "fgsm, cross-entropy": DirectionalAttack(loss="cross-entropy"),
    "pgd, cross-entropy": DirectionalAttack("pgd", "cross-entropy", 12, 0.1),
}


def expected(attack, radius):
    """In the coordinates of the inputs: steps of length 2 r alpha, clipped at the radius."""
    linear = attack.loss == "linear"
    if attack.kind == "fgsm":
        return radius * np.sign(product(X, U if linear else U - U.mean()))
    d = np.zeros(6)
    for _ in range(attack.steps):
        ascent = U if linear else entropy_direction(outputs(X + d) - outputs(X))
        d = np.clip(d + 2 * radius * attack.step_size * np.sign(product(X + d, ascent)), -radius, radius)
    return d


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("library", ["jax", "torch"])
@pytest.mark.parametrize("radius", [0.01, 1.3])
def test_attacks_are_those_of_the_transcription_in_both_libraries(name, library, radius):
    attack, frozen = ATTACKS[name], freeze(network if library == "jax" else twin())
    found = attack(frozen, X, U, radius)
    np.testing.assert_allclose(found, expected(attack, radius), rtol=1e-9, atol=1e-12)
    assert np.abs(found).max() <= radius * (1 + 1e-12)
    assert frozen.evaluations + frozen.gradients == attack.calls
    assert frozen.gradients == (attack.steps if attack.kind == "pgd" else 1)


def test_the_default_steps_of_pgd_stay_near_the_centre():
    found = DirectionalAttack("pgd")(network, X, U, 2.0)
    assert np.abs(found).max() == pytest.approx(2.0 * 2 * 10 * 2 / 255)


@pytest.mark.parametrize("seed", range(3))
def test_affine_networks_are_attacked_optimally(seed):
    rng = np.random.default_rng(seed)
    weights, x, direction, radius = rng.standard_normal((3, 7)), rng.standard_normal(7), rng.standard_normal(3), 0.7
    frozen = freeze(lambda x: weights @ x + 1.0)
    best = linprog(-(weights.T @ direction), bounds=(-radius, radius))
    for attack in (ATTACKS["fgsm"], ATTACKS["long pgd"]):
        gain = direction @ (frozen(x + attack(frozen, x, direction, radius)) - frozen(x))
        assert gain == pytest.approx(-best.fun, rel=1e-12)
        assert gain == pytest.approx(radius * np.abs(weights.T @ direction).sum(), rel=1e-12)
    blind = ATTACKS["fgsm, cross-entropy"](freeze(lambda x: (weights[0] @ x)[None]), x, np.array([2.0]), radius)
    np.testing.assert_array_equal(blind, 0.0)


def test_inputs_may_lie_outside_the_unit_cube():
    found = ATTACKS["long pgd"](freeze(lambda x: 3.0 * x), np.array([100.0, -100.0]), np.array([1.0, -1.0]), 5.0)
    np.testing.assert_allclose(found, [5.0, -5.0])


def test_a_rank_deficient_jacobian_leaves_the_coordinates_that_do_nothing():
    found = DirectionalAttack()(freeze(lambda x: jnp.stack([x[0], x[0]])), np.zeros(3), np.ones(2), 1.0)
    np.testing.assert_array_equal(found, [1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DirectionalAttack("cw"), "kind"),
        (lambda: DirectionalAttack(loss="hinge"), "loss"),
        (lambda: DirectionalAttack(steps=0), "steps"),
        (lambda: DirectionalAttack(step_size=0.0), "step_size"),
        (lambda: DirectionalAttack()(network, X, U, 0.0), "radius"),
        (lambda: DirectionalAttack()(3, X, U, 1.0), "network"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build()
