r"""Which of many continued fractions reduce factorially: a few primes tell most apart before any exact depth.

Modulo a prime $\ell$ the recurrence has period $\ell$. From $n = 2\ell$ on, $\ell$ divides both $p_n$ and $q_n$ exactly
if the product of the matrices over one period is nilpotent modulo $\ell$, that is, if its trace and its determinant
vanish (the recurrence's curvature modulo $\ell$). A fraction whose factorial growth cancels has this for nearly every
prime.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tendsto import validation
from tendsto.constants.boxes import Coefficients, values
from tendsto.constants.continued_fractions import PCF

_PRIMES = (29, 31, 37, 41)
_SHALLOW = 120
_ROWS = 8192  # rows at a time: the tables of a block stay in the cache


def nilpotent(a: Coefficients, b: Coefficients, prime: int) -> NDArray[np.bool_]:
    r"""Whether the product of $\begin{pmatrix}0 & b(k)\\ 1 & a(k)\end{pmatrix}$ over $k = 1, …, \ell$ is nilpotent.

    **Arguments**: `a`, `b`, rows of coefficients from the highest power down; `prime`, the modulus $\ell < 2^{15}$.
    """
    residues = np.arange(1, prime + 1, dtype=np.int64)
    # Columns of the tables are contiguous, so that a step is a few passes over short vectors.
    a_table = np.ascontiguousarray((values(a % prime, residues) % prime).T.astype(np.int32))
    b_table = np.ascontiguousarray((values(b % prime, residues) % prime).T.astype(np.int32))
    determinant: NDArray[np.bool_] = (b_table == 0).any(axis=0)
    before = np.ones(len(a), dtype=np.int32), np.zeros(len(a), dtype=np.int32)
    now = np.zeros(len(a), dtype=np.int32), np.ones(len(a), dtype=np.int32)
    for partial_a, partial_b in zip(a_table, b_table, strict=True):
        after = tuple((x * partial_b + y * partial_a) % prime for x, y in zip(before, now, strict=True))
        before, now = now, (after[0], after[1])
    vanishing: NDArray[np.bool_] = determinant & ((before[0] + now[1]) % prime == 0)
    return vanishing


def promising(a: Coefficients, b: Coefficients) -> NDArray[np.bool_]:
    """Which fractions can reduce factorially: nilpotent modulo two primes of four at least, or of degree zero.

    Small primes that divide its coefficients or discriminant are what the two others are for.
    """
    found: NDArray[np.bool_] = (np.hstack([a[:, :-1], b[:, :-1]]) == 0).all(axis=1)
    for start in range(0, len(a), _ROWS):
        rows = slice(start, start + _ROWS)
        found[rows] |= sum(nilpotent(a[rows], b[rows], prime).astype(int) for prime in _PRIMES) >= 2
    return found


def screen(a: Coefficients, b: Coefficients, depth: int = 480) -> NDArray[np.bool_]:
    """Which fractions reduce factorially: those that are promising, then at an exact depth of 120, then at `depth`.

    At depth 120 what is left of the factorial still scatters by about a quarter, so little is demanded there.

    **Arguments**

    - `a`, `b`: rows of coefficients from the highest power down; the zero polynomial is not allowed.
    - `depth`: the depth of the last test (`PCF.factorial_reduction`), at least 120.
    """
    validation.integer("depth", depth, low=_SHALLOW)
    found = promising(a, b)
    for row in np.flatnonzero(found):
        formula = PCF(a[row].tolist(), b[row].tolist())
        found[row] = formula.factorial_reduction(_SHALLOW).left < 0.55 and bool(formula.factorial_reduction(depth))
    return found
