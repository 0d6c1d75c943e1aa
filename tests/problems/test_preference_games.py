"""Preference games against closed forms, SciPy's root finder, linear programming and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from tendsto.problems import (
    AdditivePreferences,
    FunctionPreferences,
    LowRankPreferences,
    MatrixPreferences,
    PerturbedGame,
    PreferenceGame,
    SampledGame,
    bradley_terry,
    circular_preferences,
    cyclic_preferences,
    kullback_leibler,
    random_preferences,
)

KEY = jax.random.key(5)
ANGLES = np.linspace(0.0, 5.0, 7)
SCORES = np.array([0.1, 0.9, 0.4, 0.0, 0.7])


def random_policy(number, *shape):
    return jax.nn.log_softmax(jax.random.normal(jax.random.fold_in(KEY, number), shape))


def dense(preferences):
    """The matrix, one pair at a time."""
    size, numbers = preferences.actions, np.arange(preferences.actions)
    pairs = np.meshgrid(numbers, numbers, indexing="ij")
    zero = jnp.zeros((), int)
    return np.asarray(preferences.between(zero, jnp.asarray(pairs[0]), jnp.asarray(pairs[1]))).reshape(size, size)


FORMULAS = {
    "cycle": (cyclic_preferences(3), np.array([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]])),
    "circle": (circular_preferences(ANGLES), 0.5 + 0.5 * np.sin(ANGLES[:, None] - ANGLES)),
    "additive": (AdditivePreferences(SCORES), 0.5 + 0.5 * (SCORES[:, None] - SCORES)),
    "Bradley-Terry": (bradley_terry(4 * SCORES), scipy.special.expit(4 * (SCORES[:, None] - SCORES))),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_preferences_are_those_of_the_formula(name):
    preferences, matrix = FORMULAS[name]
    np.testing.assert_allclose(dense(preferences), matrix, atol=1e-15)
    policy = jnp.exp(random_policy(1, len(matrix)))
    np.testing.assert_allclose(preferences.win_rates(policy), matrix @ np.asarray(policy), atol=1e-15)
    np.testing.assert_allclose(matrix + matrix.T, 1.0)


def test_five_actions_beat_two_each_in_a_cycle():
    matrix = np.asarray(cyclic_preferences(5).matrix)
    assert (matrix.sum(axis=1) == 2.5).all()
    assert matrix[1, 0] == matrix[2, 0] == matrix[0, 3] == matrix[0, 4] == 1


def test_random_preferences_are_certain_or_uniform():
    certain = np.asarray(random_preferences(KEY, 60, deterministic=True).matrix)
    assert set(np.unique(certain)) == {0.0, 0.5, 1.0}
    uniform = np.asarray(random_preferences(KEY, 60, contexts=2).matrix)
    assert uniform.shape == (2, 60, 60)
    assert abs(uniform[0][np.triu_indices(60, 1)].std() - 1 / np.sqrt(12)) < 0.01


def test_contexts_are_games_of_their_own():
    matrices = random_preferences(KEY, 4, contexts=3)
    reference = np.exp(random_policy(2, 3, 4))
    together = PreferenceGame(matrices, 0.2, reference).solved()
    x = random_policy(3, 3, 4)
    alone = [PreferenceGame(matrices.matrix[i], 0.2, reference[i]).solved() for i in range(3)]
    for i, game in enumerate(alone):
        np.testing.assert_allclose(together.equilibrium[i], game.equilibrium, atol=1e-12)
        np.testing.assert_allclose(together.win_rates(x)[i], game.win_rates(x[i]), atol=1e-15)
    for measure, combine in (("exploitability", np.mean), ("divergence", np.mean), ("span", np.max)):
        expected = combine([float(getattr(game, measure)(x[i])) for i, game in enumerate(alone)])
        assert float(getattr(together, measure)(x)) == pytest.approx(expected, rel=1e-10)
    shared = PreferenceGame(matrices.matrix[0], 0.2, reference)
    assert shared.contexts == (3,)
    np.testing.assert_allclose(shared.win_rates(x)[0], alone[0].win_rates(x[0]), atol=1e-15)


@pytest.mark.parametrize("beta", [0.02, 0.3, 3.0])
def test_equilibrium_is_that_of_a_root_finder(beta):
    matrix = np.asarray(random_preferences(KEY, 6).matrix)
    reference = np.exp(np.asarray(random_policy(4, 6)))

    def defect(theta):
        response = np.log(reference) + matrix @ scipy.special.softmax(theta) / beta
        return theta - response

    root = scipy.optimize.root(defect, np.log(reference), method="hybr", tol=1e-13)
    theirs = scipy.special.softmax(root.x)
    game = PreferenceGame(matrix, beta, reference).solved()
    if root.success or np.abs(defect(root.x)).max() < 1e-9:
        np.testing.assert_allclose(np.exp(game.equilibrium), theirs, atol=1e-9)
    response = reference * np.exp(matrix @ np.exp(game.equilibrium) / beta)
    np.testing.assert_allclose(np.exp(game.equilibrium), response / response.sum(), rtol=1e-11)
    assert float(game.exploitability(game.equilibrium)) < 1e-25
    assert float(game.divergence(game.log_reference)) <= 1 / (2 * beta)


@pytest.mark.parametrize("beta", [0.003, 0.1, 2.0])
def test_additive_preferences_have_a_closed_form(beta):
    reference = np.exp(np.asarray(random_policy(6, 5)))
    game = PreferenceGame(AdditivePreferences(SCORES), beta, reference).solved()
    expected = np.log(reference) + SCORES / (2 * beta)
    np.testing.assert_allclose(game.equilibrium, expected - scipy.special.logsumexp(expected), rtol=1e-11, atol=1e-12)


def test_little_regularisation_tends_to_the_linear_programme():
    # Nash strategies of the unregularised game: maximise v subject to x'(P - 1/2) >= v.
    matrix = np.asarray(random_preferences(KEY, 7, deterministic=True).matrix) - 0.5
    programme = scipy.optimize.linprog(
        np.append(np.zeros(7), -1.0),
        A_ub=np.column_stack([-matrix.T, np.ones(7)]),
        b_ub=np.zeros(7),
        A_eq=np.append(np.ones(7), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * 7 + [(None, None)],
    )
    assert programme.fun == pytest.approx(0.0, abs=1e-9)
    game = PreferenceGame(matrix + 0.5, 5e-4).solved()
    # A tournament has one Nash strategy.
    np.testing.assert_allclose(np.exp(game.equilibrium), programme.x[:-1], atol=0.01)


def test_exploitability_is_the_best_gain():
    game = PreferenceGame(random_preferences(KEY, 5), 0.2, np.exp(random_policy(7, 5))).solved()
    x = random_policy(8, 5)
    matrix, policy = np.asarray(game.preferences.matrix), np.exp(np.asarray(x))
    reference = np.exp(np.asarray(game.log_reference))

    def gain(theta):
        other = scipy.special.softmax(theta)
        cost = scipy.special.rel_entr(other, reference).sum() - scipy.special.rel_entr(policy, reference).sum()
        return other @ matrix @ policy - 0.2 * cost - 0.5

    best = scipy.optimize.minimize(lambda theta: -gain(theta), np.zeros(5), method="BFGS", options={"gtol": 1e-9})
    assert float(game.exploitability(x)) == pytest.approx(-best.fun, rel=1e-6)
    assert float(game.payoff(game.best_response(x), x)) - 0.5 == pytest.approx(-best.fun, rel=1e-6)
    assert float(game.payoff(x, random_policy(9, 5)) + game.payoff(random_policy(9, 5), x)) == pytest.approx(1.0)
    # What the equilibrium gains is exactly beta KL(pi || pi*), so that exploitability bounds it.
    certain = 0.2 * float(kullback_leibler(x, game.equilibrium))
    assert float(game.payoff(game.equilibrium, x)) - 0.5 == pytest.approx(certain, rel=1e-9)
    assert certain <= float(game.exploitability(x))
    # The divergence has the equilibrium first.
    expected = scipy.special.rel_entr(np.exp(game.equilibrium), policy).sum()
    assert float(game.divergence(x)) == pytest.approx(expected, rel=1e-9)
    assert abs(float(kullback_leibler(x, game.equilibrium)) / expected - 1) > 1e-3
    assert float(game.stationarity(game.equilibrium)) < 1e-13
    assert float(game.stationarity(x)) > 0.1


def test_divergences_keep_their_digits_when_they_are_tiny():
    x = random_policy(10, 6)
    for scale in (1e-3, 1e-7, 1e-11):
        p, q = np.exp(np.asarray(x)), np.asarray(x) + scale * np.arange(6)
        q = q - scipy.special.logsumexp(q)
        # Second order: half the variance of the log-ratio.
        variance = scale**2 * (p @ np.arange(6) ** 2 - (p @ np.arange(6)) ** 2)
        assert float(kullback_leibler(x, jnp.asarray(q))) == pytest.approx(variance / 2, rel=0.02)
    far = jnp.array([0.0, -2000.0])
    near = jnp.log(jnp.array([0.5, 0.5]))
    assert float(kullback_leibler(far, near)) == pytest.approx(np.log(2))
    assert float(kullback_leibler(near, far)) == pytest.approx(1000 - np.log(2))


def test_many_actions_without_a_matrix():
    rng = np.random.default_rng(0)
    game = PreferenceGame(circular_preferences(rng.normal(0.0, 1.0, 100_000)), 0.1).solved()
    assert float(game.stationarity(game.equilibrium)) < 1e-11
    assert float(game.divergence(game.log_reference)) > 0.05


@pytest.mark.parametrize("votes", [False, True])
def test_sampled_win_rates_are_unbiased(votes):
    game = PreferenceGame(random_preferences(KEY, 4, contexts=2), 0.2)
    x = random_policy(11, 2, 4)
    sampled = SampledGame(game, 5, votes=votes)
    draws = jax.vmap(lambda key: sampled.sampled_win_rates(x, key))(jax.random.split(KEY, 4000))
    exact = np.asarray(game.win_rates(x))
    matrix, policy = np.asarray(game.preferences.matrix), np.exp(np.asarray(x))
    second = np.einsum("cij,cj->ci", matrix if votes else matrix**2, policy)
    variance = (second - exact**2) / 5
    np.testing.assert_allclose(draws.mean(axis=0), exact, atol=5 * np.sqrt(variance.max() / 4000))
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.15)
    np.testing.assert_array_equal(game.sampled_win_rates(x, KEY), game.win_rates(x))


def test_perturbed_win_rates_have_their_width():
    game = PreferenceGame(cyclic_preferences(3), 0.2)
    noisy = PerturbedGame(game, 0.4)
    draws = jax.vmap(lambda key: noisy.sampled_win_rates(game.log_reference, key))(jax.random.split(KEY, 4000))
    errors = np.asarray(draws - game.win_rates(game.log_reference))
    assert np.abs(errors).max() <= 0.2
    assert errors.std() == pytest.approx(0.4 / np.sqrt(12), rel=0.03)
    assert abs(errors.mean()) < 0.01


def test_votes_have_the_chances_of_their_context():
    game = PreferenceGame(random_preferences(KEY, 3, contexts=2), 0.2)
    contexts, actions, opponents = (jnp.asarray(np.repeat(each, 3000)) for each in ([0, 1], [2, 0], [1, 1]))
    votes = np.asarray(game.vote(contexts, actions, opponents, KEY)).reshape(2, 3000)
    expected = np.asarray(game.preferences.matrix)[[0, 1], [2, 0], [1, 1]]
    np.testing.assert_allclose(votes.mean(axis=1), expected, atol=0.04)
    assert set(votes.ravel()) <= {0.0, 1.0}


def test_single_precision_stays_single():
    game = PreferenceGame(np.asarray(random_preferences(KEY, 5).matrix, np.float32), 0.1).solved()
    assert game.equilibrium.dtype == jnp.float32
    assert float(game.exploitability(game.equilibrium)) < 1e-6


HALF = np.full((3, 3), 0.5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MatrixPreferences(np.ones((2, 3))), "matrix: expected shape"),
        (lambda: MatrixPreferences(np.zeros((0, 0))), "matrix: must not be empty"),
        (lambda: MatrixPreferences([[0.5, 0.7], [0.4, 0.5]]), r"matrix: P\(y, y'\)"),
        (lambda: MatrixPreferences([[0.5, 1.7], [-0.7, 0.5]]), "matrix: must lie in"),
        (lambda: MatrixPreferences([[0.5, np.nan], [0.5, 0.5]]), "matrix: must be finite"),
        (lambda: PreferenceGame([[0.6, 0.5], [0.5, 0.5]], 0.1), r"matrix: P\(y, y'\)"),
        (lambda: PreferenceGame(HALF, 0.0), "regularisation: must lie in"),
        (lambda: PreferenceGame(HALF, -1.0), "regularisation: must lie in"),
        (lambda: PreferenceGame(HALF, 0.1, [0.5, 0.5, 0.0]), "reference: must have full support"),
        (lambda: PreferenceGame(HALF, 0.1, [0.5, 0.5, 0.5]), "reference: probabilities must sum to 1"),
        (lambda: PreferenceGame(HALF, 0.1, [0.5, 0.5]), "reference: expected 3 entries"),
        (lambda: PreferenceGame(np.stack([HALF] * 2), 0.1, HALF / 1.5), "reference: contexts"),
        (lambda: LowRankPreferences(np.eye(2), np.eye(2)), "skew: must equal minus"),
        (lambda: LowRankPreferences(np.eye(2), [[0.0, 1.0, 0.0]]), "skew: expected shape"),
        (lambda: LowRankPreferences(np.eye(2), [[0.0, -0.6], [0.6, 0.0]]), r"features: \|u\|"),
        (lambda: LowRankPreferences(np.ones(2), [[0.0]]), "features: expected shape"),
        (lambda: AdditivePreferences([0.0, 1.5]), "scores: must lie within 1"),
        (lambda: AdditivePreferences(1.0), "scores: expected shape"),
        (lambda: FunctionPreferences(lambda a, b: a * 0 + 0.4, np.arange(3.0)), "function: must return"),
        (lambda: FunctionPreferences(lambda a, b: a * 0 + 0.5, 1.0), "items: expected"),
        (lambda: cyclic_preferences(4), "actions: a cycle"),
        (lambda: cyclic_preferences(1), "actions: must lie in"),
        (lambda: random_preferences(KEY, 0), "actions: must lie in"),
        (lambda: random_preferences(KEY, 2, contexts=0), "contexts: must lie in"),
        (lambda: SampledGame(PreferenceGame(HALF, 0.1), 0), "samples: must lie in"),
        (lambda: PerturbedGame(PreferenceGame(HALF, 0.1), -1.0), "width: must lie in"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_what_is_not_a_function_or_a_game_is_refused():
    with pytest.raises(Exception, match="function"):
        FunctionPreferences("beats", np.arange(3.0))
    with pytest.raises(Exception, match="game"):
        SampledGame(HALF, 3)
