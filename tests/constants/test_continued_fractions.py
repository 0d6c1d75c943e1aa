"""Continued fractions against closed forms, Apéry's sequences, plain fractions and the library of their discoverers."""

import math
import pickle
from fractions import Fraction

import flint
import mpmath
import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from tendsto.constants import PCF, NoLimit

APERY = PCF([34, 51, 27, 5], [-1, 0, 0, 0, 0, 0, 0])
KNOWN = {
    "4/pi": (PCF([2, 1], [1, 0, 0]), lambda: 4 / arb.pi()),
    "1/atan(1/2)": (PCF([4, 2], [1, 0, 0]), lambda: 1 / (arb(1) / 2).atan()),
    "2/ln2": (PCF([6, 3], [-1, 0, 0]), lambda: 2 / arb(2).log()),
    "5/zeta2": (PCF([11, 11, 3], [1, 0, 0, 0, 0]), lambda: 5 / arb(2).zeta()),
    "6/zeta3": (APERY, lambda: 6 / arb(3).zeta()),
    "e-1": (PCF([1, 1], [1, 1]), lambda: arb.const_e() - 1),
    "golden": (PCF(1, 1), lambda: (1 + arb(5).sqrt()) / 2),
    "sqrt29": (PCF(5, 1), lambda: (5 + arb(29).sqrt()) / 2),
    "z/artanh z": (PCF([4, 2], [-1, 0, 0]), lambda: 1 / (arb(1) / 2).atanh()),
}


def by_fractions(a, b, depth):
    """The convergent from the inside out, in Python's fractions."""
    tail = Fraction(0)
    for k in range(depth, 0, -1):
        tail = Fraction(np.polyval(b, k).item()) / (Fraction(np.polyval(a, k).item()) + tail)
    return a[-1] + tail


@pytest.mark.parametrize("name", KNOWN)
def test_limits_are_balls_around_the_closed_form(name):
    formula, value = KNOWN[name]
    for digits in (5, 40, 300):
        ball = formula.limit(digits)
        with flint.ctx.workdps(digits + 30):
            assert ball.overlaps(value())
            assert ball.rad() <= arb(10) ** -digits * max(1, abs(ball.mid()))


@pytest.mark.parametrize("name", KNOWN)
def test_a_limit_is_not_that_of_the_fraction_without_its_leading_term(name):
    formula, value = KNOWN[name]
    assert not (formula.limit(20) - formula.a[-1]).overlaps(value())


def test_convergents_are_those_of_plain_fractions():
    for a, b in ([2, 1], [1, 0, 0]), ([34, 51, 27, 5], [-1, 0, 0, 0, 0, 0, 0]), ([1, -7], [-3, 2, 1]):
        depths = [0, 1, 2, 49, 120]
        for found in PCF(a, b).convergents(depths):
            wanted = by_fractions(a, b, found.depth)
            assert (int(found.fraction.p), int(found.fraction.q)) == (wanted.numerator, wanted.denominator)


def test_the_recurrence_and_its_start():
    formula = PCF([1, -2, 3], [2, 0, -5])
    p, q = [1, 3], [0, 1]
    for n in range(1, 30):
        a, b = n * n - 2 * n + 3, 2 * n * n - 5
        p.append(a * p[-1] + b * p[-2])
        q.append(a * q[-1] + b * q[-2])
    for found in formula.convergents(range(30)):
        assert (int(found.p), int(found.q)) == (p[found.depth + 1], q[found.depth + 1])


def test_numerators_of_aperys_fraction_are_aperys_numbers():
    numbers = [sum(math.comb(n, k) ** 2 * math.comb(n + k, k) ** 2 for k in range(n + 1)) for n in range(13)]
    assert numbers[:4] == [1, 5, 73, 1445]
    for found in APERY.convergents(range(12)):
        n = found.depth + 1
        assert found.p == math.factorial(n) ** 3 * numbers[n]


