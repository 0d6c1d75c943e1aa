"""Name a number from its digits by an integer relation, and refuse to when the digits do not carry the relation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import flint

from tendsto import validation
from tendsto.constants.continued_fractions import PCF
from tendsto.constants.library import LIBRARY, Constant
from tendsto.constants.polynomials import to_latex

_DIGITS = 60


@dataclass(frozen=True)
class Identification:
    r"""A conjecture from digits: a number as $\frac{a_0 + a_1 c}{a_2 + a_3 c}$, or as a root of a quadratic polynomial.

    **Arguments**

    - `constant`: $c$; none if the number is rational or quadratic.
    - `coefficients`: $(a_0, a_1, a_2, a_3)$ of the fraction, $(a_0, a_1)$ of a rational number $a_0/a_1$, or
      $(a_0, a_1, a_2)$ of $a_0 + a_1 x + a_2 x^2 = 0$.
    - `digits`: decimal digits to which the relation was seen to hold.
    """

    constant: Constant | None
    coefficients: tuple[int, ...]
    digits: int

    @property
    def coefficient_digits(self) -> int:
        """How many decimal digits the coefficients have together."""
        return _digits(self.coefficients)

    def ball(self, digits: int) -> flint.arb:
        """The value that the relation gives the number."""
        with flint.ctx.workdps(digits + 10):
            if self.constant is not None:
                a0, a1, a2, a3 = self.coefficients
                c = self.constant.value()
                return (a0 + a1 * c) / (a2 + a3 * c)
            if len(self.coefficients) == 2:
                return flint.arb(flint.fmpq(*self.coefficients))
            raise ValueError("coefficients: a quadratic relation has two roots")

    def __str__(self) -> str:
        if self.constant is None and len(self.coefficients) == 3:
            return f"a root of {to_latex(self.coefficients[::-1], 'x').replace('^{2}', '²')}"
        return self._fraction("·", self.constant.name if self.constant else "")

    def to_latex(self) -> str:
        """The number in LaTeX, without dollar signs."""
        if self.constant is None and len(self.coefficients) == 3:
            return f"{to_latex(self.coefficients[::-1], 'x')} = 0"
        top, bottom = self._parts(r"\,", self.constant.latex if self.constant else "")
        return top if bottom == "1" else rf"\frac{{{top}}}{{{bottom}}}"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.to_latex()}$"

    def _fraction(self, times: str, symbol: str) -> str:
        top, bottom = self._parts(times, symbol)
        if bottom == "1":
            return top
        return f"{_grouped(top)}/{_grouped(bottom)}"

    def _parts(self, times: str, symbol: str) -> tuple[str, str]:
        if self.constant is None:
            return str(self.coefficients[0]), str(self.coefficients[1])
        a0, a1, a2, a3 = self.coefficients
        return _linear(a0, a1, times, symbol), _linear(a2, a3, times, symbol)


def identify(
    value: PCF | flint.arb | str | Any,
    constants: Iterable[Constant] | None = None,
    *,
    max_coefficient: int | None = None,
) -> Identification | None:
    r"""Name a number as a rational, a quadratic irrational or a Möbius image of a constant; none if its digits do not.

    For each constant $c$ the LLL algorithm looks for the smallest integers with $a_0 + a_1 c = L\,(a_2 + a_3 c)$. Four
    integers with $D$ digits together can be fitted to about $D$ digits of *any* number, so a relation counts only if
    its coefficients have at most half as many digits as are known of $L$; for a continued fraction it must also hold at
    twice the digits. What passes is a conjecture all the same.

    **Arguments**

    - `value`: a continued fraction; a `flint.arb`, whose radius says how many digits count; or the digits as a string,
      the last of them good to one unit. Any other real number is read through its `str`.
    - `constants`: which to try, by default `library.LIBRARY`; the simplest relation wins.
    - `max_coefficient`: the largest coefficient allowed; by default only the guard bounds them.

    **Raises** `ValueError` for fewer than six digits or what is no number; `NoLimit` for a fraction without a limit.

    **Source**: the guard follows appendix B.2 of arXiv:2308.11829; its thresholds are ours.
    """
    if max_coefficient is not None:
        validation.integer("max_coefficient", max_coefficient, low=1)
    ball = value.limit(_DIGITS) if isinstance(value, PCF) else _as_ball(value)
    known = _known_digits(ball)
    if known < 6:
        raise ValueError(f"value: {known} digits are too few to name a number, six are needed")
    tried = LIBRARY.values() if constants is None else constants
    with flint.ctx.workdps(known + 20):
        found = [_relation(None, [-flint.arb(1), ball], known), _relation(None, [flint.arb(1), ball, ball**2], known)]
        if found[0] is None and found[1] is None:
            for constant in tried:
                c = constant.value()
                found.append(_relation(constant, [flint.arb(1), c, -ball, -ball * c], known))
    allowed = [
        it for it in found if it and (max_coefficient is None or max(map(abs, it.coefficients)) <= max_coefficient)
    ]
    if not allowed:
        return None
    best = min(allowed, key=lambda it: sum(abs(each).bit_length() for each in it.coefficients))
    if isinstance(value, PCF) and not confirm(value, best, 2 * known):
        return None
    return best if not isinstance(value, PCF) else Identification(best.constant, best.coefficients, 2 * known)


def confirm(formula: PCF, found: Identification, digits: int) -> bool:
    """Whether the relation still holds when the fraction's limit is known to `digits` digits."""
    with flint.ctx.workdps(digits + 20):
        limit = formula.limit(digits)
        if found.constant is None and len(found.coefficients) == 3:
            a0, a1, a2 = found.coefficients
            return bool((a0 + a1 * limit + a2 * limit**2).contains(0))
        return bool((found.ball(digits) - limit).contains(0))


