from __future__ import annotations

import json
import math
import os
from dataclasses import replace

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tendsto.evidence import (
    Budget,
    Check,
    Column,
    ControlResult,
    Estimate,
    Finding,
    NotRun,
    Prediction,
    Table,
    Verdict,
    at_most,
    check_claim,
    claim,
)
from toys import sums

CARD = sums.CARD


def holds(_):
    return Finding([Check("size", at_most(1), Estimate.exact(0.5))])


def fails(_):
    return Finding([Check("size", at_most(1), Estimate.exact(2))])


def undecided(_):
    return Finding([Check("size", at_most(1), Estimate(1, 0.5, 2, "given"))])


def diverges(_):
    return Finding([Check("size", at_most(1), Estimate.mean([1.0, math.inf]))])


def lacks(_):
    raise NotRun("needs Lean")


def raises(_):
    raise RuntimeError("two\nlines")


def returns_nothing(_):
    return None


def judge(function, *controls):
    made = claim(statement="It holds", source="Theorem 1", evidence="measured")(function)
    for control in controls:
        made.control(control)
    return check_claim(made, Budget())[0]


@pytest.mark.parametrize(
    ("function", "controls", "ruling", "errored", "reason"),
    [
        (holds, [fails], "holds", False, "every control fails as it must"),
        (holds, [diverges], "holds", False, "every control fails as it must"),
        (holds, [fails, fails], "holds", False, "every control fails as it must"),
        (holds, [], "unsound", False, "no control"),
        (holds, [holds], "unsound", False, "control holds holds"),
        (holds, [undecided], "unsound", False, "control undecided does not clearly fail"),
        (holds, [fails, holds], "unsound", False, "control holds holds"),
        (holds, [lacks, holds], "unsound", False, "control holds holds"),
        (holds, [lacks], "not run", False, "needs Lean (control lacks)"),
        (holds, [raises], "not run", True, "error: RuntimeError: two lines"),
        (holds, [holds, raises], "not run", True, "(control raises)"),
        (fails, [fails], "fails", False, "size: predicted ≤ 1, measured 2."),
        (fails, [holds], "unsound", False, "control holds holds"),
        (fails, [], "unsound", False, "no control"),
        (diverges, [fails], "fails", False, "measured inf"),
        (undecided, [fails], "fails", False, "at the quick budget the interval straddles the bound"),
        (undecided, [undecided], "unsound", False, "does not clearly fail"),
        (lacks, [fails], "not run", False, "needs Lean"),
        (lacks, [], "not run", False, "needs Lean"),
        (raises, [fails], "not run", True, f"error: RuntimeError: two lines at {__name__}:"),
        (returns_nothing, [fails], "not run", True, "must return a Finding, got NoneType"),
    ],
)
def test_what_claim_and_control_show_together(function, controls, ruling, errored, reason):
    verdict = judge(function, *controls)
    assert (verdict.verdict, verdict.errored) == (ruling, errored)
    assert reason in verdict.reason
    assert "\n" not in verdict.reason
    assert repr(Verdict.from_json(verdict.to_json())) == repr(verdict)


@pytest.mark.parametrize(
    ("controls", "summary"),
    [
        ([], "none"),
        ([fails], "fails"),
        ([fails, holds], "holds"),
        ([undecided, fails], "undecided"),
        ([fails, lacks], "not run"),
    ],
)
def test_the_worst_control_stands_for_all(controls, summary):
    assert judge(holds, *controls).control == summary


def test_the_headline_is_the_check_that_decides():
    def mixed(_):
        return Finding([*holds(_).checks, Check("gap", at_most(3), Estimate(5, 4, 6, "given"))])

    verdict = judge(mixed, fails)
    assert (verdict.measured, verdict.interval, verdict.predicted) == (5.0, (4.0, 6.0), at_most(3))
    plain = json.loads(verdict.to_json())
    assert plain["measured"] == 5.0
    assert plain["interval"] == [4.0, 6.0]
    assert plain["predicted"] == {"low": "-inf", "high": 3.0}
    assert plain["control"] == "fails"


