import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tendsto as tt
from tendsto.optimize import (
    ExactAugmentedLagrangian,
    KaczmarzSketch,
    NewtonStatus,
    SketchedNewton,
    inverse_square_forcing,
    residual_forcing,
)
from tendsto.optimize.exact_augmented_lagrangian import Values
from tendsto.optimize.newton_system import inverse_bound, saddle_matrix, with_curvature
from tendsto.problems import EqualityConstrained, PrimalDual, elliptic_control, hock_schittkowski

HS7 = hock_schittkowski(7)
# Its systems are solved by a direct method's accuracy after one projection onto all equations.
EXACT = KaczmarzSketch(3)


def transcribed(problem, x, multipliers, steps, beta=0.1, nu=1.5, xi=0.1, threshold=1e-6, floor=1e-6):
    """The pseudo-code in NumPy with exact solves; yields what each iteration leaves."""
    eta1, eta2, delta, size = 1.0, 0.1, 0.1, x.size
    for k in range(steps):
        at = jnp.asarray(x)
        value, grad = float(problem.function(at)), np.asarray(problem.gradient(at))
        c, g = np.asarray(problem.constraints(at)), np.asarray(problem.jacobian(at))
        h = np.asarray(problem.hessian(PrimalDual(jnp.asarray(x), jnp.asarray(multipliers))))
        lx = grad + g.T @ multipliers
        residual = np.concatenate([lx, c])
        norm = np.linalg.norm(residual)
        _, _, basis = np.linalg.svd(g)
        kernel = basis[len(g) :].T
        lacking = np.linalg.eigvalsh(kernel.T @ h @ kernel)[0] < threshold
        b = h + (xi + np.linalg.norm(h)) * np.eye(size) if lacking else h
        gamma = np.block([[b, g.T], [g, np.zeros((len(g), len(g)))]])
        regular = np.linalg.eigvalsh(g @ g.T)[0]
        psi = 20 * max(np.linalg.norm(b) ** 2, 1) / (min(regular, 1) * min(xi, 1))
        upsilon = max(np.linalg.norm(g), np.linalg.norm(h), 1)

        def trial(eta1, eta2, upsilon=upsilon, psi=psi):
            return (0.5 - beta) * eta2 / ((1 + eta1 + eta2) * upsilon**2 * psi**2)

        delta = max(min(delta, trial(eta1, eta2)), floor)
        z = np.linalg.solve(gamma, -residual)
        while True:
            slope = (lx + eta2 * h @ lx + eta1 * g.T @ c) @ z[:size] + (c + eta2 * g @ lx) @ z[size:]
            if slope <= -0.5 * eta2 * norm**2:
                break
            eta1, eta2 = nu**2 * eta1, eta2 / nu
            delta = max(min(delta / nu**4, trial(eta1, eta2)), floor)

        def merit(x, multipliers, eta1=eta1, eta2=eta2):
            at = jnp.asarray(x)
            c = np.asarray(problem.constraints(at))
            lx = np.asarray(problem.gradient(at)) + np.asarray(problem.jacobian(at)).T @ multipliers
            return float(problem.function(at)) + multipliers @ c + 0.5 * eta1 * c @ c + 0.5 * eta2 * lx @ lx

        alpha, before = 1.0, merit(x, multipliers)
        while merit(x + alpha * z[:size], multipliers + alpha * z[size:]) > before + alpha * beta * slope:
            alpha /= 2
        x, multipliers = x + alpha * z[:size], multipliers + alpha * z[size:]
        asked = delta * norm / (np.linalg.norm(gamma) * psi)
        yield x, multipliers, (eta1, eta2), delta, alpha, bool(lacking), asked, slope, value, k


def steps_of(method, problem, start, number):
    state = method.init(problem, start, jax.random.key(0))
    advance = jax.jit(lambda state, key: method.step(problem, state, key))
    for k in range(number):
        state = advance(state, jax.random.key(k))
        yield state


