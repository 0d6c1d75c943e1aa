"""Adversarial training at the clients against a transcription in NumPy, and in the settings where it is simpler."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.federated import (
    EF21,
    IID,
    PGD,
    Among,
    Clients,
    FedAvg,
    OneAttackPerRound,
    RandomNoise,
    Strongest,
    TopK,
    Uniform,
    accuracy_on,
    adversarial,
    certified_loss,
    exact_extreme,
    fgsm,
    linear,
    linearised_two_layer,
    pairwise_robust_lower_bound,
    robust_accuracy_on,
    separability,
    separated_points,
    smooth_absolute,
    split,
    two_layer,
    two_layer_bounds,
    two_layer_lipschitz,
    two_layer_parameters,
    unperturbed,
)
from tendsto.optimize import Optax

POINTS = separated_points(12, 5, 0.4, seed=2)
LABELS = jnp.asarray([1.0, -1.0] * 6)
START = two_layer_parameters(jax.random.key(0), 5, 8)
ATTACK = PGD(0.1, steps=2, random_start=False)


def network(clients=3, *, batch=None, **environment):
    shape = (clients, 12 // clients)
    sizes = jnp.full(clients, shape[1])
    samples = Clients(POINTS.reshape(*shape, 5), LABELS.reshape(shape), sizes)
    return samples.problem(two_layer, smooth_absolute, batch=batch, **environment)


def transcription(rounds, steps, local, server, radius, attack_steps, per_round=False):
    """FAL on the two-layer network, by hand: attacks, gradients and rounds."""
    bias, outer = np.asarray(START["bias"]), np.asarray(START["outer"])
    global_weights = np.asarray(START["weights"])
    features, labels = np.asarray(POINTS).reshape(3, 4, 5), np.asarray(LABELS).reshape(3, 4)

    def residual_slopes(weights, x, y):
        inner = x @ weights + bias
        residual = np.maximum(inner, 0) @ outer - y
        return inner > 0, residual / np.sqrt(1 + residual**2)

    def attacked(weights, clean, y):
        x = clean.copy()
        for _ in range(attack_steps):
            on, slope = residual_slopes(weights, x, y)
            gradient = slope[:, None] * ((on * outer) @ weights.T)
            x = x + 2.5 * radius / attack_steps * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
            length = np.linalg.norm(x - clean, axis=1, keepdims=True)
            x = clean + (x - clean) * np.minimum(1, radius / length)
        return x

    for _ in range(rounds):
        moved = []
        for clean, y in zip(features, labels, strict=True):
            weights, stale = global_weights.copy(), attacked(global_weights, clean, y)
            for _ in range(steps):
                x = stale if per_round else attacked(weights, clean, y)
                on, slope = residual_slopes(weights, x, y)
                weights = weights - local * x.T @ (slope[:, None] * on * outer) / len(y)
            moved.append(weights - global_weights)
        global_weights = global_weights + server * np.mean(moved, axis=0)
    return global_weights


@eqx.filter_jit
def answers(problem, x):
    """What the adversary makes of every client's samples."""
    return problem.map(lambda data: problem.attack(x, data.features, data.targets, jax.random.key(0)))


def value(problem, x):
    return float(eqx.filter_jit(problem.objective)(x))


