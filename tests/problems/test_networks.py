"""Frozen networks and problems through them against automatic differentiation of the whole, in both libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tendsto.problems import NetworkProblem, freeze, image_barycentre, path_counterfactual, wine_process
from tendsto.problems.network_surrogates import _apply, _digit_classifier, _digits, _shortest_path

RNG = np.random.default_rng(0)
WEIGHTS = [RNG.standard_normal((5, 7)), RNG.standard_normal(7), RNG.standard_normal((7, 3)), RNG.standard_normal(3)]
X = RNG.standard_normal(5)


def in_jax(x):
    return jnp.tanh(x @ WEIGHTS[0] + WEIGHTS[1]) @ WEIGHTS[2] + WEIGHTS[3]


def in_torch(*extra):
    module = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), *extra, torch.nn.Linear(7, 3)).double()
    with torch.no_grad():
        for layer, (weights, bias) in ((module[0], WEIGHTS[:2]), (module[-1], WEIGHTS[2:])):
            layer.weight.copy_(torch.tensor(weights.T))
            layer.bias.copy_(torch.tensor(bias))
    return module


def objective(y):
    return -jnp.sum((y - 0.5) ** 2)


def limits(y):
    return jnp.stack([y[0] - 0.1, -y[1] - 4.0])


def input_limits(x):
    return jnp.abs(x) - 0.8


def direct(x):
    """The penalised objective, written out."""
    y = in_jax(x)
    return objective(y) - jnp.sum(jnp.maximum(limits(y), 0) ** 2) - jnp.sum(jnp.maximum(input_limits(x), 0) ** 2)


@pytest.mark.parametrize("network", [in_jax, in_torch()], ids=["jax", "torch"])
def test_outputs_and_products(network):
    frozen = freeze(network)
    np.testing.assert_allclose(frozen(X), in_jax(X), rtol=1e-12)
    direction = np.array([1.0, -2.0, 0.5])
    expected = jax.jacobian(in_jax)(X).T @ direction
    np.testing.assert_allclose(frozen.pullback(X, direction), expected, rtol=1e-10)
    assert (frozen.evaluations, frozen.gradients) == (2, 1)
    assert freeze(frozen) is frozen


@pytest.mark.parametrize("network", [in_jax, in_torch()], ids=["jax", "torch"])
@pytest.mark.parametrize("constraints", [None, limits])
@pytest.mark.parametrize("inputs", [None, input_limits])
def test_values_and_gradients_of_the_penalised_problem(network, constraints, inputs):
    problem = NetworkProblem(objective, network, constraints, inputs)

    def whole(x):
        y = in_jax(x)
        violated = [jnp.maximum(limits(y), 0)] if constraints else []
        violated += [jnp.maximum(input_limits(x), 0)] if inputs else []
        return objective(y) - sum(jnp.sum(each**2) for each in violated)

    for x in (X, 0.1 * X, -3.0 * X):
        assert problem(x) == pytest.approx(-float(whole(x)), rel=1e-12)
        np.testing.assert_allclose(problem.outputs, in_jax(x), rtol=1e-12)
        direction = problem.direction(problem.outputs, x)
        gradient = problem.penalised.pullback(x, direction)
        np.testing.assert_allclose(gradient, jax.grad(whole)(jnp.asarray(x)), rtol=1e-9, atol=1e-12)
        assert direction.size == problem.penalised(x).size
    assert (problem.penalised.evaluations, problem.penalised.gradients) == (9, 3)


def test_violation_is_the_largest_one():
    problem = NetworkProblem(objective, in_jax, limits, input_limits)
    problem(X)
    expected = max(0.0, float(limits(in_jax(X)).max()), float(np.abs(X).max() - 0.8))
    assert problem.violation(problem.outputs, X) == pytest.approx(expected)
    assert NetworkProblem(objective, in_jax).violation(in_jax(X), X) == 0.0
    scalar = NetworkProblem(objective, in_jax, lambda y: y[0] * 0 + 2.0)
    assert scalar(X) == pytest.approx(-float(objective(in_jax(X))) + 4.0)


def test_a_module_runs_in_evaluation_mode_and_is_left_as_it_was():
    module = in_torch(torch.nn.Dropout(0.5))
    module[0].eval()
    before = [part.training for part in module.modules()]
    frozen = freeze(module)
    np.testing.assert_array_equal(frozen(X), frozen(X))
    np.testing.assert_allclose(frozen(X), in_jax(X), rtol=1e-12)
    frozen.pullback(X, np.ones(3))
    assert [part.training for part in module.modules()] == before
    assert all(parameter.grad is None for parameter in module.parameters())


def test_single_precision_modules_and_images():
    module = torch.nn.Sequential(torch.nn.Unflatten(0, (1, 4, 4)), torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()).float()
    frozen, x = freeze(module), np.linspace(-1, 1, 16)
    assert frozen(x).shape == (8,)
    assert frozen(x).dtype == frozen.pullback(x, np.ones(8)).dtype == np.float64
    step = 1e-2 * np.eye(16)[5]
    slope = (frozen(x + step) - frozen(x - step)).sum() / 2e-2
    assert frozen.pullback(x, np.ones(8))[5] == pytest.approx(slope, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((objective, 3), "network: expected a JAX function"),
        ((None, in_jax), "objective"),
        ((objective, in_jax, 1.0), "constraints"),
        ((objective, in_jax, None, 1.0), "input_constraints"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(TypeError, match=message):
        NetworkProblem(*arguments)


def test_the_classifier_knows_its_digits_and_the_mixture_has_maximum_zero():
    from sklearn.datasets import load_digits

    predicted = np.argmax(np.asarray(_apply(_digit_classifier(), _digits())), axis=1)
    assert (predicted == load_digits().target).mean() > 0.97
    problem, start = image_barycentre(images=20, seed=3)
    assert problem(start) > 0.1
    corner = np.full(20, -10.0)
    corner[0] = 10.0
    assert 0.0 <= problem(corner) < 1e-6
    assert problem(1.1 * corner) == pytest.approx(20.0, rel=1e-6)  # every coordinate is 1 outside the bounds


def test_the_counterfactual_starts_with_a_short_path_that_costs_less_than_the_other():
    problem, start = path_counterfactual(seed=0)
    value = problem(start)
    assert start.shape == (16,)
    assert value > 1.0
    outputs = np.asarray(problem.outputs)
    assert outputs.shape == (16 + 64,)
    np.testing.assert_allclose(outputs[:16], start)
    assert (outputs[16:] > 0).all()


def test_shortest_paths_against_enumeration():
    costs = np.ones((8, 8))
    costs[:, 3] = 50.0
    costs[6, 3] = 0.5
    path = _shortest_path(costs.ravel()).reshape(8, 8)
    assert path[0, 0] == path[7, 7] == path[6, 3] == 1
    assert path.sum() == 15
    assert (path * costs).sum() == pytest.approx(14.5)


def test_the_process_predicts_its_wines_and_has_walls():
    problem, start = wine_process(seed=0)
    assert start.shape == (2,)
    assert np.abs(start).max() <= 1.0
    problem(np.zeros(2))
    np.testing.assert_allclose(problem.outputs, 1.0, atol=0.35)  # the mean wine, in units of the means
    assert problem(np.array([2.5, 0.0])) > 2e5
    again, _ = wine_process(seed=0)
    assert again(np.zeros(2)) == problem(np.zeros(2))
