"""Private SpiderBoost and noisy gradient descent: means, noise and bookkeeping against NumPy, optax, closed forms."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.optimize import Optax
from tendsto.optimize.private import (
    NoisyGradientDescent,
    PrivateSpiderBoost,
    RecordMean,
    minimise,
    private_spider,
    spiderboost_parameters,
    theorem_parameters,
    unit_noise,
    zcdp_rho,
)
from tendsto.optimize.private.method import whole
from tendsto.problems import BoundedSigmoid, HuberLocation, LogisticRegression, Objective, clip_rows

RNG = np.random.default_rng(1)
N, D, SEEDS = 30, 4, 1500
ROWS = RNG.standard_normal((N, D))
PROBLEM = BoundedSigmoid(clip_rows(jnp.asarray(ROWS), 1.0), RNG.integers(0, 2, N), 1.0, 0.2)
UNBOUNDED = LogisticRegression(3 * ROWS, RNG.integers(0, 2, N))
START = jnp.array([0.5, -1.0, 0.2, 0.3])
METHOD = PrivateSpiderBoost(
    step_size=0.7,
    lipschitz=0.4,
    smoothness=0.6,
    anchor_deviation=0.3,
    variation_deviation=0.5,
    variation_ceiling=0.13,
    period=3,
    steps=7,
)
RECORD = {"iterate": lambda problem, state: state.x, "estimate": lambda problem, state: state.estimate}


def transcript(method, problem=PROBLEM, seeds=SEEDS, steps=None):
    steps = int(method.steps) if steps is None else steps
    trace = tt.run(method, problem, START, steps=steps, seeds=seeds, points=range(steps), record=RECORD, key=5)
    return trace, trace["iterate"].values, trace["estimate"].values


def clipped(rows, bound):
    return rows * np.minimum(1, bound / np.linalg.norm(rows, axis=-1, keepdims=True))


def gradients(problem, x):
    """Records' gradients at the point of each seed, shape `(seeds, n, d)`."""
    return np.asarray(_gradients(problem, jnp.asarray(x)))


@jax.jit
def _gradients(problem, points):
    return jax.vmap(lambda point: problem.component_gradients(point, jnp.arange(N)))(points)


@pytest.mark.parametrize("clip", [False, True])
def test_estimates_are_means_plus_noise_of_the_stated_deviation(clip):
    problem = UNBOUNDED if clip else PROBLEM
    means = RecordMean(clip=clip)
    _, x, g = transcript(dataclasses.replace(METHOD, anchors=means, variations=means), problem)
    capped = 0.0
    for t in range(7):
        now = gradients(problem, x[:, t])
        if t % 3 == 0:
            mean, deviation = (clipped(now, 0.4) if clip else now).mean(1), np.full(SEEDS, 0.3)
        else:
            length = np.linalg.norm(x[:, t] - x[:, t - 1], axis=1)
            change = now - gradients(problem, x[:, t - 1])
            change = clipped(change, np.minimum(0.6 * length, 0.8)[:, None, None]) if clip else change
            mean, deviation = g[:, t] + change.mean(1), np.minimum(0.5 * length, 0.13)
            capped += np.mean(deviation == 0.13)
        noise = (g[:, t + 1] - mean) / deviation[:, None]
        # Standard normal: mean, variance and covariance, each within five standard errors.
        assert np.abs(noise.mean(0)).max() < 5 / math.sqrt(SEEDS)
        assert np.abs(noise.T @ noise / SEEDS - np.eye(D)).max() < 5 * math.sqrt(2 / SEEDS)
        np.testing.assert_allclose(x[:, t + 1], x[:, t] - 0.7 * g[:, t + 1], rtol=1e-12)
    assert 0.2 < capped < 3.8  # both arms of the minimum were seen


