"""How well the site finds papers: titles with words left out, paraphrases, and recommendations by tag.

    python -m benchmarks.site.quality [--json]

Each number stands beside its control: the same measurement where nothing can be found.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from tendsto.listing import Listed, listing
from tendsto.site.database import Paper
from tendsto.site.meaning import Meaning
from tendsto.site.search import search
from tendsto.site.settings import Settings
from tendsto.site.site import Site

# Written without the summaries at hand, from what the papers are about.
PARAPHRASES = {
    "deeponet": "learn the map from input functions to solutions of a differential equation with two networks, "
    "one for sensors and one for the location",
    "ntk": "in the infinite-width limit, training a network by gradient descent is kernel regression",
    "leandojo": "retrieving useful premises from a library helps a language model prove theorems in Lean",
    "ef21-w": "weighting clients by their smoothness improves error feedback from the quadratic to the arithmetic mean",
    "co2": "hide the cost of all-reduce behind local steps when training on slow networks",
    "fedau": "federated averaging when you do not know how often each client takes part",
    "dfedsam": "clients that gossip without a server find flatter minima with sharpness-aware minimisation",
    "fedfix": "convergence of federated learning when clients finish at different times and send stale updates",
    "matrix-sensing": "more columns than the rank needs make gradient descent slower for low-rank recovery",
    "last-iterate-sgd": "does the final point of stochastic gradient descent converge as fast as the average",
    "vr-halpern": "anchored fixed-point iteration with fewer oracle calls by variance reduction",
    "dp-stationary": "find points with a small gradient while protecting the privacy of the training records",
    "cgs": "graph neural networks whose prediction is the fixed point of a contraction and always converges",
    "deepseek-prover": "generate millions of synthetic formal proofs from school competitions to fine-tune a prover",
    "stp": "a model that invents conjectures for itself and trains on proving them",
    "matrix-fields": "an order among mathematical constants from continued fractions put into conservative fields",
    "lpn": "learn an exact proximal operator so that the prior can be read off the network",
    "rrlbs": "separate hyperspectral pixels into materials, robustly to noisy channels",
    "martingale-td": "estimate value functions of continuous-time stochastic processes by martingale conditions",
    "unigeo": "solve geometry calculation and proof problems with one sequence model",
}
TOPICS = ("federated", "proof", "scientific", "optimize")
SEED, REMOVED, RANDOM_TAGS = 0, 3, 40


def shuffled(papers: Mapping[str, Listed], seed: int = SEED) -> dict[str, Listed]:
    """The same papers, each under the title and summary of another."""
    slugs = list(papers)
    others = slugs[:]
    rng = random.Random(seed)
    while any(one == other for one, other in zip(slugs, others, strict=True)):
        rng.shuffle(others)
    return {
        slug: replace(papers[slug], title=papers[other].title, summary=papers[other].summary, tags=papers[other].tags)
        for slug, other in zip(slugs, others, strict=True)
    }


def ranks(site: Site, queries: Mapping[str, str], *, words: bool = True, meaning: bool = True) -> dict[str, int]:
    """The rank, from 1, at which each query finds the paper that it is about; 1000 where it does not."""
    found = {}
    with Session(site.engine) as session:
        for slug, query in queries.items():
            if words:
                hits = [
                    hit.paper.slug for hit in search(session, site.meaning if meaning else None, query, size=60).hits
                ]
            else:
                near = site.meaning.nearest(query, 60) if site.meaning else []
                slugs = dict(session.execute(select(Paper.id, Paper.slug)).all())
                hits = [slugs[identity] for identity, _ in near]
            found[slug] = hits.index(slug) + 1 if slug in hits else 1000
    return found


def titles(papers: Mapping[str, Listed], seed: int = SEED) -> dict[str, str]:
    """The title of each paper without three words drawn at random."""
    rng = random.Random(seed)
    queries = {}
    for slug, paper in papers.items():
        words = paper.title.split()
        gone = set(rng.sample(range(len(words)), min(REMOVED, len(words) - 1)))
        queries[slug] = " ".join(word for place, word in enumerate(words) if place not in gone)
    return queries


def recall(ranks: Iterable[int], within: int) -> float:
    """The share of queries whose paper has a rank up to `within`."""
    return float(np.mean([rank <= within for rank in ranks]))


def leave_one_out(meaning: Meaning, tagged: list[int]) -> float:
    """How often a paper, taken out of its tag, is ranked above one that never was in it: the area under the curve."""
    areas = []
    for held in tagged:
        liked = [identity for identity in tagged if identity != held]
        scores = dict(meaning.recommend(liked, len(meaning.identities)))
        strangers = [score for identity, score in scores.items() if identity not in tagged]
        areas.append(np.mean([scores[held] > score for score in strangers]))
    return float(np.mean(areas))


def recommendation(site: Site, papers: Mapping[str, Listed], seed: int = SEED) -> tuple[dict[str, float], float]:
    """The area under the curve for each topic, and its mean over groups of as many papers drawn at random."""
    assert site.meaning is not None
    with Session(site.engine) as session:
        identities = {str(slug): identity for identity, slug in session.execute(select(Paper.id, Paper.slug))}
    groups = {topic: [identities[slug] for slug, it in papers.items() if it.field == topic] for topic in TOPICS}
    rng = random.Random(seed)
    sizes = [len(group) for group in groups.values()]
    drawn = [rng.sample(sorted(identities.values()), sizes[turn % len(sizes)]) for turn in range(RANDOM_TAGS)]
    areas = {topic: leave_one_out(site.meaning, group) for topic, group in groups.items()}
    return areas, float(np.mean([leave_one_out(site.meaning, group) for group in drawn]))


def measure(folder: Path) -> dict[str, float]:
    """All numbers, in sites below `folder`."""
    papers = listing()
    site = Site(Settings(folder / "listing"), {}, papers)
    wrong = Site(Settings(folder / "shuffled"), {}, shuffled(papers))
    by_title, by_paraphrase = ranks(site, titles(papers)), ranks(site, PARAPHRASES)
    areas, chance = recommendation(site, papers)
    return {
        "papers": len(papers),
        "titles found first": sum(rank == 1 for rank in by_title.values()),
        "paraphrases, recall at 5": recall(by_paraphrase.values(), 5),
        "paraphrases, recall at 5, words alone": recall(ranks(site, PARAPHRASES, meaning=False).values(), 5),
        "paraphrases, recall at 5, meaning alone": recall(ranks(site, PARAPHRASES, words=False).values(), 5),
        "control: recall at 5 with texts shuffled": recall(ranks(wrong, PARAPHRASES).values(), 5),
        **{f"recommendation, area under the curve, {topic}": area for topic, area in areas.items()},
        "recommendation, area under the curve, mean": float(np.mean(list(areas.values()))),
        "control: area under the curve, random tags": chance,
    }


def main() -> None:
    with TemporaryDirectory() as folder:
        numbers = measure(Path(folder))
    if "--json" in sys.argv:
        print(json.dumps(numbers))
        return
    for name, value in numbers.items():
        print(f"{name:55} {value:.4g}")


if __name__ == "__main__":
    main()
