"""Fields recovered from one of their rows."""

import pytest
import sympy

from tendsto.constants import PCF, NoField, find_field, known_field

x, y = sympy.symbols("x y")


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("ln2", 1, [1, 0, 0]),
        ("e", [1, 0], [1, 0]),
        ("pi", [3, 3], [-2, -1, 0]),
        ("zeta2", [4, 4, 2], [-4, 0, 0, 0, 0]),
        ("zeta3", [2, 3, 3, 1], [-1, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_row_one_gives_the_field(name, a, b):
    field = find_field(PCF(a, b))
    assert field == known_field(name).field
    assert field.verify()


def test_another_row_gives_the_field_too():
    field = known_field("zeta2").field
    a, b = field.matrices[x][1, 1].subs(y, 3), field.matrices[x][0, 1]
    assert find_field(PCF(sympy.expand(a), b), row=3) == field


def test_a_fraction_of_no_known_field_gives_one():
    # Alternating squares: b = x⁴ is positive.
    field = find_field(PCF([2, 1], [1, 0, 0, 0, 0]))
    assert field.verify()
    assert field.matrices[x][0, 1] == x**4
    assert sympy.expand(field.matrices[x][1, 1].subs(y, 1)) == 2 * x + 1


@pytest.mark.parametrize(
    ("pcf", "message"),
    [
        (PCF([34, 51, 27, 5], [-1, 0, 0, 0, 0, 0, 0]), "no field with f and f̄ of degree 3"),
        (PCF([2, 1], [1, 0, 0]), "rational coefficients"),
        (PCF([1, 1], [1, 1]), r"b\(0\) is 1"),
        (PCF([2, -1], [-1, 2, 0]), "no field"),  # but for one whose rows are all equal
        (PCF([2, 3, 3, 2], [-1, 0, 0, 0, 0, 0, 0]), "no field"),
    ],
)
def test_fractions_without_a_field(pcf, message):
    with pytest.raises(NoField, match=message):
        find_field(pcf)


def test_degree_and_row_are_checked():
    with pytest.raises(ValueError, match="degree"):
        find_field(PCF(1, [1, 0, 0]), degree=0)
    with pytest.raises(TypeError, match="row"):
        find_field(PCF(1, [1, 0, 0]), row=0.5)
