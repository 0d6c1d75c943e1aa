"""Methods that address the same problem on one plot, drawn from the traces that claims left in the store."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sqlalchemy import select
from sqlalchemy.orm import Session

from tendsto.evidence import Store, Verdict
from tendsto.evidence.figures import drawing_style, render_svg
from tendsto.iteration.trace import COSTS
from tendsto.site.database import StoredVerdict

_MOST_CURVES = 12
_DRAWING = threading.Lock()
_DIGITS_SHOWN = 6


class Source(NamedTuple):
    """A trace in the store: whose it is, at which budget, what it is called here, its file and when it was written."""

    paper: str
    claim: str
    budget: str
    title: str
    path: Path
    written: int


@dataclass(frozen=True)
class Comparison:
    """Traces by title, and what of them can be drawn against what."""

    frames: Mapping[str, pd.DataFrame]

    @property
    def metrics(self) -> list[str]:
        """The numbers that two traces at least hold."""
        costs = {name for frame in self.frames.values() for name in _spent(frame)}
        held = Counter(str(name) for frame in self.frames.values() for name in frame.select_dtypes("number").columns)
        return [name for name, times in held.items() if times > 1 and name not in costs]

    def abscissas(self, metric: str) -> list[str]:
        """What two traces that hold `metric` counted: steps, gradients, rounds, bits, seconds."""
        held = Counter(name for frame in self.frames.values() if metric in frame for name in frame.columns)
        return [name for name in ("step", *COSTS) if held[name] > 1]

    def table(self) -> pd.DataFrame:
        """All of it, one row for each method, seed and step."""
        frames = [frame.assign(method=title) for title, frame in self.frames.items()]
        for frame in frames:
            frame.attrs = {}
        table = pd.concat(frames, ignore_index=True)
        return table[["method", *table.columns.drop("method")]]

    def curves(self, metric: str, against: str) -> Iterator[tuple[str, pd.DataFrame]]:
        """For each method, and each setting of it, the abscissa and the mean, smallest and largest value over seeds."""
        for title, frame in self.frames.items():
            if metric not in frame or against not in frame:
                continue
            others = [
                name for name in frame.attrs["dimensions"] if name not in ("seed", "step") and frame[name].nunique() > 1
            ]
            parts = frame.groupby(others, sort=True) if others else [((), frame)]
            for values, part in parts:
                setting = ", ".join(f"{name} {value:.4g}" for name, value in zip(others, values, strict=True))
                steps = (
                    part.groupby("step").agg(
                        x=(against, "mean"), mean=(metric, "mean"), low=(metric, "min"), high=(metric, "max")
                    )
                    if against != "step"
                    else part.groupby("step")
                    .agg(mean=(metric, "mean"), low=(metric, "min"), high=(metric, "max"))
                    .assign(x=lambda table: table.index)
                )
                yield ", ".join(filter(None, [title, setting])), steps


def _spent(frame: pd.DataFrame) -> set[str]:
    """The columns that are no measurement."""
    return {"finite", *COSTS, *frame.attrs["dimensions"]}


def sources(session: Session, store: Store, paper: str, claim: str) -> tuple[Source, ...]:
    """The traces that the last verdict on a claim left; none unless there are two methods at least."""
    verdict = _last(session, paper, claim) if (store.folder / "traces" / paper).is_dir() else None
    found = tuple(source for source, _ in _labelled(store, verdict)) if verdict else ()
    return found if len(found) >= 2 else ()


def compared(session: Session, store: Store) -> list[tuple[str, str]]:
    """The papers and claims whose traces can be compared."""
    return [(it.paper, it.claim) for it in _verdicts(session, store) if len(_labelled(store, it)) >= 2]


def problems(session: Session, store: Store) -> dict[str, tuple[Source, ...]]:
    """The problems on which two claims at least measured the same, and the traces that their last verdicts left.

    A problem is named by its class and a digest of its data and code, and so is what was measured: only what is the
    same to the last bit stands together.
    """
    found: dict[str, list[tuple[Source, set[tuple[str, str]]]]] = {}
    for verdict in _verdicts(session, store):
        for source, label in _labelled(store, verdict):
            if "problem" in label:
                found.setdefault(label["problem"], []).append((source, set(label["measures"].items())))
    return {name: _named(dict(traces)) for name, traces in sorted(found.items()) if _share(traces)}


def _share(traces: list[tuple[Source, set[tuple[str, str]]]]) -> bool:
    owners: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for source, measures in traces:
        for measure in measures:
            owners.setdefault(measure, set()).add((source.paper, source.claim))
    return any(len(claims) > 1 for claims in owners.values())


def _named(traces: Iterable[Source]) -> tuple[Source, ...]:
    """Each under a title that says whose it is."""
    named = [(it, f"{it.title} ({it.paper})") for it in traces]
    times = Counter(title for _, title in named)
    return tuple(
        it._replace(title=title if times[title] == 1 else f"{it.title} ({it.paper}/{it.claim})") for it, title in named
    )


def _labelled(store: Store, verdict: Verdict) -> list[tuple[Source, dict[str, Any]]]:
    budget = f"{verdict.budget} budget, seed {verdict.seed}"
    return [
        (Source(verdict.paper, verdict.claim, budget, label["title"], path, path.stat().st_mtime_ns), label)
        for path, label in store.trace_labels(verdict).items()
    ]


def _verdicts(session: Session, store: Store) -> list[Verdict]:
    """The last verdict on each claim whose paper left traces."""
    rows = session.execute(
        select(StoredVerdict.paper, StoredVerdict.claim)
        .where(StoredVerdict.current)
        .distinct()
        .order_by(StoredVerdict.paper, StoredVerdict.claim)
    ).all()
    found = [_last(session, *row) for row in rows if (store.folder / "traces" / row.paper).is_dir()]
    return [verdict for verdict in found if verdict]


def _last(session: Session, paper: str, claim: str) -> Verdict | None:
    row = session.scalars(
        select(StoredVerdict)
        .where(StoredVerdict.paper == paper, StoredVerdict.claim == claim, StoredVerdict.current)
        .order_by(StoredVerdict.finished.desc(), StoredVerdict.id.desc())
    ).first()
    return Verdict.from_json(row.body) if row else None


def draw(found: Comparison, metric: str, against: str) -> str:
    """The comparison as SVG: logarithmic where all is positive, the band from the smallest to the largest seed."""
    with _DRAWING, drawing_style():
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        axes = figure.subplots()
        curves = list(found.curves(metric, against))[:_MOST_CURVES]
        for label, curve in curves:
            (line,) = axes.plot(curve["x"], curve["mean"], label=label, linewidth=1.8)
            if (curve["low"] < curve["high"]).any():
                axes.fill_between(
                    curve["x"], curve["low"], curve["high"], color=line.get_color(), alpha=0.18, linewidth=0
                )
        logarithmic = {
            "xscale": all(float(curve["x"].iloc[1:].min()) > 0 for _, curve in curves if len(curve) > 1),
            "yscale": all(
                bool((curve["mean"].replace([np.inf, -np.inf], np.nan).dropna() > 0).all()) for _, curve in curves
            ),
        }
        axes.set(xlabel=against.replace("_", " "), ylabel=metric.replace("_", " "))
        axes.set(**{name: "log" for name, fits in logarithmic.items() if fits})
        axes.legend(fontsize="small")
        return render_svg(figure)


def read(sources: tuple[Source, ...], *, alike: bool = False) -> Comparison:
    """The traces of `sources`; with `alike`, only what was measured by the same code bears the same name."""
    frames = {source.title: pd.read_parquet(source.path) for source in sources}
    return Comparison(_alike(frames) if alike else frames)


def _alike(frames: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The frames with what is known to have been measured; a name of two measures gets their digests."""
    digests: dict[str, set[str]] = {}
    for frame in frames.values():
        for name, digest in frame.attrs["measures"].items():
            digests.setdefault(name, set()).add(digest)
    found = {}
    for title, frame in frames.items():
        names = {
            name: name if len(digests[name]) == 1 else f"{name} ({digest[:_DIGITS_SHOWN]})"
            for name, digest in frame.attrs["measures"].items()
        }
        kept = [name for name in frame.columns if name in names or name in _spent(frame)]
        found[title] = frame[kept].rename(columns=names)
    return found


@lru_cache(maxsize=64)
def draw_stored(sources: tuple[Source, ...], metric: str, against: str, *, alike: bool) -> str:
    """The drawing of traces in the store, kept until one of them changes."""
    return draw(read(sources, alike=alike), metric, against)


def to_csv(found: Comparison) -> bytes:
    """The traces as CSV."""
    return found.table().to_csv(index=False).encode()


def to_parquet(found: Comparison) -> bytes:
    """The traces as Parquet."""
    stream = io.BytesIO()
    found.table().to_parquet(stream, index=False)
    return stream.getvalue()