def test_noise_is_independent_from_step_to_step_and_from_seed_to_seed():
    _, x, g = transcript(METHOD)
    noise = np.stack([g[:, t + 1] - gradients(PROBLEM, x[:, t]).mean(1) for t in (0, 3, 6)])
    for i in range(3):
        for j in range(i):
            assert np.abs(noise[i].T @ noise[j] / SEEDS / 0.09).max() < 5 / math.sqrt(SEEDS)
    assert np.unique(noise[0], axis=0).shape == (SEEDS, D)


def test_sampled_means_have_the_moments_of_a_poisson_sample():
    batches = RecordMean(sampling=0.3)
    quiet = dataclasses.replace(
        METHOD, anchor_deviation=0.0, variation_deviation=0.0, anchors=batches, variations=batches, period=2, steps=2
    )
    trace, x, g = transcript(quiet, seeds=4000)
    first = np.asarray(PROBLEM.component_gradients(START, jnp.arange(N)))
    expected = first.mean(0)
    np.testing.assert_allclose(g[:, 1].mean(0), expected, atol=5 * g[:, 1].std(0).max() / math.sqrt(4000))
    # Each record is in the batch or not, on its own: variance (1 - p)/(p n^2) times the sum of squares.
    variance = (0.7 / 0.3) * (first**2).sum(0) / N**2
    np.testing.assert_allclose(g[:, 1].var(0), variance, rtol=0.15)
    change = gradients(PROBLEM, x[:, 1]) - gradients(PROBLEM, x[:, 0])
    released = g[:, 2] - g[:, 1]
    assert np.abs((released - change.mean(1)).mean(0)).max() < 5 * released.std() / math.sqrt(4000)
    # Both gradients of a change on the same batch, or its variance would be that of two gradients.
    variance = (0.7 / 0.3) * (change**2).sum(1).mean(0) / N**2
    np.testing.assert_allclose((released - change.mean(1)).var(0), variance, rtol=0.2)
    spent = trace.final("gradients")
    assert spent.mean() == pytest.approx(0.3 * N + 2 * 0.3 * N, rel=0.03)
    assert spent.std() > 0


def test_output_is_uniform_among_the_iterates_and_spent_methods_stand_still():
    trace, x, _ = transcript(METHOD, steps=12)
    same = (np.abs(np.asarray(trace.state.output)[:, None] - x) < 1e-12).all(-1)
    assert (same[:, 1:8].sum(1) == 1).all()
    counts = same[:, 1:8].sum(0)
    assert np.abs(counts - SEEDS / 7).max() < 5 * math.sqrt(SEEDS / 7)
    np.testing.assert_array_equal(x[:, 8:], np.repeat(x[:, 7:8], 5, axis=1))
    assert (trace.final("gradients") == 3 * N + 4 * 2 * N).all()


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_without_noise_it_is_gradient_descent(scale):
    peer = tt.run(Optax(optax.sgd(0.7)), PROBLEM, START, steps=7, points=1).x[0]
    quiet = dataclasses.replace(
        METHOD, anchor_deviation=0.0, variation_deviation=scale * 0.0, variation_ceiling=scale * 0.1
    )
    np.testing.assert_allclose(tt.run(quiet, PROBLEM, START, steps=7, points=1).x[0], peer, rtol=1e-12)
    silent = NoisyGradientDescent(0.7, 1.0, 0.0, steps=7)
    np.testing.assert_allclose(tt.run(silent, PROBLEM, START, steps=7, points=1).x[0], peer, rtol=1e-12)


def test_huge_budget_agrees_with_gradient_descent():
    method = PrivateSpiderBoost.calibrated(PROBLEM, START, epsilon=1e8, delta=1e-5, initial_gap=1.0, most_steps=50)
    assert int(method.steps) == 50
    peer, gradient = START, jax.jit(lambda x: PROBLEM.gradient(x))
    for _ in range(50):
        peer = peer - method.step_size * gradient(peer)
    np.testing.assert_allclose(tt.run(method, PROBLEM, START, steps=50, points=1).x[0], peer, atol=2e-3)


