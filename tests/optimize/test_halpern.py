"""Halpern methods against loop-wise transcriptions, closed forms and worst-case analysis."""

import dataclasses
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.iteration.run import init_key, run_key, step_key
from tendsto.optimize import (
    ExtraAnchoredGradient,
    Extragradient,
    Halpern,
    Optax,
    ResolventHalpern,
    VarianceReducedForwardReflectedBackward,
    VarianceReducedHalpern,
    anchored_gradient,
    certified_residual,
    certify,
    page_estimate,
)
from tendsto.problems import L1, Box, ConstrainedQuadratic, GradientField, LeastSquares, MatrixGame, Operator

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((30, 4)) * np.linspace(0.2, 1.5, 30)[:, None]
TARGETS = FEATURES @ np.array([1.0, -2.0, 0.3, 0.0]) + 0.1 * RNG.standard_normal(30)
BOXED = GradientField(LeastSquares(FEATURES, TARGETS, regulariser=Box(-0.5, 0.5)), "importance")
FREE = GradientField(LeastSquares(FEATURES, TARGETS))
GAME = MatrixGame(RNG.standard_normal((5, 7)))
ROOT = RNG.standard_normal((6, 6)) / 3
QUADRATIC = ConstrainedQuadratic(
    ROOT @ ROOT.T, RNG.standard_normal(6), RNG.standard_normal((4, 6)), RNG.standard_normal(4)
)


def full(x):
    return FEATURES.T @ (FEATURES @ x - TARGETS) / len(FEATURES)


def component(x, i):
    return FEATURES[i] * (FEATURES[i] @ x - TARGETS[i])


def states(method, problem, x0, steps, seed=0):
    """Every state, by an ordinary loop over the public `step`, with the keys of `run`."""
    key = run_key(jax.random.key(0), seed)
    state = method.init(problem, x0, init_key(key))
    step = eqx.filter_jit(method.step)
    out = [state]
    for number in range(steps):
        state = step(problem, state, step_key(key, number))
        out.append(state)
    return out


def test_algorithm_1_is_its_pseudo_code():
    method = VarianceReducedHalpern.theory(BOXED)
    squares = (FEATURES**2).sum(axis=1)
    n, probabilities = 30, squares / squares.sum()
    eta, b = 1 / (4 * squares.mean()), math.ceil(math.sqrt(n))
    assert method.step_size == pytest.approx(eta)
    assert method.batch == b
    x0 = np.array([0.4, -0.4, 0.1, 0.0])
    found = states(method, BOXED, jnp.asarray(x0), 40)
    x, estimate, cost, coins = x0.copy(), full(x0), n, []
    for k in range(40):
        weight = 2 / (k + 4)
        v = weight * x0 + (1 - weight) * x - eta * estimate
        previous, x = x, np.clip(v, -0.5, 0.5)
        g = (v - x) / eta
        # The same draws as the method's: the coin of the new estimate has the new index.
        coin_key, batch_key = jax.random.split(step_key(run_key(jax.random.key(0), 0), k))
        p = 4 / (k + 1 + 5) if k + 1 <= math.sqrt(n) else 4 / (math.sqrt(n) + 5)
        coins.append(bool(jax.random.uniform(coin_key) < p))
        if coins[-1]:
            estimate, cost = full(x), cost + n
        else:
            draws = np.asarray(BOXED.sample(batch_key, b))
            change = [(component(x, i) - component(previous, i)) / (n * probabilities[i]) for i in draws]
            estimate, cost = estimate + np.mean(change, axis=0), cost + 2 * b
        np.testing.assert_allclose(found[k + 1].x, x, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found[k + 1].element, g, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found[k + 1].estimate, estimate, rtol=1e-8, atol=1e-10)
        assert float(found[k + 1].cost.gradients) == cost
    assert 5 < sum(coins) < 35


def test_run_over_seeds_is_the_loop_seed_by_seed():
    method = VarianceReducedHalpern.theory(BOXED)
    trace = tt.run(method, BOXED, jnp.zeros(4), steps=25, seeds=3, record={"residual": certified_residual})
    for seed in range(3):
        last = states(method, BOXED, jnp.zeros(4), 25, seed)[-1]
        np.testing.assert_allclose(trace.x[seed], last.x, rtol=1e-10, atol=1e-13)
        assert trace.final("gradients")[seed] == float(last.cost.gradients)
        assert trace.final("residual")[seed] == pytest.approx(float(certified_residual(BOXED, last)), rel=1e-8)


