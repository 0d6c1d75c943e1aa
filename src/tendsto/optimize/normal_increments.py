"""Standard normal numbers for many particles, at little more than the price of the bits they are made of."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def standard_normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    r"""Independent standard normal numbers in single precision, $\sqrt2\,\operatorname{erf}^{-1}(u)$ of 23 random bits.

    The law is that of `jax.random.normal`, the numbers are others. On processors JAX keeps the rounds of its generator
    in a loop that passes over memory, and uses one of its two words; written out, the rounds fuse into one pass.

    **Arguments**: `key`, of any implementation; `shape` of the result.

    **Source**: the generator is Threefry-2x32 with 20 rounds: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw,
    "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
    """
    count = math.prod(shape)
    counters = jnp.arange((count + 1) // 2, dtype=jnp.uint32)
    words = threefry(jax.random.bits(key, (2,), jnp.uint32), counters, jnp.zeros_like(counters))
    return jnp.concatenate([normal_from(word) for word in words])[:count].reshape(shape)


def normal_from(words: UInt32[Array, " count"]) -> Float[Array, " count"]:
    """A standard normal number, rising with it, from the upper 23 bits of each word."""
    # The middles of 2^23 equal intervals of (-1, 1), so that none of the numbers is infinite.
    uniform = ((words >> 9).astype(jnp.float32) + 0.5) * np.float32(2.0**-22) - 1.0
    return jnp.asarray(math.sqrt(2.0) * jax.lax.erf_inv(uniform))


def threefry(
    key: UInt32[Array, "2"], first: UInt32[Array, " count"], second: UInt32[Array, " count"]
) -> tuple[UInt32[Array, " count"], UInt32[Array, " count"]]:
    """Two random words for each pair of words that counts, a bijection of pairs for every key."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    first, second = first + keys[0], second + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            first = first + second
            second = ((second << rotation) | (second >> (32 - rotation))) ^ first
        first, second = first + keys[(group + 1) % 3], second + keys[(group + 2) % 3] + np.uint32(group + 1)
    return first, second
