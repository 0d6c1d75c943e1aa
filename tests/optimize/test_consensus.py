"""Particle methods against CBXpy with the same increments, loops in NumPy, closed forms and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.optimize import ConsensusBased, ConsensusHopping, consensus_point, effective_sample_size
from tendsto.problems import DiagonalQuadratic, GrandCanyon, Objective, Rastrigin

RNG = np.random.default_rng(0)
PROBLEM = Rastrigin([0.0, 0.5, -0.3])
CENTRE = np.array([0.0, 0.5, -0.3])
CLOUD, INCREMENTS = 2 + RNG.standard_normal((30, 3)), RNG.standard_normal((40, 30, 3))


def rastrigin(x):
    v = x - CENTRE
    return np.sum(v**2 + 2.5 * (1 - np.cos(2 * np.pi * v)), axis=-1)


def weighted_mean(particles, alpha):
    energies = rastrigin(particles)
    weights = np.exp(-alpha * (energies - energies.min()))
    return (weights[:, None] * particles).sum(axis=0) / weights.sum()


def loop(alpha, lam, sigma, dt, isotropic, cap=np.inf, gamma=0.0, memory=None):
    """The scheme of the paper, written out particle by particle; alpha and sigma are functions of k."""
    particles, best = CLOUD.copy(), CLOUD.copy()
    path = [weighted_mean(particles, alpha(0))]
    for k, increment in enumerate(INCREMENTS):
        consensus, moved = path[-1], []
        for x, y, b in zip(particles, best, increment, strict=True):
            difference = x - consensus
            size = np.linalg.norm(difference) * np.ones(3) if isotropic else np.abs(difference)
            v = x - CENTRE
            gradient = 2 * v + 5 * np.pi * np.sin(2 * np.pi * v)
            noise = sigma(k) * np.sqrt(dt) * np.minimum(size, cap) * b
            pull = 0.0 if memory is None else memory * dt * (x - y)
            moved.append(x - lam * dt * difference - gamma * dt * gradient + noise - pull)
        particles = np.array(moved)
        best = np.array([x if rastrigin(x) < rastrigin(y) else y for x, y in zip(particles, best, strict=True)])
        path.append(weighted_mean(particles if memory is None else best, alpha(k + 1)))
    return np.array(path)


def path_of(method, problem=PROBLEM, increments=INCREMENTS, x0=CLOUD):
    state = method.init(problem, jnp.asarray(x0), jax.random.key(0))
    advance = jax.jit(lambda state, increment: method.advance(problem, state, increment))
    path = [state.x]
    for increment in increments:
        state = advance(state, jnp.asarray(increment))
        path.append(state.x)
    return np.array(path), state


@pytest.mark.parametrize("noise", ["isotropic", "anisotropic"])
@pytest.mark.parametrize(
    ("options", "written_out"),
    [
        ({}, {}),
        ({"truncation": 0.6}, {"cap": 0.6}),
        ({"gradient_drift": 0.1}, {"gamma": 0.1}),
        ({"memory_drift": 0.7}, {"memory": 0.7}),
        ({"memory_drift": 0.0}, {"memory": 0.0}),
        ({"inverse_temperature": lambda k: 2.0 + k}, {"alpha": lambda k: 2.0 + k}),
        ({"noise_strength": lambda k: 0.9 / (k + 1.0)}, {"sigma": lambda k: 0.9 / (k + 1)}),
        ({"drift": 20.0}, {"lam": 20.0}),  # λΔt = 1: the noise is that of the difference before the drift
    ],
    ids=["plain", "truncated", "gradients", "memory", "memory without drift", "cooled", "quietened", "all the way"],
)
def test_trajectory_is_that_of_the_scheme(noise, options, written_out):
    method = ConsensusBased(
        **{"particles": 30, "inverse_temperature": 5.0, "noise_strength": 0.8, "time_step": 0.05, "noise": noise}
        | options
    )
    plain = {"alpha": lambda k: 5.0, "lam": 1.0, "sigma": lambda k: 0.8, "dt": 0.05}
    expected = loop(isotropic=noise == "isotropic", **plain | written_out)
    path, state = path_of(method)
    np.testing.assert_allclose(path, expected, rtol=1e-8, atol=1e-10)
    assert float(state.cost.evaluations) == 30 * 41
    assert float(state.cost.gradients) == (30 * 40 if "gradient_drift" in options else 0)


@pytest.mark.parametrize("noise", ["isotropic", "anisotropic"])
def test_trajectory_is_that_of_cbx(noise):
    from cbx.dynamics import CBO

    drawn = iter(INCREMENTS)
    peer = CBO(
        rastrigin,
        f_dim="3D",
        check_f_dims=False,
        x=CLOUD[None],
        dt=0.05,
        lamda=1.3,
        sigma=0.8,
        alpha=5.0,
        noise=noise,
        max_it=len(INCREMENTS),
        verbosity=0,
        sampler=lambda size: next(drawn)[None],
        track_args={"names": ["consensus"]},
    )
    peer.optimize(sched=None)
    method = ConsensusBased(30, 5.0, 1.3, 0.8, 0.05, noise)
    state = method.init(PROBLEM, jnp.asarray(CLOUD), jax.random.key(0))
    path = [state.x]
    for increment in INCREMENTS:
        # The peer's anisotropic amplitude is the difference with its sign: the same law, another path.
        sign = 1.0 if noise == "isotropic" else jnp.sign(state.particles - state.x)
        state = method.advance(PROBLEM, state, jnp.asarray(sign * increment))
        path.append(state.x)
    # The peer records the consensus point that each step moves to.
    np.testing.assert_allclose(np.array(path[:-1]), np.array(peer.history["consensus"]).reshape(-1, 3)[-40:], rtol=1e-8)
    np.testing.assert_allclose(state.particles, peer.x[0], rtol=1e-8)


@pytest.mark.parametrize("noise", ["isotropic", "anisotropic"])
def test_memory_is_that_of_cbx(noise):
    from cbx.dynamics import CBOMemory

    drawn = (draw for increment in INCREMENTS for draw in (increment, np.zeros_like(increment)))
    peer = CBOMemory(
        rastrigin,
        f_dim="3D",
        check_f_dims=False,
        x=CLOUD[None],
        dt=0.05,
        lamda=1.3,
        sigma=0.8,
        lamda_memory=0.0,
        sigma_memory=0.0,
        alpha=5.0,
        noise=noise,
        max_it=len(INCREMENTS),
        verbosity=0,
        sampler=lambda size: next(drawn)[None],
    )
    peer.optimize(sched=None)
    method = ConsensusBased(30, 5.0, 1.3, 0.8, 0.05, noise, memory_drift=0.0)
    state = method.init(PROBLEM, jnp.asarray(CLOUD), jax.random.key(0))
    for increment in INCREMENTS:
        sign = 1.0 if noise == "isotropic" else jnp.sign(state.particles - state.x)
        state = method.advance(PROBLEM, state, jnp.asarray(sign * increment))
    np.testing.assert_allclose(state.particles, peer.x[0], rtol=1e-8)
    np.testing.assert_allclose(state.memories, peer.y[0], rtol=1e-8)
    np.testing.assert_allclose(state.memory_values, peer.energy[0], rtol=1e-8)


def test_memory_of_an_objective_that_only_falls_is_the_plain_method():
    """Where every particle improves in every step it remembers where it is."""
    start = CLOUD - CENTRE
    falling = Objective(lambda x: jnp.sum(x**2))
    options = {"particles": 30, "inverse_temperature": 1e-9, "noise_strength": 0.0, "time_step": 0.1}
    centred = start - start.mean(axis=0)
    plain, with_memory = (
        path_of(ConsensusBased(**options, memory_drift=drift), falling, x0=centred)[1] for drift in (None, 3.0)
    )
    np.testing.assert_array_equal(plain.particles, with_memory.particles)
    np.testing.assert_array_equal(with_memory.particles, with_memory.memories)
    assert plain.memories is None


@pytest.mark.parametrize("spread", [0.5, lambda k: 0.5 * 0.9**k])
def test_hopping_is_its_loop(spread):
    x = np.array([2.0, 1.0, -1.0])
    expected = [x]
    # Few steps: hopping over ripples amplifies rounding.
    for k, increment in enumerate(INCREMENTS[:10]):
        s = spread(k) if callable(spread) else spread
        expected.append(weighted_mean(expected[-1] + s * increment, 4.0))
    path, state = path_of(ConsensusHopping(30, 4.0, spread), increments=INCREMENTS[:10], x0=x)
    np.testing.assert_allclose(path, expected, rtol=1e-9, atol=1e-12)
    assert float(state.cost.evaluations) == 1 + 30 * 10


def test_annealed_spread_of_the_experiments():
    schedule = optax.exponential_decay(0.7, 100, 0.98, staircase=True)
    method = ConsensusHopping(2, 10.0, schedule)
    assert method.step_size(0) == pytest.approx(10.0 * 0.49)
    assert method.step_size(99) == pytest.approx(10.0 * 0.49)
    assert method.step_size(250) == pytest.approx(10.0 * 0.49 * 0.98**4)


def test_full_drift_without_noise_jumps_to_consensus():
    path, state = path_of(ConsensusBased(30, 5.0, drift=20.0, noise_strength=0.0, time_step=0.05))
    np.testing.assert_allclose(state.particles, np.broadcast_to(path[0], (30, 3)), atol=1e-12)
    np.testing.assert_allclose(path[1:], np.broadcast_to(path[0], (40, 3)), atol=1e-12)


def test_weights_at_any_temperature_and_with_useless_values():
    particles, values = jnp.arange(8.0).reshape(4, 2), jnp.array([3.0, 1e9, 2.0, 2.5])
    np.testing.assert_array_equal(consensus_point(particles, values, 1e15), particles[2])
    assert float(effective_sample_size(values, 1e15)) == 1.0
    assert float(effective_sample_size(jnp.zeros(4), 3.0)) == pytest.approx(4.0)
    values = np.array([np.nan, 1.0, np.inf, 1.0])
    np.testing.assert_allclose(
        consensus_point(np.asarray(particles), values, 7.0), particles[jnp.array([1, 3])].mean(0)
    )
    assert effective_sample_size(values, 7.0) == pytest.approx(2.0)
    weights = np.exp(-7.0 * np.array([0.0, 0.1, 0.3]))
    assert effective_sample_size(1e6 + np.array([0.0, 0.1, 0.3]), 7.0) == pytest.approx(
        weights.sum() ** 2 / (weights**2).sum(), rel=1e-6
    )


def test_run_records_the_consensus_and_the_diagnostics():
    record = {
        "x": lambda problem, state: state.x,
        "variance": lambda problem, state: state.variance,
        "size": lambda problem, state: state.effective_size,
    }
    method = ConsensusBased(40, 10.0, noise="isotropic", noise_strength=0.3, initial_spread=0.7)
    trace = tt.run(method, PROBLEM, [2.0, 2.0, 2.0], steps=30, seeds=3, points=range(30), record=record)
    assert trace["x"].shape == (3, 31, 3)
    np.testing.assert_array_equal(trace["x"].values[:, -1], trace.x)
    particles, x = np.asarray(trace.state.particles), np.asarray(trace.x)
    np.testing.assert_allclose(trace.final("variance"), ((particles - x[:, None]) ** 2).sum(-1).mean(-1), rtol=1e-12)
    for seed in range(3):
        assert trace.final("size")[seed] == pytest.approx(
            float(effective_sample_size(rastrigin(particles[seed]), 10.0)), rel=1e-9
        )
    assert np.all(trace["evaluations"].values[:, -1] == 40 * 31)
    first = tt.run(method, PROBLEM, [2.0, 2.0, 2.0], steps=0, seeds=400).state.particles
    assert np.std(np.asarray(first) - 2.0) == pytest.approx(0.7, rel=0.02)


def test_the_best_particle_is_remembered():
    method = ConsensusBased(5, 1.0, noise_strength=6.0, time_step=0.1)
    trace = tt.run(
        method,
        PROBLEM,
        [2.0, 2.0, 2.0],
        steps=30,
        points=range(30),
        record={"lowest": lambda problem, state: state.values.min(), "best": lambda problem, state: state.best_value},
    )
    np.testing.assert_array_equal(trace["best"].values, np.minimum.accumulate(trace["lowest"].values, axis=1))
    assert float(PROBLEM.objective(trace.state.best[0])) == pytest.approx(float(trace.state.best_value[0]))
    assert trace["best"].values[0, -1] < trace["lowest"].values[0, -1]


def test_a_grid_of_hyperparameters_runs_at_once():
    method = ConsensusBased(20, 30.0, noise_strength=0.5)
    grid = {"noise_strength": [0.0, 0.5], "inverse_temperature": [1.0, 100.0]}
    trace = tt.run(method, PROBLEM, [2.0, 2.0, 2.0], steps=10, seeds=2, grid=grid)
    alone = tt.run(ConsensusBased(20, 100.0, noise_strength=0.5), PROBLEM, [2.0, 2.0, 2.0], steps=10, seeds=2)
    chosen = trace.sel(noise_strength=0.5, inverse_temperature=100.0)
    np.testing.assert_allclose(chosen["objective"].values, alone["objective"].values, rtol=1e-10)


def test_consensus_is_reached_by_solve_and_finds_the_minimum():
    problem = DiagonalQuadratic([1.0, 3.0])
    method = ConsensusBased.theory(2, noise="isotropic", inverse_temperature=1e4, time_step=0.1)
    assert method.mean_field_rate(2) == pytest.approx(1.0)
    solution = tt.solve(method, problem, [3.0, -2.0], tol=1e-3, measure=lambda problem, state: state.variance**0.5)
    assert solution.converged
    assert float(problem.objective(solution.x)) < 1e-2


def test_theory_meets_its_conditions():
    for dimension in (1, 7):
        isotropic = ConsensusBased.theory(dimension, noise="isotropic", fraction=0.25)
        assert isotropic.mean_field_rate(dimension) == pytest.approx(1.5)
        assert float(isotropic.noise_strength) ** 2 * dimension == pytest.approx(0.5)
    assert ConsensusBased.theory(50).mean_field_rate(50) == pytest.approx(1.0)
    figure = ConsensusBased(noise_strength=1.6, noise="isotropic")
    assert figure.mean_field_rate(2) == pytest.approx(2 - 5.12)
    assert ConsensusHopping.theory(0.8, inverse_temperature=5.0).step_size() == pytest.approx(0.8)


def test_single_precision_particles_stay_so():
    small = Rastrigin(np.zeros(2, np.float32))
    x0 = jnp.full(2, 2.0, jnp.float32)
    schedule = optax.exponential_decay(1.0, 10, 0.9)
    for method in (
        ConsensusBased(10, schedule, noise_strength=schedule, gradient_drift=0.1),
        ConsensusHopping(10, schedule, schedule),
    ):
        assert tt.run(method, small, x0, steps=5).x.dtype == jnp.float32


def test_divergence_is_reported():
    trace = tt.run(ConsensusBased(5, noise_strength=1e3, time_step=1.0), PROBLEM, [1.0, 1.0, 1.0], steps=300)
    assert trace.diverged.all()
    nowhere = Objective(lambda x: jnp.sum(x) * jnp.nan)
    assert tt.run(ConsensusHopping(5), nowhere, [1.0], steps=3).diverged.all()


def test_particles_where_the_objective_is_nan_have_no_say():
    half = Objective(lambda x: jnp.where(x[0] > 0, jnp.sum(x**2), jnp.nan))
    for memory in (None, 1.0):
        trace = tt.run(ConsensusBased(50, 50.0, memory_drift=memory), half, [1.0, 1.0], steps=200)
        assert not trace.diverged.any()
        assert float(trace.state.best_value[0]) < 0.2


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: ConsensusBased(0), ValueError, "particles: must lie in"),
        (lambda: ConsensusBased(1), ValueError, "particles: must lie in"),
        (lambda: ConsensusBased(inverse_temperature=0.0), ValueError, "inverse_temperature: must"),
        (lambda: ConsensusBased(drift=-1.0), ValueError, "drift: must"),
        (lambda: ConsensusBased(noise_strength=-1.0), ValueError, "noise_strength: must"),
        (lambda: ConsensusBased(time_step=np.nan), ValueError, "time_step: must"),
        (lambda: ConsensusBased(truncation=0.0), ValueError, "truncation: must"),
        (lambda: ConsensusBased(initial_spread=-1.0), ValueError, "initial_spread: must"),
        (lambda: ConsensusBased(gradient_drift=-1.0), ValueError, "gradient_drift: must"),
        (lambda: ConsensusBased(memory_drift=-1.0), ValueError, "memory_drift: must"),
        (lambda: ConsensusBased.theory(2, fraction=1.0), ValueError, "fraction: must"),
        (lambda: ConsensusHopping(0), ValueError, "particles: must lie in"),
        (lambda: ConsensusHopping(spread=-0.1), ValueError, "spread: must"),
        (lambda: ConsensusHopping.theory(0.0), ValueError, "step_size: must"),
        (lambda: tt.run(ConsensusBased(9), PROBLEM, np.zeros((8, 3)), steps=1), ValueError, "x0: expected a vector"),
        (lambda: tt.run(ConsensusHopping(9), PROBLEM, np.zeros((9, 3)), steps=1), ValueError, "x0: expected a vector"),
        (lambda: tt.run(ConsensusBased(9), PROBLEM, [np.inf, 0.0, 0.0], steps=1), ValueError, "x0: must be finite"),
    ],
)
def test_bad_input_is_named(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_unknown_noise_is_refused():
    with pytest.raises((ValueError, TypeError), match="noise"):
        ConsensusBased(noise="pink")


def test_the_figures_setting_crosses_the_canyon():
    method = ConsensusBased(200, 100.0, 1.0, 1.6, 0.01, "isotropic", 0.5)
    trace = tt.run(method, GrandCanyon.noisy(), [8.0, 8.0], steps=250, seeds=10)
    assert np.all(np.linalg.norm(trace.x, axis=1) < 0.5)