@pytest.mark.parametrize(("number", "multiplier", "steps"), [(7, 0.0, 6), (40, 0.5, 4), (47, 0.0, 5)], ids=str)
def test_steps_are_those_of_the_pseudo_code(number, multiplier, steps):
    """Problems that between them modify the Hessian, shorten steps, and change penalties."""
    problem = hock_schittkowski(number)
    multipliers = np.full(problem.constraints(problem.start).size, multiplier)
    method = SketchedNewton(sketch=KaczmarzSketch(problem.start.size + multipliers.size))
    ours = steps_of(method, problem, PrimalDual(problem.start, jnp.asarray(multipliers)), steps)
    for state, expected in zip(ours, transcribed(problem, np.asarray(problem.start), multipliers, steps), strict=True):
        x, multipliers, penalties, delta, alpha, lacking, asked, slope, *_ = expected
        assert state.status == NewtonStatus.running
        np.testing.assert_allclose(state.x.x, x, rtol=1e-7)
        np.testing.assert_allclose(state.x.multipliers, multipliers, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose([state.merit.constraint_penalty, state.merit.gradient_penalty], penalties)
        np.testing.assert_allclose(state.accuracy, delta, rtol=1e-6)
        np.testing.assert_allclose(state.inner_tolerance, asked, rtol=1e-5)
        np.testing.assert_allclose(state.slope, slope, rtol=1e-6)
        assert (state.step_size, state.modified) == (alpha, lacking)


def test_accuracy_without_a_floor_follows_the_formula():
    """On a run that changes its penalties, where the old one over the growth to the fourth binds."""
    problem, multipliers = hock_schittkowski(40), np.full(3, 0.5)
    start = PrimalDual(problem.start, jnp.asarray(multipliers))
    ours = steps_of(SketchedNewton(sketch=KaczmarzSketch(7), accuracy_floor=0.0), problem, start, 3)
    expected = list(transcribed(problem, np.asarray(problem.start), multipliers, 3, floor=0.0))
    assert expected[-1][2] != (1.0, 0.1)
    for state, (_, _, _, delta, _, _, asked, *_) in zip(ours, expected, strict=True):
        np.testing.assert_allclose([state.accuracy, state.inner_tolerance], [delta, asked], rtol=1e-4)
        assert delta < 1e-6


def test_the_transcription_covers_modification_short_steps_and_penalties():
    rows = list(transcribed(hock_schittkowski(47), np.asarray(hock_schittkowski(47).start), np.zeros(3), 5))
    assert {row[2] for row in rows} != {(1.0, 0.1)}
    assert any(row[5] for row in transcribed(HS7, np.asarray(HS7.start), np.zeros(1), 6))
    assert any(row[4] < 1.0 for row in transcribed(HS7, np.asarray(HS7.start), np.zeros(1), 6))


@pytest.mark.parametrize("sketch", ["kaczmarz", "gaussian"])
def test_solve_reaches_the_minimum(sketch):
    solution = tt.solve(SketchedNewton(sketch), HS7, tol=1e-6, max_steps=30, progress=False)
    assert solution.converged
    assert float(HS7.objective(solution.x)) == pytest.approx(HS7.minimum, abs=1e-6)
    assert solution.steps == solution.state.count
    assert solution.cost.evaluations == solution.cost.gradients >= solution.steps + 1


def test_run_batches_seeds_hyperparameters_and_random_starts():
    trace = tt.run(
        SketchedNewton(EXACT, forcing=inverse_square_forcing),
        HS7,
        lambda key: 1.0 + jax.random.uniform(key, (2,)),
        steps=25,
        seeds=3,
        grid={"gradient_penalty": [0.1, 0.05]},
        record=["stationarity", "objective", "infeasibility"],
        progress=False,
    )
    assert (trace.final("stationarity") < 1e-8).all()
    np.testing.assert_allclose(trace.final("objective"), HS7.minimum, atol=1e-8)


def test_quadratic_programmes_leave_the_solver_residual():
    problem = elliptic_control(2)
    method = SketchedNewton(inverse_bound="exact", accuracy_floor=0.5)
    first, second = steps_of(method, problem, problem.start, 2)
    assert (first.step_size, second.step_size) == (1.0, 1.0)
    np.testing.assert_allclose(problem.stationarity(first.x), first.inner_residual, rtol=1e-9)
    matrix = problem.kkt_matrix(PrimalDual(problem.start, jnp.zeros(4)))
    factor = 0.5 * np.linalg.svd(matrix, compute_uv=False)[-1] / np.linalg.norm(matrix)
    norm = problem.stationarity(PrimalDual(problem.start, jnp.zeros(4)))
    np.testing.assert_allclose(first.inner_tolerance, factor * norm, rtol=1e-9)
    assert first.inner_residual <= first.inner_tolerance


@pytest.mark.parametrize("forcing", [0.25, inverse_square_forcing, residual_forcing])
def test_forcing_scales_the_accuracy(forcing):
    problem, method = elliptic_control(2), SketchedNewton(EXACT, inverse_bound=50.0, forcing=forcing)
    states = list(steps_of(dataclasses.replace(method, sketch=KaczmarzSketch(12)), problem, problem.start, 2))
    norms = [float(problem.stationarity(p)) for p in (PrimalDual(problem.start, jnp.zeros(4)), states[0].x)]
    theta = {0.25: (0.25, 0.25), inverse_square_forcing: (1.0, 0.25)}.get(forcing, (1.0, norms[1]))
    size = np.linalg.norm(problem.kkt_matrix(states[0].x))
    for state, each, norm in zip(states, theta, norms, strict=True):
        np.testing.assert_allclose(state.inner_tolerance, each * state.accuracy * norm / (size * 50.0), rtol=1e-3)


def test_the_bound_on_the_inverse_is_one():
    rng = np.random.default_rng(0)
    for _ in range(20):
        jacobian, factor = jnp.asarray(rng.standard_normal((2, 5))), rng.standard_normal((5, 5))
        hessian = jnp.asarray(factor + factor.T)
        curved, _ = with_curvature(hessian, jacobian, 0.1, 0.1)
        inverse = np.linalg.norm(np.linalg.inv(saddle_matrix(curved, jacobian)), 2)
        assert inverse_bound("paper", curved, jacobian, 0.1) >= inverse
        np.testing.assert_allclose(inverse_bound("exact", curved, jacobian, 0.1), inverse, rtol=1e-9)
    assert inverse_bound(7.0, curved, jacobian, 0.1) == 7.0


def test_curvature_counts_on_the_kernel_alone():
    jacobian = jnp.array([[1.0, 0.0, 0.0]])
    kept, lacking = with_curvature(jnp.diag(jnp.array([-5.0, 1.0, 2.0])), jacobian, 0.1, 1e-6)
    assert not lacking
    assert kept[0, 0] == -5.0
    hessian = jnp.diag(jnp.array([5.0, -1.0, 2.0]))
    shifted, lacking = with_curvature(hessian, jacobian, 0.1, 1e-6)
    assert lacking
    np.testing.assert_allclose(shifted, hessian + (0.1 + np.sqrt(30.0)) * np.eye(3))
    square, lacking = with_curvature(-jnp.eye(2), jnp.eye(2), 0.1, 1e-6)
    assert not lacking
    np.testing.assert_allclose(square, -np.eye(2))


def test_every_direction_descends_as_much_as_asked():
    """At random points, some of which need other penalties than the first."""
    method = SketchedNewton(EXACT, max_sketches=1000)

    def one(key):
        x, multipliers = jax.random.uniform(key, (2,), minval=-2, maxval=2), jax.random.normal(key, (1,))
        point = PrimalDual(x, multipliers)
        state = method.init(HS7, point, key)
        found = method.direction(
            state.values, multipliers, HS7.hessian(point), state.merit, state.accuracy, state.count, key, state.status
        )
        needed = -0.5 * found.merit.gradient_penalty * HS7.stationarity(point) ** 2
        gradient = found.merit.gradient(HS7, point)
        slope = gradient.x @ found.step[:2] + gradient.multipliers @ found.step[2:]
        return slope / needed, found.penalty_updates, found.status

    share, updates, status = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 2000))
    assert (status == NewtonStatus.running).mean() > 0.95
    assert (share[status == NewtonStatus.running] >= 1.0 - 1e-9).all()
    assert (updates > 0).any()