def test_rounds_are_those_of_the_algorithm():
    problem = adversarial(network(), ATTACK)
    trace = tt.run(FedAvg(0.8, steps=3, server=0.7), problem, START, steps=6)
    expected = transcription(6, 3, 0.8, 0.7, 0.1, 2)
    np.testing.assert_allclose(trace.x["weights"][0], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(trace.x["outer"][0], START["outer"])
    np.testing.assert_array_equal(trace.x["bias"][0], START["bias"])
    # Three local steps on four samples at three clients, each with two gradients of the attack.
    assert trace.final("gradients") == 6 * 3 * 12 * 3


def test_one_attack_a_round_is_made_with_the_rounds_first_model():
    trace = tt.run(OneAttackPerRound(FedAvg(0.8, steps=3), ATTACK), network(), START, steps=6)
    expected = transcription(6, 3, 0.8, 1.0, 0.1, 2, per_round=True)
    np.testing.assert_allclose(trace.x["weights"][0], expected, rtol=1e-9, atol=1e-12)
    assert trace.final("gradients") == 6 * (3 * 12 + 2 * 12)


@pytest.mark.parametrize("batch", [None, 2], ids=["all", "batches"])
def test_a_radius_of_zero_is_federated_averaging(batch):
    problem = network(batch=batch, participation=Uniform(2))
    zero = tt.run(FedAvg(1.0, steps=2), adversarial(problem, PGD(0.0, steps=2)), START, steps=5, record=())
    plain = tt.run(FedAvg(1.0, steps=2), problem, START, steps=5, record=())
    # To rounding: the compiler fuses both programs in its own ways.
    np.testing.assert_allclose(zero.x["weights"], plain.x["weights"], rtol=0, atol=1e-14)
    assert float(zero["gradients"][0, -1]) == 3 * float(plain["gradients"][0, -1])


def test_one_local_step_of_equal_clients_is_central_training():
    federated = tt.run(FedAvg(0.5), adversarial(network(), ATTACK), START, steps=8)
    central = tt.run(Optax(optax.sgd(0.5)), adversarial(network(1), ATTACK), START, steps=8)
    np.testing.assert_allclose(federated.x["weights"], central.x["weights"], atol=1e-13)


def test_gradients_do_not_pass_through_the_attack():
    problem = adversarial(network(), ATTACK)
    attacked = answers(problem, START)
    fixed = dataclasses.replace(network(), samples=dataclasses.replace(network().samples, features=attacked))
    slopes = (eqx.filter_jit(each.gradient)(START)["weights"] for each in (problem, fixed))
    np.testing.assert_allclose(*slopes, rtol=1e-12, atol=1e-15)
    assert value(problem, START) == pytest.approx(value(fixed, START), rel=1e-14)


def test_any_method_trains_against_the_adversary():
    problem = adversarial(network(), ATTACK)
    trace = tt.run(EF21(TopK(30), 0.5), problem, START, steps=150, record=["objective"], points=1)
    assert float(trace.final("objective")[0]) < 0.5 * float(trace["objective"][0, 0])


def test_every_gradient_draws_its_own_noise():
    problem = adversarial(network(1), RandomNoise(0.2))
    one, other = (problem.stochastic_gradient(START, jax.random.key(number))["weights"] for number in (0, 1))
    assert float(jnp.abs(one - other).max()) > 0


def test_a_problem_is_measured_by_another_attack():
    weak, strong = adversarial(network(), PGD(0.05)), PGD(0.2)
    values = [value(each, START) for each in (network(), weak, adversarial(weak, strong))]
    assert values[0] < values[1] < values[2]
    assert value(adversarial(weak, unperturbed), START) == pytest.approx(values[0], rel=1e-14)


def test_the_padding_is_no_sample():
    ragged = Clients(
        jnp.stack([POINTS[:4], POINTS[4:8].at[2:].set(POINTS[4])]), LABELS[:8].reshape(2, 4), jnp.asarray([4, 2])
    )
    problem = adversarial(ragged.problem(two_layer, smooth_absolute, weights=ragged.by_size), ATTACK)
    loss = [value(adversarial(_alone(rows), ATTACK), START) * len(rows) for rows in (range(4), range(4, 6))]
    assert value(problem, START) == pytest.approx(sum(loss) / 6, rel=1e-12)


def _alone(rows):
    index = jnp.asarray(list(rows))
    return Clients(POINTS[index][None], LABELS[index][None], jnp.asarray([len(index)])).problem(
        two_layer, smooth_absolute
    )


def classes():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = rng.normal(size=(60, 2)) * 0.3 + np.asarray([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])[labels]
    return features, labels


def test_trades_is_its_formula_and_at_zero_the_clean_loss():
    features, labels = classes()
    problem = split((features, labels), 2, IID()).problem(linear)
    x = {"weights": jnp.asarray([[1.0, -0.5, 0.0], [0.2, 1.0, -1.0]]), "bias": jnp.zeros(3)}
    trades = adversarial(problem, PGD(0.5, steps=5), trade_off=2.0)
    attacked = answers(trades, x)
    clean, moved = (np.asarray(linear(x, each.reshape(60, 2))) for each in (problem.samples.features, attacked))
    logs = [scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)) for scores in (clean, moved)]
    divergence = np.sum(np.exp(logs[0]) * (logs[0] - logs[1]), axis=1)
    assert divergence.mean() > 0.01
    expected = value(problem, x) + 2.0 * divergence.mean()
    assert value(trades, x) == pytest.approx(expected, rel=1e-12)
    none = adversarial(problem, PGD(0.5, steps=5), trade_off=0.0)
    slopes = (eqx.filter_jit(each.gradient)(x)["weights"] for each in (none, problem))
    np.testing.assert_allclose(*slopes, rtol=1e-12)


