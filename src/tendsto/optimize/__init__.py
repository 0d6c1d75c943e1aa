"""Methods for one machine."""

from tendsto.optimize.gradient import Optax

__all__ = ["Optax"]