def test_theory_covers_what_the_theorems_do():
    method = SketchedNewton.theory(superlinear=True, max_sketches=7)
    assert (method.inverse_bound, float(method.accuracy_floor), method.max_sketches) == ("exact", 0.0, 7)
    assert method.forcing is inverse_square_forcing
    assert tt.solve(SketchedNewton.theory(), HS7, tol=1e-6, max_steps=30, progress=False).converged


def _stopped(problem, start, **options):
    solution = tt.solve(SketchedNewton(EXACT, **options), problem, start, tol=1e-9, max_steps=20, progress=False)
    assert not solution.converged
    assert jnp.isfinite(solution.x.x).all()
    return solution.state


def test_a_singular_jacobian_is_reported():
    state = _stopped(hock_schittkowski(61), None, max_sketches=100)
    assert (state.status, state.count) == (NewtonStatus.singular, 0)
    twice = EqualityConstrained(lambda x: jnp.sum(x**2), lambda x: jnp.stack([x[0] - 1.0, 2.0 * x[0] - 2.0]))
    method = SketchedNewton(max_sketches=100)
    state = method.step(twice, method.init(twice, jnp.zeros(3), jax.random.key(0)), jax.random.key(0))
    assert state.status == NewtonStatus.singular
    assert "rank" in NewtonStatus(int(state.status)).message


