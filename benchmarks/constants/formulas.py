"""Continued fractions beside `ramanujantools`, their discoverers' library, and beside plain Python integers.

    python -m benchmarks.constants.formulas [--quick] [--json]

Every contender answers the same question and has to give the same answer: which fractions keep less than 0.55 of a
factorial at depth 120, the exact convergent at a depth, digits of a limit (here with a proof that they are right).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import sympy as sp

from benchmarks.contest import Row, options, ratios, seconds, show, turns
from tendsto.constants import PCF, known_field, promising

APERY = PCF([34, 51, 27, 5], [-1, 0, 0, 0, 0, 0, 0])
DEPTH, LEFT = 120, 0.55
n = sp.Symbol("n")


def classical(count: int) -> tuple[np.ndarray, np.ndarray]:
    """A spread of `count` fractions $a = An^2 + An + c$, $b = -Bn^4$, $A^2 > 4B$, of the box of the classical list."""
    rows = [(A, c, B) for A in range(1, 18) for c in range(A + 1) for B in range(-100, 101) if B and A * A > 4 * B]
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, count).astype(int)]
    a = np.array([[A, A, c] for A, c, _ in chosen])
    b = np.array([[-B, 0, 0, 0, 0] for _, _, B in chosen])
    return a, b


def left(gcds: list[int]) -> float:
    """What the common factors at depth 60 and 120 leave of the factorial squared."""
    before, now = (math.log(gcd) / depth for gcd, depth in zip(gcds, (DEPTH // 2, DEPTH), strict=True))
    return 2 - (now - before) / math.log(2)


def screen_with_tendsto(a: np.ndarray, b: np.ndarray) -> list[bool]:
    found = promising(a, b)
    for row in np.flatnonzero(found):
        found[row] = PCF(a[row].tolist(), b[row].tolist()).factorial_reduction(DEPTH).left < LEFT
    return found.tolist()


def screen_without_primes(a: np.ndarray, b: np.ndarray) -> list[bool]:
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    return [PCF(*pair).factorial_reduction(DEPTH).left < LEFT for pair in pairs]


def screen_with_integers(a: np.ndarray, b: np.ndarray) -> list[bool]:
    found = []
    for (a2, a1, a0), (b4, *_) in zip(a.tolist(), b.tolist(), strict=True):
        before, now, other_before, other_now, gcds = 1, a0, 0, 1, []
        for k in range(1, DEPTH + 1):
            partial_a, partial_b = (a2 * k + a1) * k + a0, b4 * k**4
            before, now = now, partial_a * now + partial_b * before
            other_before, other_now = other_now, partial_a * other_now + partial_b * other_before
            if k in (DEPTH // 2, DEPTH):
                gcds.append(math.gcd(now, other_now))
        found.append(left(gcds) < LEFT)
    return found


def screen_with_peer(a: np.ndarray, b: np.ndarray) -> list[bool]:
    found = []
    _forget()
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        limits = _peer(x, y).limit([DEPTH // 2, DEPTH])
        found.append(left([math.gcd(int(limit.p()), int(limit.q())) for limit in limits]) < LEFT)
    return found


def _peer(a: list[int], b: list[int]) -> object:
    from ramanujantools.pcf import PCF as PeerPCF

    return PeerPCF(sp.Poly(a, n).as_expr(), sp.Poly(b, n).as_expr())


def _forget() -> None:
    """Empty the peer's cache: a walk that it remembers costs it nothing."""
    from ramanujantools import Matrix

    Matrix._walk_inner.cache_clear()


def screening(count: int, rounds: int) -> list[Row]:
    """Fractions a second, each contender on the same rows; the peer's answers must be ours."""
    a, b = classical(count)
    contenders: dict[str, Callable] = {
        "tendsto": screen_with_tendsto,
        "tendsto without primes": screen_without_primes,
        "Python integers": screen_with_integers,
        "ramanujantools": screen_with_peer,
    }
    answers = {name: call(a, b) for name, call in contenders.items()}
    assert all(answer == answers["tendsto"] for answer in answers.values()), "the verdicts differ"
    times = turns({name: functools.partial(call, a, b) for name, call in contenders.items()}, rounds)
    compared = ratios(times)
    return [
        {
            "contender": name,
            "fractions": count,
            "a_second": count / float(np.median(each)),
            "time_ratio": compared.get(name, ""),
        }
        for name, each in times.items()
    ]


