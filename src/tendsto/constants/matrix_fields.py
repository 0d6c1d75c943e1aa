"""Conservative matrix fields: matrices on a lattice whose product along a path depends on its end points alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import flint
import sympy

from tendsto.constants.rational_matrices import (
    RationalMatrix,
    SingularStep,
    context,
    rational,
    to_expression,
    to_rational,
)
from tendsto.constants.trajectories import K, Trajectory

Point = Mapping[sympy.Symbol, Any] | Sequence[Any]
"""Exact rational coordinates, one for each axis: by axis, or in the order of the field's axes."""


class NotConservative(ValueError):
    """The work in a field depends on the path, so that a pair of end points does not say what it is."""


class ConservativeMatrixField:
    r"""Square matrices $M_x, M_y, \dots$, one for each axis, of rational functions of the lattice point.

    The field is conservative if for every pair of axes

    $$M_x(x, y)\,M_y(x+1, y) = M_y(x, y)\,M_x(x, y+1),$$

    and then the *work* from one point to another, the product of the matrices of unit steps along a path, is the same
    for every path. Each factor is evaluated at the point *before* its step and multiplied from the *right*; a step back
    along $x$ contributes $M_x(x-1, y)^{-1}$.

    `verify` decides conservativeness as an identity of polynomials. A field that is not conservative can be built and
    examined, but walks only along explicit paths.

    **Arguments**

    - `matrices`: a SymPy matrix (or nested lists) for each axis, a SymPy symbol. Other symbols in the entries are
      parameters: identities hold for all their values, and `subs` gives them numbers.

    **Raises** `TypeError` for floats and for what is no rational function; `ValueError` for fewer than two axes, or
    matrices that are not square or differ in size.

    **Source**: R. Elimelech et al., "Algorithm-assisted discovery of an intrinsic order among mathematical constants",
    arXiv:2308.11829, section 2; O. David, "The conservative matrix field", arXiv:2303.09318.
    """

    def __init__(self, matrices: Mapping[sympy.Symbol, Any]) -> None:
        if not isinstance(matrices, Mapping):
            raise TypeError(f"matrices: expected a mapping from axes to matrices, got {type(matrices).__name__}")
        if len(matrices) < 2:
            raise ValueError(f"matrices: a field needs at least two axes, got {len(matrices)}")
        for axis in matrices:
            if not isinstance(axis, sympy.Symbol):
                raise TypeError(f"matrices: an axis must be a SymPy symbol, got {axis!r}")
        self.axes: tuple[sympy.Symbol, ...] = tuple(matrices)
        self.matrices = {axis: _matrix(axis, value) for axis, value in matrices.items()}
        parameters = {symbol for matrix in self.matrices.values() for symbol in matrix.free_symbols} - set(self.axes)
        self.parameters: tuple[sympy.Symbol, ...] = tuple(sorted(parameters, key=str))
        symbols = (*self.axes, *self.parameters)
        if len(set(map(str, symbols))) < len(symbols):
            raise ValueError("matrices: two different symbols have the same name; give them the same assumptions")
        self._steps = {
            axis: RationalMatrix.from_sympy(f"matrices[{axis}]", matrix, symbols)
            for axis, matrix in self.matrices.items()
        }
        ranks = {axis: step.rank for axis, step in self._steps.items()}
        if len(set(ranks.values())) > 1:
            found = ", ".join(f"{rank} for {axis}" for axis, rank in ranks.items())
            raise ValueError(f"matrices: must have one size, got {found}")
        self.rank: int = ranks[self.axes[0]]

    @classmethod
    def from_ffbar(
        cls, f: Any, fbar: Any, axes: Sequence[sympy.Symbol] = (sympy.Symbol("x"), sympy.Symbol("y"))
    ) -> ConservativeMatrixField:
        r"""The field of two polynomials $f$, $\bar f$ that satisfy the linear and the quadratic condition.

        $$f(x,y) - \bar f(x+1,y) = f(x+1,y-1) - \bar f(x,y-1) =: a(x,y)$$

        $$(f\bar f)(x,y) - (f\bar f)(0,y) = (f\bar f)(x,0) - (f\bar f)(0,0) =: b(x)$$

        $$M_x = \begin{pmatrix} 0 & b(x)\\ 1 & a(x,y)\end{pmatrix}, \qquad
        M_y = \begin{pmatrix} \bar f(x,y) & b(x)\\ 1 & f(x,y)\end{pmatrix}$$

        Each row $y = \mathrm{const}$ is a polynomial continued fraction with the same $b$.

        **Arguments**: `f`, `fbar`, SymPy polynomials in the two `axes` and in parameters.

        **Raises** `ValueError` that names the condition violated and what is left over; `TypeError` for floats.
        """
        x, y = axes
        f, fbar = sympy.expand(sympy.sympify(f)), sympy.expand(sympy.sympify(fbar))
        linear, quadratic, a, b = ffbar_conditions(f, fbar, x, y)
        for name, rest in (("linear", linear), ("quadratic", quadratic)):
            if rest != 0:
                raise ValueError(f"f, fbar: the {name} condition is violated, {sympy.factor(rest)} is left over")
        return cls({x: sympy.Matrix([[0, b], [1, a]]), y: sympy.Matrix([[fbar, b], [1, f]])})

    def __repr__(self) -> str:
        return f"ConservativeMatrixField({ {axis: matrix.tolist() for axis, matrix in self.matrices.items()} })"

    def __eq__(self, other: object) -> bool:
        """Whether the same axes have equal matrices, entry by entry as rational functions."""
        if not isinstance(other, ConservativeMatrixField):
            return NotImplemented
        return self.axes == other.axes and all(
            (self.matrices[axis] - other.matrices[axis]).applyfunc(sympy.cancel).is_zero_matrix for axis in self.axes
        )

    __hash__ = None  # type: ignore[assignment]

    def _repr_latex_(self) -> str:
        lines = [rf"M_{{{sympy.latex(axis)}}} = {sympy.latex(matrix)}" for axis, matrix in self.matrices.items()]
        return r"$\displaystyle " + r",\quad ".join(lines) + "$"

    # --- conservativeness

    @cached_property
    def _residuals(self) -> dict[tuple[sympy.Symbol, sympy.Symbol], list[flint.fmpq_mpoly]]:
        symbols = (*self.axes, *self.parameters)
        ring = context(symbols)
        gens = dict(zip(symbols, ring.gens(), strict=True))
        found = {}
        for first, second in itertools.combinations(self.axes, 2):

            def after(matrix: RationalMatrix, step: sympy.Symbol) -> RationalMatrix:
                return matrix.compose([gens[each] + int(each == step) for each in symbols], ring)

            one = self._steps[first] @ after(self._steps[second], first)
            other = self._steps[second] @ after(self._steps[first], second)
            common = one.denominator.gcd(other.denominator)
            left, right = other.denominator / common, one.denominator / common
            found[first, second] = [a * left - b * right for a, b in zip(one.flat, other.flat, strict=True)]
        return found

    def residuals(self) -> dict[tuple[sympy.Symbol, sympy.Symbol], sympy.ImmutableMatrix]:
        """What is left of each pair's identity, cleared of denominators: zero matrices for a conservative field."""
        symbols = (*self.axes, *self.parameters)
        return {
            pair: sympy.ImmutableMatrix(self.rank, self.rank, [to_expression(each, symbols) for each in entries])
            for pair, entries in self._residuals.items()
        }

    def verify(self) -> bool:
        """Whether the field is conservative: every entry of every pair's identity is the zero polynomial. Exact."""
        return all(each.is_zero() for entries in self._residuals.values() for each in entries)

    def _require_conservative(self) -> None:
        if not self.verify():
            pair = next(
                pair for pair, entries in self._residuals.items() if not all(each.is_zero() for each in entries)
            )
            raise NotConservative(
                f"the field is not conservative in {pair[0]}, {pair[1]}: work depends on the path; give one with path="
            )

    # --- walking

    def work(self, start: Point, end: Point, path: Sequence[sympy.Expr] | None = None) -> flint.fmpq_mat:
        r"""The ordered product of the matrices of unit steps from `start` to `end`, exactly.

        **Arguments**

        - `start`, `end`: points that differ by integers.
        - `path`: the steps, each an axis or minus an axis (`[x, y, -x]`). By default one axis after the other, in the
          order of the field's axes; for that the field must be conservative.

        **Raises** `NotConservative` without a path; `SingularStep` where a step has no matrix on this path (another may
        avoid it); `ValueError` for a path that does not lead to `end`, or points that do not differ by integers.
        """
        self._require_numbers()
        here, there = self._point("start", start), self._point("end", end)
        if path is not None:
            return self._along(here, there, path)
        self._require_conservative()
        total = flint.fmpq_mat(self.rank, self.rank, [int(i == j) for i in range(self.rank) for j in range(self.rank)])
        for place, axis in enumerate(self.axes):
            steps = there[place] - here[place]
            if steps.q != 1:
                raise ValueError(f"start, end: must differ by integers, but differ by {steps} along {axis}")
            direction = [int(other == place) * (1 if steps > 0 else -1) for other in range(len(self.axes))]
            if steps != 0:
                total = total * self._trajectory(direction, here).product(abs(int(steps.p)))
            here[place] = there[place]
        return total

    def _along(self, here: list[flint.fmpq], there: list[flint.fmpq], path: Sequence[sympy.Expr]) -> flint.fmpq_mat:
        total = flint.fmpq_mat(self.rank, self.rank, [int(i == j) for i in range(self.rank) for j in range(self.rank)])
        for step in path:
            axis = step if step in self.axes else -step
            if axis not in self.axes:
                raise ValueError(f"path: {step} is neither an axis nor minus one; the axes are {self._names()}")
            place, matrix = self.axes.index(axis), self._steps[axis]
            try:
                if step == axis:
                    total = total * matrix.at(here)
                    here[place] += 1
                else:
                    here[place] -= 1
                    total = total * matrix.at(here).inv()
            except ZeroDivisionError as error:
                raise SingularStep(f"the step {step} at {self._show(here)} is singular: {error}") from None
        if here != there:
            raise ValueError(f"path: leads to {self._show(here)}, not to {self._show(there)}")
        return total

    def trajectory(self, direction: Point, start: Point | None = None) -> Trajectory:
        r"""The walk from `start` by equal multiples of `direction`: $T(k)$ is the work of its step number $k$.

        **Arguments**

        - `direction`: integers, not all zero.
        - `start`: a point, by default all ones. Half-integers are as good as integers.

        **Raises** `NotConservative`; `SingularStep` if a step back meets a singular matrix all along the line;
        `ValueError` for a direction of zeros or a point with another number of coordinates.
        """
        self._require_numbers()
        steps = self._point("direction", direction)
        if not any(steps):
            raise ValueError("direction: must not be zero")
        if any(step.q != 1 for step in steps):
            raise ValueError(f"direction: must consist of integers, got {self._show(steps)}")
        self._require_conservative()
        origin = self._point("start", [1] * len(self.axes) if start is None else start)
        return self._trajectory([int(step.p) for step in steps], origin)

    def _trajectory(self, direction: Sequence[int], start: Sequence[flint.fmpq]) -> Trajectory:
        ring = context([K])
        k = ring.gen(0)
        here = [k * step + origin for step, origin in zip(direction, start, strict=True)]
        total: RationalMatrix | None = None
        for place, (axis, steps) in enumerate(zip(self.axes, direction, strict=True)):
            for _ in range(abs(steps)):
                if steps < 0:
                    here[place] = here[place] - 1
                try:
                    factor = self._steps[axis] if steps > 0 else self._inverses[axis]
                    factor = factor.compose(here, ring)
                except SingularStep as error:
                    raise SingularStep(f"the step along {axis} is singular everywhere: {error}") from None
                if steps > 0:
                    here[place] = here[place] + 1
                total = factor if total is None else total @ factor
        assert total is not None
        return Trajectory(total)

    @cached_property
    def _inverses(self) -> dict[sympy.Symbol, RationalMatrix]:
        return {axis: step.inverse() for axis, step in self._steps.items()}

    def over_integers(self) -> dict[sympy.Symbol, RationalMatrix]:
        """Each matrix as polynomials over the integers in the axes and parameters, over one denominator."""
        return {axis: step.over_integers() for axis, step in self._steps.items()}

    # --- other fields from this one

    def subs(self, values: Mapping[sympy.Symbol, Any]) -> ConservativeMatrixField:
        """The field with numbers for parameters.

        **Raises** `ValueError` for a symbol that is no parameter, `TypeError` for floats.
        """
        for symbol in values:
            if symbol not in self.parameters:
                known = ", ".join(map(str, self.parameters)) or "none"
                raise ValueError(f"values: {symbol} is no parameter of the field; its parameters: {known}")
        exact = {symbol: to_rational(rational(f"values[{symbol}]", value)) for symbol, value in values.items()}
        return ConservativeMatrixField({axis: matrix.subs(exact) for axis, matrix in self.matrices.items()})

    def shift(self, offset: Point) -> ConservativeMatrixField:
        r"""The field seen from another origin: $x \mapsto x + x_0$, with coefficients rescaled to integers.

        Each matrix is multiplied by the least common denominator of its coefficients, which changes the work by a
        constant factor, and neither conservativeness nor any quotient.

        **Arguments**: `offset`, a rational number for each axis.
        """
        symbols = (*self.axes, *self.parameters)
        ring = context(symbols)
        by = self._point("offset", offset) + [flint.fmpq(0)] * len(self.parameters)
        images = [gen + each for gen, each in zip(ring.gens(), by, strict=True)]
        shifted = {}
        for axis, step in self._steps.items():
            moved = step.compose(images, ring).over_integers()
            content = math.gcd(*(int(each.p) for each in moved.denominator.coeffs()))
            shifted[axis] = RationalMatrix(moved.numerators, moved.denominator / content).to_sympy(symbols)
        return ConservativeMatrixField(shifted)

    def coboundary(self, change: Any) -> ConservativeMatrixField:
        r"""The equivalent field $M_x' = U(x,y)^{-1}\, M_x\, U(x+1,y)$, and likewise along the other axes.

        The work from $u$ to $v$ becomes $U(u)^{-1}\,W\,U(v)$.

        **Arguments**: `change`, the matrix $U$ of rational functions in the axes.

        **Raises** `ValueError` if $U$ has another size, or a determinant of zero.
        """
        symbols = (*self.axes, *self.parameters)
        own = RationalMatrix.from_sympy("change", change, symbols)
        if own.rank != self.rank:
            raise ValueError(f"change: must be {self.rank} by {self.rank}, got {own.rank} by {own.rank}")
        ring = context(symbols)
        try:
            inverse = own.inverse()
        except SingularStep:
            raise ValueError("change: its determinant is zero") from None
        changed = {}
        for axis, step in self._steps.items():
            images = [gen + int(symbol == axis) for symbol, gen in zip(symbols, ring.gens(), strict=True)]
            changed[axis] = (inverse @ step @ own.compose(images, ring)).to_sympy(symbols)
        return ConservativeMatrixField(changed)

    # --- what users pass in

    def _point(self, name: str, value: Point) -> list[flint.fmpq]:
        if isinstance(value, Mapping):
            unknown = [axis for axis in value if axis not in self.axes]
            missing = [axis for axis in self.axes if axis not in value]
            if unknown or missing:
                what = f"{unknown[0]} is no axis" if unknown else f"{missing[0]} is missing"
                raise ValueError(f"{name}: {what}; the axes are {self._names()}")
            value = [value[axis] for axis in self.axes]
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError(f"{name}: expected a coordinate for each axis ({self._names()}), got {value!r}")
        if len(value) != len(self.axes):
            raise ValueError(f"{name}: expected a coordinate for each axis ({self._names()}), got {len(value)}")
        return [rational(name, each) for each in value]

    def _require_numbers(self) -> None:
        if self.parameters:
            raise ValueError(
                f"the field has parameters without a value ({', '.join(map(str, self.parameters))}): use subs"
            )

    def _names(self) -> str:
        return ", ".join(map(str, self.axes))

    def _show(self, point: Sequence[flint.fmpq]) -> str:
        return f"({', '.join(map(str, point))})"


def ffbar_conditions(
    f: sympy.Expr, fbar: sympy.Expr, x: sympy.Symbol, y: sympy.Symbol
) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr, sympy.Expr]:
    r"""What the linear and the quadratic condition leave over, and the polynomials $a(x, y)$ and $b(x)$."""

    def at(expression: sympy.Expr, first: Any, second: Any) -> sympy.Expr:
        return expression.subs({x: first, y: second}, simultaneous=True)

    a = sympy.expand(f - at(fbar, x + 1, y))
    linear = sympy.expand(a - at(f, x + 1, y - 1) + at(fbar, x, y - 1))
    product = sympy.expand(f * fbar)
    b = at(product, x, 0) - at(product, 0, 0)
    return linear, sympy.expand(product - at(product, 0, y) - b), a, sympy.expand(b)


def _matrix(axis: sympy.Symbol, value: Any) -> sympy.ImmutableMatrix:
    try:
        return sympy.ImmutableMatrix(value)
    except (TypeError, ValueError):
        raise TypeError(f"matrices[{axis}]: expected a matrix, got {value!r}") from None
