"""Search boxes of continued fractions for those that reduce factorially, and name the constants they tend to.

The factorial reduction is looked for first, and no constant is looked at until a fraction has it: so parts of a box can
be searched anywhere, in any order, with nothing to share (arXiv:2308.11829).
"""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd

from tendsto import validation
from tendsto.constants.boxes import Box, convergent, representatives, terminating
from tendsto.constants.continued_fractions import PCF, NoLimit
from tendsto.constants.identification import Identification, identify
from tendsto.constants.library import LIBRARY
from tendsto.constants.screening import screen
from tendsto.files import write_atomically
from tendsto.iteration.pace import progress_bar
from tendsto.workers import Failure, run_tasks

_Unit = tuple[int, int]


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


_COLUMNS = {"a": object, "b": object, "limit": str, "constant": str, "relation": str, "growth": float, "delta": float}


def search_part(box: Box, depth: int, constants: Sequence[str], unit: _Unit) -> list[Find]:
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
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


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

    **Raises** `ValueError` for an unknown constant, or if the folder beside `out` belongs to another search; `OSError`
    if finds could not be written by the end; `RuntimeError` if a part failed on every try. `KeyboardInterrupt` passes
    through, with what was found written to `out`.
    """
    validation.integer("depth", depth, low=120)
    validation.integer("unit", unit, low=1)
    names = tuple(LIBRARY if constants is None else constants)
    for name in names:
        if name not in LIBRARY:
            raise ValueError(f"constants: {name!r} is not one of {', '.join(LIBRARY)}")
    parts = _Parts(Path(out), box, depth, unit, names)
    units = [(start, min(start + unit, box.size)) for start in range(0, box.size, unit)]
    open_units = [it for it in units if it not in parts.done]
    failures = []
    tasks = run_tasks(functools.partial(search_part, box, depth, names), open_units, workers=workers, cluster=cluster)
    with progress_bar("fractions", box.size, progress) as report, closing(tasks):
        done = sum(stop - start for start, stop in parts.done)
        report(done)
        try:
            for (start, stop), found in tasks:
                if isinstance(found, Failure):
                    failures.append(f"{start} to {stop}: {found.reason}")
                    continue
                parts.keep((start, stop), found)
                if on_find is not None:
                    for find in found:
                        on_find(find)
                done += stop - start
                report(done)
        finally:
            table = parts.collect()
    if failures:
        raise RuntimeError(f"these parts failed, run again to try them once more: {'; '.join(failures)}")
    parts.finish()
    return table


class _Parts:
    """The parts of a search on disk, one Parquet file each, and those that the disk had no room for."""

    def __init__(self, out: Path, box: Box, depth: int, unit: int, names: Sequence[str]) -> None:
        self.out = out
        self.folder = out.with_name(f".{out.name}.parts")
        self.done: dict[_Unit, pd.DataFrame] = {}
        self.unwritten: dict[_Unit, pd.DataFrame] = {}
        self.identity = json.dumps(
            {
                **vars(box),
                "depth": depth,
                "unit": unit,
                "constants": sorted(names),
                "version": metadata.version("tendsto"),
            }
        )
        self._resume()

    def _resume(self) -> None:
        identity = self.folder / "search.json"
        if identity.is_file() and identity.read_text(encoding="utf-8", errors="replace") != self.identity:
            raise ValueError(f"out: {self.folder} belongs to another search; remove it, or choose another file")
        if not identity.is_file():
            with write_atomically(identity) as stream:
                stream.write(self.identity.encode())
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                start, stop = map(int, path.stem.split("-"))
                self.done[start, stop] = pd.read_parquet(path)[list(_COLUMNS)].astype(_COLUMNS)
            except Exception as error:  # whatever a damaged file makes a reader raise: its part is searched again
                warnings.warn(f"{path} cannot be read ({error}); it is searched again", RuntimeWarning, stacklevel=4)

    def keep(self, unit: _Unit, finds: list[Find]) -> None:
        """Keep a part; with the disk full, in memory until there is room."""
        self.done[unit] = self.unwritten[unit] = _table(finds)
        try:
            self._write()
        except OSError as error:
            warnings.warn(f"{error}; what was found is kept in memory", RuntimeWarning, stacklevel=3)

    def _write(self) -> None:
        for unit, table in list(self.unwritten.items()):
            with write_atomically(self.folder / "{}-{}.parquet".format(*unit)) as stream:
                table.to_parquet(stream, index=False)
            del self.unwritten[unit]

    def collect(self) -> pd.DataFrame:
        """All finds so far in the order of the box, written to the file that was asked for."""
        parts = (self.done[unit] for unit in sorted(self.done))
        table = pd.concat([_table([]), *parts], ignore_index=True)
        self._write()
        with write_atomically(self.out) as stream:
            table.to_parquet(stream, index=False)
        return table

    def finish(self) -> None:
        """Remove the parts, which are all in the file now."""
        shutil.rmtree(self.folder, ignore_errors=True)
