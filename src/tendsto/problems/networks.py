"""Problems whose objective and constraints see their variables through a trained network."""

from __future__ import annotations

import abc
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import NDArray

from tendsto import extras

Vector = NDArray[np.float64]
Outputs = Callable[[Array], Array]


class FrozenNetwork(abc.ABC):
    r"""A trained network $\Phi: R^n \to R^m$, seen through outputs and vector-Jacobian products that are counted.

    `freeze` makes one from a JAX function or a PyTorch module.

    **Attributes**

    - `evaluations`: how often outputs were computed, those inside a gradient included.
    - `gradients`: how often a vector-Jacobian product was computed.
    """

    def __init__(self) -> None:
        self.evaluations = 0
        self.gradients = 0

    def __call__(self, x: Vector) -> Vector:
        r"""$\Phi(x)$, shape `(m,)`."""
        self.evaluations += 1
        return np.asarray(self._outputs(x), dtype=np.float64)

    def pullback(self, x: Vector, direction: Vector) -> Vector:
        r"""$J_\Phi(x)^\top u$ for a direction $u$ of outputs: one evaluation and one gradient."""
        self.evaluations += 1
        self.gradients += 1
        return np.asarray(self._pull(x, direction), dtype=np.float64)

    @abc.abstractmethod
    def _outputs(self, x: Vector) -> Any:
        """The outputs at `x`."""

    @abc.abstractmethod
    def _pull(self, x: Vector, direction: Vector) -> Any:
        """The direction pulled back to the inputs."""


class _Jax(FrozenNetwork):
    """A JAX function, compiled once for its outputs and once for its products."""

    def __init__(self, function: Outputs) -> None:
        super().__init__()
        self.function = function
        self._compiled_outputs = jax.jit(function)
        self._compiled_pull = jax.jit(lambda x, direction: _vector_jacobian(function, x, direction))

    def _outputs(self, x: Vector) -> Any:
        return self._compiled_outputs(x)

    def _pull(self, x: Vector, direction: Vector) -> Any:
        return self._compiled_pull(x, direction)


def _vector_jacobian(function: Outputs, x: Array, direction: Array) -> Array:
    outputs, pull = jax.vjp(function, x)
    (pulled,) = pull(direction.astype(outputs.dtype))
    product: Array = pulled
    return product


