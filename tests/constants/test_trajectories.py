"""Convergents, limits and exponents against SymPy, ramanujantools, and Apéry's own numbers."""

import math
from fractions import Fraction

import flint
import numpy as np
import pytest
import sympy
from sympy import Matrix, Rational

from tendsto.constants import (
    PCF,
    ConservativeMatrixField,
    NoLimit,
    SingularStep,
    Trajectory,
    known_field,
    known_fields,
    plot_scan,
    primitive_directions,
    scan_directions,
)

k, x, y = sympy.symbols("k x y")
DIAGONAL = known_field("zeta3").field.trajectory((1, 1))
APERY = 4 * math.log(1 + math.sqrt(2))


def test_diagonal_of_zeta3_is_the_published_matrix():
    n = k + 1
    expected = Matrix(
        [
            [-(n**6), -(n**6) * (2 * n + 1) * (3 * n**2 + 3 * n + 1)],
            [6 * n**3, n**3 * (35 * n**3 + 54 * n**2 + 30 * n + 6)],
        ]
    )
    assert (DIAGONAL.matrix - expected).applyfunc(sympy.expand).is_zero_matrix


def test_first_convergents_of_the_diagonal():
    # Fractions from the recurrence in Python's own integers: the matrix above, last column, product on the right.
    product, expected = [[1, 0], [0, 1]], []
    for n in range(1, 6):
        step = [
            [-(n**6), -(n**6) * (2 * n + 1) * (3 * n**2 + 3 * n + 1)],
            [6 * n**3, n**3 * (35 * n**3 + 54 * n**2 + 30 * n + 6)],
        ]
        product = [[sum(row[m] * step[m][j] for m in range(2)) for j in range(2)] for row in product]
        expected.append(Fraction(product[0][1], product[1][1]))
    found = [each.fraction for each in DIAGONAL.convergents(range(1, 6))]
    assert [Fraction(int(each.p), int(each.q)) for each in found] == expected
    assert expected[:3] == [Fraction(-21, 125), Fraction(-5521, 32845), Fraction(-668165, 3974981)]


def test_rows_are_continued_fractions_without_their_first_term():
    for name, (a, b) in {"ln2": (1, [1, 0, 0]), "e": ([1, 0], [1, 0]), "zeta3": ([2, 3, 3, 1], [-1] + [0] * 6)}.items():
        pcf, row = PCF(a, b), known_field(name).field.trajectory((1, 0))
        first = pcf.convergent(0).fraction
        for depth in (1, 2, 7):
            assert row.convergent(depth).fraction == pcf.convergent(depth).fraction - first


def test_aperys_numbers_and_fraction():
    # Apéry's b_n are sums of squared binomials; the classical fraction's numerators are p_n = ((n+1)!)³ b_{n+1}.
    pcf = PCF([34, 51, 27, 5], [-1] + [0] * 6)
    for n, convergent in enumerate(pcf.convergents(range(12)), start=1):
        number = sum(math.comb(n, j) ** 2 * math.comb(n + j, j) ** 2 for j in range(n + 1))
        assert int(convergent.p) == math.factorial(n) ** 3 * number
        assert n > 3 or number == (None, 5, 73, 1445)[n]
    with flint.ctx.workdps(70):
        value = 6 / pcf.limit(60)
        assert value.overlaps(flint.arb(3).zeta())
        assert (1 / (1 + DIAGONAL.limit(60))).overlaps(value)
    # Both gain 8 ln(1 + √2) a step.
    for one in (pcf, DIAGONAL.to_pcf()[0]):
        assert math.log(abs(one.eigenvalue_ratio)) == pytest.approx(2 * APERY, rel=1e-12)


@pytest.mark.parametrize("name", list(known_fields()))
@pytest.mark.parametrize("direction", [(1, 1), (2, 1), (1, 3)])
def test_companion_fraction_and_map_give_the_very_convergents(name, direction):
    trajectory = known_field(name).field.trajectory(direction)
    pcf, moebius = trajectory.to_pcf()
    offset = next(n for n in range(1, 8) if trajectory.convergent(n).fraction == moebius(pcf.convergent(0).fraction))
    for depth in range(8):
        expected = trajectory.convergent(depth + offset).fraction
        assert moebius(pcf.convergent(depth).fraction) == expected


