"""Inclusions: operators, sampling, resolvents, constants and certificates against closed forms and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
import scipy.stats

import tendsto as tt
from tendsto.problems import (
    L1,
    Blocks,
    Box,
    ConstrainedQuadratic,
    GradientField,
    LeastSquares,
    LogisticRegression,
    MatrixGame,
    Operator,
    OperatorSum,
    ProximalSubproblem,
    Simplex,
    audit,
    saddle_operator,
)

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((12, 3)) * np.linspace(0.5, 2.0, 12)[:, None]
TARGETS = RNG.standard_normal(12)
GAME = MatrixGame(RNG.standard_normal((4, 6)))
ROOT = RNG.standard_normal((4, 4))
QUADRATIC = ConstrainedQuadratic(
    ROOT @ ROOT.T, RNG.standard_normal(4), RNG.standard_normal((3, 4)), RNG.standard_normal(3)
)


def residual_of_row(x, row):
    features, target = row
    return (features @ x - target) * features


SUM = OperatorSum(residual_of_row, (FEATURES, TARGETS), weights=np.arange(1.0, 13.0))
FINITE_SUMS = {
    "uniform": (GradientField(LeastSquares(FEATURES, TARGETS)), jnp.ones(3)),
    "importance": (GradientField(LogisticRegression(FEATURES, TARGETS > 0), "importance"), jnp.ones(3)),
    "sum": (SUM, jnp.ones(3)),
    "game": (GAME, (jnp.arange(4.0), jnp.arange(6.0))),
    "quadratic": (QUADRATIC, (jnp.arange(4.0), jnp.arange(3.0))),
}


@pytest.fixture(params=FINITE_SUMS)
def case(request):
    return FINITE_SUMS[request.param]


def flat(x):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(x)])


def exhaustive(problem):
    """Every index of a finite sum with its probability."""
    if isinstance(problem, MatrixGame):
        rows, columns = (np.asarray(side.probabilities) for side in (problem.rows, problem.columns))
        pairs = np.indices((rows.size, columns.size)).reshape(2, -1)
        return (jnp.asarray(pairs[0]), jnp.asarray(pairs[1])), rows[pairs[0]] * columns[pairs[1]]
    return jnp.arange(problem.components), np.asarray(problem.sampling.probabilities)


def test_scaled_components_are_unbiased(case):
    problem, x = case
    indices, weights = exhaustive(problem)
    mean = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), problem.scaled_components(x, indices))
    np.testing.assert_allclose(flat(mean), flat(problem.operator(x)), rtol=1e-10, atol=1e-12)
    assert weights.sum() == pytest.approx(1.0)


def test_indices_are_drawn_with_their_probabilities(case):
    problem, _ = case
    draws = problem.sample(jax.random.key(1), 20_000)
    if isinstance(problem, MatrixGame):
        pairs = zip(draws, (problem.rows.probabilities, problem.columns.probabilities), strict=True)
    else:
        pairs = [(draws, problem.sampling.probabilities)]
    for drawn, probabilities in pairs:
        counts = np.bincount(np.asarray(drawn), minlength=probabilities.size)
        assert scipy.stats.chisquare(counts, 20_000 * np.asarray(probabilities)).pvalue > 1e-3


def test_average_constants_bound_every_pair(case):
    problem, x = case
    indices, weights = exhaustive(problem)
    for seed in range(20):
        y = optax.tree_utils.tree_random_like(jax.random.key(seed), x)
        change = optax.tree_utils.tree_sub(problem.scaled_components(x, indices), problem.scaled_components(y, indices))
        spread = sum(weights @ np.sum(np.asarray(leaf) ** 2, axis=1) for leaf in jax.tree.leaves(change))
        distance = np.linalg.norm(flat(x) - flat(y))
        growth = flat(problem.operator(x)) - flat(problem.operator(y))
        if problem.lipschitz is not None:
            assert np.linalg.norm(growth) <= float(problem.lipschitz) * distance * (1 + 1e-9)
        if problem.average_lipschitz is not None:
            assert np.sqrt(spread) <= float(problem.average_lipschitz) * distance * (1 + 1e-9)
        if problem.average_cocoercivity is not None:
            inner = growth @ (flat(x) - flat(y))
            assert inner >= float(problem.average_cocoercivity) * spread * (1 - 1e-9)


def test_importance_sampling_pays_the_mean_of_the_component_constants():
    problem = LeastSquares(FEATURES, TARGETS)
    squares = (FEATURES**2).sum(axis=1)
    assert 1 / GradientField(problem).average_cocoercivity == pytest.approx(squares.max())
    importance = GradientField(problem, "importance")
    assert 1 / importance.average_cocoercivity == pytest.approx(squares.mean())
    assert float(importance.average_lipschitz) == pytest.approx(squares.mean())


def test_average_lipschitz_constants_are_attained():
    # For a game every difference attains it; for the quadratic, the leading eigenvector of its form.
    indices, weights = exhaustive(GAME)
    u, v = (jnp.arange(4.0), jnp.ones(6)), (jnp.ones(4), jnp.arange(6.0) ** 2)
    change = optax.tree_utils.tree_sub(GAME.scaled_components(u, indices), GAME.scaled_components(v, indices))
    spread = sum(weights @ np.sum(np.asarray(leaf) ** 2, axis=1) for leaf in change)
    assert np.sqrt(spread) == pytest.approx(np.linalg.norm(GAME.payoff) * np.linalg.norm(flat(u) - flat(v)))

    indices, weights = exhaustive(QUADRATIC)

    def spread_of(flat_point):
        point, zero = (flat_point[:4], flat_point[4:]), (jnp.zeros(4), jnp.zeros(3))
        change = optax.tree_utils.tree_sub(
            QUADRATIC.scaled_components(point, indices), QUADRATIC.scaled_components(zero, indices)
        )
        return sum(jnp.asarray(weights) @ jnp.sum(leaf**2, axis=1) for leaf in change)

    form = jax.hessian(spread_of)(jnp.zeros(7)) / 2
    assert np.sqrt(np.linalg.eigvalsh(form)[-1]) == pytest.approx(float(QUADRATIC.average_lipschitz))


def test_the_sum_over_data_is_the_gradient_of_least_squares():
    field = GradientField(LeastSquares(FEATURES, TARGETS))
    np.testing.assert_allclose(SUM.operator(jnp.ones(3)), field.operator(jnp.ones(3)), rtol=1e-12)


def test_game_is_solved_by_linear_programming_and_its_gap_is_zero_there():
    x, y, value = GAME.equilibrium()
    payoff = np.asarray(GAME.payoff)
    np.testing.assert_allclose(x @ payoff @ y, value, atol=1e-9)
    assert float(GAME.duality_gap((x, y))) == pytest.approx(0.0, abs=1e-9)
    assert float(GAME.stationarity((x, y))) == pytest.approx(0.0, abs=1e-9)
    # A saddle: no pure deviation helps either player.
    assert (payoff @ y >= value - 1e-9).all()
    assert (x @ payoff <= value + 1e-9).all()
    assert float(GAME.duality_gap(GAME.uniform)) > 0.01


def test_constrained_quadratic_solution_is_that_of_scipy():
    primal, dual = QUADRATIC.solution((jnp.zeros(4), jnp.zeros(3)))
    peer = scipy.optimize.minimize(
        lambda x: 0.5 * x @ QUADRATIC.quadratic @ x - QUADRATIC.linear @ x,
        np.zeros(4),
        constraints={"type": "eq", "fun": lambda x: QUADRATIC.constraints @ x - QUADRATIC.targets},
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(primal, peer.x, atol=1e-5)
    assert float(QUADRATIC.residual((primal, dual))) < 1e-10
    u = (jnp.arange(4.0), -jnp.ones(3))
    exact = QUADRATIC.exact_resolvent(u, 0.7)
    back = optax.tree_utils.tree_add_scale(exact, 0.7, QUADRATIC.operator(exact))
    np.testing.assert_allclose(flat(back), flat(u), atol=1e-12)


def test_saddle_operator_is_that_of_the_game():
    problem = Operator(saddle_operator(lambda x, y: x @ GAME.payoff @ y), Blocks((Simplex(), Simplex())))
    np.testing.assert_allclose(flat(problem.operator(GAME.uniform)), flat(GAME.operator(GAME.uniform)), atol=1e-14)


@pytest.mark.parametrize("regulariser", [Box(-0.2, 0.2), L1(0.3)])
def test_a_certificate_proves_itself(regulariser):
    field = GradientField(LeastSquares(FEATURES, TARGETS, regulariser=regulariser))
    x, element, residual = field.certificate(jnp.asarray([0.1, 5.0, -0.1]))
    # g is in G(x) if and only if x is the resolvent of x + g.
    np.testing.assert_allclose(field.resolvent(x + element, 1.0), x, atol=1e-12)
    assert float(residual) == pytest.approx(float(jnp.linalg.norm(field.operator(x) + element)))
    assert float(field.stationarity(x)) <= float(residual)
    assert float(field.residual(jnp.asarray([0.1, 5.0, -0.1]))) == float(residual)


def test_without_a_regulariser_the_residual_is_the_norm_of_the_operator():
    field = GradientField(LeastSquares(FEATURES, TARGETS))
    x = jnp.ones(3)
    assert float(field.residual(x)) == pytest.approx(float(jnp.linalg.norm(field.operator(x))))


def test_the_subproblem_is_solved_by_the_exact_resolvent():
    u = (jnp.arange(4.0), jnp.ones(3))
    subproblem = ProximalSubproblem(QUADRATIC, u, 0.7)
    solution = QUADRATIC.exact_resolvent(u, 0.7)
    # A solution is a fixed point of every forward-backward step.
    for step_size in (0.01, 2.0):
        np.testing.assert_allclose(flat(subproblem.forward_backward(solution, step_size)), flat(solution), atol=1e-12)
    assert float(subproblem.residual(solution)) < 1e-10
    assert float(subproblem.average_lipschitz) == pytest.approx(0.7 * float(QUADRATIC.average_lipschitz))
    # With a constraint, the resolvent answers z - v + tau (z - u + eta g) = 0 for some g in the normal cone at z.
    game = ProximalSubproblem(GAME, GAME.uniform, 3.0)
    v = (jnp.arange(4.0), -jnp.arange(6.0))
    z = game.resolvent(v, 0.5)
    normal = [(b - a - 0.5 * (a - c)) / 1.5 for a, b, c in zip(z, v, GAME.uniform, strict=True)]
    for point, direction in zip(z, normal, strict=True):
        assert float(jnp.max(direction) - direction @ point) == pytest.approx(0.0, abs=1e-10)


def test_the_subproblem_shrinks_by_its_own_step_size():
    # For h = 0.3 ||.||_1 and A = I - u + eta G: minimise 0.3 tau eta |z| + (z - v)^2 / 2 + tau (z - u)^2 / 2 by hand.
    field = GradientField(LeastSquares(FEATURES, TARGETS, regulariser=L1(0.3)))
    u, v, eta, tau = np.array([1.0, -2.0, 0.1]), np.array([3.0, 0.5, -0.2]), 2.0, 0.5
    mean, threshold = (v + tau * u) / (1 + tau), 0.3 * tau * eta / (1 + tau)
    expected = np.sign(mean) * np.maximum(np.abs(mean) - threshold, 0.0)
    np.testing.assert_allclose(ProximalSubproblem(field, jnp.asarray(u), eta).resolvent(jnp.asarray(v), tau), expected)


def test_audit_finds_what_is_not_monotone():
    found = audit(GAME, GAME.uniform)
    assert found.monotonicity == pytest.approx(0.0, abs=1e-10)
    assert found.lipschitz <= float(GAME.lipschitz)
    assert found.average_lipschitz == pytest.approx(float(GAME.average_lipschitz), rel=0.3)
    field = GradientField(LeastSquares(FEATURES, TARGETS))
    assert audit(field, jnp.zeros(3)).cocoercivity >= float(field.cocoercivity) * (1 - 1e-9)
    bumpy = Operator(saddle_operator(lambda x, y: -jnp.sum(x**2) + jnp.sum(x * y)))
    verdict = audit(bumpy, (jnp.zeros(2), jnp.zeros(2)))
    assert verdict.monotonicity < 0
    assert verdict.average_lipschitz is None


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: MatrixGame([[1.0, np.nan]]), ValueError, "payoff: must be finite"),
        (lambda: MatrixGame(np.zeros((2, 2))), ValueError, "weights: must not all be zero"),
        (lambda: MatrixGame([1.0, 2.0]), ValueError, "payoff: expected 2 dimension"),
        (lambda: Operator(jnp.sin, lipschitz=-1.0), ValueError, "lipschitz: must lie in"),
        (lambda: OperatorSum(residual_of_row, (FEATURES, TARGETS[:5])), ValueError, "data: every array"),
        (lambda: OperatorSum(residual_of_row, (FEATURES, TARGETS), weights=[1.0]), ValueError, "weights: expected one"),
        (lambda: OperatorSum(residual_of_row, FEATURES, weights=-np.ones(12)), ValueError, "weights: must lie"),
        (lambda: ConstrainedQuadratic(-np.eye(2), [0, 0], [[1, 0]], [0]), ValueError, "positive semidefinite"),
        (lambda: ConstrainedQuadratic([[1, 2], [0, 1]], [0, 0], [[1, 0]], [0]), ValueError, "symmetric"),
        (lambda: ConstrainedQuadratic(np.eye(2), [0, 0, 0], [[1, 0]], [0]), ValueError, "linear: expected shape"),
        (lambda: ConstrainedQuadratic(np.eye(2), [0, 0], [[0, 0]], [0]), ValueError, "constraints: row 0 is zero"),
        (lambda: audit(GAME, GAME.uniform, pairs=0), ValueError, "pairs: must lie"),
        (lambda: Operator(jnp.sin, Box(0.0, 1.0)).certificate(jnp.ones(2)), ValueError, "does not know its lipschitz"),
        (lambda: tt.optimize.Halpern.theory(Operator(jnp.sin)), ValueError, "does not know its cocoercivity"),
    ],
)
def test_bad_input_is_named(build, error, message):
    with pytest.raises(error, match=message):
        build()