@pytest.mark.parametrize("sampling", [1.0, 0.4])
def test_noisy_gradient_descent_steps(sampling):
    method = NoisyGradientDescent(0.5, 0.35, 0.2, RecordMean(sampling, clip=True), steps=1)
    trace = tt.run(method, UNBOUNDED, START, steps=1, seeds=4000)
    released = -(np.asarray(trace.x) - np.asarray(START)) / 0.5
    rows = clipped(np.asarray(UNBOUNDED.component_gradients(START, jnp.arange(N))), 0.35)
    assert np.abs(released.mean(0) - rows.mean(0)).max() < 5 * released.std() / math.sqrt(4000)
    variance = (1 - sampling) / sampling * (rows**2).sum(0) / N**2 + 0.04
    np.testing.assert_allclose(released.var(0), variance, rtol=0.12)


def test_clipped_mean_is_that_of_optax():
    aggregate = optax.contrib.differentially_private_aggregate(0.35, 0.0, 0)
    rows = UNBOUNDED.component_gradients(START, jnp.arange(N))
    theirs, _ = aggregate.update(rows, aggregate.init(START))
    ours = RecordMean(clip=True).gradient(UNBOUNDED, START, 0.35, jax.random.key(0))[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_releases_are_derived_from_the_noise():
    anchors, variations = METHOD.releases(N)
    assert (anchors.count, variations.count) == (3, 4)
    assert anchors.noise_multiplier == pytest.approx(0.3 * N / 0.4)
    # The ceiling protects a change of 2 L0 / n less than the other arm does one of L1 |Δw| / n.
    assert variations.noise_multiplier == pytest.approx(0.13 * N / 0.8)
    wide = dataclasses.replace(METHOD, variation_ceiling=100.0)
    assert wide.releases(N)[1].noise_multiplier == pytest.approx(0.5 * N / 0.6)
    sampled = dataclasses.replace(METHOD, variations=RecordMean(0.2)).releases(N)[1]
    assert sampled.noise_multiplier == pytest.approx(0.13 * 0.2 * N / 0.8)
    assert sampled.sampling == 0.2
    noisy = NoisyGradientDescent(0.5, 0.35, 0.2, RecordMean(0.4), steps=9).releases(N)[0]
    assert (noisy.count, noisy.sampling) == (9, 0.4)
    assert noisy.noise_multiplier == pytest.approx(0.2 * 0.4 * N / 0.35)


BUDGET = {"epsilon": 1.0, "delta": 1e-5}
BIG = HuberLocation(jnp.zeros((20_000, 2)))


BUILDERS = {
    "calibrated": lambda: PrivateSpiderBoost.calibrated(BIG, jnp.ones(2), **BUDGET, initial_gap=1.0),
    "theory": lambda: PrivateSpiderBoost.theory(BIG, jnp.ones(2), **BUDGET, initial_gap=1.0),
    "descent": lambda: NoisyGradientDescent.theory(BIG, jnp.ones(2), **BUDGET, initial_gap=1.0),
    "sampled": lambda: NoisyGradientDescent.calibrated(BIG, **BUDGET, steps=100, step_size=1.0, batch_size=200),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_built_methods_spend_their_budget(name):
    spent = BUILDERS[name]().privacy(20_000, 1e-5)
    assert 1.0 - 1e-4 <= spent.epsilon <= 1.0
    with jax.enable_x64(False):  # rounding to 32 bits takes the noise below the budget's no more than 64 bits do
        assert 1.0 - 1e-4 <= BUILDERS[name]().privacy(20_000, 1e-5).epsilon <= 1.0


def test_theory_has_the_batches_and_the_noise_of_the_theorem():
    gap, (n, d) = 30.0, (20_000, 2)
    method = PrivateSpiderBoost.theory(BIG, jnp.ones(2), **BUDGET, initial_gap=gap)
    constants = {"lipschitz": 1.0, "smoothness": 1.0, "initial_gap": gap} | BUDGET
    steps, period, batch = theorem_parameters(n, d, **constants)
    assert (int(method.steps), int(method.period)) == (steps, period)
    assert steps > 4 * period
    assert (method.anchors.sampling, method.variations.sampling) == (1.0, batch / n)
    # sigma_1 over sigma_2, and the ceiling over sigma_2; L0 and L1 are 1.
    ratio = max(1 / n, math.sqrt(steps / period) / n) / max(1 / batch, math.sqrt(steps) / n)
    assert float(method.anchor_deviation / method.variation_deviation) == pytest.approx(ratio, rel=1e-9)
    assert float(method.variation_ceiling / method.variation_deviation) == pytest.approx(2.0, rel=1e-12)
    assert float(method.step_size) == 0.5


def brute_force(n, d, lipschitz, smoothness, gap, multiplier, horizons):
    """The rule of the parameters in Python integers, one horizon after the other."""
    best = (math.inf,)
    for steps in horizons:
        variance = 2 * steps * (multiplier * smoothness / n) ** 2
        period = 1
        while period * d * variance <= 2 * smoothness**2:
            period += 1
        anchors = len(range(0, steps, period))
        deviation = math.sqrt(2 * anchors) * multiplier * lipschitz / n
        bound = 4 * smoothness * gap / steps + d * deviation**2
        best = min(best, (bound, steps, period, anchors, deviation, math.sqrt(variance)))
    return best


def test_parameters_against_brute_force():
    settings = {"lipschitz": 1.5, "smoothness": 0.7, "initial_gap": 2.0, "noise_multiplier": 8.0}
    found = spiderboost_parameters(900, 10, **settings)
    bound, *_ = brute_force(900, 10, 1.5, 0.7, 2.0, 8.0, range(1, 900**2 // 640 + 2))
    assert bound <= found.certificate <= 1.001 * bound
    same = brute_force(900, 10, 1.5, 0.7, 2.0, 8.0, [found.steps])
    assert same[1:4] == (found.steps, found.period, found.anchors)
    np.testing.assert_allclose(same[4:], (found.anchor_deviation, found.variation_deviation), rtol=1e-12)
    assert found.variation_ceiling == pytest.approx(2 * 1.5 / 0.7 * found.variation_deviation)
    # The certificate's condition, and that a longer period would break it.
    assert (found.period - 1) * 10 * found.variation_deviation**2 <= 2 * 0.7**2
    assert found.period * 10 * found.variation_deviation**2 > 2 * 0.7**2
    assert float(found.method().step_size) == pytest.approx(0.5 / 0.7)


def test_parameters_at_the_zcdp_rate():
    # rho-zCDP with replaced records allows noise multipliers z_j with the sum of 2/z_j^2 equal to rho.
    rho = zcdp_rho(1.0, 1e-5)
    found = spiderboost_parameters(
        3000, 50, lipschitz=1.0, smoothness=1.0, initial_gap=4.099, noise_multiplier=math.sqrt(2 / rho)
    )
    assert found.anchor_deviation**2 == pytest.approx(4 * found.anchors / (3000**2 * rho), rel=1e-9)
    assert found.variation_deviation**2 == pytest.approx(4 * found.steps / (3000**2 * rho), rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # With sqrt(d log(1/delta)) = 1 the unit is 1/(n eps); gap, L0 and L1 are 1 unless given.
        ({"records": 1000, "dimension": 1, "delta": math.exp(-1)}, (10_000, 100, 100)),
        ({"records": 1000, "dimension": 4, "delta": math.exp(-1)}, (3968, 62, 63)),
        ({"records": 1000, "dimension": 1, "delta": math.exp(-1), "smoothness": 8.0}, (20_000, 50, 50)),
        ({"records": 1000, "dimension": 1, "delta": math.exp(-1), "initial_gap": 8.0}, (20_000, 50, 50)),
        ({"records": 1000, "dimension": 1, "delta": math.exp(-1), "lipschitz": 8.0}, (2500, 400, 400)),
        ({"records": 125, "dimension": 1, "delta": math.exp(-1), "epsilon": 8.0}, (10_000, 100, 100)),
        ({"records": 8, "dimension": 4, "delta": math.exp(-4), "initial_gap": 1 / 64}, (2, 2, 8)),
    ],
)
def test_parameters_of_the_theorem(settings, expected):
    chosen = {"lipschitz": 1.0, "smoothness": 1.0, "initial_gap": 1.0, "epsilon": 1.0} | settings
    steps, period, batch = theorem_parameters(**chosen)
    # Cubes of floating-point cube roots may fall short of an integer by one.
    assert np.abs(np.subtract((steps, period, batch), expected)).max() <= 1


def test_optax_form_is_the_method_and_its_noise_has_the_stated_deviation():
    start = {"a": START[:2], "b": START[2:]}
    tree = lambda x: {"a": x[:, :2], "b": x[:, 2:]}  # noqa: E731
    options = {"lipschitz": 0.4, "smoothness": 0.6, "period": 3, "batch_size": N}
    quiet = private_spider(anchor_noise=0.0, variation_noise=0.0, **options)
    bound, update = RecordMean(clip=True), jax.jit(quiet.update)
    for step_size in (0.7, 40.0):  # changes within L1 times the step, and within twice L0
        method = dataclasses.replace(
            METHOD, anchor_deviation=0.0, variation_deviation=0.0, anchors=bound, variations=bound, step_size=step_size
        )
        _, x, _ = transcript(method, UNBOUNDED)  # as many seeds as before: no new program
        params, state = start, quiet.init(start)
        for t in range(7):
            flat = jnp.concatenate([params["a"], params["b"]])
            np.testing.assert_allclose(flat, x[0, t], rtol=1e-9)
            before = jnp.concatenate([state.params["a"], state.params["b"]])
            now, previous = (gradients(UNBOUNDED, point[None])[0] for point in (flat, before))
            updates, state = update(tree(now), state, params, previous=tree(previous))
            params = jax.tree.map(lambda p, u, step_size=step_size: p - step_size * u, params, updates)

    loud = private_spider(anchor_noise=2.0, variation_noise=3.0, key=7, **options)
    zeros = jnp.zeros((N, D))

    def two_updates(key):
        state = dataclasses.replace(loud.init(START), key=key)
        first, state = loud.update(zeros, state, START, previous=zeros)
        second, state = loud.update(zeros, state, START + 0.1, previous=zeros)
        third, _ = loud.update(zeros, state, START + 99.0, previous=zeros)
        return first, second - first, third - second

    anchor, near, far = jax.vmap(two_updates)(jax.random.split(jax.random.key(0), 4000))
    assert anchor.std() == pytest.approx(2.0 * 0.4 / N, rel=0.03)
    assert near.std() == pytest.approx(3.0 * 0.6 * 0.2 / N, rel=0.03)
    assert far.std() == pytest.approx(2 * 3.0 * 0.4 / N, rel=0.03)
    assert abs(float(jnp.mean(anchor * near))) < 5 * float(anchor.std() * near.std()) / 120


def test_result_carries_its_privacy():
    small = HuberLocation(jnp.zeros((300, 2)))
    method = PrivateSpiderBoost.calibrated(small, jnp.ones(2), epsilon=1.0, delta=1e-5, initial_gap=1.0)
    result = minimise(method, small, jnp.ones(2), delta=1e-5, key=3, points=1)
    assert result.privacy == method.privacy(300, 1e-5)
    assert result.finite
    assert result.x.shape == (2,)
    assert result.trace["step"].values[-1] == int(method.steps)
    wild = dataclasses.replace(method, step_size=1e308, anchor_deviation=10.0, steps=9)
    assert not minimise(wild, small, jnp.ones(2), delta=1e-5, points=1).finite


def test_seeds_and_grids_of_noise_run_together_and_repeat():
    grid = {"anchor_deviation": [0.0, 0.1], "variation_deviation": [0.0, 0.2]}
    first, second = (tt.run(METHOD, PROBLEM, START, steps=7, seeds=3, grid=grid, key=9).x for _ in range(2))
    np.testing.assert_array_equal(first, second)
    first = np.reshape(first, (2, 2, 3, D))
    np.testing.assert_array_equal(first[0, 0, 0], first[0, 0, 1])
    assert not np.array_equal(first[1, 0, 0], first[1, 0, 1])


def test_single_precision_stays_single():
    small = HuberLocation(jnp.zeros((50, 3), jnp.float32))
    trace = tt.run(METHOD, small, jnp.ones(3, jnp.float32), steps=4)
    assert trace.x.dtype == jnp.float32
    assert trace.state.estimate.dtype == jnp.float32


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dataclasses.replace(METHOD, step_size=0.0), "step_size: must lie in"),
        (lambda: dataclasses.replace(METHOD, anchor_deviation=-1.0), "anchor_deviation: must lie in"),
        (lambda: dataclasses.replace(METHOD, variation_deviation=np.nan), "variation_deviation: must lie in"),
        (lambda: dataclasses.replace(METHOD, period=0), "period: must lie in"),
        (lambda: dataclasses.replace(METHOD, steps=0), "steps: must lie in"),
        (lambda: whole("steps", 7.5), "steps: expected an integer, got 7.5"),
        (lambda: RecordMean(sampling=0.0), "sampling: must lie in"),
        (
            lambda: PrivateSpiderBoost.calibrated(UNBOUNDED, START, **BUDGET, initial_gap=1.0),
            "problem: LogisticRegression has no Lipschitz constant",
        ),
        (
            lambda: PrivateSpiderBoost.calibrated(PROBLEM, START, epsilon=0.0, delta=1e-5, initial_gap=1.0),
            "epsilon: must lie in",
        ),
        (
            lambda: PrivateSpiderBoost.calibrated(PROBLEM, START, epsilon=1.0, delta=1.0, initial_gap=1.0),
            "delta: must lie strictly",
        ),
        (lambda: PrivateSpiderBoost.calibrated(PROBLEM, START, **BUDGET, initial_gap=0.0), "initial_gap: must lie in"),
        (
            lambda: PrivateSpiderBoost.theory(PROBLEM, START, epsilon=0.05, delta=1e-5, initial_gap=1.0),
            "records: the theorem requires at least",
        ),
        (
            lambda: NoisyGradientDescent.calibrated(PROBLEM, **BUDGET, steps=5, step_size=1.0, batch_size=31),
            r"batch_size: must lie in \[1, 30\], got 31",
        ),
        (
            lambda: NoisyGradientDescent.calibrated(PROBLEM, **BUDGET, steps=0, step_size=1.0),
            "steps: must lie in",
        ),
        (
            lambda: private_spider(
                lipschitz=1.0, smoothness=1.0, anchor_noise=-1.0, variation_noise=1.0, period=2, batch_size=4
            ),
            "anchor_noise: must lie in",
        ),
        (lambda: tt.run(METHOD, PROBLEM, jnp.array([jnp.nan] * 4), steps=1), "x0: must be finite"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build()


def test_clipping_and_sampling_need_records():
    function = Objective(lambda x: jnp.sum(x**2))
    for means in (RecordMean(clip=True), RecordMean(sampling=0.5)):
        with pytest.raises(TypeError, match="problem: clipping and sampling need a FiniteSum"):
            tt.run(dataclasses.replace(METHOD, anchors=means), function, START, steps=1)
    with pytest.raises(TypeError, match="problem"):
        minimise(METHOD, function, START, delta=1e-5)


def test_unit_noise_agrees_with_calibrated_parameters():
    method = PrivateSpiderBoost.calibrated(BIG, jnp.ones(2), **BUDGET, initial_gap=1.0)
    plain = spiderboost_parameters(
        20_000, 2, lipschitz=1.0, smoothness=1.0, initial_gap=1.0, noise_multiplier=unit_noise(1.0, 1e-5)
    )
    # Half the budget was set aside for as many corrections as steps; the anchors are not corrected, so a bit is left.
    assert 0.8 < float(method.anchor_deviation) / plain.anchor_deviation < 1.0
