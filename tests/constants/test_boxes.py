"""Boxes against their counting formula and against enumeration by nested loops."""

import itertools
import random

import numpy as np
import pytest

from tendsto.constants import PCF, Box
from tendsto.constants.boxes import convergent, representatives, terminating


def test_a_box_holds_what_the_formula_counts():
    assert len(Box(2, 2, 5)) == (11**3 - 1) ** 2 == 1_768_900
    assert len(Box(2, 2, 3)) == (7**3 - 1) ** 2 == 116_964
    assert Box(5, 0, 60).size == (121**6 - 1) * 120


def test_a_box_is_all_pairs_of_nonzero_polynomials_once():
    pairs = [
        (PCF(a, b).a, PCF(a, b).b)
        for a in itertools.product(range(-2, 3), repeat=2)
        for b in itertools.product(range(-2, 3), repeat=3)
        if any(a) and any(b)
    ]
    found = [(formula.a, formula.b) for formula in Box(1, 2, 2)]
    assert found == pairs
    assert len(set(found)) == len(Box(1, 2, 2))


def test_any_part_can_be_asked_for():
    box = Box(2, 2, 4)
    whole = box.coefficients(0, 5000)
    for start, stop in ((0, 0), (0, 1), (1234, 4321)):
        for part, full in zip(box.coefficients(start, stop), whole, strict=True):
            np.testing.assert_array_equal(part, full[start:stop])
    for start, stop in ((-1, 3), (5, 4), (0, box.size + 1)):
        with pytest.raises(ValueError, match="start, stop"):
            box.coefficients(start, stop)


def test_what_is_left_out_is_another_one_inflated():
    """Every fraction that is left out equals one that is kept, up to its sign."""
    box = Box(1, 2, 3)
    a, b = box.coefficients(0, len(box))
    kept = representatives(a, b)
    formulas = list(box)
    values = {formulas[i].convergent(9).fraction for i in np.flatnonzero(kept) if formulas[i].convergent(9).q}
    left_out = [i for i in np.flatnonzero(~kept & ~terminating(b)) if formulas[i].convergent(9).q]
    for i in random.Random(0).sample(left_out, 300):
        assert {formulas[i].convergent(9).fraction, -formulas[i].convergent(9).fraction} & values, formulas[i]


def test_an_inflated_fraction_is_left_out_and_its_original_kept():
    rows = {
        ((1, 1), (0, 0, 1)): True,  # not inflated: n + 1 does not divide 1
        ((1, 1), (1, 1, 0)): False,  # n + 1 times the golden ratio's 1, (n + 1) n times its 1
        ((2, 2), (1, 1, 0)): False,
        ((2, 4), (0, 4, 4)): False,  # 2 times (1, 2), 4 times (1, 1)
        ((-2, -1), (1, 0, 0)): False,
        ((2, 1), (1, 0, 0)): True,
    }
    a, b = (np.array([row[side] for row in rows]) for side in (0, 1))
    assert representatives(a, b).tolist() == list(rows.values())


def test_asymptotics_agree_with_each_fraction():
    box = Box(1, 2, 3)
    a, b = box.coefficients(0, 6000)
    for formula, ends, converges in zip(box, terminating(b), convergent(a, b), strict=False):
        assert ends == (formula.terminates_at is not None)
        if not ends:
            assert converges == (formula.convergence in ("exponential", "super-exponential"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((9, 2, 1), "degree_a"), ((1, -1, 1), "degree_b"), ((1, 1, 0), "bound"), ((8, 8, 1000), "bound: .* numbered")],
)
def test_bad_boxes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Box(*arguments)
    with pytest.raises(TypeError, match="bound"):
        Box(1, 1, 2.5)
