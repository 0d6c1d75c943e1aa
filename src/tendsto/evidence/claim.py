"""A claim: a sentence of a paper put to the test, and the control that shows the test can fail."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date as Date
from typing import Literal, TypeVar, get_args

import jax
from jaxtyping import Array, Key

from tendsto.evidence.finding import Finding

BudgetName = Literal["quick", "standard", "full"]
Evidence = Literal["measured", "certified", "proved"]
T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """How much a claim may spend, and the seed all its randomness derives from.

    `quick` is what two cores carry within seconds a claim, `standard` within minutes, and `full` is
    the paper's own scale.
    """

    name: BudgetName = "quick"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in get_args(BudgetName):
            raise ValueError(f"budget: {self.name!r} is not one of {', '.join(get_args(BudgetName))}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: must be in [0, 2**32), got {self.seed}")

    def pick(self, quick: T, standard: T, full: T) -> T:
        """The one of three sizes that this budget names."""
        return {"quick": quick, "standard": standard, "full": full}[self.name]

    @property
    def key(self) -> Key[Array, ""]:
        """The root random key."""
        return jax.random.key(self.seed)


class NotRun(Exception):
    """Raised by a claim that cannot be run here; its message names what is missing.

    For example `raise NotRun("needs Rocq: apt install coq")`.
    """


ClaimFunction = Callable[[Budget], Finding]


@dataclass
class Claim:
    """One assertion of a paper as an executable object; made by the `claim` decorator.

    Calling it runs the measurement alone, in the caller's precision. `tendsto.evidence.check` runs it and
    its controls in float64 and gives a verdict.
    """

    function: ClaimFunction
    statement: str
    source: str
    evidence: Evidence
    controls: list[ClaimFunction] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The claim's name within its paper, as typed on the command line."""
        return self.function.__name__

    @property
    def module(self) -> str:
        """The module that makes the claim: what another process imports to find it again."""
        return self.function.__module__

    @property
    def paper(self) -> Paper:
        """The card of the paper that makes the claim.

        **Raises** `TypeError` if the claim's module has no `CARD`.
        """
        card = getattr(importlib.import_module(self.module), "CARD", None)
        if not isinstance(card, Paper):
            raise TypeError(f"claim: {self.module}, which defines {self.name}, has no CARD that is a Paper")
        return card

    def control(self, function: ClaimFunction) -> ClaimFunction:
        """Register `function` as a control: the same measurement where the theorem does not apply.

        A control must fail. Its docstring says what is broken in it; readers see that beside its numbers.
        """
        self.controls.append(function)
        return function

    def __call__(self, budget: Budget) -> Finding:
        """The finding of the measurement alone."""
        return self.function(budget)


def find_claim(module: str, name: str) -> Claim:
    """The claim called `name` that `module` defines.

    **Raises** `LookupError` if there is none, `ImportError` if the module cannot be imported.
    """
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, Claim) and (value.module, value.name) == (module, name):
            return value
    raise LookupError(f"claim: {module} defines no claim {name!r}")


def claim(*, statement: str, source: str, evidence: Evidence) -> Callable[[ClaimFunction], Claim]:
    """Turn a function from a budget to a finding into a `Claim`.

    **Arguments**

    - `statement`: the assertion in one sentence, as the paper makes it; LaTeX between dollar signs.
    - `source`: where the paper makes it ("Theorem 3 and Figure 1").
    - `evidence`: `measured` (a statistic with its uncertainty), `certified` (a rigorous numerical bound) or
      `proved` (accepted by a proof assistant's kernel).

    **Raises** `ValueError` for an empty statement or source, or an unknown kind of evidence.
    """
    if not statement.strip() or not source.strip():
        raise ValueError("claim: statement and source must not be empty")
    if evidence not in get_args(Evidence):
        raise ValueError(f"evidence: {evidence!r} is not one of {', '.join(get_args(Evidence))}")

    def decorate(function: ClaimFunction) -> Claim:
        return Claim(function, statement, source, evidence)

    return decorate


@dataclass(frozen=True)
class Paper:
    """A catalogue card.

    **Arguments**

    - `slug`: the paper's short name on the command line and in addresses: lower-case words and digits
      joined by hyphens.
    - `title`, `authors`, `arxiv`, `date`: as published; `date` is that of the first version.
    - `field`: the room its method lives in (`optimize`, `federated`, …).
    - `method`: the public names that implement it, dotted below `tendsto` (`optimize.MirrorDescent`).
    """

    slug: str
    title: str
    authors: tuple[str, ...]
    arxiv: str
    date: Date
    field: str
    method: tuple[str, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.slug):
            raise ValueError(f"slug: {self.slug!r} is not lower-case words and digits joined by hyphens")