def test_robust_accuracy_counts_who_stays_right():
    features, labels = classes()
    labels = labels % 2
    problem = split((features, labels), 2, IID()).problem(linear)
    x = {"weights": jnp.asarray([[0.3, -0.5], [-0.4, 0.8]]), "bias": jnp.zeros(2)}
    state = tt.run(FedAvg(0.1), problem, x, steps=0).state
    state = jax.tree.map(lambda leaf: leaf[0], state)
    # With two classes a linear model's samples stay right if they are further than the radius from the boundary.
    normal = np.asarray(x["weights"])[:, 0] - np.asarray(x["weights"])[:, 1]
    distance = features @ normal / np.linalg.norm(normal) * np.where(labels == 0, 1.0, -1.0)
    radius = float(np.median(distance[distance > 0]))
    attack = fgsm(radius * 1.000001, "euclidean")
    expected = float(np.mean(distance > radius * 1.000001))

    def measured(metric):
        return float(eqx.filter_jit(metric)(problem, state))

    assert measured(robust_accuracy_on((features, labels), attack)) == pytest.approx(expected)
    assert float(eqx.filter_jit(adversarial(problem, attack).accuracy)(x)) == pytest.approx(expected)
    clean = measured(accuracy_on((features, labels)))
    assert measured(robust_accuracy_on((features, labels), unperturbed)) == clean > expected > 0


# ---- the two-layer network -----------------------------------------------------------------------------------------


def test_the_network_is_its_formula_and_starts_as_the_paper_has_it():
    parameters = two_layer_parameters(jax.random.key(3), 4, 4000)
    x = np.asarray([[0.3, -0.2, 0.9, 0.5]])
    inner = x @ np.asarray(parameters["weights"]) + np.asarray(parameters["bias"])
    np.testing.assert_allclose(two_layer(parameters, jnp.asarray(x)), np.maximum(inner, 0) @ parameters["outer"])
    np.testing.assert_allclose(np.unique(parameters["outer"]), [-(4000 ** (-1 / 3)), 4000 ** (-1 / 3)])
    assert float(jnp.std(parameters["weights"])) == pytest.approx(4000**-0.5, rel=0.02)
    assert float(jnp.std(parameters["bias"])) == pytest.approx(4000**-0.5, rel=0.05)


def test_the_linearisation_touches_at_the_start_and_is_linear():
    moves = jax.random.normal(jax.random.key(4), (2, 5, 8))
    at = [
        linearised_two_layer(START, START | {"weights": START["weights"] + move}, POINTS)
        for move in (jnp.zeros((5, 8)), moves[0], moves[1], moves[0] + moves[1])
    ]
    np.testing.assert_allclose(at[0], two_layer(START, POINTS), atol=1e-14)
    np.testing.assert_allclose(at[3], at[1] + at[2] - at[0], atol=1e-13)
    tangent = jax.jvp(lambda w: two_layer(START | {"weights": w}, POINTS), (START["weights"],), (moves[0],))[1]
    np.testing.assert_allclose(at[1] - at[0], tangent, atol=1e-13)


def test_attack_exact_extreme_and_bounds_enclose_each_other():
    parameters = two_layer_parameters(jax.random.key(8), 3, 12)
    parameters["weights"] = 3.0 * parameters["weights"]
    points, radius = separated_points(4, 3, 0.3), 0.15
    low, high = two_layer_bounds(parameters, points, radius, "sup")
    for sign, name, bound in ((1.0, "most", high), (-1.0, "least", low)):
        attack = PGD(radius, "sup", steps=60, restarts=8)

        def loss(x, y, sign=sign):
            return sign * two_layer(parameters, x) + 0.0 * y

        found = eqx.filter_jit(attack)(loss, points, jnp.zeros(4), jax.random.key(0))
        for number in range(4):
            value, where = exact_extreme(parameters, points[number], radius, name)
            assert float(jnp.abs(where - points[number]).max()) <= radius + 1e-7
            assert float(two_layer(parameters, where[None])[0]) == pytest.approx(value, abs=1e-6)
            reached = float(two_layer(parameters, found[number : number + 1])[0])
            assert sign * reached <= sign * value + 1e-6
            assert sign * reached == pytest.approx(sign * value, abs=0.02)
            assert sign * value <= sign * float(bound[number]) + 1e-6


@pytest.mark.parametrize("norm", ["euclidean", "sup"])
def test_bounds_hold_and_are_tight_for_small_balls(norm):
    def size(v):
        return jnp.abs(v).max() if norm == "sup" else jnp.linalg.norm(v)

    low, high = two_layer_bounds(START, POINTS, 1e-6, norm)
    slopes = jax.vmap(jax.grad(lambda x: two_layer(START, x[None])[0]))(POINTS)
    dual = jnp.sum(jnp.abs(slopes), axis=1) if norm == "sup" else jnp.linalg.norm(slopes, axis=1)
    np.testing.assert_allclose((high - low) / 2e-6, dual, rtol=1e-5)
    low, high = two_layer_bounds(START, POINTS, 0.3, norm)
    offsets = jax.random.normal(jax.random.key(0), (300, 5))
    offsets = 0.3 * offsets / jax.vmap(size)(offsets)[:, None]
    values = jax.vmap(lambda offset: two_layer(START, POINTS + offset))(offsets)
    assert (values >= low).all()
    assert (values <= high).all()
    if norm == "euclidean":
        assert float((high - low).max()) <= 2 * 0.3 * float(two_layer_lipschitz(START)) * (1 + 1e-12)


