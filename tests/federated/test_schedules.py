"""Schedules of server steps against a clock that advances tick by tick, and the formulas of their frequencies."""

import numpy as np
import pytest

from tendsto.federated import ExponentialTimes, RecordedTimes, Schedule

# In tenths of a second; 0.6 is three intervals of 0.2 although 0.6 / 0.2 is not 3 in floats.
TENTHS = np.asarray([10, 6, 2, 7, 6])
EQUAL = np.full(5, 0.2)


def by_hand(tenths, steps_at, seconds):
    """Go through time tenth by tenth; `steps_at(now, waiting)` gives the contributors of steps at this moment."""
    returns, waiting, found = tenths.copy(), [], []
    for now in range(1, 10 * seconds + 1):
        waiting += [client for client in range(len(tenths)) if returns[client] == now]
        for contributors in steps_at(now, waiting):
            found.append((now / 10, sorted(contributors)))
            for client in contributors:
                waiting.remove(client)
                returns[client] = now + tenths[client]
    return found


def fixed(now, waiting):
    if now % 2 == 0:
        yield list(waiting)


def buffered(size):
    def steps(now, waiting):
        while len(waiting) >= size:
            yield waiting[:size]

    return steps


SCHEDULES = {
    "synchronous": (lambda times: Schedule.synchronous(times, 30.0), buffered(5)),
    "asynchronous": (lambda times: Schedule.asynchronous(times, 30.0), buffered(1)),
    "buffered": (lambda times: Schedule.buffered(times, 2, 30.0), buffered(2)),
    "fixed": (lambda times: Schedule.fixed_interval(times, 0.2, 30.0), fixed),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_are_those_of_a_clock_that_advances_tick_by_tick(name):
    make, rule = SCHEDULES[name]
    schedule = make(RecordedTimes(TENTHS / 10))
    expected = by_hand(TENTHS, rule, 30)
    found = [
        (pytest.approx(float(time)), np.flatnonzero(here).tolist())
        for time, here in zip(schedule.times, schedule.contributors, strict=True)
    ]
    assert found == expected
    assert (np.asarray(schedule.active).sum(axis=1) == schedule.contributors.sum(axis=1)).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_frequencies_are_the_shares_of_steps_in_the_long_run(name):
    schedule = SCHEDULES[name][0](RecordedTimes(TENTHS / 10))
    np.testing.assert_allclose(schedule.contributors.mean(axis=0), schedule.frequencies, atol=1.5 / len(schedule))


def test_frequencies_are_those_of_the_paper():
    times = RecordedTimes(TENTHS / 10)
    np.testing.assert_allclose(Schedule.fixed_interval(times, 0.2, 9.0).frequencies, 1 / np.asarray([5, 3, 1, 4, 3]))
    np.testing.assert_allclose(Schedule.asynchronous(times, 9.0).frequencies, 10 / TENTHS / (10 / TENTHS).sum())
    np.testing.assert_array_equal(Schedule.synchronous(times, 9.0).frequencies, 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda times: Schedule.asynchronous(times, 4000.0, seed=1),
        lambda times: Schedule.fixed_interval(times, 0.3, 4000.0, seed=1),
    ],
    ids=["asynchronous", "fixed"],
)
def test_frequencies_of_random_times(make):
    schedule = make(ExponentialTimes([1.0, 0.5, 0.2]))
    np.testing.assert_allclose(schedule.contributors.mean(axis=0), schedule.frequencies, rtol=0.05)


def test_random_times_follow_their_seed():
    times = ExponentialTimes([1.0, 0.5])
    same, again, other = (Schedule.asynchronous(times, 20.0, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(same.times, again.times)
    assert len(other) != len(same) or (np.asarray(other.times) != np.asarray(same.times)).any()
    assert ExponentialTimes([1.0, 0.5]).mean.tolist() == [1.0, 0.5]


def test_a_log_of_times_is_read_in_turns():
    times = RecordedTimes([[0.1, 0.5], [0.3, 0.5]])
    np.testing.assert_allclose(times.mean, [0.2, 0.5])
    np.testing.assert_allclose(times.intervals(0.2), [1.5, 3.0])
    schedule = Schedule.asynchronous(times, 1.0)
    first = np.asarray(schedule.times)[schedule.contributors[:, 0]]
    np.testing.assert_allclose(first, [0.1, 0.4, 0.5, 0.8, 0.9])
    assert Schedule.fixed_interval(times, 0.2, 400.0).frequencies[0] == pytest.approx(1 / 1.5)


def test_equal_times_answer_one_by_one_in_their_order():
    schedule = Schedule.asynchronous(RecordedTimes(EQUAL), 0.4)
    np.testing.assert_array_equal(schedule.members[:, 0], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(schedule.staleness, [0, 1, 2, 3, 4, 4, 4, 4, 4, 4])


def test_staleness_is_counted_from_the_model_that_was_received():
    schedule = Schedule.fixed_interval(RecordedTimes([0.2, 0.6]), 0.2, 1.2)
    # The second client answers in every third step, with work on a model two steps old.
    np.testing.assert_array_equal(schedule.staleness, [0, 0, 0, 2, 0, 0, 0, 2])
    assert not Schedule.synchronous(RecordedTimes(TENTHS / 10), 9.0).staleness.any()


@pytest.mark.parametrize("name", SCHEDULES)
def test_importance_removes_the_bias_that_identical_weights_have(name):
    importance = np.asarray([0.1, 0.3, 0.2, 0.2, 0.2])
    schedule = SCHEDULES[name][0](RecordedTimes(TENTHS / 10))
    np.testing.assert_allclose(schedule.frequencies * schedule.weights(importance, "importance"), importance)
    counted = schedule.contributors.sum(axis=0)
    np.testing.assert_allclose(schedule.surrogate_weights(importance, "identical"), counted / counted.sum())
    np.testing.assert_allclose(schedule.surrogate_weights(importance), importance, atol=0.01)
    assert schedule.bias(importance) < 0.02
    assert schedule.bias(importance, "step_size") == schedule.bias(importance)
    assert schedule.bias(importance, "identical") > 0.1
    expected = {"synchronous": 1 / 5, "asynchronous": 1.0, "buffered": 1 / 2, "fixed": 1 / (1 / 5 + 2 / 3 + 1 + 1 / 4)}
    np.testing.assert_allclose(schedule.weights(importance, "identical"), expected[name])


TIMES = RecordedTimes([1.0, 0.5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RecordedTimes([1.0, 0.0]), "seconds"),
        (lambda: RecordedTimes([]), "seconds"),
        (lambda: RecordedTimes(np.ones((1, 2, 3))), "seconds: expected shape"),
        (lambda: ExponentialTimes([1.0, -1.0]), "mean"),
        (lambda: ExponentialTimes([[1.0]]), "mean"),
        (lambda: Schedule.synchronous(TIMES, 0.5), "seconds: the first step happens after 1 s"),
        (lambda: Schedule.synchronous(TIMES, 0.0), "seconds"),
        (lambda: Schedule.buffered(TIMES, 3, 9.0), "size"),
        (lambda: Schedule.buffered(TIMES, 0, 9.0), "size"),
        (lambda: Schedule.buffered(RecordedTimes([9.0, 1.0, 1.0]), 2, 3.0), "client 0 contributes to no step"),
        (lambda: Schedule.fixed_interval(TIMES, 0.0, 9.0), "interval"),
        (lambda: Schedule.fixed_interval(TIMES, 3.0, 2.0), "seconds"),
        (lambda: Schedule.synchronous(TIMES, 3.0).surrogate_weights([[1.0]]), "importance"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
