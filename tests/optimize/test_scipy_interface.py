import numpy as np
import pytest
from scipy.optimize import Bounds, OptimizeResult, OptimizeWarning, minimize

from tendsto.optimize.scipy_interface import Counted, box, starting_vector, wants_to_stop, warn_unused


def test_calls_are_counted_and_the_argument_is_a_copy():
    def spoils_its_argument(x, shift):
        x += shift
        return x.sum()

    function, x = Counted(spoils_its_argument, (1.0,)), np.zeros(2)
    assert function.scalar(x) == 2.0
    assert function(x) == 2.0
    assert function.calls == 2
    assert x.tolist() == [0.0, 0.0]


def test_a_function_that_is_not_scalar_is_an_error():
    with pytest.raises(ValueError, match="fun: must return a scalar"):
        Counted(lambda x: x).scalar(np.zeros(2))


@pytest.mark.parametrize(
    ("x0", "error", "message"),
    [
        ([], ValueError, "empty"),
        ([[1.0]], ValueError, "vector"),
        ([np.nan], ValueError, "finite"),
        ("ab", TypeError, "real numbers"),
    ],
)
def test_bad_starts_are_named(x0, error, message):
    with pytest.raises(error, match=f"x0: .*{message}"):
        starting_vector(x0)


def test_a_start_is_a_fresh_vector():
    x0 = np.ones(3)
    starting_vector(x0)[0] = 5.0
    assert x0[0] == 1.0
    assert starting_vector(2).shape == (1,)


def test_both_forms_of_bounds_agree():
    for one, other in zip(box([(None, 1.0), (0, None)], 2), box(Bounds([-np.inf, 0], [1, np.inf]), 2), strict=True):
        np.testing.assert_array_equal(one, other)
    assert box(Bounds(0, 1), 3)[1].tolist() == [1.0, 1.0, 1.0]
    assert np.isinf(box(None, 2)).all()


@pytest.mark.parametrize("bounds", [[(0, 1)], [(1, 0), (0, 1)], Bounds([0, 0, 0], [1, 1, 1]), [(np.nan, 1), (0, 1)]])
def test_bad_bounds_are_named(bounds):
    with pytest.raises(ValueError, match="bounds: "):
        box(bounds, 2)


def test_callbacks_follow_the_rule_of_scipy():
    """The same two callbacks, given to SciPy's own method and to ours, see the same kind of argument."""
    seen = []

    def by_name(intermediate_result):
        seen.append(("result", type(intermediate_result)))
        raise StopIteration

    def by_position(xk):
        seen.append(("x", type(xk)))
        raise StopIteration

    for callback in (by_name, by_position):
        assert minimize(lambda x: x @ x, [1.0, 2.0], method="BFGS", callback=callback).status == 99
        assert wants_to_stop(callback, OptimizeResult(x=np.ones(2), fun=1.0))
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert not wants_to_stop(None, OptimizeResult())
    assert not wants_to_stop(lambda xk: True, OptimizeResult(x=np.ones(2)))


def test_what_is_not_used_is_said():
    with pytest.warns(RuntimeWarning, match="does not use jac"):
        warn_unused("m", jac=lambda x: x, hess=None, constraints=())
    with pytest.warns(OptimizeWarning, match="speed"):
        warn_unused("m", options={"speed": 1})
    warn_unused("m", options={}, jac=None, constraints=[])