def test_seeds_and_grids_pay_only_for_their_own_coins():
    method = VarianceReducedHalpern.theory(FREE)
    grid = {"step_size": [float(method.step_size), float(method.step_size) / 2]}
    trace = tt.run(method, FREE, jnp.zeros(4), steps=30, seeds=3, record="objective", grid=grid)
    costs = trace.final("gradients")
    assert len(set(costs[0].tolist())) > 1
    np.testing.assert_array_equal(costs[0], costs[1])


def test_the_first_coin_has_the_first_probability():
    trace = tt.run(VarianceReducedHalpern.theory(FREE), FREE, jnp.zeros(4), steps=1, seeds=1_000, record="objective")
    renewed = trace.final("gradients") == 60
    assert abs(renewed.mean() - 4 / 6) < 4 * math.sqrt(2 / 9 / 1_000)


def test_always_renewing_is_the_anchored_gradient_method():
    method = VarianceReducedHalpern(0.05, batch=3, probability=1.0)
    trace = tt.run(method, FREE, jnp.ones(4), steps=50, record="objective")
    plain = tt.run(Optax(anchored_gradient(0.05)), FREE.problem, jnp.ones(4), steps=50, record="objective")
    np.testing.assert_allclose(trace.x, plain.x, rtol=1e-13, atol=1e-15)
    assert trace.final("gradients") == 30 * 51


def test_exact_operators_make_the_potential_fall():
    # C_k = eta / (2 lambda_{k-1}) ||r_k||^2 + <r_k, x_k - x_0> has C_{k+1} <= (1 - lambda_k) C_k for eta <= beta.
    method = VarianceReducedHalpern(float(BOXED.cocoercivity), batch=1, probability=1.0)
    found = states(method, BOXED, jnp.asarray([0.5, 0.5, -0.5, 0.2]), 200)
    eta, x0 = float(method.step_size), found[0].x
    potentials = []
    for k, state in enumerate(found[1:], start=1):
        r = BOXED.operator(state.x) + state.element
        potentials.append(float(eta * (k + 3) / 4 * r @ r + r @ (state.x - x0)))
    assert potentials[0] <= 1e-12
    for k, (now, after) in enumerate(itertools.pairwise(potentials), start=1):
        assert after <= (1 - 2 / (k + 4)) * now + 1e-12


def test_the_estimator_follows_or_renews():
    x, previous, estimate = jnp.ones(4), jnp.zeros(4), jnp.full(4, 7.0)
    renewed = page_estimate(FREE, x, previous, estimate, 1.0, jax.random.key(0), batch=2)
    np.testing.assert_array_equal(renewed.value, FREE.operator(x))
    assert float(renewed.cost) == 30
    followed = page_estimate(FREE, x, previous, estimate, 0.0, jax.random.key(0), batch=50_000)
    np.testing.assert_allclose(followed.value, estimate + full(np.ones(4)) - full(np.zeros(4)), atol=0.05)
    assert float(followed.cost) == 100_000


def test_expected_cost_is_the_sum_of_the_schedule():
    method = VarianceReducedHalpern.theory(FREE)
    expected = 30 + sum(p * 30 + 2 * (1 - p) * 6 for p in (4 / (min(k, math.sqrt(30)) + 5) for k in range(1, 21)))
    assert method.expected_cost(FREE, 20) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_halpern_attains_the_worst_case_that_pepit_certifies(steps):
    from PEPit import PEP
    from PEPit.operators import LipschitzOperator

    analysis = PEP()
    T = analysis.declare_function(LipschitzOperator, L=1.0)
    solution, _, _ = T.fixed_point()
    start = analysis.set_initial_point()
    analysis.set_initial_condition((start - solution) ** 2 <= 1)
    x = start
    for k in range(steps):
        x = start / (k + 2) + (1 - 1 / (k + 2)) * T.gradient(x)
    analysis.set_performance_metric((x - T.gradient(x)) ** 2)
    worst = math.sqrt(analysis.solve(verbose=0))
    # The clipped slope is 1/2-cocoercive, and its forward step is the nonexpansive map that is hardest for Halpern.
    cap = 2 / (steps + 1)
    problem = Operator(lambda x: jnp.clip(2 * x, -cap, cap), cocoercivity=0.5)
    method = Halpern.theory(problem)
    last = states(method, problem, jnp.ones(1), steps)[-1].x
    assert float(last[0]) == pytest.approx(1 / (steps + 1), rel=1e-12)
    measured = float(jnp.abs(last - problem.forward_backward(last, method.step_size))[0])
    assert measured == pytest.approx(2 / (steps + 1), rel=1e-12)
    assert worst == pytest.approx(measured, rel=1e-3)


