"""Algorithms that come with a guarantee, and the evidence that the guarantee holds."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tendsto import constants, evidence, federated, optimize, problems, proof
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
    "constants",
    "evidence",
    "federated",
    "fit_linear_rate",
    "fit_power_law",
    "optimize",
    "problems",
    "proof",
    "run",
    "solve",
]

try:
    __version__ = metadata.version("tendsto")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"


def __getattr__(name: str) -> Any:
    """Import a room, or a verb of `iteration`, when it is first asked for: `tendsto --help` need not wait for JAX."""
    if name in ("constants", "evidence", "federated", "optimize", "problems", "proof"):
        return importlib.import_module(f"tendsto.{name}")
    if name in __all__:
        return getattr(importlib.import_module("tendsto.iteration"), name)
    raise AttributeError(f"module 'tendsto' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
