"""Mirror descent against the definition of its step, a plain NumPy loop, and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import softmax

import tendsto as tt
from tendsto.optimize import Entropy, Euclidean, MirrorDescent, Power, last_iterate_bound, proximal_sgd
from tendsto.optimize.schedules import (
    CompositeInverseTime,
    ConstantOverHorizon,
    InversePower,
    LinearDecay,
    Tabulated,
    TwoPhaseInverseTime,
    WeightedInverseTime,
)
from tendsto.problems import (
    L1,
    Ball,
    DiagonalQuadratic,
    EuclideanNorm,
    Gaussian,
    LastIterateLowerBound,
    LinearOnSimplex,
    Noisy,
    Objective,
    ParetoTail,
    Problem,
    Rademacher,
    Simplex,
    SquaredL2,
    Zero,
)


def potential(mirror, centre=None):
    if isinstance(mirror, Euclidean):
        return lambda x: 0.5 * jnp.sum(x**2)
    if isinstance(mirror, Entropy):
        return lambda x: jnp.sum(x * jnp.log(x))
    q = mirror.moment / (mirror.moment - 1)
    return lambda x: 2 ** (q - 2) / q * jnp.sum((x - mirror.centre) ** 2) ** (q / 2)


def on_simplex(values):
    return jnp.asarray(softmax(np.asarray(values), axis=-1))


GEOMETRIES = {
    "free": (Euclidean(), Zero(), jnp.asarray),
    "ball": (Euclidean(), Ball(1.0), lambda v: jnp.asarray(v) / max(1.0, np.linalg.norm(v))),
    "lasso": (Euclidean(), L1(0.7), jnp.asarray),
    "ridge": (Euclidean(), SquaredL2(0.7), jnp.asarray),
    "simplex, euclidean": (Euclidean(), Simplex(), on_simplex),
    "simplex, entropy": (Entropy(), Simplex(), on_simplex),
    "power": (Power(1.5), Zero(), jnp.asarray),
    "power, centred": (Power(1.2, jnp.array([0.3, -1.0, 0.5, 2.0])), Zero(), jnp.asarray),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_step_is_the_minimiser_that_defines_it(name):
    mirror, h, feasible = GEOMETRIES[name]
    psi, rng, step_size = potential(mirror), np.random.default_rng(0), 0.4
    for _ in range(5):
        x, g = feasible(rng.normal(size=4)), jnp.asarray(rng.normal(size=4))

        def model(u, x=x, g=g):
            bregman = psi(u) - psi(x) - jnp.dot(jax.grad(psi)(x), u - x)
            return float(h(u) + jnp.dot(g, u) + bregman / step_size)

        moved = mirror.step(h, x, g, step_size)
        best = model(moved)
        for size in (1e-3, 1e-2, 1e-1, 1.0):
            for _ in range(5):
                other = moved + size * (feasible(rng.normal(size=4)) - moved)
                assert model(other) > best - 1e-12


@pytest.mark.parametrize("name", ["free", "simplex, entropy", "power", "power, centred"])
def test_divergence_is_that_of_the_potential(name):
    mirror, _, feasible = GEOMETRIES[name]
    psi, rng = potential(mirror), np.random.default_rng(1)
    for _ in range(20):
        x, y = feasible(rng.normal(size=4)), feasible(rng.normal(size=4))
        expected = psi(x) - psi(y) - jnp.dot(jax.grad(psi)(y), x - y)
        assert float(mirror.divergence(x, y)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("moment", [1.1, 1.5, 1.9, 2.0])
def test_power_is_uniformly_convex_with_constant_one_and_not_more(moment):
    mirror, rng, q = Power(moment), np.random.default_rng(2), moment / (moment - 1)
    x, y = rng.normal(size=(2, 400, 3)) * rng.exponential(size=(2, 400, 1))
    divergence = jax.vmap(mirror.divergence)(jnp.asarray(x), jnp.asarray(y))
    lower = np.linalg.norm(x - y, axis=1) ** q / q
    assert np.all(divergence >= lower * (1 - 1e-9))
    # Attained by opposite points: 2^{q-2}/q (1 - 1 + 2q) ≥ 2^q/q, with equality at q = 2.
    point = jnp.array([1.0, 0.0, 0.0])
    assert float(mirror.divergence(-point, point)) == pytest.approx(2 ** (q - 2) * 2, rel=1e-12)


def test_power_at_two_moments_is_euclidean():
    rng = np.random.default_rng(3)
    x, g = jnp.asarray(rng.normal(size=(2, 6)))
    power, plain = Power(2.0), Euclidean()
    np.testing.assert_allclose(power.step(Zero(), x, g, 0.3), plain.step(Zero(), x, g, 0.3), rtol=1e-14)
    assert float(power.divergence(x, g)) == pytest.approx(float(plain.divergence(x, g)), rel=1e-13)


def test_power_is_finite_at_its_centre():
    moved = Power(1.5).step(Zero(), jnp.zeros(3), jnp.array([2.0, 0.0, 0.0]), 0.5)
    np.testing.assert_allclose(moved, [-((1.0 / 2.0) ** 0.5), 0.0, 0.0], rtol=1e-14)
    np.testing.assert_array_equal(Power(1.5).step(Zero(), jnp.zeros(3), jnp.zeros(3), 0.5), np.zeros(3))


def test_entropy_survives_entries_that_vanish():
    x = jnp.array([0.5, 0.5, 0.0])
    moved = Entropy().step(Simplex(), x, jnp.array([0.0, 1e4, -1e4]), 1.0)
    np.testing.assert_allclose(moved, [1.0, 0.0, 0.0], atol=1e-300)


@pytest.mark.parametrize(
    "schedule", [InversePower(1.0), ConstantOverHorizon(1.0, 40), LinearDecay(1.0, 40)], ids=lambda s: type(s).__name__
)
def test_worst_case_run_equals_a_dense_transcription(schedule):
    """Projected subgradient descent on the instance of Harvey et al. as one writes it down from the paper."""
    horizon = 40
    a = [1 / (8 * (horizon - j + 1)) for j in range(1, horizon + 1)]
    b = [np.sqrt(j) / (2 * np.sqrt(horizon)) for j in range(1, horizon + 1)]
    rows = np.zeros((horizon + 1, horizon))
    for i in range(horizon + 1):
        rows[i, :i] = a[:i]
        if i < horizon:
            rows[i, i] = -b[i]
    x, visited = np.zeros(horizon), []
    for eta in np.asarray(schedule.step_sizes(horizon)):
        values = rows @ x
        x = x - eta * rows[np.flatnonzero(values >= values.max() - 1e-12)[0]]
        x = x / max(1.0, np.linalg.norm(x))
        visited.append(x)

    problem = LastIterateLowerBound(horizon)
    trace = tt.run(MirrorDescent(schedule), problem, jnp.zeros(horizon), steps=horizon, record="gap", points=1)
    np.testing.assert_allclose(trace.x[0], x, atol=1e-13)
    np.testing.assert_allclose(trace.state.average[0], np.mean(visited, axis=0), atol=1e-13)
    assert trace.final("gap")[0] == pytest.approx((rows @ x).max(), rel=1e-10)


def test_the_classical_lower_bound_on_the_last_iterate_holds():
    for horizon in (30, 200):
        problem = LastIterateLowerBound(horizon)
        trace = tt.run(MirrorDescent(InversePower(1.0)), problem, jnp.zeros(horizon), steps=horizon, record="gap")
        assert trace.final("gap")[0] >= np.log(horizon) / (32 * np.sqrt(horizon))


def test_noisy_quadratic_follows_the_exact_recursion_of_its_moments():
    """E x_i² obeys m ← (1 − η a_i)² m + η² σ²/d, whatever the schedule."""
    steps, curvatures, sigma = 60, np.array([1.0, 2.0, 4.0]), 1.5
    schedule = WeightedInverseTime(1.0, 4.0)
    moments = np.ones(3)
    for eta in np.asarray(schedule.step_sizes(steps)):
        moments = (1 - eta * curvatures) ** 2 * moments + eta**2 * sigma**2 / 3
    expected = 0.5 * np.dot(curvatures, moments)
    problem = Noisy(DiagonalQuadratic(curvatures), Gaussian(sigma))
    trace = tt.run(MirrorDescent(schedule), problem, jnp.ones(3), steps=steps, seeds=4000, record="gap", points=1)
    gaps = trace.final("gap")
    assert abs(gaps.mean() - expected) < 4 * gaps.std() / np.sqrt(gaps.size)
    bound = last_iterate_bound(
        schedule.step_sizes(steps), divergence=1.5, noise=sigma, smoothness=4.0, strong_convexity=1.0
    )
    assert expected <= bound


class Lasso(Problem):
    """f(x) = ½|Ax − b|² with an ℓ1 regulariser, as a user would write it."""

    matrix: jax.Array
    regulariser: L1 = L1(0.1)

    def smooth_part(self, x):
        return 0.5 * jnp.sum((self.matrix @ x - 1.0) ** 2)


def test_composite_steps_on_a_users_problem_equal_soft_thresholding():
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(12, 5))
    eta, x = 0.5 / np.linalg.norm(matrix, 2) ** 2, np.zeros(5)
    for _ in range(30):
        v = x - eta * matrix.T @ (matrix @ x - 1.0)
        x = np.sign(v) * np.maximum(np.abs(v) - 0.1 * eta, 0)
    method = MirrorDescent(optax.constant_schedule(eta))
    trace = tt.run(method, Lasso(jnp.asarray(matrix)), jnp.zeros(5), steps=30)
    np.testing.assert_allclose(trace.x[0], x, atol=1e-13)


def test_the_optax_form_takes_the_same_steps_and_is_sgd_without_a_regulariser():
    schedule, problem = InversePower(0.3), Lasso(jnp.asarray(np.random.default_rng(6).normal(size=(8, 3))))
    x = {"ours": jnp.ones(3), "method": jnp.ones(3)}
    transformation, method = proximal_sgd(schedule, L1(0.1)), MirrorDescent(schedule)
    memory, state = transformation.init(x["ours"]), method.init(problem, x["method"], jax.random.key(0))
    for _ in range(10):
        update, memory = transformation.update(problem.gradient(x["ours"]), memory, x["ours"])
        x["ours"] = optax.apply_updates(x["ours"], update)
        state = method.step(problem, state, jax.random.key(0))
    np.testing.assert_allclose(x["ours"], state.x, rtol=1e-13)

    params = {"weights": jnp.ones((2, 2)), "bias": jnp.zeros(2)}
    gradient = {"weights": jnp.full((2, 2), 0.3), "bias": jnp.ones(2)}
    peer, form = optax.sgd(schedule), proximal_sgd(schedule)
    expected, _ = peer.update(gradient, peer.init(params), params)
    found, _ = form.update(gradient, form.init(params), params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), found, expected)
    with pytest.raises(ValueError, match=r"^params: "):
        form.update(gradient, form.init(params))


def test_the_optax_form_takes_mirror_steps():
    x, g = jnp.full(4, 0.25), jnp.arange(4.0)
    form = proximal_sgd(optax.constant_schedule(0.5), Simplex(), Entropy())
    update, _ = form.update(g, form.init(x), x)
    np.testing.assert_allclose(x + update, softmax(-0.5 * np.arange(4.0)), rtol=1e-14)


@pytest.mark.parametrize("mirror", [Euclidean(), Power(1.5)], ids=lambda m: type(m).__name__)
def test_iterates_in_32_bits_stay_so(mirror):
    start = jnp.ones(4, jnp.float32)
    problem = Noisy(EuclideanNorm(0 * start), ParetoTail(1.0, 1.5, 1.6))
    # A table is in 64 bits here; the number in a schedule takes the precision of what it meets.
    for schedule in (InversePower(0.3), Tabulated.of([LinearDecay(0.3, 50)], [50])):
        trace = tt.run(MirrorDescent(schedule, mirror), problem, start, steps=50, record="gap", points=1)
        assert trace.x.dtype == jnp.float32
        assert np.isfinite(trace.final("gap")).all()


def test_a_grid_runs_over_the_schedules_numbers():
    problem, grid = EuclideanNorm(jnp.zeros(3)), {"schedule.base": [0.1, 0.5]}
    trace = tt.run(MirrorDescent(LinearDecay(1.0, 20)), problem, jnp.ones(3), steps=20, record="gap", grid=grid)
    alone = tt.run(MirrorDescent(LinearDecay(0.5, 20)), problem, jnp.ones(3), steps=20, record="gap")
    np.testing.assert_allclose(trace.sel(schedule_base=0.5).final("gap"), alone.final("gap"), rtol=1e-12)


class Coordinates(Problem):
    """An oracle that answers e_1, e_2, …: the iterates are their own coefficients in start and gradients."""

    def smooth_part(self, x):
        raise NotImplementedError

    def stochastic_gradient(self, x, key):
        return jnp.eye(x.size)[int(jax.random.key_data(key)[-1])]


def test_steps_run_on_coordinates():
    method, state = MirrorDescent(LinearDecay(1.0, 4)), None
    state = method.init(Coordinates(), jnp.eye(5)[0], jax.random.key(0))
    for t in range(1, 5):
        state = method.step(Coordinates(), state, jax.random.key(t))
    np.testing.assert_allclose(state.x, [1.0, -0.5, -0.375, -0.25, -0.125], rtol=1e-14)


def test_theory_prescribes_the_papers_steps():
    start, horizon = jnp.array([2.0, 0.0]), 64
    norm = Noisy(EuclideanNorm(jnp.zeros(2)), Gaussian(3.0))  # D_1 = 2, M = 2, M² + σ² = 13

    linear = MirrorDescent.theory(norm, start, horizon=horizon).schedule
    assert isinstance(linear, LinearDecay)
    # √(D_1/(2V)) minimises the closed form in the limit; the exact minimiser differs by O(log T / T).
    assert float(linear.base) == pytest.approx(np.sqrt(2 / (2 * 13)), rel=0.05)
    bound = last_iterate_bound(linear.step_sizes(horizon), divergence=2.0, nonsmoothness=2.0, noise=3.0)
    assert bound <= 4 * np.sqrt(2 * 2.0 * 13 / horizon)

    anytime = MirrorDescent.theory(norm, start).schedule
    assert isinstance(anytime, InversePower)
    assert float(anytime.base) == pytest.approx(np.sqrt(2 / 13))

    heavy = MirrorDescent.theory(Noisy(EuclideanNorm(jnp.zeros(2)), ParetoTail(1.0, 1.5, 1.6)), start, horizon=horizon)
    assert isinstance(heavy.schedule, LinearDecay)
    assert isinstance(heavy.mirror, Power)
    assert float(heavy.schedule.moment) == float(heavy.mirror.moment) == 1.5
    np.testing.assert_array_equal(heavy.mirror.centre, start)


def test_theory_fits_the_curvature():
    start, noise = jnp.ones(2), Gaussian(1.0)
    curved = Noisy(DiagonalQuadratic([1.0, 4.0]), noise)
    assert isinstance(MirrorDescent.theory(curved, start).schedule, WeightedInverseTime)
    two_phase = MirrorDescent.theory(curved, start, horizon=10).schedule
    assert isinstance(two_phase, TwoPhaseInverseTime)
    assert (float(two_phase.strong_convexity), float(two_phase.smoothness)) == (1.0, 4.0)
    ridge = MirrorDescent.theory(Noisy(DiagonalQuadratic([0.0, 4.0], SquaredL2(0.5)), noise), start).schedule
    assert isinstance(ridge, CompositeInverseTime)
    assert float(ridge.strong_convexity) == 0.5
    flat = Noisy(DiagonalQuadratic([0.0, 4.0]), noise)
    smooth = MirrorDescent.theory(flat, start, horizon=10).schedule
    assert isinstance(smooth, ConstantOverHorizon)
    assert float(smooth.largest) == float(MirrorDescent.theory(flat, start).schedule.largest) == 1 / 8
    simplex = Noisy(LinearOnSimplex([0.3, 0.1, 0.2]), Rademacher(2.0))
    uniform = jnp.full(3, 1 / 3)
    entropic = MirrorDescent.theory(simplex, uniform, mirror=Entropy()).schedule
    assert float(entropic.base) == pytest.approx(np.sqrt(np.log(3) / 4))
    assert np.isinf(float(entropic.largest))


def test_what_theory_does_not_cover_is_refused():
    noise, start = Gaussian(1.0), jnp.ones(2)
    with pytest.raises(ValueError, match=r"^x0: "):
        MirrorDescent.theory(Noisy(EuclideanNorm(start), noise), start)
    with pytest.raises(ValueError, match=r"^problem: .*free of noise"):
        MirrorDescent.theory(DiagonalQuadratic([0.0, 4.0]), start)
    with pytest.raises(ValueError, match=r"^problem: .*without variance"):
        MirrorDescent.theory(Noisy(DiagonalQuadratic([0.0, 4.0]), ParetoTail(1.0, 1.5, 1.6)), start)
    with pytest.raises(AttributeError, match="lipschitz"):
        MirrorDescent.theory(Objective(jnp.sum), start)


def test_bad_input_is_named():
    with pytest.raises(TypeError, match=r"^regulariser: Entropy"):
        Entropy().step(Zero(), jnp.full(2, 0.5), jnp.ones(2), 0.1)
    with pytest.raises(TypeError, match=r"^regulariser: Power"):
        Power(1.5).step(Ball(1.0), jnp.ones(2), jnp.ones(2), 0.1)
    with pytest.raises(ValueError, match=r"^moment: "):
        Power(1.0)


def test_costs_are_counted():
    trace = tt.run(MirrorDescent(InversePower(0.1)), EuclideanNorm(jnp.zeros(2)), jnp.ones(2), steps=7)
    np.testing.assert_array_equal(trace["gradients"].values[0], trace["step"].values)
    np.testing.assert_array_equal(trace["proximal_steps"].values[0], trace["step"].values)