def test_companion_begins_after_zeros_of_the_corner():
    # The upper right entry vanishes at k = 2, so the recurrence holds only behind it.
    trajectory = Trajectory([[1, k - 2], [1, 3 * k + 5]])
    pcf, moebius = trajectory.to_pcf()
    convergents = [trajectory.convergent(n).fraction for n in range(14)]
    offset = convergents.index(moebius(pcf.convergent(0).fraction))
    assert offset >= 3
    assert [moebius(pcf.convergent(n).fraction) for n in range(8)] == convergents[offset : offset + 8]
    with flint.ctx.workdps(40):
        assert abs(trajectory.limit(30) - flint.arb(trajectory.convergent(60).fraction)) < 1e-28


def test_ramanujantools_has_the_same_exponents():
    peer = pytest.importorskip("ramanujantools.cmf.known_cmfs")
    from ramanujantools.cmf import FFbar

    for name in ("ln2", "e", "zeta3"):
        field = known_field(name).field
        other = FFbar(f=field.matrices[y][1, 1], fbar=field.matrices[y][0, 0])
        for direction in ((1, 1), (2, 1)):
            theirs = other.delta(dict(zip((x, y), direction, strict=True)), 40, {x: 1, y: 1})
            ours = field.trajectory(direction).delta(40)
            assert float(ours.mid()) == pytest.approx(float(theirs), rel=1e-10)
            assert float(ours.rad()) < 1e-15
    assert peer.symmetric_pi().matrices.keys() == {x, y}


def test_exponents_are_those_of_the_definition():
    convergent = DIAGONAL.convergent(100)
    with flint.ctx.workdps(1500):
        error = abs(1 / flint.arb(3).zeta() - 1 - flint.arb(convergent.fraction))
        expected = -1 - error.log() / flint.arb(convergent.fraction.q).log()
        assert DIAGONAL.delta(100).overlaps(expected)
    assert [round(float(each.mid()), 6) for each in DIAGONAL.deltas([50, 200, 600])] == [0.118647, 0.083765, 0.085903]


def test_unreduced_denominators_show_no_irrationality():
    evidence = DIAGONAL.irrationality([50, 100, 200])
    assert evidence
    least = min(float(delta.mid()) for delta in evidence.deltas)
    assert float(evidence.measure.mid()) == pytest.approx(1 + 1 / least)
    raw = DIAGONAL.irrationality([50, 100, 200], reduced=False)
    assert not raw
    assert float(raw.deltas[-1].mid()) == pytest.approx(-0.5723, abs=1e-4)
    with pytest.raises(ValueError, match=r"no evidence of irrationality: δ is -0\.43"):
        _ = raw.measure


def test_a_limit_taken_from_the_same_convergent_is_refused():
    with flint.ctx.workdps(2000):
        own = flint.arb(DIAGONAL.convergent(50).fraction)
    with pytest.raises(ValueError, match="limit: is not precise enough"):
        DIAGONAL.delta(50, own)
    with pytest.raises(ValueError, match="limit: is not precise enough"):
        DIAGONAL.delta(50, known_field("zeta3").limit(30))


def test_limits_that_cannot_be_certified():
    with pytest.raises(NoLimit, match="too slowly"):
        known_field("zeta3").field.trajectory((1, 0)).limit(20)
    with pytest.raises(NoLimit, match="upper right entry"):
        Trajectory([[1, 0], [1, k + 1]]).limit(10)
    with pytest.raises(ValueError, match="rank 2, not 3"):
        Trajectory(sympy.diag(1, 2, 3)).limit(10)
    with pytest.raises(ValueError, match="so delta is not defined"):
        DIAGONAL.delta(0)
    # 1 / (1 - 1) beyond the first step: the quotient grows without bound.
    with pytest.raises(NoLimit):
        Trajectory([[2, 1], [0, 1]]).limit(10)


def test_products_are_exact_and_poles_are_named():
    matrix = Matrix([[k / 2, 1 / (k + 1)], [1, Rational(1, 3)]])
    trajectory = Trajectory(matrix)
    expected = sympy.eye(2)
    for step in range(9):
        expected = expected * matrix.subs(k, step)
    found = trajectory.product(9)
    assert [Rational(int(each.p), int(each.q)) for each in found.entries()] == list(expected)
    assert trajectory.convergent(9).fraction == found[0, 1] / found[1, 1]
    with pytest.raises(SingularStep, match="k = 3"):
        Trajectory([[1 / (k - 3), 1], [1, 1]]).product(4)
    for wrong, message in (([[1]], "two rows"), (sympy.zeros(2), "must not be zero"), ([[1, 2]], "square")):
        with pytest.raises(ValueError, match=message):
            Trajectory(wrong)
    with pytest.raises(ValueError, match="depths"):
        trajectory.convergents([3, 2])


