"""What shrinks a message: compressors with the constant their theorems ask for, and the bits they send."""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from tendsto import validation


class Compressor(eqx.Module):
    r"""A contractive map: $\mathbb E\lVert C(v) - v\rVert^2 \le (1 - \alpha)\lVert v\rVert^2$ with $0 < \alpha \le 1$.

    It acts on a pytree of arrays as on one long vector; `Leafwise` acts on each array by itself. `homogeneous` says
    whether $C(cv) = c\,C(v)$ for every $c > 0$ (with the same randomness).
    """

    homogeneous: ClassVar[bool]

    @abc.abstractmethod
    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """$C(v)$, as the receiver reads it."""

    @abc.abstractmethod
    def contraction_of(self, dimension: int) -> float:
        r"""$\alpha$ for vectors of this dimension."""

    @abc.abstractmethod
    def bits_of(self, dimension: int, value: int) -> int:
        """The bits that a compressed vector takes, where a real number takes `value` bits."""

    def __call__(self, tree: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        """$C(v)$ of a pytree."""
        flat, unravel = ravel_pytree(tree)
        return unravel(self.compress(flat, key))

    def contraction(self, like: PyTree[Any]) -> float:
        r"""$\alpha$ for messages like this one."""
        return self.contraction_of(ravel_pytree(like)[0].size)

    def bits(self, like: PyTree[Any]) -> int:
        """The bits that a compressed message like this one takes."""
        flat = ravel_pytree(like)[0]
        return self.bits_of(flat.size, 8 * flat.dtype.itemsize)


def _count(kept: int | float, dimension: int) -> int:
    """How many coordinates to keep: a number, or a share of all, at least one."""
    if isinstance(kept, float):
        return max(1, round(kept * dimension))
    if kept > dimension:
        raise ValueError(f"kept: cannot keep {kept} of {dimension} coordinates")
    return kept


def _check_kept(kept: int | float) -> None:
    if isinstance(kept, float):
        validation.real("kept", kept, low=0.0, high=1.0, open_low=True)
    else:
        validation.integer("kept", kept, low=1)


class Identity(Compressor):
    """No compression, $\\alpha = 1$."""

    homogeneous: ClassVar[bool] = True

    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """The vector itself."""
        del key
        return vector

    def contraction_of(self, dimension: int) -> float:
        """One."""
        del dimension
        return 1.0

    def bits_of(self, dimension: int, value: int) -> int:
        """All entries."""
        return dimension * value


class TopK(Compressor):
    r"""Keep the $k$ entries that are largest in absolute value, of equal ones the first: $\alpha = k/d$.

    **Arguments**: `kept`, $k$, or as a fraction $k/d \in (0, 1]$.
    """

    homogeneous: ClassVar[bool] = True
    kept: int | float = eqx.field(static=True)

    def __check_init__(self) -> None:
        _check_kept(self.kept)

    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """Zero elsewhere."""
        del key
        _, places = jax.lax.top_k(jnp.abs(vector), _count(self.kept, vector.size))
        return jnp.zeros_like(vector).at[places].set(vector[places], unique_indices=True)

    def contraction_of(self, dimension: int) -> float:
        """$k/d$, attained by a constant vector."""
        return _count(self.kept, dimension) / dimension

    def bits_of(self, dimension: int, value: int) -> int:
        r"""$k$ values, each with its place in $\lceil\log_2 d\rceil$ bits."""
        return _count(self.kept, dimension) * (value + math.ceil(math.log2(dimension)))


class RandK(Compressor):
    r"""Keep $k$ entries at random as they are: $\alpha = k/d$. Their places follow from a seed that both ends share.

    **Arguments**: `kept`, $k$, or as a fraction $k/d \in (0, 1]$.
    """

    homogeneous: ClassVar[bool] = True
    kept: int | float = eqx.field(static=True)

    def __check_init__(self) -> None:
        _check_kept(self.kept)

    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """Zero elsewhere."""
        places = jax.random.choice(key, vector.size, (_count(self.kept, vector.size),), replace=False)
        return jnp.zeros_like(vector).at[places].set(vector[places], unique_indices=True)

    def contraction_of(self, dimension: int) -> float:
        """$k/d$ for every vector."""
        return _count(self.kept, dimension) / dimension

    def bits_of(self, dimension: int, value: int) -> int:
        """$k$ values."""
        return _count(self.kept, dimension) * value


class UnbiasedRandK(RandK):
    r"""Keep $k$ entries at random, each times $d/k$: unbiased, with the variance $(d/k - 1)\lVert v\rVert^2$.

    Contractive only for $k > d/2$, with $\alpha = 2 - d/k$. Error feedback may diverge with fewer: use `RandK`.

    **Arguments**: `kept`, $k$, or as a fraction $k/d \in (0, 1]$.
    """

    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """Longer than they were, zero elsewhere."""
        return super().compress(vector, key) * (vector.size / _count(self.kept, vector.size))

    def contraction_of(self, dimension: int) -> float:
        """$2 - d/k$; raises `ValueError` where that is not positive."""
        contraction = 2.0 - dimension / _count(self.kept, dimension)
        if contraction <= 0.0:
            raise ValueError(f"kept: {self.kept} of {dimension} scaled entries are no contraction; it takes over half")
        return contraction


class ScaledSign(Compressor):
    r"""$C(v) = \frac{\lVert v\rVert_1}{d}\operatorname{sign}(v)$, a bit an entry: $\alpha = 1/d$.

    $\lVert C(v) - v\rVert^2 = \lVert v\rVert^2 - \lVert v\rVert_1^2/d$, so that dense vectors lose far less than the
    bound says. The sign of zero is $+1$.
    """

    homogeneous: ClassVar[bool] = True

    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """One size, all signs."""
        del key
        return jnp.mean(jnp.abs(vector)) * jnp.where(vector >= 0, 1.0, -1.0).astype(vector.dtype)

    def contraction_of(self, dimension: int) -> float:
        """$1/d$, attained by a coordinate vector."""
        return 1.0 / dimension

    def bits_of(self, dimension: int, value: int) -> int:
        """A bit an entry and one value."""
        return dimension + value


class Natural(Compressor):
    r"""Round each entry at random to one of the two powers of two around it, without bias: $\alpha = 7/8$.

    **Source**: S. Horváth et al., *Natural Compression for Distributed Deep Learning*, 1905.10988: variance at most
    $\lVert v\rVert^2/8$.
    """

    homogeneous: ClassVar[bool] = False

    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """Up with a chance in proportion to the distance from the lower power."""
        lower = _power_below(vector)
        up = jax.random.bernoulli(key, jnp.where(lower > 0, jnp.abs(vector) / jnp.where(lower > 0, lower, 1) - 1, 0))
        return jnp.sign(vector) * jnp.where(up, 2 * lower, lower)

    def contraction_of(self, dimension: int) -> float:
        """$7/8$, attained where an entry is 4/3 of a power of two."""
        del dimension
        return 7 / 8

    def bits_of(self, dimension: int, value: int) -> int:
        """Sign and exponent of each entry."""
        return dimension * _sign_and_exponent(value)


class PowerOfTwo(Compressor):
    r"""Round each entry towards zero to a power of two: $\alpha = 3/4$. Not homogeneous."""

    homogeneous: ClassVar[bool] = False

    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """The power below."""
        del key
        return jnp.sign(vector) * _power_below(vector)

    def contraction_of(self, dimension: int) -> float:
        """$3/4$: an entry loses less than half of itself."""
        del dimension
        return 3 / 4

    def bits_of(self, dimension: int, value: int) -> int:
        """Sign and exponent of each entry."""
        return dimension * _sign_and_exponent(value)


def _power_below(vector: Float[Array, " d"]) -> Float[Array, " d"]:
    """The largest power of two that is at most the absolute value; zero for zero."""
    mantissa, exponent = jnp.frexp(jnp.abs(vector))
    return jnp.where(mantissa > 0, jnp.ldexp(jnp.ones_like(vector), exponent - 1), 0)


def _sign_and_exponent(value: int) -> int:
    return 1 + {16: 5, 32: 8, 64: 11}[value]


class Dithering(Compressor):
    r"""Random rounding of $|v_j|/\lVert v\rVert$ to $s$ levels, scaled down to be contractive.

    Unbiased rounding $Q$ to multiples of $\lVert v\rVert/s$ has variance at most $\omega\lVert v\rVert^2$ with
    $\omega = \min(d/s^2, \sqrt d/s)$; $C = Q/(1 + \omega)$ is contractive with $\alpha = 1/(1 + \omega)$.

    **Arguments**: `levels`, $s \ge 1$.

    **Source**: D. Alistarh et al., *QSGD*, 1610.02132, Lemma 3.1.
    """

    homogeneous: ClassVar[bool] = True
    levels: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        validation.integer("levels", self.levels, low=1)

    def _variance(self, dimension: int) -> float:
        return min(dimension / self.levels**2, math.sqrt(dimension) / self.levels)

    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """Up with a chance in proportion to the distance from the lower level."""
        norm = jnp.linalg.norm(vector)
        exact = self.levels * jnp.abs(vector) / jnp.where(norm > 0, norm, 1)
        lower = jnp.floor(exact)
        level = lower + jax.random.bernoulli(key, exact - lower)
        return jnp.asarray(norm * jnp.sign(vector) * level / (self.levels * (1 + self._variance(vector.size))))

    def contraction_of(self, dimension: int) -> float:
        r"""$1/(1 + \omega)$."""
        return 1 / (1 + self._variance(dimension))

    def bits_of(self, dimension: int, value: int) -> int:
        """The norm; for each entry its sign and level."""
        return value + dimension * (1 + math.ceil(math.log2(self.levels + 1)))


class Leafwise(Compressor):
    r"""A compressor for each array of the message by itself; $\alpha$ is the smallest one.

    **Arguments**: `compressor`, for each array.
    """

    compressor: Compressor

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        """As the compressor is."""
        return self.compressor.homogeneous

    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """A lone vector is one leaf."""
        return self.compressor.compress(vector, key)

    def contraction_of(self, dimension: int) -> float:
        """Of a lone vector."""
        return self.compressor.contraction_of(dimension)

    def bits_of(self, dimension: int, value: int) -> int:
        """Of a lone vector."""
        return self.compressor.bits_of(dimension, value)

    def __call__(self, tree: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        """Each array with a key of its own."""
        leaves, structure = jax.tree.flatten(tree)
        keys = jax.random.split(key, len(leaves))
        compressed = [self.compressor(leaf, each) for leaf, each in zip(leaves, keys, strict=True)]
        return jax.tree.unflatten(structure, compressed)

    def contraction(self, like: PyTree[Any]) -> float:
        """The smallest of the arrays'."""
        return min(self.compressor.contraction(leaf) for leaf in jax.tree.leaves(like))

    def bits(self, like: PyTree[Any]) -> int:
        """All arrays' together."""
        return sum(self.compressor.bits(leaf) for leaf in jax.tree.leaves(like))


class LowRank(Compressor):
    r"""Each array as a matrix, first axis by all others, cut to its $r$ largest singular values.

    $\alpha = r/\min(m, n)$. Vectors and numbers are sent as they are.

    **Arguments**: `rank`, $r \ge 1$.
    """

    homogeneous: ClassVar[bool] = True
    rank: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        validation.integer("rank", self.rank, low=1)

    def compress(self, vector: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        """A lone vector as it is."""
        del key
        return vector

    def contraction_of(self, dimension: int) -> float:
        """One, for a lone vector."""
        del dimension
        return 1.0

    def bits_of(self, dimension: int, value: int) -> int:
        """All entries of a lone vector."""
        return dimension * value

    def __call__(self, tree: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        """The best approximation of rank $r$ of each matrix."""
        del key
        return jax.tree.map(self._truncate, tree)

    def _truncate(self, leaf: Array) -> Array:
        if leaf.ndim < 2:
            return leaf
        left, values, right = jnp.linalg.svd(leaf.reshape(leaf.shape[0], -1), full_matrices=False)
        kept = min(self.rank, values.size)
        return ((left[:, :kept] * values[:kept]) @ right[:kept]).reshape(leaf.shape)

    def contraction(self, like: PyTree[Any]) -> float:
        r"""The smallest $r/\min(m, n)$, attained by equal singular values."""
        sides = [min(leaf.shape[0], leaf.size // leaf.shape[0]) for leaf in jax.tree.leaves(like) if leaf.ndim > 1]
        return min((min(1.0, self.rank / side) for side in sides), default=1.0)

    def bits(self, like: PyTree[Any]) -> int:
        """The two factors of each matrix, where they are smaller than the matrix; all entries of the rest."""
        return sum(8 * leaf.dtype.itemsize * self._numbers(leaf) for leaf in jax.tree.leaves(like))

    def _numbers(self, leaf: Any) -> int:
        rows = leaf.shape[0] if leaf.ndim else 1
        return int(leaf.size if leaf.ndim < 2 else min(leaf.size, self.rank * (rows + leaf.size // rows)))
