"""The comparisons: of the methods of one claim, and of all claims that measured the same on one problem."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from tendsto.site import compare
from tendsto.site.answers import FIGURE_HEADERS, answer, show
from tendsto.site.compare import Comparison, Source
from tendsto.site.database import Claim, Paper, find_paper
from tendsto.site.security import Guards, TheSite, limit_rate
from tendsto.site.site import Site

router = APIRouter(dependencies=Guards)
files = APIRouter(dependencies=[Depends(limit_rate)])


@dataclass(frozen=True)
class _Compared:
    """What stands on one page: the claims, their traces, and the problem if it is that which they share."""

    address: str
    claims: list[tuple[Paper, Claim]]
    sources: tuple[Source, ...]
    problem: str

    def read(self) -> Comparison:
        return compare.read(self.sources, alike=bool(self.problem))


@router.get("/compare")
def list_comparisons(request: Request, site: TheSite) -> Response:
    """What can be compared."""
    return answer(request, site.kept.get("compare", lambda: _render_comparisons(site)))


def _render_comparisons(site: Site) -> str:
    with Session(site.engine) as session:
        groups: dict[str, list[str]] = {}
        for slug, name in compare.compared(session, site.store):
            groups.setdefault(slug, []).append(name)
        papers = session.scalars(select(Paper).where(Paper.slug.in_(groups)).order_by(Paper.listed.desc())).all()
        shown = [(it, [claim for claim in it.claims if claim.name in groups[str(it.slug)]]) for it in papers]
        return site.render(
            "compare.html.jinja",
            section="/compare",
            groups=[pair for pair in shown if pair[1]],
            problems={name: _claims(session, it) for name, it in compare.problems(session, site.store).items()},
        )


@files.get("/compare/{slug}/{name}.csv")
def read_csv(site: TheSite, slug: str, name: str) -> Response:
    """The traces of a claim as CSV."""
    return _csv(_of_claim(site, slug, name), f"{slug}.{name}.csv")


@files.get("/problems/{name}.csv")
def read_problem_csv(site: TheSite, name: str) -> Response:
    """The traces on a problem as CSV."""
    return _csv(_of_problem(site, name), f"{name}.csv")


def _csv(found: _Compared, name: str) -> Response:
    return Response(compare.to_csv(found.read()), media_type="text/csv", headers=_attachment(name))


@files.get("/compare/{slug}/{name}.parquet")
def read_parquet(site: TheSite, slug: str, name: str) -> Response:
    """The traces of a claim as Parquet."""
    return _parquet(_of_claim(site, slug, name), f"{slug}.{name}.parquet")


@files.get("/problems/{name}.parquet")
def read_problem_parquet(site: TheSite, name: str) -> Response:
    """The traces on a problem as Parquet."""
    return _parquet(_of_problem(site, name), f"{name}.parquet")


def _parquet(found: _Compared, name: str) -> Response:
    kind = "application/vnd.apache.parquet"
    return Response(compare.to_parquet(found.read()), media_type=kind, headers=_attachment(name))


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


@files.get("/compare/{slug}/{name}/{metric}/{against}.svg")
def draw_comparison(site: TheSite, slug: str, name: str, metric: str, against: str) -> Response:
    """The plot of a claim's methods."""
    return _draw(_of_claim(site, slug, name), metric, against)


@files.get("/problems/{name}/{metric}/{against}.svg")
def draw_problem(site: TheSite, name: str, metric: str, against: str) -> Response:
    """The plot of all methods on a problem."""
    return _draw(_of_problem(site, name), metric, against)


def _draw(found: _Compared, metric: str, against: str) -> Response:
    _choose(found.read(), metric, against)
    drawn = compare.draw_stored(found.sources, metric, against, alike=bool(found.problem))
    return Response(drawn, media_type="image/svg+xml", headers=FIGURE_HEADERS)


@router.get("/compare/{slug}/{name}")
@router.get("/compare/{slug}/{name}/{metric}/{against}")
def read_comparison(
    request: Request, site: TheSite, slug: str, name: str, metric: str = "", against: str = ""
) -> Response:
    """The methods of a claim on one plot."""
    return _show(request, _of_claim(site, slug, name), metric, against)


@router.get("/problems/{name}")
@router.get("/problems/{name}/{metric}/{against}")
def read_problem(request: Request, site: TheSite, name: str, metric: str = "", against: str = "") -> Response:
    """All methods on a problem on one plot."""
    return _show(request, _of_problem(site, name), metric, against)


def _show(request: Request, compared: _Compared, metric: str, against: str) -> Response:
    found = compared.read()
    metric, against = _choose(found, metric, against)
    ends = [(label, curve.iloc[-1]) for label, curve in found.curves(metric, against)]
    return show(
        request,
        "comparison.html.jinja",
        section="/compare",
        compared=compared,
        found=found,
        metric=metric,
        against=against,
        ends=ends,
    )


def _choose(found: Comparison, metric: str, against: str) -> tuple[str, str]:
    """What is asked for, or the first that there is."""
    if found.metrics:
        metric = metric or found.metrics[0]
        against = against or found.abscissas(metric)[0]
        if metric in found.metrics and against in found.abscissas(metric):
            return metric, against
    raise HTTPException(404, "There is no such comparison.")


def _of_claim(site: Site, slug: str, name: str) -> _Compared:
    with Session(site.engine) as session:
        found = compare.sources(session, site.store, slug, name) if find_paper(session, slug) else ()
        return _found(f"/compare/{slug}/{name}", _claims(session, found), found, "")


def _of_problem(site: Site, name: str) -> _Compared:
    with Session(site.engine) as session:
        found = compare.problems(session, site.store).get(name, ())
        return _found(f"/problems/{name}", _claims(session, found), found, name)


def _found(address: str, claims: list[tuple[Paper, Claim]], sources: tuple[Source, ...], problem: str) -> _Compared:
    if not claims:
        raise HTTPException(404, "There is no such comparison.")
    return _Compared(address, claims, sources, problem)


def _claims(session: Session, sources: tuple[Source, ...]) -> list[tuple[Paper, Claim]]:
    """The claims that left the traces, with their papers."""
    names = dict.fromkeys((source.paper, source.claim) for source in sources)
    rows = session.execute(
        select(Paper, Claim).join(Claim, Claim.paper_id == Paper.id).where(Paper.slug.in_({slug for slug, _ in names}))
    )
    known = {(str(paper.slug), claim.name): (paper, claim) for paper, claim in rows}
    return [known[name] for name in names if name in known]