def test_extragradient_and_eag_are_their_pseudo_code():
    matrix = np.asarray(GAME.payoff)
    x0 = GAME.uniform

    def operator(z):
        return np.concatenate([matrix @ z[5:], -matrix.T @ z[:5]])

    def project(v):
        blocks = []
        for block in (v[:5], v[5:]):
            ordered = np.sort(block)[::-1]
            shifts = (np.cumsum(ordered) - 1) / np.arange(1, block.size + 1)
            blocks.append(np.maximum(block - shifts[np.sum(ordered > shifts) - 1], 0))
        return np.concatenate(blocks)

    start = np.concatenate([np.asarray(each) for each in x0])
    eta = 0.1
    plain, anchored = start.copy(), start.copy()
    for k in range(15):
        ahead = project(plain - eta * operator(plain))
        plain = project(plain - eta * operator(ahead))
        base = anchored + (start - anchored) / (k + 2)
        ahead = project(base - eta * operator(anchored))
        anchored = project(base - eta * operator(ahead))
    for method, expected in ((Extragradient(eta), plain), (ExtraAnchoredGradient(eta), anchored)):
        last = states(method, GAME, x0, 15)[-1]
        np.testing.assert_allclose(np.concatenate(last.x), expected, atol=1e-12)
        assert float(last.cost.gradients) == 2 * 7 * 15
        certificate = certify(GAME, last)
        back = GAME.resolvent(optax.tree_utils.tree_add(certificate.x, certificate.element), 1.0)
        np.testing.assert_allclose(np.concatenate(back), expected, atol=1e-12)


def test_eag_falls_like_one_over_k_where_gradient_descent_diverges():
    rotation = Operator(lambda z: jnp.stack([z[1], -z[0]]), lipschitz=1.0)
    trace = tt.run(ExtraAnchoredGradient.theory(rotation), rotation, jnp.ones(2), steps=2_000, record=["residual"])
    assert trace.rate("residual").value == pytest.approx(-1.0, abs=0.05)
    last = tt.run(Extragradient.theory(rotation), rotation, jnp.ones(2), steps=100, record=["residual"])
    assert last.final("residual") < 1e-6


def test_algorithm_3_is_its_pseudo_code():
    n, tau, p = 4, 0.02, 0.4
    method = VarianceReducedForwardReflectedBackward(tau, p)
    x0 = (jnp.ones(6), jnp.ones(4))
    found = states(method, QUADRATIC, x0, 30)

    def flat(z):
        return np.concatenate([np.asarray(each) for each in z])

    def operator(z):
        return flat(QUADRATIC.operator((jnp.asarray(z[:6]), jnp.asarray(z[6:]))))

    def sampled(z, index):
        H, h, A, b = (
            np.asarray(each)
            for each in (QUADRATIC.quadratic, QUADRATIC.linear, QUADRATIC.constraints, QUADRATIC.targets)
        )
        q = (A[index] @ A[index]) / (A**2).sum()
        lower = np.zeros(n)
        lower[index] = (A[index] @ z[:6] - b[index]) / q
        return np.concatenate([H @ z[:6] - h - A[index] * z[6 + index] / q, lower])

    z = w = w_before = flat(x0)
    cost = n
    for t in range(30):
        index_key, coin_key = jax.random.split(step_key(run_key(jax.random.key(0), 0), t))
        index = int(QUADRATIC.sample(index_key, 1)[0])
        mean = (1 - p) * z + p * w
        z = mean - tau * (operator(w) + sampled(z, index) - sampled(w_before, index))
        w_before = w
        cost += 2
        if bool(jax.random.uniform(coin_key) < p):
            w, cost = z, cost + n
        np.testing.assert_allclose(flat(found[t + 1].x), z, rtol=1e-9, atol=1e-11)
        assert float(found[t + 1].cost.gradients) == cost


def test_algorithm_2_with_exact_inner_solves_is_halpern_on_the_resolvent():
    method = dataclasses.replace(ResolventHalpern.theory(QUADRATIC), inner_factor=120.0)
    eta = math.sqrt(4) / float(QUADRATIC.average_lipschitz)
    assert method.step_size == pytest.approx(eta)
    x0 = (jnp.ones(6), jnp.ones(4))
    found = states(method, QUADRATIC, x0, 6)
    start = u = np.concatenate([np.asarray(each) for each in x0])
    for k in range(6):
        x = np.concatenate(QUADRATIC.exact_resolvent((jnp.asarray(u[:6]), jnp.asarray(u[6:])), eta))
        np.testing.assert_allclose(np.concatenate(found[k + 1].centre), u, atol=1e-8)
        np.testing.assert_allclose(np.concatenate(found[k + 1].x), x, atol=1e-8)
        # G = 0, so the certificate must be made of zeros, up to the accuracy of the inner solve.
        np.testing.assert_allclose(np.concatenate(found[k + 1].element), 0.0, atol=1e-6)
        u = start / (k + 2) + (1 - 1 / (k + 2)) * x


