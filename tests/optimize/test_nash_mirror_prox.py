"""Nash mirror prox and its rivals against loops in NumPy, identities between methods, and the theorem's bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

import tendsto as tt
from tendsto.optimize import (
    ExtragradientPreferences,
    NashMirrorDescent,
    NashMirrorProx,
    NashProx,
    OptimisticMirrorDescent,
    RegularisedFictitiousPlay,
    SelfPlayMirrorDescent,
    SelfPlayPolicyGradient,
    mirror_prox_bounds,
    preference_prox,
    queries_to_divergence,
)
from tendsto.problems import (
    PreferenceGame,
    SampledGame,
    circular_preferences,
    cyclic_preferences,
    kullback_leibler,
    random_preferences,
)

KEY = jax.random.key(7)
BETA = 0.3
REFERENCE = np.asarray(jax.nn.softmax(jax.random.normal(KEY, (6,))))
GAME = PreferenceGame(random_preferences(KEY, 6), BETA, REFERENCE).solved()
P = np.asarray(GAME.preferences.matrix)


def normalise(weights):
    return weights / weights.sum()


def multiplicative(policy, rates, step_size):
    """The proximal step as it is written down: a weighted geometric mean, tilted, then normalised."""
    power = 1 / (1 + step_size * BETA)
    return normalise((policy * REFERENCE ** (step_size * BETA) * np.exp(step_size * rates)) ** power)


def mirror_prox(policy, memory):
    half = multiplicative(policy, P @ policy, 2.0)
    return multiplicative(policy, P @ half, 2.0), memory


def mirror_descent(policy, memory):
    return multiplicative(policy, P @ policy, 0.7), memory


def nash_md(policy, memory):
    count = 0 if memory is None else memory
    eta = 0.9 / (1 + 0.5 * count)
    mixture = normalise(policy ** (1 - eta * BETA) * REFERENCE ** (eta * BETA))
    return normalise(mixture * np.exp(eta * P @ mixture)), count + 1


def optimistic(policy, memory):
    rates = P @ policy
    previous = rates if memory is None else memory
    return multiplicative(policy, 2 * rates - previous, 0.7), rates


def egpo(policy, memory):
    half = normalise(policy ** (1 - 0.5 * BETA) * REFERENCE ** (0.5 * BETA) * np.exp(0.5 * P @ policy))
    return normalise(policy ** (1 - 0.5 * BETA) * REFERENCE ** (0.5 * BETA) * np.exp(0.5 * P @ half)), memory


def fictitious(policy, memory):
    played = [policy] if memory is None else [*memory, policy]
    return normalise(REFERENCE * np.exp(P @ np.mean(played, axis=0) / BETA)), played


def policy_gradient(policy, memory):
    values = P @ policy - BETA * np.log(policy / REFERENCE)
    return normalise(policy * np.exp(0.8 * policy * (values - policy @ values))), memory


def proximal_point(policy, memory):
    inner = policy
    for _ in range(4):
        inner = normalise(inner**0.4 * multiplicative(policy, P @ inner, 3.0) ** 0.6)
    return inner, memory


TABLE = {
    "mirror prox": (NashMirrorProx(), mirror_prox, 2),
    "mirror descent": (SelfPlayMirrorDescent(0.7), mirror_descent, 1),
    "Nash-MD": (NashMirrorDescent(0.9, 0.5), nash_md, 1),
    "optimistic": (OptimisticMirrorDescent(0.7), optimistic, 1),
    "EGPO": (ExtragradientPreferences(0.5), egpo, 2),
    "fictitious play": (RegularisedFictitiousPlay(), fictitious, 1),
    "policy gradient": (SelfPlayPolicyGradient(0.8), policy_gradient, 1),
    "proximal point": (NashProx(3.0, 4, 0.6), proximal_point, 4),
}


def policy_of(problem, state):
    return jnp.exp(state.x)


@pytest.mark.parametrize("name", TABLE)
def test_iterates_are_those_of_the_pseudo_code(name):
    method, update, queries = TABLE[name]
    # Half of the methods start at the reference, half elsewhere.
    x0 = None if queries == 2 else jax.random.normal(jax.random.fold_in(KEY, 3), (6,))
    policy = REFERENCE if x0 is None else scipy.special.softmax(np.asarray(x0))
    expected, memory = [policy], None
    for _ in range(12):
        policy, memory = update(policy, memory)
        expected.append(policy)
    trace = tt.run(method, GAME, x0, steps=12, points=range(12), record={"policy": policy_of})
    np.testing.assert_allclose(trace["policy"].values[0], expected, rtol=1e-10)
    extra = 1 if name == "optimistic" else 0
    assert trace.final("gradients").tolist() == [12 * queries + extra]


@pytest.mark.parametrize("name", [name for name in TABLE if name != "Nash-MD"])
def test_the_equilibrium_is_where_a_method_rests(name):
    method, _, _ = TABLE[name]
    after = tt.run(method, GAME, GAME.equilibrium, steps=3, record="span").x[0]
    np.testing.assert_allclose(after, GAME.equilibrium, atol=1e-12)


def test_nash_md_rests_at_the_response_to_its_mixture():
    x = tt.run(NashMirrorDescent(0.4), GAME, steps=2000, record="span").x[0]
    mixture = normalise(np.exp((1 - 0.4 * BETA) * x + 0.4 * BETA * np.log(REFERENCE)))
    np.testing.assert_allclose(np.exp(x), normalise(REFERENCE * np.exp(P @ mixture / BETA)), rtol=1e-10)
    assert float(GAME.divergence(x)) > 1e-9


def test_nash_md_keeps_the_rate_of_its_theorem():
    trace = tt.run(NashMirrorDescent.theory(GAME), GAME, steps=2000, record="divergence")
    k = trace["step"].values[1:]
    assert (trace["divergence"].values[0, 1:] <= 8 / (BETA**2 * (k + 1))).all()


def test_proximal_step_maximises_its_objective():
    x, rates = jax.nn.log_softmax(jnp.arange(6.0) / 3), jnp.asarray(P @ REFERENCE)

    def objective(theta):
        policy = scipy.special.softmax(theta)
        pull = BETA * scipy.special.rel_entr(policy, REFERENCE).sum()
        return -(np.asarray(rates) @ policy - pull - scipy.special.rel_entr(policy, np.exp(np.asarray(x))).sum() / 1.5)

    best = scipy.optimize.minimize(objective, np.zeros(6), method="BFGS", options={"gtol": 1e-10})
    np.testing.assert_allclose(np.exp(preference_prox(GAME, x, rates, 1.5)), scipy.special.softmax(best.x), atol=1e-7)


@pytest.mark.parametrize("step_size", [0.5, 2.0, 5.0])
def test_three_names_for_the_same_steps(step_size):
    options = {"steps": 6, "points": range(6), "record": {"policy": policy_of}}
    ours = tt.run(NashMirrorProx(step_size), GAME, **options)["policy"].values
    explicit = ExtragradientPreferences(step_size / (1 + step_size * BETA))
    np.testing.assert_allclose(tt.run(explicit, GAME, **options)["policy"].values, ours, rtol=1e-11)
    np.testing.assert_allclose(tt.run(NashProx(step_size, 2), GAME, **options)["policy"].values, ours, rtol=1e-11)
    single = tt.run(SelfPlayMirrorDescent(step_size), GAME, **options)["policy"].values
    np.testing.assert_allclose(tt.run(NashProx(step_size, 1), GAME, **options)["policy"].values, single, rtol=1e-11)


def test_the_three_point_identity_of_the_proof():
    x, other, rates = (jax.random.normal(jax.random.fold_in(KEY, i), (6,)) for i in range(3))
    x, u = jax.nn.log_softmax(x), jax.nn.log_softmax(other)
    z = preference_prox(GAME, x, rates, 1.7)
    kl, ref = kullback_leibler, GAME.log_reference
    left = (1 + 1.7 * BETA) * kl(u, z)
    linear = -1.7 * jnp.sum(rates * (jnp.exp(u) - jnp.exp(z)))
    right = kl(u, x) - kl(z, x) + linear + 1.7 * BETA * (kl(u, ref) - kl(z, ref))
    assert float(left) == pytest.approx(float(right), rel=1e-12)


@pytest.mark.parametrize("beta", [0.02, 0.5, 2.0])
@pytest.mark.parametrize("sharp", [False, True])
def test_bounds_hold_for_every_iterate(beta, sharp):
    game = PreferenceGame(cyclic_preferences(3), beta, jax.nn.softmax(jnp.array([1.0, 0.0, -0.5]))).solved()
    method = NashMirrorProx.theory(game, sharp=sharp)
    step_size = float(method.step_size)
    assert step_size == pytest.approx(2 * (beta + np.sqrt(1 + beta**2)) if sharp else 2.0)
    measures = ["divergence", "exploitability", "span"]
    trace = tt.run(method, game, steps=60, points=range(60), record=measures)
    bounds = mirror_prox_bounds(beta, 60, step_size=step_size)
    for name, bound in bounds._asdict().items():
        assert (trace[name].values[0] <= bound + 1e-11).all(), name
    known = mirror_prox_bounds(beta, 60, step_size=step_size, divergence=float(game.divergence(game.log_reference)))
    assert (trace["divergence"].values[0] <= known.divergence * (1 + 1e-9) + 1e-20).all()
    assert (known.exploitability < bounds.exploitability).all()


def test_bounds_are_the_formulas():
    bounds = mirror_prox_bounds(0.1, 2, divergence=3.0)
    np.testing.assert_allclose(bounds.divergence, [3.0, 3.0 / 1.2, 3.0 / 1.44])
    first = (10 + 2 * np.sqrt(3.0 / 0.1)) / 1.2
    np.testing.assert_allclose(bounds.span, [10, first, (first + 2 * np.sqrt(2.5 / 0.1)) / 1.2])
    np.testing.assert_allclose(
        bounds.exploitability, bounds.divergence / 0.4 + 0.05 * np.sqrt(2 * bounds.divergence) * bounds.span
    )
    assert mirror_prox_bounds(0.1, 0).divergence.tolist() == [5.0]


def test_the_certified_number_of_queries():
    fresh = PreferenceGame(GAME.preferences, BETA, REFERENCE)
    assert queries_to_divergence(fresh, 1e-6) == 2 * int(np.ceil(np.log(1 / (2 * BETA) / 1e-6) / np.log(1.6)))
    assert queries_to_divergence(GAME, 1e-6) < queries_to_divergence(fresh, 1e-6)
    assert queries_to_divergence(GAME, 10.0) == 0
    found = tt.solve(NashMirrorProx(), GAME, measure="divergence", tol=1e-6)
    assert float(found.cost.gradients) <= queries_to_divergence(GAME, 1e-6)


def test_stops_by_exploitability_without_knowing_the_equilibrium():
    game = PreferenceGame(circular_preferences(np.linspace(0, 4, 500)), 0.05)
    found = tt.solve(NashMirrorProx.theory(game), game, measure="exploitability", tol=1e-8)
    assert found.converged
    assert float(kullback_leibler(found.x, game.solved().equilibrium)) <= 1e-8 / 0.05
    assert float(game.exploitability(found.x)) <= 1e-8


def test_longer_steps_do_not_converge():
    game = PreferenceGame(cyclic_preferences(3), 0.01, jax.nn.softmax(jnp.array([1.0, 0.0, -0.5]))).solved()
    trace = tt.run(NashMirrorProx(), game, steps=1000, grid={"step_size": [2.0, 4.0]}, record="divergence")
    assert trace.sel(step_size=2.0).final("divergence")[0] < 1e-20
    assert trace.sel(step_size=4.0).final("divergence")[0] > 1e-3


def test_opponents_are_sampled_afresh_for_both_steps():
    trace = tt.run(
        NashMirrorProx(), SampledGame(GAME, 1), GAME.equilibrium, steps=1, seeds=200, record={"x": policy_of}
    )
    # One sampled opponent for the second step alone decides the policy reached, whatever the first one was.
    reached = {tuple(np.round(each, 12)) for each in np.asarray(trace["x"].values[:, -1])}
    assert len(reached) == 6


def test_extreme_regularisation_does_not_overflow():
    for beta in (1e-4, 1e4):
        game = PreferenceGame(random_preferences(KEY, 5, deterministic=True), beta)
        trace = tt.run(NashMirrorProx(), game, steps=200, record="exploitability")
        assert np.isfinite(trace["exploitability"].values).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NashMirrorProx(0.0), "step_size: must lie in"),
        (lambda: SelfPlayMirrorDescent(-1.0), "step_size: must lie in"),
        (lambda: NashMirrorDescent(0.0), "step_size: must lie in"),
        (lambda: NashMirrorDescent(0.1, -1.0), "decay: must lie in"),
        (lambda: OptimisticMirrorDescent(0.0), "step_size: must lie in"),
        (lambda: ExtragradientPreferences(0.0), "step_size: must lie in"),
        (lambda: SelfPlayPolicyGradient(0.0), "learning_rate: must lie in"),
        (lambda: NashProx(0.0), "step_size: must lie in"),
        (lambda: NashProx(inner_steps=0), "inner_steps: must lie in"),
        (lambda: NashProx(inner_rate=1.5), "inner_rate: must lie in"),
        (lambda: mirror_prox_bounds(0.0, 3), "regularisation: must lie in"),
        (lambda: mirror_prox_bounds(0.1, -1), "steps: must lie in"),
        (lambda: mirror_prox_bounds(0.1, 3, step_size=3.0), "step_size: must lie in"),
        (lambda: mirror_prox_bounds(0.1, 3, divergence=-1.0), "divergence: must lie in"),
        (lambda: queries_to_divergence(GAME, 0.0), "tol: must lie in"),
        (lambda: tt.run(NashMirrorProx(), GAME, jnp.zeros(3), steps=1, record="span"), r"x0: expected shape \(6,\)"),
        (lambda: tt.run(NashMirrorProx(), GAME, jnp.full(6, jnp.nan), steps=1, record="span"), "x0: must be finite"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
