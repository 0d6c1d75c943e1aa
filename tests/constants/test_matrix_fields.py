"""Fields against ramanujantools, identities, and walks computed factor by factor in SymPy."""

import random
from fractions import Fraction

import flint
import pytest
import sympy
from sympy import Matrix, Rational

from tendsto.constants import (
    LIBRARY,
    ConservativeMatrixField,
    Moebius,
    NotConservative,
    SingularStep,
    enclose,
    field_families,
    known_field,
    known_fields,
)

x, y, z = sympy.symbols("x y z")
NAMES = list(known_fields())


def as_sympy(matrix):
    return Matrix(matrix.nrows(), matrix.ncols(), [Rational(int(each.p), int(each.q)) for each in matrix.entries()])


def walk(field, start, path):
    """The definition: the matrix at the point before the step, from the right; inverses for steps back."""
    point, total = dict(zip(field.axes, start, strict=True)), sympy.eye(field.rank)
    for step in path:
        if step in field.axes:
            total = total * field.matrices[step].subs(point)
            point[step] += 1
        else:
            point[-step] -= 1
            total = total * field.matrices[-step].subs(point).inv()
    return total


@pytest.mark.parametrize("name", NAMES)
def test_known_fields_are_conservative_and_perturbed_ones_are_not(name):
    field = known_field(name).field
    assert field.verify()
    assert all(residual.is_zero_matrix for residual in field.residuals().values())
    changed = field.matrices[x].as_mutable()
    changed[1, 1] += 1
    perturbed = ConservativeMatrixField({x: changed, y: field.matrices[y]})
    expected = changed * field.matrices[y].subs(x, x + 1) - field.matrices[y] * changed.subs(y, y + 1)
    assert not perturbed.verify()
    assert (perturbed.residuals()[x, y] - expected).expand().is_zero_matrix


@pytest.mark.parametrize("name", list(field_families()))
def test_families_are_conservative_for_all_parameters(name):
    family = field_families()[name]
    assert family.parameters
    assert family.verify()
    generator = random.Random(name)
    member = family.subs({symbol: Rational(generator.randint(-9, 9), 2) for symbol in family.parameters})
    assert member.parameters == ()
    assert member.verify()


def test_families_contain_the_known_fields():
    c0, c1, c2, c3 = sympy.symbols("c:4")
    families = field_families()
    assert families["linear"].subs({c0: 0, c1: 1, c2: 0, c3: 1}) == known_field("ln2").field
    assert families["linear"].subs({c0: 1, c1: 2, c2: 0, c3: -1}) == known_field("pi").field
    assert families["quadratic"].subs({c0: 1, c1: 0, c2: 0, c3: 0}) == known_field("zeta2").field
    cubic = families["cubic"].subs({c0: 0, c1: 1})
    # The field of zeta(3) with f and f̄ multiplied by -2.
    f, fbar = known_field("zeta3").field.matrices[y][1, 1], known_field("zeta3").field.matrices[y][0, 0]
    assert cubic == ConservativeMatrixField.from_ffbar(-2 * f, -2 * fbar)


@pytest.mark.parametrize("name", ["pi", "zeta2", "zeta3", "symmetric pi"])
def test_work_is_that_of_the_definition_on_every_path(name):
    field = known_field(name).field
    generator = random.Random(7)
    steps = [x] * 4 + [y] * 3
    expected = walk(field, (1, 2), steps)
    assert as_sympy(field.work((1, 2), (5, 5))) == expected
    for _ in range(10):
        generator.shuffle(steps)
        assert as_sympy(field.work((1, 2), (5, 5), steps)) == expected


def test_steps_back_are_inverses():
    field = known_field("zeta3").field
    there, back = field.work((2, 3), (5, 7)), field.work((5, 7), (2, 3))
    assert as_sympy(there * back) == sympy.eye(2)
    assert as_sympy(field.work((2, 3), (3, 2), [x, -y])) == walk(field, (2, 3), [x, -y])
    assert field.work((2, 3), (3, 2)) == field.work((2, 3), (3, 2), [-y, x])
    assert as_sympy(field.work((2, 3), (2, 3))) == sympy.eye(2)


def test_perturbed_field_walks_along_explicit_paths_that_differ():
    field = known_field("e").field
    bad = ConservativeMatrixField({x: field.matrices[x], y: [[2, x], [1, x + y]]})
    assert bad.work((1, 1), (2, 2), [x, y]) != bad.work((1, 1), (2, 2), [y, x])
    with pytest.raises(NotConservative, match=r"x, y.*path="):
        bad.work((1, 1), (2, 2))
    with pytest.raises(NotConservative):
        bad.trajectory((1, 1))


@pytest.mark.parametrize("name", NAMES)
def test_another_start_is_a_moebius_image(name):
    field = known_field(name).field
    one, other = (field.trajectory((1, 1), start).limit(60) for start in ((1, 1), (2, 1)))
    with flint.ctx.workdps(80):
        assert not one.overlaps(other)
        assert Moebius(*field.matrices[x].subs({x: 1, y: 1}))(other).overlaps(one)


