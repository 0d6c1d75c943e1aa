"""Comparisons: the traces of a claim on one plot, and as data."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from lxml import html
from sqlalchemy.orm import Session

from tendsto.evidence import Budget, Exhibits, check_claim
from tendsto.iteration import Trace
from tendsto.site import compare, shelf

STEPS = np.array([0, 1, 10, 100])
BASE = "/compare/toy-sums/twice_two_is_four"


def trace(rate: float, per_step: int) -> pd.DataFrame:
    gaps = np.stack([scale * (1.0 + STEPS) ** -rate for scale in (1.0, 2.0, 3.0)])
    counted = np.broadcast_to(per_step * STEPS, gaps.shape)
    return traced(gaps, counted).to_dataframe()


def traced(gaps, counted, **options) -> Trace:
    return Trace.from_arrays(STEPS, {"gap": gaps, "norm": gaps + 1, "gradients": counted}, **options)


@pytest.fixture
def stored(site, papers):
    verdict, exhibits = check_claim(papers["toy-sums"].claims["twice_two_is_four"], Budget())
    traces = {"slow, λ = 1": trace(0.5, 1), "fast": trace(1.0, 4).drop(columns="norm")}
    traces["fast"].attrs = {"dimensions": ["seed", "step"]}
    site.store.save(verdict, Exhibits(exhibits.figures, traces), "digest")
    with Session(site.engine) as session, session.begin():
        shelf.read_verdicts(session, site.store)
    return site


def test_methods_are_drawn_on_one_plot(stored, client):
    page = html.fromstring(client.get("/compare").text)
    assert BASE in page.xpath("//main//a/@href")
    assert BASE in html.fromstring(client.get("/papers/toy-sums").text).xpath("//main//a/@href")
    page = html.fromstring(client.get(BASE).text)
    assert page.xpath("//nav[@aria-label='What is drawn']//a/text()") == ["gap", "step", "gradients"]
    page = html.fromstring(client.get(f"{BASE}/gap/gradients").text)
    cells = [[cell.text for cell in row] for row in page.xpath("//tbody/tr")]
    assert cells == [["fast", "400", "0.019802"], ["slow, λ = 1", "100", "0.199007"]]
    (image,) = page.xpath("//figure/img/@src")
    svg = client.get(image)
    assert svg.headers["content-type"] == "image/svg+xml"
    assert ElementTree.fromstring(svg.content).tag.endswith("svg")
    assert svg.content == client.get(image).content


def test_the_curves_are_means_over_seeds_within_their_band(stored):
    with Session(stored.engine) as session:
        found = compare.read(compare.sources(session, stored.store, "toy-sums", "twice_two_is_four"))
    curves = dict(found.curves("gap", "gradients"))
    fast = curves["fast"]
    np.testing.assert_allclose(fast["x"], 4 * STEPS)
    for name, factor in (("mean", 2.0), ("low", 1.0), ("high", 3.0)):
        np.testing.assert_allclose(fast[name], factor / (1.0 + STEPS))


def test_the_data_come_as_csv_and_parquet(stored, client):
    csv = pd.read_csv(io.BytesIO(client.get(f"{BASE}.csv").content))
    parquet = pd.read_parquet(io.BytesIO(client.get(f"{BASE}.parquet").content))
    assert list(csv["method"].unique()) == ["fast", "slow, λ = 1"]
    assert len(csv) == len(parquet) == 2 * 3 * len(STEPS)
    np.testing.assert_allclose(csv["gap"], parquet["gap"])


def test_a_grid_gives_a_curve_for_each_point(stored):
    frame = pd.concat([trace(0.5, 1).assign(step_size=size) for size in (0.1, 0.2)])
    frame.attrs["dimensions"] = ["step_size", "seed", "step"]
    found = compare.Comparison({"a": frame, "b": frame[frame.step_size == 0.1]})
    found.frames["b"].attrs["dimensions"] = ["step_size", "seed", "step"]
    assert [label for label, _ in found.curves("gap", "step")] == ["a, step_size 0.1", "a, step_size 0.2", "b"]
    assert found.metrics == ["gap", "norm"]


@pytest.mark.parametrize("rest", ["/gap/bits", "/nothing/step", "/gap/nothing.svg", "/seed/step"])
def test_what_was_not_measured_is_not_drawn(stored, client, rest):
    assert client.get(f"{BASE}{rest}").status_code == 404


def test_one_trace_is_no_comparison(site, client, papers):
    verdict, _ = check_claim(papers["toy-sums"].claims["twice_two_is_four"], Budget())
    site.store.save(verdict, Exhibits(traces={"alone": trace(1.0, 1)}), "digest")
    with Session(site.engine) as session, session.begin():
        shelf.read_verdicts(session, site.store)
    assert client.get(BASE).status_code == 404
    assert BASE not in client.get("/papers/toy-sums").text
    assert "No claim has left traces" in client.get("/compare").text


# --- one problem, several claims

ONE, OTHER = "twice_two_is_four", "worst_sum_is_bounded"
DATA = np.arange(3.0)


def gap(problem, state):
    return state.x - problem


def absolute_gap(problem, state):
    return abs(state.x - problem)


def leave(site, papers, claim: str, problem, **measures) -> None:
    """A verdict on `claim` whose one method left a trace."""
    verdict, _ = check_claim(papers["toy-sums"].claims[claim], Budget())
    left = traced(np.geomspace(1.0, 0.1, 4), 5 * STEPS, problem=problem, measures=measures)
    site.store.save(verdict, Exhibits(traces={"method": left.to_dataframe()}), "digest")
    with Session(site.engine) as session, session.begin():
        shelf.read_verdicts(session, site.store)


def problems(site) -> dict:
    with Session(site.engine) as session:
        return compare.problems(session, site.store)


def test_only_traces_of_the_same_problem_and_measure_stand_together(site, papers):
    leave(site, papers, ONE, DATA, gap=gap, norm=absolute_gap)
    assert problems(site) == {}
    leave(site, papers, OTHER, np.nextafter(DATA, 9.0), gap=gap)
    assert problems(site) == {}
    leave(site, papers, OTHER, DATA, gap=absolute_gap)
    assert problems(site) == {}
    leave(site, papers, OTHER, DATA.copy(), gap=gap, norm=gap)
    ((name, sources),) = problems(site).items()
    assert name.startswith("ndarray-")
    assert [it.title for it in sources] == [f"method (toy-sums/{ONE})", f"method (toy-sums/{OTHER})"]
    found = compare.read(sources, alike=True)
    assert found.metrics == ["gap"], "norm is the name of two measures"
    assert found.abscissas("gap") == ["step", "gradients"]
    assert [sorted(set(frame) - {"seed", "step", "finite", "gap"}) for frame in found.frames.values()] == [
        *(["gradients", f"norm ({found_digest(sources, place)})"] for place in range(2)),
    ]


def found_digest(sources, place) -> str:
    return pd.read_parquet(sources[place].path).attrs["measures"]["norm"][:6]


def test_claims_on_one_problem_are_drawn_on_one_plot(site, client, papers):
    for claim in (ONE, OTHER):
        leave(site, papers, claim, DATA, gap=gap)
    (name,) = problems(site)
    base = f"/problems/{name}"
    assert base in html.fromstring(client.get("/compare").text).xpath("//main//a/@href")
    page = html.fromstring(client.get(base).text)
    assert [it for it in page.xpath("//main//a/@href") if "#" in it] == [
        f"/papers/toy-sums#{it}" for it in (ONE, OTHER)
    ]
    assert page.xpath("//nav[@aria-label='What is drawn']//a/text()") == ["gap", "step", "gradients"]
    cells = [[cell.text for cell in row] for row in page.xpath("//tbody/tr")]
    assert cells == [[f"method (toy-sums/{it})", "100", "0.1"] for it in (ONE, OTHER)]
    assert ElementTree.fromstring(client.get(f"{base}/gap/gradients.svg").content).tag.endswith("svg")
    csv = pd.read_csv(io.BytesIO(client.get(f"{base}.csv").content))
    parquet = pd.read_parquet(io.BytesIO(client.get(f"{base}.parquet").content))
    assert len(csv) == len(parquet) == 2 * len(STEPS)
    for address in (f"{base}0", f"{base}/gap/bits", f"{base}/norm/step.svg", f"{base}0.csv"):
        assert client.get(address).status_code == 404


def test_a_method_that_counted_less_is_left_out_where_it_cannot_stand():
    frames = {name: traced(np.ones(4), STEPS).to_dataframe() for name in ("a", "b", "c")}
    frames["a"]["seconds"] = frames["b"]["seconds"] = 2.0 * frames["a"]["step"]
    found = compare.Comparison(frames)
    assert found.abscissas("gap") == ["step", "gradients", "seconds"]
    assert [label for label, _ in found.curves("gap", "seconds")] == ["a", "b"]
    assert [label for label, _ in found.curves("gap", "step")] == ["a", "b", "c"]


def test_traces_of_the_verdict_before_do_not_stay(stored, papers):
    verdict, _ = check_claim(papers["toy-sums"].claims[ONE], Budget())
    stored.store.save(verdict, Exhibits(traces={"fast": trace(1.0, 1)}), "digest")
    assert [label["title"] for label in stored.store.trace_labels(verdict).values()] == ["fast"]