def test_aperys_irrationality_exponent():
    """The values of the paper's field of zeta(3), and the limit (4 ln(1+√2) - 3)/(4 ln(1+√2) + 3)."""
    assert float(APERY.delta(200)) == pytest.approx(0.0793292, abs=5e-8)
    limit = (4 * math.log(1 + math.sqrt(2)) - 3) / (4 * math.log(1 + math.sqrt(2)) + 3)
    assert float(APERY.delta(3000)) == pytest.approx(limit, abs=3e-3)
    convergent = APERY.convergent(200)
    with flint.ctx.workdps(900):
        error = abs(APERY.limit(700) - arb(convergent.fraction))
        raw = -1 - float(error.log()) / math.log(int(convergent.q))
    assert raw == pytest.approx(-0.571763, abs=5e-7)  # without reduction nothing would be proved


def test_the_library_of_the_discoverers_agrees():
    peer = pytest.importorskip("ramanujantools.pcf")
    for formula in (APERY, KNOWN["4/pi"][0], KNOWN["5/zeta2"][0], KNOWN["e-1"][0]):
        theirs = peer.PCF(*formula.to_sympy())
        for depth in (10, 60):
            assert theirs.limit(depth).as_rational() == sympy.Rational(str(formula.convergent(depth).fraction))
    assert theirs.delta(200) == pytest.approx(float(formula.delta(200)), rel=1e-9)


def test_delta_needs_a_limit_it_can_tell_from_the_convergent():
    with pytest.raises(ValueError, match="limit: is not precise enough"):
        APERY.delta(50, limit=arb(APERY.convergent(50).fraction))
    with pytest.raises(ValueError, match="depth: the denominator"):
        PCF(1, 1).delta(0)
    with pytest.raises(NoLimit, match="rational"):
        PCF([1, 2], [-1, 5]).delta(3)


@settings(max_examples=60)
@given(
    st.lists(st.integers(-6, 6), min_size=1, max_size=3).filter(any),
    st.lists(st.integers(-6, 6), min_size=1, max_size=5).filter(any),
)
def test_a_deep_convergent_lies_in_every_certified_ball(a, b):
    """What certifies a ball is a theorem; that it was applied rightly shows on convergents far deeper."""
    formula = PCF(a, b)
    try:
        ball = formula.limit(8, max_depth=2000)
    except NoLimit:
        return
    if formula.terminates_at is not None:
        later = formula.convergent(formula.terminates_at + 3)
        assert not later.q or ball.overlaps(arb(later.fraction))
        return
    for depth in (3000, 3001):
        deep = formula.convergent(depth)
        with flint.ctx.workdps(60):
            assert abs(arb(deep.fraction) - ball).abs_lower() <= arb(10) ** -20


def test_how_a_fraction_converges():
    assert PCF([2, 1], [1, 0, 0]).convergence == "exponential"
    assert PCF([1, 1], [1, 1]).convergence == "super-exponential"
    assert PCF([2, 1], [-1, 0, 0]).convergence == "sub-exponential"
    assert PCF(1, [1, 0, 0]).convergence == "sub-exponential"
    assert PCF([1, 1], [-1, 0, 0]).convergence == "none"
    assert PCF(1, [1, 0, 0, 0]).convergence == "none"
    assert PCF(3, [1, -4]).convergence == "terminating"
    assert PCF([2, 1], [1, 0, 0]).eigenvalue_ratio == pytest.approx(-((1 + math.sqrt(2)) ** 2))
    assert APERY.eigenvalue_ratio == pytest.approx((1 + math.sqrt(2)) ** 8)


