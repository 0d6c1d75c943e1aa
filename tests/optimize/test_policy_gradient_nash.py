"""Losses, stochastic proximal steps and networks against exact gradients, exact steps and tabular networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import tendsto as tt
from tendsto.optimize import (
    DeepNashMirrorProx,
    NashMirrorProx,
    NashProx,
    NetworkGame,
    SelfPlayPolicyGradient,
    StochasticNashMirrorProx,
    host_judge,
    nash_policy_gradient_loss,
    online_ipo_loss,
    preference_prox,
    split_network,
)
from tendsto.problems import PreferenceGame, cyclic_preferences, random_preferences

KEY = jax.random.key(11)
REFERENCE = np.asarray(jax.nn.softmax(jax.random.normal(KEY, (4,))))
GAME = PreferenceGame(random_preferences(KEY, 4, deterministic=True), 0.3, REFERENCE).solved()
P = np.asarray(GAME.preferences.matrix)
THETA = jnp.array([0.3, -0.2, 0.8, 0.0])
TARGET = jax.nn.log_softmax(jnp.array([0.0, 0.5, -0.5, 0.2]))


def weighted(loss_of_a_sample, theta, repeats):
    """The expected gradient: that of the mean over samples that occur exactly as often as they are likely."""
    policy = np.exp(np.asarray(jax.nn.log_softmax(theta)))
    actions = np.stack(np.meshgrid(*[np.arange(4)] * repeats, indexing="ij"), axis=-1).reshape(-1, repeats)
    weights = np.prod(policy[actions], axis=1)
    gradients = np.array([jax.grad(loss_of_a_sample)(theta, *map(int, each)) for each in actions])
    return weights @ gradients


@pytest.mark.parametrize("step_size", [2.0, np.inf])
def test_surrogate_has_the_gradient_of_the_proximal_objective(step_size):
    opponent = np.exp(np.asarray(TARGET))

    def surrogate(theta, y, other):
        log_policy = jax.nn.log_softmax(theta)
        arrays = (log_policy[y], GAME.log_reference[y], TARGET[y], jnp.asarray(P[y] @ opponent))
        return nash_policy_gradient_loss(*(each[None] for each in arrays), regularisation=0.3, step_size=step_size)

    def objective(theta):
        log_policy = jax.nn.log_softmax(theta)
        policy = jnp.exp(log_policy)
        pull = 0.3 * (log_policy - GAME.log_reference) + (log_policy - TARGET) / step_size
        return policy @ (P @ opponent) - policy @ pull

    expected = jax.grad(objective)(THETA)
    np.testing.assert_allclose(weighted(surrogate, THETA, 2), -np.asarray(expected), atol=1e-12)


def test_online_ipo_is_self_play_policy_gradient():
    def ipo(theta, y, other):
        log_policy = jax.nn.log_softmax(theta)
        arrays = (log_policy[y], GAME.log_reference[y], log_policy[other], GAME.log_reference[other], P[y, other])
        return online_ipo_loss(*(jnp.asarray(each)[None] for each in arrays), regularisation=0.3)

    x = jax.nn.log_softmax(THETA)
    moved = tt.run(SelfPlayPolicyGradient(1e-3), GAME, x, steps=1, record="span").x[0]
    step = np.asarray(moved - x)
    gradient = weighted(ipo, THETA, 2)
    # Log-policies move as logits do, up to a constant.
    step, gradient = step - step.mean(), gradient - gradient.mean()
    np.testing.assert_allclose(step, -1e-3 * 0.3 / 4 * gradient, rtol=1e-9)


def test_formula_is_that_of_a_torch_user():
    rng = np.random.default_rng(0)
    log_policy, log_reference, log_target = -rng.exponential(size=(3, 8))
    preference = rng.uniform(size=8)
    theirs = torch.tensor(log_policy, requires_grad=True)
    advantage = preference - 0.5 - 0.1 * (log_policy - log_reference) - (log_policy - log_target) / 2
    (-(theirs * torch.tensor(advantage)).mean()).backward()
    arrays = map(jnp.asarray, (log_policy, log_reference, log_target, preference))
    ours = jax.grad(nash_policy_gradient_loss)(*arrays, regularisation=0.1, step_size=2.0)
    np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-14)


def decaying(count):
    return 8.0 / (1.0 + count / 10.0)


SGD = optax.sgd(decaying)


def test_stochastic_steps_tend_to_exact_ones():
    game = PreferenceGame(cyclic_preferences(3), 0.1, jax.nn.softmax(jnp.array([1.0, 0.0, -0.5])))
    exact = np.exp(tt.run(NashMirrorProx(), game, steps=2, record="exploitability").x[0])
    trace = tt.run(StochasticNashMirrorProx(SGD, 300, 300), game, steps=2, seeds=4, record="exploitability")
    np.testing.assert_allclose(np.exp(trace.x).mean(axis=0), exact, atol=0.02)
    # Both proximal steps against the same policy would be a single one.
    single = np.exp(tt.run(NashProx(inner_steps=1), game, steps=2, record="exploitability").x[0])
    assert np.abs(single - exact).max() > 0.04
    assert trace.final("evaluations").tolist() == [2 * 2 * 300 * 300] * 4
    assert trace.final("gradients").tolist() == [2 * 2 * 300] * 4


def test_contexts_take_the_steps_they_would_take_alone():
    games = random_preferences(KEY, 3, contexts=2)
    together = PreferenceGame(games, 0.5)
    method = StochasticNashMirrorProx(SGD, 200, 200, votes=False)
    trace = tt.run(method, together, steps=1, seeds=4, record="exploitability")
    exact = tt.run(NashMirrorProx(), together, steps=1, record="exploitability").x[0]
    np.testing.assert_allclose(np.exp(trace.x).mean(axis=0), np.exp(exact), atol=0.02)
    assert trace.final("evaluations").tolist() == [2 * 200 * 200 * 2] * 4


def tabular(params, features):
    return jnp.broadcast_to(params, (features.shape[0], params.size))


def exact_judge(contexts, actions, opponents, key):
    return jnp.asarray(P)[actions, opponents]


def network_game(judge=exact_judge, contexts=1, regularisation=0.3):
    reference = jnp.broadcast_to(GAME.log_reference, (contexts, 4))
    return NetworkGame(tabular, jnp.zeros((contexts, 1)), reference, judge, regularisation)


@pytest.mark.parametrize(
    ("options", "power"),
    [({"opponent": "target"}, 0.0), ({"mixture": 0.5}, 0.5)],
)
def test_network_step_is_unbiased(options, power):
    method = DeepNashMirrorProx(optax.sgd(1.0), 4000, **options)
    x = tt.run(method, network_game(), THETA, steps=1, seeds=30, record="log_policy").x
    change = np.asarray(x).mean(axis=0) - np.asarray(THETA)
    policy = np.exp(np.asarray(jax.nn.log_softmax(THETA)))
    rival = policy ** (1 - power) * REFERENCE**power
    values = P @ (rival / rival.sum()) - 0.3 * np.log(policy / REFERENCE)
    np.testing.assert_allclose(change, policy * (values - policy @ values), atol=0.004)


def test_target_follows_at_its_rate_and_period():
    options = {"steps": 4, "record": {"online": lambda p, s: s.x, "target": lambda p, s: s.target}, "points": range(4)}
    smooth = tt.run(DeepNashMirrorProx(optax.sgd(0.5), 8, target_rate=0.25), network_game(), THETA, **options)
    online, target = smooth["online"].values[0], smooth["target"].values[0]
    np.testing.assert_allclose(target[1:], 0.25 * online[1:] + 0.75 * target[:-1], rtol=1e-12)
    hard = DeepNashMirrorProx(optax.sgd(0.5), 8, target_rate=1.0, target_period=2)
    trace = tt.run(hard, network_game(), THETA, **options)
    online, target = trace["online"].values[0], trace["target"].values[0]
    np.testing.assert_array_equal(target[[0, 1]], [THETA, THETA])
    np.testing.assert_array_equal(target[[2, 3, 4]], online[[2, 2, 4]])


def test_a_target_holds_the_policy_back():
    """A network whose target never moves comes to rest at the proximal point around it, here the exact one."""
    method = DeepNashMirrorProx(optax.sgd(decaying), 512, target_rate=0.0)
    x = tt.run(method, network_game(), TARGET, steps=1000, seeds=2, record="log_policy").x
    proximal = tt.run(NashProx(2.0, 200, 0.5), GAME, TARGET, steps=1, record="span").x[0]
    np.testing.assert_allclose(jax.nn.softmax(x).mean(axis=0), np.exp(proximal), atol=0.02)
    fixed = DeepNashMirrorProx(optax.sgd(decaying), 512, target_rate=0.0, opponent="target")
    x = tt.run(fixed, network_game(), TARGET, steps=1000, seeds=2, record="log_policy").x
    half = preference_prox(GAME, TARGET, GAME.win_rates(TARGET), 2.0)
    np.testing.assert_allclose(jax.nn.softmax(x).mean(axis=0), np.exp(half), atol=0.02)


def test_a_tabular_network_reaches_the_equilibrium():
    method = DeepNashMirrorProx(optax.adam(0.01), 256, target_rate=0.02)
    problem = network_game(judge=GAME.vote)
    x = tt.run(method, problem, jnp.zeros(4), steps=3000, seeds=2, record="log_policy").x
    worst = max(float(GAME.exploitability(jax.nn.log_softmax(each))) for each in x)
    assert worst < 0.1 * float(GAME.exploitability(GAME.log_reference))


def test_a_judge_may_live_outside():
    asked = []

    def judge(contexts, actions, opponents):
        asked.append(contexts)
        return P[actions, opponents]

    options = {"steps": 5, "record": "log_policy", "seeds": 2}
    method = DeepNashMirrorProx(optax.sgd(0.5), 6)
    ours = tt.run(method, network_game(contexts=3), THETA, **options).x
    theirs = tt.run(method, network_game(host_judge(judge), contexts=3), THETA, **options).x
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert len(asked) == 10
    assert all(each.shape == (6,) and set(each) <= {0, 1, 2} for each in asked)


@pytest.mark.parametrize("answer", [np.nan, 1.5, -0.1])
def test_a_judge_that_answers_nonsense_is_reported(answer):
    problem = network_game(host_judge(lambda contexts, actions, opponents: np.full(actions.shape, answer)))
    trace = tt.run(DeepNashMirrorProx(optax.sgd(0.5), 6), problem, THETA, steps=3, record="log_policy")
    assert bool(trace.diverged.all())


def test_an_equinox_model_is_taken_apart_and_rebuilt():
    model = eqx.nn.MLP(3, 4, 5, 1, key=KEY)
    params, rebuild = split_network(model)
    features = jax.random.normal(KEY, (7, 3))
    np.testing.assert_array_equal(jax.vmap(rebuild(params))(features), jax.vmap(model)(features))
    problem = NetworkGame(
        lambda weights, contexts: jax.vmap(rebuild(weights))(contexts),
        features,
        jnp.broadcast_to(GAME.log_reference, (7, 4)),
        exact_judge,
        0.3,
    )
    trace = tt.run(DeepNashMirrorProx(optax.adam(0.01), 4), problem, params, steps=2, record="log_policy")
    assert trace["log_policy"].shape[-2:] == (7, 4)
    assert not np.array_equal(trace.x[0][0], params[0])


BATCH = jnp.zeros(3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: nash_policy_gradient_loss(BATCH, BATCH, BATCH, jnp.zeros(2), regularisation=1.0, step_size=2.0),
            "preference",
        ),
        (lambda: online_ipo_loss(BATCH, BATCH, jnp.zeros(2), BATCH, BATCH, regularisation=1.0), "log_policy_other"),
        (lambda: StochasticNashMirrorProx("adam", 3, 3), "optimiser"),
        (lambda: StochasticNashMirrorProx(SGD, 0, 3), "inner_steps"),
        (lambda: StochasticNashMirrorProx(SGD, 3, 0), "samples"),
        (lambda: StochasticNashMirrorProx(SGD, 3, 3, 0.0), "step_size"),
        (lambda: DeepNashMirrorProx(None, 3), "optimiser"),
        (lambda: DeepNashMirrorProx(SGD, 0), "batch"),
        (lambda: DeepNashMirrorProx(SGD, 3, step_size=0.0), "step_size"),
        (lambda: DeepNashMirrorProx(SGD, 3, target_rate=1.5), "target_rate"),
        (lambda: DeepNashMirrorProx(SGD, 3, target_period=0), "target_period"),
        (lambda: DeepNashMirrorProx(SGD, 3, opponent="both"), "opponent"),
        (lambda: DeepNashMirrorProx(SGD, 3, mixture=-0.1), "mixture"),
        (lambda: network_game(regularisation=0.0), "regularisation"),
        (lambda: network_game(judge=3), "judge"),
        (lambda: NetworkGame(tabular, jnp.zeros((2, 1)), jnp.zeros((3, 4)), exact_judge, 1.0), "log_reference"),
        (lambda: host_judge("judge"), "function"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(Exception, match=message):
        build()
