"""Run a method on a problem: traces, rates, costs and checkpoints."""

from tendsto.iteration.method import Cost, Method, Scalar, State, hyperparameter
from tendsto.iteration.rates import Rate, fit_linear_rate, fit_power_law
from tendsto.iteration.running import record_steps, run
from tendsto.iteration.solving import Result, Solution, solve
from tendsto.iteration.trace import Trace

__all__ = [
    "Cost",
    "Method",
    "Rate",
    "Result",
    "Scalar",
    "Solution",
    "State",
    "Trace",
    "fit_linear_rate",
    "fit_power_law",
    "hyperparameter",
    "record_steps",
    "run",
    "solve",
]
