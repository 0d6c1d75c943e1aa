"""Bilevel methods against loops in NumPy, each other, exact counts and their bounds."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.optimize import SABA, SOBA, TTSA, EpochSGD, NormalisedBilevel, StocBiO, normalised_momentum
from tendsto.problems import BilevelObjective, CoshBilevel

TOY = CoshBilevel.random(jax.random.key(7), 3)
B, H = np.asarray(TOY.mixing), np.asarray(TOY.hessian)
X0 = jnp.array([1.0, -2.0, 0.5])
Y0 = np.array([0.3, -0.4, 1.0])
AWAY = CoshBilevel(TOY.mixing, TOY.hessian, 0.0, lower_start=Y0)
NOISY = CoshBilevel(TOY.mixing, TOY.hessian, 0.7, lower_start=Y0)


def iterates(problem, state):
    return jnp.concatenate([state.x, state.y, state.z])


def path(method, problem=AWAY, steps=25, **options):
    options = {"record": {"path": iterates}, "points": range(steps)} | options
    trace = tt.run(method, problem, X0, steps=steps, **options)
    return trace["path"].values[0].reshape(-1, 3, 3), trace


def projected(point, centre, radius):
    distance = np.linalg.norm(point - centre)
    return centre + (point - centre) * min(1.0, radius / distance) if distance > 0 else point


def lower_gradient(x, y):
    return H @ (y - B @ x)


def transcription(steps, step_size, alpha, nu, beta, period, lower_steps, radius, y, warmup=0, average=False):
    """Algorithm 1 in NumPy, on the problem's closed derivatives."""
    x, z, m = np.array(X0), np.zeros(3), np.zeros(3)
    for _ in range(warmup):
        z = z - nu * (H @ z - np.tanh(y))
    states = [(x, y, z)]
    for k in range(steps):
        if k > 0 and k % period == 0:
            centre, visited = y, []
            for _ in range(lower_steps):
                y = projected(y - alpha * lower_gradient(x, y), centre, radius)
                visited.append(y)
            if average:
                y = np.mean(visited, axis=0)
        h = np.sinh(x) + B.T @ H @ z  # the cross derivative of g is -B'H
        z = z - nu * (H @ z - np.tanh(y))
        m = beta * m + (1 - beta) * h
        x = x - step_size * m / (np.linalg.norm(m) + 1e-10)
        states.append((x, y, z))
    return np.array(states)


@pytest.mark.parametrize(
    ("period", "lower_steps", "radius", "warmup", "average"),
    [(1, 1, math.inf, 0, False), (4, 3, 0.05, 7, False), (3, 4, math.inf, 2, True), (100, 2, 1.0, 1, False)],
)
def test_iterates_are_those_of_the_pseudo_code(period, lower_steps, radius, warmup, average):
    method = NormalisedBilevel(
        0.1, 0.15, 0.2, momentum=0.8, period=period, lower_steps=lower_steps, radius=radius, linear_warmup=warmup,
        average=average,
    )  # fmt: skip
    expected = transcription(25, 0.1, 0.15, 0.2, 0.8, period, lower_steps, radius, Y0, warmup, average)
    found, trace = path(method)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    updates = sum(1 for k in range(1, 25) if k % period == 0)
    calls = trace.state.calls
    assert int(calls.lower_gradients[0]) == lower_steps * updates
    assert int(calls.upper_gradients[0]) == 50 + warmup
    assert int(calls.hessian_products[0]) == 25 + warmup
    assert int(calls.cross_products[0]) == 25
    assert int(trace.final("gradients")[0]) == lower_steps * updates + 100 + 2 * warmup
    if updates:
        assert int(trace.final("proximal_steps")[0]) == lower_steps * updates


