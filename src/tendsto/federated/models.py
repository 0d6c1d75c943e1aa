"""Small models as pairs of functions: fresh parameters, and predictions from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tendsto import validation

Layer = dict[str, Array]


def linear(parameters: Layer, features: Float[Array, "batch d"]) -> Float[Array, "batch classes"]:
    """Class scores $W^\\top a + c$."""
    return features @ parameters["weights"] + parameters["bias"]


def linear_parameters(features: int, classes: int) -> Layer:
    """Zeros."""
    return {"weights": jnp.zeros((features, classes)), "bias": jnp.zeros(classes)}


def mlp(parameters: Sequence[Layer], features: Float[Array, "batch d"]) -> Float[Array, "batch classes"]:
    """A multilayer perceptron with rectified linear units."""
    *hidden, last = parameters
    for layer in hidden:
        features = jax.nn.relu(linear(layer, features))
    return linear(last, features)


def mlp_parameters(key: Key[Array, ""], widths: Sequence[int]) -> list[Layer]:
    """Weights with He's variance and zero biases.

    **Arguments**: `widths`, of the features, the hidden layers and the scores: `(64, 32, 10)`.
    """
    if len(widths) < 2:
        raise ValueError(f"widths: expected at least two, got {widths}")
    keys = jax.random.split(key, len(widths) - 1)
    return [_dense(key, rows, columns) for key, rows, columns in zip(keys, widths[:-1], widths[1:], strict=True)]


def _dense(key: Key[Array, ""], rows: int, columns: int) -> Layer:
    weights = jax.random.normal(key, (rows, columns)) * math.sqrt(2.0 / rows)
    return {"weights": weights, "bias": jnp.zeros(columns)}


def cnn(parameters: Any, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch classes"]:
    """Two 3×3 convolutions, each with a rectified linear unit and 2×2 max-pooling, then a multilayer perceptron."""
    features = images
    for layer in parameters["convolutions"]:
        features = jax.lax.conv_general_dilated(
            features, layer["weights"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        features = jax.nn.relu(features + layer["bias"])
        features = jax.lax.reduce_window(features, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return mlp(parameters["dense"], features.reshape(len(features), -1))


def cnn_parameters(
    key: Key[Array, ""], shape: tuple[int, int, int], classes: int, *, channels: int = 16, width: int = 64
) -> Any:
    """Weights with He's variance and zero biases.

    **Arguments**: `shape`, `(height, width, channels)` of an image; `classes`; `channels` of both convolutions; `width`
    of the hidden dense layer.
    """
    validation.integer("classes", classes, low=2)
    *of_convolutions, of_dense = jax.random.split(key, 3)
    inputs = (shape[2], channels)
    convolutions = [
        {
            "weights": jax.random.normal(each, (3, 3, rows, channels)) * math.sqrt(2.0 / (9 * rows)),
            "bias": jnp.zeros(channels),
        }
        for each, rows in zip(of_convolutions, inputs, strict=True)
    ]
    flat = (shape[0] // 4) * (shape[1] // 4) * channels
    return {"convolutions": convolutions, "dense": mlp_parameters(of_dense, (flat, width, classes))}
