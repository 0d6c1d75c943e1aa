"""Sums of independent numbers.

The sample mean of $n$ independent uniform numbers has the standard deviation $1/\\sqrt{12 n}$, which
`numpy` and JAX must both show. Every claim takes `TOY_SECONDS` to run, which lets a test interrupt it.
"""

from __future__ import annotations

import os
import time
from datetime import date

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tendsto.evidence import (
    Budget,
    Check,
    Estimate,
    Finding,
    NotRun,
    Paper,
    at_most,
    between,
    claim,
    equal_to,
)
from toys import tools

CARD = Paper(
    slug="toy-sums",
    title="Sums of independent numbers",
    authors=("Ada Example", "Ben Sample"),
    arxiv="2401.00001",
    date=date(2024, 1, 2),
    field="optimize",
    method=("evidence.Estimate",),
)


def spread(budget: Budget, count: int) -> Finding:
    time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    draws = jax.random.uniform(budget.key, (4000, count))
    estimate = Estimate.mean(np.asarray(count * (draws.mean(axis=1) - 0.5) ** 2))
    figure = Figure()
    figure.subplots().hist(np.asarray(draws.mean(axis=1)), color="black")
    frame = pd.DataFrame({"count": [count], "variance": [estimate.value]})
    return Finding(
        [Check(r"$n \operatorname{Var}$", between(1 / 14, 1 / 10), estimate)],
        tables={"By count": frame},
        figures={"The sample means": figure},
        note=f"{count} numbers a sum.",
    )


@claim(statement=r"The variance of the mean is $\frac{1}{12 n}$", source="Theorem 1", evidence="measured")
def variance_falls_like_one_over_n(budget: Budget) -> Finding:
    return spread(budget, budget.pick(50, 100, 1000))


@variance_falls_like_one_over_n.control
def one_number_repeated_keeps_its_variance(budget: Budget) -> Finding:
    """The same number n times over, which are not independent."""
    draws = np.asarray(jax.random.uniform(budget.key, (4000, 1)))
    return Finding([Check("n Var", between(1 / 14, 1 / 10), Estimate.mean(50 * (draws - 0.5) ** 2))])


@claim(statement="Twice two is four", source="Equation (2)", evidence="certified")
def twice_two_is_four(budget: Budget) -> Finding:
    time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    return Finding([Check("2 + 2", equal_to(4), Estimate.exact(tools.twice(2)))])


@twice_two_is_four.control
def twice_three_is_not(budget: Budget) -> Finding:
    """Three in place of two."""
    return Finding([Check("3 + 3", equal_to(4), Estimate.exact(tools.twice(3)))])


@claim(statement="The worst of many sums stays below 1", source="Theorem 3", evidence="measured")
def worst_sum_is_bounded(budget: Budget) -> Finding:
    time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    draws = np.asarray(jax.random.normal(budget.key, (64,)))
    return Finding([Check("worst", at_most(1.0), Estimate.exact(draws.max()))])


@worst_sum_is_bounded.control
def larger_sums_are_not(budget: Budget) -> Finding:
    """A hundred times larger."""
    return Finding([Check("worst", at_most(1.0), Estimate.exact(100.0))])


@claim(statement="A prover agrees", source="Appendix A", evidence="proved")
def prover_agrees(budget: Budget) -> Finding:
    raise NotRun("needs a prover that nobody has")
