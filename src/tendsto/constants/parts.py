"""Tables computed in parts that stay on disk as they land, so that what was stopped or killed goes on from there."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tendsto import validation
from tendsto.files import write_atomically
from tendsto.iteration.pace import progress_bar
from tendsto.workers import Failure, run_tasks

R = TypeVar("R")

Unit = tuple[int, int]
"""The first of the numbers that make a part, and the one after the last."""

_POLYNOMIAL = pa.list_(pa.field("element", pa.int64()))  # Parquet's name for what a list holds
COEFFICIENTS = {"a": _POLYNOMIAL, "b": _POLYNOMIAL}
"""The columns that hold a fraction, from the highest power down."""

_PARTS_AT_A_TIME = 64  # so many make a row group of the whole table, and are in memory together


class Parts:
    """The parts of a table on disk, one Parquet file each, and those that the disk had no room for.

    They lie beside `out` in a folder until the table is complete. A part is written whole or not at all, tells what
    it was computed from, and its pages carry checksums: one that cannot be read, or fails them, is computed again.
    Every part has its own file, so that one computed twice is there once.

    **Arguments**

    - `out`: the Parquet file of the whole table.
    - `settings`: all that the table depends on.
    - `schema`: its columns.
    - `size`: how many numbers there are to compute the table from.
    - `unit`: how many of them make a part.

    **Raises** `TypeError` or `ValueError` for a unit below one; `ValueError` if the folder holds parts of other
    settings, or of another version of this package.
    """

    def __init__(
        self, out: str | os.PathLike[str], settings: Mapping[str, object], schema: pa.Schema, size: int, unit: int
    ) -> None:
        validation.integer("unit", unit, low=1)
        self.out = Path(out)
        self.folder = self.out.with_name(f".{self.out.name}.parts")
        told = json.dumps({**settings, "unit": unit, "version": metadata.version("tendsto")}, sort_keys=True)
        self.schema = schema.with_metadata({"tendsto": told})
        self.units: list[Unit] = [(start, min(start + unit, size)) for start in range(0, size, unit)]
        self.unwritten: dict[Unit, pa.Table] = {}
        units = {self._path(unit): unit for unit in self.units}
        found = [path for path in sorted(self.folder.glob("*.parquet")) if self._is_sound(path)]
        self.written = {units[path] for path in found if path in units}

    def _path(self, unit: Unit) -> Path:
        return self.folder / "{}-{}.parquet".format(*unit)

    def _is_sound(self, path: Path) -> bool:
        try:
            schema = _checked_schema(path)
        except Exception as error:  # a damaged file makes a reader raise whatever it will
            warnings.warn(f"{path} cannot be read ({error}); it is computed again", RuntimeWarning, stacklevel=4)
            return False
        if not schema.equals(self.schema, check_metadata=True):
            raise ValueError(f"out: {self.folder} holds parts of other settings; remove it, or choose another file")
        return True

    def is_gathered(self) -> bool:
        """Whether `out` is there, sound, and was computed from these settings."""
        try:
            return bool(_checked_schema(self.out).equals(self.schema, check_metadata=True))
        except Exception:  # there is none, or it is damaged, or not a table at all
            return False

    def compute(
        self,
        call: Callable[[Unit], R],
        frame: Callable[[R], pd.DataFrame],
        *,
        workers: int,
        cluster: str | None,
        progress: bool | None,
    ) -> Generator[R]:
        """Yield what `call` makes of every unit that has no part yet, as it lands, after its part is kept.

        While the disk is full, parts stay in memory.

        **Arguments**

        - `call`: what a worker does, in a module that other processes can import.
        - `frame`: makes the rows of the part from it.
        - `workers`, `cluster`, `progress`: as for `discover`.

        **Raises** `RuntimeError` at the end if a part failed on every try, and what `run_tasks` raises.
        """
        missing = [it for it in self.units if it not in self.written]
        done = sum(stop - start for start, stop in self.written)
        size = self.units[-1][1] if self.units else 0
        failures = []
        tasks = run_tasks(call, missing, workers=workers, cluster=cluster)
        with progress_bar("fractions", size, progress) as report, closing(tasks):
            report(done)
            for unit, result in tasks:
                if isinstance(result, Failure):
                    failures.append(f"{unit[0]} to {unit[1]}: {result.reason}")
                    continue
                self._keep(unit, frame(result))
                done += unit[1] - unit[0]
                report(done)
                yield result
        if failures:
            raise RuntimeError(f"these parts failed, run again to try them once more: {'; '.join(failures)}")

    def _keep(self, unit: Unit, rows: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(rows, schema=self.schema, preserve_index=False)
        self.unwritten[unit] = table.replace_schema_metadata(self.schema.metadata)
        try:
            self._write_waiting()
        except OSError as error:
            warnings.warn(f"{error}; what was found is kept in memory", RuntimeWarning, stacklevel=4)

    def _write_waiting(self) -> None:
        for unit, table in list(self.unwritten.items()):
            with write_atomically(self._path(unit)) as stream:
                pq.write_table(table, stream, write_page_checksum=True)
            self.written.add(unit)
            del self.unwritten[unit]

    def gather(self) -> None:
        """Write all parts so far to `out`, in the order of their units, whatever the order in which they landed.

        **Raises** `OSError` if there is no room.
        """
        self._write_waiting()
        done = sorted(self.written)
        with (
            write_atomically(self.out) as stream,
            pq.ParquetWriter(stream, self.schema, write_page_checksum=True) as writer,
        ):
            for first in range(0, len(done), _PARTS_AT_A_TIME):
                tables = [_read(self._path(unit)) for unit in done[first : first + _PARTS_AT_A_TIME]]
                writer.write_table(pa.concat_tables(tables))

    def remove(self) -> None:
        """Remove the parts, once they are all in the file."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _checked_schema(path: Path) -> pa.Schema:
    """The columns of a file, once all of its pages could be read."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for _ in file.iter_batches():
            pass
        return file.schema_arrow


def _read(path: Path) -> pa.Table:
    return pq.read_table(path, partitioning=None, page_checksum_verification=True)
