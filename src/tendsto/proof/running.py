"""Run the proofs of whole libraries again: several files at a time, and what each gave is kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tendsto.files import write_atomically
from tendsto.proof.corpus import topological_order
from tendsto.workers import Failure as Lost
from tendsto.workers import run_tasks


class FileRun(NamedTuple):
    """One file whose proofs are to be run.

    **Arguments**

    - `source`: where it lies; `key`: changes with all that the result depends on (`digests`).
    - `call`: runs it, in any process, and returns what is to be known of it, as JSON has it.
    """

    source: Path
    key: str
    call: Callable[[], Any]


def run_files(
    runs: Iterable[FileRun],
    *,
    store: str | os.PathLike[str] | None = None,
    workers: int = 1,
    on_file: Callable[[Path], None] | None = None,
) -> Iterator[tuple[FileRun, Any]]:
    """Run files; each with its result as it lands.

    **Arguments**

    - `store`: a folder for results, one file each; what is there under the same key is not run again.
    - `workers`: processes on this machine.
    - `on_file`: called as a file is begun.

    **Raises** what a call raises, `RuntimeError` for a worker that dies, or `ValueError` for a damaged result; what has
    landed by then is in the store.
    """
    left = []
    for run in runs:
        place = _place(store, run)
        if place is not None and place.exists():
            yield run, _kept(place)
        else:
            left.append(run)

    def begin(run: FileRun) -> None:
        if on_file is not None:
            on_file(run.source)

    for run, result in run_tasks(_caught, left, workers=workers, on_start=begin):
        if isinstance(result, Lost):
            raise RuntimeError(f"{run.source}: {result.reason}")
        if isinstance(result, Exception):
            raise result
        if place := _place(store, run):
            with write_atomically(place) as stream:
                stream.write(json.dumps(result, ensure_ascii=False).encode())
        yield run, result


def digests(texts: Mapping[str, bytes], imports: Mapping[str, Iterable[str]], *, besides: str) -> dict[str, str]:
    """For each file a sum that changes with its text, with those of all that it imports, and with what is `besides`.

    **Raises** `ValueError` for an import that is no file, or imports in a circle.
    """
    found: dict[str, str] = {}
    for name in topological_order(imports):
        content = [besides, name, hashlib.sha256(texts[name]).hexdigest(), *sorted(found[it] for it in imports[name])]
        found[name] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return found


def _place(store: str | os.PathLike[str] | None, run: FileRun) -> Path | None:
    return None if store is None else Path(store) / f"{run.source.stem}-{run.key[:16]}.json"


def _kept(place: Path) -> Any:
    try:
        return json.loads(place.read_bytes())
    except ValueError as error:
        raise ValueError(f"{place}: is damaged ({error}); remove it, and its file is run again") from None


def _caught(run: FileRun) -> Any:
    """What the call returns, or raises."""
    try:
        return run.call()
    except Exception as error:
        return error
