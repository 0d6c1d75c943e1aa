"""Search boxes of continued fractions for those that reduce factorially, and name the constants they tend to.

The factorial reduction is looked for first, and no constant is looked at until a fraction has it: so parts of a box can
be searched anywhere, in any order, with nothing to share (arXiv:2308.11829).
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from tendsto import validation
from tendsto.constants.boxes import Box, convergent, representatives, terminating
from tendsto.constants.continued_fractions import PCF, NoLimit
from tendsto.constants.identification import Identification, identify
from tendsto.constants.library import LIBRARY
from tendsto.constants.parts import COEFFICIENTS, Parts, Unit
from tendsto.constants.screening import screen


@dataclass(frozen=True)
class Find:
    r"""A fraction that reduces factorially.

    **Arguments**

    - `formula`: the fraction.
    - `limit`: a ball around its limit with a radius below $10^{-30}$, as text.
    - `constant`: the name of the constant in `library.LIBRARY` that the limit belongs to; `rational`, `quadratic`, or
      empty for a limit without a name.
    - `relation`: what the limit was identified as; a conjecture from its digits.
    - `growth`, `delta`: $\log\tilde q_n/n$ at the depth of the search, and the irrationality exponent it predicts.
    """

    formula: PCF
    limit: str
    constant: str
    relation: str
    growth: float
    delta: float


_SCHEMA = pa.schema(
    {
        **COEFFICIENTS,
        "limit": pa.string(),
        "constant": pa.string(),
        "relation": pa.string(),
        "growth": pa.float64(),
        "delta": pa.float64(),
    }
)


def search_part(box: Box, depth: int, constants: Sequence[str], unit: Unit) -> list[Find]:
    """The finds among the fractions of `box` numbered from `unit[0]` to `unit[1]` - 1: what one worker does."""
    a, b = box.coefficients(*unit)
    kept = representatives(a, b) & convergent(a, b) & ~terminating(b)
    a, b = a[kept], b[kept]
    finds = []
    for row in screen(a, b, depth).nonzero()[0]:
        formula = PCF(a[row].tolist(), b[row].tolist())
        try:
            limit = formula.limit(30).str(30)
            named = identify(formula, [LIBRARY[name] for name in constants])
        except NoLimit:
            continue
        growth = formula.factorial_reduction(depth).growth
        rate = math.log(abs(formula.eigenvalue_ratio)) if formula.convergence == "exponential" else math.inf
        delta = rate / growth - 1 if growth else math.inf
        finds.append(Find(formula, limit, _name(named), str(named or ""), growth, delta))
    return finds


def _name(named: Identification | None) -> str:
    if named is None:
        return ""
    if named.constant is not None:
        return named.constant.name
    return "rational" if len(named.coefficients) == 2 else "quadratic"


def _table(finds: Sequence[Find]) -> pd.DataFrame:
    rows = [{**vars(find), "a": list(find.formula.a), "b": list(find.formula.b)} for find in finds]
    return pd.DataFrame(rows, columns=_SCHEMA.names)


def discover(
    box: Box,
    constants: Sequence[str] | None = None,
    *,
    out: str | os.PathLike[str],
    depth: int = 480,
    unit: int = 20_000,
    workers: int = 1,
    cluster: str | None = None,
    on_find: Callable[[Find], None] | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Search a box; keep every part as it lands; write all finds to a Parquet file.

    Parts are kept beside `out` in a folder until the search is complete. A search that was stopped or killed goes on
    from there; a part that cannot be read any more is searched again. If the disk is full, finds stay in memory and are
    written as soon as there is room.

    **Arguments**

    - `box`: what to search.
    - `constants`: names from `library.LIBRARY` to look for, by default all. Rational and quadratic limits are always
      told; a limit without a name is kept too.
    - `out`: the Parquet file to write.
    - `depth`: the depth at which the factorial reduction must show, at least 120.
    - `unit`: fractions a part.
    - `workers`, `cluster`: processes here, or the address of a Dask scheduler.
    - `on_find`: called with each find as it comes (those of parts that are already there are not told again).
    - `progress`: show a progress bar; by default on a terminal.

    **Returns** a table of the finds, columns `a`, `b`, `limit`, `constant`, `relation`, `growth`, `delta`, in the order
    of the box.

    **Raises** `ValueError` for an unknown constant, or if the folder beside `out` holds parts of another search;
    `OSError` if finds could not be written by the end; `RuntimeError` if a part failed on every try.
    `KeyboardInterrupt` passes through, with what was found written to `out`.
    """
    validation.integer("depth", depth, low=120)
    names = tuple(LIBRARY if constants is None else constants)
    for name in names:
        if name not in LIBRARY:
            raise ValueError(f"constants: {name!r} is not one of {', '.join(LIBRARY)}")
    settings = {"table": "finds", **vars(box), "depth": depth, "constants": list(names)}
    parts = Parts(out, settings, _SCHEMA, box.size, unit)
    call = functools.partial(search_part, box, depth, names)
    try:
        with closing(parts.compute(call, _table, workers=workers, cluster=cluster, progress=progress)) as landed:
            for finds in landed:
                if on_find is not None:
                    for find in finds:
                        on_find(find)
    finally:
        parts.gather()
    parts.remove()
    return pd.read_parquet(out)
