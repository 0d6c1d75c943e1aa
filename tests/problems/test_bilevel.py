"""Bilevel problems against closed forms, finite differences and dense solves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

import tendsto as tt
from tendsto.optimize import NormalisedBilevel
from tendsto.problems import BilevelObjective, CoshBilevel

TOY = CoshBilevel.random(jax.random.key(0), 4, sigma=0.5)
X = jnp.array([0.3, -1.2, 2.0, 0.7])


def net_upper(x, y, batch):
    inputs, targets = batch
    hidden = jnp.tanh(inputs @ x["weight"] + x["bias"])
    return jnp.mean((hidden @ y[0] + y[1] - targets) ** 2)


def net_lower(x, y, batch):
    return net_upper(x, y, batch) + 0.05 * (jnp.sum(y[0] ** 2) + jnp.sum(y[1] ** 2)) + 0.01 * jnp.sum(jnp.cosh(y[0]))


def network(batch_size=None):
    keys = jax.random.split(jax.random.key(5), 6)
    data = [(jax.random.normal(keys[i], (30, 3)), jax.random.normal(keys[i + 2], (30, 2))) for i in (0, 1)]
    start = (jnp.zeros((4, 2)), jnp.zeros(2))
    problem = BilevelObjective(
        net_upper, net_lower, lower_start=start, upper_data=data[0], lower_data=data[1], batch_size=batch_size
    )
    return problem, {"weight": jax.random.normal(keys[4], (3, 4)), "bias": jax.random.normal(keys[5], (4,))}


def test_toy_has_its_closed_form_through_numerical_solves():
    generic = BilevelObjective(
        lambda x, y, batch: TOY.upper(x, y, TOY.upper_batch()),
        lambda x, y, batch: TOY.lower(x, y, TOY.lower_batch()),
        lower_start=jnp.zeros(4),
    )
    B, H = np.asarray(TOY.mixing), np.asarray(TOY.hessian)
    expected = np.sinh(X) + B.T @ np.tanh(B @ X)
    np.testing.assert_allclose(generic.lower_solution(X), B @ X, atol=1e-13)
    np.testing.assert_allclose(generic.hypergradient(X), expected, rtol=1e-12)
    np.testing.assert_allclose(TOY.hypergradient(X), expected, rtol=1e-14)
    np.testing.assert_allclose(TOY.linear_solution(X, B @ X), np.linalg.solve(H, np.tanh(B @ X)), rtol=1e-12)
    assert float(TOY.objective(X)) == pytest.approx(np.sum(np.cosh(X) - 1) + np.sum(np.log(np.cosh(B @ X))))
    v = np.arange(1.0, 5.0)
    np.testing.assert_allclose(TOY.hessian_product(X, X, jnp.asarray(v)), H @ v, rtol=1e-12)
    np.testing.assert_allclose(TOY.cross_product(X, X, jnp.asarray(v)), -B.T @ H @ v, rtol=1e-12)


def test_network_hypergradient_is_the_difference_quotient_of_a_scipy_solve():
    problem, x = network()
    flat, unravel = ravel_pytree(x)
    start, unravel_y = ravel_pytree(problem.lower_start)

    def lower(point, y):
        return problem.lower(unravel(point), unravel_y(y), problem.lower_data)

    slope, curvature = jax.jit(jax.grad(lower, argnums=1)), jax.jit(jax.hessian(lower, argnums=1))

    def value(point):
        found = scipy.optimize.root(
            lambda y: slope(jnp.asarray(point), y), start, jac=lambda y: curvature(jnp.asarray(point), y), tol=1e-14
        )
        return float(problem.upper(unravel(point), unravel_y(jnp.asarray(found.x)), problem.upper_data))

    gradient = ravel_pytree(problem.hypergradient(x))[0]
    for i in (0, 7, 14):
        step = np.zeros(flat.size)
        step[i] = 1e-4
        quotient = (value(flat + step) - value(flat - step)) / 2e-4
        assert float(gradient[i]) == pytest.approx(quotient, rel=1e-5, abs=1e-8)


def test_products_are_those_of_dense_derivatives():
    problem, x = network()
    y = jax.tree.map(lambda leaf: leaf + 0.3, problem.lower_start)
    v = jax.tree.map(lambda leaf: jnp.arange(leaf.size, dtype=float).reshape(leaf.shape) / 7, y)
    (flat_x, unravel_x), (flat_y, unravel_y) = ravel_pytree(x), ravel_pytree(y)
    flat_v = ravel_pytree(v)[0]

    def lower(a, b):
        return problem.lower(unravel_x(a), unravel_y(b), problem.lower_data)

    dense = jax.hessian(lower, argnums=(0, 1))(flat_x, flat_y)
    np.testing.assert_allclose(ravel_pytree(problem.hessian_product(x, y, v))[0], dense[1][1] @ flat_v, rtol=1e-10)
    np.testing.assert_allclose(ravel_pytree(problem.cross_product(x, y, v))[0], dense[0][1] @ flat_v, rtol=1e-10)
    right = ravel_pytree(problem.upper_gradient_y(x, y))[0]
    solution = ravel_pytree(problem.linear_solution(x, y))[0]
    np.testing.assert_allclose(solution, np.linalg.solve(dense[1][1], right), rtol=1e-9)


@pytest.mark.parametrize("oracle", ["upper_gradient_x", "upper_gradient_y", "lower_gradient"])
def test_stochastic_oracles_are_unbiased_with_the_stated_deviation(oracle):
    keys = jax.random.split(jax.random.key(1), 20_000)
    y = jnp.array([0.2, 0.4, -1.0, 1.5])
    draws = jax.vmap(lambda key: getattr(TOY, oracle)(X, y, key))(keys)
    exact = getattr(TOY, oracle)(X, y)
    np.testing.assert_allclose(draws.mean(axis=0), exact, atol=0.015)
    spread = float(jnp.sqrt(jnp.mean(jnp.sum((draws - exact) ** 2, axis=1))))
    expected = 0.5
    if oracle == "lower_gradient":
        expected *= np.sqrt(1 + np.mean(np.cos(y) ** 2) * np.mean(np.sin(X)) ** 2)
    assert spread == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("product", ["hessian_product", "cross_product"])
def test_stochastic_products_are_unbiased_and_noisy(product):
    keys = jax.random.split(jax.random.key(2), 20_000)
    v = jnp.ones(4)
    draws = jax.vmap(lambda key: getattr(TOY, product)(X, X, v, key))(keys)
    np.testing.assert_allclose(draws.mean(axis=0), getattr(TOY, product)(X, X, v), atol=0.02)
    assert 0.01 < float(draws.std(axis=0).max()) <= 0.5


def test_minibatches_average_to_the_whole():
    problem, x = network(batch_size=4)
    keys = jax.random.split(jax.random.key(3), 5_000)
    draws = jax.vmap(lambda key: problem.lower_gradient(x, problem.lower_start, key)[1])(keys)
    exact = problem.lower_gradient(x, problem.lower_start)[1]
    np.testing.assert_allclose(draws.mean(axis=0), exact, atol=0.04)
    assert draws.std(axis=0).min() > 0.1


def test_relaxed_smoothness_holds_between_random_pairs():
    constant, slope = TOY.relaxed_smoothness
    keys = jax.random.split(jax.random.key(4), 2000)

    def ratio(key):
        a, b = jax.random.split(key)
        x = 5 * jax.random.normal(a, (4,))
        step = jax.random.normal(b, (4,))
        step = step / jnp.linalg.norm(step)
        change = jnp.linalg.norm(TOY.hypergradient(x + step) - TOY.hypergradient(x))
        return change / (constant + slope * jnp.linalg.norm(TOY.hypergradient(x)))

    ratios = jax.vmap(ratio)(keys)
    assert 0.5 < ratios.max() <= 1.0


def test_constants_of_the_toy_are_those_of_its_matrices():
    values = np.linalg.eigvalsh(TOY.hessian)
    np.testing.assert_allclose([TOY.lower_strong_convexity, TOY.lower_smoothness], [values[0], values[-1]])
    np.testing.assert_allclose(values, np.linspace(1, 4, 4), rtol=1e-10)
    assert float(TOY.cross_bound) == pytest.approx(np.linalg.svd(TOY.mixing.T @ TOY.hessian)[1][0])
    assert float(jnp.linalg.norm(TOY.mixing)) == pytest.approx(2.0)


def test_an_indefinite_lower_level_is_reported_as_nan():
    saddle = BilevelObjective(
        lambda x, y, b: jnp.sum(x * y), lambda x, y, b: -jnp.sum((y - x) ** 4) + y[0], lower_start=jnp.ones(2)
    )
    assert not np.isfinite(saddle.stationarity(jnp.array([0.5, 2.0])))


def test_batched_solves_end_at_rounding_level():
    # A quadratic is solved by one Newton step; what the second one sees is rounding alone.
    data = jax.random.normal(jax.random.key(11), (6, 3))
    quadratic = BilevelObjective(
        lambda x, y, b: jnp.sum(y),
        lambda x, y, b: 0.5 * jnp.mean(jnp.sum((y - data * x) ** 2 * (1 + data**2), axis=1)),
        lower_start=jnp.ones(3),
    )
    points = 2 * jax.random.normal(jax.random.key(12), (500, 3))
    weights = (1 + data**2).mean(axis=0)
    expected = ((1 + data**2) * data).mean(axis=0) / weights * points
    found = jax.jit(jax.vmap(lambda x: quadratic.lower_solution(x)))(points)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_lower_solution_from_a_hard_start_and_in_single_precision():
    # Newton's full steps diverge on this function; halved ones do not.
    hard = BilevelObjective(
        lambda x, y, b: jnp.sum(y**2),
        lambda x, y, b: jnp.sum(jnp.sqrt(1 + (y - x) ** 2)),
        lower_start=jnp.full(2, 50.0),
    )
    np.testing.assert_allclose(hard.lower_solution(jnp.ones(2)), 1.0, atol=1e-12)
    small = BilevelObjective(
        lambda x, y, b: jnp.sum(y**2), lambda x, y, b: jnp.sum(jnp.cosh(y - x)), lower_start=jnp.zeros(2, jnp.float32)
    )
    solution = small.lower_solution(jnp.ones(2, jnp.float32))
    assert solution.dtype == jnp.float32
    np.testing.assert_allclose(solution, 1.0, atol=1e-5)


def method():
    return NormalisedBilevel(0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: CoshBilevel([[1.0]], [[-1.0]]), ValueError, "hessian: must be symmetric and positive definite"),
        (lambda: CoshBilevel([[1.0, 0.0]], jnp.eye(2)), ValueError, "hessian: expected shape"),
        (lambda: CoshBilevel([[1.0]], [[1.0]], sigma=-1.0), ValueError, "sigma: must lie in"),
        (lambda: CoshBilevel([[np.nan]], [[1.0]]), ValueError, "mixing: must be finite"),
        (
            lambda: BilevelObjective(1, net_lower, lower_start=jnp.zeros(1)),
            TypeError,
            "upper_function",
        ),
        (lambda: network(batch_size=0), ValueError, "batch_size: must lie in"),
        (
            lambda: BilevelObjective(
                net_upper, net_lower, lower_start=jnp.zeros(1), upper_data=(jnp.zeros((3, 1)), jnp.zeros((2, 1)))
            ),
            ValueError,
            "upper_data: all arrays must have the same number of rows",
        ),
        (lambda: tt.run(method(), network()[0], {"weight": jnp.ones((3, 4))}, steps=1), ValueError, "upper: cannot be"),
        (lambda: tt.run(method(), network()[0], jnp.ones(2), steps=1), ValueError, "upper: cannot be evaluated"),
        (lambda: tt.run(method(), TOY, None, steps=1), ValueError, "x0: the upper variable"),
        (lambda: tt.run(method(), TOY, jnp.full(4, jnp.inf), steps=1), ValueError, "x0: must be finite"),
        (
            lambda: tt.run(
                method(), BilevelObjective(lambda x, y, b: x, net_lower, lower_start=jnp.ones(1)), jnp.ones(2), steps=1
            ),
            ValueError,
            "upper: ",
        ),
    ],
)
def test_bad_input_is_named(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_batches_without_data_are_none_and_pytrees_keep_their_structure():
    problem, x = network()
    assert jax.tree.structure(problem.hypergradient(x)) == jax.tree.structure(x)
    assert float(problem.stationarity(x)) == pytest.approx(float(optax.tree.norm(problem.hypergradient(x))))
    assert BilevelObjective(net_upper, net_lower, lower_start=jnp.ones(1)).upper_batch(jax.random.key(0)) is None