def test_too_few_sketches_are_reported_and_the_method_holds_still():
    method = SketchedNewton(max_sketches=5)
    first, second = steps_of(method, HS7, HS7.start, 2)
    for state in (first, second):
        assert state.status == NewtonStatus.inner_solver
        np.testing.assert_array_equal(state.x.x, HS7.start)
        assert state.count == state.step_size == 0
    assert (first.sketches, second.sketches) == (5, 5)
    assert first.inner_residual > first.inner_tolerance


@pytest.mark.parametrize("where", ["function", "constraints"])
def test_functions_that_are_not_finite_are_reported(where):
    def bad(x):
        return jnp.log(x[0] - 1.0)

    functions = {"function": lambda x: jnp.sum(x**2), "constraints": lambda x: jnp.stack([x.sum() - 1.0])}
    functions[where] = bad if where == "function" else lambda x: jnp.stack([bad(x)])
    problem = EqualityConstrained(**functions)
    state = _stopped(problem, jnp.array([0.5, 0.0]))
    assert (state.status, state.count) == (NewtonStatus.nonfinite, 0)


def test_a_region_that_is_not_finite_is_stepped_back_from():
    """The minimum of x - log x under y = 1 from far away: full steps leave the domain."""
    problem = EqualityConstrained(lambda x: x[0] - jnp.log(x[0]), lambda x: jnp.stack([x[1] - 1.0]))
    solution = tt.solve(SketchedNewton(EXACT), problem, [3.0, 0.0], tol=1e-8, max_steps=30, progress=False)
    assert solution.converged
    np.testing.assert_allclose(solution.x.x, [1.0, 1.0], rtol=1e-6)


def test_no_descent_within_the_limits_of_the_penalties_is_reported():
    """A bound far too small makes the solver accept z = 0, along which nothing descends."""
    state = _stopped(HS7, None, inverse_bound=1e-12, accuracy_floor=1.0)
    assert state.status == NewtonStatus.penalties
    # 23 growths by 9/4 take the first penalty from 1 beyond 1e8.
    assert state.penalty_updates == int(np.ceil(np.log(1e8) / np.log(2.25)))


