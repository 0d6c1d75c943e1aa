"""Screening against the exact common factor, one fraction at a time, and against the classical list."""

import math

import numpy as np
import pytest

from tendsto.constants import PCF, Box, promising, screen
from tendsto.constants.boxes import convergent, representatives, terminating
from tendsto.constants.screening import nilpotent


def candidates(box):
    a, b = box.coefficients(0, len(box))
    kept = representatives(a, b) & convergent(a, b) & ~terminating(b)
    return a[kept], b[kept]


def test_nilpotent_means_that_the_prime_divides_from_twice_its_size_on():
    a, b = candidates(Box(1, 2, 2))
    for prime in (7, 13):
        for row, found in enumerate(nilpotent(a, b, prime)):
            convergents = PCF(a[row].tolist(), b[row].tolist()).convergents(range(2 * prime, 4 * prime))
            divides = all(int(it.p) % prime == int(it.q) % prime == 0 for it in convergents)
            assert divides == found


@pytest.mark.parametrize("box", [Box(1, 2, 2), Box(2, 2, 1), Box(1, 1, 3), Box(2, 4, 1)], ids=str)
def test_no_fraction_with_factorial_reduction_is_lost(box):
    a, b = candidates(box)
    exact = [bool(PCF(x, y).factorial_reduction(480)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert screen(a, b, 480).tolist() == exact
    assert sum(exact) < 0.2 * len(exact)


def test_the_classical_fractions_are_found_and_their_neighbours_are_not():
    primitive = [(3, 2, 1), (7, -8, 2), (10, 9, 3), (11, -1, 3), (17, 72, 6)]
    rows = [(A, B, shift) for A, B, c in primitive for shift in (c, c + 1)]
    a = np.array([[A, A, c] for A, _, c in rows])
    b = np.array([[-B, 0, 0, 0, 0] for _, B, _ in rows])
    found = promising(a, b)
    assert found[0::2].all()
    assert not found[1::2].any()


def test_the_ratio_is_that_of_the_common_factor():
    reduction = PCF([3, 3, 1], [-2, 0, 0, 0, 0]).factorial_reduction(60)
    convergent = PCF([3, 3, 1], [-2, 0, 0, 0, 0]).convergent(60)
    common = math.gcd(int(convergent.p), int(convergent.q))
    assert reduction.ratio == pytest.approx(math.log(common) / math.log(math.factorial(60) ** 2))
    assert reduction.growth == pytest.approx(math.log(abs(int(convergent.q)) // common) / 60)


def test_bad_depths_are_named():
    with pytest.raises(ValueError, match="depth"):
        screen(np.array([[1, 1]]), np.array([[1]]), 50)