class _Torch(FrozenNetwork):
    """A PyTorch module, in evaluation mode during each call and as the user left it afterwards."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.torch = extras.load("torch", extra="torch")
        self.module = module
        example = next(module.parameters(), None)
        self.kind = {"dtype": self.torch.get_default_dtype() if example is None else example.dtype}
        if example is not None:
            self.kind["device"] = example.device

    def _forward(self, x: Any) -> Any:
        training = [part for part in self.module.modules() if part.training]
        self.module.eval()
        try:
            return self.module(x).reshape(-1)
        finally:
            for part in training:
                part.training = True

    def _outputs(self, x: Vector) -> Any:
        with self.torch.no_grad():
            return self._forward(self.torch.tensor(x, **self.kind)).cpu().numpy()

    def _pull(self, x: Vector, direction: Vector) -> Any:
        _, pull = self._linearise(x)
        return pull(direction)

    def _linearise(self, x: Vector) -> tuple[Vector, Callable[[Vector], Vector]]:
        """The outputs at `x`, and the product of their Jacobian with a direction."""
        inputs = self.torch.tensor(x, requires_grad=True, **self.kind)
        outputs = self._forward(inputs)

        def pull(direction: Vector) -> Vector:
            weights = self.torch.tensor(direction, **self.kind)
            (gradient,) = self.torch.autograd.grad(outputs, inputs, weights, allow_unused=True)
            return np.zeros_like(x) if gradient is None else np.asarray(gradient.cpu(), dtype=np.float64)

        return np.asarray(outputs.detach().cpu(), dtype=np.float64), pull


def freeze(network: Any) -> FrozenNetwork:
    """A `FrozenNetwork` from a network of either library.

    **Arguments**

    - `network`: a JAX function (an equinox module is one) or a `torch.nn.Module`, from a vector of shape `(n,)` to a
      vector. Wrap a network that wants images or batches. A module runs in evaluation mode, so dropout and
      batch normalisation are deterministic; its parameters get no gradients and its mode is restored.

    **Raises** `TypeError` if it is neither.
    """
    if isinstance(network, FrozenNetwork):
        return network
    torch = sys.modules.get("torch")  # whoever holds a module has imported it
    if torch is not None and isinstance(network, torch.nn.Module):
        return _Torch(network)
    if not callable(network):
        raise TypeError(f"network: expected a JAX function or a torch module, got {type(network).__name__}")
    return _Jax(network)


class _PenalisedTorch(_Torch):
    """A PyTorch module with the violated constraints, which are JAX functions, behind its outputs."""

    def __init__(self, module: Any, violations: Callable[[Array, Array], Array]) -> None:
        super().__init__(module)
        self._violations = jax.jit(violations)
        self._pull_violations = jax.jit(lambda y, x, weights: jax.vjp(violations, y, x)[1](weights))

    def _outputs(self, x: Vector) -> Any:
        outputs = np.asarray(super()._outputs(x), dtype=np.float64)
        return np.concatenate([outputs, self._violations(outputs, x)])

    def _pull(self, x: Vector, direction: Vector) -> Any:
        outputs, pull = self._linearise(x)
        on_outputs, on_violations = np.split(np.asarray(direction), [outputs.size])
        through, past = self._pull_violations(outputs, x, on_violations)
        return pull(on_outputs + np.asarray(through)) + np.asarray(past)


class NetworkProblem:
    r"""Maximise $f(\Phi(x))$ subject to $c(\Phi(x)) \le 0$ and $c_x(x) \le 0$, the constraints as a penalty.

    The constraints become outputs of the network and the problem an unconstrained one:

    $$\tilde\Phi(x) = [\Phi(x), \operatorname{ReLU}(c(\Phi(x))), \operatorname{ReLU}(c_x(x))], \qquad
    \tilde f([y, z]) = f(y) - \lVert z\rVert^2 .$$

    Calling the problem gives $-\tilde f(\tilde\Phi(x))$, to be minimised, so that it can be handed to
    `scipy.optimize.minimize`. A penalty trades feasibility for value: scale $c$ to set its weight, and look at
    `violation`. Its gradient vanishes inside the feasible set, so attacks do not see a constraint before it is
    violated.

    **Arguments**

    - `objective`: $f$, a JAX function from the outputs, shape `(m,)`, to a scalar.
    - `network`: $\Phi$, what `freeze` takes.
    - `constraints`: $c$, a JAX function from the outputs to a scalar or vector; `None` if there is none.
    - `input_constraints`: $c_x$, likewise from the inputs, shape `(n,)`.

    **Attributes**

    - `penalised`: $\tilde\Phi$ as a `FrozenNetwork`; it counts every evaluation and gradient of the network.
    - `outputs`: $\Phi(x)$ at the last point at which the problem was called.

    **Raises** `TypeError` if an argument is not of its kind.

    **Source**: P.-Y. Bouchet, T. Vidal, "Optimization by Directional Attacks: Solving Problems with Neural Network
    Surrogates", arXiv:2510.01461, the constrained problem and its reformulation.
    """

    def __init__(
        self,
        objective: Callable[[Array], Array],
        network: Any,
        constraints: Outputs | None = None,
        input_constraints: Outputs | None = None,
    ) -> None:
        named = {"objective": objective, "constraints": constraints, "input_constraints": input_constraints}
        for name, function in named.items():
            if not callable(function) and (function is not None or name == "objective"):
                raise TypeError(f"{name}: expected a JAX function, got {type(function).__name__}")

        def violations(y: Array, x: Array) -> Array:
            parts = [constraints(y)] if constraints else []
            parts += [input_constraints(x)] if input_constraints else []
            return jnp.concatenate([jnp.zeros(0), *(jax.nn.relu(jnp.ravel(part)) for part in parts)])

        def value(y: Array, x: Array) -> Array:
            return objective(y) - jnp.sum(violations(y, x) ** 2)

        frozen = freeze(network)
        if isinstance(frozen, _Jax):
            function = frozen.function
            self.penalised: FrozenNetwork = _Jax(lambda x: _joined(function(x), violations, x))
            self._evaluate: Callable[[Vector], Any] = jax.jit(lambda x: _with_outputs(value, function(x), x))
        elif isinstance(frozen, _Torch):
            self.penalised = _PenalisedTorch(frozen.module, violations)
            finish = jax.jit(functools.partial(_with_outputs, value))
            self._evaluate = lambda x: finish(_Torch._outputs(frozen, x), x)
        else:
            raise TypeError(f"network: expected a JAX function or a torch module, got {type(network).__name__}")
        self.outputs: Any = None
        self._violations = jax.jit(violations)
        self._direction = jax.jit(lambda y, x: jnp.concatenate([jax.grad(objective)(y), -2.0 * violations(y, x)]))

    def __call__(self, x: Vector) -> float:
        r"""$-\tilde f(\tilde\Phi(x))$: one evaluation of the network."""
        self.penalised.evaluations += 1
        value, self.outputs = self._evaluate(np.asarray(x, dtype=np.float64))
        return -float(value)

    def direction(self, outputs: Any, x: Vector) -> Vector:
        r"""$\nabla\tilde f = [\nabla f(y), -2z]$ where `outputs` is $y = \Phi(x)$; the network is not called."""
        return np.asarray(self._direction(jnp.asarray(outputs), x), dtype=np.float64)

    def violation(self, outputs: Any, x: Vector) -> float:
        r"""The largest violation of a constraint, zero where all hold; `outputs` is $y = \Phi(x)$."""
        return float(np.max(self._violations(jnp.asarray(outputs), x), initial=0.0))


def _joined(y: Array, violations: Callable[[Array, Array], Array], x: Array) -> Array:
    return jnp.concatenate([y, violations(y, x)])


def _with_outputs(value: Callable[[Array, Array], Array], y: Array, x: Array) -> tuple[Array, Array]:
    return value(y, x), y