def test_algorithm_2_counts_every_inner_component():
    method = ResolventHalpern.theory(QUADRATIC)
    inner = [math.ceil(24 * 4 * math.log(1.252 * (k + 2))) for k in range(3)]
    assert [int(method.inner_steps(QUADRATIC, jnp.asarray(k))) for k in range(3)] == inner
    trace = tt.run(method, QUADRATIC, (jnp.zeros(6), jnp.zeros(4)), steps=3, seeds=40, record=["residual"])
    spent, steps = trace.final("gradients"), sum(inner)
    # n for each first snapshot, two a step, and n at each of a binomial number of renewals.
    renewals = (spent - 3 * 4 - 2 * steps) / 4
    assert (renewals == np.rint(renewals)).all()
    error = math.sqrt(steps * 0.25 * 0.75 / 40)
    assert abs(renewals.mean() - steps / 4) < 4 * error
    np.testing.assert_array_equal(trace.final("proximal_steps"), steps + 1)


def test_solve_stops_on_the_certified_residual():
    method = VarianceReducedHalpern.theory(BOXED)
    solution = tt.solve(method, BOXED, jnp.zeros(4), tol=0.02, measure=certified_residual, check_every=6)
    assert solution.converged
    x, element, residual = certify(BOXED, solution.state)
    assert float(residual) == pytest.approx(solution.measure)
    assert float(residual) <= 0.02
    np.testing.assert_allclose(np.clip(x + element, -0.5, 0.5), x, atol=1e-12)
    by_name = tt.solve(ResolventHalpern.theory(GAME), GAME, GAME.uniform, tol=0.05, measure="residual")
    assert by_name.converged
    assert float(GAME.duality_gap(by_name.x)) < 0.3


def test_an_infeasible_start_is_projected_and_certified():
    method = VarianceReducedHalpern.theory(BOXED)
    first = method.init(BOXED, jnp.full(4, 3.0), jax.random.key(0))
    np.testing.assert_array_equal(first.x, np.full(4, 0.5))
    np.testing.assert_allclose(np.clip(first.x + first.element, -0.5, 0.5), first.x)


def test_single_precision_stays_single():
    problem = LeastSquares(jnp.asarray(FEATURES, jnp.float32), jnp.asarray(TARGETS, jnp.float32), regulariser=L1(0.1))
    x0 = jnp.zeros(4, jnp.float32)
    for sampling in ("uniform", "importance"):
        field = GradientField(problem, sampling)
        for method in (
            VarianceReducedHalpern.theory(field),
            Halpern.theory(field),
            ExtraAnchoredGradient.theory(field),
        ):
            trace = tt.run(method, field, x0, steps=300, record=["residual"])
            assert trace.x.dtype == jnp.float32
            assert trace.final("residual") < 0.5 * trace["residual"].values[0, 0]
    game = MatrixGame(jnp.asarray(GAME.payoff, jnp.float32))
    trace = tt.run(ResolventHalpern.theory(game), game, game.uniform, steps=4, record=["residual"])
    assert trace.x[0].dtype == jnp.float32
    assert trace.final("residual") < trace["residual"].values[0, 0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Halpern(-1.0), "step_size: must lie in"),
        (lambda: VarianceReducedHalpern(0.1, batch=0), "batch: must lie in"),
        (lambda: VarianceReducedHalpern(0.1, batch=1, probability=1.5), "probability: must lie in"),
        (lambda: VarianceReducedForwardReflectedBackward(0.1, 0.0), "probability: must lie in"),
        (lambda: dataclasses.replace(ResolventHalpern.theory(GAME), inner_factor=0.0), "inner_factor: must lie in"),
        (lambda: Extragradient(0.0), "step_size: must lie in"),
        (lambda: ExtraAnchoredGradient(float("nan")), "step_size"),
        (lambda: VarianceReducedHalpern.theory(GAME), "does not know its average_cocoercivity"),
        (lambda: anchored_gradient(-1.0), "step_size: must lie in"),
        (lambda: anchored_gradient(0.1).update(jnp.ones(1), anchored_gradient(0.1).init(jnp.ones(1))), "params"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
