"""What failing and lying clients do to a method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tendsto as tt
from tendsto.federated import EF21, FedAvg, FederatedQuadratic, Recorded, TopK, random_quadratics
from tendsto.federated.faults import Faulty

STEPS, FAULTY = 15, np.asarray([False, True, False, False])
METHODS = {"averaging": FedAvg(0.05, steps=3), "feedback": EF21(TopK(2), 0.05)}


def quadratics(participation=None):
    problem = random_quadratics(jax.random.key(3), 4, 5, spread=3.0)
    environment = {} if participation is None else {"participation": participation}
    return FederatedQuadratic(problem.hessians, problem.linear, **environment)


def last(method, problem=None):
    return tt.run(method, problem or quadratics(), jnp.ones(5), steps=STEPS)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("fault", ["vanish", "nan"])
def test_what_does_not_count_is_absent(name, fault):
    faulty = last(Faulty(METHODS[name], FAULTY, fault, leave_out_nonfinite=True))
    absent = last(METHODS[name], quadratics(Recorded([~FAULTY])))
    np.testing.assert_allclose(faulty.x, absent.x, rtol=1e-13)
    if name == "feedback":  # what a client keeps of an answer that was lost is what it kept before
        np.testing.assert_allclose(faulty.state.inner.estimates, absent.state.estimates, rtol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_one_nan_is_reported_as_divergence(name):
    faulty = last(Faulty(METHODS[name], FAULTY, "nan"))
    assert not faulty["finite"][0, -1]
    assert np.isnan(faulty.x).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_factor_of_one_changes_nothing(name):
    np.testing.assert_array_equal(last(Faulty(METHODS[name], FAULTY, "scale", 1.0)).x, last(METHODS[name]).x)


def test_a_turned_sign_weighs_a_client_negatively_in_averaging():
    liar = last(Faulty(METHODS["averaging"], FAULTY, "scale", -1.0))
    problem, x = quadratics(), np.ones(5)
    hessians, linear = np.asarray(problem.hessians), np.asarray(problem.linear)
    for _ in range(STEPS):
        moved = []
        for client in range(4):
            y = x
            for _ in range(3):
                y = y - 0.05 * (hessians[client] @ y - linear[client])
            moved.append((-1 if FAULTY[client] else 1) * (y - x))
        x = x + np.mean(moved, axis=0)
    np.testing.assert_allclose(liar.x[0], x, rtol=1e-11)


@pytest.mark.parametrize("fault", ["scale", "repeat"])
def test_a_lie_parts_the_server_of_error_feedback_from_its_clients(fault):
    method = Faulty(METHODS["feedback"], FAULTY, fault)
    state = last(method).state.inner
    honest = last(METHODS["feedback"]).state
    assert np.abs(state.aggregate - state.estimates.mean(axis=1)).max() > 1e-3
    assert np.abs(honest.aggregate - honest.estimates.mean(axis=1)).max() < 1e-12


def test_a_repeated_answer_is_that_of_the_last_time():
    liar = last(Faulty(FedAvg(0.05), FAULTY, "repeat"))
    problem, x = quadratics(), np.ones(5)
    hessians, linear, before = np.asarray(problem.hessians), np.asarray(problem.linear), np.zeros(5)
    for _ in range(STEPS):
        moved = -0.05 * (hessians @ x - linear)
        sent = np.where(FAULTY[:, None], before, moved)
        before, x = moved[1], x + sent.mean(axis=0)
    np.testing.assert_allclose(liar.x[0], x, rtol=1e-11)


def test_bad_input_names_the_argument():
    with pytest.raises((ValueError, TypeError), match="fault"):
        Faulty(METHODS["averaging"], FAULTY, "sleep")
    with pytest.raises((ValueError, TypeError), match="faulty"):
        last(Faulty(METHODS["averaging"], FAULTY[:2], "nan"))
