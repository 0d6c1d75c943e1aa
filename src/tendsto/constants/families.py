r"""From the named members of a cluster to a family with a parameter, and to the conjecture that it is one.

Members whose coefficients lie on a line, $v_k = v_0 + k w$, suggest that the fractions at every integer $k$ compute
the same constant. Members further out are predicted, and checked to hundreds of digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sympy

from tendsto import validation
from tendsto.constants.continued_fractions import PCF, NoLimit
from tendsto.constants.identification import Identification, confirm, identify
from tendsto.constants.library import Constant
from tendsto.constants.polynomials import to_latex

_Vector = tuple[int, ...]

_LEAN = {
    "pi": "Real.pi",
    "e": "Real.exp 1",
    "e^2": "Real.exp 2",
    "sqrt(e)": "Real.exp (1 / 2)",
    "ln2": "Real.log 2",
    "ln3": "Real.log 3",
    "ln5": "Real.log 5",
    "zeta2": "(Real.pi ^ 2 / 6)",
    "zeta3": "(∑' m : ℕ, 1 / ((m : ℝ) + 1) ^ 3)",
    "zeta5": "(∑' m : ℕ, 1 / ((m : ℝ) + 1) ^ 5)",
    "catalan": "(∑' m : ℕ, (-1 : ℝ) ^ m / (2 * (m : ℝ) + 1) ^ 2)",
    "pi^3": "(Real.pi ^ 3)",
    "pi*sqrt2": "(Real.pi * Real.sqrt 2)",
    "pi*sqrt3": "(Real.pi * Real.sqrt 3)",
    "ln(1+sqrt2)*sqrt2": "(Real.log (1 + Real.sqrt 2) * Real.sqrt 2)",
    "ln(2+sqrt3)*sqrt3": "(Real.log (2 + Real.sqrt 3) * Real.sqrt 3)",
    "ln(golden)*sqrt5": "(Real.log ((1 + Real.sqrt 5) / 2) * Real.sqrt 5)",
    "atan(sqrt2)*sqrt2": "(Real.arctan (Real.sqrt 2) * Real.sqrt 2)",
    "atan(1/2)": "Real.arctan (1 / 2)",
    "atan(1/3)": "Real.arctan (1 / 3)",
    "tan(1)": "Real.tan 1",
}


@dataclass(frozen=True)
class Family:
    r"""Continued fractions whose coefficients are integer-affine in a parameter, $v_0 + k w$.

    **Arguments**

    - `a`, `b`: the coefficients at $k = 0$, from the highest power down.
    - `a_step`, `b_step`: what each integer step of $k$ adds to them; of the same lengths.
    """

    a: _Vector
    b: _Vector
    a_step: _Vector
    b_step: _Vector

    def __post_init__(self) -> None:
        for name, start, step in (("a_step", self.a, self.a_step), ("b_step", self.b, self.b_step)):
            if len(start) != len(step):
                raise ValueError(f"{name}: needs {len(start)} coefficients, got {len(step)}")
        if not any(self.a_step + self.b_step):
            raise ValueError("a_step, b_step: a family needs a step")

    def member(self, k: int) -> PCF:
        """The fraction at `k`.

        **Raises** `ValueError` where $a$ or $b$ is zero there.
        """
        validation.integer("k", k)
        return PCF(
            [start + k * step for start, step in zip(self.a, self.a_step, strict=True)],
            [start + k * step for start, step in zip(self.b, self.b_step, strict=True)],
        )

    def to_sympy(self) -> tuple[sympy.Expr, sympy.Expr]:
        """The polynomials $a(n)$ and $b(n)$ as SymPy expressions in `n` and `k`."""
        n, k = sympy.symbols("n k")
        a, b = (
            sympy.Add(*[(it + k * more) * n ** (len(start) - 1 - place) for place, (it, more) in enumerate(pairs)])
            for start, pairs in (
                (self.a, list(zip(self.a, self.a_step, strict=True))),
                (self.b, list(zip(self.b, self.b_step, strict=True))),
            )
        )
        return sympy.expand(a), sympy.expand(b)

    def _repr_latex_(self) -> str:
        a, b = (sympy.latex(sympy.collect(it, sympy.Symbol("n"))) for it in self.to_sympy())
        return rf"$\displaystyle \operatorname{{PCF}}\left({a},\; {b}\right)$"


@dataclass(frozen=True)
class Conjecture:
    r"""That every member of a family is a Möbius image of one constant with integer coefficients.

    **Arguments**

    - `family`, `constant`: what it is about.
    - `values`: for each $k$ that was checked, what the member is.
    - `refuted`: the $k$ that were checked and are none; empty if all are.
    - `digits`: to how many decimal digits, by balls that provably contain the limits.
    """

    family: Family
    constant: Constant
    values: dict[int, Identification]
    refuted: tuple[int, ...]
    digits: int

    def __bool__(self) -> bool:
        """Whether no $k$ refutes it."""
        return not self.refuted and bool(self.values)

    def to_latex(self) -> str:
        """The conjecture in LaTeX, without dollar signs."""
        a, b = (sympy.latex(sympy.collect(it, sympy.Symbol("n"))) for it in self.family.to_sympy())
        checked = f"k = {min(self.values)}, \\ldots, {max(self.values)}" if self.values else r"\text{no } k"
        return (
            rf"\operatorname{{PCF}}\left({a},\; {b}\right) \in "
            rf"\left\{{\tfrac{{a_0 + a_1 c}}{{a_2 + a_3 c}} : a_i \in \mathbb{{Z}}\right\}},\quad "
            rf"c = {self.constant.latex} \qquad ({checked})"
        )

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.to_latex()}$"

    def to_lean_statement(self, k: int) -> str:
        """The value of the member at `k` as a theorem of Lean 4 with Mathlib, its proof left out.

        **Raises** `KeyError` for a `k` that was not checked, `ValueError` for a constant that Mathlib cannot name.
        """
        return lean_statement(self.family.member(k), self.values[k])


def find_families(formulas: Iterable[PCF], *, fewest: int = 3) -> list[Family]:
    r"""Families that at least `fewest` of the formulas lie on, each with its members at consecutive $k = 0, 1, …$

    A step is the difference of two formulas of the same degrees; the longest run of equal steps comes first, and a
    run that is part of one before it is left out.

    **Arguments**: `formulas`, the members of a cluster; `fewest`, at least 3 (two points lie on a line always).

    **Raises** `ValueError` for `fewest` below 3.
    """
    validation.integer("fewest", fewest, low=3)
    shapes: dict[tuple[int, int], set[_Vector]] = {}
    for formula in formulas:
        shapes.setdefault((len(formula.a), len(formula.b)), set()).add(formula.a + formula.b)
    runs = [(run, shape) for shape, vectors in shapes.items() for run in _runs(vectors, fewest)]
    runs.sort(key=lambda it: (-len(it[0]), sum(map(abs, it[0][0])), it[0]))
    kept: list[tuple[list[_Vector], tuple[int, int]]] = []
    for run, shape in runs:
        if not any(set(run) <= set(other) for other, _ in kept):
            kept.append((run, shape))
    return [_family(run, shape[0]) for run, shape in kept]


def _runs(vectors: set[_Vector], fewest: int) -> list[list[_Vector]]:
    runs = []
    for first in vectors:
        for second in vectors:
            step = tuple(y - x for x, y in zip(first, second, strict=True))
            # One direction of each line, and from its first member only.
            if step <= tuple(0 for _ in step) or tuple(x - d for x, d in zip(first, step, strict=True)) in vectors:
                continue
            run = [first]
            while (following := tuple(x + d for x, d in zip(run[-1], step, strict=True))) in vectors:
                run.append(following)
            if len(run) >= fewest:
                runs.append(run)
    return runs


def _family(run: Sequence[_Vector], length: int) -> Family:
    start = run[0]
    step = tuple(y - x for x, y in zip(run[0], run[1], strict=True))
    return Family(start[:length], start[length:], step[:length], step[length:])


def conjecture(family: Family, constant: Constant, ks: Iterable[int], digits: int = 200) -> Conjecture:
    """Check members of a family, those it was made from and those it predicts, to hundreds of digits.

    **Arguments**

    - `family`, `constant`: what is conjectured of what.
    - `ks`: which members to check; those without a certified limit (they terminate, or have complex eigenvalues) are
      passed over.
    - `digits`: decimal digits at which the relation must hold, at least 60.

    **Returns** the conjecture with the value at each $k$; it is false if any of them refutes it.
    """
    validation.integer("digits", digits, low=60)
    values, refuted = {}, []
    for k in ks:
        formula = family.member(k)
        try:
            if formula.terminates_at is not None:
                continue
            found = identify(formula, [constant])
            holds = found is not None and found.constant is not None and confirm(formula, found, digits)
        except NoLimit:
            continue
        if holds and found is not None:
            values[k] = Identification(found.constant, found.coefficients, digits)
        else:
            refuted.append(k)
    return Conjecture(family, constant, values, tuple(refuted), digits)


def lean_statement(formula: PCF, value: Identification) -> str:
    """That the convergents of a fraction tend to a value, as a theorem of Lean 4 with Mathlib, its proof left out.

    **Raises** `ValueError` for a constant that Mathlib cannot name, or a quadratic relation, which has two roots.
    """
    if value.constant is None:
        if len(value.coefficients) == 3:
            raise ValueError("value: a quadratic relation does not say which root")
        limit = "({} : ℝ) / {}".format(*value.coefficients)
    else:
        if value.constant.name not in _LEAN:
            raise ValueError(f"constant: no name in Mathlib is known for {value.constant.name}")
        c = _LEAN[value.constant.name]
        a0, a1, a2, a3 = (f"({it})" for it in value.coefficients)
        limit = f"({a0} + {a1} * {c}) / ({a2} + {a3} * {c})"
    a, b = _lean_polynomial(formula.a), _lean_polynomial(formula.b)
    return f"""import Mathlib

/-- PCF({to_latex(formula.a)}, {to_latex(formula.b)}); `p` and `q` hold the convergents from index -1 on. -/
theorem limit_of_convergents (p q : ℕ → ℝ)
    (p_first : p 0 = 1) (p_second : p 1 = {formula.a[-1]}) (q_first : q 0 = 0) (q_second : q 1 = 1)
    (p_next : ∀ n : ℕ, p (n + 2) = {a} * p (n + 1) + {b} * p n)
    (q_next : ∀ n : ℕ, q (n + 2) = {a} * q (n + 1) + {b} * q n) :
    Filter.Tendsto (fun n => p n / q n) Filter.atTop (nhds ({limit})) := by
  sorry
"""


def _lean_polynomial(coefficients: Sequence[int]) -> str:
    """The polynomial's value at n + 1, by Horner's rule."""
    text = f"({coefficients[0]} : ℝ)"
    for coefficient in coefficients[1:]:
        text = f"({text} * ((n : ℝ) + 1) + ({coefficient}))"
    return text
