"""Searches through a network against loops in NumPy, closed forms and the network's own count of its calls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.optimize import NonlinearConstraint, OptimizeWarning, minimize

from tendsto.optimize import (
    DirectionalAttack,
    attack_search,
    covering_direct_search,
    hybrid_direct_search,
    projected_gradient_ascent,
    random_line_search,
)
from tendsto.optimize.direct_search import poll_basis, random_on_sphere
from tendsto.problems import NetworkProblem

RNG = np.random.default_rng(5)
FIRST, SECOND = RNG.standard_normal((4, 9)) / 2, RNG.standard_normal((9, 3)) / 3
TARGET = np.tanh(np.array([0.5, -0.4, 0.3, 0.2]) @ FIRST) @ SECOND


def network(x):
    return jnp.tanh(x @ FIRST) @ SECOND


def problem(constraints=None):
    return NetworkProblem(lambda y: -jnp.sum((y - TARGET) ** 2), network, constraints)


def value(x):
    return float(((np.tanh(x @ FIRST) @ SECOND - TARGET) ** 2).sum())


def slope(x):
    hidden = np.tanh(x @ FIRST)
    return FIRST @ ((1 - hidden**2) * (SECOND @ (-2 * (hidden @ SECOND - TARGET))))


def search(method, x0=(0.0, 0.0, 0.0, 0.0), fun=None, **options):
    given = {
        name: options.pop(name) for name in ("bounds", "constraints", "callback", "tol", "args") if name in options
    }
    return minimize(problem() if fun is None else fun, x0, method=method, options=options, **given)


def hybrid_transcription(x, maxiter, *, r0, smallest, largest, tau, kappa, seed):
    """The hybrid as a plain loop with FGSM and n + 1 poll directions."""
    rng, o, attack, poll, searches = np.random.default_rng(seed), value(x), r0, r0, 0
    evaluations, gradients, rows = 1, 0, [(value(x), 1, 0, r0, r0)]

    def clip(radius):
        return min(largest, max(smallest, radius))

    for _ in range(maxiter):
        trial = x + attack * np.sign(slope(x))
        evaluations, gradients, gain = evaluations + 2, gradients + 1, o - value(trial)
        enough = gain >= max(tau * (abs(o) + 1e-10), kappa * attack**2)
        if gain > 0:
            x, o = trial, value(trial)
        if enough:
            attack, poll = clip(1.3 * attack), (2 * poll if poll <= smallest else poll)
            rows.append((o, evaluations, gradients, poll, attack))
            continue
        attack = clip(1.1 * attack if gain > 0 else attack / 1.3)
        trial = x + rng.uniform(-r0, r0, x.size)
        evaluations += 1
        if value(trial) < o:
            x, o = trial, value(trial)
        else:
            searches += 1
            trial = x + random_on_sphere(x.size, min(r0 * np.sqrt(searches), largest), rng)
            evaluations += 1
            if value(trial) < o:
                x, o, poll = trial, value(trial), clip(2 * poll)
            else:
                for direction in poll_basis(x.size, "n+1", rng):
                    evaluations += 1
                    if value(x + poll * direction) < o:
                        x = x + poll * direction
                        o, poll = value(x), clip(2 * poll)
                        break
                else:
                    poll = clip(poll / 2)
        rows.append((o, evaluations, gradients, poll, attack))
    return x, np.array(rows)


@pytest.mark.parametrize("kappa", [0.0, 1e-6, 0.05])
def test_hybrid_iterations_are_those_of_the_pseudo_code(kappa):
    start = np.array([1.0, 1.0, -1.0, 0.5])
    x, rows = hybrid_transcription(start, 40, r0=0.5, smallest=1e-9, largest=1.2, tau=1e-3, kappa=kappa, seed=2)
    options = {"initial_radius": 0.5, "final_radius": 1e-9, "largest_radius": 1.2, "forcing": kappa}
    result = search(hybrid_direct_search, start, maxiter=40, rng=2, **options)
    np.testing.assert_allclose(result.x, x, rtol=1e-9)
    columns = ("objective", "evaluations", "gradients", "poll_radius", "attack_radius")
    history = np.stack([result.history[name].values[0] for name in columns], axis=1)
    np.testing.assert_allclose(history, rows, rtol=1e-7, atol=1e-14)
    assert {"attack", "failure"} <= set(result.successes)
    assert result.nfev == rows[-1, 1]
    assert result.njev == rows[-1, 2]


def test_forcing_makes_room_for_the_direct_search():
    """Without it, gains of ever smaller size count as sufficient near the maximum 0."""
    skips = {
        forcing: search(hybrid_direct_search, maxiter=60, forcing=forcing).successes.get("attack", 0)
        for forcing in (0.0, 1e3)
    }
    assert skips[1e3] == 0 < skips[0.0]


def test_hybrid_with_an_attack_that_stands_still_is_the_direct_search():
    class Still:
        calls = 0

        def __call__(self, network, x, direction, radius):
            return np.zeros_like(x)

    options = {"maxiter": 50, "poll": "n+1", "rng": 3}
    one = search(hybrid_direct_search, attack=Still(), **options)
    other = search(covering_direct_search, **options)
    np.testing.assert_array_equal(one.x, other.x)
    # The unmoved point is evaluated anew in every iteration.
    assert one.nfev == other.nfev + 50


@pytest.mark.parametrize(("patience", "poll_radii"), [(1, [1.0, 0.5, 0.5]), (3, [1.0, 0.5, 0.25, 0.25, 0.5])])
def test_an_attack_that_suffices_reopens_the_poll_at_its_smallest_radius_alone(patience, poll_radii):
    class Late:
        """Stands still, then jumps to the hill that no poll reaches."""

        calls = 0

        def __init__(self):
            self.attempts = 0

        def __call__(self, network, x, direction, radius):
            self.attempts += 1
            return np.full_like(x, 5.0) if self.attempts > patience else np.zeros_like(x)

    hill = NetworkProblem(lambda y: y[0], lambda x: jnp.where(jnp.abs(x - 5.0) < 0.1, 1.0, -(x**2)))
    options = {"initial_radius": 1.0, "final_radius": 0.25, "covering_radius": 0.0, "maxiter": patience + 1}
    result = search(hybrid_direct_search, [0.0], hill, attack=Late(), **options)
    assert result.successes == {"failure": patience, "attack": 1}
    np.testing.assert_array_equal(result.history["poll_radius"].values[0], poll_radii)


def test_hybrid_converges_to_the_known_optimum():
    result = search(hybrid_direct_search, covering_points=20)
    assert (result.success, result.status) == (True, 0)
    assert result.covered >= 20
    assert result.fun < 1e-9
    assert result.fun == pytest.approx(value(result.x), abs=1e-15)
    assert result.maxcv == 0.0
    assert result.history["attack_radius"].values[0, -1] == 1e-6


def test_speculation_repeats_the_last_displacement():
    points = []

    def remember(xk):
        points.append(xk)

    fun = NetworkProblem(lambda y: y[0], lambda x: x[:1])
    result = search(hybrid_direct_search, [0.0], fun, speculative=True, maxiter=4, callback=remember, rng=0)
    assert result.successes == {"attack": 1, "speculation": 3}
    np.testing.assert_allclose(np.ravel(points), [1.0, 2.5, 4.75, 8.125])


def attacks_transcription(x, iterations, r, largest, smallest):
    rows = [value(x)]
    for _ in range(iterations):
        for radius in (min(1.1 * r, largest), r):
            trial = x + radius * np.sign(slope(x))
            if value(trial) < value(x):
                x, r = trial, radius
                break
        else:
            r = max(r / 1.5, smallest)
        rows.append(value(x))
    return rows


def test_attacks_alone():
    start = np.array([1.0, 1.0, -1.0, 0.5])
    result = search(attack_search, start, maxiter=25, initial_radius=0.8, largest_radius=0.9)
    expected = attacks_transcription(start, 25, 0.8, 0.9, 1e-6)
    np.testing.assert_allclose(result.history["objective"].values[0], expected, rtol=1e-6, atol=1e-14)
    ended = search(attack_search, start)
    assert ended.success
    assert ended.history["attack_radius"].values[0, -1] <= 1e-6
    projected = search(attack_search, start, attack=DirectionalAttack("pgd"), maxiter=1, initial_radius=0.1)
    assert projected.history["attack_radius"].values[0, -1] == pytest.approx(0.11 * 40 / 255)


def lines_transcription(fun, x, iterations, r, seed):
    rng, stalled, rows = np.random.default_rng(seed), 0, [(fun(x), r)]
    for _ in range(iterations):
        before, at, moved = fun(x), x, False
        for _ in range(2):
            direction = random_on_sphere(x.size, r, rng)
            for multiple in (1.1, 1.0, 1 / 1.1):
                if fun(at + multiple * direction) < before:
                    x, moved = at + multiple * direction, True
                    break
            if moved:
                break
        stalled = 0 if moved else stalled + 1
        if moved:
            r = min(10.0, np.abs(x - at).max())
        elif stalled > x.size + 1:
            r = r / 1.3
        rows.append((fun(x), r))
    return np.array(rows)


def test_random_line_searches_on_any_function():
    def fun(x):
        return float(np.abs(x - 1.0).sum())

    result = search(random_line_search, [3.0, 0.0], fun, maxiter=80, rng=1)
    rows = lines_transcription(fun, np.array([3.0, 0.0]), 80, 1.0, 1)
    np.testing.assert_allclose(result.history["objective"].values[0], rows[:, 0], rtol=1e-9)
    np.testing.assert_allclose(result.history["radius"].values[0], rows[:, 1], rtol=1e-9)
    assert not hasattr(result, "njev")
    assert search(random_line_search, [3.0, 0.0], fun, tol=1e-2).success


def test_gradient_ascent_is_backtracking():
    start = np.array([1.0, 1.0, -1.0, 0.5])
    x, step, rows = start, 4.0, [value(start)]
    for _ in range(15):
        gradient = slope(x)
        while value(x) - value(x + step * gradient) < 1e-4 * step * gradient @ gradient:
            step /= 2
        x, step = x + step * gradient, 2 * step
        rows.append(value(x))
    result = search(projected_gradient_ascent, start, maxiter=15, initial_step=4.0)
    np.testing.assert_allclose(result.history["objective"].values[0], rows, rtol=1e-7)
    assert result.njev == 15


@pytest.mark.parametrize(("share", "reached"), [(2e-4, 1.0), (5e-5, 0.5)])
def test_gradient_ascent_asks_for_a_ten_thousandth_of_the_predicted_rise(share, reached):
    """On x - (1 - share) x^2, from zero, the unit step gains this share of what the gradient predicts."""
    parabola = NetworkProblem(lambda y: y[0] - (1.0 - share) * y[0] ** 2, lambda x: x)
    result = search(projected_gradient_ascent, [0.0], parabola, maxiter=1)
    np.testing.assert_array_equal(result.x, [reached])


def test_gradient_ascent_stops_at_the_projected_optimum():
    fun = NetworkProblem(lambda y: -jnp.sum((y - jnp.array([2.0, -1.0])) ** 2), lambda x: x)
    result = search(projected_gradient_ascent, [0.0, 0.0], fun, bounds=[(-1, 1), (-3, 3)])
    assert result.success
    np.testing.assert_allclose(result.x, [1.0, -1.0], atol=1e-6)


METHODS = {
    "hybrid": (hybrid_direct_search, {}),
    "hybrid, pgd": (hybrid_direct_search, {"attack": DirectionalAttack("pgd", steps=3)}),
    "direct search": (covering_direct_search, {}),
    "attacks": (attack_search, {}),
    "line searches": (random_line_search, {}),
    "gradient ascent": (projected_gradient_ascent, {}),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("maxfev", [1, 7, 150])
def test_counts_are_those_of_the_network_and_within_the_budget(name, maxfev):
    method, options = METHODS[name]
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    passes = {"forward": 0, "backward": 0}

    def forward(module, inputs, output):
        passes["forward"] += 1
        if output.requires_grad:
            output.register_hook(lambda gradient: passes.update(backward=passes["backward"] + 1))

    module.register_forward_hook(forward)
    fun = NetworkProblem(lambda y: -jnp.sum((y - 1.0) ** 2), module, lambda y: y[0] - 0.5)
    fun(np.ones(3))  # earlier calls are not the run's
    passes.update(forward=0, backward=0)
    result = search(method, np.zeros(3), fun, maxfev=maxfev, **options)
    assert result.nfev == passes["forward"]
    assert result.njev == passes["backward"]
    assert result.nfev + result.njev <= maxfev
    assert (np.diff(result.history["objective"].values[0]) <= 0).all()
    assert result.history["evaluations"].values[0, -1] == result.nfev


@pytest.mark.parametrize("name", METHODS)
def test_zero_budget_infeasible_start_and_callbacks(name):
    method, options = METHODS[name]
    start = np.zeros(4)
    assert search(method, start, maxfev=0, **options).status == 1
    outside = search(method, start, constraints=NonlinearConstraint(lambda x: x[0], 1.0, 2.0), **options)
    assert (outside.status, outside.nfev) == (4, 0)

    def stop(intermediate_result):
        raise StopIteration

    assert search(method, start, callback=stop, **options).status == 99
    with pytest.warns(OptimizeWarning, match="speed"):
        search(method, start, speed=1, maxfev=3, **options)


@pytest.mark.parametrize("name", METHODS)
def test_bounds_are_honoured(name):
    method, options = METHODS[name]
    result = search(method, np.zeros(4), bounds=[(-0.1, 0.2)] * 4, maxfev=600, **options)
    assert (result.x >= -0.1).all()
    assert (result.x <= 0.2).all()
    assert result.fun < value(np.zeros(4))


def test_violated_constraints_are_reported_and_penalised():
    tight = problem(lambda y: 3.0 * (y[:1] - TARGET[0] + 0.2))
    result = search(hybrid_direct_search, fun=tight, maxfev=4000)
    y = np.asarray(network(result.x))
    assert result.maxcv == pytest.approx(max(0.0, 3.0 * (y[0] - TARGET[0] + 0.2)))
    # With one active constraint t = y0 - target, t^2 + 9 (t + 0.2)^2 is least at t = -0.18.
    assert y[0] - TARGET[0] == pytest.approx(-0.18, abs=5e-3)
    assert result.fun == pytest.approx(0.18**2 + 9 * 0.02**2, abs=2e-4)


def test_a_network_that_is_not_a_number_somewhere():
    fun = NetworkProblem(lambda y: -jnp.sum(y**2), lambda x: jnp.where(x > 1.0, jnp.nan, x))
    result = search(hybrid_direct_search, [1.5, 0.5], fun, maxfev=3000, rng=3)
    assert result.success
    assert result.fun < 1e-8


def test_what_the_network_raises_passes_through():
    class Fails(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1).double()

        def forward(self, x):
            if float(x.detach().abs().max()) > 0.5:
                raise ZeroDivisionError("inside")
            return self.layer(x)

    with pytest.raises(ZeroDivisionError, match="inside"):
        search(hybrid_direct_search, [0.0, 0.0], NetworkProblem(lambda y: y[0], Fails()))


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        (hybrid_direct_search, {"fun": lambda x: x @ x}, TypeError, "fun: expected a NetworkProblem.*covering_direct"),
        (attack_search, {"fun": lambda x: x @ x}, TypeError, "fun: expected a NetworkProblem"),
        (hybrid_direct_search, {"attack_radius": -1.0}, ValueError, "attack_radius"),
        (hybrid_direct_search, {"attack_radius": 20.0}, ValueError, r"attack_radius: must lie in \[1e-06, 10\]"),
        (hybrid_direct_search, {"forcing": -1.0}, ValueError, "forcing"),
        (hybrid_direct_search, {"sufficient_increase": 0.0}, ValueError, "sufficient_increase"),
        (attack_search, {"initial_radius": 0.0}, ValueError, "initial_radius"),
        (random_line_search, {"final_radius": 5.0}, ValueError, "initial_radius: must lie in"),
        (projected_gradient_ascent, {"initial_step": 0.0}, ValueError, "initial_step"),
    ],
)
def test_bad_input_is_named(method, options, error, message):
    with pytest.raises(error, match=message):
        search(method, **options)


def test_single_precision_is_enough():
    with jax.enable_x64(False):
        result = search(hybrid_direct_search, fun=problem(), maxfev=2000)
    assert result.fun < 1e-6