def test_a_line_search_without_end_is_reported():
    """A derivative of the wrong sign makes directions of ascent look like descent."""

    @jax.custom_jvp
    def lying(x):
        return jnp.sum(x**2)

    lying.defjvp(lambda primal, tangent: (lying(*primal), -2.0 * jnp.dot(primal[0], tangent[0])))
    problem = EqualityConstrained(lying, lambda x: jnp.stack([x[0] - 1.0]))
    state = _stopped(problem, jnp.array([1.0, 2.0]), gradient_penalty=1e-6)
    assert state.status == NewtonStatus.line_search


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sketch": "fourier"}, ValueError, "sketch"),
        ({"forcing": 0.0}, ValueError, "forcing"),
        ({"forcing": 1.5}, ValueError, "forcing"),
        ({"inverse_bound": "tight"}, (ValueError, TypeError), "inverse_bound"),
        ({"inverse_bound": 0.0}, ValueError, "inverse_bound"),
        ({"constraint_penalty": 0.0}, ValueError, "constraint_penalty"),
        ({"gradient_penalty": -1.0}, ValueError, "gradient_penalty"),
        ({"accuracy": 0.0}, ValueError, "accuracy"),
        ({"sufficient_decrease": 0.5}, ValueError, "sufficient_decrease"),
        ({"penalty_growth": 1.0}, ValueError, "penalty_growth"),
        ({"curvature": 0.0}, ValueError, "curvature"),
        ({"accuracy_floor": -1e-9}, ValueError, "accuracy_floor"),
        ({"max_sketches": 0}, ValueError, "max_sketches"),
        ({"max_sketches": 1.5}, TypeError, "max_sketches"),
    ],
    ids=str,
)
def test_hyperparameters_out_of_range_are_named(options, error, message):
    with pytest.raises(error, match=message):
        SketchedNewton(**options)


def test_starts_of_the_wrong_shape_are_named():
    method, key = SketchedNewton(), jax.random.key(0)
    with pytest.raises(ValueError, match="x0"):
        method.init(HS7, jnp.ones((2, 2)), key)
    with pytest.raises(ValueError, match="multipliers of shape"):
        method.init(HS7, PrimalDual(jnp.ones(2), jnp.ones(2)), key)
    with pytest.raises(ValueError, match="no start of its own"):
        method.init(EqualityConstrained(lambda x: x.sum(), lambda x: x[:1]), None, key)
    with pytest.raises(ValueError, match="constraints: must return"):
        method.init(EqualityConstrained(lambda x: x.sum(), lambda x: jnp.ones(3)), jnp.ones(2), key)
    with pytest.raises(ValueError, match="x0"):
        tt.solve(method, HS7, [jnp.nan, 1.0])


def test_armijo_asks_for_a_share_of_the_slope():
    method = SketchedNewton(sufficient_decrease=0.4)
    state = method.init(HS7, HS7.start, jax.random.key(0))
    found = method.direction(
        state.values, jnp.zeros(1), HS7.hessian(state.x), state.merit, state.accuracy, state.count,
        jax.random.key(0), state.status,
    )  # fmt: skip
    merit = ExactAugmentedLagrangian(found.merit.constraint_penalty, found.merit.gradient_penalty)
    for size in (1.0, 0.5, 0.25, 0.125, 1 / 64):
        point = PrimalDual(HS7.start + size * found.step[:2], size * found.step[2:])
        fell = merit(HS7, point) - merit(HS7, state.x) <= 0.4 * size * found.slope
        here, there = (state.values, state.x.multipliers), (Values.at(HS7, point.x), point.multipliers)
        assert method.sufficient(found, *here, *there, jnp.asarray(size)) == fell