def test_ramanujantools_has_the_same_fields_work_and_walks():
    peer = pytest.importorskip("ramanujantools.cmf")
    from ramanujantools import Position

    for name in NAMES:
        field = known_field(name).field
        other = peer.CMF({axis: _peer_matrix(matrix) for axis, matrix in field.matrices.items()}, validate=True)
        for start, end in (((1, 1), (6, 4)), ((5, 6), (7, 3))):
            expected = other.work(Position(dict(zip((x, y), start, strict=True))), dict(zip((x, y), end, strict=True)))
            assert as_sympy(field.work(start, end)) == Matrix(expected)
        theirs = other.trajectory_matrix({x: 2, y: 1}, {x: 1, y: 1})
        ours = field.trajectory((2, 1)).matrix.subs(sympy.Symbol("k"), sympy.Symbol("n"))
        assert (Matrix(theirs) - ours).applyfunc(sympy.cancel).is_zero_matrix
        walked = other.walk({x: 1, y: 1}, 12, {x: 1, y: 1})
        assert as_sympy(field.trajectory((1, 1)).product(12)) == Matrix(walked)
    with pytest.raises(ValueError, match="not conserving"):
        peer.CMF({x: _peer_matrix([[0, x], [1, x + y - 1]]), y: _peer_matrix([[2, x], [1, x + y]])})


def _peer_matrix(value):
    from ramanujantools import Matrix as PeerMatrix

    return PeerMatrix(sympy.Matrix(value).tolist())


def test_three_axes_of_rank_three():
    # Diagonal fields gauged by a matrix: conservative, with every entry in use, and closed forms for the work.
    diagonal = ConservativeMatrixField({axis: sympy.diag(axis, axis + 1, axis**2 + 1) for axis in (x, y, z)})
    change = Matrix([[1, x, 0], [0, 1, y], [z, 0, x + y + 2]])
    field = diagonal.coboundary(change)
    assert field.rank == 3
    assert diagonal.verify()
    assert field.verify()
    here, there = {x: 1, y: 2, z: 1}, {x: 3, y: 3, z: 4}
    expected = change.subs(here).inv() * as_sympy(diagonal.work(here, there)) * change.subs(there)
    assert as_sympy(field.work(here, there)) == expected
    assert as_sympy(field.work(here, there, [z, x, y, z, x, z])) == expected
    assert as_sympy(diagonal.work(here, there))[0, 0] == 1 * 2 * 2 * 1 * 2 * 3


def test_coboundary_undone_is_the_field():
    field = known_field("zeta2").field
    change = Matrix([[x, 1], [y, x + y]])
    changed = field.coboundary(change)
    assert changed != field
    assert changed.verify()
    assert changed.coboundary(change.inv()) == field


def test_shifted_field_has_integers_and_the_quotients_of_the_shifted_walk():
    field = known_field("zeta2").field
    half = Rational(1, 2)
    shifted = field.shift({x: 0, y: -half})
    assert shifted.verify()
    assert all(number.is_Integer for matrix in shifted.matrices.values() for number in matrix.atoms(sympy.Number))
    ours, expected = (
        [each.fraction for each in one.convergents(range(1, 8))]
        for one in (shifted.trajectory((1, 2)), field.trajectory((1, 2), (1, half)))
    )
    assert ours == expected


@pytest.mark.parametrize(
    ("name", "start"), [(name, start) for name, known in known_fields().items() for start in known.limits]
)
def test_limits_are_the_closed_forms(name, start):
    known = known_field(name)
    closed = known.limit(50, start)
    for direction in ((1, 1), (1, 2), (3, 2)):
        ball = known.field.trajectory(direction, start).limit(50)
        assert ball.rad() < 1e-49
        assert ball.overlaps(closed)


def test_enclosure_agrees_with_sympy():
    for known in known_fields().values():
        for formula in known.limits.values():
            with flint.ctx.workdps(60):
                assert abs(enclose(formula, 40) - flint.arb(str(formula.evalf(50)))) < 1e-38
    with pytest.raises(TypeError, match="no enclosure"):
        enclose(sympy.sin(1), 10)
    with pytest.raises(ValueError, match="no closed form is known"):
        known_field("e").limit(10, (7, 7))
    with pytest.raises(ValueError, match="'zeta5' is not one of ln2"):
        known_field("zeta5")


def test_ffbar_names_the_condition_that_is_violated():
    with pytest.raises(ValueError, match="linear condition"):
        ConservativeMatrixField.from_ffbar(x + 2 * y, x - y)
    with pytest.raises(ValueError, match=r"quadratic condition.*x\*y"):
        ConservativeMatrixField.from_ffbar(3 * x + y, -x - y)
    u, v = sympy.symbols("u v")
    assert ConservativeMatrixField.from_ffbar(u + v, u - v, (u, v)).axes == (u, v)


def test_latex_and_repr_show_the_matrices():
    field = known_field("e").field
    assert "M_{x}" in field._repr_latex_()
    assert "x + y" in repr(field)
    assert "T(k)" in field.trajectory((1, 1))._repr_latex_()


