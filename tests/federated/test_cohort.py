"""Cohorts: whose rows are taken, put back and summed, by hand."""

import jax.numpy as jnp
import numpy as np

from tendsto.federated.cohort import Cohort

LISTED = Cohort(jnp.asarray([True, False, True]), jnp.asarray([3, 1, 0]))
ALL = Cohort(jnp.asarray([True, False, True, False]))


def test_rows_are_those_of_the_members():
    rows = {"a": jnp.arange(4.0), "b": jnp.arange(8.0).reshape(4, 2)}
    taken = LISTED.take(rows)
    np.testing.assert_array_equal(taken["a"], [3.0, 1.0, 0.0])
    np.testing.assert_array_equal(taken["b"], [[6.0, 7.0], [2.0, 3.0], [0.0, 1.0]])
    np.testing.assert_array_equal(ALL.take(rows)["a"], rows["a"])


def test_who_is_absent_writes_nothing():
    old = jnp.zeros((4, 2))
    np.testing.assert_array_equal(
        LISTED.put(old, jnp.asarray([[1.0, 2], [3, 4], [5, 6]])), [[5, 6], [0, 0], [0, 0], [1, 2]]
    )
    np.testing.assert_array_equal(ALL.put(old, jnp.ones((4, 2))), [[1, 1], [0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(LISTED.mask(4), [True, False, False, True])
    np.testing.assert_array_equal(ALL.mask(4), ALL.active)


def test_who_is_absent_counts_for_nothing_even_with_nan():
    rows = jnp.asarray([[1.0, 2], [np.nan, np.inf], [5, 6]])
    np.testing.assert_array_equal(LISTED.present(rows), [[1, 2], [0, 0], [5, 6]])
    np.testing.assert_array_equal(LISTED.weighted_sum(jnp.asarray([2.0, 7.0, 0.5]), rows), [4.5, 7.0])
    assert LISTED.size == ALL.size == 2
    assert Cohort.everyone(5).size == 5