def test_a_terminating_fraction_is_an_exact_rational():
    formula = PCF([1, 1], [-1, 4])
    assert formula.terminates_at == 4
    limit = formula.limit(10)
    assert limit.overlaps(arb(formula.convergent(3).fraction))
    assert limit.rad() < arb("1e-10")
    assert formula.convergent(3).fraction == formula.convergent(9).fraction


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (PCF([1, 1], [-1, 0, 0]), "does not converge"),
        (PCF([2, 1], [-1, 0, 0]), "too slowly|more than"),
        (PCF(1, [1, 0, 0]), "more than"),
    ],
)
def test_no_limit_says_why(formula, message):
    with pytest.raises(NoLimit, match=message):
        formula.limit(10, max_depth=3000)


def test_factorial_reduction_of_the_classical_fractions():
    for a, b in ([11, 11, 3], [1, 0, 0, 0, 0]), ([7, 7, 2], [8, 0, 0, 0, 0]), ([10, 10, 3], [-9, 0, 0, 0, 0]):
        assert PCF(a, b).factorial_reduction(480)
        assert PCF(a, b).factorial_reduction(120).ratio > 0.57
        a[-1] += 1
        assert not PCF(a, b).factorial_reduction(480)
        assert PCF(a, b).factorial_reduction(120).ratio < 0.18
    convergent = PCF([11, 11, 3], [1, 0, 0, 0, 0]).convergent(120)
    ratio = math.log(math.gcd(int(convergent.p), int(convergent.q))) / (2 * math.log(math.factorial(120)))
    assert PCF([11, 11, 3], [1, 0, 0, 0, 0]).factorial_reduction(120).ratio == pytest.approx(ratio)


def test_sympy_in_and_out():
    n, m = sympy.symbols("n m")
    formula = PCF(11 * n**2 + 11 * n + 3, sympy.Poly(m**4, m))
    assert formula == PCF([11, 11, 3], [1, 0, 0, 0, 0]) == PCF(flint.fmpz_poly([3, 11, 11]), np.array([1, 0, 0, 0, 0]))
    assert hash(formula) == hash(PCF([0, 11, 11, 3], [1, 0, 0, 0, 0]))
    assert formula.to_sympy() == (11 * n**2 + 11 * n + 3, n**4)
    assert "11n^{2}+11n+3" in formula._repr_latex_()
    assert PCF(*eval(repr(formula)[3:])) == pickle.loads(pickle.dumps(formula)) == formula


@pytest.mark.parametrize(
    ("a", "error", "message"),
    [
        (0, ValueError, "a: must not be the zero"),
        ([0, 0], ValueError, "a: must not be the zero"),
        ([], ValueError, "a: needs at least one"),
        ([1.0, 2], TypeError, "a: coefficients must be integers, got 1.0"),
        (0.5, TypeError, "a: expected integer coefficients"),
        ([True, 2], TypeError, "a: coefficients must be integers"),
        ([Fraction(1, 2)], ValueError, "a: 1/2 is no integer; inflate"),
        (sympy.Symbol("x") / 2, ValueError, "a: 1/2 is no integer; inflate"),
        (sympy.Symbol("x") * sympy.Symbol("y"), ValueError, "a: expected one variable, got x, y"),
        (sympy.sin(sympy.Symbol("x")), TypeError, "a: sin.* is no polynomial|a: .*integer"),
        ("n+1", TypeError, "a: expected integer coefficients"),
        ([1] + [0] * 513, ValueError, "a: degree 513 is above 512"),
    ],
)
def test_bad_polynomials_are_named(a, error, message):
    with pytest.raises(error, match=message):
        PCF(a, 1)


def test_bad_depths_are_named():
    for depths in ([-1], [5, 3]):
        with pytest.raises(ValueError, match="depths"):
            APERY.convergents(depths)
    with pytest.raises(TypeError, match="digits"):
        APERY.limit(3.5)
    with pytest.raises(ValueError, match="digits"):
        APERY.limit(0)


def test_no_precision_is_left_changed():
    before = flint.ctx.prec, mpmath.mp.prec
    APERY.limit(100)
    APERY.delta(30)
    assert (flint.ctx.prec, mpmath.mp.prec) == before