def test_the_certificate_is_the_loss_at_the_worse_end():
    problem = network()

    @eqx.filter_jit
    def certified(problem, x):
        return certified_loss(problem, x, lambda x, features: two_layer_bounds(x, features, 0.1))

    bound = float(certified(problem, START))
    low, high = two_layer_bounds(START, POINTS, 0.1)
    losses = jnp.maximum(smooth_absolute(low, LABELS), smooth_absolute(high, LABELS))
    assert bound == pytest.approx(float(losses.mean()), rel=1e-12)
    attacked = adversarial(problem, Strongest((PGD(0.1, steps=30, restarts=4), unperturbed)))
    assert value(problem, START) < value(attacked, START) <= bound


# ---- separability --------------------------------------------------------------------------------------------------


def test_points_are_separated_on_the_slice():
    points = np.asarray(separated_points(20, 10, 0.5, seed=1))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0)
    np.testing.assert_array_equal(points[:, -1], 0.5)
    distance, gamma = separability(points, 0.1)
    expected = min(np.linalg.norm(a - b) for i, a in enumerate(points) for b in points[:i])
    assert distance == pytest.approx(expected)
    assert distance >= 0.5
    assert gamma == pytest.approx(distance * (distance - 0.2))
    assert separability(points, 0.4).gamma < 0


def test_the_floor_of_pairs_and_chains():
    pair = [[0.0, 0.0], [0.1, 0.0], [5.0, 0.0]]
    cost = 2 * (np.sqrt(2) - 1)
    assert pairwise_robust_lower_bound(pair, [1, -1, 1], 0.05) == pytest.approx(cost / 3)
    assert pairwise_robust_lower_bound(pair, [1, -1, 1], 0.0499) == 0
    assert pairwise_robust_lower_bound(pair, [1, 1, 1], 0.05) == 0
    # A chain of three: one sample can pay in one pair only.
    chain = [[0.0, 0.0], [0.1, 0.0], [0.2, 0.0]]
    assert pairwise_robust_lower_bound(chain, [1, -1, 1], 0.05) == pytest.approx(cost / 3)
    # The dearer pair is chosen.
    dear = 2 * (np.sqrt(1 + 2.0**2) - 1)
    assert pairwise_robust_lower_bound(chain, [1, -1, 3], 0.05) == pytest.approx(dear / 3)
    # Three samples that all meet pay half of each pair: a triangle has no better matching, but a fractional one.
    triangle = [[0.0, 0.0], [0.1, 0.0], [0.05, 0.05]]
    values = [0.0, 2.0, 1.0]
    half = [2 * (np.sqrt(1 + gap**2) - 1) for gap in (1.0, 0.5, 0.5)]
    expected = max(half[0], sum(half) / 2) / 3
    assert pairwise_robust_lower_bound(triangle, values, 0.05) == pytest.approx(expected)


def test_no_model_beats_the_floor():
    rows = jnp.asarray([[0.0, 0.0], [0.1, 0.0], [0.05, 0.08], [1.0, 1.0]])
    targets = jnp.asarray([1.0, -1.0, 0.5, 0.0])
    floor = pairwise_robust_lower_bound(rows, targets, 0.06)
    middles = jnp.stack([(rows[i] + rows[j]) / 2 for i, j in ((0, 1), (0, 2), (1, 2))])
    worst = Among(middles, 0.06)

    def attained(key):
        parameters = two_layer_parameters(key, 2, 16)

        def loss(x, y):
            return smooth_absolute(two_layer(parameters, x), y)

        return loss(worst(loss, rows, targets, jax.random.key(0)), targets).mean()

    assert float(jax.jit(jax.vmap(attained))(jax.random.split(jax.random.key(0), 20)).min()) >= floor > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adversarial(network(), 0.1), "adversary"),
        (lambda: adversarial(network(), ATTACK, trade_off=-1.0), "trade_off"),
        (lambda: separated_points(50, 3, 0.9), "distance: 50 points"),
        (lambda: separability([[0.0]], 0.1), "features: at least two"),
        (lambda: pairwise_robust_lower_bound([[0.0], [1.0]], [1.0], 0.1), "targets: expected one"),
        (lambda: two_layer_parameters(jax.random.key(0), 3, 0), "width"),
        (lambda: exact_extreme(START, POINTS[0], 0.1, "worst"), "extreme"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