def _relation(constant: Constant | None, numbers: list[flint.arb], known: int) -> Identification | None:
    """The smallest integer relation between `numbers` that the guard lets through."""
    scale = flint.fmpz(10) ** (known - 1)
    size = len(numbers)
    rows = flint.fmpz_mat(
        [[int(i == j) for j in range(size)] + [_nearest(number * scale)] for i, number in enumerate(numbers)]
    )
    short = rows.lll()
    relation = tuple(int(short[0, j]) for j in range(size))
    if 2 * _digits(relation) > known or not any(relation):
        return None
    if not sum((a * x for a, x in zip(relation, numbers, strict=True)), flint.arb(0)).contains(0):
        return None
    sign = -1 if next(each for each in reversed(relation) if each) < 0 else 1
    relation = tuple(sign * each for each in relation)
    if constant is not None:
        a0, a1, a2, a3 = relation
        return Identification(constant, relation, known) if a0 * a3 != a1 * a2 else None
    if size == 2:
        return Identification(None, (relation[0], relation[1]), known) if relation[1] else None
    return Identification(None, relation, known) if relation[2] else None


def _nearest(number: flint.arb) -> flint.fmpz:
    nearest = (number.mid() + flint.arb("0.5")).floor().unique_fmpz()
    assert nearest is not None  # there is enough precision for every digit of a scaled number
    return nearest


def _as_ball(value: Any) -> flint.arb:
    if isinstance(value, flint.arb):
        return value
    text = str(value).strip()
    digits = text.lstrip("+-").replace(".", "", 1)
    if not digits.isdigit() or not digits.isascii():
        raise ValueError(f"value: expected the digits of a real number, got {text!r}")
    decimals = len(text.partition(".")[2])
    with flint.ctx.workdps(len(digits) + 10):
        return flint.arb(text) + flint.arb(0, flint.arb(10) ** -decimals)


def _known_digits(ball: flint.arb) -> int:
    if not ball.is_finite() or not ball.rad() > 0:
        return _DIGITS if ball.is_finite() else 0
    size = max(abs(ball.mid()).log_base(10), flint.arb(0)) if not ball.contains(0) else flint.arb(0)
    return math.floor(float(size - ball.rad().log_base(10)))


def _digits(coefficients: Iterable[int]) -> int:
    return sum(len(str(abs(each))) for each in coefficients if each)


def _linear(a0: int, a1: int, times: str, symbol: str) -> str:
    if not a1:
        return str(a0)
    scaled = symbol if abs(a1) == 1 else f"{abs(a1)}{times}{symbol}"
    if not a0:
        return scaled if a1 > 0 else f"-{scaled}"
    return f"{a0} {'+' if a1 > 0 else '-'} {scaled}"


def _grouped(text: str) -> str:
    return f"({text})" if set(" ·*") & set(text) else text