def test_long_products_are_those_of_single_steps():
    field = known_field("zeta2").field
    steps, trajectory = 131, field.trajectory((1, 1))
    expected = field.work((1, 1), (1 + steps, 1 + steps), [x, y] * steps)
    assert trajectory.product(steps) == expected
    for found in trajectory.convergents([3, 70, steps])[1:]:
        before = field.work((1, 1), (1 + found.depth, 1 + found.depth), [x, y] * found.depth)
        assert found.fraction == before[0, 1] / before[1, 1]


def test_scan_reproduces_the_exponents_of_every_direction():
    # Exponents of ramanujantools' definition at n (s + t) = 240, from exact integers.
    expected = {
        "zeta3": {(1, 1): 0.1038, (3, 2): 0.0005, (2, 3): -0.0016, (2, 1): -0.0832, (1, 2): -0.0849, (1, 0): -0.9834},
        "ln2": {(1, 1): 0.3230, (2, 3): 0.2300, (3, 2): 0.2073, (1, 2): 0.1351, (2, 1): 0.1173},
        "e": {(1, 1): 1.0011, (3, 2): 0.7160, (2, 1): 0.5455},
        "pi": {(2, 3): -0.1289},
    }
    for name, values in expected.items():
        known = known_field(name)
        scan = scan_directions(known.field, limit=known.limit(1500))
        found = {(row.x, row.y): row.delta for row in scan.itertuples()}
        assert len(found) == 9
        assert {direction: round(found[direction], 4) for direction in values} == values
        assert next(iter(found)) == next(iter(values))
        assert (scan["depth"] == (240 / (scan["x"] + scan["y"])).round()).all()


def test_scan_certifies_its_own_limits_where_it_can():
    known = known_field("zeta3")
    own, given = scan_directions(known.field, steps=60), scan_directions(known.field, steps=60, limit=known.limit(500))
    assert own["delta"].isna().sum() == 2
    np.testing.assert_array_equal(own["delta"][:-2], given["delta"][:-2])
    raw = scan_directions(known.field, steps=60, limit=known.limit(800), reduced=False)
    assert (raw["delta"] < 0).all()


def test_directions_are_primitive_in_any_dimension():
    assert primitive_directions(2, 2) == [(0, 1), (1, 0), (1, 1), (1, 2), (2, 1)]
    assert len(primitive_directions(3, 1)) == 7
    field = known_field("e").field
    scan = scan_directions(field, steps=20, directions=[(1, 1), (5, 4)])
    assert set(zip(scan["x"], scan["y"], strict=True)) == {(1, 1), (5, 4)}
    with pytest.raises(ValueError, match="steps: 3 are not enough"):
        scan_directions(field, steps=3, directions=[(5, 4)])
    with pytest.raises(ValueError, match="largest"):
        primitive_directions(2, 0)


def test_map_of_a_scan_shows_every_direction():
    known = known_field("zeta3")
    scan = scan_directions(known.field, limit=known.limit(1500))
    axes = plot_scan(scan)
    assert sorted(map(tuple, axes.collections[0].get_offsets())) == sorted(zip(scan["x"], scan["y"], strict=True))
    np.testing.assert_array_equal(axes.collections[0].get_array(), scan["delta"])
    assert sorted(text.get_text() for text in axes.texts) == sorted(f"{each:.2f}" for each in scan["delta"])
    assert plot_scan(scan, axes) is axes
    with pytest.raises(ValueError, match="two axes"):
        plot_scan(scan.drop(columns="x"))


def test_backward_and_half_integer_walks():
    field = known_field("ln2").field
    back = field.trajectory((-1, 1), (10, 1)).product(3)
    assert back == field.work((10, 1), (7, 4))
    half = field.trajectory((1, 1), (Fraction(1, 2), Rational(1, 2)))
    middle = Fraction(1, 2), Fraction(1, 2)
    assert half.product(3) == field.work(middle, (Fraction(7, 2), Fraction(7, 2)), [x, y] * 3)
    assert (
        half.convergent(3).fraction
        == ConservativeMatrixField(
            {
                axis: matrix.subs({x: x - Rational(1, 2), y: y - Rational(1, 2)})
                for axis, matrix in field.matrices.items()
            }
        )
        .trajectory((1, 1))
        .convergent(3)
        .fraction
    )