E2 = [[0, x], [1, y]]


@pytest.mark.parametrize(
    ("matrices", "error", "message"),
    [
        ({x: E2}, ValueError, "at least two axes"),
        ([E2, E2], TypeError, "mapping"),
        ({"x": E2, y: E2}, TypeError, "SymPy symbol"),
        ({x: [[1, 2, 3], [4, 5, 6]], y: E2}, ValueError, r"matrices\[x\].*square"),
        ({x: [[1]], y: E2}, ValueError, "one size, got 1 for x, 2 for y"),
        ({x: [[0.5 * x, 1], [1, 1]], y: E2}, TypeError, "float"),
        ({x: [[sympy.sin(x), 1], [1, 1]], y: E2}, TypeError, "no rational function"),
        ({x: [[sympy.sqrt(2), 1], [1, 1]], y: E2}, TypeError, "rational numbers"),
        ({x: 3, y: E2}, TypeError, "expected a matrix"),
        ({x: [[sympy.Symbol("y", positive=True), 1], [1, 1]], y: E2}, ValueError, "same name"),
    ],
)
def test_matrices_that_are_no_field(matrices, error, message):
    with pytest.raises(error, match=message):
        ConservativeMatrixField(matrices)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: f.work((1, 1), (2, 1.5)), TypeError, "end: expected an exact rational"),
        (lambda f: f.work((1, 1), (2, Fraction(3, 2))), ValueError, "differ by integers"),
        (lambda f: f.work((1, 1), (2,)), ValueError, "coordinate for each axis"),
        (lambda f: f.work((1, 1), 3), TypeError, "coordinate for each axis"),
        (lambda f: f.work({x: 1, z: 1}, (2, 2)), ValueError, "z is no axis"),
        (lambda f: f.work({x: 1}, (2, 2)), ValueError, "y is missing"),
        (lambda f: f.work((1, 1), (2, 2), [x, z]), ValueError, "path: z is neither"),
        (lambda f: f.work((1, 1), (2, 2), [x, x]), ValueError, r"leads to \(3, 1\)"),
        (lambda f: f.work((1, 1), (0, 1)), SingularStep, "singular"),
        (lambda f: f.work((1, 1), (0, 1), [-x]), SingularStep, r"-x at \(0, 1\)"),
        (lambda f: f.trajectory((0, 0)), ValueError, "direction: must not be zero"),
        (lambda f: f.trajectory((1, Rational(1, 2))), ValueError, "direction: must consist of integers"),
        (lambda f: f.trajectory((1, 1), (1, "1")), TypeError, "start"),
        (lambda f: f.subs({z: 1}), ValueError, "z is no parameter"),
        (lambda f: f.coboundary(sympy.eye(3)), ValueError, "change: must be 2 by 2"),
        (lambda f: f.coboundary(Matrix([[x, x], [1, 1]])), ValueError, "change: its determinant is zero"),
        (lambda f: field_families()["linear"].work((1, 1), (2, 2)), ValueError, "use subs"),
    ],
)
def test_odd_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(known_field("zeta3").field)


def test_a_line_of_poles_is_a_singular_step():
    field = ConservativeMatrixField({x: [[1 / y, 0], [0, 1]], y: [[y / (y - 1), 0], [0, 1]]})
    if field.verify():
        with pytest.raises(SingularStep):
            field.trajectory((1, 0), (1, 0))
    with pytest.raises(SingularStep, match="pole"):
        field.work((1, 0), (2, 0), [x])


def test_moebius_maps_compose_and_invert():
    one, other = Moebius(1, 2, 3, 4), Moebius(Rational(1, 2), -1, 0, 3)
    value = flint.fmpq(5, 7)
    assert (one @ other)(value) == one(other(value))
    assert one.inverse()(one(value)) == value
    assert Moebius(2, 4, 6, 8) == one == Moebius(-1, -2, -3, -4)
    with flint.ctx.workdps(40):
        ball = one(flint.arb(2) ** flint.arb("0.5"))
        assert ball.overlaps((flint.arb(2).sqrt() + 2) / (3 * flint.arb(2).sqrt() + 4))
        assert not one(flint.arb("-1.3333", "0.001")).is_finite()
    assert one(x) == (x + 2) / (3 * x + 4)
    assert "mapsto" in one._repr_latex_()
    with pytest.raises(ValueError, match="constant"):
        Moebius(1, 2, 2, 4)
    with pytest.raises(TypeError, match="exact rational"):
        Moebius(0.5, 1, 0, 1)


def test_the_field_of_e_holds_gompertz_constant():
    """Where x + y stays the same; convergence is too slow there for a rigorous ball."""
    across = known_field("e").field.trajectory((1, -1), (1, 0))
    with flint.ctx.workdps(60):
        value = across.convergent(600)
        expected = 1 - 1 / LIBRARY["gompertz"].value()
        assert abs(flint.arb(value.p) / value.q - expected) < 1e-40
