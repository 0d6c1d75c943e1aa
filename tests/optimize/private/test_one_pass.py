"""Methods that use each record once: the tree and recursive regularisation, against transcriptions and closed forms."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tendsto as tt
from tendsto.optimize.private import (
    NoisyGradientSolver,
    PhasedSolver,
    RecursiveRegularization,
    TreeSpider,
    minimise,
    samples_per_round,
)
from tendsto.problems import BoundedHuber, BoundedLogistic, FiniteSum, LogisticRegression, clip_rows

RNG = np.random.default_rng(2)
N, D = 400, 3
ROWS = np.asarray(clip_rows(jnp.asarray(RNG.standard_normal((N, D))), 1.0))
PROBLEM = BoundedLogistic(ROWS, RNG.integers(0, 2, N), 1.0, 0.1)
START = jnp.array([1.0, -2.0, 0.5])
TREE = TreeSpider(
    depth=3,
    batch=16,
    lipschitz=1.2,
    smoothness=0.5,
    length=0.4,
    tolerance=0.0,
    root_deviation=0.0,
    child_deviation=0.0,
    steps=16,
)


class Linear(FiniteSum):
    """Records' gradients that do not depend on the point, so that whatever varies is noise."""

    slopes: jax.Array

    @property
    def components(self):
        return self.slopes.shape[0]

    def smooth_part(self, x):
        return jnp.mean(self.slopes @ x)

    def component_gradients(self, x, indices):
        return self.slopes[indices]

    @property
    def component_smoothness(self):
        return jnp.zeros(self.components)

    @property
    def lipschitz(self):
        return 1.0

    @property
    def smoothness(self):
        return 1.0


