"""Names for numbers whose names are known, silence for random digits, and agreement with PSLQ."""

import random

import flint
import mpmath
import pytest
from flint import arb

from tendsto.constants import LIBRARY, PCF, Constant, Identification, NoLimit, confirm, identify

NAMED = {
    "4/pi": PCF([2, 1], [1, 0, 0]),
    "6/zeta3": PCF([34, 51, 27, 5], [-1, 0, 0, 0, 0, 0, 0]),
    "5/zeta2": PCF([11, 11, 3], [1, 0, 0, 0, 0]),
    "-1 + e": PCF([1, 1], [1, 1]),
    "1/ln2": PCF([3, 2], [-2, 0, 0]),
    "2/(atan(sqrt2)*sqrt2)": PCF([2, 1], [2, 0, 0]),
    "1/atan(1/2)": PCF([4, 2], [1, 0, 0]),
    "a root of x²-5x-1": PCF(5, 1),
    "2": PCF(1, 2),
}


@pytest.mark.parametrize("name", NAMED)
def test_fractions_are_named(name):
    found = identify(NAMED[name])
    assert str(found) == name
    assert found.digits >= 120
    assert confirm(NAMED[name], found, 300)


@pytest.mark.parametrize("constant", LIBRARY.values(), ids=lambda constant: constant.name)
def test_every_constant_of_the_library_is_found_under_a_moebius_map(constant):
    with flint.ctx.workdps(80):
        c = constant.value()
        value = (3 + 2 * c) / (7 - c)
        found = identify(value)
        assert found is not None
        assert (found.ball(60) - value).contains(0)
    assert identify(value, [constant]).coefficients in ((3, 2, 7, -1), (-3, -2, -7, 1))


def test_library_constants_have_the_values_of_mpmath():
    with mpmath.workdps(40):
        theirs = {
            "pi": mpmath.pi,
            "catalan": mpmath.catalan,
            "zeta5": mpmath.zeta(5),
            "gompertz": -mpmath.e * mpmath.ei(-1),
            "gauss": 1 / mpmath.agm(1, mpmath.sqrt(2)),
            "lemniscate": mpmath.gamma(0.25) ** 2 / (2 * mpmath.sqrt(2 * mpmath.pi)),
            "gamma": mpmath.euler,
            "ln(golden)*sqrt5": mpmath.log(mpmath.phi) * mpmath.sqrt(5),
        }
        for name, value in theirs.items():
            with flint.ctx.workdps(45):
                assert abs(LIBRARY[name].ball(35) - arb(mpmath.nstr(value, 38))) < arb("1e-35")


def test_random_digits_get_no_name():
    """Four integers of twenty digits fit any sixty digits; the guard must not call that a formula."""
    rng = random.Random(0)
    for _ in range(30):
        digits = "".join(rng.choices("0123456789", k=60))
        assert identify(f"0.{digits}") is None
        with mpmath.workdps(60):
            value = mpmath.mpf(f"0.{digits}")
            assert mpmath.pslq([1, mpmath.pi, value, value * mpmath.pi], maxcoeff=10**20, maxsteps=10**5) is not None


def test_the_relation_is_the_one_pslq_finds():
    with mpmath.workdps(50):
        value = (5 - 3 * mpmath.catalan) / (2 + 7 * mpmath.catalan)
        theirs = mpmath.pslq([1, mpmath.catalan, -value, -value * mpmath.catalan], maxcoeff=1000)
    found = identify(mpmath.nstr(value, 48), [LIBRARY["catalan"]])
    sign = 1 if theirs[0] * found.coefficients[0] > 0 else -1
    assert found.coefficients == tuple(sign * each for each in theirs)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("0.785398163397448", "pi/4"),
        ("-0.785398163397448", "-pi/4"),
        ("0.75000000000", "3/4"),
        ("1.41421356237309", "a root of x²-2"),
        ("2.718281828459045", "e"),
        ("137.03599908421", None),
    ],
)
def test_digits_are_named_as_far_as_they_reach(text, name):
    found = identify(text)
    assert (None if found is None else str(found)) == name


def test_a_relation_that_fails_at_twice_the_digits_is_no_name():
    formula = NAMED["4/pi"]
    wrong = Identification(Constant("near", "x", lambda: arb.pi() + arb("1e-100")), (4, 0, 0, 1), 60)
    assert confirm(formula, wrong, 90)
    assert not confirm(formula, wrong, 120)
    assert identify(formula, [wrong.constant]) is None


def test_coefficients_can_be_bounded():
    with flint.ctx.workdps(80):
        value = (1234567 + arb.pi()) / 3
    assert identify(value).coefficients == (1234567, 1, 3, 0)
    assert identify(value, max_coefficient=1000) is None


def test_latex():
    assert identify(NAMED["4/pi"]).to_latex() == r"\frac{4}{\pi}"
    assert identify("2.718281828459045").to_latex() == "e"
    assert identify(PCF(5, 1))._repr_latex_() == r"$\displaystyle x^{2}-5x-1 = 0$"


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("0.78", ValueError, "value: 1 digits are too few"),
        ("pi", ValueError, "value: expected the digits"),
        ("", ValueError, "value: expected the digits"),
        (arb("nan"), ValueError, "value: 0 digits"),
        (PCF([1, 1], [-1, 0, 0]), NoLimit, "does not converge"),
    ],
)
def test_what_cannot_be_named_is_an_error(value, error, message):
    with pytest.raises(error, match=message):
        identify(value)