def convergents(depths: list[int], rounds: int) -> list[Row]:
    """Seconds to the exact convergent of Apéry's fraction."""
    peer = _peer(list(APERY.a), list(APERY.b))

    def walk(depth: int) -> object:
        _forget()
        return peer.limit(depth)

    rows = []
    for depth in depths:
        mine, theirs = APERY.convergent(depth).fraction, peer.limit(depth).as_rational()
        assert (int(mine.p), int(mine.q)) == (theirs.p, theirs.q), "the convergents differ"
        times = turns(
            {"tendsto": lambda d=depth: APERY.convergent(d), "ramanujantools": functools.partial(walk, depth)}, rounds
        )
        rows.append(
            {
                "depth": depth,
                "seconds": float(np.median(times["tendsto"])),
                "ramanujantools": ratios(times)["ramanujantools"],
            }
        )
    return rows


def walks(depths: list[int], rounds: int) -> list[Row]:
    """Seconds to walk the diagonal of the field of zeta(3) and reduce its quotient, building the walk included."""
    from ramanujantools.cmf.known_cmfs import zeta3

    field, peer = known_field("zeta3").field, zeta3()
    x, y = sorted(peer.matrices, key=str)

    def ours(depth: int) -> tuple[int, int]:
        fraction = field.trajectory((1, 1)).convergent(depth).fraction
        return int(fraction.p), int(fraction.q)

    def theirs(depth: int) -> tuple[int, int]:
        _forget()
        walked = peer.walk({x: 1, y: 1}, depth, {x: 1, y: 1})
        quotient = sp.Rational(walked[0, -1], walked[1, -1])
        return int(quotient.p), int(quotient.q)

    rows = []
    for depth in depths:
        assert ours(depth) == theirs(depth), "the walks differ"
        times = turns(
            {"tendsto": functools.partial(ours, depth), "ramanujantools": functools.partial(theirs, depth)}, rounds
        )
        rows.append(
            {
                "steps": depth,
                "seconds": float(np.median(times["tendsto"])),
                "ramanujantools": ratios(times)["ramanujantools"],
            }
        )
    return rows


def digits(counts: list[int], rounds: int) -> list[Row]:
    """Seconds to digits of 6/zeta(3): ours proved, theirs those on which the last two convergents agree."""
    peer = _peer(list(APERY.a), list(APERY.b))
    rows = []
    for count in counts:
        depth = math.ceil(count * math.log(10) / math.log(APERY.eigenvalue_ratio)) + 8

        def theirs(depth: int = depth) -> str:
            _forget()
            limit = peer.limit(depth)
            return limit.as_rounded_number() if limit.precision() else ""

        times = turns({"tendsto": lambda c=count: APERY.limit(c), "ramanujantools": theirs}, rounds)
        rows.append(
            {
                "digits": count,
                "seconds": float(np.median(times["tendsto"])),
                "ramanujantools": ratios(times)["ramanujantools"],
            }
        )
    return rows


def main() -> None:
    chosen = options(__doc__)
    rounds = 3 if chosen.quick else 5
    seconds(lambda: _peer([2, 1], [1, 0, 0]).limit(5))  # its first call imports and compiles
    show("screening at depth 120", screening(100 if chosen.quick else 1000, rounds), as_json=chosen.json)
    show(
        "exact convergents of Apéry's fraction",
        convergents([1000, 10_000] if chosen.quick else [1000, 10_000, 100_000], rounds),
        as_json=chosen.json,
    )
    show("diagonal of the field of zeta(3)", walks([100, 1000], rounds), as_json=chosen.json)
    show("digits of 6/zeta(3)", digits([100, 1000], rounds), as_json=chosen.json)


if __name__ == "__main__":
    main()