@pytest.mark.parametrize("problem", [AWAY, NOISY], ids=["exact", "noisy"])
def test_without_normalisation_it_is_ma_soba_bit_for_bit(problem):
    # The two share everything but the scale of the upper step, so from equal states one step agrees to the last bit.
    ours = NormalisedBilevel(0.05, 0.15, 0.2, momentum=0.8)
    rival = SOBA(0.05, 0.15, 0.2, momentum=0.8, alternating=True)
    state = ours.init(problem, X0, jax.random.key(0))
    for k in range(3):  # one operation at a time: a compiler fuses the two methods differently
        key = jax.random.key(k)
        a, b = ours.step(problem, state, key), rival.step(problem, state, key)
        for name in ("y", "z", "momentum"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert float(a.cost.gradients) == float(b.cost.gradients)
        norm = jnp.linalg.norm(a.momentum)
        np.testing.assert_allclose(a.x - state.x, (b.x - state.x) / (norm + 1e-10), rtol=1e-12)
        np.testing.assert_allclose(float(jnp.linalg.norm(a.x - state.x)), 0.05, rtol=1e-9)
        state = a
    assert float(norm) > 0.01


def test_with_its_step_divided_by_the_norm_ma_soba_takes_the_same_path():
    found, _ = path(NormalisedBilevel(0.05, 0.15, 0.2, momentum=0.8))
    step = eqx.filter_jit(lambda method, state, key: method.step(AWAY, state, key))
    method = SOBA(1.0, 0.15, 0.2, momentum=0.8, alternating=True)
    state = method.init(AWAY, X0, jax.random.key(0))
    for k in range(25):
        norm = jnp.linalg.norm(step(method, state, jax.random.key(k)).momentum)
        state = step(dataclasses.replace(method, step_size=0.05 / (norm + 1e-10)), state, jax.random.key(k))
        np.testing.assert_allclose(iterates(AWAY, state).reshape(3, 3), found[k + 1], rtol=1e-10, atol=1e-13)


def soba_loop(alternating, beta):
    x, y, z, m = np.array(X0), Y0, np.zeros(3), np.zeros(3)
    states = [(x, y, z)]
    for k in range(25):
        new_y = y - 0.15 * lower_gradient(x, y) if k > 0 or not alternating else y
        at = new_y if alternating else y
        m = beta * m + (1 - beta) * (np.sinh(x) + B.T @ H @ z)
        z = z - 0.2 * (H @ z - np.tanh(at))
        x, y = x - 0.05 * m, new_y
        states.append((x, y, z))
    return np.array(states)


def stocbio_loop():
    x, y, z = np.array(X0), Y0, np.zeros(3)
    states = [(x, y, z)]
    for _ in range(25):
        for _ in range(3):
            y = y - 0.15 * lower_gradient(x, y)
        series = sum(np.linalg.matrix_power(np.eye(3) - 0.2 * H, q) for q in range(4))
        z = 0.2 * series @ np.tanh(y)
        x = x - 0.05 * (np.sinh(x) + B.T @ H @ z)
        states.append((x, y, z))
    return np.array(states)


@pytest.mark.parametrize(
    ("method", "expected", "calls"),
    [
        (SOBA(0.05, 0.15, 0.2), soba_loop(False, 0.0), (25, 50, 25, 25)),
        (SOBA(0.05, 0.15, 0.2, momentum=0.7), soba_loop(False, 0.7), (25, 50, 25, 25)),
        (SOBA(0.05, 0.15, 0.2, momentum=0.7, alternating=True), soba_loop(True, 0.7), (24, 50, 25, 25)),
        (StocBiO(0.05, 0.15, 0.2, lower_steps=3, terms=4), stocbio_loop(), (75, 50, 75, 25)),
    ],
    ids=["SOBA", "MA-SOBA", "alternating", "stocBiO"],
)
def test_rivals_are_those_of_their_pseudo_code(method, expected, calls):
    found, trace = path(method)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    counted = trace.state.calls
    kinds = (counted.lower_gradients, counted.upper_gradients, counted.hessian_products, counted.cross_products)
    assert tuple(int(kind[0]) for kind in kinds) == calls
    assert int(trace.final("gradients")[0]) == sum(calls)


def test_ttsa_draws_each_term_of_the_series_equally_often():
    trace = tt.run(TTSA(0.05, 0.15, 0.2, terms=4), AWAY, X0, steps=1, seeds=4000)
    y = Y0 - 0.15 * lower_gradient(np.array(X0), Y0)
    terms = np.array([0.8 * np.linalg.matrix_power(np.eye(3) - 0.2 * H, q) @ np.tanh(y) for q in range(4)])
    z = np.asarray(trace.state.z)
    nearest = np.argmin(np.abs(z[:, None] - terms).sum(axis=2), axis=1)
    np.testing.assert_allclose(z, terms[nearest], atol=1e-10)
    np.testing.assert_allclose(np.bincount(nearest, minlength=4) / 4000, 0.25, atol=0.03)
    np.testing.assert_array_equal(trace.state.calls.hessian_products, nearest)
    np.testing.assert_allclose(trace.state.y, np.broadcast_to(y, z.shape), rtol=1e-12)


def rows_upper(x, y, batch):
    return jnp.mean(jnp.sum(jnp.cosh(x - batch[0]), axis=1) + jnp.tanh(y @ batch[1].T))


def rows_lower(x, y, batch):
    return 0.5 * jnp.mean(jnp.sum((y - batch[0] * x) ** 2 * (1.0 + batch[1] ** 2), axis=1)) + 0.1 * jnp.sum(y**2)


def finite_sum(batch_size=1):
    keys = jax.random.split(jax.random.key(11), 4)
    upper, lower = [tuple(jax.random.normal(keys[2 * i + j], (5 + i, 3)) for j in (0, 1)) for i in (0, 1)]
    return BilevelObjective(
        rows_upper, rows_lower, lower_start=jnp.asarray(Y0), upper_data=upper, lower_data=lower, batch_size=batch_size
    )


def test_saba_keeps_the_tables_of_saga():
    problem = finite_sum()
    method = SABA(0.02, 0.1, 0.1)
    state = method.init(problem, X0, jax.random.key(0))
    one = jax.random.key(1)
    exact = problem.lower_gradient(state.x, state.y)
    np.testing.assert_allclose(state.lower_mean[0], exact, rtol=1e-12)
    assert float(state.cost.gradients) == 6 * 3 + 5 * 2
    # At a start, every estimate is the mean of the table, which is exact: the step is that of SOBA without noise.
    after = method.step(problem, state, one)
    exact_problem = finite_sum(batch_size=None)
    soba = SOBA(0.02, 0.1, 0.1)
    expected = soba.step(exact_problem, soba.init(exact_problem, X0, one), one)
    for name in ("x", "y", "z"):
        np.testing.assert_allclose(getattr(after, name), getattr(expected, name), rtol=1e-10)
    # A second step by hand: new value minus remembered value plus mean, the row then replaced.
    key = jax.random.key(2)
    lower_key, _ = jax.random.split(key)
    i = int(jax.random.randint(lower_key, (), 0, 6))
    row = tuple(leaf[i : i + 1] for leaf in problem.lower_data)
    new = jax.grad(rows_lower, argnums=1)(after.x, after.y, row)
    table = np.array(after.lower_table[0])
    last = method.step(problem, after, key)
    np.testing.assert_allclose(last.y, after.y - 0.1 * (new - table[i] + table.mean(axis=0)), rtol=1e-10)
    table[i] = new
    np.testing.assert_allclose(last.lower_table[0], table, rtol=1e-12)
    np.testing.assert_allclose(last.lower_mean[0], table.mean(axis=0), rtol=1e-10)


@pytest.mark.parametrize(
    "method",
    [SABA(0.02, 0.1, 0.1), StocBiO(0.02, 0.1, 0.1), TTSA(0.005, 0.05, 0.1), SOBA(0.005, 0.03, 0.03, momentum=0.9)],
    ids=lambda method: type(method).__name__,
)
def test_rivals_approach_stationarity_on_a_finite_sum(method):
    problem = finite_sum()
    trace = tt.run(method, problem, X0, steps=3000, record="stationarity", points=[1])
    values = trace["stationarity"].values[0]
    assert values[-1] < (1e-6 if isinstance(method, SABA) else 0.25) * values[0]


# --- Epoch-SGD -------------------------------------------------------------------------------------------------


def test_epochs_are_those_of_the_pseudo_code():
    centre, step_size, steps, radius = Y0, 0.2, 3, 0.5
    for _ in range(4):
        y, visited = centre, []
        for _ in range(steps):
            y = projected(y - step_size * lower_gradient(np.array(X0), y), centre, radius)
            visited.append(y)
        centre = np.mean(visited, axis=0)
        step_size, steps, radius = step_size / 2, steps * 2, radius / math.sqrt(2)
    sgd = EpochSGD(0.2, 3, 4, 0.5)
    found = sgd(lambda y, key: AWAY.lower_gradient(X0, y), jnp.asarray(Y0), jax.random.key(0))
    np.testing.assert_allclose(found, centre, rtol=1e-10)
    assert int(sgd.calls) == 3 * 15
    state = NormalisedBilevel(0.1, 0.1, 0.1, refinement=sgd).init(AWAY, X0, jax.random.key(0))
    np.testing.assert_allclose(state.y, centre, rtol=1e-10)
    assert float(state.cost.gradients) == 45
    assert float(state.cost.proximal_steps) == 45
    assert float(state.calls.lower_gradients) == 45


def test_theory_of_the_epochs_reaches_its_accuracy():
    sgd = EpochSGD.theory(strong_convexity=1.0, smoothness=4.0, deviation=2.0, distance=8.0, accuracy=0.5)
    start = TOY.lower_solution(X0) + jnp.array([8.0, 0.0, 0.0])

    def oracle(y, key):
        return TOY.lower_gradient(X0, y) + 2.0 / math.sqrt(3) * jax.random.normal(key, (3,))

    ends = jax.vmap(lambda key: sgd(oracle, start, key))(jax.random.split(jax.random.key(0), 100))
    errors = jnp.linalg.norm(ends - TOY.lower_solution(X0), axis=1)
    assert float(jnp.sqrt(jnp.mean(errors**2))) < 0.5
    assert float(jnp.quantile(errors, 0.99)) < 0.5
    exact = EpochSGD.theory(strong_convexity=1.0, smoothness=4.0, deviation=0.0, distance=8.0, accuracy=0.5)
    assert float(exact.step_size) == 0.125


# --- Parameters, optax, odd input -------------------------------------------------------------------------------


def test_theory_follows_its_orders_and_inverts_its_horizon():
    start = CoshBilevel(TOY.mixing, TOY.hessian, 1.0, lower_start=TOY.lower_solution(X0))
    coarse, fine = (NormalisedBilevel.theory(start, X0, epsilon=epsilon) for epsilon in (0.02, 0.01))
    assert (1 - float(coarse.momentum)) / (1 - float(fine.momentum)) == pytest.approx(4, rel=1e-9)
    assert float(coarse.step_size / fine.step_size) == pytest.approx(8, rel=1e-9)
    assert int(fine.period) / int(coarse.period) == pytest.approx(4, rel=0.02)
    assert int(fine.lower_steps) / int(coarse.lower_steps) == pytest.approx(4, rel=0.02)
    assert float(coarse.radius / fine.radius) == pytest.approx(2)
    assert fine.refinement is None
    steps = [NormalisedBilevel.horizon(start, X0, epsilon) for epsilon in (0.02, 0.01)]
    assert steps[1] / steps[0] == pytest.approx(16, rel=1e-9)
    epsilon = NormalisedBilevel.accuracy(start, X0, 10_000)
    assert NormalisedBilevel.horizon(start, X0, epsilon) == pytest.approx(10_000, rel=1e-6)
    assert float(NormalisedBilevel.theory(start, X0, horizon=10_000).step_size) == pytest.approx(
        float(NormalisedBilevel.theory(start, X0, epsilon=epsilon).step_size)
    )
    refined = NormalisedBilevel.theory(NOISY, X0, epsilon=0.5)
    assert refined.refinement is not None
    quiet = NormalisedBilevel.theory(AWAY, X0, epsilon=0.5)
    assert float(quiet.momentum) == 0.0


def test_theory_brings_the_mean_gradient_to_epsilon():
    start = CoshBilevel(TOY.mixing, TOY.hessian, 0.3, lower_start=TOY.lower_solution(X0))
    method = NormalisedBilevel.theory(start, X0, horizon=3000)
    epsilon = NormalisedBilevel.accuracy(start, X0, 3000)
    trace = tt.run(method, start, X0, steps=3000, seeds=2, record="stationarity", points=300, spacing="linear")
    assert (trace["stationarity"].values.mean(axis=1) < 2 * epsilon).all()


@pytest.mark.parametrize("step_size", [0.1, optax.linear_schedule(0.1, 0.01, 5)])
def test_transformation_is_the_upper_update(step_size):
    gradients = [{"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}, {"a": jnp.array([0.0, 1.0]), "b": jnp.array(-2.0)}]
    transformation = normalised_momentum(step_size, 0.9)
    state = transformation.init(gradients[0])
    m = np.zeros(3)
    for t, gradient in enumerate(gradients * 2):
        update, state = transformation.update(gradient, state)
        m = 0.9 * m + 0.1 * np.array([*gradient["a"], gradient["b"]])
        size = step_size(t) if callable(step_size) else step_size
        expected = -size * m / (np.linalg.norm(m) + 1e-10)
        # optax scales by a schedule's value in single precision.
        rtol = 1e-6 if callable(step_size) else 1e-10
        np.testing.assert_allclose([*update["a"], update["b"]], expected, rtol=rtol)
    nothing, _ = transformation.update(jax.tree.map(jnp.zeros_like, gradients[0]), transformation.init(gradients[0]))
    assert float(optax.tree.norm(nothing)) == 0.0


def test_pytrees_grids_and_solves():
    def upper(x, y, batch):
        return jnp.cosh(x["a"]).sum() + x["b"] ** 2 + jnp.sum(y["c"] ** 2)

    def lower(x, y, batch):
        return 0.5 * jnp.sum((y["c"] - x["a"] - x["b"]) ** 2)

    problem = BilevelObjective(upper, lower, lower_start={"c": jnp.zeros(2)})
    x0 = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(1.0)}
    method = NormalisedBilevel(0.01, 0.5, 0.5)
    grid = {"period": [1, 5], "lower_steps": [1, 3]}
    trace = tt.run(method, problem, x0, steps=11, grid=grid, record={"y": lambda p, s: s.y["c"]}, points=[1])
    np.testing.assert_array_equal(trace.state.calls.lower_gradients[:, 0], [10, 30, 2, 6])
    solution = tt.solve(method, problem, x0, tol=0.1, max_steps=2000)
    assert solution.converged
    assert jax.tree.structure(solution.x) == jax.tree.structure(x0)


def test_too_long_linear_steps_are_reported():
    trace = tt.run(NormalisedBilevel(0.1, 0.1, 3.0), AWAY, X0, steps=2000, record={})
    assert bool(trace.diverged.all())
    assert tt.solve(NormalisedBilevel(0.1, 0.1, 3.0), AWAY, X0, tol=1e-9, max_steps=2000).result is tt.Result.nonfinite
    saddle = BilevelObjective(
        lambda x, y, b: jnp.sum((x - y) ** 2), lambda x, y, b: -jnp.sum((y - x) ** 2), lower_start=jnp.ones(3)
    )
    assert bool(tt.run(SOBA(0.1, 0.5, 0.5), saddle, X0, steps=3000, record={}).diverged.all())


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: NormalisedBilevel(0.0, 0.1, 0.1), ValueError, "step_size: must lie in"),
        (lambda: NormalisedBilevel(0.1, -0.1, 0.1), ValueError, "lower_step_size: must lie in"),
        (lambda: NormalisedBilevel(0.1, 0.1, np.nan), ValueError, "linear_step_size: must lie in"),
        (lambda: NormalisedBilevel(0.1, 0.1, 0.1, momentum=1.0), ValueError, "momentum: must lie in"),
        (lambda: NormalisedBilevel(0.1, 0.1, 0.1, momentum=-0.1), ValueError, "momentum: must lie in"),
        (lambda: NormalisedBilevel(0.1, 0.1, 0.1, period=0), ValueError, "period: must be at least 1"),
        (lambda: NormalisedBilevel(0.1, 0.1, 0.1, period=1.5), TypeError, "period"),
        (lambda: NormalisedBilevel(0.1, 0.1, 0.1, lower_steps=0), ValueError, "lower_steps: must be at least 1"),
        (lambda: NormalisedBilevel(0.1, 0.1, 0.1, radius=0.0), ValueError, "radius: must lie in"),
        (lambda: NormalisedBilevel(0.1, 0.1, 0.1, linear_warmup=-1), ValueError, "linear_warmup: must be at least 0"),
        (lambda: NormalisedBilevel.theory(AWAY, X0), ValueError, "epsilon, horizon: give exactly one"),
        (lambda: NormalisedBilevel.theory(AWAY, X0, epsilon=0.0), ValueError, "epsilon: must lie in"),
        (lambda: NormalisedBilevel.theory(AWAY, X0, horizon=0), ValueError, "horizon: must lie in"),
        (lambda: NormalisedBilevel.theory(finite_sum(), X0, epsilon=0.1), AttributeError, "lower_strong_convexity"),
        (lambda: EpochSGD(0.1, 0, 2), ValueError, "steps: must be at least 1"),
        (lambda: EpochSGD(0.1, 5, 0), ValueError, "epochs: must be at least 1"),
        (lambda: EpochSGD(-1.0, 5, 2), ValueError, "step_size: must lie in"),
        (lambda: EpochSGD(0.1, 5, 2, 0.0), ValueError, "radius: must lie in"),
        (lambda: SOBA(0.1, 0.1, 0.0), ValueError, "linear_step_size: must lie in"),
        (lambda: SOBA(0.1, 0.1, 0.1, momentum=1.0), ValueError, "momentum: must lie in"),
        (lambda: StocBiO(0.1, 0.1, 0.1, terms=0), ValueError, "terms: must be at least 1"),
        (lambda: TTSA(0.1, 0.1, 0.1, terms=0), ValueError, "terms: must be at least 1"),
        (lambda: SABA(-0.1, 0.1, 0.1), ValueError, "step_size: must lie in"),
        (
            lambda: tt.run(SABA(0.1, 0.1, 0.1), BilevelObjective(rows_upper, rows_lower, lower_start=Y0), X0, steps=1),
            ValueError,
            "problem: SABA needs samples",
        ),
        (lambda: normalised_momentum(0.0), ValueError, "step_size: must lie in"),
        (lambda: normalised_momentum(0.1, 1.0), ValueError, "momentum: must lie in"),
    ],
)
def test_bad_input_is_named(build, error, message):
    with pytest.raises(error, match=message):
        build()