def test_a_claim_runs_in_float64_and_leaves_no_setting_changed(capsys):
    seen = []

    def looks(_):
        seen.append((jnp.ones(1).dtype, matplotlib.rcParams["figure.facecolor"]))
        print("chatter")
        return holds(_)

    def settings_now():
        names = ("figure.facecolor", "axes.grid", "axes.prop_cycle", "svg.hashsalt")
        return jax.config.jax_enable_x64, [matplotlib.rcParams[name] for name in names], os.environ.copy()

    before = settings_now()
    with jax.enable_x64(False):
        assert judge(looks, fails).verdict == "holds"
        assert jnp.ones(1).dtype == jnp.float32
    assert seen == [(jnp.float64, "none")]
    assert settings_now() == before
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "chatter\n")


def test_figures_are_the_same_bytes_on_every_run_and_adapt_to_the_page():
    runs = [check_claim(sums.variance_falls_like_one_over_n, Budget(seed=3))[1] for _ in range(2)]
    assert runs[0].figures == runs[1].figures
    (svg,) = runs[0].figures.values()
    assert "currentColor" in svg
    assert "prefers-color-scheme:dark" in svg
    assert "#000000" not in svg
    assert "<dc:date>" not in svg


def test_a_figure_that_cannot_be_drawn_is_an_error_of_the_claim():
    def draws(_):
        figure = matplotlib.figure.Figure()
        figure.subplots().set_title(r"$\nosuchcommand$")
        return Finding(holds(_).checks, figures={"bad": figure})

    verdict = judge(draws, fails)
    assert verdict.errored
    assert "nosuchcommand" in verdict.reason


def test_tables_keep_their_numbers_and_their_words():
    frame = pd.DataFrame(
        {
            "step": [1, 2**60],
            "gap": [0.1, np.inf],
            "missing": [np.nan, 2.0],
            "word": ["nan", None],
            "flag": [True, False],
        },
        index=pd.Index(["a", "b"], name="method"),
    )
    table = Table.from_frame(frame)
    assert [column.title for column in table.columns] == [
        "method",
        "step",
        "gap",
        "missing",
        "word",
        "flag",
    ]
    whole = replace(judge(holds), tables={"all": table})
    assert repr(Verdict.from_json(whole.to_json()).tables["all"]) == repr(table)
    assert repr(list(table.rows)) == repr(
        [("a", 1, 0.1, math.nan, "nan", "True"), ("b", 2**60, math.inf, 2.0, "", "False")]
    )


numbers = st.floats(allow_nan=True, allow_infinity=True)
ordered = st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)).map(sorted)
predictions = ordered.map(lambda sides: Prediction(*sides))
estimates = st.builds(
    lambda value, sides, method: Estimate(value, *sides, method),
    numbers,
    ordered | st.just([math.nan, math.nan]),
    st.text(max_size=5),
)
checks = st.lists(st.builds(Check, st.text(max_size=5), predictions, estimates), max_size=3).map(tuple)
cells = st.lists(numbers | st.integers(), min_size=2, max_size=2) | st.lists(st.text(), min_size=2, max_size=2)
tables = st.lists(st.builds(Column, st.text(max_size=5), cells.map(tuple)), max_size=3).map(
    lambda columns: Table(tuple(columns))
)
verdicts = st.builds(
    Verdict,
    paper=st.text(),
    claim=st.text(),
    statement=st.text(),
    source=st.text(),
    evidence=st.sampled_from(["measured", "certified", "proved"]),
    verdict=st.sampled_from(["holds", "fails", "unsound", "not run"]),
    reason=st.text(),
    budget=st.sampled_from(["quick", "standard", "full"]),
    seed=st.integers(0, 2**32 - 1),
    checks=checks,
    controls=st.lists(st.builds(ControlResult, st.text(), st.text(), checks), max_size=2).map(tuple),
    tables=st.dictionaries(st.text(), tables, max_size=2),
    figures=st.lists(st.text(), max_size=2).map(tuple),
    errored=st.booleans(),
    versions=st.dictionaries(st.text(), st.text(), max_size=2),
    seconds=numbers,
)


@settings(max_examples=150, deadline=None)
@given(verdicts)
def test_json_keeps_every_verdict(verdict):
    text = verdict.to_json()
    strict = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert {"predicted", "measured", "interval", "control"} <= strict.keys()
    assert "\n" not in text
    back = Verdict.from_json(text)
    assert repr(back) == repr(verdict)
    assert back.to_json() == text


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '{"paper": "x"}', "[" * 100_000])
def test_what_is_no_verdict_is_refused(text):
    with pytest.raises(ValueError, match="not the JSON of a verdict"):
        Verdict.from_json(text)
