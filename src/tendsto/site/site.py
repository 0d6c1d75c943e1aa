"""One running site: its settings, database, catalogue and queue, and how it renders a page."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache, partial
from importlib.resources import files

from jinja2 import Environment
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from tendsto.evidence import Store
from tendsto.evidence.notation import to_html
from tendsto.evidence.report import environment
from tendsto.listing import Listed, card_date, listing
from tendsto.papers import Entry
from tendsto.site import shelf
from tendsto.site.database import open_database
from tendsto.site.keeping import Kept
from tendsto.site.meaning import Meaning
from tendsto.site.runs import Runner
from tendsto.site.settings import Settings

_LEARNT_AT_ONCE = 2_000
_SECONDS_BETWEEN_LESSONS = 30.0
STATIC = files("tendsto.site") / "static"


def today() -> date:
    """The day, in UTC, by which the year of a date is left out."""
    return datetime.now(UTC).date()


@dataclass
class Site:
    """A site, open: `papers` is the catalogue, `listing` what the feed prints.

    `frozen` says that its pages will be files and nothing can be run; `learns` that it looks at once for what the
    papers mean, for searches.
    """

    settings: Settings
    papers: Mapping[str, Entry]
    listing: Mapping[str, Listed] = field(default_factory=listing)
    today: Callable[[], date] = today
    frozen: bool = False
    learns: bool = True
    engine: Engine = field(init=False)
    store: Store = field(init=False)
    runner: Runner = field(init=False)
    kept: Kept = field(init=False)
    meaning: Meaning | None = field(init=False, default=None)
    _stopped: threading.Event = field(init=False, default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.engine = open_database(self.settings)
        self.store = Store(self.settings.folder)
        self.kept = Kept(self.engine)
        self.runner = Runner(self.engine, self.papers, self.settings)
        with Session(self.engine) as session, session.begin():
            shelf.list_catalogue(session, self.papers, self.listing)
            shelf.read_verdicts(session, self.store)
            few = shelf.count_papers(session) <= _LEARNT_AT_ONCE
        if self.learns and few:
            self.learn()

    def start(self) -> None:
        """Run what is queued, and learn what is imported, until `stop`."""
        self.runner.start()
        threading.Thread(target=self._keep_learning, name="meaning", daemon=True).start()

    def stop(self) -> None:
        """Stop the queue, and let go of the database."""
        self._stopped.set()
        self.runner.stop()
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self.kept.close()
        self.engine.dispose()

    def _keep_learning(self) -> None:
        while not self._stopped.is_set():
            try:
                self.learn()
            except Exception as error:  # a full disk must not end it
                print(f"tendsto: the search by meaning: {type(error).__name__}: {error}", file=sys.stderr)
            self._stopped.wait(_SECONDS_BETWEEN_LESSONS)

    def learn(self) -> None:
        """Learn what the papers mean, unless it is known already; a large corpus takes a minute or two."""
        with Session(self.engine) as session:
            stamp = shelf.stamp(session)
            if self.meaning and self.meaning.stamp == stamp:
                return
            path = self.settings.folder / "site.meaning.npz"
            self.meaning = Meaning.load(path, stamp) or self.meaning
            if self.meaning is None or self.meaning.stamp != stamp:
                learnt = Meaning.learn(stamp, shelf.texts(session))
                if learnt:
                    learnt.save(path)
                self.meaning = learnt

    def render(self, template: str, **context: object) -> str:
        """The page that `template` makes of `context`."""
        return templates().get_template(template).render(site=self, assets=assets(), **context)


@cache
def templates() -> Environment:
    """The templates of the site."""
    found = environment("tendsto.site")
    found.filters |= {"card_date": card_date, "notation": partial(to_html, source=True)}
    return found


@cache
def style() -> bytes:
    """The style sheet: that of the report, and what the site adds."""
    report = (files("tendsto.evidence") / "templates" / "style.css").read_bytes()
    return report + (STATIC / "site.css").read_bytes()


@cache
def assets() -> dict[str, str]:
    """The address of each static file that is there; it changes with the file, so that browsers may keep it."""
    found = {"site.css": style()}
    for folder, prefix in ((STATIC, ""), (STATIC / "vendor", "vendor/")):
        if folder.is_dir():
            found |= {
                prefix + item.name: item.read_bytes()
                for item in folder.iterdir()
                if item.name.endswith((".js", ".css")) and prefix + item.name != "site.css"
            }
    return {name: f"/static/{name}?{hashlib.sha256(data).hexdigest()[:8]}" for name, data in found.items()}
