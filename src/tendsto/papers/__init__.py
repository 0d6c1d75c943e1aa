"""The catalogue: one module a paper, each with its card and its claims.

Other packages add papers by naming such modules as entry points of the group `tendsto.papers`.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from inspect import getdoc

from tendsto.evidence import Claim, Paper
from tendsto.extras import MissingExtra


@dataclass(frozen=True)
class Entry:
    """A paper of the catalogue: its card, what its module says of it, and its claims by name."""

    card: Paper
    summary: str
    claims: dict[str, Claim]
    module: str


@cache
def catalogue() -> dict[str, Entry]:
    """Every paper by its slug, in the order of their dates; one that lacks an optional package is warned of."""
    names = [f"{__name__}.{found.name}" for found in pkgutil.iter_modules(__path__)]
    names += [point.value for point in entry_points(group=__name__)]
    entries = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except MissingExtra as error:
            warnings.warn(f"{name} is left out of the catalogue: {error}", RuntimeWarning, stacklevel=2)
            continue
        claims = {value.name: value for value in vars(module).values() if isinstance(value, Claim)}
        entries.append(Entry(module.CARD, getdoc(module) or "", claims, module.__name__))
    return {entry.card.slug: entry for entry in sorted(entries, key=lambda entry: entry.card.date)}