def depth_first(method, problem, order, rounds):
    """Algorithm 1 without noise, by recursion over nodes written as bit strings; leaves, batches and the output."""
    depth, batch = method.depth, method.batch
    gradient = jax.jit(lambda w, rows: problem.component_gradients(w, rows).mean(0))
    stream, batches, leaves = iter(np.asarray(order)), [], []
    w, g = {}, {}

    def draw(size):
        rows = np.array([next(stream) for _ in range(size)])
        batches.append(rows)
        return rows

    def visit(node, following):
        if node == "":
            w[node] = following
            g[node] = np.asarray(gradient(w[node], draw(batch)))
        elif node[-1] == "0":
            w[node], g[node] = w[node[:-1]], g[node[:-1]]
        else:
            w[node] = following
            rows = draw(batch // 2 ** len(node))
            change = gradient(w[node], rows) - gradient(w[node[:-1]], rows)
            g[node] = g[node[:-1]] + np.asarray(change)
        if len(node) == depth:
            leaves.append(w[node])
            norm = np.linalg.norm(g[node])
            if norm <= 2 * float(method.tolerance):
                raise StopIteration
            step = float(method.length) / (2 ** (depth / 2) * float(method.smoothness) * norm)
            return w[node] - step * g[node]
        return visit(node + "1", visit(node + "0", following))

    following = np.asarray(START)
    for _ in range(rounds):
        following = visit("", following)
    return np.array(leaves), batches, following


def iterate(problem, state):
    return state.x


def leaf_estimate(problem, state):
    return state.estimates[-1]


# Runs with equal options and 21 recorded steps share one compiled program.
OPTIONS = {"points": range(20), "record": {"iterate": iterate}}


@pytest.fixture(scope="module")
def two_rounds():
    return tt.run(TREE, PROBLEM, START, steps=20, **OPTIONS)


def test_tree_is_the_recursion_over_its_nodes(two_rounds):
    trace = two_rounds
    leaves, batches, last = depth_first(TREE, PROBLEM, trace.state.order[0], rounds=2)
    np.testing.assert_allclose(trace["iterate"].values[0, :16], leaves, rtol=1e-10)
    np.testing.assert_allclose(trace.x[0], last, rtol=1e-10)
    used = np.concatenate(batches)
    assert len(np.unique(used)) == len(used) == 2 * samples_per_round(16, 3) == int(trace.state.used[0])
    assert np.sort(trace.state.order[0]).tolist() == list(range(N))
    children = sum(size * count for size, count in ((8, 1), (4, 2), (2, 4)))
    assert trace.final("gradients")[0] == 2 * (16 + 2 * children)
    # The output is a leaf, and nothing moves once all leaves are visited.
    assert (leaves == np.asarray(trace.state.output[0])).all(-1).any() or np.isclose(
        leaves, np.asarray(trace.state.output[0])
    ).all(-1).any()
    np.testing.assert_array_equal(trace["iterate"].values[0, 16:], np.tile(trace.x[0], (5, 1)))
    assert int(trace.state.count[0]) == 16


def test_tree_steps_have_one_length(two_rounds):
    lengths = np.linalg.norm(np.diff(two_rounds["iterate"].values[0, :17], axis=0), axis=1)
    np.testing.assert_allclose(lengths, 0.4 / (2**1.5 * 0.5), rtol=1e-10)


def test_tree_stops_where_its_test_fires_and_returns_that_leaf():
    noisy = dataclasses.replace(TREE, tolerance=0.02, root_deviation=0.1)
    trace = tt.run(noisy, PROBLEM, START, steps=16, seeds=800, points=range(17), record={"iterate": iterate})
    stopped = np.asarray(trace.state.stopped)
    assert 40 < stopped.sum() < 760
    x, count = trace["iterate"].values, np.asarray(trace.state.count)
    for seed in np.flatnonzero(stopped):
        final = x[seed, -1]
        np.testing.assert_array_equal(trace.state.output[seed], final)
        assert (x[seed, count[seed] - 1 :] == final).all()
        assert np.linalg.norm(trace.state.estimates[seed, -1]) <= 0.04
    for seed in np.flatnonzero(~stopped):
        assert count[seed] == 16
        assert (x[seed, :16] == np.asarray(trace.state.output[seed])).all(-1).sum() == 1
    # Among runs that never stop, the output is a uniformly random leaf.
    free = tt.run(TREE, PROBLEM, START, steps=16, seeds=800, points=range(17), record={"iterate": iterate})
    place = (free["iterate"].values[:, :16] == np.asarray(free.state.output)[:, None]).all(-1)
    assert np.abs(place.sum(0) - 50).max() < 5 * math.sqrt(50)


@pytest.mark.parametrize("where", ["root", "child"])
def test_tree_noise_is_the_stated_one_and_sums_by_the_bits_of_the_leaf(where):
    problem = Linear(jnp.ones((N, D)))
    method = dataclasses.replace(TREE, **{f"{where}_deviation": 0.25})
    record = {"estimate": leaf_estimate}
    trace = tt.run(method, problem, START, steps=8, seeds=3000, points=range(9), record=record)
    variance = trace["estimate"].values[:, 1:].var(0).mean(-1)
    bits = [leaf.bit_count() for leaf in range(8)]
    expected = np.ones(8) if where == "root" else np.array(bits)
    np.testing.assert_allclose(variance, 0.0625 * expected, rtol=0.06, atol=1e-12)


def test_tree_settings_of_the_theorem():
    problem = Linear(jnp.ones((8000, 4)))
    tree = TreeSpider.theory(problem, START[:4], epsilon=4.0, delta=1e-5, tolerance=0.1)
    # d = 3: b = max(400, sqrt(2000) 3^(1/4)) = 400, D 2^(D+1) <= 400 gives D = 5; 400 is cut up to 416 = 13 * 32.
    assert (tree.depth, tree.batch) == (5, 416)
    assert samples_per_round(416, 5) == 416 * 7 // 2
    assert int(tree.steps) == 32 * (8000 // 1456)
    alpha = math.sqrt(2) * max(1 / 20, math.sqrt(math.sqrt(3) / 32000))
    beta = alpha * min(1, math.sqrt(416 * 4 / 3))
    assert float(tree.length) == pytest.approx(beta, rel=1e-6)
    spent = tree.privacy(8000, 1e-5)
    assert 4 * (1 - 1e-5) <= spent.epsilon <= 4
    assert "parallel composition" in spent.accounting
    # Both kinds of release have the same ratio of noise to the norm of a record's contribution.
    assert float(tree.root_deviation) * 416 == pytest.approx(
        float(tree.child_deviation) * 416 / (2**2.5 * beta), rel=1e-6
    )
    louder = dataclasses.replace(tree, child_deviation=tree.child_deviation * 2)
    assert louder.privacy(8000, 1e-5).epsilon == pytest.approx(spent.epsilon, rel=1e-12)
    quieter = dataclasses.replace(tree, child_deviation=tree.child_deviation / 2)
    assert quieter.privacy(8000, 1e-5).epsilon > 1.9 * spent.epsilon
    full = TreeSpider.theory(problem, START, epsilon=4.0, delta=1e-5, initial_gap=1.0)
    rounds, width = 5, math.sqrt(10) * 3.5
    constant = 256 * math.log(1.25e5) * math.log(2 * rounds * 64 / 0.1) + 4 * width
    assert float(full.tolerance) == pytest.approx(constant * alpha, rel=1e-6)


def test_changes_in_the_tree_stay_within_what_the_noise_is_scaled_to(two_rounds):
    # For any node the parameters are at most 2^(D-k) steps from its parent's.
    x = two_rounds["iterate"].values[0]
    for leaf in range(1, 8):
        level = 3 - ((leaf & -leaf) - 1).bit_count()
        parent = leaf - 2 ** (3 - level)
        change = np.linalg.norm(x[leaf] - x[parent]) * 0.5
        assert change <= 2 ** (3 - level) * 0.4 / 2**1.5 * (1 + 1e-9)
    wild = LogisticRegression(50 * ROWS, RNG.integers(0, 2, N))
    clipped = dataclasses.replace(TREE, clip=True)
    record = {"estimate": leaf_estimate}
    estimates = tt.run(clipped, wild, START, steps=8, points=range(9), record=record)["estimate"].values[0, 1:]
    assert np.linalg.norm(estimates[0]) <= 1.2
    for leaf in range(1, 8):
        level = 3 - ((leaf & -leaf) - 1).bit_count()
        jump = np.linalg.norm(estimates[leaf] - estimates[leaf - 2 ** (3 - level)])
        assert jump <= 2**1.5 * 0.4 / 2**level * (1 + 1e-9)


def test_no_record_is_used_twice_whatever_the_number_of_steps():
    tree = tt.run(dataclasses.replace(TREE, steps=100), PROBLEM, START, steps=100, **OPTIONS)
    # Ten rounds of 40 records are all there are.
    assert (int(tree.state.count[0]), int(tree.state.used[0])) == (80, N)
    options = OPTIONS | {"points": range(6)}
    recursive = tt.run(dataclasses.replace(RECURSIVE, steps=9), CONVEX, START, steps=9, **options)
    assert int(recursive.state.count[0]) == N // 64


TARGETS = RNG.standard_normal(N)
CONVEX = BoundedHuber(ROWS, TARGETS, 1.0)
RECURSIVE = RecursiveRegularization(
    chunk=64,
    lipschitz=1.0,
    smoothness=1.0,
    regularisation=0.05,
    radius=1.5,
    noise_multiplier=0.0,
    solver=NoisyGradientSolver(40),
    steps=4,
)


def ball(w, radius):
    away = w - np.asarray(START)
    return np.asarray(START) + away * min(1, radius / np.linalg.norm(away))


def transcribe(solve, order):
    """Algorithm 3 without noise, on records in this order; `solve` does a phase."""
    centres, weights = [np.asarray(START)], [0.05]
    w, found = np.asarray(START), []
    for phase in range(1, 5):
        rows = order[(phase - 1) * 64 : phase * 64]

        def gradient(w, rows, centres=tuple(centres), weights=tuple(weights)):
            # By hand: the pseudo-Huber loss of linear predictions, its scale being 1.
            away = ROWS[rows] @ w - TARGETS[rows]
            own = (away / np.sqrt(1 + away**2)) @ ROWS[rows] / len(rows)
            return own + sum(weight * (w - centre) for weight, centre in zip(weights, centres, strict=True))

        w = solve(w, rows, gradient, sum(weights), math.sqrt(2) ** phase * 1.5)
        centres.append(w)
        weights.append(2**phase * 0.05)
        found.append(w)
    return np.array(found)


def descent(w, rows, gradient, modulus, radius):
    count = 40
    step = min(math.log(count) / (modulus * count), 1 / (1 + modulus))
    iterates, weights = [], []
    for k in range(1, count + 1):
        w = ball(w - step * gradient(w, rows), radius)
        iterates.append(w)
        weights.append((1 - step * modulus) ** -k)
    return np.average(iterates, axis=0, weights=weights)


def phases(w, rows, gradient, modulus, radius):
    base = min(math.log(64) / (modulus * 64), 1 / (1 + modulus))
    used = 0
    for k in range(1, 6):
        iterates, weights = [], []
        for j, row in enumerate(rows[used : used + 64 // 2**k]):
            w = ball(w - base / 4**k * gradient(w, np.array([row])), radius)
            iterates.append(w)
            weights.append((1 - base * modulus) ** -(j + 1))
        w, used = np.average(iterates, axis=0, weights=weights), used + 64 // 2**k
    return w


@pytest.mark.parametrize(("solver", "by_hand"), [(NoisyGradientSolver(40), descent), (PhasedSolver(), phases)])
def test_recursive_regularisation_is_its_pseudo_code(solver, by_hand):
    method = dataclasses.replace(RECURSIVE, solver=solver)
    trace = tt.run(method, CONVEX, START, steps=6, points=range(7), record={"iterate": iterate})
    expected = transcribe(by_hand, np.asarray(trace.state.order[0]))
    np.testing.assert_allclose(trace["iterate"].values[0, 1:5], expected, rtol=1e-8)
    np.testing.assert_array_equal(trace.state.output[0], trace.x[0])
    np.testing.assert_array_equal(trace["iterate"].values[0, 4:], np.tile(trace.x[0], (3, 1)))
    assert trace.final("gradients")[0] == 4 * (40 * 64 if by_hand is descent else 62)


def test_noise_of_the_subsolvers_has_its_closed_form():
    # A constant gradient and a wide ball leave linear recursions in the noise.
    problem = Linear(jnp.ones((N, D)))
    wide = dataclasses.replace(RECURSIVE, radius=1e6, noise_multiplier=0.3, steps=1)
    trace = tt.run(wide, problem, START, steps=1, seeds=3000)
    count = 40
    step = min(math.log(count) / (0.05 * count), 1 / 1.05)
    decay = 1 - step * 0.05
    weights = decay ** -np.arange(1.0, count + 1)
    weights /= weights.sum()
    # Noise k enters iterate j >= k as decay^(j-k) times the step.
    entering = [step * (weights[k:] * decay ** np.arange(count - k)).sum() for k in range(count)]
    deviation = 0.3 * math.sqrt(count) / 64 * math.sqrt(np.sum(np.square(entering)))
    assert np.asarray(trace.x).std(0).mean() == pytest.approx(deviation, rel=0.03)

    # A step that 1/(L1 + modulus) decides, and next to no contraction.
    phased = dataclasses.replace(wide, solver=PhasedSolver(), regularisation=1e-12, smoothness=1e3)
    trace = tt.run(phased, problem, START, steps=1, seeds=3000)
    deviation = 0.3 * math.sqrt(sum((4.0**-k / 1e3) ** 2 for k in range(1, 6)))
    assert np.asarray(trace.x).std(0).mean() == pytest.approx(deviation, rel=0.03)


def test_recursive_regularisation_clips_records():
    method = dataclasses.replace(RECURSIVE, clip=True, lipschitz=0.7)
    steep = tt.run(method, Linear(100 * jnp.ones((N, D))), START, steps=4)
    level = tt.run(method, Linear(0.7 / math.sqrt(D) * jnp.ones((N, D))), START, steps=4)
    np.testing.assert_allclose(steep.x, level.x, rtol=1e-12)
    assert np.linalg.norm(steep.x - START) > 0.5


def test_iterations_of_the_noisy_solver():
    class Seen(NoisyGradientSolver):
        def solve(self, task, w, multiplier, key):
            count = self.iterations(task, multiplier, w.size)
            return jnp.full_like(w, count / 1e4), jnp.asarray(0.0)

    method = dataclasses.replace(RECURSIVE, solver=Seen(10**6), noise_multiplier=0.5, steps=2)
    first, second = tt.run(method, CONVEX, START, steps=2, points=range(3), record={"iterate": iterate})[
        "iterate"
    ].values[0, 1:]
    condition = 1.05 / 0.05
    radius = math.sqrt(2) * 1.5
    statistical = (64 / 0.5) ** 2 / 3 * (1 + (0.05 * radius) ** 2)
    assert float(first[0]) * 1e4 == pytest.approx(math.ceil(max(condition * math.log(condition), statistical)))
    # In the second phase regularisers pull to two centres: the start, and what the first phase returned.
    steepest = 0.1 * np.linalg.norm(first - np.asarray(START)) + 0.15 * 2 * 1.5
    assert float(second[0]) * 1e4 == pytest.approx(math.ceil((64 / 0.5) ** 2 / 3 * (1 + steepest**2)))


def test_recursive_settings_of_the_theorem():
    method = RecursiveRegularization.theory(CONVEX, START, epsilon=2.0, delta=1e-5, radius=2.0)
    smallest = min(1 / N, 3 / (N * 2) ** 2)
    assert float(method.regularisation) == pytest.approx(smallest / 4)
    phases = math.floor(math.log2(4 / smallest))
    assert (int(method.steps), method.chunk) == (phases, N // phases)
    spent = method.privacy(N, 1e-5)
    assert 2 * (1 - 1e-4) <= spent.epsilon <= 2
    assert "parallel composition" in spent.accounting
    result = minimise(dataclasses.replace(method, steps=2), CONVEX, START, delta=1e-5)
    assert result.finite
    linear = RecursiveRegularization.theory(CONVEX, START, epsilon=2.0, delta=1e-5, radius=2.0, solver=PhasedSolver())
    assert float(linear.regularisation) == pytest.approx(math.log(N) / N)
    assert int(linear.steps) == math.floor(math.log2(N / math.log(N)))
    assert int(method.steps) > int(linear.steps)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dataclasses.replace(TREE, batch=20), r"batch: must be a multiple of 2\^depth = 8, got 20"),
        (lambda: dataclasses.replace(TREE, depth=0), "depth: must lie in"),
        (lambda: dataclasses.replace(TREE, length=0.0), "length: must lie in"),
        (lambda: dataclasses.replace(TREE, tolerance=-1.0), "tolerance: must lie in"),
        (lambda: dataclasses.replace(TREE, steps=100).privacy(N, 1e-5), "steps: 13 rounds use 520 rec"),
        (lambda: TREE.privacy(N, 1e-5, adjacency="add-or-remove-one"), "adjacency: TreeSpider deals out"),
        (
            lambda: TreeSpider.theory(PROBLEM, START, epsilon=1.0, delta=1e-5),
            "initial_gap: is needed for the theorem's tolerance",
        ),
        (
            lambda: TreeSpider.theory(Linear(jnp.ones((5, 2))), START, epsilon=1.0, delta=1e-5, tolerance=1.0),
            "problem: one round uses",
        ),
        (lambda: dataclasses.replace(RECURSIVE, regularisation=0.0), "regularisation: must lie in"),
        (lambda: dataclasses.replace(RECURSIVE, noise_multiplier=-0.1), "noise_multiplier: must lie in"),
        (lambda: dataclasses.replace(RECURSIVE, steps=9).privacy(N, 1e-5), "chunk: 9 phases of 64 rec"),
        (lambda: RECURSIVE.privacy(N, 1e-5, adjacency="add-or-remove-one"), "adjacency: RecursiveRegularization"),
        (lambda: dataclasses.replace(RECURSIVE, solver=PhasedSolver(), clip=True), "clip: clipped losses need not"),
        (lambda: NoisyGradientSolver(0), "most_iterations: must lie in"),
        (
            lambda: RecursiveRegularization.theory(CONVEX, START, epsilon=1.0, delta=1e-5, radius=0.0),
            "radius: must lie in",
        ),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
