"""Clusters, their names and the families they generalise to."""

import math

import flint
import numpy as np
import pandas as pd
import pytest

from tendsto.constants import (
    ANCHORS,
    LIBRARY,
    PCF,
    Anchor,
    Family,
    FormulaClusterer,
    Identification,
    Identifier,
    arctangent,
    area_tangent,
    conjecture,
    find_families,
    label_clusters,
    lean_statement,
    limit_of,
    metrics_table,
    quadratic,
    reducing,
    split_by_eigenvalue_ratio,
)


@pytest.mark.parametrize("anchor", ANCHORS, ids=lambda anchor: str(anchor.formula))
def test_anchors_have_the_value_they_claim(anchor):
    with flint.ctx.workdps(120):
        assert (anchor.value() - anchor.formula.limit(100)).contains(0)
        assert anchor.value().rad() < 1e-90
    found = Identifier()(anchor.formula, [anchor.constant])
    assert found is not None
    assert found.name == anchor.constant.name
    assert "PCF" in anchor._repr_latex_()


def test_anchor_families_and_their_limits():
    assert arctangent(2, 2).formula == arctangent(1).formula
    assert arctangent(1).constant is LIBRARY["pi"]
    assert area_tangent(1, 3).constant is LIBRARY["ln2"]
    assert float(arctangent(3, 2).value()) == pytest.approx(3 / math.atan(1.5))
    assert float(area_tangent(2, 5).value()) == pytest.approx(2 / math.atanh(0.4))
    assert float(quadratic(-1, 1).value()) == pytest.approx(-(1 + math.sqrt(5)) / 2)
    assert quadratic(2, 4).constant.name == "sqrt(5)"
    for call, match in (
        (lambda: area_tangent(3, 3), "numerator"),
        (lambda: arctangent(0), "numerator"),
        (lambda: quadratic(3, -2), "discriminant"),
        (lambda: quadratic(0, 2), "discriminant"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def frame(points, **columns):
    table = pd.DataFrame({"blind_delta": [p[0] for p in points], "factorial_growth": [p[1] for p in points]})
    table["growth"] = table["error_factorial"] = table["error_rate"] = 0.0
    return table.assign(status="measured", eigenvalue_ratio=2.0).assign(**columns)


def blob(x, number, spread=0.004):
    return [(x + spread * i / number, 0.0) for i in range(number)]


def test_two_heaps_and_their_noise():
    table = frame(blob(-0.5, 20, 0.03) + blob(0.5, 20, 0.03) + [(5.0, 0.0)])
    clusterer = FormulaClusterer().fit(table)
    assert clusterer.plane_ == ("blind_delta", "factorial_growth")
    labels = clusterer.labels_
    assert len(set(labels[:20])) == 1
    assert len(set(labels[20:40])) == 1
    assert labels[0] != labels[20]
    assert labels[40] == -1
    np.testing.assert_array_equal(FormulaClusterer().fit_predict(table), labels)


def test_points_of_one_cell_count_once_and_still_get_its_label():
    table = frame([(-0.5, 0.0)] * 300 + blob(-0.51, 12, 0.03) + blob(0.5, 12, 0.03))
    labels = FormulaClusterer().fit(table).labels_
    assert set(labels[:300]) == {labels[300]} != {-1}
    assert FormulaClusterer().fit(frame([(0.0, 0.0)] * 300)).plane_ is None


def test_planes_are_tried_in_order_and_given_up_with_too_many_clusters():
    heaps = blob(-0.5, 9, 0.009) + blob(0.0, 9, 0.009) + blob(0.5, 9, 0.009)
    table = frame(heaps)
    table["growth"] = np.repeat([1.0, 1.0, 2.0], 9)
    assert FormulaClusterer(max_clusters=2).fit(table).plane_ is None
    planes = (("factorial_growth", "factorial_growth"), ("blind_delta", "growth"))
    assert FormulaClusterer(planes).fit(table).plane_ == planes[1]


def test_what_has_no_metrics_is_noise():
    table = frame(blob(-0.5, 20, 0.03) + blob(0.5, 20, 0.03))
    table.loc[0, "status"], table.loc[1, "blind_delta"] = "rational", np.nan
    labels = FormulaClusterer().fit(table).labels_
    assert labels[0] == labels[1] == -1
    assert labels[2] >= 0


@pytest.mark.parametrize("rows", [0, 3])
def test_fewer_rows_than_a_cluster_are_noise(rows):
    table = metrics_table([PCF(1, 1 + i) for i in range(rows)], 112)
    clusterer = FormulaClusterer().fit(table)
    assert clusterer.plane_ is None
    assert clusterer.labels_.tolist() == [-1] * rows
    assert label_clusters(table).clusters == []
    assert label_clusters(table).labels.tolist() == [""] * rows


def test_bad_input_is_named():
    table = frame(blob(0.0, 9))
    for parameters, match in (
        ({"min_cluster_size": 1}, "min_cluster_size"),
        ({"cell": 0.0}, "cell"),
        ({"reach": -1.0}, "reach"),
        ({"max_clusters": 0}, "max_clusters"),
        ({"planes": ()}, "planes"),
        ({"planes": (("height", "growth"),)}, "height"),
    ):
        with pytest.raises(ValueError, match=match):
            FormulaClusterer(**parameters).fit(table)
    with pytest.raises(TypeError, match="DataFrame"):
        FormulaClusterer().fit(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="no column a, b"):
        label_clusters(table)
    with pytest.raises(ValueError, match="sample"):
        label_clusters(metrics_table([], 112), sample=0)


def test_the_sign_of_the_ratio_splits():
    table = frame(blob(0.0, 6), eigenvalue_ratio=[2.0, -2.0, 2.0 * (1 + 1e-13), -2.0, math.inf, math.inf])
    labels = split_by_eigenvalue_ratio(table, np.array([0, 0, 0, 0, 0, -1]))
    assert labels[0] == labels[2] != labels[1] == labels[3]
    assert labels[4] not in (labels[0], labels[1])
    assert labels[5] == -1


@pytest.fixture(scope="module")
def mixture():
    """Eight formulas of pi and eight of ln(2 + sqrt 3), found by brute force over a small box, and their metrics."""
    identifier, formulas = Identifier(), {"pi": [], "ln(2+sqrt3)*sqrt3": []}
    candidates = [PCF([3, c], [-2, d, 0]) for c in range(1, 8) for d in range(-3, 4)]
    candidates += [PCF([1, c], [2, d, 0]) for c in range(-3, 5) for d in range(-3, 4)]
    for formula in candidates:
        if formula.terminates_at is None and formula.factorial_reduction(400):
            found = identifier(formula, [LIBRARY["pi"], LIBRARY["ln(2+sqrt3)*sqrt3"]])
            if found is not None and found.name in formulas:
                formulas[found.name].append(formula)
    chosen = formulas["pi"][:8] + formulas["ln(2+sqrt3)*sqrt3"][:8]
    assert len(chosen) >= 12
    names = [name for name in formulas for _ in formulas[name][:8]]
    return metrics_table(chosen, 1000, factorial_threshold=0.25), np.array(names, dtype=object)


def test_a_mixed_cluster_is_noticed_and_split(mixture):
    table, names = mixture
    everything = FormulaClusterer((("blind_delta", "factorial_growth"),), min_cluster_size=3, cell=1e-9, reach=1.0)
    found = label_clusters(table, clusterer=everything)
    named = found.labels != ""
    assert named.mean() > 0.7
    assert (found.labels[named] == names[named]).all()
    assert set(found.to_frame()["constant"]) == set(names)
    assert found.relations < len(table) * len(LIBRARY)


def test_members_without_a_name_are_related_to_each_other(mixture):
    table, names = mixture
    found = label_clusters(table, anchors=(), constants=(), clusterer=FormulaClusterer(min_cluster_size=3, reach=1.0))
    for cluster in found.clusters:
        assert cluster.evidence == "members"
        assert len(set(names[cluster.members])) == 1
    assert sum(len(it.members) for it in found.clusters) >= 0.65 * len(table)
    # Clusters of one constant, wherever they were found, carry one name.
    for name in set(names):
        assert len(set(found.labels[(names == name) & (found.labels != "")])) == 1


def test_one_anchor_names_its_cluster(mixture):
    table, names = mixture
    pis = table[names == "pi"].reset_index(drop=True)
    formula = PCF(pis["a"][0], pis["b"][0])
    anchor = Anchor(formula, "?", lambda: formula.limit(60), LIBRARY["pi"])
    clusterer = FormulaClusterer(min_cluster_size=2, reach=1.0)
    found = label_clusters(pis, anchors=[anchor], constants=(), clusterer=clusterer)
    assert "anchor" in set(found.to_frame()["evidence"])
    assert "pi" in set(found.labels)


def test_relations_between_limits():
    x, y = PCF([2, 1], [1, 0, 0]), PCF([2, 3], [1, 2, 0])
    identifier = Identifier()
    assert identifier(x, [limit_of(y)]).name == limit_of(y).name
    assert identifier(x, [limit_of(y)]) is not None
    assert identifier.relations == 1
    assert identifier(x, [limit_of(PCF([6, 3], [-1, 0, 0]))]) is None
    assert identifier(PCF(1, 1), [LIBRARY["pi"]]).name == "sqrt(5)"
    assert identifier(PCF([1, 0], [1, 1]), [LIBRARY["pi"]]).name == "rational"
    assert identifier(PCF([1, 1], [-1, 0, 0]), [LIBRARY["pi"]]) is None


def test_a_family_of_pi_predicts_new_members():
    formulas = [PCF([2, 1 + 2 * k], [1, 2 * k, 0]) for k in (2, 0, 1)] + [PCF([2, 3], [1, 2, 1])]
    (family,) = find_families(formulas)
    assert family == Family((2, 1), (1, 0, 0), (0, 2), (0, 2, 0))
    checked = conjecture(family, LIBRARY["pi"], range(8), 300)
    assert checked
    assert checked.digits == 300
    assert sorted(checked.values) == list(range(8))
    # Gauss: 4/pi, then 4/(pi - 2), 8/(3 pi - 8), ... ; the balls of both sides meet at 300 digits
    assert checked.values[1].coefficients == (4, 0, -2, 1)
    assert checked.values[2].coefficients == (8, 0, -8, 3)
    with flint.ctx.workdps(310):
        assert (family.member(7).limit(300) - checked.values[7].ball(300)).contains(0)
    assert r"\pi" in checked.to_latex()
    assert "2 k" in checked.to_latex()
    assert "2 k" in family._repr_latex_()


def test_a_family_that_is_none_is_refuted():
    wrong = Family((2, 1), (1, 0, 0), (0, 1), (0, 0, 0))
    checked = conjecture(wrong, LIBRARY["pi"], range(3))
    assert not checked
    assert 0 in checked.values
    assert 1 in checked.refuted
    assert not conjecture(wrong, LIBRARY["pi"], ())


def test_families_need_three_members_and_equal_degrees():
    assert find_families([PCF([2, 1], [1, 0, 0]), PCF([2, 3], [1, 2, 0])]) == []
    assert find_families([]) == []
    assert find_families([PCF(1, 1), PCF(2, 1), PCF([3, 1], 1)]) == []
    assert len(find_families([PCF(k, 1) for k in range(1, 6)])) == 1
    with pytest.raises(ValueError, match="fewest"):
        find_families([], fewest=2)
    with pytest.raises(ValueError, match="a_step"):
        Family((1,), (1,), (1, 2), (0,))
    with pytest.raises(ValueError, match="step"):
        Family((1,), (1,), (0,), (0,))
    with pytest.raises(ValueError, match="b"):
        Family((1,), (1,), (0,), (1,)).member(-1)


def test_the_statement_for_lean_says_the_recurrence():
    identified = conjecture(Family((2, 1), (1, 0, 0), (0, 2), (0, 2, 0)), LIBRARY["pi"], [1])
    text = identified.to_lean_statement(1)
    assert "p 1 = 3" in text
    assert "((4) + (0) * Real.pi) / ((-2) + (1) * Real.pi)" in text
    polynomial = text.split("p (n + 2) = ")[1].split(" * p (n + 1)")[0].replace("(n : ℝ)", "n").replace(" : ℝ", "")
    assert [eval(polynomial, {"n": n}) for n in range(3)] == [5, 7, 9]  # a(1), a(2), a(3) of 2n + 3
    with pytest.raises(KeyError):
        identified.to_lean_statement(2)
    gauss = conjecture(Family((1,), (1,), (1,), (0,)), LIBRARY["gauss"], [])
    assert gauss.to_latex()
    with pytest.raises(ValueError, match="gauss"):
        lean_statement(PCF(1, 1), Identification(LIBRARY["gauss"], (0, 1, 1, 0), 60))
    with pytest.raises(ValueError, match="root"):
        lean_statement(PCF(1, 1), Identification(None, (-1, -1, 1), 60))
    assert "(3 : ℝ) / 2" in lean_statement(PCF(1, 1), Identification(None, (3, 2), 60))


@pytest.mark.parametrize(("reach", "noise"), [(0.01, True), (0.06, False)])
def test_a_point_beyond_reach_of_those_kept_is_noise(reach, noise):
    heaps = [(start + 0.1 * i + 0.001, 0.0) for start in (0.0, 5.0) for i in range(8)]
    labels = FormulaClusterer(cell=0.1, reach=reach).fit(frame([*heaps, (0.351, 0.0)])).labels_
    assert labels[3] >= 0
    assert (labels[-1] == -1) == noise


def test_a_quadratic_number_among_formulas_of_pi_is_not_called_pi():
    formulas = [PCF([2, 1 + 2 * k], [1, 2 * k, 0]) for k in range(6)] + [PCF(1, 1)]
    formulas += [PCF(1, b) for b in (3, 4, 5, 7, 8, 9)]
    table = frame(blob(-0.5, 7, 0.03) + blob(0.5, 6, 0.03))
    table["a"], table["b"] = [list(it.a) for it in formulas], [list(it.b) for it in formulas]
    found = label_clusters(table, anchors=[arctangent(1)], clusterer=FormulaClusterer((("blind_delta", "growth"),)))
    assert found.labels[:7].tolist() == ["pi"] * 6 + [""]
    assert found.contradictory >= 1


def test_candidates_reduce_and_converge_exponentially_to_no_rational_number():
    rows = [
        ("measured", 0.0, -5.8, True),
        ("measured", 0.0, 2.0, True),
        ("rational", 0.0, 2.0, False),
        ("measured", 0.4, 2.0, False),
        ("measured", 0.0, -1.0, False),
        ("measured", 0.0, math.inf, False),
        ("no limit", math.nan, math.nan, False),
        ("measured", 0.0, 1.5, True),
    ]
    table = pd.DataFrame(rows, columns=["status", "factorial_growth", "eigenvalue_ratio", "kept"])
    found = reducing(table)
    pd.testing.assert_frame_equal(found, table[table["kept"]].reset_index(drop=True))
    with pytest.raises(ValueError, match="table: has no column status"):
        reducing(table.drop(columns="status"))
    with pytest.raises(TypeError, match="expected a table of metrics"):
        reducing(rows)
