"""The queue of runs: asked for, followed and cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from fastapi.sse import format_sse_event
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tendsto.evidence import Verdict
from tendsto.site import runs
from tendsto.site.answers import show
from tendsto.site.database import Paper, Run, StoredVerdict, now
from tendsto.site.security import (
    Guards,
    TheSite,
    form_token,
    is_admin,
    visitor_of,
)

router = APIRouter(dependencies=Guards)

_SECONDS_BETWEEN_EVENTS = 0.3
_SHOWN_RUNS = 100


def status_of(request: Request, session: Session, run: Run) -> dict[str, Any]:
    """What the panel of a run shows."""
    live = run.state in runs.OPEN
    row = None
    if run.state == "done":
        row = session.scalars(
            select(StoredVerdict)
            .where(
                StoredVerdict.paper == run.paper,
                StoredVerdict.claim == run.claim,
                StoredVerdict.budget == run.budget,
                StoredVerdict.seed == run.seed,
            )
            .order_by(StoredVerdict.finished.desc(), StoredVerdict.id.desc())
        ).first()
    return {
        "run": run,
        "live": live,
        "mine": run.visitor == visitor_of(request),
        "ahead": runs.place(session, run) if run.state == "queued" else 0,
        "elapsed": (now() - run.started).total_seconds() if run.started else 0.0,
        "expected": runs.expected_seconds(session, run) if run.state == "running" else None,
        "verdict": Verdict.from_json(row.body) if row else None,
    }


@router.get("/runs")
def read_runs(request: Request, site: TheSite) -> Response:
    """The queue, and what was run last."""
    with Session(site.engine) as session:
        waiting = session.scalar(select(func.count()).where(Run.state.in_(runs.OPEN)))
        last = session.scalars(select(Run).order_by(Run.id.desc()).limit(_SHOWN_RUNS)).all()
        return show(request, "runs.html.jinja", section="/runs", runs=last, open=waiting)


@router.post("/runs")
def start_run(
    request: Request,
    site: TheSite,
    claim: Annotated[str, Form(max_length=300)],
    budget: Annotated[str, Form(max_length=20)],
    seed: Annotated[int, Form()] = 0,
) -> Response:
    """Queue a run of a named claim."""
    if not is_admin(request):
        raise HTTPException(403, "Only the administrator can run claims here.")
    with Session(site.engine) as session:
        try:
            run = runs.ask(session, site.papers, visitor_of(request), claim, budget, seed, site.settings)
        except (LookupError, ValueError) as error:
            raise HTTPException(422, str(error)) from error
        except runs.QueueFull as error:
            raise HTTPException(429, str(error)) from error
        if "hx-request" in request.headers:
            return show(request, "run_panel.html.jinja", **status_of(request, session, run))
        return RedirectResponse(f"/runs/{run.id}", 303)


@router.get("/runs/{identity}")
def read_run(request: Request, site: TheSite, identity: int) -> Response:
    """One run: where it stands, and its verdict when it lands."""
    with Session(site.engine) as session:
        run = _run(session, identity)
        paper = session.scalars(select(Paper).where(Paper.slug == run.paper)).first()
        claim = next((it for it in paper.claims if it.name == run.claim), None) if paper else None
        return show(
            request,
            "run.html.jinja",
            section="/runs",
            title=paper.title if paper else run.paper,
            statement=claim.statement if claim else run.claim,
            **status_of(request, session, run),
        )


@router.get("/runs/{identity}/events")
async def stream_run(request: Request, site: TheSite, identity: int) -> Response:
    """The panel of a run as it changes, until the run has ended, and what of it is news to who hears the page."""
    with Session(site.engine) as session:
        _run(session, identity)

    def look() -> tuple[dict[str, str], bool]:
        with Session(site.engine) as session:
            status = status_of(request, session, _run(session, identity))
            page = site.render("run_status.html.jinja", csrf=form_token(request), **status)
            ruling = f": {status['verdict'].verdict}" if status["verdict"] else ""
            return {"status": page, "news": f"Run {identity} {status['run'].state}{ruling}"}, status["live"]

    async def events() -> AsyncIterator[bytes]:
        last: dict[str, str] = {}
        live = True
        while live:
            shown, live = await asyncio.to_thread(look)
            for event, data in shown.items():
                if data != last.get(event):
                    yield format_sse_event(data_str=data, event=event)
            last = shown
            if live:
                await asyncio.sleep(_SECONDS_BETWEEN_EVENTS)
        yield format_sse_event(data_str="", event="end")

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


@router.post("/runs/{identity}/cancel")
def cancel_run(request: Request, site: TheSite, identity: int) -> Response:
    """Cancel a run; only who asked for it may."""
    with Session(site.engine) as session:
        run = _run(session, identity)
        if run.visitor != visitor_of(request):
            raise HTTPException(403, "Someone else asked for this run.")
        runs.cancel(session, run)
    return RedirectResponse(f"/runs/{identity}", 303)


def _run(session: Session, identity: int) -> Run:
    run = session.get(Run, identity) if 0 < identity < 2**31 else None
    if run is None:
        raise HTTPException(404, "There is no such run.")
    return run
