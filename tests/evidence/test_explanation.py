from datetime import date

import pytest

from tendsto.evidence import Paper
from tendsto.evidence.explanation import explain, unwrap


def card(*method):
    return Paper("p", "t", ("a",), "2401.00001", date(2024, 1, 1), "optimize", method)


def test_a_method_is_explained_by_its_first_sentence_and_its_formulas():
    mirror, optax = explain(card("optimize.MirrorDescent", "optimize.Optax"))
    assert mirror.sentence.startswith("Composite stochastic mirror descent")
    assert mirror.formulas == (r"x_{t+1} = \arg\min_x\; h(x) + \langle\hat g_t, x\rangle + D(x, x_t)/\eta_t",)
    assert optax.name == "optimize.Optax"
    assert optax.formulas == ()


def test_a_name_that_does_not_exist_is_an_error():
    with pytest.raises(AttributeError, match="NoSuchMethod"):
        explain(card("optimize.NoSuchMethod"))


def test_paragraphs_are_unwrapped():
    assert unwrap("one\n  two\n\n \nthree\n") == ["one two", "three"]
