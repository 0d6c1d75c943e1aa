"""How fast the site answers, and how much a page weighs.

    python -m benchmarks.site.speed [--quick] [--json] [--database postgresql:///empty]

The feed at the papers of the listing and at 100,000 imported ones (synthetic: words drawn from the listing's
summaries), the search at both, each right after the database has changed and once more; 200 readers at once for a
minute; and what a browser loads for each of the main pages. With a database of PostgreSQL, which must be empty, only
the 100,000 papers are measured, in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from benchmarks.site.server import Server, serving
from tendsto.listing import listing
from tendsto.papers import catalogue
from tendsto.site import shelf
from tendsto.site.database import Paper, open_database
from tendsto.site.formats import Imported
from tendsto.site.settings import Settings
from tendsto.site.site import Site

MANY, READERS, SECONDS = 100_000, 200, 60.0
REPEATS = 50
PAUSE = (1.0, 3.0)
"""Between two pages a reader rests so many seconds, drawn evenly."""
FEEDS = {"the feed": "/", "a month": "/month/2024-05", "a day": "/date/2023-06-16", "page 20": "/page/20"}
SEARCHES = {
    "a search": "/search?q=variance+reduction",
    "a long search": "/search?q=gradient+descent+for+convex+problems",
}
PAGES = {
    "feed": "/",
    "search": "/search?q=gradient+descent",
    "paper": "/papers/nash-mp",
    "compare": "/compare",
    "subscribe": "/subscribe",
}


def synthetic(count: int, seed: int = 0) -> Iterator[Imported]:
    """Papers whose words, lengths and days are drawn from the listing and from ten years."""
    rng = random.Random(seed)
    words = [word for paper in listing().values() for word in paper.summary.split() if "$" not in word]
    for place in range(count):
        day = date(2015, 1, 1) + timedelta(days=rng.randrange(3650))
        yield Imported(
            title=" ".join(rng.choices(words, k=9)).capitalize(),
            arxiv=f"{1500 + place // 100_000:04}.{place % 100_000:05}",
            abstract=" ".join(rng.choices(words, k=120)),
            authors=tuple(f"Author {rng.randrange(20_000)}" for _ in range(4)),
            published=day,
            listed=day,
            comments=rng.randrange(5),
            upvotes=rng.randrange(50),
            tags=("cs.LG",),
        )


def fill(settings: Settings, count: int) -> tuple[float, float]:
    """List `count` synthetic papers and learn what they mean; the seconds that each took."""
    site = Site(settings, catalogue(), learns=False)
    began = time.perf_counter()
    with Session(site.engine) as session, session.begin():
        shelf.take_in(session, synthetic(count))
    listed = time.perf_counter()
    site.learn()
    site.close()
    return listed - began, time.perf_counter() - listed


def latencies(server: Server, settings: Settings, pages: dict[str, str]) -> dict[str, float]:
    """The median milliseconds of each page, one request at a time: after the database has changed, and once more."""
    found = {}
    engine = open_database(settings)
    change = update(Paper).where(Paper.id == select(func.min(Paper.id)).scalar_subquery()).values(upvotes=Paper.upvotes)
    with httpx2.Client(base_url=server.address, timeout=60) as client:
        for name, page in pages.items():
            first, again = [], []
            for _ in range(REPEATS):
                with engine.begin() as connection:
                    connection.execute(change)  # what the server keeps is forgotten
                for times in (first, again):
                    began = time.perf_counter()
                    client.get(page).raise_for_status()
                    times.append(1000 * (time.perf_counter() - began))
            found |= {name: statistics.median(first), f"{name} again": statistics.median(again)}
    engine.dispose()
    return found


async def crowd(address: str, readers: int, seconds: float) -> dict[str, float]:
    """What `readers` at once see in `seconds`: requests, errors, and the median and worst of twenty in milliseconds."""
    pages = [*PAGES.values(), *FEEDS.values(), "/feed.atom", "/api/daily_papers", "/papers/lr-perceptron"]
    pages.remove("/page/20")
    times: list[float] = []
    errors = 0
    secure = httpx2.create_ssl_context()  # once: it takes longer to make than a page
    clients = [httpx2.AsyncClient(base_url=address, timeout=60, verify=secure) for _ in range(readers)]
    end = time.perf_counter() + seconds

    async def read(seed: int) -> None:
        nonlocal errors
        rng = random.Random(seed)
        async with clients[seed] as client:
            await asyncio.sleep(rng.uniform(0, PAUSE[1]))
            while time.perf_counter() < end:
                began = time.perf_counter()
                try:
                    (await client.get(rng.choice(pages))).raise_for_status()
                    times.append(1000 * (time.perf_counter() - began))
                except httpx2.HTTPError:
                    errors += 1
                await asyncio.sleep(rng.uniform(*PAUSE))

    await asyncio.gather(*(read(seed) for seed in range(readers)))
    times.sort()
    return {
        "requests": len(times),
        "errors": errors,
        "median": statistics.median(times),
        "95 of 100 within": times[int(0.95 * len(times))],
    }


def weights(address: str) -> dict[str, float]:
    """The kilobytes that a browser loads for each page, compressed as they are sent; empty without Chromium."""
    program = shutil.which("chromium")
    if program is None:
        return {}
    from playwright.sync_api import sync_playwright

    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, page in PAGES.items():
            tab = browser.new_context(base_url=address).new_page()
            sizes: list[float] = []
            tab.on("requestfinished", lambda it, sizes=sizes: sizes.append(it.sizes()["responseBodySize"]))
            tab.goto(page)
            tab.wait_for_load_state("networkidle")
            found[name] = sum(sizes) / 1000
        browser.close()
    return found


def of_few(seconds: float) -> dict[str, float]:
    """The numbers of a site with the papers of the listing alone."""
    pages = {name: page for name, page in (FEEDS | SEARCHES).items() if page != "/page/20"}
    with TemporaryDirectory() as name, serving(Path(name)) as server:
        found = latencies(server, Settings(Path(name)), pages)
        numbers = {f"{key}, {len(listing())} papers, ms": value for key, value in found.items()}
        numbers |= {f"{key} page, kB": value for key, value in weights(server.address).items()}
        crowded = asyncio.run(crowd(server.address, READERS, seconds))
        return numbers | {f"{READERS} readers, {key}": value for key, value in crowded.items()}


def of_many(count: int, database: str) -> dict[str, float]:
    """The numbers of a site with as many imported papers."""
    with TemporaryDirectory() as name:
        settings = Settings(Path(name), database=database)
        listed, learnt = fill(settings, count)
        numbers = {f"import of {count} papers, s": listed, f"learning what {count} papers mean, s": learnt}
        with serving(settings.folder, *(["--database", database] if database else [])) as server:
            found = latencies(server, settings, FEEDS | SEARCHES)
            return numbers | {f"{key}, {count} papers, ms": value for key, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 papers, and readers for five seconds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--database", default="")
    arguments = parser.parse_args()
    count, seconds = (5_000, 5.0) if arguments.quick else (MANY, SECONDS)
    numbers = {} if arguments.database else of_few(seconds)
    numbers |= of_many(count, arguments.database)
    if arguments.json:
        print(json.dumps(numbers))
        return
    for name, value in numbers.items():
        print(f"{name:50} {value:10.1f}")


if __name__ == "__main__":
    main()
