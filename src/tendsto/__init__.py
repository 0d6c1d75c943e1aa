"""Algorithms that come with a guarantee, and the evidence that the guarantee holds."""

from tendsto import optimize, problems
from tendsto.iteration import (
    Method,
    Rate,
    Result,
    Solution,
    State,
    Trace,
    fit_linear_rate,
    fit_power_law,
    run,
    solve,
)

__all__ = [
    "Method",
    "Rate",
    "Result",
    "Solution",
    "State",
    "Trace",
    "fit_linear_rate",
    "fit_power_law",
    "optimize",
    "problems",
    "run",
    "solve",
]
